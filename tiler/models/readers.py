"""What comes out of networks, read as detections: one reader for each layout.

A reader is given the arrays of one tile, without a batch axis, and returns its detections in px of
the tile, by falling confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry.instances import Instances, empty, triples
from tiler.geometry.polygons import Rings
from tiler.interop import foreign
from tiler.models.candidates import NetworkRows, suppressed, suppressed_obbs
from tiler.models.outlines import outlines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.models.frames import TileFrame
    from tiler.options.models import ModelOptions
    from tiler.types import Bools, Floats, Ints, Task

    Arrays = Sequence[NDArray[Any]]

Reader: TypeAlias = "Callable[[Arrays, TileFrame, ModelOptions], Instances]"

ALMOST_ONE = 1 + 1e-3  # a confidence of float16 may round to a little more than 1


@dataclass(frozen=True, slots=True)
class RowShape:
    """What rows have beside a box, a confidence and a class.

    Attributes:
        task: which tells what that is.
        kpt_shape: of pose, keypoints and numbers of each.
    """

    task: Task
    kpt_shape: tuple[int, int] | None = None

    def width(self, prototypes: int) -> int:
        """How many numbers that are.

        >>> RowShape("pose", (17, 3)).width(0)
        51
        """
        if self.task == "pose":
            assert self.kpt_shape is not None
            return self.kpt_shape[0] * self.kpt_shape[1]
        return {"obb": 1, "segment": prototypes}.get(self.task, 0)


@dataclass(frozen=True, slots=True)
class Anchors:
    """A row for each anchor: cxcywh px, scores of classes, and more. Needs NMS.

    Attributes:
        shape: what else a row has.
        classes: how many.
        by_row: `(A, C)`, not `(C, A)`.
        objectness: the first score is that of an object, whichever class it has.
        grid: boxes are relative to their cell.
    """

    shape: RowShape
    classes: int
    by_row: bool = False
    objectness: bool = False
    grid: bool = False

    def __call__(self, arrays: Arrays, frame: TileFrame, options: ModelOptions) -> Instances:
        columns = arrays[0].T if self.by_row else arrays[0]
        rows = self._confident(columns, frame, options.conf)
        if self.shape.task == "obb":
            rows = suppressed_obbs(rows, options.nms_iou)
        else:
            rows = suppressed(rows, options.nms_iou)
        rows = rows.take(np.arange(min(len(rows), options.max_det)))
        return detections(rows, self.shape, frame, arrays[1:])

    def _confident(self, columns: Any, frame: TileFrame, conf: float) -> NetworkRows:
        first = 4 + self.objectness
        scores = columns[first : first + self.classes]
        best = scores.max(axis=0)
        if self.objectness:
            best = best * columns[4]
        chosen = above(best, conf)
        rows = columns[:, chosen]
        numbers = rows.astype(np.float64)
        boxes = numbers[:4].T
        if self.grid:
            boxes = _off_grid(boxes, chosen, frame.input_size)
        if self.shape.task != "obb":
            boxes = box.from_cxcywh(boxes)
        return NetworkRows(
            boxes=finite(boxes),
            conf=clipped(best[chosen]),
            class_id=rows[first : first + self.classes].argmax(axis=0).astype(np.int64),
            more=finite(numbers[first + self.classes :].T),
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A row for each detection: box, confidence, class, and more; without duplicates.

    Attributes:
        shape: what else a row has.
        classes: how many; None if that is not known.
        of_input: boxes are cxcywh in parts of the input, not xyxy (of OBBs cxcywh) in px.
    """

    shape: RowShape
    classes: int | None
    of_input: bool = False

    def __call__(self, arrays: Arrays, frame: TileFrame, options: ModelOptions) -> Instances:
        given = arrays[0]
        chosen = above(given[:, 4], options.conf)
        numbers = given[chosen].astype(np.float64)
        boxes = numbers[:, :4]
        if self.of_input:
            boxes = box.from_cxcywh(boxes) * np.tile(frame.input_size, 2)
        rows = NetworkRows(
            boxes=finite(boxes),
            conf=clipped(numbers[:, 4]),
            class_id=known_classes(numbers[:, 5], self.classes),
            more=finite(numbers[:, 6:]),
        )
        rows = first(rows, options.max_det)
        return detections(rows, self.shape, frame, arrays[1:])


@dataclass(frozen=True, slots=True)
class Queries:
    """Logits of classes `(Q, C)`, and boxes `(Q, 4)` cxcywh in parts of the input, as RT-DETR and
    D-FINE have them. Without duplicates.
    """

    def __call__(self, arrays: Arrays, frame: TileFrame, options: ModelOptions) -> Instances:
        logits, boxes = (array.astype(np.float64) for array in arrays)
        conf = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
        query, class_id = np.nonzero(above(conf, options.conf))
        rows = NetworkRows(
            boxes=finite(box.from_cxcywh(boxes[query]) * np.tile(frame.input_size, 2)),
            conf=conf[query, class_id],
            class_id=class_id,
            more=np.empty((len(query), 0)),
        )
        rows = first(rows, min(options.max_det, len(logits)))
        return detections(rows, RowShape("detect"), frame, ())


@dataclass(frozen=True, slots=True)
class Lists:
    """Boxes, scores, labels, and masks if there are any, as torchvision has them.

    Attributes:
        order: which array is which, by its key in torchvision's dicts.
    """

    order: tuple[str, ...]

    def __call__(self, arrays: Arrays, frame: TileFrame, options: ModelOptions) -> Instances:
        given = dict(zip(self.order, arrays, strict=True))
        chosen = above(given["scores"], options.conf)
        found = foreign({name: array[chosen] for name, array in given.items()})
        finite(found.boxes)
        return most_confident(found, options)


