"""What merging did: counts of every row and detection, and what was noticed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from tiler.findings import Finding
from tiler.formats import report_json
from tiler.predictions import FULL, Detections
from tiler.stitching import FATES, FUSED, KEPT, ORPHAN, Stitched
from tiler.version import __version__


class MergeCounts(msgspec.Struct):
    """Numbers of one image, or of all.

    Every row that was read is in one of refused, dropped (by fate) or the rows that
    `detections` are made of: kept + fused + orphan.

    Attributes:
        tiles: of the images; `predicted` of them have rows, `full` exactly 300, the number at
            which trainers' detectors stop.
        rows: of predictions.
        refused: rows that cannot be meant.
        fates: of the other rows, by `stitching.FATES`.
        cut: rows that their tile cuts.
        joined: detections made of several rows.
        detections: what was written; `classes` by class id.
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

    def add(self, other: MergeCounts) -> None:
        """Count in those of another image."""
        for name in self.__struct_fields__:
            mine, more = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                for key, number in more.items():
                    mine[key] = mine.get(key, 0) + number
            else:
                setattr(self, name, mine + more)


def counted(
    tiles: int, rows: np.ndarray[Any, Any], read: Detections, merged: Stitched
) -> MergeCounts:
    """Of one image. `rows`: of each tile with predictions."""
    out = merged.instances
    fates = np.bincount(merged.fate, minlength=len(FATES))
    stays = np.isin(merged.fate, (KEPT, FUSED, ORPHAN)) & (merged.into >= 0)
    members = np.bincount(merged.into[stays], minlength=len(out))
    classes, number = np.unique(out.class_id, return_counts=True)
    return MergeCounts(
        images=1,
        empty=int(len(out) == 0),
        tiles=tiles,
        predicted=int((rows > 0).sum()),
        full=int((rows == FULL).sum()),
        rows=len(merged.fate) + len(read.rejected),
        refused=len(read.rejected),
        cut=int(merged.cut.sum()),
        joined=int((members > 1).sum()),
        detections=len(out),
        fates={name: int(fates[k]) for k, name in enumerate(FATES) if fates[k]},
        classes={int(k): int(n) for k, n in zip(classes, number, strict=True)},
    )


class MergeReport(msgspec.Struct):
    """What `tiler merge` did, and what it could not do.

    Attributes:
        predictions: what was read, in words.
        index: what the tiles' places were taken from, in words; `where` that lies (not written to
            report.json).
        names: of classes; empty where they are not known.
        left_out: splits without any predictions.
        findings: what was noticed, errors and warnings and notes.
        files: those that all images share, and their bytes.
        out: the output folder, empty when nothing was written (not written to report.json).
        unchanged: True when the output was complete before.
    """

    task: str
    predictions: str
    index: str
    names: list[str]
    counts: MergeCounts
    left_out: list[str]
    findings: list[Finding]
    kpt_shape: list[int] | None = None
    tiler: str = __version__
    schema: int = 1
    files: dict[str, int] = {}
    where: str = ""
    out: str = ""
    unchanged: bool = False

    def levels(self) -> Counter[str]:
        """How many errors, warnings and notes there are."""
        return report_json.levels(self.findings)

    def exit_code(self) -> int:
        """1 when something of the predictions was refused."""
        return int(self.levels()["error"] > 0)

    def encoded(self) -> bytes:
        """report.json."""
        return report_json.encoded(self, self.findings, ("where", "out", "unchanged"))
