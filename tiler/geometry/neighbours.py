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

from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

Found = TypeVar("Found", bound=tuple[Any, ...])

MOST = 40_000_000  # pairs that are held in memory at most
ROOM = 1_000_000  # of few boxes
ROOM_EACH = 40  # and so many for each box more
STEP = 2_000_000  # candidates held in memory at once
CROWD = 256  # partners of a box in one cell from which on the cell is compared in blocks
BLOCK = 2**16  # pairs of a block
COARSER = 6.0  # ratio of the cells of one grid to those of the next finer one
ROW = 2**22  # from a cell's key to that of the cell below
CELLS = 2**21  # at most, each way
GROUPS = 2**19  # numbers of groups that have room in a key beside the cell
LONG = 1_000_000  # candidates of one group from which the grid is the better way
SLACK = 1e-9  # of a side, for rounding
# boxes of a crowded group that are tried, and the part of a stretch that they meet in a crowd
SAMPLED, MOSTLY = 64, 1 / 8
FINEST = 1.0  # px; smaller boxes share the first grid


def neighbours(
    boxes: Floats, group: Ints | None = None, reach: float = 0.0, label: Ints | None = None
) -> Iterator[tuple[Ints, Ints]]:
    """Every two boxes of one group that meet, in portions, each pair once with i < j.

    Args:
        boxes: `(N, 4)` finite.
        group: `(N,)` only boxes of the same group are paired. Default: all are.
        reach: boxes no further apart than this on either axis meet; with 0 their common
            area must be > 0.
        label: `(N,)` read anew for each portion: pairs of one label may be left out.

    Yields:
        Indices i and j. The order is arbitrary, but the same for the same boxes.

    >>> pairs = list(neighbours(np.array([[0, 0, 4, 4], [3, 3, 9, 9], [8, 0, 9, 4.0]])))
    >>> [(i.tolist(), j.tolist()) for i, j in pairs]
    [([0, 1], [1, 2])]
    """
    for i, j in _joined(boxes, boxes, group, reach, True, label):
        yield np.minimum(i, j), np.maximum(i, j)


def held(found: Iterator[Found], most: int) -> list[Found] | None:
    """All of it, unless there are more pairs than these: None then, for many boxes on one spot.

    >>> held(iter([(np.arange(3),), (np.arange(4),)]), 7)
    [(array([0, 1, 2]),), (array([0, 1, 2, 3]),)]
    """
    total, kept = 0, []
    for columns in found:
        total += len(columns[0])
        if total > most:
            return None
        kept.append(columns)
    return kept


def room(boxes: int) -> int:
    """How many pairs of so many boxes are held in memory: large images have many without any crowd."""
    return min(MOST, ROOM + ROOM_EACH * boxes)


def meetings(boxes: Floats, others: Floats, reach: float = 0.0) -> Iterator[tuple[Ints, Ints]]:
    """Every box with every one of the others that it meets, as `neighbours` finds them.

    >>> list(meetings(np.array([[0, 0, 4, 4.0]]), np.array([[4, 0, 9, 9], [3, 3, 9, 9.0]])))
    [(array([0]), array([1]))]
    """
    yield from _joined(boxes, others, None, reach, False)


