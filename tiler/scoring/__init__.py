"""`tiler score`: how well detections agree with the labels of the full images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.evaluation.inputs import EvaluationInputs, Predicted
from tiler.findings import Finding
from tiler.options import ReadingOptions, ScoreOptions
from tiler.options.signatures import takes
from tiler.options.values import optional_path, path
from tiler.run import notes
from tiler.scoring import detections, ground_truth, opening
from tiler.scoring.arguments import (
    MergeRecord,
    parsed,
    predictions,
    predictions_path,
    require_existing,
)
from tiler.scoring.blocks import within_blocks
from tiler.scoring.counting import Counting
from tiler.scoring.image_selection import (
    PredictedImages,
    chosen_keys,
    only,
    predicted_images,
    renumbered,
)
from tiler.scoring.measuring import measured
from tiler.scoring.metrics import Metrics, Seams, finite, summary
from tiler.scoring.plausibility import cut_off, require_spread
from tiler.scoring.preparing import Measurement
from tiler.scoring.tiling import Scored, Tiling, Unavailable, sizes_of, tiling

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import ScoreArguments
    from tiler.scoring.ground_truth import GroundTruthFiles, LabelledImages
    from tiler.scoring.opening import Opened

__all__ = ["Metrics", "Seams", "score"]


@takes(ScoreOptions, ReadingOptions)
def score(
    preds: str | Path | Mapping[str, Any],
    data: str | Path,
    *,
    split: str | None = None,
    tiles: str | Path | None = None,
    tile_preds: str | Path | None = None,
    images: str | Path | None = None,
    **options: Unpack[ScoreArguments],
) -> Metrics:
    """Score detections on full images against their labels.

    Args:
        preds: what `tiler merge` wrote or returned, any predictions that it reads (in the frame of
            the full images), or detections by image in memory, whatever `tiler.stitch` takes for
            those of a tile; or a list of Ultralytics `Results`, which know their images' paths.
        data: a dataset.yaml, a folder with one, or a COCO ground truth JSON.
        split: of the dataset: one, several ("train,val"), or all; "predicted" are those with
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
    labels, folder = path(data, "data"), optional_path(images, "images")
    on_tiles, layout = optional_path(tile_preds, "tile_preds"), optional_path(tiles, "tiles")
    chosen, reading, merge = parsed(options, predictions_path(preds))
    chosen.require_in_effect()
    _require_analysis(chosen, {"tiles": tiles, "tile-preds": tile_preds})
    given = predictions(preds)
    ground = ground_truth.find(labels, folder, reading.task, chosen)
    if isinstance(given, Path):
        opened = opening.open_files(given, ground, split, reading, merge.reading, chosen.areas)
    else:
        opened = opening.open_held(given, ground, split, reading, chosen.areas)
    if chosen.areas == "mask" and opened.task in ("detect", "obb"):
        raise TilerError(
            "--areas mask: boxes are compared here, and only outlines and poses have another area"
        )
    job = _ScoreJob(given, chosen, ground, opened, merge, layout, on_tiles)
    inputs = _read(job)
    metrics = _scored(job, inputs, start)
    notes.finished("score", [metrics.line()], metrics.findings)
    return metrics


def _require_analysis(options: ScoreOptions, given: Mapping[str, object]) -> None:
    """Raises:
    TilerError: what only analysis uses is given, and none is made.
    """
    if options.analysis != "none":
        return
    for name, value in given.items():
        if value is not None:
            raise TilerError(f"--{name} {value}: --analysis none does not use it")


@dataclass(frozen=True, slots=True, eq=False)
class _ScoreJob:
    """What is to be scored: arguments that were checked, files that were found.

    Attributes:
        given: the predictions: a path, or those in memory by image.
        tiles: the output of tiler split, or its manifest, if the user gives it.
        tile_preds: the predictions on tiles, if the user gives them.
    """

    given: Path | Mapping[str, Any]
    options: ScoreOptions
    ground: GroundTruthFiles
    opened: Opened
    merge: MergeRecord
    tiles: Path | None
    tile_preds: Path | None

    @property
    def file(self) -> Path | None:
        """Where the predictions lie."""
        if isinstance(self.given, Path):
            return self.given
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Inputs:
    """Labels and detections of the same images.

    Attributes:
        images: with their labels.
        detections: all that were read.
        boxes: of outlines and poses, those of the detections.
        predicted: which of the images have predictions.
        findings: what was noticed about the detections.
    """

    images: LabelledImages
    detections: Predicted
    boxes: Predicted | None
    predicted: PredictedImages
    findings: list[Finding]

    def of_predicted(self) -> _Inputs:
        """The same without images that have no predictions.

        Raises:
            TilerError: none has any.
        """
        chosen = self.predicted.predicted
        if not chosen.any():
            raise TilerError("--only-predicted: there are no predictions for any image")
        boxes = None
        if self.boxes is not None:
            boxes = renumbered(self.boxes, chosen)
        return replace(
            self,
            images=only(chosen, self.images),
            detections=renumbered(self.detections, chosen),
            boxes=boxes,
            predicted=PredictedImages.all(int(chosen.sum())),
        )


def _read(job: _ScoreJob) -> _Inputs:
    """All labels and detections of the images that are scored."""
    ground = job.ground
    opened = job.opened
    known_sizes = cache(partial(sizes_of, job.file))
    images = ground_truth.read(ground, opened.split, opened.task, known_sizes)
    images, outside = within_blocks(job.given, images)
    found, boxes, findings = detections.read(opened, images.sizes, len(ground.names))
    findings = outside + findings
    predicted = predicted_images(job.given, images.keys, opened.images, job.tiles)
    inputs = _Inputs(images, found, boxes, predicted, findings)
    if job.options.only_predicted:
        return inputs.of_predicted()
    return inputs


