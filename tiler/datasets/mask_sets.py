"""Class masks (a class per pixel) beside the images of a dataset.yaml: which are used, and read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets import tasks
from tiler.datasets.dataset import Dataset, Source, label_path, relative
from tiler.datasets.image_files import SEEN, opened
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats.mask_spec import IGNORED, MaskSpec
from tiler.images.header import Header, probe

if TYPE_CHECKING:
    from tiler.images.class_masks import ClassMask

NEEDED = ("train", "val")
MOST_VALUES = 10  # that a message lists

Masks = Mapping[str, str]  # path of the mask of each image, by its key; "" where there is none


def settled(dataset: Dataset, wanted: str, frame: str) -> Dataset:
    """The dataset with the mask of each image, or without masks where none are to be used.

    With the task auto both masks and label files are used, as far as there are some; with
    semantic the masks alone, and with any other task the label files alone. A folder that is
    only called `masks` counts if it has the mask of any image, or if there is nothing else.

    Args:
        wanted: the task, or auto.
        frame: auto, or which image masks are for where EXIF turns it: stored or upright.

    Raises:
        TilerError: train or val has no masks, or a mask may be for the image as stored or turned.
    """
    spec = dataset.masks
    if spec is None and wanted == "semantic":
        raise TilerError(
            f"{dataset.file}: --task semantic needs masks: masks_dir in a dataset.yaml, or a "
            "folder masks beside images"
        )
    if spec is None or wanted not in ("auto", "semantic"):
        return replace(dataset, masks=None)
    rows = wanted == "auto" and has_label_files(dataset)
    masks = {source.key: _found(dataset.root, source.key, spec) for source in dataset.sources}
    if rows and not spec.declared and not any(masks.values()):
        return replace(dataset, masks=None)
    without, findings = _without_masks(dataset, spec, masks)
    sources = []
    for source in dataset.sources:
        if source.split not in without:  # a single missing one is reported where it is read
            expected = _expected(dataset.root, source.key, spec)
            source = replace(source, mask=masks[source.key] or expected)
        sources.append(source)
    findings += _orphans(dataset.root, sources, spec)
    if frame == "auto":
        _require_clear(dataset, sources)
    findings = [*dataset.findings, *findings]
    return replace(dataset, sources=sources, rows=rows, findings=findings)


def task_of(dataset: Dataset, wanted: str) -> tuple[str, str]:
    """The task of a dataset that was `settled`, and how it was decided."""
    if dataset.rows:
        task, reason = tasks.decide(dataset, wanted)
        return task, f"{reason}; with masks" if dataset.masks is not None else reason
    if wanted == "semantic":
        return wanted, "as asked"
    return "semantic", "masks, and no label files"


def require_rows(dataset: Dataset) -> None:
    """Raises:
    TilerError: masks are the only labels of a dataset, as it was found.
    """
    if dataset.masks is not None and dataset.masks.declared and not has_label_files(dataset):
        raise TilerError(
            f"{dataset.file}: masks (a class per pixel) and no label files; masks are not scored"
        )


def has_label_files(dataset: Dataset) -> bool:
    """Whether any image has a label file."""
    paths = (label_path(os.path.join(dataset.root, source.key)) for source in dataset.sources)
    return any(map(os.path.lexists, paths))


def _expected(root: Path, key: str, spec: MaskSpec) -> str:
    """Where the mask of an image should be: the last `/images/` becomes the folder of masks."""
    path = os.path.join(root, key).replace(os.sep, "/")
    before, images, after = path.rpartition("/images/")
    if not images:
        before, after = os.path.split(path)
    return relative(f"{before}/{spec.folder}/{os.path.splitext(after)[0]}.png", root)


def _found(root: Path, key: str, spec: MaskSpec) -> str:
    """The mask of an image, which may have another suffix; "" if there is none."""
    stem = os.path.splitext(_expected(root, key, spec))[0]
    for suffix in (".png", *sorted(SEEN)):
        if os.path.isfile(os.path.join(root, stem + suffix)):
            return stem + suffix
    return ""


def _without_masks(
    dataset: Dataset, spec: MaskSpec, masks: Masks
) -> tuple[set[str], list[Finding]]:
    """The splits without any mask, and findings about them.

    Raises:
        TilerError: train or val is such a split.
    """
    without = set()
    findings = []
    for split in dataset.splits:
        keys = [source.key for source in dataset.sources if source.split == split]
        if any(masks[key] for key in keys):
            continue
        example = _expected(dataset.root, keys[0], spec)
        message = f"split {split}: no mask for any of its images ({len(keys)}), such as {example}"
        if split in NEEDED:
            raise TilerError(f"{dataset.file}: {message}")
        findings.append(Finding(dataset.label, "Y08", message))
        without.add(split)
    return without, findings


def _orphans(root: Path, sources: Sequence[Source], spec: MaskSpec) -> Iterator[Finding]:
    """Masks without an image, in the folders where masks are looked for."""
    known = {source.mask for source in sources}
    folders = {os.path.dirname(mask) for mask in known if mask}
    for folder in sorted(folders):
        for name in _names(os.path.join(root, folder)):
            key = f"{folder}/{name}"
            if name.endswith(".png") and key not in known and not _has_image(root, key, spec):
                yield Finding(key, "M07", "a mask without an image")


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _has_image(root: Path, mask: str, spec: MaskSpec) -> bool:
    """Whether the image of a mask is there, perhaps in a split that the dataset does not name."""
    path = os.path.join(root, mask).replace(os.sep, "/")
    stem = "/images/".join(path.rsplit(f"/{spec.folder}/", 1)).removesuffix(".png")
    return any(os.path.exists(stem + suffix) for suffix in SEEN)


def _require_clear(dataset: Dataset, sources: Sequence[Source]) -> None:
    """Raises:
    TilerError: EXIF turns an image, and its mask has the size of the stored and of the turned one.
    """
    unclear = [source.key for source in sources if source.mask and _is_unclear(dataset, source)]
    if unclear:
        raise TilerError(
            f"{dataset.file}: {len(unclear)} images are turned by EXIF, and their masks fit the "
            f"stored as well as the upright image ({unclear[0]}): choose --frame stored or "
            "--frame upright"
        )


def _is_unclear(dataset: Dataset, source: Source) -> bool:
    try:
        with opened(os.path.join(dataset.root, source.key)) as file:
            header = probe(file)
        stored = (header.width, header.height)
        if header.orientation == 1 or header.size != stored:
            return False
        with opened(os.path.join(dataset.root, source.mask)) as file:
            return probe(file).size == stored
    except (SourceRefused, OSError):
        return False  # reported when it is read


def digest(root: Path, source: Source, spec: MaskSpec) -> bytes:
    """A hash of all that the masks of an image's tiles are made from; b"" where it has no mask."""
    if not source.mask:
        return b""
    content = hashlib.sha256(f"{source.mask} {sorted(spec.mapping.items())}".encode())
    try:
        with opened(os.path.join(root, source.mask)) as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    except (SourceRefused, OSError):
        pass  # rejected when it is read
    return content.digest()


