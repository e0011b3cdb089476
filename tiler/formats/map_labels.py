"""Labels of a GIS: the features of a vector file, in pixels of each image that they lie in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, condensed
from tiler.formats import reprojection, vectors
from tiler.formats.affine import Affine
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.map_shapes import segmentations
from tiler.geometry import overlay, polygons
from tiler.geometry.overlay import MULTIPOLYGON, POLYGON
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.formats.manifest import Geo
    from tiler.formats.reprojection import Reprojection
    from tiler.formats.vectors import VectorLayer
    from tiler.types import Bools, Floats, Ints, Objects

POINT, MULTIPOINT = 0, 4  # shapely's type ids
FIRST = 5  # features that a message names
SPECK = 1e-3  # px²; an outline that shows less of itself only touches the image
CROSSING = "its outline crosses or touches itself; read by the even-odd rule"


@dataclass(frozen=True, slots=True)
class MapImage:
    """An image that features may lie in.

    Attributes:
        file_name: as findings name it.
        size: width and height in px; None if it cannot be read.
        geo: where it lies; None if it does not say.
    """

    file_name: str
    size: tuple[int, int] | None
    geo: Geo | None


@dataclass(frozen=True, slots=True)
class MapLabels:
    """The features of a vector file, by image.

    Attributes:
        images: as they were given, each with its objects. An outline is whole, also where it
            reaches past the image. An image without a place on the map, or far from all features,
            has a `doubt`.
        findings: what is not about a feature of one image.
        said: what was read, in one line.
    """

    images: list[AnnotatedImage]
    findings: list[Finding]
    said: str


def read(
    path: Path,
    images: Sequence[MapImage],
    class_field: str = "",
    layer: str = "",
    point_size: float | None = None,
) -> MapLabels:
    """The labels of images, from a vector file.

    `index` of an annotation is the feature's place in the file, from 0; `id` is the number that a
    GIS shows.

    Args:
        class_field: the field that names the class; "": all are of one class, named like the layer.
        layer: needed if the file has several.
        point_size: side in px of the box that is made of a point; None: points are rejected.

    Raises:
        TilerError: the file cannot be read, no image has a place, or no feature lies in any image.
    """
    return placed(vectors.read(path, class_field, layer), images, point_size)


def placed(
    layer: VectorLayer, images: Sequence[MapImage], point_size: float | None = None
) -> MapLabels:
    """The features of a layer in pixels of the images; see `read`."""
    _require_objects(layer, point_size)
    places, result = _places(images, layer)
    if not places:
        first = f": {result[0].file_name}: {result[0].doubt}" if result else ""
        raise TilerError(f"{layer.path}: no image has a known place on the map{first}")
    findings: list[Finding] = []
    met = np.zeros(len(layer), bool)
    ways: dict[str, Reprojection] = {}
    for crs, group in _by_system(places).items():
        way = _way(layer, crs, group)
        features = _Features.moved(layer, way, group, point_size)
        for place in group:
            met[features.annotate(result[place.order], place)] = True
        findings += _inaccuracy(layer, way, group)
        ways[crs] = way
    if not met.any():
        raise TilerError(_nowhere(layer, places, ways))
    findings += layer.findings + _left_over(layer, met)
    return MapLabels(result, findings, _said(layer))


def _require_objects(layer: VectorLayer, point_size: float | None) -> None:
    """Reject a layer of nothing, or of points without a size, at once and not one by one."""
    if _absent(layer).all():
        raise TilerError(f"{layer.path}: no feature has a geometry that can be read")
    if point_size is None and _are_points(layer.shapes).all():
        raise TilerError(
            f"{layer.path}: all {len(layer)} features are points, expected outlines; "
            "--point-size PX makes boxes of that size of them"
        )


def _are_points(shapes: Objects) -> Bools:
    return np.isin(shapely.get_type_id(shapes), (POINT, MULTIPOINT))


@dataclass(frozen=True, slots=True, eq=False)
class _Footprint:
    """An image with a place in a known reference system.

    Attributes:
        order: its index among all images.
        corners: `(4, 2)` in units of that system, in order around the image.
        pixel: side of a square of a pixel's area in these units.
    """

    order: int
    size: tuple[int, int]
    affine: Affine
    crs: str
    corners: Floats
    pixel: float

    @classmethod
    def of(cls, order: int, size: tuple[int, int], affine: Affine, crs: str) -> _Footprint:
        """The place of an image, by the map from its pixels."""
        width, height = size
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
        pixel = abs(affine.determinant) ** 0.5
        return cls(order, size, affine, crs, affine.apply(corners), pixel)


def _places(
    images: Sequence[MapImage], layer: VectorLayer
) -> tuple[list[_Footprint], list[AnnotatedImage]]:
    """The images with a place, and all images, still without objects."""
    places: list[_Footprint] = []
    annotated: list[AnnotatedImage] = []
    known: dict[str, bool] = {}
    for order, image in enumerate(images):
        entry = AnnotatedImage(image.file_name, image.size, file=layer.path, cropped=True)
        annotated.append(entry)
        geo = image.geo
        crs = geo.crs if geo else None
        if crs is not None and crs not in known:
            known[crs] = reprojection.known(crs)
        if geo is None or image.size is None:
            entry.doubt = "has no place on the map (GeoTIFF tags or a world file)"
        elif crs is None:
            entry.doubt = "is in a reference system without an EPSG code"
        elif not known[crs]:
            entry.doubt = f"is in {crs}, which PROJ cannot place"
        else:
            places.append(_Footprint.of(order, image.size, Affine(*geo.transform), crs))
    return places, annotated


def _by_system(places: Sequence[_Footprint]) -> dict[str, list[_Footprint]]:
    groups: dict[str, list[_Footprint]] = {}
    for place in places:
        groups.setdefault(place.crs, []).append(place)
    return groups


def _smallest_pixel(places: Sequence[_Footprint]) -> float:
    return min(place.pixel for place in places)


def _corners(places: Sequence[_Footprint]) -> Floats:
    return np.concatenate([place.corners for place in places])


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """The features of a layer in the reference system of some images.

    Attributes:
        shapes: `(N,)`; None where there is no geometry, or the system does not reach.
        tree: of the shapes.
        extent: `(4,)` xyxy around all.
        are_points: `(N,)`.
        point_size: px; 0 if points are rejected.
    """

    layer: VectorLayer
    shapes: Objects
    tree: Any
    extent: Floats
    are_points: Bools
    point_size: float

    @classmethod
    def moved(
        cls,
        layer: VectorLayer,
        way: Reprojection,
        group: Sequence[_Footprint],
        point_size: float | None,
    ) -> _Features:
        """Into the system of some images."""
        shapes = way.shapes(layer.shapes, _extent(_corners(group)), _smallest_pixel(group))
        bounds = shapely.bounds(shapes)
        finite = np.isfinite(bounds).all(axis=1)
        shapes = shapes.copy()
        shapes[~finite] = None
        tree = shapely.STRtree(shapes)
        extent = _extent(bounds[finite].reshape(-1, 2))
        return cls(layer, shapes, tree, extent, _are_points(shapes), point_size or 0.0)

    def within(self, place: _Footprint) -> tuple[Ints, Objects]:
        """`(K,)` the features that show in an image, and their shapes in its pixels."""
        width, height = place.size
        reach = self.point_size / 2
        around = shapely.box(-reach, -reach, width + reach, height + reach)
        near = np.sort(self.tree.query(shapely.transform(around, place.affine.apply)))
        shapes = shapely.transform(self.shapes[near], place.affine.pixels)
        bounds = shapely.bounds(shapes)
        bounds[self.are_points[near]] += [-reach, -reach, reach, reach]
        shown = _shown(shapes, bounds, place.size)
        return near[shown], shapes[shown]

    def annotate(self, image: AnnotatedImage, place: _Footprint) -> Ints:
        """Give an image the features that show in it, in the order of the file; which these are."""
        found, shapes = self.within(place)
        valid = shapely.is_valid(shapes).tolist()
        objects = self._objects(found, shapes)
        for k, given, plain in zip(found.tolist(), objects, valid, strict=True):
            if isinstance(given, InvalidAnnotation):
                image.findings.append(self._finding(k, given.code, given.message))
                continue
            image.annotations.append(given)
            if not plain:
                image.findings.append(self._finding(k, "L09", CROSSING))
        image.findings[:] = condensed(image.findings)
        if not _overlap(self.extent, _extent(place.corners)):
            image.doubt = f"lies outside the area of all features of {self.layer.path}"
        return found

    def _finding(self, k: int, code: str, message: str) -> Finding:
        return Finding(self.layer.path, code, f"feature {self.layer.fids[k]}: {message}")

    def _objects(self, found: Ints, shapes: Objects) -> Iterator[Annotation | InvalidAnnotation]:
        """Each feature as an object, or why it is none: it has no class, or is neither an outline
        nor, with a size, a point.
        """
        outlines = segmentations(shapes)
        for k, shape, outline in zip(found.tolist(), shapes, outlines, strict=True):
            name = self.layer.classes[k]
            id = int(self.layer.fids[k])
            where = self._box(shape) if self.are_points[k] else outline
            if name is None:
                yield InvalidAnnotation("L04", "no class: its field is empty")
            elif isinstance(where, InvalidAnnotation):
                yield where
            elif self.are_points[k]:
                yield Annotation(id, category_id=name, bbox=where, index=k)
            else:
                yield Annotation(id, category_id=name, segmentation=where, index=k)

    def _box(self, point: shapely.Geometry) -> list[float] | InvalidAnnotation:
        """COCO's `bbox` around a point."""
        side = self.point_size
        if not side:
            return InvalidAnnotation("L03", "a point; --point-size PX makes a box of it")
        points = shapely.get_coordinates(point)
        if len(points) != 1:
            return InvalidAnnotation("L03", f"a MultiPoint of {len(points)} points, expected one")
        x, y = (points[0] - side / 2).tolist()
        return [x, y, side, side]


