"""Which detection gets which label: the greedy matching of all evaluators, for all images at once.

Detections choose by confidence, the highest first, each its best label that is still free. That is
the one stable matching when all labels prefer the more confident detection, so it can be found by
deferred acceptance (Gale and Shapley 1962): in each round every free detection asks its next best
label, and a label keeps the most confident that asked. A few rounds on arrays replace a loop over
images, classes and thresholds. In a crowd, where each detection has hundreds of labels to ask,
there would be as many rounds: there detections choose one after the other, for all thresholds at
once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

CROWD = 64  # pairs a detection in an image, above which it is a crowd
MANY = 256  # pairs of a detection, from which on they are sorted by themselves
FEW = 32  # labels of a detection that are looked at first


def assigned(detection: Ints, label: Ints, labels: int, shared: Bools | None = None) -> Ints:
    """Which pairs are matched.

    Args:
        detection: `(P,)` of each pair, ascending; the smaller number chooses first. The pairs of
            one detection are in its order of preference.
        label: `(P,)` of each pair.
        labels: the number of labels.
        shared: `(P,)` pairs with a label that any number of detections may take (a crowd).

    Returns:
        `(M,)` numbers of the matched pairs, ascending, at most one for each detection.

    >>> assigned(np.array([0, 0, 1, 1]), np.array([5, 6, 5, 6]), labels=7).tolist()
    [0, 3]
    """
    count = len(detection)
    asking = ragged.firsts(detection)
    is_first = np.zeros(count, bool)
    is_first[asking] = True
    holder = np.full(labels, count, np.int64)  # the pair that each label keeps
    settled = []
    while len(asking):
        if shared is not None:
            free = shared[asking]
            settled.append(asking[free])
            asking = asking[~free]
        following = _turned_away(asking, label, holder) + 1
        following = following[following < count]
        following = following[~is_first[following]]
        asking = np.sort(following)
    settled.append(holder[holder < count])
    return np.sort(np.concatenate(settled))


def uncontested(detection: Ints, label: Ints) -> Bools:
    """`(P,)` pairs with a label whose detections all have no other: whoever comes first gets it.

    Most pairs are such. They need no rounds.

    >>> uncontested(np.array([0, 1, 2, 2]), np.array([7, 7, 8, 9])).tolist()
    [True, True, False, False]
    """
    if not len(detection):
        return np.empty(0, bool)
    has_choice = np.bincount(detection)[detection] > 1
    contested = np.zeros(label.max() + 1, bool)
    contested[label[has_choice]] = True
    return np.asarray(~contested[label])


def firsts(label: Ints, iou: Floats, thresholds: Floats, labels: int) -> list[Ints]:
    """At each threshold the pairs that are the first of their label, ascending.

    Args:
        label: `(P,)` of each pair.
        labels: the number of labels.

    >>> iou = np.array([0.6, 0.7, 0.9])
    >>> pairs = firsts(np.array([3, 1, 3]), iou, np.array([0.5, 0.8]), labels=4)
    >>> [first.tolist() for first in pairs]
    [[0, 1], [2]]
    """
    result = []
    for threshold in thresholds:
        enough = np.flatnonzero(iou >= threshold)
        first = np.full(labels, len(label))
        first[label[enough[::-1]]] = enough[::-1]  # of several values the last one stays
        result.append(np.sort(first[first < len(label)]))
    return result


def _turned_away(asking: Ints, label: Ints, holder: Ints) -> Ints:
    """The pairs that do not get their label, or lose it, once each label keeps the first that asks.

    Args:
        asking: numbers of pairs.
        label: `(P,)` of each pair.
        holder: the pair that each label keeps, P for none; is updated.
    """
    wanted = label[asking]
    before = holder[wanted]
    np.minimum.at(holder, wanted, asking)
    after = holder[wanted]
    declined = asking[after != asking]
    is_displaced = (before < len(label)) & (before != after)
    displaced = np.unique(before[is_displaced])
    return np.concatenate([declined, displaced])


def bounds(detection: Ints, detections: int) -> Ints:
    """`(D + 1,)` where the pairs of each detection begin, and the end of the last.

    Args:
        detection: of each pair, ascending.

    >>> bounds(np.array([0, 0, 2]), 3).tolist()
    [0, 2, 2, 3]
    """
    if len(detection) > CROWD * detections:  # looking the ends up is quicker than counting all
        return np.searchsorted(detection, np.arange(detections + 1, dtype=detection.dtype))
    return ragged.offsets(np.bincount(detection, minlength=detections))


def pairs_of(begin: Ints, chosen: Bools) -> Ints:
    """The pairs of the chosen detections, ascending.

    Args:
        begin: of `bounds`.
        chosen: `(D,)`.

    >>> pairs_of(np.array([0, 2, 3, 5]), np.array([True, False, True])).tolist()
    [0, 1, 3, 4]
    """
    starts = begin[:-1]
    counts = np.diff(begin)
    return ragged.spans(starts[chosen], counts[chosen])


def crowds(begin: Ints, image: Ints) -> Bools:
    """`(D,)` the detections in crowds: in images where they have many pairs each.

    Args:
        begin: of `bounds`.
        image: `(D,)` of each detection.
    """
    if begin[-1] <= CROWD * CROWD:
        return np.zeros(len(image), bool)
    count = np.diff(begin)
    pairs = np.bincount(image, count)
    detections = np.bincount(image, count > 0)
    is_crowd = pairs > CROWD * detections
    return np.asarray(is_crowd[image] & (count > 0))


# The labels that a detection may have, in its order of preference; their IoU, which falls; and the
# numbers of these pairs
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
        rows: one for each detection.
        labels: the number of labels.
        last: `(labels,)` those that a detection takes only if no other is free.
        shared: `(labels,)` those that any number of detections may take.

    >>> both = np.array([0, 1])
    >>> first = (both, np.array([0.9, 0.8]), np.array([7, 8]))
    >>> second = (both, np.array([0.7, 0.6]), np.array([4, 5]))
    >>> matched = in_turn([first, second], np.array([0.5, 0.65]), labels=2)
    >>> [(pairs.tolist(), labels.tolist()) for pairs, labels in matched]
    [([7, 5], [0, 1]), ([7], [0])]
    """
    turns = _FreeLabels(thresholds, labels, last, shared)
    for row in rows:
        turns.take(row)
    return turns.matched()


