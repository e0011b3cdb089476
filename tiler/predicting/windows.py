"""The windows of one image, as the model sees them, while the image is read once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.errors import SourceRefused
from tiler.formats.manifest import Geo
from tiler.geometry.window import Window
from tiler.images import pixels, reading
from tiler.images.encoding import BANDS, Encoding, encoding
from tiler.images.header import Header
from tiler.images.pixels import Pixels
from tiler.images.reading import Crop, SourceImage
from tiler.images.row_reader import Later
from tiler.options import pixel_limit
from tiler.predicting.clock import StageClock
from tiler.splitting.tile_pixels import kind_of
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import PlannedTile

if TYPE_CHECKING:
    from tiler.types import Floats

STRIP = 256  # rows of the image, at most, that are shrunk at once for --full
NO_MODES = ("I;16", "I;16B", "I", "F", "LAB", "LA;16", "RGB;16", "RGBA;16")

Result = TypeVar("Result")
MadeWindow = Callable[[], NDArray[Any] | None]  # None: there is nothing in it


@dataclass(frozen=True, slots=True, eq=False)
class WindowedImage:
    """An image, and the windows in which the model looks at it.

    Attributes:
        tiles: in the order in which they are cut: from the top down; with `full`, the last one
            shows the whole image, shrunken.
        held: bytes of pixels that are in memory while it is read.
    """

    source: Source
    header: Header
    tiles: list[PlannedTile]
    full: bool = False
    geo: Geo | None = None
    held: int = 0

    @property
    def rects(self) -> Floats:
        """`(T, 4)` xyxy of the windows, source px."""
        return np.array([tile.window.bounds for tile in self.tiles], np.float64).reshape(-1, 4)


@dataclass(frozen=True, slots=True, eq=False)
class WindowReader:
    """Reads the windows of images.

    Attributes:
        job: where images are, how their pixels are read, and how they become 8 bits.
        skip_empty: windows without data, or of one colour, are left out.
    """

    job: SplitJob
    skip_empty: bool
    clock: StageClock

    def windows(self, image: WindowedImage, later: Later) -> Iterator[tuple[int, MadeWindow]]:
        """Go down an image once: the number of each window, with what makes its pixels,
        `(H, W, C)` uint8: RGB, unless the image has other bands.

        Args:
            later: runs a function, perhaps at once in another thread.

        Raises:
            SourceRefused: the image is damaged, or has samples that are no 8 bits.
        """
        path = os.path.join(self.job.root, image.source.key)
        limit = pixel_limit(self.job.options.max_pixels)
        with ExitStack() as stack:
            with self.clock.timed("decode"):
                file = stack.enter_context(opened(path))
                source = reading.opened(file, image.header, limit, self.job.pages)
                decoded = stack.enter_context(source)
            if self.job.limits is not None and kind_of(decoded) in self.job.limits:
                decoded.stretched(self.job.limits[kind_of(decoded)])
            yield from _ImageWindows(self, image, decoded, _encoding(decoded)).swept(later)

    def timed(self, later: Later) -> Later:
        """`later` for work that is part of decoding."""

        def timed_later(work: Callable[[], Result], /) -> Future[Result]:
            return later(partial(self._decoding, work))

        return timed_later

    def _decoding(self, work: Callable[[], Result]) -> Result:
        with self.clock.timed("decode"):
            return work()


def _encoding(image: SourceImage) -> Encoding:
    """In which mode windows are resampled: that of a tile that `split --format png` writes.

    Raises:
        SourceRefused: no model takes such samples.
    """
    if image.dtype != np.uint8 or image.mode in NO_MODES:
        bits = image.dtype.itemsize * 8
        what = f"{bits}-bit samples of kind {image.dtype.kind!r}"
        raise SourceRefused("I06", f"{what}: a model takes 8 bits; --stretch maps them")
    if image.mode == BANDS:
        return Encoding("TIFF", ".tif", BANDS, direct=True)
    return replace(encoding(image, image.header, "png", 95), direct=True)


@dataclass(frozen=True, slots=True, eq=False)
class _ImageWindows:
    """The windows of an image that is decoded."""

    reader: WindowReader
    image: WindowedImage
    decoded: SourceImage
    how: Encoding

    def swept(self, later: Later) -> Iterator[tuple[int, MadeWindow]]:
        """See `WindowReader.windows`."""
        whole = Window(0, 0, *self.image.header.size)
        tiles = self.image.tiles
        shrunken = None
        if self.image.full:
            shrunken = _Shrunken.of(whole, tiles[-1])
            tiles = tiles[:-1]
        inner = [_inside(tile.window, whole) for tile in tiles]
        strips = [] if shrunken is None else shrunken.strips
        made: list[Future[None]] = []
        sweep = self.decoded.sweep([*inner, *strips], self.reader.timed(later))
        with self.reader.clock.timed("decode"):
            first = next(sweep)
        for crop, numbers in chain([first], sweep):
            for number in numbers:
                if number < len(tiles):
                    yield number, partial(self._window, tiles[number], inner[number], crop)
                elif shrunken is not None:
                    made.append(later(partial(self._shrink, shrunken, number - len(tiles), crop)))
        if shrunken is not None:
            for strip in made:
                strip.result()
            yield len(tiles), lambda: shrunken.pixels

    def _window(self, tile: PlannedTile, inner: Window, crop: Crop) -> NDArray[Any] | None:
        """The pixels of a window; None where it is empty."""
        with self.reader.clock.timed("decode"):
            part = crop(inner)
            seen = self._colours(part, inner, tile.window, tile.size)
            if self.reader.skip_empty and self._is_empty(part, seen):
                return None
            return seen

    def _colours(
        self, part: Pixels, inner: Window, window: Window, size: tuple[int, int]
    ) -> NDArray[Any]:
        """The pixels of a window as the model takes them, which share no memory with others."""
        tile = pixels.fitted(part, self.decoded.mode, inner, window, size, self.how)
        if isinstance(tile, Image.Image):
            return np.array(tile if tile.mode == "RGB" else tile.convert("RGB"))
        if self.how.mode == BANDS:
            return np.array(tile)
        if tile.shape[2] < 3:  # grey
            return np.repeat(tile[..., :1], 3, axis=2)
        return np.array(tile[..., :3], order="C")

    def _is_empty(self, part: Pixels, seen: NDArray[Any]) -> bool:
        if pixels.is_flat(seen):
            return True
        if self.decoded.limits is not None:  # no data is 0 then
            return False
        has_data = self.decoded.nodata.has_data(np.atleast_3d(np.asarray(part)))
        return not has_data.any()

    def _shrink(self, shrunken: _Shrunken, number: int, crop: Crop) -> None:
        """Add a strip to the view of the whole image."""
        with self.reader.clock.timed("decode"):
            strip = shrunken.strips[number]
            size = (strip.width, strip.height)
            shrunken.add(number, self._colours(crop(strip), strip, strip, size))


def _inside(window: Window, whole: Window) -> Window:
    """The part of a window inside the image."""
    inner = window.intersection(whole)
    assert inner is not None
    return inner


@dataclass(slots=True, eq=False)
class _Shrunken:
    """The whole image at the size of one window, made strip by strip: each of its pixels is the
    mean of those that it stands for.

    Attributes:
        size: width and height.
        strips: of the image, from the top down.
        rows: of the view, that each strip makes.
    """

    whole: Window
    size: tuple[int, int]
    strips: list[Window]
    rows: list[tuple[int, int]]
    parts: list[NDArray[Any] | None]

    @classmethod
    def of(cls, whole: Window, tile: PlannedTile) -> _Shrunken:
        height = tile.size[1]
        at_once = max(1, STRIP * height // whole.height)
        strips = []
        rows = []
        for first in range(0, height, at_once):
            last = min(first + at_once, height)
            top = math.floor(first * whole.height / height)
            bottom = min(whole.height, math.ceil(last * whole.height / height))
            strips.append(Window(0, top, whole.width, bottom - top))
            rows.append((first, last))
        return cls(whole, tile.size, strips, rows, [None] * len(strips))

    def add(self, number: int, strip: NDArray[Any]) -> None:
        """Shrink a strip: `(n, width, C)`."""
        first, last = self.rows[number]
        width, height = self.size
        step = self.whole.height / height
        top = self.strips[number].y
        end = min(last * step - top, len(strip))
        box = (0, first * step - top, self.whole.width, end)
        size = (width, last - first)
        if strip.shape[2] == 3:
            self.parts[number] = np.asarray(_mean(strip, size, box))
            return
        bands = [np.asarray(_mean(strip[..., band], size, box)) for band in range(strip.shape[2])]
        self.parts[number] = np.stack(bands, axis=-1)

    @property
    def pixels(self) -> NDArray[Any]:
        """`(H, W, C)`, once all strips are there."""
        return np.concatenate([part for part in self.parts if part is not None])


def _mean(
    band: NDArray[Any], size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(band))
    return image.resize(size, Image.Resampling.BOX, box=box)


def in_reading_order(tiles: Sequence[PlannedTile]) -> list[PlannedTile]:
    """Windows in the order in which an image that is read from the top down has them."""
    return sorted(tiles, key=lambda tile: (tile.window.bottom, tile.window.y))
