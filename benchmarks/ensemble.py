"""What an ensemble of two real detectors gives, against each of them alone: AP50:95 by COCO.

    python benchmarks/ensemble.py E2E [--second FOLDER]

E2E has two scenes with labels (`scenes/`), what a small detector predicted on their tiles of 320 px
that overlap by 64 (`preds/detect/predict`), and another detector as ONNX (`models/detect.onnx`).
The second set of predictions is made here with onnxruntime, at confidence 0.05, with an NMS of IoU
0.7 for each class and at most 300 a tile; or it is in `--second`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tiler

TILE, OVERLAP, CONF, NMS, MAX_DET = 320, 64, 0.05, 0.7, 300
NAMES = ("disc", "box", "tri")
RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("wbf, weights 1,1", {}),
    ("wbf, weights 1,2", {"weights": (1, 2)}),
    ("wbf, weights 1,3", {"weights": (1, 3)}),
    ("nms, weights 1,1", {"ensemble": "nms"}),
    ("nms, weights 1,2", {"ensemble": "nms", "weights": (1, 2)}),
    ("soft-nms, weights 1,1", {"ensemble": "soft-nms"}),
    ("soft-nms, weights 1,2", {"ensemble": "soft-nms", "weights": (1, 2)}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("e2e", type=Path)
    parser.add_argument("--second", type=Path)
    given = parser.parse_args()
    images = given.e2e / "scenes" / "images" / "test"
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        data = dataset(root, given.e2e / "scenes")
        second = given.second
        if second is None:
            second = predicted(given.e2e / "models" / "detect.onnx", images, root / "second")
        first = given.e2e / "preds" / "detect" / "predict"
        show("first alone", first, images, data)
        show("second alone", second, images, data)
        show("first with itself", [first, first], images, data)
        for name, options in RUNS:
            show(name, [first, second], images, data, **options)


def show(name: str, preds: Any, images: Path, data: Path, **options: Any) -> None:
    """Merge and score, and print a row."""
    merged = tiler.merge(preds, images=images, **options)
    coco = tiler.score(merged, data, analysis="none").coco
    print(f"{name:24} {coco['AP']:.4f} {coco['AP50']:.4f} {coco['AP75']:.4f}", flush=True)


def dataset(root: Path, scenes: Path) -> Path:
    """A dataset.yaml of the scenes."""
    for kind, folder in (("images", "images"), ("labels", "labels_detect")):
        (root / kind).mkdir()
        (root / kind / "test").symlink_to((scenes / folder / "test").resolve())
    names = ", ".join(NAMES)
    text = f"path: .\ntrain: images/test\nval: images/test\nnames: [{names}]\n"
    (root / "dataset.yaml").write_text(text)
    return root / "dataset.yaml"


def predicted(model: Path, images: Path, out: Path) -> Path:
    """The model's predictions on the tiles of all images, as YOLO txt."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    out.mkdir()
    for path in sorted(images.iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        height, width = pixels.shape[:2]
        for window in tiler.grid(width, height, TILE, OVERLAP):
            x0, y0, x1, y1 = (int(side) for side in window.bounds)
            tile = pixels[y0:y1, x0:x1].transpose(2, 0, 1)[None].astype(np.float32) / 255
            (output,) = session.run(None, {"images": tile})
            rows = text(output[0].T)
            if rows:
                (out / f"{path.stem}__{TILE}__{x0}___{y0}.txt").write_text(rows)
    return out


def text(output: np.ndarray) -> str:
    """Rows of YOLO txt for `(anchors, 4 + classes)` numbers of the model."""
    conf = output[:, 4:].max(axis=1)
    sure = conf >= CONF
    boxes, conf, class_id = output[sure, :4], conf[sure], output[sure, 4:].argmax(axis=1)
    lines = []
    for i in kept(boxes, conf, class_id)[:MAX_DET]:
        values = " ".join(f"{value / TILE:.6g}" for value in boxes[i])
        lines.append(f"{class_id[i]} {values} {conf[i]:.6g}\n")
    return "".join(lines)


def kept(boxes: np.ndarray, conf: np.ndarray, class_id: np.ndarray) -> list[int]:
    """What NMS keeps of cx cy w h boxes, class by class, by falling confidence."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    area = boxes[:, 2] * boxes[:, 3]
    order = np.argsort(-conf, kind="stable")
    chosen = []
    while len(order):
        i, order = order[0], order[1:]
        chosen.append(int(i))
        sides = np.minimum(high[i], high[order]) - np.maximum(low[i], low[order])
        common = np.clip(sides, 0, None).prod(axis=1)
        iou = common / (area[i] + area[order] - common)
        order = order[(iou <= NMS) | (class_id[order] != class_id[i])]
    return chosen


if __name__ == "__main__":
    main()
