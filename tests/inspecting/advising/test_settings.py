"""The overlaps that are compared are exact: found on the labels, or safe wherever objects lie."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import box_arrays, quick
from tiler.geometry.grids import grid
from tiler.inspecting.advising.settings import guaranteed_overlap, least_overlap, required, whole
from tiler.inspecting.advising.survey import ObjectTable, Survey

SIDE = 200


def table(boxes, labelled=None, image=None):
    count = len(boxes)
    none = np.zeros(count, np.int64)
    sides = boxes[:, 2:] - boxes[:, :2]
    return ObjectTable(
        none if image is None else image,
        none,
        boxes,
        sides.prod(axis=1),
        np.ones(count, bool) if labelled is None else labelled,
    )


def survey(objects, sizes=((SIDE, SIDE),)):
    return Survey(len(sizes), [], np.array(sizes), objects, [])


def whole_by_windows(boxes, size, tile, overlap):
    windows = [w.bounds for w in grid(*size, tile, overlap)]
    return [
        any(x0 <= a and y0 <= b and c <= x1 and d <= y1 for x0, y0, x1, y1 in windows)
        for a, b, c, d in boxes.tolist()
    ]


@quick
@given(
    box_arrays(), st.integers(10, 250), st.integers(0, 9), st.tuples(*[st.integers(200, 300)] * 2)
)
def test_whole_is_what_some_window_holds(boxes, tile, overlap, size):
    sizes = np.tile(size, (len(boxes), 1))
    found = whole(boxes, sizes, tile, overlap).tolist()
    assert found == whole_by_windows(boxes, size, tile, overlap)


@quick
@given(box_arrays(), st.integers(20, 200), st.sampled_from([0, 50, 80, 99, 100]), st.data())
def test_the_least_overlap_is_enough_and_none_less_is(boxes, tile, keep, data):
    labelled = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes)))
    )
    objects = table(boxes, labelled.astype(bool))
    most = tile // 2

    def enough(overlap):
        kept = np.array(whole_by_windows(boxes, (SIDE, SIDE), tile, overlap), bool)
        return (kept & objects.labelled).sum() >= required(keep, len(boxes))

    expected = next((overlap for overlap in range(most + 1) if enough(overlap)), None)
    assert least_overlap(survey(objects), objects, tile, keep, most) == expected


@settings(max_examples=30, deadline=None)
@given(box_arrays(max_size=12), st.sampled_from([50, 80, 100]), st.integers(10, 200))
def test_the_guaranteed_overlap_keeps_enough_wherever_they_lie(boxes, keep, tile):
    overlap = guaranteed_overlap(table(boxes), keep)
    assume(overlap <= tile // 2)
    for shift in (0.0, 0.3, 7.7, 31.9):
        moved = boxes + shift
        size = (SIDE + 32, SIDE + 32)
        kept = sum(whole_by_windows(moved, size, tile, overlap))
        assert kept >= required(keep, len(boxes))


def test_images_of_different_sizes_have_their_own_grids():
    boxes = np.array([[95, 10, 105, 20.0], [95, 10, 105, 20.0]])
    sizes = np.array([[200, 50], [105, 50]])
    assert whole(boxes, sizes, 100, 0).tolist() == [False, True]


@pytest.mark.parametrize(("keep", "objects", "count"), [(99, 100, 99), (99, 101, 100), (0, 5, 0)])
def test_required(keep, objects, count):
    assert required(keep, objects) == count
