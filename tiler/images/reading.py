"""Decode a picture once, upright."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import BinaryIO

from PIL import Image

from tiler.errors import SourceRefused
from tiler.formats.text import reason
from tiler.images.header import Header

# Pillow's plugins for each format of ours; nothing else is ever tried on a file, or even imported.
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


def decode(file: BinaryIO, header: Header) -> Image.Image:
    """The picture's pixels, turned upright, whole or not at all.

    Args:
        file: the picture, open; the header was read from it.

    Raises:
        SourceRefused: it is truncated or damaged (I03).
        MemoryError: it does not fit.
    """
    try:
        file.seek(0)
        image: Image.Image
        with allowed(header.width * header.height):
            load_plugin(header.format)
            image = Image.open(file, formats=PLUGINS[header.format])
            if header.format == "TIFF":  # by its tag alone, as the trainer does; Pillow would follow XMP too
                image.info.pop("xmp", None)
            image.load()
        if header.orientation != 1 and header.format != "TIFF":  # Pillow turns a TIFF itself
            image = image.transpose(TURNS[header.orientation])
    except MemoryError:
        raise
    except OSError as error:
        raise SourceRefused("I03", f"truncated or damaged: {reason(error)}") from None
    except Exception as error:  # a decoder may fail on damaged bytes in any way; it is the file's fault
        raise SourceRefused("I03", f"damaged: {type(error).__name__}: {error}") from None
    if image.size != header.size:
        raise SourceRefused("I03", f"damaged: it decodes to {image.size}, its header says {header.size}")
    return image


def load_plugin(name: str) -> None:
    """Import Pillow's plugin of a format; left to itself, Pillow imports all of its forty."""
    import_module(f"PIL.{MODULES[name]}ImagePlugin")


MODULES = {"JPEG": "Jpeg", "PNG": "Png", "TIFF": "Tiff", "WEBP": "WebP", "BMP": "Bmp"}


class _Limit:
    """Pillow's limit of pixels, which is global: raised while somebody needs it, then put back."""

    lock = threading.Lock()
    users = 0
    before: int | None = None


@contextmanager
def allowed(pixels: int) -> Iterator[None]:
    """Within it Pillow takes pictures and tiles of so many pixels, which were checked by their header."""
    with _Limit.lock:
        if _Limit.users == 0:
            _Limit.before = Image.MAX_IMAGE_PIXELS
        _Limit.users += 1
        if Image.MAX_IMAGE_PIXELS is not None:
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, pixels)
    try:
        yield
    finally:
        with _Limit.lock:
            _Limit.users -= 1
            if _Limit.users == 0:
                Image.MAX_IMAGE_PIXELS = _Limit.before