class _FreeLabels:
    """The labels that are still free at each threshold, and what was matched so far."""

    def __init__(
        self, thresholds: Floats, labels: int, last: Bools | None, shared: Bools | None
    ) -> None:
        self.thresholds = thresholds
        self.shared = shared
        self.free = np.ones((len(thresholds), labels), bool)
        self.choices: list[Bools | None] = [None]  # what is looked for first, then next; None: all
        if last is not None and last.any() and not last.all():
            self.choices = [~last, last]
        self.pairs: list[list[tuple[int, int]]] = [[] for _ in thresholds]

    def take(self, row: Row) -> None:
        """Give a detection its best label at each threshold, if one is free."""
        label, iou, number = row
        chosen = self._first_free(label, iou)
        successful = np.flatnonzero(chosen >= 0)
        pair = chosen[successful]
        taken = label[pair]
        if self.shared is None:
            self.free[successful, taken] = False
        else:
            self.free[successful, taken] = self.shared[taken]
        matches = zip(number[pair].tolist(), taken.tolist(), strict=True)
        for t, match in zip(successful.tolist(), matches, strict=True):
            self.pairs[t].append(match)

    def matched(self) -> list[tuple[Ints, Ints]]:
        """At each threshold the pairs and their labels."""
        result = []
        for pairs in self.pairs:
            columns = np.array(pairs, np.int64).reshape(-1, 2)
            result.append((columns[:, 0], columns[:, 1]))
        return result

    def _first_free(self, label: Ints, iou: Floats) -> Ints:
        """`(T,)` which of a detection's labels is its best free one at each threshold; -1: none."""
        chosen = np.full(len(self.thresholds), -1)
        seeking = np.arange(len(self.thresholds))
        for choice in self.choices:
            for begin, end in ((0, FEW), (FEW, len(label))):
                part = label[begin:end]
                if not len(seeking) or not len(part):
                    break
                fits = self.free[seeking[:, None], part]
                fits &= iou[begin:end] >= self.thresholds[seeking, None]
                if choice is not None:
                    fits &= choice[part]
                first = fits.argmax(axis=1)
                successful = fits[np.arange(len(seeking)), first]
                chosen[seeking[successful]] = begin + first[successful]
                seeking = seeking[~successful]
        return chosen


def preferred(detection: Ints, label: Ints, iou: Floats, last: bool = False) -> Ints:
    """`(P,)` the order of pairs by detection, then falling IoU; of equals the first label comes
    first, or the last.

    >>> iou = np.array([0.9, 0.5, 0.5])
    >>> preferred(np.array([1, 0, 0]), np.array([0, 0, 1]), iou, last=True).tolist()
    [2, 1, 0]
    """
    order = np.argsort(detection, kind="stable")
    if not len(order):
        return order
    count = np.bincount(detection)
    several = (count > 1) & (count < MANY)
    if several.any():
        places = np.flatnonzero(several[detection[order]])  # most detections have but one pair
        pairs = order[places]
        ties = _ties(label[pairs], last)
        by_iou = np.lexsort((ties, -iou[pairs], detection[pairs]))
        order[places] = pairs[by_iou]
    ends = ragged.offsets(count)
    for d in np.flatnonzero(count >= MANY).tolist():
        own = slice(ends[d], ends[d + 1])
        pairs = order[own]
        ties = _ties(label[pairs], last)
        order[own] = pairs[falling(iou[pairs], ties)]
    return order


def _ties(label: Ints, last: bool) -> Ints:
    """What decides between pairs of equal IoU, the smallest first."""
    return -label if last else label


def falling(iou: Floats, label: Ints) -> Ints:
    """`(P,)` the order of one detection's pairs, by falling IoU, then label."""
    order = np.argsort(-iou)  # twice as fast as a stable sort, and few are equal, mostly
    values = iou[order]
    equal = values[1:] == values[:-1]
    if equal.any():
        is_tied = np.append(equal, False) | np.append(False, equal)
        tied = np.flatnonzero(is_tied)
        pairs = order[tied]
        by_label = np.lexsort((label[pairs], -iou[pairs]))
        order[tied] = pairs[by_label]
    return order
