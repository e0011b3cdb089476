"""The report, from what was read and counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Dataset
from tiler.geometry import boxes as box
from tiler.inspecting.advising.counting import CountedSource, SettingCounts
from tiler.inspecting.advising.report import (
    ImageNumbers,
    ObjectSizes,
    Percentiles,
    PlannedSetting,
    PlanReport,
)
from tiler.inspecting.advising.settings import (
    Setting,
    SmallObjects,
    at_imgsz,
    guaranteed_overlap,
    required,
)
from tiler.inspecting.advising.survey import ObjectTable, Survey
from tiler.options import PlanOptions
from tiler.tiling.counts import labels

if TYPE_CHECKING:
    from tiler.types import Ints


def report_of(
    dataset: Dataset,
    chosen: PlanOptions,
    survey: Survey,
    small: SmallObjects,
    compared: Sequence[Setting],
    counted: Iterable[CountedSource],
) -> PlanReport:
    """The report, as yet without a task and a recommendation."""
    objects = survey.objects
    small_ones = objects.take(small.of(objects.area))
    rejected = survey.read - len(survey.sources)
    return PlanReport(
        task="",
        task_reason="",
        images=ImageNumbers(len(dataset.sources), len(survey.sources), rejected),
        imgsz=chosen.imgsz,
        keep=chosen.keep,
        min_px=chosen.min_px,
        small_rule=small.rule,
        small_below=small.below,
        small=len(small_ones.area),
        small_unlabelled=int((~small_ones.labelled).sum()),
        guaranteed_overlap=guaranteed_overlap(small_ones, chosen.keep),
        sizes=_sizes(objects, small),
        classes=_sizes_by_class(dataset, objects, small),
        settings=_planned(survey, small_ones, chosen, compared, counted),
        findings=[*dataset.findings, *survey.findings],
        root=str(dataset.root),
    )


def _sizes(objects: ObjectTable, small: SmallObjects) -> ObjectSizes:
    return ObjectSizes(
        len(objects.area),
        int(small.of(objects.area).sum()),
        Percentiles.of(objects.sides),
        Percentiles.of(objects.longest),
    )


def _sizes_by_class(
    dataset: Dataset, objects: ObjectTable, small: SmallObjects
) -> dict[str, ObjectSizes]:
    """The sizes of each class that has objects, by name, in the order of the classes."""
    names = labels(dataset.names)
    present = np.unique(objects.class_id).tolist()
    return {names[k]: _sizes(objects.take(objects.class_id == k), small) for k in present}


def _planned(
    survey: Survey,
    small: ObjectTable,
    chosen: PlanOptions,
    compared: Sequence[Setting],
    counted: Iterable[CountedSource],
) -> list[PlannedSetting]:
    """Every setting with its counts over all images."""
    totals = [SettingCounts() for _ in compared]
    sides = []
    for one in counted:
        sides.append(one.sides)
        for total, counts in zip(totals, one.counts, strict=True):
            total.add(counts)
    sides_of = np.array(sides, np.int64).reshape(-1, len(compared)).T
    return [
        _planned_setting(survey, small, chosen, setting, total, tile_sides)
        for setting, total, tile_sides in zip(compared, totals, sides_of, strict=True)
    ]


def _planned_setting(
    survey: Survey,
    small: ObjectTable,
    chosen: PlanOptions,
    setting: Setting,
    total: SettingCounts,
    tile_sides: Ints,
) -> PlannedSetting:
    """Args:
    tile_sides: `(I,)` the longer side of the tiles of each image, px.
    """
    small_px = small.sides * at_imgsz(chosen.imgsz, tile_sides)[small.image]
    enough = total.small_whole >= required(chosen.keep, len(small.area))
    return PlannedSetting(
        tile=setting.tile or None,
        overlap=setting.overlap,
        overlap_px=setting.overlap_px,
        tiles=total.tiles.tiles,
        background=total.tiles.background,
        pixels=total.pixels,
        bytes=total.tiles.bytes,
        objects=total.objects.objects,
        whole=total.objects.whole,
        truncated=total.objects.truncated,
        lost=total.objects.lost,
        rows=total.objects.rows,
        longer=_longer(survey.objects, setting),
        small_whole=total.small_whole,
        small_px=Percentiles.of(small_px),
        keeps=enough and len(small.area) > 0,
        large_enough=bool(len(small_px)) and bool(np.median(small_px) >= chosen.min_px),
    )


def _longer(objects: ObjectTable, setting: Setting) -> int:
    """The number of objects that do not fit into a tile."""
    if not setting.tile:
        return 0
    return int((box.sides(objects.boxes) > setting.tile).any(axis=1).sum())
