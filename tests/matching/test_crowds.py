"""Crowds: what is found row by row is what all pairs together tell."""

from contextlib import contextmanager

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.matching.test_suppression import crowd, greedily, overlap
from tests.strategies import box_arrays, outlines, quick
from tiler.errors import TilerError
from tiler.geometry import neighbours
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.matching import common_view, crowded_view, crowds
from tiler.matching.overlaps import Sides
from tiler.matching.suppression import clustered, softened, wbf
from tiler.matching.tiles import TileRects
from tiler.options import METHODS, MergeOptions
from tiler.stitching import competition, merged, methods
from tiler.types import TASKS

SIZE = (400, 300)


@contextmanager
def no_room():
    """Every two detections are a crowd."""
    with pytest.MonkeyPatch.context() as patch:
        for module, names in (
            (neighbours, ("ROOM", "ROOM_EACH")),
            (methods, ("PAIRS", "ROW")),
            (competition, ("SHAPES", "SHAPES_EACH", "ALL_SHAPES")),
            (common_view, ("SHAPES", "SHAPES_EACH")),
        ):
            for name in names:
                patch.setattr(module, name, 0)
        patch.setattr(neighbours, "CROWD", 3)
        patch.setattr(competition, "FEW", 3)
        patch.setattr(competition, "FEW_SHAPES", 3)
        patch.setattr(common_view, "STEP_SHAPES", 5)
        patch.setattr(crowded_view, "LISTED", 2)
        yield


# --- the pieces, against loops


@quick
@given(st.integers(0, 10_000), st.sampled_from(["iou", "ios"]), st.integers(1, 6))
def test_competing_in_turns_is_the_loop(seed, metric, few):
    boxes, _ = crowd(seed)

    def among(some):
        return between(some, some)

    def between(one, other):
        i, j = (index.ravel() for index in np.meshgrid(one, other, indexing="ij"))
        alike = np.array(
            [overlap(boxes[a], boxes[b][None], metric)[0] for a, b in zip(i, j, strict=True)]
        )
        good = (i < j) & (alike >= 0.4)
        yield i[good], j[good]

    assert (
        crowds.suppressed(len(boxes), among, between, few).tolist()
        == greedily(boxes, metric, 0.4).tolist()
    )


@quick
@given(st.integers(0, 10_000), st.sampled_from([None, 1, 4]))
def test_joined_portion_by_portion_is_what_can_be_reached(seed, step):
    boxes, _ = crowd(seed, n=20)
    asked = []

    def alike(i, j):
        asked.extend(zip(i.tolist(), j.tolist(), strict=True))
        good = np.array(
            [overlap(boxes[a], boxes[b][None], "iou")[0] >= 0.3 for a, b in zip(i, j, strict=True)],
            bool,
        )
        return i[good], j[good]

    label = list(range(len(boxes)))
    for a in range(len(boxes)):  # join all that overlap, as often as anything changes
        for b in range(len(boxes)):
            if a != b and overlap(boxes[a], boxes[b][None], "iou")[0] >= 0.3:
                low, high = sorted((label[a], label[b]))
                label = [low if value == high else value for value in label]
    assert crowds.joined(boxes, np.zeros(len(boxes), int), alike, step=step).tolist() == label
    assert len(set(asked)) == len(asked)


@quick
@given(box_arrays(max_size=12), st.sampled_from(["iou", "ios"]), st.data())
def test_a_row_is_all_that_a_box_overlaps(boxes, metric, data):
    kind = np.array(
        data.draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes))), np.int64
    )
    rows = crowds.BoxOverlaps(boxes, kind, metric)
    left = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))), bool
    )
    for kept in (np.ones(len(boxes), bool), left):
        rows.keep(kept)
        for k in np.flatnonzero(kept):
            others, alike = rows.of(k)
            expected = overlap(boxes[k], boxes, metric) * (kind == kind[k]) * kept
            expected[k] = 0
            got = np.zeros(len(boxes))
            got[others] = alike
            np.testing.assert_array_equal(got, expected)


