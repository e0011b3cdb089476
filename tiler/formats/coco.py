"""COCO instances JSON: boxes, polygons, masks, keypoints, crowds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, condensed, short
from tiler.formats import coco_values, rle
from tiler.formats.coco_values import InvalidAnnotation
from tiler.formats.text_files import read_bytes, reason, without_bom
from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.instances import Instances, empty
from tiler.geometry.polygons import Rings, concatenate, smallest_rectangles
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.formats.yolo import Spec
    from tiler.types import Floats, Task

MAX_BYTES = 4_000_000_000
# rings of one mask, holes included: more are not an object, and each costs as much as an object
MAX_PIECES = 5000

NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

T = TypeVar("T")


class Annotation(msgspec.Struct):
    """One annotation as it stands in the file; each value is checked when it is used.

    Attributes:
        index: its place in the file.
    """

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    segmentation: Any = None
    keypoints: Any = None
    iscrowd: Any = 0
    ignore: Any = 0
    index: int = 0

    @property
    def name(self) -> str:
        if self.id is None:
            return f"annotation {self.index}"
        return f"annotation {str(self.id)[:40]}"

    @property
    def ignored(self) -> bool:
        return bool(self.iscrowd) or bool(self.ignore)

    @property
    def outlined(self) -> bool:
        """Whether it has an outline at all."""
        return bool(self.segmentation)

    @property
    def given(self) -> Any:
        """The outline as COCO writes it."""
        return self.segmentation


class CocoImage(msgspec.Struct):
    """One image entry with its annotations."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None
    annotations: list[Annotation] = []


class Category(msgspec.Struct):
    """One category as it stands in the file."""

    id: Any = None
    name: Any = None
    keypoints: Any = None


