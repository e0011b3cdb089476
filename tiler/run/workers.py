"""Many pieces of work at once, their results in order."""

from __future__ import annotations

import os
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tiler.errors import Unfinished
from tiler.images import memory
from tiler.run.rejecting import among_others

Item = TypeVar("Item")
Result = TypeVar("Result")


def count(workers: int) -> int:
    """The number of workers meant; 0 means one for each core this process may use.

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

    When worker processes are lost (killed by the system for memory, mostly), what is
    missing is done again with half as many, at last one item at a time; an item that
    kills its worker twice, alone, ends the run.

    Args:
        work: must not depend on anything but its item; it may run twice. A MemoryError, when it was
            not alone, makes it run again, alone.
        backend: `sequential`, `threading` or `loky`.
        describe: names an item, for the message.

    Raises:
        Unfinished: an item takes its worker down, and which.
    """
    done = strikes = 0
    at_once, careful = workers, False
    while done < len(items):
        alone = careful and at_once == 1
        batch = items[done : done + 1] if alone else items[done:]
        try:
            for result in _results(work, batch, at_once, backend):
                yield result
                done, strikes = done + 1, 0
        except MemoryError:
            if not _together(items, at_once, backend):
                raise
            yield work(items[done])
            done += 1
        except BrokenExecutor:
            strikes += alone
            if strikes == 2:
                raise Unfinished(
                    f"{describe(items[done])}: the worker died on it (too little memory?); "
                    "mend or remove it, and run again to go on"
                ) from None
            at_once, careful = max(1, at_once // 2), True


def _together(items: Sequence[Item], workers: int, backend: str) -> bool:
    """Whether several items are worked on at once, or in other processes."""
    return backend not in ("sequential", "threading") or (
        backend == "threading" and workers > 1 and len(items) > 1
    )


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
    # a tenth of a small run's time, which threads need not pay
    from joblib import Parallel, delayed

    # joblib runs n_jobs=1 in this process; a child that may die is two with one item at a time
    alone = workers == 1
    more = {"initializer": partial(_prepare_child, workers)} if backend == "loky" else {}
    parallel = Parallel(
        n_jobs=2 if alone else workers,
        backend=backend,
        return_as="generator",
        batch_size=1,
        pre_dispatch=1 if alone else 2 * workers,
        **more,
    )
    yield from parallel(delayed(work)(item) for item in items)


def _threads(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """By threads of this process, never more than a few results ahead of whoever takes them."""
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
    """Ctrl-C reaches every process of a terminal; the parent alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
    memory.keep_blocks()
    memory.share(count)
