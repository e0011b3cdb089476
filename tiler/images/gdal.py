"""Images by strips, decoded by GDAL (the extra `big`): TIFF of any bands and depth, and JPEG 2000.

Every block of a file is decoded once, and one row of blocks is held in memory.
"""

from __future__ import annotations

import base64
import os
import threading
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from tiler.errors import SourceRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.images.header import Header
    from tiler.images.row_reader import RowReader

CACHE = "64"  # MB of decoded blocks that GDAL keeps; its default is a twentieth of the memory
AT_ONCE = 16 << 20  # bytes of blocks asked for at once, well below that
FLAT = 64  # rows; blocks up to this height are decoded several at once, taller ones are kept

# Nothing but the file itself is read: no file beside it that GDAL takes for its overviews,
# statistics or georeference
ENVIRONMENT = {
    "GDAL_CACHEMAX": int(CACHE),
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "NONE",
    "CPL_DEBUG": "OFF",
}
DRIVERS = {"TIFF": "GTiff", "JPEG 2000": "JP2OpenJPEG"}
TIFF_KINDS = {(kind, bits) for kind in "ui" for bits in (8, 16, 32, 64)} | {("f", 32), ("f", 64)}
# without JPEG, since GDAL decodes 4:2:0 to other pixels than the rest
COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)


def missing() -> bool:
    """Whether rasterio, through which GDAL is called, is not installed."""
    return find_spec("rasterio") is None


def reads(header: Header) -> bool:
    """Whether this reader decodes such an image without loss: every band, every bit, the same
    colours.

    >>> from tiler.images.header import Header
    >>> reads(Header("TIFF", 300, 200, bits=16, bands=8, compression=8, planar=True))
    True
    >>> reads(Header("JPEG", 300, 200))
    False
    """
    if header.format == "JPEG 2000":
        return header.bits in (8, 16) and header.kind == "u"
    if header.format != "TIFF" or header.compression not in COMPRESSIONS:
        return False
    if header.colour not in ("grey", "RGB"):  # CMYK would become RGBA
        return False
    return (header.kind, header.bits) in TIFF_KINDS


def opened(file: BinaryIO, header: Header) -> RowReader:
    """The rows of an image that `reads` takes, as stored.

    Raises:
        SourceRefused: its header is damaged (I03).
    """
    rasterio = _library()
    # the file that is open, whatever has its name by now
    path = f"/proc/self/fd/{file.fileno()}"
    if not os.path.exists(path):
        path = os.path.abspath(os.fsdecode(file.name))
    try:
        with rasterio.Env(**ENVIRONMENT), _Quiet(rasterio.errors.NotGeoreferencedWarning):
            data = rasterio.open(Path(path), driver=DRIVERS[header.format], sharing=False)
            return _Blocks(rasterio, data, header)
    except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError) as error:
        raise _damaged(error) from None


class _Blocks:
    """A `RowReader` that decodes whole blocks, and keeps their rows that were not read yet."""

    def __init__(self, rasterio: Any, data: Any, header: Header) -> None:
        self._rasterio = rasterio
        self._data = data
        self.width = data.width
        self.height = data.height
        self.bands = data.count
        self.dtype = _dtype(data)
        try:
            self._require_as_in(header)
        except SourceRefused:
            data.close()
            raise
        self.profile = _profile(data)
        block_height, block_width = data.block_shapes[0]
        # Rows, and columns of whole blocks, that are decoded at once
        self._rows = block_height
        if block_height <= FLAT:
            self._rows = FLAT // block_height * block_height
        block_bytes = self._rows * block_width * self.bands * self.dtype.itemsize
        self._columns = max(1, AT_ONCE // block_bytes) * block_width
        self._kept = self._new_rows(0)
        self._kept_from = 0

    def _require_as_in(self, header: Header) -> None:
        """Reject what GDAL decodes to another form than the header says (I03)."""
        decoded = (self.width, self.height, self.bands, self.dtype.kind, self.dtype.itemsize * 8)
        expected = (header.width, header.height, header.bands, header.kind, header.bits)
        if decoded != expected:
            raise SourceRefused(
                "I03", f"damaged: it decodes to {decoded}, its header says {expected}"
            )

    def _new_rows(self, number: int) -> NDArray[Any]:
        return np.empty((number, self.width, self.bands), self.dtype)

    def read(self, top: int, out: NDArray[Any]) -> None:
        """Fill `out` with the rows from `top` on; see `RowReader`."""
        rasterio = self._rasterio
        try:
            with rasterio.Env(**ENVIRONMENT):
                self._read(top, out)
        except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError) as error:
            raise _damaged(error) from None

    def _read(self, top: int, out: NDArray[Any]) -> None:
        done = 0
        while done < len(out):
            at = top + done
            start = at // self._rows * self._rows
            end = min(start + self._rows, self.height)
            number = min(end - at, len(out) - done)
            target = out[done : done + number]
            if number == end - start and not self._keeps(at):
                self._decode(start, target)
            else:
                self._keep(at, start, end)
                target[...] = self._kept[at - self._kept_from :][:number]
            done += number

    def _keeps(self, row: int) -> bool:
        """Whether a row is among those kept."""
        return self._kept_from <= row < self._kept_from + len(self._kept)

    def _keep(self, row: int, start: int, end: int) -> None:
        """Keep the rows from start to end, unless those that are kept have the row already."""
        if self._keeps(row):
            return
        if len(self._kept) != end - start:
            self._kept = self._new_rows(0)  # lets go of the memory before taking more
            self._kept = self._new_rows(end - start)
        self._kept_from = -1 - len(self._kept)  # nothing is kept, should decoding fail
        self._decode(start, self._kept)
        self._kept_from = start

    def _decode(self, top: int, out: NDArray[Any]) -> None:
        """Fill `out` with the rows from `top` on, whose blocks were not decoded before."""
        for left in range(0, self.width, self._columns):
            columns = out[:, left : left + self._columns]
            window = self._rasterio.windows.Window(left, top, columns.shape[1], len(out))
            self._data.read(window=window, out=columns.transpose(2, 0, 1))

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()
        self._kept = self._kept[:0].copy()


def _dtype(data: Any) -> np.dtype[Any]:
    """The type of all samples; `V16`, which is none of an image, when bands differ."""
    names = set(data.dtypes)
    if len(names) != 1:
        return np.dtype("V16")
    name: str = names.pop()
    return np.dtype(name)


def _profile(data: Any) -> bytes | None:
    profile = data.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE")
    if not profile:
        return None
    return base64.b64decode(profile)


class _Quiet:
    """A block in which a warning is silent. Filters are global, so only one thread changes them at
    a time.
    """

    lock = threading.Lock()

    def __init__(self, category: type[Warning]) -> None:
        self.category = category
        self.filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        self.lock.acquire()
        self.filters.__enter__()
        warnings.simplefilter("ignore", self.category)

    def __exit__(self, *_: object) -> None:
        self.filters.__exit__(None, None, None)
        self.lock.release()


def _damaged(error: Exception) -> SourceRefused:
    """GDAL's error on one line: the first cause, where there is one."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    line = " ".join(str(cause).split())
    return SourceRefused("I03", f"truncated or damaged: {line}")


@cache
def _library() -> Any:
    """The package `rasterio`; GDAL takes the size of its cache from the environment at its first
    use.
    """
    os.environ.setdefault("GDAL_CACHEMAX", CACHE)
    import rasterio
    import rasterio._err
    import rasterio.windows

    return rasterio
