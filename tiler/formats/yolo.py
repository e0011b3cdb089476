"""YOLO label text: rows of numbers to and from `Instances`.

Reading keeps what can be meant and reports the rest by line; writing rounds once, to
eight decimals (0.00001 px of a 1000 px tile).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    from tiler.types import Floats, Ints, Task

MAX_BYTES = 256_000_000
DECIMALS = 8

Problem = tuple[int, str, str]  # place, code, message


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a label file, in groups of rows with equally many values.

    A row's place counts the lines that are not blank, from 0.

    Attributes:
        groups: for each number of values F, the places `(M,)` and values `(M, F)`.
        problems: places that are not numbers.
        lines: for each place its line in the file, from 1.
    """

    groups: dict[int, tuple[Ints, Floats]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(lines) for lines, _ in self.groups.values())


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
    text = lenient_text(data)
    rows = [
        (number, words)
        for number, line in enumerate(text.splitlines(), 1)
        if (words := line.split())
    ]
    grouped: dict[int, tuple[list[int], list[list[float]]]] = {}
    problems: list[Problem] = []
    for place, (_, words) in enumerate(rows):
        try:
            values = list(map(float, words))
        except ValueError:
            problems.append((place, "L02", f"found '{_first_bad(words)}', expected a number"))
            continue
        places, matrix = grouped.setdefault(len(values), ([], []))
        places.append(place)
        matrix.append(values)
    groups = {
        count: (np.array(places, np.int64), np.array(matrix, np.float64))
        for count, (places, matrix) in grouped.items()
    }
    return Table(groups, problems, [number for number, _ in rows])


def _first_bad(words: list[str]) -> str:
    for word in words:
        try:
            float(word)
        except ValueError:
            return word[:40]
    return words[0][:40]


def judge(table: Table, spec: Spec) -> tuple[dict[int, tuple[Ints, Floats]], list[Problem]]:
    """The rows that can be meant, grouped as in the table, and what is wrong with the others."""
    good: dict[int, tuple[Ints, Floats]] = {}
    problems = list(table.problems)
    for count, (lines, rows) in sorted(table.groups.items()):
        wrong = trainer_rules.fields(spec.task, count, spec.kpt_shape)
        if wrong is not None:
            code = "L10" if count == 5 and spec.task in ("segment", "obb") else "L03"
            problems += [(int(line), code, wrong) for line in lines]
            continue
        codes = trainer_rules.faults(rows, spec.task, spec.classes)
        for line, row, fault in zip(lines, rows, codes, strict=True):
            if fault is not None:
                problems.append(
                    (int(line), fault, trainer_rules.explain(fault, row, spec.task, spec.classes))
                )
        keep = np.array([code is None for code in codes], bool)
        if keep.any():
            good[count] = lines[keep], rows[keep]
    return good, sorted(problems)


def duplicates(lines: Ints, rows: Floats) -> Ints:
    """Positions of rows that repeat an earlier one, as the trainer compares them (float32)."""
    # -0.0 is 0.0
    single = np.ascontiguousarray(
        rows.clip(-trainer_rules.HUGE, trainer_rules.HUGE).astype(np.float32) + 0.0
    )
    keys = single.view(np.dtype((np.void, single.dtype.itemsize * single.shape[1]))).ravel()
    _, first = np.unique(keys, return_index=True)
    again = np.ones(len(rows), bool)
    again[first] = False
    return np.flatnonzero(again)


