"""Why each detection is wrong and each label is missed, in the manner of TIDE, with the seams of
tiles as causes.

TIDE (Bolya et al. 2020, arXiv 2008.08115) names an error by the label that a detection comes
nearest to, and weighs it by the AP that would be gained if all errors of that name were corrected,
one name at a time; these gains do not add up. Its names are kept here, and errors caused by tiles
take precedence over them.

A detection that is neither right nor matched to an ignored label is of the first of these kinds:

- SeamDup: another, more confident detection owns its label, and no tile showed both. Dropped.
- Dup: another, more confident detection owns its label. Dropped.
- SeamTrunc: a part of its label, which continues beyond the side of the tile at which the detection
  ends. Gets its label's box.
- Loc: of its label's class, and not well placed. Gets its label's box.
- Cls: well placed on a label of another class. Gets its label's class.
- Both: of another class, and not well placed. Dropped.
- Bkg: on no label. Dropped.

A label that counts and is not matched is of the first of these kinds:

- SeamSplit: its detections are truncated by different tiles, and together they are the object.
  Joined.
- LostInMerge: found by a prediction on a tile, and by no merged detection. The prediction is added.
- NotCovered: no tile shows as much as a quarter of it. The label is removed.
- LowConf: found by a detection that is left out. The detection is added.
- explained: the label of a detection's Loc, Cls or SeamTrunc. No error of its own.
- Miss: not found. The label is removed.

Well placed means an IoU of .5 or more (TIDE's tf), on no label one below .1 (its tb). Labels that
do not count explain only duplicates. Of several detections that would get one label the most
confident does; the others are dropped, as are those whose label is owned. Whether a detection ends
at a seam, or is a part of a label (by .8 of its area), is decided by boxes for every task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.evaluation import coco
from tiler.evaluation.candidates import Candidates, candidates, same_class
from tiler.evaluation.inputs import EvaluationInputs, Predicted
from tiler.evaluation.layout import Origins, TileLayout
from tiler.evaluation.seams import visibility
from tiler.geometry import boxes as box
from tiler.geometry import instances as inst
from tiler.geometry import neighbours, ragged
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances
from tiler.geometry.masks import Masks, concatenate
from tiler.matching import similarity
from tiler.matching.tiles import OUTWARDS

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints

WELL = 0.5  # IoU, TIDE's tf
BARELY = 0.1  # IoU, TIDE's tb
PART = 0.8  # of a detection that lies in its label, if it is a part of it
# px and share of a tile's side: a detection that ends as near to a seam was cut by it
NEAR, NEAR_SHARE = 2.0, 0.02
SHOWN = 0.25  # the least share of an object that a tile must hold to show it

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
# once corrected, these detections are right: TIDE does not count their labels as missed
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
# errors, in the order of their rows
ERROR_KINDS = (*FOUND_KINDS[SEAM_DUP:], *LABEL_KINDS[SEAM_SPLIT:EXPLAINED])


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How often an error occurs, and how much AP (.5:.95, all detections) correcting it would gain.

    Errors are those at an IoU of .5. So `cost` may be below 0: a duplicate that fits better than
    the detection that owns its label counts at higher thresholds. It is NaN where nothing is left
    to measure: no label counts, or all are removed.
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
        rows: the kinds of error that are known, in their order.
        untold: the kinds that are not, since tiles, sources or predictions on tiles are unknown.
        about: `(D,)` the label that each detection is matched to or comes nearest to; -1 on the
            background.
        ap: of the detections that are not left out; costs are relative to it.
    """

    conf: float
    found: Ints
    labels: Ints
    rows: tuple[ErrorRow, ...]
    untold: tuple[str, ...]
    about: Ints
    ap: float

    def plain(self) -> dict[str, Any]:
        """The figures of the whole sample, by name."""
        rows = [asdict(row) for row in self.rows]
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
        layout: the tiles. Without them SeamTrunc, SeamSplit and NotCovered are unknown. An image
            whose tiles are unknown has none of these errors.
        origins: the sources of each detection. Without them SeamDup is unknown, and any tile that
            holds the centre of a detection may have cut it. LostInMerge needs their predictions on
            tiles.
        conf: detections below are left out.
        max_dets: maximum detections of a class in an image; the others are left out too. Default:
            no limit.

    >>> from tiler.evaluation.inputs import GroundTruth
    >>> label = Instances(np.array([0]), np.array([[0, 0, 8, 8.0]]))
    >>> boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 7.0]])
    >>> twice = Instances(np.array([0, 0]), boxes, conf=np.array([0.9, 0.8]))
    >>> labels = GroundTruth(label, np.array([0]))
    >>> detections = Predicted.of(twice, np.array([0, 0]))
    >>> sample = EvaluationInputs(labels, detections, images=1, classes=1)
    >>> result = diagnose(sample, candidates(sample, BARELY, any_class=True))
    >>> [FOUND_KINDS[kind] for kind in result.found]
    ['right', 'Dup']
    >>> [(row.name, row.count) for row in result.rows if row.count]
    [('Dup', 1)]
    """
    kept = sample.detections.conf >= conf
    if max_dets is not None:
        kept &= sample.detections.rank < max_dets
    raw = None
    if origins is not None and layout is not None:
        raw = unmerged(sample, origins, layout)
    errors = _errors(sample, pairs, kept, layout, origins)
    missed = _missed(errors, raw, layout, conf)
    untold = _untold(layout, origins, raw)
    ap, rows = _rows(errors, missed, [name for name in ERROR_KINDS if name not in untold])
    return Diagnosis(conf, errors.kind, missed.kind, rows, untold, errors.about, ap)


def _untold(
    layout: TileLayout | None, origins: Origins | None, raw: EvaluationInputs | None
) -> tuple[str, ...]:
    """The kinds of errors that cannot be known."""
    names = set()
    if origins is None:
        names.add("SeamDup")
    if raw is None:
        names.add("LostInMerge")
    if layout is None:
        names |= {"SeamTrunc", "SeamSplit", "NotCovered"}
    return tuple(name for name in ERROR_KINDS if name in names)


def unmerged(
    sample: EvaluationInputs, origins: Origins, layout: TileLayout
) -> EvaluationInputs | None:
    """The same labels with the predictions on tiles before merging; None where these are unknown,
    or have no outlines to compare.
    """
    raw = origins.raw
    tile = origins.raw_tile
    if raw is None or tile is None:
        return None
    image = layout.image()[tile]
    masks = None
    if sample.task == "segment":
        if raw.rings is None:
            return None
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
        cuts: of detections that are truncated.
    """

    sample: EvaluationInputs
    kind: Ints
    about: Ints
    owner: Ints
    kept: Bools
    well: Candidates
    cuts: _SeamCuts


