"""Where the tiles of a source lie, what they are called, and which empty ones are taken."""

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
    """A window in source pixels, the scale it is cut at, the tile's size in px, and its name."""

    window: Window
    scale: float
    size: tuple[int, int]
    name: str


def places(stem: str, width: int, height: int, options: SplitOptions) -> list[PlannedTile]:
    """All tiles of an image, scale by scale, row by row.

    A scaled grid is laid out in source pixels: at 0.5, a tile of 640 px shows 1280.

    >>> [p.name for p in places("a", 1000, 640, SplitOptions(overlap=0, scale="1,0.5"))]
    ['a__0_0_640_640', 'a__360_0_640_640', 'a__s50__0_0_1000_640']
    """
    tile = (options.tile, options.tile) if isinstance(options.tile, int) else options.tile
    result = []
    for scale in options.scale:
        shown = (_scaled(tile[0], 1 / scale), _scaled(tile[1], 1 / scale))
        overlap = (
            options.overlap if options.overlap < 1 else math.ceil(options.overlap / scale - 1e-6)
        )
        mark = "" if scale == 1 else f"__s{round(scale * 100)}"
        for w in grid(width, height, shown, overlap, cast(Edge, options.edge)):
            size = (
                tile[0] if w.width == shown[0] else _scaled(w.width, scale),
                tile[1] if w.height == shown[1] else _scaled(w.height, scale),
            )
            result.append(
                PlannedTile(w, scale, size, f"{stem}{mark}__{w.x}_{w.y}_{w.width}_{w.height}")
            )
    return result


def check_grid(options: SplitOptions) -> None:
    """Refuse what can give no tiles, before anything is done.

    Raises:
        TilerError: an overlap that leaves no stride, or a tile that its format cannot hold.
    """
    sides = (options.tile,) if isinstance(options.tile, int) else options.tile
    for side in sides:
        overlap_px(options.overlap, side)
        for scale in options.scale:
            shown = _scaled(side, 1 / scale)
            if options.overlap >= 1 and math.ceil(options.overlap / scale - 1e-6) >= shown:
                raise TilerError(
                    f"--overlap {options.overlap:g} leaves no stride in a tile of {side} px at "
                    f"scale {scale:g}"
                )
    if options.format == "webp" and max(sides) > WEBP_SIDE:
        raise TilerError(f"--tile {max(sides)}: WebP holds at most {WEBP_SIDE} px a side")


def _scaled(side: int, factor: float) -> int:
    return max(MIN_SIDE, round(side * factor))


@dataclass(frozen=True, slots=True)
class Quota:
    """Which empty tiles a split takes: the first `ranks` of each source (in an order drawn
    by the seed), and one more of the sources whose draw is at most `last`."""

    seed: int
    ranks: int
    last: str

    def take(self, source: str, empty: Sequence[str]) -> set[str]:
        """The names taken of a source's empty tiles."""
        count = self.ranks + (draw(self.seed, source) <= self.last)
        return set(sorted(empty, key=lambda name: draw(self.seed, name))[:count])


def quota(seed: int, wanted: int, empty: dict[str, int]) -> Quota:
    """Spread a number of empty tiles over the sources that have some, as evenly as can be.

    Args:
        empty: for each source the number of its empty tiles.

    >>> q = quota(0, 3, {"a": 5, "b": 1, "c": 0})
    >>> len(q.take("a", list("vwxyz"))), len(q.take("b", ["u"]))
    (2, 1)
    """
    ranks, left = 0, wanted
    while left > 0:
        more = sorted(draw(seed, source) for source, count in empty.items() if count > ranks)
        if not more:
            break
        if len(more) > left:
            return Quota(seed, ranks, more[left - 1])
        left -= len(more)
        ranks += 1
    return Quota(seed, ranks, "")


def draw(seed: int, name: str) -> str:
    """A number drawn for a name, the same on every machine."""
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()
