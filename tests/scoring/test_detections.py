"""Predictions that are scored: errors, not guesses. Each says what was found, and what was
expected.
"""

import json
import re

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.scoring.test_score import H, W, dataset, dumped, ground, row, texts
from tiler.errors import TilerError

BOXES = [(10 * i, 10, 10 * i + 9, 30 + i) for i in range(6)]
LABELS = "".join(row(0, *box) for box in BOXES)
FOUND = "".join(row(0, *box, 0.5 + i / 20) for i, box in enumerate(BOXES))


@pytest.fixture
def data(tmp_path):
    return dataset(tmp_path / "data", {"p0": LABELS, "p1": LABELS}, {"t0": LABELS})


def results(image="p0", form=lambda x0, y0, x1, y1: [x0, y0, x1 - x0, y1 - y0], **more):
    return [
        {"image_id": image, "category_id": 0, "bbox": form(*box), "score": 0.5 + i / 20, **more}
        for i, box in enumerate(BOXES)
    ]


def refused(preds, data, message, **options):
    with pytest.raises(TilerError, match=message) as caught:
        tiler.score(preds, data, **options)
    assert "\n" not in str(caught.value)


def codes(metrics):
    return [finding.code for finding in metrics.findings]


# --- other frames


@pytest.mark.parametrize(
    "name", ["p0__0_0_100_100", "p0__s50__0_0_100_100", "p0_0_0_100_100", "p0__64__0___0"]
)
def test_predictions_on_tiles_are_told_by_their_names(data, tmp_path, name):
    message = rf"predictions on tiles \({name}\): run tiler merge first"
    refused(texts(tmp_path / "preds", {name: FOUND}), data.yaml, message)
    refused(dumped(tmp_path / "p.json", results(f"{name}.png")), data.yaml, message, preds_base="0")


def test_predictions_on_real_tiles_are_refused(data, tmp_path):
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=64, overlap=16, workers=1)
    preds = texts(
        tmp_path / "preds",
        {path.stem: FOUND for path in (tmp_path / "tiles" / "labels" / "val").glob("*.txt")},
    )
    refused(preds, data.yaml, "run tiler merge first")


def test_a_picture_that_is_named_like_a_tile_is_a_picture(tmp_path):
    made = dataset(tmp_path / "data", {"p0": LABELS, "p0_0_0_100_100": LABELS})
    metrics = tiler.score(texts(tmp_path / "preds", {"p0_0_0_100_100": FOUND}), made.yaml)
    assert (metrics.findings, metrics.card["detections"]) == ([], 6)


def test_normalised_numbers_where_pixels_are_expected(data, tmp_path):
    part = results(form=lambda x0, y0, x1, y1: [x0 / W, y0 / H, (x1 - x0) / W, (y1 - y0) / H])
    refused(dumped(tmp_path / "p.json", part), data.yaml, "normalised", preds_base="0")
    gt = ground([(1, "p0.png")], [(1, 1, [x0, y0, x1 - x0, y1 - y0]) for x0, y0, x1, y1 in BOXES])
    refused(
        dumped(tmp_path / "q.json", [{**r, "category_id": 1} for r in part]),
        dumped(tmp_path / "gt.json", gt),
        "normalised",
    )


def test_pixels_where_normalised_numbers_are_expected(data, tmp_path):
    rows = "".join(
        f"0 {(x0 + x1) / 2} {(y0 + y1) / 2} {x1 - x0} {y1 - y0} 0.5\n" for x0, y0, x1, y1 in BOXES
    )
    refused(
        texts(tmp_path / "preds", {"p0": rows}),
        data.yaml,
        "these are pixels, expected coordinates from 0 to 1",
    )


def test_pixels_of_other_pictures(data, tmp_path):
    far = results(form=lambda x0, y0, x1, y1: [x0 + 4000, y0 + 4000, x1 - x0, y1 - y0])
    refused(
        dumped(tmp_path / "p.json", far),
        data.yaml,
        r"6 of 6 boxes lie outside their image, such as 40\d\d",
        preds_base="0",
    )


