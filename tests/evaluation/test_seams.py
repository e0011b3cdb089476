"""Seams: answers known by hand, loops that say the same, and a merger made worse on purpose."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import box_arrays, quick
from tiler.errors import TilerError
from tiler.evaluation import bootstrap, coco, seams
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.evaluation.layout import TileLayout
from tiler.evaluation.seams import Visibility
from tiler.geometry import boxes as box
from tiler.geometry.instances import Instances, empty

TWO = np.array([[0, 0, 100, 80], [80, 0, 180, 80.0]])  # 20 px overlap
NONE = np.empty(0, np.int64)


def layout_of(*rects, size=(180, 80)):
    """One image for each array of tiles."""
    many = [np.asarray(r, float).reshape(-1, 4) for r in rects]
    return TileLayout.of(
        many, [np.ones(len(r)) for r in many], np.array([size] * len(many), float).reshape(-1, 2)
    )


def instances(boxes, class_id=None, conf=None):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    return Instances(
        np.zeros(len(boxes), np.int64) if class_id is None else np.asarray(class_id),
        boxes,
        conf=conf,
    )


def sample_of(labels, found, label_image=None, found_image=None, images=1, conf=None, **truth):
    """Boxes of class 0, or `Instances`."""
    labels = labels if isinstance(labels, Instances) else instances(labels)
    if not isinstance(found, Instances):
        found = instances(found)
        found = instances(
            found.boxes,
            conf=np.linspace(1, 0.6, len(found)) if conf is None else np.asarray(conf, float),
        )
    at = [
        np.zeros(len(r), np.int64) if i is None else np.asarray(i)
        for r, i in ((labels, label_image), (found, found_image))
    ]
    return EvaluationInputs(
        GroundTruth(labels, at[0], **truth), Predicted.of(found, at[1]), images, 3
    )


def scored(sample):
    pairs = candidates(sample)
    return pairs, coco.matched(sample, pairs)


def margins(*values):
    return Visibility(np.array(values, float), np.ones(len(values)), np.ones(len(values), np.int64))


def same(one, other):
    """Equal rows, NaN and all."""
    return [json.dumps(dataclasses.asdict(r)) for r in one] == [
        json.dumps(dataclasses.asdict(r)) for r in other
    ]


# visibility


@pytest.mark.parametrize(
    ("what", "given", "margin", "share", "tiles"),
    [
        ("far from the seam", [10, 10, 20, 20], 80, 1, 1),
        ("in the overlap, seen by both", [82, 10, 92, 20], 8, 1, 2),
        ("inside, touching the side", [90, 10, 100, 20], 10, 1, 2),
        ("ends at its tile's side, the other cuts it", [70, 10, 100, 20], 0, 1, 2),
        ("cut in both", [70, 10, 110, 20], -10, 0.75, 2),
        ("at the image's border, which is no seam", [0, 0, 10, 80], 90, 1, 1),
        ("more than the image", [-10, -10, 30, 20], 70, 0.5, 1),
        ("outside", [0, 90, 10, 99], -np.inf, 0, 0),
        (
            "less than a pixel, an eighth of it in the first",
            [99.9375, 10, 100.4375, 10.5],
            19.9375,
            1,
            1,
        ),
        ("a point in both", [90, 10, 90, 10], 10, 1, 2),
        ("a line with its centre in one", [60, 10, 80, 10], 20, 1, 1),
        ("a point outside", [200, 10, 200, 10], -np.inf, 0, 0),
    ],
)
def test_a_box_in_two_tiles(what, given, margin, share, tiles):
    seen = seams.visibility(np.array([given], float), np.zeros(1, np.int64), layout_of(TWO))
    assert (seen.margin[0], seen.share[0], seen.tiles[0]) == (margin, share, tiles)


def test_a_tile_that_shows_too_little_does_not_count():
    given = np.array([[60, 10, 85, 20.0]])  # the second tile shows a fifth
    for least, tiles in ((0.25, 1), (0.2, 2), (1.0, 1)):
        assert seams.visibility(
            given, np.zeros(1, np.int64), layout_of(TWO), least
        ).tiles.tolist() == [tiles]


@quick
@given(box_arrays())
def test_one_tile_has_no_seam(boxes):
    seen = seams.visibility(
        boxes, np.zeros(len(boxes), np.int64), layout_of([[0, 0, 200, 200]], size=(200, 200))
    )
    assert (seen.margin == np.inf).all()
    assert (seen.share == 1).all()
    assert (seen.tiles == 1).all()


def test_without_overlap_what_lies_across_is_cut():
    tiles = layout_of([[0, 0, 90, 80], [90, 0, 180, 80]])
    seen = seams.visibility(
        np.array([[80, 0, 100, 9], [80, 0, 90, 9], [90, 0, 95, 9.0]]), np.zeros(3, np.int64), tiles
    )
    assert seen.margin.tolist() == [-10, 0, 0]
    assert seen.share.tolist() == [0.5, 1, 1]
    assert seen.tiles.tolist() == [2, 1, 1]


def looped(boxes, image, layout, min_share):
    """The definition, box by box and tile by tile."""
    rows = []
    for (x0, y0, x1, y1), own in zip(boxes.tolist(), image.tolist(), strict=True):
        margin, share, tiles = -np.inf, 0.0, 0
        for t in range(layout.offsets[own], layout.offsets[own + 1]):
            a, b, c, d = layout.rects[t].tolist()
            w, h = layout.sizes[own]
            common = max(0, min(x1, c) - max(x0, a)) * max(0, min(y1, d) - max(y0, b))
            area = (x1 - x0) * (y1 - y0)
            if area > 0:
                met, part = common > 0, common / area
            else:
                met = a <= (x0 + x1) / 2 <= c and b <= (y0 + y1) / 2 <= d
                part = float(met)
            if not met:
                continue
            inside = [
                s
                for s, inner in ((x0 - a, a > 0), (y0 - b, b > 0), (c - x1, c < w), (d - y1, d < h))
                if inner
            ]
            margin, share, tiles = (
                max(margin, min(inside, default=np.inf)),
                max(share, part),
                tiles + (part >= min_share),
            )
        rows.append((margin, share, tiles))
    return np.array(rows).reshape(-1, 3).T


@st.composite
def scenes(draw):
    """Boxes, some without size, their images, and a layout of up to three images."""
    images = draw(st.integers(1, 3))
    layout = layout_of(
        *(draw(box_arrays(6, smallest=20)).round() for _ in range(images)), size=(200, 200)
    )
    boxes = draw(box_arrays(8))
    flat = np.array(draw(st.lists(st.booleans(), min_size=len(boxes), max_size=len(boxes))), bool)
    boxes[flat, 2] = boxes[flat, 0]
    image = np.sort(
        draw(st.lists(st.integers(0, images - 1), min_size=len(boxes), max_size=len(boxes)))
    ).astype(np.int64)
    return boxes, image, layout


@quick
@given(scenes(), st.sampled_from([0.1, 0.25, 1.0]))
def test_visibility_is_what_loops_say(scene, min_share):
    seen = seams.visibility(*scene, min_share)
    margin, share, tiles = looped(*scene, min_share)
    assert np.array_equal(seen.margin, margin)
    assert np.array_equal(seen.share, share)
    assert np.array_equal(seen.tiles, tiles)


@quick
@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_boxes_and_tiles_does_not_matter(scene, random):
    boxes, image, layout = scene
    order = np.array(random.sample(range(len(boxes)), len(boxes)), np.int64)
    parts = [
        layout.rects[a:b][::-1]
        for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)
    ]
    one, other = (
        seams.visibility(*scene),
        seams.visibility(boxes[order], image[order], layout_of(*parts, size=(200, 200))),
    )
    for name in ("margin", "share", "tiles"):
        assert np.array_equal(getattr(one, name)[order], getattr(other, name))


@quick
@given(scenes())
def test_one_more_tile_takes_nothing_away(scene):
    boxes, image, layout = scene
    parts = [
        layout.rects[a:b] for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)
    ]
    more = layout_of(*(np.concatenate([p, [[50, 50, 150, 150.0]]]) for p in parts), size=(200, 200))
    before, after = seams.visibility(*scene), seams.visibility(boxes, image, more)
    assert (after.margin >= before.margin).all()
    assert (after.share >= before.share).all()
    assert (after.tiles >= before.tiles).all()


# table


def test_bins_begin_where_they_say():
    edges = [-np.inf, -16.01, -16, -0.01, 0, 3.99, 4, 15.99, 16, 63.99, 64, np.inf]
    squares = [[20 * i, 0, 20 * i + 9, 9] for i in range(len(edges))]
    sample = sample_of(squares, squares)
    rows = seams.table(sample, *scored(sample), margins(*edges))
    assert [(r.margin, r.labels, r.recall50, r.recall, r.duplicates, r.iou) for r in rows] == [
        (name, 2, 1.0, 1.0, 0.0, 1.0) for name in seams.MARGIN_NAMES
    ]


def test_recall_over_thresholds_and_the_mean_iou():
    sample = sample_of(
        [[0, 0, 10, 10], [50, 0, 60, 10], [90, 0, 99, 9]], [[0, 0, 10, 10], [50, 0, 60, 7.2]]
    )
    row = seams.table(sample, *scored(sample), margins(70, 70, 70))[-1]
    assert (row.labels, row.recall50, row.iou) == (3, pytest.approx(2 / 3), pytest.approx(0.86))
    assert row.recall == pytest.approx((1 + 0.5) / 3)  # .72 is enough for 5 of 10 thresholds


def test_labels_that_do_not_count_are_in_no_row():
    squares = [[0, 0, 10, 10], [50, 0, 60, 10]]
    sample = sample_of(squares, squares + squares, ignored=np.array([False, True]))
    last = seams.table(sample, *scored(sample), margins(70, 70))[-1]
    assert (last.labels, last.recall50, last.duplicates) == (1, 1.0, 1.0)


def test_a_duplicate_counts_once_for_the_label_it_overlaps_most():
    labels = [[0, 0, 10, 10], [0, 0, 10, 9]]
    # of the second; of none, being less than half
    found = [*labels, [0, 0, 10, 9.2], [0, 0, 10, 4]]
    sample = sample_of(labels, found)
    for least in (0.5, 0.1):
        pairs = candidates(sample, least)
        rows = seams.table(sample, pairs, coco.matched(sample, pairs), margins(-5, 70))
        assert [r.duplicates for r in rows if r.labels] == [0.0, 1.0]


def test_other_classes_are_no_duplicates():
    square = [[0, 0, 10, 10]]
    found = instances(square * 3, class_id=[0, 0, 1], conf=np.array([0.9, 0.8, 0.95]))
    sample = sample_of(square, found)
    matched = coco.matched(sample, candidates(sample))
    rows = seams.table(sample, candidates(sample, any_class=True), matched, margins(0))
    assert rows[2].duplicates == 1.0


def test_candidates_that_begin_too_high_are_refused():
    sample = sample_of([[0, 0, 9, 9]], [[0, 0, 9, 9]])
    pairs = candidates(sample, 0.75)
    with pytest.raises(TilerError, match=r"0\.5"):
        seams.table(sample, pairs, coco.matched(sample, pairs), margins(0))


# gap


def test_the_gap_between_sizes():
    """Small ones are missed, at seams or not; those at seams are large: the plain gap is negative,
    the other nil.
    """
    small, large = (
        np.array([[40 * i, y, 40 * i + s, y + s] for i in range(4)], float)
        for y, s in ((0, 6), (20, 30))
    )
    labels = np.concatenate([small, large, large + [0, 50, 0, 50]])
    sample = sample_of(labels, labels[4:])
    matched = scored(sample)[1]
    result = seams.gap(sample, matched, margins(*[90, 90, 90, 2], *[-1] * 4, *[90] * 4))
    assert (result.seam, result.inside, result.recall_seam, result.recall_inside) == (
        5,
        7,
        0.8,
        pytest.approx(4 / 7),
    )
    assert result.gap == pytest.approx(4 / 7 - 0.8)
    assert (result.size_matched, result.covered) == (0, 5)
    # one image
    assert np.isnan(
        [result.low, result.high, result.size_matched_low, result.size_matched_high]
    ).all()
    apart = seams.gap(sample, matched, margins(*[90] * 4, *[-1] * 8))
    assert np.isnan(apart.size_matched)
    assert apart.covered == 0
    given = seams.gap(sample, matched, margins(*[90] * 4, *[-1] * 8), areas=np.full(12, 100.0))
    assert (given.size_matched, given.covered) == (-1, 8)


def test_what_lies_between_is_on_neither_side():
    squares = [[20 * i, 0, 20 * i + 9, 9] for i in range(4)]
    sample = sample_of(squares, squares)
    result = seams.gap(sample, scored(sample)[1], margins(3.9, 4, 63.9, 64))
    assert (result.seam, result.inside) == (1, 1)


def test_the_gap_is_of_labels_that_count():
    squares = [[20 * i, 0, 20 * i + 9, 9] for i in range(4)]
    sample = sample_of(squares, squares, ignored=np.array([True, False, True, False]))
    result = seams.gap(sample, scored(sample)[1], margins(-1, -1, 80, 80))
    assert (result.seam, result.inside, result.gap) == (1, 1, 0)


def bootstrapped(labels, found, replicates, seed):
    """Image by image, the sample as it is first; `(I, sizes, 2)` counts."""
    plain, alike = [], []
    for weight in (np.ones(len(labels), int), *bootstrap.weights(len(labels), replicates, seed)):
        n, k = (
            sum(w * c for w, c in zip(weight, counts, strict=True)) for counts in (labels, found)
        )
        if n.sum(axis=0).all():
            plain.append(k[:, 1].sum() / n[:, 1].sum() - k[:, 0].sum() / n[:, 0].sum())
        sizes = [s for s in range(len(n)) if n[s].all()]
        if sizes:
            lost = [n[s, 0] * (k[s, 1] / n[s, 1] - k[s, 0] / n[s, 0]) for s in sizes]
            alike.append(sum(lost) / sum(n[s, 0] for s in sizes))
    ends = (
        np.percentile(gaps[1:], [2.5, 97.5]) - np.mean(gaps[1:]) + gaps[0]
        for gaps in (plain, alike)
    )
    return [float(np.clip(end, -1, 1)) for pair in ends for end in pair]


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_is_a_bootstrap_over_images(seed):
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(0, 6, 80))
    corner, side = np.arange(80)[:, None] * [200, 0], rng.choice([5, 12, 40], (80, 1))
    squares = np.concatenate([corner, corner + side], axis=1)
    margin = rng.choice([-3.0, 10.0, 90.0], 80)
    known = rng.random(80) < np.where(margin < 4, 0.4, 0.9)
    sample = sample_of(squares, squares[known], image, image[known], images=7)
    result = seams.gap(sample, scored(sample)[1], margins(*margin), replicates=50, seed=seed)
    labels, found = np.zeros((7, 6, 2)), np.zeros((7, 6, 2))
    for i in np.flatnonzero(margin != 10):
        at = (image[i], {5: 0, 12: 1, 40: 3}[int(side[i, 0])], int(margin[i] > 4))
        labels[at] += 1
        found[at] += known[i]
    shown = [result.low, result.high, result.size_matched_low, result.size_matched_high]
    assert shown == pytest.approx(bootstrapped(labels, found, 50, seed))
    assert result.low <= result.gap <= result.high
    assert result == seams.gap(
        sample, scored(sample)[1], margins(*margin), replicates=50, seed=seed
    )


def test_an_interval_ends_where_gaps_may():
    """All is found inside; at seams, one of one in the first image and none of four in others:
    replicates lie too low.
    """
    image = np.concatenate([np.arange(6), [0], np.repeat(np.arange(1, 6), 4)])
    squares = np.array([[20 * i, 0, 20 * i + 9, 9] for i in range(len(image))], float)
    order = np.argsort(image, kind="stable")
    margin = np.repeat([90.0, -1.0], [6, 21])[order]
    sample = sample_of(squares[order], squares[:7], image[order], image[:7], images=6)
    result = seams.gap(sample, scored(sample)[1], margins(*margin))
    assert result.gap == pytest.approx(20 / 21)
    assert result.low < result.gap < result.high == 1


# density


def of_points(points, layout, image=None, conf=None):
    points = np.asarray(points, float).reshape(-1, 2)
    around = np.concatenate([points - 2, points + 2], axis=1)
    conf = np.ones(len(points)) if conf is None else conf
    sample = sample_of(empty(), around, found_image=image, images=len(layout.sizes), conf=conf)
    return seams.density(sample, np.full((len(points), 1), -1), layout, 0.5)


def test_the_band_of_two_tiles():
    near, *_, far = of_points([[90, 40], [66, 1], [60, 1], [120, 40], [300, 40]], layout_of(TWO))
    # x from 64 to 116
    assert (near.distance, near.band_area, near.elsewhere_area) == (16, 52 * 80, 128 * 80)
    # one is outside the image
    assert (near.in_band, near.elsewhere, near.ratio) == (2, 2, pytest.approx(128 / 52))
    assert (far.band_area, far.in_band, far.elsewhere) == (148 * 80, 4, 0)
    assert np.isnan(far.ratio)


def test_beyond_the_end_of_a_side_is_no_seam():
    # sides from (50, 0) and from (0, 50), to (50, 50)
    tiles = layout_of([[0, 0, 50, 50]], size=(200, 200))
    near = of_points([[60, 40], [60, 55], [40, 60], [10, 10]], tiles)[0]
    assert (near.in_band, near.elsewhere, near.band_area) == (2, 2, 32 * 50 * 2 - 16 * 16)


def test_false_are_those_sure_enough_and_matched_to_nothing():
    found = [[88, 8, 92, 12], [88, 28, 92, 32], [88, 48, 92, 52], [88, 68, 92, 72], [8, 8, 12, 12]]
    labels, crowd = [[88, 8, 92, 12], [80, 20, 99, 40]], np.array([False, True])
    sample = sample_of(labels, found, conf=[0.9, 0.8, 0.5, 0.4, 0.7], crowd=crowd)
    near = seams.density(sample, scored(sample)[1], layout_of(TWO), 0.5)[0]
    assert (near.in_band, near.elsewhere) == (1, 1)


def test_without_seams_there_is_no_band():
    for tiles in ([[0, 0, 180, 80]], []):
        for row in of_points([[10, 10]], layout_of(tiles)):
            assert (row.in_band, row.band_area, row.elsewhere, row.elsewhere_area) == (
                0,
                0,
                1,
                180 * 80,
            )
            assert np.isnan(row.ratio)


def bands(layout, image, distance):
    """Shapely's union of what lies beside the sides."""
    parts, (w, h) = [], layout.sizes[image]
    for t in range(layout.offsets[image], layout.offsets[image + 1]):
        a, b, c, d = layout.rects[t]
        for inner, x in ((a > 0, a), (c < w, c)):
            parts += [shapely.box(x - distance, b, x + distance, d)] * bool(inner)
        for inner, y in ((b > 0, b), (d < h, d)):
            parts += [shapely.box(a, y - distance, c, y + distance)] * bool(inner)
    return shapely.intersection(shapely.union_all(parts), shapely.box(0, 0, w, h))


