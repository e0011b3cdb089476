"""The options of `tiler split`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiler.options.datasets import DatasetOptions
from tiler.options.fields import choice_option, either, flag_option, option, unless, when
from tiler.options.shared import PIXELS, max_pixels_option, task_option
from tiler.options.values import (
    OVERLAP,
    SHARE,
    background,
    background_shares,
    choices,
    described,
    file_path,
    grid_counts,
    nodata,
    number,
    optional,
    scales,
    tile_size,
    whole,
)

GRID, SPLITTING, LABELS, FILES = "Grid", "Splits", "Labels", "Files"
LAYOUTS = ("flat", "tar")
TILE_EXPORTS = ("coco", "coco-roboflow")
ALWAYS_YOLO = {"yolo": "labels/ with YOLO's rows is always written"}


def _nothing_drawn(options: Any) -> str:
    """Why the seed has no effect, if neither splits nor background tiles are drawn."""
    if options.val or options.test:
        return ""
    return _without_ratio(options)


def _divided(options: Any) -> str:
    if options.grid is None:
        return ""
    columns, rows = options.grid
    return f"--grid {columns}x{rows} takes its place"


def _spread_evenly(options: Any) -> str:
    return "--grid spreads its tiles evenly" if options.grid is not None else ""


def _without_ratio(options: Any) -> str:
    if not has_ratio(options.background):
        return f"--background {options.background} does not use it"
    return ""


def has_ratio(background: str | float) -> bool:
    """Whether --background asks for a ratio, in any split.

    >>> has_ratio("all"), has_ratio(0.5), has_ratio("train=0.5,val=all")
    (False, True, True)
    """
    general, by_split = background_shares(background)
    return any(isinstance(share, float) for share in (general, *by_split.values()))


@dataclass(frozen=True, slots=True)
class SplitOptions(DatasetOptions):
    """How `tiler split` cuts a dataset. The same values give the same bytes.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> SplitOptions(tile="1024x768", overlap="0.25").tile
    (1024, 768)
    """

    tile: int | tuple[int, int] = option(
        640,
        "Tile size in pixels: one side, or WIDTHxHEIGHT.",
        described(
            tile_size, "a side of 10 px or more, or WIDTHxHEIGHT (for a number of tiles: --grid)"
        ),
        GRID,
        "640|1024x768",
        idle=_divided,
        given="int | tuple[int, int] | str",
    )
    grid: tuple[int, int] | None = option(
        None,
        "Number of tiles in each image, in place of their size: COLUMNSxROWS.",
        optional(described(grid_counts, "COLUMNSxROWS, such as 3x4")),
        GRID,
        "3x4",
        given="tuple[int, int] | str | None",
    )
    overlap: float | tuple[float, float] = option(
        0.2,
        "Overlap of neighbouring tiles: a fraction of the tile (below 1), or pixels (1 or more); "
        "one for both axes, or one for x and one for y.",
        OVERLAP,
        GRID,
        "0.2|128|0.2x64",
        given="float | tuple[float, float] | str",
    )
    edge: str = choice_option(
        "shift",
        "At the image border: shift the last tile inward, balance all tiles, trim the last tile, "
        "or pad it with grey.",
        ("shift", "balance", "trim", "pad"),
        GRID,
        idle=_spread_evenly,
    )
    scale: tuple[float, ...] = option(
        (1.0,),
        "Scales at which the image is cut: 1 = original size, 0.5 = half; to two decimals.",
        described(scales, "factors from 0.01 to 16, such as 1,0.5"),
        GRID,
        "1,0.5",
        given="float | Sequence[float] | str",
    )
    roi: str | None = option(
        None,
        "GeoJSON of regions, in pixels or in the image's map coordinates: only tiles that meet "
        "one are written.",
        optional(described(file_path, "the path of a GeoJSON file")),
        GRID,
        "FILE",
        given="str | Path | None",
    )
    val: float = option(
        0.0,
        "Make a val split of the train images, with this share of their objects (0: none). By "
        "whole images; where they are too few, by blocks with guard bands of one tile between.",
        SHARE,
        SPLITTING,
        "FRACTION",
    )
    test: float = option(
        0.0, "Likewise, make a test split of the train images.", SHARE, SPLITTING, "FRACTION"
    )
    task: str = task_option(
        "Type of the labels; auto infers it for the whole dataset and reports it.",
        LABELS,
        "semantic",
    )
    min_visible: float = option(
        0.25,
        "Minimum visible fraction of an object to label it in a tile (for an object larger than a "
        "tile: of the most that a tile can show).",
        number(0, 1),
        LABELS,
        "0..1",
        idle=when("task", "semantic"),
    )
    min_size: float = option(
        2.0,
        "Minimum width and height of an object to label it, in pixels of the tile.",
        number(0),
        LABELS,
        "PX",
        idle=when("task", "semantic"),
    )
    truncated: str = choice_option(
        "drop",
        "Objects below these minimums: drop the label, keep it, mask the object's pixels, or skip "
        "the tile.",
        ("drop", "keep", "mask", "skip-tile"),
        LABELS,
        idle=when("task", "semantic"),
    )
    rescue: bool = flag_option(
        True,
        "Label an object that is below --min-visible in every tile in the tile that shows most of "
        "it.",
        LABELS,
        idle=either(when("truncated", "keep"), when("task", "semantic")),
    )
    obb: str = choice_option(
        "aligned",
        "Oriented box of a cut object: a rectangle at the object's angle, the minimum-area "
        "rectangle, or the full box.",
        ("aligned", "minrect", "full"),
        LABELS,
        idle=unless("task", "obb"),
    )
    parts: str = choice_option(
        "separate",
        "Outline cut into several parts: separate rows, one row joined by bridges, or the largest "
        "part only.",
        ("separate", "bridge", "largest"),
        LABELS,
        idle=unless("task", "segment"),
    )
    background: str | float = option(
        "all",
        "Tiles without objects: all, none, or how many for each tile with objects, per split; or "
        "a choice for each split (others: all).",
        described(
            background,
            "all, none or a ratio of 0 or more, or one by split, such as train=0.5,val=all",
        ),
        LABELS,
        "all|none|RATIO|train=0.5,val=all",
        given="float | Mapping[str, str | float] | str",
    )
    seed: int = option(
        0,
        "Random seed for the splits of --val and --test, and for the background tiles that a ratio "
        "selects.",
        whole(0),
        LABELS,
        "INT",
        idle=_nothing_drawn,
    )
    min_data: float = option(
        0.1,
        "Minimum fraction of a tile that holds data, below which it is left out unless it has a "
        "label. Without data are NaN, transparent pixels, and those of --nodata.",
        number(0, 1),
        LABELS,
        "0..1",
    )
    export: str = option(
        "",
        "Also write COCO JSON of the tiles: annotations/instances_SPLIT.json, or as RF-DETR looks "
        "for it (train/_annotations.coco.json, valid/...).",
        choices(*TILE_EXPORTS, reasons=ALWAYS_YOLO),
        LABELS,
        "coco,coco-roboflow",
        idle=either(when("task", "semantic"), when("layout", "tar")),
        given="str | Sequence[str]",
    )
    layout: str = choice_option(
        "flat",
        "Where tiles are: flat, files in a folder for each split, as trainers read them; tar, "
        "shards of about 1 GB, as webdataset reads them.",
        LAYOUTS,
        FILES,
    )
    format: str = choice_option(
        "same",
        "Image format of the tiles; same = that of the source image.",
        ("same", "jpg", "png", "webp", "tif"),
        PIXELS,
    )
    quality: int = option(
        95,
        "Quality of JPEG and lossy WebP tiles.",
        whole(1, 100),
        PIXELS,
        "1..100",
        idle=when("format", "png", "tif"),
    )
    jpeg: str = choice_option(
        "encode",
        "JPEG tiles of JPEG images: encode the pixels again, or keep the source's own "
        "coefficients and tables (needs the extra 'lossless').",
        ("encode", "keep"),
        PIXELS,
        idle=unless("format", "same", "jpg"),
    )
    stretch: str = choice_option(
        "none",
        "Images of more than 8 bits: none keeps them; minmax and percentile map them to 8 bits, "
        "with the same mapping for the whole dataset.",
        ("none", "minmax", "percentile"),
        PIXELS,
    )
    nodata: str = option(
        "auto",
        "Value of pixels without data: a number or nan; auto takes it from the GDAL_NODATA tag of "
        "a TIFF, none ignores that tag.",
        described(nodata, "auto, none, a number or nan"),
        PIXELS,
        "auto|none|VALUE",
        given="str | float",
    )
    max_pixels: str | int = max_pixels_option()
