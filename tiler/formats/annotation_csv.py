"""CSV with one object a row and a column that names the image: DeepForest's, and others like it.

A row has a box (`xmin, ymin, xmax, ymax`) or an outline in a `geometry` column (WKT, in pixels).
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats import coco_values
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.map_shapes import segmentation
from tiler.lazy import shapely

MAX_BYTES = 1_000_000_000
IMAGE = ("image_path", "filename", "file_name", "image", "image_name")
CLASS = ("label", "class", "class_name", "name", "category")
SIDES = ("xmin", "ymin", "xmax", "ymax")
SIZE = ("width", "height")
GEOMETRY = "geometry"
NUMBER = r"([-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]{1,3})?)"
POINT = re.compile(rf"POINT ?\( ?{NUMBER} +{NUMBER} ?\)", re.I)

POLYGONS = ("POLYGON", "MULTIPOLYGON")

Row = Mapping[str, str | None]


def read(text: str, path: str, point_size: float = 0) -> list[AnnotatedImage]:
    """The images of a CSV in the order they are first named, with their objects. A row that only
    names an image means that nothing is in it.

    Args:
        path: the name of the file in findings.
        point_size: side in px of the box that is made of a point; with 0, points are reported.

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
            image = images.setdefault(name, AnnotatedImage(name, _size(row), file=path))
            if _is_empty(row, class_column):
                continue
            try:
                annotation = _object(row, class_column, point_size)
                annotation.index, annotation.line = index, reader.line_num
                image.annotations.append(annotation)
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


def _size(row: Row) -> tuple[int, int] | None:
    """Width and height of the image, where a row has them."""
    width, height = (coco_values.side(row.get(column)) for column in SIZE)
    if width is None or height is None:
        return None
    return width, height


def _is_empty(row: Row, class_column: str) -> bool:
    return not any(row.get(column) for column in (class_column, GEOMETRY, *SIDES))


def _object(row: Row, class_column: str, point_size: float) -> Annotation:
    name = (row[class_column] or "").strip()
    if not name:
        raise InvalidAnnotation("L04", f"no {class_column}")
    geometry = (row.get(GEOMETRY) or "").strip()
    point = POINT.fullmatch(geometry)
    if point is not None:
        x, y = float(point[1]), float(point[2])
        bbox = coco_values.point_box(x, y, point_size)
        return Annotation(category_id=name, bbox=bbox, kind="object")
    if geometry:
        polygons = _polygons(geometry)
        return Annotation(category_id=name, segmentation=polygons, kind="object")
    left, top, right, bottom = (_number(row, side) for side in SIDES)
    bbox = [left, top, right - left, bottom - top]
    return Annotation(category_id=name, bbox=bbox, kind="object")


def _number(row: Row, column: str) -> float:
    found = row.get(column)
    value = coco_values.number(found)
    if value is None or not math.isfinite(value):
        raise InvalidAnnotation("L02", f"{column} is {short(found)}, expected a number")
    return value


def _polygons(wkt: str) -> list[list[float]]:
    """The outlines of a POLYGON or MULTIPOLYGON, as COCO has polygons."""
    if not wkt.upper().startswith(POLYGONS):
        raise InvalidAnnotation("L03", f"geometry is {short(wkt)}, expected a polygon in WKT")
    with np.errstate(all="ignore"):  # numbers beyond floats are reported when they are used
        geometry: Any = shapely.from_wkt(wkt, on_invalid="ignore")
        if geometry is None:
            raise InvalidAnnotation("L03", f"geometry is {short(wkt)}, which is not WKT")
        return segmentation(geometry)
