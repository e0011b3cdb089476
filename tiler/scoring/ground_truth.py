"""The labels that detections are scored against: a dataset.yaml's split, or a COCO ground truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tiler.datasets import labels, sources, tasks
from tiler.datasets.index import WHOLE, Index, TiledImage
from tiler.datasets.sources import Dataset, Source, opened
from tiler.errors import SourceRefused, TilerError
from tiler.evaluation.inputs import GroundTruth
from tiler.findings import Finding
from tiler.formats import coco_ground_truth, rle, yolo
from tiler.formats.text_files import within
from tiler.geometry.instances import Instances, concatenate, empty
from tiler.geometry.masks import Masks
from tiler.images import header
from tiler.run.rejecting import refusal

if TYPE_CHECKING:
    from tiler.formats.coco_ground_truth import CocoTruth
    from tiler.types import Bools, Floats, Task

Size = tuple[int, int]

ALL = "all"  # in place of a split: the images of all of them
PREDICTED = "predicted"  # of those that there are predictions for


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruthFiles:
    """What there is to score against, listed and not yet read.

    Attributes:
        file: the dataset.yaml or JSON.
        names: class names.
        categories: of a COCO file, the class of each category id.
        splits: by its name, the images' paths, val and test first; of a COCO file one split without
            a name.
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
        """The images of a split, of some ("train,val"), or of all."""
        if self.coco is not None:  # in the order of their ids
            return self.splits[""]
        return sorted({key for name in self.named(split) for key in self.splits[name]})

    def named(self, split: str) -> list[str]:
        """The splits that a word means.

        Raises:
            TilerError: the dataset has no such split.
        """
        names = list(self.splits) if split == ALL else split.split(",")
        for name in names:
            if name not in self.splits:
                have = ", ".join(self.splits)
                raise TilerError(
                    f"--split {split}: {self.file} has {have}; some of these, or {ALL}"
                )
        return names

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where images and labels lie."""
        images = () if self.dataset is None else self.dataset.folders
        return (*images, *(Path(sources.label_path(f"{folder}/x")).parent for folder in images))

    @property
    def outside(self) -> list[Finding]:
        """Names in a COCO file that lead out of --images: these images are not opened."""
        if self.coco is None or self.root is None:
            return []
        odd = [key for key in self.splits[""] if within(key) is None]
        return [
            Finding(self.file.name, "I01", f"{key}: outside --images; not shown") for key in odd
        ]

    @property
    def categories(self) -> dict[int, int] | None:
        return None if self.coco is None else self.coco.categories


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """The labels of some images.

    Attributes:
        keys: the images' paths, in the order of the numbers that labels have them by.
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


def find(data: Path, images: Path | None, task: str = "auto") -> GroundTruthFiles:
    """The ground truth that is meant.

    Raises:
        TilerError: it cannot be used.
    """
    if data.suffix.lower() == ".json":
        content = coco_ground_truth.read(data, task if task in coco_ground_truth.TASKS else "auto")
        keys = [name or str(id) for id, name, _, _ in content.images]
        return GroundTruthFiles(
            data,
            content.names,
            content.task,
            content.kpt_shape,
            {"": keys},
            content.findings,
            images,
            coco=content,
        )
    dataset = sources.find(data, images, needed=())
    if not dataset.sources:
        raise TilerError(f"{dataset.file}: no images in any split")
    decided, _ = tasks.decide(dataset, "auto")
    splits: dict[str, list[str]] = {}
    for source in dataset.sources:
        splits.setdefault(source.split, []).append(source.key)
    splits = {
        name: splits[name]
        for name in sorted(splits, key=lambda name: (name != "val", name != "test", name))
    }
    shape = dataset.kpt_shape
    return GroundTruthFiles(
        dataset.file,
        dataset.names,
        decided,
        shape,
        splits,
        dataset.findings,
        dataset.root,
        dataset=dataset,
    )


def index_of(ground: GroundTruthFiles, split: str, numeric: bool = False) -> Index:
    """Where to look predictions up, among the images of a split: by name, of a COCO file by id too
    (first if `numeric`).
    """
    none = np.empty((0, 4))
    images = [TiledImage(key, 0, 0, [], none, np.empty(0)) for key in ground.keys(split)]
    found = Index(images, "names of images", ground.file)
    if ground.coco is not None:
        ids = {str(id): (i, WHOLE) for i, (id, *_) in enumerate(ground.coco.images)}
        found.places = {**found.places, **ids} if numeric else {**ids, **found.places}
    return found


def read(
    ground: GroundTruthFiles, split: str, task: Task, sizes: Callable[[], Mapping[str, Size]] = dict
) -> LabelledImages:
    """The labels of a split.

    Args:
        task: what is compared; boxes of outlines where it is detect.
        sizes: tells those of images that cannot be opened, where they are known.

    Raises:
        TilerError: the size of an image is not known.
    """
    if ground.coco is not None:
        return _of_coco(ground.coco, task, str(ground.file))
    assert ground.dataset is not None
    return _of_yolo(ground, ground.dataset, split, task, sizes)


