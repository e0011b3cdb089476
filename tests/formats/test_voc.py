"""Pascal VOC XML: what is read, what is rejected, and that hostile XML does nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED, needs_shared
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import voc

BOX = "<bndbox><xmin>5</xmin><ymin>6.5</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"


def document(*objects, head="<filename>a.jpg</filename>", name="car"):
    inner = "".join(f"<object><name>{name}</name>{content}</object>" for content in objects)
    return f"<annotation>{head}{inner}</annotation>".encode()


def codes(image):
    return [finding.code for finding in image.findings]


def test_a_box_a_difficult_one_and_the_declared_size():
    head = "<filename> a.jpg </filename><size><width>400</width><height>300</height></size>"
    image = voc.read(document(BOX, BOX + "<difficult>1</difficult>", head=head), "a.xml")
    assert (image.file_name, image.size, image.findings) == ("a.jpg", (400, 300), [])
    assert [a.bbox for a in image.annotations] == [[5, 6.5, 4, 1.5]] * 2
    assert [a.difficult for a in image.annotations] == [False, True]
    assert [a.ignored for a in image.annotations] == [False, True]
    assert [a.name for a in image.annotations] == ["object 1", "object 2"]
    assert image.file == "a.xml"


@pytest.mark.parametrize(
    ("word", "difficult"), [("0", False), ("", False), ("1", True), ("true", True), ("1.0", True)]
)
def test_difficult_objects(word, difficult):
    image = voc.read(document(BOX + f"<difficult>{word}</difficult>"), "a.xml")
    assert [a.difficult for a in image.annotations] == [difficult]
    assert [a.iscrowd or a.ignore for a in image.annotations] == [0]


@pytest.mark.parametrize(
    ("sides", "size"),
    [
        ("<width>400.0</width><height> 300 </height>", (400, 300)),
        ("<width>0</width><height>0</height>", None),
        ("<width>400</width>", None),
        ("<width>400.5</width><height>300</height>", None),
        ("<width>1e400</width><height>nan</height>", None),
        ("", None),
    ],
)
def test_the_declared_size(sides, size):
    assert voc.read(document(BOX, head=f"<size>{sides}</size>"), "a.xml").size == size


def test_an_empty_element_is_none_and_deleted_objects_are_no_objects():
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 2), (3, 2), (3, 4)))
    outline = f"<polygon>{points}</polygon>"
    image = voc.read(
        document(
            "<bndbox/>" + outline, BOX + "<polygon/><robndbox/>", BOX + "<deleted>1</deleted>"
        ),
        "a.xml",
    )
    assert image.findings == []
    assert [a.boxed for a in image.annotations] == [False, True]
    assert [a.outlined for a in image.annotations] == [True, False]


def test_parts_of_an_object_are_no_objects():
    part = "<part><name>head</name>" + BOX + "</part>"
    assert [a.category_id for a in voc.read(document(part + BOX), "a.xml").annotations] == ["car"]


def test_polygons_of_both_kinds():
    flat = "<polygon><x1>1</x1><y1>2</y1><x2>3</x2><y2>2</y2><x3>3</x3><y3>4</y3></polygon>"
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 2), (3, 2), (3, 4)))
    image = voc.read(document(flat, f"<polygon>{points}</polygon>", BOX + flat), "a.xml")
    assert [a.segmentation for a in image.annotations] == [[[1, 2, 3, 2, 3, 4]]] * 3
    assert [a.bbox for a in image.annotations] == [None, None, [5, 6.5, 4, 1.5]]


@quick
@given(st.floats(0, 7), st.floats(1, 50), st.floats(1, 50))
def test_a_rotated_box_has_its_sides_and_angle(angle, width, height):
    values = {"cx": 60, "cy": 70, "w": width, "h": height, "angle": angle}
    inner = "".join(f"<{key}>{value!r}</{key}>" for key, value in values.items())
    image = voc.read(document(f"<robndbox>{inner}</robndbox>"), "a.xml")
    corners = np.array(image.annotations[0].segmentation[0]).reshape(4, 2)
    assert corners.mean(axis=0) == pytest.approx([60, 70])
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    assert along == pytest.approx([width * math.cos(angle), width * math.sin(angle)], abs=1e-9)
    assert down == pytest.approx([-height * math.sin(angle), height * math.cos(angle)], abs=1e-9)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "L03"),
        ("<bndbox><xmin>1</xmin></bndbox>", "L02"),
        (BOX.replace("9", "nan"), "L02"),
        (BOX.replace("9", "wide"), "L02"),
        ("<bndbox/><polygon/>", "L03"),
        (BOX + "<difficult>very</difficult>", "L03"),
        ("<robndbox><cx>1</cx></robndbox>", "L02"),
    ],
)
def test_an_invalid_object_is_reported_and_the_others_are_read(content, code):
    image = voc.read(document(content, BOX), "a.xml")
    assert codes(image) == [code] and len(image.annotations) == 1
    assert image.findings[0].message.startswith("object 1: ")


def test_an_object_without_a_name_is_reported():
    assert codes(voc.read(document(BOX, name=" "), "a.xml")) == ["L04"]


BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    b"<annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = (
    b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    b"<annotation><filename>&a;</filename></annotation>"
)


@pytest.mark.parametrize(
    "data",
    [b"", b"<annotation>", b"<coco/>", b"{}", b"\xff\xfe", b"<a>" * 100_000, BOMB, OUTSIDE],
    ids=["empty", "open", "other", "json", "utf16", "deep", "bomb", "outside"],
)
def test_what_is_not_voc_or_is_hostile_is_an_error_with_the_path(data):
    with pytest.raises(TilerError, match="^a.xml: "):
        voc.read(data, "a.xml")


@needs_shared
def test_real_files_give_the_boxes_that_their_yolo_labels_have():
    folder = SHARED / "data" / "cells_detect"
    for path in sorted((folder / "original_voc").glob("*.xml")):
        image = voc.read(path.read_bytes(), path.name)
        (label,) = folder.glob(f"labels/*/{path.stem}.txt")
        rows = np.loadtxt(label, ndmin=2)[:, 1:] * np.tile(image.size, 2)
        boxes = np.array([a.bbox for a in image.annotations])
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:] / 2, rows[:, :2], atol=2e-3)
        np.testing.assert_allclose(boxes[:, 2:], rows[:, 2:], atol=2e-3)


@needs_shared
def test_real_rotated_boxes_are_read_whole():
    paths = sorted((SHARED / "data/hituav_obb/original_xml").glob("*.xml"))
    images = [voc.read(path.read_bytes(), path.name) for path in paths]
    assert sum(len(image.annotations) for image in images) >= 339
    assert not any(image.findings for image in images)
