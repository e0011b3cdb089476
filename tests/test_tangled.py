"""Outlines that cross themselves too often: refused by file and line wherever they come in, and the
rest goes on.
"""

import json
import time

import numpy as np
import pytest

import tiler
from tests.conftest import Dataset, picture
from tiler.errors import TilerError
from tiler.formats import rle
from tiler.formats.yolo import Spec, read
from tiler.geometry.polygons import Rings

GOOD = "0 .1 .1 .3 .1 .3 .32 .1 .3"
WILD = np.random.default_rng(0).uniform(0, 1, (1000, 2))
WORDS = " ".join(f"{value:.4f}" for value in WILD.ravel())
SAID = "the outline crosses itself too often, expected at most 100 times and once more a point"


@pytest.fixture(autouse=True)
def quickly():
    start = time.process_time()
    yield
    assert time.process_time() - start < 10  # it was minutes, and gigabytes


@pytest.fixture
def data(tmp_path):
    """A segment set of two images; the label file of the second has a wild row between two good
    ones.
    """
    data = Dataset(tmp_path / "data", names=("a",))
    data.add("x.png", GOOD, picture(64, 64))
    data.add(
        "y.png", f"{GOOD}\n0 {WORDS}\n0 .5 .5 .7 .5 .7 .72 .5 .7\n", picture(64, 64), split="val"
    )
    return data


def coco(tmp_path, wild):
    """A COCO JSON of one image with a good outline and a wild one."""
    (tmp_path / "img").mkdir()
    picture(64, 64).save(tmp_path / "img/x.png")
    common = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100}
    good = {"id": 1, **common, "bbox": [4, 4, 20, 20], "segmentation": [[4, 4, 24, 4, 24, 24]]}
    entries = [good, {"id": 2, **common, "bbox": [0, 0, 64, 64], "segmentation": wild}]
    content = {
        "images": [{"id": 1, "file_name": "x.png", "width": 64, "height": 64}],
        "annotations": entries,
    }
    file = tmp_path / "gt.json"
    file.write_text(json.dumps({**content, "categories": [{"id": 1, "name": "a"}]}))
    return file


def found(report, code):
    return [
        (finding.path.rpartition("/")[2], finding.line, finding.message)
        for finding in report.findings
        if finding.code == code
    ]


def test_split_and_check_refuse_the_row(data, tmp_path):
    report = tiler.split(data.yaml, out=tmp_path / "tiles", tile=32, task="segment")
    assert found(report, "L15") == [("y.txt", 2, SAID)]
    assert report.exit_code() == 1
    assert (report.total.objects.objects, report.total.objects.lost) == (3, 0)
    assert found(tiler.check(data.yaml, task="segment"), "L15") == [("y.txt", 2, SAID)]


@pytest.mark.parametrize("task", ["segment", "detect"])
def test_a_label_file_of_nothing_else_has_no_instances(task):
    labels, findings = read(f"0 {WORDS}\n".encode(), Spec(task, 1), 640, 640, "a.txt")
    assert len(labels) == 0
    assert [str(finding) for finding in findings if finding.code == "L15"] == [
        f"a.txt:1: L15 {SAID}"
    ]


COMB = [(x, y) for y in range(60) for x in ((2, 60) if y % 2 else (60, 2))] + [
    (62, 60),
    (62, 0),
    (61, -1),
]
POLYGONS = {
    "one polygon": [(64 * WILD).ravel().tolist()],
    "two that cross each other": [
        np.ravel(COMB).tolist(),
        np.ravel(np.array(COMB)[:, ::-1]).tolist(),
    ],
}


@pytest.mark.parametrize("wild", POLYGONS.values(), ids=POLYGONS)
def test_a_coco_annotation_is_refused_by_its_id(tmp_path, wild):
    report = tiler.split(
        coco(tmp_path, wild), images=tmp_path / "img", out=tmp_path / "tiles", tile=32
    )
    assert found(report, "L15") == [("gt.json", None, f"annotation 2: {SAID}")]
    assert (report.total.objects.objects, report.total.objects.lost) == (1, 0)


