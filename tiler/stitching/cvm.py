"""The Common-View Merge, from groups of detections to one detection for each object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import polygons, ragged
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import collected, meetings
from tiler.matching import common_view
from tiler.matching.groups import followed
from tiler.matching.tiles import TileRects, cut_sides, sizes
from tiler.matching.view_pairs import THIN
from tiler.stitching import fusing
from tiler.stitching.competition import (
    FUSED,
    KEPT,
    ORPHAN,
    Competition,
    Result,
    members_of,
)

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

HELD = 0.9  # of a fragment lies in the object that it belongs to
SHOWN = 0.9  # of an orphan lies in a tile that did not report it
DECAY = 0.5  # what the confidence of an orphan is multiplied by


def cvm(rivals: Competition) -> Result:
    """Detections that agree in a common view become one; fragments go to the object that holds
    them; orphans lose confidence.
    """
    detections, n = rivals.detections, len(rivals.detections)
    cut = cut_sides(detections.boxes, rivals.tile, rivals.tiles)
    group = common_view.groups(detections, rivals.tile, rivals.tiles, rivals.kind, rivals.threshold)
    merged = _merged(rivals, group, cut)
    alone = np.bincount(group, minlength=n)[group] == 1
    leader = _absorbed(merged, rivals)
    alone &= leader == np.arange(n)
    orphan = np.zeros(n, bool)
    if rivals.options.orphans != "keep":
        lone_cut = alone & cut.any(axis=1)
        orphan = _orphans(detections, rivals.tile, rivals.tiles, lone_cut)
    fate = np.where(leader == np.arange(n), KEPT, FUSED)
    fate[orphan] = ORPHAN
    if rivals.options.orphans == "drop":
        dropped = orphan[leader]  # with the fragments that they absorbed
        fate[dropped] = ORPHAN
        leader = np.where(dropped, -1, leader)
    conf = np.where(orphan, DECAY, 1.0) * merged.instances.confidence
    out = replace(merged.instances, conf=conf)
    return Result(leader, fate, out.take(leader == np.arange(n)))


@dataclass(frozen=True, slots=True, eq=False)
class _MergedGroups:
    """Detections after each group has become one; all columns are right at their leaders.

    Attributes:
        leader: `(N,)` the first of each one's group.
        instances: N detections.
        unseen: `(N, 4)` the sides that nobody saw.
    """

    leader: Ints
    instances: Instances
    unseen: Bools

    def leaders(self) -> Ints:
        return np.flatnonzero(self.leader == np.arange(len(self.leader)))

    def no_side_seen(self) -> Bools:
        """`(N,)` nobody saw any side of it."""
        return np.asarray(self.unseen.all(axis=1))

    def spanning(self) -> Bools:
        """`(N, 2)` it fills its tile from side to side, on each axis."""
        left_and_top = self.unseen[:, :2]
        right_and_bottom = self.unseen[:, 2:]
        return np.asarray(left_and_top & right_and_bottom)


def _merged(rivals: Competition, group: Ints, cut: Bools) -> _MergedGroups:
    """The detections of each group fused into their leader."""
    alone = np.bincount(group, minlength=len(group))[group] == 1
    members, starts = members_of(np.where(alone, -1, group))
    fused, unseen_sides = _fused(rivals, members, starts)
    heads = members[starts]
    unseen = cut.copy()
    unseen[heads] = unseen_sides
    return _MergedGroups(group, rivals.detections.put(heads, fused), unseen)


def _fused(rivals: Competition, members: Ints, starts: Ints) -> tuple[Instances, Bools]:
    """One detection for each group of members, and `(G, 4)` the sides that nobody saw."""
    detections = rivals.detections.take(members)
    tile, tiles = rivals.tile[members], rivals.tiles
    if not len(starts):
        return detections, np.zeros((0, 4), bool)
    # members are in canonical order: the first is the most confident
    out, conf = detections.take(starts), detections.confidence
    boxes, seen = fusing.sides(detections.boxes, conf, tile, tiles, starts)
    columns: dict[str, Any] = {"boxes": boxes}
    if detections.rings is not None:
        if detections.task == "obb":
            quads = fusing.quads(detections.rings.quads(), conf, tile, tiles, starts)
            rings = polygons.Rings.from_quads(quads)
        else:
            rings = fusing.outlines(detections.rings, starts, tile, tiles)
        columns = {"rings": rings, "boxes": rings.bounds()}
    if detections.keypoints is not None:
        columns["keypoints"] = fusing.keypoints(detections.keypoints, conf, tile, tiles, starts)
    if rivals.mixed:
        columns["class_id"] = fusing.classes(detections.class_id, conf, starts)
    return out.changed(**columns), ~seen


# --- fragments


def _absorbed(merged: _MergedGroups, rivals: Competition) -> Ints:
    """`(N,)` leaders, where fragments that no view could match belong to the object that they lie
    in: the smallest detection that holds them, if there is one.
    """
    n = len(merged.leader)
    i, j = _held_fragments(merged, rivals)
    area = box.area(merged.instances.boxes)[j]
    order = np.lexsort((j, area, i))
    smallest = order[ragged.firsts(i[order])]  # of equals the first
    holder = np.arange(n)
    holder[i[smallest]] = j[smallest]
    holder = followed(holder)  # a fragment in a fragment in an object
    is_held = holder != np.arange(n)
    return np.where(is_held, holder, holder[merged.leader])


def _held_fragments(merged: _MergedGroups, rivals: Competition) -> tuple[Ints, Ints]:
    """Fragments i, and detections j of their kind that hold them and may be the same object."""
    fragments = _fragments(merged, rivals)
    shown = _shown_boxes(fragments, merged, rivals)
    holders = merged.leaders()
    holders = holders[~merged.no_side_seen()[holders]]
    held_by = merged.instances.boxes[holders]
    portions = []
    for a, b in meetings(shown, held_by):
        held = _lies_in(shown[a], held_by[b], HELD)
        held &= box.area(held_by[b]) > box.area(shown[a])
        a, b = a[held], b[held]
        portions.append((fragments[a], holders[b]))
    i, j = collected(portions)
    may_be_same = rivals.kind[i] == rivals.kind[j]
    may_be_same &= _may_be_same(merged, rivals, i, j)
    return i[may_be_same], j[may_be_same]


def _fragments(merged: _MergedGroups, rivals: Competition) -> Ints:
    """Detections that may be fragments: slivers at the edge of their tile, and what fills its tile
    from side to side, since nobody saw it end; and all members of groups of which nobody saw any
    side, since those are no objects.
    """
    boxes, unseen = merged.instances.boxes, merged.unseen
    edge = rivals.tiles.edge[rivals.tile]
    thin = sizes(boxes) < THIN * edge[:, None]
    one_end_unseen = unseen[:, :2] | unseen[:, 2:]
    sliver = thin & one_end_unseen
    leaders = merged.leaders()
    fragment = np.asarray((sliver | merged.spanning()).any(axis=1))
    no_objects = np.flatnonzero(merged.no_side_seen()[merged.leader])
    return np.union1d(leaders[fragment[leaders]], no_objects)


def _shown_boxes(fragments: Ints, merged: _MergedGroups, rivals: Competition) -> Floats:
    """The boxes of fragments: as merged; in groups that are no objects, the member's own."""
    no_object = merged.no_side_seen()[merged.leader[fragments]]
    merged_boxes = merged.instances.boxes[fragments]
    return np.where(no_object[:, None], rivals.detections.boxes[fragments], merged_boxes)


