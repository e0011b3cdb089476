"""How far COCO's AP would move with other images: whole images are drawn anew, nothing is matched
anew.

All tiles, labels and detections of an image are one cluster, so images are what is drawn. A
replicate gives each image a weight, how often it was drawn; its labels and detections count so many
times. That is the AP of a sample in which the image stands so often, but where detections of
different images have exactly the same confidence: those keep their order here, while repeated
images would mix them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
FEWEST_IMAGES = 5  # with labels, for an interval: few can be drawn in few ways only
FEWEST_LABELS = 20
ROUNDING = 1e-12  # of AP


def weights(images: int, replicates: int, seed: int = 0) -> Ints:
    """`(R, I)` how often each image is drawn, when as many are drawn as there are, with
    replacement.

    More replicates of one seed begin with the same ones.

    >>> weights(4, 3).sum(axis=1).tolist()
    [4, 4, 4]
    """
    rng = np.random.default_rng(seed)
    result = np.zeros((replicates, images), np.int64)
    for row in result if images else ():
        row += np.bincount(rng.integers(images, size=images), minlength=images)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """AP of the sample as it is; NaN where there is no label.

    Attributes:
        ap: `(A,)` mean over thresholds and classes.
        ap50: `(A,)` at IoU 0.5; NaN if that is none of the thresholds.
        per_class: `(K,)` mean over thresholds, of the bin that `Draws` says.
    """

    ap: Floats
    ap50: Floats
    per_class: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """AP of each replicate; NaN where none of its images has a label.

    Attributes:
        bins: the A size bins.
        weights: `(R, I)` what was drawn.
        ap: `(R, A)` mean over thresholds and those classes that have labels in the replicate.
        ap50: `(R, A)` at IoU 0.5.
        per_class: `(R, K)` mean over thresholds; of the bin "all", without one of the first.
        estimate: the same of the sample itself.
        labels: `(K, A)` how many labels count.
        images: `(A,)` how many images have such labels.
    """

    bins: tuple[Bin, ...]
    weights: Ints
    ap: Floats
    ap50: Floats
    per_class: Floats
    estimate: Estimate
    labels: Ints
    images: Ints

    def bin(self, name: str) -> int:
        """Which column a bin is."""
        return [b.name for b in self.bins].index(name)


def draws(
    sample: EvaluationInputs,
    pairs: Candidates,
    weights: Ints,
    bins: Sequence[Bin] = (ALL,),
    max_dets: int | None = None,
    thresholds: Floats = THRESHOLDS,
) -> Draws:
    """AP under each of the weights, and as it is: what `coco.evaluate` says.

    Args:
        pairs: candidates of the sample, at least from the lowest threshold on.
        weights: `(R, I)` whole numbers, 0 or more.
        max_dets: the limit of detections of a class in an image. Default: none.

    Raises:
        TilerError: weights are not of as many images.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> labels = Instances(np.array([0, 0]), np.array([[0, 0, 8, 8.0], [0, 0, 8, 8]]))
    >>> found = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]), conf=np.array([0.9]))
    >>> two = EvaluationInputs(GroundTruth(labels, np.array([0, 1])), Predicted.of(found, np.array([0])), images=2, classes=1)
    >>> drawn = draws(two, candidates(two), np.array([[2, 0], [0, 2]]))
    >>> drawn.estimate.ap.round(3).tolist(), drawn.ap.tolist()
    ([0.505], [[1.0], [0.0]])
    """
    if weights.ndim != 2 or weights.shape[1] != sample.images:
        raise TilerError(
            f"weights of shape {weights.shape}, expected one for each of {sample.images} images "
            "in every row"
        )
    # the estimate is the first
    rows = np.concatenate([np.ones((1, sample.images), np.int64), weights])
    ap, ap50 = np.empty((2, len(rows), len(bins)))
    per_class = np.full((len(rows), sample.classes), np.nan)
    labels = np.zeros((sample.classes, len(bins)), np.int64)
    images = np.zeros(len(bins), np.int64)
    half = np.isclose(thresholds, 0.5)
    shown = next((a for a, size in enumerate(bins) if size.name == ALL.name), 0)
    for a, size in enumerate(bins):
        counts = _Drawable.of(sample, pairs, size, max_dets, thresholds)
        labels[:, a] = np.bincount(counts.label_class, minlength=sample.classes)
        images[a] = len(np.unique(counts.label_image))
        for r, values in enumerate(counts.average_precision(row) for row in rows):
            ap[r, a], ap50[r, a] = _mean(values), _mean(values[half])
            if a == shown and len(thresholds):
                per_class[r] = values.mean(axis=0)
    estimate = Estimate(ap[0], ap50[0], per_class[0])
    return Draws(tuple(bins), weights, ap[1:], ap50[1:], per_class[1:], estimate, labels, images)


def _mean(values: Floats) -> float:
    values = values[~np.isnan(values)]
    return float(np.mean(values)) if len(values) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class _Drawable:
    """Everything that is counted in a size bin, by the image whose weight it counts with.

    A group is a class at a threshold, G = T x K of them, threshold after threshold. Sums from a
    first element on have one more, the 0 before it.

    Attributes:
        label_image, label_class: `(L,)` of the labels that count.
        within: `(S,)` image of each detection of the right size up to the limit, in their order.
        matched: `(M,)` image of those of them that are matched, group after group.
        right: `(N,)` image of each true positive, group after group.
        within_at, matched_at: `(N,)` how many of `within` and `matched` stand up to each true
            positive, itself included.
        begin, within_begin, matched_begin: `(G + 1,)`, `(G,)`, `(G,)` where groups begin in
            `right`, `within` and `matched`.
        envelopes: of groups with true positives, where they stand in `right` from its end on.
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
    ) -> _Drawable:
        truth, found = sample.labels, sample.detections
        ignored = coco.outside(truth.instances.area, size) | truth.ignored
        counted = np.ones(len(found), bool) if max_dets is None else found.rank < max_dets
        within = counted & ~coco.outside(found.instances.area, size)
        edges = np.searchsorted(found.instances.class_id, np.arange(sample.classes + 1))
        stand = ragged.offsets(within)
        parts = list(_matches(sample, pairs, ignored, counted, thresholds))
        none = np.empty(0, np.int64)
        matched = [at[within[at]] for at, _ in parts]
        right = [at[positive] for at, positive in parts]
        begin = ragged.offsets(
            np.concatenate([none, *(np.diff(np.searchsorted(at, edges)) for at in right)])
        )
        earlier = ragged.offsets([len(at) for at in matched])[:-1].tolist()
        ends = begin[-1]
        taken = np.flatnonzero(np.diff(begin)).tolist()
        return cls(
            label_image=truth.image[~ignored],
            label_class=truth.instances.class_id[~ignored],
            within=found.image[within],
            matched=found.image[np.concatenate([none, *matched])],
            right=found.image[np.concatenate([none, *right])],
            within_at=stand[np.concatenate([none, *right]) + 1],
            matched_at=np.concatenate(
                [
                    none,
                    *(
                        n + np.searchsorted(m, at, "right")
                        for n, m, at in zip(earlier, matched, right, strict=True)
                    ),
                ]
            ),
            begin=begin,
            within_begin=np.tile(stand[edges[:-1]], len(parts)),
            matched_begin=np.concatenate(
                [
                    none,
                    *(
                        n + np.searchsorted(m, edges[:-1])
                        for n, m in zip(earlier, matched, strict=True)
                    ),
                ]
            ),
            envelopes=[slice(ends - begin[g + 1], ends - begin[g]) for g in taken],
            shape=(len(parts), sample.classes),
        )

    def average_precision(self, weights: Ints) -> Floats:
        """`(T, K)` under weights of the images; NaN for classes without labels."""
        weight = weights.astype(np.float64)  # sums of whole numbers are exact in it
        within = _sums(weight[self.within])
        matched = _sums(weight[self.matched])
        right = _sums(weight[self.right])
        number = np.diff(self.begin)
        start = right[self.begin]
        found = right[1:] - np.repeat(start[:-1], number)
        wrong = within[self.within_at] - matched[self.matched_at]
        wrong -= np.repeat(within[self.within_begin] - matched[self.matched_begin], number)
        wrong += found
        wrong += np.spacing(1)
        precision = np.divide(found, wrong, out=found)
        backwards = precision[::-1]
        for group in self.envelopes:
            part = backwards[group]
            np.maximum.accumulate(part, out=part)
        counts = np.bincount(self.label_class, weight[self.label_image], self.shape[1]).astype(
            np.int64
        )
        there = np.flatnonzero(counts)
        needed = coco.needed(counts[there])
        start = start[:-1].reshape(self.shape)[:, there, None]
        enough = right[self.begin[1:]].reshape(self.shape)[:, there, None]
        # A true positive of weight w is reached at any of its w, and its last one has the highest
        # precision
        wanted = start + needed
        reached = wanted <= enough
        values = np.zeros(wanted.shape)
        values[reached] = precision[np.searchsorted(right[1:], wanted[reached])]
        result = np.full(self.shape, np.nan)
        result[:, there] = values.sum(axis=-1) / len(RECALLS)
        return result


