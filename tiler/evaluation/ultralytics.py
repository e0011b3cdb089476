"""The protocol of Ultralytics' validation, from columns: 8.4.190, and 8.3 (which 8.4.0 still had).

As in BaseValidator.match_predictions and utils/metrics.py: IoU in float32, matching per image and
class without crowds, at most `max_det` detections an image over all classes, the area under the
precision envelope by trapezoids. Pixels are those of the full image, not of the letterboxed one.

Ultralytics sorts confidences with numpy's default, which is not stable: what equal ones count as
depends on the processor. The same call on the same numbers is made here, so that the figures are
those that Ultralytics would give on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation.assignment import Row, assigned, bounds, crowds, falling, in_turn, preferred
from tiler.evaluation.candidates import Candidates, candidates, groups
from tiler.evaluation.coco import THRESHOLDS
from tiler.evaluation.inputs import EvaluationInputs, by_number, places
from tiler.geometry import neighbours, polygons, ragged

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
    """`results.box` of Ultralytics, under its names; rows are the n classes that have labels.

    Attributes:
        p, r, f1: `(n,)` at the confidence of the best mean F1, `conf`, IoU 0.5.
        all_ap: `(n, 10)` at each IoU threshold.
        ap_class_index: `(n,)` int64.
        p_curve, r_curve, f1_curve: `(n, 1000)` over the confidences `px`, IoU 0.5.
        prec_values: `(n, 1000)` precision over the recalls `px`, IoU 0.5.
        nc: the number of classes.
        correct: `(D, 10)` which detections are true positives at each threshold, in the sample's
            order.
        kept: `(D,)` which are among the first `max_det` of their image.
        nt_per_class: `(nc,)` labels of each class.
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
        """`(nc,)` AP of each class; of one without labels the mean, as Ultralytics has it."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

    @property
    def best_conf(self) -> Floats:
        """`(n,)` the confidence at which each class's own F1 is best."""
        return self.px[self.f1_curve.argmax(axis=1)] if len(self.f1_curve) else np.empty(0)

    def mean_results(self) -> list[float]:
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """P, R, AP50, AP of row i."""
        return float(self.p[i]), float(self.r[i]), float(self.ap50[i]), float(self.ap[i])

    def fitness(self) -> float:
        """mAP50-95, as since 8.3.200."""
        return self.map


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def evaluate(
    sample: EvaluationInputs, pairs: Candidates, legacy: bool = False, max_det: int | None = None
) -> Results:
    """Match and count as Ultralytics validates.

    Args:
        pairs: candidates of the sample from a little below 0.5 on; crowds among them are left out.
        legacy: as 8.3 does: a detection looks at its best label only, and the precision curve ends
            in a straight line to (1, 0).
        max_det: detections an image; default 300, and from 8.4.150 on as many as there are labels
            in one.

    >>> from tiler.evaluation.candidates import candidates
    >>> from tiler.evaluation.inputs import Predicted, GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    >>> found = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]), conf=np.array([0.9]))
    >>> one = EvaluationInputs(GroundTruth(label, np.array([0])), Predicted.of(found, np.array([0])), images=1, classes=1)
    >>> round(evaluate(one, candidates(one, 0.499)).map, 6)  # a perfect detector
    0.995
    """
    counted = ~sample.labels.crowd
    if max_det is None:
        labels = np.bincount(sample.labels.image[counted], minlength=1).max(initial=0)
        max_det = MAX_DET if legacy else max(MAX_DET, int(labels))
    order = by_image(sample)
    kept = np.zeros(len(order), bool)
    order = order[places(sample.detections.image[order]) < max_det]
    kept[order] = True
    begin = bounds(pairs.detection, len(sample.detections))
    crowded = crowds(begin, sample.detections.image) & (sample.task == "detect")
    ordinary = (
        pairs.take(ragged.spans(begin[:-1][~crowded], np.diff(begin)[~crowded]))
        if crowded.any()
        else pairs
    )
    alike = _single(sample, ordinary)
    alike = alike.take(kept[alike.detection] & counted[alike.label])
    correct = _correct_legacy(sample, alike) if legacy else _correct(sample, alike)
    which = np.flatnonzero(crowded & kept)
    rows = CrowdPairs(sample, pairs, begin, which, counted)
    taken = (rows.bests if legacy else rows.matched)(THRESHOLDS.astype(np.float32))
    for t, (found, _) in enumerate(taken):
        correct[found, t] = True
    return _results(sample, correct, order, kept, counted, legacy, max_det)


