"""`tiler check`: what the trainer would refuse of a dataset, and what else is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from tiler.datasets import labels, tasks
from tiler.datasets.sources import Dataset, Source, find, label_path, opened
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import manifest, yolo
from tiler.formats.text_files import read_bytes, reason
from tiler.geometry.grids import MIN_SIDE
from tiler.images import reading
from tiler.images.header import probe, suffix_fits
from tiler.options import CheckOptions, pixel_limit
from tiler.run import workers
from tiler.run.rejecting import refusal

CHUNK = 16


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at, and what was found, in the order of the images.

    Attributes:
        root: the folder that the findings' paths are relative to.
        images, rows: numbers looked at.
    """

    root: Path
    task: str
    task_reason: str
    images: int
    rows: int
    findings: list[Finding]

    def exit_code(self) -> int:
        """1 when there is an error or a warning."""
        return int(any(finding.level != "note" for finding in self.findings))


@dataclass(frozen=True, slots=True)
class _CheckJob:
    """What looking at an image needs beside the image."""

    root: Path
    spec: yolo.Spec
    classes: dict[int, int] | None
    coco_name: str
    max_pixels: int | None
    pages: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of one image."""

    findings: list[Finding]
    rows: int = 0
    digest: str = ""


def check(
    data: str | Path,
    *,
    images: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> CheckReport:
    """Check a dataset as the trainer would read it, and against what `tiler split` needs.

    Every image is decoded and every label row judged by the trainer's own rules; pairs,
    names, and images that stand in two splits are looked at, and of an output of
    `tiler split` the manifest too.

    Args:
        data: a dataset.yaml, a folder with one, or a COCO instances JSON.
        images: the images' folder, of a COCO JSON.
        progress: called with images done and of how many.
        options: any of `CheckOptions` (task, workers, max_pixels).

    Raises:
        TilerError: the dataset cannot be read at all.
    """
    chosen = CheckOptions.of(options)
    dataset = find(Path(data), None if images is None else Path(images))
    task, reason = tasks.decide(dataset, chosen.task)
    spec = yolo.Spec(task, len(dataset.names), dataset.kpt_shape if task == "pose" else None)
    findings = list(dataset.findings)
    chunks = [dataset.sources[i : i + CHUNK] for i in range(0, len(dataset.sources), CHUNK)]
    classes = dataset.coco.classes if dataset.coco is not None else None
    job = _CheckJob(
        dataset.root,
        spec,
        classes,
        dataset.file.name,
        pixel_limit(chosen.max_pixels),
        dataset.pages,
    )
    count = workers.count(chosen.workers)
    looks = workers.stream(
        partial(_look_all, job), chunks, count, "threading", lambda chunk: chunk[0].key
    )
    rows = 0
    seen: dict[str, Source] = {}
    for done, (source, look) in enumerate(
        zip(dataset.sources, chain.from_iterable(looks), strict=True), 1
    ):
        findings += look.findings
        rows += look.rows
        first = seen.setdefault(look.digest or source.key, source)
        if first.split != source.split:
            other = "" if first.key == source.key else f", as {first.key},"
            findings.append(
                Finding(source.key, "P04", f"stands in {source.split} and{other} in {first.split}")
            )
        if progress is not None:
            progress(done, len(dataset.sources))
    findings += _shared_labels(dataset)
    findings += _manifest(dataset.root)
    return CheckReport(dataset.root, task, reason, len(dataset.sources), rows, findings)


def _look_all(job: _CheckJob, chunk: Sequence[Source]) -> list[_Seen]:
    return [_look(job, source) for source in chunk]


def _look(job: _CheckJob, source: Source) -> _Seen:
    """One image and its labels."""
    key = source.key
    findings: list[Finding] = []
    rows, digest = 0, ""
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            header = probe(file)
            reading.choose(header, source.bytes, job.max_pixels)
            if min(header.size) < MIN_SIDE:
                sides = f"{header.size[0]} x {header.size[1]}"
                findings.append(
                    Finding(key, "I05", f"{sides} px, expected {MIN_SIDE} or more a side")
                )
            if not suffix_fits(source.key, header):
                findings.append(Finding(key, "I09", f"the content is {header.format}"))
            if header.orientation != 1:
                findings.append(
                    Finding(
                        key,
                        "I10",
                        f"EXIF orientation {header.orientation}: labels are for the turned image",
                    )
                )
            if header.frames > 1 and job.pages < 2:
                findings.append(
                    Finding(key, "I11", "several pages or frames; the trainer reads the first one")
                )
            label_file = labels.label_file(job.root, source, job.coco_name)
            if label_file.data is None:
                findings.append(Finding(key, "P01", "no label file"))
            read = labels.read(source, label_file, job.spec, job.classes, *header.size)
            findings += read.findings
            rows = len(read.instances) + read.refused
            reading.verify(file, header, job.max_pixels, job.pages)
    except Exception as error:  # whatever it is, the other images are looked at
        refused = refusal(error)
        findings.append(Finding(refused.path or key, refused.code, refused.message))
    return _Seen(findings, rows, digest)


def _shared_labels(dataset: Dataset) -> Iterator[Finding]:
    """Images of one stem in one folder have one label file for both."""
    if dataset.coco is not None:
        return
    owner: dict[str, str] = {}
    for source in dataset.sources:
        name = label_path(source.key)
        first = owner.setdefault(name, source.key)
        if first != source.key:
            yield Finding(source.key, "P03", f"shares its label file with {first}")


def _manifest(root: Path) -> list[Finding]:
    """Of an output of `tiler split`: each tile there, and as many rows as the manifest says."""
    path = root / manifest.NAME
    if not os.path.lexists(path):
        return []
    try:
        findings = manifest.missing(root)
        entries = list(manifest.read_sources(path))
    except TilerError as error:
        return [Finding(manifest.NAME, "T01", f"the manifest cannot be read: {error}")]
    gone = {finding.path for finding in findings}
    for entry in entries:
        for tile in entry.tiles:
            name = f"labels/{entry.split}/{tile.name}.txt"
            if name[:-4] in gone:
                continue
            try:
                rows = len(read_bytes(root / name, yolo.MAX_BYTES).splitlines())
            except (OSError, TilerError) as error:
                why = reason(error) if isinstance(error, OSError) else str(error)
                findings.append(Finding(name, "T01", f"cannot be read: {why}"))
                continue
            if rows != len(tile.rows):
                findings.append(
                    Finding(name, "T02", f"{rows} rows, the manifest has {len(tile.rows)}")
                )
    return findings
