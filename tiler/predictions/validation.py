"""Which rows are valid: the rules that the rows of every format are checked against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tiler.findings import Finding, condensed
from tiler.geometry import boxes as box
from tiler.geometry import few, overlay, polygons
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.predictions.class_map import NONE, ClassMap
from tiler.predictions.coordinates import PIXELS, PointFrame
from tiler.predictions.placing import PlacedRows
from tiler.predictions.values import Detections

if TYPE_CHECKING:
    from tiler.predictions.values import Frames, Reading
    from tiler.types import Bools, Floats

FAR = 1e9  # px; no image is that large
LARGEST_CLASS = 2.0**53  # whole numbers beyond it have no float of their own
NINE = 2e-9  # of a side: the rounding of nine digits, which does not count as reaching past
LEAST = 1e-6  # px; a smaller side is lost in the nine digits that are written


class RejectedRow(NamedTuple):
    """A row that is not valid: where it stands and why.

    Attributes:
        tile: index into the frames.
        row: ordinal in the file.
        file: index into the paths.
        line: from 1; 0 for an entry of JSON.
        code: the finding's code.
        message: what was found and what was expected.
    """

    tile: int
    row: int
    file: int
    line: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RowRules:
    """What rows are checked against.

    Attributes:
        classes: number of classes, if known.
        class_map: the dataset's class for each class; None: they are the dataset's.
        exact: rows stay as they are and where they are: none is clamped, or rejected for its size
            or place.
        confidence_hint: what a confidence outside 0 to 1 may come from.
        coordinates: what those of the rows count in.
    """

    classes: int | None = None
    exact: bool = False
    confidence_hint: str = ""
    coordinates: PointFrame = PIXELS
    class_map: ClassMap | None = None

    @classmethod
    def of(cls, reading: Reading, usual: PointFrame = PIXELS) -> RowRules:
        """The rules for rows that are read this way, and have ids of classes.

        Args:
            usual: what their coordinates count in, unless the user says otherwise.

        Raises:
            TilerError: --map-classes gives names, and which ids have them is not known.
        """
        rules = cls(reading.classes, reading.exact, coordinates=reading.coordinates(usual))
        if reading.class_map is None:
            return rules
        class_map = reading.class_map.by_id(reading.names)
        if class_map.as_written:
            rules = replace(rules, classes=None)
        return replace(rules, class_map=class_map)

    @classmethod
    def of_named(
        cls, reading: Reading, class_map: ClassMap | None, usual: PointFrame = PIXELS
    ) -> RowRules:
        """The rules for rows that have names of classes. `class_map`: by the places of these."""
        if class_map is None:
            return cls.of(reading, usual)
        coordinates = reading.coordinates(usual)
        return cls(None, reading.exact, coordinates=coordinates, class_map=class_map)


@dataclass(slots=True, eq=False)
class _CheckedRows:
    """The rows that have passed the rules so far, and those that have not."""

    rows: PlacedRows
    frames: Frames
    rejected: list[RejectedRow]
    left_out: list[tuple[int, int]] = field(default_factory=list)

    def reject(self, broken: Bools, code: str, reason: Callable[[int], str]) -> None:
        """Move the rows that break a rule to the rejected ones.

        Args:
            broken: `(N,)` True for such a row.
            reason: says what is wrong with the row at an index.
        """
        rows = self.rows
        indices = np.flatnonzero(broken)
        for i in indices.tolist():
            tile = int(rows.tile[i])
            place = (int(rows.row[i]), int(rows.file[i]), int(rows.line[i]))
            self.rejected.append(RejectedRow(tile, *place, code, reason(i)))
        if len(indices):
            self.rows = rows.take(~broken)

    def extent(self, i: int) -> str:
        """Where a row lies, in px of its tile."""
        tile = self.rows.tile[i]
        origin = np.tile(self.frames.rects[tile, :2], 2)
        x0, y0, x1, y1 = (self.rows.boxes[i] - origin) * self.frames.scale[tile]
        return f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g} px"

    # Reasons for the row at an index

    def outside_tile(self, i: int) -> str:
        return f"{self.extent(i)} lies outside its tile"

    def beyond_limit(self, i: int) -> str:
        return f"{self.extent(i)} lies beyond {FAR:g} px"

    def without_size(self, i: int) -> str:
        return f"{self.extent(i)} has no size or no area"


def validated(
    rows: PlacedRows,
    rejected: Sequence[RejectedRow],
    frames: Frames,
    rules: RowRules,
    paths: Sequence[str],
    digest: str,
) -> Detections:
    """The valid rows, clamped to their tiles, and the rejected ones with the first rule they break.

    Args:
        rejected: rows that were rejected before they had columns.
        paths: of the files that the rows are from.
    """
    checked = _CheckedRows(rows, frames, list(rejected))
    _check_classes(checked, rules.classes)
    _map_classes(checked, rules.class_map)
    _check_confidences(checked, rules.confidence_hint)
    _check_coordinates(checked, rules.exact)
    _check_outlines(checked)
    if rules.exact:
        return _detections(checked, _given_area(checked.rows), [], paths, digest)
    area = _check_places(checked)
    area, notes = _clamp(checked, area, paths)
    return _detections(checked, area, notes, paths, digest)


def known_classes(class_id: Floats, classes: int | None) -> Bools:
    """`(N,)` which values are a class; `classes`: their number, if known."""
    limit = LARGEST_CLASS if classes is None else classes
    whole = class_id == np.floor(class_id)
    return np.asarray(whole & (class_id >= 0) & (class_id < limit))


def valid_confidences(conf: Floats) -> Bools:
    """`(N,)` which values are a confidence."""
    return np.asarray((conf >= 0) & (conf <= 1))


def _check_classes(checked: _CheckedRows, classes: int | None) -> None:
    class_id = checked.rows.class_id
    if classes is None:
        expected = "a whole number, 0 or more"
    else:
        expected = f"a whole number from 0 to {classes - 1}"
    known = known_classes(class_id, classes)
    checked.reject(~known, "D04", lambda i: f"class {class_id[i]:g}, expected {expected}")


def _map_classes(checked: _CheckedRows, class_map: ClassMap | None) -> None:
    """Give rows the dataset's classes; those of no class of it are left out."""
    if class_map is None:
        return
    rows = checked.rows
    class_id = class_map.apply(rows.class_id)
    kept = class_id != NONE
    others = rows.take(~kept)
    checked.left_out += zip(others.tile.tolist(), others.row.tolist(), strict=True)
    checked.rows = replace(rows, class_id=class_id).take(kept)


