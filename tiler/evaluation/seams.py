"""What the seams of tiles cost on the full image: recall, duplicates, false positives, and size in
network pixels.

A box is near a seam when no tile holds it with pixels to spare. Its containment margin says how
many, and everything here is a table over that margin, or over the distance to the side of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation import bootstrap, coco
from tiler.evaluation.bins import Bin
from tiler.evaluation.bootstrap import NAN, Interval
from tiler.evaluation.candidates import same_class
from tiler.geometry import boxes as box
from tiler.geometry import neighbours, ragged
from tiler.matching.tiles import OUTWARDS

if TYPE_CHECKING:
    from tiler.evaluation.candidates import Candidates
    from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
    from tiler.evaluation.layout import TileLayout
    from tiler.types import Bools, Floats, Ints

    Rows = TypeVar("Rows", GroundTruth, Predicted)

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
        margin: `(N,)` px. In one tile, how far the box lies inside the interior sides, the least of
            them; the image's border cuts nothing, so without interior sides it is inf. Of the box,
            the largest over the tiles that it meets: below 0 if every tile cuts it, by that many
            px; -inf if it meets none.
        share: `(N,)` the largest share of its area that one tile shows.
        tiles: `(N,)` number of tiles that show a large enough share.
    """

    margin: Floats
    share: Floats
    tiles: Ints


def visibility(
    boxes: Floats, image: Ints, layout: TileLayout, min_share: float = 0.25
) -> Visibility:
    """How the tiles show boxes. A tile meets a box if they have common area, or if the box has no
    area and its centre lies in the tile.

    Args:
        boxes: `(N, 4)` xyxy, px of their image.
        image: `(N,)` number of the image.
        min_share: the share of its area, above 0, from which on a tile shows a box.

    >>> from tiler.evaluation.layout import TileLayout
    >>> tiles = np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]])
    >>> layout = TileLayout.of([tiles], [np.ones(2)], np.array([[1152, 640.0]]))
    >>> boxes = np.array([[0, 0, 100, 50], [600, 0, 630, 30], [448, 0, 704, 9.0]])
    >>> shown = visibility(boxes, np.zeros(3, int), layout)
    >>> shown.margin.tolist(), shown.share.tolist(), shown.tiles.tolist()
    ([540.0, 88.0, -64.0], [1.0, 1.0, 0.75], [1, 2, 2])
    """
    margin = np.full(len(boxes), -np.inf)
    share = np.zeros(len(boxes))
    tiles = np.zeros(len(boxes), np.int64)
    area = box.area(boxes)
    for number, tile in _meetings(boxes, area, image, layout):
        rects = layout.rects[tile]
        inwards = (rects - boxes[number]) * OUTWARDS
        inwards = np.where(layout.interior[tile], inwards, np.inf)
        np.maximum.at(margin, number, inwards.min(axis=1))
        common = box.area(box.intersection(boxes[number], rects))
        part = _share(common, area[number])
        np.maximum.at(share, number, part)
        np.add.at(tiles, number, part >= min_share)
    return Visibility(margin, share, tiles)


