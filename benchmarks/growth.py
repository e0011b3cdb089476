"""How the cost of `tiler merge` and `tiler score` grows with the density of small inputs.

    python benchmarks/growth.py
    python benchmarks/growth.py --tiler old/bin/tiler --tiler new/bin/tiler --only spot

A few thousand rows are a small file, but on one spot they are millions of pairs. Scenes of n
detections: on one spot of two tiles; on twenty spots; thin ones that cross; on one spot of
fifty tiles that have one window; anywhere; and outlines and OBBs on one spot. For `score`
as many labels lie there. Each run is a process of its own, start-up included, and ends at 60
seconds of CPU or 7 GiB. Shown are seconds of CPU and MiB at the most, of each command given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import measure
import numpy as np

Array = np.ndarray[Any, Any]
TILE, WIDTH = 640, 1152
SECONDS, BYTES = 60, 7 << 30
LIMITED = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS} + 2))
resource.setrlimit(resource.RLIMIT_AS, ({BYTES}, {BYTES}))
os.execv(sys.argv[1], sys.argv[1:])
"""
METHODS = ("cvm", "nms", "greedy-nmm", "nmm", "wbf", "soft-nms", "center", "none")


def spot(rng: np.random.Generator, n: int) -> tuple[Array, int]:
    """Boxes, xyxy px of the full image, and how many tiles see them all."""
    return _squares(np.array([570, 240]) + rng.uniform(0, 0.5, (n, 2))), 2


def spots(rng: np.random.Generator, n: int) -> tuple[Array, int]:
    at = rng.uniform([540, 40], [610, 600], (20, 2))
    return _squares(at[rng.integers(0, 20, n)] + rng.uniform(0, 0.5, (n, 2))), 2


def slivers(rng: np.random.Generator, n: int) -> tuple[Array, int]:
    across = rng.uniform(0, 110, n)
    upright = np.stack([520 + across, across * 0 + 100, 521 + across, across * 0 + 220], axis=1)
    level = np.stack([across * 0 + 520, 100 + across, across * 0 + 632, 101 + across], axis=1)
    return np.where((np.arange(n) % 4 < 2)[:, None], upright, level), 2


def stacked(rng: np.random.Generator, n: int) -> tuple[Array, int]:
    return spot(rng, n)[0], 50


def anywhere(rng: np.random.Generator, n: int) -> tuple[Array, int]:
    return _squares(rng.uniform([540, 30], [610, 610], (n, 2))), 2


def _squares(centre: Array, side: float = 40) -> Array:
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1)


SCENES: dict[str, Callable[[np.random.Generator, int], tuple[Array, int]]] = {
    "spot": spot,
    "20 spots": spots,
    "slivers": slivers,
    "stacked tiles": stacked,
    "anywhere": anywhere,
    "outlines": spot,
    "OBBs": spot,
}
TASKS = {"outlines": "segment", "OBBs": "obb"}


