import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tiler.errors import TilerError
from tiler.geometry.instances import Instances
from tiler.models import opened
from tiler.options import ModelOptions

TILE = np.zeros((40, 60, 3), np.uint8)
ROWS = [[1, 2, 3, 4, 0.3, 1], [5, 6, 7, 8, 0.9, 0], [5, 6, 7, 8, 0.04, 0]]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes mine.py into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(text):
        sys.modules.pop("mine", None)
        (tmp_path / "mine.py").write_text(text)

    yield write
    sys.modules.pop("mine", None)


def found(model, *tiles):
    output = model.run([model.prepared(tile) for tile in tiles])
    return model.detections(output, [(60, 40)] * len(tiles))


def test_a_function_is_given_tiles_and_returns_what_it_finds():
    def detect(tiles):
        assert [tile.shape for tile in tiles] == [(40, 60, 3)] * 2
        return [ROWS, []]

    model = opened(detect)
    assert model.task is None and model.size is None and model.batch is None
    assert model.suppresses
    first, second = found(model, TILE, TILE)
    assert first.conf.tolist() == [0.9, 0.3]  # by confidence, and above 0.05
    assert len(second) == 0
    assert len(found(opened(detect, ModelOptions(max_det=1)), TILE, TILE)[0]) == 1


@pytest.mark.parametrize(
    "given",
    [
        SimpleNamespace(xyxy=[[1, 2, 3, 4]], confidence=[0.5], class_id=[1]),
        {"boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [1]},
        Instances([1], [[1, 2, 3, 4]], conf=[0.5]),
        [[1, 2, 3, 4, 0.5, 1]],
    ],
)
def test_results_of_every_kind(given):
    (instances,) = found(opened(lambda tiles: [given for _ in tiles]), TILE)
    assert instances.boxes.tolist() == [[1, 2, 3, 4]]
    assert instances.class_id.tolist() == [1]


def test_masks_become_outlines():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 2:4, 1:3] = True
    given = {"boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [1], "masks": mask}
    (instances,) = found(opened(lambda tiles: [given]), TILE)
    assert instances.task == "segment"
    assert instances.rings.bounds().tolist() == [[1, 2, 3, 4]]


def test_a_generator_returns_one_after_the_other():
    def detect(tiles):
        for _ in tiles:
            yield ROWS

    assert len(found(opened(detect), TILE, TILE)) == 2


def test_names():
    def detect(tiles):
        return [ROWS for _ in tiles]

    assert opened(detect).names is None
    assert opened(detect, ModelOptions(names="a,b")).names == ("a", "b")
    detect.names = {0: "x", 1: "y"}
    assert opened(detect).names == ("x", "y")
    assert opened(detect).title.endswith("detect: Python function, 2 classes")
    detect.names = 3
    with pytest.raises(TilerError, match="a list of class names as its names, got 3"):
        opened(detect)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([], "expected the detections of each of 1 tiles, got 0"),
        (None, "expected a list of the detections of each of 1 tiles, got NoneType"),
        ([5], "detections are Instances"),
        ([[1, 2]], "expected .N, 6. numbers"),
        ([Instances([1], [[1, 2, 3, 4]])], "need a confidence"),
        ([[[1, 2, 3, 4, np.nan, 0]]], "no numbers"),
    ],
)
def test_what_it_returns_is_checked(result, message):
    with pytest.raises(TilerError, match=f"test_callables:.*{message}"):
        found(opened(lambda tiles: result), TILE)


def test_its_errors_say_where_they_are_from(module):
    module("def detect(tiles):\n    return [{}[7] for tile in tiles]\n")
    with pytest.raises(TilerError, match=r"^mine:detect: KeyError: 7 \(.*mine.py:2\)$"):
        found(opened("mine:detect"), TILE)


def test_what_is_short_of_memory_stays_so():
    def detect(tiles):
        raise MemoryError

    with pytest.raises(MemoryError):
        found(opened(detect), TILE)


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        ("nowhere:detect", "", "no module nowhere, neither in .* nor installed"),
        ("mine:detekt", "def detect(tiles): pass", "there is no 'detekt' in it; did you mean"),
        ("mine:detect", "detect = 5", "expected a function, got int"),
        ("mine:Detect", "class Detect: pass", "is a class"),
        ("mine:detect", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("mine:detect", "def detect(:", "SyntaxError"),
        ("mine:detect", "raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_functions_that_cannot_be_had(module, given, text, message):
    module(text)
    with pytest.raises(TilerError, match=message):
        opened(given)


def test_an_object_may_have_the_function(module):
    module(
        "class Detector:\n    def detect(self, tiles):\n        return [[] for _ in tiles]\n"
        "detector = Detector()\n"
    )
    assert len(found(opened("mine:detector.detect"), TILE)) == 1


def test_the_fingerprint_is_of_the_module(module):
    module("def detect(tiles): return []\n")
    one = opened("mine:detect").fingerprint
    assert opened("mine:detect").fingerprint == one
    assert opened("mine:detect", ModelOptions(nms_iou=0.1)).fingerprint == one
    assert opened("mine:detect", ModelOptions(conf=0.1)).fingerprint != one
    module("def detect(tiles): return [] \n")
    assert opened("mine:detect").fingerprint != one


@pytest.mark.parametrize("given", ["best.onxx", "best", "a:b:c", "http://a/b.onnx"])
def test_what_is_no_model(given):
    with pytest.raises(TilerError, match="no such model; expected a .onnx file, module:function"):
        opened(given)
    with pytest.raises(TilerError, match="expected a path or a function, got 5"):
        opened(5)


def test_what_only_ultralytics_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    path = tmp_path / "best.pt"
    path.write_bytes(b"")
    with pytest.raises(TilerError, match="pip install ultralytics beside tiler; or export it"):
        opened(path)
    (tmp_path / "best_openvino_model").mkdir()
    with pytest.raises(TilerError, match="two ways"):
        opened(tmp_path / "best_openvino_model")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(TilerError, match="a.txt: is no model"):
        opened(tmp_path / "a.txt")


def test_onnx_runtime_is_an_extra(tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="onnx is not installed")
    from tests.models import graphs

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TilerError, match=r"needs pip install 'tilestitch\[onnx\]'"):
        opened(graphs.detect(tmp_path / "m.onnx"))
