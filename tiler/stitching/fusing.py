"""Fusing: the detections of one object become one, each side from those that saw it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import overlay, polygons, ragged
from tiler.geometry.instances import labelled
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.matching.tiles import OUTWARDS, SHORT, TileRects, cut_sides, depth, inwards, sizes

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

WHOLE = 1 - 1e-9  # the part of a side that runs within its tile, if all of it does
DEEP = (
    8  # `TileRects.edge` times this: so deep in its tile, a detection is seen as well as anywhere
)


def sides(
    boxes: Floats, conf: Floats, tile: Ints, tiles: TileRects, starts: Ints
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

    >>> tiles = TileRects.of(np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]]), (1152, 640))
    >>> halves = np.array([[300, 100, 640, 200], [512, 100, 900, 200.0]])
    >>> box, seen = sides(halves, np.array([0.9, 0.5]), np.array([0, 1]), tiles, np.array([0]))
    >>> box.tolist(), seen.tolist()
    ([[300.0, 100.0, 900.0, 200.0]], [[True, True, True, True]])
    """
    outermost = np.maximum.reduceat(boxes * OUTWARDS, starts, axis=0)
    owner = _owners(starts, len(boxes))
    unseen = cut_sides(boxes, tile, tiles)
    unseen |= _short(boxes, tile, tiles, outermost[owner])
    # relative to a side that was seen: where all members agree, the mean is exact
    seen_sides = np.where(unseen, -np.inf, boxes)
    base = np.maximum.reduceat(seen_sides, starts, axis=0)
    offset = np.where(unseen, 0.0, boxes - base[owner])
    member_trust = trust(boxes, conf, tile, tiles)[:, None]
    weight = np.where(unseen, 0.0, member_trust)
    mean, seen = _weighted_mean(offset, weight, starts)
    return np.where(seen, base + mean, outermost * OUTWARDS), seen


def trust(boxes: Floats, conf: Floats, tile: Ints, tiles: TileRects) -> Floats:
    """`(N,)` weights: the confidence, times how deep a detection lies in its tile.

    Near a cut edge a detector sees less around an object. Depth counts from the width of
    the zone where boxes end at the edge up to eight times that (32 px of a 640 px tile).
    """
    edge = tiles.edge[tile]
    clipped = np.clip(depth(boxes, tile, tiles), edge, DEEP * edge)
    return np.asarray(np.maximum(conf, 1e-9) * clipped)


def _short(boxes: Floats, tile: Ints, tiles: TileRects, outermost: Floats) -> Bools:
    """`(N, 4)` sides that end shortly before the tile's edge, while others reach beyond it."""
    rects = tiles.rects[tile]
    length = np.tile(sizes(rects), 2)
    beyond = outermost > rects * OUTWARDS
    near = inwards(boxes, tile, tiles) < SHORT * length
    return np.asarray(tiles.interior[tile] & beyond & near)


def _weighted_mean(values: Floats, weight: Floats, starts: Ints) -> tuple[Floats, Bools]:
    """`(G, 4)` means of the members' values `(N, 4)`, 0 where no weight is; and where some is."""
    total = np.add.reduceat(weight, starts, axis=0)
    weighted = np.add.reduceat(weight * values, starts, axis=0)
    known = total > 0
    mean = np.zeros_like(total)
    np.divide(weighted, total, out=mean, where=known)
    return mean, known


def _owners(starts: Ints, n: int) -> Ints:
    """`(N,)` the group of each member."""
    return ragged.owners(np.append(starts, n))


# --- OBBs


def quads(corners: Floats, conf: Floats, tile: Ints, tiles: TileRects, starts: Ints) -> Floats:
    """`(G, 4, 2)` one OBB for each group: the winner's, each side moved to where those who saw it
    have it.

    The winner is the member with most sides seen, then the most confident. A side is seen if a part
    of it runs within the tile: what a tile cuts off has its side beyond. It is the mean of those
    who saw the whole side; where each saw a part of it, the outermost, so that all parts are in.

    Args:
        corners: `(N, 4, 2)` of the members, one group after the other; those that are no rectangle
            count as the smallest one around them.
    """
    owner = _owners(starts, len(corners))
    corners = polygons.rectangles(corners)
    normal = _outward(corners)
    inside = _inside_share(corners, tile, tiles)
    winner = _winners(inside > 0, conf, owner, starts)
    frame = normal[winner]  # (G, 4, 2)
    facing = _facing_sides(frame[owner], normal)
    inside = np.take_along_axis(inside, facing, axis=1)
    offset = _side_offsets(corners, winner[owner], frame[owner], facing)
    weight = trust(_bounds(corners), conf, tile, tiles)[:, None]
    weight = weight * (inside >= WHOLE)
    mean, known = _weighted_mean(offset, weight, starts)
    offset = np.where(known, mean, _outermost(offset, inside, starts))
    return _moved_sides(corners[winner], frame, offset)


