"""Which predictions are scored: how they are read, and for which images of which split they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, inside, short
from tiler.formats import provenance, tile_names
from tiler.geometry.instances import Instances
from tiler.interop import foreign, names_of
from tiler.options import ReadingOptions
from tiler.options.classes import listed
from tiler.predictions import Predictions, Reading, open_predictions
from tiler.predictions.class_map import NONE, ClassMap, both, resolved
from tiler.predictions.records import image_key
from tiler.scoring.ground_truth import ALL, PREDICTED, GroundTruthFiles, index_of

if TYPE_CHECKING:
    from tiler.predictions.sizing import Sizing
    from tiler.types import Ints, Task

AREAS = {  # pycocotools, loadRes
    "box": "width times height of the box, as the file's first entry has a bbox",
    "mask": "the mask's area, as the file's first entry has a segmentation and no bbox",
    "keypoints": "the extent of the keypoints, as the file's first entry has nothing else",
    "": "of the detection itself",
}
OWN_AREAS = {"segment": "the mask's area", "pose": "the extent of the keypoints"}
MEMORY = "detections in memory"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """Predictions that were found, and for which images of which split they are.

    Attributes:
        kind: what they are, in words.
        split: the split of the ground truth.
        keys: numbers of the predictions' keys; `images` the number of each one's image in the
            split.
        reading: how predictions on tiles are read.
        classes: the class of the labels for each class of the predictions; None: the same.
        kept: the classes that are scored; None: all.
        areas: coco or mask: what the area of an outline or a pose is.
        boxes: what their coordinates count in, as the user says.
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
    boxes: str = "auto"
    kept: frozenset[int] | None = None

    @property
    def sizing(self) -> Sizing | None:
        """By what pycocotools sizes the detections of a JSON."""
        if self.predictions is None:
            return None
        return self.predictions.sizing

    @property
    def area(self) -> str:
        """What the area of a detection is, in words."""
        if self.task == "obb":
            return "the rectangle's area"
        if self.areas == "mask":
            return OWN_AREAS[self.task]
        if self.sizing is None:
            return "width times height of the box"
        return AREAS[self.sizing.by]

    @property
    def unreadable(self) -> str | None:
        """Why pycocotools cannot read the predictions, if they are a JSON that it cannot."""
        if self.sizing is None or self.task == "obb":
            return None
        return self.sizing.refused or None

    def renamed(self, instances: Instances) -> Instances:
        """The same by the classes of the labels."""
        if self.classes is None:
            return instances
        return replace(instances, class_id=self.classes[instances.class_id])


# --- files


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
        before: how the predictions on tiles are read that these were merged from. Default: the
            same.

    Raises:
        TilerError: they cannot be read, or are for other images, or for tiles.
    """
    plan = _ReadingPlan.of(preds, ground, options, before or options)
    if plan.merged:
        split = split or PREDICTED
    opened, task = _opened(preds, plan.reading, options.task, ground)
    placed = _placed(_named(opened, plan.silent), ground, split, str(preds))
    own = [replace(f, path=inside(f.path, str(preds))) for f in opened.findings]
    return Opened(
        kind=opened.kind,
        task=task,
        split=placed.split,
        keys=placed.keys,
        images=placed.images,
        findings=own + placed.findings,
        reading=plan.on_tiles,
        predictions=opened,
        where=str(preds),
        classes=plan.classes,
        areas=areas,
        boxes=options.boxes,
        kept=_kept(options, ground),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _ReadingPlan:
    """How the predictions at a path are read.

    Attributes:
        reading: of the path's own rows.
        on_tiles: of the predictions on tiles that these were merged from.
        merged: whether they were.
        classes: the class of the labels for each class of the predictions; None: the same.
        silent: keys of label files that a merge by names wrote for images without predictions.
    """

    reading: Reading
    on_tiles: Reading
    merged: bool = False
    classes: Ints | None = None
    silent: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, preds: Path, ground: GroundTruthFiles, options: ReadingOptions, before: ReadingOptions
    ) -> _ReadingPlan:
        """By the options. Merged predictions are read as merge wrote them: there the options are
        about the rows on tiles.
        """
        on_tiles = _reading(before, ground)
        path = provenance.of_output(preds)
        if path is None:
            class_map = class_map_of(options, ground.names, ground.names)
            on_tiles = replace(on_tiles, class_map=class_map)
            reading = replace(
                _reading(options, ground),
                exact=True,
                categories=ground.categories,
                class_map=class_map,
            )
            return cls(reading, on_tiles)
        head = provenance.read_head(path)
        if options.task not in ("auto", "detect", head.task):
            raise TilerError(
                f"--task {options.task}: {preds} was merged as {head.task}; --task detect scores "
                "its boxes"
            )
        names = tuple(head.names) or ground.names
        before_map = class_map_of(before, on_tiles.names, names)
        own_map = class_map_of(options, names, ground.names)
        if own_map is not None:
            own_map = own_map.by_id(names)
        silent: frozenset[str] = frozenset()
        if head.by_names:
            silent = _silent(path)
        categories = None
        if names == ground.names:
            categories = ground.categories
        classes = None
        if own_map is None or own_map.ids is None:
            classes = _classes(names, ground, str(preds))
        return cls(
            Reading(head.task, names, ground.kpt_shape, exact=True, class_map=own_map),
            replace(
                on_tiles,
                task=head.task,
                names=names,
                categories=categories,
                class_map=both(before_map, own_map),
            ),
            merged=True,
            classes=classes,
            silent=silent,
        )


def _kept(options: ReadingOptions, ground: GroundTruthFiles) -> frozenset[int] | None:
    """The classes that --classes keeps, of labels and detections; None: all."""
    class_map = ClassMap.of(options.classes, "", None, ground.names)
    return None if class_map is None else class_map.kept


def class_map_of(
    options: ReadingOptions, own: tuple[str, ...] | None, dataset: tuple[str, ...]
) -> ClassMap | None:
    """What --classes and --map-classes say. `own`: names of the predictions' classes."""
    return ClassMap.of(options.classes, resolved(options.map_classes), own, dataset)


