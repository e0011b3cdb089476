"""What a trainer waits for: an epoch of tiles from files, from shards, and cut when they are read.

    python benchmarks/training_input.py [--images 10] [--repeats 3] [--keep DIR]

The same tiles in every way, as arrays with their labels, by one process on one core; nothing
trains. Seconds are of the CPU, since files are in memory and machines are shared. Files are read in
random order; shards by webdataset, where this interpreter has it, with a buffer of 100 tiles to
shuffle; `tiler.Tiles`, with a cache that holds four of the images, in the order of its sampler, and
once in random order. Ways run in turn, each in a process of its own. An epoch begins when the first
tile is asked for; what comes before it (loading libraries, reading all labels) is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import measure
import split

TILE, OVERLAP = split.TILE, split.OVERLAP
FILES, SHARDS, LAZY, UNORDERED = "files", "tar shards", "tiler.Tiles", "tiler.Tiles, any order"
Tiles = Iterator[tuple[Any, Any]]


def rows(text: str) -> Any:
    import numpy as np

    return np.array([line.split() for line in text.splitlines()], float)


def from_files(root: Path) -> Tiles:
    """Each tile and its label file, in random order."""
    import numpy as np
    from PIL import Image

    paths = sorted((root / "flat/images/train").iterdir())
    random.Random(0).shuffle(paths)

    def read() -> Tiles:
        for path in paths:
            label = root / "flat/labels/train" / f"{path.stem}.txt"
            with Image.open(path) as image:
                yield np.array(image), rows(label.read_text())

    return read()


def from_shards(root: Path) -> Tiles:
    import numpy as np
    from webdataset import WebDataset

    paths = sorted(map(str, (root / "tar").glob("train-*.tar")))
    samples = WebDataset(paths, shardshuffle=False).shuffle(100).decode("pil")
    return ((np.array(sample["jpg"]), rows(sample["txt"])) for sample in samples)


def lazily(root: Path, ordered: bool) -> Tiles:
    import tiler

    tiles = tiler.Tiles(root / "data", tile=TILE, overlap=OVERLAP, workers=1, cache="200MB")
    order = tiles.sampler(0)
    if not ordered:
        random.Random(0).shuffle(order)

    def read() -> Tiles:
        return (tiles[i] for i in order)

    return read()


WAYS: dict[str, Callable[[Path], Tiles]] = {
    FILES: from_files,
    SHARDS: from_shards,
    LAZY: lambda root: lazily(root, ordered=True),
    UNORDERED: lambda root: lazily(root, ordered=False),
}


def epoch(way: str, root: Path) -> None:
    """Read all tiles once; prints what that took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    begun = time.process_time()
    tiles = WAYS[way](root)
    start = time.process_time()
    count = sum(pixels.shape[2] == 3 for pixels, _ in tiles)
    seconds = time.process_time() - start
    print(json.dumps({"tiles": count, "before": start - begun, "seconds": seconds}))


def disk(folder: Path) -> tuple[int, float]:
    """Number of files in a folder, and the MB that they take."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_blocks * 512 for path in files) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--epoch", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.epoch:
        epoch(chosen.epoch, chosen.keep)
        return
    with measure.folder(chosen.keep) as root:
        compare(root, chosen.images, chosen.repeats)


def compare(root: Path, images: int, repeats: int) -> None:
    if not (root / "data").is_dir():
        split.make({"jpg": root / "data"}, images)
    python = [sys.executable, "-m", "tiler", "split", str(root / "data/dataset.yaml")]
    options = ["--tile", str(TILE), "--overlap", str(OVERLAP), "--quiet"]
    for layout in ("flat", "tar"):
        measure.once([*python, *options, "--layout", layout, "--out", str(root / layout)])
    ways = [way for way in WAYS if way != SHARDS or find_spec("webdataset")]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    peaks = dict.fromkeys(ways, 0.0)
    for _ in range(repeats):
        for way in ways:
            command = [sys.executable, __file__, "--epoch", way, "--keep", str(root)]
            run = measure.once(command)
            found[way].append(json.loads(run.output.splitlines()[-1]))
            peaks[way] = max(peaks[way], run.anon)
    print(measure.machine("pillow", "imagecodecs", "webdataset"))
    sources = disk(root / "data/images")[1]
    print(f"{images} images, {sources:.0f} MB; one core")
    copies = {FILES: root / "flat", SHARDS: root / "tar"}
    base = rate(found[FILES])
    print(f"{'':24}{'tiles/s':>9}{'to files':>10}{'before s':>10}{'anon MiB':>10}  copy on disk")
    for way in ways:
        copy = "none"
        if way in copies:
            count, megabytes = disk(copies[way])
            copy = f"{count} files, {megabytes:.0f} MB, {megabytes / sources:.2f} of the images"
        before = median(run["before"] for run in found[way])
        speed = rate(found[way])
        print(f"{way:24}{speed:9.1f}{speed / base:10.2f}{before:10.2f}{peaks[way]:10.0f}  {copy}")
    counts = {run["tiles"] for runs in found.values() for run in runs}
    assert len(counts) == 1, counts


def rate(runs: list[dict[str, float]]) -> float:
    """Tiles a second, the median."""
    return median(run["tiles"] / run["seconds"] for run in runs)


if __name__ == "__main__":
    main()
