"""`tiler merge`: predictions on tiles become the detections of the full pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tiler.errors import TilerError, Unfinished, did_you_mean
from tiler.findings import Finding, condensed, printable
from tiler.formats import dataset_yaml, jsonl, plain_yaml, provenance
from tiler.formats.affine import Affine
from tiler.formats.predictions import Frames, Predictions, Reading, open_predictions
from tiler.formats.predictions.text import open_folder
from tiler.instances import Instances, empty
from tiler.merging import index as indexes
from tiler.merging.index import Index, Picture
from tiler.merging.output import Record, Writer, default, ids_of, labels_of, strangers
from tiler.merging.report import Counts, MergeReport
from tiler.merging.work import Job, Piece, Work, digest_of, inside, stitched, work
from tiler.options import MergeOptions, PredictionOptions, RunOptions
from tiler.run import workers
from tiler.run.staging import Staging, writing
from tiler.run.target import HINT, occupied, require_same, resolved
from tiler.stitching import FATES
from tiler.stitching.contest import require_classes
from tiler.version import __version__

__all__ = ["Fate", "MergeReport", "Merged", "default", "explain", "merge"]

OPTIONS = (MergeOptions, PredictionOptions, RunOptions)


class Merged:
    """The detections of the full pictures, by picture.

    Attributes:
        report: counts and findings; its `exit_code()` is that of the command.
        sources: the pictures' paths, sorted.
        sizes: width and height of each.

    `merged[source]` are its `Instances`, in pixels: held in memory, or read from the output
    when there is one.
    """

    def __init__(self, report: MergeReport, pieces: Sequence[Piece], held: dict[str, Instances] | None) -> None:
        self.report = report
        self._held = held
        self._labels = {piece.key: piece.label for piece in pieces}
        self.sources = [piece.key for piece in pieces]
        self.sizes = {piece.key: (piece.width, piece.height) for piece in pieces}

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __getitem__(self, source: str) -> Instances:
        if source not in self.sizes:
            raise KeyError(source)
        return self._held[source] if self._held is not None else self._read(source)

    def _read(self, source: str) -> Instances:
        """From the label file, which holds nine digits of every number."""
        folder = Path(self.report.out) / "labels"
        task, shape = self.report.task, self.report.kpt_shape
        reading = Reading(task, tuple(self.report.names) or None, None if shape is None else (shape[0], shape[1]))
        path = folder / f"{self._labels[source]}.txt"
        if not path.stat().st_size:
            return replace(empty(task, shape[0] if shape else 0), conf=np.empty(0))  # type: ignore[arg-type]
        width, height = self.sizes[source]
        return (
            open_folder(str(path.parent), [path.name], reading)
            .batch([0])
            .read(Frames([source], np.array([[0, 0, width, height]], np.float64), np.ones(1)))
            .instances
        )


def merge(
    preds: str | Path,
    *,
    tiles: str | Path | None = None,
    images: str | Path | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Merged:
    """Merge files of predictions on tiles into the detections of the full pictures.

    Args:
        preds: a folder of YOLO txt, a run folder, a predictions.json, COCO results, SAHI's
            result.json, DOTA Task1 files, or supervision's CSV or JSON.
        tiles: the output of `split`, or its tiles.jsonl. Default: what the run's args.yaml
            leads to, or a tiles.jsonl upward of `preds`.
        images: the full pictures, where tiles are told by their names; only headers are read.
        data: a dataset.yaml for class names and keypoints, where no manifest has them.
        out: the output folder. Default: none, the detections are held in memory.
        strict: a row or file that must be refused is an error.
        progress: called with pictures done and all.
        options: any of `MergeOptions` (method, iou, conf, ...), `PredictionOptions` (task,
            assume_conf, export, ...) and `RunOptions` (workers, backend, overwrite, dry_run).

    Raises:
        TilerError: unusable predictions or options, or an output that must not be replaced.
        Unfinished: a full disk, a lost worker, another run on the same output. What is done
            is kept beside `out`, and the same call goes on with it.

    >>> merge("no/such/run")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/run: no such file or folder
    """
    plan, run = _plan(Path(preds), tiles, images, data, options)
    _require_none(plan.report.findings, strict)
    if out is None or run.dry_run:
        held: dict[str, Instances] = {}
        for done in _works(plan, plan.pieces, run, strict, progress):
            _count(plan.report, done)
            if not run.dry_run:
                held[done.outcome.key] = done.instances
        return Merged(_closed(plan.report), plan.pieces, held)
    target = resolved(Path(out))
    _require_apart(target, Path(preds))
    head = plan.head()
    if occupied(target, provenance.NAME, run.overwrite, strangers):
        return _verified(plan, target, head, run, strict, progress)
    with Staging(target) as staging:
        if occupied(target, provenance.NAME, run.overwrite, strangers):  # the run that held the lock has made it
            staging.discard()
            return _verified(plan, target, head, run, strict, progress)
        try:
            _build(plan, staging, head, run, strict, progress)
        except Unfinished:
            raise
        except TilerError:  # nothing that running again would go on with
            staging.discard()
            raise
    plan.report.out = str(target)
    return Merged(plan.report, plan.pieces, None)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done, all looked up."""

    job: Job
    pieces: list[Piece]
    report: MergeReport
    index: str

    def head(self) -> provenance.Head:
        """The first line of merged.jsonl."""
        report, shape = self.report, self.report.kpt_shape
        options = {**self.job.merging.plain(), **self.job.files.plain()}
        return provenance.Head(
            __version__, provenance.SCHEMA, report.task, report.names, options, report.predictions, self.index, shape
        )


