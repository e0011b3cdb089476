"""COCO's protocol, to the last bit of pycocotools 2.0.11 (cocoeval.py), on columns.

Matching is greedy for each IoU threshold and size range, and labels outside the range are ignored.
Precision is sampled at 101 recalls, from its running maximum; means are over what is defined. Only
true positives change the envelope of a precision curve, so precision is computed at these alone.

One error of pycocotools is not repeated: a label with id 0 counts as found when it is matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.evaluation.assignment import (
    Row,
    assigned,
    bounds,
    crowds,
    firsts,
    in_turn,
    pairs_of,
    uncontested,
)
from tiler.evaluation.bins import ALL, Bin
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.geometry import ragged
from tiler.geometry.columns import Columns

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETS = (1, 10, 100)
KEYPOINT_MAX_DETS = (20,)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What COCO accumulates; -1 where a class has no label in a size bin.

    Attributes:
        bins: the A size bins.
        max_dets: the M limits of detections of a class in an image.
        thresholds: `(T,)` IoU.
        precision: `(T, 101, K, A, M)` at each recall.
        recall: `(T, K, A, M)` of all detections.
        scores: `(T, 101, K, A, M)` the confidence at each recall.
        labels: `(K, A)` number of labels that count.
    """

    bins: tuple[Bin, ...]
    max_dets: tuple[int, ...]
    thresholds: Floats
    precision: Floats
    recall: Floats
    scores: Floats
    labels: Ints

    def ap(
        self,
        bin: str = "all",
        max_dets: int | None = None,
        iou: float | None = None,
        class_id: int | None = None,
    ) -> float:
        """Average precision, the mean over thresholds and classes; NaN if no label counts.

        Args:
            max_dets: one of the limits evaluated. Default: the largest.
            iou: one threshold. Default: all.
            class_id: one class. Default: all.
        """
        a = self._bin(bin)
        m = self._limit(max_dets)
        values = self._selected(self.precision[:, :, :, a, m], iou, class_id)
        return _mean(values)

    def ar(
        self,
        bin: str = "all",
        max_dets: int | None = None,
        iou: float | None = None,
        class_id: int | None = None,
    ) -> float:
        """Average recall, with the same arguments."""
        a = self._bin(bin)
        m = self._limit(max_dets)
        values = self._selected(self.recall[:, None, :, a, m], iou, class_id)
        return _mean(values)

    def _bin(self, name: str) -> int:
        names = [size.name for size in self.bins]
        return names.index(name)

    def _limit(self, max_dets: int | None) -> int:
        if max_dets is None:
            return -1
        return self.max_dets.index(max_dets)

    def _selected(self, values: Floats, iou: float | None, class_id: int | None) -> Floats:
        """Of values `(T, ..., K)` those of one threshold, or of one class."""
        if iou is not None:
            is_chosen = np.isclose(self.thresholds, iou)
            values = values[np.flatnonzero(is_chosen)]
        if class_id is not None:
            values = values[:, :, class_id]
        return values


def _mean(values: Floats) -> float:
    """The mean of those that are defined, which are not -1."""
    values = values[values > -1]
    if not len(values):
        return float("nan")
    return float(np.mean(values))


def evaluate(
    sample: EvaluationInputs,
    pairs: Candidates,
    bins: Sequence[Bin] = (ALL,),
    max_dets: Sequence[int] = MAX_DETS,
    thresholds: Floats = THRESHOLDS,
) -> Curves:
    """Match detections and labels, and accumulate COCO's curves.

    Args:
        pairs: candidates of the sample, with at least the lowest threshold.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    >>> detection = Instances(np.array([0]), np.array([[0, 0, 8, 6.0]]), conf=np.array([0.9]))
    >>> labels = GroundTruth(label, np.array([0]))
    >>> detections = Predicted.of(detection, np.array([0]))
    >>> sample = EvaluationInputs(labels, detections, images=1, classes=1)
    >>> curves = evaluate(sample, candidates(sample))
    >>> [round(curves.ap(iou=iou), 6) for iou in (0.5, 0.75, 0.8)], round(curves.ap(), 6)
    ([1.0, 1.0, 0.0], 0.6)
    """
    limits = tuple(sorted(max_dets))
    curves = _unfilled(sample, tuple(bins), limits, np.asarray(thresholds))
    for a, size in enumerate(bins):
        counted = CountedInBin.of(sample, size)
        curves.labels[:, a] = counted.labels
        rankings = _rankings(sample, counted.within, limits)
        for t, chosen in enumerate(matches(sample, pairs, counted.ignored, thresholds)):
            matched = counted.matched(pairs.detection[chosen], pairs.label[chosen])
            _fill(curves, (t, a), counted, rankings, matched)
    return curves


