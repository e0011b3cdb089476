"""The plan of a merge: options checked, predictions opened, the tile of each looked up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tiler.datasets import index as indexes
from tiler.datasets import opening, tile_tables
from tiler.datasets.dataset import Dataset
from tiler.datasets.index import Index, TiledImage
from tiler.errors import TilerError
from tiler.findings import Finding, inside
from tiler.formats import coco_ground_truth, dataset_yaml, provenance
from tiler.formats.affine import Affine
from tiler.formats.coco_ground_truth import CocoTruth
from tiler.formats.dataset_yaml import DatasetYaml
from tiler.geometry import boxes as box
from tiler.merging.category_ids import Ids
from tiler.merging.category_ids import chosen as chosen_ids
from tiler.merging.output import ids_of, labels_of
from tiler.merging.report import MergeCounts, MergeReport
from tiler.merging.work import MergeJob, Piece, dota_file
from tiler.options import MergeOptions, PredictionOptions, RunOptions
from tiler.options.values import optional_path, path
from tiler.predictions import Frames, Predictions, Reading, open_predictions
from tiler.predictions.categories import COCO91
from tiler.predictions.records import image_key, places_of
from tiler.stitching.competition import require_classes
from tiler.version import __version__

Given = dict[str, Any]  # options by name


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What is to be done, with every tile looked up.

    Attributes:
        index_digest: of the images and tiles that predictions were looked up in.
        by_names: tiles are known by the names of predictions only, no manifest lists them.
        places: of predictions, tiles and images, as far as they were used, by the options' names.
    """

    job: MergeJob
    pieces: list[Piece]
    report: MergeReport
    index_digest: str
    by_names: bool
    places: dict[str, Path] = field(default_factory=dict)

    def head(self) -> provenance.ProvenanceHead:
        """The first line of merged.jsonl."""
        report = self.report
        return provenance.ProvenanceHead(
            tiler=__version__,
            schema=provenance.SCHEMA,
            task=report.task,
            names=report.names,
            options={**self.job.merging.plain(), **self.job.files.plain()},
            predictions=report.predictions,
            index=self.index_digest,
            kpt_shape=report.kpt_shape,
            by_names=self.by_names,
        )


@dataclass(frozen=True, slots=True)
class _MergeInputs:
    """Where predictions, tiles, images and the dataset are, as far as that was given."""

    preds: Path
    tiles: Path | None
    images: Path | None
    data: Path | None

    @classmethod
    def of(cls, preds: Any, tiles: Any, images: Any, data: Any) -> _MergeInputs:
        return cls(
            path(preds, "preds"),
            optional_path(tiles, "tiles"),
            optional_path(images, "images"),
            optional_path(data, "data"),
        )

    def manifest(self) -> Path | None:
        """The manifest of the tiles; None where their names tell their places."""
        named = self.images is not None and self.tiles is None
        if named or tile_tables.is_table(self.tiles):
            return None
        return indexes.manifest_of(self.preds, self.tiles)

    def ground_truth(self) -> DatasetYaml | Dataset | CocoTruth | None:
        """What tells class names and keypoints: a dataset, or a COCO ground truth."""
        if self.data is None:
            return None
        if self.data.suffix.lower() == ".json" and not opening.is_labelme(self.data):
            return coco_ground_truth.read(self.data)
        if opening.has_yaml(self.data):
            return dataset_yaml.read(self.data)
        return opening.find(self.data, needed=(), absent=True)


def planned(
    preds: str | Path,
    tiles: str | Path | None,
    images: str | Path | None,
    data: str | Path | None,
    options: Given,
) -> tuple[MergePlan, RunOptions]:
    """Check the options, open the predictions and look up the tile of each.

    Raises:
        TilerError: invalid options, or predictions that cannot be used.
    """
    inputs = _MergeInputs.of(preds, tiles, images, data)
    merging, files, run = _options(options)
    _require_possible(inputs, files)
    merging.require_in_effect()
    files.require_in_effect()
    if not os.path.exists(inputs.preds):
        raise TilerError(f"{inputs.preds}: no such file or folder")
    return _opened(inputs, merging, files), run


