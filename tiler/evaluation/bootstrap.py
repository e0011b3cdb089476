"""How far COCO's AP would move with other images, by a bootstrap: whole images are drawn anew,
nothing is matched anew.

All tiles, labels and detections of an image are one cluster, so images are what is drawn. A
replicate gives each image a weight, the number of times it was drawn; its labels and detections
count as often. The result is the AP of a sample that repeats the image as often, with one
exception: detections of different images with exactly the same confidence keep their order here,
while repeated images would mix them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation import coco
from tiler.evaluation.bins import ALL, Bin
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.coco import RECALLS, THRESHOLDS
from tiler.evaluation.inputs import EvaluationInputs
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

LEVEL = 0.95
FEWEST_IMAGES = 5  # with labels, for an interval: fewer can be drawn in few ways only
FEWEST_LABELS = 20
ROUNDING = 1e-12  # of AP
NAN = float("nan")


def weights(images: int, replicates: int, seed: int = 0) -> Ints:
    """`(R, I)` how often each image is drawn, with replacement, when each replicate draws as many
    as there are.

    With one seed, more replicates begin with the same ones.

    >>> weights(4, 3).sum(axis=1).tolist()
    [4, 4, 4]
    """
    rng = np.random.default_rng(seed)
    result = np.zeros((replicates, images), np.int64)
    if images:
        for row in result:
            drawn = rng.integers(images, size=images)
            row += np.bincount(drawn, minlength=images)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """AP of the sample as it is; NaN where there is no label.

    Attributes:
        ap: `(A,)` mean over thresholds and classes.
        ap50: `(A,)` at IoU 0.5; NaN if that is none of the thresholds.
        per_class: `(K,)` mean over thresholds, of the same bin as in `Draws`.
    """

    ap: Floats
    ap50: Floats
    per_class: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """AP of each replicate; NaN where none of its images has a label.

    Attributes:
        bins: the A size bins.
        weights: `(R, I)` how often each image was drawn.
        ap: `(R, A)` mean over thresholds and those classes that have labels in the replicate.
        ap50: `(R, A)` at IoU 0.5.
        per_class: `(R, K)` mean over thresholds; of the bin "all", or else of the first.
        estimate: the same of the sample itself.
        labels: `(K, A)` number of labels that count.
        images: `(A,)` number of images with such labels.
    """

    bins: tuple[Bin, ...]
    weights: Ints
    ap: Floats
    ap50: Floats
    per_class: Floats
    estimate: Estimate
    labels: Ints
    images: Ints

    def counts(self, bin: str) -> tuple[int, int]:
        """Numbers of labels that count in a bin, and of the images with such labels."""
        a = self.bin(bin)
        labels = int(self.labels[:, a].sum())
        images = int(self.images[a])
        return labels, images

    def bin(self, name: str) -> int:
        """The column of a bin."""
        names = [size.name for size in self.bins]
        return names.index(name)


def draws(
    sample: EvaluationInputs,
    pairs: Candidates,
    weights: Ints,
    bins: Sequence[Bin] = (ALL,),
    max_dets: int | None = None,
    thresholds: Floats = THRESHOLDS,
) -> Draws:
    """AP under each of the weights, and as it is: the AP of `coco.evaluate`.

    Args:
        pairs: candidates of the sample, with at least the lowest threshold.
        weights: `(R, I)` whole numbers, 0 or more.
        max_dets: maximum detections of a class in an image. Default: no limit.

    Raises:
        TilerError: weights are not of as many images.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> two = Instances(np.array([0, 0]), np.array([[0, 0, 8, 8.0], [0, 0, 8, 8]]))
    >>> one = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]), conf=np.array([0.9]))
    >>> labels = GroundTruth(two, np.array([0, 1]))
    >>> detections = Predicted.of(one, np.array([0]))
    >>> sample = EvaluationInputs(labels, detections, images=2, classes=1)
    >>> drawn = draws(sample, candidates(sample), np.array([[2, 0], [0, 2]]))
    >>> drawn.estimate.ap.round(3).tolist(), drawn.ap.tolist()
    ([0.505], [[1.0], [0.0]])
    """
    if weights.ndim != 2 or weights.shape[1] != sample.images:
        raise TilerError(
            f"weights of shape {weights.shape}, expected one for each of {sample.images} images "
            "in every row"
        )
    as_it_is = np.ones((1, sample.images), np.int64)
    rows = np.concatenate([as_it_is, weights])
    result = _MeasuredBins.unfilled(len(rows), sample.classes, len(bins))
    for a, size in enumerate(bins):
        counts = _WeightedCounts.of(sample, pairs, size, max_dets, thresholds)
        measured = _MeasuredBin.of(counts, rows, thresholds)
        result.fill(a, counts, measured)
        if a == 0 or size.name == ALL.name:
            result.per_class[:] = measured.per_class
    return result.draws(tuple(bins), weights)


@dataclass(frozen=True, slots=True, eq=False)
class _MeasuredBins:
    """AP in all size bins: in the first row of the sample as it is, then of each replicate.

    Attributes:
        ap, ap50: `(1 + R, A)`.
        per_class: `(1 + R, K)` of one bin.
        labels, images: as in `Draws`.
    """

    ap: Floats
    ap50: Floats
    per_class: Floats
    labels: Ints
    images: Ints

    @classmethod
    def unfilled(cls, rows: int, classes: int, bins: int) -> _MeasuredBins:
        ap, ap50 = np.empty((2, rows, bins))
        per_class = np.full((rows, classes), np.nan)
        labels = np.zeros((classes, bins), np.int64)
        images = np.zeros(bins, np.int64)
        return cls(ap, ap50, per_class, labels, images)

    def fill(self, a: int, counts: _WeightedCounts, measured: _MeasuredBin) -> None:
        """Write all of bin a but the AP of each class."""
        self.ap[:, a] = measured.ap
        self.ap50[:, a] = measured.ap50
        self.labels[:, a] = np.bincount(counts.label_class, minlength=len(self.labels))
        self.images[a] = len(np.unique(counts.label_image))

    def draws(self, bins: tuple[Bin, ...], weights: Ints) -> Draws:
        """The result, with the first row as the estimate."""
        estimate = Estimate(self.ap[0], self.ap50[0], self.per_class[0])
        return Draws(
            bins=bins,
            weights=weights,
            ap=self.ap[1:],
            ap50=self.ap50[1:],
            per_class=self.per_class[1:],
            estimate=estimate,
            labels=self.labels,
            images=self.images,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _MeasuredBin:
    """AP in one size bin under each of R weights.

    Attributes:
        ap, ap50: `(R,)`.
        per_class: `(R, K)`.
    """

    ap: Floats
    ap50: Floats
    per_class: Floats

    @classmethod
    def of(cls, counts: _WeightedCounts, weights: Ints, thresholds: Floats) -> _MeasuredBin:
        half = np.isclose(thresholds, 0.5)
        ap, ap50 = np.empty((2, len(weights)))
        per_class = np.full((len(weights), counts.shape[1]), np.nan)
        for r, row in enumerate(weights):
            values = counts.average_precision(row)
            ap[r] = _mean(values)
            ap50[r] = _mean(values[half])
            if len(values):
                per_class[r] = values.mean(axis=0)
        return cls(ap, ap50, per_class)


def _mean(values: Floats) -> float:
    values = values[~np.isnan(values)]
    if not len(values):
        return NAN
    return float(np.mean(values))


@dataclass(frozen=True, slots=True, eq=False)
class _ClassGroups:
    """Detections of G = T x K groups, one after the other: a group is a class at a threshold.

    Attributes:
        detection: `(N,)` ascending at each threshold.
        begin: `(G + 1,)` where groups begin, and the end of the last.
    """

    detection: Ints
    begin: Ints

    @classmethod
    def of(cls, parts: Sequence[Ints], class_bounds: Ints) -> _ClassGroups:
        """From the detections of each threshold."""
        detections = [np.empty(0, np.int64)]
        counts = [np.empty(0, np.int64)]
        for part in parts:
            bounds = np.searchsorted(part, class_bounds)
            detections.append(part)
            counts.append(np.diff(bounds))
        begin = ragged.offsets(np.concatenate(counts))
        return cls(np.concatenate(detections), begin)

    def slices_from_end(self) -> list[slice]:
        """Where groups that are not empty stand, counted from the end on."""
        end = int(self.begin[-1])
        slices = []
        for first, last in pairwise(self.begin.tolist()):
            if last > first:
                slices.append(slice(end - last, end - first))
        return slices


@dataclass(frozen=True, slots=True, eq=False)
class _WeightedCounts:
    """Everything that is counted in a size bin, by the image whose weight it counts with.

    Attributes:
        label_image, label_class: `(L,)` of the labels that count.
        within: `(S,)` image of each detection of the right size up to the limit, in their order.
        matched: `(M,)` image of those of them that are matched, by `_ClassGroups`.
        right: `(N,)` image of each true positive, by `_ClassGroups`.
        within_at, matched_at: `(N,)` number of `within` and `matched` up to each true positive,
            itself included.
        begin, within_begin, matched_begin: `(G + 1,)`, `(G,)`, `(G,)` where groups begin in
            `right`, `within` and `matched`.
        envelopes: the groups with true positives, as slices of `right` from its end on.
        shape: T and K.
    """

    label_image: Ints
    label_class: Ints
    within: Ints
    matched: Ints
    right: Ints
    within_at: Ints
    matched_at: Ints
    begin: Ints
    within_begin: Ints
    matched_begin: Ints
    envelopes: list[slice]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls,
        sample: EvaluationInputs,
        pairs: Candidates,
        size: Bin,
        max_dets: int | None,
        thresholds: Floats,
    ) -> _WeightedCounts:
        rank = sample.detections.rank
        counted = coco.CountedInBin.of(sample, size)
        within = counted.within
        if max_dets is not None:
            within = within & (rank < max_dets)
        matched_parts, right_parts = [], []
        for chosen in coco.matches(sample, pairs, counted.ignored, thresholds):
            detection = pairs.detection[chosen]
            label = pairs.label[chosen]
            right = ~counted.ignored[label]
            if max_dets is not None:
                right &= rank[detection] < max_dets
            matched_parts.append(detection[within[detection]])
            right_parts.append(detection[right])
        return cls._of_parts(sample, counted, within, matched_parts, right_parts)

    @classmethod
    def _of_parts(
        cls,
        sample: EvaluationInputs,
        counted: coco.CountedInBin,
        within: Bools,
        matched_parts: list[Ints],
        right_parts: list[Ints],
    ) -> _WeightedCounts:
        """From the matched detections and the true positives at each threshold."""
        image = sample.detections.image
        positive = ~counted.ignored
        class_bounds = sample.class_bounds()
        matched = _ClassGroups.of(matched_parts, class_bounds)
        right = _ClassGroups.of(right_parts, class_bounds)
        shape = (len(right_parts), sample.classes)
        before = ragged.offsets(within)
        class_begin = before[class_bounds[:-1]]
        within_begin = np.tile(class_begin, len(right_parts))
        within_at = before[right.detection + 1]
        matched_at = _matched_at(matched_parts, right_parts)
        return cls(
            label_image=sample.labels.image[positive],
            label_class=sample.labels.class_id[positive],
            within=image[within],
            matched=image[matched.detection],
            right=image[right.detection],
            within_at=within_at,
            matched_at=matched_at,
            begin=right.begin,
            within_begin=within_begin,
            matched_begin=matched.begin[:-1],
            envelopes=right.slices_from_end(),
            shape=shape,
        )

    def average_precision(self, weights: Ints) -> Floats:
        """`(T, K)` under weights of the images; NaN for classes without labels."""
        weight = weights.astype(np.float64)  # sums of whole numbers are exact in it
        right = _sums(weight[self.right])
        precision = self._envelope(weight, right)
        label_weight = weight[self.label_image]
        labels = np.bincount(self.label_class, label_weight, self.shape[1])
        labels = labels.astype(np.int64)
        labelled = np.flatnonzero(labels)
        begin = right[self.begin[:-1]].reshape(self.shape)
        end = right[self.begin[1:]].reshape(self.shape)
        # A true positive of weight w is reached at any of its w, and its last one has the highest
        # precision
        wanted = begin[:, labelled, None] + coco.needed(labels[labelled])
        reached = wanted <= end[:, labelled, None]
        place = np.searchsorted(right[1:], wanted[reached])
        sampled = np.zeros(wanted.shape)
        sampled[reached] = precision[place]
        result = np.full(self.shape, np.nan)
        result[:, labelled] = sampled.sum(axis=-1) / len(RECALLS)
        return result

    def _envelope(self, weight: Floats, right: Floats) -> Floats:
        """`(N,)` the highest precision of each true positive or a later one of its group.

        Args:
            weight: `(I,)` of the images.
            right: sums of it over true positives.
        """
        within = _sums(weight[self.within])
        matched = _sums(weight[self.matched])
        number = np.diff(self.begin)
        right_begin = right[self.begin[:-1]]
        true = right[1:] - np.repeat(right_begin, number)
        counted_begin = within[self.within_begin] - matched[self.matched_begin]
        counted = within[self.within_at] - matched[self.matched_at]
        counted -= np.repeat(counted_begin, number)
        counted += true
        counted += np.spacing(1)
        precision = np.divide(true, counted, out=true)
        backwards = precision[::-1]
        for group in self.envelopes:
            part = backwards[group]
            np.maximum.accumulate(part, out=part)
        return precision


def _matched_at(matched: Sequence[Ints], right: Sequence[Ints]) -> Ints:
    """`(N,)` number of matched detections up to each true positive, over all thresholds."""
    earlier = 0
    parts = [np.empty(0, np.int64)]
    for detections, true in zip(matched, right, strict=True):
        parts.append(earlier + np.searchsorted(detections, true, "right"))
        earlier += len(detections)
    return np.concatenate(parts)


def _sums(values: Floats) -> Floats:
    """`(N + 1,)` sums up to each element, from 0 on."""
    result = np.zeros(len(values) + 1)
    np.cumsum(values, out=result[1:])
    return result


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and where the true value is likely to lie; NaN where there is nothing to measure.

    Attributes:
        labels: number of labels that it is based on; None where it is not given.
    """

    estimate: float
    low: float
    high: float
    labels: int | None = None


