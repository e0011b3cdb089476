"""The protocol of Ultralytics' validation, on columns: that of 8.4.190, and that of 8.3 to 8.4.0.

As in BaseValidator.match_predictions and utils/metrics.py: IoU in float32, matching per image and
class without crowds, at most `max_det` detections an image over all classes, the area under the
precision envelope by trapezoids. Pixels are those of the full image, not of the letterboxed one.

Ultralytics sorts confidences with numpy's default, which is not stable: the order of equal ones
depends on the processor. The same call on the same numbers is made here, so that the figures are
those that Ultralytics would give on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation.assignment import (
    Row,
    assigned,
    bounds,
    crowds,
    falling,
    firsts,
    in_turn,
    pairs_of,
    preferred,
    uncontested,
)
from tiler.evaluation.candidates import Candidates, candidates, groups
from tiler.evaluation.coco import THRESHOLDS
from tiler.evaluation.inputs import EvaluationInputs, places
from tiler.geometry import neighbours, ragged
from tiler.matching.probiou import Gaussians, of_gaussians

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

MAX_DET = 300
EPS32 = np.float32(1e-7)
EPS = 1e-16
PX = np.linspace(0, 1, 1000)
RECALLS = np.linspace(0, 1, 101)
STEP = 2**16  # pairs compared at once
POSE_AREA = 0.53  # of the box, models/yolo/pose/val.py


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """`results.box` of Ultralytics, with its names; rows are the n classes that have labels.

    Attributes:
        p, r, f1: `(n,)` at the confidence of the best mean F1, `conf`, IoU 0.5.
        all_ap: `(n, 10)` at each IoU threshold.
        ap_class_index: `(n,)` int64.
        p_curve, r_curve, f1_curve: `(n, 1000)` over the confidences `px`, IoU 0.5.
        prec_values: `(n, 1000)` precision over the recalls `px`, IoU 0.5.
        nc: the number of classes.
        correct: `(D, 10)` True for detections that are true positives at each threshold, in the
            sample's order.
        kept: `(D,)` True for those among the first `max_det` of their image.
        nt_per_class: `(nc,)` number of labels of each class.
    """

    p: Floats
    r: Floats
    f1: Floats
    all_ap: Floats
    ap_class_index: Ints
    p_curve: Floats
    r_curve: Floats
    f1_curve: Floats
    prec_values: Floats
    nc: int
    conf: float
    correct: Bools
    kept: Bools
    nt_per_class: Ints
    max_det: int
    px: Floats = field(default_factory=lambda: PX)

    @property
    def ap(self) -> Floats:
        return np.asarray(self.all_ap.mean(axis=1))

    @property
    def ap50(self) -> Floats:
        return self.all_ap[:, 0]

    @property
    def mp(self) -> float:
        return _mean(self.p)

    @property
    def mr(self) -> float:
        return _mean(self.r)

    @property
    def map(self) -> float:
        return _mean(self.all_ap)

    @property
    def map50(self) -> float:
        return _mean(self.all_ap[:, 0])

    @property
    def map75(self) -> float:
        return _mean(self.all_ap[:, 5])

    @property
    def maps(self) -> Floats:
        """`(nc,)` AP of each class; without labels the mean, as in Ultralytics."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

    @property
    def best_conf(self) -> Floats:
        """`(n,)` the confidence at which each class's own F1 is best."""
        if not len(self.f1_curve):
            return np.empty(0)
        return np.asarray(self.px[self.f1_curve.argmax(axis=1)])

    def mean_results(self) -> list[float]:
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """P, R, AP50, AP of row i."""
        p = float(self.p[i])
        r = float(self.r[i])
        ap50 = float(self.ap50[i])
        ap = float(self.ap[i])
        return p, r, ap50, ap

    def fitness(self) -> float:
        """mAP50-95, as since 8.3.200."""
        return self.map


def _mean(values: Floats) -> float:
    if not len(values):
        return 0.0
    return float(values.mean())


