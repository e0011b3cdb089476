"""Memory: how much is left, who may take it, and whether freed blocks are kept."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiler.errors import SourceRefused

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
MOST = 1 << 25  # bytes of the largest block that glibc can be asked to keep
TILES = 1 << 21  # bytes of the largest block that is kept while an image is read by bands of rows

# Bytes from which an image counts: asking what is left takes longer than decoding a small one
COUNTED = 1 << 26

_keeps = False


def keep_blocks() -> None:
    """Let glibc reuse the blocks of images and tiles, in this process.

    By default it gives them back to the system when they are freed, and the system clears every
    page of the next one: an eighth of a split's time. It changes the whole process, so the command
    does it, and a library call does not. Without glibc, nothing is done.
    """
    global _keeps
    _keeps = _threshold(MOST)


def keep_tiles() -> None:
    """Keep the blocks of tiles only: a reader by rows would scatter its own among them."""
    if _keeps:
        _threshold(TILES)


def _threshold(size: int) -> bool:
    """Let glibc keep freed blocks up to this size; whether it does."""
    if sys.platform != "linux":
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(MMAP_THRESHOLD, size) and mallopt(TRIM_THRESHOLD, 2 * size))
    return False


def available() -> int | None:
    """Bytes that this process can still take, as far as the system tells."""
    limits = [*_free(), *_allowed()]
    return min(limits, default=None)


def enough(size: int) -> bool:
    """Whether this number of bytes is left."""
    left = available()
    return left is None or size <= left


def require(size: int, what: str) -> None:
    """Reject an image that needs more bytes than are left.

    Raises:
        SourceRefused: I04, with what needs them, how many, and what is left.
    """
    left = available()
    if left is None or size <= left:
        return
    needed = f"it needs about {size / 1e9:.1f} GB of memory"
    raise SourceRefused("I04", f"{what}: {needed}, {left / 1e9:.1f} GB are left")


class _Budget:
    """Bytes that large images take while this process works on them."""

    changed = threading.Condition()
    taken = 0
    total: int | None = None  # bytes that were left when nothing was taken
    processes = 1  # that share the total


def share(processes: int) -> None:
    """From now on memory is shared by this number of processes."""
    _Budget.processes = processes


@contextmanager
def taken(size: int, what: str) -> Iterator[None]:
    """A block that uses this number of bytes. It waits while other threads leave too little.

    Raises:
        SourceRefused: I04, there is not enough, even for this image alone.
        MemoryError: there is not enough while several processes share it; alone there may be.
    """
    if size < COUNTED:
        yield
        return
    with _Budget.changed:
        while not _fits(size, what):
            _Budget.changed.wait()
        _Budget.taken += size
    try:
        yield
    finally:
        with _Budget.changed:
            _Budget.taken -= size
            _Budget.changed.notify_all()


def _fits(size: int, what: str) -> bool:
    """Whether there is room now; an error where there never will be."""
    if _Budget.taken == 0:
        _Budget.total = available()
    total = _Budget.total
    if total is None or _Budget.taken + size <= total // _Budget.processes:
        return True
    if _Budget.taken == 0:
        if _Budget.processes > 1:
            raise MemoryError(what)
        require(size, what)
    return False


def _free() -> list[int]:
    """Bytes that the machine has left, and that the container may still take."""
    limits = []
    with suppress(OSError, ValueError, IndexError):
        meminfo = Path("/proc/meminfo").read_text()
        limits += [1024 * kilobytes for kilobytes in _values(meminfo, "MemAvailable:")]
    with suppress(OSError, ValueError):
        limits += _left_to_the_container()
    return limits


def _left_to_the_container() -> list[int]:
    """By cgroup v2; its pages of inactive files can be dropped."""
    limit = Path("/sys/fs/cgroup/memory.max").read_text()
    used = Path("/sys/fs/cgroup/memory.current").read_text()
    stat = Path("/sys/fs/cgroup/memory.stat").read_text()
    cached = sum(_values(stat, "inactive_file "))
    if limit.strip() == "max":
        return []
    return [int(limit) - int(used) + cached]


def _values(text: str, key: str) -> list[int]:
    """The numbers on the lines that begin with a key."""
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith(key)]


def _allowed() -> list[int]:
    """Bytes that the limit of the address space leaves."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        used = pages * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return []
    if limit == resource.RLIM_INFINITY:
        return []
    return [max(0, limit - used)]
