"""`tiler.score` through its front door: what COCO and Ultralytics say of the same files; detections
in memory.
"""

import contextlib
import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import tiler
from tests.conftest import SHARED, Dataset, needs_shared
from tests.evaluation.cases import CASES, ORACLES, needs_oracles, oracle
from tests.evaluation.test_ultralytics import sorted_as_here
from tiler.errors import TilerError
from tiler.geometry.instances import Instances

PREDS = SHARED / "data" / "preds"
TWELVE = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR_1",
    "AR_10",
    "AR_100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
PASCAL = {
    "AP": 0.505,
    "AP50": 0.697,
    "AP75": 0.573,
    "AP_small": 0.586,
    "AP_medium": 0.519,
    "AP_large": 0.501,
}
W, H = 200, 100  # px of the images made here


# --- what the tests of `score` share


def row(class_id, x0, y0, x1, y1, *conf):
    """A row of YOLO txt, of a box in px."""
    return (
        " ".join(
            map(
                repr,
                [
                    class_id,
                    (x0 + x1) / 2 / W,
                    (y0 + y1) / 2 / H,
                    (x1 - x0) / W,
                    (y1 - y0) / H,
                    *conf,
                ],
            )
        )
        + "\n"
    )


def outline(class_id, points, *conf):
    """A row of an outline, of points in px."""
    return (
        " ".join(map(repr, [class_id, *(v for x, y in points for v in (x / W, y / H)), *conf]))
        + "\n"
    )


def dataset(root, val=None, train=None, **extra):
    """A dataset of grey images of 200 x 100 px; {name: rows of labels, or None for no file}."""
    made = Dataset(root, **extra)
    for split, labels in (("val", val or {}), ("train", {"t0": ""} if train is None else train)):
        for i, (name, rows) in enumerate(labels.items()):
            made.add(f"{name}.png", rows, Image.new("L", (W, H), i), split)
    return made


def texts(folder, rows):
    """Predictions in txt files: {name: rows}."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rows.items():
        (folder / f"{name}.txt").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text(text)
    return folder


def dumped(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def ground(images, annotations, categories=("a", "b")):
    """A COCO ground truth: [(id, file name)], [(image, category, xywh)]; ids of categories from
    1.
    """
    return {
        "images": [{"id": id, "file_name": name, "width": W, "height": H} for id, name in images],
        "annotations": [
            {
                "id": i + 1,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for i, (image, category, box) in enumerate(annotations)
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
    }


def official(gt, dt, kind="bbox"):
    """The twelve numbers of pycocotools by our names, None where it has -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **json.loads(json.dumps(gt))}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(json.loads(json.dumps(dt))), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {
        name: None if value == -1 else float(value)
        for name, value in zip(TWELVE, run.stats, strict=True)
    }


def same_numbers(found, expected, tolerance=1e-12):
    """COCO's numbers, where nothing to measure is None or NaN."""
    for name, value in expected.items():
        got = found[name]
        got = None if got is None or math.isnan(got) else got
        assert (got is None) == (value is None), (name, got, value)
        assert got is None or got == pytest.approx(value, rel=0, abs=tolerance), name


# --- the oracles


def expected_of(case):
    """What is to be found in a case."""
    return json.loads((ORACLES / case / "expected.json").read_text())


def minus_one(value):
    return None if value == -1 else value


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_oracles_by_coco_and_its_bins_to_the_last_bit_claimed(case):
    gt, dt = ORACLES / case / "gt.json", ORACLES / case / "dt.json"
    expected = expected_of(case)
    twelve = dict(zip(TWELVE, map(minus_one, expected["coco_stats_1_10_100"]), strict=True))
    aitod = {name: minus_one(value) for name, value in expected["aitod_ap_1500"].items()}
    if case == "gt_id_zero":  # pycocotools takes its label for missed
        twelve = {
            name: None if value is None else 0.5 if name == "AR_1" else 1.0
            for name, value in twelve.items()
        }
        aitod = {name: None if value is None else 1.0 for name, value in aitod.items()}
    metrics = tiler.score(dt, gt, analysis="none", bins="aitod")
    assert (metrics.findings, metrics.exit_code()) == ([], 0)
    same_numbers(metrics.coco, twelve)
    assert (metrics.bins["protocol"], metrics.bins["max_dets"]) == ("aitod", 1500)
    same_numbers(
        {name: bin["AP"] for name, bin in metrics.bins["sizes"].items()},
        {k: v for k, v in aitod.items() if k != "all"},
    )
    many = tiler.score(dt, gt, analysis="none", protocol="coco", max_dets="1,100,1500")
    same_numbers(many.coco, {"AP": aitod["all"]})