@quick
@given(scenes(), st.data())
def test_bands_are_shapelys(scene, data):
    _, _, layout = scene
    images = len(layout.sizes)
    # odd quarters: never on the border of a band, whose sides are whole
    at = st.integers(0, 799).map(lambda k: k / 4 + 0.125)
    points = np.array(data.draw(st.lists(st.tuples(at, at), max_size=8))).reshape(-1, 2)
    image = np.array(
        data.draw(st.lists(st.integers(0, images - 1), min_size=len(points), max_size=len(points))),
        np.int64,
    )
    for row in of_points(points, layout, image):
        shapes = [bands(layout, i, row.distance) for i in range(images)]
        assert row.band_area == pytest.approx(sum(s.area for s in shapes))
        assert row.band_area + row.elsewhere_area == pytest.approx(images * 200 * 200)
        hits = sum(shapely.contains_xy(shapes[i], *p) for p, i in zip(points, image, strict=True))
        assert (row.in_band, row.elsewhere) == (hits, len(points) - hits)


def test_many_images_with_equal_tiles_are_as_many_bands():
    one, two = (
        of_points([[90, 40]], layout_of(TWO))[0],
        of_points([[90, 40], [5, 5]], layout_of(TWO, [], TWO), [2, 0])[0],
    )
    assert (two.band_area, two.elsewhere_area) == (
        2 * one.band_area,
        3 * 180 * 80 - 2 * one.band_area,
    )
    assert (two.in_band, two.elsewhere) == (1, 1)