def _bounds(corners: Floats) -> Floats:
    """`(N, 4)` the boxes around OBBs."""
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _winners(seen: Bools, conf: Floats, owner: Ints, starts: Ints) -> Ints:
    """`(G,)` the member of each group with most sides seen, then the most confident."""
    sides_seen = seen.sum(axis=1)
    index = np.arange(len(conf))
    order = np.lexsort((index, -conf, -sides_seen, owner))
    return np.asarray(order[starts])


def _outward(corners: Floats) -> Floats:
    """`(N, 4, 2)` unit normals of the sides, away from the middle; 0 for a side without length."""
    along = np.roll(corners, -1, axis=1) - corners
    x, y = np.moveaxis(along, -1, 0)
    normal = np.stack([y, -x], axis=-1)
    from_middle = corners + along / 2 - corners.mean(axis=1, keepdims=True)
    out = (from_middle * normal).sum(axis=-1, keepdims=True)
    normal = normal * np.where(out < 0, -1.0, 1.0)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    unit = np.zeros_like(normal)
    np.divide(normal, length, out=unit, where=length > 0)
    return unit


def _inside_share(corners: Floats, tile: Ints, tiles: TileRects) -> Floats:
    """`(N, 4)` the part of each side that runs within its tile, without the zone at cut edges
    (Liang-Barsky).
    """
    inner = _inner_windows(tile, tiles)
    step = np.roll(corners, -1, axis=1) - corners
    enter = np.zeros(corners.shape[:2])
    leave = np.ones(corners.shape[:2])
    for axis in (0, 1):
        low = inner[:, None, axis] - corners[..., axis]
        high = inner[:, None, axis + 2] - corners[..., axis]
        first, second = _crossings(low, high, step[..., axis])
        enter = np.maximum(enter, np.minimum(first, second))
        leave = np.minimum(leave, np.maximum(first, second))
    return np.maximum(leave - enter, 0.0)


def _inner_windows(tile: Ints, tiles: TileRects) -> Floats:
    """`(N, 4)` the tile of each without the zone at cut edges; endless at the image's border."""
    edge = tiles.edge[tile][:, None]
    inset = np.concatenate([edge, edge, -edge, -edge], axis=1)
    inner = tiles.rects[tile] + inset
    endless = OUTWARDS * np.inf
    return np.where(tiles.interior[tile], inner, endless)


