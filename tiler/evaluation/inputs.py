"""The labels and detections of many images as columns, in the order in which protocols count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.geometry.masks import Masks
    from tiler.types import Bools, Floats, Ints, Task


class InstanceColumns(Columns):
    """Base of what has instances of many images."""

    __slots__ = ()
    instances: Instances

    @property
    def class_id(self) -> Ints:
        return self.instances.class_id

    @property
    def boxes(self) -> Floats:
        return self.instances.boxes

    @property
    def area(self) -> Floats:
        return self.instances.area

    def __len__(self) -> int:
        return len(self.instances)


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth(InstanceColumns):
    """The labels of many images, in the order of the images.

    Attributes:
        instances: `(G,)`; `area` decides the size bin (in a COCO file, the annotation's area).
        image: `(G,)` int64 number of the image.
        crowd: `(G,)` COCO's iscrowd: a region that any number of detections may match.
        ignored: `(G,)` True for labels that count neither as found nor as missed: crowds, and
            labels without any keypoint.
        box_area: `(G,)` width times height of the box as given, from which IoU is computed.
        masks: the pixels of outlines.
        difficult: `(G,)` labels that VOC and DOTA ignore. Default: those ignored.
    """

    instances: Instances
    image: Ints
    crowd: Bools = None  # type: ignore[assignment]
    ignored: Bools = None  # type: ignore[assignment]
    box_area: Floats = None  # type: ignore[assignment]
    masks: Masks | None = None
    difficult: Bools = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.crowd is None:
            object.__setattr__(self, "crowd", np.zeros(len(self.instances), bool))
        if self.ignored is None:
            object.__setattr__(self, "ignored", self.crowd)
        if self.difficult is None:
            object.__setattr__(self, "difficult", self.ignored)
        if self.box_area is None:
            object.__setattr__(self, "box_area", box.area(self.boxes))
        if (np.diff(self.image) < 0).any():
            raise TilerError("labels come in the order of their images")


@dataclass(frozen=True, slots=True, eq=False)
class Predicted(InstanceColumns):
    """The detections of many images by class, the most confident first; those of equal confidence
    as given.

    Attributes:
        instances: `(D,)`; `area` decides the size bin of those that are not matched.
        image: `(D,)` int64 number of the image.
        place: `(D,)` the index of each among the detections given.
        rank: `(D,)` place among the detections of its image and class, from 0.
        box_area: `(D,)` width times height as given. Default: of the boxes.
        masks: the pixels of outlines.
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
        """From detections in any order; of equal confidence, those of the first image come first,
        then as given.

        Raises:
            TilerError: a confidence is missing or not finite.

        >>> two = Instances(np.array([0, 0]), np.zeros((2, 4)), conf=np.array([0.2, 0.9]))
        >>> detections = Predicted.of(two, np.array([0, 0]))
        >>> detections.place.tolist(), detections.rank.tolist()
        ([1, 0], [0, 1])
        """
        conf = instances.conf
        if conf is None or not np.isfinite(conf).all():
            raise TilerError("detections need a confidence each, a finite number")
        if box_area is None:
            box_area = box.area(instances.boxes)
        order = ranked(instances.class_id, conf, image)
        if masks is not None:
            masks = masks.take(order)
        ordered = instances.take(order)
        rank = places(ordered.class_id, image[order])
        return cls(ordered, image[order], order, rank, box_area[order], masks)

    @property
    def conf(self) -> Floats:
        return self.instances.confidence

    def take(self, index: Ints | Bools) -> Predicted:
        """The detections at the given indices, ascending, or where a mask is True; ranked among
        themselves.
        """
        taken = Columns.take(self, index)
        rank = places(taken.class_id, taken.image)
        return replace(taken, rank=rank)


def ranked(class_id: Ints, conf: Floats, image: Ints) -> Ints:
    """Order by class, then confidence (the highest first), then image, then place."""
    if (np.diff(image) >= 0).all():
        order = np.arange(len(conf))
    else:
        order = np.argsort(image, kind="stable")
    by_conf = ragged.falling(conf[order])
    order = order[by_conf]
    by_class = ragged.by_number(class_id[order])
    return np.asarray(order[by_class])


def places(*keys: Ints) -> Ints:
    """Place of each element among those of equal keys, from 0.

    >>> places(np.array([5, 5, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    order = np.arange(len(keys[0]))
    for key in keys:
        order = order[ragged.by_number(key[order])]
    is_first = np.zeros(len(order), bool)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= np.diff(key[order]) != 0
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, len(order)))
    start = np.repeat(starts, counts)
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(len(order)) - start
    return result


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationInputs:
    """What is scored: labels and detections of the same images and classes.

    Attributes:
        images: the number of images.
        classes: the number of classes.
        task: says how IoU is computed: from boxes, areas of OBBs or pixels of masks; for poses it
            is the OKS of keypoints.
    """

    labels: GroundTruth
    detections: Predicted
    images: int
    classes: int
    task: Task = "detect"

    def __post_init__(self) -> None:
        for rows, name in ((self.labels, "label"), (self.detections, "detection")):
            self._check(name, "class", rows.class_id, self.classes)
            self._check(name, "image", rows.image, self.images)

    @staticmethod
    def _check(rows: str, column: str, numbers: Ints, end: int) -> None:
        wrong = numbers[(numbers < 0) | (numbers >= end)]
        if len(wrong):
            first = int(wrong[0])
            raise TilerError(f"a {rows} of {column} {first}, expected 0 to {end - 1}")

    def positives(self, counted: Bools) -> Ints:
        """`(classes,)` number of labels of each class among those counted."""
        return np.bincount(self.labels.class_id[counted], minlength=self.classes)

    def class_bounds(self) -> Ints:
        """`(classes + 1,)` where the detections of each class begin, and the end of the last."""
        numbers = np.arange(self.classes + 1)
        return np.searchsorted(self.detections.class_id, numbers)

    def most(self) -> int:
        """The largest number of detections or labels of one class in one image: a `max_dets` of
        this or more leaves all in.
        """
        rank = places(self.labels.class_id, self.labels.image)
        most_labels = rank.max(initial=-1) + 1
        most_detections = self.detections.rank.max(initial=-1) + 1
        return int(max(most_labels, most_detections))
