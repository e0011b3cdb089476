"""The detections of a full image as scripts and notebooks use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from tiler.errors import TilerError
from tiler.formats import html
from tiler.geometry.instances import Instances
from tiler.geometry.masks import Masks

if TYPE_CHECKING:
    from tiler.types import Bools

Library: TypeAlias = Literal["pandas", "polars"]
LIBRARIES: tuple[Library, ...] = ("pandas", "polars")
SHOWN = 10  # rows of a table in a notebook


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ImageDetections(Instances):
    """The detections of one full image: `Instances` that know its size and the names of classes.

    Attributes:
        names: of all classes; empty where they are not known.
        size: width and height of the image, px.

    >>> found = Instances(class_id=[1], boxes=[[0, 0, 4, 2]], conf=[0.5])
    >>> ImageDetections.of(found, ["bus", "car"], (640, 480))
    ImageDetections(1 detection in 640 x 480 px, detect: 1 car; conf 0.5 to 0.5)
    """

    names: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls, instances: Instances, names: Sequence[str] | None, size: tuple[int, int]
    ) -> ImageDetections:
        """The same detections, of an image of this size."""
        columns = {item.name: getattr(instances, item.name) for item in fields(Instances)}
        return cls(**columns, names=tuple(names or ()), size=size)

    @property
    def class_name(self) -> list[str]:
        """The name of each one's class; its number where it has none."""
        return list(map(self.name_of, self.class_id.tolist()))

    def name_of(self, class_id: int) -> str:
        """The name of a class; its number where it has none."""
        if class_id < len(self.names):
            return self.names[class_id]
        return str(class_id)

    def _where(self) -> str:
        width, height = self.size
        return f" in {width} x {height} px"

    def _class_words(self, class_id: int) -> str:
        if self.names:
            return self.name_of(class_id)
        return f"of class {class_id}"

    def columns(self) -> dict[str, list[Any]]:
        """Columns of a table: class_id, class, confidence, x1, y1, x2, y2, area; and, where there
        are some, outlines as rings of points (OBBs: of their four corners), or keypoints.
        """
        table: dict[str, list[Any]] = {
            "class_id": self.class_id.tolist(),
            "class": self.class_name,
            "confidence": self.confidence.tolist(),
        }
        for name, values in zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True):
            table[name] = values.tolist()
        table["area"] = self.area.tolist()
        if self.rings is not None:
            outlines = [self.rings[i] for i in range(len(self))]
            table["outline"] = [[ring.tolist() for ring in rings] for rings in outlines]
        if self.keypoints is not None:
            table["keypoints"] = self.keypoints.tolist()
        return table

    def to_dataframe(self, library: Library | None = None) -> Any:
        """A row for each detection, as `columns` has them.

        Args:
            library: pandas or polars. Default: pandas if it is installed, else polars.

        Raises:
            TilerError: it is not installed.
        """
        return dataframe(self.columns(), library)

    def to_supervision(self) -> Any:
        """The same as supervision's `Detections`.

        Names of classes are in `data["class_name"]`, corners of OBBs in `data["xyxyxyxy"]`, and
        keypoints, `(N, K, 3)`, in `data["keypoints"]`. Outlines become masks, which are compact if
        supervision has them so (0.28 on).

        Raises:
            TilerError: supervision is not installed, or the masks are too large for the memory.
        """
        supervision = _installed("to_supervision", "supervision")
        data: dict[str, Any] = {"class_name": np.array(self.class_name, dtype=object)}
        mask = None
        if self.task == "segment":
            mask = self._masks(getattr(supervision, "CompactMask", None))
        elif self.rings is not None:
            data["xyxyxyxy"] = self.rings.quads()
        if self.keypoints is not None:
            data["keypoints"] = self.keypoints
        return supervision.Detections(
            xyxy=self.boxes,
            mask=mask,
            confidence=self.confidence,
            class_id=self.class_id,
            data=data,
        )

    def _masks(self, compact: Any) -> Any:
        """The pixels of each outline.

        Args:
            compact: supervision's class of compact masks, if it has one.
        """
        assert self.rings is not None
        width, height = self.size
        masks = Masks.of_rings(self.rings, np.tile([width, height], (len(self), 1)))
        if compact is None:
            return _dense(masks, width, height)
        runs = [{"size": [height, width], "counts": counts} for counts in masks.counts()]
        corners = masks.bounds() - [0, 0, 1, 1]  # the last pixel is inside, for supervision
        return compact.from_coco_rle(runs, corners, (height, width))

    def _repr_html_(self) -> str:
        """A table of the first detections, for a notebook."""
        shown = self[:SHOWN].columns()
        heads = [name for name in shown if name not in ("outline", "keypoints")]
        rows = zip(*(shown[name] for name in heads), strict=True)
        caption = self.title()
        if len(self) > SHOWN:
            caption += f"; the first {SHOWN}"
        return html.table(heads, list(rows), caption)


def dataframe(columns: Mapping[str, Sequence[Any]], library: Library | None) -> Any:
    """A table of pandas or polars.

    Raises:
        TilerError: it is not installed, or neither is.
    """
    if library is not None and library not in LIBRARIES:
        raise TilerError(f"library: expected pandas or polars, got {library!r}")
    wanted = LIBRARIES if library is None else (library,)
    return _installed("to_dataframe", *wanted).DataFrame(columns)


def _installed(method: str, *libraries: str) -> Any:
    """The first of some libraries that is installed.

    Raises:
        TilerError: none is, though a method needs one.
    """
    for name in libraries:
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise TilerError(f"{method} needs {' or '.join(libraries)}: pip install {libraries[0]}")


def _dense(masks: Masks, width: int, height: int) -> Bools:
    """`(N, height, width)`, for releases of supervision without compact masks."""
    result = np.zeros((len(masks), height, width), bool)
    for pixels, counts in zip(result, masks.counts(), strict=True):
        is_object = np.arange(len(counts)) % 2 == 1
        pixels[:] = np.repeat(is_object, counts).reshape(width, height).T
    return result
