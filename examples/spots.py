"""A detector to try `tiler predict` with, where no model is at hand: what stands out is a car.

tiler predict examples.spots:detect examples/scenes --split val --data examples/scenes --tile 640

Any function like `detect` will do: it is given a list of tiles and returns, for each, what
`tiler.stitch` takes.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageFilter

CONTRAST = 60  # of 255, in any colour, from what is around
AROUND = 24  # px
LEAST = 30  # px that a spot has
CAR = 0


def detect(tiles: list[np.ndarray]) -> list[SimpleNamespace]:
    """The spots of each tile, `(H, W, 3)` uint8 RGB."""
    return [_detections(tile) for tile in tiles]


def _detections(tile: np.ndarray) -> SimpleNamespace:
    around = Image.fromarray(tile).filter(ImageFilter.GaussianBlur(AROUND))
    contrast = np.abs(tile.astype(int) - np.asarray(around)).max(axis=2)
    spots = [spot for spot in _spots(contrast > CONTRAST) if spot[4] >= LEAST]
    columns = np.array(spots, np.float64).reshape(-1, 5)
    boxes = columns[:, :4]
    sides = boxes[:, 2:] - boxes[:, :2]
    filled = columns[:, 4] / sides.prod(axis=1)
    return SimpleNamespace(
        xyxy=boxes, confidence=np.clip(filled, 0.05, 0.95), class_id=np.full(len(boxes), CAR)
    )


def _spots(mask: np.ndarray) -> list[list[int]]:
    """x0, y0, x1, y1 and the number of pixels of each spot: of runs in rows that touch."""
    parent: list[int] = []  # of each run, one that it is joined to

    def root(run: int) -> int:
        while parent[run] != run:
            run = parent[run]
        return run

    runs: list[tuple[int, int, int]] = []  # y, x0, x1
    above = range(0)
    for y in np.flatnonzero(mask.any(axis=1)).tolist():
        first = len(runs)
        edges = np.flatnonzero(np.diff(mask[y].astype(np.int8), prepend=0, append=0))
        for x0, x1 in edges.reshape(-1, 2).tolist():
            run = len(runs)
            runs.append((y, x0, x1))
            parent.append(run)
            for other in above:
                y_above, start, end = runs[other]
                if y_above == y - 1 and start <= x1 and end >= x0:
                    parent[root(other)] = root(run)
        above = range(first, len(runs))
    spots: dict[int, list[int]] = {}
    for run, (y, x0, x1) in enumerate(runs):
        spot = spots.setdefault(root(run), [x0, y, x1, y + 1, 0])
        spot[0], spot[2] = min(spot[0], x0), max(spot[2], x1)
        spot[1], spot[3] = min(spot[1], y), max(spot[3], y + 1)
        spot[4] += x1 - x0
    return list(spots.values())
