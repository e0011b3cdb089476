"""The images of `--export yolo-dataset`: where they are, and links to them in the output."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tiler.datasets.image_files import image_size, walk
from tiler.datasets.image_names import by_name
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.merging.training import (
    LISTS_OF,
    OPTION,
    TRAINING,
    TRAINING_IMAGES,
    divided,
    place,
    training_file,
)
from tiler.merging.work import Piece
from tiler.run.folders import Folder


def training_images(pieces: Sequence[Piece], root: Path | None, by_names: bool) -> dict[str, Path]:
    """Where the images are that go into the dataset, by their keys.

    Args:
        root: the folder of the images.

    Raises:
        TilerError: it is not known, or it has no such image of this size; or two would be one.
    """
    if root is None:
        raise TilerError(f"{OPTION}: where are the images? Say --images with their folder")
    wanted = [piece for piece in pieces if not piece.unknown(by_names)]
    _require_distinct(wanted)
    found: dict[str, Path] = {}
    near: dict[str, Path] | None = None
    for piece in wanted:
        path = Path(os.path.abspath(root / piece.key))
        if not os.path.isfile(path):
            near = _by_key(root) if near is None else near
            path = _named(piece, near, root)
        _require_size(piece, path)
        found[piece.key] = path
    return found


def _require_distinct(pieces: Sequence[Piece]) -> None:
    """Raises:
    TilerError: two images would have the same labels.
    """
    places: dict[str, str] = {}
    for piece in pieces:
        other = places.setdefault(place(piece.label), piece.key)
        if other != piece.key:
            raise TilerError(f"{OPTION}: {other} and {piece.key} would be one image")


def _by_key(root: Path) -> dict[str, Path]:
    """The images below a folder by their paths in it."""
    base = Path(os.path.abspath(root))
    paths = [Path(path) for path, _ in walk(base, [], base)]
    return {path.relative_to(base).as_posix(): path for path in paths}


def _named(piece: Piece, near: dict[str, Path], root: Path) -> Path:
    """The image that has the name, if only one has."""
    keys = list(near)
    index = by_name(keys, root)
    stem, _ = os.path.splitext(piece.key)
    at = index.place(stem)
    if at is None:
        raise TilerError(f"{OPTION}: no image {piece.key} in {root}; say --images with its folder")
    return near[keys[at[0]]]


def _require_size(piece: Piece, path: Path) -> None:
    """Raises:
    TilerError: an image has another size than the one that was predicted.
    """
    try:
        size = image_size(str(path))
    except SourceRefused as error:
        raise TilerError(f"{OPTION}: {path}: {error.message}") from None
    if size != (piece.width, piece.height):
        raise TilerError(
            f"{OPTION}: {path} has {size[0]} x {size[1]} px, the image that was predicted "
            f"{piece.width} x {piece.height}"
        )


def left_out_of_training(pieces: Sequence[Piece], by_names: bool) -> list[Finding]:
    """A finding for each image that is no part of the dataset."""
    findings = []
    for piece in pieces:
        reason = piece.unknown(by_names)
        if reason:
            findings.append(Finding("", "D21", f"{piece.key}: {reason}"))
    return findings


def link_images(tree: Folder, pieces: Sequence[Piece], found: dict[str, Path]) -> dict[str, int]:
    """Make images/ with a link to each image whose label file was written, and the lists of them;
    the bytes of these.

    Raises:
        TilerError: the disk of the output has no links.
    """
    lines = []
    splits = []
    for piece in pieces:
        path = found.get(piece.key)
        if path is None or not tree.is_file(training_file(piece.label)):
            continue
        name = f"{TRAINING_IMAGES}{place(piece.label)}{path.suffix}"
        tree.make(os.path.dirname(name))
        _link(tree, name, path)
        lines.append(f"./{name.removeprefix(TRAINING)[1:]}\n")
        splits.append(piece.splits)
    parts = divided(splits)
    sizes = {}
    for split, file in LISTS_OF.items():
        own = [line for line, part in zip(lines, parts, strict=True) if part in (split, "both")]
        sizes[file] = tree.write(file, "".join(own).encode())
    return sizes


def _link(tree: Folder, name: str, path: Path) -> None:
    try:
        tree.link(name, path)
    except OSError as error:
        raise TilerError(
            f"{OPTION}: {path} cannot be linked to from the output ({error.strerror}); choose an "
            "--out on the disk of the images"
        ) from None
