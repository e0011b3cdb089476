"""NDJSON as Ultralytics exports datasets: a line that describes the dataset, then one an image.

Each image line has its size, its split and normalised label rows by their kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding, condensed, short
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.coco import NOT_JSON
from tiler.formats.coco_values import InvalidAnnotation

MAX_BYTES = 4_000_000_000


class _Head(msgspec.Struct):
    type: Any = None
    task: Any = None
    class_names: Any = None
    kpt_shape: Any = None


class _Line(msgspec.Struct):
    type: Any = None
    file: Any = None
    width: Any = None
    height: Any = None
    split: Any = None
    annotations: Any = None


@dataclass(frozen=True, slots=True)
class NdjsonFile:
    """The content of an NDJSON dataset.

    Attributes:
        task: as the file calls it; "" if it does not.
        images: in the order of the file, and in `splits` the split of each.
    """

    task: str
    names: tuple[str, ...]
    kpt_shape: tuple[int, int] | None
    images: list[AnnotatedImage]
    splits: list[str]
    findings: list[Finding]


def is_ndjson(head: bytes) -> bool:
    """Whether a file begins with the line that describes a dataset.

    >>> is_ndjson(b'{"type": "dataset", "task": "detect"}'), is_ndjson(b'{"images": []}')
    (True, False)
    """
    try:
        first = msgspec.json.decode(head.split(b"\n")[0], type=_Head)
    except NOT_JSON:
        return False
    return bool(first.type == "dataset")


def read(data: bytes, path: str) -> NdjsonFile:
    """The images of an NDJSON dataset with their objects in pixels.

    Args:
        path: the name of the file in findings.

    Raises:
        TilerError: its first line does not describe a dataset.

    >>> lines = [
    ...     b'{"type": "dataset", "task": "detect", "class_names": {"0": "car"}}',
    ...     b'{"type": "image", "file": "a.jpg", "width": 200, "height": 100, "split": "val",'
    ...     b' "annotations": {"boxes": [[0, 0.5, 0.5, 0.1, 0.2]]}}',
    ... ]
    >>> read(b"\\n".join(lines), "a.ndjson").images[0].annotations[0].bbox
    [90.0, 40.0, 20.0, 20.0]
    """
    first, *lines = data.splitlines() or [b""]
    head = _head(first, path)
    names = _names(head.class_names, path)
    kpt_shape = _kpt_shape(head.kpt_shape)
    images = []
    splits = []
    findings: list[Finding] = []
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            image, split = _image(line, number, path, kpt_shape)
        except InvalidAnnotation as error:
            findings.append(Finding(path, error.code, error.message, number))
            continue
        images.append(image)
        splits.append(split)
    task = head.task if isinstance(head.task, str) else ""
    return NdjsonFile(task, names, kpt_shape, images, splits, condensed(findings))


def _head(line: bytes, path: str) -> _Head:
    try:
        head = msgspec.json.decode(line, type=_Head)
    except NOT_JSON as error:
        raise TilerError(f"{path}:1: not NDJSON: {error}") from None
    if head.type != "dataset":
        raise TilerError(f'{path}:1: expected a line of type "dataset", found {short(head.type)}')
    return head


def _names(given: Any, path: str) -> tuple[str, ...]:
    """Class names by their number."""
    if isinstance(given, list):
        given = dict(enumerate(given))
    if not isinstance(given, dict) or not given:
        raise TilerError(f"{path}:1: class_names maps numbers to names, got {short(given)}")
    by_number = {}
    for key, name in given.items():
        try:
            by_number[int(key)] = str(name)
        except ValueError:
            raise TilerError(f"{path}:1: a class has a number, got {short(key)}") from None
    if sorted(by_number) != list(range(len(by_number))):
        raise TilerError(f"{path}:1: class_names has the keys {short(sorted(by_number))}")
    return tuple(by_number[number] for number in range(len(by_number)))


def _kpt_shape(given: Any) -> tuple[int, int] | None:
    match given:
        case [int(points), int(values)] if points > 0 and values in (2, 3):
            return points, values
    return None


def _image(
    line: bytes, number: int, path: str, kpt_shape: tuple[int, int] | None
) -> tuple[AnnotatedImage, str]:
    """An image with its objects, and its split; "" if it has none."""
    try:
        content = msgspec.json.decode(line, type=_Line)
    except NOT_JSON as error:
        raise InvalidAnnotation("L03", f"not JSON: {error}") from None
    if content.type != "image" or not isinstance(content.file, str):
        raise InvalidAnnotation("I01", f"expected an image with a file, got {short(content.file)}")
    size = _size(content)
    image = AnnotatedImage(content.file, size, file=path)
    rows = content.annotations or {}
    if not isinstance(rows, dict):
        raise InvalidAnnotation("L03", f"annotations are lists by kind, got {short(rows)}")
    for kind in rows:
        _add(image, kind, rows[kind], size, number, kpt_shape)
    split = content.split if content.split in ("train", "val", "test") else ""
    return image, split


def _size(content: _Line) -> tuple[int, int]:
    sides = (content.width, content.height)
    if not all(isinstance(side, int) and 0 < side < 1_000_000_000 for side in sides):
        raise InvalidAnnotation("L03", f"width and height are pixels, got {short(list(sides))}")
    return content.width, content.height


def _add(
    image: AnnotatedImage,
    kind: str,
    rows: Any,
    size: tuple[int, int],
    number: int,
    kpt_shape: tuple[int, int] | None,
) -> None:
    """Add the rows of one kind to an image."""
    make = KINDS.get(kind)
    if make is None or not isinstance(rows, list):
        message = f"annotations of kind {short(kind)} are not read"
        image.findings.append(Finding(image.file, "L03", message, number))
        return
    for row in rows:
        index = len(image.annotations) + len(image.findings)
        try:
            annotation = make(_numbers(row), size, kpt_shape)
        except InvalidAnnotation as error:
            message = f"{kind}: {error.message}"
            image.findings.append(Finding(image.file, error.code, message, number))
            continue
        annotation.index = index
        annotation.line = number
        image.annotations.append(annotation)


def _numbers(row: Any) -> list[float]:
    valid = isinstance(row, list) and len(row) > 1
    if valid:
        valid = all(isinstance(v, int | float) and math.isfinite(v) for v in row)
    if not valid:
        raise InvalidAnnotation("L02", f"a row is a class and numbers, got {short(row)}")
    return [float(value) for value in row]


def _box(row: Sequence[float], size: tuple[int, int], _: object = None) -> Annotation:
    if len(row) != 5:
        raise InvalidAnnotation("L03", f"a box has 4 numbers, got {len(row) - 1}")
    width, height = row[3] * size[0], row[4] * size[1]
    left = row[1] * size[0] - width / 2
    top = row[2] * size[1] - height / 2
    return Annotation(category_id=row[0], bbox=[left, top, width, height])


def _outline(row: Sequence[float], size: tuple[int, int], _: object = None) -> Annotation:
    values = row[1:]
    if len(values) < 6 or len(values) % 2:
        raise InvalidAnnotation("L03", f"an outline has 3 points or more, got {len(values)} values")
    flat = [value * size[i % 2] for i, value in enumerate(values)]
    return Annotation(category_id=row[0], segmentation=[flat])


def _pose(
    row: Sequence[float], size: tuple[int, int], kpt_shape: tuple[int, int] | None
) -> Annotation:
    annotation = _box(row[:5], size)
    values = row[5:]
    each = kpt_shape[1] if kpt_shape is not None else 3
    if not values or len(values) % each:
        raise InvalidAnnotation("L03", f"keypoints have {each} values each, got {len(values)}")
    keypoints: list[float] = []
    for at in range(0, len(values), each):
        visible = values[at + 2] if each == 3 else 2.0
        keypoints += [values[at] * size[0], values[at + 1] * size[1], visible]
    annotation.keypoints = keypoints
    return annotation


Make = Callable[[Sequence[float], tuple[int, int], Any], Annotation]
KINDS: dict[str, Make] = {
    "boxes": _box,
    "segments": _outline,
    "obb": _outline,
    "pose": _pose,
}
