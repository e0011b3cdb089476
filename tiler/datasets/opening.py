"""What DATA is: each kind of dataset is recognised here, and opened by its own module."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tiler.datasets import (
    box_layouts,
    coco_sets,
    darknet_sets,
    file_sets,
    frames,
    gis_sets,
    image_sets,
    ndjson_sets,
    unlabelled,
    yolo_sets,
)
from tiler.datasets.annotated_sets import Place
from tiler.datasets.dataset import Dataset, Kind, named
from tiler.datasets.image_files import has_image_suffix
from tiler.errors import TilerError
from tiler.formats import annotation_csv, dataset_yaml, dota_labels, manifest, ndjson
from tiler.formats.text_files import open_regular
from tiler.options import DatasetOptions

HEAD = 65_536  # bytes of a file by which its format is told
MOST_FILES = 2_000_000  # looked at in a folder
EXAMPLES = 20  # files of a suffix that are opened to tell their format
COCO_KEYS = (b'"images"', b'"annotations"', b'"annotation"', b'"bbox"')


def find(
    data: Path,
    images: Path | None = None,
    options: DatasetOptions | None = None,
    needed: Sequence[str] = ("train", "val"),
    absent: bool = False,
) -> Dataset:
    """A dataset and its images.

    Args:
        data: a dataset.yaml, annotation files of another format, a folder with any of these, or
            images alone.
        images: the folder of the images, where annotation files do not lie with them.
        needed: splits that must have images if the dataset has them.
        absent: images that annotations describe may be absent, as long as nobody reads them.

    Raises:
        TilerError: it cannot be used, or could be several kinds of dataset.
    """
    options = options or DatasetOptions()
    dataset = _opened(data, Place(images, absent), options, needed)
    if options.labels:
        dataset = gis_sets.labelled(dataset, options)
    _require_in_effect(dataset, options)
    box_layouts.require_pixels(dataset, corners=options.bbox == "auto")
    dataset.findings.extend(frames.settle(dataset, options.frame))
    return named(dataset)


def listed(data: Path) -> Dataset:
    """A dataset as it describes itself: no image is looked at, and images may be absent.

    Raises:
        TilerError: it cannot be read, or could be several kinds of dataset.
    """
    return named(_opened(data, Place(absent=True), DatasetOptions(), ()))


def _require_in_effect(dataset: Dataset, options: DatasetOptions) -> None:
    """Raises:
    TilerError: an option that says nothing about such a dataset.
    """
    if options.bbox != "auto" and dataset.kind != "COCO":
        raise TilerError(f"--bbox {options.bbox}: only the boxes of COCO can be two corners")
    only_labels = dataset.kind in ("YOLO", "images") and dataset.masks is None
    if options.frame != "auto" and only_labels:
        raise TilerError(f"--frame {options.frame}: labels of YOLO are for the upright image")


def _opened(data: Path, place: Place, options: DatasetOptions, needed: Sequence[str]) -> Dataset:
    if os.path.isdir(data):
        return _of_folder(data, place, options, needed)
    if os.path.exists(data):
        return _of_file(data, place, options, needed)
    matches = sorted(map(Path, glob.glob(str(data), recursive=True)))
    if not matches:
        raise TilerError(f"{data}: no such file or folder")
    return _of_glob(data, matches, place, options)


def _of_file(file: Path, place: Place, options: DatasetOptions, needed: Sequence[str]) -> Dataset:
    """The dataset of one file."""
    suffix = file.suffix.lower()
    if has_image_suffix(file.name):
        _require_alone(place, options)
        return image_sets.of_images(file, [file])
    if suffix == ".json" and not is_labelme(file):
        return coco_sets.of_files(file, [file], place, options)
    if suffix == ".json":
        return file_sets.of_files("labelme", file, [file], place, options)
    if suffix == ".xml":
        return file_sets.of_files("Pascal VOC", file, [file], place, options)
    if suffix == ".csv":
        return file_sets.of_csv(file, place, options)
    if suffix == ".ndjson" or ndjson.is_ndjson(_head(file)):
        return ndjson_sets.of_file(file, place, options)
    if suffix in (".yaml", ".yml"):
        return _of_yaml(file, place, options, needed)
    return _of_text(file, place, options)


def _of_text(file: Path, place: Place, options: DatasetOptions) -> Dataset:
    """The dataset of a text file: a list of images, labels of DOTA, a list of classes, or YAML."""
    head = _head(file)
    if file.suffix == ".data":
        return darknet_sets.of_folder(file.parent, options)
    if dota_labels.is_dota(head):
        return file_sets.of_files("DOTA", file, [file], place, options)
    lines = [line.strip() for line in head.decode("utf-8", "replace").splitlines()]
    if any(map(has_image_suffix, lines)):
        _require_alone(place, options)
        return image_sets.of_list(file)
    if file.name in (*file_sets.CLASS_LISTS, *darknet_sets.NAMES):
        raise TilerError(f"{file}: a list of classes; give its folder, {file.parent}")
    return _of_yaml(file, place, options, ())


def _of_yaml(data: Path, place: Place, options: DatasetOptions, needed: Sequence[str]) -> Dataset:
    """The dataset of a dataset.yaml, or of the one in a folder."""
    _reject_images(place.images)
    _require_no_split(options, "the dataset.yaml says which images are train and val")
    return yolo_sets.of_yaml(dataset_yaml.read(data), needed)


def _of_glob(data: Path, matches: Sequence[Path], place: Place, options: DatasetOptions) -> Dataset:
    """The dataset of the files that a pattern matches; all are of one kind."""
    if all(has_image_suffix(path.name) for path in matches):
        _require_alone(place, options)
        return image_sets.of_images(data, matches)
    listing = _Listing()
    for path in matches:
        if path.is_file():
            listing.add(path)
    return _of_listing(data, listing, place, options)


def _reject_images(images: Path | None) -> None:
    if images is not None:
        raise TilerError(
            "--images goes with annotations such as COCO's; this dataset names its images itself"
        )


def _of_images(folder: Path, place: Place, options: DatasetOptions) -> Dataset:
    """The images in a folder, which are meant to have no labels.

    Raises:
        TilerError: there are files with their names, which may be labels.
    """
    _require_alone(place, options)
    dataset = image_sets.of_folder(folder)
    others = unlabelled.elsewhere(dataset, dataset.sources)
    if others and not options.unlabelled and not options.labels:
        raise TilerError(
            f"{folder}: no labels of a format that is read{others}; --unlabelled cuts the images "
            "alone"
        )
    return dataset


def _require_alone(place: Place, options: DatasetOptions) -> None:
    """Raises:
    TilerError: an option that says nothing about images without labels.
    """
    _reject_images(place.images)
    if not options.labels:  # a vector file brings labels, and so splits
        _require_no_split(options, "images without labels belong to no split")


def _require_no_split(options: DatasetOptions, why: str) -> None:
    if options.as_split != "auto":
        raise TilerError(f"--as {options.as_split}: {why}")


@dataclass(slots=True)
class _Listing:
    """The files of a dataset, by their suffix.

    Attributes:
        images: the names of all images, without suffix.
    """

    by_suffix: dict[str, list[Path]] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)

    def add(self, path: Path) -> None:
        if has_image_suffix(path.name):
            self.images.add(path.stem)
        else:
            self.by_suffix.setdefault(path.suffix.lower(), []).append(path)

    def of(self, suffix: str, is_kind: Callable[[Path], bool], every: bool = False) -> list[Path]:
        """The files of a suffix, if the first ones are of a kind; only those that are with
        `every`."""
        files = self.by_suffix.get(suffix, [])
        if every:
            return [file for file in files if is_kind(file)]
        return files if any(map(is_kind, files[:EXAMPLES])) else []

    def of_images(self, suffix: str, is_kind: Callable[[Path], bool]) -> list[Path]:
        """The files of a kind, with those beside them that have an image's name: a broken one is
        reported, and its image is not taken for background."""
        files = self.by_suffix.get(suffix, [])
        certain = set(filter(is_kind, files))
        folders = {file.parent for file in certain}
        chosen = []
        for file in files:
            beside = file.parent in folders and file.stem in self.images
            if file in certain or beside:
                chosen.append(file)
        return chosen


def _of_folder(
    folder: Path, place: Place, options: DatasetOptions, needed: Sequence[str]
) -> Dataset:
    """The dataset in a folder."""
    _require_no_shards(folder)
    if has_yaml(folder):
        return _of_yaml(folder, place, options, needed)
    listing = _Listing()
    for number, path in enumerate(_files(folder)):
        if number >= MOST_FILES:
            raise TilerError(f"{folder}: more than {MOST_FILES} files; name the annotations")
        listing.add(path)
    return _of_listing(folder, listing, place, options)


def _require_no_shards(folder: Path) -> None:
    """Raises:
    TilerError: the folder is an output of tiler with --layout tar.
    """
    try:
        layout = manifest.read_head(folder / manifest.NAME).layout
    except (OSError, TilerError):
        return
    if layout == "tar":
        what = "its tiles are in shards (--layout tar), which webdataset reads"
        raise TilerError(f"{folder}: {what}; give the dataset that they were cut from")


def has_yaml(data: Path) -> bool:
    """Whether it is a YAML file, or a folder with one: a dataset in YOLO's layout."""
    paths = data.iterdir() if os.path.isdir(data) else [data]
    return any(path.suffix.lower() in (".yaml", ".yml") for path in paths)


