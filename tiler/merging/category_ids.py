"""Image and category ids in predictions.json: those of the ground truth, where that is COCO's, so
that COCO's own tools can read the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.index import Index, TiledImage
from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding
from tiler.formats.coco_ground_truth import CocoTruth
from tiler.merging.output import ids_of
from tiler.predictions.categories import COCO91

if TYPE_CHECKING:
    from tiler.datasets.dataset import Dataset
    from tiler.formats.dataset_yaml import DatasetYaml

Id = int | str


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of images and classes.

    Attributes:
        images: of each image.
        first_category: category id of class 0.
        categories: category id of each class, in place of `first_category`; None where they count.
        of_truth: they are those of a ground truth.
    """

    images: list[Id]
    first_category: int = 0
    categories: tuple[int, ...] | None = None
    of_truth: bool = False
    findings: list[Finding] = field(default_factory=list)


def chosen(
    base: str,
    tiled: Sequence[TiledImage],
    predicted: Sequence[bool],
    names: Sequence[str] | None,
    index: Index,
    truth: DatasetYaml | Dataset | CocoTruth | None,
    truth_name: str,
) -> Ids:
    """The ids of these images and of all classes.

    Args:
        base: what --category-base says.
        predicted: whether there are predictions for each image.
        names: of the predictions' classes.
        index: of the tiles; has the ids of a COCO set that was split.
        truth: what --data holds.
        truth_name: of that, as errors say it.

    Raises:
        TilerError: a class is not one of the ground truth's.
    """
    short_names: list[Id] = [*ids_of([image.key for image in tiled])]
    if base == "coco91":
        return Ids(short_names, categories=COCO91)
    if base != "auto":
        return Ids(short_names, int(base))
    if isinstance(truth, CocoTruth):
        by_class = sorted(truth.categories, key=truth.categories.__getitem__)
        categories = _renamed(by_class, truth.names, names, truth_name)
        ids, findings = _ids_of_truth(truth, tiled, predicted, short_names, truth_name)
        return Ids(ids, categories=categories, of_truth=True, findings=findings)
    if index.categories is not None and index.names is not None:
        categories = _renamed(index.categories, index.names, names, index.said)
        ids = []
        for image, name in zip(tiled, short_names, strict=True):
            if image.image_id is None:
                ids.append(name)
            else:
                ids.append(image.image_id)
        return Ids(ids, categories=categories, of_truth=True)
    return Ids(short_names)


def numbered(ids: Ids) -> Ids:
    """The ids with numbers for images that have names: from 1 on in the order of the images,
    without those that others have.
    """
    taken = {image for image in ids.images if isinstance(image, int)}
    free = (number for number in count(1) if number not in taken)
    images: list[Id] = []
    for image in ids.images:
        images.append(next(free) if isinstance(image, str) else image)
    return replace(ids, images=images)


def _renamed(
    ids: Sequence[int], truth_names: Sequence[str], names: Sequence[str] | None, source: str
) -> tuple[int, ...]:
    """The category id of each class of the predictions, by its name."""
    if names is None or tuple(names) == tuple(truth_names):
        return tuple(ids)
    by_name = dict(zip(truth_names, ids, strict=True))
    for name in names:
        if name not in by_name:
            hint = did_you_mean(name, truth_names)
            raise TilerError(
                f"--category-base auto: class {name!r} of the tiles is none of {source}{hint}; say "
                "what category ids count from"
            )
    return tuple(by_name[name] for name in names)


def _ids_of_truth(
    truth: CocoTruth,
    images: Sequence[TiledImage],
    predicted: Sequence[bool],
    short_names: Sequence[Id],
    source: str,
) -> tuple[list[Id], list[Finding]]:
    """The id of each image in the ground truth; its own name if it has none there."""
    places = _places(truth, images)
    taken = {image_id for image_id, *_ in truth.images}
    ids: list[Id] = []
    for image, place, name in zip(images, places, short_names, strict=True):
        if place is not None:
            ids.append(truth.images[place][0])
        elif name in taken:
            ids.append(image.key)
        else:
            ids.append(name)
    missing = []
    for image, place, needed in zip(images, places, predicted, strict=True):
        if needed and place is None:
            missing.append(image.key)
    return ids, _missing_images(missing, source)


def _missing_images(keys: Sequence[str], source: str) -> list[Finding]:
    if not keys:
        return []
    examples = f"{keys[0]}, ..." if len(keys) > 1 else keys[0]
    message = (
        f"{len(keys)} images ({examples}) are not in {source}: predictions.json has them by their "
        "names"
    )
    return [Finding("", "D14", message)]


def _places(truth: CocoTruth, images: Sequence[TiledImage]) -> list[int | None]:
    """The place of each image in the ground truth: by its path, else by a name and a size that only
    it has.
    """
    by_path: dict[str, int] = {}
    for number, (_, name, _, _) in enumerate(truth.images):
        by_path.setdefault(name, number)
    exact = [by_path.get(image.key) for image in images]
    by_name = _places_by_name(truth, images, taken={*exact})
    once = Counter(by_name)
    places: list[int | None] = []
    for place, guess in zip(exact, by_name, strict=True):
        if place is None and once[guess] == 1:
            places.append(guess)
        else:
            places.append(place)
    return places


def _places_by_name(
    truth: CocoTruth, images: Sequence[TiledImage], taken: set[int | None]
) -> list[int | None]:
    """The place of the image in the ground truth that has each image's name and size, if it is not
    taken.
    """
    no_tiles = np.empty((0, 4))
    entries = []
    numbers = []  # in the ground truth
    for number, (_, name, _, _) in enumerate(truth.images):
        if name:
            entries.append(TiledImage(name, 0, 0, [], no_tiles, no_tiles[:, 0]))
            numbers.append(number)
    index = Index(entries, "", Path())
    places: list[int | None] = []
    for image in images:
        place = None
        found = index.place(image.stem)
        if found is not None:
            number = numbers[found[0]]
            if number not in taken and _same_size(truth.images[number], image):
                place = number
        places.append(place)
    return places


def _same_size(entry: tuple[Id, str, int, int], image: TiledImage) -> bool:
    """Whether an entry of the ground truth has the image's size, or none."""
    return entry[2:] in ((0, 0), (image.width, image.height))
