"""What the values of a folder's rows mean, decided once for the whole folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tiler.errors import TilerError
from tiler.predictions.text_rows import TextRows
from tiler.types import TASKS

if TYPE_CHECKING:
    from tiler.predictions.values import Reading
    from tiler.types import Ints, Task

SHARE = 0.9  # of the rows must have one form
PIXELS = 2.0  # a normalised coordinate is nowhere near it

NO_CONF = (
    "no confidence in the rows, without which NMS and mAP mean nothing: predict again with "
    "save_conf=True, "
    "or give all of them one with --assume-conf"
)


class RowLayout(NamedTuple):
    """Where a row has its coordinates, and its confidence (None: nowhere)."""

    first: int
    coordinates: int
    conf: int | None


@dataclass(frozen=True, slots=True)
class Meaning:
    """What rows mean by their number of values.

    Attributes:
        kpt_shape: of pose, as the rows have it.
        tracked: an odd number of values of a segment ends in confidence and track id.
        assume_conf: the confidence of rows without one; None refuses them.
        conf_first: detect rows are class, confidence, x, y, width, height.
        hint: what a confidence outside 0 to 1 may come from.
    """

    task: Task
    kpt_shape: tuple[int, int] | None = None
    tracked: bool = False
    assume_conf: float | None = None
    conf_first: bool = False
    hint: str = ""

    def layout(self, count: int) -> RowLayout | None:
        """Where things are in a row of so many values; None if it has no meaning here.

        >>> Meaning("detect").layout(6), Meaning("detect").layout(5)
        (RowLayout(first=1, coordinates=4, conf=5), None)
        """
        found = self._layout(count)
        return (
            None if found is not None and found.conf is None and self.assume_conf is None else found
        )

    def _layout(self, count: int) -> RowLayout | None:
        if self.task == "segment":
            extra = (1 if count % 2 == 0 else 2 if self.tracked else 0) + 1
            points = count - extra
            return RowLayout(1, points, 1 + points if extra > 1 else None) if points >= 6 else None
        if self.task == "pose":
            if self.kpt_shape is None:
                return None
            plain = 5 + self.kpt_shape[0] * self.kpt_shape[1]
        else:
            plain = 5 if self.task == "detect" else 9
        if self.conf_first:
            return {5: RowLayout(1, 4, None), 6: RowLayout(2, 4, 1)}.get(count)
        return (
            RowLayout(1, plain - 1, plain if count > plain else None)
            if plain <= count <= plain + 2
            else None
        )

    def expected(self, count: int) -> str:
        """What is wrong with a row of so many values."""
        found = self._layout(count)
        if found is not None:
            return f"expected a confidence, as the other rows have, got {count} values"
        form = {
            "detect": "6 values (class, confidence, x, y, width, height)"
            if self.conf_first
            else "6 or 7 values (class, x, y, width, height, confidence, maybe a track id)",
            "obb": "10 or 11 values (class, four corners, confidence, maybe a track id)",
            "segment": "an even number of values, 8 or more (class, x y pairs, confidence)",
            "pose": "",
        }[self.task]
        if self.kpt_shape is not None and self.task == "pose":
            points, values = self.kpt_shape
            form = (
                f"{6 + points * values} values (class, box, {points} keypoints of {values}, "
                "confidence)"
            )
        return f"expected {form}, got {count}"


@dataclass(slots=True)
class ValueTally:
    """How many rows have how many values, and what these look like.

    Attributes:
        counts: for each number of values: rows; rows that end in a whole number >= 1 (> 1) after
            one in 0..1; rows that end outside 0..1; rows whose second is in 0..1; rows that are
            pixels; rows that are pixels if the confidence is first.
    """

    counts: dict[int, Ints] = field(default_factory=dict)

    def add(self, rows: TextRows) -> None:
        """Count in some rows; those that are not numbers are left out."""
        lengths = rows.lengths
        for count in np.unique(lengths[lengths > 0]):
            at = rows.starts[:-1][lengths == count]
            last = rows.values[at + count - 1]
            before = rows.values[at + max(count - 2, 0)]
            second = rows.values[at + min(1, count - 1)]
            trailing = (last == np.floor(last)) & (before >= 0) & (before <= 1)
            reach = np.minimum(np.arange(1, 6), count - 1)
            beyond = np.abs(rows.values[at[:, None] + reach]) > PIXELS
            facts = [
                np.ones(len(at), bool),
                trailing & (last >= 1),
                trailing & (last > 1),
                ~((last >= 0) & (last <= 1)),
                (second >= 0) & (second <= 1),
                beyond[:, :4].any(axis=1),
                beyond[:, 1:].any(axis=1),
            ]
            found = np.array([fact.sum() for fact in facts], np.int64)
            self.counts[int(count)] = self.counts.get(int(count), 0) + found

    @property
    def total(self) -> int:
        return sum(int(found[0]) for found in self.counts.values())

    def rows(self, of: Iterable[int]) -> int:
        """The rows with any of the given numbers of values."""
        return sum(int(self.counts[count][0]) for count in set(of) & set(self.counts))

    def __str__(self) -> str:
        order = sorted(self.counts, key=lambda count: (-self.counts[count][0], count))
        return ", ".join(f"{self.counts[c][0]} of {c} values" for c in order[:6]) + (
            ", ..." if len(order) > 6 else ""
        )


def decide(tally: ValueTally, reading: Reading, shown: str) -> Meaning:
    """The meaning that at least 90 % of the rows have.

    Raises:
        TilerError: the rows have no such meaning, no confidence, or are pixels.
    """
    if reading.conf_first and reading.task not in ("auto", "detect"):
        raise TilerError(f"--conf-first is for boxes, got --task {reading.task}")
    meaning = _of_task(_task(tally, reading, shown), tally, reading, shown)
    if not tally.total:
        return meaning
    forms: dict[bool, list[int]] = {True: [], False: []}
    for count in tally.counts:
        found = replace(meaning, assume_conf=1.0).layout(count)
        if found is not None:
            forms[found.conf is not None].append(count)
    sure, plain = tally.rows(forms[True]), tally.rows(forms[False])
    if (
        max(sure, plain, sure + plain if reading.assume_conf is not None else 0)
        < SHARE * tally.total
    ):
        what = (
            f"mixed folder of {meaning.task} rows" if sure + plain else f"not {meaning.task} rows"
        )
        settle = "--task says what they are" + (
            "" if reading.assume_conf is not None else ", --assume-conf takes those without"
        )
        raise TilerError(f"{shown}: {what}: {tally}; {settle}")
    # Before the confidence: pixels with the confidence first look like rows with one, and cannot be
    # used at all.
    _refuse_pixels(tally, meaning, forms[True] + forms[False], shown)
    if sure < SHARE * tally.total and reading.assume_conf is None:
        raise TilerError(f"{shown}: {NO_CONF}; found {tally}")
    return meaning


def _task(tally: ValueTally, reading: Reading, shown: str) -> Task:
    if reading.task in TASKS:
        return reading.task
    if reading.task != "auto":
        raise TilerError(f"task {reading.task!r}, expected auto, {', '.join(TASKS)}")
    enough = SHARE * tally.total
    if reading.conf_first or tally.rows((5, 6, 7)) >= enough:
        return "detect"
    if (
        reading.kpt_shape is not None
        and max(tally.rows(_pose_counts(s)) for s in _shapes(reading.kpt_shape)) >= enough
    ):
        return "pose"
    if tally.rows((9, 10, 11)) >= enough:
        return "obb"
    outlines = [count for count in tally.counts if count >= 8 and count % 2 == 0]
    if len(outlines) > 1 and tally.rows(outlines) >= enough:
        return "segment"
    longest = max(tally.counts, key=lambda count: int(tally.counts[count][0]))
    if longest >= 8 and tally.rows([longest]) >= enough:
        raise TilerError(
            f"{shown}: rows of {longest} values can be keypoints or outlines: say --task segment, "
            "or --task pose with --data and its kpt_shape"
        )
    raise TilerError(f"{shown}: rows without a common meaning: {tally}; --task says what they are")


def _shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """The shape of the keypoints, then the one with or without visibility."""
    return [shape, (shape[0], 5 - shape[1])]


def _pose_counts(shape: tuple[int, int]) -> list[int]:
    plain = 5 + shape[0] * shape[1]
    return [plain, plain + 1, plain + 2]


def _of_task(task: Task, tally: ValueTally, reading: Reading, shown: str) -> Meaning:
    meaning = Meaning(
        task, assume_conf=reading.assume_conf, conf_first=reading.conf_first and task == "detect"
    )
    if task == "segment":
        odd = [tally.counts[count] for count in tally.counts if count % 2 and count >= 7]
        rows, whole, above = np.sum(odd, axis=0)[:3] if odd else (0, 0, 0)
        return replace(meaning, tracked=bool(rows == whole and above > 0))
    if task == "pose":
        if reading.kpt_shape is None:
            raise TilerError(f"{shown}: keypoints need --data with a kpt_shape, found {tally}")
        fits = [
            s
            for s in _shapes(reading.kpt_shape)
            if tally.rows(_pose_counts(s)) >= SHARE * tally.total
        ]
        return replace(meaning, kpt_shape=(fits or [reading.kpt_shape])[0])
    if task == "detect" and not meaning.conf_first and 6 in tally.counts:
        rows, _, _, outside, second, _, _ = tally.counts[6]
        if outside and second == rows:
            return replace(meaning, hint="; if it stands after the class, say --conf-first")
    return meaning


def _refuse_pixels(tally: ValueTally, meaning: Meaning, counts: list[int], shown: str) -> None:
    pixels = sum(
        int(tally.counts[count][6 if meaning.conf_first and count == 6 else 5]) for count in counts
    )
    if pixels > tally.rows(counts) / 2:
        hint = " (and the confidence may stand first: --conf-first)" if meaning.hint else ""
        raise TilerError(
            f"{shown}: these are pixels, expected coordinates from 0 to 1 of each tile{hint}: "
            f"{pixels} rows"
        )
