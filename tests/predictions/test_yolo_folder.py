"""A folder of txt: what each form of row becomes, and what happens to the others."""

import os
import pickle

import numpy as np
import pytest

from tests.predictions import codes, folder, frames, read
from tiler.errors import TilerError
from tiler.predictions import Reading, open_predictions, yolo_folder


def test_boxes_in_source_pixels(tmp_path):
    folder(tmp_path, a="0 .5 .5 .2 .1 .9\n2 .25 .5 .5 1 .8 17\n", b="")
    predictions, found = read(tmp_path, rect=(1000, 2000, 1200, 2100), scale=0.5)
    assert (
        predictions.kind
        == "Ultralytics txt, detect with confidence (6 or 7 values a row): 2 files, 2 rows"
    )
    assert (predictions.keys, predictions.counts, predictions.numeric) == (
        ["a", "b"],
        [2, 0],
        False,
    )
    assert found.instances.boxes.tolist() == [[1080, 2045, 1120, 2055], [1000, 2000, 1100, 2100]]
    assert found.instances.conf.tolist() == [0.9, 0.8] and found.instances.class_id.tolist() == [
        0,
        2,
    ]
    assert found.instances.row.tolist() == [0, 1] and found.tile.tolist() == [0, 0]


def test_each_tile_has_its_own_frame(tmp_path):
    folder(tmp_path, a="0 .5 .5 .2 .2 .9\n", b="0 .5 .5 .2 .2 .9\n")
    tiles = frames("ba")
    tiles.rects[:] = [[0, 0, 10, 10], [100, 0, 300, 100]]
    found = open_predictions(tmp_path, Reading()).batch([1, 0]).read(tiles)
    assert found.instances.boxes.tolist() == [
        [4, 4, 6, 6],
        [180, 40, 220, 60],
    ] and found.tile.tolist() == [0, 1]


def test_turned_boxes(tmp_path):
    corners = ".5 .3 .7 .5 .5 .7 .3 .5"
    folder(tmp_path, a=f"1 {corners} .7\n1 {corners} .6 4\n")
    predictions, found = read(tmp_path)
    assert "--task segment" in predictions.kind and predictions.task == "obb"
    np.testing.assert_allclose(
        found.instances.rings.quads()[0], [[50, 30], [70, 50], [50, 70], [30, 50]]
    )
    np.testing.assert_allclose(found.instances.area, 800)


def test_outlines(tmp_path):
    folder(tmp_path, a="0 .1 .1 .3 .1 .3 .3 .9\n\n0 .1 .1 .3 .1 .3 .3 .1 .3 .2 .2 .8\n")
    predictions, found = read(tmp_path)
    assert predictions.task == "segment" and found.instances.row.tolist() == [0, 1]
    np.testing.assert_allclose(found.instances.area, [200, 300])
    assert found.instances.conf.tolist() == [0.9, 0.8]


def test_outlines_with_track_ids(tmp_path):
    folder(tmp_path, a="0 .1 .1 .3 .1 .3 .3 .9 4\n0 .1 .1 .3 .1 .3 .3 .1 .3 .8 5\n")
    _, found = read(tmp_path, task="segment")
    np.testing.assert_allclose(found.instances.area, [200, 400])
    assert found.instances.conf.tolist() == [0.9, 0.8]


def test_a_mask_of_several_parts_joined_into_one_is_fine(tmp_path):
    """masks2segments joins the parts of a mask: the outline crosses itself."""
    folder(tmp_path, a="0 .1 .1 .5 .5 .5 .1 .1 .5 .9\n0 .1 .1 .3 .1 .3 .3 .9\n")
    _, found = read(tmp_path, task="segment")
    assert not found.findings and found.instances.area[0] == pytest.approx(800)


@pytest.mark.parametrize("shape, taken", [((2, 3), (2, 3)), ((2, 2), (2, 3))])
def test_keypoints(tmp_path, shape, taken):
    folder(tmp_path, a="0 .5 .5 .4 .4 .5 .4 .87 0 0 .2 .9\n")
    predictions, found = read(tmp_path, rect=(100, 0, 200, 100), task="pose", kpt_shape=shape)
    assert predictions.kpt_shape == taken and "[2, 3]" in predictions.kind
    np.testing.assert_allclose(found.instances.keypoints, [[[150, 40, 0.87], [0, 0, 0]]])
    np.testing.assert_allclose(found.instances.boxes, [[130, 30, 170, 70]])


def test_keypoints_without_visibility(tmp_path):
    folder(tmp_path, a="0 .5 .5 .4 .4 .5 .4 0 0 .9\n")
    _, found = read(tmp_path, task="pose", kpt_shape=(2, 3))
    np.testing.assert_allclose(found.instances.keypoints, [[[50, 40, 2], [0, 0, 0]]])


def test_assumed_confidence_leaves_given_ones(tmp_path):
    folder(tmp_path, a="0 .5 .5 .2 .1\n0 .5 .5 .2 .1 .9\n")
    predictions, found = read(tmp_path, assume_conf=0.25)
    assert (
        found.instances.conf.tolist() == [0.25, 0.9]
        and "with or without confidence, taken as 0.25 (" in predictions.kind
    )


def test_confidence_first(tmp_path):
    folder(tmp_path, a="14 .43 .5 .5 .2 .1\n")
    predictions, found = read(tmp_path, conf_first=True)
    assert found.instances.conf.tolist() == [0.43] and "after the class" in predictions.kind
    np.testing.assert_allclose(found.instances.boxes, [[40, 45, 60, 55]])


