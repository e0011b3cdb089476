"""Which image the coordinates of annotations are for, where EXIF turns it: the stored or the
upright one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import opened
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats import coco_values
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco_values import InvalidAnnotation
from tiler.images.header import Header, probe

if TYPE_CHECKING:
    from tiler.types import Floats

Size = tuple[int, int]

SLACK = 1.0  # px that a box may reach past the image it is for


@dataclass(slots=True)
class _Decisions:
    """Which frame each turned image has.

    Attributes:
        assumed: images whose sides stay the same, so that nothing tells which frame is meant.
        unclear: images whose annotations fit both frames, by key.
    """

    assumed: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    redeclared: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


def settle(dataset: Dataset, frame: str) -> list[Finding]:
    """Decide it for each annotated image that EXIF turns, and note it in the image's entry.

    The declared size decides if it is that of the upright image. If it is that of the stored
    image, or missing, the annotations decide, where they fit only one of the two.

    Args:
        frame: stored or upright where the user says so; else auto.

    Raises:
        TilerError: the annotations of an image fit both.
    """
    decisions = _Decisions()
    for source in dataset.sources:
        entry = source.entry
        if entry is None or not entry.annotations:
            continue
        header = _header(dataset, source)
        if header is not None and header.orientation != 1:
            _settle_one(source.key, entry, header, frame, decisions)
    if decisions.unclear:
        count = len(decisions.unclear)
        raise TilerError(
            f"{dataset.file}: {count} images are turned by EXIF, and their annotations fit the "
            f"stored as well as the upright image ({decisions.unclear[0]}): choose "
            "--frame stored or --frame upright"
        )
    return _findings(dataset, decisions)


def _header(dataset: Dataset, source: Source) -> Header | None:
    """The header of an image; None if it cannot be read, which is reported when it is cut."""
    try:
        with opened(os.path.join(dataset.root, source.key)) as file:
            return probe(file)
    except (SourceRefused, OSError):
        return None


def _settle_one(
    key: str, entry: AnnotatedImage, header: Header, frame: str, decisions: _Decisions
) -> None:
    upright = header.size
    stored = (header.width, header.height)
    if frame == "auto":
        frame = _frame(entry, stored, upright)
    if frame == "stored":
        decisions.stored.append(key)
        entry.turn = header.orientation
    elif frame == "assumed":
        decisions.assumed.append(key)
    elif frame == "unclear":
        decisions.unclear.append(key)
    elif frame == "upright" and entry.size == stored != upright:
        decisions.redeclared.append(key)
        entry.size = upright


def _frame(entry: AnnotatedImage, stored: Size, upright: Size) -> str:
    """stored, upright, unclear, assumed to be upright, or "" if the annotations fit neither."""
    if stored == upright:
        return "assumed"
    if entry.size == upright:
        return "upright"
    if entry.size not in (stored, None):
        return ""  # rejected later, since the size is neither's
    extent = _extent(entry.annotations)
    fits_stored = _fits(extent, stored)
    fits_upright = _fits(extent, upright)
    if fits_stored and fits_upright:
        return "unclear"
    if fits_stored:
        return "stored"
    return "upright" if fits_upright else ""


def _extent(annotations: Iterable[Annotation]) -> Size:
    """The largest x and y of all annotations, rounded down."""
    right, bottom = 0.0, 0.0
    for annotation in annotations:
        for points in _points(annotation):
            right = max(right, float(points[:, 0].max(initial=0)))
            bottom = max(bottom, float(points[:, 1].max(initial=0)))
    return int(right), int(bottom)


def _points(annotation: Annotation) -> Sequence[Floats]:
    """Corners and outline of an annotation, as far as they are valid."""
    points = []
    try:
        if annotation.boxed:
            x, y, width, height = coco_values.xywh(annotation.bbox)
            points.append(np.array([[x, y], [x + width, y + height]]))
        outline = annotation.given
        if isinstance(outline, list):
            points += coco_values.polygons(outline)
    except (InvalidAnnotation, ValueError):
        pass  # reported when it is read
    return points


def _fits(extent: Size, size: Size) -> bool:
    return extent[0] <= size[0] + SLACK and extent[1] <= size[1] + SLACK


def _findings(dataset: Dataset, decisions: _Decisions) -> list[Finding]:
    findings = []
    if decisions.assumed:
        message = (
            f"{_some(decisions.assumed)}: EXIF turns it, and the annotations are taken for the "
            "upright image; --frame stored if they are not"
        )
        findings.append(Finding(dataset.label, "Y07", message))
    if decisions.stored:
        message = f"{_some(decisions.stored)}: annotations of the stored image, turned with it"
        findings.append(Finding(dataset.label, "Y07", message))
    if decisions.redeclared:
        message = f"{_some(decisions.redeclared)}: the declared size is that of the stored image"
        findings.append(Finding(dataset.label, "Y07", message))
    return findings


def _some(keys: Sequence[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    return f"{keys[0]} and {len(keys) - 1} other images"
