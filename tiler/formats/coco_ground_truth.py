"""The ground truth of a COCO JSON as columns, with everything that COCO's protocol uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats import annotated, box_layouts, coco, coco_values
from tiler.formats.annotated import Annotation
from tiler.formats.coco_values import FAR, InvalidAnnotation
from tiler.formats.json_numbers import dense, numbers
from tiler.geometry.columns import Columns
from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task

TASKS: tuple[Task, ...] = ("detect", "segment", "pose")
BRIEF = 64  # bytes; an outline in fewer may be an empty list

# by the index of an annotation that cannot be used: the code of the finding, and why
Problems = dict[int, tuple[str, str]]


ABSENT = msgspec.Raw(b"null")


class _ScoredAnnotation(Annotation, gc=False):
    """One annotation, its outline not yet decoded: outlines are most of the file, and few tasks
    use them.
    """

    # tuples of numbers are not tracked by the garbage collector
    bbox: tuple[Any, ...] | dict[str, Any] | str | float | bool | None = None
    segmentation: msgspec.Raw = ABSENT
    area: Any = None
    num_keypoints: Any = None

    @property
    def outlined(self) -> bool:
        if self.segmentation is ABSENT:
            return False
        raw = memoryview(self.segmentation)
        return raw.nbytes > BRIEF or (raw.tobytes() != b"null" and bool(self.given))

    @property
    def given(self) -> Any:
        return coco_values.plain(self.decoded)

    @property
    def decoded(self) -> Any:
        """The outline as it stands in the file; its bytes if they cannot be decoded."""
        try:
            return msgspec.json.decode(self.segmentation)
        except (UnicodeDecodeError, msgspec.DecodeError):
            # text that is not UTF-8, and a number beyond all bounds, are not seen when the file is
            # decoded around them
            return bytes(self.segmentation)


class _ScoredFile(msgspec.Struct):
    images: list[coco.CocoImage]
    annotations: list[_ScoredAnnotation]
    categories: list[coco.Category]


class ImageEntry(NamedTuple):
    """An image with its id as in the file; width and height are 0, and the name "", where the file
    has none."""

    id: int | str
    name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class CocoTruth:
    """The P images and N objects of a ground truth.

    Attributes:
        names: class names, categories in rising order of their ids.
        categories: the class index of each category id.
        images: in rising order of the ids, as in pycocotools. Whole numbers come before text.
        instances: the objects, by image, then place in the file; among them are crowds, and boxes
            of zero or negative size. `boxes` are x, y, x + w, y + h in px; `area` is the
            annotation's, or w * h where it has none; `row` is the index of the annotation in the
            file; no rings.
        image: `(N,)` int64, index into the images.
        crowd: `(N,)` bool, the annotation's `iscrowd`.
        ignore: `(N,)` bool, its own `ignore`.
        box_area: `(N,)` float64, w * h px² as given, negative where one side is.
        num_keypoints: `(N,)` int64: the annotation's, or the number of keypoints with a
            visibility; None if the task is not pose.
        segmentations: polygons or a mask of each object as COCO writes them, None where there are
            none; None if the task is not segment.
        task: detect, segment or pose.
        kpt_shape: number of keypoints and of values each, if annotations have any.
        findings: annotations and images that cannot be used.
    """

    names: tuple[str, ...]
    categories: dict[int, int]
    images: list[ImageEntry]
    instances: Instances
    image: Ints
    crowd: Bools
    ignore: Bools
    box_area: Floats
    num_keypoints: Ints | None
    segmentations: list[Any] | None
    task: Task
    kpt_shape: tuple[int, int] | None
    findings: list[Finding]


def read(file: Path, task: str = "auto", bbox: str = "auto") -> CocoTruth:
    """The ground truth in a COCO instances or keypoints JSON.

    Args:
        task: auto, detect, segment or pose.
        bbox: xywh, or xyxy for two corners; auto stops if the boxes look like corners.

    Raises:
        TilerError: not JSON, not COCO instances, or not of that task.

    >>> from tempfile import TemporaryDirectory
    >>> content = {"images": [{"id": 1}], "categories": [{"id": 7, "name": "car"}]}
    >>> entry = {"image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40], "area": 900}
    >>> content["annotations"] = [entry | {"iscrowd": 1}]
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "gt.json")
    ...     _ = file.write_bytes(msgspec.json.encode(content))
    ...     truth = read(file)
    >>> truth.images, truth.instances.boxes.tolist()
    ([ImageEntry(id=1, name='', width=0, height=0)], [[10.0, 20.0, 40.0, 60.0]])
    >>> truth.instances.area.tolist(), truth.box_area.tolist(), truth.crowd.tolist()
    ([900.0], [1200.0], [True])
    """
    content, findings = coco.decoded(file, _ScoredFile, file.name)
    annotations = content.annotations
    coco.require_keys(annotations, file)
    classes, names = coco.classes_of(content.categories, file)
    categories = _numbered(classes, file)
    kpt_shape = _kpt_shape(task, content)
    findings += coco.unused_keypoints(annotations, kpt_shape, file.name)
    decided = _task(task, annotations, kpt_shape, file)
    images, invalid = _images(content.images, file.name)
    findings += invalid

    problems: Problems = {}
    boxes = _boxes(annotations, problems, corners=bbox == "xyxy")
    table = _table(annotations, images, categories, boxes, _points(decided, kpt_shape), problems)
    if bbox == "auto":
        _require_layout(table, images, file)
    segmentations = None
    if decided == "segment":
        segmentations, others = _segmentations(annotations, problems)
        findings += coco.other_forms(others, file.name)
    findings += _findings(annotations, problems, file.name)

    valid = np.delete(np.arange(len(annotations)), list(problems))
    valid = valid[np.argsort(table.image[valid], kind="stable")]
    table = table.take(valid)
    if segmentations is not None:
        segmentations = _at(valid, segmentations)
    return CocoTruth(
        names=names,
        categories=categories,
        images=images,
        instances=table.instances(decided),
        image=table.image,
        crowd=table.crowd,
        ignore=table.ignore,
        box_area=table.box_area,
        num_keypoints=table.num_keypoints,
        segmentations=segmentations,
        task=decided,
        kpt_shape=kpt_shape,
        findings=condensed(findings),
    )


def _kpt_shape(task: str, content: _ScoredFile) -> tuple[int, int] | None:
    """As the file says; those of a minority count if they are asked for."""
    least = 0.0 if task == "pose" else 0.5
    return coco.kpt_shape_of(content.categories, content.annotations, least)


def _task(
    task: str,
    annotations: Sequence[_ScoredAnnotation],
    kpt_shape: tuple[int, int] | None,
    file: Path,
) -> Task:
    """The task asked for, or for auto the task of the annotations."""
    if task == "auto":
        return _of_objects(annotations, kpt_shape)
    if task not in TASKS:
        raise TilerError(
            f"{file}: COCO's ground truth is for auto, {', '.join(TASKS)}, got --task {task}"
        )
    if task == "pose" and kpt_shape is None:
        raise TilerError(f"{file}: no annotation has keypoints, got --task pose")
    return task


def _numbered(classes: Mapping[int | str, int], file: Path) -> dict[int, int]:
    """The class of each category id, which results refer to by a number."""
    categories = {}
    for id, class_id in classes.items():
        if isinstance(id, str):
            raise TilerError(f"{file}: category ids are whole numbers, got {short(id)}")
        categories[id] = class_id
    return categories


def _of_objects(
    annotations: Sequence[_ScoredAnnotation], kpt_shape: tuple[int, int] | None
) -> Task:
    if kpt_shape is not None:
        return "pose"
    if not any(a.outlined for a in annotations):
        return "detect"
    task, _ = annotated.task_of(a for a in annotations if not a.ignored)
    if task == "obb":  # which COCO does not know: it scores pixels
        return "segment"
    return task


def _images(images: Sequence[coco.CocoImage], label: str) -> tuple[list[ImageEntry], list[Finding]]:
    """The images by rising id; of several with the same id the first."""
    by_id: dict[int | str, ImageEntry] = {}
    findings: list[Finding] = []
    for image in images:
        id = coco.as_id(image.id)
        if id is None:
            message = f"image {short(image.id)}: no id that annotations could refer to"
            findings.append(Finding(label, "I01", message))
        elif id in by_id:
            message = f"image {short(image.id)} is listed twice; the first entry counts"
            findings.append(Finding(label, "P05", message))
        else:
            name = image.name if isinstance(image.name, str) else ""
            by_id[id] = ImageEntry(image.id, name, _side(image.width), _side(image.height))
    return sorted(by_id.values(), key=_numbers_first), findings


def _numbers_first(image: ImageEntry) -> tuple[bool, int | str]:
    id = coco.as_id(image.id)
    assert id is not None
    return isinstance(id, str), id


def _side(value: Any) -> int:
    """Width or height of an image; 0 for what cannot be one."""
    length = coco_values.number(value)
    if length is None or not 0 < length < FAR:
        return 0
    return int(length)


@dataclass(frozen=True, slots=True, eq=False)
class _AnnotationTable(Columns):
    """The values of N annotations, in the order of the file; zeros where a value is invalid.

    Attributes:
        image: `(N,)` int64, index into the images, -1 for none.
        class_id: `(N,)` int64, -1 for none.
        xywh: `(N, 4)` float64 px, as given.
        area: `(N,)` float64 px², the annotation's own, else that of its box.
        row: `(N,)` int64, index in the file.

    The others are as in `CocoTruth`.
    """

    image: Ints
    class_id: Ints
    xywh: Floats
    box_area: Floats
    area: Floats
    crowd: Bools
    ignore: Bools
    keypoints: Floats | None
    num_keypoints: Ints | None
    row: Ints

    def instances(self, task: Task) -> Instances:
        """The same as objects."""
        corner = self.xywh[:, :2]
        boxes = np.concatenate([corner, corner + self.xywh[:, 2:]], axis=1)
        return Instances(
            class_id=self.class_id,
            boxes=boxes,
            keypoints=self.keypoints,
            row=self.row,
            area=self.area,
            task=task,
        )


def _points(task: Task, kpt_shape: tuple[int, int] | None) -> int | None:
    """The number of keypoints to read, None if the task has none."""
    if task != "pose" or kpt_shape is None:
        return None
    return kpt_shape[0]


def _at(index: Ints, values: list[Any]) -> list[Any]:
    """The values at an index."""
    return [values[i] for i in index.tolist()]


def _table(
    annotations: Sequence[_ScoredAnnotation],
    images: Sequence[ImageEntry],
    categories: Mapping[int, int],
    xywh: Floats,
    points: int | None,
    problems: Problems,
) -> _AnnotationTable:
    """The values of all annotations, and what is wrong with some of them.

    Args:
        xywh: `(N, 4)` their boxes.
        points: number of keypoints; None if the task is not pose.
        problems: is added to.
    """
    image_ids = [a.image_id for a in annotations]
    table = _indices(images)
    image = _looked_up(image_ids, table, "L03", "no image has image_id", problems)
    _add_ids(problems, image, coco.some_ids(table))
    category_ids = [a.category_id for a in annotations]
    class_id = _looked_up(category_ids, categories, "L04", "no category has id", problems)
    keypoints = None
    num_keypoints = None
    if points is not None:
        keypoints = _keypoints(annotations, points, problems)
        num_keypoints = _counts(annotations, keypoints)
    box_area = xywh[:, 2] * xywh[:, 3]
    return _AnnotationTable(
        image=image,
        class_id=class_id,
        xywh=xywh,
        box_area=box_area,
        area=_areas(annotations, box_area, problems),
        crowd=_flags(annotations, "iscrowd", problems),
        ignore=_flags(annotations, "ignore", problems),
        keypoints=keypoints,
        num_keypoints=num_keypoints,
        row=np.arange(len(annotations)),
    )


def _boxes(annotations: Sequence[_ScoredAnnotation], problems: Problems, corners: bool) -> Floats:
    """`(N, 4)` x, y, width and height in px.

    Args:
        corners: whether bbox holds two corners.
    """
    xywh = _matrix([_box_of(a) for a in annotations], 4, coco_values.xywh, problems)
    if corners:
        given = np.fromiter((a.boxed for a in annotations), bool, len(annotations))
        xywh[given, 2:] -= xywh[given, :2]
    return xywh


def _require_layout(table: _AnnotationTable, images: Sequence[ImageEntry], file: Path) -> None:
    """Raises:
    TilerError: the boxes do not look like pixels, or like x, y, width and height.
    """
    sizes = np.array([entry[2:] for entry in images], np.float64).reshape(-1, 2)
    known = (table.xywh != 0).any(axis=1) & (table.image >= 0)
    if not known.any():
        return
    boxes = table.xywh[known]
    frames = sizes[table.image[known]]
    box_layouts.require_pixels(file, "COCO", boxes)
    declared = (frames > 0).all(axis=1)
    if declared.any():
        box_layouts.require_no_corners(file, boxes[declared], frames[declared])


def _box_of(annotation: _ScoredAnnotation) -> Any:
    """The bbox as it stands in the file; where there is none, that of the outline."""
    bbox = annotation.bbox
    if isinstance(bbox, tuple) and bbox:  # as nearly all are
        return bbox
    if annotation.boxed or not annotation.outlined:
        return bbox
    try:
        left, top, right, bottom = annotated.outline(annotation.given).bounds()[0].tolist()
    except (InvalidAnnotation, ValueError):
        return None
    return [left, top, right - left, bottom - top]


def _indices(images: Sequence[ImageEntry]) -> dict[int | str, int]:
    """The index of each image by its id."""
    indices = {}
    for index, image in enumerate(images):
        id = coco.as_id(image.id)
        assert id is not None
        indices[id] = index
    return indices


def _findings(
    annotations: Sequence[_ScoredAnnotation], problems: Problems, label: str
) -> list[Finding]:
    findings = []
    for index, (code, message) in sorted(problems.items()):
        annotations[index].index = index
        findings.append(Finding(label, code, f"{annotations[index].name}: {message}"))
    return findings


def _looked_up(
    ids: Sequence[Any],
    table: Mapping[Any, int],
    code: str,
    problem: str,
    problems: Problems,
) -> Ints:
    """`(N,)` the index that a table has for each id; -1 for an id that it does not have."""
    whole_numbers = set(map(type, ids)) <= {int}  # as nearly everywhere
    known = ids if whole_numbers else [*map(coco.as_id, ids)]
    indices = np.fromiter(map(table.get, known, repeat(-1)), np.int64, len(ids))
    for i in np.flatnonzero(indices < 0).tolist():
        problems.setdefault(i, (code, f"{problem} {short(ids[i])}"))
    return indices


def _add_ids(problems: Problems, image: Ints, known: str) -> None:
    """Say which ids the images have, where an annotation fits none."""
    for i in np.flatnonzero(image < 0).tolist():
        code, message = problems[i]
        problems[i] = code, message + known


def _matrix(
    values: Sequence[Any], width: int, checked: Callable[[Any], Floats], problems: Problems
) -> Floats:
    """`(N, width)` finite numbers; zeros for a value that is not that.

    Values are checked one by one only if they are not all plainly right.
    """
    plain = dense(values, width)
    if plain is not None and (np.abs(plain) < FAR).all():
        return plain
    result = np.zeros((len(values), width))
    for i, value in enumerate(values):
        if isinstance(value, tuple):
            value = list(value)
        try:
            result[i] = checked(value)
        except InvalidAnnotation as error:
            problems.setdefault(i, (error.code, error.message))
    return result


def _keypoints(annotations: Sequence[_ScoredAnnotation], points: int, problems: Problems) -> Floats:
    """`(N, K, 3)` x, y and visibility."""
    values = [a.keypoints or [0] * 3 * points for a in annotations]
    flat = _matrix(values, 3 * points, partial(_flat_triples, points=points), problems)
    return flat.reshape(-1, points, 3)


def _flat_triples(keypoints: Any, points: int) -> Floats:
    return coco_values.triples(keypoints, points).ravel()


def _areas(
    annotations: Sequence[_ScoredAnnotation], box_area: Floats, problems: Problems
) -> Floats:
    """`(N,)` the annotation's own `area`, else that of its box."""
    given = [annotation.area for annotation in annotations]
    if set(map(type, given)) <= {int, float}:
        plain = numbers(given)
        if plain is not None and (np.abs(plain) < FAR**2).all():
            return plain
    areas = box_area.copy()
    for i, annotation in enumerate(annotations):
        if annotation.area is None:
            continue
        area = coco_values.number(annotation.area)
        if area is not None and abs(area) < FAR**2:
            areas[i] = area
        else:
            found = short(annotation.area)
            problems.setdefault(i, ("L02", f"area is {found}, expected px²"))
    return areas


