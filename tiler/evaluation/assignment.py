"""Which detection gets which label: the greedy matching of all evaluators, for all images at once.

Detections choose in the order of their confidence, each its best label that is still free. That is
the one stable matching when all labels prefer the more confident detection, so it may be found by
deferred acceptance (Gale and Shapley 1962): in each round every free detection asks its next best
label, and a label keeps the most confident that asked. A few rounds on arrays do what evaluators
loop over images, classes and thresholds for. In a crowd, where each detection has hundreds of
labels to ask, there would be as many rounds: there detections choose one after the other, for all
thresholds at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

CROWD = 64  # pairs a detection, from which on an image is a crowd
MANY = 256  # pairs of a detection, from which on they are put in order by themselves
FEW = 32  # labels of a detection that are looked at first


def assigned(found: Ints, label: Ints, labels: int, shared: Bools | None = None) -> Ints:
    """Which pairs are matched.

    Args:
        found: `(P,)` detection of each pair, ascending; the smaller number chooses first. The pairs
            of one detection stand in the order that it prefers.
        label: `(P,)` label of each pair.
        labels: the number of labels.
        shared: `(P,)` pairs with a label that any number of detections may take (a crowd).

    Returns:
        `(M,)` numbers of the matched pairs, ascending; each detection is in one at most.

    >>> assigned(np.array([0, 0, 1, 1]), np.array([5, 6, 5, 6]), labels=7).tolist()
    [0, 3]
    """
    count = len(found)
    asking = ragged.firsts(found)
    first = np.zeros(count, bool)
    first[asking] = True
    holder = np.full(labels, count, np.int64)  # the pair that each label keeps
    settled = []
    while len(asking):
        if shared is not None:
            free = shared[asking]
            settled.append(asking[free])
            asking = asking[~free]
        wanted = label[asking]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        now = holder[wanted]
        refused = asking[now != asking]
        displaced = np.unique(before[(before < count) & (before != now)])
        after = np.concatenate([refused, displaced]) + 1
        after = after[after < count]
        asking = np.sort(after[~first[after]])
    return np.sort(np.concatenate([*settled, holder[holder < count]]))


def bounds(found: Ints, detections: int) -> Ints:
    """`(D + 1,)` where the pairs of each detection begin, and the end of the last. `found`: of each
    pair, ascending.
    """
    return np.searchsorted(found, np.arange(detections + 1, dtype=found.dtype))


def crowds(begin: Ints, image: Ints) -> Bools:
    """`(D,)` the detections of images in which they have many pairs each.

    Args:
        begin: of `bounds`.
        image: `(D,)` of each detection.
    """
    if begin[-1] <= CROWD * CROWD:
        return np.zeros(len(image), bool)
    count = np.diff(begin)
    pairs, detections = np.bincount(image, count), np.bincount(image, count > 0)
    return np.asarray((pairs > CROWD * detections)[image] & (count > 0))


Row = tuple["Ints", "Floats", "Ints"]


def in_turn(
    rows: Iterable[Row],
    thresholds: Floats,
    labels: int,
    last: Bools | None = None,
    shared: Bools | None = None,
) -> list[tuple[Ints, Ints]]:
    """Which pairs are matched at each threshold, when detections choose one after the other: their
    numbers and labels.

    Args:
        rows: of each detection the labels that it may have, in the order that it prefers, their
            IoU, which falls, and the numbers of these pairs.
        labels: the number of labels.
        last: `(labels,)` those that a detection takes only if it gets no other.
        shared: `(labels,)` those that any number of detections may take.

    >>> both = np.array([0, 1])
    >>> rows = [(both, np.array([0.9, 0.8]), np.array([7, 8])), (both, np.array([0.7, 0.6]), np.array([4, 5]))]
    >>> [(pairs.tolist(), labels.tolist()) for pairs, labels in in_turn(rows, np.array([0.5, 0.65]), labels=2)]
    [([7, 5], [0, 1]), ([7], [0])]
    """
    first: list[Bools | None] = [None]
    if last is not None and last.any() and not last.all():
        first = [~last, last]
    free = np.ones((len(thresholds), labels), bool)
    taken: list[list[tuple[int, int]]] = [[] for _ in thresholds]
    for label, iou, number in rows:
        seeking = np.arange(len(thresholds))
        chosen = np.full(len(thresholds), -1)
        for own in first:
            seeking = _first_free(free, label, iou, thresholds, seeking, own, chosen)
        got = np.flatnonzero(chosen >= 0)
        now = label[chosen[got]]
        free[got, now] = False if shared is None else shared[now]
        for t, pair in zip(
            got.tolist(), zip(number[chosen[got]].tolist(), now.tolist(), strict=True), strict=True
        ):
            taken[t].append(pair)
    pairs = (np.array(some, np.int64).reshape(-1, 2) for some in taken)
    return [(some[:, 0], some[:, 1]) for some in pairs]


def _first_free(
    free: Bools,
    label: Ints,
    iou: Floats,
    thresholds: Floats,
    seeking: Ints,
    own: Bools | None,
    chosen: Ints,
) -> Ints:
    """Set the first of one detection's labels that is free at each threshold, and its `own`; which
    still seek one.
    """
    for begin, end in ((0, FEW), (FEW, len(label))):
        some = label[begin:end]
        if not len(seeking) or not len(some):
            break
        fits = free[seeking[:, None], some]
        fits &= iou[begin:end] >= thresholds[seeking, None]
        if own is not None:
            fits &= own[some]
        first = fits.argmax(axis=1)
        got = fits[np.arange(len(seeking)), first]
        chosen[seeking[got]] = begin + first[got]
        seeking = seeking[~got]
    return seeking


def preferred(found: Ints, label: Ints, iou: Floats, last: bool = False) -> Ints:
    """`(P,)` the order of pairs by detection, then falling IoU; of equals the first label comes
    first, or the last.

    >>> preferred(np.array([1, 0, 0]), np.array([0, 0, 1]), np.array([0.9, 0.5, 0.5]), last=True).tolist()
    [2, 1, 0]
    """
    order = np.argsort(found, kind="stable")
    if not len(order):
        return order
    count = np.bincount(found)
    several = (count > 1) & (count < MANY)
    if several.any():
        choice = np.flatnonzero(several[found[order]])  # most have but one
        some = order[choice]
        turned = -label[some] if last else label[some]
        order[choice] = some[np.lexsort((turned, -iou[some], found[some]))]
    ends = ragged.offsets(count)
    for d in np.flatnonzero(count >= MANY).tolist():
        own = order[ends[d] : ends[d + 1]]
        turned = -label[own] if last else label[own]
        order[ends[d] : ends[d + 1]] = own[falling(iou[own], turned)]
    return order


def falling(iou: Floats, label: Ints) -> Ints:
    """`(P,)` the order of one detection's pairs, by falling IoU, then label."""
    order = np.argsort(-iou)  # not stable, and twice as fast; few are equal, mostly
    values = iou[order]
    equal = values[1:] == values[:-1]
    if equal.any():
        tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
        own = order[tied]
        order[tied] = own[np.lexsort((label[own], -iou[own]))]
    return order
