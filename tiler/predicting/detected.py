"""What a model detected in the windows of an image, read as the rows of prediction files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import SourceRefused
from tiler.geometry import ragged
from tiler.geometry.instances import Instances, concatenate, empty, labelled
from tiler.predictions import Detections, Frames, validation
from tiler.predictions.placing import PlacedRows
from tiler.predictions.validation import RowRules

if TYPE_CHECKING:
    from tiler.geometry.polygons import Rings
    from tiler.types import Floats, Task


@dataclass(frozen=True, slots=True, eq=False)
class DetectedBatch:
    """The detections of an image's windows, in px of each. See `predictions.Batch`.

    Attributes:
        found: by window.
        sizes: `(T, 2)` width and height of each window as the model saw it.
        names: of the windows.
        digest: of everything that they depend on.
    """

    task: Task
    found: Sequence[Instances]
    sizes: Floats
    rules: RowRules
    names: Sequence[str]
    digest: str

    def read(self, frames: Frames) -> Detections:
        """The valid detections, in source px.

        Raises:
            SourceRefused: they are of another task.
        """
        counts = ragged.offsets(map(len, self.found))
        tile = ragged.owners(counts)
        seen = self._together()
        to_source = (frames.rects[:, 2:] - frames.rects[:, :2]) / self.sizes
        scale, origin = to_source[tile], frames.rects[tile, :2]
        rows = PlacedRows(
            self.task,
            tile,
            np.arange(len(tile)) - counts[tile],
            tile,
            np.zeros(len(tile), np.int64),
            seen.class_id.astype(np.float64),
            seen.confidence,
            _moved_boxes(seen.boxes, scale, origin),
            _moved_rings(seen.rings, scale, origin),
            _moved_keypoints(seen.keypoints, scale, origin),
        )
        if rows.rings is not None:
            rows = replace(rows, boxes=rows.rings.bounds())
        return validation.validated(rows, [], frames, self.rules, self.names, self.digest)

    def _together(self) -> Instances:
        """The detections of all windows."""
        filled = [found for found in self.found if len(found)]
        for found in filled:
            if found.task != self.task:
                what = f"the model's detections are {found.task}, {self.task} were expected"
                raise SourceRefused("D01", f"{what}; say --task {found.task}")
        if filled:
            return concatenate(filled)
        return replace(empty(self.task), conf=np.empty(0))


def _moved_boxes(boxes: Floats, scale: Floats, origin: Floats) -> Floats:
    return np.asarray(boxes * np.tile(scale, 2) + np.tile(origin, 2))


def _moved_rings(rings: Rings | None, scale: Floats, origin: Floats) -> Rings | None:
    """Outlines in source px.

    Args:
        scale, origin: `(N, 2)` of each one's window.
    """
    if rings is None:
        return None
    owners = rings.owners()
    return replace(rings, coords=rings.coords * scale[owners] + origin[owners])


def _moved_keypoints(keypoints: Floats | None, scale: Floats, origin: Floats) -> Any:
    if keypoints is None:
        return None
    result = keypoints.copy()
    there = labelled(keypoints)[..., None]
    moved = keypoints[..., :2] * scale[:, None] + origin[:, None]
    result[..., :2] = np.where(there, moved, 0.0)
    return result
