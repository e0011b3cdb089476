"""labelme JSON: one file for each image, with named shapes in pixels."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco import NOT_JSON
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.text_files import without_bom

MAX_BYTES = 256_000_000  # the file may hold its image
CIRCLE = 64  # corners of the polygon that stands for a circle


class _Shape(msgspec.Struct):
    label: Any = None
    points: Any = None
    shape_type: Any = None


class _File(msgspec.Struct):
    shapes: list[_Shape]
    imagePath: Any = None  # noqa: N815  labelme's name
    imageWidth: Any = None  # noqa: N815
    imageHeight: Any = None  # noqa: N815


def read(data: bytes, path: str) -> AnnotatedImage:
    """The shapes of a labelme file: rectangles, polygons and circles; others are reported.

    Args:
        path: the name of the file in findings.

    Raises:
        TilerError: it is no JSON, or not labelme's.

    >>> shape = b'{"label": "car", "points": [[9, 2], [5, 8]], "shape_type": "rectangle"}'
    >>> read(b'{"shapes": [%s]}' % shape, "a.json").annotations[0].bbox
    [5.0, 2.0, 4.0, 6.0]
    """
    try:
        content = msgspec.json.decode(without_bom(data), type=_File)
    except NOT_JSON as error:
        raise TilerError(f"{path}: not labelme JSON: {error}") from None
    name = content.imagePath if isinstance(content.imagePath, str) else ""
    image = AnnotatedImage(name, _size(content))
    for index, shape in enumerate(content.shapes):
        try:
            image.annotations.append(_object(shape, index))
        except InvalidAnnotation as error:
            message = f"shape {index + 1}: {error.message}"
            image.findings.append(Finding(path, error.code, message))
    image.findings[:] = condensed(image.findings)
    return image


def _size(content: _File) -> tuple[int, int] | None:
    width, height = content.imageWidth, content.imageHeight
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _object(shape: _Shape, index: int) -> Annotation:
    if not isinstance(shape.label, str) or not shape.label:
        raise InvalidAnnotation("L04", f"label is {short(shape.label)}, expected a name")
    points = _points(shape.points)
    kind = shape.shape_type or "polygon"
    if kind == "rectangle":
        return Annotation(category_id=shape.label, bbox=_box(points), index=index)
    if kind == "polygon":
        polygon = points
    elif kind == "circle":
        polygon = _circle(points)
    else:
        raise InvalidAnnotation("L03", f"a {short(kind)} is no object with an area")
    if len(polygon) < 3:
        raise InvalidAnnotation("L03", f"expected 3 points or more, got {len(polygon)}")
    flat = [value for point in polygon for value in point]
    return Annotation(category_id=shape.label, segmentation=[flat], index=index)


def _points(given: Any) -> list[tuple[float, float]]:
    try:
        points = [(float(x), float(y)) for x, y in given]
    except (TypeError, ValueError, OverflowError):
        raise InvalidAnnotation("L03", f"points are [[x, y], ...], got {short(given)}") from None
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InvalidAnnotation("L02", f"points hold {short([x, y])}, expected finite pixels")
    return points


def _box(points: list[tuple[float, float]]) -> list[float]:
    """x, y, width and height around two opposite corners, in any order."""
    if len(points) not in (2, 4):
        raise InvalidAnnotation("L03", f"a rectangle has 2 corners, got {len(points)}")
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _circle(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A polygon for a circle, given by its centre and a point on it."""
    if len(points) != 2:
        raise InvalidAnnotation("L03", f"a circle has a centre and a point, got {len(points)}")
    (cx, cy), (x, y) = points
    radius = math.hypot(x - cx, y - cy)
    angles = [2 * math.pi * k / CIRCLE for k in range(CIRCLE)]
    return [(cx + radius * math.cos(a), cy + radius * math.sin(a)) for a in angles]
