"""Images by strips, decoded by libvips (the extra `big`): JPEG, PNG and TIFF of any size.

Every row is decoded once and memory is a few strips, but for a progressive JPEG, whose coefficients
(2 bytes a sample) are all needed at once.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tiler.errors import SourceRefused
from tiler.images.header import JPEG_IN_TIFF
from tiler.images.limit import WHOLE

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

# What counts as damaged. Pillow decodes a JPEG that libjpeg only warns of, and so does `truncated`;
# of a TIFF, less than `warning` leaves black tiles where the data is wrong or missing
FAIL_ON = {"JPEG": "truncated", "PNG": "warning", "TIFF": "warning"}


def missing() -> bool:
    """Whether libvips, or its Python package, is not installed."""
    return find_spec("pyvips") is None or library() is None


def reads(header: Header) -> bool:
    """Whether this reader decodes such an image as it is: every band, every bit, no change of
    colour.

    Indices and single bits become colours and 0 or 255, so they are read only where Pillow would
    refuse their number.

    >>> from tiler.images.header import Header
    >>> reads(Header("PNG", 30_000, 20_000, bits=16)), reads(Header("WEBP", 300, 200))
    (True, False)
    """
    indexed = header.colour == "palette" or header.bits == 1
    if indexed and header.pixels <= WHOLE:
        return False
    if header.format == "JPEG":
        return header.problem is None and header.bits == 8 and header.bands in (1, 3, 4)
    if header.format == "PNG":
        return not header.gradual
    return header.format == "TIFF" and _reads_tiff(header, indexed)


def _reads_tiff(header: Header, indexed: bool) -> bool:
    if header.planar or header.compression not in (
        COMPRESSIONS + FAX if header.bits == 1 else COMPRESSIONS
    ):
        return False
    if indexed:
        return (
            header.bands == 1
            and header.bits <= 8
            and header.kind == "u"
            and header.colour in ("palette", "grey")
        )
    if (header.kind, header.bits) not in TIFF_KINDS:
        return False
    if header.compression == JPEG_IN_TIFF:
        return header.bits == 8 and (header.bands, header.colour) in (
            (1, "grey"),
            (3, "RGB"),
            (3, "YCbCr"),
            (4, "CMYK"),
        )
    # libtiff warns of further bands that a file does not explain, which is no damage but counts
    # here as such
    return header.bands == CHANNELS.get(header.colour, -1) + header.alpha


def opened(file: BinaryIO, header: Header) -> RowReader:
    """The rows of an image that `reads` takes, as stored.

    Raises:
        SourceRefused: its header is damaged (I03).
    """
    pyvips = library()
    options: dict[str, Any] = {} if header.format == "PNG" else {"autorotate": False}
    try:
        # Each loader by its name: the general one would try a hostile file on all of them
        image = pyvips.Operation.call(
            f"{header.format.lower()}load_source",
            _source(pyvips, file),
            access="sequential",
            fail_on=FAIL_ON[header.format],
            **options,
        )
        return _Strips(pyvips, image, header)
    except pyvips.Error as error:
        raise _damaged(error) from None


class _Strips:
    """`RowReader` that are fetched from libvips a piece at a time."""

    def __init__(self, pyvips: Any, image: Any, header: Header) -> None:
        self.profile: bytes | None = (
            image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
        )
        self.width, self.height, self.bands = image.width, image.height, image.bands
        indexed = header.colour == "palette"
        if header.format == "PNG" and not indexed and self.bands == header.bands + 1:
            # A colour that stands for transparency, of which an alpha band was made
            image = image.extract_band(0, n=header.bands)
            self.bands = header.bands
        self.dtype: np.dtype[Any] = np.dtype(DTYPES.get(image.format, "V16"))
        bands = (3, 4) if indexed else (header.bands,)
        found = (self.width, self.height, self.dtype.kind, self.dtype.itemsize * 8)
        expected = (header.width, header.height, header.kind, max(header.bits, 8))
        if found != expected or self.bands not in bands:
            raise SourceRefused(
                "I03",
                f"damaged: it decodes to {(*found, self.bands)}, its header says "
                f"{(*expected, bands[0])}",
            )
        self._pyvips, self._image = pyvips, image

    def read(self, top: int, out: NDArray[Any]) -> None:
        """Fill `out` with the rows from `top` on; see `RowReader`."""
        pyvips = self._pyvips
        try:
            region = pyvips.Region.new(self._image)  # it belongs to the thread that makes it
            for start in range(0, len(out), PIECE):
                piece = out[start : start + PIECE]
                # In one expression, so that what was fetched is let go before the next
                piece[...] = np.frombuffer(
                    region.fetch(0, top + start, self.width, len(piece)), self.dtype
                ).reshape(piece.shape)
        except pyvips.Error as error:
            raise _damaged(error) from None

    def close(self) -> None:
        """Let go of the file."""
        self._image = None


def _source(pyvips: Any, file: BinaryIO) -> Any:
    """What libvips reads from: the open file, with a position of its own."""
    if os.name == "nt":  # libvips may have another C runtime, to which our descriptors mean nothing
        return pyvips.Source.new_from_file(os.fspath(file.name))
    try:
        descriptor = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        descriptor = os.dup(file.fileno())
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return pyvips.Source.new_from_descriptor(descriptor)  # which makes a copy of it
    finally:
        os.close(descriptor)


def _damaged(error: Any) -> SourceRefused:
    """One line of what libvips says, which may be several."""
    lines = [line.strip() for line in str(error.detail or error.message).splitlines()]
    return SourceRefused(
        "I03", f"truncated or damaged: {next(filter(None, lines), 'libvips does not say how')}"
    )


@cache
def library() -> Any:
    """The package `pyvips`, or None when it or the C library is not there."""
    try:
        import pyvips
    except (ImportError, OSError):
        return None
    pyvips.cache_set_max(0)  # it would keep images that were read, and their files, open
    return pyvips
