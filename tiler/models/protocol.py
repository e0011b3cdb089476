"""What a detector is to the rest of tiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tiler.geometry.instances import Instances
    from tiler.types import Task

    Pixels = NDArray[np.generic]  # (H, W, C), usually uint8 RGB


class Model(Protocol):
    """A detector.

    Its three steps are apart so that they can be timed and overlap: tiles are `prepared` in the
    threads that decode them, a batch is `run` by one thread at a time, and `detections` reads what
    came out while the next batch runs.

    Attributes:
        title: what it is, in a line: file, family, input size, classes.
        task: None if only its detections tell.
        names: of its classes; None if it has none.
        kpt_shape: of pose, as in a dataset.yaml.
        size: width and height of its input, px; None if it takes tiles of any size.
        batch: how many tiles it takes at once; None for any number.
        fingerprint: differs whenever its detections may.
        suppresses: duplicates within a tile are suppressed inside, so that no option for that acts.
    """

    @property
    def title(self) -> str: ...
    @property
    def task(self) -> Task | None: ...
    @property
    def names(self) -> tuple[str, ...] | None: ...
    @property
    def kpt_shape(self) -> tuple[int, int] | None: ...
    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def suppresses(self) -> bool: ...

    def prepared(self, pixels: Pixels) -> Any:
        """One tile as the model takes it. May be called from any thread."""

    def run(self, batch: Sequence[Any]) -> Any:
        """What the model says of some prepared tiles; `batch` of them where that is fixed.

        Raises:
            MemoryError: they need more memory than there is.
        """

    def detections(self, output: Any, sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """The detections of each tile, in its px, by falling confidence.

        Args:
            output: of `run`.
            sizes: width and height of the tiles, px; fewer than the batch if that was padded.

        Raises:
            TilerError: what the model returned is not as expected.
        """
