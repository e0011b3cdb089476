"""Which pairs of detections the Common-View Merge compares, and which of them match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tiler.geometry import boxes as box
from tiler.geometry.neighbours import neighbours
from tiler.matching import similarity
from tiler.matching.groups import PieceTest
from tiler.matching.tiles import OUTWARDS, TileDetections, TileRects, sizes
from tiler.matching.view_pairs import PIECE, THIN, WITHIN, compare

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

    # left, top, right and bottom: numbers of one box, or columns of boxes
    Sides = Floats | Sequence[float] | Sequence[Floats]

MOST_CELLS = 50_000_000  # of a table of detections and tiles


class ViewMatches(NamedTuple):
    """Pairs of detections that may be the same object. Columns are `(P,)`, as in `ViewPairs`."""

    i: Ints
    j: Ints
    agreement: Floats
    tiebreak: Floats
    evidence: Ints
    piece: Bools

    @classmethod
    def joined(cls, parts: Iterable[ViewMatches]) -> ViewMatches:
        """Matches of one or more portions, one after the other."""
        return cls._make(np.concatenate(columns) for columns in zip(*parts, strict=True))

    def take(self, index: Ints | Bools) -> ViewMatches:
        return ViewMatches._make(column[index] for column in self)


class ViewMatcher:
    """The detections of an image's tiles, and which pairs of them match in a common view.

    Attributes:
        kind: `(N,)` only detections of one kind are matched.
        threshold: `(N,)` least agreement in the common view.
        candidates: indices of the detections that another tile may see too.
        reach: px, the boxes of a pair are no further apart than this.
    """

    def __init__(self, detections: TileDetections, kind: Ints, threshold: Floats) -> None:
        self.detections, self.kind, self.threshold = detections, kind, threshold
        self.instances, self.snapped = detections.instances, detections.snapped
        self.tile, self.tiles = detections.tile, detections.tiles
        core = _cores(self.tiles)[self.tile]
        in_core = box.inside(self.snapped, core)
        self.candidates = np.flatnonzero(~in_core)
        self.reach = float(detections.edge[self.candidates].max(initial=0.0))

    def close_pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of candidates of one kind whose boxes meet, i < j, in portions."""
        boxes = self.snapped[self.candidates]
        kind = self.kind[self.candidates]
        for a, b in neighbours(boxes, kind, self.reach):
            yield self.candidates[a], self.candidates[b]

    def matches(self, i: Ints, j: Ints) -> ViewMatches:
        """The pairs that may be the same object."""
        i, j = self._of_two_tiles(i, j)
        pairs = compare(self.detections, i, j)
        agree = pairs.agreement >= self.least_agreement(pairs.i, pairs.j)
        evidence = np.where(agree, pairs.evidence, PIECE)
        compared = ViewMatches(
            pairs.i, pairs.j, pairs.agreement, pairs.tiebreak, evidence, pairs.piece
        )
        return compared.take(agree | pairs.piece)

    def matching_candidates(self, a: Ints, b: Ints) -> tuple[Ints, Ints]:
        """The pairs that `matches` finds; both they and the given ones are positions in
        `candidates`.
        """
        i, j = self.candidates[a], self.candidates[b]
        if self.deep is None or self.instances.rings is not None:
            i, j = self.matches(i, j)[:2]
        else:
            i, j = self._matching_boxes(i, j)
        return np.searchsorted(self.candidates, i), np.searchsorted(self.candidates, j)

    def _matching_boxes(self, i: Ints, j: Ints) -> tuple[Ints, Ints]:
        """Of pairs of boxes those that match; the ones deep in the view go the short way."""
        i, j = self._of_two_tiles(i, j)
        deep = self.deep_pairs(i, j)
        one, other = i[deep], j[deep]
        boxes = self.snapped[one]
        others = self.snapped[other]
        _, good = self.match_deep(boxes.T, others.T, one, other)
        rest = self.matches(i[~deep], j[~deep])
        i = np.concatenate([one[good], rest.i])
        j = np.concatenate([other[good], rest.j])
        return i, j

    def _of_two_tiles(self, i: Ints, j: Ints) -> tuple[Ints, Ints]:
        apart = self.tile[i] != self.tile[j]
        return i[apart], j[apart]

    def least_agreement(self, i: Ints | int, j: Ints | int) -> Floats:
        """The agreement that pairs need to match."""
        return np.minimum(self.threshold[i], self.threshold[j])

    def deep_pairs(self, i: Ints | int, j: Ints) -> Bools:
        """Which pairs lie deep in their common view."""
        if self.deep is None:
            return np.zeros(len(j), bool)
        one = self.deep[i, self.tile[j]]
        other = self.deep[j, self.tile[i]]
        return np.asarray(one & other)

    def match_deep(
        self, sides: Sides, others: Sides, i: Ints | int, j: Ints
    ) -> tuple[Floats, Bools]:
        """IoU of pairs of boxes that lie deep in their common view, and which of them match.

        Args:
            sides, others: of boxes i and of boxes j.
        """
        width = _overlap(sides[0], sides[2], others[0], others[2])
        height = _overlap(sides[1], sides[3], others[1], others[3])
        common = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        iou = similarity.share(common, self._area[i], self._area[j], "iou")
        meet = (width >= 0) & (height >= 0)
        return iou, meet & (iou >= self.least_agreement(i, j))

    @cached_property
    def _area(self) -> Floats:
        return box.area(self.snapped)

    @cached_property
    def deep(self) -> Bools | None:
        """`(N, T)` the boxes that lie deep in the common view of their tile and another: within its
        sides, where it is not thin. None for poses, and where the table would be too large.

        The parts of such boxes in the view are the whole boxes.
        """
        n, count = len(self.instances), len(self.tiles.rects)
        if self.instances.keypoints is not None or count * n > MOST_CELLS:
            return None
        result = np.zeros((n, count), bool)
        whole = np.flatnonzero(~self.detections.moved)
        boxes = self.snapped[whole]
        for other in np.unique(self.tile[self.candidates]).tolist():
            view = _thick_views(self.tiles, other)[self.tile[whole]]
            result[whole, other] = _within_sides(boxes, view)
        return result

    def piece_test(self) -> PieceTest | None:
        """Whether two detections of one tile can be pieces of one object: only outlines can."""
        if self.instances.task != "segment":
            return None
        return self._can_be_pieces

    def _can_be_pieces(self, one: int, other: int) -> bool:
        """Two outlines of one tile can be pieces of one object if both are cut and they do not
        overlap.
        """
        assert self.instances.rings is not None
        cut = self.detections.cut
        if not (cut[one].any() and cut[other].any()):
            return False
        shapes = self.instances.rings.take(np.array([one, other])).geometry()
        [overlap] = similarity.of_shapes(shapes[:1], shapes[1:], "ios")
        return bool(overlap < 1 - WITHIN)


