"""The detections that are scored, as columns, whatever they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.datasets.index import Index
from tiler.errors import TilerError, did_you_mean
from tiler.evaluation.sample import Found
from tiler.findings import Finding, inside, printable, short
from tiler.foreign import foreign
from tiler.formats import provenance, rle, tile_names
from tiler.formats.predictions import Detections, Frames, Predictions, Reading, open_predictions
from tiler.formats.predictions.records import picture_key
from tiler.instances import Instances, concatenate, empty
from tiler.masks import Masks
from tiler.options import ReadingOptions
from tiler.scoring.truth import ALL, PREDICTED, Ground, index_of

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task

NORMALISED = 2.0  # px; no picture's boxes all lie within so few


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """Predictions that were found, and for which pictures of which split they are.

    Attributes:
        kind: what they are, in words.
        split: the split of the ground truth.
        keys: of the predictions; `pictures` the number of each one's picture in the split.
        reading: how rows are read.
        classes: the class of the labels that each of the predictions' is; None: the same.
        predictions: files, which lie `where` (findings' paths are from there on); or `held` in memory.
    """

    kind: str
    task: Task
    split: str
    keys: list[int]
    pictures: list[int]
    findings: list[Finding]
    reading: Reading
    predictions: Predictions | None = None
    held: list[Instances] | None = None
    where: str = ""
    classes: Ints | None = None

    def renamed(self, instances: Instances) -> Instances:
        """The same by the classes of the labels."""
        return instances if self.classes is None else replace(instances, class_id=self.classes[instances.class_id])


def open_files(
    preds: Path, ground: Ground, split: str | None, options: ReadingOptions, before: ReadingOptions | None = None
) -> Opened:
    """The predictions at a path, for the full pictures of the ground truth.

    Args:
        before: how predictions on tiles are read, which merged ones were made of. Default: the same.

    Raises:
        TilerError: they cannot be read, or are for other pictures, or for tiles.
    """
    shown = printable(str(preds))
    whole = _reading(options, ground)
    reading = replace(whole, exact=True, categories=ground.categories)
    on_tiles, classes, silent = _reading(before or options, ground), None, frozenset[str]()
    if os.path.isfile(preds / provenance.NAME):  # what the options say of rows is said of those on tiles
        head = provenance.read_head(preds / provenance.NAME)
        split = split or PREDICTED
        silent = _silent(preds / provenance.NAME) if head.by_names else silent
        names = tuple(head.names) or ground.names
        classes = _classes(names, ground, shown)
        reading = Reading(head.task, names, ground.kpt_shape, exact=True)
        on_tiles = replace(on_tiles, names=names, categories=ground.categories if names == ground.names else None)
    task = reading.task
    try:
        found = open_predictions(preds, reading)
    except TilerError:
        if task != "auto":
            raise
        found = open_predictions(preds, replace(reading, task=ground.task))  # where rows may mean several things
    if task == "auto" and found.task != ground.task and {found.task, ground.task} == {"segment", "obb"}:
        found = open_predictions(preds, replace(reading, task=ground.task))  # outlines of four points
    some = [i for i, key in enumerate(found.keys) if key not in silent]
    told = [found.keys[i] for i in some]
    chosen = _split(told, found.numeric, ground, split, shown)
    index = index_of(ground, chosen, found.numeric)
    findings = [replace(f, path=inside(f.path, str(preds))) for f in found.findings]
    places = _places(told, found.numeric, index)
    kept, pictures, unplaced = _placed(told, [found.counts[i] for i in some], places, chosen)
    keys = [some[i] for i in kept]
    findings += unplaced
    compared = _compared(found.task, ground)
    return Opened(found.kind, compared, chosen, keys, pictures, findings, on_tiles, found, where=str(preds), classes=classes)


def _reading(options: ReadingOptions, ground: Ground) -> Reading:
    how = (options.assume_conf, options.conf_first, options.preds_base)
    return Reading(options.task, ground.names, ground.kpt_shape, *how)


def _silent(path: Path) -> frozenset[str]:
    """Label files that a merge by names wrote for images without any predictions: they say nothing of a split."""
    found = [source for source in provenance.read_briefs(path) if not source.predicted]
    return frozenset(source.label for source in found if source.label is not None)


def open_held(given: Mapping[str, Any], ground: Ground, split: str | None) -> Opened:
    """Detections in memory, by picture.

    Raises:
        TilerError: they are for other pictures, or no detections.
    """
    keys = [key for key in given if not getattr(given, "by_names", False) or key in given.predicted]  # type: ignore[attr-defined]
    held = [foreign(given[key]) for key in keys]
    names = [picture_key(_named(key)) for key in keys]
    split = split or (PREDICTED if hasattr(given, "by_names") else None)
    chosen = _split(names, False, ground, split, "the detections")
    places = _places(names, False, index_of(ground, chosen))
    kept, pictures, findings = _placed([_named(key) for key in keys], [len(part) for part in held], places, chosen)
    found: set[Task] = {part.task for part in held if len(part)}
    if len(found) > 1:
        raise TilerError(f"detections of one task are needed, got {', '.join(sorted(found))}")
    task = _compared(next(iter(found), "detect"), ground)
    reading = Reading(names=ground.names)
    by_name = _by_names([given[key] for key in keys], held, ground)
    return Opened("detections in memory", task, chosen, kept, pictures, findings, reading, held=held, classes=by_name)


def _by_names(given: Sequence[Any], held: Sequence[Instances], ground: Ground) -> Ints | None:
    """Which class of the labels each of the detections' is, where they carry class names as Ultralytics' results do.

    Raises:
        TilerError: a detection is of a class whose name the labels have not.
    """
    names = next((own for one in given if isinstance(own := getattr(one, "names", None), Mapping) and own), None)
    if names is None or all(ground.names[k : k + 1] == (name,) for k, name in names.items()):
        return None
    used = sorted({int(k) for part in held for k in np.unique(part.class_id)} & names.keys())
    _classes(tuple(names[k] for k in used), ground, "the detections")
    place = np.arange(max([len(ground.names), *(k + 1 for k in used)]))
    place[used] = [ground.names.index(names[k]) for k in used]
    return place


def _named(key: Any) -> str:
    if not isinstance(key, str | Path):
        raise TilerError(f"detections in memory are by the names of their pictures, got {short(key)}")
    return str(key)


def _classes(names: tuple[str, ...], ground: Ground, shown: str) -> Ints | None:
    """Which class of the labels each of the predictions' is, by its name; None for the same.

    Raises:
        TilerError: the labels have no class of a name.
    """
    if names == ground.names:
        return None
    unknown = [name for name in names if name not in ground.names]
    if unknown:
        hint = did_you_mean(unknown[0], ground.names)
        raise TilerError(
            f"{shown}: merged with class {printable(unknown[0])!r}, which {printable(str(ground.file))} has not{hint}"
        )
    return np.array([ground.names.index(name) for name in names], np.int64)


def _placed(
    keys: Sequence[str], counts: Sequence[int], places: Sequence[int | None], split: str
) -> tuple[list[int], list[int], list[Finding]]:
    """Which predictions are for a picture, that picture's number, and what is to be said of the others."""
    kept: list[int] = []
    taken: dict[int, str] = {}
    findings = []
    for i, (key, place) in enumerate(zip(keys, places, strict=True)):
        shown = printable(key)[:100]
        if place is None:
            what = f"no picture of {split or 'the ground truth'}"
        elif place in taken:
            what = f"its picture has predictions in {taken[place]} already"
        else:
            taken[place] = shown
            kept.append(i)
            continue
        findings.append(Finding("", "S01", f"{shown}: {what}; {counts[i]} rows left out"))
    return kept, list(taken), findings


def _compared(task: Task, ground: Ground) -> Task:
    """What is compared: outlines, OBBs or keypoints where both have them, else boxes."""
    return task if task == ground.task else "detect"


def _places(keys: list[str], numeric: bool, index: Index) -> list[int | None]:
    """The picture of each key; None for none."""
    numbers = index.numbered() if numeric else {}
    result = []
    for key in keys:
        place = index.place(key) or index.place(numbers.get(key, key))
        result.append(None if place is None else place[0])
    return result


def _split(keys: list[str], numeric: bool, ground: Ground, wanted: str | None, shown: str) -> str:
    """The split that predictions are for.

    Raises:
        TilerError: none, or several.
    """
    if ground.coco is not None:
        if wanted not in (None, PREDICTED):
            raise TilerError("--split goes with a dataset.yaml; a COCO ground truth is one")
        hits = {"": _hits(keys, numeric, ground, "")}
    elif wanted in (None, PREDICTED):
        hits = {split: _hits(keys, numeric, ground, split) for split in ground.splits}
    else:
        hits = {wanted: _hits(keys, numeric, ground, wanted)}
    covered = [split for split, count in hits.items() if count]
    if keys and not covered:
        _require_no_tiles(keys, ground, shown)
        elsewhere = [split for split in ground.splits if _hits(keys, numeric, ground, split)]
        hint = f"; they are for {' and '.join(elsewhere)}" if elsewhere else f" ({printable(keys[0])[:100]}, ...)"
        where = f"{printable(str(ground.file))}{f', {wanted}' if wanted else ''}"
        raise TilerError(f"{shown}: none of {len(keys)} predictions is for a picture of {where}{hint}")
    fits = [split for split in covered if hits[split] == len(keys)]
    if fits:  # several, where splits are of the same pictures: the first is val
        return fits[0]
    if len(covered) > 1 and wanted != PREDICTED:
        raise TilerError(f"{shown}: predictions for pictures of {' and '.join(covered)}: say --split, one of them or {ALL}")
    return ",".join(covered) if covered else next(iter(hits))


def _hits(keys: list[str], numeric: bool, ground: Ground, split: str) -> int:
    """How many predictions are for pictures of a split."""
    return sum(place is not None for place in _places(keys, numeric, index_of(ground, split, numeric)))


def _require_no_tiles(keys: list[str], ground: Ground, shown: str) -> None:
    """Raises:
    TilerError: the predictions are for tiles of the pictures.
    """
    stems = {os.path.splitext(os.path.basename(key))[0] for names in ground.splits.values() for key in names}
    for key in keys[:1000]:
        for naming in ("tiler", "sahi", "split_dota"):
            said = tile_names.parse(os.path.basename(key), naming)
            if said is not None and said.stem in stems:
                raise TilerError(
                    f"{shown}: predictions on tiles ({printable(key)[:100]}): run tiler merge first, and score its output"
                )


def read(opened: Opened, sizes: Floats, classes: int) -> tuple[Found, list[Finding]]:
    """The detections as columns, and what was noticed.

    Args:
        sizes: `(I, 2)` of the pictures.
        classes: their number.

    Raises:
        TilerError: they are not in pixels of the full pictures.
    """
    findings: list[Finding] = []
    if opened.held is not None:
        parts = [opened.held[i] for i in opened.keys if len(opened.held[i])]
        image = np.repeat(opened.pictures, [len(opened.held[i]) for i in opened.keys]).astype(np.int64)
        instances, given = (concatenate(parts) if parts else None), None
        if instances is not None:
            sound, findings = _judged(instances, classes if opened.classes is None else len(opened.classes))
            instances, image = instances.take(sound), image[sound]
    else:
        assert opened.predictions is not None
        pictures = np.array(opened.pictures, np.int64)
        rects = np.concatenate([np.zeros((len(pictures), 2)), sizes[pictures]], axis=1)
        if opened.predictions.task != "detect" or not (rects[:, 2:] > 0).all():
            _require_sizes(rects, opened)
        names = [opened.predictions.keys[i] for i in opened.keys]
        read: Detections = opened.predictions.batch(opened.keys).read(Frames(names, rects, np.ones(len(names))))
        instances, image = read.instances, pictures[read.tile]
        findings = [replace(f, path=inside(f.path, opened.where)) for f in read.findings]
        given = read.segmentations
    if instances is None or not len(instances):
        none, nowhere = replace(empty(opened.task), conf=np.empty(0)), np.empty(0, np.int64)
        assert none.conf is not None
        return _found(none, nowhere, None, sizes, opened.task, findings), findings
    instances = opened.renamed(instances)
    _require_full_frame(instances, sizes[image], opened)
    return _found(instances, image, given, sizes, opened.task, findings), findings


def _judged(instances: Instances, classes: int) -> tuple[Bools, list[Finding]]:
    """Which detections in memory can be meant, as those of files are judged."""
    if instances.conf is None:
        raise TilerError("detections need a confidence each")
    likely = (instances.conf >= 0) & (instances.conf <= 1)
    known = (instances.class_id >= 0) & (instances.class_id < classes)
    finite = np.asarray(np.isfinite(instances.boxes).all(axis=1))
    faults = (
        (~known, "D04", f"of a class that is none of {classes}"),
        (~likely, "D08", "of a confidence outside 0 to 1"),
        (~finite, "D02", "of coordinates that are not finite"),
    )
    findings = [Finding("", code, f"{int(bad.sum())} detections {what}; left out") for bad, code, what in faults if bad.any()]
    return known & likely & finite, findings


def _found(
    instances: Instances, image: Ints, given: list[Any] | None, sizes: Floats, task: Task, findings: list[Finding]
) -> Found:
    """Columns of what is compared, with COCO's area of a detection."""
    if task == "segment":
        frames = sizes[image].astype(np.int64)
        if given is not None:
            masks, wrong = rle.masks(given, frames)
            findings += [Finding("", "D03", f"entry {instances.row[i]}: {why}") for i, why in wrong.items()]
        else:
            assert instances.rings is not None
            masks = Masks.of_rings(instances.rings, frames)
        area = masks.area()
        return Found.of(replace(instances, rings=None, boxes=masks.bounds(), area=area), image, masks=masks)
    if task == "pose" and len(instances):
        assert instances.keypoints is not None  # pycocotools, loadRes: the extent of the keypoints
        low, high = instances.keypoints[..., :2].min(axis=1), instances.keypoints[..., :2].max(axis=1)
        return Found.of(replace(instances, area=(high - low).prod(axis=1)), image)
    if task in ("obb", "pose"):
        return Found.of(instances, image)
    plain = instances.task == "detect"
    boxes = Instances(instances.class_id, instances.boxes, conf=instances.conf, row=instances.row)
    if plain:
        boxes = replace(boxes, area=instances.area)
    return Found.of(boxes, image, boxes.area)


def _require_sizes(rects: Floats, opened: Opened) -> None:
    if not (rects[:, 2:] > 0).all() and not opened.kind.startswith("JSON"):
        raise TilerError("the ground truth does not tell the pictures' width and height, which normalised predictions need")


def _require_full_frame(instances: Instances, sizes: Floats, opened: Opened) -> None:
    """Raises:
    TilerError: normalised numbers taken for pixels, or pixels for normalised ones.
    """
    boxes = instances.boxes
    known = (sizes > 0).all(axis=1)
    if len(boxes) < 5 or not known.any():
        return
    if (boxes <= NORMALISED).all() and (boxes[:, 2:] > boxes[:, :2]).any() and sizes.min() > 10 * NORMALISED:
        raise TilerError(f"{opened.kind}: no box reaches past {boxes.max():g} px: normalised coordinates? expected pixels")
    outside = ((boxes[:, :2] >= sizes) | (boxes[:, 2:] <= 0)).any(axis=1) & known
    if outside.mean() > 0.5:
        i = int(np.flatnonzero(outside)[0])
        raise TilerError(
            f"{opened.kind}: {int(outside.sum())} of {len(boxes)} boxes lie outside their picture, such as "
            f"{', '.join(f'{v:g}' for v in boxes[i])} in one of {sizes[i, 0]:g} x {sizes[i, 1]:g} px: "
            "are these pixels where normalised coordinates are expected, or detections of other pictures?"
        )
