"""What the verbs take as `**options`, for type checkers and editors.

Written from the dataclasses of options by `python -m tests.options.test_arguments`; do not edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict


class TilesArguments(TypedDict, total=False):
    """Of `tiler.Tiles`."""

    tile: int | tuple[int, int] | str
    grid: tuple[int, int] | str | None
    overlap: float | tuple[float, float] | str
    edge: Literal["shift", "balance", "trim", "pad"]
    scale: float | Sequence[float] | str
    roi: str | Path | None
    val: float
    test: float
    task: Literal["auto", "detect", "segment", "obb", "pose", "semantic"]
    min_visible: float
    min_size: float
    truncated: Literal["drop", "keep", "mask", "skip-tile"]
    rescue: bool
    obb: Literal["aligned", "minrect", "full"]
    parts: Literal["separate", "bridge", "largest"]
    background: float | Mapping[str, str | float] | str
    seed: int
    min_data: float
    stretch: Literal["none", "minmax", "percentile"]
    nodata: str | float
    max_pixels: Literal["auto"] | int
    frame: Literal["auto", "stored", "upright"]
    bbox: Literal["auto", "xywh", "xyxy"]
    as_split: Literal["auto", "train", "val", "test"]
    ignored: Literal["auto", "mask", "skip", "objects"]
    labels: str | Path
    class_field: str
    layer: str
    point_size: float
    unlabelled: bool


class CheckArguments(TypedDict, total=False):
    """Of `tiler.check`."""

    task: Literal["auto", "detect", "segment", "obb", "pose", "semantic"]
    max_pixels: Literal["auto"] | int
    workers: int
    frame: Literal["auto", "stored", "upright"]
    bbox: Literal["auto", "xywh", "xyxy"]
    as_split: Literal["auto", "train", "val", "test"]
    ignored: Literal["auto", "mask", "skip", "objects"]
    labels: str | Path
    class_field: str
    layer: str
    point_size: float
    unlabelled: bool


class MergeArguments(TypedDict, total=False):
    """Of `tiler.merge`."""

    method: Literal["cvm", "nms", "nmm", "greedy-nmm", "wbf", "soft-nms", "center", "none"]
    iou: float | Mapping[str, float] | str | None
    metric: Literal["iou", "ios"]
    conf: float | Mapping[str, float] | str
    class_agnostic: bool
    groups: str | Sequence[Sequence[str]]
    orphans: Literal["keep", "decay", "drop"]
    parts: Literal["bridge", "separate", "largest"]
    max_det: int
    naming: str
    tile: int | tuple[int, int] | str | None
    runs: Literal["stop", "newest", "all"]
    ensemble: Literal["wbf", "nms", "soft-nms"]
    weights: Sequence[float] | str | None
    roi: str | Path | None
    stride: int | tuple[int, int] | str | None
    edge: Literal["auto", "shift", "trim", "pad"]
    category_base: Literal["auto", "0", "1", "coco91"] | int
    image_ids: Literal["names", "numbers"]
    export: str | Sequence[str]
    affine: str | Iterable[float]
    crs: object
    to_crs: str | int
    task: Literal["auto", "detect", "segment", "obb", "pose"]
    assume_conf: float | None
    conf_first: bool
    classes: str | int | Sequence[str | int]
    map_classes: str | Path | Mapping[str, str | int] | Mapping[int, str | int]
    preds_base: Literal["auto", "0", "1", "coco91"] | int
    boxes: str
    workers: int
    backend: Literal["auto", "threading", "loky", "sequential"]
    overwrite: bool
    dry_run: bool


class PlanArguments(TypedDict, total=False):
    """Of `tiler.plan`."""

    imgsz: int
    keep: float
    min_px: float
    tile: int | Sequence[int] | str
    overlap: float | Sequence[float] | str
    task: Literal["auto", "detect", "segment", "obb", "pose"]
    sample: int
    seed: int
    max_pixels: Literal["auto"] | int
    workers: int
    frame: Literal["auto", "stored", "upright"]
    bbox: Literal["auto", "xywh", "xyxy"]
    as_split: Literal["auto", "train", "val", "test"]
    ignored: Literal["auto", "mask", "skip", "objects"]
    labels: str | Path
    class_field: str
    layer: str
    point_size: float
    unlabelled: bool


class PredictArguments(TypedDict, total=False):
    """Of `tiler.predict`."""

    tile: int | tuple[int, int] | None
    overlap: float | tuple[float, float] | str
    edge: Literal["shift", "balance", "trim", "pad"]
    scale: float | Sequence[float] | str
    full: bool
    roi: str | Path | None
    skip_empty: bool
    task: Literal["auto", "detect", "segment", "obb", "pose"]
    split: str
    stretch: Literal["none", "minmax", "percentile"]
    nodata: str | float
    max_pixels: Literal["auto"] | int
    batch: int
    method: Literal["cvm", "nms", "nmm", "greedy-nmm", "wbf", "soft-nms", "center", "none"]
    merge_iou: float | Mapping[str, float] | str | None
    metric: Literal["iou", "ios"]
    merge_conf: float | Mapping[str, float] | str
    class_agnostic: bool
    groups: str | Sequence[Sequence[str]]
    orphans: Literal["keep", "decay", "drop"]
    parts: Literal["bridge", "separate", "largest"]
    merge_max_det: int
    classes: str | int | Sequence[str | int]
    map_classes: str | Path | Mapping[str, str | int] | Mapping[int, str | int]
    workers: int
    conf: float
    nms_iou: float
    max_det: int
    names: str | None
    device: Literal["auto", "cpu", "cuda"]


class ScoreArguments(TypedDict, total=False):
    """Of `tiler.score`."""

    protocol: str | Sequence[str]
    bins: str | Sequence[float]
    max_dets: int | Sequence[int] | str
    areas: Literal["coco", "mask"]
    conf: float
    at_conf: float | None
    counts: bool
    only_predicted: bool
    ignore_class: str
    analysis: Literal["auto", "full", "none"]
    replicates: int
    seed: int
    frame: Literal["auto", "stored", "upright"]
    bbox: Literal["auto", "xywh", "xyxy"]
    task: Literal["auto", "detect", "segment", "obb", "pose"]
    assume_conf: float | None
    conf_first: bool
    classes: str | int | Sequence[str | int]
    map_classes: str | Path | Mapping[str, str | int] | Mapping[int, str | int]
    preds_base: Literal["auto", "0", "1", "coco91"] | int
    boxes: str


class ShowArguments(TypedDict, total=False):
    """Of `tiler.show`."""

    n: int
    conf: float
    task: Literal["auto", "detect", "segment", "obb", "pose"]
    max_pixels: Literal["auto"] | int
    overwrite: bool
    frame: Literal["auto", "stored", "upright"]
    bbox: Literal["auto", "xywh", "xyxy"]
    as_split: Literal["auto", "train", "val", "test"]
    ignored: Literal["auto", "mask", "skip", "objects"]
    labels: str | Path
    class_field: str
    layer: str
    point_size: float
    unlabelled: bool


class SplitArguments(TypedDict, total=False):
    """Of `tiler.split`."""

    tile: int | tuple[int, int] | str
    grid: tuple[int, int] | str | None
    overlap: float | tuple[float, float] | str
    edge: Literal["shift", "balance", "trim", "pad"]
    scale: float | Sequence[float] | str
    roi: str | Path | None
    val: float
    test: float
    task: Literal["auto", "detect", "segment", "obb", "pose", "semantic"]
    min_visible: float
    min_size: float
    truncated: Literal["drop", "keep", "mask", "skip-tile"]
    rescue: bool
    obb: Literal["aligned", "minrect", "full"]
    parts: Literal["separate", "bridge", "largest"]
    background: float | Mapping[str, str | float] | str
    seed: int
    min_data: float
    export: str | Sequence[str]
    layout: Literal["flat", "tar"]
    format: Literal["same", "jpg", "png", "webp", "tif"]
    quality: int
    jpeg: Literal["encode", "keep"]
    stretch: Literal["none", "minmax", "percentile"]
    nodata: str | float
    max_pixels: Literal["auto"] | int
    frame: Literal["auto", "stored", "upright"]
    bbox: Literal["auto", "xywh", "xyxy"]
    as_split: Literal["auto", "train", "val", "test"]
    ignored: Literal["auto", "mask", "skip", "objects"]
    labels: str | Path
    class_field: str
    layer: str
    point_size: float
    unlabelled: bool
    workers: int
    backend: Literal["auto", "threading", "loky", "sequential"]
    overwrite: bool
    dry_run: bool


class StitchArguments(TypedDict, total=False):
    """Of `tiler.stitch`."""

    method: Literal["cvm", "nms", "nmm", "greedy-nmm", "wbf", "soft-nms", "center", "none"]
    iou: float | Mapping[str, float] | str | None
    metric: Literal["iou", "ios"]
    conf: float | Mapping[str, float] | str
    class_agnostic: bool
    groups: str | Sequence[Sequence[str]]
    orphans: Literal["keep", "decay", "drop"]
    max_det: int
