"""What `tiler plan` found: sizes of objects, what each setting makes of them, and the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.errors import amount, printable
from tiler.findings import Finding
from tiler.formats import html, report_json
from tiler.version import __version__

if TYPE_CHECKING:
    from tiler.types import Floats

PERCENTS = (1, 10, 50, 90, 99)


class Percentiles(msgspec.Struct, frozen=True):
    """Of some numbers, in px; 0 where there are none."""

    p1: float = 0.0
    p10: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Percentiles:
        """Of `(N,)` values.

        >>> Percentiles.of(np.arange(101.0)).p90
        90.0
        """
        if not len(values):
            return cls()
        return cls(*(round(float(value), 3) for value in np.percentile(values, PERCENTS)))


class ObjectSizes(msgspec.Struct, frozen=True):
    """The objects of a class, or of all, in pixels of the full images.

    Attributes:
        small: how many of them are small.
        side: of a square of the object's area.
        longest: the longer side of its box.
    """

    objects: int
    small: int
    side: Percentiles
    longest: Percentiles


class ImageNumbers(msgspec.Struct, frozen=True):
    """Images of the dataset: of `total`, `counted` were counted, since they can be cut and, with
    --sample, were drawn; `rejected` of those drawn cannot be cut.
    """

    total: int
    counted: int
    rejected: int

    @property
    def scale(self) -> float:
        """Images of the dataset for one that was counted (or rejected)."""
        return self.total / max(1, self.counted + self.rejected)


class PlannedSetting(msgspec.Struct, frozen=True):
    """A grid, and what it makes of the counted images.

    Attributes:
        tile: the side of a tile, px; None for the images as they are.
        overlap: as of `tiler split`; `overlap_px` in pixels.
        tiles: their number; `background` of them have no label.
        pixels: of all tiles, before the trainer's resize.
        bytes: of all tiles, if a pixel takes as many as in its image.
        objects: whole + truncated + lost, as `tiler split` reports them; `rows` are their labels.
        longer: objects of which no tile of this size can show all.
        small_whole: small objects that are whole in a tile.
        small_px: sides of the small objects after the trainer's resize.
        keeps: whether enough of the small objects are whole.
        large_enough: whether their median side is large enough.
    """

    tile: int | None
    overlap: float
    overlap_px: int
    tiles: int
    background: int
    pixels: int
    bytes: int
    objects: int
    whole: int
    truncated: int
    lost: int
    rows: int
    longer: int
    small_whole: int
    small_px: Percentiles
    keeps: bool
    large_enough: bool

    @property
    def suits(self) -> bool:
        """Whether it does all that is wanted."""
        return self.keeps and self.large_enough

    def __str__(self) -> str:
        """In a sentence."""
        if self.tile is None:
            return "the images as they are"
        return f"--tile {self.tile} --overlap {self.overlap:g}"


class PlanReport(msgspec.Struct):
    """What `tiler plan` counted and recommends.

    Attributes:
        task: detect, segment, obb or pose, and in `task_reason` how that was decided.
        root: the folder that the findings' paths are relative to (not in the JSON).
        imgsz, keep, min_px: what was wanted.
        small_rule: which objects are small, and `small_below` the area, px², that theirs is below.
        small: how many there are; `small_unlabelled` of them get no label even where they are
            whole.
        guaranteed_overlap: the overlap, px, with which enough of them are whole wherever they lie.
        sizes: of all objects, and of each class.
        settings: what was compared.
        recommended: the place of the recommended setting among them, from 0; None if none suits.
        command: the command line that cuts so; None where nothing is to be cut.
        reason: why it is recommended, or why nothing is.
        remarks: what speaks against it, and what else is to be known.
        findings: of images and labels.
    """

    task: str
    task_reason: str
    images: ImageNumbers
    imgsz: int
    keep: float
    min_px: float
    small_rule: str
    small_below: float
    small: int
    small_unlabelled: int
    guaranteed_overlap: int
    sizes: ObjectSizes
    classes: dict[str, ObjectSizes]
    settings: list[PlannedSetting]
    recommended: int | None = None
    command: str | None = None
    reason: str = ""
    remarks: list[str] = []
    findings: list[Finding] = []
    tiler: str = __version__
    schema: int = 1
    root: str = ""

    @property
    def choice(self) -> PlannedSetting | None:
        """The recommended setting."""
        return None if self.recommended is None else self.settings[self.recommended]

    def __repr__(self) -> str:
        return printable(f"PlanReport({self.title()})")

    def title(self) -> str:
        """What is recommended, in a line."""
        images = amount(self.images.counted, "image")
        noticed = report_json.in_words(self.findings)
        advice = self.command or self.reason
        return f"{images}, {amount(self.sizes.objects, 'object')}, {self.task}{noticed}: {advice}"

    def _repr_html_(self) -> str:
        return html.table(*self.table(), self.title())

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """The head of a table, and a row for each setting."""
        head = ["tile", "overlap", "tiles", "background", "Mpx", "MB"]
        head += ["whole", "small whole", f"small px at {self.imgsz}", ""]
        return head, [self._row(place, setting) for place, setting in enumerate(self.settings)]

    def _row(self, place: int, setting: PlannedSetting) -> list[Any]:
        scale = self.images.scale
        mark = "~" if scale > 1 else ""
        px = setting.small_px
        return [
            "none" if setting.tile is None else setting.tile,
            _overlap(setting),
            f"{mark}{round(setting.tiles * scale)}",
            _percent(setting.background, setting.tiles),
            f"{mark}{setting.pixels * scale / 1e6:.1f}",
            f"{mark}{setting.bytes * scale / 1e6:.1f}",
            _percent(setting.whole, setting.objects),
            _percent(setting.small_whole, self.small) + ("" if setting.keeps else " ✗"),
            f"{px.p50:.1f}" + ("" if setting.large_enough else " ✗"),
            "recommended" if place == self.recommended else "",
        ]

    def exit_code(self) -> int:
        """1 if an image or a row of labels was rejected."""
        return int(report_json.levels(self.findings)["error"] > 0)

    def encoded(self) -> bytes:
        """As JSON."""
        return report_json.encoded(self, self.findings, ("root",))


def _overlap(setting: PlannedSetting) -> str:
    """Pixels, and the fraction if it is one."""
    if setting.tile is None:
        return ""
    if 0 < setting.overlap < 1:
        return f"{setting.overlap:g} = {setting.overlap_px}"
    return str(setting.overlap_px)


def _percent(part: int, whole: int) -> str:
    """A share; rounded down, so that what misses a limit does not seem to reach it."""
    if not whole:
        return "-"
    return f"{math.floor(1000 * part / whole) / 10:.1f} %"


def recommended(settings: Sequence[PlannedSetting]) -> int | None:
    """Of the settings that suit, the place of the one with the fewest tile pixels; None where none
    suits.

    Where several have as few: the fewest tiles, then the most small objects that are whole, then
    the most objects, then the first.
    """
    suitable = [place for place, setting in enumerate(settings) if setting.suits]
    return min(suitable, key=lambda place: _cost(settings[place]), default=None)


def _cost(setting: PlannedSetting) -> tuple[int, ...]:
    return setting.pixels, setting.tiles, -setting.small_whole, -setting.whole
