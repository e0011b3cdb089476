"""Datasets with a dataset.yaml, and a label file for each image."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.datasets.dataset import Dataset, Source, label_path, relative
from tiler.datasets.image_files import listed, walk
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import dataset_yaml
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
    findings += _orphans(folders, sources, given.root)
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


def _orphans(folders: Sequence[Path], sources: Sequence[Source], root: Path) -> list[Finding]:
    """Label files that hold rows but have no image, in the label folders of some image folders."""
    label_folders = {os.path.dirname(label_path(f"{folder}/x")) for folder in folders}
    paths = set().union(*map(_text_files, label_folders))
    known = {label_path(os.path.join(root, source.key)) for source in sources}
    findings = []
    for path in sorted(paths - known):
        if _holds_rows(path):
            message = f"a label file without an image{_twin(path)}"
            findings.append(Finding(relative(path, root), "P02", message))
    return findings


def _text_files(folder: str) -> set[str]:
    """Paths, with `/`, of the text files under a folder."""
    paths = set()
    for here, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".txt"):
                paths.add(os.path.join(here, name).replace(os.sep, "/"))
    return paths


def _holds_rows(path: str) -> bool:
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
