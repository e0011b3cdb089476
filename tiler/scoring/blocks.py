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
from tiler.evaluation.inputs import GroundTruth
from tiler.findings import Finding
from tiler.formats import provenance
from tiler.geometry import boxes as box
from tiler.geometry import overlay
from tiler.lazy import shapely
from tiler.scoring.ground_truth import LabelledImages

if TYPE_CHECKING:
    from tiler.types import Floats

WHOLE = 1 - 1e-9  # the share of a box that lies in a block as a whole, but for rounding


def within_blocks(preds: Any, images: LabelledImages) -> tuple[LabelledImages, list[Finding]]:
    """The labels of the blocks that were predicted, in images of which only some were; and what was
    left out.

    Labels outside are left out. Those that the end of a block cuts are regions to be ignored: no
    tile shows them whole.

    Args:
        preds: a path, what `merge` returned, or detections by image.
    """
    tiles = _tiles(preds)
    if not tiles:
        return images, []
    tiles_of = by_image(images.keys, tiles)
    if not tiles_of:
        return images, []
    share = _shares(images.labels, images.sizes, tiles_of)
    outside = int((share == 0).sum())
    cut = int(((share > 0) & (share < WHOLE)).sum())
    if not outside + cut:
        return images, []
    boxes = images.boxes
    if boxes is not None:
        boxes = _counted(boxes, _shares(boxes, images.sizes, tiles_of))
    message = (
        f"{len(tiles_of)} images are divided in blocks, of which only some have predicted tiles: "
        f"{outside} labels outside of these are left out, {cut} at their ends are ignored"
    )
    finding = Finding("", "S05", message)
    return replace(images, labels=_counted(images.labels, share), boxes=boxes), [finding]


def _counted(labels: GroundTruth, share: Floats) -> GroundTruth:
    """Without labels outside of blocks; those that are cut are ignored."""
    cut = share < WHOLE
    marked = replace(
        labels,
        crowd=labels.crowd | cut,
        ignored=labels.ignored | cut,
        difficult=labels.difficult | cut,
    )
    return marked.take(share > 0)


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


def _shares(labels: GroundTruth, sizes: Floats, tiles_of: Mapping[int, Floats]) -> Floats:
    """`(G,)` which part of each label's box within its image the image's tiles cover; 1 in images
    that are not in blocks, and of a box without area.
    """
    share = np.ones(len(labels))
    for image, rects in tiles_of.items():
        own = np.flatnonzero(labels.image == image)
        frame = np.array([0.0, 0.0, *sizes[image]])
        boxes = box.intersection(labels.boxes[own], frame[None])
        area = box.area(boxes)
        has_area = area > 0
        shapes = shapely.box(*boxes[has_area].T)
        covered = overlay.united(shapely.box(*rects.T), np.zeros(1, np.int64))
        common = overlay.common_area(shapes, np.repeat(covered, len(shapes)))
        share[own[has_area]] = common / area[has_area]
    return share
