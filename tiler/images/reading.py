"""Decode a picture once, upright."""

from __future__ import annotations

import threading
from typing import BinaryIO

from PIL import Image

from tiler.errors import SourceRefused
from tiler.formats.text import reason
from tiler.images.header import Header

# Pillow's plugins for each format of ours; nothing else is ever tried on a file.
PLUGINS = {"JPEG": ["JPEG", "MPO"], "PNG": ["PNG"], "TIFF": ["TIFF"], "WEBP": ["WEBP"], "BMP": ["BMP", "DIB"]}

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_limit = threading.Lock()


def decode(file: BinaryIO, header: Header) -> Image.Image:
    """The picture's pixels, turned upright, whole or not at all.

    Args:
        file: the picture, open; the header was read from it.

    Raises:
        SourceRefused: it is truncated or damaged (I03).
        MemoryError: it does not fit.
    """
    try:
        image = _open(file, header)
        image.load()
        if header.orientation == 1 or header.format == "TIFF":  # Pillow turns a TIFF itself
            return image
        return image.transpose(TURNS[header.orientation])
    except MemoryError:
        raise
    except OSError as error:
        raise SourceRefused("I03", f"truncated or damaged: {reason(error)}") from None
    except Exception as error:  # a decoder may fail on damaged bytes in any way; it is the file's fault
        raise SourceRefused("I03", f"damaged: {type(error).__name__}: {error}") from None


def _open(file: BinaryIO, header: Header) -> Image.Image:
    file.seek(0)
    pixels = header.width * header.height
    with _limit:  # Pillow's limit is global: raised to what the header was checked for, and put back
        before = Image.MAX_IMAGE_PIXELS
        if before is not None:
            Image.MAX_IMAGE_PIXELS = max(before, pixels)
        try:
            image = Image.open(file, formats=PLUGINS[header.format])
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if image.size not in ((header.width, header.height), header.size):
        raise ValueError(f"decodes to {image.size[0]} x {image.size[1]}, its header says {header.size}")
    return image
