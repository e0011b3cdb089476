import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SHARED
from tests.strategies import quick
from tiler.datasets import tasks
from tiler.datasets.dataset import Dataset, Source
from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.formats import dataset_yaml
from tiler.formats.annotated import MISFITS, AnnotatedImage, Annotation
from tiler.types import TASKS

DATA = SHARED / "data"
BOX = "0 .5 .5 .2 .1"
TRIANGLE = "0 .1 .1 .3 .1 .3 .4"
TRAPEZOID = "0 .1 .1 .6 .1 .5 .4 .2 .4"


def rectangle(x=0.5, y=0.5, w=0.2, h=0.1, angle=0.5):
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn + [x, y]
    return "0 " + " ".join(f"{v:.6f}" for v in np.clip(corners, 0, 1).ravel())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tasks")


def told(folder, *files):
    """The task of label files with these rows."""
    for old in folder.iterdir():
        old.unlink()
    paths = []
    for i, rows in enumerate(files):
        path = folder / f"{i}.txt"
        path.write_bytes(rows if isinstance(rows, bytes) else "\n".join(rows).encode())
        paths.append(str(path))
    return tasks.count_rows(paths)


@pytest.mark.parametrize(
    ("files", "task", "counts"),
    [
        ([], "detect", "0 boxes, 0 outlines"),
        ([[]], "detect", "0 boxes, 0 outlines"),
        ([[BOX]], "detect", "1 boxes, 0 outlines"),
        ([[BOX], [BOX, BOX]], "detect", "3 boxes, 0 outlines"),
        ([[TRIANGLE]], "segment", "1 outlines, 0 of them with four corners, 0 boxes"),
        ([[TRAPEZOID]], "segment", "1 outlines, 1 of them with four corners, 0 boxes"),
        (
            [[rectangle()]],
            "obb",
            "1 of 1 outlines have four corners, 1 of 1 are rectangles, 0 boxes",
        ),
        ([[TRIANGLE, BOX]], "detect", "1 boxes, 1 outlines"),
        (
            [[TRIANGLE, TRIANGLE, BOX]],
            "segment",
            "2 outlines, 0 of them with four corners, 1 boxes" + MISFITS,
        ),
        (
            [[rectangle()] * 19, [TRIANGLE]],
            "obb",
            "19 of 20 outlines have four corners, 19 of 19 are rectangles, 0 boxes",
        ),
        (
            [[rectangle()] * 18, [TRIANGLE]],
            "segment",
            "19 outlines, 18 of them with four corners, 0 boxes",
        ),
        (
            [[rectangle()] * 9, [TRAPEZOID]],
            "obb",
            "10 of 10 outlines have four corners, 9 of 10 are rectangles, 0 boxes",
        ),
        (
            [[rectangle()] * 8, [TRAPEZOID]],
            "segment",
            "9 outlines, 9 of them with four corners, 0 boxes",
        ),
        (
            [[rectangle()] * 3, [BOX] * 2],
            "obb",
            "3 of 3 outlines have four corners, 3 of 3 are rectangles, 2 boxes" + MISFITS,
        ),
    ],
)
def test_the_more_frequent_kind_of_row_decides(folder, files, task, counts):
    assert told(folder, *files) == (task, counts)


@quick
@given(st.permutations([[BOX], [TRIANGLE, rectangle()], [TRAPEZOID, BOX], [rectangle()] * 3, []]))
def test_the_order_of_the_files_is_no_matter(folder, files):
    assert told(folder, *files) == told(folder, *files[::-1])


@quick
@given(
    st.lists(
        st.tuples(
            st.floats(0.2, 0.8),
            st.floats(0.2, 0.8),
            st.floats(0.05, 0.2),
            st.floats(0.05, 0.2),
            st.floats(0, 3),
        ),
        min_size=1,
        max_size=8,
    ),
    st.floats(0.3, 3),
)
def test_rectangles_are_obbs_whatever_the_shape_of_the_frame(folder, boxes, stretch):
    rows = []
    for x, y, w, h, angle in boxes:
        corners = np.array(rectangle(x, y, w, h, angle).split()[1:], np.float64).reshape(4, 2)
        squeezed = 0.5 + (corners - 0.5) * ([1, 1 / stretch] if stretch > 1 else [stretch, 1])
        rows.append("0 " + " ".join(f"{v:.6f}" for v in squeezed.ravel()))
    assert told(folder, rows)[0] == "obb"


def test_corners_clamped_to_the_frame_are_not_looked_at(folder):
    clamped = [rectangle(0.01, 0.5), rectangle(0.99, 0.3, angle=1), rectangle(0.5, 0.0, angle=0.3)]
    assert told(folder, [*clamped, rectangle()]) == (
        "obb",
        "4 of 4 outlines have four corners, 1 of 1 are rectangles, 0 boxes",
    )
    assert told(folder, clamped)[0] == "obb"


def test_rectangles_of_few_decimals_are_obbs(folder):
    rows = [
        " ".join(["0"] + [f"{float(v):.3f}" for v in rectangle(angle=a / 7).split()[1:]])
        for a in range(20)
    ]
    assert told(folder, rows)[0] == "obb"


