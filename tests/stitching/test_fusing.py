import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick, rectangles, simple_rings
from tiler.geometry.polygons import Rings
from tiler.matching.tiles import TileRects
from tiler.stitching import fusing

PAIR = np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]])
APART = np.array([[0, 0, 640, 640], [640, 0, 1280, 640.0]])
FIRST = np.array([0])


def tiles_of(rects, size=None):
    rects = np.array(rects, np.float64)
    return TileRects.of(rects, tuple(rects[:, 2:].max(axis=0)) if size is None else size)


def fused(rects, tile, boxes, conf=None, starts=FIRST):
    conf = np.full(len(tile), 0.5) if conf is None else np.array(conf)
    found, seen = fusing.sides(
        np.array(boxes, float), conf, np.array(tile), tiles_of(rects), np.array(starts)
    )
    return found.tolist(), seen.tolist()


# --- sides

coordinates = st.floats(1, 5000, allow_subnormal=False)


@quick
@given(
    st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), min_size=1, max_size=5),
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=5, max_size=5),
)
def test_what_all_agree_on_stays_to_the_last_bit(corners, confs):
    """Any numbers of members, of any confidence, none of them cut."""
    boxes = np.array(
        [(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners]
    )
    confs = confs[: len(boxes)]
    counts = [len(c) for c in confs]
    starts = np.cumsum([0, *counts[:-1]])
    members, tile = np.repeat(boxes, counts, axis=0), np.concatenate([np.arange(c) for c in counts])
    tiles = tiles_of([[-100 - k, -100, 6000, 6000.0] for k in range(4)])
    found, seen = fusing.sides(members, np.concatenate(confs), tile, tiles, starts)
    np.testing.assert_array_equal(found, boxes)
    assert seen.all()


@quick
@given(st.lists(st.tuples(st.floats(100, 400), st.floats(0, 1)), min_size=1, max_size=5))
def test_a_side_lies_between_those_of_its_members(rows):
    left, conf = np.array(rows).T
    boxes = np.column_stack([left, left, left + 100, left + 100])
    found, _ = fusing.sides(boxes, conf, np.zeros(len(rows), int), tiles_of(PAIR), FIRST)
    assert (found >= boxes.min(axis=0) - 1e-9).all() and (found <= boxes.max(axis=0) + 1e-9).all()


def test_the_mean_is_weighted_by_confidence():
    deep = [(100, 100, 200, 200), (104, 100, 200, 200)]
    assert fused(PAIR, [0, 0], deep, [0.9, 0.3])[0] == [[101, 100, 200, 200]]


def test_a_cut_side_is_not_used():
    found, seen = fused(PAIR, [0, 1], [(300, 100, 638, 200), (512, 100, 900, 200)], [0.9, 0.1])
    assert found == [[300, 100, 900, 200]]
    assert seen == [[True] * 4]


def test_nor_is_one_that_ends_shortly_before_the_edge_that_another_reaches_beyond():
    # 610 is no cut side of the left tile (30 px before its edge), but the right one sees the object
    # go on
    assert fused(PAIR, [0, 1], [(520, 100, 610, 200), (520, 100, 700, 200)])[0] == [
        [520, 100, 700, 200]
    ]
    # 560 lies too far from it to be doubted
    assert fused(PAIR, [0, 1], [(520, 100, 560, 200), (520, 100, 700, 200)])[0][0][2] not in (
        560,
        700,
    )
    # nobody reaches beyond the left tile
    assert 610 < fused(PAIR, [0, 1], [(520, 100, 610, 200), (520, 100, 630, 200)])[0][0][2] < 630


def test_a_side_that_nobody_saw_is_the_outermost():
    middle = [(512, 100, 1152, 200), (515, 100, 1150, 200)]
    tiles = tiles_of([[512, 0, 1152, 640]] * 2, (2000, 640))
    box, seen = fusing.sides(np.array(middle, float), np.full(2, 0.5), np.arange(2), tiles, FIRST)
    assert box.tolist() == [[512, 100, 1152, 200]]
    assert seen.tolist() == [[False, True, False, True]]


def test_several_groups_do_not_mix():
    boxes = [
        (10, 10, 50, 50),
        (300, 100, 640, 200),
        (512, 100, 900, 200),
        (700, 300, 750, 350),
        (700, 300, 750, 350),
    ]
    found, _ = fused(PAIR, [0, 0, 1, 1, 1], boxes, starts=[0, 1, 3])
    assert found == [[10, 10, 50, 50], [300, 100, 900, 200], [700, 300, 750, 350]]


def test_nobody_is_sure():
    assert fused(PAIR, [0, 0], [(100, 100, 200, 200), (104, 100, 200, 200)], [0.0, 0.0])[0] == [
        [102, 100, 200, 200]
    ]


# --- trust


def test_trust_grows_with_confidence_and_with_depth():
    tiles = tiles_of([[0, 0, 640, 640]], (1280, 640))
    right = np.array([640, 637, 636, 630, 620, 608, 600, 100.0])
    boxes = np.column_stack([np.full(8, 50), np.full(8, 50), right, np.full(8, 90)])
    assert fusing.trust(boxes, np.full(8, 0.5), np.zeros(8, int), tiles).tolist() == [
        2,
        2,
        2,
        5,
        10,
        16,
        16,
        16,
    ]
    assert fusing.trust(boxes[-1:], np.array([0.25]), FIRST, tiles).tolist() == [8]


def test_trust_at_the_border_of_the_image_is_that_of_its_middle():
    tiles = tiles_of([[0, 0, 640, 640]])
    boxes = np.array([[0, 0, 640, 640], [300, 300, 320, 320.0]])
    assert len(set(fusing.trust(boxes, np.full(2, 0.5), np.zeros(2, int), tiles))) == 1
    assert (fusing.trust(boxes, np.zeros(2), np.zeros(2, int), tiles) > 0).all()


# --- OBBs


def clipped(quad, rect):
    """The rectangle of the quad's own direction around what a rectangle shows of it."""
    along = (quad[1] - quad[0]) / np.linalg.norm(quad[1] - quad[0])
    across = np.array([-along[1], along[0]])
    points = shapely.get_coordinates(
        shapely.intersection(shapely.Polygon(quad), shapely.box(*rect))
    )
    u, v = points @ along, points @ across
    return np.array(
        [
            a * along + b * across
            for a, b in (
                (u.min(), v.min()),
                (u.max(), v.min()),
                (u.max(), v.max()),
                (u.min(), v.max()),
            )
        ]
    )


def same_area(one, other, tolerance=1e-6):
    return (
        shapely.Polygon(one).symmetric_difference(shapely.Polygon(other)).area
        <= tolerance * shapely.Polygon(other).area
    )


def turned(cx, cy, width, height, angle):
    c, s = math.cos(angle), math.sin(angle)
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return corners @ np.array([[c, s], [-s, c]]) + (cx, cy)


@quick
@given(rectangles(side=500, smallest=10), st.integers(1, 4))
def test_quads_that_agree_stay(quad, count):
    rects = [[-10 - k, -10, 600, 600.0] for k in range(4)]
    tiles = tiles_of(rects, (2000, 2000))
    found = fusing.quads(
        np.repeat(quad[None], count, axis=0), np.full(count, 0.5), np.arange(count), tiles, FIRST
    )
    np.testing.assert_allclose(found[0], quad, atol=1e-9)


@pytest.mark.parametrize("angle", [0, 0.3, 0.8, 1.2, math.pi / 2])
@pytest.mark.parametrize("roll", [0, 1, 2, 3])
@pytest.mark.parametrize("turn", [1, -1])
def test_the_ends_of_an_obb_come_from_the_tiles_that_show_them(angle, roll, turn):
    """Whatever corner each detection begins with, and whichever way round it goes."""
    whole = turned(576, 320, 500, 40, angle)
    rects = [[0, 0, 640, 640], [512, 0, 1152, 640]]
    members = np.array([clipped(whole, rect) for rect in rects])
    members[1] = np.roll(members[1][::turn], roll, axis=0)
    found = fusing.quads(members, np.array([0.9, 0.4]), np.array([0, 1]), tiles_of(rects), FIRST)
    assert same_area(found[0], whole)


def test_a_side_beyond_the_tile_is_not_seen():
    # the left tile shows the beginning of a bar that lies askew, and guesses its far end beyond its
    # edge
    whole = turned(640, 320, 400, 60, 0.4)
    short = turned(
        *(np.array([640, 320]) - np.array([math.cos(0.4), math.sin(0.4)]) * 80), 240, 60, 0.4
    )
    assert short[:, 0].max() > 640
    found = fusing.quads(
        np.array([short, whole]), np.array([0.9, 0.1]), np.array([0, 1]), tiles_of(PAIR), FIRST
    )
    assert same_area(found[0], whole)


def test_the_winner_has_most_sides_seen_then_most_confidence():
    one, other = turned(300, 300, 100, 40, 0.2), turned(300, 300, 100, 40, 0.25)
    tiles = tiles_of([[0, 0, 640, 640]] * 2, (2000, 2000))

    def direction(conf, members):
        found = fusing.quads(np.array(members), np.array(conf), np.array([0, 1]), tiles, FIRST)[0]
        side = found[1] - found[0]
        return math.atan2(side[1], side[0])

    assert direction([0.4, 0.9], [one, other]) == pytest.approx(0.25)
    assert direction([0.9, 0.4], [one, other]) == pytest.approx(0.2)
    beyond = turned(640, 300, 100, 40, 0.2)  # its far end lies outside
    assert direction([0.9, 0.4], [beyond, other]) == pytest.approx(0.25)


def test_a_side_that_nobody_saw_of_an_obb_is_the_outermost():
    rects = [[200, 0, 400, 640], [210, 0, 410, 640]]
    whole = turned(305, 320, 900, 40, 0.0)
    members = np.array([clipped(whole, rect) for rect in rects])
    found = fusing.quads(
        members, np.array([0.9, 0.4]), np.array([0, 1]), tiles_of(rects, (2000, 640)), FIRST
    )
    assert [found[0][:, 0].min(), found[0][:, 0].max()] == pytest.approx([200, 410])


def test_an_obb_without_extent():
    line = np.array([[[10, 10], [20, 10], [20, 10], [10, 10.0]]] * 2)
    found = fusing.quads(line, np.array([0.9, 0.4]), np.array([0, 1]), tiles_of(PAIR), FIRST)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], line[0])


