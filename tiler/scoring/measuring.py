"""From a sample to its metrics: one search for candidates, and every number from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
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
from tiler.evaluation.bins import ALL, COCO, Bin, Bins, bins
from tiler.evaluation.candidates import Candidates, candidates
from tiler.evaluation.inputs import EvaluationInputs
from tiler.options import ScoreOptions
from tiler.scoring.metrics import Metrics, Seams, summary
from tiler.scoring.tiling import Tiling

if TYPE_CHECKING:
    from tiler.evaluation.bootstrap import Draws
    from tiler.evaluation.coco import Curves
    from tiler.evaluation.ultralytics import Results
    from tiler.types import Floats, Ints

LEAST = 0.499  # IoU: float32 may make 0.5 of a little less
BIN = "bin "  # before the names of bins that are not COCO's
MANY = 200_000  # detections, from which on analysis is made only when it is asked for
PROTOCOLS = {
    "coco": "COCO as pycocotools 2.0.11: closed size ranges, 101 points of recall",
    "ultralytics": "Ultralytics 8.4.190: float32 IoU, area by trapezoids",
    "ultralytics-8.3": "Ultralytics 8.3 to 8.4.0: best label only, a straight tail to recall 1",
    "voc": "PASCAL VOC 2010 and later: area under the envelope, IoU 0.5",
    "voc07": "PASCAL VOC 2007: 11 points, IoU 0.5",
    "dota": "DOTA_devkit, Task 1: 11 points, IoU above 0.5, labels marked `ignore` apart",
}
SIMILARITY = {
    "detect": "IoU of boxes",
    "segment": "IoU of masks, rasterised as pycocotools does",
    "obb": "IoU of polygons as given (Ultralytics: ProbIoU of the smallest rectangles around them)",
    "pose": "OKS of keypoints",
}


def measured(
    sample: EvaluationInputs,
    names: tuple[str, ...],
    keys: Sequence[str],
    options: ScoreOptions,
    look: Callable[[], Tiling | str],
    card: dict[str, Any],
    boxes: EvaluationInputs | None = None,
) -> Metrics:
    """All that the options ask for.

    Args:
        look: tells what is known of the tiles, or why nothing is.
        card: what is known of the input; it is completed here.
        boxes: of outlines and poses, the same with their boxes.
    """
    clock = _Clock()
    protocols = options.protocol.split(",")
    analysis = options.analysis == "full" or (
        options.analysis == "auto" and len(sample.detections) <= MANY
    )
    tiling = look() if analysis else _why_none(sample, options)
    clock.lap("tiles")
    chosen = bins(options.bins)
    pairs, own = _pairs(sample, "ultralytics" in protocols, analysis, chosen)
    clock.lap("pairs")
    usual = coco.KEYPOINT_MAX_DETS if sample.task == "pose" else coco.MAX_DETS
    largest = sample.most()
    most = max(largest, usual[-1])
    given = [] if options.max_dets == "auto" else [int(n) for n in options.max_dets.split(",")]
    caps = given or list(usual)
    curves = coco.evaluate(sample, own, (ALL, *COCO.bins), sorted({*caps, usual[-1], most}))
    by_bin = _binned(sample, own, chosen, given[-1] if given else None, curves)
    clock.lap("coco")
    box = ultralytics.evaluate(sample, own)
    legacy = (
        ultralytics.evaluate(sample, own, legacy=True) if "ultralytics-8.3" in protocols else None
    )
    matrix = confusion.confusion(sample, pairs) if "ultralytics" in protocols else None
    clock.lap("ultralytics")
    matched = coco.matched(sample, own, coco.THRESHOLDS if analysis else coco.THRESHOLDS[:1])
    resampled = _drawn(sample, own, chosen, options) if analysis and options.replicates else None
    few = bootstrap.few(sample.images, len(np.unique(sample.labels.image[~sample.labels.ignored])))
    drawn = None if few else resampled
    clock.lap("intervals")
    parts = _analysed(sample, pairs, own, matched, tiling, box.conf, options) if analysis else {}
    clock.lap("analysis")
    card |= {
        "protocols": {name: PROTOCOLS[name] for name in protocols},
        "similarity": SIMILARITY[sample.task],
        **_limits(sample, box, most, caps, usual[-1]),
        "ranges": "closed at both ends, px² of the full image",
        "tiles": None if isinstance(tiling, str) else tiling.said,
        "intervals": None if resampled is None else few or _said(options),
        "classes_without_labels": [names[k] for k in np.flatnonzero(curves.labels[:, 0] == 0)],
        "deviations": _deviations(
            sample, protocols, options, card.pop("refused_by_pycocotools", None)
        ),
        "left_out": _left_out(tiling, analysis),
    }
    return Metrics(
        names=names,
        keys=list(keys),
        card=card,
        coco=_coco(curves, caps, sample.task == "pose"),
        coco_auto=_auto(curves, most, usual[-1]),
        box=box,
        legacy=legacy,
        voc=_voc(sample, own, protocols),
        bins=by_bin if drawn is None else _with_intervals(by_bin, drawn, largest),
        boxes=None if boxes is None else _of_boxes(boxes, protocols, given),
        per_class=_per_class(sample, curves, box, names, most, drawn),
        per_image=_per_image(sample, matched, keys, box.conf),
        confusion=matrix,
        sample=sample,
        intervals=None if drawn is None else _intervals(drawn),
        draws=resampled,
        speed=clock.laps,
        **parts,
    )


def _pairs(
    sample: EvaluationInputs, any_class: bool, analysis: bool, chosen: Bins
) -> tuple[Candidates, Candidates]:
    """All candidates that are needed, and those of equal class for the protocols."""
    least = min(LEAST, *(chosen.thresholds or (LEAST,)))
    if not (any_class or analysis):
        found = candidates(sample, least)
        return found, found
    found = candidates(
        sample, min(least, diagnosis.BARELY if analysis else confusion.IOU - 0.01), any_class=True
    )
    own = found.iou >= least
    if sample.classes > 1:
        own &= (
            sample.detections.instances.class_id[found.detection]
            == sample.labels.instances.class_id[found.label]
        )
    return found, found.take(own)


def _analysed(
    sample: EvaluationInputs,
    pairs: Candidates,
    own: Candidates,
    matched: Ints,
    tiling: Tiling | str,
    conf: float,
    options: ScoreOptions,
) -> dict[str, Any]:
    """Seams, error classes and merge efficiency, as far as the tiles are known."""
    if isinstance(tiling, str):
        return {"errors": diagnosis.diagnose(sample, pairs, conf=conf)}
    layout, origins = tiling.layout, tiling.origins
    parts = {
        "layout": layout,
        "seams": _seams(sample, own, matched, tiling, conf, options),
        "errors": diagnosis.diagnose(sample, pairs, layout, origins, conf),
    }
    if origins is not None and origins.raw is not None:
        parts["efficiency"] = efficiency.efficiency(sample, origins, layout, tiling.per_tile)
    return parts


class _Clock:
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.process_time()

    def lap(self, name: str) -> None:
        now = time.process_time()
        self.laps[name] = now - self._last
        self._last = now


def _why_none(sample: EvaluationInputs, options: ScoreOptions) -> str:
    if options.analysis == "none":
        return "--analysis none"
    return f"{len(sample.detections)} detections: --analysis full for intervals, seams and error classes"


def _left_out(tiling: Tiling | str, analysis: bool) -> dict[str, list[str]]:
    """What is not given, and why."""
    if isinstance(tiling, str):
        return {"seams" if analysis else "analysis": [tiling]}
    return {"tiles": tiling.left_out} if tiling.left_out else {}


def _coco(curves: Curves, caps: Sequence[int], keypoints: bool = False) -> dict[str, float]:
    """COCO's twelve numbers, at these limits; of keypoints its ten, and those of small objects."""
    last = caps[-1]
    result = {"AP": curves.ap(max_dets=last)}
    result |= {f"AP{iou * 100:.0f}": curves.ap(max_dets=last, iou=iou) for iou in (0.5, 0.75)}
    result |= {f"AP_{size.name}": curves.ap(size.name, last) for size in COCO.bins}
    result |= {f"AR_{cap}": curves.ar(max_dets=cap) for cap in caps}
    if keypoints:
        result |= {f"AR{iou * 100:.0f}": curves.ar(max_dets=last, iou=iou) for iou in (0.5, 0.75)}
    return result | {f"AR_{size.name}": curves.ar(size.name, last) for size in COCO.bins}


