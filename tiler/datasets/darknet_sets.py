"""YOLO datasets without a dataset.yaml: a list of classes, with images and label files in folders.

Label Studio, labelImg, CVAT and Darknet write these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tiler.datasets.dataset import Dataset, Source, relative
from tiler.datasets.file_sets import MAX_LIST, class_list
from tiler.datasets.image_files import MAX_LIST_BYTES, file_size, has_image_suffix, walk
from tiler.datasets.locating import Locator, NotLocated
from tiler.datasets.split_names import SPLIT_NAMES, split_of_folder
from tiler.datasets.yolo_sets import orphans
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import manifest
from tiler.formats.text_files import read_text
from tiler.options import DatasetOptions

NAMES = ("obj.names", "classes.names")
FOLDERS = ("", "labels", "data", "labels/train")  # where a list of classes may lie


def has_classes(folder: Path) -> bool:
    """Whether there is a list of classes, as such datasets have one."""
    return _data_file(folder) is not None or bool(_classes(folder))


def of_folder(data: Path, options: DatasetOptions) -> Dataset:
    """The dataset in a folder.

    Raises:
        TilerError: its lists cannot be read, or there are no images.
    """
    root = data.absolute()
    findings: list[Finding] = []
    settings = _settings(root)
    names = _classes(root)
    if "names" in settings:
        names = _lines(_existing(root, settings["names"]))
    if not names:
        raise TilerError(f"{data}: no classes.txt or obj.names: the classes are not known")
    found = dict(_of_lists(root, settings, findings))
    if not found:
        found = dict(_of_folders(root))
    sources = []
    for key, split in sorted(found.items()):
        if options.as_split != "auto":
            split = options.as_split
        sources.append(Source(key, split, bytes=file_size(root / key)))
    if not sources:
        raise TilerError(f"{data}: no images there{because(findings)}")
    folders = tuple(sorted({(root / source.key).parent for source in sources}))
    findings += orphans(folders, sources, root)
    splits = tuple(dict.fromkeys(source.split for source in sources))
    return Dataset(data, root, names, sources, folders, findings, splits=splits)


def _classes(folder: Path) -> tuple[str, ...]:
    """The names in a list of classes, wherever in the folder such lists are written."""
    for name in FOLDERS:
        here = folder / name
        names = class_list(here)
        for file in NAMES:
            if not names and os.path.isfile(here / file):
                names = _lines(here / file)
        if names:
            return names
    return ()


def _lines(file: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in read_text(file, MAX_LIST).splitlines()]
    return tuple(line for line in lines if line)


def _data_file(folder: Path) -> Path | None:
    """Darknet's obj.data, which names the lists of images and of classes."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".data")
    except OSError:
        return None
    return files[0] if len(files) == 1 else None


def _settings(root: Path) -> dict[str, str]:
    """The `key = value` lines of obj.data; none without one."""
    file = _data_file(root)
    settings = {}
    if file is not None:
        for line in _lines(file):
            key, equals, value = line.partition("=")
            if equals:
                settings[key.strip()] = value.strip()
    return settings


def _existing(root: Path, name: str) -> Path:
    """A file that obj.data names; CVAT writes `data/obj.names` for obj.names.

    Raises:
        TilerError: there is no such file.
    """
    for path in (root / name, root / name.partition("/")[2]):
        if os.path.isfile(path):
            return path
    raise TilerError(f"{root}: no {name}, which its .data file names")


def _of_lists(
    root: Path, settings: dict[str, str], findings: list[Finding]
) -> Iterator[tuple[str, str]]:
    """Path and split of the images in the lists that obj.data names."""
    locator = Locator(root)
    for key, split in SPLIT_NAMES.items():
        if key not in settings:
            continue
        file = _existing(root, settings[key])
        for number, line in enumerate(read_text(file, MAX_LIST_BYTES).splitlines(), 1):
            name = line.strip()
            if not has_image_suffix(name):
                continue
            try:
                yield locator.locate(name).key, split
            except NotLocated as error:
                label = relative(str(file), root)
                findings.append(Finding(label, "Y04", f"{name}: {error}", number))


def _of_folders(root: Path) -> Iterator[tuple[str, str]]:
    """Path and split of every image under the root, by the names of its folders."""
    for path, _ in walk(root, [], root, without=manifest.NAME):
        key = relative(path, root)
        yield key, split_of_folder(os.path.dirname(key)) or "train"
