import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler import boxes as box
from tiler import neighbours as module
from tiler.neighbours import meetings, neighbours

reaches = st.sampled_from([0.0, 1e-9, 0.5, 4.0, 100.0])


@st.composite
def crowds(draw, max_size=14):
    """`(N, 4)` boxes of sides from nothing to thousands of px, on either side of the origin; some touch, some are equal."""
    coordinate = st.one_of(st.integers(-40, 40).map(float), st.floats(-3000, 3000), st.sampled_from([-1e5, 1e5]))
    side = st.one_of(st.sampled_from([0.0, 1.0, 4.0, 16.0, 16.5, 64.0, 5000.0]), st.floats(0, 50))
    rows = [(draw(coordinate), draw(coordinate), draw(side), draw(side)) for _ in range(draw(st.integers(0, max_size)))]
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in rows]).reshape(-1, 4)
    if len(boxes) and draw(st.booleans()):
        again = np.array(draw(st.lists(st.integers(0, len(boxes) - 1), max_size=3)), np.int64)
        boxes = np.concatenate([boxes, boxes[again]])
    return boxes


def meet(one, other, reach):
    """The definition, in numbers."""
    gaps = [max(one[k], other[k]) - min(one[k + 2], other[k + 2]) for k in (0, 1)]
    return all(gap <= reach for gap in gaps) if reach > 0 else all(gap < 0 for gap in gaps)


def every_two(boxes, group, reach):
    n = len(boxes)
    return [(i, j) for i in range(n) for j in range(i + 1, n) if group[i] == group[j] and meet(boxes[i], boxes[j], reach)]


def found(portions):
    pairs = [(int(a), int(b)) for i, j in portions for a, b in zip(i, j, strict=True)]
    assert len(set(pairs)) == len(pairs), "a pair came twice"
    return sorted(pairs)


@quick
@given(crowds(), reaches, st.data())
def test_every_pair_of_a_group_that_meets_once_and_no_other(boxes, reach, data):
    group = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes))), np.int64)
    assert found(neighbours(boxes, group, reach)) == every_two(boxes, group, reach)
    assert found(neighbours(boxes, None, reach)) == every_two(boxes, np.zeros(len(boxes)), reach)


@quick
@given(crowds(), crowds(), reaches)
def test_every_box_with_every_other_that_it_meets(boxes, others, reach):
    expected = [(i, j) for i in range(len(boxes)) for j in range(len(others)) if meet(boxes[i], others[j], reach)]
    assert found(meetings(boxes, others, reach)) == expected


@quick
@given(crowds(), reaches, st.data())
def test_the_order_of_the_boxes_counts_for_nothing(boxes, reach, data):
    order = np.array(data.draw(st.permutations(range(len(boxes)))), np.int64)
    there = sorted(tuple(sorted((int(order[i]), int(order[j])))) for i, j in found(neighbours(boxes[order], None, reach)))
    assert there == found(neighbours(boxes, None, reach))


@pytest.mark.parametrize("step", [1, 7, 100])
@pytest.mark.parametrize("reach", [0.0, 3.0])
def test_portions_are_bounded_and_lose_nothing(monkeypatch, step, reach):
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(-200, 200, (150, 2)), np.exp(rng.uniform(0, 5, (150, 2)))
    boxes, group = np.concatenate([corners, corners + sides], axis=1), rng.integers(0, 2, 150)
    others = boxes[::3] + 1
    expected = found(neighbours(boxes, group, reach)), found(meetings(boxes, others, reach))
    assert expected[0] == every_two(boxes, group, reach)
    monkeypatch.setattr(module, "STEP", step)
    portions = list(neighbours(boxes, group, reach))
    assert len(portions) > 2
    # what one box finds in one cell is looked at together
    assert max(len(i) for i, _ in portions) <= step + len(boxes)
    assert (found(portions), found(meetings(boxes, others, reach))) == expected


def test_many_boxes_of_any_size_against_all_pairs():
    rng = np.random.default_rng(1)
    corners, sides = rng.uniform(-1500, 1500, (3000, 2)), np.exp(rng.uniform(-2, 7, (3000, 2)))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    i, j = box.pairs(boxes, boxes)
    assert found(neighbours(boxes)) == sorted(zip(i[i < j].tolist(), j[i < j].tolist(), strict=True))
    i, j = box.pairs(boxes[:500], boxes[400:])
    assert found(meetings(boxes[:500], boxes[400:])) == sorted(zip(i.tolist(), j.tolist(), strict=True))


def test_touching_is_not_meeting_but_within_reach():
    boxes = np.array([[0, 0, 4, 4], [4, 0, 8, 4], [4, 4, 8, 8.0]])
    assert found(neighbours(boxes)) == []
    assert found(neighbours(boxes, None, 1e-9)) == [(0, 1), (0, 2), (1, 2)]
    assert found(neighbours(boxes + [[0], [1], [1]], None, 1.0)) == [(0, 1), (0, 2), (1, 2)]
    assert found(neighbours(boxes + [[0], [1.5], [1.5]], None, 1.0)) == [(1, 2)]


def test_identical_boxes_are_all_neighbours():
    boxes = np.tile([[-3.5, 2, 9, 700.0]], (6, 1))
    assert found(neighbours(boxes)) == [(i, j) for i in range(6) for j in range(i + 1, 6)]
    assert len(found(meetings(boxes, boxes))) == 36


def test_boxes_without_extent_have_no_common_area_but_a_place():
    boxes = np.array([[5, 5, 5, 5], [0, 0, 9, 9], [5, 5, 5, 5.0]])
    assert found(meetings(boxes[:1], boxes[1:2], 1e-9)) == [(0, 0)]
    assert found(neighbours(boxes, None, 1e-9)) == [(0, 1), (0, 2), (1, 2)]


def test_many_groups():
    boxes = np.tile([[0, 0, 9, 9.0]], (4000, 1))
    group = np.repeat(np.arange(2000), 2)[::-1].copy()
    assert found(neighbours(boxes, group)) == [(k, k + 1) for k in range(0, 4000, 2)]


def test_none_meet_none():
    none, one = np.empty((0, 4)), np.array([[0, 0, 1, 1.0]])
    for pairs in (neighbours(none), neighbours(one), meetings(none, one), meetings(one, none), meetings(none, none)):
        assert list(pairs) == []
    assert list(neighbours(none, np.empty(0, np.int64), 4.0)) == []
