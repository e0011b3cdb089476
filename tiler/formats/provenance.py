"""merged.jsonl: what became of every row of every tile, and of which rows each merged detection is
made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tiler.findings import short
from tiler.formats import jsonl
from tiler.formats.jsonl import Opened
from tiler.formats.text_files import open_regular, within

NAME = "merged.jsonl"
SCHEMA = 1

Row = tuple[int, int]  # tile (its place in the source's list), row of its predictions


class ProvenanceHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line.

    Attributes:
        index: names the images and tiles that predictions were looked up in.
        by_names: no manifest told the tiles; of an image without predictions it is not known
            whether it was cut.
    """

    tiler: str
    schema: int
    task: str
    names: list[str]
    options: dict[str, Any]
    predictions: str
    index: str
    kpt_shape: list[int] | None = None
    by_names: bool = False


class TileRows(msgspec.Struct, frozen=True, array_like=True):
    """A tile: its window in source pixels, tile px per source px, and its number of rows, 0 without
    predictions.
    """

    name: str
    x: float
    y: float
    w: float
    h: float
    scale: float
    rows: int


class MergedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One source image.

    Attributes:
        digest: of the rows that were read, and the tiles they were looked up in.
        tiles: all that are known, those with predictions first; rows 0 for those without any
            or with a file that cannot be read. An image that was predicted whole is one more
            tile, named as the image without its suffix.
        detections: for each merged detection, in the order they are written, the rows it is
            made of, the most confident first.
        orphans: merged detections that are lone cut ones, see `MergeOptions.orphans`.
        dropped: rows that are in no detection: tile, row, the fate (see `stitching.FATES`)
            and the detection that they lost to or repeat, -1 for none.
        refused: rows that cannot be meant: tile, row and the finding's code.
        files: the image's own files in the output, and their bytes.
        predicted: there are predictions for it, if only an empty file.
    """

    source: str
    width: int
    height: int
    digest: str
    tiles: list[TileRows]
    detections: list[list[Row]]
    orphans: list[int]
    dropped: list[tuple[int, int, str, int]]
    refused: list[tuple[int, int, str]]
    files: dict[str, int] = {}
    predicted: bool = True


class Brief(msgspec.Struct, frozen=True):
    """Of a source image only what is said of the whole of it; see `MergedImage`."""

    source: str
    files: dict[str, int] = {}
    predicted: bool = True

    @property
    def label(self) -> str | None:
        """Its label file, from `labels/` on and without suffix."""
        names = (name for name in self.files if name.startswith("labels/"))
        return next((name.removeprefix("labels/").removesuffix(".txt") for name in names), None)


def read_head(path: Path, opened: Opened = open_regular) -> ProvenanceHead:
    """The first line.

    Raises:
        TilerError: not a merged.jsonl of ours, or of a newer version.
    """
    return jsonl.read_head(path, ProvenanceHead, SCHEMA, "what tiler merge writes", opened)


def read_sources(path: Path, opened: Opened = open_regular) -> Iterator[MergedImage]:
    """The other lines, one source each.

    Raises:
        TilerError: with the line that cannot be read.
    """
    read_head(path, opened)
    yield from jsonl.read_records(path, MergedImage, opened, _fault)


def _fault(entry: MergedImage | Brief) -> str:
    """Why an entry's files are none of the output; empty when they are."""
    odd = next((name for name in entry.files if within(name) is None), None)
    return "" if odd is None else f"file {short(odd)}: it lies outside this folder"


def read_briefs(path: Path) -> Iterator[Brief]:
    """The same lines without their rows, which are most of the file.

    Raises:
        TilerError: with the line that cannot be read.
    """
    read_head(path)
    yield from jsonl.read_records(path, Brief, check=_fault)
