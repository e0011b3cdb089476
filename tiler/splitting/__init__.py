"""`tiler split`: a dataset of large images becomes a dataset of tiles, ready to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiler.datasets import ignoring, mask_sets, unlabelled
from tiler.datasets.dataset import Dataset
from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.images import lossless
from tiler.options import RunOptions, SplitOptions
from tiler.options.fields import partition
from tiler.options.values import optional_path, path
from tiler.run.transaction import produced
from tiler.splitting.building import SplitRun
from tiler.splitting.mask_tiles import require_blank
from tiler.splitting.output import stands, target_of
from tiler.splitting.planning import check_grid
from tiler.splitting.report import SplitReport
from tiler.splitting.work import Progress

__all__ = ["Progress", "SplitReport", "split"]


def split(
    data: str | Path,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> SplitReport:
    """Cut a dataset's images into overlapping tiles with clipped labels: a new dataset.

    Args:
        data: a dataset.yaml; annotations of another format, such as COCO's; a folder with either;
            or images alone.
        out: the output folder; default `<dataset root>-tiles-<tile>`, beside the root.
        images: the images' folder, of a COCO JSON.
        progress: called as sources are done.
        options: any of `SplitOptions` (tile, overlap, edge, scale, task, min_visible, ...)
            and `RunOptions` (workers, backend, overwrite, dry_run).

    Returns:
        The conservation report: counts for each split and class, what was lost, what was
        rejected. Its `exit_code()` is that of the command.

    Raises:
        TilerError: unusable input or options, or an output that must not be replaced.
        Unfinished: a full disk, a lost worker, another run on the same output. What is
            done is kept beside `out`, and the same call resumes it.

    >>> split("no/such/dataset.yaml")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/dataset.yaml: no such file or folder
    """
    split_options, run_options = partition(options, SplitOptions, RunOptions)
    chosen = SplitOptions.of(split_options)
    run = RunOptions.of(run_options)
    chosen.require_in_effect()
    check_grid(chosen)
    _require_jpeg_library(chosen)
    dataset = find(path(data, "data"), optional_path(images, "images"), chosen)
    dataset = mask_sets.settled(dataset, chosen.task, chosen.frame)
    require_blank(dataset, chosen)
    chosen = replace(chosen, ignored=ignoring.decide(dataset, chosen.ignored))
    dataset.findings.extend(_unlabelled(dataset, chosen))
    target = target_of(dataset, chosen, optional_path(out, "out"))
    work = SplitRun(dataset, chosen, run, target, progress)
    if run.dry_run:
        return work.dry_run()

    def output_stands() -> bool:
        return stands(target, chosen, run.overwrite)

    return produced(target, output_stands, work.unchanged, work.build)


def _unlabelled(dataset: Dataset, chosen: SplitOptions) -> list[Finding]:
    """What to say of splits without labels.

    Raises:
        TilerError: train or val is such a split, and that was not asked for.
    """
    if chosen.unlabelled or not dataset.rows:
        return []
    found = unlabelled.findings(dataset)
    for finding in found:
        if finding.level == "error":
            raise TilerError(
                f"{dataset.file}: {finding.message}; --unlabelled takes them for background"
            )
    return found


def _require_jpeg_library(chosen: SplitOptions) -> None:
    if chosen.jpeg == "keep":
        missing = lossless.missing()
        if missing is not None:
            raise TilerError(f"--jpeg keep: {missing}")
