"""Results in JSON: of Ultralytics, YOLOv5, COCO evaluation and SAHI."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, printable, short
from tiler.formats.predictions.categories import Categories
from tiler.formats.predictions.meaning import SHARE
from tiler.formats.predictions.records import RecordFile, Records, by_key, matrix, picture_key, sure
from tiler.formats.predictions.values import Reading
from tiler.types import TASKS

if TYPE_CHECKING:
    from tiler.types import Floats, Task

Faults = dict[int, tuple[str, str]]


class Entry(msgspec.Struct, gc=False):
    """One detection as it stands in the file; each part is checked when it is used."""

    image_id: Any = None
    file_name: Any = None
    category_id: Any = None
    category_name: Any = None
    bbox: Any = None
    score: Any = None
    segmentation: Any = None
    keypoints: Any = None
    rbox: Any = None
    poly: Any = None


class Wrapped(msgspec.Struct):
    """Entries among other parts of a COCO file."""

    annotations: list[Entry]


class WrappedRaw(msgspec.Struct):
    """The same, not yet decoded."""

    annotations: list[msgspec.Raw]


def read(path: Path, entries: list[Entry], reading: Reading) -> RecordFile:
    """The detections of a file of results.

    Raises:
        TilerError: it cannot be told what category ids or numbers mean, or there is no confidence.
    """
    shown = printable(str(path))
    task = _task(entries, reading)
    keys, findings = _keys(entries, str(path))
    index = [i for i, key in enumerate(keys) if key is not None]
    kept = [entries[i] for i in index]
    numeric = bool(kept) and all(e.file_name is None and isinstance(e.image_id, int) for e in kept)
    conf, unsure = _scores(kept)
    conf = sure(conf, reading, shown)
    categories = Categories.of(kept, reading, shown)
    class_id, faults = categories.classes(kept)
    numbers, outlines, shapeless = _geometry(kept, task)
    keypoints, kpt_shape, pointless = _keypoints(kept, task, reading, shown)
    records = Records(
        row=np.array(index, np.int64),
        file=np.zeros(len(kept), np.int64),
        line=np.zeros(len(kept), np.int64),
        class_id=class_id,
        conf=conf,
        numbers=numbers,
        keypoints=keypoints,
        outlines=outlines,
        faults=faults | unsure | pointless | shapeless,  # the plainest reason last
    )
    names, counts, ordered = by_key([key for key in keys if key is not None], records)
    kind = f"JSON results, {task}, {categories.said}: {len(names)} pictures, {len(entries)} entries"
    return RecordFile(kind, task, names, counts, findings, ordered, [str(path)], reading.classes, kpt_shape, numeric)


def _task(entries: Sequence[Entry], reading: Reading) -> Task:
    if reading.task in TASKS:
        return reading.task
    enough = max(1, SHARE * len(entries))
    if sum(bool(e.poly or e.rbox) for e in entries) >= enough:
        return "obb"
    if sum(bool(e.keypoints) for e in entries) >= enough:
        return "pose"
    return "segment" if sum(bool(e.segmentation) for e in entries) >= enough else "detect"


def _keys(entries: Sequence[Entry], path: str) -> tuple[list[str | None], list[Finding]]:
    keys: list[str | None] = []
    findings: list[Finding] = []
    for i, entry in enumerate(entries):
        name = entry.file_name if isinstance(entry.file_name, str) and entry.file_name else entry.image_id
        if isinstance(name, float) and name.is_integer():
            name = int(name)
        if isinstance(name, str) and name:
            keys.append(picture_key(name))
        elif isinstance(name, int) and not isinstance(name, bool) and abs(name) < 10**18:
            keys.append(str(name))
        else:
            keys.append(None)
            findings.append(Finding(path, "D03", f"entry {i}: image_id is {short(name)}, expected a picture"))
    return keys, condensed(findings)


def _scores(entries: Sequence[Entry]) -> tuple[Floats, Faults]:
    """Confidences, NaN where there is none."""
    scores = [math.nan if e.score is None else e.score for e in entries]
    values, wrong = matrix([[score] for score in scores], 1)
    return values[:, 0], {i: ("D08", f"score is {short(scores[i])}, expected 0 to 1") for i in wrong}


def _geometry(entries: Sequence[Entry], task: Task) -> tuple[Floats, dict[int, Any], Faults]:
    """Boxes or corners in tile px, outlines that stand for them, and records without either."""
    outlines: dict[int, Any] = {}
    missing: Faults = {}
    if task == "segment":
        for i, entry in enumerate(entries):
            if entry.segmentation:
                outlines[i] = entry.segmentation
            else:
                missing[i] = "D03", "no segmentation, which outlines need"
        return np.full((len(entries), 4), np.nan), outlines, missing
    width = 8 if task == "obb" else 4
    given: list[Any] = []
    for i, entry in enumerate(entries):
        value = entry.poly if task == "obb" else entry.bbox
        if value is None or value == []:
            value = [math.nan] * width
            outline = _other(entry)
            if outline:
                outlines[i] = outline
            else:
                missing[i] = "D03", "no poly, rbox or segmentation" if task == "obb" else "no bbox"
        given.append(value)
    numbers, wrong = matrix(given, width)
    if task != "obb":
        with np.errstate(invalid="ignore", over="ignore"):  # absurd numbers are refused later
            numbers[:, 2:] += numbers[:, :2]
    return numbers, outlines, missing | wrong


def _other(entry: Entry) -> Any:
    """An outline of an entry without the geometry that was looked for."""
    if entry.poly:
        return [entry.poly]
    if entry.rbox:
        return [_corners(entry.rbox)]
    return entry.segmentation


def _corners(rbox: Any) -> Any:
    """The eight corner values of centre, size and angle in radians; what is none of that is left for the judge."""
    values, wrong = matrix([rbox], 5)
    if wrong or not np.isfinite(values).all():
        return rbox
    x, y, w, h, angle = values[0].tolist()
    c, s = math.cos(angle), math.sin(angle)
    corners = [
        (x + a * w / 2 * c - b * h / 2 * s, y + a * w / 2 * s + b * h / 2 * c) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    return [value for corner in corners for value in corner]


def _keypoints(
    entries: Sequence[Entry], task: Task, reading: Reading, shown: str
) -> tuple[Floats | None, tuple[int, int] | None, Faults]:
    """`(N, K, 2 or 3)`, the shape of all, and records that have another one."""
    if task != "pose":
        return None, None, {}
    lengths = Counter(len(e.keypoints) for e in entries if isinstance(e.keypoints, list) and e.keypoints)
    usual = min(lengths, key=lambda n: (-lengths[n], n)) if lengths else 0
    points = reading.kpt_shape[0] if reading.kpt_shape is not None else usual // (3 if usual % 3 == 0 else 2)
    if not points or usual not in (0, 2 * points, 3 * points):
        raise TilerError(
            f"{shown}: {usual} values of keypoints in most entries, expected 3 for each of {points or 'some'} keypoints"
        )
    shape = (points, 2 if usual == 2 * points else 3)
    values, wrong = matrix([e.keypoints for e in entries], shape[0] * shape[1])
    return values.reshape(-1, *shape), shape, {i: (code, f"keypoints: {message}") for i, (code, message) in wrong.items()}
