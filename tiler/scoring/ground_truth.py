"""The labels that detections are scored against: a dataset.yaml's split, or a COCO ground truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets import labels, mask_sets, opening, tasks
from tiler.datasets.dataset import Dataset, Source, label_path
from tiler.datasets.image_files import image_size
from tiler.datasets.image_names import by_name
from tiler.datasets.index import WHOLE, Index
from tiler.errors import SourceRefused, TilerError
from tiler.evaluation.inputs import GroundTruth
from tiler.findings import Finding
from tiler.formats import coco_ground_truth, rle, yolo
from tiler.formats.text_files import within
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.masks import Masks
from tiler.options import DatasetOptions, LabelOptions
from tiler.run.rejecting import refusal

if TYPE_CHECKING:
    from tiler.formats.coco_ground_truth import CocoTruth
    from tiler.types import Bools, Floats, Ints, Task

Size = tuple[int, int]

UPRIGHT_SLACK = 1.0  # px that a box may reach past the image it is for
ALL = "all"  # in place of a split: the images of all of them
PREDICTED = "predicted"  # of those that there are predictions for
AREAS = {"segment": "the outlines' area", "obb": "the rectangles' area"}  # else the box's


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruthFiles:
    """The ground truth, found and not yet read.

    Attributes:
        file: the dataset.yaml or JSON.
        names: class names.
        categories: of a COCO file, the class of each category id.
        splits: the images' paths by the name of the split, val and test first; a COCO file has one
            split without a name.
        root: the folder that the paths are relative to, if known.
    """

    file: Path
    names: tuple[str, ...]
    task: Task
    kpt_shape: tuple[int, int] | None
    splits: dict[str, list[str]]
    findings: list[Finding]
    root: Path | None
    dataset: Dataset | None = None
    coco: CocoTruth | None = None

    def keys(self, split: str) -> list[str]:
        """The images of a split, of several ("train,val"), or of all."""
        if self.coco is not None:  # in the order of their ids
            return self.splits[""]
        return sorted({key for name in self.split_names(split) for key in self.splits[name]})

    def split_names(self, split: str) -> list[str]:
        """The splits that `--split` names.

        Raises:
            TilerError: the dataset has no such split.
        """
        names = list(self.splits) if split == ALL else split.split(",")
        for name in names:
            if name not in self.splits:
                known = ", ".join(self.splits)
                raise TilerError(
                    f"--split {split}: {self.file} has {known}; choose from these, or {ALL}"
                )
        return names

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where images and labels lie."""
        if self.dataset is None:
            return ()
        images = self.dataset.folders
        beside = [Path(label_path(f"{folder}/x")).parent for folder in images]
        return (*images, *beside)

    @property
    def outside(self) -> list[Finding]:
        """Names in a COCO file that lead out of --images: these images are not opened."""
        if self.coco is None or self.root is None:
            return []
        findings = []
        for key in self.splits[""]:
            if within(key) is None:
                message = f"{key}: outside --images; not shown"
                findings.append(Finding(self.file.name, "I01", message))
        return findings

    @property
    def categories(self) -> dict[int, int] | None:
        if self.coco is None:
            return None
        return self.coco.categories


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """The labels of some images.

    Attributes:
        keys: the images' paths, as the labels number them.
        sizes: `(I, 2)` width and height in px.
        area: what the labels' area is measured on, in words.
        boxes: of outlines and poses, their boxes.
    """

    keys: list[str]
    sizes: Floats
    labels: GroundTruth
    findings: list[Finding]
    area: str
    boxes: GroundTruth | None = None


