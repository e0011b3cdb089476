"""`tiler.stitch`: what tiles saw becomes what is there. First of all the round trip: cut, put
together, the same.
"""

import importlib.util
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.strategies import assert_same, boxes, quick, unlike_rectangles
from tiler import stitching
from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry import polygons
from tiler.geometry.grids import grid
from tiler.geometry.instances import Instances, empty
from tiler.geometry.polygons import Rings
from tiler.geometry.window import Window
from tiler.matching.tiles import TileRects
from tiler.options import METHODS, MergeOptions
from tiler.stitching import (
    DUPLICATE,
    FATES,
    FUSED,
    KEPT,
    LOW_CONF,
    NOT_OWNED,
    ORPHAN,
    OVER_MAX,
    SUPPRESSED,
    stitch,
)
from tiler.types import TASKS

KINDS = ("small", "mixed", "large", "crowd", "nested")
COUNT = {"small": 60, "mixed": 50, "large": 9, "crowd": 250, "nested": 60}
EDGE = 4.0  # px: what ends so near before its tile's edge looks cut by it


# --- scenes


def sides(rng, kind, tile, n):
    """`(n, 2)` widths and heights; `large` ones are up to 1.8 times the tile, one in four `nested`
    ones holds the next three.
    """
    if kind == "mixed":
        return np.exp(rng.uniform(np.log(0.03), np.log(0.4), (n, 2))) * tile
    if kind == "nested":
        low, high = np.where(np.arange(n)[:, None] % 4 == 0, (0.25, 0.6), (0.03, 0.07)).T
        return rng.uniform(low[:, None], high[:, None], (n, 2)) * tile
    low, high = {"small": (0.03, 0.08), "large": (0.25, 1.8), "crowd": (0.04, 0.1)}[kind]
    return rng.uniform(low, high, (n, 2)) * tile


def truth_of(task, kind, tile, seed):
    """Objects of one image of 2.6 x 2.6 tiles, the image's side, in a frame of floats.

    Objects larger than a tile have classes of their own: where two of one class fill the same
    tile, nothing tells which part is whose.
    """
    rng = np.random.default_rng(seed)
    n, side = COUNT[kind], int(2.6 * tile)
    wh = sides(rng, kind, tile, n)
    turned = task in ("obb", "segment")
    reach = (
        np.hypot(*wh.T)[:, None] / 2
        if task == "obb"
        else wh.max(axis=1)[:, None] / 2
        if turned
        else wh / 2
    )
    centre = reach + rng.uniform(0, 1, (n, 2)) * (side - 2 * reach)
    if kind == "nested":
        host = np.arange(n) - np.arange(n) % 4
        room = np.maximum(wh[host] - wh, 0) * (0.6 if turned else 1)
        inside = np.clip(centre[host] + rng.uniform(-0.5, 0.5, (n, 2)) * room, reach, side - reach)
        centre = np.where(np.arange(n)[:, None] % 4 > 0, inside, centre)
    class_id = np.arange(n) if kind == "large" else rng.integers(0, 2, n)
    if task == "obb":
        angle = rng.uniform(0, np.pi, n)
        along, across = (
            np.stack([np.cos(angle), np.sin(angle)], axis=1),
            np.stack([-np.sin(angle), np.cos(angle)], axis=1),
        )
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        quads = np.stack(
            [centre + a * along * wh[:, :1] / 2 + b * across * wh[:, 1:] / 2 for a, b in corners],
            axis=1,
        )
        rings = Rings.from_quads(quads)
        return Instances(class_id, rings.bounds(), rings=rings, task=task), side
    if task == "segment":
        rings = Rings.of(
            [
                [star(rng, middle, size.max() / 2, side)]
                for middle, size in zip(centre, wh, strict=True)
            ]
        )
        return Instances(class_id, rings.bounds(), rings=rings, task=task), side
    xyxy = np.concatenate([centre - wh / 2, centre + wh / 2], axis=1)
    if task == "detect":
        return Instances(class_id, xyxy), side
    points = xyxy[:, None, :2] + rng.uniform(0, 1, (n, 5, 2)) * wh[:, None]
    return Instances(
        class_id,
        xyxy,
        keypoints=np.concatenate([points, np.full((n, 5, 1), 2.0)], axis=2),
        task=task,
    ), side


def star(rng, centre, radius, side):
    count = int(rng.integers(7, 20))
    angle = (np.arange(count) + rng.uniform(0, 0.9, count)) * 2 * np.pi / count
    reach = radius * rng.uniform(0.4, 1, count)
    return np.clip(
        centre + np.stack([np.cos(angle) * reach, np.sin(angle) * reach], axis=1), 0, side
    )


def clear_of_seams(truth, windows, side):
    """Without those that end within some px before a tile's edge: they look as if it cut them."""
    keep = np.ones(len(truth), bool)
    for axis in (0, 1):
        start, end = truth.boxes[:, axis], truth.boxes[:, axis + 2]
        for window in windows:
            low, high = window.bounds[axis], window.bounds[axis + 2]
            if low > 0:
                keep &= ~((start >= low) & (start < low + EDGE))
            if high < side:
                keep &= ~((end <= high) & (end > high - EDGE))
    return truth.take(keep)


def parts_of(truth, windows):
    """What each window shows, as `split` writes it (outlines in parts: rows of their own); surer
    the more is visible.
    """
    parts = []
    for window in windows:
        shown = window.clip(truth)
        if shown.task == "segment":
            rings, owner = polygons.parts(shown.rings)
            shown = replace(shown.take(owner), rings=rings, boxes=rings.bounds())
        parts.append((window, replace(shown, conf=np.minimum(1.0, shown.visible))))
    return parts


def equal(found, truth):
    """`(found, truth)` which are the same object, as exactly as its task can be."""
    if truth.rings is not None:
        one, other = found.rings.geometry(), truth.rings.geometry()
        common = shapely.area(shapely.intersection(one[:, None], other, grid_size=1e-6))
        same = common >= 0.999 * (shapely.area(one)[:, None] + shapely.area(other) - common)
    else:
        same = (np.abs(found.boxes[:, None] - truth.boxes) <= 1e-3).all(axis=-1)
    if truth.keypoints is not None:
        same &= (np.abs(found.keypoints[:, None] - truth.keypoints) <= 1e-3).all(axis=(-1, -2))
    return same & (found.class_id[:, None] == truth.class_id)


