"""The detections that are scored, as columns, whatever they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.datasets.index import Index
from tiler.errors import TilerError, did_you_mean
from tiler.evaluation.inputs import Predicted
from tiler.findings import Finding, inside, short
from tiler.formats import provenance, rle, tile_names
from tiler.geometry import boxes as box
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.masks import Masks
from tiler.interop import foreign
from tiler.options import ReadingOptions
from tiler.predictions import Detections, Frames, Predictions, Reading, open_predictions, sizing
from tiler.predictions.records import image_key
from tiler.scoring.ground_truth import ALL, PREDICTED, GroundTruthFiles, index_of

if TYPE_CHECKING:
    from tiler.predictions.sizing import Sizing
    from tiler.types import Bools, Floats, Ints, Task

AREAS = {  # pycocotools, loadRes
    "box": "width times height of the box, as the file's first entry has a bbox",
    "mask": "the mask's area, as the file's first entry has a segmentation and no bbox",
    "keypoints": "the extent of the keypoints, as the file's first entry has nothing else",
    "": "of the detection itself",
}
NORMALISED = 2.0  # px; no image's boxes all lie within so few


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """Predictions that were found, and for which images of which split they are.

    Attributes:
        kind: what they are, in words.
        split: the split of the ground truth.
        keys: of the predictions; `images` the number of each one's image in the split.
        reading: how rows are read.
        classes: the class of the labels that each of the predictions' is; None: the same.
        areas: coco or mask: what of an outline or a pose its area is of.
        predictions: files, which lie `where` (findings' paths are from there on); or `held` in
            memory.
    """

    kind: str
    task: Task
    split: str
    keys: list[int]
    images: list[int]
    findings: list[Finding]
    reading: Reading
    predictions: Predictions | None = None
    held: list[Instances] | None = None
    where: str = ""
    classes: Ints | None = None
    areas: str = "coco"

    @property
    def sizing(self) -> Sizing | None:
        """By what pycocotools sizes the detections of a JSON."""
        return None if self.predictions is None else self.predictions.sizing

    @property
    def area(self) -> str:
        """What the area of a detection is of, in words."""
        if self.task == "obb":
            return "the rectangle's area"
        if self.areas == "mask":
            return {"segment": "the mask's area", "pose": "the extent of the keypoints"}[self.task]
        if self.sizing is None:
            return "width times height of the box"
        return AREAS[self.sizing.by]

    @property
    def unreadable(self) -> str | None:
        """Why pycocotools cannot read the predictions, if they are a JSON that it cannot."""
        return None if self.sizing is None or self.task == "obb" else self.sizing.refused or None

    def renamed(self, instances: Instances) -> Instances:
        """The same by the classes of the labels."""
        return (
            instances
            if self.classes is None
            else replace(instances, class_id=self.classes[instances.class_id])
        )


def open_files(
    preds: Path,
    ground: GroundTruthFiles,
    split: str | None,
    options: ReadingOptions,
    before: ReadingOptions | None = None,
    areas: str = "coco",
) -> Opened:
    """The predictions at a path, for the full images of the ground truth.

    Args:
        before: how predictions on tiles are read, which merged ones were made of. Default: the
            same.

    Raises:
        TilerError: they cannot be read, or are for other images, or for tiles.
    """
    shown = str(preds)
    whole = _reading(options, ground)
    reading = replace(whole, exact=True, categories=ground.categories)
    on_tiles, classes, silent = _reading(before or options, ground), None, frozenset[str]()
    # what the options say of rows is said of those on tiles
    if os.path.isfile(preds / provenance.NAME):
        head = provenance.read_head(preds / provenance.NAME)
        if options.task not in ("auto", "detect", head.task):
            raise TilerError(
                f"--task {options.task}: {shown} was merged as {head.task}; --task detect scores "
                "its boxes"
            )
        split = split or PREDICTED
        silent = _silent(preds / provenance.NAME) if head.by_names else silent
        names = tuple(head.names) or ground.names
        classes = _classes(names, ground, shown)
        reading = Reading(head.task, names, ground.kpt_shape, exact=True)
        categories = ground.categories if names == ground.names else None
        on_tiles = replace(on_tiles, task=head.task, names=names, categories=categories)
    found = _predictions(preds, reading, ground)
    compared = _compared(options.task, found.task, ground)
    if compared == "detect" != found.task and found.kind.startswith("JSON"):
        # with the boxes as they are given
        found = open_predictions(preds, replace(reading, task="detect"))
    some = [i for i, key in enumerate(found.keys) if key not in silent]
    told = [found.keys[i] for i in some]
    chosen = _split(told, found.numeric, ground, split, shown)
    index = index_of(ground, chosen, found.numeric)
    findings = [replace(f, path=inside(f.path, str(preds))) for f in found.findings]
    places = _places(told, found.numeric, index)
    kept, images, unplaced = _placed(told, [found.counts[i] for i in some], places, chosen)
    keys = [some[i] for i in kept]
    findings += unplaced
    own = (found.kind, compared, chosen, keys, images, findings, on_tiles, found)
    return Opened(*own, where=str(preds), classes=classes, areas=areas)


def _reading(options: ReadingOptions, ground: GroundTruthFiles) -> Reading:
    how = (options.assume_conf, options.conf_first, options.preds_base)
    return Reading(options.task, ground.names, ground.kpt_shape, *how)


def _silent(path: Path) -> frozenset[str]:
    """Label files that a merge by names wrote for images without any predictions: they say nothing
    of a split.
    """
    found = [source for source in provenance.read_briefs(path) if not source.predicted]
    return frozenset(source.label for source in found if source.label is not None)


def _predictions(preds: Path, reading: Reading, ground: GroundTruthFiles) -> Predictions:
    """The predictions at a path, in the light of the labels where their rows may mean several
    things.

    Raises:
        TilerError: they cannot be read.
    """
    try:
        found = open_predictions(preds, reading)
    except TilerError:
        if reading.task == "auto":
            return open_predictions(preds, replace(reading, task=ground.task))
        # rows of outlines and poses have boxes too
        for task in ("auto", ground.task) if reading.task == "detect" else ():
            with suppress(TilerError):
                return open_predictions(preds, replace(reading, task=task))
        raise
    if (
        reading.task == "auto"
        and found.task != ground.task
        and {found.task, ground.task} == {"segment", "obb"}
    ):
        # outlines of four points
        return open_predictions(preds, replace(reading, task=ground.task))
    return found


def open_held(
    given: Mapping[str, Any],
    ground: GroundTruthFiles,
    split: str | None,
    options: ReadingOptions,
    areas: str = "coco",
) -> Opened:
    """Detections in memory, by image.

    Raises:
        TilerError: they are for other images, or no detections.
    """
    keys = [key for key in given if not getattr(given, "by_names", False) or key in given.predicted]  # type: ignore[attr-defined]
    held = [foreign(given[key]) for key in keys]
    names = [image_key(_named(key)) for key in keys]
    split = split or (PREDICTED if hasattr(given, "by_names") else None)
    chosen = _split(names, False, ground, split, "the detections")
    places = _places(names, False, index_of(ground, chosen))
    kept, images, findings = _placed(
        [_named(key) for key in keys], [len(part) for part in held], places, chosen
    )
    found: set[Task] = {part.task for part in held if len(part)}
    if len(found) > 1:
        raise TilerError(f"detections of one task are needed, got {', '.join(sorted(found))}")
    nothing: Task = ground.task if options.task == ground.task else "detect"
    task = _compared(options.task, next(iter(found), nothing), ground)
    by_name = _by_names([given[key] for key in keys], held, ground)
    own = (
        "detections in memory",
        task,
        chosen,
        kept,
        images,
        findings,
        Reading(names=ground.names),
    )
    return Opened(*own, held=held, classes=by_name, areas=areas)


def _by_names(
    given: Sequence[Any], held: Sequence[Instances], ground: GroundTruthFiles
) -> Ints | None:
    """Which class of the labels each of the detections' is, where they carry class names as
    Ultralytics' results do.

    Raises:
        TilerError: a detection is of a class whose name the labels have not.
    """
    names = next(
        (own for one in given if isinstance(own := getattr(one, "names", None), Mapping) and own),
        None,
    )
    if names is None or all(ground.names[k : k + 1] == (name,) for k, name in names.items()):
        return None
    used = sorted({int(k) for part in held for k in np.unique(part.class_id)} & names.keys())
    _classes(tuple(names[k] for k in used), ground, "the detections")
    place = np.arange(max([len(ground.names), *(k + 1 for k in used)]))
    place[used] = [ground.names.index(names[k]) for k in used]
    return place


def _named(key: Any) -> str:
    if not isinstance(key, str | Path):
        raise TilerError(f"detections in memory are by the names of their images, got {short(key)}")
    return str(key)


def _classes(names: tuple[str, ...], ground: GroundTruthFiles, shown: str) -> Ints | None:
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
            f"{shown}: merged with class {unknown[0]!r}, which {ground.file} has not{hint}"
        )
    return np.array([ground.names.index(name) for name in names], np.int64)


def _placed(
    keys: Sequence[str], counts: Sequence[int], places: Sequence[int | None], split: str
) -> tuple[list[int], list[int], list[Finding]]:
    """Which predictions are for an image, that image's number, and what is to be said of the
    others.
    """
    kept: list[int] = []
    taken: dict[int, str] = {}
    findings = []
    for i, (key, place) in enumerate(zip(keys, places, strict=True)):
        shown = key[:100]
        if place is None:
            what = f"no image of {split or 'the ground truth'}"
        elif place in taken:
            what = f"its image has predictions in {taken[place]} already"
        else:
            taken[place] = shown
            kept.append(i)
            continue
        findings.append(Finding("", "S01", f"{shown}: {what}; {counts[i]} rows left out"))
    return kept, list(taken), findings


def _compared(asked: str, task: Task, ground: GroundTruthFiles) -> Task:
    """What is compared: outlines, OBBs or keypoints where both have them, else boxes; boxes where
    these are asked for.

    Raises:
        TilerError: something else is asked for.
    """
    compared: Task = task if task == ground.task and asked != "detect" else "detect"
    if asked not in ("auto", compared):
        raise TilerError(
            f"--task {asked}: detections are {task}, labels {ground.task}, of which boxes can be "
            "compared"
        )
    return compared


def _places(keys: list[str], numeric: bool, index: Index) -> list[int | None]:
    """The image of each key; None for none."""
    numbers = index.numbered() if numeric else {}
    result = []
    for key in keys:
        place = index.place(key) or index.place(numbers.get(key, key))
        result.append(None if place is None else place[0])
    return result


def _split(
    keys: list[str], numeric: bool, ground: GroundTruthFiles, wanted: str | None, shown: str
) -> str:
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
        hint = (
            f"; they are for {' and '.join(elsewhere)}" if elsewhere else f" ({keys[0][:100]}, ...)"
        )
        where = f"{ground.file}{f', {wanted}' if wanted else ''}"
        raise TilerError(
            f"{shown}: none of {len(keys)} predictions is for an image of {where}{hint}"
        )
    fits = [split for split in covered if hits[split] == len(keys)]
    if fits:  # several, where splits are of the same images: the first is val
        return fits[0]
    if len(covered) > 1 and wanted != PREDICTED:
        raise TilerError(
            f"{shown}: predictions for images of {' and '.join(covered)}: say --split, one of "
            f"them or {ALL}"
        )
    return ",".join(covered) if covered else next(iter(hits))


def _hits(keys: list[str], numeric: bool, ground: GroundTruthFiles, split: str) -> int:
    """How many predictions are for images of a split."""
    return sum(
        place is not None for place in _places(keys, numeric, index_of(ground, split, numeric))
    )


def _require_no_tiles(keys: list[str], ground: GroundTruthFiles, shown: str) -> None:
    """Raises:
    TilerError: the predictions are for tiles of the images.
    """
    stems = {
        os.path.splitext(os.path.basename(key))[0]
        for names in ground.splits.values()
        for key in names
    }
    for key in keys[:1000]:
        for naming in ("tiler", "sahi", "split_dota"):
            said = tile_names.parse(os.path.basename(key), naming)
            if said is not None and said.stem in stems:
                raise TilerError(
                    f"{shown}: predictions on tiles ({key[:100]}): run tiler merge first, and "
                    "score its output"
                )


@dataclass(frozen=True, slots=True, eq=False)
class DetectionRows:
    """Detections as they were read.

    Attributes:
        image: `(D,)` of each.
        segmentations: of outlines in JSON, as COCO has them; they stand for rings.
        box_area: `(D,)` px² of boxes in JSON as given, NaN where there is none.
    """

    instances: Instances
    image: Ints
    segmentations: list[Any] | None = None
    box_area: Floats | None = None


def read(
    opened: Opened, sizes: Floats, classes: int
) -> tuple[Predicted, Predicted | None, list[Finding]]:
    """The detections as columns; of outlines and poses their boxes too; and what was noticed.

    Args:
        sizes: `(I, 2)` of the images.
        classes: their number.

    Raises:
        TilerError: they are not in pixels of the full images.
    """
    rows, findings = _rows(opened, sizes, classes)
    found, wrong = _found(rows, sizes, opened.task, opened.areas)
    boxes = _boxes(rows, found) if opened.task in ("segment", "pose") else None
    shown = found if boxes is None else boxes
    if len(shown):
        _require_full_frame(shown.instances, sizes[shown.image], opened)
    return found, boxes, findings + wrong


def _rows(opened: Opened, sizes: Floats, classes: int) -> tuple[DetectionRows, list[Finding]]:
    findings: list[Finding] = []
    given, box_area = None, None
    if opened.held is not None:
        parts = [opened.held[i] for i in opened.keys if len(opened.held[i])]
        image = np.repeat(opened.images, [len(opened.held[i]) for i in opened.keys]).astype(
            np.int64
        )
        instances = concatenate(parts) if parts else None
        if instances is not None:
            sound, findings = _judged(
                instances, classes if opened.classes is None else len(opened.classes)
            )
            instances, image = instances.take(sound), image[sound]
    else:
        assert opened.predictions is not None
        images = np.array(opened.images, np.int64)
        rects = np.concatenate([np.zeros((len(images), 2)), sizes[images]], axis=1)
        if opened.predictions.task != "detect" or not (rects[:, 2:] > 0).all():
            _require_sizes(rects, opened)
        names = [opened.predictions.keys[i] for i in opened.keys]
        read: Detections = opened.predictions.batch(opened.keys).read(
            Frames(names, rects, np.ones(len(names)))
        )
        instances, image = read.instances, images[read.tile]
        findings = [replace(f, path=inside(f.path, opened.where)) for f in read.findings]
        given, box_area = read.segmentations, read.box_area
    if instances is None or not len(instances):
        return DetectionRows(
            replace(empty(opened.task), conf=np.empty(0)), np.empty(0, np.int64)
        ), findings
    return DetectionRows(opened.renamed(instances), image, given, box_area), findings


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
    findings = [
        Finding("", code, f"{int(bad.sum())} detections {what}; left out")
        for bad, code, what in faults
        if bad.any()
    ]
    return known & likely & finite, findings


def _found(
    rows: DetectionRows, sizes: Floats, task: Task, areas: str
) -> tuple[Predicted, list[Finding]]:
    """Columns of what is compared, each with the area that decides its size bin.

    Args:
        areas: coco, what pycocotools' loadRes makes of a file; or mask, of the outline or the
            keypoints themselves.
    """
    instances, image = rows.instances, rows.image
    if task == "segment":
        masks, findings = _masks(rows, sizes)
        area = masks.area()
        if areas == "coco":
            sized = instances.area if rows.segmentations is not None else box.area(instances.boxes)
            area = np.where(np.isnan(sized), area, sized)
        made = replace(instances, rings=None, boxes=masks.bounds(), area=area)
        return Predicted.of(made, image, masks=masks), findings
    if task == "pose" and areas == "mask":
        assert instances.keypoints is not None
        extent = sizing.extents(instances.keypoints)
        return Predicted.of(
            replace(instances, area=(extent[:, 2:] - extent[:, :2]).prod(axis=1)), image
        ), []
    if task in ("obb", "pose"):
        return Predicted.of(instances, image), []
    boxes = Instances(instances.class_id, instances.boxes, conf=instances.conf, row=instances.row)
    if instances.task == "detect":
        boxes = replace(boxes, area=instances.area)
    return Predicted.of(
        boxes, image, boxes.area if rows.box_area is None else _filled(rows.box_area, boxes)
    ), []


def _masks(rows: DetectionRows, sizes: Floats) -> tuple[Masks, list[Finding]]:
    """The pixels of outlines, and what is wrong with those that have none."""
    frames = sizes[rows.image].astype(np.int64)
    if rows.segmentations is None:
        assert rows.instances.rings is not None
        return Masks.of_rings(rows.instances.rings, frames), []
    masks, wrong = rle.masks(rows.segmentations, frames)
    return masks, [
        Finding("", "D03", f"entry {rows.instances.row[i]}: {why}") for i, why in wrong.items()
    ]


def _boxes(rows: DetectionRows, found: Predicted) -> Predicted:
    """The boxes of outlines or poses: as they are given, else around their pixels; sized as
    pycocotools does.
    """
    instances = rows.instances
    boxes, area, box_area = instances.boxes, instances.area, rows.box_area
    if rows.segmentations is not None and box_area is not None and found.masks is not None:
        given = np.argsort(found.place)  # the masks in the order of the rows
        pixels = found.masks.take(given)
        absent = np.isnan(box_area)
        boxes = np.where(absent[:, None], pixels.bounds(), boxes)
        area = np.where(np.isnan(area), pixels.area(), area)
    elif instances.rings is not None:
        area = box.area(boxes)
    made = Instances(instances.class_id, boxes, conf=instances.conf, row=instances.row, area=area)
    return Predicted.of(made, rows.image, None if box_area is None else _filled(box_area, made))


def _filled(box_area: Floats, instances: Instances) -> Floats:
    """`(D,)` px² of boxes as given, measured where none is; negative sides count as such."""
    sides = instances.boxes[:, 2:] - instances.boxes[:, :2]
    return np.where(np.isnan(box_area), sides[:, 0] * sides[:, 1], box_area)


def _require_sizes(rects: Floats, opened: Opened) -> None:
    if not (rects[:, 2:] > 0).all() and not opened.kind.startswith("JSON"):
        raise TilerError(
            "the ground truth does not tell the images' width and height, which normalised "
            "predictions need"
        )


def _require_full_frame(instances: Instances, sizes: Floats, opened: Opened) -> None:
    """Raises:
    TilerError: normalised numbers taken for pixels, or pixels for normalised ones.
    """
    boxes = instances.boxes
    known = (sizes > 0).all(axis=1)
    if len(boxes) < 5 or not known.any():
        return
    if (
        (boxes <= NORMALISED).all()
        and (boxes[:, 2:] > boxes[:, :2]).any()
        and sizes.min() > 10 * NORMALISED
    ):
        raise TilerError(
            f"{opened.kind}: no box reaches past {boxes.max():g} px: normalised coordinates? "
            "expected pixels"
        )
    outside = ((boxes[:, :2] >= sizes) | (boxes[:, 2:] <= 0)).any(axis=1) & known
    if outside.mean() > 0.5:
        i = int(np.flatnonzero(outside)[0])
        raise TilerError(
            f"{opened.kind}: {int(outside.sum())} of {len(boxes)} boxes lie outside their image, "
            "such as "
            f"{', '.join(f'{v:g}' for v in boxes[i])} in one of {sizes[i, 0]:g} x {sizes[i, 1]:g} "
            "px: "
            "are these pixels where normalised coordinates are expected, or detections of other "
            "images?"
        )
