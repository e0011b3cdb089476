"""Detections of one image that compete, and what a method makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.geometry import ragged
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import alike, held, neighbours, room
from tiler.matching import crowds, groups, similarity, suppression
from tiler.matching.tiles import Tiles
from tiler.options import MergeOptions
from tiler.options.fields import shares

if TYPE_CHECKING:
    from tiler.matching.similarity import Metric
    from tiler.types import Floats, Ints

SHAPES, SHAPES_EACH = 10_000, 20  # pairs of shapes that are compared all, and for each shape more
ALL_SHAPES = 50_000  # likewise where all that overlap count, since their rows round otherwise
FEW, FEW_SHAPES = 512, 64  # detections of a crowd all of whose pairs are compared
DEFAULT_IOU = {"cvm": 0.3, "wbf": 0.55}  # of other methods 0.5

# What became of a detection
KEPT, FUSED, SUPPRESSED, ORPHAN, DUPLICATE, LOW_CONF, NOT_OWNED, OVER_MAX = range(8)
FATES = (
    "kept",
    "fused",
    "suppressed",
    "orphan",
    "duplicate",
    "low confidence",
    "another tile's",
    "over max-det",
)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a method makes of detections in canonical order.

    Attributes:
        leader: `(N,)` the detection that each is, is part of, or lost to; -1 where it is in none.
        fate: `(N,)` an index into `FATES`.
        instances: the merged ones, one for each leader, in the order of their leaders.
    """

    leader: Ints
    fate: Ints
    instances: Instances

    def leaders(self) -> Ints:
        """Those who lead, in order."""
        leads = np.zeros(len(self.leader), bool)
        leads[self.leader[self.leader >= 0]] = True
        return np.flatnonzero(leads)