def _auto(curves: Curves, most: int, limit: int) -> dict[str, float]:
    """The same where all detections count; `cost_of_limit` is what COCO's usual limit takes from
    AP.
    """
    found = _coco(curves, [most])
    found["AR"] = found.pop(f"AR_{most}")
    return {
        "max_dets": most,
        **found,
        "limit": limit,
        "cost_of_limit": found["AP"] - curves.ap(max_dets=limit),
    }


def _of_boxes(
    sample: EvaluationInputs, protocols: Sequence[str], given: Sequence[int]
) -> dict[str, Any]:
    """The numbers of outlines' or poses' boxes, by the protocols that Ultralytics and pycocotools
    have for both.
    """
    pairs = candidates(sample, LEAST)
    result: dict[str, Any] = {}
    if "coco" in protocols:
        most, limit = max(sample.most(), coco.MAX_DETS[-1]), coco.MAX_DETS[-1]
        caps = list(given or coco.MAX_DETS)
        curves = coco.evaluate(sample, pairs, (ALL, *COCO.bins), sorted({*caps, limit, most}))
        result |= {"coco": _coco(curves, caps), "coco_auto": _auto(curves, most, limit)}
    for name in ("ultralytics", "ultralytics-8.3"):
        if name in protocols:
            result[name] = summary(
                ultralytics.evaluate(sample, pairs, legacy=name != "ultralytics")
            )
    return result


