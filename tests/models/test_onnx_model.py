import numpy as np
import pytest

from tests.models import graphs
from tests.models.graphs import COUNT, NAMES, Graph, boxes, coloured
from tiler.errors import TilerError
from tiler.models import opened
from tiler.options import ModelOptions

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

RED = (1, 2, 200, 0, 0)  # column and row of a cell, and its colour
GREEN = (3, 0, 0, 100, 0)
TWO = [(0, 200 / 255, [9.0, 18.0, 15.0, 22.0]), (1, 100 / 255, [25.0, 2.0, 31.0, 6.0])]


def found(model, *tiles):
    output = model.run([model.prepared(tile) for tile in tiles])
    return model.detections(output, [(tile.shape[1], tile.shape[0]) for tile in tiles])


def plain(instances):
    columns = (instances.class_id, instances.conf, instances.boxes)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def same(instances, expected, abs=1e-5):
    assert len(instances) == len(expected)
    for ours, theirs in zip(plain(instances), expected, strict=True):
        assert ours[0] == theirs[0]
        assert ours[1] == pytest.approx(theirs[1], abs=max(abs, 1e-5))
        assert ours[2] == pytest.approx(theirs[2], abs=max(abs, 1e-5))


def refused(path, message, **options):
    with pytest.raises(TilerError, match=message):
        opened(path, ModelOptions(**options))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 0),
        ({"batch": 1}, 0),
        ({"batch": 4}, 0),
        ({"sides": ("height", "width"), "imgsz": "[32, 32]"}, 0),
        ({"dtype": "FLOAT16"}, 1e-3),
        ({"dtype": "UINT8"}, 0),
    ],
)
def test_inputs_of_every_kind(tmp_path, options, tolerance):
    model = opened(graphs.detect(tmp_path / "m.onnx", **options))
    assert model.size == (32, 32)
    assert model.names == ("red", "green", "blue")
    assert model.task == "detect"
    assert model.title == "m.onnx: Ultralytics YOLO, detect, 32 x 32 px, 3 classes, on the CPU"
    assert not model.suppresses
    both, none, one = found(model, coloured(RED, GREEN), coloured(), coloured(GREEN))
    same(both, TWO, tolerance)
    same(none, [])
    same(one, TWO[1:], tolerance)


def test_a_batch_is_padded_and_what_is_more_is_dropped(tmp_path):
    model = opened(graphs.detect(tmp_path / "m.onnx", batch=4))
    assert model.batch == 4
    output = model.run([model.prepared(coloured(RED))])
    assert len(output) == 1
    same(model.detections(output, [(32, 32)])[0], TWO[:1])


def test_confidence_and_number_of_detections(tmp_path):
    path = graphs.detect(tmp_path / "m.onnx")
    tile = coloured(RED, GREEN)
    same(found(opened(path, ModelOptions(conf=0.5)), tile)[0], TWO[:1])
    same(found(opened(path, ModelOptions(max_det=1)), tile)[0], TWO[:1])


def test_detections_are_in_px_of_the_tile(tmp_path):
    model = opened(graphs.detect(tmp_path / "m.onnx"))
    tile = np.repeat(np.repeat(coloured(RED), 2, axis=0), 2, axis=1)[:, :]
    same(found(model, tile)[0], [(0, 200 / 255, [18.0, 36.0, 30.0, 44.0])])
    wide = np.concatenate([tile, tile * 0], axis=1)  # 128 x 64: 8 px of grey above
    (instances,) = found(model, wide)
    assert (instances.boxes >= 0).all() and (instances.boxes[:, 3] <= 64).all()


def test_grey_and_transparent_tiles(tmp_path):
    model = opened(graphs.detect(tmp_path / "m.onnx"))
    grey = coloured((1, 2, 200, 200, 200))[..., :1]
    (instances,) = found(model, grey)
    assert instances.conf[0] == pytest.approx(200 / 255)
    same(found(model, np.dstack([coloured(RED), coloured()[..., 0]]))[0], TWO[:1])
    with pytest.raises(TilerError, match="takes 3 channels, the image has 5"):
        model.prepared(np.zeros((32, 32, 5), np.uint8))
    with pytest.raises(TilerError, match="8 bits, got uint16"):
        model.prepared(np.zeros((32, 32, 3), np.uint16))


