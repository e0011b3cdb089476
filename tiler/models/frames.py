"""How a tile lies in the input of a model, and how detections come back from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image

from tiler.models.resizing import bilinear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.types import Floats

    Bytes = NDArray[np.uint8]  # (H, W, C)

GREY = 114
Fit = Literal["centre", "corner", "stretch", "smooth"]


class TileFrame(NamedTuple):
    """Where a tile lies in the input of a model, px.

    Attributes:
        size: width and height of the tile.
        input_size: width and height of the input.
        inner: width and height of the tile in there.
        left, top: of the tile in there.
    """

    size: tuple[int, int]
    input_size: tuple[int, int]
    inner: tuple[int, int]
    left: int
    top: int

    @classmethod
    def of(cls, size: tuple[int, int], input_size: tuple[int, int], fit: Fit) -> TileFrame:
        """Where a tile lies.

        Args:
            fit: letterboxed to the centre as by Ultralytics, or to the top left corner; stretched,
                or stretched with antialiasing.

        >>> TileFrame.of((200, 100), (640, 640), "centre")[2:]
        ((640, 320), 0, 160)
        """
        if fit in ("stretch", "smooth"):
            return cls(size, input_size, input_size, 0, 0)
        width, height = size
        scale = min(input_size[0] / width, input_size[1] / height)
        inner = max(round(width * scale), 1), max(round(height * scale), 1)
        if fit == "corner":  # YOLOX cuts off what others round
            inner = max(int(width * scale), 1), max(int(height * scale), 1)
            return cls(size, input_size, inner, 0, 0)
        left = round((input_size[0] - inner[0]) / 2 - 0.1)
        top = round((input_size[1] - inner[1]) / 2 - 0.1)
        return cls(size, input_size, inner, left, top)

    def filled(self, pixels: Bytes, fit: Fit) -> Bytes:
        """`(H, W, C)` the input: the tile where it lies, grey around it."""
        if self.size == self.input_size:
            return pixels
        width, height = self.inner
        inner = (
            _smooth(pixels, width, height) if fit == "smooth" else bilinear(pixels, width, height)
        )
        if self.inner == self.input_size:
            return inner
        across, down = self.input_size
        result = np.full((down, across, pixels.shape[2]), GREY, np.uint8)
        result[self.top : self.top + height, self.left : self.left + width] = inner
        return result

    def points(self, points: Floats) -> Floats:
        """`(..., 2)` points of the input in px of the tile.

        >>> TileFrame.of((200, 100), (640, 640), "centre").points(np.array([[640, 480.0]])).tolist()
        [[200.0, 100.0]]
        """
        return np.asarray((points - self._shift()) / self.scale())

    def clipped(self, points: Floats) -> Floats:
        """The same within the tile."""
        return np.clip(self.points(points), 0.0, np.array(self.size, np.float64))

    def scale(self) -> Floats:
        """`(2,)` px of the input in one of the tile, in x and y."""
        return np.array(self.inner, np.float64) / np.array(self.size, np.float64)

    def _shift(self) -> Floats:
        return np.array([self.left, self.top], np.float64)


def _smooth(pixels: Bytes, width: int, height: int) -> Bytes:
    """Resized with antialiasing, band by band."""
    bands = []
    for band in np.moveaxis(pixels, -1, 0):
        image = Image.fromarray(np.ascontiguousarray(band))
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        bands.append(np.asarray(resized))
    return np.stack(bands, axis=-1)
