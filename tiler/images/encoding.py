"""How the tiles of an image are written: in which format and mode, so that nothing is lost in
silence.
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
# Beyond Pillow's modes: 16-bit colour, and any other bands (of any depth), which only arrays hold
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
# the source's where it is lossless, else deflate
TIFF_COMPRESSION = {1: None, 5: "tiff_lzw", 32773: "packbits"}


class ModeAndInfo(Protocol):
    """What an image shows of itself: Pillow's mode or one of `DEEP` and `BANDS`, and Pillow's
    `info`.
    """

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
    look: ModeAndInfo,
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
    name, suffix = _format(look, header, wanted)
    mode, note = _held(look, name)
    options: dict[str, Any] = {}
    if name == "JPEG":
        options = {"quality": quality} if tables is None else {"qtables": tables}
        if mode == "RGB":  # colour as fine as the source's, and full when that has no such form
            turned = header.orientation in TURNED and header.subsampling == "4:2:2"
            options["subsampling"] = "4:4:4" if turned else header.subsampling or "4:4:4"
    elif name == "PNG":
        options = {"compress_level": 1}  # level 6 takes four times as long for 3 % less
    elif name == "WEBP":
        lossless = header.lossless
        options = (
            {"lossless": True, "exact": True, "quality": 0, "method": 0}
            if lossless
            else {"quality": quality, "method": 4}
        )
    elif name == "TIFF":
        compression = (
            TIFF_COMPRESSION.get(header.compression, "tiff_adobe_deflate")
            if header.format == "TIFF"
            else "tiff_adobe_deflate"
        )
        options = {"compression": compression} if compression else {}
    if (profile := look.info.get("icc_profile")) and _colours(mode) == _colours(look.mode):
        options["icc_profile"] = profile
    if name == "PNG" and mode == look.mode and "transparency" in look.info:
        options["transparency"] = look.info["transparency"]
    direct = mode in BEYOND_PILLOW or codecs.encodes(name, mode, options)
    return Encoding(name, suffix, mode, options, note, direct)


def _format(look: ModeAndInfo, header: Header, wanted: str) -> tuple[str, str]:
    if wanted != "same":
        return FORMATS[wanted]
    if header.format == "BMP":
        return "BMP", ".bmp"
    if header.format == "JPEG 2000":  # slow to write, and seldom lossless
        return FORMATS["png" if look.mode in HOLDS["PNG"] else "tif"]
    return FORMATS[SAME[header.format]]


def _held(look: ModeAndInfo, name: str) -> tuple[str, str | None]:
    """The mode that a format is given the pixels in, and a note when that changes them."""
    clear = "transparency" in look.info and name != "PNG"  # one colour stands for none
    if look.mode in HOLDS[name] and not clear:
        return look.mode, None
    tried = BECOMES.get(look.mode, ())
    if "transparency" in look.info:
        tried = (*WITH_ALPHA.get(look.mode, ()), look.mode, *tried)
    mode = next((m for m in tried if m in HOLDS[name]), None)
    if mode is None:
        deep = look.mode not in ("LAB", BANDS)
        mend = "use --format same, png or tif" + (", or --stretch" if deep else "")
        raise SourceRefused("I06", f"{_described(look)}, which {name} cannot hold; {mend}")
    if look.mode == "I;16B":
        return mode, None  # the same numbers
    if mode == look.mode:
        return (
            mode,
            f"{_described(look)} with a transparent colour written as {mode} without, since "
            f"{name} cannot hold it",
        )
    return mode, f"{_described(look)} written as {mode}, since {name} cannot hold it"


WITH_ALPHA = {"1": ("LA", "RGBA"), "L": ("LA", "RGBA"), "P": ("RGBA",), "RGB": ("RGBA",)}


def _colours(mode: str) -> str:
    """What a profile of the mode describes."""
    return {"CMYK": "CMYK", "LAB": "LAB", "P": "RGB", BANDS: BANDS}.get(
        mode, "RGB" if mode.startswith("RGB") else "grey"
    )


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


def _described(look: ModeAndInfo) -> str:
    return DESCRIBED.get(look.mode, look.mode)
