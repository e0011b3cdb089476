"""Every detection with every label that it may be matched to: found once, for all protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
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

STEP = 4_000_000  # pairs of keypoints compared at once, counted in points


@dataclass(frozen=True, slots=True, eq=False)
class Candidates(Columns):
    """Pairs of one image by detection; those of one detection as COCO prefers them.

    Attributes:
        detection: `(P,)` int32, ascending.
        label: `(P,)` int32.
        iou: `(P,)` how alike they are, `least` or more. With a crowd: the part of the detection
            that lies in it.
        least: what was looked for.
        known: what detections of crowds were matched to, which is asked for several times over.
    """

    detection: Ints
    label: Ints
    iou: Floats
    least: float
    known: dict[tuple[bytes, bytes], list[Ints]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.detection)

    def take(self, index: Ints | Bools) -> Candidates:
        if index.dtype == bool and index.all():
            return self
        return replace(Columns.take(self, index), known={})


def candidates(sample: EvaluationInputs, least: float = 0.5, any_class: bool = False) -> Candidates:
    """The pairs of a sample that are alike enough, each detection's best first; of equals the last
    label, as in COCO.

    Args:
        least: IoU, or OKS of keypoints, above 0.
        any_class: pair detections with labels of other classes too.

    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> labels = Instances(np.array([0, 0]), np.array([[0, 0, 4, 4], [0, 0, 4, 3.0]]))
    >>> found = Instances(np.array([0]), np.array([[0, 0, 4, 3.0]]), conf=np.array([0.9]))
    >>> pairs = candidates(EvaluationInputs(GroundTruth(labels, np.zeros(2, int)), Predicted.of(found, np.zeros(1, int)), 1, 1))
    >>> pairs.label.tolist(), pairs.iou.tolist()
    ([1, 0], [1.0, 0.75])
    """
    truth, found = sample.labels, sample.detections
    of_label, of_found = truth.image, found.image
    if not any_class:
        of_label, of_found = groups(sample)
    search = _alike_keypoints if sample.task == "pose" else _alike
    parts: list[list[Any]] = []
    for i, j, iou in search(sample, of_label, of_found, least):
        if len(i):
            parts.append([i.astype(np.int32), j.astype(np.int32), iou])
    in_order = all((np.diff(part[0]) >= 0).all() for part in parts)
    if in_order and all(one[0][-1] < other[0][0] for one, other in pairwise(parts)):
        parts = [_ordered(part) for part in parts]
        return _candidates(_joined(parts), least)
    return _candidates(_ordered(_joined(parts)), least)


def _candidates(columns: list[Any], least: float) -> Candidates:
    found, label, iou = columns
    return Candidates(found, label, iou, least)


def _ordered(part: list[Any]) -> list[Any]:
    """Pairs by detection, then as COCO prefers them."""
    i, j, iou = part
    order = preferred(i, j, iou, last=True)
    return [i[order], j[order], iou[order]]


def _joined(parts: list[list[Any]]) -> list[Any]:
    """The columns of all parts, which are empty then: a crowd has millions of pairs, which need not
    be there twice.
    """
    columns = [np.concatenate([NONE[k], *(part.pop() for part in parts)]) for k in (2, 1, 0)]
    return columns[::-1]


def groups(sample: EvaluationInputs) -> tuple[Ints, Ints]:
    """`(G,)` and `(D,)` a number for the image and class of each label and each detection."""
    label, found = (
        (rows.image, rows.instances.class_id) for rows in (sample.labels, sample.detections)
    )
    return label[0] * sample.classes + label[1], found[0] * sample.classes + found[1]


Part = tuple["Ints", "Ints", "Floats"]
NONE: Part = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))


def _alike(
    sample: EvaluationInputs, of_label: Ints, of_found: Ints, least: float
) -> Iterator[Part]:
    """Pairs of equal group whose areas overlap enough; crowds apart, since they count only what
    lies in them.
    """
    truth, found = sample.labels, sample.detections
    overlap = _overlaps(sample)
    for crowd in (False, True):
        which = np.flatnonzero(truth.crowd == crowd)
        # areas of outlines say little of their boxes
        reach = least if sample.task == "detect" and not crowd else 0.0
        near = neighbours.alike(
            found.instances.boxes, truth.instances.boxes[which], of_found, of_label[which], reach
        )
        for i, k in near:
            iou = overlap(i, which[k], crowd)
            keep = iou >= least
            yield i[keep], which[k[keep]], iou[keep]


def _overlaps(sample: EvaluationInputs) -> Callable[[Ints, Ints, bool], Floats]:
    """What gives the IoU of detections and labels, or of crowds the part of the detection that lies
    in them.

    The formulas of maskApi.c, bbIou and rleIou, in their order of operations.
    """
    truth, found = sample.labels, sample.detections
    if sample.task == "segment":
        if found.masks is None or truth.masks is None:
            raise TilerError(
                "outlines are compared by their masks: labels and detections need them"
            )
        pixels, others = found.masks, truth.masks
        area, other = pixels.area(), others.area()
        return lambda i, j, crowd: _share(
            masks.common(pixels, others, i, j), area[i], other[j], crowd
        )
    if sample.task == "obb":
        assert found.instances.rings is not None and truth.instances.rings is not None
        shapes, labels = found.instances.rings.geometry(), truth.instances.rings.geometry()
        covered, covered_by_label = shapely.area(shapes), shapely.area(labels)
        return lambda i, j, crowd: _share(
            common_area(shapes[i], labels[j]), covered[i], covered_by_label[j], crowd
        )

    def of_boxes(i: Ints, j: Ints, crowd: bool) -> Floats:
        common = box.common_area(found.instances.boxes, truth.instances.boxes, i, j)
        return _share(common, found.box_area[i], truth.box_area[j], crowd)

    return of_boxes


def _share(common: Floats, area: Floats, other: Floats, crowd: bool) -> Floats:
    if crowd:
        return np.divide(common, area, out=np.zeros_like(common), where=area > 0)
    return similarity.share(common, area, other, "iou")


def _alike_keypoints(
    sample: EvaluationInputs, of_label: Ints, of_found: Ints, least: float
) -> Iterator[Part]:
    """Pairs of equal group whose keypoints are near enough."""
    truth, found = sample.labels.instances, sample.detections.instances
    assert truth.keypoints is not None and found.keypoints is not None
    order = np.argsort(of_label, kind="stable")
    first = np.searchsorted(of_label[order], of_found)
    count = np.searchsorted(of_label[order], of_found, "right") - first
    step = max(1, STEP // max(1, truth.keypoints.shape[1] * int(count.max(initial=1))))
    for at in range(0, len(found), step):
        many = count[at : at + step]
        i = np.repeat(np.arange(at, at + len(many)), many)
        j = order[ragged.spans(first[at : at + step], many)]
        oks = _oks(found.keypoints[i], truth.keypoints[j], truth.boxes[j], truth.area[j])
        keep = oks >= least
        yield i[keep], j[keep], oks[keep]


def _oks(points: Floats, labels: Floats, boxes: Floats, area: Floats) -> Floats:
    """OKS; with a label that has no keypoint, by how far points lie outside its box, doubled
    (cocoeval.py: computeOks).
    """
    counted = labels[..., 2] > 0
    away = points[..., :2] - labels[..., :2]
    none = ~counted.any(axis=1)
    side = boxes[none, 2:] - boxes[none, :2]
    low = (boxes[none, :2] - side)[:, None]
    high = (boxes[none, :2] + 2 * side)[:, None]
    away[none] = np.maximum(0, low - points[none, :, :2]) + np.maximum(
        0, points[none, :, :2] - high
    )
    counted[none] = True
    return similarity.oks_of_distances((away**2).sum(axis=-1), counted, area)
