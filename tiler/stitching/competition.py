"""The detections of one image that compete, and the result of a method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tiler.geometry import ragged
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import alike, held, neighbours, room
from tiler.matching import crowds, groups, similarity, suppression
from tiler.matching.tiles import TileRects
from tiler.options import MergeOptions
from tiler.options.classes import class_of
from tiler.options.values import thresholds

if TYPE_CHECKING:
    from tiler.matching.similarity import Metric
    from tiler.types import Floats, Ints

# Up to this number of pairs of shapes, and for each shape that number more, all are compared
SHAPES, SHAPES_EACH = 10_000, 20
ALL_SHAPES = 50_000  # likewise where all that overlap count, since row by row they round otherwise
FEW, FEW_SHAPES = 512, 64  # detections of a crowd all of whose pairs are compared
DEFAULT_IOU = {"cvm": 0.3, "wbf": 0.55}  # of other methods 0.5

# What became of a detection
KEPT, FUSED, SUPPRESSED, ORPHAN, DUPLICATE, LOW_CONF, NOT_OWNED, OVER_MAX, OUTSIDE = range(9)
FATES = (
    "kept",
    "fused",
    "suppressed",
    "orphan",
    "duplicate",
    "low confidence",
    "another tile's",
    "over max-det",
    "outside the roi",
)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The result of a method, for detections in canonical order.

    Attributes:
        leader: `(N,)` the detection that each one is, is part of, or lost to; -1 where there is
            none.
        fate: `(N,)` an index into `FATES`.
        instances: the merged detections, one for each leader, in the order of their leaders.
    """

    leader: Ints
    fate: Ints
    instances: Instances

    def leaders(self) -> Ints:
        """The detections that lead, ascending."""
        leads = np.zeros(len(self.leader), bool)
        leads[self.leader[self.leader >= 0]] = True
        return np.flatnonzero(leads)


class Competition:
    """Detections in canonical order, and which of them compete.

    Attributes:
        detections: the detections.
        tile: `(N,)` which of the tiles saw each.
        kind: `(N,)` detections of one kind compete: a class, or a group of classes.
        threshold: `(N,)` least overlap of those that do.
        mixed: detections of different classes compete.
    """

    def __init__(
        self,
        detections: Instances,
        tile: Ints,
        tiles: TileRects,
        options: MergeOptions,
        names: Sequence[str] | None,
    ) -> None:
        self.detections = detections
        self.tile, self.tiles = tile, tiles
        self.options = options
        self.conf = detections.confidence
        self.metric = cast("Metric", options.metric)
        self.threshold = _thresholds(options, names, detections.class_id)
        self.kind = kinds(options, names, detections.class_id)
        self.mixed = options.class_agnostic or bool(options.groups)

    def pairs(
        self, least: bool = True, most: int | None = None
    ) -> tuple[Ints, Ints, Floats] | None:
        """All pairs that compete and overlap: i < j, and by how much. None if there are too many,
        in a crowd.

        Args:
            least: only pairs whose overlap reaches the threshold.
            most: with more pairs than these, None. Default: as many as memory holds.
        """
        if self._has_too_many_shapes(least):
            return None
        limit = room(len(self.detections))
        if most is not None:
            limit = min(most, limit)
        overlaps = (self.overlaps(i, j, least) for i, j in self.close_pairs())
        portions = held(overlaps, limit)
        if portions is None:
            return None
        no_index = np.empty(0, np.int64)
        columns = zip((no_index, no_index, np.empty(0)), *portions, strict=True)
        i, j, overlap = map(np.concatenate, columns)
        order = np.lexsort((j, i))
        return i[order], j[order], overlap[order]

    def _has_too_many_shapes(self, least: bool) -> bool:
        """Whether too many outlines or OBBs are close to each other to compare them all."""
        if self.detections.rings is None:
            return False
        most = ALL_SHAPES
        if least:
            most = SHAPES
        most += SHAPES_EACH * len(self.detections)
        return held(self.close_pairs(), most) is None

    def close_pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """All pairs that compete and whose boxes meet, i < j, in portions."""
        yield from neighbours(self.detections.boxes, self.kind)

    def overlaps(self, i: Ints, j: Ints, least: bool = True) -> tuple[Ints, Ints, Floats]:
        """The pairs that overlap (with `least`: enough), and by how much."""
        overlap = similarity.of_pairs(self.detections, i, j, self.metric)
        if least:
            good = overlap >= self.threshold[i]  # the stronger one's class decides
        else:
            good = overlap > 0
        return i[good], j[good], overlap[good]

    def suppressors(self) -> Ints:
        """`(N,)` the suppressor of each in greedy NMS; itself if it is kept."""
        pairs = self.pairs()
        if pairs is not None:
            return suppression.suppressors(len(self.detections), pairs[0], pairs[1])
        few = FEW
        if self.detections.rings is not None:
            few = FEW_SHAPES
        return crowds.suppressed(len(self.detections), self._among, self._between, few)

    def components(self) -> Ints:
        """`(N,)` the lowest index that is connected to each by overlaps."""
        pairs = self.pairs()
        if pairs is not None:
            return groups.components(len(self.detections), pairs[0], pairs[1])
        step = None
        if self.detections.rings is not None:
            # comparing shapes is most of the work; pairs that others have joined are not compared
            step = FEW_SHAPES**2
        return crowds.joined(self.detections.boxes, self.kind, self._overlapping, step=step)

    def rows(self) -> crowds.BoxOverlaps | crowds.ShapeOverlaps:
        """What each detection of a crowd overlaps, row by row."""
        if self.detections.rings is None:
            return crowds.BoxOverlaps(self.detections.boxes, self.kind, self.metric)
        return crowds.ShapeOverlaps(self.detections.rings, self.kind, self.metric)

    def _among(self, index: Ints) -> Iterator[tuple[Ints, Ints]]:
        """The pairs of detections at an index that overlap enough."""
        for i, j in neighbours(self.detections.boxes[index], self.kind[index]):
            yield self._overlapping(index[i], index[j])

    def _between(self, strong: Ints, weak: Ints) -> Iterator[tuple[Ints, Ints]]:
        """The pairs of strong and weak detections that overlap enough."""
        boxes, kind = self.detections.boxes, self.kind
        for i, j in alike(boxes[strong], boxes[weak], kind[strong], kind[weak]):
            yield self._overlapping(strong[i], weak[j])

    def _overlapping(self, i: Ints, j: Ints) -> tuple[Ints, Ints]:
        """The pairs of a crowd that overlap enough."""
        if self.detections.rings is None:
            boxes = self.detections.boxes
            overlap = similarity.of_boxes(boxes[i], boxes[j], self.metric)
        else:
            may = self._shapes.may_reach(i, j, self.metric, self.threshold[i])
            i, j = i[may], j[may]
            overlap = self._shapes.overlap(i, j, self.metric)
        good = overlap >= self.threshold[i]
        return i[good], j[good]

    @cached_property
    def _shapes(self) -> crowds.Shapes:
        assert self.detections.rings is not None
        return crowds.Shapes(self.detections.rings)

    def result(self, leader: Ints, joined: int, **columns: Any) -> Result:
        """Leaders as they are, or with other columns (given for all N); `joined`: the fate of the
        others.
        """
        leads = leader == np.arange(len(leader))
        out = self.detections
        if columns:
            out = out.changed(**columns)
        fate = np.where(leader < 0, NOT_OWNED, joined)
        return Result(leader, np.where(leads, KEPT, fate), out.take(leads))


