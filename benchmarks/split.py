"""How near `tiler split` is to the codecs: the same images, tiles and quality, whole processes.

    python benchmarks/split.py [--images 10] [--repeats 5] [--peers PYTHON ...]

The floor decodes each image once with Pillow, encodes every tile and writes it to a file,
with threads on all cores, and does nothing else: no labels, no checks. `--peers` names
Python interpreters in which SAHI or Ultralytics are installed; without it those of this
interpreter are taken, if there are any.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import measure

WIDTH, HEIGHT, LABELS = 4000, 3000, 200
TILE, OVERLAP = 640, 128


def make(root: Path, count: int) -> None:
    """JPEGs of about 2.4 bits a pixel (what a drone's are), with 200 boxes each, in three layouts."""
    import numpy as np
    from PIL import Image, ImageFilter

    rng = np.random.default_rng(0)
    for part in ("images/train", "labels/train", "dota/images/train", "dota/labels/train"):
        (root / part).mkdir(parents=True)
    coco: dict[str, list[object]] = {"images": [], "annotations": [], "categories": [{"id": 0, "name": "car"}]}
    for i in range(count):
        coarse = rng.integers(0, 255, (HEIGHT // 40, WIDTH // 40, 3)).astype(np.uint8)
        base = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        noise = Image.fromarray(rng.normal(128, 14, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8))
        image = Image.blend(base, noise.filter(ImageFilter.BoxBlur(0.4)), 0.5)
        image.save(root / f"images/train/{i:03}.jpg", quality=92)
        boxes = np.concatenate([rng.uniform(0, 0.97, (LABELS, 2)), rng.uniform(0.003, 0.02, (LABELS, 2))], axis=1)
        boxes[:, :2] += boxes[:, 2:] / 2
        rows = "".join(f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for x, y, w, h in boxes)
        (root / f"labels/train/{i:03}.txt").write_text(rows)
        low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        quads = np.concatenate([low, high[:, :1], low[:, 1:], high, low[:, :1], high[:, 1:]], axis=1)
        rows = "".join("0 " + " ".join(f"{v:.6f}" for v in quad) + "\n" for quad in quads)
        (root / f"dota/labels/train/{i:03}.txt").write_text(rows)
        (root / f"dota/images/train/{i:03}.jpg").hardlink_to(root / f"images/train/{i:03}.jpg")
        coco["images"].append({"id": i, "file_name": f"{i:03}.jpg", "width": WIDTH, "height": HEIGHT})
        for x, y, w, h in boxes:
            xywh = [(x - w / 2) * WIDTH, (y - h / 2) * HEIGHT, w * WIDTH, h * HEIGHT]
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]),
                    "image_id": i,
                    "category_id": 0,
                    "bbox": xywh,
                    "area": xywh[2] * xywh[3],
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    for split in ("images/val", "labels/val"):
        (root / "dota" / split).mkdir(parents=True)
    (root / "coco.json").write_text(json.dumps(coco))
    (root / "dataset.yaml").write_text("train: images/train\nnames: [car]\n")


def floor(root: Path, out: Path) -> None:
    """Decode, crop, encode, write: what cannot be left out."""
    import os

    from PIL import Image

    def starts(length: int) -> list[int]:
        stride = TILE - OVERLAP
        return [min(stride * k, length - TILE) for k in range(-(-(length - OVERLAP) // stride))]

    def one(path: Path) -> None:
        image = Image.open(path)
        image.load()
        for y in starts(image.height):
            for x in starts(image.width):
                with open(out / f"{path.stem}_{x}_{y}.jpg", "wb") as file:
                    image.crop((x, y, x + TILE, y + TILE)).save(file, "JPEG", quality=95, subsampling="4:2:0")

    out.mkdir(parents=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, sorted((root / "images/train").iterdir())))


SAHI = """
import sys
from sahi.slicing import slice_coco
slice_coco(sys.argv[1] + "/coco.json", sys.argv[1] + "/images/train", "out", output_dir=sys.argv[2],
           slice_height=640, slice_width=640, overlap_height_ratio=0.2, overlap_width_ratio=0.2, out_ext=sys.argv[3] or None)
"""
ULTRALYTICS = """
import sys
from ultralytics.data.split_dota import split_images_and_labels
import pathlib
split_images_and_labels(sys.argv[1] + "/dota", sys.argv[2], "train", crop_sizes=(640,), gaps=(128,))
"""


def peers(pythons: list[str], root: Path, out: Path) -> dict[str, list[str]]:
    """The commands of those that are installed."""
    found = {}
    for python in pythons:
        for module, name, script, more in (
            ("sahi.slicing", "SAHI slice_coco, jpg (q75)", SAHI, [".jpg"]),
            ("ultralytics.data.split_dota", "Ultralytics split_dota (q95)", ULTRALYTICS, []),
        ):
            if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
                found[name] = [python, "-c", script, str(root), str(out / name.split()[0]), *more]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=[sys.executable])
    parser.add_argument("--floor", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.floor:
        floor(*args.floor)
        return
    work = Path(tempfile.mkdtemp(prefix="tiler-bench-"))
    try:
        root, out = work / "data", work / "out"
        print(f"making {args.images} JPEGs of {WIDTH} x {HEIGHT} with {LABELS} labels each ...", flush=True)
        make(root, args.images)
        ours = [sys.executable, "-m", "tiler", "split", str(root), "--overlap", str(OVERLAP), "--out", str(out)]
        runs: dict[str, list[str]] = {
            "floor": [sys.executable, __file__, "--floor", str(root), str(out)],
            "tiler split": ours,
            "tiler split again": ours,
        }
        runs |= peers(args.peers, root, out)

        def clean(name: str) -> None:
            if name != "tiler split again":
                shutil.rmtree(out, ignore_errors=True)

        results = measure.compare(runs, args.repeats, clean)
        measure.print_table(results, "floor")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