def assert_gives_back(truth, windows, size, **options):
    """Every object once, and nothing else."""
    out = stitch(parts_of(truth, windows), size, **options)
    same = equal(out.instances, truth)
    assert np.flatnonzero(~same.any(axis=0)).tolist() == [], "missed"
    assert np.flatnonzero(~same.any(axis=1)).tolist() == [], "extra"
    assert len(out.instances) == len(truth)
    return out


# --- the round trip


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TASKS),
    st.sampled_from(KINDS),
    st.sampled_from([640, 320]),
    st.sampled_from([0, 0.1, 0.2, 0.5]),
    st.integers(0, 10**6),
)
def test_what_is_cut_into_tiles_and_stitched_is_what_was_there(task, kind, tile, overlap, seed):
    truth, side = truth_of(task, kind, tile, seed)
    windows = grid(side, side, tile, int(overlap * tile))
    assert_gives_back(clear_of_seams(truth, windows, side), windows, (side, side))


@quick
@given(
    st.lists(boxes(side=1000, smallest=12, largest=600), max_size=4),
    st.sampled_from([200, 256, 333]),
    st.sampled_from([0, 40, 64]),
)
def test_a_few_objects_of_any_size_come_back(many, tile, overlap):
    """Each of its own class, so that any of them may lie anywhere."""
    windows = grid(1000, 1000, tile, overlap)
    truth = Instances(np.arange(len(many)), np.array(many).reshape(-1, 4))
    assert_gives_back(clear_of_seams(truth, windows, 1000), windows, (1000, 1000))


@pytest.mark.parametrize("overlap", [0, 64, 128, 320])
@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_tiles(kind, overlap):
    truth, side = truth_of("detect", kind, 640, seed=1)
    windows = grid(side, side, 640, overlap)
    assert_gives_back(clear_of_seams(truth, windows, side), windows, (side, side))


@pytest.mark.parametrize("task", TASKS)
def test_with_the_full_image_and_tiles_of_two_sizes(task):
    truth, side = truth_of(task, "mixed", 320, seed=2)
    windows = [*grid(side, side, 320, 64), *grid(side, side, 640, 128), Window(0, 0, side, side)]
    assert_gives_back(clear_of_seams(truth, windows, side), windows, (side, side))


@pytest.mark.parametrize("task", TASKS)
def test_tiles_that_reach_past_the_image(task):
    truth, side = truth_of(task, "small", 640, seed=3)
    windows = grid(side, side, 640, 100, edge="pad")
    assert max(window.right for window in windows) > side
    assert_gives_back(clear_of_seams(truth, windows, side), windows, (side, side))


def test_one_object_over_many_tiles():
    truth = Instances(np.array([0]), np.array([[10, 20, 5000, 4990.0]]))
    for overlap in (0, 64, 320):
        windows = grid(5000, 5000, 640, overlap)
        out = assert_gives_back(truth, windows, (5000, 5000))
        assert set(out.into) == {0}


def test_outlines_in_several_pieces_come_back_whole():
    comb = [(100, 100), (900, 100)]
    for x in range(880, 90, -80):
        comb += (
            [(x, 700), (x - 30, 700), (x - 30, 140), (x - 60, 140)]
            if x > 140
            else [(x, 700), (100, 700)]
        )
    rings = Rings.of([[np.array(comb, float)]])
    truth = Instances(np.array([0]), rings.bounds(), rings=rings, task="segment")
    for overlap in (0, 64, 128):
        windows = grid(1000, 1000, 333, overlap)
        assert max(len(shown) for _, shown in parts_of(truth, windows)) > 2
        assert_gives_back(truth, windows, (1000, 1000))


# --- outlines on whole pixels, cut by tiles at any of them: they touch edges, run along them, leave
# slivers and lines


def whole(x, y):
    return st.tuples(st.integers(*x), st.integers(*y)).map(lambda corner: np.array(corner, float))


@st.composite
def on_pixels(draw, side=40):
    """Rings with whole-numbered corners: any, of a stair, or a sliver of a pixel at most."""
    at = draw(whole((0, side - 12), (0, side - 12)))
    kind = draw(st.sampled_from(["any", "stair", "sliver"]))
    if kind == "any":
        ring = np.array(draw(st.lists(whole((0, 12), (0, 12)), min_size=3, max_size=8)))
    elif kind == "stair":
        steps = np.cumsum(draw(st.lists(st.integers(1, 3), min_size=2, max_size=6)))
        up = np.repeat(steps, 2)
        ring = np.concatenate(
            [np.stack([up[1:], up[:-1]], axis=1), [[0, up[-2]], [0, 0], [up[0], 0]]]
        ).clip(0, 12)
    else:
        length, width = draw(st.integers(2, 12)), draw(st.sampled_from([1.0, 0.01, 2.0**-16, 1e-9]))
        ring = np.array([[0, 0], [length, 0], [length, width], [0, width]])
        ring = ring[:, ::-1] if draw(st.booleans()) else ring
    return at + ring


@st.composite
def cut_pixels(draw):
    """Outlines, the tiles of their image, and the image's side."""
    rings = draw(st.lists(on_pixels(), min_size=1, max_size=5))
    areas = Rings.of([[ring] for ring in rings]).geometry()
    rings = [ring for ring, area in zip(rings, areas, strict=True) if area.area > 0]
    rings += (
        [rings[0] + draw(st.sampled_from([(1, 0), (0, 1), (12, 0), (0, 1e-9)]))] if rings else []
    )
    outlines = Rings.of([[ring] for ring in rings])
    truth = Instances(np.zeros(len(rings), int), outlines.bounds(), rings=outlines, task="segment")
    tile, overlap = draw(st.sampled_from([(16, 0), (16, 4), (17, 5), (20, 10), (24, 8)]))
    x, y = draw(st.integers(0, 15)), draw(st.integers(0, 15))
    return truth.moved(x, y), grid(56, 56, tile, overlap), 56


