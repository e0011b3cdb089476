"""The detections that are scored, as columns, from files or from memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation.inputs import Predicted
from tiler.findings import Finding, inside
from tiler.formats import rle
from tiler.geometry import boxes as box
from tiler.geometry import few
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.masks import Masks
from tiler.predictions import Frames, Predictions, sizing
from tiler.predictions.plausibility import require_files, require_in_frame, require_plausible
from tiler.scoring.ground_truth import boxes_of
from tiler.scoring.opening import Opened, left_out_note

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task


@dataclass(frozen=True, slots=True, eq=False)
class DetectionRows:
    """Detections as they were read.

    Attributes:
        image: `(D,)` of each.
        segmentations: of outlines in JSON, as COCO has them; they stand for rings.
        box_area: `(D,)` px² of boxes in JSON as given, NaN where there is none.
    """

    instances: Instances
    image: Ints
    segmentations: list[Any] | None = None
    box_area: Floats | None = None

    def __len__(self) -> int:
        return len(self.instances)

    @classmethod
    def none(cls, task: Task) -> Self:
        """No detections."""
        return cls(replace(empty(task), conf=np.empty(0)), np.empty(0, np.int64))


def read(
    opened: Opened, sizes: Floats, classes: int
) -> tuple[Predicted, Predicted | None, list[Finding]]:
    """The detections as columns; of outlines and poses their boxes too; and what was noticed.

    Args:
        sizes: `(I, 2)` of the images.
        classes: their number.

    Raises:
        TilerError: they are not in pixels of the full images.
    """
    if opened.held is not None:
        rows, findings = _rows_in_memory(opened, opened.held, sizes, classes)
    else:
        assert opened.predictions is not None
        rows, findings = _rows_of_files(opened, opened.predictions, sizes)
    if len(rows):
        rows = replace(rows, instances=opened.renamed(rows.instances))
    else:
        rows = DetectionRows.none(opened.task)
    detections, wrong = _columns(rows, sizes, opened)
    boxes = None
    if opened.task in ("segment", "pose"):
        boxes = _boxes(rows, detections)
    return detections, boxes, findings + wrong


# --- rows


def _rows_in_memory(
    opened: Opened, held: list[Instances], sizes: Floats, classes: int
) -> tuple[DetectionRows, list[Finding]]:
    parts = []
    images = []
    for i, image in zip(opened.keys, opened.images, strict=True):
        if len(held[i]):
            parts.append(held[i])
            images.append(np.full(len(held[i]), image))
    if not parts:
        return DetectionRows.none(opened.task), []
    instances = concatenate(parts)
    if opened.classes is not None:
        classes = len(opened.classes)
    valid, findings = _validated(instances, classes)
    if opened.boxes == "auto":
        own = sizes[np.concatenate(images)[valid]]
        require_in_frame(instances.boxes[valid], own, opened.kind)
    return DetectionRows(instances.take(valid), np.concatenate(images)[valid]), findings


def _validated(instances: Instances, classes: int) -> tuple[Bools, list[Finding]]:
    """Which detections in memory are valid, by the rules that hold for those of files."""
    if instances.conf is None:
        raise TilerError("detections need a confidence each")
    likely = (instances.conf >= 0) & (instances.conf <= 1)
    known = (instances.class_id >= 0) & (instances.class_id < classes)
    finite = few.every(np.isfinite(instances.boxes))
    faults = (
        (~known, "D04", f"of a class that is none of {classes}"),
        (~likely, "D08", "of a confidence outside 0 to 1"),
        (~finite, "D02", "of coordinates that are not finite"),
    )
    findings = []
    for bad, code, what in faults:
        count = np.count_nonzero(bad)
        if count:
            findings.append(Finding("", code, f"{count} detections {what}; left out"))
    return known & likely & finite, findings


def _rows_of_files(
    opened: Opened, predictions: Predictions, sizes: Floats
) -> tuple[DetectionRows, list[Finding]]:
    images = np.array(opened.images, np.int64)
    rects = np.concatenate([np.zeros((len(images), 2)), sizes[images]], axis=1)
    _require_sizes(rects, opened.kind)
    names = [predictions.keys[i] for i in opened.keys]
    frames = Frames(names, rects, np.ones(len(names)))
    require_files(predictions, opened.where)
    batch = predictions.batch(opened.keys)
    require_plausible(batch, frames, opened.where, opened.boxes, "image")
    found = batch.read(frames)
    findings = [replace(f, path=inside(f.path, opened.where)) for f in found.findings]
    findings += left_out_note(len(found.left_out))
    rows = DetectionRows(found.instances, images[found.tile], found.segmentations, found.box_area)
    return rows, findings


def _require_sizes(rects: Floats, kind: str) -> None:
    """Raises:
    TilerError: the size of an image is not known, and the predictions are normalised.
    """
    if not (rects[:, 2:] > 0).all() and not kind.startswith("JSON"):
        raise TilerError(
            "the ground truth does not tell the images' width and height, which normalised "
            "predictions need"
        )


# --- what is compared


def _columns(rows: DetectionRows, sizes: Floats, opened: Opened) -> tuple[Predicted, list[Finding]]:
    """Columns of what is compared, each with the area that decides its size bin: what pycocotools'
    loadRes makes of a file (`--areas coco`); or that of the outline or the keypoints themselves.
    """
    if opened.task == "segment":
        return _outlines(rows, sizes, opened.areas)
    instances = rows.instances
    if opened.task == "pose" and opened.areas == "mask":
        assert instances.keypoints is not None
        extent = sizing.extents(instances.keypoints)
        sides = extent[:, 2:] - extent[:, :2]
        return Predicted.of(replace(instances, area=sides.prod(axis=1)), rows.image), []
    if opened.task in ("obb", "pose"):
        return Predicted.of(instances, rows.image), []
    boxes = boxes_of(instances)
    if instances.task == "detect":
        boxes = replace(boxes, area=instances.area)
    box_area = boxes.area
    if rows.box_area is not None:
        box_area = _filled(rows.box_area, boxes)
    return Predicted.of(boxes, rows.image, box_area), []


def _outlines(rows: DetectionRows, sizes: Floats, areas: str) -> tuple[Predicted, list[Finding]]:
    instances = rows.instances
    masks, findings = _masks(rows, sizes)
    area = masks.area()
    if areas == "coco":
        given = instances.area
        if rows.segmentations is None:
            given = box.area(instances.boxes)
        area = np.where(np.isnan(given), area, given)
    outlines = replace(instances, rings=None, boxes=masks.bounds(), area=area)
    return Predicted.of(outlines, rows.image, masks=masks), findings


def _masks(rows: DetectionRows, sizes: Floats) -> tuple[Masks, list[Finding]]:
    """The pixels of outlines, and what is wrong with those that have none."""
    frames = sizes[rows.image].astype(np.int64)
    if rows.segmentations is None:
        assert rows.instances.rings is not None
        return Masks.of_rings(rows.instances.rings, frames), []
    masks, wrong = rle.masks(rows.segmentations, frames)
    findings = []
    for i, reason in wrong.items():
        findings.append(Finding("", "D03", f"entry {rows.instances.row[i]}: {reason}"))
    return masks, findings


def _boxes(rows: DetectionRows, outlines: Predicted) -> Predicted:
    """The boxes of outlines or poses: as they are given, else around their pixels; sized as
    pycocotools does.
    """
    instances = rows.instances
    boxes = instances.boxes
    area = instances.area
    if rows.segmentations is not None and rows.box_area is not None and outlines.masks is not None:
        as_given = np.argsort(outlines.place)  # the masks in the order of the rows
        masks = outlines.masks.take(as_given)
        absent = np.isnan(rows.box_area)
        boxes = np.where(absent[:, None], masks.bounds(), boxes)
        area = np.where(np.isnan(area), masks.area(), area)
    elif instances.rings is not None:
        area = box.area(boxes)
    made = Instances(instances.class_id, boxes, conf=instances.conf, row=instances.row, area=area)
    box_area = None
    if rows.box_area is not None:
        box_area = _filled(rows.box_area, made)
    return Predicted.of(made, rows.image, box_area)


def _filled(box_area: Floats, instances: Instances) -> Floats:
    """`(D,)` px² of boxes as given, measured where none is; negative sides count as such."""
    sides = instances.boxes[:, 2:] - instances.boxes[:, :2]
    measured = sides[:, 0] * sides[:, 1]
    return np.where(np.isnan(box_area), measured, box_area)