def _shown(shapes: Objects, bounds: Floats, size: tuple[int, int]) -> Bools:
    """`(N,)` True where a shape shows in an image: by its bounds, and for an outline across the
    border by its area inside.
    """
    left, top, right, bottom = bounds.T
    shown = (right > 0) & (bottom > 0) & (left < size[0]) & (top < size[1])
    inside = (left >= 0) & (top >= 0) & (right <= size[0]) & (bottom <= size[1])
    kinds = shapely.get_type_id(shapes)
    areal = (kinds == POLYGON) | (kinds == MULTIPOLYGON)
    across = np.flatnonzero(shown & ~inside & areal)
    rings = Rings.from_geometry(shapes[across])
    clear = ~polygons.tangled(rings)  # the others are rejected later, by name
    across = across[clear]
    if len(across):
        frame = np.full(len(across), shapely.box(0, 0, *size))
        shown[across] = overlay.common_area(rings.take(clear).geometry(), frame) > SPECK
    return np.asarray(shown)


def _way(layer: VectorLayer, crs: str, group: Sequence[_Footprint]) -> Reprojection:
    """From the reference system of a layer to that of some images."""
    try:
        return reprojection.between(layer.crs, crs, _corners(group))
    except TilerError as error:
        raise TilerError(f"{layer.path}: {error}") from None


