"""Images merged one after the other, into an output that is complete or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding, condensed
from tiler.formats import jsonl, plain_yaml, provenance
from tiler.formats.input_paths import PLACES, relative
from tiler.merging.output import Record, Writer, owned_in
from tiler.merging.planning import MergePlan
from tiler.merging.report import MergeReport
from tiler.merging.work import MergeJob, Piece, Work, digest_of, work
from tiler.options import RunOptions
from tiler.run import workers
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, content, require_files, require_same
from tiler.run.staging import Staging, writing

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MergeExecution:
    """How images are worked on.

    Attributes:
        strict: anything that is rejected is an error.
        progress: called with images done and all.
    """

    run: RunOptions
    strict: bool = False
    progress: Callable[[int, int], None] | None = None

    def stream(self, each: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        """What `each` gives for each image, in order, by all workers."""
        backend = "threading" if self.run.backend == "auto" else self.run.backend
        count = workers.count(self.run.workers)
        return workers.stream(each, pieces, count, backend, lambda piece: piece.key)

    def works(self, job: MergeJob, pieces: Sequence[Piece]) -> Iterator[Work]:
        """Each image merged, in order."""
        return self.stream(partial(work, job), pieces)

    def digests(self, pieces: Sequence[Piece]) -> Iterator[str]:
        """The digest of the predictions of each image as they are now."""
        return self.stream(digest_of, pieces)

    def done(self, number: int, total: int) -> None:
        if self.progress is not None:
            self.progress(number, total)


def works(plan: MergePlan, pieces: Sequence[Piece], execution: MergeExecution) -> Iterator[Work]:
    """Each image merged, in order. `pieces`: the last ones of the plan."""
    total = len(plan.pieces)
    first = total - len(pieces) + 1
    for number, item in enumerate(execution.works(plan.job, pieces), first):
        require_none(item.outcome.findings, execution.strict)
        execution.done(number, total)
        yield item


def require_none(findings: Sequence[Finding], strict: bool) -> None:
    """Raises:
    TilerError: with --strict, an error among the findings.
    """
    if not strict:
        return
    for finding in findings:
        if finding.level == "error":
            raise TilerError(f"{finding} (--strict)")


def count(report: MergeReport, item: Work | Record) -> None:
    """Count in an image."""
    report.counts.add(item.outcome.counts)
    report.findings += item.outcome.findings


def closed(report: MergeReport) -> MergeReport:
    """The report, with findings of one kind condensed."""
    report.findings = condensed(report.findings)
    return report


def build(
    plan: MergePlan, staging: Staging, head: provenance.ProvenanceHead, execution: MergeExecution
) -> MergeReport:
    """Write everything into the staging tree."""
    report = plan.report
    first_line = jsonl.line(head)
    journal = staging.begin(first_line.decode().strip())
    tree = staging.tree
    with_csv = "csv" in plan.job.files.export.split(",")
    writer = Writer(tree, report.task, first_line, with_csv)  # type: ignore[arg-type]
    kept = list(_still_good(plan, journal, writer, execution)) if journal else []
    writer.begin()
    for record in kept:
        count(report, record)
    for item in works(plan, plan.pieces[len(kept) :], execution):
        count(report, item)
        staging.note(_journal_key(item.outcome.key), msgspec.json.encode(writer.add(item)))
    report.files = writer.finish()
    closed(report)
    with writing():
        tree.make("labels")
        args = {**plan.args(), **relative(plan.places, staging.out)}
        tree.write("args.yaml", plain_yaml.dump(args).encode())
        tree.write("report.json", report.encoded())
    if staging.resumed:
        staging.keep_only(owned_in(tree), ["labels"])
    report.out = str(staging.out)
    return report


def _journal_key(source: str) -> str:
    """An image's name in the journal: on one line, even if its own has line breaks."""
    return msgspec.json.encode(source).decode()


def _still_good(
    plan: MergePlan, journal: dict[str, bytes], writer: Writer, execution: MergeExecution
) -> Iterator[Record]:
    """Records of the first images, as far as an interrupted run had finished them and their
    predictions are the same.
    """
    records = []
    for piece in plan.pieces:
        noted = journal.get(_journal_key(piece.key))
        if noted is None:
            break
        records.append(msgspec.json.decode(noted, type=Record))
    digests = execution.digests(plan.pieces[: len(records)])
    for record, digest in zip(records, digests, strict=True):
        if record.outcome.digest != digest or not writer.resumes(record):
            return
        yield record


def unchanged(
    plan: MergePlan, target: Path, head: provenance.ProvenanceHead, execution: MergeExecution
) -> MergeReport:
    """The report of a complete output, if it is what this run would make.

    Raises:
        TilerError: it is not, with the first difference.
    """
    with Folder(target) as folder:
        _require_head(target, folder, head)
        _require_args(folder, plan.args())
        _require_sources(plan, target, folder, execution)
        try:
            report = msgspec.json.decode(content(folder, "report.json"), type=type(plan.report))
        except msgspec.DecodeError as error:
            raise changed(target, f"report.json: {error}") from None
        require_none(report.findings, execution.strict)
        require_files(folder, report.files)
    report.where = plan.report.where
    report.out = str(target)
    report.unchanged = True
    return report


def _require_head(target: Path, folder: Folder, head: provenance.ProvenanceHead) -> None:
    """Raises:
    TilerError: the output has other options, tiles or predictions.
    """
    written = provenance.read_head(target / provenance.NAME, folder.opened)
    require_same(target, written.tiler, written.options, head.options)
    if written != head:
        raise changed(target, "the tiles, or the format of the predictions, changed since")


def _require_args(folder: Folder, args: dict[str, Any]) -> None:
    """Raises:
    TilerError: args.yaml has other options. Other places of the inputs are no difference.
    """
    lines = content(folder, "args.yaml").decode("utf-8", "replace").splitlines()
    options = [line for line in lines if line.partition(":")[0] not in PLACES]
    if options != plain_yaml.dump(args).splitlines():
        raise changed(folder.path, "its args.yaml was changed since")


def _require_sources(
    plan: MergePlan, target: Path, folder: Folder, execution: MergeExecution
) -> None:
    """Raises:
    TilerError: the predictions for an image, or its files, are not what they were.
    """
    written = provenance.read_sources(target / provenance.NAME, folder.opened)
    digests = execution.digests(plan.pieces)
    total = len(plan.pieces)
    for number, (piece, digest) in enumerate(zip(plan.pieces, digests, strict=True), 1):
        entry = next(written, None)
        if entry is None or entry.source != piece.key or entry.digest != digest:
            raise changed(target, f"the predictions for {piece.key} changed since")
        require_files(folder, entry.files)
        execution.done(number, total)
