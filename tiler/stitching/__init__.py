"""One image: detections of its tiles become detections of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry import ragged
from tiler.geometry.instances import Instances
from tiler.matching.order import canonical
from tiler.matching.tiles import TileRects, cut_sides
from tiler.options import MergeOptions
from tiler.options.signatures import takes
from tiler.stitching import ensembles, inputs, methods
from tiler.stitching.competition import (
    DUPLICATE,
    FATES,
    FUSED,
    KEPT,
    LOW_CONF,
    NOT_OWNED,
    ORPHAN,
    OUTSIDE,
    OVER_MAX,
    SUPPRESSED,
    Competition,
    Result,
    kinds,
    per_class,
    places,
    require_classes,
)
from tiler.stitching.cvm import cvm
from tiler.stitching.detections import ImageDetections
from tiler.stitching.ensembles import Models

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import StitchArguments
    from tiler.types import Bools, Ints

__all__ = [
    "DUPLICATE",
    "FATES",
    "FUSED",
    "KEPT",
    "LOW_CONF",
    "NOT_OWNED",
    "ORPHAN",
    "OUTSIDE",
    "OVER_MAX",
    "SUPPRESSED",
    "Models",
    "Stitched",
    "merged",
    "merged_ensemble",
    "only",
    "stitch",
]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Stitched:
    """The detections of the full image, and what became of those of its tiles.

    Attributes:
        instances: in source pixels, by falling confidence (ties by coordinates); of `stitch`, they
            are `ImageDetections`.
        fate: `(N,)` int64 for each detection given, an index into `FATES`.
        into: `(N,)` int64 which merged detection it is, is part of, or lost to; -1 for none.
        tile: `(N,)` int64 the part that it was given in.
        cut: `(N,)` bool, whether its tile cut it.
    """

    instances: Instances
    fate: Ints
    into: Ints
    tile: Ints
    cut: Bools

    def __repr__(self) -> str:
        numbers = np.bincount(self.fate, minlength=len(FATES)).tolist()
        fates = [f"{count} {fate}" for count, fate in zip(numbers, FATES, strict=True) if count]
        return f"Stitched({self.instances!r} of {len(self.fate)}: {', '.join(fates) or 'none'})"


@takes(MergeOptions)
def stitch(
    parts: Iterable[tuple[Any, Any]],
    size: tuple[int, int],
    names: Sequence[str] | Mapping[int, str] | None = None,
    **options: Unpack[StitchArguments],
) -> Stitched:
    """Merge the detections of one image's tiles.

    Args:
        parts: each tile's window in the image, and its detections in pixels of the window. A window
            is a `Window`, or x, y, width and height. Detections are `Instances` with a `conf`, an
            Ultralytics `Results`, supervision's `Detections` or `KeyPoints`, torchvision's dict,
            `(N, 6)` numbers (x1, y1, x2, y2, confidence, class), or anything with `.xyxy`,
            `.confidence` and `.class_id`; masks, OBBs and keypoints included. The full image is one
            more tile, if detections were made on it as well.
        size: width and height of the image, px.
        names: of classes, for options that name them. Default: those that the detections carry
            (`.names`).
        options: any of `MergeOptions` (method, iou, metric, conf, groups, ...).

    Raises:
        TilerError: detections without a confidence, or of several tasks; an unknown option or
            class.

    >>> left = [[300, 100, 640, 200, 0.5, 0]]
    >>> right = [[0, 100, 388, 200, 0.5, 0]]
    >>> parts = [((0, 0, 640, 640), left), ((512, 0, 640, 640), right)]
    >>> stitch(parts, (1152, 640)).instances.boxes.tolist()
    [[300.0, 100.0, 900.0, 200.0]]
    """
    chosen = MergeOptions.of(options)
    chosen.require_in_effect()
    width, height = inputs.size_of(size)
    windows, seen = inputs.parts_of(parts)
    known = inputs.names_of(names, seen)
    require_classes(chosen, known)
    for window, detections in zip(windows, seen, strict=True):
        inputs.require_same_frame(window, detections, width, height)
    given = list(map(inputs.in_image, windows, seen))
    tile = ragged.owners(ragged.offsets(map(len, given)))
    rects = np.array([window.bounds for window in windows]).reshape(-1, 4)
    tiles = TileRects.of(rects, (width, height))
    instances = inputs.all_of(given)
    inputs.require_in_pixels(instances, tile, rects)
    result = merged(instances, tile, tiles, chosen, known)
    found = ImageDetections.of(result.instances, known, (int(width), int(height)))
    return replace(result, instances=found)


def merged(
    instances: Instances,
    tile: Ints,
    tiles: TileRects,
    options: MergeOptions,
    names: Sequence[str] | None = None,
) -> Stitched:
    """Merge detections that are in source pixels already. `tile`: `(N,)` which of the tiles saw
    each.
    """
    order = _competing_order(instances, tile, tiles, options, names)
    again = _repeated(instances, tile, order)
    competing = order[~again]
    rivals = Competition(instances.take(competing), tile[competing], tiles, options, names)
    result = _result(rivals, names)
    out, place = _ranked(result, options)
    fate = np.full(len(instances), LOW_CONF)
    fate[order[again]] = DUPLICATE
    fate[competing] = _fates(result, place)
    into = np.full(len(instances), -1)
    into[competing] = place
    into[order[again]] = into[_first_of(order, again)]
    cut = np.asarray(cut_sides(instances.boxes, tile, tiles).any(axis=1))
    return Stitched(out, fate, into, tile, cut)


def merged_ensemble(
    instances: Instances,
    tile: Ints,
    tiles: TileRects,
    models: Models,
    ensemble: str,
    options: MergeOptions,
    names: Sequence[str] | None = None,
) -> Stitched:
    """Merge detections of several models: in each window those of the models, then all windows.

    Args:
        tile: `(N,)` which of the tiles with predictions (see `Models`) each is from.
        tiles: the windows.
        ensemble: wbf, nms or soft-nms.
    """
    order = canonical(instances.confidence, instances.boxes, instances.class_id, tile)
    again = _repeated(instances, tile, order)
    single = order[~again]
    kind = kinds(options, names, instances.class_id)
    one = ensembles.agreed(instances.take(single), tile[single], kind[single], models, ensemble)
    result = merged(one.instances, one.window, tiles, options, names)
    fate = result.fate[one.into]
    is_in = np.isin(fate, (KEPT, FUSED, ORPHAN))
    other = FUSED if ensemble == "wbf" else SUPPRESSED
    fate = np.where(is_in & ~one.leads, other, fate)
    fates = np.full(len(instances), DUPLICATE)
    fates[single] = fate
    into = np.full(len(instances), -1)
    into[single] = result.into[one.into]
    into[order[again]] = into[_first_of(order, again)]
    cut = np.asarray(cut_sides(instances.boxes, models.window[tile], tiles).any(axis=1))
    return Stitched(result.instances, fates, into, tile, cut)


def only(kept: Bools, result: Stitched) -> Stitched:
    """The result without some of its detections; what these were made of is outside of a region.

    Args:
        kept: `(D,)` True for detections that stay.
    """
    place = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)  # -1 stays -1
    into = place[result.into]
    gone = (into < 0) & (result.into >= 0)
    fate = np.where(gone, OUTSIDE, result.fate)
    out = result.instances.take(kept)
    return replace(result, instances=replace(out, row=np.arange(len(out))), fate=fate, into=into)


def _fates(result: Result, place: Ints) -> Ints:
    """The fates of those that compete, where the places beyond --max-det are -1."""
    over_max = (result.leader >= 0) & (place < 0)
    return np.where(over_max, OVER_MAX, result.fate)


def _competing_order(
    instances: Instances,
    tile: Ints,
    tiles: TileRects,
    options: MergeOptions,
    names: Sequence[str] | None,
) -> Ints:
    """The detections that compete, in canonical order: those that reach --conf, with cvm all."""
    conf = instances.confidence
    order = canonical(conf, instances.boxes, instances.class_id, places(tiles)[tile])
    if options.method == "cvm":
        return order
    least = per_class(options.conf, 0.0, names, instances.class_id, "conf")
    return order[(conf >= least)[order]]


def _result(rivals: Competition, names: Sequence[str] | None) -> Result:
    """The result of the method that the options choose."""
    options = rivals.options
    result = _METHODS[options.method](rivals)
    if options.method == "cvm":
        # weak detections count until here: they tell that a tile saw something
        result = _without_weak(result, options, names)
    return result


def _without_weak(result: Result, options: MergeOptions, names: Sequence[str] | None) -> Result:
    """Without merged detections that are below --conf."""
    out = result.instances
    weak = out.confidence < per_class(options.conf, 0.0, names, out.class_id, "conf")
    is_weak = np.zeros(len(result.leader) + 1, bool)  # the last is for a leader of -1
    is_weak[result.leaders()[weak]] = True
    gone = is_weak[result.leader]
    leader = np.where(gone, -1, result.leader)
    fate = np.where(gone, LOW_CONF, result.fate)
    return Result(leader, fate, out.take(~weak))


def _repeated(instances: Instances, tile: Ints, order: Ints) -> Bools:
    """`(M,)` for detections in canonical order: those equal to the one before in everything.

    Those that differ in their shapes alone are put in the order of the shapes' numbers: `order` is
    changed in place.
    """
    again = _same_but_shape(instances, tile, order)
    if instances.rings is None and instances.keypoints is None:
        return again
    for first, last in _runs(again):  # few, mostly
        run = order[first : last + 1]
        shapes = sorted((_shape(instances, k), k) for k in run.tolist())
        run[:] = [k for _, k in shapes]
        numbers = [shape for shape, _ in shapes]
        repeats = [one == other for one, other in pairwise(numbers)]
        again[first + 1 : last + 1] = repeats
    return again


def _same_but_shape(instances: Instances, tile: Ints, order: Ints) -> Bools:
    """`(M,)` detections of the tile, class, confidence and box of the one before in the order."""
    conf, class_id, boxes = instances.confidence, instances.class_id, instances.boxes
    now, before = order[1:], order[:-1]
    same = tile[now] == tile[before]
    same &= class_id[now] == class_id[before]
    same &= conf[now] == conf[before]
    same &= (boxes[now] == boxes[before]).all(axis=1)
    again = np.zeros(len(order), bool)
    again[1:] = same
    return again


def _runs(again: Bools) -> list[list[int]]:
    """Where runs of detections begin, of which each but the first repeats the one before, and where
    they end.

    >>> _runs(np.array([False, True, True, False, False, True]))
    [[0, 2], [4, 5]]
    """
    next_repeats = np.append(again[1:], False)
    ends = np.flatnonzero(again != next_repeats)
    return ends.reshape(-1, 2).tolist()


def _shape(instances: Instances, k: int) -> list[float]:
    """The numbers of an outline or of keypoints."""
    if instances.keypoints is not None:
        return list(instances.keypoints[k].ravel().tolist())
    assert instances.rings is not None
    rings = instances.rings[k]
    sizes = [len(ring) for ring in rings]
    coords = np.concatenate(rings).ravel()
    return [len(rings), *sizes, *coords.tolist()]


def _first_of(order: Ints, again: Bools) -> Ints:
    """For each repeated detection the one that it repeats."""
    position = np.where(again, 0, np.arange(len(order)))
    position = np.maximum.accumulate(position)
    return order[position[again]]


def _ranked(result: Result, options: MergeOptions) -> tuple[Instances, Ints]:
    """The merged detections in canonical order, at most --max-det; and the place of each one's
    leader among them, -1 for none.
    """
    out = result.instances
    leaders = result.leaders()
    order = canonical(out.confidence, out.boxes, out.class_id, np.arange(len(out)))
    if options.max_det:
        order = order[: options.max_det]
    place = np.full(len(result.leader) + 1, -1)  # the last is for a leader of -1
    place[leaders[order]] = np.arange(len(order))
    ranked = replace(out.take(order), row=np.arange(len(order)))
    return ranked, place[result.leader]


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
