"""What the seams of tiles cost, on the full image: recall, duplicates, false positives and size in
network pixels.

A box is near a seam when no tile holds it with pixels to spare. Its containment margin says how
many, and everything here is a table over that margin, or over the distance to a tile's side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation import bootstrap, coco
from tiler.evaluation.bins import Bin
from tiler.geometry import boxes as box
from tiler.geometry import neighbours
from tiler.matching.tiles import OUTWARDS

if TYPE_CHECKING:
    from tiler.evaluation.candidates import Candidates
    from tiler.evaluation.inputs import EvaluationInputs
    from tiler.evaluation.layout import TileLayout
    from tiler.types import Bools, Floats, Ints

# px: labels of a smaller margin are at a seam, those of this or a larger one are not
SEAM, INSIDE = 4.0, 64.0
MARGINS = (-16.0, 0.0, SEAM, 16.0, INSIDE)  # px, where bins of margin begin
MARGIN_NAMES = (
    "cut by over 16 px",
    "cut by up to 16 px",
    "0-4 px inside",
    "4-16 px inside",
    "16-64 px inside",
    "64+ px inside",
)
SIDES = (8.0, 16.0, 32.0, 64.0, 96.0)  # px of squares, where bins of size begin
NETWORK_SIDES = (0.0, 4.0, *SIDES, np.inf)
DISTANCES = (16.0, 32.0, 64.0)  # px from a seam


@dataclass(frozen=True, slots=True, eq=False)
class Visibility:
    """How the tiles of its image show each of N boxes.

    Attributes:
        margin: `(N,)` px. Of a tile, how far the box lies inside its interior sides, the least of
            them (those on the image's border cut nothing: without others, inf). Of the box, the
            largest of the tiles that it meets: below 0 every tile cuts it, by that many px; -inf
            where it meets none.
        share: `(N,)` the largest part of its area that one tile shows.
        tiles: `(N,)` how many tiles show a large enough part.
    """

    margin: Floats
    share: Floats
    tiles: Ints


def visibility(
    boxes: Floats, image: Ints, layout: TileLayout, min_share: float = 0.25
) -> Visibility:
    """How the tiles show boxes. A tile meets a box if they share area, or if it has the centre of a
    box that has no area.

    Args:
        boxes: `(N, 4)` xyxy, px of their image.
        image: `(N,)`.
        min_share: the part of its area, above 0, with which a box counts as seen in a tile.

    >>> from tiler.evaluation.layout import TileLayout
    >>> layout = TileLayout.of([np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]])], [np.ones(2)], np.array([[1152, 640.0]]))
    >>> seen = visibility(np.array([[0, 0, 100, 50], [600, 0, 630, 30], [448, 0, 704, 9.0]]), np.zeros(3, int), layout)
    >>> seen.margin.tolist(), seen.share.tolist(), seen.tiles.tolist()
    ([540.0, 88.0, -64.0], [1.0, 1.0, 0.75], [1, 2, 2])
    """
    margin = np.full(len(boxes), -np.inf)
    share = np.zeros(len(boxes))
    tiles = np.zeros(len(boxes), np.int64)
    area = box.area(boxes)
    for i, j in _shown(boxes, area, image, layout):
        inwards = (layout.rects[j] - boxes[i]) * OUTWARDS
        np.maximum.at(margin, i, np.where(layout.interior[j], inwards, np.inf).min(axis=1))
        common = box.area(box.intersection(boxes[i], layout.rects[j]))
        part = np.divide(common, area[i], out=np.ones(len(i)), where=area[i] > 0)
        np.maximum.at(share, i, part)
        np.add.at(tiles, i, part >= min_share)
    return Visibility(margin, share, tiles)


def _shown(
    boxes: Floats, area: Floats, image: Ints, layout: TileLayout
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes and the tiles that they meet."""
    of_tile = layout.image()
    yield from neighbours.alike(boxes, layout.rects, image, of_tile)
    flat = np.flatnonzero(area <= 0)
    centre = (boxes[flat, :2] + boxes[flat, 2:]) / 2
    # the search leaves out what has no size
    around = np.concatenate([centre - 1, centre + 1], axis=1)
    for i, j in neighbours.alike(around, layout.rects, image[flat], of_tile):
        held = box.inside(np.tile(centre[i], 2), layout.rects[j])
        yield flat[i[held]], j[held]


