"""By what pycocotools' `loadRes` sizes the detections of a file: its first entry decides for all
(coco.py).

With a `bbox` there, every area is that of the entry's box, of outlines and keypoints too; else with
a `segmentation` that of the mask; else with `keypoints` the extent of them all. An `area` in the
file counts for nothing.
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
    """What `loadRes` makes of a file.

    Attributes:
        by: what the area of a detection is of; "" where the first entry has none of it.
        refused: why `loadRes` raises, so that there is nothing to be equal to; "" where it does
            not.
    """

    by: By | Literal[""]
    refused: str = ""


def sizing(entries: Sequence[Entry], listed: bool = True) -> Sizing:
    """The rule for a file's entries.

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
    fits, said = _NEEDED[by]
    wrong = next((i for i, entry in enumerate(entries) if not fits(entry)), None)
    return Sizing(by, "" if wrong is None else f"entry {wrong} has {said}")


def mask_area(segmentation: Any) -> float:
    """Pixels of a mask in run lengths; NaN of anything else.

    >>> mask_area({"size": [2, 2], "counts": [1, 3]}), mask_area([[0, 0, 2, 0, 2, 2]])
    (3.0, nan)
    """
    given = segmentation.get("counts") if isinstance(segmentation, dict) else None
    try:
        runs = rle.counts(given) if isinstance(given, str) else given
        return float(sum(runs[1::2])) if isinstance(runs, list) else float("nan")
    except (TypeError, ValueError, OverflowError):  # the mask is refused where it is read
        return float("nan")


def extents(keypoints: Floats) -> Floats:
    """`(N, 4)` xyxy around all of `(N, K, 2 or 3)` keypoints, those at 0, 0 too, as pycocotools has
    it.
    """
    points = keypoints[..., :2]
    return np.concatenate(
        [points.min(axis=1, initial=np.inf), points.max(axis=1, initial=-np.inf)], axis=1
    )


def _by(first: Entry) -> By | Literal[""]:
    if first.bbox is not None and first.bbox != ():
        return "box"
    if first.segmentation is not None:
        return "mask"
    return "keypoints" if first.keypoints is not None else ""


def _compressed(entry: Entry) -> bool:
    return isinstance(entry.segmentation, dict) and isinstance(
        entry.segmentation.get("counts"), str
    )


_NEEDED: dict[By, tuple[Callable[[Entry], bool], str]] = {
    "box": (lambda entry: bool(entry.bbox), "no bbox, which the first one has"),
    "mask": (_compressed, "no compressed mask, and the first one no bbox"),
    "keypoints": (
        lambda entry: entry.keypoints is not None,
        "no keypoints, which the first one has",
    ),
}
