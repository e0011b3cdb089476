"""The whole way: cut a dataset, predict on its tiles, merge, score; ends with the report.

    python examples/chain.py [DATASET] [OUT] [--tile 640] [--overlap 0.2] [--method cvm] [--seed 0]

DATASET is a dataset.yaml or a folder with one (boxes). Without it, scenes of 3000 x 2000 px with
240 small objects each are rendered first. There is no trained network here: examples/simulate.py
stands in for it, so the numbers say how well tiles and merging keep what a detector finds, and
nothing about any detector. With one, replace that step by

    yolo predict model=best.pt source=OUT/tiles/images/val save_txt save_conf

OUT then holds scenes/ (if rendered), tiles/, predict/, predict-merged/ and score/ with report.html.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import make_scenes
from simulate import simulate

import tiler


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATASET")
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", default=Path("chain"))
    parser.add_argument("--tile", default=640)
    parser.add_argument("--overlap", default=0.2)
    parser.add_argument("--method", default="cvm", help="of merging")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated detector")
    args = parser.parse_args()

    data = args.data
    if data is None:
        data = args.out / "scenes" / "detect"
        size = [
            "--width",
            "3000",
            "--height",
            "2000",
            "--train",
            "1",
            "--val",
            "3",
            "--objects",
            "240",
        ]
        make_scenes.main(
            [str(args.out / "scenes"), *size, "--tasks", "detect", "--seed", str(args.seed)]
        )

    cut = tiler.split(data, tile=args.tile, overlap=args.overlap, out=args.out / "tiles")
    print(
        f"{cut.total.counts.tiles} tiles of {cut.total.counts.sources} images, "
        f"{cut.total.objects.lost} objects lost"
    )
    print(f"{simulate(args.out / 'tiles', args.out / 'predict', args.seed)} predictions on tiles")
    merged = tiler.merge(
        args.out / "predict",
        tiles=args.out / "tiles",
        method=args.method,
        out=args.out / "predict-merged",
    )
    print(f"{merged.report.counts.detections} detections of the full images")
    metrics = tiler.score(merged, data, tiles=args.out / "tiles", split="predicted")
    print(
        f"COCO: AP {metrics.coco['AP']:.3f}, of small objects {metrics.ap_small:.3f}; "
        f"Ultralytics: mAP50-95 {metrics.map:.3f}"
    )
    if metrics.seams is not None and metrics.seams.gap.seam:
        print(f"recall .5 at seams is {metrics.seams.gap.gap:.3f} below that away from seams")
    if metrics.efficiency is not None:
        print(
            f"AP on tiles {metrics.efficiency.tile.ap:.3f}, merged "
            f"{metrics.efficiency.merged.ap:.3f}"
        )
    print(f"the report: {metrics.write(args.out / 'score') / 'report.html'}")


if __name__ == "__main__":
    main()