def _reading(options: ReadingOptions, ground: GroundTruthFiles) -> Reading:
    return Reading(
        options.task,
        ground.names,
        ground.kpt_shape,
        options.assume_conf,
        options.conf_first,
        options.preds_base,
        boxes=options.boxes,
    )


def _silent(path: Path) -> frozenset[str]:
    """Label files that a merge by names wrote for images without any predictions. They do not tell
    which split was predicted.
    """
    labels = set()
    for source in provenance.read_briefs(path):
        if not source.predicted and source.label is not None:
            labels.add(source.label)
    return frozenset(labels)


def _opened(
    preds: Path, reading: Reading, asked: str, ground: GroundTruthFiles
) -> tuple[Predictions, Task]:
    """The predictions at a path, and the task by which they are compared."""
    opened = _predictions(preds, reading, ground)
    task = _compared(asked, opened.task, ground)
    if task == "detect" != opened.task and opened.kind.startswith("JSON"):
        # with the boxes as they are given
        opened = open_predictions(preds, replace(reading, task="detect"))
    return opened, task


def _predictions(preds: Path, reading: Reading, ground: GroundTruthFiles) -> Predictions:
    """The predictions at a path; where their rows are ambiguous, they are read as the labels are.

    Raises:
        TilerError: they cannot be read.
    """
    as_labels = replace(reading, task=ground.task)
    try:
        opened = open_predictions(preds, reading)
    except TilerError:
        if reading.task == "auto":
            return open_predictions(preds, as_labels)
        if reading.task == "detect":  # rows of outlines and poses have boxes too
            for other in (replace(reading, task="auto"), as_labels):
                with suppress(TilerError):
                    return open_predictions(preds, other)
        raise
    # four points are an outline or an OBB
    ambiguous = {opened.task, ground.task} == {"segment", "obb"}
    if reading.task == "auto" and ambiguous:
        return open_predictions(preds, as_labels)
    return opened


# --- in memory


