"""How long merging takes, and what SAHI takes for the same: whole processes, in turn, medians.

    python benchmarks/merge.py [--boxes 10000 100000 1000000] [--repeats 3] [--peers PYTHON ...]

The scene: objects of ten classes, 10 to 80 px and some of 150 to 600, on one large image; tiles
of 640 px that overlap by 128; about 100 detections a tile, each what the tile shows of an object,
its sides off by a pixel or two. So an object in an overlap is found by two or four tiles.

Merging is timed in a process of its own that has the columns in memory; reading the scene and
starting Python are left out, peak memory is that of the whole process. `tiler.stitch` begins with a
list of tiles' detections. SAHI is timed as its user pays it, after the network: its
ObjectPredictions are built, shifted to the image, and merged by GreedyNMMPostprocess (IoS 0.5, its
default). `--peers` names Python interpreters in which SAHI is installed; without it this one is
tried.

Files: 10 images of 1000 tiles, a YOLO txt of 30 rows a tile; read in a process of its own, and
merged by the whole command `tiler merge`, start-up and output included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import measure
import numpy as np

TILE, OVERLAP = 640, 128
STRIDE = TILE - OVERLAP
PICTURES, COLUMNS, ROWS = 10, 40, 25

# What is to be reached: seconds of CPU, and MiB
GOALS: dict[str, tuple[float, float | None]] = {
    "cvm 100000": (0.5, None),
    "cvm 1000000": (8.0, 1.2 * 1024),
    "reading 10000 txt": (1.5, None),
}
SAHI_GOAL = 10.0  # times, at 100000


def scene(
    columns: int, rows: int, each: int, count: int, seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """At most `count` detections, about `each` a tile, as columns in pixels of the image, with the
    tiles' rectangles.
    """
    rng = np.random.default_rng(seed)
    size = np.array([columns, rows]) * STRIDE + OVERLAP
    n = columns * rows * each
    side = np.exp(rng.uniform(np.log(10), np.log(80), (n, 1))) * np.exp(
        rng.uniform(-0.3, 0.3, (n, 2))
    )
    large = rng.random(n) < 0.005
    side[large] = rng.uniform(150, 600, (int(large.sum()), 2))
    low = rng.uniform(0, 1, (n, 2)) * (size - side)
    objects = np.concatenate([low, low + side], axis=1)
    classes, sure = rng.integers(0, 10, n), rng.normal(1.2, 1, n)

    first = np.maximum(0, (low - TILE) // STRIDE + 1).astype(np.int64)
    found = []
    for dx in range(3):
        for dy in range(3):
            at = first + np.array([dx, dy])
            inside = (at < [columns, rows]).all(axis=1) & (at * STRIDE < objects[:, 2:]).all(axis=1)
            found.append(np.stack([np.flatnonzero(inside), at[inside, 0], at[inside, 1]], axis=1))
    which, x, y = np.concatenate(found).T
    rects = _rects(columns, rows)
    tile = y * columns + x
    window, whole = rects[tile], objects[which]
    shown = np.concatenate(
        [np.maximum(whole[:, :2], window[:, :2]), np.minimum(whole[:, 2:], window[:, 2:])], axis=1
    )
    visible = (shown[:, 2:] - shown[:, :2]).prod(axis=1) / (whole[:, 2:] - whole[:, :2]).prod(
        axis=1
    )
    jitter = rng.normal(0, 0.5, shown.shape) + rng.normal(0, 0.02, shown.shape) * np.tile(
        shown[:, 2:] - shown[:, :2], 2
    )
    boxes = np.clip(
        np.where(whole == shown, shown + jitter, shown),
        window[:, [0, 1, 0, 1]],
        window[:, [2, 3, 2, 3]],
    )
    conf = 1 / (1 + np.exp(-sure[which] - rng.normal(0, 0.3, len(which)) + 2 * (1 - visible)))
    good = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] > 3).all(axis=1))
    # so that all views of an object are in
    kept = good[np.argsort(which[good], kind="stable")][:count]
    kept = kept[np.argsort(tile[kept], kind="stable")]
    return {
        "boxes": boxes[kept],
        "class_id": classes[which[kept]],
        "conf": conf[kept],
        "tile": tile[kept],
        "rects": rects,
        "size": size,
    }


def _rects(columns: int, rows: int) -> np.ndarray[Any, Any]:
    x, y = (
        axis.ravel() * float(STRIDE) for axis in np.meshgrid(np.arange(columns), np.arange(rows))
    )
    return np.stack([x, y, x + TILE, y + TILE], axis=1)


def make_scene(path: Path, count: int) -> None:
    side = max(1, round((count / 100) ** 0.5))
    np.savez(path, **scene(side, side, 100, count, seed=0))


def make_files(root: Path) -> None:
    """Predictions in `predict/labels` and the manifest of a split, without images."""
    from tiler.formats import jsonl, manifest

    labels = root / "predict" / "labels"
    labels.mkdir(parents=True)
    head = manifest.ManifestHead(
        "0", manifest.SCHEMA, "detect", [f"class {k}" for k in range(10)], {}
    )
    lines = [jsonl.line(head)]
    for image in range(PICTURES):
        found = scene(COLUMNS, ROWS, 30, COLUMNS * ROWS * 30, seed=image)
        names = [f"p{image}__{int(x)}_{int(y)}_{TILE}_{TILE}" for x, y, _, _ in found["rects"]]
        tiles = [
            manifest.TileEntry(n, int(x), int(y), TILE, TILE, 1.0, [])
            for n, (x, y, _, _) in zip(names, found["rects"], strict=True)
        ]
        width, height = found["size"].tolist()
        lines.append(
            jsonl.line(
                manifest.SourceTiles(f"images/val/p{image}.jpg", "val", width, height, "", tiles)
            )
        )
        boxes = (found["boxes"] - found["rects"][found["tile"]][:, [0, 1, 0, 1]]) / TILE
        xywh = np.concatenate(
            [(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1
        )
        rows = np.column_stack([found["class_id"], xywh, found["conf"]])
        ends = np.searchsorted(found["tile"], np.arange(len(names) + 1))
        for k, name in enumerate(names):
            own = rows[ends[k] : ends[k + 1]]
            if len(own):
                np.savetxt(labels / f"{name}.txt", own, "%d" + " %g" * 5)
    (root / manifest.NAME).write_bytes(b"".join(lines))


OURS = """
from tiler.geometry.instances import Instances
from tiler.matching.tiles import Tiles
from tiler.options import MergeOptions
from tiler.stitching import merged
own = Instances(scene["class_id"], scene["boxes"], conf=scene["conf"])
def work():
    tiles = Tiles.of(scene["rects"], tuple(scene["size"].tolist()))
    return len(merged(own, scene["tile"], tiles, MergeOptions(method=sys.argv[2])).instances)
