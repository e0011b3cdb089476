"""PASCAL VOC's protocol, which DOTA's evaluation has taken over: AP of each class at one IoU.

A detection looks at its best label only, taken or not. As voc_eval.py of py-faster-rcnn and of
DOTA_devkit do it, but for their boxes' extra pixel: IoU is that of the candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tiler.evaluation.assignment import preferred
from tiler.evaluation.candidates import Candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

IOU = 0.5
RECALLS = np.arange(0.0, 1.1, 0.1)  # as in voc_eval.py: .3, .6 and .7 lie a last bit higher


def ap(
    sample: EvaluationInputs,
    pairs: Candidates,
    iou: float = IOU,
    points: Literal[11] | None = None,
    strict: bool = False,
) -> Floats:
    """`(classes,)` AP of each class, NaN of one without labels that count.

    Of equal IoU the first label is the best. Once it is taken, other detections of it are false
    positives; those of a label that is `difficult` count neither way, nor does the label.

    Args:
        pairs: candidates of the sample, at least from `iou` on.
        points: 11: the mean of the precision at 11 points of recall, as until VOC 2009. Default:
            the area under its running maximum.
        strict: IoU is above the threshold (voc_eval.py, DOTA_devkit), not just at it (VOCdevkit).

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> labels = Instances(np.array([0, 0]), np.array([[0, 0, 8, 8], [9, 9, 20, 20.0]]))
    >>> found = Instances(np.array([0]), np.array([[0, 0, 8, 4.0]]), conf=np.array([0.9]))
    >>> one = EvaluationInputs(GroundTruth(labels, np.array([0, 0])), Predicted.of(found, np.array([0])), images=1, classes=2)
    >>> ap(one, candidates(one)).tolist(), ap(one, candidates(one), strict=True).tolist()
    ([0.5, nan], [0.0, nan])
    """
    ignored = sample.labels.difficult
    found, label = _best(pairs.take(pairs.iou > iou if strict else pairs.iou >= iou))
    counts = np.ones(len(sample.detections), bool)
    counts[found[ignored[label]]] = False
    found, label = found[~ignored[label]], label[~ignored[label]]
    # detections of a class stand by their confidence
    _, first = np.unique(label, return_index=True)
    right = np.sort(found[first])
    classes = sample.detections.instances.class_id
    before = ragged.offsets(counts)
    begin = np.searchsorted(classes, np.arange(sample.classes + 1))
    at = np.searchsorted(right, begin)
    result = np.full(sample.classes, np.nan)
    labels = sample.positives(~ignored)
    for k in np.flatnonzero(labels):
        own = right[at[k] : at[k + 1]]
        number = np.arange(1, len(own) + 1)
        precision = number / (before[own + 1] - before[begin[k]])
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        result[k] = (
            envelope.sum() / labels[k] if points is None else _sampled(envelope, number / labels[k])
        )
    return result


def _best(pairs: Candidates) -> tuple[Ints, Ints]:
    """Each detection that has any, ascending, and the best of its labels, of equals the first."""
    order = preferred(pairs.detection, pairs.label, pairs.iou)
    best = order[ragged.firsts(pairs.detection[order])]
    return pairs.detection[best], pairs.label[best]


def _sampled(envelope: Floats, recall: Floats) -> float:
    """The mean of the precision at 11 points of recall, 0 where none is as high."""
    return float(np.append(envelope, 0.0)[np.searchsorted(recall, RECALLS)].mean())
