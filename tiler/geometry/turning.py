"""Coordinates of a stored image, moved to the upright image that EXIF asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings

if TYPE_CHECKING:
    from tiler.types import Floats

SWAPPED = (5, 6, 7, 8)  # orientations that swap width and height


def turned_points(xy: Floats, orientation: int, width: int, height: int) -> Floats:
    """`(N, 2)` points of the upright image.

    Args:
        xy: `(N, 2)` px of the stored image of `width` x `height` px.
        orientation: 1 to 8, as in EXIF.

    >>> turned_points(np.array([[1.0, 2.0]]), 6, 10, 20).tolist()
    [[18.0, 1.0]]
    """
    x, y = xy[:, 0], xy[:, 1]
    if orientation in (2, 3, 7, 8):
        x = width - x
    if orientation in (3, 4, 6, 7):
        y = height - y
    if orientation in SWAPPED:
        return np.stack([y, x], axis=1)
    return np.stack([x, y], axis=1)


def turned_rings(rings: Rings, orientation: int, width: int, height: int) -> Rings:
    """Outlines of the upright image."""
    return replace(rings, coords=turned_points(rings.coords, orientation, width, height))


def turned_instances(instances: Instances, orientation: int, width: int, height: int) -> Instances:
    """Objects of the upright image; see `turned_points`."""
    corners = instances.boxes.reshape(-1, 2)
    moved = turned_points(corners, orientation, width, height).reshape(-1, 2, 2)
    boxes = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
    rings = instances.rings
    if rings is not None:
        rings = turned_rings(rings, orientation, width, height)
    keypoints = instances.keypoints
    if keypoints is not None:
        keypoints = _turned_keypoints(keypoints, orientation, width, height)
    return replace(instances, boxes=boxes, rings=rings, keypoints=keypoints)


def _turned_keypoints(keypoints: Floats, orientation: int, width: int, height: int) -> Floats:
    """`(N, K, 3)`; what is not labelled stays at 0, 0."""
    points = keypoints[..., :2].reshape(-1, 2)
    moved = turned_points(points, orientation, width, height).reshape(*keypoints.shape[:2], 2)
    labelled = keypoints[..., 2:] > 0
    return np.concatenate([np.where(labelled, moved, 0.0), keypoints[..., 2:]], axis=2)
