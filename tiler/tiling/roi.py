"""The regions of --roi, and which tiles meet them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import SourceRefused, TilerError
from tiler.formats import geojson
from tiler.formats.affine import Affine
from tiler.formats.geojson import GeoAreas
from tiler.formats.manifest import Geo
from tiler.formats.text_files import read_bytes, reason
from tiler.geometry import boxes as box
from tiler.geometry import overlay
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Objects

LEAST = 1e-6  # px that a region reaches into a tile that it meets


@dataclass(frozen=True, slots=True, eq=False)
class RoiFile:
    """A file of regions as it was read.

    Attributes:
        name: without its folder.
        digest: of its content.
    """

    name: str
    digest: str
    content: GeoAreas

    @property
    def extent(self) -> str:
        """Where its coordinates lie, in words."""
        return extent(self.content.bounds)


@dataclass(frozen=True, slots=True, eq=False)
class Roi:
    """The regions that tiles are wanted of.

    Attributes:
        everywhere: `(N,)` areas that are for all images.
        own: further areas by the key of the image that they are for.
        on_map: whether they are in map coordinates; else in pixels of the upright image.
        crs: the reference system of the map coordinates; "" if it is not known.
    """

    everywhere: Objects
    own: Mapping[str, Objects]
    on_map: bool = False
    crs: str = ""

    @property
    def frame(self) -> str:
        """What the coordinates are, in words."""
        return f"map {self.crs}" if self.on_map else "pixels"

    def meets(self, key: str, windows: Floats, place: Geo | None) -> Bools:
        """`(T,)` which windows of an image share an area with a region.

        Args:
            windows: `(T, 4)` xyxy, px.
            place: the location of the image, for regions in map coordinates.

        Raises:
            SourceRefused: regions are for the image, but where they lie in it is not known.
        """
        areas = np.concatenate([self.everywhere, self.own.get(key, self.everywhere[:0])])
        if not len(areas):
            return np.zeros(len(windows), bool)
        inner = np.array([LEAST, LEAST, -LEAST, -LEAST])
        corners = box.corners(windows + inner)
        if self.on_map:
            corners = self._affine(place).apply(corners)
        return overlay.met(areas, shapely.polygons(corners))

    def contains(self, key: str, points: Floats, place: Geo | None) -> Bools:
        """`(N,)` which points of an image lie in a region, or on its border.

        Args:
            points: `(N, 2)` px.
            place: the location of the image, for regions in map coordinates.

        Raises:
            SourceRefused: regions are for the image, but where they lie in it is not known.
        """
        areas = np.concatenate([self.everywhere, self.own.get(key, self.everywhere[:0])])
        if not len(areas) or not len(points):
            return np.zeros(len(points), bool)
        if self.on_map:
            points = self._affine(place).apply(points)
        return overlay.holding(areas, points)

    def _affine(self, place: Geo | None) -> Affine:
        if place is None:
            raise SourceRefused("W04", "no location, and --roi is in map coordinates")
        if place.crs and self.crs and place.crs != self.crs:
            why = f"it lies in {place.crs}, and --roi is in {self.crs}; nothing is projected"
            raise SourceRefused("W04", why)
        return Affine(*place.transform)


def read(path: str) -> RoiFile:
    """The regions in a GeoJSON file.

    Raises:
        TilerError: it cannot be read, or is no GeoJSON of polygons.
    """
    try:
        data = read_bytes(Path(path), geojson.MAX_BYTES)
    except OSError as error:
        raise TilerError(f"--roi {path}: cannot be read: {reason(error)}") from None
    digest = hashlib.sha256(data).hexdigest()[:16]
    return RoiFile(os.path.basename(path), digest, geojson.read(data, path))


def extent(bounds: Floats) -> str:
    x0, y0, x1, y1 = bounds.tolist()
    return f"x {x0:.10g} to {x1:.10g}, y {y0:.10g} to {y1:.10g}"
