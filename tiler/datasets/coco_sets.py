"""COCO datasets: one instances JSON, or several that become one dataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tiler.datasets.annotated_sets import Listed, Place, Sources, root_of
from tiler.datasets.dataset import Dataset, label_of, relative
from tiler.datasets.locating import Locator
from tiler.datasets.split_names import folders_of, split_of_file, split_of_folder
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import coco
from tiler.formats.coco import CocoFile
from tiler.options import DatasetOptions

PATTERN = "by a pattern such as 'annotations/instances_*.json'"


def of_files(data: Path, files: Sequence[Path], place: Place, options: DatasetOptions) -> Dataset:
    """The dataset of some COCO files.

    Args:
        data: what was given: a file, or the folder of all.
        place: where the images are.

    Raises:
        TilerError: a file is not COCO's, or none of its images could be cut.
    """
    root = root_of(data, place.images)
    labels = [label_of(file, root) for file in files]
    corners = options.bbox == "xyxy"
    contents = [
        _read(file, label, corners, len(files)) for file, label in zip(files, labels, strict=True)
    ]
    findings = [finding for content in contents for finding in content.findings]
    names, ids = _one_numbering(contents, labels, findings)
    splits = [_split(file, data, options) for file in files]
    kpt_shape = _one_kpt_shape(contents, labels)

    sources = Sources(Locator(root), place.absent, findings=findings)
    for file, content, split in zip(files, contents, splits, strict=True):
        near = _near(file, root, split)
        sources.add_all(Listed(image, split, near) for image in content.images)
    sources.require(data)
    _require_annotations(data, sources)
    return Dataset(
        data,
        root,
        names,
        sources.sorted(),
        (),
        findings,
        kpt_shape,
        kind="COCO",
        categories=ids,
        splits=sources.splits,
    )


def _read(file: Path, label: str, corners: bool, count: int) -> CocoFile:
    """One of `count` files.

    Raises:
        TilerError: it is not COCO instances, such as the captions beside them.
    """
    try:
        return coco.read(file, label, corners)
    except TilerError as error:
        if count == 1:
            raise
        raise TilerError(f"{error}; name the files to be read, {PATTERN}") from None


def _require_annotations(data: Path, sources: Sources) -> None:
    """Raises:
    TilerError: there are annotations, but none is of an image that was found.
    """
    entries = [source.entry for source in sources.sorted() if source.entry is not None]
    doubted = any(entry.doubt for entry in entries)
    if doubted and not any(entry.annotations for entry in entries):
        errors = [finding for finding in sources.findings if finding.level == "error"]
        raise TilerError(f"{data}: no annotation is of an image that was found{because(errors)}")


def _split(file: Path, data: Path, options: DatasetOptions) -> str:
    """The split that a file or one of its folders within the dataset is named after; else ""."""
    if options.as_split != "auto":
        return options.as_split
    inside = relative(str(file.absolute().parent), data.absolute().parent)
    if file == data:
        inside = file.absolute().parent.name
    return split_of_file(file.name) or split_of_folder(inside) or ""


def _near(file: Path, root: Path, split: str) -> tuple[str, ...]:
    """Folders in which the images of a file may be."""
    folder = relative(str(file.absolute().parent), root)
    if os.path.isabs(folder):  # the file lies elsewhere
        folder = ""
    named = folders_of(split, file.stem) if split else ()
    return (folder, *named, "images")


def _one_numbering(
    contents: Sequence[CocoFile], labels: Sequence[str], findings: list[Finding]
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The names of the classes of all files together, and their category ids; the annotations get
    their class in this numbering.

    Files whose ids agree keep them. Otherwise classes are the same by name.

    Raises:
        TilerError: a name stands for two categories of a file, while ids do not agree.
    """
    by_id: dict[int | str, str] = {}
    conflict = ""
    for content, label in zip(contents, labels, strict=True):
        for id, name in zip(content.ids, content.names, strict=True):
            if by_id.setdefault(id, name) != name:
                conflict = f"category {id} is {by_id[id]!r} and, in {label}, {name!r}"
    ids_by_name = _ids_by_name(contents)
    for name, ids in ids_by_name.items():
        if len(ids) > 1 and len(contents) > 1:
            conflict = conflict or f"category {name!r} has the ids {sorted(map(str, ids))}"
    if conflict:
        findings.append(Finding(labels[0], "Y07", f"{conflict}: classes are taken by their names"))
        return _numbered_by_name(contents, labels, findings), None
    return _numbered_by_id(contents, by_id, findings, labels[0])


