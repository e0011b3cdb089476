"""The options of each verb: one dataclass for the library, the command line and `--config`.

A field carries its help and its check; values may come as text (from a shell or a YAML
file) or as what they are (from a script). This module imports nothing heavy, since
`tiler --help` needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, TypeVar, cast

from tiler.errors import TilerError, did_you_mean
from tiler.types import TASKS

Options = TypeVar("Options", bound="_Checked")


def option(default: Any, help: str, check: Callable[[Any], Any], group: str = "Options", shown: str | None = None) -> Any:
    """A dataclass field that checks itself.

    Args:
        check: makes the value of what was given, or raises ValueError with what is expected.
        shown: what may be given, for the help.
    """
    return field(default=default, metadata={"help": help, "check": check, "group": group, "shown": shown})


def choice(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}{did_you_mean(str(value), allowed)}")
        return cast(str, value)

    return check


def number(low: float, high: float = math.inf) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        result = float(value)
        if not (math.isfinite(result) and low <= result <= high):
            raise ValueError
        return result

    return _described(check, f"a number from {low:g}" + (f" to {high:g}" if high < math.inf else " on"))


def whole(low: int, high: float = math.inf) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        result = int(value)
        if (not isinstance(value, str) and result != value) or not low <= result <= high:
            raise ValueError
        return result

    return _described(check, f"a whole number from {low}" + (f" to {high:g}" if high < math.inf else " on"))


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return str(value).lower() in ("true", "yes", "on", "1")
    raise ValueError("true or false")


def tile_size(value: Any) -> int | tuple[int, int]:
    """640, "640", "1024x768" or (1024, 768).

    >>> tile_size("1024x768"), tile_size("640x640")
    ((1024, 768), 640)
    """
    check = whole(10, 65500)
    sides = value.lower().split("x") if isinstance(value, str) else value
    pair = [check(side) for side in sides] if isinstance(sides, list | tuple) else [check(sides)]
    if len(pair) not in (1, 2):
        raise ValueError
    return pair[0] if len(set(pair)) == 1 else (pair[0], pair[1])


def scales(value: Any) -> tuple[float, ...]:
    """1, "1,0.5" or (1, 0.5): each once, largest first."""
    given = value.split(",") if isinstance(value, str) else value
    items = given if isinstance(given, list | tuple) else [given]
    result = sorted({round(float(item), 2) for item in items}, reverse=True)
    if not result or not all(0.01 <= item <= 16 for item in result):
        raise ValueError
    return tuple(result)


def background(value: Any) -> str | float:
    if value in ("all", "none"):
        return cast(str, value)
    return number(0)(value)


def _described(check: Callable[[Any], Any], expected: str) -> Callable[[Any], Any]:
    def described(value: Any) -> Any:
        try:
            if isinstance(value, bool):
                raise ValueError
            return check(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(expected) from None

    return described


@dataclass(frozen=True, slots=True)
class _Checked:
    """Options that check themselves when made."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            try:
                object.__setattr__(self, item.name, item.metadata["check"](value))
            except (TypeError, ValueError) as error:
                raise TilerError(f"--{item.name.replace('_', '-')} is {error}, got {value!r}") from None

    @classmethod
    def of(cls: type[Options], given: Mapping[str, Any], where: str = "") -> Options:
        """From names and values; an unknown name is an error.

        >>> SplitOptions.of({"tiel": 640})
        Traceback (most recent call last):
        ...
        tiler.errors.TilerError: unknown option 'tiel'; did you mean 'tile'?
        """
        known = [item.name for item in fields(cls)]
        for name in given:
            if name not in known:
                raise TilerError(f"{where}unknown option {str(name)!r}{did_you_mean(str(name), known)}")
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """Names and values as YAML and JSON can hold them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


GRID, LABELS, PIXELS = "Grid", "Labels", "Pixels"


def _task(of: str = "labels", where: str = "dataset", group: str = LABELS) -> Any:
    help = f"What the {of} are; auto decides for the whole {where} and says so."
    return option("auto", help, choice("auto", *TASKS), group, "auto|detect|segment|obb|pose")


def _max_pixels() -> Any:
    help = "Refuse larger images (they are decoded whole, at 4 bytes a pixel)."
    return option(178_956_970, help, whole(1), PIXELS)


def _workers() -> Any:
    return option(0, "Workers; 0 for one a core.", whole(0, 4096), "Run")


@dataclass(frozen=True, slots=True)
class SplitOptions(_Checked):
    """What `tiler split` makes of a dataset. The same values give the same bytes.

    Raises:
        TilerError: a value that is not one of those expected.

    >>> SplitOptions(tile="1024x768", overlap="0.25").tile
    (1024, 768)
    """

    tile: int | tuple[int, int] = option(
        640,
        "Size of a tile in px: one side, or WIDTHxHEIGHT.",
        _described(tile_size, "a side of 10 px or more, or WIDTHxHEIGHT"),
        GRID,
        "640|1024x768",
    )
    overlap: float = option(0.2, "What neighbours share: a fraction of the tile (< 1) or px (>= 1).", number(0), GRID, "0.2|128")
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
        _described(scales, "factors from 0.01 to 16, such as 1,0.5"),
        GRID,
        "1,0.5",
    )
    task: str = _task()
    min_visible: float = option(
        0.25, "Least visible part of an object (of what a tile can show of it at best) for a label.", number(0, 1), LABELS, "0..1"
    )
    min_size: float = option(2.0, "Least width and height of a label in px of the tile.", number(0), LABELS, "PX")
    truncated: str = option(
        "drop",
        "What is below these: drop its label, keep it, mask its pixels, or skip the tile.",
        choice("drop", "keep", "mask", "skip-tile"),
        LABELS,
        "drop|keep|mask|skip-tile",
    )
    rescue: bool = option(
        True, "Keep an object that is below --min-visible in every tile in the tile that shows most of it.", flag, LABELS
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
    )
    parts: str = option(
        "separate",
        "An outline cut into several parts: rows of their own, one bridged row, or the largest.",
        choice("separate", "bridge", "largest"),
        LABELS,
        "separate|bridge|largest",
    )
    background: str | float = option(
        "all",
        "Tiles without an object: all, none, or so many for each tile with one, per split.",
        _described(background, "all, none or a ratio of 0 or more"),
        LABELS,
        "all|none|RATIO",
    )
    seed: int = option(0, "Which background tiles a ratio takes.", whole(0), LABELS)
    format: str = option(
        "same", "Format of the tiles.", choice("same", "jpg", "png", "webp", "tif"), PIXELS, "same|jpg|png|webp|tif"
    )
    quality: int = option(95, "Quality of JPEG and lossy WebP.", whole(1, 100), PIXELS, "1..100")
    max_pixels: int = _max_pixels()


def per_class(value: Any) -> float | str:
    """One number in 0..1 for all classes, and others for some: 0.5, "0.5,car=0.4" or {"": 0.5, "car": 0.4}.

    >>> per_class("0.50, car=0.4"), per_class(1)
    ('0.5,car=0.4', 1.0)
    """
    base, named = shares(value)
    return base if not named else ",".join([f"{base!r}", *(f"{name}={number!r}" for name, number in named.items())])


def shares(value: Any) -> tuple[float, dict[str, float]]:
    """What `per_class` reads: the number for all, and those of classes by name or id."""
    if isinstance(value, str):
        first, *rest = value.split(",")
        given = {"": first, **{name.strip(): number for name, _, number in (item.rpartition("=") for item in rest)}}
        if len(given) != len(rest) + 1:
            raise ValueError
    else:
        given = {str(name): number for name, number in value.items()} if isinstance(value, Mapping) else {"": value}
        if "" not in given:
            raise ValueError
    check = number(0, 1)
    checked = {name: check(item) for name, item in given.items()}
    return checked.pop(""), checked


def class_groups(value: Any) -> str:
    """Classes that compete: "car,truck;bus,van", or [["car", "truck"], ["bus", "van"]]."""
    if isinstance(value, str):
        parts = [[name.strip() for name in group.split(",")] for group in value.split(";")] if value else []
    else:
        parts = [[str(name) for name in group] for group in value]
    names = [name for group in parts for name in group]
    if not all(names) or len(set(names)) != len(names) or any(len(group) < 2 for group in parts):
        raise ValueError
    return ";".join(",".join(group) for group in parts)


METHODS = ("cvm", "nms", "nmm", "greedy-nmm", "wbf", "soft-nms", "center", "none")
MERGING, READING = "Merging", "Reading"


@dataclass(frozen=True, slots=True)
class MergeOptions(_Checked):
    """How detections on tiles become those of the full image. The same values give the same bytes.

    Raises:
        TilerError: a value that is not one of those expected.

    >>> MergeOptions(method="nms", iou="0.5,person=0.4").iou
    '0.5,person=0.4'
    """

    method: str = option(
        "cvm", "How detections of one object are found and joined.", choice(*METHODS), MERGING, "|".join(METHODS)
    )
    iou: float | str | None = option(
        None,
        "Least overlap of one object's detections. Default: 0.3 in the common view (cvm), 0.55 (wbf), else 0.5.",
        lambda value: None if value is None else _described(per_class, "0 to 1, such as 0.5 or 0.5,car=0.4")(value),
        MERGING,
        "0..1[,CLASS=0..1]",
    )
    metric: str = option("iou", "Overlap over the union, or over the smaller one.", choice("iou", "ios"), MERGING, "iou|ios")
    conf: float | str = option(
        0.0,
        "Least confidence of a detection; others for some classes.",
        _described(per_class, "0 to 1, such as 0.25 or 0.25,car=0.4"),
        MERGING,
        "0..1[,CLASS=0..1]",
    )
    class_agnostic: bool = option(False, "Let all classes compete; the class with the most confidence wins.", flag, MERGING)
    groups: str = option(
        "",
        "Let some classes compete.",
        _described(class_groups, "groups of two or more classes, such as car,truck;bus,van"),
        MERGING,
        "car,truck;bus,van",
    )
    orphans: str = option(
        "decay",
        "A cut detection that another tile should have seen and did not: keep, halve its confidence, or drop (cvm).",
        choice("keep", "decay", "drop"),
        MERGING,
        "keep|decay|drop",
    )
    parts: str = option(
        "bridge",
        "A merged outline in several parts: one bridged row, separate rows, or the largest.",
        choice("bridge", "separate", "largest"),
        MERGING,
        "bridge|separate|largest",
    )
    max_det: int = option(0, "Keep so many of each picture, the most confident; 0 for all.", whole(0), MERGING, "N")


NAMINGS = ("auto", "tiler", "sahi", "split_dota", "dota_devkit")
EXPORTS = ("dota", "geojson", "csv")
BASES = ("0", "1", "coco91")
WRITING = "Writing"


def exports(value: Any) -> str:
    """ "csv,dota", or a list of such names."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value or ())
    names = [part for part in parts if part]
    for name in names:
        choice(*EXPORTS)(name)
    return ",".join(name for name in EXPORTS if name in names)