def test_rows_of_too_many_on_one_spot_are_an_error(monkeypatch):
    monkeypatch.setattr(crowds, "MOST", 99)
    with pytest.raises(TilerError, match="on one spot; leave weak ones out with --conf"):
        crowds.BoxOverlaps(np.tile([0, 0, 9, 9.0], (10, 1)), np.zeros(10, int), "iou")


@quick
@given(st.integers(0, 10_000))
def test_soft_nms_row_by_row_is_the_loop(seed):
    boxes, conf = crowd(seed)
    expected, left = conf.copy(), list(range(len(conf)))
    while left:
        k = max(left, key=lambda i: (expected[i], -i))
        left.remove(k)
        for other in left:
            expected[other] *= np.exp(-(overlap(boxes[k], boxes[other][None], "iou")[0] ** 2) / 0.5)
    rows = crowds.BoxOverlaps(boxes, np.zeros(len(boxes), int), "iou")
    np.testing.assert_array_equal(softened(conf, rows.waiting), expected)


@quick
@given(st.integers(0, 10_000))
def test_fusing_row_by_row_is_that_of_all_pairs(seed):
    boxes, conf = crowd(seed)
    rows = crowds.BoxOverlaps(boxes, np.zeros(len(boxes), int), "iou")
    every, threshold = np.arange(len(boxes)), np.full(len(boxes), 0.4)
    i, j = np.triu_indices(len(boxes), 1)
    met = np.array(
        [overlap(boxes[a], boxes[b][None], "iou")[0] > 0 for a, b in zip(i, j, strict=True)], bool
    )
    one, other = (
        clustered(boxes, conf, rows.stronger, every, threshold),
        wbf(boxes, conf, i[met], j[met], threshold),
    )
    for got, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(got, expected)


@settings(quick, max_examples=60)
@given(st.lists(outlines(), min_size=1, max_size=5), st.lists(outlines(), max_size=3))
def test_sides_tell_the_common_areas_of_shapes(many, others):
    """Holes, parts and what crosses itself as well; GEOS builds the intersections."""
    shapes, more = (Rings.of(rings).geometry() for rings in (many, others))
    sides, of = Sides(shapes), Sides(more)
    for k, shape in enumerate(shapes):
        np.testing.assert_allclose(
            sides.common(k), shapely.area(shapely.intersection(shapes, shape)), rtol=1e-9, atol=1e-6
        )
    for k, shape in enumerate(more):
        np.testing.assert_allclose(
            sides.common(k, of),
            shapely.area(shapely.intersection(shapes, shape)),
            rtol=1e-9,
            atol=1e-6,
        )


# --- the whole, against the way without crowds