def _ids_by_name(contents: Sequence[CocoFile]) -> dict[str, set[int | str]]:
    ids: dict[str, set[int | str]] = {}
    for content in contents:
        for id, name in zip(content.ids, content.names, strict=True):
            ids.setdefault(name, set()).add(id)
    return ids


def _numbered_by_id(
    contents: Sequence[CocoFile],
    by_id: dict[int | str, str],
    findings: list[Finding],
    label: str,
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Classes in the rising order of their ids."""
    used = {content.ids[c] for content in contents for c in _used(content)}
    parents = _parents(contents)
    ids = sorted(by_id, key=lambda id: (isinstance(id, str), id))
    dropped = [id for id in ids if by_id[id] in parents and id not in used]
    kept = [id for id in ids if id not in dropped]
    _report_dropped([by_id[id] for id in dropped], findings, label)
    place = {id: number for number, id in enumerate(kept)}
    for content in contents:
        _renumber(content, [place.get(id, -1) for id in content.ids])
    return tuple(by_id[id] for id in kept), category_ids(kept)


def _numbered_by_name(
    contents: Sequence[CocoFile], labels: Sequence[str], findings: list[Finding]
) -> tuple[str, ...]:
    """Classes in the order in which the files name them."""
    used = {content.names[c] for content in contents for c in _used(content)}
    parents = _parents(contents)
    place: dict[str, int] = {}
    dropped: dict[str, None] = {}
    for content, label in zip(contents, labels, strict=True):
        for name, count in Counter(content.names).items():
            if count > 1:
                message = f"{count} categories are called {name!r}, and the files' ids differ"
                raise TilerError(f"{label}: {message}")
            if name in parents and name not in used:
                dropped[name] = None
            else:
                place.setdefault(name, len(place))
    _report_dropped(list(dropped), findings, labels[0])
    for content in contents:
        _renumber(content, [place.get(name, -1) for name in content.names])
    return tuple(place)


def _used(content: CocoFile) -> set[int]:
    """The classes of a file that have an annotation."""
    classes = {a.class_id for image in content.images for a in image.annotations}
    return classes - {-1}


def _parents(contents: Sequence[CocoFile]) -> set[str]:
    """Names that are the supercategory of another category, as Roboflow writes them."""
    return set().union(*(content.parents for content in contents))


def _report_dropped(names: Sequence[str], findings: list[Finding], label: str) -> None:
    for name in names:
        message = f"category {name!r} has no objects and is the supercategory of others: no class"
        findings.append(Finding(label, "Y07", message))


def _renumber(content: CocoFile, places: Sequence[int]) -> None:
    """Give the annotations of a file their class in the dataset."""
    for image in content.images:
        for annotation in image.annotations:
            if annotation.class_id >= 0:
                annotation.class_id = places[annotation.class_id]


def category_ids(ids: Sequence[int | str]) -> tuple[int, ...] | None:
    """The id of each class; None if one is text."""
    numbers = tuple(id for id in ids if isinstance(id, int))
    if len(numbers) < len(ids):
        return None
    return numbers


def _one_kpt_shape(contents: Sequence[CocoFile], labels: Sequence[str]) -> tuple[int, int] | None:
    """The number of keypoints in all files.

    Raises:
        TilerError: files differ in it.
    """
    shape = contents[0].kpt_shape
    for content, label in zip(contents, labels, strict=True):
        if content.kpt_shape != shape and any(image.annotations for image in content.images):
            raise TilerError(
                f"{label}: its annotations have {_keypoints(content)}, those of {labels[0]} have "
                f"{_keypoints(contents[0])}"
            )
    return shape


def _keypoints(content: CocoFile) -> str:
    if content.kpt_shape is None:
        return "no keypoints"
    return f"{content.kpt_shape[0]} keypoints"
