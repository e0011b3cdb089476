"""GeoJSON of areas: polygons (RFC 7946), each for one image or for all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.formats.text_files import without_bom
from tiler.geometry import ragged
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Floats, Objects

MAX_BYTES = 8_000_000
FARTHEST = 1e12  # no coordinate lies beyond
LONGEST_NAME = 100  # characters of the name of a reference system
PIXELS = "pixels"  # the name of a reference system that says so
LON_LAT = "EPSG:4326"  # by this name, since x is the longitude in GeoJSON
# EPSG:32632, urn:ogc:def:crs:EPSG::32632, http://www.opengis.net/def/crs/EPSG/0/32632
EPSG = re.compile(r"(?:.*\W)?EPSG(?::|/)(?:[\d.]*(?::|/))?(\d{1,9})", re.IGNORECASE | re.ASCII)

Position: TypeAlias = Annotated[list[float], msgspec.Meta(min_length=2)]
Ring: TypeAlias = Annotated[list[Position], msgspec.Meta(min_length=3)]
RingList: TypeAlias = Annotated[list[Ring], msgspec.Meta(min_length=1)]


class _CrsProperties(msgspec.Struct):
    name: str


class _Crs(msgspec.Struct):
    """The reference system as the first version of GeoJSON named it, and GIS still do."""

    properties: _CrsProperties


class _Object(msgspec.Struct, tag_field="type"):
    crs: _Crs | None = None


class _Polygon(_Object, tag="Polygon", kw_only=True):
    coordinates: RingList


class _MultiPolygon(_Object, tag="MultiPolygon", kw_only=True):
    coordinates: Annotated[list[RingList], msgspec.Meta(min_length=1)]


class _Properties(msgspec.Struct):
    image: str | None = None
    file_name: str | None = None


class _Feature(_Object, tag="Feature", kw_only=True):
    geometry: _Polygon | _MultiPolygon
    properties: _Properties | None = None


class _FeatureCollection(_Object, tag="FeatureCollection", kw_only=True):
    features: Annotated[list[_Feature], msgspec.Meta(min_length=1)]


_Content: TypeAlias = _Polygon | _MultiPolygon | _Feature | _FeatureCollection


@dataclass(frozen=True, slots=True, eq=False)
class GeoAreas:
    """The areas of a file.

    Attributes:
        areas: `(N,)` shapely polygons, in the coordinates of the file. They may cross themselves.
        images: for each the name of the image that it is for; "" for all images.
        crs: the name of the reference system, EPSG:32632; "" if the file names none.
    """

    areas: Objects
    images: tuple[str, ...]
    crs: str

    @property
    def bounds(self) -> Floats:
        """`(4,)` xyxy of all areas, in the coordinates of the file."""
        bounds = shapely.bounds(self.areas)
        return np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)])


def read(data: bytes, where: str) -> GeoAreas:
    """The areas of a GeoJSON: a FeatureCollection, Feature, Polygon or MultiPolygon.

    A feature is for the image that its property `image` or `file_name` names, if it has one.

    Args:
        where: the name of the file in errors.

    Raises:
        TilerError: it is no GeoJSON, or something in it is no area.

    >>> text = b'{"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 2], [0, 0]]]}'
    >>> read(text, "a.geojson").areas.tolist()
    [<POLYGON ((0 0, 4 0, 4 2, 0 0))>]
    """
    try:
        content = msgspec.json.decode(without_bom(data), type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TilerError(f"{where}: expected GeoJSON of polygons: {error}") from None
    features = list(_features(content))
    images: list[str] = []
    rings: list[Floats] = []
    sizes: list[int] = []
    for number, feature in enumerate(features):
        name = f"{where}: feature {number}"
        found = _polygons(feature.geometry)
        images += [_image(feature.properties, name)] * len(found)
        sizes += [len(polygon) for polygon in found]
        rings += [_points(ring, name) for polygon in found for ring in polygon]
    return GeoAreas(_areas(rings, sizes, where), tuple(images), _crs(content, features, where))


def _features(content: _Content) -> Iterator[_Feature]:
    if isinstance(content, _FeatureCollection):
        yield from content.features
    elif isinstance(content, _Feature):
        yield content
    else:
        yield _Feature(geometry=content)


def _polygons(geometry: _Polygon | _MultiPolygon) -> list[RingList]:
    if isinstance(geometry, _Polygon):
        return [geometry.coordinates]
    return geometry.coordinates


def _image(properties: _Properties | None, name: str) -> str:
    """The name of the image that a feature is for; "" for all."""
    if properties is None:
        return ""
    given = {properties.image or "", properties.file_name or ""} - {""}
    if len(given) > 1:
        raise TilerError(f"{name}: image and file_name name two images, expected one")
    return next(iter(given), "")


def _points(ring: Ring, name: str) -> Floats:
    """`(N, 2)` the points of a ring, the first one not repeated; heights are left out."""
    points = np.array([position[:2] for position in ring], np.float64)
    if not (np.abs(points) < FARTHEST).all():
        raise TilerError(f"{name}: a coordinate of {FARTHEST:g} or more")
    if (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < 3:
        raise TilerError(f"{name}: a ring of {len(points)} points, expected at least 3")
    return points


def _areas(rings: Sequence[Floats], sizes: Sequence[int], where: str) -> Objects:
    """`(N,)` polygons of their rings, `sizes[i]` of them each."""
    ring = ragged.owners(ragged.offsets(map(len, rings)))
    polygon = ragged.owners(ragged.offsets(sizes))
    lines = shapely.linearrings(np.concatenate(rings), indices=ring)
    areas = np.asarray(shapely.polygons(lines, indices=polygon))
    empty = np.flatnonzero(~(shapely.area(areas) > 0))
    if len(empty):
        raise TilerError(f"{where}: polygon {empty[0]} of {len(areas)} has no area")
    return areas


def _crs(content: _Content, features: Sequence[_Feature], where: str) -> str:
    """The one reference system that is named anywhere in the file."""
    objects = [content, *features, *(feature.geometry for feature in features)]
    names = {crs_name(each.crs.properties.name) for each in objects if each.crs is not None}
    if len(names) > 1:
        raise TilerError(f"{where}: expected one reference system, got {', '.join(sorted(names))}")
    return next(iter(names), "")


def crs_name(name: str) -> str:
    """A reference system by its EPSG code, in whatever way it is named; else the name as it is.

    >>> crs_name("urn:ogc:def:crs:EPSG::32632"), crs_name("urn:ogc:def:crs:OGC:1.3:CRS84")
    ('EPSG:32632', 'EPSG:4326')
    """
    name = name.strip()[:LONGEST_NAME]
    if name.upper().endswith("CRS84"):
        return LON_LAT
    match = EPSG.fullmatch(name)
    return f"EPSG:{int(match[1])}" if match else name