def _matches(
    sample: EvaluationInputs, pairs: Candidates, ignored: Bools, counted: Bools, thresholds: Floats
) -> Iterator[tuple[Ints, Bools]]:
    """For each threshold the matched detections that are counted, and which of them are true
    positives.
    """
    for chosen in coco.matches(sample, pairs, ignored, thresholds):
        chosen = chosen[counted[pairs.detection[chosen]]]
        yield pairs.detection[chosen], ~ignored[pairs.label[chosen]]


def _sums(values: Floats) -> Floats:
    """`(N + 1,)` sums up to each element, from 0 on."""
    result = np.zeros(len(values) + 1)
    np.cumsum(values, out=result[1:])
    return result


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and where the truth is likely to lie; NaN where there is nothing to measure.

    Attributes:
        labels: how many it rests on; None: not said.
    """

    estimate: float
    low: float
    high: float
    labels: int | None = None


def interval(
    estimate: float, replicates: Floats, level: float = LEVEL, labels: int | None = None
) -> Interval:
    """What `moved` says of an estimate between 0 and 1, within these.

    Args:
        replicates: `(R,)` one column of `Draws`.

    >>> interval(0.5, np.array([0.5, 0.75, 1, np.nan]), level=1.0)
    Interval(estimate=0.5, low=0.25, high=0.75, labels=None)
    """
    low, high = np.clip(moved(estimate, replicates, level), 0, 1).tolist()
    return Interval(float(estimate), low, high, labels)


def moved(estimate: float, replicates: Floats, level: float = LEVEL) -> Floats:
    """`(2,)` percentiles of the replicates, moved so that their mean is the estimate; NaN if there
    is none.

    Moved, since replicates of AP lie too high: in some the rare classes are not drawn, and the
    envelope of a precision curve gains by chance. Replicates that are NaN (nothing to measure was
    drawn) are left out.

    >>> moved(0, np.array([0.5, 0.75, 1, np.nan]), level=1.0).tolist()
    [-0.25, 0.25]
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known) or np.isnan(estimate):
        return np.full(2, np.nan)
    tail = (1 - level) / 2
    return np.asarray(np.quantile(known - known.mean(), [tail, 1 - tail]) + estimate)


