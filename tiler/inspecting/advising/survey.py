"""The objects of a dataset and the sizes of its images, from labels and headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.datasets.labels import Labels, label_file
from tiler.findings import Finding
from tiler.geometry import boxes as box
from tiler.geometry.columns import Columns
from tiler.images.header import Header, probe
from tiler.run.rejecting import refusal
from tiler.tiling.counting import Fates
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan, planned
from tiler.tiling.sources import require_cuttable, usable_labels

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

LARGEST_TILE = 65_500  # px a side; no trainer's library loads a larger image


@dataclass(frozen=True, slots=True, eq=False)
class ObjectTable(Columns):
    """N objects.

    Attributes:
        image: `(N,)` the image of each.
        class_id: `(N,)`.
        boxes: `(N, 4)` float64 xyxy, within the image.
        area: `(N,)` px², of the outline where there is one.
        labelled: `(N,)` False for what gets no label even where it is seen whole: under --min-size,
            or a row that the trainer would reject or take for a duplicate.
    """

    image: Ints
    class_id: Ints
    boxes: Floats
    area: Floats
    labelled: Bools

    @property
    def sides(self) -> Floats:
        """`(N,)` the side of a square of the same area, px."""
        return np.sqrt(self.area)

    @property
    def longest(self) -> Floats:
        """`(N,)` the longer side of the box, px."""
        return np.asarray(box.sides(self.boxes).max(axis=1, initial=0.0))


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of a dataset before tiles are chosen.

    Attributes:
        read: number of images, those among them that are rejected.
        sources: the images that can be cut, in order; `sizes` `(I, 2)` are theirs, px.
        objects: of all of them.
        findings: of images and labels, also of images that are rejected.
    """

    read: int
    sources: list[Source]
    sizes: Ints
    objects: ObjectTable
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class SurveyedSource:
    """One image: its objects; None if it is rejected."""

    size: tuple[int, int]
    objects: ObjectTable | None
    findings: list[Finding]


def read(job: SplitJob, source: Source) -> tuple[Header, Labels]:
    """The header and the labels of an image, as `tiler split` reads them.

    Raises:
        SourceRefused: one of them cannot be used.
    """
    with opened(os.path.join(job.root, source.key)) as file:
        header = probe(file)
    require_cuttable(job, source, header)
    return header, usable_labels(job, source, label_file(job.root, source), header)


def untiled(job: SplitJob, source: Source, header: Header, labels: Labels) -> SourcePlan:
    """The plan of one tile that shows all of the image."""
    width, height = header.size
    tile = (min(width, LARGEST_TILE), min(height, LARGEST_TILE))
    job = replace(job, options=replace(job.options, tile=tile, overlap=0.0))
    return planned(job, source, labels, width, height)


def survey_all(job: SplitJob, sources: Sequence[Source]) -> list[SurveyedSource]:
    """What is known of each image."""
    return [_survey_one(job, source) for source in sources]


def _survey_one(job: SplitJob, source: Source) -> SurveyedSource:
    try:
        header, labels = read(job, source)
        objects = _objects(job, source, header, labels)
    except Exception as error:  # whatever it is, the other images are counted
        rejected = refusal(error)
        finding = Finding(rejected.path or source.key, rejected.code, rejected.message)
        return SurveyedSource((0, 0), None, [finding])
    return SurveyedSource(header.size, objects, labels.findings)


def _objects(job: SplitJob, source: Source, header: Header, labels: Labels) -> ObjectTable:
    instances = labels.instances
    count = len(instances)
    frame = np.array([0.0, 0.0, *header.size])
    fates = Fates.of(untiled(job, source, header, labels), instances, in_regions=False)
    return ObjectTable(
        image=np.zeros(count, np.int64),
        class_id=instances.class_id,
        boxes=box.intersection(instances.boxes, frame),  # corners of an OBB may lie outside
        area=instances.area,
        labelled=fates.visible > 0,
    )


def gathered(sources: Sequence[Source], surveyed: Iterable[SurveyedSource]) -> Survey:
    """All images together."""
    usable: list[Source] = []
    sizes: list[tuple[int, int]] = []
    tables: list[ObjectTable] = []
    findings: list[Finding] = []
    for source, one in zip(sources, surveyed, strict=True):
        findings += one.findings
        if one.objects is None:
            continue
        image = np.full(len(one.objects.area), len(usable))
        tables.append(replace(one.objects, image=image))
        usable.append(source)
        sizes.append(one.size)
    all_sizes = np.array(sizes, np.int64).reshape(-1, 2)
    return Survey(len(sources), usable, all_sizes, _joined(tables), findings)


def _joined(tables: Sequence[ObjectTable]) -> ObjectTable:
    """The objects of several images in one table."""
    tables = [_no_objects(), *tables]
    return ObjectTable(
        image=np.concatenate([table.image for table in tables]),
        class_id=np.concatenate([table.class_id for table in tables]),
        boxes=np.concatenate([table.boxes for table in tables]),
        area=np.concatenate([table.area for table in tables]),
        labelled=np.concatenate([table.labelled for table in tables]),
    )


def _no_objects() -> ObjectTable:
    none = np.empty(0, np.int64)
    boxes = np.empty((0, 4))
    return ObjectTable(none, none, boxes, np.empty(0), np.empty(0, bool))