@needs_oracles
@pytest.mark.parametrize("case", CASES)
def test_oracles_by_ultralytics(case):
    expected = expected_of(case)["ultralytics"]
    metrics = tiler.score(
        ORACLES / case / "dt.json",
        ORACLES / case / "gt.json",
        analysis="none",
        protocol="ultralytics,ultralytics-8.3",
    )
    assert "ultralytics-8.3" in metrics.plain()
    if case.startswith("fuzz") and not sorted_as_here(oracle(case)[3]):
        pytest.skip("numpy here sorts equal confidences otherwise than where the oracle was made")
    for name in expected:
        box = metrics.legacy if name.startswith("legacy_") else metrics
        assert getattr(box, name.removeprefix("legacy_")) == pytest.approx(
            expected[name], abs=1e-6
        ), name


@pytest.mark.parametrize(
    "ids", [range(1, 13), [5, 3, 100, 20]], ids=["more than nine", "not in order"]
)
def test_pictures_are_told_by_their_id_whatever_the_order_of_their_names(tmp_path, ids):
    """Names in order are 1, 10, 11, 12, 2: not the order of the ids."""
    gt = ground([(id, f"{id}.jpg") for id in ids], [(id, 1, [float(id), 10, 40, 40]) for id in ids])
    dt = [
        {"image_id": id, "category_id": 1, "bbox": [float(id), 10, 40, 40], "score": 0.5}
        for id in ids
    ]
    metrics = tiler.score(
        dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt), analysis="none"
    )
    assert metrics.coco["AP"] == pytest.approx(1)
    assert {r["image"]: (r["tp"], r["fn"]) for r in metrics.per_image} == {
        f"{id}.jpg": (1, 0) for id in ids
    }


def test_an_id_is_meant_before_a_name_that_is_the_same_number(tmp_path):
    gt = ground([(1, "2.jpg"), (2, "1.jpg")], [(1, 1, [10, 10, 40, 40]), (2, 1, [100, 50, 20, 20])])
    dt = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.5},
        {"image_id": 2, "category_id": 1, "bbox": [100, 50, 20, 20], "score": 0.5},
    ]
    metrics = tiler.score(
        dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt), analysis="none"
    )
    assert metrics.coco["AP"] == pytest.approx(official(gt, dt)["AP"]) == pytest.approx(1)


def test_pictures_of_one_name_are_two_by_their_ids(tmp_path):
    gt = ground([(1, "x.jpg"), (2, "x.jpg")], [(1, 1, [10, 10, 40, 40]), (2, 1, [100, 50, 20, 20])])
    dt = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "score": 0.5},
        {"image_id": 2, "category_id": 1, "bbox": [100, 50, 20, 20], "score": 0.5},
    ]
    metrics = tiler.score(
        dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt), analysis="none"
    )
    assert (metrics.card["images"], metrics.coco["AP"]) == (2, pytest.approx(1))


# --- published results


@needs_shared
def test_the_results_that_come_with_cocos_own_tool():
    folder = PREDS / "cocoapi_fakebbox100"
    dt, gt = (
        folder / "instances_val2014_fakebbox100_results.json",
        folder / "instances_val2014_100.json",
    )
    metrics = tiler.score(dt, gt, analysis="none")
    assert {name: round(metrics.coco[name], 3) for name in PASCAL} == PASCAL
    same_numbers(metrics.coco, official(json.loads(gt.read_text()), json.loads(dt.read_text())))
    older = tiler.score(dt, gt, analysis="none", protocol="coco,ultralytics-8.3").legacy
    near = 5e-4  # many confidences are equal, and their order depends on the processor and numpy
    assert (metrics.map, metrics.map50) == (
        pytest.approx(0.50096, abs=near),
        pytest.approx(0.69505, abs=near),
    )
    assert (older.map, older.map50) == (
        pytest.approx(0.59529, abs=near),
        pytest.approx(0.77967, abs=near),
    )


