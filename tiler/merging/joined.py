"""The predictions of several models for one image, read as one batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import SourceRefused
from tiler.findings import inside
from tiler.geometry.instances import concatenate
from tiler.predictions import Batch, Detections, Frames

if TYPE_CHECKING:
    from tiler.types import Floats

Part = tuple[str, str, Batch, int]  # model, where its predictions are, these, number of tiles


@dataclass(frozen=True, slots=True)
class JoinedBatch:
    """The batches of the models, one after the other. See `predictions.Batch`."""

    parts: list[Part]

    def read(self, frames: Frames) -> Detections:
        """The detections of all models.

        Raises:
            SourceRefused: they are of several tasks.
        """
        start = 0
        read = []
        for name, preds, batch, count in self.parts:
            end = start + count
            own = frames.take(slice(start, end))
            read.append(_placed(batch.read(own), start, name, preds))
            start = end
        return _all(read)


def _placed(detections: Detections, start: int, name: str, preds: str) -> Detections:
    """Detections whose first tile is one of the number `start`; their findings name the model."""
    findings = []
    for finding in detections.findings:
        path = finding.path
        if path:
            path = f"{name}/{inside(path, preds)}"
        findings.append(replace(finding, path=path))
    return replace(
        detections,
        tile=detections.tile + start,
        rejected=[(tile + start, row, code) for tile, row, code in detections.rejected],
        left_out=[(tile + start, row) for tile, row in detections.left_out],
        findings=findings,
    )


def _all(read: list[Detections]) -> Detections:
    """All detections; the task of a model without any does not matter."""
    filled = [part.instances for part in read if len(part.instances)]
    filled = filled or [part.instances for part in read[:1]]
    shapes = {(part.task, _keypoints(part.keypoints)) for part in filled}
    if len(shapes) > 1:
        tasks = ", ".join(sorted({part.task for part in filled}))
        raise SourceRefused("D01", f"the models' detections are of different kinds: {tasks}")
    digest = hashlib.blake2b(digest_size=16)
    for part in read:
        digest.update(part.digest.encode() + b"\n")
    return Detections(
        concatenate(filled),
        np.concatenate([part.tile for part in read]),
        rejected=[rejected for part in read for rejected in part.rejected],
        findings=[finding for part in read for finding in part.findings],
        digest=digest.hexdigest(),
        left_out=[row for part in read for row in part.left_out],
    )


def _keypoints(keypoints: Floats | None) -> tuple[int, ...]:
    """The number of keypoints and of values of each."""
    return () if keypoints is None else keypoints.shape[1:]
