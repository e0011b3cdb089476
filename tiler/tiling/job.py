"""All that cutting a source needs beside the source itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tiler.datasets.dataset import Dataset
from tiler.formats import yolo
from tiler.formats.mask_spec import MaskSpec
from tiler.formats.tile_folders import TileFolders
from tiler.options import SplitOptions
from tiler.run.folders import Folder
from tiler.tiling.planning import Quota
from tiler.tiling.roi import Roi


@dataclass(frozen=True, slots=True)
class SplitJob:
    """What the workers need to cut a source.

    Attributes:
        root: the dataset's root.
        spec: what label rows mean.
        tree: the folder that tiles are written to; None writes nothing.
        quotas: for each split, which background tiles are taken, where --background is a ratio.
        limits: with --stretch, for each kind of image deeper than 8 bits the values of each band
            that become 0 and 255.
        categories: the category id of each class in COCO files.
        pages: the number of pages of a TIFF, where they are the bands of one image (the dataset's
            `channels`); else 0.
        masks: what class masks mean, where there are some.
        rows: False where masks are the only labels.
        roi: the regions that tiles are wanted of; None for all of each image.
    """

    root: Path
    spec: yolo.Spec
    options: SplitOptions
    tree: Folder | None = None
    quotas: dict[str, Quota] | None = None
    limits: dict[str, list[tuple[float, float]]] | None = None
    pages: int = 0
    masks: MaskSpec | None = None
    rows: bool = True
    categories: tuple[int, ...] = ()
    roi: Roi | None = None

    @classmethod
    def of(cls, dataset: Dataset, options: SplitOptions) -> Self:
        """A job of which nothing is written yet. The task of the options is decided."""
        kpt_shape = dataset.kpt_shape if options.task == "pose" else None
        rows_task = options.task if dataset.rows else "detect"  # of no rows
        spec = yolo.Spec(rows_task, len(dataset.names), kpt_shape)  # type: ignore[arg-type]
        categories = dataset.categories or tuple(range(1, len(dataset.names) + 1))
        return cls(
            dataset.root,
            spec,
            options,
            pages=dataset.pages,
            masks=dataset.masks,
            rows=dataset.rows,
            categories=categories,
        )

    @property
    def folders(self) -> TileFolders:
        """Where tiles are in the output."""
        return TileFolders.exported(self.options.export)
