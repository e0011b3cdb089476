"""Whether predictions as a whole are in the frame that they are read in.

A row may be wrong; that is a finding. Where most are, or where all of them make sense in another
frame only, the meaning of the numbers is another one, and nothing good comes of reading on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, because, inside
from tiler.geometry import few
from tiler.predictions.agreement import better_frame
from tiler.predictions.coordinates import NORMALISED, letterbox
from tiler.predictions.placing import placed

if TYPE_CHECKING:
    from tiler.predictions.values import FileBatch, Frames, Predictions, RowExtents
    from tiler.types import Bools, Floats

READABLE = 0.5  # of the rows; with fewer, the files are not what they are taken for
CORNER = 2.0  # px: all of a normalised box lies within it
ROOM = 20.0  # px: in a smaller tile boxes may well lie in such a corner
SLACK = 2.0  # px that a box may reach past its frame
FITTING = 0.95  # of the boxes lie within a frame that is theirs
PART = 3  # at least this part of the boxes that another frame would put outside are
SHIFTED = 0.3  # of boxes in px of the image lie outside their tile, at any usual overlap
ENOUGH = 20  # boxes; whether fewer avoid a part of their tiles may be chance
AT_LIMIT = 1.5  # px: a box that the border of its frame has cut ends so near it
REACH = 0.97  # of a frame: how far the boxes in it reach
SMALLER = 0.95  # of a tile: a frame of about its size leaves nothing to tell
SEVERAL = 3  # tiles or images; whether fewer have the same number of rows may be chance
MANY = 50  # rows; the same smaller number may be that of the objects
USUAL = (320, 416, 512, 640, 768, 800, 960, 1024, 1280, 1536, 1920, 2048)  # px of networks
SIDES = np.arange(160, 2049, 32)  # px: networks take multiples of 32


def rows_of_all(counts: Sequence[int]) -> int:
    """How many rows each of several tiles or images has, if that is the same large number; else 0.

    >>> rows_of_all([300, 300, 300]), rows_of_all([300, 300, 299]), rows_of_all([2, 2, 2])
    (300, 0, 0)
    """
    if len(counts) < SEVERAL or len(set(counts)) > 1 or counts[0] < MANY:
        return 0
    return counts[0]


def all_alike(what: str, rows: int, number: int) -> Finding:
    """What it may mean that all tiles or images have the same number of rows."""
    message = (
        f"all {number} {what} have exactly {rows} rows: a DETR has one for each of its queries, so "
        "nothing is missing then; otherwise its max_det may have cut off more: set it higher"
    )
    return Finding("", "D11", message)


@dataclass(frozen=True, slots=True, eq=False)
class _LocatedBoxes:
    """N boxes with a size, in the coordinates of their files.

    Attributes:
        boxes: `(N, 4)` xyxy; taken for px of the tile.
        sides: `(N, 2)` px of each one's tile.
        shown: `(N, 2)` px of the part of it that is inside the image.
        offset: `(N, 2)` px of the source image: where the tile begins.
        scale: `(N, 1)` tile px per source px.
    """

    boxes: Floats
    sides: Floats
    shown: Floats
    offset: Floats
    scale: Floats

    @classmethod
    def of(cls, extents: RowExtents, frames: Frames) -> Self:
        """Those that have a size, in tiles of known size."""
        tile = extents.tile
        scale = frames.scale[:, None]
        sides = (frames.rects[:, 2:] - frames.rects[:, :2]) * scale
        shown = (frames.within[:, 2:] - frames.rects[:, :2]) * scale
        known = np.flatnonzero(extents.sized & few.every(sides > 0)[tile])
        tile = tile[known]
        boxes = extents.boxes.take(known, axis=0)
        of_tiles = (sides, shown, frames.rects[:, :2], scale)
        return cls(boxes, *(values.take(tile, axis=0) for values in of_tiles))

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def centres(self) -> Floats:
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def in_corner(self) -> Bools:
        """`(N,)` which lie within the first pixels of their tile."""
        near = (self.boxes[:, 2:] <= CORNER) & (self.boxes[:, :2] >= -CORNER)
        return few.every(near & (self.sides > ROOM))

    def outside(self) -> Bools:
        """`(N,)` which have their centre outside their tile."""
        return ~_between(self.centres, 0.0, self.sides, SLACK)

    def in_image(self) -> Bools:
        """`(N,)` which have it inside, if they are in px of the full image."""
        sides = self.sides / self.scale
        return _between(self.centres, self.offset, self.offset + sides, SLACK)

    def in_letterbox(self, side: float) -> _Letterboxed:
        scale, padding = letterbox(self.sides, side)
        return _Letterboxed(padding, padding + self.sides * scale[:, None])


@dataclass(frozen=True, slots=True, eq=False)
class _Letterboxed:
    """Where tiles lie in a square that they were fitted into: `(N, 2)` from and to, px of it."""

    start: Floats
    end: Floats

    def holds(self, boxes: Floats) -> Bools:
        """`(N,)` which boxes lie within."""
        after = boxes[:, :2] >= self.start - SLACK
        before = boxes[:, 2:] <= self.end + SLACK
        return few.every(after & before)

    def ending(self, boxes: Floats) -> int:
        """How many boxes end where it does."""
        at_end = np.abs(boxes[:, 2:] - self.end) <= AT_LIMIT
        return int(few.some(at_end).sum())

    def share_outside(self, sides: Floats) -> float:
        """How much of it lies outside the tiles, if taken for px of these."""
        common = np.clip(np.minimum(self.end, sides) - self.start, 0.0, None)
        parts = common.prod(axis=1) / (self.end - self.start).prod(axis=1)
        return float(1 - parts.mean())


def _between(points: Floats, low: Floats | float, high: Floats, slack: float) -> Bools:
    within = (points >= low - slack) & (points <= high + slack)
    return few.every(within)


def require_plausible(
    batch: FileBatch, frames: Frames, preds: str, boxes: str = "auto", of: str = "tile"
) -> None:
    """Require that most rows of a batch can be read, that they are in the frame that they are
    taken to be in, and that classes are not mapped in such a way that none is left.

    Args:
        preds: their path, for errors.
        boxes: what the user says that coordinates count in; auto: that is to be told here.
        of: what each key is, a tile or an image.

    Raises:
        TilerError: it is not so, with the likely cause and the option that says it.
    """
    extents = batch.extents()
    located = _LocatedBoxes.of(extents, frames)
    if boxes == "auto" and len(located):
        corner = extents.coordinates.kind == "pixels" and located.in_corner().mean() > READABLE
        if corner:  # parts of the tile, or of the image?
            _require_agreement(replace(extents, coordinates=NORMALISED), frames, preds, of)
        if extents.coordinates.kind == "pixels":
            _require_pixels(located, preds, of)
        _require_agreement(extents, frames, preds, of)
    rejected: Bools = extents.unreadable | _apart(extents, frames)
    unreadable = rejected[~extents.empty]
    if len(unreadable) and unreadable.mean() > READABLE:
        _reject(batch, frames, extents, preds, of)
    if extents.class_map is not None:
        extents.class_map.require_any(extents.class_id[~extents.unreadable], preds)


def require_files(predictions: Predictions, preds: str) -> None:
    """Require that most files can be read, and that most of their rows name their tile.

    Raises:
        TilerError: it is not so, for which reasons.
    """
    files = [f for f in predictions.findings if f.code == "D01"]
    rows = [f for f in predictions.findings if f.code in ("D02", "D03")]
    lost = sum(finding.count for finding in rows)
    if len(files) > len(predictions.keys):
        what, bad = "files", files
    elif lost > sum(predictions.counts):
        what, bad = "rows", rows
    else:
        return
    shown = [replace(finding, path=inside(finding.path, preds)) for finding in bad]
    raise TilerError(f"{preds}: most {what} cannot be read{because(shown)}")


def require_in_frame(boxes: Floats, sizes: Floats, where: str, of: str = "image") -> None:
    """The same for `(N, 4)` boxes in memory, in px of images of `(N, 2)` `sizes` (0: not known).

    Raises:
        TilerError: they are not in px of their images.
    """
    known = few.every(sizes > 0) & few.every(boxes[:, 2:] > boxes[:, :2])
    boxes, sizes = boxes[known], sizes[known]
    if not len(boxes):
        return
    zeros = np.zeros_like(sizes)
    located = _LocatedBoxes(boxes, sizes, sizes, zeros, np.ones((len(boxes), 1)))
    _require_pixels(located, where, of)
    whole = np.concatenate([zeros, sizes], axis=1)
    _require_inside(boxes, whole, _disjoint(boxes, whole), where, of)


# --- pixels of what?


def _require_pixels(located: _LocatedBoxes, where: str, of: str) -> None:
    """Raises:
    TilerError: the boxes are more likely to be in another frame than in px of their tiles.
    """
    corner = located.in_corner()
    if corner.mean() > READABLE:
        reach = located.boxes[corner].max()
        raise TilerError(
            f"{where}: {int(corner.sum())} of {len(corner)} boxes lie in the first {CORNER:g} px, "
            f"no box of these reaches past {reach:g} px: normalised coordinates? expected pixels "
            f"of the {of}: say --boxes normalised, or --boxes pixels if the objects are that small"
        )
    outside = located.outside()
    if not outside.any():
        side = _smaller_letterbox(located)
        evidence = f"no box of {len(located)} reaches past {side} px, where some end"
    elif _are_of_image(located, outside):
        raise TilerError(
            f"{where}: {int(outside.sum())} of {len(outside)} boxes lie outside their {of}, but "
            "all where they should if they are pixels of the full image: say --boxes image, or "
            "--boxes pixels if they are pixels of the tile all the same"
        )
    else:
        side = _larger_letterbox(located, outside)
        evidence = (
            f"{int(outside.sum())} of {len(outside)} boxes lie outside their {of}, but all within "
            f"{side} px"
        )
    if side:
        width, height = located.sides[0]
        raise TilerError(
            f"{where}: {evidence}; the {of}s have {width:g} x {height:g} px: pixels of what the "
            f"network saw (imgsz {side})? say --boxes letterbox:{side}, or --boxes pixels if "
            f"they are pixels of the {of}"
        )


def _require_agreement(extents: RowExtents, frames: Frames, where: str, of: str) -> None:
    """Raises:
    TilerError: tiles disagree about what is in their overlaps, but agree by another frame.
    """
    other = better_frame(extents, frames)
    if other is not None:
        own = extents.coordinates
        raise TilerError(
            f"{where}: {of}s report no common objects where they overlap, but would if coordinates "
            f"were {other}, not {own}: say --boxes {other}, or --boxes {own} if they are right"
        )


def _are_of_image(located: _LocatedBoxes, outside: Bools) -> bool:
    """Whether boxes make sense as px of the full image only. Tiles at its origin do not tell."""
    telling = few.some(located.offset > SLACK)
    if not outside[telling].any():
        return False
    fit = located.in_image()
    least = min(fit[telling].mean(), fit[outside].mean())
    return bool(least >= FITTING and outside[telling].mean() >= SHIFTED)


def _larger_letterbox(located: _LocatedBoxes, outside: Bools) -> int:
    """The side of the letterbox that boxes fit in which their tiles do not hold; 0: none.

    It is the one at whose border most boxes end, as those do that the border of a tile has cut; if
    none do, the smallest usual one. Of boxes all over a letterbox, a known share would lie outside
    the tiles. A few wrong rows are far fewer.
    """
    reach = np.quantile(few.largest(located.boxes[:, 2:]), FITTING)
    found: list[tuple[int, int]] = []  # boxes that end at the border, and minus the side
    for side in SIDES[reach - SLACK <= SIDES].tolist():
        tiles = located.in_letterbox(side)
        ending = tiles.ending(located.boxes)
        if tiles.holds(located.boxes).mean() < FITTING or not (ending or side in USUAL):
            continue
        expected = tiles.share_outside(located.sides)
        if outside.mean() >= expected / PART:
            found.append((ending, -side))
    _, negative = max(found, default=(0, 0))
    return -negative


def _smaller_letterbox(located: _LocatedBoxes) -> int:
    """The side of a letterbox that all boxes lie in, some at its border, although their tiles show
    more; 0: none.
    """
    if len(located) < ENOUGH:
        return 0
    reach = few.largest(located.boxes[:, 2:]).max()
    for side in SIDES[(reach - SLACK <= SIDES) & (reach >= SIDES * REACH)].tolist():
        tiles = located.in_letterbox(side)
        smaller = (tiles.end < SMALLER * located.shown).all()
        if smaller and tiles.holds(located.boxes).all() and _fill(located.boxes, tiles):
            return int(side)
    return 0


def _fill(boxes: Floats, tiles: _Letterboxed) -> bool:
    """Whether boxes reach through their letterbox, and some end where it does."""
    reach = (boxes[:, 2:] / tiles.end).max(axis=0)
    return tiles.ending(boxes) >= 2 and bool((reach >= REACH).all())


# --- rows that cannot be read


def _disjoint(boxes: Floats, windows: Floats) -> Bools:
    """`(N,)` which boxes lie outside their window."""
    before = boxes[:, 2:] < windows[:, :2]
    after = boxes[:, :2] > windows[:, 2:]
    return few.some(before | after)


def _in_source(extents: RowExtents, frames: Frames) -> Floats:
    corners = extents.boxes.reshape(-1, 2)
    tile = np.repeat(extents.tile, 2)
    return placed(corners, tile, frames, extents.coordinates).reshape(-1, 4)


def _apart(extents: RowExtents, frames: Frames) -> Bools:
    """`(N,)` which rows lie outside their tile."""
    known = few.every(frames.rects[:, 2:] > frames.rects[:, :2])
    tile = extents.tile
    apart = _disjoint(_in_source(extents, frames), frames.within.take(tile, axis=0))
    return apart & known[tile]


def _require_inside(boxes: Floats, windows: Floats, outside: Bools, where: str, of: str) -> None:
    """Raises:
    TilerError: most boxes lie outside their window.
    """
    if outside.mean() <= READABLE:
        return
    i = int(np.flatnonzero(outside)[0])
    example = ", ".join(f"{value:g}" for value in boxes[i])
    width, height = windows[i, 2:] - windows[i, :2]
    raise TilerError(
        f"{where}: {int(outside.sum())} of {len(boxes)} boxes lie outside their {of}, such as "
        f"{example} in one of {width:g} x {height:g} px: coordinates of another frame, or "
        f"detections of other {of}s? --boxes says what they count in"
    )


def _reject(batch: FileBatch, frames: Frames, extents: RowExtents, preds: str, of: str) -> None:
    """Raises:
    TilerError: most rows cannot be read, for which reason.
    """
    counted = ~extents.empty
    apart = _apart(extents, frames)
    tile = extents.tile[counted]
    origin = np.tile(frames.rects[tile, :2], 2)
    scale = frames.scale[tile, None]
    boxes = (_in_source(extents, frames)[counted] - origin) * scale
    sides = (frames.rects[tile, 2:] - frames.rects[tile, :2]) * scale
    windows = np.concatenate([np.zeros_like(sides), sides], axis=1)
    _require_inside(boxes, windows, apart[counted], preds, of)
    findings = []
    for finding in batch.read(frames).findings:
        if finding.level == "error":
            findings.append(replace(finding, path=inside(finding.path, preds)))
    bad = int((extents.unreadable | apart)[counted].sum())
    cure = ""
    if any(finding.code == "D04" for finding in findings):
        cure = "; if the model has other classes than the dataset, --map-classes pairs them"
    raise TilerError(
        f"{preds}: {bad} of {int(counted.sum())} rows cannot be read{because(findings)}{cure}"
    )
