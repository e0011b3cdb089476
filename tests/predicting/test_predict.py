"""`tiler.predict`: what comes out is what split, the same model on the tiles, and merge give."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import ROOT, needs_big, tree
from tests.predicting import Rectangles, folder, scene
from tiler.errors import TilerError, Unfinished
from tiler.formats import exports
from tiler.images import reading
from tiler.predicting import default, predict, written


@pytest.fixture
def survey(tmp_path):
    truth = folder(tmp_path / "survey", images=3)
    return tmp_path / "survey", truth


def as_rows(boxes):
    return sorted(map(tuple, np.asarray(boxes).round(6).tolist()))


def labels(out):
    return {path: digest for path, digest in tree(out).items() if path != "report.json"}


def report_without_speed(out):
    content = json.loads((out / "report.json").read_text())
    del content["speed"]
    return content


@pytest.mark.parametrize("task", ["detect", "obb", "segment"])
def test_every_object_is_found_once_and_whole(survey, task):
    source, truth = survey
    stream = predict(source, Rectangles(task), overlap=48, batch=4)
    found = dict(stream)
    assert list(found) == stream.sources == sorted(truth)
    for name, instances in found.items():
        boxes, classes = truth[name]
        assert as_rows(instances.boxes) == as_rows(boxes)
        assert instances.task == task
        assert sorted(instances.class_id) == sorted(classes)
    assert stream.report.counts.detections == sum(len(boxes) for boxes, _ in truth.values())


def predicted_tiles(tiles, out, model):
    """What `yolo predict` would do: the model on each tile, a txt for those with detections."""
    out.mkdir()
    for path in sorted((tiles / "images").rglob("*.png")):
        pixels = np.array(Image.open(path).convert("RGB"))
        height, width = pixels.shape[:2]
        prepared = [model.prepared(pixels)]
        (instances,) = model.detections(model.run(prepared), [(width, height)])
        if len(instances):
            (out / f"{path.stem}.txt").write_text(exports.yolo_text(instances, width, height))


@pytest.mark.parametrize("task", ["detect", "obb", "segment"])
@pytest.mark.parametrize(
    "options",
    [
        {"tile": 128, "overlap": 32},
        {"tile": (160, 96), "overlap": 0.3, "edge": "pad"},
        {"tile": 128, "overlap": 0.2, "edge": "trim", "scale": "1,0.5"},
    ],
)
def test_it_is_split_and_model_and_merge(tmp_path, survey, task, options):
    source, _ = survey
    model = Rectangles(task)
    tiler.split(source, out=tmp_path / "tiles", format="png", unlabelled=True, **options)
    predicted_tiles(tmp_path / "tiles", tmp_path / "preds", model)
    merged = tiler.merge(tmp_path / "preds", tiles=tmp_path / "tiles", task=task)
    found = dict(predict(source, model, **options))
    assert [*found] == [*merged]
    for name, instances in found.items():
        expected = merged[name]
        assert len(instances) == len(expected)
        assert instances.class_id.tolist() == expected.class_id.tolist()
        assert np.allclose(instances.boxes, expected.boxes, atol=1e-3)
        assert np.allclose(instances.conf, expected.conf, atol=1e-8)


def test_the_output_is_that_of_merge(tmp_path, survey):
    source, _ = survey
    out = tmp_path / "out"
    report = written(Rectangles(), source, out, overlap=48, export="csv,geojson", batch=4)
    assert report.exit_code() == 0
    assert {path.name for path in out.iterdir()} == {
        "args.yaml",
        "dataset.json",
        "detections.csv",
        "geojson",
        "labels",
        "merged.jsonl",
        "predictions.json",
        "report.json",
    }
    first = json.loads((out / "merged.jsonl").read_text().splitlines()[1])
    assert first["tiles"][0][0] == "s00__0_0_128_128"
    assert f"model_fingerprint: {Rectangles().fingerprint}" in (out / "args.yaml").read_text()
    speed = json.loads((out / "report.json").read_text())["speed"]
    assert [*speed["ms_per_tile"]] == ["decode", "preprocess", "inference", "postprocess", "merge"]
    assert speed["tiles"] == report.counts.tiles
    again = written(Rectangles(), source, out, overlap=48, export="csv,geojson", batch=2)
    assert again.unchanged
    with pytest.raises(TilerError, match=r"overlap 48.0 -> 40.0"):
        written(Rectangles(), source, out, overlap=40, export="csv,geojson")
    with pytest.raises(TilerError, match="model "):
        written(
            Rectangles(size=(128, 127)), source, out, tile=128, overlap=48, export="csv,geojson"
        )
    scene(500, 400, seed=99)[0].save(source / "s01.png")
    with pytest.raises(TilerError, match=r"s01.png changed since"):
        written(Rectangles(), source, out, overlap=48, export="csv,geojson")


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 7), (5, 64)])
def test_workers_and_batch_change_no_byte(tmp_path, survey, workers, batch):
    source, _ = survey
    written(Rectangles(), source, tmp_path / "one", workers=1, batch=4, export="csv")
    written(Rectangles(), source, tmp_path / "two", workers=workers, batch=batch, export="csv")
    assert labels(tmp_path / "one") == labels(tmp_path / "two")
    assert report_without_speed(tmp_path / "one") == report_without_speed(tmp_path / "two")


def test_batches_reach_across_images_and_the_last_is_padded(survey):
    source, _ = survey
    model = Rectangles(batch=8)
    stream = predict(source, model, overlap=0)
    assert len(dict(stream)) == 3
    tiles = stream.report.counts.tiles
    assert model.calls == [8] * -(-tiles // 8)
    with pytest.raises(TilerError, match=r"--batch 4: .* takes 8 at once"):
        predict(source, model, batch=4)


def test_the_model_sees_the_whole_image_shrunken_with_full(tmp_path):
    folder(tmp_path / "a", images=1, size=(700, 500), objects=5)
    seen = []

    class Watching(Rectangles):
        def prepared(self, pixels):
            seen.append(pixels)
            return pixels

    with_full = predict(tmp_path / "a", Watching(), overlap=0, full=True, workers=1)
    dict(with_full)
    assert seen[-1].shape == (91, 128, 3)
    whole = np.asarray(Image.open(tmp_path / "a" / "s00.png"), np.float64)
    mean = np.asarray(
        Image.fromarray(whole.astype(np.uint8)).resize((128, 91), Image.Resampling.BOX)
    )
    assert np.abs(seen[-1].astype(int) - mean).max() <= 12
    assert np.abs(seen[-1].astype(int) - mean).mean() < 1


def test_an_object_larger_than_a_window_is_found_with_full(tmp_path):
    pixels = np.full((600, 600, 3), 20, np.uint8)
    pixels[100:500, 80:520] = (250, 40, 40)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "big.png")

    class Whole(Rectangles):
        """Sees only what is whole in its tile, as detectors do."""

        def detections(self, output, sizes):
            found = super().detections(output, sizes)
            kept = []
            for instances, (w, h) in zip(found, sizes, strict=True):
                b = instances.boxes
                kept.append(instances.take((b[:, :2] > 0).all(1) & (b[:, 2:] < [w, h]).all(1)))
            return kept

    ((_, found),) = predict(tmp_path / "a", Whole(), tile=128, full=True)
    assert np.allclose(found.boxes, [[80, 100, 520, 500]], atol=5)
    ((_, found),) = predict(tmp_path / "a", Whole(), tile=128)
    assert not len(found)


def test_empty_windows_are_left_out(tmp_path):
    image, _, _ = scene(500, 400, 20)
    pixels = np.asarray(image).copy()
    pixels[:, 250:] = 0
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "s.png")
    every, some = Rectangles(), Rectangles()
    ((_, expected),) = predict(tmp_path / "a", every, batch=1)
    stream = predict(tmp_path / "a", some, skip_empty=True, batch=1)
    ((_, found),) = stream
    assert stream.report.speed.skipped == len(every.calls) - len(some.calls) > 0
    assert as_rows(found.boxes) == as_rows(expected.boxes)
    assert stream.report.counts.tiles == len(every.calls)


def test_sixteen_bits_need_a_stretch(tmp_path):
    image, boxes, _ = scene(300, 300, 8)
    grey = np.asarray(image).max(axis=2).astype(np.uint16) * 200
    (tmp_path / "a").mkdir()
    Image.fromarray(grey).save(tmp_path / "a" / "s.png")
    with pytest.raises(TilerError, match="--stretch percentile"):
        predict(tmp_path / "a", Rectangles())
    ((_, found),) = predict(tmp_path / "a", Rectangles(), stretch="minmax", overlap=48)
    assert as_rows(found.boxes) == as_rows(boxes)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image, _, _ = scene(300, 200, 8)
    (tmp_path / "a").mkdir()
    suffix = "tif" if mode == "CMYK" else "png"
    image.convert(mode).save(tmp_path / "a" / f"s.{suffix}")
    dict(predict(tmp_path / "a", Rectangles()))  # the model asserts what it is given


def test_save_tiles_txt_is_what_the_model_writes_for_tiles(tmp_path, survey):
    source, _ = survey
    written(Rectangles(), source, tmp_path / "out", overlap=32, save_tiles_txt=tmp_path / "rows")
    tiler.split(source, out=tmp_path / "tiles", format="png", tile=128, overlap=32, unlabelled=True)
    predicted_tiles(tmp_path / "tiles", tmp_path / "preds", Rectangles())
    assert tree(tmp_path / "rows" / "labels") == tree(tmp_path / "preds")
    merged = tiler.merge(tmp_path / "rows", images=source, out=tmp_path / "merged")
    assert merged.report.counts.detections
    assert tree(tmp_path / "merged" / "labels") == tree(tmp_path / "out" / "labels")


@needs_big
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_image_read_by_rows_gives_the_same(tmp_path, monkeypatch, suffix):
    folder(tmp_path / "a", images=2, suffix=suffix)
    options = {"overlap": 48, "full": True, "scale": "1,0.5", "batch": 4}
    whole = dict(predict(tmp_path / "a", Rectangles(), **options))
    monkeypatch.setattr(reading, "LARGE", 1000)
    by_rows = predict(tmp_path / "a", Rectangles(), **options)
    for name, found in by_rows:
        assert found.boxes.tolist() == whole[name].boxes.tolist()
        assert found.conf.tolist() == whole[name].conf.tolist()


# --- failures


def test_an_image_that_cannot_be_read_is_named_and_the_rest_done(tmp_path, survey):
    source, _ = survey
    content = (source / "s01.png").read_bytes()
    (source / "s01.png").write_bytes(content[: len(content) // 2])
    (source / "s03.png").write_bytes(b"not an image")
    report = written(Rectangles(), source, tmp_path / "out", batch=4)
    assert report.exit_code() == 1
    assert {f.code for f in report.findings} == {"I02", "I03"}
    assert sorted(path.name for path in (tmp_path / "out" / "labels").iterdir()) == [
        "s00.txt",
        "s02.txt",
    ]
    stream = predict(source, Rectangles(), batch=4)
    assert [name for name, _ in stream] == ["s00.png", "s02.png"]
    assert stream.report.exit_code() == 1


class Failing(Rectangles):
    """Fails at tiles of an image whose first pixel is this."""

    def __init__(self, bad=None, error=None, after=0):
        super().__init__()
        self.bad, self.error, self.after = bad, error or RuntimeError("out of luck"), after

    def run(self, batch):
        seen = any((pixels[0, 0] == self.bad).all() for pixels in batch)
        if seen or len(self.calls) >= self.after > 0:
            raise self.error
        return super().run(batch)


def marked(source, name):
    """Give an image a first pixel of its own; returns that."""
    pixels = np.array(Image.open(source / name))
    pixels[0, 0] = (7, 8, 9)
    Image.fromarray(pixels).save(source / name)
    return np.array([7, 8, 9])


def test_an_image_at_which_the_model_fails_is_named_and_the_rest_done(tmp_path, survey):
    source, _ = survey
    model = Failing(bad=marked(source, "s01.png"))
    report = written(model, source, tmp_path / "out", batch=4)
    (finding,) = report.findings
    assert finding.code == "X02" and "s01.png" in str(finding) and "out of luck" in str(finding)
    assert report.exit_code() == 1
    assert report.counts.images == 3
    plain = written(Rectangles(), source, tmp_path / "plain", batch=4)
    assert plain.exit_code() == 0
    for name in ("s00.txt", "s02.txt"):
        path = f"labels/{name}"
        assert (tmp_path / "out" / path).read_bytes() == (tmp_path / "plain" / path).read_bytes()


def test_a_model_that_never_works_is_wrong_use(tmp_path, survey):
    source, _ = survey
    with pytest.raises(TilerError, match="cannot be run: RuntimeError: out of luck") as caught:
        written(Never(), source, tmp_path / "out")
    assert caught.value.exit_code == 2
    assert not list(tmp_path.glob(".*")) and not (tmp_path / "out").exists()


class Never(Rectangles):
    def run(self, batch):
        raise RuntimeError("out of luck")


def test_a_lost_device_is_unfinished_and_resumed(tmp_path, survey):
    source, _ = survey
    with pytest.raises(Unfinished, match="no longer runs") as caught:
        written(Failing(after=8), source, tmp_path / "out", batch=4)
    assert caught.value.exit_code == 3
    assert (tmp_path / ".out.partial").exists()
    written(Rectangles(), source, tmp_path / "out", batch=4)
    written(Rectangles(), source, tmp_path / "whole", batch=4)
    assert labels(tmp_path / "out") == labels(tmp_path / "whole")


def test_too_little_memory_is_unfinished_and_says_what_to_do(tmp_path, survey):
    source, _ = survey
    with pytest.raises(Unfinished, match="use a smaller --batch"):
        written(Failing(error=MemoryError(), after=2), source, tmp_path / "out", batch=4)


def test_a_stream_can_be_left(survey):
    source, _ = survey
    for _, found in predict(source, Rectangles(), batch=2):
        assert len(found)
        break


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
from tests.predicting import Rectangles
from tiler import predicting
predicting.opened = lambda model, options: model
class Slow(Rectangles):
    def run(self, batch):
        time.sleep(0.004)
        return super().run(batch)
predicting.written(Slow(), sys.argv[2], sys.argv[3], batch=4, workers=2, export="csv")
"""


