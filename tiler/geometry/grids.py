"""Grids: where the windows go.

Every grid covers every pixel, has no window twice, and neighbours share at least the
overlap that was asked for. No window is smaller than 10 px, which trainers reject.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.geometry.window import Window

if TYPE_CHECKING:
    from tiler.types import Ints

Number = TypeVar("Number", int, float)
Edge = Literal["shift", "pad", "trim", "balance"]

MIN_SIDE = 10  # px; the trainer drops smaller images


def grid(
    width: int,
    height: int,
    tile: int | tuple[int, int] | None = None,
    overlap: float | tuple[float, float] = 0.2,
    edge: Edge = "shift",
    grid: tuple[int, int] | None = None,
) -> list[Window]:
    """The windows of an image, row by row.

    Args:
        width, height: of the image, px.
        tile: one side, or width and height, px. Default: 640.
        overlap: a fraction of the tile's side (< 1), rounded up to whole pixels, or pixels (>= 1);
            or one for x and one for y.
        edge: what happens at the right and bottom border. `shift`: the last window moves
            inward, so that it is full-size; `balance`: all windows spread evenly, the
            overlap is the least; `trim`: the last window ends at the border; `pad`: it
            reaches past it. An image smaller than the tile gives one window of its own
            size (with `pad`: of the tile's size).
        grid: the number of columns and rows, in place of `tile`: as many windows, all of one
            size, the smallest that leaves the overlap, spread evenly.

    Raises:
        TilerError: sizes under 10 px, an overlap that leaves no stride, or a number of windows
            that the image has no room for.

    >>> [(w.x, w.width) for w in grid(1500, 640, tile=640, overlap=128)]
    [(0, 640), (512, 640), (860, 640)]
    >>> [(w.x, w.width) for w in grid(1500, 640, grid=(3, 1), overlap=0)]
    [(0, 500), (500, 500), (1000, 500)]
    """
    across, down = by_axis(overlap)
    if grid is not None:
        if tile is not None or edge != "shift":
            raise TilerError(
                "grid decides the tile's size and spreads tiles evenly: give no tile and no edge"
            )
        return _windows(divided(width, grid[0], across), divided(height, grid[1], down))
    tile_width, tile_height = by_axis(640 if tile is None else tile)
    columns = spans(width, tile_width, overlap_px(across, tile_width), edge)
    rows = spans(height, tile_height, overlap_px(down, tile_height), edge)
    return _windows(columns, rows)


def by_axis(value: Number | tuple[Number, Number]) -> tuple[Number, Number]:
    """A value for x and one for y, where one may be given for both.

    >>> by_axis(640), by_axis((0.2, 64))
    ((640, 640), (0.2, 64))
    """
    if isinstance(value, tuple):
        return value
    return value, value


def _windows(columns: list[tuple[int, int]], rows: list[tuple[int, int]]) -> list[Window]:
    """Row by row, from start and size along each axis."""
    windows = []
    for y, h in rows:
        windows += [Window(x, y, w, h) for x, w in columns]
    return windows


def overlap_px(overlap: float, tile: int) -> int:
    """Whole pixels of an overlap given as a fraction (< 1) or as pixels; never less than asked.

    >>> overlap_px(0.29, 100), overlap_px(128, 640)
    (29, 128)
    """
    whole = _whole_px(overlap, tile)
    if whole >= tile:
        raise TilerError(f"an overlap of {whole} px leaves no stride in a tile of {tile} px")
    return whole


def _whole_px(overlap: float, tile: int) -> int:
    """The overlap in whole pixels, even if it is more than the tile."""
    if not (math.isfinite(overlap) and overlap >= 0):
        raise TilerError(f"the overlap is 0 or more, got {overlap!r}")
    pixels = overlap * tile if overlap < 1 else overlap
    return math.ceil(pixels - 1e-6)  # 0.29 * 100 is 28.999999999999996


def divided(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Start and size of `count` windows along an axis of `length` px, all of one size: the
    smallest with which neighbours share at least the overlap.

    Args:
        overlap: a fraction of the window's side (< 1), or pixels (>= 1).

    Raises:
        TilerError: the windows would be under 10 px, or two of them the same.

    >>> divided(1000, 3, 0.2), divided(1000, 3, 100)
    ([(0, 385), (308, 385), (615, 385)], [(0, 400), (300, 400), (600, 400)])
    """
    if int(length) != length or int(count) != count or count < 1:
        raise TilerError(f"expected whole numbers, got {count!r} windows in {length!r} px")

    def reach(side: int) -> int:
        """Where the last window ends, if neighbours share no more than the overlap."""
        stride = side - min(side, _whole_px(overlap, side))
        return side + (count - 1) * stride

    length, count = int(length), int(count)
    side = bisect_left(range(length), length, key=reach)
    if side < MIN_SIDE:
        raise TilerError(
            f"{count} tiles along {length} px would have {side} px, expected at least {MIN_SIDE}"
        )
    room = length - side  # for the starts
    if room < count - 1:
        raise TilerError(
            f"an overlap of {overlap:g} leaves no stride between {count} tiles along {length} px"
        )
    return [(start, side) for start in _evenly(room, count).tolist()]


def spans(length: int, tile: int, overlap: int, edge: Edge) -> list[tuple[int, int]]:
    """Start and size of the windows along one axis of `length` px.

    >>> spans(645, 640, 128, "balance"), spans(645, 640, 0, "trim")
    ([(0, 640), (5, 640)], [(0, 640), (635, 10)])
    """
    _check(length, tile, edge)
    if length <= tile:
        return [(0, tile)] if edge == "pad" else [(0, length)]
    starts = _starts(length, tile, overlap, edge).tolist()
    if edge == "trim":  # the last one ends at the border, but is no sliver
        starts[-1] = min(starts[-1], length - MIN_SIDE)
        return [(start, min(tile, length - start)) for start in starts]
    return [(start, tile) for start in starts]


def _starts(length: int, tile: int, overlap: int, edge: Edge) -> Ints:
    """Where the windows start, on an axis that is longer than one of them."""
    stride = tile - overlap
    count = math.ceil((length - overlap) / stride)
    if edge == "balance":
        return _evenly(length - tile, count)
    starts = np.arange(count) * stride
    if edge == "shift":
        starts = np.minimum(starts, length - tile)
    return starts


def _evenly(room: int, count: int) -> Ints:
    """`count` whole numbers from 0 to `room`, spread evenly."""
    evenly = np.arange(count) * room / max(1, count - 1)
    return np.floor(evenly + 0.5).astype(np.int64)


def _check(length: int, tile: int, edge: Edge) -> None:
    edges = get_args(Edge)
    if edge not in edges:
        raise TilerError(
            f"edge is one of {', '.join(edges)}{did_you_mean(edge, edges)}, got {edge!r}"
        )
    if int(length) != length or int(tile) != tile:
        raise TilerError(f"sizes are whole pixels, got an image of {length} and a tile of {tile}")
    if tile < MIN_SIDE:
        raise TilerError(f"a tile has at least {MIN_SIDE} px a side, got {tile}")
    shortest = 1 if edge == "pad" else MIN_SIDE
    if length < shortest:
        raise TilerError(f"an image has at least {MIN_SIDE} px a side, got {length}")
