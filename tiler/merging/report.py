"""The report of a merge: counts of all rows and detections, and the findings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.errors import amount, printable
from tiler.findings import Finding
from tiler.formats import html, report_json
from tiler.predictions import FULL, Detections
from tiler.stitching import FATES, FUSED, KEPT, ORPHAN, Stitched
from tiler.version import __version__

if TYPE_CHECKING:
    from tiler.types import Bools, Ints


DETECTIONS = (KEPT, FUSED, ORPHAN)  # fates of rows that a detection is made of
OTHER_CLASS = "other class"  # the fate of rows that --classes or --map-classes leaves out


class MergeCounts(msgspec.Struct):
    """Numbers of one image, or of all.

    Every row that was read counts once: as rejected (`refused`), as dropped (by fate), or as one of
    those that `detections` are made of: kept + fused + orphan.

    Attributes:
        empty: images without detections.
        tiles: of the images.
        predicted: tiles that have rows.
        full: tiles with exactly 300 rows, the most that trainers' detectors keep.
        rows: of predictions.
        refused: invalid rows.
        fates: the other rows, by `stitching.FATES`.
        cut: rows of objects that their tile cuts.
        joined: detections made of several rows.
        detections: those of the full images.
        classes: the same by class id.
    """

    images: int = 0
    empty: int = 0
    tiles: int = 0
    predicted: int = 0
    full: int = 0
    rows: int = 0
    refused: int = 0
    cut: int = 0
    joined: int = 0
    detections: int = 0
    fates: dict[str, int] = msgspec.field(default_factory=dict)
    classes: dict[int, int] = msgspec.field(default_factory=dict)

    def columns(self) -> dict[str, int]:
        """The numbers of all images, by their heading in a table."""
        columns = {
            "images": self.images,
            "tiles": self.tiles,
            "with rows": self.predicted,
            "rows": self.rows,
            "cut": self.cut,
            "rejected": self.refused,
        }
        of_detections = [FATES[fate] for fate in DETECTIONS]
        for fate, rows in self.fates.items():
            if fate not in of_detections:
                columns[fate] = rows
        columns["joined"] = self.joined
        columns["orphans"] = self.fates.get("orphan", 0)
        columns["detections"] = self.detections
        return columns

    def add(self, other: MergeCounts) -> None:
        """Add those of another image."""
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, number in theirs.items():
                    mine[key] = mine.get(key, 0) + number
            else:
                setattr(self, name, mine + theirs)


def stays(result: Stitched) -> Bools:
    """`(N,)` True for the rows that a detection is made of."""
    return np.isin(result.fate, DETECTIONS) & (result.into >= 0)


def counted(tiles: int, rows: Ints, detections: Detections, result: Stitched) -> MergeCounts:
    """The numbers of one image.

    Args:
        tiles: of the image.
        rows: of each tile with predictions.
    """
    merged = result.instances
    fates = np.bincount(result.fate, minlength=len(FATES)).tolist()
    members = np.bincount(result.into[stays(result)], minlength=len(merged))
    classes, number = np.unique(merged.class_id, return_counts=True)
    by_fate = {name: count for name, count in zip(FATES, fates, strict=True) if count}
    if detections.left_out:
        by_fate[OTHER_CLASS] = len(detections.left_out)
    by_class = dict(zip(classes.tolist(), number.tolist(), strict=True))
    has_rows = rows > 0
    is_full = rows == FULL
    is_joined = members > 1
    rejected = len(detections.rejected)
    return MergeCounts(
        images=1,
        empty=int(len(merged) == 0),
        tiles=tiles,
        predicted=int(has_rows.sum()),
        full=int(is_full.sum()),
        rows=len(result.fate) + rejected + len(detections.left_out),
        refused=rejected,
        cut=int(result.cut.sum()),
        joined=int(is_joined.sum()),
        detections=len(merged),
        fates=by_fate,
        classes=by_class,
    )


class MergeReport(msgspec.Struct):
    """What `tiler merge` did, and what it could not do.

    Attributes:
        predictions: what was read, in words.
        index: where the tiles' places were taken from, in words.
        names: of classes; empty where they are not known.
        left_out: splits without any predictions.
        models: of an ensemble, their names.
        findings: errors, warnings and notes.
        files: those that all images share, and their bytes.
        where: the manifest or folder that the tiles' places were taken from (not written to
            report.json).
        out: the output folder, empty when nothing was written (not written to report.json).
        unchanged: True when the output was complete before (not written to report.json).
    """

    task: str
    predictions: str
    index: str
    names: list[str]
    counts: MergeCounts
    left_out: list[str]
    findings: list[Finding]
    kpt_shape: list[int] | None = None
    models: list[str] = []
    tiler: str = __version__
    schema: int = 1
    files: dict[str, int] = {}
    where: str = ""
    out: str = ""
    unchanged: bool = False

    def levels(self) -> Counter[str]:
        """The number of errors, warnings and notes."""
        return report_json.levels(self.findings)

    def __repr__(self) -> str:
        return printable(f"MergeReport({self.title()})")

    def title(self) -> str:
        """What was merged, in a line."""
        counts = self.counts
        images = amount(counts.images, "image")
        detections = amount(counts.detections, "detection")
        rows = amount(counts.rows, "row")
        noticed = report_json.in_words(self.findings)
        return f"{images}, {self.task}: {detections} of {rows}{noticed}"

    def notes(self, where: str) -> list[str]:
        """What was read, in lines. `where`: the place of the tiles' places, as it is shown."""
        lines = [f"{self.predictions}; tiles by {self.index}, {where}"]
        if self.models:
            lines.insert(0, f"ensemble of {len(self.models)} models: {', '.join(self.models)}")
        if not self.names:
            lines.append("class names are not known: --data gives them")
        if self.left_out:
            lines.append(f"left out, without any predictions: {', '.join(self.left_out)}")
        return lines

    def _repr_html_(self) -> str:
        columns = self.counts.columns()
        return html.table(list(columns), [list(columns.values())], self.title())

    def exit_code(self) -> int:
        """1 when any of the predictions were rejected."""
        return int(self.levels()["error"] > 0)

    def encoded(self) -> bytes:
        """The content of report.json."""
        return report_json.encoded(self, self.findings, ("where", "out", "unchanged"))
