"""Images merged one after the other, into an output that is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding, condensed
from tiler.formats import jsonl, plain_yaml, provenance
from tiler.formats.locations import PLACES, relative
from tiler.merging.output import Record, Writer, owned_in
from tiler.merging.planning import MergePlan
from tiler.merging.report import MergeReport
from tiler.merging.work import MergeJob, Piece, Work, digest_of, work
from tiler.options import RunOptions
from tiler.run import workers
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content, require_same
from tiler.run.staging import Staging, writing

Result = TypeVar("Result")


def works(
    plan: MergePlan,
    pieces: Sequence[Piece],
    run: RunOptions,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Work]:
    """Each image merged, in order."""
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
    plan: MergePlan,
    staging: Staging,
    head: provenance.ProvenanceHead,
    run: RunOptions,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> MergeReport:
    """Everything into the staging tree."""
    report = plan.report
    first = jsonl.line(head)
    done = staging.begin(first.decode().strip())
    tree = staging.tree
    writer = Writer(tree, report.task, first, "csv" in plan.job.files.export)  # type: ignore[arg-type]
    kept = list(_still_good(plan, done, writer, run)) if done else []
    writer.begin()
    for record in kept:
        count(report, record)
    for item in works(plan, plan.pieces[len(kept) :], run, strict, progress):
        count(report, item)
        staging.note(_key(item.outcome.key), msgspec.json.encode(writer.add(item)))
    report.files = writer.finish()
    closed(report)
    with writing():
        tree.make("labels")
        args = {**_args(plan.job, report.task), **relative(plan.places, staging.out)}
        tree.write("args.yaml", plain_yaml.dump(args).encode())
        tree.write("report.json", report.encoded())
    if staging.resumed:
        staging.keep_only(owned_in(tree), ["labels"])
    report.out = str(staging.out)
    return report


def _args(job: MergeJob, task: str) -> dict[str, Any]:
    """Every option in effect, but those that are not set: a valid --config."""
    options = {**job.merging.in_effect(), **job.files.in_effect()}
    return (
        options
        if task == "segment"
        else {name: value for name, value in options.items() if name != "parts"}
    )


def _key(source: str) -> str:
    """An image's name in the journal: one line, whatever its file is called."""
    return msgspec.json.encode(source).decode()


def _still_good(
    plan: MergePlan, done: dict[str, bytes], writer: Writer, run: RunOptions
) -> Iterator[Record]:
    """Records of the first images, as far as an interrupted run had them done and their predictions
    are the same.
    """
    records = []
    for piece in plan.pieces:
        noted = done.get(_key(piece.key))
        if noted is None:
            break
        records.append(msgspec.json.decode(noted, type=Record))
    for record, digest in zip(
        records, _streamed(digest_of, plan.pieces[: len(records)], run), strict=True
    ):
        if record.outcome.digest != digest or not writer.resumes(record):
            return
        yield record


def _streamed(
    each: Callable[[Piece], Result], pieces: Sequence[Piece], run: RunOptions
) -> Iterator[Result]:
    backend = "threading" if run.backend == "auto" else run.backend
    return workers.stream(
        each, pieces, workers.count(run.workers), backend, lambda piece: piece.key
    )


def _require_args(folder: Folder, args: dict[str, Any]) -> None:
    """Raises:
    TilerError: args.yaml has other options. Where things lie may have changed.
    """
    lines = content(folder, "args.yaml").decode("utf-8", "replace").splitlines()
    options = [line for line in lines if line.partition(":")[0] not in PLACES]
    if options != plain_yaml.dump(args).splitlines():
        raise changed(folder.path, "its args.yaml was changed since")


def _require_files(folder: Folder, sizes: dict[str, int]) -> None:
    """Raises:
    TilerError: a file of an output is missing, or is not what it was.
    """
    for name, size in sizes.items():
        found = folder.stat(name).st_size if folder.is_file(name) else -1
        if found != size:
            what = "is missing" if found < 0 else f"has {found} bytes, it had {size}"
            raise changed(folder.path, f"{name} {what}")


def unchanged(
    plan: MergePlan,
    target: Path,
    head: provenance.ProvenanceHead,
    run: RunOptions,
    strict: bool,
    progress: Callable[[int, int], None] | None,
) -> MergeReport:
    """The report of a complete output, if it is what this run would make.

    Raises:
        TilerError: it is not, with the first difference.
    """
    with Folder(target) as folder:
        path = target / provenance.NAME
        standing = provenance.read_head(path, folder.opened)
        require_same(target, standing.tiler, standing.options, head.options)
        if standing != head:
            raise changed(target, "the tiles, or what the predictions are, changed since")
        _require_args(folder, _args(plan.job, plan.report.task))
        made = provenance.read_sources(path, folder.opened)
        digests = _streamed(digest_of, plan.pieces, run)
        for number, (piece, digest) in enumerate(zip(plan.pieces, digests, strict=True), 1):
            entry = next(made, None)
            if entry is None or entry.source != piece.key or entry.digest != digest:
                what = f"the predictions for {piece.key} changed since"
                raise changed(target, what)
            _require_files(folder, entry.files)
            if progress is not None:
                progress(number, len(plan.pieces))
        try:
            report = msgspec.json.decode(content(folder, "report.json"), type=MergeReport)
        except msgspec.DecodeError as error:
            raise changed(target, f"report.json: {error}") from None
        require_none(report.findings, strict)
        _require_files(folder, report.files)
    report.where, report.out, report.unchanged = plan.report.where, str(target), True
    return report
