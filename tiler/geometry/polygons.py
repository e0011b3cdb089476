"""Outlines: ragged rings of absolute pixel coordinates, filled by the even-odd rule.

Even-odd is what rasterisers of training masks do (`cv2.fillPoly`), and it makes parts,
holes and key-holes one thing: an object is a set of rings. shapely does the geometry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import overlay, ragged
from tiler.geometry.columns import Columns
from tiler.geometry.overlay import POLYGON
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Objects

CELLS = 2_000_000  # distances held in memory at once
EXACT = 1e-6  # of its size that corners may be off a rectangle and still are one
# of its area that a rectangle may be larger than the smallest one and still be as small
TIED = 1e-6
MANY = 8  # points, of which a convex hull is taken first


@dataclass(frozen=True, slots=True, eq=False)
class Rings(Columns):
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
            np.concatenate(
                [np.empty((0, 2)), *(np.asarray(r, np.float64).reshape(-1, 2) for r in rings)]
            ),
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
        polygons, owner = shapely.get_parts(overlay.areal(geometry), return_index=True)
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

    def following(self) -> Ints:
        """`(V,)` which point comes after each in its ring."""
        following = np.arange(len(self.coords)) + 1
        some = np.diff(self.ring_offsets) > 0
        following[self.ring_offsets[1:][some] - 1] = self.ring_offsets[:-1][some]
        return following

    def edges(self) -> Floats:
        """`(V, 2, 2)` from each point to the next one of its ring."""
        return np.stack([self.coords, self.coords[self.following()]], axis=1)

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

    def lines(self) -> tuple[Objects, Bools]:
        """The closed lines of rings of three points and more, and `(R,)` which rings these are."""
        ring = np.repeat(np.arange(len(self.ring_offsets) - 1), np.diff(self.ring_offsets))
        usable = np.diff(self.ring_offsets) >= 3
        keep = usable[ring]
        dense = np.cumsum(usable)[ring[keep]] - 1
        return shapely.linearrings(self.coords[keep], indices=dense) if keep.any() else np.empty(
            0, object
        ), usable

    def geometry(self) -> Objects:
        """`(N,)` valid shapely areas, filled even-odd.

        Raises:
            TilerError: an outline crosses itself too often (`tangled`).
        """
        lines, usable = self.lines()
        shapes = np.full(len(usable), shapely.Polygon(), dtype=object)
        if usable.any():
            shapes[usable] = overlay.filled(shapely.polygons(lines))
        single = np.diff(self.offsets) == 1
        result = np.full(len(self), shapely.Polygon(), dtype=object)
        result[single] = shapes[self.offsets[:-1][single]]
        for i in np.flatnonzero(~single):
            result[i] = overlay.even_odd(shapes[self.offsets[i] : self.offsets[i + 1]])
        return result


def concatenate(many: Iterable[Rings]) -> Rings:
    """The objects of all, in order."""
    parts = list(many)
    return Rings(
        np.concatenate([np.empty((0, 2)), *(r.coords for r in parts)]),
        ragged.offsets(
            np.concatenate([np.empty(0, np.int64), *(np.diff(r.ring_offsets) for r in parts)])
        ),
        ragged.offsets(
            np.concatenate([np.empty(0, np.int64), *(np.diff(r.offsets) for r in parts)])
        ),
    )


def self_crossing(rings: Rings) -> Bools:
    """`(N,)` True where an outline is not a plain polygon: bow-ties, and key-holes too."""
    result = np.zeros(len(rings), bool)
    one = (np.diff(rings.offsets) == 1) & (np.bincount(rings.owners(), minlength=len(rings)) >= 3)
    if one.any():
        plain = rings.take(one)
        shapes = shapely.polygons(shapely.linearrings(plain.coords, indices=plain.owners()))
        result[one] = ~shapely.is_valid(shapes)
    return result


def tangled(rings: Rings) -> Bools:
    """`(N,)` True where an outline crosses itself, or its rings each other, too often to find its
    area.

    That is more than 100 times and once more for each point, or more than 2000 times. Ask this
    of what comes from outside before `Rings.geometry`, which refuses such outlines with all others.
    """
    result = np.zeros(len(rings), bool)
    many = np.flatnonzero(np.bincount(rings.owners(), minlength=len(rings)) > overlay.FEW)
    if not len(many):
        return result
    large = rings.take(many)
    lines, usable = large.lines()
    owner = np.repeat(np.arange(len(large)), np.diff(large.offsets))[usable]
    tied = ~shapely.is_simple(shapely.multilinestrings(lines, indices=owner))
    edges, first = large.edges(), large.ring_offsets[large.offsets]
    for k, which in zip(np.unique(owner)[tied], many[np.unique(owner)[tied]], strict=True):
        result[which] = overlay.tangled(edges[first[k] : first[k + 1]])
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
    # at which point which rings hang, by which point of theirs
    loops: dict[int, list[tuple[int, int]]] = {}
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
    # of each point that is not joined, to the nearest joined one
    gap = np.full(len(points), np.inf)
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
    """`(N, 2)` unit vectors along the first side of each quad's rectangle, and towards its fourth
    corner.
    """
    corners = rectangles(quads)
    first = corners[:, 1] - corners[:, 0]
    last = corners[:, 3] - corners[:, 0]
    flat = (first == 0).all(axis=1)
    first[flat] = np.stack([last[flat, 1], -last[flat, 0]], axis=1)
    size = np.hypot(*first.T)
    along = np.divide(
        first, size[:, None], out=np.tile([1.0, 0.0], (len(quads), 1)), where=size[:, None] > 0
    )
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return along, across * np.where((across * last).sum(axis=1) < 0, -1.0, 1.0)[:, None]


def bounding_rectangles(rings: Rings, along: Floats, across: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle with the given axes around each outline."""
    owner = rings.owners()
    local = np.stack(
        [(rings.coords * along[owner]).sum(axis=1), (rings.coords * across[owner]).sum(axis=1)],
        axis=1,
    )
    u0, v0, u1, v1 = rings.extent(local).T
    corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
    return np.stack([u[:, None] * along + v[:, None] * across for u, v in corners], axis=1)


