"""`tiler check`: what the trainer would reject of a dataset, and what else is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tiler.datasets import ignoring, labels, mask_sets, unlabelled
from tiler.datasets.dataset import Dataset, Source, label_path, without_split
from tiler.datasets.image_files import opened
from tiler.datasets.opening import find
from tiler.errors import TilerError, amount, printable
from tiler.findings import Finding, Level
from tiler.formats import html, manifest, report_json, yolo
from tiler.formats.mask_spec import MaskSpec
from tiler.formats.text_files import read_bytes, reason
from tiler.geometry.grids import MIN_SIDE
from tiler.images import reading
from tiler.images.header import Header, probe, suffix_fits
from tiler.options import CheckOptions, pixel_limit
from tiler.options.signatures import takes
from tiler.options.values import optional_path, path
from tiler.run import notes, workers
from tiler.run.rejecting import refusal

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import CheckArguments

CHUNK = 16
LEVELS: tuple[Level, ...] = get_args(Level)


SHOWN = 20  # findings, in a notebook


@dataclass(frozen=True, slots=True, repr=False)
class CheckReport:
    """What was checked and what was found, in the order of the images.

    Attributes:
        root: the folder that the findings' paths are relative to.
        task: detect, segment, obb, pose or semantic, and in `task_reason` how that was decided.
        images, rows: how many were checked.
    """

    root: Path
    task: str
    task_reason: str
    images: int
    rows: int
    findings: list[Finding]

    def __repr__(self) -> str:
        return printable(f"CheckReport({self.title()})")

    def title(self) -> str:
        """What was checked, in a line."""
        images, rows = amount(self.images, "image"), amount(self.rows, "row")
        return f"{images}, {self.task}, {rows}{report_json.in_words(self.findings)}"

    def _repr_html_(self) -> str:
        """The first findings, errors first."""
        found = sorted(self.findings, key=lambda finding: LEVELS.index(finding.level))
        rows = [[finding.level, str(finding)] for finding in found[:SHOWN]]
        caption = self.title()
        if len(found) > SHOWN:
            caption += f"; the first {SHOWN} of {len(found)} findings"
        return html.table(["level", "finding"], rows, caption)

    def exit_code(self) -> int:
        """1 if there is an error or a warning."""
        return int(any(finding.level != "note" for finding in self.findings))


@dataclass(frozen=True, slots=True)
class _CheckJob:
    """What checking an image needs beside the image.

    Attributes:
        spec: what label rows mean; None where masks are the only labels.
        pages: the number of pages of a TIFF, where they are the bands of one image; else 0.
        masks: what class masks mean, where there are some.
        frame: which image masks are for, where EXIF turns it.
    """

    root: Path
    spec: yolo.Spec | None
    max_pixels: int | None
    pages: int
    masks: MaskSpec | None
    frame: str


@dataclass(slots=True)
class _CheckedImage:
    """What was found in one image and its labels.

    Attributes:
        digest: of the image's content; "" where it could not be read.
    """

    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    digest: str = ""


@takes(CheckOptions)
def check(
    data: str | Path,
    *,
    images: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[CheckArguments],
) -> CheckReport:
    """Check a dataset as the trainer would read it, and for what `tiler split` needs.

    Every image is decoded, and every label row checked by the trainer's own rules. Also
    checked are pairs of images and labels, file names, images that are in two splits, and
    the manifest of an output of `tiler split`.

    Args:
        data: a dataset.yaml, a folder with one, or a COCO instances JSON.
        images: the images' folder, of a COCO JSON.
        progress: called with the number of images done, and of all.
        options: any of `CheckOptions` (task, workers, max_pixels).

    Raises:
        TilerError: the dataset cannot be read at all.
    """
    chosen = CheckOptions.of(options)
    chosen.require_in_effect()
    dataset = find(path(data, "data"), optional_path(images, "images"), chosen)
    dataset = mask_sets.settled(dataset, chosen.task, chosen.frame)
    task, reason = mask_sets.task_of(dataset, chosen.task)
    job = _job(dataset, task, chosen)
    ignoring.decide(dataset, chosen.ignored)
    findings = list(dataset.findings)
    if dataset.kind == "YOLO" and "val" not in dataset.splits:
        findings.append(without_split(dataset, "val", "tiler split --val 0.2 makes one"))
    if not chosen.unlabelled:
        findings += unlabelled.findings(dataset)
    total = len(dataset.sources)
    rows = 0
    progress = notes.watched("images checked", progress, notes.images)
    for done, checked in enumerate(_checked(job, dataset.sources, chosen.workers), 1):
        findings += checked.findings
        rows += checked.rows
        if progress is not None:
            progress(done, total)
    if dataset.rows:
        findings += _shared_labels(dataset)
    findings += _manifest(dataset.root)
    report = CheckReport(dataset.root, task, reason, total, rows, findings)
    notes.finished("check", [report.title()], findings)
    return report


def _job(dataset: Dataset, task: str, chosen: CheckOptions) -> _CheckJob:
    spec = None
    if dataset.rows:
        kpt_shape = dataset.kpt_shape if task == "pose" else None
        spec = yolo.Spec(task, len(dataset.names), kpt_shape)  # type: ignore[arg-type]
    limit = pixel_limit(chosen.max_pixels)
    return _CheckJob(dataset.root, spec, limit, dataset.pages, dataset.masks, chosen.frame)


def _checked(job: _CheckJob, sources: Sequence[Source], count: int) -> Iterator[_CheckedImage]:
    """Each image and its labels, in order."""
    chunks = [sources[i : i + CHUNK] for i in range(0, len(sources), CHUNK)]
    results = workers.stream(
        partial(_check_all, job),
        chunks,
        workers.count(count),
        "threading",
        lambda chunk: chunk[0].key,
    )
    first_with: dict[str, Source] = {}
    for source, checked in zip(sources, chain.from_iterable(results), strict=True):
        first = first_with.setdefault(checked.digest or source.key, source)
        if first.split != source.split:
            checked.findings.append(_in_two_splits(source, first))
        yield checked


def _in_two_splits(source: Source, first: Source) -> Finding:
    alias = "" if first.key == source.key else f", as {first.key},"
    return Finding(source.key, "P04", f"is in {source.split} and{alias} in {first.split}")


def _check_all(job: _CheckJob, chunk: Sequence[Source]) -> list[_CheckedImage]:
    return [_check_one(job, source) for source in chunk]


def _check_one(job: _CheckJob, source: Source) -> _CheckedImage:
    """One image and its labels."""
    checked = _CheckedImage()
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            checked.digest = hashlib.file_digest(file, "sha256").hexdigest()
            header = probe(file)
            reading.choose(header, source.bytes, job.max_pixels)
            checked.findings += _of_header(job, source, header)
            _check_labels(job, source, header, checked)
            reading.verify(file, header, job.max_pixels, job.pages)
    except Exception as error:  # whatever it is, the other images are checked
        rejected = refusal(error)
        path = rejected.path or source.key
        checked.findings.append(Finding(path, rejected.code, rejected.message))
    return checked


def _of_header(job: _CheckJob, source: Source, header: Header) -> Iterator[Finding]:
    """What the header of an image tells."""
    key = source.key
    width, height = header.size
    if min(width, height) < MIN_SIDE:
        yield Finding(key, "I05", f"{width} x {height} px, expected {MIN_SIDE} or more a side")
    if not suffix_fits(key, header):
        yield Finding(key, "I09", f"the content is {header.format}")
    if header.orientation != 1:
        what = "labels are for the turned image"
        yield Finding(key, "I10", f"EXIF orientation {header.orientation}: {what}")
    if header.frames > 1 and job.pages < 2:
        yield Finding(key, "I11", "several pages or frames; the trainer reads the first one")


def _check_labels(job: _CheckJob, source: Source, header: Header, checked: _CheckedImage) -> None:
    """The labels of an image."""
    if job.masks is not None and source.mask:
        _, noticed = mask_sets.read(job.root, source, job.masks, header, job.frame, job.max_pixels)
        checked.findings += noticed
    if job.spec is None:
        return
    file = labels.label_file(job.root, source)
    if file.data is None:
        checked.findings.append(Finding(source.key, "P01", "no label file"))
    read = labels.read(source, file, job.spec, *header.size)
    checked.findings += read.findings
    checked.rows = len(read.instances) + read.refused


def _shared_labels(dataset: Dataset) -> Iterator[Finding]:
    """Images that share a label file, since they differ in their suffix only."""
    if dataset.kind != "YOLO":
        return
    owner: dict[str, str] = {}
    for source in dataset.sources:
        name = label_path(source.key)
        first = owner.setdefault(name, source.key)
        if first != source.key:
            yield Finding(source.key, "P03", f"shares its label file with {first}")


def _manifest(root: Path) -> list[Finding]:
    """If the dataset is an output of `tiler split`: whether all tiles of the manifest are there,
    with the right number of rows.
    """
    path = root / manifest.NAME
    if not os.path.lexists(path):
        return []
    try:
        findings = manifest.missing(root)
        sources = list(manifest.read_sources(path))
        folders = manifest.read_head(path).folders
    except TilerError as error:
        return [Finding(manifest.NAME, "T01", f"the manifest cannot be read: {error}")]
    missing = {finding.path for finding in findings}
    for source in sources:
        if not source.labels:
            continue
        for folder in folders.of(source.split)[1:]:  # none for images without labels
            for tile in source.tiles:
                stem = f"{folder}/{tile.name}"
                if stem not in missing:
                    findings += _rows_of_tile(root, f"{stem}.txt", len(tile.rows))
    return findings


def _rows_of_tile(root: Path, name: str, expected: int) -> Iterator[Finding]:
    """Whether the label file of a tile has as many rows as expected."""
    try:
        rows = len(read_bytes(root / name, yolo.MAX_BYTES).splitlines())
    except OSError as error:
        yield Finding(name, "T01", f"cannot be read: {reason(error)}")
    except TilerError as error:
        yield Finding(name, "T01", f"cannot be read: {error}")
    else:
        if rows != expected:
            yield Finding(name, "T02", f"{rows} rows, the manifest has {expected}")
