"""Which class of the dataset each class of the predictions is: `--map-classes` and `--classes`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.formats import plain_yaml
from tiler.options.classes import class_of, listed
from tiler.options.values import class_mapping, class_pairs

if TYPE_CHECKING:
    from tiler.types import Floats

NONE = -1  # in place of a class: left out
MAP = "--map-classes"
LONGEST_ID = 15  # digits; as a float it is still exact


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """The class of the dataset for each class of the predictions.

    Attributes:
        ids: class by id of the predictions, the rest is left out; None: the same class, or only
            names tell.
        names: class by name, where --map-classes gives names; else None.
        kept: the dataset's classes that --classes keeps; None: all.
        as_written: ids are those in the files, whatever they count from.
    """

    ids: Mapping[int, int] | None = None
    names: Mapping[str, int] | None = None
    kept: frozenset[int] | None = None
    as_written: bool = False

    @classmethod
    def of(
        cls, classes: str, mapping: str, own: Sequence[str] | None, dataset: Sequence[str] | None
    ) -> ClassMap | None:
        """What the options say; None where they say nothing.

        Args:
            classes: --classes.
            mapping: --map-classes, as pairs.
            own: names of the predictions' classes, if known.
            dataset: names of the dataset's classes, if known.

        Raises:
            TilerError: a class does not exist, or ids and names are mixed.

        >>> ClassMap.of("", "2=vehicle", None, ["vehicle"]).ids
        {2: 0}
        """
        if not classes and not mapping:
            return None
        kept = None
        if classes:
            kept = frozenset(_target(name, own, dataset, "--classes") for name in _items(classes))
        if not mapping:
            return cls(kept=kept)
        return cls._of_pairs(class_pairs(mapping), kept, own, dataset)

    @classmethod
    def _of_pairs(
        cls,
        pairs: Mapping[str, str],
        kept: frozenset[int] | None,
        own: Sequence[str] | None,
        dataset: Sequence[str] | None,
    ) -> ClassMap:
        targets = {key: _target(name, own, dataset, MAP) for key, name in pairs.items()}
        numbers = [key for key in pairs if key.isdecimal() and key not in (own or ())]
        if len(numbers) == len(pairs):
            _require_ids(numbers)
            return cls({int(key): targets[key] for key in pairs}, None, kept, as_written=True)
        if numbers:
            name = next(key for key in pairs if key not in numbers)
            raise TilerError(f"{MAP}: expected ids or names, got both: {numbers[0]} and {name}")
        places = {name: i for i, name in enumerate(own or ())}
        ids = None
        if pairs.keys() <= places.keys():
            ids = {places[key]: targets[key] for key in pairs}
        return cls(ids, targets, kept)

    @property
    def maps(self) -> bool:
        """Whether --map-classes is given, and not only --classes."""
        return self.as_written or self.names is not None

    @property
    def is_known(self) -> bool:
        """Whether ids of predictions have a class: names were not given, or are known."""
        return self.names is None or self.ids is not None

    def require_any(self, class_id: Floats, where: str) -> None:
        """Require that --map-classes names the class of some row, if there are rows.

        Args:
            class_id: `(N,)` of the predictions.
            where: the predictions, in errors.

        Raises:
            TilerError: it names none, so that nothing would be left.
        """
        if self.ids is None or not len(class_id) or np.isin(class_id, list(self.ids)).any():
            return
        named = listed([str(key) for key in self.ids])
        theirs = listed([f"{value:g}" for value in np.unique(class_id)])
        raise TilerError(
            f"{MAP}: it leaves out all {len(class_id)} rows of {where}: it names classes {named}, "
            f"and theirs are {theirs}"
        )

    def apply(self, class_id: Floats) -> Floats:
        """`(N,)` classes of the dataset for classes of the predictions; NONE where left out."""
        result = class_id.copy()
        if self.ids is not None:
            given, place = np.unique(class_id, return_inverse=True)
            mapped = [self.ids.get(int(value), NONE) for value in given.tolist()]
            result = np.array(mapped, np.float64)[place]
        if self.kept is not None:
            result[~np.isin(result, list(self.kept))] = NONE
        return result

    def then(self, other: ClassMap) -> ClassMap:
        """This one, and another one on what it gives."""
        if self.ids is None:
            kept = other.kept
            if self.kept is not None and other.ids is None:
                kept = self.kept if kept is None else self.kept & kept
            return replace(other, kept=kept)
        given = np.array(list(self.ids), np.float64)
        result = other.apply(self.apply(given))
        ids = {int(i): int(k) for i, k in zip(given, result, strict=True) if k != NONE}
        return replace(self, ids=ids, kept=None)

    def by_id(self, own: Sequence[str] | None) -> ClassMap:
        """The map for files that have ids of classes.

        Raises:
            TilerError: only names were given, and which ids have them is not known.
        """
        if self.is_known or self.names is None:
            return self
        unknown = next(name for name in self.names if name not in (own or ()))
        if own is None:
            known = "these predictions have ids only, and names of their classes are not known"
        else:
            known = f"the predictions' classes are {listed(own)}{did_you_mean(unknown, own)}"
        raise TilerError(f"{MAP}: no class {unknown!r}: {known}; ids do as well, such as 2=car")

    def by_name(self, labels: Sequence[str], where: str) -> ClassMap:
        """The map for files that have names of classes; ids are then places among the labels.

        Args:
            labels: the names that are in the files.
            where: the files, in errors.

        Raises:
            TilerError: ids were given, or no name that is in the files.
        """
        if self.names is None:
            raise TilerError(
                f"{MAP}: {where} has names of classes and no ids ({listed(labels)}); map these"
            )
        ids = {i: self.names[name] for i, name in enumerate(labels) if name in self.names}
        if labels and not ids:
            first = next(iter(self.names))
            hint = did_you_mean(first, labels)
            raise TilerError(f"{MAP}: no class {first!r}: {where} has {listed(labels)}{hint}")
        return replace(self, ids=ids)


def both(first: ClassMap | None, second: ClassMap | None) -> ClassMap | None:
    """One map for two, one after the other."""
    if first is None or second is None:
        return first or second
    return first.then(second)


def resolved(mapping: str) -> str:
    """What --map-classes says as pairs, read from a file if it is the path of one.

    Raises:
        TilerError: the file cannot be read, or holds something else.
    """
    if not mapping or "=" in mapping:
        return mapping
    if not os.path.isfile(mapping):
        raise TilerError(f"{MAP} {mapping}: no such file; expected one, or pairs such as 2=car")
    content = plain_yaml.load(Path(mapping))
    try:
        return class_mapping(content)
    except (TypeError, ValueError):
        raise TilerError(
            f"{MAP} {mapping}: expected lines such as 2: car, a class of the predictions and one "
            "of the dataset"
        ) from None


def _require_ids(numbers: Sequence[str]) -> None:
    """Reject numbers that no class has."""
    longest = max(numbers, key=len)
    if len(longest) > LONGEST_ID:
        raise TilerError(f"{MAP}: expected ids of classes, got a number of {len(longest)} digits")


def _target(
    name: str, own: Sequence[str] | None, dataset: Sequence[str] | None, option: str
) -> int:
    """A class of the dataset by its name or number.

    Raises:
        TilerError: it does not exist.
    """
    try:
        return class_of(name, dataset, option.removeprefix("--"))
    except TilerError as error:
        message = str(error)
    if dataset is None:
        raise TilerError(f"{message}: --data gives them")
    message += f"; the dataset has {listed(dataset)}"
    if own is not None and tuple(own) != tuple(dataset):
        message += f"; the predictions have {listed(own)}"
    raise TilerError(message)


def _items(text: str) -> list[str]:
    return text.split(",")
