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
from tiler.formats import rle
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
# of one mask, holes counted: more are no object, and each costs as much as an object
MAX_PIECES = 5000

T = TypeVar("T")


class Annotation(msgspec.Struct):
    """One annotation as it stands in the file; each part is checked when it is used."""

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
        return f"annotation {self.index if self.id is None else str(self.id)[:40]}"

    @property
    def ignored(self) -> bool:
        return bool(self.iscrowd) or bool(self.ignore)

    @property
    def outlined(self) -> bool:
        """Whether there is an outline at all."""
        return bool(self.segmentation)

    @property
    def given(self) -> Any:
        """The outline, as COCO has it."""
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
    """A COCO instances file, checked as far as it concerns all images.

    Attributes:
        classes: the class index of each category id (ids in rising order).
        names: class names by index.
        images: in file order, each with its annotations.
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
    label = file.name
    findings: list[Finding] = []
    classes, names = classes_of(content.categories, str(file))
    images = _images(content, label, findings)
    kpt_shape = kpt_shape_of(content.categories, content.annotations)
    return CocoFile(
        classes,
        names,
        images,
        task_of(content.annotations, kpt_shape),
        kpt_shape,
        condensed(findings),
    )


def decoded(file: Path, kind: type[T]) -> T:
    """The content of a COCO instances JSON, as a type that has its three lists.

    Raises:
        TilerError: it cannot be read, is not JSON, or not COCO instances.
    """
    shown = str(file)
    try:
        data = without_bom(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise TilerError(f"{shown}: cannot be read: {reason(error)}") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TilerError(f"{shown}: not COCO instances JSON: {error}{_hint(data)}") from None


def _hint(data: bytes) -> str:
    try:
        keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    missing = [key for key in ("images", "annotations", "categories") if key not in keys]
    hints = [(key, did_you_mean(key, [k for k in keys if k != "images"])) for key in missing]
    return "".join(hint.replace("did you", f"for {key}, did you") for key, hint in hints)


def classes_of(
    categories: Sequence[Category], shown: str
) -> tuple[dict[int, int], tuple[str, ...]]:
    """The class index of each category id, in rising order of the ids, and the names by index.

    Raises:
        TilerError: there are none, or one has no id or name of its own.

    >>> classes_of([Category(9, "bus"), Category(7, "car")], "a.json")
    ({7: 0, 9: 1}, ('car', 'bus'))
    """
    for category in categories:
        if not isinstance(category.id, int) or not isinstance(category.name, str):
            found = f"{category.id!r}, {category.name!r}"[:80]
            raise TilerError(f"{shown}: a category has a whole-number id and a name, got {found}")
    ordered = sorted(categories, key=lambda c: c.id)
    if not ordered or len({c.id for c in ordered}) != len(ordered):
        raise TilerError(
            f"{shown}: expected categories with ids of their own, got "
            f"{[c.id for c in ordered][:20]}"
        )
    return {c.id: i for i, c in enumerate(ordered)}, tuple(c.name for c in ordered)


def _images(content: _File, label: str, findings: list[Finding]) -> list[CocoImage]:
    by_id: dict[Any, CocoImage] = {}
    names: set[str] = set()
    for image in content.images:
        if not isinstance(image.file_name, str) or not image.file_name or "\0" in image.file_name:
            findings.append(
                Finding(
                    label, "I01", f"image {short(image.id)}: file_name is {short(image.file_name)}"
                )
            )
        elif not isinstance(image.id, int | str):
            message = (
                f"image {short(image.id)}: {image.file_name} has no id that annotations could name"
            )
            findings.append(Finding(label, "I01", message))
        elif image.id in by_id or image.file_name in names:
            message = (
                f"image {short(image.id)}: {image.file_name} is listed twice; the first entry "
                "counts"
            )
            findings.append(Finding(label, "P05", message))
        else:
            by_id[image.id] = image
            image.annotations = []
            names.add(image.file_name)
    for index, annotation in enumerate(content.annotations):
        annotation.index = index
        owner = (
            by_id.get(annotation.image_id)
            if isinstance(annotation.image_id, int | float | str)
            else None
        )
        if owner is None:
            findings.append(
                Finding(
                    label,
                    "L03",
                    f"{annotation.name}: no image has image_id {short(annotation.image_id)}",
                )
            )
        else:
            owner.annotations.append(annotation)
    return list(by_id.values())


def kpt_shape_of(
    categories: Sequence[Category], annotations: Sequence[Annotation]
) -> tuple[int, int] | None:
    """Number of keypoints and of values each, as the categories or else the annotations say; None
    if no annotation has any.
    """
    points = [len(c.keypoints) for c in categories if isinstance(c.keypoints, list)]
    used = any(isinstance(a.keypoints, list) and a.keypoints for a in annotations)
    if not used:
        return None
    if not any(points):
        points = [len(a.keypoints) // 3 for a in annotations if isinstance(a.keypoints, list)]
    return (max(points), 3) if max(points) > 0 else None


def task_of(annotations: Sequence[Annotation], kpt_shape: tuple[int, int] | None) -> Task:
    """pose with keypoints; segment when every object has an outline that is more than its box.

    >>> task_of([Annotation(bbox=[0, 0, 2, 2], segmentation=[[0, 0, 2, 2, 0, 2]])], None)
    'segment'
    """
    if kpt_shape is not None:
        return "pose"
    objects = [a for a in annotations if not a.ignored]
    outlined = [a for a in objects if a.outlined]
    if not outlined or len(outlined) < len(objects):
        return "detect"
    return "detect" if all(_is_box(a) for a in outlined) else "segment"


def _is_box(annotation: Annotation) -> bool:
    rings, bbox = annotation.given, annotation.bbox
    if not (
        isinstance(rings, list)
        and len(rings) == 1
        and isinstance(rings[0], list)
        and len(rings[0]) == 8
    ):
        return False
    try:
        x, y, w, h = map(float, bbox)
        points = np.array(rings[0], np.float64).reshape(4, 2)
    except (TypeError, ValueError, OverflowError):
        return False
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return all(np.abs(corners - point).max(axis=1).min() < 1.5 for point in points)


def instances(
    annotations: Sequence[Annotation],
    classes: dict[int, int],
    spec: Spec,
    path: str,
    size: tuple[int, int] | None = None,
) -> tuple[Instances, Rings, list[Finding]]:
    """The objects of an image, the regions to be ignored in it (crowds), and what was noticed.

    `row` is the index of the annotation in the file. `size` is the image's width and
    height, which masks must have.
    """
    findings: list[Finding] = []
    kept: list[tuple[Annotation, Floats, Rings | None, Floats | None]] = []
    ignored: list[Rings] = []
    for annotation in annotations:
        try:
            bbox, rings = _geometry(annotation, size)
            if annotation.ignored:
                ignored.append(rings if rings is not None else _corners(bbox))
                continue
            if (
                not isinstance(annotation.category_id, int | float)
                or annotation.category_id not in classes
            ):
                raise Unmeant("L04", f"no category has id {short(annotation.category_id)}")
            if rings is None and spec.task in ("segment", "obb"):
                raise Unmeant("L10", f"no segmentation, which a {spec.task} set needs")
            kept.append((annotation, bbox, rings, _keypoints(annotation, spec)))
        except Unmeant as bad:
            findings.append(Finding(path, bad.code, f"{annotation.name}: {bad.message}"))
    regions = concatenate(ignored)
    if not kept:
        return (
            empty(spec.task, spec.kpt_shape[0] if spec.kpt_shape else 0),
            regions,
            condensed(findings),
        )
    boxes = np.array([bbox for _, bbox, _, _ in kept], np.float64)
    outlines = None
    if spec.task != "pose" and any(rings is not None for _, _, rings, _ in kept):
        outlines = concatenate(
            [_corners(bbox) if rings is None else rings for _, bbox, rings, _ in kept]
        )
    if spec.task == "obb" and outlines is not None:
        outlines = Rings.from_quads(np.array([_quad(outlines[i]) for i in range(len(kept))]))
        boxes = outlines.bounds()
    if spec.task == "segment" and outlines is not None:
        boxes = outlines.bounds()
    points = [keypoints for _, _, _, keypoints in kept if keypoints is not None]
    found = Instances(
        class_id=np.array([classes[a.category_id] for a, _, _, _ in kept], np.int64),
        boxes=boxes,
        rings=outlines,
        keypoints=np.array(points) if spec.task == "pose" else None,
        row=np.array([a.index for a, _, _, _ in kept], np.int64),
        task=spec.task,
    )
    return found, regions, condensed(findings)


class Unmeant(Exception):
    """An annotation that cannot be meant: a finding's code, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def _geometry(annotation: Annotation, size: tuple[int, int] | None) -> tuple[Floats, Rings | None]:
    """xyxy and, if there is one, the outline."""
    bbox = xywh(annotation.bbox)
    if bbox[2] <= 0 or bbox[3] <= 0:
        raise Unmeant("L06", f"bbox is {bbox[2]:g} x {bbox[3]:g}, expected more than 0")
    xyxy = np.concatenate([bbox[:2], bbox[:2] + bbox[2:]])
    if not annotation.segmentation:
        return xyxy, None
    mask = annotation.segmentation if isinstance(annotation.segmentation, dict) else None
    if mask is not None and size is not None and mask.get("size") != [size[1], size[0]]:
        found = short(mask.get("size"))
        raise Unmeant(
            "L03", f"segmentation: a mask of {found}, the image's is [{size[1]}, {size[0]}]"
        )
    try:
        return xyxy, outline(annotation.segmentation)
    except ValueError as error:
        raise Unmeant("L03", f"segmentation: {error}") from None