def _files(folder: Path) -> Iterator[Path]:
    """Every file under a folder, in order; outputs of tiler are passed over."""
    for here, folders, names in os.walk(folder):
        if manifest.NAME in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(here, name)


def _of_listing(data: Path, listing: _Listing, place: Place, options: DatasetOptions) -> Dataset:
    """The dataset of some files, of the one kind that they can be.

    Raises:
        TilerError: they can be several, or none.
    """
    readings: dict[Kind, list[Path]] = {
        "COCO": listing.of(".json", _is_coco, every=True),
        "labelme": listing.of_images(".json", is_labelme),
        "Pascal VOC": listing.of(".xml", _is_voc),
        "DOTA": listing.of_images(".txt", _is_dota),
        "CSV": listing.of(".csv", _is_csv, every=True),
        "NDJSON": listing.of(".ndjson", _is_ndjson, every=True),
        "YOLO": listing.of(".txt", _is_yolo),
    }
    kinds = [kind for kind, files in readings.items() if files]
    if kinds == [] and darknet_sets.has_classes(data):
        return darknet_sets.of_folder(data, options)
    if kinds == [] and listing.images:
        return _of_images(data, place, options)
    if kinds == []:
        raise TilerError(
            f"{data}: no dataset.yaml there, and no annotations or images of another kind"
        )
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({readings[kind][0]})" for kind in kinds)
        raise TilerError(f"{data}: annotations of several kinds: {found}; name those to be read")
    return _of_kind(kinds[0], data, readings[kinds[0]], place, options)


