"""The options of each verb: one dataclass for the library, the command line and `--config`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiler.options.fields import (
    BASES,
    EXPORTS,
    PROTOCOLS,
    Checked,
    auto_or,
    backend,
    background,
    base,
    choice,
    class_groups,
    described,
    detection_limits,
    flag,
    number,
    option,
    per_class,
    scales,
    size_bins,
    some,
    tile_size,
    whole,
)
from tiler.types import TASKS

GRID, LABELS, PIXELS = "Grid", "Labels", "Pixels"


def _task(of: str = "labels", where: str = "dataset", group: str = LABELS) -> Any:
    help = f"What the {of} are; auto decides for the whole {where} and says so."
    return option("auto", help, choice("auto", *TASKS), group, "auto|detect|segment|obb|pose")


def _max_pixels() -> Any:
    help = (
        "Refuse larger images; auto: 178956970 where they must be decoded whole, any size where "
        "they are read by strips."
    )
    return option("auto", help, auto_or(1), PIXELS, "auto|N")


def pixel_limit(chosen: str | int) -> int | None:
    """What --max-pixels says: a number, or None for what an image's reader can bear."""
    return None if isinstance(chosen, str) else chosen


def _only(name: str, *values: Any) -> Callable[[Any], str]:
    """Idle where another option has none of these values; one that is still to be decided (auto)
    may become any.
    """

    def idle(options: Any) -> str:
        value = getattr(options, name)
        if value in (*values, "auto"):
            return ""
        return f"{_said(name, value)} does not use it"

    return idle


def _not(name: str, *values: Any) -> Callable[[Any], str]:
    """Idle where another option has one of these values."""
    return lambda options: (
        f"{_said(name, value)} does not use it"
        if (value := getattr(options, name)) in values
        else ""
    )


def _said(name: str, value: Any) -> str:
    return f"--{name.replace('_', '-')} {value}"


def _workers() -> Any:
    return option(0, "Workers; 0 for one a core.", whole(0, 4096), "Run")


@dataclass(frozen=True, slots=True)
class SplitOptions(Checked):
    """What `tiler split` makes of a dataset. The same values give the same bytes.

    Raises:
        TilerError: a value that is not one of those expected.

    >>> SplitOptions(tile="1024x768", overlap="0.25").tile
    (1024, 768)
    """

    tile: int | tuple[int, int] = option(
        640,
        "Size of a tile in px: one side, or WIDTHxHEIGHT.",
        described(tile_size, "a side of 10 px or more, or WIDTHxHEIGHT"),
        GRID,
        "640|1024x768",
    )
    overlap: float = option(
        0.2,
        "What neighbours share: a fraction of the tile (< 1) or px (>= 1).",
        number(0),
        GRID,
        "0.2|128",
    )
    edge: str = option(
        "shift",
        "At the border: shift the last tile inward, balance all, trim it, or pad it with grey.",
        choice("shift", "balance", "trim", "pad"),
        GRID,
        "shift|balance|trim|pad",
    )
    scale: tuple[float, ...] = option(
        (1.0,),
        "Also cut the image resampled by these factors (of 1 = 100 %, to two decimals).",
        described(scales, "factors from 0.01 to 16, such as 1,0.5"),
        GRID,
        "1,0.5",
    )
    task: str = _task()
    min_visible: float = option(
        0.25,
        "Least visible part of an object (of what a tile can show of it at best) for a label.",
        number(0, 1),
        LABELS,
        "0..1",
    )
    min_size: float = option(
        2.0, "Least width and height of a label in px of the tile.", number(0), LABELS, "PX"
    )
    truncated: str = option(
        "drop",
        "What is below these: drop its label, keep it, mask its pixels, or skip the tile.",
        choice("drop", "keep", "mask", "skip-tile"),
        LABELS,
        "drop|keep|mask|skip-tile",
    )
    rescue: bool = option(
        True,
        "Keep an object that is below --min-visible in every tile in the tile that shows most of "
        "it.",
        flag,
        LABELS,
        idle=_not("truncated", "keep"),
    )
    ignored: str = option(
        "mask",
        "Regions that COCO marks iscrowd or ignore: mask their pixels, or skip them.",
        choice("mask", "skip"),
        LABELS,
        "mask|skip",
    )
    obb: str = option(
        "aligned",
        "A cut OBB: a rectangle in its own direction, the smallest one, or its full corners.",
        choice("aligned", "minrect", "full"),
        LABELS,
        "aligned|minrect|full",
        idle=_only("task", "obb"),
    )
    parts: str = option(
        "separate",
        "An outline cut into several parts: rows of their own, one bridged row, or the largest.",
        choice("separate", "bridge", "largest"),
        LABELS,
        "separate|bridge|largest",
        idle=_only("task", "segment"),
    )
    background: str | float = option(
        "all",
        "Tiles without an object: all, none, or so many for each tile with one, per split.",
        described(background, "all, none or a ratio of 0 or more"),
        LABELS,
        "all|none|RATIO",
    )
    seed: int = option(
        0,
        "Which background tiles a ratio takes.",
        whole(0),
        LABELS,
        idle=_not("background", "all", "none"),
    )
    format: str = option(
        "same",
        "Format of the tiles.",
        choice("same", "jpg", "png", "webp", "tif"),
        PIXELS,
        "same|jpg|png|webp|tif",
    )
    quality: int = option(
        95,
        "Quality of JPEG and lossy WebP.",
        whole(1, 100),
        PIXELS,
        "1..100",
        idle=_not("format", "png", "tif"),
    )
    jpeg: str = option(
        "encode",
        "JPEG to JPEG: encode anew, or keep the source's own coefficients and tables (extra "
        "'lossless').",
        choice("encode", "keep"),
        PIXELS,
        "encode|keep",
        idle=_only("format", "same", "jpg"),
    )
    stretch: str = option(
        "none",
        "Pixels of more than 8 bits: none keeps them; minmax or percentile maps them to 8 bits, "
        "alike in the whole dataset.",
        choice("none", "minmax", "percentile"),
        PIXELS,
        "none|minmax|percentile",
    )
    max_pixels: str | int = _max_pixels()


