"""JSON results: keys, category ids, and each kind of geometry."""

import json

import numpy as np
import pytest
from pycocotools import mask as oracle

from tests.predictions import codes, read
from tiler.errors import TilerError
from tiler.predictions.categories import COCO91

BOX = {"image_id": "a", "category_id": 0, "bbox": [10, 20, 30, 40], "score": 0.9}
QUAD = [50, 30, 70, 50, 50, 70, 30, 50]


def results(tmp_path, *entries, wrap=None):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"annotations": entries, **wrap} if wrap is not None else entries))
    return path


def test_boxes_in_source_pixels(tmp_path):
    path = results(
        tmp_path,
        {**BOX, "image_id": "b"},
        BOX,
        {**BOX, "category_id": 3, "activations": [0.1], "id": 7, "area": 3},
    )
    predictions, found = read(path, rect=(100, 200, 300, 400), scale=0.5)
    assert predictions.kind == "JSON results, detect, category ids from 0: 2 images, 3 entries"
    assert (predictions.keys, predictions.counts, predictions.numeric) == (
        ["a", "b"],
        [2, 1],
        False,
    )
    assert found.instances.boxes.tolist() == [[120, 240, 180, 320]] * 3
    assert found.instances.row.tolist() == [1, 2, 0] and found.tile.tolist() == [0, 0, 1]
    assert found.instances.class_id.tolist() == [0, 3, 0]


@pytest.mark.parametrize(
    "image, key",
    [
        ({"image_id": "t__0_0_64_64"}, "t__0_0_64_64"),
        ({"image_id": "33_20220514 (52).JPG"}, "33_20220514 (52)"),
        ({"image_id": "tile.v2"}, "tile.v2"),
        ({"image_id": 12}, "12"),
        ({"image_id": 12.0}, "12"),
        ({"image_id": 12, "file_name": "0012.jpg"}, "0012"),
        ({"image_id": 1, "file_name": "val/x.tiff"}, "val/x"),
        ({"image_id": 1, "file_name": "val\\x.png"}, "val/x"),
        ({"file_name": "x.png"}, "x"),
    ],
)
def test_keys(tmp_path, image, key):
    entry = {k: v for k, v in BOX.items() if k != "image_id"} | image
    predictions, _ = read(results(tmp_path, entry))
    assert predictions.keys == [key]


def test_numeric_only_when_nothing_names_the_image(tmp_path):
    assert read(results(tmp_path, {**BOX, "image_id": 3}, {**BOX, "image_id": 12}))[0].numeric
    assert not read(results(tmp_path, {**BOX, "image_id": 3, "file_name": "3.jpg"}))[0].numeric
    assert not read(results(tmp_path, {**BOX, "image_id": "3"}))[0].numeric
    assert not read(results(tmp_path))[0].numeric


@pytest.mark.parametrize("image_id", [None, True, [], {}, "", 1.5, 10**400])
def test_an_entry_without_a_image_is_a_finding(tmp_path, image_id):
    predictions, found = read(results(tmp_path, BOX, {**BOX, "image_id": image_id}))
    assert [f.code for f in predictions.findings] == [
        "D03"
    ] and "entry 1: image_id" in predictions.findings[0].message
    assert predictions.counts == [1] and len(found.instances) == 1


def with_ids(tmp_path, *ids, **more):
    return results(tmp_path, *({**BOX, "category_id": i, **more} for i in ids))


