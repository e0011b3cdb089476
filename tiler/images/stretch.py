"""Pixels of more than 8 bits to 8 bits by one mapping for a whole dataset, so that no tile differs
from its neighbour.

A `Histogram` counts the values of each image; tallies are added, in any order, to that of the
dataset; `limits` takes from it what becomes 0 and 255; `stretched` maps the pixels of each tile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.types import Floats, Ints

HOW = ("minmax", "percentile")
PERCENTS = (1, 99)  # what `percentile` keeps lies between
NONE = (0.0, 1.0)  # limits of a band without a finite value

# Pixels of a band counted at once. numpy counts pixels as 8-byte integers, which here stay in the
# cache: 570 Mpx/s of 16-bit grey, against 250 for an image of 33 Mpx at once; far fewer, and
# clearing the 65536 bins takes longer than the counting.
CHUNK = 1 << 18
LARGEST = float(np.finfo(np.float32).max)
ZEROS = (0x7FFF, 0x8000)  # the bins of -0.0 and 0.0


@dataclass(slots=True, eq=False)
class Histogram:
    """What values the bands of images of one kind have.

    Integers of 8 and 16 bits have a bin for each value, in order. Others are rounded to float32 and
    have a bin for each upper half of its bits (sign, exponent and 7 bits of mantissa), in order of
    value: from one bin to the next is at most 1/128 of the value. All numbers are counts or
    extremes, so that adding gives the same bits in every order.

    Attributes:
        dtype: of the pixels, in the machine's byte order.
        bins: `(bands, 256 or 65536)` int64, how many finite pixels fall into each bin.
        low: `(bands,)` float64, the lowest finite value; `inf` where there is none.
        high: `(bands,)` float64, the highest finite value; `-inf` where there is none.

    >>> left, right = Histogram.of_kind(np.dtype("uint16"), 1), Histogram.of_kind(np.dtype("uint16"), 1)
    >>> left.count(np.array([[700, 300]], np.uint16))
    >>> right.count(np.array([[4000]], np.uint16))
    >>> left.add(right)
    >>> limits(left, "minmax", shared=True)
    [(300.0, 4000.0)]
    """

    dtype: np.dtype[Any]
    bins: Ints
    low: Floats
    high: Floats

    @classmethod
    def of_kind(cls, dtype: np.dtype[Any], bands: int) -> Histogram:
        """The tally of no image: integers or floats of at most 64 bits, at least one band."""
        dtype = np.dtype(dtype).newbyteorder("=")
        if dtype.kind not in "iuf" or dtype.itemsize > 8 or bands < 1:
            raise ValueError(
                f"expected bands of integers or floats of at most 64 bits, got {bands} of {dtype}"
            )
        bins = np.zeros((bands, 256 if dtype.itemsize == 1 else 65536), np.int64)
        return cls(dtype, bins, np.full(bands, np.inf), np.full(bands, -np.inf))

    def count(self, pixels: NDArray[Any]) -> None:
        """Add the pixels, but for NaN and infinities.

        Args:
            pixels: `(rows, width, bands)`, or `(rows, width)` of one band, of the tally's dtype in
                either byte order.
        """
        pixels = _banded(pixels, len(self.bins))
        if pixels.dtype.newbyteorder("=") != self.dtype:
            raise ValueError(f"expected pixels of {self.dtype}, got {pixels.dtype}")
        step = max(1, CHUNK // max(1, pixels.shape[1]))
        for start in range(0, len(pixels), step):
            block = pixels[start : start + step]
            for band in range(len(self.bins)):
                self._count(band, np.ascontiguousarray(block[..., band], self.dtype).reshape(-1))

    def _count(self, band: int, values: NDArray[Any]) -> None:
        """Add `(N,)` values of a band, side by side in memory: a third faster than at a distance."""
        if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
            values = values[finite]
        if not values.size:
            return
        # Plus 0.0, since of 0.0 and -0.0 the extreme would be whichever came first
        self.low[band] = min(self.low[band], float(values.min()) + 0.0)
        self.high[band] = max(self.high[band], float(values.max()) + 0.0)
        self.bins[band] += np.bincount(_binned(values), minlength=self.bins.shape[1])

    def add(self, other: Histogram) -> None:
        """Add the images of another tally of the same dtype and number of bands."""
        if other.dtype != self.dtype or other.bins.shape != self.bins.shape:
            kinds = [f"{len(tally.bins)} of {tally.dtype}" for tally in (self, other)]
            raise ValueError(f"expected bands as in the tally, {kinds[0]}, got {kinds[1]}")
        self.bins += other.bins
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)


def limits(tally: Histogram, how: str, shared: bool) -> list[tuple[float, float]]:
    """For each band the values that become 0 and 255; `(0.0, 1.0)` where no value is finite.

    `minmax`: the lowest and the highest value. `percentile`: the 1st and the 99th percentile, where
    the p-th is the smallest value that at least p % of the pixels do not exceed (numpy's
    `inverted_cdf`). It is exact for integers of 8 and 16 bits. For others it lies in the same bin
    of the tally: linear in the rank from the bin's lowest to its highest value, and never outside
    of all pixels' values. Both bins at zero stand for 0, and integers within ±255 are exact. Beyond
    float32's range, floats are ranked as its ends.

    Args:
        shared: one pair, that of the pixels of all bands together, which keeps the colours of RGB;
            else a pair each. An alpha band is best left out of the tally.

    >>> tally = Histogram.of_kind(np.dtype("float32"), 2)
    >>> tally.count(np.array([[[0, 5], [np.nan, 7]]], np.float32))
    >>> limits(tally, "minmax", shared=False), limits(tally, "minmax", shared=True)
    ([(0.0, 0.0), (5.0, 7.0)], [(0.0, 7.0), (0.0, 7.0)])
    """
    if how not in HOW:
        raise ValueError(f"expected one of {', '.join(HOW)}, got {how!r}")
    bins, lows, highs = tally.bins, tally.low, tally.high
    if shared:
        bins = bins.sum(axis=0, keepdims=True)
        lows = lows.min(keepdims=True)
        highs = highs.max(keepdims=True)
    pairs = []
    for counts, low, high in zip(bins, lows.tolist(), highs.tolist(), strict=True):
        if low > high:
            pairs.append(NONE)
        elif how == "minmax":
            pairs.append((low, high))
        else:
            first, last = (
                _percentile(tally.dtype, counts, (low, high), percent) for percent in PERCENTS
            )
            pairs.append((first, last))
    return pairs * len(tally.bins) if shared else pairs


def stretched(pixels: NDArray[Any], limits: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    """The pixels in 8 bits: `(v - low) / (high - low) * 255` in float64, rounded (halves to even)
    and clipped to 0..255.

    NaN becomes 0. Where high is not above low, values up to low become 0 and those above 255.

    Args:
        pixels: `(rows, width, bands)`, or `(rows, width)` of one band; integers or floats of at
            most 64 bits.
        limits: of each band low and high, finite.

    >>> stretched(np.array([[0, 1000, 2000, 3000, 65535]], np.uint16), [(1000, 3000)]).tolist()
    [[0, 0, 128, 255, 255]]
    """
    banded = _banded(pixels, len(limits))
    pairs = [(float(low), float(high)) for low, high in limits]
    if len(set(pairs)) == 1:
        return _stretched(pixels, pairs[0])
    found = np.empty(banded.shape, np.uint8)
    for band, pair in enumerate(pairs):
        found[..., band] = _stretched(banded[..., band], pair)
    return found


def _stretched(pixels: NDArray[Any], pair: tuple[float, float]) -> NDArray[np.uint8]:
    """Pixels of any shape by one pair of limits."""
    native = pixels.dtype.newbyteorder("=")
    if native.itemsize > 2:
        return _mapped(pixels, *pair)
    return np.take(
        _table(native, *pair), pixels.astype(native, copy=False).view(f"u{native.itemsize}")
    )


@lru_cache(maxsize=64)
def _table(dtype: np.dtype[Any], low: float, high: float) -> NDArray[np.uint8]:
    """What the value of each pattern of 8 or 16 bits becomes: looking up takes a third of the
    arithmetic's time.
    """
    patterns = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    table = _mapped(patterns.view(dtype), low, high)
    table.flags.writeable = False
    return table


def _mapped(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """The values' 8 bits, by arithmetic."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        # first, since numpy compares float32 with limits rounded to float32
        found = values.astype(np.float64)
        if not high > low:
            return np.where(found > low, 255, 0).astype(np.uint8)
        np.clip(found, low, high, out=found)
    if values.dtype.kind == "f":
        np.copyto(found, low, where=np.isnan(found))
    if math.isinf(high - low):
        low, high, found = low / 2, high / 2, found / 2
    found -= low
    found /= high - low
    found *= 255
    rounded: NDArray[np.float64] = np.rint(found, out=found)
    return rounded.astype(np.uint8)