def by_image(sample: EvaluationInputs) -> Ints:
    """The detections by image, then confidence over all classes, then as given."""
    found = sample.detections
    order = np.argsort(found.place)
    order = order[np.argsort(-found.instances.confidence[order], kind="stable")]
    return np.asarray(order[by_number(found.image[order])])


def _single(sample: EvaluationInputs, pairs: Candidates) -> Candidates:
    """The pairs with Ultralytics' own measure, each detection's best first; of equals the first
    label.
    """
    if sample.task == "pose":
        truth = replace(sample.labels.instances, area=sample.labels.box_area * POSE_AREA)
        pairs = candidates(
            replace(sample, labels=replace(sample.labels, instances=truth)), pairs.least
        )
        assert truth.keypoints is not None
        pairs = pairs.take((truth.keypoints[pairs.label, :, 2] != 0).any(axis=1))
    i, j, iou = pairs.detection, pairs.label, pairs.iou
    if sample.task == "detect":
        iou = iou_of_pairs(sample.detections.instances.boxes, sample.labels.instances.boxes, i, j)
    elif sample.task == "obb":
        i, j = meeting(sample, *groups(sample))
        iou = probious(sample, i, j)
    enough = iou >= np.float32(THRESHOLDS[0])
    if not enough.all():
        i, j, iou = i[enough], j[enough], iou[enough]
    order = preferred(i, j, iou)
    return Candidates(i[order], j[order], iou[order], THRESHOLDS[0])


def meeting(
    sample: EvaluationInputs, of_label: Ints, of_found: Ints, iou: float = 0.0
) -> tuple[Ints, Ints]:
    """Detections and labels of equal group whose bounds meet, or may overlap by so much."""
    met = list(
        neighbours.alike(
            sample.detections.instances.boxes,
            sample.labels.instances.boxes,
            of_found,
            of_label,
            iou,
        )
    )
    none = np.empty(0, np.int64)
    return np.concatenate([none, *(i for i, _ in met)]), np.concatenate(
        [none, *(j for _, j in met)]
    )


def probious(sample: EvaluationInputs, i: Ints, j: Ints) -> Floats:
    """`(P,)` ProbIoU of detections and labels that are OBBs."""
    found, labels = sample.detections.instances.rings, sample.labels.instances.rings
    assert found is not None and labels is not None
    one = (column[i] for column in _gaussian(found.quads()))
    return _probiou(tuple(one), tuple(column[j] for column in _gaussian(labels.quads())))


def iou_of_boxes(boxes: Floats, others: Floats) -> Floats:
    """`(P,)` float32, as utils/metrics.py: box_iou.

    >>> float(iou_of_boxes(np.array([[0, 0, 4, 4.0]]), np.array([[0, 0, 4, 2.0]]))[0])
    0.5
    """
    every = np.arange(len(boxes))
    return iou_of_pairs(boxes, others, every, every)


def iou_of_pairs(boxes: Floats, others: Floats, i: Ints, j: Ints) -> Floats:
    """`(P,)` float32, the same of boxes i and others j."""
    one, other = (
        [np.ascontiguousarray(side, np.float32) for side in boxes.T.astype(np.float32, copy=False)]
        for boxes in (boxes, others)
    )
    area, area_other = ((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one, other))
    result: Any = np.empty(len(i), np.float32)
    for at in range(0, len(i), STEP):
        part = slice(at, at + STEP)
        a, b = i[part], j[part]
        wide, high = (
            np.maximum(
                np.minimum(one[axis + 2][a], other[axis + 2][b])
                - np.maximum(one[axis][a], other[axis][b]),
                np.float32(0),
            )
            for axis in (0, 1)
        )
        common = wide * high
        result[part] = common / (area[a] + area_other[b] - common + EPS32)
    return np.asarray(result)