@pytest.mark.parametrize(
    "ids, more, reading, classes",
    [
        ((0, 3), {}, {}, [0, 3]),
        ((0, 3), {"file_name": "a.jpg"}, {}, [0, 3]),
        ((1, 3), {}, {"names": ("x", "y", "z")}, [0, 2]),
        ((1, 2), {"file_name": "a.jpg"}, {"names": ("x", "y", "z")}, [0, 1]),
        ((4, 14), {"file_name": "a.jpg"}, {}, [3, 13]),
        ((1, 90), {}, {"names": tuple(map(str, range(80)))}, [0, 79]),
        ((1, 80), {}, {"names": tuple(map(str, range(80)))}, [0, 79]),
        ((13, 90), {}, {"preds_base": "coco91"}, [11, 79]),
        ((4, 14), {}, {"preds_base": "1"}, [3, 13]),
        ((4, 14), {}, {"preds_base": "0"}, [4, 14]),
        ((4, 14), {"category_name": "z"}, {"names": ("x", "y", "z")}, [2, 2]),
        ((1.0, 2), {}, {"preds_base": "1"}, [0, 1]),
    ],
)
def test_what_category_ids_count_from(tmp_path, ids, more, reading, classes):
    _, found = read(with_ids(tmp_path, *ids, **more), **reading)
    assert found.instances.class_id.tolist() == classes and not found.findings


def test_ids_that_may_count_from_either_are_refused(tmp_path):
    for reading in ({}, {"names": ("x", "y", "z", "u", "v")}):
        with pytest.raises(TilerError, match="1 to 4 may count from 0 or from 1: say --preds-base"):
            read(with_ids(tmp_path, 1, 4), **reading)
    with pytest.raises(TilerError, match="preds-base 2"):
        read(with_ids(tmp_path, 1), preds_base="2")


@pytest.mark.parametrize("bad", [None, "0", True, [], 1.5, -1, 10**400, float("nan")])
def test_a_category_that_is_no_class(tmp_path, bad):
    _, found = read(with_ids(tmp_path, 0, bad), names=("x", "y"))
    assert found.rejected == [(0, 1, "D04")]


def test_unknown_names_and_ids(tmp_path):
    path = results(tmp_path, {**BOX, "category_name": "car"}, {**BOX, "category_name": "cra"})
    _, found = read(path, names=("car",))
    assert codes(found) == ["D04"] and "did you mean 'car'" in found.findings[0].message
    assert codes(read(with_ids(tmp_path, 1, 12), preds_base="coco91")[1]) == ["D04"]
    assert codes(read(with_ids(tmp_path, 1, 0), preds_base="1")[1]) == ["D04"]


def test_the_ids_of_coco():
    assert len(COCO91) == 80 and COCO91[0] == 1 and COCO91[-1] == 90 and COCO91[79 - 1] == 89


def test_turned_boxes_of_ultralytics(tmp_path):
    """rbox and poly, and no bbox."""
    entry = {
        "image_id": "a",
        "category_id": 0,
        "score": 0.5,
        "rbox": [50, 50, 28.284, 28.284, 0.785398],
        "poly": QUAD,
    }
    predictions, found = read(results(tmp_path, entry), rect=(100, 0, 200, 100))
    assert predictions.task == "obb"
    np.testing.assert_allclose(
        found.instances.rings.quads()[0] - [100, 0], np.reshape(QUAD, (4, 2))
    )
    del entry["poly"]
    _, turned = read(results(tmp_path, entry), rect=(100, 0, 200, 100))
    np.testing.assert_allclose(turned.instances.boxes, found.instances.boxes, atol=1e-2)
    np.testing.assert_allclose(turned.instances.area, found.instances.area, rtol=1e-3)


def test_outlines_as_polygons(tmp_path):
    """SAHI's: whole numbers, one list a part."""
    parts = [[10, 10, 30, 10, 30, 30], [50, 50, 60, 50, 60, 60, 50, 60]]
    predictions, found = read(
        results(tmp_path, {**BOX, "segmentation": parts, "iscrowd": 0}),
        scale=0.5,
        rect=(0, 0, 200, 200),
    )
    assert predictions.task == "segment"
    np.testing.assert_allclose(found.instances.area, [(200 + 100) * 4])
    np.testing.assert_allclose(found.instances.boxes, [[20, 20, 120, 120]])


def test_empty_outlines_are_boxes(tmp_path):
    predictions, found = read(results(tmp_path, *[{**BOX, "segmentation": []}] * 3))
    assert predictions.task == "detect" and len(found.instances) == 3