def _banded(pixels: NDArray[Any], bands: int) -> NDArray[Any]:
    """The pixels as `(rows, width, bands)`."""
    banded = pixels[..., None] if pixels.ndim == 2 else pixels
    if banded.ndim != 3 or banded.shape[2] != bands:
        raise ValueError(f"expected pixels of (rows, width, {bands}), got {pixels.shape}")
    return banded


def _exact(dtype: np.dtype[Any]) -> bool:
    """Whether a tally has a bin for each value."""
    return dtype.kind != "f" and dtype.itemsize <= 2


def _binned(values: NDArray[Any]) -> NDArray[Any]:
    """The bin of each finite value: `(N,)` unsigned integers."""
    if _exact(values.dtype):
        if values.dtype.kind == "u":
            return values
        sign = 1 << (8 * values.dtype.itemsize - 1)
        return values.view(f"u{values.dtype.itemsize}") ^ sign
    if values.dtype.itemsize == 8:
        values = np.clip(values, -LARGEST, LARGEST)
    upper = (values.astype(np.float32, copy=False).view(np.uint32) >> 16).astype(np.uint16)
    # In order of value: positive patterns after all negative ones, and these turned round
    return upper ^ ((upper.view(np.int16) >> 15).view(np.uint16) | 0x8000)


