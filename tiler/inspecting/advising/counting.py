"""What each setting makes of each image, counted by the very code that cuts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Source
from tiler.datasets.labels import Labels
from tiler.errors import Unfinished
from tiler.geometry.clipping import WHOLE
from tiler.images.header import Header
from tiler.inspecting.advising.settings import Setting, SmallObjects
from tiler.inspecting.advising.survey import read, untiled
from tiler.run.rejecting import refusal
from tiler.tiling.counting import Fates, object_counts, tile_counts
from tiler.tiling.counts import ObjectCounts, TileCounts
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan, planned
from tiler.tiling.sources import estimated_bytes

if TYPE_CHECKING:
    from tiler.types import Floats


@dataclass(slots=True)
class SettingCounts:
    """What a setting makes of some images.

    Attributes:
        tiles: the tiles; `pixels` is their area, px².
        objects: of all classes.
        small_whole: small objects that are whole in a tile with a label for them.
    """

    tiles: TileCounts = field(default_factory=TileCounts)
    objects: ObjectCounts = field(default_factory=ObjectCounts)
    pixels: int = 0
    small_whole: int = 0

    def add(self, other: SettingCounts) -> None:
        self.tiles.add(other.tiles)
        self.objects.add(other.objects)
        self.pixels += other.pixels
        self.small_whole += other.small_whole


@dataclass(frozen=True, slots=True)
class CountedSource:
    """One image, by setting.

    Attributes:
        counts: of each setting.
        sides: the longer side of its tiles, px, of each setting.
    """

    counts: list[SettingCounts]
    sides: list[int]


def count_all(
    settings: Sequence[Setting], small: SmallObjects, job: SplitJob, sources: Sequence[Source]
) -> list[CountedSource]:
    """Each image with each setting.

    Raises:
        Unfinished: an image could be read a moment ago, and now it cannot.
    """
    result = []
    for source in sources:
        try:
            result.append(_count_one(settings, small, job, source))
        except Exception as error:
            why = refusal(error)
            raise Unfinished(
                f"{source.key} changed while it was counted ({why}); run again"
            ) from None
    return result


def _count_one(
    settings: Sequence[Setting], small: SmallObjects, job: SplitJob, source: Source
) -> CountedSource:
    """Read an image's labels once, and count them with each setting."""
    header, labels = read(job, source)
    result = CountedSource([], [])
    for setting in settings:
        plan = _plan(setting, job, source, header, labels)
        result.counts.append(_counts(source, header, labels, plan, small))
        # the last tile of a row is shifted, not trimmed: all are of one size
        result.sides.append(max(plan.tiles[0].size))
    return result


def _plan(
    setting: Setting, job: SplitJob, source: Source, header: Header, labels: Labels
) -> SourcePlan:
    if not setting.tile:
        return untiled(job, source, header, labels)
    job = replace(job, options=setting.options(job.options))
    return planned(job, source, labels, *header.size)


def _counts(
    source: Source, header: Header, labels: Labels, plan: SourcePlan, small: SmallObjects
) -> SettingCounts:
    fates = Fates.of(plan, labels.instances, in_regions=False)
    tiles = tile_counts(plan)
    tiles.bytes = estimated_bytes(source, header, plan)
    objects = ObjectCounts()
    for of_class in object_counts(plan, labels.instances, fates).values():
        objects.add(of_class)
    return SettingCounts(
        tiles, objects, plan.pixels, _small_whole(fates.visible, labels.instances.area, small)
    )


def _small_whole(visible: Floats, area: Floats, small: SmallObjects) -> int:
    return int(np.count_nonzero(small.of(area) & (visible >= WHOLE)))
