"""Bands on pages of their own, which is how the trainer reads images of many bands."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.errors import SourceRefused
from tiler.images import tiff
from tiler.images.header import Header
from tiler.images.pillow_limit import allowed

EQUAL = (tiff.WIDTH, tiff.HEIGHT, tiff.BITS, tiff.BANDS, tiff.SAMPLE_FORMAT)


def stand_for_bands(file: BinaryIO, header: Header, bands: int) -> bool:
    """Whether an image is an upright TIFF of this number of equal pages, of one band each.

    Raises:
        SourceRefused: I03, it is cut off between its pages.
    """
    if header.format != "TIFF" or header.frames == 1 or header.bands != 1:
        return False
    if header.problem or header.orientation != 1:
        return False
    try:
        forms = [tuple(map(page.get, EQUAL)) for page in tiff.pages(file)]
    except (struct.error, OSError, OverflowError, ValueError):
        raise SourceRefused("I03", "truncated or damaged: not all of its pages are there") from None
    return len(forms) == bands and len(set(forms)) == 1 and header.bits >= 8


class Pages:
    """A TIFF of equal pages, each a band of one image: a `RowReader`, decoded whole by Pillow."""

    profile: bytes | None = None

    def __init__(self, file: BinaryIO, header: Header, bands: int) -> None:
        self.width = header.width
        self.height = header.height
        self.bands = bands
        pages: list[NDArray[Any]] = []
        try:
            file.seek(0)
            with allowed(header.pixels), Image.open(file, formats=["TIFF"]) as image:
                for page in range(bands):
                    image.seek(page)
                    pages.append(np.asarray(image))
        except Exception as error:
            # a decoder may fail on damaged bytes in any way; it is the file's fault
            raise SourceRefused(
                "I03", f"truncated or damaged: page {len(pages) + 1}: {error}"
            ) from None
        pixels = np.stack(pages, axis=-1)
        native = pixels.dtype.newbyteorder("=")
        self._pixels = pixels.astype(native, copy=False)
        self.dtype: np.dtype[Any] = native

    def read(self, top: int, out: NDArray[Any]) -> None:
        out[:] = self._pixels[top : top + len(out)]

    def close(self) -> None:
        self._pixels = self._pixels[:0]