"""
STITCH = """
import tiler
from tiler.geometry.instances import Instances
corner = scene["rects"].astype(int)[:, :2]
ends = np.searchsorted(scene["tile"], np.arange(len(corner) + 1))
own = scene["boxes"] - np.tile(corner[scene["tile"]], 2)
def seen(a, b):
    return Instances(scene["class_id"][a:b], own[a:b], conf=scene["conf"][a:b])
parts = [(tiler.Window(x, y, 640, 640), seen(a, b))
         for (x, y), a, b in zip(corner.tolist(), ends[:-1], ends[1:])]
def work():
    return len(tiler.stitch(parts, tuple(scene["size"].tolist())).instances)
"""
SAHI = """
from sahi.postprocess.combine import GreedyNMMPostprocess
from sahi.prediction import ObjectPrediction
width, height = scene["size"].tolist()
shift = scene["rects"].astype(int)[:, :2][scene["tile"]]
own = scene["boxes"] - np.tile(shift, 2)
columns = own.tolist(), scene["class_id"].tolist(), scene["conf"].tolist(), shift.tolist()
def work():
    found = [
        ObjectPrediction(bbox=b, category_id=c, category_name=str(c), score=s, shift_amount=xy,
                         full_shape=[height, width])
        for b, c, s, xy in zip(*columns)
    ]
    found = [one.get_shifted_object_prediction() for one in found]
    global alone
    start = time.process_time()
    merge = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)
    found = merge(found)
    alone = time.process_time() - start
    return len(found)
"""
READING = """
import numpy as np
from pathlib import Path
from tiler.predictions import Frames, Reading, open_predictions
def work():
    found = open_predictions(Path(sys.argv[1]), Reading())
    images = {}
    for i, key in enumerate(found.keys):
        images.setdefault(key.split("__")[0], []).append(i)
    total = 0
    for members in images.values():
        names = [found.keys[i] for i in members]
        rects = np.array([name.rsplit("__", 1)[1].split("_") for name in names], float)
        rects[:, 2:] += rects[:, :2]
        total += len(found.batch(members).read(Frames(names, rects, np.ones(len(names)))).instances)
    return total
"""
BEFORE = """
import json, sys, time
import numpy as np
scene = dict(np.load(sys.argv[1])) if sys.argv[1].endswith(".npz") else {}
"""
AFTER = """
cpu, wall = time.process_time(), time.perf_counter()
count = work()
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
try:
    lines = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    peak = int(lines[0].split()[1]) / 1024