def test_what_reaches_past_the_picture_is_scored_as_it_is(data, tmp_path):
    """A protocol does not clip: the box is that of the detector."""
    over = [{"image_id": "p0", "category_id": 0, "bbox": [-20, 10, 29, 20], "score": 0.5}]
    metrics = tiler.score(dumped(tmp_path / "p.json", over), data.yaml, preds_base="0")
    assert metrics.findings == []
    np.testing.assert_allclose(metrics.sample.detections.instances.boxes, [[-20, 10, 9, 30]])


# --- other images


def test_predictions_of_no_picture(data, tmp_path):
    refused(
        texts(tmp_path / "preds", {"q": FOUND}),
        data.yaml,
        r"none of 1 predictions is for an image of .*dataset.yaml \(q, ...\)",
    )
    refused(
        dumped(tmp_path / "p.json", results("q.png")),
        data.yaml,
        "none of 1 predictions is for",
        preds_base="0",
    )


@pytest.mark.parametrize("form", ["txt", "json"])
def test_some_predictions_of_no_picture_are_left_out_and_said(data, tmp_path, form):
    if form == "txt":
        preds = texts(tmp_path / "preds", {"p0": FOUND, "q": FOUND})
    else:
        preds = dumped(tmp_path / "p.json", results() + results("q.png"))
    metrics = tiler.score(preds, data.yaml, preds_base="0")
    assert [(f.code, f.message) for f in metrics.findings] == [
        ("S01", "q: no image of val; 6 rows left out")
    ]
    assert (metrics.exit_code(), metrics.card["detections"], metrics.coco["AP"]) == (
        1,
        6,
        pytest.approx(51 / 101),
    )


def test_two_files_of_one_picture(data, tmp_path):
    metrics = tiler.score(texts(tmp_path / "preds", {"p0": FOUND, "a/p0": FOUND}), data.yaml)
    assert codes(metrics) == ["S01"]
    assert re.search("its image has predictions in .*p0 already", metrics.findings[0].message)
    assert (metrics.card["detections"], metrics.exit_code()) == (6, 1)


@pytest.mark.parametrize("others", [{}, {"p1": FOUND}])
def test_two_pictures_of_one_name_are_not_guessed_between(data, tmp_path, others):
    data.add("p0.jpg", None, Image.new("L", (W, H), 5), "val")
    preds = texts(tmp_path / "preds", {"p0": FOUND, **others})
    if others:
        metrics = tiler.score(preds, data.yaml)
        assert (codes(metrics)[-1:], metrics.card["detections"], metrics.exit_code()) == (
            ["S01"],
            6,
            1,
        )
    else:
        refused(preds, data.yaml, "p0")


def test_pictures_of_one_name_in_two_folders_are_told_by_their_folders(tmp_path):
    made = dataset(tmp_path / "data", {"a/p": LABELS, "b/p": ""})
    whole = texts(
        tmp_path / "whole", {"images/val/a/p": FOUND, "images/val/b/p": row(0, 1, 1, 9, 9, 0.1)}
    )
    metrics = tiler.score(whole, made.yaml)
    assert (metrics.findings, metrics.coco["AP"]) == ([], pytest.approx(1))
    short = texts(tmp_path / "short", {"p": FOUND})
    with pytest.raises(TilerError, match="p"):
        tiler.score(short, made.yaml)


def test_a_name_in_two_splits_is_that_of_the_split(tmp_path):
    made = dataset(tmp_path / "data", {"p": LABELS}, {"p": ""})
    preds = texts(tmp_path / "preds", {"p": FOUND})
    assert tiler.score(preds, made.yaml, split="val").coco["AP"] == pytest.approx(1)
    assert tiler.score(preds, made.yaml, split="train").coco["AP"] != pytest.approx(1)
    default = tiler.score(preds, made.yaml)
    assert (default.card["split"], default.coco["AP"]) == ("val", pytest.approx(1))


HOSTILE = ("a b", "[x]{y}", "p%20", "-v", "ä ö", "p.q", "a'b\"c", "a\nb", "p__0_0")


