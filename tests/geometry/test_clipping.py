from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import (
    SIDE,
    assert_same,
    boxes,
    instances,
    numbers,
    outline,
    painted,
    quick,
    rectangles,
    windows,
)
from tiler.geometry import boxes as box
from tiler.geometry import polygons
from tiler.geometry.clipping import clip, largest_share
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.types import TASKS

RECT = np.array([0, 0, 100, 100.0])


def segment(*rings):
    """One object of these rings."""
    many = Rings.of([[np.array(ring, np.float64) for ring in rings]])
    return Instances(np.array([0]), many.bounds(), rings=many, task="segment")


def turned(*corners):
    """One OBB."""
    rings = Rings.from_quads(np.array([corners], np.float64))
    return Instances(np.array([0]), rings.bounds(), rings=rings, task="obb")


def boxed(*xyxy, task="detect", keypoints=None):
    points = None if keypoints is None else np.array([keypoints], np.float64)
    return Instances(np.array([0]), np.array([xyxy], np.float64), keypoints=points, task=task)


def of_task(task, x0, y0, x1, y1):
    """The same upright rectangle as a label of each task."""
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    if task == "segment":
        return segment(corners)
    if task == "obb":
        return turned(*corners)
    return boxed(x0, y0, x1, y1, task=task, keypoints=[[0, 0, 0]] if task == "pose" else None)


# --- properties


@quick
@given(instances(), windows(), st.sampled_from(["aligned", "minrect", "full"]))
def test_the_visible_part_is_the_area_that_shapely_cuts_out(rows, window, obb):
    seen = clip(rows, window.bounds, obb)
    for i in range(len(rows)):
        whole = outline(rows, i)
        part = whole.intersection(shapely.box(*window.bounds))
        assert seen.visible[i] == pytest.approx(part.area / whole.area, abs=1e-9)


@quick
@given(instances(), windows())
def test_what_lies_inside_is_untouched(rows, window):
    inside = box.inside(rows.boxes, window.bounds)
    rows = replace(rows, keypoints=None) if rows.task == "pose" else rows  # these may lie anywhere
    assert_same(clip(rows, window.bounds).take(inside), rows.take(inside))


@quick
@given(instances(), windows())
def test_clipping_never_grows(rows, window):
    seen = clip(rows, window.bounds)
    shown = seen.visible > 0
    assert (seen.visible >= 0).all() and (seen.visible <= 1).all()
    if rows.task != "obb":
        assert box.inside(seen.boxes, rows.boxes)[shown].all()
        assert box.inside(seen.boxes, window.bounds)[shown].all()
    if rows.task == "segment":
        for i in np.flatnonzero(shown):
            assert outline(seen, i).difference(outline(rows, i)).area < 1e-6
            assert outline(seen, i).difference(shapely.box(*window.bounds)).area < 1e-9


@quick
@given(instances(task="segment"), windows())
def test_a_clipped_outline_paints_the_same_pixels_within_the_window(rows, window):
    seen = clip(rows, window.bounds)
    here = np.s_[window.y : window.bottom, window.x : window.right]
    for i in range(len(rows)):
        expected = np.zeros((SIDE, SIDE), bool)
        expected[here] = painted(rows.rings[i], SIDE, SIDE)[here]
        if seen.visible[i] > 0:
            np.testing.assert_array_equal(painted(seen.rings[i], SIDE, SIDE), expected)
        else:
            assert not expected.any()


@quick
@given(instances(task="segment"), windows())
def test_the_box_of_a_cut_outline_is_the_box_of_what_is_left(rows, window):
    seen = clip(rows, window.bounds)
    for i in np.flatnonzero((seen.visible > 1e-6) & (seen.visible < 1)):
        left = outline(rows, i).intersection(shapely.box(*window.bounds))
        areas = shapely.union_all([p for p in shapely.get_parts(left) if p.area > 0])
        np.testing.assert_allclose(seen.boxes[i], areas.bounds, atol=1e-9)


@quick
@given(instances(), windows(), windows())
def test_clipping_twice_is_clipping_to_the_common_part(rows, window, other):
    common = window.intersection(other)
    assume(common and rows.task != "obb")
    once = clip(rows, common.bounds)
    twice = clip(clip(rows, window.bounds), other.bounds)
    shown = once.visible > 1e-6
    np.testing.assert_allclose(twice.boxes[shown], once.boxes[shown], atol=1e-9)
    if rows.keypoints is not None:
        np.testing.assert_array_equal(twice.keypoints[shown], once.keypoints[shown])
    for i in np.flatnonzero(shown) if rows.rings else ():
        assert outline(twice, i).symmetric_difference(outline(once, i)).area < 1e-6


