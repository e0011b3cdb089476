"""CSV with one object a row and a column that names the image: DeepForest's, and others like it.

A row has a box (`xmin, ymin, xmax, ymax`) or an outline in a `geometry` column (WKT, in pixels).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco_values import InvalidAnnotation
from tiler.lazy import shapely

MAX_BYTES = 1_000_000_000
IMAGE = ("image_path", "filename", "file_name", "image", "image_name")
CLASS = ("label", "class", "class_name", "name", "category")
SIDES = ("xmin", "ymin", "xmax", "ymax")
GEOMETRY = "geometry"

Row = Mapping[str, str | None]


def read(text: str, path: str) -> list[AnnotatedImage]:
    """The images of a CSV in the order they are first named, with their objects.

    Args:
        path: the name of the file in findings.

    Raises:
        TilerError: it has no such columns, or is no CSV.

    >>> rows = "image_path,xmin,ymin,xmax,ymax,label\\na.tif,5,6,9,8,Tree\\n"
    >>> [(image.file_name, image.annotations[0].bbox) for image in read(rows, "a.csv")]
    [('a.tif', [5.0, 6.0, 4.0, 2.0])]
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    images: dict[str, AnnotatedImage] = {}
    try:
        columns = [(name or "").strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        image_column = _column(columns, IMAGE, path)
        class_column = _column(columns, CLASS, path)
        _require_shape(columns, path)
        for index, row in enumerate(reader):
            name = (row[image_column] or "").strip()
            image = images.setdefault(name, AnnotatedImage(name, None))
            try:
                image.annotations.append(_object(row, class_column, index))
            except InvalidAnnotation as error:
                line = reader.line_num
                image.findings.append(Finding(path, error.code, error.message, line))
    except csv.Error as error:
        raise TilerError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    for image in images.values():
        image.findings[:] = condensed(image.findings)
    return list(images.values())


def has_columns(line: str) -> bool:
    """Whether the first line of a CSV names an image, a class and a shape.

    >>> has_columns("image_path,xmin,ymin,xmax,ymax,label"), has_columns("epoch,loss")
    (True, False)
    """
    columns = {name.strip(' "\r\ufeff') for name in line.split(",")}
    has_shape = GEOMETRY in columns or columns.issuperset(SIDES)
    return has_shape and not columns.isdisjoint(IMAGE) and not columns.isdisjoint(CLASS)


def _column(columns: list[str], names: tuple[str, ...], path: str) -> str:
    for name in names:
        if name in columns:
            return name
    found = ", ".join(columns)[:200] or "nothing"
    raise TilerError(f"{path}: expected a column {', '.join(names)}; found {found}")


def _require_shape(columns: list[str], path: str) -> None:
    if GEOMETRY in columns or set(SIDES) <= set(columns):
        return
    found = ", ".join(columns)[:200]
    expected = f"columns {', '.join(SIDES)} or {GEOMETRY}"
    raise TilerError(f"{path}: expected {expected}; found {found}")


def _object(row: Row, class_column: str, index: int) -> Annotation:
    name = (row[class_column] or "").strip()
    if not name:
        raise InvalidAnnotation("L04", f"no {class_column}")
    geometry = (row.get(GEOMETRY) or "").strip()
    if geometry:
        polygons = _polygons(geometry)
        return Annotation(category_id=name, segmentation=polygons, index=index)
    left, top, right, bottom = (_number(row, side) for side in SIDES)
    bbox = [left, top, right - left, bottom - top]
    return Annotation(category_id=name, bbox=bbox, index=index)


def _number(row: Row, column: str) -> float:
    found = row.get(column)
    try:
        value = float(found or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidAnnotation("L02", f"{column} is {short(found)}, expected a number")
    return value


def _polygons(wkt: str) -> list[list[float]]:
    """The outer rings of a POLYGON or MULTIPOLYGON, as COCO has polygons: x, y, x, y, ..."""
    try:
        geometry: Any = shapely.from_wkt(wkt)
    except shapely.GEOSException:
        raise InvalidAnnotation("L03", f"geometry is {short(wkt)}, expected WKT") from None
    if geometry is None or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        kind = "nothing" if geometry is None else geometry.geom_type
        raise InvalidAnnotation("L03", f"geometry is a {kind}, expected a polygon")
    if geometry.is_empty:
        raise InvalidAnnotation("L06", "geometry is an empty polygon")
    parts = shapely.get_parts(geometry)
    if any(shapely.get_num_interior_rings(parts)):
        raise InvalidAnnotation("L03", "a polygon with holes is not supported")
    return [shapely.get_coordinates(part)[:-1].ravel().tolist() for part in parts]
