"""One mapping to 8 bits for all deep images of a dataset: a first pass counts their values."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tiler.datasets.sources import Dataset, Source, opened
from tiler.images import reading
from tiler.images.header import probe
from tiler.images.reading import SourceImage
from tiler.images.stretch import Histogram, limits
from tiler.options import RunOptions, pixel_limit
from tiler.run.rejecting import refusal
from tiler.splitting.job import SplitJob
from tiler.splitting.tile_files import kind_of
from tiler.splitting.work import mapped

Tallies = dict[str, Histogram]
WITH_ALPHA = ("LA;16", "RGBA;16")


def mapping(
    job: SplitJob, dataset: Dataset, run: RunOptions
) -> dict[str, list[tuple[float, float]]]:
    """For each kind of image deeper than 8 bits, the values of each band that become 0 and 255."""
    total: Tallies = {}
    for tallies in mapped(job, count, dataset.sources, run):
        for kind, tally in tallies.items():
            if kind in total:
                total[kind].add(tally)
            else:
                total[kind] = tally
    return {kind: _limits(kind, total[kind], job.options.stretch) for kind in sorted(total)}


def count(job: SplitJob, sources: Sequence[Source]) -> list[Tallies]:
    """What values each image has; of one that cannot be read, none: it is refused when it is cut."""
    found = []
    for source in sources:
        tallies: Tallies = {}
        try:
            with opened(os.path.join(job.root, source.key)) as file:
                header = probe(file)
                if header.bits > 8:
                    with reading.opened(
                        file, header, pixel_limit(job.options.max_pixels), job.pages
                    ) as image:
                        tallies = {kind_of(image): _counted(image)}
        except Exception as error:
            refusal(error)
        found.append(tallies)
    return found


def _counted(image: SourceImage) -> Histogram:
    bands = image.bands - (image.mode in WITH_ALPHA)
    tally = Histogram.of_kind(image.dtype, bands)
    for rows in image.bands_of_rows():
        tally.count(rows[..., :bands])
    return tally


def _limits(kind: str, tally: Histogram, how: str) -> list[tuple[float, float]]:
    """Colours share a pair, so that they stay what they are; alpha keeps its scale."""
    opaque = [(0.0, 65535.0)] if kind.split()[0] in WITH_ALPHA else []
    return limits(tally, how, shared=kind.startswith("RGB")) + opaque
