"""The label rules of the trainer (Ultralytics 8.4.190, `data/utils.py:439-516`), in one place.

One bad row makes the trainer drop the whole image, so the same rules hold for every row that is
read or written, and for `tiler check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Task

# the trainer tolerates normalised coordinates from LOW to HIGH
LOW = -0.01
HIGH = 1.01

HUGE = 1e30  # larger numbers may be too large for the trainer's float32

BOX_NAMES = ("x centre", "y centre", "width", "height")


def fields(task: Task, count: int, kpt_shape: tuple[int, int] | None) -> str | None:
    """What is wrong with a row's number of values for the task, or None.

    >>> fields("segment", 6, None)
    'expected an odd number of values, 7 or more (class, then x y pairs), got 6'
    """
    if task == "pose" and kpt_shape is not None:
        return _pose_fields(count, kpt_shape)
    if count == 5 and task == "detect":
        return None
    if count >= 7 and count % 2:
        return None
    if task == "detect":
        hint = "; a confidence? labels have none" if count == 6 else ""
        return f"expected 5 values (class, x, y, width, height), got {count}{hint}"
    box = "a box; " if count == 5 else ""
    if task == "obb":
        return f"{box}expected 9 values (class, four corners), got {count}"
    return f"{box}expected an odd number of values, 7 or more (class, then x y pairs), got {count}"


def _pose_fields(count: int, kpt_shape: tuple[int, int]) -> str | None:
    points, values = kpt_shape
    expected = 5 + points * values
    if count == expected:
        return None
    return f"expected {expected} values (class, box, {points} keypoints of {values}), got {count}"


def derived_boxes(rows: Floats, task: Task) -> Floats:
    """`(M, 4)` normalised cxcywh: the box that the trainer makes from each row."""
    if task == "pose" or rows.shape[1] == 5:
        return rows[:, 1:5]
    x = rows[:, 1::2]
    y = rows[:, 2::2]
    x0 = x.min(axis=1)
    y0 = y.min(axis=1)
    x1 = x.max(axis=1)
    y1 = y.max(axis=1)
    # rows with numbers that overflow here are rejected
    with np.errstate(invalid="ignore", over="ignore"):
        centre_x = (x0 + x1) / 2
        centre_y = (y0 + y1) / 2
        return np.stack([centre_x, centre_y, x1 - x0, y1 - y0], axis=1)


def faults(rows: Floats, task: Task, classes: int) -> list[str | None]:
    """The first rule that each row breaks, as a finding's code, or None.

    Args:
        rows: `(M, F)` float64, class first, coordinates normalised; F fits the task.
        classes: number of classes.

    >>> faults(np.array([[0, 0.5, 0.5, 0.1, 0.1], [7, 0.5, 0.5, 0.1, 0.1]]), "detect", 2)
    [None, 'L04']
    """
    if not len(rows):
        return []
    codes = np.full(len(rows), None, dtype=object)
    box = derived_boxes(rows, task)
    too_high = (box > HIGH).any(axis=1)
    too_low = (box[:, :2] < LOW).any(axis=1)
    without_size = (box[:, 2:] <= 0).any(axis=1)  # the trainer's augmentations drop a size of 0
    # of several codes the last one is the plainest
    codes[too_high | too_low] = "L05"
    codes[without_size] = "L06"
    codes[~_are_classes(rows[:, 0], classes)] = "L04"
    codes[~np.isfinite(rows).all(axis=1)] = "L02"
    return list(codes)


def _are_classes(values: Floats, classes: int) -> Bools:
    """`(M,)` True for the whole numbers from 0 to `classes` - 1."""
    whole = values == np.floor(values)
    return np.asarray(whole & (values >= 0) & (values < classes))


def tolerated(boxes: Floats) -> Bools:
    """`(M,)` True for normalised cxcywh boxes that the trainer accepts."""
    low_enough = (boxes <= HIGH).all(axis=1)
    high_enough = (boxes[:, :2] >= LOW).all(axis=1)
    has_size = (boxes[:, 2:] > 0).all(axis=1)
    return np.asarray(low_enough & high_enough & has_size)


def accepted(
    rows: Sequence[Floats], task: Task, classes: int, kpt_shape: tuple[int, int] | None
) -> Bools:
    """`(M,)` True for rows that the trainer accepts as they are, in its own arithmetic (float32).

    Args:
        rows: M arrays, class first; of different length for segments.
    """
    result = np.zeros(len(rows), bool)
    readable: list[int] = []
    single: list[Floats] = []
    for i, row in enumerate(rows):
        if fields(task, len(row), kpt_shape) is None and _finite(row):
            readable.append(i)
            single.append(row.astype(np.float32).astype(np.float64))
    if not readable:
        return result
    good = _are_classes(np.array([row[0] for row in single]), classes)
    good &= tolerated(np.concatenate([derived_boxes(row[None], task) for row in single]))
    if task == "pose" and kpt_shape is not None:  # keypoints count too, visible or not
        points = np.array([row[5:].reshape(kpt_shape) for row in single])
        good &= (points >= LOW).all(axis=(1, 2))
        good &= (points[..., :2] <= HIGH).all(axis=(1, 2))
    result[readable] = good
    return result


def _finite(row: Floats) -> bool:
    return bool((np.abs(row) < HUGE).all())


def explain(code: str, row: Floats, task: Task, classes: int) -> str:
    """The rule that a row breaks, in words, with what was found."""
    if code == "L02":
        bad = row[~np.isfinite(row)][0]
        return f"found {bad}, expected finite numbers"
    if code == "L04":
        return f"class {row[0]:g}, expected a whole number from 0 to {classes - 1}"
    box = derived_boxes(row[None], task)[0]
    if code == "L06":
        side = 2 + int(np.argmin(box[2:]))
        return f"{BOX_NAMES[side]} {box[side]:g}, expected more than 0"
    outside = np.flatnonzero((box > HIGH) | (box < LOW))[0]
    hint = "; are these pixels?" if np.abs(box).max() > 2 else ""
    return f"{BOX_NAMES[outside]} {box[outside]:g}, expected 0 to 1{hint}"
