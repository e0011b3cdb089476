"""Idle hands: threads that help with one image when there are fewer images than threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class SharedThreads:
    """So many threads at work at once, whoever they work for.

    An image's own thread takes a hand for as long as it works on it; `later` gives a piece
    of its work to a hand that is free, and does it at once when none is. So many images
    cost nothing for being cut in pieces, and one large image has all hands.
    """

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._pool = ThreadPoolExecutor(count)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """One hand is taken within it."""
        with self._free:
            yield

    def later(self, work: Callable[[], Result]) -> Future[Result]:
        """`work()`, in another thread or already done."""
        if self._free.acquire(blocking=False):
            return self._pool.submit(self._helped, work)
        return done(work)

    def _helped(self, work: Callable[[], Result]) -> Result:
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
    except Exception as error:  # whoever asks for the result gets it
        future.set_exception(error)
    return future
