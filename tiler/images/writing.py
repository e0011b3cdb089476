"""Cut a window out of a decoded picture and encode it, losing nothing in silence."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from tiler.errors import SourceRefused
from tiler.images.header import TURNED, Header
from tiler.images.reading import allowed, load_plugin
from tiler.window import Window

if TYPE_CHECKING:
    from tiler.types import Floats

FILL = 114  # the trainer's own letterbox grey

FORMATS = {"jpg": ("JPEG", ".jpg"), "png": ("PNG", ".png"), "webp": ("WEBP", ".webp"), "tif": ("TIFF", ".tif")}
SAME = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}
HOLDS = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK", "LAB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
}
# What a mode becomes where it cannot be held, nothing lost first: (modes tried in order)
BECOMES = {
    "1": ("L", "RGB"),
    "L": ("RGB",),
    "P": ("RGB",),
    "PA": ("RGBA", "RGB"),
    "LA": ("RGBA", "L", "RGB"),
    "RGBA": ("RGB",),
    "RGBX": ("RGB",),
    "CMYK": ("RGB",),
    "I;16B": ("I;16",),
}
TIFF_COMPRESSION = {1: None, 5: "tiff_lzw", 32773: "packbits"}  # the source's where it is lossless, else deflate


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the tiles of one picture are written.

    Attributes:
        format: Pillow's name.
        suffix: of the tile's file.
        mode: the pixels' mode; others are converted to it.
        options: for Pillow's `save`.
        note: what the conversion does, or None if nothing is changed.
    """

    format: str
    suffix: str
    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    note: str | None = None


def encoding(image: Image.Image, header: Header, wanted: str, quality: int) -> Encoding:
    """How to write the tiles of a decoded picture.

    Args:
        wanted: `same`, `jpg`, `png`, `webp` or `tif`.
        quality: 1 to 100, of JPEG and lossy WebP.

    Raises:
        SourceRefused: the format cannot hold the pixels (16-bit or float as JPEG, say).
    """
    if wanted == "same" and header.format == "BMP":
        name, suffix = "BMP", ".bmp"
    else:
        name, suffix = FORMATS[SAME[header.format] if wanted == "same" else wanted]
    mode, note = _held(image, name)
    options: dict[str, Any] = {}
    if name == "JPEG":
        options = {"quality": quality}
        if mode == "RGB":  # colour as fine as the source's, and full when that has no such form
            turned = header.orientation in TURNED and header.subsampling == "4:2:2"
            options["subsampling"] = "4:4:4" if turned else header.subsampling or "4:4:4"
    elif name == "PNG":
        options = {"compress_level": 1}  # level 6 takes four times as long for 3 % less
    elif name == "WEBP":
        lossless = header.lossless
        options = {"lossless": True, "exact": True, "quality": 0, "method": 0} if lossless else {"quality": quality, "method": 4}
    elif name == "TIFF":
        compression = (
            TIFF_COMPRESSION.get(header.compression, "tiff_adobe_deflate") if header.format == "TIFF" else "tiff_adobe_deflate"
        )
        options = {"compression": compression} if compression else {}
    if (profile := image.info.get("icc_profile")) and _colours(mode) == _colours(image.mode):
        options["icc_profile"] = profile
    if name == "PNG" and mode == image.mode and "transparency" in image.info:
        options["transparency"] = image.info["transparency"]
    return Encoding(name, suffix, mode, options, note)


def _held(image: Image.Image, name: str) -> tuple[str, str | None]:
    """The mode that a format is given the pixels in, and a note when that changes them."""
    clear = "transparency" in image.info and name != "PNG"  # one colour stands for none
    if image.mode in HOLDS[name] and not clear:
        return image.mode, None
    tried = BECOMES.get(image.mode, ())
    if "transparency" in image.info:
        tried = (*WITH_ALPHA.get(image.mode, ()), image.mode, *tried)
    mode = next((m for m in tried if m in HOLDS[name]), None)
    if mode is None:
        raise SourceRefused("I06", f"{_described(image)}, which {name} cannot hold; use --format same, png or tif")
    if image.mode == "I;16B":
        return mode, None  # the same numbers
    if mode == image.mode:
        return mode, f"{_described(image)} with a transparent colour written as {mode} without, since {name} cannot hold it"
    return mode, f"{_described(image)} written as {mode}, since {name} cannot hold it"


WITH_ALPHA = {"1": ("LA", "RGBA"), "L": ("LA", "RGBA"), "P": ("RGBA",), "RGB": ("RGBA",)}


def _colours(mode: str) -> str:
    """What a profile of the mode describes."""
    return {"CMYK": "CMYK", "LAB": "LAB", "RGB": "RGB", "RGBA": "RGB", "P": "RGB"}.get(mode, "grey")


