"""COCO run-length masks to exact outlines along the pixel edges."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from tiler.findings import short
from tiler.polygons import Rings

if TYPE_CHECKING:
    from tiler.types import Floats, Ints


MAX_PIXELS = 2**40


def counts(text: str | bytes) -> list[int]:
    """The run lengths in COCO's compressed notation (`rleFrString` of cocoapi's maskApi.c).

    Five bits a character, low ones first; from the fourth run on, the difference to the
    run before last.

    Raises:
        ValueError: a character outside the notation, or a number cut short.

    >>> counts("03")
    [0, 3]
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    runs: list[int] = []
    value = shift = 0
    for byte in data:
        digit = byte - 48
        if not 0 <= digit < 64:
            raise ValueError(f"character {chr(byte)!r} is not run-length notation")
        value |= (digit & 0x1F) << shift
        shift += 5
        if digit & 0x20:
            if shift > 60:
                raise ValueError("a run length that is no number of pixels")
            continue
        if digit & 0x10:
            value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the run-length text ends within a number")
    return runs


def outline(segmentation: dict[str, Any]) -> Rings:
    """One object's rings of a mask `{"size": [height, width], "counts": text or list}`.

    The mask is column by column, background first. Pixel (x, y) covers x..x+1, y..y+1.

    Raises:
        ValueError: what is wrong with the mask.

    >>> outline({"size": [2, 2], "counts": [0, 2, 2]}).bounds().tolist()
    [[0.0, 0.0, 1.0, 2.0]]
    """
    size, given = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) and s > 0 for s in size)):
        raise ValueError(f"size is [height, width], got {short(size)}")
    runs = counts(given) if isinstance(given, str) else given
    if not isinstance(runs, list) or not all(isinstance(r, int) and r >= 0 for r in runs):
        raise ValueError("counts are run lengths, 0 or more")
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {height} x {width} pixels")
    if sum(runs) != height * width:
        raise ValueError(f"the runs add up to {sum(runs)} pixels, expected {height} x {width}")
    ends = np.array(list(accumulate(runs)), np.int64)
    starts, ends = ends[0:-1:2], ends[1::2]
    keep = ends > starts
    return Rings.from_geometry(np.array([shapely.union_all(shapely.box(*_rectangles(starts[keep], ends[keep], height).T))]))


def _rectangles(starts: Ints, ends: Ints, height: int) -> Floats:
    """Runs as xyxy: the piece in the first column, the full columns, the piece in the last."""
    first, last = starts // height, (ends - 1) // height
    top, bottom = starts % height, (ends - 1) % height + 1
    one = first == last
    head = np.stack([first, top, first + 1, np.where(one, bottom, height)], axis=1)
    body = np.stack([first + 1, np.zeros_like(first), last, np.full_like(first, height)], axis=1)
    tail = np.stack([last, np.zeros_like(first), last + 1, bottom], axis=1)
    pieces = np.concatenate([head, body[~one & (last > first + 1)], tail[~one]])
    return np.asarray(pieces, np.float64)
