"""`tiler score`, and the score that `tiler merge --data` ends with, on the command line."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

import tiler
from tests.conftest import ROOT, tree
from tests.evaluation.cases import ORACLES, needs_oracles
from tests.scoring.test_score import TWELVE, dataset, dumped, expected_of, row, same_numbers, texts
from tests.scoring.test_tiling import simulate
from tiler.errors import TilerError
from tiler.options import ReadingOptions, ScoreOptions
from tiler.options.fields import option_fields

TILER = [sys.executable, "-m", "tiler"]
SCENES = ROOT / "examples" / "scenes" / "dataset.yaml"
BOXES = [(12 * i, 10, 12 * i + 10, 30 + i) for i in range(6)]
LABELS = "".join(row(0, *box) for box in BOXES[:5]) + row(1, *BOXES[5])
FOUND = "".join(row(0, *box, 0.5 + i / 20) for i, box in enumerate(BOXES[:5])) + row(
    1, *BOXES[5], 0.4
)


def run(*arguments, cwd=None, env=None):
    command = [*TILER, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})}
    )


def strictly(text):
    """JSON without NaN or Infinity."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def here(tmp_path):
    """A folder with data/ and good/, worse/ and tiled/ predictions."""
    dataset(tmp_path / "data", {"p0": LABELS, "p1": LABELS}, {"t0": LABELS})
    texts(tmp_path / "good", {"p0": FOUND, "p1": FOUND})
    texts(tmp_path / "worse", {"p0": FOUND, "p1": row(0, 150, 60, 180, 90, 0.5)})
    texts(tmp_path / "tiled", {"p0__0_0_100_100": FOUND})
    return tmp_path


def score(here, *arguments, **more):
    return run("score", *arguments, "--data", "data/dataset.yaml", cwd=here, **more)


def test_done_is_0_with_tables_on_stdout_and_silence_on_stderr(here):
    done = score(here, "good")
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "coco",
        "ultralytics 8.4.190",
        "0.995",
        "1.000",
        "n/a",
        "2 images of val",
        "12 labels",
        "left out (seams)",
    ):
        assert text in done.stdout
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    verbose = score(here, "good", "-v")
    assert (verbose.returncode, "CPU seconds" in verbose.stdout, "note: " in verbose.stdout) == (
        0,
        True,
        True,
    )


