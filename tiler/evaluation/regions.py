"""Regions of an image in which nobody labelled anything: what lies there is not scored, as in
VisDrone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry import neighbours, overlay
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

SHARE = 0.5


def dropped(
    boxes: Floats, image: Ints, regions: Floats, region_image: Ints, share: float = SHARE
) -> Bools:
    """`(N,)` True for boxes that lie in the regions of their image by `share` of their area or
    more.

    For labels and for detections alike. What several regions cover counts once. Of a box without
    area its centre decides, on an edge too. VisDrone2018-DET-toolkit (utils/dropObjectsInIgr.m)
    counts pixels instead, of regions and boxes rounded to them.

    Args:
        boxes: `(N, 4)`, image: `(N,)` number of the image of each.
        regions: `(M, 4)`, region_image: `(M,)` likewise, in any order.
        share: above 0, up to 1.

    >>> boxes = np.array([[0, 0, 10, 10], [6, 0, 16, 10], [0, 0, 10, 10.0]])
    >>> regions = np.array([[0, 0, 8, 99], [4, 0, 10, 99.0]])
    >>> dropped(boxes, np.array([0, 0, 1]), regions, np.array([0, 0])).tolist()
    [True, False, False]
    """
    area = box.area(boxes)
    # where there is no area, a square about the centre finds the regions it may lie in
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, [0, 1, 0, 1]]
    extent = np.where(area[:, None] > 0, boxes, centre + np.array([-0.5, -0.5, 0.5, 0.5]))
    none = np.empty(0, np.int64)
    met = list(neighbours.alike(extent, regions, image, region_image))
    i = np.concatenate([none, *(i for i, _ in met)])
    j = np.concatenate([none, *(j for _, j in met)])
    order = np.argsort(i, kind="stable")
    i, j = i[order], j[order]

    result = np.zeros(len(boxes), bool)
    point = area[i] == 0
    within = box.inside(centre[i[point]], regions[j[point]])
    result[i[point][within]] = True
    i, j = i[~point], j[~point]
    some, first = np.unique(i, return_index=True)
    pieces = shapely.box(*box.intersection(boxes[i], regions[j]).T)
    covered = shapely.area(overlay.united(pieces, first))
    result[some] = covered >= share * area[some]
    return result
