"""Predictions as a detector might make them on the tiles of a split, to try `tiler merge` without
one.

    python examples/simulate.py TILES OUT [--seed 0]

Reads the labels and the manifest that `tiler split` wrote (a detect dataset) and writes
OUT/labels/<tile>.txt, rows `class x y width height conf` with six digits, as YOLO's save_txt with
save_conf does. This is a simulation: each visible label is found with a probability and a
confidence that fall with its visible part; its sides are off by about 3 % of its size, but a side
that the tile cuts ends within about a pixel of the tile's edge; there are a few false detections.
Tiles that see the same object err alike, mostly. The same seed gives the same rows.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np

from tiler.formats import manifest


def simulate(tiles: str | Path, out: str | Path, seed: int = 0) -> int:
    """Write the predictions; returns how many."""
    labels = Path(out, "labels")
    labels.mkdir(parents=True)
    total = 0
    for source in manifest.read_sources(Path(tiles, manifest.NAME)):
        for tile in source.tiles:
            text = Path(tiles, "labels", source.split, f"{tile.name}.txt").read_text()
            rows = np.array([line.split() for line in text.splitlines()], np.float64).reshape(-1, 5)
            rng = generator(seed, tile.name)
            alike = [
                generator(seed, f"{source.source} {row}").normal(size=5) for row, _ in tile.rows
            ]
            z = 0.9**0.5 * np.reshape(alike, (-1, 5)) + 0.1**0.5 * rng.normal(size=(len(rows), 5))
            found = predicted(
                rows,
                np.array([part for _, part in tile.rows]),
                z,
                (tile.w * tile.scale, tile.h * tile.scale),
                rng,
            )
            total += len(found)
            if len(found):  # a detector that finds nothing writes no file
                np.savetxt(labels / f"{tile.name}.txt", found, "%d" + " %.6g" * 5)
    return total


def generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *hashlib.blake2b(name.encode(), digest_size=8).digest()])


def predicted(
    rows: np.ndarray,
    visible: np.ndarray,
    z: np.ndarray,
    size: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """`(M, 6)` class, box and confidence, the highest first, for `(N, 5)` labels of a tile of this
    size in px.
    """
    edge = np.array([0, 0, *size])
    sides = rows[:, 3:] * size
    low = rows[:, 1:3] * size - sides / 2
    boxes = np.concatenate([low, low + sides], axis=1)
    cut = (np.abs(boxes - edge) < 0.01) & (visible < 1)[:, None]
    inward = np.array([1, 1, -1, -1]) * np.abs(rng.normal(0, 1, boxes.shape))
    boxes = np.clip(
        boxes + np.where(cut, inward, z[:, :4] * (0.03 * np.tile(sides, 2) + 0.3)),
        0,
        np.tile(size, 2),
    )
    conf = 1 / (1 + np.exp(0.8 - 2.8 * np.sqrt(visible) - 0.9 * z[:, 4]))
    seen = (rng.random(len(rows)) > 0.01 + 0.5 * (1 - visible) ** 4) & (
        boxes[:, 2:] - boxes[:, :2] > 2
    ).all(axis=1)
    false = rng.random((rng.poisson(0.3) if len(rows) else 0, 3)) * [*(np.array(size) - 24), 0.4]
    boxes = np.concatenate([boxes[seen], np.concatenate([false[:, :2], false[:, :2] + 24], axis=1)])
    classes = np.concatenate(
        [rows[seen, 0], rng.choice(rows[:, 0], len(false)) if len(false) else []]
    )
    conf = np.concatenate([conf[seen], false[:, 2]])
    xywh = np.concatenate(
        [(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1
    ) / np.tile(size, 2)
    return np.column_stack([classes, xywh, conf])[np.argsort(-conf, kind="stable")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tiles", type=Path, metavar="TILES", help="output of tiler split")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{simulate(args.tiles, args.out, args.seed)} predictions in {args.out}")


if __name__ == "__main__":
    main()
