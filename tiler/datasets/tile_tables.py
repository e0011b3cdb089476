"""Where each tile lies, by a table of the user's own: a CSV, or a COCO JSON of the tiles."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tiler.datasets import index as indexes
from tiler.datasets.index import LARGEST, Index, TiledImage
from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, short
from tiler.formats import coco, csv_cells
from tiler.formats.coco_values import number
from tiler.formats.text_files import read_text
from tiler.options import PredictionOptions
from tiler.predictions.records import image_key

MAX_BYTES = 1_000_000_000
SUFFIXES = (".csv", ".json")
# the names that a column may have, the first ones first
TILE = ("tile", "tile_name", "name", "file_name", "filename")
IMAGE = ("image", "source", "source_image", "image_name", "image_path", "parent")
SIDES = {
    "x": ("x", "x0", "xmin", "left"),
    "y": ("y", "y0", "ymin", "top"),
    "w": ("w", "width", "tile_width"),
    "h": ("h", "height", "tile_height"),
    "x1": ("x1", "xmax", "right"),
    "y1": ("y1", "ymax", "bottom"),
}
SIZE = ("image_width", "image_height")
Row = Mapping[str, Any]


class TileImageEntry(coco.CocoImage):
    """A tile in a COCO JSON, with where it lies, if that is there."""

    x: Any = None
    y: Any = None
    source: Any = None
    image: Any = None


class _TilesFile(msgspec.Struct):
    images: list[TileImageEntry]
    annotations: list[msgspec.Raw]
    categories: list[coco.Category]


def is_table(tiles: Path | None) -> bool:
    """Whether --tiles names a table, not the output of tiler split."""
    return tiles is not None and tiles.suffix.lower() in SUFFIXES and os.path.isfile(tiles)


def read(tiles: Path, images: Path | None, options: PredictionOptions) -> Index:
    """The images and tiles of a table.

    Args:
        images: the folder of the full images, for their sizes.

    Raises:
        TilerError: the table cannot be read, or does not say where tiles lie.
    """
    if tiles.suffix.lower() == ".csv":
        return _of_rows(_csv_rows(tiles), tiles, images, options)
    return _of_coco(tiles, images, options)


def _of_coco(file: Path, images: Path | None, options: PredictionOptions) -> Index:
    """The tiles of a COCO JSON: by x, y and source of its entries, else by their names, else as
    the manifest beside the file has them.
    """
    content, findings = coco.decoded(file, _TilesFile, file.name)
    classes, names = coco.classes_of(content.categories, file)
    ids = {}
    named = []
    for entry in content.images:
        id = coco.as_id(entry.id)
        if isinstance(entry.name, str) and id is not None:
            ids[str(id)] = os.path.basename(image_key(entry.name))
            named.append(entry)
    if not ids:
        raise TilerError(f"{file}: no image in it has an id and a file_name")
    if any(entry.x is not None for entry in named):
        index = _of_rows(_entry_rows(named), file, images, options)
    elif images is not None:
        index = indexes.of_names(sorted(ids.values()), images, options)
        index = replace(index, by_names=False, said=f"{index.said} in a COCO JSON")
    else:
        near = indexes.manifest_above(file)
        if near is None:
            raise TilerError(
                f"--tiles {file}: it does not say where its tiles lie; if their names do, give "
                "--images with the folder of the full images"
            )
        index = indexes.of_manifest(near)
    category_ids = sorted(id for id in classes if isinstance(id, int))
    return replace(
        index,
        names=tuple(names) or index.names,
        categories=tuple(category_ids) if len(category_ids) == len(names) else None,
        findings=[*index.findings, *findings],
        ids=ids,
    )


def _entry_rows(entries: list[TileImageEntry]) -> Iterator[tuple[int, Row]]:
    for entry in entries:
        source = entry.source if entry.source is not None else entry.image
        row = {"tile": entry.name, "image": source, "x": entry.x, "y": entry.y}
        yield 0, row | {"w": entry.width, "h": entry.height}


def _csv_rows(file: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a CSV with their lines, under our names for the columns."""
    reader = csv.DictReader(io.StringIO(read_text(file, MAX_BYTES), newline=""))
    try:
        given = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = given
        columns = _columns(given, file)
        for row in reader:
            yield reader.line_num, {name: row[column] for name, column in columns.items()}
    except csv.Error as error:
        raise TilerError(f"{file}:{reader.line_num}: not CSV: {error}") from None


def _columns(given: list[str], file: Path) -> dict[str, str]:
    """The columns that there are, by the name that we have for them.

    Raises:
        TilerError: the ones that say where tiles lie are missing.
    """
    columns = {}
    for name, names in {"tile": TILE, "image": IMAGE, **SIDES}.items():
        for column in names:
            if column in given and name not in columns:
                columns[name] = column
    for column in SIZE:
        if column in given:
            columns[column] = column
    sized = {"w", "h"} <= {*columns} or {"x1", "y1"} <= {*columns}
    missing = [name for name in ("tile", "image", "x", "y") if name not in columns]
    if not sized:
        missing.append("w and h (or x1 and y1)")
    if missing:
        found = ", ".join(map(short, given[:12])) or "nothing"
        raise TilerError(
            f"--tiles {file}: expected columns tile, image, x, y, w, h; no {', '.join(missing)} "
            f"among {found}"
        )
    return columns