@needs_oracles
@pytest.mark.parametrize("case", ["crowd", "no_detections"])
def test_oracles_as_json(case):
    done = run(
        "score",
        ORACLES / case / "dt.json",
        "--data",
        ORACLES / case / "gt.json",
        "--analysis",
        "none",
        "--json",
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = [
        None if value == -1 else value for value in expected_of(case)["coco_stats_1_10_100"]
    ]
    same_numbers(strictly(done.stdout)["coco"], dict(zip(TWELVE, expected, strict=True)))


def test_json_is_one_object_the_same_twice_and_the_librarys(here):
    done = score(here, "good", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    content = strictly(done.stdout)
    assert done.stdout == score(here, "good", "--json").stdout
    assert (
        done.stdout.encode() == tiler.score(here / "good", here / "data" / "dataset.yaml").encoded()
    )
    assert (content["coco"]["AP_large"], content["per_class"]["c"]["AP"]) == (None, None)
    assert str(here) not in done.stdout


def test_csv_is_a_table_of_classes(here):
    done = score(here, "good", "--csv")
    head, *rows = csv.reader(io.StringIO(done.stdout))
    assert (done.returncode, done.stderr, head[:4]) == (
        0,
        "",
        ["class", "labels", "detections", "AP"],
    )
    assert [r[:3] for r in rows] == [["a", "10", "10"], ["b", "2", "2"], ["c", "0", "0"]]
    assert float(rows[0][3]) == pytest.approx(1)
    assert rows[2][3] == ""


def test_quiet_prints_nothing(here):
    done = score(here, "good", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_findings_are_1_and_stand_on_stderr_with_their_file(here):
    (here / "good" / "q.txt").write_text(FOUND)
    (here / "good" / "p0.txt").write_text(FOUND + row(7, 1, 1, 9, 9, 0.5))
    with open(here / "data" / "labels" / "val" / "p1.txt", "a") as file:
        file.write("9 0.5 0.5 0.1 0.1\n")
    done = score(here, "good")
    assert done.returncode == 1
    assert "1.000" in done.stdout
    lines = done.stderr.splitlines()
    assert "good/p0.txt:7: D04 class 7, expected a whole number from 0 to 2" in lines
    assert any(line.startswith("data/labels/val/p1.txt:7: L04") for line in lines)
    assert any("S01 q: no image of val; 6 rows left out" in line for line in lines)
    as_json = score(here, "good", "--json")
    assert (as_json.returncode, len(strictly(as_json.stdout)["findings"])) == (1, 3)
    assert str(here) not in as_json.stdout
    assert score(here, "good", "-q").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["tiled"], "predictions on tiles (p0__0_0_100_100): run tiler merge first"),
        (["good", "--split", "tset"], "has val, train; choose from these, or all"),
        (["good", "--bins", "aitdo"], "--bins: expected coco, aitod, tinyperson, soda"),
        (["good", "--max-dets", "ten"], "--max-dets: expected auto, or increasing whole numbers"),
        (["good", "--protocol", "cocoo"], "did you mean 'coco'?"),
        (["good", "--fail-under", "ap_smal=0.2"], "no such number; did you mean 'ap_small'?"),
        (["good", "--fail-under", "ap"], "--fail-under is NAME=NUMBER"),
        (["good", "--baseline", "nowhere.json"], "--baseline nowhere.json: cannot be read"),
        (["good", "--compare", "nowhere"], "nowhere: no such file or folder"),
        (["good", "--compare", "tiled"], "tiled: "),
        (["good", "--json", "--csv"], "--json or --csv, not both"),
        (["good", "--config", "bad.yaml"], "unknown option 'protokol'; did you mean 'protocol'?"),
        (["data/images"], "no predictions found in data/images"),
        (["bad.yaml"], "bad.yaml: not predictions"),
    ],
)
def test_wrong_use_is_2_in_one_line_and_nothing_is_written(here, arguments, message):
    (here / "bad.yaml").write_text("protokol: coco\n")
    before = tree(here)
    done = score(here, *arguments, "--out", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(here) == before


@pytest.mark.parametrize(
    "arguments",
    [["good"], ["good", "--data"], ["good", "--data", "data/dataset.yaml", "--protokol", "x"]],
)
def test_a_missing_or_unknown_flag_is_2_and_no_traceback(here, arguments):
    done = run("score", *arguments, cwd=here)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--data" in done.stderr or "--protokol" in done.stderr


def test_help_names_every_option_in_its_group():
    done = run("score", "--help", env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.returncode == 0
    for cls in (ScoreOptions, ReadingOptions):
        for field in option_fields(cls):
            assert f"--{field.name.replace('_', '-')}" in done.stdout
    for name in (
        "data",
        "split",
        "tiles",
        "tile-preds",
        "images",
        "out",
        "overwrite",
        "compare",
        "fail-under",
        "baseline",
        "config",
    ):
        assert f"--{name}" in done.stdout


def test_a_config_stands_in_for_flags_and_flags_win(here):
    (here / "c.yaml").write_text("protocol: coco,voc\nmax-dets: 1,10\nreplicates: 0\n")
    content = strictly(
        score(here, "good", "--config", "c.yaml", "--max-dets", "auto", "--json").stdout
    )
    assert list(content["card"]["protocols"]) == ["coco", "voc"]
    assert content["card"]["max_dets"]["coco"] == [1, 10, 100]
    assert content["intervals"] is None


# --- gates


def test_fail_under(here):
    fine = score(here, "good", "--fail-under", "ap=0.9,map50=0.9", "--json")
    assert (fine.returncode, fine.stderr) == (0, "")
    assert [(g["name"], g["passed"]) for g in strictly(fine.stdout)["gates"]] == [
        ("ap", True),
        ("map50", True),
    ]
    below = score(here, "worse", "--fail-under", "ap=0.9,ap_large=0.1,ar_100=0.1", "-q")
    assert (below.returncode, below.stdout) == (1, "")
    first, second = below.stderr.splitlines()
    assert first.startswith("below: ap is 0.")
    assert first.endswith(", expected 0.9 or more")
    assert second == "below: ap_large is n/a, expected 0.1 or more"


def test_baseline(here):
    (here / "old.json").write_text(score(here, "good", "--json").stdout)
    assert score(here, "good", "--baseline", "old.json", "-q").returncode == 0
    worse = score(here, "worse", "--baseline", "old.json")
    assert worse.returncode == 1
    assert {line.split()[1] for line in worse.stderr.splitlines()} >= {"AP", "AP50", "map", "map50"}
    other = score(here, "good", "--baseline", "old.json", "--split", "all")
    assert (other.returncode, "of other conditions: split val, now all" in other.stderr) == (
        2,
        True,
    )


# --- two runs


def test_an_output_among_pictures_labels_or_predictions_is_refused(here):
    """There its images would be images of the dataset the next time."""
    folder = next(path for path in here.rglob("images/val") if path.is_dir())
    for out in (folder / "score", folder, here / "good" / "score"):
        done = score(here, "good", "--out", str(out))
        assert (done.returncode, "it holds what is scored, or lies in them" in done.stderr) == (
            2,
            True,
        ), out
        assert not (out / "score.json").exists()


def test_names_that_differ_by_case_are_not_mixed_up(tmp_path):
    from tiler.scoring import gates

    plain = {"coco": {"AP": 0.5}, "per_class": {"Car": {"AP": 0.8}, "car": {"AP": 0.5}}}
    assert [gate.passed for gate in gates.fail_under("per_class.Car.AP=0.7,ap=0.5", plain)] == [
        True,
        True,
    ]
    with pytest.raises(TilerError, match=r"per_class.Car.AP or per_class.car.AP\?"):
        gates.fail_under("per_class.CAR.ap=0.7", plain)


def test_a_baseline_that_lost_its_numbers_is_none(here):
    content = json.loads(score(here, "good", "--json").stdout)
    for broken in (
        {"coco": 5},
        {"coco": {}},
        {"coco": {**content["coco"], "AP": "x"}},
        {"coco": {**content["coco"], "AP": 10**400}},
    ):
        (here / "old.json").write_text(json.dumps({**content, **broken}))
        done = score(here, "good", "--baseline", "old.json")
        assert (done.returncode, "no number AP" in done.stderr) == (2, True), done.stderr


def test_without_stdout_nothing_fails(here):
    for option in ("--json", "--csv", "-v"):
        command = [
            sys.executable,
            "-m",
            "tiler",
            "score",
            "good",
            "--data",
            "data/dataset.yaml",
            option,
        ]
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *command], cwd=here, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_compare_says_which_is_better_in_words(here):
    same = score(here, "good", "--compare", "good")
    assert (same.returncode, same.stderr) == (0, "")
    assert same.stdout.splitlines()[-1] == "too few images for an interval (2)"
    table = same.stdout[same.stdout.index("first minus other") :].splitlines()[1:-1]
    assert [line.split() for line in table if line.startswith("AP ")] == [["AP", "0.000"]]
    assert not any(" to " in line for line in table)
    content = strictly(score(here, "good", "--compare", "worse", "--json").stdout)["comparison"]
    assert content["AP"]["difference"] > 0
    assert content["AP"]["verdict"] == "too few images for an interval (2)"
    assert (content["AP"]["low"], content["AP"]["high"], content["AP"]["p"]) == (None, None, None)
    alone = score(here, "good").stdout
    assert "95 %" not in alone and "\ntoo few images for an interval (2)\n" in alone


# --- --out


def test_out_is_a_folder_with_everything(here):
    pytest.importorskip("tiler.scoring.report.plots", reason="the figures are not written yet")
    pytest.importorskip("tiler.scoring.report.page", reason="the report is not written yet")
    done = score(here, "good", "--out", "out")
    assert (done.returncode, done.stderr, done.stdout.splitlines()[-1]) == (
        0,
        "",
        str(here / "out"),
    )
    assert (here / "out" / "score.json").read_text() == score(here, "good", "--json").stdout
    before = tree(here)
    assert score(here, "good", "--out", "out", "-q").returncode == 0
    assert tree(here) == before
    refused = score(here, "worse", "--out", "out")
    assert (refused.returncode, "--overwrite" in refused.stderr, tree(here) == before) == (
        2,
        True,
        True,
    )
    assert score(here, "worse", "--out", "out", "--overwrite", "-q").returncode == 0
    assert (here / "out" / "score.json").read_text() == score(here, "worse", "--json").stdout
    (here / "out" / "notes.txt").write_text("precious")
    kept = score(here, "good", "--out", "out", "--overwrite")
    assert (kept.returncode, "notes.txt is not made by tiler" in kept.stderr) == (2, True)
    assert (here / "out" / "notes.txt").read_text() == "precious"
    assert score(here, "good", "--baseline", "out/score.json", "-q").returncode == 0


# --- merge --data


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    tiler.split(SCENES, out=root / "tiles", tile=640, overlap=128, workers=1)
    simulate(root / "tiles", root / "preds")
    return SimpleNamespace(root=root)


@pytest.fixture
def there(split, tmp_path):
    """A folder with the scenes' tiles/ (without pixels) and preds/ on them."""
    shutil.copytree(split.root / "preds", tmp_path / "preds")
    shutil.copytree(
        split.root / "tiles", tmp_path / "tiles", ignore=shutil.ignore_patterns("images")
    )
    return tmp_path


def test_merge_ends_with_a_score(there):
    done = run("merge", "preds", "--tiles", "tiles", "--data", SCENES, cwd=there)
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "498",
        str(there / "preds-merged"),
        "coco",
        "ultralytics 8.4.190",
        "merge efficiency",
    ):
        assert text in done.stdout
    as_json = run("merge", "preds", "--tiles", "tiles", "--data", SCENES, "--json", cwd=there)
    merged = strictly(as_json.stdout)
    assert (as_json.returncode, as_json.stderr, merged["counts"]["detections"]) == (0, "", 498)
    after = run(
        "score",
        "preds-merged",
        "--data",
        SCENES,
        "--split",
        "all",
        "--tiles",
        "tiles",
        "--json",
        cwd=there,
    )
    assert after.returncode == 0
    scored = strictly(after.stdout)
    for name in (
        "coco",
        "coco_auto",
        "ultralytics",
        "bins",
        "per_class",
        "intervals",
        "seams",
        "errors",
        "efficiency",
        "confusion",
    ):
        assert merged["score"][name] == scored[name], name
    quiet = run("merge", "preds", "--tiles", "tiles", "--data", SCENES, "-q", cwd=there)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_merge_does_not_score_without_labels_or_without_files(there):
    done = run("merge", "preds", "--tiles", "tiles", "--json", cwd=there)
    assert "score" not in strictly(done.stdout)
    dry = run("merge", "preds", "--tiles", "tiles", "--data", SCENES, "--dry-run", cwd=there)
    assert (dry.returncode, "ultralytics 8.4.190" in dry.stdout) == (0, False)


