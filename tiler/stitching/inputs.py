"""What `stitch` is given, checked: the size of the image, windows, detections and class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.window import Window
from tiler.interop import foreign, frame_of, numbers
from tiler.interop import names_of as names_of_classes

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

CORNER = 2.0  # px: all of a normalised box lies within it
ROOM = 20.0  # px: in a smaller window boxes may well lie in such a corner
MOST = 0.5  # of the detections

MOST_CLASSES = 1_000_000


def size_of(given: Any) -> tuple[float, float]:
    """Width and height of the image, px."""
    values = numbers(given, "size: width and height of the image")
    if len(values) != 2 or not ((values > 0) & np.isfinite(values)).all():
        raise TilerError(f"size: expected width and height of the image, px, got {short(given)}")
    return float(values[0]), float(values[1])


def parts_of(given: Any) -> tuple[list[Window], list[Any]]:
    """Windows, and the detections in each as they were given."""
    windows: list[Window] = []
    seen: list[Any] = []
    for number, part in enumerate(given):
        try:
            window, detections = part
        except (TypeError, ValueError):
            kind = type(part).__name__
            raise TilerError(
                f"parts: expected a window and its detections, got {kind} as part {number}"
            ) from None
        windows.append(_window(window, number))
        seen.append(detections)
    return windows, seen


def _window(given: Any, number: int) -> Window:
    if isinstance(given, Window):
        return given
    try:
        return Window(*numbers(given, "window").tolist())
    except (TypeError, TilerError):
        expected = "a Window, or its x, y, width and height in whole px"
        raise TilerError(
            f"parts: the window of part {number}: expected {expected}, got {short(given)}"
        ) from None


def names_of(given: Any, seen: Sequence[Any]) -> list[str] | None:
    """Class names by class: the given ones, or else those that detections carry; None for none."""
    names = given
    if names is None:
        names = _carried_names(seen)
    if names is None:
        return None
    if not isinstance(names, Mapping):
        return [str(name) for name in names]
    if not all(_is_class(class_id) for class_id in names):
        raise TilerError(
            f"names: expected a list, or a mapping of classes from 0 on, got {short(dict(names))}"
        )
    count = max(names, default=-1) + 1
    return [str(names.get(class_id, class_id)) for class_id in range(count)]


def _carried_names(seen: Sequence[Any]) -> Any:
    """The names that detections have: those of all of them, since some know only the names of the
    classes that occur.
    """
    carried: dict[int, str] = {}
    for detections in seen:
        for class_id, name in names_of_classes(detections).items():
            carried.setdefault(class_id, name)
    return carried or None


def _is_class(given: Any) -> bool:
    return isinstance(given, int) and 0 <= given < MOST_CLASSES


def require_same_frame(window: Window, detections: Any, width: float, height: float) -> None:
    """Check the size of the image that detections were made on, where they carry it: it is that of
    their window, or of its part in the image.

    Raises:
        TilerError: it is not.
    """
    carried = frame_of(detections)
    if carried is None:
        return
    inside_width = min(window.right, width) - max(window.x, 0)
    inside_height = min(window.bottom, height) - max(window.y, 0)
    allowed = ((window.width, window.height), (inside_width, inside_height))
    if carried not in allowed:
        raise TilerError(
            f"detections of an image of {carried[0]} x {carried[1]} px, in a window of "
            f"{window.width} x {window.height} px: "
            "a window is x, y, width and height, and its detections are in its pixels"
        )


def in_image(window: Window, detections: Any) -> Instances:
    """Detections of a window, in pixels of the image.

    Raises:
        TilerError: they have no confidence, or are of an unknown kind.
    """
    instances = foreign(detections)
    if instances.conf is None:
        raise TilerError("detections need a confidence (conf)")
    return instances.moved(window.x, window.y)


def require_in_pixels(instances: Instances, tile: Ints, rects: Floats) -> None:
    """Check that most detections lie in their window, and not all in its first corner.

    Args:
        instances: in px of the image; `tile`: `(N,)` which of the windows each is of.
        rects: `(T, 4)` xyxy px of the windows.

    Raises:
        TilerError: they are in pixels of the image, or normalised.
    """
    if not len(instances):
        return
    windows = rects[tile]
    local = instances.boxes - np.tile(windows[:, :2], 2)
    sides = windows[:, 2:] - windows[:, :2]
    large = (sides > ROOM).all(axis=1)
    in_corner = (local[:, 2:] <= CORNER).all(axis=1) & (local[:, :2] >= -CORNER).all(axis=1)
    if (in_corner & large).mean() > MOST:
        raise TilerError(
            f"{int(in_corner.sum())} of {len(tile)} detections lie in the first {CORNER:g} px of "
            "their window: normalised? expected its pixels"
        )
    centre = (local[:, :2] + local[:, 2:]) / 2
    outside = ~_within(centre, np.zeros(2), sides)
    as_image = outside & _within(centre, windows[:, :2], windows[:, 2:])
    telling = (windows[:, :2] > CORNER).any(axis=1)  # at the origin both frames are the same
    if as_image[telling].any() and as_image[telling].mean() > MOST:
        raise TilerError(
            f"{int(outside.sum())} of {len(tile)} detections lie outside their window: pixels of "
            "the image? expected those of the window"
        )


def _within(points: Floats, low: Floats, high: Floats) -> Bools:
    inside = (points >= low - CORNER) & (points <= high + CORNER)
    return np.asarray(inside.all(axis=1))


def all_of(given: Sequence[Instances]) -> Instances:
    """The detections of all tiles. The task of a tile without any does not matter.

    Raises:
        TilerError: they are of several tasks, or their numbers are invalid.
    """
    filled = [detections for detections in given if len(detections)]
    _require_one_task(filled)
    if filled:
        instances = concatenate(filled)
    elif given:
        instances = concatenate(given[:1])
    else:
        instances = replace(empty(), conf=np.empty(0))
    _require_valid(instances)
    return instances


def _require_one_task(given: Sequence[Instances]) -> None:
    tasks = {detections.task for detections in given}
    if len(tasks) > 1:
        raise TilerError(f"detections of one task are needed, got {sorted(tasks)}")
    counts = set()
    for detections in given:
        if detections.keypoints is not None:
            counts.add(detections.keypoints.shape[1])
    if len(counts) > 1:
        raise TilerError(f"poses need the same number of keypoints, got {sorted(counts)}")


def _require_valid(instances: Instances) -> None:
    conf = instances.confidence
    finite = bool(np.isfinite(instances.boxes).all())
    if instances.keypoints is not None:
        finite &= bool(np.isfinite(instances.keypoints).all())
    if not (finite and ((conf >= 0) & (conf <= 1)).all()):
        raise TilerError("detections need finite numbers, and confidences from 0 to 1")
    if (instances.class_id < 0).any():
        raise TilerError(f"detections need classes from 0 on, got {instances.class_id.min()}")
