"""Whether the boxes of a COCO dataset are what COCO says: x, y, width and height in pixels."""

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


def require_pixels(dataset: Dataset) -> None:
    """Check that boxes are not corners, or parts of the image's sides.

    Raises:
        TilerError: they look like it; says what they seem to be.
    """
    rows = [row for source in dataset.sources for row in _boxes(dataset, source)]
    if not rows:
        return
    table = np.array(rows)
    boxes = table[:, :4]
    sizes = table[:, 4:]
    if (boxes <= 1).all() and (boxes >= 0).all():
        raise TilerError(
            f"{dataset.file}: no number of any bbox is above 1: they seem to be parts of the "
            "image's sides; COCO's are pixels"
        )
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
