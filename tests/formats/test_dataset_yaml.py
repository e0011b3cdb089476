import json
import os
import subprocess
import sys
import tarfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import dataset_yaml, plain_yaml

ODD = SHARED / "data" / "odd.tar"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A dataset's folders without a YAML, far from the working directory and from any settings."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    data = tmp_path / "data"
    for name in ("images/train", "images/val", "images/test", "more"):
        (data / name).mkdir(parents=True)
    return data


def read(root, content, name="dataset.yaml"):
    (root / name).unlink(missing_ok=True)
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return dataset_yaml.read(root / name)


def refusal(root, content):
    with pytest.raises(TilerError) as error:
        read(root, content)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(root / "dataset.yaml"))
    return message.removeprefix(str(root / "dataset.yaml")).removeprefix(": ")


SPLITS = "train: images/train\nval: images/val\n"

names = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85"), max_size=12),
    min_size=1,
    max_size=6,
)


@quick
@given(
    names,
    st.none() | st.integers(1, 5),
    st.sampled_from([2, 3]),
    st.none() | st.integers(1, 200),
    st.randoms(),
)
def test_what_is_dumped_is_read_again(tmp_path_factory, names, points, values, channels, random):
    root = tmp_path_factory.getbasetemp() / "dumped"
    (root / "images").mkdir(parents=True, exist_ok=True)
    kpt_shape = None if points is None else (points, values)
    flip_idx = None if points is None else tuple(random.sample(range(points), points))
    text = dataset_yaml.dump(
        tuple(names), {"train": "images", "val": "images"}, kpt_shape, flip_idx, channels
    )
    back = read(root, text)
    assert back.names == tuple(names)
    assert (back.kpt_shape, back.flip_idx, back.channels) == (kpt_shape, flip_idx, channels)
    assert back.splits == {"train": (root / "images",), "val": (root / "images",)}
    assert back.root == root


def test_a_dump_has_no_path_and_plain_names():
    text = dataset_yaml.dump(
        ("yes", "1", "null", "a: b", "ñ"), {"train": "images/train", "val": "images/val"}
    )
    assert text == (
        "train: images/train\nval: images/val\nnc: 5\nnames:\n  0: 'yes'\n  1: '1'\n  2: 'null'\n "
        " 3: 'a: b'\n  4: ñ\n"
    )


# Splits


@pytest.mark.parametrize(
    ("content", "splits"),
    [
        (SPLITS, {"train": ["images/train"], "val": ["images/val"]}),
        ("train: images/train\nval: images/val\ntest: images/test\n", {"test": ["images/test"]}),
        (SPLITS + "minival: images/test\n", {"minival": ["images/test"]}),
        (SPLITS + "test:\n", {"train": ["images/train"], "val": ["images/val"]}),
        (SPLITS + "test: null\nminival: ~\n", {"val": ["images/val"]}),
        (
            "train: [images/train, more]\nval: [images/val]\n",
            {"train": ["images/train", "more"], "val": ["images/val"]},
        ),
        (
            "train: images/train/\nval: ./images/val\n",
            {"train": ["images/train"], "val": ["images/val"]},
        ),
        ("train: images/train\nvalidation: images/val\n", {"val": ["images/val"]}),
        ("path: .\n" + SPLITS, {"train": ["images/train"]}),
        (
            "path: images\ntrain: train\nval: val\n",
            {"train": ["images/train"], "val": ["images/val"]},
        ),
        ("path: more/..\n" + SPLITS, {"train": ["images/train"]}),
        ("path:\n" + SPLITS, {"train": ["images/train"]}),
        (
            "train: ../images/train\nval: ../images/val\n",
            {"train": ["images/train"], "val": ["images/val"]},
        ),
        ("train: ../data/images/train\nval: ../data/images/val\n", {"train": ["images/train"]}),
    ],
)
def test_splits_beside_the_yaml(root, content, splits):
    found = read(root, content + "names: [car]\n")
    for split, folders in splits.items():
        assert found.splits[split] == tuple(root / folder for folder in folders)
    assert not found.findings


def test_absolute_paths(root, tmp_path):
    text = f"path: {root}\ntrain: images/train\nval: {root}/images/val\nnames: [car]\n"
    found = read(tmp_path, text)
    assert found.root == root
    assert found.splits == {"train": (root / "images/train",), "val": (root / "images/val",)}


