"""The exact outlines of pixels, along their edges."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import ragged
from tiler.geometry.columns import Columns
from tiler.geometry.overlay import united
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

# the outline of more rectangles is traced: to unite these takes a second, and grows
MANY = 20_000


def outline(mask: Bools) -> Rings:
    """One object's rings around the True pixels of a mask `(height, width)`; none around nothing.

    Pixel (x, y) covers x..x+1, y..y+1.

    >>> outline(np.array([[False, True], [False, True]])).bounds().tolist()
    [[1.0, 0.0, 2.0, 2.0]]
    """
    height, width = mask.shape
    padded = np.zeros(height * width + 2, bool)
    padded[1:-1] = mask.T.ravel()
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return around(edges[::2], edges[1::2], height)


def around(starts: Ints, ends: Ints, height: int) -> Rings:
    """One object's rings around runs of pixels, column by column.

    Args:
        starts, ends: `(R,)` numbers of the first pixel of each run, and one past the last; pixel
            (x, y) has the number x * height + y. Runs are not empty, and ascend.

    >>> around(np.array([0]), np.array([2]), 2).bounds().tolist()
    [[0.0, 0.0, 1.0, 2.0]]
    """
    rectangles = _rectangles(starts, ends, height)
    if not len(rectangles):
        return Rings.of([[]])
    if len(rectangles) > MANY:
        return _traced(rectangles)
    boxes = shapely.box(*rectangles.T)
    return Rings.from_geometry(united(boxes, np.zeros(1, np.int64)))


def _rectangles(starts: Ints, ends: Ints, height: int) -> Floats:
    """Runs as xyxy: the piece in the first column, the full columns, the piece in the last one."""
    first = starts // height
    last = (ends - 1) // height
    top = starts % height
    bottom = (ends - 1) % height + 1
    zero = np.zeros_like(first)
    full = np.full_like(first, height)
    one_column = first == last

    head_bottom = np.where(one_column, bottom, height)
    head = np.stack([first, top, first + 1, head_bottom], axis=1)
    body = np.stack([first + 1, zero, last, full], axis=1)
    tail = np.stack([last, zero, last + 1, bottom], axis=1)
    has_body = ~one_column & (last > first + 1)
    return np.concatenate([head, body[has_body], tail[~one_column]]).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _RectangleCorners(Columns):
    """Corners of rectangles.

    Attributes:
        x, y: `(N,)` px.
        bottom: `(N,)` whether it is a corner at the bottom of its rectangle.
        right: `(N,)` whether it is a corner on the right.
    """

    x: Floats
    y: Floats
    bottom: Bools
    right: Bools

    def __len__(self) -> int:
        return len(self.x)


def _traced(rectangles: Floats) -> Rings:
    """The rings around rectangles side by side, clockwise on the screen, as one object. Pieces
    touch in corners at most.

    The corners of the outline are those of the rectangles, except where one rectangle continues
    another at the same height. Between these corners, taken along a column and along a row, every
    second stretch is a side.
    """
    corners = _outline_corners(rectangles)
    path, sizes = _cycles(_following(corners))
    points = np.stack([corners.x, corners.y], axis=1)[path]
    return Rings(points, ragged.offsets(sizes), np.array([0, len(sizes)]))


def _outline_corners(rectangles: Floats) -> _RectangleCorners:
    """The corners of the outline, by x, then y."""
    x0, y0, x1, y1 = rectangles.T
    corners = _RectangleCorners(
        x=np.concatenate([x0, x0, x1, x1]),
        y=np.concatenate([y0, y1, y0, y1]),
        bottom=np.repeat([False, True, False, True], len(x0)),
        right=np.repeat([False, False, True, True], len(x0)),
    )
    # where two pieces touch, the upper one comes first
    corners = corners.take(np.lexsort((~corners.bottom, corners.y, corners.x)))
    x, y, bottom = corners.x, corners.y, corners.bottom
    same_point = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    continued = same_point & (bottom[1:] == bottom[:-1])
    first = np.append(continued, False)
    second = np.append(False, continued)
    return corners.take(~(first | second))


def _following(corners: _RectangleCorners) -> Ints:
    """For each corner the index of the next one around the outline."""
    following = np.empty(len(corners), np.int64)
    # sides down and up: two corners in turn are the ends of one
    upper = np.arange(0, len(corners), 2)
    lower = np.arange(1, len(corners), 2)
    down = corners.right[upper] != corners.bottom[upper]  # what is filled lies to the left
    following[np.where(down, upper, lower)] = np.where(down, lower, upper)
    # sides along a row
    by_row = np.lexsort((corners.x, corners.y, corners.bottom))
    left, right = by_row.reshape(-1, 2).T
    top = ~corners.bottom[left]
    following[np.where(top, left, right)] = np.where(top, right, left)
    return following


def _cycles(following: Ints) -> tuple[Ints, list[int]]:
    """The indices of a permutation cycle by cycle, and the lengths of the cycles."""
    left = following.tolist()
    path: list[int] = []
    sizes: list[int] = []
    for start in range(len(left)):
        before = len(path)
        at = start
        while left[at] >= 0:
            path.append(at)
            after = left[at]
            left[at] = -1
            at = after
        if len(path) > before:
            sizes.append(len(path) - before)
    return np.array(path, np.int64), sizes


# --- outlines through the centres of pixels, as OpenCV has them

# sides of a pixel: top, right, bottom, left, each followed clockwise, the pixel on its right
AHEAD = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])  # row and column of the pixel ahead
OUTSIDE = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])  # and of the one across the side


def contours(mask: Bools) -> list[Floats]:
    """The outer outlines of a mask `(height, width)` through the centres of its pixels, `(P, 2)`
    each: pixel (x, y) is the point (x, y), and pixels that touch in a corner are one piece.

    As `cv2.findContours` finds them with RETR_EXTERNAL and CHAIN_APPROX_SIMPLE, so that holes, and
    pieces within them, are left out.

    >>> contours(np.ones((2, 3), bool))[0].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]
    """
    padded = np.pad(mask, 1)
    pixels = np.argwhere(padded)
    across = pixels[:, None] + OUTSIDE
    open_ = ~padded[across[..., 0], across[..., 1]]
    which, side = np.nonzero(open_)
    pixel = pixels[which]
    path, sizes = _cycles(_next_sides(padded, pixel, side))
    offsets = ragged.offsets(sizes)
    outer = []
    for start, end in pairwise(offsets.tolist()):
        around = path[start:end]
        if _is_outer(pixel[around], side[around]):
            outer.append(around)
    extents = [_extent(pixel[around]) for around in outer]
    bounds = np.array(extents).reshape(-1, 4)
    kept = []
    for around, own in zip(outer, extents, strict=True):
        beyond = (bounds[:, :2] < own[:2]) & (bounds[:, 2:] > own[2:])
        others = [outer[k] for k in np.flatnonzero(beyond.all(axis=1))]
        if not any(_is_within(pixel[around[0]], pixel[other], side[other]) for other in others):
            kept.append(around)
    return [_corner_points(pixel[around]) for around in kept]


def _extent(pixels: Ints) -> Ints:
    """The first row and column of some pixels, and the last ones."""
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


def _next_sides(padded: Bools, pixel: Ints, side: Ints) -> Ints:
    """`(S,)` which side follows each: that of the pixel diagonally ahead, of the one ahead, or the
    next of the same pixel.
    """
    number = np.full((*padded.shape, 4), -1)
    number[pixel[:, 0], pixel[:, 1], side] = np.arange(len(side))
    ahead = pixel + AHEAD[side]
    diagonal = ahead + OUTSIDE[side]
    by_turn = number[pixel[:, 0], pixel[:, 1], (side + 1) % 4]
    by_line = number[ahead[:, 0], ahead[:, 1], side]
    by_corner = number[diagonal[:, 0], diagonal[:, 1], (side - 1) % 4]
    is_straight = padded[ahead[:, 0], ahead[:, 1]]
    is_corner = padded[diagonal[:, 0], diagonal[:, 1]]
    return np.where(is_corner, by_corner, np.where(is_straight, by_line, by_turn))


def _is_outer(pixel: Ints, side: Ints) -> bool:
    """Whether a cycle goes around what is filled, and not around a hole: its area is positive."""
    columns = pixel[:, 1]
    right = int((columns[side == 1] + 1).sum())
    left = int(columns[side == 3].sum())
    return right > left


def _is_within(place: Ints, pixel: Ints, side: Ints) -> bool:
    """Whether a pixel lies within a cycle, which is not its own: an odd number of upright sides are
    left of it.
    """
    row, column = place
    upright = (side == 1) | (side == 3)
    left_of_it = (pixel[:, 0] == row) & (pixel[:, 1] < column)
    return bool((upright & left_of_it).sum() % 2)


def _corner_points(pixels: Ints) -> Floats:
    """`(P, 2)` x and y of pixels along a cycle, where its direction changes."""
    moved = (pixels != np.roll(pixels, -1, axis=0)).any(axis=1)
    points = pixels[moved] if moved.any() else pixels[:1]
    step = np.roll(points, -1, axis=0) - points
    turns = (step != np.roll(step, 1, axis=0)).any(axis=1)
    if turns.any():
        points = points[turns]
    return np.asarray(points[:, ::-1] - 1, np.float64)
