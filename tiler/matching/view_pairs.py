"""Pairs of detections that two tiles see, compared within the view that the tiles share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances, labelled
from tiler.geometry.neighbours import neighbours
from tiler.lazy import shapely
from tiler.matching import similarity
from tiler.matching.tiles import EDGE, OUTWARDS, Tiles

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Objects

# edges: a common view, or a part of an object in it, that is thinner says nothing across
THIN = 4.0
LINE = 0.01  # px: what lies so near a seam lies on it
# What a common view tells: objects apart; along a seam only; nothing, since both fill it; that one
# holds the other
SURE, SEAM, FILLED, PIECE = 2, 1, 0, -1
DEEP = 50_000_000  # cells of a table of detections and tiles
WITHIN = 0.9  # of a piece's area lies in what it is a piece of


class _Pieces:
    """Whether two outlines of one tile can be pieces of one object: both are cut, and they do not
    overlap.
    """

    def __init__(self, instances: Instances, cut: Bools) -> None:
        self.instances, self.cut = instances, cut

    def __call__(self, one: int, other: int) -> bool:
        assert self.instances.rings is not None
        if not (self.cut[one] and self.cut[other]):
            return False
        shapes = self.instances.rings.take(np.array([one, other])).geometry()
        return bool(similarity.of_shapes(shapes[:1], shapes[1:], "ios")[0] < 1 - WITHIN)


@dataclass(frozen=True, slots=True, eq=False)
class _ViewPairs(Columns):
    """Candidates, and how their parts in the common view compare. All columns are `(P,)`.

    Attributes:
        view: `(P, 4)` the pixels that both tiles see.
        blind: the axis that says nothing: 0 x, 1 y, -1 neither.
        thin: since the view itself is thin there.
        sure: how well the view tells objects apart: SURE, SEAM, FILLED or PIECE.
        plain: IoU of the parts in the view; where an axis is blind, the distance of the boxes
            across, negative.
        alike: the same, or along the seam where an axis is blind.
        piece: one is a piece of the other, cut off by its tile (of outlines only).
    """

    i: Ints
    j: Ints
    view: Floats
    blind: Ints
    thin: Bools
    sure: Ints
    plain: Floats
    alike: Floats
    piece: Bools


JudgedPairs = tuple["Ints", "Ints", "Floats", "Floats", "Ints", "Bools"]


class ViewMatcher:
    """Detections, and which pairs of them may be the same object.

    Attributes:
        snapped: `(N, 4)` their boxes, with sides that their tiles cut at the tile's edge: detectors
            end there a little before.
        reach: px, no pair is further apart.
    """

    def __init__(
        self,
        instances: Instances,
        cut: Bools,
        tile: Ints,
        tiles: Tiles,
        kind: Ints,
        threshold: Floats,
    ) -> None:
        self.instances, self.cut, self.tile, self.tiles = instances, cut, tile, tiles
        self.kind, self.threshold = kind, threshold
        self.snapped = np.where(cut, tiles.rects[tile], instances.boxes)
        self.near = np.flatnonzero(~box.inside(self.snapped, _cores(tiles)[tile]))
        self.reach = float(tiles.edge[tile[self.near]].max(initial=0.0))

    def met(self) -> Iterator[tuple[Ints, Ints]]:
        """Pairs whose boxes meet, i < j."""
        for a, b in neighbours(self.snapped[self.near], self.kind[self.near], self.reach):
            yield self.near[a], self.near[b]

    def judged(self, i: Ints, j: Ints) -> JudgedPairs:
        """Those of pairs that may be the same object: i, j, alike, plain, sure, piece."""
        instances, tile, tiles = self.instances, self.tile, self.tiles
        apart = tile[i] != tile[j]
        i, j = i[apart], j[apart]
        pairs = _by_boxes(self.snapped, instances.boxes, tile, tiles, i, j)
        pairs = _by_distance(instances.boxes, pairs, tiles.edge[tile])
        if instances.rings is not None and len(pairs.i):
            pairs = _by_shapes(instances, pairs, np.asarray(self.cut.any(axis=1)))
        if instances.keypoints is not None:
            pairs = _by_keypoints(instances, pairs)
        enough = pairs.alike >= np.minimum(self.threshold[pairs.i], self.threshold[pairs.j])
        sure = np.where(enough, pairs.sure, PIECE)
        good = enough | pairs.piece
        return (
            pairs.i[good],
            pairs.j[good],
            pairs.alike[good],
            pairs.plain[good],
            sure[good],
            pairs.piece[good],
        )

    def alike(self, a: Ints, b: Ints) -> tuple[Ints, Ints]:
        """The same by their places in `near`, without the columns."""
        i, j = self.near[a], self.near[b]
        if self.deep is None or self.instances.rings is not None:
            i, j = self.judged(i, j)[:2]
        else:
            apart = self.tile[i] != self.tile[j]
            i, j = i[apart], j[apart]
            deep = self.deep[i, self.tile[j]] & self.deep[j, self.tile[i]]
            one, other = i[deep], j[deep]
            _, good = self.plain(self.snapped[one].T, self.snapped[other].T, one, other)
            one, other = one[good], other[good]
            more = self.judged(i[~deep], j[~deep])
            i = np.concatenate([one, more[0]])
            j = np.concatenate([other, more[1]])
        return np.searchsorted(self.near, i), np.searchsorted(self.near, j)

    def plain(
        self, box: Sequence[Any], others: Sequence[Any], i: Ints | int, j: Ints
    ) -> tuple[Floats, Bools]:
        """How alike pairs of boxes are that lie deep in both views, where IoU tells all, and which
        may be the same object.

        Args:
            box, others: left, top, right and bottom of boxes i and j.
        """
        wide = np.minimum(others[2], box[2]) - np.maximum(others[0], box[0])
        high = np.minimum(others[3], box[3]) - np.maximum(others[1], box[1])
        common = np.maximum(wide, 0.0) * np.maximum(high, 0.0)
        alike = similarity.share(common, self._area[i], self._area[j], "iou")
        good = (
            (wide >= 0) & (high >= 0) & (alike >= np.minimum(self.threshold[i], self.threshold[j]))
        )
        return alike, good

    @cached_property
    def deep(self) -> Bools | None:
        """`(N, T)` which boxes lie well within what their tile and another both see, where that is
        not thin; None of poses.

        So far from its sides, a view tells of boxes what the whole of them tells.
        """
        instances, rects, edge = self.instances, self.tiles.rects, self.tiles.edge
        if instances.keypoints is not None or len(rects) * len(instances) > DEEP:
            return None
        result = np.zeros((len(instances), len(rects)), bool)
        whole = np.flatnonzero((self.snapped == instances.boxes).all(axis=1))
        own, boxes = self.tile[whole], self.snapped[whole]
        for other in np.unique(self.tile[self.near]).tolist():
            view = box.intersection(rects, rects[other])
            thick = view[:, 2:] - view[:, :2] > THIN * np.maximum(edge, edge[other])[:, None]
            view = np.where(np.tile(thick, 2), view, 0.0)[own]
            within = [
                (boxes[:, k] > view[:, k]) & (boxes[:, k + 2] < view[:, k + 2]) for k in (0, 1)
            ]
            result[whole, other] = within[0] & within[1]
        return result

    @cached_property
    def _area(self) -> Floats:
        return box.area(self.snapped)

    def pieces(self) -> _Pieces | None:
        """Which detections of one tile may be pieces of one object: none but outlines."""
        return (
            None
            if self.instances.task != "segment"
            else _Pieces(self.instances, np.asarray(self.cut.any(axis=1)))
        )


def _cores(tiles: Tiles) -> Floats:
    """`(T, 4)` a part of each tile that no other tile sees; what lies in it has no partner."""
    # of tiles with one window two tell as much as all
    _, first, window = np.unique(tiles.rects, axis=0, return_index=True, return_inverse=True)
    window = window.reshape(-1)  # numpy 2.0 gives it another shape
    again = np.setdiff1d(np.arange(len(window)), first)
    _, second = np.unique(window[again], return_index=True)
    windows = tiles.rects[np.concatenate([first, again[second]])]
    cores = windows * OUTWARDS
    reach = float(tiles.edge.max(initial=0.0))
    for i, j in neighbours(windows, None, reach):
        for one, other in ((i, j), (j, i)):
            rects = windows[one]
            view = box.intersection(rects, windows[other])
            length = np.tile(rects[:, 2:] - rects[:, :2], 2)
            # of the four straight cuts that keep a view out, the one that leaves most
            limit = view[:, [2, 3, 0, 1]] * OUTWARDS
            side = np.argmax((rects * OUTWARDS)[:, [2, 3, 0, 1]] / length + limit / length, axis=1)
            np.minimum.at(cores, (one, side), limit[np.arange(len(one)), side] - reach)
    return np.asarray(cores * OUTWARDS)[window]


def _by_boxes(
    boxes: Floats, given: Floats, tile: Ints, tiles: Tiles, i: Ints, j: Ints
) -> _ViewPairs:
    """Candidates judged by their boxes, snapped and as given; those that do not reach into the view
    together are left out.
    """
    a, b = tile[i], tile[j]
    edge = np.maximum(tiles.edge[a], tiles.edge[b])
    across = [_Across.of(boxes, tiles.rects, (i, j), (a, b), edge, axis) for axis in (0, 1)]
    x, y = across
    plain = similarity.share(x.common * y.common, x.one * y.one, x.other * y.other, "iou")
    view = np.stack([x.low, y.low, x.high, y.high], axis=1)
    changed = (boxes != given).any(axis=1)
    k = np.flatnonzero(changed[i] | changed[j])
    as_given = similarity.of_boxes(
        box.intersection(given[i[k]], view[k]), box.intersection(given[j[k]], view[k])
    )
    plain[k] = np.maximum(plain[k], as_given)  # near an edge, not every box is cut
    both = x.dumb & y.dumb
    dumb = [np.where(both, axis.seam, axis.dumb) for axis in across]
    near = (
        (x.gap <= np.where(dumb[0], edge, 0.0))
        & (y.gap <= np.where(dumb[1], edge, 0.0))
        & ~(dumb[0] & dumb[1])
    )
    blind = np.where(dumb[0], 0, np.where(dumb[1], 1, -1))
    alike = plain.copy()
    for axis in (0, 1):
        k = np.flatnonzero(blind == axis)
        along = across[1 - axis]
        alike[k] = similarity.share(along.common[k], along.one[k], along.other[k], "iou")
    # Two parts that both fill the view coincide whatever they belong to
    filled = (x.filled | dumb[0]) & (y.filled | dumb[1])
    sure = np.where(filled, FILLED, np.where(blind < 0, SURE, SEAM))
    return _ViewPairs(
        i, j, view, blind, x.seam | y.seam, sure, plain, alike, np.zeros(len(i), bool)
    ).take(near)


@dataclass(frozen=True, slots=True, eq=False)
class _Across:
    """How the parts of pairs in their common view compare on one axis. All columns are `(P,)`.

    Attributes:
        low, high: the view's sides.
        one, other: how long the parts are.
        gap: between them, negative where they overlap by `common`.
        seam: the view is thin.
        dumb: so it says nothing, or since it cuts a part down to a sliver.
        filled: both parts fill it.
    """

    low: Floats
    high: Floats
    one: Floats
    other: Floats
    gap: Floats
    common: Floats
    seam: Bools
    dumb: Bools
    filled: Bools

    @classmethod
    def of(
        cls,
        boxes: Floats,
        rects: Floats,
        pairs: tuple[Ints, Ints],
        tile: tuple[Ints, Ints],
        edge: Floats,
        axis: int,
    ) -> _Across:
        (i, j), (a, b) = pairs, tile
        low = np.maximum(rects[a, axis], rects[b, axis])
        high = np.minimum(rects[a, axis + 2], rects[b, axis + 2])
        first = np.maximum(boxes[i, axis], low)
        other_first = np.maximum(boxes[j, axis], low)
        last = np.minimum(boxes[i, axis + 2], high)
        other_last = np.minimum(boxes[j, axis + 2], high)
        gap = np.maximum(first, other_first) - np.minimum(last, other_last)
        one, other = np.maximum(last - first, 0.0), np.maximum(other_last - other_first, 0.0)
        seam = high - low <= THIN * edge
        limited = (np.minimum(first, other_first) <= low) | (np.maximum(last, other_last) >= high)
        filled = (first == low) & (other_first == low) & (last == high) & (other_last == high)
        dumb = seam | (limited & (np.minimum(one, other) < THIN / 2 * edge))
        return cls(low, high, one, other, gap, np.maximum(-gap, 0.0), seam, dumb, filled)


def _by_distance(boxes: Floats, pairs: _ViewPairs, edge: Floats) -> _ViewPairs:
    """Of pairs equally alike along a seam those that end nearer to each other come first, and far
    ones never.
    """
    k = np.flatnonzero(pairs.blind >= 0)
    axis = pairs.blind[k]
    one, other = boxes[pairs.i[k]], boxes[pairs.j[k]]
    at = np.arange(len(k))
    gap = np.maximum(one[at, axis], other[at, axis]) - np.minimum(
        one[at, axis + 2], other[at, axis + 2]
    )
    plain, near = pairs.plain.copy(), np.ones(len(pairs.i), bool)
    plain[k] = -np.maximum(gap, 0.0)
    near[k] = gap <= np.maximum(edge[pairs.i[k]], edge[pairs.j[k]])
    return replace(pairs, plain=plain).take(near)


def _by_shapes(instances: Instances, pairs: _ViewPairs, cut: Bools) -> _ViewPairs:
    """The same judgement by OBBs or outlines. `cut`: which are cut by their tile, of outlines."""
    rings = instances.rings
    assert rings is not None
    sliver = (pairs.blind >= 0) & ~pairs.thin  # shapes can be compared there
    sure = np.where(sliver & (pairs.sure == SEAM), SURE, pairs.sure)
    pairs = replace(pairs, blind=np.where(sliver, -1, pairs.blind), sure=sure)
    used, at = np.unique(np.concatenate([pairs.i, pairs.j]), return_inverse=True)
    shapes = rings.take(used).geometry()
    first = shapes[at[: len(pairs.i)]]
    second = shapes[at[len(pairs.i) :]]
    one = _shown(first, pairs.view, pairs.blind, LINE)
    other = _shown(second, pairs.view, pairs.blind, LINE)
    # they end before the seam
    short = np.flatnonzero(shapely.is_empty(one) | shapely.is_empty(other))
    for part, whole in ((one, first), (other, second)):
        part[short] = _shown(whole[short], pairs.view[short], pairs.blind[short], EDGE)
    alike = similarity.of_shapes(one, other)
    plain = np.where(pairs.blind < 0, alike, pairs.plain)
    # where shapes tell little, their directions do
    if instances.task == "obb" and (pairs.sure < SURE).any():
        corners = rings.take(used).quads()
        along, _ = polygons.axes(corners)
        angle = np.arctan2(along[:, 1], along[:, 0])[at]
        turn = np.abs(
            (angle[: len(pairs.i)] - angle[len(pairs.i) :] + np.pi / 4) % (np.pi / 2) - np.pi / 4
        )
        plain = np.where(pairs.sure < SURE, plain - turn, plain)
    piece = pairs.piece
    if instances.task == "segment":
        smaller = np.where(shapely.area(one) <= shapely.area(other), pairs.i, pairs.j)
        piece = cut[smaller] & (similarity.of_shapes(one, other, "ios") >= WITHIN)
        piece[short] = False
    return replace(pairs, plain=plain, alike=alike, piece=piece)


def _shown(shapes: Objects, view: Floats, blind: Ints, wide: float) -> Objects:
    """What the views show of shapes; of blind seams, and `wide` px about them, what they cover
    along it.
    """
    view = view.copy()
    for axis in (0, 1):
        view[blind == axis, axis] -= wide
        view[blind == axis, axis + 2] += wide
    return _bars(overlay.common(shapes, shapely.box(*view.T)), blind)


def _bars(shapes: Objects, blind: Ints) -> Objects:
    """Shapes at a blind seam become what they cover along it, one px wide; others stay."""
    if (blind < 0).all():
        return shapes
    result = shapes.copy()
    for axis in (0, 1):
        which = np.flatnonzero(blind == axis)
        parts, owner = shapely.get_parts(shapes[which], return_index=True)
        spans = shapely.bounds(parts)
        spans[:, axis], spans[:, axis + 2] = 0.0, 1.0
        there = ~np.isnan(spans).any(axis=1)
        bars, owner = shapely.box(*spans[there].T), owner[there]
        joined = np.full(len(which), shapely.Polygon(), dtype=object)
        some, first = np.unique(owner, return_index=True)
        joined[some] = overlay.united(bars, first)
        result[which] = joined
    return result


def _by_keypoints(instances: Instances, pairs: _ViewPairs) -> _ViewPairs:
    """OKS of the keypoints that both have in the view, where there are any."""
    assert instances.keypoints is not None
    one, other = instances.keypoints[pairs.i], instances.keypoints[pairs.j]
    view = pairs.view[:, None]
    counted = labelled(one) & labelled(other)
    for points in (one, other):
        counted &= ((points[..., :2] >= view[..., :2]) & (points[..., :2] <= view[..., 2:])).all(
            axis=-1
        )
    area = np.maximum(box.area(instances.boxes[pairs.i]), box.area(instances.boxes[pairs.j]))
    oks = similarity.oks(one[..., :2], other[..., :2], counted, area)
    shared = counted.any(axis=1)
    return replace(
        pairs, alike=np.where(shared, oks, pairs.alike), sure=np.where(shared, SURE, pairs.sure)
    )