def evaluate(
    sample: EvaluationInputs, pairs: Candidates, legacy: bool = False, max_det: int | None = None
) -> Results:
    """Match and count as Ultralytics validates.

    Args:
        pairs: candidates of the sample from a little below 0.5 on; crowds among them are left out.
        legacy: as 8.3 does: a detection may take its best label only, and the precision curve ends
            in a straight line to (1, 0).
        max_det: maximum detections an image. Default: 300, and from 8.4.150 on no less than the
            most labels of an image.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    >>> detection = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]), conf=np.array([0.9]))
    >>> labels = GroundTruth(label, np.array([0]))
    >>> detections = Predicted.of(detection, np.array([0]))
    >>> sample = EvaluationInputs(labels, detections, images=1, classes=1)
    >>> round(evaluate(sample, candidates(sample, 0.499)).map, 6)  # a perfect detector
    0.995
    """
    counted = ~sample.labels.crowd
    if max_det is None:
        max_det = MAX_DET
        if not legacy:
            max_det = max(max_det, _most_labels(sample, counted))
    order = by_image(sample)
    place = places(sample.detections.image[order])
    order = order[place < max_det]
    kept = np.zeros(len(sample.detections), bool)
    kept[order] = True
    correct = _correct(sample, pairs, kept, counted, legacy)
    return _results(sample, correct, order, kept, counted, legacy, max_det)


def _most_labels(sample: EvaluationInputs, counted: Bools) -> int:
    """The largest number of labels in an image."""
    number = np.bincount(sample.labels.image[counted], minlength=1)
    return int(number.max(initial=0))


def by_image(sample: EvaluationInputs) -> Ints:
    """The detections by image, then confidence over all classes, then as given."""
    detections = sample.detections
    order = np.full(detections.place.max(initial=-1) + 1, -1)
    order[detections.place] = np.arange(len(detections))
    order = order[order >= 0]
    by_conf = ragged.falling(detections.conf[order])
    order = order[by_conf]
    in_images = ragged.by_number(detections.image[order])
    return np.asarray(order[in_images])


def _correct(
    sample: EvaluationInputs, pairs: Candidates, kept: Bools, counted: Bools, legacy: bool
) -> Bools:
    """`(D, T)` the true positives at each threshold."""
    thresholds: Any = THRESHOLDS.astype(np.float32)
    crowd, ordinary = CrowdPairs.apart(sample, pairs, np.flatnonzero(kept), counted)
    ordinary = _measured(sample, ordinary)
    ordinary = ordinary.take(kept[ordinary.detection] & counted[ordinary.label])
    if legacy:
        matched = _matched_to_best(ordinary, thresholds)
        matched_in_crowds = crowd.matched_to_best(thresholds)
    else:
        matched = _matched(ordinary, len(sample.labels), thresholds)
        matched_in_crowds = crowd.matched(thresholds)
    correct = np.zeros((len(sample.detections), len(thresholds)), bool)
    for t, detection in enumerate(matched):
        correct[detection, t] = True
    for t, (detection, _) in enumerate(matched_in_crowds):
        correct[detection, t] = True
    return correct


def _matched(pairs: Candidates, labels: int, thresholds: Floats) -> Iterator[Ints]:
    """As 8.4.190: by confidence, each detection takes its best label that is still free at that
    threshold.
    """
    alone = uncontested(pairs.detection, pairs.label)
    plain = pairs.take(alone)
    others = pairs.take(~alone)
    won = firsts(plain.label, plain.iou, thresholds, labels)
    for threshold, first in zip(thresholds, won, strict=True):
        enough = np.flatnonzero(others.iou >= threshold)
        taken = assigned(others.detection[enough], others.label[enough], labels)
        yield np.concatenate([plain.detection[first], others.detection[enough[taken]]])


def _matched_to_best(pairs: Candidates, thresholds: Floats) -> Iterator[Ints]:
    """As 8.3: each detection may take its best label only, of equals the last; the most confident
    gets it.
    """
    order = preferred(pairs.detection, pairs.label, pairs.iou, last=True)
    best = order[ragged.firsts(pairs.detection[order])]
    detection = pairs.detection[best]
    label = pairs.label[best]
    iou = pairs.iou[best]
    for threshold in thresholds:
        enough = np.flatnonzero(iou >= threshold)
        _, first = np.unique(label[enough], return_index=True)
        yield detection[enough[first]]


