"""Files of pixels that Pillow has no mode for: 16-bit colour, and bands of any number and depth
(the extra `big`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiler.errors import SourceRefused
from tiler.images import vips
from tiler.images.encoding import BEYOND_PILLOW, DESCRIBED, Encoding
from tiler.images.geo import Tag, for_tifffile

INTERPRETATION = {"LA;16": "grey16", "RGB;16": "rgb16", "RGBA;16": "rgb16"}
DEFLATE = 8  # in TIFF; Python itself has it, other compressions would need more libraries


def paged(encoding: Encoding, bands: int) -> bool:
    """Whether each band is written on a page of its own."""
    deep = encoding.format == "TIFF" and encoding.mode in BEYOND_PILLOW
    return deep and bands != 3 and encoding.mode != "RGBA;16"


def require(encoding: Encoding) -> None:
    """That what writes such a file is installed.

    Raises:
        SourceRefused: I06, and what is missing.
    """
    if encoding.mode in BEYOND_PILLOW and (
        vips.missing() if encoding.format == "PNG" else _no_tifffile()
    ):
        mode = DESCRIBED[encoding.mode]
        raise SourceRefused(
            "I06",
            f"{mode}, which tiler as installed cannot write; pip install 'tilestitch[big]' can",
        )


def _no_tifffile() -> bool:
    try:
        return find_spec("tifffile") is None
    except ValueError:  # it was taken out of the modules
        return True


def encode(pixels: NDArray[Any], encoding: Encoding, tags: Sequence[Tag] = ()) -> bytes:
    """A PNG or TIFF of an array `(height, width, bands)`, bit for bit."""
    if encoding.format == "PNG":
        return _png(pixels, encoding)
    return _tiff(pixels, encoding, tags)


def _png(pixels: NDArray[Any], encoding: Encoding) -> bytes:
    """Level 2, since libvips' first level makes files twice as large."""
    pyvips = vips.library()
    image = pyvips.Image.new_from_array(
        np.ascontiguousarray(pixels), interpretation=INTERPRETATION[encoding.mode]
    )
    if profile := encoding.options.get("icc_profile"):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return bytes(image.pngsave_buffer(compression=2, filter="all", bitdepth=16))


def _tiff(pixels: NDArray[Any], encoding: Encoding, tags: Sequence[Tag]) -> bytes:
    """Colour in one page, band by band in the pixel; other bands on a page each, as the trainer
    reads them.

    Its decoder knows 1, 3 and 4 bands a page; pages of equal size it stacks as the bands of one
    image.
    """
    from tifffile import imwrite

    colour = not paged(encoding, pixels.shape[2])
    alpha = {"extrasamples": ["unassalpha"]} if encoding.mode == "RGBA;16" else {}
    compression = DEFLATE if "compression" in encoding.options else None
    buffer = io.BytesIO()
    imwrite(
        buffer,
        np.ascontiguousarray(pixels if colour else pixels.transpose(2, 0, 1)),
        photometric="rgb" if colour else "minisblack",
        planarconfig="contig" if colour else None,
        compression=compression,
        compressionargs={"level": 1} if compression == DEFLATE else None,
        predictor=(compression == DEFLATE and pixels.dtype.kind in "ui" and pixels.itemsize <= 4)
        or None,
        iccprofile=encoding.options.get("icc_profile"),
        extratags=for_tifffile(tags),
        metadata=None,
        software=False,
        **alpha,
    )
    return buffer.getvalue()
