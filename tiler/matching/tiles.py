"""The tiles of one image, and what ends because they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

# A box that ends this near to its tile's edge is cut by it: px, or for large tiles a part of the
# tile's side, since these are shrunk for the detector (4 px of 640).
EDGE = 4.0
PART = 1 / 160
SHORT = 0.08  # of a tile's side: a detector may end an object this far before the tile's edge
OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])  # left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class TileRects:
    """The tiles of one image.

    Attributes:
        rects: `(T, 4)` xyxy, source pixels.
        interior: `(T, 4)` True for a side (left, top, right, bottom) that is not the image's
            border.
        edge: `(T,)` px: a box that ends this near to a side of the tile is cut by it.
        witness: `(T,)` False for a tile whose detections are not known.
    """

    rects: Floats
    interior: Bools
    edge: Floats
    witness: Bools

    @classmethod
    def of(cls, rects: Floats, size: tuple[float, float]) -> TileRects:
        """The tiles of an image of this width and height.

        >>> TileRects.of(np.array([[0, 0, 640, 640.0]]), (1000, 640)).interior.tolist()
        [[False, False, True, False]]
        """
        left_and_top = rects[:, :2] > 0
        right_and_bottom = rects[:, 2:] < np.asarray(size)
        interior = np.concatenate([left_and_top, right_and_bottom], axis=1)
        side = sizes(rects).min(axis=1, initial=np.inf)
        edge = np.maximum(EDGE, side * PART)
        edge = np.minimum(edge, side / 16)
        return cls(rects, interior, edge, np.ones(len(rects), bool))


def sizes(rects: Floats) -> Floats:
    """`(N, 2)` widths and heights.

    >>> sizes(np.array([[0, 0, 640, 480.0]])).tolist()
    [[640.0, 480.0]]
    """
    return rects[:, 2:] - rects[:, :2]


def inwards(boxes: Floats, tile: Ints, tiles: TileRects) -> Floats:
    """`(N, 4)` how far each side of a box lies inside the same side of its tile, px."""
    return np.asarray((tiles.rects[tile] - boxes) * OUTWARDS)


def depth(boxes: Floats, tile: Ints, tiles: TileRects) -> Floats:
    """`(N,)` how far inside its tile a box lies: its distance to the nearest interior side, px; inf
    where there is none.
    """
    margin = inwards(boxes, tile, tiles)
    margin = np.where(tiles.interior[tile], margin, np.inf)
    return np.asarray(margin.min(axis=1, initial=np.inf))


def cut_sides(boxes: Floats, tile: Ints, tiles: TileRects) -> Bools:
    """`(N, 4)` sides at which a box ends because its tile does.

    >>> tiles = TileRects.of(np.array([[0, 0, 640, 640.0]]), (1000, 640))
    >>> cut_sides(np.array([[600, 0, 638.5, 50.0]]), np.array([0]), tiles).tolist()
    [[False, False, True, False]]
    """
    near = inwards(boxes, tile, tiles) < tiles.edge[tile, None]
    return np.asarray(tiles.interior[tile] & near)


@dataclass(frozen=True, slots=True, eq=False)
class TileDetections:
    """The detections of one image's tiles, in source pixels, and where the tiles cut them.

    Attributes:
        instances: in canonical order.
        tile: `(N,)` the tile that each was detected in.
        tiles: the tiles of the image.
        cut: `(N, 4)` the sides at which a tile cuts its detection.
        snapped: `(N, 4)` the boxes, with their cut sides moved onto the tile's edge: detectors
            end a box a little before it.
        moved: `(N,)` the boxes that differ when snapped.
        edge: `(N,)` px, `TileRects.edge` of each one's tile.
    """

    instances: Instances
    tile: Ints
    tiles: TileRects
    cut: Bools
    snapped: Floats
    moved: Bools
    edge: Floats

    @classmethod
    def of(cls, instances: Instances, tile: Ints, tiles: TileRects) -> TileDetections:
        cut = cut_sides(instances.boxes, tile, tiles)
        snapped = np.where(cut, tiles.rects[tile], instances.boxes)
        moved = (snapped != instances.boxes).any(axis=1)
        return cls(instances, tile, tiles, cut, snapped, moved, tiles.edge[tile])

    def pair_edge(self, i: Ints, j: Ints) -> Floats:
        """`(P,)` px, the larger edge of the tiles of pairs."""
        return np.maximum(self.edge[i], self.edge[j])
