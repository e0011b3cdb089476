"""YOLO folders without a YAML."""

import pytest

from tests.doors import text
from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.options import DatasetOptions

ROW = "0 .5 .5 .1 .1\n"


def touch(root, *names):
    for name in names:
        text(root / name, "x")


@pytest.mark.parametrize(
    "place",
    [
        "classes.txt",
        "obj.names",
        "classes.names",
        "labels.txt",
        "predefined_classes.txt",
        "labels/classes.txt",
        "data/obj.names",
        "labels/train/classes.txt",
    ],
)
def test_where_a_list_of_classes_may_lie(tmp_path, place):
    touch(tmp_path, "images/train/a.jpg")
    text(tmp_path / "labels/train/a.txt", ROW)
    text(tmp_path / place, "car\n\n bus \n")
    dataset = find(tmp_path)
    assert (dataset.names, dataset.kind) == (("car", "bus"), "YOLO")
    assert [(s.key, s.split) for s in dataset.sources] == [("images/train/a.jpg", "train")]
    assert dataset.findings == []


def test_splits_follow_from_folders(tmp_path):
    touch(tmp_path, "images/train/a.jpg", "images/valid/b.jpg", "images/test/c.jpg", "images/d.jpg")
    text(tmp_path / "labels/train/a.txt", ROW)
    text(tmp_path / "classes.txt", "car\n")
    dataset = find(tmp_path)
    assert {s.key: s.split for s in dataset.sources} == {
        "images/d.jpg": "train",
        "images/test/c.jpg": "test",
        "images/train/a.jpg": "train",
        "images/valid/b.jpg": "val",
    }
    named = find(tmp_path, options=DatasetOptions(as_split="val"))
    assert {s.split for s in named.sources} == {"val"}


def darknet(root, **lists):
    text(root / "obj.names", "car\nbus\n")
    settings = "classes = 2\nnames = data/obj.names\nbackup = backup/\n"
    for name, content in lists.items():
        text(root / f"{name}.txt", content)
        settings += f"{name} = data/{name}.txt\n"
    text(root / "obj.data", settings)


def test_lists_of_darknet(tmp_path):
    touch(tmp_path, "obj_train_data/a.jpg", "obj_Validation_data/b.jpg", "obj_train_data/c.jpg")
    text(tmp_path / "obj_train_data/a.txt", ROW)
    darknet(
        tmp_path,
        train="data/obj_train_data/a.jpg\n\n# no image\n",
        valid="data/obj_Validation_data/b.jpg\ndata/none.jpg\n",
    )
    dataset = find(tmp_path)
    assert {s.key: s.split for s in dataset.sources} == {
        "obj_Validation_data/b.jpg": "val",
        "obj_train_data/a.jpg": "train",
    }
    assert [str(f) for f in dataset.findings] == [
        f"valid.txt:2: Y04 data/none.jpg: no such image in {tmp_path}, nor any none.jpg in its "
        "folders"
    ]


def test_a_list_that_is_not_there(tmp_path):
    touch(tmp_path, "a.jpg")
    text(tmp_path / "obj.data", "names = data/none.names\n")
    with pytest.raises(TilerError, match=r"no data/none.names, which its .data file names"):
        find(tmp_path)


def test_there_are_classes_and_no_images(tmp_path):
    text(tmp_path / "classes.txt", "car\n")
    with pytest.raises(TilerError, match="no images there"):
        find(tmp_path)


def test_labels_without_an_image_are_named(tmp_path):
    touch(tmp_path, "images/a.jpg")
    text(tmp_path / "labels/a.txt", ROW)
    text(tmp_path / "labels/b.txt", ROW)
    text(tmp_path / "classes.txt", "car\n")
    assert [(f.path, f.code) for f in find(tmp_path).findings] == [("labels/b.txt", "P02")]
