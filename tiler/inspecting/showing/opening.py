"""What is shown: the images of a dataset, of a split's tiles, or of predictions, and what is on
each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from tiler.datasets import labels, tasks
from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.image_files import image_size
from tiler.datasets.image_names import by_name
from tiler.datasets.opening import find
from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding
from tiler.formats import dataset_yaml, manifest, plain_yaml, provenance, yolo
from tiler.formats.input_paths import located
from tiler.formats.text_files import open_regular
from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings
from tiler.inspecting.showing.detections import Detected
from tiler.options import ShowOptions

if TYPE_CHECKING:
    from tiler.types import Floats

LOOKED = 1000  # images of which the objects are counted, to choose those that are shown
HINTED = 20_000  # images among whose names a misspelt one is looked for


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image that may be shown.

    Attributes:
        key: its name in messages and captions.
        path: of its file.
        origin: the image that a tile was cut from; else its own key.
        source: where its labels are.
        number: of its predictions.
    """

    key: str
    path: str
    split: str
    origin: str
    source: Source | None = None
    number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ShownObjects:
    """What is on an image, in its pixels.

    Attributes:
        size: width and height of the image.
        labels, detections: None where there cannot be any.
        ignored: regions to be ignored.
        below: detections that are not shown, since their confidence is too low.
        findings: what was noticed.
    """

    size: tuple[int, int]
    labels: Instances | None
    detections: Instances | None
    ignored: Rings
    below: int
    findings: list[Finding]

    @property
    def main(self) -> Instances | None:
        """What the image is chosen by: its detections, else its labels."""
        return self.labels if self.detections is None else self.detections


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """Images with labels, detections, or both.

    Attributes:
        what: in words.
        names: class names.
        root: the folder that findings are relative to.
        images: all of them, in order.
        dataset: that of the labels.
        spec: what label rows mean; None without labels.
        detected: the detections.
        windows: a file that tells the tiles of each image.
        cut: of tiles, how many objects their edges cut, by name.
        findings: what was noticed about all of it.
    """

    what: str
    names: tuple[str, ...]
    root: Path
    images: list[ShownImage]
    dataset: Dataset | None = None
    spec: yolo.Spec | None = None
    detected: Detected | None = None
    windows: Path | None = None
    cut: Mapping[str, int] | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def pages(self) -> int:
        """See `Dataset.pages`."""
        return 0 if self.dataset is None else self.dataset.pages

    def named(self, image: str) -> ShownImage:
        """The image that a key, a path, or a name with or without suffix means.

        Raises:
            TilerError: none, or several.
        """
        full = os.path.abspath(image)
        for shown in self.images:
            if shown.key == image or shown.path == full:
                return shown
        fitting = [shown for shown in self.images if _fits(shown.key, image)]
        if len({shown.key for shown in fitting}) > 1:
            several = ", ".join(shown.key for shown in fitting[:3])
            raise TilerError(f"{image}: {len(fitting)} images have this name ({several}); name one")
        if not fitting:
            hint = ""
            if len(self.images) <= HINTED:
                names = [os.path.basename(shown.key) for shown in self.images]
                hint = did_you_mean(image, names)
            raise TilerError(f"{image}: no such image in {self.what}{hint}")
        return fitting[0]

    def sample(self) -> list[ShownImage]:
        """The images that are looked at: all, or of each split some, evenly spread."""
        count = len(self.images)
        if count <= LOOKED:
            return self.images
        by_split: dict[str, list[ShownImage]] = {}
        for image in self.images:
            by_split.setdefault(image.split, []).append(image)
        share = LOOKED // len(by_split)
        chosen = []
        for images in by_split.values():
            places = np.linspace(0, len(images) - 1, min(share, len(images)))
            chosen += [images[i] for i in places.round().astype(int).tolist()]
        return chosen

    def decided(self, looked: Sequence[ShownImage], task: str) -> Self:
        """The same, with the task of the labels as these images tell it."""
        if self.dataset is None or not self.dataset.labelled:
            return self
        dataset = self.dataset
        sources = [image.source for image in looked if image.source is not None]
        chosen, _ = tasks.decide(replace(dataset, sources=sources), task)
        kpt_shape = dataset.kpt_shape if chosen == "pose" else None
        return replace(self, spec=yolo.Spec(chosen, len(dataset.names), kpt_shape))

    def objects(self, image: ShownImage, conf: float) -> ShownObjects:
        """What is on an image.

        Args:
            conf: the least confidence of detections.

        Raises:
            SourceRefused: the image or its labels cannot be read.
        """
        size = image_size(image.path)
        found = None
        ignored = Rings.of([])
        findings: list[Finding] = []
        if self.spec is not None and self.dataset is not None and image.source is not None:
            file = labels.label_file(self.dataset.root, image.source)
            read = labels.read(image.source, file, self.spec, *size)
            found = read.instances
            assert read.ignored.rings is not None
            ignored = read.ignored.rings
            findings += read.findings
        detections = None
        below = 0
        if self.detected is not None:
            detections, noticed = self.detected.read(image.number, size)
            findings += noticed
            kept = detections.confidence >= conf
            below = int((~kept).sum())
            detections = detections.take(kept)
        return ShownObjects(size, found, detections, ignored, below, findings)


