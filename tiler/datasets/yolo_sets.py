"""Datasets with a dataset.yaml, and a label file for each image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.datasets.dataset import Dataset, Source, label_path, relative
from tiler.datasets.file_sets import number_by_name, read_annotations
from tiler.datasets.image_files import SEEN, listed, walk
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import dataset_yaml, dota_labels
from tiler.formats.annotated import AnnotatedImage
from tiler.formats.text_files import open_regular

if TYPE_CHECKING:
    from tiler.formats.dataset_yaml import DatasetYaml


def of_yaml(given: DatasetYaml, needed: Sequence[str] = ()) -> Dataset:
    """The dataset of a dataset.yaml.

    Args:
        needed: splits that must have images if the dataset has them.

    Raises:
        TilerError: such a split has none.
    """
    findings = list(given.findings)
    sources: list[Source] = []
    folders: list[Path] = []
    for split, entries in given.splits.items():
        images = _images(split, entries, given.root, findings)
        if not images:
            where = ", ".join(str(entry) for entry in entries) or "nothing"
            if split in needed:
                why = because(findings)
                raise TilerError(f"{given.file}: {split}: no images in {where}{why}")
            if entries:
                why = f"no images in {where}"
                findings.append(dataset_yaml.missing_split(given.file.name, split, why))
        sources += [Source(key, split, bytes=size) for key, size in images.items()]
        folders += [entry for entry in entries if entry.is_dir()]
    findings += orphans(folders, sources, given.root)
    if _is_dota(sources, given.root):
        return _of_dota(given, sources, folders, findings)
    return Dataset(
        given.file,
        given.root,
        given.names,
        sorted(sources, key=lambda source: (source.key, source.split)),
        tuple(folders),
        findings,
        given.kpt_shape,
        given.flip_idx,
        given.channels,
        splits=tuple(dict.fromkeys(source.split for source in sources)),
        masks=given.masks,
    )


def _is_dota(sources: Sequence[Source], root: Path) -> bool:
    """Whether the first label file with content is DOTA's."""
    for source in sources:
        file = Path(label_path(os.path.join(root, source.key)))
        try:
            with open_regular(file) as opened:
                head = opened.read(4096)
        except OSError:
            continue
        if head.strip():
            return dota_labels.is_dota(head)
    return False


def _of_dota(
    given: DatasetYaml, sources: Sequence[Source], folders: Sequence[Path], findings: list[Finding]
) -> Dataset:
    """A dataset.yaml whose label files have DOTA's pixels and class names."""
    read = []
    for source in sources:
        path = label_path(os.path.join(given.root, source.key))
        label = relative(path, given.root)
        if os.path.lexists(path):
            entry = read_annotations("DOTA", Path(path), label)
        else:
            entry = AnnotatedImage("", None)
        read.append(replace(source, entry=entry))
    number_by_name([source.entry for source in read if source.entry is not None], given.names)
    message = "the label files are DOTA's: pixels and class names"
    findings.append(Finding(given.file.name, "Y07", message))
    return Dataset(
        given.file,
        given.root,
        given.names,
        sorted(read, key=lambda source: (source.key, source.split)),
        tuple(folders),
        findings,
        kind="DOTA",
        task="obb",
        splits=tuple(dict.fromkeys(source.split for source in read)),
    )


def _images(
    split: str, entries: Sequence[Path], root: Path, findings: list[Finding]
) -> dict[str, int]:
    """The images of a split by their key, with their size in bytes.

    Args:
        entries: folders, and text lists of images.
    """
    sizes: dict[str, int] = {}
    for entry in entries:
        if entry.is_dir():
            images = walk(entry, findings, root)
        else:
            images = listed(entry, root, findings)
        for path, size in images:
            key = relative(path, root)
            if key in sizes:
                findings.append(Finding(key, "P05", f"listed twice in {split}; it is cut once"))
            sizes[key] = size
    return sizes


def orphans(folders: Sequence[Path], sources: Sequence[Source], root: Path) -> list[Finding]:
    """Label files that hold rows but have no image, in the label folders of some image folders and
    beside these.
    """
    label_folders = {_label_root(str(folder)) for folder in folders}
    paths = set().union(*map(_text_files, label_folders))
    known = {label_path(os.path.join(root, source.key)) for source in sources}
    findings = []
    for path in sorted(paths - known):
        if holds_rows(path) and not _has_image(path):
            message = f"a label file without an image{_twin(path)}"
            findings.append(Finding(relative(path, root), "P02", message))
    return findings + _misplaced(sources, root)


def _misplaced(sources: Sequence[Source], root: Path) -> list[Finding]:
    """Labels of images that have no label file, beside them or with another case of the suffix."""
    findings = []
    for source in sources:
        image = os.path.join(root, source.key)
        expected = label_path(image)
        if os.path.lexists(expected):
            continue
        stem = os.path.splitext(expected)[0]
        beside = os.path.splitext(image)[0]
        for path in (f"{stem}.TXT", f"{stem}.Txt", f"{beside}.txt", f"{beside}.TXT"):
            if holds_rows(path):
                where = relative(expected, root)
                message = f"a label file that the trainer does not find; it looks for {where}"
                findings.append(Finding(relative(path, root), "P02", message))
                break
    return findings


def _label_root(folder: str) -> str:
    """The folder of all labels, such as labels/ for images/train; else that of this folder."""
    path = os.path.dirname(label_path(f"{folder}/x"))
    labels = f"{path}/".rpartition("/labels/")[0]
    if path == folder or not labels:
        return path
    return f"{labels}/labels"


def _has_image(path: str) -> bool:
    """Whether the image of a label file is there, perhaps in a split that the dataset does not
    name."""
    stem = "/images/".join(path.rsplit("/labels/", 1)).removesuffix(".txt")
    return any(os.path.exists(stem + suffix) for suffix in SEEN)


def _text_files(folder: str) -> set[str]:
    """Paths, with `/`, of the text files under a folder."""
    paths = set()
    for here, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".txt"):
                paths.add(os.path.join(here, name).replace(os.sep, "/"))
    return paths


def holds_rows(path: str | Path) -> bool:
    """Whether the first line looks like a label: class lists and notes lie among labels too."""
    try:
        with open_regular(path) as file:
            lines = file.read(4096).splitlines()
    except OSError:
        return False
    for line in lines:
        words = line.split()
        if words:
            numeric = all(re.fullmatch(rb"[-+.\deE]+", word) for word in words[:5])
            return numeric and len(words) >= 5
    return False


def _twin(path: str) -> str:
    """A file with the image's name that the trainer does not read (a GIF, say), in words."""
    image_path = "/images/".join(path.rsplit("/labels/", 1))
    folder, stem = os.path.split(image_path.removesuffix(".txt"))
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    for name in names:
        base, suffix = os.path.splitext(name)
        if base == stem and suffix != ".txt":
            return f" ({name} is not of a format that the trainer reads)"
    return ""
