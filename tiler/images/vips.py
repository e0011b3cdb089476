"""Images by strips, decoded by libvips (the extra `big`): JPEG, PNG and TIFF of any size.

Every row is decoded once, and a few strips are held in memory; of a progressive JPEG, all
coefficients (2 bytes a sample).
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tiler.errors import SourceRefused
from tiler.images.header import JPEG_IN_TIFF
from tiler.images.pillow_limit import WHOLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.images.header import Header
    from tiler.images.row_reader import RowReader

PIECE = 64  # rows fetched at once: 512 take twice the time and memory

DTYPES = {
    "uchar": "u1",
    "char": "i1",
    "ushort": "u2",
    "short": "i2",
    "uint": "u4",
    "int": "i4",
    "float": "f4",
}
TIFF_KINDS = {("u", 8), ("u", 16), ("u", 32), ("i", 8), ("i", 16), ("i", 32), ("f", 32)}
CHANNELS = {"grey": 1, "RGB": 3, "CMYK": 4}
COMPRESSIONS = (1, 5, JPEG_IN_TIFF, 8, 32773, 32946)  # Zstandard is missing in the wheel's libtiff
FAX = (2, 3, 4)
COLOURS_OF_JPEG_IN_TIFF = ((1, "grey"), (3, "RGB"), (3, "YCbCr"), (4, "CMYK"))

# What counts as damaged. With `truncated`, a JPEG that libjpeg only warns of is decoded, as Pillow
# does; with less than `warning`, a TIFF has black tiles where data is wrong or missing
FAIL_ON = {"JPEG": "truncated", "PNG": "warning", "TIFF": "warning"}


def missing() -> bool:
    """Whether libvips, or its Python package, is not installed."""
    return find_spec("pyvips") is None or library() is None


def reads(header: Header) -> bool:
    """Whether this reader decodes such an image without loss: every band, every bit, the same
    colours.

    Indices become colours and single bits become 0 or 255, so such images are read only where they
    are too large for Pillow.

    >>> from tiler.images.header import Header
    >>> reads(Header("PNG", 30_000, 20_000, bits=16)), reads(Header("WEBP", 300, 200))
    (True, False)
    """
    if _is_indexed(header) and header.pixels <= WHOLE:
        return False
    if header.format == "JPEG":
        return header.problem is None and header.bits == 8 and header.bands in (1, 3, 4)
    if header.format == "PNG":
        return not header.gradual
    return header.format == "TIFF" and _reads_tiff(header)


def _is_indexed(header: Header) -> bool:
    return header.colour == "palette" or header.bits == 1


def _reads_tiff(header: Header) -> bool:
    fax = header.bits == 1 and header.compression in FAX
    if header.planar or not (fax or header.compression in COMPRESSIONS):
        return False
    if _is_indexed(header):
        one_band = header.bands == 1 and header.bits <= 8 and header.kind == "u"
        return one_band and header.colour in ("palette", "grey")
    if (header.kind, header.bits) not in TIFF_KINDS:
        return False
    if header.compression == JPEG_IN_TIFF:
        return header.bits == 8 and (header.bands, header.colour) in COLOURS_OF_JPEG_IN_TIFF
    # libtiff warns of further bands that a file does not explain, which is no damage but counts
    # here as such
    return header.bands == CHANNELS.get(header.colour, -1) + header.alpha


def opened(file: BinaryIO, header: Header) -> RowReader:
    """The rows of an image that `reads` takes, as stored.

    Raises:
        SourceRefused: its header is damaged (I03).
    """
    pyvips = library()
    options: dict[str, Any] = {"access": "sequential", "fail_on": FAIL_ON[header.format]}
    if header.format != "PNG":
        options["autorotate"] = False
    loader = f"{header.format.lower()}load_source"  # the general one tries a file on all loaders
    try:
        image = pyvips.Operation.call(loader, _source(pyvips, file), **options)
        return _Strips(pyvips, image, header)
    except pyvips.Error as error:
        raise _damaged(error) from None


class _Strips:
    """A `RowReader` that fetches rows from libvips, a piece at a time."""

    def __init__(self, pyvips: Any, image: Any, header: Header) -> None:
        self._pyvips = pyvips
        self.profile: bytes | None = None
        if image.get_typeof("icc-profile-data"):
            self.profile = image.get("icc-profile-data")
        indexed = header.colour == "palette"
        if header.format == "PNG" and not indexed and image.bands == header.bands + 1:
            # libvips made an alpha band of the colour that stands for transparency
            image = image.extract_band(0, n=header.bands)
        self._image = image
        self.width = image.width
        self.height = image.height
        self.bands = image.bands
        self.dtype: np.dtype[Any] = np.dtype(DTYPES.get(image.format, "V16"))
        self._require_as_in(header)

    def _require_as_in(self, header: Header) -> None:
        """Reject what libvips decodes to another form than the header says (I03)."""
        bands = [header.bands]
        if header.colour == "palette":  # colours, with alpha or without
            bands = [3, 4]
        decoded = (self.width, self.height, self.dtype.kind, self.dtype.itemsize * 8)
        expected = (header.width, header.height, header.kind, max(header.bits, 8))
        if decoded != expected or self.bands not in bands:
            raise SourceRefused(
                "I03",
                f"damaged: it decodes to {(*decoded, self.bands)}, its header says "
                f"{(*expected, bands[0])}",
            )

    def read(self, top: int, out: NDArray[Any]) -> None:
        """Fill `out` with the rows from `top` on; see `RowReader`."""
        pyvips = self._pyvips
        try:
            region = pyvips.Region.new(self._image)  # it belongs to the thread that makes it
            for start in range(0, len(out), PIECE):
                self._fetch(region, top + start, out[start : start + PIECE])
        except pyvips.Error as error:
            raise _damaged(error) from None

    def _fetch(self, region: Any, top: int, out: NDArray[Any]) -> None:
        """Fill `out`; what was fetched is let go on return, before the next piece."""
        data = region.fetch(0, top, self.width, len(out))
        out[...] = np.frombuffer(data, self.dtype).reshape(out.shape)

    def close(self) -> None:
        """Let go of the file."""
        self._image = None


def _source(pyvips: Any, file: BinaryIO) -> Any:
    """The open file as libvips reads it, with a position of its own."""
    if os.name == "nt":  # libvips may have another C runtime, which does not know our descriptors
        return pyvips.Source.new_from_file(os.fspath(file.name))
    try:
        descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        descriptor = os.dup(file.fileno())
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return pyvips.Source.new_from_descriptor(descriptor)  # it makes a copy of the descriptor
    finally:
        os.close(descriptor)


def _damaged(error: Any) -> SourceRefused:
    """The first line of libvips' error."""
    text = str(error.detail or error.message).strip()
    if not text:
        text = "libvips does not say how"
    first, *_ = text.splitlines()
    return SourceRefused("I03", f"truncated or damaged: {first.strip()}")


@cache
def library() -> Any:
    """The package `pyvips`, or None when it or the C library is missing."""
    try:
        import pyvips
    except (ImportError, OSError):
        return None
    pyvips.cache_set_max(0)  # it would keep images that were read, and their files, open
    return pyvips