def _opened(inputs: _MergeInputs, merging: MergeOptions, files: PredictionOptions) -> MergePlan:
    """The plan, once options and paths are checked."""
    truth = inputs.ground_truth()
    manifest = inputs.manifest()
    index = None if manifest is None else indexes.of_manifest(manifest)
    if inputs.tiles is not None and tile_tables.is_table(inputs.tiles):
        index = tile_tables.read(inputs.tiles, inputs.images, files)
    reading = _reading(files, index, truth)
    require_classes(merging, reading.names)
    _require_writable(files, reading.names)
    predictions = open_predictions(inputs.preds, reading)
    _require_used(merging, files, predictions.task, manifest)
    if index is None:
        index = _index_by_names(predictions, inputs, files)
    root = inputs.images or index.root
    job = MergeJob(merging, files, reading.names, str(inputs.preds), root)
    places = {"preds": inputs.preds}
    if manifest is not None:
        places["tiles"] = manifest
    elif inputs.tiles is not None:
        places["tiles"] = inputs.tiles
    if inputs.images is not None:
        places["images"] = inputs.images
    truth_name = "" if inputs.data is None else inputs.data.name
    return replace(_plan(job, predictions, index, truth, truth_name), places=places)


def _options(given: Given) -> tuple[MergeOptions, PredictionOptions, RunOptions]:
    """The options by their group; an unknown one is an error."""
    files = _of_group(given, PredictionOptions)
    run = _of_group(given, RunOptions)
    # with the unknown ones, so that the error names them
    merging = {name: value for name, value in given.items() if name not in files | run}
    merging |= _of_group(given, MergeOptions)
    return MergeOptions.of(merging), PredictionOptions.of(files), RunOptions.of(run)


def _of_group(given: Given, group: type[MergeOptions | PredictionOptions | RunOptions]) -> Given:
    names = {item.name for item in fields(group)}
    return {name: value for name, value in given.items() if name in names}


def _require_possible(inputs: _MergeInputs, files: PredictionOptions) -> None:
    """Raises:
    TilerError: --affine without what it needs, or not six numbers.
    """
    if files.affine == "world" and inputs.images is None:
        raise TilerError("--affine world looks for world files beside the images: say --images")
    if files.affine not in ("", "world", "pixels"):
        Affine.of(files.affine)


def _index_by_names(
    predictions: Predictions, inputs: _MergeInputs, files: PredictionOptions
) -> Index:
    """Where tiles lie, by their names."""
    if inputs.images is None:
        raise TilerError(
            f"{inputs.preds}: where do these tiles lie? Give --tiles with the output of tiler "
            "split, or --images with the full images if the tiles' names tell their places"
        )
    return indexes.of_names(predictions.keys, inputs.images, files)


def _require_used(
    merging: MergeOptions, files: PredictionOptions, task: str, manifest: Path | None
) -> None:
    """Raises:
    TilerError: an option that was given does not apply to such predictions.
    """
    if task != "segment" and merging.parts != MergeOptions().parts:
        raise TilerError(
            f"--parts {merging.parts}: the predictions are {task}, and only outlines have parts"
        )
    if manifest is None:
        return
    for name in ("naming", "tile", "stride", "edge"):
        value = getattr(files, name)
        if value != getattr(PredictionOptions(), name):
            raise TilerError(f"--{name} {value}: the places of tiles are known from {manifest}")


def _require_writable(files: PredictionOptions, names: tuple[str, ...] | None) -> None:
    """Raises:
    TilerError: classes that a format which is asked for cannot hold.
    """
    if names is None:
        return
    if files.category_base == "coco91" and len(names) > len(COCO91):
        raise TilerError(
            f"--category-base coco91 is for COCO's {len(COCO91)} classes, got {len(names)}"
        )
    if "dota" not in files.export.split(","):
        return
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(dota_file(name), name)
        if other != name:
            raise TilerError(
                f"--export dota: classes {other!r} and {name!r} would be one file "
                f"{dota_file(name)}; rename one"
            )


def _reading(
    files: PredictionOptions, index: Index | None, truth: DatasetYaml | Dataset | CocoTruth | None
) -> Reading:
    """How predictions are read: by the options, else as the tiles or the ground truth say."""
    task = files.task
    if task == "auto" and index is not None:
        task = index.task
    names: tuple[str, ...] | None = None
    kpt_shape: tuple[int, int] | None = None
    for source in (index, truth):  # the tiles first: what was split is what was trained on
        if source is not None:
            names = names or source.names or None
            kpt_shape = kpt_shape or source.kpt_shape
    table = None
    if isinstance(truth, CocoTruth) and truth.names == names:
        table = truth.categories
    elif index is not None and index.categories is not None:
        table = places_of(index.categories)
    return Reading(
        task=task,
        names=names,
        kpt_shape=kpt_shape,
        assume_conf=files.assume_conf,
        conf_first=files.conf_first,
        preds_base=files.preds_base,
        categories=table,
    )


