"""Which boxes meet which: one pair search for tiles, labels and detections, in bounded steps.

A grid hash in numpy: each box is entered into the cells that it covers, in a grid of cells
no smaller than itself, so into four at most. Boxes of very unequal size have grids of
their own (the cells of one are six times those of the one before); a small box asks the
grids of the larger ones too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tiler import ragged
from tiler.errors import TilerError

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

Found = TypeVar("Found", bound=tuple[Any, ...])

MOST = 40_000_000  # pairs that are held in memory; `bounded` ends there
STEP = 2_000_000  # candidates held in memory at once
COARSER = 6.0  # ratio of the cells of one grid to those of the next finer one
ROW = 2**22  # from a cell's key to that of the cell below
CELLS = 2**21  # at most, each way
GROUPS = 2**19  # numbers of groups that have room in a key beside the cell
LONG = 1_000_000  # candidates of one group from which the grid is the better way
SLACK = 1e-9  # of a side, for rounding
FINEST = 1.0  # px; smaller boxes share the first grid


def neighbours(boxes: Floats, group: Ints | None = None, reach: float = 0.0) -> Iterator[tuple[Ints, Ints]]:
    """Every two boxes of one group that meet, in portions, each pair once with i < j.

    Args:
        boxes: `(N, 4)` finite.
        group: `(N,)` only boxes of the same group are paired. Default: all are.
        reach: boxes no further apart than this on either axis meet; with 0 their common
            area must be > 0.

    Yields:
        Indices i and j. The order is arbitrary, but the same for the same boxes.

    >>> pairs = list(neighbours(np.array([[0, 0, 4, 4], [3, 3, 9, 9], [8, 0, 9, 4.0]])))
    >>> [(i.tolist(), j.tolist()) for i, j in pairs]
    [([0, 1], [1, 2])]
    """
    for i, j in _joined(boxes, boxes, group, reach, same=True):
        yield np.minimum(i, j), np.maximum(i, j)


def bounded(found: Iterator[Found]) -> Iterator[Found]:
    """The same, as long as there are not more pairs than memory is good for.

    Raises:
        TilerError: there are: thousands of boxes on one spot.
    """
    total = 0
    for columns in found:
        total += len(columns[0])
        if total > MOST:
            raise TilerError(
                f"more than {MOST} pairs of detections overlap, thousands on one spot; leave weak ones out with --conf"
            )
        yield columns


def meetings(boxes: Floats, others: Floats, reach: float = 0.0) -> Iterator[tuple[Ints, Ints]]:
    """Every box with every one of the others that it meets, as `neighbours` finds them.

    >>> list(meetings(np.array([[0, 0, 4, 4.0]]), np.array([[4, 0, 9, 9], [3, 3, 9, 9.0]])))
    [(array([0]), array([1]))]
    """
    yield from _joined(boxes, others, None, reach, same=False)


def alike(boxes: Floats, others: Floats, group: Ints, other_group: Ints, iou: float = 0.0) -> Iterator[tuple[Ints, Ints]]:
    """Every box with the others of its group that it may overlap by so much, in portions; with 0, all that it meets.

    A sweep: the others of a group in the order of their left sides, of which an IoU leaves a
    short stretch for each box. Groups in which that would be long go through the grid.

    Args:
        boxes: `(N, 4)`, others: `(M, 4)`, both finite; those without size meet none.
        group: `(N,)` and `(M,)` only boxes of the same group are paired.
        iou: pairs of less may be left out; that they have as much is for the caller to see.

    Yields:
        Indices i of boxes, ascending but for those of long groups, and j of others.

    >>> pairs = alike(np.array([[0, 0, 4, 4.0]]), np.array([[0, 0, 4, 3], [3, 0, 7, 4.0]]), np.array([0]), np.array([0, 0]), 0.5)
    >>> [(i.tolist(), j.tolist()) for i, j in pairs]
    [([0], [0])]
    """
    here, there = _sized(boxes), _sized(others)
    if not len(here) or not len(there):
        return
    numbers, dense = np.unique(other_group[there], return_inverse=True)
    at = np.minimum(np.searchsorted(numbers, group[here]), len(numbers) - 1)
    known = numbers[at] == group[here]
    here, at = here[known], at[known]
    if not len(here):
        return
    widest = np.zeros(len(numbers))
    wide, wide_others = boxes[here, 2] - boxes[here, 0], others[there, 2] - others[there, 0]
    np.maximum.at(widest, dense, wide_others)
    order = np.lexsort((others[there, 0], dense))
    dense, there = dense[order], there[order]
    left = boxes[here, 0]
    # x of another begins no further left than an IoU allows, and no further right
    low = left - (np.minimum(widest[at], wide * (1 / iou - 1)) if iou > 0 else widest[at]) - SLACK * wide
    high = left + wide * (1 - iou) + SLACK * wide
    origin = min(float(low.min()), float(others[there, 0].min()))
    span = max(float(high.max()), float(others[there, 0].max())) - origin + 1
    key = dense * span + (others[there, 0] - origin)
    near = span * 2.0**-40 * len(numbers)  # what the keys may have lost
    first = np.searchsorted(key, at * span + (low - origin) - near)
    count = np.searchsorted(key, at * span + (high - origin) + near, "right") - first
    total = np.bincount(at, count, minlength=len(numbers))
    crowded = (total > LONG) & (total > LONG / 1000 * (np.bincount(at, minlength=len(numbers)) + np.bincount(dense)))
    swept = ~crowded[at]
    yield from _swept(boxes, others, here[swept], there, first[swept], count[swept], group, other_group)
    for number in np.flatnonzero(crowded):
        one, other = here[at == number], there[dense == number]
        for i, j in meetings(boxes[one], others[other]):
            yield one[i], other[j]


def _sized(boxes: Floats) -> Ints:
    return np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def _swept(
    boxes: Floats, others: Floats, here: Ints, there: Ints, first: Ints, count: Ints, group: Ints, other_group: Ints
) -> Iterator[tuple[Ints, Ints]]:
    """Each box with `count` others from `first` on, as far as they meet."""
    for at, end in _portions(ragged.offsets(count)):
        i = np.repeat(here[at:end], count[at:end])
        j = there[ragged.spans(first[at:end], count[at:end])]
        met = np.minimum(boxes[i, 3], others[j, 3]) > np.maximum(boxes[i, 1], others[j, 1])
        i, j = i[met], j[met]
        met = (np.minimum(boxes[i, 2], others[j, 2]) > np.maximum(boxes[i, 0], others[j, 0])) & (group[i] == other_group[j])
        yield i[met], j[met]


def _portions(total: Ints) -> Iterator[tuple[int, int]]:
    """Stretches of groups that have about `STEP` elements together, or are one group; `total` are offsets."""
    at, end = 0, len(total) - 1
    while at < end:
        then = max(at + 1, int(np.searchsorted(total, total[at] + STEP, "right")) - 1)
        yield at, then
        at = then


def _joined(boxes: Floats, others: Floats, group: Ints | None, reach: float, same: bool) -> Iterator[tuple[Ints, Ints]]:
    if not len(boxes) or not len(others):
        return
    if group is not None and int(group.max()) >= GROUPS:
        _, group = np.unique(group, return_inverse=True)
    origin = np.minimum(boxes[:, :2].min(axis=0), others[:, :2].min(axis=0)) - reach
    ends = np.maximum(boxes[:, 2:].max(axis=0), others[:, 2:].max(axis=0)) + reach
    span = float((ends - origin).max())
    left = _levels(boxes, reach)
    right = left if same else _levels(others, reach)
    for level in sorted({*left.tolist(), *right.tolist()}):
        grid = _Grid(origin, max(FINEST * COARSER ** float(level), span / CELLS), reach)
        here, coarse = np.flatnonzero(right == level), np.flatnonzero(left == level)
        finer = np.flatnonzero(left < level)
        entries = _sorted(grid.entered(others, here, group))
        # the boxes of this grid and of finer ones ask it; of two sets, the coarse ones' grid is asked as well
        asked = entries if same else grid.entered(boxes, coarse, group)
        yield from _matched(grid, boxes, others, asked, entries, same)
        yield from _matched(grid, boxes, others, grid.entered(boxes, finer, group), entries, False)
        if not same:
            small = grid.entered(others, np.flatnonzero(right < level), group)
            for j, i in _matched(grid, others, boxes, small, _sorted(grid.entered(boxes, coarse, group)), False):
                yield i, j


def _levels(boxes: Floats, reach: float) -> Ints:
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) + reach
    coarse = np.log(np.maximum(sides, FINEST) / FINEST) / np.log(COARSER)
    return np.asarray(np.ceil(coarse - 1e-9), np.int64)


Entries = tuple["Ints", "Ints"]  # keys, and the box of each


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Cells of one size. Boxes are taken half the reach larger."""

    origin: Floats
    cell: float
    reach: float

    def cells(self, values: Floats, axis: int) -> Ints:
        """In which column (axis 0) or row of cells values lie."""
        return np.asarray((values - self.origin[axis]) / self.cell, np.int64)

    def entered(self, boxes: Floats, index: Ints, group: Ints | None) -> Entries:
        """The cells that the boxes at `index` cover, and which box covers each."""
        half = self.reach / 2
        x0, y0 = (self.cells(boxes[index, axis] - half, axis) for axis in (0, 1))
        x1, y1 = (self.cells(boxes[index, axis + 2] + half, axis) for axis in (0, 1))
        first = _key(x0, y0, None if group is None else group[index])
        wide, tall = x1 > x0, y1 > y0
        keys, owners = [first], [index]
        for there, step in ((wide, 1), (tall, ROW), (wide & tall, ROW + 1)):
            keys.append(first[there] + step)
            owners.append(index[there])
        return np.concatenate(keys), np.concatenate(owners)


