"""Boxes: `(N, 4)` float64, xyxy, absolute pixels, origin at the top left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import few

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

CELLS = 4_000_000  # comparisons held in memory at once by `pairs`


def area(boxes: Floats) -> Floats:
    """`(N,)` areas in px²; zero where a box has no extent.

    >>> area(np.array([[0, 0, 2, 3], [5, 5, 5, 9]], float))
    array([6., 0.])
    """
    extent = np.maximum(sides(boxes), 0.0)
    width, height = np.moveaxis(extent, -1, 0)
    return np.asarray(width * height)


def sides(boxes: Floats) -> Floats:
    """`(N, 2)` width and height.

    >>> sides(np.array([[1, 2, 4, 4.0]])).tolist()
    [[3.0, 2.0]]
    """
    return bottom_right(boxes) - top_left(boxes)


def top_left(boxes: Floats) -> Floats:
    """`(N, 2)` x and y of the corner where boxes begin; a view."""
    return boxes[..., :2]


def bottom_right(boxes: Floats) -> Floats:
    """`(N, 2)` x and y of the corner where boxes end; a view."""
    return boxes[..., 2:]


def intersection(boxes: Floats, others: Floats) -> Floats:
    """`(N, 4)` common part of each box with its partner (shapes broadcast).

    Boxes that do not meet give one whose right side lies left of its left side: its `area` is 0.

    >>> intersection(np.array([[0, 0, 4, 4.0]]), np.array([2, 1, 9, 9.0]))
    array([[2., 1., 4., 4.]])
    """
    start = np.maximum(top_left(boxes), top_left(others))
    end = np.minimum(bottom_right(boxes), bottom_right(others))
    return np.concatenate([start, end], axis=-1)


def common_area(boxes: Floats, others: Floats, i: Ints, j: Ints) -> Floats:
    """`(P,)` px² that boxes i share with others j: the area of their intersection.

    >>> boxes, others = np.array([[0, 0, 4, 4.0]]), np.array([[2, 1, 9, 9.0]])
    >>> common_area(boxes, others, np.array([0]), np.array([0])).tolist()
    [6.0]
    """
    # contiguous columns are looked up twice as fast
    x0, y0, x1, y1 = np.ascontiguousarray(boxes.T)
    other_x0, other_y0, other_x1, other_y1 = np.ascontiguousarray(others.T)
    width = np.minimum(x1[i], other_x1[j])
    width -= np.maximum(x0[i], other_x0[j])
    height = np.minimum(y1[i], other_y1[j])
    height -= np.maximum(y0[i], other_y0[j])
    return np.asarray(np.maximum(width, 0.0) * np.maximum(height, 0.0))


def inside(boxes: Floats, others: Floats) -> Bools:
    """`(N,)` True where a box lies wholly in its partner, edges included."""
    begin_inside = few.every(top_left(boxes) >= top_left(others))
    end_inside = few.every(bottom_right(boxes) <= bottom_right(others))
    return np.asarray(begin_inside & end_inside)


def corners(boxes: Floats) -> Floats:
    """`(N, 4, 2)` corners, clockwise from the top left.

    >>> corners(np.array([[0, 0, 4, 2.0]]))[0].tolist()
    [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]]
    """
    return boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def pairs(boxes: Floats, others: Floats) -> tuple[Ints, Ints]:
    """Indices `(i, j)` of every box and other whose common area is > 0, ordered by i, then j.

    Touching is not overlapping. Memory is bounded whatever the number of boxes.

    >>> i, j = pairs(np.array([[0, 0, 4, 4.0]]), np.array([[4, 0, 9, 9], [3, 3, 9, 9.0]]))
    >>> i.tolist(), j.tolist()
    ([0], [1])
    """
    step = max(1, CELLS // max(1, len(others)))
    portions = [np.empty((2, 0), np.int64)]
    for first in range(0, len(boxes), step):
        part = boxes[first : first + step, None]
        start = np.maximum(top_left(part), top_left(others))
        end = np.minimum(bottom_right(part), bottom_right(others))
        overlap = few.every(end > start)
        i, j = np.nonzero(overlap)
        portions.append(np.stack([i + first, j]))
    all_i, all_j = np.concatenate(portions, axis=1)
    return all_i, all_j


def to_cxcywh(boxes: Floats) -> Floats:
    """`(N, 4)` centre, width and height of xyxy boxes."""
    centre = (top_left(boxes) + bottom_right(boxes)) / 2
    return np.concatenate([centre, sides(boxes)], axis=-1)


def from_cxcywh(boxes: Floats) -> Floats:
    """`(N, 4)` xyxy of boxes given as centre, width and height.

    >>> from_cxcywh(np.array([[5, 5, 4, 2.0]]))
    array([[3., 4., 7., 6.]])
    """
    centre = boxes[..., :2]
    half = boxes[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def centres(boxes: Floats) -> Floats:
    """`(N, 2)` x and y of the centres of xyxy boxes.

    >>> centres(np.array([[0, 0, 4, 2.0]])).tolist()
    [[2.0, 1.0]]
    """
    return (top_left(boxes) + bottom_right(boxes)) / 2