def test_killed_at_any_moment_it_ends_in_the_same_bytes(tmp_path):
    folder(tmp_path / "survey", images=12, size=(300, 260), objects=10)
    written(Rectangles(), tmp_path / "survey", tmp_path / "whole", batch=4, export="csv")
    rng = random.Random(0)
    resumed = 0
    for turn in range(2):
        out = tmp_path / f"out{turn}"
        command = [sys.executable, "-c", KILLED, str(ROOT), str(tmp_path / "survey"), str(out)]
        for _ in range(4):
            child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            journal = tmp_path / f".{out.name}.partial" / "journal.jsonl"
            while child.poll() is None and not journal.exists():
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
            child.wait()
            resumed += journal.exists()
        written(Rectangles(), tmp_path / "survey", out, batch=4, export="csv")
        assert labels(out) == labels(tmp_path / "whole")
        assert report_without_speed(out) == report_without_speed(tmp_path / "whole")
    assert resumed


# --- what is asked for


def test_a_stream_writes_no_rows(tmp_path, survey):
    source, _ = survey
    with pytest.raises(TilerError, match="nothing is written"):
        predict(source, Rectangles(), save_tiles_txt=tmp_path / "rows")


def test_rows_of_windows_need_a_run(tmp_path, survey):
    source, _ = survey
    written(Rectangles(), source, tmp_path / "out")
    with pytest.raises(TilerError, match="is complete, so the model did not run"):
        written(Rectangles(), source, tmp_path / "out", save_tiles_txt=tmp_path / "rows")