def _sorted(entries: Entries) -> Entries:
    key, owner = entries
    order = np.argsort(key, kind="stable")
    return key[order], owner[order]


def _key(x: Ints, y: Ints, group: Ints | None) -> Ints:
    """One number for a cell of a group: 22 bits each way leave 19 for the group."""
    key = y * ROW + x
    return key if group is None else group * ROW**2 + key


def _matched(
    grid: _Grid, boxes: Floats, others: Floats, asked: Entries, entries: Entries, same: bool
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes with the entered others of their cells that they meet. `same`: those that ask are the entries themselves."""
    keys, owners = entries
    wanted, asking = asked
    if not len(wanted) or not len(keys):
        return
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = np.repeat(np.append(starts[1:], len(keys)), np.diff(np.append(starts, len(keys))))  # of each one's cell
    if same:
        first = np.arange(1, len(keys) + 1)
        count = ends - first
    else:
        first = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = keys[first] == wanted
        wanted, asking, first = wanted[there], asking[there], first[there]
        count = ends[first] - first
    for at, end in _portions(ragged.offsets(count)):
        part = count[at:end]
        i = np.repeat(asking[at:end], part)
        j = owners[ragged.spans(first[at:end], part)]
        key = np.repeat(wanted[at:end], part)
        met = _met(boxes, others, i, j, grid.reach)
        i, j, key = i[met], j[met], key[met]
        # a pair that shares several cells counts in the one with the corner where both begin
        x, y = (grid.cells(np.maximum(boxes[i, axis], others[j, axis]) - grid.reach / 2, axis) for axis in (0, 1))
        once = _key(x, y, None) == key % ROW**2
        if once.any():
            yield i[once], j[once]


def _met(boxes: Floats, others: Floats, i: Ints, j: Ints, reach: float) -> Bools:
    met = np.ones(len(i), bool)
    for axis in (0, 1):
        gap = np.maximum(boxes[i, axis], others[j, axis]) - np.minimum(boxes[i, axis + 2], others[j, axis + 2])
        met &= (gap <= reach) if reach > 0 else (gap < 0)
    return met
