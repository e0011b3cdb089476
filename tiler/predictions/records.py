"""Detections that name their image themselves, in tile pixels: of JSON, CSV or DOTA files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.formats import coco
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.json_numbers import dense
from tiler.geometry import ragged
from tiler.geometry.columns import Columns
from tiler.geometry.polygons import Rings, smallest_rectangles
from tiler.geometry.polygons import concatenate as concatenated
from tiler.predictions import validation
from tiler.predictions.placing import PlacedRows, placed, placed_keypoints, tame
from tiler.predictions.row_format import NO_CONF
from tiler.predictions.sizing import Sizing
from tiler.predictions.validation import Fault
from tiler.predictions.values import Detections, Frames, Reading

if TYPE_CHECKING:
    from tiler.findings import Finding
    from tiler.types import Bools, Floats, Ints, Task

SUFFIXES = {
    *(
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "bmp",
        "dib",
        "tif",
        "tiff",
        "webp",
        "mpo",
        "gif",
        "pfm",
        "ppm",
        "pgm",
    ),
    *("avif", "dng", "heic", "heif", "jp2", "jpeg2000", "j2k", "npy"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Records(Columns):
    """Columns of length N.

    Attributes:
        row: `(N,)` ordinal, from 0.
        file: `(N,)` index into the paths.
        line: `(N,)` from 1; 0 for an entry of JSON.
        class_id: `(N,)` float64 class index.
        conf: `(N,)` float64; NaN where there is none.
        numbers: `(N, 4)` xyxy, or of obb `(N, 8)` corners, tile px; NaN where an outline stands for
            them.
        keypoints: `(N, K, 2 or 3)` in tile px, or None.
        area: `(N,)` tile px² by which pycocotools sizes each, NaN where it is to be measured; or
            None.
        box_area: `(N,)` tile px² of the box as given, NaN where none is; or None.
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
    area: Floats | None = None
    box_area: Floats | None = None
    outlines: dict[int, Any] = field(default_factory=dict)
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    def take(self, index: Ints | Bools) -> Records:
        """The records at the given indices, or where a mask is True, in that order."""
        kept = np.arange(len(self.row))[index].tolist()
        outlines = _renumbered(self.outlines, kept)
        return replace(
            Columns.take(self, index), outlines=outlines, faults=_renumbered(self.faults, kept)
        )


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """The records of some tiles. See `values.Batch`."""

    task: Task
    tile: Ints
    records: Records
    paths: list[str]
    classes: int | None
    exact: bool = False

    def read(self, frames: Frames) -> Detections:
        """See `values.Batch`."""
        records, outlines, faults = self.records, dict[int, Rings](), dict(self.records.faults)
        for i, given in records.outlines.items():
            if i in faults:
                continue
            if self._raw:
                if not isinstance(given, list | dict):
                    faults[i] = (
                        "D03",
                        f"segmentation: expected polygons or a mask, got {short(given)}",
                    )
                continue
            try:
                outlines[i] = _outline(given, int(self.tile[i]), frames)
            except _BadValue as why:
                faults[i] = why.code, str(why)
        refused = [
            Fault(
                int(self.tile[i]),
                int(records.row[i]),
                int(records.file[i]),
                int(records.line[i]),
                *why,
            )
            for i, why in faults.items()
        ]
        good = np.delete(np.arange(len(self.tile)), list(faults))
        candidates = self._candidates(
            good, [outlines.get(i) for i in good.tolist()] if outlines else [], frames
        )
        digest = "" if self.exact else self._digest()
        return validation.judged(
            candidates, refused, frames, self.paths, self.classes, digest, exact=self.exact
        )

    @property
    def _raw(self) -> bool:
        """Outlines stay as COCO has them."""
        return self.exact and self.task == "segment"

    def _candidates(self, good: Ints, outlines: list[Rings | None], frames: Frames) -> PlacedRows:
        """The records at `good`, with their outlines in tile px, in source px."""
        records, tile = self.records, self.tile
        if len(good) < len(tile):
            records, tile = records.take(good), tile[good]
        numbers = tame(records.numbers)
        for i, outline in enumerate(outlines):
            if outline is not None and self.task != "segment":
                quad = self.task == "obb"
                numbers[i] = (
                    smallest_rectangles(outline.coords[None])[0].ravel()
                    if quad
                    else outline.bounds()[0]
                )
        width = numbers.shape[1] // 2
        points = placed(numbers.reshape(-1, 2), np.repeat(tile, width), frames, False)
        common = (self.task, tile, records.row, records.file, records.line, records.class_id)
        conf = records.conf
        scaled = frames.scale[tile] ** 2
        area = None if records.area is None else records.area / scaled
        box_area = None if records.box_area is None else records.box_area / scaled
        if self._raw:
            given = np.fromiter(
                map(records.outlines.__getitem__, range(len(tile))), object, len(tile)
            )
            return PlacedRows(
                *common,
                conf,
                points.reshape(-1, 4),
                area=area,
                box_area=box_area,
                segmentations=given,
            )
        if self.task == "segment":
            rings = concatenated(outline for outline in outlines if outline is not None)
            rings = replace(rings, coords=placed(rings.coords, tile[rings.owners()], frames, False))
            return PlacedRows(*common, conf, rings.bounds(), rings)
        if self.task == "obb":
            rings = Rings.from_quads(points.reshape(-1, 4, 2))
            return PlacedRows(*common, conf, rings.bounds(), rings)
        found = None
        if records.keypoints is not None:
            found = placed_keypoints(tame(records.keypoints), tile, frames, False)
        return PlacedRows(
            *common, conf, points.reshape(-1, 4), keypoints=found, area=area, box_area=box_area
        )

    def _digest(self) -> str:
        records = self.records
        digest = hashlib.blake2b(self.task.encode(), digest_size=16)
        columns = (
            self.tile,
            records.row,
            records.file,
            records.class_id,
            records.conf,
            records.numbers,
            records.keypoints,
        )
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
    exact: bool = False
    sizing: Sizing | None = None

    def batch(self, indices: Sequence[int]) -> RecordBatch:
        """See `values.Predictions`."""
        which, counts = np.asarray(indices, np.int64), np.asarray(self.counts, np.int64)
        index = ragged.spans(ragged.offsets(counts)[which], counts[which])
        tile = np.repeat(np.arange(len(which)), counts[which])
        records = (
            self.records
            if np.array_equal(index, np.arange(counts.sum()))
            else self.records.take(index)
        )
        return RecordBatch(self.task, tile, records, self.paths, self.classes, self.exact)


