"""Drawing on an image: outlines of objects, sides of tiles, and what they are called.

An outline is drawn around its object, never on it: the object's own pixels stay as they are, so
that something of five pixels is still to be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, features

from tiler.errors import printable
from tiler.geometry import boxes as box_arithmetic
from tiler.geometry.instances import labelled
from tiler.images.outlines import covered

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.types import Bools, Floats, Ints

Colour = tuple[int, int, int]

GREEN = (0, 200, 110)
BLUE = (40, 140, 255)
RED = (255, 90, 0)
GREY = (190, 190, 190)
DARK = (0, 0, 0, 120)  # and light: of lines that show on anything
LIGHT = (255, 255, 255, 190)
# Of classes: Okabe and Ito's colours, which the colour-blind can tell apart, brighter where they
# would be lost on a dark image. None is grey.
PALETTE: tuple[Colour, ...] = (
    (86, 190, 255),
    (255, 165, 20),
    (0, 215, 140),
    (255, 95, 50),
    (245, 235, 66),
    (240, 130, 215),
    (110, 125, 255),
    (170, 80, 20),
)
LONGEST = 26  # letters of a name and a confidence
ARM = 10  # px, of a corner of the brackets
LEAST = 3  # px: a smaller object is drawn as one of this side around its middle
SHADE = 150  # of 255: how dark the halo of an outline is
DASH = 4  # px
HATCH = 7  # px from one line to the next
GAP = 2  # px around a caption
TEXT = 13  # px, the size of letters; and of those beside small objects
SMALL = 10
VISIBLE = 2  # of a keypoint


def class_colour(class_id: int) -> Colour:
    """The colour of a class, the same in every image.

    >>> class_colour(0) == class_colour(len(PALETTE)), class_colour(0) == class_colour(1)
    (True, False)
    """
    return PALETTE[class_id % len(PALETTE)]


class Caption(NamedTuple):
    """What a box is called.

    Attributes:
        box: `(4,)` px of the image.
        below: it stands below the box, where there is room.
    """

    box: Floats
    text: str
    colour: Colour
    below: bool = False


@dataclass(frozen=True, slots=True)
class Stroke:
    """How an outline is drawn.

    Attributes:
        width: px.
        away: px between the object and the line.
        halo: px of shade on its outer side, so that it shows on anything.
        dashed: with gaps.
    """

    colour: Colour
    width: int = 1
    away: int = 0
    halo: int = 0
    dashed: bool = False

    @property
    def reach(self) -> int:
        """How far from the object anything is drawn, px."""
        return self.away + self.width + self.halo


class Silhouette(NamedTuple):
    """The pixels of an object, and those around it.

    Attributes:
        mask: of mode L, 255 on the object.
        corner: of the mask, px of the crop.
        rings: `(V, 2)` each, the object's boundary, px of the mask.
    """

    mask: Image.Image
    corner: tuple[int, int]
    rings: Sequence[Floats]

    def grown(self, by: int) -> Image.Image:
        """With what lies at most this many pixels away, also diagonally."""
        if by == 0:
            return self.mask
        return self.mask.filter(ImageFilter.MaxFilter(2 * by + 1))

    def around(self, start: int, end: int) -> Image.Image:
        """The pixels that lie between these distances from the object."""
        return ImageChops.subtract(self.grown(end), self.grown(start))

    def dashes(self, reach: int) -> Image.Image:
        """Every other stretch of the boundary, and what is as near to it."""
        mask = Image.new("L", self.mask.size, 0)
        draw = ImageDraw.Draw(mask)
        for ring in self.rings:
            for corners in _dashes(ring, reach).tolist():
                draw.polygon([tuple(corner) for corner in corners], fill=255)
        return mask

    def stripes(self) -> Image.Image:
        """Slanted lines over all of it, the same on every part of a crop."""
        across, down = self.mask.size
        left, top = self.corner
        x = np.arange(left, left + across)
        y = np.arange(top, top + down)
        on = (x + y[:, None]) % HATCH == 0
        lines = Image.fromarray(on.astype(np.uint8) * 255)
        return ImageChops.darker(self.mask, lines)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A crop to draw on.

    Attributes:
        image: its pixels, RGB.
        origin: `(2,)` its top left corner, px of the image.
        scale: its px per px of the image.
    """

    image: Image.Image
    draw: ImageDraw.ImageDraw
    origin: Floats
    scale: float

    @classmethod
    def on(cls, crop: Image.Image, corner: tuple[float, float], scale: float) -> Self:
        """On the crop of an image that starts at a corner."""
        return cls(crop, ImageDraw.Draw(crop, "RGBA"), np.array(corner, float), scale)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""
        return self.image.size

    def scaled(self, box: Floats) -> Floats:
        """`(4,)` or `(N, 4)` boxes of the image in px of the crop."""
        return np.asarray((box - np.tile(self.origin, 2)) * self.scale)

    def tiles(self, rects: Floats, interior: Bools) -> None:
        """The sides of tiles, but for those at the border of the image.

        Args:
            rects: `(T, 4)` px of the image.
            interior: `(T, 4)` the sides that are drawn: left, top, right, bottom.
        """
        for rect, inside in zip(rects, interior, strict=True):
            self._sides(rect, inside)

    def frame(self, rect: Floats) -> None:
        """All sides of a rectangle."""
        self._sides(rect, np.ones(4, bool))

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

    def outline(self, instances: Instances, i: int, stroke: Stroke) -> None:
        """A line around a box, or around an outline and in its holes."""
        rings = [] if instances.rings is None else instances.rings[i]
        self.around(instances.boxes[i], rings, stroke)

    def around(self, box: Floats, rings: Sequence[Floats], stroke: Stroke) -> None:
        """A line around a box, or around what its rings enclose."""
        shape = self._silhouette(box, rings, stroke.reach)
        if shape is None:
            return
        start = stroke.away
        end = start + stroke.width
        if stroke.halo:
            shade = shape.around(end, end + stroke.halo)
            self._paint(shape, shade.point(_shaded), (0, 0, 0))
        line = shape.around(start, end)
        if stroke.dashed:
            line = ImageChops.darker(line, shape.dashes(2 * end))
        self._paint(shape, line, stroke.colour)

    def hatch(self, box: Floats, rings: Sequence[Floats]) -> None:
        """Grey lines across a region that is ignored, and around it."""
        shape = self._silhouette(box, rings, 1)
        if shape is not None:
            self._paint(shape, shape.stripes(), GREY)
            self._paint(shape, shape.around(0, 1), GREY)

    def _paint(self, shape: Silhouette, mask: Image.Image, colour: Colour) -> None:
        self.image.paste(colour, shape.corner, mask)

    def _silhouette(self, box: Floats, rings: Sequence[Floats], reach: int) -> Silhouette | None:
        """The pixels that an object touches, with room around it; None outside of the crop."""
        pixels = _whole_pixels(self.scaled(box))
        reach += 1  # Pillow may fill a pixel more
        room = np.array([-reach, -reach, reach, reach])
        # also what lies just beyond the crop: the line around it may not
        limit = np.tile(self.size, 2) + reach
        left, top, right, bottom = np.clip(pixels + room, -reach, limit).tolist()
        size = (right - left, bottom - top)
        if min(size) <= 0:
            return None
        corner = np.array([left, top])
        sides = pixels[2:] - pixels[:2]
        if len(rings) and sides.max() > LEAST:
            scaled = [(ring - self.origin) * self.scale - corner for ring in rings]
            inside = covered(size, [scaled], []).astype(np.uint8)
            return Silhouette(Image.fromarray(inside * 255), (left, top), scaled)
        mask = Image.new("L", size, 0)
        within = pixels - np.tile(corner, 2)
        mask.paste(255, tuple(within.tolist()))
        x0, y0, x1, y1 = within.astype(np.float64)
        around = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return Silhouette(mask, (left, top), [around])

    def keypoints(self, points: Floats, colour: Colour) -> None:
        """Dots where keypoints are: full if visible, hollow if hidden.

        Args:
            points: `(K, 3)` px of the image, and the visibility.
        """
        for x, y, visibility in points[labelled(points)].tolist():
            scaled = (np.array([x, y]) - self.origin) * self.scale
            left, top = np.floor(scaled).astype(int).tolist()
            self.draw.rectangle((left - 2, top - 2, left + 2, top + 2), outline=DARK)
            fill = colour if visibility >= VISIBLE else None
            self.draw.rectangle((left - 1, top - 1, left + 1, top + 1), fill=fill, outline=colour)

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
        text = plain_text(caption.text)
        width, height = text_size(text)
        box = self.scaled(caption.box)
        x = max(box[0] - 1, 0)
        x = min(x, self.size[0] - width - 4)
        y = self._caption_top(box, height, caption.below)
        self._write(text, (x, y, x + width + 3, y + height + 2), caption.colour)

    def captions(self, captions: Sequence[Caption], boxes: Floats) -> None:
        """Each where it covers no object and no other caption, beside its box; else not at all.

        Args:
            boxes: `(N, 4)` of all objects, px of the image.
        """
        room = 2 * GAP
        taken = self.scaled(boxes) + np.array([-1, -1, 1, 1])
        for caption in captions:
            text = plain_text(caption.text)
            width, height = text_size(text, SMALL)
            left, top, right, bottom = self.scaled(caption.box).tolist()
            w, h = width + 3, height + 2
            corners = (
                (left - 1, top - h - room),
                (left - 1, bottom + room),
                (right + room, top - 1),
                (left - w - room, top - 1),
            )
            for x, y in corners:
                ground = np.array([x, y, x + w, y + h])
                if self._free(ground, taken):
                    self._write(text, (x, y, x + w, y + h), caption.colour, SMALL)
                    taken = np.concatenate([taken, ground[None]])
                    break

    def _free(self, ground: Floats, taken: Floats) -> bool:
        """Whether a place lies in the crop and meets none of those taken."""
        inside = (ground[:2] >= 0).all() and (ground[2:] < self.size).all()
        met, _ = box_arithmetic.pairs(taken, ground[None])
        return bool(inside) and not len(met)

    def _write(
        self, text: str, ground: tuple[float, float, float, float], colour: Colour, size: int = TEXT
    ) -> None:
        self.draw.rectangle(ground, fill=(0, 0, 0, 190))
        write(self.draw, (ground[0] + 2, ground[1] + 1), text, colour, size)

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


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    colour: Colour,
    size: int = TEXT,
) -> None:
    """A line of text, by its top left corner."""
    draw.text(place, _drawable(text), fill=colour, font=_font(size))


