"""Where the tiles of a source lie, their names, and which background tiles are taken."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tiler.errors import TilerError
from tiler.geometry.grids import MIN_SIDE, Edge, grid, overlap_px
from tiler.geometry.window import Window
from tiler.options import SplitOptions

WEBP_SIDE = 16_383


@dataclass(frozen=True, slots=True)
class PlannedTile:
    """A tile: its window in source pixels, the scale, its size in px, and its name."""

    window: Window
    scale: float
    size: tuple[int, int]
    name: str


def planned_tiles(stem: str, width: int, height: int, options: SplitOptions) -> list[PlannedTile]:
    """All tiles of an image, scale by scale, row by row.

    A scaled grid is laid out in source pixels: at 0.5, a tile of 640 px shows 1280.

    >>> tiles = planned_tiles("a", 1000, 640, SplitOptions(overlap=0, scale="1,0.5"))
    >>> [tile.name for tile in tiles]
    ['a__0_0_640_640', 'a__360_0_640_640', 'a__s50__0_0_1000_640']
    """
    tile = _sides(options)
    edge = cast(Edge, options.edge)
    result = []
    for scale in options.scale:
        shown = (_scaled(tile[0], 1 / scale), _scaled(tile[1], 1 / scale))  # source pixels
        mark = "" if scale == 1 else f"__s{round(scale * 100)}"
        for window in grid(width, height, shown, _overlap(options, scale), edge):
            name = f"{stem}{mark}__{window.x}_{window.y}_{window.width}_{window.height}"
            size = _size(window, scale, tile, shown)
            result.append(PlannedTile(window, scale, size, name))
    return result


def check_grid(options: SplitOptions) -> None:
    """Reject a grid that is not possible, before anything is done.

    Raises:
        TilerError: an overlap that leaves no stride, or a tile that its format cannot hold.
    """
    sides = _sides(options)
    for side in sides:
        overlap_px(options.overlap, side)
        for scale in options.scale:
            if options.overlap >= 1 and _overlap(options, scale) >= _scaled(side, 1 / scale):
                raise TilerError(
                    f"--overlap {options.overlap:g} leaves no stride in a tile of {side} px at "
                    f"scale {scale:g}"
                )
    if options.format == "webp" and max(sides) > WEBP_SIDE:
        raise TilerError(f"--tile {max(sides)}: WebP holds at most {WEBP_SIDE} px a side")


def _sides(options: SplitOptions) -> tuple[int, int]:
    """Width and height of a tile."""
    if isinstance(options.tile, int):
        return options.tile, options.tile
    return options.tile


def _overlap(options: SplitOptions, scale: float) -> float:
    """The overlap of tiles: a fraction, or source pixels."""
    if options.overlap < 1:
        return options.overlap
    return math.ceil(options.overlap / scale - 1e-6)


def _size(
    window: Window, scale: float, tile: tuple[int, int], shown: tuple[int, int]
) -> tuple[int, int]:
    """Width and height of a tile in px; at the image's border it may show less than `shown`."""
    width = tile[0] if window.width == shown[0] else _scaled(window.width, scale)
    height = tile[1] if window.height == shown[1] else _scaled(window.height, scale)
    return width, height


def _scaled(side: int, factor: float) -> int:
    return max(MIN_SIDE, round(side * factor))


@dataclass(frozen=True, slots=True)
class Quota:
    """Which background tiles a split takes: the first `ranks` of each source (in an order drawn
    with the seed), and one more of the sources whose draw is at most `last`."""

    seed: int
    ranks: int
    last: str

    def take(self, source: str, tiles: Sequence[str]) -> set[str]:
        """The names that are taken of a source's background tiles."""
        count = self.ranks + (draw(self.seed, source) <= self.last)
        drawn = sorted(tiles, key=lambda name: draw(self.seed, name))
        return set(drawn[:count])


def quota(seed: int, wanted: int, background: dict[str, int]) -> Quota:
    """Spread a number of background tiles over the sources that have some, as evenly as possible.

    Args:
        background: for each source the number of its background tiles.

    >>> q = quota(0, 3, {"a": 5, "b": 1, "c": 0})
    >>> len(q.take("a", list("vwxyz"))), len(q.take("b", ["u"]))
    (2, 1)
    """
    ranks = 0
    left = wanted
    while left > 0:
        more = sorted(draw(seed, source) for source, count in background.items() if count > ranks)
        if not more:
            break
        if len(more) > left:
            return Quota(seed, ranks, more[left - 1])
        left -= len(more)
        ranks += 1
    return Quota(seed, ranks, "")


def draw(seed: int, name: str) -> str:
    """A random number for a name, the same on every machine."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
