"""Why each detection is wrong and each label is missed, in the manner of TIDE, with the seams of
tiles as causes.

TIDE (Bolya et al. 2020, arXiv 2008.08115) names an error by the label that a detection comes
nearest to, and weighs it by the AP that would be gained were all errors of that name put right, one
name at a time; these gains do not add up. Here its names are kept, and those of errors that tiles
make come before.

A detection that is neither right nor matched to an ignored label is of the first of these kinds:

- SeamDup: another, surer detection owns its label, and no tile showed both. Dropped.
- Dup: another, surer detection owns its label. Dropped.
- SeamTrunc: a part of its label, which goes on beyond the side of the tile at which the detection
  ends. Gets its label's box.
- Loc: of its label's class, and not well enough placed. Gets its label's box.
- Cls: well placed on a label of another class. Gets its label's class.
- Both: of another class, and not well enough placed. Dropped.
- Bkg: on no label. Dropped.

A label that counts and is matched by none is of the first of these kinds:

- SeamSplit: its detections are truncated by different tiles, and together they are the object. Made
  one.
- LostInMerge: seen well on a tile, and by no merged detection. The tile's prediction is added.
- NotCovered: no tile shows so much as a quarter of it. Its label is removed.
- LowConf: seen well, by a detection that is left out. That one is added.
- explained: a detection's Loc, Cls or SeamTrunc is about it. No error of its own.
- Miss: not seen. Its label is removed.

Well placed means an IoU of .5 or more (TIDE's tf), on no label one below .1 (its tb). Labels that
do not count explain no error, but for duplicates. Of several detections that would get one label
the surest does; the others are dropped, as are those whose label is owned. What is beside a seam,
and part of what (by .8 of its area), is judged by boxes whatever the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation import coco
from tiler.evaluation.candidates import Candidates, candidates
from tiler.evaluation.inputs import EvaluationInputs, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.evaluation.seams import visibility
from tiler.geometry import boxes as box
from tiler.geometry import instances as inst
from tiler.geometry import neighbours, ragged
from tiler.geometry.instances import Instances
from tiler.geometry.masks import Masks, concatenate
from tiler.matching import similarity
from tiler.matching.tiles import OUTWARDS

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

WELL = 0.5  # IoU, TIDE's tf
BARELY = 0.1  # IoU, TIDE's tb
PART = 0.8  # of a detection that lies in its label, if it is a part of it
# px and part of a tile's side: so near a seam a detection ends because of it
NEAR, NEAR_SHARE = 2.0, 0.02
SHOWN = 0.25  # least part of an object that a tile must have to show it

FOUND_KINDS = (
    "left out",
    "right",
    "ignored",
    "SeamDup",
    "Dup",
    "SeamTrunc",
    "Loc",
    "Cls",
    "Both",
    "Bkg",
)
LEFT_OUT, RIGHT, IGNORED, SEAM_DUP, DUP, SEAM_TRUNC, LOC, CLS, BOTH, BKG = range(len(FOUND_KINDS))
# their detections, put right, are right: TIDE leaves such labels out of what is missed
EXPLAINING = (SEAM_TRUNC, LOC, CLS)
LABEL_KINDS = (
    "ignored",
    "found",
    "SeamSplit",
    "LostInMerge",
    "NotCovered",
    "LowConf",
    "Miss",
    "explained",
)
UNCOUNTED, MATCHED, SEAM_SPLIT, LOST_IN_MERGE, NOT_COVERED, LOW_CONF, MISS, EXPLAINED = range(
    len(LABEL_KINDS)
)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How often an error occurs, and the AP (.5:.95, all detections) that putting it right would
    gain.

    Kinds are of an IoU of .5. So `cost` may be below 0: a duplicate that fits better than the
    detection that owns its label counts at higher thresholds. It is NaN where nothing is left to
    measure: no label counts, or all are removed.
    """

    name: str
    count: int
    cost: float


