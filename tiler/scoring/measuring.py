"""From a sample to its metrics: candidates are found once, and every number counts from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation import (
    bootstrap,
    coco,
    confusion,
    diagnosis,
    efficiency,
    seams,
    ultralytics,
    voc,
)
from tiler.evaluation.bins import ALL, COCO, Bin
from tiler.evaluation.candidates import candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.scoring import operating
from tiler.scoring.card import score_card
from tiler.scoring.metrics import Metrics, Seams, summary
from tiler.scoring.operating import OperatingPoint
from tiler.scoring.preparing import LEAST, DetectionLimits, Measurement, Prepared
from tiler.scoring.tiling import Tiling, Unavailable

if TYPE_CHECKING:
    from tiler.evaluation.bootstrap import Draws
    from tiler.evaluation.coco import Curves
    from tiler.evaluation.layout import TileLayout
    from tiler.evaluation.ultralytics import Results
    from tiler.types import Bools, Floats, Ints

NAN = float("nan")
BIN = "bin "  # before the names of bins that are not COCO's
IOUS = {"50": 0.5, "75": 0.75}  # at which COCO gives AP apart
VOC: dict[str, dict[str, Any]] = {
    "voc": {},
    "voc07": {"points": 11},
    "dota": {"points": 11, "strict": True},
}


def measured(asked: Measurement, look: Callable[[], Tiling | Unavailable]) -> Metrics:
    """All that the options ask for.

    Args:
        look: finds out what is known of the tiles; called if that is needed.
    """
    clock = _Clock()
    tiling = look() if asked.analysed else _not_analysed(asked)
    clock.lap("tiles")
    prepared = Prepared.of(asked)
    sample = asked.sample
    clock.lap("pairs")
    bins = (ALL, *COCO.bins)
    curves = coco.evaluate(sample, prepared.same_class, bins, prepared.limits.evaluated)
    by_size = _by_size(prepared, curves)
    clock.lap("coco")
    box = ultralytics.evaluate(sample, prepared.same_class)
    matched = _matched(prepared)
    point = _operating_point(prepared, matched[:, 0], box)
    extra = _extra_ultralytics(prepared, point.conf)
    clock.lap("ultralytics")
    resampling = _Resampling.of(prepared)
    clock.lap("intervals")
    extra |= _analysis(prepared, matched, tiling, point.conf)
    extra |= _counted(prepared, point, asked.keys)
    clock.lap("analysis")

    draws = resampling.trusted
    if draws is not None:
        by_size = _with_intervals(by_size, draws, prepared.limits.largest)
        extra["intervals"] = _intervals(draws)
    if asked.boxes is not None:
        extra["boxes"] = _of_boxes(asked.boxes, prepared)
    card = score_card(prepared, curves, box, tiling, resampling.note, asked.unreadable)
    return Metrics(
        names=asked.names,
        keys=list(asked.keys),
        card={**asked.card, **card},
        coco=_coco(curves, prepared.limits.caps, sample.task == "pose"),
        coco_auto=_coco_of_all(curves, prepared.limits),
        box=box,
        voc=_voc(prepared),
        bins=by_size,
        per_class=_per_class(prepared, curves, box, draws),
        sample=sample,
        draws=resampling.draws,
        speed=clock.laps,
        **extra,
    )


class _Clock:
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.laps[name] = now - self._last
        self._last = now


def _not_analysed(asked: Measurement) -> Unavailable:
    if asked.options.analysis == "none":
        return Unavailable("--analysis none")
    count = len(asked.sample.detections)
    return Unavailable(
        f"{count} detections: --analysis full for intervals, seams and error classes"
    )


def _matched(prepared: Prepared) -> Ints:
    """`(D, T)` the label that each detection is matched to; without analysis at IoU 0.5 only."""
    thresholds = coco.THRESHOLDS if prepared.analysis else coco.THRESHOLDS[:1]
    return coco.matched(prepared.sample, prepared.same_class, thresholds)


# --- at one confidence


def _operating_point(prepared: Prepared, label: Ints, box: Results) -> OperatingPoint:
    """At the confidence that is asked for, or else that of the best mean F1."""
    options = prepared.options
    if options.at_conf is not None:
        conf, chosen = options.at_conf, "--at-conf"
    elif options.conf:
        conf, chosen = options.conf, "--conf"
    else:
        conf, chosen = float(box.conf), "of the best mean F1"
    return OperatingPoint.of(prepared.sample, label, conf, chosen)


def _counted(prepared: Prepared, point: OperatingPoint, keys: Sequence[str]) -> dict[str, Any]:
    """What is right and wrong at one confidence, and how well objects are counted if that is asked
    for.
    """
    names = _distinct(prepared.names)
    counted: list[str] = []
    counts = None
    if prepared.options.counts:
        counted = names
        counts = operating.count_errors(point, names)
    return {
        "operating": point.plain(names, prepared.size_bins.bins),
        "per_image": operating.per_image(point, keys, counted),
        "counts": counts,
    }


# --- by protocol


def _coco(curves: Curves, caps: Sequence[int], keypoints: bool = False) -> dict[str, float]:
    """COCO's twelve numbers, at these limits; of keypoints its ten, and those of small objects."""
    last = caps[-1]
    numbers = {"AP": curves.ap(max_dets=last)}
    for name, iou in IOUS.items():
        numbers[f"AP{name}"] = curves.ap(max_dets=last, iou=iou)
    for size in COCO.bins:
        numbers[f"AP_{size.name}"] = curves.ap(size.name, last)
    for cap in caps:
        numbers[f"AR_{cap}"] = curves.ar(max_dets=cap)
    if keypoints:
        for name, iou in IOUS.items():
            numbers[f"AR{name}"] = curves.ar(max_dets=last, iou=iou)
    for size in COCO.bins:
        numbers[f"AR_{size.name}"] = curves.ar(size.name, last)
    return numbers


