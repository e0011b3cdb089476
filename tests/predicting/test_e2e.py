"""A real detector on real scenes: as good as is known of it, and the same as on written tiles."""

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import SHARED, needs_shared
from tests.predicting.test_predict import predicted_tiles
from tiler.models import opened
from tiler.options import ModelOptions

E2E = SHARED / "data" / "e2e"
pytestmark = needs_shared


@pytest.fixture(autouse=True)
def runtime():
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


@pytest.fixture
def scenes(tmp_path):
    """The scenes with their labels, as a dataset."""
    root = tmp_path / "data"
    for kind, source in (("images", "images"), ("labels", "labels_detect")):
        (root / kind).mkdir(parents=True)
        (root / kind / "test").symlink_to(E2E / "scenes" / source / "test")
    lines = ["train: images/test", "val: images/test", "names: [disc, box, tri]"]
    (root / "dataset.yaml").write_text("\n".join(lines) + "\n")
    return root


def test_ap_of_the_scenes(scenes):
    model = E2E / "models" / "detect.onnx"
    stream = tiler.predict(
        scenes / "images" / "test", model, tile=320, overlap=64, conf=0.05, batch=16
    )
    found = {f"images/test/{source}": instances for source, instances in stream}
    metrics = tiler.score(found, scenes / "dataset.yaml", split="val", analysis="none")
    assert metrics.coco_auto["AP"] >= 0.44  # of all detections


@pytest.mark.parametrize("task", ["detect", "obb", "segment"])
def test_it_is_split_and_model_and_merge(tmp_path, task):
    file = E2E / "models" / f"{task}.onnx"
    crop = Image.open(E2E / "scenes/images/test/scene_test_00.jpg").crop((300, 200, 1000, 800))
    (tmp_path / "a").mkdir()
    crop.save(tmp_path / "a" / "crop.png")
    options = {"tile": 320, "overlap": 64}
    tiler.split(tmp_path / "a", out=tmp_path / "tiles", format="png", unlabelled=True, **options)
    predicted_tiles(tmp_path / "tiles", tmp_path / "preds", opened(file, ModelOptions()))
    merged = tiler.merge(tmp_path / "preds", tiles=tmp_path / "tiles", task=task)
    ((name, found),) = tiler.predict(tmp_path / "a", file, batch=4, **options)
    expected = merged[name]
    assert len(found) == len(expected) > 20
    assert found.class_id.tolist() == expected.class_id.tolist()
    assert np.allclose(found.boxes, expected.boxes, atol=1e-3)
    if found.rings is not None:
        assert np.allclose(found.rings.bounds(), expected.rings.bounds(), atol=1e-3)