# by_resolution


def test_bins_in_network_pixels_leave_out_their_end():
    sides = [3.9, 4, 7.9, 8, 16, 32, 64, 95.9, 96, 500]
    squares = np.array([[600 * i, 0, 600 * i + s, s] for i, s in enumerate(sides)])
    bounds = instances(squares)
    areas = np.square(sides)  # as an annotation has them: the boxes' own are rounded
    sample = sample_of(dataclasses.replace(bounds, area=areas), squares)
    rows = seams.by_resolution(sample, candidates(sample), np.ones(1))
    assert [r.side for r in rows] == ["0-4", "4-8", "8-16", "16-32", "32-64", "64-96", "96+"]
    assert [r.labels for r in rows] == [1, 2, 1, 1, 1, 2, 2]
    assert all(
        r.recall50 == 1 and r.ap == pytest.approx(1) and r.ap50 == pytest.approx(1) for r in rows
    )


def test_each_image_has_its_scale():
    squares = [[0, 0, 40, 40], [0, 0, 40, 40]]
    sample = sample_of(squares, squares[:1], [0, 1], [0], images=2)
    rows = {
        r.side: r
        for r in seams.by_resolution(sample, candidates(sample), np.array([0.5, 0.1]))
        if r.labels
    }
    assert set(rows) == {"16-32", "4-8"}
    assert (rows["16-32"].recall50, rows["4-8"].recall50, rows["4-8"].ap) == (1, 0, 0)


