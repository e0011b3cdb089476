"""Detections of other libraries, told by the names of their attributes: none of them is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry.instances import Instances, triples
from tiler.geometry.polygons import Rings

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

ROW = "(N, 6) of x1, y1, x2, y2, confidence, class"
KNOWN = f"Instances, an Ultralytics Results, {ROW}, or have .xyxy, .confidence and .class_id"
# of Ultralytics' Results; None where there is none of that kind
PARTS = ("boxes", "obb", "masks", "keypoints")


def foreign(detections: Any) -> Instances:
    """Detections of another library, in the pixels that it has them in.

    Args:
        detections: `Instances`, which are returned as they are; an Ultralytics `Results`, or its
            `.boxes` or `.obb`; supervision's `Detections`, or anything else with `.xyxy`,
            `.confidence` and `.class_id`; or `(N, 6)` numbers: x1, y1, x2, y2, confidence, class.
            Numbers are arrays, lists, or tensors on any device.

    Raises:
        TilerError: it is none of these, or its numbers cannot be meant.

    >>> found = foreign([[10, 20, 30, 40, 0.9, 2]])
    >>> found.boxes.tolist(), found.conf.tolist(), found.class_id.tolist()
    ([[10.0, 20.0, 30.0, 40.0]], [0.9], [2])
    """
    if isinstance(detections, Instances):
        return detections
    if any(hasattr(detections, name) for name in PARTS):
        return _of_results(detections)
    if hasattr(detections, "xyxy"):
        return _of_columns(detections)
    return _of_rows(detections)


def array(values: Any) -> Any:
    """As a numpy array: of a tensor on whatever device, or of a list that may hold tensors."""
    if isinstance(values, list | tuple):
        return np.array(
            [array(v) if isinstance(v, list | tuple) or hasattr(v, "cpu") else v for v in values]
        )
    for step in ("detach", "cpu", "double"):  # numpy knows no bfloat16
        if hasattr(values, step):
            values = getattr(values, step)()
    return values.numpy() if hasattr(values, "numpy") else np.asarray(values)


def numbers(values: Any, what: str, *shape: int) -> Floats:
    """`(N, *shape)` float64.

    Raises:
        TilerError: not so many numbers.

    >>> numbers([[1, 2], [3, 4]], "points", 3)
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: points: expected (N, 3) numbers, got (2, 2)
    """
    expected = (
        f"{what}: expected ({', '.join(['N', *map(str, shape)])}{'' if shape else ','}) numbers"
    )
    try:
        result = np.asarray(array(values), np.float64)
    except (TypeError, ValueError) as error:
        raise TilerError(f"{expected}: {error}") from None
    if not result.size:
        return np.empty((0, *shape))
    if result.shape[1:] != shape or not result.ndim:
        raise TilerError(f"{expected}, got {result.shape}")
    return result


def classes(values: Any, what: str) -> Ints:
    """`(N,)` int64, of numbers that are whole.

    Raises:
        TilerError: they are not.
    """
    given = numbers(values, what)
    if not (np.isfinite(given) & (given == np.rint(given)) & (np.abs(given) < 2**53)).all():
        raise TilerError(
            f"{what}: expected whole numbers, got "
            f"{given[given != np.rint(given)][:1].tolist() or 'none'}"
        )
    return given.astype(np.int64)


def _of_rows(rows: Any) -> Instances:
    found = type(rows).__name__
    if not (isinstance(rows, list | tuple) or hasattr(rows, "__array__") or hasattr(rows, "cpu")):
        raise TilerError(f"detections are {KNOWN}; got {found}")
    if isinstance(rows, list | tuple) and any(
        hasattr(row, name) for row in rows for name in (*PARTS, "xyxy")
    ):
        raise TilerError(
            f"detections of one tile are {KNOWN}; got a {found} of {len(rows)} of these: give "
            "one, such as [0]"
        )
    given = numbers(rows, "detections", 6)
    return Instances(
        classes(given[:, 5], "class, the last of six columns"), given[:, :4], conf=given[:, 4]
    )


def _of_columns(detections: Any) -> Instances:
    """Boxes, or rectangles that are turned (Ultralytics' OBB; supervision has their corners in
    `.data`).
    """
    columns = [
        _first(detections, names)
        for names in (("class_id", "cls"), ("confidence", "conf"), ("xyxy",))
    ]
    if any(column is None for column in columns):
        raise TilerError(
            "detections need .xyxy, .confidence (or .conf) and .class_id (or .cls), got None for "
            "one of them"
        )
    class_id, conf = classes(columns[0], ".class_id"), numbers(columns[1], ".confidence")
    data = getattr(detections, "data", None)
    corners = getattr(
        detections, "xyxyxyxy", data.get("xyxyxyxy") if isinstance(data, dict) else None
    )
    if corners is None:
        return Instances(class_id, numbers(columns[2], ".xyxy", 4), conf=conf)
    rings = Rings.from_quads(numbers(corners, ".xyxyxyxy", 4, 2))
    return Instances(class_id, rings.bounds(), rings=rings, conf=conf, task="obb")


def _first(detections: Any, names: tuple[str, ...]) -> Any:
    """The first attribute that there is; None for none."""
    return next(
        (value for name in names if (value := getattr(detections, name, None)) is not None), None
    )


def _of_results(results: Any) -> Instances:
    """Ultralytics' `Results`: the richest of what it has."""
    boxes, obb, masks, keypoints = (getattr(results, name, None) for name in PARTS)
    if obb is not None:
        return _of_columns(obb)
    if boxes is None:
        raise TilerError(
            f"{type(results).__name__}: expected .boxes or .obb, got None for both: no detections "
            "of a detector?"
        )
    found = _of_columns(boxes)
    if masks is not None:
        rings = _outlines(masks.xy, found.boxes)
        return Instances(
            found.class_id, rings.bounds(), rings=rings, conf=found.conf, task="segment"
        )
    if keypoints is not None:
        return Instances(
            found.class_id, found.boxes, keypoints=_points(keypoints), conf=found.conf, task="pose"
        )
    return found


def _outlines(given: Any, boxes: Floats) -> Rings:
    """One ring a mask; one of fewer than three points, which a mask of few pixels has, is the box."""
    rings = [numbers(ring, ".masks.xy", 2) for ring in given]
    if len(rings) != len(boxes):
        raise TilerError(
            f".masks.xy: expected an outline for each of {len(boxes)} boxes, got {len(rings)}"
        )
    plain = box.corners(boxes)
    return Rings.of(
        [[ring if len(ring) >= 3 else corners] for ring, corners in zip(rings, plain, strict=True)]
    )


def _with_confidence(keypoints: Any) -> Any:
    xy, conf = array(keypoints.xy), getattr(keypoints, "conf", None)
    return xy if conf is None else np.concatenate([xy, array(conf)[..., None]], axis=-1)


def _points(keypoints: Any) -> Floats:
    """`(N, K, 3)`, the third the keypoint's confidence where there is one."""
    data = getattr(keypoints, "data", None)
    if data is None:
        data = _with_confidence(keypoints)
    given = np.asarray(array(data), np.float64)
    if given.ndim != 3 or given.shape[2] not in (2, 3):
        raise TilerError(f".keypoints.data: expected (N, K, 2 or 3) numbers, got {given.shape}")
    return triples(given)
