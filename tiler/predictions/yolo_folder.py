"""A folder of YOLO txt: one file a tile, one row a detection."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.findings import Finding
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.columns import Columns
from tiler.geometry.polygons import Rings
from tiler.predictions import validation
from tiler.predictions.files import content
from tiler.predictions.placing import PlacedRows, limited, placed, placed_keypoints
from tiler.predictions.row_format import RowFormat, ValueTally, decide, lengths
from tiler.predictions.text_rows import TextRows, concatenate, parse
from tiler.predictions.validation import RejectedRow, RowRules
from tiler.predictions.values import Detections, Frames, Reading, RowExtents

if TYPE_CHECKING:
    from tiler.types import Floats, Ints, Task

KEPT = 200_000_000  # bytes of text whose numbers stay in memory
FILES = 1000  # that are parsed at once, where text does not stay in memory
TOGETHER = 32_000_000  # bytes of text that are parsed at once


@dataclass(frozen=True, slots=True, eq=False)
class TextBatch:
    """Some files of a folder; `rows` is None when they are to be read again."""

    paths: list[str]
    row_format: RowFormat
    rules: RowRules
    rows: TextRows | None = None

    def extents(self) -> RowExtents:
        """See `values.FileBatch`."""
        if self.rows is not None:
            return _extents(self.rows, self.row_format, self.rules)
        parts = []
        for start in range(0, len(self.paths), FILES):
            texts = [content(path, []) or b"" for path in self.paths[start : start + FILES]]
            part = _extents(parse(texts), self.row_format, self.rules)
            parts.append(replace(part, tile=part.tile + start))
        return RowExtents(
            np.concatenate([part.tile for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.class_id for part in parts]),
            np.concatenate([part.unreadable for part in parts]),
            self.row_format.coordinates_in,
            self.rules.class_map,
        )

    def read(self, frames: Frames) -> Detections:
        """See `values.FileBatch`."""
        findings: list[Finding] = []
        rows = self.rows
        if rows is None:
            rows = parse([content(path, findings) or b"" for path in self.paths])
        layouts, rejected = _layouts(rows, self.row_format)
        valid = _placed(rows, layouts, self.row_format, frames)
        digest = "" if self.rules.exact else _digest(rows, self.row_format)
        read = validation.validated(valid, rejected, frames, self.rules, self.paths, digest)
        return replace(read, findings=findings + read.findings)


def _extents(rows: TextRows, row_format: RowFormat, rules: RowRules) -> RowExtents:
    layouts, _ = _layouts(rows, row_format)
    starts = rows.starts[:-1][layouts.row]
    boxes = np.full((len(rows), 4), np.nan)
    boxes[layouts.row] = _bounds(rows, layouts, row_format)
    conf = _conf(rows, starts, layouts.conf, row_format.assume_conf)
    class_id = np.full(len(rows), np.nan)
    class_id[layouts.row] = rows.values[starts]
    known = validation.known_classes(rows.values[starts], rules.classes)
    readable = np.zeros(len(rows), bool)
    readable[layouts.row] = known & validation.valid_confidences(conf)
    coordinates = row_format.coordinates_in
    return RowExtents(rows.owners, boxes, class_id, ~readable, coordinates, rules.class_map)


def _bounds(rows: TextRows, layouts: _RowLayouts, row_format: RowFormat) -> Floats:
    """`(N, 4)` xyxy of the rows that have a layout, as they are given."""
    starts = rows.starts[:-1][layouts.row] + layouts.first
    if row_format.task in ("segment", "obb"):
        values = limited(rows.values[ragged.spans(starts, layouts.coordinates)])
        return _rings(values.reshape(-1, 2), layouts.coordinates // 2).bounds()
    matrix = rows.values[starts[:, None] + np.arange(4)]
    return box.from_cxcywh(limited(matrix))


@dataclass(slots=True, eq=False)
class _TextFiles:
    """The files of a folder that can be read."""

    folder: str
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def texts(self, names: Sequence[str]) -> Iterator[list[bytes]]:
        """Read the files, about `TOGETHER` bytes at a time, and note their keys and paths."""
        texts: list[bytes] = []
        size = 0
        for name in names:
            path = os.path.join(self.folder, *name.split("/"))
            data = content(path, self.findings)
            if data is None:
                continue
            self.keys.append(name.removesuffix(".txt"))
            self.paths.append(path)
            texts.append(data)
            size += len(data)
            if size > TOGETHER:
                yield texts
                texts, size = [], 0
        yield texts


@dataclass(frozen=True, slots=True, eq=False)
class TextFolder:
    """The files of a folder and the format of their rows. See `values.Predictions`."""

    kind: str
    keys: list[str]
    counts: list[int]
    findings: list[Finding]
    paths: list[str]
    row_format: RowFormat
    rules: RowRules
    rows: TextRows | None
    numeric: bool = False
    sizing: None = None

    @property
    def task(self) -> Task:
        return self.row_format.task

    @property
    def kpt_shape(self) -> tuple[int, int] | None:
        return self.row_format.kpt_shape

    def batch(self, indices: Sequence[int]) -> TextBatch:
        """See `values.Predictions`."""
        paths = [self.paths[i] for i in indices]
        rows = None if self.rows is None else self.rows.take(indices)
        return TextBatch(paths, self.row_format, self.rules, rows)


def open_folder(folder: str, names: Sequence[str], reading: Reading, note: str = "") -> TextFolder:
    """The predictions in txt files of a folder.

    Args:
        names: posix paths of the files in the folder, sorted by what stands before `.txt`.
        note: added to the description of what was found.

    Raises:
        TilerError: the format of the rows is ambiguous.
    """
    files = _TextFiles(folder)
    tally = ValueTally()
    counts: list[int] = []
    kept: list[TextRows] = []
    size = 0
    for texts in files.texts(names):
        rows = parse(texts)
        tally.count(rows)
        counts += np.diff(rows.files).tolist()
        size += sum(map(len, texts))
        if size <= KEPT:
            kept.append(rows)
        else:
            kept.clear()
    row_format = decide(tally, reading, folder)
    kind = _kind(tally, row_format)
    rules = replace(RowRules.of(reading), confidence_hint=row_format.hint)
    held = None
    if size <= KEPT:
        held = concatenate(kept)
    return TextFolder(
        kind=f"{kind}: {len(files.keys)} files, {sum(counts)} rows{note}",
        keys=files.keys,
        counts=counts,
        findings=files.findings,
        paths=files.paths,
        row_format=row_format,
        rules=rules,
        rows=held,
    )


def _kind(tally: ValueTally, row_format: RowFormat) -> str:
    """The format in words."""
    shape = "" if row_format.kpt_shape is None else f" {list(row_format.kpt_shape)}"
    kind = f"Ultralytics txt, {row_format.task}{shape}"
    with_conf, without = lengths(tally, row_format)
    if row_format.assume_conf is None:
        without = []  # those are rejected
    counts = sorted(with_conf + without)
    if not counts:
        return kind
    if not without:
        conf = "with confidence"
    elif with_conf:
        conf = f"with or without confidence, taken as {row_format.assume_conf:g}"
    else:
        conf = f"without confidence, taken as {row_format.assume_conf:g}"
    if row_format.conf_first:
        conf += " after the class"
    if len(counts) > 3:
        values = f"{counts[0]} to {counts[-1]} values a row"
    else:
        values = f"{' or '.join(map(str, counts))} values a row"
    if row_format.task == "obb":
        values += "; outlines of 4 points need --task segment"
    return f"{kind} {conf} ({values})"


def _digest(rows: TextRows, row_format: RowFormat) -> str:
    digest = hashlib.blake2b(repr(row_format).encode(), digest_size=16)
    for column in (rows.values + 0.0, rows.lengths, rows.files):
        digest.update(column.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class _RowLayouts(Columns):
    """The rows with a layout, and where it has what, as columns of length N.

    Attributes:
        row: `(N,)` index into the text rows.
        first: `(N,)` the place of the first coordinate in the row.
        coordinates: `(N,)` how many there are.
        conf: `(N,)` the place of the confidence; -1 if it has none.
    """

    row: Ints
    first: Ints
    coordinates: Ints
    conf: Ints


def _layouts(rows: TextRows, row_format: RowFormat) -> tuple[_RowLayouts, list[RejectedRow]]:
    """The rows that have a layout, in order, and those that have none."""
    counts = rows.lengths
    found = np.full((len(rows), 3), -1)  # the columns of `_RowLayouts` after the row
    rejected: list[RejectedRow] = []
    for count in np.unique(counts).tolist():
        same = np.flatnonzero(counts == count)
        layout = row_format.layout(count) if count else None
        if layout is None:
            rejected += _without_layout(rows, same, count, row_format)
        else:
            conf = -1 if layout.conf is None else layout.conf
            found[same] = [layout.first, layout.coordinates, conf]
    known = np.flatnonzero(found[:, 0] >= 0)
    return _RowLayouts(known, *found[known].T), rejected


def _without_layout(
    rows: TextRows, index: Ints, count: int, row_format: RowFormat
) -> list[RejectedRow]:
    """The rows at `index`, of `count` values each (0: they are not numbers), and why."""
    files, ordinals = rows.owners, rows.ordinals
    rejected = []
    for i in index.tolist():
        if count:
            code, message = "D03", row_format.expected(count)
        else:
            code, message = "D02", rows.words[i]
        file, line = int(files[i]), int(rows.lines[i])
        rejected.append(RejectedRow(file, int(ordinals[i]), file, line, code, message))
    return rejected


def _placed(
    rows: TextRows, layouts: _RowLayouts, row_format: RowFormat, frames: Frames
) -> PlacedRows:
    """The rows that have a layout, in source px."""
    starts = rows.starts[:-1][layouts.row]
    tile = rows.owners[layouts.row]
    spans = ragged.spans(starts + layouts.first, layouts.coordinates)
    coordinates = limited(rows.values[spans])
    unplaced = PlacedRows(
        row_format.task,
        tile=tile,
        row=rows.ordinals[layouts.row],
        file=tile,
        line=rows.lines[layouts.row],
        class_id=rows.values[starts],
        conf=_conf(rows, starts, layouts.conf, row_format.assume_conf),
        boxes=np.empty((len(tile), 4)),
    )
    if row_format.task in ("segment", "obb"):
        points = coordinates.reshape(-1, 2)
        counts = layouts.coordinates // 2
        points = placed(points, np.repeat(tile, counts), frames, row_format.coordinates_in)
        rings = _rings(points, counts)
        return replace(unplaced, boxes=rings.bounds(), rings=rings)
    matrix = coordinates.reshape(len(tile), row_format.coordinates)
    corners = box.from_cxcywh(matrix[:, :4]).reshape(-1, 2)
    boxes = placed(corners, np.repeat(tile, 2), frames, row_format.coordinates_in).reshape(-1, 4)
    keypoints = None
    if row_format.task == "pose" and row_format.kpt_shape is not None:
        given = matrix[:, 4:].reshape(-1, *row_format.kpt_shape)
        keypoints = placed_keypoints(given, tile, frames, row_format.coordinates_in)
    return replace(unplaced, boxes=boxes, keypoints=keypoints)


def _conf(rows: TextRows, starts: Ints, place: Ints, assumed: float | None) -> Floats:
    """`(N,)` confidences of rows that start at `starts`; the assumed one where `place` is -1."""
    given = rows.values[starts + np.maximum(place, 0)]
    return np.where(place >= 0, given, np.nan if assumed is None else assumed)


def _rings(points: Floats, counts: Ints) -> Rings:
    """Outlines of `counts` points each, one ring a row."""
    return Rings(points, ragged.offsets(counts), np.arange(len(counts) + 1))
