"""The conservation of one source's objects: which are whole, truncated or lost, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from msgspec import UNSET, UnsetType

from tiler.datasets.dataset import Source
from tiler.geometry import boxes as box
from tiler.geometry.clipping import WHOLE
from tiler.geometry.instances import Instances
from tiler.tiling.counts import IN_GUARD_BAND, MEDIUM, SMALL, Lost, ObjectCounts, Sizes, TileCounts
from tiler.tiling.source_plan import SourcePlan

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

SKIPPED = "its tiles were skipped (--truncated skip-tile)"


def tile_counts(plan: SourcePlan) -> TileCounts:
    """The tiles of a source."""
    background = plan.written & ~plan.labelled
    return TileCounts(
        sources=1,
        tiles=int(plan.written.sum()),
        background=int(background.sum()),
        left_out=int((plan.own & ~plan.written).sum()),
        without_data=int((plan.own & ~plan.has_data).sum()),
        guard=int(plan.guard.sum()),
        clean=int((plan.clean & plan.own).sum()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Fates:
    """What became of N objects.

    Attributes:
        visible: `(N,)` the largest part of each that a written tile has a label for; 0: none has.
        outside: `(N,)` True for objects that --roi leaves out: tiles outside the regions show or
            label them, and none inside has a label. None without --roi.
    """

    visible: Floats
    outside: Bools | None

    @classmethod
    def of(cls, plan: SourcePlan, instances: Instances, in_regions: bool) -> Fates:
        """The fates of an image's objects. `in_regions`: whether there is a --roi."""
        view = plan.rows.view[plan.written[plan.row_tile]]
        visible = np.zeros(len(instances))
        np.maximum.at(visible, plan.views.object[view], plan.views.seen.visible[view])
        return cls(visible, _outside(plan, len(instances)) if in_regions else None)

    @property
    def lost(self) -> Bools:
        """`(N,)` True for objects that should be in a tile, and are in none."""
        lost: Bools = self.visible == 0
        if self.outside is not None:
            lost = lost & ~self.outside
        return lost


def _outside(plan: SourcePlan, count: int) -> Bools:
    """`(N,)` as in `Fates`."""

    def has(view: Ints, inside: bool) -> Bools:
        """Which objects have one of these views inside (or outside) the regions."""
        result = np.zeros(count, bool)
        here = plan.inside[plan.views.tile[view]] == inside
        result[plan.views.object[view[here]]] = True
        return result

    every_view = np.arange(len(plan.views.tile))
    labelled = plan.rows.view
    only_outside = has(every_view, False) & ~has(every_view, True)
    return ~has(labelled, True) & (has(labelled, False) | only_outside)


def object_counts(plan: SourcePlan, instances: Instances, fates: Fates) -> dict[int, ObjectCounts]:
    """The objects of each class."""
    whole = fates.visible >= WHOLE
    lost = fates.lost
    none = fates.visible == 0
    in_tile = plan.written[plan.row_tile]
    view = plan.rows.view[in_tile]
    row_class = instances.class_id[plan.views.object[view]]
    scale = plan.scales[plan.views.tile[view]]
    row_area = plan.rows.area[in_tile] * scale**2  # px² of the tile
    counts = {}
    for class_id in np.unique(instances.class_id):
        mine = plan.home & (instances.class_id == class_id)
        rows = row_class == class_id
        outside: int | UnsetType = UNSET
        if fates.outside is not None:
            outside = int((mine & fates.outside).sum())
        counts[int(class_id)] = ObjectCounts(
            objects=int(mine.sum()),
            whole=int((mine & whole).sum()),
            truncated=int((mine & ~whole & ~none).sum()),
            lost=int((mine & lost).sum()),
            rows=int(rows.sum()),
            before=_sizes(instances.area[mine]),
            after=_sizes(row_area[rows]),
            outside=outside,
        )
    return counts


def _sizes(areas: Floats) -> Sizes:
    small = int((areas < SMALL).sum())
    large = int((areas >= MEDIUM).sum())
    return Sizes(small, len(areas) - small - large, large)


def lost_objects(
    source: Source, plan: SourcePlan, instances: Instances, fates: Fates
) -> list[Lost]:
    """The objects that are in no tile, and why."""
    lost = []
    for i in np.flatnonzero(plan.home & fates.lost):
        row, class_id = int(instances.row[i]), int(instances.class_id[i])
        reason = _why_lost(plan, instances, int(i))
        lost.append(Lost(source.key, source.split, row, class_id, reason))
    return lost


def _why_lost(plan: SourcePlan, instances: Instances, i: int) -> str:
    in_regions = plan.inside[plan.views.tile]
    here = np.flatnonzero((plan.views.object == i) & in_regions)
    if not len(here):
        width, height = box.to_cxcywh(instances.boxes[i : i + 1])[0, 2:]
        return f"no tile shows any of it ({width:.3g} x {height:.3g} px)"
    views = plan.views.take(here)
    if not views.large.any():
        boxes = views.seen.boxes
        sides = (boxes[:, 2:] - boxes[:, :2]) * plan.scales[views.tile, None]
        width, height = sides[np.argmax(sides.min(axis=1))]
        return f"{width:.3g} x {height:.3g} px at best, under --min-size"
    if not views.kept.any():
        if (plan.own & ~plan.written)[views.tile].any():
            return SKIPPED
        return f"{views.seen.visible.max():.0%} visible at best, under --min-visible"
    if not plan.own[views.tile[views.kept]].any():
        return IN_GUARD_BAND
    if not plan.written[views.tile[views.kept]].any():
        return SKIPPED
    return "the trainer would reject its row, or take it for a duplicate"
