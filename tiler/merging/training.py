"""--export yolo-dataset: merged detections as labels (pseudo-labels), paired with the images.

The trainer looks for the labels of an image where its path says labels/ instead of images/ (the last
one). So images appear below images/ of the dataset: as hard links, or as symbolic links where
the output is on another disk. Nothing is copied, and nothing is written beside the originals.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.image_files import image_size, walk
from tiler.datasets.image_names import by_name
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats import dataset_yaml, trainer_rules, yolo
from tiler.geometry.window import Window

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.merging.work import Piece
    from tiler.run.folders import Folder

FOLDER = "yolo"
YAML = f"{FOLDER}/dataset.yaml"
IMAGES = f"{FOLDER}/images/"
LABELS = f"{FOLDER}/labels/"
FOLDERS = (f"{FOLDER}/images", f"{FOLDER}/labels")
OPTION = "--export yolo-dataset"


def place(label: str) -> str:
    """The path of an image below images/, and of its labels below labels/, without suffix.

    Folders with these two names are left out, since the trainer replaces the last one.

    Args:
        label: the path of its label file in the output of a merge, without suffix.

    >>> place("images/val/a"), place("b")
    ('val/a', 'b')
    """
    *folders, name = label.split("/")
    return "/".join([*(each for each in folders if each not in ("images", "labels")), name])


def label_file(label: str) -> str:
    """The label file of an image in the dataset."""
    return f"{LABELS}{place(label)}.txt"


def owned(path: str, labels: set[str]) -> bool:
    """Whether a path in an output is one of the dataset's. `labels`: those of all images."""
    if path == YAML:
        return True
    places = {place(label) for label in labels}
    stem, suffix = os.path.splitext(path)
    if path.startswith(LABELS):
        return suffix == ".txt" and stem.removeprefix(LABELS) in places
    return path.startswith(IMAGES) and stem.removeprefix(IMAGES) in places


def reason_to_leave_out(piece: Piece, by_names: bool) -> str:
    """Why an image is no part of the dataset: what was not predicted would count as background.

    Args:
        by_names: no manifest lists the tiles.
    """
    if not piece.predicted and by_names:
        return "no predictions, and it is not known whether it was cut"
    if piece.some_blocks:
        return "only the tiles of some of its blocks were predicted"
    if piece.unread.names:
        return f"the predictions of {len(piece.unread.names)} of its tiles cannot be read"
    return ""


def label_text(
    instances: Instances, size: tuple[int, int], classes: int, kpt_shape: tuple[int, int] | None
) -> str:
    """Label rows without confidences: what the image shows of each detection, as far as the trainer
    accepts it.

    Args:
        classes: how many there are; 0: not known.

    >>> from tiler.geometry.instances import Instances
    >>> car = Instances(np.array([0]), np.array([[-10, 0, 10, 10.0]]), conf=np.array([0.5]))
    >>> label_text(car, (20, 20), 1, None)
    '0 0.25000000 0.25000000 0.50000000 0.50000000\\n'
    """
    shown = Window(0, 0, *size).clip(instances)
    sizes = np.tile(np.array(size, np.float64), (len(shown), 1))
    rows = yolo.values(shown, sizes)
    if instances.task == "pose" and kpt_shape is not None:
        kpt_shape = (kpt_shape[0], 3)
    known = classes or int(shown.class_id.max(initial=0)) + 1
    accepted = trainer_rules.accepted(rows, instances.task, known, kpt_shape)
    kept = [row for row, is_good in zip(rows, accepted.tolist(), strict=True) if is_good]
    lines = yolo.text(kept, instances.task).splitlines(keepends=True)
    return "".join(dict.fromkeys(lines))  # the trainer drops the second of equal rows


def yaml_text(
    names: Sequence[str], class_ids: Sequence[int], kpt_shape: Sequence[int] | None
) -> str:
    """The text of dataset.yaml. All images are named for train, and for val, without which the
    trainer does not start.

    Args:
        names: of the classes; if there are none, classes are named by their numbers.
        class_ids: of the detections.
    """
    known = tuple(names) or tuple(map(str, range(max(class_ids, default=0) + 1)))
    shape = None if kpt_shape is None else (kpt_shape[0], 3)
    splits = {"train": "images", "val": "images"}
    return dataset_yaml.dump(known, splits, shape)


# The images


def found_images(pieces: Sequence[Piece], root: Path | None, by_names: bool) -> dict[str, Path]:
    """Where the images are that go into the dataset, by their keys.

    Args:
        root: the folder of the images.

    Raises:
        TilerError: it is not known, or it has no such image of this size; or two would be one.
    """
    if root is None:
        raise TilerError(f"{OPTION}: where are the images? Say --images with their folder")
    places: dict[str, str] = {}
    found: dict[str, Path] = {}
    near: dict[str, Path] | None = None
    for piece in pieces:
        if reason_to_leave_out(piece, by_names):
            continue
        other = places.setdefault(place(piece.label), piece.key)
        if other != piece.key:
            raise TilerError(f"{OPTION}: {other} and {piece.key} would be one image")
        path = Path(os.path.abspath(root / piece.key))
        if not os.path.isfile(path):
            near = _by_key(root) if near is None else near
            path = _named(piece, near, root)
        _require_size(piece, path)
        found[piece.key] = path
    return found


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


def left_out(pieces: Sequence[Piece], by_names: bool) -> list[Finding]:
    """A finding for each image that is no part of the dataset."""
    findings = []
    for piece in pieces:
        reason = reason_to_leave_out(piece, by_names)
        if reason:
            findings.append(Finding("", "D21", f"{piece.key}: {reason}"))
    return findings


def link(tree: Folder, pieces: Sequence[Piece], found: dict[str, Path]) -> None:
    """Make images/ with a link to each image whose label file was written.

    Raises:
        TilerError: the disk of the output has no links.
    """
    for piece in pieces:
        path = found.get(piece.key)
        if path is None or not tree.is_file(label_file(piece.label)):
            continue
        name = f"{IMAGES}{place(piece.label)}{path.suffix}"
        tree.make(os.path.dirname(name))
        try:
            tree.link(name, path)
        except OSError as error:
            raise TilerError(
                f"{OPTION}: {path} cannot be linked to from the output ({error.strerror}); choose "
                "an --out on the disk of the images"
            ) from None