def fitted(quads: Floats, room: Floats) -> Floats:
    """`(N, 4, 2)` each quad scaled about its centre until its bounds are no larger than `room` (N,
    2).

    >>> fitted(np.array([[[0, 0], [4, 0], [4, 2], [0, 2.0]]]), np.array([[2, 2.0]]))[0].tolist()
    [[1.0, 0.5], [3.0, 0.5], [3.0, 1.5], [1.0, 1.5]]
    """
    sides = quads.max(axis=1) - quads.min(axis=1)
    scale = np.divide(room, sides, out=np.ones_like(sides), where=sides > room).min(axis=1)
    centre = quads.mean(axis=1, keepdims=True)
    return np.asarray(centre + (quads - centre) * scale[:, None, None])


def rectangles(quads: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle that the corners of each OBB mean: the smallest one around them.

    That is how the trainer reads corners which are no rectangle (most labels of DOTA). One that is,
    to a millionth of its size, stays what it is to the last bit; the corners of others come in the
    order of those given.

    >>> rectangles(np.array([[[0, 0], [9, 0], [8, 2], [0, 2.0]]])).round(6)[0].tolist()
    [[0.0, 0.0], [9.0, 0.0], [9.0, 2.0], [0.0, 2.0]]
    """
    smallest = smallest_rectangles(quads)
    ways = np.array(
        [[(start + step * k) % 4 for k in range(4)] for step in (1, -1) for start in range(4)]
    )
    off = ((smallest[:, ways] - quads[:, None]) ** 2).sum(axis=(2, 3))  # (N, 8)
    nearest = np.argmin(off, axis=1)
    ordered = np.take_along_axis(smallest, ways[nearest][:, :, None], axis=1)
    reach = np.ptp(quads, axis=1).max(axis=1, initial=0.0)
    exact = np.abs(ordered - quads).max(axis=(1, 2), initial=0.0) <= EXACT * reach
    return np.where(exact[:, None, None], quads, ordered)


def xywhr(quads: Floats) -> Floats:
    """`(N, 5)` centre, sides and angle of each OBB's rectangle, as Ultralytics has them.

    The first side is the longer one; the angle is its turn from the x axis towards the y axis, in
    radians from -pi/4 up to 3 pi/4. Pixels, `quads` are `(N, 4, 2)`.

    >>> xywhr(np.array([[[0, 0], [0, 9], [2, 8], [2, 0.0]]])).round(4)[0].tolist()
    [1.0, 4.5, 9.0, 2.0, 1.5708]
    """
    corners = rectangles(quads)
    first = corners[:, 1] - corners[:, 0]
    second = corners[:, 2] - corners[:, 1]
    width, height = np.hypot(*first.T), np.hypot(*second.T)
    longer = np.where((width >= height)[:, None], first, second)
    angle = (np.arctan2(longer[:, 1], longer[:, 0]) + np.pi / 4) % np.pi - np.pi / 4
    sides = np.stack([np.maximum(width, height), np.minimum(width, height), angle], axis=1)
    return np.concatenate([corners.mean(axis=1), sides], axis=1)


def smallest_rectangles(points: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle of least area around each set of points `(N, P, 2)`.

    One of its sides runs along two of the points. Of several equally small ones (to a millionth;
    common among small labels with whole-numbered corners) it is the one that OpenCV's `minAreaRect`
    takes, as the trainer does: the smallest as computed in float32, of equal ones that which is
    turned furthest.
    """
    count = points.shape[1]
    if count > MANY:
        hulls = [overlay.hull(one) for one in points]
        return np.concatenate(
            [np.empty((0, 4, 2)), *(_smallest(hull[None], _sides(len(hull))) for hull in hulls)]
        )
    pairs = _sides(count) + [
        (i, j) for i in range(count) for j in range(i + 2, count) if (i, j) != (0, count - 1)
    ]
    return _smallest(points, pairs)


def _sides(count: int) -> list[tuple[int, int]]:
    """The first and last point of each side of a ring."""
    return [(k, (k + 1) % count) for k in range(count)]


def _smallest(points: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """The smallest of the rectangles around points that run along a pair of them."""
    middle = points.mean(axis=1, keepdims=True)
    local = points - middle
    start, end = np.array(pairs).T
    step = local[:, end] - local[:, start]
    length = np.hypot(step[..., 0], step[..., 1])[..., None]
    # (N, D, 2)
    along = np.divide(
        step, length, out=np.broadcast_to([1.0, 0.0], step.shape).copy(), where=length > 0
    )
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    u, v = np.einsum("npk,ndk->ndp", local, along), np.einsum("npk,ndk->ndp", local, across)
    area = np.ptp(u, axis=2) * np.ptp(v, axis=2)
    # two points on one spot point nowhere
    area[(length[..., 0] == 0) & (length > 0).any(axis=1)] = np.inf
    rows, best = np.arange(len(points)), np.argmin(area, axis=1)
    tied = np.flatnonzero((area <= area[rows, best, None] * (1 + TIED)).sum(axis=1) > 1)
    equal = area[tied] <= area[tied, best[tied], None] * (1 + TIED)
    best[tied] = _as_opencv(points[tied], step[tied], u[tied], v[tied], equal)
    along = along[rows, best]
    across = across[rows, best]
    u = u[rows, best]
    v = v[rows, best]
    low, high = u.min(axis=1), u.max(axis=1)
    near, far = v.min(axis=1), v.max(axis=1)
    corners = [(low, near), (high, near), (high, far), (low, far)]
    return np.asarray(
        middle + np.stack([a[:, None] * along + b[:, None] * across for a, b in corners], axis=1)
    )


def _as_opencv(points: Floats, step: Floats, u: Floats, v: Floats, equal: Bools) -> Ints:
    """`(N,)` which of equally small rectangles rotcalipers.cpp takes, in the order of its float32
    operations.
    """
    single, (x, y) = points.astype(np.float32), np.moveaxis(step, -1, 0)
    # of points on one spot, which are not `equal` then
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (x.astype(np.float32), y.astype(np.float32)) * (1 / np.hypot(x, y)).astype(
            np.float32
        )

    def between(values: Floats) -> Floats:
        """x and y, `(2, N, D)`, from the first to the last point along an axis."""
        rows = np.arange(len(points))[:, None]
        return np.moveaxis(
            single[rows, values.argmax(axis=2)] - single[rows, values.argmin(axis=2)], -1, 0
        )

    (dx, dy), (ex, ey) = between(u), between(v)
    area = np.where(equal, (dx * a + dy * b) * (ey * a - ex * b), np.float32(np.inf))
    turn = np.arctan2(y, x) % (np.pi / 2)
    return np.asarray(np.where(area == area.min(axis=1, keepdims=True), turn, -1.0).argmax(axis=1))


def _expand(starts: Ints, index: Ints) -> tuple[Ints, Ints]:
    """Members of the groups at `index`, in order, and how many each has."""
    counts = starts[index + 1] - starts[index]
    return ragged.spans(starts[index], counts), counts
