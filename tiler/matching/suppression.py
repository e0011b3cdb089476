"""Greedy competition by confidence: NMS, and what becomes of losers in NMM, WBF and soft-NMS."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.columns import rows
from tiler.matching.similarity import of_boxes

if TYPE_CHECKING:
    from tiler.matching.similarity import Metric
    from tiler.types import Bools, Floats, Ints

ROUNDS = 40  # of NMS; what is left then is a long chain
MANY = 64  # from 1/64 of all detections on, marking values is quicker than sorting them
SIGMA = 0.5


def suppressors(n: int, i: Ints, j: Ints) -> Ints:
    """`(n,)` the suppressor of each detection in greedy NMS; itself if it is kept.

    The result of the sequential loop: if several kept detections overlap one, the strongest
    suppresses it.

    Args:
        i, j: `(P,)` pairs whose overlap reaches the threshold, i < j (i is the stronger), ordered
            by i.

    >>> suppressors(3, np.array([0, 1]), np.array([1, 2])).tolist()
    [0, 0, 2]
    """
    kept = _kept(n, i, j)
    suppressor = np.arange(n)
    decisive = kept[i] & ~kept[j]
    suppressor[~kept] = n
    np.minimum.at(suppressor, j[decisive], i[decisive])
    return suppressor


def _kept(n: int, i: Ints, j: Ints) -> Bools:
    """`(n,)` the detections that greedy NMS keeps, in rounds: one is decided when all its stronger
    partners are.
    """
    kept = np.ones(n, bool)
    undecided = np.ones(n, bool)
    for _ in range(ROUNDS):
        if not len(i):
            break
        contested = np.zeros(n, bool)
        contested[j] = True
        winner = undecided & ~contested
        kept[j[winner[i]]] = False
        undecided &= ~winner & kept
        open_ = undecided[i] & undecided[j]
        i, j = i[open_], j[open_]
    # the rest is a long chain: one after the other is quicker
    for one, other in rows(i, j):
        if kept[one]:
            kept[other] = False
    return kept


def grown(boxes: Floats, suppressor: Ints, metric: Metric, threshold: Floats) -> Floats:
    """`(N, 4)` the boxes of winners grown to the union with their losers, one after the other.

    As in SAHI: a loser counts only if it still overlaps enough what the box has grown to.
    """
    result = boxes.copy()
    for winner, loser in _turns(suppressor):
        overlap = of_boxes(result[winner], boxes[loser], metric)
        fits = overlap >= threshold[winner]
        winner, loser = winner[fits], loser[fits]
        one, other = result[winner], boxes[loser]
        start = np.minimum(box.top_left(one), box.top_left(other))
        end = np.maximum(box.bottom_right(one), box.bottom_right(other))
        result[winner] = np.concatenate([start, end], axis=1)
    return result


def _turns(suppressor: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Winners and losers: first every winner with its first loser, then those with a second one,
    and so on.
    """
    losers = np.flatnonzero(suppressor != np.arange(len(suppressor)))
    losers = losers[np.argsort(suppressor[losers], kind="stable")]
    winner = suppressor[losers]
    first = np.searchsorted(winner, winner, "left")
    turn = np.arange(len(losers)) - first
    order = np.argsort(turn, kind="stable")
    winner = winner[order]
    losers = losers[order]
    turns = np.arange(turn.max(initial=-1) + 2)
    begin = np.searchsorted(turn[order], turns)
    for start, end in pairwise(begin.tolist()):
        yield winner[start:end], losers[start:end]


def wbf(
    boxes: Floats, conf: Floats, i: Ints, j: Ints, threshold: Floats, model: Ints | None = None
) -> tuple[Ints, Floats, Floats]:
    """Weighted boxes fusion: clusters around their mean, as `ensemble_boxes` makes them.

    In order of confidence each box joins the cluster whose mean box it overlaps most (IoU
    above the threshold), else it starts one. A cluster's box is the mean weighted by
    confidence, its confidence the plain mean.

    Args:
        i, j: `(P,)` pairs that meet at all, i < j.
        model: `(N,)` the model of each, of which a cluster has one box at most; None: it may have
            any number.

    Returns:
        For each box the first member of its cluster, `(N,)`, and the boxes and confidences of the
        clusters, at their first members.

    Source: Solovyev et al., "Weighted boxes fusion", 2021; ensemble_boxes_wbf.py.
    """
    n = len(boxes)
    stronger: list[list[int]] = [[] for _ in range(n)]
    for one, other in rows(i, j):
        stronger[other].append(one)
    which = np.flatnonzero(np.bincount(j, minlength=n))
    return clustered(boxes, conf, stronger.__getitem__, which, threshold, model)


def clustered(
    boxes: Floats,
    conf: Floats,
    stronger: Callable[[int], Ints | list[int]],
    which: Ints,
    threshold: Floats,
    model: Ints | None = None,
) -> tuple[Ints, Floats, Floats]:
    """The same, asking row by row.

    Args:
        stronger: the stronger boxes that one meets.
        which: the boxes that meet any.
    """
    clusters = _Clusters(boxes, conf, model)
    for k in which.tolist():
        near = stronger(k)
        if len(near):
            clusters.add(k, near, threshold[k])
    return clusters.home, clusters.mean, clusters.total / clusters.number