@pytest.mark.parametrize(
    "rows",
    [
        (BOX + "\r\n" + BOX).encode(),
        (BOX + "\r" + BOX).encode(),
        ("\ufeff" + BOX + "\n\n" + BOX + "\n").encode(),
        (BOX + "\n" + BOX + "\nx y z\n").encode(),
        (BOX + "\n" + BOX + "\n0 .5 .5 .1 .1 .9\n").encode(),
    ],
)
def test_the_form_of_the_text_is_no_matter(folder, rows):
    assert told(folder, rows) == ("detect", "2 boxes, 0 outlines")


@pytest.mark.parametrize("rows", [b"\xff\xfe0\x00", bytes(range(256)), b"car truck\n"])
def test_what_cannot_be_read_decides_nothing(folder, rows):
    assert told(folder, rows, [TRIANGLE])[0] == "segment"


@pytest.mark.parametrize(
    "row", ["0 inf inf inf 1 0 0 1 1", "0 1e308 -1e308 1e308 1 0 0 1 1", "0 nan 0 0 1 1 1 1 0"]
)
def test_numbers_out_of_any_range_do_not_hinder(folder, row):
    assert told(folder, [row] + [rectangle()] * 30)[0] == "obb"


def test_missing_files_and_folders_decide_nothing(folder):
    assert tasks.count_rows([str(folder / "no.txt"), str(folder)]) == (
        "detect",
        "0 boxes, 0 outlines",
    )


# What the dataset says comes first


def dataset(root, kpt_shape=None, kind="YOLO", entry=None):
    sources = [] if entry is None else [Source("a.jpg", "train", entry=entry)]
    return Dataset(root / "dataset.yaml", root, ("car",), sources, (), [], kpt_shape, kind=kind)


def test_keypoints_mean_pose(tmp_path):
    assert tasks.decide(dataset(tmp_path, (4, 3)), "auto") == ("pose", "kpt_shape is set")


@pytest.mark.parametrize("task", TASKS)
def test_what_is_asked_for_is_taken(tmp_path, task):
    assert tasks.decide(dataset(tmp_path, (4, 3)), task) == (task, "as asked")


def test_pose_needs_the_number_of_keypoints(tmp_path):
    with pytest.raises(TilerError) as error:
        tasks.decide(dataset(tmp_path), "pose")
    assert (
        str(error.value)
        == f"{tmp_path}/dataset.yaml: --task pose needs kpt_shape in the dataset.yaml"
    )


SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
DIAMOND = [15, 10, 20, 15, 15, 20, 10, 15]
KITE = [15, 10, 20, 13, 15, 30, 10, 13]


@pytest.mark.parametrize(
    ("outlines", "task"),
    [
        ([KITE] * 19 + [None], "segment"),
        ([KITE] * 11 + [None] * 9, "segment"),
        ([KITE] * 10 + [None] * 10, "detect"),
        ([KITE] * 3 + [SQUARE] * 17, "segment"),
        ([SQUARE] * 20, "detect"),
        ([SQUARE] * 10 + [DIAMOND] * 10, "obb"),
        ([DIAMOND] * 19 + [KITE], "obb"),
        ([DIAMOND + [15, 10]] * 3, "obb"),
        ([DIAMOND] * 17 + [KITE] * 3, "segment"),
        ([DIAMOND] * 9 + [None] * 11, "detect"),
        ([], "detect"),
    ],
)
def test_the_more_frequent_kind_of_annotation_decides(tmp_path, outlines, task):
    entry = AnnotatedImage("a.jpg", None)
    for outline in outlines:
        polygons = None if outline is None else [outline]
        entry.annotations.append(Annotation(bbox=[10, 10, 10, 10], segmentation=polygons))
    crowd = Annotation(bbox=[10, 10, 10, 10], iscrowd=1)
    entry.annotations += [crowd] * 30  # which are no objects
    assert tasks.decide(dataset(tmp_path, kind="COCO", entry=entry), "auto")[0] == task


def test_dota_says_what_its_labels_are(tmp_path):
    assert tasks.decide(replace(dataset(tmp_path, kind="DOTA"), task="obb"), "auto")[0] == "obb"


def test_the_label_files_of_all_sources_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, row in (("train/a", BOX), ("val/b", TRIANGLE), ("val/c", TRIANGLE)):
        for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
            path = tmp_path / kind / (name + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(row)
    (tmp_path / "dataset.yaml").write_text(
        dataset_yaml.dump(("car",), {"train": "images/train", "val": "images/val"})
    )
    found = find(Path("dataset.yaml"), None)
    assert tasks.decide(found, "auto") == (
        "segment",
        "2 outlines, 0 of them with four corners, 1 boxes" + MISFITS,
    )


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("cars_detect", "detect"),
        ("pcb_detect", "detect"),
        ("cells_detect", "detect"),
        ("hituav_obb", "obb"),
        ("nuclei_segment", "segment"),
    ],
)
def test_real_datasets(name, task):
    assert tasks.decide(find(DATA / name / "dataset.yaml", None), "auto")[0] == task
