"""Windows of the numbers in names of tiles: pixels, or places in a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.grids import MIN_SIDE, by_axis
from tiler.geometry.tilings import LEAST_STRIDE
from tiler.options import PredictionOptions
from tiler.options.naming import INDICES

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

AXES = (("x", "x1", "w"), ("y", "y1", "h"))  # fields of a start, an end, a side
ENOUGH = 3  # tiles of the last rows or columns; whether fewer are empty may be chance
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """What names leave open. Px for x and for y; 0 if unknown.

    Attributes:
        edge: of tiles that would reach past the border: shift, trim or pad; auto: as named.
    """

    tile: Pair
    stride: Pair
    edge: str

    @classmethod
    def of(cls, options: PredictionOptions) -> TileGrid:
        return cls(by_axis(options.tile or 0), by_axis(options.stride or 0), options.edge)


@dataclass(frozen=True, slots=True, eq=False)
class NumberColumns:
    """The numbers in T names.

    Attributes:
        values: `(T,)` float64 of each field.
        image: `(T,)` int64, the number of the image of each.
        sizes: `(T, 2)` width and height of that image, px.
    """

    values: dict[str, Floats]
    image: Ints
    sizes: Floats

    @classmethod
    def of(
        cls, values: dict[str, Floats], stems: Sequence[str], sizes: Mapping[str, Pair]
    ) -> NumberColumns:
        """`stems`: of the image of each name; `sizes` of the images."""
        _, image = np.unique(np.array(stems), return_inverse=True)
        limits = np.array([sizes[stem] for stem in stems], np.float64)
        return cls(values, image, limits.reshape(-1, 2))

    @property
    def indexed(self) -> bool:
        """Whether the numbers are places in a grid."""
        return self.index(0) is not None or self.index(1) is not None

    @property
    def needs_tile(self) -> bool:
        """Whether the names do not say how large a tile is."""
        return self.indexed or self._side(0) is None or self._side(1) is None

    @property
    def edges(self) -> tuple[str, ...]:
        """What tiles at the border may be, by such names."""
        if self.needs_tile:
            return ("shift", "trim", "pad")
        return ("",)

    @property
    def scale(self) -> Floats:
        """`(T,)` tile px per source px."""
        ones = np.ones(len(self.image))
        return self.values.get("scale", ones)

    def index(self, axis: int) -> Floats | None:
        """`(T,)` places in the grid along an axis, from 0; None if names have pixels."""
        from_0, from_1 = INDICES["xy"[axis]]
        if from_0 in self.values:
            return self.values[from_0]
        if from_1 in self.values:
            return self.values[from_1] - 1
        return None

    def rects(self, grid: TileGrid) -> Floats | None:
        """`(T, 4)` xyxy px of the source images; None if a tile would have no size."""
        start_x, side_x = self._span(0, grid)
        start_y, side_y = self._span(1, grid)
        valid = (side_x > 0) & (side_y > 0) & (start_x >= 0) & (start_y >= 0) & (self.scale > 0)
        if not valid.all():
            return None
        return np.stack([start_x, start_y, start_x + side_x, start_y + side_y], axis=1)

    def _span(self, axis: int, grid: TileGrid) -> tuple[Floats, Floats]:
        """`(T,)` start and side along an axis."""
        length = self.sizes[:, axis]
        side = self._side(axis)
        if side is None:
            side = grid.tile[axis] / self.scale
        index = self.index(axis)
        if index is None:
            start = self.values[AXES[axis][0]]
        else:
            start = index * grid.stride[axis]
        if index is not None:
            start = _at_border(start, side, length, grid.stride[axis], grid.edge)
        if grid.edge == "trim":
            side = np.minimum(side, length - start)
        elif grid.edge == "shift":
            side = np.minimum(side, length)
        return start, side

    def _side(self, axis: int) -> Floats | None:
        """`(T,)` the side of each tile; None if names do not say."""
        start, end, side = AXES[axis]
        if side in self.values:
            return self.values[side]
        if "side" in self.values:
            return self.values["side"]
        if end in self.values and start in self.values:
            return self.values[end] - self.values[start]
        return None


def _at_border(start: Floats, side: Floats, length: Floats, stride: int, edge: str) -> Floats:
    """Starts of tiles, the last of a row moved inward as `geometry.grids` does; those behind it
    as they are.
    """
    limit = np.full(len(start), np.inf)
    if edge == "shift":
        limit = np.maximum(length - side, 0)
    elif edge == "trim":
        limit = np.maximum(length - MIN_SIDE, 0)
    is_needed = start - stride + side < length
    return np.asarray(np.where(is_needed, np.minimum(start, limit), start))


def adjoin(columns: NumberColumns, tile: Pair) -> bool:
    """Whether whole tiles side by side make exactly the images, of which no tile is missing.

    Tiles that overlap could have such places only if a whole row or column without any detection
    were missing at the border, and nothing else; so there must be several of these.

    >>> place = {"row": np.repeat([0.0, 1, 2], 3), "col": np.tile([0.0, 1, 2], 3)}
    >>> adjoin(NumberColumns.of(place, ["a"] * 9, {"a": (1200, 1200)}), (400, 400))
    True
    """
    col, row = columns.index(0), columns.index(1)
    if col is None or row is None or min(col.min(), row.min()) < 0:
        return False
    count = columns.image.max() + 1
    total = np.ones(count)
    for axis, index in enumerate((col, row)):
        last = np.zeros(count)
        np.maximum.at(last, columns.image, index)
        if ((last[columns.image] + 1) * tile[axis] != columns.sizes[:, axis]).any():
            return False
        at_last = (index == last[columns.image]) & (index > 0)
        if last.any() and at_last.sum() < ENOUGH:
            return False
        total *= last + 1
    there = np.unique(np.column_stack([columns.image, col, row]), axis=0)
    return bool((np.bincount(there[:, 0].astype(np.int64), minlength=count) == total).all())


def strides(columns: NumberColumns, tile: Pair) -> list[Pair]:
    """Two strides that places in a grid of such tiles may have: one that makes the tiles cover
    the images, and the largest. One if it makes no difference; none if no stride is possible.

    Names never tell which: tiles may be missing, and those at the border left out.

    >>> place = {"row": np.zeros(3), "col": np.arange(3.0)}
    >>> strides(NumberColumns.of(place, ["a"] * 3, {"a": (1100, 400)}), (400, 400))
    [(350, 400), (400, 400)]
    """
    ranges = [_stride_range(columns, axis, tile[axis]) for axis in (0, 1)]
    (covering_x, most_x), (covering_y, most_y) = ranges
    if min(covering_x, covering_y) == 0:
        return []
    return sorted({(covering_x, covering_y), (most_x, most_y)})


def _stride_range(columns: NumberColumns, axis: int, tile: int) -> Pair:
    """Two strides along an axis, px: the same if any will do, 0 and 0 if none will."""
    index = columns.index(axis)
    if index is None or not index.any():
        return tile, tile
    if index.min() < 0:  # from 1, and yet there is a 0
        return 0, 0
    last = np.zeros(columns.image.max() + 1)
    np.maximum.at(last, columns.image, index)
    last = last[columns.image]
    room = columns.sizes[:, axis] - tile  # for the start of the last tile
    if (room[last > 0] <= 0).any():
        return 0, 0  # the first tile shows all
    most = tile
    several = last > 1
    if several.any():  # else the last tile shows nothing that the one before it does not
        most = min(most, int(np.ceil((room[several] / (last[several] - 1)).min())) - 1)
    least = int(np.ceil(LEAST_STRIDE * tile))
    if least >= most:
        return 0, 0
    covering = int(np.ceil((room[last > 0] / last[last > 0]).max()))
    if not least <= covering < most:
        covering = least
    return covering, most
