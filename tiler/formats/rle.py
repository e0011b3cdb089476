"""COCO's `segmentation`: run-length masks as exact outlines along the pixel edges, and masks and
polygons as pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.findings import short
from tiler.formats.coco_values import InvalidAnnotation, polygons
from tiler.geometry import tracing
from tiler.geometry.masks import Masks, concatenate
from tiler.geometry.overlay import TANGLED
from tiler.geometry.polygons import Rings, tangled

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

MAX_PIXELS = 2**40
# an outline of more points may take gigabytes to draw, if they lie at random
LONG = 2000


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
                raise ValueError("a run length too large for any image")
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
    height, width = _size(segmentation)
    changes = np.array(list(accumulate(_lengths(segmentation, height, width))), np.int64)
    starts = changes[0:-1:2]
    ends = changes[1::2]
    filled = ends > starts
    return tracing.around(starts[filled], ends[filled], height)


def _size(segmentation: dict[str, Any]) -> tuple[int, int]:
    """Height and width of a mask."""
    size = segmentation.get("size")
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError(f"size is [height, width], got {short(size)}")
    for side in size:
        if not isinstance(side, int) or side <= 0:
            raise ValueError(f"size is [height, width], got {short(size)}")
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {height} x {width} pixels")
    return height, width


def masks(segmentations: Sequence[Any], sizes: Ints) -> tuple[Masks, dict[int, str]]:
    """The pixels of COCO's `segmentation` values as pycocotools reads them, one object each.

    Polygons (a list of lists x, y, x, y, ... in pixels) are united. A mask is `{"size": [height,
    width], "counts": ...}`, with compressed text or a list of run lengths, and has the size of its
    frame.

    Args:
        segmentations: N values as they stand in the JSON.
        sizes: `(N, 2)` int64 width and height of the frames, at most MAX_PIXELS each.

    Returns:
        N masks, and by index what is wrong with those that cannot be read; these have no pixels.

    >>> given = [[[0, 0, 2, 0, 2, 2, 0, 2]], {"size": [2, 2], "counts": "022"}, [[1, 2]]]
    >>> read, wrong = masks(given, np.full((3, 2), 2))
    >>> read.area().tolist(), wrong
    ([4.0, 2.0, 0.0], {2: 'a polygon has an even number of values, 6 or more, got 2'})
    """
    runs: dict[int, list[int]] = {}
    rings: dict[int, list[Floats]] = {}
    wrong: dict[int, str] = {}
    for i, (given, (width, height)) in enumerate(zip(segmentations, sizes.tolist(), strict=True)):
        try:
            if isinstance(given, dict):
                runs[i] = _lengths_in_frame(given, height, width)
            else:
                rings[i] = _drawable(given)
        except (ValueError, InvalidAnnotation) as error:
            wrong[i] = str(error)
            rings[i] = []
    filled = Masks.of_counts(list(runs.values()), sizes[list(runs)])
    outlines = Rings.of(list(rings.values()))
    drawn = Masks.of_rings(outlines, sizes[list(rings)], united=True)
    order = np.argsort(np.array([*runs, *rings], np.int64))
    return concatenate([filled, drawn]).take(order), wrong


def _lengths_in_frame(segmentation: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths of a mask, which must have the size of its frame."""
    size = segmentation.get("size")
    if size != [height, width]:
        raise ValueError(f"a mask of {short(size)}, the image's is [{height}, {width}]")
    return _lengths(segmentation, height, width)


def _lengths(segmentation: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths of a mask in either notation; they fill its frame."""
    runs = segmentation.get("counts")
    if isinstance(runs, str):
        runs = counts(runs)
    if not isinstance(runs, list):
        raise ValueError("counts are run lengths, 0 or more")
    if not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("counts are run lengths, 0 or more")
    total = sum(runs)
    if total != height * width:
        raise ValueError(f"the runs add up to {total} pixels, expected {height} x {width}")
    return runs


def _drawable(segmentation: Any) -> list[Floats]:
    """The polygons of one object, at least one, in a reasonable time to draw."""
    parts = polygons(segmentation)
    if not parts:
        raise ValueError(f"expected polygons or a mask, got {short(segmentation)}")
    if sum(map(len, parts)) > LONG and tangled(Rings.of([parts]))[0]:
        raise ValueError(TANGLED)
    return parts