def _measured(sample: EvaluationInputs, pairs: Candidates) -> Candidates:
    """The pairs with Ultralytics' own measure, each detection's best first; of equals the first
    label.
    """
    if sample.task == "pose":
        pairs = _poses(sample, pairs.least)
    detection = pairs.detection
    label = pairs.label
    iou = pairs.iou
    if sample.task == "detect":
        iou = iou_of_pairs(sample.detections.boxes, sample.labels.boxes, detection, label)
    elif sample.task == "obb":
        detection, label = meeting(sample, *groups(sample))
        iou = probious(sample, detection, label)
    enough = iou >= np.float32(THRESHOLDS[0])
    if not enough.all():
        detection = detection[enough]
        label = label[enough]
        iou = iou[enough]
    order = preferred(detection, label, iou)
    return Candidates(detection[order], label[order], iou[order], THRESHOLDS[0])


def _poses(sample: EvaluationInputs, least: float) -> Candidates:
    """Candidates by the OKS that Ultralytics computes, with labels that have keypoints."""
    labels = sample.labels
    points = labels.instances.keypoints
    assert points is not None
    instances = replace(labels.instances, area=labels.box_area * POSE_AREA)
    sample = replace(sample, labels=replace(labels, instances=instances))
    pairs = candidates(sample, least)
    visible = points[pairs.label, :, 2] != 0
    return pairs.take(visible.any(axis=1))


def meeting(
    sample: EvaluationInputs, label_group: Ints, detection_group: Ints, iou: float = 0.0
) -> tuple[Ints, Ints]:
    """Detections and labels of equal group whose boxes have common area, or may have this IoU."""
    boxes = sample.detections.boxes
    label_boxes = sample.labels.boxes
    pairs = neighbours.alike(boxes, label_boxes, detection_group, label_group, iou)
    return neighbours.collected(pairs)


def probious(sample: EvaluationInputs, detection: Ints, label: Ints) -> Floats:
    """`(P,)` ProbIoU of pairs of detections and labels that are OBBs."""
    rings = sample.detections.instances.rings
    label_rings = sample.labels.instances.rings
    assert rings is not None and label_rings is not None
    gaussians = Gaussians.of(rings.quads())
    label_gaussians = Gaussians.of(label_rings.quads())
    one = gaussians.take(detection)
    other = label_gaussians.take(label)
    return of_gaussians(one, other)


def iou_of_boxes(boxes: Floats, others: Floats) -> Floats:
    """`(P,)` float32, as utils/metrics.py: box_iou.

    >>> float(iou_of_boxes(np.array([[0, 0, 4, 4.0]]), np.array([[0, 0, 4, 2.0]]))[0])
    0.5
    """
    every = np.arange(len(boxes))
    return iou_of_pairs(boxes, others, every, every)


def iou_of_pairs(boxes: Floats, others: Floats, i: Ints, j: Ints) -> Floats:
    """`(P,)` float32, the same of boxes i and others j."""
    return _iou(_Float32Boxes.of(boxes), _Float32Boxes.of(others), i, j)


Sides = list["Floats"]  # left, top, right and bottom of boxes, float32


@dataclass(frozen=True, slots=True, eq=False)
class _Float32Boxes:
    """Boxes as Ultralytics has them, column by column."""

    sides: Sides
    area: Floats

    @classmethod
    def of(cls, boxes: Floats) -> _Float32Boxes:
        columns = boxes.T.astype(np.float32, copy=False)
        sides: Any = [np.ascontiguousarray(side, np.float32) for side in columns]
        left, top, right, bottom = sides
        return cls(sides, (right - left) * (bottom - top))


def _iou(one: _Float32Boxes, other: _Float32Boxes, i: Ints, j: Ints) -> Floats:
    """`(P,)` float32, of box i and the other box j."""
    result: Any = np.empty(len(i), np.float32)
    for begin in range(0, len(i), STEP):
        part = slice(begin, begin + STEP)
        a, b = i[part], j[part]
        common = _common_area(one.sides, other.sides, a, b)
        result[part] = common / (one.area[a] + other.area[b] - common + EPS32)
    return np.asarray(result)


def _common_area(one: Sides, other: Sides, i: Ints, j: Ints) -> Floats:
    """`(P,)` of what box i and the other box j have in common."""
    width = _common_side(one, other, 0, i, j)
    height = _common_side(one, other, 1, i, j)
    return width * height


def _common_side(one: Sides, other: Sides, axis: int, i: Ints, j: Ints) -> Floats:
    """`(P,)` width (axis 0) or height of what box i and the other box j have in common."""
    low = one[axis]
    other_low = other[axis]
    high = one[axis + 2]
    other_high = other[axis + 2]
    begin = np.maximum(low[i], other_low[j])
    end = np.minimum(high[i], other_high[j])
    return np.asarray(np.maximum(end - begin, np.float32(0)))


