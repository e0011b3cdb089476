"""How alike two detections are: IoU and IoS of boxes, OBBs and outlines, OKS of keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.overlay import common_area
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.geometry.polygons import Rings
    from tiler.types import Bools, Floats, Ints, Objects

Metric = Literal["iou", "ios"]

# Constants per keypoint of COCO's OKS for people (pycocotools, cocoeval.py: kpt_oks_sigmas)
COCO_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000.0
)


def share(common: Floats, area: Floats, other: Floats, metric: Metric) -> Floats:
    """IoU (of the union) or IoS (of the smaller) from areas; 0 where there is no area.

    >>> share(np.array([2.0]), np.array([4.0]), np.array([6.0]), "iou").tolist()
    [0.25]
    """
    if metric == "ios":
        whole = np.minimum(area, other)
    else:
        whole = area + other - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def of_boxes(boxes: Floats, others: Floats, metric: Metric = "iou") -> Floats:
    """`(P,)` of each box and its partner.

    >>> of_boxes(np.array([[0, 0, 4, 4.0]]), np.array([[2, 0, 4, 2.0]]), "ios").tolist()
    [1.0]
    """
    common = box.area(box.intersection(boxes, others))
    return share(common, box.area(boxes), box.area(others), metric)


def of_shapes(shapes: Objects, others: Objects, metric: Metric = "iou") -> Floats:
    """`(P,)` of each shape and its partner, shapely geometries."""
    common = common_area(shapes, others)
    return share(common, shapely.area(shapes), shapely.area(others), metric)


def of_pairs(instances: Instances, i: Ints, j: Ints, metric: Metric = "iou") -> Floats:
    """`(P,)` of detections i and j: of their outlines or OBBs where they have them, else of their
    boxes.
    """
    if instances.rings is None:
        return of_boxes(instances.boxes[i], instances.boxes[j], metric)
    shapes, others = shapes_of_pairs(instances.rings, i, j)
    return of_shapes(shapes, others, metric)


def shapes_of_pairs(rings: Rings, i: Ints, j: Ints) -> tuple[Objects, Objects]:
    """`(P,)` shapely geometries of both shapes of each pair; each shape is built once."""
    used, at_i, at_j = used_by_pairs(i, j)
    shapes = rings.take(used).geometry()
    return shapes[at_i], shapes[at_j]


def used_by_pairs(i: Ints, j: Ints) -> tuple[Ints, Ints, Ints]:
    """The indices that occur in pairs, ascending, and the positions of i and of j among them.

    >>> [index.tolist() for index in used_by_pairs(np.array([7, 2]), np.array([9, 7]))]
    [[2, 7, 9], [1, 0], [2, 1]]
    """
    both = np.concatenate([i, j])
    used, at = np.unique(both, return_inverse=True)
    return used, at[: len(i)], at[len(i) :]


def oks(points: Floats, others: Floats, counted: Bools, area: Floats) -> Floats:
    """`(P,)` object keypoint similarity of keypoints `(P, K, 2)`, over those counted `(P, K)`.

    0 where none counts.
    """
    squared = ((points - others) ** 2).sum(axis=-1)
    return oks_of_distances(squared, counted, area)


def oks_of_distances(squared: Floats, counted: Bools, area: Floats) -> Floats:
    """`(P,)` object keypoint similarity from squared distances `(P, K)`.

    The formula of pycocotools' `computeOks`, with COCO's constants for its 17 keypoints
    and 1/K for others, as the trainer has it.
    """
    sigmas = _sigmas(squared.shape[1])
    # an annotation's area may be anything
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance = (2 * sigmas) ** 2
        scale = area[:, None] + np.spacing(1.0)
        exponent = squared / variance / scale / 2
        similarity = np.where(counted, np.exp(-exponent), 0.0)
        total = similarity.sum(axis=1)
    number = counted.sum(axis=1)
    mean = np.zeros(len(squared))
    np.divide(total, number, out=mean, where=number > 0)
    return mean


def _sigmas(keypoints: int) -> Floats:
    """`(K,)` constants of OKS for a number of keypoints."""
    if keypoints == len(COCO_SIGMAS):
        return COCO_SIGMAS
    return np.full(keypoints, 1.0 / max(keypoints, 1))