def find(
    data: Path, images: Path | None, task: str = "auto", options: LabelOptions | None = None
) -> GroundTruthFiles:
    """The ground truth at a path: a COCO JSON, or a dataset of any kind.

    Raises:
        TilerError: it cannot be used.
    """
    options = options or LabelOptions()
    if data.suffix.lower() == ".json" and not opening.is_labelme(data):
        return _find_coco(data, images, task, options)
    reading = DatasetOptions(frame=options.frame, bbox=options.bbox)
    dataset = opening.find(data, images, reading, needed=(), absent=True)
    if not dataset.sources:
        raise TilerError(f"{dataset.file}: no images in any split")
    mask_sets.require_rows(dataset)
    if not dataset.labelled:
        raise TilerError(f"{dataset.file}: images without labels, which nothing can be scored by")
    decided, _ = tasks.decide(dataset, "auto")
    return GroundTruthFiles(
        file=dataset.file,
        names=dataset.names,
        task=decided,
        kpt_shape=dataset.kpt_shape,
        splits=_splits(dataset),
        findings=dataset.findings,
        root=dataset.root,
        dataset=dataset,
    )


def _find_coco(
    file: Path, images: Path | None, task: str, options: LabelOptions
) -> GroundTruthFiles:
    if task not in coco_ground_truth.TASKS:
        task = "auto"
    content = coco_ground_truth.read(file, task, options.bbox)
    return GroundTruthFiles(
        file=file,
        names=content.names,
        task=content.task,
        kpt_shape=content.kpt_shape,
        splits={"": _coco_keys(content)},
        findings=content.findings,
        root=images,
        coco=content,
    )


def _splits(dataset: Dataset) -> dict[str, list[str]]:
    """The images of each split: val and test first, then by name."""
    keys: dict[str, list[str]] = {}
    for source in dataset.sources:
        keys.setdefault(source.split, []).append(source.key)
    order = sorted(keys, key=lambda name: (name != "val", name != "test", name))
    return {name: keys[name] for name in order}


def _coco_keys(content: CocoTruth) -> list[str]:
    """The images by their file names, or by their ids where they have none."""
    return [name or str(id) for id, name, _, _ in content.images]


def index_of(ground: GroundTruthFiles, split: str, numeric: bool = False) -> Index:
    """Where to look predictions up among the images of a split: by name, and for a COCO file by id
    too (by id first if `numeric`).
    """
    index = by_name(ground.keys(split), ground.file)
    if ground.coco is None:
        return index
    by_id = {}
    for i, (id, *_) in enumerate(ground.coco.images):
        by_id[str(id)] = (i, WHOLE)
    if numeric:
        index.places = index.places | by_id
    else:
        index.places = by_id | index.places
    return index


def read(
    ground: GroundTruthFiles, split: str, task: Task, sizes: Callable[[], Mapping[str, Size]] = dict
) -> LabelledImages:
    """The labels of a split.

    Args:
        task: what is compared; boxes of outlines where it is detect.
        sizes: gives those of images that cannot be opened, where they are known.

    Raises:
        TilerError: the size of an image is not known.
    """
    if ground.coco is not None:
        upright = _upright_sizes(ground.coco, sizes(), ground.file)
        return _of_coco(ground.coco, task, ground.file, upright)
    assert ground.dataset is not None
    return _of_yolo(ground, ground.dataset, split, task, sizes)


# --- of a COCO file


def _upright_sizes(content: CocoTruth, known: Mapping[str, Size], file: Path) -> Floats:
    """`(I, 2)` width and height in px of the images that detections were made on: as declared,
    but turned where EXIF turned the image that was cut.

    Args:
        known: sizes of the images that were cut, by their names.

    Raises:
        TilerError: labels reach out of an image whose sides are declared the other way round.
    """
    declared = np.array([entry[2:] for entry in content.images], np.float64).reshape(-1, 2)
    cut = declared.copy()
    for number, (_, name, *_) in enumerate(content.images):
        if name in known:
            cut[number] = known[name]
    swapped = (cut == declared[:, ::-1]).all(axis=1) & (cut != declared).any(axis=1)
    upright = np.where(swapped[:, None], cut, declared)
    limits = upright[content.image] + UPRIGHT_SLACK
    beyond = (content.instances.boxes[:, 2:] > limits).any(axis=1)
    wrong = np.flatnonzero(beyond & swapped[content.image])
    if len(wrong):
        name = content.images[content.image[wrong[0]]][1]
        raise TilerError(
            f"{file}: {name}: its annotations are for the stored image, the detections for the "
            f"one that EXIF turns upright; as --data, the folder {file.parent} is read with its "
            "images, and the annotations are turned"
        )
    return upright


