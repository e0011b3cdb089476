"""What DATA is: each kind of dataset is recognised here, and opened by its own module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiler.datasets import coco_sets, yolo_sets
from tiler.datasets.dataset import Dataset, named
from tiler.errors import TilerError
from tiler.formats import dataset_yaml
from tiler.options import DatasetOptions


def find(
    data: Path,
    images: Path | None = None,
    options: DatasetOptions | None = None,
    needed: Sequence[str] = ("train", "val"),
) -> Dataset:
    """A dataset and its images.

    Args:
        data: a dataset.yaml, a folder with one, or a COCO instances JSON.
        images: the folder of the images, for COCO.
        needed: splits that must have images if the dataset has them.

    Raises:
        TilerError: it cannot be used.
    """
    options = options or DatasetOptions()
    if data.suffix.lower() == ".json":
        if images is None:
            raise TilerError(f"{data}: a COCO file needs --images, the folder of its images")
        return named(coco_sets.of_files([data], images, options))
    if images is not None:
        raise TilerError("--images goes with a COCO JSON; a dataset.yaml names its folders itself")
    return named(yolo_sets.of_yaml(dataset_yaml.read(data), needed))
