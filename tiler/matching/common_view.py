"""The Common-View Merge: what two tiles both see must look the same in both.

Two tiles share a view, the pixels that belong to both. If two detections are the same
object, then their parts in that view coincide, whatever the tiles cut off outside it.
IoU of the whole boxes fails for a whole and a part, IoS for nested and neighbouring
objects, and both for two halves; the IoU within the common view holds for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler import areas, polygons
from tiler import boxes as box
from tiler.instances import Instances, labelled
from tiler.lazy import shapely
from tiler.matching import similarity
from tiler.matching.groups import Extents, Pairs, components, crowded_groups, one_a_tile
from tiler.matching.tiles import EDGE, OUTWARDS, SHORT, Tiles, cut_sides
from tiler.neighbours import bounded, neighbours

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Objects

THIN = 4.0  # edges: a common view, or a part of an object in it, that is thinner says nothing across
LINE = 0.01  # px: what lies so near a seam lies on it
# What a common view tells: objects apart; along a seam only; nothing, since both fill it; that one holds the other
SURE, SEAM, FILLED, PIECE = 2, 1, 0, -1
WITHIN = 0.9  # of a piece's area lies in what it is a piece of


def groups(instances: Instances, tile: Ints, tiles: Tiles, kind: Ints, threshold: Floats) -> Ints:
    """`(N,)` for each detection the lowest index of those that are the same object.

    Args:
        instances: in canonical order, source pixels.
        tile: `(N,)` which tile saw each.
        kind: `(N,)` only detections of one kind (a class, or a group of classes) are matched.
        threshold: `(N,)` least IoU within the common view.
    """
    cut = cut_sides(instances.boxes, tile, tiles)
    found = list(bounded(_pairs(instances, cut, tile, tiles, kind, threshold)))
    if not found:
        return np.arange(len(instances))
    i, j, alike, plain, sure, piece = (np.concatenate(column) for column in zip(*found, strict=True))
    label = components(len(instances), i, j)
    crowded = crowded_groups(label, tile)
    if not crowded.any():
        return label
    open_ = np.flatnonzero(crowded[label[i]])  # only there the order counts
    order = open_[np.lexsort((j[open_], i[open_], -plain[open_], -alike[open_], -sure[open_]))]
    pairs = Pairs(i[order], j[order], piece[order], sure[order] < SURE)
    apart = None if instances.task != "segment" else _Pieces(instances, np.asarray(cut.any(axis=1)))
    return np.where(crowded[label], one_a_tile(pairs, tile, _extents(instances, tile, tiles), apart), label)


class _Pieces:
    """Whether two outlines of one tile can be pieces of one object: both are cut, and they do not overlap."""

    def __init__(self, instances: Instances, cut: Bools) -> None:
        self.instances, self.cut = instances, cut

    def __call__(self, one: int, other: int) -> bool:
        assert self.instances.rings is not None
        if not (self.cut[one] and self.cut[other]):
            return False
        shapes = self.instances.rings.take(np.array([one, other])).geometry()
        return bool(similarity.of_shapes(shapes[:1], shapes[1:], "ios")[0] < 1 - WITHIN)


def _extents(instances: Instances, tile: Ints, tiles: Tiles) -> Extents:
    """How far each detection reaches, and can reach: a side near its tile's edge may go on beyond.

    An outline or OBB that lies askew may go on anywhere.
    """
    reach = instances.boxes * OUTWARDS
    if instances.rings is not None:
        return Extents(reach, np.full_like(reach, np.inf))
    rects = tiles.rects[tile]
    near = SHORT * (rects[:, 2:] - rects[:, :2]).min(axis=1, keepdims=True)
    open_ = tiles.interior[tile] & (rects * OUTWARDS - reach < near)
    return Extents(reach, np.where(open_, np.inf, reach + near))


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Candidates, and how their parts in the common view compare. All columns are `(P,)`.

    Attributes:
        view: `(P, 4)` the pixels that both tiles see.
        blind: the axis that says nothing: 0 x, 1 y, -1 neither.
        thin: since the view itself is thin there.
        sure: how well the view tells objects apart: SURE, SEAM, FILLED or PIECE.
        plain: IoU of the parts in the view; where an axis is blind, the distance of the boxes across, negative.
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

    def take(self, which: Bools) -> _Pairs:
        return _Pairs(*(getattr(self, item.name)[which] for item in fields(self)))


Columns = tuple["Ints", "Ints", "Floats", "Floats", "Ints", "Bools"]


def _pairs(instances: Instances, cut: Bools, tile: Ints, tiles: Tiles, kind: Ints, threshold: Floats) -> Iterator[Columns]:
    """Pairs that may be the same object: i, j, alike, plain, sure, piece."""
    # detectors end cut objects a little before the edge
    snapped = np.where(cut, tiles.rects[tile], instances.boxes)
    near = np.flatnonzero(~box.inside(snapped, _cores(tiles)[tile]))
    reach = float(tiles.edge[tile[near]].max(initial=0.0))
    for a, b in neighbours(snapped[near], kind[near], reach):
        i, j = near[a], near[b]
        apart = tile[i] != tile[j]
        pairs = _by_boxes(snapped, instances.boxes, tile, tiles, i[apart], j[apart])
        pairs = _by_distance(instances.boxes, pairs, tiles.edge[tile])
        if instances.rings is not None and len(pairs.i):
            pairs = _by_shapes(instances, pairs, np.asarray(cut.any(axis=1)))
        if instances.keypoints is not None:
            pairs = _by_keypoints(instances, pairs)
        enough = pairs.alike >= np.minimum(threshold[pairs.i], threshold[pairs.j])
        sure = np.where(enough, pairs.sure, PIECE)
        good = enough | pairs.piece
        yield pairs.i[good], pairs.j[good], pairs.alike[good], pairs.plain[good], sure[good], pairs.piece[good]


def _cores(tiles: Tiles) -> Floats:
    """`(T, 4)` a part of each tile that no other tile sees; what lies in it has no partner."""
    cores = tiles.rects * OUTWARDS
    reach = float(tiles.edge.max(initial=0.0))
    for i, j in neighbours(tiles.rects, None, reach):
        for one, other in ((i, j), (j, i)):
            rects = tiles.rects[one]
            view = box.intersection(rects, tiles.rects[other])
            length = np.tile(rects[:, 2:] - rects[:, :2], 2)
            # of the four straight cuts that keep a view out, the one that leaves most
            limit = view[:, [2, 3, 0, 1]] * OUTWARDS
            side = np.argmax((rects * OUTWARDS)[:, [2, 3, 0, 1]] / length + limit / length, axis=1)
            np.minimum.at(cores, (one, side), limit[np.arange(len(one)), side] - reach)
    return np.asarray(cores * OUTWARDS)


def _by_boxes(boxes: Floats, given: Floats, tile: Ints, tiles: Tiles, i: Ints, j: Ints) -> _Pairs:
    """Candidates judged by their boxes, snapped and as given; those that do not reach into the view together are left out."""
    view = box.intersection(tiles.rects[tile[i]], tiles.rects[tile[j]])
    edge = np.maximum(tiles.edge[tile[i]], tiles.edge[tile[j]])[:, None]
    one, other = box.intersection(boxes[i], view), box.intersection(boxes[j], view)
    gap = np.maximum(one[:, :2], other[:, :2]) - np.minimum(one[:, 2:], other[:, 2:])
    common = np.maximum(-gap, 0.0)
    sides, others = np.maximum(one[:, 2:] - one[:, :2], 0.0), np.maximum(other[:, 2:] - other[:, :2], 0.0)
    along = similarity.share(common, sides, others, "iou")
    plain = similarity.share(common.prod(axis=1), sides.prod(axis=1), others.prod(axis=1), "iou")
    k = np.flatnonzero((boxes[i] != given[i]).any(axis=1) | (boxes[j] != given[j]).any(axis=1))
    as_given = similarity.of_boxes(box.intersection(given[i[k]], view[k]), box.intersection(given[j[k]], view[k]))
    plain[k] = np.maximum(plain[k], as_given)  # near an edge, not every box is cut
    # An axis says nothing where the view is thin, or where the view cuts a part down to a sliver
    seam = view[:, 2:] - view[:, :2] <= THIN * edge
    limited = (np.minimum(one[:, :2], other[:, :2]) <= view[:, :2]) | (np.maximum(one[:, 2:], other[:, 2:]) >= view[:, 2:])
    dumb = seam | (limited & (np.minimum(sides, others) < THIN / 2 * edge))
    dumb[dumb.all(axis=1)] = seam[dumb.all(axis=1)]
    near = np.asarray((gap <= np.where(dumb, edge, 0.0)).all(axis=1) & ~dumb.all(axis=1))
    blind = np.where(dumb.any(axis=1), np.argmax(dumb, axis=1), -1)
    alike = np.where(blind < 0, plain, along[np.arange(len(i)), 1 - np.maximum(blind, 0)])
    # Two parts that both fill the view coincide whatever they belong to
    filled = ((one == view) & (other == view)).reshape(-1, 2, 2).all(axis=1) | dumb
    sure = np.where(filled.all(axis=1), FILLED, np.where(blind < 0, SURE, SEAM))
    return _Pairs(i, j, view, blind, np.asarray(seam.any(axis=1)), sure, plain, alike, np.zeros(len(i), bool)).take(near)


def _by_distance(boxes: Floats, pairs: _Pairs, edge: Floats) -> _Pairs:
    """Of pairs equally alike along a seam those that end nearer to each other come first, and far ones never."""
    k = np.flatnonzero(pairs.blind >= 0)
    axis = pairs.blind[k]
    one, other = boxes[pairs.i[k]], boxes[pairs.j[k]]
    at = np.arange(len(k))
    gap = np.maximum(one[at, axis], other[at, axis]) - np.minimum(one[at, axis + 2], other[at, axis + 2])
    plain, near = pairs.plain.copy(), np.ones(len(pairs.i), bool)
    plain[k] = -np.maximum(gap, 0.0)
    near[k] = gap <= np.maximum(edge[pairs.i[k]], edge[pairs.j[k]])
    return replace(pairs, plain=plain).take(near)


def _by_shapes(instances: Instances, pairs: _Pairs, cut: Bools) -> _Pairs:
    """The same judgement by OBBs or outlines. `cut`: which are cut by their tile, of outlines."""
    rings = instances.rings
    assert rings is not None
    sliver = (pairs.blind >= 0) & ~pairs.thin  # shapes can be compared there
    sure = np.where(sliver & (pairs.sure == SEAM), SURE, pairs.sure)
    pairs = replace(pairs, blind=np.where(sliver, -1, pairs.blind), sure=sure)
    used, at = np.unique(np.concatenate([pairs.i, pairs.j]), return_inverse=True)
    shapes = rings.take(used).geometry()
    first, second = shapes[at[: len(pairs.i)]], shapes[at[len(pairs.i) :]]
    one, other = _shown(first, pairs.view, pairs.blind, LINE), _shown(second, pairs.view, pairs.blind, LINE)
    short = np.flatnonzero(shapely.is_empty(one) | shapely.is_empty(other))  # they end before the seam
    for part, whole in ((one, first), (other, second)):
        part[short] = _shown(whole[short], pairs.view[short], pairs.blind[short], EDGE)
    alike = similarity.of_shapes(one, other)
    plain = np.where(pairs.blind < 0, alike, pairs.plain)
    if instances.task == "obb":  # where shapes tell little, their directions do
        corners = rings.take(used).quads()
        along, _ = polygons.axes(corners)
        angle = np.arctan2(along[:, 1], along[:, 0])[at]
        turn = np.abs((angle[: len(pairs.i)] - angle[len(pairs.i) :] + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        plain = np.where(pairs.sure < SURE, plain - turn, plain)
    piece = pairs.piece
    if instances.task == "segment":
        smaller = np.where(shapely.area(one) <= shapely.area(other), pairs.i, pairs.j)
        piece = cut[smaller] & (similarity.of_shapes(one, other, "ios") >= WITHIN)
        piece[short] = False
    return replace(pairs, plain=plain, alike=alike, piece=piece)


def _shown(shapes: Objects, view: Floats, blind: Ints, wide: float) -> Objects:
    """What the views show of shapes; of blind seams, and `wide` px about them, what they cover along it."""
    view = view.copy()
    for axis in (0, 1):
        view[blind == axis, axis] -= wide
        view[blind == axis, axis + 2] += wide
    return _bars(areas.common(shapes, shapely.box(*view.T)), blind)


def _bars(shapes: Objects, blind: Ints) -> Objects:
    """Shapes at a blind seam become what they cover along it, one px wide; others stay."""
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
        joined[some] = areas.united(bars, first)
        result[which] = joined
    return result


def _by_keypoints(instances: Instances, pairs: _Pairs) -> _Pairs:
    """OKS of the keypoints that both have in the view, where there are any."""
    assert instances.keypoints is not None
    one, other = instances.keypoints[pairs.i], instances.keypoints[pairs.j]
    view = pairs.view[:, None]
    counted = labelled(one) & labelled(other)
    for points in (one, other):
        counted &= ((points[..., :2] >= view[..., :2]) & (points[..., :2] <= view[..., 2:])).all(axis=-1)
    area = np.maximum(box.area(instances.boxes[pairs.i]), box.area(instances.boxes[pairs.j]))
    oks = similarity.oks(one[..., :2], other[..., :2], counted, area)
    shared = counted.any(axis=1)
    return replace(pairs, alike=np.where(shared, oks, pairs.alike), sure=np.where(shared, SURE, pairs.sure))
