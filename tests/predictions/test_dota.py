"""DOTA Task1: one file a class, in tile pixels."""

import numpy as np
import pytest

from tests.predictions import codes, folder, read
from tiler.errors import TilerError

QUAD = "50 30 70 50 50 70 30 50"


def test_classes_by_file_and_pixels_of_tiles(tmp_path):
    folder(
        tmp_path,
        **{
            "Task1_small-vehicle": f"t1 0.9 {QUAD}\n\nt2.png .8 {QUAD}\n",
            "Task1_plane": f"t1 0.7 {QUAD}\r\n",
        },
    )
    predictions, found = read(
        tmp_path, rect=(100, 0, 300, 200), scale=0.5, names=("small vehicle", "plane")
    )
    assert (predictions.task, predictions.keys, predictions.counts) == ("obb", ["t1", "t2"], [2, 1])
    assert predictions.kind == "DOTA Task1, obb: 2 files, 3 rows"
    assert found.instances.class_id.tolist() == [1, 0, 0] and found.instances.conf.tolist() == [
        0.7,
        0.9,
        0.8,
    ]
    np.testing.assert_allclose(
        found.instances.rings.quads()[0], [[200, 60], [240, 100], [200, 140], [160, 100]]
    )
    assert found.instances.row.tolist() == [0, 1, 2], "rows of different files are told apart"


def test_without_names_the_order_of_the_files_counts(tmp_path):
    folder(tmp_path, Task1_b=f"t .9 {QUAD}\n", Task1_a=f"t .8 {QUAD}\n")
    predictions, found = read(tmp_path)
    assert found.instances.class_id.tolist() == [0, 1] and "order of the files" in predictions.kind


def test_names_with_spaces(tmp_path):
    predictions, found = read(
        folder(tmp_path, Task1_a=f"my tile 7 0.5 {QUAD}\n  x   .5 {QUAD}  \n")
    )
    assert predictions.keys == ["my tile 7", "x"] and len(found.instances) == 2


def test_faults(tmp_path):
    rows = (
        f"t .9 {QUAD}\nt .9 1 2 3\nt x {QUAD}\nt 1.5 {QUAD}\nt .5 nan 0 1 1 2 2 3 3\nt .5 "
        f"{'900 ' * 8}\n"
    )
    folder(tmp_path, Task1_car=rows, Task1_cra=f"t .5 {QUAD}\n")
    (tmp_path / "Task1_dir.txt").mkdir()
    predictions, found = read(tmp_path, names=("car",))
    assert [(f.code, f.line) for f in predictions.findings] == [("D03", 2), ("D01", None)]
    assert found.rejected == [
        (0, 2, "D02"),
        (0, 3, "D08"),
        (0, 4, "D02"),
        (0, 5, "D05"),
        (0, 6, "D04"),
    ]
    assert "did you mean 'car'" in found.findings[-1].message
    assert codes(found) and len(found.instances) == 1 and found.findings[0].line == 3


def test_only_turned_boxes(tmp_path):
    with pytest.raises(TilerError, match="obb"):
        read(folder(tmp_path, Task1_a=""), task="detect")
    assert read(folder(tmp_path, Task1_a=""))[0].keys == []
