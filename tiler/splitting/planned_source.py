"""A source of which everything is known that needs none of its tiles' pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BufferedReader
from typing import TYPE_CHECKING

from tiler.datasets.dataset import Source
from tiler.datasets.labels import LabelFile, Labels
from tiler.findings import Finding
from tiler.formats.manifest import Geo
from tiler.images import geo, nodata
from tiler.images.class_masks import ClassMask
from tiler.images.header import Header, probe
from tiler.splitting import mask_tiles
from tiler.splitting.data_share import has_data
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan, planned, selected
from tiler.tiling.sources import require_cuttable, usable_labels

if TYPE_CHECKING:
    from tiler.types import Bools


@dataclass(frozen=True, slots=True, eq=False)
class PlannedSource:
    """A source, its labels and its tiles.

    Attributes:
        mask: its class mask, if it has one.
        mask_findings: what was noticed of that.
    """

    header: Header
    labels: Labels
    mask: ClassMask | None
    mask_findings: list[Finding]
    plan: SourcePlan


def planned_source(
    job: SplitJob,
    source: Source,
    file: BufferedReader,
    labels_from: LabelFile,
    written: Bools | None = None,
) -> PlannedSource:
    """What is to be cut of a source.

    Args:
        written: `(T,)` which tiles are, where that was decided before.

    Raises:
        SourceRefused: it cannot be used.
    """
    header = nodata.declared(probe(file), job.options.nodata)
    require_cuttable(job, source, header)
    labels = usable_labels(job, source, labels_from, header)
    mask, findings = mask_tiles.read(job, source, header)
    plan = planned(job, source, labels, *header.size, _place(job, source, file, header))
    if written is not None:
        plan = replace(plan, written=written)
    else:
        plan = replace(plan, masked=mask_tiles.shown(job, mask, plan.tiles))
        plan = selected(job, source, plan, has_data(job, source, file, header, plan))
    return PlannedSource(header, labels, mask, findings, plan)


def _place(job: SplitJob, source: Source, file: BufferedReader, header: Header) -> Geo | None:
    """The location of an image, if regions in map coordinates need it."""
    if job.roi is None or not job.roi.on_map:
        return None
    located = geo.located(file, header, job.root / source.key)
    return None if located is None else located.geo
