"""The labels of a source, in pixels of the upright image and cut to its frame."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.datasets.dataset import Source, label_path, relative
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding, condensed
from tiler.formats import yolo
from tiler.formats.text_files import read_bytes, reason, without_bom
from tiler.geometry import boxes as box
from tiler.geometry.clipping import clip
from tiler.geometry.instances import Instances, empty
from tiler.geometry.turning import SWAPPED, turned_instances

if TYPE_CHECKING:
    from tiler.formats.annotated import AnnotatedImage
    from tiler.types import Bools, Floats, Ints

ROUNDING = 0.5  # px past the frame that are not reported: labels of four decimals reach that far


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of an image.

    Attributes:
        instances: the objects.
        ignored: regions to be ignored (COCO's crowds), as outlines; class -1 if it is unknown.
        findings: what was noticed.
        refused: number of rejected rows.
    """

    instances: Instances
    ignored: Instances
    findings: list[Finding]
    refused: int


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Where a source's labels come from.

    Attributes:
        key: its name in findings.
        data: its content; None if there is no file, which makes the image background.
    """

    key: str
    data: bytes | None

    def lines(self) -> list[int]:
        """For each row its line, from 1, since blank lines are no rows."""
        return yolo.parse(self.data or b"").lines

    def words(self) -> bytes:
        """The content without byte-order mark, blank lines, and different line ends or spaces."""
        rows = []
        for line in without_bom(self.data or b"").splitlines():
            words = line.split()
            if words:
                rows.append(b" ".join(words))
        return b"\n".join(rows)


def label_file(root: Path, source: Source) -> LabelFile:
    """The labels of a source: its text file, or its entry in a file of annotations.

    Raises:
        SourceRefused: the text file cannot be read.
    """
    if source.entry is not None:
        if not source.entry.file:
            return LabelFile(source.key, None)
        return LabelFile(source.entry.file, msgspec.json.encode(source.entry))
    name = label_path(os.path.join(root, source.key))
    key = relative(name, root)
    try:
        return LabelFile(key, read_bytes(Path(name), yolo.MAX_BYTES))
    except FileNotFoundError:
        return LabelFile(key, None)
    except OSError as error:
        raise SourceRefused("L01", f"cannot be read: {reason(error)}", key) from None
    except TilerError as error:
        raise SourceRefused("L01", str(error), key) from None


def read(
    source: Source,
    file: LabelFile,
    spec: yolo.Spec,
    width: int,
    height: int,
    marked: bool = False,
) -> Labels:
    """The labels of an image of `width` x `height` px, without the rows that cannot be used.

    Args:
        marked: return what is marked iscrowd, ignore or difficult among the objects.

    Raises:
        SourceRefused: they were made for an image of another size.
    """
    if source.entry is None:
        labels = _of_text(file, spec, width, height)
    else:
        labels = _of_entry(source, source.entry, spec, (width, height), marked)
    instances, outside, findings = within_frame(source, labels.instances, width, height, file)
    findings = labels.findings + findings
    regions = len(labels.ignored)
    if regions:
        message = f"{source.key}: {regions} regions marked iscrowd or ignore"
        findings.append(Finding(file.key, "L14", message))
    return Labels(instances, labels.ignored, findings, labels.refused + outside)


def _of_text(file: LabelFile, spec: yolo.Spec, width: int, height: int) -> Labels:
    """The valid rows of a YOLO label file."""
    instances, findings = yolo.read(file.data or b"", spec, width, height, file.key)
    rejected = sum(finding.count for finding in findings if finding.level == "error")
    return Labels(instances, empty("segment"), findings, rejected)


def _of_entry(
    source: Source, entry: AnnotatedImage, spec: yolo.Spec, size: tuple[int, int], marked: bool
) -> Labels:
    """The valid annotations of an image."""
    from tiler.formats import annotated

    annotations = entry.annotations
    if entry.doubt and not annotations:
        raise SourceRefused("P06", f"{entry.doubt}; not cut as background", source.key)
    frame = size if entry.turn not in SWAPPED else size[::-1]
    if entry.size is not None and entry.size != frame:
        width, height = entry.size
        message = f"declared as {width} x {height} px, the image is {frame[0]} x {frame[1]}"
        raise SourceRefused("L03", message, source.key)
    instances, ignored, findings = annotated.instances(annotations, spec, entry.file, frame, marked)
    rejected = len(annotations) - len(instances) - len(ignored)
    findings = [*entry.findings, *findings]
    rejected += sum(finding.count for finding in entry.findings if finding.level == "error")
    if entry.turn != 1:
        instances = turned_instances(instances, entry.turn, *frame)
        ignored = turned_instances(ignored, entry.turn, *frame)
    return Labels(instances, ignored, findings, rejected)


def require_usable(labels: Labels, path: str) -> None:
    """Reject an image that would pass for background because none of its rows can be used.

    Raises:
        SourceRefused: with the first error.
    """
    if not labels.refused or len(labels.instances) or len(labels.ignored):
        return
    first = next(finding for finding in labels.findings if finding.level == "error")
    why = first.message
    if first.line is not None:
        why = f"line {first.line}: {why}"
    message = f"all {labels.refused} rows were rejected ({why}); not cut as background"
    raise SourceRefused("L13", message, path)


def within_frame(
    source: Source, instances: Instances, width: int, height: int, file: LabelFile
) -> tuple[Instances, int, list[Finding]]:
    """Labels cut to the image, how many lie outside, and findings for those that reach out.

    An OBB keeps its corners, since a rectangle cut to the frame is no rectangle; but only the
    part inside the image counts as its area.
    """
    frame = np.array([0.0, 0.0, width, height])
    before = frame[:2] - instances.boxes[:, :2]
    behind = instances.boxes[:, 2:] - frame[2:]
    farthest = np.maximum(before, behind).max(axis=1, initial=0.0)
    if not (farthest > 0).any():
        return instances, 0, []
    clipped = clip(instances, frame, obb="full")
    outside = clipped.visible <= 0
    findings = _frame_findings(source, instances.row, outside, farthest, file)
    if instances.task == "obb":
        inside = np.where(outside, 1.0, clipped.visible)
        clipped = replace(clipped, area=instances.area * inside)
    else:
        if clipped.rings is None:
            area = box.area(clipped.boxes)
        else:
            area = instances.area * clipped.visible
        clipped = replace(clipped, visible=np.ones(len(clipped)), area=area)
    return clipped.take(~outside), int(outside.sum()), findings


def _frame_findings(
    source: Source, rows: Ints, outside: Bools, farthest: Floats, file: LabelFile
) -> list[Finding]:
    """Findings for labels that lie outside the image, or reach more than ROUNDING past its frame.

    Args:
        rows: `(N,)` of the labels.
        outside: `(N,)` True if no part of a label is in the image.
        farthest: `(N,)` how far it reaches past the frame, px.
    """
    reaching = (farthest > ROUNDING) & ~outside
    if source.entry is not None and source.entry.cropped:
        reaching[:] = False  # as it should be
    if not (outside | reaching).any():
        return []
    at_row = _finding_maker(source, file)
    findings = [
        at_row(int(rows[i]), "L05", "lies outside the image") for i in np.flatnonzero(outside)
    ]
    for i in np.flatnonzero(reaching):
        message = f"reaches {farthest[i]:.1f} px past the frame; cut there"
        findings.append(at_row(int(rows[i]), "L08", message))
    return condensed(findings)


def _finding_maker(source: Source, file: LabelFile) -> Callable[[int, str, str], Finding]:
    """Makes a finding of a row, a code and a message: with the row's line where it has one of its
    own, else with its name."""
    if source.entry is None:
        lines = file.lines()
        return lambda row, code, message: Finding(file.key, code, message, lines[row])
    by_row = {annotation.index: annotation for annotation in source.entry.annotations}

    def of_annotation(row: int, code: str, message: str) -> Finding:
        annotation = by_row[row]
        return Finding(file.key, code, f"{annotation.name} {message}", annotation.line)

    return of_annotation
