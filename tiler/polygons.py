"""Outlines: ragged rings of absolute pixel coordinates, filled by the even-odd rule.

Even-odd is what rasterisers of training masks do (`cv2.fillPoly`), and it makes parts,
holes and key-holes one thing: an object is a set of rings. shapely does the geometry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler import ragged
from tiler.lazy import shapely
from tiler.neighbours import neighbours

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Objects

CELLS = 2_000_000  # distances held in memory at once
MANY = 256  # rings of one object
TOUCH = 1e-9  # px
POLYGON = 3  # shapely's type id


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """The outlines of N objects; each has any number of rings, filled even-odd together.

    Attributes:
        coords: `(V, 2)` float64, x and y in pixels; a ring's first point is not repeated.
        ring_offsets: `(R + 1,)` int64, ring r is `coords[ring_offsets[r]:ring_offsets[r + 1]]`.
        offsets: `(N + 1,)` int64, object i owns the rings `offsets[i]` to `offsets[i + 1]`.

    >>> rings = Rings.of([[np.array([[0, 0], [4, 0], [4, 4.0]])], []])
    >>> len(rings), rings.bounds()[0].tolist()
    (2, [0.0, 0.0, 4.0, 4.0])
    """

    coords: Floats
    ring_offsets: Ints
    offsets: Ints

    @classmethod
    def of(cls, objects: Sequence[Sequence[Floats]]) -> Rings:
        """From a list of rings for each object."""
        rings = [ring for obj in objects for ring in obj]
        return cls(
            np.concatenate([np.empty((0, 2)), *(np.asarray(r, np.float64).reshape(-1, 2) for r in rings)]),
            ragged.offsets([len(ring) for ring in rings]),
            ragged.offsets([len(obj) for obj in objects]),
        )

    @classmethod
    def from_quads(cls, quads: Floats) -> Rings:
        """From `(N, 4, 2)` corners, one ring each."""
        n = len(quads)
        return cls(quads.reshape(-1, 2), np.arange(n + 1) * 4, np.arange(n + 1))

    @classmethod
    def from_geometry(cls, geometry: Objects) -> Rings:
        """From `(N,)` shapely geometries; what is not an area is left out."""
        polygons, owner = shapely.get_parts(geometry, return_index=True)
        nested = shapely.get_type_id(polygons) > POLYGON
        if nested.any():  # a collection may hold multi-polygons
            inner, which = shapely.get_parts(polygons, return_index=True)
            polygons, owner = inner, owner[which]
        areal = shapely.get_type_id(polygons) == POLYGON
        polygons, owner = polygons[areal], owner[areal]
        rings, polygon = shapely.get_rings(polygons, return_index=True)
        coords, ring = shapely.get_coordinates(rings, return_index=True)
        last = np.ones(len(coords), bool)
        last[:-1] = ring[1:] != ring[:-1]
        coords, ring = coords[~last], ring[~last]
        return cls(
            coords,
            ragged.offsets(np.bincount(ring, minlength=len(rings))),
            ragged.offsets(np.bincount(owner[polygon], minlength=len(geometry))),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> list[Floats]:
        """The rings of object i."""
        at = self.ring_offsets[self.offsets[i] : self.offsets[i + 1] + 1]
        return [self.coords[a:b] for a, b in pairwise(at)]

    def take(self, index: Ints | Bools) -> Rings:
        """The outlines at the given indices, or where a mask is True."""
        index = np.arange(len(self))[index]
        rings, counts = _expand(self.offsets, index)
        points, sizes = _expand(self.ring_offsets, rings)
        return Rings(self.coords[points], ragged.offsets(sizes), ragged.offsets(counts))

    def put(self, index: Ints, other: Rings) -> Rings:
        """A copy in which the outlines at `index` are those of `other`."""
        both = concatenate([self, other])
        order = np.arange(len(self))
        order[index] = len(self) + np.arange(len(other))
        return both.take(order)

    def moved(self, dx: float | Floats, dy: float | Floats) -> Rings:
        """Shifted by a number, or by one number for each object."""
        shift = np.stack(np.broadcast_arrays(dx, dy, np.empty(len(self)))[:2], axis=-1)
        return Rings(self.coords + shift[self.owners()], self.ring_offsets, self.offsets)

    def owners(self) -> Ints:
        """`(V,)` the object that each point belongs to."""
        ring = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return np.repeat(ring, np.diff(self.ring_offsets))

    def bounds(self) -> Floats:
        """`(N, 4)` xyxy; NaN for an object without points."""
        return self.extent(self.coords)

    def extent(self, values: Floats) -> Floats:
        """`(N, 4)` smallest and largest of two values that are given for each point."""
        result = np.full((len(self), 4), np.nan)
        points = np.bincount(self.owners(), minlength=len(self))
        filled = points > 0
        if filled.any():
            starts = ragged.offsets(points)[:-1][filled]
            result[filled, :2] = np.minimum.reduceat(values, starts)
            result[filled, 2:] = np.maximum.reduceat(values, starts)
        return result

    def quads(self) -> Floats:
        """`(N, 4, 2)` corners; every object must be one ring of four points."""
        return self.coords.reshape(-1, 4, 2)

    def geometry(self) -> Objects:
        """`(N,)` valid shapely areas, filled even-odd."""
        ring = np.repeat(np.arange(len(self.ring_offsets) - 1), np.diff(self.ring_offsets))
        usable = np.diff(self.ring_offsets) >= 3
        areas = np.full(len(usable), shapely.Polygon(), dtype=object)
        if usable.any():
            keep = usable[ring]
            dense = np.cumsum(usable)[ring[keep]] - 1
            areas[usable] = filled(shapely.polygons(shapely.linearrings(self.coords[keep], indices=dense)))
        single = np.diff(self.offsets) == 1
        result = np.full(len(self), shapely.Polygon(), dtype=object)
        result[single] = areas[self.offsets[:-1][single]]
        for i in np.flatnonzero(~single):
            parts = areas[self.offsets[i] : self.offsets[i + 1]]
            result[i] = _together(parts) if len(parts) > MANY else reduce(shapely.symmetric_difference, parts, shapely.Polygon())
        return result


def _together(parts: Objects) -> shapely.Geometry:
    """The even-odd area of many rings: those that meet others are joined two by two, since one by one takes long."""
    alone = _alone(shapely.bounds(parts))
    meeting, apart = parts[~alone], parts[alone]
    while len(meeting) > 1:
        odd = meeting[len(meeting) // 2 * 2 :]
        meeting = np.concatenate([shapely.symmetric_difference(meeting[0:-1:2], meeting[1::2]), odd])
    polygons = shapely.get_parts(np.concatenate([meeting, apart]))
    return shapely.multipolygons(polygons[shapely.get_type_id(polygons) == POLYGON])


def _alone(bounds: Floats) -> Bools:
    """`(N,)` the rings whose bounds meet those of others in a corner at most."""
    result = np.asarray(~np.isnan(bounds).any(axis=1))
    some = np.flatnonzero(result)
    for a, b in neighbours(bounds[some], reach=TOUCH):
        i, j = some[a], some[b]
        gap = np.maximum(bounds[i, :2], bounds[j, :2]) - np.minimum(bounds[i, 2:], bounds[j, 2:])
        meet = (gap <= 0).all(axis=1) & (gap < 0).any(axis=1)
        result[i[meet]] = result[j[meet]] = False
    return result


def concatenate(many: Iterable[Rings]) -> Rings:
    """The objects of all, in order."""
    parts = list(many)
    return Rings(
        np.concatenate([np.empty((0, 2)), *(r.coords for r in parts)]),
        ragged.offsets(np.concatenate([np.empty(0, np.int64), *(np.diff(r.ring_offsets) for r in parts)])),
        ragged.offsets(np.concatenate([np.empty(0, np.int64), *(np.diff(r.offsets) for r in parts)])),
    )


def filled(polygons: Objects) -> Objects:
    """Valid areas of polygons that may cross themselves, by the even-odd rule.

    A bow-tie becomes its two wings and a key-hole a polygon with a hole. Neither `buffer(0)`
    nor `make_valid` does that: the one loses a wing, the other fills what a line that is
    run along there and back closes off.

    >>> bow_tie = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    >>> float(shapely.area(filled(np.array([bow_tie])))[0])
    8.0
    """
    result = np.asarray(polygons, dtype=object).copy()
    invalid = ~shapely.is_valid(result)
    if invalid.any():
        result[invalid] = [_even_odd(polygon) for polygon in result[invalid]]
    return result


def _even_odd(polygon: shapely.Polygon) -> shapely.Geometry:
    """The faces between the lines of a polygon that lie inside an odd number of times."""
    rings = shapely.get_rings(polygon)
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all(rings)]))
    if not len(faces):
        return shapely.Polygon()
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).T[:, :, None]
    crossings = np.zeros(len(faces), np.int64)
    for ring in rings:
        points = shapely.get_coordinates(ring)
        (x0, y0), (x1, y1) = points[:-1].T, points[1:].T
        with np.errstate(divide="ignore", invalid="ignore"):
            left = x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        crossings += (((y0 > y) != (y1 > y)) & left).sum(axis=1)
    return shapely.union_all(faces[crossings % 2 == 1])


def self_crossing(rings: Rings) -> Bools:
    """`(N,)` True where an outline is not a plain polygon: bow-ties, and key-holes too."""
    result = np.zeros(len(rings), bool)
    one = (np.diff(rings.offsets) == 1) & (np.bincount(rings.owners(), minlength=len(rings)) >= 3)
    if one.any():
        plain = rings.take(one)
        shapes = shapely.polygons(shapely.linearrings(plain.coords, indices=plain.owners()))
        result[one] = ~shapely.is_valid(shapes)
    return result


def parts(rings: Rings) -> tuple[Rings, Ints]:
    """Each polygon of each object as an object of its own (outer ring, then its holes).

    Returns the parts and, for each, the index of the object it belongs to.
    """
    polygons, owner = shapely.get_parts(rings.geometry(), return_index=True)
    areal = (shapely.get_type_id(polygons) == POLYGON) & (shapely.area(polygons) > 0)
    return Rings.from_geometry(polygons[areal]), owner[areal]


def single_ring(rings: Sequence[Floats]) -> Floats:
    """One ring that fills the same area: `(V, 2)`, joined by there-and-back bridges.

    YOLO text has one ring an object. A bridge has no width, so under the even-odd rule
    the area is unchanged; holes become key-holes, parts become a chain. Each time the
    ring nearest to what is joined so far follows, at the nearest pair of points (ties:
    the first), so that a rasteriser that paints bridges paints as little as can be.

    >>> outer = np.array([[0, 0], [9, 0], [9, 9], [0, 9.0]])
    >>> hole = np.array([[3, 3], [6, 3], [6, 6], [3, 6.0]])
    >>> key_hole = Rings.of([[single_ring([outer, hole])]])
    >>> float(shapely.area(key_hole.geometry())[0])
    72.0
    """
    if len(rings) == 1:
        return np.asarray(rings[0], np.float64)
    starts = ragged.offsets([len(ring) for ring in rings])
    points = np.concatenate(rings).astype(np.float64)
    loops: dict[int, list[tuple[int, int]]] = {}  # at which point which rings hang, by which point of theirs
    for ring, at, own in _bridges(points, starts):
        loops.setdefault(at, []).append((ring, own))
    order: list[int] = []
    walks = [iter(range(starts[1]))]
    while walks:
        point = next(walks[-1], None)
        if point is None:
            walks.pop()
            continue
        order.append(point)
        if hanging := loops.pop(point, None):
            for ring, own in reversed(hanging):
                first, end = int(starts[ring]), int(starts[ring + 1])
                walks += [iter([point]), iter([own]), iter([*range(own, end), *range(first, own)])]
    return points[order]


def _bridges(points: Floats, starts: Ints) -> Iterator[tuple[int, int, int]]:
    """Rings in the order they are joined to the first: ring, point of the joined ones, own point."""
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    gap = np.full(len(points), np.inf)  # of each point that is not joined, to the nearest joined one
    nearest = np.zeros(len(points), np.int64)
    newest = 0
    for _ in range(len(starts) - 2):
        gap[owner == newest] = np.nan
        rest = np.flatnonzero(~np.isnan(gap))
        fresh = np.arange(starts[newest], starts[newest + 1])
        step = max(1, CELLS // len(rest))
        for k in range(0, len(fresh), step):
            part = fresh[k : k + step]
            distance = ((points[rest, None] - points[part]) ** 2).sum(axis=-1)
            best = distance.argmin(axis=1)
            found = distance[np.arange(len(rest)), best]
            closer = found < gap[rest]
            gap[rest[closer]], nearest[rest[closer]] = found[closer], part[best[closer]]
        own = int(rest[np.argmin(gap[rest])])
        newest = int(owner[own])
        yield newest, int(nearest[own]), own


def axes(quads: Floats) -> tuple[Floats, Floats]:
    """`(N, 2)` unit vectors along the first side of each quad, and towards its fourth corner.

    For a true rectangle these are its own axes. A quad that is none (trapezoids of DOTA,
    crossed corners) takes those of its smallest rectangle, as the trainer does.
    """
    first = quads[:, 1] - quads[:, 0]
    last = quads[:, 3] - quads[:, 0]
    size = np.hypot(*first.T)
    skew = np.abs((first * last).sum(axis=1)) > 1e-3 * size * np.hypot(*last.T)
    open_ = np.abs(quads[:, 0] + quads[:, 2] - quads[:, 1] - quads[:, 3]).max(axis=1) > 1e-3 * (1 + size)
    odd = skew | open_ | (size == 0)
    if odd.any():
        first = first.copy()
        first[odd] = np.diff(smallest_rectangles(quads[odd])[:, :2], axis=1)[:, 0]
        size = np.hypot(*first.T)
    along = np.divide(first, size[:, None], out=np.tile([1.0, 0.0], (len(quads), 1)), where=size[:, None] > 0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return along, across * np.where((across * last).sum(axis=1) < 0, -1.0, 1.0)[:, None]


def bounding_rectangles(rings: Rings, along: Floats, across: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle with the given axes around each outline."""
    owner = rings.owners()
    local = np.stack([(rings.coords * along[owner]).sum(axis=1), (rings.coords * across[owner]).sum(axis=1)], axis=1)
    u0, v0, u1, v1 = rings.extent(local).T
    corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
    return np.stack([u[:, None] * along + v[:, None] * across for u, v in corners], axis=1)


