"""Results in JSON: of Ultralytics, YOLOv5, COCO evaluation and SAHI."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from tiler.predictions.coordinates import PIXELS, PointFrame
from tiler.predictions.entries import Entry
from tiler.predictions.plain_results import PlainResults
from tiler.predictions.records import (
    Reasons,
    RecordFile,
    Records,
    confidences,
    grouped,
    image_key,
    matrix,
    places_of,
)
from tiler.predictions.row_format import SHARE
from tiler.predictions.sizing import Sizing
from tiler.predictions.validation import RowRules
from tiler.predictions.values import Reading
from tiler.types import TASKS

if TYPE_CHECKING:
    from tiler.types import Floats, Ints, Task

NO_BOX = "no bbox"
DEEPEST = 8  # levels of lists in an outline; polygons have two


class Wrapped(msgspec.Struct):
    """Entries among other parts of a COCO file."""

    annotations: list[Entry]


class WrappedRaw(msgspec.Struct):
    """The same, not yet decoded."""

    annotations: list[msgspec.Raw]


@dataclass(frozen=True, slots=True, eq=False)
class EntryOrigin:
    """Where N entries are from, and what is known about their format.

    Attributes:
        title: of the format.
        paths: of the files.
        file: `(N,)` index into the paths.
        row: `(N,)` ordinal of each entry.
        line: `(N,)` from 1; 0 where the format has no lines.
        images: names of images that there are predictions for, maybe none.
        first_id: the first category id, if the format is known to count from it.
        base_hint: what ids usually count from, where that is not certain.
        usual: what coordinates count in, unless the user says otherwise.
        named_by: what names the images, where that is said.
        note: added to the description.
    """

    title: str
    paths: list[str]
    file: Ints
    row: Ints
    line: Ints
    images: Sequence[str] = ()
    first_id: int | None = None
    base_hint: str = ""
    usual: PointFrame = PIXELS
    named_by: str = ""
    note: str = ""

    @classmethod
    def of_file(cls, path: str, count: int) -> EntryOrigin:
        """The `count` entries of one file of results."""
        zeros = np.zeros(count, np.int64)
        return cls("JSON results", [path], zeros, np.arange(count), zeros)

    def as_given(self, reading: Reading) -> bool:
        """Whether coordinates stay as the file has them."""
        return reading.as_given and (reading.boxes != "auto" or self.usual == PIXELS)

    def kind(self, task: Task, categories: Categories, images: int) -> str:
        """What was found, in words."""
        unit = "entries"
        parts = [self.title, task, categories.description]
        if self.named_by:
            parts.append(f"images by {self.named_by}")
            unit = "rows"
        said = ", ".join(part for part in parts if part)
        return f"{said}: {images} images, {len(self.row)} {unit}{self.note}"


@dataclass(frozen=True, slots=True, eq=False)
class _NamedEntries:
    """The N entries that name their image.

    Attributes:
        index: `(N,)` place in the file.
        keys: of all images, sorted.
        owner: `(N,)` the place of its image's key among these.
        findings: for the other entries.
    """

    entries: Sequence[Entry]
    index: Ints
    keys: list[str]
    owner: Ints
    findings: list[Finding]

    @property
    def numeric(self) -> bool:
        """Whether all are named by whole numbers."""
        without_file = _types(self.entries, "file_name") == {type(None)}
        return without_file and _types(self.entries, "image_id") == {int}


@dataclass(slots=True, eq=False)
class _EntryShapes:
    """Boxes or outlines of N entries, in tile px.

    Attributes:
        boxes: `(N, 4)` xyxy, or for obb `(N, 8)` corners; NaN where there is none.
        outlines: by index, polygons or a mask that stand in for a box.
        rejected: entries without either, or with numbers that are not valid.
        box_area: `(N,)` px², NaN where there is no box; None unless boxes are read exactly.
    """

    boxes: Floats
    outlines: dict[int, Any] = field(default_factory=dict)
    rejected: Reasons = field(default_factory=dict)
    box_area: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _EntryPoses:
    """Keypoints of N entries, in tile px: `(N, K, 2 or 3)`, and the entries with another shape."""

    keypoints: Floats | None = None
    rejected: Reasons = field(default_factory=dict)

    @property
    def kpt_shape(self) -> tuple[int, int] | None:
        if self.keypoints is None:
            return None
        _, count, values = self.keypoints.shape
        return count, values


def read(path: Path, entries: list[Entry], reading: Reading, listed: bool = True) -> RecordFile:
    """The detections of a file of results.

    Args:
        listed: the file is a list of entries, not an object that holds one.

    Raises:
        TilerError: category ids or keypoints are ambiguous, or there is no confidence.
    """
    return read_entries(entries, EntryOrigin.of_file(str(path), len(entries)), reading, (), listed)


def read_entries(
    entries: list[Entry],
    origin: EntryOrigin,
    reading: Reading,
    findings: Sequence[Finding] = (),
    listed: bool = True,
) -> RecordFile:
    """The detections of entries, wherever they are from.

    Args:
        findings: what was noticed about them before.
        listed: as in `read`.

    Raises:
        TilerError: as `read` does.
    """
    task = _task(entries, reading)
    named = _named(entries, origin)
    sized = None
    if origin.as_given(reading) and task != "obb":  # to be as exact as pycocotools
        sized = sizing.sizing(entries, listed)
    records, poses, categories = _records(named, task, reading, sized, origin)
    counts, ordered = grouped(len(named.keys), named.owner, records)
    return RecordFile(
        kind=origin.kind(task, categories, len(named.keys)),
        task=task,
        keys=named.keys,
        counts=counts,
        findings=[*findings, *named.findings],
        records=ordered,
        paths=origin.paths,
        rules=RowRules.of_named(reading, categories.class_map, origin.usual),
        kpt_shape=poses.kpt_shape,
        numeric=named.numeric,
        sizing=sized,
    )


def read_plain(path: Path, plain: PlainResults, reading: Reading) -> RecordFile | None:
    """The detections of plain boxes, as `read` has them for the same entries; None if an image or
    a category is not valid, which `read` says entry by entry.

    Raises:
        TilerError: category ids are ambiguous.
    """
    name = str(path)
    origin = EntryOrigin.of_file(name, len(plain))
    exact = origin.as_given(reading)
    categories, class_id = _plain_classes(plain, reading, name)
    image_keys = [key for key in _keys(plain.images) if key is not None]
    if len(image_keys) < len(plain.images) or np.isnan(class_id).any():
        return None
    keys = sorted({*image_keys})
    places = places_of(keys)
    owner = np.array([places[key] for key in image_keys])[plain.image]
    boxes = plain.xywh
    box_area = _corners_of_boxes(boxes)
    records = Records(
        row=origin.row,
        file=origin.file,
        line=origin.line,
        class_id=class_id[plain.category],
        conf=plain.score,
        numbers=boxes,
        area=box_area if exact else None,
        box_area=box_area if exact else None,
    )
    counts, ordered = grouped(len(keys), owner, records)
    return RecordFile(
        kind=origin.kind("detect", categories, len(keys)),
        task="detect",
        keys=keys,
        counts=counts,
        findings=[],
        records=ordered,
        paths=[name],
        rules=RowRules.of(reading),
        numeric=not plain.by_file and all(type(image) is int for image in plain.images),
        sizing=Sizing("box") if exact else None,
    )


def _plain_classes(plain: PlainResults, reading: Reading, path: str) -> tuple[Categories, Floats]:
    """The categories, and the class of each category id; NaN of one that is not valid."""
    # all that matters of an entry here is its category id, and that files are named
    file_name = "named" if plain.by_file else None
    entries = [Entry(category_id=id, file_name=file_name) for id in plain.category_ids]
    categories = Categories.of(entries, reading, path)
    class_id, _ = categories.classes(entries)
    return categories, class_id


def _records(
    named: _NamedEntries, task: Task, reading: Reading, sized: Sizing | None, origin: EntryOrigin
) -> tuple[Records, _EntryPoses, Categories]:
    """The columns of the entries. `sized`: how pycocotools sizes them, if that matters."""
    entries = named.entries
    path = origin.paths[0]
    conf, no_score = _confidences(entries, reading, path)
    categories = Categories.of(entries, reading, path, origin.first_id, origin.base_hint)
    class_id, no_class = categories.classes(entries)
    shapes = _shapes(entries, task, origin.as_given(reading))
    _reject_nested(shapes)
    poses = _poses(entries, task, reading, path)
    area = None if sized is None else _as_pycocotools(entries, task, sized, shapes, poses)
    records = Records(
        row=origin.row[named.index],
        file=origin.file[named.index],
        line=origin.line[named.index],
        class_id=class_id,
        conf=conf,
        numbers=shapes.boxes,
        keypoints=poses.keypoints,
        area=area,
        box_area=shapes.box_area,
        outlines=shapes.outlines,
        # of several reasons for one entry the last one counts, which is the plainest
        rejected=no_class | no_score | poses.rejected | shapes.rejected,
    )
    return records, poses, categories


def _task(entries: Sequence[Entry], reading: Reading) -> Task:
    if reading.task in TASKS:
        return reading.task
    enough = max(1, SHARE * len(entries))
    if sum(bool(entry.poly or entry.rbox) for entry in entries) >= enough:
        return "obb"
    if _filled(entries, "keypoints") >= enough:
        return "pose"
    if _filled(entries, "segmentation") >= enough:
        return "segment"
    return "detect"


def _types(entries: Sequence[Entry], name: str) -> set[type]:
    return {*map(type, map(attrgetter(name), entries))}


def _filled(entries: Sequence[Entry], name: str) -> int:
    return sum(map(bool, map(attrgetter(name), entries)))


def _named(entries: list[Entry], origin: EntryOrigin) -> _NamedEntries:
    """The entries that name their image; the others become findings."""
    names = _image_names(entries)
    entry_keys = _keys(names)
    found = {key for key in entry_keys if key is not None}
    keys = sorted(found.union(map(image_key, origin.images)))
    places: dict[str | None, int] = {None: -1, **places_of(keys)}
    owner = np.fromiter(map(places.__getitem__, entry_keys), np.int64, len(entries))
    index = np.flatnonzero(owner >= 0)
    if len(index) == len(entries):
        return _NamedEntries(entries, index, keys, owner, [])
    findings = []
    for i in np.flatnonzero(owner < 0).tolist():
        findings.append(_unnamed(i, names[i], origin))
    kept = [entries[i] for i in index.tolist()]
    return _NamedEntries(kept, index, keys, owner[index], condensed(findings))


def _unnamed(i: int, name: Any, origin: EntryOrigin) -> Finding:
    """About an entry that names no image."""
    line = int(origin.line[i])
    where = "" if line else f"entry {origin.row[i]}: "
    column = origin.named_by or "image_id"
    message = f"{where}{column} is {short(name)}, expected an image"
    return Finding(origin.paths[origin.file[i]], "D03", message, line or None)


def _keys(names: list[Any]) -> list[str | None]:
    """The key of each image; None where that is not a name or an id."""
    # of other types True would be 1 in a dict, and a list no key
    if {*map(type, names)} <= {str, int, float}:
        known = {name: _key(name) for name in {*names}}
        return [*map(known.__getitem__, names)]
    return [_key(name) for name in names]


def _image_names(entries: Sequence[Entry]) -> list[Any]:
    """What each entry calls its image: by file_name, else by image_id."""
    names: list[Any] = [*map(attrgetter("file_name"), entries)]
    if {*map(type, names)} <= {type(None)}:
        return [*map(attrgetter("image_id"), entries)]
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            names[i] = entries[i].image_id
    return names


def _key(name: Any) -> str | None:
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    if isinstance(name, str) and name:
        return image_key(name)
    whole = isinstance(name, int) and not isinstance(name, bool) and abs(name) < 10**18
    return str(name) if whole else None


def _confidences(entries: Sequence[Entry], reading: Reading, path: str) -> tuple[Floats, Reasons]:
    """`(N,)` confidences, and the entries in which they are not numbers.

    Raises:
        TilerError: no entry has one.
    """
    scores: list[Any] = [*map(attrgetter("score"), entries)]
    conf = numbers(scores)
    rejected: Reasons = {}
    if conf is None:
        rows = [[math.nan if score is None else score] for score in scores]
        values, invalid = matrix(rows, 1)
        conf = values[:, 0]
        for i in invalid:
            rejected[i] = "D08", f"score is {short(scores[i])}, expected 0 to 1"
    return confidences(conf, reading, path), rejected


def _shapes(entries: Sequence[Entry], task: Task, exact: bool) -> _EntryShapes:
    if task == "obb":
        return _corner_shapes(entries)
    if task != "segment":
        return _box_shapes(entries, exact)
    if exact:
        return _exact_outlines(entries)
    shapes = _EntryShapes(np.full((len(entries), 4), np.nan))
    for i, entry in enumerate(entries):
        if entry.segmentation:
            shapes.outlines[i] = entry.segmentation
        else:
            shapes.rejected[i] = _NO_SEGMENTATION
    return shapes


def _reject_nested(shapes: _EntryShapes) -> None:
    """Reject outlines of lists in lists in lists, which could not be handed to a worker."""
    for i in [i for i, outline in shapes.outlines.items() if _nested(outline, DEEPEST)]:
        del shapes.outlines[i]
        shapes.rejected[i] = "D03", f"segmentation: lists in more than {DEEPEST} lists"


def _nested(value: Any, levels: int) -> bool:
    """Whether lists or objects are nested deeper than `levels`."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, list | tuple | dict):
        return False
    if {*map(type, inner)}.isdisjoint({list, dict}):
        return False
    return not levels or any(_nested(each, levels - 1) for each in inner)


