"""What is to be written of one source: its tiles and their label rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.dataset import Source
from tiler.datasets.labels import Labels
from tiler.formats.manifest import Geo, TileEntry
from tiler.geometry.instances import Instances
from tiler.options.values import background_share
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import PlannedTile, planned_tiles
from tiler.tiling.tile_labels import LabelRows, Views, label_rows, views

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class SourcePlan:
    """What is to be written of a source.

    Attributes:
        tiles: all T tiles; `windows` `(T, 4)` and `scales` `(T,)` are theirs.
        views: what the tiles show.
        rows: the label rows.
        inside: `(T,)` True for the tiles that meet a region of --roi; without it, for all.
        written: `(T,)` True for the tiles that are written.
        has_data: `(T,)` False for the tiles that --min-data leaves out, none of which has a label.
        masked: `(T,)` True for the tiles whose class mask has a class other than the background.
        own: `(T,)` True for the tiles of the source's split: all, unless it has a block only.
        guard: `(T,)` True for the tiles that no split has, and that count for this one.
        home: `(N,)` True for the objects that count for the split.
    """

    tiles: list[PlannedTile]
    windows: Floats
    scales: Floats
    views: Views
    rows: LabelRows
    inside: Bools
    written: Bools
    has_data: Bools
    own: Bools
    guard: Bools
    home: Bools
    masked: Bools

    @cached_property
    def row_tile(self) -> Ints:
        """`(R,)` the tile of each row, in rising order."""
        return self.views.tile[self.rows.view]

    @cached_property
    def _first_row(self) -> list[int]:
        """`(T + 1,)` where the rows of each tile begin."""
        tiles = np.arange(len(self.tiles) + 1)
        return [*map(int, np.searchsorted(self.row_tile, tiles))]

    @property
    def labelled(self) -> Bools:
        """`(T,)` True for tiles with a label row, or a class in their mask."""
        rows = np.bincount(self.row_tile, minlength=len(self.tiles))
        return np.asarray(self.masked | (rows > 0))

    @property
    def clean(self) -> Bools:
        """`(T,)` True for tiles with data in the regions of --roi that show nothing of any
        object."""
        shown = np.bincount(self.views.tile, minlength=len(self.tiles))
        return np.asarray(self.inside & self.has_data & (shown == 0) & ~self.masked)

    @property
    def pixels(self) -> int:
        """Pixels of the tiles that are written."""
        sizes = np.array([tile.size for tile in self.tiles])
        return int(sizes[self.written].prod(axis=1).sum())

    def rows_of(self, tile: int) -> range:
        """The numbers of a tile's rows."""
        return range(self._first_row[tile], self._first_row[tile + 1])

    def in_tiles(self, shown: Instances, tile: Ints) -> Instances:
        """N instances in pixels of the `(N,)` tile of each, of those in source pixels."""
        windows = self.windows[tile]
        sizes = np.array([self.tiles[t].size for t in tile.tolist()], np.float64).reshape(-1, 2)
        zoom = sizes / (windows[:, 2:] - windows[:, :2])
        return shown.moved(-windows[:, 0], -windows[:, 1]).zoomed(zoom)

    def entries(self) -> list[TileEntry]:
        """The written tiles, as the manifest lists them."""
        return [self._entry(number) for number in np.flatnonzero(self.written).tolist()]

    def _entry(self, number: int) -> TileEntry:
        tile = self.tiles[number]
        window = tile.window
        views = self.rows.view[self.rows_of(number)]
        source_rows = self.views.seen.row[views].tolist()
        visible = [round(part, 6) for part in self.views.seen.visible[views].tolist()]
        rows = list(zip(source_rows, visible, strict=True))
        return TileEntry(
            tile.name, window.x, window.y, window.width, window.height, tile.scale, rows
        )


def planned(
    job: SplitJob,
    source: Source,
    labels: Labels,
    width: int,
    height: int,
    place: Geo | None = None,
) -> SourcePlan:
    """All tiles of an image of `width` x `height` px, and their label rows. Those that meet no
    region of --roi are not written; the others still may be.

    Args:
        place: the location of the image, for a --roi in map coordinates.

    Raises:
        SourceRefused: --grid or --roi is not possible in this image.
    """
    options = job.options
    tiles = planned_tiles(source.stem, width, height, options)
    windows = np.array([tile.window.bounds for tile in tiles])
    scales = np.array([tile.size[0] / tile.window.width for tile in tiles])
    shown = views(labels.instances, windows, scales, options)
    rows = label_rows(shown, windows, scales, options, job.spec)
    every = np.ones(len(tiles), bool)
    inside = every
    if job.roi is not None:
        in_image = np.minimum(windows, [width, height, width, height])
        inside = job.roi.meets(source.key, in_image, place)
    own, guard, home = _territory(source, windows, labels.instances.boxes)
    written = inside & own
    return SourcePlan(
        tiles, windows, scales, shown, rows, inside, written, every, own, guard, home, ~every
    )


def selected(job: SplitJob, source: Source, plan: SourcePlan, has_data: Bools) -> SourcePlan:
    """The plan with the tiles that --roi, --min-data, --background and --truncated skip-tile leave.

    Args:
        has_data: `(T,)` False for tiles without a label that have too little data.
    """
    plan = replace(plan, has_data=has_data)
    return replace(plan, written=_written(job, source, plan))


def _territory(source: Source, windows: Floats, boxes: Floats) -> tuple[Bools, Bools, Bools]:
    """`own` and `guard` of windows, and `home` of the boxes of objects: see `SourcePlan`."""
    block = source.block
    if block is None:
        return np.ones(len(windows), bool), np.zeros(len(windows), bool), np.ones(len(boxes), bool)
    own = block.holds(windows)
    return own, block.is_home(windows) & ~own, block.is_home(boxes)


def _written(job: SplitJob, source: Source, plan: SourcePlan) -> Bools:
    """`(T,)` True for the tiles that are to be written."""
    written = plan.inside & plan.own & plan.has_data
    if background_share(job.options.background, source.split) != "all":
        written = written & (plan.labelled | _background(job, source, plan))
    if job.options.truncated == "skip-tile":
        skipped = np.zeros(len(plan.tiles), bool)
        skipped[plan.views.tile[plan.views.below]] = True
        written = written & ~skipped
    return written


def _background(job: SplitJob, source: Source, plan: SourcePlan) -> Bools:
    """`(T,)` True for the clean tiles that the quota of the split takes."""
    result = np.zeros(len(plan.tiles), bool)
    if job.quotas and source.split in job.quotas:
        clean = [plan.tiles[t].name for t in np.flatnonzero(plan.clean & plan.own)]
        taken = job.quotas[source.split].take(source.key, clean)
        result[:] = [tile.name in taken for tile in plan.tiles]
    return result
