"""DOTA's Task1 files: one for each class, `image score x1 y1 ... x4 y4` a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, condensed
from tiler.formats.text_files import lenient_text
from tiler.predictions.files import content
from tiler.predictions.records import Reasons, RecordFile, Records, by_key, image_key
from tiler.predictions.validation import RowRules
from tiler.predictions.values import Reading

PREFIX = "Task1_"
WORDS = 10  # of a row: image, score, eight coordinates


class ClassFile(NamedTuple):
    """A file of one class.

    Attributes:
        number: its place among the files.
        class_id: NaN if the class is not known; `unknown` then says so.
    """

    path: str
    number: int
    class_id: float
    unknown: str


@dataclass(slots=True, eq=False)
class _DotaRows:
    """The rows of all files so far, those with too few words left out.

    Attributes:
        keys: the image of each.
        places: ordinal over all files, file and line of each.
        numbers: class, score and corners of each.
        rejected: by index, what is wrong with it.
        count: of all rows, those left out too.
    """

    keys: list[str] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    numbers: list[list[float]] = field(default_factory=list)
    rejected: Reasons = field(default_factory=dict)
    count: int = 0

    def add(self, file: ClassFile, line: int, words: list[str]) -> None:
        """A row of ten words."""
        index = len(self.keys)
        try:
            numbers = [float(word) for word in words[1:]]
        except ValueError:
            numbers = [np.nan] * (WORDS - 1)
            found = " ".join(words[1:])[:60]
            self.rejected[index] = "D02", f"found '{found}', expected 9 numbers"
        if file.unknown:
            self.rejected[index] = "D04", file.unknown
        self.keys.append(image_key(words[0].strip()))
        self.places.append((self.count, file.number, line))
        self.numbers.append([file.class_id, *numbers])

    def records(self) -> Records:
        places = np.array(self.places, np.int64).reshape(-1, 3)
        numbers = np.array(self.numbers, np.float64).reshape(-1, WORDS)
        return Records(
            row=places[:, 0],
            file=places[:, 1],
            line=places[:, 2],
            class_id=numbers[:, 0],
            conf=numbers[:, 1],
            numbers=numbers[:, 2:],
            rejected=self.rejected,
        )


def read(folder: str, names: Sequence[str], reading: Reading) -> RecordFile:
    """The detections in files `Task1_<class>.txt` of a folder; rows are counted over all of them.

    Raises:
        TilerError: another task was asked for.
    """
    if reading.task not in ("auto", "obb"):
        raise TilerError(f"{folder}: files {PREFIX}<class>.txt hold obb, got --task {reading.task}")
    findings: list[Finding] = []
    rows = _DotaRows()
    classes, rules = _classes_and_rules(folder, names, reading)
    files = _class_files(folder, names, classes)
    for file in files:
        _read_file(file, rows, findings)
    keys, counts, records = by_key(rows.keys, rows.records())
    order = ", classes in the order of the files" if classes is None else ""
    return RecordFile(
        kind=f"DOTA Task1, obb{order}: {len(files)} files, {rows.count} rows",
        task="obb",
        keys=keys,
        counts=counts,
        findings=condensed(findings),
        records=records,
        paths=[file.path for file in files],
        rules=rules,
    )


def _classes_and_rules(
    folder: str, names: Sequence[str], reading: Reading
) -> tuple[tuple[str, ...] | None, RowRules]:
    """The names of the classes, which with --map-classes are those of the files, and the rules."""
    class_map = reading.class_map
    if class_map is None or not class_map.maps:
        return reading.names, RowRules.of(reading)
    classes = tuple(sorted({*map(_label, names)}))
    return classes, RowRules.of_named(reading, class_map.by_name(classes, folder))


def _class_files(
    folder: str, names: Sequence[str], classes: tuple[str, ...] | None
) -> list[ClassFile]:
    """The files with the class of each: by its name, or by its place where no names are known."""
    class_ids = {name.replace(" ", "-"): i for i, name in enumerate(classes or ())}
    files = []
    for number, name in enumerate(names):
        path = os.path.join(folder, *name.split("/"))
        label = _label(name)
        class_id: float | None = number
        if classes is not None:
            class_id = class_ids.get(label.replace(" ", "-"))
        if class_id is None:
            unknown = f"no class is named {label}{did_you_mean(label, class_ids)}"
            files.append(ClassFile(path, number, np.nan, unknown))
        else:
            files.append(ClassFile(path, number, float(class_id), ""))
    return files


def _label(name: str) -> str:
    """The class that a file is named after."""
    return os.path.basename(name).removeprefix(PREFIX).removesuffix(".txt")


def _read_file(file: ClassFile, rows: _DotaRows, findings: list[Finding]) -> None:
    """Add a file's rows; those with too few words become findings."""
    data = content(file.path, findings) or b""
    lines = lenient_text(data).splitlines()
    for line, text in enumerate(lines, 1):
        words = text.rsplit(None, WORDS - 1)
        if len(words) == WORDS:
            rows.add(file, line, words)
        elif words:
            message = f"expected an image, a score and 8 coordinates, got {len(words)} values"
            findings.append(Finding(file.path, "D03", message, line))
        rows.count += bool(words)
