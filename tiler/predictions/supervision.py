"""Detections that supervision's CSVSink and JSONSink write."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, short
from tiler.formats import csv_cells
from tiler.formats.text_files import lenient_text
from tiler.predictions.files import decoded
from tiler.predictions.records import (
    Reasons,
    RecordFile,
    Records,
    by_key,
    confidences,
    image_key,
    matrix,
)
from tiler.predictions.row_format import SHARE
from tiler.predictions.validation import RowRules
from tiler.predictions.values import Reading

if TYPE_CHECKING:
    from tiler.types import Floats, Task

BOX = ("x_min", "y_min", "x_max", "y_max")
CORNERS = "xyxyxyxy"
IMAGE_COLUMNS = ("file_name", "image", "image_name", "filename", "source", "tile")

Row = Mapping[str, Any]


class SinkFile(NamedTuple):
    """A file of a sink.

    Attributes:
        key: the tile that a file among several is for; empty for a single file.
        rows: each with its line, 0 in JSON.
    """

    path: str
    key: str
    rows: list[tuple[int, Row]]


class SinkEntry(NamedTuple):
    """A row: its ordinal in the file, the file's index, the line (0 in JSON), and the values."""

    ordinal: int
    file: int
    line: int
    row: Row


def of_csv(data: bytes, path: str) -> list[tuple[int, Row]]:
    """The rows of a CSV by its header, each with its line.

    Raises:
        TilerError: not CSV, or not supervision's.
    """
    text = io.StringIO(lenient_text(data), newline="")
    reader = csv.DictReader(text, restkey="")
    try:
        if reader.fieldnames is None or not {*BOX} <= {*reader.fieldnames}:
            raise TilerError(
                f"{path}: expected columns {', '.join(BOX)}, class_id, confidence, got "
                f"{short(reader.fieldnames)}"
            )
        return [(reader.line_num, _unescaped(row)) for row in reader]
    except csv.Error as error:
        raise TilerError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _unescaped(row: dict[str, Any]) -> Row:
    """A row's texts as they were before they were escaped for a spreadsheet."""
    texts = {name: csv_cells.plain(text) for name, text in row.items() if isinstance(text, str)}
    return {**row, **texts}


def of_json(data: bytes, path: str) -> list[tuple[int, Row]]:
    """The entries of a JSON list; they have no line.

    Raises:
        TilerError: not JSON, or not a list of objects.
    """
    if data.lstrip()[:1] == b"{":
        keys = decoded(data, dict[str, msgspec.Raw], path)
        raise _other_keys(path, "a list of entries", keys)
    rows = decoded(data, list[dict[str, Any]], path)
    if rows and not any({*BOX} & row.keys() or CORNERS in row for row in rows):
        raise _other_keys(path, "entries", rows[0])
    return [(0, row) for row in rows]


def _other_keys(path: str, expected: str, found: Iterable[str]) -> TilerError:
    """A JSON has other keys than a sink's."""
    shown = ", ".join(sorted(found))[:200]
    return TilerError(
        f"{path}: expected {expected} with {', '.join(BOX)}, class_id and confidence, got {shown}"
    )


def read(files: Sequence[SinkFile], reading: Reading, findings: list[Finding]) -> RecordFile:
    """The detections of one or more files.

    Raises:
        TilerError: nothing names the images, there is no confidence, or outlines were asked for.
    """
    path = files[0].path
    entries = _entries(files)
    task = _task(entries, reading, path)
    column = _image_column(entries)
    keys, named = _named(entries, files, column, findings)
    records = _records(named, task, reading, path)
    if column is not None and len(files) > 1:
        # an image may be in several files: rows are counted over all of them
        records = replace(records, row=np.arange(len(records.row)))
    names, counts, ordered = by_key(keys, records)
    images = f"images by {column or 'file name'}: {len(names)} images, {len(entries)} rows"
    return RecordFile(
        kind=f"supervision, {task}, {images}",
        task=task,
        keys=names,
        counts=counts,
        findings=findings,
        records=ordered,
        paths=[file.path for file in files],
        rules=RowRules.of(reading),
    )


