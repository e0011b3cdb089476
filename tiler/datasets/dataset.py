"""A dataset: its images, where their labels are, and what their tiles are called."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiler.findings import Finding
from tiler.formats.mask_spec import MaskSpec

if TYPE_CHECKING:
    from tiler.formats.annotated import AnnotatedImage, Annotation
    from tiler.types import Bools, Floats, Task

Kind = Literal["YOLO", "COCO", "Pascal VOC", "labelme", "DOTA", "CSV", "NDJSON", "GIS", "images"]

LONGEST_STEM = 180  # bytes; a tile's name adds its window, and file systems allow 255
FAR = 10**9  # px; no image is that large


@dataclass(frozen=True, slots=True)
class Block:
    """What a split has of an image that is divided among splits: some of its columns or rows.

    Attributes:
        axis: 0 for columns, 1 for rows.
        inside: the first pixel, and the one after the last, between which its tiles lie.
        home: likewise, where objects and tiles of guard bands count for the split. The homes of an
            image's blocks leave no gap: they meet in the middle of the bands, and the outer ones
            end at -FAR and FAR.
    """

    axis: int
    inside: tuple[int, int]
    home: tuple[int, int]

    @property
    def first(self) -> bool:
        """Whether it is the first one of its image."""
        return self.home[0] == -FAR

    def holds(self, boxes: Floats) -> Bools:
        """`(N,)` True for boxes `(N, 4)` xyxy that lie inside as a whole."""
        starts, ends = boxes[:, self.axis], boxes[:, self.axis + 2]
        return (starts >= self.inside[0]) & (ends <= self.inside[1])

    def is_home(self, boxes: Floats) -> Bools:
        """`(N,)` True for boxes `(N, 4)` xyxy whose centre is at home."""
        centres = (boxes[:, self.axis] + boxes[:, self.axis + 2]) / 2
        return (centres >= self.home[0]) & (centres < self.home[1])


@dataclass(frozen=True, slots=True)
class Source:
    """One image.

    Attributes:
        key: its path relative to the root (with `/`), or absolute when it lies outside.
        split: train, val, test or minival.
        stem: the beginning of the names of its tiles, unique in the dataset.
        bytes: size of the file.
        entry: its objects, where they are not in a label file of its own.
        block: the part of it that the split has; None for all of it.
        mask: path of its class mask, like `key`; "" where none is used.
    """

    key: str
    split: str
    stem: str = ""
    bytes: int = 0
    entry: AnnotatedImage | None = None
    block: Block | None = None
    mask: str = ""

    @property
    def image_id(self) -> int | str | None:
        """The id that COCO results refer to it by; None if there is none that JSON readers can
        hold.
        """
        if self.entry is None:
            return None
        id = self.entry.id
        if isinstance(id, str):
            return id
        if isinstance(id, int) and not isinstance(id, bool) and abs(id) < 2**63:
            return id
        return None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset and all of its images.

    Attributes:
        file: the YAML or JSON, or the folder.
        root: the folder that the keys are relative to.
        sources: by key, then by split.
        folders: those that were searched for images.
        kind: the format of the annotations.
        categories: the id of each class, in a COCO set.
        splits: those that have images.
        labelled: False for images alone.
        task: as the format or the file declares it, if it does.
        masks: class masks beside the images, see `mask_sets.settled`.
        rows: False where masks are the only labels.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    sources: list[Source]
    folders: tuple[Path, ...]
    findings: list[Finding]
    kpt_shape: tuple[int, int] | None = None
    flip_idx: tuple[int, ...] | None = None
    channels: int | None = None
    kind: Kind = "YOLO"
    categories: tuple[int, ...] | None = None
    splits: tuple[str, ...] = ()
    labelled: bool = True
    task: Task | None = None
    masks: MaskSpec | None = None
    rows: bool = True

    @property
    def pages(self) -> int:
        """Number of TIFF pages that the trainer reads as the bands of one image, else 0."""
        if self.channels in (None, 1, 3):
            return 0
        return self.channels

    @property
    def images(self) -> list[Source]:
        """Each image once, whichever splits have it or a block of it."""
        return list({source.key: source for source in self.sources}.values())

    @property
    def label(self) -> str:
        """What the dataset is called in findings: its path from the root."""
        return label_of(self.file, self.root)

    @property
    def annotations(self) -> Iterator[Annotation]:
        """The objects of all images, where they are not in label files."""
        for source in self.images:
            if source.entry is not None:
                yield from source.entry.annotations


def label_of(file: Path, root: Path) -> str:
    """What a file of labels is called in findings: its path from the root, which may lead out.

    >>> label_of(Path("/data/train.json"), Path("/data/images"))
    '../train.json'
    """
    return os.path.relpath(file, root).replace(os.sep, "/")


def relative(path: str, root: Path) -> str:
    """A path as in findings and in the manifest: relative to the root, with `/`; unchanged if it
    lies outside.

    >>> relative("/data/a/b.jpg", Path("/data")), relative("/other/b.jpg", Path("/data"))
    ('a/b.jpg', '/other/b.jpg')
    """
    return path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/")


def label_path(path: str) -> str:
    """The label file of an image, by the trainer's rule: the last `/images/` becomes `/labels/`.

    >>> label_path("/data/images/train/a.b.jpg")
    '/data/labels/train/a.b.txt'
    """
    path = path.replace(os.sep, "/")
    return os.path.splitext("/labels/".join(path.rsplit("/images/", 1)))[0] + ".txt"


def without_split(dataset: Dataset, split: str, remedy: str) -> Finding:
    """A finding for a dataset that has no train or no val split."""
    return Finding(dataset.label, "Y03", f"no {split} split, which the trainer needs: {remedy}")


def named(dataset: Dataset, dots: bool = True) -> Dataset:
    """The same with a stem for each source. `dots`: whether stems may have some."""
    stems = stems_of([source.key for source in dataset.sources], dots)
    sources = [replace(source, stem=stems[source.key]) for source in dataset.sources]
    return replace(dataset, sources=sources)


def stems_of(keys: list[str], dots: bool = True) -> dict[str, str]:
    """A stem for each image that no other image has, on any file system.

    This is the file's own stem, if no other file has it. Otherwise its folders are put in front
    (`site1-a`), then its suffix is added (`site1-a-png`), and finally a hash of its path
    (`site1-a-png-1f3a9c02`). Long stems are cut and get a hash.

    Args:
        dots: whether stems may have some; else hyphens stand for them.

    >>> stems_of(["a/x.jpg", "b/x.jpg", "b/y.jpg"])
    {'a/x.jpg': 'a-x', 'b/x.jpg': 'b-x', 'b/y.jpg': 'y'}
    >>> stems_of(["a.1.jpg"], dots=False)
    {'a.1.jpg': 'a-1'}
    """
    levels = dict.fromkeys(keys, 0)
    while True:
        stems = {key: _stem(key, level) for key, level in levels.items()}
        if not dots:
            stems = {key: stem.replace(".", "-") for key, stem in stems.items()}
        same: dict[str, list[str]] = {}
        for key, stem in stems.items():
            same.setdefault(_comparable(stem), []).append(key)
        clash = False
        for group in same.values():
            for key in group:
                if len(group) > 1 and levels[key] < 3:
                    levels[key] += 1
                    clash = True
        if not clash:
            return stems


def _comparable(stem: str) -> str:
    """A stem as it may be compared: file systems may ignore case and Unicode form, and `a__s50` at
    full size is `a` at half size.
    """
    return re.sub(r"(__s\d+)+$", "", unicodedata.normalize("NFC", stem).casefold())


def _stem(key: str, level: int) -> str:
    """The stem of an image: 0 its own, 1 with its folders, 2 with its suffix, 3 with a hash."""
    path, suffix = os.path.splitext(key)
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    folders, _, stem = path.rpartition("/")
    if level >= 1 and folders:
        parts = [folder for folder in folders.split("/") if folder not in ("", "images")]
        stem = "-".join([*parts, stem])
    if level >= 2:
        stem += "-" + suffix[1:]
    if level >= 3:
        stem += "-" + digest
    if len(stem.encode()) > LONGEST_STEM:
        stem = stem.encode()[: LONGEST_STEM - 9].decode(errors="ignore") + "-" + digest
    return stem
