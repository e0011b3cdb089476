"""The tiles of one source: their pixels and their label files."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.datasets.dataset import Source
from tiler.datasets.labels import Labels
from tiler.errors import Unfinished
from tiler.formats import yolo
from tiler.formats.manifest import WORLD, Geo
from tiler.formats.tile_folders import SUFFIXES
from tiler.geometry.window import Window
from tiler.images import beyond_pillow, geo, lossless, memory, nodata, pixels, reading, writing
from tiler.images.class_masks import ClassMask
from tiler.images.encoding import Encoding, encoding
from tiler.images.header import Header
from tiler.images.nodata import NoData
from tiler.images.pixels import Pixels
from tiler.images.reading import Crop, SourceImage
from tiler.images.row_reader import Later
from tiler.options import pixel_limit
from tiler.run import staging
from tiler.run.folders import Folder
from tiler.splitting import mask_tiles
from tiler.tiling.job import SplitJob
from tiler.tiling.source_plan import SourcePlan
from tiler.tiling.tile_labels import masked_outlines

if TYPE_CHECKING:
    from tiler.types import Floats

Stamps = list[tuple[int, int]]  # of a tile, see report.SplitOutcome

COLOUR = 3  # bands, also of what the trainer converts to colour: grey, and colour with alpha
KINDS = {"u": "unsigned", "i": "signed", "f": "float"}
COEFFICIENTS = 6  # bytes a pixel, at most, that copying the coefficients of a JPEG takes


@dataclass(slots=True)
class Made:
    """What became of the tiles of a source.

    Attributes:
        suffix: of the tiles' images.
        stamps: of each tile, see `report.SplitOutcome`.
        notes: findings, as code and message.
        copied: number of tiles whose JPEG coefficients were copied.
        flat: number of tiles without a label that are of one value, though none is declared to
            stand for no data.
        channels: bands of a tile as the trainer takes them: 3, or another number; 0 where nothing
            was made.
        geo: where the source lies in the world.
    """

    suffix: str = ""
    stamps: list[Stamps] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    copied: int = 0
    flat: int = 0
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
    mask: ClassMask | None = None,
) -> Made:
    """Every tile of the plan, from an image that is read once: all of them, or none.

    Raises:
        SourceRefused: the image is damaged, or the tiles' format cannot hold it.
        Unfinished: the disk is full.
    """
    limit = pixel_limit(job.options.max_pixels)
    with reading.opened(file, header, limit, job.pages) as image:
        stretched = _stretched(job, image)
        how = _encoding(job, file, header, image)
        made = Made(how.suffix, notes=_notes(image, how, stretched))
        made.channels = image.bands if beyond_pillow.paged(how, image.bands) else COLOUR
        located = geo.located(file, header, job.root / source.key)
        if located is not None:
            made.geo = located.geo
        tiles = SourceTilesWriter(job, source, header, plan, labels, how, image.mode, located)
        tiles.mask = mask
        if not stretched and image.mode in (how.mode, how.mode + "B"):  # of another byte order
            tiles.nodata = image.nodata
        if _keeps_jpeg(job) and not stretched:
            made.copied = _copy(tiles, file)
        try:
            made.stamps = _cut(tiles, image, later)
        except Unfinished:  # what is there is of use to the next run
            raise
        except Exception:  # some rows were good, but an image is cut whole or not at all
            tiles.remove()
            raise
        if not image.nodata.colours:
            made.flat = len(tiles.flat)
    return made


def _keeps_jpeg(job: SplitJob) -> bool:
    """Whether tiles of a JPEG keep its coefficients and tables."""
    return job.options.jpeg == "keep" and job.options.format in ("same", "jpg")


def _encoding(job: SplitJob, file: BufferedReader, header: Header, image: SourceImage) -> Encoding:
    """How the tiles are encoded."""
    tables = reading.tables(file, header) if _keeps_jpeg(job) else None
    how = encoding(image, header, job.options.format, job.options.quality, tables)
    beyond_pillow.require(how)
    return how


def _stretched(job: SplitJob, image: SourceImage) -> bool:
    """Map an image to 8 bits, if --stretch says so."""
    if job.limits is None:
        return False
    limits = job.limits.get(kind_of(image))
    if limits is None:
        return False
    image.stretched(limits)
    return True


def kind_of(image: SourceImage) -> str:
    """Images of one kind share a mapping to 8 bits: `RGB;16 u2x3`. Their byte order is no kind of
    its own (`I;16B`).
    """
    return f"{image.mode.removesuffix('B')} {image.dtype.str[1:]}x{image.bands}"


def _notes(image: SourceImage, how: Encoding, stretched: bool) -> list[tuple[str, str]]:
    """Code and message of what is to be known of the tiles' pixels."""
    notes = []
    if how.note is not None:
        notes.append(("I12", how.note))
    header = image.header
    if image.by_rows and header.pillow_only and header.problem is None:
        why = "is not supported in an image of this size; its pixels are as stored"
        notes.append(("I12", f"{header.pillow_only} {why}"))
    if header.nodata and header.colour == "palette" and image.by_rows:
        why = "stands for an index; indices of an image of this size are read as colours"
        notes.append(("I15", f"no-data value {header.nodata} {why}"))
    if image.dtype.itemsize > 1 and not stretched:
        bits = image.dtype.itemsize * 8
        text = f"{bits}-bit {KINDS[image.dtype.kind]} samples are kept"
        if image.dtype.str[1:] == "u2":
            text += ", of which the trainer takes the high byte only"
        notes.append(("I13", f"{text}; --stretch maps them to 8 bits"))
    return notes


