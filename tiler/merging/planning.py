"""What is to be merged: options checked, predictions read, every tile looked up."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tiler.datasets import index as indexes
from tiler.datasets.index import Index, TiledImage
from tiler.errors import TilerError
from tiler.findings import Finding, inside
from tiler.formats import coco_ground_truth, dataset_yaml, provenance
from tiler.formats.affine import Affine
from tiler.formats.coco_ground_truth import CocoTruth
from tiler.formats.dataset_yaml import DatasetYaml
from tiler.geometry import boxes as box
from tiler.merging.category_ids import chosen as ids_for
from tiler.merging.output import ids_of, labels_of
from tiler.merging.report import MergeCounts, MergeReport
from tiler.merging.work import MergeJob, Piece, dota_file
from tiler.options import MergeOptions, PredictionOptions, RunOptions
from tiler.options.values import path
from tiler.predictions import Frames, Predictions, Reading, open_predictions
from tiler.predictions.categories import COCO91
from tiler.stitching.competition import require_classes
from tiler.version import __version__

OPTIONS = (MergeOptions, PredictionOptions, RunOptions)


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What is to be done, all looked up.

    Attributes:
        by_names: the tiles are told by the names of predictions, no manifest lists them.
        places: where predictions, tiles and images lie, as far as they were used, by the options'
            names.
    """

    job: MergeJob
    pieces: list[Piece]
    report: MergeReport
    index: str
    by_names: bool
    places: dict[str, Path] = field(default_factory=dict)

    def head(self) -> provenance.ProvenanceHead:
        """The first line of merged.jsonl."""
        report, shape = self.report, self.report.kpt_shape
        options = {**self.job.merging.plain(), **self.job.files.plain()}
        return provenance.ProvenanceHead(
            __version__,
            provenance.SCHEMA,
            report.task,
            report.names,
            options,
            report.predictions,
            self.index,
            shape,
            self.by_names,
        )


def planned(
    given: str | Path,
    tiles: str | Path | None,
    images: str | Path | None,
    data: str | Path | None,
    options: dict[str, Any],
) -> tuple[MergePlan, RunOptions]:
    preds = path(given, "preds")
    tiles = None if tiles is None else path(tiles, "tiles")
    images = None if images is None else path(images, "images")
    data = None if data is None else path(data, "data")
    names = [{item.name for item in fields(cls)} for cls in OPTIONS]
    unknown = {
        key: value for key, value in options.items() if not any(key in known for known in names)
    }
    merging = MergeOptions.of({**{k: v for k, v in options.items() if k in names[0]}, **unknown})
    files = PredictionOptions.of({k: v for k, v in options.items() if k in names[1]})
    run = RunOptions.of({k: v for k, v in options.items() if k in names[2]})
    if files.affine == "world" and images is None:
        raise TilerError("--affine world looks for world files beside the images: say --images")
    if files.affine not in ("", "world", "pixels"):
        Affine.of(files.affine)
    merging.require_in_effect()
    files.require_in_effect()
    if not os.path.exists(preds):
        raise TilerError(f"{preds}: no such file or folder")
    truth = None if data is None else _classes(data)
    manifest = indexes.manifest_of(preds, tiles) if tiles or not images else None
    known = None if manifest is None else indexes.of_manifest(manifest)
    reading = _reading(files, known, truth)
    require_classes(merging, reading.names)
    _require_writable(files, reading.names)
    found = open_predictions(preds, reading)
    _require_used(merging, files, found.task, manifest)
    if known is None:
        if images is None:
            raise TilerError(
                f"{preds}: where do these tiles lie? Give --tiles with the output of tiler split, "
                "or --images with the full images if the tiles' names tell their places"
            )
        known = indexes.of_names(found.keys, images, files)
    job = MergeJob(merging, files, reading.names, str(preds), images or known.root)
    used = {"preds": preds, "tiles": manifest, "images": images}
    places = {name: place for name, place in used.items() if place is not None}
    return replace(
        _looked_up(job, found, known, truth, "" if data is None else data.name), places=places
    ), run


def _require_used(
    merging: MergeOptions, files: PredictionOptions, task: str, manifest: Path | None
) -> None:
    """Raises:
    TilerError: an option that was given says nothing of such predictions.
    """
    if task != "segment" and merging.parts != MergeOptions().parts:
        raise TilerError(
            f"--parts {merging.parts}: the predictions are {task}, and only outlines have parts"
        )
    for name in ("naming", "tile"):
        value = getattr(files, name)
        if manifest is not None and value != getattr(PredictionOptions(), name):
            raise TilerError(f"--{name} {value}: the tiles are told by {manifest}")


def _require_writable(files: PredictionOptions, names: tuple[str, ...] | None) -> None:
    """Raises:
    TilerError: classes that a format which is asked for cannot hold.
    """
    if files.category_base == "coco91" and names is not None and len(names) > len(COCO91):
        raise TilerError(
            f"--category-base coco91 is for COCO's {len(COCO91)} classes, got {len(names)}"
        )
    seen: dict[str, str] = {}
    for name in names or () if "dota" in files.export.split(",") else ():
        other = seen.setdefault(dota_file(name), name)
        if other != name:
            raise TilerError(
                f"--export dota: classes {other!r} and {name!r} would be one file "
                f"{dota_file(name)}; rename one"
            )


def _classes(data: Path) -> DatasetYaml | CocoTruth:
    """What tells class names and keypoints: a dataset.yaml, or a COCO ground truth."""
    return (
        coco_ground_truth.read(data) if data.suffix.lower() == ".json" else dataset_yaml.read(data)
    )


