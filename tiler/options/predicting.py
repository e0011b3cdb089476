"""The options of `tiler predict`; those of the model itself are in `models`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from tiler.options.fields import Checked, flag_option, option
from tiler.options.merging import MergeOptions
from tiler.options.predictions import PredictionOptions
from tiler.options.running import RunOptions
from tiler.options.splitting import SplitOptions
from tiler.options.values import TILE_SIZE, described, file_path, optional, stripped, whole

WINDOWS, MODEL = "Windows", "Model"
# The options of merging whose names are the model's here
MERGING = {"iou": "merge_iou", "conf": "merge_conf", "max_det": "merge_max_det"}
RUNNING = ("batch", "workers", "overwrite", "dry_run", "save_tiles_txt")  # no detection changes


def same(options: type[Checked], name: str, **changes: Any) -> Any:
    """The option of another verb. `changes`: of its group, help or metavar."""
    item = next(item for item in fields(options) if item.name == name)
    return field(default=item.default, metadata={**item.metadata, **changes})


@dataclass(frozen=True, slots=True)
class PredictOptions(Checked):
    """Which windows the model sees, how their detections are merged, and what is written.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> PredictOptions(tile="640", merge_iou=0.4).merging().iou
    0.4
    """

    tile: int | tuple[int, int] | None = option(
        None,
        "Size of the windows in pixels: one side, or WIDTHxHEIGHT. Default: the model's input.",
        optional(TILE_SIZE),
        WINDOWS,
        "640|1024x768",
    )
    overlap: float | tuple[float, float] = same(SplitOptions, "overlap", group=WINDOWS)
    edge: str = same(SplitOptions, "edge", group=WINDOWS, idle=None)
    scale: tuple[float, ...] = same(
        SplitOptions,
        "scale",
        group=WINDOWS,
        help="Scales at which the image is looked at: 1 = original size, 0.5 = half; to two "
        "decimals.",
    )
    full: bool = flag_option(
        False,
        "Look at the whole image, too, shrunken to one window: for objects larger than a window.",
        WINDOWS,
    )
    roi: str | None = same(
        SplitOptions,
        "roi",
        group=WINDOWS,
        help="GeoJSON of regions, in pixels or in the image's map coordinates: only windows that "
        "meet one are looked at, and only detections whose centre lies in one are written.",
    )
    skip_empty: bool = flag_option(
        False, "Leave out windows without data, and those of one colour.", WINDOWS
    )
    task: str = same(
        PredictionOptions,
        "task",
        group=MODEL,
        help="What the model detects; auto: what it says itself, else detect.",
    )
    split: str = option(
        "",
        "The split of a dataset to predict (train, val, test), or all. Needed if it has several.",
        stripped,
        WINDOWS,
        "NAME|all",
    )
    stretch: str = same(
        SplitOptions,
        "stretch",
        help="Images of more than 8 bits, which a model cannot take: minmax and percentile map "
        "them to 8 bits, with the same mapping for all images.",
    )
    nodata: str = same(SplitOptions, "nodata")
    max_pixels: str | int = same(SplitOptions, "max_pixels")
    batch: int = option(
        0,
        "Number of windows that the model is given at once; 0: the model's own, else 8.",
        whole(0, 4096),
        MODEL,
        "N",
    )
    method: str = same(MergeOptions, "method")
    merge_iou: float | str | None = same(MergeOptions, "iou")
    metric: str = same(MergeOptions, "metric")
    merge_conf: float | str = same(MergeOptions, "conf")
    class_agnostic: bool = same(MergeOptions, "class_agnostic")
    groups: str = same(MergeOptions, "groups")
    orphans: str = same(MergeOptions, "orphans")
    parts: str = same(MergeOptions, "parts")
    merge_max_det: int = same(MergeOptions, "max_det")
    classes: str = same(PredictionOptions, "classes")
    map_classes: str = same(
        PredictionOptions,
        "map_classes",
        help="Class of the dataset (--data) for each class of the model, by names or ids, or a "
        "YAML file of these; all others are left out.",
    )
    category_base: str = same(PredictionOptions, "category_base")
    image_ids: str = same(PredictionOptions, "image_ids")
    export: str = same(PredictionOptions, "export")
    affine: str = same(PredictionOptions, "affine")
    crs: str = same(PredictionOptions, "crs")
    to_crs: str = same(PredictionOptions, "to_crs")
    save_tiles_txt: str | None = option(
        None,
        "Also write the rows of each window to DIR/labels, as yolo predict does for tiles.",
        optional(described(file_path, "the path of a folder")),
        "Writing",
        "DIR",
    )
    workers: int = same(RunOptions, "workers")
    overwrite: bool = same(RunOptions, "overwrite")
    dry_run: bool = same(RunOptions, "dry_run")

    def merging(self) -> MergeOptions:
        """Those of the merge, under its own names."""
        names = [item.name for item in fields(MergeOptions)]
        return MergeOptions(**{name: getattr(self, MERGING.get(name, name)) for name in names})

    def files(self, task: str) -> PredictionOptions:
        """Those of reading and writing detections."""
        own = {item.name for item in fields(self)}
        shared = [item.name for item in fields(PredictionOptions) if item.name in own]
        given = {name: getattr(self, name) for name in shared if name not in ("tile", "edge")}
        return PredictionOptions(**{**given, "task": task})

    def cutting(self, tile: int | tuple[int, int]) -> SplitOptions:
        """Those that say where windows lie and how their pixels are read."""
        names = ("overlap", "edge", "scale", "stretch", "nodata", "max_pixels")
        given = {name: getattr(self, name) for name in names}
        return SplitOptions(tile=tile, format="png", **given)

    def running(self) -> RunOptions:
        """Those of the run."""
        return RunOptions(self.workers, "threading", self.overwrite, self.dry_run)