def test_false_positives_have_the_size_that_the_network_sees():
    found = [[100, 0, 110, 10], [0, 0, 40, 40]]  # the more confident is wrong, and of another size
    sample = sample_of([[0, 0, 40, 40]], found)
    for scale, name in ((1, "32-64"), (0.4, "16-32")):
        rows = {
            r.side: r
            for r in seams.by_resolution(sample, candidates(sample), np.full(1, scale))
            if r.labels
        }
        assert rows[name].ap == pytest.approx(1)
    sample = sample_of([[0, 0, 20, 20]], [[100, 0, 110, 18], [0, 0, 20, 20]])
    rows = {
        r.side: r
        for r in seams.by_resolution(sample, candidates(sample), np.full(1, 0.5))
        if r.labels
    }
    assert rows["8-16"].ap == pytest.approx(1)  # of 6.7 network px
    rows = {
        r.side: r
        for r in seams.by_resolution(sample, candidates(sample), np.full(1, 1.0))
        if r.labels
    }
    assert rows["16-32"].ap == pytest.approx(1)
    rows = {
        r.side: r
        for r in seams.by_resolution(sample, candidates(sample), np.full(1, 0.7))
        if r.labels
    }
    assert rows["8-16"].ap == pytest.approx(0.5)  # of 9.4 and 14 network px: one bin


