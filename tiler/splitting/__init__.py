"""`tiler split`: a dataset of large images becomes a trainable dataset of tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec

from tiler.datasets import tasks
from tiler.datasets.sources import Dataset, find
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import jsonl, manifest, plain_yaml, yolo
from tiler.images import lossless
from tiler.options import RunOptions, SplitOptions
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content
from tiler.run.staging import Staging, writing
from tiler.run.transaction import produced
from tiler.splitting import report as reports
from tiler.splitting.job import SplitJob
from tiler.splitting.output import (
    dataset_yaml_of,
    head_of,
    owned_in,
    require_whole,
    stands,
    target_of,
)
from tiler.splitting.planning import Quota, check_grid, quota
from tiler.splitting.report import SplitReport
from tiler.splitting.stretching import mapping
from tiler.splitting.work import Progress, fingerprints, key, outcomes

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
        refused. Its `exit_code()` is that of the command.

    Raises:
        TilerError: unusable input or options, or an output that must not be replaced.
        Unfinished: a full disk, a lost worker, another run on the same output. What is
            done is kept beside `out`, and the same call goes on with it.

    >>> split("no/such/dataset.yaml")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/dataset.yaml: no such file or folder
    """
    run_names = {item.name for item in fields(RunOptions)}
    chosen = SplitOptions.of({k: v for k, v in options.items() if k not in run_names})
    run = RunOptions.of({k: v for k, v in options.items() if k in run_names})
    chosen.require_in_effect()
    check_grid(chosen)
    if chosen.jpeg == "keep" and (said := lossless.missing()) is not None:
        raise TilerError(f"--jpeg keep: {said}")
    dataset = find(Path(data), None if images is None else Path(images))
    target = target_of(dataset, chosen, out)
    if run.dry_run:
        job, result = _begun(dataset, chosen, run, target)
        shown = reports.labels(dataset.names)
        for outcome in outcomes(job, dataset.sources, run, {}, progress):
            result.add(outcome, shown)
        return result

    def unchanged() -> SplitReport:
        return _verified(dataset, chosen, run, target, progress)

    def build(staging: Staging) -> SplitReport:
        job, result = _begun(dataset, chosen, run, target)
        if chosen.stretch != "none":
            job = replace(job, limits=mapping(job, dataset, run))
            result.stretch = job.limits or {}
        _build(job, dataset, chosen, run, staging, result, progress)
        return result

    return produced(target, lambda: stands(target, chosen, run.overwrite), unchanged, build)


def _begun(
    dataset: Dataset, chosen: SplitOptions, run: RunOptions, target: Path
) -> tuple[SplitJob, SplitReport]:
    """What is to be done, and the report of it, in which nothing is counted yet."""
    task, reason = tasks.decide(dataset, chosen.task)
    replace(chosen, task=task).require_in_effect()
    if chosen.ignored != "mask" and dataset.coco is None:
        raise TilerError(f"--ignored {chosen.ignored}: only COCO JSON marks regions to be ignored")
    job = _job(dataset, replace(chosen, task=task))
    if isinstance(chosen.background, float):
        job = replace(job, quotas=_quotas(job, dataset, run, chosen.background))
    result = reports.new(task, reason, dataset.splits, dataset.names, dataset.findings)
    result.root, result.out = str(dataset.root), str(target)
    return job, result


def _job(dataset: Dataset, options: SplitOptions) -> SplitJob:
    kpt_shape = dataset.kpt_shape if options.task == "pose" else None
    spec = yolo.Spec(options.task, len(dataset.names), kpt_shape)  # type: ignore[arg-type]
    classes = dataset.coco.classes if dataset.coco is not None else None
    return SplitJob(
        dataset.root,
        spec,
        options,
        classes=classes,
        coco_name=dataset.file.name,
        pages=dataset.pages,
    )


