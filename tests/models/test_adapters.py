"""The adapters of docs/models.md, with the libraries that they are for."""

import re

import numpy as np
import pytest

from tests.conftest import ROOT
from tiler.models import opened

PAGE = (ROOT / "docs" / "models.md").read_text()
TILE = np.zeros((40, 60, 3), np.uint8)


def adapter(language, **names):
    """`detect` of the page's only block in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    exec(block, names)
    return names["detect"], names


def found(detect):
    model = opened(detect)
    output = model.run([model.prepared(TILE), model.prepared(TILE)])
    return model.detections(output, [(60, 40)] * 2)


def expect(instances):
    assert instances.boxes.tolist() == [[10, 20, 30, 40]]
    assert instances.conf.tolist() == pytest.approx([0.9])
    assert instances.class_id.tolist() == [2]


def test_a_callback_of_supervision():
    detect, names = adapter("python")
    for instances in found(detect):
        expect(instances)
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    names["callback"] = lambda tile: sv.Detections(
        xyxy=np.array([[10, 20, 30, 40.0]]), confidence=np.array([0.9]), class_id=np.array([2])
    )
    for instances in found(detect):
        expect(instances)


def test_a_model_of_sahi():
    pytest.importorskip("sahi", reason="SAHI is not installed")
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction

    class Fixed(DetectionModel):
        """Finds the same in every image."""

        def load_model(self):
            self.set_model(object())

        def set_model(self, model, **kwargs):
            self.model = model
            self.category_mapping = {"2": "car"}

        def perform_inference(self, image):
            self._original_predictions = [([10, 20, 30, 40], 0.9, 2)]

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list=None, full_shape_list=None
        ):
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(bbox=box, score=score, category_id=number, category_name="car")
                    for box, score, number in self._original_predictions
                ]
            ]

    detect, _ = adapter("py", model=Fixed(model_path="none", device="cpu"))
    for instances in found(detect):
        expect(instances)
