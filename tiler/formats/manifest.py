"""tiles.jsonl: which window of which source each tile is, and where its rows came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tiler.findings import Finding, short
from tiler.formats import jsonl
from tiler.formats.jsonl import Opened
from tiler.formats.text_files import open_regular, plain_name, too_long

NAME = "tiles.jsonl"
SCHEMA = 1
WORLD = ".wld"  # beside a tile that cannot say itself where it lies
PLACED = (".tif",)


class ManifestHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line. `categories`: of a COCO set, the category id of each class."""

    tiler: str
    schema: int
    task: str
    names: list[str]
    options: dict[str, Any]
    kpt_shape: list[int] | None = None
    categories: list[int] | None = None


class TileEntry(msgspec.Struct, frozen=True):
    """A tile: its window in source pixels, and for each line of its label file the source row and
    visible part.
    """

    name: str
    x: int
    y: int
    w: int
    h: int
    scale: float
    rows: list[tuple[int, float]]


class Geo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an image lies in the world.

    Attributes:
        transform: a, b, c, d, e, f of x = a·column + b·row + c, y = d·column + e·row + f;
            columns and rows count from the corner of the first pixel.
        crs: the reference system of x and y, such as EPSG:32632, if it has such a name.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str | None = None


class SourceTiles(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source image (upright size; 0 x 0 when it was refused), its tiles, where it lies, and its
    id in a COCO set.
    """

    source: str
    split: str
    width: int
    height: int
    fingerprint: str
    tiles: list[TileEntry]
    geo: Geo | None = None
    image_id: int | str | None = None


def read_head(path: Path, opened: Opened = open_regular) -> ManifestHead:
    """The first line of a manifest.

    Raises:
        TilerError: not a manifest of ours, or of a newer version.
    """
    return jsonl.read_head(path, ManifestHead, SCHEMA, "a manifest of tiler", opened)


def read_sources(path: Path, opened: Opened = open_regular) -> Iterator[SourceTiles]:
    """The other lines, one source each.

    Raises:
        TilerError: with the line that cannot be read.
    """
    read_head(path, opened)
    yield from jsonl.read_records(path, SourceTiles, opened, _fault)


def _fault(entry: SourceTiles) -> str:
    """Why an entry's names are none; empty when they are. Tiles and splits are names, not paths."""
    if "\0" in entry.source or not entry.source:
        return f"source {short(entry.source)}: no image has such a name"
    if too_long(entry.source):
        return f"source {short(entry.source)}: {len(entry.source)} characters, longer than any path"
    for what, name in (("split", entry.split), *(("tile", tile.name) for tile in entry.tiles)):
        if too_long(name):
            return f"{what} {short(name)}: {len(name)} characters, longer than any name"
        if not plain_name(name):
            return f"{what} {short(name)}: expected a name, without folders"
    return ""


def missing(out: Path) -> list[Finding]:
    """Tiles that the manifest of an output names and that are not there."""
    findings = []
    there: dict[tuple[str, str], dict[str, set[str]]] = {}
    for entry in read_sources(out / NAME):
        for kind in ("images", "labels"):
            if (kind, entry.split) not in there:
                there[kind, entry.split] = _suffixes(out / kind / entry.split, kind == "labels")
            known = there[kind, entry.split]
            gone = [tile.name for tile in entry.tiles if not known.get(tile.name, set()) - {WORLD}]
            findings += [Finding(f"{kind}/{entry.split}/{name}", "T01", "missing") for name in gone]
            if kind == "images" and entry.geo is not None:
                unplaced = [
                    t.name for t in entry.tiles if not known.get(t.name, {WORLD}) & {WORLD, *PLACED}
                ]
                findings += [
                    Finding(f"images/{entry.split}/{n}{WORLD}", "T01", "missing") for n in unplaced
                ]
    return findings


def _suffixes(folder: Path, empty: bool) -> dict[str, set[str]]:
    """The files in a folder, as the suffixes of each stem; with `empty`, those without content too."""
    found: dict[str, set[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if empty or entry.stat().st_size:
                    stem, suffix = os.path.splitext(entry.name)
                    found.setdefault(stem, set()).add(suffix)
    except OSError:
        pass
    return found
