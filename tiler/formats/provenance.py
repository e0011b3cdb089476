"""merged.jsonl: what became of every row of every tile, and the rows that each merged detection was
made from.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tiler.findings import short
from tiler.formats import jsonl
from tiler.formats.text_files import within

NAME = "merged.jsonl"
SCHEMA = 1

Row = tuple[int, int]  # index of a tile in the source's list, row of its predictions


class ProvenanceHead(jsonl.FileHead, frozen=True, omit_defaults=True):
    """The first line.

    Attributes:
        predictions: the format they were read in.
        index: a digest of the images and tiles that predictions were looked up in.
        by_names: the tiles are known by the names of predictions, not by a manifest; an image
            without predictions may not have been cut at all.
        models: of an ensemble, their names.
    """

    predictions: str
    index: str
    kpt_shape: list[int] | None = None
    by_names: bool = False
    models: list[str] = msgspec.field(default_factory=list)


class TileRows(msgspec.Struct, frozen=True, array_like=True):
    """A tile.

    Attributes:
        x: left side of its window, in pixels of the source image; `y`, `w`, `h` likewise.
        scale: tile pixels per source pixel.
        rows: number of rows of its predictions; 0 without predictions.
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
        digest: of the rows that were read and of the tiles that they belong to.
        tiles: all known tiles, those with predictions first; rows is 0 for those without any,
            or with a file that cannot be read. An image that was predicted whole is one more
            tile, named like the image without its suffix.
        detections: for each merged detection, in the order of the output, the rows it was made
            from, highest confidence first.
        orphans: merged detections that come from a single cut one, see `MergeOptions.orphans`.
        dropped: rows that are in no detection: tile, row, the fate (see `stitching.FATES`)
            and the detection that they lost to or repeat, -1 for none.
        refused: rejected rows: tile, row and the finding's code.
        files: the files of this image in the output, and their sizes in bytes.
        predicted: there are predictions for it, even if only an empty file.
        models: of an ensemble, the model of each tile with predictions, by its place in the first
            line; a tile of several models is listed once for each.
        some_blocks: it was divided among splits in blocks, and these are the tiles of some.
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
    models: list[int] = []
    some_blocks: bool = False


class Brief(msgspec.Struct, frozen=True):
    """A source image without its tiles and rows; see `MergedImage`."""

    source: str
    files: dict[str, int] = {}
    predicted: bool = True
    some_blocks: bool = False

    @property
    def label(self) -> str | None:
        """Its label file, relative to `labels/` and without suffix."""
        for name in self.files:
            if name.startswith("labels/"):
                return name.removeprefix("labels/").removesuffix(".txt")
        return None


def of_output(preds: Path | None) -> Path | None:
    """The merged.jsonl in which `tiler merge` wrote what each detection was made from, if there is
    one.
    """
    if preds is None or not os.path.isfile(preds / NAME):
        return None
    return preds / NAME


def _problem(entry: MergedImage | Brief) -> str:
    """What is wrong with an entry: one of its files lies outside the output."""
    for name in entry.files:
        if within(name) is None:
            return f"file {short(name)}: it lies outside this folder"
    return ""


WHAT = "what tiler merge writes"
FILE = jsonl.JsonLines(WHAT, SCHEMA, ProvenanceHead, MergedImage, _problem)
read_head = FILE.read_head
read_sources = FILE.read_records
# the same lines without their rows, which are most of the file
read_briefs = jsonl.JsonLines(WHAT, SCHEMA, ProvenanceHead, Brief, _problem).read_records