def _plan(
    preds: Path, tiles: str | Path | None, images: str | Path | None, data: str | Path | None, options: dict[str, Any]
) -> tuple[_Plan, RunOptions]:
    names = [{item.name for item in fields(cls)} for cls in OPTIONS]
    unknown = {key: value for key, value in options.items() if not any(key in known for known in names)}
    merging = MergeOptions.of({**{k: v for k, v in options.items() if k in names[0]}, **unknown})
    files = PredictionOptions.of({k: v for k, v in options.items() if k in names[1]})
    run = RunOptions.of({k: v for k, v in options.items() if k in names[2]})
    if files.affine == "world" and images is None:
        raise TilerError("--affine world looks for world files beside the pictures: say --images")
    if files.affine not in ("", "world"):
        Affine.of(files.affine)
    if not preds.exists():
        raise TilerError(f"{printable(str(preds))}: no such file or folder")
    given = None if data is None else dataset_yaml.read(Path(data))
    manifest = indexes.manifest_of(preds, None if tiles is None else Path(tiles)) if tiles or not images else None
    known = None if manifest is None else indexes.of_manifest(manifest)
    reading = _reading(files, known, given)
    require_classes(merging, reading.names)
    found = open_predictions(preds, reading)
    if known is None:
        if images is None:
            raise TilerError(
                f"{printable(str(preds))}: where do these tiles lie? Give --tiles with the output of tiler split, "
                "or --images with the full pictures if the tiles' names tell their places"
            )
        known = indexes.of_names(found.keys, Path(images), files)
    job = Job(merging, files, reading.names, str(preds), Path(images) if images is not None else known.root)
    return _looked_up(job, found, known), run


def _reading(files: PredictionOptions, known: Index | None, data: dataset_yaml.DatasetYaml | None) -> Reading:
    task = files.task
    if task == "auto" and known is not None:
        task = known.task
    names = data.names if data is not None else None if known is None else known.names
    shape = data.kpt_shape if data is not None else None if known is None else known.kpt_shape
    return Reading(task, names, shape, files.assume_conf, files.conf_first, files.preds_base)


def _looked_up(job: Job, found: Predictions, known: Index) -> _Plan:
    """Every prediction with its picture and tile; those of no tile are reported."""
    numbers = known.numbered() if found.numeric else {}
    findings = [*found.findings, *known.findings]
    members: dict[int, list[tuple[int, int]]] = {}
    first: dict[tuple[int, int], int] = {}
    where = "labels" if (Path(job.preds) / "labels").is_dir() else ""
    for i, key in enumerate(found.keys):
        place = known.place(numbers.get(key, key))
        file = os.path.join(where, f"{key}.txt")
        path = printable(file) if os.path.exists(os.path.join(job.preds, file)) else ""
        shown = "" if path else f"{printable(key)}: "
        if place is None:
            findings.append(Finding(path, "D10", f"{shown}not a tile by the {known.said}; {found.counts[i]} rows left out"))
            continue
        if place in first:
            other = printable(found.keys[first[place]])
            findings.append(Finding(path, "D10", f"{shown}its tile has predictions in {other} already; left out"))
            continue
        first[place] = i
        members.setdefault(place[0], []).append((place[1], i))
    if not members:
        shown = printable(found.keys[0])[:100] if found.keys else "nothing"
        raise TilerError(
            f"{printable(job.preds)}: none of {len(found.keys)} predictions ({shown}, ...) is for a tile "
            f"of {printable(str(known.where))}"
        )
    splits = {known.pictures[number].split for number in members}
    left_out = sorted({picture.split for picture in known.pictures} - splits)
    numbered = [n for n, picture in enumerate(known.pictures) if picture.split in splits]
    chosen = [known.pictures[n] for n in numbered]
    keys = [picture.key for picture in chosen]
    pieces = [
        _piece(picture, sorted(members.get(n, [])), label, image_id, found)
        for n, picture, label, image_id in zip(numbered, chosen, labels_of(keys), ids_of(keys), strict=True)
    ]
    report = MergeReport(
        found.task,
        found.kind,
        known.said,
        list(job.names or ()),
        Counts(),
        left_out,
        [replace(f, path=inside(f.path, job.preds)) for f in findings],
        None if found.kpt_shape is None else list(found.kpt_shape),
        where=str(known.where),
    )
    index = hashlib.blake2b(
        msgspec.json.encode([[p.key, p.width, p.height, p.names] for p in chosen]), digest_size=16
    ).hexdigest()
    return _Plan(job, pieces, report, index)