@dataclass(frozen=True, slots=True, eq=False)
class Diagnosis:
    """What is wrong with each detection and label.

    Attributes:
        conf: detections below are left out.
        found: `(D,)` index into `FOUND_KINDS` of each detection of the sample.
        labels: `(G,)` index into `LABEL_KINDS` of each label; those "explained" are in no row.
        rows: the kinds of error that can be told, in their order.
        untold: the kinds that cannot, since tiles, sources or predictions on tiles are not known.
        about: `(D,)` the label that each detection is matched to or comes nearest to; -1 on the
            background.
        ap: of the detections that are not left out; costs are gains upon it.
    """

    conf: float
    found: Ints
    labels: Ints
    rows: tuple[ErrorRow, ...]
    untold: tuple[str, ...]
    about: Ints
    ap: float

    def plain(self) -> dict[str, Any]:
        """What is said of the whole sample."""
        rows = [{"name": row.name, "count": row.count, "cost": row.cost} for row in self.rows]
        return {"conf": self.conf, "ap": self.ap, "rows": rows, "untold": list(self.untold)}


def diagnose(
    sample: EvaluationInputs,
    pairs: Candidates,
    layout: TileLayout | None = None,
    origins: Origins | None = None,
    conf: float = 0.0,
    max_dets: int | None = None,
) -> Diagnosis:
    """Name every error of a sample.

    Args:
        sample: merged detections on full images.
        pairs: its candidates of any class, from an IoU of `BARELY` on.
        layout: the tiles. Without them SeamTrunc, SeamSplit and NotCovered are untold, as they are
            in an image of which no tile is known.
        origins: the sources of each detection; without them SeamDup is untold, and any tile in
            which the middle of a detection lies may have cut it. LostInMerge is told from the
            predictions on tiles.
        conf: detections below are left out.
        max_dets: so are those after the first so many of a class in an image. Default: none are.

    >>> from tiler.evaluation.inputs import GroundTruth
    >>> label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    >>> twice = Instances(np.array([0, 0]), np.array([[0, 0, 8, 8], [0, 0, 8, 7.0]]), conf=np.array([0.9, 0.8]))
    >>> one = EvaluationInputs(GroundTruth(label, np.array([0])), Predicted.of(twice, np.zeros(2, int)), images=1, classes=1)
    >>> result = diagnose(one, candidates(one, BARELY, any_class=True))
    >>> [FOUND_KINDS[kind] for kind in result.found], [(row.name, row.count) for row in result.rows if row.count]
    (['right', 'Dup'], [('Dup', 1)])
    """
    found = sample.detections
    kept = found.instances.confidence >= conf
    if max_dets is not None:
        kept &= found.rank < max_dets
    errors = _Errors.of(sample, pairs, kept, layout, origins)
    raw = unmerged(sample, origins, layout) if origins is not None and layout is not None else None
    missed = _Missed.of(errors, raw, layout, conf)
    told = {
        "SeamDup": origins is not None,
        "LostInMerge": raw is not None,
        **dict.fromkeys(("SeamTrunc", "SeamSplit", "NotCovered"), layout is not None),
    }
    names = [*FOUND_KINDS[SEAM_DUP:], *LABEL_KINDS[SEAM_SPLIT:EXPLAINED]]
    ap, rows = _rows(errors, missed, [name for name in names if told.get(name, True)])
    untold = tuple(name for name in names if not told.get(name, True))
    return Diagnosis(conf, errors.kind, missed.kind, rows, untold, errors.about, ap)


def unmerged(
    sample: EvaluationInputs, origins: Origins, layout: TileLayout
) -> EvaluationInputs | None:
    """The same labels with the predictions on tiles as they are; None where these are not at hand,
    or not as outlines.
    """
    raw, tile = origins.raw, origins.raw_tile
    if raw is None or tile is None or (sample.task == "segment" and raw.rings is None):
        return None
    image = layout.image()[tile]
    masks = None
    if sample.task == "segment" and raw.rings is not None:
        masks = Masks.of_rings(raw.rings, layout.sizes[image].astype(np.int64))
    return replace(sample, detections=Predicted.of(raw, image, masks=masks))


