"""labelme JSON: one file for each image, with named shapes in pixels."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats import coco_values, labelme_masks
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco import NOT_JSON
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.text_files import without_bom

MAX_BYTES = 256_000_000  # the file may hold its image
CIRCLE = 64  # corners of the polygon that stands for a circle

POLYGONS = ("polygon", "rotation", "oriented_rectangle")

Point = tuple[float, float]
Size = tuple[int, int]


class _Shape(msgspec.Struct):
    label: Any = None
    points: Any = None
    shape_type: Any = None
    group_id: Any = None
    mask: Any = None
    difficult: Any = None
    score: Any = None
    flags: Any = None

    @property
    def confidence(self) -> Any:
        """The confidence of a detection: the shape's score, or a flag with a number."""
        if self.score is None and isinstance(self.flags, dict):
            return self.flags.get("confidence", self.flags.get("score"))
        return self.score

    @property
    def group(self) -> tuple[str, int | str] | None:
        """What the parts of one object share; rectangles and points are objects of their own."""
        if self.shape_type in ("rectangle", "point") or not isinstance(self.group_id, int | str):
            return None
        return self.label, self.group_id


class _LabelmeContent(msgspec.Struct):
    shapes: list[_Shape]
    imagePath: Any = None  # noqa: N815  labelme's name
    imageWidth: Any = None  # noqa: N815
    imageHeight: Any = None  # noqa: N815

    @property
    def size(self) -> Size | None:
        """Width and height of the image, if declared."""
        width = coco_values.side(self.imageWidth)
        height = coco_values.side(self.imageHeight)
        if width is None or height is None:
            return None
        return width, height


def read(data: bytes, path: str, point_size: float = 0) -> AnnotatedImage:
    """The shapes of a labelme file that have an area; lines are reported.

    Shapes of the same label and `group_id` are the parts of one object, as labelme's own export to
    COCO has it; rectangles are not grouped.

    Args:
        path: the name of the file in findings.
        point_size: side in px of the box that is made of a point; with 0, points are reported.

    Raises:
        TilerError: it is no JSON, or not labelme's.

    >>> shape = b'{"label": "car", "points": [[9, 2], [5, 8]], "shape_type": "rectangle"}'
    >>> read(b'{"shapes": [%s]}' % shape, "a.json").annotations[0].bbox
    [5.0, 2.0, 4.0, 6.0]
    """
    try:
        content = msgspec.json.decode(without_bom(data), type=_LabelmeContent)
    except NOT_JSON as error:
        raise TilerError(f"{path}: not labelme JSON: {error}") from None
    name = content.imagePath if isinstance(content.imagePath, str) else ""
    image = AnnotatedImage(name, content.size, file=path)
    groups: dict[tuple[str, int | str], Annotation] = {}
    for index, shape in enumerate(content.shapes):
        try:
            part = _object(shape, index, content.size, point_size)
            whole = part if shape.group is None else groups.setdefault(shape.group, part)
            if whole is part:
                image.annotations.append(part)
            else:
                _add(whole, part)
        except InvalidAnnotation as error:
            message = f"shape {index + 1}: {error.message}"
            image.findings.append(Finding(path, error.code, message))
    image.findings[:] = condensed(image.findings)
    return image


def _add(whole: Annotation, part: Annotation) -> None:
    """Add another part to an object of polygons."""
    if not isinstance(whole.segmentation, list) or not isinstance(part.segmentation, list):
        message = f"shares its group_id with {whole.name}; only polygons can be parts of one object"
        raise InvalidAnnotation("L03", message)
    whole.segmentation += part.segmentation
    whole.difficult = whole.difficult and part.difficult


def _object(shape: _Shape, index: int, size: Size | None, point_size: float) -> Annotation:
    if not isinstance(shape.label, str) or not shape.label:
        raise InvalidAnnotation("L04", f"label is {short(shape.label)}, expected a name")
    annotation = Annotation(id=index + 1, category_id=shape.label, index=index, kind="shape")
    annotation.score = shape.confidence
    annotation.difficult = coco_values.mark(shape.difficult, "difficult")
    points = _points(shape.points)
    kind = shape.shape_type or "polygon"
    if kind == "rectangle":
        annotation.bbox = _box(points)
    elif kind == "mask":
        annotation.segmentation = _mask(shape.mask, points, size)
    elif kind == "point" and len(points) == 1:
        annotation.bbox = coco_values.point_box(*points[0], point_size)
    elif kind == "circle":
        annotation.segmentation = [_flat(_circle(points))]
    elif kind in POLYGONS:
        if len(points) < 3:
            raise InvalidAnnotation("L03", f"expected 3 points or more, got {len(points)}")
        annotation.segmentation = [_flat(points)]
    else:
        raise InvalidAnnotation("L03", f"a {short(kind)} is no object with an area")
    return annotation


def _points(given: Any) -> list[Point]:
    try:
        points = [(coco_values.number(x), coco_values.number(y)) for x, y in given]
    except (TypeError, ValueError):
        points = [(None, None)]
    valid = []
    for x, y in points:
        if x is None or y is None:
            raise InvalidAnnotation("L03", f"points are [[x, y], ...], got {short(given)}")
        if not (abs(x) < coco_values.FAR and abs(y) < coco_values.FAR):
            raise InvalidAnnotation("L02", f"points hold {short([x, y])}, expected finite pixels")
        valid.append((float(x), float(y)))
    return valid


def _box(points: list[Point]) -> list[float]:
    """x, y, width and height around two opposite corners, in any order."""
    if len(points) not in (2, 4):
        raise InvalidAnnotation("L03", f"a rectangle has 2 corners, got {len(points)}")
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _circle(points: list[Point]) -> list[Point]:
    """A polygon for a circle, given by its centre and a point on it."""
    if len(points) != 2:
        raise InvalidAnnotation("L03", f"a circle has a centre and a point, got {len(points)}")
    (cx, cy), (x, y) = points
    radius = math.hypot(x - cx, y - cy)
    angles = [2 * math.pi * k / CIRCLE for k in range(CIRCLE)]
    return [(cx + radius * math.cos(a), cy + radius * math.sin(a)) for a in angles]


def _mask(given: Any, points: list[Point], size: Size | None) -> dict[str, Any]:
    if size is None:
        raise InvalidAnnotation("L03", "a mask needs imageWidth and imageHeight")
    if len(points) != 2:
        raise InvalidAnnotation("L03", f"a mask has 2 corners, got {len(points)}")
    return labelme_masks.run_lengths(given, points, size)


def _flat(points: list[Point]) -> list[float]:
    return [value for point in points for value in point]
