"""The methods of merging, but for the Common-View Merge: competition of all detections, whatever tile they are from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry.neighbours import meetings
from tiler.matching import crowds, suppression
from tiler.matching.tiles import Tiles
from tiler.stitching import fusing
from tiler.stitching.competition import FUSED, KEPT, SUPPRESSED, Competition, Result, members_of, places

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

# soft-NMS takes as long for so many pairs, one by one, as for a row of a crowd, and for a choice among so many rows
PAIRS, ROW, CHOICE = 50_000, 12, 5000


def none(contest: Competition) -> Result:
    return contest.result(np.arange(len(contest.own)), KEPT)


def nms(contest: Competition) -> Result:
    return contest.result(contest.suppressors(), SUPPRESSED)


def greedy_nmm(contest: Competition) -> Result:
    leader = contest.suppressors()
    grown = suppression.grown(contest.own.boxes, leader, contest.options.metric, contest.threshold)  # type: ignore[arg-type]
    return _united(contest, leader, grown)


def nmm(contest: Competition) -> Result:
    leader = contest.components()
    boxes = contest.own.boxes.copy()
    np.minimum.at(boxes[:, :2], leader, contest.own.boxes[:, :2])
    np.maximum.at(boxes[:, 2:], leader, contest.own.boxes[:, 2:])
    return _united(contest, leader, boxes)


def wbf(contest: Competition) -> Result:
    """Of boxes as published; OBBs and outlines have no mean, so they cluster around the most confident one."""
    if contest.own.rings is not None:
        leader = contest.suppressors()
        number = np.bincount(leader, minlength=len(leader))
        mean = np.divide(np.bincount(leader, contest.conf, len(leader)), number, out=contest.conf.copy(), where=number > 0)
        return _united(contest, leader, contest.own.boxes, conf=mean)
    pairs = contest.pairs(least=False)
    if pairs is not None:
        leader, boxes, conf = suppression.wbf(contest.own.boxes, contest.conf, *pairs[:2], contest.threshold)
    else:
        rows = crowds.BoxOverlaps(contest.own.boxes, contest.kind, contest.options.metric)  # type: ignore[arg-type]
        every = np.arange(len(contest.own))
        leader, boxes, conf = suppression.clustered(contest.own.boxes, contest.conf, rows.stronger, every, contest.threshold)
    return _united(contest, leader, boxes, conf=conf)


def _united(contest: Competition, leader: Ints, boxes: Floats, **columns: Any) -> Result:
    """Members joined into their leader, whose box is given; outlines are united, OBBs and keypoints the leader's."""
    own = contest.own
    if own.task != "segment":
        return contest.result(leader, FUSED, boxes=own.boxes if own.task == "obb" else boxes, **columns)
    merged = contest.result(leader, FUSED, **columns)
    members, starts = members_of(leader)
    rings = fusing.outlines(own.take(members).rings, starts, contest.tile[members], contest.tiles)  # type: ignore[arg-type]
    return replace(merged, instances=merged.instances.changed(rings=rings, boxes=rings.bounds()))


def soft_nms(contest: Competition) -> Result:
    n = len(contest.own)
    most = PAIRS + n * (ROW + n // CHOICE) if contest.own.rings is None else None
    pairs = contest.pairs(least=False, most=most)
    if pairs is not None:
        conf = suppression.soft_nms(contest.conf, *pairs)
    else:
        conf = suppression.softened(contest.conf, contest.rows().waiting)
    return contest.result(np.arange(len(contest.own)), KEPT, conf=conf)


def center(contest: Competition) -> Result:
    """A detection counts if its centre lies deeper in its own tile than in any other that holds it."""
    centre = (contest.own.boxes[:, :2] + contest.own.boxes[:, 2:]) / 2
    points = np.concatenate([centre, centre], axis=1)
    own = _depth(points, contest.tile, contest.tiles)
    place = places(contest.tiles)
    owned = np.ones(len(points), bool)
    for i, t in meetings(points, contest.tiles.rects, reach=1e-9):
        depth = _depth(points[i], t, contest.tiles)
        deeper = (depth > own[i]) | ((depth == own[i]) & (place[t] < place[contest.tile[i]]))
        owned[i[deeper & (t != contest.tile[i])]] = False
    return contest.result(np.where(owned, np.arange(len(points)), -1), KEPT)


def _depth(points: Floats, tile: Ints, tiles: Tiles) -> Floats:
    """`(N,)` distance to the nearest interior side of the tile, px; inf where it has none."""
    rects = tiles.rects[tile]
    inwards = np.concatenate([points[:, :2] - rects[:, :2], rects[:, 2:] - points[:, 2:]], axis=1)
    return np.asarray(np.where(tiles.interior[tile], inwards, np.inf).min(axis=1, initial=np.inf))
