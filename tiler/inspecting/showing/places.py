"""Where to look closer: the densest windows of an image, and how much they are enlarged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.window import Window

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

LEGIBLE = 32  # px on the screen that an object should have
CLOSEST = 4  # times enlarged
PARTS = 4  # cells across a window
LEAST = 2  # objects of a window, but for the first
TRIES = 20  # for each window that is wanted
CELLS = 1 << 22  # at most; of a huge image they are larger


def side_of(area: Floats, percent: float) -> float:
    """The side (root of the area) that a part of some objects does not exceed, px.

    >>> side_of(np.array([100.0, 36.0]), 50)
    6.0
    """
    if not len(area):
        return math.inf
    return float(np.percentile(np.sqrt(area), percent, method="inverted_cdf"))


def zoom_for(side: float) -> int:
    """How many times objects of a side are enlarged.

    >>> zoom_for(100.0), zoom_for(16.0), zoom_for(2.0)
    (1, 2, 4)
    """
    return int(np.clip(math.ceil(LEGIBLE / max(side, 1)), 1, CLOSEST))


def densest(boxes: Floats, size: tuple[int, int], side: int, count: int) -> list[Window]:
    """Windows with the most objects (by their middle), none of which meets another; the first is
    the densest, and others have at least a quarter of its objects, and two. Of equals, the upper
    one and then the left one comes first.

    Args:
        boxes: `(N, 4)` in an image of this width and height.
        side: of a window, px; less where the image is smaller.

    >>> boxes = np.array([[80, 80, 90, 90], [84, 90, 94, 100], [10, 10, 20, 20.0]])
    >>> densest(boxes, (100, 100), 30, 2)
    [Window(x=70, y=70, width=30, height=30)]
    """
    cell = max(side / PARTS, math.sqrt(size[0] * size[1] / CELLS))
    middles = box.centres(boxes)
    windows: list[Window] = []
    least = 0.0
    for _ in range(TRIES * count):
        if not len(middles) or len(windows) == count:
            break
        inside = _fullest(middles, size, cell)
        lowest = middles[inside].min(axis=0)
        highest = middles[inside].max(axis=0)
        window = _window_at((lowest + highest) / 2, size, side)
        if not any(window.intersection(other) for other in windows):
            there = _within(middles, window)
            if there.sum() < least:
                break
            if not windows:
                least = max(LEAST, there.sum() / 4)
            windows.append(window)
            inside |= there
        middles = middles[~inside]
    return windows


def _within(middles: Floats, window: Window) -> Bools:
    """`(N,)` whether a point lies in a window."""
    bounds = window.bounds
    return np.asarray(((middles >= bounds[:2]) & (middles < bounds[2:])).all(axis=1))


def _fullest(middles: Floats, size: tuple[int, int], cell: float) -> Bools:
    """`(N,)` True for the objects in the square of cells that has most of them."""
    columns = int(size[0] // cell) + 1
    rows = int(size[1] // cell) + 1
    at = np.clip((middles // cell).astype(np.int64), 0, [columns - 1, rows - 1])
    counts = np.bincount(at[:, 1] * columns + at[:, 0], minlength=rows * columns)
    sums = _square_sums(counts.reshape(rows, columns))
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    corner = np.array([left, top])
    return np.asarray(((at >= corner) & (at < corner + PARTS)).all(axis=1))


def _square_sums(counts: Ints) -> Ints:
    """The sum of each square of `PARTS` cells, by its upper left cell; less at the borders."""
    rows, columns = counts.shape
    total = np.zeros((rows + PARTS, columns + PARTS), np.int64)
    total[1 : rows + 1, 1 : columns + 1] = counts.cumsum(axis=0).cumsum(axis=1)
    total[rows + 1 :] = total[rows]
    total[:, columns + 1 :] = total[:, columns : columns + 1]
    upper, lower = total[:rows], total[PARTS:]
    left, right = slice(0, columns), slice(PARTS, PARTS + columns)
    return lower[:, right] - lower[:, left] - upper[:, right] + upper[:, left]


def _window_at(middle: Floats, size: tuple[int, int], side: int) -> Window:
    """A window around a point, inside the image."""
    width = min(side, size[0])
    height = min(side, size[1])
    corner = np.rint(middle - np.array([width, height]) / 2)
    x, y = np.clip(corner, 0, np.array(size) - (width, height)).astype(int).tolist()
    return Window(x, y, width, height)