def _errors(
    sample: EvaluationInputs,
    pairs: Candidates,
    kept: Bools,
    layout: TileLayout | None,
    origins: Origins | None,
) -> _Errors:
    well = _well_placed(sample, pairs)
    kept_well = well.take(kept[well.detection])
    about = coco.matched(sample, kept_well, np.array([WELL]))[:, 0]
    owner = _owners(sample, about)
    kind = _kinds_of_matched(sample, kept, about)

    wrong = pairs.take((kept & (about < 0))[pairs.detection])
    fits = _explanations(sample, wrong, owner)
    cuts = _cuts(sample, wrong, np.flatnonzero(fits[LOC]), layout, origins)
    fits[SEAM_TRUNC] = np.zeros(len(wrong), bool)
    fits[SEAM_TRUNC][cuts.pair] = True
    fits[SEAM_DUP] = _seam_duplicates(wrong, fits[DUP], owner, origins)
    _explain(kind, about, wrong, fits)
    is_truncated = kind[cuts.detection] == SEAM_TRUNC
    cuts = cuts.take(is_truncated & (about[cuts.detection] == cuts.label))
    return _Errors(sample, kind, about, owner, kept, well, cuts)


def _well_placed(sample: EvaluationInputs, pairs: Candidates) -> Candidates:
    """The candidates of one class that are well placed."""
    is_well = pairs.iou >= WELL
    return pairs.take(is_well & same_class(sample, pairs))


