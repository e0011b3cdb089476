"""What looks wrong about predictions beside the labels: cut off at a limit, in pixels of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation.inputs import GroundTruth, Predicted
from tiler.findings import Finding
from tiler.formats import provenance
from tiler.predictions import FULL
from tiler.predictions.plausibility import all_alike, rows_of_all
from tiler.scoring.image_selection import chosen_keys

if TYPE_CHECKING:
    from tiler.types import Ints

FEW = 20  # labels or detections; fewer prove nothing
CORNER = 0.6  # of how far most labels reach


def cut_off(preds: Path | None, detections: Ints, keys: Sequence[str]) -> list[Finding]:
    """Images with as many detections as a detector keeps at most; of merged predictions, tiles with
    as many, and images with as many as merge was told to keep.

    Args:
        detections: `(I,)` how many each image has.
    """
    path = provenance.of_output(preds)
    if path is None:
        alike = rows_of_all(detections.tolist())
        if alike:
            return [all_alike("images", alike, len(detections))]
        return _at_limit("images", chosen_keys(keys, detections == FULL), FULL)
    limit = int(provenance.read_head(path).options.get("max_det") or 0)
    images = []
    if limit:
        images = chosen_keys(keys, detections == limit)
    tiles = []
    counts = []
    for source in provenance.read_sources(path):
        tiles += [tile.name for tile in source.tiles if tile.rows == FULL]
        counts += [tile.rows for tile in source.tiles]
    alike = rows_of_all(counts)
    if alike:
        return [*_at_limit("images", images, limit), all_alike("tiles", alike, len(counts))]
    return _at_limit("images", images, limit) + _at_limit("tiles", tiles, FULL)


def _at_limit(what: str, names: list[str], limit: int) -> list[Finding]:
    if not names:
        return []
    example = names[0][:100]
    if len(names) > 1:
        example += ", ..."
    message = (
        f"{what} with exactly {limit} rows: {len(names)} ({example}): the max_det may have cut off "
        "more; set it higher"
    )
    return [Finding("", "D11", message)]


def require_spread(labels: GroundTruth, detections: Predicted) -> None:
    """Require that not all detections lie in the top left of their images, while labels do not, as
    coordinates in pixels of tiles do.

    Raises:
        TilerError: they do.
    """
    if min(len(labels), len(detections)) < FEW:
        return
    reach = detections.instances.boxes[:, 2:].max(axis=0)
    usual = np.quantile(labels.instances.boxes[:, 2:], 0.9, axis=0)
    if (reach > CORNER * usual).any():
        return
    width, height = reach
    raise TilerError(
        f"all {len(detections)} detections lie within {width:g} x {height:g} px of the top left of "
        "their images, the labels do not: are these pixels of tiles? Run tiler merge first, and "
        "score its output; --boxes pixels says that they are pixels of the images"
    )
