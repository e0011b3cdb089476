"""Detectors' files: whatever the format, the same detections are read and merged."""

import json
import random

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import tree
from tests.predictions import read, writers
from tests.predictions.writers import NAMES, SIDE, WRITERS, coco
from tiler.errors import TilerError

STEP = SIDE - 128
WIDTH = SIDE + STEP


def tiles_of(seed):
    """Rows of two tiles: objects over their seam, and some in one of them; whole px and percents,
    which every format can hold.
    """
    rng = random.Random(seed)
    tiles = {f"scene__{x}_0_{SIDE}_{SIDE}": [] for x in (0, STEP)}
    for i in range(24):
        x, y = rng.randrange(WIDTH - 90), 20 * i
        right, bottom = x + rng.randrange(20, 90), y + rng.randrange(8, 20)
        conf = rng.randrange(20, 100) / 100
        for start, rows in zip((0, STEP), tiles.values(), strict=True):
            x0, x1 = max(x - start, 0), min(right - start, SIDE)
            if x1 - x0 > 8:
                rows.append((i % 2, x0, y, x1, bottom, conf))
    return tiles


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    (root / "images" / "val").mkdir(parents=True)
    Image.new("L", (WIDTH, SIDE)).save(root / "images" / "val" / "scene.png")
    names = ", ".join(NAMES)
    (root / "dataset.yaml").write_text(f"path: .\nval: images/val\nnames: [{names}]\n")
    return root


def merged(writer, root, images):
    """The files of labels and results after merging."""
    preds = root / "preds"
    preds.mkdir()
    base = {"preds_base": "1"} if "torchvision" in writer.__name__ else {}
    if writer is coco or writer is writers.detectron2_folder:
        base = {"preds_base": "0"}
    tiler.merge(
        writer(preds, tiles_of(1)),
        images=images / "images" / "val",
        data=images / "dataset.yaml",
        out=root / "merged",
        **base,
    )
    found = tree(root / "merged")
    return {name: data for name, data in found.items() if name.startswith(("labels", "pred"))}


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_every_format_is_merged_to_the_same_bytes(tmp_path, images, writer):
    (tmp_path / "base").mkdir()
    expected = merged(coco, tmp_path / "base", images)
    assert len(expected) == 2
    assert merged(writer, tmp_path, images) == expected


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_rows_are_those_that_were_written(tmp_path, writer):
    tiles = tiles_of(2)
    base = {"preds_base": "1"} if "torchvision" in writer.__name__ else {"preds_base": "auto"}
    size = (0, 0, SIDE, SIDE)
    predictions, found = read(writer(tmp_path, tiles), size, names=NAMES, task="detect", **base)
    rows = np.array([row for rows in tiles.values() for row in rows])
    np.testing.assert_array_equal(found.instances.boxes, rows[:, 1:5])
    np.testing.assert_array_equal(found.instances.class_id, rows[:, 0])
    np.testing.assert_array_equal(found.instances.conf, rows[:, 5])
    assert predictions.counts == [len(rows) for rows in tiles.values()]


QUAD = [[60.0, 30.0], [70.0, 40.0], [60.0, 50.0], [50.0, 40.0]]
FLAT = [value for point in QUAD for value in point]
OUTLINE = [[10.0, 20.0], [40.0, 20.0], [40.0, 60.0]]
POSE = [[11.0, 21.0, 0.5], [30.0, 40.0, 1.0]]

