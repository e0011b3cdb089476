"""A folder of YOLO txt: one file a tile, one row a detection."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.findings import Finding
from tiler.geometry import boxes as box
from tiler.geometry import ragged
from tiler.geometry.polygons import Rings
from tiler.predictions import validation
from tiler.predictions.files import content
from tiler.predictions.placing import PlacedRows, placed, placed_keypoints, tame
from tiler.predictions.row_format import Meaning, ValueTally, decide
from tiler.predictions.text_rows import TextRows, concatenate, parse
from tiler.predictions.validation import Fault
from tiler.predictions.values import Detections, Frames, Reading

if TYPE_CHECKING:
    from tiler.types import Task

KEPT = 200_000_000  # bytes of text whose numbers stay in memory
TOGETHER = 32_000_000  # bytes of text that are parsed at once


@dataclass(frozen=True, slots=True, eq=False)
class TextBatch:
    """Some files of a folder; `rows` is None when they are to be read again."""

    paths: list[str]
    meaning: Meaning
    classes: int | None
    rows: TextRows | None = None
    exact: bool = False

    def read(self, frames: Frames) -> Detections:
        """See `values.Batch`."""
        findings: list[Finding] = []
        rows = self.rows
        if rows is None:
            rows = parse([content(path, findings) or b"" for path in self.paths])
        candidates, faults = _columns(rows, self.meaning, frames)
        digest = "" if self.exact else _digest(rows, self.meaning)
        hint = self.meaning.hint
        found = validation.judged(
            candidates, faults, frames, self.paths, self.classes, digest, hint, self.exact
        )
        found.findings[:0] = findings
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TextFolder:
    """The files of a folder and what their rows mean. See `values.Predictions`."""

    kind: str
    keys: list[str]
    counts: list[int]
    findings: list[Finding]
    paths: list[str]
    meaning: Meaning
    classes: int | None
    rows: TextRows | None
    exact: bool = False
    numeric: bool = False
    sizing: None = None

    @property
    def task(self) -> Task:
        return self.meaning.task

    @property
    def kpt_shape(self) -> tuple[int, int] | None:
        return self.meaning.kpt_shape

    def batch(self, indices: Sequence[int]) -> TextBatch:
        """See `values.Predictions`."""
        rows = None if self.rows is None else self.rows.take(indices)
        return TextBatch(
            [self.paths[i] for i in indices], self.meaning, self.classes, rows, self.exact
        )


def open_folder(folder: str, names: Sequence[str], reading: Reading, note: str = "") -> TextFolder:
    """The predictions in txt files of a folder.

    Args:
        names: posix paths of the files in the folder, sorted by what stands before `.txt`.
        note: what else is to be said about the folder.

    Raises:
        TilerError: what the rows mean cannot be told.
    """
    findings: list[Finding] = []
    keys: list[str] = []
    paths: list[str] = []
    tally = ValueTally()
    counts: list[int] = []
    kept: list[TextRows] | None = []
    size = 0
    for texts in _texts(folder, names, keys, paths, findings):
        rows = parse(texts)
        size += sum(map(len, texts))
        tally.add(rows)
        counts += np.diff(rows.files).tolist()
        kept = [*kept, rows] if kept is not None and size <= KEPT else None
    meaning = decide(tally, reading, folder)
    kind = f"{_kind(tally, meaning)}: {len(keys)} files, {sum(counts)} rows{note}"
    rows_kept = None if kept is None else concatenate(kept)
    return TextFolder(
        kind, keys, counts, findings, paths, meaning, reading.classes, rows_kept, reading.exact
    )


def _texts(
    folder: str, names: Sequence[str], keys: list[str], paths: list[str], findings: list[Finding]
) -> Iterator[list[bytes]]:
    """The files that can be read, about `TOGETHER` bytes at a time; their keys and paths are noted
    down.
    """
    texts: list[bytes] = []
    size = 0
    for name in names:
        path = os.path.join(folder, *name.split("/"))
        data = content(path, findings)
        if data is None:
            continue
        keys.append(name.removesuffix(".txt"))
        paths.append(path)
        texts.append(data)
        size += len(data)
        if size > TOGETHER:
            yield texts
            texts, size = [], 0
    yield texts


def _kind(tally: ValueTally, meaning: Meaning) -> str:
    layouts = {
        count: layout
        for count in sorted(tally.counts)
        if (layout := meaning.layout(count)) is not None
    }
    counts = list(layouts)
    values = f"{counts[0]} to {counts[-1]}" if len(counts) > 3 else " or ".join(map(str, counts))
    sure = [layout.conf is not None for layout in layouts.values()]
    conf = "with confidence"
    if not all(sure):
        conf = (
            f"{'with or without' if any(sure) else 'without'} confidence, taken as "
            f"{meaning.assume_conf or 0.0:g}"
        )
    first = " after the class" if meaning.conf_first else ""
    shape = f" {list(meaning.kpt_shape)}" if meaning.kpt_shape is not None else ""
    hint = "; outlines of 4 points need --task segment" if meaning.task == "obb" else ""
    form = f" {conf}{first} ({values} values a row{hint})" if counts else ""
    return f"Ultralytics txt, {meaning.task}{shape}{form}"


def _digest(rows: TextRows, meaning: Meaning) -> str:
    digest = hashlib.blake2b(repr(meaning).encode(), digest_size=16)
    for column in (rows.values + 0.0, rows.lengths, rows.files):
        digest.update(column.tobytes())
    return digest.hexdigest()


def _columns(rows: TextRows, meaning: Meaning, frames: Frames) -> tuple[PlacedRows, list[Fault]]:
    """Rows that have a meaning, in source px, and those that have none."""
    lengths, owners, ordinals = rows.lengths, rows.owners, rows.ordinals
    layouts = np.full((len(rows), 3), -1)  # first coordinate, how many, confidence
    faults: list[Fault] = []
    for count in np.unique(lengths).tolist():
        at = np.flatnonzero(lengths == count)
        layout = meaning.layout(count) if count else None
        if layout is not None:
            layouts[at] = [
                layout.first,
                layout.coordinates,
                -1 if layout.conf is None else layout.conf,
            ]
            continue
        for i in at.tolist():
            code, message = ("D03", meaning.expected(count)) if count else ("D02", rows.words[i])
            faults.append(
                Fault(
                    int(owners[i]),
                    int(ordinals[i]),
                    int(owners[i]),
                    int(rows.lines[i]),
                    code,
                    message,
                )
            )
    good = np.flatnonzero(layouts[:, 0] >= 0)
    start, (first, many, at) = rows.starts[:-1][good], layouts[good].T
    conf = np.where(
        at >= 0,
        rows.values[start + np.maximum(at, 0)],
        np.nan if meaning.assume_conf is None else meaning.assume_conf,
    )
    numbers = tame(rows.values[ragged.spans(start + first, many)])
    tile = owners[good]
    common = (tile, ordinals[good], tile, rows.lines[good], rows.values[start], conf)
    if meaning.task in ("segment", "obb"):
        points = placed(numbers.reshape(-1, 2), np.repeat(tile, many // 2), frames, True)
        rings = Rings(points, ragged.offsets(many // 2), np.arange(len(good) + 1))
        return PlacedRows(meaning.task, *common, rings.bounds(), rings), faults
    matrix = numbers.reshape(len(good), _width(meaning))
    corners = box.from_cxcywh(matrix[:, :4]).reshape(-1, 2)
    boxes = placed(corners, np.repeat(tile, 2), frames, True).reshape(-1, 4)
    if meaning.task == "detect":
        return PlacedRows("detect", *common, boxes), faults
    assert meaning.kpt_shape is not None
    points = placed_keypoints(matrix[:, 4:].reshape(-1, *meaning.kpt_shape), tile, frames, True)
    return PlacedRows("pose", *common, boxes, keypoints=points), faults


def _width(meaning: Meaning) -> int:
    """Coordinates of a row of boxes, or of boxes and keypoints."""
    return (
        4
        if meaning.kpt_shape is None or meaning.task == "detect"
        else 4 + meaning.kpt_shape[0] * meaning.kpt_shape[1]
    )
