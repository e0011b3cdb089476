"""`tiler predict` on the command line: exit codes, what goes to stdout and stderr."""

import json

import pytest
import yaml

from tests.cli.test_cli import run
from tests.conftest import ROOT, tree
from tests.predicting import folder

MODEL = """
from types import SimpleNamespace
from tests.predicting import rectangles


def detect(tiles):
    found = []
    for tile in tiles:
        boxes, classes = rectangles(tile)
        found.append(SimpleNamespace(xyxy=boxes, confidence=[0.9] * len(boxes), class_id=classes))
    return found


def broken(tiles):
    raise RuntimeError("out of luck")
"""
HERE = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def here(tmp_path):
    folder(tmp_path / "survey", images=2)
    (tmp_path / "mine.py").write_text(MODEL)
    return tmp_path


def predict(here, *arguments):
    return run("predict", *arguments, cwd=here, env=HERE)


def test_done_is_0_with_tables_on_stdout_and_silence_on_stderr(here):
    done = predict(here, "mine:detect", "survey", "--tile", 128, "--names", "r,g,b")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "mine:detect" in lines[0]
    assert lines[1].split()[:3] == ["images", "tiles", "with"]
    assert lines[3].split() == [
        *("ms", "per", "tile", "decode", "preprocess", "inference", "postprocess", "merge"),
        "tiles/s",
    ]
    assert lines[-1] == str(here / "survey-predicted")
    again = predict(here, "mine:detect", "survey", "--tile", 128, "--names", "r,g,b")
    assert again.returncode == 0
    assert "already complete" in again.stdout and "ms per tile" not in again.stdout


def test_its_args_yaml_is_a_config(here):
    assert predict(here, "mine:detect", "survey", "--tile", 128, "--out", "one").returncode == 0
    args = yaml.safe_load((here / "one" / "args.yaml").read_text())
    assert args["source"] == "../survey" and args["model_fingerprint"]
    done = predict(here, "mine:detect", "survey", "--config", "one/args.yaml", "--out", "two")
    assert (done.returncode, done.stderr) == (0, "")
    one, two = tree(here / "one"), tree(here / "two")
    assert {name for name in one if one[name] != two[name]} <= {"report.json"}


def test_json_has_report_speed_and_score(here, filled):
    done = predict(
        here, "mine:detect", filled.yaml, "--split", "val", "--tile", 128, "--json",
        *("--data", filled.yaml, "--out", "out", "--save-tiles-txt", "rows"),
    )  # fmt: skip
    content = json.loads(done.stdout)
    assert content["speed"]["tiles"] == content["counts"]["tiles"]
    assert "coco" in content["score"]


def test_an_unreadable_image_is_1_and_named(here):
    (here / "survey" / "s09.png").write_bytes(b"no image")
    done = predict(here, "mine:detect", "survey", "--tile", 128)
    assert done.returncode == 1
    assert "s09.png" in done.stderr and "I02" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--iou", "0.5"), "--nms-iou is of the model, within a tile; --merge-iou of the merge"),
        ((), "say --tile"),
        (("--tile", "128", "--only-predicted"), "--only-predicted needs --data"),
        (("--tile", "128", "--method", "nms", "--orphans", "drop"), "does not use it"),
        (("--tile", "128", "--parts", "largest"), "only outlines have parts"),
        (("--tile", "128", "--scale", "0"), "factors from"),
    ],
)
def test_wrong_use_is_2(here, arguments, said):
    done = predict(here, "mine:detect", "survey", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_config_with_a_bare_iou_is_2(here):
    (here / "c.yaml").write_text("iou: 0.5\n")
    done = predict(here, "mine:detect", "survey", "--tile", 128, "--config", "c.yaml")
    assert done.returncode == 2 and "--merge-iou" in done.stderr


def test_a_model_that_never_works_is_2_and_leaves_nothing(here):
    done = predict(here, "mine:broken", "survey", "--tile", 128)
    assert done.returncode == 2
    assert "out of luck" in done.stderr
    assert not (here / "survey-predicted").exists() and not list(here.glob(".survey*"))


def test_the_preset_is_a_config(here):
    config = ROOT / "configs" / "predict.yaml"
    done = predict(here, "mine:detect", "survey", "--config", config, "--names", "r,g,b")
    assert (done.returncode, done.stderr) == (0, "")