def curves(sample: EvaluationInputs, pairs: Candidates) -> coco.Curves:
    """COCO's curves of a sample with all its detections."""
    return coco.evaluate(sample, pairs, max_dets=(len(sample.detections),))


# --- detections


@dataclass(frozen=True, slots=True, eq=False)
class _Errors:
    """What is wrong with detections.

    Attributes:
        kind, about: as in `Diagnosis`.
        owner: `(G,)` the detection that is matched to each label, -1 for none.
        kept: `(D,)` False for those left out.
        well: candidates of one class that are well placed, of all detections.
        cut, cut_by: `(C,)` truncated detections and the tiles that cut them; a detection may stand
            there several times.
    """

    sample: EvaluationInputs
    kind: Ints
    about: Ints
    owner: Ints
    kept: Bools
    well: Candidates
    cut: Ints
    cut_by: Ints

    @classmethod
    def of(
        cls,
        sample: EvaluationInputs,
        pairs: Candidates,
        kept: Bools,
        layout: TileLayout | None,
        origins: Origins | None,
    ) -> _Errors:
        truth, classes = sample.labels, sample.detections.instances.class_id
        counts = ~truth.ignored
        well = pairs.take(
            (pairs.iou >= WELL)
            & (classes[pairs.detection] == truth.instances.class_id[pairs.label])
        )
        matched = coco.matched(sample, well.take(kept[well.detection]), np.array([WELL]))[
            :, 0
        ].astype(np.int64)
        right = np.flatnonzero(matched >= 0)
        owner = np.full(len(truth), -1)
        owner[matched[right]] = right
        owner[truth.crowd] = -1
        kind = np.where(kept, BKG, LEFT_OUT)
        kind[right] = np.where(counts[matched[right]], RIGHT, IGNORED)
        about = matched.copy()

        pairs = pairs.take((kept & (matched < 0))[pairs.detection])
        i, j = pairs.detection, pairs.label
        same = classes[i] == truth.instances.class_id[j]
        placed = pairs.iou >= WELL
        again = same & placed & (owner[j] >= 0)  # all that are well placed, or they would own it
        apart = np.zeros(len(pairs), bool)
        if origins is not None:
            dup = np.flatnonzero(again)
            apart[dup] = _no_common_tile(origins, i[dup], owner[j[dup]])
        off = (pairs.iou >= BARELY) & ~placed & counts[j]
        part, cut_by = np.empty(0, np.int64), np.empty(0, np.int64)
        if layout is not None:
            loose = np.flatnonzero(same & off)
            part, cut_by = _truncated(sample, i[loose], j[loose], layout, origins)
            part = loose[part]
        cut = np.zeros(len(pairs), bool)
        cut[part] = True
        other = ~same & counts[j]
        # the first kind that fits is the last to be written
        for code, fits in (
            (BOTH, other & off),
            (CLS, other & placed),
            (LOC, same & off),
            (SEAM_TRUNC, cut),
            (DUP, again),
            (SEAM_DUP, apart),
        ):
            which = np.flatnonzero(fits)
            which = which[_firsts(i[which])]  # the best label of each detection
            kind[i[which]], about[i[which]] = code, j[which]
        chosen = (kind[i[part]] == SEAM_TRUNC) & (about[i[part]] == j[part])
        return cls(sample, kind, about, owner, kept, well, i[part[chosen]], cut_by[chosen])


def _firsts(values: Ints) -> Ints:
    """Where each value of a sorted array stands first."""
    return ragged.firsts(values)


def _no_common_tile(origins: Origins, one: Ints, other: Ints) -> Bools:
    """`(P,)` True for two detections that come from different tiles altogether, as far as it is
    known.
    """
    count = np.diff(origins.offsets)
    tiles = int(origins.tile.max(initial=0)) + 1
    sources = np.repeat(np.arange(len(count)), count) * tiles + origins.tile
    pair = np.repeat(np.arange(len(one)), count[one])
    common = np.isin(
        other[pair] * tiles + origins.tile[ragged.spans(origins.offsets[one], count[one])], sources
    )
    result = (count[one] > 0) & (count[other] > 0)
    result[pair[common]] = False
    return result