_NO_SEGMENTATION = ("D03", "no segmentation, which outlines need")


def _corner_shapes(entries: Sequence[Entry]) -> _EntryShapes:
    """Four corners of each entry, else an outline that they are to be around."""
    corners, absent, invalid = _numbers([*map(attrgetter("poly"), entries)], 8)
    outlines, missing = _outlines_for(entries, absent, "no poly, rbox or segmentation")
    return _EntryShapes(corners, outlines, missing | invalid)


def _box_shapes(entries: Sequence[Entry], exact: bool) -> _EntryShapes:
    """The box of each entry, else an outline that it is to be around."""
    boxes, absent, invalid = _numbers([*map(attrgetter("bbox"), entries)], 4)
    outlines, missing = _outlines_for(entries, absent, NO_BOX)
    area = _corners_of_boxes(boxes)
    return _EntryShapes(boxes, outlines, missing | invalid, area if exact else None)


def _exact_outlines(entries: Sequence[Entry]) -> _EntryShapes:
    """The outline of each entry, as pycocotools has it, and its box; 0 where there is none."""
    outlines: dict[int, Any] = {}
    missing: Reasons = {}
    for i, entry in enumerate(entries):
        outline = entry.segmentation
        if outline is None:
            outline = _polygon_of_box(entry.bbox)
        if outline:
            outlines[i] = outline
        else:
            missing[i] = _NO_SEGMENTATION
    boxes, absent, invalid = _numbers([*map(attrgetter("bbox"), entries)], 4)
    area = _corners_of_boxes(boxes)
    boxes[absent] = 0.0
    return _EntryShapes(boxes, outlines, missing | invalid, area)


