"""merged.jsonl, and lines of JSON in general: what is written is read again, and nothing else
is.
"""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.findings import CODES, Finding
from tiler.formats import jsonl, provenance, report_json
from tiler.formats.provenance import MergedImage, ProvenanceHead, TileRows
from tiler.stitching import FATES
from tiler.types import TASKS

texts = st.text(max_size=20)
counts = st.integers(0, 10**6)
places = st.floats(-1e6, 1e6, allow_nan=False)
heads = st.builds(
    ProvenanceHead,
    tiler=texts,
    schema=st.just(provenance.SCHEMA),
    task=st.sampled_from(TASKS),
    names=st.lists(texts, max_size=3),
    options=st.dictionaries(texts, texts | counts | st.none(), max_size=3),
    predictions=texts,
    index=texts,
    kpt_shape=st.none() | st.tuples(counts, counts).map(list),
)
tiles = st.builds(
    TileRows, name=texts, x=places, y=places, w=places, h=places, scale=places, rows=counts
)
rows = st.tuples(counts, counts)
sources = st.builds(
    MergedImage,
    source=texts,
    width=counts,
    height=counts,
    digest=texts,
    tiles=st.lists(tiles, max_size=3),
    detections=st.lists(st.lists(rows, max_size=3), max_size=3),
    orphans=st.lists(counts, max_size=3),
    dropped=st.lists(
        st.tuples(counts, counts, st.sampled_from(FATES), st.integers(-1, 9)), max_size=3
    ),
    refused=st.lists(st.tuples(counts, counts, st.sampled_from(list(CODES))), max_size=3),
)
HEAD = ProvenanceHead("1.0", provenance.SCHEMA, "detect", ["car"], {"iou": 0.3}, "txt", "f00")
SOURCE = MergedImage(
    "a.jpg",
    100,
    80,
    "d",
    [TileRows("a__0_0_50_80", 0, 0, 50, 80, 1, 2)],
    [[(0, 0)]],
    [],
    [(0, 1, "duplicate", 0)],
    [],
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("provenance") / provenance.NAME


def write(file, *records):
    file.unlink(missing_ok=True)
    file.write_bytes(b"".join(r if isinstance(r, bytes) else jsonl.line(r) for r in records))
    return file


@quick
@given(heads, st.lists(sources, max_size=4))
def test_what_is_written_is_read_again(file, head, entries):
    write(file, head, *entries)
    assert provenance.read_head(file) == head
    assert list(provenance.read_sources(file)) == entries
    assert file.read_bytes().count(b"\n") == len(entries) + 1


def test_a_tile_is_a_plain_list_and_what_is_not_known_is_left_out(file):
    head, source = map(json.loads, write(file, HEAD, SOURCE).read_text().splitlines())
    assert "kpt_shape" not in head
    assert source["tiles"] == [["a__0_0_50_80", 0.0, 0.0, 50.0, 80.0, 1.0, 2]]
    assert source["detections"] == [[[0, 0]]]
    assert source["dropped"] == [[0, 1, "duplicate", 0]]


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"", "not what tiler merge writes"),
        (b"{}\n", "not what tiler merge writes.*tiler"),
        (b"[]\n", "not what tiler merge writes"),
        (b"\xff\xfe\n", "not what tiler merge writes"),
        (b"[" * 100_000, "not what tiler merge writes"),
        (
            b'{"tiler": "1", "schema": 1, "task": "detect", "names": [], "options": {}}\n',
            "not what.*predictions",
        ),
        (
            jsonl.line(msgspec.structs.replace(HEAD, schema=2, tiler="9.9")),
            "schema 2, expected 1; made by tiler 9.9",
        ),
    ],
)
def test_what_is_not_ours_is_refused(file, first, message):
    write(file, first)
    for read in (provenance.read_head, lambda path: list(provenance.read_sources(path))):
        with pytest.raises(TilerError, match=message) as caught:
            read(file)
        assert str(caught.value).startswith(str(file))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"source": 3}\n',
        b"\xff\n",
        jsonl.line(SOURCE)[:-20],
        b"[" * 99_999,
    ],
)
def test_a_line_that_cannot_be_read_is_named(file, bad):
    found = provenance.read_sources(write(file, HEAD, SOURCE, bad))
    assert next(found) == SOURCE
    with pytest.raises(TilerError, match=f"^{file}:3: "):
        next(found)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TilerError, match="none.jsonl: not what tiler merge writes"):
        provenance.read_head(tmp_path / "none.jsonl")


def test_a_name_with_a_line_break_stays_in_its_line(file):
    odd = msgspec.structs.replace(SOURCE, source="a\nb\u2028\x85.jpg")
    assert list(provenance.read_sources(write(file, HEAD, odd, SOURCE))) == [odd, SOURCE]


# --- report.json


class Report(msgspec.Struct):
    findings: list[Finding]
    out: str = "/somewhere"
    number: int = 1


def test_a_report_has_the_level_of_each_finding_and_not_where_it_lies():
    found = [Finding("a.txt", "D05", "outside", 3), Finding("b.txt", "D09", "clamped", count=4)]
    text = report_json.encoded(Report(found), found, ("out",))
    content = json.loads(text)
    assert list(content) == ["findings", "number"]
    assert [item["level"] for item in content["findings"]] == ["error", "note"]
    assert [item["line"] for item in content["findings"]] == [3, None]
    assert text.endswith(b"\n")
    assert report_json.levels(found) == {"error": 1, "note": 4}
