"""The labels of a source, in pixels of the upright image and within its frame."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from tiler.datasets.sources import Source, label_path, relative
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding, condensed
from tiler.formats import yolo
from tiler.formats.text_files import read_bytes, reason, without_bom
from tiler.geometry import boxes as box
from tiler.geometry.clipping import clip
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings

ROUNDING = 0.5  # px past the frame that go unmentioned: labels of four decimals do that


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Attributes:
    instances: the objects.
    ignored: regions that are to be ignored (COCO's crowds).
    findings: what was noticed.
    refused: number of rows that could not be used.
    """

    instances: Instances
    ignored: Rings
    findings: list[Finding]
    refused: int


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Where a source's labels come from.

    Attributes:
        key: what findings call it.
        data: the bytes, or None when there is no file: then the image is background.
    """

    key: str
    data: bytes | None

    def lines(self) -> list[int] | None:
        """For each row (they skip blank lines) its line, from 1; None for COCO, which has none."""
        return None if self.key.lower().endswith(".json") else yolo.parse(self.data or b"").lines

    def words(self) -> bytes:
        """What counts of it: not the byte-order mark, line ends, blank lines or runs of spaces."""
        data = without_bom(self.data or b"")
        return b"\n".join(b" ".join(words) for line in data.splitlines() if (words := line.split()))


def label_file(root: Path, source: Source, coco_name: str) -> LabelFile:
    """The labels of a source: its text file, or its entry of the COCO file.

    Raises:
        SourceRefused: there is something in its place that cannot be read.
    """
    if source.entry is not None:
        return LabelFile(coco_name, msgspec.json.encode(source.entry))
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
    classes: dict[int, int] | None,
    width: int,
    height: int,
) -> Labels:
    """The labels of an image of `width` x `height` px, with the rows that cannot be used left out.

    Args:
        classes: of a COCO set, the class of each category id.

    Raises:
        SourceRefused: they were made for an image of another size.
    """
    ignored = Rings.of([])
    if source.entry is None:
        instances, findings = yolo.read(file.data or b"", spec, width, height, file.key)
        refused = sum(finding.count for finding in findings if finding.level == "error")
    else:
        declared = (source.entry.width, source.entry.height)
        if declared != (width, height):
            message = (
                f"declared as {declared[0]} x {declared[1]} px, the image is {width} x {height}"
            )
            raise SourceRefused("L03", message, source.key)
        from tiler.formats import coco

        annotations = source.entry.annotations
        instances, ignored, findings = coco.instances(
            annotations, classes or {}, spec, file.key, (width, height)
        )
        refused = len(annotations) - len(instances) - len(ignored)
    instances, outside, more = within_frame(instances, width, height, file)
    findings = findings + more
    if len(ignored):
        findings.append(
            Finding(
                file.key, "L14", f"{source.key}: {len(ignored)} regions marked iscrowd or ignore"
            )
        )
    return Labels(instances, ignored, findings, refused + outside)


def require_usable(labels: Labels, path: str) -> None:
    """Refuse an image that would pass for background only because none of its rows can be used.

    Raises:
        SourceRefused: with the first row's fault.
    """
    if labels.refused and not len(labels.instances) and not len(labels.ignored):
        first = next(f for f in labels.findings if f.level == "error")
        where = "" if first.line is None else f"line {first.line}: "
        message = (
            f"all {labels.refused} rows were refused ({where}{first.message}); not cut as "
            "background"
        )
        raise SourceRefused("L13", message, path)


def within_frame(
    instances: Instances, width: int, height: int, file: LabelFile
) -> tuple[Instances, int, list[Finding]]:
    """Labels cut to the image, how many lie outside, and findings for what reached out.

    An OBB keeps its corners, since a rectangle cut to the frame is none; but only what is
    inside the image counts as its area.
    """
    frame = np.array([0.0, 0.0, width, height])
    beyond = np.maximum(frame[:2] - instances.boxes[:, :2], instances.boxes[:, 2:] - frame[2:])
    over = beyond.max(axis=1, initial=0.0)
    if not (over > 0).any():
        return instances, 0, []
    seen = clip(instances, frame, obb="full")
    gone = seen.visible <= 0
    far = (over > ROUNDING) & ~gone
    findings = []
    lines = file.lines() if (gone | far).any() else None
    for code, which in (("L05", gone), ("L08", far)):
        for i in np.flatnonzero(which):
            row = int(instances.row[i])
            line = None if lines is None else lines[row]
            what = f"annotation {row} " if line is None else ""
            words = (
                "lies outside the image"
                if code == "L05"
                else f"reaches {over[i]:.1f} px past the frame; cut there"
            )
            findings.append(Finding(file.key, code, what + words, line))
    if instances.task == "obb":
        seen = replace(instances, area=instances.area * np.where(gone, 1.0, seen.visible))
    else:
        whole = box.area(seen.boxes) if seen.rings is None else instances.area * seen.visible
        seen = replace(seen, visible=np.ones(len(seen)), area=whole)
    return seen.take(~gone), int(gone.sum()), condensed(findings)
