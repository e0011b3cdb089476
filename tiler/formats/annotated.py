"""One image and its objects, as an annotation tool describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiler.findings import Finding
from tiler.formats.coco_values import InvalidAnnotation
from tiler.geometry.polygons import single_ring
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.formats.coco import Annotation

# rings of one polygon, holes included; joining very many of them takes long
MAX_RINGS = 5000


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image with its objects in pixels, from a format that names classes by text.

    The objects are COCO annotations, whose geometry the other formats share; `category_id` is the
    name of the class.

    Attributes:
        file_name: as the format gives it; "" if it does not name its image.
        size: declared width and height in px; None if it declares none.
        annotations: the objects, in the order of the file.
        findings: objects that were rejected, and what else was noticed.
    """

    file_name: str
    size: tuple[int, int] | None
    annotations: list[Annotation] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def segmentation(shape: shapely.Geometry) -> list[list[float]]:
    """COCO's `segmentation` of a Polygon or MultiPolygon: x, y, x, y, ... of each part.

    COCO has no holes. A part with holes is one polygon that runs into them and back, which is the
    same area, as outlines are filled by the even-odd rule.

    Raises:
        InvalidAnnotation: it is another geometry, is empty, or has very many rings.

    >>> segmentation(shapely.box(0, 0, 4, 2))
    [[4.0, 0.0, 4.0, 2.0, 0.0, 2.0, 0.0, 0.0]]
    """
    if shape is None or shape.geom_type not in ("Polygon", "MultiPolygon"):
        kind = "nothing" if shape is None else shape.geom_type
        raise InvalidAnnotation("L03", f"geometry is a {kind}, expected a polygon")
    if shape.is_empty:
        raise InvalidAnnotation("L06", "geometry is an empty polygon")
    return [_one_ring(part) for part in shapely.get_parts(shape) if not part.is_empty]


def _one_ring(polygon: shapely.Geometry) -> list[float]:
    rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(polygon)]
    if len(rings) > MAX_RINGS:
        message = f"a polygon of {len(rings)} rings, expected at most {MAX_RINGS}"
        raise InvalidAnnotation("L03", message)
    values: list[float] = single_ring(rings).ravel().tolist()
    return values
