"""Points and shapes from one reference system into another, by PROJ (the extra `gis`).

A straight edge of degrees is none of metres, but those of objects are so short that it does not
show: 100 m at 45 degrees north bend by 0.2 mm. Only edges that bend by more than BEND get more
points, so a rectangle keeps its four corners.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import SourceRefused, TilerError
from tiler.formats.affine import Affine
from tiler.geometry import overlay
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Objects

DEGREES = "OGC:CRS84"  # longitude and latitude
EARTH = 6_371_000.0  # m, its mean radius
LONG = 64  # px; an edge no longer than this is straight in any reference system
BEND = 0.1  # px that an edge may lie beside the curve that it is in the image's system
MOST_PIECES = 100  # that an edge is cut into


@dataclass(frozen=True, slots=True, eq=False)
class Reprojection:
    """The way from one reference system to another.

    x is east and y north in both (longitude, latitude), as GIS files and GeoTIFF have them whatever
    a system's own order is.

    Attributes:
        accuracy: m; 0 if the systems differ by a formula only, NaN if it is not known.
        lacking: names of the grids, not installed, by which it would be more accurate.
        metres: length of the target's unit.
        transformer: pyproj's; None if the systems are the same.
    """

    accuracy: float
    lacking: tuple[str, ...]
    metres: float
    transformer: Any

    def apply(self, points: Floats) -> Floats:
        """`(N, 2)` points in the target system; not finite where it does not reach."""
        return self._moved(points, "FORWARD")

    def back(self, points: Floats) -> Floats:
        """`(N, 2)` points of the target system in the source's."""
        return self._moved(points, "INVERSE")

    def shapes(self, shapes: Objects, near: Floats, pixel: float) -> Objects:
        """`(N,)` shapely geometries in the target system.

        Args:
            near: `(4,)` xyxy in the target system; only edges of shapes near it follow their curve.
            pixel: side of a pixel in the target's unit.
        """
        if self.transformer is None:
            return shapes
        result = np.asarray(shapely.transform(shapes, self.apply))
        bounds = shapely.bounds(result)
        meeting = (bounds[:, :2] <= near[2:]).all(axis=1) & (near[:2] <= bounds[:, 2:]).all(axis=1)
        index = np.flatnonzero(meeting & np.isfinite(bounds).all(axis=1))
        longest = self._longest_edges(shapes[index], pixel)
        bent = np.isfinite(longest)
        dense = overlay.densified(shapes[index[bent]], longest[bent])
        result[index[bent]] = shapely.transform(dense, self.apply)
        return result

    def _longest_edges(self, shapes: Objects, pixel: float) -> Floats:
        """`(N,)` how long edges may be, in the source's unit; infinity where none bends."""
        points, owner = shapely.get_coordinates(shapes, return_index=True)
        follows = np.diff(owner) == 0  # also from one ring to the next, which does no harm
        length = np.hypot(*np.diff(points, axis=0).T) * follows
        bend = self._bend(points, follows, pixel)
        bent = np.flatnonzero(bend > BEND)
        pieces = np.ceil(np.sqrt(bend[bent] / BEND))  # a piece bends by its length squared
        longest = np.full(len(shapes), np.inf)
        np.minimum.at(longest, owner[bent], length[bent] / pieces)
        sides = np.zeros(len(shapes))
        np.maximum.at(sides, owner[:-1], length)
        return np.asarray(np.maximum(longest, sides / MOST_PIECES))

    def _bend(self, points: Floats, follows: Bools, pixel: float) -> Floats:
        """`(P - 1,)` px by which the middle of the way from each point to the next lies beside the
        straight line in the target; 0 for short ways, and where there is none.
        """
        moved = self.apply(points)
        length = np.hypot(*np.diff(moved, axis=0).T) * follows
        edges = np.flatnonzero(length > LONG * pixel)
        middle = self.apply((points[edges] + points[edges + 1]) / 2)
        straight = (moved[edges] + moved[edges + 1]) / 2
        bend = np.zeros(len(length))
        bend[edges] = np.hypot(*(middle - straight).T) / pixel
        return bend

    def _moved(self, points: Floats, direction: str) -> Floats:
        if self.transformer is None:
            return points
        x, y = self.transformer.transform(points[:, 0], points[:, 1], direction=direction)
        return np.stack([x, y], axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """A map from an image's pixels to another reference system than its own.

    Attributes:
        affine: from pixels to the image's own system.
        way: from the other system to the image's own.
        mirrors: see `Affine.mirrors`.
    """

    affine: Affine
    way: Reprojection
    mirrors: bool

    @classmethod
    def of(cls, affine: Affine, way: Reprojection, size: tuple[int, int]) -> Placement:
        """The map of an image of a size.

        Raises:
            SourceRefused: a corner has no place in the other system.
        """
        placement = cls(affine, way, affine.mirrors)
        corner, right, down = placement.apply(np.array([[0, 0], [size[0], 0], [0, size[1]]], float))
        x_across, y_across = right - corner
        x_down, y_down = down - corner
        turns = x_across * y_down - x_down * y_across
        return cls(affine, way, bool(turns < 0))

    def apply(self, points: Floats) -> Floats:
        """`(..., 2)` x and y in the other system, for columns and rows `(..., 2)` in pixels.

        Raises:
            SourceRefused: the other system does not reach so far.
        """
        own = self.affine.apply(points)
        moved = self.way.back(own.reshape(-1, 2))
        if not np.isfinite(moved).all():
            raise SourceRefused("D20", "it lies where the reference system does not reach")
        return moved.reshape(points.shape)


def between(source: str, target: str, corners: Floats) -> Reprojection:
    """The most accurate way that needs no file which is not installed.

    Args:
        source, target: EPSG codes or well-known text.
        corners: `(N, 2)` points around the area of interest, in the target system.

    Raises:
        TilerError: a system is unknown, or no way is known that is better than a guess.
    """
    start, end = _horizontal(source), _horizontal(target)
    metres = _unit(end)
    if start == end:
        return Reprojection(0.0, (), metres, None)
    group = _group(start, end, _area(end, corners))
    if group is None or not group.transformers:
        raise TilerError(
            f"no transformation from {_named(start)} to {_named(end)} is known; save the file in "
            f"{_named(end)} with a GIS"
        )
    best = group.transformers[0]
    lacking: tuple[str, ...] = ()
    if not group.best_available and group.unavailable_operations:
        grids = group.unavailable_operations[0].grids
        lacking = tuple(grid.short_name for grid in grids if not grid.available)
    accuracy = best.accuracy if best.accuracy >= 0 else np.nan
    return Reprojection(accuracy, lacking, metres, best)


def _group(start: Any, end: Any, area: Any) -> Any:
    """pyproj's ways from one system to the other, best first; None if it fails on them."""
    from pyproj.exceptions import ProjError
    from pyproj.transformer import TransformerGroup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a better way, see `lacking`
        try:
            return TransformerGroup(
                start, end, always_xy=True, area_of_interest=area, allow_ballpark=False
            )
        except (ProjError, IndexError):  # the latter where a way is missing, but for no grid
            return None


def known(crs: str) -> bool:
    """Whether PROJ knows where on earth the coordinates of a reference system are."""
    try:
        _to_degrees(_horizontal(crs))
    except TilerError:
        return False
    return True


def in_degrees(crs: str) -> bool:
    """Whether the coordinates of a reference system are longitude and latitude."""
    return bool(_horizontal(crs).is_geographic)


def _horizontal(crs: str) -> Any:
    """A reference system without its heights."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        system = CRS.from_user_input(crs).to_2d()
    except CRSError:
        raise TilerError(f"{crs[:100]} is no reference system that PROJ knows") from None
    if not system.axis_info:
        raise TilerError(f"{crs[:100]} is a reference system without axes")
    return system


def _named(crs: Any) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.name)


def _unit(crs: Any) -> float:
    """m; of degrees at the equator."""
    factor = float(crs.axis_info[0].unit_conversion_factor)  # to m, or to radians
    return factor * EARTH if crs.is_geographic else factor


def _to_degrees(crs: Any) -> Any:
    """pyproj's transformer to longitude and latitude, roughly."""
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(crs, DEGREES, always_xy=True)
    except ProjError:
        raise TilerError(f"{_named(crs)} has no place on earth that PROJ knows") from None


def _area(crs: Any, corners: Floats) -> Any:
    """The area of interest as pyproj has it; None if it has no bounds in degrees."""
    from pyproj.aoi import AreaOfInterest

    x, y = _to_degrees(crs).transform(corners[:, 0], corners[:, 1])
    bounds = np.array([x.min(), y.min(), x.max(), y.max()])
    if not np.isfinite(bounds).all():
        return None
    return AreaOfInterest(*bounds.tolist())
