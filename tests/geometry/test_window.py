import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import SIDE, assert_same, instances, outline, quick, windows
from tiler.errors import TilerError
from tiler.geometry.clipping import clip
from tiler.geometry.grids import grid
from tiler.geometry.instances import Instances, empty
from tiler.geometry.window import Window
from tiler.types import TASKS

EDGES = st.sampled_from(["shift", "pad", "trim", "balance"])


def pixels(window):
    return {(x, y) for x in range(window.x, window.right) for y in range(window.y, window.bottom)}


# --- the value


@pytest.mark.parametrize(
    "wrong",
    [
        (0, 0, 0, 5),
        (0, 0, 5, -1),
        (0.5, 0, 5, 5),
        (0, 0, 5, 5.25),
        (True, 0, 5, 5),
        (0, 0, float("nan"), 5),
        (float("inf"), 0, 5, 5),
    ],
)
def test_a_window_without_size_or_whole_pixels_is_refused(wrong):
    with pytest.raises(TilerError):
        Window(*wrong)


def test_whole_numbers_of_any_kind_become_ints():
    window = Window(np.int64(1), 2.0, np.int32(3), np.float64(4))
    assert window == Window(1, 2, 3, 4)
    assert {type(getattr(window, name)) for name in ("x", "y", "width", "height")} == {int}


def test_a_window_is_frozen_and_travels():
    window = Window(1, 2, 3, 4)
    with pytest.raises(FrozenInstanceError):
        window.x = 5
    assert pickle.loads(pickle.dumps(window)) == window
    assert {window: 1}[Window(1, 2, 3, 4)] == 1
    assert window.bounds.tolist() == [1, 2, 4, 6]


@quick
@given(windows(12, smallest=1), windows(12, smallest=1))
def test_an_intersection_is_the_pixels_of_both(one, other):
    common = one.intersection(other)
    assert common == other.intersection(one)
    assert (pixels(common) if common else set()) == pixels(one) & pixels(other)


def test_windows_that_touch_share_no_pixel():
    assert Window(0, 0, 4, 4).intersection(Window(4, 0, 4, 4)) is None
    assert Window(0, 0, 4, 4).intersection(Window(4, 4, 4, 4)) is None


# --- to a tile and back


@quick
@given(instances(), windows())
def test_to_a_tile_and_back_is_the_identity_on_what_lies_inside(rows, window):
    inside = (rows.boxes[:, :2] >= window.bounds[:2]).all(axis=1) & (
        rows.boxes[:, 2:] <= window.bounds[2:]
    ).all(axis=1)
    if rows.keypoints is not None:  # keypoints may lie anywhere
        x, y, v = np.moveaxis(rows.keypoints, -1, 0)
        here = (x >= window.x) & (x < window.right) & (y >= window.y) & (y < window.bottom)
        inside &= (here | (v == 0)).all(axis=1)
    whole = rows.take(inside)
    assert_same(window.clip(whole).moved(window.x, window.y), whole)


@quick
@given(instances(min_size=1, max_size=2))
def test_a_window_of_the_whole_picture_changes_nothing(rows):
    assert_same(Window(0, 0, SIDE, SIDE).clip(rows), rows)


@quick
@given(instances(largest=60, min_size=1), st.integers(0, 10**5), st.integers(0, 10**5))
def test_far_from_the_origin_a_tile_and_back_is_still_the_identity(rows, x, y):
    rows = rows.moved(x, y)
    assert_same(Window(x, y, SIDE, SIDE).clip(rows).moved(x, y), rows)


@quick
@given(instances(), windows())
def test_what_a_window_shows_is_in_its_own_frame(rows, window):
    seen = window.clip(rows)
    if rows.task != "obb":  # the rectangle around a part of an OBB may reach out
        assert (seen.boxes >= 0).all()
        assert (seen.boxes <= np.tile([window.width, window.height], 2)).all()
    assert seen.row.tolist() == sorted(set(seen.row.tolist()))
    np.testing.assert_array_equal(seen.class_id, rows.class_id[seen.row])
    np.testing.assert_array_equal(seen.area, rows.area[seen.row])


@quick
@given(instances(), windows())
def test_a_window_shows_what_clip_gives(rows, window):
    seen = clip(rows, window.bounds)
    assert_same(window.clip(rows), seen.take(seen.visible > 0).moved(-window.x, -window.y))