def _described(image: Image.Image) -> str:
    names = {"I;16": "16-bit grey", "I;16B": "16-bit grey", "F": "float grey", "I": "32-bit grey", "LAB": "CIELAB"}
    return names.get(image.mode, image.mode)


def cut(image: Image.Image, window: Window, size: tuple[int, int], encoding: Encoding) -> Image.Image:
    """The window's pixels in the encoding's mode, resampled to `size` (width, height).

    Beyond the picture's border lies the fill colour.
    """
    inner = window.intersection(Window(0, 0, *image.size))
    assert inner is not None
    with allowed(inner.width * inner.height):
        tile = image.crop((inner.x, inner.y, inner.right, inner.bottom))
    if inner != window:
        padded = Image.new(image.mode, (window.width, window.height), fill(tile))
        if image.mode == "P":
            padded.putpalette(image.getpalette(image.palette.mode), image.palette.mode)  # type: ignore[union-attr, arg-type]
        padded.paste(tile, (inner.x - window.x, inner.y - window.y))
        tile = padded
    if tile.mode != encoding.mode:
        tile.info = {k: v for k, v in image.info.items() if k == "transparency"}
        if tile.mode == "I;16B":  # Pillow's direct way to I;16 clips to 255
            tile = tile.convert("I")
        tile = tile.convert(encoding.mode)
    if tile.size != size:
        tile = _resampled(tile, size)
    return tile


def _resampled(tile: Image.Image, size: tuple[int, int]) -> Image.Image:
    if tile.mode in ("P", "1"):  # indices cannot be averaged
        return tile.resize(size, Image.Resampling.NEAREST)
    return tile.resize(size, Image.Resampling.LANCZOS)


def fill(tile: Image.Image) -> Any:
    """The fill colour in the tile's mode: the trainer's grey, or what is nearest to it."""
    if tile.mode in ("L", "1"):
        return FILL if tile.mode == "L" else 0
    if tile.mode == "P":
        palette = tile.convert("RGB").getpalette() if tile.palette is None else tile.getpalette("RGB")
        colours = [(palette or [])[i : i + 3] for i in range(0, len(palette or []), 3)]
        return min(range(len(colours)), key=lambda i: sum((c - FILL) ** 2 for c in colours[i]), default=0)
    if tile.mode in ("I;16", "I;16B"):
        return FILL * 257
    if tile.mode == "F":
        low, high = tile.getextrema()
        return (low + high) / 2  # type: ignore[operator]
    if tile.mode == "CMYK":
        return (0, 0, 0, 255 - FILL)
    if tile.mode == "LAB":
        return (122, 128, 128)
    bands = len(tile.getbands())
    return tuple([FILL] * min(bands, 3) + [255] * (bands - 3)) if tile.mode != "LA" else (FILL, 255)


def paint_out(tile: Image.Image, hidden: list[list[Floats]], shown: list[list[Floats]]) -> None:
    """Paint outlines with the fill colour, in place, but for what lies under the outlines shown.

    Args:
        hidden, shown: for each object its rings, `(V, 2)` in pixels of the tile.
    """
    mask = Image.new("L", tile.size, 0)
    draw = ImageDraw.Draw(mask)
    for value, objects in ((255, hidden), (0, shown)):
        for rings in objects:
            _draw(mask, draw, rings, value)
    colour = fill(tile)
    if tile.mode in ("I;16", "I;16B"):  # Pillow pastes these through a mask in the wrong place
        pixels = np.array(tile)
        pixels[np.asarray(mask) > 0] = colour
        tile.paste(Image.fromarray(pixels))
    else:
        tile.paste(colour, (0, 0, *tile.size), mask)


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


def save(tile: Image.Image, path: str | Path, encoding: Encoding) -> int:
    """Encode into a new file and return its size in bytes.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    tile.info = {}
    load_plugin(encoding.format)
    with open(path, "w+b") as file:
        if encoding.format in DIRECT:  # to a file, not memory: Pillow then works without the interpreter lock
            tile.save(file, encoding.format, **encoding.options)
            file.flush()
            if _ended(file, encoding.format):
                return os.fstat(file.fileno()).st_size
        # A full disk may take a part of the last write, which Pillow's own writing does not notice
        buffer = io.BytesIO()
        tile.save(buffer, encoding.format, **encoding.options)
        file.seek(0)
        file.truncate()
        return file.write(buffer.getbuffer())


ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
DIRECT = tuple(ENDINGS)


def _ended(file: BinaryIO, name: str) -> bool:
    """Whether the last bytes are those that end a file of this format."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 8))
    return file.read().endswith(ENDINGS[name])
