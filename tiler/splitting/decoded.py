"""Decoded sources, of which as many are kept as a number of bytes allows."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tiler.datasets.dataset import Source
from tiler.datasets.image_files import opened
from tiler.geometry.instances import Instances
from tiler.geometry.window import Window
from tiler.images import pixels, reading
from tiler.images.pixels import Pixels
from tiler.images.reading import Crop, SourceImage
from tiler.options import pixel_limit
from tiler.run.work_sharing import done
from tiler.splitting.planned_source import PlannedSource, planned_source
from tiler.splitting.tile_pixels import TileCutter, encoding_of, kept_nodata, stretched
from tiler.tiling.job import SplitJob
from tiler.tiling.sources import labels_of

if TYPE_CHECKING:
    from tiler.types import Bools

TILE_BYTES, ROW_BYTES = 1000, 1000  # of a plan, measured


@dataclass(frozen=True, slots=True, eq=False)
class DecodedSource:
    """A source whose tiles can be had in any order.

    Attributes:
        crop: cuts a window out of it.
        bytes: memory that it takes.
    """

    cutter: TileCutter
    crop: Crop
    bytes: int

    def pixels(self, t: int) -> NDArray[Any]:
        """`(H, W, C)` the pixels of a tile, by its place in the plan."""
        cutter = self.cutter
        tile = cutter.painted(t, cutter.fitted(t, self.crop))
        return pixels.as_array(tile, cutter.how.mode)

    def instances(self, t: int) -> Instances:
        """What the label rows of a tile say, in its pixels, before they are rounded."""
        plan = self.cutter.plan
        rows = plan.rows_of(t)
        shown = plan.rows.shown.take(range(rows.start, rows.stop))  # type: ignore[arg-type]
        return plan.in_tiles(shown, plan.row_tile[rows.start : rows.stop])


def decoded(job: SplitJob, source: Source, written: Bools, room: int) -> DecodedSource:
    """Decode a source.

    Args:
        written: `(T,)` which of its tiles there are.
        room: bytes. A larger image that can be read by rows is not held: each tile reads its own.

    Raises:
        SourceRefused: it cannot be used.
    """
    with opened(os.path.join(job.root, source.key)) as file:
        planned = planned_source(job, source, file, labels_of(job, source), written)
        with _image(job, planned, file) as image:
            is_large = image.by_rows and image.held_bytes > room
            held = image if is_large else image.held()
            size = plan_bytes(planned) + (0 if is_large else held.held_bytes)
            is_stretched = stretched(job, held)
            how = encoding_of(job, file, planned.header, held)
            nodata = kept_nodata(held, how, is_stretched)
            cutter = TileCutter(job, source, planned, how, held.mode, None, nodata)

    def crop(window: Window) -> Pixels:
        if not is_large:
            return _cropped(held, window)
        with opened(os.path.join(job.root, source.key)) as file, _image(job, planned, file) as rows:
            stretched(job, rows)
            return _cropped(rows, window)

    return DecodedSource(cutter, crop, size)


def plan_bytes(planned: PlannedSource) -> int:
    """Memory that the plan of a source takes, roughly."""
    return TILE_BYTES * len(planned.plan.tiles) + ROW_BYTES * len(planned.plan.rows.values)


def _image(job: SplitJob, planned: PlannedSource, file: BufferedReader) -> Any:
    """The open image of a source, to be used in a block."""
    limit = pixel_limit(job.options.max_pixels)
    return reading.opened(file, planned.header, limit, job.pages)


def _cropped(image: SourceImage, window: Window) -> Pixels:
    crop, _ = next(image.sweep([window], done))
    return crop(window)


class DecodedSources:
    """The sources used last, as many as a number of bytes holds, but always the last one."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.bytes = 0
        self._sources: OrderedDict[int, DecodedSource] = OrderedDict()

    def get(self, number: int, decode: Callable[[], DecodedSource]) -> DecodedSource:
        """A source by its number, decoded if it is not there."""
        found = self._sources.get(number)
        if found is None:
            found = decode()
            self._sources[number] = found
            self.bytes += found.bytes
            self._make_room()
        self._sources.move_to_end(number)
        return found

    def _make_room(self) -> None:
        """Let go of those that were not used for longest."""
        while self.bytes > self.room and len(self._sources) > 1:
            _, oldest = self._sources.popitem(last=False)
            self.bytes -= oldest.bytes