def read(
    root: Path,
    source: Source,
    spec: MaskSpec,
    header: Header,
    frame: str,
    max_pixels: int | None = None,
) -> tuple[ClassMask, list[Finding]]:
    """The mask of an image, upright, and what was noticed.

    Args:
        header: of the image.
        frame: see `settled`.

    Raises:
        SourceRefused: the trainer would ignore the image because of its mask.
        MemoryError: it does not fit.
    """
    if not os.path.lexists(os.path.join(root, source.mask)):
        raise SourceRefused("M01", f"no mask, expected {source.mask}")
    mask = _of_classes(root, source, spec, max_pixels)
    stored = (header.width, header.height)
    is_stored = frame == "stored" or (frame == "auto" and mask.size != header.size)
    if header.orientation != 1 and is_stored and mask.size == stored:
        found = f"for {source.key} as stored; turned by orientation {header.orientation}"
        return mask.turned(header.orientation), [Finding(source.mask, "M06", found)]
    if mask.size != header.size:
        width, height = mask.size
        message = f"{width} x {height} px, the image is {header.size[0]} x {header.size[1]}"
        raise SourceRefused("M03", message, source.mask)
    return mask, []


def _of_classes(root: Path, source: Source, spec: MaskSpec, max_pixels: int | None) -> ClassMask:
    """A mask as its file has it.

    Raises:
        SourceRefused: it cannot be read, or has a value that is no class.
    """
    from tiler.images import class_masks  # with Pillow, which few runs need

    try:
        with opened(os.path.join(root, source.mask)) as file:
            mask = class_masks.read(file, max_pixels)
        _require_classes(mask, spec)
    except SourceRefused as error:
        code = "M04" if error.code == "M04" else "M02"
        hint = "" if spec.declared else "; --task leaves masks out that are not meant for training"
        raise SourceRefused(code, error.message + hint, source.mask) from None
    return mask


def _require_classes(mask: ClassMask, spec: MaskSpec) -> None:
    """Raises:
    SourceRefused: the mask has a value that is no class.
    """
    present = np.zeros(len(spec.invalid), bool)
    present[mask.values.ravel()] = True
    wrong = np.flatnonzero(present & spec.invalid).tolist()
    if not wrong:
        return
    listed = ", ".join(map(str, wrong[:MOST_VALUES]))
    if len(wrong) > MOST_VALUES:
        listed += f" and {len(wrong) - MOST_VALUES} more"
    expected = f"expected classes 0 to {spec.last}, or {IGNORED} for what is ignored"
    raise SourceRefused("M04", f"values {listed}; {expected}")
