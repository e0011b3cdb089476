"""How predictions are read, and what reading them gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tiler.geometry import few
from tiler.predictions.coordinates import PointFrame

if TYPE_CHECKING:
    from tiler.findings import Finding
    from tiler.geometry.instances import Instances
    from tiler.predictions.class_map import ClassMap
    from tiler.predictions.sizing import Sizing
    from tiler.types import Bools, Floats, Ints, Task


FULL = 300  # rows: Ultralytics' default max_det


@dataclass(frozen=True, slots=True)
class Reading:
    """What the user or the manifest says about the predictions.

    Attributes:
        task: auto, detect, segment, obb or pose.
        names: class names, if known.
        kpt_shape: number of keypoints and of values each, if known.
        assume_conf: the confidence of rows that have none.
        conf_first: rows are class, confidence, x, y, width, height.
        preds_base: what the category ids of JSON count from: auto, 0, 1 or coco91.
        boxes: what coordinates count in: auto (as the format has it), or see `PointFrame`.
        exact: take rows as they are: neither clamped to their frame nor rejected for their size or
            place.
        categories: class index by category id of a ground truth; used where `preds_base` is auto.
        class_map: the dataset's class for each of these classes; None: they are the dataset's.

    >>> Reading("detect", names=("car", "bus")).classes
    2
    """

    task: str = "auto"
    names: tuple[str, ...] | None = None
    kpt_shape: tuple[int, int] | None = None
    assume_conf: float | None = None
    conf_first: bool = False
    preds_base: str = "auto"
    exact: bool = False
    categories: Mapping[int, int] | None = field(default=None, hash=False)  # a dict has no hash
    boxes: str = "auto"
    class_map: ClassMap | None = field(default=None, hash=False)

    def coordinates(self, usual: PointFrame) -> PointFrame:
        """What coordinates count in; `usual`: in files of this format."""
        return usual if self.boxes == "auto" else PointFrame.of(self.boxes)

    @property
    def as_given(self) -> bool:
        """Whether rows are exact and in pixels: then areas and masks stay as given, too."""
        return self.exact and self.boxes in ("auto", "pixels", "image")

    @property
    def classes(self) -> int | None:
        """The number of classes, if known."""
        return None if self.names is None else len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The T tiles that a batch of predictions is for.

    Attributes:
        names: as in the predictions' `keys`.
        rects: `(T, 4)` float64 xyxy, the windows in source pixels.
        scale: `(T,)` tile pixels per source pixel.
        within: `(T, 4)` the part of each window inside the image: less than all of it for padded
            tiles. Default: `rects`.
        image: `(T, 2)` width and height of each one's image. Default: each shows all of it.
        source: `(T,)` the number of the image. Default: each is of another one.
    """

    names: list[str]
    rects: Floats
    scale: Floats
    within: Floats = None  # type: ignore[assignment]
    image: Floats = None  # type: ignore[assignment]
    source: Ints = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.within is None:
            object.__setattr__(self, "within", self.rects)
        if self.image is None:
            object.__setattr__(self, "image", self.rects[:, 2:])
        if self.source is None:
            object.__setattr__(self, "source", np.arange(len(self.rects)))

    def take(self, index: Ints | slice) -> Frames:
        """Some of the tiles."""
        return Frames(
            np.array(self.names, object)[index].tolist(),
            self.rects[index],
            self.scale[index],
            self.within[index],
            self.image[index],
            self.source[index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The detections of a batch.

    Attributes:
        instances: in SOURCE pixels, with `conf`, ordered by tile, then row. `row` counts the
            rows of the file that are not blank, or the entries of the JSON, from 0.
        tile: `(N,)` index into the frames.
        rejected: tile, row and finding code of the invalid rows.
        left_out: tile and row of those whose class is left out.
        digest: of the numbers that were read and their places, in hex; empty if they were read
            `exact`.
        segmentations: only for outlines in JSON that were read `exact`: COCO's polygons or mask of
            each row as given, in px of its own frame. Then there are no rings, and `boxes` are the
            given ones (0 where there is none).
        box_area: only for JSON that was read `exact`: `(N,)` px² of the boxes as given, NaN where
            there is none. `area` is then the one that pycocotools uses; NaN for outlines whose
            pixels are still to be counted.
    """

    instances: Instances
    tile: Ints
    rejected: list[tuple[int, int, str]]
    findings: list[Finding]
    digest: str
    segmentations: list[Any] | None = None
    box_area: Floats | None = None
    left_out: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class RowExtents:
    """Where the N rows of a batch lie according to their files, before any is rejected.

    Attributes:
        tile: `(N,)` index into the frames.
        boxes: `(N, 4)` float64 xyxy, the bounds of outlines; NaN where that is not known.
        class_id: `(N,)` as in the files; of names, their places among these.
        unreadable: `(N,)` rows that break a rule wherever they lie.
        coordinates: what the boxes count in.
        class_map: what becomes of the classes.
    """

    tile: Ints
    boxes: Floats
    class_id: Floats
    unreadable: Bools
    coordinates: PointFrame
    class_map: ClassMap | None = None

    @property
    def sized(self) -> Bools:
        """`(N,)` rows whose box is known and has a size."""
        return few.every(self.boxes[:, 2:] > self.boxes[:, :2])

    @property
    def empty(self) -> Bools:
        """`(N,)` rows whose box is known and has none, as detectors write now and then."""
        known = ~few.some(np.isnan(self.boxes))
        return known & ~self.sized & ~self.unreadable


class Batch(Protocol):
    """The predictions of some tiles. It can be pickled, so that a worker process can read it."""

    def read(self, frames: Frames) -> Detections:
        """The detections. `frames`: of the keys that the batch was made for, in the same order."""


class FileBatch(Batch, Protocol):
    """Predictions of one model."""

    def extents(self) -> RowExtents:
        """Where its rows lie according to their files."""


class Predictions(Protocol):
    """Predictions found at a path, whose format is known.

    Attributes:
        kind: format and task, in words.
        keys: one for each tile or image, sorted: the path of a txt relative to its folder, without
            suffix; in JSON the name of the image without its image suffix.
        counts: rows of each key.
        findings: what was noticed that belongs to no key.
        numeric: keys are the image ids of a JSON, not names.
        sizing: only for JSON that is read `exact`: by what pycocotools sizes its detections.
    """

    @property
    def kind(self) -> str: ...
    @property
    def task(self) -> Task: ...
    @property
    def keys(self) -> list[str]: ...
    @property
    def counts(self) -> list[int]: ...
    @property
    def findings(self) -> list[Finding]: ...
    @property
    def kpt_shape(self) -> tuple[int, int] | None: ...
    @property
    def numeric(self) -> bool: ...
    @property
    def sizing(self) -> Sizing | None: ...

    def batch(self, indices: Sequence[int]) -> FileBatch:
        """The predictions of the keys at these indices, in this order."""
