"""Where each tile lies in its image, according to a manifest or to the names of the tiles."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets import naming
from tiler.datasets.dataset import relative
from tiler.datasets.image_files import image_size, walk
from tiler.datasets.naming import NamedWindows
from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats import manifest, plain_yaml
from tiler.formats.affine import Affine
from tiler.formats.manifest import Geo, ManifestHead, SourceTiles
from tiler.options import PredictionOptions

if TYPE_CHECKING:
    from tiler.types import Floats

WHOLE = -1  # instead of a tile: predictions for the full image
LARGEST = 10**9  # px a side
UP = 8  # how many folders upward a manifest is looked for


@dataclass(frozen=True, slots=True, eq=False)
class TiledImage:
    """A source image and its tiles.

    Attributes:
        key: its path as in the manifest, or relative to `--images`.
        names: of its T tiles.
        rects: `(T, 4)` float64 xyxy, source pixels.
        scale: `(T,)` tile px per source px.
        splits: those of the manifest, else one without a name.
        tile_splits: of each tile, if the image was divided among splits in blocks; else empty.
        some_blocks: these are the tiles of some of its blocks.
        geo: its location in the world, if the manifest has it.
        image_id: its id in the COCO set that was split.
    """

    key: str
    width: int
    height: int
    names: list[str]
    rects: Floats
    scale: Floats
    splits: tuple[str, ...] = ("",)
    tile_splits: tuple[str, ...] = ()
    some_blocks: bool = False
    geo: Geo | None = None
    image_id: int | str | None = None

    @property
    def stem(self) -> str:
        """The key without suffix."""
        return os.path.splitext(self.key)[0]

    def take(self, tiles: Sequence[int]) -> TiledImage:
        """The image with some of its tiles."""
        return replace(
            self,
            names=[self.names[t] for t in tiles],
            rects=self.rects[list(tiles)],
            scale=self.scale[list(tiles)],
            tile_splits=tuple(self.tile_splits[t] for t in tiles if self.tile_splits),
        )


@dataclass(slots=True)
class Index:
    """All images and their tiles, and where to look up a name.

    Attributes:
        said: where the tiles are known from, in words, and `where` that is.
        names: class names, if the manifest has any; `categories` their ids in the COCO set that
            was split.
        root: the folder of the images, if known.
        by_names: only tiles that predictions are named after are known; there may be others.
        places: image and tile by name; the tile is WHOLE for the name of an image.
        ids: names of tiles by their image id in a COCO JSON of the tiles, if there is one.
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
    ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require_unique_tiles()
        stems = [image.stem for image in self.images]
        bases = [os.path.basename(stem) for stem in stems]
        same_base = Counter(bases)
        images: dict[str, tuple[int, int]] = {}
        for number, image in enumerate(self.images):
            base = bases[number]
            if same_base[base] == 1:
                images[base] = (number, WHOLE)
            images[stems[number]] = (number, WHOLE)
            for tile, name in enumerate(image.names):
                self.places[name] = (number, tile)
        self.places = {**images, **self.places}

    def _require_unique_tiles(self) -> None:
        count = Counter(name for image in self.images for name in image.names)
        for name, number in count.most_common(1):
            if number > 1:
                raise TilerError(f"{self.where}: several images have a tile {name}")

    def place(self, key: str) -> tuple[int, int] | None:
        """Image and tile of a prediction by its path, else by the last part; None if unknown."""
        return self.places.get(key) or self.places.get(os.path.basename(key))

    def numbered(self) -> dict[str, str]:
        """Names by their image id, if there is a table of these; else numeric names by their number
        (007 is 7), where only one name has it.
        """
        if self.ids:
            return self.ids
        names: dict[str, list[str]] = {}
        for name in self.places:
            if name.isdecimal():
                names.setdefault(str(int(name)), []).append(name)
        return {number: same[0] for number, same in names.items() if len(same) == 1}


def of_manifest(path: Path) -> Index:
    """The images and tiles in a split's manifest.

    Raises:
        TilerError: it cannot be read, or says what cannot be.
    """
    head = manifest.read_head(path)
    if head.task == "semantic":
        raise TilerError(
            f"{path}: tiles with class masks and no label files; masks are not merged or scored"
        )
    images: dict[str, TiledImage] = {}
    findings: list[Finding] = []
    for source in manifest.read_sources(path):
        try:
            image, outside = _of_source(source)
        except TilerError as error:
            raise TilerError(f"{path}: {source.source}: {error}") from None
        known = images.get(image.key)
        if known is not None:
            images[image.key] = _joined(known, image)
            findings += [Finding(name, "D12", "it lies outside its image") for name in outside]
        elif source.width:
            images[image.key] = image
            findings += [Finding(name, "D12", "it lies outside its image") for name in outside]
    return Index(
        [images[key] for key in sorted(images)],
        "manifest",
        path,
        head.task,
        names=tuple(head.names) or None,
        kpt_shape=_kpt_shape(head, path),
        categories=_categories(head),
        findings=findings,
    )