def test_a_text_list_is_a_split(root):
    (root / "list.txt").write_text("./a.jpg\n")
    found = read(root, "train: list.txt\nval: [list.txt, images/val]\nnames: [car]\n")
    assert found.splits == {
        "train": (root / "list.txt",),
        "val": (root / "list.txt", root / "images/val"),
    }


def test_a_relative_path_from_the_working_directory(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yamls").mkdir()
    found = read(tmp_path / "yamls", "path: data\n" + SPLITS + "names: [car]\n")
    assert found.root == root


def test_a_relative_path_in_the_trainers_datasets_folder(root, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.json").write_text(json.dumps({"datasets_dir": str(tmp_path)}))
    (tmp_path / "yamls").mkdir()
    found = read(tmp_path / "yamls", "path: data\n" + SPLITS + "names: [car]\n")
    assert found.root == root


def test_beside_the_yaml_comes_before_the_working_directory(root, tmp_path, monkeypatch):
    for base in (tmp_path / "cwd", root / "yamls"):
        (base / "set" / "images").mkdir(parents=True)
    found = read(root / "yamls", "path: set\ntrain: images\nval: images\nnames: [car]\n")
    assert found.root == root / "yamls" / "set"


@pytest.mark.parametrize("settings", ["", "[]", "{}", "null", '{"datasets_dir": 5}', "\xff"])
def test_broken_settings_of_the_trainer_are_no_matter(root, tmp_path, settings):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.json").write_bytes(settings.encode("latin-1"))
    assert refusal(root, "path: nowhere\n" + SPLITS + "names: [car]\n").startswith(
        "train: no such file or folder: "
    )


def test_every_place_that_was_tried_is_named(root, tmp_path):
    message = refusal(root, "path: nowhere\n" + SPLITS + "names: [car]\n")
    places = [str(base / "nowhere" / "images" / "train") for base in (root, tmp_path / "cwd")]
    assert message == "train: no such file or folder: " + ", nor ".join(places)


def test_a_missing_test_split_is_a_finding_and_a_missing_val_split_an_error(root):
    found = read(root, SPLITS + "test: images/nowhere\nnames: [car]\n")
    assert [str(f) for f in found.findings] == [
        f"dataset.yaml: Y05 split test: no such file or folder: {root}/images/nowhere"
    ]
    assert found.splits["test"] == ()
    assert (
        refusal(root, "train: images/train\nval: nowhere\nnames: [car]\n")
        == f"val: no such file or folder: {root}/nowhere"
    )


def test_a_val_split_is_not_needed_to_read_it(root):
    """That a trainer needs one is for the verbs to say."""
    found = read(root, "train: images/train\nnames: [car]\n")
    assert (list(found.splits), found.findings) == (["train"], ())


@pytest.mark.parametrize(
    "content",
    [
        "train: 5.5.5/x",
        "train: []",
        "train: ''",
        "train: {a: b}",
        "train: [[images]]",
        "train: ['']",
        'train: "a\\0b"',
        "train: [~]",
    ],
)
def test_a_split_that_is_not_a_path_is_an_error(root, content):
    assert refusal(root, f"{content}\nval: images/val\nnames: [car]\n").startswith("train")


@pytest.mark.parametrize("value", ["[a]", "{a: b}", '"a\\0b"'])
def test_a_path_that_is_not_a_folder_is_an_error(root, value):
    assert refusal(root, f"path: {value}\n{SPLITS}names: [car]\n").startswith(
        "path is a folder, got "
    )


@pytest.mark.parametrize("key", ["path", "train", "val"])
def test_a_name_too_long_for_the_file_system_does_not_exist(root, key):
    content = {"train": "images/train", "val": "images/val", "names": "[car]"} | {key: "x" * 300}
    message = refusal(root, "\n".join(f"{k}: {v}" for k, v in content.items()) + "\n")
    assert "no such file or folder" in message


def test_traversal_to_a_file_of_the_system_is_no_dataset(root):
    assert "no such file or folder" in refusal(
        root, "path: ../../../../nowhere\ntrain: etc\nval: etc\nnames: [car]\n"
    )


def test_no_splits_at_all(root):
    assert refusal(root, "names: [car]\n") == "no train or val split"
    assert (
        refusal(root, "trian: images\nnames: [car]\n")
        == "no train or val split; did you mean 'train'?"
    )


# Names


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("names: [car, truck]", ["car", "truck"]),
        ("names: {0: car, 1: truck}", ["car", "truck"]),
        ("names: {1: truck, 0: car}", ["car", "truck"]),
        ('names: {"0": car, "1": truck}', ["car", "truck"]),
        ("names:\n  0: car\n  1: truck", ["car", "truck"]),
        ("names: {0.0: car}", ["car"]),
        ("names: [yes, no, 1, null]", ["yes", "no", "1", "null"]),
        ("names: {0: yes, 1: no, 2: 1, 3: null}", ["yes", "no", "1", "null"]),
        ("names: [машина, 自行车, café]", ["машина", "自行车", "café"]),
        ("names: ['']", [""]),
        ("nc: 2", ["class_0", "class_1"]),
        ('nc: "2"', ["class_0", "class_1"]),
        ("nc: 2.0", ["class_0", "class_1"]),
        ("nc: 2\nnames: [car, truck]", ["car", "truck"]),
        ('nc: "2.0"\nnames: [car, truck]', ["car", "truck"]),
        ("nc:\nnames: [car]", ["car"]),
    ],
)
def test_names(root, content, expected):
    assert list(read(root, SPLITS + content + "\n").names) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names (or nc) is missing"),
        ("name: [car]", "names (or nc) is missing; did you mean 'name'?"),
        ("names: []", "names is a list or a mapping of class names, got []"),
        ("names: {}", "names is a list or a mapping of class names, got []"),
        ("names: car", "names is a list or a mapping of class names, got 'car'"),
        ("names: {0: car, 2: bus}", "names has the keys [0, 2], expected 0 to 1 without gap"),
        ("names: {1: car}", "names has the keys [1], expected 0 to 0 without gap"),
        ("names: {0: car, 00: bus}", "names has the keys [0, 0], expected 0 to 1 without gap"),
        ("names: {a: car}", "a key of names is a whole number, got 'a'"),
        ("names: {-1: car}", "a key of names is a whole number, got '-1'"),
        ("names: {0.5: car}", "a key of names is a whole number, got '0.5'"),
        ("names: {~: car}", "a key of names is a whole number, got None"),
        ("names: [[car]]", "names: class 0 is a list, expected text"),
        ("names: [car, {a: b}]", "names: class 1 is a dict, expected text"),
        ("nc: 3\nnames: [car, truck]", "nc is 3, but names has 2 classes"),
        ("nc: 1.9", "nc is a whole number, got '1.9'"),
        ("nc: -1", "nc is a whole number, got '-1'"),
        ("nc: nan", "nc is a whole number, got 'nan'"),
        ("nc: inf", "nc is a whole number, got 'inf'"),
        ("nc: many", "nc is a whole number, got 'many'"),
        ("nc: [2]", "nc is a whole number, got ['2']"),
    ],
)
def test_invalid_names(root, content, message):
    assert refusal(root, SPLITS + content + "\n") == message


