"""Images and their objects in pixels, as COCO, Pascal VOC, labelme and others describe them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tiler.findings import Finding, condensed, short
from tiler.formats import coco_values, rle
from tiler.formats.coco_values import InvalidAnnotation
from tiler.geometry import boxes as box
from tiler.geometry import overlay, polygons
from tiler.geometry.instances import Instances, empty
from tiler.geometry.polygons import Rings, concatenate, smallest_rectangles
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.formats.yolo import Spec
    from tiler.types import Floats, Task

# rings of one mask, holes included: more are not an object, and each costs as much as an object
MAX_PIECES = 5000

CLOSES = 1.5  # px: how far the corners of a rectangle may be off, since tools round them
NOT_RECTANGLES = 0.1  # the part of outlines that may be no rectangles in a set of OBBs
MISFITS = ", which do not fit; --task detect takes all objects as boxes"


class Annotation(msgspec.Struct):
    """One annotation as it stands in the file; each value is checked when it is used.

    Attributes:
        index: its place in the file.
        line: its line, in formats that have one object a line.
        class_id: the class in the dataset; -1 if the category is unknown.
        difficult: DOTA's and Pascal VOC's mark of objects that need not be found.
        kind: what the format calls it.
    """

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    segmentation: Any = None
    keypoints: Any = None
    iscrowd: Any = 0
    ignore: Any = 0
    # set by us, under names that no tool writes
    index: int = msgspec.field(default=0, name="tiler:index")
    line: int | None = msgspec.field(default=None, name="tiler:line")
    class_id: int = msgspec.field(default=-1, name="tiler:class_id")
    difficult: bool = msgspec.field(default=False, name="tiler:difficult")
    kind: str = msgspec.field(default="annotation", name="tiler:kind")

    @property
    def name(self) -> str:
        """What it is called in findings, beside its line if it has one."""
        if self.line is not None:
            return f"the {self.kind}"
        if self.id is None:
            return f"{self.kind} {self.index}"
        return f"{self.kind} {str(self.id)[:40]}"

    @property
    def crowd(self) -> bool:
        """Whether it is marked as a region of objects that are not told apart."""
        return coco_values.flag(self.iscrowd) is True

    @property
    def ignored(self) -> bool:
        return self.crowd or coco_values.flag(self.ignore) is True or self.difficult

    @property
    def boxed(self) -> bool:
        """Whether it has a bbox at all."""
        return coco_values.decoded(self.bbox) not in (None, "", [], ())

    @property
    def outlined(self) -> bool:
        """Whether it has an outline at all."""
        return self.given is not None

    @property
    def given(self) -> Any:
        """The outline as COCO writes it; None if there is none."""
        return coco_values.plain(self.segmentation)


@dataclass(slots=True)
class AnnotatedImage:
    """One image with its objects in pixels.

    The objects are COCO annotations, whose geometry the other formats share. Where a format names
    classes by text, `category_id` is the name.

    Attributes:
        file_name: as the format gives it; "" if it does not name its image.
        size: declared width and height in px; None if it declares none.
        annotations: the objects, in the order of the file.
        findings: objects that were rejected, and what else was noticed.
        file: the annotation file, as it is called in findings.
        id: what annotations and results refer to the image by, in COCO.
        turn: the EXIF orientation by which the coordinates are still to be turned; 1 where they are
            those of the upright image.
        doubt: why an image without objects may not be taken for background; "" if it may.
        cropped: it shows a part of what was annotated, so objects reach past its frame.
    """

    file_name: str
    size: tuple[int, int] | None
    annotations: list[Annotation] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    file: str = ""
    id: int | str | None = None
    turn: int = 1
    doubt: str = ""
    cropped: bool = False


def instances(
    annotations: Sequence[Annotation],
    spec: Spec,
    path: str,
    size: tuple[int, int] | None = None,
    marked: bool = False,
) -> tuple[Instances, Instances, list[Finding]]:
    """The objects of an image, the regions to be ignored in it (crowds), and what was noticed.

    Regions are outlines, whatever the task; their class is -1 where the category is unknown.

    Args:
        path: the name of the file in findings.
        size: width and height of the image, which masks must have.
        marked: return what is marked iscrowd, ignore or difficult among the objects.

    `row` of an object is the index of its annotation in the file.
    """
    objects: list[_ValidObject] = []
    ignored: list[_ValidObject] = []
    findings: list[Finding] = []
    for annotation in annotations:
        try:
            coco_values.mark(annotation.iscrowd, "iscrowd")
            coco_values.mark(annotation.ignore, "ignore")
            xyxy, rings = _geometry(annotation, size)
            if annotation.ignored and not marked:
                ignored.append(_region(annotation, xyxy, rings))
            else:
                objects.append(_object(annotation, xyxy, rings, spec))
        except InvalidAnnotation as error:
            message = f"{annotation.name}: {error.message}"
            findings.append(Finding(path, error.code, message, annotation.line))
    return _columns(objects, spec), _regions(ignored), condensed(findings)


def task_of(annotations: Iterable[Annotation]) -> tuple[Task, str]:
    """The task of objects without keypoints, and the counts that decided it.

    The more frequent kind of object decides: boxes mean detect, and so do outlines that are all
    upright rectangles. Outlines that nearly all are rectangles, turned or not, mean OBB; others
    mean segment.

    >>> task_of([Annotation(bbox=[0, 0, 2, 2], segmentation=[[0, 0, 2, 2, 0, 2]])])
    ('segment', '1 outlines, 0 boxes')
    """
    outlined = []
    boxes = 0
    for annotation in annotations:
        if annotation.outlined:
            outlined.append(annotation)
        else:
            boxes += 1
    counts = f"{len(outlined)} outlines, {boxes} boxes"
    if boxes >= len(outlined):
        return "detect", counts
    shape = _rectangles(outlined)
    if shape == "upright":
        return "detect", f"{counts}; the outlines are upright rectangles"
    if boxes:
        counts += MISFITS
    if shape == "turned":
        return "obb", f"{counts}; the outlines are rectangles"
    return "segment", counts


def _rectangles(outlined: Sequence[Annotation]) -> str:
    """upright if all outlines are boxes; turned if nearly all are rectangles; else ""."""
    upright = 0
    others = 0
    for annotation in outlined:
        quad = _corners_of(annotation.given)
        if quad is None or not _is_parallelogram(quad):
            others += 1
        elif _is_upright(quad):
            upright += 1
        if others > NOT_RECTANGLES * len(outlined):
            return ""
    if upright == len(outlined):
        return "upright"
    return "turned"


def _corners_of(segmentation: Any) -> Floats | None:
    """`(4, 2)` corners of an outline of one polygon with four points; else None."""
    if not isinstance(segmentation, list) or len(segmentation) != 1:
        return None
    try:
        points = coco_values.polygons(segmentation)[0]
    except (InvalidAnnotation, ValueError):
        return None
    if len(points) == 5 and (points[0] == points[4]).all():
        points = points[:4]
    if len(points) != 4:
        return None
    return points


def _is_parallelogram(quad: Floats) -> bool:
    a, b, c, d = quad
    return bool(np.abs(a + c - b - d).max() <= CLOSES)


def _is_upright(quad: Floats) -> bool:
    """Whether each corner is one of the box around all, to within the rounding of pixels."""
    low, high = quad.min(axis=0), quad.max(axis=0)
    apart = np.minimum(quad - low, high - quad)
    sides = np.abs(quad - np.roll(quad, 1, axis=0)).min(axis=1)
    return bool(apart.max() < CLOSES and sides.max() < CLOSES)


@dataclass(frozen=True, slots=True, eq=False)
class _ValidObject:
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


def _object(annotation: Annotation, xyxy: Floats, rings: Rings | None, spec: Spec) -> _ValidObject:
    if annotation.class_id < 0:
        raise InvalidAnnotation("L04", _no_class(annotation.category_id))
    if rings is None and spec.task in ("segment", "obb"):
        raise InvalidAnnotation("L10", f"no segmentation, which a {spec.task} set needs")
    keypoints = None
    if spec.task == "pose" and spec.kpt_shape is not None:
        keypoints = coco_values.triples(annotation.keypoints, spec.kpt_shape[0])
    return _ValidObject(annotation.class_id, xyxy, rings, keypoints, annotation.index)


def _region(annotation: Annotation, xyxy: Floats, rings: Rings | None) -> _ValidObject:
    """A region to be ignored."""
    outline = _corners(xyxy) if rings is None else rings
    return _ValidObject(annotation.class_id, xyxy, outline, None, annotation.index)


def _regions(regions: Sequence[_ValidObject]) -> Instances:
    """The regions of an image as columns."""
    if not regions:
        return empty("segment")
    rings = concatenate([each.rings for each in regions if each.rings is not None])
    class_id = np.array([each.class_id for each in regions], np.int64)
    row = np.array([each.row for each in regions], np.int64)
    return Instances(class_id, rings.bounds(), rings=rings, row=row, task="segment")


def _no_class(category: Any) -> str:
    if isinstance(category, str):
        return f"no class is called {short(category)}"
    return f"no category has id {short(category)}"


def _columns(objects: Sequence[_ValidObject], spec: Spec) -> Instances:
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


def _outlines(objects: Sequence[_ValidObject], task: Task) -> Rings | None:
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
    """xyxy and, if there is one, the outline; its bounds are the box where none is given."""
    given = annotation.given
    if given is None:
        return _xyxy(annotation.bbox), None
    rings = _outline(given, size)
    if not annotation.boxed:
        return rings.bounds()[0], rings
    return _xyxy(annotation.bbox), rings


def _xyxy(bbox: Any) -> Floats:
    """`(4,)` px, of COCO's bbox."""
    xywh = coco_values.xywh(bbox)
    width, height = xywh[2:]
    if width <= 0 or height <= 0:
        message = f"bbox is {width:g} x {height:g}, expected more than 0"
        raise InvalidAnnotation("L06", message)
    corner = xywh[:2]
    return np.concatenate([corner, corner + xywh[2:]])


def _outline(segmentation: Any, size: tuple[int, int] | None) -> Rings:
    """The outline of an object; a mask must have the size of the image."""
    if isinstance(segmentation, dict) and size is not None:
        found = segmentation.get("size")
        expected = [size[1], size[0]]
        if found != expected:
            message = (
                f"segmentation: a mask of {short(found)}, the image's is {expected} (height, width)"
            )
            raise InvalidAnnotation("L03", message)
    try:
        return outline(segmentation)
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
