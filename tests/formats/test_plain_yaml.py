import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import plain_yaml


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("yaml") / "data.yaml"


def loaded(file, content):
    file.unlink(missing_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return plain_yaml.load(file)


def refusal(file, content):
    with pytest.raises(TilerError) as error:
        loaded(file, content)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(file))
    return message.removeprefix(str(file))


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\x85\u2028\u2029"), max_size=20
)
values = st.one_of(texts, st.lists(texts, max_size=4), st.dictionaries(texts, texts, max_size=4))


@quick
@given(st.dictionaries(texts, values, max_size=5))
def test_what_is_dumped_is_loaded_again(file, value):
    assert loaded(file, plain_yaml.dump(value)) == value


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
def test_line_ends_within_a_name_are_kept(file, end):
    names = [f"a{end}b", end, f"a{end}", f"a {end} b", f"{end}{end}a"]
    assert loaded(file, plain_yaml.dump({"names": names}))["names"] == names


@quick
@given(
    st.dictionaries(
        texts.filter(bool), st.integers() | st.booleans() | st.floats(), min_size=1, max_size=3
    )
)
def test_numbers_come_back_as_the_text_they_were_written_as(file, value):
    back = loaded(file, plain_yaml.dump(value))
    assert list(back) == list(value)
    assert all(isinstance(item, str) for item in back.values())


SCALARS = (
    "yes no on off y n true True FALSE 1 007 0x10 0o7 1_000 1e3 2.0 .5 .inf -.NaN 2024-01-01 "
    "12:30:45 ="
)


@pytest.mark.parametrize("scalar", SCALARS.split())
def test_scalars_keep_their_text(file, scalar):
    assert loaded(file, f"names: [{scalar}]\n{scalar}: {scalar}\n") == {
        "names": [scalar],
        scalar: scalar,
    }


@pytest.mark.parametrize("null", ["", "~", "null", "NULL"])
def test_a_null_is_none_and_a_quoted_one_is_text(file, null):
    assert loaded(file, f"test: {null}\n") == {"test": None}
    assert loaded(file, f"test: '{null}'\n") == {"test": null}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("p: &p images\ntrain: *p\n", {"p": "images", "train": "images"}),
        ("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", {"a": {"x": "1"}, "b": {"x": "1", "y": "2"}}),
        ("\ufeffa: 1\n", {"a": "1"}),
        ("a: 1\r\nb: 2\r\n", {"a": "1", "b": "2"}),
        ("a: 1\rb: 2\r", {"a": "1", "b": "2"}),
        ("%YAML 1.1\n---\na: 1\n...\n", {"a": "1"}),
        ("0: car\n", {"0": "car"}),
        ("{}", {}),
    ],
)
def test_ordinary_forms(file, content, value):
    assert loaded(file, content) == value


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", "expected keys and values, found nothing"),
        ("# a comment\n", "expected keys and values, found nothing"),
        ("- car\n- truck\n", "expected keys and values, found list"),
        ("car\n", "expected keys and values, found str"),
        ("5\n", "expected keys and values, found str"),
    ],
)
def test_anything_but_a_mapping_is_refused(file, content, found):
    assert refusal(file, content) == f": {found}"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: 1\n\tb: 2\n", ":2"),
        ("a: [1, 2\n", ":2"),
        ("a: 1\nb: 'x\n", ":3"),
        ("a: 1\nb: *nowhere\n", ":2"),
        ("a: b: c\n", ":1"),
        ("a: 1\n---\nb: 2\n", ":2"),
        ("a: @x\n", ":1"),
        ("a: \x07\n", ""),
        (b"a: 1\nb: caf\xe9\n", ":2"),
        ("a: 1\n".encode("utf-16"), ":1"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(file, content, line):
    assert refusal(file, content).startswith(f"{line}: not ")


def hostile_tags(canary):
    touch = f"touch {canary}"
    return [
        f"a: !!python/object/apply:os.system ['{touch}']",
        f"a: !!python/object/new:os.system ['{touch}']",
        f"a: !!python/object/apply:subprocess.check_call [[touch, '{canary}']]",
        f"a: !!python/object/apply:builtins.eval [\"open('{canary}', 'w')\"]",
        f"? !!python/object/apply:os.system ['{touch}']\n: 1",
        "a: !!python/name:os.system ''",
        "a: !!python/module:os ''",
        "a: !!python/object:tiler.geometry.window.Window {x: 0}",
        "a: !!python/tuple [1, 2]",
        "a: !Local x",
    ]


@pytest.mark.parametrize("which", range(10))
def test_no_tag_builds_an_object_or_runs_code(file, tmp_path, which):
    canary = tmp_path / "canary"
    content = hostile_tags(canary)[which]
    assert refusal(file, content).endswith("; rejected")
    assert not canary.exists()


TAGGED = (
    "int '',int '-',int x,float '',float x,bool '',bool x,timestamp '',timestamp x,binary x,null x"
)
TAGGED += ",pairs x,pairs [a],omap {a: b},set [a],str [a],seq {a: b},map [a]"


@pytest.mark.parametrize("value", TAGGED.split(","))
def test_a_standard_tag_on_a_wrong_value_is_refused_or_read(file, value):
    try:
        loaded(file, f"a: !!{value}\n")
    except TilerError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("content", ["? [a, b]\n: 1\n", "? {a: b}\n: 1\n", "a: 1\n? - x\n: 2\n"])
def test_keys_are_plain(file, content):
    refusal(file, content)


@pytest.mark.parametrize(
    "content",
    [
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{a: " * 5000 + "1" + "}" * 5000,
        "[" * 100_000,
        "a:\n  " + "- " * 3000 + "x",
        "? " * 3000 + "a",
        "\n".join(" " * depth + "a:" for depth in range(500)),
    ],
    ids=["lists", "mappings", "open", "dashes", "keys", "indents"],
)
def test_deep_nesting_is_refused(file, content):
    assert refusal(file, content) == ": nested more than 32 deep; rejected"


def test_many_aliases_are_refused(file):
    aliases = "a: &a x\nb: [" + "*a, " * 65 + "]\n"
    assert refusal(file, aliases) == ": more than 64 aliases; rejected"
    assert loaded(file, "a: &a x\nb: [" + "*a, " * 64 + "]\n")["b"] == ["x"] * 64


@pytest.mark.parametrize(
    "content", ["a: &a [*a]\n", "a: &a {b: *a}\n", "a: &a {<<: *a}\n", "a: &a\n  <<: [*a, *a]\n"]
)
def test_an_alias_within_its_own_anchor_ends(file, content):
    try:
        loaded(file, content)
    except TilerError as error:
        assert "\n" not in str(error)


def test_a_file_over_the_limit_is_not_read(file, monkeypatch):
    monkeypatch.setattr(plain_yaml, "MAX_BYTES", 10)
    assert refusal(file, "a: 1234567890\n") == ": more than 10 bytes"


def test_the_loader_leaves_pyyaml_as_it_was():
    assert yaml.safe_load("[yes, 1, 0.5, x]") == [True, 1, 0.5, "x"]
