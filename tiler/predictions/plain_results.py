"""Results that are plain boxes, as nearly all are, straight to columns.

Half a million entries are most of the time of a run if each is looked at. So a file is first
decoded as entries that can be nothing but an image, a category, four numbers and a score, a piece
at a time, so that they stay in the processor's cache; what is said of images and categories is then
decided once for each distinct one. A file with anything else in it is read by `json_results` entry
by entry, to the same result.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from tiler.types import Floats, Ints


PIECE = 2**17  # bytes that are decoded at once
AFTER_ENTRY = re.compile(rb"\s*(,|\]$)")


class _PlainEntry(msgspec.Struct, gc=False):
    """A box of an image; what else could decide its meaning is not there."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    file_name: str | None = None
    category_name: None = None
    segmentation: None = None
    keypoints: None = None
    rbox: None = None
    poly: None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlainResults:
    """The columns of N entries, N > 0.

    Attributes:
        images: what images are called, each once: by file names if `by_file`, else by ids.
        image: `(N,)` index into these.
        category_ids: each once.
        category: `(N,)` index into these.
        xywh: `(N, 4)` float64 px, as given.
        score: `(N,)` float64.
    """

    images: list[int | str]
    image: Ints
    by_file: bool
    category_ids: list[int]
    category: Ints
    xywh: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.score)


def plain_results(data: bytes) -> PlainResults | None:
    """The entries of a list of plain boxes; None if the text is not that.

    >>> data = b'[{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]'
    >>> results = plain_results(data)
    >>> results.images, results.category_ids, results.xywh.tolist()
    ([7], [3], [[1.0, 2.0, 3.0, 4.0]])
    >>> plain_results(b"[1]") is None
    True
    """
    columns = _GrowingColumns()
    try:
        for piece in _pieces(data):
            columns.extend(msgspec.json.decode(piece, type=list[_PlainEntry]))
    except (_NotPlain, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return columns.results()


class _NotPlain(Exception):
    """The text is not a list of plain boxes."""


def _pieces(data: bytes) -> Iterator[bytes]:
    """The entries of a list, as several lists.

    A piece ends with a brace. Where that is not the end of an entry, the piece is no JSON.
    """
    text = data.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        raise _NotPlain
    start = 1
    while True:
        end = text.find(b"}", start + PIECE) + 1
        if not end:
            yield b"[" + text[start:]
            return
        yield b"[" + text[start:end] + b"]"
        following = AFTER_ENTRY.match(text, end)
        if following is None:
            raise _NotPlain
        start = following.end()
        if start == len(text):
            return


class _GrowingColumns:
    """The columns of the entries so far, a part for each piece."""

    def __init__(self) -> None:
        self.named_by: set[str] = set()
        self.images = _DistinctValues()
        self.category_ids = _DistinctValues()
        self.sides: list[Floats] = []
        self.scores: list[Floats] = []

    def extend(self, entries: list[_PlainEntry]) -> None:
        """Add the entries of a piece.

        Raises:
            _NotPlain: there are none, or only some have a file name.
        """
        count = len(entries)
        file_names = {entry.file_name for entry in entries}
        by_id = file_names == {None}
        self.named_by.add("image_id" if by_id else "file_name")
        if not count or len(self.named_by) > 1 or not (by_id or all(file_names)):
            raise _NotPlain
        (name,) = self.named_by
        self.images.extend(map(attrgetter(name), entries), count)
        self.category_ids.extend(map(attrgetter("category_id"), entries), count)
        sides = chain.from_iterable(map(attrgetter("bbox"), entries))
        self.sides.append(np.fromiter(sides, np.float64, 4 * count))
        self.scores.append(np.fromiter(map(attrgetter("score"), entries), np.float64, count))

    def results(self) -> PlainResults:
        return PlainResults(
            images=[*self.images.places],
            image=np.concatenate(self.images.index),
            by_file="file_name" in self.named_by,
            category_ids=[*self.category_ids.places],
            category=np.concatenate(self.category_ids.index),
            xywh=np.concatenate(self.sides).reshape(-1, 4),
            score=np.concatenate(self.scores),
        )


class _DistinctValues:
    """Each value once, with its place, and the place of every one given, in parts."""

    def __init__(self) -> None:
        self.places: defaultdict[Any, int] = defaultdict()
        self.places.default_factory = self.places.__len__  # a new value comes last
        self.index: list[Ints] = []

    def extend(self, values: Iterable[Any], count: int) -> None:
        places = map(self.places.__getitem__, values)
        self.index.append(np.fromiter(places, np.int64, count))