def _unfilled(
    sample: EvaluationInputs, bins: tuple[Bin, ...], limits: tuple[int, ...], thresholds: Floats
) -> Curves:
    """Curves of no label, everywhere -1."""
    per_bin = (sample.classes, len(bins))
    recall = (len(thresholds), *per_bin, len(limits))
    precision = (len(thresholds), len(RECALLS), *per_bin, len(limits))
    labels = np.zeros(per_bin, np.int64)
    return Curves(
        bins=bins,
        max_dets=limits,
        thresholds=thresholds,
        precision=np.full(precision, -1.0),
        recall=np.full(recall, -1.0),
        scores=np.full(precision, -1.0),
        labels=labels,
    )


def _rankings(
    sample: EvaluationInputs, within: Bools, limits: tuple[int, ...]
) -> list[tuple[_RankedDetections, slice]]:
    """The detections under those limits that make a difference, and which limits each stands for:
    curves are the same under all limits that leave all detections in.
    """
    highest = sample.detections.rank.max(initial=-1)
    binding = int(np.searchsorted(limits, highest, "right"))
    result = []
    for m, limit in enumerate(limits[:binding]):
        limited = _RankedDetections.of(sample, within, limit)
        result.append((limited, slice(m, m + 1)))
    if binding < len(limits):
        unlimited = _RankedDetections.of(sample, within, limits[binding])
        result.append((unlimited, slice(binding, None)))
    return result


def _fill(
    curves: Curves,
    place: tuple[int, int],
    counted: CountedInBin,
    rankings: list[tuple[_RankedDetections, slice]],
    matched: _MatchedDetections,
) -> None:
    """Write what is measured at one threshold in one size bin: `place`."""
    t, a = place
    classes = counted.classes
    for ranking, limits in rankings:
        hits = ranking.hits(matched)
        recall = hits.number / np.maximum(counted.labels, 1)
        precision, scores = hits.sampled(classes, counted.needed)
        curves.recall[t, classes, a, limits] = recall[classes, None]
        curves.precision[t][:, classes, a, limits] = precision[..., None]
        curves.scores[t][:, classes, a, limits] = scores[..., None]


@dataclass(frozen=True, slots=True, eq=False)
class CountedInBin:
    """The labels and detections of one size bin.

    Attributes:
        ignored: `(G,)` labels of another size, and those ignored anyway.
        within: `(D,)` detections of this size.
        labels: `(K,)` number of labels of each class that count.
        classes: `(C,)` classes that have such labels.
        needed: `(C, 101)` of `needed`.
    """

    ignored: Bools
    within: Bools
    labels: Ints
    classes: Ints
    needed: Ints

    @classmethod
    def of(cls, sample: EvaluationInputs, size: Bin) -> CountedInBin:
        ignored = outside(sample.labels.area, size) | sample.labels.ignored
        within = ~outside(sample.detections.area, size)
        labels = sample.positives(~ignored)
        classes = np.flatnonzero(labels)
        return cls(ignored, within, labels, classes, needed(labels[classes]))

    def matched(self, detection: Ints, label: Ints) -> _MatchedDetections:
        """Matched detections, with what they and their labels count for."""
        positive = ~self.ignored[label]
        within = self.within[detection]
        return _MatchedDetections(detection, positive, within)


def outside(area: Floats, size: Bin) -> Bools:
    """`(N,)` True for areas outside a size bin."""
    return np.asarray((area < size.low) | (area > size.high))


def matches(
    sample: EvaluationInputs, pairs: Candidates, ignored: Bools, thresholds: Floats
) -> Iterator[Ints]:
    """For each threshold the pairs that are matched, ascending.

    A detection prefers any label that counts to any that is ignored, whatever the IoU.
    """
    minimum = np.minimum(thresholds, 1 - 1e-10)
    begin = bounds(pairs.detection, len(sample.detections))
    crowded = crowds(begin, sample.detections.image)
    if not crowded.any():
        yield from _matched_in_rounds(sample, pairs, ignored, minimum)
        return
    in_crowds = _matched_in_turn(sample, pairs, begin, crowded, ignored, minimum)
    others = pairs_of(begin, ~crowded)
    in_rounds = _matched_in_rounds(sample, pairs.take(others), ignored, minimum)
    for chosen, more in zip(in_crowds, in_rounds, strict=True):
        both = np.concatenate([chosen, others[more]])
        yield np.sort(both)


