"""Which images count: if one has no predictions, it may be unknown whether a detector saw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from tiler.datasets import index as indexes
from tiler.datasets.image_names import by_image
from tiler.evaluation.inputs import GroundTruth, Predicted
from tiler.formats import provenance
from tiler.scoring.ground_truth import LabelledImages

if TYPE_CHECKING:
    from tiler.types import Bools

Columns = TypeVar("Columns", GroundTruth, Predicted)


@dataclass(frozen=True, slots=True, eq=False)
class PredictedImages:
    """What is known of each image. Columns are `(I,)`.

    Attributes:
        predicted: there are predictions for it, if only an empty file.
        unsure: there are none, and nothing tells whether the detector saw its tiles.
    """

    predicted: Bools
    unsure: Bools

    @classmethod
    def all(cls, count: int) -> Self:
        """Of images that all have predictions."""
        return cls(np.ones(count, bool), np.zeros(count, bool))


def predicted_images(
    preds: Any, keys: Sequence[str], given: Sequence[int], tiles: Path | None
) -> PredictedImages:
    """Which images have predictions, and of which others it is not known whether they count.

    With plain predictions on full images, an image without any is one in which nothing was
    detected, as in COCO. With merged ones that holds if a manifest lists its tiles: that of the
    merge, or one that is given now.

    Args:
        preds: a path, or what `merge` returned, or detections by image.
        given: the images that there are predictions for.
        tiles: the output of tiler split, or its manifest, that the user gives.
    """
    predicted = np.zeros(len(keys), bool)
    merged = _MergedSources.of(preds)
    if merged is None:
        predicted[list(given)] = True
        return PredictedImages(predicted, np.zeros(len(keys), bool))
    listed = by_image(keys, merged.predicted)
    for image, has_any in listed.items():
        predicted[image] = has_any
    known = np.zeros(len(keys), bool)
    known[list(listed)] = not merged.by_names
    if tiles is not None:
        known[list(_tiled(keys, tiles) & listed.keys())] = True
    return PredictedImages(predicted, ~predicted & ~known)


def _tiled(keys: Sequence[str], tiles: Path) -> set[int]:
    """The images that a manifest lists."""
    path = indexes.manifest_of(tiles, tiles)
    assert path is not None
    listed = {image.key: True for image in indexes.of_manifest(path).images}
    return set(by_image(keys, listed))


@dataclass(frozen=True, slots=True)
class _MergedSources:
    """The images that a merge knew of.

    Attributes:
        by_names: their tiles are known by the names of predictions only.
        predicted: by the name of the image, whether it has predictions.
    """

    by_names: bool
    predicted: Mapping[str, bool]

    @classmethod
    def of(cls, preds: Any) -> _MergedSources | None:
        """None of predictions that were not merged."""
        if isinstance(preds, Path):
            path = provenance.of_output(preds)
            if path is None:
                return None
            by_names = provenance.read_head(path).by_names
            briefs = provenance.read_briefs(path)
            return cls(by_names, {source.source: source.predicted for source in briefs})
        if not hasattr(preds, "by_names"):
            return None
        names = preds.sources
        return cls(preds.by_names, {name: name in preds.predicted for name in names})


def chosen_keys(keys: Sequence[str], chosen: Bools) -> list[str]:
    """The keys of the images where the mask is True."""
    return [keys[i] for i in np.flatnonzero(chosen).tolist()]


def only(chosen: Bools, labelled: LabelledImages) -> LabelledImages:
    """Some of the images and their labels, numbered anew."""
    boxes = labelled.boxes
    if boxes is not None:
        boxes = renumbered(boxes, chosen)
    return replace(
        labelled,
        keys=chosen_keys(labelled.keys, chosen),
        sizes=labelled.sizes[chosen],
        labels=renumbered(labelled.labels, chosen),
        boxes=boxes,
    )


def renumbered(columns: Columns, chosen: Bools) -> Columns:
    """The labels or detections of some of the images, whose numbers are then without gaps."""
    kept = columns.take(chosen[columns.image])
    number = np.cumsum(chosen) - 1
    return replace(kept, image=number[kept.image])