def _numbers(given: list[Any], width: int) -> tuple[Floats, list[int], Reasons]:
    """`(N, width)` numbers, NaN where there are none; which entries are empty, and what is wrong
    with others.
    """
    values = dense(given, width)
    if values is not None:
        return values, [], {}
    absent = [i for i, value in enumerate(given) if value is None or value in ([], ())]
    for i in absent:
        given[i] = [math.nan] * width
    values, invalid = matrix(given, width)
    return values, absent, invalid


def _outlines_for(
    entries: Sequence[Entry], absent: list[int], missing: str
) -> tuple[dict[int, Any], Reasons]:
    """Outlines of the entries whose box or corners are absent; `missing`: of which there are none
    either.
    """
    outlines: dict[int, Any] = {}
    rejected: Reasons = {}
    for i in absent:
        outline = _outline(entries[i])
        if outline:
            outlines[i] = outline
        else:
            rejected[i] = "D03", missing
    return outlines, rejected


def _corners_of_boxes(boxes: Floats) -> Floats:
    """Turn `(N, 4)` xywh into xyxy, in place. Returns `(N,)` the areas."""
    with np.errstate(invalid="ignore", over="ignore"):  # absurd numbers are rejected later
        area = boxes[:, 2] * boxes[:, 3]
        boxes[:, 2:] += boxes[:, :2]
    return np.asarray(area)