def read(
    data: bytes, spec: Spec, width: int, height: int, path: str
) -> tuple[Instances, list[Finding]]:
    """Labels of an image of `width` x `height` px, and what was noticed.

    Rows that break a rule of the trainer are left out and reported; a repeated row counts
    once; an outline in a box dataset becomes its box; keypoints `[K, 2]` get a visibility.

    >>> labels, findings = read(b"0 .5 .5 .2 .1\\n0 .5 .5 2 .1\\n", Spec("detect", 1), 100, 100, "a.txt")
    >>> labels.boxes.tolist(), str(findings[0])
    ([[40.0, 45.0, 60.0, 55.0]], 'a.txt:2: L05 width 2, expected 0 to 1')
    """
    table = parse(data, path)
    good, problems = judge(table, spec)
    parts = []
    outlines = any(count > 5 for count in good)
    for count, (lines, rows) in good.items():
        again = duplicates(lines, rows)
        problems += [(int(lines[i]), "L07", "repeats an earlier row; removed") for i in again]
        lines, rows = np.delete(lines, again), np.delete(rows, again, axis=0)
        if count > 5 and spec.task == "detect":
            problems += [
                (int(line), "L12", f"an outline of {count // 2} points; its box is taken")
                for line in lines
            ]
        if count > 5 and spec.task != "pose":
            wild = polygons.tangled(_rings(rows, np.array([width, height], np.float64)))
            problems += [(int(line), "L15", overlay.TANGLED) for line in lines[wild]]
            lines, rows = lines[~wild], rows[~wild]
        # a box is an outline too, so that all rows have the same columns
        if count == 5 and outlines:
            rows = np.concatenate(
                [rows[:, :1], box.corners(box.from_cxcywh(rows[:, 1:])).reshape(-1, 8)], axis=1
            )
        parts.append(_instances(lines, rows, spec, width, height, problems))
    if not parts:
        return empty(spec.task, spec.kpt_shape[0] if spec.kpt_shape else 0), _findings(
            problems, table, path
        )
    instances = concatenate(parts) if len(parts) > 1 else parts[0]
    return instances.take(np.argsort(instances.row, kind="stable")), _findings(
        problems, table, path
    )


def _findings(problems: list[Problem], table: Table, path: str) -> list[Finding]:
    return condensed(
        Finding(path, code, message, table.lines[place])
        for place, code, message in sorted(problems)
    )


def _instances(
    lines: Ints, rows: Floats, spec: Spec, width: int, height: int, problems: list[Problem]
) -> Instances:
    """Instances of rows with equally many values, in pixels."""
    class_id = rows[:, 0].astype(np.int64)
    size = np.array([width, height], np.float64)
    boxes = box.from_cxcywh(trainer_rules.derived_boxes(rows, spec.task) * np.tile(size, 2))
    if spec.task == "pose":
        return Instances(
            class_id,
            boxes,
            keypoints=_keypoints(lines, rows, spec, size, problems),
            row=lines,
            task="pose",
        )
    if rows.shape[1] == 5:
        return Instances(class_id, boxes, row=lines)
    rings = _rings(rows, size)
    count = rows.shape[1] // 2
    points = rings.coords.reshape(len(rows), count, 2)
    crossed = polygons.self_crossing(rings)
    if spec.task == "obb" and (count != 4 or crossed.any()):
        bent = np.arange(len(rows)) if count != 4 else np.flatnonzero(crossed)
        quads = polygons.smallest_rectangles(points[bent])
        fixed = points.copy() if count == 4 else np.empty((len(rows), 4, 2))
        fixed[bent] = quads
        rings = Rings.from_quads(fixed)
        problems += [
            (int(lines[i]), "L09", "corners out of order, or not four; their rectangle is taken")
            for i in bent
        ]
    result = Instances(class_id, rings.bounds(), rings=rings, row=lines, task=spec.task)
    flat = result.area <= 0
    problems += [(int(line), "L06", "an outline without area") for line in lines[flat]]
    if spec.task != "obb":
        problems += [
            (int(lines[i]), "L09", "the outline crosses itself")
            for i in np.flatnonzero(crossed & ~flat)
            if _crosses(rings[int(i)][0])
        ]
    return result.take(~flat)


def _rings(rows: Floats, size: Floats) -> Rings:
    """The outlines of rows with equally many values, in pixels."""
    count, ends = rows.shape[1] // 2, np.arange(len(rows) + 1)
    return Rings(rows[:, 1:].reshape(-1, 2) * size, ends * count, ends)


