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
    area = box.area(boxes)
    extent = _extent(boxes, area)
    number, region = _meetings(extent, image, regions, region_image)
    flat = area[number] == 0
    inside = _with_centre_inside(boxes, number[flat], regions[region[flat]])
    chosen, covered = _covered(boxes, number[~flat], regions[region[~flat]])
    result = np.zeros(len(boxes), bool)
    result[inside] = True
    result[chosen] = covered >= share * area[chosen]
    return result


def _extent(boxes: Floats, area: Floats) -> Floats:
    """`(N, 4)` the boxes; in place of one without area a square about its centre, which finds the
    regions it may lie in.
    """
    centre = np.tile(box.centres(boxes), 2)
    square = centre + np.array([-0.5, -0.5, 0.5, 0.5])
    return np.where(area[:, None] > 0, boxes, square)


def _with_centre_inside(boxes: Floats, number: Ints, regions: Floats) -> Ints:
    """The boxes whose centre lies in their region.

    Args:
        number: `(P,)` box of each region.
        regions: `(P, 4)`.
    """
    centre = box.centres(boxes[number])
    is_inside = box.inside(np.tile(centre, 2), regions)
    return number[is_inside]


def _covered(boxes: Floats, number: Ints, regions: Floats) -> tuple[Ints, Floats]:
    """The boxes that are among these, ascending, and the area that their regions cover of each.

    Args:
        number: `(P,)` box of each region, ascending.
        regions: `(P, 4)`.
    """
    common = box.intersection(boxes[number], regions)
    pieces = shapely.box(*common.T)
    chosen, first = np.unique(number, return_index=True)
    united = overlay.united(pieces, first)
    return chosen, shapely.area(united)


def _meetings(boxes: Floats, image: Ints, regions: Floats, region_image: Ints) -> tuple[Ints, Ints]:
    """Boxes, ascending, and the regions of their image that they meet."""
    meetings = neighbours.alike(boxes, regions, image, region_image)
    number, region = neighbours.collected(meetings)
    order = np.argsort(number, kind="stable")
    return number[order], region[order]
