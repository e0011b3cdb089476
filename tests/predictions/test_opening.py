"""Which predictions a path holds: folders as trainers leave them."""

import json
import os

import pytest

from tests.conftest import SHARED, needs_shared
from tests.predictions import folder, read
from tests.predictions.test_json_results import BOX
from tiler.errors import TilerError
from tiler.predictions import Reading, open_predictions

GOOD = "0 .5 .5 .2 .1 .9\n"


def test_a_folder_its_labels_or_the_run(tmp_path):
    run = tmp_path / "predict"
    folder(run / "labels", a=GOOD, sub__b=GOOD)
    (run / "args.yaml").write_text("task: detect\n")
    (run / "labels" / "labels.cache").write_bytes(b"\x80\x04")
    (run / "a.jpg").write_bytes(b"")
    for path in (run, run / "labels"):
        predictions, found = read(path)
        assert predictions.keys == ["a", "sub/b"] and len(found.instances) == 2
        assert predictions.paths[1] == os.path.join(str(run), "labels", "sub", "b.txt")


def test_keys_are_sorted_by_name_not_by_file(tmp_path):
    folder(tmp_path, **{"a": GOOD, "a-1": GOOD, "a.b": GOOD, "a__x": GOOD})
    assert read(tmp_path)[0].keys == ["a", "a-1", "a.b", "a/x"]


def test_labels_come_before_a_json_and_it_is_said(tmp_path):
    folder(tmp_path / "labels", a=GOOD)
    (tmp_path / "predictions.json").write_text(json.dumps([BOX]))
    predictions, _ = read(tmp_path)
    assert predictions.kind.endswith(
        "1 files, 1 rows; its labels/ are used, predictions.json is not"
    )


@pytest.mark.parametrize("name", ["predictions.json", "best_predictions.json", "result.json"])
def test_a_run_folder_with_a_json_only(tmp_path, name):
    (tmp_path / name).write_text(json.dumps([BOX]))
    (tmp_path / "args.json").write_text("{}")
    folder(tmp_path / "predictions_merged_txt", Task1_a="")
    assert read(tmp_path)[0].kind.startswith("JSON results")
    (tmp_path / "old_predictions.json").write_text("[]")
    with pytest.raises(TilerError, match="several files.*old_predictions.json"):
        read(tmp_path)


def test_suffixes_in_capitals(tmp_path):
    (tmp_path / "OUT.JSON").write_text(json.dumps([BOX]))
    assert read(tmp_path)[0].counts == [1]


def test_a_run_that_has_detected_nothing(tmp_path):
    run = tmp_path / "predict"
    run.mkdir()
    with pytest.raises(TilerError, match="no predictions found"):
        open_predictions(run, Reading(), tiled=True)
    (run / "args.yaml").write_text("task: detect\nmode: predict\n")
    for tiled in (False, True):
        opened = open_predictions(run, Reading(), tiled)
        assert (opened.keys, opened.counts) == ([], [])
        assert "nothing was detected" in opened.kind
    (run / "args.yaml").write_text("task: detect\nsave_txt: false\n")
    with pytest.raises(TilerError, match="save_txt=True save_conf=True"):
        open_predictions(run, Reading(), tiled=True)


def test_empty_labels_are_a_run_if_the_tiles_are_known(tmp_path):
    (tmp_path / "labels").mkdir()
    assert open_predictions(tmp_path, Reading(), tiled=True).keys == []
    with pytest.raises(TilerError, match="if nothing was detected in any tile, --tiles says"):
        open_predictions(tmp_path, Reading())


def test_dota_of_a_val_run(tmp_path):
    folder(tmp_path / "predictions_txt", Task1_a="t .5 10 10 20 10 20 20 10 20\n")
    folder(tmp_path / "predictions_merged_txt", Task1_a="scene .5 10 10 20 10 20 20 10 20\n")
    assert read(tmp_path)[0].keys == ["t"] and read(tmp_path / "predictions_txt")[0].keys == ["t"]


def test_other_txt_are_keys_like_any(tmp_path):
    predictions, found = read(folder(tmp_path, a=GOOD, notes="car\nbus\n"))
    assert (
        predictions.keys == ["a", "notes"]
        and predictions.counts == [1, 2]
        and len(found.instances) == 1
    )


def test_files_by_content(tmp_path):
    path = tmp_path / "whatever"
    path.write_text(json.dumps([BOX]))
    assert len(read(path)[1].instances) == 1


