"""Class masks: images whose pixels are classes, as the trainer reads them (`data/utils.py`)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.errors import SourceRefused
from tiler.geometry.window import Window
from tiler.images import memory, pixels, reading

if TYPE_CHECKING:
    from tiler.types import Floats

Values = NDArray[np.uint8]  # (H, W)

COLOURS = 256 * 3
HIGHEST = 255
LAST_COLOUR = bytes((224, 224, 192))  # VOC's for pixels that are ignored, unless 255 has another
WITHOUT_ALPHA = {"LA": 1, "RGB": 3, "RGBA": 3}  # bands that must be alike, by mode


@dataclass(frozen=True, slots=True, eq=False)
class ClassMask:
    """A mask in memory.

    Attributes:
        values: `(H, W)` uint8, a value for each pixel.
        palette: the colours of the values, red, green and blue in turn, where it has some.
    """

    values: Values
    palette: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.values.shape[1], self.values.shape[0]

    def turned(self, orientation: int) -> ClassMask:
        """The mask of a stored image as that of the upright one."""
        upright = pixels.turned(self.values[..., None], orientation)[..., 0]
        return ClassMask(np.ascontiguousarray(upright), self.palette)

    def tile(self, window: Window, size: tuple[int, int], blank: int) -> ClassMask:
        """The mask of a tile of `size` (width, height); values are never averaged.

        Args:
            blank: the value of what lies beyond the image.

        >>> mask = ClassMask(np.arange(6, dtype=np.uint8).reshape(2, 3))
        >>> mask.tile(Window(1, 1, 3, 2), (3, 2), 255).values.tolist()
        [[4, 5, 255], [255, 255, 255]]
        """
        inner = window.intersection(Window(0, 0, *self.size))
        values = np.full((window.height, window.width), blank, np.uint8)
        if inner is not None:
            part = self.values[inner.y : inner.bottom, inner.x : inner.right]
            x = inner.x - window.x
            y = inner.y - window.y
            values[y : y + inner.height, x : x + inner.width] = part
        if size != (window.width, window.height):
            nearest = Image.fromarray(values).resize(size, Image.Resampling.NEAREST)
            values = np.asarray(nearest)
        return ClassMask(values, self.palette)

    def painted(
        self, hidden: list[list[Floats]], shown: list[list[Floats]], blank: int
    ) -> ClassMask:
        """The same with hidden outlines blank, except where shown outlines lie."""
        if not hidden:
            return self
        values = self.values[..., None].copy()
        pixels.paint_out(values, hidden, shown, blank=blank)
        return ClassMask(values[..., 0], self.palette)

    def png(self) -> bytes:
        """A PNG that the trainer reads the same values from."""
        image = Image.fromarray(self.values)
        if self.palette is not None:
            image.putpalette(self.palette)  # which makes it one of indices
        reading.load_plugin("PNG")
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


def read(file: BinaryIO, max_pixels: int | None = None) -> ClassMask:
    """A mask, whole.

    Its values are indices of a palette with colours, else levels of grey; of 1 bit, 0 and 1.

    Raises:
        SourceRefused: no readable image, too large, or colours instead of classes.
        MemoryError: it does not fit.
    """
    header = reading.plain_header(file, max_pixels)
    if not header.lossless:
        raise SourceRefused("M02", f"a lossy {header.format}, which changes values; expected PNG")
    what = f"{header.width} x {header.height} px of a mask are decoded at once"
    with memory.taken(reading.cost(header), what):
        return _of_image(reading.decode(file, header))


def _of_image(image: Image.Image) -> ClassMask:
    if image.mode == "P":
        return _of_palette(image)
    values: NDArray[Any] = np.asarray(image)
    if image.mode in WITHOUT_ALPHA:
        values = _grey(values[..., : WITHOUT_ALPHA[image.mode]], image.mode)
    elif image.mode not in ("1", "L", "I;16", "I;16B"):
        raise SourceRefused("M02", f"pixels of mode {image.mode}, expected a class each")
    highest = int(values.max(initial=0))
    if highest > HIGHEST:
        raise SourceRefused("M02", f"values up to {highest}; classes go up to {HIGHEST}")
    return ClassMask(values.astype(np.uint8))


def _grey(bands: NDArray[Any], mode: str) -> NDArray[Any]:
    """The one value of each pixel whose colours are alike."""
    first = bands[..., :1]
    if (bands != first).any():
        raise SourceRefused("M02", f"colours ({mode}), expected a class for each pixel")
    return first[..., 0]


def _of_palette(image: Image.Image) -> ClassMask:
    """Indices, or levels if all colours of the palette are grey: those are what it stands for."""
    indices = np.asarray(image)
    given = bytes(image.getpalette("RGB") or [])
    palette = given.ljust(COLOURS, b"\0")
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if (colours == colours[:, :1]).all():
        return ClassMask(colours[indices, 0])
    if len(given) < COLOURS:
        palette = palette[: -len(LAST_COLOUR)] + LAST_COLOUR
    return ClassMask(indices, palette)
