"""Ignored regions: parts of an image that were not labelled and are not scored, as in VisDrone."""

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

    For labels and for detections alike. What several regions cover counts once. A box without area
    lies in a region if its centre does, edges included. VisDrone2018-DET-toolkit
    (utils/dropObjectsInIgr.m) counts pixels instead, of regions and boxes rounded to them.

    Args:
        boxes: `(N, 4)`, image: `(N,)` number of the image of each.
        regions: `(M, 4)`, region_image: `(M,)` number of the image of each, in any order.
        share: above 0, up to 1.

    >>> boxes = np.array([[0, 0, 10, 10], [6, 0, 16, 10], [0, 0, 10, 10.0]])
    >>> regions = np.array([[0, 0, 8, 99], [4, 0, 10, 99.0]])
    >>> dropped(boxes, np.array([0, 0, 1]), regions, np.array([0, 0])).tolist()
    [True, False, False]
    """
    result = np.zeros(len(boxes), bool)
    area = box.area(boxes)
    centre = np.tile(box.centres(boxes), 2)
    # where there is no area, a square about the centre finds the regions it may lie in
    square = centre + np.array([-0.5, -0.5, 0.5, 0.5])
    extent = np.where(area[:, None] > 0, boxes, square)
    number, region = _meetings(extent, image, regions, region_image)

    flat = area[number] == 0
    is_inside = box.inside(centre[number[flat]], regions[region[flat]])
    result[number[flat][is_inside]] = True

    number, region = number[~flat], region[~flat]
    meeting, first = np.unique(number, return_index=True)
    pieces = shapely.box(*box.intersection(boxes[number], regions[region]).T)
    covered = shapely.area(overlay.united(pieces, first))
    result[meeting] = covered >= share * area[meeting]
    return result


def _meetings(boxes: Floats, image: Ints, regions: Floats, region_image: Ints) -> tuple[Ints, Ints]:
    """Boxes, ascending, and the regions of their image that they meet."""
    numbers, met = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for number, region in neighbours.alike(boxes, regions, image, region_image):
        numbers.append(number)
        met.append(region)
    number, region = np.concatenate(numbers), np.concatenate(met)
    order = np.argsort(number, kind="stable")
    return number[order], region[order]
