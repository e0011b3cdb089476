"""Images divided in blocks: where only the tiles of some blocks were predicted, labels elsewhere do
not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.datasets.image_names import by_image
from tiler.evaluation.diagnosis import SHOWN
from tiler.evaluation.inputs import GroundTruth
from tiler.evaluation.layout import TileLayout
from tiler.evaluation.seams import visibility
from tiler.findings import Finding
from tiler.formats import provenance
from tiler.scoring.ground_truth import LabelledImages

if TYPE_CHECKING:
    from tiler.types import Bools, Floats


def within_blocks(preds: Any, images: LabelledImages) -> tuple[LabelledImages, list[Finding]]:
    """The labels without those that no predicted tile shows a quarter of, in images of which only
    some blocks were predicted; and what was left out.

    Args:
        preds: a path, what `merge` returned, or detections by image.
    """
    tiles_of = by_image(images.keys, _tiles(preds))
    if not tiles_of:
        return images, []
    layout = _layout(tiles_of, images.sizes)
    kept = ~_outside(images.labels, layout, tiles_of)
    left_out = int((~kept).sum())
    if not left_out:
        return images, []
    boxes = images.boxes
    if boxes is not None:
        boxes = boxes.take(~_outside(boxes, layout, tiles_of))
    message = (
        f"{left_out} labels in {len(tiles_of)} images lie outside the blocks whose tiles were "
        "predicted; left out"
    )
    finding = Finding("", "S05", message)
    return replace(images, labels=images.labels.take(kept), boxes=boxes), [finding]


def _tiles(preds: Any) -> Mapping[str, Floats]:
    """`(T, 4)` xyxy of the known tiles of each image of which only some blocks were predicted."""
    if not isinstance(preds, Path):
        tiles: Mapping[str, Floats] = getattr(preds, "block_tiles", {})
        return tiles
    path = provenance.of_output(preds)
    if path is None or not any(image.some_blocks for image in provenance.read_briefs(path)):
        return {}
    found = {}
    for image in provenance.read_sources(path):
        if image.some_blocks:
            found[image.source] = _rects(image.tiles)
    return found


def _rects(tiles: Sequence[provenance.TileRows]) -> Floats:
    corners = [(tile.x, tile.y, tile.x + tile.w, tile.y + tile.h) for tile in tiles]
    return np.array(corners, np.float64).reshape(-1, 4)


def _layout(tiles_of: Mapping[int, Floats], sizes: Floats) -> TileLayout:
    rects = [tiles_of.get(i, np.empty((0, 4))) for i in range(len(sizes))]
    return TileLayout.of(rects, [np.ones(len(rect)) for rect in rects], sizes)


def _outside(labels: GroundTruth, layout: TileLayout, tiles_of: Mapping[int, Floats]) -> Bools:
    """`(G,)` labels that no tile shows, in images that are in blocks."""
    in_blocks = np.zeros(len(layout.sizes), bool)
    in_blocks[list(tiles_of)] = True
    share = visibility(labels.boxes, labels.image, layout, SHOWN).share
    return np.asarray(in_blocks[labels.image] & (share < SHOWN))
