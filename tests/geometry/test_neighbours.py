from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.geometry import boxes as box
from tiler.geometry import neighbours as module
from tiler.geometry.neighbours import alike, meetings, neighbours

reaches = st.sampled_from([0.0, 1e-9, 0.5, 4.0, 100.0])


@st.composite
def crowds(draw, max_size=14):
    """`(N, 4)` boxes of sides from nothing to thousands of px, on either side of the origin; some
    touch, some are equal.
    """
    coordinate = st.one_of(
        st.integers(-40, 40).map(float), st.floats(-3000, 3000), st.sampled_from([-1e5, 1e5])
    )
    side = st.one_of(st.sampled_from([0.0, 1.0, 4.0, 16.0, 16.5, 64.0, 5000.0]), st.floats(0, 50))
    rows = [
        (draw(coordinate), draw(coordinate), draw(side), draw(side))
        for _ in range(draw(st.integers(0, max_size)))
    ]
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
    return [
        (i, j)
        for i in range(n)
        for j in range(i + 1, n)
        if group[i] == group[j] and meet(boxes[i], boxes[j], reach)
    ]


def found(portions):
    pairs = [(int(a), int(b)) for i, j in portions for a, b in zip(i, j, strict=True)]
    assert len(set(pairs)) == len(pairs), "a pair came twice"
    return sorted(pairs)


@quick
@given(crowds(), reaches, st.data())
def test_every_pair_of_a_group_that_meets_once_and_no_other(boxes, reach, data):
    group = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes))), np.int64
    )
    assert found(neighbours(boxes, group, reach)) == every_two(boxes, group, reach)
    assert found(neighbours(boxes, None, reach)) == every_two(boxes, np.zeros(len(boxes)), reach)


@quick
@given(crowds(max_size=25), crowds(), reaches, st.integers(1, 3), st.integers(1, 40))
def test_crowded_cells_are_compared_in_blocks(boxes, others, reach, crowd, block):
    expected = found(neighbours(boxes, None, reach)), found(meetings(boxes, others, reach))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CROWD", crowd)
        patch.setattr(module, "BLOCK", block)
        assert (
            found(neighbours(boxes, None, reach)),
            found(meetings(boxes, others, reach)),
        ) == expected


@quick
@given(crowds(max_size=25), st.data())
def test_pairs_of_one_label_may_be_left_out_and_no_others(boxes, data):
    label = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(boxes), max_size=len(boxes))), np.int64
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CROWD", 1)
        patch.setattr(module, "BLOCK", 1)
        some, every = found(neighbours(boxes, label=label)), found(neighbours(boxes))
    assert set(some) <= set(every)
    assert {(i, j) for i, j in every if label[i] != label[j]} <= set(some)


def test_no_more_is_held_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(module, "ROOM", 10)
    monkeypatch.setattr(module, "ROOM_EACH", 2)
    assert module.room(5) == 20
    portions = [(np.arange(12),), (np.arange(8),)]
    assert module.held(iter(portions), 20) == portions
    assert module.held(iter([*portions, (np.arange(1),)]), 20) is None


@quick
@given(crowds(), crowds(), reaches)
def test_every_box_with_every_other_that_it_meets(boxes, others, reach):
    expected = [
        (i, j)
        for i in range(len(boxes))
        for j in range(len(others))
        if meet(boxes[i], others[j], reach)
    ]
    assert found(meetings(boxes, others, reach)) == expected


@quick
@given(crowds(), reaches, st.data())
def test_the_order_of_the_boxes_counts_for_nothing(boxes, reach, data):
    order = np.array(data.draw(st.permutations(range(len(boxes)))), np.int64)
    there = sorted(
        tuple(sorted((int(order[i]), int(order[j]))))
        for i, j in found(neighbours(boxes[order], None, reach))
    )
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
    assert found(neighbours(boxes)) == sorted(
        zip(i[i < j].tolist(), j[i < j].tolist(), strict=True)
    )
    i, j = box.pairs(boxes[:500], boxes[400:])
    assert found(meetings(boxes[:500], boxes[400:])) == sorted(
        zip(i.tolist(), j.tolist(), strict=True)
    )


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
    for pairs in (
        neighbours(none),
        neighbours(one),
        meetings(none, one),
        meetings(one, none),
        meetings(none, none),
    ):
        assert list(pairs) == []
    assert list(neighbours(none, np.empty(0, np.int64), 4.0)) == []