def manifest(tmp_path):
    """Two tiles of an image, as `split` writes them down."""
    head = {"tiler": "0.1.0", "schema": 1, "task": "segment", "names": ["a"], "options": {}}
    tiles = [
        {"name": name, "x": x, "y": 0, "w": 640, "h": 640, "scale": 1.0, "rows": []}
        for name, x in (("l", 0), ("r", 512))
    ]
    source = {
        "source": "images/p.jpg",
        "split": "val",
        "width": 1152,
        "height": 640,
        "fingerprint": "0",
        "tiles": tiles,
    }
    (tmp_path / "tiles.jsonl").write_text(json.dumps(head) + "\n" + json.dumps(source) + "\n")
    return tmp_path / "tiles.jsonl"


@pytest.mark.parametrize("method", ["cvm", "nms", "none"])
def test_merge_refuses_a_prediction_by_its_line(tmp_path, method):
    preds = tmp_path / "p"
    preds.mkdir()
    (preds / "l.txt").write_text(f"{GOOD} .9\n0 {WORDS} .8\n")
    (preds / "r.txt").write_text(f"{GOOD} .7\n")
    merged = tiler.merge(
        preds, tiles=manifest(tmp_path), task="segment", method=method, out=tmp_path / "out"
    )
    assert found(merged.report, "D15") == [("l.txt", 2, SAID)]
    assert (merged.report.counts.detections, merged.report.exit_code()) == (2, 1)


@pytest.mark.parametrize("wild", POLYGONS.values(), ids=POLYGONS)
def test_merge_refuses_an_entry_of_json(tmp_path, wild):
    entry = {"image_id": "l", "category_id": 0, "score": 0.5, "bbox": [4, 4, 20, 20]}
    entries = [{**entry, "segmentation": [[4, 4, 24, 4, 24, 24]]}, {**entry, "segmentation": wild}]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    merged = tiler.merge(
        tmp_path / "predictions.json", tiles=manifest(tmp_path), task="segment", category_base="0"
    )
    assert [message for _, _, message in found(merged.report, "D15")] == [f"entry 1: {SAID}"]
    assert merged.report.counts.detections == 1


def test_score_refuses_labels_and_predictions(data, tmp_path):
    preds = tmp_path / "p"
    preds.mkdir()
    (preds / "y.txt").write_text(f"{GOOD} .9\n0 .5 .5 .7 .5 .7 .72 .5 .7 .8\n0 {WORDS} .8\n")
    metrics = tiler.score(preds, data.yaml, split="val", task="segment")
    assert {(f.path.rpartition("/")[2], f.line, f.code) for f in metrics.findings} == {
        ("y.txt", 2, "L15"),
        ("y.txt", 3, "D15"),
    }
    assert metrics.coco["AP"] == 1


def test_a_mask_is_not_drawn_of_an_outline_of_thousands_of_points_at_random():
    points = np.random.default_rng(0).uniform(0, 4000, 20_000)
    masks, wrong = rle.masks([[points.tolist()], [[0, 0, 9, 0, 9, 9]]], np.full((2, 2), 4000))
    assert wrong == {0: SAID}
    assert masks.area()[0] == 0 < masks.area()[1]


def test_stitch_says_what_it_cannot_take():
    def seen():
        return tiler.Instances(
            np.array([0]),
            np.array([[0, 0, 640, 640.0]]),
            Rings.of([[640 * WILD]]),
            conf=np.array([0.5]),
        )

    with pytest.raises(TilerError, match=SAID):
        tiler.stitch([(tiler.Window(0, 0, 640, 640), seen())], (640, 640))


def test_repeated_points_cross_nothing():
    points = np.array([[10, 10], [30, 10], [10, 130], *[[30, 50]] * 1500], float)
    start = time.process_time()
    assert Rings.of([[points]]).geometry()[0].is_valid
    assert time.process_time() - start < 1