def base(*more: str) -> Callable[[Any], str]:
    return lambda value: choice(*more, *BASES)(value if isinstance(value, str) else str(value))


@dataclass(frozen=True, slots=True)
class PredictionOptions(_Checked):
    """How files of predictions are read, and what else is written.

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
    conf_first: bool = option(False, "Rows are class, confidence, x, y, width, height.", flag, READING)
    preds_base: str = option("auto", "What category ids of a JSON count from.", base("auto"), READING, "|".join(("auto", *BASES)))
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
        lambda value: None if value is None else _described(tile_size, "a side of 10 px or more, or WIDTHxHEIGHT")(value),
        READING,
        "1024|640x512",
    )
    category_base: str = option("0", "What category ids of predictions.json count from.", base(), WRITING, "|".join(BASES))
    export: str = option("", "Also write DOTA Task1, GeoJSON or CSV.", exports, WRITING, "dota,geojson,csv")
    affine: str = option(
        "",
        "Frame of the GeoJSON: x = a col + b row + c, y = d col + e row + f; or world, for the world file beside each picture.",
        lambda value: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value or ""),
        WRITING,
        "a,b,c,d,e,f|world",
    )
    crs: str = option("", "Its coordinate reference system, such as EPSG:32633.", str, WRITING, "CRS")


BACKENDS = ("auto", "threading", "loky", "sequential", "dask", "ray")


@dataclass(frozen=True, slots=True)
class RunOptions(_Checked):
    """How the work is done; none of these changes a byte of the result."""

    workers: int = _workers()
    backend: str = option(
        "auto", "Threads, processes (loky), or a cluster through joblib.", choice(*BACKENDS), "Run", "|".join(BACKENDS)
    )
    overwrite: bool = option(False, "Replace an existing output of tiler.", flag, "Run")
    dry_run: bool = option(False, "Do the work and count; write nothing.", flag, "Run")


@dataclass(frozen=True, slots=True)
class CheckOptions(_Checked):
    """How `tiler check` looks at a dataset."""

    task: str = _task()
    max_pixels: int = _max_pixels()
    workers: int = _workers()


def option_fields(cls: type[_Checked]) -> tuple[Field[Any], ...]:
    """The fields of an options class, in order."""
    return fields(cls)
