"""How well each merging method puts the tiles' detections together, on scenes whose truth is known.

    python benchmarks/methods.py [--seeds 3] [--overlap 128 0] [--markdown] [--oracle]

A simulated detector (detector.py tells its model, which is no trained network) looks at the
tiles of 640 px of made-up scenes; each method merges what it found; pycocotools scores the
result against the truth: AP50:95 / AP50 in percent, the mean over classes, with no limit on the
number of detections.

With `--oracle` the detector has no noise: it reports exactly what each tile shows of each
object. A method that understands tiles gives back every object, once: the cells are
`detections / objects that one of them equals within 0.001 px`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import detector

import tiler
from tiler.geometry.instances import Instances

if TYPE_CHECKING:
    from tiler.geometry.window import Window

SIZE, TILE = 2944, 640

METHODS: dict[str, dict[str, Any]] = {
    "CVM": {"method": "cvm"},
    "NMS, IoU .5": {"method": "nms", "metric": "iou", "iou": 0.5},
    "NMS, IoS .5": {"method": "nms", "metric": "ios", "iou": 0.5},
    "greedy NMM, IoS .5": {"method": "greedy-nmm", "metric": "ios", "iou": 0.5},
    "NMM, IoS .5": {"method": "nmm", "metric": "ios", "iou": 0.5},
    "WBF, IoU .55": {"method": "wbf", "metric": "iou", "iou": 0.55},
    "soft-NMS": {"method": "soft-nms"},
    "center": {"method": "center"},
    "none": {"method": "none"},
}

Parts = list[tuple["Window", Instances]]
Merge = Callable[[Parts, dict[str, Any]], Instances]
Scene = tuple[Instances, Parts]


def stitched(parts: Parts, options: dict[str, Any]) -> Instances:
    """One image's detections by `tiler.stitch`."""
    instances: Instances = tiler.stitch(parts, size=(SIZE, SIZE), **options).instances
    return instances


def seen(kind: detector.Kind, overlap: int, seeds: int, noise: detector.Noise) -> list[Scene]:
    """The truth of each scene and what was found on its tiles."""
    windows = tiler.grid(SIZE, SIZE, tile=TILE, overlap=overlap)
    truths = [detector.scenes(kind, seed, SIZE) for seed in range(seeds)]
    return [
        (truth, detector.detect(truth, windows, (SIZE, SIZE), noise, seed))
        for seed, truth in enumerate(truths)
    ]


def average_precision(
    truths: Sequence[Instances], found: Sequence[Instances]
) -> tuple[float, float]:
    """AP50:95 and AP50 by pycocotools, 0..1, one image a scene and a category a class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def records(images: Sequence[Instances]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for image_id, image in enumerate(images):
            low, high = image.boxes[:, :2], image.boxes[:, 2:]
            conf = np.ones(len(image)) if image.conf is None else image.conf
            for class_id, xywh, score in zip(
                image.class_id, np.concatenate([low, high - low], axis=1), conf, strict=True
            ):
                rows.append(
                    {
                        "id": len(rows) + 1,
                        "image_id": image_id,
                        "category_id": int(class_id),
                        "bbox": xywh.tolist(),
                        "area": float(xywh[2] * xywh[3]),
                        "iscrowd": 0,
                        "score": float(score),
                    }
                )
        return rows

    with contextlib.redirect_stdout(io.StringIO()):
        coco = {name: COCO() for name in ("truth", "found")}
        for name, images in (("truth", truths), ("found", found)):
            coco[name].dataset = {
                "images": [{"id": i, "width": SIZE, "height": SIZE} for i in range(len(truths))],
                "categories": [
                    {"id": int(c)} for c in np.unique(np.concatenate([t.class_id for t in truths]))
                ],
                "annotations": records(images),
            }
            coco[name].createIndex()
        evaluation = COCOeval(coco["truth"], coco["found"], "bbox")
        evaluation.params.maxDets = [1, 10, 10_000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]  # (IoU thresholds, recalls, classes)
    return float(precision[precision > -1].mean()), float(precision[0][precision[0] > -1].mean())


def quality(scenes: Sequence[Scene], options: dict[str, Any], merge: Merge) -> str:
    ap, ap50 = average_precision(
        [truth for truth, _ in scenes], [merge(parts, options) for _, parts in scenes]
    )
    return f"{100 * ap:.1f} / {100 * ap50:.1f}"


def returned(scenes: Sequence[Scene], options: dict[str, Any], merge: Merge) -> str:
    """Detections, and the objects that one of them equals."""
    total = exact = 0
    for truth, parts in scenes:
        merged = merge(parts, options)
        total += len(merged)
        for class_id, wanted in zip(truth.class_id, truth.boxes, strict=True):
            exact += bool(
                (
                    (np.abs(merged.boxes - wanted) <= 1e-3).all(axis=1)
                    & (merged.class_id == class_id)
                ).any()
            )
    return f"{total} / {exact}"


def table(
    overlap: int,
    seeds: int,
    noise: detector.Noise,
    cell: Callable[[Sequence[Scene], dict[str, Any], Merge], str],
    merge: Merge,
) -> list[list[str]]:
    """A row a method, a column a kind of scene; the header first."""
    columns = {kind: seen(kind, overlap, seeds, noise) for kind in detector.KINDS}
    header = [
        "",
        *(f"{kind} ({sum(len(truth) for truth, _ in scenes)})" for kind, scenes in columns.items()),
    ]
    return [
        header,
        *(
            [name, *(cell(c, options, merge) for c in columns.values())]
            for name, options in METHODS.items()
        ),
    ]


def print_table(rows: Sequence[Sequence[str]], markdown: bool) -> None:
    if markdown:
        rows = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))
        return
    for row in rows:
        print(f"{row[0]:20}" + "".join(f"{value:>15}" for value in row[1:]))


def main(merge: Merge = stitched) -> None:
    usual = detector.Noise()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="scenes of each kind")
    parser.add_argument("--overlap", type=int, nargs="+", default=[128, 0], help="px")
    parser.add_argument(
        "--correlation", type=float, default=usual.correlation, help="of the tiles' errors, 0..1"
    )
    parser.add_argument(
        "--gap", type=float, default=usual.gap, help="px between cut ends and the tile's edge"
    )
    parser.add_argument(
        "--oracle", action="store_true", help="a detector without noise: what comes back exactly"
    )
    parser.add_argument("--markdown", action="store_true", help="tables for the docs")
    args = parser.parse_args()
    noise = (
        detector.NOISELESS
        if args.oracle
        else replace(usual, correlation=args.correlation, gap=args.gap)
    )
    for overlap in args.overlap:
        print(f"\nTiles of {TILE} px, overlap {overlap} px:\n", flush=True)
        print_table(
            table(overlap, args.seeds, noise, returned if args.oracle else quality, merge),
            args.markdown,
        )


if __name__ == "__main__":
    main()