def _cut(tiles: SourceTilesWriter, image: SourceImage, later: Later) -> list[Stamps]:
    """Cut out and write the tiles that were not copied; the stamps of all, in order."""
    numbers = tiles.numbers
    stamps = dict(tiles.copied)
    todo = [t for t in numbers if t not in stamps]
    if todo:
        stamps |= _swept(tiles, image, todo, later)
    return [stamps[t] for t in numbers]


def _swept(
    tiles: SourceTilesWriter, image: SourceImage, todo: list[int], later: Later
) -> dict[int, Stamps]:
    """Cut out and write tiles while going down the image once; their stamps by number."""
    inner = [tiles.inner(t) for t in todo]
    futures: dict[int, Future[Stamps]] = {}
    try:
        for crop, here in image.sweep(inner, later):
            for i in here:
                future = later(partial(tiles.make, todo[i], crop, inner[i]))
                futures[todo[i]] = future
                if future.done():
                    future.result()  # a full disk: the others would fail too
    finally:
        wait(futures.values())
    return {t: future.result() for t, future in futures.items()}


def _copy(tiles: SourceTilesWriter, file: BufferedReader) -> int:
    """Write the tiles whose JPEG coefficients can be copied, all in one go; how many there are."""
    header = tiles.header
    block = lossless.unit(header)
    if block is None or not memory.enough(COEFFICIENTS * header.pixels):
        return 0
    numbers = [t for t in tiles.numbers if tiles.aligned(t, block)]
    if not numbers:
        return 0
    file.seek(0)
    try:
        parts = lossless.copied(file.read(), [tiles.plan.tiles[t].window for t in numbers])
    except OSError:  # damaged: its decoder will say how
        return 0
    profile = tiles.how.options.get("icc_profile")
    for t, part in zip(numbers, parts, strict=True):
        data = lossless.with_profile(part, profile) if profile else part
        tiles.copied[t] = tiles.store(t, data)
    return len(numbers)


