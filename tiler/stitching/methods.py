"""The methods of merging, but for the Common-View Merge: competition of all detections, whatever
tile they are from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry.neighbours import meetings
from tiler.matching import crowds, suppression
from tiler.matching.tiles import Tiles
from tiler.stitching import fusing
from tiler.stitching.competition import (
    FUSED,
    KEPT,
    SUPPRESSED,
    Competition,
    Result,
    members_of,
    places,
)

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

# soft-NMS takes as long for so many pairs, one by one, as for a row of a crowd, and for a choice
# among so many rows
PAIRS, ROW, CHOICE = 50_000, 12, 5000


def none(rivals: Competition) -> Result:
    return rivals.result(np.arange(len(rivals.own)), KEPT)


def nms(rivals: Competition) -> Result:
    return rivals.result(rivals.suppressors(), SUPPRESSED)


def greedy_nmm(rivals: Competition) -> Result:
    leader = rivals.suppressors()
    grown = suppression.grown(rivals.own.boxes, leader, rivals.metric, rivals.threshold)
    return _united(rivals, leader, grown)


def nmm(rivals: Competition) -> Result:
    leader = rivals.components()
    boxes = rivals.own.boxes.copy()
    np.minimum.at(boxes[:, :2], leader, rivals.own.boxes[:, :2])
    np.maximum.at(boxes[:, 2:], leader, rivals.own.boxes[:, 2:])
    return _united(rivals, leader, boxes)


def wbf(rivals: Competition) -> Result:
    """Of boxes as published; OBBs and outlines have no mean, so they cluster around the most
    confident one.
    """
    if rivals.own.rings is not None:
        leader = rivals.suppressors()
        number = np.bincount(leader, minlength=len(leader))
        mean = np.divide(
            np.bincount(leader, rivals.conf, len(leader)),
            number,
            out=rivals.conf.copy(),
            where=number > 0,
        )
        return _united(rivals, leader, rivals.own.boxes, conf=mean)
    pairs = rivals.pairs(least=False)
    if pairs is not None:
        leader, boxes, conf = suppression.wbf(
            rivals.own.boxes, rivals.conf, *pairs[:2], rivals.threshold
        )
    else:
        rows = crowds.BoxOverlaps(rivals.own.boxes, rivals.kind, rivals.metric)
        every = np.arange(len(rivals.own))
        leader, boxes, conf = suppression.clustered(
            rivals.own.boxes, rivals.conf, rows.stronger, every, rivals.threshold
        )
    return _united(rivals, leader, boxes, conf=conf)


def _united(rivals: Competition, leader: Ints, boxes: Floats, **columns: Any) -> Result:
    """Members joined into their leader, whose box is given; outlines are united, OBBs and keypoints
    the leader's.
    """
    own = rivals.own
    if own.task != "segment":
        return rivals.result(
            leader, FUSED, boxes=own.boxes if own.task == "obb" else boxes, **columns
        )
    merged = rivals.result(leader, FUSED, **columns)
    members, starts = members_of(leader)
    parts = own.take(members).rings
    assert parts is not None
    rings = fusing.outlines(parts, starts, rivals.tile[members], rivals.tiles)
    return replace(merged, instances=merged.instances.changed(rings=rings, boxes=rings.bounds()))


def soft_nms(rivals: Competition) -> Result:
    n = len(rivals.own)
    most = PAIRS + n * (ROW + n // CHOICE) if rivals.own.rings is None else None
    pairs = rivals.pairs(least=False, most=most)
    if pairs is not None:
        conf = suppression.soft_nms(rivals.conf, *pairs)
    else:
        conf = suppression.softened(rivals.conf, rivals.rows().waiting)
    return rivals.result(np.arange(len(rivals.own)), KEPT, conf=conf)


def center(rivals: Competition) -> Result:
    """A detection counts if its centre lies deeper in its own tile than in any other that holds it."""
    centre = (rivals.own.boxes[:, :2] + rivals.own.boxes[:, 2:]) / 2
    points = np.concatenate([centre, centre], axis=1)
    own = _depth(points, rivals.tile, rivals.tiles)
    place = places(rivals.tiles)
    owned = np.ones(len(points), bool)
    for i, t in meetings(points, rivals.tiles.rects, reach=1e-9):
        depth = _depth(points[i], t, rivals.tiles)
        deeper = (depth > own[i]) | ((depth == own[i]) & (place[t] < place[rivals.tile[i]]))
        owned[i[deeper & (t != rivals.tile[i])]] = False
    return rivals.result(np.where(owned, np.arange(len(points)), -1), KEPT)


def _depth(points: Floats, tile: Ints, tiles: Tiles) -> Floats:
    """`(N,)` distance to the nearest interior side of the tile, px; inf where it has none."""
    rects = tiles.rects[tile]
    inwards = np.concatenate([points[:, :2] - rects[:, :2], rects[:, 2:] - points[:, 2:]], axis=1)
    return np.asarray(np.where(tiles.interior[tile], inwards, np.inf).min(axis=1, initial=np.inf))