def _piece(picture: Picture, members: list[tuple[int, int]], label: str, image_id: str, found: Predictions) -> Piece:
    """A picture with what was predicted for it: on its tiles, and on all of it as one more tile."""
    whole = np.array([0, 0, picture.width, picture.height], np.float64)
    rects = [whole if tile == indexes.WHOLE else picture.rects[tile] for tile, _ in members]
    scales = [1.0 if tile == indexes.WHOLE else picture.scale[tile] for tile, _ in members]
    names = [picture.stem if tile == indexes.WHOLE else picture.names[tile] for tile, _ in members]
    frames = Frames(names, np.reshape(rects, (-1, 4)).astype(np.float64), np.array(scales, np.float64))
    silent = np.ones(len(picture.names), bool)
    silent[[tile for tile, _ in members if tile != indexes.WHOLE]] = False
    batch = found.batch([i for _, i in members])
    return Piece(picture.key, label, image_id, picture.width, picture.height, frames, picture.rects[silent], batch)


def _works(
    plan: _Plan, pieces: Sequence[Piece], run: RunOptions, strict: bool, progress: Callable[[int, int], None] | None
) -> Iterator[Work]:
    """Each picture merged, in order."""
    backend = "threading" if run.backend == "auto" else run.backend
    first = len(plan.pieces) - len(pieces)
    results = workers.stream(partial(work, plan.job), pieces, workers.count(run.workers), backend, lambda p: printable(p.key))
    for number, done in enumerate(results, first + 1):
        _require_none(done.outcome.findings, strict)
        if progress is not None:
            progress(number, len(plan.pieces))
        yield done


def _require_none(findings: Sequence[Finding], strict: bool) -> None:
    """With --strict, what must be refused is an error."""
    bad = next((finding for finding in findings if finding.level == "error"), None)
    if strict and bad is not None:
        raise TilerError(f"{bad} (--strict)")


def _count(report: MergeReport, done: Work | Record) -> None:
    report.counts.add(done.outcome.counts)
    report.findings += done.outcome.findings


def _closed(report: MergeReport) -> MergeReport:
    report.findings = condensed(report.findings)
    return report


