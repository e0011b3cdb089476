"""The format of a folder's rows: what their values mean, decided once for the whole folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field, replace
from operator import add
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tiler.errors import TilerError
from tiler.predictions.coordinates import LETTERBOX, NORMALISED, PointFrame
from tiler.predictions.text_rows import TextRows
from tiler.types import TASKS

if TYPE_CHECKING:
    from tiler.predictions.values import Reading
    from tiler.types import Bools, Floats, Ints, Task

SHARE = 0.9  # of the rows must have one form
PIXELS = 2.0  # a normalised coordinate is nowhere near it

NO_CONF = (
    "no confidence in the rows, without which NMS and mAP mean nothing: predict again with "
    "save_conf=True, or give all of them one with --assume-conf"
)

DETECT_VALUES = "6 or 7 values (class, x, y, width, height, confidence, maybe a track id)"
CONF_FIRST_VALUES = "6 values (class, confidence, x, y, width, height)"
OBB_VALUES = "10 or 11 values (class, four corners, confidence, maybe a track id)"
SEGMENT_VALUES = "an even number of values, 8 or more (class, x y pairs, confidence)"


class RowLayout(NamedTuple):
    """Where a row has its coordinates, and its confidence (None: nowhere)."""

    first: int
    coordinates: int
    conf: int | None


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What the values of a row mean, by their number.

    Attributes:
        kpt_shape: of pose, as the rows have it.
        tracked: an odd number of values of a segment ends in confidence and track id.
        assume_conf: the confidence of rows without one; None: such rows are rejected.
        conf_first: detect rows are class, confidence, x, y, width, height.
        hint: what a confidence outside 0 to 1 may come from.
        coordinates_in: what coordinates count in.
    """

    task: Task
    kpt_shape: tuple[int, int] | None = None
    tracked: bool = False
    assume_conf: float | None = None
    conf_first: bool = False
    hint: str = ""
    coordinates_in: PointFrame = NORMALISED

    def layout(self, count: int) -> RowLayout | None:
        """The layout of a row of `count` values; None if such a row is not valid.

        >>> RowFormat("detect").layout(6), RowFormat("detect").layout(5)
        (RowLayout(first=1, coordinates=4, conf=5), None)
        """
        layout = self._layout(count)
        if layout is not None and layout.conf is None and self.assume_conf is None:
            return None
        return layout

    def _layout(self, count: int) -> RowLayout | None:
        """The same, with or without confidence."""
        if self.task == "segment":
            return self._outline_layout(count)
        if self.conf_first:
            return {5: RowLayout(1, 4, None), 6: RowLayout(2, 4, 1)}.get(count)
        coordinates = self.coordinates
        plain = 1 + coordinates
        if not coordinates:
            return None
        if count == plain:
            return RowLayout(1, coordinates, None)
        if count in (plain + 1, plain + 2):  # with a track id at the end
            return RowLayout(1, coordinates, plain)
        return None

    def _outline_layout(self, count: int) -> RowLayout | None:
        if count % 2 == 0:
            trailing = 1  # confidence
        elif self.tracked:
            trailing = 2  # confidence, track id
        else:
            trailing = 0
        coordinates = count - 1 - trailing
        if coordinates < 6:
            return None
        return RowLayout(1, coordinates, 1 + coordinates if trailing else None)

    @property
    def coordinates(self) -> int:
        """Values between class and confidence; 0 where rows differ, or keypoints have no shape."""
        if self.task == "detect":
            return 4
        if self.task == "obb":
            return 8
        if self.task == "pose" and self.kpt_shape is not None:
            return 4 + self.kpt_shape[0] * self.kpt_shape[1]
        return 0

    def expected(self, count: int) -> str:
        """What is wrong with a row of `count` values."""
        if self._layout(count) is not None:
            return f"expected a confidence, as the other rows have, got {count} values"
        return f"expected {self._values()}, got {count}"

    def _values(self) -> str:
        """The values of a valid row, in words."""
        if self.task == "detect":
            return CONF_FIRST_VALUES if self.conf_first else DETECT_VALUES
        if self.task == "obb":
            return OBB_VALUES
        if self.task == "segment":
            return SEGMENT_VALUES
        if self.kpt_shape is None:
            return ""
        points, values = self.kpt_shape
        return (
            f"{6 + points * values} values (class, box, {points} keypoints of {values}, confidence)"
        )


