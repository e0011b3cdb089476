"""Which boxes meet: one pair search for tiles, labels and detections, in bounded memory.

A grid hash in numpy: each box is entered into the cells that it covers, in a grid whose cells
are no smaller than the box, so into four at most. There is a grid for each level of size, with
cells six times as wide as those of the one before; a small box is also looked up in the grids of
the larger ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import few, ragged
from tiler.geometry.columns import Columns

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

Portion = TypeVar("Portion", bound=tuple[Any, ...])

MOST = 40_000_000  # pairs held in memory, at most
ROOM = 1_000_000  # pairs held in memory for few boxes
ROOM_EACH = 40  # pairs more for each box
STEP = 2_000_000  # candidates held in memory at once
CROWD = 256  # candidates of a box in one cell, from which on the cell is compared in blocks
BLOCK = 2**16  # pairs in a block
TABLE = 16  # places in a table for each number, at most
COARSER = 6.0  # ratio of the cells of one grid to those of the next finer one
ROW = 2**22  # from the key of a cell to that of the cell below
CELLS = 2**21  # at most, each way
GROUPS = 2**19  # group numbers that fit into a key beside the cell
LONG = 1_000_000  # candidates of one group from which on the grid is faster than the sweep
SLACK = 1e-9  # of a side, for rounding
SAMPLED = 64  # boxes of a long group that are tried,
MOSTLY = 1 / 8  # and the share of their candidates that they meet in a crowd
FINEST = 1.0  # px; smaller boxes share the first grid
SIDES = ((0, 2), (1, 3))  # of a box: left and right, top and bottom


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
    if not len(boxes):
        return
    if group is not None and int(group.max()) >= GROUPS:
        _, group = np.unique(group, return_inverse=True)
    levels = _levels(boxes, reach)
    for grid in _grids(boxes, levels, reach):
        own, finer = grid.own_and_finer(boxes, levels, group)
        own = own.in_order()
        for stretches in (own.among_themselves(), own.looked_up(finer)):
            for i, j in _compared(grid, boxes, boxes, stretches, own.box, label):
                yield np.minimum(i, j), np.maximum(i, j)


def meetings(boxes: Floats, others: Floats, reach: float = 0.0) -> Iterator[tuple[Ints, Ints]]:
    """Every box with every one of the others that it meets, as `neighbours` finds them.

    >>> list(meetings(np.array([[0, 0, 4, 4.0]]), np.array([[4, 0, 9, 9], [3, 3, 9, 9.0]])))
    [(array([0]), array([1]))]
    """
    if not len(boxes) or not len(others):
        return
    levels = _levels(boxes, reach)
    other_levels = _levels(others, reach)
    all_levels = np.concatenate([levels, other_levels])
    for grid in _grids(np.concatenate([boxes, others]), all_levels, reach):
        own, finer = grid.own_and_finer(boxes, levels)
        other_own, other_finer = grid.own_and_finer(others, other_levels)
        other_own = other_own.in_order()
        for asking in (own, finer):
            stretches = other_own.looked_up(asking)
            yield from _compared(grid, boxes, others, stretches, other_own.box)
        own = own.in_order()
        for j, i in _compared(grid, others, boxes, own.looked_up(other_finer), own.box):
            yield i, j


def alike(
    boxes: Floats, others: Floats, group: Ints, other_group: Ints, iou: float = 0.0
) -> Iterator[tuple[Ints, Ints]]:
    """Every box with the others of its group that may reach an IoU with it, in portions; with 0,
    all that it meets.

    A sweep: the others of a group in the order of their left sides, of which an IoU leaves a
    short stretch for each box. Groups in which that would be long go through the grid.

    Args:
        boxes: `(N, 4)`, others: `(M, 4)`, both finite; those without size meet none.
        group: `(N,)` and `(M,)` only boxes of the same group are paired.
        iou: pairs below it may be left out; the caller computes which are.

    Yields:
        Indices i of boxes, ascending but for those of long groups, and j of others.

    >>> boxes, others = np.array([[0, 0, 4, 4.0]]), np.array([[0, 0, 4, 3], [3, 0, 7, 4.0]])
    >>> pairs = alike(boxes, others, np.array([0]), np.array([0, 0]), iou=0.5)
    >>> [(i.tolist(), j.tolist()) for i, j in pairs]
    [([0], [0])]
    """
    asking, candidates = _members(boxes, others, group, other_group)
    if not len(asking.box):
        return
    left = others[candidates.box, 0]
    candidates = candidates.take(np.lexsort((left, candidates.group)))
    stretches = _stretches(boxes, others, asking, candidates, iou)
    long = _long_groups(stretches, candidates)
    short = stretches.take(~long[stretches.key])
    yield from _swept(boxes, others, short, candidates.box, group, other_group)
    for number in np.flatnonzero(long):
        of_group = stretches.take(stretches.key == number)
        if _crowd(boxes, others, of_group, candidates.box):
            yield from _in_blocks(boxes, others, of_group, candidates.box)
        else:
            members = candidates.box[candidates.group == number]
            yield from _met_members(boxes, others, of_group.box, members)


def _met_members(
    boxes: Floats, others: Floats, asking: Ints, members: Ints
) -> Iterator[tuple[Ints, Ints]]:
    """The boxes and the others at two indices that meet."""
    for i, j in meetings(boxes[asking], others[members]):
        yield asking[i], members[j]


def met(boxes: Floats, others: Floats, i: Ints, j: Ints, reach: float) -> Bools:
    """`(P,)` whether boxes i meet others j: as near as `reach` on both axes, or overlapping."""
    result = np.ones(len(i), bool)
    for low, high in SIDES:
        gap = np.maximum(boxes[i, low], others[j, low])
        gap -= np.minimum(boxes[i, high], others[j, high])
        result &= _near(gap, reach)
    return result


def held(found: Iterator[Portion], most: int) -> list[Portion] | None:
    """All portions, or None if they have more pairs than `most` together: many boxes on one spot.

    >>> held(iter([(np.arange(3),), (np.arange(4),)]), 7)
    [(array([0, 1, 2]),), (array([0, 1, 2, 3]),)]
    """
    total = 0
    portions = []
    for portion in found:
        total += len(portion[0])
        if total > most:
            return None
        portions.append(portion)
    return portions


def room(boxes: int) -> int:
    """How many pairs to hold in memory for this number of boxes.

    Large images have many pairs without any crowd.
    """
    return min(MOST, ROOM + ROOM_EACH * boxes)


@dataclass(frozen=True, slots=True, eq=False)
class _Stretches(Columns):
    """Boxes, each with a stretch of a list of candidates to compare it with.

    Attributes:
        box: `(K,)` the box.
        key: `(K,)` the cell, or the group, that it is looked up in.
        first: `(K,)` where its candidates begin in the list.
        count: `(K,)` how many candidates it has.
    """

    box: Ints
    key: Ints
    first: Ints
    count: Ints

    def part(self, start: int, end: int) -> _Stretches:
        """Those from `start` to `end`, without copying."""
        rows = slice(start, end)
        return _Stretches(self.box[rows], self.key[rows], self.first[rows], self.count[rows])

    def portions(self) -> Iterator[_Stretches]:
        """Parts with about `STEP` candidates together, or of one box."""
        for start, end in ragged.portions(self.count, STEP):
            yield self.part(start, end)

    def pairs(self, candidates: Ints) -> tuple[Ints, Ints]:
        """Each box with each of its candidates."""
        i = np.repeat(self.box, self.count)
        j = candidates[ragged.spans(self.first, self.count)]
        return i, j

    def whole_stretch(self) -> slice:
        """The stretch of the first box, which holds those of all in a block of the grid."""
        start = int(self.first[0])
        return slice(start, start + int(self.count[0]))

    def blocks(self) -> Iterator[_Stretches]:
        """Parts with about `BLOCK` pairs, each of one key; the keys must be in order."""
        firsts = ragged.firsts(self.key).tolist()
        for start, end in pairwise([*firsts, len(self.key)]):
            rows = max(1, BLOCK // int(self.count[start]))
            for at in range(start, end, rows):
                yield self.part(at, min(at + rows, end))


# The grid


@dataclass(frozen=True, slots=True, eq=False)
class _Entries(Columns):
    """Boxes entered into cells.

    Attributes:
        key: `(E,)` the number of the cell, with that of the group.
        box: `(E,)` the box that covers it.
    """

    key: Ints
    box: Ints

    def in_order(self) -> _Entries:
        """In the order of their cells."""
        return self.take(np.argsort(self.key, kind="stable"))

    def among_themselves(self) -> _Stretches:
        """Each of these entries with those after it in its cell."""
        first = np.arange(1, len(self.key) + 1)
        return _Stretches(self.box, self.key, first, self._cell_ends() - first)

    def looked_up(self, asking: _Entries) -> _Stretches:
        """Other entries with those of these, which are in order, that share their cells."""
        if not len(self.key) or not len(asking.key):
            none = np.empty(0, np.int64)
            return _Stretches(none, none, none, none)
        first = np.searchsorted(self.key, asking.key)
        first = np.minimum(first, len(self.key) - 1)
        shared = self.key[first] == asking.key
        first = first[shared]
        count = self._cell_ends()[first] - first
        return _Stretches(asking.box[shared], asking.key[shared], first, count)

    def _cell_ends(self) -> Ints:
        """`(E,)` where the cell of each entry ends."""
        firsts = ragged.firsts(self.key)
        edges = np.append(firsts, len(self.key))
        return np.repeat(edges[1:], np.diff(edges))


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Cells of one size. Boxes are taken half the reach larger.

    Attributes:
        level: each level is coarser than the one before.
        origin: `(2,)` x and y where the first cell begins.
        side: of a cell, px.
        reach: see `neighbours`.
    """

    level: int
    origin: Floats
    side: float
    reach: float

    def own_and_finer(
        self, boxes: Floats, levels: Ints, group: Ints | None = None
    ) -> tuple[_Entries, _Entries]:
        """The boxes of this level, and those of finer ones."""
        own = self.entered(boxes, np.flatnonzero(levels == self.level), group)
        finer = self.entered(boxes, np.flatnonzero(levels < self.level), group)
        return own, finer

    def entered(self, boxes: Floats, index: Ints, group: Ints | None) -> _Entries:
        """The cells that the boxes at `index` cover: at most four, as no box is larger than one."""
        half = self.reach / 2
        left = self.places(boxes[index, 0] - half, 0)
        top = self.places(boxes[index, 1] - half, 1)
        wide = self.places(boxes[index, 2] + half, 0) > left
        tall = self.places(boxes[index, 3] + half, 1) > top
        corner = _cell(left, top)
        if group is not None:
            corner = group[index] * ROW**2 + corner
        keys = [corner]
        covering = [index]
        for where, step in ((wide, 1), (tall, ROW), (wide & tall, ROW + 1)):
            keys.append(corner[where] + step)
            covering.append(index[where])
        return _Entries(np.concatenate(keys), np.concatenate(covering))

    def places(self, values: Floats, axis: int) -> Ints:
        """In which column (axis 0) or row (axis 1) of cells values lie."""
        return np.asarray((values - self.origin[axis]) / self.side, np.int64)

    def beginning(self, x: Floats, y: Floats) -> Ints:
        """The cells in which boxes begin that have these top left corners."""
        half = self.reach / 2
        return _cell(self.places(x - half, 0), self.places(y - half, 1))

    def all_begin_in(self, cell: int, boxes: Floats) -> bool:
        cells = self.beginning(boxes[:, 0], boxes[:, 1])
        return bool((cells == cell).all())

    def counts(self, boxes: Floats, others: Floats, i: Ints, j: Ints, cell: Ints | int) -> Bools:
        """Whether a pair counts in a cell: one that shares several does in that with the corner
        where both begin.
        """
        x = np.maximum(boxes[i, 0], others[j, 0])
        y = np.maximum(boxes[i, 1], others[j, 1])
        return np.asarray(self.beginning(x, y) == cell)


