"""The score card: of what, and by which protocols, the numbers are; where other tools differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation.inputs import EvaluationInputs
from tiler.scoring.preparing import DetectionLimits, Prepared
from tiler.scoring.tiling import Tiling, Unavailable

if TYPE_CHECKING:
    from tiler.evaluation.coco import Curves
    from tiler.evaluation.ultralytics import Results

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


def score_card(
    prepared: Prepared,
    curves: Curves,
    box: Results,
    tiling: Tiling | Unavailable,
    intervals: str | None,
    unreadable: str | None,
) -> dict[str, Any]:
    """What the card says of the measuring.

    Args:
        intervals: how these were made, or why there are none.
        unreadable: why pycocotools cannot read the predictions.
    """
    sample = prepared.sample
    without = np.flatnonzero(curves.labels[:, 0] == 0)
    source = None
    if isinstance(tiling, Tiling):
        source = tiling.source
    return {
        "protocols": {name: PROTOCOLS[name] for name in prepared.protocols},
        "similarity": SIMILARITY[sample.task],
        **_counts(sample),
        "max_dets": _max_dets(sample, prepared.limits, box),
        "ranges": "closed at both ends, px² of the full image",
        "tiles": source,
        "intervals": intervals,
        "classes_without_labels": [prepared.names[k] for k in without],
        "deviations": deviations(prepared, unreadable),
        "left_out": _left_out(tiling, prepared.analysis),
    }


def _counts(sample: EvaluationInputs) -> dict[str, float]:
    ignored = int(sample.labels.ignored.sum())
    labelled = np.bincount(sample.labels.image, minlength=sample.images) > 0
    predicted = np.bincount(sample.detections.image, minlength=sample.images) > 0
    return {
        "labels": len(sample.labels) - ignored,
        "ignored_labels": ignored,
        "detections": len(sample.detections),
        "least_conf": float(sample.detections.conf.min(initial=np.inf)),
        "images_without_labels": int((~labelled).sum()),
        "images_without_detections": int((~predicted).sum()),
    }


def _max_dets(sample: EvaluationInputs, limits: DetectionLimits, box: Results) -> dict[str, Any]:
    """How many detections count, and of how many images some do not."""
    detections = sample.detections
    beyond = detections.image[detections.rank >= limits.limit]
    return {
        "coco": list(limits.caps),
        "auto": limits.every,
        "limit": limits.limit,
        "images_beyond_limit": len(np.unique(beyond)),
        "ultralytics": box.max_det,
        "detections_beyond_ultralytics": int((~box.kept).sum()),
    }


def _left_out(tiling: Tiling | Unavailable, analysis: bool) -> dict[str, list[str]]:
    """What is not measured, and why."""
    if isinstance(tiling, Unavailable):
        return {"seams" if analysis else "analysis": [tiling.reason]}
    if not tiling.left_out:
        return {}
    return {"tiles": tiling.left_out}


def deviations(prepared: Prepared, unreadable: str | None) -> list[str]:
    """Where numbers may differ from those of the tool that a protocol is named after."""
    protocols = set(prepared.protocols)
    options = prepared.options
    result = []
    if "coco" in protocols:
        result.append("pycocotools counts a label with id 0 as missed; here it is found")
        if unreadable:
            result.append(f"pycocotools' loadRes cannot read this file: {unreadable}")
        if options.areas != "coco":
            result.append(
                "pycocotools sizes a detection by its box, where the file has boxes; here by its "
                "mask or keypoints"
            )
    if protocols & {"ultralytics", "ultralytics-8.3"}:
        result += _ultralytics_deviations(prepared.sample)
    if protocols & {"voc", "voc07", "dota"}:
        result.append("VOC, DOTA: boxes as they are, where the originals add a pixel to each side")
    if options.ignore_class:
        result.append("ignored regions by area, where VisDrone's toolkit counts pixels")
    if options.bins == "tinyperson":
        result.append(
            "TinyPerson: sizes and thresholds only, not its overlap with ignored regions, nor its "
            "miss rate"
        )
    return result


def _ultralytics_deviations(sample: EvaluationInputs) -> list[str]:
    result = [
        "Ultralytics: pixels of the full image, not of the letterboxed one",
        "confusion matrix: at the confidence of the counts, where validation takes its own, 0.001",
    ]
    conf = sample.detections.instances.confidence
    distinct = np.unique(conf.astype(np.float32))
    ties = len(conf) - len(distinct)
    if ties:
        result.append(
            f"Ultralytics: {ties} detections share a confidence; their order depends on the "
            "processor, there and here"
        )
    if sample.task == "segment":
        result.append(
            "Ultralytics: masks in full resolution, where validation compares smaller ones"
        )
    return result
