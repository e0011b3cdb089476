"""Detections that name their image themselves, in tile pixels: of JSON, CSV or DOTA files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.formats import annotated
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.json_numbers import dense
from tiler.geometry import ragged
from tiler.geometry.columns import Columns
from tiler.geometry.polygons import Rings, smallest_rectangles
from tiler.geometry.polygons import concatenate as concatenated
from tiler.predictions import validation
from tiler.predictions.coordinates import PIXELS, PointFrame
from tiler.predictions.placing import PlacedRows, limited, placed, placed_keypoints
from tiler.predictions.row_format import NO_CONF
from tiler.predictions.sizing import Sizing
from tiler.predictions.validation import RejectedRow, RowRules
from tiler.predictions.values import Detections, Frames, Reading, RowExtents

if TYPE_CHECKING:
    from tiler.findings import Finding
    from tiler.types import Bools, Floats, Ints, Task

COMMON = {"jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "tif", "tiff", "webp", "mpo", "gif"}
RARE = {"pfm", "ppm", "pgm", "avif", "dng", "heic", "heif", "jp2", "jpeg2000", "j2k", "npy"}
SUFFIXES = COMMON | RARE  # of images

Value = TypeVar("Value")

Reason = tuple[str, str]  # the finding's code, and what was found and expected
Reasons = dict[int, Reason]  # why records are rejected, by their index


@dataclass(frozen=True, slots=True, eq=False)
class Records(Columns):
    """Columns of length N.

    Attributes:
        row: `(N,)` ordinal, from 0.
        file: `(N,)` index into the paths.
        line: `(N,)` from 1; 0 for an entry of JSON.
        class_id: `(N,)` float64 class index.
        conf: `(N,)` float64; NaN where there is none.
        numbers: `(N, 4)` xyxy, or for obb `(N, 8)` corners, tile px; NaN where an outline stands in
            for them.
        keypoints: `(N, K, 2 or 3)` in tile px, or None.
        area: `(N,)` tile px² by which pycocotools sizes each, NaN where it is still to be measured;
            or None.
        box_area: `(N,)` tile px² of the box as given, NaN where there is none; or None.
        outlines: by index, polygons or a mask as COCO has them.
        rejected: the invalid records.
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
    rejected: Reasons = field(default_factory=dict)

    def take(self, index: Ints | Bools) -> Records:
        """The records at the given indices, or where a mask is True, in that order."""
        taken = Columns.take(self, index)
        if not self.outlines and not self.rejected:
            return taken
        kept = np.arange(len(self.row))[index].tolist()
        outlines = _renumbered(self.outlines, kept)
        rejected = _renumbered(self.rejected, kept)
        return replace(taken, outlines=outlines, rejected=rejected)


def _renumbered(by_index: dict[int, Any], kept: list[int]) -> dict[int, Any]:
    """The values of the kept records, by their new indices."""
    return {new: by_index[old] for new, old in enumerate(kept) if old in by_index}


