"""Sampling of images as detectors were trained with it: OpenCV's bilinear one, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.types import Ints

    Bytes = NDArray[np.uint8]  # (H, W, C)
    Whole = NDArray[np.int32]

ONE = np.float32(2048)  # a weight of 1 in OpenCV's whole numbers
ROUNDED_UP = (1, 3, 4)  # numbers of channels with which OpenCV rounds halves up; else to even
ROWS = 32  # resized at once, so that they stay in the cache


def bilinear(pixels: Bytes, width: int, height: int) -> Bytes:
    """`(height, width, C)` as `cv2.resize` makes it with INTER_LINEAR: without antialiasing.

    Source: OpenCV, resize.cpp: weights are rounded to 11 bits, and products to 16.

    >>> bilinear(np.array([[[0], [100]]], np.uint8), 4, 1).ravel().tolist()
    [0, 25, 75, 100]
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[:2] == (2 * height, 2 * width):
        return _halved(pixels)
    across = _Taps.of(pixels.shape[1], width)
    down = _Taps.of(pixels.shape[0], height)
    result = np.empty((height, width, pixels.shape[2]), np.uint8)
    for start in range(0, height, ROWS):
        rows = slice(start, min(start + ROWS, height))
        result[rows] = _rows(pixels, across, down.part(rows))
    return result


def _halved(pixels: Bytes) -> Bytes:
    """Half the size, for which OpenCV takes the mean of four."""
    height, width, channels = pixels.shape
    fours = pixels.reshape(height // 2, 2, width // 2, 2, channels)
    total = fours.sum(axis=(1, 3), dtype=np.uint16)
    if channels in ROUNDED_UP:
        return np.asarray((total + 2) >> 2, np.uint8)
    return np.asarray(np.rint(total / np.float32(4)), np.uint8)


class _Taps(NamedTuple):
    """Along one axis, for each pixel of the result the two that it is made of, and their weights.

    Attributes:
        first, second: `(N,)` indices.
        weight, rest: `(N,)` int32, of 2048.
    """

    first: Ints
    second: Ints
    weight: Whole
    rest: Whole

    @classmethod
    def of(cls, length: int, target: int) -> _Taps:
        scale = 1 / (target / length)
        at = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
        below = np.floor(at)
        part = at - below
        first = below.astype(np.int64)
        second = np.minimum(first + 1, length - 1)
        first = np.maximum(first, 0)
        weight = np.rint((1 - part) * ONE).astype(np.int32)
        rest = np.rint(part * ONE).astype(np.int32)
        return cls(first, second, weight, rest)

    def part(self, which: slice) -> _Taps:
        return _Taps(self.first[which], self.second[which], self.weight[which], self.rest[which])


def _rows(pixels: Bytes, across: _Taps, down: _Taps) -> Bytes:
    """Some rows of the result."""
    begin, end = int(down.first[0]), int(down.second[-1]) + 1
    if end - begin <= 2 * len(down.first):
        mixed = _mixed_across(pixels[begin:end], across)
        upper, lower = mixed[down.first - begin], mixed[down.second - begin]
    else:  # most rows are not used
        upper = _mixed_across(pixels[down.first], across)
        lower = _mixed_across(pixels[down.second], across)
    upper *= down.weight[:, None, None]
    lower *= down.rest[:, None, None]
    upper >>= 16
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


def _mixed_across(pixels: Bytes, taps: _Taps) -> Whole:
    """`(R, N, C)` rows at the width of the result, times 128."""
    left = pixels.take(taps.first, axis=1).astype(np.int32)
    right = pixels.take(taps.second, axis=1).astype(np.int32)
    left *= taps.weight[:, None]
    right *= taps.rest[:, None]
    left += right
    left >>= 4
    return left
