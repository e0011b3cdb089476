"""ProbIoU: how alike oriented rectangles are as normal distributions.

Source: Llerena et al., "Probabilistic IoU", 2021 (arXiv 2106.06072); as Ultralytics computes it
(utils/metrics.py: batch_probiou).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry import polygons
from tiler.geometry.columns import Columns

if TYPE_CHECKING:
    from tiler.types import Floats

EPS = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians(Columns):
    """Rectangles as normal distributions, all `(P,)`.

    Attributes:
        x, y: the centre.
        a, b, c: the covariance, ((a, c), (c, b)): of the squares of the sides over 12, rotated.
    """

    x: Floats
    y: Floats
    a: Floats
    b: Floats
    c: Floats

    @classmethod
    def of(cls, quads: Floats) -> Gaussians:
        """Of corners `(P, 4, 2)`, which stand for the smallest rectangle around them."""
        return cls.of_xywhr(polygons.xywhr(quads))

    @classmethod
    def of_xywhr(cls, rectangles: Floats) -> Gaussians:
        """Of `(P, 5)` centres, sides and angles in radians."""
        x, y, width, height, angle = rectangles.T
        cos = np.cos(angle)
        sin = np.sin(angle)
        along = width**2 / 12
        across = height**2 / 12
        a = along * cos**2 + across * sin**2
        b = along * sin**2 + across * cos**2
        c = (along - across) * cos * sin
        return cls(x, y, a, b, c)

    def determinant(self) -> Floats:
        """Of the covariance, at least 0."""
        return np.maximum(self.a * self.b - self.c**2, 0)


def of_gaussians(one: Gaussians, other: Gaussians) -> Floats:
    """`(P,)` ProbIoU of each rectangle and its partner: 1 less the Hellinger distance.

    >>> square = Gaussians.of_xywhr(np.array([[2, 2, 4, 4, 0.0]]))
    >>> round(float(of_gaussians(square, square)[0]), 3)
    1.0
    """
    distance = np.clip(_bhattacharyya(one, other), EPS, 100.0)
    hellinger = np.sqrt(1 - np.exp(-distance) + EPS)
    return np.asarray(1 - hellinger)


def _bhattacharyya(one: Gaussians, other: Gaussians) -> Floats:
    """The Bhattacharyya distance, its terms t1 to t3 named as in batch_probiou."""
    a = one.a + other.a
    b = one.b + other.b
    c = one.c + other.c
    dx = one.x - other.x
    dy = one.y - other.y
    determinant = a * b - c**2
    determinants = one.determinant() * other.determinant()
    divisor = determinant + EPS
    t1 = (a * dy**2 + b * dx**2) / divisor * 0.25
    t2 = c * -dx * dy / divisor * 0.5
    ratio = determinant / (4 * np.sqrt(determinants) + EPS)
    t3 = np.log(ratio + EPS) * 0.5
    return np.asarray(t1 + t2 + t3)
