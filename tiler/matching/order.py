"""The order in which detections compete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tiler.types import Floats, Ints


def canonical(conf: Floats, boxes: Floats, class_id: Ints, tile: Ints) -> Ints:
    """Indices by falling confidence; ties by coordinates (x0, y0, x1, y1), then class, then tile.

    >>> conf = np.array([0.5, 0.9, 0.5])
    >>> boxes = np.array([[2, 0, 3, 1], [0, 0, 1, 1], [1, 0, 2, 1.0]])
    >>> canonical(conf, boxes, np.zeros(3, int), np.zeros(3, int)).tolist()
    [1, 2, 0]
    """
    order = np.argsort(-conf, kind="stable")
    tied = np.zeros(len(conf), bool)
    equal = conf[order[1:]] == conf[order[:-1]]
    tied[1:] |= equal
    tied[:-1] |= equal
    if tied.any():  # few, mostly: sorting by all columns costs eight times as much
        index = order[tied]
        coordinates = boxes[index].T[::-1]
        keys = (tile[index], class_id[index], *coordinates, -conf[index])
        order[tied] = index[np.lexsort(keys)]
    return order