def _truncated(
    sample: EvaluationInputs, i: Ints, j: Ints, layout: TileLayout, origins: Origins | None
) -> tuple[Ints, Ints]:
    """Which pairs are of a detection that a tile cut off its label, and the tile of each; a pair
    may have several.
    """
    boxes, labels = sample.detections.instances.boxes, sample.labels.instances.boxes
    common = box.area(box.intersection(boxes[i], labels[j]))
    part = np.flatnonzero(common >= PART * box.area(boxes[i]))
    own, tile = _sources(sample, np.unique(i[part]), layout, origins)
    first, last = np.searchsorted(own, i[part]), np.searchsorted(own, i[part], "right")
    pair = np.repeat(part, last - first)
    tile = tile[ragged.spans(first, last - first)]
    rects = layout.rects[tile]
    near = np.maximum(NEAR, NEAR_SHARE * (rects[:, 2:] - rects[:, :2]))[:, [0, 1, 0, 1]]
    ends = layout.interior[tile] & (np.abs(rects - boxes[i[pair]]) <= near)
    goes_on = (labels[j[pair]] - rects) * OUTWARDS > 0
    cut = (ends & goes_on).any(axis=1)
    return pair[cut], tile[cut]


def _sources(
    sample: EvaluationInputs, i: Ints, layout: TileLayout, origins: Origins | None
) -> tuple[Ints, Ints]:
    """Detections among `i`, ascending, and the tiles that each comes from, or in which its middle
    lies.
    """
    if origins is not None:
        count = np.diff(origins.offsets)[i]
        return np.repeat(i, count), origins.tile[ragged.spans(origins.offsets[i], count)]
    boxes = sample.detections.instances.boxes[i]
    own, tiles = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for at, tile in neighbours.alike(
        boxes, layout.rects, sample.detections.image[i], layout.image()
    ):
        middle = (boxes[at, :2] + boxes[at, 2:]) / 2
        there = box.inside(np.concatenate([middle, middle], axis=1), layout.rects[tile])
        own.append(i[at[there]])
        tiles.append(tile[there])
    detection, tile = np.concatenate(own), np.concatenate(tiles)
    order = np.lexsort((tile, detection))
    return detection[order], tile[order]


# --- labels


@dataclass(frozen=True, slots=True, eq=False)
class _Missed:
    """What is wrong with labels.

    Attributes:
        kind: as in `Diagnosis`.
        lost: the prediction on a tile that fits best, of labels that were lost in merging.
        weak: the detections that were left out and fit labels best.
        weak_raw: predictions on tiles below the confidence that do.
        raw: the predictions on tiles.
    """

    kind: Ints
    lost: Ints
    weak: Ints
    weak_raw: Ints
    raw: Predicted | None

    @classmethod
    def of(
        cls, errors: _Errors, raw: EvaluationInputs | None, layout: TileLayout | None, conf: float
    ) -> _Missed:
        truth, well = errors.sample.labels, errors.well
        none = np.zeros(len(truth), bool)
        left_out = well.take(~errors.kept[well.detection])
        sure = unsure = well.take(np.empty(0, np.int64))
        if raw is not None:
            seen = candidates(raw, WELL)
            is_sure = raw.detections.instances.confidence[seen.detection] >= conf
            sure, unsure = seen.take(is_sure), seen.take(~is_sure)
        split, lost, covered, weak = none.copy(), none.copy(), ~none, none.copy()
        split[_split(errors)] = True
        lost[sure.label] = True
        lost[well.label] = False
        if layout is not None:
            share = visibility(truth.instances.boxes, truth.image, layout, SHOWN).share
            covered = (share >= SHOWN) | (np.diff(layout.offsets)[truth.image] == 0)
        weak[left_out.label] = True
        weak[unsure.label] = True
        kind = np.full(len(truth), MISS)
        kind[errors.about[np.isin(errors.kind, EXPLAINING)]] = EXPLAINED
        for code, fits in (
            (LOW_CONF, weak),
            (NOT_COVERED, ~covered),
            (LOST_IN_MERGE, lost),
            (SEAM_SPLIT, split),
            (MATCHED, errors.owner >= 0),
            (UNCOUNTED, truth.ignored),
        ):
            kind[fits] = code
        best, _ = _best((sure,), kind == LOST_IN_MERGE)
        low, of_tile = _best((left_out, unsure), kind == LOW_CONF)
        return cls(
            kind,
            best,
            low[of_tile == 0],
            low[of_tile == 1],
            None if raw is None else raw.detections,
        )