class Silent:
    """A model that does not say what it detects."""

    task = None

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)


@pytest.mark.parametrize("task", ["detect", "obb", "segment"])
def test_the_task_of_a_function_is_seen_from_what_it_returns(tmp_path, survey, task):
    source, truth = survey
    stream = predict(source, Silent(Rectangles(task)), overlap=48)
    assert stream.report.task == task
    for name, found in stream:
        assert found.task == task
        assert as_rows(found.boxes) == as_rows(truth[name][0])


def test_a_model_that_suppresses_duplicates_itself_takes_no_nms_iou(survey):
    source, _ = survey
    model = Rectangles()
    model.suppresses = True
    with pytest.raises(TilerError, match="suppresses duplicates within a tile itself"):
        predict(source, model, nms_iou=0.5)
    assert len(dict(predict(source, model))) == 3


def test_a_bare_iou_names_both(survey):
    source, _ = survey
    with pytest.raises(TilerError, match=r"--nms-iou .*--merge-iou"):
        predict(source, Rectangles(), iou=0.5)


def test_a_dataset_of_several_splits_needs_one(tmp_path, filled):
    with pytest.raises(TilerError, match="say --split train, or --split all"):
        predict(filled.yaml, Rectangles(names=None), tile=128)
    assert len(predict(filled.yaml, Rectangles(names=None), split="val")) == 1
    assert len(predict(filled.yaml, Rectangles(names=None), split="all")) == 4
    with pytest.raises(TilerError, match="--split vall: .*did you mean 'val'"):
        predict(filled.yaml, Rectangles(names=None), split="vall")