class _File(msgspec.Struct):
    images: list[CocoImage]
    annotations: list[Annotation]
    categories: list[Category]


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A COCO instances file. The annotations are not yet checked.

    Attributes:
        classes: the class index of each category id, ids in rising order.
        names: class names by index.
        images: in the order of the file, each with its annotations.
        task: what the annotations hold: pose, segment or detect.
    """

    classes: dict[int, int]
    names: tuple[str, ...]
    images: list[CocoImage]
    task: Task
    kpt_shape: tuple[int, int] | None
    findings: list[Finding]


def read(file: Path) -> CocoFile:
    """Read a COCO instances JSON.

    Raises:
        TilerError: not JSON, or not COCO instances.
    """
    content = decoded(file, _File)
    classes, names = classes_of(content.categories, file)
    kpt_shape = kpt_shape_of(content.categories, content.annotations)
    task = task_of(content.annotations, kpt_shape)
    images, findings = _valid_images(content.images, file.name)
    findings += _assign(content.annotations, images, file.name)
    return CocoFile(classes, names, list(images.values()), task, kpt_shape, condensed(findings))


def decoded(file: Path, kind: type[T]) -> T:
    """The content of a COCO instances JSON, as a type that has its three lists.

    Raises:
        TilerError: it cannot be read, is not JSON, or not COCO instances.
    """
    try:
        data = without_bom(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise TilerError(f"{file}: cannot be read: {reason(error)}") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except NOT_JSON as error:
        raise TilerError(f"{file}: not COCO instances JSON: {error}{_hint(data)}") from None


def _hint(data: bytes) -> str:
    """For each missing list, a similar key of the JSON."""
    try:
        keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except NOT_JSON:
        return ""
    others = [key for key in keys if key != "images"]
    hints = ""
    for key in ("images", "annotations", "categories"):
        if key not in keys:
            hints += did_you_mean(key, others).replace("did you", f"for {key}, did you")
    return hints


def classes_of(
    categories: Sequence[Category], file: Path | str
) -> tuple[dict[int, int], tuple[str, ...]]:
    """The class index of each category id, in rising order of the ids, and the names by index.

    Raises:
        TilerError: there are none, one has no id or no name, or two have the same id.

    >>> classes_of([Category(9, "bus"), Category(7, "car")], "a.json")
    ({7: 0, 9: 1}, ('car', 'bus'))
    """
    for category in categories:
        if not isinstance(category.id, int) or not isinstance(category.name, str):
            got = f"{category.id!r}, {category.name!r}"[:80]
            raise TilerError(f"{file}: a category has a whole-number id and a name, got {got}")
    ordered = sorted(categories, key=lambda category: category.id)
    ids = [category.id for category in ordered]
    if not ids or len(set(ids)) != len(ids):
        raise TilerError(f"{file}: expected categories with different ids, got {ids[:20]}")
    classes = {id: index for index, id in enumerate(ids)}
    return classes, tuple(category.name for category in ordered)


def _valid_images(
    images: Sequence[CocoImage], label: str
) -> tuple[dict[Any, CocoImage], list[Finding]]:
    """Images that can be found and named, by their id and in the order of the file."""
    by_id: dict[Any, CocoImage] = {}
    names: set[str] = set()
    findings: list[Finding] = []
    for image in images:
        name = image.file_name
        what = f"image {short(image.id)}"
        if not isinstance(name, str) or not name or "\0" in name:
            findings.append(Finding(label, "I01", f"{what}: file_name is {short(name)}"))
        elif not isinstance(image.id, int | str):
            message = f"{what}: {name} has no id that annotations could refer to"
            findings.append(Finding(label, "I01", message))
        elif image.id in by_id or name in names:
            message = f"{what}: {name} is listed twice; the first entry counts"
            findings.append(Finding(label, "P05", message))
        else:
            image.annotations = []
            by_id[image.id] = image
            names.add(name)
    return by_id, findings


def _assign(
    annotations: Sequence[Annotation], images: dict[Any, CocoImage], label: str
) -> list[Finding]:
    """Give each image its annotations, each annotation its place in the file; report the others."""
    findings: list[Finding] = []
    for index, annotation in enumerate(annotations):
        annotation.index = index
        owner = None
        if isinstance(annotation.image_id, int | float | str):  # what can be looked up
            owner = images.get(annotation.image_id)
        if owner is None:
            message = f"{annotation.name}: no image has image_id {short(annotation.image_id)}"
            findings.append(Finding(label, "L03", message))
        else:
            owner.annotations.append(annotation)
    return findings


def kpt_shape_of(
    categories: Sequence[Category], annotations: Sequence[Annotation]
) -> tuple[int, int] | None:
    """Number of keypoints and of values each, as the categories or else the annotations say; None
    if no annotation has any.
    """
    lists = [a.keypoints for a in annotations if isinstance(a.keypoints, list)]
    if not any(lists):
        return None
    counts = [len(c.keypoints) for c in categories if isinstance(c.keypoints, list)]
    if not any(counts):
        counts = [len(values) // 3 for values in lists]
    if max(counts) == 0:
        return None
    return max(counts), 3


def task_of(annotations: Sequence[Annotation], kpt_shape: tuple[int, int] | None) -> Task:
    """pose with keypoints; segment when every object has an outline and not all of these are boxes.

    >>> task_of([Annotation(bbox=[0, 0, 2, 2], segmentation=[[0, 0, 2, 2, 0, 2]])], None)
    'segment'
    """
    if kpt_shape is not None:
        return "pose"
    objects = [a for a in annotations if not a.ignored]
    outlined = [a for a in objects if a.outlined]
    if len(outlined) < len(objects) or all(_is_box(a) for a in outlined):
        return "detect"
    return "segment"


def _is_box(annotation: Annotation) -> bool:
    """Whether the outline is one polygon of four points, each within 1.5 px of a box corner."""
    rings = annotation.given
    if not isinstance(rings, list) or len(rings) != 1:
        return False
    if not isinstance(rings[0], list) or len(rings[0]) != 8:
        return False
    try:
        x, y, w, h = map(float, annotation.bbox)
        points = np.array(rings[0], np.float64).reshape(4, 2)
    except (TypeError, ValueError, OverflowError):
        return False
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    apart = np.abs(corners[:, None] - points[None]).max(axis=2)
    return bool((apart.min(axis=0) < 1.5).all())


def instances(
    annotations: Sequence[Annotation],
    classes: dict[int, int],
    spec: Spec,
    path: str,
    size: tuple[int, int] | None = None,
) -> tuple[Instances, Rings, list[Finding]]:
    """The objects of an image, the regions to be ignored in it (crowds), and what was noticed.

    Args:
        classes: the class index of each category id.
        path: the name of the file in findings.
        size: width and height of the image, which masks must have.

    `row` of an object is the index of its annotation in the file.
    """
    objects: list[_CocoObject] = []
    ignored: list[Rings] = []
    findings: list[Finding] = []
    for annotation in annotations:
        try:
            xyxy, rings = _geometry(annotation, size)
            if annotation.ignored:
                ignored.append(_corners(xyxy) if rings is None else rings)
            else:
                objects.append(_object(annotation, xyxy, rings, classes, spec))
        except InvalidAnnotation as error:
            findings.append(Finding(path, error.code, f"{annotation.name}: {error.message}"))
    return _columns(objects, spec), concatenate(ignored), condensed(findings)


@dataclass(frozen=True, slots=True, eq=False)
class _CocoObject:
    """A valid annotation of an object.

    Attributes:
        xyxy: `(4,)` px.
        rings: its outline, if it has one.
        keypoints: `(K, 3)` of pose.
        row: its index in the file.
    """

    class_id: int
    xyxy: Floats
    rings: Rings | None
    keypoints: Floats | None
    row: int


def _object(
    annotation: Annotation,
    xyxy: Floats,
    rings: Rings | None,
    classes: dict[int, int],
    spec: Spec,
) -> _CocoObject:
    category = annotation.category_id
    if not isinstance(category, int | float) or category not in classes:
        raise InvalidAnnotation("L04", f"no category has id {short(category)}")
    if rings is None and spec.task in ("segment", "obb"):
        raise InvalidAnnotation("L10", f"no segmentation, which a {spec.task} set needs")
    keypoints = None
    if spec.task == "pose" and spec.kpt_shape is not None:
        keypoints = coco_values.triples(annotation.keypoints, spec.kpt_shape[0])
    class_id = classes[annotation.category_id]
    return _CocoObject(class_id, xyxy, rings, keypoints, annotation.index)


def _columns(objects: Sequence[_CocoObject], spec: Spec) -> Instances:
    """The objects of an image as columns."""
    if not objects:
        return empty(spec.task, spec.points)
    boxes = np.array([each.xyxy for each in objects], np.float64)
    rings = _outlines(objects, spec.task)
    if rings is not None and spec.task != "detect":
        boxes = rings.bounds()
    keypoints = None
    if spec.task == "pose":
        keypoints = np.array([each.keypoints for each in objects])
    class_id = np.array([each.class_id for each in objects], np.int64)
    row = np.array([each.row for each in objects], np.int64)
    return Instances(class_id, boxes, rings=rings, keypoints=keypoints, row=row, task=spec.task)


def _outlines(objects: Sequence[_CocoObject], task: Task) -> Rings | None:
    """The outlines of all objects, boxes where one has none; None if the set has none at all."""
    if task == "pose" or all(each.rings is None for each in objects):
        return None
    parts = [_corners(each.xyxy) if each.rings is None else each.rings for each in objects]
    rings = concatenate(parts)
    if task == "obb":
        quads = [_quad(rings[i]) for i in range(len(objects))]
        return Rings.from_quads(np.array(quads))
    return rings


def _geometry(annotation: Annotation, size: tuple[int, int] | None) -> tuple[Floats, Rings | None]:
    """xyxy and, if there is one, the outline."""
    bbox = coco_values.xywh(annotation.bbox)
    width, height = bbox[2:]
    if width <= 0 or height <= 0:
        message = f"bbox is {width:g} x {height:g}, expected more than 0"
        raise InvalidAnnotation("L06", message)
    corner = bbox[:2]
    xyxy = np.concatenate([corner, corner + bbox[2:]])
    segmentation = annotation.segmentation
    if not segmentation:
        return xyxy, None
    if isinstance(segmentation, dict) and size is not None:
        found = segmentation.get("size")
        expected = [size[1], size[0]]
        if found != expected:
            message = f"segmentation: a mask of {short(found)}, the image's is {expected}"
            raise InvalidAnnotation("L03", message)
    try:
        return xyxy, outline(segmentation)
    except ValueError as error:
        raise InvalidAnnotation("L03", f"segmentation: {error}") from None


def outline(segmentation: Any) -> Rings:
    """The rings of one object of COCO's `segmentation`: polygons, which are united, or a mask.

    Raises:
        InvalidAnnotation: it has no area, holds no numbers, or crosses itself too often.
        ValueError: it is neither, or malformed.

    >>> outline([[0, 0, 4, 0, 4, 2]]).bounds().tolist()
    [[0.0, 0.0, 4.0, 2.0]]
    """
    if isinstance(segmentation, dict):
        return _mask_outline(segmentation)
    return _united(coco_values.polygons(segmentation))


def _mask_outline(mask: dict[str, Any]) -> Rings:
    rings = rle.outline(mask)
    if not len(rings.coords):
        raise InvalidAnnotation("L06", "the mask is empty")
    pieces = len(rings.ring_offsets) - 1
    if pieces > MAX_PIECES:
        raise ValueError(f"a mask in {pieces} pieces and holes, expected at most {MAX_PIECES}")
    return rings


def _united(parts: list[Floats]) -> Rings:
    """The union of an object's polygons."""
    rings = Rings.of([parts])
    if polygons.tangled(rings).any():
        raise InvalidAnnotation("L15", overlay.TANGLED)
    shapes = Rings.of([[part] for part in parts]).geometry()
    areas = shapely.area(shapes)
    if not (areas > 0).any():
        raise InvalidAnnotation("L06", "an outline without area")
    if len(parts) == 1:
        return rings
    union = overlay.united(shapes, np.zeros(1, np.int64))
    if shapely.area(union[0]) >= areas.sum() * (1 - 1e-9):
        return rings  # they do not overlap
    return Rings.from_geometry(union)  # COCO's parts are united, ours are even-odd


def _corners(xyxy: Floats) -> Rings:
    return Rings.from_quads(box.corners(xyxy[None]))


def _quad(rings: list[Floats]) -> Floats:
    """`(4, 2)` corners: of a ring of four points these, else of the smallest rectangle around."""
    if len(rings) == 1 and len(rings[0]) == 4:
        return rings[0]
    return np.asarray(smallest_rectangles(np.concatenate(rings)[None])[0])
