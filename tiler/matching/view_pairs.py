"""Pairs of detections, compared within the view that their tiles share.

The common view of two tiles is the rectangle of pixels that belong to both. If two detections
are the same object, their parts in that view agree: their IoU is high. The comparison goes in
steps, each of which refines the one before:

1. Boxes. On each axis the view and the parts of both boxes in it are intervals. An axis is
   blind where the view is too thin to tell anything across it (it is a seam), or where it cuts
   a part down to a sliver. Then the parts are compared along the other axis alone.
2. Distance. Many pairs agree equally along a seam; those whose boxes end nearer to each other
   across it come first, and boxes that are far apart are left out.
3. Shapes. Outlines and OBBs are compared by the areas that the view shows of them. An outline
   cut off by its tile may also be a piece of the other one.
4. Keypoints. Poses are compared by the OKS of the keypoints that lie in the view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances, labelled
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.matching import similarity
from tiler.matching.tiles import EDGE, TileDetections

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Objects

# Times `TileRects.edge`: a view that is no thicker tells nothing across. The part of an object in a
# view is a sliver if it is thinner than half of this.
THIN = 4.0
LINE = 0.01  # px: what lies this near to a seam lies on it
WITHIN = 0.9  # of the area of a piece lies in the outline that it is a piece of
QUARTER = np.pi / 2  # an OBB turned by this is the same OBB

X_AXIS, Y_AXIS, NO_AXIS = 0, 1, -1

# The evidence of a pair: how well the view tells different objects apart. Pairs with more of it
# are joined first.
CLEAR = 2  # both axes are compared
SEAM = 1  # one axis is blind, and the parts are compared along the seam
FILLED = 0  # both parts fill the view, so they agree whatever they belong to
PIECE = -1  # the parts do not agree, but one is a piece of the other


@dataclass(frozen=True, slots=True, eq=False)
class ViewPairs(Columns):
    """Pairs of detections, and how their parts in the common view agree. All columns are `(P,)`.

    Attributes:
        i, j: the detections.
        view: `(P, 4)` the pixels that both tiles see.
        blind_axis: the axis across which the view tells nothing: X_AXIS, Y_AXIS or NO_AXIS.
        thin: the view itself is thin on an axis.
        evidence: CLEAR, SEAM, FILLED or PIECE.
        agreement: IoU of the parts in the view, or along the seam where an axis is blind.
        tiebreak: what decides between pairs of equal agreement, the higher first: IoU of the
            parts in the view, or where an axis is blind the distance across the seam, negative.
        piece: one is a piece of the other, cut off by its tile (outlines only).
    """

    i: Ints
    j: Ints
    view: Floats
    blind_axis: Ints
    thin: Bools
    evidence: Ints
    agreement: Floats
    tiebreak: Floats
    piece: Bools


def compare(detections: TileDetections, i: Ints, j: Ints) -> ViewPairs:
    """Pairs of detections i and j of different tiles, compared in the common views of their tiles.

    Pairs that do not meet in their view are left out.
    """
    instances = detections.instances
    pairs = _by_boxes(detections, i, j)
    pairs = _by_distance(detections, pairs)
    if instances.rings is not None and len(pairs.i):
        pairs = _by_shapes(detections, instances.rings, pairs)
    if instances.keypoints is not None:
        pairs = _by_keypoints(instances, instances.keypoints, pairs)
    return pairs


# --- 1. boxes


def _by_boxes(detections: TileDetections, i: Ints, j: Ints) -> ViewPairs:
    """Pairs compared by their boxes; those that do not meet in their view are left out."""
    edge = detections.pair_edge(i, j)
    x = _AxisView.of(detections, i, j, edge, X_AXIS)
    y = _AxisView.of(detections, i, j, edge, Y_AXIS)
    view = np.stack([x.low, y.low, x.high, y.high], axis=1)
    x, y = _one_axis_tells(x, y)
    blind_axis = np.where(y.blind, Y_AXIS, NO_AXIS)
    blind_axis[x.blind] = X_AXIS
    # two parts that both fill the view agree whatever they belong to
    filled = (x.filled | x.blind) & (y.filled | y.blind)
    evidence = np.where(blind_axis == NO_AXIS, CLEAR, SEAM)
    evidence[filled] = FILLED
    iou = _iou_in_view(detections, i, j, view, x, y)
    agreement = _agreement(iou, blind_axis, x, y)
    pairs = ViewPairs(
        i=i,
        j=j,
        view=view,
        blind_axis=blind_axis,
        thin=x.seam | y.seam,
        evidence=evidence,
        agreement=agreement,
        tiebreak=iou,
        piece=np.zeros(len(i), bool),
    )
    meet = x.meets(edge) & y.meets(edge)
    return pairs.take(meet & ~(x.blind & y.blind))


@dataclass(frozen=True, slots=True, eq=False)
class _Intervals:
    """Intervals on one axis, `(P,)` each."""

    start: Floats
    end: Floats

    @classmethod
    def of(cls, boxes: Floats, index: Ints, axis: int | Ints) -> _Intervals:
        """Of boxes at an index, on one axis or each on its own."""
        return cls(boxes[index, axis], boxes[index, axis + 2])

    def within(self, other: _Intervals) -> _Intervals:
        """What they have in common with others; it ends before it starts where that is nothing."""
        start = np.maximum(self.start, other.start)
        end = np.minimum(self.end, other.end)
        return _Intervals(start, end)

    def length(self) -> Floats:
        return np.maximum(self.end - self.start, 0.0)

    def gap(self, other: _Intervals) -> Floats:
        """The distance between them and others; negative where they overlap."""
        last_start = np.maximum(self.start, other.start)
        first_end = np.minimum(self.end, other.end)
        return last_start - first_end

    def is_same(self, other: _Intervals) -> Bools:
        same_start = self.start == other.start
        same_end = self.end == other.end
        return np.asarray(same_start & same_end)

    def reaches_end_of(self, view: _Intervals) -> Bools:
        return (self.start <= view.start) | (self.end >= view.end)


@dataclass(frozen=True, slots=True, eq=False)
class _AxisView:
    """The common view of pairs on one axis, and the parts of both boxes in it, `(P,)` each.

    Attributes:
        low, high: where the view begins and ends.
        one, other: the lengths of the parts.
        gap: between the parts, px; negative where they overlap, by `common`.
        seam: the view is thin.
        blind: it tells nothing across: it is a seam, or cuts a part down to a sliver.
        filled: both parts fill it.
    """

    low: Floats
    high: Floats
    one: Floats
    other: Floats
    gap: Floats
    common: Floats
    seam: Bools
    blind: Bools
    filled: Bools

    @classmethod
    def of(cls, detections: TileDetections, i: Ints, j: Ints, edge: Floats, axis: int) -> _AxisView:
        view = _view_on_axis(detections, i, j, axis)
        one = _Intervals.of(detections.snapped, i, axis).within(view)
        other = _Intervals.of(detections.snapped, j, axis).within(view)
        gap = one.gap(other)
        one_length = one.length()
        other_length = other.length()
        shorter = np.minimum(one_length, other_length)
        sliver = one.reaches_end_of(view) | other.reaches_end_of(view)
        sliver &= shorter < THIN / 2 * edge
        seam = view.end - view.start <= THIN * edge
        return cls(
            low=view.start,
            high=view.end,
            one=one_length,
            other=other_length,
            gap=gap,
            common=np.maximum(-gap, 0.0),
            seam=seam,
            blind=seam | sliver,
            filled=one.is_same(view) & other.is_same(view),
        )

    def meets(self, edge: Floats) -> Bools:
        """Whether the parts meet; across a blind axis they may be `edge` px apart."""
        return self.gap <= np.where(self.blind, edge, 0.0)

    def iou(self, index: Ints) -> Floats:
        """IoU of the parts on this axis, of the pairs at an index."""
        return similarity.share(self.common[index], self.one[index], self.other[index], "iou")


def _view_on_axis(detections: TileDetections, i: Ints, j: Ints, axis: int) -> _Intervals:
    """The common view of the tiles of pairs, on one axis."""
    rects, tile = detections.tiles.rects, detections.tile
    one = _Intervals.of(rects, tile[i], axis)
    other = _Intervals.of(rects, tile[j], axis)
    return one.within(other)


def _one_axis_tells(x: _AxisView, y: _AxisView) -> tuple[_AxisView, _AxisView]:
    """Where slivers would blind both axes, only seams are blind."""
    both = x.blind & y.blind
    x = replace(x, blind=np.where(both, x.seam, x.blind))
    y = replace(y, blind=np.where(both, y.seam, y.blind))
    return x, y


def _iou_in_view(
    detections: TileDetections, i: Ints, j: Ints, view: Floats, x: _AxisView, y: _AxisView
) -> Floats:
    """`(P,)` IoU of the parts in the view, of boxes snapped or as given, whichever is higher: not
    every box that ends near its tile's edge is cut by it.
    """
    common = x.common * y.common
    one_area = x.one * y.one
    other_area = x.other * y.other
    iou = similarity.share(common, one_area, other_area, "iou")
    moved = np.flatnonzero(detections.moved[i] | detections.moved[j])
    given = detections.instances.boxes
    one = box.intersection(given[i[moved]], view[moved])
    other = box.intersection(given[j[moved]], view[moved])
    iou[moved] = np.maximum(iou[moved], similarity.of_boxes(one, other))
    return iou


def _agreement(iou: Floats, blind_axis: Ints, x: _AxisView, y: _AxisView) -> Floats:
    """`(P,)` IoU in the view, or where an axis is blind, of the lengths along the other."""
    agreement = iou.copy()
    for across, along in ((X_AXIS, y), (Y_AXIS, x)):
        k = np.flatnonzero(blind_axis == across)
        agreement[k] = along.iou(k)
    return agreement


# --- 2. distance


def _by_distance(detections: TileDetections, pairs: ViewPairs) -> ViewPairs:
    """Where an axis is blind, the distance of the boxes across it breaks ties, and pairs further
    apart than `TileRects.edge` are left out.
    """
    boxes = detections.instances.boxes
    k = np.flatnonzero(pairs.blind_axis != NO_AXIS)
    i, j = pairs.i[k], pairs.j[k]
    across = pairs.blind_axis[k]
    one = _Intervals.of(boxes, i, across)
    other = _Intervals.of(boxes, j, across)
    gap = one.gap(other)
    tiebreak = pairs.tiebreak.copy()
    tiebreak[k] = -np.maximum(gap, 0.0)
    near = np.ones(len(pairs.i), bool)
    near[k] = gap <= detections.pair_edge(i, j)
    return replace(pairs, tiebreak=tiebreak).take(near)


# --- 3. shapes


def _by_shapes(detections: TileDetections, rings: Rings, pairs: ViewPairs) -> ViewPairs:
    """Pairs compared by the areas of their OBBs or outlines in the view."""
    pairs = _with_clear_slivers(pairs)
    parts = _ShapeParts.of(rings, pairs)
    agreement = similarity.of_shapes(parts.one, parts.other)
    tiebreak = np.where(pairs.blind_axis == NO_AXIS, agreement, pairs.tiebreak)
    unclear = pairs.evidence < CLEAR
    if detections.instances.task == "obb" and unclear.any():
        # where shapes tell little, their directions do
        tiebreak = np.where(unclear, tiebreak - _turns(rings, pairs), tiebreak)
    piece = pairs.piece
    if detections.instances.task == "segment":
        piece = _pieces(detections, pairs, parts)
    return replace(pairs, agreement=agreement, tiebreak=tiebreak, piece=piece)


def _with_clear_slivers(pairs: ViewPairs) -> ViewPairs:
    """Slivers of boxes are blind, but the shapes in them can be compared; seams stay blind."""
    sliver = (pairs.blind_axis != NO_AXIS) & ~pairs.thin
    cleared = sliver & (pairs.evidence == SEAM)
    blind_axis = np.where(sliver, NO_AXIS, pairs.blind_axis)
    evidence = np.where(cleared, CLEAR, pairs.evidence)
    return replace(pairs, blind_axis=blind_axis, evidence=evidence)


@dataclass(frozen=True, slots=True, eq=False)
class _ShapeParts:
    """What the views show of the shapes of pairs.

    Attributes:
        one, other: `(P,)` shapely geometries; at a seam, what they cover along it.
        stop_short: indices of pairs of which one ends before the seam.
    """

    one: Objects
    other: Objects
    stop_short: Ints

    @classmethod
    def of(cls, rings: Rings, pairs: ViewPairs) -> _ShapeParts:
        first, second = similarity.shapes_of_pairs(rings, pairs.i, pairs.j)
        one = _in_view(first, pairs.view, pairs.blind_axis, LINE)
        other = _in_view(second, pairs.view, pairs.blind_axis, LINE)
        stop_short = np.flatnonzero(shapely.is_empty(one) | shapely.is_empty(other))
        view = pairs.view[stop_short]
        blind_axis = pairs.blind_axis[stop_short]
        one[stop_short] = _in_view(first[stop_short], view, blind_axis, EDGE)
        other[stop_short] = _in_view(second[stop_short], view, blind_axis, EDGE)
        return cls(one, other, stop_short)


def _in_view(shapes: Objects, view: Floats, blind_axis: Ints, margin: float) -> Objects:
    """What the views show of shapes; at a seam, what they cover along it.

    Args:
        margin: px on either side of a seam that count as the seam.
    """
    view = view.copy()
    for axis in (X_AXIS, Y_AXIS):
        view[blind_axis == axis, axis] -= margin
        view[blind_axis == axis, axis + 2] += margin
    return _bars(overlay.common(shapes, shapely.box(*view.T)), blind_axis)


def _bars(shapes: Objects, blind_axis: Ints) -> Objects:
    """Shapes at a seam become what they cover along it, one px wide; others stay."""
    if (blind_axis == NO_AXIS).all():
        return shapes
    result = shapes.copy()
    for axis in (X_AXIS, Y_AXIS):
        at_seam = np.flatnonzero(blind_axis == axis)
        result[at_seam] = _bars_along(shapes[at_seam], axis)
    return result


def _bars_along(shapes: Objects, across: int) -> Objects:
    """What each shape covers along a seam, as bars that are one px wide on the axis across."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    bounds = shapely.bounds(parts)
    bounds[:, across] = 0.0
    bounds[:, across + 2] = 1.0
    filled = ~np.isnan(bounds).any(axis=1)
    bars = shapely.box(*bounds[filled].T)
    owners, first = np.unique(owner[filled], return_index=True)
    result = np.full(len(shapes), shapely.Polygon(), dtype=object)
    result[owners] = overlay.united(bars, first)
    return result


