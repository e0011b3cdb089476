"""Which area pycocotools' `loadRes` takes for the detections of a file: the first entry decides for
all (coco.py).

If that has a `bbox`, every detection has the area of its box, also where it is an outline or a
pose; else, if it has a `segmentation`, that of the mask; else, if it has `keypoints`, that of the
box around them all. An `area` in the file is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tiler.formats import rle
from tiler.predictions.entries import Entry

if TYPE_CHECKING:
    from tiler.types import Floats

By = Literal["box", "mask", "keypoints"]


@dataclass(frozen=True, slots=True)
class Sizing:
    """How `loadRes` reads a file.

    Attributes:
        by: what the area of a detection is taken of; "" where the first entry has none of these.
        refused: why `loadRes` raises, so that there is no result to be equal to; "" where it does
            not.
    """

    by: By | Literal[""]
    refused: str = ""


def sizing(entries: Sequence[Entry], listed: bool = True) -> Sizing:
    """How `loadRes` reads a file of these entries.

    Args:
        listed: the file is a list of them, not an object that holds one.

    >>> sizing([Entry(bbox=(0, 0, 8, 8)), Entry(segmentation=[])])
    Sizing(by='box', refused='entry 1 has no bbox, which the first one has')
    >>> sizing([Entry(segmentation={"size": [2, 2], "counts": "022"})])
    Sizing(by='mask', refused='')
    """
    if not entries:
        return Sizing("", "no entries")
    by = _by(entries[0])
    if not listed:
        return Sizing(by, "an object, expected a list")
    if not by:
        return Sizing(by, "the first entry has neither bbox nor segmentation nor keypoints")
    has_it, missing = _NEEDED[by]
    for i, entry in enumerate(entries):
        if not has_it(entry):
            return Sizing(by, f"entry {i} has {missing}")
    return Sizing(by)


def mask_area(segmentation: Any) -> float:
    """Pixels of a mask in run lengths; NaN for anything else.

    >>> mask_area({"size": [2, 2], "counts": [1, 3]}), mask_area([[0, 0, 2, 0, 2, 2]])
    (3.0, nan)
    """
    if not isinstance(segmentation, dict):
        return np.nan
    runs = segmentation.get("counts")
    try:
        if isinstance(runs, str):
            runs = rle.counts(runs)
        return float(sum(runs[1::2])) if isinstance(runs, list) else np.nan
    except (TypeError, ValueError, OverflowError):  # the mask is rejected where it is read
        return np.nan


def extents(keypoints: Floats) -> Floats:
    """`(N, 4)` xyxy around all of `(N, K, 2 or 3)` keypoints, those at 0, 0 too, as pycocotools has
    it.
    """
    points = keypoints[..., :2]
    low = points.min(axis=1, initial=np.inf)
    high = points.max(axis=1, initial=-np.inf)
    return np.concatenate([low, high], axis=1)


def _by(first: Entry) -> By | Literal[""]:
    if _has_box(first):
        return "box"
    if first.segmentation is not None:
        return "mask"
    return "keypoints" if _has_keypoints(first) else ""


def _has_box(entry: Entry) -> bool:
    return entry.bbox is not None and entry.bbox != ()


def _has_compressed_mask(entry: Entry) -> bool:
    mask = entry.segmentation
    return isinstance(mask, dict) and isinstance(mask.get("counts"), str)


def _has_keypoints(entry: Entry) -> bool:
    return entry.keypoints is not None


_NEEDED: dict[By, tuple[Callable[[Entry], bool], str]] = {
    "box": (lambda entry: bool(entry.bbox), "no bbox, which the first one has"),
    "mask": (_has_compressed_mask, "no compressed mask, and the first one no bbox"),
    "keypoints": (_has_keypoints, "no keypoints, which the first one has"),
}
