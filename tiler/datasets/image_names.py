"""Images looked up by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from tiler.datasets.index import Index, TiledImage

T = TypeVar("T")


def by_name(keys: Sequence[str], file: Path) -> Index:
    """Where to look images up by their names, without tiles."""
    rects = np.empty((0, 4))
    scale = np.empty(0)
    images = [TiledImage(key, 0, 0, [], rects, scale) for key in keys]
    return Index(images, "names of images", file)


def by_image(keys: Sequence[str], values: Mapping[str, T]) -> dict[int, T]:
    """Values by the number of their image. They are named by its path, or by its last part if no
    other image has the same.
    """
    index = by_name(keys, Path())
    number = {key: i for i, key in enumerate(keys)}
    result = {}
    for name, value in values.items():
        place = index.place(os.path.splitext(name)[0])
        if place is not None:
            result[place[0]] = value
    for name, value in values.items():
        if name in number:
            result[number[name]] = value
    return dict(sorted(result.items()))
