import time
from functools import reduce

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import (
    SIDE,
    apart_or_nested,
    numbers,
    outlines,
    painted,
    quick,
    rectangles,
    simple_rings,
    unlike_rectangles,
    wild_rings,
)
from tiler.geometry import polygons
from tiler.geometry.polygons import Rings

SQUARE = np.array([[0, 0], [9, 0], [9, 9], [0, 9.0]])
HOLE = np.array([[3, 3], [6, 3], [6, 6], [3, 6.0]])
BOW_TIE = np.array([[0, 0], [4, 4], [4, 0], [0, 4.0]])
PENTAGRAM = (
    np.array([[np.sin(k * 4 * np.pi / 5), -np.cos(k * 4 * np.pi / 5)] for k in range(5)]) * 50 + 50
)

objects = st.lists(st.lists(simple_rings(), max_size=3), max_size=5)
points = st.lists(st.tuples(numbers(0, SIDE), numbers(0, SIDE)), min_size=1, max_size=9).map(
    np.array
)


def area(rings):
    return shapely.area(Rings.of([rings]).geometry())[0]


def as_lists(rings):
    return [[ring.tolist() for ring in rings[i]] for i in range(len(rings))]


def plain(many):
    return [[ring.tolist() for ring in rings] for rings in many]


def assert_same_area(one, other, tolerance=1e-6):
    off = shapely.area(shapely.symmetric_difference(one, other))
    np.testing.assert_array_less(off, tolerance * (1 + shapely.area(other)))


# --- the columns against lists


@quick
@given(objects)
def test_rings_are_the_lists_they_were_made_of(many):
    rings = Rings.of(many)
    assert len(rings) == len(many)
    assert as_lists(rings) == plain(many)
    assert rings.owners().tolist() == [
        i for i, obj in enumerate(many) for ring in obj for _ in ring
    ]


@quick
@given(objects.filter(len), st.data())
def test_take_is_that_of_a_list(many, data):
    index = data.draw(st.lists(st.integers(0, len(many) - 1), max_size=7))
    mask = data.draw(st.lists(st.booleans(), min_size=len(many), max_size=len(many)))
    rings = Rings.of(many)
    assert as_lists(rings.take(np.array(index, np.int64))) == plain([many[i] for i in index])
    assert as_lists(rings.take(np.array(mask))) == plain(
        [obj for obj, taken in zip(many, mask, strict=True) if taken]
    )


@quick
@given(objects.filter(len), st.data())
def test_put_is_that_of_a_list(many, data):
    index = data.draw(st.lists(st.integers(0, len(many) - 1), unique=True))
    others = data.draw(
        st.lists(st.lists(simple_rings(), max_size=2), min_size=len(index), max_size=len(index))
    )
    expected = list(many)
    for i, other in zip(index, others, strict=True):
        expected[i] = other
    rings = Rings.of(many)
    assert as_lists(rings.put(np.array(index, np.int64), Rings.of(others))) == plain(expected)
    assert as_lists(rings) == plain(many)


@quick
@given(st.lists(objects, max_size=3))
def test_concatenate_is_that_of_lists(several):
    together = polygons.concatenate([Rings.of(many) for many in several])
    assert as_lists(together) == plain([obj for many in several for obj in many])


@quick
@given(objects)
def test_bounds_are_the_least_and_largest_coordinates(many):
    for obj, bounds in zip(many, Rings.of(many).bounds(), strict=True):
        if obj:
            xy = np.concatenate(obj)
            assert bounds.tolist() == [*xy.min(axis=0), *xy.max(axis=0)]
        else:
            assert np.isnan(bounds).all()


@quick
@given(objects, st.integers(-50, 50))
def test_each_object_moves_by_its_own_number(many, dx):
    dy = np.arange(len(many)) * 3.0
    moved = Rings.of(many).moved(dx, dy)
    assert as_lists(moved) == plain(
        [[ring + np.array([dx, dy[i]]) for ring in obj] for i, obj in enumerate(many)]
    )


def test_no_objects_are_ordinary():
    none = Rings.of([])
    assert (
        len(none)
        == len(none.take(np.empty(0, np.int64)))
        == len(polygons.concatenate([]))
        == len(none.geometry())
        == 0
    )
    assert none.bounds().shape == (0, 4)
    assert none.moved(1, 2).coords.shape == (0, 2)
    assert Rings.from_geometry(none.geometry()).coords.shape == (0, 2)
    assert len(polygons.parts(none)[0]) == len(polygons.self_crossing(none)) == 0


