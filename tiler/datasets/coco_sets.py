"""COCO datasets: one instances JSON, or one for each split."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import file_size, has_image_suffix
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import coco
from tiler.formats.text_files import within
from tiler.options import DatasetOptions


def of_files(files: Sequence[Path], images: Path, options: DatasetOptions) -> Dataset:
    """The dataset of some COCO files.

    Raises:
        TilerError: a file is not COCO's, or none of its images could be cut.
    """
    (data,) = files
    content = coco.read(data)
    root = images.absolute()
    if not os.path.isdir(root):
        raise TilerError(f"--images {images}: no such folder")
    split = _split_of(data)
    findings = list(content.findings)
    sources: dict[str, Source] = {}
    for image in content.images:
        key = within(image.file_name)
        if key is None:
            message = f"{image.file_name}: outside --images; rejected"
            findings.append(Finding(data.name, "I01", message))
        elif not has_image_suffix(key):
            message = f"{image.file_name}: not an image's suffix"
            findings.append(Finding(data.name, "I02", message))
        elif key in sources:
            message = f"{image.file_name} is listed twice; the first entry counts"
            findings.append(Finding(data.name, "P05", message))
        else:
            sources[key] = Source(key, split, bytes=file_size(root / key), entry=image)
    if not sources:
        raise TilerError(f"{data}: no images that could be cut{because(findings)}")
    return Dataset(
        data,
        root,
        content.names,
        sorted(sources.values(), key=lambda source: source.key),
        (root,),
        findings,
        content.kpt_shape,
        kind="COCO",
        categories=category_ids(content.ids),
        splits=(split,),
    )


def category_ids(ids: Sequence[int | str]) -> tuple[int, ...] | None:
    """The id of each class; None if one is text."""
    numbers = tuple(id for id in ids if isinstance(id, int))
    if len(numbers) < len(ids):
        return None
    return numbers


def _split_of(file: Path) -> str:
    """The split that a COCO file is named after, as `instances_val2017.json` is; else train."""
    found = re.search(r"(?<![a-z])(train|val|test)(?![a-z])", file.stem.lower())
    if found is None:
        return "train"
    return found[1]
