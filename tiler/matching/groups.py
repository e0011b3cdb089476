"""Groups: detections joined by pairs, one group an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints


Apart = Callable[[int, int], bool]


def components(n: int, i: Ints, j: Ints) -> Ints:
    """`(n,)` for each detection the lowest index that pairs lead to.

    >>> components(5, np.array([0, 3]), np.array([2, 2])).tolist()
    [0, 1, 0, 0, 4]
    """
    label = np.arange(n)
    while len(i):
        low = np.minimum(label[i], label[j])
        np.minimum.at(label, label[i], low)
        np.minimum.at(label, label[j], low)
        while True:  # every label points at its own label
            further = label[label]
            if np.array_equal(further, label):
                break
            label = further
        open_ = label[i] != label[j]
        i, j = i[open_], j[open_]
    return label


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of detections that may be one object, the surest first. Columns are `(P,)`.

    Attributes:
        piece: of an outline and a piece of it that its tile cut off. They may join groups that
            have tiles in common, since of a bent object a tile may show several pieces.
        doubtful: they look alike, but little was to be seen; see `Extents`.
    """

    i: Ints
    j: Ints
    piece: Bools
    doubtful: Bools


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """How far detections reach to the left, top, right and bottom, outwards positive. Columns are
    `(N, 4)`.

    Attributes:
        reach: where each side is.
        end: the furthest that the object can reach there: where its side was seen, with
            some tolerance; infinite where the tile cuts it.
    """

    reach: Floats
    end: Floats


def one_a_tile(pairs: Pairs, tile: Ints, extents: Extents, apart: Apart | None = None) -> Ints:
    """`(N,)` groups in which every tile has one detection at most.

    Pairs join groups in their order. A pair whose groups have a tile in common joins
    nothing, since a detector tells the objects of one tile apart itself: so a crowd is no
    chain. Nor does a doubtful pair of which one group reaches where the other was seen to end.

    Args:
        tile: `(N,)` the tile of each detection.
        apart: whether two detections of one tile can be pieces of one object.

    >>> pairs = Pairs(np.array([1, 0]), np.array([2, 2]), np.zeros(2, bool), np.zeros(2, bool))
    >>> anything = Extents(np.zeros((3, 4)), np.zeros((3, 4)))
    >>> one_a_tile(pairs, np.array([0, 0, 1]), anything).tolist()
    [0, 1, 1]
    """
    label = components(len(tile), pairs.i, pairs.j)
    crowded = crowded_groups(label, tile)
    if not crowded.any():
        return label
    open_ = crowded[label[pairs.i]]
    loose = crowded[label]
    label[loose] = np.flatnonzero(loose)
    _join_in_order(
        label,
        Pairs(pairs.i[open_], pairs.j[open_], pairs.piece[open_], pairs.doubtful[open_]),
        tile,
        extents,
        apart,
    )
    return label


def crowded_groups(label: Ints, tile: Ints) -> Bools:
    """`(N,)` True at the labels of groups with two detections of one tile."""
    result = np.zeros(len(label), bool)
    result[label[label != np.arange(len(label))]] = True
    some = np.flatnonzero(result[label])  # in groups of two or more
    order = some[np.lexsort((tile[some], label[some]))]
    result[:] = False
    twice = (label[order][1:] == label[order][:-1]) & (tile[order][1:] == tile[order][:-1])
    result[label[order][1:][twice]] = True
    return result


def _join_in_order(
    label: Ints, pairs: Pairs, tile: Ints, extents: Extents, apart: Apart | None
) -> None:
    """Join groups pair by pair where nothing speaks against it; `label` is changed in place."""
    joins = Joins(tile, extents, apart)
    columns = (pairs.i.tolist(), pairs.j.tolist(), pairs.piece.tolist(), pairs.doubtful.tolist())
    for one, other, piece, doubtful in zip(*columns, strict=True):
        joins.join(one, other, piece, doubtful)
    for member, group in joins.home.items():
        label[member] = group


class Joins:
    """Groups that grow pair by pair. What speaks against a pair once always will: groups only get
    larger.

    Attributes:
        home: the group of each detection that is in one, named by its lowest member.
        members: of each group.
    """

    def __init__(self, tile: Ints, extents: Extents, apart: Apart | None) -> None:
        self.tile, self.extents, self.apart = tile, extents, apart
        self.home: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        self._tiles: dict[int, set[int]] = {}
        self._reach: dict[int, Floats] = {}
        self._end: dict[int, Floats] = {}

    def tiles(self, group: int) -> set[int]:
        """The tiles of a group."""
        return self._tiles.get(group) or {int(self.tile[group])}

    def may(self, one: int, other: int, piece: bool) -> bool:
        """Whether the groups of two detections differ, and have no tile in common or may be pieces
        of one object.
        """
        a, b = self.home.get(one, one), self.home.get(other, other)
        return a != b and (piece or self.tiles(a).isdisjoint(self.tiles(b)))

    def join(self, one: int, other: int, piece: bool, doubtful: bool) -> bool:
        """Join the groups of two detections, unless they are one already or something speaks
        against it.
        """
        a, b = self.home.get(one, one), self.home.get(other, other)
        if a == b:
            return False
        first, second = self.tiles(a), self.tiles(b)
        if not first.isdisjoint(second) and not (piece and self._pieces(a, b)):
            return False
        extents = self.extents
        reaches = [self._reach.get(k, extents.reach[k]) for k in (a, b)]
        ends = [self._end.get(k, extents.end[k]) for k in (a, b)]
        if doubtful and ((reaches[0] > ends[1]).any() or (reaches[1] > ends[0]).any()):
            return False
        a, b = min(a, b), max(a, b)
        self._reach[a], self._end[a] = np.maximum(*reaches), np.minimum(*ends)
        self._tiles[a] = first | second
        self._tiles.pop(b, None)
        self.members[a] = self.members.get(a, [a])
        joining = self.members.pop(b, [b])
        self.members[a] += joining
        for member in (a, *joining):
            self.home[member] = a
        return True

    def _pieces(self, a: int, b: int) -> bool:
        """Whether all that groups have of the same tiles can be pieces of one object."""
        if self.apart is None:
            return False
        both = (
            (m, t)
            for m in self.members.get(a, [a])
            for t in self.members.get(b, [b])
            if self.tile[m] == self.tile[t]
        )
        return all(self.apart(*two) for two in both)
