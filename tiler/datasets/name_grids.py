"""Windows of the numbers in names of tiles: pixels, or places in a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.grids import by_axis
from tiler.geometry.tilings import LEAST_STRIDE
from tiler.options import PredictionOptions
from tiler.options.naming import INDICES

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

AXES = (("x", "x1", "w"), ("y", "y1", "h"))  # fields of a start, an end, a side
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
        if grid.edge == "trim":
            side = np.minimum(side, length - start)
        elif grid.edge == "shift":
            side = np.minimum(side, length)
            needed = start - grid.stride[axis] + side < length
            if index is not None:
                start = np.where(needed, np.minimum(start, length - side), start)
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


def strides(columns: NumberColumns, tile: Pair) -> list[Pair]:
    """The least and the largest stride with which places in a grid can be those of such tiles;
    one, if only one is possible; none, if none is.

    If every place of a grid has a tile, its tiles cover the image. In any case, no tile shows only
    what the one before it shows.

    >>> place = {"row": np.zeros(3), "col": np.arange(3.0)}
    >>> strides(NumberColumns.of(place, ["a"] * 3, {"a": (1200, 400)}), (400, 400))
    [(400, 400)]
    >>> strides(NumberColumns.of(place, ["a"] * 3, {"a": (1100, 400)}), (400, 400))
    [(350, 400), (400, 400)]
    """
    full = _is_full(columns)
    ranges = [_stride_range(columns, axis, tile[axis], full) for axis in (0, 1)]
    (least_x, most_x), (least_y, most_y) = ranges
    if least_x > most_x or least_y > most_y:
        return []
    return sorted({(least_x, least_y), (most_x, most_y)})


def _is_full(columns: NumberColumns) -> bool:
    """Whether every place of every grid has a tile."""
    places = np.ones(columns.image.max(initial=0) + 1)
    for axis in (0, 1):
        index = columns.index(axis)
        if index is None:
            return False
        count = np.zeros(len(places))
        np.maximum.at(count, columns.image, index + 1)
        places *= count
    return np.array_equal(places, np.bincount(columns.image, minlength=len(places)))


def _stride_range(columns: NumberColumns, axis: int, tile: int, full: bool) -> Pair:
    """The least and the largest stride along an axis, px."""
    index = columns.index(axis)
    least, most = max(1, round(LEAST_STRIDE * tile)), tile
    if index is None or not len(index):
        return tile, tile
    last = np.zeros(columns.image.max() + 1)
    np.maximum.at(last, columns.image, index)
    last = last[columns.image]
    room = columns.sizes[:, axis] - tile  # for the start of the last tile
    if not last.any():
        covered = bool((room <= 0).all()) or not full
        return (tile, tile) if covered else (1, 0)
    if full:
        alone = last == 0
        if (room[alone] > 0).any():
            return 1, 0
        least = max(least, int(np.ceil((room[~alone] / last[~alone]).max())))
    several = last > 1
    if several.any():
        most = min(most, int(np.ceil((room[several] / (last[several] - 1)).min())) - 1)
    if (room[last == 1] <= 0).any():
        return 1, 0
    return least, most
