"""Outlines drawn as masks of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw

if TYPE_CHECKING:
    from tiler.types import Bools, Floats


def covered(size: tuple[int, int], hidden: list[list[Floats]], shown: list[list[Floats]]) -> Bools:
    """`(height, width)` the pixels under the outlines hidden, but for those under the ones shown.

    Args:
        size: width and height.
        hidden, shown: for each object its rings, `(V, 2)` in pixels.
    """
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    for value, objects in ((255, hidden), (0, shown)):
        for rings in objects:
            _draw(mask, draw, rings, value)
    return np.asarray(mask) > 0


def _draw(mask: Image.Image, draw: ImageDraw.ImageDraw, rings: list[Floats], value: int) -> None:
    """Every pixel that an outline (filled even-odd) reaches into, as near as a polygon drawer goes."""
    if len(rings) == 1:
        draw.polygon([(x - 0.5, y - 0.5) for x, y in rings[0].tolist()], fill=value, outline=value)
        return
    layer = Image.new("1", mask.size, 0)
    for ring in rings:
        one = Image.new("1", mask.size, 0)
        ImageDraw.Draw(one).polygon([(x - 0.5, y - 0.5) for x, y in ring.tolist()], fill=1)
        layer = ImageChops.logical_xor(layer, one)
    mask.paste(value, (0, 0, *mask.size), layer)
