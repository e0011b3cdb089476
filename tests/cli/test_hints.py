"""Words of other tools are answered with ours, never with a wrong neighbour."""

import re

import pytest
import typer

from tests.cli.test_cli import run
from tiler.cli import app
from tiler.cli.hints import FIRST, OURS, REASONS, unknown_option

COMMANDS = ("split", "plan", "predict", "merge", "score", "check", "show")


def said(*arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("command", "given", "ours"),
    [
        ("split", "--imgsz", "--tile"),
        ("split", "--slice-height", "--tile"),
        ("split", "--slice_width", "--tile"),
        ("split", "--overlap-height-ratio", "--overlap"),
        ("split", "--overlap-wh", "--overlap, x and y such as 0.2x64"),
        ("split", "--rows", "--grid, columns x rows such as 3x4"),
        ("split", "--slices", "--grid, columns x rows such as 3x4"),
        ("split", "--aoi", "--roi"),
        ("split", "--project", "--out"),
        ("split", "--name", "--out"),
        ("merge", "--name", "--out"),
        ("merge", "--exist-ok", "--overwrite"),
        ("score", "--exist_ok", "--overwrite"),
        ("merge", "--conf-thres", "--conf"),
        ("merge", "--max-dets", "--max-det, detections per image"),
        ("score", "--max-det", "--max-dets, a list of limits"),
    ],
)
def test_a_word_of_another_tool_is_answered_with_ours(command, given, ours):
    assert said(command, "x", given, "1") == (
        f"tiler: there is no {given}; use {ours}; see tiler {command} --help\n"
    )


def test_score_says_why_it_has_no_iou():
    expected = "there is no --iou: the protocol sets the IoU thresholds; see --protocol and --bins"
    assert expected in said("score", "x", "--data", "y", "--iou", "0.5")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_answer_names_an_option_that_the_command_does_not_have(command):
    app.add_commands([command])
    found = typer.main.get_command(app.app)
    found = getattr(found, "commands", {command: found})[command]
    known = {option for parameter in found.params for option in parameter.opts}
    for word in (*OURS, "nonsense"):
        answer = unknown_option(command, f"--{word}", known)
        offered = {*re.findall("--[a-z-]+", answer)} - {f"--{word}"}
        if (command, word) not in REASONS:
            assert offered <= known, answer


@pytest.mark.parametrize(
    ("command", "arguments", "ours"),
    [
        ("split", ["data=a.yaml", "tile=640"], "tiler split a.yaml --tile 640"),
        (
            "split",
            ["data=a.yaml", "imgsz=640", "exist_ok=True"],
            "tiler split a.yaml --tile 640 --overwrite",
        ),
        ("merge", ["preds", "data=b.yaml"], "tiler merge preds --data b.yaml"),
        ("score", ["source=preds", "data=b.yaml"], "tiler score preds --data b.yaml"),
        ("check", ["data=a.yaml"], "tiler check a.yaml"),
        ("plan", ["data=a.yaml", "imgsz=1280"], "tiler plan a.yaml --imgsz 1280"),
        ("score", ["preds", "max_dets=1,10"], "tiler score preds --max-dets 1,10"),
    ],
)
def test_the_style_of_ultralytics_is_answered_with_the_command_to_write(command, arguments, ours):
    assert said(command, *arguments).endswith(f"write: {ours}\n")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("analyze", "use plan"),
        ("suggest", "use plan"),
        ("slice", "use split"),
        ("val", "use score"),
        ("draw", "use show"),
        ("paln", "did you mean 'plan'?"),
    ],
)
def test_a_command_of_another_tool_is_answered_with_ours(given, answer):
    expected = f"tiler: there is no command {given!r}; {answer}; see tiler --help\n"
    assert said(given, "data") == expected


def test_a_merge_is_drawn_by_show():
    assert "there is no --draw: tiler show draws the output of a merge" in said(
        "merge", "nowhere", "--draw"
    )


def test_a_value_with_an_equals_sign_is_a_value(tmp_path):
    assert "no such file" in said("merge", "nowhere", "--iou", "0.5,car=0.4")
    assert "no such file" in said("merge", "nowhere", "--iou", "car=0.4")


def test_a_file_may_have_an_equals_sign_in_its_name(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert "options are written" not in said("split", str(tmp_path / "a=b"))
    assert {command for command, _ in REASONS} <= set(COMMANDS) == set(FIRST)


def test_a_missing_path_with_an_equals_sign_is_a_missing_path():
    assert "lr=0.1/dataset.yaml: no such file" in said("split", "lr=0.1/dataset.yaml")