# In the form that supervision 0.31's sinks document, with a custom column; written by hand.
SINK_CSV = (
    "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,frame,path,xyxyxyxy\n"
    "50.0,30.0,70.0,50.0,1,0.25,,truck,3,/content/a.jpeg,"
    '"[[60.0, 30.0], [70.0, 40.0], [60.0, 50.0], [50.0, 40.0]]"\n'
)
# In the form of polars' `write_json`, and of what `to_csv` of Ultralytics 8.3 falls back to; by
# hand.
SUMMARY_JSON = (
    '[{"name":"truck","class":1,"confidence":0.9,"box":{"x1":10.0,"y1":20.0,"x2":40.0,"y2":60.0},'
    '"segments":{"x":[10.0,40.0,40.0],"y":[20.0,20.0,60.0]},'
    '"keypoints":{"x":[11.0,30.0],"y":[21.0,40.0],"visible":[0.5,1.0]}}]'
)
SUMMARY_CSV = (
    "name,class,confidence,box,segments,keypoints\n"
    "truck,1,0.9,\"{'x1': 10.0, 'y1': 20.0, 'x2': 40.0, 'y2': 60.0}\","
    "\"{'x': [10.0, 40.0, 40.0], 'y': [20.0, 20.0, 60.0]}\","
    "\"{'x': [11.0, 30.0], 'y': [21.0, 40.0], 'visible': [0.5, 1.0]}\"\n"
)


def array(boxes, **parts):
    return json.dumps({boxes: [[10, 20, 40, 60]], "labels": [1], "scores": [0.9], **parts})


def inference(**parts):
    box = {"x": 25, "y": 40, "width": 30, "height": 40, "class": "truck", "confidence": 0.9}
    return json.dumps({"predictions": [{**box, **parts}]})


def shapes(kind, points):
    shape = {"label": "truck", "flags": {"confidence": 0.9}, "points": points, "shape_type": kind}
    return json.dumps({"shapes": [shape]})


def voc_object(inner):
    label = "<object><name>truck</name><score>0.9</score>"
    return f"<annotation>{label}{inner}</object></annotation>"


def summary_obb():
    names = [f"{axis}{i}" for i in (1, 2, 3, 4) for axis in "xy"]
    box = dict(zip(names, FLAT, strict=True))
    return json.dumps([{"name": "truck", "class": 1, "confidence": 0.9, "box": box}])


XY = [{"x": x, "y": y} for x, y in OUTLINE]
KEYPOINTS = [{"x": x, "y": y, "confidence": c, "class": "nose"} for x, y, c in POSE]
SQUARE = [[int(10 <= x < 40 and 20 <= y < 60) for x in range(100)] for y in range(100)]
RUNS = {"size": [100, 100], "counts": [1020, *([40, 60] * 29), 40, 6040]}
TURNED = "<robndbox><cx>60</cx><cy>40</cy><w>20</w><h>10</h><angle>0</angle></robndbox>"
XML_OUTLINE = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in OUTLINE)

SHAPED = {
    "summary segments": ("a.json", SUMMARY_JSON, "segment", OUTLINE),
    "summary segments csv": ("a.csv", SUMMARY_CSV, "segment", OUTLINE),
    "roboflow": ("a.json", inference(points=XY), "segment", OUTLINE),
    "labelme": ("a.json", shapes("polygon", OUTLINE), "segment", OUTLINE),
    "voc": ("a.xml", voc_object(f"<polygon>{XML_OUTLINE}</polygon>"), "segment", OUTLINE),
    "torchvision": ("a.json", array("boxes", masks=[[SQUARE]]), "segment", None),
    "mmdetection": ("a.json", array("bboxes", masks=[RUNS]), "segment", None),
    "summary obb": ("a.json", summary_obb(), "obb", QUAD),
    "sink obb": ("a.csv", SINK_CSV, "obb", QUAD),
    "labelme obb": ("a.json", shapes("rotation", QUAD), "obb", QUAD),
    "voc obb": ("a.xml", voc_object(TURNED), "obb", None),
    "mmrotate": (
        "a.json", json.dumps({"bboxes": [[60, 40, 20, 10, 0]], "labels": [1], "scores": [0.9]}),
        "obb", None,
    ),
    "summary pose": ("a.json", SUMMARY_JSON, "pose", POSE),
    "summary pose csv": ("a.csv", SUMMARY_CSV, "pose", POSE),
    "roboflow pose": ("a.json", inference(keypoints=KEYPOINTS), "pose", POSE),
    "torchvision pose": ("a.json", array("boxes", keypoints=[POSE]), "pose", POSE),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHAPED)