@dataclass(frozen=True, slots=True)
class _FullImages:
    """The full images by what a table may call them: path, name or stem.

    Attributes:
        sizes: width and height by key.
        keys: of an image by each of its names; "" where two images have it.
    """

    sizes: dict[str, tuple[int, int]]
    keys: dict[str, str]

    @classmethod
    def of(cls, sizes: dict[str, tuple[int, int]]) -> _FullImages:
        keys: dict[str, str] = {}
        for key in sizes:
            base = os.path.basename(key)
            for name in {base, os.path.splitext(key)[0], os.path.splitext(base)[0]}:
                keys[name] = "" if name in keys else key
        return cls(sizes, {**keys, **{key: key for key in sizes}})

    def key(self, name: Any) -> str:
        """The key of an image; "" of none, or of several."""
        if not isinstance(name, str):
            return ""
        path = name.strip().replace("\\", "/")
        return self.keys.get(path) or self.keys.get(os.path.basename(path), "")


def _of_rows(
    given: Iterable[tuple[int, Row]], file: Path, images: Path | None, options: PredictionOptions
) -> Index:
    """The index of the rows of a table."""
    _require_no_naming(file, options)
    rows = list(given)
    findings: list[Finding] = []
    tiles = _TableTiles(_FullImages.of(_sizes(rows, file, images, findings)))
    for line, row in rows:
        problem = tiles.add(row)
        if problem:
            where = f"{file.name}:{line}" if line else file.name
            findings.append(Finding("", "D12", f"{where}: {problem}"))
    if rows and not tiles.rects:
        last = findings[-1].message
        raise TilerError(f"--tiles {file}: none of its {len(rows)} tiles can be used: {last}")
    root = None if images is None else Path(os.path.abspath(images))
    return Index(tiles.by_image(), "table of tiles", file, root=root, findings=findings)


def _require_no_naming(file: Path, options: PredictionOptions) -> None:
    """Raises:
    TilerError: options say how names of tiles are read, while a table has their places.
    """
    for name in ("naming", "tile", "stride", "edge"):
        value = getattr(options, name)
        if value != getattr(PredictionOptions(), name):
            raise TilerError(f"--{name} {value}: the places of tiles are known from {file}")


@dataclass(slots=True)
class _TableTiles:
    """The tiles of a table that can be used.

    Attributes:
        names, rects: of the tiles, by the key of their image.
    """

    full: _FullImages
    names: dict[str, list[str]] = field(default_factory=dict)
    rects: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    def add(self, row: Row) -> str:
        """Add the tile of a row; if it cannot be used, why."""
        tile = _name(row)
        key = self.full.key(_plain(row["image"]))
        rect = _rect(row)
        problem = _problem(tile, key, rect, self.full, row)
        if not problem:
            assert rect is not None
            self.names.setdefault(key, []).append(tile)
            self.rects.setdefault(key, []).append(rect)
        return problem

    def by_image(self) -> list[TiledImage]:
        """All images with their tiles, sorted."""
        tiled = []
        for key, (width, height) in sorted(self.full.sizes.items()):
            rects = np.array(self.rects.get(key, []), np.float64).reshape(-1, 4)
            names = self.names.get(key, [])
            tiled.append(TiledImage(key, width, height, names, rects, np.ones(len(rects))))
        return tiled


def _sizes(
    rows: list[tuple[int, Row]], file: Path, images: Path | None, findings: list[Finding]
) -> dict[str, tuple[int, int]]:
    """Width and height of the images: in their folder, else as the table has them.

    Raises:
        TilerError: neither is there.
    """
    if images is not None:
        return indexes.image_sizes(images, findings)
    sizes = {}
    for _, row in rows:
        width, height = (number(row.get(name)) for name in SIZE)
        image = _plain(row["image"])
        if isinstance(image, str) and width and height and max(width, height) <= LARGEST:
            sizes[image.strip()] = (int(width), int(height))
    if not sizes:
        raise TilerError(
            f"--tiles {file}: how large are the full images? Give --images, their folder, or "
            f"columns {' and '.join(SIZE)}"
        )
    return sizes


def _plain(cell: Any) -> Any:
    return csv_cells.plain(cell) if isinstance(cell, str) else cell


def _name(row: Row) -> str:
    """The name of a tile without folder and suffix."""
    given = _plain(row["tile"])
    if not isinstance(given, str):
        return ""
    return os.path.basename(image_key(given.strip()))


def _rect(row: Row) -> tuple[float, ...] | None:
    """xyxy of a tile, px; None of what are no numbers."""
    values = {name: _finite(row.get(name)) for name in SIDES}
    x, y = values["x"], values["y"]
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    right, bottom = x + values["w"], y + values["h"]
    if row.get("x1") is not None:
        right, bottom = values["x1"], values["y1"]
    rect = (x, y, right, bottom)
    if not all(abs(value) <= LARGEST for value in rect):
        return None
    return rect


def _finite(value: Any) -> float:
    """A number, also as text; NaN of anything else."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _problem(
    tile: str, key: str, rect: tuple[float, ...] | None, full: _FullImages, row: Row
) -> str:
    """Why a row cannot be used; "" if it can."""
    if not tile:
        return "no name of a tile"
    if not key:
        hint = did_you_mean(str(row["image"]), full.sizes)
        return f"{tile[:100]}: no image {short(row['image'])}, or several of that name{hint}"
    if rect is None or rect[2] <= rect[0] or rect[3] <= rect[1]:
        return f"{tile[:100]}: x, y and the size are not numbers of a window"
    width, height = full.sizes[key]
    if rect[2] <= 0 or rect[3] <= 0 or rect[0] >= width or rect[1] >= height:
        return f"{tile[:100]}: it lies outside {key}, which has {width} x {height} px"
    return ""
