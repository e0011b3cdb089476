"""Every detection with every label that it may match: found once, for all protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation.assignment import preferred
from tiler.evaluation.inputs import EvaluationInputs
from tiler.geometry import boxes as box
from tiler.geometry import masks, neighbours, ragged
from tiler.geometry.columns import Columns
from tiler.geometry.overlay import common_area
from tiler.lazy import shapely
from tiler.matching import similarity

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

STEP = 4_000_000  # keypoints compared at once


@dataclass(frozen=True, slots=True, eq=False)
class Candidates(Columns):
    """Pairs of a detection and a label of one image, by detection; those of one detection in COCO's
    order of preference.

    Attributes:
        detection: `(P,)` int32, ascending.
        label: `(P,)` int32.
        iou: `(P,)` `least` or more. With a crowd: the share of the detection that lies in it. Of
            poses: OKS.
        least: the lowest IoU that was looked for.
        known_matches: pairs that were matched in crowds, by labels and thresholds, and without a
            contest, by thresholds; several evaluators and size bins ask for them.
    """

    detection: Ints
    label: Ints
    iou: Floats
    least: float
    known_matches: dict[tuple[bytes, bytes], list[Ints]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.detection)

    def take(self, index: Ints | Bools) -> Candidates:
        if index.dtype == bool and index.all():
            return self
        return replace(Columns.take(self, index), known_matches={})


def candidates(sample: EvaluationInputs, least: float = 0.5, any_class: bool = False) -> Candidates:
    """The pairs of a sample with enough IoU, each detection's best first; of equals the last label,
    as in COCO.

    Args:
        least: the lowest IoU, or OKS of poses; above 0.
        any_class: pair detections with labels of other classes too.

    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> two = Instances(np.array([0, 0]), np.array([[0, 0, 4, 4], [0, 0, 4, 3.0]]))
    >>> one = Instances(np.array([0]), np.array([[0, 0, 4, 3.0]]), conf=np.array([0.9]))
    >>> labels = GroundTruth(two, np.array([0, 0]))
    >>> detections = Predicted.of(one, np.array([0]))
    >>> pairs = candidates(EvaluationInputs(labels, detections, images=1, classes=1))
    >>> pairs.label.tolist(), pairs.iou.tolist()
    ([1, 0], [1.0, 0.75])
    """
    label_group = sample.labels.image
    detection_group = sample.detections.image
    if not any_class:
        label_group, detection_group = groups(sample)
    search = _alike_keypoints if sample.task == "pose" else _alike
    parts: list[Part] = []
    for detection, label, iou in search(sample, label_group, detection_group, least):
        if len(detection):
            parts.append((detection.astype(np.int32), label.astype(np.int32), iou))
    ascending = _is_ascending([detection for detection, _, _ in parts])
    if ascending:
        parts = [_ordered(part) for part in parts]
    columns = _joined(parts)
    if not ascending:
        columns = _ordered(columns)
    return Candidates(*columns, least)


Part = tuple["Ints", "Ints", "Floats"]  # detections, labels, and the IoU of each pair
NO_PAIRS: Part = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))


def _is_ascending(parts: list[Ints]) -> bool:
    """Whether detections ascend within each part, and from the end of one to the next."""
    for part in parts:
        if (np.diff(part) < 0).any():
            return False
    return all(part[-1] < following[0] for part, following in pairwise(parts))


def _ordered(part: Part) -> Part:
    """Pairs by detection, then in COCO's order of preference."""
    detection, label, iou = part
    order = preferred(detection, label, iou, last=True)
    return detection[order], label[order], iou[order]


def _joined(parts: list[Part]) -> Part:
    """The columns of all parts. The list is emptied on the way: the millions of pairs of a crowd
    need not be in memory twice.
    """
    columns: list[Any] = [list(column) for column in zip(NO_PAIRS, *parts, strict=True)]
    parts.clear()
    joined: list[Any] = []
    while columns:
        joined.append(np.concatenate(columns.pop(0)))
    detection, label, iou = joined
    return detection, label, iou


def groups(sample: EvaluationInputs) -> tuple[Ints, Ints]:
    """`(G,)` and `(D,)` a number for the image and class of each label and each detection."""
    labels = sample.labels
    detections = sample.detections
    label_group = labels.image * sample.classes + labels.class_id
    detection_group = detections.image * sample.classes + detections.class_id
    return label_group, detection_group


def same_class(sample: EvaluationInputs, pairs: Candidates) -> Bools:
    """`(P,)` pairs whose detection is of the label's class."""
    if sample.classes == 1:
        return np.ones(len(pairs.label), bool)
    predicted = sample.detections.class_id[pairs.detection]
    return np.asarray(predicted == sample.labels.class_id[pairs.label])


def _alike(
    sample: EvaluationInputs, label_group: Ints, detection_group: Ints, least: float
) -> Iterator[Part]:
    """Pairs of equal group with enough IoU. Those with crowds come last, since only a share of the
    detection counts there.
    """
    overlap = _overlap(sample)
    for is_crowd in (False, True):
        chosen = np.flatnonzero(sample.labels.crowd == is_crowd)
        # the areas of outlines say little about their boxes
        box_iou = 0.0
        if sample.task == "detect" and not is_crowd:
            box_iou = least
        for detection, label in _near(sample, chosen, label_group, detection_group, box_iou):
            iou = overlap.measured(detection, label, is_crowd)
            yield _at_least(least, detection, label, iou)


