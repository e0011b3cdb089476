"""Sources go to the workers, and their outcomes come back in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import msgspec

from tiler.datasets.dataset import Source
from tiler.options import RunOptions
from tiler.run import workers
from tiler.run.work_sharing import SharedThreads
from tiler.splitting.cutting import cut, fingerprint_of
from tiler.splitting.report import SplitOutcome
from tiler.tiling.chunks import backend, chunks, mapped
from tiler.tiling.job import SplitJob


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
    earlier: dict[str, bytes],
) -> Iterator[SplitOutcome]:
    """Cut each source. `earlier`: outcomes of an earlier run, by `key`."""
    todo = []
    for chunk in chunks(sources):
        todo.append([(source, earlier.get(key(source.split, source.key))) for source in chunk])
    count = workers.count(run.workers)
    chosen = backend(run, sources)
    # processes cannot share an image's work
    threads = SharedThreads(count) if chosen == "threading" else None
    results = workers.stream(partial(_cut_all, job, threads), todo, count, chosen, _describe)
    return chain.from_iterable(results)


def counted(
    stream: Iterable[SplitOutcome], total: int, progress: Callable[[Progress], None] | None
) -> Iterator[SplitOutcome]:
    """The same outcomes, of which `progress` is told."""
    tiles = 0
    for done, outcome in enumerate(stream, 1):
        tiles += len(outcome.entry.tiles)
        if progress is not None:
            progress(Progress(done, total, tiles))
        yield outcome


def fingerprints(job: SplitJob, sources: Sequence[Source], run: RunOptions) -> Iterator[str]:
    """The fingerprint of each source's present content."""
    return mapped(job, _fingerprints, sources, run)


def key(split: str, source: str) -> str:
    """A source's name in the journal, on one line whatever the name of its file is."""
    return msgspec.json.encode([split, source]).decode()


def _cut_all(
    job: SplitJob, threads: SharedThreads | None, chunk: Sequence[tuple[Source, bytes | None]]
) -> list[SplitOutcome]:
    if threads is None:
        return [cut(job, source, earlier) for source, earlier in chunk]
    with threads.busy():
        return [cut(job, source, earlier, threads.later) for source, earlier in chunk]


def _fingerprints(job: SplitJob, chunk: Sequence[Source]) -> list[str]:
    return [fingerprint_of(job, source) for source in chunk]


def _describe(chunk: Sequence[tuple[Source, bytes | None]]) -> str:
    """A chunk in an error message."""
    first, _ = chunk[0]
    if len(chunk) == 1:
        return first.key
    return f"{first.key} (or one of the {len(chunk) - 1} after it)"