def xywh(bbox: Any) -> Floats:
    """The four numbers of COCO's `bbox`, of whatever sign.

    Raises:
        Unmeant: they are not four finite numbers.
    """
    values = numbers(bbox, "bbox")
    if len(values) != 4:
        raise Unmeant("L03", f"bbox is [x, y, width, height], got {len(values)} values")
    return values


def outline(segmentation: Any) -> Rings:
    """One object's rings of COCO's `segmentation`: polygons, which are united, or a mask.

    Raises:
        Unmeant: it has no area, or no numbers, or crosses itself too often.
        ValueError: it is neither, or malformed.

    >>> outline([[0, 0, 4, 0, 4, 2]]).bounds().tolist()
    [[0.0, 0.0, 4.0, 2.0]]
    """
    if isinstance(segmentation, dict):
        rings = rle.outline(segmentation)
        if not len(rings.coords):
            raise Unmeant("L06", "the mask is empty")
        if len(rings.ring_offsets) - 1 > MAX_PIECES:
            raise ValueError(
                f"a mask in {len(rings.ring_offsets) - 1} pieces and holes, expected at most "
                f"{MAX_PIECES}"
            )
        return rings
    if not isinstance(segmentation, list):
        raise ValueError(f"expected polygons or a mask, got {short(segmentation)}")
    parts = []
    for ring in segmentation:
        points = numbers(ring, "segmentation")
        if len(points) < 6 or len(points) % 2:
            raise ValueError(
                f"a polygon has an even number of values, 6 or more, got {len(points)}"
            )
        parts.append(points.reshape(-1, 2))
    rings = Rings.of([parts])
    if polygons.tangled(rings).any():
        raise Unmeant("L15", overlay.TANGLED)
    shapes = Rings.of([[part] for part in parts]).geometry()
    if not (shapely.area(shapes) > 0).any():
        raise Unmeant("L06", "an outline without area")
    if len(parts) == 1:
        return rings
    together = overlay.united(shapes, np.zeros(1, np.int64))
    if shapely.area(together[0]) >= shapely.area(shapes).sum() * (1 - 1e-9):
        return rings
    return Rings.from_geometry(together)  # COCO's parts are united, ours are even-odd


