"""Which labels and detections count: confident ones, outside of regions to be ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.evaluation.inputs import GroundTruth, Predicted
from tiler.evaluation.regions import dropped

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.options import ScoreOptions
    from tiler.types import Bools, Floats, Ints

Rows = TypeVar("Rows", GroundTruth, Predicted)


@dataclass(frozen=True, slots=True, eq=False)
class Counting:
    """What counts.

    Attributes:
        conf: the least confidence of a detection.
        ignored_class: its labels are regions to be ignored; None: there are none.
        regions: `(R, 4)` xyxy, px of the image.
        image: `(R,)` the image of each.
        classes: those that count; None: all.
    """

    conf: float
    ignored_class: int | None
    regions: Floats
    image: Ints
    classes: frozenset[int] | None = None

    @classmethod
    def of(
        cls,
        labels: GroundTruth,
        names: tuple[str, ...],
        options: ScoreOptions,
        classes: frozenset[int] | None = None,
    ) -> Self:
        """What the options ask for, of some classes.

        Raises:
            TilerError: the labels do not have the class to be ignored.
        """
        name = options.ignore_class
        if not name:
            return cls(options.conf, None, np.empty((0, 4)), np.empty(0, np.int64), classes)
        if name not in names:
            raise TilerError(
                f"--ignore-class {name}: no class of the labels{did_you_mean(name, names)}"
            )
        class_id = names.index(name)
        ignored = labels.instances.class_id == class_id
        regions = labels.instances.boxes[ignored]
        return cls(options.conf, class_id, regions, labels.image[ignored], classes)

    def counts(self, instances: Instances, image: Ints) -> Bools:
        """Which labels or detections count, given the image of each."""
        if instances.conf is None:
            counted = np.ones(len(instances), bool)
        else:
            counted = instances.conf >= self.conf
        if self.ignored_class is not None:
            counted = counted & (instances.class_id != self.ignored_class)
            counted = counted & ~dropped(instances.boxes, image, self.regions, self.image)
        if self.classes is not None:
            counted = counted & np.isin(instances.class_id, list(self.classes))
        return np.asarray(counted)

    def those_of(self, rows: Rows) -> Rows:
        """The labels or detections that count."""
        counted = self.counts(rows.instances, rows.image)
        if counted.all():
            return rows
        return rows.take(counted)
