"""Splits without any labels: these are more often labels in an unexpected place than background."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tiler.datasets.dataset import Dataset, Source, label_path, relative
from tiler.errors import TilerError
from tiler.findings import Finding, because

TRAINED_ON = ("train", "val")
LABEL_SUFFIXES = (".txt", ".xml", ".json", ".csv")
ANNOTATIONS = (".json", ".xml", ".csv")
MOST_FILES = 200_000  # looked at, to find labels in other places
FIRST = 100  # images whose labels are looked for


def findings(dataset: Dataset) -> list[Finding]:
    """An error for train or val, and a warning for another split, that has no labels at all."""
    if not dataset.labelled or not dataset.rows:
        return []
    found = []
    for split in dataset.splits:
        sources = [source for source in dataset.sources if source.split == split]
        if _has_labels(dataset, sources):
            continue
        code = "Y06" if split in TRAINED_ON else "Y08"
        message = f"split {split}: {_message(dataset, sources)}"
        found.append(Finding(dataset.label, code, message))
    return found


def _has_labels(dataset: Dataset, sources: Sequence[Source]) -> bool:
    """Whether an image has a label file, even if it is empty; in COCO, an annotation."""
    for source in sources:
        if source.entry is None:
            if os.path.lexists(label_path(os.path.join(dataset.root, source.key))):
                return True
        elif (
            source.entry.annotations
            or source.entry.findings
            or (dataset.kind != "COCO" and source.entry.file)
        ):
            return True
    return False


def _message(dataset: Dataset, sources: Sequence[Source]) -> str:
    if sources[0].entry is not None:
        why = because([finding for finding in dataset.findings if finding.level == "error"])
        return f"no annotation for any of its images ({len(sources)}){why}"
    path = label_path(os.path.join(dataset.root, sources[0].key))
    example = relative(path, dataset.root)
    others = elsewhere(dataset, sources) or _other_annotations(dataset.root)
    if dataset.masks is not None:
        others += "; class masks are for tiler split and check"
    return f"no label file for any of its images ({len(sources)}), such as {example}{others}"


def elsewhere(dataset: Dataset, sources: Sequence[Source]) -> str:
    """Where files with the names of these images are instead, in words; "" if there are none."""
    stems = set()
    for source in sources[:FIRST]:
        stems.add(os.path.splitext(os.path.basename(source.key))[0])
    places: Counter[str] = Counter()
    for path in islice(_files(dataset.root), MOST_FILES):
        folder, name = os.path.split(path)
        stem, suffix = os.path.splitext(name)
        if stem in stems and suffix.lower() in LABEL_SUFFIXES:
            places[relative(f"{folder}{os.sep}*{suffix}", dataset.root)] += 1
    if not places:
        return ""
    images = {os.path.dirname(source.key) for source in sources[:FIRST]}
    place, count = places.most_common(1)[0]
    where = place
    if os.path.dirname(place) in images:
        where = f"{place}, beside the images"
    return f"; but {count} files have the names of images in {where}"


def _other_annotations(root: Path) -> str:
    """The first file that may hold annotations of many images, in words; "" if there is none."""
    for path in islice(_files(root), MOST_FILES):
        if os.path.splitext(path)[1].lower() in ANNOTATIONS:
            return f"; but there is {relative(path, root)}"
    return ""


def _files(root: Path) -> Iterator[str]:
    for here, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            yield os.path.join(here, name)


def settle(dataset: Dataset, as_background: bool) -> list[Finding]:
    """What to say of splits without labels, where --unlabelled does not take them for background.

    Raises:
        TilerError: train or val is such a split.
    """
    if as_background:
        return []
    found = findings(dataset)
    for finding in found:
        if finding.level == "error":
            raise TilerError(
                f"{dataset.file}: {finding.message}; --unlabelled takes them for background"
            )
    return found
