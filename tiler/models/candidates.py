"""What a network says of one tile, before it is a detection; duplicates among it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.geometry.columns import Columns
from tiler.geometry.neighbours import alike, neighbours
from tiler.matching import crowds
from tiler.matching.order import canonical
from tiler.matching.probiou import EPS, Gaussians, of_gaussians
from tiler.matching.similarity import of_boxes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiler.types import Bools, Floats, Ints

MOST = 30_000  # the most confident ones compete, as in Ultralytics (max_nms)
FEW = 2_000  # compared at once


@dataclass(frozen=True, slots=True, eq=False)
class NetworkRows(Columns):
    """Rows of a network's output, in px of its input.

    Attributes:
        boxes: `(N, 4)` xyxy; of OBBs cxcywh.
        conf: `(N,)`.
        class_id: `(N,)`.
        more: `(N, E)` what the task has beside: an angle, keypoints, coefficients of a mask.
    """

    boxes: Floats
    conf: Floats
    class_id: Ints
    more: Floats

    def __len__(self) -> int:
        return len(self.conf)

    def ordered(self) -> NetworkRows:
        """By falling confidence, the most confident `MOST`."""
        tile = np.zeros(len(self), np.int64)
        order = canonical(self.conf, self.boxes, self.class_id, tile)
        return self.take(order[:MOST])


def suppressed(rows: NetworkRows, iou: float) -> NetworkRows:
    """The rows that greedy NMS keeps, by falling confidence: a box with an IoU above the threshold
    with a kept one of its class is dropped.
    """
    rows = rows.ordered()
    boxes, kind = rows.boxes, rows.class_id

    def overlapping(i: Ints, j: Ints) -> tuple[Ints, Ints]:
        above = of_boxes(boxes[i], boxes[j]) > iou
        return i[above], j[above]

    def among(index: Ints) -> Iterator[tuple[Ints, Ints]]:
        for i, j in neighbours(boxes[index], kind[index]):
            yield overlapping(index[i], index[j])

    def between(strong: Ints, weak: Ints) -> Iterator[tuple[Ints, Ints]]:
        for i, j in alike(boxes[strong], boxes[weak], kind[strong], kind[weak]):
            yield overlapping(strong[i], weak[j])

    suppressor = crowds.suppressed(len(rows), among, between, FEW)
    return rows.take(suppressor == np.arange(len(rows)))


def suppressed_obbs(rows: NetworkRows, iou: float) -> NetworkRows:
    """The rows that Ultralytics' NMS of OBBs keeps, by falling confidence: one with a ProbIoU above
    the threshold with any of its class that is more confident is dropped.

    Source: Ultralytics, TorchNMS.fast_nms.
    """
    rows = rows.ordered()
    rectangles = np.concatenate([rows.boxes, rows.more[:, -1:]], axis=1)
    gaussians = Gaussians.of_xywhr(rectangles)
    kept = np.ones(len(rows), bool)
    for i, j in neighbours(_bounds(gaussians, iou), rows.class_id):
        _drop(kept, gaussians, i, j, iou)
    return rows.take(kept)


def _drop(kept: Bools, gaussians: Gaussians, i: Ints, j: Ints, iou: float) -> None:
    """Drop each j that is too much like its i."""
    open_ = kept[j]
    i, j = i[open_], j[open_]
    above = of_gaussians(gaussians.take(i), gaussians.take(j)) > iou
    kept[j[above]] = False


def _bounds(gaussians: Gaussians, iou: float) -> Floats:
    """`(N, 4)` boxes, of which those of rectangles with a ProbIoU above the threshold meet.

    A ProbIoU of t is a Hellinger distance of 1 - t, and so a Bhattacharyya distance d of at most
    -ln(1 - (1 - t)²). Along x, centres are then at most sqrt(4 d (a + a')) apart, a and a' the
    variances, which is less than sqrt(4 d) (sqrt(a) + sqrt(a')).
    """
    reach = max(0.0, -np.log(1 - (1 - iou) ** 2 + EPS))
    spread = np.sqrt(4 * reach) * np.sqrt(np.stack([gaussians.a, gaussians.b], axis=1))
    centre = np.stack([gaussians.x, gaussians.y], axis=1)
    boxes = np.concatenate([centre - spread, centre + spread], axis=1)
    return boxes + np.array([-1, -1, 1, 1]) * 1e-6  # rounding; a pair on one spot meets too
