"""Images read by rows: what a reader promises, and bands of rows that overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tiler.types import Ints

Result = TypeVar("Result")


class RowReader(Protocol):
    """An image of which some rows at a time are decoded, each once.

    Attributes:
        width, height: as stored, before any turning.
        bands: samples a pixel.
        dtype: of a sample, in the machine's byte order.
        profile: an ICC profile, or None.
    """

    width: int
    height: int
    bands: int
    dtype: np.dtype[Any]
    profile: bytes | None

    def read(self, top: int, out: NDArray[Any]) -> None:
        """Fill `out` `(n, width, bands)` with the rows from `top` on.

        Rows are asked for from top to bottom, none twice; some may be left out. Calls come
        one at a time, but not always from one thread.

        Raises:
            SourceRefused: the image is truncated or damaged (I03).
        """

    def close(self) -> None:
        """Let go of the file."""


class Guarded:
    """Rows that are not let go while some are being read, in another thread perhaps: `RowReader`."""

    def __init__(self, rows: RowReader) -> None:
        self.width = rows.width
        self.height = rows.height
        self.bands = rows.bands
        self.dtype = rows.dtype
        self.profile = rows.profile
        self._rows: RowReader | None = rows
        self._lock = threading.Lock()

    def read(self, top: int, out: NDArray[Any]) -> None:
        with self._lock:
            if self._rows is not None:  # else whoever asked has gone
                self._rows.read(top, out)

    def close(self) -> None:
        with self._lock:
            if self._rows is not None:
                self._rows.close()
            self._rows = None


class Later(Protocol):
    """Runs a piece of work, in another thread where one is free, else at once."""

    def __call__(self, work: Callable[[], Result], /) -> Future[Result]: ...


def sweep(
    rows: RowReader, tops: Ints, bottoms: Ints, later: Later
) -> Iterator[tuple[NDArray[Any], int, list[int]]]:
    """Go down an image once, with what is needed of it in memory: for windows that end on one
    row the pixels, the row at which they begin, and the windows' numbers.

    What the next windows share with these is kept, and only new rows are read, so memory is two
    bands of windows and each row is decoded once.

    Args:
        tops, bottoms: `(T,)` of each window, half-open.
        later: runs a function, perhaps at once in another thread.
    """
    order = np.lexsort((np.arange(len(tops)), tops, bottoms))
    ends, first = np.unique(bottoms[order], return_index=True)
    groups = np.split(order, first[1:])
    # from which row on pixels are needed, by this group and all after it
    starts = np.minimum.accumulate([int(tops[group].min()) for group in groups][::-1])[
        ::-1
    ].tolist()

    def band(before: NDArray[Any] | None, at: int, start: int, end: int) -> NDArray[Any]:
        pixels = np.empty((end - start, rows.width, rows.bands), rows.dtype)
        known = 0
        if before is not None and at + len(before) > start:
            known = at + len(before) - start
            pixels[:known] = before[start - at :]
        rows.read(start + known, pixels[known:])
        return pixels

    pixels, at = band(None, 0, starts[0], int(ends[0])), starts[0]
    for g, group in enumerate(groups):
        following = None
        if g + 1 < len(groups):
            following = later(partial(band, pixels, at, starts[g + 1], int(ends[g + 1])))
        yield pixels, at, group.tolist()
        if following is not None:
            pixels, at = following.result(), starts[g + 1]


def bands_of(rows: RowReader, height: int) -> Iterator[NDArray[Any]]:
    """All pixels, by so many rows at a time."""
    for top in range(0, rows.height, height):
        pixels = np.empty((min(height, rows.height - top), rows.width, rows.bands), rows.dtype)
        rows.read(top, pixels)
        yield pixels
