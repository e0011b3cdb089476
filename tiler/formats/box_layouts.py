"""Whether boxes are in pixels, and those of COCO x, y, width and height."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import TilerError

if TYPE_CHECKING:
    from tiler.types import Floats

FAR = 0.02  # of a side: boxes that reach farther out of their image are not rounded ones
MANY = 0.2  # of all boxes
NEARLY_ALL = 0.99


def require_pixels(file: Path, kind: str, boxes: Floats) -> None:
    """Check that boxes are not parts of their images' sides.

    Args:
        boxes: `(N, 4)` x, y, width and height, N > 0.

    Raises:
        TilerError: they look like it.
    """
    if (boxes <= 1).all() and (boxes >= 0).all():
        raise TilerError(
            f"{file}: no number of any box is above 1: they seem to be parts of the image's sides; "
            f"those of {kind} are pixels"
        )


def require_no_corners(file: Path, boxes: Floats, sizes: Floats) -> None:
    """Check that boxes are not two corners.

    Args:
        boxes: `(N, 4)` x, y, width and height, N > 0.
        sizes: `(N, 2)` width and height of their images, px.

    Raises:
        TilerError: they reach out of their images, and fit as corners.
    """
    reaching = (boxes[:, :2] + boxes[:, 2:] > sizes * (1 + FAR) + 1).any(axis=1)
    corners = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + 1)
    if reaching.mean() >= MANY and corners.all(axis=1).mean() >= NEARLY_ALL:
        raise TilerError(
            f"{file}: {int(reaching.sum())} of {len(boxes)} boxes reach out of their images as x, "
            "y, width, height, and all fit as two corners: choose --bbox xyxy, or --bbox xywh if "
            "they are right"
        )