def test_other_classes_than_the_datasets_are_mapped_or_rejected(filled):
    with pytest.raises(TilerError, match="--map-classes"):
        predict(filled.yaml, Rectangles(), data=filled.yaml, split="all")
    stream = predict(
        filled.yaml, Rectangles(), data=filled.yaml, split="all", map_classes="r=c,g=a"
    )
    assert stream.report.names == ["a", "b", "c"]
    dict(stream)


def test_classes_that_are_not_wanted_are_left_out(survey):
    source, truth = survey
    stream = predict(source, Rectangles(), classes="g", overlap=48)
    for name, found in stream:
        assert set(found.class_id) <= {1}
        assert len(found) == (truth[name][1] == 1).sum()


def test_only_windows_in_a_region_are_looked_at(tmp_path, survey):
    source, _ = survey
    ring = [[0, 0], [120, 0], [120, 120], [0, 120], [0, 0]]
    area = {"type": "Polygon", "coordinates": [ring]}
    crs = {"type": "name", "properties": {"name": "pixels"}}
    content = {
        "type": "FeatureCollection",
        "crs": crs,
        "features": [{"type": "Feature", "properties": {}, "geometry": area}],
    }
    (tmp_path / "roi.geojson").write_text(json.dumps(content))
    model = Rectangles()
    stream = predict(source, model, roi=tmp_path / "roi.geojson", overlap=0, batch=1)
    for _, found in stream:
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        assert (centres <= 120).all()
    assert sum(model.calls) == stream.report.counts.tiles == 3


def test_where_the_output_goes_by_default(tmp_path):
    assert default(tmp_path / "scan.tif") == tmp_path / "scan-predicted"
    assert default(tmp_path / "images") == tmp_path / "images-predicted"


def test_nothing_is_written_by_a_dry_run(tmp_path, survey):
    source, _ = survey
    options = {"dry_run": True, "save_tiles_txt": tmp_path / "rows"}
    report = written(Rectangles(), source, tmp_path / "out", **options)
    assert report.counts.detections and not (tmp_path / "out").exists()
    assert sorted(os.listdir(tmp_path)) == ["survey"]
