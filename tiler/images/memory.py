"""How much memory is left, asked before much of it is taken."""

from __future__ import annotations

import os
from pathlib import Path

from tiler.errors import SourceRefused


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
        raise SourceRefused("I04", f"{what}: it needs about {size / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are left")


def _free() -> list[int]:
    """What the machine has, and what the container may take."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        limit, used, stat = (Path("/sys/fs/cgroup", f"memory.{name}").read_text() for name in ("max", "current", "stat"))
        cached = sum(int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file "))
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
