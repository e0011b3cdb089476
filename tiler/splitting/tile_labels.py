"""Which tile shows what, and which of it becomes a label. Arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.formats import trainer_rules, yolo
from tiler.geometry import boxes as box
from tiler.geometry import polygons, ragged
from tiler.geometry.clipping import WHOLE, ObbPolicy, clip, largest_share
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances, concatenate
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.options import SplitOptions

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Views(Columns):
    """What P pairs of a tile and an object show, in source pixels, by tile, then by object.

    Attributes:
        tile: `(P,)` which tile.
        object: `(P,)` which instance of the source.
        seen: P instances, clipped to their tile.
        kept: `(P,)` those that get a label.
        below: `(P,)` those that are below --min-visible or --min-size, and not rescued.
        hidden: `(P,)` those that are to be painted out.
        large: `(P,)` those that are at least --min-size.
        hides: whether what gets no label is to be painted out.
    """

    tile: Ints
    object: Ints
    seen: Instances
    kept: Bools
    below: Bools
    hidden: Bools
    large: Bools
    hides: bool = False


def views(instances: Instances, windows: Floats, scales: Floats, options: SplitOptions) -> Views:
    """Every object as every tile shows it, and what becomes of it.

    A view is kept when it shows at least --min-visible of what a tile of this size can
    show of the object, and is at least --min-size px wide and high in the tile. An object
    without any such view keeps, of those that are large enough, the one that shows most of
    it (--rescue; ties: the first tile). The others are treated as --truncated says.

    Args:
        windows: `(T, 4)` float64 xyxy in source pixels.
        scales: `(T,)` tile pixels for a source pixel.
    """
    found, tile = box.pairs(instances.boxes, windows)
    order = np.lexsort((found, tile))
    found, tile = found[order], tile[order]
    pieces = []
    for batch in _batches(instances, found):
        clipped = _clipped(instances.take(found[batch]), windows[tile[batch]], options.obb)
        shown = clipped.visible > 0
        pieces.append((found[batch][shown], tile[batch][shown], clipped.take(shown)))
    found = np.concatenate([piece[0] for piece in pieces])
    tile = np.concatenate([piece[1] for piece in pieces])
    seen = concatenate([piece[2] for piece in pieces])

    sides = (seen.boxes[:, 2:] - seen.boxes[:, :2]) * scales[tile, None]
    large = np.asarray((sides >= options.min_size * (1 - 1e-9)).all(axis=1))
    best = largest_share(instances.boxes[found], windows[tile])
    visible = seen.visible >= options.min_visible * best * (1 - 1e-9)
    kept = large & visible
    if options.rescue:
        kept |= rescued(found, seen.visible, kept, large)
    below = ~kept
    if options.truncated == "keep":
        kept = np.ones(len(found), bool)
    hidden = below if options.truncated == "mask" else np.zeros(len(found), bool)
    return Views(tile, found, seen, kept, below, hidden, large, options.truncated == "mask")


BATCH_POINTS = 500_000

# What is tried in turn until the trainer takes the rectangle, which may reach far out of the
# tile; at last the aligned one is shrunk: it keeps its direction
OBB_POLICIES: dict[str, tuple[ObbPolicy, ...]] = {
    "full": ("full", "aligned", "minrect"),
    "aligned": ("aligned", "minrect"),
    "minrect": ("minrect",),
}


def _batches(instances: Instances, found: Ints) -> list[Ints]:
    """Positions of the pairs, so many at a time that their outlines take little memory: an
    outline of many points may be in many tiles, each of which shows a little of it."""
    if instances.rings is None or not len(found):
        return [np.arange(len(found))]
    points = np.bincount(instances.rings.owners(), minlength=len(instances))[found]
    batch = np.cumsum(points) // BATCH_POINTS
    return np.split(np.arange(len(found)), np.flatnonzero(np.diff(batch)) + 1)


def _clipped(instances: Instances, rects: Floats, obb: str) -> Instances:
    first, *others = OBB_POLICIES[obb] if instances.task == "obb" else ("aligned",)
    seen = clip(instances, rects, first)
    for policy in others:
        far = _refused(seen, rects)
        if not len(far):
            return seen
        seen = seen.put(far, clip(instances.take(far), rects[far], policy))
    far = _refused(seen, rects)
    if len(far):
        aligned = clip(instances.take(far), rects[far], "aligned")
        assert aligned.rings is not None
        rings = Rings.from_quads(
            polygons.fitted(aligned.rings.quads(), rects[far, 2:] - rects[far, :2])
        )
        seen = seen.put(far, replace(aligned, rings=rings, boxes=rings.bounds()))
    return seen


def _refused(seen: Instances, rects: Floats) -> Ints:
    """The OBBs in view whose bounds the trainer would not take."""
    if seen.task != "obb":
        return np.empty(0, np.int64)
    return np.flatnonzero(
        (seen.visible > 0) & ~trainer_rules.tolerated(_normalised(seen.boxes, rects))
    )


def _normalised(boxes: Floats, rects: Floats) -> Floats:
    sides = rects[:, 2:] - rects[:, :2]
    return box.to_cxcywh(boxes - np.tile(rects[:, :2], 2)) / np.tile(sides, 2)


def rescued(found: Ints, visible: Floats, kept: Bools, large: Bools) -> Bools:
    """`(P,)` the best large view of each object that has no kept one."""
    result = np.zeros(len(found), bool)
    candidates = np.flatnonzero(large & ~np.isin(found, found[kept]))
    if len(candidates):
        order = candidates[np.lexsort((candidates, -visible[candidates], found[candidates]))]
        result[order[ragged.firsts(found[order])]] = True
    return result


@dataclass(frozen=True, slots=True, eq=False)
class LabelRows:
    """The R label rows of all tiles, by view.

    Attributes:
        view: `(R,)` the view that each is of.
        values: their numbers, class first.
        area: `(R,)` px² of the source that each covers.
        partial: `(P,)` views that are kept, but of which a piece got no row.
    """

    view: Ints
    values: list[Floats]
    area: Floats
    partial: Bools


def label_rows(
    views: Views, windows: Floats, scales: Floats, options: SplitOptions, spec: yolo.Spec
) -> LabelRows:
    """The label rows of all tiles.

    Segments in several parts follow --parts; a part smaller than --min-size is left out
    unless it is all there is. Every row is one that the trainer takes: what it would refuse
    (a rectangle that reaches too far out of the tile), or remove as a duplicate (two objects
    of a class of which the tile shows the same part), is left out.
    """
    view = np.flatnonzero(views.kept)
    seen = views.seen.take(view)
    area = seen.visible * seen.area
    partial = np.zeros(len(views.tile), bool)
    if seen.task == "segment":
        part, seen, area, incomplete = _parts(seen, area, scales[views.tile[view]], options)
        partial[view[incomplete]] = True
        view = view[part]
    rects = windows[views.tile[view]]
    rows = yolo.values(seen.moved(-rects[:, 0], -rects[:, 1]), rects[:, 2:] - rects[:, :2])
    good = trainer_rules.accepted(rows, spec.task, spec.classes, spec.out_shape)
    partial[view[~good]] = True
    taken: set[tuple[int, bytes]] = set()
    for i in np.flatnonzero(good):
        key = (int(views.tile[view[i]]), (rows[i].astype(np.float32) + 0.0).tobytes())
        good[i] = key not in taken
        taken.add(key)
    return LabelRows(view[good], [rows[i] for i in np.flatnonzero(good)], area[good], partial)


def _parts(
    seen: Instances, area: Floats, scales: Floats, options: SplitOptions
) -> tuple[Ints, Instances, Floats, Ints]:
    """Instances as the rows they are written as: for each row which instance, the rows, their
    areas in px², and the instances of which a piece is left out."""
    assert seen.rings is not None
    cut = np.flatnonzero(seen.visible < WHOLE)
    if options.parts == "bridge" or not len(cut):
        return np.arange(len(seen)), seen, area, np.empty(0, np.int64)
    pieces, owner = polygons.parts(seen.rings.take(cut))
    sides = np.diff(pieces.bounds().reshape(-1, 2, 2), axis=1)[:, 0] * scales[cut[owner], None]
    size = np.asarray(shapely.area(pieces.geometry()))
    largest = np.zeros(len(owner), bool)
    order = np.lexsort((np.arange(len(owner)), -size, owner))
    largest[order[ragged.firsts(owner[order])]] = True
    good = (
        largest if options.parts == "largest" else largest | (sides >= options.min_size).all(axis=1)
    )
    incomplete = np.unique(cut[owner[~good]])
    pieces, owner, size = pieces.take(good), owner[good], size[good]
    whole = np.setdiff1d(np.arange(len(seen)), cut)
    index = np.concatenate([whole, cut[owner]])
    order = np.argsort(index, kind="stable")
    rings = polygons.concatenate([seen.rings.take(whole), pieces]).take(order)
    index = index[order]
    rows = replace(seen.take(index), rings=rings, boxes=rings.bounds())
    return index, rows, np.concatenate([area[whole], size])[order], incomplete


def masked_outlines(
    views: Views, rows: LabelRows, tile: int, bounds: Floats, ignored: polygons.Rings
) -> tuple[list[list[Floats]], list[list[Floats]]]:
    """The outlines to paint out of a tile, and those to leave, in source pixels.

    Args:
        bounds: `(4,)` of the tile's window.
        ignored: regions that every tile paints out.
    """
    hides = views.hides
    if not len(ignored) and not hides:
        return [], []
    here = views.tile == tile
    met, _ = box.pairs(ignored.bounds(), bounds[None])
    partial = rows.partial & hides
    hidden = [ignored[i] for i in met] + _outlines(views.seen.take(here & (views.hidden | partial)))
    if not hidden:
        return [], []
    shown = _outlines(views.seen.take(here & views.kept & ~partial))
    size = bounds[2:] - bounds[:2]
    for view, values in zip(rows.view, rows.values, strict=True):
        if views.tile[view] == tile and partial[view] and views.seen.rings is not None:
            shown.append([values[1:].reshape(-1, 2) * size + bounds[:2]])
    return hidden, shown


def _outlines(seen: Instances) -> list[list[Floats]]:
    if seen.rings is not None:
        return [seen.rings[i] for i in range(len(seen))]
    return [[corners] for corners in box.corners(seen.boxes)]
