"""The tiles of one source: their pixels and their label files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader

from tiler.datasets.dataset import Source
from tiler.errors import Unfinished
from tiler.formats import yolo
from tiler.formats.manifest import WORLD, Geo, TileEntry
from tiler.formats.shards import PARTS
from tiler.formats.tile_folders import SUFFIXES
from tiler.images import beyond_pillow, geo, lossless, memory, pixels, reading, writing
from tiler.images.encoding import Encoding
from tiler.images.reading import Crop, SourceImage
from tiler.images.row_reader import Later
from tiler.options import pixel_limit
from tiler.run import staging
from tiler.run.folders import Folder
from tiler.splitting.packing import PackedTiles, pack
from tiler.splitting.planned_source import PlannedSource
from tiler.splitting.tile_pixels import (
    TileCutter,
    encoding_of,
    keeps_jpeg,
    kept_nodata,
    stretched,
)
from tiler.tiling.job import SplitJob

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
        packed: with --layout tar, the part that they are in.
    """

    suffix: str = ""
    stamps: list[Stamps] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    copied: int = 0
    flat: int = 0
    channels: int = 0
    geo: Geo | None = None
    packed: PackedTiles | None = None


def write(
    job: SplitJob, source: Source, file: BufferedReader, planned: PlannedSource, later: Later
) -> Made:
    """Every tile of the plan, from an image that is read once: all of them, or none.

    Raises:
        SourceRefused: the image is damaged, or the tiles' format cannot hold it.
        Unfinished: the disk is full.
    """
    header = planned.header
    limit = pixel_limit(job.options.max_pixels)
    with reading.opened(file, header, limit, job.pages) as image:
        is_stretched = stretched(job, image)
        how = encoding_of(job, file, header, image)
        beyond_pillow.require(how)
        made = Made(how.suffix, notes=_notes(image, how, is_stretched))
        made.channels = image.bands if beyond_pillow.paged(how, image.bands) else COLOUR
        located = geo.located(file, header, job.root / source.key)
        if located is not None:
            made.geo = located.geo
        nodata = kept_nodata(image, how, is_stretched)
        tiles = SourceTilesWriter(job, source, planned, how, image.mode, located, nodata)
        if keeps_jpeg(job) and not is_stretched:
            made.copied = _copy(tiles, file)
        try:
            made.stamps = _cut(tiles, image, later)
            if job.options.layout == "tar":
                made.packed = pack(tiles.tree, source, tiles.packed_files())
        except Unfinished:  # what is there is of use to the next run
            raise
        except Exception:  # some rows were good, but an image is cut whole or not at all
            tiles.remove()
            raise
        if not image.nodata.colours:
            made.flat = len(tiles.flat)
    return made


def _notes(image: SourceImage, how: Encoding, is_stretched: bool) -> list[tuple[str, str]]:
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
    if image.dtype.itemsize > 1 and not is_stretched:
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
                future = later(partial(tiles.make, todo[i], crop))
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
class SourceTilesWriter(TileCutter):
    """Writes the tiles of one source.

    Attributes:
        flat: the tiles without a label that are of one value.
        copied: the stamps of the tiles that were made without decoding, by number.
    """

    flat: list[int] = field(default_factory=list)
    copied: dict[int, Stamps] = field(default_factory=dict)

    def make(self, t: int, crop: Crop) -> Stamps:
        """Cut a tile out and write it."""
        tile = self.fitted(t, crop)
        if not self.plan.rows_of(t) and pixels.is_flat(tile):
            self.flat.append(t)
        tile = self.painted(t, tile)
        tags = self._tags(t)
        return self._written(
            t, lambda path, opener: writing.save(tile, path, self.how, tags, opener)
        )

    def _tags(self, t: int) -> list[geo.Tag]:
        """The TIFF tags of a tile, sorted by number."""
        tags = []
        if self.located is not None:
            tags = self.located.tags(self.tile(t).window, self.zoom(t))
        if self.declared is not None:
            tags += self.declared.tags
        return tags

    def store(self, t: int, data: bytes) -> Stamps:
        """Write a tile that is encoded already."""
        return self._written(t, lambda path, opener: writing.store(path, data, opener))

    def _written(self, t: int, save: Callable[[str, writing.Opener], int]) -> Stamps:
        """Write image, labels, mask and world file of a tile."""
        image, *others = self.paths(t)
        contents = {path: self._beside(t, path) for path in others}
        tree = self.tree
        with staging.writing():  # into the staging tree: what is torn there is made again
            if self.world_files:
                assert self.located is not None
                world = self.located.world(self.tile(t).window, self.zoom(t))
                writing.store(world_path(image), world.encode(), tree.opener)
            save(image, tree.opener)
            for path, content in contents.items():
                writing.store(path, content, tree.opener)
            return stamped(tree, (image, *others), self.world_files)

    @property
    def world_files(self) -> bool:
        """Whether tiles have world files: those whose format holds no location."""
        return self.located is not None and self.how.format != "TIFF"

    def _beside(self, t: int, path: str) -> bytes:
        """The content of a file beside a tile's image: its labels, or its mask."""
        if path.endswith(SUFFIXES["labels"]):
            rows = [self.plan.rows.values[i] for i in self.plan.rows_of(t)]
            return yolo.text(rows, self.job.spec.task).encode()
        return self.mask(t).png()

    def remove(self) -> None:
        """Delete what was written of the tiles."""
        for t in self.numbers:
            paths = self.paths(t)
            for path in (*paths, world_path(paths[0])):
                with suppress(OSError):
                    self.tree.remove(path)

    @property
    def tree(self) -> Folder:
        """The folder that they are written to."""
        assert self.job.tree is not None
        return self.job.tree

    def paths(self, t: int) -> tuple[str, ...]:
        """Where the files of a tile are: its image, labels and mask."""
        return self.job.folders.paths(
            self.source.split,
            self.tile(t).name,
            self.how.suffix,
            labels=self.job.rows,
            masks=self.planned.mask is not None,
        )

    def packed_files(self) -> Iterator[tuple[TileEntry, dict[str, str]]]:
        """Each tile, and its files by their suffix in a shard."""
        kinds = self.job.folders.kinds(self.job.rows, self.planned.mask is not None)
        suffixes = [self.how.suffix, *(PARTS[kind] for kind in kinds[1:])]
        for t, entry in zip(self.numbers, self.plan.entries(), strict=True):
            files = dict(zip(suffixes, self.paths(t), strict=False))
            if self.world_files:
                files[WORLD] = world_path(files[self.how.suffix])
            yield entry, files

    def aligned(self, t: int, block: tuple[int, int]) -> bool:
        """Whether a tile is a part of the image as it is, beginning at a whole block of
        coefficients."""
        tile = self.tile(t)
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