@dataclass(frozen=True, slots=True)
class SeamRow:
    """The labels of one bin of margin; NaN where there are none.

    Attributes:
        margin: name of the bin.
        labels: how many count.
        recall50: the part of them that is found at an IoU of .5.
        recall: the mean of that over the thresholds .5 to .95.
        duplicates: per label, detections of its class of an IoU of .5 and more that are matched to
            no label; one that overlaps several labels is a duplicate of the one it overlaps most.
        iou: mean over the labels found at .5.
    """

    margin: str
    labels: int
    recall50: float
    recall: float
    duplicates: float
    iou: float


def table(
    sample: EvaluationInputs, pairs: Candidates, matched: Ints, visibility: Visibility
) -> list[SeamRow]:
    """How labels are found by their margin, from those that are cut most to those far from seams.

    Args:
        pairs: candidates of the sample, from an IoU of .5 or less on.
        matched: `(D, T)` of `coco.matched`, at its thresholds.
        visibility: of the labels.

    Raises:
        TilerError: the candidates begin above .5.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label, zero = np.array([[0, 0, 8, 8], [60, 0, 68, 8.0]]), np.zeros(2, int)
    >>> found = Predicted.of(Instances(zero, label[[0, 0]], conf=np.ones(2)), zero)
    >>> sample = EvaluationInputs(GroundTruth(Instances(zero, label), zero), found, images=1, classes=1)
    >>> pairs = candidates(sample)
    >>> margins = Visibility(np.array([56.0, -4.0]), np.ones(2), np.ones(2, int))
    >>> rows = table(sample, pairs, coco.matched(sample, pairs), margins)
    >>> for row in (rows[1], rows[4]):
    ...     print(row.margin, row.labels, row.recall50, row.duplicates, row.iou)
    cut by up to 16 px 1 0.0 0.0 nan
    16-64 px inside 1 1.0 1.0 1.0
    """
    if pairs.least > coco.THRESHOLDS[0]:
        raise TilerError(
            f"duplicates need the candidates from an IoU of {coco.THRESHOLDS[0]} on, got those "
            f"from {pairs.least}"
        )
    counted = ~sample.labels.ignored
    where = np.where(counted, np.digitize(visibility.margin, MARGINS), len(MARGIN_NAMES))

    def total(label: Ints, values: Floats | None = None) -> Floats:
        return np.bincount(where[label], values, len(MARGIN_NAMES) + 1)[:-1].astype(float)

    known = _known(sample, matched)
    every = np.arange(len(known))
    labels, found = total(every), total(every, known[:, 0].astype(float))
    right = matched[pairs.detection, 0] == pairs.label
    again = _duplicated(sample, pairs, matched)
    columns = (
        _over(found, labels),
        _over(total(every, known.mean(axis=1)), labels),
        _over(total(again), labels),
        _over(total(pairs.label[right], pairs.iou[right]), found),
    )
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    return [
        SeamRow(name, int(n), *row)
        for name, n, row in zip(MARGIN_NAMES, labels, numbers, strict=True)
    ]


def _known(sample: EvaluationInputs, matched: Ints) -> Bools:
    """`(G, T)` which labels are found at each threshold."""
    known = np.zeros((len(sample.labels), matched.shape[1]), bool)
    found, threshold = np.nonzero(matched >= 0)
    known[matched[found, threshold], threshold] = True
    return known


def _duplicated(sample: EvaluationInputs, pairs: Candidates, matched: Ints) -> Ints:
    """For each detection that is a duplicate, of which label."""
    classes = (
        sample.detections.instances.class_id[pairs.detection]
        == sample.labels.instances.class_id[pairs.label]
    )
    again = np.flatnonzero(
        (matched[pairs.detection, 0] < 0) & (pairs.iou >= coco.THRESHOLDS[0]) & classes
    )
    # the first of a detection's pairs is its best
    most = np.diff(pairs.detection[again], prepend=-1) > 0
    return np.asarray(pairs.label[again[most]])


