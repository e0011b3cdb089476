"""The report's words for numbers, entries of the card, stages, and errors with their remedies."""

from __future__ import annotations

CURVES = {
    "pr_curve": "Precision over recall, at IoU 0.5.",
    "f1_curve": "F1 over confidence.",
    "p_curve": "Precision over confidence.",
    "r_curve": "Recall over confidence.",
}
NAMES = {
    "mp": "P",
    "mr": "R",
    "map50": "mAP50",
    "map75": "mAP75",
    "map": "mAP50-95",
    "voc": "AP50 (VOC)",
    "voc07": "AP50 (VOC 2007)",
    "dota": "AP50 (DOTA)",
}
CARD = {
    "data": "Dataset",
    "split": "Split",
    "predictions": "Detections from",
    "images_without_labels": "Images without labels",
    "images_without_detections": "Images without detections",
    "ignored_labels": "Labels that do not count",
    "area": "Area, for sizes",
    "conf": "Minimum confidence",
    "max_dets": "Detections that count",
    "ranges": "Size ranges",
    "tiles": "Tiles known from",
    "classes_without_labels": "Classes without labels",
    "deviations": "May differ from the original tools",
    "left_out": "Left out",
}
ERRORS = {
    "SeamDup": (
        "A second detection of an object, from another tile than the first.",
        "`merge --method cvm`; a lower `--iou`",
    ),
    "Dup": (
        "A second detection of an object.",
        "predict with a lower iou, since the detector's NMS decides within a tile; merge: a lower "
        "`--iou`",
    ),
    "SeamTrunc": (
        "A piece: it ends where its tile does, but the object goes on.",
        "`merge --method cvm`, `--orphans decay` or `drop`; split with an `--overlap` as large as "
        "the objects",
    ),
    "Loc": (
        "On an object of its class, with an IoU of 0.1 to 0.5.",
        "merge with a method that does not average or unite boxes; split with a larger `--scale` "
        "if the objects are tiny",
    ),
    "Cls": (
        "Well placed on an object of another class.",
        "`merge --groups` or `--class-agnostic` where two classes stand on one object; else the "
        "detector",
    ),
    "Both": ("Of another class, and not well placed.", "the detector"),
    "Bkg": (
        "On no object.",
        "merge: a higher `--conf`; split `--background all`, to train on more tiles without "
        "objects",
    ),
    "SeamSplit": (
        "An object in pieces, each from a tile that cuts it; together they make up the object.",
        "`merge --method cvm`; split with an `--overlap` as large as the objects",
    ),
    "LostInMerge": (
        "An object detected well on a tile, but by no merged detection.",
        "merge: a higher `--iou`, `--metric iou`, `--orphans keep`, no `--max-det`",
    ),
    "NotCovered": (
        "An object of which no tile shows even a quarter.",
        "split with a larger `--tile`, or `--scale 1,0.5`; predict on all tiles",
    ),
    "LowConf": (
        "An object detected well, but with lower confidence.",
        "merge: a lower `--conf`, `--orphans keep`; a lower confidence in use",
    ),
    "Miss": (
        "An object that was not detected.",
        "the detector; split with a larger `--scale` if it is only a few pixels large",
    ),
}
STAGES = {
    "tile": (
        "On each tile, as images of their own (COCO's AP; yolo val prints Ultralytics', which is "
        "another number)"
    ),
    "tile_u": "On each tile, counting every object once however many tiles show it",
    "nomerge": "All predictions on the full images, not merged",
    "merged": "Merged: what is scored here",
    "ideal": "Only the best prediction on each label, which no merging can know",
}
KEY = (
    "Errors of seams first, then labels missed near seams, then others; the highest confidence "
    "first. Thin lines are the sides of tiles, white corners mark the object in question."
    '<br><span class="key first" style="border-color: #00c86e"></span>label'
    '<span class="key" style="border-color: #288cff"></span>right detection'
    '<span class="key" style="border-color: #ff5a00"></span>wrong detection, each with its '
    "class and confidence"
    '<span class="key" style="border-color: #bebebe"></span>does not count, or is left out'
)
