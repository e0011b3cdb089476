"""`tiler plan` on the command line."""

import json

import pytest
from PIL import Image

from tests.cli.test_cli import run
from tests.conftest import ROOT, picture, tree

SCENES = ROOT / "examples/scenes"


def test_the_table_the_reason_and_the_command_at_last(tmp_path):
    done = run("plan", SCENES, "--tile", "512,640", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"tiler split {SCENES} --tile 512 --overlap 23"
    assert [line for line in lines if line.endswith("recommended")] == [
        "512          23     60       0.0 %  15.7  2.1   98.1 %       99.0 %             19.7  "
        "recommended"
    ]
    rows = [line for line in lines if line.split()[:1] in (["none"], ["512"], ["640"])]
    assert len(rows) == 9
    assert max(map(len, rows)) <= 100
    assert "✗: below --keep 99 or --min-px 16" in lines
    assert not tree(tmp_path)


def test_the_command_that_is_recommended_does_what_was_said(tmp_path):
    done = run("plan", SCENES, "--quiet", "--json", cwd=tmp_path)
    plan = json.loads(done.stdout)
    chosen = plan["settings"][plan["recommended"]]
    command = plan["command"].split()[1:]
    split = json.loads(run(*command, "--out", "tiles", "--json", cwd=tmp_path).stdout)
    counts = [of["counts"] for of in split["splits"].values()]
    assert sum(count["tiles"] for count in counts) == chosen["tiles"]
    assert sum(count["background"] for count in counts) == chosen["background"]


def test_quiet_prints_the_command_alone():
    done = run("plan", SCENES, "--quiet", "--tile", 512, "--overlap", "0.1")
    assert done.stdout == f"tiler split {SCENES} --tile 512 --overlap 0.1\n"


def test_findings_are_1_and_stand_on_stderr(filled, tmp_path):
    label = filled.root / "labels/train/p0.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    done = run("plan", "data", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "data/labels/train/p0.txt:13: L04 class 7, expected a whole number from 0 to 2\n"
    )
    assert "No tiles are needed" in done.stdout


def test_a_sample_marks_what_is_scaled(filled, tmp_path):
    done = run("plan", "data", "--sample", 2, "--tile", 128, cwd=tmp_path)
    assert "Counted on 2 of 4 images (--sample); numbers with ~ are scaled to all." in done.stdout
    (row, *_) = [line for line in done.stdout.splitlines() if line.startswith("none")]
    assert row.split()[1] == "~4"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--imgsz", "0"], "--imgsz: expected a whole number from 32 to 65500"),
        (["--keep", "101"], "--keep: expected a number from 0 to 100"),
        (["--tile", "640,x"], "--tile: expected auto, or sides of 10 px or more"),
        (["--overlap", "0.2;3"], "--overlap: expected auto, or fractions of the tile below 1"),
        (["--tile", "64", "--overlap", "64"], "leaves no stride in a tile of 64 px"),
    ],
)
def test_wrong_use_is_2(given, expected, filled):
    done = run("plan", filled.yaml, *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr


def test_a_plot_is_a_new_file(filled, tmp_path):
    pytest.importorskip("matplotlib")
    done = run("plan", filled.yaml, "--plot", tmp_path / "plan.png", "--tile", "128,256")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "plan.png") as image:
        assert image.format == "PNG"
    before = tree(tmp_path)
    again = run("plan", filled.yaml, "--plot", tmp_path / "plan.png")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == (
        f"tiler: {tmp_path}/plan.png: exists; remove it, or name another file\n"
    )
    assert tree(tmp_path) == before
    nowhere = run("plan", filled.yaml, "--plot", tmp_path / "no" / "plan.png")
    assert nowhere.returncode == 2
    assert "cannot be written" in nowhere.stderr


def test_without_objects_it_says_so(dataset):
    dataset.add("a.png", "", picture(1000, 800))
    dataset.add("b.png", "", picture(1000, 800), "val")
    done = run("plan", dataset.yaml)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "There are no objects to choose a tile by."
