"""Which tiles of a source hold enough data (--min-data), by a pass over its pixels if need be."""

from __future__ import annotations

from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Source
from tiler.geometry.window import Window
from tiler.images import nodata, reading
from tiler.images.header import Header
from tiler.options import pixel_limit
from tiler.options.values import background_share
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan
from tiler.tiling.tile_labels import ROUNDED

if TYPE_CHECKING:
    from tiler.types import Bools


def has_data(
    job: SplitJob, source: Source, file: BufferedReader, header: Header, plan: SourcePlan
) -> Bools:
    """`(T,)` False for tiles without a label that have less than --min-data of data.

    What a tile shows beyond the image is no data. An image that declares no pixels without data,
    and has neither alpha nor floats, is all data: it is not decoded for this.

    Raises:
        SourceRefused: the image is damaged.
    """
    result = np.ones(len(plan.tiles), bool)
    undecided = np.flatnonzero(plan.own & ~plan.labelled)
    options = job.options
    wanted = background_share(options.background, source.split) != "none"
    if options.min_data == 0 or not wanted or not undecided.size:
        return result
    if not nodata.possible(header):
        return result
    windows = [plan.tiles[t].window for t in undecided]
    with reading.opened(file, header, pixel_limit(options.max_pixels), job.pages) as image:
        counts = image.data_counts(_inside(windows, header))
    areas = np.array([window.width * window.height for window in windows])
    result[undecided] = counts >= options.min_data * areas * ROUNDED
    return result


def _inside(windows: list[Window], header: Header) -> list[Window]:
    """The parts of windows inside the image; each has one."""
    image = Window(0, 0, *header.size)
    parts = [window.intersection(image) for window in windows]
    return [part for part in parts if part is not None]
