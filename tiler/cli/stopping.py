"""How a process ends that is stopped by a signal: with one line, at once, with its helpers."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType


def heed_signals() -> None:
    """From now on a signal that stops us says so."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stopped)


def _stopped(number: int, _: FrameType | None) -> None:
    """End at once: whatever was being written is in the staging folder, and safe to go on with."""
    cursor = "\x1b[?25h\n" if sys.stderr is not None and sys.stderr.isatty() else ""
    name = signal.Signals(number).name
    with suppress(OSError, ValueError, AttributeError):
        os.write(
            sys.stderr.fileno(), f"{cursor}tiler: stopped by {name}; run again to go on\n".encode()
        )
    children = (
        sys.modules["multiprocessing"].active_children() if "multiprocessing" in sys.modules else []
    )
    for child in children:
        with suppress(OSError):  # by its number: not every kind of child has a kill()
            os.kill(child.pid or 0, getattr(signal, "SIGKILL", signal.SIGTERM))
    if children and hasattr(os, "WNOHANG"):
        os.closerange(3, 256)  # joblib's helper, which removes its semaphores, ends with its pipe
        patience = time.monotonic() + 2
        with suppress(ChildProcessError):
            while time.monotonic() < patience:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.005)
    os._exit(128 + number)
