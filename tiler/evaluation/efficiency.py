"""What merging makes of the predictions on tiles: between all of them as they are, and the best
that could be chosen.
"""

from __future__ import annotations

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
from tiler.matching import similarity

if TYPE_CHECKING:
    from tiler.types import Floats

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
        tile_u: the same, each object counted once in all: where n tiles show an object, or the
            place of a false positive, each of them weighs 1/n.
        nomerge: all predictions together on the full images, every object as often as it was seen.
        merged: the sample.
        ideal: of the predictions on a label only the one that fits best, as no merger can know. One
            that joins parts or averages boxes may still do better.
    """

    tile: Precision
    tile_u: Precision
    nomerge: Precision
    merged: Precision
    ideal: Precision

    @property
    def merge(self) -> float:
        """How much of what choosing could gain was gained; NaN where there was nothing to gain.

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
    return (merged - nomerge) / (ideal - nomerge) if ideal > nomerge else NAN


def efficiency(
    sample: EvaluationInputs,
    origins: Origins,
    layout: TileLayout,
    per_tile: EvaluationInputs | None = None,
) -> Efficiency:
    """Measure each stage.

    Args:
        sample: merged detections on full images.
        origins: with the predictions on tiles; without these only `merged` is known, and what
            `per_tile` tells.
        per_tile: the labels and predictions of each tile, px of the full image; image t is tile t
            of the layout.

    >>> from tiler.evaluation.inputs import GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> layout = TileLayout.of([np.array([[0, 0, 64, 64], [32, 0, 96, 64.0]])], [np.ones(2)], np.array([[96, 64.0]]))
    >>> boxes = np.array([[40, 0, 48, 8], [80, 0, 90, 8.0]])
    >>> raw = Instances(np.zeros(3, int), boxes[[0, 0, 1]], conf=np.array([0.9, 0.8, 0.7]))
    >>> truth = GroundTruth(Instances(np.zeros(2, int), boxes), np.zeros(2, int))
    >>> sample = EvaluationInputs(truth, Predicted.of(raw.take(np.array([0, 2])), np.zeros(2, int)), images=1, classes=1)
    >>> origins = Origins(np.array([0, 1, 1]), np.array([0, 2, 3]), raw, np.array([0, 1, 1]))
    >>> result = efficiency(sample, origins, layout)
    >>> round(result.nomerge.ap, 3), round(result.ideal.ap, 3), result.merge
    (0.835, 1.0, 1.0)
    """
    raw = unmerged(sample, origins, layout)
    nomerge = ideal = tile = tile_u = Precision()
    if raw is not None:
        nomerge, ideal = _plain(raw), _plain(_chosen(raw))
    if per_tile is not None:
        labels, found = _shares(sample, layout, per_tile)
        tile, tile_u = _plain(per_tile), weighted(per_tile, labels, found)
    return Efficiency(tile, tile_u, nomerge, _plain(sample), ideal)


def _plain(sample: EvaluationInputs) -> Precision:
    result = curves(sample, candidates(sample))
    return Precision(result.ap(), result.ap(iou=0.5))


def _chosen(raw: EvaluationInputs) -> EvaluationInputs:
    """Without the predictions on a label but for the one of the highest IoU; of equals the surest."""
    pairs = candidates(raw, WELL)
    pairs = pairs.take(~raw.labels.crowd[pairs.label])
    conf = raw.detections.instances.confidence
    order = np.lexsort((pairs.detection, -conf[pairs.detection], -pairs.iou, pairs.label))
    best = order[ragged.firsts(pairs.label[order])]
    keep = np.ones(len(raw.detections), bool)
    keep[pairs.detection] = False
    keep[pairs.detection[best]] = True
    found = raw.detections
    masks = None if found.masks is None else found.masks.take(keep)
    return replace(
        raw,
        detections=Predicted.of(
            found.instances.take(keep), found.image[keep], found.box_area[keep], masks
        ),
    )


