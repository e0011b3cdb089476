"""COCO's protocol, to the last bit of pycocotools 2.0.11 (cocoeval.py), on columns.

Greedy matching per IoU threshold and size range with labels outside the range ignored; precision at
101 points of recall, from its running maximum; means over what there is. Only true positives
change the envelope of a precision curve, so counting is done where they stand.

Where pycocotools is wrong this is not: a label with id 0 counts as found when it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.evaluation.assignment import assigned, bounds, crowds, in_turn
from tiler.evaluation.bins import ALL, Bin
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETS = (1, 10, 100)
KEYPOINT_MAX_DETS = (20,)


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What COCO accumulates; -1 where a class has no label in a bin.

    Attributes:
        bins: the A size bins.
        max_dets: the M limits of detections of a class in an image.
        thresholds: `(T,)` IoU.
        precision: `(T, 101, K, A, M)` at each recall.
        recall: `(T, K, A, M)` in the end.
        scores: `(T, 101, K, A, M)` the confidence at each recall.
        labels: `(K, A)` how many labels count.
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
        """Average precision, the mean over thresholds and classes; NaN where there is nothing to
        measure.

        Args:
            max_dets: one of those evaluated; default: the largest.
            iou: one threshold. Default: all.
            class_id: one class. Default: all.
        """
        values = self.precision[:, :, :, self._bin(bin), self._cap(max_dets)]
        return _mean(_chosen(values, self.thresholds, iou, class_id))

    def ar(
        self,
        bin: str = "all",
        max_dets: int | None = None,
        iou: float | None = None,
        class_id: int | None = None,
    ) -> float:
        """Average recall, likewise."""
        values = self.recall[:, None, :, self._bin(bin), self._cap(max_dets)]
        return _mean(_chosen(values, self.thresholds, iou, class_id))

    def _bin(self, name: str) -> int:
        return [b.name for b in self.bins].index(name)

    def _cap(self, max_dets: int | None) -> int:
        return -1 if max_dets is None else self.max_dets.index(max_dets)


def _chosen(values: Floats, thresholds: Floats, iou: float | None, class_id: int | None) -> Floats:
    if iou is not None:
        values = values[np.flatnonzero(np.isclose(thresholds, iou))]
    return values if class_id is None else values[:, :, class_id]


def _mean(values: Floats) -> float:
    values = values[values > -1]
    return float(np.mean(values)) if len(values) else float("nan")


def evaluate(
    sample: EvaluationInputs,
    pairs: Candidates,
    bins: Sequence[Bin] = (ALL,),
    max_dets: Sequence[int] = MAX_DETS,
    thresholds: Floats = THRESHOLDS,
) -> Curves:
    """Match and count.

    Args:
        pairs: candidates of the sample, at least from the lowest threshold on.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    >>> found = Instances(np.array([0]), np.array([[0, 0, 8, 6.0]]), conf=np.array([0.9]))
    >>> one = EvaluationInputs(GroundTruth(label, np.array([0])), Predicted.of(found, np.array([0])), images=1, classes=1)
    >>> curves = evaluate(one, candidates(one))
    >>> [round(curves.ap(iou=iou), 6) for iou in (0.5, 0.75, 0.8)], round(curves.ap(), 6)
    ([1.0, 1.0, 0.0], 0.6)
    """
    caps = tuple(sorted(max_dets))
    shape = (len(thresholds), len(RECALLS), sample.classes, len(bins), len(caps))
    precision, scores = -np.ones(shape), -np.ones(shape)
    recall = -np.ones((shape[0], *shape[2:]))
    labels = np.zeros((sample.classes, len(bins)), np.int64)
    classes = sample.detections.instances.class_id
    begin = np.searchsorted(classes, np.arange(sample.classes + 1))
    binding = int(np.searchsorted(caps, sample.detections.rank.max(initial=-1), "right"))
    # the other limits leave all detections in
    repeats = [1] * binding + [len(caps) - binding][: len(caps) - binding]
    for a, size in enumerate(bins):
        ignored = outside(sample.labels.instances.area, size) | sample.labels.ignored
        counts = sample.positives(~ignored)
        labels[:, a] = counts
        there = np.flatnonzero(counts)
        reach = needed(counts[there])
        within = ~outside(sample.detections.instances.area, size)
        tallies = [_Ranked.of(sample, within, cap, begin) for cap in caps[: len(repeats)]]
        for t, chosen in enumerate(matches(sample, pairs, ignored, thresholds)):
            found, label = pairs.detection[chosen], pairs.label[chosen]
            for m, tally in enumerate(tallies):
                hits = tally.hits(found, ~ignored[label], within[found])
                same = slice(m, m + repeats[m])
                recall[t, there, a, same] = (hits.number / np.maximum(counts, 1))[there, None]
                sampled = hits.sampled(there, reach)
                precision[t][:, there, a, same], scores[t][:, there, a, same] = (
                    values[..., None] for values in sampled
                )
    return Curves(tuple(bins), caps, np.asarray(thresholds), precision, recall, scores, labels)


def outside(area: Floats, size: Bin) -> Bools:
    """`(N,)` True for areas that are not of a bin."""
    return np.asarray((area < size.low) | (area > size.high))


def matches(
    sample: EvaluationInputs, pairs: Candidates, ignored: Bools, thresholds: Floats
) -> Iterator[Ints]:
    """For each threshold the pairs that are matched, ascending.

    A detection takes a label that counts before any that is ignored, whatever the IoU.
    """
    enough = np.minimum(thresholds, 1 - 1e-10)
    begin = bounds(pairs.detection, len(sample.detections))
    crowded = crowds(begin, sample.detections.image)
    if not crowded.any():
        yield from _matched_in_rounds(sample, pairs, ignored, enough)
        return
    mixed = ignored.any() and not ignored.all()
    own = pairs.known.setdefault((ignored.tobytes() if mixed else b"", enough.tobytes()), [])
    if not own:
        rows = (
            (pairs.label[at:end], pairs.iou[at:end], np.arange(at, end))
            for at, end in zip(
                begin[:-1][crowded].tolist(), begin[1:][crowded].tolist(), strict=True
            )
        )
        own += [
            chosen
            for chosen, _ in in_turn(rows, enough, len(sample.labels), ignored, sample.labels.crowd)
        ]
    others = ragged.spans(begin[:-1][~crowded], np.diff(begin)[~crowded])
    rest = _matched_in_rounds(sample, pairs.take(others), ignored, enough)
    for chosen, more in zip(own, rest, strict=True):
        yield np.sort(np.concatenate([chosen, others[more]]))


def _matched_in_rounds(
    sample: EvaluationInputs, pairs: Candidates, ignored: Bools, thresholds: Floats
) -> Iterator[Ints]:
    first_choice = ignored[pairs.label]
    order = np.arange(len(pairs))
    if first_choice.any():
        order = np.lexsort((first_choice, pairs.detection))
    found, label, iou = pairs.detection[order], pairs.label[order], pairs.iou[order]
    # Most detections have one candidate, which has no other: these need no rounds
    alone = (
        (np.bincount(found, minlength=1)[found] == 1)
        & (np.bincount(label, minlength=1)[label] == 1)
        if len(found)
        else np.empty(0, bool)
    )
    alone, rest = np.flatnonzero(alone), np.flatnonzero(~alone)
    shared = sample.labels.crowd[label[rest]]
    for enough in thresholds:
        some = iou[rest] >= enough
        contested = rest[some]
        taken = assigned(
            found[contested],
            label[contested],
            len(sample.labels),
            shared[some] if shared.any() else None,
        )
        yield np.sort(order[np.concatenate([alone[iou[alone] >= enough], contested[taken]])])


def matched(sample: EvaluationInputs, pairs: Candidates, thresholds: Floats = THRESHOLDS) -> Ints:
    """`(D, T)` the label that each detection is matched to at each threshold, of any size; -1 for
    none.

    A label that does not count (a crowd) stands there too.
    """
    result = np.full((len(sample.detections), len(thresholds)), -1, np.int64)
    for t, chosen in enumerate(matches(sample, pairs, sample.labels.ignored, thresholds)):
        result[pairs.detection[chosen], t] = pairs.label[chosen]
    return result


def needed(counts: Ints) -> Ints:
    """`(K, 101)` how many true positives reach each recall, of so many labels; more than there are,
    if none do.
    """
    guess = np.ceil(RECALLS * counts[:, None]).astype(np.int64)
    lower = np.maximum(guess - 1, 1)
    for number in (lower, lower + 1):
        enough = number / counts[:, None] >= RECALLS
        lower = np.where((number == lower) & ~enough, number + 1, lower)
    return np.asarray(lower)


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Detections counted from the most confident of each class on, under one limit.

    Attributes:
        counted: `(D,)` True up to the limit; None where it leaves all in.
        before: `(D + 1,)` how many of the right size stand before each detection.
        begin: `(K + 1,)` where the detections of each class begin.
        conf: `(D,)`.
    """

    counted: Bools | None
    before: Ints
    begin: Ints
    conf: Floats

    @classmethod
    def of(cls, sample: EvaluationInputs, within: Bools, cap: int, begin: Ints) -> _Ranked:
        counted = sample.detections.rank < cap
        conf = sample.detections.instances.confidence
        return cls(
            None if counted.all() else counted, ragged.offsets(within & counted), begin, conf
        )

    def hits(self, found: Ints, positive: Bools, within: Bools) -> _Hits:
        """The true positives among matched detections.

        Args:
            found: `(M,)` matched detections, ascending.
            positive: `(M,)` their label counts.
            within: `(M,)` they are of the right size themselves.
        """
        if self.counted is not None:
            counted = self.counted[found]
            found, positive, within = found[counted], positive[counted], within[counted]
        matched = ragged.offsets(within)
        begin = np.searchsorted(found, self.begin)
        at = found[positive]
        # false positives: of the right size and not matched, from the class's first detection on
        wrong = self.before[at + 1] - matched[1:][positive]
        first = np.searchsorted(at, self.begin)
        number = np.diff(first)
        wrong = wrong - np.repeat((self.before[self.begin] - matched[begin])[:-1], number)
        right = np.arange(1, len(at) + 1) - np.repeat(first[:-1], number)
        return _Hits(at, right / (wrong + right + np.spacing(1)), first, self)

    def top(self, classes: Ints) -> Floats:
        """The highest confidence of classes, 0 without detections."""
        begin = self.begin[classes]
        there = begin < self.begin[classes + 1]
        return (
            np.where(there, self.conf[np.minimum(begin, len(self.conf) - 1)], 0.0)
            if len(self.conf)
            else np.zeros(len(classes))
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """True positives `at` some detections, the precision there, and where those of each class
    begin.
    """

    at: Ints
    precision: Floats
    begin: Ints
    tally: _Ranked

    @property
    def number(self) -> Ints:
        """`(K,)` of each class."""
        return np.diff(self.begin)

    def sampled(self, classes: Ints, needed: Ints) -> tuple[Floats, Floats]:
        """`(101, K)` precision and confidence of classes at each recall, 0 where it is not reached."""
        envelope = self.precision.copy()
        for begin, end in zip(
            self.begin[classes].tolist(), self.begin[classes + 1].tolist(), strict=True
        ):
            part = envelope[begin:end][::-1]
            np.maximum.accumulate(part, out=part)
        reached = needed <= self.number[classes][:, None]
        place = np.where(reached, self.begin[classes][:, None] + needed - 1, 0)
        precision, conf = np.zeros(needed.shape), np.zeros(needed.shape)
        if len(self.at):
            precision = np.where(reached, envelope[place], 0.0)
            conf = np.where(reached, self.tally.conf[self.at[place]], 0.0)
        # a recall of 0 is reached by the first detection, right or wrong
        conf[:, 0] = self.tally.top(classes)
        return precision.T, conf.T
