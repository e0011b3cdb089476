"""Masks as COCO evaluates them: exactly the pixels of pycocotools' C code, for many objects.

The formulas are those of `common/maskApi.c` of cocoapi, in the order of its floating-point
operations (without fused multiply-add, as on x86-64), so that no pixel differs. C goes along an
outline point by point; here each column that an edge crosses is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import ragged
from tiler.geometry.columns import Columns

if TYPE_CHECKING:
    from tiler.geometry.polygons import Rings
    from tiler.types import Bools, Floats, Ints

MOST = 100_000_000  # columns of pixels that all outlines cross; each takes a run or more
STEP = 2_000_000  # crossings, or runs, held in memory at once
FINE = 5  # rleFrPoly draws an outline on a grid of fifths of a pixel,
MIDDLE = 2  # and a column of pixels begins or ends where the line leaves its third fifth
FURTHEST = 2**31 - 1  # fifths of a pixel; C's int ends here


@dataclass(frozen=True, slots=True, eq=False)
class Masks(Columns):
    """The pixels of N objects as runs, column by column as COCO has them, each in a frame of its
    own size.

    Attributes:
        starts: `(R,)` int64, number of the first pixel of each run; pixel (x, y) has the number
            x * height + y.
        ends: `(R,)` int64, one past the last. The runs of a mask are not empty, do not touch and
            ascend.
        offsets: `(N + 1,)` int64, mask i owns the runs `offsets[i]` to `offsets[i + 1]`.
        sizes: `(N, 2)` int64, width and height of each frame in pixels.

    >>> masks = Masks.of_counts([[1, 2, 6], [9]], np.array([[3, 3], [3, 3]]))
    >>> len(masks), masks.starts.tolist(), masks.ends.tolist()
    (2, [1], [3])
    """

    starts: Ints
    ends: Ints
    offsets: Ints
    sizes: Ints

    @classmethod
    def of_rings(cls, rings: Rings, sizes: Ints, united: bool = False) -> Masks:
        """The pixels of outlines, each ring drawn by `rleFrPoly`.

        Args:
            rings: N outlines in finite pixels of their frames. What lies outside the frame is cut
                off, whatever its size; only points beyond 2**31 / 5 px, where C's int overflows,
                are moved back to there.
            sizes: `(N, 2)` int64 width and height of the frames.
            united: the rings of an object are united, as COCO has it (`rleMerge`). Otherwise they
                are filled even-odd together.

        Raises:
            TilerError: together they are too wide for the memory.

        >>> from tiler.geometry.polygons import Rings
        >>> square = np.array([[0, 0], [5, 0], [5, 5], [0, 5]])
        >>> hole = np.array([[1, 1], [3, 1], [3, 3], [1, 3]])
        >>> rings, sizes = Rings.of([[square, hole]]), np.array([[9, 9]])
        >>> Masks.of_rings(rings, sizes).area().tolist()
        [21.0]
        >>> Masks.of_rings(rings, sizes, united=True).area().tolist()
        [25.0]
        """
        x0, _, x1, _ = rings.bounds().T
        width = sizes[:, 0]
        columns = np.clip(x1, 0, width) - np.clip(x0, 0, width)
        columns = np.nan_to_num(columns)
        if columns.sum() > MOST:
            raise TilerError(
                f"the outlines are {columns.sum():.3g} px wide together, too much to hold as masks "
                f"in memory, expected at most {MOST:.3g}"
            )
        crossings = (rings.point_counts() * (columns + 2)).astype(np.int64)
        drawn = [cls.of_counts([], np.empty((0, 2), np.int64))]
        for start, end in ragged.portions(crossings, STEP):
            portion = rings.take(np.arange(start, end))
            drawn.append(_drawn(portion, sizes[start:end], united))
        return concatenate(drawn)

    @classmethod
    def of_counts(cls, counts: Sequence[Sequence[int]], sizes: Ints) -> Masks:
        """From the run lengths of each mask, background first, which add up to the pixels of its
        `(N, 2)` frame.

        >>> Masks.of_counts([[0, 2, 2], [4]], np.array([[2, 2], [2, 2]])).area().tolist()
        [2.0, 0.0]
        """
        offsets = ragged.offsets(map(len, counts))
        lengths = np.fromiter(chain.from_iterable(counts), np.int64, offsets[-1])
        return cls.of_lengths(lengths, offsets, sizes)

    @classmethod
    def of_lengths(cls, lengths: Ints, offsets: Ints, sizes: Ints) -> Masks:
        """The same from one array: mask i has the run lengths `offsets[i]` to `offsets[i + 1]`.

        >>> lengths, sizes = np.array([0, 2, 2, 4]), np.array([[2, 2], [2, 2]])
        >>> Masks.of_lengths(lengths, np.array([0, 3, 4]), sizes).area().tolist()
        [2.0, 0.0]
        """
        owner = ragged.owners(offsets)
        first = offsets[:-1][owner]  # of the mask of each run
        edges = ragged.offsets(lengths)
        origin = edges[first]
        starts = edges[:-1] - origin
        ends = edges[1:] - origin
        of_object = (np.arange(len(lengths)) - first) % 2 == 1
        return _united(starts[of_object], ends[of_object], owner[of_object], sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, index: Ints | Bools) -> Masks:
        """The masks at the given indices, or where a mask of booleans is True.

        >>> masks = Masks.of_counts([[0, 2, 2], [4]], np.array([[2, 2], [4, 1]]))
        >>> masks.take(np.array([1])).sizes.tolist()
        [[4, 1]]
        """
        index = np.arange(len(self))[index]
        runs, counts = ragged.members(self.offsets, index)
        starts = self.starts[runs]
        ends = self.ends[runs]
        return Masks(starts, ends, ragged.offsets(counts), self.sizes[index])

    def area(self) -> Floats:
        """`(N,)` float64 number of pixels (`rleArea`).

        >>> Masks.of_counts([[0, 2, 2]], np.array([[2, 2]])).area().tolist()
        [2.0]
        """
        return _sums(self.ends - self.starts, self.offsets)

    def bounds(self) -> Floats:
        """`(N, 4)` float64 xyxy of the outer edges of the pixels, zeros for an empty mask.

        They are exact, and so are those of `rleToBbox`: a run over the end of a column does hold
        pixels of the top and of the bottom row.

        >>> Masks.of_counts([[1, 2, 1], [4]], np.array([[2, 2], [2, 2]])).bounds().tolist()
        [[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
        """
        result = np.zeros((len(self), 4))
        filled = np.diff(self.offsets) > 0
        if not filled.any():
            return result
        first = self.offsets[:-1][filled]
        last = self.offsets[1:][filled] - 1
        height = self.sizes[self.owners(), 1]
        last_pixel = self.ends - 1
        left = self.starts // height
        right = last_pixel // height
        one_column = left == right
        top = np.where(one_column, self.starts % height, 0)
        bottom = np.where(one_column, last_pixel % height + 1, height)
        result[filled, 0] = left[first]
        result[filled, 1] = np.minimum.reduceat(top, first)
        result[filled, 2] = right[last] + 1
        result[filled, 3] = np.maximum.reduceat(bottom, first)
        return result

    def counts(self) -> list[list[int]]:
        """The run lengths of each mask, background first, as COCO writes them.

        >>> Masks.of_counts([[1, 2, 1], [4]], np.array([[2, 2], [2, 2]])).counts()
        [[1, 2, 1], [4]]
        """
        result = []
        for i, (width, height) in enumerate(self.sizes.tolist()):
            runs = slice(self.offsets[i], self.offsets[i + 1])
            edges = np.stack([self.starts[runs], self.ends[runs]], axis=1).ravel()
            lengths = np.diff(edges, prepend=0, append=width * height).tolist()
            if lengths[-1] == 0 and len(lengths) > 1:
                lengths.pop()
            result.append(lengths)
        return result

    def owners(self) -> Ints:
        """`(R,)` the mask that each run belongs to."""
        return ragged.owners(self.offsets)


def concatenate(many: Iterable[Masks]) -> Masks:
    """The masks of all, in order.

    >>> one = Masks.of_counts([[0, 2, 2]], np.array([[2, 2]]))
    >>> concatenate([one, one]).area().tolist()
    [2.0, 2.0]
    """
    masks = list(many)
    none = np.empty(0, np.int64)
    starts = np.concatenate([none, *(m.starts for m in masks)])
    ends = np.concatenate([none, *(m.ends for m in masks)])
    sizes = np.concatenate([none.reshape(0, 2), *(m.sizes for m in masks)])
    return Masks(starts, ends, ragged.chained(m.offsets for m in masks), sizes)


def common(masks: Masks, others: Masks, i: Ints, j: Ints) -> Floats:
    """`(P,)` float64 number of pixels that mask `i[p]` and other mask `j[p]` share.

    `rleIou` is this number over the area of the union, or for a crowd over that of the detection.

    Raises:
        ValueError: two masks whose frames are of different size.

    >>> masks = Masks.of_counts([[0, 2, 2], [1, 2, 1]], np.array([[2, 2], [2, 2]]))
    >>> common(masks, masks, np.array([0, 0]), np.array([0, 1])).tolist()
    [2.0, 1.0]
    """
    if not np.array_equal(masks.sizes[i], others.sizes[j]):
        raise ValueError("masks in frames of different size share no pixels")
    base = _bases(others.sizes)
    runs = _NumberedRuns.of(others, base)
    result = np.zeros(len(i))
    counts = np.diff(masks.offsets)[i]
    for start, end in ragged.portions(counts, STEP):
        part = counts[start:end]
        run = ragged.spans(masks.offsets[i[start:end]], part)
        shift = np.repeat(base[j[start:end]], part)
        shared = runs.before(masks.ends[run] + shift)
        shared -= runs.before(masks.starts[run] + shift)
        result[start:end] = _sums(shared, ragged.offsets(part))
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _NumberedRuns:
    """The runs of all masks, with their pixels numbered through.

    Attributes:
        starts: `(R + 1,)` where each begins, ascending; an empty run before all comes first.
        lengths: `(R + 1,)` number of pixels.
        offsets: `(R + 2,)` number of pixels of all runs before each.
    """

    starts: Ints
    lengths: Ints
    offsets: Ints

    @classmethod
    def of(cls, masks: Masks, base: Ints) -> _NumberedRuns:
        origin = base[masks.owners()]
        starts = np.concatenate([[-1], masks.starts + origin])
        lengths = np.concatenate([[0], masks.ends - masks.starts])
        return cls(starts, lengths, ragged.offsets(lengths))

    def before(self, pixel: Ints) -> Ints:
        """How many pixels of the runs come before each pixel."""
        run = np.searchsorted(self.starts, pixel, "right") - 1
        in_run = np.minimum(pixel - self.starts[run], self.lengths[run])
        return np.asarray(self.offsets[run] + in_run)


def _drawn(rings: Rings, sizes: Ints, united: bool) -> Masks:
    """The masks of one portion of outlines.

    What is filled even-odd together is a layer: a ring if rings are united, else an object. Where
    the edges of a layer cross a column of pixels, they toggle between outside and inside.
    """
    ring_owner = ragged.owners(rings.offsets)
    if united:
        layer = np.arange(len(ring_owner))
        owner = ring_owner
    else:
        layer = ring_owner
        owner = np.arange(len(rings))
    layer = np.repeat(layer, np.diff(rings.ring_offsets))  # of each edge
    base = _bases(sizes[owner])
    edge, pixel = _crossings(_lines(rings), sizes[owner[layer]])
    toggles = np.sort(base[layer[edge]] + pixel)  # an even number in each column of a layer
    starts = toggles[0::2]
    ends = toggles[1::2]
    drawn = np.searchsorted(base, starts, "right") - 1
    origin = base[drawn]
    return _united(starts - origin, ends - origin, owner[drawn], sizes)


def _crossings(lines: Ints, frames: Ints) -> tuple[Ints, Ints]:
    """Where edges cross columns of pixels: `(C,)` which edge, and the first pixel that is below it.

    Args:
        lines: `(V, 4)` edges in fifths of a pixel.
        frames: `(V, 2)` width and height of the frame of each.
    """
    width, height = frames.T
    left, right = np.sort(lines[:, 0::2], axis=1).T
    # the columns that have left <= FINE * column + MIDDLE < right
    first = np.clip((left + MIDDLE) // FINE, 0, width)
    end = np.clip((right + MIDDLE) // FINE, 0, width)
    count = end - first
    edge = np.repeat(np.arange(len(lines)), count)
    column = ragged.spans(first, count)
    y = _leaving(lines[edge], FINE * column + MIDDLE)
    row = np.clip((y + MIDDLE) // FINE, 0, height[edge])
    return edge, column * height[edge] + row


def _lines(rings: Rings) -> Ints:
    """`(V, 4)` edges xs, ys, xe, ye in fifths of a pixel, from each point to the next one of its
    ring.

    They run to the right, or down if they are more steep than flat.
    """
    fifths = np.clip(FINE * rings.coords + 0.5, -FURTHEST, FURTHEST)
    points = np.trunc(fifths).astype(np.int64)
    line = np.concatenate([points, points[rings.following()]], axis=1)
    dx = line[:, 2] - line[:, 0]
    dy = line[:, 3] - line[:, 1]
    flat = np.abs(dx) >= np.abs(dy)
    back = np.where(flat, dx, dy) < 0
    line[back] = line[back][:, [2, 3, 0, 1]]
    return line


def _leaving(line: Ints, u: Ints) -> Ints:
    """`(C,)` the y at which a line goes from x = u to u + 1, or back: the upper of two points."""
    dx = line[:, 2] - line[:, 0]
    dy = np.abs(line[:, 3] - line[:, 1])
    flat = dx >= dy
    y = np.empty(len(u), np.int64)
    y[flat] = _leaving_flat(line[flat], u[flat])
    y[~flat] = _leaving_steep(line[~flat], u[~flat])
    return y


def _leaving_flat(line: Ints, u: Ints) -> Floats:
    xs, ys, xe, ye = line.T
    slope = (ye - ys) / (xe - xs)
    t = u - xs
    here = ys + slope * t + 0.5
    there = ys + slope * (t + 1) + 0.5
    return np.asarray(np.minimum(here, there))


def _leaving_steep(line: Ints, u: Ints) -> Floats:
    xs, ys, xe, ye = line.T
    slope = (xe - xs) / (ye - ys)
    limit = u + 1
    # the first t at which the line has left: solved, and put right where rounding moves it by one
    t = np.ceil((limit - 0.5 - xs) / slope)
    t = np.clip(t, 1, ye - ys)
    rightwards = slope > 0
    left_before = (xs + slope * (t - 1) + 0.5 >= limit) == rightwards
    left = (xs + slope * t + 0.5 >= limit) == rightwards
    return np.asarray(ys + t - 2 + ~left_before + ~left)


def _united(starts: Ints, ends: Ints, owner: Ints, sizes: Ints) -> Masks:
    """Masks of runs in any order, that may be empty, touch or overlap (`rleMerge`)."""
    base = _bases(sizes)
    filled = ends > starts
    owner = owner[filled]
    origin = base[owner]
    starts = starts[filled] + origin
    ends = ends[filled] + origin
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    ends = np.maximum.accumulate(ends[order])
    owner = owner[order]
    # between which runs there is a gap; so it is before the first and after the last
    apart = np.ones(len(starts) + 1, bool)
    apart[1:-1] = starts[1:] > ends[:-1]
    first = np.flatnonzero(apart[:-1])
    last = np.flatnonzero(apart[1:])
    owner = owner[first]
    counts = np.bincount(owner, minlength=len(sizes))
    origin = base[owner]
    starts = starts[first] - origin
    ends = ends[last] - origin
    return Masks(starts, ends, ragged.offsets(counts), sizes)


def _bases(sizes: Ints) -> Ints:
    """`(N,)` where the pixels of each frame begin when all are numbered through, one number left
    out between frames.
    """
    return np.asarray(ragged.offsets(sizes.prod(axis=1) + 1)[:-1])


def _sums(values: Ints, offsets: Ints) -> Floats:
    """`(N,)` float64 sum of each group of values."""
    total = ragged.offsets(values)
    at_start = total[offsets[:-1]]
    at_end = total[offsets[1:]]
    return np.asarray(at_end - at_start, np.float64)
