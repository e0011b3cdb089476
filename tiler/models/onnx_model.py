"""Models in ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiler.errors import TilerError
from tiler.models.fingerprints import fingerprint
from tiler.models.frames import TileFrame
from tiler.models.image_inputs import ImageInput
from tiler.models.layouts import Layout, Output, Signature, layout_of
from tiler.models.metadata import Metadata
from tiler.models.onnx_files import files_of
from tiler.models.sessions import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tiler.geometry.instances import Instances
    from tiler.models.protocol import Pixels
    from tiler.options.models import ModelOptions
    from tiler.types import Task

    Arrays = Sequence[NDArray[Any]]

USUAL = 640  # px, of a network that takes any size and does not say which
PLACES = {"cpu": "on the CPU", "cuda": "on the GPU"}


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A `Model` in an ONNX file.

    Attributes:
        size: width and height that tiles are resized to; None if they are not.
        options: confidence, NMS and number of detections.
        session: what runs it.
        image: its input.
        layout: how its outputs are read.
    """

    title: str
    size: tuple[int, int] | None
    fingerprint: str
    options: ModelOptions
    session: Session
    image: ImageInput
    layout: Layout

    @property
    def task(self) -> Task:
        return self.layout.task

    @property
    def names(self) -> tuple[str, ...] | None:
        return self.layout.names

    @property
    def kpt_shape(self) -> tuple[int, int] | None:
        shape = getattr(self.layout.reader, "shape", None)
        return None if shape is None else shape.kpt_shape

    @property
    def batch(self) -> int | None:
        return self.image.batch

    @property
    def suppresses(self) -> bool:
        return self.layout.suppresses

    def prepared(self, pixels: Pixels) -> NDArray[Any]:
        """`(C, H, W)` one tile as the network takes it."""
        return self.image.tensor(pixels, self.layout, self.size)

    def run(self, batch: Sequence[NDArray[Any]]) -> list[Arrays]:
        """The outputs for each tile, without a batch axis."""
        if not self.image.batched:
            return [self.session.run(self.image.name, tile) for tile in batch]
        shapes = {tile.shape for tile in batch}
        if self.image.batch == 1 or len(shapes) > 1:
            return [self._one(tile) for tile in batch]
        missing = max(0, (self.image.batch or 0) - len(batch))
        tiles = np.stack([*batch, *[batch[-1]] * missing])
        arrays = self.session.run(self.image.name, tiles)
        return [[array[number] for array in arrays] for number in range(len(batch))]

    def _one(self, tile: NDArray[Any]) -> Arrays:
        arrays = self.session.run(self.image.name, tile[None])
        if self.layout.fit is None:  # lists of the only tile
            return arrays
        return [array[0] for array in arrays]

    def detections(
        self, output: Sequence[Arrays], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """The detections of each tile, in its px, by falling confidence."""
        found = []
        for arrays, size in zip(output, sizes, strict=False):
            frame = TileFrame.of(size, self.size or size, self.layout.fit or "stretch")
            try:
                found.append(self.layout.reader(arrays, frame, self.options))
            except TilerError as error:
                raise TilerError(f"{self.session.path}: {error}") from None
        return found


def onnx_model(path: Path, options: ModelOptions) -> OnnxModel:
    """The model in a file.

    Raises:
        TilerError: it cannot be loaded, or what it returns is not known.
    """
    files = files_of(path)
    session = Session(path, options.device)
    image = ImageInput.of(path, session.inputs)
    metadata = Metadata.of(session.words, str(path))
    size = image.size or metadata.size or (USUAL, USUAL)
    layout = layout_of(_signature(session, image, metadata, size, options))
    if layout.fit is None:
        size = image.size  # type: ignore[assignment]
    files += [path.with_name(name) for name in layout.beside if path.with_name(name).is_file()]
    unused = ("device", "nms_iou") if layout.suppresses else ("device",)
    return OnnxModel(
        title=_title(session, layout, size),
        size=size,
        fingerprint=fingerprint(files, (session.version, session.device), options, unused),
        options=options,
        session=session,
        image=image,
        layout=layout,
    )


def _signature(
    session: Session,
    image: ImageInput,
    metadata: Metadata,
    size: tuple[int, int],
    options: ModelOptions,
) -> Signature:
    """What the model is known by, which takes one run."""
    arrays = session.run(image.name, image.grey(size))
    outputs = [Output(*output) for output in zip(session.outputs, arrays, strict=True)]
    given = None
    if options.names is not None:
        given = tuple(options.names.split(","))
    return Signature(session.path, image.batched, size, outputs, metadata, given)


def _title(session: Session, layout: Layout, size: tuple[int, int] | None) -> str:
    sides = "any size"
    if size is not None:
        sides = f"{size[0]} x {size[1]} px"
    parts = [layout.family, layout.task, sides]
    if layout.names is not None:
        parts.append(f"{len(layout.names)} classes")
    parts.append(PLACES[session.device])
    return f"{session.path.name}: {', '.join(parts)}"