@dataclass(frozen=True, slots=True)
class ValueCounts:
    """Counts of the rows with one number of values, by what they look like.

    Attributes:
        rows: all of them.
        ids: end in a whole number >= 1, after one in 0..1.
        ids_above_one: the same, with a number > 1.
        last_outside: end outside 0..1.
        second_inside: their second value is in 0..1.
        pixels: have coordinates in pixels.
        pixels_conf_first: have them if the second value is the confidence.
    """

    rows: int = 0
    ids: int = 0
    ids_above_one: int = 0
    last_outside: int = 0
    second_inside: int = 0
    pixels: int = 0
    pixels_conf_first: int = 0

    @classmethod
    def of(cls, values: Floats, starts: Ints, count: int) -> ValueCounts:
        """Of the rows that start at `starts` and have `count` values each."""
        last = values[starts + count - 1]
        before = values[starts + max(count - 2, 0)]
        second = values[starts + min(1, count - 1)]
        whole_after_conf = (last == np.floor(last)) & _in_unit(before)
        coordinates = np.minimum(np.arange(1, 6), count - 1)
        sizes = np.abs(values[starts[:, None] + coordinates])
        beyond = sizes > PIXELS
        pixels = beyond[:, :4].any(axis=1)
        pixels_conf_first = beyond[:, 1:].any(axis=1)
        is_id = whole_after_conf & (last >= 1)
        is_above_one = whole_after_conf & (last > 1)
        outside = ~_in_unit(last)
        inside = _in_unit(second)
        return cls(
            rows=len(starts),
            ids=_number(is_id),
            ids_above_one=_number(is_above_one),
            last_outside=_number(outside),
            second_inside=_number(inside),
            pixels=_number(pixels),
            pixels_conf_first=_number(pixels_conf_first),
        )

    def __add__(self, other: ValueCounts) -> ValueCounts:
        return ValueCounts(*map(add, astuple(self), astuple(other)))


def _number(rows: Bools | np.bool) -> int:
    return int(rows.sum())


def _in_unit(values: Floats) -> Bools:
    return (values >= 0) & (values <= 1)


@dataclass(slots=True)
class ValueTally:
    """What the rows of a folder look like, by their number of values."""

    counts: dict[int, ValueCounts] = field(default_factory=dict)

    def count(self, rows: TextRows) -> None:
        """Add the counts of some rows; those that are not numbers are left out."""
        counts = rows.lengths
        for count in np.unique(counts[counts > 0]).tolist():
            starts = rows.starts[:-1][counts == count]
            more = ValueCounts.of(rows.values, starts, count)
            self.counts[count] = self.counts.get(count, ValueCounts()) + more

    @property
    def total(self) -> int:
        return self.rows(self.counts)

    def rows(self, counts: Iterable[int]) -> int:
        """The rows with any of the given numbers of values."""
        return sum(self.counts[count].rows for count in set(counts) & set(self.counts))

    def __str__(self) -> str:
        order = sorted(self.counts, key=lambda count: (-self.counts[count].rows, count))
        parts = [f"{self.counts[count].rows} of {count} values" for count in order[:6]]
        if len(order) > 6:
            parts.append("...")
        return ", ".join(parts)


def decide(tally: ValueTally, reading: Reading, folder: str) -> RowFormat:
    """The format that at least 90 % of the rows have.

    Args:
        folder: its path, for errors.

    Raises:
        TilerError: the rows have no such format, no confidence, or are pixels.
    """
    if reading.conf_first and reading.task not in ("auto", "detect"):
        raise TilerError(f"--conf-first is for boxes, got --task {reading.task}")
    task = _task(tally, reading, folder)
    row_format = _format(task, tally, reading, folder)
    if not tally.total:
        return row_format
    with_conf, without = lengths(tally, row_format)
    _require_one_form(tally, reading, task, tally.rows(with_conf), tally.rows(without), folder)
    # Before the confidence: pixels with the confidence first look like rows with one, and cannot be
    # used at all.
    coordinates = _coordinates(tally, row_format, reading, with_conf + without, folder)
    row_format = replace(row_format, coordinates_in=coordinates)
    if reading.assume_conf is None and tally.rows(with_conf) < SHARE * tally.total:
        raise TilerError(f"{folder}: {NO_CONF}; found {tally}")
    return row_format


def lengths(tally: ValueTally, row_format: RowFormat) -> tuple[list[int], list[int]]:
    """The numbers of values that rows of a format have: with a confidence, and without one."""
    with_conf, without = [], []
    lenient = replace(row_format, assume_conf=1.0)
    for count in tally.counts:
        layout = lenient.layout(count)
        if layout is None:
            continue
        if layout.conf is None:
            without.append(count)
        else:
            with_conf.append(count)
    return with_conf, without


def _require_one_form(
    tally: ValueTally, reading: Reading, task: Task, with_conf: int, without: int, folder: str
) -> None:
    """Raises:
    TilerError: too few rows are of the task, or rows with and without a confidence are mixed.
    """
    if reading.assume_conf is None:
        most = max(with_conf, without)
        advice = "say what they are with --task, and give a confidence with --assume-conf"
    else:
        most = with_conf + without
        advice = "say what they are with --task"
    if most >= SHARE * tally.total:
        return
    if with_conf + without:
        problem = f"mixed folder of {task} rows"
    else:
        problem = f"not {task} rows"
    raise TilerError(f"{folder}: {problem}: {tally}; {advice}")


