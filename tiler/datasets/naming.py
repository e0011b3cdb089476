"""Which windows the names of tiles mean: every reading of them is held against the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets.name_grids import NumberColumns, TileGrid, adjoin, strides
from tiler.errors import TilerError
from tiler.formats import name_patterns, tile_names
from tiler.formats.name_patterns import Fields, NamePattern, NumberedName
from tiler.geometry.tilings import TilingFit, fit_of
from tiler.options import PredictionOptions
from tiler.options.naming import ANYTHING

if TYPE_CHECKING:
    from tiler.types import Bools, Floats

MOST = 0.9  # of the names of tiles: what these say holds for the folder
SHOWN = 3  # readings in an error
EDGES = {"tiler": "", "split_dota": "trim", "dota_devkit": "pad"}  # where names do not say
SAHI = "{stem}_{x}_{y}_{x1}_{y1}"
Sizes = Mapping[str, tuple[int, int]]  # width and height of images by stem


@dataclass(frozen=True, slots=True, eq=False)
class NamedWindows:
    """The windows of T tiles by one reading of their names.

    Attributes:
        naming: the tool, or the pattern.
        names: of the tiles; `stems` of their images.
        rects: `(T, 4)` float64 xyxy, source px.
        scale: `(T,)` tile px per source px.
        sized: the names say how large a tile is.
        adjoining: rows and columns of whole tiles, side by side, make exactly the images.
        stride, edge: what was assumed beyond names and options; 0 and "" if nothing.
    """

    naming: str
    names: list[str]
    stems: list[str]
    rects: Floats
    scale: Floats
    sized: bool = True
    adjoining: bool = False
    stride: tuple[int, int] = (0, 0)
    edge: str = ""

    @property
    def said(self) -> str:
        """The naming with what was assumed."""
        said = self.naming
        if any(self.stride):
            said += f", stride {self.stride[0]}x{self.stride[1]}"
        if self.adjoining:
            said += ", side by side"
        return f"{said}, {self.edge}" if self.edge else said

    def same(self, other: NamedWindows) -> bool:
        """Whether both place the same tiles in the same way."""
        if (self.names, self.stems) != (other.names, other.stems):
            return False
        scaled = np.array_equal(self.scale, other.scale)
        return scaled and np.array_equal(self.rects, other.rects)

    def shown(self, tile: int) -> str:
        """A tile in words."""
        x0, y0, x1, y1 = self.rects[tile].tolist()
        return f"{x1 - x0:g} x {y1 - y0:g} px at x {x0:g}, y {y0:g} ({self.said})"

    def fit(self, sizes: Sizes) -> TilingFit:
        """How well the tiles fit the images; those of each scale by themselves."""
        limits = np.array([sizes[stem] for stem in self.stems], np.float64).reshape(-1, 2)
        possible = np.zeros(len(self.names), bool)
        regular = True
        for scale in np.unique(self.scale):
            of_scale = self.scale == scale
            fit = fit_of(self.rects[of_scale], limits[of_scale])
            possible[of_scale] = fit.possible
            regular = regular and fit.regular
        return TilingFit(regular, possible)

    def only(self, kept: Bools) -> NamedWindows:
        """Those of the tiles that are `kept`, `(T,)`; the others are no tiles then."""
        index = np.flatnonzero(kept)
        return replace(
            self,
            names=[self.names[i] for i in index],
            stems=[self.stems[i] for i in index],
            rects=self.rects[index],
            scale=self.scale[index],
        )

    def begins_inside(self, sizes: Sizes, least: float = MOST) -> bool:
        """Whether at least a share of the tiles begin inside their image."""
        limits = np.array([sizes[stem] for stem in self.stems], np.float64).reshape(-1, 2)
        inside = (self.rects[:, :2] < limits).all(axis=1)
        return float(inside.mean()) >= least


def decided(names: Sequence[str], sizes: Sizes, options: PredictionOptions) -> NamedWindows | None:
    """The windows that names of tiles mean; None if no name is a tile.

    The names of tiler, split_dota and DOTA_devkit have a form of their own, by which they are read
    if the tiles then make a grid in the images. Otherwise every reading of their numbers is tried:
    one that makes a grid before one that makes tiles of one size.

    Args:
        names: without those of whole images.
        sizes: of the images.

    Raises:
        TilerError: several readings are possible, or none is.
    """
    read = _deduced if options.naming == "auto" else _as_asked
    found = read(names, sizes, options)
    if found is not None:
        _require_agreeing(found, sizes, options)
    return found


def _deduced(names: Sequence[str], sizes: Sizes, options: PredictionOptions) -> NamedWindows | None:
    """The windows that all names make sense by; None if no name is a tile."""
    usual = _usual(names, sizes)
    if usual is None:
        return None
    own = None
    if usual in EDGES:
        own = _of_tool(usual, names, sizes, options)
        if own.fit(sizes).regular:
            return own
    readings = list(_readings(names, sizes, options))
    regular = [reading for reading in readings if reading.fit(sizes).regular]
    if regular:
        return _only_one([reading for reading in regular if reading.adjoining] or regular)
    if own is not None and own.fit(sizes).possible.mean() >= MOST:
        return own
    possible = []
    for reading in readings:
        fit = reading.fit(sizes)
        if reading.sized and fit.possible.mean() >= MOST:
            possible.append(reading.only(fit.possible))
    if possible:
        return _only_one(possible)
    if own is not None and own.begins_inside(sizes, least=0.5):
        return own
    raise TilerError(_none_fits(names, sizes, options, readings))


def _require_agreeing(windows: NamedWindows, sizes: Sizes, options: PredictionOptions) -> None:
    """Reject a tile size or a stride that is not the one of the names.

    Raises:
        TilerError: it is another one.
    """
    asked = TileGrid.of(options)
    for axis in (0, 1):
        start = windows.rects[:, axis]
        side = windows.rects[:, axis + 2] - start
        length = np.array([sizes[stem][axis] for stem in windows.stems], np.float64)
        at_border = start + side >= length
        pixels = np.round(side * windows.scale)
        tile = asked.tile[axis]
        other = (side != tile) & ((pixels > tile) | (pixels < tile) & ~at_border)
        if options.tile is not None and other.any():
            wrong = int(np.flatnonzero(other)[0])
            raise TilerError(
                f"--tile: {windows.names[wrong][:100]}: has {pixels[wrong]:g} px along "
                f"{'xy'[axis]} by its name ({windows.said}), not {tile}"
            )
        other = (start % (asked.stride[axis] or 1) > 0) & ~at_border
        if options.stride is not None and other.any():
            wrong = int(np.flatnonzero(other)[0])
            raise TilerError(
                f"--stride: {windows.names[wrong][:100]}: begins at {'xy'[axis]} {start[wrong]:g} "
                f"by its name ({windows.said}), no multiple of {asked.stride[axis]}"
            )


def _usual(names: Sequence[str], sizes: Sizes) -> str | None:
    """How most names of tiles are written: as those of a tool, or a skeleton of numbers.

    Raises:
        TilerError: many are written in another way.
    """
    written = Counter[str]()
    for name in names:
        form = _form(name, sizes)
        if form:
            written[form] += 1
    if not written:
        return None
    (usual, count), *others = written.most_common()
    # an image may be called as another one is with a number behind it
    skeletons = all(form not in EDGES for form in written)
    if others and others[0][1] > count / 9 and not skeletons:
        counts = []
        for form, number in written.most_common():
            shown = "sahi" if form == "_{}_{}_{}_{}" else form
            counts.append(f"{number} as {shown} names them")
        raise TilerError(
            f"tiles of several tools in one folder: {', '.join(counts)}; merge them one after the "
            "other"
        )
    return usual


def _form(name: str, sizes: Sizes) -> str:
    """The tool that writes such names, else their skeleton; "" if it is no tile of an image."""
    for tool in EDGES:
        tile = tile_names.parse(name_patterns.without_suffix(name), tool)
        if tile is not None and tile.stem in sizes:
            return tool
    read = name_patterns.numbered(name, sizes)
    return read[0].skeleton if read else ""


def _as_asked(names: Sequence[str], sizes: Sizes, options: PredictionOptions) -> NamedWindows:
    """The windows by the naming that was asked for.

    Raises:
        TilerError: no name is such a one, or it leaves open where tiles lie.
    """
    if "{" not in options.naming:
        return _of_tool(options.naming, names, sizes, options)
    pattern = NamePattern.of(options.naming)
    read = []
    kept = []
    for name in names:
        found = pattern.read(name, sizes)
        if found is not None:
            kept.append(name)
            read.append(found)
    if not read:
        raise TilerError(
            f"--naming {options.naming}: no prediction is named so, with the name of an image as "
            f"stem (got {', '.join(name[:80] for name in names[:SHOWN])})"
        )
    stems = [stem for stem, _ in read]
    values = {key: np.array([numbers[key] for _, numbers in read]) for key in read[0][1]}
    columns = NumberColumns.of(values, stems, sizes)
    _require_told(columns, options)
    found_windows = list(_windows(options.naming, kept, stems, columns, options))
    fitting = [windows for windows in found_windows if windows.fit(sizes).regular]
    if not found_windows:
        raise TilerError(
            f"--naming {options.naming}: {kept[0]}: no stride makes a grid of such tiles in the "
            "images: say --stride"
        )
    return _only_one(fitting or found_windows)


def _require_told(columns: NumberColumns, options: PredictionOptions) -> None:
    """Raises:
    TilerError: names do not say how large a tile is, and nothing else does.
    """
    if options.tile is None and columns.needs_tile:
        raise TilerError(
            f"--naming {options.naming} does not say how large a tile is: use --tile"
            + (", and --stride" if columns.indexed else "")
        )


def _of_tool(
    tool: str, names: Sequence[str], sizes: Sizes, options: PredictionOptions
) -> NamedWindows:
    """The windows by the names of a tool."""
    grid = TileGrid.of(options)
    if tool == "dota_devkit" and grid.tile == (0, 0):
        raise TilerError(
            "names of DOTA_devkit do not say how large a tile is: use --tile (its default was 1024)"
        )
    edge = EDGES.get(tool, "") if options.edge == "auto" else options.edge
    kept = []
    stems = []
    rects = []
    scales = []
    for name in names:
        tile = tile_names.parse(name, tool)
        if tile is None or tile.stem not in sizes:
            tile = tile_names.parse(name_patterns.without_suffix(name), tool)
        if tile is None or tile.stem not in sizes:
            continue
        right = tile.x + (tile.width or grid.tile[0] / tile.scale)
        bottom = tile.y + (tile.height or grid.tile[1] / tile.scale)
        if edge == "trim":
            width, height = sizes[tile.stem]
            right = min(right, width)
            bottom = min(bottom, height)
        kept.append(name)
        stems.append(tile.stem)
        rects.append((tile.x, tile.y, right, bottom))
        scales.append(tile.scale)
    shape = np.array(rects, np.float64).reshape(-1, 4)
    return NamedWindows(tool, kept, stems, shape, np.array(scales, np.float64))


def _readings(
    names: Sequence[str], sizes: Sizes, options: PredictionOptions
) -> Iterator[NamedWindows]:
    """Every reading of names as numbers behind the name of an image, if most can be read so."""
    by_skeleton: dict[str, dict[str, NumberedName]] = {}
    known = 0
    for name in names:
        read = name_patterns.numbered(name, sizes)
        known += bool(read)
        for one in read:
            by_skeleton.setdefault(one.skeleton, {}).setdefault(name, one)
    for skeleton in sorted(by_skeleton):
        read_names = by_skeleton[skeleton]
        if len(read_names) < MOST * known:
            continue
        stems = [one.stem for one in read_names.values()]
        numbers = np.array([one.numbers for one in read_names.values()], np.float64)
        for fields in name_patterns.suggested(skeleton):
            if ANYTHING in fields and not _counts_tiles(fields, numbers, stems):
                continue
            columns = NumberColumns.of(_named(fields, numbers), stems, sizes)
            if columns.needs_tile and options.tile is None:
                continue
            naming = name_patterns.written(skeleton, fields)
            naming = "sahi" if naming == SAHI else naming
            yield from _windows(naming, list(read_names), stems, columns, options)


def _counts_tiles(fields: Fields, numbers: Floats, stems: Sequence[str]) -> bool:
    """Whether the numbers that say nothing may count the tiles of an image, by one or by row and
    column. Otherwise they may be part of the name of an image that is not there.
    """
    ignored = [field == ANYTHING for field in fields]
    counts = map(tuple, numbers[:, ignored].tolist())
    counted = {*zip(stems, counts, strict=True)}
    return len(counted) == len(stems) > len({*stems})


def _named(fields: Fields, numbers: Floats) -> dict[str, Floats]:
    """The columns of numbers by their field, without those that say nothing."""
    columns = {}
    for field, column in zip(fields, numbers.T, strict=True):
        if field != ANYTHING:
            columns[field] = column
    return columns


def _windows(
    naming: str,
    names: list[str],
    stems: list[str],
    columns: NumberColumns,
    options: PredictionOptions,
) -> Iterator[NamedWindows]:
    """The windows that numbers mean, by every stride and edge that the options leave open."""
    asked = TileGrid.of(options)
    grids = [asked]
    adjoining = columns.indexed and options.stride is None and adjoin(columns, asked.tile)
    if adjoining:
        grids = [replace(asked, stride=asked.tile)]
    elif columns.indexed and options.stride is None:
        grids = [replace(asked, stride=stride) for stride in strides(columns, asked.tile)]
    edges = [options.edge]
    if options.edge == "auto":
        edges = list(columns.edges)
    for grid in grids:
        for edge in edges:
            rects = columns.rects(replace(grid, edge=edge))
            if rects is None:
                continue
            yield NamedWindows(
                naming,
                names,
                stems,
                rects,
                columns.scale,
                sized=not columns.needs_tile,
                adjoining=adjoining,
                stride=grid.stride if len(grids) > 1 else (0, 0),
                edge=edge if options.edge == "auto" else "",
            )


def _only_one(readings: Sequence[NamedWindows]) -> NamedWindows:
    """The one reading that these are, in other words.

    Raises:
        TilerError: they differ.
    """
    first, *others = readings
    different = [other for other in others if not first.same(other)]
    if different:
        raise TilerError(_several(first, different))
    if any(first.stride):
        raise TilerError(
            f"{first.names[0][:100]}: the number of pixels from one tile to the next is unknown: "
            "say --stride"
        )
    # what makes no difference was not assumed
    edges = {reading.edge for reading in readings if reading.naming == first.naming}
    return replace(first, edge=first.edge if len(edges) == 1 else "")


def _several(first: NamedWindows, others: Sequence[NamedWindows]) -> str:
    """Two readings that both fit, shown on one name, and the option that decides."""
    other = _plainest(first, others)
    tile = 0
    if (first.names, first.stems) == (other.names, other.stems):
        tile = int(np.flatnonzero((first.rects != other.rects).any(axis=1))[0])
    same_naming = first.naming == other.naming
    option = "--naming"
    if same_naming and first.stride != other.stride:
        option = "--stride"
    elif same_naming:
        option = "--edge"
    place = other.names.index(first.names[tile]) if first.names[tile] in other.names else 0
    cure = f"{option} '{first.naming}' or '{other.naming}'" if option == "--naming" else option
    return (
        f"{first.names[tile][:100]}: is this tile of {first.stems[tile][:100]} "
        f"{first.shown(tile)}, or {other.shown(place)}? Both readings of the names fit the "
        f"images; say {cure}"
    )


def _plainest(first: NamedWindows, others: Sequence[NamedWindows]) -> NamedWindows:
    """The other reading to show: one of another naming, which decides more, if there is one."""
    for other in others:
        if other.naming != first.naming:
            return other
    return others[0]


def _none_fits(
    names: Sequence[str],
    sizes: Sizes,
    options: PredictionOptions,
    readings: Sequence[NamedWindows],
) -> str:
    """What was tried, on one name, and what helps."""
    hint = "Say --naming with a pattern such as '{stem}_{x}_{y}_{w}_{h}', or give --tiles"
    if options.tile is None:
        hint = (
            "If names do not say how large a tile is, say --tile; if they are row and column, also "
            f"--stride. {hint}"
        )
    elif options.stride is None:
        hint = f"If the numbers are row and column, say --stride. {hint}"
    if not readings:
        shown = next(name for name in names if _form(name, sizes))
        if _form(shown, sizes).count("{}") == 1:
            return (
                f"{shown[:100]}: one number does not say where this tile lies. Give --tiles with a "
                "table (CSV with tile, image, x, y, w, h), or the tiles' manifest or COCO JSON"
            )
        return f"{shown[:100]}: its numbers do not say where this tile lies. {hint}"
    wrong = np.flatnonzero(~readings[0].fit(sizes).possible)
    tile = int(wrong[0]) if len(wrong) else 0
    name = readings[0].names[tile]
    tried = [reading.shown(tile) for reading in readings if reading.names[tile] == name]
    width, height = sizes[readings[0].stems[tile]]
    return (
        f"{name[:100]}: no reading of the names makes a grid, or tiles of one size, in the images "
        f"(this one has {width} x {height} px). Tried: {'; '.join(tried[:SHOWN])}. {hint}"
    )