def one_of_each(n: int, i: Ints, j: Ints, overlap: Floats, model: Ints) -> Ints:
    """`(n,)` the first member of each detection's cluster, of which each has one detection of a
    model at most: in order each joins the cluster whose first member it overlaps most.

    Args:
        i, j: `(P,)` pairs that overlap enough, i < j.
        overlap: `(P,)` of each pair.
        model: `(n,)` of each detection.

    >>> pairs = np.array([0, 0]), np.array([1, 2])
    >>> one_of_each(3, *pairs, np.array([0.9, 0.6]), np.array([0, 1, 1])).tolist()
    [0, 0, 2]
    """
    home = np.arange(n)
    models = [{k} for k in model.tolist()]
    order = np.lexsort((i, -overlap, j))
    for first, k in rows(i[order], j[order]):
        both_free = home[k] == k and home[first] == first
        if both_free and models[first].isdisjoint(models[k]):
            home[k] = first
            models[first] |= models[k]
    return home


class _Clusters:
    """Clusters of boxes, each named by its first member. At first every box is one.

    Attributes:
        home: `(N,)` the cluster of each box.
        mean: `(N, 4)` the mean box of each cluster.
        total: `(N,)` the sum of its confidences.
        number: `(N,)` how many members it has.
        models: those of the members of each, where there may be one of each only.
    """

    def __init__(self, boxes: Floats, conf: Floats, model: Ints | None = None) -> None:
        self.boxes, self.conf = boxes, conf
        self.models: list[set[int]] | None = None
        if model is not None:
            self.models = [{k} for k in model.tolist()]
        self.home = np.arange(len(boxes))
        self.mean = boxes.copy()
        self.total = conf.copy()
        self.number = np.ones(len(boxes))

    def add(self, k: int, stronger: Ints | list[int], threshold: float) -> None:
        """Add box k to that cluster of stronger boxes whose mean it overlaps most, if that is more
        than the threshold.
        """
        clusters = self._open_to(k, _distinct(self.home[stronger], len(self.home)))
        if not len(clusters):
            return
        iou = of_boxes(self.mean[clusters], self.boxes[k][None])
        best = int(np.argmax(iou))
        if iou[best] <= threshold:
            return
        cluster = int(clusters[best])
        total = self.total[cluster] + self.conf[k]
        weight = 0.5
        if total > 0:
            weight = self.conf[k] / total
        offset = self.boxes[k] - self.mean[cluster]
        self.mean[cluster] += weight * offset
        self.total[cluster] = total
        self.number[cluster] += 1
        self.home[k] = cluster
        if self.models is not None:
            self.models[cluster] |= self.models[k]

    def _open_to(self, k: int, clusters: Ints) -> Ints:
        """The clusters that have no box of the model of box k."""
        models = self.models
        if models is None:
            return clusters
        return np.array([c for c in clusters.tolist() if models[c].isdisjoint(models[k])], np.int64)


def _distinct(values: Ints, n: int) -> Ints:
    """The different values among whole numbers below n, ascending."""
    if len(values) < n // MANY:
        return np.unique(values)
    occurs = np.zeros(n, bool)
    occurs[values] = True
    return np.flatnonzero(occurs)


def soft_nms(conf: Floats, i: Ints, j: Ints, iou: Floats, sigma: float = SIGMA) -> Floats:
    """`(N,)` confidences lowered for overlaps with stronger detections: exp(-IoU^2 / sigma) each.

    Source: Bodla et al., "Soft-NMS", 2017 (Gaussian).
    """
    partners = _Partners.of_pairs(len(conf), i, j, iou, sigma)
    result = conf.copy()
    done = np.zeros(len(conf), bool)
    queue = [(-float(conf[k]), k) for k in partners.which()]
    heapq.heapify(queue)
    while queue:
        negative, k = heapq.heappop(queue)
        if done[k] or -negative != result[k]:
            continue
        done[k] = True
        for other, factor in partners.of(k):
            if not done[other] and factor < 1:
                result[other] *= factor
                heapq.heappush(queue, (-float(result[other]), other))
    return result


class _Partners(NamedTuple):
    """The partners of detections, row by row.

    Attributes:
        partner: those of the first, then those of the second, ...
        factor: by which the confidence of each partner is multiplied.
        start: where each row begins, and the end of the last.
    """

    partner: Ints
    factor: Floats
    start: list[int]

    @classmethod
    def of_pairs(cls, n: int, i: Ints, j: Ints, iou: Floats, sigma: float) -> _Partners:
        both = np.concatenate([i, j])
        order = np.argsort(both, kind="stable")
        partner = np.concatenate([j, i])[order]
        overlap = np.concatenate([iou, iou])[order]
        factor = np.exp(-(overlap**2) / sigma)
        start = ragged.offsets(np.bincount(both, minlength=n))
        return cls(partner, factor, start.tolist())

    def which(self) -> list[int]:
        """The detections that have partners."""
        return list(np.flatnonzero(np.diff(self.start)).tolist())

    def of(self, k: int) -> Iterator[tuple[int, float]]:
        """The partners of detection k, and their factors."""
        row = slice(self.start[k], self.start[k + 1])
        return rows(self.partner[row], self.factor[row])


def softened(
    conf: Floats, overlaps: Callable[[int, Bools], tuple[Ints, Floats]], sigma: float = SIGMA
) -> Floats:
    """The same, asking row by row.

    Args:
        overlaps: the boxes that one overlaps among those that still wait, and their IoU.
    """
    result = conf.copy()
    waiting = np.ones(len(conf), bool)
    while True:
        left = np.where(waiting, result, 0.0)
        k = int(np.argmax(left))  # of equals the first
        if not left[k] > 0:
            return result  # nothing can be lowered further
        waiting[k] = False
        others, iou = overlaps(k, waiting)
        result[others] *= np.exp(-(iou**2) / sigma)
