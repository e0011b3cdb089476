"""One image: detections of its tiles become detections of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.window import Window
from tiler.interop import foreign, numbers
from tiler.matching.order import canonical
from tiler.matching.tiles import Tiles, cut_sides
from tiler.options import MergeOptions
from tiler.stitching import methods
from tiler.stitching.competition import (
    DUPLICATE,
    FATES,
    FUSED,
    KEPT,
    LOW_CONF,
    NOT_OWNED,
    ORPHAN,
    OVER_MAX,
    SUPPRESSED,
    Competition,
    Result,
    per_class,
    places,
    require_classes,
)
from tiler.stitching.cvm import cvm

if TYPE_CHECKING:
    from tiler.types import Bools, Ints

MOST_CLASSES = 1_000_000

__all__ = [
    "DUPLICATE",
    "FATES",
    "FUSED",
    "KEPT",
    "LOW_CONF",
    "NOT_OWNED",
    "ORPHAN",
    "OVER_MAX",
    "SUPPRESSED",
    "Stitched",
    "merged",
    "stitch",
]


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """Detections of the full image, and what became of those of its tiles.

    Attributes:
        instances: in source pixels, by falling confidence (ties by coordinates).
        fate: `(N,)` int64 for each detection given, an index into `FATES`.
        into: `(N,)` int64 which merged detection it is, is part of, or lost to; -1 for none.
        tile: `(N,)` int64 the part it was given in.
        cut: `(N,)` bool, its tile cut it.
    """

    instances: Instances
    fate: Ints
    into: Ints
    tile: Ints
    cut: Bools


def stitch(
    parts: Iterable[tuple[Any, Any]],
    size: tuple[int, int],
    names: Sequence[str] | Mapping[int, str] | None = None,
    **options: Any,
) -> Stitched:
    """Merge the detections of one image's tiles.

    Args:
        parts: each tile's window in the image, and its detections in pixels of the window. A window
            is a `Window`, or x, y, width and height. Detections are `Instances` with a `conf`, an
            Ultralytics `Results`, `(N, 6)` numbers (x1, y1, x2, y2, confidence, class), or anything
            with `.xyxy`, `.confidence` and `.class_id`. The full image is one more tile, if it was
            looked at as well.
        size: width and height of the image, px.
        names: of classes, for options that name them. Default: those that the detections carry
            (`.names`).
        options: any of `MergeOptions` (method, iou, metric, conf, groups, ...).

    Raises:
        TilerError: detections without a confidence, or of several tasks; an unknown option or
            class.

    >>> parts = [((0, 0, 640, 640), [[300, 100, 640, 200, 0.5, 0]]), ((512, 0, 640, 640), [[0, 100, 388, 200, 0.5, 0]])]
    >>> stitch(parts, (1152, 640)).instances.boxes.tolist()
    [[300.0, 100.0, 900.0, 200.0]]
    """
    chosen = MergeOptions.of(options)
    chosen.require_in_effect()
    width, height = _size(size)
    windows, seen = _parts(parts)
    known = _names(names, seen)
    require_classes(chosen, known)
    for window, detections in zip(windows, seen, strict=True):
        _require_same_frame(window, detections, width, height)
    given = [
        _in_image(window, detections) for window, detections in zip(windows, seen, strict=True)
    ]
    instances = _all(given)
    tile = np.repeat(np.arange(len(given)), [len(detections) for detections in given])
    rects = np.array([window.bounds for window in windows]).reshape(-1, 4)
    return merged(instances, tile, Tiles.of(rects, (width, height)), chosen, known)


def _size(given: Any) -> tuple[float, float]:
    values = numbers(given, "size: width and height of the image")
    if len(values) != 2 or not ((values > 0) & np.isfinite(values)).all():
        raise TilerError(f"size: expected width and height of the image, px, got {short(given)}")
    return float(values[0]), float(values[1])


def _parts(given: Any) -> tuple[list[Window], list[Any]]:
    """Windows and detections, as they were given."""
    windows, seen = [], []
    for number, part in enumerate(given):
        try:
            window, detections = part
        except (TypeError, ValueError):
            found = type(part).__name__
            raise TilerError(
                f"parts: expected a window and its detections, got {found} as part {number}"
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
        what = f"a Window, or its x, y, width and height in whole px, got {short(given)}"
        raise TilerError(f"parts: the window of part {number}: expected {what}") from None


def _names(given: Any, seen: Sequence[Any]) -> list[str] | None:
    """Class names by class; those that detections carry where none are given."""
    carried = (getattr(detections, "names", None) for detections in seen)
    names = next((own for own in carried if own), None) if given is None else given
    if not isinstance(names, Mapping):
        return None if names is None else [str(name) for name in names]
    if not all(isinstance(k, int) and 0 <= k < MOST_CLASSES for k in names):
        raise TilerError(
            f"names: expected a list, or a mapping of classes from 0 on, got {short(dict(names))}"
        )
    return [str(names.get(k, k)) for k in range(max(names, default=-1) + 1)]


def _require_same_frame(window: Window, detections: Any, width: float, height: float) -> None:
    """Raises:
    TilerError: detections say of how large an image they are, and it is not that of their window.
    """
    shape = getattr(detections, "orig_shape", None)
    if shape is None:
        return
    found = (int(shape[1]), int(shape[0]))
    inside = (
        min(window.right, width) - max(window.x, 0),
        min(window.bottom, height) - max(window.y, 0),
    )
    if found not in ((window.width, window.height), inside):
        raise TilerError(
            f"detections of an image of {found[0]} x {found[1]} px, in a window of {window.width} "
            f"x {window.height} px: "
            "a window is x, y, width and height, and its detections are in its pixels"
        )


def _in_image(window: Window, detections: Any) -> Instances:
    found = foreign(detections)
    if found.conf is None:
        raise TilerError("detections need a confidence (conf)")
    return found.moved(window.x, window.y)


def _all(given: Sequence[Instances]) -> Instances:
    """The detections of all tiles; of a tile without any it does not matter of which task they
    would be.

    Raises:
        TilerError: they are of several tasks, or not finite.
    """
    there = [detections for detections in given if len(detections)]
    tasks = sorted({detections.task for detections in there})
    if len(tasks) > 1:
        raise TilerError(f"detections of one task are needed, got {tasks}")
    points = {
        detections.keypoints.shape[1] for detections in there if detections.keypoints is not None
    }
    if len(points) > 1:
        raise TilerError(f"poses of one number of keypoints are needed, got {sorted(points)}")
    some = there or list(given[:1])
    instances = concatenate(some) if some else replace(empty(), conf=np.empty(0))
    conf = instances.confidence
    finite = np.isfinite(instances.boxes).all()
    finite &= instances.keypoints is None or np.isfinite(instances.keypoints).all()
    if not (finite and ((conf >= 0) & (conf <= 1)).all()):
        raise TilerError("detections have finite numbers, and confidences from 0 to 1")
    if (instances.class_id < 0).any():
        raise TilerError(f"detections have classes from 0 on, got {instances.class_id.min()}")
    return instances


def merged(
    instances: Instances,
    tile: Ints,
    tiles: Tiles,
    options: MergeOptions,
    names: Sequence[str] | None = None,
) -> Stitched:
    """Merge detections that are in source pixels already. `tile`: `(N,)` which of the tiles saw
    each.
    """
    n = len(instances)
    conf = instances.confidence
    order = canonical(conf, instances.boxes, instances.class_id, places(tiles)[tile])
    fate = np.full(n, LOW_CONF)
    if options.method != "cvm":
        order = order[
            (conf >= per_class(options.conf, 0.0, names, instances.class_id, "conf"))[order]
        ]
    again = _repeated(instances, tile, order)
    fate[order[again]] = DUPLICATE
    firsts = _first_of(order, again)
    competing = order[~again]
    own = instances.take(competing)
    result = _METHODS[options.method](Competition(own, tile[competing], tiles, options, names))
    if options.method == "cvm":  # weak ones count until here: they tell that a tile saw something
        result = _without_weak(result, options, names)
    fate[competing] = result.fate
    into = np.full(n, -1)
    into[competing] = result.leader
    out, place = _ranked(result, options)
    gone = (into >= 0) & (place[into] < 0)
    fate[gone & (fate != DUPLICATE)] = OVER_MAX
    into = np.where(into >= 0, place[into], -1)
    into[order[again]] = into[firsts]
    return Stitched(
        out, fate, into, tile, np.asarray(cut_sides(instances.boxes, tile, tiles).any(axis=1))
    )


def _without_weak(result: Result, options: MergeOptions, names: Sequence[str] | None) -> Result:
    """Without merged detections that are below --conf."""
    out = result.instances
    weak = out.confidence < per_class(options.conf, 0.0, names, out.class_id, "conf")
    leads = np.zeros(len(result.leader) + 1, bool)
    leads[result.leaders()[weak]] = True
    gone = leads[result.leader]
    return Result(
        np.where(gone, -1, result.leader), np.where(gone, LOW_CONF, result.fate), out.take(~weak)
    )


def _repeated(instances: Instances, tile: Ints, order: Ints) -> Bools:
    """`(M,)` for detections in canonical order: those equal to the one before in everything.

    Of those that differ in their shape alone, `order` is changed to that of their numbers.
    """
    conf = instances.confidence
    again = np.zeros(len(order), bool)
    again[1:] = (tile[order][1:] == tile[order][:-1]) & (
        instances.class_id[order][1:] == instances.class_id[order][:-1]
    )
    again[1:] &= (conf[order][1:] == conf[order][:-1]) & (
        instances.boxes[order][1:] == instances.boxes[order][:-1]
    ).all(axis=1)
    if instances.rings is None and instances.keypoints is None:
        return again
    starts = np.flatnonzero(
        again & ~np.append(again[1:], False) | np.append(again[1:], False) & ~again
    )
    for first, last in starts.reshape(-1, 2).tolist():  # runs of equal boxes: few, mostly
        shapes = sorted((_shape(instances, k), k) for k in order[first : last + 1].tolist())
        order[first : last + 1] = [k for _, k in shapes]
        again[first + 1 : last + 1] = [one[0] == other[0] for one, other in pairwise(shapes)]
    return again


def _shape(instances: Instances, k: int) -> list[float]:
    """The numbers of an outline or of keypoints."""
    if instances.keypoints is not None:
        return list(instances.keypoints[k].ravel().tolist())
    assert instances.rings is not None
    rings = instances.rings[k]
    return [len(rings), *(len(ring) for ring in rings), *np.concatenate(rings).ravel().tolist()]


def _first_of(order: Ints, again: Bools) -> Ints:
    """For each repeated detection the one that it repeats."""
    position = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
    return order[position[again]]


def _ranked(result: Result, options: MergeOptions) -> tuple[Instances, Ints]:
    """The merged detections in canonical order, and for each leader its place among them, -1 for
    none.
    """
    out = result.instances
    leaders = result.leaders()
    order = canonical(out.confidence, out.boxes, out.class_id, np.arange(len(out)))
    if options.max_det:
        order = order[: options.max_det]
    place = np.full(len(result.leader) + 1, -1)
    place[leaders[order]] = np.arange(len(order))
    return replace(out.take(order), row=np.arange(len(order))), place


_METHODS: dict[str, Callable[[Competition], Result]] = {
    "cvm": cvm,
    "nms": methods.nms,
    "nmm": methods.nmm,
    "greedy-nmm": methods.greedy_nmm,
    "wbf": methods.wbf,
    "soft-nms": methods.soft_nms,
    "center": methods.center,
    "none": methods.none,
}
