"""Which class was taken for which: Ultralytics' confusion matrix (utils/metrics.py:
ConfusionMatrix, 8.4.190).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.evaluation.assignment import assigned, bounds, crowds, preferred
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.evaluation.ultralytics import CrowdPairs, iou_of_pairs, meeting, probious
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Ints

IOU = 0.45
CONF = 0.25
LOWER = 0.98  # of an IoU, so that rounding leaves no pair out


def confusion(
    sample: EvaluationInputs, pairs: Candidates, conf: float = CONF, iou: float = IOU
) -> Ints:
    """`(classes + 1, classes + 1)` counts [predicted, true]; the last row is missed labels, the
    last column false alarms.

    Detections above `conf` take, in the order of confidence, their best label of any class that is
    still free and overlaps by more than `iou`. Crowds are left out.

    OBBs overlap by ProbIoU, outlines and what has keypoints by their boxes, as in Ultralytics.

    Args:
        pairs: candidates of any class, of boxes from a little below `iou` on.
    """
    truth, found = sample.labels, sample.detections
    sure = found.instances.confidence > conf
    counted = ~truth.crowd
    i, j = _matched(sample, pairs, sure, counted, iou)
    size = sample.classes + 1
    predicted, true = found.instances.class_id, truth.instances.class_id
    missed, wrong = counted.copy(), sure.copy()
    missed[j] = False
    wrong[i] = False
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (predicted[i], true[j]), 1)
    matrix[-1, :-1] += np.bincount(true[missed], minlength=sample.classes)
    matrix[:-1, -1] += np.bincount(predicted[wrong], minlength=sample.classes)
    return matrix


def _matched(
    sample: EvaluationInputs, pairs: Candidates, sure: Bools, counted: Bools, iou: float
) -> tuple[Ints, Ints]:
    """Detections and their labels. `sure`, `counted`: those that take part."""
    truth, found = sample.labels, sample.detections
    order = np.lexsort((found.place, -found.instances.conf))  # type: ignore[operator]
    begin = bounds(pairs.detection, len(found))
    crowded = crowds(begin, found.image) & (sample.task == "detect")
    rows = CrowdPairs(sample, pairs, begin, order[(crowded & sure)[order]], counted)
    above = np.nextafter(np.array([iou], np.float32), np.float32(1))
    ((own, own_label),) = rows.matched(above)
    if crowded.any():
        pairs = pairs.take(ragged.spans(begin[:-1][~crowded], np.diff(begin)[~crowded]))
    i, j = pairs.detection, pairs.label
    if sample.task != "detect":
        i, j = meeting(
            sample, truth.image, found.image, 0.0 if sample.task == "obb" else iou * LOWER
        )
    some = sure[i] & counted[j]
    i, j = i[some], j[some]
    boxes = found.instances.boxes, truth.instances.boxes
    alike = probious(sample, i, j) if sample.task == "obb" else iou_of_pairs(*boxes, i, j)
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    enough = np.flatnonzero(alike > iou)
    enough = enough[preferred(turn[i[enough]], j[enough], alike[enough])]
    taken = enough[assigned(turn[i[enough]], j[enough], len(truth))]
    return np.concatenate([i[taken], own]), np.concatenate([j[taken], own_label])
