"""Whether tiles agree about what is in their overlaps, which tells what coordinates count in.

An object that two tiles show whole is at one place of the image. By a wrong frame it is at two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.neighbours import alike, collected, neighbours
from tiler.predictions.coordinates import LETTERBOX, PointFrame
from tiler.predictions.placing import placed

if TYPE_CHECKING:
    from tiler.predictions.values import Frames, RowExtents
    from tiler.types import Floats, Ints

SAME = 0.5  # IoU of two tiles' boxes of one object
MOST_ROWS = 2000  # are enough to tell; if all lie on one spot, that is two million pairs
MARGIN = 2.0  # px within a tile: what it shows surely whole
LEAST = 5  # objects that tiles agree about by another frame; fewer may be chance
CLEAR = 0.5  # of the boxes in overlaps: tiles agree by the right frame
UNCLEAR = 0.1  # of them: they do not by this one
LETTERBOXES = (256, 320, 416, 448, 512, 608, 640, 768, 800, 960, 1024, 1280, 1536, 1920, 2048)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a box that lies within another tile, too, was reported by that one: `hits` of
    `chances`.
    """

    hits: int
    chances: int

    @property
    def share(self) -> float:
        return self.hits / self.chances if self.chances else 0.0


def better_frame(extents: RowExtents, frames: Frames) -> PointFrame | None:
    """The frame by which tiles agree about what is in their overlaps, if they do not by the one
    that the rows are read in; None if there is no such frame.
    """
    if not _overlap(frames):
        return None
    extents = _some(extents)
    if agreement(extents, frames).share > UNCLEAR:
        return None
    best: tuple[float, PointFrame] | None = None
    for other in _others(extents.coordinates):
        found = agreement(replace(extents, coordinates=other), frames)
        if found.hits >= LEAST and found.share >= CLEAR and (not best or found.share > best[0]):
            best = (found.share, other)
    return None if best is None else best[1]


def _others(coordinates: PointFrame) -> list[PointFrame]:
    """The frames that rows may be in which are read in this one."""
    if coordinates.kind == "normalised":
        return [PointFrame("image-normalised")]
    if coordinates.kind != "pixels":
        return []
    kinds = ("normalised", "image-normalised", "image", "percent")
    letterboxes = [PointFrame(LETTERBOX, float(side)) for side in LETTERBOXES]
    return [*map(PointFrame, kinds), *letterboxes]


def _some(extents: RowExtents) -> RowExtents:
    """The first rows that have a size."""
    kept = np.flatnonzero(extents.sized)[:MOST_ROWS]
    return replace(
        extents,
        tile=extents.tile[kept],
        boxes=extents.boxes[kept],
        unreadable=extents.unreadable[kept],
    )


def _overlap(frames: Frames) -> bool:
    """Whether any tiles of one image do."""
    if len(np.unique(frames.source)) == len(frames.source):
        return False
    sized = (frames.rects[:, 2:] > frames.rects[:, :2]).all()
    return bool(sized) and any(len(i) for i, _ in neighbours(frames.rects, frames.source))


def agreement(extents: RowExtents, frames: Frames) -> Agreement:
    """How often tiles of one image and one scale agree."""
    tile = extents.tile
    corners = extents.boxes.reshape(-1, 2)
    boxes = placed(corners, np.repeat(tile, 2), frames, extents.coordinates).reshape(-1, 4)
    count = len(frames.rects)
    group = _groups(frames)
    row, other = collected(alike(boxes, frames.rects, group[tile], group))
    looked_at = np.isin(other, tile)
    row, other = row[looked_at], other[looked_at]
    inner = frames.rects[other] + np.array([MARGIN, MARGIN, -MARGIN, -MARGIN])
    whole = (boxes[row, :2] >= inner[:, :2]).all(axis=1) & (boxes[row, 2:] <= inner[:, 2:]).all(
        axis=1
    )
    chance = whole & (other != tile[row])
    expected = row[chance] * count + other[chance]
    found = _reported(boxes, tile, group[tile], count)
    return Agreement(int(np.isin(expected, found).sum()), len(expected))


def _groups(frames: Frames) -> Ints:
    """`(T,)` tiles of one image and scale have one number."""
    keys = np.column_stack([frames.source, frames.scale])
    _, group = np.unique(keys, axis=0, return_inverse=True)
    return np.asarray(group.reshape(-1))


def _reported(boxes: Floats, tile: Ints, group: Ints, count: int) -> Ints:
    """Box times `count` plus the tile, of the boxes that a tile has reported too."""
    areas = box.area(boxes)
    found = [np.empty(0, np.int64)]
    for i, j in neighbours(boxes, group, label=tile):
        common = box.common_area(boxes, boxes, i, j)
        same = (common >= SAME * (areas[i] + areas[j] - common)) & (tile[i] != tile[j])
        i, j = i[same], j[same]
        found.append(np.unique(np.concatenate([i * count + tile[j], j * count + tile[i]])))
    return np.concatenate(found)
