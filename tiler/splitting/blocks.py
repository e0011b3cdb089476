"""An image divided among splits: blocks of its columns or rows, with guard bands of one tile
between them, so that no pixel is in tiles of two splits. Arithmetic only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from tiler.datasets.dataset import FAR, Block

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

CANDIDATES = 256  # places that are tried for each end of a block


def blocks_of(
    windows: Floats, boxes: Floats, class_id: Ints, shares: Floats, mirrored_first: bool
) -> list[Block] | None:
    """The block of each split, or None if the image is too small for blocks and guard bands.

    Blocks lie along the longer side of the image. The first split (train) has the middle or one
    end; the next one, and a third if there is one, have the ends. Bands begin and end where tiles
    do, so that the objects come near to the shares. Of the two ways round, the one is taken by
    which fewer splits are without a class, or else that is nearer to the shares in every class.

    Args:
        windows: `(T, 4)` of the image's tiles.
        boxes: `(N, 4)` of its objects, and `class_id` `(N,)`. Where there are none, tiles count.
        shares: `(S,)` of two or three splits; their sum is 1.
        mirrored_first: which way round is taken where both are equally good.

    >>> windows = np.array([[x, 0, x + 10, 10] for x in range(0, 100, 10)], float)
    >>> none, no_class = np.empty((0, 4)), np.empty(0, int)
    >>> train, val = blocks_of(windows, none, no_class, np.array([0.8, 0.2]), False)
    >>> train.inside, val.inside
    ((-1000000000, 70), (80, 1000000000))
    """
    if not len(boxes):
        boxes, class_id = windows, np.zeros(len(windows), np.int64)
    extent = windows[:, 2:].max(axis=0) - windows[:, :2].min(axis=0)
    axis = int(extent[1] > extent[0])
    best: list[Block] | None = None
    least = (FAR, 0.0)
    for mirrored in (mirrored_first, not mirrored_first):
        found = _one_way(windows, boxes, shares, axis, mirrored)
        if found is None:
            return None  # nor is there room the other way round
        flaws = _flaws(found, boxes, class_id, shares)
        if flaws < least:
            best, least = found, flaws
    return best


def counts_in(blocks: list[Block], boxes: Floats, class_id: Ints, classes: int) -> Ints:
    """`(S, C)` the objects of each class whose centre is in each block, without its guard bands."""
    rows = []
    for block in blocks:
        centres = np.tile((boxes[:, :2] + boxes[:, 2:]) / 2, 2)
        here = class_id[block.holds(centres)]
        rows.append(np.bincount(here, minlength=classes))
    return np.array(rows)


def _flaws(blocks: list[Block], boxes: Floats, class_id: Ints, shares: Floats) -> tuple[int, float]:
    """How often a split has no object of a class, and how many objects are in another split than
    the shares say, over all classes.
    """
    present, number = np.unique(class_id, return_inverse=True)
    counts = counts_in(blocks, boxes, number, len(present))
    wanted = np.outer(shares, counts.sum(axis=0))
    misplaced = np.abs(counts - wanted).sum()
    return int((counts == 0).sum()), float(np.round(misplaced, 6))


def _one_way(
    windows: Floats, boxes: Floats, shares: Floats, axis: int, mirrored: bool
) -> list[Block] | None:
    """The blocks with the second split at the end of the axis, or mirrored at its beginning."""
    spans = windows[:, [axis, axis + 2]]
    places = (boxes[:, axis] + boxes[:, axis + 2]) / 2
    if mirrored:
        spans = -spans[:, ::-1]
        places = -places
    cut = _Axis.of(spans, places).cut(shares)
    if cut is None:
        return None
    low, high = cut
    guard = _guard(spans)
    start = -FAR if low is None else low + guard
    found = [_block(axis, (start, high - guard), guard), _block(axis, (high, FAR), guard)]
    if low is not None:
        found.append(_block(axis, (-FAR, low), guard))
    if mirrored:
        return [_mirrored(block) for block in found]
    return found


def _guard(spans: Floats) -> int:
    """The width of a guard band: of the longest tile."""
    return int((spans[:, 1] - spans[:, 0]).max())


def _block(axis: int, inside: tuple[int, int], guard: int) -> Block:
    start, end = inside
    before, after = guard // 2, guard - guard // 2
    home_start = start if start == -FAR else start - after
    home_end = end if end == FAR else end + before
    return Block(axis, inside, (home_start, home_end))


def _mirrored(block: Block) -> Block:
    (start, end), (home_start, home_end) = block.inside, block.home
    return Block(block.axis, (-end, -start), (-home_end, -home_start))


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """Tiles and objects along one side of the image.

    Attributes:
        starts, ends: `(T,)` of the tiles, by their starts.
        first_end: `(T + 1,)` the first end of the tiles from each one on; inf after the last.
        places: `(N,)` the centres of the objects, in rising order.
    """

    starts: Floats
    ends: Floats
    first_end: Floats
    places: Floats

    @classmethod
    def of(cls, spans: Floats, places: Floats) -> Self:
        starts, ends = spans[np.lexsort((spans[:, 1], spans[:, 0]))].T
        first_end = np.minimum.accumulate(ends[::-1])[::-1]
        return cls(starts, ends, np.append(first_end, np.inf), np.sort(places))

    def cut(self, shares: Floats) -> tuple[int | None, int] | None:
        """Where the block at the beginning ends (None for two splits), and where the one at the end
        starts; None if there is no room.
        """
        guard = self._guard()
        highs = _some(np.unique(self.starts))
        lows = _some(np.unique(self.ends)) if len(shares) == 3 else np.array([-np.inf])
        low, high = (grid.ravel() for grid in np.meshgrid(lows, highs, indexing="ij"))
        possible = self._has_tile(low + guard, high - guard)
        if not possible.any():
            return None
        low, high = low[possible], high[possible]
        counts = self._counts(low, high, guard)[: len(shares)]
        total = counts.sum(axis=0)
        achieved = counts / np.maximum(total, 1)
        off = np.abs(achieved - shares[:, None]) / shares[:, None]
        worst = np.round(off[1:].max(axis=0), 1)  # about the share; then, as few objects are lost
        best = int(np.lexsort((high, low, -total, worst))[0])
        end = int(low[best]) if len(shares) == 3 else None
        return end, int(high[best])

    def _guard(self) -> int:
        return _guard(np.stack([self.starts, self.ends], axis=1))

    def _has_tile(self, start: Floats, end: Floats) -> Bools:
        """`(K,)` whether a tile lies between each start and end."""
        return self.first_end[np.searchsorted(self.starts, start)] <= end

    def _counts(self, low: Floats, high: Floats, guard: int) -> Ints:
        """`(3, K)` the objects of the middle block, of the one at the end, and of that at the
        beginning, where tiles show them.
        """
        from_left = np.sort(self.ends)
        begins = self.starts[np.searchsorted(self.starts, low + guard)]
        stops = from_left[np.searchsorted(from_left, high - guard, side="right") - 1]
        up_to = np.searchsorted(self.places, [begins, stops, high, low])
        middle = up_to[1] - up_to[0]
        return np.stack([np.maximum(middle, 0), len(self.places) - up_to[2], up_to[3]])


def _some(values: Floats) -> Floats:
    """At most CANDIDATES of some values, evenly."""
    step = -(-len(values) // CANDIDATES)
    return values[::step]