def _share(part: Floats, whole: Floats) -> Floats:
    """The quotient, 1 where the whole is 0."""
    result = np.ones(len(part))
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _meetings(
    boxes: Floats, area: Floats, image: Ints, layout: TileLayout
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes and the tiles that they meet."""
    tile_image = layout.image()
    yield from neighbours.alike(boxes, layout.rects, image, tile_image)
    flat = np.flatnonzero(area <= 0)
    centre = box.centres(boxes[flat])
    # the search leaves out what has no size
    around = np.concatenate([centre - 1, centre + 1], axis=1)
    for number, tile in neighbours.alike(around, layout.rects, image[flat], tile_image):
        points = np.tile(centre[number], 2)
        inside = box.inside(points, layout.rects[tile])
        yield flat[number[inside]], tile[inside]


@dataclass(frozen=True, slots=True)
class SeamRow:
    """The labels of one bin of margin; NaN where there are none.

    Attributes:
        margin: name of the bin.
        labels: number of labels that count.
        recall50: the share of them that is found at an IoU of .5.
        recall: the mean of that over the thresholds .5 to .95.
        duplicates: number for each label. A duplicate is a detection of its class that has an IoU
            of .5 or more and is matched to no label; of several labels it is a duplicate of the one
            it overlaps most.
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
    """How labels are found, by their margin: from those cut most to those far from seams.

    Args:
        pairs: candidates of the sample, from an IoU of .5 or less on.
        matched: `(D, T)` of `coco.matched`, at its thresholds.
        visibility: of the labels.

    Raises:
        TilerError: the candidates begin above .5.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> boxes, zero = np.array([[0, 0, 8, 8], [60, 0, 68, 8.0]]), np.zeros(2, int)
    >>> labels = GroundTruth(Instances(zero, boxes), zero)
    >>> detections = Predicted.of(Instances(zero, boxes[[0, 0]], conf=np.ones(2)), zero)
    >>> sample = EvaluationInputs(labels, detections, images=1, classes=1)
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
    margin = np.digitize(visibility.margin, MARGINS)
    margin[sample.labels.ignored] = len(MARGIN_NAMES)
    columns = _table_columns(sample, pairs, matched, margin)
    rows = []
    for name, labels, *values in zip(MARGIN_NAMES, *columns, strict=True):
        rows.append(SeamRow(name, int(labels), *values))
    return rows


def _table_columns(
    sample: EvaluationInputs, pairs: Candidates, matched: Ints, margin: Ints
) -> list[list[float]]:
    """The columns of `SeamRow`, after the name.

    Args:
        margin: `(G,)` bin of each label; the one after the last for a label that does not count.
    """
    found = _found(sample, matched)
    right = matched[pairs.detection, 0] == pairs.label
    labels = _totals(margin)
    found50 = _totals(margin, found[:, 0].astype(float))
    found_mean = _totals(margin, found.mean(axis=1))
    duplicated = _duplicated(sample, pairs, matched)
    duplicates = _totals(margin[duplicated])
    iou = _totals(margin[pairs.label[right]], pairs.iou[right])
    columns = [
        labels,
        _over(found50, labels),
        _over(found_mean, labels),
        _over(duplicates, labels),
        _over(iou, found50),
    ]
    return [column.tolist() for column in columns]


def _totals(margin: Ints, values: Floats | None = None) -> Floats:
    """The sum of values, or their number, in each bin of margin."""
    totals = np.bincount(margin, values, len(MARGIN_NAMES) + 1)
    return totals[:-1].astype(float)


def _found(sample: EvaluationInputs, matched: Ints) -> Bools:
    """`(G, T)` the labels that are found at each threshold."""
    result = np.zeros((len(sample.labels), matched.shape[1]), bool)
    detection, threshold = np.nonzero(matched >= 0)
    result[matched[detection, threshold], threshold] = True
    return result


def _duplicated(sample: EvaluationInputs, pairs: Candidates, matched: Ints) -> Ints:
    """The label of each detection that is a duplicate."""
    unmatched = matched[pairs.detection, 0] < 0
    enough = pairs.iou >= coco.THRESHOLDS[0]
    duplicates = np.flatnonzero(unmatched & enough & same_class(sample, pairs))
    # the first of a detection's pairs is its best
    best = duplicates[ragged.firsts(pairs.detection[duplicates])]
    return pairs.label[best]


def _over(part: Floats, whole: Floats) -> Floats:
    """The quotient, NaN where the whole is 0."""
    result = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


@dataclass(frozen=True, slots=True)
class Gap:
    """How much recall at an IoU of .5 is lost at seams; NaN where there is nothing to compare.

    Attributes:
        seam: number of labels with a margin below 4 px.
        inside: number of labels with a margin of 64 px or more.
        recall_seam: of those at seams.
        recall_inside: of those inside.
        gap: the second less the first: positive where seams cost.
        low, high: where the true gap is likely to lie (95 %, `bootstrap.moved`); NaN with labels in
            fewer than 5 images.
        size_matched: the gap between labels of one size, over the sizes of labels at seams. Small
            objects lie less often at seams and are harder to find, which hides part of the plain
            gap.
        size_matched_low, size_matched_high: as low and high.
        covered: number of labels at seams whose size occurs inside too; `size_matched` is computed
            from these.
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
        """Which labels are missing, so that there is no gap; None where there is one."""
        places = []
        if not self.seam:
            places.append(f"at a seam (less than {SEAM:g} px inside every tile)")
        if not self.inside:
            places.append(f"{INSIDE:g} px or more inside a tile")
        if not places:
            return None
        return f"no label lies {' or '.join(places)}"


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

    Images are drawn as for the intervals of AP, with the same weights. Replicates in which there is
    nothing to compare are left out.

    Args:
        matched: `(D, T)` of `coco.matched`.
        visibility: of the labels.
        areas: `(G,)` px² that decide the size. Default: the labels' own.
        replicates, seed: of `bootstrap.weights`.

    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> boxes, image = np.array([[0, 0, 9, 9], [20, 0, 29, 9.0]] * 5), np.repeat(np.arange(5), 2)
    >>> labels = GroundTruth(Instances(np.zeros(10, int), boxes), image)
    >>> given = Instances(np.zeros(8, int), boxes[:8], conf=np.ones(8))
    >>> sample = EvaluationInputs(labels, Predicted.of(given, image[:8]), images=5, classes=1)
    >>> margins = Visibility(np.array([80.0, -2] * 5), np.ones(10), np.ones(10, int))
    >>> result = gap(sample, np.array([[0], [1], [2], [-1], [4], [-1], [6], [-1]]), margins)
    >>> round(result.gap, 2), round(result.size_matched, 2), result.covered
    (0.6, 0.6, 5)
    >>> result.low < result.gap < result.high
    True
    """
    if areas is None:
        areas = sample.labels.area
    counts = _seam_counts(sample, matched, visibility, areas)
    total = counts.total()
    seam, inside = total.labels.sum(axis=0).astype(int).tolist()
    recall_seam, recall_inside = total.recall().tolist()
    plain, size_matched = _intervals(counts, replicates, seed)
    return Gap(
        seam=seam,
        inside=inside,
        recall_seam=recall_seam,
        recall_inside=recall_inside,
        gap=plain.estimate,
        low=plain.low,
        high=plain.high,
        size_matched=size_matched.estimate,
        size_matched_low=size_matched.low,
        size_matched_high=size_matched.high,
        covered=int(total.covered()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _SeamCounts:
    """Numbers of labels `(..., S, 2)`, by size, at seams and inside: all, and those found.

    The first axis, where there is one, is that of images or replicates.
    """

    labels: Floats
    found: Floats

    def total(self) -> _SeamCounts:
        """`(S, 2)` of all images."""
        return _SeamCounts(self.labels.sum(axis=0), self.found.sum(axis=0))

    def drawn(self, weights: Floats) -> _SeamCounts:
        """`(R, S, 2)` of replicates, by `(R, I)` weights of the images."""
        labels = _weighted(weights, self.labels)
        found = _weighted(weights, self.found)
        return _SeamCounts(labels, found)

    def recall(self) -> Floats:
        """`(..., 2)` at seams and inside."""
        found = self.found.sum(axis=-2)
        labels = self.labels.sum(axis=-2)
        return _over(found, labels)

    def gap(self) -> Floats:
        """How much lower recall is at seams."""
        return np.asarray(np.diff(self.recall())[..., 0])

    def size_matched(self) -> Floats:
        """The same between labels of one size, weighted by the labels at seams."""
        recall = _over(self.found, self.labels)
        lost = np.diff(recall)[..., 0]
        lost = np.where(self._comparable(), lost, 0.0)
        weighted = self._weight() * lost
        return _over(weighted.sum(axis=-1), self.covered())

    def covered(self) -> Floats:
        """Number of labels at seams whose size occurs inside too."""
        return np.asarray(self._weight().sum(axis=-1))

    def _comparable(self) -> Bools:
        """`(..., S)` sizes of which there are labels at seams and inside."""
        return np.asarray((self.labels > 0).all(axis=-1))

    def _weight(self) -> Floats:
        """`(..., S)` number of labels at seams, of these sizes."""
        return np.where(self._comparable(), self.labels[..., 0], 0.0)


def _weighted(weights: Floats, counts: Floats) -> Floats:
    """`(R, S, 2)` sums of the counts `(I, S, 2)` of images."""
    sums = weights @ counts.reshape(len(counts), -1)
    return np.asarray(sums.reshape(len(weights), *counts.shape[1:]))


def _seam_counts(
    sample: EvaluationInputs, matched: Ints, visibility: Visibility, areas: Floats
) -> _SeamCounts:
    """The counts of each image, at an IoU of .5."""
    shape = (sample.images, len(SIDES) + 1, 2)
    is_seam = visibility.margin < SEAM
    is_inside = visibility.margin >= INSIDE
    counted = ~sample.labels.ignored & (is_seam | is_inside)
    found = counted & _found(sample, matched)[:, 0]
    size = np.digitize(areas, np.square(SIDES))
    cell = (sample.labels.image * shape[1] + size) * shape[2] + is_inside
    cells = prod(shape)
    labels_in_cell = np.bincount(cell[counted], minlength=cells).astype(float)
    found_in_cell = np.bincount(cell[found], minlength=cells).astype(float)
    return _SeamCounts(labels_in_cell.reshape(shape), found_in_cell.reshape(shape))


def _intervals(counts: _SeamCounts, replicates: int, seed: int) -> tuple[Interval, Interval]:
    """The plain and the size-matched gap; their ends are NaN with labels in too few images."""
    images = len(counts.labels)
    labelled = np.count_nonzero(counts.labels.sum(axis=(1, 2)))
    total = counts.total()
    gap = float(total.gap())
    size_matched = float(total.size_matched())
    if bootstrap.few(images, int(labelled)) is not None:
        return Interval(gap, NAN, NAN), Interval(size_matched, NAN, NAN)
    weights = bootstrap.weights(images, replicates, seed)
    drawn = counts.drawn(weights.astype(float))
    return _interval(gap, drawn.gap()), _interval(size_matched, drawn.size_matched())


def _interval(gap: float, replicates: Floats) -> Interval:
    ends = bootstrap.moved(gap, replicates)
    low, high = np.clip(ends, -1, 1).tolist()
    return Interval(gap, low, high)


@dataclass(frozen=True, slots=True)
class Density:
    """False positives near seams and elsewhere.

    Attributes:
        distance: px; the band is what lies beside an interior side of a tile, no further than this
            from it.
        in_band: number of false positives with their centre in the band.
        band_area: px².
        elsewhere: number of the others.
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

    Those with their centre outside the image are left out.

    Args:
        matched: `(D, T)` of `coco.matched`; what is matched to a crowd is not false.

    >>> from tiler.evaluation.layout import TileLayout
    >>> from tiler.evaluation.inputs import Predicted, EvaluationInputs, GroundTruth
    >>> from tiler.geometry.instances import Instances, empty
    >>> tiles = np.array([[0, 0, 100, 50], [100, 0, 200, 50.0]])
    >>> layout = TileLayout.of([tiles], [np.ones(2)], np.array([[200, 50.0]]))
    >>> boxes, zero = np.array([[90, 10, 100, 20], [10, 10, 20, 20.0]]), np.zeros(2, int)
    >>> wrong = Predicted.of(Instances(zero, boxes, conf=np.ones(2)), zero)
    >>> sample = EvaluationInputs(GroundTruth(empty(), zero[:0]), wrong, images=1, classes=1)
    >>> near = density(sample, np.array([[-1], [-1]]), layout, 0.5)[0]
    >>> near.in_band, near.band_area, near.elsewhere, near.elsewhere_area, near.ratio
    (1, 1600.0, 1, 8400.0, 5.25)
    """
    detections = sample.detections
    is_matched = matched[:, 0] >= 0
    wrong = np.flatnonzero((detections.conf >= conf) & ~is_matched)
    image = detections.image[wrong]
    centre = box.centres(detections.boxes[wrong])
    is_within = (centre >= 0) & (centre < layout.sizes[image])
    inside = is_within.all(axis=1)
    groups = _alike_images(layout, image[inside], centre[inside])
    return [_density(layout, groups, distance) for distance in DISTANCES]


@dataclass(frozen=True, slots=True, eq=False)
class _AlikeImages:
    """Images of the same size and tiles.

    Attributes:
        image: the first of them.
        images: their number.
        points: `(N, 2)` points of interest in any of them.
    """

    image: int
    images: int
    points: Floats


def _alike_images(layout: TileLayout, image: Ints, points: Floats) -> list[_AlikeImages]:
    """The images grouped by size and tiles, with the points of their images."""
    first_alike = _first_alike(layout)
    first, images = np.unique(first_alike, return_counts=True)
    group = first_alike[image]
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], first, "right")
    result = []
    begin = 0
    for number, count, end in zip(first.tolist(), images.tolist(), ends.tolist(), strict=True):
        result.append(_AlikeImages(number, count, points[order[begin:end]]))
        begin = end
    return result


def _first_alike(layout: TileLayout) -> Ints:
    """`(I,)` the first image of the same size and tiles."""
    result = np.empty(len(layout.sizes), np.int64)
    known: dict[bytes, int] = {}
    for image, size in enumerate(layout.sizes):
        tiles = slice(layout.offsets[image], layout.offsets[image + 1])
        arrays = (size, layout.rects[tiles], layout.interior[tiles])
        key = b"".join(array.tobytes() for array in arrays)
        result[image] = known.setdefault(key, image)
    return result


def _density(layout: TileLayout, groups: list[_AlikeImages], distance: float) -> Density:
    in_band = []
    areas = []
    for group in groups:
        bands = _bands(layout, group.image, distance)
        cover = _Cover.of(bands, layout.sizes[group.image])
        in_band.append(cover.count(group.points))
        areas.append(cover.area() * group.images)
    hits = sum(in_band)
    others = sum(len(group.points) for group in groups) - hits
    area = float(sum(areas))
    total = float(layout.sizes.prod(axis=1).sum())
    rest = max(0.0, total - area)
    ratio = float("nan")
    if others and area and rest:
        ratio = hits * rest / (others * area)
    return Density(distance, hits, area, others, rest, ratio)


def _bands(layout: TileLayout, image: int, distance: float) -> Floats:
    """`(N, 4)` what lies beside the interior sides of an image's tiles, no further than this from
    them, in the image.
    """
    tiles = slice(layout.offsets[image], layout.offsets[image + 1])
    bands = [np.empty((0, 4))]
    for side in range(4):
        is_interior = layout.interior[tiles, side]
        band = layout.rects[tiles][is_interior]
        across = band[:, side].copy()
        band[:, side % 2] = across - distance
        band[:, side % 2 + 2] = across + distance
        bands.append(band)
    ends = np.tile(layout.sizes[image], 2)
    return np.clip(np.concatenate(bands), 0, ends)


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
    def of(cls, rects: Floats, size: Floats) -> _Cover:
        """From rectangles `(N, 4)` within `(width, height)`."""
        sides_x = rects[:, [0, 2]]
        sides_y = rects[:, [1, 3]]
        x = np.unique(np.append(sides_x, [0, size[0]]))
        y = np.unique(np.append(sides_y, [0, size[1]]))
        left, right = np.searchsorted(x, sides_x.T)
        top, bottom = np.searchsorted(y, sides_y.T)
        # +1 where a rectangle begins and -1 where it ends: summed up, how many lie there
        change = np.zeros((len(y), len(x)), np.int32)
        np.add.at(change, (top, left), 1)
        np.add.at(change, (top, right), -1)
        np.add.at(change, (bottom, left), -1)
        np.add.at(change, (bottom, right), 1)
        depth = change.cumsum(axis=0).cumsum(axis=1)
        return cls(x, y, depth[:-1, :-1] > 0)

    def area(self) -> float:
        """px²."""
        widths = np.diff(self.x)
        heights = np.diff(self.y)
        return float(heights @ self.filled @ widths)

    def count(self, points: Floats) -> int:
        """How many of the points, all within the grid, are covered."""
        x, y = points.T
        column = np.searchsorted(self.x, x, "right") - 1
        row = np.searchsorted(self.y, y, "right") - 1
        return int(self.filled[row, column].sum())


@dataclass(frozen=True, slots=True)
class ResolutionRow:
    """The labels of one size as the network sees them; NaN where there are none.

    Attributes:
        side: name of the bin: sides of squares in network px, the larger end excluded.
        labels: number of labels that count.
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
    >>> boxes, zero = np.array([[0, 0, 8, 8], [60, 0, 90, 30.0]]), np.zeros(2, int)
    >>> labels = GroundTruth(Instances(zero, boxes), zero)
    >>> detections = Predicted.of(Instances(zero[:1], boxes[1:], conf=np.ones(1)), zero[:1])
    >>> sample = EvaluationInputs(labels, detections, images=1, classes=1)
    >>> rows = by_resolution(sample, candidates(sample), scale=np.array([0.5]))
    >>> [(row.side, row.labels, row.recall50, round(row.ap, 6)) for row in rows if row.labels]
    [('4-8', 1, 0.0, 0.0), ('8-16', 1, 1.0, 1.0)]
    """
    if max_dets is None:
        max_dets = sample.most()
    labels = _rescaled(sample.labels, scale)
    detections = _rescaled(sample.detections, scale)
    rescaled = replace(sample, labels=labels, detections=detections)
    bins = _network_bins()
    curves = coco.evaluate(rescaled, pairs, bins, (max_dets,))
    rows = []
    for size, count in zip(bins, curves.labels.sum(axis=0).tolist(), strict=True):
        recall50 = curves.ar(size.name, iou=0.5)
        ap50 = curves.ap(size.name, iou=0.5)
        rows.append(ResolutionRow(size.name, count, recall50, ap50, curves.ap(size.name)))
    return rows


def _rescaled(rows: Rows, scale: Floats) -> Rows:
    """Labels or detections with their areas in network px²."""
    area = rows.area * scale[rows.image] ** 2
    instances = replace(rows.instances, area=area)
    return replace(rows, instances=instances)


def _network_bins() -> list[Bin]:
    bins = []
    for low, high in pairwise(NETWORK_SIDES):
        name = f"{low:g}-{high:g}"
        if high == np.inf:
            name = f"{low:g}+"
        # COCO's bins include both ends: this one ends at the last number before the next
        end = float(np.nextafter(high**2, 0))
        bins.append(Bin(name, low**2, end))
    return bins
