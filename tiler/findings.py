"""Findings: what was noticed about one file or one row, and what was done with it.

`error`: something of the source is not in the output, or the trainer would drop it.
`warning`: something was repaired, or is worth knowing.
`note`: a rule was applied that loses nothing.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tiler.errors import printable

Level = Literal["error", "warning", "note"]

CODES: dict[str, tuple[Level, str]] = {
    "Y01": ("error", "a split that the dataset names, train or val, is missing or empty"),
    "Y02": ("warning", "two classes have the same name"),
    "Y03": ("warning", "no val split, or no train split"),
    "Y04": ("error", "an image list names a file that does not exist"),
    "Y05": (
        "warning",
        "a split that the trainer does not need (test, minival) is missing or empty",
    ),
    "Y06": ("error", "a split without any label file"),
    "Y07": ("warning", "read in another way than the format says, where only one way makes sense"),
    "Y08": ("warning", "a split that the trainer does not need has no label file"),
    "Y09": ("note", "objects marked difficult are taken as the others are"),
    "Y10": ("warning", "a split that --val or --test made is not as it was asked for"),
    "I01": ("error", "the image cannot be opened"),
    "I02": ("error", "the content is not an image of a known format"),
    "I03": ("error", "the image is truncated or damaged"),
    "I04": ("error", "the image is too large for --max-pixels or for the memory"),
    "I05": ("error", "a side is under 10 px, which the trainer rejects"),
    "I06": ("error", "reading it would lose bit depth, bands or colour"),
    "I07": ("error", "a format that the trainer reads, but tiler as installed does not"),
    "I08": ("error", "the trainer ignores files with such a name"),
    "I09": ("warning", "the suffix does not match the content"),
    "I10": ("note", "EXIF orientation: the trainer sees the image turned"),
    "I11": ("note", "several pages or frames: only the first is used"),
    "I12": ("warning", "pixels were converted, since the format cannot hold them"),
    "I13": ("warning", "more than 8 bits are kept; of 16 the trainer takes the high byte only"),
    "I14": ("warning", "images differ in their number of bands; the trainer takes one number only"),
    "I15": ("warning", "a no-data value that no pixel can have, or that is not a number"),
    "L01": ("error", "the label file cannot be read"),
    "L02": ("error", "not a number"),
    "L03": ("error", "wrong number of values"),
    "L04": ("error", "not a class of the dataset"),
    "L05": ("error", "coordinates outside the image"),
    "L06": ("error", "no size or no area"),
    "L07": ("warning", "duplicate row"),
    "L08": ("warning", "reaches past the image"),
    "L09": ("warning", "self-crossing outline, read by the even-odd rule"),
    "L10": ("error", "a box where an outline is needed"),
    "L11": ("warning", "a keypoint outside the image, or an unknown visibility"),
    "L12": ("note", "an outline in a box dataset, read as its box"),
    "L13": ("error", "every row was rejected, so the image is not used as background"),
    "L14": ("note", "a region to be ignored (iscrowd, ignore)"),
    "L15": ("error", "an outline that crosses itself too often"),
    "L16": ("warning", "keypoints that few annotations have, left out"),
    "M01": ("error", "no mask: the trainer ignores such an image"),
    "M02": ("error", "the mask cannot be read, or its pixels are no classes"),
    "M03": ("error", "the mask has another size than its image"),
    "M04": ("error", "the mask has values that are no class of the dataset"),
    "M05": ("warning", "all masks show background or ignored pixels only"),
    "M06": ("note", "a mask of the image as stored, turned as EXIF turns the image"),
    "M07": ("warning", "a mask without an image"),
    "G01": ("warning", "features of a GIS file that lie in no image"),
    "G02": ("warning", "reprojected less accurately than to a pixel, as PROJ lacks a file"),
    "G03": ("warning", "what GDAL warned of when it read the labels"),
    "G04": ("note", "what was read of a GIS file"),
    "P01": ("warning", "no label file: the image counts as background"),
    "P02": ("warning", "a label file without an image"),
    "P03": ("warning", "two images share one label file"),
    "P04": ("warning", "the same image is in two splits"),
    "P05": ("warning", "an image is listed twice"),
    "P06": (
        "error",
        "an image without annotations, while annotations fit no image: not taken for background",
    ),
    "W01": ("warning", "the overlap is so large that tiles show nearly the same"),
    "W02": ("error", "the image has no room for the tiles of --grid"),
    "W03": ("error", "a region of --roi names an image that is not in the dataset"),
    "W04": ("error", "the image's place on the map is not known, which --roi needs"),
    "W05": ("note", "no region of --roi meets the image: it has no tiles"),
    "W06": ("warning", "no tile of a split is in the regions of --roi"),
    "D01": ("error", "a prediction file cannot be read"),
    "D02": ("error", "not a number"),
    "D03": ("error", "wrong number of values"),
    "D04": ("error", "not a class"),
    "D05": ("error", "outside its tile"),
    "D06": ("warning", "no size or no area; dropped"),
    "D07": ("warning", "repeats an earlier row; dropped"),
    "D08": ("error", "a confidence outside 0 to 1"),
    "D09": ("note", "reaches past its tile; clamped"),
    "D10": ("error", "predictions for something that is not a tile of the dataset"),
    "D11": (
        "warning",
        "as many rows as detectors usually keep at most (300), or the same number in all tiles: "
        "some may be missing",
    ),
    "D12": ("error", "a tile outside its image, or a row of a table of tiles that cannot be used"),
    "D13": ("error", "no world file beside the image: its GeoJSON is in pixels"),
    "D14": (
        "warning",
        "images that are not in the ground truth; predictions.json has their names as ids",
    ),
    "D15": ("error", "an outline that crosses itself too often"),
    "D16": ("warning", "an image divided in blocks, with predictions for some of its splits only"),
    "D17": ("note", "rows of classes that --classes or --map-classes leaves out"),
    "D18": ("warning", "a run that repeats the rows of another one; counted once"),
    "D19": ("warning", "a run left out, since another one is newer (--runs newest)"),
    "D20": ("error", "an image that lies where --to-crs does not reach"),
    "D21": ("warning", "an image left out of the YOLO dataset, of which not all was predicted"),
    "D22": ("warning", "training labels of detections at any confidence"),
    "S01": ("error", "predictions for an image that is not scored"),
    "S03": (
        "error",
        "images without predictions, if it is not known whether the detector was run on them",
    ),
    "S04": ("note", "predictions for images of splits that are not scored"),
    "S05": ("note", "labels outside of the blocks whose tiles were predicted, left out"),
    "X01": ("error", "an internal error with an image; the others are done"),
    "T01": ("error", "a tile of the manifest is missing"),
    "T02": ("error", "a tile's rows do not match the manifest"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing noticed.

    Attributes:
        path: of the file, as it is; `str` makes it printable.
        message: printable.
        line: counts from 1; None if the finding is about the whole file.
        count: number of rows that share the finding.

    >>> str(Finding("labels/a.txt", "L04", "class 7, expected 0 to 4", line=17))
    'labels/a.txt:17: L04 class 7, expected 0 to 4'
    """

    path: str
    code: str
    message: str
    line: int | None = None
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", printable(self.message))
        if not self.path.isascii():  # JSON cannot hold a name that is not UTF-8
            path = self.path.encode("utf-8", "backslashreplace").decode()
            object.__setattr__(self, "path", path)

    @property
    def level(self) -> Level:
        """error, warning or note."""
        return CODES[self.code][0]

    def and_more(self, count: int) -> Finding:
        """The same finding for more rows."""
        return replace(self, count=self.count + count)

    def __str__(self) -> str:
        text = f"{self.code} {self.message}"
        if self.count > 1:
            text += f" (and {self.count - 1} more)"
        where = printable(self.path)
        if self.line is not None:
            where += f":{self.line}"
        if not where:
            return text
        return f"{where}: {text}"


