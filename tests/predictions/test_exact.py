"""Rows taken as they are, for scoring: neither clamped nor dropped; and files read in columns,
whatever stands in them.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED, needs_shared
from tests.predictions import codes, folder, frames
from tests.predictions.test_json_results import BOX, QUAD, results
from tests.strategies import assert_same, quick
from tiler.errors import TilerError
from tiler.formats import coco_ground_truth
from tiler.predictions import Reading, open_predictions

SQUARE = [[10, 10, 20, 10, 20, 20]]
SCORE = SHARED / "oracles" / "score"
CASES = sorted(path.parent.name for path in SCORE.glob("*/gt.json"))
MASK = {"size": [100, 100], "counts": [100, 50, 9850]}


def read(path, exact=True, rect=(0, 0, 100, 100), scale=1.0, **reading):
    predictions = open_predictions(
        Path(path), pickle.loads(pickle.dumps(Reading(exact=exact, **reading)))
    )
    batch = pickle.loads(pickle.dumps(predictions.batch(range(len(predictions.keys)))))
    return predictions, batch.read(frames(predictions.keys, rect, scale))


def boxes(tmp_path, *many, **reading):
    return read(
        results(tmp_path, *({**BOX, "bbox": list(box)} for box in many)),
        preds_base="0",
        **reading,
    )[1]


numbers = st.one_of(st.integers(-300, 300), st.floats(-1e6, 1e6))


@quick
@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), min_size=1, max_size=9))
def test_boxes_of_json_to_the_last_bit(tmp_path_factory, many):
    """Negative and zero sides, and what lies outside; the area is w * h, not that of the
    corners.
    """
    found = boxes(tmp_path_factory.mktemp("exact"), *many)
    assert found.instances.boxes.tolist() == [[x, y, x + w, y + h] for x, y, w, h in many]
    assert found.instances.area.tolist() == [w * h for *_, w, h in many]
    assert (
        not found.rejected
        and not found.findings
        and found.segmentations is None
        and found.digest == ""
    )


def test_an_area_is_not_that_of_the_corners(tmp_path):
    x, w = 0.3, 0.1
    found = boxes(tmp_path, (x, 0, w, 1), (400.0, 400.0, -5.0, 10.0))
    assert found.instances.area.tolist() == [w, -50.0] and (x + w) - x != w


def test_a_box_is_what_else_there_is_where_it_is_missing(tmp_path):
    entry = {"image_id": "a", "category_id": 0, "score": 0.5, "segmentation": SQUARE}
    _, found = read(results(tmp_path, entry, BOX), task="detect")
    assert found.instances.boxes.tolist() == [[10, 10, 20, 20], [10, 20, 40, 60]]
    assert found.instances.area.tolist() == [100, 1200]


@pytest.mark.parametrize(
    "bad, code",
    [
        ({"category_id": -1}, "D04"),
        ({"category_id": "x"}, "D04"),
        ({"score": 1.5}, "D08"),
        ({"score": None}, "D08"),
        ({"bbox": [1, 2, 3, float("nan")]}, "D02"),
        ({"bbox": [1, 2, 3]}, "D03"),
        ({"bbox": None}, "D03"),
        ({"bbox": []}, "D03"),
        ({"bbox": [2e9, 2, 3, 4]}, "D05"),
        ({"bbox": [1, 2, 1e308, 1e308]}, "D05"),
    ],
)
def test_what_is_refused_all_the_same(tmp_path, bad, code):
    _, found = read(results(tmp_path, BOX, {**BOX, **bad}, BOX), preds_base="0")
    assert found.rejected == [(0, 1, code)] and found.instances.row.tolist() == [0, 2]
    assert "tile" not in found.findings[0].message


def test_rows_of_text(tmp_path):
    folder(
        tmp_path,
        a=(
            "0 .5 .5 0 .2 .9\n1 1.5 .5 .2 .2 .8\n1 .5 .5 -.2 .25 .7\n2 .5 .5 1.5 1.5 .6\n7 .5 .5 "
            ".1 .1 .5\n"
        ),
    )
    _, found = read(tmp_path, names=("x", "y", "z"))
    assert codes(found) == ["D04"] and [f.code for f in found.findings] == ["D04"]
    assert found.instances.row.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(
        found.instances.boxes,
        [[50, 40, 50, 60], [140, 40, 160, 60], [60, 37.5, 40, 62.5], [-25, -25, 125, 125]],
    )
    np.testing.assert_allclose(found.instances.area, [0, 400, -500, 22500], atol=1e-9)


def test_outlines_of_text_are_not_cut(tmp_path):
    folder(tmp_path, a="0 .5 .5 1.5 .5 1.5 .6 .9\n0 .5 .5 .5 .5 .5 .5 .9\n")
    _, found = read(tmp_path, task="segment")
    np.testing.assert_allclose(
        found.instances.rings.bounds(), [[50, 50, 150, 60], [50, 50, 50, 50]]
    )
    np.testing.assert_allclose(found.instances.area, [500, 0])
    assert found.segmentations is None and not found.rejected


def test_corners_are_straightened_and_stay_outside(tmp_path):
    bow_tie = [150, 150, 170, 170, 170, 150, 150, 170]
    entry = {"image_id": "a", "category_id": 0, "score": 0.5}
    _, found = read(results(tmp_path, {**entry, "poly": bow_tie}, {**entry, "poly": QUAD}))
    np.testing.assert_allclose(found.instances.area, [400, 800])
    np.testing.assert_allclose(found.instances.boxes[0], [150, 150, 170, 170])


def test_outlines_of_json_stay_what_they_are(tmp_path):
    """Parts, masks and what is no area at all, in the order of the rows that are kept; without an
    outline, the box's.
    """
    entry = {"image_id": "a", "category_id": 0, "score": 0.5}
    path = results(
        tmp_path,
        {**BOX, "image_id": "b", "segmentation": SQUARE},
        {**entry, "segmentation": MASK},
        {**BOX, "segmentation": [[1, 1, 2]]},
        {**BOX, "segmentation": "x"},
        {**BOX, "segmentation": SQUARE * 2, "bbox": [5, 5, -2, 3]},
        {**entry, "score": 7, "segmentation": MASK},
        BOX,
        {**BOX, "segmentation": MASK, "bbox": [1, 2]},
    )
    _, found = read(path, task="segment", preds_base="0")
    assert (found.instances.task, found.instances.rings) == ("segment", None)
    of_box = [[10, 20, 10, 60, 40, 60, 40, 20]]
    assert found.segmentations == [MASK, [[1, 1, 2]], SQUARE * 2, of_box, SQUARE]
    assert found.tile.tolist() == [0, 0, 0, 0, 1] and found.instances.row.tolist() == [
        1,
        2,
        4,
        6,
        0,
    ]
    box = [10, 20, 40, 60]
    assert found.instances.boxes.tolist() == [[0, 0, 0, 0], box, [5, 5, 3, 8], box, box]
    for column in (found.instances.area, found.box_area):
        np.testing.assert_array_equal(column, [np.nan, 1200, -6, 1200, 1200])
    assert codes(found) == ["D03", "D08", "D03"]


def test_keypoints_without_a_box_get_that_around_them(tmp_path):
    entry = {
        "image_id": "a",
        "category_id": 0,
        "score": 0.5,
        "keypoints": [20, 30, 0.8, 0, 10, 0.1],
    }
    predictions, found = read(
        results(tmp_path, entry, {**entry, "bbox": [1, 2, 3, 4]}, {**entry, "keypoints": [1, 2]}),
        task="pose",
    )
    assert predictions.kpt_shape == (2, 3) and codes(found) == ["D03"]
    # the first entry has no box, so no other's counts
    assert found.instances.boxes.tolist() == [[0, 10, 20, 30]] * 2
    assert found.instances.area.tolist() == [400, 400]
    assert found.instances.keypoints.tolist() == [[[20, 30, 0.8], [0, 10, 0.1]]] * 2
    _, found = read(results(tmp_path, {**entry, "bbox": [1, 2, 3, 4]}, entry), task="pose")
    assert found.instances.boxes.tolist() == [[1, 2, 4, 6], [0, 10, 20, 30]]
    assert found.instances.area.tolist() == [12, 400]


TABLE = {3: 0, 7: 1}


@pytest.mark.parametrize(
    "ids, reading, classes, refused",
    [
        ((3, 7, 7.0), {}, [0, 1, 1], []),
        ((3, 5), {}, [0], [1]),
        ((5, 5), {}, [], [0, 1]),
        ((0, 1), {}, [0, 1], []),
        ((0, 3), {"categories": {0: 5, 3: 6}}, [5, 6], []),
        ((3, 7), {"preds_base": "1"}, [2, 6], []),
        ((3, 7), {"preds_base": "0"}, [3, 7], []),
        ((13, 90), {"preds_base": "coco91"}, [11, 79], []),
    ],
)
def test_the_table_of_a_ground_truth(tmp_path, ids, reading, classes, refused):
    path = results(tmp_path, *({**BOX, "category_id": i} for i in ids))
    predictions, found = read(path, **{"categories": TABLE} | reading)
    assert found.instances.class_id.tolist() == classes
    assert found.rejected == [(0, row, "D04") for row in refused]
    assert all("none of the ground truth's" in f.message for f in found.findings)
    table = (not reading.get("preds_base") and 0 not in ids) or "categories" in reading
    assert ("ground truth" in predictions.kind) == table


def test_names_come_before_the_table(tmp_path):
    path = results(tmp_path, {**BOX, "category_id": 3, "category_name": "bus"})
    assert read(path, names=("car", "bus"), categories=TABLE)[1].instances.class_id.tolist() == [1]
    assert hash(Reading(categories=TABLE)) == hash(Reading(categories={})) and Reading(
        categories=TABLE
    ) != Reading(categories={})


def test_merging_still_clamps_and_drops(tmp_path):
    path = results(tmp_path, BOX, {**BOX, "bbox": [90, 90, 20, 20]}, {**BOX, "bbox": [1, 1, 0, 1]})
    _, found = read(path, exact=False, preds_base="0")
    assert found.instances.area.tolist() == [1200, 100] and codes(found) == ["D06"] and found.digest


# Files read in columns

ids = st.one_of(
    st.integers(0, 3),
    st.sampled_from(["1", "a", "a.jpg", "b/c.png", 2.0, 1.5, True, None, [], "", 10**30, -1]),
)
categories = st.one_of(
    st.integers(0, 4), st.sampled_from([1.0, 1.5, -1, True, None, "1", [1], 10**400])
)
values = st.one_of(numbers, st.sampled_from([True, None, "3", [1], 10**400, 10**17, "NaN"]))
bboxes = st.one_of(
    st.lists(numbers, min_size=4, max_size=4),
    st.lists(values, max_size=5),
    st.sampled_from([None, {}, "x", 3, True]),
)
scores = st.one_of(
    st.floats(0, 1), st.sampled_from([0, 1, True, 2, -0.5, None, "0.5", [0.5], 10**400])
)
NAMES = ("p", "q", "r")


@st.composite
def entries(draw):
    fields = {"image_id": ids, "category_id": categories, "bbox": bboxes, "score": scores}
    odd = draw(st.sets(st.sampled_from([*fields]), max_size=2)) if draw(st.booleans()) else ()
    plain = {
        "image_id": draw(st.integers(0, 3)),
        "category_id": draw(st.integers(0, 2)),
        "bbox": [1, 2.5, 3, 4],
        "score": 0.25,
    }
    entry = plain | {name: draw(fields[name]) for name in odd}
    if draw(st.integers(0, 5)) == 5:
        entry.pop(draw(st.sampled_from([*fields])))
    if draw(st.integers(0, 5)) == 5:
        entry["file_name"] = draw(st.sampled_from(["x.jpg", "", None, 5]))
    if draw(st.integers(0, 5)) == 5:
        entry |= {"id": 3, "iscrowd": 0, "activations": [{"a": "}"}], "segmentation": []}
    return entry


def is_number(value):
    return isinstance(value, int | float) and abs(value) < 10**300


def image_of(entry):
    name = entry.get("file_name") or entry.get("image_id")
    if not isinstance(entry.get("file_name"), str | None):
        name = entry.get("image_id")
    if isinstance(name, str):
        return name.replace(".jpg", "").replace(".png", "") or None
    if isinstance(name, bool) or not is_number(name) or name != int(name) or abs(name) >= 10**18:
        return None
    return str(int(name))


def expected(entry):
    """Class, box and score of one entry, or nothing where it is refused."""
    category, box, score = entry.get("category_id"), entry.get("bbox"), entry.get("score")
    if isinstance(category, bool) or not is_number(category) or category not in (0, 1, 2):
        return None
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(map(is_number, box))
        or not is_number(score)
        or not 0 <= score <= 1
    ):
        return None
    x, y, w, h = box
    return (
        None
        if max(map(abs, (x, y, x + w, y + h))) > 1e9
        else [category, x, y, x + w, y + h, w * h, float(score)]
    )


@quick
@given(st.lists(entries(), min_size=1, max_size=12))
def test_columns_say_what_the_entries_say(tmp_path_factory, many):
    path = results(tmp_path_factory.mktemp("columns"), *many)
    unscored = all(
        not isinstance(e.get("score"), int | float) for e in many if image_of(e) is not None
    )
    if {"image_id", "file_name"}.isdisjoint(many[0]) or unscored:
        if any(image_of(e) is not None for e in many):
            with pytest.raises(TilerError):
                read(path, task="detect", names=NAMES, preds_base="0")
        return
    predictions, found = read(path, task="detect", names=NAMES, preds_base="0")
    assert predictions.keys == sorted({image_of(e) for e in many} - {None})
    rows = [(image_of(e), i, expected(e)) for i, e in enumerate(many) if image_of(e) is not None]
    rows.sort(key=lambda row: row[:2])
    n = found.instances
    columns = np.column_stack([n.class_id, n.boxes, n.area, n.conf]).tolist()
    got = [
        (predictions.keys[t], row, values)
        for t, row, values in zip(found.tile.tolist(), n.row.tolist(), columns, strict=True)
    ]
    assert got == [row for row in rows if row[2] is not None]
    refused = [(predictions.keys[tile], row) for tile, row, _ in found.rejected]
    assert refused == [row[:2] for row in rows if row[2] is None]


plain_entries = st.fixed_dictionaries(
    {
        "image_id": st.one_of(st.integers(0, 9), st.sampled_from(["a", "b.jpg", "b.png"])),
        "category_id": st.integers(0, 2),
        "bbox": st.lists(numbers, min_size=4, max_size=4),
        "score": st.floats(0, 1),
    },
    optional={
        "file_name": st.sampled_from(["x.jpg", "y"]),
        "category_name": st.sampled_from(NAMES),
    },
)
ODD = [
    {**BOX, "image_id": True},
    {
        "image_id": "zz",
        "category_id": True,
        "category_name": 3,
        "bbox": ["1", 2, 3, 4],
        "score": "1",
        "file_name": 5,
    },
    {"image_id": "zz", "category_id": [], "bbox": None, "score": None},
]


@quick
@given(st.lists(plain_entries, min_size=1, max_size=9), st.booleans())
def test_an_odd_entry_changes_nothing_of_the_others(tmp_path_factory, many, exact):
    """With one all are read with care; without, in columns."""
    place = tmp_path_factory.mktemp("odd")
    reading = {"exact": exact, "task": "detect", "names": NAMES, "preds_base": "0"}
    plain, quickly = read(results(place, *many), **reading)
    odd, carefully = read(results(place, *many, *ODD), **reading)
    assert odd.keys == [*plain.keys, "zz"] and odd.counts == [*plain.counts, 2]
    assert_same(quickly.instances, carefully.instances)
    assert (
        quickly.tile.tolist() == carefully.tile.tolist()
        and carefully.rejected[:-2] == quickly.rejected
    )


def test_nan_as_python_writes_it(tmp_path):
    path = results(
        tmp_path, BOX, {**BOX, "score": float("nan")}, {**BOX, "bbox": [1, 2, float("inf"), 3]}
    )
    _, found = read(path, preds_base="0")
    assert found.rejected == [(0, 1, "D08"), (0, 2, "D02")] and "['NaN'" not in str(found.findings)


@pytest.mark.parametrize(
    "text", ["[{}]", ' [ {"image_id": "}}}}"} ]', '[{"image_id": 1, "x": {"y": {}}}, {"oops": 1}]']
)
def test_what_an_entry_has_is_seen_in_the_first(tmp_path, text):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    assert open_predictions(
        path, Reading(task="detect", preds_base="0", assume_conf=0.5)
    ).kind.startswith("JSON results")


@pytest.mark.parametrize(
    "text", ['[{"image": 1}, 2', '[{"a": "}", "b": {"c": "}"}, "box": 1}, {"image_id": 1}]']
)
def test_another_first_entry_is_refused(tmp_path, text):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    with pytest.raises(
        TilerError, match=r"expected entries with image_id, .*got (image|a, b, box)$"
    ):
        open_predictions(path, Reading())


def test_an_entry_with_many_braces_before_its_end(tmp_path):
    many = [{"x": i} for i in range(50)]
    path = results(tmp_path, {"activations": many, **BOX}, BOX)
    assert len(read(path, preds_base="0")[1].instances) == 2


@needs_shared
@pytest.mark.parametrize("case", CASES or [""])
def test_every_detection_of_the_oracles_arrives(case):
    truth = coco_ground_truth.read(SCORE / case / "gt.json")
    file = SCORE / case / "dt.json"
    entries = json.loads(file.read_text())
    predictions, found = read(file, task="detect", names=truth.names, categories=truth.categories)
    assert predictions.numeric == bool(entries) and not found.rejected and not found.findings
    order = sorted(range(len(entries)), key=lambda i: (str(entries[i]["image_id"]), i))
    assert found.instances.row.tolist() == order
    assert found.instances.area.tolist() == [
        entries[i]["bbox"][2] * entries[i]["bbox"][3] for i in order
    ]
    assert found.instances.class_id.tolist() == [
        truth.categories[entries[i]["category_id"]] for i in order
    ]


def test_an_empty_list_of_keypoints_changes_no_box(tmp_path):
    """The first entry has keypoints only; what has none keeps its own box."""
    first = {"image_id": "a", "category_id": 0, "score": 0.5, "keypoints": [10, 20, 2, 30, 50, 2]}
    path = results(tmp_path, first, {**BOX, "keypoints": []})
    _, found = read(path, task="detect", preds_base="0")
    assert found.instances.boxes.tolist() == [[10, 20, 30, 50], [10, 20, 40, 60]]
