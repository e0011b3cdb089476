"""Which detections can be meant: one place that judges the rows of every format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tiler.findings import Finding, condensed
from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely
from tiler.predictions.placing import PlacedRows
from tiler.predictions.values import Detections

if TYPE_CHECKING:
    from tiler.predictions.values import Frames
    from tiler.types import Bools, Floats

FAR = 1e9  # px; no image is that large
NINE = 2e-9  # of a side: the rounding of nine digits, which is no reaching past
LEAST = 1e-6  # px; less is nothing in the nine digits that are written


class Fault(NamedTuple):
    """A row that is refused: its tile, its ordinal, its file and line (0: an entry of JSON), and
    why.
    """

    tile: int
    row: int
    file: int
    line: int
    code: str
    message: str


def judged(
    rows: PlacedRows,
    faults: Sequence[Fault],
    frames: Frames,
    paths: Sequence[str],
    classes: int | None,
    digest: str,
    hint: str = "",
    exact: bool = False,
) -> Detections:
    """The rows that can be meant, clamped to their tiles, and what is wrong with the others.

    Args:
        faults: rows that were refused before they had columns.
        classes: number of classes, if known.
        hint: what a confidence outside 0 to 1 may come from.
        exact: rows stay as they are and where they are: none is clamped, or refused for its size or
            place.
    """
    found = list(faults)

    def sound(rows: PlacedRows, broken: Bools, code: str, said: Callable[[int], str]) -> PlacedRows:
        """The rows that do not break a rule; the others are faults."""
        at = np.flatnonzero(broken)
        for i in at.tolist():
            where = (int(rows.tile[i]), int(rows.row[i]), int(rows.file[i]), int(rows.line[i]))
            found.append(Fault(*where, code, said(i)))
        return rows.take(~broken) if len(at) else rows

    def outside(i: int) -> str:
        return (
            f"{_seen(rows, frames, i)} lies {f'beyond {FAR:g} px' if exact else 'outside its tile'}"
        )

    most = 2.0**53 if classes is None else classes
    known = (
        "a whole number, 0 or more"
        if classes is None
        else f"a whole number from 0 to {classes - 1}"
    )
    whole = (
        (rows.class_id == np.floor(rows.class_id)) & (rows.class_id >= 0) & (rows.class_id < most)
    )
    rows = sound(rows, ~whole, "D04", lambda i: f"class {rows.class_id[i]:g}, expected {known}")
    likely = (rows.conf >= 0) & (rows.conf <= 1)
    rows = sound(
        rows, ~likely, "D08", lambda i: f"confidence {rows.conf[i]:g}, expected 0 to 1{hint}"
    )
    reach = np.abs(rows.boxes).max(axis=1, initial=0.0)
    if rows.keypoints is not None:
        reach = np.maximum(reach, np.abs(rows.keypoints).max(axis=(1, 2), initial=0.0))
    wild = np.asarray(np.isnan(reach))
    rows = sound(rows, wild, "D02", lambda i: "found a coordinate that is not finite")
    reach = reach[~wild]
    rows = sound(rows, np.asarray(reach > FAR), "D05", outside)
    if rows.task == "obb":
        rows = _straightened(rows)
    elif rows.rings is not None:
        rows = sound(rows, polygons.tangled(rows.rings), "D15", lambda i: overlay.TANGLED)
    if exact:
        return _detections(rows, _given_area(rows), found, [], paths, digest)
    window = frames.within[rows.tile]
    low = np.minimum(rows.boxes[:, :2], rows.boxes[:, 2:])
    high = np.maximum(rows.boxes[:, :2], rows.boxes[:, 2:])
    area = _area(rows)
    flat = (rows.boxes[:, 2:] - rows.boxes[:, :2] < LEAST).any(axis=1) | (area <= 0)
    away = ((high < window[:, :2]) | (low > window[:, 2:])).any(axis=1)
    # What a detector clips to the border of its image can be a line there: without size, not
    # outside.
    away |= ((high <= window[:, :2]) | (low >= window[:, 2:])).any(axis=1) & ~flat
    rows, flat, area = sound(rows, away, "D05", outside), flat[~away], area[~away]
    rows = sound(rows, flat, "D06", lambda i: f"{_seen(rows, frames, i)} has no size or no area")
    past = _past(rows, frames, 0.01, 1e-5)  # more than the rounding of what wrote them
    given, rows = rows, _clamped(rows, _past(rows, frames, 0.0, NINE), frames)
    area = area[~flat] if rows is given else _area(rows)
    rows, past = sound(rows, area <= 0, "D05", outside), past[area > 0]
    notes = _notes(rows.take(past), paths) if rows.task != "obb" else []
    return _detections(rows, area[area > 0], found, notes, paths, digest)


def _seen(rows: PlacedRows, frames: Frames, i: int) -> str:
    """Where a row is, in px of its tile."""
    tile = rows.tile[i]
    x0, y0, x1, y1 = (rows.boxes[i] - np.tile(frames.rects[tile, :2], 2)) * frames.scale[tile]
    return f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g} px"


def _area(rows: PlacedRows) -> Floats:
    if rows.rings is None:
        return box.area(rows.boxes)
    if rows.task == "obb":  # straightened, so that no sides cross
        quads = rows.rings.quads()
        return np.abs(_cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])) / 2
    return np.asarray(shapely.area(rows.rings.geometry()))


def _given_area(rows: PlacedRows) -> Floats:
    """`(N,)` px² as given; else as measured, where a side of negative length counts as such, as
    COCO has it.
    """
    if rows.segmentations is not None and rows.area is not None:
        return rows.area
    sides = rows.boxes[:, 2:] - rows.boxes[:, :2]
    measured = _area(rows) if rows.rings is not None else sides[:, 0] * sides[:, 1]
    return measured if rows.area is None else np.where(np.isnan(rows.area), measured, rows.area)


def _cross(one: Floats, other: Floats) -> Floats:
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def _straightened(rows: PlacedRows) -> PlacedRows:
    """Corners that cross become their smallest rectangle."""
    assert rows.rings is not None
    quads = rows.rings.quads()
    sides = np.roll(quads, -1, axis=1) - quads
    turns = np.sign(_cross(sides, np.roll(sides, -1, axis=1)))
    # all others are convex, which is quicker to see than validity
    bent = np.flatnonzero(np.abs(turns.sum(axis=1)) < 4)
    crossed = bent[polygons.self_crossing(rows.rings.take(bent))]
    if not len(crossed):
        return rows
    quads = quads.copy()
    quads[crossed] = polygons.smallest_rectangles(quads[crossed])
    rings = Rings.from_quads(quads)
    return replace(rows, rings=rings, boxes=rings.bounds())


def _past(rows: PlacedRows, frames: Frames, px: float, part: float) -> Bools:
    """`(N,)` rows that reach past their tile by more than some px of it and a part of its side."""
    window = frames.within[rows.tile]
    slack = px / frames.scale[rows.tile] + part * (window[:, 2:] - window[:, :2]).max(
        axis=1, initial=0.0
    )
    return ~box.inside(rows.boxes, window + np.stack([-slack, -slack, slack, slack], axis=1))


def _clamped(rows: PlacedRows, past: Bools, frames: Frames) -> PlacedRows:
    """Boxes and outlines that reach past their tile, as far as it shows them; corners of OBBs stay
    where they are.
    """
    over = np.flatnonzero(past)
    if rows.task == "obb" or not len(over):
        return rows
    window = frames.within[rows.tile[over]]
    boxes = rows.boxes.copy()
    if rows.rings is None:
        boxes[over] = box.intersection(rows.boxes[over], window)
        return replace(rows, boxes=boxes)
    cut = Rings.from_geometry(
        overlay.common(rows.rings.take(over).geometry(), shapely.box(*window.T))
    )
    bounds = cut.bounds()
    boxes[over] = np.where(np.isnan(bounds), boxes[over], bounds)
    return replace(rows, rings=rows.rings.put(over, cut), boxes=boxes)


def _notes(rows: PlacedRows, paths: Sequence[str]) -> list[Finding]:
    """One finding a file."""
    files, first, counts = np.unique(rows.file, return_index=True, return_counts=True)
    notes = []
    for file, i, count in zip(files.tolist(), first.tolist(), counts.tolist(), strict=True):
        message = "reaches past its tile; clamped"
        notes.append(
            _finding(paths[file], int(rows.line[i]), int(rows.row[i]), "D09", message, count)
        )
    return notes


def _finding(path: str, line: int, row: int, code: str, message: str, count: int = 1) -> Finding:
    return Finding(path, code, message if line else f"entry {row}: {message}", line or None, count)


def _detections(
    rows: PlacedRows,
    area: Floats,
    faults: list[Fault],
    notes: list[Finding],
    paths: Sequence[str],
    digest: str,
) -> Detections:
    order = np.lexsort((rows.row, rows.tile))
    faults.sort(key=lambda f: (f.file, f.line, f.row))
    rows = rows.take(order)
    instances = Instances(
        class_id=rows.class_id.astype(np.int64),
        boxes=rows.boxes,
        rings=rows.rings,
        keypoints=rows.keypoints,
        conf=rows.conf,
        row=rows.row,
        area=area[order],
        task=rows.task,
    )
    refused = sorted((f.tile, f.row, f.code) for f in faults)
    findings = condensed(_finding(paths[f.file], f.line, f.row, f.code, f.message) for f in faults)
    raw = None if rows.segmentations is None else rows.segmentations.tolist()
    return Detections(instances, rows.tile, refused, findings + notes, digest, raw, rows.box_area)
