import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import box_arrays, quick
from tiler.geometry import boxes as box

NONE = np.empty((0, 4))


def naive_pairs(boxes, others):
    found = []
    for i, a in enumerate(boxes):
        for j, b in enumerate(others):
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            if width > 0 and height > 0:
                found.append((i, j))
    return found


# a coarse raster, so that edges and corners often touch
touchy = st.lists(st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(0, 3)] * 2), max_size=12).map(
    lambda many: np.array([(x, y, x + w, y + h) for x, y, w, h in many], np.float64).reshape(-1, 4)
)


@quick
@given(st.one_of(touchy, box_arrays()), st.one_of(touchy, box_arrays()))
def test_pairs_are_those_of_a_double_loop(boxes, others):
    i, j = box.pairs(boxes, others)
    assert i.dtype == j.dtype == np.int64
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == naive_pairs(boxes, others)


@pytest.mark.parametrize("cells", [1, 7, 100])
def test_pairs_do_not_depend_on_how_many_are_held_in_memory(monkeypatch, cells):
    rng = np.random.default_rng(1)
    boxes, others = (box.from_cxcywh(rng.uniform(1, 30, (n, 4))) for n in (23, 11))
    whole = box.pairs(boxes, others)
    monkeypatch.setattr(box, "CELLS", cells)
    np.testing.assert_array_equal(box.pairs(boxes, others), whole)
    assert list(zip(*(k.tolist() for k in whole), strict=True)) == naive_pairs(boxes, others)


@pytest.mark.parametrize(
    ("boxes", "others"), [(NONE, NONE), (NONE, np.ones((3, 4))), (np.ones((3, 4)), NONE)]
)
def test_no_boxes_have_no_pairs(boxes, others):
    i, j = box.pairs(boxes, others)
    assert i.shape == j.shape == (0,)


@pytest.mark.parametrize(
    "other", [(4, 0, 8, 4), (0, 4, 4, 8), (4, 4, 8, 8), (2, 2, 2, 2), (1, 0, 1, 4)]
)
def test_touching_and_being_without_area_is_not_meeting(other):
    i, _ = box.pairs(np.array([[0, 0, 4, 4.0]]), np.array([other], np.float64))
    assert len(i) == 0


@quick
@given(box_arrays(max_size=6), box_arrays(max_size=6))
def test_areas_and_intersections_are_those_of_shapely(boxes, others):
    here, there = shapely.box(*boxes.T)[:, None], shapely.box(*others.T)[None]
    np.testing.assert_allclose(box.area(boxes), shapely.area(here[:, 0]), rtol=1e-12)
    common = box.intersection(boxes[:, None], others[None])
    np.testing.assert_allclose(
        box.area(common), shapely.area(shapely.intersection(here, there)), atol=1e-9
    )


@quick
@given(box_arrays(), box_arrays(max_size=1))
def test_a_box_is_inside_when_the_intersection_is_itself(boxes, others):
    for other in others:
        same = (box.intersection(boxes, other) == boxes).all(axis=1)
        np.testing.assert_array_equal(box.inside(boxes, other), same)


def test_a_box_is_inside_itself():
    assert box.inside(np.array([[1, 2, 3, 4.0]]), np.array([1, 2, 3, 4.0])).tolist() == [True]


@quick
@given(box_arrays())
def test_centres_and_sizes_give_the_box_again(boxes):
    np.testing.assert_allclose(box.from_cxcywh(box.to_cxcywh(boxes)), boxes, atol=1e-12 * 200)


@pytest.mark.parametrize("function", [box.to_cxcywh, box.from_cxcywh])
def test_no_boxes_stay_no_boxes(function):
    assert function(NONE).shape == (0, 4)
    assert box.area(NONE).shape == (0,)


def test_a_box_turned_inside_out_has_no_area():
    assert box.area(np.array([[5, 5, 2, 9.0], [5, 5, 2, 2]])).tolist() == [0, 0]
