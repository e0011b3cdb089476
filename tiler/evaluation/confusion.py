"""Which class was taken for which: Ultralytics' confusion matrix (utils/metrics.py: ConfusionMatrix, 8.4.190)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.evaluation.assignment import assigned
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.sample import Sample
from tiler.evaluation.ultralytics import iou_of_boxes

if TYPE_CHECKING:
    from tiler.types import Ints

IOU = 0.45
CONF = 0.25


def confusion(sample: Sample, pairs: Candidates, conf: float = CONF, iou: float = IOU) -> Ints:
    """`(classes + 1, classes + 1)` counts [predicted, true]; the last row is missed labels, the last column false alarms.

    Detections above `conf` take, in the order of confidence, their best label of any class that is
    still free and overlaps by more than `iou`. Crowds are left out.

    Args:
        pairs: candidates of any class, from a little below `iou` on.
    """
    truth, found = sample.truth, sample.found
    assert found.instances.conf is not None
    sure = found.instances.conf > conf
    counted = ~truth.crowd
    pairs = pairs.take(sure[pairs.found] & counted[pairs.label])
    alike = pairs.iou
    if sample.task == "detect":
        alike = iou_of_boxes(found.instances.boxes[pairs.found], truth.instances.boxes[pairs.label])
    order = np.lexsort((found.place, -found.instances.conf))
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order))
    some = np.flatnonzero(alike > iou)
    some = some[np.lexsort((pairs.label[some], -alike[some], turn[pairs.found[some]]))]
    taken = some[assigned(turn[pairs.found[some]], pairs.label[some], len(truth))]
    i, j = pairs.found[taken], pairs.label[taken]
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