def test_a_scale_of_one_is_coco():
    rng = np.random.default_rng(3)
    corner, side = rng.uniform(0, 900, (60, 2)), rng.uniform(2, 60, (60, 1))
    squares = np.concatenate([corner, corner + side], axis=1)
    sample = sample_of(squares, squares + rng.normal(0, 2, squares.shape), conf=rng.random(60))
    pairs = candidates(sample)
    rows = seams.by_resolution(sample, pairs, np.ones(1))
    ends = [0, 4, 8, 16, 32, 64, 96, 1e5]
    curves = coco.evaluate(
        sample, pairs, [coco.Bin.of(r.side, *e) for r, e in zip(rows, pairwise(ends), strict=True)]
    )
    for r in rows:
        expected = [curves.ap(r.side), curves.ap(r.side, iou=0.5), curves.ar(r.side, iou=0.5)]
        assert np.array_equal([r.ap, r.ap50, r.recall50], expected, equal_nan=True)


# all


def test_nothing_is_ordinary():
    for images in (0, 2):
        layout = layout_of(*[TWO] * images)
        sample = EvaluationInputs(
            GroundTruth(empty(), NONE),
            Predicted.of(instances([], conf=np.empty(0)), NONE),
            images,
            1,
        )
        pairs, matched = scored(sample)
        seen = seams.visibility(np.empty((0, 4)), NONE, layout)
        assert len(seen.margin) == len(seen.share) == len(seen.tiles) == 0
        assert [
            (r.labels, np.isnan(r.duplicates)) for r in seams.table(sample, pairs, matched, seen)
        ] == [(0, True)] * 6
        nil = seams.gap(sample, matched, seen)
        assert (nil.seam, nil.inside, nil.covered) == (0, 0, 0)
        assert np.isnan([nil.gap, nil.size_matched, nil.low, nil.size_matched_high]).all()
        assert all(
            r.in_band == r.elsewhere == 0 and np.isnan(r.ratio)
            for r in seams.density(sample, matched, layout, 0.5)
        )
        assert [r.labels for r in seams.by_resolution(sample, pairs, np.ones(images))] == [0] * 7