def test_outlines_obb_and_keypoints(tmp_path, kind):
    name, text, task, expected = SHAPED[kind]
    (tmp_path / name).write_text(text)
    given = {"kpt_shape": (2, 3)} if task == "pose" else {}
    if kind.startswith("torchvision"):
        given["preds_base"] = "0"
    _, found = read(tmp_path / name, task=task, names=NAMES, **given)
    instances = found.instances
    assert instances.class_id.tolist() == [1] and found.rejected == []
    if task == "pose":
        assert instances.keypoints[0].tolist() == expected
    elif expected is not None:
        assert sorted(instances.rings.coords.tolist()) == sorted(expected)
    elif task == "obb":
        assert instances.boxes.tolist() == [[50, 35, 70, 45]]
    else:
        assert instances.boxes.tolist() == [[10, 20, 40, 60]]
        assert instances.area.tolist() == [1200]


@pytest.mark.parametrize(
    "kind", ["summary obb", "sink obb", "labelme obb", "voc obb", "mmrotate", "labelme"]
)
def test_the_task_shows(tmp_path, kind):
    name, text, task, _ = SHAPED[kind]
    (tmp_path / name).write_text(text)
    assert read(tmp_path, names=NAMES)[0].task == task


def test_classes_without_names_are_in_alphabetical_order(tmp_path):
    writers.voc(tmp_path, tiles_of(1))
    predictions, found = read(tmp_path, (0, 0, SIDE, SIDE))
    assert "alphabetical order, as none are known (car, truck)" in predictions.kind
    assert {*found.instances.class_id.tolist()} == {0, 1}


def test_labels_of_torchvision_count_from_0_or_1(tmp_path):
    (tmp_path / "a.json").write_text(array("boxes"))
    with pytest.raises(TilerError, match="--preds-base 0, 1.*torchvision's models count from 1"):
        read(tmp_path)
    assert read(tmp_path, preds_base="1")[1].instances.class_id.tolist() == [0]


def test_ids_and_names_that_differ_from_the_datasets(tmp_path):
    (tmp_path / "a.json").write_text(SUMMARY_JSON)
    given = {"task": "detect", "names": ("truck", "car")}
    assert read(tmp_path, **given)[1].instances.class_id.tolist() == [0], "by name"
    assert read(tmp_path, preds_base="0", **given)[1].instances.class_id.tolist() == [1]


def test_several_formats_in_a_folder_are_named(tmp_path):
    writers.supervision_csv(tmp_path, tiles_of(1))
    writers.mmdetection(tmp_path, tiles_of(1))
    with pytest.raises(TilerError, match=r"several formats.*supervision \(.csv\): out.csv; MMDet"):
        read(tmp_path)


def test_txt_and_json_of_the_same_tiles(tmp_path):
    writers.yolo(tmp_path, tiles_of(1))
    writers.mmdetection(tmp_path, tiles_of(1))
    with pytest.raises(TilerError, match=r"several formats.*\.txt, .*\.json"):
        read(tmp_path)


def test_a_list_of_classes_beside_other_files(tmp_path):
    (tmp_path / "classes.txt").write_text("car\ntruck\n")
    writers.labelme(tmp_path, tiles_of(1))
    assert read(tmp_path, (0, 0, SIDE, SIDE), names=NAMES)[0].kind.startswith("labelme")


def test_files_that_are_something_else(tmp_path):
    writers.mmdetection(tmp_path, tiles_of(1))
    (tmp_path / "config.json").write_text('{"lr": 0.1, "epochs": 3}')
    predictions = read(tmp_path, (0, 0, SIDE, SIDE))[0]
    assert [finding.code for finding in predictions.findings] == ["D01"]
    assert "got epochs, lr" in str(predictions.findings[0])


