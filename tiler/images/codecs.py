"""Faster codecs (imagecodecs, the extra `fast`), where they are installed: JPEG both ways, PNG to
encode.

Decoded pixels are those of Pillow, and Pillow remains the judge: what they do not read
without a word is given to it. PNGs are decoded by it alone, which checks them as a whole.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tiler.images.header import Header

OFF = "TILER_PILLOW_ONLY"  # an environment variable, to compare
ENCODED = {"JPEG": ("L", "RGB"), "PNG": ("L", "LA", "RGB", "RGBA", "I;16")}


@cache
def library() -> Any:
    """imagecodecs, or None."""
    if os.environ.get(OFF):
        return None
    try:
        import imagecodecs

        _ = imagecodecs.jpeg8_encode, imagecodecs.jpeg8_decode, imagecodecs.png_encode
    except (ImportError, AttributeError):
        return None
    return imagecodecs


def encodes(name: str, mode: str, options: dict[str, Any]) -> bool:
    """Whether `encode` makes such a file: nothing but pixels, by a quality or level."""
    plain = options.keys() <= {"quality", "subsampling", "compress_level"}
    return plain and mode in ENCODED.get(name, ()) and library() is not None


def encode(pixels: NDArray[Any], name: str, options: dict[str, Any]) -> bytes:
    """A JPEG or PNG of an array `(height, width, bands)`, with Pillow's options."""
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if name == "PNG":
        return bytes(library().png_encode(pixels, level=options["compress_level"]))
    subsampling = options.get("subsampling", "4:4:4").replace(":", "")
    quality = options["quality"]
    return bytes(library().jpeg8_encode(pixels, level=quality, subsampling=subsampling))


def decode(data: bytes, header: Header) -> NDArray[Any] | None:
    """The pixels `(height, width, bands)` of a JPEG as stored, or None where Pillow shall decide."""
    able = header.format == "JPEG" and header.problem is None and header.bands in (1, 3)
    if not able or library() is None or not _complete(data):
        return None
    try:
        pixels = library().jpeg8_decode(data)
    except Exception:  # of the library's own kind, whatever is wrong with the file
        return None
    pixels = np.asarray(pixels)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return (
        pixels
        if pixels.shape == (header.height, header.width, header.bands) and pixels.dtype == np.uint8
        else None
    )


def _complete(data: bytes) -> bool:
    """Whether a JPEG ends as it should: its decoder fills what is missing with grey and says
    nothing.
    """
    at = 2
    # from segment to segment, since a thumbnail in one of them ends too
    while data[at : at + 1] == b"\xff":
        if (kind := data[at + 1 : at + 2]) == b"\xda":
            return data.rfind(b"\xff\xd9", at) >= 0
        fill = kind == b"\xff"
        at += 1 if fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
