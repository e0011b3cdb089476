"""`tiler.Tiles`: the tiles of a split, made when they are read, with no copy on the disk."""

from __future__ import annotations

import operator
import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.errors import SourceRefused, TilerError, did_you_mean
from tiler.findings import Finding
from tiler.geometry.instances import Instances
from tiler.geometry.window import Window
from tiler.images import reading
from tiler.options import RunOptions, SplitOptions
from tiler.options.signatures import takes
from tiler.options.values import byte_size, optional_path, path
from tiler.run.rejecting import refusal
from tiler.splitting.decoded import DecodedSource, DecodedSources, decoded, plan_bytes
from tiler.splitting.opening import OpenedSplit, begin, mapped_to_8_bits, opened_split
from tiler.splitting.planned_source import planned_source
from tiler.tiling.chunks import mapped
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import PlannedTile, planned_tiles
from tiler.tiling.sources import labels_of

if TYPE_CHECKING:
    from typing import Unpack

    from tiler.options.arguments import TilesArguments
    from tiler.types import Bools

OF_FILES = ("export", "layout", "format", "quality", "jpeg")  # options of what is written
SHOWN_NAMES = 6


class Tiles:
    """The tiles of one split: those that `tiler.split` would write with these options, with the
    same names and labels, but made when they are read.

    A sequence: `tiles[i]` is `(pixels, labels)`, the `(H, W, C)` array of a tile (uint8, or as deep
    as the image is) and its `Instances` in pixels of the tile. It can be pickled, so workers of a
    PyTorch `DataLoader` take it as it is. Every process keeps the images that it decoded last.

    Args:
        data: a dataset.yaml, or anything else that `tiler.split` takes.
        split: of the dataset, or of those that `val=0.2` makes; "" of images without labels.
        images: the images' folder, of a COCO JSON.
        cache: memory for decoded images, in each process: bytes, or "1GB". A larger image that can
            be read by rows (extra `big`) is read for each tile; any other is kept while it is used.
        workers: threads that read the labels now; 0 is one for each core.
        options: any of `SplitOptions` but those of files that are written.

    Attributes:
        task: detect, segment, obb, pose or semantic.
        names: of the classes.
        kpt_shape: number of keypoints, and 3 values each; None without keypoints.
        findings: what was noticed of images and labels. Images with an error have no tiles.

    Raises:
        TilerError: unusable input or options. Also when a tile is read whose image is damaged.

    >>> tiles = Tiles("no/such/dataset.yaml")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: no/such/dataset.yaml: no such file or folder
    """

    @takes(SplitOptions, without=OF_FILES)
    def __init__(
        self,
        data: str | Path,
        *,
        split: str = "train",
        images: str | Path | None = None,
        cache: int | str = "1GB",
        workers: int = 0,
        **options: Unpack[TilesArguments],
    ) -> None:
        run = RunOptions(workers=workers)
        self._sources = DecodedSources(_room(cache))
        self._lock = threading.Lock()
        self._options = SplitOptions.of(options).changed()
        _require_no_files(self._options)
        opened = opened_split(path(data, "data"), optional_path(images, "images"), options, run)
        _require_split(opened, split)
        begun = begin(opened, run)
        self._job = mapped_to_8_bits(begun.job, opened.dataset, run)
        self._data = data
        self.split = split
        self.task = begun.task
        self.names = opened.dataset.names
        self.kpt_shape = begun.job.spec.out_shape
        sources = [source for source in opened.dataset.sources if source.split == split]
        outlines = list(mapped(self._job, _outlines, sources, run))
        self.findings = [*begun.findings, *chain.from_iterable(o.findings for o in outlines)]
        tiled = [outline for outline in outlines if outline.written.any()]
        self._images = tiled
        counts = [int(outline.written.sum()) for outline in tiled]
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    # --- A sequence

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> tuple[NDArray[Any], Instances]:
        number, tile = self._place(index)
        source = self._decoded(number)
        return source.pixels(tile), source.instances(tile)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], Instances]]:
        return (self[i] for i in range(len(self)))

    def name(self, index: int) -> str:
        """The name of a tile, as its file would have it, without suffix."""
        return self._planned(index).name

    def window(self, index: int) -> Window:
        """The rectangle of the image that a tile shows."""
        return self._planned(index).window

    def _planned(self, index: int) -> PlannedTile:
        number, tile = self._place(index)
        image = self._images[number]
        return planned_tiles(image.source.stem, *image.size, self._job.options)[tile]

    def source(self, index: int) -> str:
        """The image that a tile is cut from: its path from the dataset's root."""
        number, _ = self._place(index)
        return self._images[number].source.key

    def mask(self, index: int) -> NDArray[np.uint8]:
        """`(H, W)` the class mask of a tile, of a dataset with class masks.

        Raises:
            TilerError: its image has none.
        """
        number, tile = self._place(index)
        source = self._decoded(number)
        if source.cutter.planned.mask is None:
            raise TilerError(f"{self._images[number].source.key}: no class mask")
        return source.cutter.mask(tile).values

    def _place(self, index: int) -> tuple[int, int]:
        """The image of a tile, and the tile's place in that image's plan."""
        wanted = operator.index(index)
        count = len(self)
        if not -count <= wanted < count:
            raise IndexError(f"tile {wanted} of {count}")
        wanted %= count
        number = int(np.searchsorted(self._first, wanted, "right")) - 1
        written = np.flatnonzero(self._images[number].written)
        return number, int(written[wanted - self._first[number]])

    def _decoded(self, number: int) -> DecodedSource:
        with self._lock:
            return self._sources.get(number, partial(self._decode, number))

    def _decode(self, number: int) -> DecodedSource:
        image = self._images[number]
        try:
            found = decoded(self._job, image.source, image.written, self._sources.room)
        except SourceRefused as error:
            where = error.path or image.source.key
            raise TilerError(f"{where}: {error.code} {error.message}") from None
        except OSError as error:
            rejected = refusal(error)
            raise TilerError(f"{image.source.key}: {rejected.message}") from None
        if found.cutter.header.size != image.size:
            raise TilerError(f"{image.source.key}: has another size than when it was opened")
        return found

    # --- The order of an epoch

    def sampler(self, seed: int, *, batch: int = 1, workers: int = 1) -> list[int]:
        """An order of all tiles, shuffled, in which each image is decoded about once.

        Images are drawn at random, as many at a time as the cache holds, and the tiles of these are
        shuffled among each other.

        Args:
            seed: the same one gives the same order; take another one for each epoch.
            batch: tiles in a batch.
            workers: of a `DataLoader`, which get one batch each in turn: the tiles of an image all
                go to the same one.
        """
        if batch < 1 or workers < 0:
            raise TilerError(f"batch {batch}, workers {workers}: expected at least 1, and 0")
        drawn = random.Random(seed)  # noqa: S311  # of no secret
        images = list(range(len(self._images)))
        drawn.shuffle(images)
        lanes = self._lanes(images, max(1, workers))
        orders = [self._order(lane, drawn) for lane in lanes]
        return list(_in_turn(orders, batch))

    def _lanes(self, images: Sequence[int], count: int) -> list[list[int]]:
        """Images for each worker, with about as many tiles for each."""
        lanes: list[list[int]] = [[] for _ in range(count)]
        tiles = [0] * count
        for number in images:
            fewest = tiles.index(min(tiles))
            lanes[fewest].append(number)
            tiles[fewest] += int(self._first[number + 1] - self._first[number])
        return lanes

    def _order(self, images: Sequence[int], drawn: random.Random) -> list[int]:
        """The tiles of some images, shuffled among as many as the cache holds."""
        order: list[int] = []
        pool: list[int] = []
        held = 0
        for number in images:
            size = self._images[number].bytes
            if pool and held + size > self._sources.room:
                drawn.shuffle(pool)
                order += pool
                pool = []
                held = 0
            pool += range(int(self._first[number]), int(self._first[number + 1]))
            held += size
        drawn.shuffle(pool)
        return order + pool

    # --- Itself

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: it decodes its images itself."""
        state = self.__dict__.copy()
        state["_sources"] = DecodedSources(self._sources.room)
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        names = ", ".join(self.names[:SHOWN_NAMES])
        if len(self.names) > SHOWN_NAMES:
            names += f", and {len(self.names) - SHOWN_NAMES} more"
        lines = [
            f"Tiles({str(self._data)!r}, split={self.split!r})",
            f"{len(self)} tiles of {len(self._images)} images",
            f"{self.task}, {len(self.names)} classes: {names}",
            " ".join(self._options.values()) or "default options",
        ]
        errors = sum(finding.level == "error" for finding in self.findings)
        if self.findings:
            lines.append(f"{len(self.findings)} findings, {errors} of them errors")
        return "\n  ".join(line[:200] for line in lines)


def _room(cache: int | str) -> int:
    try:
        return byte_size(cache)
    except ValueError as error:
        raise TilerError(f"cache: expected {error}, got {cache!r}") from None


def _require_no_files(changed: dict[str, str]) -> None:
    """Raises:
    TilerError: an option is set that says how files are written.
    """
    for name in OF_FILES:
        if name in changed:
            raise TilerError(f"{changed[name]}: tiler.Tiles writes no files")


def _require_split(opened: OpenedSplit, split: str) -> None:
    """Raises:
    TilerError: the dataset has no such split.
    """
    splits = opened.dataset.splits
    if split in splits:
        return
    if splits == ("",):
        raise TilerError(f"split {split!r}: images without labels have no splits; give split=''")
    hint = did_you_mean(split, splits)
    if split in ("val", "test"):
        hint = f"; {split}=0.2 makes one"
    raise TilerError(f"no split {split!r}; the dataset has {', '.join(splits)}{hint}")


@dataclass(frozen=True, slots=True, eq=False)
class _ImageOutline:
    """What is kept of an image for as long as its tiles may be asked for.

    Attributes:
        size: width and height, px, upright.
        written: `(T,)` which of its tiles there are.
        bytes: memory that it takes at most when it is decoded.
    """

    source: Source
    size: tuple[int, int]
    written: Bools
    bytes: int
    findings: list[Finding]


def _outlines(job: SplitJob, sources: Sequence[Source]) -> list[_ImageOutline]:
    return [_outline(job, source) for source in sources]


def _outline(job: SplitJob, source: Source) -> _ImageOutline:
    """Which tiles an image has; none of one that cannot be used."""
    try:
        with opened(os.path.join(job.root, source.key)) as file:
            planned = planned_source(job, source, file, labels_of(job, source))
    except Exception as error:  # whatever it is, the other images are used
        rejected = refusal(error)
        where = rejected.path or source.key
        finding = Finding(where, rejected.code, rejected.message)
        return _ImageOutline(source, (0, 0), np.zeros(0, bool), 0, [finding])
    header = planned.header
    findings = [*planned.labels.findings, *planned.mask_findings]
    size = max(reading.cost(header), header.pixels * header.bands * header.bits // 8)
    size += plan_bytes(planned)
    return _ImageOutline(source, header.size, planned.plan.written, size, findings)


def _in_turn(orders: Sequence[Sequence[int]], batch: int) -> Iterator[int]:
    """A batch of each in turn; at last what does not fill one."""
    left = [iter(order) for order in orders]
    rest: list[int] = []
    while left:
        for items in list(left):
            taken = list(islice(items, batch))
            if len(taken) < batch:
                left.remove(items)
                rest += taken
            else:
                yield from taken
    yield from rest
