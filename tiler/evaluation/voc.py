"""PASCAL VOC's protocol, which DOTA's evaluation adopted: AP of each class at one IoU.

A detection may match its best label only, taken or not, as in voc_eval.py of py-faster-rcnn and of
DOTA_devkit. Their boxes' extra pixel is left out: IoU is that of the candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tiler.evaluation.assignment import preferred
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

IOU = 0.5
RECALLS = np.arange(0.0, 1.1, 0.1)  # as in voc_eval.py: .3, .6 and .7 lie a last bit higher


def ap(
    sample: EvaluationInputs,
    pairs: Candidates,
    iou: float = IOU,
    points: Literal[11] | None = None,
    strict: bool = False,
) -> Floats:
    """`(classes,)` AP of each class, NaN where no label counts.

    Of equal IoU the first label is the best. Once it is taken, other detections of it are false
    positives. A label that is `difficult` does not count, nor do detections whose best label it is.

    Args:
        pairs: candidates of the sample, at least from `iou` on.
        points: 11: the mean of the precision at 11 recalls, as until VOC 2009. Default: the area
            under its running maximum.
        strict: IoU must be above the threshold (voc_eval.py, DOTA_devkit), not at it (VOCdevkit).

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> two = Instances(np.array([0, 0]), np.array([[0, 0, 8, 8], [9, 9, 20, 20.0]]))
    >>> one = Instances(np.array([0]), np.array([[0, 0, 8, 4.0]]), conf=np.array([0.9]))
    >>> labels = GroundTruth(two, np.array([0, 0]))
    >>> detections = Predicted.of(one, np.array([0]))
    >>> sample = EvaluationInputs(labels, detections, images=1, classes=2)
    >>> pairs = candidates(sample)
    >>> ap(sample, pairs).tolist(), ap(sample, pairs, strict=True).tolist()
    ([0.5, nan], [0.0, nan])
    """
    enough = pairs.iou > iou if strict else pairs.iou >= iou
    ranks = _ranks(sample, pairs.take(enough))
    labels = sample.positives(~sample.labels.difficult)
    result = np.full(sample.classes, np.nan)
    for k in np.flatnonzero(labels):
        result[k] = _average(ranks[k], int(labels[k]), points)
    return result


def _ranks(sample: EvaluationInputs, pairs: Candidates) -> list[Ints]:
    """For each class the ranks of its true positives among its detections that count, from 1 on."""
    true, counted = _outcome(sample, pairs)
    counted_before = ragged.offsets(counted)
    begin = sample.class_bounds()
    ends = np.searchsorted(true, begin)
    ranks = []
    for k in range(sample.classes):
        of_class = true[ends[k] : ends[k + 1]]
        earlier = counted_before[begin[k]]
        ranks.append(counted_before[of_class + 1] - earlier)
    return ranks


def _outcome(sample: EvaluationInputs, pairs: Candidates) -> tuple[Ints, Bools]:
    """The true positives, ascending, and `(D,)` True for detections that count."""
    detection, label = _best(pairs)
    is_difficult = sample.labels.difficult[label]
    counted = np.ones(len(sample.detections), bool)
    counted[detection[is_difficult]] = False
    detection = detection[~is_difficult]
    label = label[~is_difficult]
    # of each label the first detection, since those of a class are in the order of confidence
    _, first = np.unique(label, return_index=True)
    true = np.sort(detection[first])
    return true, counted


def _best(pairs: Candidates) -> tuple[Ints, Ints]:
    """The detections of these pairs, ascending, and the best label of each, of equals the first."""
    order = preferred(pairs.detection, pairs.label, pairs.iou)
    best = order[ragged.firsts(pairs.detection[order])]
    return pairs.detection[best], pairs.label[best]


def _average(rank: Ints, labels: int, points: Literal[11] | None) -> float:
    """AP of one class by the ranks of its true positives among its detections, from 1 on."""
    number = np.arange(1, len(rank) + 1)
    precision = number / rank
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float(envelope.sum() / labels)
    return _sampled(envelope, number / labels)


def _sampled(envelope: Floats, recall: Floats) -> float:
    """The mean of the precision at 11 recalls, 0 where a recall is not reached."""
    place = np.searchsorted(recall, RECALLS)
    precision = np.append(envelope, 0.0)
    return float(precision[place].mean())