def scene(task, seed):
    """Detections of a few tiles, many of them on the same few spots; some equal, some with equal
    confidences.
    """
    rng = np.random.default_rng(seed)
    step = rng.choice([1, 4, 8])
    count = int(rng.integers(1, 7))
    corner = rng.integers(0, [5, 4], (count, 2)) * 40.0
    rects = np.minimum(
        np.concatenate([corner, corner + rng.choice([160, 200, 320])], axis=1), [*SIZE, *SIZE]
    )
    n = int(rng.integers(0, 30))
    spots = np.round(rng.uniform(0, 1, (max(2, n // 4), 4)) * [380, 280, 60, 60] / step) * step + [
        0,
        0,
        6,
        6,
    ]
    tile, spot = rng.integers(0, count, n), spots[rng.integers(0, len(spots), n)]
    low = spot[:, :2] + rng.choice([0, 0.7]) * rng.normal(size=(n, 2))
    boxes = np.concatenate([low, low + spot[:, 2:]], axis=1)
    window = rects[tile]
    boxes = np.concatenate(
        [np.maximum(boxes[:, :2], window[:, :2]), np.minimum(boxes[:, 2:], window[:, 2:])], axis=1
    )
    seen = (boxes[:, 2:] - boxes[:, :2] > 3).all(axis=1)
    boxes, tile, n = boxes[seen], tile[seen], int(seen.sum())
    conf = rng.uniform(0.1, 1, n) if rng.random() < 0.5 else rng.integers(1, 6, n) / 8
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    columns = {}
    if task == "pose":
        points = centre[:, None] + rng.uniform(-1, 1, (n, 3, 2)) * half[:, None]
        columns["keypoints"] = np.concatenate([points, rng.integers(0, 3, (n, 3, 1))], axis=-1)
    elif task != "detect":
        angle = rng.choice([0.0, 0.3], n)[:, None] + np.arange(
            4 if task == "obb" else 9
        ) * 2 * np.pi / (4 if task == "obb" else 9)
        reach = 1.0 if task == "obb" else rng.choice([0.7, 1.0], angle.shape)
        around = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * np.expand_dims(
            reach * np.ones_like(angle), -1
        )
        columns["rings"] = Rings.of([[ring] for ring in centre[:, None] + around * half[:, None]])
        boxes = columns["rings"].bounds()
    own = Instances(rng.integers(0, 2, n), boxes, conf=conf, task=task, **columns)
    return own, tile, TileRects.of(rects, SIZE)


def told(result):
    """All that a merge says, but for confidences."""
    own = result.instances
    columns = [
        own.boxes,
        own.class_id,
        own.keypoints,
        None if own.rings is None else own.rings.coords,
        result.into,
        result.fate,
    ]
    return [None if column is None else column.tolist() for column in columns]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
@settings(quick, max_examples=12)
@given(
    seed=st.integers(0, 100_000),
    iou=st.sampled_from([None, 0.2, 0.6]),
    metric=st.sampled_from(["iou", "ios"]),
)
def test_a_crowd_is_merged_as_if_it_were_none(task, method, seed, iou, metric):
    own, tile, tiles = scene(task, seed)
    options = MergeOptions(method=method, iou=iou, metric=metric, class_agnostic=seed % 3 == 0)
    expected = merged(own, tile, tiles, options)
    with no_room():
        got = merged(own, tile, tiles, options)
    # sides round otherwise, so that what ties may change places
    if method == "soft-nms" and own.rings is not None:
        conf = [np.sort(result.instances.conf) for result in (got, expected)]
        np.testing.assert_allclose(*conf, rtol=1e-9, atol=0)
        return
    assert told(got) == told(expected)
    np.testing.assert_array_equal(got.instances.conf, expected.instances.conf)


@pytest.mark.parametrize("task", ["detect", "obb"])
def test_equal_shapes_on_one_spot_pair_up_in_their_order(task):
    """As many in either tile: nothing but their confidences tells them apart."""
    n = 120
    boxes = np.tile([550, 100, 590, 140.0], (n, 1))
    rings = (
        None
        if task == "detect"
        else Rings.from_quads(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    )
    own = Instances(np.zeros(n, int), boxes, rings=rings, conf=np.linspace(0.9, 0.1, n), task=task)
    tiles = TileRects.of(np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]]), (1152, 640))
    with no_room():
        result = merged(own, np.arange(n) % 2, tiles, MergeOptions())
    assert result.into.tolist() == (np.arange(n) // 2).tolist()


def test_tiles_of_one_window_all_see_the_same():
    rng = np.random.default_rng(0)
    boxes = np.tile([[10, 10, 40, 40], [60, 60, 99, 99.0]], (40, 1)) + rng.uniform(0, 1, (80, 1))
    tiles = TileRects.of(np.tile([0, 0, 200, 200.0], (40, 1)), (300, 200))
    own = Instances(np.zeros(80, int), boxes, conf=rng.uniform(0.1, 1, 80))
    with no_room():
        result = merged(own, np.repeat(np.arange(40), 2), tiles, MergeOptions())
    assert len(result.instances) == 2