except OSError:
    peak = float("nan")
alone = globals().get("alone", cpu)
print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak, "count": count, "alone": alone}))
"""


@dataclass(frozen=True)
class Job:
    """A script for one process, and what it gave: seconds of CPU and wall, MiB, how many came
    out.
    """

    command: list[str]

    def once(self) -> dict[str, float]:
        done = subprocess.run(self.command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.command[0]}: exit {done.returncode}\n{done.stderr[-2000:]}")
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result


def medians(jobs: dict[str, Job], repeats: int) -> dict[str, dict[str, float]]:
    """Each job `repeats` times, in turn; the largest peak."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            seen[name].append(job.once())
    return {
        name: {
            key: (max if key == "peak" else statistics.median)(one[key] for one in many)
            for key in many[0]
        }
        for name, many in seen.items()
    }


def python_with(module: str, pythons: list[str]) -> str | None:
    """The first interpreter that has it."""
    there = (
        p
        for p in pythons
        if subprocess.run([p, "-c", f"import {module}"], capture_output=True).returncode == 0
    )
    return next(there, None)


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{platform.system()} {platform.machine()}, {cores} cores{load}; {versions}"


def verdict(name: str, cpu: float, peak: float) -> str:
    if name not in GOALS:
        return ""
    seconds, memory = GOALS[name]
    good = cpu <= seconds and (memory is None or peak <= memory)
    return (
        f"<= {seconds:g} s{'' if memory is None else f', {memory:.0f} MiB'}: "
        f"{'yes' if good else 'NO'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=[sys.executable])
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tiler-bench-"))
    try:
        print(machine())
        print(
            f"making scenes of {', '.join(map(str, args.boxes))} boxes and "
            f"{PICTURES * COLUMNS * ROWS} files ...\n",
            flush=True,
        )
        jobs: dict[str, Job] = {}
        sahi = python_with("sahi.postprocess.combine", args.peers)
        for count in args.boxes:
            path = work / f"{count}.npz"
            make_scene(path, count)
            for method in ("cvm", "nms"):
                jobs[f"{method} {count}"] = Job(
                    [sys.executable, "-c", BEFORE + OURS + AFTER, str(path), method]
                )
            if count <= 100_000:
                jobs[f"tiler.stitch {count}"] = Job(
                    [sys.executable, "-c", BEFORE + STITCH + AFTER, str(path)]
                )
            if sahi is not None and count <= 100_000:
                jobs[f"SAHI {count}"] = Job([sahi, "-c", BEFORE + SAHI + AFTER, str(path)])
        make_files(work)
        jobs["reading 10000 txt"] = Job(
            [sys.executable, "-c", BEFORE + READING + AFTER, str(work / "predict")]
        )
        results = medians(jobs, args.repeats)

        print(f"{'':22} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9} {'out':>9}  goal")
        for name, m in results.items():
            goal = verdict(name, m["cpu"], m["peak"])
            print(
                f"{name:22} {m['cpu']:8.3f} {m['wall']:8.3f} {m['peak']:9.0f} {m['count']:9.0f}  "
                f"{goal}".rstrip()
            )
        for count in args.boxes:
            if f"SAHI {count}" in results:
                theirs, ours = results[f"SAHI {count}"], results[f"cvm {count}"]["cpu"]
                ratio, stitch = (
                    theirs["cpu"] / ours,
                    theirs["cpu"] / results[f"tiler.stitch {count}"]["cpu"],
                )
                goal = (
                    f" (goal {SAHI_GOAL:g}: {'yes' if ratio >= SAHI_GOAL else 'NO'})"
                    if count == 100_000
                    else ""
                )
                print(
                    f"At {count} boxes SAHI takes {ratio:.1f} times the CPU of cvm{goal}, "
                    f"{stitch:.1f} times that of "
                    f"tiler.stitch; its postprocess alone {theirs['alone'] / ours:.1f} times that "
                    "of cvm"
                )

        out = work / "merged"
        command = [
            sys.executable,
            "-m",
            "tiler",
            "merge",
            str(work / "predict"),
            "--tiles",
            str(work),
            "--out",
            str(out),
        ]
        runs = {
            "tiler --help": [sys.executable, "-m", "tiler", "--help"],
            "tiler merge": command,
            "tiler merge again": command,
        }

        def clean(name: str) -> None:
            if name != "tiler merge again":
                shutil.rmtree(out, ignore_errors=True)

        print(f"\nThe whole command, on {PICTURES} images of {COLUMNS * ROWS} tiles:")
        measure.print_table(measure.compare(runs, args.repeats, clean), "tiler merge")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
