"""Sources handed to the workers, their outcomes in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import msgspec

from tiler.datasets.sources import Source
from tiler.options import RunOptions
from tiler.run import workers
from tiler.run.work_sharing import SharedThreads
from tiler.splitting.cutting import cut, fingerprint_of
from tiler.splitting.job import SplitJob
from tiler.splitting.report import SplitOutcome

Result = TypeVar("Result")

MANY, TINY = 200, 100_000  # from so many images of fewer bytes on, processes beat threads
CHUNK_FILES, CHUNK_BYTES = 64, 2_000_000  # what is handed to a worker at once


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: sources done of all, and tiles written."""

    done: int
    total: int
    tiles: int


def outcomes(
    job: SplitJob,
    sources: Sequence[Source],
    run: RunOptions,
    done: dict[str, bytes],
    progress: Callable[[Progress], None] | None,
) -> Iterator[SplitOutcome]:
    """Each source cut. `done`: outcomes of an earlier run, by `key`."""
    todo = [
        [(source, done.get(key(source.split, source.key))) for source in chunk]
        for chunk in chunks(sources)
    ]
    ready = tiles = 0
    count, how = workers.count(run.workers), backend(run, sources)
    # processes have nothing to lend each other
    threads = SharedThreads(count) if how == "threading" else None
    results = workers.stream(partial(_cut_all, job, threads), todo, count, how, _describe)
    for outcome in chain.from_iterable(results):
        ready, tiles = ready + 1, tiles + len(outcome.entry.tiles)
        if progress is not None:
            progress(Progress(ready, len(sources), tiles))
        yield outcome


def fingerprints(job: SplitJob, sources: Sequence[Source], run: RunOptions) -> Iterator[str]:
    """What each source's content is called now."""
    return mapped(job, _fingerprints, sources, run)


def mapped(
    job: SplitJob,
    work: Callable[[SplitJob, Sequence[Source]], list[Result]],
    sources: Sequence[Source],
    run: RunOptions,
) -> Iterator[Result]:
    """What `work` finds of each source, in order."""
    todo, count = list(chunks(sources)), workers.count(run.workers)
    found = workers.stream(
        partial(work, job), todo, count, backend(run, sources), lambda chunk: chunk[0].key
    )
    return chain.from_iterable(found)


def key(split: str, source: str) -> str:
    """A source's name in the journal: one line, whatever its file is called."""
    return msgspec.json.encode([split, source]).decode()


def _cut_all(
    job: SplitJob, threads: SharedThreads | None, chunk: Sequence[tuple[Source, bytes | None]]
) -> list[SplitOutcome]:
    if threads is None:
        return [cut(job, source, done) for source, done in chunk]
    with threads.busy():
        return [cut(job, source, done, threads.later) for source, done in chunk]


def _fingerprints(job: SplitJob, chunk: Sequence[Source]) -> list[str]:
    return [fingerprint_of(job, source) for source in chunk]


def _describe(chunk: Sequence[tuple[Source, bytes | None]]) -> str:
    more = f" (or one of the {len(chunk) - 1} after it)" if len(chunk) > 1 else ""
    return chunk[0][0].key + more


def chunks(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Small images go to the workers together, so that handing them over costs little."""
    chunk: list[Source] = []
    size = 0
    for source in sources:
        if chunk and (len(chunk) >= CHUNK_FILES or size + source.bytes > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(source)
        size += source.bytes
    if chunk:
        yield chunk


def backend(run: RunOptions, sources: Sequence[Source]) -> str:
    """Threads, since Pillow works outside the interpreter lock; processes for many tiny images,
    where Python's own work counts."""
    if run.backend != "auto":
        return run.backend
    tiny = len(sources) >= MANY and sum(source.bytes for source in sources) < TINY * len(sources)
    return "loky" if tiny else "threading"