def _coco_of_all(curves: Curves, limits: DetectionLimits) -> dict[str, float]:
    """The same where all detections count; `cost_of_limit` is what COCO's usual limit takes from
    AP.
    """
    numbers = _coco(curves, [limits.every])
    numbers["AR"] = numbers.pop(f"AR_{limits.every}")
    cost = numbers["AP"] - curves.ap(max_dets=limits.limit)
    return {"max_dets": limits.every, **numbers, "limit": limits.limit, "cost_of_limit": cost}


def _extra_ultralytics(prepared: Prepared, conf: float) -> dict[str, Any]:
    """The confusion matrix at this confidence and above, and the numbers of Ultralytics 8.3, where
    they are asked for.
    """
    sample = prepared.sample
    legacy = None
    matrix = None
    if "ultralytics-8.3" in prepared.protocols:
        legacy = ultralytics.evaluate(sample, prepared.same_class, legacy=True)
    if "ultralytics" in prepared.protocols:
        below = float(np.nextafter(conf, -1))  # of which the matrix takes what is above
        matrix = confusion.confusion(sample, prepared.pairs, below)
    return {"legacy": legacy, "confusion": matrix}


def _voc(prepared: Prepared) -> dict[str, float]:
    """The mean AP of each protocol of VOC and DOTA that is asked for; NaN without labels."""
    result = {}
    for name, settings in VOC.items():
        if name in prepared.protocols:
            values = voc.ap(prepared.sample, prepared.same_class, **settings)
            known = values[~np.isnan(values)]
            result[name] = float(known.mean()) if len(known) else NAN
    return result


def _of_boxes(boxes: EvaluationInputs, prepared: Prepared) -> dict[str, Any]:
    """The numbers of outlines' or poses' boxes, by the protocols that Ultralytics and pycocotools
    have for both.
    """
    pairs = candidates(boxes, LEAST)
    result: dict[str, Any] = {}
    if "coco" in prepared.protocols:
        limits = DetectionLimits(prepared.limits.asked, coco.MAX_DETS, boxes.most())
        curves = coco.evaluate(boxes, pairs, (ALL, *COCO.bins), limits.evaluated)
        result["coco"] = _coco(curves, limits.caps)
        result["coco_auto"] = _coco_of_all(curves, limits)
    for name in ("ultralytics", "ultralytics-8.3"):
        if name in prepared.protocols:
            legacy = name != "ultralytics"
            result[name] = summary(ultralytics.evaluate(boxes, pairs, legacy=legacy))
    return result


# --- by size


def _by_size(prepared: Prepared, known: Curves) -> dict[str, Any]:
    """Size bins under the limit that is asked for, or their protocol's, or none.

    Args:
        known: of COCO's bins; taken where the same is asked for.
    """
    chosen = prepared.size_bins
    limit = chosen.max_dets or known.max_dets[-1]
    if prepared.limits.asked:
        limit = prepared.limits.asked[-1]
    thresholds = coco.THRESHOLDS
    apart = np.array([0.5])  # IoU at which AP is given apart
    if chosen.thresholds is not None:
        thresholds = apart = np.array(chosen.thresholds)
    same = chosen.thresholds is None and chosen.bins == known.bins[1:]
    if same and limit in known.max_dets:
        curves = known
    else:
        curves = coco.evaluate(
            prepared.sample, prepared.same_class, chosen.bins, (limit,), thresholds
        )
    rows = {size.name: _size_row(curves, size, limit, apart) for size in chosen.bins}
    return {"protocol": chosen.name, "max_dets": limit, "sizes": rows}