def apart(truth):
    """Whether no two objects share a place; such may be taken for one where a tile ends in both."""
    shapes = truth.rings.geometry()
    return not len(shapely.STRtree(shapes).query(shapes, predicate="intersects").T) > len(shapes)


@settings(max_examples=60, deadline=None)
@given(cut_pixels())
def test_outlines_on_whole_pixels_are_merged_by_every_method(scene):
    truth, windows, side = scene
    inside = shapely.box(0, 0, side, side)
    parts = parts_of(truth, windows)
    for method in METHODS:
        out = stitch(parts, (side, side), method=method).instances
        shapes = out.rings.geometry()
        assert shapely.is_valid(shapes).all()
        assert set(shapely.get_type_id(shapes).tolist()) <= {3, 6}
        assert shapely.covers(inside, shapes).all()
        if method == "cvm" and len(truth) and apart(truth):  # it neither loses nor invents a place
            # what lies outside the image is in no tile
            seen = shapely.intersection(shapely.union_all(truth.rings.geometry()), inside)
            assert shapely.difference(seen, shapely.union_all(shapes).buffer(1e-6)).area < 1e-3


# Of two tiles that `split` cut of nuclei (tile 320, overlap 64), a row each
TOUCHING = [
    (
        "0.25 0.6031264 0.2437504 0.6343744 0.2468736 0.6343744 0.2468736 0.640624 0.2531264 "
        "0.6437504 0.2531264 0.65 0.259376 0.65 0.2624992 0.6562496 0.3 0.6531264 0.3 0.65 "
        "0.3062496 0.65 0.3062496 0.6468736 0.3156256 0.640624 0.3156256 0.6343744 0.3218752 "
        "0.6312512 0.3218752 0.6281248 0.3156256 0.6281248 0.3124992 0.6187488 0.309376 "
        "0.6187488 0.309376 0.6 0.3124992 0.6 0.3124992 0.5937504 0.3156256 0.5937504 0.3156256 "
        "0.5875008 0.3187488 0.5875008 0.3187488 0.5781248 0.3156256 0.5781248 0.3156256 "
        "0.5750016 0.2937504 0.5718752 0.2937504 0.5687488 0.2718752 0.5718752 0.2718752 "
        "0.5750016 0.2656256 0.5781248 0.2656256 0.5843744 0.2562496 0.5875008 0.2531264 "
        "0.6031264"
    ),
    (
        "0.309376 0 0.309376 0.0187488 0.3124992 0.0187488 0.3156256 0.0281248 0.3312512 "
        "0.0281248 0.3312512 0.0249984 0.3343744 0.0249984 0.3343744 0 0.3124992 0"
    ),
]


def test_tiles_whose_outlines_meet_in_a_line():
    """What a seam shows of one is an area and a line, which GEOS takes for none on a grid."""
    rings = [320 * np.array(text.split(), float).reshape(-1, 2) for text in TOUCHING]
    windows = [Window(512, 512, 320, 320), Window(512, 704, 320, 320)]
    parts = []
    for window, ring in zip(windows, rings, strict=True):
        outline = Rings.of([[ring]])
        parts.append(
            (
                window,
                Instances(
                    np.array([0]), outline.bounds(), rings=outline, conf=np.ones(1), task="segment"
                ),
            )
        )
    found = {
        method: len(stitch(parts, (1024, 1024), method=method).instances) for method in METHODS
    }
    assert found == {**dict.fromkeys(METHODS, 2), "center": 1}


@pytest.mark.parametrize(("overlap", "least"), [(0, 0.98), (64, 0.99)])
def test_corners_that_are_no_rectangle_come_back_as_the_smallest_one(overlap, least):
    """As labels of DOTA are: whole numbers, a third of them long and thin, some longer than a tile.
    Without overlap no tile sees both parts of one that was cut, and its corners are guessed."""
    quads = unlike_rectangles(np.random.default_rng(0), 150)
    quads = quads[((quads >= 0) & (quads <= 1000)).all(axis=(1, 2))]
    rings = Rings.from_quads(quads)
    truth = Instances(np.arange(len(quads)), rings.bounds(), rings=rings, task="obb")
    windows = grid(1000, 1000, 400, overlap)
    merged = stitch(parts_of(truth, windows), (1000, 1000)).instances
    assert sorted(merged.class_id.tolist()) == list(range(len(quads)))
    order = np.argsort(merged.class_id)
    found = shapely.polygons(polygons.rectangles(merged.rings.quads()[order]))
    expected = shapely.polygons(polygons.rectangles(quads))
    common = shapely.area(shapely.intersection(found, expected))
    iou = common / (shapely.area(found) + shapely.area(expected) - common)
    assert np.flatnonzero(iou < least).tolist() == []


NEAR_A_SEAM = Instances(
    np.array([0, 0]), np.array([[578.9, 831.4, 876.7, 1077.4], [628.6, 956.1, 639.4, 989.4]])
)


def test_a_small_object_beside_a_seam_in_a_large_one():
    """Its tile shows both, so the one is no piece of the other."""
    windows = grid(1664, 1664, 640, 0)
    assert_gives_back(NEAR_A_SEAM, windows, (1664, 1664))


# --- what becomes of each detection

TILES = [Window(0, 0, 640, 640), Window(512, 0, 640, 640)]
SIZE = (1152, 640)


