"""Datasets with an annotation file for each image (Pascal VOC, labelme, DOTA), and CSV."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.datasets.annotated_sets import Listed, Place, Sources, root_of
from tiler.datasets.dataset import Dataset, Kind, Source, label_of, relative
from tiler.datasets.image_files import file_size, has_image_suffix
from tiler.datasets.locating import Locator
from tiler.datasets.split_names import SPLIT_NAMES, split_of_file, split_of_folder
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import annotation_csv, dota_labels, labelme, voc, yolo
from tiler.formats.annotated import AnnotatedImage
from tiler.formats.text_files import read_bytes, read_text, reason
from tiler.options import DatasetOptions

if TYPE_CHECKING:
    Read = Callable[[bytes, str], AnnotatedImage]

READERS: dict[Kind, tuple[Read, int]] = {
    "Pascal VOC": (voc.read, voc.MAX_BYTES),
    "labelme": (labelme.read, labelme.MAX_BYTES),
    "DOTA": (dota_labels.read, yolo.MAX_BYTES),
}
CLASS_LISTS = ("classes.txt", "labels.txt", "predefined_classes.txt")
IMAGE_FOLDERS = ("JPEGImages", "images")
MAX_LIST = 1_000_000  # bytes


def of_files(
    kind: Kind, data: Path, files: Sequence[Path], place: Place, options: DatasetOptions
) -> Dataset:
    """The dataset of annotation files of which each is for one image.

    Images in the same folders that have no annotation file are background.

    Args:
        data: what was given: a file, or the folder of all.

    Raises:
        TilerError: none of their images was found.
    """
    root = root_of(data, place.images)
    base = data.absolute() if data.is_dir() else data.absolute().parent
    splits = _image_sets(base) or _image_sets(base.parent)
    listed = []
    for file in files:
        image = read_annotations(kind, file, label_of(file, root), options.point_size)
        split = _split(options, splits, file.stem, relative(str(file.absolute()), base))
        folder = relative(str(file.absolute().parent), root)
        near = _near(folder)
        listed.append(Listed(image, split, near, file.stem))
    sources = Sources(Locator(root), place.absent)
    sources.add_all(listed)
    sources.require(data)
    if data.is_dir():
        _add_background(sources, options, splits)
    return _dataset(kind, data, root, sources, base)


def _near(folder: str) -> tuple[str, ...]:
    """Folders in which the image of an annotation file may be: its own, those in which one folder
    of the path is that of the images, and these.

    >>> _near("Annotations/train")[:3]
    ('Annotations/train', 'Annotations/JPEGImages', 'Annotations/images')
    >>> _near("Annotations/train")[3:]
    ('JPEGImages/train', 'images/train', 'JPEGImages', 'images')
    """
    if os.path.isabs(folder):  # the file lies elsewhere
        folder = ""
    parts = folder.split("/")
    beside = []
    for index in reversed(range(len(parts))):
        for name in IMAGE_FOLDERS:
            beside.append("/".join([*parts[:index], name, *parts[index + 1 :]]))
    return tuple(dict.fromkeys((folder, *beside, *IMAGE_FOLDERS)))


def of_csv(data: Path, place: Place, options: DatasetOptions) -> Dataset:
    """The dataset of a CSV with a row for each object.

    Raises:
        TilerError: it is no such CSV, or none of its images was found.
    """
    root = root_of(data, place.images)
    text = read_text(data, annotation_csv.MAX_BYTES)
    sources = Sources(Locator(root), place.absent)
    for image in annotation_csv.read(text, label_of(data, root), options.point_size):
        image.file = label_of(data, root)
        split = _split(options, {}, "", "") or split_of_file(data.name) or ""
        sources.add(Listed(image, split, IMAGE_FOLDERS))
    sources.report_moved()
    sources.require(data)
    return _dataset("CSV", data, root, sources, data.absolute().parent)


def _dataset(kind: Kind, data: Path, root: Path, sources: Sources, base: Path) -> Dataset:
    found = sources.sorted()
    names = _numbered([s.entry for s in found if s.entry is not None], base, sources.findings)
    return Dataset(
        data,
        root,
        names,
        found,
        (),
        sources.findings,
        kind=kind,
        task="obb" if kind == "DOTA" else None,
        splits=sources.splits,
    )


def read_annotations(kind: Kind, file: Path, label: str, point_size: float = 0) -> AnnotatedImage:
    """The content of an annotation file; that of a broken one is a finding, so that its image is
    not taken for background."""
    read, limit = READERS[kind]
    try:
        data = read_bytes(file, limit)
        if kind == "labelme":
            return labelme.read(data, label, point_size)
        return read(data, label)
    except OSError as error:
        message = f"cannot be read: {reason(error)}"
    except TilerError as error:
        message = str(error).removeprefix(f"{label}: ")
    return AnnotatedImage("", None, findings=[Finding(label, "L01", message)], file=label)


def _image_sets(base: Path) -> dict[str, str]:
    """The split of each image, by its stem, as VOC's lists in ImageSets/Main have it."""
    splits: dict[str, str] = {}
    folder = base / "ImageSets" / "Main"
    for name, split in SPLIT_NAMES.items():
        path = folder / f"{name}.txt"
        if not os.path.isfile(path):
            continue
        for line in read_text(path, MAX_LIST).splitlines():
            words = line.split()
            if words:
                splits[words[0]] = split
    return splits


