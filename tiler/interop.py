"""Detections of other libraries, recognized by their attributes; none of them is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.geometry import boxes as box
from tiler.geometry import tracing
from tiler.geometry.instances import Instances, labelled, triples
from tiler.geometry.polygons import Rings, concatenate

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

ROW = "(N, 6) of x1, y1, x2, y2, confidence, class"
KNOWN = (
    f"Instances, an Ultralytics Results, {ROW}, a torchvision dict of boxes, scores and labels, or "
    "have .xyxy, .confidence and .class_id"
)
# attributes of Ultralytics' Results, of which most are None
PARTS = ("boxes", "obb", "masks", "keypoints")
# supervision's names of shapes in .data
CORNERS = "xyxyxyxy"
KEYPOINTS = "keypoints"
NEEDED = ("boxes", "scores", "labels")  # keys of torchvision's dicts
SHAPES = ("masks", "keypoints")
NOT_SHAPES = ("keypoints_scores",)  # of its keypoints: no part of 0 to 1
INSIDE = 0.5  # a pixel of torchvision's soft masks belongs to the object from here on


def foreign(detections: Any) -> Instances:
    """Detections of another library, in the pixels that it has them in.

    Args:
        detections: `Instances`, which are returned as they are; an Ultralytics `Results`, or its
            `.boxes` or `.obb`; supervision's `Detections` (with their `.mask`, or the corners of
            OBBs or keypoints in `.data`) or `KeyPoints`, or anything else with `.xyxy`,
            `.confidence` and `.class_id`; torchvision's dict of boxes, scores, labels, and masks
            or keypoints; or `(N, 6)` numbers: x1, y1, x2, y2, confidence, class. Numbers are
            arrays, lists, or tensors on any device.

    Raises:
        TilerError: it is none of these, its numbers are invalid, or it has two shapes of each
            object, of which one would be lost.

    >>> detections = foreign([[10, 20, 30, 40, 0.9, 2]])
    >>> detections.boxes.tolist(), detections.conf.tolist(), detections.class_id.tolist()
    ([[10.0, 20.0, 30.0, 40.0]], [0.9], [2])
    """
    if isinstance(detections, Instances):
        return detections
    if isinstance(detections, Mapping):
        return _of_mapping(detections)
    if any(hasattr(detections, name) for name in PARTS):
        return _of_results(detections)
    if hasattr(detections, "xyxy"):
        return _of_columns(detections)
    if hasattr(detections, "xy") and hasattr(detections, "class_id"):
        return _of_keypoints(detections)
    return _of_rows(detections)


def frame_of(detections: Any) -> tuple[int, int] | None:
    """Width and height of the image that detections were made on, where they carry it: Ultralytics'
    `orig_shape`, or the size of masks.

    >>> frame_of({"boxes": [], "scores": [], "labels": [], "masks": np.zeros((0, 1, 400, 640))})
    (640, 400)
    """
    shape: Any = getattr(detections, "orig_shape", None)
    if shape is None:
        shape = getattr(_masks_of(detections), "shape", ())
        if len(shape) < 3:
            return None
    return int(shape[-1]), int(shape[-2])


def names_of(detections: Any) -> dict[int, str]:
    """Class names by class, as far as detections carry them: Ultralytics' `names`, or supervision's
    `data["class_name"]`, which has those of the detections.

    >>> from types import SimpleNamespace
    >>> names_of(SimpleNamespace(names={0: "car"}))
    {0: 'car'}
    """
    names = getattr(detections, "names", None)
    if isinstance(names, Mapping):
        return dict(names)
    data = getattr(detections, "data", None)
    class_id = getattr(detections, "class_id", None)
    if class_id is None or not isinstance(data, Mapping) or "class_name" not in data:
        return {}
    found = {}
    ids = classes(class_id, ".class_id").tolist()
    for number, name in zip(ids, data["class_name"], strict=False):
        found[number] = str(name)
    return found


def _masks_of(detections: Any) -> Any:
    """Masks as pixels, or None."""
    if isinstance(detections, Mapping):
        return detections.get("masks")
    return getattr(detections, "mask", None)


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


# --- supervision's Detections, and parts of Ultralytics' results


def _of_columns(detections: Any) -> Instances:
    """Boxes, with the shapes that they come with: Ultralytics' `.obb`; supervision's masks, or
    corners or keypoints in its `.data`.
    """
    given = {
        ".xyxy": _first(detections, "xyxy"),
        ".confidence": _first(detections, "confidence", "conf"),
        ".class_id": _first(detections, "class_id", "cls"),
    }
    boxes = numbers([] if given[".xyxy"] is None else given[".xyxy"], ".xyxy", 4)
    missing = [name for name, values in given.items() if values is None]
    if missing and (len(boxes) or ".xyxy" in missing):
        raise TilerError(
            "detections need .xyxy, .confidence (or .conf) and .class_id (or .cls), got None for "
            f"one of them: {', '.join(missing)}"
        )
    if not len(boxes):
        given = dict.fromkeys(given, ())
    class_id = classes(given[".class_id"], ".class_id")
    conf = numbers(given[".confidence"], ".confidence")
    shapes = _shapes(detections)
    return _shaped(Instances(class_id, boxes, conf=conf), shapes)


def _shapes(detections: Any) -> dict[str, Any]:
    """The shapes that supervision's detections, or Ultralytics' `.obb`, come with."""
    data = getattr(detections, "data", None)
    if not isinstance(data, Mapping):
        data = {}
    shapes = {
        "masks": getattr(detections, "mask", None),
        CORNERS: getattr(detections, CORNERS, data.get(CORNERS)),
        KEYPOINTS: data.get(KEYPOINTS),
    }
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _shaped(instances: Instances, shapes: Mapping[str, Any]) -> Instances:
    """The same with their outlines, corners or keypoints.

    Raises:
        TilerError: they have several of these, or not as many as there are boxes.
    """
    if len(shapes) > 1:
        kinds = " and ".join(shapes)
        raise TilerError(
            f"detections with {kinds}: one shape of each object can be merged or scored; leave the "
            "other out"
        )
    for name, shape in shapes.items():
        if len(shape) != len(instances):
            raise TilerError(
                f"{name}: expected one for each of {len(instances)} boxes, got {len(shape)}"
            )
        if name == "masks":
            return _outlined(instances, _traced(shape))
        if name == CORNERS:
            rings = Rings.from_quads(numbers(shape, f".{CORNERS}", 4, 2))
            return instances.changed(boxes=rings.bounds(), rings=rings, task="obb")
        return instances.changed(keypoints=_triples(shape, ".keypoints"), task="pose")
    return instances


def _traced(masks: Any) -> list[Rings]:
    """The outline of each mask, along the edges of its pixels."""
    outlines = []
    for mask in masks:  # one at a time: supervision's compact masks are unpacked so
        pixels = np.asarray(array(mask))
        if pixels.ndim == 3 and len(pixels) == 1:  # of torchvision
            pixels = pixels[0]
        if pixels.ndim != 2:
            raise TilerError(f"masks: expected (N, height, width), got {pixels.shape} for one")
        outlines.append(tracing.outline(_filled(pixels)))
    return outlines


def _filled(pixels: Any) -> Any:
    """`(height, width)` bool, of booleans, of 0 and 1, or of parts from 0 to 1."""
    if pixels.dtype == bool:
        return pixels
    if pixels.dtype.kind not in "iuf" or not ((pixels >= 0) & (pixels <= 1)).all():
        raise TilerError("masks: expected booleans, or numbers from 0 to 1")
    return pixels >= INSIDE


def _outlined(instances: Instances, outlines: list[Rings]) -> Instances:
    """The same with outlines, one for each. A mask without pixels becomes its box."""
    corners = box.corners(instances.boxes)
    known = []
    for outline, around in zip(outlines, corners, strict=True):
        known.append(outline if len(outline[0]) else Rings.of([[around]]))
    rings = concatenate([Rings.of([]), *known])
    return instances.changed(boxes=rings.bounds(), rings=rings, task="segment")


def _first(detections: Any, *names: str) -> Any:
    """The first of these attributes that is not None; None if there is none."""
    for name in names:
        value = getattr(detections, name, None)
        if value is not None:
            return value
    return None


def _of_keypoints(given: Any) -> Instances:
    """supervision's `KeyPoints`: boxes as its data has them, else around the points.

    Raises:
        TilerError: the objects have no confidence each.
    """
    xy = np.asarray(array(given.xy), np.float64)
    conf = getattr(given, "detection_confidence", None)
    if len(xy) and (conf is None or given.class_id is None):
        raise TilerError(
            f"{type(given).__name__}: each object needs a confidence and a class: "
            ".detection_confidence and .class_id, got None for one of them"
        )
    if not len(xy):
        return Instances((), (), conf=(), keypoints=np.empty((0, 0, 3)), task="pose")  # type: ignore[arg-type]
    keypoints = _triples(_with_third(given, xy), ".xy")
    data = getattr(given, "data", None) or {}
    boxes = data.get("xyxy")
    if boxes is None:
        boxes = _around(keypoints)
    return Instances(
        classes(given.class_id, ".class_id"),
        numbers(boxes, "boxes of keypoints", 4),
        keypoints=keypoints,
        conf=numbers(conf, ".detection_confidence"),
        task="pose",
    )


def _with_third(given: Any, xy: Floats) -> Floats:
    """`(N, K, 2 or 3)` points with their confidences, or whether they are visible, where known."""
    third = getattr(given, "keypoint_confidence", None)
    if third is None:
        visible = getattr(given, "visible", None)
        if visible is None:
            return xy
        third = 2.0 * np.asarray(array(visible), np.float64)
    return np.concatenate([xy, np.asarray(array(third), np.float64)[..., None]], axis=-1)


def _around(keypoints: Floats) -> Floats:
    """`(N, 4)` xyxy around the points that are labelled; zeros around none."""
    known = labelled(keypoints)[..., None]
    points = keypoints[..., :2]
    lower = np.where(known, points, np.inf).min(axis=1, initial=np.inf)
    upper = np.where(known, points, -np.inf).max(axis=1, initial=-np.inf)
    boxes = np.concatenate([lower, upper], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0.0)


# --- torchvision's dicts


def _of_mapping(given: Mapping[Any, Any]) -> Instances:
    """Boxes, scores and labels, with masks or keypoints; classes as they are, 0 the background."""
    missing = [name for name in NEEDED if name not in given]
    if missing:
        kind = type(given).__name__
        raise TilerError(f"detections are {KNOWN}; got {kind} without {', '.join(missing)}")
    unknown = [name for name in given if name not in (*NEEDED, *SHAPES, *NOT_SHAPES)]
    if unknown:
        raise TilerError(
            f"detections with {short(unknown[0])}: of a dict, {', '.join((*NEEDED, *SHAPES))} are "
            "used; leave the others out"
        )
    instances = Instances(
        classes(given["labels"], "labels"),
        numbers(given["boxes"], "boxes", 4),
        conf=numbers(given["scores"], "scores"),
    )
    return _shaped(instances, {name: given[name] for name in SHAPES if given.get(name) is not None})


# --- Ultralytics' Results


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
    return _triples(data, ".keypoints.data")


def _triples(values: Any, what: str) -> Floats:
    given = np.asarray(array(values), np.float64)
    if given.ndim != 3 or given.shape[2] not in (2, 3):
        raise TilerError(f"{what}: expected (N, K, 2 or 3) numbers, got {given.shape}")
    return triples(given)


def _with_confidence(keypoints: Any) -> Any:
    xy = array(keypoints.xy)
    conf = getattr(keypoints, "conf", None)
    if conf is None:
        return xy
    return np.concatenate([xy, array(conf)[..., None]], axis=-1)
