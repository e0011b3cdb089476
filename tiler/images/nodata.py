"""Pixels without data: transparent ones, NaN, and those of a value that a file or --nodata names.

A mosaic of aerial images fills the rest of its rectangle with such pixels, and a satellite's scene
is a tilted square among them.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.geometry.window import Window
from tiler.images.encoding import BANDS, BEYOND_PILLOW
from tiler.images.header import Header
from tiler.images.pixels import (
    WITH_ALPHA,
    Pixels,
    as_image,
    from_lowest,
    resampled,
    resampled_plane,
)
from tiler.images.tiff import ASCII, NODATA

if TYPE_CHECKING:
    from tiler.images.geo import Tag
    from tiler.types import Bools, Floats, Ints

AUTO, IGNORED = "auto", "none"  # of --nodata: what the file says, and nothing but alpha and NaN
UNMIXED = ("1", "P", "LAB")  # modes that are not resampled by weights
HALF = 0.5  # the weight of pixels with data, below which a resampled one has none
Number = int | float


def declared(header: Header, chosen: str) -> Header:
    """The header with the value that --nodata names, in place of the file's own.

    >>> declared(Header("PNG", 10, 10), "0").nodata
    '0'
    """
    if chosen == AUTO:
        return header
    if chosen == IGNORED:
        return replace(header, nodata="")
    return replace(header, nodata=chosen)


def number(text: str) -> Number | None:
    """The number that a no-data value is written as, or None for any other text.

    Older files have NaN in the words of Microsoft's library: `-1.#IND`.

    >>> number("-9999"), number(" 1e3"), number("nan"), number("none")
    (-9999, 1000.0, nan, None)
    """
    if text.upper().endswith(("#IND", "#QNAN")):
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    with suppress(ValueError):  # whole numbers of 64 bits are not rounded
        whole = int(text)
        if abs(whole) < 1 << 64:
            return whole
    return value


def problem(header: Header, chosen: str) -> str | None:
    """Why the declared value cannot be looked for, or None.

    Tags of many files have a value that no pixel can have, and mean that there is none. One that
    --nodata names was meant.
    """
    if not header.nodata:
        return None
    if number(header.nodata) is None:
        found = reprlib.repr(header.nodata)
        return f"GDAL_NODATA: found {found}, expected a number; it is not looked for"
    if chosen == AUTO or _can_occur(header):
        return None
    return f"--nodata {chosen}: no sample of {_dtype(header)} has this value"


def possible(header: Header) -> bool:
    """Whether some pixels may have no data, before any is decoded."""
    return bool(header.alpha or header.transparent or header.kind == "f" or _can_occur(header))


def _can_occur(header: Header) -> bool:
    """Whether samples may have the declared value."""
    value = number(header.nodata)
    return value is not None and _in_dtype(value, _dtype(header)) is not None


@dataclass(frozen=True, slots=True, eq=False)
class NoData:
    """Which pixels of a decoded image have no data.

    Those whose alpha is 0, and those of which every other band is NaN or has the value of a colour
    that stands for no data.

    Attributes:
        bands: their number, without alpha.
        alpha: whether an alpha band follows these.
        colours: each has a value for each band.
        text: the declared value as a tile's tag says it; empty when there is none.

    >>> grey = NoData(1, False, ((0,),), "0")
    >>> grey.has_data(np.array([[[0], [7]]], np.uint8)).tolist()
    [[False, True]]
    """

    bands: int
    alpha: bool
    colours: tuple[tuple[Number, ...], ...]
    text: str

    @classmethod
    def of(cls, header: Header, mode: str, bands: int, dtype: np.dtype[Any]) -> NoData:
        """Of an image that was decoded to this mode and number of bands, alpha among them."""
        alpha = mode in WITH_ALPHA or (mode == BANDS and header.alpha and bands > 1)
        bands -= alpha
        if header.colour == "palette" and bands > 1:  # indices became colours
            return cls(bands, alpha, (), "")
        colours = _transparent(header, mode)
        stored = number(header.nodata)
        if stored is None:
            return cls(bands, alpha, tuple(colours), "")
        value = _decoded(stored, header, mode)
        text = header.nodata if value == stored or math.isnan(value) else str(value)
        matched = _in_dtype(value, dtype)
        if matched is not None:
            colours.append((matched,) * bands)
        return cls(bands, alpha, tuple(colours), text)

    @property
    def blank(self) -> Number | tuple[Number, ...] | None:
        """The colour that stands for no data where it is declared by a value, as Pillow takes it.

        None where there is none, and for an image with alpha.
        """
        if self.alpha or not self.text or not self.colours:
            return None
        colour = self.colours[-1]
        return colour[0] if self.bands == 1 else colour

    @property
    def tags(self) -> list[Tag]:
        """The declared value as a TIFF tag of tiles that keep the image's values."""
        if not self.text:
            return []
        value = self.text.encode("latin-1") + b"\0"
        return [(NODATA, ASCII, len(value), value)]

    def has_data(self, pixels: NDArray[Any]) -> Bools:
        """`(rows, width)` False for pixels without data.

        Args:
            pixels: `(rows, width, bands)`, with the alpha band if there is one.
        """
        result = np.ones(pixels.shape[:2], bool)
        if self.alpha:
            result &= pixels[..., -1] != 0
        if pixels.dtype.kind == "f":
            result &= self._differs(pixels, (math.nan,) * self.bands)
        for colour in self.colours:
            result &= self._differs(pixels, colour)
        return result

    def _differs(self, pixels: NDArray[Any], colour: tuple[Number, ...]) -> Bools:
        """`(rows, width)` False where every band is NaN or has the colour's value."""
        result = np.zeros(pixels.shape[:2], bool)
        for band, value in enumerate(colour):
            values = pixels[..., band]
            differs = values != value
            if values.dtype.kind == "f":
                differs &= values == values  # NaN equals nothing, not even itself
            result |= differs
        return result

    def blackened(self, tile: NDArray[np.uint8], pixels: NDArray[Any]) -> NDArray[np.uint8]:
        """The tile, of the same bands as its pixels, with 0 where these have no data; in place.

        Alpha stays.
        """
        if self.alpha or self.colours:  # NaN is 0 already
            tile[..., : self.bands][~self.has_data(pixels)] = 0
        return tile


