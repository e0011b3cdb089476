"""What looking at windows costs beside the model, and what SAHI's and supervision's slicers cost.

    python benchmarks/predict.py [--images 4] [--repeats 3] [--model detect.onnx]

JPEGs of 4000 x 3000 px, tiles of 640 px that overlap by 128, batches of 8; all in one process, in
turn, medians. The detector is a function that costs nothing: it returns eight boxes for a tile, so
what is measured is decoding, cutting, batching and merging. `floor` is that of the decoder: the
images are decoded by as many threads and their windows cut out, and nothing else is done. SAHI and
supervision get the same function, in the form that each takes it; both read an image whole, with
the library that their documentation shows (SAHI by itself, supervision by OpenCV).

With --model, an ONNX file: how long the model alone takes for the same batches, and the ratio of
the whole run to that.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
import tiler
from tiler.geometry.grids import grid
from tiler.images import reading
from tiler.images.header import probe
from tiler.run import workers
from tiler.run.work_sharing import done

TILE, OVERLAP, BATCH = 640, 128, 8
SIZE = (4000, 3000)
BOXES = 8


def boxes_of(tile: np.ndarray[Any, Any]) -> SimpleNamespace:
    """Eight boxes that depend on the tile's size only."""
    height, width = tile.shape[:2]
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, [width - 60, height - 60], (BOXES, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(10, 60, (BOXES, 2))], axis=1)
    conf = rng.uniform(0.1, 0.9, BOXES)
    return SimpleNamespace(xyxy=xyxy, confidence=conf, class_id=np.zeros(BOXES, int))


def free(tiles: list[np.ndarray[Any, Any]]) -> list[SimpleNamespace]:
    """A detector that costs nothing."""
    return [boxes_of(tile) for tile in tiles]


def scenes(folder: Path, count: int) -> list[Path]:
    paths = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize(SIZE, Image.Resampling.BILINEAR)
        noise = rng.integers(-8, 8, (SIZE[1], SIZE[0], 3))
        pixels = np.clip(np.asarray(image).astype(np.int16) + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"s{seed}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


# --- the ways


def floor(paths: list[Path]) -> int:
    """Decode and cut, and nothing else."""

    def windows(path: Path) -> int:
        with open(path, "rb") as file:
            header = probe(file)
            with reading.opened(file, header) as image:
                places = grid(*header.size, tile=TILE, overlap=OVERLAP)
                for crop, numbers in image.sweep(places, done):
                    for number in numbers:
                        np.array(crop(places[number]))
        return len(places)

    count = workers.count(0)
    return sum(workers.stream(windows, paths, count, "threading", str))


def by_tiler(paths: list[Path], model: Any = free) -> int:
    options = {"tile": TILE, "overlap": OVERLAP, "batch": BATCH, "task": "detect"}
    found = tiler.predict(paths[0].parent, model, **options)
    for _ in found:
        pass
    return int(found.report.counts.tiles)


def by_sahi(paths: list[Path]) -> int:
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction

    class Free(DetectionModel):
        def load_model(self) -> None:
            self.category_mapping = {"0": "thing"}

        def perform_inference(self, image: Any) -> None:
            images = image if isinstance(image, list) else [image]
            self._original_predictions = free(images)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            lists = []
            shifts = shift_amount_list or [[0, 0]]
            shapes = full_shape_list or [None] * len(shifts)
            if not isinstance(shifts[0], list | tuple):
                shifts, shapes = [shifts], [shapes]
            for found, shift, shape in zip(
                self._original_predictions, shifts, shapes, strict=False
            ):
                objects = []
                for box, conf in zip(found.xyxy.tolist(), found.confidence.tolist(), strict=True):
                    objects.append(
                        ObjectPrediction(
                            bbox=box,
                            category_id=0,
                            score=conf,
                            category_name="thing",
                            shift_amount=shift,
                            full_shape=shape,
                        )
                    )
                lists.append(objects)
            self._object_prediction_list_per_image = lists

    model = Free(confidence_threshold=0.05, load_at_init=True, device="cpu")
    for path in paths:
        get_sliced_prediction(
            str(path),
            model,
            slice_height=TILE,
            slice_width=TILE,
            overlap_height_ratio=OVERLAP / TILE,
            overlap_width_ratio=OVERLAP / TILE,
            perform_standard_pred=False,
            verbose=0,
        )
    return len(paths) * len(grid(*SIZE, tile=TILE, overlap=OVERLAP))


def by_supervision(paths: list[Path]) -> int:
    import cv2
    import supervision as sv

    def callback(tile: Any) -> Any:
        (found,) = free([tile])
        return sv.Detections(found.xyxy, confidence=found.confidence, class_id=found.class_id)

    slicer = sv.InferenceSlicer(
        callback,
        slice_wh=(TILE, TILE),
        overlap_wh=(OVERLAP, OVERLAP),
        thread_workers=workers.count(0),
    )
    for path in paths:
        slicer(cv2.imread(str(path)))
    return len(paths) * len(grid(*SIZE, tile=TILE, overlap=OVERLAP))


# --- measuring


def timed(way: Callable[[list[Path]], int], paths: list[Path]) -> float:
    """Windows a second."""
    start = time.perf_counter()
    count = way(paths)
    return count / (time.perf_counter() - start)


def medians(
    ways: Iterable[Callable[[list[Path]], int]], paths: list[Path], repeats: int
) -> dict[str, float]:
    rates: dict[str, list[float]] = {}
    for _ in range(repeats):
        for way in ways:
            rates.setdefault(way.__name__, []).append(timed(way, paths))
    return {name: statistics.median(many) for name, many in rates.items()}


def able(way: Callable[[list[Path]], int], paths: list[Path]) -> bool:
    """Whether a way can be gone here; a first time, which loads its libraries."""
    try:
        way(paths[:1])
    except ImportError as error:
        print(f"{way.__name__}: not installed ({error})")
        return False
    return True


def overhead(file: str, paths: list[Path], repeats: int) -> float:
    """The time of a run with a model, relative to that of the model alone."""
    from tiler.models import opened
    from tiler.options import ModelOptions

    model = opened(file, ModelOptions())
    side = (model.size or (TILE, TILE))[0]
    pixels = np.asarray(Image.open(paths[0]))[:side, :side]
    batch = [model.prepared(pixels)] * BATCH
    ratios = []
    for _ in range(repeats):
        run = tiler.predict(paths[0].parent, file, overlap=0.2, batch=BATCH)
        start = time.perf_counter()
        for _ in run:
            pass
        whole = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(run.report.counts.tiles // BATCH):
            model.run(batch)
        ratios.append(whole / (time.perf_counter() - start))
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = scenes(Path(folder), given.images)
        ways = [way for way in (floor, by_tiler, by_sahi, by_supervision) if able(way, paths)]
        rates = medians(ways, paths, given.repeats)
        for name, rate in rates.items():
            times = rates["by_tiler"] / rate
            print(f"{name:16} {rate:8.0f} windows/s   tiler is {times:.2f} times as fast")
        if given.model:
            ratio = overhead(given.model, paths, given.repeats)
            print(f"with {Path(given.model).name}: {ratio:.2f} times the model's own time")


if __name__ == "__main__":
    main()
