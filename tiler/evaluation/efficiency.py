"""How well merging chooses among the predictions on tiles: where it lies between keeping all of
them and the best choice possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation import coco
from tiler.evaluation.candidates import candidates
from tiler.evaluation.diagnosis import SHOWN, WELL, curves, unmerged
from tiler.evaluation.inputs import EvaluationInputs, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.evaluation.seams import visibility
from tiler.geometry import boxes as box
from tiler.geometry import neighbours, ragged
from tiler.geometry.columns import Columns
from tiler.matching import similarity

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

NAN = float("nan")
EXACT = 1e-9  # of recall, for the rounding of sums of weights


@dataclass(frozen=True, slots=True)
class Precision:
    """Average precision over the thresholds .5 to .95, and at .5, of all sizes and all detections;
    NaN if unknown.
    """

    ap: float = NAN
    ap50: float = NAN


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The AP of predictions on tiles, before and after merging.

    Attributes:
        tile: on each tile, against the labels as it shows them: what a trainer's validation on
            tiles measures.
        tile_u: the same, but each object counts once in total: where n tiles show an object, or the
            place of a false positive, each of them weighs 1/n.
        nomerge: all predictions together on the full images, an object as often as it was found.
        merged: the sample.
        ideal: of the predictions on a label only the one that fits best, which no merging can know.
            Merging that joins parts or averages boxes may still do better.
    """

    tile: Precision
    tile_u: Precision
    nomerge: Precision
    merged: Precision
    ideal: Precision

    @property
    def merge(self) -> float:
        """The share of the possible gain that was gained; NaN where there was nothing to gain.

        >>> nothing = Precision()
        >>> Efficiency(nothing, nothing, Precision(0.5), Precision(0.875), Precision(1.0)).merge
        0.75
        """
        return _part(self.nomerge.ap, self.merged.ap, self.ideal.ap)

    @property
    def merge50(self) -> float:
        """The same at an IoU of .5."""
        return _part(self.nomerge.ap50, self.merged.ap50, self.ideal.ap50)

    def plain(self) -> dict[str, Any]:
        """All numbers by name."""
        return {**asdict(self), "merge": self.merge, "merge50": self.merge50}


def _part(nomerge: float, merged: float, ideal: float) -> float:
    if not ideal > nomerge:
        return NAN
    return (merged - nomerge) / (ideal - nomerge)


def efficiency(
    sample: EvaluationInputs,
    origins: Origins,
    layout: TileLayout,
    per_tile: EvaluationInputs | None = None,
) -> Efficiency:
    """Measure each stage.

    Args:
        sample: merged detections on full images.
        origins: with the predictions on tiles; without these only `merged` is known, and `tile`
            and `tile_u` if `per_tile` is given.
        per_tile: the labels and predictions of each tile, px of the full image; image t is tile t
            of the layout.

    >>> from tiler.evaluation.inputs import GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> tiles = np.array([[0, 0, 64, 64], [32, 0, 96, 64.0]])
    >>> layout = TileLayout.of([tiles], [np.ones(2)], np.array([[96, 64.0]]))
    >>> boxes, zero = np.array([[40, 0, 48, 8], [80, 0, 90, 8.0]]), np.zeros(2, int)
    >>> raw = Instances(np.zeros(3, int), boxes[[0, 0, 1]], conf=np.array([0.9, 0.8, 0.7]))
    >>> labels = GroundTruth(Instances(zero, boxes), zero)
    >>> merged = Predicted.of(raw.take(np.array([0, 2])), zero)
    >>> sample = EvaluationInputs(labels, merged, images=1, classes=1)
    >>> origins = Origins(np.array([0, 1, 1]), np.array([0, 2, 3]), raw, np.array([0, 1, 1]))
    >>> result = efficiency(sample, origins, layout)
    >>> round(result.nomerge.ap, 3), round(result.ideal.ap, 3), result.merge
    (0.835, 1.0, 1.0)
    """
    raw = unmerged(sample, origins, layout)
    nomerge = ideal = tile = tile_u = Precision()
    if raw is not None:
        nomerge = _measured(raw)
        ideal = _measured(_best_choice(raw))
    if per_tile is not None:
        labels = 1 / _tiles_of_labels(sample, layout, per_tile)
        detections = 1 / _tiles_of_detections(layout, per_tile)
        tile = _measured(per_tile)
        tile_u = weighted(per_tile, labels, detections)
    return Efficiency(tile, tile_u, nomerge, _measured(sample), ideal)


def _measured(sample: EvaluationInputs) -> Precision:
    result = curves(sample, candidates(sample))
    return Precision(result.ap(), result.ap(iou=0.5))


def _best_choice(raw: EvaluationInputs) -> EvaluationInputs:
    """Of the predictions on a label only the one of the highest IoU; of equals the most confident
    one.
    """
    pairs = candidates(raw, WELL)
    pairs = pairs.take(~raw.labels.crowd[pairs.label])
    conf = raw.detections.conf[pairs.detection]
    order = np.lexsort((pairs.detection, -conf, -pairs.iou, pairs.label))
    best = order[ragged.firsts(pairs.label[order])]
    keep = np.ones(len(raw.detections), bool)
    keep[pairs.detection] = False
    keep[pairs.detection[best]] = True
    chosen = Columns.take(raw.detections, keep)
    detections = Predicted.of(chosen.instances, chosen.image, chosen.box_area, chosen.masks)
    return replace(raw, detections=detections)