def _polygon_of_box(bbox: Any) -> Any:
    """A box as the polygon that `loadRes` gives an entry without one; None if it is no box."""
    if not isinstance(bbox, tuple) or len(bbox) != 4:
        return None
    if not all(isinstance(value, int | float) for value in bbox):
        return None
    x, y, w, h = bbox
    return [[x, y, x, y + h, x + w, y + h, x + w, y]]


def _outline(entry: Entry) -> Any:
    """The outline of an entry: of its corners, its rotated box or its segmentation."""
    if entry.poly:
        return [entry.poly]
    if entry.rbox:
        return [_corners(entry.rbox)]
    return entry.segmentation


def _corners(rbox: Any) -> Any:
    """The eight corner values of centre, size and angle in radians; anything else as it is, to be
    rejected later.
    """
    values, invalid = matrix([rbox], 5)
    if invalid or not np.isfinite(values).all():
        return rbox
    x, y, w, h, angle = values[0].tolist()
    cos, sin = math.cos(angle), math.sin(angle)
    corners = []
    for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        corners.append(x + a * w / 2 * cos - b * h / 2 * sin)
        corners.append(y + a * w / 2 * sin + b * h / 2 * cos)
    return corners


def _poses(entries: Sequence[Entry], task: Task, reading: Reading, path: str) -> _EntryPoses:
    """The keypoints of a pose, all of the shape that most entries have."""
    if task != "pose":
        return _EntryPoses()
    given = [entry.keypoints for entry in entries]
    count, values = _kpt_shape(given, reading, path)
    keypoints, invalid = matrix(given, count * values)
    rejected: Reasons = {}
    for i, (code, message) in invalid.items():
        rejected[i] = code, f"keypoints: {message}"
    return _EntryPoses(keypoints.reshape(-1, count, values), rejected)