def text_size(text: str, size: int = TEXT) -> tuple[int, int]:
    """Width and height of a line of text, px."""
    _, _, width, height = _font(size).getbbox(_drawable(text))
    return int(width), int(height)


def _drawable(text: str) -> str:
    if _scalable():
        return text
    return text.encode("latin-1", "replace").decode("latin-1")


def _scalable() -> bool:
    """Whether Pillow has a font that can be scaled, which knows more than Latin-1."""
    return bool(features.check("freetype2"))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size if _scalable() else None)


def _shaded(value: int) -> int:
    """A mask that lets the image through."""
    return value * SHADE // 255


def _dashes(ring: Floats, reach: int) -> Floats:
    """`(D, 4, 2)` corners of what lies beside every other stretch of a ring."""
    closed = np.concatenate([ring, ring[:1]])
    steps = np.hypot(*np.diff(closed, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(1, round(along[-1] / (2 * DASH)))
    places = np.linspace(0, along[-1], 2 * count + 1)
    x = np.interp(places, along, closed[:, 0])
    y = np.interp(places, along, closed[:, 1])
    points = np.stack([x, y], axis=1) - 0.5  # Pillow draws from centre to centre of pixels
    start, end = points[:-1:2], points[1::2]
    direction = end - start
    length = np.maximum(np.hypot(*direction.T), 1e-9)[:, None]
    aside = direction[:, ::-1] * [-1, 1] / length * reach
    return np.stack([start + aside, end + aside, end - aside, start - aside], axis=1)


def _whole_pixels(box: Floats) -> Ints:
    """`(4,)` the pixels that a box touches, half-open, at least `LEAST` a side."""
    near = 1e-6  # of labels that were written with few digits
    first = np.floor(box[:2] + near)
    last = np.ceil(box[2:] - near)
    lacking = np.maximum(LEAST - (last - first), 0)
    first -= lacking // 2
    last = np.maximum(last, first + LEAST)
    return np.concatenate([first, last]).astype(np.int64)
