"""Files of pixels for which Pillow has no mode: 16-bit colour, and bands of any number and depth
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
DEFLATE = 8  # in TIFF; part of Python, while other compressions would need more libraries


def paged(encoding: Encoding, bands: int) -> bool:
    """Whether each band is written on a page of its own."""
    deep = encoding.format == "TIFF" and encoding.mode in BEYOND_PILLOW
    return deep and bands != 3 and encoding.mode != "RGBA;16"


def require(encoding: Encoding) -> None:
    """Check that the library which writes such a file is installed.

    Raises:
        SourceRefused: I06, and what is missing.
    """
    if encoding.mode not in BEYOND_PILLOW:
        return
    missing = vips.missing() if encoding.format == "PNG" else _no_tifffile()
    if missing:
        mode = DESCRIBED[encoding.mode]
        raise SourceRefused(
            "I06",
            f"{mode}, which tiler as installed cannot write; pip install 'tilestitch[big]' can",
        )


def _no_tifffile() -> bool:
    try:
        return find_spec("tifffile") is None
    except ValueError:  # it was removed from `sys.modules`
        return True


def encode(pixels: NDArray[Any], encoding: Encoding, tags: Sequence[Tag] = ()) -> bytes:
    """A PNG or TIFF of an array `(height, width, bands)`, bit for bit."""
    if encoding.format == "PNG":
        return _png(pixels, encoding)
    return _tiff(pixels, encoding, tags)


def _png(pixels: NDArray[Any], encoding: Encoding) -> bytes:
    """By libvips, at level 2: its level 1 makes files twice as large."""
    pyvips = vips.library()
    pixels = np.ascontiguousarray(pixels)
    interpretation = INTERPRETATION[encoding.mode]
    image = pyvips.Image.new_from_array(pixels, interpretation=interpretation)
    profile = encoding.options.get("icc_profile")
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return bytes(image.pngsave_buffer(compression=2, filter="all", bitdepth=16))


def _tiff(pixels: NDArray[Any], encoding: Encoding, tags: Sequence[Tag]) -> bytes:
    """By tifffile: colours interleaved on one page, other bands on a page each.

    So the trainer reads them: its decoder knows 1, 3 and 4 bands a page, and stacks pages of equal
    size as the bands of one image.
    """
    from tifffile import imwrite

    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": "contig"}
    if paged(encoding, pixels.shape[2]):
        options = {"photometric": "minisblack"}
        pixels = pixels.transpose(2, 0, 1)
    if encoding.mode == "RGBA;16":
        options["extrasamples"] = ["unassalpha"]
    if "compression" in encoding.options:
        options["compression"] = DEFLATE
        options["compressionargs"] = {"level": 1}
        if pixels.dtype.kind in "ui" and pixels.itemsize <= 4:
            options["predictor"] = True
    buffer = io.BytesIO()
    imwrite(
        buffer,
        np.ascontiguousarray(pixels),
        iccprofile=encoding.options.get("icc_profile"),
        extratags=for_tifffile(tags),
        metadata=None,
        software=False,
        **options,
    )
    return buffer.getvalue()