def test_no_classes_at_all_are_refused(root):
    refusal(root, SPLITS + "nc: 0\n")


def test_a_name_of_several_classes_is_reported_once(root):
    found = read(root, SPLITS + "names: [car, bus, car, car, bus]\n")
    assert [f.message for f in found.findings] == [
        "class name 'bus' stands for several classes",
        "class name 'car' stands for several classes",
    ]


def test_many_classes_are_not_compared_each_with_each(root):
    start = time.process_time()
    assert len(read(root, SPLITS + "nc: 20000\n").names) == 20_000
    assert time.process_time() - start < 1


# Keypoints and bands


def test_keypoints_and_channels(root):
    found = read(
        root, SPLITS + "names: [car]\nkpt_shape: [4, 3]\nflip_idx: [0, 3, 2, 1]\nchannels: 4\n"
    )
    assert (found.kpt_shape, found.flip_idx, found.channels) == ((4, 3), (0, 3, 2, 1), 4)
    found = read(root, SPLITS + "names: [car]\n")
    assert (found.kpt_shape, found.flip_idx, found.channels) == (None, None, None)


@pytest.mark.parametrize(
    "content",
    [
        "kpt_shape: [4]",
        "kpt_shape: [4, 4]",
        "kpt_shape: [0, 3]",
        "kpt_shape: [4, 3, 2]",
        "kpt_shape: 4",
        "kpt_shape: [a, 3]",
        "kpt_shape: [2.5, 3]",
        "kpt_shape: [4, 3]\nflip_idx: [0, 1]",
        "kpt_shape: [4, 3]\nflip_idx: [0, 1, 2, 4]",
        "kpt_shape: [4, 3]\nflip_idx: [0, 1, 2, 2]",
        "kpt_shape: [4, 3]\nflip_idx: x",
        "channels: three",
        "channels: 3.5",
    ],
)
def test_invalid_keypoints_and_channels(root, content):
    assert refusal(root, SPLITS + "names: [car]\n" + content + "\n").split(" ")[0] in (
        "kpt_shape",
        "flip_idx",
        "channels",
    )