def _fits(key: str, image: str) -> bool:
    """Whether a name is that of an image: the last part of its path, with or without suffix."""
    given = image.replace(os.sep, "/")
    ends = f"/{key}"
    stem, _ = os.path.splitext(ends)
    return ends.endswith(f"/{given}") or stem.endswith(f"/{given}")


def opened(
    what: Path, images: Path | None, data: Path | None, tiles: Path | None, options: ShowOptions
) -> Collection:
    """What there is to show.

    Args:
        what: a dataset, the output of tiler split or merge, or predictions.
        images: the folder of the images, where nothing else tells.
        data: the dataset of which `what` are predictions.
        tiles: the output of tiler split, whose windows are drawn on full images.

    Raises:
        TilerError: it cannot be used.
    """
    merged = provenance.of_output(what)
    if data is not None:
        collection = _with_detections(_of_dataset(data, images, options), what, options)
    elif merged is not None:
        collection = _of_merged(what, merged, images)
    else:
        _require_no_predictions(what)
        collection = _of_dataset(what, images, options)
    if not collection.images:
        raise TilerError(f"{what}: no images")
    windows = collection.windows or merged
    if tiles is not None:
        windows = tiles / manifest.NAME if tiles.is_dir() else tiles
        manifest.read_head(windows)
    return replace(collection, windows=windows)


def _require_no_predictions(what: Path) -> None:
    """Raises:
    TilerError: a file or folder of predictions, which need the images that they are for.
    """
    if what.suffix.lower() == ".json" and what.is_file():
        with open_regular(what) as file:
            predictions = file.read(100).lstrip()[:1] == b"["
    else:
        rows_alone = (what / "labels").is_dir() and not (what / "images").is_dir()
        predictions = (what / "predictions.json").is_file() or rows_alone
        predictions &= not any((what / name).is_file() for name in dataset_yaml.NAMES)
    if predictions:
        raise TilerError(f"{what}: these are predictions: --data names the dataset they are for")


def _of_dataset(data: Path, images: Path | None, options: ShowOptions) -> Collection:
    """A dataset, which may be one of tiles."""
    dataset = find(data, images, options, needed=())
    what = f"{dataset.kind} dataset" if dataset.labelled else "images"
    origins: dict[str, str] = {}
    cut = None
    path = dataset.root / manifest.NAME
    if dataset.kind == "YOLO" and path.is_file():
        what = "tiles"
        origins, cut = _of_tiles(path)
    shown = []
    for source in dataset.sources:
        name, _ = os.path.splitext(os.path.basename(source.key))
        file = os.path.join(dataset.root, source.key)
        origin = origins.get(name, source.key)
        shown.append(ShownImage(source.key, file, source.split, origin, source))
    return Collection(
        what,
        dataset.names,
        dataset.root,
        shown,
        dataset,
        cut=cut,
        findings=tuple(dataset.findings),
    )


