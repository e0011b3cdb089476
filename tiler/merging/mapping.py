"""The frame of detections on the map: of an image's own GeoJSON, and of the layer of all images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import reprojection, vectors
from tiler.formats.affine import Affine, beside
from tiler.formats.reprojection import Placement, Reprojection
from tiler.formats.text_files import within

if TYPE_CHECKING:
    from tiler.formats.manifest import Geo
    from tiler.options import PredictionOptions
    from tiler.types import Floats

FEATURES = "detections.geojson"  # of all images; a GeoPackage is made of it
GEOPACKAGE = "detections.gpkg"
LAYERS = ("geojson-all", "gpkg")  # exports of all images in one layer
HALF = 180.0  # degrees; an image wider than that reaches over the date line


class OnMap(Protocol):
    """An image with its location."""

    @property
    def key(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def geo(self) -> Geo | None: ...


@dataclass(frozen=True, slots=True)
class MapFrame:
    """Where detections of an image are written to.

    Attributes:
        affine: from pixels to the map; None: they are written in pixels.
        crs: the name of the coordinate reference system, if known.
    """

    affine: Affine | Placement | None = None
    crs: str | None = None


@dataclass(frozen=True, slots=True)
class MapLayer:
    """What the frames of all images have in common.

    Attributes:
        crs: of the layer of all images; "" if there is none.
        ways: from the system of --to-crs to those of images, by the names of these.
    """

    crs: str = ""
    ways: Mapping[str, Reprojection] = field(default_factory=dict)


def wanted(files: PredictionOptions) -> bool:
    """Whether anything is written that may be in map coordinates."""
    return not {"geojson", *LAYERS}.isdisjoint(files.export.split(","))


def has_layer(files: PredictionOptions) -> bool:
    """Whether all images are written in one layer."""
    return not set(LAYERS).isdisjoint(files.export.split(","))


def needs_places(files: PredictionOptions) -> bool:
    """Whether it matters where the images themselves say that they lie."""
    return files.roi is not None or (wanted(files) and not files.affine)


def frame_of(
    image: OnMap, files: PredictionOptions, root: Path | None, layer: MapLayer
) -> MapFrame:
    """The frame that the options choose for an image.

    Args:
        root: the folder of the images, for world files.

    Raises:
        SourceRefused: the image lies where --to-crs does not reach.
    """
    frame = _own_frame(image, files, root)
    if not files.to_crs or frame.crs is None or not isinstance(frame.affine, Affine):
        return frame
    placement = Placement.of(frame.affine, layer.ways[frame.crs], (image.width, image.height))
    return MapFrame(placement, files.to_crs)


def _own_frame(image: OnMap, files: PredictionOptions, root: Path | None) -> MapFrame:
    """Pixels, or the map of a world file, as given, or of the image itself."""
    affine, crs = None, None
    choice = files.affine
    if not wanted(files) or choice == "pixels":
        return MapFrame()
    if choice == "world":
        inner = within(image.key)  # of a manifest, or from --images on
        if root is not None and inner is not None:
            affine = beside(root / inner)
    elif choice:
        affine = Affine.of(choice)
    elif image.geo is not None:
        affine, crs = Affine.of(image.geo.transform), image.geo.crs
    if affine is None:
        return MapFrame()
    return MapFrame(affine, files.crs or crs)


def layer_of(
    images: Sequence[OnMap], files: PredictionOptions, root: Path | None
) -> tuple[MapLayer, list[Finding]]:
    """What the frames of images have in common.

    Args:
        images: those with predictions.

    Raises:
        TilerError: what is asked for needs the place of every image in a known reference system;
            or, without --to-crs, in the same one.
    """
    if not wanted(files) or not (has_layer(files) or files.to_crs):
        return MapLayer(), []
    _require_extra(files)
    asked = _asked(files)
    if files.affine not in ("", "world", "pixels") and len(images) > 1 and has_layer(files):
        raise TilerError(
            f"{asked}: --affine is the place of one image, and there are {len(images)}; all would "
            "lie upon one another"
        )
    groups: dict[str, list[tuple[OnMap, Floats]]] = {}  # with their corners, by system
    for image in images:
        affine, crs = _placed(image, files, root, asked)
        groups.setdefault(crs, []).append((image, affine.apply(_corners(image))))
    if files.to_crs:
        return _reprojected(groups, files.to_crs)
    if len(groups) > 1:
        one, other = list(groups)[:2]
        first, second = groups[one][0][0], groups[other][0][0]
        raise TilerError(
            f"{asked}: {first.key} is in {one}, {second.key} in {other}; --to-crs {one} (or "
            "another system) writes all images in one"
        )
    return MapLayer(next(iter(groups), files.crs)), []


def _reprojected(
    groups: Mapping[str, Sequence[tuple[OnMap, Floats]]], to_crs: str
) -> tuple[MapLayer, list[Finding]]:
    """The layer in the system of --to-crs, of images with their corners by their own systems."""
    ways = {}
    findings = []
    for crs, images in groups.items():
        way = _way(crs, to_crs, np.concatenate([corners for _, corners in images]))
        _require_reached(way, to_crs, images)
        findings += _inaccuracy(way, crs, to_crs)
        ways[crs] = way
    return MapLayer(to_crs, ways), findings


def _asked(files: PredictionOptions) -> str:
    """The option that needs places."""
    for name in LAYERS:
        if name in files.export.split(","):
            return f"--export {name}"
    return f"--to-crs {files.to_crs}"


def _require_extra(files: PredictionOptions) -> None:
    if vectors.missing() and (files.to_crs or "gpkg" in files.export.split(",")):
        raise TilerError(f"{_asked(files)} needs pip install 'tilestitch[gis]'")


def _placed(
    image: OnMap, files: PredictionOptions, root: Path | None, asked: str
) -> tuple[Affine, str]:
    """The map of an image and its reference system.

    Raises:
        TilerError: one of them is not known.
    """
    if files.affine == "pixels":
        raise TilerError(f"{asked}: --affine pixels has no place on the map")
    frame = _own_frame(image, files, root)
    if not isinstance(frame.affine, Affine):
        raise TilerError(
            f"{asked}: the place of {image.key} on the map is not known (no GeoTIFF, no world "
            "file when it was split); --export geojson writes it in pixels"
        )
    if frame.crs is None:
        raise TilerError(
            f"{asked}: the reference system of {image.key} has no EPSG code; say it with --crs"
        )
    if not vectors.missing() and not reprojection.known(frame.crs):
        raise TilerError(f"{asked}: {frame.crs} of {image.key} is no reference system PROJ knows")
    return frame.affine, frame.crs


def _corners(image: OnMap) -> Floats:
    width, height = image.width, image.height
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def _way(crs: str, to_crs: str, corners: Floats) -> Reprojection:
    """The way from the system of --to-crs to that of images, around these."""
    try:
        return reprojection.between(to_crs, crs, corners)
    except TilerError as error:
        message = str(error).split("; save the file")[0]
        raise TilerError(f"--to-crs {to_crs}: {message}") from None


def _require_reached(
    way: Reprojection, to_crs: str, images: Sequence[tuple[OnMap, Floats]]
) -> None:
    """Raises:
    TilerError: an image lies where the system does not reach, or across its date line.
    """
    in_degrees = reprojection.in_degrees(to_crs)
    for image, own in images:
        moved = way.back(own)
        if not np.isfinite(moved).all():
            raise TilerError(f"--to-crs {to_crs}: {image.key} lies where it does not reach")
        if in_degrees and np.ptp(moved[:, 0]) > HALF:
            raise TilerError(
                f"--to-crs {to_crs}: {image.key} reaches over the date line, where longitudes "
                "jump; choose a projected system"
            )


def _inaccuracy(way: Reprojection, crs: str, to_crs: str) -> list[Finding]:
    """A finding if detections may be shifted, and would not be if PROJ had all its files."""
    if not way.lacking:
        return []
    message = (
        f"from {crs} to {to_crs} within {way.accuracy:g} m only, as PROJ lacks "
        f"{', '.join(way.lacking)}"
    )
    return [Finding("", "G02", message)]