@pytest.mark.parametrize("compressed", [True, False])
def test_masks(tmp_path, compressed):
    mask = np.zeros((60, 80), np.uint8)
    mask[5:25, 10:50] = 1
    mask[10:12, 20:30] = 0
    coded = oracle.encode(np.asfortranarray(mask))
    runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=2, append=2)))
    counts = coded["counts"].decode() if compressed else ([0] if mask[0, 0] else []) + runs.tolist()
    path = results(tmp_path, {**BOX, "segmentation": {"size": [60, 80], "counts": counts}})
    _, found = read(path, rect=(100, 100, 180, 160))
    assert found.instances.area.tolist() == [mask.sum()]
    assert found.instances.boxes.tolist() == [[110, 105, 150, 125]]
    _, wrong = read(path, rect=(0, 0, 100, 100))
    assert codes(wrong) == ["D03"] and "its tile is [100, 100]" in wrong.findings[0].message


@pytest.mark.parametrize("size", [[[], []], [[60], 80], ["60", "80"], [60], {}, None, 60])
def test_a_mask_whose_size_is_no_two_numbers(tmp_path, size):
    mask = {"size": size, "counts": [0, 4800]}
    path = results(tmp_path, {**BOX, "segmentation": mask})
    _, wrong = read(path, rect=(100, 100, 180, 160), task="segment")
    assert codes(wrong) == ["D03"]


def test_keypoints(tmp_path):
    path = results(tmp_path, {**BOX, "keypoints": [20, 30, 0.8, 0, 0, 0.1]})
    predictions, found = read(path, rect=(100, 0, 200, 100))
    assert (predictions.task, predictions.kpt_shape) == ("pose", (2, 3))
    assert found.instances.keypoints.tolist() == [[[120, 30, 0.8], [0, 0, 0]]]
    predictions, found = read(path, kpt_shape=(3, 2))
    assert predictions.kpt_shape == (3, 2) and found.instances.keypoints[0, 0].tolist() == [
        20,
        30,
        2,
    ]
    with pytest.raises(TilerError, match="6 values of keypoints"):
        read(path, kpt_shape=(17, 3))
    many = [{**BOX, "keypoints": [20, 30, 2]}] * 20
    _, found = read(
        results(tmp_path, *many, {**BOX, "keypoints": [1, 2]}, {**BOX, "keypoints": None}),
        task="pose",
    )
    assert codes(found) == ["D03", "D02"] and len(found.instances) == 20


@pytest.mark.parametrize(
    "task, entry",
    [
        ("detect", {"segmentation": [QUAD]}),
        ("detect", {"poly": QUAD}),
        ("obb", {"segmentation": [QUAD]}),
        ("segment", {"segmentation": [QUAD]}),
    ],
)
def test_another_task_from_the_geometry_there_is(tmp_path, task, entry):
    _, found = read(
        results(tmp_path, {"image_id": "a", "category_id": 0, "score": 0.5, **entry}), task=task
    )
    assert found.instances.task == task
    assert found.instances.boxes.tolist() == [pytest.approx([30, 30, 70, 70])]


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_an_entry_without_geometry(tmp_path, task):
    _, found = read(
        results(
            tmp_path, {"image_id": "a", "category_id": 0, "score": 0.5, "keypoints": [1, 1, 1]}
        ),
        task=task,
    )
    assert codes(found) == ["D03"]


@pytest.mark.parametrize(
    "bad, code",
    [
        ({"bbox": None}, "D03"),
        ({"bbox": [1, 2, 3]}, "D03"),
        ({"bbox": "1 2 3 4"}, "D02"),
        ({"bbox": [1, 2, 3, "4"]}, "D02"),
        ({"bbox": [1, 2, 3, None]}, "D02"),
        ({"bbox": [1, 2, 3, 10**400]}, "D02"),
        ({"bbox": [1, 2, 3, float("nan")]}, "D02"),
        ({"bbox": [1, 2, 1e308, 1e308]}, "D05"),
        ({"bbox": [1, 2, 0, 3]}, "D06"),
        ({"bbox": [1, 2, -4, 3]}, "D06"),
        ({"bbox": [500, 2, 4, 3]}, "D05"),
        ({"score": None}, "D08"),
        ({"score": "0.5"}, "D08"),
        ({"score": 50}, "D08"),
        ({"score": float("nan")}, "D08"),
        ({"score": [0.5]}, "D08"),
    ],
)
def test_a_bad_entry_among_good_ones(tmp_path, bad, code):
    _, found = read(results(tmp_path, BOX, {**BOX, **bad}, BOX), preds_base="0")
    assert found.rejected == [(0, 1, code)] and len(found.instances) == 2
    assert "entry 1: " in found.findings[0].message and found.findings[0].line is None


