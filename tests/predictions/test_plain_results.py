"""Plain boxes straight to columns: the same as entry by entry."""

import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.predictions import Reading, json_results, plain_results
from tiler.predictions.entries import Entry
from tiler.predictions.files import decoded

BOX = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4.5], "score": 0.5}

sides = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
entries = st.fixed_dictionaries(
    {
        "image_id": st.one_of(st.integers(0, 3), st.sampled_from(["a", "b.jpg", "1", ""])),
        "category_id": st.integers(0, 3),
        "bbox": st.lists(sides, min_size=4, max_size=4),
        "score": st.floats(0, 1),
    },
    optional={"id": st.integers(), "note": st.sampled_from(["}", "},{", "[", {"of": 1}])},
)
listed_files = st.lists(entries, max_size=6)
named = st.tuples(listed_files, st.lists(st.sampled_from(["1.jpg", "b.png", "c"]), min_size=6)).map(
    lambda both: [{**entry, "file_name": name} for entry, name in zip(*both, strict=False)]
)


def by_entries(text, reading):
    return json_results.read("x.json", decoded(text, list[Entry], "x.json"), reading)


def outcome(read, *given):
    """What is read, as values that can be compared; or the error."""
    try:
        found = read(*given)
    except TilerError as error:
        return str(error)
    if found is None:
        return None
    values = [found.kind, found.task, found.keys, found.counts, found.numeric, found.sizing]
    for item in fields(found.records):
        value = getattr(found.records, item.name)
        values.append(value.tobytes() if isinstance(value, np.ndarray) else value)
    return [*values, [str(finding) for finding in found.findings], found.rules]


@quick
@given(
    st.one_of(listed_files, named),
    st.sampled_from([1, 60, 2**17]),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from([None, {0: 0, 1: 1, 2: 2}, {1: 0, 2: 1, 3: 2}]),
)
def test_it_is_what_is_read_entry_by_entry(listed, piece, indent, exact, categories):
    text = json.dumps(listed, indent=indent).encode()
    reading = Reading(preds_base="0" if categories is None else "auto", exact=exact)
    if categories is not None:
        reading = Reading(exact=True, categories=categories)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_results, "PIECE", piece)
        plain = plain_results.plain_results(text)
    if plain is None:
        return
    found = outcome(json_results.read_plain, "x.json", plain, reading)
    if found is not None:
        assert found == outcome(by_entries, text, reading)


@pytest.mark.parametrize("piece", [1, 2**17])
def test_many_pieces_are_one_list(piece, monkeypatch):
    monkeypatch.setattr(plain_results, "PIECE", piece)
    text = json.dumps([{**BOX, "image_id": i % 5} for i in range(40)], indent=1).encode()
    plain = plain_results.plain_results(b"  " + text + b"\n")
    assert plain is not None and not plain.by_file
    assert plain.images == [0, 1, 2, 3, 4] and plain.image.tolist() == [*range(5)] * 8
    assert plain.xywh.tolist() == [[1, 2, 3, 4.5]] * 40 and plain.score.tolist() == [0.5] * 40


@pytest.mark.parametrize(
    "other",
    [
        {"segmentation": []},
        {"keypoints": [1, 2, 2]},
        {"category_name": "car"},
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        {"bbox": [1, 2, 3, "4"]},
        {"score": None},
        {"score": "0.5"},
        {"image_id": 1.5},
        {"image_id": True},
        {"category_id": None},
        {"file_name": ""},
        {"file_name": "a.jpg"},
    ],
)
@pytest.mark.parametrize("piece", [1, 2**17])
def test_anything_else_is_left_to_the_general_reader(other, piece, monkeypatch):
    monkeypatch.setattr(plain_results, "PIECE", piece)
    text = json.dumps([BOX, BOX, {**BOX, **other}, BOX]).encode()
    assert plain_results.plain_results(text) is None


ENTRY = json.dumps(BOX).encode()


@pytest.mark.parametrize("piece", [1, 2**17])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[",
        b"]",
        b"{}",
        b"[" + ENTRY,
        ENTRY + b"]",
        b"[" + ENTRY + b",]",
        b"[," + ENTRY + b"]",
        b"[" + ENTRY + ENTRY + b"]",
        b"[" + ENTRY + b",," + ENTRY + b"]",
        b"[" + ENTRY + b"] 1 ]",
        b"[" + ENTRY + b"]]",
        b"[" + ENTRY + b"],[" + ENTRY + b"]",
        b"[" + ENTRY + b",1]",
        b"[" + ENTRY[:-1] + b', "note": "\xff"}, 1]',
    ],
)
def test_what_is_no_list_of_boxes_is_left_too(text, piece, monkeypatch):
    monkeypatch.setattr(plain_results, "PIECE", piece)
    assert plain_results.plain_results(text) is None
