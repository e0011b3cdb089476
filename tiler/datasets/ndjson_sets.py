"""Datasets in Ultralytics' NDJSON."""

from __future__ import annotations

from pathlib import Path

from tiler.datasets.annotated_sets import Listed, Place, Sources, root_of
from tiler.datasets.dataset import Dataset, label_of
from tiler.datasets.locating import Locator
from tiler.errors import TilerError
from tiler.formats import ndjson
from tiler.formats.annotated import AnnotatedImage
from tiler.formats.text_files import read_bytes, reason
from tiler.options import DatasetOptions
from tiler.types import TASKS, Task


def of_file(data: Path, place: Place, options: DatasetOptions) -> Dataset:
    """The dataset of an NDJSON file; its images are not fetched, but looked for.

    Raises:
        TilerError: it is no NDJSON dataset, or none of its images was found.
    """
    root = root_of(data, place.images)
    try:
        content = ndjson.read(read_bytes(data, ndjson.MAX_BYTES), label_of(data, root))
    except OSError as error:
        raise TilerError(f"{data}: cannot be read: {reason(error)}") from None
    sources = Sources(Locator(root), place.absent, findings=list(content.findings))
    listed = []
    for image, split in zip(content.images, content.splits, strict=True):
        if options.as_split != "auto":
            split = options.as_split
        near = ("images", f"images/{split}", split)
        listed.append(Listed(image, split, near))
    sources.add_all(listed)
    sources.require(data)
    _number(content.images, len(content.names))
    return Dataset(
        data,
        root,
        content.names,
        sources.sorted(),
        (),
        sources.findings,
        _one_kpt_shape(content),
        kind="NDJSON",
        task=_task(content),
        splits=sources.splits,
    )


def _number(images: list[AnnotatedImage], classes: int) -> None:
    """Give the objects their class, which is a number already."""
    for image in images:
        for annotation in image.annotations:
            class_id = annotation.category_id
            if class_id.is_integer() and 0 <= class_id < classes:
                annotation.class_id = int(class_id)


def _task(content: ndjson.NdjsonFile) -> Task | None:
    """The task that the first line declares; None leaves it to the objects."""
    for task in TASKS:
        if content.task == task:
            return task
    return None


def _one_kpt_shape(content: ndjson.NdjsonFile) -> tuple[int, int] | None:
    """Keypoints of a pose dataset: as its first line says, else as many as the objects have."""
    if content.task != "pose":
        return None
    counts = set()
    for image in content.images:
        for annotation in image.annotations:
            counts.add(len(annotation.keypoints or ()) // 3)
    if content.kpt_shape is not None:
        return content.kpt_shape[0], 3
    if len(counts) != 1 or counts == {0}:
        raise TilerError(f"pose objects with {sorted(counts)} keypoints, expected one number")
    return counts.pop(), 3