def test_duplicates_of_a_class_are_dropped(tmp_path):
    graph, path, _words = graphs.yolo(tmp_path / "m.onnx")
    graph.nodes.clear(), graph.constants.clear(), graph.outputs.clear()
    graph.image = graph.node("Cast", ["images"], to=graph.float)
    near = boxes()
    near[:, :2] = near[:1, :2] + np.arange(COUNT)[:, None] * 0.1  # all on one spot
    graph.output(graph.joined(graph.rows(near), graph.scores()))
    graph.save(path, task="detect", names=NAMES)
    tile = coloured((0, 0, 90, 0, 0), (1, 0, 100, 0, 0), (2, 0, 0, 80, 0))
    (instances,) = found(opened(path), tile)
    assert instances.class_id.tolist() == [0, 1]
    assert instances.conf.tolist() == pytest.approx([100 / 255, 80 / 255])
    assert len(found(opened(path, ModelOptions(nms_iou=1)), tile)[0]) == 3


def test_oriented_boxes(tmp_path):
    angles = np.full((COUNT, 1), np.pi / 2)
    graph, path, _words = graphs.yolo(tmp_path / "m.onnx", more=angles)
    graph.save(path, task="obb", names=NAMES)
    (instances,) = found(opened(path), coloured(RED))
    assert instances.task == "obb"
    assert instances.boxes[0].tolist() == pytest.approx([10, 17, 14, 23], abs=1e-5)
    corners = [[10, 23], [14, 23], [14, 17], [10, 17]]
    assert instances.rings.quads()[0] == pytest.approx(np.array(corners), abs=1e-5)
    assert len(found(opened(path), coloured())[0]) == 0
    assert found(opened(path), coloured())[0].task == "obb"


def test_keypoints(tmp_path):
    points = np.concatenate([graphs.centres(), np.full((COUNT, 1), 0.75)], axis=1)
    graph, path, _words = graphs.yolo(tmp_path / "m.onnx", more=np.tile(points, 2))
    graph.save(path, task="pose", names=NAMES, kpt_shape="[2, 3]")
    model = opened(path)
    assert model.kpt_shape == (2, 3)
    (instances,) = found(model, coloured(RED))
    assert instances.keypoints[0] == pytest.approx(np.array([[12, 20, 0.75]] * 2))


def test_masks(tmp_path):
    coefficients = np.ones((COUNT, 1))
    graph, path, _words = graphs.yolo(tmp_path / "m.onnx", more=coefficients)
    inside = np.full((1, 1, 8, 8), -1.0)
    inside[:, :, 4:, :] = 1.0  # the lower half
    graph.output(graph.constant(inside), "output1", (1, 1, 8, 8))
    graph.save(path, task="segment", names=NAMES)
    (instances,) = found(opened(path), coloured(RED, (0, 0, 200, 0, 0)))
    assert instances.task == "segment"
    assert len(instances) == 1  # the other one has no pixels
    assert instances.rings.bounds()[0].tolist() == [9, 18, 14, 21]  # centres of pixels


def test_rows_without_duplicates(tmp_path):
    graph = Graph()
    scores = graph.turned(graph.scores())
    red = graph.node(
        "Slice",
        [scores, *graph.bounds(1), graph.constant([1], np.int64)][:1]
        + [
            graph.constant([0], np.int64),
            graph.constant([1], np.int64),
            graph.constant([2], np.int64),
        ],
    )
    xyxy = boxes()
    xyxy = np.concatenate([xyxy[:, :2] - xyxy[:, 2:] / 2, xyxy[:, :2] + xyxy[:, 2:] / 2], axis=1)
    corners = graph.turned(graph.rows(xyxy))
    classes = graph.turned(graph.rows(np.full((COUNT, 1), 2)))
    graph.output(graph.joined(corners, red, classes, axis=2))
    path = graph.save(tmp_path / "m.onnx", task="detect", names=NAMES, end2end="True")
    model = opened(path)
    assert model.suppresses
    same(found(model, coloured(RED))[0], [(2, 200 / 255, [9.0, 18.0, 15.0, 22.0])])
    refused(path, "3 classes, got 2 names", names="a,b")


