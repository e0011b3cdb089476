"""`tiler split`: a dataset of large images becomes a trainable dataset of tiles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from tiler.datasets import tasks
from tiler.datasets.sources import Dataset, Source, find, label_path
from tiler.errors import TilerError
from tiler.findings import printable
from tiler.formats import dataset_yaml, manifest, plain_yaml, yolo
from tiler.grids import overlap_px
from tiler.options import RunOptions, SplitOptions
from tiler.run import workers
from tiler.run.staging import Staging, writing
from tiler.splitting import report as reports
from tiler.splitting.cutting import Job, cut, fingerprint_of
from tiler.splitting.places import quota
from tiler.splitting.report import Outcome, SplitReport
from tiler.version import __version__

__all__ = ["Progress", "SplitReport", "split"]

MANY, TINY = 200, 100_000  # from so many pictures of fewer bytes on, processes beat threads
CHUNK_FILES, CHUNK_BYTES = 64, 2_000_000  # what is handed to a worker at once


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: sources done of all, and tiles written."""

    done: int
    total: int
    tiles: int


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
        images: the pictures' folder, of a COCO JSON.
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
    for side in (chosen.tile,) if isinstance(chosen.tile, int) else chosen.tile:
        overlap_px(chosen.overlap, side)  # refuses what leaves no stride
    dataset = find(Path(data), None if images is None else Path(images))
    target = _target(dataset, chosen, out)
    finished = None if run.dry_run else _finished(target, chosen, run.overwrite)
    if finished is not None:
        return _verified(dataset, chosen, run, target, finished, progress)
    task, reason = tasks.decide(dataset, chosen.task)
    job = _job(dataset, replace(chosen, task=task))
    if isinstance(chosen.background, float):
        job = replace(job, quotas=_quotas(job, dataset, run, chosen.background))
    result = reports.new(task, reason, dataset.splits, dataset.names, dataset.findings)
    result.root, result.out = str(dataset.root), str(target)
    if run.dry_run:
        for outcome in _outcomes(job, dataset.sources, run, {}, progress):
            result.add(outcome, dataset.names)
        return result
    with Staging(target) as staging:
        if _finished(target, chosen, run.overwrite) is not None:  # the run that held the lock has made it
            staging.discard()
            return split(data, out=out, images=images, progress=progress, **options)
        _build(job, dataset, chosen, run, staging, result, progress)
    return result


def _job(dataset: Dataset, options: SplitOptions) -> Job:
    spec = yolo.Spec(options.task, len(dataset.names), dataset.kpt_shape if options.task == "pose" else None)  # type: ignore[arg-type]
    classes = dataset.coco.classes if dataset.coco is not None else None
    return Job(dataset.root, spec, options, classes=classes, coco_name=printable(dataset.file.name))


