"""Ids in predictions.json: those of the ground truth, where that is COCO's, so that its own tools
read the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    from tiler.formats.dataset_yaml import DatasetYaml

Id = int | str


@dataclass(frozen=True, slots=True)
class Ids:
    """What images and classes are called.

    Attributes:
        categories: category id of each class; None where they count from `base`.
        images: of each image.
        of_truth: they are those of a ground truth.
    """

    categories: tuple[int, ...] | None
    base: int
    images: list[Id]
    of_truth: bool
    findings: list[Finding]


def chosen(
    base: str,
    tiled: Sequence[TiledImage],
    predicted: Sequence[bool],
    names: Sequence[str] | None,
    known: Index,
    truth: DatasetYaml | CocoTruth | None,
    shown: str,
) -> Ids:
    """The ids that --category-base means for these images.

    Args:
        names: of the predictions' classes.
        known: the tiles; of a split of COCO's with the ids that it had.
        truth: what --data holds, `shown` its name.

    Raises:
        TilerError: a class is none of the ground truth's.
    """
    plain: list[Id] = [*ids_of([image.key for image in tiled])]
    if base == "coco91":
        return Ids(COCO91, 0, plain, False, [])
    if base != "auto":
        return Ids(None, int(base), plain, False, [])
    if isinstance(truth, CocoTruth):
        by_class = sorted(truth.categories, key=truth.categories.__getitem__)
        ids, findings = _of_truth(truth, tiled, predicted, plain, shown)
        return Ids(_renamed(by_class, truth.names, names, shown), 0, ids, True, findings)
    if known.categories is not None and known.names is not None:
        own = [image.image_id for image in tiled]
        ids = [name if id is None else id for id, name in zip(own, plain, strict=True)]
        return Ids(_renamed(known.categories, known.names, names, known.said), 0, ids, True, [])
    return Ids(None, 0, plain, False, [])


def _renamed(
    ids: Sequence[int], theirs: Sequence[str], names: Sequence[str] | None, shown: str
) -> tuple[int, ...]:
    """The category id of each class of the predictions, by its name."""
    if names is None or tuple(names) == tuple(theirs):
        return tuple(ids)
    by_name = dict(zip(theirs, ids, strict=True))
    for name in names:
        if name not in by_name:
            hint = did_you_mean(name, theirs)
            raise TilerError(
                f"--category-base auto: class {name!r} of the tiles is none of {shown}{hint}; say "
                "what category ids count from"
            )
    return tuple(by_name[name] for name in names)


def _of_truth(
    truth: CocoTruth,
    images: Sequence[TiledImage],
    predicted: Sequence[bool],
    plain: Sequence[Id],
    shown: str,
) -> tuple[list[Id], list[Finding]]:
    """The id of each image, by its path, else by a name and a size that only it has; its own name
    for one that has none.
    """
    places = _places(truth, images)
    taken = {id for id, *_ in truth.images}
    found = [
        truth.images[place][0] if place is not None else key if name in taken else name
        for place, name, key in zip(places, plain, [image.key for image in images], strict=True)
    ]
    missing = [
        p.key
        for p, place, has in zip(images, places, predicted, strict=True)
        if has and place is None
    ]
    if not missing:
        return found, []
    some = f"{missing[0]}{', ...' if len(missing) > 1 else ''}"
    message = (
        f"{len(missing)} images ({some}) are not in {shown}: predictions.json has them by their "
        "names"
    )
    return found, [Finding("", "D14", message)]


def _places(truth: CocoTruth, images: Sequence[TiledImage]) -> list[int | None]:
    """Which image of the truth each is."""
    by_path: dict[str, int] = {}
    for place, (_, name, _, _) in enumerate(truth.images):
        by_path.setdefault(name, place)
    none = np.empty((0, 4))
    named = [(place, name) for place, (_, name, _, _) in enumerate(truth.images) if name]
    index = Index([TiledImage(name, 0, 0, [], none, none[:, 0]) for _, name in named], "", Path())
    found: list[int | None] = [by_path.get(image.key) for image in images]
    exact = set(found)
    guesses: list[int | None] = []
    for image in images:
        looked_up = index.place(image.stem)
        guess = None if looked_up is None else named[looked_up[0]][0]
        fits = guess is not None and guess not in exact and _same_size(truth.images[guess], image)
        guesses.append(guess if fits else None)
    once = Counter(guesses)
    return [
        guess if place is None and once[guess] == 1 else place
        for place, guess in zip(found, guesses, strict=True)
    ]


def _same_size(entry: tuple[Id, str, int, int], image: TiledImage) -> bool:
    """Whether a size that the truth tells is the image's."""
    return entry[2:] in ((0, 0), (image.width, image.height))
