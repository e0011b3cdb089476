"""One image: detections of its tiles become detections of the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler import boxes as box
from tiler import fusing, polygons
from tiler.errors import TilerError, did_you_mean
from tiler.instances import Instances, concatenate, empty, foreign
from tiler.matching import common_view, similarity, suppression
from tiler.matching.common_view import Tiles
from tiler.matching.groups import components
from tiler.matching.order import canonical
from tiler.neighbours import meetings, neighbours
from tiler.options import MergeOptions, shares
from tiler.window import Window

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

DEFAULT_IOU = {"cvm": 0.3, "wbf": 0.55}  # of other methods 0.5
WITHIN = 0.9  # of an orphan lies in a tile that did not report it
DECAY = 0.5  # what becomes of its confidence

# What became of a detection
KEPT, FUSED, SUPPRESSED, ORPHAN, DUPLICATE, LOW_CONF, NOT_OWNED, OVER_MAX = range(8)
FATES = ("kept", "fused", "suppressed", "orphan", "duplicate", "low confidence", "another tile's", "over max-det")


@dataclass(frozen=True, slots=True, eq=False)
class Stitched:
    """Detections of the full image, and what became of those of its tiles.

    Attributes:
        instances: in source pixels, by falling confidence (ties by coordinates).
        fate: `(N,)` int64 for each detection given, an index into `FATES`.
        into: `(N,)` int64 which merged detection it is, is part of, or lost to; -1 for none.
        tile: `(N,)` int64 the part it was given in.
        cut: `(N,)` bool, its tile cut it.
    """

    instances: Instances
    fate: Ints
    into: Ints
    tile: Ints
    cut: Bools


@dataclass(frozen=True, slots=True, eq=False)
class _Merged:
    """What a method makes of detections in canonical order.

    Attributes:
        leader: `(N,)` the detection that each is, is part of, or lost to; -1 where it is in none.
        fate: `(N,)` an index into `FATES`.
        instances: the merged ones, one for each leader, in the order of their leaders.
    """

    leader: Ints
    fate: Ints
    instances: Instances


def stitch(
    parts: Sequence[tuple[Window, Any]],
    size: tuple[int, int],
    names: Sequence[str] | None = None,
    **options: Any,
) -> Stitched:
    """Merge the detections of one image's tiles.

    Args:
        parts: each tile's window in the image, and its detections in pixels of the window:
            `Instances` with a `conf`, or anything with `.xyxy`, `.confidence` and `.class_id`.
            The full image is one more tile, if it was looked at as well.
        size: width and height of the image, px.
        names: of classes, for options that name them.
        options: any of `MergeOptions` (method, iou, metric, conf, groups, ...).

    Raises:
        TilerError: detections without a confidence, or of several tasks; an unknown option or class.

    >>> def seen(*boxes): return Instances(np.zeros(len(boxes), int), np.array(boxes, float), conf=np.full(len(boxes), 0.5))
    >>> parts = [(Window(0, 0, 640, 640), seen([300, 100, 640, 200])), (Window(512, 0, 640, 640), seen([0, 100, 388, 200]))]
    >>> stitch(parts, (1152, 640)).instances.boxes.tolist()
    [[300.0, 100.0, 900.0, 200.0]]
    """
    chosen = MergeOptions.of(options)
    given = [foreign(detections).moved(window.x, window.y) for window, detections in parts]
    if any(detections.conf is None for detections in given):
        raise TilerError("detections need a confidence (conf)")
    if len({detections.task for detections in given}) > 1:
        raise TilerError(f"detections of one task are needed, got {sorted({detections.task for detections in given})}")
    instances = concatenate(given) if given else replace(empty(), conf=np.empty(0))
    tile = np.repeat(np.arange(len(given)), [len(detections) for detections in given])
    rects = np.array([window.bounds for window, _ in parts]).reshape(-1, 4)
    return merged(instances, tile, Tiles.of(rects, size), chosen, names)


def merged(instances: Instances, tile: Ints, tiles: Tiles, options: MergeOptions, names: Sequence[str] | None = None) -> Stitched:
    """Merge detections that are in source pixels already. `tile`: `(N,)` which of the tiles saw each."""
    n = len(instances)
    conf = _conf(instances)
    order = canonical(conf, instances.boxes, instances.class_id, _places(tiles)[tile])
    fate = np.full(n, LOW_CONF)
    bar = _per_class(options.conf, names, instances.class_id)
    order = order[conf[order] >= bar[order]]
    again = _repeated(instances, tile, order)
    fate[order[again]] = DUPLICATE
    firsts = _first_of(order, again)
    competing = order[~again]
    own = instances.take(competing)
    result = _METHODS[options.method](_Contest(own, tile[competing], tiles, options, names))
    fate[competing] = result.fate
    into = np.full(n, -1)
    into[competing] = result.leader
    out, place = _ranked(result, options)
    gone = (into >= 0) & (place[into] < 0)
    fate[gone & (fate != DUPLICATE)] = OVER_MAX
    into = np.where(into >= 0, place[into], -1)
    into[order[again]] = into[firsts]
    return Stitched(out, fate, into, tile, common_view.cut_sides(instances.boxes, tile, tiles).any(axis=1))


def _conf(instances: Instances) -> Floats:
    assert instances.conf is not None
    return instances.conf


def _places(tiles: Tiles) -> Ints:
    """`(T,)` tiles numbered by where they are, so that their order counts for nothing."""
    order = np.lexsort(tiles.rects.T[::-1])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place


def _repeated(instances: Instances, tile: Ints, order: Ints) -> Bools:
    """`(M,)` for detections in canonical order: those equal to the one before in everything."""
    conf = _conf(instances)
    again = np.zeros(len(order), bool)
    again[1:] = (tile[order][1:] == tile[order][:-1]) & (instances.class_id[order][1:] == instances.class_id[order][:-1])
    again[1:] &= (conf[order][1:] == conf[order][:-1]) & (instances.boxes[order][1:] == instances.boxes[order][:-1]).all(axis=1)
    for k in np.flatnonzero(again) if instances.rings is not None or instances.keypoints is not None else ():
        again[k] = _same_shape(instances, int(order[k]), int(order[k - 1]))
    return again


def _same_shape(instances: Instances, one: int, other: int) -> bool:
    if instances.keypoints is not None:
        return np.array_equal(instances.keypoints[one], instances.keypoints[other])
    assert instances.rings is not None
    rings, others = instances.rings[one], instances.rings[other]
    return len(rings) == len(others) and all(np.array_equal(a, b) for a, b in zip(rings, others, strict=True))


def _first_of(order: Ints, again: Bools) -> Ints:
    """For each repeated detection the one that it repeats."""
    position = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
    return order[position[again]]


def _per_class(value: float | str, names: Sequence[str] | None, class_id: Ints) -> Floats:
    """`(N,)` the number that applies to each detection's class."""
    base, named = shares(value)
    result = np.full(len(class_id), base)
    for name, number in named.items():
        result[class_id == _class_of(name, names)] = number
    return result


