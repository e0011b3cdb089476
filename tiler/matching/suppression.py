"""Greedy competition by confidence: NMS, and what its losers become in NMM, WBF and soft-NMS."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler.matching.similarity import of_boxes

if TYPE_CHECKING:
    from tiler.matching.similarity import Metric
    from tiler.types import Bools, Floats, Ints

ROUNDS = 40  # then what is left is a long chain
MANY = 64  # a part of all, from which on marking them is quicker than sorting
SIGMA = 0.5


def suppressors(n: int, i: Ints, j: Ints) -> Ints:
    """`(n,)` who suppresses each detection in greedy NMS; itself if it is kept.

    The result of the sequential loop, in rounds: a detection is decided when all its
    stronger partners are. Of several that are kept, the strongest suppresses.

    Args:
        i, j: `(P,)` pairs whose overlap reaches the threshold, i < j (i is the stronger), ordered
            by i.

    >>> suppressors(3, np.array([0, 1]), np.array([1, 2])).tolist()
    [0, 0, 2]
    """
    kept, undecided = np.ones(n, bool), np.ones(n, bool)
    left, right = i, j
    for _ in range(ROUNDS):
        if not len(left):
            break
        contested = np.zeros(n, bool)
        contested[right] = True
        winner = undecided & ~contested
        kept[right[winner[left]]] = False
        undecided &= ~winner & kept
        open_ = undecided[left] & undecided[right]
        left, right = left[open_], right[open_]
    # a long chain: one after the other is quicker
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        if kept[one]:
            kept[other] = False
    by = np.arange(n)
    decisive = kept[i] & ~kept[j]
    by[~kept] = n
    np.minimum.at(by, j[decisive], i[decisive])
    return by


def grown(boxes: Floats, by: Ints, metric: Metric, threshold: Floats) -> Floats:
    """`(N, 4)` the boxes of winners grown to the union with their losers, one after the other.

    As in SAHI: a loser counts only if it still overlaps enough what the box has grown to.
    """
    result = boxes.copy()
    losers = np.flatnonzero(by != np.arange(len(by)))
    losers = losers[np.argsort(by[losers], kind="stable")]
    winner = by[losers]
    turn = np.arange(len(losers)) - np.searchsorted(winner, winner, "left")
    order = np.argsort(turn, kind="stable")
    winner = winner[order]
    losers = losers[order]
    begin = np.searchsorted(turn[order], np.arange(turn.max(initial=-1) + 2))
    for start, end in pairwise(begin.tolist()):
        one, other = winner[start:end], losers[start:end]
        fits = of_boxes(result[one], boxes[other], metric) >= threshold[one]
        one, other = one[fits], other[fits]
        result[one, :2] = np.minimum(result[one, :2], boxes[other, :2])
        result[one, 2:] = np.maximum(result[one, 2:], boxes[other, 2:])
    return result


def wbf(
    boxes: Floats, conf: Floats, i: Ints, j: Ints, threshold: Floats
) -> tuple[Ints, Floats, Floats]:
    """Weighted boxes fusion: clusters around their mean, as `ensemble_boxes` makes them.

    In order of confidence each box joins the cluster whose mean box it overlaps most (IoU
    above the threshold), else it starts one. A cluster's box is the mean weighted by
    confidence, its confidence the plain mean.

    Args:
        i, j: `(P,)` pairs that meet at all, i < j.

    Returns:
        The first member of each one's cluster `(N,)`, boxes and confidences, right at first
        members.

    Source: Solovyev et al., "Weighted boxes fusion", 2021; ensemble_boxes_wbf.py.
    """
    n = len(boxes)
    near: list[list[int]] = [[] for _ in range(n)]
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        near[b].append(a)
    return clustered(
        boxes, conf, lambda k: near[k], np.flatnonzero(np.bincount(j, minlength=n)), threshold
    )


def clustered(
    boxes: Floats,
    conf: Floats,
    near: Callable[[int], Ints | list[int]],
    which: Ints,
    threshold: Floats,
) -> tuple[Ints, Floats, Floats]:
    """The same, asking for the stronger boxes that each meets. `which`: those that meet any."""
    n = len(boxes)
    home = np.arange(n)
    mean, total, number = boxes.copy(), conf.copy(), np.ones(n)
    for k in which.tolist():
        stronger = near(k)
        if not len(stronger):
            continue
        clusters = _distinct(home[stronger], n)
        alike = of_boxes(mean[clusters], boxes[k][None])
        best = int(np.argmax(alike))
        if alike[best] <= threshold[k]:
            continue
        c = int(clusters[best])
        weight = conf[k] / (total[c] + conf[k]) if total[c] + conf[k] > 0 else 0.5
        mean[c] += weight * (boxes[k] - mean[c])
        total[c] += conf[k]
        number[c] += 1
        home[k] = c
    return home, mean, total / number


def _distinct(values: Ints, n: int) -> Ints:
    """The different ones of whole numbers below n, ascending."""
    if len(values) < n // MANY:
        return np.unique(values)
    there = np.zeros(n, bool)
    there[values] = True
    return np.flatnonzero(there)


def soft_nms(conf: Floats, i: Ints, j: Ints, iou: Floats, sigma: float = SIGMA) -> Floats:
    """`(N,)` confidences that overlap with stronger ones has lowered: exp(-IoU^2 / sigma) for each.

    Source: Bodla et al., "Soft-NMS", 2017 (Gaussian).
    """
    n = len(conf)
    order = np.argsort(np.concatenate([i, j]), kind="stable")
    others = np.concatenate([j, i])[order]
    weight = np.exp(-(np.concatenate([iou, iou])[order] ** 2) / sigma)
    start = np.concatenate([[0], np.cumsum(np.bincount(np.concatenate([i, j]), minlength=n))])
    result = conf.copy()
    done = np.zeros(n, bool)
    queue = [(-c, k) for k, c in enumerate(conf.tolist()) if start[k + 1] > start[k]]
    heapq.heapify(queue)
    while queue:
        c, k = heapq.heappop(queue)
        if done[k] or -c != result[k]:
            continue
        done[k] = True
        part = slice(int(start[k]), int(start[k + 1]))
        for other, factor in zip(others[part].tolist(), weight[part].tolist(), strict=True):
            if not done[other] and factor < 1:
                result[other] *= factor
                heapq.heappush(queue, (-float(result[other]), other))
    return result


def softened(
    conf: Floats, near: Callable[[int, Bools], tuple[Ints, Floats]], sigma: float = SIGMA
) -> Floats:
    """The same, asking row by row: for the boxes that one overlaps among those that are not done,
    and their IoU.
    """
    result = conf.copy()
    waiting = np.ones(len(conf), bool)
    while True:
        now = np.where(waiting, result, 0.0)
        k = int(np.argmax(now))  # of equals the first
        if not now[k] > 0:
            return result  # nothing can be lowered further
        waiting[k] = False
        others, iou = near(k, waiting)
        result[others] *= np.exp(-(iou**2) / sigma)