def _split(errors: _Errors) -> Ints:
    """Labels that are in pieces: detections cut off by different tiles, which together have the
    bounds of the label.
    """
    boxes, labels = errors.sample.detections.instances.boxes, errors.sample.labels.instances.boxes
    pieces = np.unique(errors.cut)
    label, number = np.unique(errors.about[pieces], return_inverse=True)
    count = np.bincount(number, minlength=len(label))
    union = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(label), 1))
    np.minimum.at(union[:, :2], number, boxes[pieces, :2])
    np.maximum.at(union[:, 2:], number, boxes[pieces, 2:])
    tile, at = np.unique(errors.cut_by, return_inverse=True)
    which, often = np.unique(
        np.searchsorted(label, errors.about[errors.cut]) * len(tile) + at, return_counts=True
    )
    most = np.zeros(len(label), np.int64)  # pieces of one tile
    np.maximum.at(most, which // max(1, len(tile)), often)
    whole = similarity.of_boxes(union, labels[label]) >= WELL
    return label[(count > most) & whole]


def _best(many: Sequence[Candidates], wanted: Bools) -> tuple[Ints, Ints]:
    """The detections that fit the wanted labels best, each once, and of which candidates they are;
    of equals the first.
    """
    label, iou, found = (
        np.concatenate([getattr(pairs, name) for pairs in many])
        for name in ("label", "iou", "detection")
    )
    of = np.repeat(np.arange(len(many)), [len(pairs) for pairs in many])
    order = np.flatnonzero(wanted[label])
    order = order[np.lexsort((found[order], of[order], -iou[order], label[order]))]
    order = order[_firsts(label[order])]
    chosen = np.unique(np.stack([of[order], found[order]], axis=1), axis=0)
    return chosen[:, 1], chosen[:, 0]


# --- costs

Fixed = tuple[EvaluationInputs, Candidates]


def _rows(
    errors: _Errors, missed: _Missed, names: Sequence[str]
) -> tuple[float, tuple[ErrorRow, ...]]:
    """The AP as it is, and what each kind of error costs."""
    ap = curves(*_changed(errors, errors.kept)).ap()
    rows = []
    for name in names:
        if name in FOUND_KINDS:
            code = FOUND_KINDS.index(name)
            count, fixed = np.count_nonzero(errors.kind == code), _right
        else:
            code = LABEL_KINDS.index(name)
            count, fixed = np.count_nonzero(missed.kind == code), _found
        cost = curves(*fixed(errors, missed, code)).ap() - ap if count else 0.0
        rows.append(ErrorRow(name, int(count), cost))
    return ap, tuple(rows)


def _right(errors: _Errors, missed: _Missed, code: int) -> Fixed:
    """The sample with the detections of one kind put right.

    Of several that would have one label the surest gets it. The others are dropped, and those whose
    label is taken.
    """
    sample = errors.sample
    wrong = np.flatnonzero(errors.kind == code)
    left = errors.kept & (errors.kind != code)
    if code not in EXPLAINING:
        return _changed(errors, left)
    conf = sample.detections.instances.confidence
    free = wrong[errors.owner[errors.about[wrong]] < 0]
    free = free[np.lexsort((free, -conf[free], errors.about[free]))]
    free = np.sort(free[_firsts(errors.about[free])])
    label = errors.about[free]
    if code == CLS:
        renamed = sample.labels.instances.class_id[label]
        part = _part(sample, sample.detections, free)
        return _changed(
            errors, left, replace(part, instances=replace(part.instances, class_id=renamed))
        )
    return _changed(errors, left, _of_labels(sample, label, conf[free], free))


def _found(errors: _Errors, missed: _Missed, code: int) -> Fixed:
    """The sample with the labels of one kind found, or removed."""
    sample = errors.sample
    label = np.flatnonzero(missed.kind == code)
    if code in (NOT_COVERED, MISS):
        ignored = sample.labels.ignored.copy()
        ignored[label] = True  # no detection is matched to it: this is as good as removed
        fixed, pairs = _changed(errors, errors.kept)
        return replace(fixed, labels=replace(sample.labels, ignored=ignored)), pairs
    if code == SEAM_SPLIT:
        piece = (errors.kind == SEAM_TRUNC) & np.isin(errors.about, label)
        pieces = np.flatnonzero(piece)  # those of a label are of one class: the first is the surest
        _, first = np.unique(errors.about[pieces], return_index=True)
        surest = pieces[first]
        return _changed(
            errors,
            errors.kept & ~piece,
            _of_labels(sample, label, sample.detections.instances.confidence[surest], surest),
        )
    raw = missed.lost if code == LOST_IN_MERGE else missed.weak_raw
    kept = errors.kept.copy()
    if code == LOW_CONF:
        kept[missed.weak] = True
    if missed.raw is None:
        return _changed(errors, kept)
    last = np.full(len(raw), len(sample.detections))
    return _changed(errors, kept, replace(_part(sample, missed.raw, raw), place=last))


def _changed(errors: _Errors, keep: Bools, added: Predicted | None = None) -> Fixed:
    """The sample with some of its detections and others; of equal confidence, those of a smaller
    `place` come first.

    What is kept keeps its candidates: to look for all anew is most of the work.
    """
    sample = errors.sample
    kept = np.flatnonzero(keep)
    parts = [_part(sample, sample.detections, kept), *([] if added is None else [added])]
    image, place, area = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("image", "place", "box_area")
    )
    order = np.argsort(place, kind="stable")
    masks = None
    if sample.task == "segment":
        masks = concatenate([part.masks for part in parts if part.masks is not None]).take(order)
    found = Predicted.of(
        inst.concatenate([part.instances for part in parts]).take(order),
        image[order],
        area[order],
        masks,
    )
    number = np.empty(len(order), np.int64)
    number[order[found.place]] = np.arange(len(order))
    before: Any = np.full(len(sample.detections), -1, np.int32)
    before[kept] = number[: len(kept)]
    pairs = errors.well.take(keep[errors.well.detection])
    pairs = replace(pairs, detection=before[pairs.detection])
    if added is not None and len(added):
        more = candidates(replace(sample, detections=added), WELL)
        own = np.concatenate([pairs.detection, number[len(kept) :][more.detection]])
        pairs = Candidates(
            own,
            np.concatenate([pairs.label, more.label]),
            np.concatenate([pairs.iou, more.iou]),
            WELL,
        )
    if (pairs.detection[1:] < pairs.detection[:-1]).any():
        pairs = pairs.take(np.argsort(pairs.detection, kind="stable"))
    return replace(sample, detections=found), pairs


def _part(sample: EvaluationInputs, found: Predicted, index: Ints) -> Predicted:
    """Some detections, with `place` their own numbers."""
    masks = None if found.masks is None else found.masks.take(index)
    own = _plain(sample, found.instances.take(index))
    return Predicted(
        own, found.image[index], index, found.rank[index], found.box_area[index], masks
    )


def _of_labels(sample: EvaluationInputs, label: Ints, conf: Floats, place: Ints) -> Predicted:
    """Labels as detections."""
    truth = sample.labels
    masks = None if truth.masks is None else truth.masks.take(label)
    own = replace(_plain(sample, truth.instances.take(label)), conf=conf)
    return Predicted(own, truth.image[label], place, place, truth.box_area[label], masks)


def _plain(sample: EvaluationInputs, instances: Instances) -> Instances:
    """Only with what its task compares, so that labels and detections have the same columns."""
    rings = instances.rings if sample.task == "obb" else None
    keypoints = instances.keypoints if sample.task == "pose" else None
    return replace(instances, rings=rings, keypoints=keypoints)
