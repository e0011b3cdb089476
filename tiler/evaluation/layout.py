"""The tiles of a sample's images, and the tiles that each detection came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import ragged
from tiler.matching.tiles import TileRects

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class TileLayout:
    """The tiles of all images, in the order of the images.

    Attributes:
        rects: `(T, 4)` float64 xyxy, px of their image.
        interior: `(T, 4)` True for a side (left, top, right, bottom) that is not the image's
            border.
        scale: `(T,)` tile px per image px.
        offsets: `(I + 1,)` image i has the tiles from `offsets[i]` up to `offsets[i + 1]`.
        sizes: `(I, 2)` width and height of the images.
    """

    rects: Floats
    interior: Bools
    scale: Floats
    offsets: Ints
    sizes: Floats

    @classmethod
    def of(cls, rects: Sequence[Floats], scales: Sequence[Floats], sizes: Floats) -> TileLayout:
        """From the tiles of each image.

        >>> tile = np.array([[0, 0, 640, 640.0]])
        >>> layout = TileLayout.of([tile], [np.ones(1)], np.array([[1000, 640.0]]))
        >>> layout.interior.tolist(), len(layout)
        ([[False, False, True, False]], 1)
        """
        interior = [np.empty((0, 4), bool)]
        counts = []
        for rect, (width, height) in zip(rects, sizes.tolist(), strict=True):
            tiles = TileRects.of(rect, (float(width), float(height)))
            interior.append(tiles.interior)
            counts.append(len(rect))
        all_rects = np.concatenate([np.empty((0, 4)), *rects])
        scale = np.concatenate([np.empty(0), *scales])
        return cls(
            rects=all_rects,
            interior=np.concatenate(interior),
            scale=scale,
            offsets=ragged.offsets(counts),
            sizes=np.asarray(sizes, np.float64),
        )

    def __len__(self) -> int:
        """The number of tiles."""
        return len(self.rects)

    def image(self) -> Ints:
        """`(T,)` the image of each tile."""
        images = np.arange(len(self.sizes))
        return np.repeat(images, np.diff(self.offsets))


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """Where each detection of the sample came from, and the predictions on tiles before merging.

    Attributes:
        tile: `(S,)` the tiles (of the layout) that detections come from, one detection after the
            other.
        offsets: `(D + 1,)` detection d, in the sample's order, has those from `offsets[d]` up to
            `offsets[d + 1]`.
        raw: `(R,)` the predictions on tiles before merging, in px of their image; None where they
            are unknown.
        raw_tile: `(R,)` the tile of each.
    """

    tile: Ints
    offsets: Ints
    raw: Instances | None = None
    raw_tile: Ints | None = None