def scene(images=6, side=1192):
    """Squares of 10 to 50 px that lie apart, in tiles of 400 px that overlap by 4, and false
    positives anywhere.
    """
    rng = np.random.default_rng(0)
    x, y = (a.ravel() for a in np.meshgrid([0, 396, 792], [0, 396, 792]))
    layout = layout_of(*[np.stack([x, y, x + 400, y + 400], axis=1)] * images, size=(side, side))
    cell = (
        np.stack([a.ravel() for a in np.meshgrid(np.arange(16), np.arange(16))], axis=1) * 74.5
        + 37.25
    )
    centre, half = np.tile(cell, (images, 1)), rng.uniform(5, 25, (images * 256, 1))
    centre = centre + rng.uniform(-11, 11, centre.shape)
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    around = rng.uniform(0, side, (200 * images, 2))
    noise = np.concatenate([around - 3, around + 3], axis=1)
    return (
        boxes,
        np.repeat(np.arange(images), 256),
        layout,
        noise,
        np.repeat(np.arange(images), 200),
    )


def measured(boxes, image, layout, found, found_image, images=6):
    sample = sample_of(boxes, found, image, found_image, images)
    pairs, matched = scored(sample)
    seen = seams.visibility(boxes, image, layout)
    rows = seams.table(sample, pairs, matched, seen)
    return rows, seams.gap(sample, matched, seen), seams.density(sample, matched, layout, 0.5)