def _matched_in_turn(
    sample: EvaluationInputs,
    pairs: Candidates,
    begin: Ints,
    crowded: Bools,
    ignored: Bools,
    thresholds: Floats,
) -> list[Ints]:
    """The pairs that detections of crowds are matched to, found once for the same labels."""
    key = (b"", thresholds.tobytes())
    if ignored.any() and not ignored.all():
        key = (ignored.tobytes(), thresholds.tobytes())
    known = pairs.known_matches.get(key)
    if known is None:
        rows = _rows_of_crowds(pairs, begin, crowded)
        found = in_turn(rows, thresholds, len(sample.labels), ignored, sample.labels.crowd)
        known = [chosen for chosen, _ in found]
        pairs.known_matches[key] = known
    return known


def _rows_of_crowds(pairs: Candidates, begin: Ints, crowded: Bools) -> Iterator[Row]:
    """The candidates of each detection that is in a crowd, as `in_turn` takes them."""
    starts = begin[:-1][crowded].tolist()
    ends = begin[1:][crowded].tolist()
    for start, end in zip(starts, ends, strict=True):
        numbers = np.arange(start, end)
        yield pairs.label[start:end], pairs.iou[start:end], numbers


def _matched_in_rounds(
    sample: EvaluationInputs, pairs: Candidates, ignored: Bools, thresholds: Floats
) -> Iterator[Ints]:
    plain = uncontested(pairs.detection, pairs.label) & ~sample.labels.crowd[pairs.label]
    won = _won(pairs, np.flatnonzero(plain), len(sample.labels), thresholds)
    others = np.flatnonzero(~plain)
    contested = pairs.take(others)
    order = _counted_first(contested, ignored)
    ordered = contested.take(order)
    for threshold, first in zip(thresholds, won, strict=True):
        enough = np.flatnonzero(ordered.iou >= threshold)
        taken = _taken(sample, ordered, enough)
        both = np.concatenate([first, others[order[taken]]])
        yield np.sort(both)


def _won(pairs: Candidates, plain: Ints, labels: int, thresholds: Floats) -> list[Ints]:
    """The uncontested pairs that are matched at each threshold, whatever is ignored: found once."""
    key = (b"uncontested", thresholds.tobytes())
    known = pairs.known_matches.get(key)
    if known is None:
        found = firsts(pairs.label[plain], pairs.iou[plain], thresholds, labels)
        known = [plain[first] for first in found]
        pairs.known_matches[key] = known
    return known


def _counted_first(pairs: Candidates, ignored: Bools) -> Ints:
    """`(P,)` the order of pairs in which a detection's labels that count come first."""
    is_ignored = ignored[pairs.label]
    if not is_ignored.any():
        return np.arange(len(pairs))
    return np.lexsort((is_ignored, pairs.detection))


def _taken(sample: EvaluationInputs, pairs: Candidates, chosen: Ints) -> Ints:
    """Which of the chosen pairs are matched."""
    detection = pairs.detection[chosen]
    label = pairs.label[chosen]
    shared: Bools | None = sample.labels.crowd[label]
    if not np.any(shared):
        shared = None
    return chosen[assigned(detection, label, len(sample.labels), shared)]


def matched(sample: EvaluationInputs, pairs: Candidates, thresholds: Floats = THRESHOLDS) -> Ints:
    """`(D, T)` the label of any size that each detection is matched to at each threshold; -1 for
    none.

    Labels that do not count (crowds) are among them.
    """
    result = np.full((len(sample.detections), len(thresholds)), -1, np.int64)
    for t, chosen in enumerate(matches(sample, pairs, sample.labels.ignored, thresholds)):
        result[pairs.detection[chosen], t] = pairs.label[chosen]
    return result


def needed(counts: Ints) -> Ints:
    """`(K, 101)` how many true positives reach each recall, by the number of labels of a class;
    more than that if no number does.
    """
    labels = counts[:, None]
    guess = np.ceil(RECALLS * labels).astype(np.int64)
    result = np.maximum(guess - 1, 1)
    for number in (result, result + 1):
        reached = number / labels >= RECALLS
        is_too_low = (number == result) & ~reached
        result = np.where(is_too_low, number + 1, result)
    return np.asarray(result)


