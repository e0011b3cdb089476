"""The labels that are scored against: each task of a dataset.yaml, its splits, COCO JSON, regions
to be ignored.
"""

import json

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.scoring.test_score import (
    H,
    W,
    dataset,
    dumped,
    ground,
    official,
    outline,
    row,
    same_numbers,
    texts,
)
from tiler.errors import TilerError

PENTAGON = [(10, 10), (40, 10), (40, 40), (25, 60), (10, 40)]
HEXAGON = [(100, 20), (180, 30), (170, 90), (150, 95), (110, 80), (90, 50)]
ROWS = {
    "detect": [row(0, 10, 10, 30, 30), row(1, 100, 20, 180, 90)],
    "segment": [outline(0, PENTAGON), outline(1, HEXAGON)],
    "obb": [
        outline(0, [(10, 10), (50, 20), (45, 40), (5, 30)]),
        outline(1, [(100, 20), (180, 20), (180, 90), (100, 90)]),
    ],
    "pose": [
        row(0, 10, 10, 60, 60, *(15 / W, 15 / H, 2, 50 / W, 20 / H, 2, 30 / W, 50 / H, 1)),
        row(1, 100, 20, 180, 90, *(115 / W, 25 / H, 2, 150 / W, 30 / H, 2, 0, 0, 0)),
    ],
}
SIMILARITY = {
    "detect": "IoU of boxes",
    "segment": "IoU of masks",
    "obb": "IoU of polygons",
    "pose": "OKS",
}


def sure(rows, conf=0.9):
    """The same rows, each with its confidence."""
    return "".join(f"{line.strip()} {conf - i / 100:g}\n" for i, line in enumerate(rows))


def of_task(root, task, rows=None):
    extra = {"kpt_shape": [3, 3]} if task == "pose" else {}
    rows = ROWS[task] if rows is None else rows
    return dataset(root / "data", {"p0": "".join(rows), "p1": "".join(rows[:1])}, **extra)


