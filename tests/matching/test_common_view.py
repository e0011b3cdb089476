from dataclasses import replace

import numpy as np
import pytest

from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.matching import view_matcher
from tiler.matching.common_view import groups
from tiler.matching.tiles import TileRects, cut_sides

LEFT, RIGHT = (0, 0, 640, 640), (512, 0, 1152, 640)
PAIR = (LEFT, RIGHT)
APART = ((0, 0, 640, 640), (640, 0, 1280, 640))  # overlap 0
WHOLE = (0, 0, 1152, 640)


def tiles_of(rects, size=None):
    rects = np.array(rects, np.float64)
    return TileRects.of(rects, tuple(rects[:, 2:].max(axis=0)) if size is None else size)


def grouped(rects, seen, kind=None, threshold=0.3, size=None, **columns):
    """Groups of detections given as (tile, x0, y0, x1, y1), the most confident first."""
    table = np.array(seen, np.float64).reshape(-1, 5)
    n = len(table)
    kind = np.zeros(n, np.int64) if kind is None else np.array(kind)
    rows = Instances(kind, table[:, 1:], conf=np.linspace(0.9, 0.1, n), **columns)
    return groups(
        rows, table[:, 0].astype(int), tiles_of(rects, size), kind, np.full(n, threshold)
    ).tolist()


# --- tiles and what they cut


def test_a_side_is_interior_unless_it_is_the_border():
    tiles = tiles_of([(0, 0, 640, 640), (512, 0, 1152, 640), (512, 360, 1152, 1000)])
    assert tiles.interior.tolist() == [
        [False, False, True, True],
        [True, False, False, True],
        [True, True, False, False],
    ]


def test_a_padded_tile_has_no_interior_side_beyond_the_image():
    assert tiles_of([(512, 0, 1152, 640)], (1000, 600)).interior.tolist() == [
        [True, False, False, False]
    ]


@pytest.mark.parametrize(
    ("side", "edge"), [(640, 4), (1280, 8), (320, 4), (64, 4), (32, 2), (10, 0.625)]
)
def test_how_near_a_cut_box_ends_depends_on_the_tile(side, edge):
    assert tiles_of([(0, 0, side, side)], (9999, 9999)).edge.tolist() == [edge]


def test_a_box_is_cut_where_it_ends_near_an_interior_side():
    tiles = tiles_of([(512, 512, 1152, 1152)], (2000, 2000))
    boxes = np.array(
        [
            [512, 600, 700, 700],
            [515.9, 600, 700, 700],
            [516.1, 600, 700, 700],
            [600, 600, 1149, 1152],
            [600, 600, 700, 700.0],
        ]
    )
    cut = cut_sides(boxes, np.zeros(5, int), tiles).tolist()
    assert cut == [[True, False, False, False]] * 2 + [
        [False] * 4,
        [False, False, True, True],
        [False] * 4,
    ]


def test_no_box_is_cut_at_the_border_of_the_image():
    tiles = tiles_of([(0, 0, 640, 640)])
    assert not cut_sides(np.array([[0, 0, 640, 640.0]]), np.array([0]), tiles).any()


# --- the same object


def test_whole_and_part():
    assert grouped(PAIR, [(0, 400, 100, 560, 200), (1, 512, 100, 560, 200)]) == [0, 0]


def test_a_part_ends_a_little_before_the_edge():
    assert grouped(PAIR, [(0, 400, 100, 560, 200), (1, 515, 101, 560, 200)]) == [0, 0]


def test_halves_larger_than_the_overlap():
    assert grouped(PAIR, [(0, 300, 100, 640, 200), (1, 512, 100, 900, 200)]) == [0, 0]


def test_a_row_of_tiles_that_no_side_of_the_object_shows_in():
    rects = [(x, 0, x + 640, 640) for x in range(0, 512 * 5, 512)]
    seen = [(k, max(x0, 100), 50, min(x1, 2500), 150) for k, (x0, _, x1, _) in enumerate(rects)]
    assert grouped(rects, seen) == [0] * 5


def test_four_quarters():
    rects = [(x, y, x + 640, y + 640) for y in (0, 512) for x in (0, 512)]
    seen = [
        (k, max(x0, 300), max(y0, 300), min(x1, 900), min(y1, 900))
        for k, (x0, y0, x1, y1) in enumerate(rects)
    ]
    assert grouped(rects, seen) == [0] * 4


