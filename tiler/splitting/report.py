"""What became of every object: the outcome of one source, and the report of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from tiler.evaluation import bins
from tiler.findings import Finding
from tiler.formats import report_json
from tiler.formats.manifest import SourceTiles
from tiler.version import __version__

SMALL, MEDIUM = bins.SMALL**2, bins.MEDIUM**2  # px²


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

    objects = whole + truncated + lost. `rows` are label rows in tiles; `before` counts the
    objects by their area in the source, `after` the rows by theirs in the tile.
    """

    objects: int = 0
    whole: int = 0
    truncated: int = 0
    lost: int = 0
    rows: int = 0
    before: Sizes = msgspec.field(default_factory=Sizes)
    after: Sizes = msgspec.field(default_factory=Sizes)

    def add(self, other: ObjectCounts) -> None:
        for name in ("objects", "whole", "truncated", "lost", "rows"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.before.add(other.before)
        self.after.add(other.after)


class TileCounts(msgspec.Struct):
    """Images and tiles of a split.

    Attributes:
        sources: images of the dataset, those that were rejected (`refused`) and those without a
            label file (`unlabelled`) among them.
        tiles: tiles that were written; `background` of them hold no object.
        left_out: tiles that were not written, by --background, --truncated skip-tile or --min-data.
        without_data: those of them that --min-data left out.
        clean: tiles with data, written or not, that show nothing of any object.
        rows_refused, rows_repaired: label rows.
        ignored_regions: regions that COCO marks as iscrowd or ignore.
        bytes: of images and labels of tiles.
        copied: tiles that have the source's JPEG coefficients.
        flat: tiles that were written, without a label and of one value only, of images that declare
            no value as no data; those that were copied are not looked at.
    """

    sources: int = 0
    refused: int = 0
    unlabelled: int = 0
    tiles: int = 0
    background: int = 0
    left_out: int = 0
    without_data: int = 0
    clean: int = 0
    rows_refused: int = 0
    rows_repaired: int = 0
    ignored_regions: int = 0
    bytes: int = 0
    copied: int = 0
    flat: int = 0

    def add(self, other: TileCounts) -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Lost(msgspec.Struct, frozen=True):
    """An object that is in no tile, and why. `row` is its row in the source's labels, from 0."""

    source: str
    split: str
    row: int
    class_id: int
    reason: str


class SplitOutcome(msgspec.Struct):
    """What became of one source.

    Attributes:
        stamps: of each tile, the size and the time of change of its files (see `Folder.stamp`):
            image, labels, and a world file if it has one.
        channels: the bands of a tile as the trainer takes them; 0 where no tile was written.
        kept: whether an earlier run had made it.
    """

    entry: SourceTiles
    counts: TileCounts
    classes: dict[int, ObjectCounts]
    lost: list[Lost]
    findings: list[Finding]
    suffix: str = ""
    stamps: list[list[tuple[int, int]]] = []
    channels: int = 0
    kept: bool = False

    @classmethod
    def rejected(cls, split: str, key: str, finding: Finding, fingerprint: str) -> SplitOutcome:
        """The outcome of a source that cannot be used."""
        entry = SourceTiles(key, split, 0, 0, fingerprint, [])
        return cls(entry, TileCounts(sources=1, refused=1), {}, [], [finding])


class SplitCounts(msgspec.Struct):
    """The counts of a split, and its objects: of all classes, and of each."""

    counts: TileCounts
    objects: ObjectCounts
    classes: dict[str, ObjectCounts]


class SplitReport(msgspec.Struct):
    """The conservation report: what `tiler split` did, and what it could not do.

    Attributes:
        task: detect, segment, obb, pose or semantic, and in `task_reason` how that was decided.
        root: the folder that the splits were resolved under (not written to report.json).
        splits: counts for each split.
        lost: the objects that are in no tile.
        findings: what was noticed, errors and warnings and notes.
        stretch: for each kind of image deeper than 8 bits, the values of each band that became 0
            and 255.
        bands: the number of images that were cut, for each number of bands that the trainer takes
            (3 also for grey, and colour with alpha).
        out: the output folder (not written to report.json).
        unchanged: True when the output was complete before.
    """

    task: str
    task_reason: str
    splits: dict[str, SplitCounts]
    lost: list[Lost]
    findings: list[Finding]
    tiler: str = __version__
    schema: int = 1
    stretch: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, int] = {}
    root: str = ""
    out: str = ""
    unchanged: bool = False

    def add(self, outcome: SplitOutcome, names: Sequence[str]) -> None:
        """Add the counts of a source. `names`: of each class, by `labels`."""
        split = self.splits[outcome.entry.split]
        split.counts.add(outcome.counts)
        for class_id, counts in outcome.classes.items():
            split.objects.add(counts)
            split.classes.setdefault(names[class_id], ObjectCounts()).add(counts)
        self.lost += outcome.lost
        self.findings += outcome.findings
        if outcome.channels:
            bands = str(outcome.channels)
            self.bands[bands] = self.bands.get(bands, 0) + 1

    @property
    def total(self) -> SplitCounts:
        """The counts of all splits together."""
        result = SplitCounts(TileCounts(), ObjectCounts(), {})
        for split in self.splits.values():
            result.counts.add(split.counts)
            result.objects.add(split.objects)
        return result

    @property
    def channels(self) -> int:
        """Bands of every tile, if the trainer must be told; else 0."""
        if len(self.bands) != 1 or "3" in self.bands:
            return 0
        return int(next(iter(self.bands)))

    def levels(self) -> Counter[str]:
        """How many errors, warnings and notes there are."""
        return report_json.levels(self.findings)

    def exit_code(self, strict: bool = False) -> int:
        """1 if something of the source is not in the output: an image or row that was rejected;
        with `strict`, also an object in no tile."""
        if strict and self.lost:
            return 1
        return int(self.levels()["error"] > 0)

    def encoded(self) -> bytes:
        """report.json."""
        return report_json.encoded(self, self.findings, ("root", "out", "unchanged"))


def labels(names: Sequence[str]) -> list[str]:
    """The name of each class, with its id where two classes share the name.

    >>> labels(["car", "bus", "car"])
    ['car (0)', 'bus', 'car (2)']
    """
    count = Counter(names)
    return [name if count[name] == 1 else f"{name} ({i})" for i, name in enumerate(names)]


def new(
    task: str, reason: str, splits: tuple[str, ...], names: tuple[str, ...], findings: list[Finding]
) -> SplitReport:
    """A report of every split and class, in which nothing is counted yet."""
    empty = {}
    for split in splits:
        classes = {name: ObjectCounts() for name in labels(names)}
        empty[split] = SplitCounts(TileCounts(), ObjectCounts(), classes)
    return SplitReport(task, reason, empty, [], list(findings))