def _with_intervals(by_bin: dict[str, Any], drawn: Draws, most: int) -> dict[str, Any]:
    """Size bins with 95 % of their AP, where the replicates are of the same bins and detections."""
    if by_bin["max_dets"] < most:
        return by_bin
    known = {size.name: a for a, size in enumerate(drawn.bins)}
    prefix = "" if by_bin["protocol"] == COCO.name else BIN
    for name, row in by_bin["sizes"].items():
        if prefix + name in known:
            a = known[prefix + name]
            row["interval"] = _ends(row["AP"], drawn.ap[:, a], row["labels"], int(drawn.images[a]))
    return by_bin


def _binned(
    sample: EvaluationInputs, pairs: Candidates, chosen: Bins, cap: int | None, known: Curves
) -> dict[str, Any]:
    """Size bins under the limit that was asked for, or their protocol's, or none."""
    limit = cap or chosen.max_dets or known.max_dets[-1]
    thresholds = coco.THRESHOLDS if chosen.thresholds is None else np.array(chosen.thresholds)
    same = chosen.thresholds is None and limit in known.max_dets and chosen.bins == known.bins[1:]
    curves = known if same else coco.evaluate(sample, pairs, chosen.bins, (limit,), thresholds)

    def row(size: Bin) -> dict[str, Any]:
        labels = curves.labels[:, [b.name for b in curves.bins].index(size.name)].sum()
        sides = {"low": size.low**0.5, "high": size.high**0.5 if size.high < ALL.high else None}
        values = {**sides, "labels": int(labels), "AP": curves.ap(size.name, limit)}
        for iou in thresholds if chosen.thresholds is not None else (0.5,):
            values[f"AP{iou * 100:.0f}"] = curves.ap(size.name, limit, iou)
        return values | {"AR": curves.ar(size.name, limit)}

    return {
        "protocol": chosen.name,
        "max_dets": limit,
        "sizes": {size.name: row(size) for size in chosen.bins},
    }


def _voc(sample: EvaluationInputs, pairs: Candidates, protocols: Sequence[str]) -> dict[str, float]:
    kinds: dict[str, dict[str, Any]] = {
        "voc": {},
        "voc07": {"points": 11},
        "dota": {"points": 11, "strict": True},
    }
    result = {}
    for name, how in kinds.items():
        if name in protocols:
            values = voc.ap(sample, pairs, **how)
            values = values[~np.isnan(values)]
            result[name] = float(values.mean()) if len(values) else float("nan")
    return result


def _drawn(
    sample: EvaluationInputs, pairs: Candidates, chosen: Bins, options: ScoreOptions
) -> Draws:
    weights = bootstrap.weights(sample.images, options.replicates, options.seed)
    more = chosen.bins if chosen.thresholds is None and chosen.bins != COCO.bins else ()
    return bootstrap.draws(
        sample,
        pairs,
        weights,
        (ALL, *COCO.bins, *(replace(size, name=BIN + size.name) for size in more)),
    )


