"""One image and its objects, as an annotation tool describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiler.findings import Finding

if TYPE_CHECKING:
    from tiler.formats.coco import Annotation


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