def _of_kind(
    kind: Kind, data: Path, files: list[Path], place: Place, options: DatasetOptions
) -> Dataset:
    if kind == "COCO":
        return coco_sets.of_files(data, files, place, options)
    if kind in ("CSV", "NDJSON"):
        if len(files) > 1:
            raise TilerError(f"{data}: {len(files)} {kind} files; name one")
        return _of_file(files[0], place, options, ())
    if kind == "YOLO":
        _reject_images(place.images)
        return darknet_sets.of_folder(data, options)
    return file_sets.of_files(kind, data, files, place, options)


def _head(file: Path) -> bytes:
    """The beginning of a file; nothing of one that cannot be read."""
    try:
        with open_regular(file) as opened:
            return opened.read(HEAD)
    except OSError:
        return b""


def _is_coco(file: Path) -> bool:
    head = _head(file)
    is_object = head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{")
    return is_object and any(key in head for key in COCO_KEYS) and not is_labelme(file)


def is_labelme(file: Path) -> bool:
    head = _head(file)
    return b'"shapes"' in head and b'"images"' not in head


def _is_voc(file: Path) -> bool:
    return b"<annotation" in _head(file)


def _is_dota(file: Path) -> bool:
    return dota_labels.is_dota(_head(file))


def _is_yolo(file: Path) -> bool:
    return yolo_sets.holds_rows(file) and not _is_dota(file)


def _is_ndjson(file: Path) -> bool:
    return ndjson.is_ndjson(_head(file))


def _is_csv(file: Path) -> bool:
    first = _head(file).decode("utf-8", "replace").partition("\n")[0]
    return annotation_csv.has_columns(first)
