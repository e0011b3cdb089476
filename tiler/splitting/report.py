"""What became of every object: the outcome of one source, and the report of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from tiler.errors import amount, printable
from tiler.findings import Finding
from tiler.formats import html, report_json
from tiler.formats.manifest import SourceTiles
from tiler.splitting.packing import PackedTiles
from tiler.tiling.counts import IN_GUARD_BAND, Lost, ObjectCounts, TileCounts, labels
from tiler.version import __version__

SIZES = ("small", "medium", "large")
OBJECTS = ("objects", "whole", "truncated", "lost", *SIZES, "outside")
HEAD = ("split", "sources", "tiles", "background", "objects", "whole", "truncated", "lost", *SIZES)


class TileAnnotations(msgspec.Struct):
    """What COCO files say of the tiles of a source.

    Attributes:
        sizes: width and height of each written tile, px.
        tile: of each annotation, the place of its tile among these, in rising order.
        text: each annotation as JSON, without its ids.
    """

    sizes: list[tuple[int, int]]
    tile: list[int]
    text: list[bytes]


class SplitOutcome(msgspec.Struct):
    """What became of one source.

    Attributes:
        stamps: of each tile, the size and the time of change of its files (see `Folder.stamp`):
            image, labels, and a world file if it has one.
        channels: the bands of a tile as the trainer takes them; 0 where no tile was written.
        kept: whether an earlier run had made it.
        annotations: for --export; they are in no journal, but made again.
        packed: with --layout tar.
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
    annotations: TileAnnotations | None = None
    packed: PackedTiles | None = None

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
        exports: the files of --export and their bytes, if there are any.
        shards: those of --layout tar, and their bytes.
        split_by: images or blocks, where --val or --test divided a split; else "".
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
    exports: dict[str, int] = {}
    shards: dict[str, int] = {}
    split_by: str = ""
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
    def in_regions(self) -> bool:
        """Whether --roi left out what is outside its regions."""
        return isinstance(self.total.counts.outside, int)

    def __repr__(self) -> str:
        return printable(f"SplitReport({self.title()})")

    def kind(self, root: str) -> str:
        """What the dataset is, in a line. `root`: its folder, as it is shown."""
        return f"{self.task} dataset ({self.task_reason}) in {root}"

    def title(self) -> str:
        """What was cut, in a line."""
        counts, objects = self.total.counts, self.total.objects
        words = f"{amount(counts.sources, 'image')}, {self.task}: {amount(counts.tiles, 'tile')}"
        if self.task != "semantic":
            words += f"; {amount(objects.objects, 'object')}, {objects.lost} lost"
        return words + report_json.in_words(self.findings)

    def _repr_html_(self) -> str:
        return html.table(*self.table(), self.title())

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """The head of a table, and a row for each split; one more for all, if there are several."""
        head = [*HEAD, "outside"] if self.in_regions else [*HEAD]
        splits = dict(self.splits)
        if len(splits) > 1:
            splits["all"] = self.total
        rows = [self._row(name, split) for name, split in splits.items()]
        if self.task == "semantic":  # there are no objects to count
            columns = [i for i, name in enumerate(head) if name not in OBJECTS]
            head = [head[i] for i in columns]
            rows = [[row[i] for i in columns] for row in rows]
        return head, rows

    def _row(self, name: str, split: SplitCounts) -> list[Any]:
        counts, objects = split.counts, split.objects
        sources = f"{counts.sources}"
        if counts.refused:
            sources += f" ({counts.refused} rejected)"
        row = [name or "images", sources, counts.tiles, counts.background]
        row += [objects.objects, objects.whole, objects.truncated, objects.lost]
        for size in SIZES:
            before = getattr(objects.before, size)
            after = getattr(objects.after, size)
            row.append(f"{before} → {after}")
        if self.in_regions:
            row.append(objects.outside or 0)
        return row

    @property
    def channels(self) -> int:
        """Bands of every tile, if the trainer must be told; else 0."""
        if len(self.bands) != 1 or "3" in self.bands:
            return 0
        return int(next(iter(self.bands)))

    @property
    def lost_elsewhere(self) -> list[Lost]:
        """The objects that are lost, but for those in guard bands."""
        return [lost for lost in self.lost if lost.reason != IN_GUARD_BAND]

    def levels(self) -> Counter[str]:
        """How many errors, warnings and notes there are."""
        return report_json.levels(self.findings)

    def exit_code(self, strict: bool = False) -> int:
        """1 if something of the source is not in the output: an image or row that was rejected;
        with `strict`, also an object in no tile, unless a guard band was asked for there."""
        if strict and self.lost_elsewhere:
            return 1
        return int(self.levels()["error"] > 0)

    def encoded(self) -> bytes:
        """report.json."""
        without = ["root", "out", "unchanged"]
        without += [name for name in ("exports", "shards") if not getattr(self, name)]
        return report_json.encoded(self, self.findings, without)


def new(
    task: str, reason: str, splits: tuple[str, ...], names: tuple[str, ...], findings: list[Finding]
) -> SplitReport:
    """A report of every split and class, in which nothing is counted yet."""
    empty = {}
    for split in splits:
        classes = {name: ObjectCounts() for name in labels(names)}
        empty[split] = SplitCounts(TileCounts(), ObjectCounts(), classes)
    return SplitReport(task, reason, empty, [], list(findings))