METHODS = ("cvm", "nms", "nmm", "greedy-nmm", "wbf", "soft-nms", "center", "none")
MERGING, READING = "Merging", "Reading"


@dataclass(frozen=True, slots=True)
class MergeOptions(Checked):
    """How detections on tiles become those of the full image. The same values give the same bytes.

    Raises:
        TilerError: a value that is not one of those expected.

    >>> MergeOptions(method="nms", iou="0.5,person=0.4").iou
    '0.5,person=0.4'
    """

    method: str = option(
        "cvm",
        "How detections of one object are found and joined.",
        choice(*METHODS),
        MERGING,
        "|".join(METHODS),
    )
    iou: float | str | None = option(
        None,
        "Least overlap of one object's detections. Default: 0.3 in the common view (cvm), 0.55 "
        "(wbf), else 0.5.",
        lambda value: (
            None
            if value is None
            else described(per_class, "0 to 1, such as 0.5 or 0.5,car=0.4")(value)
        ),
        MERGING,
        "0..1[,CLASS=0..1]",
        idle=_not("method", "soft-nms", "center", "none"),
    )
    metric: str = option(
        "iou",
        "Overlap over the union, or over the smaller one (not of cvm).",
        choice("iou", "ios"),
        MERGING,
        "iou|ios",
        idle=_not("method", "cvm", "center", "none"),
    )
    conf: float | str = option(
        0.0,
        "Least confidence of a detection; others for some classes.",
        described(per_class, "0 to 1, such as 0.25 or 0.25,car=0.4"),
        MERGING,
        "0..1[,CLASS=0..1]",
    )
    class_agnostic: bool = option(
        False,
        "Let all classes compete; the class with the most confidence wins.",
        flag,
        MERGING,
        idle=_not("method", "center", "none"),
    )
    groups: str = option(
        "",
        "Let some classes compete.",
        described(class_groups, "groups of two or more classes, such as car,truck;bus,van"),
        MERGING,
        "car,truck;bus,van",
        idle=_not("method", "center", "none"),
    )
    orphans: str = option(
        "decay",
        "A cut detection that another tile should have seen and did not: keep, halve its "
        "confidence, or drop (cvm).",
        choice("keep", "decay", "drop"),
        MERGING,
        "keep|decay|drop",
        idle=_only("method", "cvm"),
    )
    parts: str = option(
        "bridge",
        "A merged outline in several parts: one bridged row, separate rows, or the largest.",
        choice("bridge", "separate", "largest"),
        MERGING,
        "bridge|separate|largest",
    )
    max_det: int = option(
        0, "Keep so many of each image, the most confident; 0 for all.", whole(0), MERGING, "N"
    )


@dataclass(frozen=True, slots=True)
class ReadingOptions(Checked):
    """How files of predictions are read.

    Raises:
        TilerError: a value that is not one of those expected.
    """

    task: str = _task("predictions", "folder", READING)
    assume_conf: float | None = option(
        None,
        "Confidence of predictions that come without.",
        lambda value: None if value is None else number(0, 1)(value),
        READING,
        "0..1",
    )
    conf_first: bool = option(
        False, "Rows are class, confidence, x, y, width, height.", flag, READING
    )
    preds_base: str = option(
        "auto",
        "What category ids of a JSON count from.",
        base("auto"),
        READING,
        "|".join(("auto", *BASES)),
    )


def _geojson_only(options: Any) -> str:
    return "" if "geojson" in options.export.split(",") else "it is for --export geojson"


def _coco_only(options: Any) -> str:
    """COCO's limits are those of free bins too."""
    told = "coco" in options.protocol.split(",") or options.bins != "coco"
    return "" if told else f"--protocol {options.protocol} has limits of its own"


def _resampled(options: Any) -> str:
    """The seed is of resamplings, which there may be none of."""
    return _not("analysis", "none")(options) or _not("replicates", 0)(options)


NAMINGS = ("auto", "tiler", "sahi", "split_dota", "dota_devkit")
WRITING = "Writing"