def _entries(files: Sequence[SinkFile]) -> list[SinkEntry]:
    entries = []
    for number, file in enumerate(files):
        for ordinal, (line, row) in enumerate(file.rows):
            entries.append(SinkEntry(ordinal, number, line, row))
    return entries


def _task(entries: Sequence[SinkEntry], reading: Reading, path: str) -> Task:
    """The task as given, else obb if most rows have corners.

    Raises:
        TilerError: outlines or keypoints, which sinks do not write.
    """
    if reading.task in ("segment", "pose"):
        raise TilerError(
            f"{path}: supervision's sinks write no outlines or keypoints, got --task {reading.task}"
        )
    if reading.task == "auto":
        turned = sum(bool(entry.row.get(CORNERS)) for entry in entries)
        return "obb" if turned >= max(1, SHARE * len(entries)) else "detect"
    return "obb" if reading.task == "obb" else "detect"


def _image_column(entries: Sequence[SinkEntry]) -> str | None:
    """The column that names the images; None if there is none."""
    for name in IMAGE_COLUMNS:
        if any(name in entry.row for entry in entries):
            return name
    return None


def _named(
    entries: Sequence[SinkEntry],
    files: Sequence[SinkFile],
    column: str | None,
    findings: list[Finding],
) -> tuple[list[str], list[SinkEntry]]:
    """The entries that name their image, after its key; the others become findings.

    Raises:
        TilerError: neither a column nor a file names the images.
    """
    keys, named = [], []
    for entry in entries:
        file = files[entry.file]
        name = file.key if column is None else entry.row.get(column)
        if isinstance(name, str) and name:
            keys.append(image_key(name))
            named.append(entry)
        elif column is None:
            raise TilerError(
                f"{files[0].path}: the rows do not name their image: add a custom column "
                f"{', '.join(IMAGE_COLUMNS)}"
            )
        else:
            where = "" if entry.line else f"entry {entry.ordinal}: "
            message = f"{where}{column} is {short(name)}, expected an image"
            findings.append(Finding(file.path, "D03", message, entry.line or None))
    return keys, named


def _records(entries: Sequence[SinkEntry], task: Task, reading: Reading, path: str) -> Records:
    rows = [entry.row for entry in entries]
    if task == "obb":
        numbers, rejected = matrix([_corners(row.get(CORNERS)) for row in rows], 8)
    else:
        numbers, rejected = _columns(rows, BOX)
    class_id, no_class = _columns(rows, ("class_id",))
    _add_reasons(rejected, no_class, rows, "class_id", "D04")
    conf, no_conf = matrix([[_confidence(row)] for row in rows], 1)
    _add_reasons(rejected, no_conf, rows, "confidence", "D08")
    places = np.array([entry[:3] for entry in entries], np.int64).reshape(-1, 3)
    return Records(
        row=places[:, 0],
        file=places[:, 1],
        line=places[:, 2],
        class_id=class_id[:, 0],
        conf=confidences(conf[:, 0], reading, path),
        numbers=numbers,
        rejected=rejected,
    )


def _columns(rows: Sequence[Row], names: tuple[str, ...]) -> tuple[Floats, Reasons]:
    """`(N, len(names))` numbers of columns, and the rows in which they are none."""
    return matrix([[_number(row.get(name)) for name in names] for row in rows], len(names))


def _add_reasons(
    rejected: Reasons, invalid: Reasons, rows: Sequence[Row], name: str, code: str
) -> None:
    """Reject the rows that are invalid for a column, unless they are rejected already."""
    for i in invalid:
        message = f"{name} is {short(rows[i].get(name))}"
        rejected.setdefault(i, (code, message))


def _confidence(row: Row) -> Any:
    """The confidence of a row, NaN where there is none."""
    given = row.get("confidence")
    return math.nan if given in (None, "") else _number(given)


def _number(value: Any) -> Any:
    """A number written as text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _corners(value: Any) -> Any:
    """Eight numbers of corners: nested lists, or text of them as JSON or numpy writes it."""
    if isinstance(value, str):
        words = value.translate(str.maketrans("[],", "   ")).split()
        return [_number(word) for word in words]
    if isinstance(value, list) and value and all(isinstance(point, list) for point in value):
        return [number for point in value for number in point]
    return value
