"""Many pieces of work at once, with their results in order."""

from __future__ import annotations

import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from tiler.errors import Unfinished
from tiler.images import memory
from tiler.run.rejecting import among_others

Item = TypeVar("Item")
Result = TypeVar("Result")


def count(workers: int) -> int:
    """The number of workers; 0 stands for one for each core that this process may use.

    >>> count(3)
    3
    """
    if workers:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def stream(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    backend: str,
    describe: Callable[[Item], str],
) -> Iterator[Result]:
    """`work(item)` for each item, in order, as they are done.

    When worker processes are lost (mostly killed by the system for memory), what is missing is
    done again with half as many workers, in the end one item at a time. An item that kills its
    worker twice, alone, ends the run.

    Args:
        work: must depend on its item only; it may run twice. A MemoryError while other items were
            worked on makes it run again, alone.
        backend: `sequential`, `threading` or `loky`.
        describe: names an item, for the message.

    Raises:
        Unfinished: an item kills its worker, and which.
    """
    done = 0
    at_once = workers
    careful = False  # after worker processes were lost
    deaths = 0  # of workers that had this item alone
    while done < len(items):
        alone = careful and at_once == 1
        batch = items[done : done + 1] if alone else items[done:]
        try:
            for result in _results(work, batch, at_once, backend):
                yield result
                done += 1
                deaths = 0
        except MemoryError:
            if not _together(items, at_once, backend):
                raise
            yield work(items[done])
            done += 1
        except BrokenExecutor:
            deaths += alone
            if deaths == 2:
                raise _deadly(describe(items[done])) from None
            at_once = max(1, at_once // 2)
            careful = True


def _deadly(item: str) -> Unfinished:
    return Unfinished(
        f"{item}: the worker died on it (too little memory?); fix or remove it, and run again to "
        "resume"
    )


def _together(items: Sequence[Item], workers: int, backend: str) -> bool:
    """Whether several items are worked on at once, or in other processes."""
    if backend == "sequential":
        return False
    if backend == "threading":
        return workers > 1 and len(items) > 1
    return True


def _results(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, backend: str
) -> Iterator[Result]:
    if not _together(items, workers, backend):
        yield from map(work, items)
        return
    work = partial(among_others, work)
    if backend == "threading":
        yield from _threads(work, items, workers)
        return
    # loading takes a tenth of a small run's time, which threads save
    from joblib import Parallel, delayed

    jobs = workers
    pending = 2 * workers
    if workers == 1:  # joblib runs one job in this process, and the worker may die
        jobs = 2
        pending = 1
    options: dict[str, Any] = {}
    if backend == "loky":
        options["initializer"] = partial(_prepare_child, workers)
    parallel = Parallel(
        n_jobs=jobs,
        backend=backend,
        return_as="generator",
        batch_size=1,
        pre_dispatch=pending,
        **options,
    )
    yield from parallel(delayed(work)(item) for item in items)


def _threads(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """By threads of this process, never more than a few results ahead of the consumer."""
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_child(count: int) -> None:
    """Set up a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent acts
    warnings.simplefilter("ignore")  # Pillow's, of odd metadata
    memory.keep_blocks()
    memory.share(count)
