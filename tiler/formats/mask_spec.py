"""What the trainer takes the values of class masks for (Ultralytics 8.4.190, `SemanticDataset`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.types import Bools

FOLDER = "masks"  # where the trainer looks if nothing else is said, and where tiles go
IGNORED = 255  # the class of pixels that are not trained on
IGNORE_WORD = "ignore_label"
BACKGROUND = "background"
VALUES = 256


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """Where the class masks of a dataset are, and what their values mean.

    Attributes:
        names: class names, by class.
        mapping: the class of values that are not classes themselves (`label_mapping`).
        folder: stands in a mask's path where `images` stands in that of its image (`masks_dir`).
        declared: whether the dataset.yaml names the folder; else it is only there.

    >>> spec = MaskSpec(("background", "road"), {7: 1, 0: 255})
    >>> spec.classes[[0, 1, 7, 9]].tolist(), spec.objects[[0, 1, 7, 9]].tolist()
    ([255, 1, 1, 9], [False, True, True, False])
    """

    names: tuple[str, ...]
    mapping: dict[int, int]
    folder: str = FOLDER
    declared: bool = True

    @property
    def classes(self) -> NDArray[np.uint8]:
        """`(256,)` the class of each value, IGNORED among them."""
        table = np.arange(VALUES, dtype=np.uint8)
        for value, class_id in self.mapping.items():
            if 0 <= value < VALUES:
                table[value] = class_id
        return table

    @property
    def last(self) -> int:
        """The highest class. A single one is 1, and 0 is what it does not cover."""
        return max(len(self.names) - 1, 1)

    @property
    def invalid(self) -> Bools:
        """`(256,)` True for values that are no class: the trainer drops an image with such ones."""
        return np.asarray((self.classes > self.last) & (self.classes != IGNORED))

    @property
    def objects(self) -> Bools:
        """`(256,)` True for values that make a tile more than background: of all classes but the
        background, which is 0 beside a single class, else the class of that name."""
        background = [IGNORED]
        if len(self.names) == 1:
            background.append(0)
        else:
            background += [i for i, name in enumerate(self.names) if name.casefold() == BACKGROUND]
        return np.asarray((self.classes <= self.last) & ~np.isin(self.classes, background))

    @property
    def blank(self) -> int | None:
        """A value that is ignored; None if the mapping makes a class of 255 and ignores no other.

        >>> MaskSpec(("a", "b"), {}).blank, MaskSpec(("a", "b"), {255: 1}).blank
        (255, None)
        """
        ignored = np.flatnonzero(self.classes == IGNORED)
        return int(ignored[-1]) if len(ignored) else None


def of_yaml(
    content: dict[str, Any], names: tuple[str, ...], root: Path, file: Path
) -> MaskSpec | None:
    """The masks that a dataset.yaml has by its keys, or by a folder in its root; None without.

    Raises:
        TilerError: `masks_dir` or `label_mapping` is not what the trainer takes.
    """
    folder = content.get("masks_dir")
    if folder is None and not (root / FOLDER).is_dir():
        return None
    mapping = _mapping(content.get("label_mapping"), file)
    if folder is None:
        return MaskSpec(names, mapping, declared=False)
    if not isinstance(folder, str) or not folder.strip("/") or "\0" in folder:
        raise TilerError(f"{file}: masks_dir is the name of a folder, got {short(folder)}")
    return MaskSpec(names, mapping, folder.strip("/"))


def _mapping(given: Any, file: Path) -> dict[int, int]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise TilerError(f"{file}: label_mapping maps values to classes, got {short(given)}")
    mapping = {}
    for value, class_id in given.items():
        number = _number(value, file)
        if class_id is None or str(class_id).strip() == IGNORE_WORD:
            mapping[number] = IGNORED
        else:
            mapping[number] = _number(class_id, file)
    for value, class_id in mapping.items():
        if not 0 <= class_id <= IGNORED:
            raise TilerError(
                f"{file}: label_mapping makes {class_id} of {value}, expected 0 to {IGNORED} or "
                f"{IGNORE_WORD}"
            )
    return mapping


def _number(value: Any, file: Path) -> int:
    try:
        return int(str(value)[:20])
    except ValueError:
        raise TilerError(f"{file}: label_mapping has whole numbers, got {short(value)}") from None
