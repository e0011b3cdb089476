"""Crowds of the Common-View Merge: pairs are joined in the same order, without a list of them all.

Each detection has a short list of the later ones (by index) that match it best, and the
strongest pair of all lists is joined next. Pairs that may not be joined any more are
skipped; at the end of a list, the next of those that still may be are looked up. So of
n² pairs only those that may be joined are put in order.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from tiler.geometry.columns import rows
from tiler.geometry.neighbours import met
from tiler.lazy import shapely
from tiler.matching import similarity
from tiler.matching.crowds import stretches
from tiler.matching.overlaps import Sides
from tiler.matching.view_pairs import CLEAR

if TYPE_CHECKING:
    from tiler.matching.groups import Joins
    from tiler.matching.view_matcher import ViewMatcher
    from tiler.types import Bools, Floats, Ints

LISTED = 16  # pairs of a short list
WORD = 64  # bits
TABLES = 8  # of shapes, which their tiles share out
EXACT = -1  # in place of a position: the key of this pair is exact
ROUNDED = 1e-9  # an IoU from the sides of shapes is off by less

# Where a pair stands in the order of joining: evidence, agreement, tie-break, and both detections.
# The first three are negative, so that the strongest pair has the lowest key.
Key = tuple[int, float, float, int, int]
EVIDENCE: Final = 0
OTHER: Final = 4

# The next pair of a short list: its key, whether it is a piece, whose list, and at what position.
# (Plain tuples: the garbage collector leaves them alone.)
Queued = tuple[Key, bool, int, int]


class _Shortlist(NamedTuple):
    """The strongest pairs of one detection with later ones, in order.

    Attributes:
        exact: whether a pair's key is exact; otherwise the pair comes no earlier than its key.
        more: other pairs follow these.
    """

    keys: list[Key]
    piece: list[bool]
    exact: list[bool]
    more: bool

    def pair(self, one: int, place: int) -> Queued:
        return self.keys[place], self.piece[place], one, place

    def end(self, one: int) -> Queued:
        """Where more pairs may follow the last one."""
        return self.keys[-1], False, one, len(self.keys)


def join(matcher: ViewMatcher, members: Ints, label: Ints, joins: Joins) -> None:
    """Join the detections of crowds in the order of their pairs.

    Args:
        members: `(M,)` indices of the detections in crowds, ascending.
        label: `(N,)` the crowd of each.
    """
    queue = _JoinQueue(_Crowds(matcher, members, label), joins)
    queue.fill(members)
    queue.run()


class _JoinQueue:
    """The next pair of every short list, in the order of joining."""

    def __init__(self, crowds: _Crowds, joins: Joins) -> None:
        self.crowds, self.joins = crowds, joins
        self.lists: dict[int, _Shortlist] = {}
        self.queue: list[Queued] = []

    def fill(self, members: Ints) -> None:
        """Make the list of each."""
        for place, one in enumerate(members.tolist()):
            later = members[place:]  # only these are listed
            if 5 * len(later) < 4 * len(self.crowds.searched):
                self.crowds.search(later)
            self.lists[one] = self.crowds.shortlist(one)
            self._push(one, 0)
        self.crowds.search(members)

    def run(self) -> None:
        """Join pair after pair until no list has any more."""
        while self.queue:
            pair = heapq.heappop(self.queue)
            _, _, one, place = pair
            if place == EXACT:
                self._join(pair)
            elif place == len(self.lists[one].keys):
                self._refill(pair)
            else:
                self._push_exact(pair)
                self._push(one, place + 1)

    def _push(self, one: int, place: int) -> None:
        """Queue the next pair of a list that may be joined, from a position on; or the list's end,
        where more may follow.
        """
        if self.crowds.is_complete(one):
            del self.lists[one]
            return
        listed = self.lists[one]
        end = len(listed.keys)
        may_join = self.joins.may_join
        while place < end and not may_join(one, listed.keys[place][OTHER], listed.piece[place]):
            place += 1
        if place < end:
            heapq.heappush(self.queue, listed.pair(one, place))
        elif listed.more:
            heapq.heappush(self.queue, listed.end(one))
        else:
            del self.lists[one]

    def _push_exact(self, pair: Queued) -> None:
        """Queue a pair by its exact key, if it may still be joined."""
        key, piece, one, place = pair
        if self.crowds.is_complete(one) or not self.joins.may_join(one, key[OTHER], piece):
            return
        exact: tuple[Key, bool] | None = (key, piece)
        if not self.lists[one].exact[place]:
            exact = self.crowds.exact_key(one, key[OTHER])
        if exact is not None:
            heapq.heappush(self.queue, (*exact, one, EXACT))

    def _refill(self, last: Queued) -> None:
        """Look up the pairs that follow the last one of a list."""
        key, _, one, _ = last
        if not self.crowds.is_complete(one):
            self.lists[one] = self.crowds.shortlist(one, after=key)
        self._push(one, 0)

    def _join(self, pair: Queued) -> None:
        key, piece, one, _ = pair
        evidence = -key[EVIDENCE]
        if self.joins.join(one, key[OTHER], piece, evidence < CLEAR):
            group = self.joins.home[one]
            tiles = self.joins.tiles(group)
            self.crowds.joined(self.joins.members[group], len(tiles))


class _Crowds:
    """The detections of crowds, and the tiles of the groups that they have joined so far."""

    def __init__(self, matcher: ViewMatcher, members: Ints, label: Ints) -> None:
        self.matcher, self.label = matcher, label
        # several pieces of an outline may be of one tile
        self.has_pieces = matcher.instances.task == "segment"
        self.columns = [np.ascontiguousarray(side) for side in matcher.snapped.T]
        n = len(label)
        number, count = _numbered_tiles(label[members], matcher.tile[members])
        # the tiles of the group of each detection, bit by bit, in words
        words = -(-int(count.max(initial=1)) // WORD)
        self.tiles = np.zeros((words, n), np.uint64)
        bit = np.uint64(1) << (number % WORD).astype(np.uint64)
        self.tiles[number // WORD, members] = bit
        # how many tiles the crowd of each has, and how many of them its group lacks
        self.tile_count = np.zeros(n, np.int64)
        self.tile_count[members] = count
        self.lacks = self.tile_count - 1
        self.shapes = None
        if matcher.deep is not None and matcher.instances.rings is not None:
            self.shapes = _CrowdShapes(matcher, members, number)
        self.search(members)

    def search(self, members: Ints) -> None:
        """Look for pairs of these alone from now on."""
        self.complete = 0
        self.searched = members
        if self.shapes is not None:
            self.shapes.search(members)
        snapped = self.matcher.snapped
        reach = self.matcher.reach * np.array([-1.0, -1.0, 1.0, 1.0])
        order = np.lexsort((snapped[members, 0], self.label[members]))
        self.order = members[order]
        self.begin, self.end = stretches(snapped + reach, self.label, self.order)

    def joined(self, members: list[int], tiles: int) -> None:
        """Note that members are one group now, of a number of tiles."""
        tiles_of_all = np.bitwise_or.reduce(self.tiles[:, members], axis=1, keepdims=True)
        self.tiles[:, members] = tiles_of_all
        self.lacks[members] = self.tile_count[members[0]] - tiles
        if self.lacks[members[0]]:
            return
        self.complete += len(members)
        if 2 * self.complete > len(self.searched) and not self.has_pieces:
            self.search(self.searched[self.lacks[self.searched] > 0])

    def is_complete(self, one: int) -> bool:
        """Whether the group of a detection has all tiles of its crowd, and can join none."""
        return not self.lacks[one] and not self.has_pieces

    def shortlist(self, one: int, after: Key | None = None) -> _Shortlist:
        """The next pairs of a detection, in order; with `after`, those that come after a key."""
        matches = self._matches(one)
        if after is not None:
            later = np.flatnonzero(_come_after(matches, after))
            matches = _Matches._make(column[later] for column in matches)
        return _listed(one, matches, _best(matches))

    def exact_key(self, one: int, other: int) -> tuple[Key, bool] | None:
        """The key of a pair of shapes, and whether it is a piece; None if it does not match."""
        assert self.shapes is not None
        iou = self.shapes.known_iou(one, other)
        if iou is not None:
            if iou < self.matcher.least_agreement(one, other):
                return None
            return (-CLEAR, -iou, -iou, one, other), False
        pairs = self.matcher.matches(np.array([one]), np.array([other]))
        if not len(pairs.i):
            return None
        [pair] = rows(pairs.evidence, pairs.agreement, pairs.tiebreak, pairs.piece)
        evidence, agreement, tiebreak, piece = pair
        self.shapes.learn(one, other, agreement)
        return (-evidence, -agreement, -tiebreak, one, other), piece

    def _matches(self, one: int) -> _Matches:
        """The pairs of a detection with later ones that match and may be joined, as far as their
        tiles tell.
        """
        others = self.order[self.begin[one] : self.end[one]]
        others = others[others > one]
        if not self.has_pieces:
            others = others[self._share_no_tile(one, others)]
        deep = self.matcher.deep_pairs(one, others)
        if self.has_pieces:  # detections deep in a view are not cut, so they are no pieces
            open_ = ~deep | self._share_no_tile(one, others)
            others, deep = others[open_], deep[open_]
        if deep.all():
            return self._deep_matches(one, others)
        deep_matches = self._deep_matches(one, others[deep])
        rest = self._other_matches(one, others[~deep])
        columns = zip(deep_matches, rest, strict=True)
        return _Matches._make(np.concatenate(both) for both in columns)

    def _other_matches(self, one: int, others: Ints) -> _Matches:
        """Matches of a detection with others, compared in their common views."""
        snapped = self.matcher.snapped
        i = np.full(len(others), one)
        near = met(snapped, snapped, i, others, self.matcher.reach)
        pairs = self.matcher.matches(i[near], others[near])
        exact = np.ones(len(pairs.j), bool)
        return _Matches(
            pairs.j, pairs.agreement, pairs.tiebreak, pairs.evidence, pairs.piece, exact
        )

    def _deep_matches(self, one: int, others: Ints) -> _Matches:
        """Matches of a detection with others, where both lie deep in their common view. Of shapes,
        the agreement is the most that it may be.
        """
        if self.shapes is None:
            box = self.matcher.snapped[one].tolist()
            columns = [side[others] for side in self.columns]
            iou, good = self.matcher.match_deep(box, columns, one, others)
            exact = np.ones(len(others), bool)
        else:
            iou, exact = self.shapes.highest_iou(one, others)
            good = iou >= self.matcher.least_agreement(one, others)
        iou = iou[good]
        clear = np.full(len(iou), CLEAR)
        no_piece = np.zeros(len(iou), bool)
        return _Matches(others[good], iou, iou, clear, no_piece, exact[good])

    def _share_no_tile(self, one: int, others: Ints) -> Bools:
        """Which of the others are in groups that have no tile in common with that of one."""
        result = np.ones(len(others), bool)
        for word, bits in zip(self.tiles, self.tiles[:, one].tolist(), strict=True):
            if bits:
                result &= (word[others] & np.uint64(bits)) == 0
        return result


class _Matches(NamedTuple):
    """The matches of one detection. Columns are `(M,)`, as in `ViewMatches`.

    Attributes:
        exact: whether the agreement is exact; otherwise it is the most that it may be.
    """

    other: Ints
    agreement: Floats
    tiebreak: Floats
    evidence: Ints
    piece: Bools
    exact: Bools


def _listed(one: int, matches: _Matches, order: Ints) -> _Shortlist:
    """The short list of a detection: its matches at some positions."""
    others = matches.other[order]
    evidence = matches.evidence[order]
    agreement = matches.agreement[order]
    tiebreak = matches.tiebreak[order]
    first = np.full(len(order), one)
    keys = rows(-evidence, -agreement, -tiebreak, first, others)
    piece = matches.piece[order].tolist()
    exact = matches.exact[order].tolist()
    more = len(order) < len(matches.other)
    return _Shortlist(list(keys), piece, exact, more)


def _numbered_tiles(crowd: Ints, tile: Ints) -> tuple[Ints, Ints]:
    """The tiles of each crowd are numbered from 0: the number of each detection's tile, and how
    many tiles its crowd has.
    """
    both = np.stack([crowd, tile])
    seen, at = np.unique(both, axis=1, return_inverse=True)
    at = at.reshape(-1)  # numpy 2.0 gives it another shape
    first = np.searchsorted(seen[0], seen[0], "left")[at]
    last = np.searchsorted(seen[0], seen[0], "right")[at]
    return at - first, last - first


class _CrowdShapes:
    """The outlines or OBBs of crowds, and their IoU: from their sides, which is exact but for
    rounding, until GEOS has computed it.
    """

    def __init__(self, matcher: ViewMatcher, members: Ints, tile_number: Ints) -> None:
        assert matcher.instances.rings is not None
        n = len(matcher.tile)
        self.tile = matcher.tile
        self.shapes = np.full(n, None, dtype=object)
        self.shapes[members] = matcher.instances.rings.take(members).geometry()
        self.area = shapely.area(self.shapes)
        # a number for shapes that are the same to the last bit
        binary = shapely.to_wkb(self.shapes[members])
        _, number = np.unique(binary, return_inverse=True)
        self.equal = np.zeros(n, np.int64)
        self.equal[members] = number
        # which table each shape is in, and at what place
        self.table = np.zeros(n, np.int64)
        self.table[members] = tile_number % TABLES
        self.place = np.zeros(n, np.int64)
        self.tables: list[Sides] = []
        # of a shape in a tile: with which its IoU is known, and the IoU
        self.known: dict[tuple[int, int], list[tuple[int, float]]] = {}

    def search(self, members: Ints) -> None:
        """Compare these alone from now on."""
        self.tables = []
        for table in range(TABLES):
            in_table = members[self.table[members] == table]
            self.place[in_table] = np.arange(len(in_table))
            self.tables.append(Sides(self.shapes[in_table]))

    def highest_iou(self, one: int, others: Ints) -> tuple[Floats, Bools]:
        """The most that the IoU of a shape with others may be, and whether that is exact."""
        common = self._common(one, others)
        iou = similarity.share(common, self.area[others], self.area[one], "iou")
        iou += ROUNDED
        exact = np.zeros(len(others), bool)
        # of many equal shapes all would be computed, since nothing comes before the next of them
        for other, value in self.known.get(self._key(one), ()):
            same_shape = self.equal[others] == self.equal[other]
            equal = same_shape & (self.tile[others] == self.tile[other])
            iou[equal] = value
            exact[equal] = True
        return iou, exact

    def learn(self, one: int, other: int, iou: float) -> None:
        """Remember the IoU of a pair."""
        known = self.known.setdefault(self._key(one), [])
        known.append((other, iou))

    def known_iou(self, one: int, other: int) -> float | None:
        """The IoU of a pair, if it is known of one that equals it."""
        wanted = self._key(other)
        for known, iou in self.known.get(self._key(one), ()):
            if self._key(known) == wanted:
                return iou
        return None

    def _key(self, one: int) -> tuple[int, int]:
        return int(self.equal[one]), int(self.tile[one])

    def _common(self, one: int, others: Ints) -> Floats:
        """px² that others share with one, table by table."""
        result = np.zeros(len(others))
        table = self.table[others]
        sides = self.tables[self.table[one]]
        place = int(self.place[one])
        for number in np.unique(table).tolist():
            in_table = table == number
            common = self.tables[number].common(place, sides)
            result[in_table] = common[self.place[others[in_table]]]
        return result


def _best(matches: _Matches) -> Ints:
    """The positions of the matches that are joined first, in order."""
    first = _strongest(matches)
    evidence = matches.evidence[first]
    agreement = matches.agreement[first]
    tiebreak = matches.tiebreak[first]
    order = np.lexsort((matches.other[first], -tiebreak, -agreement, -evidence))
    return np.asarray(first[order[:LISTED]])


def _strongest(matches: _Matches) -> Ints:
    """The positions of a few matches before which no other is joined."""
    evidence = matches.evidence
    if len(evidence) <= LISTED:
        return np.arange(len(evidence))
    strongest = np.flatnonzero(evidence == evidence.max())
    if len(strongest) <= LISTED:
        return strongest
    agreement = matches.agreement[strongest]
    least = np.partition(agreement, -LISTED)[-LISTED]
    return np.asarray(strongest[agreement >= least])


def _come_after(matches: _Matches, key: Key) -> Bools:
    """Which matches come after a key in the order of joining."""
    evidence, agreement, tiebreak, _, other = key
    result = matches.other > other
    for values, limit in (
        (matches.tiebreak, -tiebreak),
        (matches.agreement, -agreement),
        (matches.evidence, -evidence),
    ):
        result = (values < limit) | ((values == limit) & result)
    return result