def _explain(kind: Ints, about: Ints, pairs: Candidates, fits: dict[int, Bools]) -> None:
    """Write the kind of each detection of these pairs, and which label it is about."""
    for code in sorted(fits, reverse=True):  # the first kind that fits is the last to be written
        explained = np.flatnonzero(fits[code])
        best = explained[ragged.firsts(pairs.detection[explained])]
        detection = pairs.detection[best]
        kind[detection] = code
        about[detection] = pairs.label[best]


def _owners(sample: EvaluationInputs, matched: Ints) -> Ints:
    """`(G,)` the detection that is matched to each label, -1 for none and for crowds."""
    detection = np.flatnonzero(matched >= 0)
    owner = np.full(len(sample.labels), -1)
    owner[matched[detection]] = detection
    owner[sample.labels.crowd] = -1
    return owner


def _kinds_of_matched(sample: EvaluationInputs, kept: Bools, matched: Ints) -> Ints:
    """`(D,)` the kind of detections that are matched or left out; of the others, Bkg for now."""
    kind = np.where(kept, BKG, LEFT_OUT)
    detection = np.flatnonzero(matched >= 0)
    is_ignored = sample.labels.ignored[matched[detection]]
    kind[detection] = np.where(is_ignored, IGNORED, RIGHT)
    return kind


def _explanations(sample: EvaluationInputs, pairs: Candidates, owner: Ints) -> dict[int, Bools]:
    """`(P,)` for each kind of error that tiles do not cause, the pairs that would be one."""
    same = same_class(sample, pairs)
    well = pairs.iou >= WELL
    counts = ~sample.labels.ignored[pairs.label]
    poorly = (pairs.iou >= BARELY) & ~well & counts
    is_owned = owner[pairs.label] >= 0
    return {
        DUP: same & well & is_owned,
        LOC: same & poorly,
        CLS: ~same & well & counts,
        BOTH: ~same & poorly,
    }


def _seam_duplicates(
    pairs: Candidates, is_duplicate: Bools, owner: Ints, origins: Origins | None
) -> Bools:
    """`(P,)` duplicates that come from other tiles than the owner of their label."""
    result = np.zeros(len(pairs), bool)
    if origins is not None:
        duplicate = np.flatnonzero(is_duplicate)
        detection = pairs.detection[duplicate]
        owners = owner[pairs.label[duplicate]]
        result[duplicate] = _no_common_tile(origins, detection, owners)
    return result


def _no_common_tile(origins: Origins, one: Ints, other: Ints) -> Bools:
    """`(P,)` True for two detections that come from different tiles altogether, as far as their
    tiles are known.
    """
    count = np.diff(origins.offsets)
    tiles = int(origins.tile.max(initial=0)) + 1
    detection = np.repeat(np.arange(len(count)), count)
    sources = detection * tiles + origins.tile
    pair = np.repeat(np.arange(len(one)), count[one])
    place = ragged.spans(origins.offsets[one], count[one])
    asked = other[pair] * tiles + origins.tile[place]
    is_common = np.isin(asked, sources)
    result = (count[one] > 0) & (count[other] > 0)
    result[pair[is_common]] = False
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _SeamCuts(Columns):
    """Detections that a tile cut off their label; a pair that several did occurs several times.

    Attributes:
        pair: `(C,)` number of the pair of detection and label.
        detection, label, tile: `(C,)`.
    """

    pair: Ints
    detection: Ints
    label: Ints
    tile: Ints


