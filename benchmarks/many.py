"""Very many very small images: time, memory and a re-run with nothing to do.

    python benchmarks/many.py [--images 100000]

Memory must not grow with their number beyond what their names take.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import measure


def make(root: Path, count: int) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (90, 120, 60)).save(buffer, "JPEG")
    for kind in ("images", "labels"):
        (root / kind / "train").mkdir(parents=True)
    for i in range(count):
        (root / f"images/train/t{i:06}.jpg").write_bytes(buffer.getvalue())
        (root / f"labels/train/t{i:06}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "dataset.yaml").write_text("train: images/train\nnames: [a]\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tiler-bench-"))
    try:
        results = {}
        for count in (args.images // 10, args.images):
            root, out = work / f"data{count}", work / f"out{count}"
            make(root, count)
            command = [sys.executable, "-m", "tiler", "split", str(root), "--out", str(out)]
            results[f"{count} images"] = measure.once(command)
            results[f"{count} images again"] = measure.once(command)
        measure.print_table(results, f"{args.images // 10} images")
        few, many = results[f"{args.images // 10} images"], results[f"{args.images} images"]
        grown = (many.peak - few.peak) * 1024 / (args.images * 0.9)
        print(f"memory grows by {grown:.2f} KiB an image")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
