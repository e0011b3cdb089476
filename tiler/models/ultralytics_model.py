"""Models that Ultralytics runs, if it is installed beside us: it is no dependency of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.findings import short
from tiler.interop import foreign
from tiler.models.callables import failure
from tiler.models.fingerprints import fingerprint
from tiler.models.readers import most_confident
from tiler.types import TASKS

if TYPE_CHECKING:
    from tiler.geometry.instances import Instances
    from tiler.models.protocol import Pixels
    from tiler.options.models import ModelOptions
    from tiler.types import Task

USUAL = 640  # px, of a model that does not say for which size it was trained


@dataclass(frozen=True, slots=True, eq=False)
class UltralyticsModel:
    """A `Model` that is Ultralytics' `YOLO` or `RTDETR`, which does its own NMS.

    Attributes:
        model: the object of Ultralytics.
        options: confidence, NMS, number of detections, device.
    """

    title: str
    model: Any
    options: ModelOptions
    task: Task
    names: tuple[str, ...]
    kpt_shape: tuple[int, int] | None
    size: tuple[int, int]
    fingerprint: str

    batch: int | None = None
    suppresses: bool = False  # by Ultralytics, with our options

    def prepared(self, pixels: Pixels) -> Any:
        """`(H, W, 3)` the tile as OpenCV has images: blue, green, red."""
        tile = pixels[..., None] if pixels.ndim == 2 else pixels
        if tile.dtype != np.uint8:
            raise TilerError(f"the model takes pixels of 8 bits, got {tile.dtype}")
        if tile.shape[2] == 1:
            tile = np.repeat(tile, 3, axis=2)
        if tile.shape[2] == 4:
            tile = tile[..., :3]
        return np.ascontiguousarray(tile[..., ::-1])

    def run(self, batch: Sequence[Any]) -> Any:
        """Ultralytics' results."""
        device = {} if self.options.device == "auto" else {"device": self.options.device}
        try:
            return self.model.predict(
                list(batch),
                rect=False,
                imgsz=[self.size[1], self.size[0]],
                conf=self.options.conf,
                iou=self.options.nms_iou,
                max_det=self.options.max_det,
                verbose=False,
                **device,
            )
        except Exception as error:
            raise failure(self.title, error) from error

    def detections(
        self, output: Sequence[Any], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """The detections of each tile, in its px, by falling confidence."""
        found = []
        for result, _ in zip(output, sizes, strict=False):
            found.append(most_confident(foreign(result), self.options))
        return found


def ultralytics_file(path: Path, options: ModelOptions) -> UltralyticsModel:
    """The model in a file or folder that only Ultralytics can run.

    Raises:
        TilerError: Ultralytics is not installed, or cannot load it.
    """
    try:
        from ultralytics import YOLO
    except ImportError as error:
        if error.name != "ultralytics":
            raise TilerError(f"{path}: Ultralytics cannot be loaded: {error}") from None
        raise TilerError(
            f"{path}: two ways: pip install ultralytics beside tiler; or export it, which needs no "
            f"Ultralytics afterwards: yolo export model={path.name} format=onnx dynamic=True"
        ) from None
    try:
        model = YOLO(path)
        return ultralytics_model(model, options, path)
    except TilerError:
        raise
    except Exception as error:
        raise failure(str(path), error) from error


def ultralytics_model(
    model: Any, options: ModelOptions, path: Path | None = None
) -> UltralyticsModel:
    """An object of Ultralytics.

    Args:
        path: where it is from.

    Raises:
        TilerError: it is no detector, or has not as many classes as there are names.
    """
    name = str(path or type(model).__name__)
    task = str(model.task)
    if task not in TASKS:
        raise TilerError(f"{name}: task {short(task)}; tiler runs models of {', '.join(TASKS)}")
    names = _names(model, options)
    size = _size(model)
    kpt_shape = getattr(getattr(model, "model", None), "kpt_shape", None)
    return UltralyticsModel(
        title=f"{name}: {type(model).__name__} of Ultralytics, {task}, {size[0]} x {size[1]} px, "
        f"{len(names)} classes",
        model=model,
        options=options,
        task=task,
        names=names,
        kpt_shape=None if kpt_shape is None else (int(kpt_shape[0]), int(kpt_shape[1])),
        size=size,
        fingerprint=_fingerprint(model, options, path),
    )


def is_ultralytics(model: Any) -> bool:
    """Whether it is an object of Ultralytics, which takes tiles in another way than functions."""
    return type(model).__module__.partition(".")[0] == "ultralytics" and hasattr(model, "predict")


def _names(model: Any, options: ModelOptions) -> tuple[str, ...]:
    own = model.names
    if options.names is None:
        return tuple(str(own[number]) for number in sorted(own))
    given = tuple(options.names.split(","))
    if len(given) != len(own):
        raise TilerError(f"--names: the model has {len(own)} classes, got {len(given)} names")
    return given


def _size(model: Any) -> tuple[int, int]:
    """Width and height that it was trained or exported for."""
    given = getattr(model, "overrides", {}).get("imgsz")
    if given is None:
        given = USUAL
    if isinstance(given, int):
        return given, given
    height, width = given
    return int(width), int(height)


def _fingerprint(model: Any, options: ModelOptions, path: Path | None) -> str:
    """Of the file or folder that it is from, if that is known."""
    import ultralytics

    source = path or Path(str(getattr(model, "ckpt_path", None) or ""))
    files = [source] if source.is_file() else []
    if path is not None and path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    return fingerprint(files, [str(ultralytics.__version__)], options)