# Text


@pytest.mark.parametrize(
    "change",
    [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t.replace("\n", "\r")],
)
def test_byte_order_mark_and_line_ends_are_no_matter(root, change):
    content = SPLITS + "names: [car, truck]\n"
    assert read(root, change(content)) == read(root, content)


@pytest.mark.parametrize("key", ["download", "DOWNLOAD", "yaml_file"])
def test_download_is_never_run(root, tmp_path, key):
    canary = tmp_path / "canary"
    script = f"import os; open({str(canary)!r}, 'w')"
    missing = f"train: nowhere\nval: nowhere\nnames: [car]\n{key}: "
    for value in (
        f"bash -c 'touch {canary}'",
        json.dumps(script),
        f"https://example.invalid/{canary.name}.zip",
    ):
        refusal(root, missing + value + "\n")
        read(root, SPLITS + f"names: [car]\n{key}: {value}\n")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "expected keys and values, found nothing"),
        (b"- car\n", "expected keys and values, found list"),
        (b"car\n", "expected keys and values, found str"),
        (
            b"train:\timages\n\tval: images\n",
            "1: not YAML: found character '\\t' that cannot start any token",
        ),
        (b"names: [caf\xe9]\n", "1: not UTF-8 text (byte 0xe9)"),
        (b"names: " + b"[" * 5000 + b"]" * 5000, "nested more than 32 deep; rejected"),
        (b"names: &a [x]\ntrain: [" + b"*a," * 100 + b"]", "more than 64 aliases; rejected"),
    ],
)
def test_a_file_that_is_not_a_dataset_yaml_is_an_error_in_one_line(root, content, line):
    assert refusal(root, content).removeprefix(":") == line


def bomb(level, joint):
    """60 aliases that stand for 3 ** 20 values."""
    lines = [level.format(i, ", ".join([f"*a{i - 1}"] * 3)) for i in range(1, 21)]
    return "\n".join(["a0: &a0 {x: y}", *lines, joint])


LISTS = "a{0}: &a{0} [{1}]"
BOMBS = {
    "merge keys": bomb("a{0}: &a{0}\n  <<: [{1}]", "nc: x"),
    "a list as a split": bomb(LISTS, "names: [car]\nval: images\ntrain: [*a20]"),
    "a list as nc": bomb(LISTS, "train: images\nval: images\nnc: *a20"),
    "classes": "train: images\nval: images\nnc: 999999999",
}
SCRIPT = """
import sys
from pathlib import Path
from tiler.errors import TilerError
from tiler.formats import dataset_yaml, plain_yaml
try:
    dataset_yaml.read(Path(sys.argv[1]))
except TilerError as error:
    print(error)
"""


def test_as_many_classes_as_there_may_be_are_no_merge_keys(monkeypatch, tmp_path):
    monkeypatch.setattr(plain_yaml, "MAX_MERGED", 5)
    monkeypatch.setattr(dataset_yaml, "MAX_CLASSES", 50)
    (tmp_path / "images").mkdir()
    for count in (50, 51):
        names = "".join(f"  {i}: class {i}\n" for i in range(count))
        (tmp_path / f"{count}.yaml").write_text(f"train: images\nval: images\nnames:\n{names}")
    assert len(dataset_yaml.read(tmp_path / "50.yaml").names) == 50
    with pytest.raises(TilerError, match="names has 51 classes, expected at most 50"):
        dataset_yaml.read(tmp_path / "51.yaml")


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_line_of_error_in_little_memory_and_time(tmp_path, name):
    resource = pytest.importorskip("resource")
    (tmp_path / "data.yaml").write_text(BOMBS[name])
    (tmp_path / "images").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "data.yaml")],
        capture_output=True,
        text=True,
        timeout=10,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )
    assert done.returncode == 0, done.stderr[-300:]
    assert done.stdout.count("\n") == 1
    assert len(done.stdout) < 1000


# Where the YAML is


def test_the_yaml_of_a_folder(root):
    content = SPLITS + "names: [car]\n"
    read(root, content, "b.yml")
    assert dataset_yaml.find(root) == root / "b.yml"
    read(root, content, "data.yaml")
    assert dataset_yaml.find(root) == root / "data.yaml"
    read(root, content)
    assert dataset_yaml.read(root).file == root / "dataset.yaml"


