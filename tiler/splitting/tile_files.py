"""The pixels of one source to its tiles, with their labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.labels import Labels
from tiler.datasets.sources import Source
from tiler.errors import Unfinished
from tiler.formats import yolo
from tiler.formats.manifest import WORLD, Geo
from tiler.geometry.window import Window
from tiler.images import deep, geo, lossless, memory, pixels, reading, writing
from tiler.images.encoding import Encoding, encoding
from tiler.images.header import Header
from tiler.images.reading import Crop, SourceImage
from tiler.images.row_reader import Later
from tiler.options import pixel_limit
from tiler.run import staging
from tiler.run.folders import Folder
from tiler.splitting.job import SourcePlan, SplitJob, tile_paths
from tiler.splitting.tile_labels import masked_outlines

if TYPE_CHECKING:
    from tiler.geometry.polygons import Rings
    from tiler.types import Floats

Stamps = list[tuple[int, int]]  # of a tile, see report.Outcome

COLOUR = 3  # bands, also of what the trainer makes colour of: grey, and colour with alpha
KINDS = {"u": "unsigned", "i": "signed", "f": "float"}
COEFFICIENTS = 6  # bytes a pixel, at most, that copying the coefficients of a JPEG takes


@dataclass(slots=True)
class Made:
    """What became of the tiles of a source.

    Attributes:
        suffix: of the tiles' images.
        stamps: of each tile, see `report.Outcome`.
        notes: code and text of what is to be known.
        copied: tiles whose JPEG coefficients were copied.
        channels: bands of a tile as the trainer takes them: 3, or how many others there are; 0
            where nothing was made.
        geo: where the source lies in the world.
    """

    suffix: str = ""
    stamps: list[Stamps] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    copied: int = 0
    channels: int = 0
    geo: Geo | None = None


def write(
    job: SplitJob,
    source: Source,
    file: BufferedReader,
    header: Header,
    plan: SourcePlan,
    labels: Labels,
    later: Later,
) -> Made:
    """Every tile of the plan, from an image that is read once: all of them, or none.

    Raises:
        SourceRefused: the image is damaged, or the tiles' format cannot hold it.
        Unfinished: the disk is full.
    """
    chosen = job.options
    with reading.opened(file, header, pixel_limit(chosen.max_pixels), job.pages) as image:
        stretched = _stretched(job, image)
        keeps = chosen.jpeg == "keep" and chosen.format in ("same", "jpg")
        how = encoding(
            image,
            header,
            chosen.format,
            chosen.quality,
            reading.tables(file, header) if keeps else None,
        )
        deep.require(how)
        made = Made(how.suffix, notes=_notes(image, how, stretched))
        made.channels = image.bands if deep.paged(how, image.bands) else COLOUR
        located = geo.located(file, header, job.root / source.key)
        made.geo = None if located is None else located.geo
        tiles = SourceTilesWriter(job, source, header, plan, labels, how, image.mode, located)
        numbers = np.flatnonzero(plan.written).tolist()
        if keeps and not stretched:
            made.copied = _copy(tiles, file, numbers)
        try:
            made.stamps = _cut(tiles, image, numbers, later)
        except Unfinished:  # what is there is of use to the next run
            raise
        except Exception:  # some rows were good, but an image is cut whole or not at all
            tiles.remove(numbers)
            raise
    return made


def _stretched(job: SplitJob, image: SourceImage) -> bool:
    limits = (job.limits or {}).get(kind_of(image))
    if limits is not None:
        image.stretched(limits)
    return limits is not None


def kind_of(image: SourceImage) -> str:
    """Images of one kind share a mapping to 8 bits: `RGB;16 u2x3`. Their byte order is no kind of
    its own (`I;16B`).
    """
    return f"{image.mode.removesuffix('B')} {image.dtype.str[1:]}x{image.bands}"


def _notes(image: SourceImage, how: Encoding, stretched: bool) -> list[tuple[str, str]]:
    notes = [] if how.note is None else [("I12", how.note)]
    if image.by_rows and image.header.pillow_only and image.header.problem is None:
        notes.append(
            (
                "I12",
                f"{image.header.pillow_only} is not known in an image of this size; its pixels "
                "are as stored",
            )
        )
    if image.dtype.itemsize > 1 and not stretched:
        kept = f"{image.dtype.itemsize * 8}-bit {KINDS[image.dtype.kind]} samples are kept"
        taken = (
            ", of which the trainer takes the high byte only" if image.dtype.str[1:] == "u2" else ""
        )
        notes.append(("I13", f"{kept}{taken}; --stretch maps them to 8 bits"))
    return notes


def _cut(
    tiles: SourceTilesWriter, image: SourceImage, numbers: list[int], later: Later
) -> list[Stamps]:
    """Tiles by their pixels; their stamps in their order."""
    todo = [t for t in numbers if t not in tiles.copied]
    stamps: dict[int, Future[Stamps]] = {}
    if todo:
        try:
            inner = [tiles.inner(t) for t in todo]
            for crop, here in image.sweep(inner, later):
                for i in here:
                    future = stamps[todo[i]] = later(partial(tiles.make, todo[i], crop, inner[i]))
                    if future.done():
                        future.result()  # a full disk: no use to go on
        finally:
            wait(stamps.values())
    return [tiles.copied[t] if t in tiles.copied else stamps[t].result() for t in numbers]


def _copy(tiles: SourceTilesWriter, file: BufferedReader, numbers: list[int]) -> int:
    """Tiles whose JPEG coefficients can be copied, all in one go."""
    header = tiles.header
    unit = lossless.unit(header)
    if unit is None or not memory.enough(COEFFICIENTS * header.pixels):
        return 0
    mine = [t for t in numbers if tiles.aligned(t, unit)]
    file.seek(0)
    try:
        parts = (
            lossless.copied(file.read(), [tiles.plan.places[t].window for t in mine])
            if mine
            else []
        )
    except OSError:  # damaged: its decoder will say how
        return 0
    profile = tiles.how.options.get("icc_profile")
    for t, part in zip(mine, parts, strict=True):
        tiles.copied[t] = tiles.store(t, lossless.with_profile(part, profile) if profile else part)
    return len(mine)


@dataclass(slots=True)
class SourceTilesWriter:
    """The tiles of one source.

    Attributes:
        mode: of the source's pixels.
        copied: the stamps of those that were made without decoding.
    """

    job: SplitJob
    source: Source
    header: Header
    plan: SourcePlan
    labels: Labels
    how: Encoding
    mode: str
    located: geo.Located | None
    copied: dict[int, Stamps] = field(default_factory=dict)

    def inner(self, t: int) -> Window:
        """The part of a tile's window that is inside the image."""
        inner = self.plan.places[t].window.intersection(Window(0, 0, *self.header.size))
        assert inner is not None
        return inner

    def make(self, t: int, crop: Crop, inner: Window) -> Stamps:
        """Cut a tile out and write it."""
        place = self.plan.places[t]
        tile = pixels.fitted(crop(inner), self.mode, inner, place.window, place.size, self.how)
        hidden, shown = self.masked(t)
        if hidden:
            if isinstance(tile, np.ndarray):
                tile = tile.copy()  # it may be a part of its neighbours, too
            origin, zoom = self.plan.bounds[t, :2], np.array(self.zoom(t))
            hidden, shown = (
                [[(r - origin) * zoom for r in o] for o in side] for side in (hidden, shown)
            )
            pixels.paint_out(tile, hidden, shown, self.how.mode)
        tags = [] if self.located is None else self.located.tags(place.window, self.zoom(t))
        return self._written(
            t, lambda path, opener: writing.save(tile, path, self.how, tags, opener)
        )

    def store(self, t: int, data: bytes) -> Stamps:
        """Write a tile that is encoded already."""
        return self._written(t, lambda path, opener: writing.store(path, data, opener))

    def _written(self, t: int, save: Callable[[str, writing.Opener], int]) -> Stamps:
        text = yolo.text(
            [self.plan.rows.values[i] for i in self.plan.rows_of(t)], self.job.spec.task
        ).encode()
        paths = self._paths(t)
        tree = self.tree
        placed = self.located is not None and self.how.format != "TIFF"
        with staging.writing():  # into the staging tree: what is torn there is made again
            if placed and self.located is not None:
                world = self.located.world(self.plan.places[t].window, self.zoom(t))
                writing.store(world_path(paths[0]), world.encode(), tree.opener)
            save(paths[0], tree.opener)
            writing.store(paths[1], text, tree.opener)
            return stamped(tree, paths, placed)

    def remove(self, numbers: Sequence[int]) -> None:
        """Delete what was written of these tiles."""
        for t in numbers:
            image, label = self._paths(t)
            for path in (image, label, world_path(image)):
                with suppress(OSError):
                    self.tree.remove(path)

    @property
    def tree(self) -> Folder:
        """Where they go."""
        assert self.job.tree is not None
        return self.job.tree

    def _paths(self, t: int) -> tuple[str, str]:
        return tile_paths(self.source.split, self.plan.places[t].name, self.how.suffix)

    def zoom(self, t: int) -> tuple[float, float]:
        """Pixels of the tile for one of the source."""
        place = self.plan.places[t]
        return place.size[0] / place.window.width, place.size[1] / place.window.height

    def masked(self, t: int) -> tuple[list[list[Floats]], list[list[Floats]]]:
        """Outlines to paint out of a tile, and to leave, in source pixels."""
        return masked_outlines(
            self.plan.views, self.plan.rows, t, self.plan.bounds[t], self._ignored()
        )

    def _ignored(self) -> Rings:
        regions = self.labels.ignored
        return (
            regions if self.job.options.ignored == "mask" else regions.take(np.empty(0, np.int64))
        )

    def aligned(self, t: int, unit: tuple[int, int]) -> bool:
        """Whether a tile is a part of the image as it is, from whole blocks of coefficients on."""
        place = self.plan.places[t]
        window = place.window
        plain = self.inner(t) == window and place.size == (window.width, window.height)
        return (
            plain and window.x % unit[0] == 0 and window.y % unit[1] == 0 and not self.masked(t)[0]
        )


def stamped(tree: Folder, paths: tuple[str, str], placed: bool) -> Stamps:
    """What the files of a tile look like now, its world file too if it is `placed` by one."""
    files = [*paths, world_path(paths[0])] if placed else paths
    return [tree.stamp(path) for path in files]


def world_path(image: str) -> str:
    """The world file of a tile."""
    return os.path.splitext(image)[0] + WORLD
