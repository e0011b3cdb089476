"""Masks as COCO evaluates them: the same pixels as pycocotools' C code draws, for many objects at
once.

The formulas are those of `common/maskApi.c` of cocoapi, in the order of its floating-point
operations (without fused multiply-add, as on x86-64), so that no pixel differs. What C does
point by point along an outline is here done once for each column that an edge crosses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

MOST = 100_000_000  # columns of pixels that outlines cross all together; each takes a run or more
STEP = 2_000_000  # crossings, or runs, held in memory at once
FINE = 5  # rleFrPoly draws an outline on a grid of fifths of a pixel,
MIDDLE = 2  # and a column of pixels begins or ends where the line leaves its third fifth
FURTHEST = 2**31 - 1  # fifths of a pixel; C's int ends here


@dataclass(frozen=True, slots=True, eq=False)
class Masks(Columns):
    """The pixels of N objects as runs, column by column as COCO has them, each in a frame of its
    own size.

    Attributes:
        starts: `(R,)` int64, number of the first pixel of each run; that of pixel (x, y) is x *
            height + y.
        ends: `(R,)` int64, one past the last. The runs of a mask are not empty and do not touch,
            and ascend.
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
                off, whatever its size; only beyond 2**31 / 5 px, where C's int overflows, are
                points moved back to there.
            sizes: `(N, 2)` int64 width and height of the frames.
            united: what is in any ring of an object belongs to it, as COCO has it (`rleMerge`).
                Otherwise the rings are filled even-odd together.

        Raises:
            TilerError: they are wider, all together, than memory is good for.

        >>> from tiler.geometry.polygons import Rings
        >>> square, hole = np.array([[0, 0], [5, 0], [5, 5], [0, 5]]), np.array([[1, 1], [3, 1], [3, 3], [1, 3]])
        >>> rings, sizes = Rings.of([[square, hole]]), np.array([[9, 9]])
        >>> Masks.of_rings(rings, sizes).area().tolist(), Masks.of_rings(rings, sizes, united=True).area().tolist()
        ([21.0], [25.0])
        """
        x0, _, x1, _ = rings.bounds().T
        columns = np.nan_to_num(np.clip(x1, 0, sizes[:, 0]) - np.clip(x0, 0, sizes[:, 0]))
        if columns.sum() > MOST:
            raise TilerError(
                f"outlines of {columns.sum():.3g} px width together are more than memory is good "
                "for as masks"
            )
        points = np.diff(rings.ring_offsets[rings.offsets])
        portions = _portions((points * (columns + 2)).astype(np.int64))
        empty = cls.of_counts([], np.empty((0, 2), np.int64))
        return concatenate(
            [empty, *(_drawn(rings.take(np.arange(a, b)), sizes[a:b], united) for a, b in portions)]
        )

    @classmethod
    def of_counts(cls, counts: Sequence[Sequence[int]], sizes: Ints) -> Masks:
        """From the run lengths of each mask, background first, which add up to the pixels of its
        `(N, 2)` frame.

        >>> Masks.of_counts([[0, 2, 2], [4]], np.array([[2, 2], [2, 2]])).area().tolist()
        [2.0, 0.0]
        """
        numbers = ragged.offsets([len(runs) for runs in counts])
        return cls.of_lengths(
            np.fromiter(chain.from_iterable(counts), np.int64, numbers[-1]), numbers, sizes
        )

    @classmethod
    def of_lengths(cls, lengths: Ints, numbers: Ints, sizes: Ints) -> Masks:
        """The same from one array: the run lengths of mask i are `lengths[numbers[i]:numbers[i +
        1]]`.

        >>> Masks.of_lengths(np.array([0, 2, 2, 4]), np.array([0, 3, 4]), np.array([[2, 2], [2, 2]])).area().tolist()
        [2.0, 0.0]
        """
        owner = np.repeat(np.arange(len(sizes)), np.diff(numbers))
        edges = ragged.offsets(lengths)
        first = edges[numbers[:-1]][owner]
        is_object = (np.arange(len(lengths)) - numbers[:-1][owner]) % 2 == 1
        starts, ends = edges[:-1] - first, edges[1:] - first
        return _united(starts[is_object], ends[is_object], owner[is_object], sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, index: Ints | Bools) -> Masks:
        """The masks at the given indices, or where a mask of booleans is True.

        >>> Masks.of_counts([[0, 2, 2], [4]], np.array([[2, 2], [4, 1]])).take(np.array([1])).sizes.tolist()
        [[4, 1]]
        """
        index = np.arange(len(self))[index]
        counts = self.offsets[index + 1] - self.offsets[index]
        runs = ragged.spans(self.offsets[index], counts)
        return Masks(self.starts[runs], self.ends[runs], ragged.offsets(counts), self.sizes[index])

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
        if filled.any():
            height = self.sizes[self._owners(), 1]
            left, right = self.starts // height, (self.ends - 1) // height
            one = left == right
            top = np.where(one, self.starts % height, 0)
            bottom = np.where(one, (self.ends - 1) % height + 1, height)
            first = self.offsets[:-1][filled]
            last = self.offsets[1:][filled] - 1
            low, high = np.minimum.reduceat(top, first), np.maximum.reduceat(bottom, first)
            result[filled] = np.stack([left[first], low, right[last] + 1, high], axis=1)
        return result

    def _owners(self) -> Ints:
        """`(R,)` the mask that each run belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


