"""The command line: exit codes, what goes to stdout and stderr, and that nothing is left after a
failure.
"""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT, Dataset, picture, tree
from tiler.options import CheckOptions, ModelOptions, PredictOptions, RunOptions, SplitOptions
from tiler.options.fields import flag_name, option_fields, partition

TILER = [sys.executable, "-m", "tiler"]


def run(*arguments, cwd=None, env=None):
    command = [*TILER, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})}
    )


def test_done_is_0_with_a_table_on_stdout_and_silence_on_stderr(filled, tmp_path):
    done = run("split", filled.yaml, "--tile", 128, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert head[:8] == [
        "split",
        "sources",
        "tiles",
        "background",
        "objects",
        "whole",
        "truncated",
        "lost",
    ]
    assert [row[0] for row in rows] == ["train", "val", "all"]
    assert rows[2][4] == "48"
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out")


def test_findings_are_1_and_stand_on_stderr_with_file_and_line(filled, tmp_path):
    label = filled.root / "labels/train/p0.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    done = run("split", "data", "--tile", 128, "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr
        == "data/labels/train/p0.txt:13: L04 class 7, expected a whole number from 0 to 2\n"
    )
    again = run("split", "data", "--tile", 128, "--out", "out", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (1, done.stderr)
    assert "already complete" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["split", "nowhere.yaml"], "nowhere.yaml: no such file or folder"),
        (
            ["split", "data", "--tile", "5"],
            "--tile: expected a side of 10 px or more, or WIDTHxHEIGHT (for a number of tiles: "
            "--grid), got '5'",
        ),
        (
            ["split", "data", "--tile", "64", "--overlap", "64"],
            "an overlap of 64 px leaves no stride",
        ),
        (["split", "data", "--edge", "shft"], "did you mean 'shift'?"),
        (["split", "data", "--task", "pose"], "--task pose needs kpt_shape"),
        (["split", "data", "--out", "data/images/train"], "it holds the source"),
        (["split", "data", "--images", "x"], "--images goes with annotations"),
        (["split", "data", "--config", "bad.yaml"], "unknown option 'tiel'; did you mean 'tile'?"),
        (
            ["split", "data", "--backend", "ray"],
            "ray does not run yet: its joblib backend cannot return results one by one",
        ),
        (
            ["check", "data", "--output-format", "xml"],
            "--output-format: expected one of text, json, github, got 'xml'",
        ),
    ],
)
def test_wrong_use_is_2_in_one_line_and_nothing_is_written(filled, tmp_path, arguments, message):
    (tmp_path / "bad.yaml").write_text("tiel: 640\n")
    before = tree(tmp_path)
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(tmp_path) == before


def test_an_unknown_flag_is_2(filled):
    assert run("split", filled.yaml, "--tiel", 3).returncode == 2