def open_held(
    given: Mapping[str, Any],
    ground: GroundTruthFiles,
    split: str | None,
    options: ReadingOptions,
    areas: str = "coco",
) -> Opened:
    """Detections in memory, by image.

    Raises:
        TilerError: they are for other images, or are not detections.
    """
    keys = _predicted_keys(given)
    objects = [given[key] for key in keys]
    held = _from_base(objects, list(map(foreign, objects)), options.preds_base, ground)
    own_names = _own_names(objects, ground)
    class_map = class_map_of(options, own_names, ground.names)
    left_out: list[Finding] = []
    if class_map is not None:
        held, left_out = _mapped(held, class_map.by_id(own_names))
    shown = [_image_name(key) for key in keys]
    if hasattr(given, "by_names"):  # what tiler.merge returned
        split = split or PREDICTED
    counts = [len(part) for part in held]
    named = _NamedPredictions(
        keys=[image_key(name) for name in shown],
        shown=shown,
        counts=counts,
        numbers=list(range(len(keys))),
    )
    placed = _placed(named, ground, split, "the detections")
    task = _task_of(held, options.task, ground)
    classes = None
    if class_map is None or class_map.ids is None:
        classes = _classes_by_name(objects, held, ground)
    return Opened(
        kind=MEMORY,
        task=task,
        split=placed.split,
        keys=placed.keys,
        images=placed.images,
        findings=placed.findings + left_out,
        reading=Reading(names=ground.names),
        held=held,
        classes=classes,
        areas=areas,
        boxes=options.boxes,
        kept=_kept(options, ground),
    )


def _own_names(given: Sequence[Any], ground: GroundTruthFiles) -> tuple[str, ...]:
    """Names of the detections' classes: those that they carry, else the labels'."""
    names = _class_names(given)
    if not names:
        return ground.names
    count = max(names, default=-1) + 1
    return tuple(str(names.get(class_id, class_id)) for class_id in range(count))


def _mapped(
    held: Sequence[Instances], class_map: ClassMap
) -> tuple[list[Instances], list[Finding]]:
    """Detections with the labels' classes; those of other classes are left out.

    Raises:
        TilerError: all are.
    """
    mapped = []
    count = 0
    given = [part.class_id for part in held if len(part)]
    if given:
        class_map.require_any(np.concatenate(given).astype(np.float64), "the detections")
    for part in held:
        class_id = class_map.apply(part.class_id.astype(np.float64))
        kept = class_id != NONE
        count += len(part) - int(kept.sum())
        mapped.append(part.changed(class_id=class_id.astype(np.int64)).take(kept))
    return mapped, left_out_note(count)


def left_out_note(count: int) -> list[Finding]:
    """A finding about detections of other classes, if there are any."""
    if not count:
        return []
    return [Finding("", "D17", f"{count} detections of other classes left out")]


def _predicted_keys(given: Any) -> list[Any]:
    """The images. Of what a merge by names returned, those with predictions: it does not know
    whether a detector saw the others.
    """
    if not getattr(given, "by_names", False):
        return list(given)
    return [key for key in given if key in given.predicted]


def _image_name(key: Any) -> str:
    if not isinstance(key, str | Path):
        raise TilerError(f"detections in memory are by the names of their images, got {short(key)}")
    return str(key)


def _task_of(held: Sequence[Instances], asked: str, ground: GroundTruthFiles) -> Task:
    """The task by which detections in memory are compared."""
    tasks: set[Task] = {part.task for part in held if len(part)}
    if len(tasks) > 1:
        raise TilerError(f"detections of one task are needed, got {', '.join(sorted(tasks))}")
    task: Task = "detect"
    if tasks:
        task = tasks.pop()
    elif asked == ground.task:
        task = ground.task
    return _compared(asked, task, ground)


def _classes_by_name(
    given: Sequence[Any], held: Sequence[Instances], ground: GroundTruthFiles
) -> Ints | None:
    """The class of the labels for each class of the detections, where these carry class names as
    Ultralytics' results do. None: the same.

    Raises:
        TilerError: the labels do not have the class of a detection.
    """
    names = _class_names(given)
    own = dict(enumerate(ground.names))
    if names.items() <= own.items():
        return None
    present = {int(k) for part in held for k in np.unique(part.class_id)}
    used = sorted(present & names.keys())
    used_names = tuple(names[k] for k in used)
    _classes(used_names, ground, "the detections")
    largest = max(used, default=-1)
    classes = np.arange(max(len(ground.names), largest + 1))
    classes[used] = [ground.names.index(name) for name in used_names]
    return classes


def _class_names(given: Sequence[Any]) -> Mapping[int, str]:
    """The class names that the detections carry.

    Raises:
        TilerError: two of them name a class differently.
    """
    names: dict[int, str] = {}
    for result in given:
        for class_id, name in names_of(result).items():
            known = names.setdefault(class_id, name)
            if known != name:
                raise TilerError(
                    f"the detections: class {class_id} is {short(known)} in some and {short(name)} "
                    "in others: of two models?"
                )
    return names


