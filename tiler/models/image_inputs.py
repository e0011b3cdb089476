"""The input of a network that takes the image, and tiles as it wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.models.frames import GREY, TileFrame

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from tiler.models.layouts import Layout
    from tiler.models.protocol import Pixels

TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
MOST = 2**28  # numbers in a batch
MOST_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input of a model that takes the image.

    Attributes:
        name: of it.
        batched: it has an axis for tiles.
        batch: how many tiles it takes; None for any number.
        channels: how many.
        size: width and height that it takes, px; None for any.
        dtype: of its numbers.
    """

    name: str
    batched: bool
    batch: int | None
    channels: int
    size: tuple[int, int] | None
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path, inputs: Sequence[Any]) -> ImageInput:
        """From the inputs of a session.

        Raises:
            TilerError: there are several, or it is no image.
        """
        expected = "expected one input of (batch, channels, height, width)"
        described = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs[:8])
        first = inputs[0] if len(inputs) == 1 else None
        if first is None or first.type not in TYPES or len(first.shape) not in (3, 4):
            raise TilerError(f"{path}: {expected}, got {described}")
        sides = [side if isinstance(side, int) else None for side in first.shape]
        channels, height, width = sides[-3:]
        given = [side for side in sides if side is not None]
        if not _is_possible(given) or (channels or 3) > MOST_CHANNELS:
            raise TilerError(f"{path}: {expected}, got {described}")
        size = None
        if height is not None and width is not None:
            size = (width, height)
        is_batched = len(sides) == 4
        batch = sides[0] if is_batched else 1
        return cls(first.name, is_batched, batch, channels or 3, size, np.dtype(TYPES[first.type]))

    def grey(self, size: tuple[int, int]) -> NDArray[Any]:
        """A grey image, as often as it must be there."""
        width, height = size
        shape: tuple[int, ...] = (self.channels, height, width)
        if self.batched:
            shape = (self.batch or 1, *shape)
        value = GREY if self.dtype == np.uint8 else GREY / 255
        return np.full(shape, value, self.dtype)

    def tensor(self, pixels: Pixels, layout: Layout, size: tuple[int, int] | None) -> NDArray[Any]:
        """`(C, H, W)` a tile as the network takes it.

        Raises:
            TilerError: the tile has other channels, or not 8 bits.
        """
        tile = self._in_channels(pixels)
        if layout.bgr:
            tile = tile[..., ::-1]
        if size is not None and layout.fit is not None:
            frame = TileFrame.of((tile.shape[1], tile.shape[0]), size, layout.fit)
            tile = frame.filled(tile, layout.fit)
        planes = np.ascontiguousarray(tile.transpose(2, 0, 1))
        if self.dtype == np.uint8:
            return planes
        if not layout.mean:
            return _values(layout.divisor, self.dtype)[planes]
        values = planes.astype(np.float32) / np.float32(layout.divisor)
        mean = np.array(layout.mean, np.float32)[:, None, None]
        std = np.array(layout.std, np.float32)[:, None, None]
        return ((values - mean) / std).astype(self.dtype)

    def _in_channels(self, pixels: Pixels) -> NDArray[np.uint8]:
        """`(H, W, C)` with as many channels as the network takes: of grey, three equal ones; of
        four, the first three, without the alpha channel.
        """
        tile: NDArray[Any] = pixels
        if tile.ndim == 2:
            tile = tile[..., None]
        if tile.dtype != np.uint8:
            raise TilerError(
                f"the model takes pixels of 8 bits, got {tile.dtype}: --stretch makes them so"
            )
        channels = tile.shape[2]
        if self.channels == 3 and channels == 1:
            return np.repeat(tile, 3, axis=2)
        if self.channels == 3 and channels == 4:
            return tile[..., :3]
        if channels != self.channels:
            raise TilerError(f"the model takes {self.channels} channels, the image has {channels}")
        return tile


@lru_cache(maxsize=8)
def _values(divisor: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`(256,)` what each of 256 values becomes."""
    values = np.arange(256, dtype=np.float32) / np.float32(divisor)
    return values.astype(dtype)


def _is_possible(sides: Sequence[int]) -> bool:
    return all(side > 0 for side in sides) and float(np.prod(sides, dtype=np.float64)) <= MOST
