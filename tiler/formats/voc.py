"""Pascal VOC XML: one file for each image, with boxes, rotated boxes (roLabelImg) or polygons.

Sides are read as written, in pixels from 0, which is what labelImg, CVAT and Roboflow write. The
original VOC sets of 2005 to 2012 count pixels from 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats import coco_values
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco_values import InvalidAnnotation

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 64_000_000
SIDES = ("xmin", "ymin", "xmax", "ymax")
ROTATED = ("cx", "cy", "w", "h", "angle")


def read(data: bytes, path: str) -> AnnotatedImage:
    """The objects of a VOC file.

    Args:
        path: the name of the file in findings.

    Raises:
        TilerError: it is no XML, or not VOC's.

    >>> data = b'''<annotation><filename>a.jpg</filename><object><name>car</name><bndbox>
    ... <xmin>5</xmin><ymin>6</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>'''
    >>> image = read(data, "a.xml")
    >>> image.file_name, image.annotations[0].category_id, image.annotations[0].bbox
    ('a.jpg', 'car', [5.0, 6.0, 4.0, 2.0])
    """
    root = _root(data, path)
    image = AnnotatedImage(_text(root, "filename"), _size(root), file=path)
    for index, element in enumerate(root.iter("object")):
        if _text(element, "deleted") == "1":  # LabelMe's XML keeps them
            continue
        try:
            image.annotations.append(_object(element, index))
        except InvalidAnnotation as error:
            message = f"object {index + 1}: {error.message}"
            image.findings.append(Finding(path, error.code, message))
    image.findings[:] = condensed(image.findings)
    return image


def _root(data: bytes, path: str) -> Element:
    """The `annotation` element. Entities and external references are not expanded."""
    try:
        root: Element = ElementTree.fromstring(data)
    except DefusedXmlException as error:
        kind = type(error).__name__
        raise TilerError(f"{path}: rejected, since its XML declares entities ({kind})") from None
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise TilerError(f"{path}: not XML: {error}") from None
    if root.tag != "annotation":
        raise TilerError(f"{path}: expected Pascal VOC's <annotation>, found <{root.tag[:40]}>")
    return root


def _size(root: Element) -> tuple[int, int] | None:
    """Declared width and height; None if they are missing or 0, as some tools write."""
    width, height = (coco_values.side(_text(root, f"size/{name}")) for name in ("width", "height"))
    if width is None or height is None:
        return None
    return width, height


def _object(element: Element, index: int) -> Annotation:
    name = _text(element, "name")
    if not name:
        raise InvalidAnnotation("L04", "no <name>")
    box = _box(element) if _has(element, "bndbox") else None
    segmentation = None
    if _has(element, "robndbox"):
        segmentation = [_rotated(element)]
    elif _has(element, "polygon"):
        segmentation = [_polygon(element)]
    if box is None and segmentation is None:
        raise InvalidAnnotation("L03", "no <bndbox>, <robndbox> or <polygon>")
    return Annotation(
        id=index + 1,
        category_id=name,
        bbox=box,
        segmentation=segmentation,
        index=index,
        difficult=coco_values.mark(_text(element, "difficult"), "<difficult>"),
        kind="object",
        score=_text(element, "confidence") or _text(element, "score"),
    )


def _has(element: Element, tag: str) -> bool:
    """Whether there is such a child with something in it."""
    inner = element.find(tag)
    return inner is not None and len(inner) > 0


def _box(element: Element) -> list[float]:
    """x, y, width and height."""
    left, top, right, bottom = _numbers(element, "bndbox", SIDES)
    return [left, top, right - left, bottom - top]


def _rotated(element: Element) -> list[float]:
    """x and y of the four corners of roLabelImg's centre, sides and angle (radians, clockwise)."""
    cx, cy, width, height, angle = _numbers(element, "robndbox", ROTATED)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = []
    for right, down in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        dx, dy = right * width / 2, down * height / 2
        corners += [cx + dx * cos - dy * sin, cy + dx * sin + dy * cos]
    return corners


def _polygon(element: Element) -> list[float]:
    """x and y of each point, written as <x1> <y1> <x2> ... or as <pt><x/><y/></pt>."""
    polygon = element.find("polygon")
    assert polygon is not None
    points = polygon.findall("pt")
    if points:
        return [_number(point, axis) for point in points for axis in ("x", "y")]
    values = []
    number = 1
    while polygon.find(f"x{number}") is not None:
        values += [_number(polygon, f"x{number}"), _number(polygon, f"y{number}")]
        number += 1
    return values


def _numbers(element: Element, tag: str, names: tuple[str, ...]) -> list[float]:
    inner = element.find(tag)
    assert inner is not None
    return [_number(inner, name) for name in names]


def _number(element: Element, name: str) -> float:
    found = _text(element, name)
    value = coco_values.number(found)
    if value is None or not math.isfinite(value):
        raise InvalidAnnotation("L02", f"<{name}> is {short(found)}, expected a number")
    return value


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()
