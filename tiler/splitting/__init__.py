"""`tiler split`: a dataset of large images becomes a dataset of tiles, ready to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiler.datasets import ignoring, mask_sets, unlabelled
from tiler.datasets.dataset import Dataset
from tiler.datasets.opening import find
from tiler.errors import TilerError, did_you_mean
from tiler.geometry.grids import by_axis
from tiler.images import lossless
from tiler.options import RunOptions, SplitOptions
from tiler.options.fields import partition
from tiler.options.signatures import takes
from tiler.options.values import background_shares, optional_path, path
from tiler.run import notes
from tiler.run.transaction import produced
from tiler.splitting.building import SplitRun
from tiler.splitting.dividing import divided
from tiler.splitting.mask_tiles import require_blank
from tiler.splitting.output import recorded, stands, stood_in, target_of
from tiler.splitting.report import SplitReport
from tiler.splitting.work import Progress
from tiler.tiling import roi
from tiler.tiling.planning import check_grid

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
    chosen = SplitOptions.of(split_options)
    run = RunOptions.of(run_options)
    chosen.require_in_effect()
    _require_one_grid(split_options, chosen)
    check_grid(chosen)
    _require_jpeg_library(chosen)
    regions = None if chosen.roi is None else roi.read(chosen.roi)
    dataset = find(path(data, "data"), optional_path(images, "images"), chosen)
    dataset = mask_sets.settled(dataset, chosen.task, chosen.frame)
    require_blank(dataset, chosen)
    chosen = replace(chosen, ignored=ignoring.decide(dataset, chosen.ignored))
    dataset.findings.extend(unlabelled.settle(dataset, chosen.unlabelled))
    _require_labels(dataset, chosen)
    dataset = divided(dataset, chosen, run)
    _require_known_splits(chosen, dataset.splits)
    dataset.findings.extend(stood_in(dataset))
    target = target_of(dataset, chosen, optional_path(out, "out"))
    watched = notes.watched("images cut", progress, lambda now: (now.done, now.total))
    work = SplitRun(dataset, chosen, run, target, regions, watched)

    def output_stands() -> bool:
        return stands(target, recorded(chosen, regions), run.overwrite)

    if run.dry_run:
        report = work.dry_run()
    else:
        report = produced(target, output_stands, work.unchanged, work.build)
    lines = [report.kind(report.root), report.title(), report.out]
    notes.finished("split", lines, report.findings)
    return report


def _require_one_grid(given: Mapping[str, Any], chosen: SplitOptions) -> None:
    """Raises:
    TilerError: the size of a tile is given beside the number of tiles.
    """
    if chosen.grid is not None and given.get("tile") is not None:
        tile = "x".join(map(str, dict.fromkeys(by_axis(chosen.tile))))
        raise TilerError(f"--tile {tile}: {chosen.idle()['tile']}; give one of the two")


def _require_labels(dataset: Dataset, chosen: SplitOptions) -> None:
    """Raises:
    TilerError: --background would leave out tiles of images that have no labels at all.
    """
    if not dataset.labelled and chosen.background != "all":
        why = "these images have no labels, so all tiles are background"
        raise TilerError(f"--background {chosen.background}: {why}")


def _require_known_splits(chosen: SplitOptions, splits: Sequence[str]) -> None:
    """Raises:
    TilerError: --background names a split that the dataset does not have.
    """
    _, by_split = background_shares(chosen.background)
    for name in by_split:
        if name not in splits:
            hint = did_you_mean(name, splits)
            there = f"the dataset has {', '.join(splits)}"
            raise TilerError(f"--background {chosen.background}: no split {name!r}; {there}{hint}")


def _require_jpeg_library(chosen: SplitOptions) -> None:
    if chosen.jpeg == "keep":
        missing = lossless.missing()
        if missing is not None:
            raise TilerError(f"--jpeg keep: {missing}")