def _size_row(curves: Curves, size: Bin, limit: int, ious: Floats) -> dict[str, Any]:
    a = curves.bins.index(size)
    high = None
    if size.high < ALL.high:
        high = size.high**0.5
    row: dict[str, Any] = {
        "low": size.low**0.5,
        "high": high,
        "labels": int(curves.labels[:, a].sum()),
        "AP": curves.ap(size.name, limit),
    }
    for iou in ious:
        row[f"AP{iou * 100:.0f}"] = curves.ap(size.name, limit, iou)
    row["AR"] = curves.ar(size.name, limit)
    return row


# --- intervals


@dataclass(frozen=True, slots=True, eq=False)
class _Resampling:
    """AP of resampled images.

    Attributes:
        draws: None where they are not asked for.
        note: how they were made, or why the images are too few for intervals.
        few: whether they are.
    """

    draws: Draws | None = None
    note: str | None = None
    few: bool = False

    @classmethod
    def of(cls, prepared: Prepared) -> _Resampling:
        options = prepared.options
        if not (prepared.analysis and options.replicates):
            return cls()
        sample = prepared.sample
        labelled = np.unique(sample.labels.image[~sample.labels.ignored])
        too_few = bootstrap.few(sample.images, len(labelled))
        note = f"{options.replicates} resamplings of images, 95 %, seed {options.seed}"
        return cls(_draws(prepared), too_few or note, too_few is not None)

    @property
    def trusted(self) -> Draws | None:
        """Those that intervals can be made from."""
        if self.few:
            return None
        return self.draws


def _draws(prepared: Prepared) -> Draws:
    """AP of all sizes, of COCO's bins, and of those asked for if they are others."""
    options = prepared.options
    weights = bootstrap.weights(prepared.sample.images, options.replicates, options.seed)
    size_bins = [ALL, *COCO.bins]
    chosen = prepared.size_bins
    if chosen.thresholds is None and chosen.bins != COCO.bins:
        for size in chosen.bins:
            size_bins.append(replace(size, name=BIN + size.name))
    return bootstrap.draws(prepared.sample, prepared.same_class, weights, tuple(size_bins))


def _intervals(draws: Draws) -> dict[str, Any]:
    """95 % of AP where all detections count, of all sizes and of COCO's bins."""
    result = {}
    estimate = draws.estimate
    for a, size in enumerate(draws.bins[: 1 + len(COCO.bins)]):
        labels = int(draws.labels[:, a].sum())
        images = int(draws.images[a])
        ap = _ends(estimate.ap[a], draws.ap[:, a], labels, images)
        if size.name == ALL.name:
            result["AP"] = ap
            result["AP50"] = _ends(estimate.ap50[a], draws.ap50[:, a], labels, images)
        else:
            result[f"AP_{size.name}"] = ap
    return result


def _with_intervals(by_size: dict[str, Any], draws: Draws, largest: int) -> dict[str, Any]:
    """Size bins with 95 % of their AP, where the replicates are of the same bins and detections."""
    if by_size["max_dets"] < largest:
        return by_size
    known = {size.name: a for a, size in enumerate(draws.bins)}
    prefix = "" if by_size["protocol"] == COCO.name else BIN
    for name, row in by_size["sizes"].items():
        a = known.get(prefix + name)
        if a is not None:
            images = int(draws.images[a])
            row["interval"] = _ends(row["AP"], draws.ap[:, a], row["labels"], images)
    return by_size


def _ends(estimate: float, replicates: Floats, labels: int, images: int) -> list[float]:
    """Where an AP is likely to lie; NaN with labels in too few images."""
    if bootstrap.few(images, images) is not None:
        return [NAN, NAN]
    interval = bootstrap.interval(float(estimate), replicates, labels=labels)
    return [interval.low, interval.high]


# --- analysis


def _analysis(
    prepared: Prepared, matched: Ints, tiling: Tiling | Unavailable, conf: float
) -> dict[str, Any]:
    """Seams, error classes and merge efficiency, as far as the tiles are known."""
    if not prepared.analysis:
        return {}
    sample = prepared.sample
    if isinstance(tiling, Unavailable):
        return {"errors": diagnosis.diagnose(sample, prepared.pairs, conf=conf)}
    layout = tiling.layout
    origins = tiling.origins
    parts = {
        "layout": layout,
        "seams": _seams(prepared, matched, layout, conf),
        "errors": diagnosis.diagnose(sample, prepared.pairs, layout, origins, conf),
    }
    if origins is not None and origins.raw is not None:
        parts["efficiency"] = efficiency.efficiency(sample, origins, layout, tiling.per_tile)
    return parts