@pytest.mark.parametrize(("gap", "expected"), [(0, [0, 0]), (1, [0, 0]), (2, [0, 0]), (5, [0, 1])])
def test_halves_on_either_side_of_a_seam_without_overlap(gap, expected):
    assert (
        grouped(APART, [(0, 500, 100, 640 - gap, 200), (1, 640 + gap, 102, 800, 201)]) == expected
    )


def test_slivers_on_either_side_of_a_seam():
    assert grouped(APART, [(0, 500, 100, 640, 140), (1, 640, 100, 643, 140)]) == [0, 0]


def test_an_overlap_of_a_few_px_is_a_seam():
    rects = [(0, 0, 640, 640), (632, 0, 1272, 640)]
    assert grouped(rects, [(0, 500, 100, 640, 200), (1, 632, 100, 800, 200)]) == [0, 0]
    assert grouped(rects, [(0, 500, 100, 640, 200), (1, 632, 260, 800, 360)]) == [0, 1]


def test_the_full_image_is_one_more_tile():
    seen = [
        (0, 300, 100, 900, 200),
        (1, 300, 100, 640, 200),
        (2, 512, 100, 900, 200),
        (0, 20, 20, 60, 60),
        (1, 20, 20, 60, 60),
    ]
    assert grouped([WHOLE, LEFT, RIGHT], seen) == [0, 0, 0, 3, 3]


def test_tiles_of_another_scale_are_larger_windows():
    rects = [(0, 0, 1280, 1280), (0, 0, 640, 640), (640, 0, 1280, 640), (512, 512, 1792, 1792)]
    seen = [
        (0, 600, 560, 700, 620),
        (1, 600, 560, 640, 620),
        (2, 640, 560, 700, 620),
        (3, 600, 561, 700, 620),
        (3, 900, 900, 990, 990),
    ]
    assert grouped(rects, seen) == [0, 0, 0, 0, 4]


# --- other objects


def test_a_small_object_in_a_large_one():
    seen = [
        (0, 300, 100, 640, 400),
        (1, 512, 100, 900, 400),
        (0, 560, 200, 600, 240),
        (1, 560, 200, 600, 240),
    ]
    assert grouped(PAIR, seen) == [0, 0, 2, 2]


def test_a_small_object_that_only_one_tile_reports_stays_what_it_is():
    assert grouped(
        PAIR, [(0, 300, 100, 640, 400), (1, 512, 100, 900, 400), (1, 560, 200, 600, 240)]
    ) == [0, 0, 2]


def test_a_small_object_beside_a_seam_is_not_the_half_of_the_large_one():
    seen = [(0, 300, 100, 640, 400), (1, 640, 100, 900, 400), (1, 650, 200, 690, 240)]
    assert grouped(APART, seen) == [0, 0, 2]


def test_neighbours_in_the_overlap():
    one, other = (520, 100, 570, 200), (572, 100, 622, 200)
    seen = [(tile, *box) for box in (one, other) for tile in (0, 1)]
    assert grouped(PAIR, seen) == [0, 0, 2, 2]


def test_neighbours_across_a_seam_that_lie_side_by_side():
    seen = [
        (0, 500, 100, 640, 150),
        (0, 500, 155, 640, 205),
        (1, 640, 100, 800, 150),
        (1, 640, 155, 800, 205),
    ]
    assert grouped(APART, seen) == [0, 1, 0, 1]


def test_two_objects_of_one_tile_are_never_joined():
    seen = [(0, 400, 100, 500, 200), (0, 402, 101, 501, 202), (0, 404, 104, 505, 204)]
    assert grouped(PAIR, seen) == [0, 1, 2]
    crowd = [(tile, 520 + 9 * k, 100, 550 + 9 * k, 200) for k in range(9) for tile in (0, 1)]
    assert grouped(PAIR, crowd) == [k - k % 2 for k in range(18)]