def _inaccuracy(
    layer: VectorLayer, way: Reprojection, group: Sequence[_Footprint]
) -> list[Finding]:
    """A finding if labels may lie beside their objects, and would not if PROJ had all its files."""
    crs = group[0].crs
    off = way.accuracy / (_smallest_pixel(group) * way.metres)
    if not way.lacking or off <= 1:
        return []
    message = (
        f"to {crs} within {way.accuracy:g} m ({off:.0f} px) only, as PROJ lacks "
        f"{', '.join(way.lacking)}; save the file in {crs} with a GIS if labels are shifted"
    )
    return [Finding(layer.path, "G02", message)]


def _left_over(layer: VectorLayer, met: Bools) -> list[Finding]:
    """Findings for the features that lie in no image."""
    absent = _absent(layer)
    findings = []
    if absent.any():
        what = f"{absent.sum()} of {len(layer)} features have no geometry that can be read"
        findings.append(Finding(layer.path, "L06", f"{what}: {_named(layer, absent)}"))
    outside = ~met & ~absent
    if outside.any():
        what = f"{outside.sum()} of {len(layer)} features lie in no image"
        findings.append(Finding(layer.path, "G01", f"{what}: {_named(layer, outside)}"))
    return findings


def _absent(layer: VectorLayer) -> Bools:
    """`(N,)` True for features without geometry."""
    return np.asarray(np.isnan(shapely.bounds(layer.shapes)).any(axis=1))


def _named(layer: VectorLayer, which: Bools) -> str:
    """The numbers of the first of some features."""
    numbers = layer.fids[which]
    text = ", ".join(map(str, numbers[:FIRST].tolist()))
    return f"feature {text}" + (", ..." if len(numbers) > FIRST else "")


def _nowhere(
    layer: VectorLayer, places: Sequence[_Footprint], ways: dict[str, Reprojection]
) -> str:
    """Why no feature lies in any image: both extents, and whether x and y look swapped."""
    features = _extent(shapely.get_coordinates(layer.shapes))
    lines = []
    swapped = False
    for crs, group in _by_system(places).items():
        corners = _corners(group)
        there = _extent(ways[crs].back(corners))
        lines.append(f"the images are in {crs} at {_range(_extent(corners))}")
        if crs != layer.crs:
            lines[-1] += f", which is {_range(there)} in {_short_crs(layer)}"
        swapped |= _overlap(features[[1, 0, 3, 2]], there)
    found = f"the features are in {_short_crs(layer)} at {_range(features)}"
    message = f"{layer.path}: no feature lies in any image: {found}; {'; '.join(lines[:FIRST])}"
    if swapped:
        message += "; x and y of the features seem to be swapped"
    return message


def _short_crs(layer: VectorLayer) -> str:
    return layer.crs if len(layer.crs) < 20 else "the file's system"


def _extent(points: Floats) -> Floats:
    """`(4,)` xyxy around the finite ones of `(N, 2)` points; NaN if there are none."""
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.full(4, np.nan)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _overlap(one: Floats, other: Floats) -> bool:
    return bool((one[:2] <= other[2:]).all() and (other[:2] <= one[2:]).all())


def _range(extent: Floats) -> str:
    x0, y0, x1, y1 = extent.tolist()
    return f"x {x0:.8g} to {x1:.8g}, y {y0:.8g} to {y1:.8g}"


def _said(layer: VectorLayer) -> str:
    """What was read, and where the classes come from."""
    names = {name for name in layer.classes if name is not None}
    what = f"{len(layer)} features of layer {layer.name} in {layer.path}"
    if names == {layer.name}:
        fields = ", ".join(layer.fields[: vectors.MAX_NAMED]) or "none"
        return f"{what}: one class, {layer.name} (--class-field takes one of: {fields})"
    return f"{what}: {len(names)} classes"
