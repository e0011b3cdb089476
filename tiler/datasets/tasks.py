"""What the labels of a dataset are, told from all of its rows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tiler.datasets.sources import Dataset, label_path
from tiler.errors import SourceRefused, TilerError
from tiler.formats import yolo
from tiler.formats.text_files import read_bytes

if TYPE_CHECKING:
    from tiler.types import Floats, Task

CLAMPED = 1e-4  # corners this near to the frame may have been clamped to it
CLOSES = 2e-3  # how far the fourth corner of a parallelogram may lie from where the others put it


def decide(dataset: Dataset, wanted: str) -> tuple[Task, str]:
    """The task, and how it was decided. `auto` follows the rows of the whole dataset.

    Keypoints (kpt_shape) mean pose. Else the more frequent kind of row decides: boxes mean
    detect; outlines of four points each, nearly all of them parallelograms, mean OBB (a
    parallelogram stays one when coordinates are normalised; corners at the frame are not
    looked at, since tools clamp them); other outlines mean segment.
    """
    if wanted != "auto":
        if wanted == "pose" and dataset.kpt_shape is None:
            raise TilerError(f"{dataset.file}: --task pose needs kpt_shape in the dataset.yaml")
        return cast("Task", wanted), "as asked"
    if dataset.coco is not None:
        return dataset.coco.task, "by the annotations"
    if dataset.kpt_shape is not None:
        return "pose", "kpt_shape is set"
    return count_rows(
        label_path(os.path.join(dataset.root, source.key)) for source in dataset.sources
    )


def count_rows(labels: Iterable[str]) -> tuple[Task, str]:
    """The task that the rows in these files are of, and the counts that decided it."""
    boxes = outlines = quads = judged = parallelograms = 0
    for path in labels:
        try:
            data = read_bytes(Path(path), yolo.MAX_BYTES)
            plain = _only_boxes(data)
            groups = {} if plain is not None else yolo.parse(data).groups
        except (OSError, TilerError, SourceRefused):
            continue  # missing, or reported when it is read for its labels
        boxes += plain or 0
        for count, (rows, values) in groups.items():
            boxes += len(rows) * (count == 5)
            if count >= 7 and count % 2:
                outlines += len(rows)
            if count == 9:
                quads += len(rows)
                inner, closed = _parallelograms(values[:, 1:].reshape(-1, 4, 2))
                judged += inner
                parallelograms += closed
    if boxes >= outlines:
        return "detect", f"{boxes} boxes, {outlines} outlines"
    if quads >= 0.95 * outlines and parallelograms >= 0.9 * judged:
        return (
            "obb",
            f"{quads} of {outlines} outlines have four corners, {parallelograms} of {judged} are "
            "rectangles",
        )
    return "segment", f"{outlines} outlines, {quads} of them with four corners, {boxes} boxes"


def _only_boxes(data: bytes) -> int | None:
    """The number of rows when all of them have five values, which most datasets do."""
    rows = [row for line in data.split(b"\n") if (row := line.split())]
    return len(rows) if all(len(row) == 5 for row in rows) else None


def _parallelograms(quads: Floats) -> tuple[int, int]:
    quads = quads[((quads > CLAMPED) & (quads < 1 - CLAMPED)).all(axis=(1, 2))]
    gap = np.abs(quads[:, 0] + quads[:, 2] - quads[:, 1] - quads[:, 3]).max(axis=1)
    return len(quads), int((gap < CLOSES).sum())