def most_confident(found: Instances, options: ModelOptions) -> Instances:
    """Detections above the confidence, by falling confidence, as many as are allowed."""
    conf = found.confidence
    chosen = np.flatnonzero(above(conf, options.conf))
    order = np.argsort(-conf[chosen], kind="stable")
    return found.take(chosen[order][: options.max_det])


def above(conf: Any, threshold: float) -> Bools:
    """Which confidences are above the threshold.

    Raises:
        TilerError: some are none.
    """
    if np.isnan(conf).any():
        raise TilerError(
            "the model returned confidences that are no numbers (NaN); of a model in float16, try "
            "one in float32"
        )
    return np.asarray(conf > threshold)


def clipped(conf: Any) -> Floats:
    """Confidences as float64.

    Raises:
        TilerError: they are above 1.
    """
    if len(conf) and conf.max() > ALMOST_ONE:
        raise TilerError(
            f"the model returned a confidence of {float(conf.max()):g}: its outputs are not what "
            "they seem; confidences are from 0 to 1"
        )
    return np.asarray(np.minimum(conf, 1.0), np.float64)


def finite(numbers: Floats) -> Floats:
    """The same numbers.

    Raises:
        TilerError: one is infinite or none.
    """
    if not np.isfinite(numbers).all():
        raise TilerError("the model returned boxes that are no finite numbers")
    return numbers


def known_classes(numbers: Floats, classes: int | None) -> Ints:
    """`(N,)` int64 classes.

    Raises:
        TilerError: one is not whole, or does not exist.
    """
    class_id = np.rint(numbers)
    most = np.inf if classes is None else classes
    if not ((class_id == numbers) & (class_id >= 0) & (class_id < most)).all():
        raise TilerError(
            f"the model returned class {float(numbers[0]):g}, and its classes are from 0 to "
            f"{most - 1:g}: its outputs are not what they seem, or --names are of another model"
        )
    return class_id.astype(np.int64)


def first(rows: NetworkRows, count: int) -> NetworkRows:
    """The most confident rows."""
    ordered = rows.ordered()
    return ordered.take(np.arange(min(len(ordered), count)))


def _off_grid(boxes: Floats, chosen: Bools, input_size: tuple[int, int]) -> Floats:
    """YOLOX's boxes in px of the input, from offsets and logarithms in their cells."""
    cells, strides = grid_of(input_size)
    cells, strides = cells[chosen], strides[chosen]
    centre = (boxes[:, :2] + cells) * strides
    with np.errstate(over="ignore"):
        sides = np.exp(boxes[:, 2:]) * strides
    return np.concatenate([centre, sides], axis=1)


def grid_of(
    input_size: tuple[int, int], strides: Sequence[int] = (8, 16, 32)
) -> tuple[Floats, Floats]:
    """`(A, 2)` the column and row of each anchor, and `(A, 1)` its stride, px.

    >>> cells, strides = grid_of((64, 32))
    >>> len(cells), cells[8].tolist(), strides[-1].tolist()
    (42, [0.0, 1.0], [32.0])
    """
    cells, sizes = [], []
    for stride in strides:
        rows, columns = np.mgrid[: input_size[1] // stride, : input_size[0] // stride]
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        sizes.append(np.full((rows.size, 1), stride))
    return np.concatenate(cells).astype(np.float64), np.concatenate(sizes).astype(np.float64)


# --- rows in px of the tile


def detections(
    rows: NetworkRows, shape: RowShape, frame: TileFrame, prototypes: Arrays
) -> Instances:
    """The detections that rows are, in px of the tile. Those without a mask are left out."""
    if shape.task == "obb":
        return _obbs(rows, frame)
    columns: dict[str, Any] = {"task": shape.task}
    if shape.task == "segment":
        masks = outlines(prototypes[0], rows.more, rows.boxes, frame.input_size)
        masked = np.array([bool(rings) for rings in masks], bool)
        rows = rows.take(masked)
        columns["rings"] = _rings_in_tile([rings for rings in masks if rings], frame)
    if shape.task == "pose":
        assert shape.kpt_shape is not None
        keypoints = rows.more.reshape(len(rows), *shape.kpt_shape).copy()
        keypoints[..., :2] = frame.clipped(keypoints[..., :2])
        columns["keypoints"] = triples(keypoints)
    boxes = frame.clipped(rows.boxes.reshape(-1, 2)).reshape(-1, 4)
    return Instances(rows.class_id, boxes, conf=rows.conf, **columns)


def _rings_in_tile(masks: Sequence[Sequence[Floats]], frame: TileFrame) -> Rings:
    rings = Rings.of(masks)
    return Rings(frame.clipped(rings.coords), rings.ring_offsets, rings.offsets)


def _obbs(rows: NetworkRows, frame: TileFrame) -> Instances:
    """OBBs by their corners, in Ultralytics' order; beyond the tile as they are."""
    centre = frame.points(rows.boxes[:, :2])
    half = rows.boxes[:, 2:] / frame.scale() / 2
    angle = rows.more[:, -1]
    turn = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    along = half[:, :1] * turn
    across = half[:, 1:] * np.stack([-turn[:, 1], turn[:, 0]], axis=1)
    corners = [along + across, along - across, -along - across, across - along]
    rings = Rings.from_quads(centre[:, None] + np.stack(corners, axis=1))
    if not len(rows):
        return empty_detections("obb")
    return Instances(rows.class_id, rings.bounds(), rings=rings, conf=rows.conf, task="obb")


def empty_detections(task: Task, keypoints: int = 0) -> Instances:
    """None of a task."""
    return empty(task, keypoints).changed(conf=np.empty(0))
