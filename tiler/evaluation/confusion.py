"""Which class was taken for which: Ultralytics' confusion matrix (utils/metrics.py:
ConfusionMatrix, 8.4.190).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.evaluation.assignment import assigned, preferred
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.evaluation.ultralytics import CrowdPairs, iou_of_pairs, meeting, probious

if TYPE_CHECKING:
    from tiler.types import Bools, Ints

IOU = 0.45
CONF = 0.25
LOWER = 0.98  # of an IoU, so that rounding leaves no pair out


def confusion(
    sample: EvaluationInputs, pairs: Candidates, conf: float = CONF, iou: float = IOU
) -> Ints:
    """`(classes + 1, classes + 1)` counts [predicted, true]; the last row is missed labels, the
    last column false positives.

    Detections above `conf` take, in the order of confidence, their best label of any class that is
    still free and has an IoU above `iou`. Crowds are left out.

    The IoU of OBBs is ProbIoU, that of outlines and poses is of their boxes, as in Ultralytics.

    Args:
        pairs: candidates of any class, of boxes from a little below `iou` on.
    """
    confident = sample.detections.conf > conf
    counted = ~sample.labels.crowd
    detection, label = _matched(sample, pairs, confident, counted, iou)
    predicted = sample.detections.class_id
    true = sample.labels.class_id
    missed = counted.copy()
    missed[label] = False
    false = confident.copy()
    false[detection] = False
    classes = sample.classes
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(matrix, (predicted[detection], true[label]), 1)
    matrix[-1, :-1] = np.bincount(true[missed], minlength=classes)
    matrix[:-1, -1] = np.bincount(predicted[false], minlength=classes)
    return matrix


def _matched(
    sample: EvaluationInputs, pairs: Candidates, confident: Bools, counted: Bools, iou: float
) -> tuple[Ints, Ints]:
    """Detections and their labels.

    Args:
        confident, counted: the detections and the labels that take part.
    """
    detections = sample.detections
    order = np.lexsort((detections.place, -detections.conf))
    order = order[confident[order]]
    crowd, others = CrowdPairs.apart(sample, pairs, order, counted)
    crowd_detection, crowd_label = _in_turn(crowd, iou)
    detection, label = _overlapping(sample, others, iou)
    counts = confident[detection] & counted[label]
    detection, label = _in_rounds(sample, order, detection[counts], label[counts], iou)
    detection = np.concatenate([detection, crowd_detection])
    label = np.concatenate([label, crowd_label])
    return detection, label


def _in_turn(crowd: CrowdPairs, iou: float) -> tuple[Ints, Ints]:
    """The pairs that are matched in crowds."""
    threshold = np.array([iou], np.float32)
    above = np.nextafter(threshold, np.float32(1))
    (matched,) = crowd.matched(above)
    return matched


def _overlapping(sample: EvaluationInputs, pairs: Candidates, iou: float) -> tuple[Ints, Ints]:
    """Detections and labels of one image that may have this IoU."""
    if sample.task == "detect":
        return pairs.detection, pairs.label
    least = iou * LOWER
    if sample.task == "obb":
        least = 0.0
    return meeting(sample, sample.labels.image, sample.detections.image, least)


def _in_rounds(
    sample: EvaluationInputs, order: Ints, detection: Ints, label: Ints, iou: float
) -> tuple[Ints, Ints]:
    """The pairs that are matched when detections choose in this order.

    Args:
        order: all detections that take part.
    """
    if sample.task == "obb":
        measured = probious(sample, detection, label)
    else:
        boxes = sample.detections.boxes
        label_boxes = sample.labels.boxes
        measured = iou_of_pairs(boxes, label_boxes, detection, label)
    turns = np.empty(len(sample.detections), np.int64)
    turns[order] = np.arange(len(order))
    above = np.flatnonzero(measured > iou)
    turn = turns[detection[above]]
    preference = preferred(turn, label[above], measured[above])
    above = above[preference]
    turn = turn[preference]
    taken = above[assigned(turn, label[above], len(sample.labels))]
    return detection[taken], label[taken]
