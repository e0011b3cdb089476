"""Files of a detector whose format is known: what each holds, and all of them as predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import coco
from tiler.predictions import json_results
from tiler.predictions.coordinates import PIXELS, PointFrame
from tiler.predictions.entries import Entry
from tiler.predictions.json_results import EntryOrigin

if TYPE_CHECKING:
    from tiler.predictions.records import RecordFile
    from tiler.predictions.values import Reading


@dataclass(slots=True, eq=False)
class FileEntries:
    """The detections of one file.

    Attributes:
        entries: those without a `file_name` are of the tile that the file is named after.
        lines: the line of each entry, from 1; empty in JSON and XML.
        images: names of images that the file is for, also those without detections.
        named_by: what names the image of each entry; empty: the name of the file.
        doubtful: what names it may be something else, and does not count if there are more files.
        findings: about objects that became no entry.
    """

    entries: list[Entry] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    named_by: str = ""
    doubtful: bool = False
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DetectorFormat:
    """A format of detectors' files.

    Attributes:
        title: what it is called.
        parse: the entries in the bytes of a file, whose path is for messages; raises `TilerError`.
        whole_run: one file holds the detections of all tiles, and names them.
        names_images: what must name the image in a single file; empty: its own name may do so.
        first_id: the id of the first class, if the format is known to count from it.
        base_hint: what its ids usually count from, where that is not certain.
        usual: what coordinates count in, unless the user says otherwise.
        max_bytes: of a file.
    """

    title: str
    parse: Callable[[bytes, str], FileEntries]
    whole_run: bool = False
    names_images: str = ""
    first_id: int | None = 0
    base_hint: str = ""
    usual: PointFrame = PIXELS
    max_bytes: int = coco.MAX_BYTES

    def entries(self, data: bytes, path: str) -> FileEntries:
        """The detections in the bytes of a file.

        Raises:
            TilerError: they cannot be read as this format, or are too many.
        """
        if len(data) > self.max_bytes:
            raise TilerError(f"{path}: more than {self.max_bytes} bytes")
        return self.parse(data, path)


@dataclass(frozen=True, slots=True, eq=False)
class DetectorFile:
    """A file that was read. `key`: the tile that its name stands for."""

    path: str
    key: str
    found: FileEntries


def read(
    known: DetectorFormat,
    files: Sequence[DetectorFile],
    reading: Reading,
    findings: Sequence[Finding] = (),
    note: str = "",
) -> RecordFile:
    """The detections of one or more files of a format.

    Args:
        findings: about files that cannot be read.
        note: added to the description of what was found.

    Raises:
        TilerError: nothing names the images, classes or keypoints are ambiguous, there is no
            confidence, or outlines or keypoints were asked for and are not there.
    """
    named_by = _named_by(known, files)
    entries = _entries(files, bool(named_by))
    _require_task(known, entries, reading, files[0].path)
    origin = EntryOrigin(
        title=known.title,
        paths=[file.path for file in files],
        file=_repeated(files, range(len(files))),
        row=_rows(files, bool(named_by)),
        line=_lines(files),
        images=_images(files, named_by),
        first_id=known.first_id,
        base_hint=known.base_hint,
        usual=known.usual,
        named_by=named_by or "file name",
        note=note,
    )
    noticed = [*findings]
    for file in files:
        noticed += file.found.findings
    return json_results.read_entries(entries, origin, reading, noticed)


def _named_by(known: DetectorFormat, files: Sequence[DetectorFile]) -> str:
    """What names the images in all files.

    Raises:
        TilerError: nothing does, or not the same in all files.
    """
    by_name: dict[str, str] = {}
    for file in files:
        doubtful = file.found.doubtful and len(files) > 1
        if file.found.entries:
            by_name.setdefault("" if doubtful else file.found.named_by, file.path)
    if len(by_name) > 1:
        ways = [f"by {name or 'the file name'} in {path}" for name, path in by_name.items()]
        raise TilerError(f"images are named {' and '.join(ways)}: give files of one kind")
    named_by = next(iter(by_name), "")
    if not named_by and len(files) == 1 and not files[0].key and known.names_images:
        raise TilerError(f"{files[0].path}: {known.names_images}")
    return named_by


def _entries(files: Sequence[DetectorFile], named: bool) -> list[Entry]:
    """All entries, each with the name of its image. `named`: they have it themselves.

    Raises:
        TilerError: only some have it.
    """
    entries = []
    for file in files:
        if not named and not file.found.doubtful:
            _require_unnamed(file)
        for entry in file.found.entries:
            if not named:
                entry.file_name = file.key
            entries.append(entry)
    return entries


def _require_unnamed(file: DetectorFile) -> None:
    """Reject a file that is of one tile by most of its entries, while some name another."""
    for number, entry in enumerate(file.found.entries, 1):
        if entry.file_name is not None or entry.image_id is not None:
            raise TilerError(
                f"{file.path}: entry {number} names its image, others do not: expected all or none"
            )


def _require_task(
    known: DetectorFormat, entries: Sequence[Entry], reading: Reading, path: str
) -> None:
    """Reject a task that none of the entries can serve."""
    if reading.task == "segment":
        what, there = "outlines", any(entry.segmentation for entry in entries)
    elif reading.task == "pose":
        what, there = "keypoints", any(entry.keypoints for entry in entries)
    elif reading.task == "obb":
        what = "corners"
        there = any(entry.poly or entry.rbox or entry.segmentation for entry in entries)
    else:
        return
    if entries and not there:
        raise TilerError(f"{path}: {known.title} with no {what}, got --task {reading.task}")


def _repeated(files: Sequence[DetectorFile], values: Sequence[int]) -> Any:
    """`(N,)` a value of each file, for each of its entries."""
    return np.repeat(np.array(values, np.int64), [len(file.found.entries) for file in files])


def _rows(files: Sequence[DetectorFile], named: bool) -> Any:
    """`(N,)` the ordinal of each entry in its file; over all files where one image may be in
    several of them.
    """
    counts = [len(file.found.entries) for file in files]
    ordinals = np.arange(sum(counts))
    if named:
        return ordinals
    starts = np.cumsum([0, *counts[:-1]])
    return ordinals - np.repeat(starts, counts)


def _lines(files: Sequence[DetectorFile]) -> Any:
    lines = []
    for file in files:
        lines += file.found.lines or [0] * len(file.found.entries)
    return np.array(lines, np.int64)


def _images(files: Sequence[DetectorFile], named_by: str) -> list[str]:
    """Names of the images that the files are for."""
    images = [name for file in files for name in file.found.images]
    if not named_by:
        images += [file.key for file in files if file.key and not file.found.images]
    return images
