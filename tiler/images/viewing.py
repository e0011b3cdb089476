"""An image as people look at it: in colours of 8 bits, the whole of it reduced, and parts of it as
they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.geometry.window import Window
from tiler.images import reading
from tiler.images.header import Header
from tiler.images.pixels import FILL, WITH_ALPHA, Pixels, as_image, turned
from tiler.images.reading import SourceImage
from tiler.images.stretch import Histogram, limits, stretched

Samples = NDArray[Any]  # (H, W, 1 or 3), uint8 or float32
Result = TypeVar("Result")

ROWS = 256  # of an image that are reduced at a time
COLOURS = 3
GREYS = ("1", "L")
COMPOSITED = ("LA", "La", "RGBA", "RGBa", "PA")
ARRAY_MODES = ("L", "LA", "RGB", "RGBA", "CMYK")  # of arrays that Pillow takes as they are


class ImageViews(NamedTuple):
    """The whole image, reduced, and some parts of it, as RGB."""

    whole: Image.Image
    parts: list[Image.Image]


@dataclass(frozen=True, slots=True)
class DisplayRange:
    """The values that are shown as black and white, as `split --stretch percentile` chooses them;
    None for samples of 8 bits, which are shown as they are.
    """

    ends: tuple[float, float] | None

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """That of an image by itself."""
        if samples.dtype == np.uint8:
            return cls(None)
        histogram = Histogram.of_kind(samples.dtype, samples.shape[2])
        histogram.count(samples)
        return cls(limits(histogram, "percentile", shared=True)[0])

    def shown(self, samples: Samples) -> Image.Image:
        """Samples as RGB."""
        if self.ends is not None:
            samples = stretched(samples, [self.ends] * samples.shape[2])
        if samples.shape[2] == 1:
            samples = np.repeat(samples, COLOURS, axis=2)
        return Image.fromarray(np.ascontiguousarray(samples))


def coloured(part: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB; deeper ones are stretched.

    >>> coloured(Image.new("I;16", (2, 1), 700)).mode
    'RGB'
    """
    values = samples(part, part.mode)
    return DisplayRange.of(values).shown(values)


def samples(part: Pixels, mode: str) -> Samples:
    """What is shown of pixels: grey, or the first three bands; what is transparent over grey.

    Args:
        mode: of an array, as `SourceImage` has it.
    """
    if isinstance(part, np.ndarray):
        if part.dtype != np.uint8 or mode not in ARRAY_MODES:
            return _bands(part, mode)
        part = as_image(part, mode)
    if part.mode == "LAB":  # Pillow has no way to RGB
        part = part.getchannel(0)
    if part.mode == "F" or part.mode.startswith("I"):
        return np.asarray(part).astype(np.float32)[..., None]
    if part.mode in COMPOSITED or "transparency" in part.info:
        part = _over_grey(part.convert("RGBA"))
    if part.mode in GREYS:
        return np.asarray(part.convert("L"))[..., None]
    return np.asarray(part.convert("RGB"))


def _bands(part: NDArray[Any], mode: str) -> Samples:
    """The first three bands of an array, or the first of fewer."""
    bands = part.shape[2] - (mode in WITH_ALPHA)
    shown = part[..., : COLOURS if bands >= COLOURS else 1]
    if shown.dtype == np.uint8:
        return shown
    with np.errstate(over="ignore"):  # beyond float32: infinite, so not counted
        return shown.astype(np.float32)


def _over_grey(part: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", part.size, (FILL, FILL, FILL, 255))
    return Image.alpha_composite(ground, part).convert("RGB")


def views(
    file: BinaryIO,
    header: Header,
    size: tuple[int, int],
    windows: Sequence[Window],
    max_pixels: int | None = None,
    pages: int = 0,
) -> ImageViews:
    """The whole of an image in a size, and windows of it as they are.

    A large image is read by rows, twice if there are windows, so memory stays small.

    Args:
        file: the image, open; the header was read from it.
        size: width and height of the whole as it is shown, px.
        windows: of the upright image, inside it.
        max_pixels, pages: see `reading.opened`.

    Raises:
        SourceRefused: as `reading.opened`.
    """
    parts: list[Samples] = []
    with reading.opened(file, header, max_pixels, pages) as image:
        factor = max(1, min(header.size[0] // size[0], header.size[1] // size[1]))
        small = _reduced(image, factor)
        by_rows = image.by_rows
        if not by_rows:
            parts = _parts(image, windows)
    if by_rows and windows:
        with reading.opened(file, header, max_pixels, pages) as image:
            parts = _parts(image, windows)
    display = DisplayRange.of(small)
    whole = display.shown(small)
    if whole.size != size:
        enlarged = size[0] > header.size[0]
        resample = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
        extent = (0, 0, header.size[0] / factor, header.size[1] / factor)
        whole = whole.resize(size, resample, extent)
    return ImageViews(whole, [display.shown(part) for part in parts])


def _reduced(image: SourceImage, factor: int) -> Samples:
    """The upright image, a whole number of times smaller."""
    rows = max(1, ROWS // factor) * factor
    strips = []
    if image.by_rows:
        for band in image.bands_of_rows(rows):
            strips.append(_mean(_data(image, band), factor))
        stored = np.concatenate(strips)
        return np.ascontiguousarray(turned(stored, image.header.orientation))
    width, height = image.header.size
    windows = []
    for top in range(0, height, rows):
        windows.append(Window(0, top, width, min(rows, height - top)))
    for part in _parts(image, windows):
        strips.append(_mean(part, factor))
    return np.concatenate(strips)


def _parts(image: SourceImage, windows: Sequence[Window]) -> list[Samples]:
    """Windows of an image, as they are shown."""
    found: dict[int, Samples] = {}
    if windows:
        for crop, numbers in image.sweep(windows, _at_once):
            for number in numbers:
                found[number] = _data(image, crop(windows[number])).copy()
    return [found[number] for number in range(len(windows))]


def _data(image: SourceImage, part: Pixels) -> Samples:
    """What is shown of an image's pixels: of deep ones NaN where there is no data."""
    values = samples(part, image.mode)
    if values.dtype != np.uint8:
        pixels = part if isinstance(part, np.ndarray) else np.atleast_3d(np.asarray(part))
        values[~image.nodata.has_data(pixels)] = np.nan
    return values


def _at_once(work: Callable[[], Result]) -> Future[Result]:
    """Run a function in this thread."""
    done: Future[Result] = Future()
    done.set_result(work())
    return done


def _mean(values: Samples, factor: int) -> Samples:
    """Means of squares of `factor` px; of fewer at the right and at the bottom."""
    if factor == 1:
        return values
    if values.dtype == np.uint8 and values.shape[2] == COLOURS:
        return np.asarray(Image.fromarray(np.ascontiguousarray(values)).reduce(factor))
    planes = []
    for band in range(values.shape[2]):
        plane = np.ascontiguousarray(values[..., band])
        planes.append(np.asarray(Image.fromarray(plane).reduce(factor)))
    return np.stack(planes, axis=-1)
