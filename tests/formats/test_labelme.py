"""labelme JSON: what is read, and what is rejected."""

import base64
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec.structs import replace
from PIL import Image
from pycocotools import mask as coco_mask

from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import annotated, labelme, labelme_masks
from tiler.formats.yolo import Spec


def read(*shapes, **more):
    content = {"imagePath": "a.jpg", "imageWidth": 400, "imageHeight": 300, **more}
    return labelme.read(json.dumps({"shapes": [*shapes], **content}).encode(), "a.json")


def shape(points, kind="polygon", label="car"):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None}


def flat(points):
    return [value for point in points for value in point]


def test_rectangles_by_any_two_corners_and_polygons():
    image = read(
        shape([[9, 2], [5, 8]], "rectangle"),
        shape([[5, 2], [9, 2], [9, 8], [5, 8]], "rectangle"),
        shape([[0, 0], [4, 0], [4, 2]]),
        {"label": "bus", "points": [[0, 0], [4, 0], [4, 2]]},
    )
    assert (image.file_name, image.size, image.findings) == ("a.jpg", (400, 300), [])
    assert [a.bbox for a in image.annotations] == [[5, 2, 4, 6], [5, 2, 4, 6], None, None]
    assert image.annotations[2].segmentation == [[0, 0, 4, 0, 4, 2]]
    assert [a.category_id for a in image.annotations] == ["car", "car", "car", "bus"]
    assert [a.index for a in image.annotations] == [0, 1, 2, 3]


def test_a_circle_is_a_polygon_of_its_radius():
    (circle,) = read(shape([[50, 60], [53, 64]], "circle")).annotations
    points = np.array(circle.segmentation[0]).reshape(-1, 2)
    assert np.hypot(*(points - [50, 60]).T) == pytest.approx(5)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (shape([[0, 0], [4, 0], [4, 2]], label=None), "L04"),
        (shape([[0, 0], [4, 0], [4, 2]], label=""), "L04"),
        (shape([[0, 0], [4, 4]], "line"), "L03"),
        (shape([[0, 0], [4, 4], [4, 9]], "linestrip"), "L03"),
        (shape([[0, 0], [4, 4], [4, 9]], "points"), "L03"),
        (shape([[0, 0], [4, 0], [4, 2]]) | {"difficult": "perhaps"}, "L03"),
        (shape([[1, 1], [2, 1e9], [3, 3]]), "L02"),
        (shape([[1, 1]], "point"), "L03"),
        (shape([[1, 1]], "rectangle"), "L03"),
        (shape([[1, 1], [2, 2]]), "L03"),
        (shape([[1, 1], [2]]), "L03"),
        (shape("abc"), "L03"),
        (shape(None), "L03"),
        (shape([[1, 1], [2, "x"], [3, 3]]), "L03"),
        (shape([[1, 1], [2, math.inf], [3, 3]]), "not JSON"),
        (shape([[1, 1], [2, 10**400], [3, 3]]), "not JSON or L02"),
    ],
)
def test_an_invalid_shape_is_reported_and_the_others_are_read(bad, code):
    if code.startswith("not JSON"):
        try:
            image = read(bad, shape([[0, 0], [4, 0], [4, 2]]))
        except TilerError as error:
            assert str(error).startswith("a.json: not labelme JSON")
            return
        assert [finding.code for finding in image.findings] == ["L02"]
        return
    image = read(bad, shape([[0, 0], [4, 0], [4, 2]]))
    assert [finding.code for finding in image.findings] == [code]
    assert len(image.annotations) == 1 and image.findings[0].message.startswith("shape 1: ")


def test_turned_rectangles_difficult_shapes_and_numbers_as_text():
    corners = [[15, 10], [20, 15], [15, 20], [10, 15]]
    image = read(
        shape(corners, "rotation"),
        shape(corners, "oriented_rectangle") | {"difficult": True},
        shape([["15", "10"], ["20", 15.0], [15, 20], [10, 15]]),
        imageWidth="400",
        imageHeight=300.0,
    )
    assert (image.size, image.findings, image.file) == ((400, 300), [], "a.json")
    assert [a.segmentation for a in image.annotations] == [[flat(corners)]] * 3
    assert [a.difficult for a in image.annotations] == [False, True, False]
    assert [a.name for a in image.annotations] == ["shape 1", "shape 2", "shape 3"]


