"""The pixels of a source's tiles, as they are before they are encoded."""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.datasets.dataset import Source
from tiler.geometry.window import Window
from tiler.images import geo, nodata, pixels, reading
from tiler.images.class_masks import ClassMask
from tiler.images.encoding import Encoding, encoding
from tiler.images.header import Header
from tiler.images.nodata import NoData
from tiler.images.pixels import Pixels
from tiler.images.reading import Crop, SourceImage
from tiler.splitting import mask_tiles
from tiler.splitting.planned_source import PlannedSource
from tiler.tiling.job import SplitJob
from tiler.tiling.planning import PlannedTile
from tiler.tiling.source_plan import SourcePlan
from tiler.tiling.tile_labels import masked_outlines

if TYPE_CHECKING:
    from tiler.types import Floats


def keeps_jpeg(job: SplitJob) -> bool:
    """Whether tiles of a JPEG keep its coefficients and tables."""
    return job.options.jpeg == "keep" and job.options.format in ("same", "jpg")


def encoding_of(
    job: SplitJob, file: BufferedReader, header: Header, image: SourceImage
) -> Encoding:
    """How the tiles of an image are encoded."""
    tables = reading.tables(file, header) if keeps_jpeg(job) else None
    return encoding(image, header, job.options.format, job.options.quality, tables)


def kind_of(image: SourceImage) -> str:
    """Images of one kind share a mapping to 8 bits: `RGB;16 u2x3`. Their byte order is no kind of
    its own (`I;16B`).
    """
    return f"{image.mode.removesuffix('B')} {image.dtype.str[1:]}x{image.bands}"


def stretched(job: SplitJob, image: SourceImage) -> bool:
    """Map an image to 8 bits, if --stretch says so; whether it does."""
    if job.limits is None:
        return False
    limits = job.limits.get(kind_of(image))
    if limits is None:
        return False
    image.stretched(limits)
    return True


def kept_nodata(image: SourceImage, how: Encoding, is_stretched: bool) -> NoData | None:
    """Which pixels have no data, where tiles keep the source's values."""
    if is_stretched or image.mode not in (how.mode, how.mode + "B"):  # of another byte order
        return None
    return image.nodata


@dataclass(slots=True)
class TileCutter:
    """Cuts the tiles of one source out of its pixels.

    Attributes:
        mode: of the source's pixels.
        located: where the source lies in the world.
        nodata: which pixels have no data, where tiles keep the source's values.
    """

    job: SplitJob
    source: Source
    planned: PlannedSource
    how: Encoding
    mode: str
    located: geo.Located | None
    nodata: NoData | None

    @property
    def header(self) -> Header:
        return self.planned.header

    @property
    def plan(self) -> SourcePlan:
        return self.planned.plan

    @property
    def numbers(self) -> list[int]:
        """The tiles to write, by their place in the plan."""
        return np.flatnonzero(self.plan.written).tolist()

    def tile(self, t: int) -> PlannedTile:
        return self.plan.tiles[t]

    def inner(self, t: int) -> Window:
        """The part of a tile's window that is inside the image."""
        image = Window(0, 0, *self.header.size)
        inner = self.tile(t).window.intersection(image)
        assert inner is not None
        return inner

    def fitted(self, t: int, crop: Crop) -> Pixels:
        """A tile's pixels before anything is painted out of them; they may share their memory with
        others."""
        inner = self.inner(t)
        part = crop(inner)
        planned = self.tile(t)
        window = planned.window
        if self.nodata is None:
            return pixels.fitted(part, self.mode, inner, window, planned.size, self.how)
        size = (window.width, window.height)
        tile = pixels.fitted(part, self.mode, inner, window, size, self.how, self.blank)
        if size == planned.size:
            return tile
        return nodata.resampled_data(tile, self.how.mode, self.nodata, planned.size)

    def painted(self, t: int, tile: Pixels) -> Pixels:
        """The same pixels without what is to be painted out."""
        hidden, shown = self.masked(t)
        if not hidden:
            return tile
        if isinstance(tile, np.ndarray):
            tile = tile.copy()  # it may be a part of its neighbours, too
        hidden, shown = self._in_tile(t, hidden), self._in_tile(t, shown)
        pixels.paint_out(tile, hidden, shown, self.how.mode, self.blank)
        return tile

    def mask(self, t: int) -> ClassMask:
        """The class mask of a tile; what is painted out of its image is ignored."""
        mask = self.planned.mask
        assert mask is not None
        tile = mask_tiles.of_tile(self.job, mask, self.tile(t))
        hidden, shown = self.masked(t)
        blank = mask_tiles.blank(self.job)
        return tile.painted(self._in_tile(t, hidden), self._in_tile(t, shown), blank)

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

    def zoom(self, t: int) -> tuple[float, float]:
        """Pixels of the tile for one of the source, across and down."""
        tile = self.tile(t)
        return tile.size[0] / tile.window.width, tile.size[1] / tile.window.height

    def masked(self, t: int) -> tuple[list[list[Floats]], list[list[Floats]]]:
        """Outlines to paint out of a tile, and to leave, in source pixels."""
        ignored = self.planned.labels.ignored.rings
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
