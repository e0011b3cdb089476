"""Threads that help with one image when there are fewer images than threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class SharedThreads:
    """A number of threads that work at once, shared by all images.

    An image's own thread counts as one of them while it works (`busy`). `later` gives a piece of
    its work to a free thread, or does it at once when none is free. Thus pieces cost nothing while
    there are many images, and one large image has all threads.
    """

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._pool = ThreadPoolExecutor(count)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A block in which the calling thread counts as one at work."""
        with self._free:
            yield

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within `busy`: a block in which the calling thread waits, and is not at work."""
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()

    def close(self) -> None:
        """Let the threads end, once what they were given is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def later(self, work: Callable[[], Result]) -> Future[Result]:
        """`work()`, in another thread, or done on return."""
        if self._free.acquire(blocking=False):
            return self._pool.submit(self._run, work)
        return done(work)

    def _run(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        finally:
            self._free.release()


def done(work: Callable[[], Result]) -> Future[Result]:
    """`work()`, done at once.

    >>> done(lambda: 6 * 7).result()
    42
    """
    future: Future[Any] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # raised where the result is asked for
        future.set_exception(error)
    return future