def _class_of(name: str, names: Sequence[str] | None) -> int:
    if names is not None and name in names:
        return list(names).index(name)
    if name.isdecimal() and (names is None or int(name) < len(names)):
        return int(name)
    raise TilerError(f"no class {name!r}" + (did_you_mean(name, names) if names is not None else "; class names are not known here"))


def _ranked(result: _Merged, options: MergeOptions) -> tuple[Instances, Ints]:
    """The merged detections in canonical order, and for each leader its place among them, -1 for none."""
    out = result.instances
    leaders = np.unique(result.leader[result.leader >= 0])
    order = canonical(_conf(out), out.boxes, out.class_id, np.arange(len(out)))
    if options.max_det:
        order = order[: options.max_det]
    place = np.full(len(result.leader) + 1, -1)
    place[leaders[order]] = np.arange(len(order))
    return replace(out.take(order), row=np.arange(len(order))), place


class _Contest:
    """Detections in canonical order, and which of them compete.

    Attributes:
        kind: `(N,)` detections of one kind compete: a class, or a group of classes.
        threshold: `(N,)` least overlap of those that do.
        mixed: classes compete.
    """

    def __init__(self, own: Instances, tile: Ints, tiles: Tiles, options: MergeOptions, names: Sequence[str] | None) -> None:
        self.own, self.tile, self.tiles, self.options = own, tile, tiles, options
        self.conf = _conf(own)
        value = DEFAULT_IOU.get(options.method, 0.5) if options.iou is None else options.iou
        self.threshold = _per_class(value, names, own.class_id)
        self.kind = np.zeros_like(own.class_id) if options.class_agnostic else own.class_id.copy()
        for group in filter(None, options.groups.split(";")):
            ids = [_class_of(name, names) for name in group.split(",")]
            self.kind[np.isin(own.class_id, ids)] = min(ids)
        self.mixed = options.class_agnostic or bool(options.groups)

    def pairs(self, least: bool = True) -> tuple[Ints, Ints, Floats]:
        """Every two that compete and overlap (with `least`: enough): i < j, and by how much."""
        _, kinds = np.unique(self.kind, return_inverse=True)
        found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        for i, j in neighbours(self.own.boxes, kinds):
            alike = similarity.of_pairs(self.own, i, j, self.options.metric)  # type: ignore[arg-type]
            # the stronger one's class decides
            good = alike >= self.threshold[i] if least else alike > 0
            found.append((i[good], j[good], alike[good]))
        i, j, alike = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.lexsort((j, i))
        return i[order], j[order], alike[order]

    def result(self, leader: Ints, joined: int, **columns: Any) -> _Merged:
        """Leaders as they are, or with other columns (given for all N); `joined`: the fate of the others."""
        leads = leader == np.arange(len(leader))
        out = replace(self.own, **columns) if columns else self.own
        return _Merged(leader, np.where(leads, KEPT, np.where(leader < 0, NOT_OWNED, joined)), out.take(leads))