@dataclass(slots=True)
class SourceTilesWriter:
    """Writes the tiles of one source.

    Attributes:
        mode: of the source's pixels.
        nodata: which pixels have no data, where tiles keep the source's values.
        flat: the tiles without a label that are of one value.
        copied: the stamps of the tiles that were made without decoding, by number.
        mask: the class mask of the source, if it has one.
    """

    job: SplitJob
    source: Source
    header: Header
    plan: SourcePlan
    labels: Labels
    how: Encoding
    mode: str
    located: geo.Located | None
    nodata: NoData | None = None
    flat: list[int] = field(default_factory=list)
    copied: dict[int, Stamps] = field(default_factory=dict)
    mask: ClassMask | None = None

    @property
    def numbers(self) -> list[int]:
        """The tiles to write, by their place in the plan."""
        return np.flatnonzero(self.plan.written).tolist()

    def inner(self, t: int) -> Window:
        """The part of a tile's window that is inside the image."""
        image = Window(0, 0, *self.header.size)
        inner = self.plan.tiles[t].window.intersection(image)
        assert inner is not None
        return inner

    def make(self, t: int, crop: Crop, inner: Window) -> Stamps:
        """Cut a tile out and write it."""
        tile = self._fitted(t, crop(inner), inner)
        if not self.plan.rows_of(t) and pixels.is_flat(tile):
            self.flat.append(t)
        hidden, shown = self.masked(t)
        if hidden:
            if isinstance(tile, np.ndarray):
                tile = tile.copy()  # it may be a part of its neighbours, too
            hidden, shown = self._in_tile(t, hidden), self._in_tile(t, shown)
            pixels.paint_out(tile, hidden, shown, self.how.mode, self.blank)
        tags = self._tags(t)
        return self._written(
            t, lambda path, opener: writing.save(tile, path, self.how, tags, opener)
        )

    def _fitted(self, t: int, part: Pixels, inner: Window) -> Pixels:
        """A tile's pixels, of its part inside the image."""
        planned = self.plan.tiles[t]
        window = planned.window
        if self.nodata is None:
            return pixels.fitted(part, self.mode, inner, window, planned.size, self.how)
        size = (window.width, window.height)
        tile = pixels.fitted(part, self.mode, inner, window, size, self.how, self.blank)
        if size == planned.size:
            return tile
        return nodata.resampled_data(tile, self.how.mode, self.nodata, planned.size)

    def _tags(self, t: int) -> list[geo.Tag]:
        """The TIFF tags of a tile, sorted by number."""
        tags = []
        if self.located is not None:
            tags = self.located.tags(self.plan.tiles[t].window, self.zoom(t))
        if self.declared is not None:
            tags += self.declared.tags
        return tags

    @property
    def declared(self) -> NoData | None:
        """Which pixels have no data, if tiles declare it: TIFFs that keep the source's values."""
        return self.nodata if self.how.format == "TIFF" else None

    @property
    def blank(self) -> Any:
        """The colour of what a tile shows beyond the image, and of what is painted out, where
        tiles declare one that stands for no data; else None."""
        if self.declared is None:
            return None
        return self.declared.blank

    def store(self, t: int, data: bytes) -> Stamps:
        """Write a tile that is encoded already."""
        return self._written(t, lambda path, opener: writing.store(path, data, opener))

    def _written(self, t: int, save: Callable[[str, writing.Opener], int]) -> Stamps:
        """Write image, labels, mask and world file of a tile."""
        image, *others = self._paths(t)
        contents = {path: self._beside(t, path) for path in others}
        tree = self.tree
        placed = False
        with staging.writing():  # into the staging tree: what is torn there is made again
            if self.located is not None and self.how.format != "TIFF":
                placed = True
                world = self.located.world(self.plan.tiles[t].window, self.zoom(t))
                writing.store(world_path(image), world.encode(), tree.opener)
            save(image, tree.opener)
            for path, content in contents.items():
                writing.store(path, content, tree.opener)
            return stamped(tree, (image, *others), placed)

    def _beside(self, t: int, path: str) -> bytes:
        """The content of a file beside a tile's image: its labels, or its mask."""
        if path.endswith(SUFFIXES["labels"]):
            rows = [self.plan.rows.values[i] for i in self.plan.rows_of(t)]
            return yolo.text(rows, self.job.spec.task).encode()
        return self._mask(t).png()

    def _mask(self, t: int) -> ClassMask:
        """The class mask of a tile; what is painted out of its image is ignored."""
        assert self.mask is not None
        tile = mask_tiles.of_tile(self.job, self.mask, self.plan.tiles[t])
        hidden, shown = self.masked(t)
        blank = mask_tiles.blank(self.job)
        return tile.painted(self._in_tile(t, hidden), self._in_tile(t, shown), blank)

    def remove(self) -> None:
        """Delete what was written of the tiles."""
        for t in self.numbers:
            paths = self._paths(t)
            for path in (*paths, world_path(paths[0])):
                with suppress(OSError):
                    self.tree.remove(path)

    @property
    def tree(self) -> Folder:
        """The folder that they are written to."""
        assert self.job.tree is not None
        return self.job.tree

    def _paths(self, t: int) -> tuple[str, ...]:
        return self.job.folders.paths(
            self.source.split,
            self.plan.tiles[t].name,
            self.how.suffix,
            labels=self.job.rows,
            masks=self.mask is not None,
        )

    def zoom(self, t: int) -> tuple[float, float]:
        """Pixels of the tile for one of the source, across and down."""
        tile = self.plan.tiles[t]
        return tile.size[0] / tile.window.width, tile.size[1] / tile.window.height

    def masked(self, t: int) -> tuple[list[list[Floats]], list[list[Floats]]]:
        """Outlines to paint out of a tile, and to leave, in source pixels."""
        ignored = self.labels.ignored.rings
        assert ignored is not None
        if self.job.options.ignored == "skip":
            ignored = ignored.take(np.empty(0, np.int64))
        plan = self.plan
        return masked_outlines(plan.views, plan.rows, t, plan.windows[t], ignored)

    def _in_tile(self, t: int, outlines: list[list[Floats]]) -> list[list[Floats]]:
        """Outlines in pixels of a tile, of those in source pixels."""
        origin = self.plan.windows[t, :2]
        zoom = np.array(self.zoom(t))
        return [[(ring - origin) * zoom for ring in outline] for outline in outlines]

    def aligned(self, t: int, block: tuple[int, int]) -> bool:
        """Whether a tile is a part of the image as it is, beginning at a whole block of
        coefficients."""
        tile = self.plan.tiles[t]
        window = tile.window
        if self.inner(t) != window or tile.size != (window.width, window.height):
            return False
        if window.x % block[0] or window.y % block[1]:
            return False
        hidden, _ = self.masked(t)
        return not hidden


def stamped(tree: Folder, paths: tuple[str, ...], placed: bool) -> Stamps:
    """Size and time of change of a tile's files, with its world file if it is `placed` by one."""
    files = [*paths, world_path(paths[0])] if placed else paths
    return [tree.stamp(path) for path in files]


def world_path(image: str) -> str:
    """The world file of a tile."""
    return os.path.splitext(image)[0] + WORLD
