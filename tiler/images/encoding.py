"""How the tiles of an image are written: in which format and mode, so that nothing is lost without
a note.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from tiler.errors import SourceRefused
from tiler.images import codecs
from tiler.images.header import TURNED, Header

FORMATS = {
    "jpg": ("JPEG", ".jpg"),
    "png": ("PNG", ".png"),
    "webp": ("WEBP", ".webp"),
    "tif": ("TIFF", ".tif"),
}
SAME = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}
# Modes that Pillow lacks, held by arrays only: 16-bit colour, and other bands of any depth
DEEP = ("LA;16", "RGB;16", "RGBA;16")
BANDS = "bands"
BEYOND_PILLOW = (*DEEP, BANDS)
HOLDS = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", *DEEP),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "CMYK", "LAB", *DEEP, BANDS),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
}
# What a mode becomes where a format cannot hold it: modes tried in order, lossless ones first
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
# Compression of tiles: the source's where it is lossless, else deflate
TIFF_COMPRESSION = {1: None, 5: "tiff_lzw", 32773: "packbits"}
DEFLATE = "tiff_adobe_deflate"


class ModeAndInfo(Protocol):
    """An image's mode (Pillow's, or one of `DEEP` and `BANDS`) and its `info` as Pillow has it."""

    @property
    def mode(self) -> str: ...

    @property
    def info(self) -> dict[Any, Any]: ...


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the tiles of one image are written.

    Attributes:
        format: Pillow's name.
        suffix: of the tile's file.
        mode: the pixels' mode; others are converted to it.
        options: for Pillow's `save`.
        note: what the conversion does, or None if nothing is changed.
        direct: whether an array is encoded as it is, without Pillow.
    """

    format: str
    suffix: str
    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    note: str | None = None
    direct: bool = False


def encoding(
    image: ModeAndInfo,
    header: Header,
    wanted: str,
    quality: int,
    tables: list[list[int]] | None = None,
) -> Encoding:
    """How to write the tiles of an image.

    Args:
        wanted: `same`, `jpg`, `png`, `webp` or `tif`.
        quality: 1 to 100, of JPEG and lossy WebP.
        tables: quantisation tables of a JPEG source, by component, in place of a quality.

    Raises:
        SourceRefused: the format cannot hold the pixels (16-bit or float as JPEG, say).
    """
    name, suffix = _format(image, header, wanted)
    mode, note = _held(image, name)
    options: dict[str, Any] = {}
    if name == "JPEG":
        options = _jpeg_options(mode, header, quality, tables)
    elif name == "PNG":
        options = {"compress_level": 1}  # level 6 takes four times as long for 3 % less
    elif name == "WEBP":
        options = _webp_options(header, quality)
    elif name == "TIFF":
        options = _tiff_options(header)
    profile = image.info.get("icc_profile")
    if profile and _colour_space(mode) == _colour_space(image.mode):
        options["icc_profile"] = profile
    if name == "PNG" and mode == image.mode and "transparency" in image.info:
        options["transparency"] = image.info["transparency"]
    direct = mode in BEYOND_PILLOW or codecs.encodes(name, mode, options)
    return Encoding(name, suffix, mode, options, note, direct)


def _format(image: ModeAndInfo, header: Header, wanted: str) -> tuple[str, str]:
    """Name and suffix of the format in which tiles are written."""
    if wanted != "same":
        return FORMATS[wanted]
    if header.format == "BMP":
        return "BMP", ".bmp"
    if header.format != "JPEG 2000":
        return FORMATS[SAME[header.format]]
    # JPEG 2000 is slow to write, and seldom lossless
    if image.mode in HOLDS["PNG"]:
        return FORMATS["png"]
    return FORMATS["tif"]


def _held(image: ModeAndInfo, name: str) -> tuple[str, str | None]:
    """The mode in which a format is given the pixels, and a note when that changes them."""
    transparent = "transparency" in image.info  # one colour stands for none
    if image.mode in HOLDS[name] and (name == "PNG" or not transparent):
        return image.mode, None
    tried = BECOMES.get(image.mode, ())
    if transparent:
        tried = (*WITH_ALPHA.get(image.mode, ()), image.mode, *tried)
    mode = next((mode for mode in tried if mode in HOLDS[name]), None)
    if mode is None:
        raise _not_held(image.mode, name)
    if image.mode == "I;16B":
        return mode, None  # the same numbers
    described = _described(image.mode)
    if mode == image.mode:
        change = f"with a transparent colour written as {mode} without"
    else:
        change = f"written as {mode}"
    return mode, f"{described} {change}, since {name} cannot hold it"


def _not_held(mode: str, name: str) -> SourceRefused:
    hint = "use --format same, png or tif"
    if mode not in ("LAB", BANDS):
        hint += ", or --stretch"
    return SourceRefused("I06", f"{_described(mode)}, which {name} cannot hold; {hint}")


def _jpeg_options(
    mode: str, header: Header, quality: int, tables: list[list[int]] | None
) -> dict[str, Any]:
    options: dict[str, Any] = {"quality": quality}
    if tables is not None:
        options = {"qtables": tables}
    if mode != "RGB":
        return options
    # colour as fine as the source's, and full where the tile cannot have the source's form
    options["subsampling"] = header.subsampling or "4:4:4"
    if header.subsampling == "4:2:2" and header.orientation in TURNED:
        options["subsampling"] = "4:4:4"
    return options


def _webp_options(header: Header, quality: int) -> dict[str, Any]:
    if header.lossless:
        return {"lossless": True, "exact": True, "quality": 0, "method": 0}
    return {"quality": quality, "method": 4}


def _tiff_options(header: Header) -> dict[str, Any]:
    compression: str | None = DEFLATE
    if header.format == "TIFF":
        compression = TIFF_COMPRESSION.get(header.compression, DEFLATE)
    if compression is None:
        return {}
    return {"compression": compression}


WITH_ALPHA = {"1": ("LA", "RGBA"), "L": ("LA", "RGBA"), "P": ("RGBA",), "RGB": ("RGBA",)}
COLOUR_SPACES = {"CMYK": "CMYK", "LAB": "LAB", "P": "RGB", BANDS: BANDS}


def _colour_space(mode: str) -> str:
    """What a colour profile of the mode describes."""
    if mode.startswith("RGB"):
        return "RGB"
    return COLOUR_SPACES.get(mode, "grey")


DESCRIBED = {
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "F": "float grey",
    "I": "32-bit grey",
    "LAB": "CIELAB",
    "LA;16": "16-bit grey with alpha",
    "RGB;16": "16-bit RGB",
    "RGBA;16": "16-bit RGBA",
    BANDS: "other bands than grey or RGB",
}


def _described(mode: str) -> str:
    return DESCRIBED.get(mode, mode)