def _of_tiles(path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The image that each tile was cut from, and how many objects its edge cuts."""
    origins = {}
    cut = {}
    for entry in manifest.read_sources(path):
        for tile in entry.tiles:
            origins[tile.name] = entry.source
            cut[tile.name] = sum(visible < 1 for _, visible in tile.rows)
    return origins, cut


def _with_detections(collection: Collection, preds: Path, options: ShowOptions) -> Collection:
    """The images of a dataset that predictions are for, with these."""
    assert collection.dataset is not None
    looked = collection.decided(collection.sample(), options.task)
    detected = Detected.of_dataset(preds, collection.dataset, looked.spec, options.task)
    numbers = _numbers_of(collection, detected)
    if not numbers:
        example = next(iter(detected.numbers), "none")
        raise TilerError(
            f"{preds}: none of the predictions is for an image of {collection.dataset.file} "
            f"({example}, ...)"
        )
    images = [replace(collection.images[i], number=number) for i, number in numbers.items()]
    return replace(
        collection,
        what=f"detections and labels of a {collection.what}",
        names=detected.names,
        images=images,
        detected=detected,
    )


def _numbers_of(collection: Collection, detected: Detected) -> dict[int, int]:
    """The predictions of each image: by its path, or by its name if no other image has the same."""
    keys = [image.key for image in collection.images]
    at = {key: i for i, key in reversed([*enumerate(keys)])}
    index = by_name(list(at), collection.root)
    as_number = index.numbered() if detected.predictions.numeric else {}
    found = {}
    for name, number in detected.numbers.items():
        stem, _ = os.path.splitext(name)
        place = index.place(name) or index.place(as_number.get(name, stem))
        if name in at:
            found[at[name]] = number
        elif place is not None:
            found[at[index.images[place[0]].key]] = number
    return dict(sorted(found.items()))


def _of_merged(folder: Path, merged: Path, images: Path | None) -> Collection:
    """The output of a merge, without labels."""
    place = images
    args = folder / "args.yaml"
    if place is None and args.is_file():
        place = located(plain_yaml.load(args), args).get("images")
    if place is None:
        raise TilerError(
            f"{folder}: where are its images? Give --images with their folder, or --data with the "
            "dataset"
        )
    detected = Detected.of_merged(folder)
    shown = []
    findings = []
    for brief in provenance.read_briefs(merged):
        number = detected.numbers.get(brief.source)
        if number is None:
            continue
        path = _below(place, brief.source)
        if path is None:
            findings.append(Finding(brief.source, "I01", f"no such image in {place}"))
        else:
            shown.append(
                ShownImage(brief.source, path, "", brief.source, number=number),
            )
    if not shown and findings:
        raise TilerError(f"--images {place}: none of the images is there ({findings[0].path}, ...)")
    return Collection(
        "merged detections",
        detected.names,
        place,
        shown,
        detected=detected,
        findings=tuple(findings),
    )


def _below(folder: Path, key: str) -> str | None:
    """The file in a folder that has the name of an image with most of its folders."""
    parts = [part for part in key.split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        path = os.path.join(os.path.abspath(folder), *parts[start:])
        if os.path.isfile(path):
            return path
    return None


def windows_of(collection: Collection, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Floats]:
    """`(T, 4)` xyxy of the tiles of some images, by key.

    Args:
        sizes: width and height of each.

    Raises:
        TilerError: the file that tells them cannot be read.
    """
    if collection.windows is None:
        return {}
    names: dict[str, list[str]] = {}
    for key in sizes:
        names.setdefault(os.path.basename(key), []).append(key)
    found: dict[str, Floats] = {}
    for source, size, rects in _tiled(collection.windows):
        same_name = names.get(os.path.basename(source), [])
        for key in [source] if source in sizes else same_name:
            if sizes[key] == size:
                found[key] = np.array(rects, np.float64).reshape(-1, 4)
    return found


Rects = list[tuple[float, float, float, float]]


def _tiled(file: Path) -> Iterator[tuple[str, tuple[int, int], Rects]]:
    """Image, size and tiles, from what split or merge wrote."""
    entries: Iterator[manifest.SourceTiles | provenance.MergedImage]
    if file.name == provenance.NAME:
        entries = provenance.read_sources(file)
    else:
        entries = manifest.read_sources(file)
    for entry in entries:
        rects: Rects = []
        for tile in entry.tiles:
            if (tile.w, tile.h) != (entry.width, entry.height):
                rects.append((tile.x, tile.y, tile.x + tile.w, tile.y + tile.h))
        yield entry.source, (entry.width, entry.height), rects
