"""Ensembles: within a tile, the detections of several models become those of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import SourceRefused
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import held, neighbours, room
from tiler.matching import similarity, suppression
from tiler.matching.order import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiler.types import Bools, Floats, Ints

IOU = {"wbf": 0.55, "nms": 0.5, "soft-nms": 0.0}  # least IoU of two models' detections


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """The models of an ensemble, and the T tiles with predictions: one for each model and window.

    Attributes:
        weight: `(M,)` of each model.
        model: `(T,)` that the tile's predictions are from.
        seen: `(T,)` the weight of all models that looked at the tile's window.
        window: `(T,)` the number of its window.
    """

    weight: Floats
    model: Ints
    seen: Floats
    window: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Agreed:
    """The detections of an ensemble in its windows.

    Attributes:
        instances: K detections.
        window: `(K,)` of each.
        into: `(N,)` for each detection given, the one that it is, is part of, or lost to.
        leads: `(N,)` bool, whether that one is made from it first of all.
    """

    instances: Instances
    window: Ints
    into: Ints
    leads: Bools


def agreed(instances: Instances, tile: Ints, kind: Ints, models: Models, method: str) -> Agreed:
    """What the models detected in each window, as one.

    By Weighted Boxes Fusion a detection's confidence is the sum of its members', each times the
    weight of its model, over the weight of all models that looked. A cluster has one member of
    each model at most, since a model tells its own detections of a tile apart. NMS and soft-NMS
    compare confidences times weights, of which the largest counts as 1.

    Args:
        tile: `(N,)` of each detection.
        kind: `(N,)` detections of one kind may be the same object.

    Raises:
        SourceRefused: too many detections on one spot.

    Source: Solovyev et al., "Weighted boxes fusion", 2021.
    """
    model = models.model[tile]
    votes = instances.confidence * models.weight[model]
    order = canonical(votes, instances.boxes, instances.class_id, model)
    ranked = instances.take(order)
    own = model[order]
    window = models.window[tile[order]]
    least = IOU[method]
    if method == "wbf" and ranked.rings is None:
        least = 0.0  # a box is compared with the mean of a cluster
    i, j, iou = _pairs(ranked, _groups(kind[order], window), own, least)
    if method == "wbf":
        leader, boxes = _clusters(ranked, votes[order], own, i, j, iou)
        total = np.bincount(leader, votes[order], minlength=len(order))
        conf = np.minimum(total / models.seen[tile[order]], 1.0)
        ranked = ranked.changed(conf=conf)
        if ranked.rings is None:
            ranked = ranked.changed(boxes=boxes)
    else:
        conf = votes[order] / models.weight.max()
        leader = np.arange(len(order))
        if method == "nms":
            leader = suppression.suppressors(len(order), i, j)
        else:
            conf = suppression.soft_nms(conf, i, j, iou)
        ranked = ranked.changed(conf=conf)
    return _agreed(ranked, window, leader, order)


def _agreed(ranked: Instances, window: Ints, leader: Ints, order: Ints) -> Agreed:
    """The leaders, and where the detections, in the order given at first, went."""
    leads = leader == np.arange(len(leader))
    place = np.cumsum(leads) - 1
    into = np.empty(len(order), np.int64)
    into[order] = place[leader]
    first = np.empty(len(order), bool)
    first[order] = leads
    return Agreed(ranked.take(leads), window[leads], into, first)


def _groups(kind: Ints, window: Ints) -> Ints:
    """`(N,)` numbers of the pairs of kind and window."""
    both = np.stack([kind, window], axis=1)
    return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)


def _pairs(ranked: Instances, group: Ints, model: Ints, least: float) -> tuple[Ints, Ints, Floats]:
    """Pairs of two models' detections i < j of one group that overlap enough, ordered by i, and
    their IoU.
    """
    portions = held(_overlapping(ranked, group, model, least), room(len(ranked)))
    if portions is None:
        raise SourceRefused("D01", "too many detections on one spot for an ensemble")
    no_index = np.empty(0, np.int64)
    columns = zip((no_index, no_index, np.empty(0)), *portions, strict=True)
    i, j, iou = map(np.concatenate, columns)
    order = np.lexsort((j, i))
    return i[order], j[order], iou[order]


def _overlapping(
    ranked: Instances, group: Ints, model: Ints, least: float
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """The same, in portions."""
    for i, j in neighbours(ranked.boxes, group):
        others = model[i] != model[j]
        i, j = i[others], j[others]
        iou = similarity.of_pairs(ranked, i, j, "iou")
        good = (iou >= least) & (iou > 0)
        yield i[good], j[good], iou[good]


def _clusters(
    ranked: Instances, votes: Floats, model: Ints, i: Ints, j: Ints, iou: Floats
) -> tuple[Ints, Floats]:
    """The first member of each one's cluster, and the mean boxes at these. Outlines and OBBs have
    no mean: they cluster around the first.
    """
    if ranked.rings is None:
        least = np.full(len(ranked), IOU["wbf"])
        leader, boxes, _ = suppression.wbf(ranked.boxes, votes, i, j, least, model)
        return leader, boxes
    return suppression.one_of_each(len(ranked), i, j, iou, model), ranked.boxes
