"""A split without labels is not background."""

from dataclasses import replace

import pytest

from tests.conftest import Dataset, picture
from tests.doors import coco, image, text, voc
from tiler.datasets import unlabelled
from tiler.datasets.opening import find

ROW = "0 .5 .5 .1 .1\n"


def said(data):
    return [(f.code, f.message) for f in unlabelled.findings(find(data))]


@pytest.fixture
def dataset(tmp_path):
    made = Dataset(tmp_path / "data")
    made.add("a.jpg", ROW)
    made.add("b.jpg", ROW, split="val")
    return made


def test_labels_of_every_split(dataset):
    assert said(dataset.yaml) == []
    (dataset.root / "labels/val/b.txt").write_text("")  # an empty one says: nothing is there
    assert said(dataset.yaml) == []


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ("images/val/b.txt", "images/val/*.txt, beside the images"),
        ("Labels/val/b.txt", "Labels/val/*.txt"),
        ("labels/val_labels/b.txt", "labels/val_labels/*.txt"),
        ("labels/val/b.TXT", "labels/val/*.TXT"),
        ("annotations/b.xml", "annotations/*.xml"),
        ("b.json", "*.json"),
    ],
)
def test_what_is_there_instead(dataset, place, where):
    (dataset.root / "labels/val/b.txt").unlink()
    text(dataset.root / place, ROW)
    ((code, message),) = said(dataset.yaml)
    assert code == "Y06"
    assert message == (
        "split val: no label file for any of its images (1), such as labels/val/b.txt; but 1 "
        f"files have the names of images in {where}"
    )


def test_nothing_is_there_instead(dataset):
    (dataset.root / "labels/val/b.txt").unlink()
    assert said(dataset.yaml) == [
        ("Y06", "split val: no label file for any of its images (1), such as labels/val/b.txt")
    ]


def test_a_test_split_is_a_warning(dataset):
    dataset.yaml.write_text(dataset.yaml.read_text() + "test: images/test\n")
    image(dataset.root / "images/test/c.jpg")
    ((code, _),) = said(dataset.yaml)
    assert code == "Y08"


def test_annotations(tmp_path):
    for name in ("a", "b"):
        picture().save(tmp_path / f"{name}.jpg")
    file = coco(tmp_path / "train.json", ["a.jpg", "b.jpg"], [])
    assert said(file) == [("Y06", "split train: no annotation for any of its images (2)")]
    coco(tmp_path / "train.json", ["a.jpg", "b.jpg"], [(1, [5, 5, 9, 9])])
    assert said(file) == []


def test_an_empty_annotation_file_says_that_nothing_is_there(tmp_path):
    picture().save(tmp_path / "a.jpg")
    voc(tmp_path / "a.xml", [])
    text(tmp_path / "classes.txt", "car\n")
    assert said(tmp_path) == []


def test_images_alone_need_no_labels(tmp_path):
    picture().save(tmp_path / "a.jpg")
    found = find(tmp_path)
    assert unlabelled.findings(found) == []
    assert unlabelled.findings(replace(found, labelled=True)) != []