def interval(
    estimate: float, replicates: Floats, level: float = LEVEL, labels: int | None = None
) -> Interval:
    """The interval of `moved`, of an estimate between 0 and 1 and within these.

    Args:
        replicates: `(R,)` one column of `Draws`.

    >>> interval(0.5, np.array([0.5, 0.75, 1, np.nan]), level=1.0)
    Interval(estimate=0.5, low=0.25, high=0.75, labels=None)
    """
    ends = moved(estimate, replicates, level)
    low, high = np.clip(ends, 0, 1).tolist()
    return Interval(float(estimate), low, high, labels)


def moved(estimate: float, replicates: Floats, level: float = LEVEL) -> Floats:
    """`(2,)` percentiles of the replicates, moved so that their mean is the estimate; NaN if there
    is none.

    They are moved since replicates of AP are too high: in some the rare classes are not drawn, and
    the envelope of a precision curve gains by chance. Replicates that are NaN (nothing to measure
    was drawn) are left out.

    >>> moved(0, np.array([0.5, 0.75, 1, np.nan]), level=1.0).tolist()
    [-0.25, 0.25]
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known) or np.isnan(estimate):
        return np.full(2, np.nan)
    tail = (1 - level) / 2
    away = known - known.mean()
    percentiles = np.quantile(away, [tail, 1 - tail])
    return np.asarray(percentiles + estimate)


def few(images: int, labelled: int) -> str | None:
    """Why images are too few for an interval; None where they are not.

    Args:
        labelled: the number of images that have labels that count.

    >>> few(2, 2), few(9, 3), few(9, 5)
    ('too few images for an interval (2)', 'too few images for an interval (3 with labels)', None)
    """
    if labelled >= FEWEST_IMAGES:
        return None
    number = f"{labelled} with labels"
    if images < FEWEST_IMAGES:
        number = str(images)
    return f"too few images for an interval ({number})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much the AP of one run is above that of another.

    Attributes:
        difference: of the estimates, the first less the second.
        low, high: where the true difference is likely to lie; NaN, as p, with labels in fewer than
            5 images.
        p: how likely chance alone makes a difference as large, in either direction.
        verdict: in words.
    """

    difference: float
    low: float
    high: float
    p: float
    verdict: str