def _tiles_of_detections(layout: TileLayout, per_tile: EvaluationInputs) -> Ints:
    """`(D,)` the number of tiles that show the place of each detection on tiles, at least 1."""
    detections = per_tile.detections
    image = layout.image()[detections.image]
    shown = visibility(detections.boxes, image, layout, SHOWN)
    return np.maximum(shown.tiles, 1)


def _tiles_of_labels(
    sample: EvaluationInputs, layout: TileLayout, per_tile: EvaluationInputs
) -> Ints:
    """`(G,)` the number of tiles that show the whole object of each label on tiles, at least 1.

    The whole object is the label of the full image whose part in the tile is most like it. Where
    none is, the number is of the label as the tile shows it.
    """
    labels = per_tile.labels
    full = sample.labels
    image = layout.image()[labels.image]
    tiles = visibility(labels.boxes, image, layout, SHOWN).tiles
    tiles_of_whole = visibility(full.boxes, full.image, layout, SHOWN).tiles
    highest = np.full(len(labels), WELL)
    for whole, label, iou in _parts(sample, layout, per_tile):
        order = np.lexsort((-iou, label))
        best = order[ragged.firsts(label[order])]
        best = best[iou[best] > highest[label[best]]]
        highest[label[best]] = iou[best]
        tiles[label[best]] = tiles_of_whole[whole[best]]
    return np.maximum(tiles, 1)


def _parts(
    sample: EvaluationInputs, layout: TileLayout, per_tile: EvaluationInputs
) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Labels of the full images, labels on tiles that may be a part of them, and the IoU of these
    with that part.
    """
    labels = per_tile.labels
    full = sample.labels
    group = labels.image * sample.classes + labels.class_id
    for whole, tile in neighbours.alike(full.boxes, layout.rects, full.image, layout.image()):
        rects = layout.rects[tile]
        parts = box.intersection(full.boxes[whole], rects)
        part_group = tile * sample.classes + full.class_id[whole]
        for label, part in neighbours.alike(labels.boxes, parts, group, part_group, WELL):
            iou = similarity.of_boxes(labels.boxes[label], parts[part])
            yield whole[part], label, iou


def weighted(sample: EvaluationInputs, labels: Floats, detections: Floats) -> Precision:
    """AP where labels and detections have weights. With weights of 1 it is COCO's.

    Recall is the weight of the labels found over that of all. In precision, a true positive counts
    as much as its label, a false one as much as itself.

    Args:
        labels: `(G,)` weights above 0.
        detections: `(D,)` weights.

    >>> from tiler.evaluation.inputs import GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> two = np.array([[0, 0, 8, 8], [20, 0, 28, 8.0]])
    >>> labels = GroundTruth(Instances(np.zeros(2, int), two), np.zeros(2, int))
    >>> one = Instances(np.zeros(1, int), two[:1], conf=np.ones(1))
    >>> sample = EvaluationInputs(labels, Predicted.of(one, np.zeros(1, int)), 1, 1)
    >>> round(weighted(sample, np.array([3.0, 1.0]), np.ones(1)).ap, 4)  # 76 of 101 recalls
    0.7525
    """
    pairs = candidates(sample)
    counted = ~sample.labels.ignored
    value = np.where(counted, labels, 0.0)
    total: Any = np.bincount(sample.labels.class_id, value, sample.classes)
    classes = np.flatnonzero(sample.positives(counted))
    if not len(classes):
        return Precision()
    ap = np.zeros((len(coco.THRESHOLDS), len(classes)))
    for t, chosen in enumerate(coco.matches(sample, pairs, ~counted, coco.THRESHOLDS)):
        detection = pairs.detection[chosen]
        true = np.zeros(len(detections))
        true[detection] = value[pairs.label[chosen]]
        false = detections.astype(np.float64)
        false[detection] = 0.0
        ap[t] = _averages(sample, classes, true, false, total)
    return Precision(float(ap.mean()), float(ap[0].mean()))


def _averages(
    sample: EvaluationInputs, classes: Ints, true: Floats, false: Floats, total: Floats
) -> list[float]:
    """AP of some classes.

    Args:
        true, false: `(D,)` what detections weigh as true and as false positives.
        total: `(K,)` what the labels of each class weigh.
    """
    begin = sample.class_bounds()
    result = []
    for k in classes:
        of_class = slice(begin[k], begin[k + 1])
        average = _average(true[of_class], false[of_class], total[k])
        result.append(average)
    return result


def _average(true: Floats, false: Floats, labels: float) -> float:
    """AP of one class, its detections in the order of confidence."""
    tp = true.cumsum()
    fp = false.cumsum()
    precision = tp / (tp + fp + np.spacing(1))
    precision = np.append(precision, 0.0)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(tp / labels, coco.RECALLS - EXACT)
    return float(envelope[place].mean())
