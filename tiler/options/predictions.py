"""The options of prediction files: how they are read and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiler.options.fields import Checked, choice_option, flag_option, option
from tiler.options.naming import NAMINGS, naming
from tiler.options.shared import task_option
from tiler.options.values import (
    STRIDE,
    TILE_SIZE,
    category_base,
    choices,
    number,
    optional,
    transform,
)

BASES = ("auto", "0", "1", "coco91")
BORDERS = ("auto", "shift", "trim", "pad")
EXPORTS = ("dota", "geojson", "csv")
ALWAYS = {
    "coco": "predictions.json, in COCO's format, is always written",
    "yolo": "labels/ with YOLO's rows is always written",
}
READING, WRITING = "Reading", "Writing"


@dataclass(frozen=True, slots=True)
class ReadingOptions(Checked):
    """How prediction files are read.

    Raises:
        TilerError: an invalid value, with what is expected.
    """

    task: str = task_option(
        "Type of the predictions; auto infers it for the whole folder and reports it.", READING
    )
    assume_conf: float | None = option(
        None, "Confidence of predictions that have none.", optional(number(0, 1)), READING, "0..1"
    )
    conf_first: bool = flag_option(
        False, "Rows are: class, confidence, x, y, width, height.", READING
    )
    preds_base: str = option(
        "auto",
        "Number that the category ids of a prediction JSON start from; coco91: COCO's ids 1 to 90.",
        category_base(*BASES),
        READING,
        "|".join(BASES),
    )


def _geojson_only(options: Any) -> str:
    if "geojson" in options.export.split(","):
        return ""
    return "it is for --export geojson"


@dataclass(frozen=True, slots=True)
class PredictionOptions(ReadingOptions):
    """How prediction files are read, how tiles are located, and what is written in addition.

    Raises:
        TilerError: an invalid value, with what is expected.
    """

    naming: str = option(
        "auto",
        "Names of the tiles, without a manifest: a tool's, or a pattern of stem, x, y, w, h, x1, "
        "y1, side, row, col, scale and * (anything); row:1 counts from 1. tiler: also "
        "yolo_tiler's. auto: the one by which the tiles make a grid in their images.",
        naming,
        READING,
        "|".join([*NAMINGS, "{stem}_{row}_{col}"]),
    )
    tile: int | tuple[int, int] | None = option(
        None,
        "Tile size in pixels, if tile names do not contain it (DOTA_devkit, row and column).",
        optional(TILE_SIZE),
        READING,
        "1024|640x512",
    )
    stride: int | tuple[int, int] | None = option(
        None,
        "Pixels from one tile to the next (tile - overlap), if names have row and column.",
        optional(STRIDE),
        READING,
        "512|512x384",
    )
    edge: str = choice_option(
        "auto",
        "Tiles that would reach past the image's border, if names do not contain their size: "
        "shifted inward, trimmed, or padded.",
        BORDERS,
        READING,
    )
    category_base: str = option(
        "auto",
        "Number that the category ids of predictions.json start from. auto: image and category "
        "ids of the COCO ground truth (--data, or the dataset that was split), else 0.",
        category_base(*BASES),
        WRITING,
        "|".join(BASES),
    )
    export: str = option(
        "",
        "Also write DOTA Task1, GeoJSON or CSV.",
        choices(*EXPORTS, reasons=ALWAYS),
        WRITING,
        "dota,geojson,csv",
    )
    affine: str = option(
        "",
        "Coordinates of the GeoJSON: six numbers (x = a col + b row + c, y = d col + e row + f), "
        "the world file beside each image, or pixels. Default: as in the manifest, else pixels.",
        transform,
        WRITING,
        "a,b,c,d,e,f|world|pixels",
        idle=_geojson_only,
    )
    crs: str = option(
        "",
        "Coordinate reference system of the GeoJSON, such as EPSG:32633. Default: that of the "
        "manifest.",
        str,
        WRITING,
        "CRS",
        idle=_geojson_only,
    )