# --- outlines


def united(rects, tile, points, starts=FIRST):
    rings = Rings.of([[np.array(ring, float)] for ring in points])
    return fusing.outlines(rings, np.array(starts), np.array(tile), tiles_of(rects)).geometry()


def rectangle(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


@quick
@given(st.lists(simple_rings(), min_size=1, max_size=4))
def test_members_are_united(rings):
    tiles = tiles_of([[0, 0, 640, 640]])
    found = fusing.outlines(
        Rings.of([[ring] for ring in rings]), FIRST, np.zeros(len(rings), int), tiles
    ).geometry()[0]
    whole = shapely.union_all([shapely.Polygon(ring) for ring in rings])
    assert found.symmetric_difference(whole).area < 1e-6
    assert found.is_valid


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_halves_become_one_with_and_without_a_gap_at_the_seam(gap):
    halves = [rectangle(500, 100, 640 - gap, 200), rectangle(640 + gap, 100, 800, 200)]
    [found] = united(APART, [0, 1], halves)
    assert found.geom_type == "Polygon"
    assert found.equals(shapely.box(500, 100, 800, 200))


def test_halves_in_an_overlap_are_not_drawn_out():
    [found] = united(PAIR, [0, 1], [rectangle(500, 100, 638, 200), rectangle(514, 100, 800, 200)])
    assert found.equals(shapely.box(500, 100, 800, 200))
    [found] = united(PAIR, [0], [rectangle(500, 100, 638, 200)])
    assert found.equals(shapely.box(500, 100, 638, 200))


def test_parts_that_stay_apart_stay_where_they_are():
    parts = [rectangle(500, 100, 638, 200), rectangle(700, 300, 800, 400)]
    [found] = united(APART, [0, 1], parts)
    assert found.equals(
        shapely.union_all([shapely.box(500, 100, 638, 200), shapely.box(700, 300, 800, 400)])
    )


def test_holes_stay():
    ring = [rectangle(500, 100, 600, 200), rectangle(530, 130, 570, 170)]
    rings = Rings.of(
        [[np.array(r, float) for r in ring], [np.array(rectangle(600, 100, 700, 200), float)]]
    )
    [found] = fusing.outlines(rings, FIRST, np.array([0, 1]), tiles_of(PAIR)).geometry()
    assert found.area == 200 * 100 - 40 * 40


def test_outlines_of_several_groups():
    shapes = [rectangle(0, 0, 10, 10), rectangle(5, 0, 20, 10), rectangle(0, 0, 10, 10)]
    found = united(PAIR, [0, 1, 0], shapes, [0, 2])
    assert [shape.area for shape in found] == [200, 100]


# --- keypoints


def points_of(rects, tile, points, conf=None):
    conf = np.linspace(0.9, 0.1, len(tile)) if conf is None else np.array(conf)
    return fusing.keypoints(np.array(points, float), conf, np.array(tile), tiles_of(rects), FIRST)[
        0
    ].tolist()


def listed(points):
    return [list(point) for point in points]


def test_each_keypoint_comes_from_who_saw_it():
    left = [(300, 150, 2), (0, 0, 0), (600, 150, 1)]
    right = [(0, 0, 0), (900, 150, 2), (601, 151, 2)]
    assert points_of(PAIR, [0, 1], [left, right]) == [[300, 150, 2], [900, 150, 2], [601, 151, 2]]


def test_away_from_the_edge_before_near_it_before_outside():
    near, deep, outside = [(638, 150, 2)], [(630, 151, 1)], [(650, 152, 2)]
    assert points_of(PAIR, [0, 1], [near, deep]) == listed(deep)
    assert points_of(PAIR, [0, 0], [outside, near], [0.9, 0.1]) == listed(near)
    assert points_of(PAIR, [0, 0], [outside, [(0, 0, 0)]]) == listed(outside)
    assert points_of(PAIR, [0, 1], [[(0, 0, 0)], [(0, 0, 0)]]) == [[0, 0, 0]]


def test_then_the_most_visible_then_the_most_confident():
    one, other = [(100, 150, 1)], [(110, 150, 2)]
    assert points_of(PAIR, [0, 0], [one, other], [0.9, 0.1]) == listed(other)
    assert points_of(PAIR, [0, 0], [other, [(120, 150, 2)]], [0.1, 0.9]) == [[120, 150, 2]]
    assert points_of(PAIR, [0, 0], [other, [(120, 150, 2)]], [0.5, 0.5]) == listed(other)


def test_no_keypoints_at_all():
    assert fusing.keypoints(
        np.zeros((2, 0, 3)), np.ones(2), np.array([0, 1]), tiles_of(PAIR), FIRST
    ).shape == (1, 0, 3)


# --- classes


def test_the_class_with_the_most_confidence():
    class_id, conf = np.array([3, 1, 1, 5, 2, 4]), np.array([0.5, 0.3, 0.3, 0.9, 0.4, 0.4])
    assert fusing.classes(class_id, conf, np.array([0, 3, 4])).tolist() == [1, 5, 2]
    assert fusing.classes(class_id, np.zeros(6), np.array([0])).tolist() == [1]


@quick
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=5),
        min_size=1,
        max_size=5,
    )
)
def test_classes_are_counted_group_by_group(groups):
    rows = np.array([row for group in groups for row in group])
    starts = np.cumsum([0, *[len(group) for group in groups[:-1]]])
    wanted = [
        max(
            range(4),
            key=lambda c: (
                sum(conf for k, conf in group if k == c),
                any(k == c for k, _ in group),
                -c,
            ),
        )
        for group in groups
    ]
    assert fusing.classes(rows[:, 0], rows[:, 1] / 4, starts).tolist() == wanted


# --- no groups


def test_no_groups():
    none = np.empty(0, np.int64)
    assert len(fusing.outlines(Rings.of([]), none, none, tiles_of(PAIR))) == 0
