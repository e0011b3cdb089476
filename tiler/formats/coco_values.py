"""The values of a COCO annotation as they stand in the JSON, checked one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.findings import short

if TYPE_CHECKING:
    from tiler.types import Floats

FAR = 1e9  # px; no image is that large


class InvalidAnnotation(Exception):
    """An annotation that cannot be used: the code of the finding, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def numbers(value: Any, what: str) -> Floats:
    """`(N,)` a list of finite numbers of pixels.

    Raises:
        InvalidAnnotation: it is not.
    """
    if isinstance(value, str):
        value = _decoded(value)
    if not isinstance(value, list):
        raise InvalidAnnotation("L03", f"{what} is a list of numbers, got {short(value)}")
    given = value
    if any(isinstance(v, str) for v in value):
        value = [_number(v) for v in value]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise InvalidAnnotation("L02", f"{what} is a list of numbers, got {short(given)}")
    # also false for NaN, and for whole numbers beyond the range of floats
    if not all(abs(v) < FAR for v in value):
        raise InvalidAnnotation("L02", f"{what} holds {short(value)}, expected finite pixels")
    return np.array(value, np.float64)


def _decoded(text: str) -> Any:
    """A list that is written as text; the text itself if it is something else."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _number(value: Any) -> Any:
    """A number that is written as text; the value itself if it is something else."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def xywh(bbox: Any) -> Floats:
    """The four numbers of COCO's `bbox`; width and height may be negative.

    Raises:
        InvalidAnnotation: they are not four finite numbers.
    """
    values = numbers(bbox, "bbox")
    if len(values) != 4:
        raise InvalidAnnotation("L03", f"bbox is [x, y, width, height], got {len(values)} values")
    return values


def triples(keypoints: Any, count: int) -> Floats:
    """`(count, 3)` x, y and visibility of COCO's `keypoints`; zeros where there are none.

    Raises:
        InvalidAnnotation: there are more or fewer than `count`.
    """
    if not keypoints:
        return np.zeros((count, 3))
    values = numbers(keypoints, "keypoints")
    if len(values) != 3 * count:
        raise InvalidAnnotation(
            "L03", f"expected {count} keypoints of 3 values, got {len(values)} values"
        )
    points = values.reshape(count, 3)
    unlabelled = (points == 0).all(axis=1, keepdims=True)
    return np.where(unlabelled, 0.0, points)  # not -0.0


def polygons(segmentation: Any) -> list[Floats]:
    """The points `(P, 2)` of each polygon in COCO's `segmentation`.

    Raises:
        InvalidAnnotation: a polygon is not a list of finite numbers.
        ValueError: not a list of polygons, or one has an odd number of values or less than 6.

    >>> polygons([[0, 0, 4, 0, 4, 2]])[0].tolist()
    [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0]]
    """
    if not isinstance(segmentation, list):
        raise ValueError(f"expected polygons or a mask, got {short(segmentation)}")
    return [_polygon(values) for values in segmentation]


def _polygon(values: Any) -> Floats:
    points = numbers(values, "a polygon")
    if len(points) < 6 or len(points) % 2:  # pycocotools takes four values for a box
        raise ValueError(f"a polygon has an even number of values, 6 or more, got {len(points)}")
    return points.reshape(-1, 2)