def compare(
    a: Draws, b: Draws, names: tuple[str, str] = ("A", "B"), bin: str = "all", level: float = LEVEL
) -> Comparison:
    """Two runs on the same images, replicate by replicate, so that hard images are hard for both.

    p is the achieved significance level of a paired bootstrap: the share of replicates whose
    difference is as far from the mean of all as the estimate's is from 0, the estimate itself
    counted as one of them, `(1 + n) / (1 + R)`. So with R replicates p is at least `1 / (1 + R)`. A
    run is called better when p is below `1 - level` and the interval does not contain 0.

    Raises:
        TilerError: they were not drawn with the same weights.

    >>> ap = np.array([[0.5], [0.7], [0.6]])
    >>> estimate = Estimate(ap[0], ap[0], ap[0])
    >>> labels, images = np.array([[99]]), np.array([9])
    >>> run = Draws((ALL,), weights(9, 3), ap, ap, ap, estimate, labels, images)
    >>> compare(run, run).verdict
    'no difference is shown (p = 1; the interval contains 0)'
    """
    _check_same_weights(a, b, names)
    labels, images = np.minimum(a.counts(bin), b.counts(bin)).tolist()
    difference, drawn = _differences(a, b, bin)
    reason = few(a.weights.shape[1], images)
    if reason is not None:
        return Comparison(difference, NAN, NAN, NAN, reason)
    low, high = moved(difference, drawn, level).tolist()
    p = _significance(difference, drawn[~np.isnan(drawn)])
    verdict = _verdict(difference, low <= 0 <= high, p, 1 - level, names)
    if labels < FEWEST_LABELS:
        verdict = f"too few labels ({labels}) to tell"
    return Comparison(difference, low, high, p, verdict)