@dataclass(frozen=True, slots=True, eq=False)
class _MatchedDetections(Columns):
    """Detections that are matched at one threshold.

    Attributes:
        detection: `(M,)` ascending.
        positive: `(M,)` True where their label counts.
        within: `(M,)` True for those of the right size themselves.
    """

    detection: Ints
    positive: Bools
    within: Bools


@dataclass(frozen=True, slots=True, eq=False)
class _RankedDetections:
    """Detections by class, the most confident first, under one limit.

    Attributes:
        counted: `(D,)` True up to the limit; None where it leaves all in.
        before: `(D + 1,)` number of detections of the right size before each.
        begin: `(K + 1,)` where the detections of each class begin.
        conf: `(D,)`.
    """

    counted: Bools | None
    before: Ints
    begin: Ints
    conf: Floats

    @classmethod
    def of(cls, sample: EvaluationInputs, within: Bools, limit: int) -> _RankedDetections:
        counted = sample.detections.rank < limit
        before = ragged.offsets(within & counted)
        binding = None if counted.all() else counted
        return cls(binding, before, sample.class_bounds(), sample.detections.conf)

    def hits(self, matched: _MatchedDetections) -> _TruePositives:
        """The true positives among matched detections."""
        if self.counted is not None:
            matched = matched.take(self.counted[matched.detection])
        at = matched.detection[matched.positive]
        begin = np.searchsorted(at, self.begin)
        number = np.diff(begin)
        # false positives: of the right size and not matched, from the class's first detection on
        matched_before = ragged.offsets(matched.within)
        matched_here = matched_before[1:][matched.positive]
        class_begin = np.searchsorted(matched.detection, self.begin)
        earlier = self.before[self.begin] - matched_before[class_begin]
        false = self.before[at + 1] - matched_here
        false = false - np.repeat(earlier[:-1], number)
        earlier_true = np.repeat(begin[:-1], number)
        true = np.arange(1, len(at) + 1) - earlier_true
        precision = true / (false + true + np.spacing(1))
        return _TruePositives(at, precision, begin, self)

    def highest(self, classes: Ints) -> Floats:
        """`(C,)` the highest confidence of classes, 0 for one without detections."""
        if not len(self.conf):
            return np.zeros(len(classes))
        begin = self.begin[classes]
        has_any = begin < self.begin[classes + 1]
        first = np.minimum(begin, len(self.conf) - 1)
        return np.where(has_any, self.conf[first], 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _TruePositives:
    """True positives of all classes, one class after the other.

    Attributes:
        at: `(N,)` which detections they are.
        precision: `(N,)` down to each.
        begin: `(K + 1,)` where those of each class begin.
    """

    at: Ints
    precision: Floats
    begin: Ints
    ranking: _RankedDetections

    @property
    def number(self) -> Ints:
        """`(K,)` of each class."""
        return np.diff(self.begin)

    def envelope(self, classes: Ints) -> Floats:
        """`(N,)` the highest precision of each or a later one of its class."""
        result = self.precision.copy()
        starts = self.begin[classes].tolist()
        ends = self.begin[classes + 1].tolist()
        for start, end in zip(starts, ends, strict=True):
            backwards = result[start:end][::-1]
            np.maximum.accumulate(backwards, out=backwards)
        return result

    def sampled(self, classes: Ints, needed: Ints) -> tuple[Floats, Floats]:
        """`(101, C)` precision and confidence of classes at each recall, 0 where it is not reached.

        Args:
            needed: `(C, 101)` how many true positives reach each recall.
        """
        precision = np.zeros(needed.shape)
        conf = np.zeros(needed.shape)
        if len(self.at):
            begin = self.begin[classes][:, None]
            number = self.number[classes][:, None]
            reached = needed <= number
            place = np.where(reached, begin + needed - 1, 0)
            envelope = self.envelope(classes)
            detection = self.at[place]
            precision = np.where(reached, envelope[place], 0.0)
            conf = np.where(reached, self.ranking.conf[detection], 0.0)
        # a recall of 0 is reached by the first detection, right or wrong
        conf[:, 0] = self.ranking.highest(classes)
        return precision.T, conf.T