# --- pairs that are alike


def sized(box):
    return box[2] > box[0] and box[3] > box[1]


def meeting(boxes, others, group, other_group):
    """Pairs of one group that share an area."""
    pairs = (
        (i, j) for i in range(len(boxes)) for j in range(len(others)) if group[i] == other_group[j]
    )
    return [
        (i, j)
        for i, j in pairs
        if sized(boxes[i]) and sized(others[j]) and meet(boxes[i], others[j], 0)
    ]


def iou_of(one, other):
    w, h = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    area, area_other = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return w * h / (area + area_other - w * h)


def assert_alike(boxes, others, group, other_group, iou):
    """All that are as alike as asked, once; no other than such as meet."""
    pairs = found(alike(boxes, others, group, other_group, iou))
    expected = meeting(boxes, others, group, other_group)
    assert set(pairs) <= set(expected)
    missed = set(expected) - set(pairs)
    assert not iou or all(iou_of(boxes[i], others[j]) < iou for i, j in missed)
    assert iou or not missed


ious = st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0])
ways = st.sampled_from(["swept", "by the grid", "in steps"])
SETTINGS = {"swept": {}, "by the grid": {"LONG": 0}, "in steps": {"STEP": 3}}


@st.composite
def grouped(draw):
    """Boxes and others, many of them of one size or equal, in groups of any number, far from the
    origin or not.
    """
    boxes, others = draw(crowds()), draw(crowds())
    if len(boxes):  # copies, moved by nothing or by parts of their size
        again = np.array(draw(st.lists(st.integers(0, len(boxes) - 1), max_size=8)), np.int64)
        part = np.array(
            draw(
                st.lists(
                    st.sampled_from([0, 1 / 3, 0.5, 1]), min_size=len(again), max_size=len(again)
                )
            )
        )
        sides = np.tile(boxes[again, 2:] - boxes[again, :2], 2)
        others = np.concatenate([others, boxes[again] + part.reshape(-1, 1) * sides])
    numbers = draw(st.sampled_from([[0], [0, 1], [3, 10**9, 2**40, 2**62]]))
    group, other_group = (
        np.array(draw(st.lists(st.sampled_from(numbers), min_size=n, max_size=n)), np.int64)
        for n in (len(boxes), len(others))
    )
    offset = draw(st.sampled_from([0, 1e6, -1e6]))
    return boxes + offset, others + offset, group, other_group


@quick
@given(grouped(), ious, ways)
def test_every_pair_that_is_alike(given, iou, way):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS[way].items():
            patch.setattr(module, name, value)
        assert_alike(*given, iou)


@pytest.mark.parametrize("way", SETTINGS)
@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("iou", [0.0, 0.5, 0.75])
def test_many_boxes_that_are_alike(monkeypatch, iou, offset, way):
    """Whole pixels, so that many are alike by just as much as asked."""
    for name, value in SETTINGS[way].items():
        monkeypatch.setattr(module, name, value)
    rng = np.random.default_rng(2)
    corners = np.column_stack([rng.integers(0, 40, 500), rng.integers(0, 3, 500)])
    boxes = np.concatenate(
        [
            corners,
            corners + rng.choice([0, 3, 4, 6, 8, 40], (500, 2), p=[0.1, 0.2, 0.3, 0.2, 0.1, 0.1]),
        ],
        axis=1,
    )
    boxes = boxes + offset
    group = rng.integers(0, 5, 500) * 10**14 + 7
    assert_alike(boxes[:300], boxes[250:], group[:300], group[250:], iou)


@pytest.mark.parametrize("way", SETTINGS)
@pytest.mark.parametrize("side", [0.3, 4.0, 7.7])
@pytest.mark.parametrize("offset", [0, 0.1, 1e3, -1e6])
def test_as_far_apart_as_an_iou_allows(monkeypatch, offset, side, way):
    """One within the other, or shifted: an IoU just as asked, or a hair higher or lower."""
    for name, value in SETTINGS[way].items():
        monkeypatch.setattr(module, name, value)
    zero = np.zeros(1, int)
    for iou in (0.1, 0.3, 0.5, 0.75, 0.9):
        wide, narrow, shift = side / iou, side * iou, side * (1 - iou) / (1 + iou)
        for x0, x1 in (
            (side - wide, side),
            (0, wide),
            (side - narrow, side),
            (0, narrow),
            (shift, side + shift),
            (-shift, side - shift),
        ):
            for nudge in (0, 1e-12, -1e-12):
                box, other = np.array([[0, 0, side, 9]]), np.array([[x0 + nudge, 0, x1, 9.0]])
                assert_alike(
                    box + [offset, 0, offset, 0], other + [offset, 0, offset, 0], zero, zero, iou
                )
                assert_alike(
                    other + [offset, 0, offset, 0], box + [offset, 0, offset, 0], zero, zero, iou
                )


