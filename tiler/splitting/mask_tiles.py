"""The class masks of tiles: cut as their images are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets import mask_sets
from tiler.datasets.dataset import Dataset, Source
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.images.class_masks import ClassMask
from tiler.images.header import Header
from tiler.options import SplitOptions, pixel_limit
from tiler.splitting.report import SplitReport
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import PlannedTile

if TYPE_CHECKING:
    from tiler.types import Bools

NO_VALUE = 0  # where nothing is ever blank


def require_blank(dataset: Dataset, options: SplitOptions) -> None:
    """Raises:
    TilerError: masks have no value for what is beyond an image or painted out, and that is needed.
    """
    if dataset.masks is None or dataset.masks.blank is not None:
        return
    for name, value in (("edge", "pad"), ("truncated", "mask")):
        if getattr(options, name) == value:
            raise TilerError(
                f"--{name} {value}: label_mapping makes a class of 255 and ignores no other value, "
                "so masks have none to fill with; map an unused one to ignore_label"
            )


def read(job: SplitJob, source: Source, header: Header) -> tuple[ClassMask | None, list[Finding]]:
    """The mask of a source, if it has one, and what was noticed.

    Raises:
        SourceRefused: it cannot be used.
    """
    if job.masks is None or not source.mask:
        return None, []
    options = job.options
    limit = pixel_limit(options.max_pixels)
    return mask_sets.read(job.root, source, job.masks, header, options.frame, limit)


def shown(job: SplitJob, mask: ClassMask | None, tiles: list[PlannedTile]) -> Bools:
    """`(T,)` True for tiles whose mask has a class other than the background."""
    if mask is None or job.masks is None:
        return np.zeros(len(tiles), bool)
    objects = job.masks.objects
    return np.array([objects[of_tile(job, mask, tile).values].any() for tile in tiles], bool)


def of_tile(job: SplitJob, mask: ClassMask, tile: PlannedTile) -> ClassMask:
    """The mask of a tile; what lies beyond the image is ignored."""
    return mask.tile(tile.window, tile.size, blank(job))


def blank(job: SplitJob) -> int:
    """The value of pixels that are to be ignored."""
    assert job.masks is not None
    if job.masks.blank is None:
        return NO_VALUE
    return job.masks.blank


def nothing_shown(dataset: Dataset, report: SplitReport) -> list[Finding]:
    """That no mask shows any class, which is seldom meant."""
    counts = report.total.counts
    if dataset.masks is None or dataset.rows or counts.sources == counts.refused:
        return []
    if counts.tiles > counts.background:
        return []
    message = "every mask is background or ignored; 255 is ignored, label_mapping {255: 1} maps it"
    return [Finding(dataset.label, "M05", message)]