def _thresholds(options: MergeOptions, names: Sequence[str] | None, class_id: Ints) -> Floats:
    """`(N,)` least overlap, by the method and the classes."""
    usual = DEFAULT_IOU.get(options.method, 0.5)
    value = options.iou
    if value is None:
        value = usual
    return per_class(value, usual, names, class_id, "iou")


def kinds(options: MergeOptions, names: Sequence[str] | None, class_id: Ints) -> Ints:
    """`(N,)` what competes: classes, groups of classes named by their lowest, or all."""
    if options.class_agnostic:
        kind = np.zeros_like(class_id)
    else:
        kind = class_id.copy()
    for group in filter(None, options.groups.split(";")):
        classes = [class_of(name, names, "groups") for name in group.split(",")]
        kind[np.isin(class_id, classes)] = min(classes)
    return kind


def places(tiles: TileRects) -> Ints:
    """`(T,)` tiles numbered by where they are, so that their order counts for nothing."""
    order = np.lexsort(tiles.rects.T[::-1])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def per_class(
    value: float | str, default: float, names: Sequence[str] | None, class_id: Ints, option: str
) -> Floats:
    """`(N,)` the number that applies to each detection's class."""
    base, of_classes = thresholds(value)
    if base is None:
        base = default
    result = np.full(len(class_id), base)
    for name, number in of_classes.items():
        result[class_id == class_of(name, names, option)] = number
    return result


def require_classes(options: MergeOptions, names: Sequence[str] | None) -> None:
    """Check the classes that options name.

    Raises:
        TilerError: a class does not exist.
    """
    for option in ("conf", "iou"):
        value = getattr(options, option)
        if value is not None:
            _, of_classes = thresholds(value)
            _require(of_classes, names, option)
    if options.groups:
        _require(options.groups.replace(";", ",").split(","), names, "groups")


def _require(classes: Iterable[str], names: Sequence[str] | None, option: str) -> None:
    for name in classes:
        class_of(name, names, option)


def members_of(leader: Ints) -> tuple[Ints, Ints]:
    """The members of groups, one group after the other and each in canonical order, and where each
    group starts. A leader of -1: in no group.
    """
    members = np.argsort(leader, kind="stable")
    members = members[leader[members] >= 0]
    return members, ragged.firsts(leader[members])