def resampled_data(tile: Pixels, mode: str, nodata: NoData, size: tuple[int, int]) -> Pixels:
    """A tile at another size (width, height), each pixel from those that have data.

    A pixel has no data where most of what it is made from has none. So -9999 and 1000 do not
    become something between, and one NaN takes no neighbours with it.

    Args:
        tile: in the image's values.
        mode: of the tile.
    """
    if isinstance(tile, np.ndarray) and mode not in BEYOND_PILLOW:
        tile = as_image(tile, mode)
    if mode in UNMIXED:
        return resampled(tile, size)
    values = np.atleast_3d(np.asarray(tile))
    has_data = nodata.has_data(values)
    if nodata.alpha or has_data.all():  # Pillow weighs colours by their alpha
        return resampled(tile, size)
    result = np.stack(
        [_from_data(values[..., band], has_data, size) for band in range(nodata.bands)], axis=-1
    )
    result[_weight(has_data, size) < HALF] = nodata.colours[-1] if nodata.colours else math.nan
    if isinstance(tile, Image.Image):
        return as_image(result, mode)
    return result


def _weight(counted: Bools, size: tuple[int, int]) -> Floats:
    """How much of each resampled pixel comes from those that are counted."""
    return resampled_plane(counted.astype(np.float32), size).astype(np.float64)