def concatenate(many: Iterable[Masks]) -> Masks:
    """The masks of all, in order.

    >>> one = Masks.of_counts([[0, 2, 2]], np.array([[2, 2]]))
    >>> concatenate([one, one]).area().tolist()
    [2.0, 2.0]
    """
    parts = list(many)
    none = np.empty(0, np.int64)
    return Masks(
        np.concatenate([none, *(m.starts for m in parts)]),
        np.concatenate([none, *(m.ends for m in parts)]),
        ragged.offsets(np.concatenate([none, *(np.diff(m.offsets) for m in parts)])),
        np.concatenate([none.reshape(0, 2), *(m.sizes for m in parts)]),
    )


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
    base = _bases(others.sizes)  # numbers the pixels of all the others through
    starts = np.concatenate([[-1], others.starts + base[others._owners()]])
    lengths = np.concatenate([[0], others.ends - others.starts])
    before = ragged.offsets(lengths)

    def covered(pixel: Ints) -> Ints:
        """How many pixels of all the others come before."""
        run = np.searchsorted(starts, pixel, "right") - 1
        return np.asarray(before[run] + np.minimum(pixel - starts[run], lengths[run]))

    result = np.zeros(len(i))
    counts = np.diff(masks.offsets)[i]
    for a, b in _portions(counts):
        runs = ragged.spans(masks.offsets[i[a:b]], counts[a:b])
        shift = np.repeat(base[j[a:b]], counts[a:b])
        shared = covered(masks.ends[runs] + shift) - covered(masks.starts[runs] + shift)
        result[a:b] = _sums(shared, ragged.offsets(counts[a:b]))
    return result


