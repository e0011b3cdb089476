"""Which tile shows which objects, and which of them get a label. Arithmetic only."""

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


ROUNDED = 1 - 1e-9  # a value that equals its threshold but for rounding is not below it
BATCH_POINTS = 500_000

# Tried in turn until the trainer accepts the rectangle, which may reach far out of the tile;
# at last the aligned one is shrunk, which keeps its direction
OBB_POLICIES: dict[str, tuple[ObbPolicy, ...]] = {
    "full": ("full", "aligned", "minrect"),
    "aligned": ("aligned", "minrect"),
    "minrect": ("minrect",),
}


@dataclass(frozen=True, slots=True, eq=False)
class Views(Columns):
    """P pairs of a tile and an object that it shows, by tile, then by object.

    Attributes:
        tile: `(P,)` the tile.
        object: `(P,)` the instance of the source.
        seen: P instances, clipped to their tile, in source pixels.
        kept: `(P,)` True for those that get a label.
        below: `(P,)` True for those below --min-visible or --min-size, and not rescued.
        hidden: `(P,)` True for those that are to be painted out.
        large: `(P,)` True for those of at least --min-size.
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
    """Every object as every tile shows it, and whether it gets a label there.

    A view is kept when it shows at least --min-visible of what a tile of this size can
    show of the object, and is at least --min-size px wide and high in the tile. An object
    without such a view keeps, of those that are large enough, the one that shows most of
    it (--rescue; ties: the first tile). The others are treated as --truncated says.

    Args:
        windows: `(T, 4)` float64 xyxy in source pixels.
        scales: `(T,)` tile pixels for a source pixel.
    """
    tile, objects, seen = in_view(instances, windows, options.obb)
    sides = (seen.boxes[:, 2:] - seen.boxes[:, :2]) * scales[tile, None]
    large = np.asarray((sides >= options.min_size * ROUNDED).all(axis=1))
    best = largest_share(instances.boxes[objects], windows[tile])
    visible = seen.visible >= options.min_visible * best * ROUNDED
    kept = large & visible
    if options.rescue:
        kept |= rescued(objects, seen.visible, kept, large)
    below = ~kept
    if options.truncated == "keep":
        kept = np.ones(len(objects), bool)
    hides = options.truncated == "mask"
    hidden = below if hides else np.zeros(len(objects), bool)
    return Views(tile, objects, seen, kept, below, hidden, large, hides)


def in_view(
    instances: Instances, windows: Floats, obb: str = "aligned"
) -> tuple[Ints, Ints, Instances]:
    """Tile and object of each pair that overlaps, by tile, then by object, and what the tile shows
    of the object."""
    objects, tile = box.pairs(instances.boxes, windows)
    order = np.lexsort((objects, tile))
    objects = objects[order]
    tile = tile[order]
    in_view = []
    pieces = []
    for batch in _batches(instances, objects):
        clipped = _clipped(instances.take(objects[batch]), windows[tile[batch]], obb)
        visible = clipped.visible > 0
        in_view.append(batch[visible])
        pieces.append(clipped.take(visible))
    pairs = np.concatenate(in_view)
    return tile[pairs], objects[pairs], concatenate(pieces)


def _batches(instances: Instances, objects: Ints) -> list[Ints]:
    """The positions of the pairs, in batches whose outlines take little memory: an outline of
    many points may be in many tiles, each of which shows a little of it."""
    positions = np.arange(len(objects))
    if instances.rings is None or not len(objects):
        return [positions]
    points = np.bincount(instances.rings.owners(), minlength=len(instances))[objects]
    batch = np.cumsum(points) // BATCH_POINTS
    return np.split(positions, np.flatnonzero(np.diff(batch)) + 1)


def _clipped(instances: Instances, rects: Floats, obb: str) -> Instances:
    """Each instance as its rectangle shows it; an OBB by the first policy that the trainer
    accepts."""
    if instances.task != "obb":
        return clip(instances, rects)
    first, *others = OBB_POLICIES[obb]
    seen = clip(instances, rects, first)
    for policy in others:
        far = _reaching_too_far(seen, rects)
        if not len(far):
            return seen
        seen = seen.put(far, clip(instances.take(far), rects[far], policy))
    far = _reaching_too_far(seen, rects)
    if len(far):
        seen = seen.put(far, _shrunk(instances.take(far), rects[far]))
    return seen


def _reaching_too_far(seen: Instances, rects: Floats) -> Ints:
    """The OBBs in view whose bounds the trainer would not accept."""
    sides = rects[:, 2:] - rects[:, :2]
    normalised = box.to_cxcywh(seen.boxes - np.tile(rects[:, :2], 2)) / np.tile(sides, 2)
    return np.flatnonzero((seen.visible > 0) & ~trainer_rules.tolerated(normalised))


def _shrunk(instances: Instances, rects: Floats) -> Instances:
    """The aligned rectangles of cut OBBs, made small enough to fit their tile."""
    aligned = clip(instances, rects, "aligned")
    assert aligned.rings is not None
    quads = polygons.fitted(aligned.rings.quads(), rects[:, 2:] - rects[:, :2])
    rings = Rings.from_quads(quads)
    return replace(aligned, rings=rings, boxes=rings.bounds())


def rescued(objects: Ints, visible: Floats, kept: Bools, large: Bools) -> Bools:
    """`(P,)` True for the best large view of each object that has no kept one."""
    candidates = np.flatnonzero(large & ~np.isin(objects, objects[kept]))
    best = _best_of_each(objects[candidates], visible[candidates])
    result = np.zeros(len(objects), bool)
    result[candidates[best]] = True
    return result


def _best_of_each(keys: Ints, values: Floats) -> Ints:
    """The index of the highest value of each key; of equal values, the first."""
    order = np.lexsort((np.arange(len(keys)), -values, keys))
    return np.asarray(order[ragged.firsts(keys[order])])


@dataclass(frozen=True, slots=True, eq=False)
class LabelRows:
    """The R label rows of all tiles, by view.

    Attributes:
        view: `(R,)` the view of each row.
        values: the numbers of each row, class first.
        area: `(R,)` px² of the source that each row covers.
        partial: `(P,)` True for views that are kept, but of which a part got no row.
        shown: R instances, what each row says before it is rounded, in source pixels.
    """

    view: Ints
    values: list[Floats]
    area: Floats
    partial: Bools
    shown: Instances


def label_rows(
    views: Views, windows: Floats, scales: Floats, options: SplitOptions, spec: yolo.Spec
) -> LabelRows:
    """The label rows of all tiles.

    Segments in several parts follow --parts; a part smaller than --min-size is left out
    unless it is all there is. Every row is one that the trainer accepts: what it would reject
    (a rectangle that reaches too far out of the tile), or remove as a duplicate (two objects
    of a class of which the tile shows the same part), is left out.
    """
    view = np.flatnonzero(views.kept)
    seen = views.seen.take(view)
    area = seen.visible * seen.area
    partial = np.zeros(len(views.tile), bool)
    if seen.task == "segment":
        parts = _in_parts(seen, area, scales[views.tile[view]], options)
        partial[view[parts.incomplete]] = True
        view = view[parts.owner]
        seen = parts.rows
        area = parts.area
    tile = views.tile[view]
    rows = _row_values(seen, windows[tile])
    accepted = trainer_rules.accepted(rows, spec.task, spec.classes, spec.out_shape)
    partial[view[~accepted]] = True
    good = np.flatnonzero(accepted & _distinct(rows, tile, accepted))
    values = [rows[i] for i in good]
    return LabelRows(view[good], values, area[good], partial, seen.take(good))


def _row_values(seen: Instances, windows: Floats) -> list[Floats]:
    """The numbers of each row, in the frame of its tile."""
    tiles = seen.moved(-windows[:, 0], -windows[:, 1])
    return yolo.values(tiles, windows[:, 2:] - windows[:, :2])


def _distinct(rows: list[Floats], tile: Ints, accepted: Bools) -> Bools:
    """`(R,)` False for rows that the trainer, in float32, takes for a duplicate of an earlier
    accepted row of their tile."""
    result = np.ones(len(rows), bool)
    known: set[tuple[int, bytes]] = set()
    for i in np.flatnonzero(accepted):
        key = (int(tile[i]), (rows[i].astype(np.float32) + 0.0).tobytes())
        result[i] = key not in known
        known.add(key)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _InParts:
    """Outlines as the R label rows that they are written as.

    Attributes:
        owner: `(R,)` the instance of each row, in rising order.
        rows: R instances.
        area: `(R,)` px² of the source.
        incomplete: the instances of which a part is left out.
    """

    owner: Ints
    rows: Instances
    area: Floats
    incomplete: Ints


def _in_parts(seen: Instances, area: Floats, scales: Floats, options: SplitOptions) -> _InParts:
    """The label rows of outlines; a cut one may have several parts, see --parts.

    Args:
        area: `(N,)` px² of the instances.
        scales: `(N,)` tile pixels for a source pixel.
    """
    assert seen.rings is not None
    is_cut = seen.visible < WHOLE
    if options.parts == "bridge" or not is_cut.any():
        return _InParts(np.arange(len(seen)), seen, area, np.empty(0, np.int64))
    cut = np.flatnonzero(is_cut)
    whole = np.flatnonzero(~is_cut)
    parts, owner = polygons.parts(seen.rings.take(cut))
    owner = cut[owner]
    part_area = np.asarray(shapely.area(parts.geometry()))
    good = _good_parts(parts.bounds(), owner, part_area, scales[owner], options)
    incomplete = np.unique(owner[~good])
    rings = polygons.concatenate([seen.rings.take(whole), parts.take(good)])
    owner = np.concatenate([whole, owner[good]])
    area = np.concatenate([area[whole], part_area[good]])
    order = np.argsort(owner, kind="stable")
    rings = rings.take(order)
    rows = replace(seen.take(owner[order]), rings=rings, boxes=rings.bounds())
    return _InParts(owner[order], rows, area[order], incomplete)


def _good_parts(
    bounds: Floats, owner: Ints, area: Floats, scales: Floats, options: SplitOptions
) -> Bools:
    """`(R,)` True for parts that get a row: the largest of each outline, and with --parts separate
    all of at least --min-size."""
    good = np.zeros(len(owner), bool)
    good[_best_of_each(owner, area)] = True
    if options.parts != "largest":
        sides = (bounds[:, 2:] - bounds[:, :2]) * scales[:, None]
        good |= (sides >= options.min_size).all(axis=1)
    return good


def masked_outlines(
    views: Views, rows: LabelRows, tile: int, bounds: Floats, ignored: Rings
) -> tuple[list[list[Floats]], list[list[Floats]]]:
    """The outlines to paint out of a tile, and those to leave, in source pixels.

    Args:
        bounds: `(4,)` of the tile's window.
        ignored: regions that every tile paints out.
    """
    if not len(ignored) and not views.hides:
        return [], []
    here = views.tile == tile
    partial = rows.partial & views.hides
    in_window, _ = box.pairs(ignored.bounds(), bounds[None])
    hidden = [ignored[i] for i in in_window]
    hidden += _outlines(views.seen.take(here & (views.hidden | partial)))
    if not hidden:
        return [], []
    shown = _outlines(views.seen.take(here & views.kept & ~partial))
    if views.seen.rings is not None:
        shown += _written_outlines(rows, here & partial, bounds)
    return hidden, shown


def _outlines(seen: Instances) -> list[list[Floats]]:
    if seen.rings is not None:
        return [seen.rings[i] for i in range(len(seen))]
    return [[corners] for corners in box.corners(seen.boxes)]


def _written_outlines(rows: LabelRows, views: Bools, bounds: Floats) -> list[list[Floats]]:
    """The outlines in the label rows of some views of a tile, in source pixels."""
    size = bounds[2:] - bounds[:2]
    outlines = []
    for view, values in zip(rows.view, rows.values, strict=True):
        if views[view]:
            points = values[1:].reshape(-1, 2)
            outlines.append([points * size + bounds[:2]])
    return outlines
