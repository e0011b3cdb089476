"""Rows of predictions, placed in pixels of their source image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.formats import trainer_rules
from tiler.geometry.columns import Columns
from tiler.geometry.instances import labelled, triples
from tiler.geometry.polygons import Rings

if TYPE_CHECKING:
    from tiler.predictions.values import Frames
    from tiler.types import Floats, Ints, Objects, Task


@dataclass(frozen=True, slots=True, eq=False)
class PlacedRows(Columns):
    """Rows of a batch before they are validated, as columns of length N.

    Attributes:
        tile: `(N,)` index into the frames.
        row: `(N,)` ordinal in the file.
        file: `(N,)` index into the paths.
        line: `(N,)` from 1; 0 for an entry of JSON.
        class_id: `(N,)` float64, as it was read.
        conf: `(N,)` float64, as it was read.
        boxes: `(N, 4)` float64, xyxy px of the source image; the bounds of outlines.
        rings: outlines or corners in source px, as `Instances` has them.
        keypoints: `(N, K, 3)` in source px.
        area: `(N,)` px² of the source image that decides the size of each, NaN where it is still to
            be measured; None where all are.
        box_area: `(N,)` px² of the box as given, NaN where there is none; or None.
        segmentations: `(N,)` COCO's polygons or masks as they were read, in place of rings.
    """

    task: Task
    tile: Ints
    row: Ints
    file: Ints
    line: Ints
    class_id: Floats
    conf: Floats
    boxes: Floats
    rings: Rings | None = None
    keypoints: Floats | None = None
    area: Floats | None = None
    box_area: Floats | None = None
    segmentations: Objects | None = None


def limited(values: Floats) -> Floats:
    """The numbers within ±1e30, so that sums and products stay finite; NaN for those that are not
    finite themselves.
    """
    within_limits = np.clip(values, -trainer_rules.HUGE, trainer_rules.HUGE)
    return np.where(np.isfinite(values), within_limits, np.nan)


def placed(points: Floats, tile: Ints, frames: Frames, normalised: bool) -> Floats:
    """`(M, 2)` points in source px.

    Args:
        points: `(M, 2)` xy, normalised by the tile's size or in tile px.
        tile: `(M,)` index into the frames.

    >>> from tiler.predictions import Frames
    >>> frames = Frames(["t"], np.array([[100, 0, 300, 200.0]]), np.array([0.5]))
    >>> placed(np.array([[0.5, 0.5]]), np.array([0]), frames, True).tolist()
    [[200.0, 100.0]]
    >>> placed(np.array([[50, 50.0]]), np.array([0]), frames, False).tolist()
    [[200.0, 100.0]]
    """
    if normalised:
        unit = frames.rects[:, 2:] - frames.rects[:, :2]
    else:
        unit = 1 / frames.scale[:, None]
    origin = frames.rects[:, :2]
    if not origin.any() and (unit == 1).all():  # whole images, as they are
        return points + 0.0
    return np.asarray(origin.take(tile, axis=0) + points * unit.take(tile, axis=0))


def placed_keypoints(keypoints: Floats, tile: Ints, frames: Frames, normalised: bool) -> Floats:
    """`(N, K, 3)` keypoints in source px, of `(N, K, 2 or 3)`; one at 0, 0 is not there and stays.

    Args:
        tile: `(N,)` index into the frames.
    """
    n, count, _ = keypoints.shape
    flat = keypoints[..., :2].reshape(-1, 2)
    points = placed(flat, np.repeat(tile, count), frames, normalised)
    result = triples(keypoints)
    there = labelled(result)[..., None]
    result[..., :2] = np.where(there, points.reshape(n, count, 2), 0.0)
    return result
