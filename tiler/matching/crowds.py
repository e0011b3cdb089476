"""Crowds: spots with too many detections to hold all their pairs in memory. The results are the
same, found row by row.

A crowd of n has n² / 2 pairs. Competition by confidence needs few of them at once: the most
confident detections against all others, then the next of those that are left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.neighbours import collected, neighbours
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.matching import similarity
from tiler.matching.groups import components
from tiler.matching.overlaps import Sides
from tiler.matching.similarity import share
from tiler.matching.suppression import suppressors

if TYPE_CHECKING:
    from tiler.matching.similarity import Metric
    from tiler.types import Bools, Floats, Ints

IndexPairs = tuple["Ints", "Ints"]
TURNS = 8  # in which detections compete, and those of each turn in turns again
SOME = 1e-9  # of an overlap; less is rounding
SLACK = 1e-3  # of an overlap, for what GEOS rounds
MOST = 10_000_000_000  # comparisons of boxes; more would take an hour, so they are an error


def suppressed(
    n: int,
    among: Callable[[Ints], Iterator[IndexPairs]],
    between: Callable[[Ints, Ints], Iterator[IndexPairs]],
    few: int,
) -> Ints:
    """`(n,)` the suppressor of each detection in greedy NMS, as `suppressors` finds it, without all
    pairs at once.

    The most confident compete first. Those that are kept meet all the others, and what these leave
    may be few.

    Args:
        among: pairs of the detections at ascending indices whose overlap reaches the threshold,
            i < j.
        between: the same of detections i of the first indices with weaker ones j of the second.
        few: up to this number of detections, all pairs are held at once.
    """
    suppressor = np.arange(n)
    _Turns(suppressor, among, between, few).compete(np.arange(n))
    return suppressor


class _Turns:
    """Detections that compete in turns. `suppressor` is changed in place."""

    def __init__(
        self,
        suppressor: Ints,
        among: Callable[[Ints], Iterator[IndexPairs]],
        between: Callable[[Ints, Ints], Iterator[IndexPairs]],
        few: int,
    ) -> None:
        self.suppressor = suppressor
        self.among, self.between = among, between
        self.few = few

    def compete(self, detections: Ints) -> None:
        """Find the suppressors of some detections, which suppress each other only."""
        if len(detections) <= self.few:
            pairs = _numbered(self.among(detections), detections)
            suppressor = suppressors(len(detections), *pairs)
            self.suppressor[detections] = detections[suppressor]
            return
        turn = max(self.few, -(-len(detections) // TURNS))
        while len(detections):
            first, others = detections[:turn], detections[turn:]
            self.compete(first)
            kept = first[self.suppressor[first] == first]
            detections = self._survivors(kept, others)

    def _survivors(self, kept: Ints, others: Ints) -> Ints:
        """The others that no kept detection suppresses."""
        none = len(self.suppressor)
        strongest = np.full(none, none)
        for i, j in self.between(kept, others):
            np.minimum.at(strongest, j, i)
        is_suppressed = strongest[others] < none
        losers = others[is_suppressed]
        self.suppressor[losers] = strongest[losers]
        return others[~is_suppressed]


def _numbered(pairs: Iterator[IndexPairs], index: Ints) -> IndexPairs:
    """Pairs as positions in an ascending index, ordered."""
    i, j = collected(pairs)
    i = np.searchsorted(index, i)
    j = np.searchsorted(index, j)
    order = np.lexsort((j, i))
    return i[order], j[order]


def joined(
    boxes: Floats,
    kind: Ints,
    matching: Callable[[Ints, Ints], IndexPairs],
    reach: float = 0.0,
    step: int | None = None,
) -> Ints:
    """`(N,)` for each detection the lowest index that is connected to it by pairs, as `components`
    finds it, portion by portion.

    Args:
        boxes, kind, reach: pairs of one kind whose boxes meet may match.
        matching: which pairs match; asked only of pairs that nothing has joined so far.
        step: the number of pairs that are asked for at once, at most. Default: a portion.
    """
    n = len(boxes)
    label = np.arange(n)
    for met in neighbours(boxes, kind, reach, label):
        for i, j in _portions(*met, step):
            apart = label[i] != label[j]
            if apart.any():
                i, j = matching(i[apart], j[apart])
                connected = components(n, label[i], label[j])
                label[:] = connected[label]
    return label


def _portions(i: Ints, j: Ints, step: int | None) -> Iterator[IndexPairs]:
    """Pairs, at most `step` at a time."""
    if step is None:
        yield i, j
        return
    for start in range(0, len(i), step):
        rows = slice(start, start + step)
        yield i[rows], j[rows]


class _Overlaps(ABC):
    """Which detections of its kind each one overlaps, row by row."""

    def __init__(self, kind: Ints, metric: Metric) -> None:
        self.kind, self.metric = kind, metric
        self.order = np.arange(len(kind))  # those that are in the rows

    def keep(self, which: Bools) -> None:
        """Leave the others out of all rows from now on."""
        self._arrange(self.order[which[self.order]])

    @abstractmethod
    def _arrange(self, order: Ints) -> None:
        """Hold these detections, and leave out the others."""

    @abstractmethod
    def of(self, k: int) -> tuple[Ints, Floats]:
        """The others that detection k overlaps, in any order, and by how much."""

    def waiting(self, k: int, waits: Bools) -> tuple[Ints, Floats]:
        """Those of the others that still wait, and how much detection k overlaps each. What does
        not wait now must never wait again.
        """
        others, overlap = self.of(k)
        if 2 * np.count_nonzero(waits) < len(self.order):
            self.keep(waits)
        still = waits[others]
        return others[still], overlap[still]


class BoxOverlaps(_Overlaps):
    """Overlaps of boxes. The boxes of a kind are ordered by their left sides, so that those in
    reach of one follow each other.

    >>> boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4.0]])
    >>> rows = BoxOverlaps(boxes, np.zeros(3, int), "ios")
    >>> [values.tolist() for values in rows.of(1)]
    [[0, 2], [0.5, 0.5]]
    """

    def __init__(self, boxes: Floats, kind: Ints, metric: Metric) -> None:
        super().__init__(kind, metric)
        self.boxes, self.area = boxes, box.area(boxes)
        self._arrange(np.lexsort((boxes[:, 0], kind)))
        if int((self.end - self.begin).sum()) > MOST:
            raise TilerError(
                "tens of thousands of detections overlap on one spot; leave weak ones out with "
                "--conf"
            )

    def _arrange(self, order: Ints) -> None:
        self.order = order
        self.columns = [np.ascontiguousarray(side) for side in self.boxes[order].T]
        self.areas = self.area[order]
        self.begin, self.end = stretches(self.boxes, self.kind, order)

    def of(self, k: int) -> tuple[Ints, Floats]:
        near = slice(self.begin[k], self.end[k])
        common = self._common_area(k, near)
        area = np.asarray(self.area[k])
        overlap = share(common, area, self.areas[near], self.metric)
        hits = np.flatnonzero(overlap)
        others = self.order[near][hits]
        is_other = others != k
        return others[is_other], overlap[hits][is_other]

    def _common_area(self, k: int, near: slice) -> Floats:
        x0, y0, x1, y1 = (side[near] for side in self.columns)
        left, top, right, bottom = self.boxes[k].tolist()
        width = np.minimum(x1, right)
        width -= np.maximum(x0, left)
        height = np.minimum(y1, bottom)
        height -= np.maximum(y0, top)
        common = np.maximum(width, 0.0, out=width)
        common *= np.maximum(height, 0.0, out=height)
        return np.asarray(common)

    def stronger(self, k: int) -> Ints:
        """The stronger detections that box k overlaps."""
        others, _ = self.of(k)
        return others[others < k]


class ShapeOverlaps(_Overlaps):
    """Overlaps of outlines or OBBs, from the areas that their sides enclose together."""

    def __init__(self, rings: Rings, kind: Ints, metric: Metric) -> None:
        super().__init__(kind, metric)
        self.shapes = rings.geometry()
        self.area = shapely.area(self.shapes)
        self.place = np.zeros(len(kind), np.int64)
        self._arrange(self.order)

    def _arrange(self, order: Ints) -> None:
        self.order = order
        self.place[order] = np.arange(len(order))
        self.sides = Sides(self.shapes[order])

    def of(self, k: int) -> tuple[Ints, Floats]:
        common = self.sides.common(int(self.place[k]))
        overlap = share(common, self.area[self.order], self.area[k], self.metric)
        is_hit = overlap > SOME
        is_hit &= self.kind[self.order] == self.kind[k]
        is_hit &= self.order != k
        hits = np.flatnonzero(is_hit)
        return self.order[hits], overlap[hits]


def stretches(boxes: Floats, kind: Ints, order: Ints) -> tuple[Ints, Ints]:
    """For each box, where in `order` those of its kind begin and end that do not lie left or right
    of it. `order`: indices by kind, then left sides.
    """
    begin = np.zeros(len(boxes), np.int64)
    end = np.zeros(len(boxes), np.int64)
    starts = ragged.firsts(kind[order])
    for first, last in pairwise([*starts.tolist(), len(order)]):
        of_kind = order[first:last]
        left = boxes[of_kind, 0]
        right = boxes[of_kind, 2]
        widest = float((right - left).max()) * (1 + 1e-9)
        begin[of_kind] = first + np.searchsorted(left, left - widest, "left")
        end[of_kind] = first + np.searchsorted(left, right, "right")
    return begin, end


class Shapes:
    """Outlines or OBBs many of which overlap: what is known of each is computed once."""

    def __init__(self, rings: Rings) -> None:
        self.shapes = rings.geometry()
        self.area = shapely.area(self.shapes)
        self.boxes = rings.bounds()

    def overlap(self, i: Ints, j: Ints, metric: Metric) -> Floats:
        """`(P,)` IoU or IoS of pairs."""
        return similarity.of_shapes(self.shapes[i], self.shapes[j], metric)

    def may_reach(self, i: Ints, j: Ints, metric: Metric, threshold: Floats) -> Bools:
        """`(P,)` False for pairs whose boxes and areas already tell that they overlap less."""
        area, other_area = self.area[i], self.area[j]
        common = box.intersection(self.boxes[i], self.boxes[j])
        smaller = np.minimum(area, other_area)
        most_common = np.minimum(box.area(common), smaller)
        most = share(most_common, area, other_area, metric)
        return np.asarray(most >= threshold - SLACK)
