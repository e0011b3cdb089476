"""dataset.json beside predictions.json, and the training set of merged labels: as the tools that
they are for read them.
"""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

import tiler
from tests.conftest import Dataset, picture, tree
from tests.merging import predicted
from tiler.errors import TilerError, Unfinished
from tiler.formats import manifest
from tiler.geometry.instances import Instances
from tiler.merging import output
from tiler.merging.training import divided, place, training_labels

TASKS = ("detect", "obb", "segment", "pose")
NAMES = ("a", "b", "c")
SIZE = (400, 300)


def row(task, class_id, x, y, w, h):
    """A label row, in parts of the image."""
    corners = [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)]
    if task == "obb":
        values = np.ravel(corners)
    elif task == "segment":
        values = np.ravel([*corners, (x - 1.2 * w, y)])
    else:
        values = [x, y, 2 * w, 2 * h]
    if task == "pose":
        values = [*values, x, y, 2, x + w / 2, y, 1, 0, 0, 0]
    return " ".join([str(class_id), *(f"{value:.6f}" for value in values)]) + "\n"


def made(root, task, splits=("train", "train", "val"), **extra):
    """A dataset, split, and its labels as predictions."""
    if task == "pose":
        extra["kpt_shape"] = [3, 3]
    data = Dataset(root / "data", NAMES, **extra)
    for i, split in enumerate(splits):
        rng = np.random.default_rng(i)
        text = ""
        for _ in range(9):
            x, y = rng.uniform(0.2, 0.8, 2)
            text += row(task, rng.integers(3), x, y, *rng.uniform(0.03, 0.09, 2))
        data.add(f"p{i}.jpg", text, picture(*SIZE, seed=i), split)
    tiles = root / "tiles"
    tiler.split(data.yaml, out=tiles, tile=200, overlap=40, task=task, workers=1)
    return data, tiles, predicted(tiles, root / "preds")


def merge(preds, tiles, out, **options):
    return tiler.merge(preds, tiles=tiles, out=out, workers=1, **options)


def content(path):
    return json.loads(Path(path).read_text())


# --- dataset.json


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ids", ["names", "numbers"])
def test_pycocotools_reads_the_pair(tmp_path, task, ids):
    coco = pytest.importorskip("pycocotools.coco")
    _, tiles, preds = made(tmp_path, task)
    merge(preds, tiles, tmp_path / "out", image_ids=ids)
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO(str(tmp_path / "out/dataset.json"))
        results = dataset.loadRes(str(tmp_path / "out/predictions.json"))
    entries = content(tmp_path / "out/predictions.json")
    assert len(entries) == len(results.anns) == len(dataset.anns) > 0
    assert sorted(dataset.anns) == list(range(1, len(entries) + 1))
    for entry, annotation in zip(entries, dataset.dataset["annotations"], strict=True):
        same = {"image_id", "category_id", "bbox", "score", "segmentation", "keypoints"}
        for name in same & set(entry):
            assert annotation[name] == entry[name]
        assert annotation["iscrowd"] == 0
    assert [each["name"] for each in dataset.loadCats(dataset.getCatIds())] == list(NAMES)
    kinds = {type(image["id"]) for image in dataset.dataset["images"]}
    assert kinds == {str if ids == "names" else int}
    if task in ("obb", "segment"):
        areas = [each["area"] for each in dataset.dataset["annotations"]]
        theirs = [results.anns[i]["area"] for i in sorted(results.anns)]
        np.testing.assert_allclose(areas, theirs, rtol=0.1, atol=30)  # they count pixels


@pytest.mark.parametrize("task", TASKS)
def test_supervision_reads_it_alone(tmp_path, task):
    sv = pytest.importorskip("supervision")
    data, tiles, preds = made(tmp_path, task)
    merge(preds, tiles, tmp_path / "out")
    dataset = sv.DetectionDataset.from_coco(str(data.root), str(tmp_path / "out/dataset.json"))
    found = sum(len(detections) for _, _, detections in dataset)
    assert (len(dataset), found) == (3, len(content(tmp_path / "out/predictions.json")))
    assert dataset.classes == list(NAMES)