def _grids(boxes: Floats, levels: Ints, reach: float) -> Iterator[_Grid]:
    """The grid of each level that boxes are of, from fine to coarse."""
    origin = box.top_left(boxes).min(axis=0) - reach
    end = box.bottom_right(boxes).max(axis=0) + reach
    smallest = float((end - origin).max()) / CELLS
    for level in np.unique(levels).tolist():
        side = FINEST * COARSER ** float(level)
        yield _Grid(level, origin, max(side, smallest), reach)


def _levels(boxes: Floats, reach: float) -> Ints:
    """`(N,)` the finest grid whose cells are no smaller than the box."""
    side = few.largest(box.sides(boxes)) + reach
    ratio = np.maximum(side, FINEST) / FINEST
    level = np.log(ratio) / np.log(COARSER)
    return np.asarray(np.ceil(level - 1e-9), np.int64)


def _cell(x: Ints, y: Ints) -> Ints:
    """One number for a cell: 22 bits each way, which leaves 19 for the group."""
    return y * ROW + x


def _compared(
    grid: _Grid,
    boxes: Floats,
    others: Floats,
    stretches: _Stretches,
    candidates: Ints,
    label: Ints | None = None,
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes with those candidates among the others of their cells that they meet."""
    crowded = stretches.count >= CROWD
    if crowded.any():
        crowds = stretches.take(crowded)
        yield from _compared_in_blocks(grid, boxes, others, crowds, candidates, label)
        stretches = stretches.take(~crowded)
    for part in stretches.portions():
        i, j = part.pairs(candidates)
        key = np.repeat(part.key, part.count)
        near = met(boxes, others, i, j, grid.reach)
        i, j, key = i[near], j[near], key[near]
        once = grid.counts(boxes, others, i, j, key % ROW**2)
        if once.any():
            yield i[once], j[once]


def _compared_in_blocks(
    grid: _Grid,
    boxes: Floats,
    others: Floats,
    stretches: _Stretches,
    candidates: Ints,
    label: Ints | None,
) -> Iterator[tuple[Ints, Ints]]:
    """The same for crowded cells, in blocks: boxes of a cell with a stretch of the others there."""
    by_cell = stretches.take(np.argsort(stretches.key, kind="stable"))
    for block in by_cell.blocks():
        partners = candidates[block.whole_stretch()]
        if label is not None and _of_one_label(label, block.box, partners):
            continue
        i, j = _pairs_of_block(grid, boxes, others, block, partners)
        if len(i):
            yield i, j


def _pairs_of_block(
    grid: _Grid, boxes: Floats, others: Floats, block: _Stretches, partners: Ints
) -> tuple[Ints, Ints]:
    """Boxes of one cell with those of their partners that they meet, if the pair counts there."""
    box_here = boxes[block.box]
    other_here = others[partners]
    near = _all_met(box_here, other_here, grid.reach)
    skipped = block.first - block.first[0]
    if skipped[-1]:  # of two boxes of one cell, only one asks
        near &= np.arange(len(partners)) >= skipped[:, None]
    row, column = np.nonzero(near)
    i, j = block.box[row], partners[column]
    cell = int(block.key[0] % ROW**2)
    if grid.all_begin_in(cell, box_here) and grid.all_begin_in(cell, other_here):
        return i, j
    once = grid.counts(boxes, others, i, j, cell)
    return i[once], j[once]


def _of_one_label(label: Ints, boxes: Ints, partners: Ints) -> bool:
    """Whether boxes and partners all have the same label."""
    first = label[boxes[0]]
    if not (label[boxes] == first).all():
        return False
    return bool((label[partners] == first).all())


def _all_met(boxes: Floats, others: Floats, reach: float) -> Bools:
    """`(N, M)` whether each box meets each of the others, as `met` has it."""
    result = np.ones((len(boxes), len(others)), bool)
    for low, high in SIDES:
        gap = np.maximum(boxes[:, low, None], others[:, low])
        gap -= np.minimum(boxes[:, high, None], others[:, high])
        result &= _near(gap, reach)
    return result


def _near(gap: Floats, reach: float) -> Bools:
    """Whether a gap is within reach; without a reach boxes must overlap, not only touch."""
    if reach > 0:
        return gap <= reach
    return gap < 0


# The sweep


@dataclass(frozen=True, slots=True, eq=False)
class _Members(Columns):
    """Boxes with the numbers of their groups, counted from 0."""

    box: Ints
    group: Ints

    def groups(self) -> int:
        """How many groups there are; the boxes are in their order."""
        return int(self.group[-1]) + 1


def _members(
    boxes: Floats, others: Floats, group: Ints, other_group: Ints
) -> tuple[_Members, _Members]:
    """The boxes in whose group there are others, and those others; without boxes of no size."""
    sized = _sized(boxes)
    other_sized = _sized(others)
    groups, numbers = np.unique(other_group[other_sized], return_inverse=True)
    candidates = _Members(other_sized, numbers)
    if not len(groups):
        none = np.empty(0, np.int64)
        return _Members(none, none), candidates
    number = _numbers(groups, group[sized])
    return _Members(sized, number).take(number >= 0), candidates


def _numbers(groups: Ints, own: Ints) -> Ints:
    """`(N,)` the place of each number among `groups`, which rise; -1 for none."""
    low, high = int(groups[0]), int(groups[-1])
    if high - low < TABLE * (len(groups) + len(own)):
        table = np.full(high - low + 2, -1)
        table[groups - low] = np.arange(len(groups))
        # what lies outside takes the last value, -1
        outside = (own < low) | (own > high)
        return table[np.where(outside, -1, own - low)]
    number = np.searchsorted(groups, own)
    number = np.minimum(number, len(groups) - 1)
    return np.where(groups[number] == own, number, -1)


def _sized(boxes: Floats) -> Ints:
    """The indices of boxes whose area is not 0."""
    return np.flatnonzero(few.every(box.bottom_right(boxes) > box.top_left(boxes)))


def _stretches(
    boxes: Floats, others: Floats, asking: _Members, candidates: _Members, iou: float
) -> _Stretches:
    """Each box with the candidates of its group that begin where an IoU allows it.

    A key holds group and left side, so that one search answers for all groups.
    """
    low, high = _reachable(boxes, others, asking, candidates, iou)
    left = others[candidates.box, 0]
    origin = min(float(low.min()), float(left.min()))
    span = max(float(high.max()), float(left.max())) - origin + 1
    keys = candidates.group * span + (left - origin)
    base = asking.group * span
    rounding = span * 2.0**-40 * candidates.groups()  # what the keys may have lost
    first, end = np.empty((2, len(base)), np.int64)
    order = ragged.by_number(asking.group)  # what is looked up in turn lies close together
    first[order] = np.searchsorted(keys, (base + (low - origin) - rounding)[order])
    end[order] = np.searchsorted(keys, (base + (high - origin) + rounding)[order], "right")
    return _Stretches(asking.box, asking.group, first, end - first)


def _reachable(
    boxes: Floats, others: Floats, asking: _Members, candidates: _Members, iou: float
) -> tuple[Floats, Floats]:
    """`(K,)` the least and the largest left side of candidates that an IoU with each box allows."""
    other_width = others[candidates.box, 2] - others[candidates.box, 0]
    widest = np.zeros(candidates.groups())
    np.maximum.at(widest, candidates.group, other_width)
    left = boxes[asking.box, 0]
    width = boxes[asking.box, 2] - left
    before = widest[asking.group]
    if iou > 0:
        before = np.minimum(before, width * (1 / iou - 1))
    slack = SLACK * width
    low = left - before - slack
    high = left + width * (1 - iou) + slack
    return low, high


def _long_groups(stretches: _Stretches, candidates: _Members) -> Bools:
    """`(G,)` the groups with so long stretches that the sweep would be slow."""
    members = np.bincount(candidates.group)
    asking = np.bincount(stretches.key, minlength=len(members))
    total = np.bincount(stretches.key, stretches.count, minlength=len(members))
    slow = total > LONG / 1000 * (asking + members)
    return np.asarray((total > LONG) & slow)


def _swept(
    boxes: Floats,
    others: Floats,
    stretches: _Stretches,
    candidates: Ints,
    group: Ints,
    other_group: Ints,
) -> Iterator[tuple[Ints, Ints]]:
    """Each box with its candidates, as far as they meet; y first, which leaves the fewest."""
    for part in stretches.portions():
        i, j = part.pairs(candidates)
        near = _overlap_along(1, boxes, others, i, j)
        i, j = i[near], j[near]
        near = _overlap_along(0, boxes, others, i, j)
        near &= group[i] == other_group[j]
        yield i[near], j[near]


def _overlap_along(axis: int, boxes: Floats, others: Floats, i: Ints, j: Ints) -> Bools:
    """`(P,)` whether boxes i and others j overlap in x (axis 0) or in y."""
    low, high = SIDES[axis]
    end = np.minimum(boxes[i, high], others[j, high])
    start = np.maximum(boxes[i, low], others[j, low])
    return np.asarray(end > start)


def _crowd(boxes: Floats, others: Floats, stretches: _Stretches, candidates: Ints) -> bool:
    """Whether boxes meet a good part of their candidates, as a sample of them tells."""
    count = len(stretches.box)
    spread = np.linspace(0, count - 1, min(count, SAMPLED))
    i, j = stretches.take(spread.astype(np.int64)).pairs(candidates)
    near = met(boxes, others, i, j, 0.0)
    return bool(near.sum() > MOSTLY * len(i))


def _in_blocks(
    boxes: Floats, others: Floats, stretches: _Stretches, candidates: Ints
) -> Iterator[tuple[Ints, Ints]]:
    """Boxes with their candidates that they meet: a block of boxes with all their candidates."""
    step = max(1, BLOCK // max(1, int(stretches.count.max())))
    for start in range(0, len(stretches.box), step):
        block = stretches.part(start, start + step)
        low = int(block.first.min())
        high = int((block.first + block.count).max())
        partners = candidates[low:high]
        near = _all_met(boxes[block.box], others[partners], 0.0)
        row, column = np.nonzero(near)
        if len(row):
            yield block.box[row], partners[column]


def collected(portions: Iterable[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """The pairs of all portions, one after the other.

    >>> collected([])
    (array([], dtype=int64), array([], dtype=int64))
    >>> i, j = collected(neighbours(np.array([[0, 0, 4, 4], [3, 3, 9, 9.0]])))
    >>> i.tolist(), j.tolist()
    ([0], [1])
    """
    none = np.empty(0, np.int64)
    first, second = [none], [none]
    for i, j in portions:
        first.append(i)
        second.append(j)
    return np.concatenate(first), np.concatenate(second)
