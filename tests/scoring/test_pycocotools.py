"""The numbers of pycocotools, bit by bit, of files with and without bbox, area, segmentation and
keypoints.
"""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import tiler
from tests.conftest import SHARED, needs_shared
from tests.evaluation.cases import Draw
from tests.scoring.test_score import TWELVE, dumped
from tiler.errors import TilerError
from tiler.formats import rle

# of pycocotools with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")

W, H = 150, 130  # px: objects of all three sizes
TEN = (
    "AP",
    "AP50",
    "AP75",
    "AP_medium",
    "AP_large",
    "AR_20",
    "AR50",
    "AR75",
    "AR_medium",
    "AR_large",
)
KINDS = {"detect": "bbox", "segment": "segm", "pose": "keypoints"}
PARTS = ("bbox", "segmentation", "keypoints")


def official(gt, dt, task):
    """pycocotools' numbers by our names, or the step that raises."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **json.loads(json.dumps(gt))}
        truth.createIndex()
        try:
            found = truth.loadRes(json.loads(json.dumps(dt)))
        except Exception:
            return "loadRes"
        run = COCOeval(truth, found, KINDS[task])
        try:
            run.evaluate()
        except Exception:
            return "evaluate"
        run.accumulate()
        run.summarize()
    names = TEN if task == "pose" else TWELVE
    return {
        name: None if value == -1 else float(value)
        for name, value in zip(names, run.stats, strict=True)
    }


def shapes(rng, at=None):
    """An outline, the box around its pixels, and keypoints: of a new object, or near another."""
    centre, reach = (rng.uniform(20, 110, 2), rng.uniform(8, 60)) if at is None else at
    turns = np.sort(rng.uniform(0, 6.28, rng.integers(3, 8)))
    outline = (
        (np.round((centre + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)) * 4) / 4)
        .ravel()
        .tolist()
    )
    pixels = coco_mask.merge(coco_mask.frPyObjects([outline], H, W))
    points = centre + rng.normal(0, reach / 3, (17, 2)) * (rng.random((17, 1)) < 0.8)
    return (centre, reach), [outline], pixels, points


def drawn(seed, lacking):
    """A ground truth, and results each of whose entries lacks a part with that chance; the first
    one decides what that means.
    """
    draw = Draw(seed, images=3)
    rng = draw.rng
    draw.images = [{**image, "width": W, "height": H} for image in draw.images]
    present = [part for part in PARTS if draw.chance(0.6)] or [draw.pick(PARTS)]
    notation = draw.pick([*["compressed"] * 6, "runs", "polygons"])

    def segmentation(outline, pixels):
        if notation == "polygons":
            return outline
        text = pixels["counts"].decode()
        return {"size": [H, W], "counts": text if notation == "compressed" else rle.counts(text)}

    for image in draw.images:
        here = []
        for _ in range(rng.integers(0, 5)):
            at, outline, pixels, points = shapes(rng)
            seen = rng.integers(0, 3, 17) * (rng.random() < 0.9)
            row = {
                "image_id": image["id"],
                "category_id": draw.category(),
                "segmentation": outline,
                "iscrowd": 0,
            }
            area = float(coco_mask.area(pixels)) * draw.pick([1, 1, 0.6])
            keypoints = (
                np.column_stack([np.where(seen[:, None] > 0, points, 0), seen]).ravel().tolist()
            )
            row |= {"bbox": coco_mask.toBbox(pixels).tolist(), "area": area, "keypoints": keypoints}
            row["num_keypoints"] = int((seen > 0).sum())
            if draw.chance(0.1):
                text = pixels["counts"].decode()
                row |= {"iscrowd": 1, "segmentation": {"size": [H, W], "counts": rle.counts(text)}}
            draw.annotations.append(row)
            here.append((at, row))
        for _ in range(rng.integers(0, 9)):
            at, of = draw.pick(here) if here and draw.chance(0.8) else (None, None)
            _, outline, pixels, points = shapes(rng, at)
            x, y, w, h = coco_mask.toBbox(pixels).tolist()
            full = {
                "bbox": [x - 1.5, y, w * draw.pick([1, 1, 0.9]), h + 0.25],
                "segmentation": segmentation(outline, pixels),
            }
            full["keypoints"] = np.column_stack([points, np.ones(17)]).ravel().tolist()
            category = of["category_id"] if of and draw.chance(0.85) else draw.category()
            row = {"image_id": image["id"], "category_id": category, "score": draw.conf()}
            row |= {part: full[part] for part in present if not draw.chance(lacking)}
            if draw.chance(0.5):
                row["area"] = float(rng.uniform(10, 20_000))  # of which loadRes takes no notice
            draw.results.append(row)
    return draw.done()


def compared(tmp_path, gt, dt, task):
    """What pycocotools says, checked against tiler where it says anything."""
    expected = official(gt, dt, task)
    try:
        metrics = tiler.score(
            dumped(tmp_path / "dt.json", dt),
            dumped(tmp_path / "gt.json", gt),
            task=task,
            analysis="none",
        )
    except TilerError:
        # without a label there is nothing to measure
        assert isinstance(expected, str) or not gt["annotations"]
        return expected
    refused = any("loadRes" in said for said in metrics.card["deviations"])
    assert refused == (expected == "loadRes"), metrics.card["deviations"]
    if expected == "evaluate":
        assert metrics.exit_code() == 1
    if not isinstance(expected, str):
        found = {
            name: None if metrics.coco[name] != metrics.coco[name] else metrics.coco[name]
            for name in expected
        }
        assert found == expected, metrics.card["area"]
        if (
            task != "detect"
            and metrics.boxes is not None
            and not isinstance(boxes := official(gt, dt, "detect"), str)
        ):
            own = metrics.boxes["coco"]
            assert {name: None if own[name] != own[name] else own[name] for name in boxes} == boxes
    return expected


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("lacking", [0.0, 0.15])
@pytest.mark.parametrize("batch", range(4))
def test_any_file_of_results(tmp_path, task, lacking, batch):
    for seed in range(10 * batch, 10 * batch + 10):
        compared(tmp_path, *drawn(seed, lacking), task)


def test_the_files_that_are_drawn_are_of_all_kinds():
    """Each part decides in some; in some loadRes raises, or what comes after it; sizes differ by
    what decides.
    """
    seen = {}
    for task in KINDS:
        for seed in range(40):
            gt, dt = drawn(seed, 0.15 if seed % 2 else 0.0)
            result = official(gt, dt, task)
            key = (
                result
                if isinstance(result, str)
                else next((part for part in PARTS if dt and part in dt[0]), "")
            )
            seen[task, key] = seen.get((task, key), 0) + 1
    for task in KINDS:
        assert seen[task, "loadRes"] >= 3
        assert seen[task, "bbox"] >= 3
    for key in (
        ("detect", "segmentation"),
        ("detect", "keypoints"),
        ("pose", "keypoints"),
        ("pose", "evaluate"),
    ):
        assert seen[key]


BOX, OUTLINE = [2.0, 3.0, 40.0, 40.0], [[2.0, 3.0, 42.0, 3.0, 22.0, 43.0]]


def one(**parts):
    """A triangle of 800 px² in a box of 1600, and a result for it."""
    label = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": BOX,
        "area": 800.0,
        "segmentation": OUTLINE,
        "iscrowd": 0,
    }
    gt = {
        "images": [{"id": 1, "width": W, "height": H}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [label],
    }
    return gt, [{"image_id": 1, "category_id": 1, "score": 0.5, **parts}]


def test_the_card_says_by_what_detections_are_sized_and_mask_is_the_other(tmp_path):
    gt, dt = one(bbox=BOX, segmentation=OUTLINE)
    dt.append(
        {
            **dt[0],
            "score": 0.9,
            "bbox": [60.0, 60.0, 40.0, 40.0],
            "segmentation": [[60, 60, 100, 60, 80, 100]],
        }
    )
    paths = dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt)
    by_box, by_mask = (
        tiler.score(*paths, areas=areas, analysis="none") for areas in ("coco", "mask")
    )
    # a false positive of 1600 px² is none among the small
    assert by_box.coco["AP_small"] == pytest.approx(1)
    assert by_mask.coco["AP_small"] == pytest.approx(0.5)
    assert by_box.card["area"]["detections"].startswith(
        "width times height of the box, as the file's first entry"
    )
    assert by_mask.card["area"]["detections"] == "the mask's area"
    assert any("sizes a detection by its box" in said for said in by_mask.card["deviations"])


def test_without_boxes_the_mask_decides(tmp_path):
    pixels = coco_mask.merge(coco_mask.frPyObjects(OUTLINE, H, W))
    gt, dt = one(segmentation={"size": [H, W], "counts": pixels["counts"].decode()})
    metrics = tiler.score(
        dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt), analysis="none"
    )
    assert metrics.card["area"]["detections"].startswith(
        "the mask's area, as the file's first entry"
    )
    assert metrics.sample.detections.instances.area.tolist() == [coco_mask.area(pixels)]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (
            [{"bbox": BOX}, {"segmentation": OUTLINE}],
            "entry 1 has no bbox, which the first one has",
        ),
        ([{"segmentation": OUTLINE}], "entry 0 has no compressed mask, and the first one no bbox"),
        ([], "no entries"),
    ],
)
def test_where_load_res_raises_the_card_says_so(tmp_path, entries, said):
    gt, dt = one()
    dt = [{**dt[0], **entry} for entry in entries]
    metrics = tiler.score(
        dumped(tmp_path / "dt.json", dt),
        dumped(tmp_path / "gt.json", gt),
        task="detect",
        analysis="none",
    )
    assert f"pycocotools' loadRes cannot read this file: {said}" in metrics.card["deviations"]


def test_areas_of_masks_are_for_what_has_masks(tmp_path):
    gt, dt = one(bbox=BOX)
    paths = dumped(tmp_path / "dt.json", dt), dumped(tmp_path / "gt.json", gt)
    with pytest.raises(TilerError, match="--areas mask: boxes are compared here"):
        tiler.score(*paths, task="detect", areas="mask", analysis="none")


@needs_shared
def test_real_outlines_with_boxes_are_sized_by_these(tmp_path):
    folder = SHARED / "data/preds/fce_small"
    gt, dt = (json.loads((folder / f"{name}_dataset.json").read_text()) for name in ("gt", "dt"))
    for task in ("segment", "detect"):
        assert not isinstance(compared(tmp_path, gt, dt, task), str)
    paths = folder / "dt_dataset.json", folder / "gt_dataset.json"
    assert tiler.score(*paths, analysis="none").coco["AP_medium"] == pytest.approx(0.792, abs=5e-4)
    assert tiler.score(*paths, analysis="none", areas="mask").coco["AP_medium"] == pytest.approx(
        0.737, abs=5e-4
    )


@needs_shared
def test_merged_outlines_are_sized_as_their_predictions_json(tmp_path):
    """The labels' columns, and predictions.json beside them as pycocotools reads it."""
    scenes = SHARED / "data/e2e/scenes"
    data = tmp_path / "data"
    for kind, source in (("images", "images/test"), ("labels", "labels_segment/test")):
        (data / kind).mkdir(parents=True)
        (data / kind / "val").symlink_to(scenes / source)
    (data / "dataset.yaml").write_text(
        "train: images/val\nval: images/val\nnames: [disc, box, tri]\n"
    )
    out = tmp_path / "merged"
    preds = SHARED / "data/e2e/preds/segment/predict"
    tiler.merge(preds, images=scenes / "images/test", out=out, task="segment", workers=1)
    metrics = tiler.score(out, data, split="val", analysis="none")
    truth = metrics.sample.labels
    names = [key.rsplit("/", 1)[-1].removesuffix(".jpg") for key in metrics.keys]
    labels = []
    for i, image in enumerate(truth.image.tolist()):
        x0, y0, x1, y1 = truth.instances.boxes[i].tolist()
        rings = [ring.ravel().tolist() for ring in truth.instances.rings[i]]
        row = {
            "id": i + 1,
            "image_id": image,
            "category_id": int(truth.instances.class_id[i]),
            "iscrowd": 0,
        }
        labels.append(
            {
                **row,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "segmentation": rings,
                "area": truth.instances.area[i],
            }
        )
    gt = {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 2048, "height": 2048}
            for i, name in enumerate(names)
        ],
        "annotations": labels,
        "categories": [{"id": k, "name": name} for k, name in enumerate(metrics.names)],
    }
    dt = json.loads((out / "predictions.json").read_text())
    for entry in dt:
        entry["image_id"] = names.index(entry["image_id"])
    expected = official(gt, dt, "segment")
    assert expected["AP_small"] == pytest.approx(0.2060, abs=5e-5)
    assert {
        name: metrics.coco[name] for name in expected if expected[name] is not None
    } == pytest.approx(
        {name: value for name, value in expected.items() if value is not None}, abs=1e-12
    )
    assert tiler.score(out, data, split="val", analysis="none", areas="mask").coco[
        "AP_small"
    ] == pytest.approx(0.2023, abs=5e-5)