def _segmentations(
    annotations: Sequence[_ScoredAnnotation], problems: Problems
) -> tuple[list[Any], int]:
    """The outline of each annotation as COCO writes it, None for an empty one; and how many are
    written in another way.
    """
    result = []
    others = 0
    for i, annotation in enumerate(annotations):
        decoded = annotation.decoded
        given = coco_values.plain(decoded)
        if given is not None and not isinstance(given, list | dict):
            message = f"segmentation: expected polygons or a mask, got {short(given)}"
            problems.setdefault(i, ("L03", message))
        elif given is not None and given is not decoded:
            others += 1
        result.append(given)
    return result, others


def _counts(annotations: Sequence[_ScoredAnnotation], keypoints: Floats) -> Ints:
    """`(N,)` the annotation's `num_keypoints`, else the number of those with a visibility."""
    counts: Ints = (keypoints[..., 2] > 0).sum(axis=1)
    for i, annotation in enumerate(annotations):
        given = coco_values.number(annotation.num_keypoints)
        if given is not None and 0 <= given < FAR:
            counts[i] = given
    return counts


def _flags(annotations: Sequence[_ScoredAnnotation], name: str, problems: Problems) -> Bools:
    flags = np.zeros(len(annotations), bool)
    for i, value in enumerate(map(attrgetter(name), annotations)):
        if value == 0:  # as nearly all are
            continue
        try:
            flags[i] = coco_values.mark(value, name)
        except InvalidAnnotation as error:
            problems.setdefault(i, (error.code, error.message))
    return flags