def test_a_merger_that_leaves_halves_shows():
    boxes, image, layout, noise, noise_image = scene()
    seen = seams.visibility(boxes, image, layout)
    cut = seen.margin < 0
    parts = []
    for tile in range(layout.offsets[1]):  # all images have the same tiles
        # as detectors do, they end shortly before the edge
        seen_well = layout.rects[tile] + [4, 4, -4, -4]
        common = box.intersection(boxes[cut], seen_well)
        there = box.area(common) > 0
        parts.append((common[there], image[cut][there]))
    halves, of_halves = (np.concatenate(column) for column in zip(*parts, strict=True))

    rows, gap, near = measured(
        boxes, image, layout, np.concatenate([boxes, noise]), np.concatenate([image, noise_image])
    )
    assert all(r.recall50 == r.recall == 1 for r in rows if r.labels)
    assert (gap.gap, gap.size_matched, gap.low, gap.high) == (0, 0, 0, 0)
    assert [0.7 < r.ratio < 1.4 for r in near] == [True] * 3

    found, of_found = (
        np.concatenate([boxes[~cut], halves, noise]),
        np.concatenate([image[~cut], of_halves, noise_image]),
    )
    rows, gap, worse = measured(boxes, image, layout, found, of_found)
    assert rows[0].labels + rows[1].labels == cut.sum() > 30
    assert [r.recall50 for r in rows[2:]] == [1] * 4
    assert rows[0].recall50 < 0.6
    assert rows[1].recall < 0.6
    assert rows[1].iou < 0.9
    assert 0 < gap.low < gap.gap < gap.high
    assert gap.size_matched == pytest.approx(gap.gap)  # of those inside, every size is found
    assert gap.covered == gap.seam
    assert [r.ratio > 1.5 * b.ratio for r, b in zip(worse[:2], near[:2], strict=True)] == [True] * 2
    assert worse[0].ratio > worse[1].ratio > worse[2].ratio > 1


