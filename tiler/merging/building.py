"""Pictures merged one after the other, into an output that is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tiler.errors import TilerError, Unfinished
from tiler.findings import Finding, condensed, printable
from tiler.formats import jsonl, plain_yaml, provenance
from tiler.merging.output import Record, Writer, strangers
from tiler.merging.planning import Plan
from tiler.merging.report import MergeReport
from tiler.merging.work import Job, Piece, Work, digest_of, work
from tiler.options import RunOptions
from tiler.run import workers
from tiler.run.staging import Staging, writing
from tiler.run.target import HINT, occupied, require_same

Result = TypeVar("Result")


def works(
    plan: Plan, pieces: Sequence[Piece], run: RunOptions, strict: bool, progress: Callable[[int, int], None] | None
) -> Iterator[Work]:
    """Each picture merged, in order."""
    first = len(plan.pieces) - len(pieces)
    for number, done in enumerate(_streamed(partial(work, plan.job), pieces, run), first + 1):
        require_none(done.outcome.findings, strict)
        if progress is not None:
            progress(number, len(plan.pieces))
        yield done


def require_none(findings: Sequence[Finding], strict: bool) -> None:
    """With --strict, what must be refused is an error."""
    bad = next((finding for finding in findings if finding.level == "error"), None)
    if strict and bad is not None:
        raise TilerError(f"{bad} (--strict)")


def count(report: MergeReport, done: Work | Record) -> None:
    report.counts.add(done.outcome.counts)
    report.findings += done.outcome.findings


def closed(report: MergeReport) -> MergeReport:
    report.findings = condensed(report.findings)
    return report


def build(
    plan: Plan,
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
        count(report, record)
    for item in works(plan, plan.pieces[len(kept) :], run, strict, progress):
        count(report, item)
        staging.note(_key(item.outcome.key), msgspec.json.encode(writer.add(item)))
    report.files = writer.finish()
    closed(report)
    with writing():
        (staging.tree / "labels").mkdir(exist_ok=True)
        (staging.tree / "args.yaml").write_text(plain_yaml.dump(_args(plan.job, report.task)), "utf-8")
        (staging.tree / "report.json").write_bytes(report.encoded())
    for stray in list(strangers(staging.tree)) if done else ():
        stray.unlink()
    if occupied(staging.out, provenance.NAME, run.overwrite, strangers):  # looked at again: hours may have passed
        raise Unfinished(f"{printable(str(staging.out))}: has been made by another run in the meantime")
    staging.commit(staging.out if staging.out.is_dir() and any(staging.out.iterdir()) else None)


def _args(job: Job, task: str) -> dict[str, Any]:
    """Every option in effect, but those that are not set: a valid --config."""
    options = {**job.merging.in_effect(), **job.files.in_effect()}
    return options if task == "segment" else {name: value for name, value in options.items() if name != "parts"}


def _key(source: str) -> str:
    """A picture's name in the journal: one line, whatever its file is called."""
    return msgspec.json.encode(source).decode()


def _still_good(plan: Plan, done: dict[str, bytes], writer: Writer, run: RunOptions) -> Iterator[Record]:
    """Records of the first pictures, as far as an interrupted run had them done and their predictions are the same."""
    records = []
    for piece in plan.pieces:
        noted = done.get(_key(piece.key))
        if noted is None:
            break
        records.append(msgspec.json.decode(noted, type=Record))
    for record, digest in zip(records, _streamed(digest_of, plan.pieces[: len(records)], run), strict=True):
        if record.outcome.digest != digest or not writer.intact(record):
            return
        yield record


def _streamed(each: Callable[[Piece], Result], pieces: Sequence[Piece], run: RunOptions) -> Iterator[Result]:
    backend = "threading" if run.backend == "auto" else run.backend
    return workers.stream(each, pieces, workers.count(run.workers), backend, lambda piece: printable(piece.key))


def _require_files(target: Path, sizes: dict[str, int]) -> None:
    """Raises:
    TilerError: a file of an output is missing, or is not what it was.
    """
    for name, size in sizes.items():
        try:
            found = (target / name).stat().st_size
        except OSError:
            found = -1
        if found != size:
            what = "is missing" if found < 0 else f"has {found} bytes, it had {size}"
            raise TilerError(f"--out {printable(str(target))}: {printable(name)} {what}; {HINT}")


def unchanged(
    plan: Plan,
    target: Path,
    head: provenance.Head,
    run: RunOptions,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> MergeReport:
    """The report of a complete output, if it is what this run would make.

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
    for number, (piece, digest) in enumerate(zip(plan.pieces, _streamed(digest_of, plan.pieces, run), strict=True), 1):
        entry = next(made, None)
        if entry is None or entry.source != piece.key or entry.digest != digest:
            raise TilerError(f"--out {shown}: the predictions for {printable(piece.key)} changed since; {HINT}")
        _require_files(target, entry.files)
        if progress is not None:
            progress(number, len(plan.pieces))
    try:
        report = msgspec.json.decode((target / "report.json").read_bytes(), type=MergeReport)
    except (OSError, msgspec.DecodeError) as error:
        raise TilerError(f"--out {shown}: report.json: {printable(str(error))}; {HINT}") from None
    require_none(report.findings, strict)
    _require_files(target, report.files)
    report.where, report.out, report.unchanged = plan.report.where, str(target), True
    return report
