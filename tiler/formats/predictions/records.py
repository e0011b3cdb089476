"""Detections that name their picture themselves, in tile pixels: of JSON, CSV or DOTA files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.formats import coco
from tiler.formats.predictions import soundness
from tiler.formats.predictions.candidates import Candidates, placed, placed_keypoints, tame
from tiler.formats.predictions.meaning import NO_CONF
from tiler.formats.predictions.soundness import Fault
from tiler.formats.predictions.values import Detections, Frames, Reading
from tiler.polygons import Rings, smallest_rectangles
from tiler.polygons import concatenate as concatenated

if TYPE_CHECKING:
    from tiler.findings import Finding
    from tiler.types import Floats, Ints, Task

SUFFIXES = {
    *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "tif", "tiff", "webp", "mpo", "gif", "pfm", "ppm", "pgm"),
    *("avif", "dng", "heic", "heif", "jp2", "jpeg2000", "j2k", "npy"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Columns of length N.

    Attributes:
        row: `(N,)` ordinal, from 0.
        file: `(N,)` index into the paths.
        line: `(N,)` from 1; 0 for an entry of JSON.
        class_id: `(N,)` float64 class index.
        conf: `(N,)` float64; NaN where there is none.
        numbers: `(N, 4)` xyxy, or of obb `(N, 8)` corners, tile px; NaN where an outline stands for them.
        keypoints: `(N, K, 2 or 3)` in tile px, or None.
        outlines: by index, polygons or a mask as COCO has them.
        faults: by index, the code and the reason of a record that is refused.
    """

    row: Ints
    file: Ints
    line: Ints
    class_id: Floats
    conf: Floats
    numbers: Floats
    keypoints: Floats | None = None
    outlines: dict[int, Any] = field(default_factory=dict)
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    def take(self, index: Ints) -> Records:
        """The records at the given indices."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {name: c[index] for name, c in columns.items() if isinstance(c, np.ndarray)}
        for name in ("outlines", "faults"):
            of = columns[name]
            taken[name] = {new: of[old] for new, old in enumerate(index.tolist()) if old in of} if of else {}
        return replace(self, **taken)


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """The records of some tiles. See `values.Batch`."""

    task: Task
    tile: Ints
    records: Records
    paths: list[str]
    classes: int | None

    def read(self, frames: Frames) -> Detections:
        """See `values.Batch`."""
        records, outlines, faults = self.records, dict[int, Rings](), dict(self.records.faults)
        for i, given in records.outlines.items():
            if i in faults:
                continue
            try:
                outlines[i] = _outline(given, int(self.tile[i]), frames)
            except _Refused as why:
                faults[i] = why.code, str(why)
        refused = [
            Fault(int(self.tile[i]), int(records.row[i]), int(records.file[i]), int(records.line[i]), *why)
            for i, why in faults.items()
        ]
        good = np.delete(np.arange(len(self.tile)), list(faults))
        candidates = self._candidates(good, [outlines.get(i) for i in good.tolist()] if outlines else [], frames)
        return soundness.judged(candidates, refused, frames, self.paths, self.classes, self._digest())

    def _candidates(self, good: Ints, outlines: list[Rings | None], frames: Frames) -> Candidates:
        """The records at `good`, with their outlines in tile px, in source px."""
        records, tile = self.records, self.tile[good]
        numbers = tame(records.numbers[good])
        for i, outline in enumerate(outlines):
            if outline is not None and self.task != "segment":
                quad = self.task == "obb"
                numbers[i] = smallest_rectangles(outline.coords[None])[0].ravel() if quad else outline.bounds()[0]
        width = numbers.shape[1] // 2
        points = placed(numbers.reshape(-1, 2), np.repeat(tile, width), frames, False)
        common = (self.task, tile, records.row[good], records.file[good], records.line[good], records.class_id[good])
        conf = records.conf[good]
        if self.task == "segment":
            rings = concatenated(outline for outline in outlines if outline is not None)
            rings = replace(rings, coords=placed(rings.coords, tile[rings.owners()], frames, False))
            return Candidates(*common, conf, rings.bounds(), rings)
        if self.task == "obb":
            rings = Rings.from_quads(points.reshape(-1, 4, 2))
            return Candidates(*common, conf, rings.bounds(), rings)
        found = None
        if records.keypoints is not None:
            found = placed_keypoints(tame(records.keypoints[good]), tile, frames, False)
        return Candidates(*common, conf, points.reshape(-1, 4), keypoints=found)

    def _digest(self) -> str:
        records = self.records
        digest = hashlib.blake2b(self.task.encode(), digest_size=16)
        columns = (self.tile, records.row, records.file, records.class_id, records.conf, records.numbers, records.keypoints)
        for column in columns:
            digest.update(b"" if column is None else column.tobytes())
        digest.update(repr((records.outlines, records.faults)).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class RecordFile:
    """Records in the order of their keys. See `values.Predictions`."""

    kind: str
    task: Task
    keys: list[str]
    counts: list[int]
    findings: list[Finding]
    records: Records
    paths: list[str]
    classes: int | None
    kpt_shape: tuple[int, int] | None = None
    numeric: bool = False

    def batch(self, indices: Sequence[int]) -> RecordBatch:
        """See `values.Predictions`."""
        ends = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        spans = [np.arange(ends[i], ends[i + 1]) for i in indices]
        tile = np.repeat(np.arange(len(spans)), [len(span) for span in spans])
        index = np.concatenate([np.empty(0, np.int64), *spans])
        return RecordBatch(self.task, tile, self.records.take(index), self.paths, self.classes)


def by_key(keys: Sequence[str], records: Records) -> tuple[list[str], list[int], Records]:
    """The sorted keys, how many records each has, and the records in that order."""
    names = sorted(set(keys))
    place = {name: i for i, name in enumerate(names)}
    owner = np.fromiter(map(place.__getitem__, keys), np.int64, len(keys))
    return names, np.bincount(owner, minlength=len(names)).tolist(), records.take(np.argsort(owner, kind="stable"))


def sure(conf: Floats, reading: Reading, shown: str) -> Floats:
    """Confidences, where NaN stands for none.

    Raises:
        TilerError: there is none at all.
    """
    missing = np.isnan(conf)
    if reading.assume_conf is not None:
        return np.where(missing, reading.assume_conf, conf)
    if len(conf) and missing.all():
        raise TilerError(f"{shown}: {NO_CONF}")
    return conf


def picture_key(name: str) -> str:
    """The name of a picture without its image suffix, with `/` between folders.

    >>> picture_key("a/tile_1.5_2.jpg"), picture_key("tile_1.5_2")
    ('a/tile_1.5_2', 'tile_1.5_2')
    """
    path = name.replace("\\", "/")
    stem, _, suffix = path.rpartition(".")
    return stem if suffix.lower() in SUFFIXES and stem else path


def matrix(values: Sequence[Any], width: int) -> tuple[Floats, dict[int, tuple[str, str]]]:
    """`(N, width)` numbers, and what is wrong with those that are not so many.

    >>> matrix([[1, 2], ["a", 2]], 2)[1]
    {1: ('D02', "found ['a', 2], expected numbers")}
    """
    try:
        fast = np.array(values)
    except (ValueError, OverflowError):  # lists of different length
        fast = np.empty(0)
    if fast.dtype.kind in "iuf" and fast.shape == (len(values), width):
        return fast.astype(np.float64), {}
    result = np.full((len(values), width), np.nan)
    wrong: dict[int, tuple[str, str]] = {}
    for i, value in enumerate(values):
        if not isinstance(value, list | tuple):
            wrong[i] = "D02", f"found {short(value)}, expected {width} numbers"
        elif not all(isinstance(v, int | float) for v in value):
            wrong[i] = "D02", f"found {short(value)}, expected numbers"
        elif len(value) != width:
            wrong[i] = "D03", f"expected {width} numbers, got {len(value)}"
        else:
            result[i] = [_float(v) for v in value]
    return result, wrong


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return np.inf


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _outline(given: Any, tile: int, frames: Frames) -> Rings:
    """One object's rings in tile px, of polygons or a mask."""
    if isinstance(given, dict):
        rect = frames.rects[tile]
        width, height = (rect[2:] - rect[:2]) * frames.scale[tile]
        size: Any = given.get("size")
        try:
            fits = abs(size[0] - height) <= 1 and abs(size[1] - width) <= 1
        except (TypeError, IndexError, KeyError):
            fits = False
        if not fits:
            raise _Refused("D03", f"a mask of {short(size)}, its tile is [{height:g}, {width:g}]")
    try:
        return coco.outline(given)
    except coco.Unmeant as bad:
        raise _Refused({"L06": "D06", "L02": "D02"}.get(bad.code, "D03"), bad.message) from None
    except ValueError as error:
        raise _Refused("D03", f"segmentation: {error}") from None
