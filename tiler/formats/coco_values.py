"""The values of a COCO annotation as they stand in the JSON, checked one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.findings import short

if TYPE_CHECKING:
    from tiler.types import Floats

FAR = 1e9  # px; no image is that large

YES = ("true", "yes")
NO = ("false", "no", "")


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
    given = decoded(value)
    if not isinstance(given, list):
        raise InvalidAnnotation("L03", f"{what} is a list of numbers, got {short(value)}")
    values = given
    if not set(map(type, given)) <= {int, float}:
        values = [number(each) for each in given]
    if None in values:
        raise InvalidAnnotation("L02", f"{what} is a list of numbers, got {short(value)}")
    # also false for NaN, and for whole numbers beyond the range of floats
    if not all(abs(each) < FAR for each in values):
        raise InvalidAnnotation("L02", f"{what} holds {short(value)}, expected finite pixels")
    return np.array(values, np.float64)


def decoded(value: Any) -> Any:
    """What stands in a text of JSON; the value itself if it is something else.

    >>> decoded("[1, 2.5]"), decoded("1 2"), decoded([3])
    ([1, 2.5], '1 2', [3])
    """
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return value


def number(value: Any) -> int | float | None:
    """A number, also one written as text; None for what is none.

    >>> number("2.5"), number(3), number("x"), number(True)
    (2.5, 3, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str) or "_" in value:  # which Python reads between digits
        return None
    try:
        return float(value)
    except ValueError:
        return None


def side(value: Any) -> int | None:
    """Width or height of an image in px; None for what is no whole number above 0.

    >>> side("640"), side(640.0), side(0), side(1.5)
    (640, 640, None, None)
    """
    length = number(value)
    if length is None or not 0 < length < FAR or length != int(length):
        return None
    return int(length)


def flag(value: Any) -> bool | None:
    """Whether `iscrowd`, `ignore` or `difficult` is set; None for what is neither yes nor no.

    >>> [flag(value) for value in (1, 0.0, "0", "true", None, "often")]
    [True, False, False, True, False, None]
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in YES + NO:
        return value.strip().lower() in YES
    given = number(value)
    if given is None:
        return None
    return given != 0


def mark(value: Any, what: str) -> bool:
    """Whether `iscrowd`, `ignore` or `difficult` is set.

    Raises:
        InvalidAnnotation: it is neither yes nor no.
    """
    known = flag(value)
    if known is None:
        raise InvalidAnnotation("L03", f"{what} is {short(value)}, expected 0 or 1")
    return known


def xywh(bbox: Any) -> Floats:
    """The four numbers of COCO's `bbox`; width and height may be negative.

    Raises:
        InvalidAnnotation: they are not four finite numbers.
    """
    values = numbers(bbox, "bbox")
    if len(values) != 4:
        raise InvalidAnnotation("L03", f"bbox is [x, y, width, height], got {len(values)} values")
    return values


def point_box(x: float, y: float, side: float) -> list[float]:
    """COCO's `bbox` of a point that stands for an object of `side` px.

    Raises:
        InvalidAnnotation: no side is known.

    >>> point_box(10, 20, 4)
    [8.0, 18.0, 4, 4]
    """
    if side <= 0:
        message = "a point has no size; --point-size makes boxes of points"
        raise InvalidAnnotation("L03", message)
    return [x - side / 2, y - side / 2, side, side]


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


def plain(segmentation: Any) -> Any:
    """An outline as COCO writes it, of one that tools write in another way; None for an empty one.

    Read are JSON as text, and one polygon of points `[x, y]` or `{"x": x, "y": y}`. Several such
    polygons stay as they are: they may be parts, or holes as in GeoJSON.

    >>> plain([[[0, 0], [4, 0], [4, 2]]]), plain('[[0, 0, 4, 0, 4, 2]]')
    ([[0, 0, 4, 0, 4, 2]], [[0, 0, 4, 0, 4, 2]])
    >>> plain([{"x": 0, "y": 0}, {"x": 4, "y": 0}, {"x": 4, "y": 2}]), plain([[]])
    ([[0, 0, 4, 0, 4, 2]], None)
    """
    segmentation = decoded(segmentation)
    if not segmentation:
        return None
    if not isinstance(segmentation, list):
        return segmentation
    if not any(segmentation) and all(part == [] for part in segmentation):
        return None
    points = segmentation
    if len(segmentation) == 1 and isinstance(segmentation[0], list):
        points = segmentation[0]
    if not _are_points(points):
        return segmentation
    return [_flat(points)]


def _are_points(values: list[Any]) -> bool:
    """Whether all are [x, y], or all {"x": x, "y": y}. No polygon of COCO has two values."""
    if len(values) < 3 or isinstance(values[0], int | float):
        return False
    pairs = all(isinstance(value, list) and len(value) == 2 for value in values)
    return pairs or all(isinstance(value, dict) and {*value} == {"x", "y"} for value in values)


def _flat(points: list[Any]) -> list[Any]:
    values = []
    for point in points:
        x, y = (point["x"], point["y"]) if isinstance(point, dict) else point
        values += [x, y]
    return values


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