def _check_confidences(checked: _CheckedRows, hint: str) -> None:
    conf = checked.rows.conf
    valid = valid_confidences(conf)
    checked.reject(~valid, "D08", lambda i: f"confidence {conf[i]:g}, expected 0 to 1{hint}")


def _check_coordinates(checked: _CheckedRows, exact: bool) -> None:
    """Reject coordinates that are not finite, and those beyond any image."""
    rows = checked.rows
    reach = few.largest(np.abs(rows.boxes))
    if rows.keypoints is not None:
        reach = np.maximum(reach, np.abs(rows.keypoints).max(axis=(1, 2), initial=0.0))
    undefined = np.asarray(np.isnan(reach))
    checked.reject(undefined, "D02", lambda i: "found a coordinate that is not finite")
    far = np.asarray(reach[~undefined] > FAR)
    checked.reject(far, "D05", checked.beyond_limit if exact else checked.outside_tile)


def _check_outlines(checked: _CheckedRows) -> None:
    """Reject outlines that cross themselves too often; straighten the corners of OBBs."""
    rows = checked.rows
    if rows.rings is None:
        return
    if rows.task == "obb":
        checked.rows = _straightened(rows, rows.rings)
    else:
        checked.reject(polygons.tangled(rows.rings), "D15", lambda i: overlay.TANGLED)


def _check_places(checked: _CheckedRows) -> Floats:
    """Reject rows outside their tile and rows without size. Returns `(N,)` px² of the others."""
    rows = checked.rows
    area = _area(rows)
    start, end = rows.boxes[:, :2], rows.boxes[:, 2:]
    narrow = few.some(end - start < LEAST)
    flat = narrow | (area <= 0)
    low = np.minimum(start, end)  # the sides of a flat box may be negative
    high = np.maximum(start, end)
    window = checked.frames.within.take(rows.tile, axis=0)
    window_low, window_high = window[:, :2], window[:, 2:]
    apart = few.some((high < window_low) | (low > window_high))
    # What a detector clips to the border of its image can be a line there: without size, not
    # outside.
    touching = few.some((high <= window_low) | (low >= window_high))
    outside = apart | (touching & ~flat)
    checked.reject(outside, "D05", checked.outside_tile)
    flat = flat[~outside]
    checked.reject(flat, "D06", checked.without_size)
    return area[~outside][~flat]


def _clamp(
    checked: _CheckedRows, area: Floats, paths: Sequence[str]
) -> tuple[Floats, list[Finding]]:
    """Clamp rows to their tiles, reject those of which nothing is left.

    Returns the `(N,)` px² of the others, and a note for each file with clamped rows.
    """
    rows, frames = checked.rows, checked.frames
    noticeable = _past(rows, frames, 0.01, 1e-5)  # more than the rounding of what wrote them
    clamped = _clamped(rows, _past(rows, frames, 0.0, NINE), frames)
    if clamped is not rows:
        area = _area(clamped)
    checked.rows = clamped
    checked.reject(area <= 0, "D05", checked.outside_tile)
    kept = area > 0
    if rows.task == "obb":
        return area[kept], []
    return area[kept], _clamping_notes(clamped.take(noticeable & kept), paths)


def _area(rows: PlacedRows) -> Floats:
    """`(N,)` px² as measured: of the outline, else of the box."""
    if rows.rings is None:
        return box.area(rows.boxes)
    if rows.task == "obb":  # straightened, so that no sides cross
        quads = rows.rings.quads()
        diagonals = quads[:, 2:] - quads[:, :2]
        return np.abs(_cross(diagonals[:, 0], diagonals[:, 1])) / 2
    return np.asarray(shapely.area(rows.rings.geometry()))


