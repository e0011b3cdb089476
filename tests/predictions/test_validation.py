"""Validation: the first rule that a row breaks, for rows of any format."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.predictions import codes, folder, frames, read
from tests.strategies import quick
from tiler.predictions.coordinates import NORMALISED, PIXELS
from tiler.predictions.placing import PlacedRows, placed
from tiler.predictions.validation import RowRules, validated

GOOD = "0 .5 .5 .2 .1 .9\n"


@pytest.mark.parametrize(
    "row, code, said",
    [
        ("x .5 .5 .2 .1 .9", "D02", "found 'x'"),
        ("0 .5 .5 .2 .1", "D03", "expected a confidence"),
        ("0 .5 .5 .2 .1 .9 1 2", "D03", "got 8"),
        ("0.5 .5 .5 .2 .1 .9", "D04", "class 0.5"),
        ("-1 .5 .5 .2 .1 .9", "D04", "class -1"),
        ("3 .5 .5 .2 .1 .9", "D04", "class 3, expected a whole number from 0 to 2"),
        ("nan .5 .5 .2 .1 .9", "D04", "class nan"),
        ("inf .5 .5 .2 .1 .9", "D04", "class inf"),
        ("0 .5 .5 .2 .1 1.1", "D08", "confidence 1.1"),
        ("0 .5 .5 .2 .1 -0.1", "D08", "confidence -0.1"),
        ("0 .5 .5 .2 .1 nan", "D08", "confidence nan"),
        ("0 nan .5 .2 .1 .9", "D02", "not finite"),
        ("0 .5 .5 inf .1 .9", "D02", "not finite"),
        ("0 1.5 .5 .2 .1 .9", "D05", "x 140 to 160"),
        ("0 -1 .5 .2 .1 .9", "D05", "outside its tile"),
        ("0 1e308 .5 .2 .1 .9", "D05", "outside its tile"),
        ("0 .5 .5 1e308 .1 .9", "D05", "outside its tile"),
        ("0 1.1 .5 .2 .1 .9", "D05", "x 100 to 120"),
        ("0 .5 .5 0 .1 .9", "D06", "no size"),
        ("0 .5 .5 .2 -.1 .9", "D06", "no size"),
        ("0 1 .5 0 .1 .9", "D06", "no size"),
        ("7 9 9 9 9 9", "D04", "class 7"),
        ("0 9 9 9 9 9", "D08", "confidence 9"),
    ],
)
def test_the_first_rule_that_a_row_breaks(tmp_path, row, code, said):
    folder(tmp_path, a=GOOD * 9 + row + "\n" + GOOD * 9)
    _, found = read(tmp_path, names=("a", "b", "c"))
    assert found.rejected == [(0, 9, code)] and len(found.instances) == 18
    (finding,) = found.findings
    assert (finding.code, finding.line) == (code, 10) and said in finding.message
    assert finding.path == str(tmp_path / "a.txt")


def test_any_class_when_none_are_known(tmp_path):
    _, found = read(folder(tmp_path, a="4000 .5 .5 .2 .1 .9\n1e300 .5 .5 .2 .1 .9\n"))
    assert found.instances.class_id.tolist() == [4000] and codes(found) == ["D04"]


def test_boxes_past_the_tile_are_clamped_and_counted_once(tmp_path):
    folder(tmp_path, a=GOOD + "0 0 .5 .2 .1 .9\n0 1 1 .2 .2 .9\n", b="0 .5 .5 9 9 .9\n")
    _, found = read(tmp_path)
    np.testing.assert_allclose(
        found.instances.boxes[1:], [[0, 45, 10, 55], [90, 90, 100, 100], [0, 0, 100, 100]]
    )
    assert [(f.code, f.line, f.count) for f in found.findings] == [("D09", 2, 2), ("D09", 1, 1)]


def test_rounding_of_six_digits_is_not_worth_a_note(tmp_path):
    """%g of a box that ends at the border ends a little behind it."""
    _, found = read(folder(tmp_path, a="0 .950001 .5 .1 .1 .9\n"), rect=(0, 0, 640, 640))
    assert not found.findings and found.instances.boxes[0, 2] == 640


def test_corners_of_turned_boxes_stay_where_they_are(tmp_path):
    _, found = read(folder(tmp_path, a="0 .9 .5 1.1 .7 .9 .9 .7 .7 .9\n"))
    np.testing.assert_allclose(found.instances.boxes, [[70, 50, 110, 90]])
    assert not found.findings


def test_crossed_corners_become_their_rectangle(tmp_path):
    _, found = read(
        folder(tmp_path, a="0 .2 .2 .6 .4 .6 .2 .2 .4 .9\n0 .2 .2 .4 .2 .6 .2 .8 .2 .9\n")
    )
    np.testing.assert_allclose(found.instances.area, [800])
    assert codes(found) == ["D06"], "corners on one line"


def test_outlines_past_the_tile_are_cut(tmp_path):
    rows = "0 .8 .2 1.2 .2 1.2 .4 .8 .4 .9\n0 .1 .1 .3 .1 .3 .3 .9\n"
    _, found = read(folder(tmp_path, a=rows), task="segment")
    np.testing.assert_allclose(found.instances.boxes[0], [80, 20, 100, 40])
    np.testing.assert_allclose(found.instances.area, [400, 200])
    assert [(f.code, f.count) for f in found.findings] == [("D09", 1)]


@pytest.mark.parametrize(
    "points, code",
    [
        (".1 .1 .2 .2 .3 .3", "D06"),
        (".1 .1 .1 .1 .1 .1", "D06"),
        ("1.1 .1 1.2 .1 1.2 .3", "D05"),
        # its bounds meet the tile, itself passes by
        ("-.1 .5 .5 1.1 -.1 1.1 -.1 1.05", "D05"),
        (".1 nan .2 .2 .3 .1", "D02"),
        (".1 1e308 .2 .2 .3 .1", "D05"),
    ],
)
def test_outlines_that_show_nothing(tmp_path, points, code):
    if code == "D05" and points.startswith("-"):
        points = "-.5 .5 .5 1.5 -.5 1.5"
    rows = "0 .1 .1 .3 .1 .3 .3 .1 .3 .9\n" * 9 + f"0 {points} .9\n"
    _, found = read(folder(tmp_path, a=rows), task="segment")
    assert found.rejected == [(0, 9, code)] and len(found.instances) == 9


def test_a_keypoint_that_is_not_finite(tmp_path):
    rows = (
        "0 .5 .5 .4 .4 .5 nan 2 .9\n0 .5 .5 .4 .4 .5 .5 nan .9\n0 .5 .5 .4 .4 1e300 .5 2 .9\n0 .5 "
        ".5 .4 .4 1.5 .5 2 .9\n"
    )
    _, found = read(folder(tmp_path, a=rows), task="pose", kpt_shape=(1, 3))
    assert codes(found) == ["D02", "D02", "D05"] and found.instances.row.tolist() == [3]


def test_every_refused_row_has_its_finding(tmp_path):
    _, found = read(
        folder(tmp_path, a="9 .5 .5 .2 .1 .9\n" * 50 + "0 .5 .5 0 0 .9\n" * 50), names=("a",)
    )
    assert len(found.rejected) == 100
    assert [f.line for f in found.findings if f.code == "D04"] == list(range(1, 51))
    assert sum(f.count for f in found.findings if f.code == "D06") == 50


def test_the_message_of_an_entry_names_it(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(
        json.dumps(
            [
                {"image_id": "a", "category_id": 0, "bbox": [1, 1, 2, 2], "score": s}
                for s in (0.5, 7)
            ]
        )
    )
    _, found = read(path)
    assert str(found.findings[0]) == f"{path}: D08 entry 1: confidence 7, expected 0 to 1"


@quick
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 4))
def test_tile_pixels_and_normalised_are_one_place(seed, scale):
    rng = np.random.default_rng(seed)
    tiles = frames("ab", (30, 40, 230, 140), scale)
    points, tile = rng.random((9, 2)), rng.integers(0, 2, 9)
    pixels = points * [200 * scale, 100 * scale]
    np.testing.assert_allclose(
        placed(points, tile, tiles, NORMALISED), placed(pixels, tile, tiles, PIXELS)
    )


@quick
@given(st.integers(0, 2**32 - 1))
def test_what_is_kept_lies_in_its_tile_and_what_lies_in_it_is_not_changed(seed):
    rng = np.random.default_rng(seed)
    n = 30
    corner = rng.uniform(-60, 120, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(-5, 80, (n, 2))], axis=1)
    number = np.arange(n)
    rows = PlacedRows(
        "detect",
        np.zeros(n, int),
        number,
        np.zeros(n, int),
        number + 1,
        np.zeros(n),
        rng.random(n),
        boxes,
    )
    found = validated(rows, [], frames("a"), RowRules(), ["a.txt"], "")
    kept = found.instances
    assert (
        (kept.boxes >= 0).all()
        and (kept.boxes <= 100).all()
        and (kept.boxes[:, 2:] > kept.boxes[:, :2]).all()
    )
    given = boxes[kept.row]
    whole = (given[:, :2] >= 0).all(axis=1) & (given[:, 2:] <= 100).all(axis=1)
    np.testing.assert_array_equal(kept.boxes[whole], given[whole])
    assert sorted([*kept.row.tolist(), *(row for _, row, _ in found.rejected)]) == list(range(n))
