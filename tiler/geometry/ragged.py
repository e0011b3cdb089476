"""Groups of different size in one flat array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Floats, Ints


def offsets(counts: Iterable[int] | Ints) -> Ints:
    """`(N + 1,)` where groups of the given sizes start, and the end of the last.

    >>> offsets([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    if not isinstance(counts, np.ndarray):
        counts = np.fromiter(counts, np.int64)
    result = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=result[1:])
    return result


def spans(starts: Ints, counts: Ints) -> Ints:
    """`counts[i]` whole numbers from `starts[i]` on, one group after the other.

    >>> spans(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    shift = starts - offsets(counts)[:-1]
    numbers = np.repeat(shift, counts)
    numbers += np.arange(len(numbers))
    return numbers


def chained(parts: Iterable[Ints]) -> Ints:
    """Offsets of all groups, from the offsets of several parts that follow each other.

    >>> chained([np.array([0, 2]), np.array([0, 1, 4])]).tolist()
    [0, 2, 3, 6]
    """
    counts = [np.diff(part) for part in parts]
    return offsets(np.concatenate([np.empty(0, np.int64), *counts]))


def owners(offsets: Ints) -> Ints:
    """Which group each member belongs to.

    >>> owners(np.array([0, 2, 2, 5])).tolist()
    [0, 0, 2, 2, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def members(offsets: Ints, groups: Ints) -> tuple[Ints, Ints]:
    """The members of some groups, in order, and how many each of these groups has.

    >>> members(np.array([0, 2, 2, 5]), np.array([2, 0]))
    (array([2, 3, 4, 0, 1]), array([3, 2]))
    """
    counts = offsets[groups + 1] - offsets[groups]
    return spans(offsets[groups], counts), counts


def firsts(keys: Ints) -> Ints:
    """Where each run of equal keys begins; of sorted keys, the first of each group.

    >>> firsts(np.array([4, 4, 7, 9, 9])).tolist(), firsts(np.empty(0, int)).tolist()
    ([0, 2, 3], [])
    """
    begins = np.ones(len(keys), bool)
    begins[1:] = keys[1:] != keys[:-1]
    return np.flatnonzero(begins)


def portions(counts: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Where portions of consecutive groups begin and end, each of at most `most` members or of one
    group.

    >>> list(portions(np.array([2, 2, 9, 1, 1]), 4))
    [(0, 2), (2, 3), (3, 5)]
    """
    total = offsets(counts)
    start = 0
    while start < len(counts):
        within = int(np.searchsorted(total, total[start] + most, "right")) - 1
        end = max(start + 1, within)
        yield start, end
        start = end


def falling(values: Floats) -> Ints:
    """The stable order of numbers from high to low.

    Those from 0 on are sorted by 16 of their bits at a time, which takes half the time; the lowest
    16, which numbers of 32 bits do not have, are left out, unless that makes a difference.

    >>> falling(np.array([0.5, 0.9, 0.5])).tolist()
    [1, 0, 2]
    """
    if len(values) and (values >= 0).all():
        bits = ~(values + 0.0).view(np.uint64)  # 0.0, not -0.0
        order = np.arange(len(values))
        for shift in (16, 32, 48):
            digit = (bits >> np.uint64(shift)).astype(np.uint16)
            order = order[np.argsort(digit[order], kind="stable")]
        sorted_values = values[order]
        if (sorted_values[1:] <= sorted_values[:-1]).all():
            return order
    return np.argsort(-values, kind="stable")


def by_number(numbers: Ints) -> Ints:
    """The stable order of numbers from 0 on. Numbers of 16 bits are sorted much faster.

    >>> by_number(np.array([2, 0, 2, 1])).tolist()
    [1, 3, 0, 2]
    """
    if not len(numbers) or (numbers.min() >= 0 and numbers.max() < 2**15):
        return np.argsort(numbers.astype(np.int16), kind="stable")
    return np.argsort(numbers, kind="stable")
