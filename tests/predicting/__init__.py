"""What the tests of predicting share: images with rectangles, and a model that finds them."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from tiler.geometry.instances import Instances
from tiler.geometry.polygons import Rings

COLOURS = np.array([[250, 40, 40], [40, 250, 40], [40, 40, 250]], np.uint8)


def scene(width, height, objects=30, seed=0, sides=(8, 40)):
    """An image of rectangles that do not touch; `(N, 4)` xyxy and `(N,)` classes of these."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    taken = np.zeros((height, width), bool)
    boxes, classes = [], []
    while len(boxes) < objects:
        w, h = rng.integers(*sides, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        if taken[max(0, y - 3) : y + h + 3, max(0, x - 3) : x + w + 3].any():
            continue
        taken[y : y + h, x : x + w] = True
        kind = int(rng.integers(3))
        pixels[y : y + h, x : x + w] = COLOURS[kind]
        boxes.append([x, y, x + w, y + h])
        classes.append(kind)
    return Image.fromarray(pixels), np.array(boxes, np.float64), np.array(classes)


def folder(root, images=3, size=(500, 400), objects=20, suffix=".png"):
    """A folder of such scenes; `{name: (boxes, classes)}` of them."""
    root.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number in range(images):
        image, boxes, classes = scene(*size, objects, seed=number)
        image.save(root / f"s{number:02d}{suffix}")
        truth[f"s{number:02d}{suffix}"] = (boxes, classes)
    return truth


def rectangles(pixels):
    """`(N, 4)` xyxy and `(N,)` classes of the rectangles in `(H, W, 3)` pixels."""
    bright = pixels.max(axis=2) > 150
    above = np.zeros_like(bright)
    above[1:] = bright[:-1]
    left = np.zeros_like(bright)
    left[:, 1:] = bright[:, :-1]
    boxes, classes = [], []
    for y, x in np.argwhere(bright & ~above & ~left).tolist():
        across, down = bright[y, x:], bright[y:, x]
        w = len(across) if across.all() else int(across.argmin())
        h = len(down) if down.all() else int(down.argmin())
        boxes.append([x, y, x + w, y + h])
        classes.append(int(pixels[y, x].argmax()))
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(classes, np.int64)


class Rectangles:
    """A `Model` that finds the rectangles of a scene.

    Attributes:
        calls: the number of tiles of each run.
    """

    kpt_shape = None
    suppresses = False

    def __init__(self, task="detect", size=(128, 128), batch=None, names=("r", "g", "b")):
        self.task, self.size, self.batch, self.names = task, size, batch, names
        self.title = f"rectangles ({task})"
        self.fingerprint = hashlib.sha256(repr((task, size)).encode()).hexdigest()[:16]
        self.calls = []

    def prepared(self, pixels):
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
        return pixels

    def run(self, batch):
        if self.batch:
            assert len(batch) == self.batch
        self.calls.append(len(batch))
        return [rectangles(pixels) for pixels in batch]

    def detections(self, output, sizes):
        found = []
        for (boxes, classes), _ in zip(output, sizes, strict=False):
            area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            conf = 0.5 + 0.4 * area / (area + 500)
            order = np.argsort(-conf, kind="stable")
            boxes, classes, conf = boxes[order], classes[order], conf[order]
            rings = None
            if self.task in ("obb", "segment"):
                rings = Rings.from_quads(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
            found.append(Instances(classes, boxes, rings, conf=conf, task=self.task))
        return found
