import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.datasets import labels
from tiler.datasets.dataset import Source
from tiler.datasets.labels import LabelFile
from tiler.errors import SourceRefused
from tiler.formats import yolo
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.yolo import Spec

DETECT, SEGMENT, OBB = (Spec(task, 2) for task in ("detect", "segment", "obb"))
POSE = Spec("pose", 2, (2, 3))
SOURCE = Source("images/a.jpg", "train")


def read(text, spec=DETECT, width=100, height=100):
    data = text if isinstance(text, bytes) else text.encode()
    return labels.read(SOURCE, LabelFile("labels/a.txt", data), spec, width, height)


def said(found):
    return [str(f) for f in found.findings]


# The file


def test_a_file_lies_where_the_trainer_looks_for_it(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_bytes(b"0 1")
    assert labels.label_file(tmp_path, SOURCE) == LabelFile("labels/a.txt", b"0 1")
    outside = Source(f"{tmp_path}/images/a.jpg", "train")
    assert labels.label_file(tmp_path / "root", outside) == LabelFile(
        f"{tmp_path}/labels/a.txt", b"0 1"
    )


def test_no_file_is_background(tmp_path):
    file = labels.label_file(tmp_path, SOURCE)
    assert file == LabelFile("labels/a.txt", None)
    found = labels.read(SOURCE, file, DETECT, 100, 100)
    assert (len(found.instances), len(found.ignored), found.findings, found.refused) == (
        0,
        0,
        [],
        0,
    )
    labels.require_usable(found, file.key)


def place(path, kind):
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs fifos")
@pytest.mark.parametrize("kind", ["folder", "fifo", "loop", "device"])
def test_an_image_is_rejected_if_its_label_file_is_not_a_file(tmp_path, kind):
    place(tmp_path / "labels/a.txt", kind)
    with pytest.raises(SourceRefused) as refused:
        labels.label_file(tmp_path, SOURCE)
    assert (refused.value.code, refused.value.path) == ("L01", "labels/a.txt")
    assert "\n" not in str(refused.value)


def test_an_image_is_rejected_if_its_label_file_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(yolo, "MAX_BYTES", 4)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_bytes(b"0 1 2")
    with pytest.raises(SourceRefused, match="more than 4 bytes"):
        labels.label_file(tmp_path, SOURCE)


tokens = st.sampled_from([b"0", b".5", b"x", b"\xe9", b"1e3"])


@quick
@given(st.lists(st.lists(tokens, max_size=4), max_size=5), st.randoms())
def test_what_counts_of_a_file_are_its_words(rows, random):
    plain = b"\n".join(b" ".join(row) for row in rows if row)
    odd = random.choice([b"", b"\xef\xbb\xbf"])
    for row in rows:
        odd += random.choice([b"", b" ", b"\t"]) + random.choice([b" ", b"\t", b"  "]).join(row)
        odd += random.choice([b"\n", b"\r\n", b"\r", b"\n\n"])
    assert LabelFile("a.txt", odd).words() == plain


@quick
@given(st.lists(st.booleans(), max_size=8))
def test_rows_know_their_lines(blank):
    text = b"".join(b"\n" if b else b"0 .5 .5 .1 .1\n" for b in blank)
    assert LabelFile("a.txt", text).lines() == [i for i, b in enumerate(blank, 1) if not b]


# Rows


def test_rejected_rows_are_counted_and_the_others_read():
    found = read("0 .5 .5 .1 .1\nx\n1 .2 .2 .1 .1\n7 .5 .5 .1 .1\n0 .5 .5 .1 .1\n")
    assert found.instances.row.tolist() == [0, 2]
    assert [f.code for f in found.findings] == ["L02", "L04", "L07"]
    assert found.refused == 2


@pytest.mark.parametrize("count", [11, 50, 300])
def test_rejected_rows_beyond_those_shown_are_counted(count):
    assert read("0 .5 .5 .1 .1\n" + "x\n" * count).refused == count


def test_an_image_whose_every_row_is_rejected_is_not_background():
    with pytest.raises(SourceRefused) as refused:
        labels.require_usable(read("\n9 .5 .5 .1 .1\nx\n"), "labels/a.txt")
    assert (refused.value.code, refused.value.path) == ("L13", "labels/a.txt")
    assert str(refused.value) == (
        "all 2 rows were rejected (line 2: class 9, expected a whole number from 0 to 1); not cut "
        "as background"
    )


@pytest.mark.parametrize(
    "text", ["", "\n\n", "0 .5 .5 .1 .1\nx\n", "0 .5 .5 .1 .1\n0 .5 .5 .1 .1\n"]
)
def test_an_image_with_a_usable_row_or_none_at_all_is_used(text):
    labels.require_usable(read(text), "labels/a.txt")


# Within the frame


@quick
@given(
    st.lists(
        st.tuples(
            *[st.integers(-10, 1010).map(lambda k: k / 1000)] * 2,
            *[st.integers(1, 1000).map(lambda k: k / 1000)] * 2,
        ),
        max_size=6,
        unique=True,
    )
)
def test_boxes_are_cut_to_the_image_and_none_is_dropped_in_silence(rows):
    text = "".join(f"0 {x} {y} {w} {h}\n" for x, y, w, h in rows)
    found = read(text, width=1000, height=1000)
    boxes = found.instances.boxes
    assert ((boxes >= 0) & (boxes <= 1000)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert len(boxes) + found.refused == len(rows)
    np.testing.assert_array_equal(found.instances.visible, 1)
    np.testing.assert_allclose(found.instances.area, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    for i, row in enumerate(found.instances.row):
        x, y, w, h = (1000 * v for v in rows[row])
        expected = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1000)
        np.testing.assert_allclose(boxes[i], expected, atol=1e-9)
    beyond = [max(w / 2 - x, h / 2 - y, x + w / 2 - 1, y + h / 2 - 1) * 1000 for x, y, w, h in rows]
    told = {row for row in range(len(rows)) if beyond[row] > labels.ROUNDING + 1e-6}
    assert {f.line - 1 for f in found.findings} == told | {
        f.line - 1 for f in found.findings if f.code == "L05"
    }


def test_labels_past_the_frame_are_cut_and_reported_from_half_a_pixel_on():
    found = read("0 .98 .5 .1 .1\n0 .3 .004 .1 .01\n1 .05 .2 .2 .1\n")
    np.testing.assert_allclose(
        found.instances.boxes, [[93, 45, 100, 55], [25, 0, 35, 0.9], [0, 15, 15, 25]]
    )
    assert said(found) == [
        "labels/a.txt:1: L08 reaches 3.0 px past the frame; cut there",
        "labels/a.txt:3: L08 reaches 5.0 px past the frame; cut there",
    ]
    assert found.refused == 0


def test_labels_outside_the_image_are_rejected():
    found = read("0 .5 .5 .1 .1\n\n0 1.009 .5 .01 .1\n")
    assert found.instances.row.tolist() == [0]
    assert said(found) == ["labels/a.txt:3: L05 lies outside the image"]
    assert found.refused == 1


def test_an_outline_is_cut_with_its_area_and_box():
    found = read("0 -.2 .1 .4 .1 .4 .5 -.2 .5\n", SEGMENT)
    assert found.instances.area.tolist() == [pytest.approx(1600)]
    np.testing.assert_allclose(found.instances.boxes, [[0, 10, 40, 50]])
    assert found.instances.visible.tolist() == [1]


def test_an_obb_keeps_its_corners_and_counts_what_is_inside():
    row = "0 .9 .2 1.1 .2 1.1 .4 .9 .4"
    found = read(row, OBB)
    np.testing.assert_array_equal(
        found.instances.rings.coords.ravel(), np.array(row.split()[1:], np.float64) * 100
    )
    assert found.instances.area.tolist() == [pytest.approx(200)]


def test_keypoints_past_the_frame_become_unlabelled():
    found = read("0 .5 .5 .99 .99 .5 .5 2 1.005 .5 2\n1 .98 .5 .1 .1 .99 .5 2 1 .5 2\n", POSE)
    assert found.instances.keypoints[1].tolist() == [[99, 50, 2], [0, 0, 0]]


def test_a_file_of_rows_past_the_frame_is_not_parsed_for_each(monkeypatch):
    calls, parse = [], yolo.parse
    monkeypatch.setattr(yolo, "parse", lambda *given: calls.append(1) or parse(*given))
    found = read("".join(f"0 .98 {k / 1000:.3f} .1 .1\n" for k in range(100, 900)))
    assert sum(f.count for f in found.findings) == 800
    assert len(calls) <= 2


# COCO


def entry(annotations, declared=(100, 80), **given):
    image = AnnotatedImage("a.jpg", declared, file="f.json", id=1, **given)
    image.annotations = [
        Annotation(image_id=1, category_id=7, class_id=0, index=i, **a)
        for i, a in enumerate(annotations)
    ]
    return Source("a.jpg", "train", entry=image)


def read_coco(annotations, spec=DETECT, size=(100, 80), **given):
    source = entry(annotations, **given)
    return labels.read(source, labels.label_file(None, source), spec, *size)


def test_coco_annotations_are_read_cut_and_counted():
    boxes = [[10, 10, 20, 20], [90, 10, 20, 20], [200, 0, 5, 5], [1, 1, 0, 5]]
    found = read_coco([{"id": 40 + i, "bbox": box} for i, box in enumerate(boxes)])
    assert found.instances.row.tolist() == [0, 1]
    assert found.instances.boxes.tolist() == [[10, 10, 30, 30], [90, 10, 100, 30]]
    assert [(f.path, f.code, f.line) for f in found.findings] == [
        ("f.json", "L06", None),
        ("f.json", "L05", None),
        ("f.json", "L08", None),
    ]
    assert found.refused == 2


def test_objects_reach_past_a_cropped_image_without_a_word():
    boxes = [[10, 10, 20, 20], [90, 10, 20, 20]]
    found = read_coco([{"id": 40 + i, "bbox": box} for i, box in enumerate(boxes)], cropped=True)
    assert found.instances.boxes.tolist() == [[10, 10, 30, 30], [90, 10, 100, 30]]
    assert (found.findings, found.refused) == ([], 0)


def test_coco_crowds_are_regions_and_a_note():
    found = read_coco([{"id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 1}, {"id": 2, "bbox": [1, 1, 5]}])
    assert (len(found.instances), len(found.ignored), found.refused) == (0, 1, 1)
    assert [f.code for f in found.findings] == ["L03", "L14"]
    labels.require_usable(found, "f.json")


def test_a_coco_image_of_bad_annotations_only_is_not_background():
    with pytest.raises(
        SourceRefused, match=r"all 1 rows were rejected \(annotation 9: bbox is 0 x 5"
    ):
        labels.require_usable(read_coco([{"id": 9, "bbox": [1, 1, 0, 5]}]), "f.json")


@pytest.mark.parametrize(("width", "height"), [(80, 100), (100, 81), (1, 1)])
def test_annotations_for_an_image_of_another_size_are_rejected(width, height):
    with pytest.raises(SourceRefused) as refused:
        read_coco([], size=(100, 80), declared=(width, height))
    assert (refused.value.code, refused.value.path) == ("L03", "a.jpg")
    assert str(refused.value) == f"declared as {width} x {height} px, the image is 100 x 80"


def test_annotations_of_an_image_whose_size_is_not_declared_are_read():
    found = read_coco([{"id": 1, "bbox": [1, 1, 5, 5]}], declared=None)
    assert found.instances.boxes.tolist() == [[1, 1, 6, 6]]


def test_an_image_without_annotations_is_no_background_while_others_fit_no_image():
    with pytest.raises(SourceRefused, match="3 annotations fit no image; not cut as background"):
        read_coco([], doubt="has no annotations, while 3 annotations fit no image")
    assert len(read_coco([{"bbox": [1, 1, 5, 5]}], doubt="a reason").instances) == 1


def test_what_is_noticed_about_a_row_has_its_line():
    boxes = [[1, 1, 0, 5], [200, 0, 5, 5], [90, 10, 20, 20]]
    rows = [{"bbox": box, "line": 7 + i, "kind": "object"} for i, box in enumerate(boxes)]
    found = read_coco(rows)
    assert said(found) == [
        "f.json:7: L06 the object: bbox is 0 x 5, expected more than 0",
        "f.json:8: L05 the object lies outside the image",
        "f.json:9: L08 the object reaches 10.0 px past the frame; cut there",
    ]


def test_a_mask_made_for_an_image_of_another_size_is_rejected():
    masks = [
        {"size": [80, 100], "counts": [10, 20, 7970]},
        {"size": [40, 50], "counts": [10, 20, 1970]},
    ]
    found = read_coco(
        [{"id": 5 + i, "bbox": [0, 10, 1, 20], "segmentation": m} for i, m in enumerate(masks)],
        SEGMENT,
    )
    assert found.instances.row.tolist() == [0]
    assert [f.code for f in found.findings] == ["L03"]
    assert found.findings[0].message.startswith("annotation 6: ")
    assert found.refused == 1


def test_the_words_of_a_coco_entry_change_with_its_annotations():
    given = [labels.label_file(None, entry([{"bbox": [1, 1, 5, 5]}] * n)) for n in (0, 1, 1)]
    assert given[0].words() != given[1].words() == given[2].words()
    by_hand = labels.label_file(None, entry([{"bbox": [1, 1, 5, 5], "difficult": True}]))
    assert by_hand.words() != given[1].words()