def probiou(quads: Floats, others: Floats) -> Floats:
    """`(P,)` ProbIoU (arXiv 2106.06072) of OBBs by their corners `(P, 4, 2)`, as utils/metrics.py:
    batch_probiou.

    Corners stand for the smallest rectangle around them (`polygons.xywhr`), as in
    ops.xyxyxyxy2xywhr.

    >>> square = np.array([[[0, 0], [4, 0], [4, 4], [0, 4.0]]])
    >>> round(float(probiou(square, square)[0]), 3)
    1.0
    """
    return of_gaussians(Gaussians.of(quads), Gaussians.of(others))


@dataclass(frozen=True, slots=True, eq=False)
class CrowdPairs:
    """The candidates of a crowd of boxes, one detection after the other: all their pairs at once
    would be too many.

    Attributes:
        pairs: candidates of the sample.
        begin: where those of each detection begin.
        which: the detections, in their turn.
        counted: `(G,)` labels that they may take.
    """

    sample: EvaluationInputs
    pairs: Candidates
    begin: Ints
    which: Ints
    counted: Bools

    @classmethod
    def apart(
        cls, sample: EvaluationInputs, pairs: Candidates, turns: Ints, counted: Bools
    ) -> tuple[CrowdPairs, Candidates]:
        """The pairs in crowds of boxes, and all others.

        Args:
            turns: the detections that take part, in their turn.
        """
        begin = bounds(pairs.detection, len(sample.detections))
        is_crowded = crowds(begin, sample.detections.image) & (sample.task == "detect")
        crowd = cls(sample, pairs, begin, turns[is_crowded[turns]], counted)
        if is_crowded.any():
            ordinary = pairs_of(begin, ~is_crowded)
            pairs = pairs.take(ordinary)
        return crowd, pairs

    def __iter__(self) -> Iterator[Row]:
        """Each detection's labels by falling IoU, of equals the first; their IoU; and the
        detection, once for each.
        """
        boxes = _Float32Boxes.of(self.sample.detections.boxes)
        labels = _Float32Boxes.of(self.sample.labels.boxes)
        for detection in self.which.tolist():
            own = slice(self.begin[detection], self.begin[detection + 1])
            label = self.pairs.label[own]
            label = label[self.counted[label]]
            numbers = np.full(len(label), detection)
            iou = _iou(boxes, labels, numbers, label)
            order = falling(iou, label)
            yield label[order], iou[order], numbers

    def matched(self, thresholds: Floats) -> list[tuple[Ints, Ints]]:
        """The detections that get a label at each threshold, and the label of each."""
        return in_turn(self, thresholds, len(self.counted))

    def matched_to_best(self, thresholds: Floats) -> list[tuple[Ints, Ints]]:
        """The same as 8.3 does it: each may take its best label only, of equals the last."""
        return in_turn(self._best(), thresholds, len(self.counted))

    def _best(self) -> Iterator[Row]:
        for label, iou, detection in self:
            last = 0
            if len(iou):
                equal = np.searchsorted(-iou, -iou[0], "right")
                last = int(equal) - 1
            yield label[last : last + 1], iou[:1], detection[:1]