def _build(
    job: Job,
    dataset: Dataset,
    chosen: SplitOptions,
    run: RunOptions,
    staging: Staging,
    result: SplitReport,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Everything into the staging tree, then the tree into its place."""
    head = _head(job, dataset, chosen)
    done = staging.begin(manifest.line(head).decode().strip() + f"\t{job.quotas}")
    job = replace(job, tree=staging.tree)
    with writing():
        for split_name in dataset.splits:
            for kind in ("images", "labels"):
                (staging.tree / kind / split_name).mkdir(parents=True, exist_ok=True)
    with writing(), open(staging.tree / manifest.NAME, "wb") as file:
        file.write(manifest.line(head))
        for outcome in _outcomes(job, dataset.sources, run, done, progress):
            result.add(outcome, dataset.names)
            file.write(manifest.line(outcome.entry))
            if not outcome.kept:
                staging.note(_key(outcome.entry.split, outcome.entry.source), msgspec.json.encode(outcome))
    with writing():
        (staging.tree / "dataset.yaml").write_text(_yaml(job, dataset), "utf-8")
        (staging.tree / "args.yaml").write_text(plain_yaml.dump(chosen.plain()), "utf-8")
        (staging.tree / "report.json").write_bytes(result.encoded())
    if staging.resumed:
        for stray in _strangers(staging.tree):
            stray.unlink()
    replaced = staging.out if staging.out.is_dir() and any(staging.out.iterdir()) else None
    staging.commit(replaced)


def _outcomes(
    job: Job,
    sources: Sequence[Source],
    run: RunOptions,
    done: dict[str, bytes],
    progress: Callable[[Progress], None] | None,
) -> Iterator[Outcome]:
    """Each source cut, in order."""
    chunks = list(_chunks(sources))
    todo = [[(source, done.get(_key(source.split, source.key))) for source in chunk] for chunk in chunks]
    ready = tiles = 0
    count = workers.count(run.workers)
    for outcome in chain.from_iterable(workers.stream(partial(_cut_all, job), todo, count, _backend(run, sources), _describe)):
        ready, tiles = ready + 1, tiles + len(outcome.entry.tiles)
        if progress is not None:
            progress(Progress(ready, len(sources), tiles))
        yield outcome


def _cut_all(job: Job, chunk: Sequence[tuple[Source, bytes | None]]) -> list[Outcome]:
    return [cut(job, source, done) for source, done in chunk]


def _describe(chunk: Sequence[tuple[Source, bytes | None]]) -> str:
    more = f" (or one of the {len(chunk) - 1} after it)" if len(chunk) > 1 else ""
    return printable(chunk[0][0].key) + more


def _chunks(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Small pictures go to the workers together, so that handing them over costs little."""
    chunk: list[Source] = []
    size = 0
    for source in sources:
        if chunk and (len(chunk) >= CHUNK_FILES or size + source.bytes > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(source)
        size += source.bytes
    if chunk:
        yield chunk


def _backend(run: RunOptions, sources: Sequence[Source]) -> str:
    """Threads, since Pillow works outside the interpreter lock; processes for many tiny pictures,
    where Python's own work counts."""
    if run.backend != "auto":
        return run.backend
    tiny = len(sources) >= MANY and sum(source.bytes for source in sources) < TINY * len(sources)
    return "loky" if tiny else "threading"


def _key(split_name: str, source: str) -> str:
    return msgspec.json.encode([split_name, source]).decode()


def _quotas(job: Job, dataset: Dataset, run: RunOptions, ratio: float) -> dict[str, Any]:
    """Which empty tiles each split takes: a first pass over labels and headers counts them."""
    empty: dict[str, dict[str, int]] = {name: {} for name in dataset.splits}
    positive = dict.fromkeys(dataset.splits, 0)
    for outcome in _outcomes(job, dataset.sources, replace(run, dry_run=True), {}, None):
        name = outcome.entry.split
        empty[name][outcome.entry.source] = outcome.counts.clean
        positive[name] += outcome.counts.tiles - outcome.counts.background
    seed = job.options.seed
    return {name: quota(seed, round(ratio * positive[name]), empty[name]) for name in dataset.splits}


def _head(job: Job, dataset: Dataset, chosen: SplitOptions) -> manifest.Head:
    shape = job.spec.out_shape
    return manifest.Head(
        __version__,
        manifest.SCHEMA,
        job.spec.task,
        list(dataset.names),
        chosen.plain(),
        None if shape is None else list(shape),
    )


def _yaml(job: Job, dataset: Dataset) -> str:
    splits = {name: f"images/{name}" for name in dataset.splits}
    stand_in = {"train": "val", "val": "train"}
    for name, other in stand_in.items():  # the trainer does not start without both
        splits.setdefault(name, splits.get(other, f"images/{other}"))
    pose = job.spec.task == "pose"
    return dataset_yaml.dump(dataset.names, splits, job.spec.out_shape, dataset.flip_idx if pose else None, dataset.channels)


def _target(dataset: Dataset, options: SplitOptions, out: str | Path | None) -> Path:
    """The output folder; refused where it would mix with the source."""
    tile = options.tile if isinstance(options.tile, int) else "x".join(map(str, options.tile))
    target = Path(f"{dataset.root}-tiles-{tile}") if out is None else Path(out)
    target = Path(os.path.abspath(target))
    shown = printable(str(target))
    if target.exists() and not target.is_dir():
        raise TilerError(f"--out {shown}: there is a file of this name")
    real = Path(os.path.realpath(target))
    for folder in (*dataset.folders, dataset.file):
        for held in {Path(os.path.realpath(folder)), Path(os.path.realpath(label_path(f"{folder}/x"))).parent}:
            if real == held or real in held.parents:
                raise TilerError(f"--out {shown}: it holds the source ({printable(str(folder))}); choose another folder")
            if held in real.parents and held != dataset.file:
                raise TilerError(f"--out {shown}: it lies inside the source ({printable(str(folder))}); choose another folder")
    return target


def _finished(target: Path, chosen: SplitOptions, overwrite: bool) -> manifest.Head | None:
    """The head of a complete output that this run would make; None where there is room for one.

    Raises:
        TilerError: the folder holds something else, and what.
    """
    shown = printable(str(target))
    if not target.is_dir() or not any(target.iterdir()):
        return None
    if not (target / manifest.NAME).is_file():
        found = printable(sorted(p.name for p in target.iterdir())[0])
        raise TilerError(f"--out {shown}: holds files that are not of tiler ({found}); choose another folder")
    if overwrite:
        strangers = list(_strangers(target))
        if strangers:
            found = printable(str(strangers[0].relative_to(target)))
            raise TilerError(f"--out {shown}: {found} is not of tiler, so --overwrite does not delete it; move it away")
        return None
    head = manifest.read_head(target / manifest.NAME)
    now = chosen.plain()
    changed = [f"{k} {head.options.get(k)} -> {v}" for k, v in now.items() if head.options.get(k) != v]
    if head.tiler != __version__:
        changed.append(f"tiler {head.tiler} -> {__version__}")
    if changed:
        raise TilerError(f"--out {shown}: made with other options ({'; '.join(changed)}); use --overwrite, or another --out")
    return head


def _verified(
    dataset: Dataset,
    chosen: SplitOptions,
    run: RunOptions,
    target: Path,
    head: manifest.Head,
    progress: Callable[[Progress], None] | None,
) -> SplitReport:
    """The report of a complete output, if the sources still are what it was made from.

    Raises:
        TilerError: they are not, or tiles are missing; with the first difference.
    """
    shown = printable(str(target))
    hint = "use --overwrite, or another --out"
    if tuple(head.names) != dataset.names:
        raise TilerError(f"--out {shown}: made for other class names; {hint}")
    Staging.sweep(target)
    job = _job(dataset, replace(chosen, task=head.task))
    chunks = list(_chunks(dataset.sources))
    count = workers.count(run.workers)
    prints = chain.from_iterable(
        workers.stream(partial(_fingerprints, job), chunks, count, _backend(run, dataset.sources), lambda c: c[0].key)
    )
    done = manifest.read_sources(target / manifest.NAME)
    tiles = 0
    for number, (source, fingerprint) in enumerate(zip(dataset.sources, prints, strict=True), 1):
        entry = next(done, None)
        if entry is None or (entry.split, entry.source) != (source.split, source.key):
            new = entry is None or (source.split, source.key) < (entry.split, entry.source)
            name = source.key if new or entry is None else entry.source
            raise TilerError(f"--out {shown}: {printable(name)} was {'added' if new else 'removed'} since; {hint}")
        if entry.fingerprint != fingerprint:
            raise TilerError(f"--out {shown}: {printable(source.key)} or its labels changed since; {hint}")
        tiles += len(entry.tiles)
        if progress is not None:
            progress(Progress(number, len(dataset.sources), tiles))
    extra = next(done, None)
    if extra is not None:
        raise TilerError(f"--out {shown}: {printable(extra.source)} was removed since; {hint}")
    missing = manifest.missing(target)
    if missing:
        raise TilerError(f"--out {shown}: {len(missing)} files of tiles are missing ({missing[0].path}); {hint}")
    try:
        result = msgspec.json.decode((target / "report.json").read_bytes(), type=SplitReport)
    except (OSError, msgspec.DecodeError) as error:
        raise TilerError(f"--out {shown}: report.json: {printable(str(error))}; {hint}") from None
    result.root, result.out, result.unchanged = str(dataset.root), str(target), True
    return result


def _fingerprints(job: Job, chunk: Sequence[Source]) -> list[str]:
    return [fingerprint_of(job, source) for source in chunk]


def _strangers(tree: Path) -> Iterator[Path]:
    """Files in an output that are not of it. The trainer's caches, which it makes anew, are not counted."""
    mine = {manifest.NAME, "dataset.yaml", "args.yaml", "report.json"}
    names: set[tuple[str, str]] = set()
    for entry in manifest.read_sources(tree / manifest.NAME):
        names.update((entry.split, tile.name) for tile in entry.tiles)
    for here, _, files in os.walk(tree):
        parts = Path(here).relative_to(tree).parts
        for name in files:
            stem, suffix = os.path.splitext(name)
            if not parts and name in mine:
                continue
            if len(parts) == 2 and parts[0] == "labels" and suffix == ".txt" and (parts[1], stem) in names:
                continue
            if len(parts) == 2 and parts[0] == "images" and suffix != ".txt" and (parts[1], stem) in names:
                continue
            if parts == ("labels",) and suffix == ".cache":
                continue
            yield Path(here, name)
