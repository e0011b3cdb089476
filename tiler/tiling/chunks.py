"""Sources go to the workers in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

from tiler.datasets.dataset import Source
from tiler.options import RunOptions
from tiler.run import workers
from tiler.tiling.job import SplitJob

Result = TypeVar("Result")

MANY, TINY = 200, 100_000  # from 200 images of fewer bytes on, processes beat threads
CHUNK_FILES, CHUNK_BYTES = 64, 2_000_000  # what a worker gets at once


def mapped(
    job: SplitJob,
    work: Callable[[SplitJob, Sequence[Source]], list[Result]],
    sources: Sequence[Source],
    run: RunOptions,
) -> Iterator[Result]:
    """What `work` returns for each source, in order."""
    todo = list(chunks(sources))
    count = workers.count(run.workers)
    results = workers.stream(
        partial(work, job), todo, count, backend(run, sources), lambda chunk: chunk[0].key
    )
    return chain.from_iterable(results)


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
    total = sum(source.bytes for source in sources)
    if len(sources) >= MANY and total < TINY * len(sources):
        return "loky"
    return "threading"
