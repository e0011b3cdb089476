"""Drawing on a crop: sides of tiles, labels, detections, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from tiler.errors import printable

if TYPE_CHECKING:
    from tiler.evaluation.layout import TileLayout
    from tiler.geometry.instances import Instances
    from tiler.types import Bools, Floats

Colour = tuple[int, int, int]

GREEN = (0, 200, 110)
BLUE = (40, 140, 255)
RED = (255, 90, 0)
GREY = (190, 190, 190)
DARK = (0, 0, 0, 120)  # and light: of lines that show on anything
LIGHT = (255, 255, 255, 190)
LONGEST = 26  # letters of a name and a confidence
ARM = 10  # px, of a corner of the brackets


class Caption(NamedTuple):
    """What a box is called.

    Attributes:
        box: `(4,)` px of the image.
        below: it stands below the box, where there is room.
    """

    box: Floats
    text: str
    colour: Colour
    below: bool


@dataclass(frozen=True, slots=True)
class Canvas:
    """A crop to draw on.

    Attributes:
        origin: `(2,)` its top left corner, px of the image.
        scale: its px per px of the image.
        size: its width and height, px.
    """

    draw: ImageDraw.ImageDraw
    origin: Floats
    scale: float
    size: tuple[int, int]

    @classmethod
    def on(cls, crop: Image.Image, corner: tuple[int, int], scale: float) -> Self:
        """On the crop of an image that starts at a corner."""
        return cls(ImageDraw.Draw(crop, "RGBA"), np.array(corner, float), scale, crop.size)

    def scaled(self, box: Floats) -> Floats:
        """`(4,)` a box of the image in px of the crop."""
        return np.asarray((box - np.tile(self.origin, 2)) * self.scale)

    def tiles(self, layout: TileLayout, image: int) -> None:
        """The sides of an image's tiles."""
        for t in range(*layout.offsets[image : image + 2].tolist()):
            self._sides(layout.rects[t], layout.interior[t])

    def _sides(self, rect: Floats, interior: Bools) -> None:
        """A tile's sides within the image as lines, light on dark, to show on anything."""
        left, top, right, bottom = self.scaled(rect).round().tolist()
        ends = (
            (left, top, left, bottom),
            (left, top, right, top),
            (right, top, right, bottom),
            (left, bottom, right, bottom),
        )
        for line, inside in zip(ends, interior.tolist(), strict=True):
            if inside:
                self.draw.line([value + 1 for value in line], fill=DARK)
                self.draw.line(line, fill=LIGHT)

    def outline(self, instances: Instances, i: int, colour: Colour, width: int) -> None:
        """A box, or the rings of an outline."""
        if instances.rings is None:
            self._rectangle(instances.boxes[i], colour, width)
            return
        for ring in instances.rings[i]:
            scaled = (ring - self.origin) * self.scale
            points = [tuple(point) for point in scaled.tolist()]
            self.draw.line([*points, points[0]], fill=colour, width=width, joint="curve")

    def _rectangle(self, box: Floats, colour: Colour, width: int) -> None:
        half = width // 2
        left, top, right, bottom = self.scaled(box).round().tolist()
        start = (left - half, top - half)
        end = (right + half - 1, bottom + half - 1)
        self.draw.rectangle([start, end], outline=colour, width=width)

    def brackets(self, box: Floats) -> None:
        """Corners around what the crop is about."""
        around = self.scaled(box) + np.array((-9, -9, 8, 8))
        left, top, right, bottom = around.round().tolist()
        for x, dx in ((left, ARM), (right, -ARM)):
            for y, dy in ((top, ARM), (bottom, -ARM)):
                self._corner(x + 1, y + 1, dx, dy, fill=(0, 0, 0, 160))
                self._corner(x, y, dx, dy, fill=(255, 255, 255, 255))

    def _corner(
        self, x: float, y: float, dx: int, dy: int, fill: tuple[int, int, int, int]
    ) -> None:
        """Two arms from a point."""
        across = (x + dx, y)
        down = (x, y + dy)
        self.draw.line([across, (x, y), down], fill=fill, width=2)

    def caption(self, caption: Caption) -> None:
        """On a dark ground at a corner of the box, within the crop: above it, or below."""
        font = _font()
        text = plain_text(caption.text)
        if not _scalable():
            text = text.encode("latin-1", "replace").decode("latin-1")
        _, _, width, height = self.draw.textbbox((0, 0), text, font=font)
        box = self.scaled(caption.box)
        x = max(box[0] - 1, 0)
        x = min(x, self.size[0] - width - 4)
        y = self._caption_top(box, height, caption.below)
        ground = (x, y, x + width + 3, y + height + 2)
        self.draw.rectangle(ground, fill=(0, 0, 0, 190))
        self.draw.text((x + 2, y + 1), text, fill=caption.colour, font=font)

    def _caption_top(self, box: Floats, height: float, below: bool) -> float:
        above = box[1] - height - 5
        under = box[3] + 2
        room_under = under + height + 3 <= self.size[1]
        if above >= 0 and not (below and room_under):
            return float(above)
        lowest = self.size[1] - height - 3
        return float(min(max(under, 0), lowest))


def plain_text(text: str) -> str:
    """What the built-in font can draw, and no more than has room.

    >>> plain_text("a\\nb"), plain_text("x" * 40)
    ('a\\\\nb', 'xxxxxxxxxxxxxxxxxxxxxxx...')
    """
    shown = printable(text)
    if len(shown) > LONGEST:
        return f"{shown[: LONGEST - 3]}..."
    return shown


def _scalable() -> bool:
    """Whether Pillow has a font that can be scaled, which knows more than Latin-1."""
    return bool(features.check("freetype2"))


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(13 if _scalable() else None)
