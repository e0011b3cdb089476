"""YOLO label text: rows of numbers to and from `Instances`.

Reading keeps valid rows and reports the others by line; writing rounds once, to eight decimals
(0.00001 px of a 1000 px tile).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tiler.errors import SourceRefused
from tiler.findings import Finding, condensed
from tiler.formats import trainer_rules
from tiler.formats.text_files import UTF16, lenient_text
from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task

    # the places (M,) and values (M, F) of rows with equally many values
    Rows: TypeAlias = tuple[Ints, Floats]

MAX_BYTES = 256_000_000
DECIMALS = 8

Problem = tuple[int, str, str]  # place, code, message


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a label file, in groups of rows with equally many values.

    The place of a row is its index among the lines that are not blank.

    Attributes:
        groups: for each number of values F, the places `(M,)` and values `(M, F)`.
        problems: places that are not numbers.
        lines: for each place its line in the file, from 1.
    """

    groups: dict[int, Rows] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(places) for places, _ in self.groups.values())


@dataclass(frozen=True, slots=True)
class Spec:
    """What the rows of a dataset mean: its task, its classes, its keypoints."""

    task: Task
    classes: int
    kpt_shape: tuple[int, int] | None = None

    @property
    def points(self) -> int:
        """Number of keypoints of an object; 0 where there are none."""
        if self.kpt_shape is None:
            return 0
        return self.kpt_shape[0]

    @property
    def out_shape(self) -> tuple[int, int] | None:
        """kpt_shape of what is written: always with a visibility."""
        if self.kpt_shape is None:
            return None
        return self.kpt_shape[0], 3


