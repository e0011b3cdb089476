"""Detections as rows with named fields, in CSV or in a JSON list: a table of field names each.

Of supervision's CSVSink and JSONSink; of `results.pandas().xyxy[0]` of YOLOv5's hub models
(`to_csv`, `to_json(orient="records")`); of DeepForest's `predict_tile(...).to_csv`; of Ultralytics'
`Results.to_json` and `to_csv`, whose fields the reference of `Results.summary` lists.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from tiler.errors import TilerError
from tiler.findings import short
from tiler.formats import csv_cells
from tiler.formats.text_files import lenient_text
from tiler.predictions.detector_files import FileEntries
from tiler.predictions.detector_values import box, is_number, number, score, triples
from tiler.predictions.entries import Entry
from tiler.predictions.files import decoded
from tiler.predictions.records import SUFFIXES

IMAGE_COLUMNS = (
    "file_name", "image", "image_name", "filename", "source", "tile", "image_path", "path",
)  # fmt: skip
TILE_NAME = re.compile(r"\d_{1,3}\d")  # between its offsets
QUOTED = str.maketrans("'()", '"[]')  # Python's notation of nested numbers, as JSON

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RowFields:
    """The names of a format's fields; of several, the first one that a row has counts.

    Attributes:
        box: left, top, right, bottom.
        corners: eight numbers of an OBB.
    """

    box: tuple[str, ...]
    class_id: tuple[str, ...]
    class_name: tuple[str, ...]
    score: tuple[str, ...]
    corners: tuple[str, ...] = ()

    @property
    def all(self) -> set[str]:
        """Every field that has a meaning."""
        parts = (self.box, self.class_id, self.class_name, self.score, self.corners)
        return {*chain(*parts), "tracker_id", "track_id", "geometry", ""}

    def entry(self, row: Row) -> Entry:
        """The detection in a row."""
        name, class_id = _first(row, self.class_name), _first(row, self.class_id)
        if class_id is None and is_number(name):
            name, class_id = None, name
        elif name is None and isinstance(class_id, str) and not is_number(class_id):
            name = class_id
        return Entry(
            category_id=number(class_id),
            category_name=name,
            bbox=box([row.get(side) for side in self.box]),
            score=score(_first(row, self.score)),
            poly=_corners(_first(row, self.corners)),
        )


SUPERVISION = RowFields(
    box=("x_min", "y_min", "x_max", "y_max"),
    class_id=("class_id",),
    class_name=("class_name",),
    score=("confidence",),
    corners=("xyxyxyxy",),
)
TABLE = RowFields(
    box=("xmin", "ymin", "xmax", "ymax"),
    class_id=("class", "class_id"),
    class_name=("name", "label", "class_name"),
    score=("confidence", "score"),
)
SUMMARY = RowFields(  # of Ultralytics; its box, segments and keypoints have fields of their own
    box=("box", "segments", "keypoints"),
    class_id=("class",),
    class_name=("name",),
    score=("confidence",),
)


def supervision(data: bytes, path: str) -> FileEntries:
    """The rows of a sink."""
    return _read(data, path, SUPERVISION, SUPERVISION.entry)


def table(data: bytes, path: str) -> FileEntries:
    """The rows of a pandas table with `xmin` to `ymax`."""
    return _read(data, path, TABLE, TABLE.entry)


def summary(data: bytes, path: str) -> FileEntries:
    """The rows of Ultralytics' `to_json` or `to_csv`."""
    return _read(data, path, SUMMARY, _summarised)


def header(data: bytes, path: str) -> set[str]:
    """The names of a CSV's columns.

    Raises:
        TilerError: not CSV.
    """
    line = io.StringIO(lenient_text(data[: data.find(b"\n") + 1] or data), newline="")
    try:
        return {*next(csv.reader(line), [])}
    except csv.Error as error:
        raise TilerError(f"{path}:1: not CSV: {error}") from None


