"""Areas that one shape has in common with many, from their sides alone.

GEOS takes 10 to 100 microseconds for the intersection of two outlines; a crowd of 2000 has
two million pairs. Whether a point lies in a shape is a sum over the sides above it, +1 for
an upper and -1 for a lower side. So the common area of two shapes is a sum over pairs of
sides of what lies below both, and since as many sides are upper as lower at any x, of
half the area between them: no intersection is built, and a row of shapes is one
array. It is the same area but for rounding, some 1e-12 of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Floats, Objects


class Sides:
    """The sides of valid areas.

    >>> squares = shapely.box([0, 2, 9], 0, [4, 6, 12], 4)
    >>> Sides(squares).common(0).tolist()
    [16.0, 8.0, 0.0]
    """

    def __init__(self, shapes: Objects) -> None:
        polygons, shape = shapely.get_parts(shapes, return_index=True)
        rings, polygon = shapely.get_rings(polygons, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        along = ring[1:] == ring[:-1]
        start = points[:-1][along]
        end = points[1:][along]
        of_ring = ring[:-1][along]
        outer = np.diff(polygon, prepend=-1) != 0
        turn = np.bincount(of_ring, start[:, 0] * end[:, 1] - end[:, 0] * start[:, 1], len(rings))
        # an upper side of an outer ring that runs anticlockwise leads to the left
        sign = np.sign(start[:, 0] - end[:, 0]) * np.where((turn > 0) == outer, 1.0, -1.0)[of_ring]
        forth = start[:, 0] < end[:, 0]
        low = np.where(forth[:, None], start, end)
        high = np.where(forth[:, None], end, start)
        kept = np.flatnonzero(sign != 0)
        order = kept[np.argsort(low[kept, 0], kind="stable")]
        low, high = low[order], high[order]
        self.count = len(shapes)
        self.owner, self.sign = shape[polygon[of_ring]][order], sign[order]
        self.x = low[:, 0].copy()
        self.y = low[:, 1].copy()
        self.end = high[:, 0].copy()
        self.slope = (high[:, 1] - low[:, 1]) / (high[:, 0] - low[:, 0])
        self.widest = float((self.end - self.x).max(initial=0.0))
        self._own = np.argsort(self.owner, kind="stable")
        self._begin = np.searchsorted(self.owner[self._own], np.arange(self.count + 1))

    def common(self, k: int, of: Sides | None = None) -> Floats:
        """`(N,)` px² that each shape shares with shape k of these, or of others."""
        of = self if of is None else of
        result = np.zeros(self.count)
        for side in of._own[of._begin[k] : of._begin[k + 1]].tolist():
            start, end, y, slope, sign = (
                float(c[side]) for c in (of.x, of.end, of.y, of.slope, of.sign)
            )
            others = slice(*np.searchsorted(self.x, [start - self.widest, end]).tolist())
            area = self._between(others, start, end, y, slope)
            area *= self.sign[others]
            result -= np.bincount(self.owner[others], area, self.count) * (sign / 2)
        return np.maximum(result, 0.0)

    def _between(self, others: slice, x: float, x_end: float, y: float, slope: float) -> Floats:
        """The area between others and a side from (x, y) on, where they lie above each other."""
        start, slopes = self.x[others], self.slope[others]
        low = np.maximum(start, x)
        wide = np.minimum(self.end[others], x_end)
        wide -= low
        np.maximum(wide, 0.0, out=wide)
        left = (low - x) * slope
        left += y
        left -= self.y[others]
        low -= start
        low *= slopes
        left -= low
        right = wide * (slope - slopes)
        right += left
        crossing = left * right < 0
        np.abs(left, out=left)
        np.abs(right, out=right)
        between = left + right
        cross = np.flatnonzero(crossing)  # few: two triangles, not a trapezium
        one, other = left[cross], right[cross]
        between[cross] = (one * one + other * other) / between[cross]
        between *= wide
        between /= 2
        return np.asarray(between)
