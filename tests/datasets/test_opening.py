"""Which kind of dataset DATA is."""

import json

import pytest

from tests.doors import coco, image, labelme, text, voc
from tiler.datasets.opening import find, is_labelme
from tiler.errors import TilerError
from tiler.options import DatasetOptions

CAR = ("car", 50, 50, 90, 80)
ROW = "0 .5 .5 .1 .1\n"


def yaml_of(root):
    text(root / "labels/a.txt", ROW)
    text(root / "dataset.yaml", "train: images\nval: images\nnames: [car]\n")


WRITERS = {
    "YOLO": yaml_of,
    "COCO": lambda root: coco(root / "train.json", ["a.jpg"], [(1, [5, 5, 9, 9])]),
    "Pascal VOC": lambda root: voc(root / "images/a.xml", [CAR]),
    "labelme": lambda root: labelme(root / "images/a.json", [CAR], "a.jpg"),
    "DOTA": lambda root: text(root / "labelTxt/a.txt", "gsd:1\n5 5 9 5 9 9 5 9 car 0\n"),
    "CSV": lambda root: text(
        root / "a.csv", "image_path,xmin,ymin,xmax,ymax,label\nimages/a.jpg,5,5,9,9,car\n"
    ),
}
FILES = {
    "YOLO": "dataset.yaml",
    "COCO": "train.json",
    "Pascal VOC": "images/a.xml",
    "labelme": "images/a.json",
    "DOTA": "labelTxt/a.txt",
    "CSV": "a.csv",
}


@pytest.fixture
def root(tmp_path):
    image(tmp_path / "images/a.jpg")
    return tmp_path


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_and_its_file_are_the_same_dataset(root, kind):
    WRITERS[kind](root)
    found = find(root)
    assert found.kind == kind
    assert {s.key for s in found.sources} == {"images/a.jpg"}
    alone = find(root / FILES[kind])
    assert alone.kind == kind
    assert alone.names == found.names == (("car", "bus") if kind == "COCO" else ("car",))


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind not in ("YOLO", "COCO")])
def test_two_kinds_are_not_mixed(root, kind):
    WRITERS["COCO"](root)
    WRITERS[kind](root)
    with pytest.raises(TilerError) as error:
        find(root)
    assert "annotations of several kinds: COCO (" in str(error.value)
    assert f"{kind} (" in str(error.value)
    assert "name those to be read" in str(error.value)


def test_a_yaml_counts_before_other_annotations(root):
    for write in (WRITERS["YOLO"], WRITERS["COCO"]):
        write(root)
    assert find(root).kind == "YOLO"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.json", json.dumps({"info": {"year": 2024}})),
        ("package.json", json.dumps({"name": "app", "main": "images.js"})),
        ("README.txt", "five words that are text\n"),
        ("pom.xml", "<project/>"),
        ("results.csv", "epoch,loss\n1,2\n"),
        (".hidden/train.json", json.dumps({"images": [], "annotations": []})),
    ],
)
def test_other_files_are_no_annotations(root, name, content):
    text(root / name, content)
    found = find(root)
    assert (found.kind, [s.key for s in found.sources]) == ("images", ["images/a.jpg"])


def test_the_output_of_a_split_is_passed_over(root):
    WRITERS["COCO"](root)
    text(root / "tiles/tiles.jsonl", "{}")
    voc(root / "tiles/a.xml", [CAR])
    assert find(root).kind == "COCO"


def test_a_pattern_names_annotations(root):
    image(root / "images/b.jpg")
    coco(root / "one.json", ["a.jpg"], [(1, [5, 5, 9, 9])])
    coco(root / "two.json", ["b.jpg"], [(1, [5, 5, 9, 9])])
    coco(root / "old_two.json", ["b.jpg"], [(1, [5, 5, 9, 9])])
    assert len(find(root / "t*.json", root / "images").sources) == 1
    found = find(root / "???.json", root / "images")
    assert [s.key for s in found.sources] == ["a.jpg", "b.jpg"]
    with pytest.raises(TilerError, match=r"b.jpg: both .*old_two.json and .*two.json describe it"):
        find(root / "*two.json", root / "images")


@pytest.mark.parametrize("name", ["images/a.json", "a.xml", "labels/a.txt", "images/a.csv"])
def test_files_of_another_format_are_not_passed_over(root, name):
    text(root / name, "something else")
    with pytest.raises(TilerError) as error:
        find(root)
    folder, _, file = name.rpartition("/")
    place = f"{folder}/*{file[1:]}" if folder else f"*{file[1:]}"
    assert (
        f"no labels of a format that is read; but 1 files have the names of images in {place}"
        in str(error.value)
    )
    assert "--unlabelled cuts the images alone" in str(error.value)
    assert find(root, options=DatasetOptions(unlabelled=True)).kind == "images"
    assert find(root / "images/*.jpg").kind == "images"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"shapes": []}, True),
        ({"images": [], "shapes": []}, False),
        ({"images": []}, False),
    ],
)
def test_labelme_has_shapes(tmp_path, content, found):
    assert is_labelme(text(tmp_path / "a.json", json.dumps(content))) == found


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("option", ["as_split", "bbox", "frame"])
def test_options_that_say_nothing_are_rejected(root, kind, option):
    WRITERS[kind](root)
    value = {"as_split": "val", "bbox": "xywh", "frame": "upright"}[option]
    allowed = {
        "as_split": kind != "YOLO",
        "bbox": kind == "COCO",
        "frame": kind != "YOLO",
    }[option]
    options = DatasetOptions(**{option: value})
    if allowed:
        assert find(root, options=options).sources
    else:
        with pytest.raises(TilerError, match="--"):
            find(root, options=options)


@pytest.mark.parametrize("name", ["dataset.yaml", "images/a.jpg"])
def test_images_that_name_themselves_need_no_folder(root, name):
    WRITERS["YOLO"](root)
    with pytest.raises(TilerError, match="--images goes with annotations"):
        find(root / name, root / "images")
