"""Images without labels: a folder, one image, a glob, a text list."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tiler.datasets.dataset import Dataset, Source, relative
from tiler.datasets.image_files import Listed, file_size, listed, walk
from tiler.errors import TilerError
from tiler.findings import Finding, because
from tiler.formats import manifest
from tiler.formats.annotated import AnnotatedImage


def of_folder(data: Path) -> Dataset:
    """Every image under a folder.

    Raises:
        TilerError: there is none.
    """
    root = data.absolute()
    findings: list[Finding] = []
    return _dataset(
        data, root, walk(root, findings, root, without=manifest.NAME), findings, (root,)
    )


def of_images(data: Path, paths: Iterable[Path]) -> Dataset:
    """Some images, relative to the folder that holds all of them."""
    images = [path.absolute() for path in paths]
    root = Path(os.path.commonpath([image.parent for image in images]))
    sized = ((str(image), file_size(image)) for image in images)
    return _dataset(data, root, sized, [], ())


def of_list(data: Path) -> Dataset:
    """The images in a text list.

    Raises:
        TilerError: it cannot be read, or lists none.
    """
    root = data.absolute().parent
    findings: list[Finding] = []
    return _dataset(data, root, listed(data.absolute(), root, findings), findings, ())


def _dataset(
    data: Path,
    root: Path,
    images: Iterable[Listed],
    findings: list[Finding],
    folders: tuple[Path, ...],
) -> Dataset:
    sizes = {relative(path, root): size for path, size in images}
    if not sizes:
        raise TilerError(f"{data}: no images there{because(findings)}")
    sources = []
    for key in sorted(sizes):
        # an entry of its own, so that no label file is looked for
        sources.append(Source(key, "", bytes=sizes[key], entry=AnnotatedImage(key, None)))
    return Dataset(
        data, root, (), sources, folders, findings, kind="images", splits=("",), labelled=False
    )