def test_groups_do_not_mix_where_keys_lose_their_last_digits():
    group = np.arange(20_000)
    wide, small = (
        np.tile(row, (len(group), 1)) for row in ([[-1e8, 0, 1e8, 1]], [[-1e8, 0, 1 - 1e8, 1]])
    )
    assert found(alike(wide, small, group, group)) == [(k, k) for k in range(len(group))]


def test_detections_ascend():
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 50, (400, 2))
    boxes = np.concatenate([corners, corners + 9], axis=1)
    (portion,) = alike(boxes, boxes[:90], rng.integers(0, 4, 400), rng.integers(0, 4, 90), 0.1)
    assert (np.diff(portion[0]) >= 0).all()


def test_alike_in_steps_holds_no_more(monkeypatch):
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 200, (400, 2))
    boxes, zeros = (
        np.concatenate([corners, corners + rng.uniform(1, 60, (400, 2))], axis=1),
        np.zeros(400, int),
    )
    whole = found(alike(boxes, boxes, zeros, zeros, 0.3))
    monkeypatch.setattr(module, "STEP", 100)
    portions = list(alike(boxes, boxes, zeros, zeros, 0.3))
    assert len(portions) > 20
    assert max(len(i) for i, _ in portions) <= 400
    assert found(portions) == whole


def test_some_groups_go_through_the_grid_and_others_not(monkeypatch):
    rng = np.random.default_rng(5)
    group = np.repeat([4, 9, 2**50], [300, 20, 3])
    corners = rng.uniform(0, 600, (323, 2)) / [10, 1]  # few of those of one column meet
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (323, 2))], axis=1)
    monkeypatch.setattr(module, "LONG", 500)
    called = []
    monkeypatch.setattr(
        module, "meetings", lambda *given: called.append(len(given[0])) or meetings(*given)
    )
    order = rng.permutation(323)
    assert_alike(boxes[order], boxes, group[order], group, 0.2)
    assert called == [300]


def test_a_group_most_of_which_meets_goes_in_blocks_of_whole_rows(monkeypatch):
    rng = np.random.default_rng(6)
    corners = rng.uniform(0, 20, (300, 2))
    boxes, zeros = (
        np.concatenate([corners, corners + rng.uniform(9, 20, (300, 2))], axis=1),
        np.zeros(300, int),
    )
    monkeypatch.setattr(module, "LONG", 500)
    monkeypatch.setattr(module, "BLOCK", 1000)
    monkeypatch.setattr(module, "meetings", lambda *given: pytest.fail("the grid was asked"))
    assert_alike(boxes, boxes[rng.permutation(300)], zeros, zeros, 0.2)
    portions = list(alike(boxes, boxes, zeros, zeros, 0.2))
    assert len(portions) > 20
    assert all(one[0][-1] < other[0][0] for one, other in pairwise(portions))


def test_nothing_is_alike():
    none, box, zero = np.empty((0, 4)), np.array([[0, 0, 4, 4.0]]), np.zeros(1, int)
    for iou in (0.0, 0.5):
        for one, other in ((none, none), (none, box), (box, none)):
            assert list(alike(one, other, zero[: len(one)], zero[: len(other)], iou)) == []
        assert found(alike(box, box, zero, zero + 1, iou)) == []
        for flat in ([0, 0, 0, 4], [0, 0, 4, 0], [2, 2, 2, 2], [4, 0, 0, 4], [4, 4, 0, 0]):
            assert found(alike(box, np.array([flat], float), zero, zero, iou)) == []
            assert found(alike(np.array([flat], float), box, zero, zero, iou)) == []
        assert found(alike(box, box + [4, 0, 4, 0], zero, zero, iou)) == []
        assert found(alike(box, box, zero, zero, iou)) == [(0, 0)]