def probiou(quads: Floats, others: Floats) -> Floats:
    """`(P,)` ProbIoU (arXiv 2106.06072) of OBBs by their corners `(P, 4, 2)`, as utils/metrics.py:
    batch_probiou.

    Corners stand for the smallest rectangle around them (`polygons.xywhr`), as in
    ops.xyxyxyxy2xywhr.

    >>> square = np.array([[[0, 0], [4, 0], [4, 4], [0, 4.0]]])
    >>> round(float(probiou(square, square)[0]), 3)
    1.0
    """
    return _probiou(_gaussian(quads), _gaussian(others))


Gaussian = tuple["Floats", ...]  # x, y and the covariance a, b, c, all `(P,)`


def _probiou(one: Gaussian, other: Gaussian) -> Floats:
    (x1, y1, a1, b1, c1), (x2, y2, a2, b2, c2) = one, other
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    room = a * b - c**2
    t1 = (a * (y1 - y2) ** 2 + b * (x1 - x2) ** 2) / (room + 1e-7) * 0.25
    t2 = c * (x2 - x1) * (y1 - y2) / (room + 1e-7) * 0.5
    own = np.maximum(a1 * b1 - c1**2, 0) * np.maximum(a2 * b2 - c2**2, 0)
    t3 = np.log(room / (4 * np.sqrt(own) + 1e-7) + 1e-7) * 0.5
    distance = np.clip(t1 + t2 + t3, 1e-7, 100.0)
    return np.asarray(1 - np.sqrt(1 - np.exp(-distance) + 1e-7))


def _gaussian(quads: Floats) -> Gaussian:
    """Centre and covariance of rectangles: of its sides' squares over 12, turned."""
    x, y, width, height, angle = polygons.xywhr(quads).T
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = width**2 / 12, height**2 / 12
    return x, y, a * cos**2 + b * sin**2, a * sin**2 + b * cos**2, (a - b) * cos * sin


def _correct(sample: EvaluationInputs, alike: Candidates) -> Bools:
    """8.4.190: in the order of confidence, each takes its best label that is still free at that
    threshold.
    """
    correct = np.zeros((len(sample.detections), len(THRESHOLDS)), bool)
    for t, threshold in enumerate(THRESHOLDS.astype(np.float32)):
        some = np.flatnonzero(alike.iou >= threshold)
        taken = some[assigned(alike.detection[some], alike.label[some], len(sample.labels))]
        correct[alike.detection[taken], t] = True
    return correct


@dataclass(frozen=True, slots=True, eq=False)
class CrowdPairs:
    """The labels of boxes of a crowd, detection by detection: all their pairs at once would be too
    many.

    Attributes:
        pairs: candidates of the sample.
        begin: where those of each detection begin.
        which: the detections, in their turn.
        counted: `(G,)` labels that they may have.
    """

    sample: EvaluationInputs
    pairs: Candidates
    begin: Ints
    which: Ints
    counted: Bools

    def __iter__(self) -> Iterator[Row]:
        """Each detection's labels, those of the highest IoU first, then the first; their IoU, and
        the detection.
        """
        boxes: Any = (
            rows.instances.boxes.astype(np.float32)
            for rows in (self.sample.detections, self.sample.labels)
        )
        one, other = boxes
        every = np.zeros(len(other), np.int64)
        for found in self.which.tolist():
            label = self.pairs.label[self.begin[found] : self.begin[found + 1]]
            label = label[self.counted[label]]
            iou = iou_of_pairs(one[found : found + 1], other, every[: len(label)], label)
            order = falling(iou, label)
            yield label[order], iou[order], np.full(len(label), found)

    def matched(self, thresholds: Floats) -> list[tuple[Ints, Ints]]:
        """The detections that get a label at each threshold, and which."""
        return in_turn(self, thresholds, len(self.counted))

    def bests(self, thresholds: Floats) -> list[tuple[Ints, Ints]]:
        """The same as 8.3 does it: each looks at its best label only, of equals the last."""
        best = (
            (label[last : last + 1], iou[:1], found[:1])
            for label, iou, found in self
            for last in [int(np.searchsorted(-iou, -iou[0], "right")) - 1 if len(iou) else 0]
        )
        return in_turn(best, thresholds, len(self.counted))