def _of_coco(content: CocoTruth, task: Task, file: Path, sizes: Floats) -> LabelledImages:
    masks = None
    findings: list[Finding] = []
    if task == "segment":
        masks, findings = _coco_masks(content, sizes, file)
    ignored = content.crowd
    if task == "pose" and content.num_keypoints is not None:
        ignored = ignored | (content.num_keypoints == 0)
    keypoints = None
    if task == "pose":
        keypoints = content.instances.keypoints
    truth = GroundTruth(
        replace(content.instances, task=task, keypoints=keypoints),
        content.image,
        crowd=content.crowd,
        ignored=ignored,
        box_area=content.box_area,
        masks=masks,
        difficult=ignored | content.ignore,
    )
    boxes = None
    if task in ("segment", "pose"):
        boxes = _coco_boxes(content)
    area = "the annotations' area"
    return LabelledImages(_coco_keys(content), sizes, truth, findings, area, boxes)


def _coco_masks(content: CocoTruth, sizes: Floats, file: Path) -> tuple[Masks, list[Finding]]:
    """The pixels of outlines, and what is wrong with those that have none."""
    if content.segmentations is None:
        raise TilerError(f"{file}: outlines are predicted; the labels have none")
    frames = sizes[content.image].astype(np.int64)
    masks, wrong = rle.masks(content.segmentations, frames)
    findings = []
    for i, reason in wrong.items():
        message = f"annotation {content.instances.row[i]}: {reason}"
        findings.append(Finding(file.name, "L03", message))
    return masks, findings


def _coco_boxes(content: CocoTruth) -> GroundTruth:
    """The boxes of outlines or poses."""
    boxes = replace(content.instances, task="detect", keypoints=None)
    return GroundTruth(boxes, content.image, content.crowd, box_area=content.box_area)


# --- of a dataset