def _cuts(
    sample: EvaluationInputs,
    pairs: Candidates,
    poorly: Ints,
    layout: TileLayout | None,
    origins: Origins | None,
) -> _SeamCuts:
    """The cuts among some pairs, those with these numbers."""
    if layout is None:
        nothing = np.empty(0, np.int64)
        return _SeamCuts(nothing, nothing, nothing, nothing)
    part = poorly[_is_part(sample, pairs.detection[poorly], pairs.label[poorly])]
    detection = pairs.detection[part]
    sources = _sources(sample, np.unique(detection), layout, origins)
    first = np.searchsorted(sources.detection, detection)
    count = np.searchsorted(sources.detection, detection, "right") - first
    pair = np.repeat(part, count)
    tile = sources.tile[ragged.spans(first, count)]
    cuts = _SeamCuts(pair, pairs.detection[pair], pairs.label[pair], tile)
    return cuts.take(_is_cut(sample, cuts, layout))


def _is_part(sample: EvaluationInputs, detection: Ints, label: Ints) -> Bools:
    """`(P,)` detections that lie within their label for the most part."""
    boxes = sample.detections.boxes[detection]
    label_boxes = sample.labels.boxes[label]
    common = box.area(box.intersection(boxes, label_boxes))
    return np.asarray(common >= PART * box.area(boxes))


