"""Images with their labels in a vector file of a GIS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tiler.datasets.dataset import Dataset
from tiler.datasets.file_sets import number_by_name
from tiler.datasets.map_images import map_images
from tiler.datasets.split_names import split_of_folder
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import map_labels
from tiler.options import DatasetOptions
from tiler.options.values import path
from tiler.types import SPLITS


def labelled(images: Dataset, options: DatasetOptions) -> Dataset:
    """Images alone, with the features of `--labels` that they show.

    The class names are in alphabetical order.

    Raises:
        TilerError: the dataset has labels of its own, or the vector file cannot be used.
    """
    if images.labelled:
        raise TilerError(
            f"--labels {options.labels}: {images.file} has labels of its own; give a folder of "
            "images, or one image"
        )
    keys = [source.key for source in images.sources]
    found = map_labels.read(
        path(options.labels, "labels"),
        map_images(images.root, keys),
        options.class_field,
        options.layer,
        options.point_size or None,
    )
    used = {str(a.category_id) for image in found.images for a in image.annotations}
    names = tuple(sorted(used))
    number_by_name(found.images, names)
    sources = []
    for source, image in zip(images.sources, found.images, strict=True):
        split = _split(source.key, options)
        sources.append(replace(source, split=split, entry=image))
    said = Finding(options.labels, "G04", found.said)
    splits = {source.split for source in sources}
    return replace(
        images,
        names=names,
        sources=sources,
        findings=[*images.findings, said, *found.findings],
        kind="GIS",
        splits=tuple(sorted(splits, key=SPLITS.index)),
        labelled=True,
    )


def _split(key: str, options: DatasetOptions) -> str:
    if options.as_split != "auto":
        return options.as_split
    return split_of_folder(str(Path(key).parent)) or "train"