def _read(data: bytes, path: str, fields: RowFields, entry: Callable[[Row], Entry]) -> FileEntries:
    lines: list[int] = []
    if data.lstrip()[:1] == b"[":
        rows: list[Row] = [*decoded(data, list[dict[str, Any]], path)]
    else:
        lines, rows = _csv_rows(data, path)
    column, doubtful = _image_column(rows, fields.all, path)
    entries = [entry(row) for row in rows]
    if column:
        for each, row in zip(entries, rows, strict=True):
            each.file_name = row.get(column)
            each.image_id = row.get(column)  # said where it is no name
    return FileEntries(entries, lines, named_by=column, doubtful=doubtful)


def _csv_rows(data: bytes, path: str) -> tuple[list[int], list[Row]]:
    """The lines and the rows of a CSV."""
    reader = csv.DictReader(io.StringIO(lenient_text(data), newline=""), restkey="")
    lines: list[int] = []
    rows: list[Row] = []
    try:
        for row in reader:
            lines.append(reader.line_num)
            rows.append(_unescaped(row))
    except csv.Error as error:
        raise TilerError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    return lines, rows


def _unescaped(row: dict[str, Any]) -> Row:
    """A row's texts as they were before they were escaped for a spreadsheet."""
    texts = {name: csv_cells.plain(text) for name, text in row.items() if isinstance(text, str)}
    return {**row, **texts}


def _image_column(rows: Sequence[Row], known: set[str], path: str) -> tuple[str, bool]:
    """The column that names the images: of a usual name, else the one with names of image files,
    else, with doubt, of tiles. Empty if there is none.

    Raises:
        TilerError: several columns may be it.
    """
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    for name in IMAGE_COLUMNS:
        if name in names:
            return name, False
    others = [name for name in names if name not in known]
    for names_image in (_is_image_file, _is_tile):
        found = [name for name in others if all(names_image(row.get(name)) for row in rows)]
        if len(found) > 1:
            raise TilerError(
                f"{path}: columns {', '.join(found)[:200]} may name the images: call the right one "
                "file_name"
            )
        if found:
            return found[0], names_image is _is_tile
    return "", False


def _is_image_file(value: Any) -> bool:
    return isinstance(value, str) and value.rpartition(".")[2].lower() in SUFFIXES


def _is_tile(value: Any) -> bool:
    return isinstance(value, str) and TILE_NAME.search(value) is not None


def _first(row: Row, names: Iterable[str]) -> Any:
    """The value of the first of some fields that a row has; None if it has none."""
    for name in names:
        value = row.get(name)
        if value not in (None, ""):
            return value
    return None


def _corners(value: Any) -> Any:
    """Eight numbers of corners: nested lists, or text of them as JSON or numpy writes it."""
    if isinstance(value, str):
        words = value.translate(str.maketrans("[],", "   ")).split()
        return [number(word) for word in words]
    if isinstance(value, list) and value and all(isinstance(point, list) for point in value):
        return triples(value)
    return value


def _summarised(row: Row) -> Entry:
    """The detection in a row of Ultralytics' summary."""
    entry = SUMMARY.entry(row)
    sides, segments, keypoints = (_nested(row.get(name)) for name in SUMMARY.box)
    entry.bbox = None
    if "x4" in sides:
        entry.poly = [sides.get(f"{axis}{i}") for i in (1, 2, 3, 4) for axis in "xy"]
    else:
        entry.bbox = box([sides.get(name) for name in ("x1", "y1", "x2", "y2")])
    if segments:
        entry.segmentation = [_points(segments, "xy")]
    if keypoints:
        axes = ("x", "y", "visible") if keypoints.get("visible") else ("x", "y")
        entry.keypoints = _points(keypoints, axes)
    return entry


def _nested(value: Any) -> dict[str, Any]:
    """A nested value; in a CSV it is text of JSON, or as Python writes it. Empty if it is none."""
    if isinstance(value, str) and value:
        text = value.translate(QUOTED).replace("nan", "null").replace("None", "null")
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return {}
    return value if isinstance(value, dict) else {}


def _points(columns: Mapping[str, Any], axes: Sequence[str]) -> Any:
    """The numbers of points, one point after the other."""
    values: list[Any] = [columns.get(axis) for axis in axes]
    if not all(isinstance(value, list) for value in values):
        return short(columns)
    if len({*map(len, values)}) != 1:
        return short(columns)
    return triples([*zip(*values, strict=True)])
