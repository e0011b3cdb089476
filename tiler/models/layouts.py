"""Which family of detectors an ONNX model is of: decided once, by its metadata, the names and
shapes of its outputs, and what it says of a grey image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.models.readers import Anchors, Finished, Lists, Queries, Reader, RowShape, grid_of
from tiler.types import TASKS, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.models.frames import Fit
    from tiler.models.metadata import Metadata
    from tiler.types import Floats

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
DETR_FAMILIES = {"rt_detr": "RT-DETR", "rt_detr_v2": "RT-DETRv2", "d_fine": "D-FINE"}
DETR_OUTPUTS = {"logits", "pred_boxes"}
LISTS = ("boxes", "scores", "labels")
STRIDES = ((8, 16, 32), (8, 16, 32, 64), (8, 16), (4, 8, 16, 32))
ANCHORS_OF_V5 = 3  # in each cell
LARGEST_CONFIG = 2**22  # bytes
CALLABLE = "or give a Python function that runs it, as module:function"


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model, as it was for a grey image.

    Attributes:
        array: with its batch axis, if it has one.
    """

    name: str
    array: NDArray[Any]

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.array.shape)) or "one number"
        return f"{self.name} ({self.array.dtype} {sides})"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model is known by.

    Attributes:
        path: of its file.
        batched: its input has a batch axis.
        size: width and height of the image that it was given, px.
        outputs: what it said of a grey image.
        metadata: what it says of itself.
        given_names: class names by option, which take precedence.
    """

    path: Path
    batched: bool
    size: tuple[int, int]
    outputs: Sequence[Output]
    metadata: Metadata
    given_names: tuple[str, ...] | None

    def names(self) -> tuple[str, ...] | None:
        """Of the classes, if they are known."""
        return self.given_names or self.metadata.names

    def unknown(self, why: str) -> NoReturn:
        """What there is, and what would tell.

        Raises:
            TilerError: in any case.
        """
        outputs = ", ".join(map(str, self.outputs[:8]))
        raise TilerError(f"{self.path}: {why}; its outputs: {outputs}; {CALLABLE}")


@dataclass(frozen=True, slots=True)
class Layout:
    """How tiles become inputs of a model, and its outputs detections.

    Attributes:
        family: whose export it is, for people.
        task: what it finds.
        reader: of its outputs.
        names: of its classes.
        fit: how a tile is placed in the input; None: the input is the tile.
        divisor: of pixel values.
        mean, std: of normalised values by channel, as parts of 1.
        bgr: channels are blue, green, red.
        suppresses: there are no duplicates in what it returns.
        beside: names of other files in its folder that were read.
    """

    family: str
    task: Task
    reader: Reader
    names: tuple[str, ...] | None
    fit: Fit | None = "centre"
    divisor: float = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False
    suppresses: bool = False
    beside: tuple[str, ...] = ()


def layout_of(signature: Signature) -> Layout:
    """The family of a model.

    Raises:
        TilerError: it is of none that is known, or it might be of several.
    """
    names = {output.name for output in signature.outputs}
    if signature.metadata.task is not None:
        return _ultralytics(signature, signature.metadata.task)
    if names == DETR_OUTPUTS:
        return _transformers(signature)
    order = _torchvision_order(signature)
    if order is not None:
        return _torchvision(signature, order)
    if names == {"dets", "labels"}:
        signature.unknown(
            "looks like an export of MMDeploy, whose files do not tell how pixels are normalised"
        )
    return _plain_yolo(signature)


# --- Ultralytics, which says what it is


def _ultralytics(signature: Signature, task: str) -> Layout:
    if task not in TASKS:
        raise TilerError(
            f"{signature.path}: task {short(task)}; tiler runs models of {', '.join(TASKS)}"
        )
    if signature.metadata.head == "RTDETRDecoder":
        return _ultralytics_rtdetr(signature)
    shape = RowShape(task, signature.metadata.kpt_shape)
    if task == "pose" and shape.kpt_shape is None:
        signature.unknown("its metadata has no kpt_shape")
    rows, prototypes = _rows_and_prototypes(signature, task == "segment")
    more = shape.width(prototypes)
    height, width = rows.shape[1:]
    classes = _class_count(signature, height - 4 - more)
    is_raw = height == 4 + classes + more
    is_finished = width == 6 + more
    if is_raw and is_finished:
        is_finished = signature.metadata.ends is True
    if is_finished:
        classes = _class_count(signature, None)
        reader: Reader = Finished(shape, classes)
        return Layout("Ultralytics YOLO", shape.task, reader, signature.names(), suppresses=True)
    if not is_raw:
        names = signature.names() or ()
        signature.unknown(
            f"the outputs do not fit its metadata: {task}, {len(names)} classes: expected "
            f"{4 + classes + more} rows, or {6 + more} columns"
        )
    return Layout("Ultralytics YOLO", shape.task, Anchors(shape, classes), signature.names())


def _rows_and_prototypes(signature: Signature, masks: bool) -> tuple[NDArray[Any], int]:
    """The first output, and the number of prototypes of masks in the second one."""
    first = signature.outputs[0].array
    ranks = [output.array.ndim for output in signature.outputs]
    if ranks != [3, 4] if masks else ranks != [3]:
        signature.unknown("unknown outputs")
    if not masks:
        return first, 0
    return first, signature.outputs[1].array.shape[1]


def _class_count(signature: Signature, found: int | None) -> int:
    """How many classes a model has: as many as it has names, else as its outputs show.

    Raises:
        TilerError: not as many as names are given.
    """
    own = signature.metadata.names
    given = signature.given_names
    if own is not None and given is not None and len(own) != len(given):
        raise TilerError(f"--names: the model has {len(own)} classes, got {len(given)} names")
    names = signature.names()
    if names is not None:
        return len(names)
    return max(0, found or 0)


def _ultralytics_rtdetr(signature: Signature) -> Layout:
    rows, _ = _rows_and_prototypes(signature, masks=False)
    classes = _class_count(signature, None)
    if rows.shape[2] != 6:
        signature.unknown(
            "an RT-DETR of another version of Ultralytics; export it with 8.4.190 or later"
        )
    reader = Finished(RowShape("detect"), classes, of_input=True)
    return Layout(
        "Ultralytics RT-DETR",
        "detect",
        reader,
        signature.names(),
        fit="stretch",
        suppresses=True,
    )


# --- transformers, which says it in a file beside


def _transformers(signature: Signature) -> Layout:
    config = _json_beside(signature, CONFIG)
    kind = config.get("model_type")
    if kind not in DETR_FAMILIES:
        signature.unknown(
            f"logits and pred_boxes are of many kinds of DETR: expected {', '.join(DETR_FAMILIES)} "
            f"as model_type in config.json beside it, got {short(kind)}"
        )
    logits, boxes = (output.array for output in signature.outputs)
    if signature.outputs[0].name != "logits" or logits.ndim != 3 or boxes.shape[2:] != (4,):
        signature.unknown("expected logits, then pred_boxes")
    processor = _json_beside(signature, PROCESSOR)
    names = signature.given_names or _labels_of(config)
    if names is not None and len(names) != logits.shape[2]:
        signature.unknown(f"{len(names)} names of classes")
    mean, std = _normalisation(signature, processor)
    return Layout(
        f"transformers' {DETR_FAMILIES[kind]}",
        "detect",
        Queries(),
        names,
        fit="smooth",
        mean=mean,
        std=std,
        suppresses=True,
        beside=(CONFIG, PROCESSOR),
    )


def _json_beside(signature: Signature, name: str) -> dict[str, Any]:
    """A file of JSON beside the model; {} if there is none.

    Raises:
        TilerError: it is none.
    """
    path = signature.path.with_name(name)
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > LARGEST_CONFIG:
            raise TilerError(f"{path}: is larger than {LARGEST_CONFIG} bytes")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TilerError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise TilerError(f"{path}: expected an object, got {short(content)}")
    return content


def _labels_of(config: dict[str, Any]) -> tuple[str, ...] | None:
    labels = config.get("id2label")
    if not isinstance(labels, dict) or set(labels) != set(map(str, range(len(labels)))):
        return None
    return tuple(str(labels[str(number)]) for number in range(len(labels)))


def _normalisation(
    signature: Signature, processor: dict[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixel values; nothing if they are not normalised."""
    if not processor.get("do_normalize", False):
        return (), ()
    found = []
    for name in ("image_mean", "image_std"):
        numbers = processor.get(name)
        if not isinstance(numbers, list) or not all(_is_positive(value) for value in numbers):
            path = signature.path.with_name(PROCESSOR)
            raise TilerError(f"{path}: expected numbers above 0 as {name}, got {short(numbers)}")
        found.append(tuple(map(float, numbers)))
    return found[0], found[1]


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < np.inf


