"""A GeoPackage of detections, written by GDAL (the extra `gis`) from the lines of a GeoJSON."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Objects

LAYER = "detections"
STEP = 65_536  # features in memory at the same time
FIELDS: dict[str, Any] = {
    "source": object,
    "index": np.int64,
    "class_id": np.int64,
    "class": object,
    "conf": np.float64,
}
NEVER = "2000-01-01T00:00:00.000Z"  # in place of now, so that the same input gives the same bytes


class _WrittenFeature(msgspec.Struct):
    properties: dict[str, Any]
    geometry: msgspec.Raw


def write(path: Path, features: BinaryIO, crs: str, task: str) -> int:
    """Write a layer of all features; returns the bytes of the file.

    Outlines are multipolygons, boxes and OBBs polygons. Keypoints are JSON text.

    Args:
        path: of a file that does not exist.
        features: lines of a GeoJSON, as `exports.geojson_features` makes them; its other lines do
            not count.
        crs: the reference system of their coordinates.

    Raises:
        TilerError: GDAL cannot write it.
    """
    import pyogrio

    kinds = dict(FIELDS)
    if task == "pose":
        kinds["keypoints"] = object
    decoder = msgspec.json.Decoder(_WrittenFeature)
    decoded = (decoder.decode(line) for line in _feature_lines(features))
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": NEVER})
    try:
        _append(path, [], kinds, crs, task, append=False)
        while batch := list(islice(decoded, STEP)):
            _append(path, batch, kinds, crs, task, append=True)
    except (RuntimeError, pyogrio._err.CPLE_BaseError) as error:
        text = " ".join(str(error).split())[:300]
        raise TilerError(f"{path.name}: GDAL cannot write it: {text}") from None
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    return path.stat().st_size


def _feature_lines(file: BinaryIO) -> Iterator[bytes]:
    for line in file:
        if line.startswith(b'{"type":"Feature",'):
            yield line.rstrip(b",\n")


def _append(
    path: Path,
    batch: list[_WrittenFeature],
    kinds: dict[str, Any],
    crs: str,
    task: str,
    append: bool,
) -> None:
    """Write features to the layer, or begin it."""
    import pyogrio

    columns = []
    for name, kind in kinds.items():
        values = [feature.properties[name] for feature in batch]
        if name == "keypoints":
            values = [msgspec.json.encode(value).decode() for value in values]
        columns.append(np.array(values, kind))
    is_outline = task == "segment"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a layer without features
        pyogrio.raw.write(
            path,
            _geometries(batch),
            columns,
            list(kinds),
            layer=LAYER,
            driver="GPKG",
            geometry_type="MultiPolygon" if is_outline else "Polygon",
            crs=crs,
            encoding="UTF-8",
            append=append,
            promote_to_multi=is_outline,
        )


def _geometries(batch: list[_WrittenFeature]) -> Objects:
    """Well-known binary of each feature's geometry."""
    texts = [bytes(feature.geometry).decode() for feature in batch]
    shapes = shapely.from_geojson(np.array(texts, object))
    return np.asarray(shapely.to_wkb(shapes), object)
