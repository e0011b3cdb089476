"""Whether boxes are in pixels, and those of COCO x, y, width and height."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import image_size
from tiler.errors import SourceRefused, TilerError
from tiler.formats import coco_values
from tiler.formats.coco_values import InvalidAnnotation

if TYPE_CHECKING:
    from tiler.types import Floats

FAR = 0.02  # of a side: boxes that reach farther out of their image are not rounded ones
MANY = 0.2  # of all boxes
NEARLY_ALL = 0.99


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
    in_pixels = dataset.kind != "GIS"  # where map coordinates were turned into pixels
    if in_pixels and (boxes <= 1).all() and (boxes >= 0).all():
        raise TilerError(
            f"{dataset.file}: no number of any box is above 1: they seem to be parts of the "
            f"image's sides; those of {dataset.kind} are pixels"
        )
    if corners and dataset.kind == "COCO":
        _require_no_corners(dataset, boxes, sizes)


def _require_no_corners(dataset: Dataset, boxes: Floats, sizes: Floats) -> None:
    """Raises:
    TilerError: `(N, 4)` boxes reach out of their images of `(N, 2)` px, and fit as corners.
    """
    reaching = (boxes[:, :2] + boxes[:, 2:] > sizes * (1 + FAR) + 1).any(axis=1)
    corners = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + 1)
    if reaching.mean() >= MANY and corners.all(axis=1).mean() >= NEARLY_ALL:
        raise TilerError(
            f"{dataset.file}: {int(reaching.sum())} of {len(boxes)} boxes reach out of their "
            "images as x, y, width, height, and all fit as two corners: choose --bbox xyxy, or "
            "--bbox xywh if they are right"
        )


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