def _of_yolo(
    ground: GroundTruthFiles,
    dataset: Dataset,
    split: str,
    task: Task,
    known: Callable[[], Mapping[str, Size]],
) -> LabelledImages:
    images = _sources_of(dataset, ground.split_names(split))
    sizes = [_size(dataset.root, source, known) for source in images]
    parts, findings = _labels_of_all(ground, dataset, images, sizes)
    instances = joined(parts, ground.task, ground.kpt_shape)
    image = numbers_of(parts)
    size_array = np.array(sizes, np.float64).reshape(-1, 2)
    marks = _marks(images, parts)
    truth = _yolo_truth(instances, image, size_array, task, ground.file)
    return LabelledImages(
        keys=[source.key for source in images],
        sizes=size_array,
        labels=_marked(truth, marks),
        findings=findings,
        area=AREAS.get(task, "width times height of the box"),
        boxes=_yolo_boxes(instances, image, task, marks),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Marks:
    """Which labels are marked: `(N,)` each."""

    crowd: Bools
    ignored: Bools


def _marks(images: Sequence[Source], parts: Sequence[Instances]) -> _Marks:
    """The marks of annotations; label files have none."""
    crowd = []
    ignored = []
    for source, part in zip(images, parts, strict=True):
        by_row = {}
        if source.entry is not None:
            by_row = {annotation.index: annotation for annotation in source.entry.annotations}
        for row in part.row.tolist():
            annotation = by_row.get(row)
            crowd.append(annotation is not None and bool(annotation.iscrowd))
            ignored.append(annotation is not None and annotation.ignored)
    return _Marks(np.array(crowd, bool), np.array(ignored, bool))


def _marked(truth: GroundTruth, marks: _Marks) -> GroundTruth:
    """The same labels with their marks: crowds and others to be ignored."""
    ignored = marks.ignored if truth.ignored is None else truth.ignored | marks.ignored
    return replace(truth, crowd=marks.crowd, ignored=ignored, difficult=ignored)


def _labels_of_all(
    ground: GroundTruthFiles, dataset: Dataset, images: Sequence[Source], sizes: Sequence[Size]
) -> tuple[list[Instances], list[Finding]]:
    """The labels of each image, in its px, and what is wrong with any of them."""
    parts = []
    findings: list[Finding] = []
    for source, size in zip(images, sizes, strict=True):
        part, of_image = _labels_of(ground, dataset, source, size)
        parts.append(part)
        findings += of_image
    return parts, findings


def _yolo_boxes(instances: Instances, image: Ints, task: Task, marks: _Marks) -> GroundTruth | None:
    """The boxes of outlines or poses."""
    if task not in ("segment", "pose"):
        return None
    return _marked(GroundTruth(boxes_of(instances), image), marks)


def _sources_of(dataset: Dataset, splits: Sequence[str]) -> list[Source]:
    """The images of some splits, each once, by their keys."""
    by_key = {source.key: source for source in dataset.sources if source.split in splits}
    return [by_key[key] for key in sorted(by_key)]


def _labels_of(
    ground: GroundTruthFiles, dataset: Dataset, source: Source, size: Size
) -> tuple[Instances, list[Finding]]:
    """The labels of an image, in its px; none where they cannot be read."""
    kpt_shape = None
    if ground.task == "pose":
        kpt_shape = ground.kpt_shape
    spec = yolo.Spec(ground.task, len(ground.names), kpt_shape)
    try:
        file = labels.label_file(dataset.root, source)
        rows = labels.read(source, file, spec, *size, marked=True)
    except Exception as error:  # whatever it is, the labels of the others are read
        refused = refusal(error)
        finding = Finding(refused.path or source.key, refused.code, refused.message)
        return _none(ground.task, ground.kpt_shape), [finding]
    return rows.instances, rows.findings


def _yolo_truth(
    instances: Instances, image: Ints, sizes: Floats, task: Task, file: Path
) -> GroundTruth:
    masks = None
    if task == "segment":
        if instances.rings is None:
            raise TilerError(f"{file}: outlines are predicted; the labels are boxes")
        masks = Masks.of_rings(instances.rings, sizes[image].astype(np.int64))
    ignored: Bools = np.zeros(len(instances), bool)
    if task == "pose" and instances.keypoints is not None:
        visible = instances.keypoints[..., 2] > 0
        ignored = np.asarray(~visible.any(axis=1))
    if instances.task != task:
        instances = boxes_of(instances)
    return GroundTruth(instances, image, ignored=ignored, masks=masks)


def _none(task: Task, kpt_shape: tuple[int, int] | None) -> Instances:
    return empty(task, kpt_shape[0] if kpt_shape else 0)


def joined(parts: Sequence[Instances], task: Task, kpt_shape: tuple[int, int] | None) -> Instances:
    """All parts in one, as outlines if all of them are, else as their boxes."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return _none(task, kpt_shape)
    # a detect set in which some labels are outlines
    if any(part.rings is None for part in filled):
        filled = [replace(part, rings=None, area=part.area) for part in filled]
    return concatenate(filled)


def numbers_of(parts: Sequence[Instances]) -> Ints:
    """The number of its part, for each instance of all parts."""
    counts = np.array([len(part) for part in parts], np.int64)
    return np.repeat(np.arange(len(parts)), counts)


def boxes_of(instances: Instances) -> Instances:
    """Their boxes alone, whatever their task is."""
    return Instances(instances.class_id, instances.boxes, conf=instances.conf, row=instances.row)


def _size(root: Path, source: Source, known: Callable[[], Mapping[str, Size]]) -> Size:
    """Width and height of the upright image, from its header; else as the merged predictions know
    them.
    """
    try:
        return image_size(os.path.join(root, source.key))
    except SourceRefused as error:
        reason = error.message
    sizes = known()
    if source.key in sizes:
        return sizes[source.key]
    if source.entry is not None and source.entry.size is not None:
        return source.entry.size
    raise TilerError(f"{source.key}: its size is needed: {reason}")
