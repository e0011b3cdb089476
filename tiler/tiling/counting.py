"""The conservation of one source's objects: which are whole, truncated or lost, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Source
from tiler.datasets.labels import Labels
from tiler.geometry import boxes as box
from tiler.geometry.clipping import WHOLE
from tiler.geometry.instances import Instances
from tiler.tiling.counts import MEDIUM, SMALL, Lost, ObjectCounts, Sizes, TileCounts
from tiler.tiling.source_plan import SourcePlan

if TYPE_CHECKING:
    from tiler.types import Floats

SKIPPED = "its tiles were skipped (--truncated skip-tile)"


def tile_counts(plan: SourcePlan, labels: Labels) -> TileCounts:
    """The tiles of a source."""
    background = plan.written & ~plan.labelled
    return TileCounts(
        sources=1,
        tiles=int(plan.written.sum()),
        background=int(background.sum()),
        left_out=int((~plan.written).sum()),
        without_data=int((~plan.has_data).sum()),
        clean=int(plan.clean.sum()),
        ignored_regions=len(labels.ignored),
    )


def most_visible(plan: SourcePlan, instances: Instances) -> Floats:
    """`(N,)` the largest part of each object that a written tile has a label for; 0: it is lost."""
    view = plan.rows.view[plan.written[plan.row_tile]]
    result = np.zeros(len(instances))
    np.maximum.at(result, plan.views.object[view], plan.views.seen.visible[view])
    return result


def object_counts(
    plan: SourcePlan, instances: Instances, visible: Floats
) -> dict[int, ObjectCounts]:
    """The objects of each class.

    Args:
        visible: `(N,)` by `most_visible`.
    """
    whole = visible >= WHOLE
    lost = visible == 0
    in_tile = plan.written[plan.row_tile]
    view = plan.rows.view[in_tile]
    row_class = instances.class_id[plan.views.object[view]]
    scale = plan.scales[plan.views.tile[view]]
    row_area = plan.rows.area[in_tile] * scale**2  # px² of the tile
    counts = {}
    for class_id in np.unique(instances.class_id):
        mine = instances.class_id == class_id
        rows = row_class == class_id
        mine_whole = mine & whole
        mine_truncated = mine & ~whole & ~lost
        mine_lost = mine & lost
        counts[int(class_id)] = ObjectCounts(
            objects=int(mine.sum()),
            whole=int(mine_whole.sum()),
            truncated=int(mine_truncated.sum()),
            lost=int(mine_lost.sum()),
            rows=int(rows.sum()),
            before=_sizes(instances.area[mine]),
            after=_sizes(row_area[rows]),
        )
    return counts


def _sizes(areas: Floats) -> Sizes:
    small = int((areas < SMALL).sum())
    large = int((areas >= MEDIUM).sum())
    return Sizes(small, len(areas) - small - large, large)


def lost_objects(
    source: Source, plan: SourcePlan, instances: Instances, visible: Floats
) -> list[Lost]:
    """The objects that are in no tile, and why.

    Args:
        visible: `(N,)` by `most_visible`.
    """
    lost = []
    for i in np.flatnonzero(visible == 0):
        row, class_id = int(instances.row[i]), int(instances.class_id[i])
        reason = _why_lost(plan, instances, int(i))
        lost.append(Lost(source.key, source.split, row, class_id, reason))
    return lost


def _why_lost(plan: SourcePlan, instances: Instances, i: int) -> str:
    here = np.flatnonzero(plan.views.object == i)
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
        if not plan.written[views.tile].all():
            return SKIPPED
        return f"{views.seen.visible.max():.0%} visible at best, under --min-visible"
    if not plan.written[views.tile[views.kept]].any():
        return SKIPPED
    return "the trainer would reject its row, or take it for a duplicate"