def _split(options: DatasetOptions, splits: dict[str, str], stem: str, label: str) -> str:
    if options.as_split != "auto":
        return options.as_split
    return splits.get(stem) or split_of_folder(os.path.dirname(label)) or ""


def _add_background(sources: Sources, options: DatasetOptions, splits: dict[str, str]) -> None:
    """Images beside the annotated ones that have no annotation file."""
    root = sources.locator.root
    known = {key for key, _ in sources.found}
    for folder in sorted({os.path.dirname(key) for key in known}):
        for name in _image_names(root / folder):
            key = f"{folder}/{name}" if folder else name
            if key in known:
                continue
            split = _split(options, splits, os.path.splitext(name)[0], key) or "train"
            size = file_size(root / key)
            entry = AnnotatedImage(key, None)
            sources.found[key, split] = Source(key, split, bytes=size, entry=entry)


def _image_names(folder: Path) -> Iterator[str]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if has_image_suffix(entry.name) and not entry.name.startswith(".") and entry.is_file():
            yield entry.name


def _numbered(
    images: Sequence[AnnotatedImage], base: Path, findings: list[Finding]
) -> tuple[str, ...]:
    """The class names of the objects, which get their number: in the order of a list of classes
    beside the annotations, else by name.

    Raises:
        TilerError: there are no objects, so no classes either.
    """
    used = {str(a.category_id) for image in images for a in image.annotations}
    names = class_list(base)
    missing = sorted(used.difference(names))
    if names and missing:
        message = f"not in the list of classes, so numbered after them: {', '.join(missing)[:200]}"
        findings.append(Finding("", "Y07", message))
    names = (*names, *missing)
    if not names:
        rejected = [finding for image in images for finding in image.findings]
        why = because(rejected)
        raise TilerError(f"{base}: no objects, and no classes.txt that names classes{why}")
    number_by_name(images, names)
    return names


def number_by_name(images: Sequence[AnnotatedImage], names: Sequence[str]) -> None:
    """Give the objects of images their class, by its name."""
    place = {name: number for number, name in enumerate(names)}
    for image in images:
        for annotation in image.annotations:
            annotation.class_id = place.get(str(annotation.category_id), -1)


def class_list(folder: Path) -> tuple[str, ...]:
    """The class names that a file such as classes.txt lists, one a line; none without one."""
    for name in CLASS_LISTS:
        path = folder / name
        if os.path.isfile(path):
            lines = [line.strip() for line in read_text(path, MAX_LIST).splitlines()]
            # labelme lists these two, which are no classes
            return tuple(
                line for line in lines if line and line not in ("__ignore__", "_background_")
            )
    return ()