def test_names_that_are_not_utf8(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.txt"), "wb") as file:
        file.write(GOOD.encode() + b"0 oops\n")
    predictions, found = read(tmp_path)
    assert predictions.keys == ["\udcff"] and "\\udcff.txt:2" in str(found.findings[0])


def test_what_holds_none(tmp_path):
    with pytest.raises(TilerError, match=f"no predictions found in {tmp_path}"):
        read(tmp_path)
    with pytest.raises(TilerError, match="no such file"):
        read(tmp_path / "nowhere")
    lone = folder(tmp_path, a=GOOD) / "a.txt"
    with pytest.raises(TilerError, match="give the folder"):
        read(lone)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(TilerError, match=r"pipe\.json: cannot be read: not a regular file"):
        read(tmp_path / "pipe.json")


PREDS = SHARED / "data" / "preds"
FAKE = PREDS / "cocoapi_fakebbox100"
ABC = ("a", "b", "c")


@needs_shared
@pytest.mark.parametrize(
    "path, reading, size, task, keys, rows",
    [
        (PREDS / "ultralytics_txt_conf", {}, 1000, "detect", 40, 43),
        (PREDS / "ultralytics_json_activations", {"preds_base": "0"}, 9000, "detect", 5, 5),
        (PREDS / "fce_small" / "dt_dataset.json", {"preds_base": "1"}, 256, "segment", 3, 9),
        (
            PREDS / "fce_small" / "dt_dataset.json",
            {"preds_base": "1", "task": "detect"},
            256,
            "detect",
            3,
            9,
        ),
        (
            PREDS / "fce_small" / "dt_dataset.json",
            {"preds_base": "1", "task": "obb"},
            256,
            "obb",
            3,
            9,
        ),
        (
            FAKE / "instances_val2014_fakebbox100_results.json",
            {"names": tuple(map(str, range(80)))},
            700,
            "detect",
            99,
            734,
        ),
        (PREDS / "padilla_voc100" / "dets_rel_xywh", {"conf_first": True}, 500, "detect", 49, 255),
        (SHARED / "data/e2e/preds/detect/predict", {"names": ABC}, 320, "detect", 115, 965),
        (SHARED / "data/e2e/preds/detect/val", {"names": ABC}, 320, "detect", 128, 9126),
        (SHARED / "data/e2e/preds/obb/predict", {"names": ABC}, 320, "obb", 117, 930),
        (SHARED / "data/e2e/preds/obb/val", {"names": ABC}, 320, "obb", 121, 2075),
    ],
)
def test_real_predictions(path, reading, size, task, keys, rows):
    predictions, found = read(path, (0, 0, size, size), **reading)
    assert (predictions.task, len(predictions.keys), sum(predictions.counts)) == (task, keys, rows)
    flat = [code for *_, code in found.rejected]
    # what Ultralytics clips to the border of a tile can be a line there
    assert (
        set(flat) <= {"D06"}
        and len(flat) <= rows / 1000
        and len(found.instances) == rows - len(flat)
    )


@needs_shared
def test_txt_and_json_of_one_model_agree():
    """predict writes confidences over 0.25, val over 0.001: the former are among the latter."""
    (txt, of_txt), (results, of_json) = (
        read(SHARED / "data/e2e/preds/detect" / kind, (0, 0, 320, 320), names=ABC)
        for kind in ("predict", "val")
    )
    near = 0
    for i in range(len(of_txt.instances)):
        tile = results.keys.index(txt.keys[of_txt.tile[i]])
        same = (of_json.tile == tile) & (of_json.instances.class_id == of_txt.instances.class_id[i])
        gap = abs(of_json.instances.boxes[same] - of_txt.instances.boxes[i]).max(axis=1, initial=0)
        near += bool((gap < 5).any())
    assert near > 0.9 * len(of_txt.instances)


@needs_shared
def test_real_predictions_that_cannot_be_meant():
    for path, reading, said in [
        (PREDS / "padilla_voc100" / "dets_abs_xywh", {"conf_first": True}, "these are pixels"),
        (PREDS / "padilla_voc100" / "dets_abs_xywh", {}, "these are pixels.*--conf-first"),
        (PREDS / "padilla_voc100" / "gts_yolo", {}, "no confidence"),
        (PREDS / "ultralytics_json_activations", {}, "--preds-base"),
        (PREDS / "fce_small" / "dt_dataset.json", {}, "--preds-base"),
        (FAKE / "instances_val2014_fakebbox100_results.json", {}, "--preds-base"),
        (FAKE / "instances_val2014_100.json", {}, "no confidence"),
    ]:
        with pytest.raises(TilerError, match=said):
            read(path, **reading)


@needs_shared
def test_classes_of_coco_are_those_of_its_categories():
    truth = json.loads((FAKE / "instances_val2014_100.json").read_text())
    categories = sorted(truth["categories"], key=lambda c: c["id"])
    entries = json.loads((FAKE / "instances_val2014_fakebbox100_results.json").read_text())
    names = tuple(c["name"] for c in categories)
    _, found = read(
        FAKE / "instances_val2014_fakebbox100_results.json", (0, 0, 700, 700), names=names
    )
    by_id = {c["id"]: c["name"] for c in categories}
    for class_id, row in zip(found.instances.class_id, found.instances.row, strict=True):
        assert names[class_id] == by_id[entries[row]["category_id"]]


KITTI = "car -1 -1 -10 8 9 20 30 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"


@pytest.mark.parametrize("name", ["classes.txt", "labels.txt", "sub/classes.txt", "Classes.txt"])
@pytest.mark.parametrize("names", ["car\ntraffic light\n", "1\n2\n3\n", "a very long name 2\n"])
@pytest.mark.parametrize(
    ("row", "kind"), [(GOOD, "Ultralytics txt, detect"), (KITTI, "KITTI"), (GOOD, None)]
)
def test_a_list_of_class_names_is_no_tile(tmp_path, name, names, row, kind):
    root = tmp_path if kind else tmp_path / "labels"
    folder(root, z=row)
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(names)
    predictions, found = read(tmp_path, names=("car", "traffic light"))
    assert predictions.keys == ["z"] and (found.findings, predictions.findings) == ([], [])
    assert len(found.instances) == 1
    assert kind is None or kind in predictions.kind


def test_a_tile_may_be_called_so(tmp_path):
    folder(tmp_path, classes=GOOD, labels=GOOD, z=GOOD)
    assert read(tmp_path)[0].keys == ["classes", "labels", "z"]
    (tmp_path / "classes.txt").write_text("0 .5 .5\n")
    with pytest.raises(TilerError, match="rows without a common format"):
        read(tmp_path)
