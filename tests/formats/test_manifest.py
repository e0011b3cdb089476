import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import jsonl, manifest
from tiler.formats.manifest import Geo, ManifestHead, SourceTiles, TileEntry
from tiler.formats.text_files import plain_name
from tiler.types import SPLITS, TASKS

texts = st.text(max_size=20)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
heads = st.builds(
    ManifestHead,
    tiler=texts,
    schema=st.just(manifest.SCHEMA),
    task=st.sampled_from(TASKS),
    names=st.lists(texts, max_size=4),
    options=st.dictionaries(texts, plain, max_size=4),
    kpt_shape=st.none() | st.tuples(st.integers(1, 20), st.just(3)).map(list),
)
names = texts.filter(plain_name)
pixels = st.integers(0, 100_000)
visible = st.integers(0, 10**6).map(lambda k: k / 10**6)
tiles = st.builds(
    TileEntry,
    name=names,
    x=pixels,
    y=pixels,
    w=pixels,
    h=pixels,
    scale=visible,
    rows=st.lists(st.tuples(pixels, visible), max_size=3),
)
places = st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 6)
sources = st.builds(
    SourceTiles,
    source=names,
    split=st.sampled_from(SPLITS),
    width=pixels,
    height=pixels,
    fingerprint=texts,
    tiles=st.lists(tiles, max_size=3),
    geo=st.none() | st.builds(Geo, transform=places, crs=st.none() | texts),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("manifest") / manifest.NAME


HEAD = ManifestHead("1.0", manifest.SCHEMA, "detect", ["car"], {})
SOURCE = SourceTiles(
    "images/a.jpg",
    "train",
    100,
    80,
    "f00",
    [TileEntry("a__0_0_100_80", 0, 0, 100, 80, 1.0, [(0, 1.0), (2, 0.5)])],
)


def write(file, *records):
    file.unlink(missing_ok=True)
    file.write_bytes(b"".join(r if isinstance(r, bytes) else jsonl.line(r) for r in records))
    return file


@quick
@given(heads, st.lists(sources, max_size=4))
def test_what_is_written_is_read_again(file, head, entries):
    write(file, head, *entries)
    assert manifest.read_head(file) == head
    assert list(manifest.read_sources(file)) == entries


@quick
@given(heads | sources)
def test_a_record_is_one_line(record):
    line = jsonl.line(record)
    assert line.endswith(b"\n")
    assert len(line.splitlines()) == 1


def test_an_absent_keypoint_shape_is_not_written():
    assert b"kpt_shape" not in jsonl.line(HEAD)


def test_an_absent_place_is_not_written_and_all_else_is():
    assert jsonl.line(SourceTiles("a.jpg", "val", 0, 0, "f", [])) == (
        b'{"source":"a.jpg","split":"val","width":0,"height":0,"fingerprint":"f","tiles":[]}\n'
    )
    line = jsonl.line(SourceTiles("a.jpg", "val", 9, 9, "f", [], Geo((1, 0, 5, 0, -1.5, 7))))
    assert line.endswith(b',"tiles":[],"geo":{"transform":[1,0,5,0,-1.5,7]}}\n')


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"{",
        b"null\n",
        b"\xff\xfe\n",
        b"PNG\r\n",
        b'{"schema": 1}\n',
        b'{"x": ' + b"[" * 200_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_file_that_is_not_a_manifest_is_an_error_in_one_line(file, content):
    with pytest.raises(TilerError) as error:
        manifest.read_head(write(file, content))
    assert str(error.value).startswith(f"{file}: not a manifest of tiler: ")
    assert "\n" not in str(error.value)


def test_no_manifest_at_all(tmp_path):
    with pytest.raises(TilerError, match=r"not a manifest of tiler: .*No such file"):
        manifest.read_head(tmp_path / "tiles.jsonl")


def test_a_newer_manifest_names_its_maker(file):
    with pytest.raises(TilerError, match=r"schema 2, expected 1; made by tiler 9\.9"):
        manifest.read_head(write(file, ManifestHead("9.9", 2, "detect", ["car"], {})))


@pytest.mark.parametrize(
    "torn",
    [
        jsonl.line(SOURCE)[:-20],
        b"\n",
        b"{}\n",
        b"\xff\n",
        jsonl.line(HEAD),
        b'{"x": ' + b"[" * 200_000 + b"\n",
    ],
    ids=lambda torn: repr(torn[:12]),
)
def test_a_line_that_cannot_be_read_is_named_after_those_before_it(file, torn):
    entries = manifest.read_sources(write(file, HEAD, SOURCE, SOURCE, torn))
    assert [next(entries), next(entries)] == [SOURCE, SOURCE]
    with pytest.raises(TilerError) as error:
        next(entries)
    assert str(error.value).startswith(f"{file}:4: ")
    assert "\n" not in str(error.value)


def test_every_cut_of_a_line_is_noticed(file):
    line = jsonl.line(SOURCE)
    for end in range(1, len(line) - 1):
        with pytest.raises(TilerError):
            list(manifest.read_sources(write(file, HEAD, line[:end])))


def test_missing_tiles_are_found_by_name_whatever_their_suffix(tmp_path):
    write(
        tmp_path / manifest.NAME, HEAD, SOURCE, SourceTiles("b.jpg", "val", 0, 0, "unreadable", [])
    )
    expected = [
        "images/train/a__0_0_100_80: T01 missing",
        "labels/train/a__0_0_100_80: T01 missing",
    ]
    assert [str(f) for f in manifest.missing(tmp_path)] == expected
    for name in ("images/train/a__0_0_100_80.webp", "labels/train/a__0_0_100_80.txt"):
        assert [str(f) for f in manifest.missing(tmp_path)] == expected
        (tmp_path / name).parent.mkdir(parents=True)
        # an image without content is none
        (tmp_path / name).write_bytes(b"" if name.endswith(".txt") else b"x")
        expected = expected[1:]
    assert manifest.missing(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "a" * 6000}, "6000 characters, longer than any path"),
        ({"source": "a/" * 3000 + "b"}, "6001 characters, longer than any path"),
        ({"source": "a" * 256}, "256 characters, longer than any path"),
        ({"source": "a\0b.jpg"}, "no image has such a name"),
        ({"source": ""}, "no image has such a name"),
        ({"split": "../../etc"}, "expected a name, without folders"),
        ({"split": "s" * 6000}, "6000 characters, longer than any name"),
        ({"tiles": ["../../x"]}, "expected a name, without folders"),
        ({"tiles": ["t" * 6000]}, "6000 characters, longer than any name"),
    ],
)
def test_invalid_names_are_reported_with_their_line(tmp_path, change, said):
    head = {"tiler": "1", "schema": 1, "task": "detect", "names": [], "options": {}}
    entry = {
        "source": "a.jpg",
        "split": "val",
        "width": 9,
        "height": 9,
        "fingerprint": "f",
        "tiles": [],
        **change,
    }
    entry["tiles"] = [
        {"name": name, "x": 0, "y": 0, "w": 9, "h": 9, "scale": 1.0, "rows": []}
        for name in entry["tiles"]
    ]
    path = tmp_path / manifest.NAME
    path.write_text(json.dumps(head) + "\n" + json.dumps(entry) + "\n")
    with pytest.raises(TilerError) as caught:
        list(manifest.read_sources(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_manifest_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / manifest.NAME)
    with pytest.raises(TilerError, match="not a regular file"):
        manifest.read_head(tmp_path / manifest.NAME)