def _kpt_shape(keypoints: list[Any], reading: Reading, path: str) -> tuple[int, int]:
    """The number of keypoints and of values each.

    Raises:
        TilerError: most entries have another number of keypoints than is known.
    """
    lengths = Counter(len(points) for points in keypoints if isinstance(points, list) and points)
    usual = min(lengths, key=lambda length: (-lengths[length], length)) if lengths else 0
    if reading.kpt_shape is not None:
        count = reading.kpt_shape[0]
    elif usual % 3 == 0:
        count = usual // 3
    else:
        count = usual // 2
    if not count or usual not in (0, 2 * count, 3 * count):
        raise TilerError(
            f"{path}: {usual} values of keypoints in most entries, expected 3 for each of "
            f"{count or 'some'} keypoints"
        )
    return count, 2 if usual == 2 * count else 3


def _as_pycocotools(
    entries: Sequence[Entry], task: Task, sized: Sizing, shapes: _EntryShapes, poses: _EntryPoses
) -> Floats | None:
    """Give boxes to the keypoints that pycocotools gives one.

    Returns `(N,)` px² by which it sizes each detection; NaN: as measured.
    """
    box_area = shapes.box_area
    if box_area is None:
        return None
    if poses.keypoints is not None:
        _box_poses(poses.keypoints, poses.rejected, shapes, box_area)
    if task != "segment" and sized.by == "keypoints":
        _box_all_keypoints(entries, shapes, box_area)
    if sized.by == "mask":
        if task == "segment":  # its pixels are counted later
            return np.full(len(entries), np.nan)
        return np.array([sizing.mask_area(entry.segmentation) for entry in entries])
    if sized.by == "keypoints" and poses.keypoints is not None:
        around = sizing.extents(poses.keypoints)
        return np.asarray((around[:, 2:] - around[:, :2]).prod(axis=1))
    return box_area.copy()


def _box_poses(keypoints: Floats, invalid: Reasons, shapes: _EntryShapes, box_area: Floats) -> None:
    """Keypoints without a box, as COCO's results have them, get the one around them all, as
    pycocotools does.
    """
    for i, (_, message) in list(shapes.rejected.items()):
        if message == NO_BOX and i not in invalid:
            _set_box(shapes.boxes, box_area, i, sizing.extents(keypoints[[i]])[0])
            del shapes.rejected[i]


def _box_all_keypoints(entries: Sequence[Entry], shapes: _EntryShapes, box_area: Floats) -> None:
    """Every box becomes the one around all keypoints, which pycocotools compares where the first
    entry has nothing else.
    """
    for i, entry in enumerate(entries):
        keypoints = entry.keypoints
        if not isinstance(keypoints, list) or not keypoints or len(keypoints) % 3:
            continue
        values, invalid = matrix([keypoints], len(keypoints))
        if invalid:
            continue
        _set_box(shapes.boxes, box_area, i, sizing.extents(values.reshape(1, -1, 3))[0])
        shapes.outlines.pop(i, None)
        shapes.rejected.pop(i, None)


def _set_box(boxes: Floats, box_area: Floats, i: int, xyxy: Floats) -> None:
    boxes[i] = xyxy
    box_area[i] = (boxes[i, 2:] - boxes[i, :2]).prod()