def _over(part: Floats, whole: Floats) -> Floats:
    """The quotient, NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


@dataclass(frozen=True, slots=True)
class Gap:
    """How much recall at an IoU of .5 is lost at seams; NaN where there is nothing to compare.

    Attributes:
        seam: labels of a margin below 4 px.
        inside: labels of a margin of 64 px or more.
        recall_seam: of those at seams.
        recall_inside: of those inside.
        gap: the second less the first: positive where seams cost.
        low, high: where the true gap is likely to lie (95 %, `bootstrap.moved`); NaN with labels in
            fewer than 5 images.
        size_matched: the gap between labels of one size, over sizes as they are at seams. Small
            objects lie less often at seams and are harder to find, which hides part of the plain
            gap.
        size_matched_low, size_matched_high: as low and high.
        covered: labels at seams whose size there is inside too, of which `size_matched` is made.
    """

    seam: int
    inside: int
    recall_seam: float
    recall_inside: float
    gap: float
    low: float
    high: float
    size_matched: float
    size_matched_low: float
    size_matched_high: float
    covered: int

    @property
    def missing(self) -> str | None:
        """Which labels there are none of, so that there is no gap; None where there is one."""
        at_seam = f"at a seam (less than {SEAM:g} px inside every tile)"
        inside = f"{INSIDE:g} px or more inside a tile"
        places = [
            place for place, count in ((at_seam, self.seam), (inside, self.inside)) if not count
        ]
        return f"no label lies {' or '.join(places)}" if places else None


def gap(
    sample: EvaluationInputs,
    matched: Ints,
    visibility: Visibility,
    areas: Floats | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> Gap:
    """The seam gap, plain and between labels of one size, and their bootstrap intervals over
    images.

    Images are drawn as for the intervals of AP, by the same weights. Replicates that leave nothing
    to compare are left out.

    Args:
        matched: `(D, T)` of `coco.matched`.
        visibility: of the labels.
        areas: `(G,)` px² that decide the size. Default: the labels' own.
        replicates, seed: of `bootstrap.weights`.

    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label, image = np.array([[0, 0, 9, 9], [20, 0, 29, 9.0]] * 5), np.repeat(np.arange(5), 2)
    >>> found = Predicted.of(Instances(np.zeros(8, int), label[:8], conf=np.ones(8)), image[:8])
    >>> sample = EvaluationInputs(GroundTruth(Instances(np.zeros(10, int), label), image), found, images=5, classes=1)
    >>> margins = Visibility(np.array([80.0, -2] * 5), np.ones(10), np.ones(10, int))
    >>> result = gap(sample, np.array([[0], [1], [2], [-1], [4], [-1], [6], [-1]]), margins)
    >>> round(result.gap, 2), round(result.size_matched, 2), result.covered, result.low < result.gap < result.high
    (0.6, 0.6, 5, True)
    """
    counted = ~sample.labels.ignored & ((visibility.margin < SEAM) | (visibility.margin >= INSIDE))
    size = np.digitize(sample.labels.instances.area if areas is None else areas, np.square(SIDES))
    place = (sample.labels.image * (len(SIDES) + 1) + size) * 2 + (visibility.margin >= INSIDE)
    shape = (sample.images, len(SIDES) + 1, 2)
    known = _known(sample, matched)[:, 0]
    counts = np.stack(
        [np.bincount(place[w], minlength=prod(shape)) for w in (counted, counted & known)]
    ).astype(float)
    labels, found = counts.reshape(2, *shape)
    plain, alike, common = _gaps(labels.sum(axis=0), found.sum(axis=0))
    ends = np.full((2, 2), np.nan)
    if bootstrap.few(sample.images, int((labels.sum(axis=(1, 2)) > 0).sum())) is None:
        weights = bootstrap.weights(sample.images, replicates, seed).astype(float)
        drawn = (weights @ counts.reshape(2, sample.images, -1)).reshape(2, replicates, *shape[1:])
        gaps = zip((plain, alike), _gaps(*drawn), strict=False)
        ends = np.clip(
            [bootstrap.moved(float(value), replicate) for value, replicate in gaps], -1, 1
        )
    seam, inside = labels.sum(axis=(0, 1)).astype(int).tolist()
    at_seam, further = _over(found.sum(axis=(0, 1)), labels.sum(axis=(0, 1))).tolist()
    (low, high), (alike_low, alike_high) = ends.tolist()
    return Gap(
        seam,
        inside,
        at_seam,
        further,
        float(plain),
        low,
        high,
        float(alike),
        alike_low,
        alike_high,
        int(common),
    )


def _gaps(labels: Floats, found: Floats) -> tuple[Floats, Floats, Floats]:
    """Plain and size-matched gap, and the labels at seams that the second is of; `(..., sizes, 2)`,
    seam and inside.
    """
    plain = np.diff(_over(found.sum(axis=-2), labels.sum(axis=-2)))[..., 0]
    common = (labels > 0).all(axis=-1)
    weight = np.where(common, labels[..., 0], 0.0)
    lost = np.where(common, np.diff(_over(found, labels))[..., 0], 0.0)
    covered = weight.sum(axis=-1)
    return plain, _over((weight * lost).sum(axis=-1), covered), covered


@dataclass(frozen=True, slots=True)
class Density:
    """False positives near seams and elsewhere.

    Attributes:
        distance: px; the band is what lies beside an interior side of a tile, no further than this
            from it.
        in_band: false positives with their centre in the band.
        band_area: px².
        elsewhere: the others.
        elsewhere_area: px².
        ratio: how much denser they are in the band: 1 without any effect of seams, NaN without band
            or others.
    """

    distance: float
    in_band: int
    band_area: float
    elsewhere: int
    elsewhere_area: float
    ratio: float


def density(
    sample: EvaluationInputs, matched: Ints, layout: TileLayout, conf: float
) -> list[Density]:
    """Where false positives lie: detections of this confidence or more that are matched to no label
    at an IoU of .5.

    Those with their centre outside the image lie nowhere.

    Args:
        matched: `(D, T)` of `coco.matched`; what is matched to a crowd is not false.

    >>> from tiler.evaluation.layout import TileLayout
    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances, empty
    >>> layout = TileLayout.of([np.array([[0, 0, 100, 50], [100, 0, 200, 50.0]])], [np.ones(2)], np.array([[200, 50.0]]))
    >>> wrong = Instances(np.zeros(2, int), np.array([[90, 10, 100, 20], [10, 10, 20, 20.0]]), conf=np.ones(2))
    >>> sample = EvaluationInputs(GroundTruth(empty(), np.empty(0, int)), Predicted.of(wrong, np.zeros(2, int)), images=1, classes=1)
    >>> near = density(sample, np.array([[-1], [-1]]), layout, 0.5)[0]
    >>> near.in_band, near.band_area, near.elsewhere, near.elsewhere_area, near.ratio
    (1, 1600.0, 1, 8400.0, 5.25)
    """
    given = sample.detections.instances
    wrong = np.flatnonzero((given.confidence >= conf) & (matched[:, 0] < 0))
    image = sample.detections.image[wrong]
    centre = (given.boxes[wrong, :2] + given.boxes[wrong, 2:]) / 2
    there = ((centre >= 0) & (centre < layout.sizes[image])).all(axis=1)
    image, centre = image[there], centre[there]
    same = _same(layout)
    order = np.argsort(same[image], kind="stable")
    first, many = np.unique(same, return_counts=True)
    parts = (
        np.split(centre[order], np.searchsorted(same[image][order], first[1:]))
        if len(first)
        else []
    )
    whole = float(layout.sizes.prod(axis=1).sum())
    rows = []
    for distance in DISTANCES:
        covers = [_Cover.of(layout, i, distance) for i in first.tolist()]
        hits = sum(cover.holds(part) for cover, part in zip(covers, parts, strict=True))
        area = float(sum(cover.area() * n for cover, n in zip(covers, many.tolist(), strict=True)))
        others, rest = len(centre) - hits, max(0.0, whole - area)
        ratio = hits * rest / (others * area) if others and area and rest else float("nan")
        rows.append(Density(distance, hits, area, others, rest, ratio))
    return rows


def _same(layout: TileLayout) -> Ints:
    """`(I,)` the first image of the same size and tiles."""
    ends = zip(layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), layout.sizes, strict=True)
    keys = (
        b"".join(a.tobytes() for a in (size, layout.rects[at:end], layout.interior[at:end]))
        for at, end, size in ends
    )
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Cover:
    """A union of rectangles, as a grid whose lines are all their sides.

    Attributes:
        x, y: where columns and rows begin, and the end of the last.
        filled: `(rows, columns)` True for what is covered; cells are half-open.
    """

    x: Floats
    y: Floats
    filled: Bools

    @classmethod
    def of(cls, layout: TileLayout, image: int, distance: float) -> _Cover:
        """What lies beside the interior sides of an image's tiles, no further than this from them,
        in the image.
        """
        own = slice(layout.offsets[image], layout.offsets[image + 1])
        size = layout.sizes[image]
        sides = [np.empty((0, 4))]
        for side in range(4):
            band = layout.rects[own][layout.interior[own, side]]
            across = band[:, side].copy()
            band[:, side % 2], band[:, side % 2 + 2] = across - distance, across + distance
            sides.append(band)
        bands = np.clip(np.concatenate(sides), 0, np.tile(size, 2))
        x, y = (
            np.unique(np.append(bands[:, [axis, axis + 2]], [0, size[axis]])) for axis in (0, 1)
        )
        (x0, x1), (y0, y1) = (
            np.searchsorted(x, bands[:, [0, 2]].T),
            np.searchsorted(y, bands[:, [1, 3]].T),
        )
        # +1 where a rectangle begins and -1 where it ends: summed up, how many lie there
        depth = np.zeros((len(y), len(x)), np.int32)
        for row, column, change in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
            np.add.at(depth, (row, column), change)
        return cls(x, y, depth.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0)

    def area(self) -> float:
        """px²."""
        return float(np.diff(self.y) @ self.filled @ np.diff(self.x))

    def holds(self, points: Floats) -> int:
        """How many of some points of the image are covered."""
        row, column = (
            np.searchsorted(lines, points[:, k], "right") - 1
            for lines, k in ((self.y, 1), (self.x, 0))
        )
        return int(self.filled[row, column].sum())


@dataclass(frozen=True, slots=True)
class ResolutionRow:
    """The labels of one size as the network sees them; NaN where there are none.

    Attributes:
        side: name of the bin: sides of squares in network px, the larger end excluded.
        labels: how many count.
        recall50: at an IoU of .5, mean over the classes.
        ap50: at an IoU of .5.
        ap: mean over .5 to .95.
    """

    side: str
    labels: int
    recall50: float
    ap50: float
    ap: float


def by_resolution(
    sample: EvaluationInputs, pairs: Candidates, scale: Floats, max_dets: int | None = None
) -> list[ResolutionRow]:
    """COCO's measures by the size of objects in the pixels that the network gets.

    Args:
        pairs: candidates of the sample, from an IoU of .5 or less on.
        scale: `(I,)` network px per image px.
        max_dets: detections of a class in an image. Default: all.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label, zero = np.array([[0, 0, 8, 8], [60, 0, 90, 30.0]]), np.zeros(2, int)
    >>> found = Predicted.of(Instances(zero[:1], label[1:], conf=np.ones(1)), zero[:1])
    >>> sample = EvaluationInputs(GroundTruth(Instances(zero, label), zero), found, images=1, classes=1)
    >>> rows = by_resolution(sample, candidates(sample), scale=np.array([0.5]))
    >>> [(row.side, row.labels, row.recall50, round(row.ap, 6)) for row in rows if row.labels]
    [('4-8', 1, 0.0, 0.0), ('8-16', 1, 1.0, 1.0)]
    """
    labels, found = (
        replace(rows.instances, area=rows.instances.area * scale[rows.image] ** 2)
        for rows in (sample.labels, sample.detections)
    )
    seen = replace(
        sample,
        labels=replace(sample.labels, instances=labels),
        detections=replace(sample.detections, instances=found),
    )
    # COCO's bins have both their ends: the last number before the next bin is theirs
    names = [f"{low:g}-{high:g}" for low, high in pairwise(NETWORK_SIDES[:-1])] + [
        f"{NETWORK_SIDES[-2]:g}+"
    ]
    ends = [(low**2, float(np.nextafter(high**2, 0))) for low, high in pairwise(NETWORK_SIDES)]
    bins = [Bin(name, *end) for name, end in zip(names, ends, strict=True)]
    cap = sample.most() if max_dets is None else max_dets
    curves = coco.evaluate(seen, pairs, bins, (cap,))
    return [
        ResolutionRow(
            b.name, n, curves.ar(b.name, iou=0.5), curves.ap(b.name, iou=0.5), curves.ap(b.name)
        )
        for b, n in zip(bins, curves.labels.sum(axis=0).tolist(), strict=True)
    ]
