"""The ground truth of a COCO JSON as columns, with all that COCO's protocol looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats import coco, coco_values
from tiler.formats.json_numbers import dense
from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task

TASKS: tuple[Task, ...] = ("detect", "segment", "pose")
BRIEF = 64  # bytes; an outline in fewer may be an empty list
FAR = 1e9  # px; no image is that large


class _ScoredAnnotation(coco.Annotation, gc=False):
    """One annotation, its outline not yet decoded: most of the file are outlines, which few tasks
    look at.
    """

    # the collector forgets tuples of numbers
    bbox: tuple[Any, ...] | dict[str, Any] | str | float | bool | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    area: Any = None
    num_keypoints: Any = None

    @property
    def outlined(self) -> bool:
        return memoryview(self.segmentation).nbytes > BRIEF or bool(self.given)

    @property
    def given(self) -> Any:
        return msgspec.json.decode(self.segmentation)


class _ScoredFile(msgspec.Struct):
    images: list[coco.CocoImage]
    annotations: list[_ScoredAnnotation]
    categories: list[coco.Category]


@dataclass(frozen=True, slots=True, eq=False)
class CocoTruth:
    """The P images and N objects of a ground truth.

    Attributes:
        names: class names, categories in rising order of their ids.
        categories: the class index of each category id.
        images: id, file name, width and height in px (0, and a name "", where the file has none),
            in rising order of the ids: pycocotools' order. Whole numbers come before words.
        instances: the objects, crowds and boxes without size too, by image, then place in the file.
            `boxes` are x, y, x + w, y + h in px; `area` is the annotation's, or w * h where it has
            none; `row` is the index of the annotation in the file; no rings.
        image: `(N,)` int64, index into the images.
        crowd: `(N,)` bool, the annotation's `iscrowd`.
        ignore: `(N,)` bool, its own `ignore`.
        box_area: `(N,)` float64, w * h px² as given, negative where one side is.
        num_keypoints: `(N,)` int64, of pose: the annotation's, or the number of those with a
            visibility; or None.
        segmentations: of segment: polygons or a mask of each object as COCO has them, None where it
            has none; or None.
        task: detect, segment or pose.
        kpt_shape: number of keypoints and of values each, where annotations have any.
        findings: annotations and images that cannot be used.
    """

    names: tuple[str, ...]
    categories: dict[int, int]
    images: list[tuple[int | str, str, int, int]]
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


def read(file: Path, task: str = "auto") -> CocoTruth:
    """The ground truth in a COCO instances or keypoints JSON.

    Args:
        task: auto, detect, segment or pose.

    Raises:
        TilerError: not JSON, not COCO instances, or not of that task.

    >>> from tempfile import TemporaryDirectory
    >>> entry = {"id": 5, "image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40], "area": 900, "iscrowd": 1}
    >>> content = {"images": [{"id": 1}], "annotations": [entry], "categories": [{"id": 7, "name": "car"}]}
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "gt.json")
    ...     _ = file.write_bytes(msgspec.json.encode(content))
    ...     truth = read(file)
    >>> truth.names, truth.images, truth.instances.boxes.tolist()
    (('car',), [(1, '', 0, 0)], [[10.0, 20.0, 40.0, 60.0]])
    >>> truth.instances.area.tolist(), truth.box_area.tolist(), truth.crowd.tolist()
    ([900.0], [1200.0], [True])
    """
    shown, findings = str(file), list[Finding]()
    content = coco.decoded(file, _ScoredFile)
    label, annotations = file.name, content.annotations
    categories, names = coco.classes_of(content.categories, shown)
    kpt_shape = coco.kpt_shape_of(content.categories, annotations)
    meant = _task(task, annotations, kpt_shape, shown)
    images = _images(content.images, label, findings)

    faults: dict[int, tuple[str, str]] = {}
    places = {id: i for i, (id, *_) in enumerate(images)}
    image = _places(annotations, "image_id", places, "L03", "no image has image_id", faults)
    class_id = _places(annotations, "category_id", categories, "L04", "no category has id", faults)
    boxes = _matrix([a.bbox for a in annotations], 4, coco_values.xywh, faults)
    keypoints = None
    if meant == "pose" and kpt_shape is not None:
        count = kpt_shape[0]
        given = [a.keypoints or [0] * 3 * count for a in annotations]
        keypoints = _matrix(
            given, 3 * count, lambda value: coco_values.triples(value, count).ravel(), faults
        ).reshape(-1, count, 3)
    box_area = boxes[:, 2] * boxes[:, 3]
    area = _areas(annotations, box_area, faults)
    segmentations = _segmentations(annotations, faults) if meant == "segment" else None

    for index, (code, message) in sorted(faults.items()):
        annotations[index].index = index
        findings.append(Finding(label, code, f"{annotations[index].name}: {message}"))
    row = np.delete(np.arange(len(annotations)), list(faults))
    row = row[np.argsort(image[row], kind="stable")]
    instances = Instances(
        class_id=class_id[row],
        boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)[row],
        keypoints=None if keypoints is None else keypoints[row],
        row=row,
        area=area[row],
        task=meant,
    )
    return CocoTruth(
        names=names,
        categories=categories,
        images=images,
        instances=instances,
        image=image[row],
        crowd=_flags(annotations, "iscrowd")[row],
        ignore=_flags(annotations, "ignore")[row],
        box_area=box_area[row],
        num_keypoints=None if keypoints is None else _counts(annotations, keypoints)[row],
        segmentations=None if segmentations is None else [segmentations[i] for i in row.tolist()],
        task=meant,
        kpt_shape=kpt_shape,
        findings=condensed(findings),
    )


def _task(
    task: str,
    annotations: Sequence[_ScoredAnnotation],
    kpt_shape: tuple[int, int] | None,
    shown: str,
) -> Task:
    if task == "auto":
        return coco.task_of(annotations, kpt_shape)
    if task not in TASKS:
        raise TilerError(
            f"{shown}: COCO's ground truth is for auto, {', '.join(TASKS)}, got --task {task}"
        )
    if task == "pose" and kpt_shape is None:
        raise TilerError(f"{shown}: no annotation has keypoints, got --task pose")
    return next(known for known in TASKS if known == task)


def _images(
    images: Sequence[coco.CocoImage], label: str, findings: list[Finding]
) -> list[tuple[int | str, str, int, int]]:
    """Sorted by id; of several with one id the first."""
    found: dict[int | str, tuple[int | str, str, int, int]] = {}
    for image in images:
        if not isinstance(image.id, int | str) or isinstance(image.id, bool):
            findings.append(
                Finding(label, "I01", f"image {short(image.id)}: no id that annotations could name")
            )
        elif image.id in found:
            findings.append(
                Finding(
                    label, "P05", f"image {short(image.id)} is listed twice; the first entry counts"
                )
            )
        else:
            name = image.file_name if isinstance(image.file_name, str) else ""
            found[image.id] = image.id, name, _side(image.width), _side(image.height)
    return sorted(found.values(), key=lambda image: (isinstance(image[0], str), image[0]))


def _side(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < FAR else 0


def _places(
    annotations: Sequence[_ScoredAnnotation],
    name: str,
    table: Mapping[Any, int],
    code: str,
    said: str,
    faults: dict[int, tuple[str, str]],
) -> Ints:
    """`(N,)` what a table has for a value of each annotation."""
    given = [*map(attrgetter(name), annotations)]
    found = [
        table.get(value, -1) if isinstance(value, int | float | str) else -1 for value in given
    ]
    result = np.fromiter(found, np.int64, len(given))
    for i in np.flatnonzero(result < 0).tolist():
        faults.setdefault(i, (code, f"{said} {short(given[i])}"))
    return result


def _matrix(
    values: Sequence[Any],
    width: int,
    checked: Callable[[Any], Floats],
    faults: dict[int, tuple[str, str]],
) -> Floats:
    """`(N, width)` finite numbers, one by one where they are not all plainly that; zeros for a
    fault.
    """
    plain = dense(values, width)
    if plain is not None and (np.abs(plain) < FAR).all():
        return plain
    result = np.zeros((len(values), width))
    for i, value in enumerate(values):
        try:
            result[i] = checked([*value] if isinstance(value, tuple) else value)
        except coco_values.InvalidAnnotation as bad:
            faults.setdefault(i, (bad.code, bad.message))
    return result


def _areas(
    annotations: Sequence[_ScoredAnnotation], measured: Floats, faults: dict[int, tuple[str, str]]
) -> Floats:
    result = measured.copy()
    for i, area in enumerate(map(attrgetter("area"), annotations)):
        if isinstance(area, int | float) and abs(area) < FAR**2:
            result[i] = area
        elif area is not None:
            faults.setdefault(i, ("L02", f"area is {short(area)}, expected px²"))
    return result


def _segmentations(
    annotations: Sequence[_ScoredAnnotation], faults: dict[int, tuple[str, str]]
) -> list[Any]:
    result = []
    for i, annotation in enumerate(annotations):
        given = annotation.given or None
        if given is not None and not isinstance(given, list | dict):
            faults.setdefault(
                i, ("L03", f"segmentation: expected polygons or a mask, got {short(given)}")
            )
        result.append(given)
    return result


def _counts(annotations: Sequence[_ScoredAnnotation], keypoints: Floats) -> Ints:
    labelled = (keypoints[..., 2] > 0).sum(axis=1)
    given = [a.num_keypoints if isinstance(a.num_keypoints, int) else -1 for a in annotations]
    counts = np.array([count if 0 <= count < FAR else -1 for count in given], np.int64)
    return np.where(counts < 0, labelled, counts)


def _flags(annotations: Sequence[_ScoredAnnotation], name: str) -> Bools:
    return np.fromiter(map(bool, map(attrgetter(name), annotations)), bool, len(annotations))
