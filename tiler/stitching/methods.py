"""The methods of merging, except for the Common-View Merge: all detections compete, whatever tile
they are from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.neighbours import meetings
from tiler.matching import crowds, suppression
from tiler.matching.tiles import depth
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

# Soft-NMS goes through its pairs one by one up to `PAIRS`, and for each detection `ROW` pairs more,
# and one more for each `CHOICE` detections. Beyond that, going row by row is quicker.
PAIRS, ROW, CHOICE = 50_000, 12, 5000


def none(rivals: Competition) -> Result:
    return rivals.result(np.arange(len(rivals.detections)), KEPT)


def nms(rivals: Competition) -> Result:
    return rivals.result(rivals.suppressors(), SUPPRESSED)


def greedy_nmm(rivals: Competition) -> Result:
    leader = rivals.suppressors()
    boxes = rivals.detections.boxes
    grown = suppression.grown(boxes, leader, rivals.metric, rivals.threshold)
    return _united(rivals, leader, grown)


def nmm(rivals: Competition) -> Result:
    leader = rivals.components()
    boxes = rivals.detections.boxes
    grown = boxes.copy()
    np.minimum.at(box.top_left(grown), leader, box.top_left(boxes))
    np.maximum.at(box.bottom_right(grown), leader, box.bottom_right(boxes))
    return _united(rivals, leader, grown)


def wbf(rivals: Competition) -> Result:
    """Boxes are fused as published. OBBs and outlines have no mean, so they cluster around the most
    confident one.
    """
    detections, conf = rivals.detections, rivals.conf
    if detections.rings is not None:
        leader = rivals.suppressors()
        return _united(rivals, leader, detections.boxes, conf=_mean_conf(leader, conf))
    pairs = rivals.pairs(least=False)
    if pairs is not None:
        i, j, _ = pairs
        leader, boxes, mean = suppression.wbf(detections.boxes, conf, i, j, rivals.threshold)
    else:
        rows = crowds.BoxOverlaps(detections.boxes, rivals.kind, rivals.metric)
        every = np.arange(len(detections))
        leader, boxes, mean = suppression.clustered(
            detections.boxes, conf, rows.stronger, every, rivals.threshold
        )
    return _united(rivals, leader, boxes, conf=mean)


def _mean_conf(leader: Ints, conf: Floats) -> Floats:
    """`(N,)` the mean confidence of each one's members; its own where it leads none."""
    number = np.bincount(leader, minlength=len(leader))
    total = np.bincount(leader, conf, len(leader))
    mean = conf.copy()
    np.divide(total, number, out=mean, where=number > 0)
    return mean


def _united(rivals: Competition, leader: Ints, boxes: Floats, **columns: Any) -> Result:
    """Members joined into their leader, whose box is given; outlines are united, OBBs and keypoints
    the leader's.
    """
    detections = rivals.detections
    if detections.task == "obb":
        return rivals.result(leader, FUSED, boxes=detections.boxes, **columns)
    if detections.task != "segment":
        return rivals.result(leader, FUSED, boxes=boxes, **columns)
    merged = rivals.result(leader, FUSED, **columns)
    members, starts = members_of(leader)
    parts = detections.take(members).rings
    assert parts is not None
    rings = fusing.outlines(parts, starts, rivals.tile[members], rivals.tiles)
    return replace(merged, instances=merged.instances.changed(rings=rings, boxes=rings.bounds()))


def soft_nms(rivals: Competition) -> Result:
    n = len(rivals.detections)
    most = None
    if rivals.detections.rings is None:
        most = PAIRS + n * (ROW + n // CHOICE)
    pairs = rivals.pairs(least=False, most=most)
    if pairs is not None:
        conf = suppression.soft_nms(rivals.conf, *pairs)
    else:
        conf = suppression.softened(rivals.conf, rivals.rows().waiting)
    return rivals.result(np.arange(n), KEPT, conf=conf)


def center(rivals: Competition) -> Result:
    """A detection counts if its centre lies deeper in its own tile than in any other tile."""
    tile, tiles = rivals.tile, rivals.tiles
    centre = box.centres(rivals.detections.boxes)
    points = np.concatenate([centre, centre], axis=1)
    own_depth = depth(points, tile, tiles)
    place = places(tiles)
    owned = np.ones(len(points), bool)
    for i, other in meetings(points, tiles.rects, reach=1e-9):
        other_depth = depth(points[i], other, tiles)
        first = place[other] < place[tile[i]]
        deeper = other_depth > own_depth[i]
        deeper |= (other_depth == own_depth[i]) & first
        owned[i[deeper & (other != tile[i])]] = False
    leader = np.where(owned, np.arange(len(points)), -1)
    return rivals.result(leader, KEPT)