def test_a_merger_that_reports_twice_shows():
    boxes, image, layout, noise, noise_image = scene()
    twice = seams.visibility(boxes, image, layout).margin < 4
    again = boxes[twice] + (boxes[twice, 2:3] - boxes[twice, :1]) * [0.1, 0, 0.1, 0]  # IoU .82
    found, of_found = (
        np.concatenate([boxes, again, noise]),
        np.concatenate([image, image[twice], noise_image]),
    )
    rows, gap, near = measured(boxes, image, layout, found, of_found)
    assert [r.recall50 for r in rows] == [1] * 6
    assert [r.duplicates for r in rows] == [1] * 3 + [0] * 3
    assert gap.gap == 0
    assert near[0].ratio > 1.5


@quick
@given(scenes(), st.data())
def test_mirrored_scenes_have_the_same_seams(scene, data):
    labels, image, layout = scene
    seen = data.draw(box_arrays(6))
    seen = np.concatenate([seen, labels + [0, 0, 2, 2]]).round(1) + 0.0625
    images = len(layout.sizes)
    of_seen = np.concatenate([np.zeros(len(seen) - len(labels), np.int64), image])

    def mirrored(boxes):
        return boxes[:, [1, 0, 3, 2]]  # across the diagonal: exact

    parts = [
        layout.rects[a:b] for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)
    ]
    results = []
    for flip in (lambda b: b, mirrored):
        tiles = layout_of(*(flip(p) for p in parts), size=(200, 200))
        sample = sample_of(flip(labels), flip(seen), image, of_seen, images)
        pairs, matched = scored(sample)
        vis = seams.visibility(flip(labels), image, tiles)
        results.append(
            [
                *seams.table(sample, pairs, matched, vis),
                seams.gap(sample, matched, vis, replicates=5),
                *seams.density(sample, matched, tiles, 0.5),
            ]
        )
    assert same(*results)
