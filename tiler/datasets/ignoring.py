"""What becomes of annotations that are marked iscrowd, ignore or difficult."""

from __future__ import annotations

from tiler.datasets.dataset import Dataset
from tiler.findings import Finding


def decide(dataset: Dataset, ignored: str) -> str:
    """Take marked annotations as objects where `--ignored` says so; what it comes to is returned.

    `auto` takes difficult objects as objects, and crowds too if the dataset has nothing but
    crowds, as CVAT writes masks; it then becomes `objects`.
    """
    if ignored == "auto":
        _report_difficult(dataset)
        if _only_crowds(dataset):
            message = "every annotation is marked iscrowd or ignore: they are taken as objects"
            dataset.findings.append(Finding(dataset.label, "Y07", message))
            ignored = "objects"
    if ignored == "objects":
        for annotation in dataset.annotations:
            annotation.iscrowd = 0
            annotation.ignore = 0
            annotation.difficult = False
    return ignored


def _report_difficult(dataset: Dataset) -> None:
    """Difficult objects become objects."""
    count = 0
    for annotation in dataset.annotations:
        count += annotation.difficult
        annotation.difficult = False
    if count:
        message = f"{count} objects are marked difficult; they are taken as the others are"
        dataset.findings.append(Finding(dataset.label, "Y09", message))


def _only_crowds(dataset: Dataset) -> bool:
    marked = [annotation.ignored for annotation in dataset.annotations]
    return bool(marked) and all(marked)
