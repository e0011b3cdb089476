"""Whether windows can be the tiles of images: inside, of one size but at the border, on a grid.

This tells which of several readings of the tiles' names is the right one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.grids import MIN_SIDE

if TYPE_CHECKING:
    from tiler.types import Bools, Floats

LEAST_STRIDE = 0.1  # of a tile's side; less is a coincidence rather than a grid


@dataclass(frozen=True, slots=True, eq=False)
class TilingFit:
    """How well T windows fit their images.

    Attributes:
        regular: one grid makes them all.
        possible: `(T,)` bool, a window inside its image, of the size of the others or cut off at
            the border.
    """

    regular: bool
    possible: Bools


def fit_of(rects: Floats, sizes: Floats) -> TilingFit:
    """How well windows fit their images.

    Tiles may be missing, so a hole is no fault. The windows of a grid are always regular: with all
    its tiles shifted inward, trimmed or padded at the border. So is a single window.

    Args:
        rects: `(T, 4)` xyxy px.
        sizes: `(T, 2)` width and height of the image of each, px.

    >>> rects = np.array([[0, 0, 400, 400], [320, 0, 720, 400]])
    >>> fit_of(rects, np.array([[720, 400]] * 2)).regular
    True
    >>> rects[1] = 320, 0, 400, 400  # 80 px wide, and not at the border
    >>> fit_of(rects, np.array([[720, 400]] * 2))
    TilingFit(regular=False, possible=array([ True, False]))
    """
    sides = rects[:, 2:] - rects[:, :2]
    axes = []
    for axis in (0, 1):
        axes.append(_AxisFit(rects[:, axis], sides[:, axis], sizes[:, axis]))
    possible = axes[0].possible() & axes[1].possible()
    regular = False
    if possible.all():
        for policy in (_AxisFit.shifted, _AxisFit.trimmed, _AxisFit.padded):
            regular = regular or (policy(axes[0]) and policy(axes[1]))
    return TilingFit(regular, possible)


@dataclass(frozen=True, slots=True, eq=False)
class _AxisFit:
    """Windows along one axis, px: where they start, their side, the side of their image."""

    start: Floats
    side: Floats
    length: Floats

    @property
    def tile(self) -> float:
        """The side of a whole tile."""
        return float(self.side.max(initial=0.0))

    def possible(self) -> Bools:
        """Which are inside, and of one size but at the border."""
        begins = (self.start >= 0) & (self.start < self.length)
        tiles = {self.tile, _most_common(self.side)}  # the largest may be a stray one
        best = np.zeros(len(self.start), bool)
        for tile in sorted(tiles):
            at_border = (self.side < tile) & (self.start + self.side == self.length)
            sized = (self.side == tile) | ((self.side > 0) & at_border)
            fits = begins & sized & (tile >= MIN_SIDE)
            if fits.sum() > best.sum():
                best = fits
        return best

    def shifted(self) -> bool:
        """The last tile of a row lies at the border."""
        last = self.length - self.side
        whole = self.side == np.minimum(self.tile, self.length)
        if not (whole & (self.start <= last)).all():
            return False
        return self._is_stride(_common_divisor(self.start[self.start < last]))

    def trimmed(self) -> bool:
        """The last tile of a row is cut off."""
        cut = np.minimum(self.tile, self.length - self.start)
        if not (self.side == cut).all():
            return False
        sliver = (self.side == MIN_SIDE) & (self.start == self.length - MIN_SIDE)
        others = ~sliver  # which our own trimmed grids move inward until it has that side
        return _AxisFit(self.start[others], self.side[others], self.length[others])._each_needed()

    def padded(self) -> bool:
        """The last tile of a row reaches past the border."""
        return bool((self.side == self.tile).all()) and self._each_needed()

    def _each_needed(self) -> bool:
        """Whether starts are multiples of a stride, and no tile shows only what the one before
        it shows.
        """
        stride = _common_divisor(self.start)
        before = self.start - stride + self.tile
        needed = (self.start == 0) | (before < self.length)
        return self._is_stride(stride) and bool(needed.all())

    def _is_stride(self, stride: float) -> bool:
        """Whether it may be a stride, or a multiple of one; 0: there is no second start."""
        return stride == 0 or stride >= LEAST_STRIDE * self.tile


def _common_divisor(starts: Floats) -> float:
    """The largest whole number of px that divides all; 0 if all are 0, below 1 if none does."""
    whole = starts.astype(np.int64)
    if (whole != starts).any():
        return 0.5
    return float(np.gcd.reduce(whole, initial=0))


def _most_common(values: Floats) -> float:
    """The most common value, the largest of several; 0 of none."""
    if not len(values):
        return 0.0
    known, counts = np.unique(values, return_counts=True)
    return float(known[counts == counts.max()][-1])