@pytest.mark.parametrize("side", [64])
def test_yolov5_and_yolox_are_told_apart_by_the_number_of_anchors(tmp_path, side):
    for name, anchors, output, family in (
        ("v5", 3 * 84, "output0", "YOLOv5"),
        ("x", 84, "output", "YOLOX"),
    ):
        graph = Graph(1, (side, side))
        rows = np.zeros((1, anchors, 8), np.float32)
        cells = np.concatenate([graphs.centres(stride, side) for stride in (8, 16, 32)])
        rows[0, : len(cells), :4] = np.concatenate([cells, np.full_like(cells, 6)], axis=1)
        rows[0, 0, 4:] = (0.5, 0.2, 0.8, 0.1)
        graph.output(graph.constant(rows), output, (1, anchors, 8))
        model = opened(graph.save(tmp_path / f"{name}.onnx"), ModelOptions(names="a,b,c"))
        assert family in model.title
        tile = np.zeros((side, side, 3), np.uint8)
        same(found(model, tile)[0], [(1, 0.4, [1.0, 1.0, 7.0, 7.0])])


def test_boxes_relative_to_cells(tmp_path):
    graph = Graph(1, (64, 64))
    rows = np.zeros((1, 84, 6), np.float32)
    rows[..., :2] = 0.5
    rows[0, 9, 2:] = (np.log(2), np.log(3), 1, 0.5)  # column 1, row 1 of cells of 8 px
    graph.output(graph.constant(rows), "output", (1, 84, 6))
    model = opened(graph.save(tmp_path / "m.onnx"))
    (instances,) = found(model, np.zeros((64, 64, 3), np.uint8))
    same(instances, [(0, 0.5, [4.0, 0.0, 20.0, 24.0])])


def test_torchvision(tmp_path):
    graph = Graph(None, ("height", "width"), name="image")
    graph.output(graph.constant([[1, 2, 3, 4], [5, 6, 7, 8]]), "b", (None, 4))
    graph.output(graph.constant([3, 1], np.int64), "l", (None,), kind=7)
    graph.output(graph.constant([0.2, 0.9]), "s", (None,))
    model = opened(graph.save(tmp_path / "m.onnx"))
    assert model.title == "m.onnx: torchvision, detect, any size, on the CPU"
    assert model.size is None and model.suppresses
    expected = [(1, 0.9, [5.0, 6.0, 7.0, 8.0]), (3, 0.2, [1.0, 2.0, 3.0, 4.0])]
    for instances in found(model, np.zeros((20, 30, 3), np.uint8), coloured()):
        same(instances, expected)


def detr(tmp_path, logits=(("logits", 3), ("pred_boxes", 4))):
    graph = Graph(1)
    for name, width in logits:
        values = np.full((1, 2, width), -9.0)
        if name == "logits":
            values[0, 1, 2] = 0.0
        else:
            values[:] = (0.5, 0.5, 0.25, 0.5)
        graph.output(graph.constant(values), name, (1, 2, width))
    return graph.save(tmp_path / "model.onnx")


def test_transformers(tmp_path):
    path = detr(tmp_path)
    refused(path, "kinds of DETR.*model_type in config.json beside it, got None")
    (tmp_path / "config.json").write_text(
        '{"model_type": "d_fine", "id2label": {"0": "a", "1": "b", "2": "c"}}'
    )
    model = opened(path)
    assert model.names == ("a", "b", "c")
    (instances,) = found(model, np.zeros((64, 128, 3), np.uint8))
    same(instances, [(2, 0.5, [48.0, 16.0, 80.0, 48.0])])
    before = model.fingerprint
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert opened(path).fingerprint != before
    (tmp_path / "config.json").write_text('{"model_type": "detr"}')
    refused(path, "got 'detr'")
    (tmp_path / "config.json").write_text("[")
    refused(path, "config.json: cannot be read as JSON")


