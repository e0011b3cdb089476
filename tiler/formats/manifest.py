"""tiles.jsonl, the manifest of a split: the window of each tile in its source image, and the source
row of each of its labels.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tiler.findings import Finding, short
from tiler.formats import jsonl
from tiler.formats.text_files import plain_name, too_long
from tiler.formats.tile_folders import TileFolders

NAME = "tiles.jsonl"
SCHEMA = 1
WORLD = ".wld"  # the suffix of the world file beside a tile whose format holds no location
PLACED = ".tif"  # tiles that hold their location themselves


class ManifestHead(jsonl.FileHead, frozen=True, omit_defaults=True):
    """The first line. `categories`: of a COCO set, the category id of each class."""

    kpt_shape: list[int] | None = None
    categories: list[int] | None = None

    @property
    def export(self) -> str:
        """What else was written of the tiles; see `SplitOptions.export`."""
        return str(self.options.get("export", ""))

    @property
    def layout(self) -> str:
        """Where tiles are; see `SplitOptions.layout`."""
        return str(self.options.get("layout", "flat"))

    @property
    def folders(self) -> TileFolders:
        return TileFolders.exported(self.export)


class TileEntry(msgspec.Struct, frozen=True):
    """A tile.

    Attributes:
        x: left side of its window, in pixels of the source image; `y`, `w`, `h` likewise.
        scale: tile pixels per source pixel.
        rows: for each line of its label file, the source row and the visible part of the object.
    """

    name: str
    x: int
    y: int
    w: int
    h: int
    scale: float
    rows: list[tuple[int, float]]


class Geo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The location of an image in the world.

    Attributes:
        transform: a, b, c, d, e, f of x = a·column + b·row + c, y = d·column + e·row + f;
            columns and rows count from the corner of the first pixel.
        crs: the reference system of x and y, such as EPSG:32632, if it has a name of that kind.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str | None = None


class SourceTiles(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source image and its tiles.

    Attributes:
        split: "" for images without labels.
        width: of the upright image, px; like `height` 0 when the image was rejected.
        geo: its location, if known.
        image_id: its id in a COCO set.
        labels: whether its tiles have label files.
        masks: whether its tiles have class masks.
    """

    source: str
    split: str
    width: int
    height: int
    fingerprint: str
    tiles: list[TileEntry]
    geo: Geo | None = None
    image_id: int | str | None = None
    labels: bool = True
    masks: bool = False


def _problem(entry: SourceTiles) -> str:
    """What is wrong with the names in an entry; splits and tiles are plain names, not paths."""
    if "\0" in entry.source or not entry.source:
        return f"source {short(entry.source)}: no image has such a name"
    if too_long(entry.source):
        return f"source {short(entry.source)}: {len(entry.source)} characters, longer than any path"
    names = [("tile", tile.name) for tile in entry.tiles]
    if entry.split:
        names.insert(0, ("split", entry.split))
    for what, name in names:
        if too_long(name):
            return f"{what} {short(name)}: {len(name)} characters, longer than any name"
        if not plain_name(name):
            return f"{what} {short(name)}: expected a name, without folders"
    return ""


FILE = jsonl.JsonLines("a manifest of tiler", SCHEMA, ManifestHead, SourceTiles, _problem)
read_head = FILE.read_head
read_sources = FILE.read_records


def missing(out: Path) -> list[Finding]:
    """Files of tiles that the manifest of an output names and that do not exist."""
    findings = []
    tile_folders = read_head(out / NAME).folders
    folders: dict[str, dict[str, set[str]]] = {}
    for entry in read_sources(out / NAME):
        kinds = (entry.labels, entry.masks)
        for folder, kind in zip(
            tile_folders.of(entry.split, *kinds), tile_folders.kinds(*kinds), strict=False
        ):
            if folder not in folders:
                folders[folder] = _suffixes(out / folder, empty_too=kind == "labels")
            gone = _gone(entry, folders[folder], placed=kind == "images" and entry.geo is not None)
            findings += [Finding(f"{folder}/{name}", "T01", "missing") for name in gone]
    return findings


def _gone(entry: SourceTiles, suffixes: dict[str, set[str]], placed: bool) -> list[str]:
    """The files of a source that are not in a folder: first tiles, then world files.

    Args:
        suffixes: of the folder's files by their stem.
        placed: each tile has its location in itself or in a world file.
    """
    tiles = []
    world_files = []
    for tile in entry.tiles:
        endings = suffixes.get(tile.name, set())
        if not endings - {WORLD}:
            tiles.append(tile.name)
        if placed and endings and not endings & {WORLD, PLACED}:
            world_files.append(f"{tile.name}{WORLD}")
    return tiles + world_files


def _suffixes(folder: Path, empty_too: bool) -> dict[str, set[str]]:
    """The suffixes of a folder's files by stem; files without content count if `empty_too`."""
    suffixes: dict[str, set[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if empty_too or entry.stat().st_size:
                    stem, suffix = os.path.splitext(entry.name)
                    suffixes.setdefault(stem, set()).add(suffix)
    except OSError:
        pass
    return suffixes