def parse(data: bytes, path: str | None = None) -> Table:
    """The numbers in a label file: UTF-8 with or without BOM, any line ends, blank lines skipped.

    Raises:
        SourceRefused: UTF-16.

    >>> parse(b"0 0.5 0.5 0.1 0.1\\r\\n\\n1 oops\\n").problems
    [(1, 'L02', "found 'oops', expected a number")]
    """
    if data.startswith(UTF16):
        raise SourceRefused("L01", "UTF-16 text, expected UTF-8", path)
    groups: dict[int, tuple[list[int], list[list[float]]]] = {}
    problems: list[Problem] = []
    lines: list[int] = []
    for number, line in enumerate(lenient_text(data).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        place = len(lines)
        lines.append(number)
        try:
            values = list(map(float, words))
        except ValueError:
            problems.append((place, "L02", f"found '{_first_bad(words)}', expected a number"))
            continue
        places, matrix = groups.setdefault(len(values), ([], []))
        places.append(place)
        matrix.append(values)
    arrays: dict[int, Rows] = {}
    for count, (places, matrix) in groups.items():
        arrays[count] = np.array(places, np.int64), np.array(matrix, np.float64)
    return Table(arrays, problems, lines)


def _first_bad(words: list[str]) -> str:
    for word in words:
        try:
            float(word)
        except ValueError:
            return word[:40]
    return words[0][:40]


def judge(table: Table, spec: Spec) -> tuple[dict[int, Rows], list[Problem]]:
    """The valid rows, grouped as in the table, and what is wrong with the others."""
    good: dict[int, Rows] = {}
    problems = list(table.problems)
    for count, (places, rows) in sorted(table.groups.items()):
        wrong_count = trainer_rules.fields(spec.task, count, spec.kpt_shape)
        if wrong_count is not None:
            code = "L10" if count == 5 and spec.task in ("segment", "obb") else "L03"
            problems += _problems(places, code, wrong_count)
            continue
        faults = trainer_rules.faults(rows, spec.task, spec.classes)
        for i, fault in enumerate(faults):
            if fault is not None:
                message = trainer_rules.explain(fault, rows[i], spec.task, spec.classes)
                problems.append((int(places[i]), fault, message))
        valid = np.array([fault is None for fault in faults], bool)
        if valid.any():
            good[count] = places[valid], rows[valid]
    return good, sorted(problems)


def _problems(places: Ints, code: str, message: str) -> list[Problem]:
    """The same problem for several rows."""
    return [(place, code, message) for place in places.tolist()]


def duplicates(places: Ints, rows: Floats) -> Ints:
    """Indices of rows that repeat an earlier one, as the trainer compares them (float32)."""
    bounded = rows.clip(-trainer_rules.HUGE, trainer_rules.HUGE)
    single = np.ascontiguousarray(bounded.astype(np.float32) + 0.0)  # -0.0 is 0.0
    row_bytes = single.dtype.itemsize * single.shape[1]
    keys = single.view(np.dtype((np.void, row_bytes))).ravel()
    _, first = np.unique(keys, return_index=True)
    repeated = np.ones(len(rows), bool)
    repeated[first] = False
    return np.flatnonzero(repeated)


def read(
    data: bytes, spec: Spec, width: int, height: int, path: str
) -> tuple[Instances, list[Finding]]:
    """Labels of an image of `width` x `height` px, and what was noticed.

    Rows that break a rule of the trainer are left out and reported; a repeated row counts
    once; an outline in a box dataset becomes its box; keypoints `[K, 2]` get a visibility.

    >>> data = b"0 .5 .5 .2 .1\\n0 .5 .5 2 .1\\n"
    >>> labels, findings = read(data, Spec("detect", 1), 100, 100, "a.txt")
    >>> labels.boxes.tolist(), str(findings[0])
    ([[40.0, 45.0, 60.0, 55.0]], 'a.txt:2: L05 width 2, expected 0 to 1')
    """
    table = parse(data, path)
    groups, problems = judge(table, spec)
    size = np.array([width, height], np.float64)
    outlined = any(count > 5 for count in groups)
    parts = []
    for places, rows in groups.values():
        places, rows = _usable(places, rows, spec, size, problems)
        if rows.shape[1] == 5 and outlined:
            rows = _as_outlines(rows)
        parts.append(_instances(places, rows, spec, size, problems))
    if not parts:
        return empty(spec.task, spec.points), _findings(problems, table, path)
    instances = parts[0]
    if len(parts) > 1:
        instances = concatenate(parts)
        instances = instances.take(np.argsort(instances.row, kind="stable"))
    return instances, _findings(problems, table, path)


def _usable(places: Ints, rows: Floats, spec: Spec, size: Floats, problems: list[Problem]) -> Rows:
    """Rows with equally many values without repeated ones, and without tangled outlines."""
    repeated = duplicates(places, rows)
    if len(repeated):
        problems += _problems(places[repeated], "L07", "repeats an earlier row; removed")
        places = np.delete(places, repeated)
        rows = np.delete(rows, repeated, axis=0)
    count = rows.shape[1]
    if count > 5 and spec.task == "detect":
        message = f"an outline of {count // 2} points; its box is taken"
        problems += _problems(places, "L12", message)
    if count > 5 and spec.task != "pose":
        tangled = polygons.tangled(_rings(rows, size))
        problems += _problems(places[tangled], "L15", overlay.TANGLED)
        places = places[~tangled]
        rows = rows[~tangled]
    return places, rows


def _as_outlines(rows: Floats) -> Floats:
    """Rows of boxes as rows of outlines, so that all rows have the same columns."""
    xyxy = box.from_cxcywh(rows[:, 1:])
    corners = box.corners(xyxy).reshape(-1, 8)
    return np.concatenate([rows[:, :1], corners], axis=1)


def _findings(problems: list[Problem], table: Table, path: str) -> list[Finding]:
    findings = []
    for place, code, message in sorted(problems):
        findings.append(Finding(path, code, message, table.lines[place]))
    return condensed(findings)


def _instances(
    places: Ints, rows: Floats, spec: Spec, size: Floats, problems: list[Problem]
) -> Instances:
    """Instances of rows with equally many values, in pixels.

    Args:
        size: width and height of the image.
    """
    class_id = rows[:, 0].astype(np.int64)
    normalised = trainer_rules.derived_boxes(rows, spec.task)
    boxes = box.from_cxcywh(normalised * np.tile(size, 2))
    if spec.task == "pose":
        keypoints = _keypoints(places, rows, spec, size, problems)
        return Instances(class_id, boxes, keypoints=keypoints, row=places, task="pose")
    if rows.shape[1] == 5:
        return Instances(class_id, boxes, row=places)
    rings = _rings(rows, size)
    crossing = polygons.self_crossing(rings)
    if spec.task == "obb":
        rings = _quads(places, rings, crossing, problems)
    outlines = Instances(class_id, rings.bounds(), rings=rings, row=places, task=spec.task)
    flat = outlines.area <= 0
    problems += _problems(places[flat], "L06", "an outline without area")
    if spec.task != "obb":
        for i in np.flatnonzero(crossing & ~flat).tolist():
            if _crosses(rings[i][0]):
                problems.append((int(places[i]), "L09", "the outline crosses itself"))
    return outlines.take(~flat)


def _quads(places: Ints, rings: Rings, crossing: Bools, problems: list[Problem]) -> Rings:
    """Outlines with equally many points as OBBs: of others than four points in order, the smallest
    rectangle around them.
    """
    points = rings.coords.reshape(len(rings), -1, 2)
    if points.shape[1] == 4:
        corners = points.copy()
        wrong = np.flatnonzero(crossing)
    else:
        corners = np.empty((len(rings), 4, 2))
        wrong = np.arange(len(rings))
    if not len(wrong):
        return rings
    corners[wrong] = polygons.smallest_rectangles(points[wrong])
    message = "corners out of order, or not four; their rectangle is taken"
    problems += _problems(places[wrong], "L09", message)
    return Rings.from_quads(corners)


def _rings(rows: Floats, size: Floats) -> Rings:
    """The outlines of rows with equally many values, in pixels."""
    points = rows.shape[1] // 2
    coords = rows[:, 1:].reshape(-1, 2) * size
    offsets = np.arange(len(rows) + 1)
    return Rings(coords, offsets * points, offsets)


def _crosses(ring: Floats) -> bool:
    """Whether edges of a ring cross. A ring that runs back along itself (a bridge to a hole, an
    edge along the frame) does not.
    """
    ends = np.roll(ring, -1, axis=0)
    edges = shapely.linestrings(np.stack([ring, ends], axis=1))
    return bool(shapely.STRtree(edges).query(edges, predicate="crosses").size)


def _keypoints(
    places: Ints, rows: Floats, spec: Spec, size: Floats, problems: list[Problem]
) -> Floats:
    """`(M, K, 3)` x, y in pixels and visibility; 0 0 0 for a keypoint that is not labelled."""
    assert spec.kpt_shape is not None
    given = rows[:, 5:].reshape(len(rows), *spec.kpt_shape)
    points = given[..., :2]
    result = np.zeros((len(rows), spec.points, 3))
    result[..., :2] = points.clip(-trainer_rules.HUGE, trainer_rules.HUGE) * size
    result[..., 2] = _valid_visibility(given, places, problems)

    beyond = (points < trainer_rules.LOW) | (points > trainer_rules.HIGH)
    outside: Bools = np.any(beyond, axis=-1)
    for i in np.flatnonzero(outside.any(axis=1)):
        problems.append((int(places[i]), "L11", "a keypoint outside the image; written as 0 0 0"))
    invisible = result[..., 2] == 0
    at_zero = (result[..., :2] <= 0).all(axis=-1)
    result[outside | (invisible & at_zero)] = 0.0
    return result


def _valid_visibility(given: Floats, places: Ints, problems: list[Problem]) -> Floats:
    """`(M, K)` the visibility of keypoints; one other than 0, 1 and 2 is reported and becomes 2."""
    visibility = _visibility(given)
    unknown = ~np.isin(visibility, (0.0, 1.0, 2.0))
    for i in np.flatnonzero(unknown.any(axis=1)):
        value = visibility[i, unknown[i]][0]
        message = f"visibility {value:g}, expected 0, 1 or 2; 2 is taken"
        problems.append((int(places[i]), "L11", message))
    return np.where(unknown, 2.0, visibility)


def _visibility(given: Floats) -> Floats:
    """`(M, K)` the visibility of keypoints `(M, K, 2 or 3)`; the third value if they have one."""
    if given.shape[2] == 3:
        return given[..., 2]
    invisible = (given < 0).any(axis=-1)  # for the trainer
    unlabelled = (given == 0).all(axis=-1)  # as people write it
    return np.where(invisible | unlabelled, 0.0, 2.0)


def values(instances: Instances, sizes: Floats) -> list[Floats]:
    """The numbers of each row: class, then coordinates normalised by its frame, rounded once.

    A segment of several rings is joined into one (`polygons.single_ring`).

    Args:
        sizes: `(N, 2)` width and height of the frame of each instance, px.
    """
    if instances.task in ("detect", "pose"):
        return _box_values(instances, sizes)
    assert instances.rings is not None
    rows = []
    for i, class_id in enumerate(instances.class_id):
        rings = instances.rings[i]
        points = rings[0] if len(rings) == 1 else polygons.single_ring(rings)
        coordinates = np.round(points / sizes[i], DECIMALS).ravel()
        rows.append(np.concatenate([[class_id], coordinates]))
    return rows


def _box_values(instances: Instances, sizes: Floats) -> list[Floats]:
    """Class, box and keypoints of each row."""
    boxes = box.to_cxcywh(instances.boxes) / np.tile(sizes, 2)
    columns = [instances.class_id[:, None], boxes]
    keypoints = instances.keypoints
    if keypoints is not None:
        unscaled = np.ones((len(sizes), 1))  # the visibility
        scale = np.concatenate([sizes, unscaled], axis=1)[:, None]
        numbers = 3 * keypoints.shape[1]
        columns.append((keypoints / scale).reshape(len(keypoints), numbers))
    table = np.concatenate(columns, axis=1)
    return list(np.round(table, DECIMALS))


def text(rows: list[Floats], task: Task) -> str:
    """Label text of the numbers that `values` gives; without rows the empty file of a background
    tile.

    >>> text([np.array([0, 0.5, 0.25, 0.1, 0.1])], "detect")
    '0 0.50000000 0.25000000 0.10000000 0.10000000\\n'
    """
    number = f" %.{DECIMALS}f"
    lines = []
    for row in rows:
        if task == "pose":
            keypoints = (len(row) - 5) // 3
            form = "%d" + number * 4 + (number * 2 + " %d") * keypoints
        else:
            form = "%d" + number * (len(row) - 1)
        lines.append(form % tuple(row.tolist()) + "\n")
    return "".join(lines)