@needs_shared
@pytest.mark.parametrize(
    ("task", "kind"), [("detect", "bbox"), ("segment", "segm"), ("auto", "segm")]
)
def test_boxes_and_masks_of_one_file(task, kind):
    gt, dt = PREDS / "fce_small" / "gt_dataset.json", PREDS / "fce_small" / "dt_dataset.json"
    metrics = tiler.score(dt, gt, task=task, analysis="none")
    assert metrics.card["task"] == ("detect" if kind == "bbox" else "segment")
    truth, results = json.loads(gt.read_text()), json.loads(dt.read_text())
    if kind == "bbox":  # pycocotools, loadRes: results with a box have the area of that box
        same_numbers(metrics.coco, official(truth, [{**r, "segmentation": []} for r in results]))
    else:
        sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
        masks = [
            mask.merge(mask.frPyObjects(r["segmentation"], *sizes[r["image_id"]])) for r in results
        ]
        masks = [{**m, "counts": m["counts"].decode()} for m in masks]
        coco = [
            {k: v for k, v in r.items() if k != "bbox"} | {"segmentation": m}
            for r, m in zip(results, masks, strict=True)
        ]
        # sized by the boxes that they have
        same_numbers(metrics.coco, official(truth, results, kind))
        by_mask = tiler.score(dt, gt, task=task, analysis="none", areas="mask")
        same_numbers(by_mask.coco, official(truth, coco, kind))
    assert round(metrics.coco["AP"], 3) == 0.695


def padilla(tmp_path):
    """The set of seven images as YOLO txt, the confidence after the class, and as COCO has it."""
    folder, side = PREDS / "padilla_case1", 200
    made, annotations, results, images = dataset(tmp_path / "data", names=["object"]), [], [], []
    for number, path in enumerate(sorted((folder / "gts").iterdir()), 1):
        images.append(
            {"id": number, "file_name": f"{path.stem}.png", "width": side, "height": side}
        )
        rows = [list(map(float, line.split()[1:])) for line in path.read_text().splitlines()]
        found = [
            list(map(float, line.split()[1:]))
            for line in (folder / "dets" / path.name).read_text().splitlines()
        ]
        lines = [
            " ".join(map(repr, [0, (x + w / 2) / side, (y + h / 2) / side, w / side, h / side]))
            for x, y, w, h in rows
        ]
        made.add(f"{path.stem}.png", "\n".join(lines), Image.new("L", (side, side), number), "val")
        lines = [
            [0, conf, (x + w / 2) / side, (y + h / 2) / side, w / side, h / side]
            for conf, x, y, w, h in found
        ]
        texts(
            tmp_path / "preds",
            {path.stem: "".join(" ".join(map(repr, line)) + "\n" for line in lines)},
        )
        annotations += [
            {"image_id": number, "category_id": 1, "bbox": r, "area": r[2] * r[3], "iscrowd": 0}
            for r in rows
        ]
        results += [
            {"image_id": number, "category_id": 1, "bbox": r[1:], "score": r[0]} for r in found
        ]
    annotations = [{"id": i + 1, **a} for i, a in enumerate(annotations)]
    return (
        made,
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]},
        results,
    )


@needs_shared
def test_a_confidence_after_the_class(tmp_path):
    made, gt, dt = padilla(tmp_path)
    metrics = tiler.score(
        tmp_path / "preds", made.yaml, conf_first=True, protocol="coco,ultralytics,voc,voc07"
    )
    assert (metrics.card["labels"], metrics.card["detections"]) == (15, 24)
    same_numbers(metrics.coco, official(gt, dt), 1e-9)
    assert set(metrics.voc) == {"voc", "voc07"}


