"""The Common-View Merge, from groups of detections to one for each object."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import polygons, ragged
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import meetings
from tiler.matching import common_view, view_pairs
from tiler.matching.tiles import Tiles, cut_sides
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

SHOWN = 0.9  # of an orphan lies in a tile that did not report it
DECAY = 0.5  # what becomes of its confidence


def cvm(rivals: Competition) -> Result:
    own, tile, tiles, n = rivals.own, rivals.tile, rivals.tiles, len(rivals.own)
    cut = cut_sides(own.boxes, tile, tiles)
    leader = common_view.groups(own, tile, tiles, rivals.kind, rivals.threshold)
    alone: Bools = np.bincount(leader, minlength=n)[leader] == 1
    members, starts = members_of(np.where(alone, -1, leader))
    fused, unseen = _fused(rivals, members, starts)
    heads = members[starts]
    out, open_ = own.put(heads, fused), cut.copy()
    open_[heads] = unseen
    leader = _absorbed(out.boxes, open_, rivals, leader)
    alone &= leader == np.arange(n)
    orphan = np.zeros(n, bool)
    if rivals.options.orphans != "keep":
        orphan = _orphans(own, tile, tiles, alone & cut.any(axis=1))
    fate = np.where(orphan, ORPHAN, np.where(leader == np.arange(n), KEPT, FUSED))
    out = replace(out, conf=np.where(orphan, DECAY, 1.0) * out.confidence)
    leader = np.where(orphan & (rivals.options.orphans == "drop"), -1, leader)
    return Result(leader, fate, out.take(leader == np.arange(n)))


def _absorbed(boxes: Floats, unseen: Bools, rivals: Competition, leader: Ints) -> Ints:
    """Leaders, where fragments that no view could match belong to the object that they lie in.

    A fragment is a sliver at the edge of its tile, or what fills its tile from side to side:
    nobody saw it end. Nor is a group an object of which nobody saw any side. They go to the
    smallest detection that holds them, if there is one.

    Args:
        boxes, unseen: of the merged detections, right at their leaders.
    """
    leads = np.flatnonzero(leader == np.arange(len(leader)))
    sides = boxes[:, 2:] - boxes[:, :2]
    sliver = (sides < view_pairs.THIN * rivals.tiles.edge[rivals.tile][:, None]) & (
        unseen[:, :2] | unseen[:, 2:]
    )
    spanning = unseen[:, :2] & unseen[:, 2:]
    dark = np.asarray(unseen.all(axis=1))
    # What a tile tells apart itself, of things that it could see end, is two objects. Of a bent
    # outline it sees pieces.
    large = dark[leader] | spanning.any(axis=1) | (rivals.own.task == "segment")
    count = len(rivals.tiles.rects)
    seen = leader * count + rivals.tile
    loose = np.union1d(leads[(sliver | spanning)[leads].any(axis=1)], np.flatnonzero(dark[leader]))
    shown = np.where(dark[leader, None], rivals.own.boxes, boxes)[loose]
    holders = leads[~dark[leads]]
    to, least = np.arange(len(leader)), np.full(len(leader), np.inf)
    for i, j in meetings(shown, boxes[holders]):
        i, j, part = loose[i], holders[j], shown[i]
        holds = box.area(box.intersection(part, boxes[j])) >= SHOWN * box.area(part)
        holds &= (rivals.kind[i] == rivals.kind[j]) & (box.area(boxes[j]) > box.area(part))
        i, j = i[holds], j[holds]
        ours = np.isin(j * count + rivals.tile[i], seen[np.isin(leader, j)])
        may = large[i] | ~ours
        i, j = i[may], j[may]
        area = box.area(boxes[j])
        order = np.lexsort((j, area, i))
        # the smallest of each; of equals the first
        order = order[ragged.firsts(i[order])]
        i, j, area = i[order], j[order], area[order]
        less = (area < least[i]) | ((area == least[i]) & (j < to[i]))
        to[i[less]], least[i[less]] = j[less], area[less]
    while not np.array_equal(to, to[to]):  # a fragment in a fragment in an object
        to = to[to]
    return np.where(to != np.arange(len(to)), to, to[leader])


def _fused(rivals: Competition, members: Ints, starts: Ints) -> tuple[Instances, Bools]:
    """One detection for each group of members, and `(G, 4)` the sides that nobody saw."""
    own, tile, tiles = rivals.own.take(members), rivals.tile[members], rivals.tiles
    if not len(starts):
        return own, np.zeros((0, 4), bool)
    # members are in canonical order: the first is the most confident
    out, conf = own.take(starts), own.confidence
    boxes, seen = fusing.sides(own.boxes, conf, tile, tiles, starts)
    columns: dict[str, Any] = {"boxes": boxes}
    if own.task == "obb" and own.rings is not None:
        columns["rings"] = polygons.Rings.from_quads(
            fusing.quads(own.rings.quads(), conf, tile, tiles, starts)
        )
        columns["boxes"] = columns["rings"].bounds()
    elif own.rings is not None:
        columns["rings"] = fusing.outlines(own.rings, starts, tile, tiles)
        columns["boxes"] = columns["rings"].bounds()
    if own.keypoints is not None:
        columns["keypoints"] = fusing.keypoints(own.keypoints, conf, tile, tiles, starts)
    if rivals.mixed:
        columns["class_id"] = fusing.classes(own.class_id, conf, starts)
    return out.changed(**columns), ~seen


def _orphans(own: Instances, tile: Ints, tiles: Tiles, lone: Bools) -> Bools:
    """`(N,)` those of the lone cut detections that another tile shows nearly whole, and did not
    report.
    """
    chosen = np.flatnonzero(lone)
    result = np.zeros(len(own), bool)
    for i, t in meetings(own.boxes[chosen], tiles.rects):
        k = chosen[i]
        shown = box.area(box.intersection(own.boxes[k], tiles.rects[t])) >= SHOWN * box.area(
            own.boxes[k]
        )
        result[k[shown & (t != tile[k]) & tiles.witness[t]]] = True
    return result
