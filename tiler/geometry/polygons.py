"""Outlines: ragged rings of absolute pixel coordinates, filled by the even-odd rule.

Even-odd is what rasterisers of training masks do (`cv2.fillPoly`), and it makes parts,
holes and key-holes one thing: an object is a set of rings. shapely does the geometry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tiler.geometry import overlay, ragged
from tiler.geometry.columns import Columns
from tiler.geometry.overlay import POLYGON
from tiler.lazy import shapely

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.types import Bools, Floats, Ints, Objects

CELLS = 2_000_000  # distances held in memory at once
EXACT = 1e-6  # of its size: corners no further off a rectangle are one
TIED = 1e-6  # of its area: a rectangle no larger than this is as small as the smallest one
MANY = 8  # points; of more the convex hull is taken first

# the eight orders in which four corners follow each other round a rectangle
ORDERS = np.array(
    [
        [0, 1, 2, 3],
        [1, 2, 3, 0],
        [2, 3, 0, 1],
        [3, 0, 1, 2],
        [0, 3, 2, 1],
        [1, 0, 3, 2],
        [2, 1, 0, 3],
        [3, 2, 1, 0],
    ]
)


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
        rings = list(chain.from_iterable(objects))
        points = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]
        coords = np.concatenate([np.empty((0, 2)), *points])
        ring_offsets = ragged.offsets(map(len, rings))
        offsets = ragged.offsets(map(len, objects))
        return cls(coords, ring_offsets, offsets)

    @classmethod
    def from_quads(cls, quads: Floats) -> Rings:
        """From `(N, 4, 2)` corners, one ring each."""
        coords = quads.reshape(-1, 2)
        offsets = np.arange(len(quads) + 1)
        return cls(coords, offsets * 4, offsets)

    @classmethod
    def from_geometry(cls, geometry: Objects) -> Rings:
        """From `(N,)` shapely geometries; lines and points in them are left out."""
        polygons, owner = shapely.get_parts(overlay.areal(geometry), return_index=True)
        rings, polygon = shapely.get_rings(polygons, return_index=True)
        coords, ring = shapely.get_coordinates(rings, return_index=True)
        closing = np.ones(len(coords), bool)  # the first point, repeated
        closing[:-1] = ring[1:] != ring[:-1]
        kept = ~closing
        point_counts = np.bincount(ring[kept], minlength=len(rings))
        ring_counts = np.bincount(owner[polygon], minlength=len(geometry))
        ring_offsets = ragged.offsets(point_counts)
        offsets = ragged.offsets(ring_counts)
        return cls(coords[kept], ring_offsets, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> list[Floats]:
        """The rings of object i."""
        first = self.offsets[i]
        last = self.offsets[i + 1]
        edges = self.ring_offsets[first : last + 1]
        return [self.coords[start:end] for start, end in pairwise(edges)]

    def take(self, index: Ints | Bools) -> Rings:
        """The outlines at the given indices, or where a mask is True."""
        index = np.arange(len(self))[index]
        rings, counts = ragged.members(self.offsets, index)
        points, sizes = ragged.members(self.ring_offsets, rings)
        ring_offsets = ragged.offsets(sizes)
        offsets = ragged.offsets(counts)
        return Rings(self.coords[points], ring_offsets, offsets)

    def put(self, index: Ints, other: Rings) -> Rings:
        """A copy in which the outlines at `index` are those of `other`."""
        both = concatenate([self, other])
        order = np.arange(len(self))
        order[index] = len(self) + np.arange(len(other))
        return both.take(order)

    def moved(self, dx: float | Floats, dy: float | Floats) -> Rings:
        """Shifted by a number, or by one number for each object."""
        shift = shifts(len(self), dx, dy)
        return Rings(self.coords + shift[self.owners()], self.ring_offsets, self.offsets)

    def owners(self) -> Ints:
        """`(V,)` the object that each point belongs to."""
        return np.repeat(np.arange(len(self)), self.point_counts())

    def point_counts(self) -> Ints:
        """`(N,)` how many points each object has."""
        return np.diff(self.ring_offsets[self.offsets])

    def following(self) -> Ints:
        """`(V,)` which point comes after each in its ring."""
        following = np.arange(len(self.coords)) + 1
        filled = np.diff(self.ring_offsets) > 0
        last = self.ring_offsets[1:][filled] - 1
        following[last] = self.ring_offsets[:-1][filled]
        return following

    def edges(self) -> Floats:
        """`(V, 2, 2)` start and end of the edge from each point to the next one of its ring."""
        return np.stack([self.coords, self.coords[self.following()]], axis=1)

    def bounds(self) -> Floats:
        """`(N, 4)` xyxy; NaN for an object without points."""
        return self.extent(self.coords)

    def extent(self, values: Floats) -> Floats:
        """`(N, 4)` smallest and largest of `(V, 2)` two values for each point."""
        result = np.full((len(self), 4), np.nan)
        starts = self.ring_offsets[self.offsets]
        filled = np.diff(starts) > 0
        if filled.any():
            starts = starts[:-1][filled]
            result[filled, :2] = np.minimum.reduceat(values, starts)
            result[filled, 2:] = np.maximum.reduceat(values, starts)
        return result

    def quads(self) -> Floats:
        """`(N, 4, 2)` corners; every object must be one ring of four points."""
        return self.coords.reshape(-1, 4, 2)

    def lines(self) -> tuple[Objects, Bools]:
        """The closed lines of rings of at least three points, and `(R,)` which rings these are."""
        usable = np.diff(self.ring_offsets) >= 3
        ring = ragged.owners(self.ring_offsets)
        kept = usable[ring]
        if not kept.any():
            return np.empty(0, object), usable
        line = np.cumsum(usable)[ring[kept]] - 1
        return shapely.linearrings(self.coords[kept], indices=line), usable

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
            first = self.offsets[i]
            end = self.offsets[i + 1]
            result[i] = overlay.even_odd(shapes[first:end])
        return result


def concatenate(many: Iterable[Rings]) -> Rings:
    """The objects of all, in order."""
    outlines = list(many)
    coords = [np.empty((0, 2))]
    coords += [rings.coords for rings in outlines]
    ring_offsets = ragged.chained(rings.ring_offsets for rings in outlines)
    offsets = ragged.chained(rings.offsets for rings in outlines)
    return Rings(np.concatenate(coords), ring_offsets, offsets)


def shifts(count: int, dx: float | Floats, dy: float | Floats) -> Floats:
    """`(N, 2)` how far each object is moved: all by one number, or each by its own.

    >>> shifts(2, 5.0, np.array([1.0, 2.0])).tolist()
    [[5.0, 1.0], [5.0, 2.0]]
    """
    x = np.broadcast_to(dx, count)
    y = np.broadcast_to(dy, count)
    return np.stack([x, y], axis=-1)


def self_crossing(rings: Rings) -> Bools:
    """`(N,)` True where an outline is not a plain polygon: bow-ties, and key-holes too."""
    result = np.zeros(len(rings), bool)
    simple = (np.diff(rings.offsets) == 1) & (rings.point_counts() >= 3)
    if simple.any():
        single = rings.take(simple)
        lines = shapely.linearrings(single.coords, indices=single.owners())
        result[simple] = ~shapely.is_valid(shapely.polygons(lines))
    return result


def tangled(rings: Rings) -> Bools:
    """`(N,)` True where an outline crosses itself, or its rings each other, too often to find its
    area.

    That is more than 100 times and once more for each point, or more than 2000 times. Ask this
    of outlines from outside before `Rings.geometry`, which raises for all if one is tangled.
    """
    result = np.zeros(len(rings), bool)
    many = np.flatnonzero(rings.point_counts() > overlay.FEW)
    if not len(many):
        return result
    large = rings.take(many)
    lines, usable = large.lines()
    owner = ragged.owners(large.offsets)[usable]
    outlines = shapely.multilinestrings(lines, indices=owner)
    crossing = ~shapely.is_simple(outlines)
    edges = large.edges()
    starts = large.ring_offsets[large.offsets]
    for k in np.unique(owner)[crossing]:
        start, end = starts[k : k + 2]
        result[many[k]] = overlay.tangled(edges[start:end])
    return result


def parts(rings: Rings) -> tuple[Rings, Ints]:
    """Each polygon of each object as an object of its own (outer ring, then its holes).

    Returns:
        The parts and, for each, the index of the object it belongs to.
    """
    polygons, owner = shapely.get_parts(rings.geometry(), return_index=True)
    areal = (shapely.get_type_id(polygons) == POLYGON) & (shapely.area(polygons) > 0)
    return Rings.from_geometry(polygons[areal]), owner[areal]


def single_ring(rings: Sequence[Floats]) -> Floats:
    """One ring that fills the same area: `(V, 2)`, joined by there-and-back bridges.

    YOLO text has one ring an object. A bridge has no width, so under the even-odd rule
    the area is unchanged; holes become key-holes, parts become a chain. The next ring is
    always the nearest to those joined so far, at the nearest pair of points (ties: the
    first), so that a rasteriser that paints bridges paints as little as possible.

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
    hanging: dict[int, list[_Bridge]] = {}  # by the point they hang on
    for bridge in _bridges(points, starts):
        hanging.setdefault(bridge.end, []).append(bridge)
    walked: list[int] = []
    walks = [iter(range(starts[1]))]  # the innermost is last
    while walks:
        point = next(walks[-1], None)
        if point is None:
            walks.pop()
            continue
        walked.append(point)
        for bridge in reversed(hanging.pop(point, [])):
            first, end = starts[bridge.ring : bridge.ring + 2].tolist()
            around = [*range(bridge.start, end), *range(first, bridge.start)]
            walks.append(iter([*around, bridge.start, point]))
    return points[walked]