def test_ids_are_those_of_predictions_json(tmp_path):
    _, tiles, preds = made(tmp_path, "detect")
    merge(preds, tiles, tmp_path / "out", category_base=1)
    both = content(tmp_path / "out/dataset.json")
    assert [each["id"] for each in both["categories"]] == [1, 2, 3]
    images = {each["id"]: each["file_name"] for each in both["images"]}
    assert images["p2"] == "images/val/p2.jpg"
    for entry in content(tmp_path / "out/predictions.json"):
        assert images[entry["image_id"]] == entry["file_name"]


def test_classes_without_names_are_numbers(tmp_path):
    data, tiles, preds = made(tmp_path, "detect")
    tiler.merge(preds, images=data.root / "images", out=tmp_path / "out", workers=1)
    both = content(tmp_path / "out/dataset.json")
    assert both["categories"][0] == {"id": 0, "name": "0", "supercategory": ""}
    assert len(both["images"]) == 3
    assert tiles.is_dir()


def test_nothing_detected_is_a_dataset_too(tmp_path):
    _, tiles, preds = made(tmp_path, "detect")
    for path in preds.iterdir():
        path.write_text("")
    merge(preds, tiles, tmp_path / "out")
    both = content(tmp_path / "out/dataset.json")
    assert (both["annotations"], len(both["images"])) == ([], 3)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_stopped_and_run_again_it_ends_in_the_same_bytes(tmp_path, monkeypatch, at):
    _, tiles, preds = made(tmp_path, "detect")
    options = {"export": "yolo-dataset,csv", "images": tmp_path / "data"}
    merge(preds, tiles, tmp_path / "whole", **options)
    add = output.Writer.add
    left = iter(range(at))

    def stopping(self, item):
        if next(left, None) is None:
            raise Unfinished("stopped here")
        return add(self, item)

    with monkeypatch.context() as patch:
        patch.setattr(output.Writer, "add", stopping)
        with contextlib.suppress(Unfinished):
            merge(preds, tiles, tmp_path / "out", **options)
    merge(preds, tiles, tmp_path / "out", **options)
    whole, again = tree(tmp_path / "whole"), tree(tmp_path / "out")
    assert {**whole, "args.yaml": ""} == {**again, "args.yaml": ""}


# --- the training set


@pytest.mark.parametrize("task", TASKS)
def test_merged_labels_are_a_dataset_that_the_trainer_takes(tmp_path, task):
    data, tiles, preds = made(tmp_path, task)
    merge(preds, tiles, tmp_path / "out", export="yolo-dataset", conf=0.5, images=data.root)
    assert tree(data.root) == tree(made(tmp_path / "again", task)[0].root)  # all left as it was
    report = tiler.check(tmp_path / "out/yolo/dataset.yaml", task=task)
    assert report.findings == []
    for i, split in enumerate(("train", "train", "val")):
        labels = tmp_path / f"out/yolo/labels/{split}/p{i}.txt"
        merged = (tmp_path / f"out/labels/images/{split}/p{i}.txt").read_text().splitlines()
        rows = labels.read_text().splitlines()
        assert len(rows) == len(merged) > 0
        for one, other in zip(rows, merged, strict=True):  # the same without the confidence
            left, right = np.array(one.split(), float), np.array(other.split()[:-1], float)
            np.testing.assert_allclose(left, right, atol=1e-6)
        image = tmp_path / f"out/yolo/images/{split}/p{i}.jpg"
        assert image.read_bytes() == (data.root / f"images/{split}/p{i}.jpg").read_bytes()
    lists = [(tmp_path / f"out/yolo/{name}.txt").read_text() for name in ("train", "val")]
    assert lists == ["./images/train/p0.jpg\n./images/train/p1.jpg\n", "./images/val/p2.jpg\n"]


def test_it_can_be_split_again(tmp_path):
    data, tiles, preds = made(tmp_path, "detect")
    merge(preds, tiles, tmp_path / "out", export="yolo-dataset", images=data.root)
    report = tiler.split(tmp_path / "out/yolo/dataset.yaml", out=tmp_path / "next", workers=1)
    assert report.levels()["error"] == 0


