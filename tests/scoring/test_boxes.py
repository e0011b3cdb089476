"""Boxes of outlines and poses: beside these, and alone by `--task detect`; and what a score says of
its input.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

import tiler
from tests.cli.test_cli import run
from tests.conftest import ROOT
from tests.scoring.test_score import H, W, dataset, dumped, outline, row, texts
from tiler.cli.printing import findings as printed
from tiler.errors import TilerError
from tiler.findings import Finding

CORNERS = [(20, 20), (60, 20), (60, 60), (20, 60)]
TRIANGLE = [(20, 20), (60, 20), (40, 60)]  # of the same box
POSE = {"kpt_shape": "[2, 3]"}


def pose(x, *conf):
    """A row of a box of 40 x 40 px with two keypoints."""
    points = [(x + 10) / W, 30 / H, 2, (x + 30) / W, 50 / H, 2]
    return " ".join(map(repr, [0, (x + 20) / W, 40 / H, 40 / W, 40 / H, *points, *conf])) + "\n"


def made(tmp_path, task):
    """A dataset of one image in each split, and predictions: an outline that half fits, in a box
    that fits.
    """
    if task == "pose":
        labels, found, extra = pose(20), pose(20, 0.9), POSE
    elif task == "obb":
        labels, found, extra = outline(0, CORNERS), outline(0, CORNERS, 0.9), {}
    else:
        other = [(90, 20), (130, 20), (130, 60), (110, 70), (90, 60)]
        labels = outline(0, CORNERS) + outline(0, other)
        found, extra = outline(0, TRIANGLE, 0.9) + outline(0, other, 0.8), {}
    data = dataset(tmp_path / "data", {"p": labels}, {"t": labels}, names=["a"], **extra)
    return data, texts(tmp_path / "preds", {"p": found})


def merged(tmp_path, task, options=()):
    """The same as predicted on tiles that are the images, merged."""
    data, preds = made(tmp_path, task)
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=200, task=task, workers=1)
    (name,) = [p.stem for p in (tmp_path / "tiles/labels/val").glob("*.txt")]
    (preds / "p.txt").rename(preds / f"{name}.txt")
    tiler.merge(
        preds, tiles=tmp_path / "tiles", out=tmp_path / "preds-merged", workers=1, **dict(options)
    )
    return data, tmp_path / "preds-merged"


@pytest.mark.parametrize("task", ["segment", "pose"])
@pytest.mark.parametrize("source", [made, merged])
def test_boxes_beside_and_alone(tmp_path, task, source):
    data, preds = source(tmp_path, task)
    options = {"split": "val", "analysis": "none"}
    both = tiler.score(preds, data.yaml, task=task if source is made else "auto", **options)
    alone = tiler.score(preds, data.yaml, task="detect", **options)
    assert (both.card["task"], alone.card["task"]) == (task, "detect")
    assert alone.boxes is None and "boxes" not in alone.plain()
    for name in alone.coco:
        if name in both.boxes["coco"]:
            np.testing.assert_equal(both.boxes["coco"][name], alone.coco[name])
    assert both.boxes["coco_auto"]["AP"] == alone.coco_auto["AP"] == pytest.approx(1)
    assert both.boxes["ultralytics"]["map"] == pytest.approx(alone.map)
    if task == "segment":  # the triangle is half its box
        assert both.coco["AP"] < 0.7


@pytest.mark.parametrize("task", ["segment", "obb"])
def test_boxes_alone_of_obb_and_of_json(tmp_path, task):
    data, preds = merged(tmp_path, task)
    for given in (preds, preds / "predictions.json"):
        metrics = tiler.score(given, data.yaml, split="val", task="detect", analysis="none")
        assert (metrics.card["task"], metrics.coco["AP"]) == ("detect", pytest.approx(1))
    full = tiler.score(preds, data.yaml, split="val", task="detect", tile_preds=tmp_path / "preds")
    assert full.efficiency is not None and full.efficiency.nomerge.ap == pytest.approx(1)


def test_another_task_than_what_was_merged_is_an_error(tmp_path):
    data, preds = merged(tmp_path, "segment")
    with pytest.raises(
        TilerError, match="--task obb: .* was merged as segment; --task detect scores its boxes"
    ):
        tiler.score(preds, data.yaml, split="val", task="obb")
    labels = dataset(tmp_path / "boxes", {"p": row(0, 20, 20, 60, 60)}, names=["a"])
    with pytest.raises(
        TilerError, match="--task segment: detections are segment, labels detect, of which boxes"
    ):
        tiler.score(preds, labels.yaml, split="val", task="segment")


def test_the_command_prints_boxes_beside_outlines_and_says_how_obbs_are_compared(tmp_path):
    data, preds = merged(tmp_path, "segment")
    done = run(
        "score", preds, "--data", data.yaml, "--split", "val", "--analysis", "none", cwd=tmp_path
    )
    lines = [line.split("  ")[0] for line in done.stdout.splitlines()]
    for name in (
        "coco, 100 a class and image",
        "coco, boxes, 100 a class and image",
        "coco, boxes, all (100)",
    ):
        assert name in lines
    assert "ultralytics 8.4.190, boxes, 300 an image" in lines
    assert "size of a detection: width times height of the box" in lines
    only = run(
        "score",
        preds,
        "--data",
        data.yaml,
        "--split",
        "val",
        "--task",
        "detect",
        "--analysis",
        "none",
        cwd=tmp_path,
    )
    assert "detect, IoU of boxes" in only.stdout and "boxes, " not in only.stdout.replace(
        "IoU of boxes", ""
    )
    data, preds = merged(tmp_path / "obb", "obb")
    done = run(
        "score", preds, "--data", data.yaml, "--split", "val", "--analysis", "none", cwd=tmp_path
    )
    assert "coco (IoU of polygons), 100 a class and image" in done.stdout
    assert "ultralytics 8.4.190 (ProbIoU), 300 an image" in done.stdout
    assert "…" not in done.stdout


def many(count, conf=True):
    """Rows of so many boxes."""
    return "".join(
        row(0, 1 + i % 150, 5, 20 + i % 150, 50, *([0.5] if conf else [])) for i in range(count)
    )


@pytest.mark.parametrize(("count", "said"), [(299, False), (300, True), (301, False)])
def test_images_with_exactly_as_many_as_a_detector_keeps_are_told(tmp_path, count, said):
    data = dataset(
        tmp_path / "data", {"p": row(0, 20, 20, 60, 60), "q": row(0, 20, 20, 60, 60)}, names=["a"]
    )
    preds = texts(tmp_path / "preds", {"p": many(count), "q": many(3)})
    metrics = tiler.score(preds, data.yaml, split="val", analysis="none")
    assert [f.code for f in metrics.findings] == ["D11"] * said and metrics.exit_code() == 0
    if said:
        what = (
            "images with exactly 300 rows: 1 (images/val/p.png): the max_det may have cut off "
            "more; set it higher"
        )
        assert metrics.findings[0].message == what
    entry = {"category_id": 0, "bbox": [1, 1, 9, 9], "score": 0.5}
    dt = dumped(tmp_path / "dt.json", [{**entry, "image_id": "p"} for _ in range(count)])
    assert [f.code for f in tiler.score(dt, data.yaml, split="val", analysis="none").findings] == [
        "D11"
    ] * said


def test_tiles_of_merged_ones_and_what_merge_was_told_to_keep(tmp_path):
    data = dataset(tmp_path / "data", {"p": row(0, 20, 20, 60, 60)}, names=["a"])
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=200, workers=1)
    (name,) = [p.stem for p in (tmp_path / "tiles/labels/val").glob("*.txt")]
    preds = texts(tmp_path / "preds", {name: many(300)})
    tiler.merge(preds, tiles=tmp_path / "tiles", out=tmp_path / "all", method="none", workers=1)
    tiler.merge(
        preds, tiles=tmp_path / "tiles", out=tmp_path / "some", max_det=7, method="none", workers=1
    )
    tile = (
        f"tiles with exactly 300 rows: 1 ({name}): the max_det may have cut off more; set it higher"
    )
    for folder, images in (
        ("all", []),
        ("some", ["images with exactly 7 rows: 1 (images/val/p.png)"]),
    ):
        found = tiler.score(tmp_path / folder, data.yaml, split="val", analysis="none").findings
        assert [f.message.split(": the max_det")[0] for f in found] == [
            *images,
            tile.split(": the max_det")[0],
        ]


def test_entries_without_size_are_one_line_with_their_count(tmp_path, capsys):
    data = dataset(tmp_path / "data", {f"p{i}": "" for i in range(13)}, names=["a"])
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=200, workers=1)
    names = [p.stem for p in sorted((tmp_path / "tiles/labels/val").glob("*.txt"))]
    entries = [{"image_id": n, "category_id": 0, "bbox": [5, 5, 0, 9], "score": 0.5} for n in names]
    entries += [
        {"image_id": n, "category_id": 0, "bbox": [5, 5, 9, 9], "score": 0.5} for n in names
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    arguments = (
        "merge",
        "predictions.json",
        "--tiles",
        "tiles",
        "--preds-base",
        "0",
        "--out",
        "out",
    )
    done = run(*arguments, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (0, 1)
    assert "D06 entry 0: " in lines[0] and lines[0].endswith("(and 12 more)")
    # as report.json has them
    assert len(run(*arguments, "-v", "--overwrite", cwd=tmp_path).stderr.splitlines()) == 10
    # a line of a txt is a place to look at
    rows = [Finding("a.txt", "D06", "no size", line) for line in (1, 2)]
    printed(rows, "", False, False)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_confidences_that_are_assumed_are_called_so(tmp_path):
    data = dataset(tmp_path / "data", {"p": row(0, 20, 20, 60, 60)}, names=["a"])
    preds = texts(tmp_path / "preds", {"p": many(3, conf=False)})
    metrics = tiler.score(preds, data.yaml, split="val", assume_conf=1, analysis="none")
    assert metrics.card["predictions"] == (
        "Ultralytics txt, detect without confidence, taken as 1 (5 values a row): 1 files, 3 rows"
    )


def test_the_example_that_draws_says_which_source_it_needs(tmp_path):
    data = dataset(tmp_path / "data", {"p": row(0, 20, 20, 60, 60)}, names=["a"])
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=100, workers=1)
    command = [
        sys.executable,
        str(ROOT / "examples/draw.py"),
        "--sheet",
        str(tmp_path / "tiles"),
        str(tmp_path / "out.jpg"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "say --source, the path of an image that was (images/train/t0.png, " in done.stderr
    source = str(tmp_path / "data/images/val/p.png")
    assert subprocess.run([*command, "--source", source]).returncode == 0
    assert (tmp_path / "out.jpg").stat().st_size


def test_a_gap_that_is_not_there_says_why(tmp_path):
    data = dataset(tmp_path / "data", {"p": row(0, 20, 20, 60, 60)}, names=["a"])
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=200, workers=1)
    (name,) = [p.stem for p in (tmp_path / "tiles/labels/val").glob("*.txt")]
    preds = texts(tmp_path / "preds", {name: row(0, 20, 20, 60, 60, 0.9)})
    tiler.merge(preds, tiles=tmp_path / "tiles", out=tmp_path / "merged", workers=1)
    done = run("score", "merged", "--data", "data", "--split", "val", "--out", "out", cwd=tmp_path)
    why = "no label lies at a seam (less than 4 px inside every tile)"
    assert f"seam gap: n/a, {why}\n" in done.stdout
    assert why in (tmp_path / "out/report.html").read_text()
    assert json.loads((tmp_path / "out/score.json").read_text())["seams"]["gap"]["missing"] == why