def _none(contest: _Contest) -> _Merged:
    return contest.result(np.arange(len(contest.own)), KEPT)


def _nms(contest: _Contest) -> _Merged:
    i, j, _ = contest.pairs()
    return contest.result(suppression.suppressors(len(contest.own), i, j), SUPPRESSED)


def _greedy_nmm(contest: _Contest) -> _Merged:
    i, j, _ = contest.pairs()
    leader = suppression.suppressors(len(contest.own), i, j)
    grown = suppression.grown(contest.own.boxes, leader, contest.options.metric, contest.threshold)
    return _united(contest, leader, grown)


def _nmm(contest: _Contest) -> _Merged:
    i, j, _ = contest.pairs()
    leader = components(len(contest.own), i, j)
    members, starts = _members(leader)
    boxes = contest.own.boxes.copy()
    boxes[leader[members[starts]]] = np.concatenate(
        [
            np.minimum.reduceat(boxes[members, :2], starts, axis=0),
            np.maximum.reduceat(boxes[members, 2:], starts, axis=0),
        ],
        axis=1,
    ) if len(starts) else np.empty((0, 4))
    return _united(contest, leader, boxes)


def _wbf(contest: _Contest) -> _Merged:
    i, j, _ = contest.pairs(least=False)
    leader, boxes, conf = suppression.wbf(contest.own.boxes, contest.conf, i, j, contest.threshold)
    return _united(contest, leader, boxes, conf=conf)


def _united(contest: _Contest, leader: Ints, boxes: Floats, **columns: Any) -> _Merged:
    """Members joined into their leader, whose box is given; outlines are united, OBBs and keypoints the leader's."""
    own = contest.own
    if own.task != "segment":
        return contest.result(leader, FUSED, boxes=own.boxes if own.task == "obb" else boxes, **columns)
    merged = contest.result(leader, FUSED, **columns)
    members, starts = _members(leader)
    rings = fusing.outlines(own.take(members).rings, starts, contest.tile[members], contest.tiles)  # type: ignore[arg-type]
    return replace(merged, instances=replace(merged.instances, rings=rings, boxes=rings.bounds()))


def _soft_nms(contest: _Contest) -> _Merged:
    i, j, alike = contest.pairs(least=False)
    return contest.result(np.arange(len(contest.own)), KEPT, conf=suppression.soft_nms(contest.conf, i, j, alike))


def _center(contest: _Contest) -> _Merged:
    """A detection counts if its centre lies deeper in its own tile than in any other that holds it."""
    centre = (contest.own.boxes[:, :2] + contest.own.boxes[:, 2:]) / 2
    points = np.concatenate([centre, centre], axis=1)
    own = _depth(points, contest.tile, contest.tiles)
    place = _places(contest.tiles)
    owned = np.ones(len(points), bool)
    for i, t in meetings(points, contest.tiles.rects, reach=1e-9):
        depth = _depth(points[i], t, contest.tiles)
        deeper = (depth > own[i]) | ((depth == own[i]) & (place[t] < place[contest.tile[i]]))
        owned[i[deeper & (t != contest.tile[i])]] = False
    return contest.result(np.where(owned, np.arange(len(points)), -1), KEPT)


def _depth(points: Floats, tile: Ints, tiles: Tiles) -> Floats:
    """`(N,)` distance to the nearest interior side of the tile, px; inf where it has none."""
    rects = tiles.rects[tile]
    inwards = np.concatenate([points[:, :2] - rects[:, :2], rects[:, 2:] - points[:, 2:]], axis=1)
    return np.asarray(np.where(tiles.interior[tile], inwards, np.inf).min(axis=1, initial=np.inf))


def _cvm(contest: _Contest) -> _Merged:
    own, tile, tiles, n = contest.own, contest.tile, contest.tiles, len(contest.own)
    cut = common_view.cut_sides(own.boxes, tile, tiles)
    leader = common_view.groups(own, tile, tiles, contest.kind, contest.threshold)
    alone = np.bincount(leader, minlength=n)[leader] == 1
    members, starts = _members(np.where(alone, -1, leader))
    fused, unseen = _fused(contest, members, starts)
    heads = members[starts]
    out, open_ = own.put(heads, fused), cut.copy()
    open_[heads] = unseen
    leader = _absorbed(out.boxes, open_, contest, leader)
    alone &= leader == np.arange(n)
    orphan = np.zeros(n, bool)
    if contest.options.orphans != "keep":
        orphan = _orphans(own, tile, tiles, alone & cut.any(axis=1))
    fate = np.where(orphan, ORPHAN, np.where(leader == np.arange(n), KEPT, FUSED))
    out = replace(out, conf=np.where(orphan, DECAY, 1.0) * _conf(out))
    leader = np.where(orphan & (contest.options.orphans == "drop"), -1, leader)
    return _Merged(leader, fate, out.take(leader == np.arange(n)))


