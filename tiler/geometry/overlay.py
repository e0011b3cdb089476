"""Areas: every call into GEOS that makes new shapes of old ones, guarded in one place.

For outlines that touch, run along each other or differ in the last bit only, GEOS returns lines and
points beside areas, and sometimes raises an error. This module returns polygons only: where GEOS
fails in full precision, the operation is done on a grid of `GRAIN` px.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import neighbours, ragged
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Objects

POLYGON, MULTIPOLYGON = 3, 6  # shapely's type ids
GRAIN = 2.0**-16  # px; coordinates are rounded to it where GEOS needs that
MANY = 256  # rings of one object; of more, those that meet no other are put aside
TOUCH = 1e-9  # px
CELLS = 1_000_000  # comparisons of faces with edges held in memory at once

# Each crossing makes a face, and faces are compared with all edges: an outline of some hundred
# random points would take gigabytes. Masks traced by a detector cross themselves a few times.
CROSSINGS = 100  # that any outline may have, and one more for each of its points,
MOST_CROSSINGS = 2000  # up to this number
FEW = 16  # points, whose edges cannot cross that often
CLOSE = 5_000_000  # pairs of edges near each other, after which the search ends
TANGLED = (
    f"the outline crosses itself too often, expected at most {CROSSINGS} times and once more a "
    "point"
)


def areal(shapes: Objects) -> Objects:
    """`(N,)` the areas of geometries, without their lines and points.

    >>> triangle = "POLYGON ((0 0, 4 0, 4 2, 0 0))"
    >>> mixed = shapely.from_wkt(f"GEOMETRYCOLLECTION (LINESTRING (0 0, 1 1), {triangle})")
    >>> areal(np.array([mixed, shapely.Point(1, 1)])).tolist()
    [<MULTIPOLYGON (((0 0, 4 0, 4 2, 0 0)))>, <POLYGON EMPTY>]
    """
    kind = shapely.get_type_id(shapes)
    mixed = np.flatnonzero((kind != POLYGON) & (kind != MULTIPOLYGON))
    if not len(mixed):
        return shapes
    result = shapes.copy()
    for i in mixed:
        polygons = _polygons(shapes[i])
        if len(polygons):
            result[i] = shapely.multipolygons(polygons)
        else:
            result[i] = shapely.Polygon()
    return result


def _polygons(shape: shapely.Geometry) -> Objects:
    """The polygons in a geometry, those of collections in collections too."""
    parts = shapely.get_parts(shape)
    while (shapely.get_type_id(parts) > POLYGON).any():
        parts = shapely.get_parts(parts)
    return np.asarray(parts[shapely.get_type_id(parts) == POLYGON])


def common(shapes: Objects, others: Objects) -> Objects:
    """`(N,)` what each area and its partner share.

    >>> common(np.array([shapely.box(0, 0, 4, 4)]), np.array([shapely.box(4, 0, 8, 4)])).tolist()
    [<POLYGON EMPTY>]
    """
    try:
        shared = areal(shapely.intersection(shapes, others))
    except shapely.GEOSException:  # because of one of them, unknown which
        shared = _one_by_one(shapely.intersection, shapes, others)
    # GEOS finds no common area of some shapes that differ in the last bit only
    empty = np.flatnonzero(shapely.area(shared) <= 0)
    for i in empty[shapely.intersects(shapes[empty], others[empty])]:
        shared[i] = _on_grid(shapely.intersection, shapes[i], others[i])
    return shared


def common_area(shapes: Objects, others: Objects) -> Floats:
    """`(N,)` px² that each area shares with its partner."""
    return np.asarray(shapely.area(common(shapes, others)))


def met(areas: Objects, others: Objects) -> Bools:
    """`(M,)` which of the others touch or overlap some area.

    Areas may cross themselves: GEOS prepares each, then counts crossings of rays (the even-odd
    rule) and looks for edges that meet, which needs no valid polygon.

    >>> met(np.array([shapely.box(0, 0, 4, 4)]), shapely.box([2, 4, 5], 0, [3, 5, 6], 1)).tolist()
    [True, True, False]
    """
    _, found = shapely.STRtree(others).query(areas, predicate="intersects")
    result = np.zeros(len(others), bool)
    result[found] = True
    return result


def holding(areas: Objects, points: Floats) -> Bools:
    """`(M,)` which points `(M, 2)` lie in some area, or on its border.

    >>> holding(np.array([shapely.box(0, 0, 4, 4)]), np.array([[1, 1], [4, 2], [5, 1.0]])).tolist()
    [True, True, False]
    """
    return met(areas, shapely.points(points))


def united(shapes: Objects, starts: Ints) -> Objects:
    """`(G,)` the area that the areas of each group cover together.

    Args:
        shapes: one group after the other.
        starts: `(G,)` where each group begins; none is empty.

    >>> squares = np.array([shapely.box(0, 0, 2, 2), shapely.box(2, 0, 4, 2)])
    >>> united(squares, np.array([0]))[0].bounds
    (0.0, 0.0, 4.0, 2.0)
    """
    owner = ragged.owners(np.append(starts, len(shapes)))
    groups = shapely.geometrycollections(shapes, indices=owner)
    try:
        whole = areal(shapely.union_all(groups[:, None], axis=1))
        # of two that differ in the last bit only GEOS may return both, one over the other
        wrong = np.flatnonzero(~shapely.is_valid(whole))
    except shapely.GEOSException:  # because of one of them, unknown which
        whole = groups.copy()
        wrong = np.arange(len(groups))
    for i in wrong:
        whole[i] = _united(shapely.get_parts(groups[i]))
    return whole


def even_odd(shapes: Objects) -> shapely.Geometry:
    """The area that an odd number of the areas cover: holes and islands of outlines.

    Raises:
        TilerError: their outlines cross too often.

    >>> float(even_odd(np.array([shapely.box(0, 0, 4, 4), shapely.box(1, 1, 2, 2)])).area)
    15.0
    """
    apart = np.zeros(len(shapes), bool)
    if len(shapes) > MANY:
        apart = _apart(shapely.bounds(shapes))
    meeting = shapes[~apart]
    if len(meeting) > 1:
        _require_untangled(shapely.get_rings(meeting))
    # by halves, so that each point is looked at a few times, not once a ring
    while len(meeting) > 1:
        odd, even = meeting[0::2], meeting[1::2]
        joined = odd.copy()
        joined[: len(even)] = _difference(odd[: len(even)], even)
        meeting = joined
    if apart.any():
        parts = [_polygons(shape) for shape in (*meeting, *shapes[apart])]
        return shapely.multipolygons(np.concatenate(parts))
    if len(meeting):
        return meeting[0]
    return shapely.Polygon()


def _apart(bounds: Floats) -> Bools:
    """`(N,)` the rings whose bounds meet those of others in a corner at most."""
    result = np.asarray(~np.isnan(bounds).any(axis=1))
    filled = np.flatnonzero(result)
    for a, b in neighbours.neighbours(bounds[filled], reach=TOUCH):
        i, j = filled[a], filled[b]
        gap = np.maximum(bounds[i, :2], bounds[j, :2])
        gap -= np.minimum(bounds[i, 2:], bounds[j, 2:])
        meet = (gap <= 0).all(axis=1) & (gap < 0).any(axis=1)
        result[i[meet]] = False
        result[j[meet]] = False
    return result


def filled(polygons: Objects) -> Objects:
    """Valid areas of polygons that may cross themselves, by the even-odd rule.

    A bow-tie becomes its two wings and a key-hole a polygon with a hole. Neither `buffer(0)`
    nor `make_valid` does that: the former loses a wing, the latter fills the hole.

    Raises:
        TilerError: one crosses itself too often.

    >>> bow_tie = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    >>> float(shapely.area(filled(np.array([bow_tie])))[0])
    8.0
    """
    result = np.asarray(polygons, dtype=object).copy()
    invalid = ~shapely.is_valid(result)
    if invalid.any():
        result[invalid] = [_faces(polygon) for polygon in result[invalid]]
    return result


def _faces(polygon: shapely.Polygon) -> shapely.Geometry:
    """The faces between the lines of a polygon that lie inside an odd number of times."""
    rings = shapely.get_rings(polygon)
    _require_untangled(rings)
    faces = shapely.get_parts(shapely.polygonize([_noded(rings)]))
    if not len(faces):
        return shapely.Polygon()
    points = shapely.get_coordinates(shapely.point_on_surface(faces))
    edges = _all_edges(rings)
    step = max(1, CELLS // len(edges))
    crossings = []
    for start in range(0, len(faces), step):
        portion = points[start : start + step]
        crossings.append(_crossed(portion, edges))
    inside = np.concatenate(crossings) % 2 == 1
    # faces meet in common edges: 30 times faster than a union of any areas
    return _area_of(shapely.coverage_union_all(faces[inside]))


def _noded(lines: Objects) -> shapely.Geometry:
    """Lines, cut wherever they meet, on a grid if GEOS fails."""
    try:
        return shapely.union_all(lines)
    except shapely.GEOSException:
        return shapely.union_all(lines, grid_size=GRAIN)


def _all_edges(rings: Objects) -> Floats:
    """`(E, 2, 2)` start and end of each edge, ring after ring."""
    edges = []
    for ring in rings:
        points = shapely.get_coordinates(ring)
        start, end = points[:-1], points[1:]
        edges.append(np.stack([start, end], axis=1))
    return np.concatenate(edges)


def _crossed(points: Floats, edges: Floats) -> Floats:
    """`(P,)` how many edges a line from each point to the right crosses."""
    x, y = points.T[:, :, None]
    x0, y0 = edges[:, 0].T
    x1, y1 = edges[:, 1].T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        x_there = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    to_the_right = x < x_there
    at_height = (y0 > y) != (y1 > y)
    return np.asarray((at_height & to_the_right).sum(axis=1))


def _require_untangled(rings: Objects) -> None:
    if shapely.get_num_coordinates(rings).sum() <= FEW + len(rings):
        return
    if len(rings) > 1 and shapely.is_simple(shapely.multilinestrings(rings)):
        return
    if tangled(_all_edges(rings)):
        raise TilerError(TANGLED)


def tangled(edges: Floats) -> bool:
    """Whether edges cross each other so often that an area of them would be too costly to find.

    A crossing cuts two edges, a point that lies on another edge cuts one. The search ends when
    there are too many.

    Args:
        edges: `(E, 2, 2)` start and end of each edge of one object; edges of a ring follow each
            other.

    >>> points = np.random.default_rng(0).uniform(0, 99, (100, 2))
    >>> tangled(np.stack([points, np.roll(points, -1, axis=0)], axis=1))
    True
    """
    edges = edges[(edges[:, 0] != edges[:, 1]).any(axis=1)]  # repeated points cross nothing
    most_cuts = 2 * min(CROSSINGS + len(edges), MOST_CROSSINGS)
    cuts = 0
    near = 0
    bounds = np.concatenate([edges.min(axis=1), edges.max(axis=1)], axis=1)
    for i, j in neighbours.neighbours(bounds, reach=GRAIN):
        first, second = edges[i], edges[j]
        cuts += _cuts(first, second) + _cuts(second, first)
        near += len(i)
        if cuts > most_cuts or near > CLOSE:
            return True
    return False


def _cuts(edges: Floats, others: Floats) -> int:
    """How many edges their partner cuts, by crossing them or with its start."""
    a, b = edges.swapaxes(0, 1)
    c, d = others.swapaxes(0, 1)
    start = _side(a, b, c)
    end = _side(a, b, d)
    crosses_line = start * end < 0
    line_is_crossed = _side(c, d, a) * _side(c, d, b) < 0
    crossing = crosses_line & line_is_crossed
    between = ((a - c) * (b - c)).sum(axis=1) < 0
    touching = (start == 0) & between
    return int(crossing.sum() + touching.sum())


def _side(a: Floats, b: Floats, c: Floats) -> Floats:
    """`(P,)` on which side of the line from a to b each point c lies: a sign, 0 on the line."""
    along_x, along_y = (b - a).T
    to_x, to_y = (c - a).T
    return np.asarray(np.sign(along_x * to_y - along_y * to_x))


def densified(shapes: Objects, longest: Floats) -> Objects:
    """`(N,)` the same shapes with more points, so that no edge is longer than `longest` `(N,)`.

    >>> densified(np.array([shapely.box(0, 0, 2, 1)]), np.array([1.0]))[0].length
    6.0
    """
    return np.asarray(shapely.segmentize(shapes, longest))


def hull(points: Floats) -> Floats:
    """`(H, 2)` the corners of the convex hull of points `(P, 2)`; of points on a line its ends."""
    corners = shapely.get_coordinates(shapely.convex_hull(shapely.multipoints(points)))
    if len(corners) > 2:
        corners = corners[:-1]  # the last repeats the first
    return np.asarray(corners)


# Where GEOS fails in full precision


def _united(shapes: Objects) -> shapely.Geometry:
    """The area of one group, on a grid if GEOS fails."""
    try:
        whole = _area_of(shapely.union_all(shapes))
        if shapely.is_valid(whole):
            return whole
    except shapely.GEOSException:
        pass
    return _area_of(shapely.union_all(_rounded(shapes), grid_size=GRAIN))


def _difference(shapes: Objects, others: Objects) -> Objects:
    """`(N,)` what lies in one of each two areas."""
    try:
        apart = areal(shapely.symmetric_difference(shapes, others))
    except shapely.GEOSException:
        return _one_by_one(shapely.symmetric_difference, shapes, others)
    for i in np.flatnonzero(~shapely.is_valid(apart)):
        apart[i] = _on_grid(shapely.symmetric_difference, shapes[i], others[i])
    return apart


def _one_by_one(operation: np.ufunc, shapes: Objects, others: Objects) -> Objects:
    """An operation on each two areas by themselves, on a grid if GEOS fails."""
    result = np.empty(len(shapes), dtype=object)
    for i, (one, other) in enumerate(zip(shapes, others, strict=True)):
        try:
            result[i] = _area_of(operation(one, other))
        except shapely.GEOSException:
            result[i] = _on_grid(operation, one, other)
    return result


def _on_grid(
    operation: np.ufunc, one: shapely.Geometry, other: shapely.Geometry
) -> shapely.Geometry:
    one, other = _rounded(np.array([one, other]))
    return _area_of(operation(one, other, grid_size=GRAIN))


def _rounded(shapes: Objects) -> Objects:
    """Areas whose coordinates are on the grid."""
    return areal(shapely.set_precision(areal(shapes), GRAIN))


def _area_of(shape: shapely.Geometry) -> shapely.Geometry:
    return areal(np.array([shape], dtype=object))[0]
