"""Detections of other libraries, recognized by their attributes; none of them is imported."""

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
# attributes of Ultralytics' Results, of which most are None
PARTS = ("boxes", "obb", "masks", "keypoints")


def foreign(detections: Any) -> Instances:
    """Detections of another library, in the pixels that it has them in.

    Args:
        detections: `Instances`, which are returned as they are; an Ultralytics `Results`, or its
            `.boxes` or `.obb`; supervision's `Detections`, or anything else with `.xyxy`,
            `.confidence` and `.class_id`; or `(N, 6)` numbers: x1, y1, x2, y2, confidence, class.
            Numbers are arrays, lists, or tensors on any device.

    Raises:
        TilerError: it is none of these, or its numbers are invalid.

    >>> detections = foreign([[10, 20, 30, 40, 0.9, 2]])
    >>> detections.boxes.tolist(), detections.conf.tolist(), detections.class_id.tolist()
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
    """A numpy array of a tensor on any device, or of a list, which may hold tensors."""
    if isinstance(values, list | tuple):
        return np.array([_element(value) for value in values])
    for step in ("detach", "cpu", "double"):  # numpy knows no bfloat16
        if hasattr(values, step):
            values = getattr(values, step)()
    if hasattr(values, "numpy"):
        return values.numpy()
    return np.asarray(values)


def _element(value: Any) -> Any:
    if isinstance(value, list | tuple) or hasattr(value, "cpu"):
        return array(value)
    return value


def numbers(values: Any, what: str, *shape: int) -> Floats:
    """`(N, *shape)` float64.

    Raises:
        TilerError: these are no numbers, or of another shape.

    >>> numbers([[1, 2], [3, 4]], "points", 3)
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: points: expected (N, 3) numbers, got (2, 2)
    """
    sides = ", ".join(["N", *map(str, shape)])
    if not shape:
        sides = "N,"
    expected = f"{what}: expected ({sides}) numbers"
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
    """`(N,)` int64.

    Raises:
        TilerError: the numbers are not whole.
    """
    given = numbers(values, what)
    whole = given == np.rint(given)
    valid = np.isfinite(given) & whole & (np.abs(given) < 2**53)
    if not valid.all():
        example = given[~whole][:1].tolist() or "none"
        raise TilerError(f"{what}: expected whole numbers, got {example}")
    return given.astype(np.int64)


def _of_rows(rows: Any) -> Instances:
    kind = type(rows).__name__
    is_list = isinstance(rows, list | tuple)
    if not (is_list or hasattr(rows, "__array__") or hasattr(rows, "cpu")):
        raise TilerError(f"detections are {KNOWN}; got {kind}")
    if is_list and any(_is_result(row) for row in rows):
        raise TilerError(
            f"detections of one tile are {KNOWN}; got a {kind} of {len(rows)} of these: give "
            "one, such as [0]"
        )
    given = numbers(rows, "detections", 6)
    class_id = classes(given[:, 5], "class, the last of six columns")
    return Instances(class_id, given[:, :4], conf=given[:, 4])


def _is_result(value: Any) -> bool:
    return any(hasattr(value, name) for name in (*PARTS, "xyxy"))


def _of_columns(detections: Any) -> Instances:
    """Boxes, or OBBs: Ultralytics' `.obb`; supervision has their corners in `.data`."""
    class_id = _first(detections, "class_id", "cls")
    conf = _first(detections, "confidence", "conf")
    xyxy = _first(detections, "xyxy")
    if class_id is None or conf is None or xyxy is None:
        raise TilerError(
            "detections need .xyxy, .confidence (or .conf) and .class_id (or .cls), got None for "
            "one of them"
        )
    class_id = classes(class_id, ".class_id")
    conf = numbers(conf, ".confidence")
    corners = _corners(detections)
    if corners is None:
        return Instances(class_id, numbers(xyxy, ".xyxy", 4), conf=conf)
    rings = Rings.from_quads(numbers(corners, ".xyxyxyxy", 4, 2))
    return Instances(class_id, rings.bounds(), rings=rings, conf=conf, task="obb")


def _corners(detections: Any) -> Any:
    """The corners of OBBs, or None."""
    if hasattr(detections, "xyxyxyxy"):
        return detections.xyxyxyxy
    data = getattr(detections, "data", None)
    if isinstance(data, dict):
        return data.get("xyxyxyxy")
    return None


def _first(detections: Any, *names: str) -> Any:
    """The first of these attributes that is not None; None if there is none."""
    for name in names:
        value = getattr(detections, name, None)
        if value is not None:
            return value
    return None


def _of_results(results: Any) -> Instances:
    """Ultralytics' `Results`: the richest geometry that it has."""
    boxes, obb, masks, keypoints = (getattr(results, name, None) for name in PARTS)
    if obb is not None:
        return _of_columns(obb)
    if boxes is None:
        raise TilerError(
            f"{type(results).__name__}: expected .boxes or .obb, got None for both: are these the "
            "results of a detector?"
        )
    instances = _of_columns(boxes)
    if masks is not None:
        rings = _outlines(masks.xy, instances.boxes)
        return instances.changed(boxes=rings.bounds(), rings=rings, task="segment")
    if keypoints is not None:
        return instances.changed(keypoints=_points(keypoints), task="pose")
    return instances


def _outlines(given: Any, boxes: Floats) -> Rings:
    """One ring a mask. A mask of few pixels may have less than three points: it becomes its box."""
    rings = [numbers(ring, ".masks.xy", 2) for ring in given]
    if len(rings) != len(boxes):
        raise TilerError(
            f".masks.xy: expected an outline for each of {len(boxes)} boxes, got {len(rings)}"
        )
    outlines = []
    for ring, corners in zip(rings, box.corners(boxes), strict=True):
        outlines.append([ring if len(ring) >= 3 else corners])
    return Rings.of(outlines)


def _points(keypoints: Any) -> Floats:
    """`(N, K, 3)`, the third the keypoint's confidence where there is one."""
    data = getattr(keypoints, "data", None)
    if data is None:
        data = _with_confidence(keypoints)
    given = np.asarray(array(data), np.float64)
    if given.ndim != 3 or given.shape[2] not in (2, 3):
        raise TilerError(f".keypoints.data: expected (N, K, 2 or 3) numbers, got {given.shape}")
    return triples(given)


def _with_confidence(keypoints: Any) -> Any:
    xy = array(keypoints.xy)
    conf = getattr(keypoints, "conf", None)
    if conf is None:
        return xy
    return np.concatenate([xy, array(conf)[..., None]], axis=-1)
