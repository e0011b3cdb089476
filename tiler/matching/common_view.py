"""The Common-View Merge: what two tiles both see must look the same in both.

Two tiles share a view, the pixels that belong to both. If two detections are the same
object, then their parts in that view coincide, whatever the tiles cut off outside it.
IoU of the whole boxes fails for a whole and a part, IoS for nested and neighbouring
objects, and both for two halves; the IoU within the common view holds for all of them.

1. Pairs of detections of different tiles are compared in the common view (`view_pairs`); those
   that agree may be the same object (`ViewMatcher`).
2. What such pairs connect is one object, unless a tile has two detections of it.
3. Then pairs are joined one by one, the strongest evidence first, so that each object has at most
   one detection of each tile (`groups`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import held, room
from tiler.matching import crowded_view
from tiler.matching.crowds import joined
from tiler.matching.groups import Extents, Joins, Pairs, components, crowded_groups, one_a_tile
from tiler.matching.tiles import OUTWARDS, SHORT, TileDetections, TileRects, sizes
from tiler.matching.view_matcher import ViewMatcher, ViewMatches
from tiler.matching.view_pairs import CLEAR

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

STEP_SHAPES = 4096  # pairs of a crowd's shapes that are compared at once
# Up to this number of pairs of shapes, and for each shape that number more, all are compared
SHAPES, SHAPES_EACH = 10_000, 20


def groups(
    instances: Instances, tile: Ints, tiles: TileRects, kind: Ints, threshold: Floats
) -> Ints:
    """`(N,)` for each detection the lowest index of those that are the same object.

    Args:
        instances: in canonical order, source pixels.
        tile: `(N,)` which tile saw each.
        kind: `(N,)` only detections of one kind (a class, or a group of classes) are matched.
        threshold: `(N,)` least agreement (IoU) within the common view.
    """
    matcher = ViewMatcher(TileDetections.of(instances, tile, tiles), kind, threshold)
    portions = _all_matches(matcher)
    if portions is None:
        return _groups_of_crowds(matcher)
    if not portions:
        return np.arange(len(instances))
    return _grouped(matcher, ViewMatches.joined(portions))


def _all_matches(matcher: ViewMatcher) -> list[ViewMatches] | None:
    """All matching pairs, in portions; None if there are too many, in a crowd."""
    n = len(matcher.instances)
    if matcher.instances.rings is not None:
        most = SHAPES + SHAPES_EACH * n
        if held(matcher.close_pairs(), most) is None:
            return None
    portions = (matcher.matches(i, j) for i, j in matcher.close_pairs())
    return held(portions, room(n))


def _grouped(matcher: ViewMatcher, matches: ViewMatches) -> Ints:
    """`(N,)` groups of detections that matches connect; crowded groups are joined pair by pair."""
    label = components(len(matcher.instances), matches.i, matches.j)
    crowded = crowded_groups(label, matcher.tile)
    if not crowded.any():
        return label
    open_ = np.flatnonzero(crowded[label[matches.i]])  # only there the order counts
    pairs = _in_order(matches.take(open_))
    extents = _extents(matcher.instances, matcher.tile, matcher.tiles)
    apart = one_a_tile(pairs, matcher.tile, extents, matcher.piece_test())
    return np.where(crowded[label], apart, label)


def _in_order(matches: ViewMatches) -> Pairs:
    """Pairs in the order in which they are joined: by evidence, agreement, tie-break, indices."""
    i, j, evidence = matches.i, matches.j, matches.evidence
    agreement, tiebreak = matches.agreement, matches.tiebreak
    order = np.lexsort((j, i, -tiebreak, -agreement, -evidence))
    doubtful = evidence < CLEAR
    return Pairs(i, j, matches.piece, doubtful).take(order)


def _groups_of_crowds(matcher: ViewMatcher) -> Ints:
    """The same groups where too many boxes lie on one spot: connected portion by portion, then each
    crowd joined pair by pair.
    """
    tile, candidates = matcher.tile, matcher.candidates
    step = None
    if matcher.instances.rings is not None:
        step = STEP_SHAPES
    boxes = matcher.snapped[candidates]
    kind = matcher.kind[candidates]
    connected = joined(boxes, kind, matcher.matching_candidates, matcher.reach, step)
    label = np.arange(len(tile))
    label[candidates] = candidates[connected]
    crowded = crowded_groups(label, tile)
    members = np.flatnonzero(crowded[label])
    extents = _extents(matcher.instances, tile, matcher.tiles)
    joins = Joins(tile, extents, matcher.piece_test())
    crowded_view.join(matcher, members, label, joins)
    label[members] = members
    joins.write(label)
    return label


def _extents(instances: Instances, tile: Ints, tiles: TileRects) -> Extents:
    """How far each detection reaches, and can reach: a side near its tile's edge may go on beyond.

    Of outlines and OBBs the boxes do not tell that; they may go on anywhere.
    """
    reach = instances.boxes * OUTWARDS
    if instances.rings is not None:
        return Extents(reach, np.full_like(reach, np.inf))
    rects = tiles.rects[tile]
    near = SHORT * sizes(rects).min(axis=1, keepdims=True)
    to_edge = rects * OUTWARDS - reach
    open_ = tiles.interior[tile] & (to_edge < near)
    end = np.where(open_, np.inf, reach + near)
    return Extents(reach, end)