def test_it_is_complete_and_replaced_like_all_else(tmp_path):
    data, tiles, preds = made(tmp_path, "detect")
    options = {"export": "yolo-dataset", "images": data.root}
    merge(preds, tiles, tmp_path / "out", **options)
    assert merge(preds, tiles, tmp_path / "out", **options).report.unchanged
    before = tree(data.root)
    merge(preds, tiles, tmp_path / "out", conf=0.5, overwrite=True, **options)
    assert tree(data.root) == before
    (tmp_path / "out/yolo/images/mine.jpg").write_bytes(b"")
    with pytest.raises(TilerError, match=r"mine\.jpg is not made by tiler"):
        merge(preds, tiles, tmp_path / "out", overwrite=True, **options)


def test_images_are_found_by_their_names_too(tmp_path):
    data, tiles, preds = made(tmp_path, "detect")
    (data.root / "images").rename(tmp_path / "photos")
    options = {"export": "yolo-dataset", "conf": 0.5}
    with pytest.raises(TilerError, match="where are the images"):
        merge(preds, tiles, tmp_path / "out", **options)
    merge(preds, tiles, tmp_path / "out", images=tmp_path / "photos", **options)
    assert (tmp_path / "out/yolo/images/val/p2.jpg").is_file()
    (tmp_path / "photos/val/p2.jpg").write_bytes((tmp_path / "photos/val/p2.jpg").read_bytes()[:9])
    with pytest.raises(TilerError, match=r"yolo-dataset: .*p2\.jpg"):
        merge(preds, tiles, tmp_path / "other", images=tmp_path / "photos", **options)
    (tmp_path / "photos/val/p2.jpg").unlink()
    with pytest.raises(TilerError, match=r"no image images/val/p2\.jpg"):
        merge(preds, tiles, tmp_path / "other", images=tmp_path / "photos", **options)
    assert not (tmp_path / "other").exists()


def test_an_image_of_which_not_all_was_read_is_left_out(tmp_path):
    data, tiles, preds = made(tmp_path, "detect")
    first = next(manifest.read_sources(tiles / "tiles.jsonl"))
    tile = first.tiles[0].name
    (preds / f"{tile}.txt").write_bytes(b"\xff\xfe\x00" * 9)
    options = {"export": "yolo-dataset", "images": data.root}
    report = merge(preds, tiles, tmp_path / "out", **options).report
    codes = [finding.code for finding in report.findings]
    if "D01" in codes:
        assert "D21" in codes
        assert not (tmp_path / "out/yolo/labels/train/p0.txt").exists()
        assert not os.path.lexists(tmp_path / "out/yolo/images/train/p0.jpg")
    assert "D22" in codes


def test_labels_end_where_the_image_does():
    boxes = np.array([[-10, -10, 10, 10], [90, 90, 130, 130], [0, 0, 10, 10], [200, 0, 210, 9.0]])
    many = Instances(np.array([0, 1, 0, 0]), boxes, conf=np.full(4, 0.5))
    rows = [list(map(float, line.split())) for line in
            training_labels(many, (100, 100), 2, None).splitlines()]  # fmt: skip
    assert rows == [[0, 0.05, 0.05, 0.1, 0.1], [1, 0.95, 0.95, 0.1, 0.1]]


def test_folders_named_as_the_trainers_are_left_out(tmp_path):
    data, tiles, preds = made(tmp_path, "detect")
    assert place("images/x/labels/a") == "x/a"
    manifest_file = tiles / "tiles.jsonl"
    text = manifest_file.read_text().replace("images/train/p1.jpg", "train/p0.jpg")
    manifest_file.write_text(text)
    with pytest.raises(TilerError, match=r"p0\.jpg and .*p0\.jpg would be one image"):
        merge(preds, tiles, tmp_path / "out", export="yolo-dataset", images=data.root)


def test_every_tenth_image_is_val_where_there_is_no_val():
    assert divided([("train",)] * 20).count("val") == 2
    assert divided([]) == []