@dataclass(slots=True)
class _AssignedPredictions:
    """Which predictions are for which tile.

    Attributes:
        members: by the number of each image, the indices of its predictions by tile.
        findings: predictions for what is no tile, or for a tile that has some already.
    """

    preds: str
    members: dict[int, dict[int, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, predictions: Predictions, index: Index, preds: str) -> _AssignedPredictions:
        assigned = cls(preds)
        keys = predictions.keys
        names = index.numbered() if predictions.numeric else {}
        for i, key in enumerate(keys):
            place = index.place(names.get(key, key))
            if place is None:
                rows = predictions.counts[i]
                reason = f"not a tile according to the {index.said}; {rows} rows left out"
                assigned.leave_out(key, reason)
                continue
            image, tile = place
            tiles = assigned.members.setdefault(image, {})
            if tile in tiles:
                other = keys[tiles[tile]][:100]
                assigned.leave_out(key, f"its tile has predictions in {other} already; left out")
            else:
                tiles[tile] = i
        return assigned

    def leave_out(self, key: str, reason: str) -> None:
        """Report predictions, with their file if they are a txt."""
        where = "labels" if os.path.isdir(os.path.join(self.preds, "labels")) else ""
        file = os.path.join(where, f"{key}.txt")
        if os.path.exists(os.path.join(self.preds, file)):
            self.findings.append(Finding(file, "D10", reason))
        else:
            self.findings.append(Finding("", "D10", f"{key[:100]}: {reason}"))


def _plan(
    job: MergeJob,
    predictions: Predictions,
    index: Index,
    truth: DatasetYaml | Dataset | CocoTruth | None,
    truth_name: str,
) -> MergePlan:
    """Every prediction with its image and tile; those for no tile are reported."""
    assigned = _AssignedPredictions.of(predictions, index, job.preds)
    _require_any(assigned, predictions, index, _tiles_in(truth, index, truth_name))
    covered = _CoveredImages.of(index, assigned.members)
    predicted = [*map(bool, covered.members)]
    base = job.files.category_base
    ids = chosen_ids(base, covered.images, predicted, job.names, index, truth, truth_name)
    job = replace(job, first_category=ids.first_category, categories=ids.categories)
    findings = [*predictions.findings, *index.findings, *assigned.findings]
    findings += [*covered.findings, *ids.findings]
    findings = [replace(finding, path=inside(finding.path, job.preds)) for finding in findings]
    kpt_shape = None
    if predictions.kpt_shape is not None:
        kpt_shape = list(predictions.kpt_shape)
    report = MergeReport(
        task=predictions.task,
        predictions=predictions.kind,
        index=index.said,
        names=list(job.names or ()),
        counts=MergeCounts(),
        left_out=covered.left_out,
        findings=findings,
        kpt_shape=kpt_shape,
        where=str(index.where),
    )
    pieces = _pieces(covered, ids, predictions)
    return MergePlan(job, pieces, report, _index_digest(covered.images, ids), index.by_names)


def _tiles_in(
    truth: DatasetYaml | Dataset | CocoTruth | None, index: Index, truth_name: str
) -> str:
    """The COCO JSON that was given as ground truth, if it lists tiles; else ""."""
    if not isinstance(truth, CocoTruth):
        return ""
    for image in truth.images:
        place = index.place(image_key(image.name))
        if place is not None and place[1] != indexes.WHOLE:
            return truth_name
    return ""


def _require_any(
    assigned: _AssignedPredictions, predictions: Predictions, index: Index, tiles: str
) -> None:
    """Raises:
    TilerError: there are predictions, but none for a tile.

    Args:
        tiles: a COCO JSON of the tiles that was given for one of the images.
    """
    keys = predictions.keys
    if not keys or assigned.members:
        return
    hint = ""
    if tiles:
        hint = f"; {tiles} lists the tiles, not the images: it is for --tiles, with --images"
    elif predictions.numeric and not index.ids:
        hint = (
            "; if these are image ids in a COCO JSON of the tiles, give that JSON as --tiles, with "
            "--images, the folder of the full images"
        )
    raise TilerError(
        f"{assigned.preds}: none of {len(keys)} predictions ({keys[0][:100]}, ...) is for a "
        f"tile of {index.where}{hint}"
    )


@dataclass(slots=True)
class _CoveredImages:
    """The images of the splits that predictions are for.

    Attributes:
        members: of each image, the indices of its predictions by tile.
        left_out: the other splits.
        findings: images of which only some blocks have predictions.
    """

    images: list[TiledImage]
    members: list[dict[int, int]]
    left_out: list[str]
    findings: list[Finding]

    @classmethod
    def of(cls, index: Index, members: dict[int, dict[int, int]]) -> _CoveredImages:
        """`members`: of the images by their number."""
        numbers = members or range(len(index.images))
        predicted: list[tuple[str, ...]] = []
        for number in numbers:
            predicted += _predicted_splits(index.images[number], members.get(number, {}))
        splits = _covered_splits(predicted)
        covered = cls([], [], [], [])
        others: set[str] = set()
        for number, image in enumerate(index.images):
            others.update(image.splits)
            if splits.intersection(image.splits):
                covered.add(image, members.get(number, {}), splits)
        covered.left_out += sorted(others - splits)
        return covered

    def add(self, image: TiledImage, tiles: dict[int, int], splits: set[str]) -> None:
        """Add an image; of one in blocks, the tiles that the covered splits have."""
        kept = [t for t, split in enumerate(image.tile_splits) if split in splits]
        if len(kept) < len(image.tile_splits):
            number = {tile: i for i, tile in enumerate(kept)}
            tiles = {number.get(tile, tile): row for tile, row in tiles.items()}
            image = image.take(kept)
            of = ", ".join(sorted(splits.intersection(image.splits)))
            missed = "in the full image, labels elsewhere would count as missed"
            self.findings.append(Finding(image.key, "D16", f"only its tiles of {of}; {missed}"))
        self.images.append(image)
        self.members.append(tiles)


def _predicted_splits(image: TiledImage, tiles: Iterable[int]) -> list[tuple[str, ...]]:
    """The splits that an image's predictions are for: one of several, or each of those whose tiles
    have some if the image is in blocks.
    """
    blocks = {image.tile_splits[t] for t in tiles if image.tile_splits and t != indexes.WHOLE}
    if not blocks:
        return [image.splits]
    return [(split,) for split in sorted(blocks)]


def _covered_splits(predicted: list[tuple[str, ...]]) -> set[str]:
    """The splits that predictions are for; an image in several splits counts for one that other
    images are in, if there is one.
    """
    covered = {splits[0] for splits in predicted if len(splits) == 1}
    for splits in predicted:
        if not covered.intersection(splits):
            covered.add(splits[0])
    return covered


def _index_digest(images: list[TiledImage], ids: Ids) -> str:
    """The digest of the images and tiles that predictions were looked up in."""
    content: list[Any] = []
    for image in images:
        geo = [image.geo] if image.geo else []
        content.append([image.key, image.width, image.height, image.names, *geo])
    if ids.of_truth:
        content += [ids.categories, ids.images]
    return hashlib.blake2b(msgspec.json.encode(content), digest_size=16).hexdigest()


def _unread(predictions: Predictions) -> set[str]:
    """The tiles whose predictions cannot be read: it is not known what was detected there."""
    names = set()
    for finding in predictions.findings:
        if finding.code == "D01":
            names.add(os.path.splitext(os.path.basename(finding.path))[0])
    return names


def _pieces(covered: _CoveredImages, ids: Ids, predictions: Predictions) -> list[Piece]:
    """The images with what was predicted for each."""
    keys = [image.key for image in covered.images]
    names = zip(labels_of(keys), ids_of(keys), ids.images, strict=True)
    unread = _unread(predictions)
    pieces = []
    for image, tiles, own_names in zip(covered.images, covered.members, names, strict=True):
        pieces.append(_piece(image, tiles, own_names, predictions, unread))
    return pieces


def _piece(
    image: TiledImage,
    tiles: dict[int, int],
    names: tuple[str, str, int | str],
    predictions: Predictions,
    unread: set[str],
) -> Piece:
    """An image with what was predicted on its tiles, and on all of it as one more tile.

    Args:
        tiles: index of the predictions by tile.
        names: label file, short name and image_id.
        unread: tiles whose predictions cannot be read.
    """
    predicted = sorted(tiles)
    others = sorted({*range(len(image.names))}.difference(tiles))
    silent, lost = [], []
    for tile in others:
        if image.names[tile] in unread:
            lost.append(tile)
        else:
            silent.append(tile)
    numbers = [tiles[tile] for tile in predicted]
    batch = predictions.batch(numbers)
    return Piece(
        image.key,
        *names,
        image.width,
        image.height,
        frames=_frames(image, predicted),
        silent=_frames(image, silent),
        unread=_frames(image, lost),
        batch=batch,
        predicted=bool(tiles),
        geo=image.geo,
    )


def _frames(image: TiledImage, tiles: list[int]) -> Frames:
    """Some of an image's tiles. WHOLE (-1) is the image itself, as a tile after the last."""
    whole = np.array([0, 0, image.width, image.height], np.float64)
    names = [*image.names, image.stem]
    index = np.array(tiles, np.int64)
    rects = np.concatenate([image.rects, whole[None]])[index]
    scale = np.append(image.scale, 1.0)[index]
    within = box.intersection(rects, whole)
    return Frames([names[tile] for tile in tiles], rects, scale, within)