def _given_area(rows: PlacedRows) -> Floats:
    """`(N,)` px² as given; else as measured, where a side of negative length counts as such, as
    COCO has it.
    """
    if rows.segmentations is not None and rows.area is not None:
        return rows.area
    if rows.rings is not None:
        measured = _area(rows)
    else:
        sides = rows.boxes[:, 2:] - rows.boxes[:, :2]
        measured = sides[:, 0] * sides[:, 1]
    if rows.area is None:
        return measured
    return np.where(np.isnan(rows.area), measured, rows.area)


def _cross(one: Floats, other: Floats) -> Floats:
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def _straightened(rows: PlacedRows, rings: Rings) -> PlacedRows:
    """Corners that cross become their smallest rectangle."""
    quads = rings.quads()
    sides = np.roll(quads, -1, axis=1) - quads
    turns = np.sign(_cross(sides, np.roll(sides, -1, axis=1)))
    # all others are convex, which is quicker to see than validity
    bent = np.flatnonzero(np.abs(turns.sum(axis=1)) < 4)
    crossed = bent[polygons.self_crossing(rings.take(bent))]
    if not len(crossed):
        return rows
    quads = quads.copy()
    quads[crossed] = polygons.smallest_rectangles(quads[crossed])
    straight = Rings.from_quads(quads)
    return replace(rows, rings=straight, boxes=straight.bounds())


def _past(rows: PlacedRows, frames: Frames, px: float, part: float) -> Bools:
    """`(N,)` rows that reach past their tile by more than `px` of it and a part of its side."""
    window = frames.within.take(rows.tile, axis=0)
    side = few.largest(window[:, 2:] - window[:, :2])
    slack = px / frames.scale[rows.tile] + part * side
    room = window + np.stack([-slack, -slack, slack, slack], axis=1)
    return ~box.inside(rows.boxes, room)


def _clamped(rows: PlacedRows, past: Bools, frames: Frames) -> PlacedRows:
    """Boxes and outlines that reach past their tile, cut at its border; corners of OBBs stay where
    they are.
    """
    over = np.flatnonzero(past)
    if rows.task == "obb" or not len(over):
        return rows
    window = frames.within[rows.tile[over]]
    boxes = rows.boxes.copy()
    if rows.rings is None:
        boxes[over] = box.intersection(rows.boxes[over], window)
        return replace(rows, boxes=boxes)
    outlines = rows.rings.take(over).geometry()
    cut = Rings.from_geometry(overlay.common(outlines, shapely.box(*window.T)))
    bounds = cut.bounds()
    boxes[over] = np.where(np.isnan(bounds), boxes[over], bounds)
    return replace(rows, rings=rows.rings.put(over, cut), boxes=boxes)


def _clamping_notes(rows: PlacedRows, paths: Sequence[str]) -> list[Finding]:
    """One finding for each file that the clamped rows are from, at the first of them."""
    files, first, counts = np.unique(rows.file, return_index=True, return_counts=True)
    message = "reaches past its tile; clamped"
    notes = []
    for file, i, count in zip(files.tolist(), first.tolist(), counts.tolist(), strict=True):
        line, row = int(rows.line[i]), int(rows.row[i])
        notes.append(_finding(paths[file], line, row, "D09", message, count))
    return notes


def _finding(path: str, line: int, row: int, code: str, message: str, count: int = 1) -> Finding:
    if not line:
        return Finding(path, code, f"entry {row}: {message}", None, count)
    return Finding(path, code, message, line, count)


def _in_order(rows: PlacedRows) -> bool:
    """Whether rows stand by tile, then row, as they mostly do."""
    to_tile = np.diff(rows.tile)
    to_row = np.diff(rows.row)
    return bool(((to_tile > 0) | ((to_tile == 0) & (to_row > 0))).all())


def _detections(
    checked: _CheckedRows, area: Floats, notes: list[Finding], paths: Sequence[str], digest: str
) -> Detections:
    """The detections in their order, with the findings of the rejected rows and some notes."""
    rows = checked.rows
    if not _in_order(rows):
        order = np.lexsort((rows.row, rows.tile))
        rows = rows.take(order)
        area = area[order]
    instances = Instances(
        class_id=rows.class_id.astype(np.int64),
        boxes=rows.boxes,
        rings=rows.rings,
        keypoints=rows.keypoints,
        conf=rows.conf,
        row=rows.row,
        area=area,
        task=rows.task,
    )
    rejected = sorted(checked.rejected, key=lambda r: (r.file, r.line, r.row))
    findings = [_finding(paths[r.file], r.line, r.row, r.code, r.message) for r in rejected]
    segmentations = None
    if rows.segmentations is not None:
        segmentations = rows.segmentations.tolist()
    rejected_rows = sorted((r.tile, r.row, r.code) for r in rejected)
    return Detections(
        instances,
        rows.tile,
        rejected=rejected_rows,
        findings=condensed(findings) + notes,
        digest=digest,
        segmentations=segmentations,
        box_area=rows.box_area,
        left_out=sorted(checked.left_out),
    )
