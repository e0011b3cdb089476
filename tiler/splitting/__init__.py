"""`tiler split`: a dataset of large images becomes a dataset of tiles, ready to train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.images import lossless
from tiler.options import RunOptions, SplitOptions
from tiler.options.fields import partition
from tiler.run.transaction import produced
from tiler.splitting.building import SplitRun
from tiler.splitting.output import stands, target_of
from tiler.splitting.report import SplitReport
from tiler.splitting.work import Progress
from tiler.tiling.planning import check_grid

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
        data: a dataset.yaml, a folder with one, or a COCO instances JSON.
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
    dataset = find(Path(data), None if images is None else Path(images), chosen)
    target = target_of(dataset, chosen, out)
    work = SplitRun(dataset, chosen, run, target, progress)
    if run.dry_run:
        return work.dry_run()

    def output_stands() -> bool:
        return stands(target, chosen, run.overwrite)

    return produced(target, output_stands, work.unchanged, work.build)


def _require_jpeg_library(chosen: SplitOptions) -> None:
    if chosen.jpeg == "keep":
        missing = lossless.missing()
        if missing is not None:
            raise TilerError(f"--jpeg keep: {missing}")
