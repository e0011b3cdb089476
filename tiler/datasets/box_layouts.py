"""The boxes of a dataset, held against the sizes of its images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import image_size
from tiler.errors import SourceRefused
from tiler.formats import box_layouts, coco_values
from tiler.formats.coco_values import InvalidAnnotation

if TYPE_CHECKING:
    from tiler.types import Floats


def require_pixels(dataset: Dataset, corners: bool = True) -> None:
    """Check that boxes are not parts of the image's sides, nor two corners in COCO.

    Args:
        corners: whether they could be corners; else the user says what they are.

    Raises:
        TilerError: they look like it; says what they seem to be.
    """
    rows = [row for source in dataset.sources for row in _boxes(dataset, source)]
    if not rows:
        return
    table = np.array(rows)
    boxes = table[:, :4]
    sizes = table[:, 4:]
    if dataset.kind != "GIS":  # where map coordinates were turned into pixels
        box_layouts.require_pixels(dataset.file, dataset.kind, boxes)
    if corners and dataset.kind == "COCO":
        box_layouts.require_no_corners(dataset.file, boxes, sizes)


def _boxes(dataset: Dataset, source: Source) -> Iterator[Floats]:
    """The four numbers of each box of an image, with the width and height of the image."""
    entry = source.entry
    if entry is None or not entry.annotations:
        return
    size = entry.size
    if size is None:
        try:
            size = image_size(os.path.join(dataset.root, source.key))
        except SourceRefused:
            return  # reported when it is cut
    for annotation in entry.annotations:
        if not annotation.boxed:
            continue
        try:
            yield np.array([*coco_values.xywh(annotation.bbox), *size])
        except InvalidAnnotation:
            continue  # reported when it is read
