"""Broken files: an error that says what is wrong, or findings; never anything else."""

import json
import random

import pytest

from tests.predictions import folder, read, writers
from tests.predictions.test_detector_files import SHAPED
from tests.predictions.test_json_results import BOX, QUAD
from tiler.errors import TilerError
from tiler.findings import CODES

TEXT = "0 .5 .5 .2 .1 .9\n1 .25 .5 .5 1 .8 17\n\n2 0.123456 .9 1e-3 .2 0.5\r\n"
OUTLINES = (
    "0 .1 .1 .3 .1 .3 .3 .9\n0 .1 .1 .3 .1 .3 .3 .1 .3 .2 .2 .8\n0 -.1 .1 .3 .1 1.3 .3 .1 .3 .5\n"
)
CORNERS = "0 .1 .1 .3 .1 .3 .3 .1 .3 .9\n1 .2 .2 .6 .4 .6 .2 .2 .4 .9\n"
POINTS = "0 .5 .5 .4 .4 .5 .4 .87 0 0 .2 .9\n0 .5 .5 .4 .4 .5 .4 1 0 0 0 .9 3\n"
TASK1 = "t 0.9 50 30 70 50 50 70 30 50\nmy tile .8 50 30 70 50 50 70 30 50\n"
SINK = (
    "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,xyxyxyxy,file_name\n"
    '1,2,30,40,0,0.9,,"[[50, 30], [70, 50], [50, 70], [30, 50]]",a.jpg\n'
)
MASK = {"size": [100, 100], "counts": [100, 50, 9850]}
RESULTS = [
    {**BOX, "segmentation": [QUAD]},
    {**BOX, "segmentation": MASK, "keypoints": [1, 2, 0.5]},
    {**BOX, "poly": QUAD, "rbox": [50, 50, 20, 10, 0.3], "file_name": "a.jpg"},
    {**BOX, "image_id": 7, "category_name": "b", "activations": [0.5]},
]
WORDS = (
    "nan - . e 1e308 -1e400 \x00 \n \r , [ { ] } : null NaN true 99999999999999999999999 0 1 2 "
    "inf Task1_ \\ud800"
)
PIECES = [
    *(word.encode() for word in WORDS.split(" ")),
    b" ",
    b'"',
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc3",
]


