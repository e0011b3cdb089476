"""Polygons of a GIS as COCO's `segmentation`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tiler.formats.coco_values import InvalidAnnotation
from tiler.geometry.overlay import MULTIPOLYGON, POLYGON
from tiler.geometry.polygons import Rings, single_ring
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Objects

Polygons: TypeAlias = list[list[float]]  # x, y, x, y, ... of each part of an object

MAX_RINGS = 5000  # of one polygon, holes included; joining very many of them takes long


def segmentation(shape: shapely.Geometry) -> Polygons:
    """COCO's `segmentation` of one Polygon or MultiPolygon; see `segmentations`.

    Raises:
        InvalidAnnotation: it is another geometry, is empty, or has very many rings.
    """
    (result,) = segmentations(np.array([shape], object))
    if isinstance(result, InvalidAnnotation):
        raise result
    return result


def segmentations(shapes: Objects) -> list[Polygons | InvalidAnnotation]:
    """COCO's `segmentation` of N Polygons and MultiPolygons, or why one has none.

    COCO has no holes. A part with holes is one polygon that runs into them and back, which is the
    same area, as outlines are filled by the even-odd rule.

    >>> segmentations(np.array([shapely.box(0, 0, 4, 2)]))
    [[[4.0, 0.0, 4.0, 2.0, 0.0, 2.0, 0.0, 0.0]]]
    """
    areal = np.isin(shapely.get_type_id(shapes), (POLYGON, MULTIPOLYGON))
    filled = areal & ~shapely.is_empty(shapes)
    usable = np.flatnonzero(filled)
    parts, owner = shapely.get_parts(shapes[usable], return_index=True)
    result: list[Polygons | InvalidAnnotation] = [[] for _ in shapes]
    for i in np.flatnonzero(~filled):
        result[i] = _no_polygon(shapes[i])
    for i, polygon in zip(usable[owner].tolist(), _polygons(parts), strict=True):
        polygons = result[i]
        if isinstance(polygons, InvalidAnnotation):
            continue
        if isinstance(polygon, InvalidAnnotation):
            result[i] = polygon
        elif polygon:
            polygons.append(polygon)
    return result


def _no_polygon(shape: shapely.Geometry) -> InvalidAnnotation:
    kind = "nothing" if shape is None else shape.geom_type
    if kind in ("Polygon", "MultiPolygon"):
        return InvalidAnnotation("L06", "geometry is an empty polygon")
    return InvalidAnnotation("L03", f"geometry is a {kind}, expected a polygon")


def _polygons(parts: Objects) -> Iterator[list[float] | InvalidAnnotation]:
    """The values of each of some Polygons, its holes joined to it; none of an empty one."""
    rings = Rings.from_geometry(parts)
    values = rings.coords.ravel().tolist()
    ends = (2 * rings.ring_offsets).tolist()
    for i, (first, last) in enumerate(pairwise(rings.offsets.tolist())):
        count = last - first
        if count <= 1:
            yield values[ends[first] : ends[last]]
        elif count <= MAX_RINGS:
            yield single_ring(rings[i]).ravel().tolist()
        else:
            message = f"a polygon of {count} rings, expected at most {MAX_RINGS}"
            yield InvalidAnnotation("L03", message)