def _turns(rings: Rings, pairs: ViewPairs) -> Floats:
    """`(P,)` the angle between the OBBs of each pair, 0 to an eighth of a turn, in radians."""
    used, at_i, at_j = similarity.used_by_pairs(pairs.i, pairs.j)
    along, _ = polygons.axes(rings.take(used).quads())
    angle = np.arctan2(along[:, 1], along[:, 0])
    between = angle[at_i] - angle[at_j]
    turned = (between + QUARTER / 2) % QUARTER
    return np.abs(turned - QUARTER / 2)


def _pieces(detections: TileDetections, pairs: ViewPairs, parts: _ShapeParts) -> Bools:
    """`(P,)` pairs whose smaller part was cut by its tile and lies in the larger one."""
    one_is_smaller = shapely.area(parts.one) <= shapely.area(parts.other)
    smaller = np.where(one_is_smaller, pairs.i, pairs.j)
    within = similarity.of_shapes(parts.one, parts.other, "ios") >= WITHIN
    piece = detections.cut[smaller].any(axis=1) & within
    piece[parts.stop_short] = False
    return np.asarray(piece)


# --- 4. keypoints


def _by_keypoints(instances: Instances, keypoints: Floats, pairs: ViewPairs) -> ViewPairs:
    """Pairs compared by the OKS of the keypoints that both have in the view, if there are any."""
    one, other = keypoints[pairs.i], keypoints[pairs.j]
    counted = labelled(one) & labelled(other)
    counted &= _points_in_view(one, pairs.view)
    counted &= _points_in_view(other, pairs.view)
    one_area = box.area(instances.boxes[pairs.i])
    other_area = box.area(instances.boxes[pairs.j])
    area = np.maximum(one_area, other_area)
    oks = similarity.oks(one[..., :2], other[..., :2], counted, area)
    shared = counted.any(axis=1)
    agreement = np.where(shared, oks, pairs.agreement)
    evidence = np.where(shared, CLEAR, pairs.evidence)
    return replace(pairs, agreement=agreement, evidence=evidence)


def _points_in_view(points: Floats, view: Floats) -> Bools:
    """`(P, K)` the keypoints that lie in the view of their pair."""
    low = view[:, None, :2]
    high = view[:, None, 2:]
    xy = points[..., :2]
    in_view = (xy >= low) & (xy <= high)
    return np.asarray(in_view.all(axis=-1))
