"""Words of other tools on our command line, answered with ours."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence

from tiler.errors import did_you_mean

# What Ultralytics, YOLOv5, SAHI, DOTA_devkit and pycocotools call what we have
OURS = {
    "agnostic": "--class-agnostic",
    "agnostic-nms": "--class-agnostic",
    "annotations": "--data",
    "aoi": "--roi",
    "cols": "--grid, columns x rows such as 3x4",
    "columns": "--grid, columns x rows such as 3x4",
    "conf-thres": "--conf",
    "confidence": "--conf",
    "confidence-threshold": "--conf",
    "crop-size": "--tile",
    "exist-ok": "--overwrite",
    "force": "--overwrite",
    "gap": "--overlap",
    "ground-truth": "--data",
    "gt": "--data",
    "image-dir": "--images",
    "image-size": "--tile",
    "img": "--tile",
    "img-size": "--tile",
    "imgsz": "--tile",
    "iou-thres": "--iou",
    "iou-threshold": "--iou",
    "jobs": "--workers",
    "match-metric": "--metric",
    "match-threshold": "--iou",
    "max-det": "--max-dets, a list of limits",
    "max-dets": "--max-det, detections per image",
    "min-area-ratio": "--min-visible",
    "model-confidence-threshold": "--conf",
    "n-jobs": "--workers",
    "name": "--out",
    "num-workers": "--workers",
    "out-dir": "--out",
    "output": "--out",
    "output-dir": "--out",
    "overlap-height-ratio": "--overlap",
    "overlap-ratio": "--overlap",
    "overlap-ratio-wh": "--overlap, x and y such as 0.2x0.1",
    "overlap-wh": "--overlap, x and y such as 0.2x64",
    "overlap-width-ratio": "--overlap",
    "postprocess-class-agnostic": "--class-agnostic",
    "postprocess-match-metric": "--metric",
    "postprocess-match-threshold": "--iou",
    "postprocess-type": "--method",
    "project": "--out",
    "rates": "--scale",
    "region": "--roi",
    "rows": "--grid, columns x rows such as 3x4",
    "save-dir": "--out",
    "score-thr": "--conf",
    "slice-height": "--tile",
    "slice-size": "--tile",
    "slice-width": "--tile",
    "slice-wh": "--tile",
    "slices": "--grid, columns x rows such as 3x4",
    "tile-size": "--tile",
}
# Keys of other tools for what comes first here, without an option
FIRST = {
    "split": ("data", "source"),
    "plan": ("data", "source"),
    "predict": ("model", "source"),
    "check": ("data", "source"),
    "merge": ("preds", "source"),
    "score": ("preds", "source"),
    "show": ("what", "source"),
}
DRAWING = ("draw", "plot", "save-visual", "show", "visualise", "visualize")
# Where we have no such option, and say why
REASONS = {
    ("score", "iou"): "the protocol sets the IoU thresholds; see --protocol and --bins",
    ("predict", "iou"): "--nms-iou is of the model, within a tile; --merge-iou of the merge",
    ("split", "data"): "the dataset comes first, without an option",
    ("plan", "data"): "the dataset comes first, without an option",
    ("check", "data"): "the dataset comes first, without an option",
    ("merge", "preds"): "the predictions come first, without an option",
    ("score", "preds"): "the predictions come first, without an option",
    **{("merge", word): "tiler show draws the output of a merge" for word in DRAWING},
}
# What other tools call what our commands do
VERBS = {
    "advise": "plan",
    "analyse": "plan",
    "analyze": "plan",
    "crop": "split",
    "cut": "split",
    "detect": "predict",
    "draw": "show",
    "eval": "score",
    "evaluate": "score",
    "infer": "predict",
    "plot": "show",
    "slice": "split",
    "stats": "plan",
    "stitch": "merge",
    "suggest": "plan",
    "tile": "split",
    "val": "score",
    "validate": "check",
    "verify": "check",
    "view": "show",
    "visualise": "show",
    "visualize": "show",
}


def unknown_command(given: str, known: Iterable[str]) -> str:
    """What to use in place of a command that does not exist.

    >>> unknown_command("suggest", ["plan", "split"]), unknown_command("splt", ["plan", "split"])
    ("there is no command 'suggest'; use plan", "there is no command 'splt'; did you mean 'split'?")
    """
    ours = VERBS.get(given.lower())
    if ours is not None:
        return f"there is no command {given!r}; use {ours}"
    return f"there is no command {given!r}{did_you_mean(given, known)}"


def unknown_option(command: str, given: str, known: Iterable[str]) -> str:
    """What to use in place of an option that a command does not have.

    >>> unknown_option("split", "--imgsz", ["--tile", "--images"])
    'there is no --imgsz; use --tile'
    """
    word = given.lstrip("-").replace("_", "-").lower()
    reason = REASONS.get((command, word))
    if reason is not None:
        return f"there is no {given}: {reason}"
    ours = OURS.get(word, "")
    if ours.split(",")[0] in known:
        return f"there is no {given}; use {ours}"
    return f"there is no {given}{did_you_mean(f'--{word}', known)}"


def rewritten(command: str, arguments: Sequence[str], known: Collection[str]) -> str | None:
    """A command in the style of Ultralytics (`data=a.yaml imgsz=640`) in ours; None if it is not.

    The value of an option may look like that (`--iou car=0.4`), and so may a path.

    Args:
        known: the names of the command's parameters.

    >>> rewritten("split", ["data=a.yaml", "imgsz=640", "exist_ok=True"], ["data", "tile"])
    'tiler split a.yaml --tile 640 --overwrite'
    """
    first: list[str] = []
    options: list[str] = []
    changed = False
    before = ""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        is_value = before.startswith("-") and "=" not in before
        before = argument
        word = key.replace("_", "-")
        is_ours = key in FIRST[command] or word in OURS or key in known
        if not equals or not is_ours or is_value or os.path.exists(argument):
            options.append(argument)
            continue
        changed = True
        if key in FIRST[command]:
            first.append(value)
            continue
        ours = f"--{word}"
        if word.replace("-", "_") not in known:
            ours = OURS.get(word, ours).split(",")[0]
        options.append(ours)
        if value.lower() != "true":
            options.append(value)
    return " ".join(["tiler", command, *first, *options]) if changed else None