class Competition:
    """Detections in canonical order, and which of them compete.

    Attributes:
        kind: `(N,)` detections of one kind compete: a class, or a group of classes.
        threshold: `(N,)` least overlap of those that do.
        mixed: classes compete.
    """

    def __init__(
        self,
        own: Instances,
        tile: Ints,
        tiles: Tiles,
        options: MergeOptions,
        names: Sequence[str] | None,
    ) -> None:
        self.own, self.tile, self.tiles, self.options = own, tile, tiles, options
        self.conf = own.confidence
        self.metric = cast("Metric", options.metric)
        usual = DEFAULT_IOU.get(options.method, 0.5)
        self.threshold = per_class(
            usual if options.iou is None else options.iou, usual, names, own.class_id, "iou"
        )
        self.kind = np.zeros_like(own.class_id) if options.class_agnostic else own.class_id.copy()
        for group in filter(None, options.groups.split(";")):
            ids = [class_of(name, names, "groups") for name in group.split(",")]
            self.kind[np.isin(own.class_id, ids)] = min(ids)
        self.mixed = options.class_agnostic or bool(options.groups)

    def pairs(
        self, least: bool = True, most: int | None = None
    ) -> tuple[Ints, Ints, Floats] | None:
        """Every two that compete and overlap (with `least`: enough): i < j, and by how much. None
        of a crowd: too many.

        Args:
            most: more are not worth it. Default: than memory holds.
        """
        n = len(self.own)
        if (
            self.own.rings is not None
            and held(self.met(), (SHAPES if least else ALL_SHAPES) + SHAPES_EACH * n) is None
        ):
            return None
        found = held(
            (self.overlaps(i, j, least) for i, j in self.met()),
            room(n) if most is None else min(most, room(n)),
        )
        if found is None:
            return None
        none = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        i, j, overlap = (np.concatenate(column) for column in zip(none, *found, strict=True))
        order = np.lexsort((j, i))
        return i[order], j[order], overlap[order]

    def met(self) -> Iterator[tuple[Ints, Ints]]:
        """Every two that compete and whose boxes meet, i < j."""
        yield from neighbours(self.own.boxes, self.kind)

    def overlaps(self, i: Ints, j: Ints, least: bool = True) -> tuple[Ints, Ints, Floats]:
        """Those of pairs that overlap (with `least`: enough), and by how much."""
        overlap = similarity.of_pairs(self.own, i, j, self.metric)
        # the stronger one's class decides
        good = overlap >= self.threshold[i] if least else overlap > 0
        return i[good], j[good], overlap[good]

    def suppressors(self) -> Ints:
        """`(N,)` who suppresses each in greedy NMS; itself if it is kept."""
        pairs = self.pairs()
        if pairs is not None:
            return suppression.suppressors(len(self.own), pairs[0], pairs[1])
        few = FEW if self.own.rings is None else FEW_SHAPES
        return crowds.suppressed(len(self.own), self._among, self._between, few)

    def components(self) -> Ints:
        """`(N,)` the lowest index that overlaps lead to."""
        pairs = self.pairs()
        if pairs is not None:
            return groups.components(len(self.own), pairs[0], pairs[1])
        return crowds.joined(self.own.boxes, self.kind, self._enough, step=self._step)

    def _among(self, some: Ints) -> Iterator[tuple[Ints, Ints]]:
        for i, j in neighbours(self.own.boxes[some], self.kind[some]):
            yield self._enough(some[i], some[j])

    def _between(self, strong: Ints, weak: Ints) -> Iterator[tuple[Ints, Ints]]:
        boxes, kind = self.own.boxes, self.kind
        for i, j in alike(boxes[strong], boxes[weak], kind[strong], kind[weak]):
            yield self._enough(strong[i], weak[j])

    @property
    def _step(self) -> int | None:
        """Of shapes few pairs at once, since to compare them is most of the work, and some save
        that of others.
        """
        return None if self.own.rings is None else FEW_SHAPES**2

    def _enough(self, i: Ints, j: Ints) -> tuple[Ints, Ints]:
        """Those of a crowd's pairs that overlap enough."""
        if self.own.rings is None:
            overlap = similarity.of_boxes(self.own.boxes[i], self.own.boxes[j], self.metric)
        else:
            some = self._shapes.may_reach(i, j, self.metric, self.threshold[i])
            i, j = i[some], j[some]
            overlap = self._shapes.overlap(i, j, self.metric)
        good = overlap >= self.threshold[i]
        return i[good], j[good]

    def rows(self) -> crowds.BoxOverlaps | crowds.ShapeOverlaps:
        """What each overlaps, row by row, of a crowd."""
        if self.own.rings is None:
            return crowds.BoxOverlaps(self.own.boxes, self.kind, self.metric)
        return crowds.ShapeOverlaps(self.own.rings, self.kind, self.metric)

    @cached_property
    def _shapes(self) -> crowds.Shapes:
        assert self.own.rings is not None
        return crowds.Shapes(self.own.rings)

    def result(self, leader: Ints, joined: int, **columns: Any) -> Result:
        """Leaders as they are, or with other columns (given for all N); `joined`: the fate of the
        others.
        """
        leads = leader == np.arange(len(leader))
        out = self.own.changed(**columns) if columns else self.own
        return Result(
            leader, np.where(leads, KEPT, np.where(leader < 0, NOT_OWNED, joined)), out.take(leads)
        )


def places(tiles: Tiles) -> Ints:
    """`(T,)` tiles numbered by where they are, so that their order counts for nothing."""
    order = np.lexsort(tiles.rects.T[::-1])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def per_class(
    value: float | str, default: float, names: Sequence[str] | None, class_id: Ints, option: str
) -> Floats:
    """`(N,)` the number that applies to each detection's class."""
    base, named = shares(value)
    result = np.full(len(class_id), default if base is None else base)
    for name, number in named.items():
        result[class_id == class_of(name, names, option)] = number
    return result


def require_classes(options: MergeOptions, names: Sequence[str] | None) -> None:
    """Raises:
    TilerError: an option names a class that is none.
    """
    for option in ("conf", "iou"):
        value = getattr(options, option)
        for name in {} if value is None else shares(value)[1]:
            class_of(name, names, option)
    for name in options.groups.replace(";", ",").split(",") if options.groups else []:
        class_of(name, names, "groups")


def class_of(name: str, names: Sequence[str] | None, option: str) -> int:
    """The class that an option names, or gives by its number."""
    if names is not None and name in names:
        return list(names).index(name)
    if name.isdecimal() and len(name) < 16 and (names is None or int(name) < len(names)):
        return int(name)
    hint = did_you_mean(name, names) if names is not None else "; class names are not known here"
    raise TilerError(f"--{option}: no class {name!r}{hint}")


def members_of(leader: Ints) -> tuple[Ints, Ints]:
    """Members of the groups one after the other, each in canonical order, and where groups start.
    -1: in none.
    """
    members = np.argsort(leader, kind="stable")
    members = members[leader[members] >= 0]
    return members, ragged.firsts(leader[members])
