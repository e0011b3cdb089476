"""The tiles and overlaps that are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry.grids import overlap_px, spans
from tiler.inspecting.advising.survey import ObjectTable, Survey
from tiler.options import PlanOptions, SplitOptions
from tiler.tiling.counts import SMALL

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

TILES = (640, 960, 1280, 1920)  # px
FINER = (512, 320, 160)
COARSER = (2560, 3840)
COCO_RULE, SMALLEST_THIRD = "area under 32² px", "the smallest third"
USUAL = 0.2  # the default of tiler split


@dataclass(frozen=True, slots=True)
class Setting:
    """A grid to compare.

    Attributes:
        tile: the side of a tile, px; 0 for the images as they are.
        overlap: as of `tiler split`: a fraction of the tile, or pixels.
    """

    tile: int
    overlap: float = 0.0

    @property
    def overlap_px(self) -> int:
        """The overlap in px."""
        return overlap_px(self.overlap, self.tile) if self.tile else 0

    def options(self, options: SplitOptions) -> SplitOptions:
        """The options of a split with this grid."""
        return replace(options, tile=self.tile, overlap=self.overlap)


UNTILED = Setting(0)


@dataclass(frozen=True, slots=True)
class SmallObjects:
    """Which objects are the small ones.

    Attributes:
        below: px²; small objects have a smaller area.
        rule: COCO's, or the smallest third, where COCO's has none.
    """

    below: float
    rule: str

    @classmethod
    def among(cls, area: Floats) -> SmallObjects:
        """By the areas of all objects.

        >>> SmallObjects.among(np.array([100.0, 2000.0])).rule
        'area under 32² px'
        >>> SmallObjects.among(np.array([9e4, 4e4, 1e4])).of(np.array([1e4, 1.1e4])).tolist()
        [True, False]
        """
        if not len(area) or (area < SMALL).any():
            return cls(float(SMALL), COCO_RULE)
        third = math.ceil(len(area) / 3)
        largest = np.sort(area)[third - 1]
        return cls(float(np.nextafter(largest, math.inf)), SMALLEST_THIRD)

    def of(self, area: Floats) -> Bools:
        """`(N,)` True for small objects."""
        return area < self.below


def required(keep: float, objects: int) -> int:
    """How many objects `keep` percent of them are, at least.

    >>> required(99, 300), required(99, 301)
    (297, 298)
    """
    return math.ceil(keep / 100 * objects - 1e-9)


def guaranteed_overlap(small: ObjectTable, keep: float) -> int:
    """The overlap, px, with which `keep` percent of the objects are whole in a tile wherever they
    lie: that part of them is no longer than this.
    """
    count = required(keep, len(small.area))
    if count == 0:
        return 0
    return math.ceil(float(np.sort(small.longest)[count - 1]))


def at_imgsz(imgsz: int, sides: Ints) -> Floats:
    """Pixels for one pixel of a tile (or image) whose longer side is `sides`, when the trainer has
    resized it, up or down.
    """
    return imgsz / np.maximum(sides, 1)


def settings(survey: Survey, small: ObjectTable, chosen: PlanOptions) -> list[Setting]:
    """The images as they are, then every tile with every overlap to compare.

    Args:
        small: the small objects of the survey.

    Raises:
        TilerError: an overlap that leaves no stride in a tile.
    """
    result = [UNTILED]
    for tile in _tiles(survey, small, chosen):
        seen: set[int] = set()
        for overlap in _overlaps(survey, small, chosen, tile):
            setting = Setting(tile, overlap)
            if _overlap_px(setting) not in seen:
                seen.add(setting.overlap_px)
                result.append(setting)
    return result


def _overlap_px(setting: Setting) -> int:
    try:
        return setting.overlap_px
    except TilerError as error:
        raise TilerError(f"--overlap {setting.overlap:g}: {error}") from None


def _tiles(survey: Survey, small: ObjectTable, chosen: PlanOptions) -> list[int]:
    """The sides of tiles, which the largest image exceeds.

    Enlarging a tile adds no detail, so tiles under --imgsz are listed only until the small objects
    are large enough in one; and very large tiles only if they are in those.
    """
    if not isinstance(chosen.tile, str):
        return list(chosen.tile)
    median = float(np.median(small.sides)) if len(small.sides) else math.inf

    def enough(side: int) -> bool:
        return median * chosen.imgsz / side >= chosen.min_px

    sides = {chosen.imgsz, *TILES}
    sides.update(side for side in COARSER if enough(side))
    sides = {side for side in sides if side >= chosen.imgsz}
    for side in FINER:
        if enough(min(sides)):
            break
        sides.add(min(side, chosen.imgsz))
    largest = int(survey.sizes.max(initial=0))
    return sorted(side for side in sides if side < largest)


def _overlaps(
    survey: Survey, small: ObjectTable, chosen: PlanOptions, tile: int
) -> tuple[float, ...]:
    """The overlaps to compare with a tile, in order of preference where two are the same."""
    if not isinstance(chosen.overlap, str):
        return chosen.overlap
    found = {0.0, USUAL}
    guaranteed = guaranteed_overlap(small, chosen.keep)
    if guaranteed <= tile // 2:
        found.add(float(guaranteed))
    least = least_overlap(survey, small, tile, chosen.keep, min(guaranteed, tile // 2))
    if least is not None:
        found.add(float(least))
    return tuple(sorted(found, key=lambda overlap: (overlap_px(overlap, tile), overlap)))


def least_overlap(
    survey: Survey, small: ObjectTable, tile: int, keep: float, most: int
) -> int | None:
    """The least overlap, of at most `most` px, with which `keep` percent of the objects are whole
    in a tile, as they lie; None if there is none.

    It is looked for one pixel after the other, since another overlap moves every tile.
    """
    may_be_cut = len(small.area) - required(keep, len(small.area))
    may_be_cut -= int((~small.labelled).sum())
    if may_be_cut < 0:
        return None
    rest = small.take(small.labelled)
    for overlap in range(most + 1):
        rest = rest.take(rest.longest > overlap)  # shorter ones are whole wherever they lie
        cut = ~whole(rest.boxes, survey.sizes[rest.image], tile, overlap)
        if int(cut.sum()) <= may_be_cut:
            return overlap
    return None


def whole(boxes: Floats, sizes: Ints, tile: int, overlap: int) -> Bools:
    """`(N,)` True for boxes that are whole in a tile of the grid of their image.

    Args:
        sizes: `(N, 2)` width and height of the image of each.
    """
    result = np.ones(len(boxes), bool)
    for axis in (0, 1):
        begin = box.top_left(boxes)[:, axis]
        end = box.bottom_right(boxes)[:, axis]
        for length in np.unique(sizes[:, axis]).tolist():
            here = np.flatnonzero(sizes[:, axis] == length)
            result[here] &= _within(begin[here], end[here], length, tile, overlap)
    return result


def _within(begin: Floats, end: Floats, length: int, tile: int, overlap: int) -> Bools:
    """`(N,)` True for intervals that are whole in a window of an axis.

    The last window that starts before an interval reaches farthest of those that do.
    """
    windows = np.array(spans(length, tile, overlap, "shift"))
    starts, sizes = windows.T
    last = np.searchsorted(starts, begin, side="right") - 1
    return np.asarray(end <= starts[last] + sizes[last])