def _overlap(start: Any, end: Any, other_start: Any, other_end: Any) -> Any:
    """How far intervals overlap; negative where they do not."""
    return np.minimum(other_end, end) - np.maximum(other_start, start)


def _within_sides(boxes: Floats, views: Floats) -> Bools:
    """`(N,)` whether each box lies in its view and off its sides."""
    x0, y0, x1, y1 = boxes.T
    left, top, right, bottom = views.T
    begins = (x0 > left) & (y0 > top)
    ends = (x1 < right) & (y1 < bottom)
    return np.asarray(begins & ends)


def _thick_views(tiles: TileRects, other: int) -> Floats:
    """`(T, 4)` the common views of all tiles with another one; nothing on an axis on which the view
    is thin.
    """
    view = box.intersection(tiles.rects, tiles.rects[other])
    edge = np.maximum(tiles.edge, tiles.edge[other])
    thick = sizes(view) > THIN * edge[:, None]
    return np.where(np.tile(thick, 2), view, 0.0)


def _cores(tiles: TileRects) -> Floats:
    """`(T, 4)` a part of each tile that no other tile sees. What lies in it has no partner."""
    windows, window = _distinct_windows(tiles.rects)
    cores = windows * OUTWARDS
    reach = float(tiles.edge.max(initial=0.0))
    for i, j in neighbours(windows, None, reach):
        for one, other in ((i, j), (j, i)):
            view = box.intersection(windows[one], windows[other])
            side, limit = _best_cuts(windows[one], view)
            np.minimum.at(cores, (one, side), limit - reach)
    return np.asarray(cores * OUTWARDS)[window]


def _distinct_windows(rects: Floats) -> tuple[Floats, Ints]:
    """The different windows of tiles, then those that occur again; and for each tile, its window.

    A window that many tiles have is there twice, which tells as much as all of them: no part of it
    belongs to one tile alone.
    """
    _, first, window = np.unique(rects, axis=0, return_index=True, return_inverse=True)
    window = window.reshape(-1)  # numpy 2.0 gives it another shape
    again = np.setdiff1d(np.arange(len(window)), first)
    _, second = np.unique(window[again], return_index=True)
    return rects[np.concatenate([first, again[second]])], window


def _best_cuts(rects: Floats, views: Floats) -> tuple[Ints, Floats]:
    """Of the four straight cuts that keep a view out of its rectangle, the one that leaves most:
    which side it moves, and to where (outwards positive).
    """
    opposite = [2, 3, 0, 1]
    length = np.tile(sizes(rects), 2)
    limit = views[:, opposite] * OUTWARDS
    start = (rects * OUTWARDS)[:, opposite]
    left_over = start / length + limit / length
    side = np.argmax(left_over, axis=1)
    return side, limit[np.arange(len(rects)), side]
