"""What cutting a source needs to know, and what is planned for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.formats import yolo
from tiler.options import SplitOptions
from tiler.run.folders import Folder
from tiler.splitting.planning import PlannedTile, Quota
from tiler.splitting.tile_labels import LabelRows, Views

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class SplitJob:
    """All that cutting a source needs beside the source itself; it goes to the workers.

    Attributes:
        root: the dataset's root.
        spec: what label rows mean.
        tree: the folder where tiles go; None writes nothing.
        classes, coco_name: of a COCO set, the class of each category id, and its file.
        quotas: for each split, which empty tiles are taken, where --background is a ratio.
        limits: for each kind of deep pixels, what becomes 0 and 255 of each band, where --stretch
            says so.
        pages: of a TIFF, so many pages are the bands of one image (the dataset's `channels`); 0
            when they are not.
    """

    root: Path
    spec: yolo.Spec
    options: SplitOptions
    tree: Folder | None = None
    classes: dict[int, int] | None = None
    coco_name: str = ""
    quotas: dict[str, Quota] | None = None
    limits: dict[str, list[tuple[float, float]]] | None = None
    pages: int = 0


@dataclass(frozen=True, eq=False)
class SourcePlan:
    """What is to be written of a source.

    Attributes:
        places: all windows; `bounds` `(T, 4)` and `scales` `(T,)` are theirs.
        views: what the windows show.
        rows: the label rows.
        written: `(T,)` the windows that become tiles.
    """

    places: list[PlannedTile]
    bounds: Floats
    scales: Floats
    views: Views
    rows: LabelRows
    written: Bools

    @cached_property
    def row_tile(self) -> Ints:
        """`(R,)` the tile of each row, in rising order."""
        return self.views.tile[self.rows.view]

    @cached_property
    def _first_row(self) -> list[int]:
        """`(T + 1,)` where the rows of each tile begin."""
        return [*map(int, np.searchsorted(self.row_tile, np.arange(len(self.places) + 1)))]

    @property
    def clean(self) -> Bools:
        """`(T,)` windows that show nothing of any object."""
        return np.asarray(np.bincount(self.views.tile, minlength=len(self.places)) == 0)

    def rows_of(self, tile: int) -> range:
        """The numbers of a tile's rows."""
        return range(self._first_row[tile], self._first_row[tile + 1])


def tile_paths(split: str, name: str, suffix: str) -> tuple[str, str]:
    """Where a tile's image and labels stand in an output."""
    return f"images/{split}/{name}{suffix}", f"labels/{split}/{name}.txt"
