"""The tiles of one image, and what ends because they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

# px: a box that ends so near its tile's edge is cut by it; of large tiles a part of the side,
EDGE = 4.0
PART = 1 / 160  # since they are shrunk for the detector (4 px of 640)
SHORT = 0.08  # of a tile's side: so far before its edge a detector may end an object that goes on
OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])  # left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The tiles of one image.

    Attributes:
        rects: `(T, 4)` xyxy, source pixels.
        interior: `(T, 4)` True for a side (left, top, right, bottom) that is not the image's
            border.
        edge: `(T,)` how near its side a cut box ends, px.
        witness: `(T,)` False for a tile of which it is not known what it reported.
    """

    rects: Floats
    interior: Bools
    edge: Floats
    witness: Bools

    @classmethod
    def of(cls, rects: Floats, size: tuple[float, float]) -> Tiles:
        """Of an image of this width and height.

        >>> Tiles.of(np.array([[0, 0, 640, 640.0]]), (1000, 640)).interior.tolist()
        [[False, False, True, False]]
        """
        interior = np.concatenate([rects[:, :2] > 0, rects[:, 2:] < np.asarray(size)], axis=1)
        side = (rects[:, 2:] - rects[:, :2]).min(axis=1, initial=np.inf)
        edge = np.minimum(np.maximum(EDGE, side * PART), side / 16)
        return cls(rects, interior, edge, np.ones(len(rects), bool))


def cut_sides(boxes: Floats, tile: Ints, tiles: Tiles) -> Bools:
    """`(N, 4)` sides at which a box ends because its tile does.

    >>> tiles = Tiles.of(np.array([[0, 0, 640, 640.0]]), (1000, 640))
    >>> cut_sides(np.array([[600, 0, 638.5, 50.0]]), np.array([0]), tiles).tolist()
    [[False, False, True, False]]
    """
    inwards = (tiles.rects[tile] - boxes) * OUTWARDS
    return np.asarray(tiles.interior[tile] & (inwards < tiles.edge[tile, None]))
