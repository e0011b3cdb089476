"""`tiler split`: a dataset of large images becomes a dataset of tiles, ready to train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.options import RunOptions, SplitOptions
from tiler.options.fields import partition
from tiler.options.signatures import takes
from tiler.options.values import optional_path, path
from tiler.run import notes
from tiler.run.transaction import produced
from tiler.splitting.building import SplitRun
from tiler.splitting.opening import opened_split
from tiler.splitting.output import recorded, stands, stood_in, target_of
from tiler.splitting.report import SplitReport
from tiler.splitting.work import Progress

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import SplitArguments

__all__ = ["Progress", "SplitReport", "split"]


@takes(SplitOptions, RunOptions)
def split(
    data: str | Path,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[SplitArguments],
) -> SplitReport:
    """Cut a dataset's images into overlapping tiles with clipped labels: a new dataset.

    Args:
        data: a dataset.yaml; annotations of another format, such as COCO's; a folder with either;
            or images alone.
        out: the output folder; default `<dataset root>-tiles-<tile>` (or `-tiles-grid-3x4`), beside
            the root.
        images: the images' folder, of a COCO JSON.
        progress: called as sources are done.
        options: any of `SplitOptions` (tile, grid, overlap, edge, scale, roi, task, ...)
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
    run = RunOptions.of(run_options)
    opened = opened_split(path(data, "data"), optional_path(images, "images"), split_options, run)
    dataset, chosen, regions = opened.dataset, opened.chosen, opened.roi
    if chosen.layout == "flat":  # others have no dataset.yaml
        dataset.findings.extend(stood_in(dataset))
    target = target_of(dataset, chosen, optional_path(out, "out"))
    watched = notes.watched("images cut", progress, lambda now: (now.done, now.total))
    work = SplitRun(opened, run, target, watched)

    def output_stands() -> bool:
        return stands(target, recorded(chosen, regions), run.overwrite)

    if run.dry_run:
        report = work.dry_run()
    else:
        report = produced(target, output_stands, work.unchanged, work.build)
    lines = [report.kind(report.root), report.title(), report.out]
    notes.finished("split", lines, report.findings)
    return report