@pytest.mark.parametrize(
    "bad, code",
    [
        ("x", "D03"),
        ([[1, 2, 3]], "D03"),
        ([[1, 2, 3, "x", 5, 6]], "D02"),
        ([[1, 1, 2, 2, 3, 3]], "D06"),
        ({"size": [100, 100]}, "D03"),
        ({"size": [100, 100], "counts": "é"}, "D03"),
        ({"size": [100, 100], "counts": [5]}, "D03"),
        ({"size": [100, 100], "counts": [10000]}, "D06"),
        ({"size": "x", "counts": [5]}, "D03"),
        ({"size": {}, "counts": [5]}, "D03"),
        ([[500, 500, 600, 500, 600, 600]], "D05"),
    ],
)
def test_a_bad_outline_among_good_ones(tmp_path, bad, code):
    good = {**BOX, "segmentation": [QUAD]}
    _, found = read(results(tmp_path, *[good] * 9, {**BOX, "segmentation": bad}), task="segment")
    assert found.rejected == [(0, 9, code)] and len(found.instances) == 9


def test_no_confidence_at_all(tmp_path):
    entry = {k: v for k, v in BOX.items() if k != "score"}
    with pytest.raises(TilerError, match="--assume-conf"):
        read(results(tmp_path, entry))
    _, found = read(results(tmp_path, entry, BOX), assume_conf=0.3)
    assert found.instances.conf.tolist() == [0.3, 0.9]


def test_wrapped_lists(tmp_path):
    assert (
        len(read(results(tmp_path, BOX, BOX, wrap={"images": [], "info": {"x": 1}}))[1].instances)
        == 2
    )
    assert read(results(tmp_path))[0].keys == []


def test_a_byte_order_mark_changes_nothing(tmp_path):
    path = results(tmp_path, BOX)
    _, plain = read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b",", b",\r\n"))
    assert read(path)[1].digest == plain.digest


def test_the_digest_is_of_what_was_read(tmp_path):
    segment = {**BOX, "segmentation": [QUAD]}
    variants = [
        [BOX],
        [{**BOX, "score": 0.8}],
        [BOX, BOX],
        [segment],
        [{**segment, "segmentation": [[*QUAD, 1, 2]]}],
    ]
    assert len({read(results(tmp_path, *entries))[1].digest for entries in variants}) == len(
        variants
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "[", "{", "[{]", "3", '"x"', "[1, 2]", "[[]]", "{}", '{"annotations": 3}',
        '{"annotations": {"image_id": 1}}',
        "[" * 100_000, '{"annotations":' * 5000, '[{"bbox":' + "[" * 100_000, "[null]", "[{}, 3]",
        "\x00", "[NaN]", "[{NaN}]",
        '[{"name": "car", "class": 0, "confidence": 0.5}]',
        '[{"frame_id": 1, "filename": 7, "objects": []}]',
    ],
)  # fmt: skip
def test_what_is_no_results_file_is_said_with_its_path(tmp_path, text):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    with pytest.raises(TilerError, match=r"predictions\.json: "):
        read(path)


def test_an_id_beyond_all_floats_is_shown_where_ids_are_ambiguous(tmp_path):
    entries = [{**BOX, "category_id": 1}, {**BOX, "category_id": 10**400}]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    with pytest.raises(TilerError, match=r"category ids 1 to 1000.* may count from 0 or from 1"):
        read(tmp_path / "a.json", names=("a", "b", "c"))
