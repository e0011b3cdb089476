"""How alike two detections are: IoU and IoS of boxes, OBBs and outlines, OKS of keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.overlay import common_area
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
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
    whole = np.minimum(area, other) if metric == "ios" else area + other - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def of_boxes(boxes: Floats, others: Floats, metric: Metric = "iou") -> Floats:
    """`(P,)` of each box and its partner.

    >>> of_boxes(np.array([[0, 0, 4, 4.0]]), np.array([[2, 0, 4, 2.0]]), "ios").tolist()
    [1.0]
    """
    return share(
        box.area(box.intersection(boxes, others)), box.area(boxes), box.area(others), metric
    )


def of_shapes(shapes: Objects, others: Objects, metric: Metric = "iou") -> Floats:
    """`(P,)` of each area and its partner, shapely geometries."""
    return share(common_area(shapes, others), shapely.area(shapes), shapely.area(others), metric)


def of_pairs(instances: Instances, i: Ints, j: Ints, metric: Metric = "iou") -> Floats:
    """`(P,)` of detections i and j: of their outlines or OBBs where they have them, else of their
    boxes.
    """
    if instances.rings is None:
        return of_boxes(instances.boxes[i], instances.boxes[j], metric)
    used, at = np.unique(np.concatenate([i, j]), return_inverse=True)
    shapes = instances.rings.take(used).geometry()
    return of_shapes(shapes[at[: len(i)]], shapes[at[len(i) :]], metric)


def oks(points: Floats, others: Floats, counted: Bools, area: Floats) -> Floats:
    """`(P,)` object keypoint similarity of keypoints `(P, K, 2)`, over those counted `(P, K)`.

    0 where none counts.
    """
    return oks_of_distances(((points - others) ** 2).sum(axis=-1), counted, area)


def oks_of_distances(squared: Floats, counted: Bools, area: Floats) -> Floats:
    """`(P,)` object keypoint similarity from squared distances `(P, K)`.

    The formula of pycocotools' `computeOks`, with COCO's constants for its 17 keypoints
    and 1/K for others, as the trainer has it.
    """
    k = squared.shape[1]
    sigmas = COCO_SIGMAS if k == len(COCO_SIGMAS) else np.full(k, 1.0 / max(k, 1))
    # an annotation's area may be anything
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exponent = squared / (2 * sigmas) ** 2 / (area[:, None] + np.spacing(1.0)) / 2
        alike = np.where(counted, np.exp(-exponent), 0.0).sum(axis=1)
    number = counted.sum(axis=1)
    return np.asarray(np.divide(alike, number, out=np.zeros(len(squared)), where=number > 0))