@pytest.mark.parametrize("task", ROWS)
def test_labels_as_predictions_are_perfect(tmp_path, task):
    made = of_task(tmp_path, task)
    preds = texts(tmp_path / "preds", {"p0": sure(ROWS[task]), "p1": sure(ROWS[task][:1], 0.5)})
    metrics = tiler.score(preds, made.yaml)
    assert (metrics.findings, metrics.card["task"], metrics.card["split"]) == ([], task, "val")
    assert metrics.card["similarity"].startswith(SIMILARITY[task])
    assert [metrics.coco["AP"], metrics.coco["AP50"], metrics.coco["AP75"]] == pytest.approx(
        [1, 1, 1]
    )
    assert [metrics.map, metrics.map50, metrics.mp, metrics.mr] == pytest.approx(
        [0.995, 0.995, 1, 1]
    )
    assert metrics.confusion.tolist() == [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert [(r["labels"], r["tp"], r["fp"], r["fn"]) for r in metrics.per_image] == [
        (2, 2, 0, 0),
        (1, 1, 0, 0),
    ]


@pytest.mark.parametrize("task", ["segment", "obb", "pose"])
def test_boxes_are_scored_against_the_boxes_of_whatever_the_labels_are(tmp_path, task):
    made = of_task(tmp_path, task)
    boxes = {
        "segment": [(10, 10, 40, 60), (90, 20, 180, 95)],
        "obb": [(5, 10, 50, 40), (100, 20, 180, 90)],
        "pose": [(10, 10, 60, 60), (100, 20, 180, 90)],
    }[task]
    both = [row(c, *box) for c, box in enumerate(boxes)]
    preds = texts(tmp_path / "preds", {"p0": sure(both), "p1": sure(both[:1], 0.5)})
    metrics = tiler.score(preds, made.yaml)
    assert (metrics.card["task"], metrics.findings) == ("detect", [])
    assert metrics.coco["AP"] == pytest.approx(1)


def test_outlines_of_one_number_of_points_are_outlines_where_the_labels_are(tmp_path):
    """12 values could be keypoints, were the ground truth not one of outlines."""
    rows = [outline(0, PENTAGON), outline(1, [(x + 100, y) for x, y in PENTAGON])]
    made = of_task(tmp_path, "segment", rows)
    metrics = tiler.score(
        texts(tmp_path / "preds", {"p0": sure(rows), "p1": sure(rows[:1], 0.5)}), made.yaml
    )
    assert (metrics.card["task"], metrics.coco["AP"]) == ("segment", pytest.approx(1))


@pytest.mark.parametrize("task", ["segment", "obb"])
def test_outlines_of_four_points_are_what_the_labels_are(tmp_path, task):
    rows = [
        outline(0, [(10, 10), (60, 10), (60, 40), (10, 40)]),
        outline(1, [(100, 20), (180, 20), (180, 90), (100, 90)]),
    ]
    made = of_task(tmp_path, task, rows)
    if task == "segment":  # or they would be taken for OBBs
        made.add("more.png", outline(0, PENTAGON), Image.new("L", (W, H), 9), "train")
    metrics = tiler.score(
        texts(tmp_path / "preds", {"p0": sure(rows), "p1": sure(rows[:1], 0.5)}), made.yaml
    )
    assert (metrics.card["task"], metrics.coco["AP"]) == (task, pytest.approx(1))


def test_a_task_that_is_asked_for_makes_boxes_of_outlines(tmp_path):
    made = of_task(tmp_path, "segment")
    boxes = texts(
        tmp_path / "preds", {"p0": sure([row(0, 10, 10, 40, 60), row(1, 90, 20, 180, 95)])}
    )
    assert tiler.score(boxes, made.yaml, task="detect").card["task"] == "detect"
    with pytest.raises(TilerError, match="not segment rows"):
        tiler.score(boxes, made.yaml, task="segment")


def test_outlines_are_scored_as_boxes_where_the_labels_are_boxes(tmp_path):
    made = of_task(tmp_path, "detect", [row(0, 10, 10, 40, 60), row(1, 90, 20, 180, 95)])
    preds = texts(
        tmp_path / "preds",
        {
            "p0": sure([outline(0, PENTAGON), outline(1, HEXAGON)]),
            "p1": sure([outline(0, PENTAGON)]),
        },
    )
    metrics = tiler.score(preds, made.yaml)
    assert (metrics.card["task"], metrics.coco["AP"]) == ("detect", pytest.approx(1))


# --- images with and without labels


def test_pictures_without_labels_without_predictions_and_classes_without_labels(tmp_path):
    one = row(0, 10, 10, 30, 30)
    made = dataset(tmp_path / "data", {"p0": one, "p1": "", "p2": None, "p3": one})
    preds = texts(
        tmp_path / "preds", {"p0": sure([one]), "p1": sure([one], 0.5), "p2": "", "q": ""}
    )
    (preds / "q.txt").unlink()
    metrics = tiler.score(preds, made.yaml)
    card = metrics.card
    assert (card["images"], card["labels"], card["detections"]) == (4, 2, 2)
    assert (card["images_without_labels"], card["images_without_detections"]) == (2, 2)
    assert card["classes_without_labels"] == ["b", "c"]
    # one of two found, the invented one is less sure
    assert metrics.coco["AP"] == pytest.approx(51 / 101)
    plain = metrics.plain()
    assert plain["coco"]["AP_medium"] is plain["coco"]["AP_large"] is None
    for name in ("b", "c"):
        found = plain["per_class"][name]
        assert (
            found["labels"],
            found["AP"],
            found["AP50"],
            found["P"],
            found["R"],
            found["F1"],
        ) == (0, *[None] * 5)
    assert plain["per_class"]["a"]["AP"] == pytest.approx(51 / 101)


def test_no_labels_at_all(tmp_path):
    made = dataset(tmp_path / "data", {"p0": "", "p1": None})
    metrics = tiler.score(texts(tmp_path / "preds", {"p0": row(0, 1, 1, 9, 9, 0.5)}), made.yaml)
    assert set(metrics.plain()["coco"].values()) == {None}
    assert np.isnan([metrics.map, metrics.mp, metrics.mr]).all()  # Ultralytics says 0
    assert metrics.confusion.tolist() == [[0, 0, 0, 1], *[[0] * 4] * 3]
    assert json.loads(metrics.encoded())["per_class"]["a"]["AP"] is None


def test_bad_labels_are_found_and_do_not_count(tmp_path):
    made = dataset(
        tmp_path / "data",
        {"p0": row(0, 10, 10, 30, 30) + "7 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n0 0.5\n"},
    )
    metrics = tiler.score(texts(tmp_path / "preds", {"p0": row(0, 10, 10, 30, 30, 0.5)}), made.yaml)
    assert [(f.code, f.line) for f in metrics.findings] == [("L04", 2), ("L02", 3), ("L03", 4)]
    assert (metrics.card["labels"], metrics.exit_code()) == (1, 1)


def test_labels_are_in_pixels_of_the_upright_picture(tmp_path):
    made = dataset(tmp_path / "data", {})
    turned = Image.new("L", (H, W), 7)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned, so W x H
    made.add("p0.jpg", row(0, 10, 10, 50, 50), turned, "val", exif=exif)
    metrics = tiler.score({"p0": tiler_boxes([10, 10, 50, 50])}, made.yaml)
    assert metrics.coco["AP"] == pytest.approx(1)


def tiler_boxes(*boxes):
    import numpy as np

    from tiler.geometry.instances import Instances

    return Instances(
        np.zeros(len(boxes), int), np.array(boxes, float), conf=np.linspace(0.9, 0.5, len(boxes))
    )


# --- splits

ONE = row(0, 10, 10, 30, 30)


@pytest.fixture
def splits(tmp_path):
    return dataset(tmp_path / "data", {"v0": ONE, "v1": ONE}, {"t0": ONE, "t1": ONE})


def test_the_split_is_the_one_whose_pictures_are_predicted(splits, tmp_path):
    val = tiler.score(texts(tmp_path / "v", {"v0": sure([ONE])}), splits.yaml)
    assert (val.card["split"], val.keys) == ("val", ["images/val/v0.png", "images/val/v1.png"])
    train = tiler.score(texts(tmp_path / "t", {"t1": sure([ONE])}), splits.yaml)
    assert (train.card["split"], train.keys) == (
        "train",
        ["images/train/t0.png", "images/train/t1.png"],
    )


def test_predictions_of_two_splits_need_a_word(splits, tmp_path):
    preds = texts(tmp_path / "preds", {name: sure([ONE]) for name in ("v0", "v1", "t0")})
    with pytest.raises(
        TilerError,
        match="images of val and train: choose with --split, one of them or all",
    ):
        tiler.score(preds, splits.yaml)
    both = tiler.score(preds, splits.yaml, split="train,val")
    assert (both.card["split"], both.card["images"], both.coco["AP"]) == (
        "train,val",
        4,
        pytest.approx(76 / 101),
    )
    everything = tiler.score(preds, splits.yaml, split="all")
    assert (everything.card["split"], everything.keys, everything.coco) == (
        "all",
        both.keys,
        pytest.approx(both.coco, nan_ok=True),
    )
    assert tiler.score(preds, splits.yaml, split="predicted").card["images"] == 4
    val = tiler.score(preds, splits.yaml, split="val")
    assert (val.card["images"], val.coco["AP"], val.exit_code()) == (2, pytest.approx(1), 0)
    assert [(f.code, f.level, f.message) for f in val.findings] == [
        (
            "S04",
            "note",
            "1 images (t0, ...) with 1 rows are of other splits than val; left out, as --split all "
            "would not",
        )
    ]


@pytest.mark.parametrize("split", ["tset", "val,tset", "", "val,"])
def test_a_split_that_is_none(splits, tmp_path, split):
    with pytest.raises(TilerError, match="has val, train; choose from these, or all"):
        tiler.score(texts(tmp_path / "preds", {"v0": sure([ONE])}), splits.yaml, split=split)


def test_predictions_of_another_split_say_which(splits, tmp_path):
    with pytest.raises(
        TilerError,
        match="none of 1 predictions is for an image of .*dataset.yaml, train; they are for val",
    ):
        tiler.score(texts(tmp_path / "preds", {"v0": sure([ONE])}), splits.yaml, split="train")


def test_val_and_train_of_the_same_pictures_are_val(tmp_path):
    made = dataset(tmp_path / "data", {"v0": ONE, "v1": ONE})
    made.yaml.write_text("train: images/val\nval: images/val\nnames: [a, b, c]\n")
    preds = texts(tmp_path / "preds", {"v0": sure([ONE]), "v1": sure([ONE], 0.5)})
    metrics = tiler.score(preds, made.yaml)
    assert (metrics.card["split"], metrics.card["images"], metrics.coco["AP"]) == (
        "val",
        2,
        pytest.approx(1),
    )
    both = tiler.score(preds, made.yaml, split="all")
    assert (both.card["images"], both.card["labels"], both.coco["AP"]) == (2, 2, pytest.approx(1))


def test_a_test_split_is_found_too(tmp_path):
    made = dataset(tmp_path / "data", {"v0": ONE}, {"t0": ONE})
    made.yaml.write_text(
        "train: images/train\nval: images/train\ntest: images/val\nnames: [a, b, c]\n"
    )
    metrics = tiler.score(texts(tmp_path / "preds", {"v0": sure([ONE])}), made.yaml)
    assert (metrics.card["split"], metrics.keys) == ("test", ["images/val/v0.png"])


def test_a_train_split_without_pictures_does_not_matter(tmp_path):
    """Who scores need not have what was trained on."""
    made = dataset(tmp_path / "data", {"v0": ONE}, {})
    assert tiler.score(texts(tmp_path / "preds", {"v0": sure([ONE])}), made.yaml).coco[
        "AP"
    ] == pytest.approx(1)


def test_the_folder_of_a_dataset_stands_for_it(splits, tmp_path):
    preds = texts(tmp_path / "preds", {"v0": sure([ONE])})
    assert tiler.score(preds, splits.root).plain() == tiler.score(preds, splits.yaml).plain()


# --- COCO as ground truth


@pytest.fixture
def coco(tmp_path):
    images = [(7, "b/two.jpg"), (3, "a/one.jpg"), (12, "three.jpg")]
    boxes = [(3, 1, [10.0, 10, 40, 40]), (7, 2, [100.0, 20, 80, 70]), (7, 1, [5.0, 5, 20, 20])]
    return dumped(tmp_path / "gt.json", ground(images, boxes))


def test_coco_labels_with_predictions_in_txt_by_name(coco, tmp_path):
    preds = texts(
        tmp_path / "preds",
        {
            "one": row(0, 10, 10, 50, 50, 0.9),
            "two": row(1, 100, 20, 180, 90, 0.8) + row(0, 5, 5, 25, 25, 0.7),
        },
    )
    metrics = tiler.score(preds, coco)
    assert (metrics.findings, metrics.card["images"], metrics.card["split"]) == ([], 3, None)
    assert metrics.keys == ["a/one.jpg", "b/two.jpg", "three.jpg"]
    assert metrics.coco["AP"] == pytest.approx(1)
    assert {r["image"]: r["tp"] for r in metrics.per_image} == {
        "a/one.jpg": 1,
        "b/two.jpg": 2,
        "three.jpg": 0,
    }


@pytest.mark.parametrize("name", ["id", "file name", "stem"])
def test_coco_labels_with_results_by_id_or_name(coco, tmp_path, name):
    names = {
        "id": {3: 3, 7: 7},
        "file name": {3: "a/one.jpg", 7: "b/two.jpg"},
        "stem": {3: "one", 7: "two"},
    }[name]
    dt = [
        {"image_id": names[7], "category_id": 2, "bbox": [100, 20, 80, 70], "score": 0.9},
        {"image_id": names[3], "category_id": 1, "bbox": [10, 10, 40, 30], "score": 0.8},
        {"image_id": names[7], "category_id": 1, "bbox": [60, 60, 20, 20], "score": 0.95},
    ]
    metrics = tiler.score(dumped(tmp_path / "dt.json", dt), coco)
    by_id = [{**r, "image_id": {v: k for k, v in names.items()}[r["image_id"]]} for r in dt]
    same_numbers(metrics.coco, official(json.loads(coco.read_text()), by_id))


def test_coco_labels_have_no_splits(coco, tmp_path):
    preds = texts(tmp_path / "preds", {"one": row(0, 10, 10, 50, 50, 0.9)})
    with pytest.raises(TilerError, match="--split goes with a dataset.yaml"):
        tiler.score(preds, coco, split="val")


def test_coco_labels_of_unknown_size_need_predictions_in_pixels(tmp_path):
    gt = ground([(1, "one.jpg")], [(1, 1, [10.0, 10, 40, 40])])
    for image in gt["images"]:
        del image["width"], image["height"]
    gt = dumped(tmp_path / "gt.json", gt)
    dt = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.9}]
    assert tiler.score(dumped(tmp_path / "dt.json", dt), gt).coco["AP"] == pytest.approx(1)
    with pytest.raises(TilerError, match="width and height"):
        tiler.score(texts(tmp_path / "preds", {"one": row(0, 10, 10, 50, 50, 0.9)}), gt)


