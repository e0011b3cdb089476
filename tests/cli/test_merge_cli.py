"""`tiler merge` on the command line: exit codes, what goes to stdout and stderr, and that nothing
is left after a failure.
"""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

import tiler
from tests.conftest import Dataset, tree
from tests.merging import lines, numbers, predicted
from tiler.options import MergeOptions, PredictionOptions, RunOptions
from tiler.options.fields import option_fields

TILER = [sys.executable, "-m", "tiler"]


def run(*arguments, cwd=None, env=None):
    command = [*TILER, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})}
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    data = Dataset(root / "data").filled()
    tiler.split(
        data.yaml, out=root / "tiles", tile=128, overlap=32, min_visible=0, min_size=0, workers=1
    )
    predicted(root / "tiles", root / "preds")
    return SimpleNamespace(root=root, data=data)


@pytest.fixture
def here(made, tmp_path):
    """A folder with preds/ and tiles/ (without pixels), to be worked in."""
    shutil.copytree(made.root / "preds", tmp_path / "preds")
    shutil.copytree(
        made.root / "tiles", tmp_path / "tiles", ignore=shutil.ignore_patterns("images")
    )
    return tmp_path


def spoil(here, *rows):
    """Rows at the head of the first file of predictions; its path."""
    path = sorted((here / "preds").iterdir())[0]
    path.write_text("".join(f"{row}\n" for row in rows) + path.read_text())
    return path