def _ends(dtype: np.dtype[Any], index: int) -> tuple[float, float]:
    """The lowest and the highest value that a bin can hold.

    >>> _ends(np.dtype("int16"), 0), _ends(np.dtype("int32"), 0xBF80), _ends(np.dtype("float32"), 0xBF80)
    ((-32768.0, -32768.0), (1.0, 1.0), (1.0, 1.0078123807907104))
    """
    if _exact(dtype):
        value = float(index + np.iinfo(dtype).min)
        return value, value
    if index in ZEROS:  # numbers below 1e-40, and often nothing but zeros
        return 0.0, 0.0
    ordered = np.array([index << 16, index << 16 | 0xFFFF], np.uint32)
    patterns = ordered ^ np.uint32(0x80000000) if index >= 0x8000 else ~ordered
    low, high = patterns.view(np.float32).tolist()
    return (low, high) if dtype.kind == "f" else (float(math.ceil(low)), float(math.floor(high)))


def _percentile(
    dtype: np.dtype[Any], counts: Ints, extremes: tuple[float, float], percent: int
) -> float:
    """The percentile as `limits` has it, of at least one pixel.

    Args:
        counts: `(bins,)` of a tally's dtype.
        extremes: the lowest and the highest value.
    """
    reached = np.cumsum(counts)
    rank = max(1, -(-int(reached[-1]) * percent // 100))  # the first pixel has 1
    index = int(np.searchsorted(reached, rank))
    # Not outside of the values there are, which rounding to float32 may have put past the bin's end
    low, high = (min(max(end, extremes[0]), extremes[1]) for end in _ends(dtype, index))
    before = int(reached[index] - counts[index])
    return min(low + (high - low) * ((rank - before - 0.5) / int(counts[index])), high)
