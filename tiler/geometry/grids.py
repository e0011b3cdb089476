"""Grids: where the windows go.

Every grid covers every pixel, has no window twice, and neighbours share at least the
overlap that was asked for. No window is smaller than 10 px, which trainers reject.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.geometry.window import Window

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

Edge = Literal["shift", "pad", "trim", "balance"]

MIN_SIDE = 10  # px; the trainer drops smaller images


def grid(
    width: int,
    height: int,
    tile: int | tuple[int, int] = 640,
    overlap: float = 0.2,
    edge: Edge = "shift",
) -> list[Window]:
    """The windows of an image, row by row.

    Args:
        width, height: of the image, px.
        tile: one side, or width and height, px.
        overlap: a fraction of the tile's side (< 1), rounded up to whole pixels, or pixels (>= 1).
        edge: what happens at the right and bottom border. `shift`: the last window moves
            inward, so that it is full-size; `balance`: all windows spread evenly, the
            overlap is the least; `trim`: the last window ends at the border; `pad`: it
            reaches past it. An image smaller than the tile gives one window of its own
            size (with `pad`: of the tile's size).

    Raises:
        TilerError: sizes under 10 px, or an overlap that leaves no stride.

    >>> [(w.x, w.width) for w in grid(1500, 640, tile=640, overlap=128)]
    [(0, 640), (512, 640), (860, 640)]
    """
    if not isinstance(tile, tuple):
        tile = (tile, tile)
    tile_width, tile_height = tile
    columns = spans(width, tile_width, overlap_px(overlap, tile_width), edge)
    rows = spans(height, tile_height, overlap_px(overlap, tile_height), edge)
    windows = []
    for y, h in rows:
        windows += [Window(x, y, w, h) for x, w in columns]
    return windows


def overlap_px(overlap: float, tile: int) -> int:
    """Whole pixels of an overlap given as a fraction (< 1) or as pixels; never less than asked.

    >>> overlap_px(0.29, 100), overlap_px(128, 640)
    (29, 128)
    """
    if not (math.isfinite(overlap) and overlap >= 0):
        raise TilerError(f"the overlap is 0 or more, got {overlap!r}")
    pixels = overlap * tile if overlap < 1 else overlap
    whole = math.ceil(pixels - 1e-6)  # 0.29 * 100 is 28.999999999999996
    if whole >= tile:
        raise TilerError(f"an overlap of {whole} px leaves no stride in a tile of {tile} px")
    return whole


def spans(length: int, tile: int, overlap: int, edge: Edge) -> list[tuple[int, int]]:
    """Start and size of the windows along one axis of `length` px.

    >>> spans(645, 640, 128, "balance"), spans(645, 640, 0, "trim")
    ([(0, 640), (5, 640)], [(0, 640), (635, 10)])
    """
    _check(length, tile, edge)
    if length <= tile:
        return [(0, tile)] if edge == "pad" else [(0, length)]
    starts = _starts(length, tile, overlap, edge).astype(np.int64).tolist()
    if edge == "trim":  # the last one ends at the border, but is no sliver
        starts[-1] = min(starts[-1], length - MIN_SIDE)
        return [(start, min(tile, length - start)) for start in starts]
    return [(start, tile) for start in starts]


def _starts(length: int, tile: int, overlap: int, edge: Edge) -> Ints | Floats:
    """Where the windows start, on an axis that is longer than one of them."""
    stride = tile - overlap
    count = math.ceil((length - overlap) / stride)
    if edge == "balance":
        evenly = np.arange(count) * (length - tile) / (count - 1)
        return np.floor(evenly + 0.5)
    starts = np.arange(count) * stride
    if edge == "shift":
        starts = np.minimum(starts, length - tile)
    return starts


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