def _may_be_same(merged: _MergedGroups, rivals: Competition, i: Ints, j: Ints) -> Bools:
    """`(P,)` whether fragments i can be the same object as detections j.

    They cannot if a tile shows both and could see them end, since it tells them apart itself. Of a
    bent outline, though, a tile shows several pieces.
    """
    not_seen_to_end = merged.no_side_seen()[merged.leader] | merged.spanning().any(axis=1)
    in_pieces = not_seen_to_end | (rivals.detections.task == "segment")
    count = len(rivals.tiles.rects)
    seen = merged.leader * count + rivals.tile
    seen = seen[np.isin(merged.leader, j)]
    in_same_tile = np.isin(j * count + rivals.tile[i], seen)
    return np.asarray(in_pieces[i] | ~in_same_tile)


# --- orphans


def _orphans(detections: Instances, tile: Ints, tiles: TileRects, lone: Bools) -> Bools:
    """`(N,)` those of the lone cut detections that another tile shows nearly whole, and did not
    report.
    """
    index = np.flatnonzero(lone)
    result = np.zeros(len(detections), bool)
    for a, t in meetings(detections.boxes[index], tiles.rects):
        k = index[a]
        unreported = _lies_in(detections.boxes[k], tiles.rects[t], SHOWN)
        unreported &= t != tile[k]
        unreported &= tiles.witness[t]
        result[k[unreported]] = True
    return result


def _lies_in(boxes: Floats, others: Floats, share: float) -> Bools:
    """`(P,)` whether so large a share of a box lies in its partner."""
    common = box.area(box.intersection(boxes, others))
    return np.asarray(common >= share * box.area(boxes))