def _seams(prepared: Prepared, matched: Ints, layout: TileLayout, conf: float) -> Seams:
    """Of the images whose tiles are known."""
    sample = prepared.sample
    pairs = prepared.same_class
    options = prepared.options
    tiled = np.diff(layout.offsets) > 0
    visibility = seams.visibility(sample.labels.instances.boxes, sample.labels.image, layout)
    of_tiled = tiled[sample.labels.image]
    margin = np.where(of_tiled, visibility.margin, np.inf)
    scale = np.ones(sample.images)
    scale[tiled] = layout.scale[layout.offsets[:-1][tiled]]
    if not tiled.all():
        visibility = _visibility_of(visibility, of_tiled)
        sample = _of_images(sample, tiled)
        layout = replace(layout, sizes=np.where(tiled[:, None], layout.sizes, 0.0))
        pairs = candidates(sample, pairs.least)
        matched = coco.matched(sample, pairs)
    gap = seams.gap(sample, matched, visibility, replicates=options.replicates, seed=options.seed)
    return Seams(
        table=seams.table(sample, pairs, matched, visibility),
        gap=gap,
        density=seams.density(sample, matched, layout, conf),
        resolution=seams.by_resolution(sample, pairs, scale),
        margin=margin,
    )


def _visibility_of(visibility: seams.Visibility, chosen: Bools) -> seams.Visibility:
    return seams.Visibility(
        visibility.margin[chosen], visibility.share[chosen], visibility.tiles[chosen]
    )


def _of_images(sample: EvaluationInputs, chosen: Bools) -> EvaluationInputs:
    """Without the labels and detections of the other images."""
    labels = sample.labels.take(chosen[sample.labels.image])
    detections = sample.detections.take(chosen[sample.detections.image])
    return replace(sample, labels=labels, detections=detections)


# --- by class


def _per_class(
    prepared: Prepared, curves: Curves, box: Results, draws: Draws | None
) -> dict[str, dict[str, Any]]:
    """AP where all detections count; P, R and F1 by Ultralytics at the one confidence of the best
    mean F1.
    """
    sample = prepared.sample
    detections = np.bincount(sample.detections.instances.class_id, minlength=sample.classes)
    images = _labelled_images(sample)
    places = {int(k): i for i, k in enumerate(box.ap_class_index)}
    result: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(_distinct(prepared.names)):
        labels = int(curves.labels[k, 0])
        row: dict[str, Any] = {"labels": labels, "detections": int(detections[k])}
        row |= _coco_of_class(curves, prepared.limits.every, k)
        row |= _ultralytics_of_class(box, places.get(k))
        if draws is not None:
            row["interval"] = _class_interval(draws, k, labels, int(images[k]))
        result[name] = row
    return result


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of classes, numbered where another class has the same."""
    result: dict[str, None] = {}
    for name in names:
        result[_unused(name, result, names)] = None
    return list(result)


def _class_interval(draws: Draws, k: int, labels: int, images: int) -> list[float]:
    return _ends(draws.estimate.per_class[k], draws.per_class[:, k], labels, images)


def _coco_of_class(curves: Curves, limit: int, k: int) -> dict[str, float]:
    numbers = {"AP": curves.ap(max_dets=limit, class_id=k)}
    for name, iou in IOUS.items():
        numbers[f"AP{name}"] = curves.ap(max_dets=limit, iou=iou, class_id=k)
    for size in COCO.bins:
        numbers[f"AP_{size.name}"] = curves.ap(size.name, limit, class_id=k)
    numbers["AR"] = curves.ar(max_dets=limit, class_id=k)
    return numbers


def _ultralytics_of_class(box: Results, i: int | None) -> dict[str, float]:
    """NaN of a class without labels."""
    columns = {"P": box.p, "R": box.r, "F1": box.f1, "best_conf": box.best_conf}
    if i is None:
        return dict.fromkeys(columns, NAN)
    return {name: float(values[i]) for name, values in columns.items()}


def _labelled_images(sample: EvaluationInputs) -> Ints:
    """`(K,)` how many images have labels of each class that count."""
    counted = ~sample.labels.ignored
    class_id = sample.labels.instances.class_id[counted]
    pairs = np.unique(class_id * sample.images + sample.labels.image[counted])
    return np.bincount(pairs // sample.images, minlength=sample.classes)


def _unused(name: str, used: Collection[str], names: Collection[str]) -> str:
    """A class's name, numbered where another class has it too."""
    number = 1
    result = name
    while result in used or (number > 1 and result in names):
        number += 1
        result = f"{name} ({number})"
    return result
