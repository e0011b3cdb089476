"""Memory: how much is left, and what becomes of what is freed."""

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
MOST = 1 << 25  # bytes of a block that glibc can be asked to keep
TILES = 1 << 21  # bytes of a block that is kept while an image is read by bands: those of tiles are

# bytes from which on an image counts; to look what is left takes longer than to decode a small one
COUNTED = 1 << 26

_keeps = False


def keep_blocks() -> None:
    """Let glibc reuse the blocks of images and tiles, in this process.

    By default it gives them back to the system when they are freed, and the system clears every
    page of the next one: an eighth of a split's time. A process's own business, so the command does
    it, and a library call does not. Elsewhere than on glibc, nothing is done.
    """
    global _keeps
    _keeps = _threshold(MOST)


def keep_tiles() -> None:
    """Of these, keep the blocks of tiles only: a reader by bands would scatter its own among them."""
    if _keeps:
        _threshold(TILES)


def _threshold(size: int) -> bool:
    if sys.platform != "linux":
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(MMAP_THRESHOLD, size) and mallopt(TRIM_THRESHOLD, 2 * size))
    return False


def available() -> int | None:
    """Bytes that this process can still take, as far as the system tells."""
    found = [*_free(), *_allowed()]
    return min(found) if found else None


def enough(size: int) -> bool:
    """Whether so many bytes are left."""
    left = available()
    return left is None or size <= left


def require(size: int, what: str) -> None:
    """Refuse what needs more bytes than there are.

    Raises:
        SourceRefused: I04, with what it is, what it needs and what there is.
    """
    left = available()
    if left is not None and size > left:
        raise SourceRefused(
            "I04",
            f"{what}: it needs about {size / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are left",
        )


class _Budget:
    """What large images are counted to take while they are worked on, in this process."""

    changed = threading.Condition()
    taken = 0
    total: int | None = None  # bytes that there were when nothing was taken
    processes = 1  # that share them


def share(processes: int) -> None:
    """From now on memory is shared with so many processes like this one."""
    _Budget.processes = processes


@contextmanager
def taken(size: int, what: str) -> Iterator[None]:
    """Within it so many bytes are in use; it waits for as long as images of other threads leave too
    little.

    Raises:
        SourceRefused: I04, there is not so much, even for this image alone.
        MemoryError: there is not for as many processes as share it; alone there may be.
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
    """Whether there is room for it now; an error where there never will be."""
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
    """What the machine has, and what the container may take."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        limit, used, stat = (
            Path("/sys/fs/cgroup", f"memory.{name}").read_text()
            for name in ("max", "current", "stat")
        )
        cached = sum(
            int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")
        )
        if limit.strip() != "max":
            found.append(int(limit) - int(used) + cached)
    except (OSError, ValueError):
        pass
    return found


def _allowed() -> list[int]:
    """What the limit of the address space leaves."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return []
    return [] if limit == resource.RLIM_INFINITY else [max(0, limit - used)]