def _from_base(
    given: Sequence[Any], held: list[Instances], base: str, ground: GroundTruthFiles
) -> list[Instances]:
    """The detections, with the labels of torchvision's dicts as classes from 0 on. There 0 is the
    background, but people train without one too.

    Raises:
        TilerError: labels that could count from 0 and from 1.
    """
    dicts = [i for i, value in enumerate(given) if isinstance(value, Mapping)]
    present = {int(k) for i in dicts for k in np.unique(held[i].class_id)}
    if not present:
        return held
    first = _first_label(present, base, len(ground.names))
    result = list(held)
    for i in dicts:
        result[i] = replace(held[i], class_id=held[i].class_id - first)
    return result


def _first_label(present: set[int], base: str, classes: int) -> int:
    """The label of the first class."""
    if base in ("0", "1"):
        return int(base)
    if base != "auto":
        raise TilerError(f"preds_base {base}: for labels of dicts it is 0 or 1")
    if 0 in present:
        return 0
    if max(present) >= classes:
        return 1
    raise TilerError(
        f"labels {min(present)} to {max(present)} of {classes} classes may count from 0, or from 1 "
        "as torchvision's do, whose 0 is the background: say preds_base=0 or preds_base=1"
    )


# --- classes and task


def _classes(names: tuple[str, ...], ground: GroundTruthFiles, shown: str) -> Ints | None:
    """The class of the labels for each class of the predictions, by name. None: the same.

    Raises:
        TilerError: the labels have no class of a name.
    """
    if names == ground.names:
        return None
    unknown = [name for name in names if name not in ground.names]
    if unknown:
        hint = did_you_mean(unknown[0], ground.names)
        raise TilerError(
            f"{shown}: merged with class {unknown[0]!r}, which {ground.file} does not have{hint}; "
            f"the detections have {listed(names)}, the labels {listed(ground.names)}: "
            "--map-classes pairs them, such as "
            f"{unknown[0]}={ground.names[0] if ground.names else 0}"
        )
    return np.array([ground.names.index(name) for name in names], np.int64)


def _compared(asked: str, task: Task, ground: GroundTruthFiles) -> Task:
    """What is compared: outlines, OBBs or keypoints if both sides have them, else boxes; boxes if
    these are asked for.

    Raises:
        TilerError: something is asked for that one side does not have.
    """
    compared: Task = "detect"
    if task == ground.task and asked != "detect":
        compared = task
    if asked not in ("auto", compared):
        raise TilerError(
            f"--task {asked}: detections are {task}, labels {ground.task}, of which boxes can be "
            "compared"
        )
    return compared


# --- the images that predictions are for


@dataclass(frozen=True, slots=True)
class _NamedPredictions:
    """Predictions by the names of their images. Lists are of equal length.

    Attributes:
        keys: names without suffix.
        shown: the names in messages.
        counts: rows of each.
        numbers: which of the predictions each is.
        numeric: keys are the image ids of a JSON, not names.
    """

    keys: list[str]
    shown: list[str]
    counts: list[int]
    numbers: list[int]
    numeric: bool = False


def _named(opened: Predictions, silent: frozenset[str]) -> _NamedPredictions:
    """All but those that say nothing of a split."""
    keys = []
    counts = []
    numbers = []
    for i, key in enumerate(opened.keys):
        if key not in silent:
            keys.append(key)
            counts.append(opened.counts[i])
            numbers.append(i)
    return _NamedPredictions(keys, keys, counts, numbers, opened.numeric)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Which predictions are for an image of a split, and findings about the others.

    Attributes:
        keys: the number of each.
        images: that of its image in the split.
    """

    split: str
    keys: list[int]
    images: list[int]
    findings: list[Finding]


def _placed(
    named: _NamedPredictions, ground: GroundTruthFiles, wanted: str | None, shown: str
) -> _Placed:
    """The image of each prediction. Of several for one image only the first counts.

    Raises:
        TilerError: they are for no split, or for several.
    """
    places_in = cache(partial(_places, named, ground))
    split = _split(named, ground, wanted, shown, places_in)
    keys = []
    taken: dict[int, str] = {}  # the prediction of each image
    findings = []
    elsewhere = _elsewhere(named, ground, split, places_in)
    others = []
    for i, place in enumerate(places_in(split)):
        name = named.shown[i][:100]
        if place is None and elsewhere[i]:
            others.append(i)
            continue
        if place is None:
            what = f"no image of {split or 'the ground truth'}"
        elif place in taken:
            what = f"its image has predictions in {taken[place]} already"
        else:
            taken[place] = name
            keys.append(named.numbers[i])
            continue
        findings.append(Finding("", "S01", f"{name}: {what}; {named.counts[i]} rows left out"))
    if others:
        findings.append(_of_other_splits(named, others, split))
    return _Placed(split, keys, list(taken), findings)


PlacesIn = Callable[[str], list[int | None]]  # `_places` of a split


def _elsewhere(
    named: _NamedPredictions, ground: GroundTruthFiles, split: str, places_in: PlacesIn
) -> list[bool]:
    """Which predictions are for images of the dataset's other splits."""
    scored = ground.split_names(split) if ground.coco is None else list(ground.splits)
    others = ",".join(name for name in ground.splits if name not in scored)
    if not others:
        return [False] * len(named.keys)
    return [place is not None for place in places_in(others)]


