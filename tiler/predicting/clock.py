"""How long each stage of a prediction takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

STAGES = ("decode", "preprocess", "inference", "postprocess", "merge")


class Speed(msgspec.Struct, frozen=True):
    """How fast a run was.

    Attributes:
        tiles: windows that the model was run on; not those of a run that was resumed.
        seconds: from the first image to the last.
        tiles_per_second: both together, since the stages overlap.
        ms_per_tile: by stage, the work of all threads.
        skipped: windows that were left out as empty.
    """

    tiles: int
    seconds: float
    tiles_per_second: float
    ms_per_tile: dict[str, float]
    skipped: int = 0


class StageClock:
    """Adds up the time of each stage, from any thread."""

    def __init__(self) -> None:
        self.tiles = 0  # that the model has seen
        self.skipped = 0
        self._start = time.perf_counter()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """The run begins now."""
        self._start = time.perf_counter()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """A block that belongs to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[stage] += spent

    def speed(self) -> Speed:
        """The speed up to now."""
        seconds = time.perf_counter() - self._start
        tiles = max(1, self.tiles)
        per_tile = {stage: round(1000 * s / tiles, 3) for stage, s in self._seconds.items()}
        rate = round(self.tiles / max(seconds, 1e-9), 1)
        return Speed(self.tiles, round(seconds, 3), rate, per_tile, self.skipped)