@quick
@given(instances(), windows())
def test_the_visible_part_is_measured_on_the_whole_object_however_often_it_is_cut(rows, window):
    assume(rows.task != "obb")
    once = clip(rows, window.bounds)
    once = once.take(once.visible > 1e-6)
    np.testing.assert_allclose(clip(once, window.bounds).visible, once.visible, atol=1e-9)


@quick
@given(instances(min_size=1), st.data())
def test_each_instance_has_its_own_rectangle(rows, data):
    rects = np.array([data.draw(windows()).bounds for _ in range(len(rows))])
    seen = clip(rows, rects)
    for i in range(len(rows)):
        one = np.array([i])
        alone = clip(rows.take(one), rects[i])
        if alone.visible[0] > 0:
            assert_same(seen.take(one), alone)


@quick
@given(instances(), windows(), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_it_does_not_matter_where_the_picture_lies(rows, window, dx, dy):
    here = clip(rows, window.bounds)
    there = clip(rows.moved(dx, dy), window.bounds + np.array([dx, dy, dx, dy]))
    np.testing.assert_allclose(there.visible, here.visible, atol=1e-9)
    shown = here.visible > 1e-6
    if rows.task != "obb":
        np.testing.assert_allclose(there.boxes[shown], here.moved(dx, dy).boxes[shown], atol=1e-6)


# --- touching


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "where",
    [
        (100, 20, 130, 40),
        (-30, 20, 0, 40),
        (20, 100, 40, 130),
        (20, -30, 40, 0),
        (100, 100, 130, 130),
        (-30, -30, 0, 0),
        (-9, 100, 0, 109),
    ],
)
def test_touching_is_not_being_in(task, where):
    """At the corners a polygon and a tile share a point: another tool's run ends there."""
    assert clip(of_task(task, *where), RECT).visible.tolist() == [0]


@pytest.mark.parametrize("task", TASKS)
def test_a_tenth_of_a_pixel_is_being_in(task):
    seen = clip(of_task(task, 99.9, 20, 109.9, 40), RECT)
    assert seen.visible.tolist() == pytest.approx([0.01])
    np.testing.assert_allclose(seen.boxes, [[99.9, 20, 100, 40]])


@pytest.mark.parametrize("task", TASKS)
def test_what_is_larger_than_the_rectangle_fills_it(task):
    seen = clip(of_task(task, -50, -50, 150, 150), RECT)
    assert seen.boxes.tolist() == [[0, 0, 100, 100]]
    assert seen.visible.tolist() == [0.25]


def test_a_thin_diagonal_is_not_where_only_its_bounding_box_is():
    diagonal = [(0, 0), (4, 0), (1000, 996), (1000, 1000), (996, 1000), (0, 4)]
    corner = np.array([640, 0, 1000, 360.0])
    assert clip(segment(diagonal), corner).visible.tolist() == [0]
    assert clip(turned((2, -2), (1002, 998), (998, 1002), (-2, 2)), corner).visible.tolist() == [0]
    assert clip(boxed(0, 0, 1000, 1000), corner).visible[0] > 0.1


# --- outlines in several parts, with holes, crossing themselves

# A mass outside on three sides that reaches in with a spike from each.
SPIKES = [
    *[
        (-50, -50),
        (150, -50),
        (150, 100),
        (100, 100),
        (100, 60),
        (70, 50),
        (100, 40),
        (100, 0),
        (60, 0),
        (50, 30),
        (40, 0),
    ],
    *[(0, 0), (0, 40), (30, 50), (0, 60), (0, 100), (-50, 100)],
]


def test_spikes_from_three_sides_are_three_parts_of_right_area():
    seen = clip(segment(SPIKES), RECT)
    pieces, owner = polygons.parts(seen.rings)
    assert owner.tolist() == [0, 0, 0]
    assert shapely.area(pieces.geometry()).tolist() == pytest.approx([300, 300, 300])
    assert seen.visible[0] * seen.area[0] == pytest.approx(900)
    assert seen.boxes.tolist() == [[0, 0, 100, 60]]


