"""Crowds of the Common-View Merge: pairs are joined in the same order, and few of them are known at
once.

Each detection has a short list of those after it (by index) that it is most like, and the
surest pair of all lists comes next. What a list has lost to other groups is not joined any
more; when nothing is left of it, the next of those that can still be joined follow. So of
n² pairs only those are put in order that may be joined.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.neighbours import met
from tiler.lazy import shapely
from tiler.matching import similarity
from tiler.matching.crowds import stretches
from tiler.matching.overlaps import Sides
from tiler.matching.view_pairs import SURE

if TYPE_CHECKING:
    from tiler.matching.groups import Joins
    from tiler.matching.view_pairs import ViewMatcher
    from tiler.types import Bools, Floats, Ints

LISTED = 16
WORD = 64
GROUPS = 8  # of shapes by their tiles, each a table of its own
EXACT = -1  # in place of a place: the key of this pair is known
ROUNDED = 1e-9  # of a likeness, at most

# pairs are joined in the order of these: the surest, then the most alike
Key = tuple[int, float, float, int, int]
# with which, alike, plain, sure, piece, exact
Judged = tuple["Ints", "Floats", "Floats", "Ints", "Bools", "Bools"]


def join(matcher: ViewMatcher, members: Ints, label: Ints, joins: Joins) -> None:
    """Join the detections of crowds in the order of their pairs.

    Args:
        members: `(M,)` indices, ascending.
        label: `(N,)` the crowd that each is of.
    """
    crowd = _Crowds(matcher, members, label)
    # the next pair of each list, whether it is a piece, whose it is, and at what place
    queue: list[tuple[Key, bool, int, int]] = []
    lists: dict[int, _List] = {}

    def push(one: int, place: int) -> None:
        """The next pair of a list that may be joined; at its end, where more may follow."""
        if crowd.whole(one):
            del lists[one]
            return
        own = lists[one]
        while place < len(own.keys) and not joins.may(one, own.keys[place][-1], own.piece[place]):
            place += 1
        if place < len(own.keys):
            heapq.heappush(queue, (own.keys[place], own.piece[place], one, place))
        elif own.more:
            heapq.heappush(queue, (own.keys[-1], False, one, place))
        else:
            del lists[one]

    for place, one in enumerate(members.tolist()):
        if 5 * (len(members) - place) < 4 * len(crowd.left):  # only later ones are listed
            crowd.arrange(members[place:])
        lists[one] = crowd.listed(one)
        push(one, 0)
    crowd.arrange(members)
    while queue:
        key, piece, one, place = heapq.heappop(queue)
        if place == EXACT:
            if joins.join(one, key[-1], piece, -key[0] < SURE):
                group = joins.home[one]
                crowd.joined(joins.members[group], len(joins.tiles(group)))
        elif place == len(lists[one].keys):
            lists[one] = lists[one] if crowd.whole(one) else crowd.listed(one, key)
            push(one, 0)
        else:
            if not crowd.whole(one) and joins.may(one, key[-1], piece):
                known = [(key, piece)] if lists[one].exact[place] else crowd.exact(one, key[-1])
                for exact, is_piece in known:
                    heapq.heappush(queue, (exact, is_piece, one, EXACT))
            push(one, place + 1)


@dataclass(frozen=True, slots=True)
class _List:
    """The surest pairs of one detection with later ones, in order.

    Attributes:
        exact: that is a pair's key; else it comes no earlier than its key says.
        more: there are more.
    """

    keys: list[Key]
    piece: list[bool]
    exact: list[bool]
    more: bool


class _Crowds:
    """The detections of crowds, and of what groups they are by now."""

    def __init__(self, matcher: ViewMatcher, members: Ints, label: Ints) -> None:
        self.matcher = matcher
        self.pieces = matcher.instances.task == "segment"  # of an outline, they may be of one tile
        n, tile = len(label), matcher.tile
        self.label, self.columns = label, [np.ascontiguousarray(side) for side in matcher.snapped.T]
        # the tiles of each crowd, numbered
        some, own = np.unique(
            np.stack([label[members], tile[members]]), axis=1, return_inverse=True
        )
        own = own.reshape(-1)  # numpy 2.0 gives it another shape
        first, last = (np.searchsorted(some[0], some[0], side)[own] for side in ("left", "right"))
        number = own - first
        most = int((last - first).max(initial=1))
        # the tiles of the group of each detection, bit by bit, in words
        self.tiles = np.zeros((-(-most // WORD), n), np.uint64)
        self.tiles[number // WORD, members] = np.uint64(1) << (number % WORD).astype(np.uint64)
        # how many tiles the crowd of each has, and how many of them its group lacks
        self.most = np.zeros(n, np.int64)
        self.most[members] = last - first
        self.lacks = self.most - 1
        self.shapes = None
        if matcher.deep is not None and matcher.instances.rings is not None:
            self.shapes = _CrowdShapes(matcher, members, number)
        self.arrange(members)

    def arrange(self, members: Ints) -> None:
        """Look for pairs of these alone from now on."""
        self.complete = 0
        self.left = members
        if self.shapes is not None:
            self.shapes.arrange(members)
        reach = self.matcher.reach * np.array([-1.0, -1.0, 1.0, 1.0])
        self.order = members[np.lexsort((self.matcher.snapped[members, 0], self.label[members]))]
        self.begin, self.end = stretches(self.matcher.snapped + reach, self.label, self.order)

    def joined(self, members: list[int], tiles: int) -> None:
        """These are one group now, of so many tiles."""
        self.tiles[:, members] = np.bitwise_or.reduce(self.tiles[:, members], axis=1, keepdims=True)
        self.lacks[members] = self.most[members[0]] - tiles
        if not self.lacks[members[0]]:
            self.complete += len(members)
            if 2 * self.complete > len(self.left) and not self.pieces:
                self.arrange(self.left[self.lacks[self.left] > 0])

    def whole(self, one: int) -> bool:
        """Whether its group has all tiles of its crowd, and can join none."""
        return not self.lacks[one] and not self.pieces

    def listed(self, one: int, after: Key | None = None) -> _List:
        """Its next pairs in order; what comes before a key is known."""
        others = self.order[self.begin[one] : self.end[one]]
        others = others[others > one]
        if not self.pieces:
            others = others[self._open(one, others)]
        deep = self._deep(one, others)
        if self.pieces:
            maybe = ~deep | self._open(one, others)
            others, deep = others[maybe], deep[maybe]
        j, alike, plain, sure, piece, exact = self._judged(one, others, deep)
        if after is not None:
            new = np.flatnonzero(_later(after, j, alike, plain, sure))
            j, alike, plain = j[new], alike[new], plain[new]
            sure, piece, exact = sure[new], piece[new], exact[new]
        first = _first(sure, alike)
        order = first[np.lexsort((j[first], -plain[first], -alike[first], -sure[first]))][:LISTED]
        more = len(order) < len(j)
        columns = (-sure[order], -alike[order], -plain[order], np.full(len(order), one), j[order])
        keys = list(zip(*(column.tolist() for column in columns), strict=True))
        return _List(keys, piece[order].tolist(), exact[order].tolist(), more)

    def exact(self, one: int, other: int) -> list[tuple[Key, bool]]:
        """The key of a pair of shapes, and whether it is a piece; nothing, if it cannot be joined."""
        assert self.shapes is not None
        alike = self.shapes.known_alike(one, other)
        if alike is not None:
            threshold = self.matcher.threshold
            enough = alike >= min(threshold[one], threshold[other])
            return [((-SURE, -alike, -alike, one, other), False)] if enough else []
        columns = self.matcher.judged(np.array([one]), np.array([other]))
        found = list(zip(*(column.tolist() for column in columns), strict=True))
        for _, _, alike, _, _, _ in found:
            self.shapes.learn(one, other, alike)
        return [((-sure, -alike, -plain, i, j), piece) for i, j, alike, plain, sure, piece in found]

    def _deep(self, one: int, others: Ints) -> Bools:
        """Which pairs lie deep in what both their tiles see."""
        deep, tile = self.matcher.deep, self.matcher.tile
        if deep is None:
            return np.zeros(len(others), bool)
        return np.asarray(deep[one, tile[others]] & deep[others, tile[one]])

    def _judged(self, one: int, others: Ints, deep: Bools) -> Judged:
        """Of the pairs with others those that may be the same object."""
        matcher = self.matcher
        if deep.all():
            return self._plain(one, others)
        i, more = np.full(len(others), one)[~deep], others[~deep]
        near = met(matcher.snapped, matcher.snapped, i, more, matcher.reach)
        columns = matcher.judged(i[near], more[near])[1:]
        known = (*columns, np.ones(len(columns[0]), bool))
        parts = zip(self._plain(one, others[deep]), known, strict=True)
        j, alike, plain, sure, piece, exact = (np.concatenate(columns) for columns in parts)
        return j, alike, plain, sure, piece, exact

    def _plain(self, one: int, others: Ints) -> Judged:
        """The same of those that lie deep in both views; of shapes as alike as they may be."""
        matcher, threshold = self.matcher, self.matcher.threshold
        if self.shapes is None:
            box, columns = matcher.snapped[one].tolist(), [side[others] for side in self.columns]
            alike, good = matcher.plain(box, columns, one, others)
            exact = np.ones(len(others), bool)
        else:
            alike, exact = self.shapes.alike(one, others)
            good = alike >= np.minimum(threshold[one], threshold[others])
        others, alike, exact = others[good], alike[good], exact[good]
        return others, alike, alike, np.full(len(others), SURE), np.zeros(len(others), bool), exact

    def _open(self, one: int, others: Ints) -> Bools:
        """Those whose groups have no tile in common with that of one."""
        result = np.ones(len(others), bool)
        for word, own in zip(self.tiles, self.tiles[:, one].tolist(), strict=True):
            if own:
                result &= (word[others] & np.uint64(own)) == 0
        return result


class _CrowdShapes:
    """The outlines or OBBs of crowds, and how alike they are: by their sides, but for rounding,
    until GEOS has said it.
    """

    def __init__(self, matcher: ViewMatcher, members: Ints, number: Ints) -> None:
        assert matcher.instances.rings is not None
        n = len(matcher.tile)
        self.tile = matcher.tile
        self.shapes = np.full(n, None, dtype=object)
        self.shapes[members] = matcher.instances.rings.take(members).geometry()
        self.area = shapely.area(self.shapes)
        self.equal, self.group, self.place = np.zeros((3, n), np.int64)
        # a number for shapes that are the same to the last bit
        _, self.equal[members] = np.unique(
            shapely.to_wkb(self.shapes[members]), return_inverse=True
        )
        self.group[members] = number % GROUPS
        self.sides: list[Sides] = []
        # of a shape in a tile: with which, and how alike
        self.known: dict[tuple[int, int], list[tuple[int, float]]] = {}

    def arrange(self, members: Ints) -> None:
        """Compare these alone from now on."""
        self.sides = []
        for number in range(GROUPS):
            own = members[self.group[members] == number]
            self.place[own] = np.arange(len(own))
            self.sides.append(Sides(self.shapes[own]))

    def alike(self, one: int, others: Ints) -> tuple[Floats, Bools]:
        """IoU with others, as much as it may be, and whether that is known."""
        alike = (
            similarity.share(self._common(one, others), self.area[others], self.area[one], "iou")
            + ROUNDED
        )
        exact = np.zeros(len(others), bool)
        # of many equal shapes all would be asked for, since nothing comes before the next of them
        for other, value in self.known.get(self._key(one), ()):
            equal = (self.equal[others] == self.equal[other]) & (
                self.tile[others] == self.tile[other]
            )
            alike[equal], exact[equal] = value, True
        return alike, exact

    def learn(self, one: int, other: int, alike: float) -> None:
        """Remember how alike two are."""
        self.known.setdefault(self._key(one), []).append((other, alike))

    def known_alike(self, one: int, other: int) -> float | None:
        """How alike they are, if it is known of two that equal them."""
        for known, alike in self.known.get(self._key(one), ()):
            if self.equal[known] == self.equal[other] and self.tile[known] == self.tile[other]:
                return alike
        return None

    def _key(self, one: int) -> tuple[int, int]:
        return int(self.equal[one]), int(self.tile[one])

    def _common(self, one: int, others: Ints) -> Floats:
        """px² that others share with one, tile by tile."""
        result, group = np.zeros(len(others)), self.group[others]
        for number in np.unique(group).tolist():
            of_tile = group == number
            common = self.sides[number].common(int(self.place[one]), self.sides[self.group[one]])
            result[of_tile] = common[self.place[others[of_tile]]]
        return result


def _first(sure: Ints, alike: Floats) -> Ints:
    """Where a few pairs stand before which no other comes."""
    if len(sure) <= LISTED:
        return np.arange(len(sure))
    surest = np.flatnonzero(sure == sure.max())
    if len(surest) <= LISTED:
        return surest
    values = alike[surest]
    return np.asarray(surest[values >= np.partition(values, -LISTED)[-LISTED]])


def _later(after: Key, j: Ints, alike: Floats, plain: Floats, sure: Ints) -> Bools:
    """Which pairs of one detection come after a key."""
    result = j > after[-1]
    for values, limit in ((plain, -after[2]), (alike, -after[1]), (sure, -after[0])):
        result = (values < limit) | ((values == limit) & result)
    return result
