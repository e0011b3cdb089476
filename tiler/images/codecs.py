"""Faster codecs (imagecodecs, the extra `fast`), where they are installed: they decode JPEG, and
encode JPEG and PNG.

They decode to the pixels of Pillow. What they cannot read is left to Pillow, which decides whether
it is damaged. PNGs are decoded by Pillow alone, which checks the whole file.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tiler.images.header import Header

OFF = "TILER_PILLOW_ONLY"  # environment variable that turns them off, for comparisons
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
    """Whether `encode` can make such a file: pixels without a profile, by a quality or level."""
    plain = options.keys() <= {"quality", "subsampling", "compress_level"}
    return plain and mode in ENCODED.get(name, ()) and library() is not None


def encode(pixels: NDArray[Any], name: str, options: dict[str, Any]) -> bytes:
    """A JPEG or PNG of an array `(height, width, bands)`, with Pillow's options."""
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if name == "PNG":
        level = options["compress_level"]
        return bytes(library().png_encode(pixels, level=level))
    subsampling = options.get("subsampling", "4:4:4").replace(":", "")
    quality = options["quality"]
    return bytes(library().jpeg8_encode(pixels, level=quality, subsampling=subsampling))


def decode(data: bytes, header: Header) -> NDArray[Any] | None:
    """The pixels `(height, width, bands)` of a JPEG as stored, or None to leave it to Pillow."""
    if header.format != "JPEG" or header.problem is not None or header.bands not in (1, 3):
        return None
    if library() is None or not _complete(data):
        return None
    try:
        pixels = np.asarray(library().jpeg8_decode(data))
    except Exception:  # of the library's own kind, whatever is wrong with the file
        return None
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    expected = (header.height, header.width, header.bands)
    if pixels.shape != expected or pixels.dtype != np.uint8:
        return None
    return pixels


def _complete(data: bytes) -> bool:
    """Whether a JPEG has its end marker: the decoder fills what is missing with grey, without a
    warning.
    """
    at = 2
    # from segment to segment, since a thumbnail in one of them has an end marker too
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1 : at + 2]
        if marker == b"\xda":
            return data.rfind(b"\xff\xd9", at) >= 0
        if marker == b"\xff":  # a fill byte
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
