"""COCO's `segmentation`: run-length masks to exact outlines along the pixel edges, and every kind
to its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.findings import short
from tiler.geometry import ragged
from tiler.geometry.masks import Masks, concatenate
from tiler.geometry.overlay import TANGLED, united
from tiler.geometry.polygons import Rings, tangled
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Floats, Ints


MAX_PIXELS = 2**40
LONG = 2000  # points of an outline, from which on drawing it takes gigabytes if they lie at random
# rectangles, from which on their outline is traced: to unite them takes a second, and grows
MANY = 20_000


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
    size = segmentation.get("size")
    if not (
        isinstance(size, list)
        and len(size) == 2
        and all(isinstance(s, int) and s > 0 for s in size)
    ):
        raise ValueError(f"size is [height, width], got {short(size)}")
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"a mask of {height} x {width} pixels")
    ends = np.array(list(accumulate(_lengths(segmentation, height, width))), np.int64)
    starts, ends = ends[0:-1:2], ends[1::2]
    keep = ends > starts
    rectangles = _rectangles(starts[keep], ends[keep], height)
    if not len(rectangles):
        return Rings.of([[]])
    if len(rectangles) > MANY:
        return _traced(rectangles)
    return Rings.from_geometry(united(shapely.box(*rectangles.T), np.zeros(1, np.int64)))


def masks(segmentations: Sequence[Any], sizes: Ints) -> tuple[Masks, dict[int, str]]:
    """The pixels of COCO's `segmentation` values as pycocotools reads them, one object each.

    Polygons (a list of lists x, y, x, y, ... in pixels) are united; a mask `{"size": [height,
    width], "counts": ...}`, of compressed text or a list of run lengths, is of the size of its
    frame.

    Args:
        segmentations: N values as they stand in JSON.
        sizes: `(N, 2)` int64 width and height of the frames, no more than MAX_PIXELS each.

    Returns:
        N masks, and by index what is wrong with those that cannot be read; these have no pixels.

    >>> read, wrong = masks([[[0, 0, 2, 0, 2, 2, 0, 2]], {"size": [2, 2], "counts": "022"}, [[1, 2]]], np.full((3, 2), 2))
    >>> read.area().tolist(), wrong
    ([4.0, 2.0, 0.0], {2: 'a polygon has an even number of values, 6 or more, got 2'})
    """
    runs: dict[int, list[int]] = {}
    rings: dict[int, list[Floats]] = {}
    wrong: dict[int, str] = {}
    for i, (given, (width, height)) in enumerate(zip(segmentations, sizes.tolist(), strict=True)):
        try:
            if not isinstance(given, dict):
                rings[i] = _polygons(given)
            elif given.get("size") != [height, width]:
                raise ValueError(
                    f"a mask of {short(given.get('size'))}, the image's is [{height}, {width}]"
                )
            else:
                runs[i] = _lengths(given, height, width)
        except ValueError as error:
            wrong[i], rings[i] = str(error), []
    for i in [i for i, parts in rings.items() if sum(map(len, parts)) > LONG]:
        if tangled(Rings.of([rings[i]]))[0]:
            wrong[i], rings[i] = TANGLED, []
    filled = Masks.of_counts([*runs.values()], sizes[[*runs]])
    drawn = Masks.of_rings(Rings.of([*rings.values()]), sizes[[*rings]], united=True)
    order = np.argsort(np.array([*runs, *rings], np.int64))
    return concatenate([filled, drawn]).take(order), wrong


def _lengths(segmentation: dict[str, Any], height: int, width: int) -> list[int]:
    """The run lengths of a mask of either notation, which fill its frame."""
    given = segmentation.get("counts")
    runs = counts(given) if isinstance(given, str) else given
    if not isinstance(runs, list) or not all(isinstance(r, int) and r >= 0 for r in runs):
        raise ValueError("counts are run lengths, 0 or more")
    if sum(runs) != height * width:
        raise ValueError(f"the runs add up to {sum(runs)} pixels, expected {height} x {width}")
    return runs


def _polygons(segmentation: Any) -> list[Floats]:
    """The rings of a list of polygons."""
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"expected polygons or a mask, got {short(segmentation)}")
    for ring in segmentation:
        if not isinstance(ring, list) or not all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in ring
        ):
            raise ValueError(f"a polygon is a list of numbers, got {short(ring)}")
        # also false of NaN, and of whole numbers beyond floats
        if not all(abs(v) < 1e9 for v in ring):
            raise ValueError(f"a polygon holds {short(ring)}, expected finite pixels")
        if len(ring) < 6 or len(ring) % 2:  # pycocotools takes four for a box
            raise ValueError(f"a polygon has an even number of values, 6 or more, got {len(ring)}")
    return [np.array(ring, np.float64).reshape(-1, 2) for ring in segmentation]


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


def _traced(rectangles: Floats) -> Rings:
    """The rings around rectangles side by side, clockwise on the screen: one object. Pieces touch
    in corners at most.

    Where a rectangle begins or ends in x, its corners are corners of the outline, but for those
    where another goes on at the same height. Between corners, taken along a column and along a row,
    every second stretch is a side.
    """
    x0, y0, x1, y1 = rectangles.T
    x = np.concatenate([x0, x0, x1, x1])
    y = np.concatenate([y0, y1, y0, y1])
    bottom = np.repeat([False, True, False, True], len(x0))
    right = np.repeat([False, False, True, True], len(x0))
    order = np.lexsort((~bottom, y, x))  # where two pieces touch, what is above comes first
    x, y, bottom, right = x[order], y[order], bottom[order], right[order]
    again = (x[1:] == x[:-1]) & (y[1:] == y[:-1]) & (bottom[1:] == bottom[:-1])
    corner = ~(np.append(again, False) | np.append(False, again))
    x, y, bottom, right = x[corner], y[corner], bottom[corner], right[corner]

    following = np.empty(len(x), np.int64)
    upper, lower = np.arange(0, len(x), 2), np.arange(1, len(x), 2)
    down = right[upper] != bottom[upper]  # what is filled lies to the left
    following[np.where(down, upper, lower)] = np.where(down, lower, upper)
    first, last = np.lexsort((x, y, bottom)).reshape(-1, 2).T
    top = ~bottom[first]
    following[np.where(top, first, last)] = np.where(top, last, first)
    path, sizes = _cycles(following)
    return Rings(np.stack([x, y], axis=1)[path], ragged.offsets(sizes), np.array([0, len(sizes)]))


def _cycles(following: Ints) -> tuple[Ints, list[int]]:
    """The numbers of a permutation cycle by cycle, and how long these are."""
    left = following.tolist()
    path: list[int] = []
    sizes: list[int] = []
    for start in range(len(left)):
        at, before = start, len(path)
        while left[at] >= 0:
            path.append(at)
            left[at], at = -1, left[at]
        if len(path) > before:
            sizes.append(len(path) - before)
    return np.array(path, np.int64), sizes
