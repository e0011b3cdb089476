"""What is known of a source before any of its pixels are read."""

from __future__ import annotations

from tiler.datasets.dataset import Source
from tiler.datasets.labels import LabelFile, Labels, label_file, require_usable
from tiler.datasets.labels import read as read_labels
from tiler.errors import SourceRefused
from tiler.geometry.grids import MIN_SIDE
from tiler.images import reading
from tiler.images.header import Header
from tiler.options import pixel_limit
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan


def labels_of(job: SplitJob, source: Source) -> LabelFile:
    """The labels of a source; none where masks are the only ones.

    Raises:
        SourceRefused: the file cannot be read.
    """
    if not job.rows:
        return LabelFile(source.key, None)
    return label_file(job.root, source)


def require_cuttable(job: SplitJob, source: Source, header: Header) -> None:
    """Raises:
    SourceRefused: the image is too large, or too small.
    """
    reading.choose(header, source.bytes, pixel_limit(job.options.max_pixels))
    width, height = header.size
    if min(width, height) < MIN_SIDE and job.options.edge != "pad":
        why = f"the trainer drops images under {MIN_SIDE} px a side"
        raise SourceRefused("I05", f"{width} x {height} px; {why}")


def usable_labels(job: SplitJob, source: Source, file: LabelFile, header: Header) -> Labels:
    """The labels of a source.

    Raises:
        SourceRefused: they are of another image, or none of the rows can be used.
    """
    labels = read_labels(source, file, job.spec, *header.size)
    require_usable(labels, file.key)
    return labels


def estimated_bytes(source: Source, header: Header, plan: SourcePlan) -> int:
    """Bytes of the tiles, if a pixel takes as many as in the source."""
    return round(source.bytes * plan.pixels / (header.size[0] * header.size[1]))
