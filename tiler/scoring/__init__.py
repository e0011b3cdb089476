"""`tiler score`: how well detections agree with the labels of the full images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.evaluation.inputs import EvaluationInputs, GroundTruth, Predicted
from tiler.evaluation.regions import dropped
from tiler.findings import Finding
from tiler.formats import plain_yaml, provenance
from tiler.formats.locations import located
from tiler.options import ReadingOptions, ScoreOptions
from tiler.options.values import path
from tiler.predictions import FULL
from tiler.scoring import detections, ground_truth
from tiler.scoring.image_selection import Looked, looked, only, renumbered
from tiler.scoring.measuring import measured
from tiler.scoring.metrics import Metrics, Seams, finite, summary
from tiler.scoring.tiling import Scored, sizes_of, tiling

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.scoring.ground_truth import LabelledImages
    from tiler.types import Bools, Ints

FEW = 20  # labels or detections, of which nothing is concluded
CORNER = 0.6  # of where most labels lie

__all__ = ["Metrics", "Seams", "score"]


def score(
    preds: str | Path | Mapping[str, Any],
    data: str | Path,
    *,
    split: str | None = None,
    tiles: str | Path | None = None,
    tile_preds: str | Path | None = None,
    images: str | Path | None = None,
    **options: Any,
) -> Metrics:
    """Score detections on full images against their labels.

    Args:
        preds: what `tiler merge` wrote or returned, any predictions that it reads (in the frame of
            the full images), or detections by image in memory, whatever `tiler.stitch` takes for
            those of a tile; or a list of Ultralytics `Results`, which know their images' paths.
        data: a dataset.yaml, a folder with one, or a COCO ground truth JSON.
        split: of the dataset: one, some ("train,val"), or all; "predicted" are those with
            predictions. Default: the one whose images the predictions are for.
        tiles: the output of `tiler split`. Default: what the predictions lead to.
        tile_preds: the predictions on tiles, before they were merged. Default: what `preds` is
            named after.
        images: the images' folder, of a COCO JSON; only the report looks at them.
        options: any of `ScoreOptions` (protocol, bins, max_dets, ...) and `ReadingOptions` (task,
            assume_conf, ...).

    Raises:
        TilerError: unusable predictions, labels or options, or predictions that are not in the
            frame of the images.

    >>> score("no/such/run", "dataset.yaml")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/run: no such file or folder
    """
    start = time.process_time()
    chosen, reading, before = _options(options, preds)
    chosen.require_in_effect()
    for name, value in (("tiles", tiles), ("tile-preds", tile_preds)):
        if value is not None and chosen.analysis == "none":
            raise TilerError(f"--{name} {value}: --analysis none does not use it")
    given = _path(preds)
    if given is not None and not os.path.exists(given):
        raise TilerError(f"{given}: no such file or folder")
    held = {} if given is not None else _held(preds)
    ground = ground_truth.find(
        path(data, "data"), None if images is None else path(images, "images"), reading.task
    )
    if given is not None:
        opened = detections.open_files(given, ground, split, reading, before.reading, chosen.areas)
    else:
        opened = detections.open_held(held, ground, split, reading, chosen.areas)
    if chosen.areas == "mask" and opened.task in ("detect", "obb"):
        raise TilerError(
            "--areas mask: boxes are compared here, and only outlines and poses have another area"
        )
    labelled = ground_truth.read(ground, opened.split, opened.task, cache(partial(sizes_of, given)))
    found, found_boxes, noticed = detections.read(opened, labelled.sizes, len(ground.names))
    where = None if tiles is None else path(tiles, "tiles")
    seen = looked(held if given is None else given, labelled.keys, opened.images, where)
    if chosen.only_predicted:
        found_boxes = None if found_boxes is None else renumbered(found_boxes, seen.predicted)
        labelled, found, seen = _only_predicted(labelled, found, seen)
    names = ground.names
    full = _full(given, np.bincount(found.image, minlength=len(labelled.keys)), labelled.keys)
    counted = _counted(labelled.truth, names, chosen)
    labels = labelled.truth.take(counted(labelled.truth.instances, labelled.truth.image))
    found = found.take(counted(found.instances, found.image))
    noticed += [*_in_a_corner(labels, found), *full]
    sample = EvaluationInputs(labels, found, len(labelled.keys), len(names), opened.task)
    boxes = None
    if found_boxes is not None and labelled.boxes is not None:
        of_labels = labelled.boxes.take(counted(labelled.boxes.instances, labelled.boxes.image))
        of_found = found_boxes.take(counted(found_boxes.instances, found_boxes.image))
        boxes = EvaluationInputs(of_labels, of_found, sample.images, sample.classes)
    on_tiles = before.preds if tile_preds is None else path(tile_preds, "tile_preds")
    if on_tiles is not None and not os.path.exists(on_tiles):
        raise TilerError(f"--tile-preds {on_tiles}: no such file or folder")
    scored = Scored(
        given, labelled.keys, labelled.sizes, found, names, opened.reading, opened.renamed, counted
    )
    look = partial(tiling, scored, where or before.tiles, on_tiles)
    card: dict[str, Any] = {
        "data": ground.file.name,
        "split": opened.split or None,
        "predictions": opened.kind,
        "task": opened.task,
        "images": len(labelled.keys),
        "classes": len(names),
        "area": {"labels": labelled.area, "detections": opened.area},
        "refused_by_pycocotools": opened.refused,
        "conf": chosen.conf,
        "options": chosen.plain(),
    }
    read = time.process_time() - start
    metrics = measured(sample, names, labelled.keys, chosen, look, card, boxes)
    fewer = _of_predicted(sample, names, labelled.keys, seen, chosen)
    if fewer is not None:
        noticed.append(_unsure(seen, metrics, fewer))
        metrics = replace(metrics, only_predicted=fewer)
    findings = [*ground.findings, *ground.outside, *labelled.findings, *opened.findings, *noticed]
    inputs = (*ground.folders, *(() if given is None else (given,)))
    return replace(
        metrics,
        findings=findings,
        root=ground.root,
        listed=ground.coco is None,
        inputs=inputs,
        speed={"reading": read, **metrics.speed},
    )


@dataclass(frozen=True, slots=True)
class _Before:
    """Where predictions on tiles and the tiles lie, by what `merge` wrote down; and how these are
    read.
    """

    preds: Path | None
    tiles: Path | None
    reading: ReadingOptions


def _options(given: dict[str, Any], preds: Any) -> tuple[ScoreOptions, ReadingOptions, _Before]:
    known = {item.name for item in fields(ReadingOptions)}
    scoring = {name: value for name, value in given.items() if name not in known}
    reading = {name: value for name, value in given.items() if name in known}
    return ScoreOptions.of(scoring), ReadingOptions.of(reading), _before(_path(preds), reading)


def _before(preds: Path | None, reading: dict[str, Any]) -> _Before:
    """By the args.yaml that lies beside merged predictions; options that are given win."""
    file = (preds or Path()) / "args.yaml"
    if preds is None or not (preds / provenance.NAME).is_file() or not file.is_file():
        return _Before(None, None, ReadingOptions.of(reading))
    content = plain_yaml.load(file)
    said = {
        item.name: content[item.name] for item in fields(ReadingOptions) if item.name in content
    }
    places = located(content, file)
    tiles = places.get("tiles")
    try:
        how = ReadingOptions.of({**said, **reading})
    except TilerError as error:
        raise TilerError(f"{file}: {error}") from None
    return _Before(
        places.get("preds"), tiles if tiles is not None and tiles.is_file() else None, how
    )


def _only_predicted(
    labelled: LabelledImages, found: Predicted, seen: Looked
) -> tuple[LabelledImages, Predicted, Looked]:
    if not seen.predicted.any():
        raise TilerError("--only-predicted: there are no predictions for any image")
    every = np.ones(int(seen.predicted.sum()), bool)
    return only(seen.predicted, labelled), renumbered(found, seen.predicted), Looked(every, ~every)


def _of_predicted(
    sample: EvaluationInputs,
    names: tuple[str, ...],
    keys: Sequence[str],
    seen: Looked,
    options: ScoreOptions,
) -> dict[str, Any] | None:
    """The main numbers of the images with predictions alone, where of some others it is not known
    whether they count.
    """
    if not seen.unsure.any():
        return None
    kept = seen.predicted
    truth, found = renumbered(sample.labels, kept), renumbered(sample.detections, kept)
    fewer = EvaluationInputs(truth, found, int(kept.sum()), sample.classes, sample.task)
    some = [key for key, counts in zip(keys, kept.tolist(), strict=True) if counts]
    metrics = measured(fewer, names, some, replace(options, analysis="none"), lambda: "", {})
    return {"images": len(some), "coco": metrics.coco, "ultralytics": summary(metrics.box)}


def _unsure(seen: Looked, metrics: Metrics, fewer: dict[str, Any]) -> Finding:
    unsure, every = int(seen.unsure.sum()), len(seen.unsure)
    ap, of_some = (finite(value) for value in (metrics.coco["AP"], fewer["coco"]["AP"]))
    numbers = [f"AP {'n/a' if value is None else f'{value:.3f}'}" for value in (ap, of_some)]
    message = (
        f"{unsure} of {every} images have no predictions, and no manifest tells whether they were "
        "cut and looked at: "
        f"{numbers[0]} of all {every} images, {numbers[1]} of the {fewer['images']} with "
        "predictions; "
        "--tiles or --only-predicted settles it"
    )
    return Finding("", "S03", message)


def _path(preds: Any) -> Path | None:
    """Where predictions lie; None for those in memory. What `merge` wrote is read from there, all
    at once.
    """
    if isinstance(preds, str | Path):
        return Path(preds)
    report = getattr(preds, "report", None)
    out = getattr(report, "out", "")
    if out:
        return Path(out)
    return None


def _held(preds: Any) -> Mapping[str, Any]:
    """Detections in memory by image; Ultralytics' results name their image themselves."""
    if isinstance(preds, Mapping) or hasattr(preds, "sizes"):
        return cast("Mapping[str, Any]", preds)
    if (
        isinstance(preds, list | tuple)
        and preds
        and all(isinstance(getattr(one, "path", None), str) for one in preds)
    ):
        return {one.path: one for one in preds}
    found = type(preds).__name__
    raise TilerError(
        f"predictions are a path, what tiler.merge returns, or detections by image; got {found}"
    )


