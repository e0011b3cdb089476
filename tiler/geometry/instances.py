"""Instances: the labels or detections of one image (or one tile) as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tiler.errors import TilerError, amount, printable
from tiler.geometry import boxes as box
from tiler.geometry import polygons
from tiler.geometry.columns import Columns
from tiler.geometry.polygons import Rings
from tiler.lazy import shapely

if TYPE_CHECKING:
    from tiler.types import Bools, Floats, Ints, Task


LISTED = 4  # classes, in a line


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instances(Columns):
    """Columns of equal length N, in pixels of their frame. Detections have a `conf`.

    `instances[:5]`, `instances[instances.conf > 0.5]` and `instances[3]` are again `Instances`: of
    the first rows, of some, and of one.

    Attributes:
        class_id: `(N,)` int64.
        boxes: `(N, 4)` float64, xyxy.
        rings: outlines, or None. Of OBBs these are the four corners, one ring each.
        keypoints: `(N, K, 3)` float64: x, y, visibility 0, 1 or 2; or None.
        conf: `(N,)` float64 in 0..1, or None for labels.
        row: `(N,)` int64, where each came from: the 0-based line of its label file, or
            the index of its COCO annotation. Default: 0..N-1.
        visible: `(N,)` float64, the part of the object that this frame shows. Default: 1.
        area: `(N,)` float64, px² of the whole object. Default: of its richest geometry.
        task: what `rings` and `keypoints` mean.

    Raises:
        TilerError: columns of different length.

    >>> cars = Instances(class_id=np.array([0, 2]), boxes=np.array([[0, 0, 4, 2], [5, 5, 9, 9.0]]))
    >>> len(cars), cars.area.tolist(), cars.take(cars.class_id == 2).boxes.tolist()
    (2, [8.0, 16.0], [[5.0, 5.0, 9.0, 9.0]])
    >>> cars[1:]
    Instances(1 label, detect: 1 of class 2)
    """

    class_id: Ints
    boxes: Floats
    rings: Rings | None = None
    keypoints: Floats | None = None
    conf: Floats | None = None
    row: Ints = None  # type: ignore[assignment]
    visible: Floats = None  # type: ignore[assignment]
    area: Floats = None  # type: ignore[assignment]
    task: Task = "detect"

    def __post_init__(self) -> None:
        for name, (kind, shape) in COLUMNS.items():
            given = getattr(self, name)
            if given is not None and not _is_column(given, kind, shape):
                object.__setattr__(self, name, _column(name, given, kind, shape))
        n = len(self.class_id)
        if self.row is None:
            object.__setattr__(self, "row", np.arange(n))
        if self.visible is None:
            object.__setattr__(self, "visible", np.ones(n))
        if self.area is None:
            object.__setattr__(self, "area", measured_area(self))
        _require_length(self, n)

    def __len__(self) -> int:
        return len(self.class_id)

    def __getitem__(self, index: int | slice | Sequence[int] | Ints | Bools) -> Self:
        return self.take(np.atleast_1d(np.arange(len(self))[index]))

    def __repr__(self) -> str:
        return printable(f"{type(self).__name__}({self.title()})")

    def title(self) -> str:
        """What these are, in a line: their number, task, most frequent classes and confidences."""
        noun = "label" if self.conf is None else "detection"
        words = f"{amount(len(self), noun)}{self._where()}, {self.task}"
        if not len(self):
            return words
        classes, counts = np.unique(self.class_id, return_counts=True)
        first = np.argsort(-counts, kind="stable")[:LISTED]
        listed = [f"{counts[i]} {self._class_words(int(classes[i]))}" for i in first.tolist()]
        if len(classes) > LISTED:
            listed.append(f"and {amount(len(classes) - LISTED, 'more class', 'more classes')}")
        words += f": {', '.join(listed)}"
        if self.conf is not None:
            words += f"; conf {self.conf.min():.3g} to {self.conf.max():.3g}"
        return words

    def _where(self) -> str:
        """What frame they are in, where that is known."""
        return ""

    def _class_words(self, class_id: int) -> str:
        return f"of class {class_id}"

    @property
    def xyxy(self) -> Floats:
        """`boxes`, by the name that other libraries have for them."""
        return self.boxes

    @property
    def confidence(self) -> Floats:
        """`conf` of detections.

        Raises:
            TilerError: these are labels, which have none.
        """
        if self.conf is None:
            raise TilerError("detections need a confidence each")
        return self.conf

    def put(self, index: Ints, other: Instances) -> Instances:
        """A copy in which the instances at `index` are those of `other`."""
        order = np.arange(len(self))
        order[index] = len(self) + np.arange(len(other))
        return concatenate([self, other]).take(order)

    def changed(self, **columns: Any) -> Instances:
        """A copy with other columns, and the area measured anew."""
        return replace(self, **columns, area=None)  # type: ignore[arg-type]

    def moved(self, dx: float | Floats, dy: float | Floats) -> Instances:
        """Shifted; keypoints that are not labelled (0, 0, 0) stay what they are."""
        shift = polygons.shifts(len(self), dx, dy)
        of_corners = np.concatenate([shift, shift], axis=-1)
        columns: dict[str, Any] = {"boxes": self.boxes + of_corners}
        if self.rings is not None:
            columns["rings"] = self.rings.moved(dx, dy)
        if self.keypoints is not None:
            keypoints = self.keypoints.copy()
            is_labelled = labelled(keypoints)[..., None]
            keypoints[..., :2] += np.where(is_labelled, shift[:, None], 0.0)
            columns["keypoints"] = keypoints
        return replace(self, **columns)

    def zoomed(self, zoom: Floats) -> Instances:
        """With the coordinates multiplied, each by its own `(N, 2)` factors; areas stay those of
        the whole objects."""
        columns: dict[str, Any] = {"boxes": self.boxes * np.tile(zoom, 2)}
        rings = self.rings
        if rings is not None:
            coords = rings.coords * zoom[rings.owners()]
            columns["rings"] = Rings(coords, rings.ring_offsets, rings.offsets)
        if self.keypoints is not None:
            unscaled = np.ones((len(zoom), 1))  # the visibility
            factors = np.concatenate([zoom, unscaled], axis=1)
            columns["keypoints"] = self.keypoints * factors[:, None]
        return replace(self, **columns)


# the type of each column, and the shape of one row: None for any length
COLUMNS: dict[str, tuple[Any, tuple[int | None, ...]]] = {
    "class_id": (np.int64, ()),
    "boxes": (np.float64, (4,)),
    "rings": (Rings, ()),
    "keypoints": (np.float64, (None, 3)),
    "conf": (np.float64, ()),
    "row": (np.int64, ()),
    "visible": (np.float64, ()),
    "area": (np.float64, ()),
}


def _require_length(instances: Instances, n: int) -> None:
    wrong = []
    for name in COLUMNS:
        column = getattr(instances, name)
        if column is not None and len(column) != n:
            wrong.append(f"{name} {len(column)}")
    if wrong:
        raise TilerError(f"columns of one length are needed: class_id {n}, {', '.join(wrong)}")


def _is_column(given: Any, kind: Any, shape: tuple[int | None, ...]) -> bool:
    if kind is Rings:
        return isinstance(given, Rings)
    return isinstance(given, np.ndarray) and given.dtype == kind and _fits(given, shape)


def _fits(given: Any, shape: tuple[int | None, ...]) -> bool:
    if given.ndim != 1 + len(shape):
        return False
    sides = zip(shape, given.shape[1:], strict=True)
    return all(side in (None, actual) for side, actual in sides)


def _column(name: str, given: Any, kind: Any, shape: tuple[int | None, ...]) -> Any:
    """A list, or an array of other numbers, as the array that a column is.

    Raises:
        TilerError: it has another shape, or numbers that must be whole are not.
    """
    sides = ["N", *("K" if side is None else str(side) for side in shape)]
    expected = f"{name}: expected ({', '.join(sides)}) numbers"
    try:
        if kind is Rings:
            return Rings.of(given)
        numbers = np.asarray(given)
        if not numbers.size:
            numbers = np.empty((0, *(side or 0 for side in shape)))
        whole = True
        if kind is np.int64:
            whole = bool((numbers == np.rint(numbers)).all())
        column = numbers.astype(kind)
    except (TypeError, ValueError) as error:
        raise TilerError(f"{expected}: {error}") from None
    if not whole:
        raise TilerError(f"{expected} that are whole")
    if not _fits(column, shape):
        raise TilerError(f"{expected}, got {column.shape}")
    return column


@cache
def empty(task: Task = "detect", keypoints: int = 0) -> Instances:
    """No instances at all."""
    class_id = np.empty(0, np.int64)
    columns: dict[str, Any] = {}
    if task in ("segment", "obb"):
        columns["rings"] = Rings.of([])
    if task == "pose":
        columns["keypoints"] = np.empty((0, keypoints, 3))
    return Instances(class_id, np.empty((0, 4)), **columns, task=task)


def concatenate(many: Sequence[Instances]) -> Instances:
    """All instances, in order; all have the same columns."""
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        values = [getattr(instances, name) for instances in many]
        if name == "rings" and values[0] is not None:
            columns[name] = polygons.concatenate(values)
        elif values[0] is not None:
            columns[name] = np.concatenate(values)
    return replace(many[0], **columns)


def measured_area(instances: Instances) -> Floats:
    """`(N,)` px² of the richest geometry: the outline if there is one, else the box."""
    if instances.rings is None:
        return box.area(instances.boxes)
    return np.asarray(shapely.area(instances.rings.geometry()))


def triples(keypoints: Floats) -> Floats:
    """`(N, K, 3)` of `(N, K, 2 or 3)` keypoints.

    Without a visibility they are visible; a point at the origin is not labelled: 0, 0, 0.

    >>> triples(np.array([[[5, 6.0], [0, 0]]])).tolist()
    [[[5.0, 6.0, 2.0], [0.0, 0.0, 0.0]]]
    """
    result = np.full((*keypoints.shape[:2], 3), 2.0)
    result[..., : keypoints.shape[2]] = keypoints
    result[(keypoints[..., :2] == 0).all(axis=-1)] = 0.0
    return result


def labelled(keypoints: Floats) -> Bools:
    """`(N, K)` False for a keypoint that is not labelled: 0, 0, 0 by COCO's convention."""
    return np.asarray((keypoints != 0).any(axis=-1))