def _drawn(rings: Rings, sizes: Ints, united: bool) -> Masks:
    """The masks of one portion of outlines."""
    owner = np.repeat(np.arange(len(rings)), np.diff(rings.offsets))  # of each ring
    # of each ring: what is filled even-odd together
    group = np.arange(len(owner)) if united else owner
    whose = owner if united else np.arange(len(rings))  # of each group: the object
    group = np.repeat(group, np.diff(rings.ring_offsets))
    line = _lines(rings)
    width, height = sizes[whose[group]].T
    left, right = np.sort(line[:, 0::2], axis=1).T
    # the columns k that have left <= FINE * k + MIDDLE < right
    first, end = (np.clip((x + MIDDLE) // FINE, 0, width) for x in (left, right))
    edge = np.repeat(np.arange(len(line)), end - first)
    k = ragged.spans(first, end - first)
    row = np.clip((_leaving(line[edge], FINE * k + MIDDLE) + MIDDLE) // FINE, 0, height[edge])
    base = _bases(sizes[whose])
    # in each column of each ring, an even number
    toggles = np.sort(base[group[edge]] + k * height[edge] + row)
    starts, ends = toggles[0::2], toggles[1::2]
    of = np.searchsorted(base, starts, "right") - 1
    return _united(starts - base[of], ends - base[of], whose[of], sizes)


def _lines(rings: Rings) -> Ints:
    """`(V, 4)` edges xs, ys, xe, ye in fifths of a pixel, from each point to the next one of its
    ring.

    They run to the right, or down if they are more steep than flat.
    """
    points = np.trunc(np.clip(FINE * rings.coords + 0.5, -FURTHEST, FURTHEST)).astype(np.int64)
    line = np.concatenate([points, points[rings.following()]], axis=1)
    dx = line[:, 2] - line[:, 0]
    dy = line[:, 3] - line[:, 1]
    back = np.where(np.abs(dx) >= np.abs(dy), dx, dy) < 0
    line[back] = line[back][:, [2, 3, 0, 1]]
    return line


def _leaving(line: Ints, u: Ints) -> Ints:
    """`(C,)` the upper of the two points of a line between which its x goes from u to u + 1, or
    back.
    """
    flat = line[:, 2] - line[:, 0] >= np.abs(line[:, 3] - line[:, 1])
    v = np.empty(len(u), np.int64)
    xs, ys, xe, ye = line[flat].T
    slope, t = (ye - ys) / (xe - xs), u[flat] - xs
    # cut to whole numbers as in C
    v[flat] = np.minimum(ys + slope * t + 0.5, ys + slope * (t + 1) + 0.5)
    xs, ys, xe, ye = line[~flat].T
    slope, limit = (xe - xs) / (ye - ys), u[~flat] + 1

    def gone(t: Floats) -> Bools:
        return np.asarray((xs + slope * t + 0.5 >= limit) == (slope > 0))

    # the first t that is gone: solved, and put right where rounding moves it by one
    t = np.clip(np.ceil((limit - 0.5 - xs) / slope), 1, ye - ys)
    v[~flat] = ys + t - 2 + ~gone(t - 1) + ~gone(t)
    return v


def _united(starts: Ints, ends: Ints, owner: Ints, sizes: Ints) -> Masks:
    """Masks of runs in any order, that may be empty or touch or overlap (`rleMerge`)."""
    some = ends > starts
    base = _bases(sizes)
    shift = base[owner[some]]
    starts, ends, owner = starts[some] + shift, ends[some] + shift, owner[some]
    order = np.argsort(starts, kind="stable")
    starts, ends, owner = starts[order], np.maximum.accumulate(ends[order]), owner[order]
    # whether a run begins at this one, and the one before ends
    apart = np.ones(len(starts) + 1, bool)
    apart[1:-1] = starts[1:] > ends[:-1]
    first, last = np.flatnonzero(apart[:-1]), np.flatnonzero(apart[1:])
    shift = base[owner[first]]
    counts = np.bincount(owner[first], minlength=len(sizes))
    return Masks(starts[first] - shift, ends[last] - shift, ragged.offsets(counts), sizes)


def _bases(sizes: Ints) -> Ints:
    """`(N,)` where the pixels of each frame begin if all are numbered through, with a gap of one
    between frames.
    """
    return np.asarray(ragged.offsets(sizes.prod(axis=1) + 1)[:-1])


def _sums(values: Ints, offsets: Ints) -> Floats:
    """`(N,)` float64 sum of each group of values."""
    total = ragged.offsets(values)
    return np.asarray(total[offsets[1:]] - total[offsets[:-1]], np.float64)


def _portions(costs: Ints) -> Iterator[tuple[int, int]]:
    """From and to, over all items in order, each portion costing STEP at most if it is not a single
    item.
    """
    total, a = ragged.offsets(costs), 0
    while a < len(costs):
        b = max(a + 1, int(np.searchsorted(total, total[a] + STEP, "right")) - 1)
        yield a, b
        a = b