def _is_cut(sample: EvaluationInputs, cuts: _SeamCuts, layout: TileLayout) -> Bools:
    """`(C,)` detections that end at an interior side of the tile, while their label goes on."""
    rects = layout.rects[cuts.tile]
    sides = rects[:, 2:] - rects[:, :2]
    boxes = sample.detections.boxes[cuts.detection]
    label_boxes = sample.labels.boxes[cuts.label]
    near = np.maximum(NEAR, NEAR_SHARE * sides)
    away = np.abs(rects - boxes)
    ends = layout.interior[cuts.tile] & (away <= np.tile(near, 2))
    goes_on = (label_boxes - rects) * OUTWARDS > 0
    return np.asarray((ends & goes_on).any(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _DetectionTiles(Columns):
    """Detections, ascending, and the tiles that they come from."""

    detection: Ints
    tile: Ints


def _sources(
    sample: EvaluationInputs, detection: Ints, layout: TileLayout, origins: Origins | None
) -> _DetectionTiles:
    """The tiles of some detections; where they are unknown, those that hold their centre."""
    if origins is not None:
        return _known_sources(detection, origins)
    boxes = sample.detections.boxes[detection]
    image = sample.detections.image[detection]
    meetings = neighbours.alike(boxes, layout.rects, image, layout.image())
    number, tile = neighbours.collected(meetings)
    centre = box.centres(boxes[number])
    inside = box.inside(np.tile(centre, 2), layout.rects[tile])
    sources = _DetectionTiles(detection[number[inside]], tile[inside])
    order = np.lexsort((sources.tile, sources.detection))
    return sources.take(order)


def _known_sources(detection: Ints, origins: Origins) -> _DetectionTiles:
    """The tiles that some detections come from."""
    count = np.diff(origins.offsets)[detection]
    places = ragged.spans(origins.offsets[detection], count)
    repeated = np.repeat(detection, count)
    return _DetectionTiles(repeated, origins.tile[places])


# --- labels


@dataclass(frozen=True, slots=True, eq=False)
class _Missed:
    """What is wrong with labels.

    Attributes:
        kind: as in `Diagnosis`.
        lost: the predictions on tiles that fit best the labels lost in merging.
        weak: the detections left out that fit best the labels they would have found.
        weak_raw: the predictions on tiles below the confidence that do.
        raw: the predictions on tiles.
    """

    kind: Ints
    lost: Ints
    weak: Ints
    weak_raw: Ints
    raw: Predicted | None


def _missed(
    errors: _Errors, raw: EvaluationInputs | None, layout: TileLayout | None, conf: float
) -> _Missed:
    labels = errors.sample.labels
    left_out = errors.well.take(~errors.kept[errors.well.detection])
    confident = doubtful = errors.well.take(np.empty(0, np.int64))
    if raw is not None:
        confident, doubtful = _candidates_on_tiles(raw, conf)
    # the first kind that fits is the last to be written
    kind = np.full(len(labels), MISS)
    is_explaining = np.isin(errors.kind, EXPLAINING)
    kind[errors.about[is_explaining]] = EXPLAINED
    kind[left_out.label] = LOW_CONF
    kind[doubtful.label] = LOW_CONF
    if layout is not None:
        kind[_not_covered(errors.sample, layout)] = NOT_COVERED
    lost_labels = np.setdiff1d(confident.label, errors.well.label)
    kind[lost_labels] = LOST_IN_MERGE
    kind[_split(errors)] = SEAM_SPLIT
    kind[errors.owner >= 0] = MATCHED
    kind[labels.ignored] = UNCOUNTED
    (lost,) = _best([confident], kind == LOST_IN_MERGE)
    weak, weak_raw = _best([left_out, doubtful], kind == LOW_CONF)
    return _Missed(kind, lost, weak, weak_raw, None if raw is None else raw.detections)


def _candidates_on_tiles(raw: EvaluationInputs, conf: float) -> tuple[Candidates, Candidates]:
    """Those of predictions on tiles that are confident enough, and the others."""
    pairs = candidates(raw, WELL)
    is_confident = raw.detections.conf[pairs.detection] >= conf
    return pairs.take(is_confident), pairs.take(~is_confident)


def _not_covered(sample: EvaluationInputs, layout: TileLayout) -> Bools:
    """`(G,)` labels that no tile shows, in images whose tiles are known."""
    labels = sample.labels
    is_tiled = np.diff(layout.offsets)[labels.image] > 0
    share = visibility(labels.boxes, labels.image, layout, SHOWN).share
    return np.asarray(is_tiled & (share < SHOWN))


def _split(errors: _Errors) -> Ints:
    """Labels in pieces: detections truncated by different tiles, which together have the bounds of
    the label.
    """
    boxes = errors.sample.detections.boxes
    labels = errors.sample.labels.boxes
    pieces = np.unique(errors.cuts.detection)
    label, number = np.unique(errors.about[pieces], return_inverse=True)
    count = np.bincount(number, minlength=len(label))
    bounds = _bounds(boxes[pieces], number, len(label))
    whole = similarity.of_boxes(bounds, labels[label]) >= WELL
    number = np.searchsorted(label, errors.cuts.label)
    most = _most_of_one_tile(number, errors.cuts.tile, len(label))
    return label[(count > most) & whole]


def _bounds(boxes: Floats, group: Ints, groups: int) -> Floats:
    """`(groups, 4)` the bounds of the boxes of each group."""
    low = np.full((groups, 2), np.inf)
    high = np.full((groups, 2), -np.inf)
    np.minimum.at(low, group, boxes[:, :2])
    np.maximum.at(high, group, boxes[:, 2:])
    return np.concatenate([low, high], axis=1)


def _most_of_one_tile(group: Ints, tile: Ints, groups: int) -> Ints:
    """`(groups,)` the largest number of rows that a group has of one tile."""
    tiles = int(tile.max(initial=0)) + 1
    cell, count = np.unique(group * tiles + tile, return_counts=True)
    result = np.zeros(groups, np.int64)
    np.maximum.at(result, cell // tiles, count)
    return result


def _best(many: Sequence[Candidates], wanted: Bools) -> list[Ints]:
    """The detections that fit the wanted labels best of all candidates; of equals the first.

    Returns:
        Of each of the candidates the detections chosen, ascending, each once.
    """
    label = np.concatenate([pairs.label for pairs in many])
    iou = np.concatenate([pairs.iou for pairs in many])
    detection = np.concatenate([pairs.detection for pairs in many])
    counts = [len(pairs) for pairs in many]
    origin = np.repeat(np.arange(len(many)), counts)
    order = np.flatnonzero(wanted[label])
    by_label = np.lexsort((detection[order], origin[order], -iou[order], label[order]))
    order = order[by_label]
    best = order[ragged.firsts(label[order])]
    result = []
    for k in range(len(many)):
        chosen = best[origin[best] == k]
        result.append(np.unique(detection[chosen]))
    return result


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
            count = np.count_nonzero(errors.kind == code)
        else:
            code = LABEL_KINDS.index(name)
            count = np.count_nonzero(missed.kind == code)
        cost = 0.0
        if count and name in FOUND_KINDS:
            cost = curves(*_corrected(errors, code)).ap() - ap
        elif count:
            cost = curves(*_found(errors, missed, code)).ap() - ap
        rows.append(ErrorRow(name, int(count), cost))
    return ap, tuple(rows)


def _corrected(errors: _Errors, code: int) -> Fixed:
    """The sample with the detections of one kind corrected.

    Of several that would have one label the most confident gets it. The others are dropped, and
    those whose label is owned.
    """
    sample = errors.sample
    rest = errors.kept & (errors.kind != code)
    if code not in EXPLAINING:
        return _changed(errors, rest)
    conf = sample.detections.conf
    chosen = _first_of_labels(errors, code)
    label = errors.about[chosen]
    if code == CLS:
        part = _part(sample, sample.detections, chosen)
        class_id = sample.labels.class_id[label]
        instances = replace(part.instances, class_id=class_id)
        corrected = replace(part, instances=instances)
    else:
        corrected = _as_detections(sample, label, conf[chosen], chosen)
    return _changed(errors, rest, corrected)


def _first_of_labels(errors: _Errors, code: int) -> Ints:
    """The most confident detection of one kind for each label that none owns, ascending."""
    conf = errors.sample.detections.conf
    wrong = np.flatnonzero(errors.kind == code)
    is_owned = errors.owner[errors.about[wrong]] >= 0
    free = wrong[~is_owned]
    by_label = np.lexsort((free, -conf[free], errors.about[free]))
    free = free[by_label]
    first = ragged.firsts(errors.about[free])
    return np.sort(free[first])


def _found(errors: _Errors, missed: _Missed, code: int) -> Fixed:
    """The sample with the labels of one kind found, or removed."""
    label = np.flatnonzero(missed.kind == code)
    if code in (NOT_COVERED, MISS):
        return _without(errors, label)
    if code == SEAM_SPLIT:
        return _with_pieces_joined(errors, label)
    kept = errors.kept
    raw = missed.lost
    if code == LOW_CONF:
        raw = missed.weak_raw
        kept = kept.copy()
        kept[missed.weak] = True
    if missed.raw is None:
        return _changed(errors, kept)
    last = np.full(len(raw), len(errors.sample.detections))
    part = _part(errors.sample, missed.raw, raw)
    added = replace(part, place=last)
    return _changed(errors, kept, added)


def _without(errors: _Errors, label: Ints) -> Fixed:
    """The sample without some labels."""
    labels = errors.sample.labels
    ignored = labels.ignored.copy()
    ignored[label] = True  # no detection is matched to it: this is as good as removed
    fixed, pairs = _changed(errors, errors.kept)
    fixed = replace(fixed, labels=replace(labels, ignored=ignored))
    return fixed, pairs


def _with_pieces_joined(errors: _Errors, label: Ints) -> Fixed:
    """The sample with one detection for each of these labels in place of their pieces."""
    is_piece = (errors.kind == SEAM_TRUNC) & np.isin(errors.about, label)
    pieces = np.flatnonzero(is_piece)
    # the pieces of a label are of one class: the first is the most confident
    _, first = np.unique(errors.about[pieces], return_index=True)
    leading = pieces[first]
    conf = errors.sample.detections.conf[leading]
    joined = _as_detections(errors.sample, label, conf, leading)
    rest = errors.kept & ~is_piece
    return _changed(errors, rest, joined)


def _changed(errors: _Errors, keep: Bools, added: Predicted | None = None) -> Fixed:
    """The sample with some of its detections and others; of equal confidence, those of a smaller
    `place` come first.

    The detections that are kept keep their candidates: to find all anew is most of the work.
    """
    sample = errors.sample
    kept = np.flatnonzero(keep)
    parts = [_part(sample, sample.detections, kept)]
    if added is not None:
        parts.append(added)
    detections, number = _together(sample, parts)
    pairs = _renumbered(errors.well, keep, number[: len(kept)])
    if added is not None and len(added):
        more = candidates(replace(sample, detections=added), WELL)
        added_number = number[len(kept) :]
        more = replace(more, detection=added_number[more.detection])
        pairs = _joined(pairs, more)
    if (pairs.detection[1:] < pairs.detection[:-1]).any():
        order = np.argsort(pairs.detection, kind="stable")
        pairs = pairs.take(order)
    return replace(sample, detections=detections), pairs


def _together(sample: EvaluationInputs, parts: list[Predicted]) -> tuple[Predicted, Ints]:
    """The detections of all parts by `place`, and the number that each has among them."""
    place = np.concatenate([part.place for part in parts])
    image = np.concatenate([part.image for part in parts])
    box_area = np.concatenate([part.box_area for part in parts])
    instances = inst.concatenate([part.instances for part in parts])
    order = np.argsort(place, kind="stable")
    ordered = instances.take(order)
    masks = None
    if sample.task == "segment":
        masks = concatenate([part.masks for part in parts if part.masks is not None])
        masks = masks.take(order)
    detections = Predicted.of(ordered, image[order], box_area[order], masks)
    number = np.empty(len(order), np.int64)
    number[order[detections.place]] = np.arange(len(order))
    return detections, number


def _renumbered(pairs: Candidates, keep: Bools, number: Ints) -> Candidates:
    """The candidates of detections that are kept, by their new numbers."""
    new: Any = np.full(len(keep), -1, np.int32)
    new[keep] = number
    pairs = pairs.take(keep[pairs.detection])
    return replace(pairs, detection=new[pairs.detection])


def _joined(pairs: Candidates, more: Candidates) -> Candidates:
    """All candidates, still in two parts."""
    detection = np.concatenate([pairs.detection, more.detection])
    label = np.concatenate([pairs.label, more.label])
    iou = np.concatenate([pairs.iou, more.iou])
    return Candidates(detection, label, iou, WELL)


def _part(sample: EvaluationInputs, detections: Predicted, index: Ints) -> Predicted:
    """Some detections, not ranked anew, with `place` their own numbers."""
    part = Columns.take(detections, index)
    instances = _compared(sample, part.instances)
    return replace(part, instances=instances, place=index)


def _as_detections(sample: EvaluationInputs, label: Ints, conf: Floats, place: Ints) -> Predicted:
    """Labels as detections."""
    labels = sample.labels
    masks = labels.masks
    if masks is not None:
        masks = masks.take(label)
    instances = _compared(sample, labels.instances.take(label))
    instances = replace(instances, conf=conf)
    return Predicted(instances, labels.image[label], place, place, labels.box_area[label], masks)


def _compared(sample: EvaluationInputs, instances: Instances) -> Instances:
    """Only what the task compares, so that labels and detections have the same columns."""
    rings = None
    if sample.task == "obb":
        rings = instances.rings
    keypoints = None
    if sample.task == "pose":
        keypoints = instances.keypoints
    return replace(instances, rings=rings, keypoints=keypoints)
