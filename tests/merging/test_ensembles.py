"""Several models, or several runs, of the same or of different tiles."""

import json
import os
import signal

import numpy as np
import pytest

import tiler
from tests.cli.test_cli import run
from tests.conftest import SHARED, Dataset, needs_shared, picture, tree
from tiler.errors import TilerError
from tiler.formats import provenance
from tiler.merging import output

SIZE = (720, 400)
TILES = (0, 320)  # left sides of tiles of 400 px
CARS = [(50, 50, 90, 80), (340, 100, 380, 130), (600, 300, 640, 330), (380, 200, 440, 240)]
CONFS = [0.9, 0.8, 0.7, 0.6]


@pytest.fixture
def here(tmp_path):
    data = Dataset(tmp_path / "data", ("car",))
    data.add("scene.png", "", picture(*SIZE))
    return tmp_path


def rows(x, boxes, confs, side=400):
    text = ""
    for (x0, y0, x1, y1), conf in zip(boxes, confs, strict=True):
        left, right = max(x0, x) - x, min(x1, x + side) - x
        if right - left > 5:
            values = (left + right) / 2, (y0 + y1) / 2, right - left, y1 - y0
            text += f"0 {' '.join(repr(v / side) for v in values)} {conf}\n"
    return text


def predicted(folder, boxes=CARS, confs=CONFS, tiles=TILES, time=None):
    folder.mkdir(parents=True)
    for x in tiles:
        file = folder / f"scene__{x}_0_400_400.txt"
        file.write_text(rows(x, boxes, confs))
        if time is not None:
            os.utime(file, (time, time))
    return folder


def merge(here, preds, **options):
    return tiler.merge(preds, images=here / "data" / "images" / "train", workers=1, **options)


def found(merged):
    (key,) = merged
    return merged[key]


@pytest.mark.parametrize("ensemble", ["wbf", "nms"])
@pytest.mark.parametrize("number", [2, 3])
def test_a_run_with_itself_is_the_run(here, ensemble, number):
    preds = predicted(here / "a")
    alone = found(merge(here, preds))
    both = found(merge(here, [preds] * number, ensemble=ensemble))
    assert both.boxes.tolist() == alone.boxes.tolist()
    assert both.confidence == pytest.approx(alone.confidence)


@needs_shared
@pytest.mark.parametrize("task", ["detect", "obb", "segment"])
def test_real_predictions_with_themselves(task):
    e2e = SHARED / "data" / "e2e"
    preds = e2e / "preds" / task / "predict"
    images = e2e / "scenes" / "images"
    alone = tiler.merge(preds, images=images)
    both = tiler.merge([preds, preds], images=images)
    for key in alone:
        assert both[key].boxes == pytest.approx(alone[key].boxes, abs=1e-9)
        assert both[key].confidence == pytest.approx(alone[key].confidence)


def test_confidences_are_those_of_weighted_boxes_fusion(here):
    one = predicted(here / "a", CARS[:1], [0.9], TILES[:1])
    other = predicted(here / "b", [(52, 50, 92, 80), CARS[2]], [0.6, 0.5])
    both = found(merge(here, [one, other], weights=(2, 1)))
    by_place = dict(zip(both.boxes[:, 0].round(3).tolist(), both.confidence.tolist(), strict=True))
    mean = (2 * 0.9 * 50 + 0.6 * 52) / (2 * 0.9 + 0.6)
    assert by_place[round(mean, 3)] == pytest.approx((2 * 0.9 + 0.6) / 3)
    # only the other model has predictions in the second column of tiles
    assert by_place[600.0] == pytest.approx(0.5)


def test_a_tile_without_a_file_was_looked_at(here):
    """A detector writes no file for a tile without detections; the column and row tell."""
    one = predicted(here / "a")
    for x in TILES:
        (one / f"scene__{x}_300_400_400.txt").write_text("0 0.5 0.1 0.1 0.1 0.8\n")
    other = predicted(here / "b", CARS, CONFS)
    (other / "scene__0_300_400_400.txt").write_text("0 0.5 0.1 0.1 0.1 0.8\n")
    both = found(merge(here, [one, other]))
    lone = np.abs(both.boxes[:, 0] - (320 + 180)) < 1
    assert both.confidence[lone] == pytest.approx([0.4])


def test_models_on_different_tiles(here):
    """None looked at the other's tiles, so both count whole, and the tiles are merged."""
    one = predicted(here / "a", CARS[:3], CONFS[:3])
    other = here / "b"
    other.mkdir()
    (other / "scene__0_0_720_400.txt").write_text("0 0.5 0.5 0.1 0.1 0.7\n")
    both = found(merge(here, [one, other]))
    assert sorted(both.confidence.tolist()) == pytest.approx(sorted([*CONFS[:3], 0.7]))