def _results(
    sample: EvaluationInputs,
    correct: Bools,
    order: Ints,
    kept: Bools,
    counted: Bools,
    legacy: bool,
    max_det: int,
) -> Results:
    """As utils/metrics.py: ap_per_class.

    Args:
        order: the detections that are kept, in the order of validation.
    """
    labels = sample.positives(counted)
    classes = np.flatnonzero(labels)
    curves = _ClassCurves.of(sample, correct, order, classes, labels[classes], legacy)
    sums = curves.p + curves.r
    f1_curve = 2 * curves.p * curves.r / (sums + EPS)
    best = 0
    if len(classes):
        mean_f1 = smooth(f1_curve.mean(axis=0), 0.1)
        best = int(mean_f1.argmax())
    return Results(
        p=curves.p[:, best],
        r=curves.r[:, best],
        f1=f1_curve[:, best],
        all_ap=curves.ap,
        ap_class_index=classes,
        p_curve=curves.p,
        r_curve=curves.r,
        f1_curve=f1_curve,
        prec_values=curves.precision,
        nc=sample.classes,
        conf=float(PX[best]),
        correct=correct,
        kept=kept,
        nt_per_class=labels,
        max_det=max_det,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _ClassCurves:
    """What is measured of the n classes that have labels; 0 for one without detections.

    Attributes:
        ap: `(n, T)` at each threshold.
        p, r: `(n, 1000)` over confidence, at the first threshold.
        precision: `(n, 1000)` over recall, at the first threshold.
    """

    ap: Floats
    p: Floats
    r: Floats
    precision: Floats

    @classmethod
    def of(
        cls,
        sample: EvaluationInputs,
        correct: Bools,
        order: Ints,
        classes: Ints,
        labels: Ints,
        legacy: bool,
    ) -> _ClassCurves:
        conf: Any = sample.detections.conf.astype(np.float32)
        order = _by_class(order, sample.detections.class_id, conf)
        class_id = sample.detections.class_id[order]
        begin = np.searchsorted(class_id, classes)
        end = np.searchsorted(class_id, classes, "right")
        curves = cls._unfilled(len(classes))
        for row, count in enumerate(labels.tolist()):
            detections = order[begin[row] : end[row]]
            if len(detections):
                curves._fill(row, correct[detections], conf[detections], count, legacy)
        return curves

    @classmethod
    def _unfilled(cls, classes: int) -> _ClassCurves:
        ap = np.zeros((classes, len(THRESHOLDS)))
        p, r, precision = np.zeros((3, classes, len(PX)))
        return cls(ap, p, r, precision)

    def _fill(self, row: int, correct: Bools, conf: Floats, labels: int, legacy: bool) -> None:
        """Measure one class by its detections, the most confident first."""
        count = len(conf)
        true = correct[:, 0].cumsum()
        recall = true / (labels + EPS)
        precision = true / np.arange(1, count + 1)
        # np.interp needs rising values
        self.r[row] = np.interp(-PX, -conf, recall, left=0)
        self.p[row] = np.interp(-PX, -conf, precision, left=1)
        for t in range(len(THRESHOLDS)):
            hits = np.flatnonzero(correct[:, t])
            recall, envelope = _envelope(hits, count, labels, legacy)
            self.ap[row, t] = _trapezoid(np.interp(RECALLS, recall, envelope))
            if t == 0:
                self.precision[row] = np.interp(PX, recall, envelope)


def _by_class(order: Ints, class_id: Ints, conf: Floats) -> Ints:
    """The same detections by class, then confidence as Ultralytics sorts it."""
    by_conf = np.argsort(-conf[order])
    order = order[by_conf]
    by_class = ragged.by_number(class_id[order])
    return order[by_class]


def _envelope(hits: Ints, count: int, labels: int, legacy: bool) -> tuple[Floats, Floats]:
    """Recall and the running maximum of precision, of `count` detections of which `hits` are right.

    Where recall stays the same only the first and the last value matter.
    """
    at, number = _steps(hits, count)
    recall = number / (labels + EPS)
    precision = number / (at + 1)
    tail = [1.0]
    if not legacy:
        tail = [recall[-1], 1.0]
    recall = np.concatenate([[0.0], recall, tail])
    precision = np.concatenate([[1.0], precision, np.zeros(len(tail))])
    return recall, np.maximum.accumulate(precision[::-1])[::-1]


def _steps(hits: Ints, count: int) -> tuple[Ints, Ints]:
    """The first and the last detection of each recall, and the number of true positives there."""
    ends = np.append(hits, count) - 1  # before the next one that is right
    at = np.stack([hits, ends[1:]], axis=1).ravel()
    number = np.repeat(np.arange(1, len(hits) + 1), 2)
    if ends[0] < 0:  # the first detection is right
        return at, number
    return np.append(ends[0], at), np.append(0, number)


def _trapezoid(values: Floats) -> float:
    """The area under values at the 101 recalls."""
    sums = values[1:] + values[:-1]
    areas = np.diff(RECALLS) * sums / 2.0
    return float(areas.sum())


def smooth(values: Floats, part: float) -> Floats:
    """A box filter over a part of the values, the ends repeated (utils/metrics.py: smooth).

    >>> smooth(np.array([0, 0, 3, 0, 0.0]), 0.4).round(6).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    width = round(len(values) * part * 2) // 2 + 1
    ends = np.ones(width // 2)
    before = ends * values[0]
    after = ends * values[-1]
    padded = np.concatenate([before, values, after])
    weights = np.ones(width) / width
    return np.convolve(padded, weights, mode="valid")