def _correct_legacy(sample: EvaluationInputs, alike: Candidates) -> Bools:
    """8.3: each looks at its best label only, of equals the last; the most confident that does has
    it.
    """
    order = preferred(alike.detection, alike.label, alike.iou, last=True)
    best = order[ragged.firsts(alike.detection[order])]
    found, label, iou = alike.detection[best], alike.label[best], alike.iou[best]
    correct = np.zeros((len(sample.detections), len(THRESHOLDS)), bool)
    for t, threshold in enumerate(THRESHOLDS.astype(np.float32)):
        enough = np.flatnonzero(iou >= threshold)
        _, first = np.unique(label[enough], return_index=True)
        correct[found[enough[first]], t] = True
    return correct


def _results(
    sample: EvaluationInputs,
    correct: Bools,
    order: Ints,
    kept: Bools,
    counted: Bools,
    legacy: bool,
    max_det: int,
) -> Results:
    """As utils/metrics.py: ap_per_class. `order`: the detections that are kept, as validation meets
    them.
    """
    labels = sample.positives(counted)
    classes = np.flatnonzero(labels)
    found = sample.detections.instances
    conf = found.confidence.astype(np.float32)
    order = order[np.argsort(-conf[order])]
    order = order[by_number(found.class_id[order])]
    begin = np.searchsorted(found.class_id[order], np.arange(sample.classes + 1))
    shape = (len(classes), len(PX))
    ap = np.zeros((len(classes), len(THRESHOLDS)))
    p_curve, r_curve, prec_values = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, k in enumerate(classes):
        own = order[begin[k] : begin[k + 1]]
        if not len(own):
            continue
        hits = correct[own]
        right = hits[:, 0].cumsum()
        surest = -conf[own]
        r_curve[row] = np.interp(-PX, surest, right / (labels[k] + EPS), left=0)
        p_curve[row] = np.interp(-PX, surest, right / np.arange(1, len(own) + 1), left=1)
        for t in range(len(THRESHOLDS)):
            recall, precision = _envelope(
                np.flatnonzero(hits[:, t]), len(own), int(labels[k]), legacy
            )
            ap[row, t] = _trapezoid(np.interp(RECALLS, recall, precision))
            if t == 0:
                prec_values[row] = np.interp(PX, recall, precision)
    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + EPS)
    best = int(smooth(f1_curve.mean(axis=0), 0.1).argmax()) if len(classes) else 0
    return Results(
        p=p_curve[:, best],
        r=r_curve[:, best],
        f1=f1_curve[:, best],
        all_ap=ap,
        ap_class_index=classes,
        p_curve=p_curve,
        r_curve=r_curve,
        f1_curve=f1_curve,
        prec_values=prec_values,
        nc=sample.classes,
        conf=float(PX[best]),
        correct=correct,
        kept=kept,
        nt_per_class=labels,
        max_det=max_det,
    )


def _envelope(hits: Ints, count: int, labels: int, legacy: bool) -> tuple[Floats, Floats]:
    """Recall and the running maximum of precision, of `count` detections of which `hits` are right.

    Where recall stays the same only the first and the last value matter.
    """
    number = np.arange(1, len(hits) + 1)
    ends = np.append(hits, count)[1:] - 1
    at = np.stack([hits, ends], axis=1).ravel()
    many = np.repeat(number, 2)
    if len(hits) == 0 or hits[0] > 0:
        at, many = np.append(0, at), np.append(0, many)
        at[0] = hits[0] - 1 if len(hits) else count - 1
    recall, precision = many / (labels + EPS), many / (at + 1)
    tail = [1.0] if legacy else [recall[-1], 1.0]
    recall = np.concatenate([[0.0], recall, tail])
    precision = np.concatenate([[1.0], precision, np.zeros(len(tail))])
    return recall, np.maximum.accumulate(precision[::-1])[::-1]


def _trapezoid(values: Floats) -> float:
    """The area under values at the 101 recalls."""
    return float((np.diff(RECALLS) * (values[1:] + values[:-1]) / 2.0).sum())


def smooth(values: Floats, part: float) -> Floats:
    """A box filter over a part of the values, the ends repeated (utils/metrics.py: smooth).

    >>> smooth(np.array([0, 0, 3, 0, 0.0]), 0.4).round(6).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    width = round(len(values) * part * 2) // 2 + 1
    ends = np.ones(width // 2)
    padded = np.concatenate([ends * values[0], values, ends * values[-1]])
    return np.convolve(padded, np.ones(width) / width, mode="valid")
