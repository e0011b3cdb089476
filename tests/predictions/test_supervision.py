"""supervision's sinks: CSV with a header, JSON with the same keys."""

import csv
import json

import numpy as np
import pytest

from tests.predictions import codes, read
from tiler.errors import TilerError
from tiler.predictions import Reading, open_predictions

ROW = {
    "x_min": 10.5,
    "y_min": 20,
    "x_max": 40,
    "y_max": 60,
    "class_id": 2,
    "confidence": 0.9,
    "tracker_id": "",
    "file_name": "a.jpg",
}
QUAD = [[50, 30], [70, 50], [50, 70], [30, 50]]


def sink(path, *rows):
    """A file as supervision writes it."""
    if path.suffix == ".json":
        path.write_text(
            json.dumps(
                [{k: v if k == "xyxyxyxy" else str(v) for k, v in row.items()} for row in rows]
            )
        )
        return path
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        writer.writerows(
            [json.dumps(v) if isinstance(v, list) else v for v in row.values()] for row in rows
        )
    return path


@pytest.fixture(params=["csv", "json"])
def path(tmp_path, request):
    return tmp_path / f"detections.{request.param}"


def test_boxes(path):
    predictions, found = read(
        sink(path, ROW, {**ROW, "file_name": "b.png"}), rect=(100, 0, 300, 200), scale=0.5
    )
    assert predictions.kind == "supervision, detect, images by file_name: 2 images, 2 rows"
    assert predictions.keys == ["a", "b"] and found.instances.boxes[0].tolist() == [
        121,
        40,
        180,
        120,
    ]
    assert found.instances.class_id.tolist() == [2, 2] and found.instances.conf.tolist() == [
        0.9,
        0.9,
    ]


def test_turned_boxes(path):
    predictions, found = read(sink(path, {**ROW, "xyxyxyxy": QUAD}))
    assert predictions.task == "obb"
    np.testing.assert_array_equal(found.instances.rings.quads()[0], QUAD)
    assert read(path, task="detect")[1].instances.boxes[0].tolist() == [10.5, 20, 40, 60]


def test_corners_as_numpy_writes_them(path):
    text = str(np.array(QUAD, np.float32))
    np.testing.assert_array_equal(
        read(sink(path, {**ROW, "xyxyxyxy": text}))[1].instances.rings.quads()[0], QUAD
    )


@pytest.mark.parametrize(
    "column", ["file_name", "image", "image_name", "filename", "source", "tile"]
)
def test_columns_that_name_the_image(path, column):
    row = {k: v for k, v in ROW.items() if k != "file_name"}
    assert read(sink(path, {**row, column: "t 1.tif"}))[0].keys == ["t 1"]


def test_a_file_that_names_no_image_is_refused(path):
    row = {k: v for k, v in ROW.items() if k != "file_name"}
    with pytest.raises(TilerError, match=r"custom column file_name, image"):
        read(sink(path, row))
    predictions, found = read(sink(path, row).parent)
    assert predictions.keys == ["detections"] and len(found.instances) == 1, (
        "but a folder of them names tiles by file"
    )


def test_a_folder_of_one_file_a_tile(tmp_path):
    row = {k: v for k, v in ROW.items() if k != "file_name"}
    sink(tmp_path / "b.csv", row, row)
    sink(tmp_path / "a.csv", row)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    predictions, found = read(tmp_path)
    assert (predictions.keys, predictions.counts) == (["a", "b"], [1, 2])
    assert found.instances.row.tolist() == [0, 0, 1]
    assert [(f.code, f.path) for f in predictions.findings] == [("D01", str(tmp_path / "bad.csv"))]


def test_files_that_share_images_tell_their_rows_apart(tmp_path):
    sink(tmp_path / "one.csv", ROW)
    sink(tmp_path / "two.csv", ROW)
    predictions, found = read(tmp_path)
    assert predictions.keys == ["a"] and found.instances.row.tolist() == [0, 1]


@pytest.mark.parametrize(
    "bad, code",
    [
        ({"x_min": "x"}, "D02"), ({"x_min": "nan"}, "D02"), ({"y_max": 20}, "D06"),
        ({"x_min": 500, "x_max": 600}, "D05"),
        ({"class_id": "car"}, "D04"), ({"class_id": ""}, "D04"), ({"class_id": -1}, "D04"),
        ({"confidence": "high"}, "D08"), ({"confidence": 2}, "D08"), ({"confidence": ""}, "D08"),
    ],
)  # fmt: skip
def test_a_bad_row_among_good_ones(path, bad, code):
    _, found = read(sink(path, ROW, {**ROW, **bad}, ROW))
    assert found.rejected == [(0, 1, code)] and len(found.instances) == 2
    assert found.findings[0].line == (3 if path.suffix == ".csv" else None)


def test_a_row_without_a_image_is_a_finding(path):
    predictions, found = read(sink(path, ROW, {**ROW, "file_name": ""}))
    assert [f.code for f in predictions.findings] == ["D03"] and len(found.instances) == 1


def test_confidence_may_be_assumed(path):
    with pytest.raises(TilerError, match="--assume-conf"):
        read(sink(path, {**ROW, "confidence": ""}))
    assert read(path, assume_conf=0.5)[1].instances.conf.tolist() == [0.5]


def test_outlines_are_not_in_it(path):
    with pytest.raises(TilerError, match="no outlines"):
        read(sink(path, ROW), task="segment")


def test_short_and_long_rows(tmp_path):
    path = sink(tmp_path / "x.csv", ROW)
    path.write_text(path.read_text() + "1,2\n1,2,3,4,0,.5,,a.jpg,more,and more\n")
    predictions, found = read(path)
    assert len(predictions.findings) == 1 and codes(found) == [] and len(found.instances) == 2


@pytest.mark.parametrize(
    "text", ["x_min,y_min\n1,2\n", "a b c\n", 'x_min,y_min,x_max,y_max\n"' + "x" * 200_000]
)
def test_what_is_no_csv_of_supervision(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(TilerError, match=r"x\.csv"):
        read(path)


def test_cells_that_somebody_escaped_are_read_as_they_were(tmp_path):
    head = "x_min,y_min,x_max,y_max,class_id,confidence,file_name\n"
    (tmp_path / "d.csv").write_text(
        head + "10,20,30,40,0,0.5,'=a.jpg\n10,20,30,40,0,0.5,'tis.jpg\n-1,20,30,40,0,0.5,b.jpg\n"
    )
    found = open_predictions(tmp_path / "d.csv", Reading("detect", names=("a",)))
    assert list(found.keys) == ["'tis", "=a", "b"]