def _near(
    sample: EvaluationInputs, chosen: Ints, label_group: Ints, detection_group: Ints, iou: float
) -> Iterator[tuple[Ints, Ints]]:
    """Detections and chosen labels of equal group whose boxes may have this IoU."""
    boxes = sample.detections.boxes
    label_boxes = sample.labels.boxes[chosen]
    group = label_group[chosen]
    for detection, number in neighbours.alike(boxes, label_boxes, detection_group, group, iou):
        yield detection, chosen[number]


def _at_least(least: float, detection: Ints, label: Ints, iou: Floats) -> Part:
    """The pairs with enough IoU."""
    enough = iou >= least
    return detection[enough], label[enough], iou[enough]


@dataclass(frozen=True, slots=True, eq=False)
class _PairOverlap:
    """What IoU is computed from, by the formulas of maskApi.c (bbIou, rleIou) in their order of
    operations.

    Attributes:
        area: `(D,)` of detections.
        label_area: `(G,)` of labels.
        common: gives the common area of pairs of detections and labels.
    """

    area: Floats
    label_area: Floats
    common: Callable[[Ints, Ints], Floats]

    def measured(self, detection: Ints, label: Ints, is_crowd: bool) -> Floats:
        """The IoU of pairs; with crowds the share of the detection that lies in them."""
        common = self.common(detection, label)
        area = self.area[detection]
        if is_crowd:
            return np.divide(common, area, out=np.zeros_like(common), where=area > 0)
        return similarity.share(common, area, self.label_area[label], "iou")


def _overlap(sample: EvaluationInputs) -> _PairOverlap:
    if sample.task == "segment":
        return _overlap_of_masks(sample)
    if sample.task == "obb":
        return _overlap_of_polygons(sample)
    labels = sample.labels
    detections = sample.detections
    common = partial(box.common_area, detections.boxes, labels.boxes)
    return _PairOverlap(detections.box_area, labels.box_area, common)


def _overlap_of_masks(sample: EvaluationInputs) -> _PairOverlap:
    pixels = sample.detections.masks
    label_pixels = sample.labels.masks
    if pixels is None or label_pixels is None:
        raise TilerError("outlines are compared by their masks: labels and detections need them")
    common = partial(masks.common, pixels, label_pixels)
    return _PairOverlap(pixels.area(), label_pixels.area(), common)


def _overlap_of_polygons(sample: EvaluationInputs) -> _PairOverlap:
    rings = sample.detections.instances.rings
    label_rings = sample.labels.instances.rings
    assert rings is not None and label_rings is not None
    polygons = rings.geometry()
    label_polygons = label_rings.geometry()

    def common(detection: Ints, label: Ints) -> Floats:
        return common_area(polygons[detection], label_polygons[label])

    return _PairOverlap(shapely.area(polygons), shapely.area(label_polygons), common)


def _alike_keypoints(
    sample: EvaluationInputs, label_group: Ints, detection_group: Ints, least: float
) -> Iterator[Part]:
    """Pairs of equal group with enough OKS."""
    points = sample.detections.instances.keypoints
    label_points = sample.labels.instances.keypoints
    assert points is not None and label_points is not None
    labels = sample.labels
    partners = _GroupPartners.of(label_group, detection_group)
    for rows in partners.slices(label_points.shape[1]):
        detection, label = partners.pairs(rows)
        oks = _oks(points[detection], label_points[label], labels.boxes[label], labels.area[label])
        yield _at_least(least, detection, label, oks)


@dataclass(frozen=True, slots=True, eq=False)
class _GroupPartners:
    """The labels of each detection's group.

    Attributes:
        order: `(G,)` labels by group.
        first: `(D,)` where in it those of a detection begin.
        count: `(D,)` their number.
    """

    order: Ints
    first: Ints
    count: Ints

    @classmethod
    def of(cls, label_group: Ints, detection_group: Ints) -> _GroupPartners:
        order = np.argsort(label_group, kind="stable")
        by_group = label_group[order]
        first = np.searchsorted(by_group, detection_group)
        end = np.searchsorted(by_group, detection_group, "right")
        return cls(order, first, end - first)

    def slices(self, keypoints: int) -> Iterator[slice]:
        """The detections, a number at once that has at most `STEP` keypoints to compare."""
        most_labels = int(self.count.max(initial=1))
        most_points = max(1, keypoints * most_labels)
        step = max(1, STEP // most_points)
        for begin in range(0, len(self.count), step):
            yield slice(begin, begin + step)

    def pairs(self, rows: slice) -> tuple[Ints, Ints]:
        """Some detections with each of their labels."""
        count = self.count[rows]
        detections = np.arange(len(self.count))
        detection = np.repeat(detections[rows], count)
        places = ragged.spans(self.first[rows], count)
        return detection, self.order[places]


def _oks(points: Floats, labels: Floats, boxes: Floats, area: Floats) -> Floats:
    """`(P,)` OKS, as cocoeval.py: computeOks.

    With a label that has no keypoint it is of the distances by which points lie outside the label's
    box, doubled in size.
    """
    counted = labels[..., 2] > 0
    xy = points[..., :2]
    offset = xy - labels[..., :2]
    unlabelled = ~counted.any(axis=1)
    offset[unlabelled] = _outside(xy[unlabelled], boxes[unlabelled])
    counted[unlabelled] = True
    squares = (offset**2).sum(axis=-1)
    return similarity.oks_of_distances(squares, counted, area)


def _outside(points: Floats, boxes: Floats) -> Floats:
    """How far points lie beside boxes that reach further by their own size on each side."""
    corner = boxes[:, :2]
    side = boxes[:, 2:] - corner
    low = (corner - side)[:, None]
    high = (corner + 2 * side)[:, None]
    below = np.maximum(0, low - points)
    above = np.maximum(0, points - high)
    return below + above
