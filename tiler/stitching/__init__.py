"""One image: detections of its tiles become detections of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.instances import Instances, concatenate, empty, foreign
from tiler.matching.order import canonical
from tiler.matching.tiles import Tiles, cut_sides
from tiler.options import MergeOptions
from tiler.stitching import methods
from tiler.stitching.contest import (
    DUPLICATE,
    FATES,
    FUSED,
    KEPT,
    LOW_CONF,
    NOT_OWNED,
    ORPHAN,
    OVER_MAX,
    SUPPRESSED,
    Contest,
    Result,
    conf_of,
    per_class,
    places,
)
from tiler.stitching.cvm import cvm
from tiler.window import Window

if TYPE_CHECKING:
    from tiler.types import Bools, Ints

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
    parts: Sequence[tuple[Window, Any]],
    size: tuple[int, int],
    names: Sequence[str] | None = None,
    **options: Any,
) -> Stitched:
    """Merge the detections of one image's tiles.

    Args:
        parts: each tile's window in the image, and its detections in pixels of the window:
            `Instances` with a `conf`, or anything with `.xyxy`, `.confidence` and `.class_id`.
            The full image is one more tile, if it was looked at as well.
        size: width and height of the image, px.
        names: of classes, for options that name them.
        options: any of `MergeOptions` (method, iou, metric, conf, groups, ...).

    Raises:
        TilerError: detections without a confidence, or of several tasks; an unknown option or class.

    >>> def seen(*boxes): return Instances(np.zeros(len(boxes), int), np.array(boxes, float), conf=np.full(len(boxes), 0.5))
    >>> parts = [(Window(0, 0, 640, 640), seen([300, 100, 640, 200])), (Window(512, 0, 640, 640), seen([0, 100, 388, 200]))]
    >>> stitch(parts, (1152, 640)).instances.boxes.tolist()
    [[300.0, 100.0, 900.0, 200.0]]
    """
    chosen = MergeOptions.of(options)
    chosen.require_in_effect()
    given = [foreign(detections).moved(window.x, window.y) for window, detections in parts]
    if any(detections.conf is None for detections in given):
        raise TilerError("detections need a confidence (conf)")
    if len({detections.task for detections in given}) > 1:
        raise TilerError(f"detections of one task are needed, got {sorted({detections.task for detections in given})}")
    points = {detections.keypoints.shape[1] for detections in given if detections.keypoints is not None}
    if len(points) > 1:
        raise TilerError(f"poses of one number of keypoints are needed, got {sorted(points)}")
    instances = concatenate(given) if given else replace(empty(), conf=np.empty(0))
    if not (np.isfinite(instances.boxes).all() and ((conf_of(instances) >= 0) & (conf_of(instances) <= 1)).all()):
        raise TilerError("detections have finite boxes, and confidences from 0 to 1")
    tile = np.repeat(np.arange(len(given)), [len(detections) for detections in given])
    rects = np.array([window.bounds for window, _ in parts]).reshape(-1, 4)
    return merged(instances, tile, Tiles.of(rects, size), chosen, names)


def merged(instances: Instances, tile: Ints, tiles: Tiles, options: MergeOptions, names: Sequence[str] | None = None) -> Stitched:
    """Merge detections that are in source pixels already. `tile`: `(N,)` which of the tiles saw each."""
    n = len(instances)
    conf = conf_of(instances)
    order = canonical(conf, instances.boxes, instances.class_id, places(tiles)[tile])
    fate = np.full(n, LOW_CONF)
    if options.method != "cvm":
        order = order[(conf >= per_class(options.conf, names, instances.class_id, "conf"))[order]]
    again = _repeated(instances, tile, order)
    fate[order[again]] = DUPLICATE
    firsts = _first_of(order, again)
    competing = order[~again]
    own = instances.take(competing)
    result = _METHODS[options.method](Contest(own, tile[competing], tiles, options, names))
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
    return Stitched(out, fate, into, tile, np.asarray(cut_sides(instances.boxes, tile, tiles).any(axis=1)))


def _without_weak(result: Result, options: MergeOptions, names: Sequence[str] | None) -> Result:
    """Without merged detections that are below --conf."""
    out = result.instances
    weak = conf_of(out) < per_class(options.conf, names, out.class_id, "conf")
    leads = np.zeros(len(result.leader) + 1, bool)
    leads[result.leaders()[weak]] = True
    gone = leads[result.leader]
    return Result(np.where(gone, -1, result.leader), np.where(gone, LOW_CONF, result.fate), out.take(~weak))


def _repeated(instances: Instances, tile: Ints, order: Ints) -> Bools:
    """`(M,)` for detections in canonical order: those equal to the one before in everything.

    Of those that differ in their shape alone, `order` is changed to that of their numbers.
    """
    conf = conf_of(instances)
    again = np.zeros(len(order), bool)
    again[1:] = (tile[order][1:] == tile[order][:-1]) & (instances.class_id[order][1:] == instances.class_id[order][:-1])
    again[1:] &= (conf[order][1:] == conf[order][:-1]) & (instances.boxes[order][1:] == instances.boxes[order][:-1]).all(axis=1)
    if instances.rings is None and instances.keypoints is None:
        return again
    starts = np.flatnonzero(again & ~np.append(again[1:], False) | np.append(again[1:], False) & ~again)
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
    """The merged detections in canonical order, and for each leader its place among them, -1 for none."""
    out = result.instances
    leaders = result.leaders()
    order = canonical(conf_of(out), out.boxes, out.class_id, np.arange(len(out)))
    if options.max_det:
        order = order[: options.max_det]
    place = np.full(len(result.leader) + 1, -1)
    place[leaders[order]] = np.arange(len(order))
    return replace(out.take(order), row=np.arange(len(order))), place


_METHODS: dict[str, Callable[[Contest], Result]] = {
    "cvm": cvm,
    "nms": methods.nms,
    "nmm": methods.nmm,
    "greedy-nmm": methods.greedy_nmm,
    "wbf": methods.wbf,
    "soft-nms": methods.soft_nms,
    "center": methods.center,
    "none": methods.none,
}