@quick
@given(instances(), windows(), st.floats(0, 1))
def test_min_visible_leaves_out_what_shows_less(rows, window, least):
    every = window.clip(rows)
    assert_same(window.clip(rows, least), every.take(every.visible >= least))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_min_visible_is_a_part(wrong):
    with pytest.raises(TilerError, match="min_visible"):
        Window(0, 0, 10, 10).clip(empty(), wrong)


@pytest.mark.parametrize("task", TASKS)
def test_nothing_shows_nothing(task):
    seen = Window(0, 0, 10, 10).clip(empty(task, 3))
    assert len(seen) == 0
    assert seen.task == task


# --- all windows of a grid together


@quick
@given(instances(min_size=1), st.integers(20, 120), st.sampled_from(["pad", "trim"]))
def test_over_a_grid_without_overlap_the_visible_parts_add_up_to_the_object(rows, tile, edge):
    # the last window of a trimmed row is no sliver
    assume(edge == "pad" or not 0 < SIDE % tile < 10)
    total, shown = np.zeros(len(rows)), [[] for _ in range(len(rows))]
    for window in grid(SIDE, SIDE, tile, 0, edge):
        seen = window.clip(rows)
        total[seen.row] += seen.visible
        back = seen.moved(window.x, window.y)
        for k, i in enumerate(seen.row):
            part = outline(back, k)
            shown[i].append(
                part.intersection(shapely.box(*window.bounds)) if rows.task == "obb" else part
            )
    np.testing.assert_allclose(total, 1, atol=1e-9)
    for i in range(len(rows)):
        whole, union = outline(rows, i), shapely.union_all(shown[i])
        if rows.task == "obb":  # rectangles around parts cover at least the object
            assert whole.difference(union).area <= 1e-6 * whole.area
        else:
            assert whole.symmetric_difference(union).area <= 1e-6 * whole.area


@quick
@given(instances(task="pose", min_size=1), st.integers(20, 120), EDGES)
def test_every_keypoint_within_its_box_is_in_a_tile(rows, tile, edge):
    x, y, v = np.moveaxis(rows.keypoints, -1, 0)
    left, top, right, bottom = rows.boxes.T[:, :, None]
    within = (v > 0) & (x > left) & (x < right) & (y > top) & (y < bottom)
    found = np.zeros_like(within)
    for window in grid(SIDE, SIDE, tile, 0.2, edge):
        seen = window.clip(rows)
        found[seen.row] |= seen.keypoints[..., 2] > 0
    assert found[within].all()


@pytest.mark.parametrize("edge", ["shift", "pad", "trim", "balance"])
def test_a_keypoint_on_the_far_border_of_the_picture_is_in_a_tile(edge):
    """A label of x = 1.0 is a good one, and no tile further right would show it."""
    keypoints = np.array([[[200, 120, 2], [150, 150, 2], [90, 200, 1]]], np.float64)
    person = Instances(
        np.array([0]), np.array([[80, 80, 200, 200.0]]), keypoints=keypoints, task="pose"
    )
    found = np.zeros(3, bool)
    for window in grid(200, 200, 100, 0, edge):
        found |= (window.clip(person).keypoints[..., 2] > 0).any(axis=0)
    assert found.all()


@quick
@given(instances(min_size=1, largest=40), st.integers(60, 120), EDGES)
def test_with_an_overlap_as_large_as_the_object_it_is_whole_in_a_tile(rows, tile, edge):
    largest = int(np.ceil((rows.boxes[:, 2:] - rows.boxes[:, :2]).max()))
    whole = set()
    for window in grid(SIDE, SIDE, tile, max(1, largest), edge):
        seen = window.clip(rows)
        back = seen.moved(window.x, window.y)
        kept = np.flatnonzero(
            (seen.visible == 1) & (back.boxes == rows.boxes[seen.row]).all(axis=1)
        )
        whole |= set(seen.row[kept].tolist())
    assert whole == set(range(len(rows)))


def test_a_detection_keeps_its_confidence():
    cars = Instances(
        np.array([0, 1]), np.array([[50, 50, 60, 60], [5, 5, 9, 9.0]]), conf=np.array([0.25, 0.75])
    )
    assert Window(0, 0, 20, 20).clip(cars).conf.tolist() == [0.75]