@quick
@given(st.lists(rectangles(), max_size=4))
def test_quads_come_back(quads):
    quads = np.array(quads).reshape(-1, 4, 2)
    np.testing.assert_array_equal(Rings.from_quads(quads).quads(), quads)


# --- areas


@quick
@given(st.lists(outlines(), min_size=1, max_size=3))
def test_an_area_is_what_even_odd_paints(many):
    valid = Rings.from_geometry(Rings.of(many).geometry())
    for i, rings in enumerate(many):
        np.testing.assert_array_equal(painted(valid[i], SIDE, SIDE), painted(rings, SIDE, SIDE))


@quick
@given(st.lists(apart_or_nested(), max_size=4))
def test_geometry_to_rings_and_back_is_the_same_area(many):
    geometry = Rings.of(many).geometry()
    assert shapely.is_valid(geometry).all()
    assert_same_area(Rings.from_geometry(geometry).geometry(), geometry)


@quick
@given(st.lists(st.tuples(*[st.integers(0, 8)] * 2), min_size=3, max_size=8))
def test_an_outline_that_runs_back_along_itself_is_what_even_odd_paints(corners):
    ring = np.array(corners) * 10.0
    valid = Rings.from_geometry(Rings.of([[ring]]).geometry())
    np.testing.assert_array_equal(painted(valid[0], 90, 90), painted([ring], 90, 90))


def test_a_spike_across_a_mouth_does_not_close_it():
    mouth = np.array([[0, 0], [9, 0], [9, 3], [3, 3], [3, 6], [9, 6], [9, 9], [0, 9.0]])
    assert area([mouth]) == 63
    assert area([np.insert(mouth, 3, [[8, 8], [9, 3]], axis=0)]) == pytest.approx(63)


def test_what_is_not_an_area_is_left_out():
    square = shapely.Polygon(SQUARE)
    mixed = shapely.GeometryCollection(
        [shapely.MultiPolygon([square, shapely.Polygon(SQUARE + 20)]), shapely.LineString(HOLE)]
    )
    rings = Rings.from_geometry(
        np.array([shapely.Point(1, 1), square, shapely.LineString(HOLE), mixed, shapely.Polygon()])
    )
    assert [len(rings[i]) for i in range(len(rings))] == [0, 1, 0, 2, 0]


@pytest.mark.parametrize(
    "ring",
    [SQUARE[:0], SQUARE[:1], SQUARE[:2], SQUARE[[0, 0, 0]], np.array([[0, 0], [1, 1], [2, 2.0]])],
)
def test_an_outline_without_area_has_area_0(ring):
    assert area([ring]) == 0
    assert area([SQUARE, ring]) == 81
    assert len(polygons.parts(Rings.of([[ring]]))[0]) == 0


def test_a_bow_tie_keeps_both_wings():
    assert area([BOW_TIE]) == 8  # 4 by buffer(0)


def test_a_pentagram_is_hollow():
    inside = Rings.of([[PENTAGRAM]]).geometry()[0]
    assert not inside.contains(shapely.Point(50, 50))
    assert len(shapely.get_parts(inside)) == 5


def test_a_donut_has_its_hole_however_it_is_written():
    assert area([SQUARE, HOLE]) == area([HOLE, SQUARE]) == 72
    key_hole = np.concatenate([SQUARE[[0, 1, 2, 3, 0]], HOLE[[0, 3, 2, 1, 0]]])
    assert area([key_hole]) == 72
    assert area([key_hole[::-1]]) == 72


def test_a_bridged_outline_is_one_ring_among_others():
    pair = polygons.single_ring([SQUARE, SQUARE + 20])
    assert area([pair, SQUARE + 40]) == 243
    assert area([pair, HOLE + 20]) == 153


def test_an_island_in_a_hole_is_filled():
    assert area([SQUARE, HOLE, HOLE / 3 + 3]) == 73


# --- one ring for many


@quick
@given(apart_or_nested())
def test_a_single_ring_fills_the_same_area(rings):
    joined = polygons.single_ring(rings)
    np.testing.assert_array_equal(painted([joined], SIDE, SIDE), painted(rings, SIDE, SIDE))
    assert_same_area(Rings.of([[joined]]).geometry()[0], Rings.of([rings]).geometry()[0])