def _reading(
    files: PredictionOptions, known: Index | None, data: DatasetYaml | CocoTruth | None
) -> Reading:
    task = files.task
    if task == "auto" and known is not None:
        task = known.task
    # what was split is what was trained on
    told = [one for one in (known, data) if one is not None]
    names = next((one.names for one in told if one.names), None)
    shape = next((one.kpt_shape for one in told if one.kpt_shape), None)
    table = (
        None
        if known is None or known.categories is None
        else {id: k for k, id in enumerate(known.categories)}
    )
    if isinstance(data, CocoTruth) and data.names == names:
        table = data.categories
    return Reading(
        task, names, shape, files.assume_conf, files.conf_first, files.preds_base, categories=table
    )


def _looked_up(
    job: MergeJob,
    found: Predictions,
    known: Index,
    truth: DatasetYaml | CocoTruth | None,
    shown_truth: str,
) -> MergePlan:
    """Every prediction with its image and tile; those of no tile are reported."""
    numbers = known.numbered() if found.numeric else {}
    findings = [*found.findings, *known.findings]
    members: dict[int, list[tuple[int, int]]] = {}
    first: dict[tuple[int, int], int] = {}
    where = "labels" if os.path.isdir(os.path.join(job.preds, "labels")) else ""
    for i, key in enumerate(found.keys):
        place = known.place(numbers.get(key, key))
        file = os.path.join(where, f"{key}.txt")
        path = file if os.path.exists(os.path.join(job.preds, file)) else ""
        shown = "" if path else f"{key[:100]}: "
        if place is None:
            findings.append(
                Finding(
                    path,
                    "D10",
                    f"{shown}not a tile by the {known.said}; {found.counts[i]} rows left out",
                )
            )
            continue
        if place in first:
            other = found.keys[first[place]][:100]
            findings.append(
                Finding(
                    path, "D10", f"{shown}its tile has predictions in {other} already; left out"
                )
            )
            continue
        first[place] = i
        members.setdefault(place[0], []).append((place[1], i))
    if found.keys and not members:
        shown = found.keys[0][:100]
        raise TilerError(
            f"{job.preds}: none of {len(found.keys)} predictions ({shown}, ...) is for a tile of "
            f"{known.where}"
        )
    unread = {
        os.path.splitext(os.path.basename(finding.path))[0]
        for finding in found.findings
        if finding.code == "D01"
    }
    splits = _covered(
        [known.images[number].splits for number in members] or [p.splits for p in known.images]
    )
    left_out = sorted({split for image in known.images for split in image.splits} - splits)
    numbered = [n for n, image in enumerate(known.images) if splits.intersection(image.splits)]
    chosen = [known.images[n] for n in numbered]
    keys = [image.key for image in chosen]
    predicted = [n in members for n in numbered]
    ids = ids_for(job.files.category_base, chosen, predicted, job.names, known, truth, shown_truth)
    findings += ids.findings
    job = replace(job, base=ids.base, categories=ids.categories)
    called = zip(labels_of(keys), ids_of(keys), ids.images, strict=True)
    pieces = [
        _piece(image, sorted(members.get(n, [])), names, found, unread)
        for n, image, names in zip(numbered, chosen, called, strict=True)
    ]
    report = MergeReport(
        found.task,
        found.kind,
        known.said,
        list(job.names or ()),
        MergeCounts(),
        left_out,
        [replace(f, path=inside(f.path, job.preds)) for f in findings],
        None if found.kpt_shape is None else list(found.kpt_shape),
        where=str(known.where),
    )
    looked_up = [[p.key, p.width, p.height, p.names, *([p.geo] if p.geo else [])] for p in chosen]
    named = [ids.categories, ids.images] if ids.of_truth else []
    index = hashlib.blake2b(msgspec.json.encode([*looked_up, *named]), digest_size=16).hexdigest()
    return MergePlan(job, pieces, report, index, known.by_names)


def _covered(given: list[tuple[str, ...]]) -> set[str]:
    """The splits that predictions are for; an image in several splits counts for one that others
    tell of.
    """
    covered = {splits[0] for splits in given if len(splits) == 1}
    for splits in given:
        if not covered.intersection(splits):
            covered.add(splits[0])
    return covered


def _piece(
    image: TiledImage,
    members: list[tuple[int, int]],
    names: tuple[str, str, int | str],
    found: Predictions,
    unread: set[str],
) -> Piece:
    """An image with what was predicted for it: on its tiles, and on all of it as one more tile.

    Args:
        names: label file, name and image_id.
        unread: tiles whose predictions could not be read; it is not known what they saw.
    """
    told = [tile for tile, _ in members]
    others = sorted(set(range(len(image.names))).difference(told))
    silent = [tile for tile in others if image.names[tile] not in unread]
    lost = [tile for tile in others if image.names[tile] in unread]
    return Piece(
        image.key,
        *names,
        image.width,
        image.height,
        _frames(image, told),
        _frames(image, silent),
        _frames(image, lost),
        found.batch([i for _, i in members]),
        bool(members),
        image.geo,
    )


def _frames(image: TiledImage, tiles: list[int]) -> Frames:
    """Some of an image's tiles; WHOLE is the image itself, as a tile after the last."""
    whole = np.array([0, 0, image.width, image.height], np.float64)
    names = [image.stem if tile == indexes.WHOLE else image.names[tile] for tile in tiles]
    chosen = np.array(tiles, np.int64)
    rects = np.concatenate([image.rects, whole[None]])[chosen]
    return Frames(names, rects, np.append(image.scale, 1.0)[chosen], box.intersection(rects, whole))
