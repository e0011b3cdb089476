"""Spots on which so many detections lie that their pairs are not held in memory: the same results,
row by row.

A crowd of n has n² / 2 pairs. What competes by confidence needs few of them at once: the
strongest against all, then the strongest of those that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.neighbours import neighbours
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

Pairs = tuple["Ints", "Ints"]
TURNS = 8  # in which detections compete, and those of each turn in turns again
SOME = 1e-9  # of an overlap; less is rounding
SLACK = 1e-3  # of an overlap, for what GEOS rounds
MOST = 10_000_000_000  # comparisons of rows; then it is an error instead of an hour


def suppressed(
    n: int,
    among: Callable[[Ints], Iterator[Pairs]],
    between: Callable[[Ints, Ints], Iterator[Pairs]],
    few: int,
) -> Ints:
    """`(n,)` who suppresses each detection in greedy NMS, as `suppressors` finds it, without all
    pairs at once.

    The strongest compete first; those that are kept meet all the others, of whom few may be left.

    Args:
        among: pairs of detections at some ascending indices whose overlap reaches the threshold, i
            < j.
        between: the same of stronger and weaker ones, i of the first.
        few: so many at most have all their pairs at once.
    """
    by = np.arange(n)

    def compete(some: Ints) -> None:
        if len(some) <= few:
            by[some] = some[suppressors(len(some), *_numbered(among(some), some))]
            return
        turn = max(few, -(-len(some) // TURNS))
        while len(some):
            first, some = some[:turn], some[turn:]
            compete(first)
            lost = np.full(n, n)
            for i, j in between(first[by[first] == first], some):
                np.minimum.at(lost, j, i)
            gone = lost[some] < n
            by[some[gone]] = lost[some[gone]]
            some = some[~gone]

    compete(by.copy())
    return by


def _numbered(pairs: Iterator[Pairs], index: Ints) -> Pairs:
    """Pairs by their places in an ascending index, ordered."""
    none = np.empty(0, np.int64)
    i, j = (np.concatenate(column) for column in zip((none, none), *pairs, strict=True))
    i, j = np.searchsorted(index, i), np.searchsorted(index, j)
    order = np.lexsort((j, i))
    return i[order], j[order]


def joined(
    boxes: Floats,
    kind: Ints,
    alike: Callable[[Ints, Ints], Pairs],
    reach: float = 0.0,
    step: int | None = None,
) -> Ints:
    """`(N,)` for each detection the lowest index that pairs lead to, as `components` finds it,
    portion by portion.

    Args:
        boxes, kind, reach: pairs of one kind that meet may be alike.
        alike: those of some pairs that are; asked only of pairs that nothing has joined so far.
        step: so many pairs at most are asked for at once.
    """
    n = len(boxes)
    label = np.arange(n)
    for met in neighbours(boxes, kind, reach, label):
        for i, j in portions(*met, step):
            apart = label[i] != label[j]
            if apart.any():
                i, j = alike(i[apart], j[apart])
                label[:] = components(n, label[i], label[j])[label]
    return label


def portions(i: Ints, j: Ints, step: int | None) -> Iterator[Pairs]:
    """Pairs, so many at a time."""
    if step is None:
        yield i, j
        return
    for at in range(0, len(i), step):
        yield i[at : at + step], j[at : at + step]


class BoxOverlaps:
    """Which boxes of its kind one overlaps, and by how much: in one row, since a kind's boxes lie
    there by their left sides.

    >>> rows = BoxOverlaps(np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4.0]]), np.zeros(3, int), "ios")
    >>> [values.tolist() for values in rows.of(1)]
    [[0, 2], [0.5, 0.5]]
    """

    def __init__(self, boxes: Floats, kind: Ints, metric: Metric) -> None:
        self.metric, self.kind = metric, kind
        self.boxes, self.area = boxes, box.area(boxes)
        self._arrange(np.lexsort((boxes[:, 0], kind)))
        if int((self.end - self.begin).sum()) > MOST:
            raise TilerError(
                "tens of thousands of detections overlap on one spot; leave weak ones out with "
                "--conf"
            )

    def keep(self, which: Bools) -> None:
        """Leave the others out of all rows from now on."""
        self._arrange(self.order[which[self.order]])

    def _arrange(self, order: Ints) -> None:
        self.order = order
        self.columns = [np.ascontiguousarray(side) for side in self.boxes[order].T]
        self.areas = self.area[order]
        self.begin, self.end = stretches(self.boxes, self.kind, order)

    def of(self, k: int) -> tuple[Ints, Floats]:
        """The others that box k overlaps, in any order, and by how much."""
        part = slice(self.begin[k], self.end[k])
        x0, y0, x1, y1 = (side[part] for side in self.columns)
        left, top, right, bottom = self.boxes[k].tolist()
        wide, high = np.minimum(x1, right), np.minimum(y1, bottom)
        wide -= np.maximum(x0, left)
        high -= np.maximum(y0, top)
        common = np.maximum(wide, 0.0, out=wide)
        common *= np.maximum(high, 0.0, out=high)
        alike = share(common, np.asarray(self.area[k]), self.areas[part], self.metric)
        hits = np.flatnonzero(alike)
        others = self.order[part][hits]
        own = others != k
        return others[own], alike[hits][own]

    def stronger(self, k: int) -> Ints:
        """The stronger ones that box k overlaps."""
        others, _ = self.of(k)
        return others[others < k]

    def waiting(self, k: int, waits: Bools) -> tuple[Ints, Floats]:
        """Those that wait among the others, and how much box k overlaps each. It waits no longer,
        and never will again.
        """
        others, overlap = self.of(k)
        if 2 * np.count_nonzero(waits) < len(self.order):
            self.keep(waits)
        left = waits[others]
        return others[left], overlap[left]


class ShapeOverlaps:
    """The same of outlines or OBBs, from the areas that their sides enclose together."""

    def __init__(self, rings: Rings, kind: Ints, metric: Metric) -> None:
        self.shapes, self.kind, self.metric = rings.geometry(), kind, metric
        self.area = shapely.area(self.shapes)
        self._arrange(np.arange(len(kind)))

    def _arrange(self, index: Ints) -> None:
        self.index = index
        self.place = np.zeros(len(self.kind), np.int64)
        self.place[index] = np.arange(len(index))
        self.sides = Sides(self.shapes[index])

    def waiting(self, k: int, waits: Bools) -> tuple[Ints, Floats]:
        """Those that wait among the others, and how much shape k overlaps each. It waits no longer,
        and never will again.
        """
        common = self.sides.common(int(self.place[k]))
        alike = share(common, self.area[self.index], self.area[k], self.metric)
        hits = np.flatnonzero(
            (alike > SOME) & waits[self.index] & (self.kind[self.index] == self.kind[k])
        )
        others = self.index[hits]
        if 2 * np.count_nonzero(waits) < len(self.index):
            self._arrange(self.index[waits[self.index]])
        return others, alike[hits]


def stretches(boxes: Floats, kind: Ints, order: Ints) -> tuple[Ints, Ints]:
    """For each box where those of its kind begin and end that do not lie left or right of it."""
    begin, end = np.zeros((2, len(boxes)), np.int64)
    starts = ragged.firsts(kind[order])
    for first, last in pairwise([*starts.tolist(), len(order)]):
        own = order[first:last]
        left, right = boxes[own, 0], boxes[own, 2]
        widest = float((right - left).max())
        begin[own] = first + np.searchsorted(left, left - widest * (1 + 1e-9), "left")
        end[own] = first + np.searchsorted(left, right, "right")
    return begin, end


class Shapes:
    """Outlines or OBBs of which many overlap: what is known of each is computed once."""

    def __init__(self, rings: Rings) -> None:
        self.shapes = rings.geometry()
        self.area = shapely.area(self.shapes)
        self.boxes = rings.bounds()

    def alike(self, i: Ints, j: Ints, metric: Metric) -> Floats:
        """`(P,)` IoU or IoS of pairs."""
        return similarity.of_shapes(self.shapes[i], self.shapes[j], metric)

    def may(self, i: Ints, j: Ints, metric: Metric, threshold: Floats) -> Bools:
        """`(P,)` False for pairs whose boxes and areas already say that they overlap less."""
        common = box.area(box.intersection(self.boxes[i], self.boxes[j]))
        most = np.minimum(common, np.minimum(self.area[i], self.area[j]))
        return np.asarray(share(most, self.area[i], self.area[j], metric) >= threshold - SLACK)
