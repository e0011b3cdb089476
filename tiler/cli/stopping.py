"""How the process ends when a signal stops it: with one line, at once, with its helpers."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

PATIENCE = 2  # seconds that helper processes get to end


def heed_signals() -> None:
    """From now on, signals that stop the process print a line."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stopped)


def _stopped(number: int, _: FrameType | None) -> None:
    """End at once: whatever was being written is in the staging folder, and can be resumed."""
    _say(f"tiler: stopped by {signal.Signals(number).name}; run again to resume\n")
    children = _helpers()
    for child in children:
        with suppress(OSError):  # by its number: not every kind of child has a kill()
            os.kill(child.pid or 0, getattr(signal, "SIGKILL", signal.SIGTERM))
    if children and hasattr(os, "WNOHANG"):
        os.closerange(3, 256)  # joblib's helper, which removes its semaphores, ends with its pipe
        _await_children()
    os._exit(128 + number)


def _say(line: str) -> None:
    """Write to stderr, and show the terminal's cursor, which a progress bar hides."""
    if sys.stderr is None:
        return
    if sys.stderr.isatty():
        line = f"\x1b[?25h\n{line}"
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), line.encode())


def _helpers() -> list[Any]:
    """The processes that joblib started."""
    if "multiprocessing" not in sys.modules:
        return []
    return sys.modules["multiprocessing"].active_children()  # type: ignore[no-any-return]


def _await_children() -> None:
    deadline = time.monotonic() + PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < deadline:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                time.sleep(0.005)