def _task(tally: ValueTally, reading: Reading, folder: str) -> Task:
    """The task as given, else the one that the numbers of values leave no doubt about."""
    if reading.task in TASKS:
        return reading.task
    if reading.task != "auto":
        raise TilerError(f"task {reading.task!r}, expected auto, {', '.join(TASKS)}")
    enough = SHARE * tally.total
    if reading.conf_first or tally.rows((5, 6, 7)) >= enough:
        return "detect"
    if reading.kpt_shape is not None and _fitting_shapes(tally, reading.kpt_shape):
        return "pose"
    if tally.rows((9, 10, 11)) >= enough:
        return "obb"
    outlines = [count for count in tally.counts if count >= 8 and count % 2 == 0]
    if len(outlines) > 1 and tally.rows(outlines) >= enough:
        return "segment"
    commonest = max(tally.counts, key=lambda count: tally.counts[count].rows)
    if commonest >= 8 and tally.rows([commonest]) >= enough:
        raise TilerError(
            f"{folder}: rows of {commonest} values can be keypoints or outlines: say --task "
            "segment, or --task pose with --data and its kpt_shape"
        )
    raise TilerError(
        f"{folder}: rows without a common format: {tally}; say what they are with --task"
    )


def _fitting_shapes(tally: ValueTally, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """The shape of the keypoints, and the one with or without visibility, if rows have them."""
    count, values = shape
    shapes = [(count, values), (count, 5 - values)]
    enough = SHARE * tally.total
    return [fitting for fitting in shapes if tally.rows(_pose_lengths(*fitting)) >= enough]


def _pose_lengths(count: int, values: int) -> list[int]:
    plain = 5 + count * values
    return [plain, plain + 1, plain + 2]


def _format(task: Task, tally: ValueTally, reading: Reading, folder: str) -> RowFormat:
    """The format of rows of a task.

    Raises:
        TilerError: keypoints of unknown number.
    """
    row_format = RowFormat(task, assume_conf=reading.assume_conf)
    if task == "segment":
        return replace(row_format, tracked=_tracked(tally))
    if task == "pose":
        if reading.kpt_shape is None:
            raise TilerError(f"{folder}: keypoints need --data with a kpt_shape, found {tally}")
        shapes = _fitting_shapes(tally, reading.kpt_shape) or [reading.kpt_shape]
        return replace(row_format, kpt_shape=shapes[0])
    if task == "detect" and reading.conf_first:
        return replace(row_format, conf_first=True)
    if task == "detect" and _conf_may_be_first(tally):
        return replace(row_format, hint="; if it comes after the class, use --conf-first")
    return row_format


def _tracked(tally: ValueTally) -> bool:
    """Whether all rows with an odd number of values seem to end in a track id."""
    total = ValueCounts()
    for count, rows in tally.counts.items():
        if count % 2 and count >= 7:
            total += rows
    return total.rows == total.ids and total.ids_above_one > 0


def _conf_may_be_first(tally: ValueTally) -> bool:
    rows = tally.counts.get(6, ValueCounts())
    return rows.last_outside > 0 and rows.second_inside == rows.rows


def _coordinates(
    tally: ValueTally, row_format: RowFormat, reading: Reading, valid: list[int], folder: str
) -> PointFrame:
    """What coordinates count in. Those of a letterbox may be its pixels, or normalised by it.

    Raises:
        TilerError: most rows with a valid number of values have coordinates in pixels, and nobody
            said so; or they have none although that was said.
    """
    coordinates = reading.coordinates(NORMALISED)
    in_pixels = _in_pixels(tally, row_format, valid)
    many = in_pixels > tally.rows(valid) / 2
    if many and reading.boxes == "auto":
        hint = " (and the confidence may come first: --conf-first)" if row_format.hint else ""
        raise TilerError(
            f"{folder}: these are pixels, expected coordinates from 0 to 1 of each tile{hint}: "
            f"{in_pixels} rows; if they are pixels of the tile, say --boxes pixels; of the full "
            "image, --boxes image; of what the network saw, such as 640 px, --boxes letterbox:640"
        )
    if coordinates.kind == LETTERBOX and not many:
        return replace(coordinates, unit=coordinates.side)
    if coordinates.kind == "image" and not many:
        raise TilerError(f"{folder}: --boxes image: expected pixels, got coordinates from 0 to 1")
    return coordinates


def _in_pixels(tally: ValueTally, row_format: RowFormat, valid: list[int]) -> int:
    """The rows with a valid number of values whose coordinates are in pixels."""
    pixels = 0
    for count in valid:
        rows = tally.counts[count]
        conf_first = row_format.conf_first and count == 6
        pixels += rows.pixels_conf_first if conf_first else rows.pixels
    return pixels
