"""Memory that is freed and taken again for every tile stays with the process."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
LARGEST = 1 << 25  # bytes, the most that glibc takes


def keep() -> None:
    """Let glibc reuse the blocks of pictures and tiles.

    By default it gives them back to the system when they are freed, and the system clears
    every page of the next one: an eighth of a split's time. A process's own business, so the
    command does it, and a library call does not. Elsewhere than on glibc, nothing is done.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, 2 * LARGEST)