def fitted(quads: Floats, room: Floats) -> Floats:
    """`(N, 4, 2)` each quad scaled about its centre until its bounds are no larger than `room` (N, 2).

    >>> fitted(np.array([[[0, 0], [4, 0], [4, 2], [0, 2.0]]]), np.array([[2, 2.0]]))[0].tolist()
    [[1.0, 0.5], [3.0, 0.5], [3.0, 1.5], [1.0, 1.5]]
    """
    sides = quads.max(axis=1) - quads.min(axis=1)
    scale = np.divide(room, sides, out=np.ones_like(sides), where=sides > room).min(axis=1)
    centre = quads.mean(axis=1, keepdims=True)
    return np.asarray(centre + (quads - centre) * scale[:, None, None])


def smallest_rectangles(quads: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle of least area around each set of points `(N, P, 2)`."""
    boxes = shapely.minimum_rotated_rectangle(shapely.linestrings(quads[:, [*range(quads.shape[1]), 0]]))
    result = np.empty((len(quads), 4, 2))
    for i, box in enumerate(boxes):
        points = shapely.get_coordinates(box)
        # points on one line give a line, and one point a point
        result[i] = points[:4] if len(points) == 5 else points[[0, -1, -1, 0]]
    return result


def _expand(starts: Ints, index: Ints) -> tuple[Ints, Ints]:
    """Members of the groups at `index`, in order, and how many each has."""
    counts = starts[index + 1] - starts[index]
    return ragged.spans(starts[index], counts), counts