def _of_other_splits(named: _NamedPredictions, others: list[int], split: str) -> Finding:
    rows = sum(named.counts[i] for i in others)
    example = named.shown[others[0]][:100]
    return Finding(
        "",
        "S04",
        f"{len(others)} images ({example}, ...) with {rows} rows are of other splits than {split}; "
        f"left out, as --split {ALL} would not",
    )


def _places(named: _NamedPredictions, ground: GroundTruthFiles, split: str) -> list[int | None]:
    """The number of each one's image in a split; None for none."""
    index = index_of(ground, split, named.numeric)
    names = {}
    if named.numeric:
        names = index.numbered()
    result = []
    for key in named.keys:
        place = index.place(key) or index.place(names.get(key, key))
        image, _ = place or (None, None)
        result.append(image)
    return result


def _split(
    named: _NamedPredictions,
    ground: GroundTruthFiles,
    wanted: str | None,
    shown: str,
    places_in: PlacesIn,
) -> str:
    """The split that predictions are for.

    Raises:
        TilerError: none, or several.
    """
    hits = {split: _hits(places_in(split)) for split in _candidate_splits(ground, wanted)}
    covered = [split for split, count in hits.items() if count]
    if named.keys and not covered:
        _require_no_tiles(named.keys, ground, shown)
        _no_image_of(named, ground, wanted, shown)
    whole = [split for split in covered if hits[split] == len(named.keys)]
    if whole:  # several, where splits are of the same images: the first is val
        return whole[0]
    if len(covered) > 1 and wanted != PREDICTED:
        raise TilerError(
            f"{shown}: predictions for images of {' and '.join(covered)}: choose with --split, one "
            f"of them or {ALL}"
        )
    if covered:
        return ",".join(covered)
    return next(iter(hits))


def _candidate_splits(ground: GroundTruthFiles, wanted: str | None) -> list[str]:
    if ground.coco is not None:
        if wanted not in (None, PREDICTED):
            raise TilerError("--split goes with a dataset.yaml; a COCO ground truth is one")
        return [""]
    if wanted is None or wanted == PREDICTED:
        return list(ground.splits)
    return [wanted]


def _hits(places: list[int | None]) -> int:
    """How many predictions are for images of a split."""
    return len(places) - places.count(None)


def _no_image_of(
    named: _NamedPredictions, ground: GroundTruthFiles, wanted: str | None, shown: str
) -> NoReturn:
    elsewhere = [split for split in ground.splits if _hits(_places(named, ground, split))]
    if elsewhere:
        hint = f"; they are for {' and '.join(elsewhere)}"
    else:
        hint = f" ({named.keys[0][:100]}, ...)"
    where = str(ground.file)
    if wanted:
        where += f", {wanted}"
    raise TilerError(
        f"{shown}: none of {len(named.keys)} predictions is for an image of {where}{hint}"
    )


def _require_no_tiles(keys: list[str], ground: GroundTruthFiles, shown: str) -> None:
    """Raises:
    TilerError: the predictions are for tiles of the images.
    """
    stems: set[str] = set()
    for names in ground.splits.values():
        for name in names:
            stem, _ = os.path.splitext(os.path.basename(name))
            stems.add(stem)
    for key in keys[:1000]:
        for naming in ("tiler", "sahi", "split_dota"):
            tile = tile_names.parse(os.path.basename(key), naming)
            if tile is not None and tile.stem in stems:
                raise TilerError(
                    f"{shown}: predictions on tiles ({key[:100]}): run tiler merge first, and "
                    "score its output"
                )