def _build(
    job: SplitJob,
    dataset: Dataset,
    chosen: SplitOptions,
    run: RunOptions,
    staging: Staging,
    result: SplitReport,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Everything into the staging tree."""
    head = head_of(job.spec, dataset, chosen)
    done = staging.begin(jsonl.line(head).decode().strip() + f"\t{job.quotas}\t{job.limits}")
    tree = staging.tree
    job = replace(job, tree=tree)
    folders = ["images", "labels"]
    folders += [f"{kind}/{name}" for kind in ("images", "labels") for name in dataset.splits]
    with writing():
        for folder in folders:
            tree.make(folder)
    suffixes: dict[tuple[str, str], str] = {}
    shown = reports.labels(dataset.names)
    with writing(), tree.create(manifest.NAME) as file:
        file.write(jsonl.line(head))
        for outcome in outcomes(job, dataset.sources, run, done, progress):
            result.add(outcome, shown)
            file.write(jsonl.line(outcome.entry))
            if staging.resumed:
                suffixes.update(
                    {
                        (outcome.entry.split, tile.name): outcome.suffix
                        for tile in outcome.entry.tiles
                    }
                )
            if not outcome.kept:
                staging.note(
                    key(outcome.entry.split, outcome.entry.source), msgspec.json.encode(outcome)
                )
    result.findings += _mixed(result, dataset)
    with writing():
        tree.write("dataset.yaml", dataset_yaml_of(job.spec, dataset, result.channels).encode())
        tree.write("args.yaml", plain_yaml.dump(_args(job, chosen)).encode())
        tree.write("report.json", result.encoded())
    if staging.resumed:
        staging.keep_only(owned_in(tree, suffixes), folders)


def _args(job: SplitJob, chosen: SplitOptions) -> dict[str, Any]:
    """Every option in effect, as it was given: a valid --config."""
    idle = job.options.idle()  # where the task is decided
    return {name: value for name, value in chosen.in_effect().items() if name not in idle}


def _mixed(result: SplitReport, dataset: Dataset) -> list[Finding]:
    """That images of different numbers of bands cannot be trained together, if there are such."""
    told = set(result.bands) | ({str(dataset.channels)} if dataset.pages else set())
    if len(told) < 2:
        return []
    found = ", ".join(
        f"{number} bands in {count} images" for number, count in sorted(result.bands.items())
    )
    wanted = f"; its channels: {dataset.channels}" if dataset.pages else ""
    return [
        Finding(dataset.file.name, "I14", f"{found}{wanted}; the trainer takes one number of bands")
    ]


def _quotas(job: SplitJob, dataset: Dataset, run: RunOptions, ratio: float) -> dict[str, Quota]:
    """Which empty tiles each split takes: a first pass over labels and headers counts them."""
    empty: dict[str, dict[str, int]] = {name: {} for name in dataset.splits}
    positive = dict.fromkeys(dataset.splits, 0)
    for outcome in outcomes(job, dataset.sources, replace(run, dry_run=True), {}, None):
        name = outcome.entry.split
        empty[name][outcome.entry.source] = outcome.counts.clean
        positive[name] += outcome.counts.tiles - outcome.counts.background
    seed = job.options.seed
    return {
        name: quota(seed, round(ratio * positive[name]), empty[name]) for name in dataset.splits
    }


def _verified(
    dataset: Dataset,
    chosen: SplitOptions,
    run: RunOptions,
    target: Path,
    progress: Callable[[Progress], None] | None,
) -> SplitReport:
    """The report of a complete output, if the sources still are what it was made from.

    Raises:
        TilerError: they are not, or tiles are missing; with the first difference.
    """
    with Folder(target) as folder:
        head = manifest.read_head(target / manifest.NAME, folder.opened)
        job = _job(dataset, replace(chosen, task=head.task))
        result = _report_of(folder)
        made = dataset_yaml_of(job.spec, dataset, result.channels).encode()
        if content(folder, "dataset.yaml") != made:
            raise changed(target, "its dataset.yaml would be another one now")
        if content(folder, "args.yaml") != plain_yaml.dump(_args(job, chosen)).encode():
            raise changed(target, "its args.yaml was changed since")
        done = manifest.read_sources(target / manifest.NAME, folder.opened)
        _require_same_sources(done, job, dataset, run, target, progress)
        missing = manifest.missing(target)
        if missing:
            raise changed(target, f"{len(missing)} files of tiles are missing ({missing[0].path})")
        require_whole(folder, result.total.counts.bytes)
    if result.findings[: len(dataset.findings)] != dataset.findings:
        raise changed(target, "other faults are found in the dataset than when it was made")
    result.root, result.out, result.unchanged = str(dataset.root), str(target), True
    return result


def _report_of(folder: Folder) -> SplitReport:
    try:
        return msgspec.json.decode(content(folder, "report.json"), type=SplitReport)
    except msgspec.DecodeError as error:
        raise changed(folder.path, f"report.json: {error}") from None


def _require_same_sources(
    done: Iterator[manifest.SourceTiles],
    job: SplitJob,
    dataset: Dataset,
    run: RunOptions,
    target: Path,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Raises:
    TilerError: the first source that is not what its tiles were made from.
    """
    tiles = 0
    prints = fingerprints(job, dataset.sources, run)
    for number, (source, fingerprint) in enumerate(zip(dataset.sources, prints, strict=True), 1):
        entry = next(done, None)
        if entry is None or (entry.source, entry.split) != (source.key, source.split):
            new = entry is None or source.key < entry.source
            name = source.key if new or entry is None else entry.source
            raise changed(target, f"{name} was {'added' if new else 'removed'} since")
        if entry.fingerprint != fingerprint:
            raise changed(target, f"{source.key} or its labels changed since")
        tiles += len(entry.tiles)
        if progress is not None:
            progress(Progress(number, len(dataset.sources), tiles))
    extra = next(done, None)
    if extra is not None:
        raise changed(target, f"{extra.source} was removed since")
