"""Groups: detections joined by pairs, one group an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.columns import Columns, rows

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

# Whether two detections of one tile can be pieces of one object
PieceTest = Callable[[int, int], bool]


def components(n: int, i: Ints, j: Ints) -> Ints:
    """`(n,)` for each detection the lowest index that is connected to it by pairs.

    >>> components(5, np.array([0, 3]), np.array([2, 2])).tolist()
    [0, 1, 0, 0, 4]
    """
    label = np.arange(n)
    while len(i):
        low = np.minimum(label[i], label[j])
        np.minimum.at(label, label[i], low)
        np.minimum.at(label, label[j], low)
        label = followed(label)
        apart = label[i] != label[j]
        i, j = i[apart], j[apart]
    return label


def followed(pointer: Ints) -> Ints:
    """Pointers followed to their ends: to indices that point at themselves.

    >>> followed(np.array([0, 0, 1, 2])).tolist()
    [0, 0, 0, 0]
    """
    while True:
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            return pointer
        pointer = further


@dataclass(frozen=True, slots=True, eq=False)
class Pairs(Columns):
    """Pairs of detections that may be one object, in the order in which they are joined: the
    strongest evidence first. Columns are `(P,)`.

    Attributes:
        piece: one is a piece of the other, an outline that its tile cut off. They may join groups
            that have tiles in common, since a tile may show several pieces of a bent object.
        doubtful: they agree, but the view shows little of them; see `Extents`.
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


def one_a_tile(
    pairs: Pairs, tile: Ints, extents: Extents, piece_test: PieceTest | None = None
) -> Ints:
    """`(N,)` groups in which every tile has one detection at most.

    Pairs join groups in their order. A pair whose groups have a tile in common joins
    nothing, since a detector tells the objects of one tile apart itself: so crowds do not
    chain. Nor does a doubtful pair if one group reaches further than the other was seen to end.

    Args:
        tile: `(N,)` the tile of each detection.
        piece_test: whether two detections of one tile can be pieces of one object. Default: none
            can.

    >>> pairs = Pairs(np.array([1, 0]), np.array([2, 2]), np.zeros(2, bool), np.zeros(2, bool))
    >>> anything = Extents(np.zeros((3, 4)), np.zeros((3, 4)))
    >>> one_a_tile(pairs, np.array([0, 0, 1]), anything).tolist()
    [0, 1, 1]
    """
    label = components(len(tile), pairs.i, pairs.j)
    crowded = crowded_groups(label, tile)
    if not crowded.any():
        return label
    in_crowd = crowded[label]
    pairs = pairs.take(in_crowd[pairs.i])
    label[in_crowd] = np.flatnonzero(in_crowd)
    joins = Joins(tile, extents, piece_test)
    for one, other, piece, doubtful in rows(pairs.i, pairs.j, pairs.piece, pairs.doubtful):
        joins.join(one, other, piece, doubtful)
    joins.write(label)
    return label


def crowded_groups(label: Ints, tile: Ints) -> Bools:
    """`(N,)` True at the labels of groups with two detections of one tile."""
    n = len(label)
    joined = np.zeros(n, bool)  # at labels of groups of two or more
    joined[label[label != np.arange(n)]] = True
    members = np.flatnonzero(joined[label])
    order = np.lexsort((tile[members], label[members]))
    order = members[order]
    group = label[order]
    same_group = group[1:] == group[:-1]
    group_tile = tile[order]
    same_tile = group_tile[1:] == group_tile[:-1]
    crowded = np.zeros(n, bool)
    crowded[group[1:][same_group & same_tile]] = True
    return crowded


class Joins:
    """Groups that grow pair by pair.

    They only grow, so a pair that may not be joined now never will be.

    Attributes:
        home: the group of each detection that is in one, named by its lowest member.
        members: of each group.
    """

    def __init__(self, tile: Ints, extents: Extents, piece_test: PieceTest | None) -> None:
        self.tile, self.extents, self.piece_test = tile, extents, piece_test
        self.home: dict[int, int] = {}
        self.members: dict[int, list[int]] = {}
        self._tiles: dict[int, set[int]] = {}
        self._reach: dict[int, Floats] = {}
        self._end: dict[int, Floats] = {}

    def tiles(self, group: int) -> set[int]:
        """The tiles of a group."""
        return self._tiles.get(group) or {int(self.tile[group])}

    def may_join(self, one: int, other: int, piece: bool) -> bool:
        """Whether the groups of two detections differ, and have no tile in common or may be pieces
        of one object.
        """
        a = self.home.get(one, one)
        b = self.home.get(other, other)
        if a == b:
            return False
        return piece or self.tiles(a).isdisjoint(self.tiles(b))

    def join(self, one: int, other: int, piece: bool, doubtful: bool) -> bool:
        """Join the groups of two detections if they differ and are compatible; whether they were
        joined.
        """
        a = self.home.get(one, one)
        b = self.home.get(other, other)
        if a == b:
            return False
        apart = self.tiles(a).isdisjoint(self.tiles(b))
        if not apart and not (piece and self._are_pieces(a, b)):
            return False
        if doubtful and self._reaches_past_end(a, b):
            return False
        self._unite(min(a, b), max(a, b))
        return True

    def write(self, label: Ints) -> None:
        """Set the label of every detection that is in a group."""
        for member, group in self.home.items():
            label[member] = group

    def _extent(self, group: int) -> tuple[Floats, Floats]:
        """How far a group reaches, and the furthest that its object can reach."""
        reach = self._reach.get(group, self.extents.reach[group])
        end = self._end.get(group, self.extents.end[group])
        return reach, end

    def _reaches_past_end(self, a: int, b: int) -> bool:
        """Whether one of two groups reaches further than the other was seen to end."""
        reach, end = self._extent(a)
        other_reach, other_end = self._extent(b)
        return bool((reach > other_end).any() or (other_reach > end).any())

    def _unite(self, a: int, b: int) -> None:
        """Group b joins group a."""
        reach, end = self._extent(a)
        other_reach, other_end = self._extent(b)
        self._reach[a] = np.maximum(reach, other_reach)
        self._end[a] = np.minimum(end, other_end)
        self._tiles[a] = self.tiles(a) | self.tiles(b)
        self._tiles.pop(b, None)
        joining = self.members.pop(b, [b])
        self.members.setdefault(a, [a]).extend(joining)
        for member in (a, *joining):
            self.home[member] = a

    def _are_pieces(self, a: int, b: int) -> bool:
        """Whether all detections that two groups have of the same tiles can be pieces of one
        object.
        """
        if self.piece_test is None:
            return False
        for one in self.members.get(a, [a]):
            for other in self.members.get(b, [b]):
                if self.tile[one] == self.tile[other] and not self.piece_test(one, other):
                    return False
        return True