def _of_source(source: SourceTiles) -> tuple[TiledImage, list[str]]:
    """An image of the manifest with its tiles, and the names of tiles that lie outside of it.

    Raises:
        TilerError: sizes, scales or a location that cannot be.
    """
    size = (source.width, source.height)
    rects, scale = _rects(source)
    if source.geo is not None:
        Affine.of(source.geo.transform)
    before = (rects[:, 2:] <= 0).any(axis=1)
    behind = (rects[:, :2] >= size).any(axis=1)
    inside = np.asarray(~(before | behind))
    names = []
    outside = []
    for tile, is_inside in zip(source.tiles, inside, strict=True):
        if is_inside:
            names.append(tile.name)
        else:
            outside.append(tile.name)
    image = TiledImage(
        source.source,
        *size,
        names,
        rects[inside],
        scale[inside],
        (source.split,),
        geo=source.geo,
        image_id=source.image_id,
    )
    return image, outside


def _joined(image: TiledImage, other: TiledImage) -> TiledImage:
    """An image with its tiles of several splits: the same ones, or other ones where it was divided
    in blocks."""
    splits = image.splits + other.splits
    if not set(image.names).isdisjoint(other.names):
        return replace(image, splits=splits)
    before = image.tile_splits or image.splits * len(image.names)
    return replace(
        image,
        names=image.names + other.names,
        rects=np.concatenate([image.rects, other.rects]),
        scale=np.concatenate([image.scale, other.scale]),
        splits=splits,
        tile_splits=before + other.splits * len(other.names),
    )


def _rects(source: SourceTiles) -> tuple[Floats, Floats]:
    """`(T, 4)` xyxy and `(T,)` scale of an image's tiles."""
    sides = [source.width, source.height]
    corners = []
    scales = []
    for tile in source.tiles:
        sides += [abs(tile.x), abs(tile.y), tile.w, tile.h]
        right = tile.x + tile.w
        bottom = tile.y + tile.h
        corners.append((tile.x, tile.y, right, bottom))
        scales.append(tile.scale)
    if max(sides) > LARGEST:
        raise TilerError("no image is that large")
    rects = np.array(corners, np.float64).reshape(-1, 4)
    scale = np.array(scales, np.float64)
    has_size = bool((rects[:, 2:] > rects[:, :2]).all() and (scale > 0).all())
    if source.tiles and min(source.width, source.height) < 1:
        has_size = False
    if not has_size:
        raise TilerError("its tiles have no size")
    return rects, scale


def _kpt_shape(head: ManifestHead, path: Path) -> tuple[int, int] | None:
    shape = head.kpt_shape
    if shape is None:
        return None
    if len(shape) != 2 or min(shape) < 1:
        raise TilerError(f"{path}: kpt_shape is [number of keypoints, values each], got {shape}")
    return shape[0], shape[1]


def _categories(head: ManifestHead) -> tuple[int, ...] | None:
    """The category id of each class, if there is one for each."""
    if head.categories is None or len(head.categories) != len(head.names):
        return None
    return tuple(head.categories)


def of_names(keys: Sequence[str], images: Path, options: PredictionOptions) -> Index:
    """The images in a folder, and their tiles according to the names of predictions.

    Args:
        keys: of the predictions, with or without folders.

    Raises:
        TilerError: there are no images, or the names do not say where tiles lie.
    """
    root = Path(os.path.abspath(images))
    findings: list[Finding] = []
    sizes = image_sizes(images, findings)
    by_stem = _by_stem(sizes)
    names, windows = _windows(keys, by_stem, sizes, options)
    tiled = _tiled(sizes, by_stem, windows, findings)
    said = "names of images"
    if names and windows is not None:
        said = f"names of tiles ({windows.said})"
    return Index(tiled, said, images, root=root, by_names=True, findings=findings)


def image_sizes(images: Path, findings: list[Finding]) -> dict[str, tuple[int, int]]:
    """Width and height of the images in a folder by their path in it.

    Args:
        findings: of images that cannot be read; is added to.

    Raises:
        TilerError: there are none.
    """
    if not os.path.isdir(images):
        raise TilerError(f"--images {images}: no such folder")
    sizes = dict(sorted(_sizes(Path(os.path.abspath(images)), findings)))
    if not sizes:
        raise TilerError(f"--images {images}: no images found there")
    return sizes


def _by_stem(keys: Iterable[str]) -> dict[str, list[str]]:
    """The images of each stem."""
    by_stem: dict[str, list[str]] = {}
    for key in keys:
        stem, _ = os.path.splitext(os.path.basename(key))
        by_stem.setdefault(stem, []).append(key)
    return by_stem


