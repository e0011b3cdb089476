"""CSV of boxes or WKT outlines: what is read, and what is rejected by line."""

import numpy as np
import pytest
import shapely

from tests.conftest import SHARED, needs_shared
from tiler.errors import TilerError
from tiler.formats import annotated, annotation_csv

HEAD = "image_path,xmin,ymin,xmax,ymax,label\n"
WKT = 'image_path,label,geometry\na.jpg,Tree,"{}"\n'


def test_rows_are_gathered_by_image_in_order():
    text = HEAD + "b.tif,5,6,9,8,Tree\na.tif,1,2,3,4,Bush\nb.tif,0,0,1.5,1,Bush\n"
    images = annotation_csv.read(text, "a.csv")
    assert [image.file_name for image in images] == ["b.tif", "a.tif"]
    assert [a.bbox for a in images[0].annotations] == [[5, 6, 4, 2], [0, 0, 1.5, 1]]
    assert [a.index for a in images[0].annotations] == [0, 2]
    assert [a.category_id for a in images[0].annotations] == ["Tree", "Bush"]
    assert [a.line for a in images[0].annotations] == [2, 4]
    assert [image.file for image in images] == ["a.csv"] * 2


def test_a_row_that_only_names_an_image_says_that_nothing_is_in_it():
    images = annotation_csv.read(HEAD + "b.tif,,,,,\na.tif,1,2,3,4,Bush\n", "a.csv")
    assert [(i.file_name, len(i.annotations), i.findings) for i in images] == [
        ("b.tif", 0, []),
        ("a.tif", 1, []),
    ]


@pytest.mark.parametrize(
    ("sides", "size"), [("400,300", (400, 300)), (",300", None), ("0,0", None), ("x,300", None)]
)
def test_the_size_of_the_image_where_it_is_there(sides, size):
    head = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    (image,) = annotation_csv.read(head + f"a.jpg,{sides},car,1,2,3,4\n", "a.csv")
    assert image.size == size and len(image.annotations) == 1


def test_a_cell_over_two_lines_counts_to_its_end():
    text = 'image_path,label,geometry\na.jpg,Tree,"POLYGON ((0 0,\n4 0, 4 2, 0 0))"\nb.jpg,Tree,x\n'
    images = annotation_csv.read(text, "a.csv")
    assert images[0].annotations[0].line == 3 and images[1].findings[0].line == 4


def test_outlines_in_wkt_go_before_boxes():
    (image,) = annotation_csv.read(WKT.format("POLYGON ((0 0, 4 0, 4 2, 0 0))"), "a.csv")
    assert image.annotations[0].segmentation == [[0, 0, 4, 0, 4, 2]]
    two = "MULTIPOLYGON (((0 0, 4 0, 4 2, 0 0)), ((9 9, 8 9, 8 8, 9 9)))"
    (image,) = annotation_csv.read(WKT.format(two), "a.csv")
    assert image.annotations[0].segmentation == [[0, 0, 4, 0, 4, 2], [9, 9, 8, 9, 8, 8]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (HEAD + "a.tif,5,6,9,,Tree\n", "L02"),
        (HEAD + "a.tif,5,6,9,nan,Tree\n", "L02"),
        (HEAD + "a.tif,5,6,9\n", "L04"),
        (HEAD + "a.tif,5,6,9,8,\n", "L04"),
        (WKT.format("POINT (3 4)"), "L03"),
        (WKT.format("POLYGON ((0 0, 4"), "L03"),
        (WKT.format("POLYGON"), "L03"),
        (WKT.format("GEOMETRYCOLLECTION (" * 5000), "L03"),
        (HEAD + "a.tif,5,6,9,1_0,Tree\n", "L02"),
        (WKT.format("POLYGON EMPTY"), "L06"),
    ],
)
def test_an_invalid_row_is_reported_by_its_line(text, code):
    (image,) = annotation_csv.read(text, "a.csv")
    assert [(f.code, f.line, f.path) for f in image.findings] == [(code, 2, "a.csv")]
    assert image.annotations == []


def test_holes_are_kept():
    text = WKT.format("POLYGON ((0 0, 9 0, 9 9, 0 9, 0 0), (2 1, 4 1, 4 3, 2 3, 2 1))")
    (image,) = annotation_csv.read(text, "a.csv")
    rings = annotated.outline(image.annotations[0].segmentation)
    assert shapely.area(rings.geometry()).tolist() == [81 - 4]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "image_path,label\na,b\n", '"a\x00'])
def test_other_columns_are_an_error_that_names_those_wanted(text):
    with pytest.raises(TilerError, match="^a.csv"):
        annotation_csv.read(text, "a.csv")


@needs_shared
def test_real_boxes_outlines_and_points():
    folder = SHARED / "data" / "trees_voc"
    read = {
        kind: annotation_csv.read(path.read_text(), path.name)[0]
        for kind in ("bbox", "polygon", "keypoints")
        for path in folder.glob(f"*_{kind}.csv")
        if kind != "keypoints"
    }
    assert not any(image.findings for image in read.values())
    boxes = [a.segmentation for a in read["bbox"].annotations]
    outlines = [a.segmentation for a in read["polygon"].annotations]
    assert len(boxes) == len(outlines) == 4
    for box, outline in zip(boxes, outlines, strict=True):
        box, outline = (np.array(rings[0]).reshape(-1, 2) for rings in (box, outline))
        assert np.abs(box.min(axis=0) - outline.min(axis=0)).max() < 2
        assert np.abs(box.max(axis=0) - outline.max(axis=0)).max() < 2
    with pytest.raises(TilerError, match="xmin"):
        path = next(folder.glob("*_keypoints.csv"))
        annotation_csv.read(path.read_text().replace("geometry", "where"), path.name)


@pytest.mark.parametrize("wkt", ["POINT (10 20)", "POINT(10.0 20)", "point (1e1 20)"])
def test_points_are_boxes_of_the_size_that_is_asked_for(wkt):
    rows = f'image_path,label,geometry\na.tif,Tree,"{wkt}"\n'
    (found,) = annotation_csv.read(rows, "a.csv", point_size=4)
    assert [a.bbox for a in found.annotations] == [[8, 18, 4, 4]]
    (rejected,) = annotation_csv.read(rows, "a.csv")
    assert not rejected.annotations
    assert "--point-size makes boxes" in rejected.findings[0].message