def test_done_is_0_with_a_table_on_stdout_and_silence_on_stderr(here):
    done = run("merge", "preds", "--tiles", "tiles", "--out", "out", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    said, head, row, where = done.stdout.splitlines()
    assert said.startswith("Ultralytics txt, detect with confidence (6 values a row): ")
    assert said.endswith("; tiles by manifest, tiles/tiles.jsonl")
    assert head.split() == [
        "images",
        "tiles",
        "with",
        "rows",
        "rows",
        "cut",
        "rejected",
        "joined",
        "orphans",
        "detections",
    ]
    counts = json.loads((here / "out/report.json").read_text())["counts"]
    assert row.split()[:4] == [str(counts[key]) for key in ("images", "tiles", "predicted", "rows")]
    assert (
        row.split()[-1]
        == str(counts["detections"])
        == str(sum(len(numbers(p)) for p in (here / "out/labels").rglob("*.txt")))
    )
    assert where == str(here / "out")
    again = run("merge", "preds", "--tiles", "tiles", "--out", "out", cwd=here)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.splitlines()[-1] == f"already complete: {here / 'out'}"


def test_the_output_is_beside_the_predictions_by_default(here):
    assert run("merge", "preds", "--tiles", "tiles", "-q", cwd=here).returncode == 0
    assert (here / "preds-merged/predictions.json").is_file()
    shutil.copytree(here / "preds", here / "runs/predict/labels")
    for preds in ("runs/predict", "runs/predict/", "runs/predict/labels"):
        assert run("merge", preds, "--tiles", "tiles", "-q", cwd=here).returncode == 0
        assert sorted(os.listdir(here / "runs")) == ["predict", "predict-merged"]
    assert (
        run(
            "merge", ".", "--tiles", "../../../tiles", "-q", cwd=here / "runs/predict/labels"
        ).returncode
        == 0
    )
    assert sorted(os.listdir(here / "runs")) == ["predict", "predict-merged"]
    shutil.copy(here / "preds-merged/predictions.json", here / "runs/predictions.json")
    assert (
        run(
            "merge",
            "runs/predictions.json",
            "--tiles",
            "tiles",
            "--preds-base",
            "0",
            "-q",
            cwd=here,
        ).returncode
        == 0
    )
    assert sorted(os.listdir(here / "runs")) == [
        "predict",
        "predict-merged",
        "predictions-merged",
        "predictions.json",
    ]
    made, known = tree(here / "runs/predict-merged"), tree(here / "preds-merged")
    assert made.pop("args.yaml") != known.pop("args.yaml")  # which says where the predictions lie
    assert made == known


def test_findings_are_1_and_stand_on_stderr_with_file_and_line(here):
    path = spoil(here, "7 0.5 0.5 0.1 0.1 0.5", "0 0.5 0.5 0 0.1 0.5")
    (here / "preds/q.txt").write_text("0 0.5 0.5 0.1 0.1 0.5\n")
    done = run("merge", "preds", "--tiles", "tiles", cwd=here)
    assert done.returncode == 1
    assert sorted(done.stderr.splitlines()) == [
        f"preds/{path.name}:1: D04 class 7, expected a whole number from 0 to 2",
        f"preds/{path.name}:2: D06 x 64 to 64, y 57.6 to 70.4 px has no size or no area",
        "preds/q.txt: D10 not a tile according to the manifest; 1 rows left out",
    ]
    assert done.stderr.splitlines()[-1].split()[1] == "D06"  # errors first
    again = run("merge", "preds", "--tiles", "tiles", cwd=here)
    assert (again.returncode, again.stderr) == (1, done.stderr)
    assert "already complete" in again.stdout
    quiet = run("merge", "preds", "--tiles", "tiles", "-q", cwd=here)
    assert (quiet.returncode, quiet.stdout) == (1, "")
    assert [line.split()[1] for line in quiet.stderr.splitlines()] == ["D10", "D04"]


def test_notes_are_told_when_asked(here):
    spoil(here, "0 0.95 0.5 0.3 0.1 0.5")
    assert run("merge", "preds", "--tiles", "tiles", cwd=here).stderr == ""
    assert (
        "D09 reaches past its tile; clamped"
        in run("merge", "preds", "--tiles", "tiles", "-v", cwd=here).stderr
    )


def test_many_findings_are_counted(here):
    path = spoil(here, *["7 0.5 0.5 0.1 0.1 0.5"] * 30)
    done = run("merge", "preds", "--tiles", "tiles", cwd=here)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 21
    assert done.stderr.splitlines()[-1] == "... 10 more findings in report.json (or with --verbose)"
    assert len(run("merge", "preds", "--tiles", "tiles", "-v", cwd=here).stderr.splitlines()) == 30
    assert (
        sum(
            f["path"] == path.name
            for f in json.loads((here / "preds-merged/report.json").read_text())["findings"]
        )
        == 30
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (
            ["preds"],
            "where do these tiles lie? Give --tiles with the output of tiler split, or --images",
        ),
        (
            ["preds", "--tiles", "preds"],
            "--tiles preds: expected the output of tiler split, or its tiles.jsonl",
        ),
        (["preds", "--tiles", "tiles", "--method", "nmss"], "did you mean 'nms'?"),
        (["preds", "--tiles", "tiles", "--task", "pose"], "keypoints need --data with a kpt_shape"),
        (["preds", "--tiles", "tiles", "--out", "preds"], "it holds the predictions"),
        (["preds", "--tiles", "tiles", "--out", "tiles"], "holds files that are not made by tiler"),
        (
            ["preds", "--tiles", "tiles", "--config", "bad.yaml"],
            "unknown option 'metod'; did you mean 'method'?",
        ),
        (
            ["preds", "--tiles", "tiles", "--explain", "p9"],
            "--explain p9: no such image among 4, such as images/train/p0.jpg",
        ),
        (
            ["preds", "--tiles", "tiles", "--only-predicted"],
            "--only-predicted needs --data, whose labels are scored",
        ),
        (
            ["preds", "--tiles", "tiles", "--backend", "dask"],
            "dask does not run yet: its joblib backend cannot return results",
        ),
        (["bad.yaml", "--tiles", "tiles"], "bad.yaml"),
        (["tiles/report.json", "--tiles", "tiles"], "tiles/report.json"),
    ],
)
def test_wrong_use_is_2_in_one_line_and_nothing_is_written(here, arguments, message):
    (here / "bad.yaml").write_text("metod: nms\n")
    before = tree(here)
    done = run("merge", *arguments, cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(here) == before


@pytest.mark.parametrize("arguments", [["preds", "--methd", "nms"], ["--tiles"]])
def test_an_unknown_flag_is_2_and_no_traceback(here, arguments):
    done = run("merge", *arguments, cwd=here)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--conf", "0,truck=0.5"], ["--strict"]])
def test_an_error_in_the_middle_leaves_nothing(here, arguments):
    spoil(here, "7 0.5 0.5 0.1 0.1 0.5")
    before = tree(here)
    done = run("merge", "preds", "--tiles", "tiles", *arguments, cwd=here)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert tree(here) == before


def test_strict_stops_with_the_row(here):
    path = spoil(here, "7 0.5 0.5 0.1 0.1 0.5")
    done = run("merge", "preds", "--tiles", "tiles", "--strict", cwd=here)
    assert done.returncode == 2
    assert (
        f"{path.name}:1: D04 class 7, expected a whole number from 0 to 2 (--strict)" in done.stderr
    )
    assert not (here / "preds-merged").exists()


def test_json_is_one_object_and_the_report(here):
    done = run("merge", "preds", "--tiles", "tiles", "--json", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads((here / "preds-merged/report.json").read_text())
    assert str(here) not in done.stdout


def test_json_with_findings_keeps_them_apart(here):
    spoil(here, "7 0.5 0.5 0.1 0.1 0.5")
    done = run("merge", "preds", "--tiles", "tiles", "--json", cwd=here)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert json.loads(done.stdout)["findings"][0]["code"] == "D04"


def test_quiet_says_nothing(here):
    done = run("merge", "preds", "--tiles", "tiles", "-q", cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_dry_run_writes_nothing(here):
    before = tree(here)
    done = run("merge", "preds", "--tiles", "tiles", "--dry-run", cwd=here)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "dry run: nothing was written"
    assert tree(here) == before


def test_what_is_left_out_is_said(here):
    for path in (here / "preds").glob("p3__*"):
        path.unlink()
    done = run("merge", "preds", "--tiles", "tiles", cwd=here)
    assert (done.returncode, done.stdout.splitlines()[1]) == (
        0,
        "left out, without any predictions: val",
    )


def test_an_output_with_other_options_is_refused_unless_overwritten(here):
    run("merge", "preds", "--tiles", "tiles", cwd=here)
    before = tree(here)
    done = run("merge", "preds", "--tiles", "tiles", "--method", "nms", cwd=here)
    assert done.returncode == 2
    assert (
        "made with other options (method cvm -> nms); use --overwrite, or another --out"
        in done.stderr
    )
    assert tree(here) == before
    assert (
        run(
            "merge", "preds", "--tiles", "tiles", "--method", "nms", "--overwrite", cwd=here
        ).returncode
        == 0
    )
    assert "method: nms" in (here / "preds-merged/args.yaml").read_text()
    (here / "preds-merged/notes.txt").write_text("precious")
    done = run("merge", "preds", "--tiles", "tiles", "--overwrite", cwd=here)
    assert (done.returncode, "notes.txt is not made by tiler" in done.stderr) == (2, True)


def test_a_second_run_on_one_output_is_refused_with_3(here):
    from tiler.run.staging import Staging

    with Staging(here / "out"):
        done = run("merge", "preds", "--tiles", "tiles", "--out", "out", cwd=here)
    assert done.returncode == 3
    assert "another run is writing it" in done.stderr


# --- options


def test_args_are_a_valid_config_that_gives_the_same_bytes(here):
    chosen = [
        "--method",
        "wbf",
        "--conf",
        "0.1,a=0.2",
        "--groups",
        "a,b",
        "--export",
        "csv,geojson",
        "--category-base",
        "1",
    ]
    chosen += [
        "--affine",
        "1,0,5,0,-1,7",
        "--crs",
        "EPSG:32633",
        "--max-det",
        "40",
        "--class-agnostic",
    ]
    assert (
        run("merge", "preds", "--tiles", "tiles", "--out", "one", *chosen, cwd=here).returncode == 0
    )
    assert (
        run(
            "merge",
            "preds",
            "--tiles",
            "tiles",
            "--out",
            "two",
            "--config",
            "one/args.yaml",
            cwd=here,
        ).returncode
        == 0
    )
    assert tree(here / "one") == tree(here / "two")
    plain = run("merge", "preds", "--tiles", "tiles", "--out", "three", cwd=here)
    assert plain.returncode == 0
    assert (
        run(
            "merge",
            "preds",
            "--tiles",
            "tiles",
            "--out",
            "four",
            "--config",
            "three/args.yaml",
            cwd=here,
        ).returncode
        == 0
    )
    assert tree(here / "three") == tree(here / "four")


def test_flags_win_over_the_config(here):
    (here / "c.yaml").write_text("method: nms\nclass-agnostic: true\nmax_det: 3\nworkers: 1\n")
    assert (
        run(
            "merge", "preds", "--tiles", "tiles", "--config", "c.yaml", "--max-det", "5", cwd=here
        ).returncode
        == 0
    )
    content = yaml.safe_load((here / "preds-merged/args.yaml").read_text())
    assert (content["method"], content["class_agnostic"], content["max_det"]) == ("nms", True, 5)
    assert "workers" not in content


def test_help_names_every_option_in_its_group():
    done = run("merge", "--help", env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.returncode == 0
    for cls in (MergeOptions, PredictionOptions, RunOptions):
        for field in option_fields(cls):
            assert f"--{field.name.replace('_', '-')}" in done.stdout
            assert field.metadata["group"] in done.stdout
    places = [
        done.stdout.index(f"─ {group} ─")
        for group in ("Options", "Merging", "Reading", "Writing", "Run")
    ]
    assert len(set(places)) == 5
    for name in (
        "--tiles",
        "--images",
        "--data",
        "--out",
        "--explain",
        "--config",
        "--strict",
        "--json",
        "--quiet",
        "--verbose",
    ):
        assert name in done.stdout
    assert "PREDS-merged" in done.stdout


def test_without_arguments_the_help_is_shown():
    done = run("merge", env={"COLUMNS": "200", "TERM": "dumb"})
    assert "PREDS" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --- explain


def test_explain_is_a_table_of_every_row(here):
    spoil(here, "7 0.5 0.5 0.1 0.1 0.5")
    run("merge", "preds", "--tiles", "tiles", cwd=here)
    before = tree(here)
    done = run("merge", "preds", "--tiles", "tiles", "--explain", "p0", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(here) == before
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["tile", "row", "class", "conf", "box", "fate", "detection"]
    record = next(
        r for r in lines(here / "preds-merged/merged.jsonl") if r["source"].endswith("p0.jpg")
    )
    assert len(rows) == sum(tile[-1] for tile in record["tiles"])
    assert sum("rejected (D04)" in row for row in rows) == 1
    assert "rejected (D04)" in rows[-1]


def test_explain_as_json(here):
    done = run(
        "merge", "preds", "--tiles", "tiles", "--explain", "images/val/p3.jpg", "--json", cwd=here
    )
    assert done.returncode == 0
    fates = json.loads(done.stdout)
    assert set(fates[0]) == {"tile", "row", "class_id", "conf", "box", "fate", "into"}
    files = {p.stem: numbers(p) for p in (here / "preds").glob("p3__*")}
    assert {(f["tile"], f["row"]): f["conf"] for f in fates} == {
        (n, i): row[-1] for n, rows in files.items() for i, row in enumerate(rows)
    }
    assert not (here / "preds-merged").exists()


def test_explain_without_colour_or_width_is_whole(here):
    done = run(
        "merge",
        "preds",
        "--tiles",
        "tiles",
        "--explain",
        "p3",
        cwd=here,
        env={"COLUMNS": "20", "LC_ALL": "C"},
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert all(len(row.split()) >= 7 for row in done.stdout.splitlines())
    assert "…" not in done.stdout


def test_coordinates_of_another_frame_and_the_option_that_says_it(here):
    entries = []
    for path in sorted((here / "preds").glob("*.txt")):
        for line in path.read_text().splitlines():
            class_id, x, y, w, h, conf = map(float, line.split())
            box = [x - w / 2, y - h / 2, w, h]
            entry = {"image_id": path.stem, "category_id": int(class_id), "bbox": box}
            entries.append(entry | {"score": conf})
    (here / "parts.json").write_text(json.dumps(entries))
    base = ["merge", "parts.json", "--tiles", "tiles", "--preds-base", "0"]
    done = run(*base, "--out", "out", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert "say --boxes normalised" in done.stderr
    assert not (here / "out").exists()
    done = run(*base, "--boxes", "normalised", "--out", "out", cwd=here)
    assert done.returncode == 0
    run("merge", "preds", "--tiles", "tiles", "--out", "usual", cwd=here)
    counts = [
        json.loads((here / o / "report.json").read_text())["counts"] for o in ("out", "usual")
    ]
    assert counts[0]["detections"] == counts[1]["detections"]
    done = run(*base, "--boxes", "letterbox", "--out", "other", cwd=here)
    assert done.returncode == 2 and "--boxes: expected one of" in done.stderr
