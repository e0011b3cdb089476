"""Sets with a file of annotations for each image."""

import pytest

from tests.doors import labelme, text, voc
from tiler.datasets import file_sets
from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.options import DatasetOptions

CAR = ("car", 5, 5, 9, 9)
BUS = ("bus", 5, 5, 9, 9)


def touch(root, *names):
    for name in names:
        text(root / name, "x")


def test_classes_are_numbered_by_name_or_as_listed(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    voc(tmp_path / "a.xml", [CAR])
    voc(tmp_path / "b.xml", [BUS])
    assert find(tmp_path).names == ("bus", "car")
    text(tmp_path / "classes.txt", "car\nvan\nbus\n")
    dataset = find(tmp_path)
    assert dataset.names == ("car", "van", "bus")
    assert [a.class_id for s in dataset.sources for a in s.entry.annotations] == [0, 2]


def test_a_class_that_the_list_lacks_is_numbered_after_it_and_said(tmp_path):
    touch(tmp_path, "a.jpg")
    voc(tmp_path / "a.xml", [CAR, BUS])
    text(tmp_path / "classes.txt", "van\n")
    dataset = find(tmp_path)
    assert dataset.names == ("van", "bus", "car")
    assert [str(f) for f in dataset.findings] == [
        "Y07 not in the list of classes, so numbered after them: bus, car"
    ]


def test_what_labelme_lists_and_is_no_class(tmp_path):
    touch(tmp_path, "a.jpg")
    labelme(tmp_path / "a.json", [CAR], "a.jpg")
    text(tmp_path / "labels.txt", "__ignore__\n_background_\ncar\n")
    assert find(tmp_path).names == ("car",)


def test_there_are_no_objects_and_no_classes(tmp_path):
    touch(tmp_path, "a.jpg")
    voc(tmp_path / "a.xml", [])
    with pytest.raises(TilerError, match=r"no objects, and no classes.txt that names classes"):
        find(tmp_path)
    text(tmp_path / "classes.txt", "car\n")
    assert find(tmp_path).names == ("car",)


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ({"train": "a\nb\n", "val": "c\n"}, ["train", "train", "val"]),
        ({"val": "a 1\nb -1\n"}, ["val", "val", "train"]),
        ({"trainval": "a\n"}, ["train", "train", "train"]),
        ({"test": "c\n"}, ["train", "train", "test"]),
    ],
)
def test_the_lists_of_image_sets(tmp_path, lists, splits):
    for name in ("a", "b", "c"):
        touch(tmp_path, f"JPEGImages/{name}.jpg")
        voc(tmp_path / f"Annotations/{name}.xml", [CAR])
    for name, content in lists.items():
        text(tmp_path / f"ImageSets/Main/{name}.txt", content)
    assert [source.split for source in find(tmp_path).sources] == splits


def test_images_beside_the_annotated_ones_are_background(tmp_path):
    touch(tmp_path, "train/a.jpg", "train/b.jpg", "other/c.jpg", "train/.hidden.jpg")
    voc(tmp_path / "train/a.xml", [CAR])
    dataset = find(tmp_path)
    assert [s.key for s in dataset.sources] == ["train/a.jpg", "train/b.jpg"]
    # but not where one file is given
    assert [s.key for s in find(tmp_path / "train/a.xml").sources] == ["a.jpg"]


def test_a_broken_file_is_a_finding_of_its_image(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    voc(tmp_path / "a.xml", [CAR])
    text(tmp_path / "b.xml", "<annotation>")
    dataset = find(tmp_path)
    found = {s.key: [f.code for f in s.entry.findings] for s in dataset.sources}
    assert found == {"a.jpg": [], "b.jpg": ["L01"]}


def test_near_holds_the_mirrored_folders():
    near = file_sets._near("set/labelTxt/train")
    assert "set/images/train" in near
    assert near[0] == "set/labelTxt/train"
    assert file_sets._near("/elsewhere") == file_sets._near("")


def test_a_csv_names_its_columns(tmp_path):
    text(tmp_path / "a.csv", "epoch,loss\n1,2\n")
    with pytest.raises(TilerError, match="expected a column"):
        find(tmp_path / "a.csv")
    touch(tmp_path, "a.jpg")
    text(tmp_path / "one.csv", "image_path,xmin,ymin,xmax,ymax,label\na.jpg,1,1,5,5,car\n")
    text(tmp_path / "two.csv", "image_path,xmin,ymin,xmax,ymax,label\na.jpg,1,1,5,5,car\n")
    with pytest.raises(TilerError, match="2 CSV files; name one"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("options", "name", "split"),
    [({}, "val.csv", "val"), ({}, "a.csv", "train"), ({"as_split": "test"}, "val.csv", "test")],
)
def test_the_split_of_a_csv(tmp_path, options, name, split):
    touch(tmp_path, "a.jpg")
    text(tmp_path / name, "image_path,xmin,ymin,xmax,ymax,label\na.jpg,1,1,5,5,car\n")
    assert find(tmp_path / name, options=DatasetOptions(**options)).splits == (split,)