def _intervals(drawn: Draws) -> dict[str, Any]:
    """95 % of AP where all detections count, of sizes and of classes."""
    result = {}
    for a, size in enumerate(drawn.bins[: 1 + len(COCO.bins)]):
        name = "AP" if size.name == ALL.name else f"AP_{size.name}"
        rests_on = int(drawn.labels[:, a].sum()), int(drawn.images[a])
        result[name] = _ends(drawn.estimate.ap[a], drawn.ap[:, a], *rests_on)
        if size.name == ALL.name:
            result["AP50"] = _ends(drawn.estimate.ap50[a], drawn.ap50[:, a], *rests_on)
    return result


def _said(options: ScoreOptions) -> str:
    return f"{options.replicates} resamplings of images, 95 %, seed {options.seed}"


def _ends(estimate: float, replicates: Floats, labels: int, images: int) -> list[float]:
    """Where an AP is likely to lie; NaN with labels in too few images."""
    if bootstrap.few(images, images) is not None:
        return [float("nan")] * 2
    found = bootstrap.interval(float(estimate), replicates, labels=labels)
    return [found.low, found.high]


def _seams(
    sample: EvaluationInputs,
    pairs: Candidates,
    matched: Ints,
    tiling: Tiling,
    conf: float,
    options: ScoreOptions,
) -> Seams:
    """Of the images whose tiles are known."""
    layout = tiling.layout
    tiled = np.diff(layout.offsets) > 0
    margins = seams.visibility(sample.labels.instances.boxes, sample.labels.image, layout)
    margin = np.where(tiled[sample.labels.image], margins.margin, np.inf)
    if not tiled.all():
        kept = tiled[sample.labels.image]
        margins = seams.Visibility(margins.margin[kept], margins.share[kept], margins.tiles[kept])
        sample = replace(
            sample,
            labels=sample.labels.take(tiled[sample.labels.image]),
            detections=sample.detections.take(tiled[sample.detections.image]),
        )
        layout = replace(layout, sizes=np.where(tiled[:, None], layout.sizes, 0.0))
        pairs = candidates(sample, pairs.least)
        matched = coco.matched(sample, pairs)
    scale = np.ones(sample.images)
    scale[tiled] = layout.scale[layout.offsets[:-1][tiled]]
    return Seams(
        seams.table(sample, pairs, matched, margins),
        seams.gap(sample, matched, margins, replicates=options.replicates, seed=options.seed),
        seams.density(sample, matched, layout, conf),
        seams.by_resolution(sample, pairs, scale),
        margin,
    )


def _limits(
    sample: EvaluationInputs, box: Results, most: int, caps: Sequence[int], limit: int
) -> dict[str, Any]:
    """How many detections count, and of how many images some do not."""
    rank = sample.detections.rank
    return {
        "labels": int((~sample.labels.ignored).sum()),
        "ignored_labels": int(sample.labels.ignored.sum()),
        "detections": len(sample.detections),
        "images_without_labels": int(sample.images - len(np.unique(sample.labels.image))),
        "images_without_detections": int(sample.images - len(np.unique(sample.detections.image))),
        "max_dets": {
            "coco": list(caps),
            "auto": most,
            "limit": limit,
            "images_beyond_limit": len(np.unique(sample.detections.image[rank >= limit])),
            "ultralytics": box.max_det,
            "detections_beyond_ultralytics": int((~box.kept).sum()),
        },
    }


def _deviations(
    sample: EvaluationInputs, protocols: Sequence[str], options: ScoreOptions, refused: str | None
) -> list[str]:
    """Where numbers may differ from those of the tool that a protocol is named after.

    Args:
        refused: why pycocotools cannot read the predictions.
    """
    result = (
        ["pycocotools counts a label with id 0 as missed; here it is found"]
        if "coco" in protocols
        else []
    )
    if "coco" in protocols and refused:
        result.append(f"pycocotools' loadRes cannot read this file: {refused}")
    if "coco" in protocols and options.areas != "coco":
        result.append(
            "pycocotools sizes a detection by its box, where the file has boxes; here by its mask "
            "or keypoints"
        )
    if any(name.startswith("ultralytics") for name in protocols):
        result.append("Ultralytics: pixels of the full image, not of the letterboxed one")
        result.append(
            f"confusion matrix: above confidence {confusion.CONF}, where validation takes its "
            "own, 0.001"
        )
        conf = sample.detections.instances.confidence
        ties = len(conf) - len(np.unique(conf.astype(np.float32)))
        if ties:
            result.append(
                f"Ultralytics: {ties} detections share a confidence; their order depends on the "
                "processor, there and here"
            )
        if sample.task == "segment":
            result.append(
                "Ultralytics: masks in full resolution, where validation compares smaller ones"
            )
    if {"voc", "voc07", "dota"} & set(protocols):
        result.append("VOC, DOTA: boxes as they are, where the originals add a pixel to each side")
    if options.ignore_class:
        result.append("ignored regions by area, where VisDrone's toolkit counts pixels")
    if options.bins == "tinyperson":
        result.append(
            "TinyPerson: sizes and thresholds only, not its overlap with ignored regions, nor its "
            "miss rate"
        )
    return result


