"""What the detections of one object become: one detection, each side from those who saw it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import overlay, polygons, ragged
from tiler.geometry.instances import labelled
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.matching.tiles import OUTWARDS, SHORT, Tiles, cut_sides

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints


WHOLE = 1 - 1e-9  # of a side that runs within its tile
DEEP = 8  # edges from its tile's edge, a detection is seen as well as anywhere


def sides(
    boxes: Floats, conf: Floats, tile: Ints, tiles: Tiles, starts: Ints
) -> tuple[Floats, Bools]:
    """One box for each group, each side the mean of those members that saw it.

    A member did not see a side where its tile cuts it, nor where it ends shortly before its
    tile's edge while another member reaches beyond that edge. The mean is weighted by
    `trust`. A side that nobody saw is the outermost.

    Args:
        boxes, conf, tile: of the members, one group after the other.
        starts: `(G,)` where each group begins.

    Returns:
        `(G, 4)` boxes, and `(G, 4)` which sides somebody saw.

    >>> tiles = Tiles.of(np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]]), (1152, 640))
    >>> halves = np.array([[300, 100, 640, 200], [512, 100, 900, 200.0]])
    >>> box, seen = sides(halves, np.array([0.9, 0.5]), np.array([0, 1]), tiles, np.array([0]))
    >>> box.tolist(), seen.tolist()
    ([[300.0, 100.0, 900.0, 200.0]], [[True, True, True, True]])
    """
    reached = np.maximum.reduceat(boxes * OUTWARDS, starts, axis=0)
    owner = _owners(starts, len(boxes))
    unseen = cut_sides(boxes, tile, tiles) | _short(boxes, tile, tiles, reached[owner])
    # relative to one of those who saw it, so that what all agree on stays to the last bit
    seen = np.where(unseen, -np.inf, boxes)
    base = np.maximum.reduceat(seen, starts, axis=0)
    weight = np.where(unseen, 0.0, trust(boxes, conf, tile, tiles)[:, None])
    offset = np.where(unseen, 0.0, boxes - base[owner])
    total = np.add.reduceat(weight, starts, axis=0)
    mean = base + np.divide(
        np.add.reduceat(weight * offset, starts, axis=0),
        total,
        out=np.zeros_like(total),
        where=total > 0,
    )
    return np.where(total > 0, mean, reached * OUTWARDS), total > 0


def trust(boxes: Floats, conf: Floats, tile: Ints, tiles: Tiles) -> Floats:
    """`(N,)` weights: the confidence, times how deep a detection lies in its tile.

    Near a cut edge a detector sees less around an object. Depth counts from the width of
    the zone where boxes end at the edge up to eight times that (32 px of a 640 px tile).
    """
    edge, rects = tiles.edge[tile], tiles.rects[tile]
    depth = np.where(tiles.interior[tile], (rects - boxes) * OUTWARDS, np.inf).min(
        axis=1, initial=np.inf
    )
    return np.asarray(np.maximum(conf, 1e-9) * np.clip(depth, edge, DEEP * edge))


def _short(boxes: Floats, tile: Ints, tiles: Tiles, reached: Floats) -> Bools:
    rects = tiles.rects[tile]
    length = np.tile(rects[:, 2:] - rects[:, :2], 2)
    beyond = reached > rects * OUTWARDS
    near = (rects - boxes) * OUTWARDS < SHORT * length
    return np.asarray(tiles.interior[tile] & beyond & near)


def quads(corners: Floats, conf: Floats, tile: Ints, tiles: Tiles, starts: Ints) -> Floats:
    """`(G, 4, 2)` one OBB for each group: the winner's, each side moved to where those who saw it
    have it.

    The winner is the member with most sides seen, then the most confident. A side is seen if a part
    of it runs within the tile: what a tile cuts off has its side beyond. It is the mean of those
    who saw the whole side; where each saw a part of it, the outermost, so that all parts are in.

    Args:
        corners: `(N, 4, 2)` of the members, one group after the other; those that are no rectangle
            count as the smallest one around them.
    """
    n, owner = len(corners), _owners(starts, len(corners))
    corners = polygons.rectangles(corners)
    following = np.roll(corners, -1, axis=1)
    middle = (corners + following) / 2
    normal = _outward(corners)
    share = _inside_share(corners, following, tile, tiles)
    seen = share > 0
    best = np.lexsort((np.arange(n), -conf, -seen.sum(axis=1), owner))[starts]
    frame = normal[best]  # (G, 4, 2)
    # which side of a member is which of the winner's: those that face the same way
    facing = np.argmax(np.einsum("nkd,njd->nkj", frame[owner], normal), axis=2)
    rows = np.arange(n)[:, None]
    share = share[rows, facing]
    offset = np.einsum("nkd,nkd->nk", middle[rows, facing] - middle[best][owner], frame[owner])
    bounds = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    weight = np.where(share >= WHOLE, trust(bounds, conf, tile, tiles)[:, None], 0.0)
    total = np.add.reduceat(weight, starts, axis=0)
    mean = np.divide(
        np.add.reduceat(weight * offset, starts, axis=0),
        total,
        out=np.zeros_like(total),
        where=total > 0,
    )
    in_part = np.maximum.reduceat(np.where(share > 0, offset, -np.inf), starts, axis=0)
    outermost = np.maximum.reduceat(offset, starts, axis=0)
    unseen = np.where(np.isfinite(in_part), in_part, outermost)
    return _moved_sides(corners[best], frame, np.where(total > 0, mean, unseen))


def _owners(starts: Ints, n: int) -> Ints:
    return np.repeat(np.arange(len(starts)), np.diff([*starts, n]))


def _outward(corners: Floats) -> Floats:
    """`(N, 4, 2)` unit normals of the sides, away from the middle; 0 for a side without length."""
    along = np.roll(corners, -1, axis=1) - corners
    normal = np.stack([along[..., 1], -along[..., 0]], axis=-1)
    out = ((corners + along / 2 - corners.mean(axis=1, keepdims=True)) * normal).sum(
        axis=-1, keepdims=True
    )
    normal = normal * np.where(out < 0, -1.0, 1.0)
    size = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.asarray(np.divide(normal, size, out=np.zeros_like(normal), where=size > 0))


def _inside_share(start: Floats, end: Floats, tile: Ints, tiles: Tiles) -> Floats:
    """`(N, 4)` the part of each side that runs within its tile, the zone at cut edges left out
    (Liang-Barsky).
    """
    rects, edge = tiles.rects[tile], tiles.edge[tile][:, None]
    inner = np.where(
        tiles.interior[tile], rects + np.concatenate([edge, edge, -edge, -edge], axis=1), _NOWHERE
    )
    step = end - start
    enter, leave = np.zeros(start.shape[:2]), np.ones(start.shape[:2])
    for axis in (0, 1):
        low = inner[:, None, axis] - start[..., axis]
        high = inner[:, None, axis + 2] - start[..., axis]
        still = step[..., axis] == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = low / step[..., axis], high / step[..., axis]
        a = np.where(still, np.where(low <= 0, -np.inf, np.inf), a)
        b = np.where(still, np.where(high >= 0, np.inf, -np.inf), b)
        enter = np.maximum(enter, np.minimum(a, b))
        leave = np.minimum(leave, np.maximum(a, b))
    return np.maximum(leave - enter, 0.0)


_NOWHERE = np.array([-np.inf, -np.inf, np.inf, np.inf])


def _moved_sides(corners: Floats, normal: Floats, offset: Floats) -> Floats:
    """Quads whose sides are moved outwards; corners are where neighbouring sides meet then."""
    before, own = np.roll(normal, 1, axis=1), normal
    a, b = np.roll(offset, 1, axis=1), offset
    cross = before[..., 0] * own[..., 1] - before[..., 1] * own[..., 0]
    shift = np.stack(
        [a * own[..., 1] - b * before[..., 1], b * before[..., 0] - a * own[..., 0]], axis=-1
    )
    move = np.divide(
        shift, cross[..., None], out=np.zeros_like(shift), where=np.abs(cross[..., None]) > 1e-9
    )
    return np.asarray(corners + move)


def outlines(rings: Rings, starts: Ints, tile: Ints, tiles: Tiles) -> Rings:
    """The outlines of each group united.

    Parts that do not touch, since detectors stop a little before the edge of the tile that
    cuts them, are first drawn out to that edge.
    """
    ends = np.append(starts, len(rings))[1:]
    united = overlay.united(rings.geometry(), starts)
    in_parts = (ends - starts > 1) & (shapely.get_num_geometries(united) > 1)
    for g in np.flatnonzero(in_parts):
        members = np.arange(starts[g], ends[g])
        drawn = _drawn_out(rings.take(members), tile[members], tiles)
        if polygons.tangled(drawn).any():
            continue
        joined = overlay.united(drawn.geometry(), np.zeros(1, np.int64))
        if shapely.get_num_geometries(joined[0]) < shapely.get_num_geometries(united[g]):
            united[g] = joined[0]
    return Rings.from_geometry(united)


def _drawn_out(rings: Rings, tile: Ints, tiles: Tiles) -> Rings:
    """Points that lie near a cut edge of their tile, moved onto it."""
    at = tile[rings.owners()]
    coords = rings.coords.copy()
    for side in range(4):
        axis = side % 2
        edge = tiles.rects[at, side]
        near = tiles.interior[at, side] & (np.abs(coords[:, axis] - edge) < tiles.edge[at])
        coords[near, axis] = edge[near]
    return replace(rings, coords=coords)


def keypoints(points: Floats, conf: Floats, tile: Ints, tiles: Tiles, starts: Ints) -> Floats:
    """`(G, K, 3)` each keypoint from the member that saw it: inside its tile and away from cut
    edges before near them, before outside; then the most visible, then of the most confident
    member."""
    n, k = points.shape[:2]
    owner = _owners(starts, n)
    rects = tiles.rects[tile][:, None]
    edge = tiles.edge[tile][:, None, None]
    inwards = (rects - np.tile(points[..., :2], 2)) * OUTWARDS
    margin = np.where(tiles.interior[tile][:, None], inwards, np.inf)
    there = labelled(points)
    rank = np.where(
        there, (margin >= 0).all(axis=-1).astype(int) + (margin >= edge).all(axis=-1), -1
    )
    result = np.empty((len(starts), k, 3))
    for point in range(k):
        order = np.lexsort((np.arange(n), -conf, -points[:, point, 2], -rank[:, point], owner))
        result[:, point] = points[order[starts], point]
    return result


def classes(class_id: Ints, conf: Floats, starts: Ints) -> Ints:
    """`(G,)` the class with the most confidence in each group; ties: the lowest."""
    owner = _owners(starts, len(class_id))
    order = np.lexsort((class_id, owner))
    first = np.flatnonzero(
        (np.diff(owner[order], prepend=-1) != 0) | (np.diff(class_id[order], prepend=-1) != 0)
    )
    total = np.add.reduceat(conf[order], first)
    group, kind = owner[order][first], class_id[order][first]
    best = np.lexsort((kind, -total, group))
    return np.asarray(kind[best][ragged.firsts(group[best])])