# --- torchvision


def _torchvision_order(signature: Signature) -> tuple[str, ...] | None:
    """Which output is which, by its key in torchvision's dicts; None if it is no such model."""
    order = []
    for output in signature.outputs:
        key = _torchvision_key(output)
        if key is None or key in order:
            return None
        order.append(key)
    return tuple(order) if set(LISTS) <= set(order) else None


def _torchvision_key(output: Output) -> str | None:
    array = output.array
    if array.ndim == 2 and array.shape[1] == 4:
        return "boxes"
    if array.ndim == 4 and array.shape[1] == 1:
        return "masks"
    if array.ndim == 1:
        return "labels" if array.dtype.kind == "i" else "scores"
    return None


def _torchvision(signature: Signature, order: tuple[str, ...]) -> Layout:
    task: Task = "segment" if "masks" in order else "detect"
    return Layout(
        "torchvision", task, Lists(order), signature.given_names, fit=None, suppresses=True
    )


# --- YOLO without words


def _plain_yolo(signature: Signature) -> Layout:
    ranks = [output.array.ndim for output in signature.outputs]
    if not signature.batched or ranks not in ([3], [3, 4]):
        signature.unknown("unknown outputs")
    rows, prototypes = _rows_and_prototypes(signature, len(ranks) == 2)
    height, width = rows.shape[1:]
    anchors = {len(grid_of(signature.size, strides)[0]) for strides in STRIDES}
    if height in {ANCHORS_OF_V5 * count for count in anchors}:
        return _yolov5(signature, width, prototypes)
    if height == len(grid_of(signature.size)[0]) and signature.outputs[0].name == "output":
        return _yolox(signature, rows[0])
    if width in anchors:
        return _nameless(signature, height, prototypes)
    return signature.unknown("unknown outputs")


