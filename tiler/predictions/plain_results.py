"""Results that are plain boxes, as nearly all are, straight to columns.

Half a million entries are most of the time of a run if each is looked at. So a file is first
decoded as entries that can be nothing but an image, a category, four numbers and a score; what is
said of images and categories is then decided once for each distinct one. A file with anything else
in it is read by `json_results` entry by entry, to the same result.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.predictions.records import places_of

if TYPE_CHECKING:
    from tiler.types import Floats, Ints


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
    try:
        entries = msgspec.json.decode(data, type=list[_PlainEntry])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    file_names = {*map(attrgetter("file_name"), entries)}
    by_file = file_names != {None}
    if not entries or (by_file and not all(file_names)):
        return None
    images, image = _distinct(map(attrgetter("file_name" if by_file else "image_id"), entries))
    category_ids, category = _distinct(map(attrgetter("category_id"), entries))
    sides = chain.from_iterable(map(attrgetter("bbox"), entries))
    scores = map(attrgetter("score"), entries)
    return PlainResults(
        images=images,
        image=image,
        by_file=by_file,
        category_ids=category_ids,
        category=category,
        xywh=np.fromiter(sides, np.float64, 4 * len(entries)).reshape(-1, 4),
        score=np.fromiter(scores, np.float64, len(entries)),
    )


def _distinct(values: Iterable[Any]) -> tuple[list[Any], Ints]:
    """Each of N numbers or names once, and `(N,)` the index of each into these."""
    given = [*values]
    try:
        numbers = np.array(array("q", given))  # which takes no text
    except (TypeError, OverflowError):
        places = places_of([*dict.fromkeys(given)])
        return [*places], np.array([*map(places.__getitem__, given)])
    distinct, index = np.unique(numbers, return_inverse=True)
    return distinct.tolist(), index
