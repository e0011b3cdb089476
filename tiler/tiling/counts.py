"""Numbers of objects and tiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from tiler.evaluation import bins

IN_GUARD_BAND = "in the guard band between splits"
SMALL, MEDIUM = bins.SMALL**2, bins.MEDIUM**2  # px²


def _sum(count: int | UnsetType, more: int | UnsetType) -> int | UnsetType:
    """The sum of two counts, either of which may not be counted at all."""
    if isinstance(count, UnsetType):
        return more
    if isinstance(more, UnsetType):
        return count
    return count + more


class Sizes(msgspec.Struct):
    """Numbers of objects by area: small under 32² px, large from 96² px."""

    small: int = 0
    medium: int = 0
    large: int = 0

    def add(self, other: Sizes) -> None:
        self.small += other.small
        self.medium += other.medium
        self.large += other.large


class ObjectCounts(msgspec.Struct):
    """Objects of one class (or of all) in a split.

    objects = whole + truncated + lost + outside. `rows` are label rows in tiles; `before` counts
    the objects by their area in the source, `after` the rows by theirs in the tile. `outside` are
    those that --roi leaves out; they are not counted without it.
    """

    objects: int = 0
    whole: int = 0
    truncated: int = 0
    lost: int = 0
    rows: int = 0
    before: Sizes = msgspec.field(default_factory=Sizes)
    after: Sizes = msgspec.field(default_factory=Sizes)
    outside: int | UnsetType = UNSET

    def add(self, other: ObjectCounts) -> None:
        for name in ("objects", "whole", "truncated", "lost", "rows", "outside"):
            setattr(self, name, _sum(getattr(self, name), getattr(other, name)))
        self.before.add(other.before)
        self.after.add(other.after)


class TileCounts(msgspec.Struct):
    """Images and tiles of a split.

    Attributes:
        sources: images of the dataset, those that were rejected (`refused`) and those without a
            label file (`unlabelled`) among them.
        tiles: tiles that were written; `background` of them hold no object.
        left_out: tiles that were not written, by --roi, --background, --truncated skip-tile or
            --min-data.
        without_data: those of them that --min-data left out.
        guard: tiles in guard bands between the blocks of splits (--val), which are not written.
        clean: other tiles with data, written or not, that show nothing of any object (and meet a
            region of --roi).
        rows_refused, rows_repaired: label rows.
        ignored_regions: regions that COCO marks as iscrowd or ignore.
        bytes: of images and labels of tiles.
        copied: tiles that have the source's JPEG coefficients.
        flat: tiles that were written, without a label and of one value only, of images that declare
            no value as no data; those that were copied are not looked at.
        outside: tiles that meet no region of --roi; not counted without it.
    """

    sources: int = 0
    refused: int = 0
    unlabelled: int = 0
    tiles: int = 0
    background: int = 0
    left_out: int = 0
    without_data: int = 0
    guard: int = 0
    clean: int = 0
    rows_refused: int = 0
    rows_repaired: int = 0
    ignored_regions: int = 0
    bytes: int = 0
    copied: int = 0
    flat: int = 0
    outside: int | UnsetType = UNSET

    def add(self, other: TileCounts) -> None:
        for name in self.__struct_fields__:
            setattr(self, name, _sum(getattr(self, name), getattr(other, name)))


class Lost(msgspec.Struct, frozen=True):
    """An object that is in no tile, and why. `row` is its row in the source's labels, from 0."""

    source: str
    split: str
    row: int
    class_id: int
    reason: str


def labels(names: Sequence[str]) -> list[str]:
    """The name of each class, with its id where two classes share the name.

    >>> labels(["car", "bus", "car"])
    ['car (0)', 'bus', 'car (2)']
    """
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({i})" for i, name in enumerate(names)]