def test_shapes_of_one_label_and_group_are_the_parts_of_one_object():
    first, second = [[0, 0], [4, 0], [4, 2]], [[9, 9], [8, 9], [8, 8]]
    box = [[0, 0], [9, 9]]
    image = read(
        *(shape(points) | {"group_id": 7} for points in (first, second)),
        shape(first, label="bus") | {"group_id": 7},
        shape(second) | {"group_id": 8},
        *(shape(box, "rectangle") | {"group_id": 7} for _ in range(2)),
        shape(first),
        shape(first),
    )
    assert image.findings == []
    parts = [len(a.segmentation or ()) for a in image.annotations]
    assert parts == [2, 1, 1, 0, 0, 1, 1]
    assert image.annotations[0].segmentation == [flat(first), flat(second)]
    objects, _, findings = annotated.instances(
        [replace(a, class_id=0) for a in image.annotations[:3]], Spec("segment", 1), "a.json"
    )
    assert objects.area.tolist() == [4.5, 4, 0.5] and not findings


def encoded(mask, mode="L"):
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).convert(mode).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def mask_shape(mask, left, top, more=(0, 0)):
    height, width = mask.shape
    corners = [[left, top], [left + width - 1 + more[0], top + height - 1 + more[1]]]
    return shape(corners, "mask") | {"mask": encoded(mask)}


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@quick
@given(
    arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_a_mask_covers_its_pixels(mask, left, top):
    image = read(mask_shape(mask, left, top), imageWidth=12, imageHeight=12)
    (annotation,) = image.annotations
    drawn = np.zeros((12, 12), bool)
    drawn[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    np.testing.assert_array_equal(coco_mask.decode(compressed(annotation.segmentation)), drawn)
    annotation.class_id = 0
    objects, _, findings = annotated.instances([annotation], Spec("segment", 1), "a", (12, 12))
    assert objects.area.tolist() == [mask.sum()] and not findings


def compressed(given):
    return coco_mask.frPyObjects(given, *given["size"])


FULL = np.ones((4, 6), bool)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (mask_shape(FULL, 395, 0), "L05 shape 1: the mask reaches out of the image"),
        (mask_shape(FULL, -1, 0), "L05 shape 1: the mask reaches out of the image"),
        (mask_shape(FULL, 0, 0, (2, 0)), "the mask is 6 x 4 px, its corners hold 8 x 4 px"),
        (mask_shape(FULL, 0, 0) | {"mask": None}, "the mask is no PNG in base64"),
        (mask_shape(FULL, 0, 0) | {"mask": "AAAA"}, "the mask is no PNG in base64"),
        (mask_shape(FULL, 0, 0) | {"mask": encoded(FULL)[:60]}, "the mask is no PNG in base64"),
        (mask_shape(FULL, 0, 0) | {"mask": encoded(FULL, "RGB")}, "of mode RGB, expected grey"),
        (shape([[1, 1]], "mask"), "a mask has 2 corners, got 1"),
    ],
)
def test_a_mask_that_cannot_be_read_is_reported(bad, said):
    image = read(bad, mask_shape(FULL, 394, 296), mask_shape(FULL, 0, 0, (1, 1)))
    assert [said in str(finding) for finding in image.findings] == [True]
    assert len(image.annotations) == 2


def test_a_mask_needs_the_size_of_its_image_and_few_runs(monkeypatch):
    assert "needs imageWidth" in str(read(mask_shape(FULL, 0, 0), imageWidth=None).findings[0])
    monkeypatch.setattr(labelme_masks, "MAX_RUNS", 20)
    board = np.indices((9, 9)).sum(axis=0) % 2 == 0
    assert [f.code for f in read(mask_shape(board, 0, 0)).findings] == ["L15"]
    both = read(*(mask_shape(FULL, 0, 0) | {"group_id": 3} for _ in range(2)))
    assert "shares its group_id with shape 1" in str(both.findings[0])


@pytest.mark.parametrize("size", [{}, {"imageWidth": None}, {"imageHeight": 0}])
def test_a_size_that_is_not_declared_is_none(size):
    assert read(**{"imageWidth": 400, "imageHeight": None, **size}).size is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"shapes": 3}', b"\xff\xfe", b"[" * 10**5])
def test_what_is_not_labelme_is_an_error_with_the_path(data):
    with pytest.raises(TilerError, match="^a.json: not labelme JSON"):
        labelme.read(data, "a.json")


def test_points_are_boxes_of_the_size_that_is_asked_for():
    shape = {"label": "tree", "points": [[10, 20]], "shape_type": "point", "group_id": 1}
    data = json.dumps({"shapes": [shape, shape]}).encode()
    found = labelme.read(data, "a.json", point_size=4)
    assert [a.bbox for a in found.annotations] == [[8, 18, 4, 4]] * 2
    rejected = labelme.read(data, "a.json")
    assert not rejected.annotations
    assert "--point-size makes boxes" in rejected.findings[0].message