@dataclass(frozen=True, slots=True)
class PredictionOptions(ReadingOptions):
    """How files of predictions are read, where their tiles lie, and what else is written.

    Raises:
        TilerError: a value that is not one of those expected.
    """

    naming: str = option(
        "auto",
        "How tiles are named, where there is no manifest (tiler: yolo_tiler too).",
        choice(*NAMINGS),
        READING,
        "|".join(NAMINGS),
    )
    tile: int | tuple[int, int] | None = option(
        None,
        "Size of a tile in px, where its name does not say (DOTA_devkit).",
        lambda value: (
            None
            if value is None
            else described(tile_size, "a side of 10 px or more, or WIDTHxHEIGHT")(value)
        ),
        READING,
        "1024|640x512",
    )
    category_base: str = option(
        "auto",
        "What category ids of predictions.json count from; auto: image and category ids of a COCO "
        "truth (--data, or what "
        "was split), else 0.",
        base("auto"),
        WRITING,
        "|".join(("auto", *BASES)),
    )
    export: str = option(
        "", "Also write DOTA Task1, GeoJSON or CSV.", some(*EXPORTS), WRITING, "dota,geojson,csv"
    )
    affine: str = option(
        "",
        "Frame of the GeoJSON: x = a col + b row + c, y = d col + e row + f; world, for the world "
        "file beside each "
        "image; or pixels. Default: the image's own in the manifest, else pixels.",
        lambda value: (
            ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")
        ),
        WRITING,
        "a,b,c,d,e,f|world|pixels",
        idle=_geojson_only,
    )
    crs: str = option(
        "",
        "Its coordinate reference system, such as EPSG:32633. Default: the manifest's.",
        str,
        WRITING,
        "CRS",
        idle=_geojson_only,
    )


SCORING = "Scoring"


@dataclass(frozen=True, slots=True)
class ScoreOptions(Checked):
    """What of the agreement between detections and labels is measured. The same values give the
    same bytes.

    Raises:
        TilerError: a value that is not one of those expected.

    >>> ScoreOptions(bins=(16, 32, 96)).bins
    '16,32,96'
    """

    protocol: str = option(
        "coco,ultralytics",
        "Which numbers are given, by the protocols they are named after.",
        some(*PROTOCOLS, least=1),
        SCORING,
        ",".join(PROTOCOLS),
    )
    bins: str = option(
        "coco",
        "Size bins of a protocol, or between sides of squares in px of the full image.",
        described(
            size_bins, "coco, aitod, tinyperson, soda, or rising sides in px such as 16,32,96"
        ),
        SCORING,
        "coco|aitod|tinyperson|soda|16,32,96",
    )
    max_dets: str = option(
        "auto",
        "Detections of a class in an image that count: all (auto), beside COCO's 1, 10 and 100; "
        "or rising numbers.",
        described(detection_limits, "auto, or rising whole numbers such as 1,10,100"),
        SCORING,
        "auto|1,10,100",
        idle=_coco_only,
    )
    areas: str = option(
        "coco",
        "Size of an outline or a pose: as pycocotools has it (of its box, where the file has "
        "boxes), or its mask's own.",
        choice("coco", "mask"),
        SCORING,
        "coco|mask",
    )
    conf: float = option(
        0.0, "Leave out detections that are less sure.", number(0, 1), SCORING, "0..1"
    )
    only_predicted: bool = option(
        False, "Leave out images without predictions, if only an empty file.", flag, SCORING
    )
    ignore_class: str = option(
        "",
        "Labels of this class are regions to be ignored, with all that lies in them by half "
        "(VisDrone's class 0).",
        lambda value: str(value).strip(),
        SCORING,
        "CLASS",
    )
    analysis: str = option(
        "auto",
        "Intervals, seams, error classes: always, never, or where there are no more than 200000 "
        "detections (auto).",
        choice("auto", "full", "none"),
        SCORING,
        "auto|full|none",
    )
    replicates: int = option(
        200,
        "Resamplings of the images for intervals; 0 for none.",
        whole(0, 10_000),
        SCORING,
        "N",
        idle=_not("analysis", "none"),
    )
    seed: int = option(0, "Of these resamplings.", whole(0), SCORING, idle=_resampled)


BACKENDS = ("auto", "threading", "loky", "sequential")


@dataclass(frozen=True, slots=True)
class RunOptions(Checked):
    """How the work is done; none of these changes a byte of the result."""

    workers: int = _workers()
    backend: str = option(
        "auto",
        "Threads, processes (loky), or one after the other.",
        backend(*BACKENDS),
        "Run",
        "|".join(BACKENDS),
    )
    overwrite: bool = option(False, "Replace an existing output of tiler.", flag, "Run")
    dry_run: bool = option(False, "Do the work and count; write nothing.", flag, "Run")


@dataclass(frozen=True, slots=True)
class CheckOptions(Checked):
    """How `tiler check` looks at a dataset."""

    task: str = _task()
    max_pixels: str | int = _max_pixels()
    workers: int = _workers()
