"""Results in JSON: of Ultralytics, YOLOv5, COCO evaluation and SAHI."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats.json_numbers import dense, numbers
from tiler.predictions import sizing
from tiler.predictions.categories import Categories
from tiler.predictions.entries import Entry
from tiler.predictions.records import RecordFile, Records, grouped, image_key, matrix, sure
from tiler.predictions.row_format import SHARE
from tiler.predictions.values import Reading
from tiler.types import TASKS

if TYPE_CHECKING:
    from tiler.types import Floats, Ints, Task

Faults = dict[int, tuple[str, str]]

NO_BOX = "no bbox"


class Wrapped(msgspec.Struct):
    """Entries among other parts of a COCO file."""

    annotations: list[Entry]


class WrappedRaw(msgspec.Struct):
    """The same, not yet decoded."""

    annotations: list[msgspec.Raw]


def read(path: Path, entries: list[Entry], reading: Reading, listed: bool = True) -> RecordFile:
    """The detections of a file of results.

    Args:
        listed: the file is a list of entries, not an object that holds one.

    Raises:
        TilerError: it cannot be told what category ids or numbers mean, or there is no confidence.
    """
    shown = str(path)
    task = _task(entries, reading)
    names, owner, findings = _keys(entries, str(path))
    index = np.flatnonzero(owner >= 0)
    kept = entries if len(index) == len(entries) else [entries[i] for i in index.tolist()]
    numeric = _types(kept, "file_name") == {type(None)} and _types(kept, "image_id") == {int}
    conf, unsure = _scores(kept)
    conf = sure(conf, reading, shown)
    categories = Categories.of(kept, reading, shown)
    class_id, faults = categories.classes(kept)
    boxes, box_area, outlines, shapeless = _geometry(kept, task, reading.exact)
    keypoints, kpt_shape, pointless = _keypoints(kept, task, reading, shown)
    area, sized = None, None
    if box_area is not None:  # to be as exact as pycocotools
        sized = sizing.sizing(entries, listed)
        if keypoints is not None:
            _around(keypoints, boxes, box_area, shapeless, pointless)
        if task != "segment" and sized.by == "keypoints":
            _bounded(kept, boxes, box_area, outlines, shapeless)
        area = _areas(kept, task, sized.by, box_area, keypoints)
    records = Records(
        row=index,
        file=np.zeros(len(kept), np.int64),
        line=np.zeros(len(kept), np.int64),
        class_id=class_id,
        conf=conf,
        numbers=boxes,
        keypoints=keypoints,
        area=area,
        box_area=box_area,
        outlines=outlines,
        faults=faults | unsure | pointless | shapeless,  # the plainest reason last
    )
    names, counts, ordered = grouped(names, owner[index], records)
    kind = f"JSON results, {task}, {categories.said}: {len(names)} images, {len(entries)} entries"
    return RecordFile(
        kind,
        task,
        names,
        counts,
        findings,
        ordered,
        [str(path)],
        reading.classes,
        kpt_shape,
        numeric,
        reading.exact,
        sized,
    )


def _task(entries: Sequence[Entry], reading: Reading) -> Task:
    if reading.task in TASKS:
        return reading.task
    enough = max(1, SHARE * len(entries))
    if sum(bool(e.poly or e.rbox) for e in entries) >= enough:
        return "obb"
    if _filled(entries, "keypoints") >= enough:
        return "pose"
    return "segment" if _filled(entries, "segmentation") >= enough else "detect"


def _types(entries: Sequence[Entry], name: str) -> set[type]:
    return {*map(type, map(attrgetter(name), entries))}


def _filled(entries: Sequence[Entry], name: str) -> int:
    return sum(map(bool, map(attrgetter(name), entries)))


def _keys(entries: Sequence[Entry], path: str) -> tuple[list[str], Ints, list[Finding]]:
    """The sorted keys, `(N,)` the place of each entry's key among them (-1: it has none), and what
    has none.
    """
    given: list[Any] = [*map(attrgetter("file_name"), entries)]
    if {*map(type, given)} <= {type(None)}:
        given = [*map(attrgetter("image_id"), entries)]
    else:
        given = [
            name if isinstance(name, str) and name else e.image_id
            for name, e in zip(given, entries, strict=True)
        ]
    # of others True would be 1 in a dict, and a list no key
    if {*map(type, given)} <= {str, int, float}:
        known = {name: _key(name) for name in {*given}}
        keys = [*map(known.__getitem__, given)]
    else:
        keys = [_key(name) for name in given]
    names = sorted({key for key in keys if key is not None})
    place: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    owner = np.fromiter(map({None: -1, **place}.__getitem__, keys), np.int64, len(keys))
    findings = [
        Finding(path, "D03", f"entry {i}: image_id is {short(given[i])}, expected an image")
        for i in np.flatnonzero(owner < 0).tolist()
    ]
    return names, owner, condensed(findings)


def _key(name: Any) -> str | None:
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    if isinstance(name, str) and name:
        return image_key(name)
    whole = isinstance(name, int) and not isinstance(name, bool) and abs(name) < 10**18
    return str(name) if whole else None


def _scores(entries: Sequence[Entry]) -> tuple[Floats, Faults]:
    """Confidences, NaN where there is none."""
    scores: list[Any] = [*map(attrgetter("score"), entries)]
    plain = numbers(scores)
    if plain is not None:
        return plain, {}
    scores = [math.nan if score is None else score for score in scores]
    values, wrong = matrix([[score] for score in scores], 1)
    return values[:, 0], {
        i: ("D08", f"score is {short(scores[i])}, expected 0 to 1") for i in wrong
    }


def _geometry(
    entries: Sequence[Entry], task: Task, exact: bool
) -> tuple[Floats, Floats | None, dict[int, Any], Faults]:
    """Boxes or corners in tile px, boxes' areas if they are to be exact (NaN: no box), outlines
    that stand for boxes, and records without either."""
    outlines: dict[int, Any] = {}
    missing: Faults = {}
    if task == "segment":
        for i, entry in enumerate(entries):
            if entry.segmentation:
                outlines[i] = entry.segmentation
            elif exact and entry.segmentation is None and (quad := _quad(entry.bbox)):
                outlines[i] = quad
            else:
                missing[i] = "D03", "no segmentation, which outlines need"
        if not exact:
            return np.full((len(entries), 4), np.nan), None, outlines, missing
    width = 8 if task == "obb" else 4
    given: list[Any] = [*map(attrgetter("poly" if task == "obb" else "bbox"), entries)]
    values, wrong = dense(given, width), Faults()
    absent: list[int] = []
    if values is None:
        for i, value in enumerate(given):
            if value is not None and value != [] and value != ():
                continue
            given[i] = [math.nan] * width
            absent.append(i)
            if task == "segment":
                continue
            outline = _other(entries[i])
            if outline:
                outlines[i] = outline
            else:
                missing[i] = "D03", "no poly, rbox or segmentation" if task == "obb" else NO_BOX
        values, wrong = matrix(given, width)
    area = None
    if task != "obb":
        with np.errstate(invalid="ignore", over="ignore"):  # absurd numbers are refused later
            area = values[:, 2] * values[:, 3] if exact else None
            values[:, 2:] += values[:, :2]
    if task == "segment":
        values[absent] = 0.0
    return values, area, outlines, missing | wrong


def _quad(bbox: Any) -> Any:
    """A box as the polygon that `loadRes` gives an entry without one; None if it is no box."""
    if (
        not isinstance(bbox, tuple)
        or len(bbox) != 4
        or not all(isinstance(v, int | float) for v in bbox)
    ):
        return None
    x, y, w, h = bbox
    return [[x, y, x, y + h, x + w, y + h, x + w, y]]


def _around(
    keypoints: Floats, boxes: Floats, area: Floats, shapeless: Faults, pointless: Faults
) -> None:
    """Keypoints without a box, as COCO's results have them, get that around them all, as
    pycocotools does.
    """
    for i in [
        i for i, (_, message) in shapeless.items() if message == NO_BOX and i not in pointless
    ]:
        boxes[i] = sizing.extents(keypoints[[i]])[0]
        area[i] = (boxes[i, 2:] - boxes[i, :2]).prod()
        del shapeless[i]


def _bounded(
    entries: Sequence[Entry],
    boxes: Floats,
    area: Floats,
    outlines: dict[int, Any],
    shapeless: Faults,
) -> None:
    """Every box becomes that around all keypoints, which pycocotools compares where the first entry
    has nothing else.
    """
    for i, entry in enumerate(entries):
        count = len(entry.keypoints) if isinstance(entry.keypoints, list) else 0
        values, wrong = matrix([entry.keypoints], count)
        if not count or count % 3 or wrong:
            continue
        boxes[i] = sizing.extents(values.reshape(1, -1, 3))[0]
        area[i] = (boxes[i, 2:] - boxes[i, :2]).prod()
        outlines.pop(i, None)
        shapeless.pop(i, None)


def _areas(
    entries: Sequence[Entry], task: Task, by: str, box_area: Floats, keypoints: Floats | None
) -> Floats:
    """`(N,)` px² by which pycocotools sizes each detection; NaN: what it is measured to be."""
    if by == "mask":
        if task == "segment":  # its pixels are counted later
            return np.full(len(entries), np.nan)
        return np.array([sizing.mask_area(entry.segmentation) for entry in entries])
    if by == "keypoints" and keypoints is not None:
        around = sizing.extents(keypoints)
        return np.asarray((around[:, 2:] - around[:, :2]).prod(axis=1))
    return box_area.copy()


def _other(entry: Entry) -> Any:
    """An outline of an entry without the geometry that was looked for."""
    if entry.poly:
        return [entry.poly]
    if entry.rbox:
        return [_corners(entry.rbox)]
    return entry.segmentation


def _corners(rbox: Any) -> Any:
    """The eight corner values of centre, size and angle in radians; what is none of that is left
    for the judge.
    """
    values, wrong = matrix([rbox], 5)
    if wrong or not np.isfinite(values).all():
        return rbox
    x, y, w, h, angle = values[0].tolist()
    c, s = math.cos(angle), math.sin(angle)
    corners = [
        (x + a * w / 2 * c - b * h / 2 * s, y + a * w / 2 * s + b * h / 2 * c)
        for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    return [value for corner in corners for value in corner]


def _keypoints(
    entries: Sequence[Entry], task: Task, reading: Reading, shown: str
) -> tuple[Floats | None, tuple[int, int] | None, Faults]:
    """`(N, K, 2 or 3)`, the shape of all, and records that have another one."""
    if task != "pose":
        return None, None, {}
    lengths = Counter(
        len(e.keypoints) for e in entries if isinstance(e.keypoints, list) and e.keypoints
    )
    usual = min(lengths, key=lambda n: (-lengths[n], n)) if lengths else 0
    points = (
        reading.kpt_shape[0]
        if reading.kpt_shape is not None
        else usual // (3 if usual % 3 == 0 else 2)
    )
    if not points or usual not in (0, 2 * points, 3 * points):
        raise TilerError(
            f"{shown}: {usual} values of keypoints in most entries, expected 3 for each of "
            f"{points or 'some'} keypoints"
        )
    shape = (points, 2 if usual == 2 * points else 3)
    values, wrong = matrix([e.keypoints for e in entries], shape[0] * shape[1])
    return (
        values.reshape(-1, *shape),
        shape,
        {i: (code, f"keypoints: {message}") for i, (code, message) in wrong.items()},
    )
