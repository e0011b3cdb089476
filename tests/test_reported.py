"""Small inputs that people reported in public, about other tools or this one: each comes out right,
or with a message that names the cause and the cure.
"""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests import doors
from tests.conftest import SHARED, needs_shared

pytestmark = needs_shared

CAR = ("car", 50.0, 50.0, 90.0, 80.0)


@pytest.fixture(scope="module")
def cases():
    file = SHARED / "reported" / "split_cases.py"
    if not file.exists():
        pytest.skip("needs ../shared/reported")
    spec = importlib.util.spec_from_file_location("split_cases", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


@pytest.fixture
def run(cases, tmp_path, monkeypatch):
    """Makes the case of a name, and runs all of its commands."""
    monkeypatch.chdir(tmp_path)

    def made(name):
        ran = []
        for number, arguments in enumerate(cases[name](tmp_path)):
            if arguments[0] == "split":
                ran.append(doors.from_arguments(arguments, f"out{number}"))
            else:
                ran.append(doors.check(arguments[1]))
        return ran

    return made


def rows_in_tiles(out, split):
    folder = out / "labels" / split
    return sum(len(path.read_text().splitlines()) for path in folder.glob("*.txt"))


@pytest.mark.parametrize(
    ("name", "key"),
    [("c01_coco_backslash", "images/ab12-frame.png"), ("c03_coco_media_path", "cb06-cap.png")],
)
def test_paths_of_windows(run, name, key):
    (ran,) = run(name)
    assert ran.code == 0
    assert ran.objects == {key: [CAR]}
    assert f"was found as {key}" in ran.said


def test_a_few_outlines_are_missing(run):
    auto, asked = run("c05_coco_some_outlines_missing")
    for ran in (auto, asked):
        assert (ran.code, ran.report.task) == (1, "segment")
        assert len(ran.objects["a.png"]) == 19
        assert "annotation 19: no segmentation, which a segment set needs" in ran.said
    assert "1 boxes, which do not fit; --task detect takes" in auto.report.task_reason
    rows = [len(line.split()) for line in _lines(auto.out)]
    assert min(rows) >= 7


def _lines(out):
    return [
        line
        for path in sorted((out / "labels/train").glob("*.txt"))
        for line in path.read_text().splitlines()
    ]


def test_every_object_is_a_crowd(run):
    (ran,) = run("c06_coco_all_crowd")
    assert ran.code == 0
    boxes = [("car", 40.0, 40.0, 100.0, 90.0), ("car", 220.0, 120.0, 270.0, 160.0)]
    assert ran.objects == {"a.png": boxes}
    assert "every annotation is marked iscrowd" in ran.said
    assert "ignored: objects" in (ran.out / "args.yaml").read_text()
    source = np.asarray(Image.open("img/a.png"))
    for name in ("a__0_0_200_200", "a__200_100_200_200"):
        x, y = map(int, name.split("__")[1].split("_")[:2])
        tile = np.asarray(Image.open(ran.out / f"images/train/{name}.png"))
        assert (tile == source[y : y + 200, x : x + 200]).all()


@pytest.mark.parametrize(
    ("name", "boxes"),
    [
        ("c07_coco_category_text", [("plate", 75.0, 47.0, 102.0, 73.0)]),
        ("c08_coco_image_id_text", [CAR]),
        ("c09_coco_no_size", [CAR]),
        ("c16_coco_no_bbox", [("car", 50.0, 50.0, 90.0, 80.0)]),
    ],
)
def test_values_of_other_tools(run, name, boxes):
    (ran,) = run(name)
    assert (ran.code, ran.said) == (0, "")
    assert ran.objects == {"a.png": boxes}


def test_the_declared_size_is_not_turned(run):
    (ran,) = run("c10_coco_exif_swapped")
    assert ran.code == 0
    assert ran.objects == {"a.jpg": [("car", 50.0, 320.0, 90.0, 350.0)]}
    assert "declared size is that of the stored image" in ran.said
    upright = ImageOps.exif_transpose(Image.open("img/a.jpg"))
    (entry,) = doors.manifest.read_sources(ran.out / "tiles.jsonl")
    assert (entry.width, entry.height) == upright.size == (300, 400)


def test_train_and_val_are_two_files(run):
    both, train, again, val = run("c11_coco_train_and_val")
    assert (both.code, both.said) == (0, "")
    assert both.splits == {"train": ["train/train.png"], "val": ["val/val.png"]}
    assert doors.names_of(both.out) == ["car", "bus", "van"]
    assert both.objects["val/val.png"] == [("van", 250.0, 50.0, 290.0, 80.0)]
    assert [name for name, *_ in both.objects["train/train.png"]] == ["bus", "car", "van"]
    assert (train.code, val.code) == (0, 0)
    assert list(val.splits) == ["val"]
    assert again.code == 2
    assert "its dataset.yaml would be another one now; use --overwrite, or another" in again.said


def test_full_paths(run):
    (ran,) = run("c17_coco_full_path")
    assert ran.code == 0
    assert ran.objects == {"deep/er/a.png": [CAR], "b.png": [CAR]}
    assert "/home/other/data/img/b.png was found as b.png" in ran.said


def test_the_folders_of_roboflow(run):
    folders, alone = run("c18_roboflow_coco_folders")
    assert (folders.code, alone.code) == (0, 0)
    assert folders.splits == {
        "train": ["train/train.jpg"],
        "val": ["valid/valid.jpg"],
        "test": ["test/test.jpg"],
    }
    assert all(objects == [CAR] for objects in folders.objects.values())
    assert alone.splits == {"val": ["valid.jpg"]}


def test_labels_with_a_confidence(run):
    split, (code, said) = run("c20_confidence_column")
    assert (split.code, code) == (1, 1)
    for text in (split.said, said):
        assert "expected 5 values (class, x, y, width, height), got 6; a confidence?" in text
    assert split.objects == {}


def test_dota_text_beside_a_yaml(run):
    for ran in run("c23_dota_txt"):
        assert (ran.code, ran.report.task) == (0, "obb")
        assert "the label files are DOTA's" in ran.said
        expected = [("plane", 125.0, 105.0, 190.0, 147.0), ("ship", 207.0, 124.0, 237.0, 156.0)]
        assert ran.objects == {
            "images/train/p00.jpg": expected,
            "images/val/p10.jpg": expected,
        }


def test_boxes_and_outlines(run):
    segment, detect = run("c25_boxes_and_outlines")
    assert (segment.code, segment.report.task, segment.report.total.objects.objects) == (
        1,
        "segment",
        12,
    )
    assert segment.said.count("L10") == 8
    assert "8 boxes, which do not fit; --task detect takes" in segment.report.task_reason
    assert (detect.code, detect.report.total.objects.objects) == (0, 20)


def test_labels_lie_beside_the_images(run):
    ran, (code, said) = run("c31_labels_beside_images")
    assert (ran.code, code) == (2, 1)
    for text in (ran.said, said):
        assert "such as labels/train/p00.txt" in text
        assert "images/train/*.txt, beside the images" in text
    assert "--unlabelled" in ran.said
    assert not ran.out.exists()


def test_folders_of_labels_have_other_names(run):
    (ran,) = run("c33_label_folder_names")
    assert ran.code == 2
    assert "such as labels/train/p00.txt" in ran.said
    assert "labels/train_labels/*.txt" in ran.said


def test_the_export_of_label_studio(run):
    folder, listed = run("c34_label_studio_yolo")
    assert (folder.code, folder.said) == (0, "")
    assert folder.objects == {"images/ab-1.jpg": [("car", 180.0, 135.0, 220.0, 165.0)]}
    assert doors.names_of(folder.out) == ["car", "bus"]
    assert listed.code == 2
    assert "a list of classes; give its folder" in listed.said


def test_pascal_voc(run):
    folder, into_the_same = run("c36_voc_xml")
    file = doors.split("Annotations/a.xml", "file")
    for ran in (folder, file):
        assert (ran.code, ran.said) == (0, "")
        assert list(ran.objects.values()) == [[("car", 50.0, 60.0, 90.0, 99.0)]]
    # another DATA does not end in the output of the first
    assert into_the_same.code == 2
    assert "use --overwrite, or another --out" in into_the_same.said


def test_labelme(run):
    (ran,) = run("c37_labelme_json")
    assert (ran.code, ran.said) == (0, "")
    assert ran.objects == {"a.jpg": [("car", 50.0, 50.0, 90.0, 99.0)]}


def test_only_images(run):
    folder, alone, listed = run("c40_only_pictures")
    assert (folder.code, folder.said, folder.background) == (0, "", 12)
    assert folder.splits == {"": ["a.jpg", "b.jpg"]}
    assert (alone.code, alone.splits) == (0, {"": ["a.jpg"]})
    assert not (folder.out / "dataset.yaml").exists()
    assert listed.code == 2
    assert "--unlabelled" in listed.said


def test_there_is_one_split_only(run):
    (ran,) = run("c41_only_train")
    assert ran.code == 0
    assert ran.report.total.objects.objects == 12
    (said,) = map(str, ran.report.findings)
    assert "Y03 no val split, which the trainer needs: dataset.yaml names train for it" in said
    assert "--val 0.2 makes one" in said
    report = json.loads((ran.out / "report.json").read_text())
    assert list(report["splits"]) == ["train"]
