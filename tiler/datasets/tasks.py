"""The task of a dataset, decided by all of its rows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tiler.datasets.dataset import Dataset, label_path
from tiler.errors import SourceRefused, TilerError
from tiler.formats import annotated, yolo
from tiler.formats.text_files import read_bytes

if TYPE_CHECKING:
    from tiler.types import Floats, Task

CLAMPED = 1e-4  # corners this close to the frame may have been clamped to it
CLOSES = 2e-3  # how far the fourth corner of a parallelogram may be from where the others put it


def decide(dataset: Dataset, wanted: str) -> tuple[Task, str]:
    """The task, and how it was decided. `auto` follows the rows of the whole dataset.

    Keypoints (kpt_shape) mean pose. Otherwise the more frequent kind of row decides: boxes mean
    detect; outlines that nearly all have four points and are parallelograms mean OBB (a
    parallelogram stays one when coordinates are normalised; quads at the frame are not counted,
    since tools clamp their corners); other outlines mean segment.
    """
    if wanted != "auto":
        if wanted == "pose" and dataset.kpt_shape is None:
            raise TilerError(f"{dataset.file}: --task pose needs kpt_shape in the dataset.yaml")
        return cast("Task", wanted), "as asked"
    if dataset.kpt_shape is not None:
        return "pose", "kpt_shape is set" if dataset.kind == "YOLO" else "keypoints"
    if dataset.task is not None:
        return dataset.task, f"as {dataset.kind} declares it"
    if not dataset.labelled:
        return "detect", "images without labels"
    if dataset.kind != "YOLO":
        return _of_annotations(dataset)
    return count_rows(
        label_path(os.path.join(dataset.root, source.key)) for source in dataset.images
    )


def _of_annotations(dataset: Dataset) -> tuple[Task, str]:
    return annotated.task_of(a for a in dataset.annotations if not a.ignored)


@dataclass(slots=True)
class _RowCounts:
    """How many rows of each kind there are.

    Attributes:
        outlines: of three points or more; `quads` those of four.
        inner: quads away from the frame; `parallelograms` those of them that are one.
    """

    boxes: int = 0
    outlines: int = 0
    quads: int = 0
    inner: int = 0
    parallelograms: int = 0

    def add(self, data: bytes) -> None:
        """Count the rows of a label file."""
        boxes = _only_boxes(data)
        if boxes is not None:
            self.boxes += boxes
            return
        for count, (rows, values) in yolo.parse(data).groups.items():
            if count == 5:
                self.boxes += len(rows)
            elif count >= 7 and count % 2:
                self.outlines += len(rows)
            if count == 9:
                self.quads += len(rows)
                inner, parallelograms = _parallelograms(values[:, 1:].reshape(-1, 4, 2))
                self.inner += inner
                self.parallelograms += parallelograms


def count_rows(labels: Iterable[str]) -> tuple[Task, str]:
    """The task of the rows in these files, and the counts that decided it."""
    counts = _RowCounts()
    for path in labels:
        try:
            counts.add(read_bytes(Path(path), yolo.MAX_BYTES))
        except (OSError, TilerError, SourceRefused):
            continue  # missing, or reported when it is read for its labels
    if counts.boxes >= counts.outlines:
        return "detect", f"{counts.boxes} boxes, {counts.outlines} outlines"
    boxes = f"{counts.boxes} boxes"
    if counts.boxes:
        boxes += annotated.MISFITS
    mostly_quads = counts.quads >= 0.95 * counts.outlines
    if mostly_quads and counts.parallelograms >= 0.9 * counts.inner:
        return (
            "obb",
            f"{counts.quads} of {counts.outlines} outlines have four corners, "
            f"{counts.parallelograms} of {counts.inner} are rectangles, {boxes}",
        )
    return (
        "segment",
        f"{counts.outlines} outlines, {counts.quads} of them with four corners, {boxes}",
    )


def _only_boxes(data: bytes) -> int | None:
    """The number of rows if all of them have five values, as in most datasets."""
    count = 0
    for line in data.split(b"\n"):
        values = len(line.split())
        if values == 5:
            count += 1
        elif values:
            return None
    return count


def _parallelograms(quads: Floats) -> tuple[int, int]:
    """How many quads lie away from the frame, and how many of these are parallelograms.

    Args:
        quads: `(N, 4, 2)` normalised corners.
    """
    inside = (quads > CLAMPED) & (quads < 1 - CLAMPED)
    quads = quads[inside.all(axis=(1, 2))]
    a, b, c, d = quads.transpose(1, 0, 2)
    gap = np.abs(a + c - b - d).max(axis=1)
    return len(quads), int((gap < CLOSES).sum())
