"""--export yolo-dataset: merged detections as labels (pseudo-labels), paired with the images.

The trainer looks for the labels of an image where its path says labels/ instead of images/ (the
last one). So images appear below images/ of the dataset, as symbolic links, or hard links where
there are none. Nothing is copied, and nothing is written beside the originals.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiler.formats import dataset_yaml, trainer_rules, yolo
from tiler.geometry.window import Window

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances

TRAINING = "yolo"
TRAINING_YAML = f"{TRAINING}/dataset.yaml"
TRAINING_IMAGES = f"{TRAINING}/images/"
LABELS = f"{TRAINING}/labels/"
LISTS_OF = {"train": f"{TRAINING}/train.txt", "val": f"{TRAINING}/val.txt"}
TRAINING_FOLDERS = (f"{TRAINING}/images", f"{TRAINING}/labels")
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


def training_file(label: str) -> str:
    """The label file of an image in the dataset."""
    return f"{LABELS}{place(label)}.txt"


def in_training_set(path: str, labels: set[str]) -> bool:
    """Whether a path in an output is one of the dataset's. `labels`: those of all images."""
    if path in (TRAINING_YAML, *LISTS_OF.values()):
        return True
    places = {place(label) for label in labels}
    stem, suffix = os.path.splitext(path)
    if path.startswith(LABELS):
        return suffix == ".txt" and stem.removeprefix(LABELS) in places
    return path.startswith(TRAINING_IMAGES) and stem.removeprefix(TRAINING_IMAGES) in places


def training_labels(
    instances: Instances, size: tuple[int, int], classes: int, kpt_shape: tuple[int, int] | None
) -> str:
    """Label rows without confidences: what the image shows of each detection, as far as the trainer
    accepts it.

    Args:
        classes: how many there are; 0: not known.

    >>> from tiler.geometry.instances import Instances
    >>> car = Instances(np.array([0]), np.array([[-10, 0, 10, 10.0]]), conf=np.array([0.5]))
    >>> training_labels(car, (20, 20), 1, None)
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


def training_yaml(
    names: Sequence[str], class_ids: Sequence[int], kpt_shape: Sequence[int] | None
) -> str:
    """The text of dataset.yaml.

    Args:
        names: of the classes; if there are none, classes are named by their numbers.
        class_ids: of the detections.
    """
    known = tuple(names) or tuple(map(str, range(max(class_ids, default=0) + 1)))
    shape = None if kpt_shape is None else (kpt_shape[0], 3)
    splits = {split: os.path.basename(file) for split, file in LISTS_OF.items()}
    return dataset_yaml.dump(known, splits, shape)


def divided(splits: Sequence[Sequence[str]]) -> list[str]:
    """train or val for each image, without which the trainer does not start: as the images were
    divided, if both have some; else every tenth image is val. A single one is both.

    Args:
        splits: those of each image in the dataset of tiles.

    >>> divided([("val",), ("train",), ("test",)])
    ['val', 'train', 'train']
    >>> divided([("train",)] * 2), divided([()])
    (['train', 'val'], ['both'])
    """
    chosen = ["val" if tuple(own) == ("val",) else "train" for own in splits]
    if len(set(chosen)) == 2:
        return chosen
    if len(chosen) == 1:
        return ["both"]
    step = min(10, max(len(chosen), 1))
    return ["val" if i % step == step - 1 else "train" for i in range(len(chosen))]
