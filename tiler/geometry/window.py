"""The window: a rectangle of whole pixels in a source image, and what it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tiler.errors import TilerError
from tiler.geometry import boxes as box
from tiler.geometry.clipping import ObbPolicy, clip
from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.types import Floats


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open rectangle of source pixels: columns x to x + width, rows y to y + height.

    Raises:
        TilerError: a side is not a positive whole number.

    >>> Window(0, 0, 640, 640).intersection(Window(512, 0, 640, 640))
    Window(x=512, y=0, width=128, height=640)
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for name in ("x", "y", "width", "height"):
            value = getattr(self, name)
            if isinstance(value, bool) or not math.isfinite(value) or int(value) != value:
                raise TilerError(f"a window has whole pixels, got {name}={value!r}")
            object.__setattr__(self, name, int(value))
        if self.width <= 0 or self.height <= 0:
            raise TilerError(f"a window has a size, got {self.width} x {self.height}")

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def bounds(self) -> Floats:
        """`(4,)` float64 xyxy in source pixels."""
        return np.array([self.x, self.y, self.right, self.bottom], np.float64)

    def intersection(self, other: Window) -> Window | None:
        """The pixels of both, or None if they share none."""
        x = max(self.x, other.x)
        y = max(self.y, other.y)
        width = min(self.right, other.right) - x
        height = min(self.bottom, other.bottom) - y
        if width <= 0 or height <= 0:
            return None
        return Window(x, y, width, height)

    def clip(
        self, instances: Instances, min_visible: float = 0.0, obb: ObbPolicy = "aligned"
    ) -> Instances:
        """What this window shows of instances of the source image, in the window's own frame.

        Args:
            instances: in source pixels.
            min_visible: leave out instances of which a smaller part is visible (0..1).
            obb: see `clipping.clip`.

        Returns:
            Those with a visible part of area > 0, in the order given, moved so that the
            window's corner is the origin. `row` tells where each came from, `visible` which
            part of it is left.

        >>> car = Instances(class_id=np.array([3]), boxes=np.array([[630, 10, 650, 30.0]]))
        >>> part = Window(512, 0, 128, 128).clip(car)
        >>> part.boxes.tolist(), part.visible.tolist()
        ([[118.0, 10.0, 128.0, 30.0]], [0.5])
        """
        if not 0 <= min_visible <= 1:
            raise TilerError(f"min_visible is a part, 0 to 1, got {min_visible!r}")
        overlapping, _ = box.pairs(instances.boxes, self.bounds[None])
        clipped = clip(instances.take(overlapping), self.bounds, obb)
        kept = (clipped.visible > 0) & (clipped.visible >= min_visible)
        return clipped.take(kept).moved(-self.x, -self.y)