def test_the_order_of_models_does_not_matter(here):
    one = predicted(here / "a")
    other = predicted(here / "b", [(x + 3, y, z + 2, w) for x, y, z, w in CARS], CONFS[::-1])
    first = found(merge(here, [one, other], weights=(2, 1)))
    second = found(merge(here, [other, one], weights=(1, 2)))
    assert first.boxes.tolist() == second.boxes.tolist()
    assert first.confidence.tolist() == second.confidence.tolist()


def test_provenance_and_explain_name_the_model(here):
    one, other = predicted(here / "a"), predicted(here / "b", confs=[0.5] * 4)
    out = here / "out"
    merge(here, [one, other], out=out)
    head = provenance.read_head(out / "merged.jsonl")
    (image,) = provenance.read_sources(out / "merged.jsonl")
    assert head.models == ["a", "b"]
    assert image.models == [0, 0, 1, 1]
    assert sum(len(members) for members in image.detections) == 12
    fates = tiler.merging.explain([one, other], "scene", images=here / "data" / "images")
    assert {fate.model for fate in fates} == {"a", "b"}
    assert len(fates) == 12


def test_it_resumes_and_is_the_same_again(here):
    preds = [predicted(here / "a"), predicted(here / "b", confs=[0.5] * 4)]
    out = here / "out"
    merge(here, preds, out=out)
    assert merge(here, preds, out=out).report.unchanged
    with pytest.raises(TilerError, match="weights"):
        merge(here, preds, out=out, weights="2,1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_after_any_image_it_ends_in_the_same_bytes(here, number):
    data = here / "data" / "images" / "train"
    preds = [predicted(here / "a"), predicted(here / "b", confs=[0.5, 0.4, 0.3, 0.2])]
    for stem in ("p", "q"):
        picture(*SIZE).save(data / f"{stem}.png")
        for folder in preds:
            for file in sorted(folder.glob("scene*.txt")):
                (folder / file.name.replace("scene", stem)).write_text(file.read_text())
    merge(here, preds, out=here / "sound", weights="2,1")
    child = os.fork()
    if child == 0:
        try:
            real, count = output.Writer.add, [0]

            def add(self, done):
                record = real(self, done)
                count[0] += 1
                if count[0] == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return record

            output.Writer.add = add
            merge(here, preds, out=here / "out", weights="2,1")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (here / "out").exists()
    merge(here, preds, out=here / "out", weights="2,1")
    assert tree(here / "out") == tree(here / "sound")


def test_its_score_says_why_tiles_are_left_out(here):
    labels = here / "data" / "labels" / "train" / "scene.txt"
    labels.write_text("0 0.1 0.1625 0.055 0.075\n")
    preds = [predicted(here / "a"), predicted(here / "b", confs=[0.5] * 4)]
    merge(here, preds, out=here / "out")
    scored = tiler.score(here / "out", data=here / "data" / "dataset.yaml", split="train")
    assert scored.seams is not None
    assert "were merged from several models; --tile-preds takes one" in str(scored.card)


def test_the_command(here):
    predicted(here / "a")
    predicted(here / "b", confs=[0.5] * 4)
    done = run("merge", "a", "b", "--weights", "2,1", "--images", "data/images/train", cwd=here)
    assert done.returncode == 0
    assert "ensemble of 2 models: a, b" in done.stdout
    args = (here / "a+b-merged" / "args.yaml").read_text()
    assert "ensemble: wbf" in args
    assert "preds:" not in args
    done = run(
        "merge", "a", "--images", "data/images/train", "--explain", "scene", "--json", cwd=here
    )
    assert "model" not in json.loads(done.stdout)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "1,2,3"}, "--weights 1,2,3: expected one for each of 2 models"),
        ({"weights": "1,0"}, "--weights: expected a number above 0"),
        ({"weights": "1,x"}, "--weights: expected a number above 0"),
        ({"ensemble": "cvm"}, "--ensemble: expected one of wbf, nms, soft-nms"),
    ],
)
def test_options_that_cannot_be(here, options, message):
    preds = [predicted(here / "a"), predicted(here / "b")]
    with pytest.raises(TilerError, match=message):
        merge(here, preds, **options)


def test_options_of_ensembles_are_not_for_one_model(here):
    preds = predicted(here / "a")
    with pytest.raises(TilerError, match="--ensemble nms: there is one model only"):
        merge(here, preds, ensemble="nms")
    with pytest.raises(TilerError, match="--weights 1: expected one for each of 2 models"):
        merge(here, [preds, preds], weights="1")


# --- the same tile in several runs


MOVED = [(x + 1, y, z + 1, w) for x, y, z, w in CARS]