@needs_shared
def test_class_names_and_pixels_are_refused_where_numbers_from_0_to_1_are_expected(tmp_path):
    words = PREDS / "padilla_case1" / "dets"
    with pytest.raises(TilerError, match="24 of 24 rows cannot be read: .*D02 found 'object'"):
        tiler.score(words, padilla(tmp_path)[0].yaml, conf_first=True)
    names = (PREDS / "padilla_voc100" / "obj.names").read_text().split()
    made = dataset(tmp_path / "voc", names=names)
    for path in sorted((PREDS / "padilla_voc100" / "gts_yolo").iterdir()):
        made.add(f"{path.stem}.png", path.read_text(), Image.new("L", (500, 375), 1), "val")
    metrics = tiler.score(PREDS / "padilla_voc100" / "dets_rel_xywh", made.yaml, conf_first=True)
    rows = sum(
        len(path.read_text().splitlines())
        for path in (PREDS / "padilla_voc100" / "dets_rel_xywh").iterdir()
    )
    assert metrics.card["detections"] + sum(f.level == "error" for f in metrics.findings) == rows
    with pytest.raises(TilerError, match="these are pixels"):
        tiler.score(PREDS / "padilla_voc100" / "dets_abs_xywh", made.yaml, conf_first=True)


# --- in memory

LABELS = {
    "p0": row(0, 10, 10, 40, 40) + row(1, 100, 20, 180, 90),
    "p1": row(0, 60, 30, 90, 60),
    "p2": "",
}


def held():
    """Detections by image: two right, one shifted, one invented."""
    return {
        "p0": Instances(
            np.array([0, 1]),
            np.array([[10, 10, 40, 40], [105, 22, 180, 90.0]]),
            conf=np.array([0.9, 0.7]),
        ),
        "images/val/p1.png": Instances(
            np.array([0]), np.array([[60, 30, 90, 60.0]]), conf=np.array([0.8])
        ),
        "p2.png": Instances(np.array([1]), np.array([[20, 20, 50, 50.0]]), conf=np.array([0.6])),
    }


@pytest.fixture
def data(tmp_path):
    return dataset(tmp_path / "data", LABELS, {"t": row(0, 1, 1, 9, 9)})


def files_of(folder, given):
    rows = {}
    for key, part in given.items():
        columns = zip(part.class_id.tolist(), part.boxes.tolist(), part.conf.tolist(), strict=True)
        rows[key.split("/")[-1].removesuffix(".png")] = "".join(
            row(c, *b, s) for c, b, s in columns
        )
    return texts(folder, rows)


def test_detections_in_memory_are_those_of_files(data, tmp_path):
    of_files = tiler.score(files_of(tmp_path / "preds", held()), data.yaml)
    of_memory = tiler.score(held(), data.yaml)
    assert of_memory.findings == []
    assert of_memory.card["split"] == "val"
    same_numbers(
        of_memory.coco, {k: None if math.isnan(v) else v for k, v in of_files.coco.items()}, 1e-6
    )
    assert of_memory.mean_results == pytest.approx(of_files.mean_results, abs=1e-6)
    assert of_memory.plain()["per_class"] == of_files.plain()["per_class"]
    np.testing.assert_array_equal(of_memory.confusion, of_files.confusion)


def test_the_order_of_pictures_in_memory_does_not_matter(data):
    one = tiler.score(held(), data.yaml)
    other = tiler.score(dict(reversed(held().items())), data.yaml)
    assert one.encoded() == other.encoded()


@pytest.mark.parametrize("kind", [np.asarray, list])
def test_detections_of_another_library(data, kind):
    alike = {
        key: SimpleNamespace(
            xyxy=kind(part.boxes), confidence=kind(part.conf), class_id=kind(part.class_id)
        )
        for key, part in held().items()
    }
    assert tiler.score(alike, data.yaml).encoded() == tiler.score(held(), data.yaml).encoded()


def test_no_detections_in_memory(data):
    none = Instances(np.empty(0, np.int64), np.empty((0, 4)), conf=np.empty(0))
    for given in ({}, {"p0": none}, dict.fromkeys(held(), none)):
        metrics = tiler.score(given, data.yaml, split="val")
        assert (metrics.coco["AP"], metrics.map, metrics.card["detections"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "predictions are a path, what tiler.merge returns, or detections by image; got int"),
        ([], "got list"),
        (
            {"p0": 3},
            r"detections are Instances, .*, or have .xyxy, .confidence and .class_id; got int",
        ),
        ({"p0": Instances(np.array([0]), np.array([[1, 1, 9, 9.0]]))}, "need a confidence"),
        ({"zzz": held()["p0"]}, "none of 1 predictions is for an image of"),
    ],
)
def test_what_is_no_detections_is_said(data, given, message):
    with pytest.raises(TilerError, match=message):
        tiler.score(given, data.yaml)