def seen(*rows, classes=None):
    """Detections given as (conf, x0, y0, x1, y1), in pixels of their tile."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    class_id = np.zeros(len(table), np.int64) if classes is None else np.array(classes)
    return Instances(class_id, table[:, 1:], conf=table[:, 0])


def both(left, right, **options):
    return stitch(list(zip(TILES, (left, right), strict=True)), SIZE, **options)


def scene(task, seed=0, kind="mixed"):
    """Parts of a scene with noise, so that every method has something to do."""
    truth, side = truth_of(task, kind, 320, seed)
    windows = grid(side, side, 320, 64)
    rng = np.random.default_rng(seed)
    parts = []
    for window, shown in parts_of(truth, windows):
        shown = shown.take(rng.random(len(shown)) < 0.95)
        parts.append((window, replace(shown, conf=rng.integers(1, 9, len(shown)) / 8)))
    return parts, (side, side)


HALVES = seen((0.9, 300, 100, 640, 200)), seen((0.5, 0, 100, 388, 200))


def test_halves_are_one_object():
    out = both(*HALVES)
    assert out.instances.boxes.tolist() == [[300, 100, 900, 200]]
    assert out.instances.conf.tolist() == [0.9]
    assert out.fate.tolist() == [KEPT, FUSED]
    assert out.into.tolist() == [0, 0]
    assert out.tile.tolist() == [0, 1]
    assert out.cut.tolist() == [True, True]


# The fates that each method gives, apart from those that options give
GIVES = {
    "cvm": {KEPT, FUSED, ORPHAN},
    "nms": {KEPT, SUPPRESSED},
    "nmm": {KEPT, FUSED},
    "greedy-nmm": {KEPT, FUSED},
    "wbf": {KEPT, FUSED},
    "soft-nms": {KEPT},
    "center": {KEPT, NOT_OWNED},
    "none": {KEPT},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_for_every_task(method, task):
    parts, size = scene(task)
    out = stitch(parts, size, method=method, conf=0.2)
    merged, n = out.instances, sum(len(rows) for _, rows in parts)
    assert len(out.fate) == len(out.into) == len(out.tile) == len(out.cut) == n
    assert set(out.fate.tolist()) <= GIVES[method] | {LOW_CONF, DUPLICATE}
    conf = np.concatenate([rows.conf for _, rows in parts])
    # weak rows join, merged ones are judged; an orphan's confidence is halved before
    if method == "cvm":
        assert (merged.conf >= 0.2).all() and (conf[out.fate == LOW_CONF] < 0.4).all()
    else:
        np.testing.assert_array_equal(out.fate == LOW_CONF, conf < 0.2)
    gone = np.isin(out.fate, [LOW_CONF, NOT_OWNED])
    np.testing.assert_array_equal(out.into < 0, gone)
    assert (out.into < len(merged)).all()
    # every merged detection is made of somebody, one of them kept
    assert sorted(set(out.into[~gone].tolist())) == list(range(len(merged)))
    standing = out.into[(out.fate == KEPT) | (out.fate == ORPHAN)]
    assert len(set(standing.tolist())) == len(standing) == len(merged)
    assert (np.diff(merged.conf) <= 0).all()
    assert merged.row.tolist() == list(range(len(merged)))
    assert merged.task == task
    assert (merged.boxes[:, 2:] > merged.boxes[:, :2]).all()
    assert np.isfinite(merged.boxes).all()
    if merged.rings is not None:
        assert shapely.is_valid(merged.rings.geometry()).all()
        np.testing.assert_allclose(merged.boxes, merged.rings.bounds(), atol=1e-9)
    classes = np.concatenate([rows.class_id for _, rows in parts])
    np.testing.assert_array_equal(merged.class_id[out.into[~gone]], classes[~gone])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_tiles_and_rows_counts_for_nothing(method, task):
    parts, size = scene(task, seed=1)
    expected = stitch(parts, size, method=method).instances
    for seed in range(3):
        rng = np.random.default_rng(seed)
        shuffled = [
            (parts[k][0], parts[k][1].take(rng.permutation(len(parts[k][1]))))
            for k in rng.permutation(len(parts))
        ]
        found = stitch(shuffled, size, method=method).instances
        assert_same(
            *(
                replace(rows, visible=np.ones(len(rows)), area=np.ones(len(rows)))
                for rows in (found, expected)
            )
        )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", ["cvm", "nms", "center", "none"])
def test_what_is_stitched_stays_so(method, task):
    parts, size = scene(task, seed=2, kind="crowd")
    if method == "none":  # what two tiles saw alike would be a repetition in one
        parts = [
            (window, replace(rows, conf=rows.conf - 1e-6 * k))
            for k, (window, rows) in enumerate(parts)
        ]
    once = stitch(parts, size, method=method).instances
    twice = stitch([(Window(0, 0, *size), once)], size, method=method)
    assert_same(twice.instances, once)
    assert twice.fate.tolist() == [KEPT] * len(once)
    assert twice.into.tolist() == list(range(len(once)))


def test_greedy_merging_of_what_does_not_grow_into_others_stays():
    """What has grown may reach others then; small objects far apart do not."""
    parts, size = scene("detect", seed=2, kind="small")
    once = stitch(parts, size, method="greedy-nmm").instances
    assert_same(stitch([(Window(0, 0, *size), once)], size, method="greedy-nmm").instances, once)


@pytest.mark.parametrize("method", METHODS)
def test_one_tile_of_objects_apart_is_left_alone(method):
    rows = seen(
        (0.9, 10, 10, 50, 50), (0.8, 100, 10, 150, 50), (0.7, 10, 300, 150, 350), classes=[2, 0, 1]
    )
    out = stitch([(Window(100, 50, 640, 640), rows)], (2000, 2000), method=method)
    assert_same(replace(out.instances, row=rows.row), rows.moved(100, 50))
    assert out.fate.tolist() == [KEPT] * 3


@pytest.mark.parametrize("method", METHODS)
def test_exact_duplicates_are_counted_and_do_not_compete(method):
    once = seen((0.9, 100, 100, 200, 200), (0.3, 300, 300, 340, 340))
    again = once.take(np.array([0, 1, 0, 0]))
    out = both(again, seen(), method=method)
    assert_same(out.instances, both(once, seen(), method=method).instances)
    assert out.fate.tolist() == [KEPT, KEPT, DUPLICATE, DUPLICATE]
    assert out.into.tolist() == [0, 1, 0, 0]


def test_a_duplicate_is_equal_in_everything():
    row = (0.9, 100, 100, 200, 200)
    assert DUPLICATE not in both(seen(row, row, classes=[0, 1]), seen(), method="none").fate
    assert DUPLICATE not in both(seen(row), seen((0.9, -412, 100, -312, 200)), method="none").fate
    assert DUPLICATE not in both(seen(row, (0.8, *row[1:])), seen(), method="none").fate
    assert both(seen(row, row), seen(), method="none").fate.tolist() == [KEPT, DUPLICATE]


def shaped(task, *many, conf=0.5):
    """Detections of the same box: quads as OBBs or outlines, or keypoints."""
    n, table = len(many), np.array(many, np.float64)
    columns = {"rings": Rings.from_quads(table)} if task != "pose" else {"keypoints": table}
    xyxy = (
        columns["rings"].bounds() if task != "pose" else np.tile([[100, 100, 200, 200.0]], (n, 1))
    )
    return Instances(np.zeros(n, np.int64), xyxy, conf=np.full(n, conf), task=task, **columns)


CROSSED = (
    [(100, 102), (102, 100), (200, 198), (198, 200)],
    [(100, 198), (198, 100), (200, 102), (102, 200)],
)
POSES = [(110, 110, 2), (190, 190, 2)], [(190, 190, 2), (110, 110, 2)]
SHAPES = {"obb": CROSSED, "segment": CROSSED, "pose": POSES}


@pytest.mark.parametrize("task", SHAPES)
def test_the_same_box_around_another_shape_is_no_duplicate(task):
    one, other = SHAPES[task]
    assert both(
        shaped(task, one, other), shaped(task, one).take(np.empty(0, int)), method="none"
    ).fate.tolist() == [KEPT, KEPT]
    assert both(
        shaped(task, one, one), shaped(task, one).take(np.empty(0, int)), method="none"
    ).fate.tolist() == [
        KEPT,
        DUPLICATE,
    ]


@pytest.mark.parametrize("task", SHAPES)
def test_the_order_of_equal_boxes_around_other_shapes_counts_for_nothing(task):
    rows = shaped(task, *SHAPES[task])
    one, other = (
        both(given, rows.take(np.empty(0, int)), method="none").instances
        for given in (rows, rows.take(np.array([1, 0])))
    )
    assert_same(one, other)


@pytest.mark.parametrize("task", SHAPES)
def test_a_duplicate_is_found_behind_another_shape_of_the_same_box(task):
    one, other = SHAPES[task]
    rows = shaped(task, one, other, one)
    assert both(rows, rows.take(np.empty(0, int)), method="none").fate.tolist() == [
        KEPT,
        KEPT,
        DUPLICATE,
    ]


def test_the_full_image_of_what_holds_nothing():
    for parts in ([], [(TILES[0], seen())], list(zip(TILES, (seen(), seen()), strict=True))):
        for method in METHODS:
            out = stitch(parts, SIZE, method=method)
            assert out.instances.boxes.shape == (0, 4)
            assert (
                out.instances.conf.shape
                == out.fate.shape
                == out.into.shape
                == out.cut.shape
                == (0,)
            )


NOTHING_UNITED = ("nmm", "greedy-nmm", "wbf")


@pytest.mark.parametrize(
    ("task", "method"),
    [
        pytest.param(
            task,
            method,
        )
        for task in TASKS
        for method in METHODS
    ],
)
def test_no_detections_of_a_task(task, method):
    none = replace(empty(task, 3), conf=np.empty(0))
    out = stitch([(window, none) for window in TILES], SIZE, method=method)
    assert (len(out.instances), out.instances.task) == (0, task)


def test_an_empty_part_between_others():
    windows = [*TILES, Window(1024, 0, 640, 640)]
    parts = list(zip(windows, (HALVES[0], seen(), seen((0.4, 100, 100, 120, 120))), strict=True))
    out = stitch(parts, (1664, 640))
    assert out.tile.tolist() == [0, 2]
    assert out.instances.boxes.tolist() == [[300, 100, 640, 200], [1124, 100, 1144, 120]]


# --- options


def test_low_confidences_are_left_out_before_anything_else():
    rows = seen(
        (0.9, 100, 100, 200, 200),
        (0.25, 300, 100, 400, 200),
        (0.2, 100, 300, 200, 400),
        classes=[0, 1, 1],
    )
    assert both(rows, seen(), conf=0.25).fate.tolist() == [KEPT, KEPT, LOW_CONF]
    assert both(rows, seen(), conf="0.95,1=0.1").fate.tolist() == [LOW_CONF, KEPT, KEPT]
    assert both(rows, seen(), conf="0.1,cat=0.22", names=["dog", "cat"]).into.tolist() == [0, 1, -1]
    assert both(rows, seen(), conf={"": 0, "cat": 0.22}, names=["dog", "cat"]).into.tolist() == [
        0,
        1,
        -1,
    ]


@pytest.mark.parametrize("method", ["nms", "greedy-nmm", "nmm", "wbf"])
def test_the_iou_of_each_class(method):
    pair = (0.9, 100, 100, 200, 200), (0.8, 100, 100, 200, 160)  # IoU 0.6
    rows = seen(*pair, *pair, classes=[0, 0, 1, 1])
    count = {
        value: len(both(rows, seen(), method=method, iou=value).instances)
        for value in (0.5, 0.7, "0.5,1=0.7", "0.7,1=0.5")
    }
    assert count == {0.5: 2, 0.7: 4, "0.5,1=0.7": 3, "0.7,1=0.5": 3}


def test_the_overlap_of_the_smaller_one():
    rows = seen((0.9, 100, 100, 300, 300), (0.8, 150, 150, 190, 190))
    assert len(both(rows, seen(), method="nms").instances) == 2
    assert len(both(rows, seen(), method="nms", metric="ios").instances) == 1


def test_classes_that_compete():
    left = seen((0.5, 300, 100, 640, 200), (0.9, 10, 10, 90, 90), classes=[0, 2])
    right = seen((0.3, 0, 100, 388, 200), (0.4, 4, 100, 388, 200), classes=[1, 1])
    assert len(both(left, right).instances) == 4
    names = ["car", "truck", "ship"]
    for options in (
        {"groups": "car,truck"},
        {"groups": [["car", "truck"]]},
        {"groups": "0,1"},
        {"class_agnostic": True},
    ):
        out = both(left, right.take(np.array([0])), names=names, **options)
        assert out.instances.class_id.tolist() == [2, 0]
        assert out.instances.boxes[1].tolist() == [300, 100, 900, 200]
    assert len(both(left, right, names=names, groups="car,ship").instances) == 4


def test_the_class_is_that_with_most_confidence_in_sum():
    windows = [Window(0, 0, 640, 640), Window(0, 0, 639, 640), Window(1, 0, 639, 640)]
    parts = [
        (window, seen((conf, 100 - window.x, 100, 200 - window.x, 200), classes=[c]))
        for window, conf, c in zip(windows, (0.5, 0.3, 0.3), (0, 1, 1), strict=True)
    ]
    for options in ({"class_agnostic": True}, {"groups": "0,1"}):
        out = stitch(parts, (640, 640), **options)
        assert out.instances.class_id.tolist() == [1]
        assert out.instances.conf.tolist() == [0.5]
    assert stitch(parts, (640, 640)).instances.class_id.tolist() == [0, 1]


@pytest.mark.parametrize("method", METHODS)
def test_the_most_confident_of_each_picture(method):
    rows = seen(*[(0.1 * k, 60 * k, 10, 60 * k + 40, 50) for k in range(1, 9)])
    out = both(rows, seen(), method=method, max_det=3)
    np.testing.assert_allclose(out.instances.conf, [0.8, 0.7, 0.6])
    assert out.fate.tolist() == [OVER_MAX] * 5 + [KEPT] * 3
    assert out.into.tolist() == [-1] * 5 + [2, 1, 0]
    assert len(both(rows, seen(), method=method, max_det=0).instances) == 8


@pytest.mark.parametrize("method", ["cvm", "nmm", "greedy-nmm", "wbf"])
def test_the_area_is_that_of_what_was_merged(method):
    out = both(
        seen((0.9, 300, 100, 640, 200)), seen((0.5, -100, 100, 388, 200)), method=method, iou=0.1
    ).instances
    assert len(out) == 1
    assert out.area.tolist() == box.area(out.boxes).tolist()


def test_who_was_fused_into_one_over_the_limit_is_over_it_too():
    left = seen((0.5, 300, 100, 640, 200), (0.9, 10, 10, 90, 90))
    out = both(left, HALVES[1], max_det=1)
    assert out.fate.tolist() == [OVER_MAX, KEPT, OVER_MAX]
    assert out.into.tolist() == [-1, 0, -1]


ALONE = seen((0.8, 516, 100, 640, 200), (0.6, 300, 300, 640, 400), (0.7, 10, 10, 90, 90))


@pytest.mark.parametrize(
    ("orphans", "conf"),
    [("keep", [0.8, 0.7, 0.6]), ("decay", [0.7, 0.6, 0.4]), ("drop", [0.7, 0.6])],
)
def test_a_cut_detection_that_another_tile_should_have_seen(orphans, conf):
    """The first: the right tile shows it whole. The second reaches too far to the left for that."""
    out = both(ALONE, seen(), orphans=orphans)
    np.testing.assert_allclose(out.instances.conf, conf)
    assert out.fate.tolist() == [KEPT if orphans == "keep" else ORPHAN, KEPT, KEPT]
    assert (out.into[0] < 0) == (orphans == "drop")
    assert both(ALONE, seen((0.1, 4, 100, 128, 200)), orphans=orphans).fate.tolist() == [
        KEPT,
        KEPT,
        KEPT,
        FUSED,
    ]


ROW_OF_TILES = [(0, 0, 640, 640), (512, 0, 640, 640), (624, 0, 640, 640)]


def test_a_fragment_goes_with_the_orphan_that_absorbed_it():
    """The second tile shows both whole and reported nothing; the fragment lies in the orphan."""
    left = [[520, 100, 640, 200, 0.9, 0], [10, 10, 50, 50, 0.8, 0]]
    parts = list(zip(ROW_OF_TILES, (left, [], [[0, 120, 12, 140, 0.5, 0]]), strict=True))
    kept = stitch(parts, (1264, 640), orphans="keep")
    assert kept.fate.tolist() == [KEPT, KEPT, FUSED]
    decayed = stitch(parts, (1264, 640), orphans="decay")
    assert decayed.fate.tolist() == [ORPHAN, KEPT, FUSED]
    assert decayed.into.tolist() == [1, 0, 1]
    dropped = stitch(parts, (1264, 640), orphans="drop")
    assert dropped.fate.tolist() == [ORPHAN, KEPT, ORPHAN]
    assert dropped.into.tolist() == [-1, 0, -1]
    assert dropped.instances.conf.tolist() == [0.8]


# cut and not cut, some of them fragments that lie in others
NEAR_EDGES = [
    (520, 100, 640, 200),
    (0, 100, 128, 200),
    (0, 120, 12, 140),
    (600, 120, 640, 140),
    (10, 10, 50, 50),
]


@st.composite
def rows_near_edges(draw):
    """Detections of one tile."""
    chosen = draw(st.lists(st.sampled_from(NEAR_EDGES), max_size=2))
    return [[*corners, draw(st.sampled_from([0.2, 0.5, 0.9])), 0] for corners in chosen]


@quick
@given(
    st.tuples(rows_near_edges(), rows_near_edges(), rows_near_edges()),
    st.sampled_from(["decay", "drop"]),
)
def test_every_row_has_one_fate(rows, orphans):
    parts = list(zip(ROW_OF_TILES, rows, strict=True))
    out = stitch(parts, (1264, 640), conf=0.0, orphans=orphans)
    assert len(out.fate) == len(out.into) == sum(map(len, rows))
    gone = out.into == -1
    assert set(out.into[~gone].tolist()) == set(range(len(out.instances)))
    first_rows = out.fate != DUPLICATE
    assert set(out.fate[first_rows & ~gone].tolist()) <= {KEPT, FUSED, ORPHAN}
    assert set(out.fate[first_rows & gone].tolist()) <= {ORPHAN}
    assert orphans == "drop" or not gone.any()


def test_the_default_is_to_halve():
    assert both(ALONE, seen()).instances.conf.min() == 0.4
    assert MergeOptions().orphans == "decay"


# --- methods


def test_center_keeps_what_lies_deepest_in_its_tile():
    left, right = (
        seen((0.5, 520, 100, 560, 200), (0.9, 600, 300, 640, 400)),
        seen((0.9, 8, 100, 48, 200), (0.5, 88, 300, 128, 400)),
    )
    out = both(left, right, method="center")
    assert out.fate.tolist() == [KEPT, NOT_OWNED, NOT_OWNED, KEPT]
    assert out.into.tolist() == [0, -1, -1, 1]


def test_center_of_what_lies_in_the_middle_of_the_overlap_goes_to_the_first_tile():
    left, right = seen((0.5, 566, 100, 586, 200)), seen((0.5, 54, 100, 74, 200))
    assert both(left, right, method="center").fate.tolist() == [KEPT, NOT_OWNED]
    swapped = stitch([(TILES[1], right), (TILES[0], left)], SIZE, method="center")
    assert swapped.fate.tolist() == [NOT_OWNED, KEPT]


def test_soft_nms_lowers_and_drops_nothing():
    rows = seen((0.9, 100, 100, 200, 200), (0.8, 100, 100, 200, 200), (0.7, 300, 300, 400, 400))
    out = both(rows, seen(), method="soft-nms")
    np.testing.assert_allclose(out.instances.conf, [0.9, 0.7, 0.8 * np.exp(-2)])


def test_wbf_means_boxes_and_confidences():
    rows = seen((0.9, 100, 100, 200, 200), (0.3, 104, 100, 204, 200))
    out = both(rows, seen(), method="wbf").instances
    np.testing.assert_allclose(out.boxes, [[101, 100, 201, 200]])
    np.testing.assert_allclose(out.conf, [0.6])


def test_nmm_is_transitive_and_greedy_is_not():
    rows = seen(*[(0.9 - 0.1 * k, 100 + 30 * k, 100, 200 + 30 * k, 200) for k in range(4)])
    assert both(rows, seen(), method="nmm").instances.boxes.tolist() == [[100, 100, 290, 200]]
    assert len(both(rows, seen(), method="greedy-nmm").instances) == 2


# --- detections of other libraries


def test_anything_with_xyxy_confidence_and_class_id():
    theirs = [
        SimpleNamespace(
            xyxy=rows.boxes.astype(np.float32).tolist(),
            confidence=rows.conf,
            class_id=[0.0] * len(rows),
        )
        for rows in HALVES
    ]
    out = both(*theirs)
    assert_same(out.instances, both(*HALVES).instances)
    assert out.instances.class_id.dtype == np.int64
    nobody = SimpleNamespace(
        xyxy=np.empty((0, 4), np.float32), confidence=np.empty(0), class_id=np.empty(0)
    )
    assert len(both(nobody, nobody).instances) == 0
    assert len(both(HALVES[0], nobody).instances) == 1


def test_what_is_no_detections_is_refused():
    with pytest.raises(TilerError, match=r"\.xyxy, \.confidence and \.class_id; got dict"):
        both({}, seen())
    with pytest.raises(TilerError, match="None for one of them"):
        both(SimpleNamespace(xyxy=np.zeros((1, 4)), confidence=None, class_id=np.zeros(1)), seen())
    with pytest.raises(TilerError, match="columns of one length"):
        both(SimpleNamespace(xyxy=np.zeros((2, 4)), confidence=[0.5], class_id=[1]), seen())


@pytest.mark.parametrize(
    "columns",
    [
        {"xyxy": [1, 1, 5], "confidence": [0.5], "class_id": [0]},
        {"xyxy": [["a", "b", "c", "d"]], "confidence": [0.5], "class_id": [0]},
        {"xyxy": [[1, 1, 5, 5]], "confidence": [0.5], "class_id": ["car"]},
        {"xyxy": [[1, 1, 5, np.nan]], "confidence": [0.5], "class_id": [0]},
        {"xyxy": [[1, 1, 5, 5]], "confidence": [np.nan], "class_id": [0]},
    ],
    ids=["three numbers", "text", "a name", "nan", "nan conf"],
)
def test_columns_of_something_else_are_refused(columns):
    with pytest.raises(TilerError):
        both(SimpleNamespace(**columns), seen())


# --- errors


def test_detections_need_a_confidence():
    with pytest.raises(TilerError, match="need a confidence"):
        both(replace(HALVES[0], conf=None), HALVES[1])


def test_detections_of_several_tasks_are_refused():
    with pytest.raises(TilerError, match=r"one task are needed, got \['detect', 'obb'\]"):
        both(HALVES[0], shaped("obb", CROSSED[0]))


def test_poses_of_different_keypoints_are_refused():
    one, other = (shaped("pose", [(1, 1, 2)] * count) for count in (3, 5))
    with pytest.raises(TilerError):
        both(one, other)


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        ({"iou": "0.5,dgo=0.4"}, ["dog", "cat"], r"no class 'dgo'; did you mean 'dog'\?"),
        ({"conf": "0.5,2=0.4"}, ["dog", "cat"], "no class '2'"),
        ({"groups": "dog,bird"}, ["dog", "cat"], "no class 'bird'"),
        ({"groups": "dog,cat"}, None, "no class 'dog'; class names are not known here"),
        ({"methd": "nms"}, None, r"unknown option 'methd'; did you mean 'method'\?"),
        ({"method": "nsm"}, None, r"--method: expected one of .*did you mean 'nms'\?\), got 'nsm'"),
        ({"iou": 1.5}, None, "--iou: expected a number from 0 to 1, such as"),
        ({"conf": None}, None, "--conf: expected a number from 0 to 1, such as"),
        ({"groups": "dog"}, None, "--groups: expected groups of two or more classes"),
        ({"groups": "dog,cat;cat,bird"}, None, "--groups: expected groups of two or more classes"),
        ({"max_det": -1}, None, "--max-det: expected a whole number of at least 0"),
        ({"orphans": "loose"}, None, "--orphans: expected one of keep, decay, drop"),
        ({"metric": "giou"}, None, "--metric: expected one of iou, ios"),
    ],
)
def test_wrong_options_are_refused(options, names, message):
    with pytest.raises(TilerError, match=message):
        both(*HALVES, names=names, **options)


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("iou", None, None),
        ("iou", "0.5", 0.5),
        ("iou", "0.50, car=.4", "0.5,car=0.4"),
        ("iou", {"": 0.5, "car": 0.4}, "0.5,car=0.4"),
        ("iou", {"car": 0.4, 3: 1}, "car=0.4,3=1.0"),
        ("conf", "car=.4", "car=0.4"),
        ("conf", 1, 1.0),
        ("conf", "0,a=b=0.1", "0.0,a=b=0.1"),
        pytest.param(
            "conf",
            "0.1234567,car=0.7654321",
            "0.1234567,car=0.7654321",
        ),
        ("groups", "", ""),
        ("groups", " car, truck ;bus,van", "car,truck;bus,van"),
        ("groups", [["car", "truck"], ("bus", 3)], "car,truck;bus,3"),
        ("class_agnostic", "yes", True),
        ("max_det", "300", 300),
    ],
)
def test_options_as_text_and_as_values(name, given, value):
    options = MergeOptions.of({name: given})
    assert getattr(options, name) == value
    assert MergeOptions.of(options.plain()) == options


@pytest.mark.parametrize(
    "bad",
    [
        {"iou": "x"},
        {"iou": "0.5,0.4"},
        {"iou": "0.5,car=2"},
        {"iou": "0.5,car=0.1,car=0.2"},
        {"iou": "car=x"},
        {"iou": "0.5,=0.2"},
        {"iou": {}},
        pytest.param({"iou": {"car": 2}}),
        {"iou": True},
        {"conf": "nan"},
        {"conf": -0.1},
        {"groups": "a,a"},
        {"groups": "a,,b"},
        {"groups": 5},
        {"class_agnostic": "perhaps"},
        {"max_det": 1.5},
        {"parts": "all"},
        {"method": None},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant(bad):
    try:
        MergeOptions.of(bad)
    except TilerError as error:
        [name] = bad
        assert str(error).startswith(f"--{name.replace('_', '-')}: expected ")
        assert "\n" not in str(error)
    else:
        pytest.fail("accepted")


def test_every_fate_has_a_name():
    assert len(FATES) == len(set(FATES)) == 9
    assert set(stitching._METHODS) == set(METHODS) == set(GIVES)


def test_merging_what_is_in_source_pixels_already():
    rows = Instances(
        np.zeros(2, int),
        np.array([[300, 100, 640, 200], [512, 100, 900, 200.0]]),
        conf=np.array([0.9, 0.5]),
    )
    tiles = TileRects.of(np.array([window.bounds for window in TILES]), SIZE)
    out = stitching.merged(rows, np.array([0, 1]), tiles, MergeOptions())
    assert_same(out.instances, both(*HALVES).instances)


def test_what_is_given_is_not_changed():
    left, right = (replace(rows, boxes=rows.boxes.copy(), conf=rows.conf.copy()) for rows in HALVES)
    for method in METHODS:
        both(left, right, method=method)
    assert_same(left, HALVES[0])
    assert_same(right, HALVES[1])


# --- with a detector that errs


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    # dataclasses look their module up
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def precision(truth, found):
    """Mean over classes and IoUs .5 to .95 of the area under precision by recall."""
    values = []
    for c in np.unique(truth.class_id):
        gt, rows = truth.take(truth.class_id == c), found.take(found.class_id == c)
        low, high = (
            np.maximum(rows.boxes[:, None, :2], gt.boxes[:, :2]),
            np.minimum(rows.boxes[:, None, 2:], gt.boxes[:, 2:]),
        )
        common = np.maximum(high - low, 0).prod(axis=-1)
        iou = common / (box.area(rows.boxes)[:, None] + box.area(gt.boxes) - common)
        for threshold in np.arange(0.5, 1, 0.05):
            free, hit = np.ones(len(gt), bool), np.zeros(len(rows), bool)
            near = iou >= threshold
            for k in np.flatnonzero(near.any(axis=1)):
                best = int(np.argmax(np.where(free & near[k], iou[k], -1)))
                hit[k] = free[best] and near[k, best]
                free[best] &= not hit[k]
            right = np.cumsum(hit)
            curve = np.maximum.accumulate((right / np.arange(1, len(hit) + 1))[::-1])[::-1]
            values.append((curve * hit).sum() / len(gt))
    return float(np.mean(values))


OTHERS = {
    "nms": {},
    "nms of the smaller": {"method": "nms", "metric": "ios"},
    "nmm": {"metric": "ios"},
    "greedy-nmm": {"metric": "ios"},
    "wbf": {},
    "soft-nms": {},
    "center": {},
    "none": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_method_is_better_on_the_simulated_detector(kind):
    """A part of what benchmarks/methods.py measures, the mean of a few scenes."""
    detector = load("detector")
    side, values = 1664, []
    for seed in range(5):
        truth = detector.scenes(kind, seed)
        truth = truth.take((truth.boxes < side).all(axis=1))
        parts = detector.detect(
            truth, grid(side, side, 640, 128), (side, side), detector.Noise(), seed
        )
        merged = [
            stitch(parts, (side, side), **{"method": name, **options}).instances
            for name, options in OTHERS.items()
        ]
        values.append(
            [precision(truth, rows) for rows in (stitch(parts, (side, side)).instances, *merged)]
        )
    mine, *others = np.mean(values, axis=0)
    assert dict(zip(OTHERS, others, strict=True)) == {
        name: value for name, value in zip(OTHERS, others, strict=True) if value <= mine
    }


def test_a_weak_report_of_a_neighbour_makes_no_orphan():
    """--conf leaves merged detections out; until then, weak ones tell that another tile saw the
    object.
    """
    strong, weak = seen((0.9, 600, 100, 640, 160)), seen((0.2, 88, 100, 160, 160))
    for conf in (0.0, 0.25):
        found = both(strong, weak, conf=conf).instances
        assert found.conf.tolist() == [0.9]
        assert found.boxes.tolist() == [[600, 100, 672, 160]]


def test_detections_are_in_pixels_of_their_window():
    windows = [(0, 0, 400, 400), (320, 0, 400, 400)]
    left, right = [300, 100, 400, 150, 0.9, 0], [0, 100, 140, 150, 0.8, 0]

    def of(*rows):
        parts = zip(windows, np.array(rows, float)[:, None], strict=True)
        return stitch(list(parts), size=(720, 400))

    assert of(left, right).instances.boxes.tolist() == [[300, 100, 460, 150]]
    with pytest.raises(TilerError, match="1 of 2 detections lie outside.*pixels of the image"):
        of(left, [520, 100, 640, 150, 0.8, 0])
    with pytest.raises(TilerError, match="2 of 2 detections lie in the first 2 px.*normalised"):
        of([0.75, 0.25, 1, 0.375, 0.9, 0], [0, 0.25, 0.35, 0.375, 0.8, 0])
