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
from tiler.formats import coco_writing, gpkg_writing, jsonl, plain_yaml, provenance
from tiler.formats.input_paths import PLACES, relative
from tiler.merging.dataset_json import DATASET, dataset_tail
from tiler.merging.mapping import FEATURES, GEOPACKAGE, has_layer
from tiler.merging.output import Record, Writer, owned_in, starts_of
from tiler.merging.planning import MergePlan
from tiler.merging.report import MergeReport
from tiler.merging.training import TRAINING_FOLDERS, TRAINING_YAML, training_yaml
from tiler.merging.training_images import link_images
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

    def done(self, number: int, total: int) -> None:
        if self.progress is not None:
            self.progress(number, total)


def works(plan: MergePlan, pieces: Sequence[Piece], execution: MergeExecution) -> Iterator[Work]:
    """Each image merged, in order. `pieces`: the last ones of the plan."""
    total = len(plan.pieces)
    first = total - len(pieces) + 1
    for number, item in enumerate(execution.stream(partial(work, plan.job), pieces), first):
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
    starts = starts_of(report.task, first_line, plan.job)  # type: ignore[arg-type]
    writer = Writer(tree, starts)
    kept = list(_still_good(plan, journal, writer, execution)) if journal else []
    writer.begin()
    for record in kept:
        count(report, record)
    for item in works(plan, plan.pieces[len(kept) :], execution):
        count(report, item)
        staging.note(_journal_key(item.outcome.key), msgspec.json.encode(writer.add(item)))
    report.files = _finished(plan, writer)
    closed(report)
    with writing():
        tree.make("labels")
        args = _args(plan.job, report.task, bool(report.models))
        args |= relative(plan.places, staging.out)
        tree.write("args.yaml", plain_yaml.dump(args).encode())
        tree.write("report.json", report.encoded())
    if staging.resumed:
        staging.keep_only(owned_in(tree), ["labels", *TRAINING_FOLDERS])
    report.out = str(staging.out)
    return report


def _finished(plan: MergePlan, writer: Writer) -> dict[str, int]:
    """Complete the files that all images share; the bytes of each."""
    job, tree, report = plan.job, writer.tree, plan.report
    ends = {"predictions.json": b"]\n"}
    ends[DATASET] = _dataset_tail(plan)
    if has_layer(job.files):
        ends[FEATURES] = b"]}\n"
    sizes = writer.finish(ends)
    if "gpkg" in job.exports:
        with writing():
            tree.remove(GEOPACKAGE)
            with tree.open(FEATURES) as features:
                path = tree.path / GEOPACKAGE
                size = gpkg_writing.write(path, features, job.layer.crs, report.task)
        sizes[GEOPACKAGE] = size
        if "geojson-all" not in job.exports:
            tree.remove(FEATURES)
            del sizes[FEATURES]
    if "yolo-dataset" in job.exports:
        sizes |= _training_set(plan, tree)
    return dict(sorted(sizes.items()))


def _dataset_tail(plan: MergePlan) -> bytes:
    """The end of dataset.json: all images, and the classes that are known or were detected."""
    job, report = plan.job, plan.report
    images = []
    for piece in plan.pieces:
        size = (piece.width, piece.height)
        images.append(coco_writing.image_line(piece.image_id, piece.key, size))
    names = job.names or ()
    classes = sorted({*range(len(names)), *report.counts.classes})
    class_names = [names[c] if c < len(names) else str(c) for c in classes]
    ids = [c + job.first_category for c in classes]
    if job.categories is not None:
        ids = [job.categories[c] for c in classes]
    points = report.kpt_shape[0] if report.task == "pose" and report.kpt_shape else 0
    return dataset_tail(images, coco_writing.category_list(class_names, ids, points))


def _training_set(plan: MergePlan, tree: Folder) -> dict[str, int]:
    """Complete the training set: dataset.yaml, links to the images, and lists of them; the bytes of
    the files."""
    report = plan.report
    shape = report.kpt_shape if report.task == "pose" else None
    text = training_yaml(report.names, [*report.counts.classes], shape)
    with writing():
        tree.remove(TRAINING_FOLDERS[0])
        for name in TRAINING_FOLDERS:
            tree.make(name)
        sizes = {TRAINING_YAML: tree.write(TRAINING_YAML, text.encode())}
        sizes |= link_images(tree, plan.pieces, plan.training_images)
    return sizes


def _args(job: MergeJob, task: str, several: bool) -> dict[str, Any]:
    """Every option in effect, but those that are not set: a valid --config. `several`: models."""
    options = {**job.merging.in_effect(), **job.files.in_effect()}
    options.pop("roi", None)  # a place
    if not several:
        options.pop("ensemble", None)
    if task != "segment":
        options.pop("parts", None)
    return options


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
    digests = execution.stream(digest_of, plan.pieces[: len(records)])
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
        _require_args(folder, _args(plan.job, plan.report.task, bool(plan.report.models)))
        _require_sources(plan, target, folder, execution)
        try:
            report = msgspec.json.decode(content(folder, "report.json"), type=MergeReport)
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
    digests = execution.stream(digest_of, plan.pieces)
    total = len(plan.pieces)
    for number, (piece, digest) in enumerate(zip(plan.pieces, digests, strict=True), 1):
        entry = next(written, None)
        if entry is None or entry.source != piece.key or entry.digest != digest:
            raise changed(target, f"the predictions for {piece.key} changed since")
        require_files(folder, entry.files)
        execution.done(number, total)