def test_labels_that_do_not_fit_do_not_undo_a_merge(there):
    """The names fit, the images do not."""
    other = dataset(
        there / "other", {"x0": LABELS}, names=["car", "truck", "boat", "plane", "person", "tree"]
    )
    done = run("merge", "preds", "--tiles", "tiles", "--data", other.yaml, cwd=there)
    assert done.returncode == 1
    assert (there / "preds-merged" / "predictions.json").is_file()
    assert "498" in done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("tiler: no score: ")
    assert "is for an image of" in done.stderr
    as_json = run("merge", "preds", "--tiles", "tiles", "--data", other.yaml, "--json", cwd=there)
    assert as_json.returncode == 1
    assert "is for an image of" in strictly(as_json.stdout)["score"]["refused"]
    quiet = run("merge", "preds", "--tiles", "tiles", "--data", other.yaml, "-q", cwd=there)
    assert (quiet.returncode, quiet.stdout) == (1, "")
    assert quiet.stderr.startswith("tiler: no score: ")


def test_merge_scores_against_coco_too(there):
    from PIL import Image

    names = ["car", "truck", "boat", "plane", "person", "tree"]
    images, annotations = [], []
    for split in ("train", "val"):
        for path in sorted((SCENES.parent / "images" / split).iterdir()):
            with Image.open(path) as image:
                width, height = image.size
            images.append(
                {
                    "id": len(images) + 1,
                    "file_name": f"images/{split}/{path.name}",
                    "width": width,
                    "height": height,
                }
            )
            for line in (
                (SCENES.parent / "labels" / split / f"{path.stem}.txt").read_text().splitlines()
            ):
                c, x, y, w, h = map(float, line.split())
                box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
                entry = {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": int(c),
                    "bbox": box,
                }
                annotations.append({**entry, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    gt = dumped(
        there / "gt.json", {"images": images, "annotations": annotations, "categories": categories}
    )
    done = run("merge", "preds", "--tiles", "tiles", "--data", gt, "--json", cwd=there)
    assert (done.returncode, done.stderr) == (0, "")
    of_coco = strictly(done.stdout)["score"]
    of_yaml = tiler.score(there / "preds-merged", SCENES, split="all", tiles=there / "tiles")
    for name, value in of_yaml.plain()["coco"].items():
        assert of_coco["coco"][name] == (
            None if value is None else pytest.approx(value, abs=1e-3)
        ), name
    assert of_coco["efficiency"] is not None


def test_compare_of_two_merges(there):
    for method in ("cvm", "nms"):
        assert (
            run(
                "merge",
                "preds",
                "--tiles",
                "tiles",
                "--method",
                method,
                "--out",
                method,
                "-q",
                cwd=there,
            ).returncode
            == 0
        )
    done = run(
        "score", "cvm", "--compare", "nms", "--data", SCENES, "--split", "all", "--json", cwd=there
    )
    assert done.returncode == 0
    comparison = strictly(done.stdout)["comparison"]
    assert comparison["AP"]["difference"] > 0
    assert comparison["AP"]["low"] is None  # of three images nothing is shown
    assert comparison["AP"]["verdict"] == "too few images for an interval (3)"


# --- what numbers do not show by themselves


def made_of(tmp_path, labels, found):
    data = dataset(tmp_path / "data", labels)
    return data.yaml, texts(tmp_path / "preds", found)


def said(preds, data, *options):
    done = run("score", preds, "--data", data, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


ONE_LABEL = row(0, 10, 10, 30, 30)


def test_a_curve_that_was_cut_off_is_told_with_its_recall(tmp_path):
    labels = {"p0": ONE_LABEL + row(0, 60, 10, 80, 30)}
    data, preds = made_of(tmp_path, labels, {"p0": row(0, 10, 10, 30, 30, 0.3)})
    told = (
        "no detection has a confidence under 0.3: the curves of AP end there, at a recall of 0.500"
    )
    assert told in said(preds, data)
    assert "predict with conf=0.001" in said(preds, data)
    assert "they do not count, by --conf" in said(preds, data, "--conf", "0.2")
    texts(preds, {"p0": row(0, 10, 10, 30, 30, 0.3) + row(0, 99, 9, 120, 40, 0.05)})
    assert "no detection has" not in said(preds, data)


def test_images_without_predictions_are_told_with_what_they_cost(tmp_path):
    labels = {"p0": ONE_LABEL, "p1": ONE_LABEL, "p2": ""}
    data, preds = made_of(tmp_path, labels, {"p0": row(0, 10, 10, 30, 30, 0.05)})
    told = "2 of 3 images have no predictions: nothing was detected in them, so their 1 labels (50%"
    assert told in said(preds, data)
    assert "no predictions" not in said(preds, data, "--only-predicted")


def test_without_labels_every_protocol_says_so(tmp_path):
    data, preds = made_of(tmp_path, {"p0": "", "p1": ""}, {"p0": row(0, 10, 10, 30, 30, 0.5)})
    every = ("--protocol", "coco,ultralytics,ultralytics-8.3,voc,voc07,dota")
    out = said(preds, data, *every)
    assert "no labels: there is nothing to measure" in out
    assert "0.000" not in out
    content = json.loads(said(preds, data, *every, "--json"))
    for part in (content["coco"], content["ultralytics"]["map"], content["voc"]):
        values = part.values() if isinstance(part, dict) else [part]
        assert set(values) == {None}
    assert content["operating"]["all"]["precision"] is None


def test_counts_and_a_confidence_of_ones_own_are_printed(tmp_path):
    labels = {"p0": ONE_LABEL + row(1, 60, 10, 80, 30), "p1": ONE_LABEL}
    found = {"p0": row(0, 10, 10, 30, 30, 0.5), "p1": row(0, 99, 9, 120, 40, 0.05)}
    data, preds = made_of(tmp_path, labels, found)
    out = said(preds, data, "--at-conf", "0.25", "--counts", "--out", tmp_path / "out")
    assert "at confidence 0.25 (--at-conf), IoU 0.5" in out
    assert "counts at confidence 0.25, 2 images" in out
    assert "RMSE" in out
    first, *rows = (tmp_path / "out/per_image.csv").read_text().splitlines()
    assert first.endswith(
        "f1,labels of a,detections of a,labels of b,detections of b,labels of c,detections of c"
    )
    assert [line.split(",")[0] for line in rows] == ["images/val/p1.png", "images/val/p0.png"]
