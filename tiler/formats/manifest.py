"""tiles.jsonl: which window of which source each tile is, and where its rows came from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding, printable

NAME = "tiles.jsonl"
SCHEMA = 1


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line."""

    tiler: str
    schema: int
    task: str
    names: list[str]
    options: dict[str, Any]
    kpt_shape: list[int] | None = None


class Tile(msgspec.Struct, frozen=True):
    """A tile: its window in source pixels, and for each line of its label file the source row and visible part."""

    name: str
    x: int
    y: int
    w: int
    h: int
    scale: float
    rows: list[tuple[int, float]]


class SourceTiles(msgspec.Struct, frozen=True):
    """A source picture (upright size; 0 x 0 when it was refused) and its tiles."""

    source: str
    split: str
    width: int
    height: int
    fingerprint: str
    tiles: list[Tile]


def read_head(path: Path) -> Head:
    """The first line of a manifest.

    Raises:
        TilerError: not a manifest of ours, or of a newer version.
    """
    try:
        with open(path, "rb") as file:
            head = msgspec.json.decode(file.readline(), type=Head)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TilerError(f"{printable(str(path))}: not a manifest of tiler: {printable(str(error))}") from None
    if head.schema != SCHEMA:
        raise TilerError(f"{printable(str(path))}: schema {head.schema}, expected {SCHEMA}; made by tiler {head.tiler}")
    return head


def read_sources(path: Path) -> Iterator[SourceTiles]:
    """The other lines, one source each.

    Raises:
        TilerError: with the line that cannot be read.
    """
    decoder = msgspec.json.Decoder(SourceTiles)
    read_head(path)
    with open(path, "rb") as file:
        file.readline()
        for number, line in enumerate(file, 2):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise TilerError(f"{printable(str(path))}:{number}: {printable(str(error))}") from None


def line(record: Head | SourceTiles) -> bytes:
    """A record as one line of JSON."""
    return msgspec.json.encode(record) + b"\n"


def missing(out: Path) -> list[Finding]:
    """Tiles that the manifest of an output names and that are not there."""
    findings = []
    there: dict[tuple[str, str], set[str]] = {}
    for entry in read_sources(out / NAME):
        for kind in ("images", "labels"):
            if (kind, entry.split) not in there:
                there[kind, entry.split] = _stems(out / kind / entry.split, kind == "labels")
            gone = [tile.name for tile in entry.tiles if tile.name not in there[kind, entry.split]]
            findings += [Finding(f"{kind}/{entry.split}/{printable(name)}", "T01", "missing") for name in gone]
    return findings


def _stems(folder: Path, empty: bool) -> set[str]:
    """The stems of the files in a folder; with `empty`, of those without content too."""
    try:
        with os.scandir(folder) as entries:
            return {os.path.splitext(entry.name)[0] for entry in entries if empty or entry.stat().st_size}
    except OSError:
        return set()
