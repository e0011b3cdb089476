"""Datasets as people have them go in whole, or stop with a message that names the cause and the
cure. Nothing comes out wrong in silence.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tiler
from tests import doors
from tests.conftest import SHARED, Dataset, needs_shared, tree
from tests.doors import annotation, check, coco, image, labelme, split, text, voc
from tiler.errors import TilerError

CAR = ("car", 50.0, 50.0, 90.0, 80.0)
BOX = [50, 50, 40, 30]
FAR = [250, 150, 40, 30]


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# No labels are found


@pytest.mark.parametrize(
    ("move", "where"),
    [
        (lambda root: os.rename(root / "labels", root / "Labels"), "Labels/train/*.txt"),
        (lambda root: os.rename(root / "labels", root / "label"), "label/train/*.txt"),
        (
            lambda root: os.rename(root / "labels/train", root / "labels/train_labels"),
            "labels/train_labels/*.txt",
        ),
        (
            lambda root: os.rename(root / "labels/train/p0.txt", root / "labels/train/p0.TXT"),
            "labels/train/*.TXT",
        ),
        (
            lambda root: os.rename(root / "labels/train/p0.txt", root / "labels/train/p0.xml"),
            "labels/train/*.xml",
        ),
        (
            lambda root: os.rename(root / "labels/train/p0.txt", root / "images/train/p0.json"),
            "images/train/*.json, beside the images",
        ),
        (
            lambda root: os.rename(root / "labels/train/p0.txt", root / "labels/p0.txt"),
            "labels/*.txt",
        ),
    ],
)
def test_labels_in_another_place_are_no_background(data, out, move, where):
    Dataset(data).filled(train=1, val=1)
    move(data)
    ran = split(data, out)
    assert ran.code == 2
    assert "no label file for any of its images (1), such as labels/train/p0.txt" in ran.said
    assert where in ran.said
    assert "--unlabelled" in ran.said
    assert not out.exists()
    code, said = check(data)
    assert code == 1
    assert where in said
    assert split(data, out, unlabelled=True).code in (0, 1)


def test_only_val_has_no_labels(data, out):
    Dataset(data).filled(train=2, val=1)
    shutil.rmtree(data / "labels/val")
    ran = split(data, out)
    assert ran.code == 2
    assert "split val: no label file" in ran.said


def test_a_test_split_without_labels_is_cut_with_a_warning(data, out):
    dataset = Dataset(data).filled(train=1, val=1)
    dataset.yaml.write_text(dataset.yaml.read_text() + "test: images/test\n")
    image(data / "images/test/t.jpg")
    ran = split(data, out)
    assert ran.code == 0
    assert "Y08 split test: no label file for any of its images" in ran.said
    assert ran.splits["test"] == ["images/test/t.jpg"]


def test_empty_label_files_are_background(data, out):
    dataset = Dataset(data)
    for split_name in ("train", "val"):
        dataset.add(f"{split_name}.jpg", "", split=split_name)
    ran = split(data, out)
    assert (ran.code, ran.said, ran.background) == (0, "", 12)


def test_an_image_without_a_label_file_beside_labelled_ones_is_background(data, out):
    dataset = Dataset(data).filled(train=1, val=1)
    dataset.add("empty.jpg", None)
    ran = split(data, out)
    assert ran.code == 0
    assert ran.background >= 6


def test_labels_without_an_image_are_named(data, out):
    Dataset(data).filled(train=1, val=1)
    text(data / "labels/elsewhere/x.txt", "0 .5 .5 .1 .1\n")
    ran = split(data, out)
    assert "labels/elsewhere/x.txt: P02 a label file without an image" in ran.said


@pytest.mark.parametrize("split_name", ["train", "val"])
def test_a_coco_file_without_annotations_is_no_background(data, out, split_name):
    image(data / "a.png")
    coco(data / f"instances_{split_name}.json", ["a.png"], [])
    ran = split(data / f"instances_{split_name}.json", out)
    assert ran.code == 2
    assert f"split {split_name}: no annotation for any of its images (1)" in ran.said
    ran = split(data / f"instances_{split_name}.json", out, unlabelled=True)
    assert (ran.code, ran.background) == (0, 6)


def test_only_one_of_two_coco_files_has_annotations(data, out):
    for name in ("train", "val"):
        image(data / f"{name}/{name}.png")
    coco(data / "instances_train.json", ["train.png"], [(1, BOX)])
    coco(data / "instances_val.json", ["val.png"], [])
    ran = split(data, out)
    assert ran.code == 2
    assert "split val: no annotation" in ran.said


@pytest.mark.parametrize("place", ["labels/train/p1.TXT", "images/train/p1.txt"])
def test_one_label_file_is_in_another_place(data, out, place):
    Dataset(data).filled(train=2, val=1)
    os.rename(data / "labels/train/p1.txt", data / place)
    ran = split(data, out)
    assert (
        f"{place}: P02 a label file that the trainer does not find; it looks for "
        "labels/train/p1.txt" in ran.said
    )


@pytest.mark.parametrize("name", ["annotations/instances.json", "anno.csv", "all/of them.xml"])
def test_annotations_of_another_kind_beside_a_yaml(data, out, name):
    dataset = Dataset(data)
    for split_name in ("train", "val"):
        dataset.add(f"{split_name}.jpg", None, split=split_name)
    text(data / name, "{}")
    ran = split(data, out)
    assert ran.code == 2
    assert f"but there is {name}" in ran.said


def test_a_coco_image_without_annotations_is_background(data, out):
    image(data / "a.png")
    image(data / "b.png", seed=1)
    coco(data / "train.json", ["a.png", "b.png"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert (ran.code, ran.said) == (0, "")
    assert ran.objects == {"a.png": [CAR], "b.png": []}


# Crowds


def crowd(image_id, bbox, **more):
    x, y, w, h = bbox
    return annotation(
        image_id, bbox, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]], **more
    )


def test_most_objects_are_crowds(data, out):
    image(data / "a.png")
    some = [crowd(1, BOX, iscrowd=1), crowd(1, FAR, iscrowd=1), annotation(1, [10, 200, 30, 30])]
    coco(data / "train.json", ["a.png"], some)
    ran = split(data / "train.json", out)
    assert len(ran.objects["a.png"]) == 1
    assert "2 regions marked iscrowd or ignore" in ran.said
    taken = split(data / "train.json", out.with_name("objects"), ignored="objects")
    assert len(taken.objects["a.png"]) == 3


def test_all_are_crowds_in_one_of_two_files(data, out):
    for name in ("train", "val"):
        image(data / f"{name}/{name}.png")
    coco(data / "instances_train.json", ["train.png"], [(1, BOX)])
    coco(data / "instances_val.json", ["val.png"], [crowd(1, BOX, iscrowd=1)])
    ran = split(data, out)
    # in the dataset, not in each file, all masks must be crowds: val's one stays ignored
    assert ran.objects["val/val.png"] == []


@pytest.mark.parametrize("ignored", ["auto", "objects", "skip", "mask"])
def test_what_is_done_with_crowds_is_written_down(data, out, ignored):
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [crowd(1, BOX, iscrowd=1)])
    ran = split(data / "train.json", out, ignored=ignored)
    written = "objects" if ignored == "auto" else ignored
    assert f"ignored: {written}" in (out / "args.yaml").read_text()
    assert len(ran.objects["a.png"]) == (ignored in ("auto", "objects"))
    if ignored == "auto":
        assert "taken as objects" in ran.said


# Ids


@pytest.mark.parametrize(
    ("of_image", "of_annotation"),
    [(1, "1"), ("1", 1), (1.0, 1), (1, 1.0), ("a", "a"), ("1", 1.0), (0, "0"), ("a.png", "a.png")],
)
def test_ids_as_text_and_numbers(data, out, of_image, of_annotation):
    image(data / "a.png")
    entry = {"id": of_image, "file_name": "a.png", "width": 400, "height": 300}
    coco(data / "train.json", [entry], [(of_annotation, BOX)])
    ran = split(data / "train.json", out)
    assert (ran.code, ran.objects) == (0, {"a.png": [CAR]})


@pytest.mark.parametrize(("id", "used"), [("1", 1), (1, "1"), (1.0, 1), ("x", "x")])
def test_category_ids_as_text_and_numbers(data, out, id, used):
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [(1, BOX, used)], [{"id": id, "name": "car"}])
    ran = split(data / "train.json", out)
    assert (ran.code, ran.objects) == (0, {"a.png": [CAR]})


def test_ids_that_fit_no_image_keep_other_images_from_being_background(data, out):
    for name in ("a.png", "b.png"):
        image(data / name, seed=len(name))
    coco(data / "train.json", ["a.png", "b.png"], [(1, BOX), (7, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 1
    assert "annotation 2: no image has image_id 7; ids of images are 1, 2" in ran.said
    assert "b.png: P06 has no annotations, while 1 annotations fit no image" in ran.said
    assert ran.objects == {"a.png": [CAR]}


def test_no_annotation_fits_an_image(data, out):
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [(7, BOX), (8, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "no image has image_id 7; ids of images are 1" in ran.said
    assert not out.exists()
    assert split(data / "train.json", out, dry_run=True).code == 2


# Sizes, boxes


@pytest.mark.parametrize(
    "bbox", [["50", "50", "40", "30"], "[50, 50, 40, 30]", [50.0, 50.0, 40.0, 30.0]]
)
def test_boxes_as_text(data, out, bbox):
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [(1, bbox)])
    ran = split(data / "train.json", out)
    assert (ran.code, ran.objects) == (0, {"a.png": [CAR]})


def test_corners_in_place_of_width_and_height_are_asked_about(data, out):
    image(data / "a.png")
    corners = [(x, y, x + 40, y + 30) for x in (20, 150, 250, 340) for y in (20, 200, 260)]
    coco(data / "train.json", ["a.png"], [(1, list(box)) for box in corners])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "--bbox xyxy" in ran.said
    assert not out.exists()
    ran = split(data / "train.json", out, bbox="xyxy")
    assert ran.code == 0
    assert sorted(box[1:] for box in ran.objects["a.png"]) == sorted(corners)


def test_parts_of_the_sides_are_not_pixels(data, out):
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [(1, [0.2, 0.2, 0.1, 0.1])])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "parts of the image's sides; those of COCO are pixels" in ran.said


def test_a_size_of_another_image(data, out):
    image(data / "a.png")
    entry = {"id": 1, "file_name": "a.png", "width": 800, "height": 600}
    coco(data / "train.json", [entry], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 1
    assert "declared as 800 x 600 px, the image is 400 x 300" in ran.said
    assert ran.objects == {}


# EXIF


def turned(path, orientation, width=400, height=300):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image(path, width, height, exif=exif.tobytes())


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("size", [(400, 300), None])
def test_boxes_that_fit_the_upright_image_only(data, out, orientation, size):
    turned(data / "a.jpg", orientation)
    entry = {"id": 1, "file_name": "a.jpg"}
    if size:
        entry |= {"width": size[0], "height": size[1]}
    coco(data / "train.json", [entry], [(1, [50, 340, 40, 30])])
    ran = split(data / "train.json", out)
    assert ran.code == 0
    assert ran.objects == {"a.jpg": [("car", 50.0, 340.0, 90.0, 370.0)]}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_that_fit_the_stored_image_only_are_turned(data, out, orientation):
    turned(data / "a.jpg", orientation)
    coco(data / "train.json", ["a.jpg"], [(1, [350, 50, 40, 30])])
    ran = split(data / "train.json", out)
    assert ran.code == 0
    expected = {
        5: (50, 350, 80, 390),
        6: (220, 350, 250, 390),
        7: (220, 10, 250, 50),
        8: (50, 10, 80, 50),
    }
    assert ran.objects == {"a.jpg": [("car", *map(float, expected[orientation]))]}
    assert "annotations of the stored image, turned with it" in ran.said


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_that_fit_both_are_asked_about(data, out, orientation):
    turned(data / "a.jpg", orientation)
    coco(data / "train.json", ["a.jpg"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "EXIF" in ran.said
    assert "--frame stored or --frame upright" in ran.said
    upright = split(data / "train.json", out, frame="upright")
    assert upright.objects == {"a.jpg": [CAR]}
    stored = split(data / "train.json", out.with_name("stored"), frame="stored")
    assert stored.objects["a.jpg"] != [CAR]
    assert stored.code == 0


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_half_turns_are_of_the_upright_image_unless_said(data, out, orientation):
    turned(data / "a.jpg", orientation)
    coco(data / "train.json", ["a.jpg"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.objects == {"a.jpg": [CAR]}
    assert "taken for the upright image; --frame stored if they are not" in ran.said
    stored = split(data / "train.json", out.with_name("stored"), frame="stored")
    expected = {2: (310, 50, 350, 80), 3: (310, 220, 350, 250), 4: (50, 220, 90, 250)}
    assert stored.objects == {"a.jpg": [("car", *map(float, expected[orientation]))]}


def test_a_ground_truth_for_the_stored_image_is_not_scored_as_it_is(data, tmp_path):
    turned(data / "a.jpg", 6)
    coco(data / "train.json", ["a.jpg"], [(1, [350, 50, 40, 30]), (1, [20, 200, 40, 30])])
    split(data, tmp_path / "tiles")
    for path in (tmp_path / "tiles/labels/train").iterdir():
        rows = [f"{row} 0.9\n" for row in path.read_text().splitlines()]
        text(tmp_path / "preds" / path.name, "".join(rows))
    merged = tmp_path / "merged"
    tiler.merge(tmp_path / "preds", tiles=tmp_path / "tiles", out=merged)
    with pytest.raises(TilerError, match=r"a.jpg: its annotations are for the stored image"):
        tiler.score(merged, data / "train.json", analysis="none")
    metrics = tiler.score(merged, data, analysis="none")
    assert metrics.coco["AP"] == 1
    coco(data / "train.json", ["a.jpg"], [(1, [220, 350, 30, 40]), (1, [70, 20, 30, 40])])
    assert tiler.score(merged, data / "train.json", analysis="none").coco["AP"] == 1


def test_merge_needs_the_names_only(data, tmp_path):
    """Which frame labels are for is not asked where nobody reads them."""
    turned(data / "a.jpg", 6)
    voc(data / "a.xml", [CAR], "a.jpg")
    assert split(data, tmp_path / "none").code == 2
    split(data, tmp_path / "tiles", frame="upright")
    text(tmp_path / "preds/a__0_0_200_200.txt", "0 0.5 0.5 0.2 0.2 0.9\n")
    merged = tiler.merge(tmp_path / "preds", tiles=tmp_path / "tiles", data=data)
    assert merged.report.names == ["car"]
    assert merged.report.exit_code() == 0


# Where images are


@pytest.mark.parametrize(
    "name",
    [
        "images\\a.png",
        "D:\\data\\images\\a.png",
        "C:/Users/me/set/images/a.png",
        "/home/other/set/images/a.png",
        "../images/a.png",
        "./images//a.png",
        "set/images/a.png",
        "images/a.png",
        "a.png",
        "A.PNG",
        "https://host.example/data/images/a.png",
        "s3://bucket/images/a.png",
        "file:///data/images/a.png",
    ],
)
@pytest.mark.parametrize("images", [".", "images"])
def test_an_image_is_found_by_the_end_of_its_path(data, out, name, images):
    image(data / "images/a.png")
    coco(data / "train.json", [name], [(1, BOX)])
    ran = split(data / "train.json", out, images=data / images)
    assert ran.code == 0
    assert list(ran.objects.values()) == [[CAR]]


def test_the_url_of_an_image_may_have_a_query(data, out):
    image(data / "images/a.png")
    name = "https://host.example/a.png?download=1"
    coco(data / "train.json", [name], [(1, BOX)])
    ran = split(data / "train.json", out, images=data / "images")
    assert ran.code == 2
    assert "a.png?download=1" in ran.said


def test_two_images_fit_one_name(data, out):
    image(data / "one/a.png")
    image(data / "two/a.png", seed=1)
    coco(data / "train.json", ["/far/away/a.png"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "several images could be /far/away/a.png: one/a.png, two/a.png" in ran.said


def test_the_longer_end_decides(data, out):
    image(data / "one/a.png")
    image(data / "two/a.png", seed=1)
    coco(data / "train.json", ["/far/TWO/a.png"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.objects == {"two/a.png": [CAR]}


def test_the_only_image_of_a_name_has_another_size(data, out):
    image(data / "one/a.png", 640, 480)
    coco(data / "train.json", ["/far/away/a.png"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "one/a.png has 640 x 480 px, not 400 x 300" in ran.said


def test_an_image_that_is_not_there(data, out):
    image(data / "a.png")
    coco(data / "train.json", ["a.png", "b.png"], [(1, BOX), (2, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 1
    assert ran.objects == {"a.png": [CAR]}
    assert f"b.png: no such image in {data}, nor any b.png in its folders" in ran.said


# Several JSONs


def two_files(data, first, second, categories=(None, None)):
    for name in ("train", "val"):
        image(data / name / f"{name}.png", seed=len(name))
    coco(data / "annotations/instances_train.json", ["train.png"], first, categories[0])
    coco(data / "annotations/instances_val.json", ["val.png"], second, categories[1])
    return data / "annotations"


def test_ids_of_categories_that_mean_other_names(data, out):
    ab = [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]
    ba = [{"id": 1, "name": "bus"}, {"id": 2, "name": "car"}]
    folder = two_files(data, [(1, BOX, 1)], [(1, BOX, 2)], (ab, ba))
    ran = split(folder, out)
    assert ran.code == 0
    assert ran.objects == {"train/train.png": [CAR], "val/val.png": [CAR]}
    assert "category 2 is 'bus' and, in annotations/instances_val.json, 'car'" in ran.said
    assert "taken by their names" in ran.said


def test_categories_in_another_order(data, out):
    ab = [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]
    folder = two_files(data, [(1, BOX, 1)], [(1, BOX, 1)], (ab, ab[::-1]))
    ran = split(folder, out)
    assert (ran.code, ran.said, doors.names_of(out)) == (0, "", ["car", "bus"])


def test_one_name_has_two_ids(data, out):
    folder = two_files(
        data, [(1, BOX, 1)], [(1, BOX, 9)], ([{"id": 1, "name": "car"}], [{"id": 9, "name": "car"}])
    )
    ran = split(folder, out)
    assert doors.names_of(out) == ["car"]
    assert "category 'car' has the ids" in ran.said
    assert ran.objects == {"train/train.png": [CAR], "val/val.png": [CAR]}


def test_a_rare_class_stays_and_a_supercategory_goes(data, out):
    image(data / "a.png")
    categories = [
        {"id": 0, "name": "vehicles", "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": "vehicles"},
        {"id": 2, "name": "tram", "supercategory": "vehicles"},
    ]
    coco(data / "_annotations.coco.json", ["a.png"], [(1, BOX, 1)], categories)
    ran = split(data, out)
    assert doors.names_of(out) == ["car", "tram"]
    assert "'vehicles' has no objects and is the supercategory of others" in ran.said


def test_captions_among_the_others(data, out):
    folder = two_files(data, [(1, BOX)], [(1, BOX)])
    captions = {
        "images": [{"id": 1, "file_name": "train.png"}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a car"}],
    }
    text(folder / "captions_train.json", json.dumps(captions))
    ran = split(folder, out)
    assert ran.code == 2
    assert "captions_train.json: not COCO instances JSON: expected the keys" in ran.said
    assert "name the files to be read, by a pattern such as" in ran.said
    ran = split(folder / "instances_*.json", out, images=data)
    assert (ran.code, ran.said) == (0, "")
    assert ran.objects == {"train/train.png": [CAR], "val/val.png": [CAR]}


def test_two_files_describe_the_same_images(data, out):
    image(data / "a.png")
    coco(data / "one.json", ["a.png"], [(1, BOX)])
    coco(data / "two.json", ["a.png"], [(1, FAR)])
    ran = split(data, out)
    assert ran.code == 2
    assert "a.png: both one.json and two.json describe it; name the one to be read" in ran.said


@pytest.mark.parametrize(
    ("folder", "name"),
    [("valid", "val"), ("validation", "val"), ("val", "val"), ("test", "test"), ("Train", "train")],
)
def test_splits_by_folder(data, out, folder, name):
    image(data / folder / "a.jpg")
    coco(data / folder / "_annotations.coco.json", ["a.jpg"], [(1, BOX)])
    ran = split(data, out)
    assert ran.splits == {name: [f"{folder}/a.jpg"]}
    ran = split(data / folder, out.with_name("alone"))
    assert ran.splits == {name: ["a.jpg"]}


def test_the_split_may_be_named(data, out):
    image(data / "a.jpg")
    coco(data / "all.json", ["a.jpg"], [(1, BOX)])
    ran = split(data / "all.json", out, as_split="val")
    assert ran.splits == {"val": ["a.jpg"]}


def test_the_folders_of_images_tell_the_split(data, out):
    for folder in ("train", "val"):
        image(data / f"images/{folder}/{folder}.png", seed=len(folder))
    names = ["images/train/train.png", "images/val/val.png"]
    coco(data / "instances_default.json", names, [(1, BOX), (2, BOX)])
    ran = split(data, out)
    assert (ran.code, ran.splits) == (0, {"train": [names[0]], "val": [names[1]]})


def test_lost_annotations_are_no_background_though_asked_for(data, out):
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [(7, BOX)])
    assert split(data / "train.json", out, unlabelled=True).code == 2


# Pascal VOC, labelme, DOTA, CSV


@pytest.mark.parametrize("write", [voc, labelme])
@pytest.mark.parametrize("orientation", [6, 8])
def test_exif_and_a_file_for_each_image(data, out, write, orientation):
    turned(data / "a.jpg", orientation)
    suffix = "xml" if write is voc else "json"
    write(data / f"a.{suffix}", [("car", 350, 50, 390, 80)], "a.jpg", (400, 300))
    ran = split(data, out)
    box = (220, 350, 250, 390) if orientation == 6 else (50, 10, 80, 50)
    assert (ran.code, ran.objects) == (0, {"a.jpg": [("car", *map(float, box))]})
    write(data / f"a.{suffix}", [CAR], "a.jpg", (400, 300))
    ran = split(data, out.with_name("both"))
    assert (ran.code, "--frame stored or --frame upright" in ran.said) == (2, True)


def test_two_files_describe_one_image(data, out):
    image(data / "a.jpg")
    voc(data / "a.xml", [CAR], "a.jpg")
    voc(data / "a (1).xml", [CAR], "a.jpg")
    ran = split(data, out)
    assert ran.code == 2
    assert "a.jpg: both a (1).xml and a.xml describe it" in ran.said


def test_voc_with_image_sets(data, out):
    for name in ("a", "b", "c"):
        image(data / f"JPEGImages/{name}.jpg", seed=ord(name))
        voc(data / f"Annotations/{name}.xml", [CAR], f"{name}.jpg")
    text(data / "ImageSets/Main/train.txt", "a\n")
    text(data / "ImageSets/Main/val.txt", "b\n")
    text(data / "ImageSets/Main/test.txt", "c\n")
    text(data / "ImageSets/Main/trainval.txt", "a\nb\n")
    ran = split(data, out)
    assert ran.code == 0
    assert ran.splits == {
        "train": ["JPEGImages/a.jpg"],
        "val": ["JPEGImages/b.jpg"],
        "test": ["JPEGImages/c.jpg"],
    }


@pytest.mark.parametrize("name", ["", "a.png", "C:\\me\\a.jpg", "a", "other.jpg"])
def test_voc_that_names_its_image_badly(data, out, name):
    image(data / "JPEGImages/a.jpg")
    voc(data / "Annotations/a.xml", [CAR], name)
    ran = split(data, out)
    assert ran.code == 0
    assert ran.objects == {"JPEGImages/a.jpg": [CAR]}


def test_the_image_of_a_broken_xml_is_no_background(data, out):
    for name in ("a", "b", "c"):
        image(data / f"{name}.jpg", seed=ord(name))
    voc(data / "a.xml", [CAR])
    text(data / "b.xml", "<annotation><object>")
    ran = split(data, out)
    assert ran.code == 1
    assert "b.xml" in ran.said
    assert "not XML" in ran.said
    assert ran.objects == {"a.jpg": [CAR], "c.jpg": []}


def test_xml_with_entities(data, out):
    image(data / "a.jpg")
    text(data / "a.xml", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>')
    ran = split(data, out)
    assert ran.code == 2
    assert "entities" in ran.said


def test_difficult_objects_are_objects_and_counted(data, out):
    image(data / "a.jpg")
    voc(data / "a.xml", [CAR], inner="<difficult>1</difficult>")
    ran = split(data, out)
    assert ran.objects == {"a.jpg": [CAR]}
    assert "1 objects are marked difficult" in ran.said
    masked = split(data, out.with_name("masked"), ignored="mask")
    assert masked.objects == {"a.jpg": []}


def test_xml_beside_the_images_of_a_yaml(data, out):
    dataset = Dataset(data, names=("car",))
    for name in ("train", "val"):
        dataset.add(f"{name}.jpg", None, split=name)
        voc(data / f"images/{name}/{name}.xml", [CAR])
    ran = split(data, out)
    assert ran.code == 2
    assert "images/train/*.xml, beside the images" in ran.said


def test_a_folder_of_labelme_files(data, out):
    for name in ("a", "b"):
        image(data / f"{name}.jpg", seed=ord(name))
        labelme(data / f"{name}.json", [CAR], f"..\\images\\{name}.jpg")
    image(data / "c.jpg")
    ran = split(data, out)
    assert ran.code == 0
    assert ran.objects == {"a.jpg": [CAR], "b.jpg": [CAR], "c.jpg": []}


def test_a_folder_of_labelme_files_with_labels_apart(data, out):
    image(data / "images/train/a.jpg")
    labelme(data / "labels/train/a.json", [CAR], "a.jpg")
    ran = split(data, out)
    assert (ran.code, ran.objects) == (0, {"images/train/a.jpg": [CAR]})


DOTA = "imagesource:GoogleEarth\ngsd:0.1\n50 50 90 50 90 80 50 80 car 0\n"


def test_dota_with_label_txt(data, out):
    for name in ("train", "val"):
        image(data / f"{name}/images/P{name}.png", seed=len(name))
        text(data / f"{name}/labelTxt/P{name}.txt", DOTA)
    ran = split(data, out)
    assert ran.code == 0
    assert ran.objects == {"train/images/Ptrain.png": [CAR], "val/images/Pval.png": [CAR]}
    assert list(ran.splits) == ["train", "val"]
    assert ran.said == ""


def test_dota_whose_images_of_train_and_val_have_the_same_names(data, out):
    for seed, name in enumerate(("train", "val")):
        image(data / f"{name}/images/P0.png", seed=seed)
    text(data / "train/labelTxt/P0.txt", DOTA)
    text(data / "val/labelTxt/P0.txt", DOTA.replace("car", "bus"))
    ran = split(data, out)
    assert (ran.code, ran.said) == (0, "")
    assert ran.objects == {"train/images/P0.png": [CAR], "val/images/P0.png": [("bus", *CAR[1:])]}


def test_dota_in_a_yolo_layout_knows_only_the_classes_of_the_yaml(data, out):
    dataset = Dataset(data, names=("bus",))
    for name in ("train", "val"):
        dataset.add(f"{name}.jpg", DOTA, split=name)
    ran = split(data, out)
    assert ran.code == 1
    assert "no class is called 'car'" in ran.said
    assert ran.objects == {}


@pytest.mark.parametrize(
    "content",
    [
        "image_path,xmin,ymin,xmax,ymax,label\na.jpg,50,50,90,80,car\n",
        'image_path,geometry,label\na.jpg,"POLYGON ((50 50, 90 50, 90 80, 50 80, 50 50))",car\n',
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,400,300,car,50,50,90,80\n",
    ],
)
def test_csv(data, out, content):
    image(data / "a.jpg")
    text(data / "train.csv", content)
    for number, given in enumerate((data, data / "train.csv")):
        ran = split(given, out.with_name(f"out{number}"))
        assert (ran.code, ran.objects) == (0, {"a.jpg": [CAR]})


# Lists of classes, Darknet


ROW = "0 0.175 0.216667 0.1 0.1\n"


def test_classes_in_the_folder_of_labels(data, out):
    image(data / "images/a.jpg")
    text(data / "labels/a.txt", ROW)
    text(data / "labels/classes.txt", "car\nbus\n")
    ran = split(data, out)
    assert (ran.code, ran.objects) == (0, {"images/a.jpg": [CAR]})


def test_labels_beside_images_with_classes(data, out):
    image(data / "a.jpg")
    text(data / "a.txt", ROW)
    text(data / "classes.txt", "car\nbus\n")
    ran = split(data, out)
    assert (ran.code, ran.objects) == (0, {"a.jpg": [CAR]})


def test_the_export_of_cvat(data, out):
    image(data / "obj_train_data/a.jpg")
    text(data / "obj_train_data/a.txt", ROW)
    text(data / "obj.names", "car\n")
    text(data / "train.txt", "data/obj_train_data/a.jpg\n")
    text(
        data / "obj.data",
        "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    for number, given in enumerate((data, data / "obj.data")):
        ran = split(given, out.with_name(f"out{number}"))
        assert (ran.code, ran.objects) == (0, {"obj_train_data/a.jpg": [CAR]})


def test_label_rows_without_any_list_of_classes(data, out):
    image(data / "images/a.jpg")
    text(data / "labels/a.txt", ROW)
    ran = split(data, out)
    assert ran.code == 2
    assert "no classes.txt or obj.names: the classes are not known" in ran.said


def test_an_unknown_class_of_a_row(data, out):
    image(data / "images/a.jpg")
    text(data / "labels/a.txt", ROW + "7 0.5 0.5 0.1 0.1\n")
    text(data / "classes.txt", "car\n")
    ran = split(data, out)
    assert ran.code == 1
    assert "labels/a.txt:2: L04 class 7" in ran.said


# Several kinds


def test_annotations_of_several_kinds(data, out):
    image(data / "a.jpg")
    voc(data / "a.xml", [CAR], "a.jpg")
    coco(data / "train.json", ["a.jpg"], [(1, BOX)])
    ran = split(data, out)
    assert ran.code == 2
    assert "annotations of several kinds: COCO" in ran.said
    assert "Pascal VOC" in ran.said
    assert "name those to be read" in ran.said
    assert split(data / "train.json", out).code == 0


# Images alone


def test_images_alone_and_merge(data, tmp_path):
    for name in ("a", "b"):
        image(data / f"deep/{name}.jpg", seed=ord(name))
    text(data / "list.txt", "deep/a.jpg\ndeep/b.jpg\n")
    given = [data / "deep", data / "deep/*.jpg", data / "list.txt", data / "deep/a.jpg"]
    for number, each in enumerate(given):
        out = tmp_path / f"tiles{number}"
        ran = split(each, out)
        assert (ran.code, ran.said) == (0, "")
        preds = tmp_path / f"preds{number}"
        for entry in doors.manifest.read_sources(out / "tiles.jsonl"):
            tile = entry.tiles[0]
            text(preds / f"{tile.name}.txt", "0 0.5 0.5 0.2 0.2 0.9\n")
        report = tiler.merge(preds, out=tmp_path / f"merged{number}", tiles=out)
        assert report.report.exit_code() == 0
        rows = (tmp_path / f"merged{number}").rglob("a.txt")
        assert [len(file.read_text().splitlines()) for file in rows] == [1]


def test_images_alone_are_no_ground_truth(data, tmp_path):
    image(data / "a.jpg")
    text(tmp_path / "preds/a.txt", "0 0.5 0.5 0.2 0.2 0.9\n")
    with pytest.raises(TilerError, match="images without labels"):
        tiler.score(tmp_path / "preds", data)


def test_results_are_no_dataset(data, out):
    image(data / "a.jpg")
    text(data / "results.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]')
    ran = split(data / "results.json", out)
    assert ran.code == 2
    assert "results.json: not COCO instances JSON" in ran.said


def test_image_sets_beside_the_folder_that_is_named(data, out):
    for name in ("a", "b"):
        image(data / f"JPEGImages/{name}.jpg", seed=ord(name))
        voc(data / f"Annotations/{name}.xml", [CAR], f"{name}.jpg")
    text(data / "ImageSets/Main/val.txt", "b\n")
    ran = split(data / "Annotations", out)
    assert {name: len(keys) for name, keys in ran.splits.items()} == {"train": 1, "val": 1}


def test_images_alone_as_val(data, out):
    image(data / "a.jpg")
    ran = split(data, out, as_split="val")
    assert ran.code == 2
    assert "--as" in ran.said


@pytest.mark.parametrize("given", ["images/train", "images/train/*.jpg", "images/train/p0.jpg"])
def test_labels_of_images_alone_are_not_looked_for(filled, out, given):
    ran = split(filled.root / given, out)
    assert (ran.code, ran.said) == (0, "")
    assert ran.background == ran.report.total.counts.tiles > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"as_split": "val"}, "--as val: the dataset.yaml says which images are train and val"),
        ({"frame": "stored"}, "--frame stored: labels of YOLO are for the upright image"),
        ({"bbox": "xyxy"}, "--bbox xyxy: only the boxes of COCO can be two corners"),
        ({"ignored": "mask"}, "--ignored mask: YOLO's labels do not mark regions"),
    ],
)
def test_options_that_say_nothing_about_a_yolo_dataset(filled, out, options, why):
    ran = split(filled.yaml, out, **options)
    assert ran.code == 2
    assert why in ran.said


def test_there_is_nothing(data, out):
    data.mkdir()
    ran = split(data, out)
    assert ran.code == 2
    assert "no dataset.yaml there, and no annotations or images" in ran.said
    ran = split(data / "*.jpg", out)
    assert (ran.code, "no such file" in ran.said) == (2, True)


# URLs


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket/x", "http://host/x", "https://h/x"])
@pytest.mark.parametrize("place", ["data", "out", "images"])
def test_urls_of_split(data, tmp_path, url, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image(data / "a.png")
    coco(data / "train.json", ["a.png"], [(1, BOX)])
    given = {"data": data / "train.json", "out": "out", "images": data} | {place: url}
    before = tree(tmp_path)
    with pytest.raises(TilerError, match=r"is not a path on this machine"):
        tiler.split(**given, tile=200)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", ["preds", "out", "tiles", "images", "data"])
def test_urls_of_merge(tmp_path, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"preds": "p", "out": "o"} | {place: "s3://bucket/x"}
    with pytest.raises(TilerError, match=r"is not a path on this machine"):
        tiler.merge(**given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["preds", "data", "images", "tiles", "tile_preds"])
def test_urls_of_score(tmp_path, place, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"preds": "p", "data": "d"} | {place: "s3://bucket/x"}
    with pytest.raises(TilerError, match=r"is not a path on this machine"):
        tiler.score(**given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["data", "images"])
def test_urls_of_check(tmp_path, place):
    with pytest.raises(TilerError, match=r"is not a path on this machine"):
        tiler.check(**({"data": tmp_path} | {place: "gs://bucket/x"}))


@pytest.mark.parametrize(
    "arguments",
    [
        ["split", "s3://b/x"],
        ["split", "data", "--out", "s3://b/x"],
        ["split", "data", "--images", "gs://b/x"],
        ["split", "data", "--config", "https://h/x.yaml"],
        ["check", "http://h/x"],
        ["merge", "s3://b/x"],
        ["merge", "p", "--tiles", "s3://b/x"],
        ["score", "p", "--data", "s3://b/x"],
        ["score", "p", "--data", "d", "--out", "s3://b/x"],
        ["score", "p", "--data", "d", "--compare", "s3://b/x"],
        ["score", "p", "--data", "d", "--baseline", "s3://b/x.json"],
    ],
)
def test_urls_on_the_command_line(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tiler", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "is not a path on this machine" in done.stderr
    assert not list(tmp_path.iterdir())


# Real sets

DATA = SHARED / "data"


@needs_shared
def test_cells_as_voc_and_as_yolo(tmp_path):
    """The original files of Pascal VOC and the labels that were made from them."""
    images = DATA / "cells_detect/images"
    given = split(DATA / "cells_detect/original_voc", tmp_path / "voc", images=images)
    yolo = split(DATA / "cells_detect", tmp_path / "yolo")
    assert (given.code, yolo.code) == (0, 0)
    theirs = {key.removeprefix("images/"): objects for key, objects in yolo.objects.items()}
    assert set(given.objects) == set(theirs)
    for key, objects in given.objects.items():
        assert [name.lower() for name, *_ in objects] == [n.lower() for n, *_ in theirs[key]]
        mine = np.array([box for _, *box in objects])
        np.testing.assert_allclose(mine, [box for _, *box in theirs[key]], atol=1.01)


@needs_shared
def test_trees_as_voc_and_as_csv(tmp_path):
    xml = split(DATA / "trees_voc/OSBS_029.xml", tmp_path / "xml")
    csv = split(DATA / "trees_voc/OSBS_029.csv", tmp_path / "csv")
    assert (xml.code, csv.code) == (0, 0)
    assert xml.report.total.objects.objects == csv.report.total.objects.objects == 61
    assert xml.objects == csv.objects
    wkt = "2019_BLAN_3_751000_4330000_image_crop_polygon.csv"
    assert split(DATA / "trees_voc" / wkt, tmp_path / "wkt").report.task == "segment"
    both = split(DATA / "trees_voc", tmp_path / "both")
    assert (both.code, "several kinds" in both.said) == (2, True)


@needs_shared
def test_hituav_as_published(tmp_path):
    images = DATA / "hituav_coco/images"
    mended = split(DATA / "hituav_coco/annotations.json", tmp_path / "a", images=images)
    published = DATA / "hituav_coco/annotations_as_published.json"
    taken = split(published, tmp_path / "b", images=images)
    assert (mended.code, taken.code) == (0, 0)
    assert mended.objects == taken.objects
    assert "takes annotation for annotations" in taken.said
    assert "takes filename for file_name in 6 of 6 images" in taken.said


# Nothing is left to cut


def test_every_image_of_annotations_is_missing(data, out):
    data.mkdir()
    coco(data / "train.json", ["a.png"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code == 2
    assert "no images that could be cut" in ran.said
    assert "no such image" in ran.said
    assert not out.exists()


def test_every_image_is_broken(data, out):
    text(data / "a.png", "no image")
    coco(data / "train.json", ["a.png"], [(1, BOX)])
    ran = split(data / "train.json", out)
    assert ran.code in (1, 2)
    assert "a.png: I02" in ran.said


def test_tiles_have_the_pixels_of_their_windows(data, out):
    image(data / "a.png")
    voc(data / "a.xml", [CAR])
    split(data, out)
    source = np.asarray(Image.open(data / "a.png"))
    for entry in doors.manifest.read_sources(out / "tiles.jsonl"):
        for tile in entry.tiles:
            cut = np.asarray(Image.open(out / f"images/train/{tile.name}.png"))
            assert (cut == source[tile.y : tile.y + 200, tile.x : tile.x + 200]).all()
