"""Write a tile's pixels to its file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from tiler.images import beyond_pillow, codecs
from tiler.images.encoding import BEYOND_PILLOW, Encoding
from tiler.images.geo import Tag, for_pillow
from tiler.images.pixels import Pixels
from tiler.images.reading import load_plugin

Opener = Callable[[str, int], int]


def save(
    tile: Pixels,
    path: str | Path,
    encoding: Encoding,
    tags: Sequence[Tag] = (),
    opener: Opener | None = None,
) -> int:
    """Encode into a new file and return its size in bytes.

    Args:
        tags: of a TIFF, where it lies in the world.
        opener: makes the file, as in Python's `open`.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    if encoding.mode in BEYOND_PILLOW and isinstance(tile, np.ndarray):
        return store(path, beyond_pillow.encode(tile, encoding, tags), opener)
    if encoding.direct or isinstance(tile, np.ndarray):
        pixels = np.atleast_3d(np.asarray(tile))
        return store(path, codecs.encode(pixels, encoding.format, encoding.options), opener)
    return _save_by_pillow(tile, path, encoding, tags, opener)


def _save_by_pillow(
    tile: Image.Image,
    path: str | Path,
    encoding: Encoding,
    tags: Sequence[Tag],
    opener: Opener | None,
) -> int:
    tile.info = {}
    options = encoding.options
    if tags and encoding.format == "TIFF":
        options = {**options, "tiffinfo": for_pillow(tags)}
    load_plugin(encoding.format)
    with open(path, "w+b", opener=opener) as file:
        # to a file, not memory: Pillow then works without the interpreter lock
        if encoding.format in DIRECT:
            tile.save(file, encoding.format, **options)
            file.flush()
            if _ended(file, encoding.format):
                return os.fstat(file.fileno()).st_size
        # A full disk may take a part of the last write, which Pillow's own writing does not notice
        buffer = io.BytesIO()
        tile.save(buffer, encoding.format, **options)
        file.seek(0)
        file.truncate()
        return file.write(buffer.getbuffer())


def store(path: str | Path, data: bytes, opener: Opener | None = None) -> int:
    """Write these bytes to a new file and return their number.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    with open(path, "wb", opener=opener) as file:
        return file.write(data)


ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
DIRECT = tuple(ENDINGS)


def _ended(file: BinaryIO, name: str) -> bool:
    """Whether a file ends as files of this format do."""
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 8))
    return file.read().endswith(ENDINGS[name])
