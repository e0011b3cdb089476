"""labelme JSON: what is read, and what is rejected."""

import json
import math

import numpy as np
import pytest

from tiler.errors import TilerError
from tiler.formats import labelme


def read(*shapes, **more):
    content = {"imagePath": "a.jpg", "imageWidth": 400, "imageHeight": 300, **more}
    return labelme.read(json.dumps({"shapes": [*shapes], **content}).encode(), "a.json")


def shape(points, kind="polygon", label="car"):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None}


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
        (shape([[1, 1]], "point"), "L03"),
        (shape([[1, 1]], "rectangle"), "L03"),
        (shape([[1, 1], [2, 2]]), "L03"),
        (shape([[1, 1], [2]]), "L03"),
        (shape("abc"), "L03"),
        (shape(None), "L03"),
        (shape([[1, 1], [2, "x"], [3, 3]]), "L03"),
        (shape([[1, 1], [2, math.inf], [3, 3]]), "not JSON"),
        (shape([[1, 1], [2, 10**400], [3, 3]]), "not JSON or L03"),
    ],
)
def test_an_invalid_shape_is_reported_and_the_others_are_read(bad, code):
    if code.startswith("not JSON"):
        try:
            image = read(bad, shape([[0, 0], [4, 0], [4, 2]]))
        except TilerError as error:
            assert str(error).startswith("a.json: not labelme JSON")
            return
        assert [finding.code for finding in image.findings] == ["L03"]
        return
    image = read(bad, shape([[0, 0], [4, 0], [4, 2]]))
    assert [finding.code for finding in image.findings] == [code]
    assert len(image.annotations) == 1 and image.findings[0].message.startswith("shape 1: ")


@pytest.mark.parametrize("size", [{}, {"imageWidth": None}, {"imageHeight": 0}])
def test_a_size_that_is_not_declared_is_none(size):
    assert read(**{"imageWidth": 400, "imageHeight": None, **size}).size is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"shapes": 3}', b"\xff\xfe", b"[" * 10**5])
def test_what_is_not_labelme_is_an_error_with_the_path(data):
    with pytest.raises(TilerError, match="^a.json: not labelme JSON"):
        labelme.read(data, "a.json")
