"""The plan of a prediction: images found, windows laid, all decided before the model runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import opened
from tiler.datasets.index import Index, TiledImage
from tiler.datasets.opening import find
from tiler.errors import SourceRefused, TilerError, did_you_mean
from tiler.findings import Finding
from tiler.geometry import boxes as box
from tiler.geometry.window import Window
from tiler.images import geo, nodata, reading
from tiler.images.header import Header, probe
from tiler.merging.category_ids import chosen as chosen_ids
from tiler.merging.category_ids import numbered
from tiler.merging.output import ids_of, labels_of
from tiler.merging.planning import (
    MergePlan,
    Truth,
    for_training,
    in_regions,
    index_digest,
    on_map,
    require_writable,
    truth_of,
)
from tiler.merging.report import MergeCounts, MergeReport
from tiler.merging.work import MergeJob, Piece
from tiler.models import Model
from tiler.options import (
    DatasetOptions,
    MergeOptions,
    ModelOptions,
    PredictionOptions,
    PredictOptions,
    pixel_limit,
)
from tiler.options.classes import listed
from tiler.options.predicting import RUNNING
from tiler.predicting.clock import Speed, StageClock
from tiler.predicting.detected import DetectedBatch
from tiler.predicting.windows import WindowedImage, WindowReader, in_reading_order
from tiler.predictions import Detections, Frames, Reading
from tiler.predictions.class_map import ClassMap, resolved
from tiler.predictions.validation import RowRules
from tiler.run.rejecting import refusal, said
from tiler.run.work_sharing import done
from tiler.splitting.stretching import mapping
from tiler.stitching.competition import require_classes
from tiler.tiling import roi
from tiler.tiling.chunks import mapped
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import PlannedTile, check_grid, crowding, planned_tiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.geometry.instances import Instances
    from tiler.types import Task

ABOUT_IMAGES = ("I", "Y04", "P05")  # codes of a dataset's findings that matter here
BATCH = 8
TRIED = 32  # windows in which a function is tried, to know what it detects
NOT_DETECTING = (*RUNNING, "device")  # options on which no detection depends


class PredictReport(MergeReport):
    """What `tiler predict` did: the report of the merge, and the speed.

    Attributes:
        model: what it is, in a line.
        speed: None where nothing was run.
    """

    model: str = ""
    speed: Speed | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NotYetDetected:
    """In place of the predictions of an image that the model has not seen yet."""

    def read(self, frames: Frames) -> Detections:
        raise AssertionError("the model has not seen this image yet")


@dataclass(frozen=True, slots=True, eq=False)
class PredictRequest:
    """What is asked for.

    Attributes:
        source: where the images are.
        images: the folder of the images of a COCO JSON.
        data: the dataset whose classes and labels count.
        file: of the model, if it is a file.
    """

    model: Model
    source: Path
    chosen: PredictOptions
    for_model: ModelOptions
    images: Path | None = None
    data: Path | None = None
    file: Path | None = None

    def places(self) -> dict[str, Path]:
        """Where everything is, by the options' names."""
        roi_file = None if self.chosen.roi is None else Path(self.chosen.roi)
        places = {
            "source": self.source,
            "model": self.file,
            "images": self.images,
            "roi": roi_file,
        }
        return {name: place for name, place in places.items() if place is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictPlan(MergePlan):
    """What is to be detected, and then merged.

    Attributes:
        images: those of the pieces.
        reader: reads their windows.
        rules: which detections are valid, and which class of the dataset each is.
    """

    request: PredictRequest
    images: list[WindowedImage]
    reader: WindowReader
    rules: RowRules

    @property
    def model(self) -> Model:
        return self.request.model

    @property
    def chosen(self) -> PredictOptions:
        return self.request.chosen

    @property
    def batch(self) -> int:
        """How many windows the model is given at once."""
        return self.model.batch or self.chosen.batch or BATCH

    def options(self) -> dict[str, Any]:
        """Every option that detections depend on, and the fingerprint of the model."""
        chosen = {**self.chosen.plain(), **self.request.for_model.plain()}
        for name in NOT_DETECTING:
            del chosen[name]
        chosen["roi"] = self.job.files.roi
        chosen["tile"] = _plain(self.reader.job.options.tile)
        return {**chosen, "model": self.model.fingerprint}

    def args(self) -> dict[str, Any]:
        """Every option in effect, and the fingerprint of the model: a valid --config."""
        chosen = {**self.chosen.in_effect(), **self.request.for_model.in_effect()}
        for name in (*NOT_DETECTING, "roi"):
            chosen.pop(name, None)
        if self.report.task != "segment":
            chosen.pop("parts", None)
        chosen["tile"] = _plain(self.reader.job.options.tile)
        return {**chosen, "model_fingerprint": self.model.fingerprint}

    def digest(self, number: int, content: str) -> str:
        """Of everything that the detections of an image depend on, but for the options.

        Args:
            content: the digest of its file.
        """
        image = self.images[number]
        names = [tile.name for tile in image.tiles]
        known = [content, image.source.key, image.header.size, names, self.reader.job.limits]
        return hashlib.blake2b(msgspec.json.encode(known), digest_size=16).hexdigest()

    def detected(self, number: int, found: Sequence[Any], digest: str) -> Piece:
        """An image with what was detected in its windows; None for those that are empty."""
        piece, image = self.pieces[number], self.images[number]
        seen = [t for t, instances in enumerate(found) if instances is not None]
        empty = [t for t, instances in enumerate(found) if instances is None]
        sizes = np.array([image.tiles[t].size for t in seen], np.float64).reshape(-1, 2)
        frames = _some(piece.frames, seen)
        own = [found[t] for t in seen]
        task = cast("Task", self.report.task)
        batch = DetectedBatch(task, own, sizes, self.rules, frames.names, digest)
        silent = _some(piece.frames, empty)
        return replace(piece, frames=frames, silent=silent, batch=batch, digest=digest)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _some(frames: Frames, tiles: Sequence[int]) -> Frames:
    index = np.array(tiles, np.int64)
    names = [frames.names[t] for t in tiles]
    return Frames(names, frames.rects[index], frames.scale[index], frames.within[index])


def planned(request: PredictRequest) -> PredictPlan:
    """Find the images, lay the windows, and decide how detections are read and written.

    Raises:
        TilerError: unusable input, or options that contradict each other or the model.
    """
    chosen, model = request.chosen, request.model
    chosen.require_in_effect()
    _require_batch(model, chosen)
    _require_acting(request)
    options = DatasetOptions(unlabelled=True)
    dataset = find(request.source, request.images, options, needed=(chosen.split,))
    dataset = _of_split(dataset, chosen.split)
    cutting = chosen.cutting(_tile(model, chosen))
    check_grid(cutting)
    job = SplitJob(dataset.root, None, cutting, pages=dataset.pages)  # type: ignore[arg-type]
    findings = [f for f in dataset.findings if f.code.startswith(ABOUT_IMAGES)]
    if crowding(cutting):
        findings.append(Finding("", "W01", crowding(cutting)))
    images = _images(request, dataset, job, findings)
    if chosen.stretch != "none":
        job = replace(job, limits=mapping(job, dataset, chosen.running()))
    reader = WindowReader(job, chosen.skip_empty, StageClock())
    kind = _kind(request, images, reader)
    plan = _merge_plan(request, kind, dataset, images, reader, findings)
    return _in_roi(for_training(on_map(plan), dataset.root))


def _tile(model: Model, chosen: PredictOptions) -> int | tuple[int, int]:
    """The size of windows: as asked for, else the model's input."""
    if chosen.tile is not None:
        return chosen.tile
    if model.size is None:
        raise TilerError(f"{model.title}: its input has no fixed size; say --tile")
    width, height = model.size
    return width if width == height else (width, height)


def _require_batch(model: Model, chosen: PredictOptions) -> None:
    if model.batch and chosen.batch not in (0, model.batch):
        raise TilerError(f"--batch {chosen.batch}: {model.title} takes {model.batch} at once")


def _require_acting(request: PredictRequest) -> None:
    """Raises:
    TilerError: --nms-iou was given, and the model suppresses duplicates itself.
    """
    chosen = request.for_model.nms_iou
    if request.model.suppresses and chosen != ModelOptions().nms_iou:
        what = f"{request.model.title} suppresses duplicates within a tile itself"
        raise TilerError(f"--nms-iou {chosen:g}: {what}; --merge-iou is of the merge")


# --- images


def _images(
    request: PredictRequest, dataset: Dataset, job: SplitJob, findings: list[Finding]
) -> list[WindowedImage]:
    """The images with their windows.

    Args:
        findings: of images that cannot be read; is added to.

    Raises:
        TilerError: there are none.
    """
    images = []
    for one in mapped(job, _opened_all, dataset.images, request.chosen.running()):
        if isinstance(one, Finding):
            findings.append(one)
        else:
            images.append(_windowed(job, one, request.chosen.full))
            if one.header.frames > 1 and job.pages < 2:
                note = "several pages or frames; the first one is looked at"
                findings.append(Finding(one.source.key, "I11", note))
    if not images:
        reason = f": {findings[0]}" if findings else ""
        raise TilerError(f"{request.source}: none of its images can be read{reason}")
    _require_eight_bits(images, request.chosen)
    return images


def _of_split(dataset: Dataset, split: str) -> Dataset:
    """The dataset with the images of one split.

    Raises:
        TilerError: it has no such split, or several and none is named.
    """
    if split == "all" or (split == "" and len(dataset.splits) < 2):
        return dataset
    known = ", ".join(dataset.splits)
    if split == "":
        raise TilerError(
            f"{dataset.file}: it has the splits {known}: say --split {dataset.splits[0]}, or "
            "--split all"
        )
    if split not in dataset.splits:
        hint = did_you_mean(split, dataset.splits)
        raise TilerError(f"--split {split}: {dataset.file} has {known or 'no splits'}{hint}")
    sources = [source for source in dataset.sources if source.split == split]
    return replace(dataset, sources=sources, splits=(split,))


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedImage:
    """What the header of an image says."""

    source: Source
    header: Header
    geo: Any
    by_rows: bool


def _opened_all(job: SplitJob, sources: Sequence[Source]) -> list[_OpenedImage | Finding]:
    """The header of each image, or why it cannot be used."""
    results: list[_OpenedImage | Finding] = []
    for source in sources:
        try:
            results.append(_opened(job, source))
        except Exception as error:
            rejected = refusal(error)
            results.append(Finding(source.key, rejected.code, rejected.message))
    return results


def _opened(job: SplitJob, source: Source) -> _OpenedImage:
    path = job.root / source.key
    with opened(os.fspath(path)) as file:
        header = nodata.declared(probe(file), job.options.nodata)
        limit = pixel_limit(job.options.max_pixels)
        by_rows = reading.choose(header, source.bytes, limit) is not None
        located = geo.located(file, header, path)
    return _OpenedImage(source, header, None if located is None else located.geo, by_rows)


def _windowed(job: SplitJob, image: _OpenedImage, full: bool) -> WindowedImage:
    """An image with its windows."""
    width, height = image.header.size
    tiles = in_reading_order(planned_tiles(image.source.stem, width, height, job.options))
    whole = None
    if full:
        whole = _whole_view(image, tiles, job.options.tile)
    rows = height
    if image.by_rows:
        rows = min(height, 2 * max(tile.window.height for tile in tiles))
    held = rows * width * max(1, image.header.bands) * (image.header.bits // 8 or 1)
    if whole is not None:
        tiles.append(whole)
    return WindowedImage(image.source, image.header, tiles, whole is not None, image.geo, held)


def _whole_view(
    image: _OpenedImage, tiles: Sequence[PlannedTile], tile: int | tuple[int, int]
) -> PlannedTile | None:
    """The whole image, shrunken to the size of a window; None where a window shows it already."""
    width, height = image.header.size
    across, down = tile if isinstance(tile, tuple) else (tile, tile)
    scale = min(across / width, down / height)
    if scale >= 1 or any(t.window.width >= width and t.window.height >= height for t in tiles):
        return None
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return PlannedTile(Window(0, 0, width, height), scale, size, f"{image.source.stem}__full")


def _require_eight_bits(images: Sequence[WindowedImage], chosen: PredictOptions) -> None:
    """Raises:
    TilerError: images are deeper, and it is not said how they become 8 bits.
    """
    if chosen.stretch != "none":
        return
    for image in images:
        if image.header.bits > 8:
            raise TilerError(
                f"{image.source.key}: samples of {image.header.bits} bits, a model takes 8: say "
                "--stretch percentile or --stretch minmax"
            )


# --- the merge


def _merge_plan(
    request: PredictRequest,
    kind: FoundKind,
    dataset: Dataset,
    images: list[WindowedImage],
    reader: WindowReader,
    findings: list[Finding],
) -> PredictPlan:
    """The plan, of which the windows in regions are not chosen yet."""
    truth = truth_of(request.data)
    truth_name = "" if request.data is None else request.data.name
    files = request.chosen.files(kind.task)
    files = replace(files, map_classes=resolved(files.map_classes))
    own, names = _names(request, dataset, truth)
    rules = _rules(files, own, names)
    require_classes(request.chosen.merging(), names)
    require_writable(files, names)
    tiled = [_tiled(image) for image in images]
    categories = dataset.categories if dataset.kind == "COCO" else None
    index = Index(tiled, "windows", request.source, kind.task, names, categories=categories)
    every = [True] * len(tiled)
    ids = chosen_ids(files.category_base, tiled, every, names, index, truth, truth_name)
    if files.image_ids == "numbers":
        ids = numbered(ids)
    job = MergeJob(
        request.chosen.merging(),
        files,
        names,
        str(request.source),
        dataset.root,
        first_category=ids.first_category,
        categories=ids.categories,
        kpt_shape=kind.kpt_shape,
    )
    return PredictPlan(
        job,
        _pieces(tiled, ids.images),
        _report(request, kind, names, [*findings, *ids.findings]),
        index_digest(tiled, ids),
        by_names=False,
        places=request.places(),
        request=request,
        images=images,
        reader=reader,
        rules=rules,
    )


def _report(
    request: PredictRequest, kind: FoundKind, names: tuple[str, ...] | None, findings: list[Finding]
) -> PredictReport:
    """The report, in which nothing is counted yet."""
    title = request.model.title
    return PredictReport(
        task=kind.task,
        predictions=kind.task,
        index="windows",
        names=list(names or ()),
        counts=MergeCounts(),
        left_out=[],
        findings=findings,
        kpt_shape=None if kind.kpt_shape is None else list(kind.kpt_shape),
        where=str(request.source),
        model=title,
    )


@dataclass(frozen=True, slots=True)
class FoundKind:
    """What detections are."""

    task: str
    kpt_shape: tuple[int, int] | None = None


def _kind(
    request: PredictRequest, images: Sequence[WindowedImage], reader: WindowReader
) -> FoundKind:
    """What the model detects: as it says, or else as its first detections are.

    Raises:
        TilerError: something else than was asked for, or than the options are for.
    """
    chosen, model = request.chosen, request.model
    kind = FoundKind(model.task or chosen.task, model.kpt_shape)
    if model.task is None and chosen.task in ("auto", "pose"):
        kind = _tried(model, images, reader)
    if chosen.task not in ("auto", kind.task):
        raise TilerError(f"--task {chosen.task}: {model.title} detects {kind.task}")
    if kind.task != "segment" and chosen.parts != MergeOptions().parts:
        raise TilerError(
            f"--parts {chosen.parts}: the model detects {kind.task}, and only outlines have parts"
        )
    return kind


def _tried(model: Model, images: Sequence[WindowedImage], reader: WindowReader) -> FoundKind:
    """What the model finds in the first windows in which it finds anything; boxes, if it does so in
    none of `TRIED`.

    Raises:
        TilerError: it cannot be run.
    """
    for found in islice(_found_one_by_one(model, images, reader), TRIED):
        if len(found):
            points = found.keypoints
            return FoundKind(found.task, None if points is None else (points.shape[1], 3))
    return FoundKind("detect")


def _found_one_by_one(
    model: Model, images: Sequence[WindowedImage], reader: WindowReader
) -> Iterator[Instances]:
    """The detections in each window, one by one; images that cannot be read are passed over."""
    for image in images:
        with suppress(SourceRefused):
            for _, make in reader.windows(image, done):
                pixels = make()
                if pixels is not None:
                    yield _found_in(model, pixels)


def _found_in(model: Model, pixels: NDArray[Any]) -> Instances:
    size = (pixels.shape[1], pixels.shape[0])
    try:
        output = model.run([model.prepared(pixels)] * (model.batch or 1))
        (found,) = model.detections(output, [size])
    except (TilerError, MemoryError):
        raise
    except Exception as error:
        raise TilerError(f"{model.title}: cannot be run: {said(error)}") from None
    return found


def _names(
    request: PredictRequest, dataset: Dataset, truth: Truth
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Names of the model's classes, and of the classes that detections then have.

    Raises:
        TilerError: the model's classes are not those of the dataset, and nothing maps them.
    """
    of_dataset = None
    if truth is not None and truth.names:
        of_dataset = tuple(truth.names)
    elif dataset.names:
        of_dataset = tuple(dataset.names)
    own = request.model.names
    if request.chosen.map_classes:
        return own, of_dataset or own
    if own is None:
        return of_dataset, of_dataset
    if truth is not None and of_dataset is not None and own != of_dataset:
        raise TilerError(
            f"the model's classes are {listed(own)}, those of --data {listed(of_dataset)}: say "
            "which is which by --map-classes"
        )
    return own, own


def _rules(
    files: PredictionOptions, own: tuple[str, ...] | None, names: tuple[str, ...] | None
) -> RowRules:
    """How the model's classes become those of the dataset, and which numbers are a class."""
    class_map = ClassMap.of(files.classes, files.map_classes, own, names)
    return RowRules.of(Reading(names=own, class_map=class_map))


def _tiled(image: WindowedImage) -> TiledImage:
    scale = [tile.size[0] / tile.window.width for tile in image.tiles]
    return TiledImage(
        image.source.key,
        *image.header.size,
        [tile.name for tile in image.tiles],
        image.rects,
        np.array(scale, np.float64),
        geo=image.geo,
        image_id=image.source.image_id,
    )


def _pieces(tiled: Sequence[TiledImage], image_ids: Sequence[int | str]) -> list[Piece]:
    """The images, of which nothing is detected yet."""
    keys = [image.key for image in tiled]
    names = zip(labels_of(keys), ids_of(keys), image_ids, strict=True)
    return [_piece(image, *own) for image, own in zip(tiled, names, strict=True)]


def _piece(image: TiledImage, label: str, name: str, image_id: int | str) -> Piece:
    whole = np.array([0, 0, image.width, image.height], np.float64)
    within = box.intersection(image.rects, whole)
    frames = Frames(image.names, image.rects, image.scale, within)
    none = _some(frames, [])
    return Piece(
        image.key,
        label,
        name,
        image_id,
        image.width,
        image.height,
        frames=frames,
        silent=none,
        unread=none,
        batch=NotYetDetected(),
        geo=image.geo,
    )


def _in_roi(plan: PredictPlan) -> PredictPlan:
    """The plan with the windows that meet a region of --roi."""
    if plan.chosen.roi is None:
        return plan
    plan = in_regions(plan, roi.read(plan.chosen.roi))
    regions = plan.job.roi
    assert regions is not None
    images = []
    pieces = []
    for image, piece in zip(plan.images, plan.pieces, strict=True):
        meets = np.zeros(len(image.tiles), bool)
        try:
            meets = regions.meets(image.source.key, piece.frames.within, image.geo)
        except SourceRefused as error:
            plan.report.findings.append(Finding(piece.key, error.code, error.message))
        inside = np.flatnonzero(meets).tolist()
        full = image.full and bool(meets[-1])
        tiles = [image.tiles[t] for t in inside]
        images.append(replace(image, tiles=tiles, full=full))
        pieces.append(replace(piece, frames=_some(piece.frames, inside)))
    return replace(plan, images=images, pieces=pieces)