def inside(path: str, folder: str) -> str:
    """A finding's path relative to a folder, so that reports do not tell where the folder is.

    >>> inside("/data/preds/a.txt", "/data/preds"), inside("b.txt", "/data/preds")
    ('a.txt', 'b.txt')
    """
    if not path.startswith(folder):
        return path
    return path.removeprefix(folder).lstrip("/" + os.sep)


def short(value: object) -> str:
    """A value that was found, in a few words however large or nested it is.

    >>> short(["a"] * 1000)
    "['a', 'a', 'a', 'a', 'a', 'a', ...]"
    """
    return printable(reprlib.repr(value))[:100]


def because(findings: Sequence[Finding], limit: int = 3) -> str:
    """The first findings, as the reasons at the end of a message; "" if there are none.

    >>> because([Finding("a.png", "I01", "cannot be opened")])
    ': a.png: I01 cannot be opened'
    """
    if not findings:
        return ""
    reasons = "; ".join(str(finding) for finding in findings[:limit])
    more = sum(finding.count for finding in findings[limit:])
    if more:
        reasons += f"; and {more} more"
    return f": {reasons}"


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Combine the entries of each JSON that had no size (D06), which detectors write now and then.

    >>> entries = [Finding("a.json", "D06", f"entry {i}: no size") for i in range(3)]
    >>> [str(finding) for finding in together(entries)]
    ['a.json: D06 entry 0: no size (and 2 more)']
    """
    kept: list[Finding] = []
    first: dict[str, int] = {}
    for finding in findings:
        if finding.code != "D06" or finding.line is not None:
            kept.append(finding)
        elif finding.path not in first:
            first[finding.path] = len(kept)
            kept.append(finding)
        else:
            place = first[finding.path]
            kept[place] = kept[place].and_more(finding.count)
    return kept


def condensed(findings: Iterable[Finding], limit: int = 10) -> list[Finding]:
    """At most `limit` warnings and notes of each file and code; the last one carries the count of
    the rest.

    Errors are all kept: every row that was rejected has its line.
    """
    kept: list[Finding] = []
    places: dict[tuple[str, str], list[int]] = {}
    for finding in findings:
        alike = places.setdefault((finding.path, finding.code), [])
        if len(alike) < limit or finding.level == "error":
            alike.append(len(kept))
            kept.append(finding)
        else:
            last = alike[-1]
            kept[last] = kept[last].and_more(finding.count)
    return kept