def coordinates(task: str, boxes: Array, rng: np.random.Generator) -> Array:
    """What a row of a label file holds of each box, px."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    if task == "detect":
        return np.concatenate([centre, side], axis=1)
    corners = 4 if task == "obb" else 20
    angle = 0.3 + np.arange(corners) * 2 * np.pi / corners
    reach = 20 * (rng.uniform(0.9, 1, (len(boxes), corners)) if task == "segment" else 1)
    around = np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=-1)
    return np.asarray((centre[:, None] + around).reshape(len(boxes), -1))


def write_rows(path: Path, task: str, boxes: Array, width: float, conf: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = coordinates(task, boxes, rng)
    values[:, 0::2] /= width
    values[:, 1::2] /= TILE
    rows = np.column_stack(
        [np.zeros(len(boxes)), values, *([rng.uniform(0.1, 1, len(boxes))] if conf else [])]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, "%d" + " %.7f" * (rows.shape[1] - 1))


def make_merge(root: Path, name: str, n: int) -> None:
    """Predictions in `p` and their manifest."""
    task = TASKS.get(name, "detect")
    boxes, count = SCENES[name](np.random.default_rng(n), n)
    x = [0, WIDTH - TILE] if count == 2 else [WIDTH - TILE] * count
    tiles = [
        {"name": f"t{k}", "x": at, "y": 0, "w": TILE, "h": TILE, "scale": 1.0, "rows": []}
        for k, at in enumerate(x)
    ]
    for k, at in enumerate(x):
        own = boxes[k::count] - [at, 0, at, 0]
        write_rows(root / "p" / f"t{k}.txt", task, own, TILE, True, k)
    head = {"tiler": "0", "schema": 1, "task": task, "names": ["a"], "options": {}}
    size = {"width": WIDTH, "height": TILE}
    source = {"source": "images/p.jpg", "split": "val", **size, "fingerprint": "0", "tiles": tiles}
    (root / "tiles.jsonl").write_text(f"{json.dumps(head)}\n{json.dumps(source)}\n")


def make_score(root: Path, name: str, n: int) -> None:
    """A dataset with predictions in `p`."""
    from PIL import Image

    task = TASKS.get(name, "detect")
    (root / "images").mkdir(parents=True)
    Image.new("L", (WIDTH, TILE)).save(root / "images" / "x.png")
    (root / "dataset.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    for seed, folder in enumerate(("labels", "p")):
        boxes, _ = SCENES[name](np.random.default_rng(seed), n)
        write_rows(root / folder / "x.txt", task, boxes, WIDTH, folder == "p", seed)


def cost(command: list[str]) -> str:
    """CPU seconds and MiB of a process, or what ended it."""
    try:
        run = measure.once([sys.executable, "-S", "-c", LIMITED, *command])
    except measure.Failed as failed:
        if "memory" in str(failed).lower():
            return f"over {BYTES >> 30} GiB"
        slow = any(f"exit -{number}" in str(failed) for number in (signal.SIGXCPU, signal.SIGKILL))
        return f"over {SECONDS} s" if slow else failed.why
    return f"{run.cpu:.1f} s, {run.peak:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ours = str(Path(sys.executable).parent / "tiler")
    parser.add_argument(
        "--tiler", action="append", help="a command to measure; several are shown side by side"
    )
    parser.add_argument("--only", nargs="*", choices=SCENES, default=list(SCENES))
    parser.add_argument(
        "--boxes",
        nargs="*",
        type=int,
        default=[1000, 3000, 10_000],
        help="how many detections are merged",
    )
    parser.add_argument(
        "--shapes",
        nargs="*",
        type=int,
        default=[500, 2000],
        help="how many of them, if they are no boxes",
    )
    parser.add_argument(
        "--scored",
        nargs="*",
        type=int,
        default=[1000, 3000],
        help="how many are scored, on as many labels",
    )
    parser.add_argument(
        "--methods", nargs="*", choices=METHODS, default=["cvm", "nms", "wbf", "soft-nms"]
    )
    args = parser.parse_args()
    commands = [shutil.which(command) or command for command in args.tiler or [ours]]
    work = Path(tempfile.mkdtemp(prefix="tiler-bench-"))
    try:
        print(
            f"| {'what':34} | "
            + " | ".join(os.path.relpath(command) for command in commands)
            + " |"
        )
        print("|---" * (1 + len(commands)) + "|")
        for name in args.only:
            for n in args.shapes if name in TASKS else args.boxes:
                root = work / f"merge {name} {n}"
                make_merge(root, name, n)
                for method in args.methods:
                    out = work / "out"
                    options = [
                        str(root / "p"),
                        "--tiles",
                        str(root),
                        "--method",
                        method,
                        "--out",
                        str(out),
                        "-q",
                    ]
                    row(f"merge, {method}: {n} {name}", commands, "merge", options, out)
            for n in args.scored if name not in TASKS else args.shapes[:1]:
                if name == "stacked tiles":
                    continue
                root = work / f"score {name} {n}"
                make_score(root, name, n)
                row(
                    f"score: {n} {name}",
                    commands,
                    "score",
                    [str(root / "p"), "--data", str(root), "-q"],
                    work / "out",
                )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def row(what: str, commands: list[str], verb: str, options: list[str], out: Path) -> None:
    """Measure each command, and print a line of the table."""
    costs = []
    for command in commands:
        shutil.rmtree(out, ignore_errors=True)
        costs.append(cost([command, verb, *options]))
    print(f"| {what:34} | " + " | ".join(costs) + " |", flush=True)


if __name__ == "__main__":
    main()
