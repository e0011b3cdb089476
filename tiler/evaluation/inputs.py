"""The labels and detections of many images, as columns, in the order that all protocols count in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.geometry.masks import Masks
    from tiler.types import Bools, Floats, Ints, Task


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth(Columns):
    """The labels of many images, in the order of the images.

    Attributes:
        instances: `(G,)`; `area` decides the size bin (of a COCO file the annotation's own).
        image: `(G,)` int64 number of the image.
        crowd: `(G,)` COCO's iscrowd: a region that any number of detections may lie in.
        ignored: `(G,)` counts neither as found nor as missed: a crowd, a label without any
            keypoint.
        box_area: `(G,)` width times height of the box as it was given, which IoU is made of.
        masks: of outlines, their pixels.
        difficult: `(G,)` the same where a protocol asks for it (VOC, DOTA). Default: those ignored.
    """

    instances: Instances
    image: Ints
    crowd: Bools = None  # type: ignore[assignment]
    ignored: Bools = None  # type: ignore[assignment]
    box_area: Floats = None  # type: ignore[assignment]
    masks: Masks | None = None
    difficult: Bools = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        n = len(self.instances)
        if self.crowd is None:
            object.__setattr__(self, "crowd", np.zeros(n, bool))
        if self.ignored is None:
            object.__setattr__(self, "ignored", self.crowd)
        if self.difficult is None:
            object.__setattr__(self, "difficult", self.ignored)
        if self.box_area is None:
            object.__setattr__(self, "box_area", box.area(self.instances.boxes))
        if (np.diff(self.image) < 0).any():
            raise TilerError("labels come in the order of their images")

    def __len__(self) -> int:
        return len(self.instances)


@dataclass(frozen=True, slots=True, eq=False)
class Predicted(Columns):
    """The detections of many images by class, then confidence; those of equal confidence as they
    were given.

    Attributes:
        instances: `(D,)`; `area` decides the size bin where nothing is matched.
        image: `(D,)` int64.
        place: `(D,)` which of those given each is.
        rank: `(D,)` place among the detections of its image and class, from 0.
        box_area: `(D,)` width times height as they were given. Default: of the boxes.
        masks: of outlines, their pixels.
    """

    instances: Instances
    image: Ints
    place: Ints
    rank: Ints
    box_area: Floats
    masks: Masks | None = None

    @classmethod
    def of(
        cls,
        instances: Instances,
        image: Ints,
        box_area: Floats | None = None,
        masks: Masks | None = None,
    ) -> Predicted:
        """Of detections in any order; of equal confidence, those of the first image count first,
        then as given.

        Raises:
            TilerError: a confidence is missing, or no number.

        >>> found = Predicted.of(Instances(np.array([0, 0]), np.zeros((2, 4)), conf=np.array([0.2, 0.9])), np.array([0, 0]))
        >>> found.place.tolist(), found.rank.tolist()
        ([1, 0], [0, 1])
        """
        conf = instances.conf
        if conf is None or not np.isfinite(conf).all():
            raise TilerError("detections need a confidence each, a finite number")
        order = ranked(instances.class_id, conf, image)
        by_class, by_image = instances.class_id[order], image[order]
        area = box.area(instances.boxes) if box_area is None else box_area
        rank = places(by_class, by_image)
        return cls(
            instances.take(order),
            by_image,
            order,
            rank,
            area[order],
            None if masks is None else masks.take(order),
        )

    def __len__(self) -> int:
        return len(self.instances)

    def take(self, index: Ints | Bools) -> Predicted:
        """The detections at the given indices, ascending, or where a mask is True; ranked among
        themselves.
        """
        taken = Columns.take(self, index)
        return replace(taken, rank=places(taken.instances.class_id, taken.image))


def ranked(class_id: Ints, conf: Floats, image: Ints) -> Ints:
    """Order by class, then confidence (the highest first), then image, then place."""
    order = (
        np.arange(len(conf)) if (np.diff(image) >= 0).all() else np.argsort(image, kind="stable")
    )
    order = order[np.argsort(-conf[order], kind="stable")]
    return np.asarray(order[by_number(class_id[order])])


def by_number(numbers: Ints) -> Ints:
    """A stable order of numbers from 0 on; few bits are sorted much faster."""
    small = len(numbers) == 0 or numbers.max() < 2**15
    return np.argsort(numbers.astype(np.int16) if small else numbers, kind="stable")


def places(*keys: Ints) -> Ints:
    """Place of each element among those of equal keys, from 0.

    >>> places(np.array([5, 5, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    order = np.lexsort(keys)
    new = np.ones(len(order), bool)
    new[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(order)))
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(len(order)) - np.repeat(starts, counts)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationInputs:
    """What is scored: labels and detections of the same images and classes.

    Attributes:
        images: their number.
        classes: the number of classes.
        task: what IoU means: of boxes, of OBBs' areas, of masks' pixels, or OKS of keypoints.
    """

    labels: GroundTruth
    detections: Predicted
    images: int
    classes: int
    task: Task = "detect"

    def __post_init__(self) -> None:
        for what, columns in (("label", self.labels), ("detection", self.detections)):
            rows: Any = columns
            for name, values, end in (
                ("class", rows.instances.class_id, self.classes),
                ("image", rows.image, self.images),
            ):
                wrong = values[(values < 0) | (values >= end)]
                if len(wrong):
                    raise TilerError(f"a {what} of {name} {int(wrong[0])}, expected 0 to {end - 1}")

    def positives(self, counted: Bools) -> Ints:
        """`(classes,)` how many labels of each class are among those counted."""
        return np.bincount(self.labels.instances.class_id[counted], minlength=self.classes)

    def most(self) -> int:
        """The largest number of detections or labels of one class in one image: no smaller
        `max_dets` leaves all in.
        """
        truth = self.labels
        labels = places(truth.instances.class_id, truth.image).max(initial=-1)
        return int(max(labels, self.detections.rank.max(initial=-1))) + 1