def test_detections_in_memory_of_pictures_that_are_not_scored_are_found(data):
    metrics = tiler.score({**held(), "zzz": held()["p0"]}, data.yaml, split="val")
    assert [(f.code, "zzz" in f.message) for f in metrics.findings] == [("S01", True)]
    assert metrics.exit_code() == 1


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"class_id": np.array([7])}, "D04"),
        ({"conf": np.array([1.5])}, "D08"),
        ({"conf": np.array([np.nan])}, "D08"),
    ],
)
def test_detections_in_memory_are_judged_as_those_of_files(data, columns, code):
    """A class that is none, or a confidence that is no number, does not end in numbers that look
    sound.
    """
    sound = {
        "class_id": np.array([0]),
        "boxes": np.array([[10, 10, 40, 40.0]]),
        "conf": np.array([0.5]),
    }
    given = {"p0": Instances(**{**sound, **columns})}
    try:
        metrics = tiler.score(given, data.yaml)
    except TilerError:
        return
    assert (code in [f.code for f in metrics.findings], metrics.exit_code()) == (True, 1)


def test_two_detections_of_one_picture_in_memory_are_not_both_counted(data):
    twice = {"p0": held()["p0"], "p0.png": held()["p0"]}
    metrics = tiler.score(twice, data.yaml, split="val")
    assert ([f.code for f in metrics.findings], metrics.card["detections"]) == (["S01"], 2)


@pytest.mark.parametrize("key", ["p.q", "p.q.png", "images/val/p.q.png"])
def test_a_name_with_a_dot_in_memory(tmp_path, key):
    made = dataset(tmp_path / "data", {"p.q": LABELS["p0"], "p": ""})
    metrics = tiler.score({key: held()["p0"]}, made.yaml, split="val")
    assert [r["tp"] + r["fp"] for r in metrics.per_image if r["image"].endswith("p.q.png")] == [2]


def test_detections_in_memory_against_coco(tmp_path):
    gt = dumped(
        tmp_path / "gt.json", ground([(1, "a/p0.png"), (2, "p2.png")], [(1, 1, [10, 10, 30, 30])])
    )
    metrics = tiler.score({"p0": held()["p0"], "p2.png": held()["p2.png"]}, gt)
    assert (metrics.findings, metrics.card["detections"], metrics.coco["AP"]) == (
        [],
        3,
        pytest.approx(1),
    )


# --- what merge returns


def test_what_merge_returned_is_scored_like_its_files(tmp_path):
    labels = {f"p{i}": row(0, 10 + i, 10, 40, 40) + row(1, 80, 20, 120, 60) for i in range(3)}
    made = dataset(tmp_path / "data", labels)
    tiler.split(
        made.yaml,
        out=tmp_path / "tiles",
        tile=100,
        overlap=40,
        min_visible=0,
        min_size=0,
        workers=1,
    )
    preds = tmp_path / "preds"
    preds.mkdir()
    for path in (tmp_path / "tiles" / "labels" / "val").iterdir():
        text = "".join(
            f"{line} 0.{9 - i}\n" for i, line in enumerate(path.read_text().splitlines())
        )
        (preds / path.name).write_text(text)
    in_memory = tiler.merge(preds, tiles=tmp_path / "tiles", workers=1)
    of_memory = tiler.score(in_memory, made.yaml)
    on_disk = tiler.merge(preds, tiles=tmp_path / "tiles", out=tmp_path / "preds-merged", workers=1)
    of_files = tiler.score(tmp_path / "preds-merged", made.yaml)
    assert of_files.coco["AP"] > 0.9
    for name, value in of_files.coco.items():
        assert of_memory.coco[name] == pytest.approx(value, abs=1e-6, nan_ok=True), name
    assert of_memory.mean_results == pytest.approx(of_files.mean_results, abs=1e-6)
    assert tiler.score(on_disk, made.yaml).encoded() == of_files.encoded()