def donut(x, y):
    square = np.array([[0, 0], [60, 0], [60, 60], [0, 60.0]])
    return square + np.array([x, y]), square / 3 + np.array([x + 20, y + 20])


@pytest.mark.parametrize("bridged", [False, True])
def test_a_donut_keeps_its_hole(bridged):
    rings = donut(-10, 20)
    seen = clip(segment(polygons.single_ring(rings)) if bridged else segment(*rings), RECT)
    assert seen.area.tolist() == pytest.approx([3200])
    part = seen.rings.geometry()[0]
    assert part.area == pytest.approx(50 * 60 - 400)
    assert not part.contains(shapely.Point(20, 50))
    assert seen.visible[0] == pytest.approx(2600 / 3200)


@pytest.mark.parametrize("bridged", [False, True])
def test_a_donut_cut_through_its_hole_is_open(bridged):
    rings = donut(-30, 20)
    seen = clip(segment(polygons.single_ring(rings)) if bridged else segment(*rings), RECT)
    assert len(seen.rings[0]) == 1
    assert seen.rings.geometry()[0].area == pytest.approx(30 * 60 - 200)


@pytest.mark.parametrize("bridged", [False, True])
def test_a_tile_within_the_hole_shows_nothing(bridged):
    rings = np.array(donut(0, 0)) * 10 - 250
    seen = clip(segment(polygons.single_ring(rings)) if bridged else segment(*rings), RECT)
    assert seen.visible.tolist() == [0]


def test_a_bow_tie_keeps_both_wings():
    seen = clip(segment([(-10, 20), (50, 80), (50, 20), (-10, 80)]), RECT)
    part = seen.rings.geometry()[0]
    assert seen.area.tolist() == [1800]
    assert part.area == pytest.approx(900 + 400)
    assert len(polygons.parts(seen.rings)[0]) == 2


def test_two_parts_of_which_one_is_outside_leave_one():
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10.0]])
    seen = clip(segment(square + 20, square + 120), RECT)
    assert seen.visible.tolist() == [0.5]
    assert seen.boxes.tolist() == [[20, 20, 30, 30]]
    assert len(seen.rings[0]) == 1


# --- keypoints


def test_keypoints_outside_become_0_0_0_and_unlabelled_ones_stay():
    points = [[50, 50, 2], [150, 50, 2], [50, -1, 1], [0, 0, 0], [0, 0, 2], [99.9, 99.9, 1]]
    seen = clip(boxed(-20, -20, 180, 100, task="pose", keypoints=points), RECT)
    assert seen.keypoints[0].tolist() == [
        [50, 50, 2],
        [0, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
        [0, 0, 2],
        [99.9, 99.9, 1],
    ]


def test_a_keypoint_on_the_edge_between_two_tiles_is_in_one_of_them():
    person = boxed(50, 20, 150, 80, task="pose", keypoints=[[100, 50, 2]])
    left, right = clip(person, RECT), clip(person, np.array([100, 0, 200, 100.0]))
    assert left.keypoints.tolist() == [[[0, 0, 0]]]
    assert right.keypoints.tolist() == [[[100, 50, 2]]]


def test_a_keypoint_on_the_border_of_a_box_that_lies_inside_stays():
    """A label at the right border of its image has x = 1.0, and no tile further right would show
    it.
    """
    person = boxed(60, 20, 100, 100, task="pose", keypoints=[[100, 50, 2], [80, 100, 2]])
    assert clip(person, RECT).keypoints.tolist() == person.keypoints.tolist()


# --- OBB


@quick
@given(st.lists(rectangles(), min_size=1, max_size=6), windows())
def test_an_aligned_obb_keeps_its_direction_and_encloses_what_shows(quads, window):
    rings = Rings.from_quads(np.array(quads))
    rows = Instances(np.zeros(len(quads), np.int64), rings.bounds(), rings=rings, task="obb")
    seen = clip(rows, window.bounds, "aligned")
    for quad, cut, visible in zip(quads, seen.rings.quads(), seen.visible, strict=True):
        if visible < 1e-4:
            continue
        part = shapely.Polygon(quad).intersection(shapely.box(*window.bounds))
        assert part.difference(shapely.Polygon(cut).buffer(1e-6)).area == 0
        sides = np.roll(cut, -1, axis=0) - cut
        assert abs(sides[0] @ sides[1]) < 1e-6
        for side, own in zip(sides, np.roll(quad, -1, axis=0) - quad, strict=True):
            if np.hypot(*side) > 0.1:
                off = np.degrees(np.arctan2(*side[::-1]) - np.arctan2(*own[::-1]))
                assert abs((off + 180) % 360 - 180) < 1e-6 + 1e-7 / np.hypot(*side)


def test_random_cuts_keep_the_direction_to_a_millionth_of_a_degree():
    rng = np.random.default_rng(0)
    n = 4000
    size, angle, centre = (
        rng.uniform(10, 120, (n, 2)),
        rng.uniform(0, 360, n),
        rng.uniform(0, 100, (n, 2)),
    )
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    local = size[:, None] * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    turn = np.stack([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)], axis=1)
    quads = local @ turn + centre[:, None]
    rings = Rings.from_quads(quads)
    rows = Instances(np.zeros(n, np.int64), rings.bounds(), rings=rings, task="obb")
    seen = clip(rows, RECT)
    cut = (seen.visible > 0.01) & (seen.visible < 1)
    assert cut.sum() > n / 2
    first = (seen.rings.quads()[:, 1] - seen.rings.quads()[:, 0])[cut]
    off = np.degrees(np.arctan2(first[:, 1], first[:, 0])) - angle[cut]
    assert np.abs((off + 45) % 90 - 45).max() < 1e-6


