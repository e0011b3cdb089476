"""`tiler merge`: predictions on tiles become the detections of the full images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import UnknownImage, did_you_mean, printable
from tiler.formats import provenance
from tiler.geometry.instances import Instances, empty
from tiler.merging.building import (
    MergeExecution,
    build,
    closed,
    count,
    require_none,
    unchanged,
    works,
)
from tiler.merging.explaining import Fate, explain
from tiler.merging.output import default, owned_in
from tiler.merging.planning import MergePlan, Preds, paths_of, planned
from tiler.merging.report import MergeReport
from tiler.merging.training import TRAINING_IMAGES
from tiler.options import MergeOptions, PredictionOptions, RunOptions
from tiler.options.signatures import takes
from tiler.options.values import optional_path
from tiler.predictions import Frames, Reading
from tiler.predictions.yolo_folder import open_folder
from tiler.run import notes
from tiler.run.output_folder import occupied, require_apart, resolved
from tiler.run.transaction import produced
from tiler.stitching.detections import ImageDetections, Library, dataframe

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import MergeArguments

__all__ = ["Fate", "MergeReport", "Merged", "default", "explain", "merge"]


class Merged(Mapping[str, ImageDetections]):
    """The detections of the full images: a mapping from each image's path to its detections.

    `merged[source]` are `ImageDetections`, in pixels: held in memory, or read from the output when
    there is one. The end of a path does for `source`, such as the file's name, if no other image
    has it.

    Attributes:
        report: counts and findings; its `exit_code()` is that of the command.
        sources: the images' paths, sorted.
        sizes: width and height of each.
        predicted: the images that there are predictions for, if only an empty file.
        block_tiles: of images divided in blocks of which only some were predicted, `(T, 4)` xyxy of
            these tiles.
        by_names: no manifest lists the tiles: images without predictions may not have been cut.
    """

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(
        self, report: MergeReport, plan: MergePlan, held: dict[str, Instances] | None
    ) -> None:
        pieces = plan.pieces
        self.report = report
        self.predicted = frozenset(piece.key for piece in pieces if piece.predicted)
        self.block_tiles = {piece.key: piece.rects for piece in pieces if piece.some_blocks}
        self.by_names = plan.by_names
        self._held = held
        self._labels = {piece.key: piece.label for piece in pieces}
        self.sources = [piece.key for piece in pieces]
        self.sizes = {piece.key: (piece.width, piece.height) for piece in pieces}

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __contains__(self, source: object) -> bool:
        return isinstance(source, str) and len(self._named(source)) == 1

    def __getitem__(self, source: str) -> ImageDetections:
        """Raises:
        UnknownImage: a KeyError; no image is called so, or several are.
        """
        found = self._named(source)
        if len(found) != 1:
            raise self._unknown(source, found)
        key = found[0]
        instances = self._read(key) if self._held is None else self._held[key]
        return ImageDetections.of(instances, self.report.names, self.sizes[key])

    def _named(self, source: str) -> list[str]:
        """The images whose path this is, or else the end of whose path."""
        if source in self.sizes:
            return [source]
        return [key for key in self.sources if key.endswith(f"/{source}")]

    def _unknown(self, source: str, found: Sequence[str]) -> UnknownImage:
        """Why a name does not mean an image."""
        if found:
            several = ", ".join(found[:3])
            return UnknownImage(f"{source}: {len(found)} images have this name ({several}, ...)")
        known = [*self.sources, *map(os.path.basename, self.sources)]
        hint = did_you_mean(source, known)
        if known and not hint:
            hint = f", such as {known[0]}"
        return UnknownImage(f"{source}: no such image among {len(self)}{hint}")

    def to_dataframe(self, library: Library | None = None) -> Any:
        """A row for each detection, with its image (source); see `ImageDetections`.

        Raises:
            TilerError: neither pandas nor polars is installed.
        """
        table: dict[str, list[Any]] = {"source": []}
        for source, found in self.items():
            table["source"] += [source] * len(found)
            for name, values in found.columns().items():
                table.setdefault(name, []).extend(values)
        return dataframe(table, library)

    def __repr__(self) -> str:
        return printable(f"Merged({self.report.title()})")

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def _read(self, source: str) -> Instances:
        """From the label file, which holds nine digits of every number."""
        task, shape = self.report.task, self.report.kpt_shape
        kpt_shape = None if shape is None else (shape[0], shape[1])
        path = Path(self.report.out, "labels", f"{self._labels[source]}.txt")
        if not path.exists() or not path.stat().st_size:  # rejected, or nothing was detected
            none = empty(task, shape[0] if shape else 0)
            return replace(none, conf=np.empty(0))
        width, height = self.sizes[source]
        whole = np.array([[0, 0, width, height]], np.float64)
        frames = Frames([source], whole, scale=np.ones(1))
        reading = Reading(task, tuple(self.report.names) or None, kpt_shape)
        labels = open_folder(str(path.parent), [path.name], reading)
        return labels.batch([0]).read(frames).instances


@takes(MergeOptions, PredictionOptions, RunOptions)
def merge(
    preds: Preds,
    *,
    tiles: str | Path | None = None,
    images: str | Path | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[MergeArguments],
) -> Merged:
    """Merge files of predictions on tiles into the detections of the full images.

    Args:
        preds: a folder of YOLO txt, a run folder, a predictions.json, COCO results, SAHI's
            result.json, DOTA Task1 files, or supervision's CSV or JSON; or a list of these, of
            several models: an ensemble (`weights`).
        tiles: the output of `split`, or its tiles.jsonl. Default: the one that a training run's
            args.yaml leads to, or a tiles.jsonl in a folder above `preds`.
        images: the full images, where the names of tiles tell their places; only headers are read.
        data: a dataset.yaml for class names and keypoints, where no manifest has them; or a COCO
            ground truth, for its ids too.
        out: the output folder. Default: none, the detections are held in memory.
        strict: a row or file that is rejected is an error.
        progress: called with images done and all.
        options: any of `MergeOptions` (method, iou, conf, ...), `PredictionOptions` (task,
            assume_conf, export, ...) and `RunOptions` (workers, backend, overwrite, dry_run).

    Raises:
        TilerError: unusable predictions or options, or an output that must not be replaced.
        Unfinished: a full disk, a lost worker, another run on the same output. What is done
            is kept beside `out`, and the same call resumes it.

    >>> merge("no/such/run")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/run: no such file or folder
    """
    target = optional_path(out, "out")
    plan, run = planned(preds, tiles, images, data, options)
    execution = MergeExecution(run, strict, notes.watched("images merged", progress, notes.images))
    require_none(plan.report.findings, strict)
    if target is None or run.dry_run:
        result = _in_memory(plan, execution)
    else:
        result = _written(plan, execution, resolved(target), paths_of(preds))
    report = result.report
    lines = [*report.notes(report.where), report.title(), report.out]
    notes.finished("merge", lines, report.findings)
    return result


def _written(
    plan: MergePlan, execution: MergeExecution, target: Path, preds: Sequence[Path]
) -> Merged:
    """Merge into an output folder."""
    for place in preds:
        require_apart(target, place)
    head = plan.head()
    report = produced(
        target,
        lambda: occupied(
            target, provenance.NAME, execution.run.overwrite, owned_in, TRAINING_IMAGES
        ),
        lambda: unchanged(plan, target, head, execution),
        lambda staging: build(plan, staging, head, execution),
    )
    return Merged(report, plan, None)


def _in_memory(plan: MergePlan, execution: MergeExecution) -> Merged:
    """Merge without any output. A dry run makes its text all the same, but keeps no detections."""
    keep = not execution.run.dry_run
    if keep:
        plan = replace(plan, job=replace(plan.job, write=False))
    held: dict[str, Instances] = {}
    for item in works(plan, plan.pieces, execution):
        count(plan.report, item)
        if keep:
            held[item.outcome.key] = item.instances
    return Merged(closed(plan.report), plan, held)