def _crossings(low: Floats, high: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Where sides cross two limits on one axis, in lengths of the side; infinite for sides along
    the limits, which lie between them or not.

    Args:
        low, high: from the start of each side to the limits.
        step: from its start to its end.
    """
    still = step == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        first = low / step
        second = high / step
    first_along = np.where(low <= 0, -np.inf, np.inf)
    second_along = np.where(high >= 0, np.inf, -np.inf)
    first = np.where(still, first_along, first)
    second = np.where(still, second_along, second)
    return first, second


def _facing_sides(frame: Floats, normal: Floats) -> Ints:
    """`(N, 4)` for each side of a member's frame, the member's side that faces the same way."""
    return np.asarray(np.argmax(np.einsum("nkd,njd->nkj", frame, normal), axis=2))


def _side_offsets(corners: Floats, winner: Ints, frame: Floats, facing: Ints) -> Floats:
    """`(N, 4)` how far outside the winner's sides the members' sides lie."""
    middle = (corners + np.roll(corners, -1, axis=1)) / 2
    own = np.take_along_axis(middle, facing[..., None], axis=1)
    return np.asarray(np.einsum("nkd,nkd->nk", own - middle[winner], frame))


def _outermost(offset: Floats, inside: Floats, starts: Ints) -> Floats:
    """`(G, 4)` the outermost of the sides that were seen in part, or of all where none was."""
    seen_in_part = np.where(inside > 0, offset, -np.inf)
    outermost_part = np.maximum.reduceat(seen_in_part, starts, axis=0)
    outermost = np.maximum.reduceat(offset, starts, axis=0)
    return np.where(np.isfinite(outermost_part), outermost_part, outermost)


def _moved_sides(corners: Floats, normal: Floats, offset: Floats) -> Floats:
    """Quads whose sides are moved outwards; corners are where neighbouring sides meet then."""
    nx, ny = np.moveaxis(normal, -1, 0)
    before = np.roll(normal, 1, axis=1)
    before_x, before_y = np.moveaxis(before, -1, 0)
    offset_before = np.roll(offset, 1, axis=1)
    cross = (before_x * ny - before_y * nx)[..., None]
    shift_x = offset_before * ny - offset * before_y
    shift_y = offset * before_x - offset_before * nx
    shift = np.stack([shift_x, shift_y], axis=-1)
    move = np.zeros_like(shift)
    np.divide(shift, cross, out=move, where=np.abs(cross) > 1e-9)
    return np.asarray(corners + move)


# --- outlines


def outlines(rings: Rings, starts: Ints, tile: Ints, tiles: TileRects) -> Rings:
    """The outlines of each group united.

    Parts that do not touch, since detectors stop a little before the edge of the tile that
    cuts them, are first drawn out to that edge.
    """
    ends = np.append(starts, len(rings))[1:]
    united = overlay.united(rings.geometry(), starts)
    in_parts = (ends - starts > 1) & (shapely.get_num_geometries(united) > 1)
    for group in np.flatnonzero(in_parts):
        members = np.arange(starts[group], ends[group])
        drawn = _drawn_out(rings.take(members), tile[members], tiles)
        if polygons.tangled(drawn).any():
            continue
        [joined] = overlay.united(drawn.geometry(), np.zeros(1, np.int64))
        if shapely.get_num_geometries(joined) < shapely.get_num_geometries(united[group]):
            united[group] = joined
    return Rings.from_geometry(united)


def _drawn_out(rings: Rings, tile: Ints, tiles: TileRects) -> Rings:
    """Points that lie near a cut edge of their tile, moved onto it."""
    point_tile = tile[rings.owners()]
    coords = rings.coords.copy()
    for side in range(4):
        axis = side % 2
        edge = tiles.rects[point_tile, side]
        distance = np.abs(coords[:, axis] - edge)
        near = distance < tiles.edge[point_tile]
        near &= tiles.interior[point_tile, side]
        coords[near, axis] = edge[near]
    return replace(rings, coords=coords)


# --- keypoints and classes


def keypoints(points: Floats, conf: Floats, tile: Ints, tiles: TileRects, starts: Ints) -> Floats:
    """`(G, K, 3)` each keypoint from the member that saw it best.

    That is one inside its tile and away from cut edges, before one near them, before one
    outside; then the most visible, then of the most confident member.
    """
    n, count = points.shape[:2]
    owner = _owners(starts, n)
    rank = _keypoint_ranks(points, tile, tiles)
    index = np.arange(n)
    result = np.empty((len(starts), count, 3))
    for k in range(count):
        visibility = points[:, k, 2]
        order = np.lexsort((index, -conf, -visibility, -rank[:, k], owner))
        result[:, k] = points[order[starts], k]
    return result


def _keypoint_ranks(points: Floats, tile: Ints, tiles: TileRects) -> Ints:
    """`(N, K)` 2 for a keypoint inside its tile and away from cut edges, 1 near them, 0 outside, -1
    for none.
    """
    rects = tiles.rects[tile][:, None]
    xyxy = np.tile(points[..., :2], 2)
    inside_by = (rects - xyxy) * OUTWARDS
    interior = tiles.interior[tile][:, None]
    margin = np.where(interior, inside_by, np.inf)
    edge = tiles.edge[tile][:, None, None]
    inside = (margin >= 0).all(axis=-1)
    away = (margin >= edge).all(axis=-1)
    return np.where(labelled(points), inside.astype(int) + away, -1)


def classes(class_id: Ints, conf: Floats, starts: Ints) -> Ints:
    """`(G,)` the class with the most confidence in each group; ties: the lowest."""
    owner = _owners(starts, len(class_id))
    order = np.lexsort((class_id, owner))
    owner, class_id = owner[order], class_id[order]
    new_owner = np.diff(owner, prepend=-1) != 0
    new_class = np.diff(class_id, prepend=-1) != 0
    first = np.flatnonzero(new_owner | new_class)
    total = np.add.reduceat(conf[order], first)
    owner, class_id = owner[first], class_id[first]
    best = np.lexsort((class_id, -total, owner))
    return np.asarray(class_id[best][ragged.firsts(owner[best])])