def test_what_lies_in_no_common_view_has_no_partner():
    assert grouped(PAIR, [(0, 400, 100, 500, 200), (1, 520, 100, 620, 200)]) == [0, 1]
    # the boxes meet, but where each tile alone sees
    assert grouped(PAIR, [(0, 100, 100, 500, 200), (1, 700, 100, 900, 200)]) == [0, 1]


def test_objects_of_other_kinds_are_not_matched():
    seen = [(0, 400, 100, 560, 200), (1, 512, 100, 560, 200)]
    assert grouped(PAIR, seen, kind=[0, 1]) == [0, 1]
    assert grouped(PAIR, seen, kind=[7, 7]) == [0, 0]


def test_the_threshold_is_the_iou_in_the_common_view():
    seen = [(0, 520, 100, 600, 200), (1, 560, 100, 640, 200)]  # 40 px of 120
    assert grouped(PAIR, seen, threshold=0.33) == [0, 0]
    assert grouped(PAIR, seen, threshold=0.34) == [0, 1]


def test_the_lower_threshold_of_two_kinds_counts():
    boxes = np.array([[520, 100, 600, 200], [560, 100, 640, 200.0]])
    rows = Instances(np.array([0, 1]), boxes, conf=np.array([0.9, 0.8]))
    found = [
        groups(rows, np.array([0, 1]), tiles_of(PAIR), np.zeros(2, int), np.array(bar)).tolist()
        for bar in ([0.9, 0.3], [0.3, 0.9], [0.9, 0.9])
    ]
    assert found == [[0, 0], [0, 0], [0, 1]]


def test_no_detections_and_no_tiles():
    assert grouped(PAIR, []) == []
    assert grouped([LEFT], [(0, 1, 1, 9, 9)]) == [0]
    assert grouped(PAIR, [(1, 600, 100, 700, 200)]) == [0]


@pytest.mark.parametrize("away", [0, 100_000, 4_000_000])
def test_far_from_the_origin_it_is_the_same(away):
    rects = [tuple(np.array(rect) + away) for rect in PAIR]
    seen = [
        (0, *np.array([300, 100, 640, 200]) + away),
        (1, *np.array([512, 100, 900, 200]) + away),
    ]
    assert grouped(rects, seen) == [0, 0]


def test_what_lies_in_a_core_is_not_even_looked_at(monkeypatch):
    asked = []
    real = view_matcher.neighbours
    monkeypatch.setattr(
        view_matcher,
        "neighbours",
        lambda boxes, *rest: asked.append(len(boxes)) or real(boxes, *rest),
    )
    assert grouped(
        PAIR, [(0, 100, 100, 200, 200), (0, 300, 100, 640, 200), (1, 512, 100, 900, 200)]
    ) == [0, 1, 1]
    assert asked == [2, 2]  # the tiles, then the detections


# --- OBBs, outlines, keypoints


def shapes(rects, seen, task, points):
    """Groups of shapes given as tile and corners."""
    rings = Rings.of([[np.array(ring, np.float64)] for ring in points])
    rows = Instances(
        np.zeros(len(seen), int),
        rings.bounds(),
        rings=rings,
        conf=np.linspace(0.9, 0.1, len(seen)),
        task=task,
    )
    return groups(
        rows, np.array(seen), tiles_of(rects), np.zeros(len(seen), int), np.full(len(seen), 0.3)
    ).tolist()


def test_crossed_obbs_of_the_same_box():
    one, other = (
        [(520, 102), (522, 100), (622, 200), (620, 202)],
        [(520, 200), (620, 100), (622, 102), (522, 202)],
    )
    assert shapes(PAIR, [0, 1], "obb", [one, other]) == [0, 1]
    assert shapes(PAIR, [0, 1, 0, 1], "obb", [one, one, other, other]) == [0, 0, 2, 2]


def test_obbs_whose_parts_in_the_view_coincide():
    whole = np.array([(400, 100), (700, 160), (690, 210), (390, 150.0)])
    along = (whole[1] - whole[0]) / 300
    left = np.array([whole[0], whole[0] + along * 240, whole[3] + along * 250, whole[3]])
    right = np.array([whole[1] - along * 190, whole[1], whole[2], whole[2] - along * 180])
    assert shapes(PAIR, [0, 1], "obb", [left, right]) == [0, 0]


