"""The options of prediction files: how they are read and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiler.options.fields import Checked, choice_option, flag_option, literal, option
from tiler.options.merging import MERGING
from tiler.options.naming import NAMINGS, naming
from tiler.options.shared import task_option
from tiler.options.values import (
    FRAMES,
    STRIDE,
    TILE_SIZE,
    box_frame,
    category_base,
    choices,
    class_list,
    class_mapping,
    described,
    epsg_code,
    file_path,
    model_weights,
    number,
    optional,
    transform,
)

BASES = ("auto", "0", "1", "coco91")
BORDERS = ("auto", "shift", "trim", "pad")
EXPORTS = ("dota", "geojson", "geojson-all", "gpkg", "csv", "yolo-dataset")
ON_MAP = {"geojson", "geojson-all", "gpkg"}
IMAGE_IDS = ("names", "numbers")
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
    classes: str = option(
        "",
        "Keep only these classes, by name or number.",
        described(class_list, "classes such as car,bus"),
        READING,
        "car,bus",
        given="str | int | Sequence[str | int]",
    )
    map_classes: str = option(
        "",
        "Class of the dataset for each class of the predictions, by names or ids as the files have "
        "them, or a YAML file of these; all others are left out.",
        described(class_mapping, "pairs such as 2=car,5=bus, or a YAML file of these"),
        READING,
        "FILE|2=car,5=bus",
        given="str | Path | Mapping[str, str | int] | Mapping[int, str | int]",
    )
    preds_base: str = option(
        "auto",
        "Number that the category ids of a prediction JSON start from; coco91: COCO's ids 1 to 90.",
        category_base(*BASES),
        READING,
        "|".join(BASES),
        given=literal(*BASES) + " | int",
    )
    boxes: str = option(
        "auto",
        "What coordinates count in, if not as the format says: from 0 to 1 (normalised), percent "
        "or pixels of the tile, pixels of a square of 640 px that it was fitted into "
        "(letterbox:640), or pixels or parts of the full image (image, image-normalised).",
        described(box_frame, f"one of {', '.join(FRAMES)} or letterbox:SIDE"),
        READING,
        "auto|normalised|percent|pixels|image|image-normalised|letterbox:640",
    )


def _geojson_only(options: Any) -> str:
    if not ON_MAP.isdisjoint(options.export.split(",")):
        return ""
    return "it is for --export geojson, geojson-all and gpkg"


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
        given="int | tuple[int, int] | str | None",
    )
    runs: str = choice_option(
        "stop",
        "Where a tile is in several runs below PREDS, with other rows: stop, take the newest, or "
        "merge all as an ensemble.",
        ("stop", "newest", "all"),
        READING,
    )
    ensemble: str = choice_option(
        "wbf",
        "How the detections of several models (PREDS, or --runs all) are merged within each tile.",
        ("wbf", "nms", "soft-nms"),
        MERGING,
    )
    weights: tuple[float, ...] | None = option(
        None,
        "Weight of each model of an ensemble. Default: all the same.",
        optional(described(model_weights, "a number above 0 for each model, such as 2,1")),
        MERGING,
        "2,1",
        given="Sequence[float] | str | None",
    )
    roi: str | None = option(
        None,
        "GeoJSON of regions, in pixels or in the image's map coordinates: only detections whose "
        "centre lies in one are written.",
        optional(described(file_path, "the path of a GeoJSON file")),
        MERGING,
        "FILE",
        given="str | Path | None",
    )
    stride: int | tuple[int, int] | None = option(
        None,
        "Pixels from one tile to the next (tile - overlap), if names have row and column.",
        optional(STRIDE),
        READING,
        "512|512x384",
        given="int | tuple[int, int] | str | None",
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
        given=literal(*BASES) + " | int",
    )
    image_ids: str = choice_option(
        "names",
        "Image ids in predictions.json and dataset.json where no ground truth gives them: names "
        "without suffix, or numbers from 1 (which CVAT needs).",
        IMAGE_IDS,
        WRITING,
    )
    export: str = option(
        "",
        "Also write DOTA Task1, GeoJSON (for each image, or one for all), GeoPackage (one layer "
        "for all; extra 'gis'), CSV, or a YOLO dataset of the images, with detections as labels.",
        choices(*EXPORTS, reasons=ALWAYS),
        WRITING,
        "dota,geojson,geojson-all,gpkg,csv,yolo-dataset",
        given="str | Sequence[str]",
    )
    affine: str = option(
        "",
        "Coordinates of GeoJSON and GeoPackage: six numbers (x = a col + b row + c, y = d col + "
        "e row + f), the world file beside each image, or pixels. Default: as in the manifest or "
        "GeoTIFF, else pixels.",
        transform,
        WRITING,
        "a,b,c,d,e,f|world|pixels",
        idle=_geojson_only,
        given="str | Iterable[float]",
    )
    crs: str = option(
        "",
        "Coordinate reference system of the images' coordinates, such as EPSG:32633. Default: that "
        "of the manifest or the GeoTIFF.",
        str,
        WRITING,
        "CRS",
        idle=_geojson_only,
        given="object",
    )
    to_crs: str = option(
        "",
        "Reproject GeoJSON and GeoPackage to this reference system, such as EPSG:4326; needs the "
        "extra 'gis'.",
        described(epsg_code, "a code such as EPSG:4326"),
        WRITING,
        "EPSG:CODE",
        idle=_geojson_only,
        given="str | int",
    )
