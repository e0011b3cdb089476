"""Rows in pixels of their source image, not yet judged."""

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
    """Rows of a batch before they are judged, as columns of length N.

    Attributes:
        tile: `(N,)` index into the frames.
        row: `(N,)` ordinal in the file.
        file: `(N,)` index into the paths.
        line: `(N,)` from 1; 0 for an entry of JSON.
        class_id: `(N,)` float64, as it was read.
        conf: `(N,)` float64, as it was read.
        boxes: `(N, 4)` float64, xyxy px of the source image; of outlines their bounds.
        rings: outlines or corners in source px, as `Instances` has them.
        keypoints: `(N, K, 3)` in source px.
        area: `(N,)` px² of the source image by which each is sized, where that is told; NaN: it is
            to be measured.
        box_area: `(N,)` px² of the box, where it is given; NaN: there is none.
        segmentations: `(N,)` COCO's polygons or masks as they were read, which stand for rings.
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


def tame(values: Floats) -> Floats:
    """Numbers that can be computed with: what is not finite is NaN, what is absurd is 1e30."""
    return np.where(
        np.isfinite(values), np.clip(values, -trainer_rules.HUGE, trainer_rules.HUGE), np.nan
    )


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
    size = frames.rects[:, 2:] - frames.rects[:, :2] if normalised else 1 / frames.scale[:, None]
    return np.asarray(frames.rects[tile, :2] + points * size[tile])


def placed_keypoints(given: Floats, tile: Ints, frames: Frames, normalised: bool) -> Floats:
    """`(N, K, 3)` keypoints in source px, of `(N, K, 2 or 3)`; one at 0, 0 is not there."""
    n, count, _ = given.shape
    result = triples(given)
    points = placed(
        given[..., :2].reshape(-1, 2), np.repeat(tile, count), frames, normalised
    ).reshape(n, count, 2)
    result[..., :2] = np.where(labelled(result)[..., None], points, 0.0)
    return result