def test_json_is_one_object_and_the_report(filled, tmp_path):
    done = run("split", filled.yaml, "--tile", 128, "--out", tmp_path / "out", "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "out/report.json").read_text())


def test_quiet_says_nothing(filled, tmp_path):
    done = run("split", filled.yaml, "--tile", 128, "--out", tmp_path / "out", "-q")
    assert (done.stdout, done.stderr) == ("", "")


def test_a_dry_run_writes_nothing(filled, tmp_path):
    before = tree(tmp_path)
    done = run("split", filled.yaml, "--tile", 128, "--dry-run")
    assert "nothing was written" in done.stdout
    assert tree(tmp_path) == before


def test_flags_win_over_the_config(filled, tmp_path):
    (tmp_path / "c.yaml").write_text("tile: 64\noverlap: 0\nmin-visible: 0.5\n")
    run(
        "split",
        filled.yaml,
        "--config",
        tmp_path / "c.yaml",
        "--tile",
        128,
        "--out",
        tmp_path / "out",
    )
    args = (tmp_path / "out/args.yaml").read_text()
    assert "tile: 128\n" in args
    assert "overlap: 0.0\n" in args
    assert "min_visible: 0.5\n" in args


def test_strict_tells_of_lost_objects(filled, tmp_path):
    arguments = ["split", filled.yaml, "--tile", 128, "--min-size", 40, "--out", tmp_path / "out"]
    assert run(*arguments).returncode == 0
    done = run(*arguments, "--strict")
    assert done.returncode == 1
    assert "under --min-size" in done.stdout


def test_a_second_run_on_one_output_is_refused_with_3(filled, tmp_path):
    from tiler.run.staging import Staging

    with Staging(tmp_path / "out"):
        done = run("split", filled.yaml, "--tile", 128, "--out", tmp_path / "out")
    assert done.returncode == 3
    assert "another run is writing it" in done.stderr


@pytest.fixture(scope="module")
def many_tiles(tmp_path_factory):
    """A dataset that takes a moment, and the tiles of a run that nobody stopped."""
    root = tmp_path_factory.mktemp("many")
    data = Dataset(root / "data").filled(train=16, size=(900, 700))
    assert run("split", data.yaml, "--tile", 64, "--out", root / "sound").returncode == 0
    return data, tree(root / "sound")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "backend"),
    [
        (signal.SIGINT, 130, "threading"),
        (signal.SIGINT, 130, "loky"),
        (signal.SIGTERM, 143, "loky"),
        (signal.SIGHUP, 129, "threading"),
    ],
)
def test_a_signal_stops_in_one_line_and_the_rest_is_done_by_the_next_run(
    many_tiles, tmp_path, number, code, backend
):
    data, sound = many_tiles
    arguments = [
        "split",
        str(data.yaml),
        "--tile",
        "64",
        "--out",
        str(tmp_path / "out"),
        "--backend",
        backend,
    ]
    process = subprocess.Popen(
        [*TILER, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    staged = tmp_path / ".out.partial/tree/images/train"
    while process.poll() is None and not (staged.is_dir() and any(staged.iterdir())):
        time.sleep(0.005)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == code
    assert said == f"tiler: stopped by {signal.Signals(number).name}; run again to resume\n"
    assert not (tmp_path / "out").exists()
    assert run(*arguments).returncode == 0
    assert tree(tmp_path / "out") == sound


def test_a_lost_worker_is_made_up_for(many_tiles, tmp_path):
    data, sound = many_tiles
    arguments = [
        "split",
        str(data.yaml),
        "--tile",
        "64",
        "--out",
        str(tmp_path / "out"),
        "--backend",
        "loky",
        "--workers",
        "2",
    ]
    process = subprocess.Popen([*TILER, *arguments], stderr=subprocess.PIPE, text=True)
    staged = tmp_path / ".out.partial/tree/images/train"
    while process.poll() is None and not (staged.is_dir() and any(staged.iterdir())):
        time.sleep(0.005)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    os.kill(children[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert tree(tmp_path / "out") == sound


def test_an_ascii_terminal_is_enough(tmp_path):
    from tests.conftest import Dataset

    data = Dataset(tmp_path / "däta", names=("日本", "b"))
    data.add("é\n.jpg", "0 0.5 0.5 0.1 0.1\n5 0.5 0.5 0.1 0.1\n")
    data.add("v.jpg", "", split="val")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "20"}
    done = run("split", data.yaml, "--tile", 128, "--out", tmp_path / "out", env=env)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_bar_is_for_terminals(filled, tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*TILER, "split", str(filled.yaml), "--tile", "64", "--out", str(tmp_path / "out")],
        stderr=slave, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error on Linux
        while part := os.read(master, 100_000):
            shown += part
    process.communicate()
    os.close(master)
    assert b"4/4" in shown


def test_an_internal_error_is_one_line_unless_debugging(filled, tmp_path):
    code = (
        "import sys, tiler.splitting as s\n"
        "def broken(*a, **k): raise ZeroDivisionError('oops')\n"
        "s.split = broken\n"
        "from tiler.cli import main\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "split", str(filled.yaml)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("tiler: internal error: ZeroDivisionError: oops")
    assert done.stderr.count("\n") == 1
    debug = subprocess.run([*command[:3], "--debug", *command[3:]], capture_output=True, text=True)
    assert "Traceback" in debug.stderr


def test_every_option_is_in_the_default_config_with_its_default():
    import yaml

    content = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
    assert list(content) == [
        f.name for cls in (SplitOptions, RunOptions) for f in option_fields(cls)
    ]
    assert (
        SplitOptions.of({f.name: content[f.name] for f in option_fields(SplitOptions)})
        == SplitOptions()
    )
    assert (
        RunOptions.of({f.name: content[f.name] for f in option_fields(RunOptions)}) == RunOptions()
    )


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_presets_are_valid(path):
    import yaml

    groups = (SplitOptions, RunOptions)
    if path.stem == "predict":
        groups = (PredictOptions, ModelOptions)
    content = yaml.safe_load(path.read_text())
    for group, given in zip(groups, partition(content, *groups), strict=True):
        group.of(given)


@pytest.mark.parametrize(
    ("command", "classes"), [("split", (SplitOptions, RunOptions)), ("check", (CheckOptions,))]
)
def test_help_names_every_option(command, classes):
    shown = run(command, "--help", env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    for cls in classes:
        for field in option_fields(cls):
            assert flag_name(field.name) in shown


# --- check


def test_check_of_a_sound_set_is_0(filled):
    done = run("check", filled.yaml)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "detect dataset (48 boxes, 0 outlines): 4 images, 48 rows: 0 errors, 0 warnings, 0 notes\n"
    )


def test_check_prints_path_line_code_message(filled, tmp_path):
    (filled.root / "labels/train/p0.txt").write_text("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 nan\n")
    (filled.root / "labels/train/p1.txt").unlink()
    done = run("check", "data", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "data/labels/train/p0.txt:2: L02 found nan, expected finite numbers",
        "data/images/train/p1.jpg: P01 no label file",
    ]
    github = run("check", "data", "--output-format", "github", cwd=tmp_path)
    assert github.stdout.splitlines()[0] == (
        "::error file=data/labels/train/p0.txt,line=2,title=L02::found nan, expected finite numbers"
    )
    content = json.loads(run("check", "data", "--output-format", "json", cwd=tmp_path).stdout)
    assert content["findings"][0] == {
        "path": "data/labels/train/p0.txt", "line": 2, "code": "L02", "level": "error", "count": 1,
        "message": "found nan, expected finite numbers",
    }  # fmt: skip


def test_check_of_what_cannot_be_used_is_2(tmp_path):
    (tmp_path / "d.yaml").write_text("- a\n")
    done = run("check", tmp_path / "d.yaml")
    assert (done.returncode, done.stdout) == (2, "")


def test_check_of_our_own_output_finds_what_was_changed_in_it(filled, tmp_path):
    run("split", filled.yaml, "--tile", 128, "--out", tmp_path / "out")
    assert run("check", tmp_path / "out").returncode == 0
    labels = sorted((tmp_path / "out/labels/train").iterdir())
    labels[0].write_text("0 0.5 0.5 0.123 0.1\n" * 1 + labels[0].read_text())
    (tmp_path / "out/images/train" / f"{labels[1].stem}.jpg").unlink()
    done = run("check", tmp_path / "out")
    assert {line.split(": ")[1].split()[0] for line in done.stdout.splitlines()} >= {"T01", "T02"}


def test_check_sees_the_same_picture_in_two_splits(dataset):
    dataset.add("a.jpg", "", picture(seed=1))
    dataset.add("b.jpg", "", picture(seed=1), "val")
    done = run("check", dataset.yaml)
    assert "images/val/b.jpg: P04 is in val and, as images/train/a.jpg, in train" in done.stdout


def test_json_has_the_real_path_and_the_terminal_the_printable_one(dataset, tmp_path):
    name = "a\n::error\x1b[31m.jpg"
    dataset.add(name, "9 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n")
    dataset.add("v.jpg", "", split="val")
    real = f"labels/train/{name[:-4]}.txt"
    found = json.loads(run("check", dataset.root, "--output-format", "json").stdout)["findings"]
    assert os.path.relpath(found[0]["path"], dataset.root).replace(os.sep, "/").endswith(real)
    for form in ("text", "github"):
        shown = run("check", dataset.root, "--output-format", form).stdout
        assert len(shown.splitlines()) == 1
        assert shown.strip().isprintable()
    split = run("split", dataset.root, "--tile", 128, "--out", tmp_path / "out", "--json")
    assert json.loads(split.stdout)["findings"][0]["path"] == real
    assert len(split.stderr.splitlines()) == 1
    assert split.stderr.strip().isprintable()


@pytest.mark.parametrize("split", ["test", "minival"])
@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
def test_a_split_that_the_trainer_does_not_need_is_a_warning(tmp_path, split, there):
    data = Dataset(tmp_path / "data", **{split: f"images/{split}"}).filled()
    if there:
        (data.root / "images" / split).mkdir()
    done = run("split", data.yaml, "--tile", 128, "--out", tmp_path / "out")
    assert done.returncode == 0
    assert f"Y05 split {split}: no " in done.stderr
    assert (tmp_path / "out/dataset.yaml").read_text().count("images/") == 2