@quick
@given(apart_or_nested())
def test_a_single_ring_has_no_point_of_its_own(rings):
    joined = polygons.single_ring(rings)
    assert {tuple(p) for p in joined.tolist()} == {
        tuple(p) for ring in rings for p in ring.tolist()
    }
    assert len(joined) == sum(map(len, rings)) + 2 * (len(rings) - 1)


def test_one_ring_stays_as_it_is():
    np.testing.assert_array_equal(polygons.single_ring([SQUARE]), SQUARE)


def test_a_bridge_across_another_part_adds_nothing():
    """The nearest corners of two squares lie on both sides of a long bar, which is joined at its
    far end.
    """
    upper = np.array([[100, 0], [102, 0], [102, 2], [100, 2.0]])
    bar = np.array([[0, 5], [200, 5], [200, 6], [0, 6.0]])
    rings = [upper, upper + np.array([0, 10]), bar]
    joined = polygons.single_ring(rings)
    assert area(rings) == 208
    np.testing.assert_array_equal(painted([joined], SIDE, 20), painted(rings, SIDE, 20))
    assert area([joined]) == pytest.approx(208)


# --- parts


@quick
@given(st.lists(apart_or_nested(), max_size=4))
def test_parts_are_whole_polygons_that_make_up_the_object(many):
    rings = Rings.of(many)
    pieces, owner = polygons.parts(rings)
    geometry = pieces.geometry()
    assert set(shapely.get_type_id(geometry)) <= {polygons.POLYGON}
    assert owner.tolist() == sorted(owner.tolist())
    for i, whole in enumerate(rings.geometry()):
        assert_same_area(shapely.union_all(geometry[owner == i]), whole)
        assert (owner == i).sum() == shapely.get_num_geometries(whole)


def test_a_donut_is_one_part_and_a_pair_is_two():
    pieces, owner = polygons.parts(Rings.of([[SQUARE, HOLE], [SQUARE, SQUARE + 20]]))
    assert owner.tolist() == [0, 1, 1]
    assert shapely.area(pieces.geometry()).tolist() == [72, 81, 81]


def test_parts_joined_by_a_bridge_are_parts():
    """make_valid gives such an outline as a collection of a multi-polygon and a line."""
    pieces, owner = polygons.parts(Rings.of([[polygons.single_ring([SQUARE, SQUARE + 20])]]))
    assert owner.tolist() == [0, 0]
    assert shapely.area(pieces.geometry()).tolist() == [81, 81]


def test_the_wings_of_a_bow_tie_are_parts():
    pieces, owner = polygons.parts(Rings.of([[SQUARE], [BOW_TIE]]))
    assert owner.tolist() == [0, 1, 1]
    assert shapely.area(pieces.geometry()).tolist() == [81, 4, 4]


# --- what crosses itself


@quick
@given(st.lists(st.one_of(wild_rings(), simple_rings()), max_size=4))
def test_self_crossing_is_not_valid_for_shapely(rings):
    crossing = polygons.self_crossing(Rings.of([[ring] for ring in rings]))
    assert crossing.tolist() == [not shapely.Polygon(ring).is_valid for ring in rings]


def test_bow_ties_and_key_holes_cross_themselves_and_squares_do_not():
    rings = Rings.of(
        [
            [SQUARE],
            [BOW_TIE],
            [],
            [polygons.single_ring([SQUARE, HOLE])],
            [SQUARE, HOLE],
            [PENTAGRAM],
        ]
    )
    assert polygons.self_crossing(rings).tolist() == [False, True, False, True, False, True]


# --- rectangles


def smallest_area(xy):
    """By trying the direction of every side of the hull."""
    hull = shapely.MultiPoint(xy).convex_hull
    if hull.area == 0:
        return 0.0
    corners = shapely.get_coordinates(hull)
    found = []
    for side in np.diff(corners, axis=0):
        u = side / np.hypot(*side)
        found.append(np.ptp(corners @ u) * np.ptp(corners @ [-u[1], u[0]]))
    return min(found)


@quick
@given(points)
def test_the_smallest_rectangle_is_smallest_right_angled_and_around_all_points(xy):
    (quad,) = polygons.smallest_rectangles(xy[None])
    sides = np.roll(quad, -1, axis=0) - quad
    assert abs(sides[0] @ sides[1]) < 1e-6 * (1 + np.hypot(*sides[0]) * np.hypot(*sides[1]))
    np.testing.assert_allclose(quad[0] + quad[2], quad[1] + quad[3], atol=1e-6)
    assert np.hypot(*sides[0]) * np.hypot(*sides[1]) == pytest.approx(
        smallest_area(xy), rel=1e-6, abs=1e-6
    )
    assert (
        max(shapely.distance(shapely.convex_hull(shapely.MultiPoint(quad)), shapely.points(xy)))
        < 1e-6
    )