def _of_coco(content: CocoTruth, task: Task, shown: str) -> LabelledImages:
    keys = [name or str(id) for id, name, _, _ in content.images]
    sizes = np.array(
        [(width, height) for _, _, width, height in content.images], np.float64
    ).reshape(-1, 2)
    masks, findings = None, []
    if task == "segment":
        if content.segmentations is None:
            raise TilerError(f"{shown}: outlines are predicted; the labels have none")
        masks, wrong = rle.masks(content.segmentations, sizes[content.image].astype(np.int64))
        findings = [
            Finding(Path(shown).name, "L03", f"annotation {content.instances.row[i]}: {why}")
            for i, why in wrong.items()
        ]
    ignored = content.crowd
    if task == "pose" and content.num_keypoints is not None:
        ignored = ignored | (content.num_keypoints == 0)
    instances = replace(
        content.instances,
        task=task,
        keypoints=content.instances.keypoints if task == "pose" else None,
    )
    difficult = ignored | content.ignore
    truth = GroundTruth(
        instances, content.image, content.crowd, ignored, content.box_area, masks, difficult
    )
    boxes = None
    if task in ("segment", "pose"):
        plain = replace(content.instances, task="detect", keypoints=None)
        boxes = GroundTruth(plain, content.image, content.crowd, box_area=content.box_area)
    return LabelledImages(keys, sizes, truth, findings, "the annotations' area", boxes)


def _of_yolo(
    ground: GroundTruthFiles,
    dataset: Dataset,
    split: str,
    task: Task,
    known: Callable[[], Mapping[str, Size]],
) -> LabelledImages:
    spec = yolo.Spec(
        ground.task, len(ground.names), ground.kpt_shape if ground.task == "pose" else None
    )
    findings: list[Finding] = []
    parts: list[Instances] = []
    sizes: list[Size] = []
    names = ground.named(split)
    of_split = {source.key: source for source in dataset.sources if source.split in names}
    chosen = [of_split[key] for key in sorted(of_split)]
    for source in chosen:
        size = _size(dataset.root, source, known)
        sizes.append(size)
        try:
            file = labels.label_file(dataset.root, source, dataset.file.name)
            read = labels.read(source, file, spec, None, *size)
            findings += read.findings
            parts.append(read.instances)
        except Exception as error:  # whatever it is, the labels of the others are read
            refused = refusal(error)
            findings.append(Finding(refused.path or source.key, refused.code, refused.message))
            parts.append(empty(ground.task, ground.kpt_shape[0] if ground.kpt_shape else 0))
    image = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    shape = np.array(sizes, np.float64).reshape(-1, 2)
    instances = joined(parts, ground.task, ground.kpt_shape)
    masks = None
    if task == "segment":
        if instances.rings is None:
            raise TilerError(f"{ground.file}: outlines are predicted; the labels are boxes")
        masks = Masks.of_rings(instances.rings, shape[image].astype(np.int64))
    ignored: Bools = np.zeros(len(instances), bool)
    if task == "pose" and instances.keypoints is not None:
        ignored = np.asarray(~(instances.keypoints[..., 2] > 0).any(axis=1))
    area = {"segment": "the outlines' area", "obb": "the rectangles' area"}.get(
        task, "width times height of the box"
    )
    plain = boxes_of(instances)
    made = instances if task == instances.task else plain  # boxes of whatever the labels are
    boxes = GroundTruth(plain, image) if task in ("segment", "pose") else None
    return LabelledImages(
        [s.key for s in chosen],
        shape,
        GroundTruth(made, image, ignored=ignored, masks=masks),
        findings,
        area,
        boxes,
    )


def joined(parts: Sequence[Instances], task: Task, kpt_shape: tuple[int, int] | None) -> Instances:
    """All in one; outlines in place of boxes where some parts have them."""
    there = [part for part in parts if len(part)]
    if not there:
        return empty(task, kpt_shape[0] if kpt_shape else 0)
    # a detect set with some outlines, read as their boxes
    if any(part.rings is None for part in there):
        there = [replace(part, rings=None, area=part.area) for part in there]
    return concatenate(there)


def boxes_of(instances: Instances) -> Instances:
    """Their boxes alone, of whatever task they are."""
    return Instances(instances.class_id, instances.boxes, conf=instances.conf, row=instances.row)


def _size(root: Path, source: Source, known: Callable[[], Mapping[str, Size]]) -> Size:
    """Width and height of the upright image, from its header; else as the merged predictions have
    it.
    """
    try:
        with opened(os.path.join(root, source.key)) as file:
            return header.read(file).size
    except SourceRefused as error:
        why = error.message
    except (OSError, ValueError, IndexError, OverflowError, ArithmeticError):
        why = "the header is cut off, or points outside the file"
    sizes = known()
    if source.key in sizes:
        return sizes[source.key]
    raise TilerError(f"{source.key}: its size is needed: {why}")