def _windows(
    keys: Sequence[str],
    by_stem: Mapping[str, Sequence[str]],
    sizes: Mapping[str, tuple[int, int]],
    options: PredictionOptions,
) -> tuple[list[str], NamedWindows | None]:
    """The names of predictions that are not for a full image, and their windows.

    Raises:
        TilerError: none is named like a tile, or it is unclear where tiles lie.
    """
    given = {os.path.basename(key) for key in keys}
    numbers = {str(int(stem)) for stem in by_stem if stem.isdecimal()}
    names = sorted(given.difference(by_stem, numbers))
    if not names:
        return names, None
    by_name = {stem: sizes[images[0]] for stem, images in by_stem.items()}
    windows = naming.decided(names, by_name, options)
    if windows is None and len(names) == len(given):
        shown = ", ".join(name[:80] for name in names[:3])
        raise TilerError(
            f"no prediction is named like a tile of one of the {len(by_stem)} images (got "
            f"{shown}); expected names as tiler, SAHI, split_dota, DOTA_devkit or yolo_tiler write "
            "them, --naming with a pattern, or --tiles with the manifest of the split"
        )
    return names, windows


def _sizes(root: Path, findings: list[Finding]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Path and size of every image under a folder that can be read."""
    for path, _ in walk(root, findings, root):
        key = relative(path, root)
        try:
            yield key, image_size(path)
        except SourceRefused as error:
            findings.append(Finding(key, error.code, error.message))


def _tiled(
    sizes: Mapping[str, tuple[int, int]],
    by_stem: Mapping[str, Sequence[str]],
    windows: NamedWindows | None,
    findings: list[Finding],
) -> list[TiledImage]:
    """The images with their tiles; those of none are reported where their predictions are looked
    up.

    Args:
        by_stem: the images that have a stem.
        findings: of tiles that do not lie in their image, which are left out; is added to.

    Raises:
        TilerError: a tile may be of several images.
    """
    if windows is None:
        nothing = np.zeros((0, 4))
        return [TiledImage(key, *size, [], nothing, np.ones(0)) for key, size in sizes.items()]
    tiles: dict[str, list[int]] = {}
    for tile, stem in enumerate(windows.stems):
        images = by_stem[stem]
        if len(images) > 1:
            name = windows.names[tile]
            both = " and ".join(images[:2])
            raise TilerError(f"{name}: a tile of {both}? their names are the same; use --tiles")
        tiles.setdefault(images[0], []).append(tile)
    tiled = []
    for key, size in sizes.items():
        tiled.append(_named_image(key, size, windows, tiles.get(key, []), findings))
    return tiled


def _named_image(
    key: str,
    size: tuple[int, int],
    windows: NamedWindows,
    tiles: Sequence[int],
    findings: list[Finding],
) -> TiledImage:
    """An image with its named tiles; those that do not lie in it are left out."""
    width, height = size
    inside = []
    for tile in tiles:
        x, y = windows.rects[tile, :2].tolist()
        if x >= width or y >= height:
            message = f"it begins at {x:g}, {y:g}; {key} has {width} x {height} px"
            findings.append(Finding(windows.names[tile], "D12", message))
        else:
            inside.append(tile)
    names = [windows.names[tile] for tile in inside]
    return TiledImage(key, width, height, names, windows.rects[inside], windows.scale[inside])


def manifest_of(preds: Path, tiles: Path | None) -> Path | None:
    """The manifest of the tiles that predictions are for.

    That is the one given, else the one that a training run's args.yaml leads to, else one in a
    folder above the predictions; None if there is none.

    Raises:
        TilerError: `tiles` is given and has none.
    """
    if tiles is not None:
        path = tiles
        if os.path.isdir(tiles):
            path = tiles / manifest.NAME
        if not os.path.isfile(path):
            raise TilerError(
                f"--tiles {tiles}: expected the output of tiler split, or its {manifest.NAME}"
            )
        return path
    for start in (*_trained_on(preds), preds):
        found = manifest_above(start)
        if found is not None:
            return found
    return None


def manifest_above(path: Path) -> Path | None:
    """The manifest in a folder or in one of those above it."""
    start = Path(os.path.abspath(path))
    for folder in [start, *start.parents][: UP + 1]:
        file = folder / manifest.NAME
        if os.path.isfile(file):
            return file
    return None


def _trained_on(preds: Path) -> Iterator[Path]:
    """The data and the source in a run's args.yaml; Ultralytics 8.4 writes it in training only."""
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
            if not isinstance(value, str) or not value or "\0" in value:
                continue
            if os.path.exists(value):
                yield Path(os.path.abspath(value))
