"""A detection in JSON, as it stands in the file."""

from __future__ import annotations

from typing import Any

import msgspec


class Entry(msgspec.Struct, gc=False):
    """One detection as it stands in the file; each part is checked when it is used.

    A `bbox` may be anything, but a list is read as a tuple: with half a million lists the garbage
    collector triples the time, while it does not track tuples of numbers.
    """

    image_id: Any = None
    file_name: Any = None
    category_id: Any = None
    category_name: Any = None
    bbox: tuple[Any, ...] | dict[str, Any] | str | float | bool | None = None
    score: Any = None
    segmentation: Any = None
    keypoints: Any = None
    rbox: Any = None
    poly: Any = None