def rectangle(x0, y0, x1, y1):
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def test_pieces_of_a_bent_outline_that_one_tile_shows_apart():
    # a U that lies on its side: the left tile sees its two arms, the right one all of it
    arms = [rectangle(500, 100, 640, 140), rectangle(500, 300, 640, 340)]
    bow = [
        (512, 100),
        (800, 100),
        (800, 340),
        (512, 340),
        (512, 300),
        (760, 300),
        (760, 140),
        (512, 140),
    ]
    assert shapes(PAIR, [0, 0, 1], "segment", [*arms, bow]) == [0, 0, 0]
    seam = [
        (640, 100),
        (800, 100),
        (800, 340),
        (640, 340),
        (640, 300),
        (760, 300),
        (760, 140),
        (640, 140),
    ]
    arms = [rectangle(500, 100, 640, 140), rectangle(500, 300, 640, 340)]
    assert shapes(APART, [0, 0, 1], "segment", [*arms, seam]) == [0, 0, 0]


def test_outlines_of_one_tile_that_overlap_are_two_objects():
    bars = [
        rectangle(500, 100, 640, 200),
        rectangle(500, 110, 640, 210),
        rectangle(512, 100, 800, 200),
    ]
    assert shapes(PAIR, [0, 0, 1], "segment", bars) == [0, 1, 0]


def test_an_outline_that_lies_in_the_bend_of_another():
    bow = [
        (520, 100),
        (630, 100),
        (630, 300),
        (520, 300),
        (520, 280),
        (600, 280),
        (600, 120),
        (520, 120),
    ]
    inner = rectangle(530, 150, 590, 250)
    assert shapes(PAIR, [0, 1, 0, 1], "segment", [bow, bow, inner, inner]) == [0, 0, 2, 2]
    assert shapes(PAIR, [0, 1], "segment", [bow, inner]) == [0, 1]


def posed(points, boxes=((520, 100, 620, 300), (520, 100, 620, 300))):
    rows = Instances(
        np.zeros(2, int),
        np.array(boxes, float),
        keypoints=np.array(points, float),
        conf=np.array([0.9, 0.8]),
        task="pose",
    )
    return groups(
        rows, np.array([0, 1]), tiles_of(PAIR), np.zeros(2, int), np.full(2, 0.3)
    ).tolist()


def test_keypoints_decide_where_there_are_any():
    up = [(540, 110, 2), (600, 110, 2), (570, 290, 2)]
    down = [(540, 290, 2), (600, 290, 2), (570, 110, 2)]
    unset = [(0, 0, 0)] * 3
    assert posed([up, up]) == [0, 0]
    assert posed([up, down]) == [0, 1]
    assert posed([up, unset]) == posed([unset, unset]) == [0, 0]  # boxes do


def test_keypoints_outside_the_common_view_do_not_count():
    one = [(540, 110, 2), (300, 110, 2)]
    other = [(540, 110, 2), (900, 110, 2)]
    boxes = [(280, 100, 640, 300), (512, 100, 920, 300)]
    assert posed([one, other], boxes) == [0, 0]


def test_a_pose_without_keypoints_is_a_box():
    assert posed(np.zeros((2, 0, 3))) == [0, 0]


def test_the_order_of_tiles_counts_for_nothing():
    rects = [(x, y, x + 640, y + 640) for y in (0, 512) for x in (0, 512)]
    seen = [
        (k, max(x0, 300), max(y0, 300), min(x1, 900), min(y1, 900))
        for k, (x0, y0, x1, y1) in enumerate(rects)
    ]
    seen += [(3, 700, 700, 760, 760), (0, 600, 600, 630, 630), (1, 601, 600, 630, 631)]
    expected = grouped(rects, seen)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        place = np.argsort(order)
        assert (
            grouped([rects[k] for k in order], [(place[tile], *box) for tile, *box in seen])
            == expected
        )


def test_instances_are_not_changed():
    table = np.array([(400, 100, 638, 200), (512, 100, 560, 200.0)])
    rows = Instances(np.zeros(2, int), table.copy(), conf=np.array([0.9, 0.8]))
    groups(replace(rows), np.array([0, 1]), tiles_of(PAIR), np.zeros(2, int), np.full(2, 0.3))
    assert rows.boxes.tolist() == table.tolist()
