"""The images of annotation files, whatever their format: found on the disk, each once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.datasets.dataset import Source
from tiler.datasets.image_files import file_size, has_image_suffix, walk
from tiler.datasets.locating import LocatedImage, Locator, NotLocated, parts_of
from tiler.datasets.split_names import split_of_folder
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import manifest
from tiler.types import SPLITS

if TYPE_CHECKING:
    from tiler.formats.annotated import AnnotatedImage


@dataclass(frozen=True, slots=True)
class Listed:
    """An image as an annotation file lists it.

    Attributes:
        split: as the annotations say; "" leaves it to the folder of the image, else it is train.
        near: folders in which the image may be, relative to the root; the first is that of the
            annotation file.
        stem: of the annotation file, where it is for this image alone: the image may have it.
    """

    image: AnnotatedImage
    split: str
    near: tuple[str, ...] = ("",)
    stem: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the images of annotation files are.

    Attributes:
        images: their folder; None looks beside the files.
        absent: they may be absent, as long as nobody reads them.
    """

    images: Path | None = None
    absent: bool = False


@dataclass(slots=True)
class Sources:
    """The images that were found, by key and split, and what was noticed.

    Attributes:
        absent: an image that is not found is taken nevertheless, if its size is declared.
    """

    locator: Locator
    absent: bool = False
    found: dict[tuple[str, str], Source] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    moved: list[tuple[str, str, str]] = field(default_factory=list)

    def add_all(self, images: Iterable[Listed]) -> None:
        """Find each image.

        Raises:
            TilerError: two files describe one image.
        """
        for listed in images:
            self.add(listed)
        self.report_moved()

    def add(self, listed: Listed) -> None:
        image = listed.image
        if image.file_name and not has_image_suffix(image.file_name) and not listed.stem:
            message = f"{image.file_name}: not an image's suffix"
            self.findings.append(Finding(image.file, "I02", message))
            return
        try:
            located = self._located(listed)
        except NotLocated as error:
            if self.absent and image.file_name and image.size is not None:
                located = LocatedImage("/".join(parts_of(image.file_name)), as_named=True)
                self._take(located, listed)
                return
            what = f"{image.file_name}: " if image.file_name else ""
            self.findings.append(Finding(image.file, "I01", f"{what}{error}"))
            return
        self._take(located, listed)

    def _take(self, located: LocatedImage, listed: Listed) -> None:
        image = listed.image
        key = located.key
        split = listed.split or split_of_folder(os.path.dirname(key)) or "train"
        first = self.found.get((key, split))
        if first is not None:
            self._repeated(key, listed, first)
            return
        if image.file_name and not located.as_named:
            self.moved.append((image.file, image.file_name, key))
        size = file_size(os.path.join(self.locator.root, key))
        self.found[key, split] = Source(key, split, bytes=size, entry=image)

    def _located(self, listed: Listed) -> LocatedImage:
        """The image as it is named, else the one with the annotation file's own name."""
        image = listed.image
        missing = None
        if image.file_name and has_image_suffix(image.file_name):
            try:
                return self.locator.locate(image.file_name, image.size, listed.near)
            except NotLocated as error:
                missing = error
        if not listed.stem:
            assert missing is not None
            raise missing
        try:
            return self.locator.by_stem(listed.stem, listed.near)
        except NotLocated as error:
            raise missing or error from None

    def _repeated(self, key: str, listed: Listed, first: Source) -> None:
        """An image that is listed again: the same entry twice does no harm, others do."""
        assert first.entry is not None
        files = {first.entry.file, listed.image.file}
        if len(files) > 1:
            both = " and ".join(sorted(files))
            raise TilerError(f"{key}: both {both} describe it; name the one to be read")
        if listed.image.annotations:
            names = f"{first.entry.file_name} and {listed.image.file_name}"
            count = len(listed.image.annotations)
            message = f"{names} are one image; {count} annotations of the second are left out"
            self.findings.append(Finding(listed.image.file, "L03", message))
            return
        message = f"{listed.image.file_name} is listed twice; the first entry counts"
        self.findings.append(Finding(listed.image.file, "P05", message))

    def report_moved(self) -> None:
        """One finding for all images that were found under another path than the one given."""
        if not self.moved:
            return
        file, name, key = self.moved[0]
        count = len(self.moved)
        others = "" if count == 1 else f", and {count - 1} more"
        message = f"{name} was found as {key} by the end of its path{others}"
        self.findings.append(Finding(file, "Y07", message))

    def require(self, data: Path) -> None:
        """Raises:
        TilerError: no image was found; with the reasons.
        """
        if not self.found:
            why = because([f for f in self.findings if f.level == "error"])
            hint = "" if why else ": it lists none"
            raise TilerError(f"{data}: no images that could be cut{why}{hint}")

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that have images: train first, then val, then others."""
        found = {split for _, split in self.found}
        return tuple(sorted(found, key=SPLITS.index))

    def sorted(self) -> list[Source]:
        """By key, then by split."""
        return [self.found[key] for key in sorted(self.found)]


def root_of(data: Path, images: Path | None) -> Path:
    """The folder of the images: the one given, else the annotations' own, or the one around it if
    it has no images.

    Raises:
        TilerError: the folder that was given does not exist.
    """
    if images is not None:
        if not os.path.isdir(images):
            raise TilerError(f"--images {images}: no such folder")
        return images.absolute()
    folder = data.absolute()
    if not folder.is_dir():
        folder = folder.parent
    if any(True for _ in walk(folder, [], folder, without=manifest.NAME)):
        return folder
    return folder.parent