def _crosses(ring: Floats) -> bool:
    """True when edges of a ring cross. Running back along itself (a bridge to a hole, an edge along
    the frame) crosses nothing."""
    edges = shapely.linestrings(np.stack([ring, np.roll(ring, -1, axis=0)], axis=1))
    return bool(shapely.STRtree(edges).query(edges, predicate="crosses").size)


def _keypoints(
    lines: Ints, rows: Floats, spec: Spec, size: Floats, problems: list[Problem]
) -> Floats:
    assert spec.kpt_shape is not None
    points, values = spec.kpt_shape
    given = rows[:, 5:].reshape(len(rows), points, values)
    result = np.zeros((len(rows), points, 3))
    result[..., :2] = given[..., :2].clip(-trainer_rules.HUGE, trainer_rules.HUGE) * size
    if values == 3:
        result[..., 2] = given[..., 2]
    else:
        # the trainer takes x < 0 or y < 0 for invisible; 0 0 is what people write for not labelled
        result[..., 2] = np.where((given < 0).any(axis=-1) | (given == 0).all(axis=-1), 0.0, 2.0)
    unknown = ~np.isin(result[..., 2], (0.0, 1.0, 2.0))
    beyond = np.asarray(
        ((given[..., :2] < trainer_rules.LOW) | (given[..., :2] > trainer_rules.HIGH)).any(axis=-1)
    )
    for i in np.flatnonzero(unknown.any(axis=1)):
        value = result[i, unknown[i], 2][0]
        problems.append(
            (int(lines[i]), "L11", f"visibility {value:g}, expected 0, 1 or 2; 2 is taken")
        )
    for i in np.flatnonzero(beyond.any(axis=1)):
        problems.append((int(lines[i]), "L11", "a keypoint outside the image; written as 0 0 0"))
    result[unknown, 2] = 2.0
    result[beyond | (result[..., 2] == 0) & (result[..., :2] <= 0).all(axis=-1)] = 0.0
    return result


def values(instances: Instances, sizes: Floats) -> list[Floats]:
    """The numbers of each row: class, then coordinates normalised by its frame, rounded once.

    A segment of several rings is joined into one (`polygons.single_ring`).

    Args:
        sizes: `(N, 2)` width and height of the frame of each instance, px.
    """
    if instances.task in ("detect", "pose"):
        columns = [instances.class_id[:, None], box.to_cxcywh(instances.boxes) / np.tile(sizes, 2)]
        if instances.keypoints is not None:
            scale = np.concatenate([sizes, np.ones((len(sizes), 1))], axis=1)[:, None]
            columns.append(
                (instances.keypoints / scale).reshape(
                    len(instances), 3 * instances.keypoints.shape[1]
                )
            )
        return list(np.round(np.concatenate(columns, axis=1), DECIMALS))
    assert instances.rings is not None
    rows = []
    for i, class_id in enumerate(instances.class_id):
        rings = instances.rings[i]
        points = rings[0] if len(rings) == 1 else polygons.single_ring(rings)
        rows.append(np.concatenate([[class_id], np.round(points / sizes[i], DECIMALS).ravel()]))
    return rows


def text(rows: list[Floats], task: Task) -> str:
    """Label text of the numbers that `values` gives; no rows give the empty file of a background
    tile.

    >>> text([np.array([0, 0.5, 0.25, 0.1, 0.1])], "detect")
    '0 0.50000000 0.25000000 0.10000000 0.10000000\\n'
    """
    lines = []
    for row in rows:
        if task == "pose":
            form = (
                "%d"
                + f" %.{DECIMALS}f" * 4
                + f" %.{DECIMALS}f %.{DECIMALS}f %d" * ((len(row) - 5) // 3)
            )
        else:
            form = "%d" + f" %.{DECIMALS}f" * (len(row) - 1)
        lines.append(form % tuple(row.tolist()) + "\n")
    return "".join(lines)