def _absorbed(boxes: Floats, unseen: Bools, contest: _Contest, leader: Ints) -> Ints:
    """Leaders, where fragments that no view could match belong to the object that they lie in.

    A fragment is a sliver at the edge of its tile, or what fills its tile from side to side:
    nobody saw it end. Nor is a group an object of which nobody saw any side. They go to the
    smallest detection that holds them, if there is one.

    Args:
        boxes, unseen: of the merged detections, right at their leaders.
    """
    leads = np.flatnonzero(leader == np.arange(len(leader)))
    sides = boxes[:, 2:] - boxes[:, :2]
    sliver = (sides < common_view.THIN * contest.tiles.edge[contest.tile][:, None]) & (unseen[:, :2] | unseen[:, 2:])
    spanning = unseen[:, :2] & unseen[:, 2:]
    dark = unseen.all(axis=1)
    loose = np.union1d(leads[(sliver | spanning)[leads].any(axis=1)], np.flatnonzero(dark[leader]))
    shown = np.where(dark[leader, None], contest.own.boxes, boxes)[loose]
    holders = leads[~dark[leads]]
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for i, j in meetings(shown, boxes[holders]):
        i, j, part = loose[i], holders[j], shown[i]
        holds = box.area(box.intersection(part, boxes[j])) >= WITHIN * box.area(part)
        holds &= (contest.kind[i] == contest.kind[j]) & (box.area(boxes[j]) > box.area(part))
        found.append((i[holds], j[holds]))
    i, j = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((j, box.area(boxes[j]), i))
    i, first = np.unique(i[order], return_index=True)
    to = np.arange(len(leader))
    to[i] = j[order][first]
    while not np.array_equal(to, to[to]):  # a fragment in a fragment in an object
        to = to[to]
    return np.where(to != np.arange(len(to)), to, to[leader])


def _fused(contest: _Contest, members: Ints, starts: Ints) -> tuple[Instances, Bools]:
    """One detection for each group of members, and `(G, 4)` the sides that nobody saw."""
    own, tile, tiles = contest.own.take(members), contest.tile[members], contest.tiles
    if not len(starts):
        return own, np.zeros((0, 4), bool)
    out, conf = own.take(starts), _conf(own)  # members are in canonical order: the first is the most confident
    boxes, seen = fusing.sides(own.boxes, conf, tile, tiles, starts)
    columns: dict[str, Any] = {"boxes": boxes}
    if own.task == "obb" and own.rings is not None:
        columns["rings"] = polygons.Rings.from_quads(fusing.quads(own.rings.quads(), conf, tile, tiles, starts))
        columns["boxes"] = columns["rings"].bounds()
    elif own.rings is not None:
        columns["rings"] = fusing.outlines(own.rings, starts, tile, tiles)
        columns["boxes"] = columns["rings"].bounds()
    if own.keypoints is not None:
        columns["keypoints"] = fusing.keypoints(own.keypoints, conf, tile, tiles, starts)
    if contest.mixed:
        columns["class_id"] = fusing.classes(own.class_id, conf, starts)
    return replace(out, **columns), ~seen


def _members(leader: Ints) -> tuple[Ints, Ints]:
    """Members of the groups one after the other, each in canonical order, and where groups start. -1: in none."""
    members = np.argsort(leader, kind="stable")
    members = members[leader[members] >= 0]
    return members, np.flatnonzero(np.diff(leader[members], prepend=-1))


def _orphans(own: Instances, tile: Ints, tiles: Tiles, lone: Bools) -> Bools:
    """`(N,)` those of the lone cut detections that another tile shows nearly whole, and did not report."""
    lone = np.flatnonzero(lone)
    result = np.zeros(len(own), bool)
    for i, t in meetings(own.boxes[lone], tiles.rects):
        k = lone[i]
        shown = box.area(box.intersection(own.boxes[k], tiles.rects[t])) >= WITHIN * box.area(own.boxes[k])
        result[k[shown & (t != tile[k])]] = True
    return result


_METHODS: dict[str, Callable[[_Contest], _Merged]] = {
    "cvm": _cvm,
    "nms": _nms,
    "nmm": _nmm,
    "greedy-nmm": _greedy_nmm,
    "wbf": _wbf,
    "soft-nms": _soft_nms,
    "center": _center,
    "none": _none,
}
