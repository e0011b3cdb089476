"""Where the tiles of a source lie, their names, and which background tiles are taken."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from tiler.errors import SourceRefused, TilerError
from tiler.geometry.grids import MIN_SIDE, Edge, by_axis, grid, overlap_px
from tiler.geometry.window import Window
from tiler.options import SplitOptions

WEBP_SIDE = 16_383
LARGEST_SIDE = 65_500  # as of --tile
LEAST_STRIDE = 0.1  # of the tile's side; with less, tiles show nearly the same


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

    Raises:
        SourceRefused: the image has no room for the tiles of --grid.

    >>> tiles = planned_tiles("a", 1000, 640, SplitOptions(overlap=0, scale="1,0.5"))
    >>> [tile.name for tile in tiles]
    ['a__0_0_640_640', 'a__360_0_640_640', 'a__s50__0_0_1000_640']
    """
    result = []
    for scale in options.scale:
        mark = "" if scale == 1 else f"__s{round(scale * 100)}"
        for window, size in _scaled_grid(width, height, options, scale):
            name = f"{stem}{mark}__{window.x}_{window.y}_{window.width}_{window.height}"
            result.append(PlannedTile(window, scale, size, name))
    return result


Sized = Iterator[tuple[Window, tuple[int, int]]]  # windows, with width and height of their tiles


def _scaled_grid(width: int, height: int, options: SplitOptions, scale: float) -> Sized:
    if options.grid is not None:
        return _divided(width, height, options, scale)
    return _of_size(width, height, options, scale)


def _of_size(width: int, height: int, options: SplitOptions, scale: float) -> Sized:
    """The grid of tiles of a given size."""
    tile = by_axis(options.tile)
    shown = (_scaled(tile[0], 1 / scale), _scaled(tile[1], 1 / scale))  # source pixels
    edge = cast(Edge, options.edge)
    for window in grid(width, height, shown, _overlap(options, scale), edge):
        yield window, _size(window, scale, tile, shown)


def _divided(width: int, height: int, options: SplitOptions, scale: float) -> Sized:
    """The grid of a given number of tiles, the same at every scale but for an overlap in pixels.

    Raises:
        SourceRefused: the image is too small for it, or so large that its tiles are.
    """
    overlap = _overlap(options, scale)
    try:
        windows = grid(width, height, grid=options.grid, overlap=overlap)
    except TilerError as error:
        raise SourceRefused("W02", f"{width} x {height} px: {error}") from None
    sides = (round(windows[0].width * scale), round(windows[0].height * scale))
    largest = WEBP_SIDE if options.format == "webp" else LARGEST_SIDE
    if min(sides) < MIN_SIDE or max(sides) > largest:
        tiles = f"tiles of {sides[0]} x {sides[1]} px, expected sides of {MIN_SIDE} to {largest}"
        raise SourceRefused("W02", f"{width} x {height} px: {tiles}")
    for window in windows:
        yield window, sides


def check_grid(options: SplitOptions) -> None:
    """Reject a grid that is not possible, before anything is done.

    Raises:
        TilerError: an overlap that leaves no stride, or a tile that its format cannot hold.
    """
    if options.grid is not None:
        return
    sides = by_axis(options.tile)
    for side, overlap in zip(sides, by_axis(options.overlap), strict=True):
        overlap_px(overlap, side)
        for scale in options.scale:
            if overlap >= 1 and _source_px(overlap, scale) >= _scaled(side, 1 / scale):
                raise TilerError(
                    f"--overlap {overlap:g} leaves no stride in a tile of {side} px at "
                    f"scale {scale:g}"
                )
    if options.format == "webp" and max(sides) > WEBP_SIDE:
        raise TilerError(f"--tile {max(sides)}: WebP holds at most {WEBP_SIDE} px a side")


def crowding(options: SplitOptions) -> str:
    """What is to be said of an overlap that leaves nearly no stride; "" of others.

    >>> crowding(SplitOptions(tile=200, overlap=0.99))
    'tiles of 200 x 200 px lie 2 x 2 px apart: a pixel of a large image is in about 10000 of them'
    """
    if options.grid is not None:
        return ""
    sides = by_axis(options.tile)
    axes = list(zip(sides, by_axis(options.overlap), strict=True))
    strides = [side - overlap_px(overlap, side) for side, overlap in axes]
    shares = [stride / side for stride, side in zip(strides, sides, strict=True)]
    if min(shares) >= LEAST_STRIDE:
        return ""
    tiles = 1 / (shares[0] * shares[1])
    apart = f"tiles of {sides[0]} x {sides[1]} px lie {strides[0]} x {strides[1]} px apart"
    return f"{apart}: a pixel of a large image is in about {tiles:.0f} of them"


def _overlap(options: SplitOptions, scale: float) -> tuple[float, float]:
    """The overlap of tiles in x and y: a fraction, or source pixels."""
    across, down = by_axis(options.overlap)
    return _source_px(across, scale), _source_px(down, scale)


def _source_px(overlap: float, scale: float) -> float:
    """An overlap in px of the tile as source pixels; a fraction stays as it is."""
    if overlap < 1:
        return overlap
    return math.ceil(overlap / scale - 1e-6)


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