def _yolov5(signature: Signature, width: int, prototypes: int) -> Layout:
    classes = _class_count(signature, width - 5 - prototypes)
    if width != 5 + classes + prototypes:
        signature.unknown(f"looks like YOLOv5, but not of {classes} classes")
    task: Task = "segment" if prototypes else "detect"
    reader = Anchors(RowShape(task), classes, by_row=True, objectness=True)
    return Layout("YOLOv5", task, reader, signature.names())


def _yolox(signature: Signature, rows: NDArray[Any]) -> Layout:
    classes = _class_count(signature, rows.shape[1] - 5)
    if rows.shape[1] != 5 + classes:
        signature.unknown(f"looks like YOLOX, but not of {classes} classes")
    grid = not _is_decoded(signature, rows[:, :4].astype(np.float64))
    reader = Anchors(RowShape("detect"), classes, by_row=True, objectness=True, grid=grid)
    family = "YOLOX (BGR, 0 to 255)"
    return Layout(family, "detect", reader, signature.names(), fit="corner", divisor=1.0, bgr=True)


def _is_decoded(signature: Signature, boxes: Floats) -> bool:
    """Whether boxes are in px: relative to their cells, sides are logarithms, some of them below 0,
    and centres are near 0, not near their cells.
    """
    if (boxes[:, 2:] < 0).any():
        return False
    cells, strides = grid_of(signature.size)
    near_cell = np.median(np.abs(boxes[:, :2] / strides - cells))
    near_zero = np.median(np.abs(boxes[:, :2]))
    return bool(near_cell < near_zero)


def _nameless(signature: Signature, height: int, prototypes: int) -> Layout:
    """An export of YOLOv8 or later that has lost its metadata: class names tell the task."""
    names = signature.names()
    if names is None:
        signature.unknown(
            "a YOLO without metadata: whether it has oriented boxes is told by --names"
        )
    more = height - 4 - len(names)
    tasks: dict[int, Task] = {0: "detect", 1: "obb"}
    if prototypes:
        tasks = {prototypes: "segment"}
    if more not in tasks:
        signature.unknown(f"a YOLO without metadata, {len(names)} names, {more} more rows")
    shape = RowShape(tasks[more])
    return Layout("YOLO without metadata", shape.task, Anchors(shape, len(names)), names)
