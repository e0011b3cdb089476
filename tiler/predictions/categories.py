"""Which class a category id of JSON results means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import short
from tiler.formats.json_numbers import numbers

if TYPE_CHECKING:
    from tiler.predictions.entries import Entry
    from tiler.predictions.values import Reading
    from tiler.types import Floats

_ID, _NAME = attrgetter("category_id"), attrgetter("category_name")

# COCO has 80 classes with ids from 1 to 90; these ids were never given away.
COCO91 = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))


@dataclass(frozen=True, slots=True)
class Categories:
    """The class index of each category id, or of each category name.

    Attributes:
        said: the choice in words.
        base: added to a class index in the file.
        table: class index by id, where there is no base.
        whose: what has that table, in words.
        names: class index by name, where names count.
    """

    said: str
    base: int = 0
    table: Mapping[int, int] | None = None
    whose: str = ""
    names: dict[str, int] | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry], reading: Reading, shown: str) -> Categories:
        """What the user said, or what the file leaves no doubt about.

        Raises:
            TilerError: both 0 and 1 could be the first.
        """
        if reading.category_base == "coco91":
            return _coco91()
        if reading.category_base in ("0", "1"):
            return cls(f"category ids from {reading.category_base}", int(reading.category_base))
        if reading.category_base != "auto":
            raise TilerError(f"--preds-base {reading.category_base}, expected auto, 0, 1 or coco91")
        classes = reading.classes
        if reading.names is not None and {*map(type, map(_NAME, entries))} == {str}:
            return cls(
                "classes by category_name", names={name: i for i, name in enumerate(reading.names)}
            )
        ids = _numbers([*map(_ID, entries)])
        if reading.categories is not None and cls._of_truth(
            ids, reading.categories, reading.exact, shown
        ):
            return cls(
                "category ids of the ground truth",
                table=reading.categories,
                whose="the ground truth's",
            )
        if not ids or 0 in ids:
            return cls("category ids from 0")
        if classes == len(COCO91) and 80 < max(ids) <= 90:
            return _coco91()
        if classes in ids:
            return cls(f"category ids from 1 (there is a {classes}, of {classes} classes)", 1)
        if any(e.file_name is not None for e in entries):
            return cls("category ids from 1 (as Ultralytics writes them with file_name)", 1)
        raise TilerError(
            f"{shown}: category ids {min(ids):g} to {max(ids):g} may count from 0 or from 1: say "
            "--preds-base 0, 1 or coco91"
        )

    @staticmethod
    def _of_truth(ids: set[float], table: Mapping[int, int], results: bool, shown: str) -> bool:
        """Whether ids are those of a COCO ground truth.

        Args:
            results: they are of COCO's results, which have the truth's; else of a detector's, which
                count.

        Raises:
            TilerError: they may count from 1 as well, and would then be other classes.
        """
        from_one = bool(ids) and ids <= {*range(1, len(table) + 1)}
        if not results:
            return (
                bool(ids) and ids <= table.keys() and not from_one and ids != {*range(len(table))}
            )
        if from_one and (0 in table or not ids <= table.keys()):
            least, most = min(table), max(table)
            raise TilerError(
                f"{shown}: category ids {min(ids):g} to {max(ids):g} may count from 1, or be "
                "those of the ground truth "
                f"({least} to {most}): say --preds-base 0, 1 or coco91"
            )
        return 0 not in ids or 0 in table

    def classes(self, entries: Sequence[Entry]) -> tuple[Floats, dict[int, tuple[str, str]]]:
        """`(N,)` class index of each entry, and the entries without one."""
        given = [*map(_ID if self.names is None else _NAME, entries)]
        result = np.full(len(entries), np.nan)
        wrong: dict[int, tuple[str, str]] = {}
        find: Callable[[Any], float | str] = self._index
        # of others True would be 1 in a dict, and a list no key
        if {*map(type, given)} <= {int, float, str}:
            find = {value: self._index(value) for value in {*given}}.__getitem__
            indices = numbers(map(find, given))
            if indices is not None:
                return indices, wrong
        for i, value in enumerate(given):
            found = find(value)
            if isinstance(found, str):
                wrong[i] = "D04", found
            else:
                result[i] = found
        return result, wrong

    def _index(self, given: Any) -> float | str:
        """The class of an id or a name; or why there is none."""
        if self.names is not None:
            name = given
            unknown = f"no class is named {short(name)}{did_you_mean(str(name)[:99], self.names)}"
            return self.names.get(name, unknown)
        if (
            isinstance(given, bool)
            or not isinstance(given, int | float)
            or given != given
            or abs(given) > 2**53
        ):
            return f"category_id is {short(given)}, expected a whole number"
        if self.table is not None:
            return self.table.get(given, f"category_id {given:g} is none of {self.whose}")  # type: ignore[arg-type]
        return (
            given - self.base
            if given >= self.base and given == int(given)
            else f"category_id {given:g}, expected {self.base} or more"
        )


def _coco91() -> Categories:
    return Categories(
        "category ids of COCO (1 to 90)",
        table={category: i for i, category in enumerate(COCO91)},
        whose="COCO's",
    )


def _numbers(ids: Sequence[Any]) -> set[float]:
    if {*map(type, ids)} <= {int, float}:
        return {*ids}
    return {i for i in ids if isinstance(i, int | float)}