def _build(
    plan: _Plan,
    staging: Staging,
    head: provenance.Head,
    run: RunOptions,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Everything into the staging tree, then the tree into its place."""
    report = plan.report
    first = jsonl.line(head)
    done = staging.begin(first.decode().strip())
    writer = Writer(staging.tree, report.task, first, "csv" in plan.job.files.export)  # type: ignore[arg-type]
    kept = list(_still_good(plan, done, writer, run)) if done else []
    writer.begin(kept[-1] if kept else None)
    for record in kept:
        _count(report, record)
    for item in _works(plan, plan.pieces[len(kept) :], run, strict, progress):
        _count(report, item)
        staging.note(_key(item.outcome.key), msgspec.json.encode(writer.add(item)))
    writer.finish()
    _closed(report)
    with writing():
        (staging.tree / "labels").mkdir(exist_ok=True)
        (staging.tree / "args.yaml").write_text(plain_yaml.dump(_args(plan.job)), "utf-8")
        (staging.tree / "report.json").write_bytes(report.encoded())
    for stray in list(strangers(staging.tree)) if done else ():
        stray.unlink()
    if occupied(staging.out, provenance.NAME, run.overwrite, strangers):  # looked at again: hours may have passed
        raise Unfinished(f"{printable(str(staging.out))}: has been made by another run in the meantime")
    staging.commit(staging.out if staging.out.is_dir() and any(staging.out.iterdir()) else None)


def _args(job: Job) -> dict[str, Any]:
    """Every option in effect, but those that are not set: a valid --config."""
    options = {**job.merging.plain(), **job.files.plain()}
    return {name: value for name, value in options.items() if value is not None}


def _key(source: str) -> str:
    """A picture's name in the journal: one line, whatever its file is called."""
    return msgspec.json.encode(source).decode()


def _still_good(plan: _Plan, done: dict[str, bytes], writer: Writer, run: RunOptions) -> Iterator[Record]:
    """Records of the first pictures, as far as an interrupted run had them done and their predictions are the same."""
    records = []
    for piece in plan.pieces:
        noted = done.get(_key(piece.key))
        if noted is None:
            break
        records.append(msgspec.json.decode(noted, type=Record))
    for record, digest in zip(records, _digests(plan.pieces[: len(records)], run), strict=True):
        if record.outcome.digest != digest or not writer.intact(record):
            return
        yield record


def _digests(pieces: Sequence[Piece], run: RunOptions) -> Iterator[str]:
    backend = "threading" if run.backend == "auto" else run.backend
    return workers.stream(digest_of, pieces, workers.count(run.workers), backend, lambda p: printable(p.key))


def _require_apart(target: Path, preds: Path) -> None:
    """Refuse an output that would mix with the predictions, or be read as such the next time."""
    source = preds.resolve()
    read = source / "labels" if (source / "labels").is_dir() else source
    if target == source or target in source.parents or read in (target, *target.parents):
        raise TilerError(f"--out {printable(str(target))}: it holds the predictions, or lies in them; choose another folder")


def _verified(
    plan: _Plan,
    target: Path,
    head: provenance.Head,
    run: RunOptions,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> Merged:
    """A complete output, if it is what this run would make.

    Raises:
        TilerError: it is not, with the first difference.
    """
    shown = printable(str(target))
    Staging.sweep(target)
    standing = provenance.read_head(target / provenance.NAME)
    require_same(target, standing.tiler, standing.options, head.options)
    if standing != head:
        raise TilerError(f"--out {shown}: the tiles, or what the predictions are, changed since; {HINT}")
    made = provenance.read_sources(target / provenance.NAME)
    for number, (piece, digest) in enumerate(zip(plan.pieces, _digests(plan.pieces, run), strict=True), 1):
        entry = next(made, None)
        if entry is None or entry.source != piece.key or entry.digest != digest:
            raise TilerError(f"--out {shown}: the predictions for {printable(piece.key)} changed since; {HINT}")
        if not (target / "labels" / f"{piece.label}.txt").is_file():
            raise TilerError(f"--out {shown}: labels/{printable(piece.label)}.txt is missing; {HINT}")
        if progress is not None:
            progress(number, len(plan.pieces))
    try:
        report = msgspec.json.decode((target / "report.json").read_bytes(), type=MergeReport)
    except (OSError, msgspec.DecodeError) as error:
        raise TilerError(f"--out {shown}: report.json: {printable(str(error))}; {HINT}") from None
    _require_none(report.findings, strict)
    report.where, report.out, report.unchanged = plan.report.where, str(target), True
    return Merged(report, plan.pieces, None)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one row of predictions.

    Attributes:
        tile, row: where it stands; rows count from 0, blank lines do not.
        fate: one of `stitching.FATES`, or refused with the finding's code.
        into: the merged detection it is part of, or lost to; None for none.
    """

    tile: str
    row: int
    class_id: int | None
    conf: float | None
    box: tuple[float, ...] | None
    fate: str
    into: int | None


def explain(
    preds: str | Path,
    source: str,
    *,
    tiles: str | Path | None = None,
    images: str | Path | None = None,
    data: str | Path | None = None,
    **options: Any,
) -> list[Fate]:
    """What becomes of every row of one picture's predictions, by merged detection, then tile and row.

    Args:
        source: the picture's path as the manifest has it, or its name with or without suffix.

    Raises:
        TilerError: no such picture, or what `merge` raises.
    """
    plan, _ = _plan(Path(preds), tiles, images, data, options)
    wanted = [p for p in plan.pieces if source in (p.key, p.label, p.image_id, Path(p.key).name)]
    if len(wanted) != 1:
        found = f"{len(wanted)} pictures of this name" if wanted else f"no such picture among {len(plan.pieces)}"
        known = [p.key for p in plan.pieces] + [p.image_id for p in plan.pieces]
        hint = did_you_mean(source, known) or f", such as {printable(known[0])}"
        raise TilerError(f"--explain {printable(source)}: {found}{hint}")
    piece = wanted[0]
    read, result = stitched(plan.job, piece)
    own, names = read.instances, piece.frames.names
    fates = [
        Fate(
            names[t],
            int(row),
            int(own.class_id[k]),
            float(own.conf[k]),  # type: ignore[index]
            tuple(float(v) for v in own.boxes[k]),
            FATES[result.fate[k]],
            int(result.into[k]) if result.into[k] >= 0 else None,
        )
        for k, (t, row) in enumerate(zip(read.tile, own.row, strict=True))
    ]
    fates += [Fate(names[t], row, None, None, None, f"refused ({code})", None) for t, row, code in read.refused]
    last = len(result.instances)
    return sorted(fates, key=lambda fate: (last if fate.into is None else fate.into, -(fate.conf or 0), fate.tile, fate.row))
