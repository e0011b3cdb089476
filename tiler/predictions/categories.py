"""Which class a category id of JSON results stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import short
from tiler.predictions.records import places_of

if TYPE_CHECKING:
    from tiler.predictions.class_map import ClassMap
    from tiler.predictions.entries import Entry
    from tiler.predictions.records import Reasons
    from tiler.predictions.values import Reading
    from tiler.types import Floats

_ID, _NAME = attrgetter("category_id"), attrgetter("category_name")

# COCO has 80 classes with ids from 1 to 90; these ids were never given away.
COCO91 = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))

LARGEST_ID = 2**53  # whole numbers beyond it have no float of their own


class ClassLookup(NamedTuple):
    """The class of a category id or name; NaN where there is none, with the reason."""

    class_id: float
    reason: str = ""


_CLASS_ID = attrgetter("class_id")


@dataclass(frozen=True, slots=True)
class Categories:
    """The class of each category id, or of each category name.

    Attributes:
        description: what was decided, in words.
        first_id: the id of class 0, where there is no table.
        table: class by id; None where ids are in order.
        table_owner: what has that table, in words.
        names: class by name; None where ids tell the classes.
        class_map: the dataset's class for each of these; None: they are the dataset's, or as the
            reading says.
    """

    description: str
    first_id: int = 0
    table: Mapping[int, int] | None = None
    table_owner: str = ""
    names: dict[str, int] | None = None
    class_map: ClassMap | None = None

    @classmethod
    def of(
        cls,
        entries: Sequence[Entry],
        reading: Reading,
        path: str,
        first_id: int | None = None,
        hint: str = "",
    ) -> Categories:
        """What the user says, else what the file leaves no doubt about.

        Args:
            first_id: what the format's ids count from, if that is certain.
            hint: what they usually count from, if it is not.

        Raises:
            TilerError: both 0 and 1 could be the first id.
        """
        base = reading.preds_base
        class_map = reading.class_map
        if class_map is not None and class_map.as_written:
            return cls("category ids by --map-classes")
        if class_map is not None and class_map.names is not None and _all_named(entries):
            names = sorted({*map(_NAME, entries)})
            description = "classes by category_name and --map-classes"
            by_name = class_map.by_name(names, path)
            return cls(description, names=places_of(names), class_map=by_name)
        if base == "auto":
            return _deduced(entries, reading, path, first_id, hint)
        if base == "coco91":
            return _coco91()
        if base in ("0", "1"):
            return cls(f"category ids from {base}", int(base))
        raise TilerError(f"--preds-base {base}, expected auto, 0, 1 or coco91")

    def classes(self, entries: Sequence[Entry]) -> tuple[Floats, Reasons]:
        """`(N,)` class of each entry, NaN for those without one, and why they have none."""
        given = [*map(_ID if self.names is None else _NAME, entries)]
        # of other types True would be 1 in a dict, and a list no key
        if {*map(type, given)} <= {int, float, str}:
            by_value = {value: self._lookup(value) for value in {*given}}
            found = [*map(by_value.__getitem__, given)]
        else:
            found = [self._lookup(value) for value in given]
        class_id = np.fromiter(map(_CLASS_ID, found), np.float64, len(found))
        unknown = np.flatnonzero(np.isnan(class_id)).tolist()
        return class_id, {i: ("D04", found[i].reason) for i in unknown}

    def _lookup(self, given: Any) -> ClassLookup:
        if self.names is not None:
            return self._by_name(given, self.names)
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or given != given or abs(given) > LARGEST_ID:
            return ClassLookup(np.nan, f"category_id is {short(given)}, expected a whole number")
        if self.table is not None:
            class_id = self.table.get(given)
            if class_id is None:
                reason = f"category_id {given:g} is none of {self.table_owner}"
                return ClassLookup(np.nan, reason)
            return ClassLookup(class_id)
        if given < self.first_id or given != int(given):
            return ClassLookup(np.nan, f"category_id {given:g}, expected {self.first_id} or more")
        return ClassLookup(given - self.first_id)

    @staticmethod
    def _by_name(given: Any, names: dict[str, int]) -> ClassLookup:
        class_id = names.get(given)
        if class_id is not None:
            return ClassLookup(class_id)
        hint = did_you_mean(str(given)[:99], names)
        return ClassLookup(np.nan, f"no class is named {short(given)}{hint}")


def _deduced(
    entries: Sequence[Entry], reading: Reading, path: str, first_id: int | None, hint: str
) -> Categories:
    """What the file leaves no doubt about.

    Raises:
        TilerError: both 0 and 1 could be the first id.
    """
    by_name = _all_named(entries)
    if by_name and reading.names is not None:
        return Categories("classes by category_name", names=places_of(reading.names))
    ids = _numbers([*map(_ID, entries)])
    if by_name and not ids:
        return _alphabetical(entries)
    if first_id is not None:
        return Categories("", first_id)
    table = reading.categories
    if table is not None and _ids_of_truth(ids, table, reading.exact, path):
        description = "category ids of the ground truth"
        return Categories(description, table=table, table_owner="the ground truth's")
    if not ids or 0 in ids:
        return Categories("category ids from 0")
    classes = reading.classes
    if classes == len(COCO91) and 80 < max(ids) <= 90:
        return _coco91()
    if classes in ids:
        return Categories(f"category ids from 1 (there is a {classes}, of {classes} classes)", 1)
    if not hint and any(entry.file_name is not None for entry in entries):
        return Categories("category ids from 1 (as Ultralytics writes them with file_name)", 1)
    raise TilerError(
        f"{path}: category ids {_range(ids)} may count from 0 or from 1: say "
        f"--preds-base 0, 1 or coco91{hint}"
    )


def _alphabetical(entries: Sequence[Entry]) -> Categories:
    """Classes that nothing but their names tells, in the order of these."""
    names = sorted({*map(_NAME, entries)})
    shown = ", ".join(name[:40] for name in names[:5])
    if len(names) > 5:
        shown += ", ..."
    description = f"classes by name in alphabetical order, as none are known ({shown})"
    return Categories(description, names=places_of(names))


def _all_named(entries: Sequence[Entry]) -> bool:
    """Whether all entries name their class."""
    return {*map(type, map(_NAME, entries))} == {str}


def _ids_of_truth(ids: set[float], table: Mapping[int, int], results: bool, path: str) -> bool:
    """Whether ids are those of a COCO ground truth.

    Args:
        table: class by id of the ground truth.
        results: the file holds COCO results, which use the ids of the ground truth; else it is a
            detector's, which counts its classes.

    Raises:
        TilerError: they may count from 1 as well, and would then be other classes.
    """
    from_one = bool(ids) and ids <= {*range(1, len(table) + 1)}
    if not results:
        from_zero = ids == {*range(len(table))}
        return bool(ids) and ids <= table.keys() and not from_one and not from_zero
    if from_one and (0 in table or not ids <= table.keys()):
        raise TilerError(
            f"{path}: category ids {_range(ids)} may count from 1, or be those of "
            f"the ground truth ({min(table)} to {max(table)}): say --preds-base 0, 1 or coco91"
        )
    return 0 not in ids or 0 in table


def _coco91() -> Categories:
    description = "category ids of COCO (1 to 90)"
    return Categories(description, table=places_of(COCO91), table_owner="COCO's")


def _numbers(ids: Sequence[Any]) -> set[float]:
    if {*map(type, ids)} <= {int, float}:
        return {*ids}
    return {i for i in ids if isinstance(i, int | float)}


def _range(ids: set[float]) -> str:
    """The lowest and highest id; a JSON number may be beyond all floats."""
    try:
        return f"{min(ids):g} to {max(ids):g}"
    except OverflowError:
        return f"{short(min(ids))} to {short(max(ids))}"
