"""Images by strips, decoded by GDAL (the extra `big`): TIFF of any bands and depth, and JPEG 2000.

Every block of a file is decoded once and memory is a row of its blocks.
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
FLAT = 64  # rows of a block up to which blocks are gathered rather than kept

# Nothing but the file itself: no neighbour that GDAL takes for its overviews, statistics or
# georeference
ENVIRONMENT = {
    "GDAL_CACHEMAX": int(CACHE),
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "NONE",
    "CPL_DEBUG": "OFF",
}
DRIVERS = {"TIFF": "GTiff", "JPEG 2000": "JP2OpenJPEG"}
TIFF_KINDS = {(kind, bits) for kind in "ui" for bits in (8, 16, 32, 64)} | {("f", 32), ("f", 64)}
# without JPEG: of 4:2:0, GDAL makes other pixels than the rest
COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)


def missing() -> bool:
    """Whether rasterio, by which GDAL is called, is not installed."""
    return find_spec("rasterio") is None


def reads(header: Header) -> bool:
    """Whether this reader decodes such an image as it is: every band, every bit, no change of
    colour.

    >>> from tiler.images.header import Header
    >>> reads(Header("TIFF", 300, 200, bits=16, bands=8, compression=8, planar=True)), reads(Header("JPEG", 300, 200))
    (True, False)
    """
    if header.format == "JPEG 2000":
        return header.bits in (8, 16) and header.kind == "u"
    if header.format != "TIFF" or header.compression not in COMPRESSIONS:
        return False
    # CMYK becomes RGBA
    return (header.kind, header.bits) in TIFF_KINDS and header.colour in ("grey", "RGB")


def opened(file: BinaryIO, header: Header) -> RowReader:
    """The rows of an image that `reads` takes, as stored.

    Raises:
        SourceRefused: its header is damaged (I03).
    """
    rasterio = _library()
    # the file that is open, whatever lies under its name by now
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
    """`RowReader` that are read by whole blocks; of a row of blocks, what was not asked for yet is
    kept.
    """

    def __init__(self, rasterio: Any, data: Any, header: Header) -> None:
        self._rasterio, self._data = rasterio, data
        self.width, self.height, self.bands = data.width, data.height, data.count
        kinds = set(data.dtypes)
        self.dtype: np.dtype[Any] = np.dtype(kinds.pop()) if len(kinds) == 1 else np.dtype("V16")
        found = (self.width, self.height, self.bands, self.dtype.kind, self.dtype.itemsize * 8)
        expected = (header.width, header.height, header.bands, header.kind, header.bits)
        if found != expected:
            data.close()
            raise SourceRefused(
                "I03", f"damaged: it decodes to {found}, its header says {expected}"
            )
        profile = data.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE")
        self.profile = base64.b64decode(profile) if profile else None
        high, wide = data.block_shapes[0]
        self._tall = high > FLAT
        # Rows, and columns of whole blocks, that are asked for at once
        self._rows = high if self._tall else FLAT // high * high
        pixel = self.bands * self.dtype.itemsize
        self._columns = max(1, AT_ONCE // (self._rows * wide * pixel)) * wide
        self._kept = np.empty((0, self.width, self.bands), self.dtype)
        self._kept_from = 0

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
            if self._kept_from <= at < self._kept_from + len(self._kept):
                target[...] = self._kept[at - self._kept_from :][:number]
            elif number == end - start:
                self._decode(start, target)
            else:
                if self._kept.shape[0] != end - start:
                    self._kept = np.empty((0, self.width, self.bands), self.dtype)
                    self._kept = np.empty((end - start, self.width, self.bands), self.dtype)
                self._kept_from = -1 - len(self._kept)  # nothing, should it fail
                self._decode(start, self._kept)
                self._kept_from = start
                target[...] = self._kept[at - start :][:number]
            done += number

    def _decode(self, top: int, out: NDArray[Any]) -> None:
        """Fill `out` with rows of which no block was decoded before."""
        for left in range(0, self.width, self._columns):
            columns = out[:, left : left + self._columns]
            window = self._rasterio.windows.Window(left, top, columns.shape[1], len(out))
            self._data.read(window=window, out=columns.transpose(2, 0, 1))

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()
        self._kept = self._kept[:0].copy()


class _Quiet:
    """Within it a warning is not given. Filters are global, so only one thread changes them at a
    time.
    """

    lock = threading.Lock()

    def __init__(self, category: type[Warning]) -> None:
        self.category, self.filters = category, warnings.catch_warnings()

    def __enter__(self) -> None:
        self.lock.acquire()
        self.filters.__enter__()
        warnings.simplefilter("ignore", self.category)

    def __exit__(self, *_: object) -> None:
        self.filters.__exit__(None, None, None)
        self.lock.release()


def _damaged(error: Exception) -> SourceRefused:
    """One line of what GDAL says: the first cause, where there is one."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return SourceRefused("I03", f"truncated or damaged: {' '.join(str(cause).split())}")


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