def test_a_yolo_without_metadata_needs_names(tmp_path):
    graph, path, _words = graphs.yolo(tmp_path / "m.onnx", more=np.zeros((COUNT, 1)))
    graph.save(path)
    refused(path, r"unknown outputs; its outputs: output0 \(float32 1 x 8 x 16\)")


def test_a_yolo_whose_names_tell_its_task(tmp_path):
    anchors = 84
    for more, task in ((0, "detect"), (1, "obb")):
        graph = Graph(1, (64, 64))
        graph.output(graph.constant(np.zeros((1, 7 + more, anchors))), shape=(1, 7 + more, anchors))
        path = graph.save(tmp_path / "m.onnx")
        refused(path, "told by --names")
        assert opened(path, ModelOptions(names="a,b,c")).task == task
        refused(path, "without metadata, 1 names", names="a")


def test_unknown_outputs_are_named(tmp_path):
    graph = Graph(1)
    graph.output(graph.constant(np.zeros((1, 5))), "dets", (1, 5))
    graph.output(graph.constant(np.zeros(1, np.int64), np.int64), "labels", (1,), kind=7)
    refused(graph.save(tmp_path / "m.onnx"), "MMDeploy.*how pixels are normalised")
    graph = Graph(1)
    graph.output(graph.constant(np.zeros((1, 5))), "what", (1, 5))
    refused(graph.save(tmp_path / "m.onnx"), r"what \(float32 1 x 5\); or give a Python function")
    refused(graphs.detect(tmp_path / "m.onnx", task="classify"), "task 'classify'; tiler runs")
    refused(graphs.detect(tmp_path / "m.onnx", task="pose"), "no kpt_shape")
    refused(graphs.detect(tmp_path / "m.onnx", task="obb"), "do not fit its metadata: obb")


def test_what_a_model_returns_is_checked(tmp_path):
    for value, message in ((np.nan, "no numbers"), (7.5, "a confidence of 7.5")):
        graph = Graph(1)
        rows = np.zeros((1, 7, COUNT), np.float32)
        rows[0, 5, 3] = value
        graph.output(graph.constant(rows), shape=(1, 7, COUNT))
        model = opened(graph.save(tmp_path / "m.onnx", task="detect", names=NAMES))
        with pytest.raises(TilerError, match=f"m.onnx: the model returned .*{message}"):
            found(model, coloured())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"names": "__import__('os').system('true')"}, "expected numbers or names as names"),
        ({"names": "{0: 'a', 2: 'b'}"}, "names of classes 0, 1"),
        ({"names": "[" * 5000}, "expected numbers or names"),
        ({"names": "'a'" + " " * 2**21}, "characters, at most"),
        ({"imgsz": "[32]"}, "expected two whole numbers as imgsz"),
        ({"imgsz": "[32, -1]"}, "expected two whole numbers"),
        ({"imgsz": "[True, 99999999999]"}, "expected two whole numbers"),
    ],
)
def test_metadata_that_is_no_such(tmp_path, words, message):
    refused(graphs.detect(tmp_path / "m.onnx", **words), message)


def test_enormous_inputs(tmp_path):
    for sides in ((2**20, 2**20), (2**15, 2**15)):
        graph = Graph(1, sides)
        graph.output(graph.image)
        refused(graph.save(tmp_path / "m.onnx"), "expected one input of|cannot load")


def test_the_device(tmp_path):
    path = graphs.detect(tmp_path / "m.onnx")
    assert opened(path, ModelOptions(device="cpu")).title.endswith("on the CPU")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        refused(path, "--device cuda: ONNX Runtime as installed runs on cpu; pip", device="cuda")


def test_the_fingerprint(tmp_path):
    path = graphs.detect(tmp_path / "m.onnx")
    one = opened(path).fingerprint
    assert opened(path).fingerprint == one
    assert opened(path, ModelOptions(conf=0.1)).fingerprint != one
    assert opened(path, ModelOptions(nms_iou=0.1)).fingerprint != one
    assert opened(path, ModelOptions(device="cpu")).fingerprint == one
    assert opened(graphs.detect(path, author="me")).fingerprint != one