def _bounds(numbers: Floats) -> Floats:
    """`(N, 4)` xyxy around boxes or corners."""
    if numbers.shape[1] == 4:
        return numbers.copy()
    points = numbers.reshape(len(numbers), -1, 2)
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _outline_bounds(segmentation: Any) -> Floats:
    """`(4,)` xyxy around polygons; NaN for a mask, which has its frame's size with it."""
    try:
        polygons = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in segmentation]
        points = np.concatenate(polygons)
    except (TypeError, ValueError, OverflowError):
        return np.full(4, np.nan)
    if not len(points):
        return np.full(4, np.nan)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """The records of some tiles. See `values.FileBatch`."""

    task: Task
    tile: Ints
    records: Records
    paths: list[str]
    rules: RowRules

    def read(self, frames: Frames) -> Detections:
        """See `values.FileBatch`."""
        outlines, invalid = self._outlines(frames)
        rejected = [self._rejected(i, reason) for i, reason in invalid.items()]
        good = np.delete(np.arange(len(self.tile)), list(invalid))
        valid = self._take(good)
        if outlines:
            rows = valid._placed([outlines.get(i) for i in good.tolist()], frames)
        else:
            rows = valid._placed([], frames)
        digest = "" if self.rules.exact else self._digest()
        return validation.validated(rows, rejected, frames, self.rules, self.paths, digest)

    def extents(self) -> RowExtents:
        """See `values.FileBatch`."""
        records = self.records
        boxes = _bounds(records.numbers)
        for i, segmentation in records.outlines.items():
            boxes[i] = _outline_bounds(segmentation)
        known = validation.known_classes(records.class_id, self.rules.classes)
        unreadable = ~known | ~validation.valid_confidences(records.conf)
        unreadable[list(records.rejected)] = True
        return RowExtents(
            self.tile,
            limited(boxes),
            records.class_id,
            unreadable,
            self.rules.coordinates,
            self.rules.class_map,
        )

    @property
    def _keeps_segmentations(self) -> bool:
        """Whether outlines stay as COCO has them."""
        in_pixels = self.rules.coordinates.kind in ("pixels", "image")
        return self.rules.exact and in_pixels and self.task == "segment"

    def _outlines(self, frames: Frames) -> tuple[dict[int, Rings], Reasons]:
        """The outlines in tile px by the index of their record, and all invalid records."""
        outlines: dict[int, Rings] = {}
        rejected = dict(self.records.rejected)
        for i, segmentation in self.records.outlines.items():
            if i in rejected:
                continue
            try:
                if self._keeps_segmentations:
                    _require_segmentation(segmentation)
                else:
                    outlines[i] = self._outline(segmentation, int(self.tile[i]), frames)
            except _InvalidRecord as error:
                rejected[i] = error.code, str(error)
        return outlines, rejected

    def _outline(self, segmentation: Any, tile: int, frames: Frames) -> Rings:
        """One object's rings, of polygons or a mask."""
        if isinstance(segmentation, dict):
            coordinates = self.rules.coordinates
            _require_mask_size(segmentation.get("size"), tile, frames, coordinates)
        return _outline(segmentation)

    def _rejected(self, i: int, reason: Reason) -> RejectedRow:
        records = self.records
        place = (int(records.row[i]), int(records.file[i]), int(records.line[i]))
        return RejectedRow(int(self.tile[i]), *place, *reason)

    def _take(self, index: Ints) -> RecordBatch:
        if len(index) == len(self.tile):
            return self
        return replace(self, tile=self.tile[index], records=self.records.take(index))

    def _placed(self, outlines: list[Rings | None], frames: Frames) -> PlacedRows:
        """All records in source px.

        Args:
            outlines: of each record in tile px, None where it has none; empty if none has any.
        """
        if self.task == "segment" and not self._keeps_segmentations:
            return self._placed_outlines(outlines, frames)
        numbers = self._numbers(outlines)
        point_tiles = np.repeat(self.tile, numbers.shape[1] // 2)
        points = placed(numbers.reshape(-1, 2), point_tiles, frames, self.rules.coordinates)
        if self.task == "obb":
            rings = Rings.from_quads(points.reshape(-1, 4, 2))
            return replace(self._with_boxes(rings.bounds()), rings=rings)
        return replace(
            self._with_boxes(points.reshape(-1, 4)),
            keypoints=self._placed_keypoints(frames),
            area=self._placed_area(self.records.area, frames),
            box_area=self._placed_area(self.records.box_area, frames),
            segmentations=self._segmentations(),
        )

    def _with_boxes(self, boxes: Floats) -> PlacedRows:
        """The records as rows with these boxes, without any other geometry."""
        records = self.records
        return PlacedRows(
            self.task,
            self.tile,
            records.row,
            records.file,
            records.line,
            records.class_id,
            records.conf,
            boxes,
        )

    def _numbers(self, outlines: list[Rings | None]) -> Floats:
        """Boxes or corners in tile px; around the outline where that stands in for them."""
        numbers = limited(self.records.numbers)
        for i, outline in enumerate(outlines):
            if outline is None:
                continue
            if self.task == "obb":
                numbers[i] = smallest_rectangles(outline.coords[None])[0].ravel()
            else:
                numbers[i] = outline.bounds()[0]
        return numbers

    def _placed_outlines(self, outlines: list[Rings | None], frames: Frames) -> PlacedRows:
        rings = concatenated(outline for outline in outlines if outline is not None)
        owners = self.tile[rings.owners()]
        coords = placed(rings.coords, owners, frames, self.rules.coordinates)
        rings = replace(rings, coords=coords)
        return replace(self._with_boxes(rings.bounds()), rings=rings)

    def _placed_keypoints(self, frames: Frames) -> Floats | None:
        keypoints = self.records.keypoints
        if keypoints is None:
            return None
        coordinates = self.rules.coordinates
        return placed_keypoints(limited(keypoints), self.tile, frames, coordinates)

    def _placed_area(self, area: Floats | None, frames: Frames) -> Floats | None:
        return None if area is None else area / frames.scale[self.tile] ** 2

    def _segmentations(self) -> Any:
        if not self._keeps_segmentations:
            return None
        count = len(self.tile)
        segmentations = map(self.records.outlines.__getitem__, range(count))
        return np.fromiter(segmentations, object, count)

    def _digest(self) -> str:
        records = self.records
        digest = hashlib.blake2b(self.task.encode(), digest_size=16)
        if self.rules.coordinates != PIXELS:
            digest.update(str(self.rules.coordinates).encode())
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
        others = repr((records.outlines, records.rejected))
        digest.update(others.encode("utf-8", "backslashreplace"))
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
    rules: RowRules
    kpt_shape: tuple[int, int] | None = None
    numeric: bool = False
    sizing: Sizing | None = None

    def batch(self, indices: Sequence[int]) -> RecordBatch:
        """See `values.Predictions`."""
        keys = np.asarray(indices, np.int64)
        counts = np.asarray(self.counts, np.int64)
        index = ragged.spans(ragged.offsets(counts)[keys], counts[keys])
        tile = np.repeat(np.arange(len(keys)), counts[keys])
        records = self.records
        if not np.array_equal(index, np.arange(counts.sum())):
            records = records.take(index)
        return RecordBatch(self.task, tile, records, self.paths, self.rules)


def places_of(values: Sequence[Value]) -> dict[Value, int]:
    """The index of each value.

    >>> places_of(["car", "bus"])
    {'car': 0, 'bus': 1}
    """
    return dict(zip(values, range(len(values)), strict=True))


def by_key(keys: Sequence[str], records: Records) -> tuple[list[str], list[int], Records]:
    """Sort records by their keys.

    Returns the sorted keys without repeats, the number of records of each, and the records in that
    order.
    """
    names = sorted(set(keys))
    owner = np.fromiter(map(places_of(names).__getitem__, keys), np.int64, len(keys))
    counts, ordered = grouped(len(names), owner, records)
    return names, counts, ordered


def grouped(count: int, owner: Ints, records: Records) -> tuple[list[int], Records]:
    """The number of records of each key, and the records in the order of the keys.

    Args:
        count: the number of keys.
        owner: `(N,)` the key of each record, as its place among the sorted ones.
    """
    counts = np.bincount(owner, minlength=count).tolist()
    if not (owner[1:] >= owner[:-1]).all():
        records = records.take(ragged.by_number(owner))
    return counts, records


def confidences(conf: Floats, reading: Reading, path: str) -> Floats:
    """`(N,)` confidences, with the assumed one, if any, in place of NaN.

    Raises:
        TilerError: no record has one.
    """
    missing = np.isnan(conf)
    if reading.assume_conf is not None:
        return np.where(missing, reading.assume_conf, conf)
    if len(conf) and missing.all():
        raise TilerError(f"{path}: {NO_CONF}")
    return conf


def image_key(name: str) -> str:
    """The name of an image without its image suffix, with `/` between folders.

    >>> image_key("a/tile_1.5_2.jpg"), image_key("tile_1.5_2")
    ('a/tile_1.5_2', 'tile_1.5_2')
    """
    path = name.replace("\\", "/")
    stem, _, suffix = path.rpartition(".")
    return stem if suffix.lower() in SUFFIXES and stem else path


def matrix(values: Sequence[Any], width: int) -> tuple[Floats, Reasons]:
    """`(N, width)` numbers, NaN in rows that are not `width` numbers, and why those are invalid.

    >>> matrix([[1, 2], ["a", 2]], 2)[1]
    {1: ('D02', "found ['a', 2], expected numbers")}
    """
    plain = dense(values, width)
    if plain is not None:
        return plain, {}
    result = np.full((len(values), width), np.nan)
    invalid: Reasons = {}
    for i, value in enumerate(values):
        if not isinstance(value, list | tuple):
            invalid[i] = "D02", f"found {short(value)}, expected {width} numbers"
        elif not all(isinstance(v, int | float) for v in value):
            invalid[i] = "D02", f"found {short(list(value))}, expected numbers"
        elif len(value) != width:
            invalid[i] = "D03", f"expected {width} numbers, got {len(value)}"
        else:
            result[i] = [_float(v) for v in value]
    return result, invalid


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return np.inf


class _InvalidRecord(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _require_segmentation(segmentation: Any) -> None:
    if not isinstance(segmentation, list | dict):
        message = f"segmentation: expected polygons or a mask, got {short(segmentation)}"
        raise _InvalidRecord("D03", message)


def _outline(segmentation: Any) -> Rings:
    try:
        return annotated.outline(segmentation)
    except InvalidAnnotation as bad:
        code = {"L06": "D06", "L02": "D02", "L15": "D15"}.get(bad.code, "D03")
        raise _InvalidRecord(code, bad.message) from None
    except ValueError as error:
        raise _InvalidRecord("D03", f"segmentation: {error}") from None


def _require_mask_size(size: Any, tile: int, frames: Frames, coordinates: PointFrame) -> None:
    if coordinates.kind == "normalised":
        raise _InvalidRecord("D03", "a mask of pixels, expected normalised coordinates")
    x0, y0, x1, y1 = frames.rects[tile]
    width = (x1 - x0) * frames.scale[tile]
    height = (y1 - y0) * frames.scale[tile]
    expected = coordinates.mask_size(width, height)
    if expected is None:
        return
    width, height = expected
    given = dense([size], 2)
    if given is None or not (np.abs(given - [height, width]) <= 1).all():
        raise _InvalidRecord("D03", f"a mask of {short(size)}, its tile is [{height:g}, {width:g}]")