def _scored(job: _ScoreJob, inputs: _Inputs, start: float) -> Metrics:
    """The numbers of what was read.

    Args:
        start: CPU seconds at which reading began.
    """
    images = inputs.images
    names = job.ground.names
    counting = Counting.of(images.labels, names, job.options, job.opened.kept)
    labels = counting.those_of(images.labels)
    found = counting.those_of(inputs.detections)
    sample = EvaluationInputs(labels, found, len(images.keys), len(names), job.opened.task)
    rows = np.bincount(inputs.detections.image, minlength=len(images.keys))
    if job.opened.boxes == "auto":
        require_spread(labels, found)
    findings = inputs.findings + cut_off(job.file, rows, images.keys)
    asked = Measurement(
        sample,
        names,
        images.keys,
        job.options,
        card=_card(job, inputs),
        boxes=_box_sample(inputs, counting, sample),
        unreadable=job.opened.unreadable,
    )
    look = _tiling_of(job, images, found, counting)
    reading = time.process_time() - start

    metrics = measured(asked, look)
    if inputs.predicted.unsure.any():
        # of some images it is not known whether they count
        metrics = _with_predicted_only(metrics, inputs.predicted, job.options)
    findings = [*_findings(job, images), *findings, *metrics.findings]
    speed = {"reading": reading, **metrics.speed}
    return replace(
        metrics,
        findings=findings,
        root=job.ground.root,
        listed=job.ground.coco is None,
        inputs=_folders(job),
        speed=speed,
    )


def _box_sample(
    inputs: _Inputs, counting: Counting, sample: EvaluationInputs
) -> EvaluationInputs | None:
    """Of outlines and poses, the same sample with their boxes."""
    labels = inputs.images.boxes
    if inputs.boxes is None or labels is None:
        return None
    counted_labels = counting.those_of(labels)
    counted_boxes = counting.those_of(inputs.boxes)
    return EvaluationInputs(counted_labels, counted_boxes, sample.images, sample.classes)


def _tiling_of(
    job: _ScoreJob, images: LabelledImages, found: Predicted, counting: Counting
) -> Callable[[], Tiling | Unavailable]:
    """Finds out what is known of the tiles.

    Raises:
        TilerError: the predictions on tiles that are given do not exist.
    """
    on_tiles = job.tile_preds or job.merge.preds
    if on_tiles is not None:
        require_existing(on_tiles, f"--tile-preds {on_tiles}")
    scored = Scored(
        job.file,
        images.keys,
        images.sizes,
        found,
        job.ground.names,
        job.opened.reading,
        job.opened.renamed,
        counting.counts,
    )
    return partial(tiling, scored, job.tiles or job.merge.tiles, on_tiles)


def _card(job: _ScoreJob, inputs: _Inputs) -> dict[str, Any]:
    """What the card says of the input."""
    images = inputs.images
    silent = ~inputs.predicted.predicted
    return {
        "data": job.ground.file.name,
        "split": job.opened.split or None,
        "predictions": job.opened.kind,
        "task": job.opened.task,
        "images": len(images.keys),
        "images_without_predictions": int(silent.sum()),
        "labels_without_predictions": int(silent[images.labels.image].sum()),
        "classes": len(job.ground.names),
        "area": {"labels": images.area, "detections": job.opened.area},
        "conf": job.options.conf,
        "options": job.options.plain(),
    }


def _findings(job: _ScoreJob, images: LabelledImages) -> list[Finding]:
    """What was noticed about the files."""
    ground = job.ground
    return [*ground.findings, *ground.outside, *images.findings, *job.opened.findings]


def _folders(job: _ScoreJob) -> tuple[Path, ...]:
    """Predictions, and folders of images and labels, that were read."""
    if job.file is None:
        return job.ground.folders
    return (*job.ground.folders, job.file)


def _with_predicted_only(
    metrics: Metrics, images: PredictedImages, options: ScoreOptions
) -> Metrics:
    """With the main numbers of the images with predictions alone, and a finding that says why."""
    sample = metrics.sample
    kept = images.predicted
    keys = chosen_keys(metrics.keys, kept)
    fewer = replace(
        sample,
        labels=renumbered(sample.labels, kept),
        detections=renumbered(sample.detections, kept),
        images=len(keys),
    )
    plain = replace(options, analysis="none")
    of_fewer = measured(Measurement(fewer, metrics.names, keys, plain), _no_tiling)
    numbers = {
        "images": len(keys),
        "coco": of_fewer.coco,
        "ultralytics": summary(of_fewer.box),
    }
    every = len(kept)
    unsure = int(images.unsure.sum())
    message = (
        f"{unsure} of {every} images have no predictions, and no manifest tells whether they were "
        f"cut and looked at: AP {_ap(metrics)} of all {every} images, AP {_ap(of_fewer)} of the "
        f"{len(keys)} with predictions; --tiles or --only-predicted settles it"
    )
    return replace(metrics, only_predicted=numbers, findings=[Finding("", "S03", message)])


def _no_tiling() -> Unavailable:
    return Unavailable("--analysis none")


def _ap(metrics: Metrics) -> str:
    value = finite(metrics.coco["AP"])
    return "n/a" if value is None else f"{value:.3f}"