def _full(preds: Path | None, detections: Ints, keys: list[str]) -> list[Finding]:
    """Images with as many detections as a detector keeps at most; of merged ones, tiles, and images
    as merge was told.

    Args:
        detections: `(I,)` of each image.
    """
    file = None if preds is None else preds / provenance.NAME
    if file is None or not file.is_file():
        return _at_limit(
            "images",
            [key for key, count in zip(keys, detections.tolist(), strict=True) if count == FULL],
            FULL,
        )
    limit = int(provenance.read_head(file).options.get("max_det") or 0)
    images = [
        key
        for key, count in zip(keys, detections.tolist(), strict=True)
        if limit and count == limit
    ]
    tiles = [
        tile.name
        for source in provenance.read_sources(file)
        for tile in source.tiles
        if tile.rows == FULL
    ]
    return _at_limit("images", images, limit) + _at_limit("tiles", tiles, FULL)


def _at_limit(what: str, names: list[str], limit: int) -> list[Finding]:
    if not names:
        return []
    some = names[0][:100]
    message = (
        f"{what} with exactly {limit} rows: {len(names)} "
        f"({some}{', ...' if len(names) > 1 else ''})"
    )
    return [Finding("", "D11", f"{message}: the max_det may have cut off more; set it higher")]


def _in_a_corner(labels: GroundTruth, found: Predicted) -> list[Finding]:
    """Whether all detections lie in the top left of their images, and labels do not: pixels of
    tiles do that.
    """
    if min(len(labels), len(found)) < FEW:
        return []
    reach = found.instances.boxes[:, 2:].max(axis=0)
    usual = np.quantile(labels.instances.boxes[:, 2:], 0.9, axis=0)
    if (reach > CORNER * usual).any():
        return []
    message = (
        f"all {len(found)} detections lie within {reach[0]:g} x {reach[1]:g} px of the top left "
        "of images: of tiles?"
    )
    return [Finding("", "S02", message)]


def _counted(
    labels: GroundTruth, names: tuple[str, ...], options: ScoreOptions
) -> Callable[[Instances, Ints], Bools]:
    """Tells which labels or detections count: sure enough, and not in a region that is to be
    ignored.
    """
    region, kind = np.zeros(len(labels), bool), -1
    if options.ignore_class:
        if options.ignore_class not in names:
            hint = did_you_mean(options.ignore_class, names)
            raise TilerError(f"--ignore-class {options.ignore_class}: no class of the labels{hint}")
        kind = names.index(options.ignore_class)
        region = labels.instances.class_id == kind
    where, image = labels.instances.boxes[region], labels.image[region]

    def counted(instances: Instances, of: Ints) -> Bools:
        sure = (
            np.ones(len(instances), bool)
            if instances.conf is None
            else instances.conf >= options.conf
        )
        if not options.ignore_class:
            return sure
        return np.asarray(
            sure & (instances.class_id != kind) & ~dropped(instances.boxes, of, where, image)
        )

    return counted