@quick
@given(st.lists(rectangles(), min_size=1, max_size=5))
def test_the_axes_of_a_rectangle_are_its_own(quads):
    quads = np.array(quads)
    along, across = polygons.axes(quads)
    first, last = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]
    np.testing.assert_allclose(along, first / np.hypot(*first.T)[:, None], atol=1e-9)
    np.testing.assert_allclose(across, last / np.hypot(*last.T)[:, None], atol=1e-9)


@quick
@given(
    st.lists(
        st.lists(st.tuples(numbers(0, 99), numbers(0, 99)), min_size=4, max_size=4), max_size=4
    )
)
def test_the_axes_of_any_four_corners_are_units_at_right_angles(quads):
    quads = np.array(quads, np.float64).reshape(-1, 4, 2)
    along, across = polygons.axes(quads)
    np.testing.assert_allclose(np.hypot(*along.T), 1, atol=1e-9)
    np.testing.assert_allclose(np.hypot(*across.T), 1, atol=1e-9)
    np.testing.assert_allclose((along * across).sum(axis=1), 0, atol=1e-9)


def test_a_trapezoid_has_the_axes_of_its_smallest_rectangle():
    trapezoid = np.array([[30, 0], [60, 0], [90, 40], [0, 40.0]])
    along, across = polygons.axes(trapezoid[None])
    (quad,) = polygons.bounding_rectangles(Rings.from_quads(trapezoid[None]), along, across)
    assert shapely.Polygon(quad).area == pytest.approx(smallest_area(trapezoid))


@quick
@given(
    st.lists(st.lists(simple_rings(), min_size=1, max_size=2), min_size=1, max_size=4),
    numbers(0, 6.283),
)
def test_a_bounding_rectangle_is_that_of_the_turned_outline(many, angle):
    c, s = np.cos(angle), np.sin(angle)
    along, across = np.tile([c, s], (len(many), 1)), np.tile([-s, c], (len(many), 1))
    quads = polygons.bounding_rectangles(Rings.of(many), along, across)
    for rings, quad in zip(many, quads, strict=True):
        turned = shapely.MultiPoint(np.concatenate(rings) @ np.array([[c, -s], [s, c]]))
        np.testing.assert_allclose(
            shapely.MultiPoint(quad @ np.array([[c, -s], [s, c]])).bounds, turned.bounds, atol=1e-9
        )
        np.testing.assert_allclose(
            quad[1] - quad[0], np.hypot(*(quad[1] - quad[0])) * along[0], atol=1e-9
        )


def test_a_thousand_holes_are_joined_in_seconds_and_keep_their_area():
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(40)), axis=-1).reshape(-1, 2) * 3.0 + 1
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    outer = np.array([[0, 0], [121, 0], [121, 121], [0, 121.0]])
    start = time.process_time()
    ring = polygons.single_ring([outer, *(square + corner for corner in grid)])
    assert time.process_time() - start < 5
    assert shapely.area(Rings.of([[ring]]).geometry())[0] == pytest.approx(121 * 121 - len(grid))


# --- what the corners of an OBB mean


@quick
@given(st.integers(0, 10**6))
def test_the_rectangle_of_any_corners_is_the_smallest_one_in_their_order(seed):
    quads = unlike_rectangles(np.random.default_rng(seed), 9)
    for quad, rectangle in zip(quads, polygons.rectangles(quads), strict=True):
        area = shapely.Polygon(rectangle).area
        assert area == pytest.approx(smallest_area(quad))
        assert shapely.Polygon(rectangle).buffer(1e-6).covers(shapely.MultiPoint(quad))
        orders = [np.roll(way, k, axis=0) for way in (rectangle, rectangle[::-1]) for k in range(4)]
        assert ((rectangle - quad) ** 2).sum() <= min(
            ((other - quad) ** 2).sum() for other in orders
        ) + 1e-6


