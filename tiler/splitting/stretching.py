"""One mapping to 8 bits for all deep images of a dataset: a first pass counts their values."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import opened
from tiler.images import nodata, reading
from tiler.images.header import probe
from tiler.images.reading import SourceImage
from tiler.images.stretch import Histogram, limits
from tiler.options import RunOptions, pixel_limit
from tiler.run.rejecting import refusal
from tiler.splitting.tile_pixels import kind_of
from tiler.tiling.chunks import mapped
from tiler.tiling.job import SplitJob

Histograms = dict[str, Histogram]  # by kind of image
WITH_ALPHA = ("LA;16", "RGBA;16")
ALPHA_RANGE = (0.0, 65535.0)


def mapping(
    job: SplitJob, dataset: Dataset, run: RunOptions
) -> dict[str, list[tuple[float, float]]]:
    """For each kind of image deeper than 8 bits, the values of each band that become 0 and 255."""
    total: Histograms = {}
    for histograms in mapped(job, count, dataset.images, run):
        for kind, histogram in histograms.items():
            if kind in total:
                total[kind].add(histogram)
            else:
                total[kind] = histogram
    return {kind: _limits(kind, total[kind], job.options.stretch) for kind in sorted(total)}


def count(job: SplitJob, sources: Sequence[Source]) -> list[Histograms]:
    """The values of each image; none of an unreadable one, which is rejected when it is cut."""
    result = []
    for source in sources:
        histograms: Histograms = {}
        try:
            histograms = _histograms(job, source)
        except Exception as error:
            refusal(error)
        result.append(histograms)
    return result


def _histograms(job: SplitJob, source: Source) -> Histograms:
    """The values of an image, if it is deeper than 8 bits."""
    limit = pixel_limit(job.options.max_pixels)
    with opened(os.path.join(job.root, source.key)) as file:
        header = nodata.declared(probe(file), job.options.nodata)
        if header.bits <= 8:
            return {}
        with reading.opened(file, header, limit, job.pages) as image:
            return {kind_of(image): _counted(image)}


def _counted(image: SourceImage) -> Histogram:
    """The values of the bands but for alpha, where there is data."""
    bands = image.bands - (image.mode in WITH_ALPHA)
    histogram = Histogram.of_kind(image.dtype, bands)
    for rows in image.bands_of_rows():
        histogram.count(rows[..., :bands], image.nodata.has_data(rows))
    return histogram


def _limits(kind: str, histogram: Histogram, stretch: str) -> list[tuple[float, float]]:
    """What becomes 0 and 255 of each band: one pair for all colours, which so keep their hue; alpha
    keeps its scale."""
    result = limits(histogram, stretch, shared=kind.startswith("RGB"))
    if kind.split()[0] in WITH_ALPHA:
        result = [*result, ALPHA_RANGE]
    return result