def _check_same_weights(a: Draws, b: Draws, names: tuple[str, str]) -> None:
    if np.array_equal(a.weights, b.weights):
        return
    first, second = names
    raise TilerError(
        "runs are compared by the same weights of the same images: those "
        f"{a.weights.shape} of {first} and {b.weights.shape} of {second} differ"
    )


def _differences(a: Draws, b: Draws, bin: str) -> tuple[float, Floats]:
    """By how much the AP of a is above that of b: of the samples, and `(R,)` of the replicates."""
    i = a.bin(bin)
    j = b.bin(bin)
    estimate = float(a.estimate.ap[i] - b.estimate.ap[j])
    return estimate, a.ap[:, i] - b.ap[:, j]


def _verdict(
    difference: float, contains_0: bool, p: float, highest_p: float, names: tuple[str, str]
) -> str:
    if p < highest_p and not contains_0:
        better, worse = names if difference > 0 else names[::-1]
        return f"{better} is better than {worse} (p = {p:.2g})"
    if contains_0:
        return f"no difference is shown (p = {p:.2g}; the interval contains 0)"
    return f"no difference is shown (p = {p:.2g})"


def _significance(difference: float, drawn: Floats) -> float:
    if np.isnan(difference):
        return NAN
    as_far = 0
    if len(drawn):
        away = np.abs(drawn - drawn.mean())
        least = abs(difference) - ROUNDING
        as_far = (away >= least).sum()
    return float((1 + as_far) / (1 + len(drawn)))
