"""A lane for each image: its windows wait there for the model, in order, and only a few at a time.

Threads read several images at once. So that memory is bounded and the model sees the same windows
in the same order whatever the number of threads, a window may enter its lane only when few enough
are waiting before it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Stopped(Exception):
    """The run has ended: nobody waits for this any more."""


class Lanes(Generic[Item]):
    """What waits, by image.

    Args:
        counts: of each image, how many items it has at most.
        held: of each image, the bytes that reading it holds.
        ahead: how many items may wait.
        most_held: bytes beyond which no other image is begun.
    """

    def __init__(
        self, counts: Sequence[int], held: Sequence[int], ahead: int, most_held: int
    ) -> None:
        self._first = [0, *accumulate(counts)]
        self._held_before = [0, *accumulate(held)]
        self._ahead = ahead
        self._most_held = most_held
        self._items: list[deque[Item]] = [deque() for _ in counts]
        self._closed = [False] * len(counts)
        self._given_up = [False] * len(counts)
        self._current = 0  # image
        self._taken = 0  # items, those that images turned out not to have among them
        self._stopped = False
        self._changed = threading.Condition()

    # --- by the threads that read

    def wait_turn(self, image: int) -> None:
        """Wait until an image may be begun.

        Raises:
            Stopped: the run has ended.
        """
        self._wait(image, lambda: self._may_begin(image))

    def has_room(self, image: int, item: int) -> bool:
        """Whether an item of an image may enter its lane."""
        return self._first[image] + item < self._taken + self._ahead

    def wait_room(self, image: int, item: int) -> None:
        """Wait until it may.

        Raises:
            Stopped: the run has ended, or the image is given up.
        """
        self._wait(image, lambda: self.has_room(image, item))

    def wait_first(self, image: int) -> None:
        """Wait until an image is the first one that is not done.

        Raises:
            Stopped: the run has ended, or the image is given up.
        """
        self._wait(image, lambda: self._current == image)

    def put(self, image: int, item: Item) -> None:
        """Add an item to its lane."""
        with self._changed:
            self._items[image].append(item)
            self._changed.notify_all()

    def close(self, image: int) -> None:
        """An image has no more items."""
        with self._changed:
            self._closed[image] = True
            self._changed.notify_all()

    # --- by the one that takes

    def __iter__(self) -> Iterator[tuple[int, Item]]:
        """All items with the number of their image, image by image.

        Raises:
            Stopped: the run has ended.
        """
        for image, items in enumerate(self._items):
            while self._comes(image):
                yield image, items.popleft()
                with self._changed:
                    self._taken += 1
                    self._changed.notify_all()
            with self._changed:
                self._current = image + 1
                self._taken = self._first[image + 1]
                self._changed.notify_all()

    def give_up(self, image: int) -> None:
        """Nobody wants the rest of an image."""
        with self._changed:
            self._given_up[image] = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End the run: who waits is told."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _comes(self, image: int) -> bool:
        """Wait for the next item of an image; False where there is none."""
        items = self._items[image]
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or items or self._closed[image])
            if self._stopped:
                raise Stopped
            return bool(items)

    def _may_begin(self, image: int) -> bool:
        held = self._held_before[image] - self._held_before[self._current]
        return self._current == image or held < self._most_held

    def _wait(self, image: int, holds: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._given_up[image] or holds())
            if self._stopped or self._given_up[image]:
                raise Stopped
