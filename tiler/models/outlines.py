"""Outlines of masks that a network gives as prototypes and coefficients (YOLACT, YOLO)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.tracing import contours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.types import Bools, Floats

    Singles = NDArray[np.float32]


def outlines(
    prototypes: Singles, coefficients: Floats, boxes: Floats, input_size: tuple[int, int]
) -> list[list[Floats]]:
    """For each box the rings of its mask, in px of the input; none for a mask without pixels.

    A mask is the sum of prototypes, resized to the input and cut off by its box, where it is above
    0. Its outline goes through the centres of pixels, as in Ultralytics' results; a mask too small
    to have one gets its box.

    Args:
        prototypes: `(K, h, w)`.
        coefficients: `(N, K)`.
        boxes: `(N, 4)` xyxy, px of the input.

    Source: Ultralytics, ops.process_mask with upsample and ops.masks2segments.
    """
    weights = coefficients.astype(np.float32)
    result = []
    for one, around in zip(weights, boxes, strict=True):
        result.append(_outline(prototypes, one, around, input_size))
    return result


def _outline(
    prototypes: Singles, weights: Singles, around: Floats, input_size: tuple[int, int]
) -> list[Floats]:
    """The rings of one mask."""
    width, height = input_size
    across = _within(around[0], around[2], width)
    down = _within(around[1], around[3], height)
    if not (len(across) and len(down)):
        return []
    mask = _mask(prototypes, weights, across, down, input_size)
    rings = [ring for ring in contours(mask) if len(ring) >= 3]
    if not rings and mask.any():
        return [box.corners(around[None])[0]]
    corner = np.array([across.start, down.start], np.float64)
    return [ring + corner for ring in rings]


def _within(begin: float, end: float, length: int) -> range:
    """The pixels from one number up to another one."""
    first = max(0, int(np.ceil(min(begin, length))))
    last = min(length, int(np.ceil(max(end, 0))))
    return range(first, last)


def _mask(
    prototypes: Singles, weights: Singles, across: range, down: range, size: tuple[int, int]
) -> Bools:
    """`(len(down), len(across))` where the sum of prototypes, resized to the input, is above 0."""
    _, rows, columns = prototypes.shape
    left, right, x_part = _between(across, size[0], columns)
    upper, lower, y_part = _between(down, size[1], rows)
    begin, top = left[0], upper[0]
    window = prototypes[:, top : lower[-1] + 1, begin : right[-1] + 1]
    total = np.tensordot(weights, window, axes=1)
    total = total[:, left - begin] * (1 - x_part) + total[:, right - begin] * x_part
    y_part = y_part[:, None]
    total = total[upper - top] * (1 - y_part) + total[lower - top] * y_part
    return np.asarray(total > 0)


def _between(pixels: range, length: int, target: int) -> tuple[Floats, Floats, Singles]:
    """For each pixel of the input the two of the prototype that it lies between, and the part of
    the second, as in torch's bilinear interpolation.
    """
    scale = np.float32(target / length)
    numbers = np.arange(pixels.start, pixels.stop, dtype=np.float32)
    at = np.maximum((numbers + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
    first = np.minimum(at.astype(np.int64), target - 1)
    second = np.minimum(first + 1, target - 1)
    return first, second, (at - first).astype(np.float32)
