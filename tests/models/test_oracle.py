"""What Ultralytics itself finds with real models on real crops."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.conftest import SHARED, needs_shared
from tests.models.matching import matched
from tiler.models import opened
from tiler.options import ModelOptions

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

MODELS = SHARED / "data" / "e2e" / "models"
ORACLE = SHARED / "oracles" / "predict"
SETS = {"": "crops", "_large": "crops_large"}
CASES = [
    (model, f"{task}{suffix}", crops)
    for suffix, crops in SETS.items()
    for model, task in (
        ("detect", "detect"),
        ("detect-static", "detect"),
        ("obb", "obb"),
        ("obb-nms", "obb"),
        ("segment", "segment"),
    )
]
BATCH = 5


@needs_shared
@pytest.mark.parametrize(("model", "oracle", "crops"), CASES)
def test_it_finds_what_ultralytics_finds(model, oracle, crops):
    detector = opened(MODELS / f"{model}.onnx", ModelOptions())
    conf = 0.25 if model == "obb-nms" else 0.05
    expected = json.loads((ORACLE / f"{oracle}.json").read_text())
    for image in expected.values():
        if "outlines" in image:
            image["outlines"] = [[points] for points in image["outlines"]]
    assert len(expected) >= 8
    for names in batches(sorted(expected)):
        tiles = [np.asarray(Image.open(ORACLE / crops / name).convert("RGB")) for name in names]
        output = detector.run([detector.prepared(tile) for tile in tiles])
        sizes = [(tile.shape[1], tile.shape[0]) for tile in tiles]
        for name, found, size in zip(names, detector.detections(output, sizes), sizes, strict=True):
            scale = min(320 / size[0], 320 / size[1])
            matched(found, expected[name], scale, conf)


def batches(names):
    return [names[k : k + BATCH] for k in range(0, len(names), BATCH)]
