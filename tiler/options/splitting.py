"""The options of `tiler split`."""

from __future__ import annotations

from dataclasses import dataclass

from tiler.options.datasets import DatasetOptions
from tiler.options.fields import choice_option, either, flag_option, option, unless, when
from tiler.options.shared import PIXELS, max_pixels_option, task_option
from tiler.options.values import (
    OVERLAP,
    TILE_SIZE,
    background,
    described,
    nodata,
    number,
    scales,
    whole,
)

GRID, LABELS = "Grid", "Labels"


@dataclass(frozen=True, slots=True)
class SplitOptions(DatasetOptions):
    """How `tiler split` cuts a dataset. The same values give the same bytes.

    Raises:
        TilerError: an invalid value, with what is expected.

    >>> SplitOptions(tile="1024x768", overlap="0.25").tile
    (1024, 768)
    """

    tile: int | tuple[int, int] = option(
        640, "Tile size in pixels: one side, or WIDTHxHEIGHT.", TILE_SIZE, GRID, "640|1024x768"
    )
    overlap: float = option(
        0.2,
        "Overlap of neighbouring tiles: a fraction of the tile (below 1), or pixels (1 or more).",
        OVERLAP,
        GRID,
        "0.2|128",
    )
    edge: str = choice_option(
        "shift",
        "At the image border: shift the last tile inward, balance all tiles, trim the last tile, "
        "or pad it with grey.",
        ("shift", "balance", "trim", "pad"),
        GRID,
    )
    scale: tuple[float, ...] = option(
        (1.0,),
        "Scales at which the image is cut: 1 = original size, 0.5 = half; to two decimals.",
        described(scales, "factors from 0.01 to 16, such as 1,0.5"),
        GRID,
        "1,0.5",
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
        "Tiles without objects: all, none, or how many for each tile with objects, per split.",
        described(background, "all, none or a ratio of 0 or more"),
        LABELS,
        "all|none|RATIO",
    )
    seed: int = option(
        0,
        "Random seed for the background tiles that a ratio selects.",
        whole(0),
        LABELS,
        "INT",
        idle=when("background", "all", "none"),
    )
    min_data: float = option(
        0.1,
        "Minimum fraction of a tile that holds data, below which it is left out unless it has a "
        "label. Without data are NaN, transparent pixels, and those of --nodata.",
        number(0, 1),
        LABELS,
        "0..1",
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
    )
    max_pixels: str | int = max_pixels_option()