@quick
@given(rectangles())
def test_the_rectangle_of_a_rectangle_is_itself_to_the_last_bit(quad):
    for corners in (quad, quad[::-1], np.roll(quad, 1, axis=0)):
        np.testing.assert_array_equal(polygons.rectangles(corners[None])[0], corners)


@quick
@given(st.integers(0, 10**6))
def test_centre_sides_and_angle_give_the_rectangle(seed):
    quads = unlike_rectangles(np.random.default_rng(seed), 9)
    for quad, (x, y, w, h, angle) in zip(
        polygons.rectangles(quads), polygons.xywhr(quads), strict=True
    ):
        assert w >= h
        assert -np.pi / 4 <= angle < 3 * np.pi / 4
        along, across = (
            np.array([np.cos(angle), np.sin(angle)]) * w / 2,
            np.array([-np.sin(angle), np.cos(angle)]) * h / 2,
        )
        turned = shapely.MultiPoint(
            [np.array([x, y]) + i * along + j * across for i in (-1, 1) for j in (-1, 1)]
        )
        assert shapely.hausdorff_distance(turned, shapely.MultiPoint(quad)) < 1e-6


EQUALLY_SMALL = [
    [746, 637, 730, 623, 760, 584, 778, 599],
    [533, 532, 531, 494, 560, 490, 565, 530],
    [723, 707, 699, 740, 685, 729, 706, 696],
]


def test_of_equally_small_rectangles_it_is_that_of_opencv():
    """As oracles/obb_quads has it: all three are ties, in which rounding to float32 decides, or the
    angle.
    """
    quads = np.array(EQUALLY_SMALL, float).reshape(-1, 4, 2)
    np.testing.assert_allclose(
        polygons.xywhr(quads)[:, 4] % (np.pi / 2), [0.6947, 1.5084, 0.5743], atol=1e-4
    )


def test_whatever_opencv_is_installed_agrees_but_for_ties():
    cv2 = pytest.importorskip(
        "cv2", reason="opencv is not installed; oracles/obb_quads holds what it says"
    )
    quads = unlike_rectangles(np.random.default_rng(0), 3000)
    found = polygons.xywhr(quads)
    for quad, (x, y, w, h, angle) in zip(quads, found, strict=True):
        (cx, cy), sides, degrees = cv2.minAreaRect(quad.astype(np.float32))
        assert w * h == pytest.approx(sides[0] * sides[1], rel=1e-5)
        turn = abs((angle - np.radians(degrees) + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        tie = turn > 1e-3
        # of two edges that are nearly parallel, either may be the rectangle's, which turns it a bit
        close = 2e-3 + turn * max(sides)
        assert tie or (x, y) == pytest.approx((cx, cy), abs=close)


@pytest.mark.parametrize(
    "quad",
    [[[3, 3]] * 4, [[0, 0], [4, 4], [2, 2], [4, 4]], [[0, 0], [0, 0], [4, 0], [4, 2]]],
    ids=str,
)
def test_corners_on_a_spot_or_a_line_have_a_rectangle_too(quad):
    corners = np.array(quad, float)
    (rectangle,) = polygons.rectangles(corners[None])
    assert np.isfinite(rectangle).all()
    np.testing.assert_allclose(shapely.Polygon(rectangle).area, smallest_area(corners), atol=1e-9)
    for axis in polygons.axes(corners[None]):
        assert np.hypot(*axis[0]) == pytest.approx(1)


@quick
@given(st.lists(simple_rings(), min_size=1, max_size=7), st.integers(1, 4))
def test_many_rings_fill_the_same_two_by_two(rings, times):
    """Rings that cross, hold or touch each other, or lie apart, as many of them do."""
    moved = [ring + [900.0 * k, 0] for k in range(times) for ring in rings] + [
        np.array([[0, 0], [9, 0], [9, 9], [0, 9.0]]) - 50
    ]
    (got,) = Rings.of([moved]).geometry()
    expected = reduce(shapely.symmetric_difference, Rings.of([[ring] for ring in moved]).geometry())
    assert got.is_valid
    assert shapely.area(shapely.symmetric_difference(got, expected)) <= 1e-6


def test_the_rectangle_around_points_that_float32_cannot_tell_apart():
    (quad,) = polygons.smallest_rectangles(np.array([[[0, 0], [4, 0], [4, 1e-300]]]))
    np.testing.assert_allclose(quad.min(axis=0), [0, 0], atol=1e-9)
    np.testing.assert_allclose(quad.max(axis=0), [4, 0], atol=1e-9)
