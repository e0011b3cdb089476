"""Where each tile lies: the images and their tiles, by manifest or by the tiles' names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.sources import opened, relative, walk
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats import manifest, plain_yaml, tile_names
from tiler.formats.affine import Affine
from tiler.formats.manifest import Geo
from tiler.images.header import read
from tiler.options import PredictionOptions

if TYPE_CHECKING:
    from tiler.types import Floats

WHOLE = -1  # in place of a tile: predictions for the full image
LARGEST = 10**9  # px a side
UP = 8  # folders to look for a manifest in, upward


@dataclass(frozen=True, slots=True, eq=False)
class TiledImage:
    """A source image and its tiles.

    Attributes:
        key: its path, as the manifest names it, or from `--images` on.
        names: of its T tiles.
        rects: `(T, 4)` float64 xyxy, source pixels.
        scale: `(T,)` tile px per source px.
        splits: of the manifest, else one that has no name.
        geo: where it lies in the world, if the manifest knows.
        image_id: of the COCO set that was split.
    """

    key: str
    width: int
    height: int
    names: list[str]
    rects: Floats
    scale: Floats
    splits: tuple[str, ...] = ("",)
    geo: Geo | None = None
    image_id: int | str | None = None

    @property
    def stem(self) -> str:
        """The key without suffix."""
        return os.path.splitext(self.key)[0]


@dataclass(slots=True)
class Index:
    """All images, and where to look a name up.

    Attributes:
        said: what the places were taken from, and `where` that lies.
        names: class names, if the manifest tells; `categories` their ids in the COCO set that was
            split.
        root: the folder of the images, if known.
        by_names: the tiles are those that names of predictions tell of, there may have been others.
    """

    images: list[TiledImage]
    said: str
    where: Path
    task: str = "auto"
    names: tuple[str, ...] | None = None
    kpt_shape: tuple[int, int] | None = None
    categories: tuple[int, ...] | None = None
    root: Path | None = None
    by_names: bool = False
    findings: list[Finding] = field(default_factory=list)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wholes: dict[str, tuple[int, int]] = {}
        shared = Counter(os.path.basename(image.stem) for image in self.images)
        names = Counter(name for image in self.images for name in image.names)
        if names and names.most_common(1)[0][1] > 1:
            raise TilerError(
                f"{self.where}: several images have a tile {names.most_common(1)[0][0]}"
            )
        for number, image in enumerate(self.images):
            base = os.path.basename(image.stem)
            if shared[base] == 1:
                wholes[base] = (number, WHOLE)
            wholes[image.stem] = (number, WHOLE)
            self.places.update((name, (number, tile)) for tile, name in enumerate(image.names))
        self.places = {**wholes, **self.places}

    def place(self, key: str) -> tuple[int, int] | None:
        """Image and tile of a prediction's key: its whole path, else its last part. None: unknown."""
        return self.places.get(key) or self.places.get(os.path.basename(key))

    def numbered(self) -> dict[str, str]:
        """Names by the number that a numeric name is (007 is 7), where only one is."""
        found = [(str(int(name)), name) for name in self.places if name.isdecimal()]
        count = Counter(number for number, _ in found)
        return {number: name for number, name in found if count[number] == 1}


def of_manifest(path: Path) -> Index:
    """The images and tiles of a split's manifest.

    Raises:
        TilerError: it cannot be read.
    """
    head = manifest.read_head(path)
    found: dict[str, TiledImage] = {}
    findings: list[Finding] = []
    for source in manifest.read_sources(path):
        names = [tile.name for tile in source.tiles]
        if (
            max(
                (
                    source.width,
                    source.height,
                    *(max(abs(t.x), abs(t.y), t.w, t.h) for t in source.tiles),
                )
            )
            > LARGEST
        ):
            raise TilerError(f"{path}: {source.source}: no image is that large")
        rects = np.array(
            [(t.x, t.y, t.x + t.w, t.y + t.h) for t in source.tiles], np.float64
        ).reshape(-1, 4)
        scale = np.array([tile.scale for tile in source.tiles], np.float64)
        sound = (
            (rects[:, 2:] > rects[:, :2]).all() and (scale > 0).all() and np.isfinite(rects).all()
        )
        if not sound or (names and min(source.width, source.height) < 1):
            raise TilerError(f"{path}: {source.source}: its tiles have no size")
        if source.geo is not None:
            try:
                Affine.of(source.geo.transform)
            except TilerError as error:
                raise TilerError(f"{path}: {source.source}: {error}") from None
        if source.source in found:  # an image in two splits has its tiles twice
            found[source.source] = replace(
                found[source.source], splits=(*found[source.source].splits, source.split)
            )
        elif source.width:
            beyond = np.concatenate(
                [rects[:, :2] >= (source.width, source.height), rects[:, 2:] <= 0], axis=1
            )
            outside = np.asarray(beyond.any(axis=1))
            findings += [
                Finding(names[k], "D12", "it lies outside its image")
                for k in np.flatnonzero(outside)
            ]
            names = [name for name, out in zip(names, outside, strict=True) if not out]
            image = (
                source.source,
                source.width,
                source.height,
                names,
                rects[~outside],
                scale[~outside],
                (source.split,),
            )
            found[source.source] = TiledImage(*image, source.geo, source.image_id)
    shape = head.kpt_shape or []
    if head.kpt_shape is not None and (len(shape) != 2 or min(shape) < 1):
        raise TilerError(f"{path}: kpt_shape is [number of keypoints, values each], got {shape}")
    images = [found[key] for key in sorted(found)]
    classes = tuple(head.names) or None
    categories = (
        tuple(head.categories)
        if head.categories is not None and len(head.categories) == len(head.names)
        else None
    )
    kpt_shape = (shape[0], shape[1]) if shape else None
    return Index(
        images, "manifest", path, head.task, classes, kpt_shape, categories, findings=findings
    )


