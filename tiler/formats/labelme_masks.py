"""Masks in labelme JSON: a PNG of the part between two corners, in base64."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.formats.coco_values import InvalidAnnotation

if TYPE_CHECKING:
    from tiler.types import Bools, Ints

MAX_PIXELS = 100_000_000
MAX_RUNS = 1_000_000  # a PNG of a few kilobytes may hold a run for each pixel

UNREADABLE = (TypeError, ValueError, OSError, SyntaxError, EOFError, zlib.error)


def run_lengths(
    png: Any, corners: Sequence[tuple[float, float]], size: tuple[int, int]
) -> dict[str, Any]:
    """The mask as COCO writes it, `{"size": [height, width], "counts": run lengths}`.

    Args:
        png: what the file has for a mask.
        corners: its first and last pixel.
        size: width and height of the image.

    Raises:
        InvalidAnnotation: it is no mask, or not between the corners, or not within the image.
    """
    left, top = _pixel(corners[0])
    right, bottom = _pixel(corners[1])
    pixels = _pixels(png, right - left + 1, bottom - top + 1)
    rows, columns = pixels.shape
    width, height = size
    if min(left, top) < 0 or left + columns > width or top + rows > height:
        raise InvalidAnnotation("L05", "the mask reaches out of the image")
    column, row = _changes(pixels)
    places = (left + column) * height + top + row
    ends = np.concatenate([[0], places, [width * height]])
    return {"size": [height, width], "counts": np.diff(ends).tolist()}


def _pixel(point: tuple[float, float]) -> tuple[int, int]:
    x, y = point
    return int(x), int(y)


def _changes(pixels: Bools) -> tuple[Ints, Ints]:
    """Column and row where a run of pixels begins or has ended, column by column."""
    edge = np.zeros((1, pixels.shape[1]), bool)
    changes = np.diff(np.concatenate([edge, pixels, edge]), axis=0)
    column, row = np.nonzero(changes.T)
    if len(row) > MAX_RUNS:
        raise InvalidAnnotation("L15", f"the mask has {len(row) // 2} runs")
    return column, row


def _pixels(png: Any, width: int, height: int) -> Bools:
    """`(rows, columns)` True where the mask is set; labelme may cut the last row or column."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(png)), formats=["PNG"]) as image:
            _require_size(image.size, (width, height))
            if image.mode not in ("1", "L"):
                raise InvalidAnnotation("L03", f"the mask is of mode {image.mode}, expected grey")
            return np.asarray(image) > 0
    except (*UNREADABLE, Image.DecompressionBombError):
        raise InvalidAnnotation("L03", "the mask is no PNG in base64") from None


def _require_size(found: tuple[int, int], expected: tuple[int, int]) -> None:
    """That of the corners, or one pixel less where the mask ends with the image."""
    size = f"the mask is {found[0]} x {found[1]} px"
    for given, whole in zip(found, expected, strict=True):
        if given not in (whole - 1, whole):
            between = f"its corners hold {expected[0]} x {expected[1]} px"
            raise InvalidAnnotation("L03", f"{size}, {between}")
    if found[0] * found[1] > MAX_PIXELS:
        raise InvalidAnnotation("L03", f"{size}, expected at most {MAX_PIXELS} px")