def test_nothing_that_can_be_read_says_why(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,train/box_loss\n1,0.5\n")
    with pytest.raises(TilerError, match=r"none of 1 files.*expected columns.*got epoch, train"):
        read(tmp_path)


def test_tiles_without_detections_count(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text("[]")
    predictions = read(tmp_path)[0]
    assert predictions.keys == ["a", "b"] and predictions.counts == [0, 0]
    (tmp_path / "c.json").write_text(SUMMARY_JSON)
    assert read(tmp_path, task="detect")[0].counts == [0, 0, 1]


@pytest.mark.parametrize("name", ["results.pkl", "instances_predictions.pth"])
@pytest.mark.parametrize("data", [b"\x80\x04\x95", b"PK\x03\x04"])
def test_pickles_are_never_opened(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(TilerError, match=r"may run code.*write JSON.*outfile_prefix"):
            read(path)


COLUMNS = '[{"x_min": 1, "y_min": 2, "x_max": 9, "y_max": 9, "class_id": 0, "confidence": 0.5, '


def test_any_column_may_name_the_image(tmp_path):
    path = tmp_path / "d.json"
    path.write_text(COLUMNS + '"crop": "scene__0_0_64_64", "model": "v1"}]')
    predictions = read(path)[0]
    assert predictions.keys == ["scene__0_0_64_64"] and "images by crop" in predictions.kind
    path.write_text(COLUMNS + '"crop": "a.jpg", "scene": "b.jpg"}]')
    with pytest.raises(TilerError, match="columns crop, scene may name the images"):
        read(path)


def test_megadetector_in_pixels(tmp_path):
    detection = '{"category": "animal", "confidence": 0.5, "bbox": [1, 2, 9, 8]}'
    path = tmp_path / "md.json"
    path.write_text('[{"file": "a.jpg", "detections": [%s]}]' % detection)
    assert read(path)[1].instances.boxes.tolist() == [[1, 2, 9, 8]]
    path.write_text(path.read_text().replace("confidence", "conf"))
    with pytest.raises(TilerError, match="detections without confidence"):
        read(path)


def test_megadetector_tells_which_images_failed(tmp_path):
    images = '[{"file": "a.jpg", "failure": "Failure image access"}]'
    path = tmp_path / "md.json"
    path.write_text('{"images": %s, "detection_categories": {"1": "animal"}}' % images)
    predictions = read(path, names=("animal",))[0]
    assert predictions.keys == ["a"] and "Failure image access" in str(predictions.findings[0])


def test_darknet_without_places(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("a.jpg: Predicted in 2.1 milli-seconds.\ncar: 92%\n")
    assert "-ext_output" in str(read(path)[0].findings[0])


def test_regions_of_kitti_are_no_objects(tmp_path):
    row = "-1 -1 -10 10 20 40 60 -1 -1 -1 -1 -1 -1 -10"
    (tmp_path / "a.txt").write_text(f"car {row} 0.5\nDontCare {row} 0.5\ncar 1 2\ncar {row}\n")
    predictions, found = read(tmp_path, names=NAMES)
    assert len(found.instances) == 1
    assert [(f.code, f.line) for f in predictions.findings] == [("D03", 3)]
    assert [(f.code, f.line) for f in found.findings] == [("D08", 4)]


def test_coco_results_in_several_files(tmp_path):
    entry = {"category_id": 0, "bbox": [1, 2, 8, 7], "score": 0.5}
    (tmp_path / "one.json").write_text(json.dumps([{"image_id": "a", **entry}]))
    (tmp_path / "two.json").write_text(json.dumps([{"image_id": "b", **entry}]))
    assert read(tmp_path)[0].keys == ["a", "b"]
    (tmp_path / "two.json").write_text(json.dumps([{"image_id": "a", **entry}]))
    with pytest.raises(TilerError, match="several files of predictions, say which: one.json, two"):
        read(tmp_path)


def test_coco_results_that_name_no_image(tmp_path):
    entry = {"category_id": 0, "bbox": [1, 2, 8, 7], "score": 0.5}
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps([entry]))
    predictions, found = read(tmp_path)
    assert predictions.keys == ["a", "b"]
    assert found.instances.boxes.tolist() == 2 * [[1, 2, 9, 9]]


def test_a_column_of_numbers_names_no_tiles_among_several_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(COLUMNS + '"run": "2026_11_28"}]')
    assert read(tmp_path)[0].keys == ["a", "b"]