def test_rows_of_another_form_are_refused_with_their_line(tmp_path):
    folder(
        tmp_path,
        a="0 .5 .5 .2 .1 .9\n" * 9 + "\n0 .5 .5 .2 .1\n",
        b="0 .5 .5 .2 .1 .9\n" * 9 + "0 oops .2 .1 .9\n",
    )
    _, found = read(tmp_path)
    assert found.rejected == [(0, 9, "D03"), (1, 9, "D02")]
    assert [(f.path, f.line) for f in found.findings] == [
        (str(tmp_path / "a.txt"), 11),
        (str(tmp_path / "b.txt"), 10),
    ]
    assert "a confidence" in found.findings[0].message and "'oops'" in found.findings[1].message


def test_rows_all_refused_are_no_error(tmp_path):
    folder(tmp_path, a="car .5 .5 .2 .1 .9\n")
    predictions, found = read(tmp_path)
    assert codes(found) == ["D02"] and predictions.counts == [1] and len(found.instances) == 0


def test_appended_twice_keeps_both(tmp_path):
    """detect.py and save_txt append: the caller says which rows repeat."""
    folder(tmp_path, a="0 .5 .5 .2 .1 .9\n" * 2)
    assert len(read(tmp_path)[1].instances) == 2


def test_the_digest_is_of_numbers_and_places(tmp_path):
    plain = "0 .5 .5 .2 .1 .9\n1 .5 .5 .2 .1 .9\n"
    variants = {
        "plain": plain,
        "windows": b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode(),
        "blank": "\n" + plain.replace(".5", "0.50"),
        "other": plain.replace(".9", ".8"),
        "split": plain.replace("\n", " 1\n"),
        "words": plain + "x\n",
    }
    digests = {
        name: read(folder(tmp_path / name, a=content))[1].digest
        for name, content in variants.items()
    }
    assert digests["plain"] == digests["windows"] == digests["blank"]
    assert len(set(digests.values())) == 4 and all(len(d) == 32 for d in digests.values())
    moved = read(folder(tmp_path / "moved", a="0 .5 .5 .2 .1 .9\n", b="1 .5 .5 .2 .1 .9\n"))[
        1
    ].digest
    assert moved not in digests.values()


def test_any_batches_give_the_same(tmp_path):
    rng = np.random.default_rng(1)
    files = {f"t{i}": "".join(f"0 {x:g} .5 .1 .1 .9\n" for x in rng.random(i)) for i in range(7)}
    predictions, whole = read(folder(tmp_path, **files))
    parts = []
    for start in range(0, 7, 3):
        names = predictions.keys[start : start + 3]
        parts.append(predictions.batch(range(start, start + len(names))).read(frames(names)))
    np.testing.assert_array_equal(
        np.concatenate([p.instances.boxes for p in parts]), whole.instances.boxes
    )
    assert len(predictions.batch([]).read(frames([])).instances) == 0


def test_a_large_folder_is_read_again(tmp_path, monkeypatch):
    folder(tmp_path, a="0 .5 .5 .2 .1 .9\n", b="0 .5 .5 .2 .1\n", c="0 .5 .5 .2 .2 .9\n" * 9)
    _, kept = read(tmp_path)
    monkeypatch.setattr(yolo_folder, "KEPT", 30)
    monkeypatch.setattr(yolo_folder, "TOGETHER", 10)
    predictions, again = read(tmp_path)
    assert predictions.rows is None and predictions.batch([0]).rows is None
    assert (again.digest, again.rejected) == (kept.digest, kept.rejected)
    np.testing.assert_array_equal(again.instances.boxes, kept.instances.boxes)
    (tmp_path / "a.txt").unlink()
    gone = predictions.batch([0, 1, 2]).read(frames("abc"))
    assert [f.code for f in gone.findings] == ["D01", "D03"] and len(gone.instances) == 9


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_parsing_in_parts_changes_nothing(tmp_path, monkeypatch, size):
    folder(tmp_path, **{f"t{i}": "0 .5 .5 .2 .1 .9\n" * i for i in range(5)})
    monkeypatch.setattr(yolo_folder, "TOGETHER", size)
    predictions, found = read(tmp_path)
    assert predictions.counts == [0, 1, 2, 3, 4] and len(found.instances) == 10


def test_what_cannot_be_read_is_a_finding_and_the_rest_goes_on(tmp_path, monkeypatch):
    folder(
        tmp_path,
        a="0 .5 .5 .2 .1 .9\n",
        wide="0 .5 .5 .2 .1 .9\n".encode("utf-16"),
        large="0" * 2000,
    )
    (tmp_path / "dir.txt").mkdir()
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    monkeypatch.setattr("tiler.formats.yolo.MAX_BYTES", 1000)
    predictions, found = read(tmp_path)
    assert predictions.keys == ["a"] and len(found.instances) == 1
    assert [(f.code, os.path.basename(f.path)) for f in predictions.findings] == [
        ("D01", f"{name}.txt") for name in ("dir", "fifo", "gone", "large", "wide")
    ]


def test_mixed_and_empty_folders_name_themselves(tmp_path):
    mixed = folder(tmp_path / "mixed", a="0 .5 .5 .2 .1 .9\n", b="0 .5 .5 .2 .1\n")
    with pytest.raises(TilerError, match=r"mixed.*1 of 5 values, 1 of 6 values"):
        read(mixed)
    predictions, found = read(folder(tmp_path / "none", a="", b="\n"))
    assert (
        predictions.kind == "Ultralytics txt, detect: 2 files, 0 rows" and len(found.instances) == 0
    )


def test_batches_pickle_small(tmp_path):
    predictions, _ = read(
        folder(tmp_path, **{f"t{i}": "0 .5 .5 .2 .1 .9\n" * 50 for i in range(20)})
    )
    assert len(pickle.dumps(predictions.batch([3]))) < 5000
