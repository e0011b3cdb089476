"""Which images count: of one without predictions it may not be known whether anybody looked at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tiler.datasets import index as indexes
from tiler.evaluation.inputs import GroundTruth, Predicted
from tiler.formats import provenance
from tiler.scoring.ground_truth import LabelledImages
from tiler.scoring.tiling import by_image

if TYPE_CHECKING:
    from tiler.types import Bools

Columns = TypeVar("Columns", GroundTruth, Predicted)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What is known of each image. Columns are `(I,)`.

    Attributes:
        predicted: there are predictions for it, if only an empty file.
        unsure: there are none, and nothing tells whether its tiles were cut and looked at.
    """

    predicted: Bools
    unsure: Bools


def looked(preds: Any, keys: Sequence[str], given: Sequence[int], tiles: Path | None) -> Looked:
    """Which images were looked at.

    Of plain predictions on full images, one without any is one in which nothing was found, as in
    COCO. Of merged ones it is so where a manifest lists its tiles: that of the merge, or one that
    is given now.

    Args:
        preds: a path, or what `merge` returned, or detections by image.
        given: the images that there are predictions for.
        tiles: the output of tiler split, or its manifest, that the user gives.
    """
    predicted = np.zeros(len(keys), bool)
    merged = _merged(preds)
    if merged is None:
        predicted[list(given)] = True
        return Looked(predicted, np.zeros(len(keys), bool))
    by_names, sources = merged
    listed = by_image(keys, sources)
    predicted[[i for i, has in listed.items() if has]] = True
    known = np.zeros(len(keys), bool)
    known[list(listed)] = not by_names
    if tiles is not None:
        manifest = indexes.manifest_of(tiles, tiles)
        assert manifest is not None
        cut = by_image(keys, {image.key: True for image in indexes.of_manifest(manifest).images})
        known[[i for i in cut if i in listed]] = True
    return Looked(predicted, ~predicted & ~known)


def _merged(preds: Any) -> tuple[bool, Mapping[str, bool]] | None:
    """Whether merged predictions know tiles by names only, and of each image whether it has
    predictions; None for others.
    """
    if isinstance(preds, Path):
        path = preds / provenance.NAME
        if not path.is_file():
            return None
        sources = {source.source: source.predicted for source in provenance.read_briefs(path)}
        return provenance.read_head(path).by_names, sources
    if not hasattr(preds, "by_names"):
        return None
    return preds.by_names, {source: source in preds.predicted for source in preds.sources}


def only(chosen: Bools, labelled: LabelledImages) -> LabelledImages:
    """Some of the images and their labels, numbered anew."""
    keys = [key for key, counts in zip(labelled.keys, chosen.tolist(), strict=True) if counts]
    return replace(
        labelled, keys=keys, sizes=labelled.sizes[chosen], truth=renumbered(labelled.truth, chosen)
    )


def renumbered(columns: Columns, chosen: Bools) -> Columns:
    """The labels or detections of some of the images, whose numbers are then without gaps."""
    kept = columns.take(chosen[columns.image])
    return replace(kept, image=(np.cumsum(chosen) - 1)[kept.image])