def test_coco_keypoints(tmp_path):
    points = [15, 15, 2, 50, 20, 2, 30, 50, 1]
    gt = ground([(1, "one.jpg")], [(1, 1, [10.0, 10, 50, 50])], ["person"])
    gt["annotations"][0] |= {"keypoints": points, "num_keypoints": 3}
    gt["categories"][0] |= {"keypoints": ["x", "y", "z"]}
    dt = [
        {
            "image_id": 1,
            "category_id": 1,
            "keypoints": points,
            "bbox": [10, 10, 50, 50],
            "score": 0.9,
        }
    ]
    metrics = tiler.score(dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt))
    assert (metrics.card["task"], metrics.coco["AP"], metrics.map) == (
        "pose",
        pytest.approx(1),
        pytest.approx(0.995),
    )


# --- VisDrone


def test_regions_to_be_ignored_take_labels_and_detections_with_them(tmp_path):
    """By hand: the region is x 100 to 200, y 0 to 100. Its class is scored as one without
    labels.
    """
    region = row(0, 100, 0, 200, 100)
    seen, inside, half, less = (
        (10, 10, 40, 40),
        (120, 10, 150, 40),
        (90, 50, 110, 70),
        (85, 75, 105, 95),
    )
    labels = region + row(1, *seen) + row(1, *inside) + row(1, *less)
    made = dataset(
        tmp_path / "data", {"p0": labels, "p1": row(1, *inside)}, names=["ignored regions", "car"]
    )
    found = (
        row(1, *seen, 0.9)
        + row(1, 130, 60, 160, 90, 0.8)
        + row(1, *half, 0.7)
        + row(0, 20, 60, 40, 80, 0.6)
    )
    preds = texts(tmp_path / "preds", {"p0": found, "p1": row(1, *inside, 0.5)})
    metrics = tiler.score(preds, made.yaml, ignore_class="ignored regions")
    # of p0 the first label and the one that lies in the region by a quarter, of p1 one; found: the
    # first, and that of p1
    assert (metrics.card["labels"], metrics.card["detections"]) == (3, 2)
    assert metrics.coco["AP"] == pytest.approx(67 / 101)
    assert metrics.confusion.tolist() == [[0, 0, 0], [0, 2, 0], [0, 1, 0]]
    assert metrics.plain()["per_class"]["ignored regions"]["AP"] is None
    assert metrics.card["options"]["ignore_class"] == "ignored regions"
    whole = tiler.score(preds, made.yaml)
    assert (whole.card["labels"], whole.card["detections"]) == (5, 5)
    with pytest.raises(
        TilerError,
        match="--ignore-class ignored region: no class of .*; did you mean 'ignored regions'?",
    ):
        tiler.score(preds, made.yaml, ignore_class="ignored region")
