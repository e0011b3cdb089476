"""Images read by rows: the protocol of a reader, and bands of rows that overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tiler.types import Ints

Result = TypeVar("Result")


class RowReader(Protocol):
    """An image that is decoded some rows at a time, each row once.

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

        Rows are asked for from top to bottom, none twice; some may be left out. Calls come one at
        a time, but not always from one thread.

        Raises:
            SourceRefused: the image is truncated or damaged (I03).
        """

    def close(self) -> None:
        """Let go of the file."""


class Guarded:
    """A `RowReader` that is not closed while another thread reads from it."""

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
            if self._rows is not None:  # else nobody waits for these rows any more
                self._rows.read(top, out)

    def close(self) -> None:
        with self._lock:
            if self._rows is not None:
                self._rows.close()
            self._rows = None


class Later(Protocol):
    """Runs a piece of work, in another thread where one is free, else at once."""

    def __call__(self, work: Callable[[], Result], /) -> Future[Result]: ...


class RowBand(NamedTuple):
    """Some rows of an image: pixels `(n, width, bands)` from the row `top` on."""

    pixels: NDArray[Any]
    top: int

    @property
    def bottom(self) -> int:
        """The row after the last."""
        return self.top + len(self.pixels)


def sweep(
    rows: RowReader, tops: Ints, bottoms: Ints, later: Later
) -> Iterator[tuple[NDArray[Any], int, list[int]]]:
    """Go down an image once: for all windows that end on one row, the pixels, the row at which
    they begin, and the windows' numbers.

    What the next windows share with these is kept, and only new rows are read, so memory is two
    bands of windows and each row is decoded once.

    Args:
        tops, bottoms: `(T,)` of each window, half-open.
        later: runs a function, perhaps at once in another thread.
    """
    groups = _by_bottom(tops, bottoms)
    starts = _starts(tops, groups)
    ends = [int(bottoms[group[0]]) for group in groups]
    band = _read(rows, None, starts[0], ends[0])
    for after, group in enumerate(groups, 1):
        following: Future[RowBand] | None = None
        if after < len(groups):
            following = later(partial(_read, rows, band, starts[after], ends[after]))
        yield band.pixels, band.top, group.tolist()
        if following is not None:
            band = following.result()


def _by_bottom(tops: Ints, bottoms: Ints) -> list[Ints]:
    """The numbers of the windows that end on one row, for each such row from the top down."""
    numbers = np.arange(len(tops))
    order = np.lexsort((numbers, tops, bottoms))
    _, first = np.unique(bottoms[order], return_index=True)
    return np.split(order, first[1:])


def _starts(tops: Ints, groups: list[Ints]) -> list[int]:
    """For each group the first row that it, or a group after it, needs."""
    highest = [int(tops[group].min()) for group in groups]
    from_the_end = np.minimum.accumulate(highest[::-1])
    starts: list[int] = from_the_end[::-1].tolist()
    return starts


def _read(rows: RowReader, before: RowBand | None, start: int, end: int) -> RowBand:
    """The band from start to end. Rows of the band before it are copied, not read again."""
    pixels = np.empty((end - start, rows.width, rows.bands), rows.dtype)
    shared = 0
    if before is not None and before.bottom > start:
        shared = before.bottom - start
        pixels[:shared] = before.pixels[start - before.top :]
    rows.read(start + shared, pixels[shared:])
    return RowBand(pixels, start)


def bands_of(rows: RowReader, height: int) -> Iterator[NDArray[Any]]:
    """All pixels, in bands of at most `height` rows."""
    for top in range(0, rows.height, height):
        number = min(height, rows.height - top)
        pixels = np.empty((number, rows.width, rows.bands), rows.dtype)
        rows.read(top, pixels)
        yield pixels