def few(images: int, labelled: int) -> str | None:
    """Why images are too few for an interval; None where they are not.

    Args:
        labelled: how many of the images have labels that count.

    >>> few(2, 2), few(9, 3), few(9, 5)
    ('too few images for an interval (2)', 'too few images for an interval (3 with labels)', None)
    """
    if labelled >= FEWEST_IMAGES:
        return None
    return (
        "too few images for an interval "
        f"({images if images < FEWEST_IMAGES else f'{labelled} with labels'})"
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much the AP of one run is above that of another.

    Attributes:
        difference: of the estimates, the first less the second.
        low, high: where the true difference is likely to lie; NaN, as p, with labels in fewer than
            5 images.
        p: how likely a difference as large, either way, is by chance where there is none.
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
    counted as one of them, `(1 + n) / (1 + R)`. So R replicates show no p below `1 / (1 + R)`. A
    run is called better when p is below `1 - level` and the interval does not hold 0.

    Raises:
        TilerError: they were not drawn with the same weights.

    >>> drawn = np.array([[0.5], [0.7], [0.6]])
    >>> own = Draws((ALL,), weights(9, 3), drawn, drawn, drawn, Estimate(*drawn[:, :1]), np.array([[99]]), np.array([9]))
    >>> compare(own, own).verdict
    'no difference is shown (p = 1; the interval holds 0)'
    """
    if not np.array_equal(a.weights, b.weights):
        shapes = " and ".join(
            f"{x.weights.shape} of {name}" for x, name in zip((a, b), names, strict=True)
        )
        raise TilerError(
            f"runs are compared by the same weights of the same images: those {shapes} differ"
        )
    i, j = a.bin(bin), b.bin(bin)
    difference = float(a.estimate.ap[i] - b.estimate.ap[j])
    reason = few(a.weights.shape[1], min(int(a.images[i]), int(b.images[j])))
    if reason is not None:
        nothing = float("nan")
        return Comparison(difference, nothing, nothing, nothing, reason)
    drawn = a.ap[:, i] - b.ap[:, j]
    low, high = moved(difference, drawn, level).tolist()
    p = _significance(difference, drawn[~np.isnan(drawn)])
    labels = min(int(a.labels[:, i].sum()), int(b.labels[:, j].sum()))
    return Comparison(
        difference, low, high, p, _verdict(difference, low, high, p, 1 - level, labels, names)
    )


def _verdict(
    difference: float,
    low: float,
    high: float,
    p: float,
    enough: float,
    labels: int,
    names: tuple[str, str],
) -> str:
    if labels < FEWEST_LABELS:
        return f"too few labels ({labels}) to tell"
    holds = low <= 0 <= high
    if p < enough and not holds:
        better, worse = names if difference > 0 else names[::-1]
        return f"{better} is better than {worse} (p = {p:.2g})"
    return f"no difference is shown (p = {p:.2g}{'; the interval holds 0' if holds else ''})"


def _significance(difference: float, drawn: Floats) -> float:
    if np.isnan(difference):
        return float("nan")
    away = np.abs(drawn - drawn.mean()) if len(drawn) else drawn
    return float((1 + (away >= abs(difference) - ROUNDING).sum()) / (1 + len(drawn)))
