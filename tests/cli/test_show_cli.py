"""`tiler show` from the command line."""

import json

from PIL import Image

from tests.cli.test_cli import run


def test_the_sheet_lands_in_the_working_directory(filled, tmp_path):
    done = run("show", "data", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    title, path = done.stdout.splitlines()
    assert title == "YOLO dataset: 4 of 4 images"
    assert path == str(tmp_path / "data-show.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert run("show", "data", cwd=tmp_path).returncode == 0


def test_json_tells_what_is_shown(filled, tmp_path):
    done = run("show", "data", "p1", "--json", "--out", "x.png", cwd=tmp_path)
    content = json.loads(done.stdout)
    assert content["out"] == str(tmp_path / "x.png")
    (shown,) = content["shown"]
    assert (shown["image"], shown["split"], shown["labels"]) == ("images/train/p1.jpg", "train", 12)
    assert shown["detections"] is None


def test_rejected_rows_are_1_and_named(filled, tmp_path):
    label = filled.root / "labels/train/p0.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    done = run("show", "data", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("data/labels/train/p0.txt:13: L04")
    assert (tmp_path / "data-show.png").exists()


def test_wrong_use_is_2_and_leaves_nothing(filled, tmp_path):
    for arguments in (
        ("nowhere",),
        ("data", "p9"),
        ("data", "--n", "0"),
        ("data", "--out", "x.jpg"),
        ("data", "--out", "data/images"),
        ("data", "--tiles", "data"),
    ):
        done = run("show", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert done.stderr.count("\n") == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
