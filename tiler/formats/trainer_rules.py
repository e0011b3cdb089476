"""The label rules of the trainer (Ultralytics 8.4.190, `data/utils.py:439-516`), in one place.

One bad row makes the trainer drop the whole image, so the same rules judge every row
that is read, every row that is written, and `tiler check`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Task

LOW, HIGH = -0.01, 1.01  # what the trainer tolerates of normalised coordinates

HUGE = 1e30  # beyond it the trainer's float32 has no numbers

BOX_NAMES = ("x centre", "y centre", "width", "height")


def fields(task: Task, count: int, kpt_shape: tuple[int, int] | None) -> str | None:
    """What is wrong with a row's number of values for the task, or None.

    >>> fields("segment", 6, None)
    'expected an odd number of values, 7 or more (class, then x y pairs), got 6'
    """
    if task == "pose" and kpt_shape is not None:
        points, values = kpt_shape
        expected = 5 + points * values
        if count != expected:
            return (
                f"expected {expected} values (class, box, {points} keypoints of {values}), got "
                f"{count}"
            )
        return None
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


def derived_boxes(rows: Floats, task: Task) -> Floats:
    """`(M, 4)` normalised cxcywh that the trainer trains a box on."""
    if task == "pose" or rows.shape[1] == 5:
        return rows[:, 1:5]
    x, y = rows[:, 1::2], rows[:, 2::2]
    x0, y0, x1, y1 = x.min(1), y.min(1), x.max(1), y.max(1)
    # such numbers are refused, not computed with
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)


def faults(rows: Floats, task: Task, classes: int) -> list[str | None]:
    """The first rule that each row breaks, as a finding's code, or None.

    Args:
        rows: `(M, F)` float64, class first, coordinates normalised; F fits the task.
        classes: number of classes.

    >>> faults(np.array([[0, 0.5, 0.5, 0.1, 0.1], [7, 0.5, 0.5, 0.1, 0.1]]), "detect", 2)
    [None, 'L04']
    """
    codes = np.full(len(rows), None, dtype=object)
    if not len(rows):
        return []
    box, class_id = derived_boxes(rows, task), rows[:, 0]
    checks = {
        "L05": (box > HIGH).any(axis=1) | (box[:, :2] < LOW).any(axis=1),
        "L06": (box[:, 2:] <= 0).any(axis=1),  # the trainer keeps 0, and its augmentations drop it
        "L04": (class_id != np.floor(class_id)) | (class_id < 0) | (class_id >= classes),
        "L02": ~np.isfinite(rows).all(axis=1),
    }
    for code, broken in checks.items():  # the later one is the plainer reason
        codes[broken] = code
    return list(codes)


def tolerated(boxes: Floats) -> Bools:
    """`(M,)` normalised cxcywh boxes that the trainer takes."""
    return np.asarray(
        (boxes <= HIGH).all(axis=1)
        & (boxes[:, :2] >= LOW).all(axis=1)
        & (boxes[:, 2:] > 0).all(axis=1)
    )


def accepted(
    rows: Sequence[Floats], task: Task, classes: int, kpt_shape: tuple[int, int] | None
) -> Bools:
    """`(M,)` rows that the trainer takes as they are, with its own arithmetic (float32).

    Args:
        rows: M arrays, class first; of different length for segments.
    """
    good = np.array(
        [fields(task, len(row), kpt_shape) is None and _finite(row) for row in rows], bool
    )
    if not good.any():
        return good
    single = [
        row.astype(np.float32).astype(np.float64)
        for row, usable in zip(rows, good, strict=True)
        if usable
    ]
    class_id = np.array([row[0] for row in single])
    taken = (class_id == np.floor(class_id)) & (class_id >= 0) & (class_id < classes)
    taken &= tolerated(np.concatenate([derived_boxes(row[None], task) for row in single]))
    if task == "pose" and kpt_shape is not None:  # keypoints count too, visible or not
        points = np.array([row[5:].reshape(kpt_shape) for row in single])
        taken &= (points >= LOW).all(axis=(1, 2)) & (points[..., :2] <= HIGH).all(axis=(1, 2))
    good[good] = taken
    return good


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
        k = int(np.argmin(box[2:]))
        return f"{BOX_NAMES[2 + k]} {box[2 + k]:g}, expected more than 0"
    off = np.flatnonzero((box > HIGH) | (box < LOW))[0]
    pixels = "; are these pixels?" if np.abs(box).max() > 2 else ""
    return f"{BOX_NAMES[off]} {box[off]:g}, expected 0 to 1{pixels}"
