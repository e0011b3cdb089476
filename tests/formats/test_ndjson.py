"""NDJSON of Ultralytics: normalised rows by kind, an image a line."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiler.errors import TilerError
from tiler.formats import annotated, ndjson, yolo

HEAD = {"type": "dataset", "task": "detect", "class_names": {"0": "car", "1": "bus"}}
IMAGE = {"type": "image", "file": "a.jpg", "width": 200, "height": 100, "split": "train"}


def read(*lines, head=HEAD):
    text = "\n".join(
        json.dumps(line) if isinstance(line, dict) else line for line in (head, *lines)
    )
    return ndjson.read(text.encode(), "a.ndjson")


def image(**annotations):
    return IMAGE | {"annotations": annotations}


numbers = st.integers(50, 950).map(lambda n: n / 1000)


@given(st.lists(st.tuples(st.integers(0, 1), numbers, numbers, numbers, numbers), max_size=5))
def test_boxes_are_those_of_label_files(rows):
    rows = [list(row) for row in rows]
    found = read(image(boxes=rows)).images[0]
    for each in found.annotations:
        each.class_id = int(each.category_id)
    spec = yolo.Spec("detect", 2)
    ours, _, findings = annotated.instances(found.annotations, spec, "a.ndjson")
    text = "\n".join(" ".join(map(repr, row)) for row in rows).encode()
    theirs, _ = yolo.read(text, spec, 200, 100, "a.txt")
    assert not findings
    assert _rows(ours) == _rows(theirs)  # label files have each row once


def _rows(instances):
    boxes = np.round(instances.boxes, 9).tolist()
    return set(zip(instances.class_id.tolist(), map(tuple, boxes), strict=True))


def test_outlines_and_keypoints_are_in_pixels():
    pose = HEAD | {"task": "pose", "kpt_shape": [1, 3]}
    row = [1, 0.5, 0.5, 0.2, 0.4, 0.25, 0.5, 2]
    found = read(image(pose=[row]), head=pose)
    assert found.kpt_shape == (1, 3)
    assert found.images[0].annotations[0].keypoints == [50, 50, 2]
    for kind in ("segments", "obb"):
        found = read(image(**{kind: [[0, 0.1, 0.1, 0.2, 0.1, 0.2, 0.3, 0.1, 0.3]]}))
        flat = found.images[0].annotations[0].segmentation[0]
        assert flat == pytest.approx([20, 10, 40, 10, 40, 30, 20, 30])


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("{", "L03", "not JSON"),
        ({"type": "video"}, "I01", "expected an image with a file"),
        (IMAGE | {"width": 0}, "L03", "width and height are pixels"),
        (IMAGE | {"width": "200"}, "L03", "width and height are pixels"),
        (IMAGE | {"annotations": [1]}, "L03", "lists by kind"),
    ],
)
def test_a_bad_line_is_a_finding_and_the_others_are_read(line, code, message):
    found = read(line, image(boxes=[[0, 0.5, 0.5, 0.1, 0.1]]))
    assert [(f.code, f.line) for f in found.findings] == [(code, 2)]
    assert message in found.findings[0].message
    assert len(found.images) == 1


@pytest.mark.parametrize(
    "rows",
    [
        {"boxes": [[0, 0.5, 0.5, 0.1]]},
        {"boxes": [[0, "a", 0.5, 0.1, 0.1]]},
        {"boxes": [7]},
        {"boxes": 7},
        {"segments": [[0, 0.1, 0.1, 0.2, 0.1]]},
        {"cuboids": [[0, 1]]},
        {"pose": [[0, 0.5, 0.5, 0.1, 0.1, 0.5]]},
    ],
)
def test_a_bad_row_is_a_finding_of_its_image(rows):
    found = read(image(**rows)).images[0]
    assert not found.annotations
    assert [f.level for f in found.findings] == ["error"]


@pytest.mark.parametrize(
    "head",
    [
        {"type": "image"},
        {"type": "dataset"},
        HEAD | {"class_names": {"0": "a", "2": "b"}},
        HEAD | {"class_names": {"x": "a"}},
    ],
)
def test_a_file_without_a_dataset_line_is_an_error(head):
    with pytest.raises(TilerError, match=r"a\.ndjson:1"):
        read(head=head)