def _shares(
    sample: EvaluationInputs, layout: TileLayout, per_tile: EvaluationInputs
) -> tuple[Floats, Floats]:
    """1/n of each label and each detection on tiles, n the number of tiles that show it.

    A label on a tile is that of the full image whose part in the tile is most like it; n is of the
    whole object. One that is like none has the n of what is to be seen, and so has a detection.
    """
    of_tile = layout.image()
    truth, found = per_tile.labels, per_tile.detections
    seen = np.maximum(
        visibility(truth.instances.boxes, of_tile[truth.image], layout, SHOWN).tiles, 1
    )
    full = sample.labels
    whole = visibility(full.instances.boxes, full.image, layout, SHOWN).tiles
    most = np.zeros(len(truth))
    for label, tile in neighbours.alike(full.instances.boxes, layout.rects, full.image, of_tile):
        parts = box.intersection(full.instances.boxes[label], layout.rects[tile])
        groups = tile * sample.classes + full.instances.class_id[label]
        own = truth.image * sample.classes + truth.instances.class_id
        for i, j in neighbours.alike(truth.instances.boxes, parts, own, groups, WELL):
            iou = similarity.of_boxes(truth.instances.boxes[i], parts[j])
            order = np.lexsort((-iou, i))
            order = order[ragged.firsts(i[order])]
            order = order[iou[order] > np.maximum(most[i[order]], WELL)]
            most[i[order]], seen[i[order]] = iou[order], np.maximum(whole[label[j[order]]], 1)
    there = visibility(found.instances.boxes, of_tile[found.image], layout, SHOWN).tiles
    return 1 / seen, 1 / np.maximum(there, 1)


def weighted(sample: EvaluationInputs, labels: Floats, found: Floats) -> Precision:
    """AP where labels and detections have weights. With weights of 1 it is COCO's.

    Recall is the weight of the labels found over that of all. In precision, a true positive counts
    as much as its label, a false one as much as itself.

    Args:
        labels: `(G,)` above 0.
        found: `(D,)`.

    >>> from tiler.evaluation.inputs import GroundTruth
    >>> from tiler.geometry.instances import Instances
    >>> two = np.array([[0, 0, 8, 8], [20, 0, 28, 8.0]])
    >>> one = Instances(np.zeros(1, int), two[:1], conf=np.ones(1))
    >>> sample = EvaluationInputs(GroundTruth(Instances(np.zeros(2, int), two), np.zeros(2, int)), Predicted.of(one, np.zeros(1, int)), 1, 1)
    >>> round(weighted(sample, np.array([3.0, 1.0]), np.ones(1)).ap, 4)  # 76 of 101 points of recall
    0.7525
    """
    pairs = candidates(sample)
    ignored, classes = sample.labels.ignored, sample.labels.instances.class_id
    total = np.bincount(classes[~ignored], labels[~ignored], sample.classes)
    there = np.flatnonzero(sample.positives(~ignored))
    begin = np.searchsorted(sample.detections.instances.class_id, np.arange(sample.classes + 1))
    ap = np.zeros((len(coco.THRESHOLDS), len(there)))
    for t, chosen in enumerate(coco.matches(sample, pairs, ignored, coco.THRESHOLDS)):
        i, j = pairs.detection[chosen], pairs.label[chosen]
        right, wrong = np.zeros(len(found)), found.astype(np.float64)
        right[i], wrong[i] = np.where(ignored[j], 0.0, labels[j]), 0.0
        for column, k in enumerate(there):
            own = slice(begin[k], begin[k + 1])
            tp, fp = right[own].cumsum(), wrong[own].cumsum()
            precision = np.append(tp / (tp + fp + np.spacing(1)), 0.0)
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            ap[t, column] = envelope[np.searchsorted(tp / total[k], coco.RECALLS - EXACT)].mean()
    return Precision(float(ap.mean()), float(ap[0].mean())) if len(there) else Precision()
