"""Outlines drawn as masks of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw

if TYPE_CHECKING:
    from tiler.types import Bools, Floats


def covered(size: tuple[int, int], hidden: list[list[Floats]], shown: list[list[Floats]]) -> Bools:
    """`(height, width)` the pixels under hidden outlines, except those under shown ones.

    Args:
        size: width and height.
        hidden, shown: for each object its rings, `(V, 2)` in pixels.
    """
    mask = Image.new("L", size, 0)
    for rings in hidden:
        _draw(mask, rings, 255)
    for rings in shown:
        _draw(mask, rings, 0)
    return np.asarray(mask) > 0


def _draw(mask: Image.Image, rings: list[Floats], value: int) -> None:
    """Set every pixel that an outline (filled even-odd) touches, as near as Pillow draws it."""
    if len(rings) == 1:
        ImageDraw.Draw(mask).polygon(_corners(rings[0]), fill=value, outline=value)
        return
    layer = Image.new("1", mask.size, 0)
    for ring in rings:
        filled = Image.new("1", mask.size, 0)
        ImageDraw.Draw(filled).polygon(_corners(ring), fill=1)
        layer = ImageChops.logical_xor(layer, filled)
    mask.paste(value, (0, 0, *mask.size), layer)


def _corners(ring: Floats) -> list[tuple[float, float]]:
    """A ring as Pillow draws it, from centre to centre of pixels."""
    return [(x - 0.5, y - 0.5) for x, y in ring.tolist()]
