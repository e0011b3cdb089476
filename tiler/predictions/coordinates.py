"""What the coordinates of predictions count in: parts of a tile, its pixels, or those of another
frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tiler.geometry import few

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

LETTERBOX = "letterbox"


class Windows(Protocol):
    """Of `values.Frames`, what places points."""

    @property
    def rects(self) -> Floats: ...
    @property
    def scale(self) -> Floats: ...
    @property
    def image(self) -> Floats: ...


@dataclass(frozen=True, slots=True)
class PointFrame:
    """The frame of coordinates.

    Attributes:
        kind: normalised: from 0 to 1 of the tile; percent: from 0 to 100. pixels: of the tile.
            image: pixels of the full image; image-normalised: from 0 to 1 of it. letterbox: pixels
            of a square that the tile was fitted into, centred and padded.
        side: px of that square.
        unit: px of it that a coordinate of 1 stands for: `side` where it is normalised.

    >>> PointFrame.of("letterbox:640"), str(PointFrame.of("pixels"))
    (PointFrame(kind='letterbox', side=640.0, unit=1.0), 'pixels')
    """

    kind: str
    side: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, text: str) -> PointFrame:
        """From the value of `--boxes`, other than auto."""
        kind, _, side = text.partition(":")
        return cls(kind, float(side or 0))

    def __str__(self) -> str:
        return f"{self.kind}:{self.side:g}" if self.side else self.kind

    def in_source(self, points: Floats, tile: Ints, frames: Windows) -> Floats:
        """`(M, 2)` points in px of the source image. See `placing.placed`."""
        if self.kind == "image":
            return points
        if self.kind == "image-normalised":
            return points * frames.image[tile]
        sides = frames.rects[:, 2:] - frames.rects[:, :2]
        if self.kind == "normalised":
            return frames.rects[tile, :2] + points * sides[tile]
        if self.kind == "percent":
            return frames.rects[tile, :2] + points / 100 * sides[tile]
        if self.kind == LETTERBOX:
            scale, padding = letterbox(sides * frames.scale[:, None], self.side)
            points = (points * self.unit - padding[tile]) / scale[tile, None]
        origin = frames.rects[:, :2]
        unit = 1 / frames.scale[:, None]
        if not origin.any() and (unit == 1).all():  # whole images, as they are
            return points + 0.0
        return origin.take(tile, axis=0) + points * unit.take(tile, axis=0)

    def mask_size(self, width: float, height: float) -> tuple[float, float] | None:
        """Width and height of a mask of a tile of `width` x `height` px; None where masks are not
        held against a size.
        """
        if self.kind == LETTERBOX:
            return self.side, self.side
        return None if self.kind.startswith("image") else (width, height)


NORMALISED = PointFrame("normalised")
PIXELS = PointFrame("pixels")


def letterbox(sizes: Floats, side: float) -> tuple[Floats, Floats]:
    """How tiles lie in a square that they were fitted into, as Ultralytics does with rect=False.

    Args:
        sizes: `(T, 2)` width and height of the tiles, px.

    Returns `(T,)` px of the square per px of the tile, and `(T, 2)` px left of and above the tile.

    >>> import numpy as np
    >>> scale, padding = letterbox(np.array([[400.0, 200.0]]), 640)
    >>> scale.tolist(), padding.tolist()
    ([1.6], [[0.0, 160.0]])
    """
    scale = side / few.largest(sizes)
    padding = (side - sizes * scale[:, None]) / 2
    return scale, padding