@pytest.mark.parametrize("obb", ["aligned", "minrect", "full"])
def test_the_corners_of_a_whole_obb_are_untouched(obb):
    whole = turned((50, 10), (90, 50), (50, 90), (10, 50))
    assert_same(clip(whole, RECT, obb), whole)


@pytest.mark.parametrize("obb", ["aligned", "minrect", "full"])
def test_a_trapezoid_that_lies_inside_stays_one(obb):
    whole = turned((30, 10), (60, 10), (90, 50), (10, 50))
    assert_same(clip(whole, RECT, obb), whole)


def test_a_cut_obb_with_full_corners_keeps_them():
    cut = turned((50, -40), (90, 0), (50, 40), (10, 0))
    seen = clip(cut, RECT, "full")
    assert seen.rings.quads().tolist() == cut.rings.quads().tolist()
    assert seen.visible.tolist() == pytest.approx([0.5])


@quick
@given(rectangles(), windows())
def test_the_smallest_rectangle_around_a_cut_obb_is_no_larger_than_the_aligned_one(quad, window):
    rows = turned(*quad)
    aligned, smallest = clip(rows, window.bounds, "aligned"), clip(rows, window.bounds, "minrect")
    if aligned.visible[0] > 1e-6:
        assert outline(smallest, 0).area <= outline(aligned, 0).area * (1 + 1e-9)
        part = outline(rows, 0).intersection(shapely.box(*window.bounds))
        assert part.difference(outline(smallest, 0).buffer(1e-6)).area == 0


def test_the_diamond_that_loses_a_corner_is_present():
    """Cut to six corners, DOTA's kit leaves it out."""
    diamond = turned((950, 850), (1050, 950), (950, 1050), (850, 950))
    seen = clip(diamond, np.array([0, 0, 1024, 1024.0]))
    assert seen.visible[0] == pytest.approx(1 - 2 * 26**2 / 20000)
    assert box.inside(
        seen.boxes, np.array([850 - 1e-9, 850 - 1e-9, 1050 + 1e-9, 1050 + 1e-9])
    ).all()


# --- how much can be shown at best


@quick
@given(st.lists(boxes(smallest=2), min_size=1, max_size=5), numbers(10, 100), numbers(10, 100))
def test_the_largest_share_is_the_best_of_any_place(many, width, height):
    many = np.array(many)
    sides = many[:, 2:] - many[:, :2]
    best = np.minimum(sides, [width, height]).prod(axis=1) / sides.prod(axis=1)
    rects = np.tile([0, 0, width, height], (len(many), 1))
    np.testing.assert_allclose(largest_share(many, rects), best, rtol=1e-9)


def test_what_fits_can_be_shown_whole():
    assert largest_share(
        np.array([[0, 0, 100, 100], [0, 0, 5, 5], [3, 3, 3, 3.0]]), np.tile(RECT, (3, 1))
    ).tolist() == [1, 1, 1]
