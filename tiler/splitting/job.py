"""All that cutting a source needs beside the source itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tiler.formats import yolo
from tiler.formats.mask_spec import MaskSpec
from tiler.options import SplitOptions
from tiler.run.folders import Folder
from tiler.splitting.planning import Quota


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
        pages: the number of pages of a TIFF, where they are the bands of one image (the dataset's
            `channels`); else 0.
        masks: what class masks mean, where there are some.
        rows: False where masks are the only labels.
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