def alike(
    boxes: Floats, others: Floats, group: Ints, other_group: Ints, iou: float = 0.0
) -> Iterator[tuple[Ints, Ints]]:
    """Every box with the others of its group that it may overlap by so much, in portions; with 0,
    all that it meets.

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
    wide = boxes[here, 2] - boxes[here, 0]
    wide_others = others[there, 2] - others[there, 0]
    np.maximum.at(widest, dense, wide_others)
    order = np.lexsort((others[there, 0], dense))
    dense, there = dense[order], there[order]
    left = boxes[here, 0]
    # x of another begins no further left than an IoU allows, and no further right
    low = (
        left
        - (np.minimum(widest[at], wide * (1 / iou - 1)) if iou > 0 else widest[at])
        - SLACK * wide
    )
    high = left + wide * (1 - iou) + SLACK * wide
    origin = min(float(low.min()), float(others[there, 0].min()))
    span = max(float(high.max()), float(others[there, 0].max())) - origin + 1
    key = dense * span + (others[there, 0] - origin)
    near = span * 2.0**-40 * len(numbers)  # what the keys may have lost
    first = np.searchsorted(key, at * span + (low - origin) - near)
    count = np.searchsorted(key, at * span + (high - origin) + near, "right") - first
    total = np.bincount(at, count, minlength=len(numbers))
    crowded = (total > LONG) & (
        total > LONG / 1000 * (np.bincount(at, minlength=len(numbers)) + np.bincount(dense))
    )
    swept = ~crowded[at]
    yield from _swept(
        boxes, others, here[swept], there, first[swept], count[swept], group, other_group
    )
    for number in np.flatnonzero(crowded):
        one, other = here[at == number], there[dense == number]
        spans = first[at == number] - np.searchsorted(dense, number), count[at == number]
        if _mostly(boxes, others, one, other, spans):
            found = _in_blocks(boxes, others, one, other, spans)
        else:
            found = meetings(boxes[one], others[other])
        for i, j in found:
            yield one[i], other[j]


def _mostly(
    boxes: Floats, others: Floats, one: Ints, other: Ints, spans: tuple[Ints, Ints]
) -> bool:
    """Whether boxes meet a good part of others in their stretches, by a few of them."""
    some = np.linspace(0, len(one) - 1, min(len(one), SAMPLED)).astype(np.int64)
    first, count = spans[0][some], spans[1][some]
    i, j = np.repeat(one[some], count), other[ragged.spans(first, count)]
    return bool(met(boxes, others, i, j, 0.0).sum() > MOSTLY * len(i))


def _in_blocks(
    boxes: Floats, others: Floats, one: Ints, other: Ints, spans: tuple[Ints, Ints]
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes and others that meet, by their places, all of some boxes after the other, each with a
    stretch of others.
    """
    first, end = spans[0], spans[0] + spans[1]
    step = max(1, BLOCK // max(1, int(spans[1].max())))
    for at in range(0, len(one), step):
        rows = slice(at, at + step)
        low, high = int(first[rows].min()), int(end[rows].max())
        i, j = np.nonzero(_meet(boxes[one[rows]], others[other[low:high]], 0.0))
        if len(i):
            yield i + at, j + low


def _sized(boxes: Floats) -> Ints:
    return np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def _swept(
    boxes: Floats,
    others: Floats,
    here: Ints,
    there: Ints,
    first: Ints,
    count: Ints,
    group: Ints,
    other_group: Ints,
) -> Iterator[tuple[Ints, Ints]]:
    """Each box with `count` others from `first` on, as far as they meet."""
    for at, end in _portions(ragged.offsets(count)):
        i = np.repeat(here[at:end], count[at:end])
        j = there[ragged.spans(first[at:end], count[at:end])]
        met = np.minimum(boxes[i, 3], others[j, 3]) > np.maximum(boxes[i, 1], others[j, 1])
        i, j = i[met], j[met]
        met = (np.minimum(boxes[i, 2], others[j, 2]) > np.maximum(boxes[i, 0], others[j, 0])) & (
            group[i] == other_group[j]
        )
        yield i[met], j[met]


def _portions(total: Ints) -> Iterator[tuple[int, int]]:
    """Stretches of groups that have about `STEP` elements together, or are one group; `total` are
    offsets.
    """
    at, end = 0, len(total) - 1
    while at < end:
        then = max(at + 1, int(np.searchsorted(total, total[at] + STEP, "right")) - 1)
        yield at, then
        at = then


def _joined(
    boxes: Floats,
    others: Floats,
    group: Ints | None,
    reach: float,
    same: bool,
    label: Ints | None = None,
) -> Iterator[tuple[Ints, Ints]]:
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
        # the boxes of this grid and of finer ones ask it; of two sets, the coarse ones' grid is
        # asked as well
        asked = entries if same else grid.entered(boxes, coarse, group)
        yield from _matched(grid, boxes, others, asked, entries, same, label)
        yield from _matched(
            grid, boxes, others, grid.entered(boxes, finer, group), entries, False, label
        )
        if not same:
            small = grid.entered(others, np.flatnonzero(right < level), group)
            for j, i in _matched(
                grid, others, boxes, small, _sorted(grid.entered(boxes, coarse, group)), False
            ):
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

    def corners(self, boxes: Floats, index: Ints) -> Ints:
        """The keys of the cells in which boxes begin."""
        x, y = (self.cells(boxes[index, axis] - self.reach / 2, axis) for axis in (0, 1))
        return _key(x, y, None)

    def counts(self, boxes: Floats, others: Floats, i: Ints, j: Ints, key: Ints | int) -> Bools:
        """Whether a pair counts in a cell: one that shares several does in that with the corner
        where both begin.
        """
        x, y = (
            self.cells(np.maximum(boxes[i, axis], others[j, axis]) - self.reach / 2, axis)
            for axis in (0, 1)
        )
        return np.asarray(_key(x, y, None) == key)


def _sorted(entries: Entries) -> Entries:
    key, owner = entries
    order = np.argsort(key, kind="stable")
    return key[order], owner[order]


def _key(x: Ints, y: Ints, group: Ints | None) -> Ints:
    """One number for a cell of a group: 22 bits each way leave 19 for the group."""
    key = y * ROW + x
    return key if group is None else group * ROW**2 + key


def _matched(
    grid: _Grid,
    boxes: Floats,
    others: Floats,
    asked: Entries,
    entries: Entries,
    same: bool,
    label: Ints | None = None,
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes with the entered others of their cells that they meet. `same`: those that ask are the
    entries themselves.
    """
    keys, owners = entries
    wanted, asking = asked
    if not len(wanted) or not len(keys):
        return
    starts = ragged.firsts(keys)
    # of each one's cell
    ends = np.repeat(np.append(starts[1:], len(keys)), np.diff(np.append(starts, len(keys))))
    if same:
        first = np.arange(1, len(keys) + 1)
        count = ends - first
    else:
        first = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        there = keys[first] == wanted
        wanted, asking, first = wanted[there], asking[there], first[there]
        count = ends[first] - first
    crowded = count >= CROWD
    if crowded.any():
        asked = (wanted[crowded], asking[crowded])
        spans = (first[crowded], count[crowded])
        yield from _compared(grid, boxes, others, asked, owners, spans, label)
        few = ~crowded
        wanted, asking, first, count = wanted[few], asking[few], first[few], count[few]
    for at, end in _portions(ragged.offsets(count)):
        part = count[at:end]
        i = np.repeat(asking[at:end], part)
        j = owners[ragged.spans(first[at:end], part)]
        key = np.repeat(wanted[at:end], part)
        near = met(boxes, others, i, j, grid.reach)
        i, j, key = i[near], j[near], key[near]
        once = grid.counts(boxes, others, i, j, key % ROW**2)
        if once.any():
            yield i[once], j[once]


def _compared(
    grid: _Grid,
    boxes: Floats,
    others: Floats,
    asked: Entries,
    owners: Ints,
    spans: tuple[Ints, Ints],
    label: Ints | None,
) -> Iterator[tuple[Ints, Ints]]:
    """The same for crowded cells: in blocks, each box of a cell with a stretch of the others there.

    Args:
        spans: the first of its others of each that asks, and how many these are; those of one cell
            end in one place.
    """
    order = np.argsort(asked[0], kind="stable")
    (key, asking), (first, count) = (
        tuple(column[order] for column in columns) for columns in (asked, spans)
    )
    begin = ragged.firsts(key)
    for at, end in zip(begin.tolist(), [*begin[1:].tolist(), len(key)], strict=True):
        last = int(first[at] + count[at])
        step = max(1, BLOCK // int(count[at]))
        for low in range(at, end, step):
            rows = slice(low, min(low + step, end))
            start = int(first[low])
            i, j = asking[rows], owners[start:last]
            if (
                label is not None
                and (label[i] == label[i[0]]).all()
                and (label[j] == label[i[0]]).all()
            ):
                continue
            met = _meet(boxes[i], others[j], grid.reach)
            if first[rows][-1] > start:  # of two boxes of one cell, only one asks
                met &= np.arange(start, last) >= first[rows, None]
            row, column = np.nonzero(met)
            here = key[low] % ROW**2
            at_home = all(
                bool((grid.corners(b, k) == here).all()) for b, k in ((boxes, i), (others, j))
            )
            i, j = i[row], j[column]
            if not at_home:
                once = grid.counts(boxes, others, i, j, here)
                i, j = i[once], j[once]
            if len(i):
                yield i, j


def _meet(boxes: Floats, others: Floats, reach: float) -> Bools:
    """`(N, M)` which boxes meet which."""
    met = np.ones((len(boxes), len(others)), bool)
    for axis in (0, 1):
        gap = np.maximum(boxes[:, axis, None], others[:, axis])
        gap -= np.minimum(boxes[:, axis + 2, None], others[:, axis + 2])
        met &= (gap <= reach) if reach > 0 else (gap < 0)
    return met


def met(boxes: Floats, others: Floats, i: Ints, j: Ints, reach: float) -> Bools:
    met = np.ones(len(i), bool)
    for axis in (0, 1):
        gap = np.maximum(boxes[i, axis], others[j, axis]) - np.minimum(
            boxes[i, axis + 2], others[j, axis + 2]
        )
        met &= (gap <= reach) if reach > 0 else (gap < 0)
    return met


def collected(portions: Iterator[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """The pairs of all portions, as two arrays.

    >>> i, j = collected(neighbours(np.array([[0, 0, 4, 4], [3, 3, 9, 9.0]])))
    >>> i.tolist(), j.tolist()
    ([0], [1])
    """
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for i, j in portions:
        first.append(i)
        second.append(j)
    return np.concatenate(first), np.concatenate(second)