def test_a_run_that_repeats_another_counts_once_and_is_said(here):
    alone = found(merge(here, predicted(here / "alone")))
    predicted(here / "runs" / "predict" / "labels", tiles=TILES[:1])
    predicted(here / "runs" / "predict2" / "labels")
    merged = merge(here, here / "runs")
    assert found(merged).boxes.tolist() == alone.boxes.tolist()
    assert found(merged).confidence.tolist() == alone.confidence.tolist()
    assert [str(f) for f in merged.report.findings] == [
        "predict2: D18 the rows of 1 tiles are those of predict; counted once"
    ]
    assert merged.report.exit_code() == 0


def test_runs_that_differ_stop_the_merge(here):
    predicted(here / "runs" / "predict" / "labels")
    predicted(here / "runs" / "predict2" / "labels", MOVED)
    with pytest.raises(TilerError, match="in predict and in predict2, .*--runs newest, or --runs"):
        merge(here, here / "runs")


def test_the_newest_run(here):
    predicted(here / "runs" / "predict" / "labels", MOVED, time=2000)
    predicted(here / "runs" / "predict2" / "labels", time=1000)
    merged = merge(here, here / "runs", runs="newest")
    assert sorted(found(merged).boxes[:, 0].tolist()) == pytest.approx([51, 341, 381, 601])
    (finding,) = merged.report.findings
    assert finding.code == "D19"
    assert "2 tiles left out, predict is newer" in finding.message


def test_runs_of_the_same_time_are_not_guessed(here):
    predicted(here / "runs" / "predict" / "labels", MOVED, time=1000)
    predicted(here / "runs" / "predict2" / "labels", time=1000)
    with pytest.raises(TilerError, match="are of the same time"):
        merge(here, here / "runs", runs="newest")


def test_all_runs_are_an_ensemble(here):
    one = predicted(here / "runs" / "predict" / "labels")
    other = predicted(here / "runs" / "predict2" / "labels", MOVED)
    runs = merge(here, here / "runs", runs="all", weights=(2, 1))
    models = merge(here, [one, other], weights=(2, 1))
    assert runs.report.models == ["runs/predict", "runs/predict2"]
    assert found(runs).boxes.tolist() == found(models).boxes.tolist()
    assert found(runs).confidence.tolist() == found(models).confidence.tolist()


def test_runs_without_a_common_tile_are_one(here):
    alone = found(merge(here, predicted(here / "alone")))
    predicted(here / "runs" / "left", tiles=TILES[:1])
    predicted(here / "runs" / "right", tiles=TILES[1:])
    for runs in ("stop", "newest", "all"):
        assert found(merge(here, here / "runs", runs=runs)).boxes.tolist() == alone.boxes.tolist()


# --- regions


def test_only_detections_whose_centre_is_in_a_region(here):
    preds = predicted(here / "a")
    region = {"type": "Polygon", "coordinates": [[[60, 60], [400, 60], [400, 210], [60, 210]]]}
    region["crs"] = {"type": "name", "properties": {"name": "pixels"}}
    (here / "roi.geojson").write_text(json.dumps(region))
    out = here / "out"
    merged = merge(here, preds, roi=here / "roi.geojson", out=out)
    assert sorted(found(merged).boxes[:, 0].tolist()) == pytest.approx([50, 340])
    assert merged.report.counts.fates["outside the roi"] == 3
    assert "roi: ../roi.geojson" in (out / "args.yaml").read_text()
    assert merge(here, preds, roi=here / "roi.geojson", out=out).report.unchanged
    (image,) = provenance.read_sources(out / "merged.jsonl")
    assert {fate for _, _, fate, _ in image.dropped} == {"outside the roi"}
    region["coordinates"][0][0] = [0, 0]
    (here / "roi.geojson").write_text(json.dumps(region))
    with pytest.raises(TilerError, match="roi"):
        merge(here, preds, roi=here / "roi.geojson", out=out)


def test_a_region_that_meets_no_image_is_an_error(here):
    region = {"type": "Polygon", "coordinates": [[[9e3, 0], [9e3, 9], [9.5e3, 9]]]}
    (here / "roi.geojson").write_text(json.dumps(region))
    with pytest.raises(TilerError, match="meet no image"):
        merge(here, predicted(here / "a"), roi=here / "roi.geojson")


def test_the_command_takes_the_region_from_a_config(here):
    predicted(here / "a")
    region = {"type": "Polygon", "coordinates": [[[0, 0], [700, 0], [700, 210], [0, 210]]]}
    (here / "roi.geojson").write_text(json.dumps(region))
    first = run(
        "merge", "a", "--images", "data/images/train", "--roi", "roi.geojson", "-o", "x", cwd=here
    )
    again = run("merge", "a", "--config", "x/args.yaml", "-o", "y", cwd=here)
    assert first.returncode == again.returncode == 0
    labels = [(here / out / "labels" / "scene.txt").read_text() for out in "xy"]
    assert labels[0] == labels[1]
    assert len(labels[0].splitlines()) == 2