def mutated(data, rng):
    """A few bytes taken out, put in, doubled or cut off."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(result) + 1)
        end = min(len(result), at + rng.randint(1, 12))
        kind = rng.randrange(5)
        if kind == 0:
            del result[at:end]
        elif kind == 1:
            result[at:at] = rng.choice(PIECES)
        elif kind == 2:
            result[at:end] = rng.choice(PIECES)
        elif kind == 3:
            result[at:at] = result[at:end]
        elif rng.random() < 0.3:
            del result[at:]
    return bytes(result)


SEEDS = {
    "text": (TEXT, "a.txt", {}),
    "outlines": (OUTLINES, "a.txt", {"task": "segment"}),
    "corners": (CORNERS, "a.txt", {"task": "obb", "assume_conf": 0.5}),
    "points": (POINTS, "a.txt", {"task": "pose", "kpt_shape": (2, 3)}),
    "first": (TEXT, "a.txt", {"conf_first": True}),
    "task1": (TASK1, "Task1_b.txt", {"names": ("a", "b")}),
    "csv": (SINK, "a.csv", {}),
    "sink": (
        json.dumps(
            [
                dict(zip(*(line.split(",")[:6] for line in SINK.split("\n")[:2]), strict=True))
                | {"tile": "a"}
            ]
        ),
        "a.json",
        {},
    ),
    "results": (json.dumps(RESULTS), "predictions.json", {"preds_base": "0"}),
    "masks": (json.dumps(RESULTS[:2]), "predictions.json", {"task": "segment"}),
    "turned": (json.dumps(RESULTS[:3]), "predictions.json", {"task": "obb"}),
    "pose": (json.dumps(RESULTS[1:2]), "predictions.json", {"task": "pose", "names": ("a", "b")}),
}


def outcome(path, data, **reading):
    """What was read (`read` checks it), or None: an error that says where, or what to do."""
    try:
        _, read_back = read(path, **reading)
    except TilerError as error:
        assert str(error).isprintable()
        assert path.name in str(error) or "--" in str(error), (data, error)
        return None
    except Exception as error:
        raise AssertionError(data) from error
    assert (read_back.instances.class_id >= 0).all(), data
    assert {finding.code for finding in read_back.findings} <= {*CODES}
    return read_back


@pytest.mark.parametrize("kind", SEEDS)
def test_only_errors_of_ours_and_findings(tmp_path, kind):
    seed, name, reading = SEEDS[kind]
    rng = random.Random(kind)
    path = tmp_path / name
    usable = 0
    for _ in range(250):
        data = mutated(seed.encode(), rng)
        path.write_bytes(data)
        target = tmp_path if path.suffix == ".txt" else path
        usable += outcome(target, data, **reading) is not None
    assert usable > 10, "most of the mutations should reach the reader"


ROWS = {"t": [(0, 10, 20, 40, 60, 0.5), (1, 5, 6, 30, 22, 0.25)]}
DETECTORS = [writer for writer in writers.WRITERS if writer is not writers.detectron2_folder]


@pytest.mark.parametrize("writer", DETECTORS, ids=lambda writer: writer.__name__)
def test_detectors_files(tmp_path, writer):
    written = writer(tmp_path, ROWS)
    path = next(tmp_path.iterdir())
    seed = path.read_bytes()
    rng = random.Random(writer.__name__)
    usable = 0
    for _ in range(200):
        data = mutated(seed, rng)
        path.write_bytes(data)
        usable += outcome(written, data, names=writers.NAMES, preds_base="0") is not None
    assert usable > 10, "most of the mutations should reach the reader"


@pytest.mark.parametrize("kind", SHAPED)
def test_detectors_outlines(tmp_path, kind):
    name, text, task, _ = SHAPED[kind]
    path = tmp_path / name
    given = {"kpt_shape": (2, 3)} if task == "pose" else {}
    rng = random.Random(kind)
    for _ in range(150):
        data = mutated(text.encode(), rng)
        path.write_bytes(data)
        outcome(path, data, names=writers.NAMES, task=task, preds_base="0", **given)


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "text",
    [
        '{"boxes": [%s], "labels": [0], "scores": [0.5], "masks": [%s]}' % (DEEP, DEEP),
        '{"bboxes": [[1, 2, 3, 4]], "labels": [%s], "scores": [%s]}' % (DEEP, DEEP),
        '{"predictions": [{"x": %s, "points": %s, "class": %s}]}' % (DEEP, DEEP, DEEP),
        '[{"box": %s, "confidence": %s, "segments": {"x": %s}}]' % (DEEP, DEEP, DEEP),
        '[{"image_id": "a", "category_id": 0, "score": 0.5, "segmentation": %s}]' % DEEP,
        '[{"x_min": %s, "y_min": 1, "x_max": 2, "y_max": 3, "image": "a"}]' % DEEP,
        'box,confidence\n"%s",0.5\n' % ("[" * 5000),
        "<annotation>" + "<object>" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("task", ["detect", "segment", "obb"])
def test_deep_nesting(tmp_path, text, task):
    for name in ("a.json", "a.csv", "a.xml"):
        path = tmp_path / name
        path.write_text(text)
        outcome(path, text[:99], task=task, preds_base="0")
        path.unlink()


LONG = 200_000


def test_long_texts_cost_no_more_than_their_length(tmp_path):
    path = tmp_path / "result.txt"
    text = "a.jpg: Predicted in 2 ms\ncar: 5%"
    path.write_text(text + "(left_x:" * LONG + "\n" + "car: " * LONG)
    outcome(path, text)
    path = tmp_path / "d.json"
    row = {"x_min": 1, "y_min": 2, "x_max": 9, "y_max": 9, "class_id": 0, "confidence": 0.5}
    path.write_text(json.dumps([{**row, "crop": "1" * LONG, "scene": "1_" * LONG}]))
    outcome(path, "long")


def test_any_bytes_at_all(tmp_path):
    rng = random.Random(1)
    for _ in range(300):
        data = rng.randbytes(rng.randrange(60))
        folder(tmp_path / "txt", a=data)
        for name in ("x.json", "x.csv"):
            (tmp_path / name).write_bytes(data)
            outcome(tmp_path / name, data)
        outcome(tmp_path / "txt", data)