def _per_class(
    sample: EvaluationInputs,
    curves: Curves,
    box: Results,
    names: Sequence[str],
    most: int,
    drawn: Draws | None,
) -> dict[str, dict[str, Any]]:
    """AP where all detections count; P, R and F1 by Ultralytics at the one confidence of the best
    mean F1.
    """
    detections = np.bincount(sample.detections.instances.class_id, minlength=sample.classes)
    rows = {int(k): i for i, k in enumerate(box.ap_class_index)}
    images = _labelled_images(sample)
    result: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(names):
        i = rows.get(k)
        row: dict[str, Any] = {"labels": int(curves.labels[k, 0]), "detections": int(detections[k])}
        row["AP"] = curves.ap(max_dets=most, class_id=k)
        row |= {
            f"AP{iou * 100:.0f}": curves.ap(max_dets=most, iou=iou, class_id=k)
            for iou in (0.5, 0.75)
        }
        row |= {f"AP_{size.name}": curves.ap(size.name, most, class_id=k) for size in COCO.bins}
        row["AR"] = curves.ar(max_dets=most, class_id=k)
        for label, values in (
            ("P", box.p),
            ("R", box.r),
            ("F1", box.f1),
            ("best_conf", box.best_conf),
        ):
            row[label] = float("nan") if i is None else float(values[i])
        if drawn is not None:
            row["interval"] = _ends(
                drawn.estimate.per_class[k], drawn.per_class[:, k], row["labels"], int(images[k])
            )
        result[_free(name, result, names)] = row
    return result


def _labelled_images(sample: EvaluationInputs) -> Ints:
    """`(K,)` how many images have labels of each class that count."""
    counted = ~sample.labels.ignored
    pairs = np.stack([sample.labels.instances.class_id[counted], sample.labels.image[counted]])
    return np.bincount(np.unique(pairs, axis=1)[0], minlength=sample.classes)


def _free(name: str, taken: Collection[str], names: Collection[str]) -> str:
    """A class's name, numbered where another class has it too."""
    number = 1
    found = name
    while found in taken or (number > 1 and found in names):
        number += 1
        found = f"{name} ({number})"
    return found


def _per_image(
    sample: EvaluationInputs, matched: Ints, keys: Sequence[str], conf: float
) -> list[dict[str, Any]]:
    """What is right and wrong at IoU 0.5 in each image, of detections of the best mean F1's
    confidence and above.
    """
    found, truth = sample.detections, sample.labels
    sure = found.instances.confidence >= conf
    label = matched[:, 0]
    counted = ~truth.ignored
    right = sure & (label >= 0)
    right[right] = counted[label[right]]
    wrong = sure & (label < 0)
    labels, tp, fp, detections = (
        np.bincount(image, minlength=sample.images)
        for image in (
            truth.image[counted],
            found.image[right],
            found.image[wrong],
            found.image[sure],
        )
    )
    rows = []
    for i, key in enumerate(keys):
        p = tp[i] / (tp[i] + fp[i]) if tp[i] + fp[i] else float("nan")
        r = tp[i] / labels[i] if labels[i] else float("nan")
        row = {
            "image": key,
            "labels": int(labels[i]),
            "detections": int(detections[i]),
            "tp": int(tp[i]),
            "fp": int(fp[i]),
        }
        counts = 2 * tp[i] + fp[i] + labels[i] - tp[i]
        f1 = 2 * tp[i] / counts if counts else float("nan")
        rows.append(
            {
                **row,
                "fn": int(labels[i] - tp[i]),
                "precision": float(p),
                "recall": float(r),
                "f1": float(f1),
            }
        )
    return rows