def test_names_of_all_kinds(tmp_path):
    names = {}
    made = dataset(tmp_path / "data", {})
    for i, name in enumerate(HOSTILE):
        try:
            made.add(f"{name}.png", LABELS, Image.new("L", (W, H), i), "val")
        except OSError:  # not a name here
            continue
        names[name] = FOUND
    metrics = tiler.score(texts(tmp_path / "preds", names), made.yaml)
    assert [f for f in metrics.findings if f.level == "error"] == []
    assert (metrics.card["images"], metrics.coco["AP"]) == (len(names), pytest.approx(1))
    assert json.loads(metrics.encoded())


def test_hostile_names_of_no_picture_are_said_on_one_line(data, tmp_path):
    preds = dumped(
        tmp_path / "p.json",
        results() + results("x\n\x1b[31m" + "y" * 500) + results("../../p1.png"),
    )
    metrics = tiler.score(preds, data.yaml, preds_base="0")
    for finding in metrics.findings:
        assert finding.message.isprintable()
        assert len(finding.message) < 300
    assert metrics.exit_code() == 1


# --- rows that cannot be meant


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (row(0, 1, 1, 9, 9).strip() + " nan", "D08"),
        (row(0, 1, 1, 9, 9).strip() + " 1.5", "D08"),
        (row(0, 1, 1, 9, 9).strip() + " -0.1", "D08"),
        (row(7, 1, 1, 9, 9, 0.5).strip(), "D04"),
        (row(-1, 1, 1, 9, 9, 0.5).strip(), "D04"),
        (row(0.5, 1, 1, 9, 9, 0.5).strip(), "D04"),
        ("0 0.5 0.5 nan 0.1 0.5", "D02"),
        ("0 0.5 inf 0.1 0.1 0.5", "D02"),
        ("0 half 0.5 0.1 0.1 0.5", "D02"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_with_its_line(data, tmp_path, line, code):
    sound = tiler.score(texts(tmp_path / "sound", {"p0": FOUND}), data.yaml)
    metrics = tiler.score(texts(tmp_path / "preds", {"p0": f"{FOUND}{line}\n"}), data.yaml)
    assert [(f.path, f.code, f.line) for f in metrics.findings] == [("p0.txt", code, 7)]
    assert metrics.exit_code() == 1
    assert metrics.coco == pytest.approx(sound.coco, nan_ok=True)


def test_a_row_of_another_length_is_refused_with_its_line(data, tmp_path):
    metrics = tiler.score(texts(tmp_path / "preds", {"p0": f"{FOUND * 10}0 0.5 0.5\n"}), data.yaml)
    assert [(f.code, f.line) for f in metrics.findings] == [("D03", 61)]
    assert (metrics.card["detections"], metrics.exit_code()) == (60, 1)


@pytest.mark.parametrize("value", ["NaN", "null", '"high"', "1e999", "2", "-1"])
def test_a_confidence_in_json_that_is_none(data, tmp_path, value):
    text = json.dumps(
        results() + [{"image_id": "p1", "category_id": 0, "bbox": [1, 1, 9, 9], "score": "SCORE"}]
    )
    path = tmp_path / "p.json"
    path.write_text(text.replace('"SCORE"', value))
    try:
        metrics = tiler.score(path, data.yaml, preds_base="0")
    except TilerError as error:  # not JSON at all
        assert value in ("NaN", "1e999")
        assert "p.json" in str(error)
        return
    assert metrics.exit_code() == 1
    assert metrics.card["detections"] == 6
    assert codes(metrics)[0] in ("D08", "D02")


def test_a_box_without_size_is_a_false_positive_as_in_pycocotools(data, tmp_path):
    flat = [{"image_id": "p0", "category_id": 0, "bbox": [50, 50, 0, 10], "score": 0.99}]
    metrics = tiler.score(dumped(tmp_path / "p.json", results() + flat), data.yaml, preds_base="0")
    assert (metrics.card["detections"], metrics.exit_code()) == (7, 0)
    assert metrics.coco["AP"] < 51 / 101


def test_class_ids_of_a_coco_truth_that_are_none(tmp_path):
    gt = dumped(
        tmp_path / "gt.json",
        ground([(1, "p0.png")], [(1, 1, [x0, y0, x1 - x0, y1 - y0]) for x0, y0, x1, y1 in BOXES]),
    )
    found = [{**r, "image_id": 1, "category_id": 1} for r in results()] + [
        {**results()[0], "image_id": 1, "category_id": 99}
    ]
    metrics = tiler.score(dumped(tmp_path / "p.json", found), gt)
    assert [f.code for f in metrics.findings] == ["D04"]
    assert (metrics.coco["AP"], metrics.exit_code()) == (pytest.approx(1), 1)


def test_no_confidence(data, tmp_path):
    preds = texts(tmp_path / "preds", {"p0": LABELS})
    refused(preds, data.yaml, "no confidence in the rows.*predict again with save_conf=True")
    assert tiler.score(preds, data.yaml, assume_conf=0.5).coco["AP50"] == pytest.approx(51 / 101)
    without = [{k: v for k, v in r.items() if k != "score"} for r in results()]
    refused(dumped(tmp_path / "p.json", without), data.yaml, "no confidence", preds_base="0")


def test_less_sure_detections_can_be_left_out(data, tmp_path):
    metrics = tiler.score(texts(tmp_path / "preds", {"p0": FOUND}), data.yaml, conf=0.6)
    assert (metrics.card["detections"], metrics.card["conf"]) == (4, 0.6)


# --- no predictions


def test_missing_files(data, tmp_path):
    refused(tmp_path / "nowhere", data.yaml, "nowhere: no such file or folder")
    preds = texts(tmp_path / "preds", {"p0": FOUND})
    refused(preds, tmp_path / "nowhere.yaml", "nowhere.yaml: no such file or folder")
    refused(preds, tmp_path / "nowhere.json", "nowhere.json: cannot be read")
    refused(
        preds, data.yaml, "--tiles nowhere: expected the output of tiler split", tiles="nowhere"
    )
    refused(preds, data.yaml, "--tile-preds nowhere: no such file or folder", tile_preds="nowhere")


@pytest.mark.parametrize("files", [{}, {"notes.md": "x"}, {"a.json": "hello"}])
def test_a_folder_without_predictions(data, tmp_path, files):
    (tmp_path / "preds").mkdir()
    for name, text in files.items():
        (tmp_path / "preds" / name).write_text(text)
    refused(tmp_path / "preds", data.yaml, "no predictions found in")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "not predictions"),
        ("{}", "expected entries with image_id.*got no keys"),
        ("[1]", ""),
        ("", ""),
    ],
)
def test_files_that_are_no_predictions(data, tmp_path, text, message):
    (tmp_path / "p.json").write_text(text)
    refused(tmp_path / "p.json", data.yaml, f"p.json: .*{message}")


