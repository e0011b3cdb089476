"""The Common-View Merge: what two tiles both see must look the same in both.

Two tiles share a view, the pixels that belong to both. If two detections are the same
object, then their parts in that view coincide, whatever the tiles cut off outside it.
IoU of the whole boxes fails for a whole and a part, IoS for nested and neighbouring
objects, and both for two halves; the IoU within the common view holds for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import held, room
from tiler.matching import crowded_view
from tiler.matching.crowds import joined
from tiler.matching.groups import Extents, Joins, Pairs, components, crowded_groups, one_a_tile
from tiler.matching.tiles import OUTWARDS, SHORT, Tiles, cut_sides
from tiler.matching.view_pairs import SURE, JudgedPairs, ViewMatcher

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

STEP_SHAPES = 4096  # pairs of a crowd's shapes that are compared at once
SHAPES, SHAPES_EACH = 10_000, 20  # pairs of shapes that are compared all, and for each shape more


def groups(instances: Instances, tile: Ints, tiles: Tiles, kind: Ints, threshold: Floats) -> Ints:
    """`(N,)` for each detection the lowest index of those that are the same object.

    Args:
        instances: in canonical order, source pixels.
        tile: `(N,)` which tile saw each.
        kind: `(N,)` only detections of one kind (a class, or a group of classes) are matched.
        threshold: `(N,)` least IoU within the common view.
    """
    cut = cut_sides(instances.boxes, tile, tiles)
    matcher = ViewMatcher(instances, cut, tile, tiles, kind, threshold)
    found = _held(matcher)
    if found is None:
        return _of_crowds(matcher)
    if not found:
        return np.arange(len(instances))
    i, j, alike, plain, sure, piece = (
        np.concatenate(column) for column in zip(*found, strict=True)
    )
    label = components(len(instances), i, j)
    crowded = crowded_groups(label, tile)
    if not crowded.any():
        return label
    open_ = np.flatnonzero(crowded[label[i]])  # only there the order counts
    order = open_[np.lexsort((j[open_], i[open_], -plain[open_], -alike[open_], -sure[open_]))]
    pairs = Pairs(i[order], j[order], piece[order], sure[order] < SURE)
    return np.where(
        crowded[label],
        one_a_tile(pairs, tile, _extents(instances, tile, tiles), matcher.pieces()),
        label,
    )


def _held(matcher: ViewMatcher) -> list[JudgedPairs] | None:
    """The pairs that may be the same object; None of a crowd: too many."""
    n = len(matcher.instances)
    if (
        matcher.instances.rings is not None
        and held(matcher.met(), SHAPES + SHAPES_EACH * n) is None
    ):
        return None
    return held((matcher.judged(i, j) for i, j in matcher.met()), room(n))


def _of_crowds(matcher: ViewMatcher) -> Ints:
    """The same groups, when many boxes lie on one spot: joined portion by portion, and crowds one
    after the other.
    """
    tile, near = matcher.tile, matcher.near
    step = None if matcher.instances.rings is None else STEP_SHAPES
    label = np.arange(len(tile))
    label[near] = near[
        joined(matcher.snapped[near], matcher.kind[near], matcher.alike, matcher.reach, step)
    ]
    crowded = crowded_groups(label, tile)
    joins = Joins(tile, _extents(matcher.instances, tile, matcher.tiles), matcher.pieces())
    members = np.flatnonzero(crowded[label])
    crowded_view.join(matcher, members, label, joins)
    label[members] = members
    for member, group in joins.home.items():
        label[member] = group
    return label


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