def of_names(keys: Sequence[str], images: Path, options: PredictionOptions) -> Index:
    """The images of a folder, and their tiles as the names of predictions tell.

    Raises:
        TilerError: no images there, or names that tell nothing.
    """
    if not os.path.isdir(images):
        raise TilerError(f"--images {images}: no such folder")
    root = Path(os.path.abspath(images))
    findings: list[Finding] = []
    sizes = dict(_sizes(root, findings))
    if not sizes:
        raise TilerError(f"--images {images}: no images found there")
    stems: dict[str, list[str]] = {}
    for key in sorted(sizes):
        stems.setdefault(os.path.splitext(os.path.basename(key))[0], []).append(key)
    numbers = {str(int(stem)) for stem in stems if stem.isdecimal()}
    names = sorted({os.path.basename(key) for key in keys} - stems.keys() - numbers)
    naming = options.naming
    if naming == "auto" and names:
        others = len(names) < len({os.path.basename(key) for key in keys})
        naming = tile_names.decide(names, stems.keys(), others)
    tiles: dict[str, list[tuple[str, tile_names.TileName]]] = {}
    for name in names:
        said = tile_names.parse(name, naming) if naming != "none" else None
        if said is None or said.stem not in stems:
            continue  # reported where its predictions are looked up
        if len(stems[said.stem]) > 1:
            both = " and ".join(stems[said.stem][:2])
            raise TilerError(f"{name}: a tile of {both}? their names are the same; use --tiles")
        tiles.setdefault(stems[said.stem][0], []).append((name, said))
    if naming == "dota_devkit" and options.tile is None:
        raise TilerError(
            "names of DOTA_devkit do not tell how large a tile is: say --tile (its default was "
            "1024)"
        )
    tile = (
        options.tile if isinstance(options.tile, tuple) else (options.tile or 0, options.tile or 0)
    )
    cropped = naming == "split_dota"
    found = [
        _image(key, sizes[key], tiles.get(key, []), tile, cropped, findings)
        for key in sorted(sizes)
    ]
    what = f"names of tiles ({naming})" if names and naming != "none" else "names of images"
    return Index(found, what, images, root=root, by_names=True, findings=findings)


def _sizes(root: Path, findings: list[Finding]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Width and height of every image under a folder, from their headers; no pixel is decoded."""
    for path, _ in walk(root, findings, root):
        key = relative(path, root)
        try:
            with opened(path) as file:
                yield key, read(file).size
        except SourceRefused as error:
            findings.append(Finding(key, error.code, error.message))
        except (OSError, ValueError, IndexError, OverflowError, ArithmeticError):
            findings.append(
                Finding(key, "I03", "the header is cut off, or points outside the file")
            )


def _image(
    key: str,
    size: tuple[int, int],
    tiles: list[tuple[str, tile_names.TileName]],
    side: tuple[int, int],
    cropped: bool,
    findings: list[Finding],
) -> TiledImage:
    """An image with its named tiles; those that do not lie in it are left out.

    Args:
        side: of a tile whose name does not say.
        cropped: tiles were cut off at the image's border, and their names do not tell.
    """
    width, height = size
    names, rects, scales = [], [], []
    for name, said in tiles:
        if said.x >= width or said.y >= height:
            findings.append(
                Finding(
                    name,
                    "D12",
                    f"it begins at {said.x:g}, {said.y:g}; {key} has {width} x {height} px",
                )
            )
            continue
        w = said.width or side[0] / said.scale
        h = said.height or side[1] / said.scale
        right, bottom = said.x + w, said.y + h
        names.append(name)
        rects.append(
            (said.x, said.y, min(right, width), min(bottom, height))
            if cropped
            else (said.x, said.y, right, bottom)
        )
        scales.append(said.scale)
    return TiledImage(
        key,
        width,
        height,
        names,
        np.array(rects, np.float64).reshape(-1, 4),
        np.array(scales, np.float64),
    )


def manifest_of(preds: Path, tiles: Path | None) -> Path | None:
    """The manifest that is meant: the one given; the one that a training run's args.yaml leads to;
    or one upward.

    Raises:
        TilerError: `tiles` is given and holds none.
    """
    if tiles is not None:
        path = tiles / manifest.NAME if os.path.isdir(tiles) else tiles
        if not os.path.isfile(path):
            raise TilerError(
                f"--tiles {tiles}: expected the output of tiler split, or its {manifest.NAME}"
            )
        return path
    for start in (*_trained_on(preds), Path(os.path.abspath(preds))):
        for folder in [start, *start.parents][: UP + 1]:
            if os.path.isfile(folder / manifest.NAME):
                return folder / manifest.NAME
    return None


def _trained_on(preds: Path) -> Iterator[Path]:
    """The data and source that a run was given, by its args.yaml; of Ultralytics 8.4 only training
    writes one.
    """
    for folder in (preds, preds.parent):
        path = folder / "args.yaml"
        if not os.path.isfile(path):
            continue
        try:
            content = plain_yaml.load(path)
        except TilerError:
            continue
        for key in ("data", "source"):
            value = content.get(key)
            if isinstance(value, str) and value and "\0" not in value and os.path.exists(value):
                yield Path(os.path.abspath(value))