def test_nothing_found_is_a_score_of_0(data, tmp_path):
    for preds in (texts(tmp_path / "preds", {"p0": ""}), dumped(tmp_path / "p.json", [])):
        metrics = tiler.score(preds, data.yaml)
        assert (metrics.card["split"], metrics.coco["AP"], metrics.coco["AR_100"], metrics.map) == (
            "val",
            0,
            0,
            0,
        )
        assert metrics.exit_code() == 0


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"bins": "aitdo"},
            "--bins: expected coco, aitod, tinyperson, soda, or increasing sides in px such as",
        ),
        ({"bins": "32,16"}, "--bins: expected"),
        (
            {"max_dets": "ten"},
            "--max-dets: expected auto, or increasing whole numbers such as 1,10,100",
        ),
        ({"max_dets": "10,1"}, "--max-dets: expected"),
        (
            {"protocol": "cocoo"},
            "--protocol: expected one of coco, ultralytics, .*did you mean 'coco'?",
        ),
        ({"protocol": ""}, "--protocol: expected"),
        ({"protokol": "coco"}, "unknown option 'protokol'; did you mean 'protocol'?"),
        ({"analysis": "ful"}, "--analysis: expected one of auto, full, none .did you mean 'full'?"),
        ({"replicates": -1}, "--replicates: expected a whole number from 0"),
        ({"conf": 2}, "--conf: expected a number from 0 to 1"),
        ({"ignore_class": "z"}, "--ignore-class z: no class of"),
        ({"task": "obb"}, "not obb rows"),
        ({"images": "x"}, "--images goes with annotations"),
    ],
)
def test_wrong_options(data, tmp_path, options, message):
    refused(texts(tmp_path / "preds", {"p0": FOUND}), data.yaml, message, **options)