def by_key(keys: Sequence[str], records: Records) -> tuple[list[str], list[int], Records]:
    """The sorted keys, how many records each has, and the records in that order."""
    names = sorted(set(keys))
    place = {name: i for i, name in enumerate(names)}
    return grouped(names, np.fromiter(map(place.__getitem__, keys), np.int64, len(keys)), records)


def grouped(
    names: list[str], owner: Ints, records: Records
) -> tuple[list[str], list[int], Records]:
    """The same, where each record's place among the sorted keys is known."""
    counts = np.bincount(owner, minlength=len(names)).tolist()
    return (
        names,
        counts,
        records if rising(owner) else records.take(np.argsort(owner, kind="stable")),
    )


def _renumbered(by_index: dict[int, Any], kept: list[int]) -> dict[int, Any]:
    """What was said of some records, by their new indices."""
    if not by_index:
        return {}
    return {new: by_index[old] for new, old in enumerate(kept) if old in by_index}


def rising(values: Ints) -> bool:
    """Whether none is less than the one before."""
    return bool((values[1:] >= values[:-1]).all())


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


def image_key(name: str) -> str:
    """The name of an image without its image suffix, with `/` between folders.

    >>> image_key("a/tile_1.5_2.jpg"), image_key("tile_1.5_2")
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
    plain = dense(values, width)
    if plain is not None:
        return plain, {}
    result = np.full((len(values), width), np.nan)
    wrong: dict[int, tuple[str, str]] = {}
    for i, value in enumerate(values):
        if not isinstance(value, list | tuple):
            wrong[i] = "D02", f"found {short(value)}, expected {width} numbers"
        elif not all(isinstance(v, int | float) for v in value):
            wrong[i] = "D02", f"found {short(list(value))}, expected numbers"
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


class _BadValue(Exception):
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
            raise _BadValue("D03", f"a mask of {short(size)}, its tile is [{height:g}, {width:g}]")
    try:
        return coco.outline(given)
    except InvalidAnnotation as bad:
        raise _BadValue(
            {"L06": "D06", "L02": "D02", "L15": "D15"}.get(bad.code, "D03"), bad.message
        ) from None
    except ValueError as error:
        raise _BadValue("D03", f"segmentation: {error}") from None
