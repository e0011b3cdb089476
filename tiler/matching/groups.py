"""Groups: detections joined by pairs, one group an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints


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
    """How far detections reach to the left, top, right and bottom, outwards positive. Columns are `(N, 4)`.

    Attributes:
        reach: where each side is.
        end: the furthest that the object can reach there: where its side was seen, with
            some tolerance; infinite where the tile cuts it.
    """

    reach: Floats
    end: Floats


def one_a_tile(pairs: Pairs, tile: Ints, extents: Extents, apart: Callable[[int, int], bool] | None = None) -> Ints:
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
    _join_in_order(label, Pairs(pairs.i[open_], pairs.j[open_], pairs.piece[open_], pairs.doubtful[open_]), tile, extents, apart)
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


def _join_in_order(label: Ints, pairs: Pairs, tile: Ints, extents: Extents, apart: Callable[[int, int], bool] | None) -> None:
    """Join groups pair by pair where nothing speaks against it; `label` is changed in place."""
    home: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    tiles: dict[int, set[int]] = {}
    reach: dict[int, Floats] = {}
    end: dict[int, Floats] = {}
    columns = (pairs.i.tolist(), pairs.j.tolist(), pairs.piece.tolist(), pairs.doubtful.tolist())
    for one, other, piece, doubtful in zip(*columns, strict=True):
        a, b = home.get(one, one), home.get(other, other)
        if a == b:
            continue
        first, second = tiles.get(a) or {int(tile[a])}, tiles.get(b) or {int(tile[b])}
        if not first.isdisjoint(second):
            if not piece or apart is None:
                continue
            groups = ((m, t) for m in members.get(a, [a]) for t in members.get(b, [b]) if tile[m] == tile[t])
            if not all(apart(*two) for two in groups):
                continue
        reaches, ends = [reach.get(k, extents.reach[k]) for k in (a, b)], [end.get(k, extents.end[k]) for k in (a, b)]
        if doubtful and ((reaches[0] > ends[1]).any() or (reaches[1] > ends[0]).any()):
            continue
        a, b = min(a, b), max(a, b)
        reach[a], end[a] = np.maximum(*reaches), np.minimum(*ends)
        tiles[a] = first | second
        members[a] = members.get(a, [a]) + members.pop(b, [b])
        tiles.pop(b, None)
        for member in members[a]:
            home[member] = a
    for member, group in home.items():
        label[member] = group
