"""Detections that supervision's CSVSink and JSONSink write."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, short
from tiler.formats import csv_cells
from tiler.formats.text_files import lenient_text
from tiler.predictions.files import decoded
from tiler.predictions.records import RecordFile, Records, by_key, image_key, matrix, sure
from tiler.predictions.row_format import SHARE
from tiler.predictions.values import Reading

if TYPE_CHECKING:
    from tiler.types import Task

BOX = ("x_min", "y_min", "x_max", "y_max")
CORNERS = "xyxyxyxy"
PICTURE = ("file_name", "image", "image_name", "filename", "source", "tile")

Row = Mapping[str, Any]
Entry = tuple[int, int, int, Row]  # ordinal in its file, file, line (0 in JSON), the row


def of_csv(data: bytes, shown: str) -> list[tuple[int, Row]]:
    """The rows of a CSV by its header, each with its line.

    Raises:
        TilerError: not CSV, or not supervision's.
    """
    reader = csv.DictReader(io.StringIO(lenient_text(data), newline=""), restkey="")
    try:
        if reader.fieldnames is None or not {*BOX} <= {*reader.fieldnames}:
            raise TilerError(
                f"{shown}: expected columns {', '.join(BOX)}, class_id, confidence, got "
                f"{short(reader.fieldnames)}"
            )
        return [(reader.line_num, _meant(row)) for row in reader]
    except csv.Error as error:
        raise TilerError(f"{shown}:{reader.line_num}: not CSV: {error}") from None


def _meant(row: dict[str, Any]) -> Row:
    """A row's texts as they were before somebody escaped them."""
    return {
        name: csv_cells.plain(value) if isinstance(value, str) else value
        for name, value in row.items()
    }


def of_json(data: bytes, shown: str) -> list[tuple[int, Row]]:
    """The entries of a JSON list; they have no line.

    Raises:
        TilerError: not JSON, or not a list of objects.
    """
    return [(0, row) for row in decoded(data, list[dict[str, Any]], shown)]


def read(
    files: Sequence[tuple[str, str, list[tuple[int, Row]]]],
    reading: Reading,
    findings: list[Finding],
) -> RecordFile:
    """The detections of one or more files.

    Args:
        files: path, key (the tile that a file among several is for; empty for a single file) and
            rows.

    Raises:
        TilerError: nothing names the images, there is no confidence, or outlines were asked for.
    """
    shown = files[0][0]
    entries = [
        (i, file, line, row)
        for file, (_, _, rows) in enumerate(files)
        for i, (line, row) in enumerate(rows)
    ]
    if reading.task in ("segment", "pose"):
        raise TilerError(
            f"{shown}: supervision's sinks write no outlines or keypoints, got --task "
            f"{reading.task}"
        )
    turned = sum(bool(row.get(CORNERS)) for *_, row in entries) >= max(1, SHARE * len(entries))
    task: Task = "obb" if reading.task == "obb" or (reading.task == "auto" and turned) else "detect"
    column = next((name for name in PICTURE if any(name in row for *_, row in entries)), None)
    keys, index = [], []
    for i, (ordinal, file, line, row) in enumerate(entries):
        name = files[file][1] if column is None else row.get(column)
        if isinstance(name, str) and name:
            keys.append(image_key(name))
            index.append(i)
        elif column is not None:
            where = "" if line else f"entry {ordinal}: "
            findings.append(
                Finding(
                    files[file][0],
                    "D03",
                    f"{where}{column} is {short(name)}, expected an image",
                    line or None,
                )
            )
        else:
            raise TilerError(
                f"{shown}: nothing says which image a row is of: write a custom column "
                f"{', '.join(PICTURE)}"
            )
    records = _records([entries[i] for i in index], task, reading, shown)
    names, counts, ordered = by_key(
        keys, _numbered(records) if column is not None and len(files) > 1 else records
    )
    kind = (
        f"supervision, {task}, images by {column or 'file name'}: {len(names)} images, "
        f"{len(entries)} rows"
    )
    paths = [path for path, _, _ in files]
    return RecordFile(
        kind, task, names, counts, findings, ordered, paths, reading.classes, exact=reading.exact
    )


def _records(entries: Sequence[Entry], task: Task, reading: Reading, shown: str) -> Records:
    corners = [
        _quad(row.get(CORNERS)) if task == "obb" else [_number(row.get(name)) for name in BOX]
        for *_, row in entries
    ]
    numbers, faults = matrix(corners, 8 if task == "obb" else 4)
    class_id, unknown = matrix([[_number(row.get("class_id"))] for *_, row in entries], 1)
    conf, unsure = matrix(
        [
            [math.nan if row.get("confidence") in (None, "") else _number(row["confidence"])]
            for *_, row in entries
        ],
        1,
    )
    for wrong, name, code in ((unknown, "class_id", "D04"), (unsure, "confidence", "D08")):
        for i in wrong:
            faults.setdefault(i, (code, f"{name} is {short(entries[i][3].get(name))}"))
    ordinal, file, line = np.array([entry[:3] for entry in entries], np.int64).reshape(-1, 3).T
    return Records(
        ordinal,
        file,
        line,
        class_id[:, 0],
        sure(conf[:, 0], reading, shown),
        numbers,
        faults=faults,
    )


def _numbered(records: Records) -> Records:
    """Rows counted over all files, when an image may be in several."""
    return replace(records, row=np.arange(len(records.row)))


def _number(value: Any) -> Any:
    """A number written as text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _quad(value: Any) -> Any:
    """Eight numbers of corners: nested lists, or text of them as JSON or numpy writes it."""
    if isinstance(value, str):
        value = [_number(word) for word in value.translate(str.maketrans("[],", "   ")).split()]
    if isinstance(value, list) and value and all(isinstance(point, list) for point in value):
        return [v for point in value for v in point]
    return value