def test_a_folder_with_no_yaml_or_several(root):
    with pytest.raises(TilerError, match=r"expected a dataset.yaml in this folder, found none$"):
        dataset_yaml.find(root)
    for name in ("a.yaml", "b.YML"):
        (root / name).touch()
    with pytest.raises(TilerError, match=r"found a.yaml, b.YML$"):
        dataset_yaml.find(root)


@pytest.mark.parametrize("name", ["no.yaml", "a\0b.yaml", "x" * 300 + ".yaml", "no/such/folder"])
def test_no_such_yaml(root, name):
    with pytest.raises(TilerError, match="no such file or folder"):
        dataset_yaml.read(root / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
def test_a_fifo_is_no_yaml(root):
    os.mkfifo(root / "dataset.yaml")
    with pytest.raises(TilerError, match="not a regular file"):
        dataset_yaml.read(root / "dataset.yaml")


# The 27 variants of odd.tar: what is read, or what is said

FIVE = ("car", "truck", "bus", "minibus", "cyclist")
CAR = ("car",)
READ = {
    "anchors_alias": (CAR, ["images"], []),
    "bom": (FIVE, ["images"], []),
    "channels": (CAR, ["images"], []),
    "crlf": (FIVE, ["images"], []),
    "dup_names": (("car", "car"), ["images"], ["Y02"]),
    "list_of_dirs": (CAR, ["images", "images/deep"], []),
    "minival": (CAR, ["images"], []),
    "names_dict": (("car", "truck"), ["images"], []),
    "names_list": (FIVE, ["images"], []),
    "names_str_keys": (("car", "truck"), ["images"], []),
    "nc_only": (("class_0", "class_1", "class_2"), ["images"], []),
    "no_path": (CAR, ["images"], []),
    "no_val": (CAR, ["images"], []),
    "test_null": (CAR, ["images"], []),
    "txt_list": (CAR, ["yaml/train.txt"], []),
    "unicode_names": (("машина", "自行车", "café"), ["images"], []),
    "yes_no_names": (("yes", "no", "1", "null"), ["images"], []),
}
REFUSED = {
    "abs_missing": ": train: no such file or folder: /no/such/folder/images",
    "empty": ": expected keys and values, found nothing",
    "latin1": ":4: not UTF-8 text (byte 0xe9)",
    "missing_dir": ": train: no such file or folder: ",
    "names_gap": ": names has the keys [0, 2], expected 0 to 1 without gap",
    "nc_mismatch": ": nc is 3, but names has 2 classes",
    "not_a_map": ": expected keys and values, found list",
    "python_tag": (
        ":4: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.getcwd'; rejected"
    ),
    "roboflow": ": train: no such file or folder: ",
    "tabs": ":2: not YAML: found character '\\t' that cannot start any token",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    if not ODD.is_file():
        pytest.skip(f"{ODD} is not there")
    wanted = ("odd/yaml/", "odd/images/plain.jpg", "odd/images/gray.jpg", "odd/images/deep/")
    folder = tmp_path_factory.mktemp("odd")
    with tarfile.open(ODD) as tar:
        tar.extractall(folder, [m for m in tar if m.name.startswith(wanted)], filter="data")
    return folder / "odd"


def test_the_tables_know_every_variant(odd):
    assert sorted([*READ, *REFUSED]) == sorted(p.stem for p in (odd / "yaml").glob("*.yaml"))


@pytest.mark.parametrize("name", READ)
def test_an_odd_yaml_that_is_read(odd, name):
    found = dataset_yaml.read(odd / "yaml" / f"{name}.yaml")
    names, train, codes = READ[name]
    assert found.names == names
    assert found.splits["train"] == tuple(odd / folder for folder in train)
    assert [f.code for f in found.findings] == codes
    assert found.channels == (4 if name == "channels" else None)
    optional = {"no_val": set(), "minival": {"val", "minival"}}
    assert set(found.splits) == {"train"} | optional.get(name, {"val"})


@pytest.mark.parametrize("name", REFUSED)
def test_an_odd_yaml_that_is_refused(odd, name):
    file = odd / "yaml" / f"{name}.yaml"
    with pytest.raises(TilerError) as error:
        dataset_yaml.read(file)
    assert str(error.value).startswith(f"{file}{REFUSED[name]}")
    assert "\n" not in str(error.value)
