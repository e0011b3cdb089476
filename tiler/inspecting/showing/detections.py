"""Detections on full images (or on tiles that are shown themselves), from files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tiler.errors import TilerError
from tiler.formats import provenance
from tiler.geometry.instances import Instances, empty
from tiler.predictions import Frames, Predictions, Reading, open_predictions

if TYPE_CHECKING:
    from tiler.datasets.dataset import Dataset
    from tiler.findings import Finding
    from tiler.formats.yolo import Spec
    from tiler.types import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """Predictions that were found.

    Attributes:
        names: class names of all that is shown.
        numbers: of the predictions of each image, by its name.
        classes: the class for each class of the predictions; None: the same.
    """

    predictions: Predictions
    names: tuple[str, ...]
    numbers: dict[str, int]
    classes: Ints | None = None

    @classmethod
    def of_merged(cls, folder: Path) -> Self:
        """What `tiler merge` wrote."""
        path = folder / provenance.NAME
        head = provenance.read_head(path)
        names = tuple(head.names)
        kpt_shape = None
        if head.kpt_shape is not None and len(head.kpt_shape) == 2:
            kpt_shape = (head.kpt_shape[0], head.kpt_shape[1])
        reading = Reading(head.task, names or None, kpt_shape)
        predictions = open_predictions(folder, reading)
        number = {key: i for i, key in enumerate(predictions.keys)}
        numbers = {}
        for brief in provenance.read_briefs(path):
            label = brief.label
            if brief.predicted and label is not None and label in number:
                numbers[brief.source] = number[label]
        return cls(predictions, names, numbers)

    @classmethod
    def of_dataset(cls, preds: Path, dataset: Dataset, spec: Spec | None, task: str) -> Self:
        """Predictions, merged or not, for the images of a dataset.

        Raises:
            TilerError: they cannot be read.
        """
        if provenance.of_output(preds) is not None:
            merged = cls.of_merged(preds)
            if not merged.names:
                return replace(merged, names=dataset.names)
            names = _joined(dataset.names, merged.names)
            classes = np.array([names.index(name) for name in merged.names], np.int64)
            return replace(merged, names=names, classes=classes)
        ids = dataset.categories or ()
        categories = {id: number for number, id in enumerate(ids)} or None
        reading = Reading(task, dataset.names, dataset.kpt_shape, categories=categories)
        predictions = _opened(preds, reading, spec)
        return cls(predictions, dataset.names, _numbers(predictions, dataset))

    def read(self, number: int | None, size: tuple[int, int]) -> tuple[Instances, list[Finding]]:
        """The detections of an image of this size.

        Args:
            number: None for an image without predictions.
        """
        if number is None:
            nothing = replace(empty(self.predictions.task), conf=np.empty(0))
            return nothing, []
        frames = Frames([self.predictions.keys[number]], np.array([[0.0, 0.0, *size]]), np.ones(1))
        found = self.predictions.batch([number]).read(frames)
        instances = found.instances
        if self.classes is not None:
            instances = replace(instances, class_id=self.classes[instances.class_id])
        return instances, found.findings


def _joined(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """The names of a dataset, then those that only predictions have."""
    return tuple(dict.fromkeys([*names, *others]))


def _opened(preds: Path, reading: Reading, spec: Spec | None) -> Predictions:
    """The predictions; where their rows are ambiguous, they are read as the labels are."""
    if spec is None or reading.task != "auto":
        return open_predictions(preds, reading)
    with suppress(TilerError):
        opened = open_predictions(preds, reading)
        if {opened.task, spec.task} != {"segment", "obb"}:
            return opened
    return open_predictions(preds, replace(reading, task=spec.task))


def _numbers(predictions: Predictions, dataset: Dataset) -> dict[str, int]:
    """The number of each prediction by the name of its image; ids of a COCO set become names."""
    names = {}
    if predictions.numeric:
        for source in dataset.sources:
            if source.image_id is not None:
                names[str(source.image_id)] = source.key
    return {names.get(key, key): i for i, key in enumerate(predictions.keys)}