def _from_data(values: NDArray[Any], has_data: Bools, size: tuple[int, int]) -> NDArray[Any]:
    """A band resampled from finite values of pixels with data; without any, of any value."""
    values = values.astype(values.dtype.newbyteorder("="))
    counted = has_data & np.isfinite(values)
    if not counted.any():
        return np.full(size[::-1], values.flat[0])
    low = values[counted].min()
    high = values[counted].max()
    # as differences, since Pillow has float32 at best
    above = np.where(counted, values, low).astype(np.float64) - np.float64(low)
    summed = resampled_plane(above.astype(np.float32), size).astype(np.float64)
    weight = _weight(counted, size)
    result = from_lowest(summed / np.maximum(weight, HALF), low, high)
    if values.dtype.kind == "f":
        result[weight < HALF] = math.nan
    return result


def _transparent(header: Header, mode: str) -> list[tuple[Number, ...]]:
    """The colours that a PNG makes transparent without an alpha band."""
    if header.colour == "palette":
        return [(index,) for index in header.transparent]
    if not header.transparent:
        return []
    return [tuple(_decoded(value, header, mode) for value in header.transparent)]


def _decoded(value: Number, header: Header, mode: str) -> Number:
    """A stored value as the decoder returns it."""
    largest = (1 << header.bits) - 1
    if header.colour == "inverted grey":
        value = largest - value
    if header.bits < 8 and header.colour != "palette" and mode != "1":
        value = value * (255 // largest)  # fewer bits are spread over eight
    return value


def _dtype(header: Header) -> np.dtype[Any]:
    """The type of a decoded sample, as far as the header tells."""
    kind = header.kind or "u"
    size = 2 if kind == "f" else 1
    while 8 * size < min(header.bits, 64):
        size *= 2
    return np.dtype(f"{kind}{size}")


def _in_dtype(value: Number, dtype: np.dtype[Any]) -> Number | None:
    """The value that pixels of this type have for it; None where they can have none."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            rounded = float(dtype.type(float(value)))
        if math.isinf(rounded) and not math.isinf(value):
            return None
        return rounded
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max or int(value) != value:  # nor NaN
        return None
    return int(value)


def window_counts(masks: Iterable[Bools], windows: Sequence[Window]) -> Ints:
    """`(T,)` how many pixels of each window are True.

    Args:
        masks: `(rows, width)`, all rows of an image from top to bottom, some at a time.
        windows: inside the image.

    >>> mask = np.array([[False, True, True], [False, False, True]])
    >>> window_counts([mask], [Window(0, 0, 3, 2), Window(0, 0, 2, 1)]).tolist()
    [3, 1]
    """
    bounds = [(window.x, window.y, window.right, window.bottom) for window in windows]
    left, upper, right, lower = np.array(bounds, np.int64).reshape(-1, 4).T
    xs = np.unique([left, right])
    ys = np.unique([upper, lower])
    above = _summed(masks, xs, ys)
    x0 = np.searchsorted(xs, left)
    x1 = np.searchsorted(xs, right)
    y0 = np.searchsorted(ys, upper)
    y1 = np.searchsorted(ys, lower)
    return np.asarray(above[y1, x1] - above[y1, x0] - above[y0, x1] + above[y0, x0])


def _summed(masks: Iterable[Bools], xs: Ints, ys: Ints) -> Ints:
    """`(Y, X)` how many pixels are True left of each x, from the first y to each y.

    Args:
        xs, ys: in rising order.
    """
    result = np.zeros((len(ys), len(xs)), np.int64)
    top = 0
    for mask in masks:
        height, width = mask.shape
        left_of = np.zeros((height, width + 1), np.int32)
        np.cumsum(mask, axis=1, out=left_of[:, 1:])
        following = np.searchsorted(ys, np.arange(top, top + height), side="right")
        within = (following > 0) & (following < len(ys))
        np.add.at(result, following[within], left_of[within][:, xs])
        top += height
    return np.asarray(result.cumsum(axis=0))