def numbers(value: Any, what: str) -> Floats:
    """A list of numbers that pixels can be.

    Raises:
        Unmeant: it is none.
    """
    if not isinstance(value, list):
        raise Unmeant("L03", f"{what} is a list of numbers, got {short(value)}")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise Unmeant("L02", f"{what} is a list of numbers, got {short(value)}")
    # also false of NaN, and of whole numbers beyond floats
    if not all(abs(v) < 1e9 for v in value):
        raise Unmeant("L02", f"{what} holds {short(value)}, expected finite pixels")
    return np.array(value, np.float64)


def _corners(xyxy: Floats) -> Rings:
    return Rings.from_quads(box.corners(xyxy[None]))


def _quad(rings: list[Floats]) -> Floats:
    if len(rings) == 1 and len(rings[0]) == 4:
        return rings[0]
    return np.asarray(smallest_rectangles(np.concatenate(rings)[None])[0])


def _keypoints(annotation: Annotation, spec: Spec) -> Floats | None:
    return (
        None
        if spec.task != "pose" or spec.kpt_shape is None
        else triples(annotation.keypoints, spec.kpt_shape[0])
    )


def triples(keypoints: Any, count: int) -> Floats:
    """`(count, 3)` of COCO's `keypoints`; zeros where there are none.

    Raises:
        Unmeant: there are others than so many.
    """
    if not keypoints:
        return np.zeros((count, 3))
    values = numbers(keypoints, "keypoints")
    if len(values) != 3 * count:
        raise Unmeant("L03", f"expected {count} keypoints of 3 values, got {len(values)} values")
    result = values.reshape(count, 3)
    return np.where(
        (result[:, 2:] == 0) & (result[:, :2] == 0).all(axis=1, keepdims=True), 0.0, result
    )
