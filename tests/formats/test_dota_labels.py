"""DOTA's labelTxt: told from YOLO's rows, read, and rejected by line."""

import pytest

from tiler.formats import annotated, dota_labels
from tiler.formats.yolo import Spec

TEXT = (
    b"imagesource:GoogleEarth\ngsd:0.146343\n"
    b"129.0 105.0 190.0 113.0 186.0 147.0 125.0 139.0 plane 0\n"
    b"207 131 230 124 237 149 213 156 small-vehicle 1\n"
    b"\n1 2 3 2 3 4 1 4 ship\n"
)


def test_corners_classes_and_difficulty():
    image = dota_labels.read(TEXT, "a.txt")
    assert image.findings == []
    assert [a.category_id for a in image.annotations] == ["plane", "small-vehicle", "ship"]
    assert [a.difficult for a in image.annotations] == [False, True, False]
    assert [a.ignored for a in image.annotations] == [False, True, False]
    assert [a.line for a in image.annotations] == [3, 4, 6]
    assert image.file == "a.txt"
    assert image.annotations[0].segmentation == [[129, 105, 190, 113, 186, 147, 125, 139]]
    assert [a.index for a in image.annotations] == [2, 3, 5]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("1 2 3 2 3 4 1 plane 0", "L02"),
        ("1 2 3 plane", "L03"),
        ("1 2 3 2 3 4 1 4 plane 0 0", "L03"),
        ("1 2 3 2 3 4 1 nan plane 0", "L02"),
        ("1 2 3 2 3 4 1 x plane 0", "L02"),
        ("1 2 3 2 3 4 1 1e10 plane 0", "L02"),
        ("1 2 3 2 3 4 1 4 plane hard", "L03"),
    ],
)
def test_an_invalid_line_is_reported_by_its_number(line, code):
    image = dota_labels.read(f"gsd:1\n{line}\n1 2 3 2 3 4 1 4 ship 0\n".encode(), "a.txt")
    assert [(f.code, f.line) for f in image.findings] == [(code, 2)]
    assert len(image.annotations) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TEXT, True),
        (b"gsd:null\n", True),
        (b"\xef\xbb\xbf1 2 3 2 3 4 1 4 plane 0\n", True),
        (b"1 2 3 2 3 4 1 4 plane\r\n", True),
        (b"", False),
        (b"0 .5 .5 .1 .1\n", False),
        (b"0 .1 .1 .3 .1 .3 .3 .1 .3\n", False),
        (b"0 .1 .1 .3 .1 .3 .3 .1 .3 .9\n", False),
        (b"car\nbus\n", False),
    ],
)
def test_dota_is_told_from_what_else_lies_in_label_folders(data, expected):
    assert dota_labels.is_dota(data) is expected


def test_what_is_wrong_with_an_outline_has_the_line_too():
    image = dota_labels.read(b"gsd:1\n1 2 3 2 3 4 1 4 ship 0\n1 1 2 2 3 3 4 4 ship 0\n", "a.txt")
    for annotation in image.annotations:
        annotation.class_id = 0
    objects, _, findings = annotated.instances(image.annotations, Spec("obb", 1), "a.txt")
    assert len(objects) == 1
    assert [str(f) for f in findings] == ["a.txt:3: L06 the object: an outline without area"]