class _Bridge(NamedTuple):
    """How a ring is joined to those before it: from a point of its own to one of theirs."""

    ring: int
    start: int
    end: int


def _bridges(points: Floats, starts: Ints) -> Iterator[_Bridge]:
    """The bridges of all rings but the first, in the order in which they are joined."""
    owner = ragged.owners(starts)
    # of each point that is not joined: the nearest joined one, and how far it is (squared)
    distance = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), np.int64)
    joined = np.zeros(len(points), bool)
    newest = 0
    for _ in range(len(starts) - 2):
        joined[owner == newest] = True
        rest = np.flatnonzero(~joined)
        newly = np.arange(starts[newest], starts[newest + 1])
        step = max(1, CELLS // len(rest))
        for k in range(0, len(newly), step):
            _approach(points, rest, newly[k : k + step], distance, nearest)
        start = int(rest[np.argmin(distance[rest])])
        newest = int(owner[start])
        yield _Bridge(newest, start, int(nearest[start]))


def _approach(points: Floats, rest: Ints, newly: Ints, distance: Floats, nearest: Ints) -> None:
    """Update the distance and the nearest point of the rest where a newly joined one is nearer."""
    squared = ((points[rest, None] - points[newly]) ** 2).sum(axis=-1)
    best = squared.argmin(axis=1)
    least = squared[np.arange(len(rest)), best]
    closer = least < distance[rest]
    distance[rest[closer]] = least[closer]
    nearest[rest[closer]] = newly[best[closer]]


def axes(quads: Floats) -> tuple[Floats, Floats]:
    """`(N, 2)` unit vectors of each quad's rectangle: from its first corner to the second, and to
    the fourth.
    """
    corners = rectangles(quads)
    first = corners[:, 1] - corners[:, 0]
    last = corners[:, 3] - corners[:, 0]
    flat = (first == 0).all(axis=1)
    first[flat] = -_quarter_turn(last[flat])
    along = _units(first)
    across = _quarter_turn(along)
    mirrored = (across * last).sum(axis=1) < 0
    return along, across * np.where(mirrored, -1.0, 1.0)[:, None]


def bounding_rectangles(rings: Rings, along: Floats, across: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle with the given axes around each outline."""
    owner = rings.owners()
    u = (rings.coords * along[owner]).sum(axis=1)
    v = (rings.coords * across[owner]).sum(axis=1)
    extent = rings.extent(np.stack([u, v], axis=1))
    u0, v0, u1, v1 = extent.T
    return _corners(along, across, (u0, u1), (v0, v1))


def fitted(quads: Floats, room: Floats) -> Floats:
    """`(N, 4, 2)` each quad scaled about its centre until its bounds are no larger than `room` (N,
    2).

    >>> fitted(np.array([[[0, 0], [4, 0], [4, 2], [0, 2.0]]]), np.array([[2, 2.0]]))[0].tolist()
    [[1.0, 0.5], [3.0, 0.5], [3.0, 1.5], [1.0, 1.5]]
    """
    sides = quads.max(axis=1) - quads.min(axis=1)
    scales = np.ones_like(sides)
    np.divide(room, sides, out=scales, where=sides > room)
    scale = scales.min(axis=1)[:, None, None]
    centre = quads.mean(axis=1, keepdims=True)
    return np.asarray(centre + (quads - centre) * scale)


def rectangles(quads: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle of each OBB: the smallest one around its corners.

    So the trainer reads corners that are no rectangle (most labels of DOTA). Corners that are one,
    to a millionth of its size, are returned unchanged to the last bit; those of other rectangles
    come in the order of the corners given.

    >>> rectangles(np.array([[[0, 0], [9, 0], [8, 2], [0, 2.0]]])).round(6)[0].tolist()
    [[0.0, 0.0], [9.0, 0.0], [9.0, 2.0], [0.0, 2.0]]
    """
    smallest = smallest_rectangles(quads)
    offset = smallest[:, ORDERS] - quads[:, None]  # (N, 8, 4, 2)
    distance = (offset**2).sum(axis=(2, 3))
    order = ORDERS[np.argmin(distance, axis=1)]
    ordered = np.take_along_axis(smallest, order[:, :, None], axis=1)
    size = np.ptp(quads, axis=1).max(axis=1, initial=0.0)
    off = np.abs(ordered - quads).max(axis=(1, 2), initial=0.0)
    exact = off <= EXACT * size
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
    width = np.hypot(*first.T)
    height = np.hypot(*second.T)
    first_is_longer = width >= height
    x, y = np.where(first_is_longer[:, None], first, second).T
    turn = np.arctan2(y, x)
    angle = (turn + np.pi / 4) % np.pi - np.pi / 4
    longer = np.maximum(width, height)
    shorter = np.minimum(width, height)
    return np.column_stack([corners.mean(axis=1), longer, shorter, angle])


def smallest_rectangles(points: Floats) -> Floats:
    """`(N, 4, 2)` the rectangle of least area around each set of points `(N, P, 2)`.

    One of its sides runs along two of the points. Of several equally small ones (to a millionth;
    common among small labels with whole-numbered corners) it is the one that OpenCV's `minAreaRect`
    takes, as the trainer does: the smallest as computed in float32, and of equal ones the one that
    is turned furthest.
    """
    count = points.shape[1]
    if count <= MANY:
        return _smallest(points, _sides(count) + _diagonals(count))
    found = [np.empty((0, 4, 2))]
    for outline in points:
        hull = overlay.hull(outline)
        found.append(_smallest(hull[None], _sides(len(hull))))
    return np.concatenate(found)


def _sides(count: int) -> list[tuple[int, int]]:
    """The first and last point of each side of a ring."""
    return [(k, (k + 1) % count) for k in range(count)]


def _diagonals(count: int) -> list[tuple[int, int]]:
    """Every two points of a ring that are not the ends of one side."""
    sides = {tuple(sorted(side)) for side in _sides(count)}
    return [pair for pair in combinations(range(count), 2) if pair not in sides]


def _smallest(points: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    """The smallest of the rectangles around `(N, P, 2)` points that run along a pair of them."""
    middle = points.mean(axis=1, keepdims=True)
    local = points - middle
    start, end = np.array(pairs).T
    step = local[:, end] - local[:, start]  # (N, D, 2)
    along = _units(step)
    across = _quarter_turn(along)
    u = np.einsum("npk,ndk->ndp", local, along)
    v = np.einsum("npk,ndk->ndp", local, across)
    best = _least_area(points, step, u, v)
    rows = np.arange(len(points))
    u_range = _range(u[rows, best])
    v_range = _range(v[rows, best])
    along = along[rows, best]
    across = across[rows, best]
    return np.asarray(middle + _corners(along, across, u_range, v_range))


def _range(values: Floats) -> tuple[Floats, Floats]:
    """`(N,)` the lowest and the highest value of each row."""
    return values.min(axis=1), values.max(axis=1)


def _least_area(points: Floats, step: Floats, u: Floats, v: Floats) -> Ints:
    """`(N,)` which of D rectangles around the points is the smallest.

    Args:
        points: `(N, P, 2)`.
        step: `(N, D, 2)` the direction of each rectangle.
        u, v: `(N, D, P)` the points along it and across it.
    """
    area = np.ptp(u, axis=2) * np.ptp(v, axis=2)
    nowhere = (step == 0).all(axis=2)  # from two points on one spot
    all_nowhere = nowhere.all(axis=1, keepdims=True)
    area[nowhere & ~all_nowhere] = np.inf
    best: Ints = np.argmin(area, axis=1)
    least = area[np.arange(len(area)), best]
    equal = area <= least[:, None] * (1 + TIED)
    tied = np.flatnonzero(equal.sum(axis=1) > 1)
    if len(tied):
        best[tied] = _as_opencv(points[tied], step[tied], u[tied], v[tied], equal[tied])
    return best


def _as_opencv(points: Floats, step: Floats, u: Floats, v: Floats, equal: Bools) -> Ints:
    """`(N,)` which of equally small rectangles rotcalipers.cpp takes, in the order of its float32
    operations.
    """
    areas = _areas_in_float32(points, step, u, v)
    areas = np.where(equal, areas, np.float32(np.inf))
    least = areas == areas.min(axis=1, keepdims=True)
    x, y = np.moveaxis(step, -1, 0)
    turn = np.arctan2(y, x) % (np.pi / 2)
    return np.asarray(np.where(least, turn, -1.0).argmax(axis=1))


def _areas_in_float32(points: Floats, step: Floats, u: Floats, v: Floats) -> NDArray[np.float32]:
    """`(N, D)` areas of the rectangles, from the points that each of them touches."""
    points32 = points.astype(np.float32)
    dx, dy = _span(points32, u)
    ex, ey = _span(points32, v)
    with np.errstate(over="ignore", invalid="ignore"):  # points closer than float32 can tell
        a, b = _directions_in_float32(step)
        width = dx * a + dy * b
        height = ey * a - ex * b
        return np.asarray(width * height)


def _directions_in_float32(step: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`(N, D)` x and y of unit vectors; NaN from two points on one spot."""
    x, y = np.moveaxis(step, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = (1 / np.hypot(x, y)).astype(np.float32)
        a = x.astype(np.float32) * scale
        b = y.astype(np.float32) * scale
    return a, b


def _span(points: NDArray[np.float32], values: Floats) -> NDArray[np.float32]:
    """`(2, N, D)` x and y from the first to the last of the points along each direction."""
    rows = np.arange(len(points))[:, None]
    first = points[rows, values.argmin(axis=2)]
    last = points[rows, values.argmax(axis=2)]
    return np.moveaxis(last - first, -1, 0)


def _units(vectors: Floats) -> Floats:
    """`(..., 2)` vectors of length 1; (1, 0) where there is no direction."""
    x, y = np.moveaxis(vectors, -1, 0)
    length = np.hypot(x, y)[..., None]
    result = np.broadcast_to([1.0, 0.0], vectors.shape).copy()
    np.divide(vectors, length, out=result, where=length > 0)
    return result


def _quarter_turn(vectors: Floats) -> Floats:
    """`(..., 2)` vectors turned from the x axis towards the y axis."""
    x, y = np.moveaxis(vectors, -1, 0)
    return np.stack([-y, x], axis=-1)


def _corners(
    along: Floats, across: Floats, u: tuple[Floats, Floats], v: tuple[Floats, Floats]
) -> Floats:
    """`(N, 4, 2)` the corners of rectangles that range from and to `u` along their first axis, and
    `v` across it.
    """
    (u0, u1), (v0, v1) = u, v
    x = np.stack([u0, u1, u1, u0], axis=1)[:, :, None]
    y = np.stack([v0, v0, v1, v1], axis=1)[:, :, None]
    return x * along[:, None] + y * across[:, None]
