"""Numbers that can be worked out by hand, and what the options choose."""

import json
import math

import numpy as np
import pytest

import tiler
from tests.scoring.test_score import dataset, row, texts
from tiler.errors import TilerError
from tiler.evaluation import coco
from tiler.evaluation.candidates import candidates
from tiler.scoring.comparing import compared

# Two labels of a and one of b are found, missed, mistaken; the boxes are those of the labels or
# away from all.
LABELS = {
    "p0": row(0, 10, 10, 30, 30) + row(0, 60, 10, 80, 30),
    "p1": row(0, 10, 10, 30, 30) + row(1, 100, 40, 140, 80),
    "p2": "",
}
FOUND = {
    "p0": row(0, 10, 10, 30, 30, 0.9) + row(0, 150, 10, 170, 30, 0.8),
    "p1": row(0, 10, 10, 30, 30, 0.7) + row(0, 100, 40, 140, 80, 0.6),
    "p2": row(1, 10, 50, 50, 90, 0.5),
}


@pytest.fixture
def made(tmp_path):
    return dataset(tmp_path / "data", LABELS), texts(tmp_path / "preds", FOUND)


def many(rows):
    """The same images, each five times."""
    return {f"{name}{i}": text for i in range(5) for name, text in rows.items()}


def score(made, **options):
    return tiler.score(made[1], made[0].yaml, **options)


def test_by_hand(made):
    """Of a: right, wrong, right, wrong; so precision 1 up to a recall of 1/3, 2/3 up to one of
    2/3.
    """
    metrics = score(made, protocol="coco,ultralytics,voc,voc07,dota")
    a = (34 + 33 * 2 / 3) / 101
    plain = metrics.plain()
    for name in ("AP", "AP50", "AP75"):
        assert metrics.coco[name] == pytest.approx(a / 2)
        assert plain["per_class"]["a"][name] == pytest.approx(a)
        assert plain["per_class"]["b"][name] == 0
    assert metrics.coco["AR_1"] == metrics.coco["AR_100"] == pytest.approx(1 / 3)
    # what is on b's medium box does not count there
    assert metrics.coco["AP_small"] == pytest.approx(a)
    assert metrics.coco["AP_medium"] == 0
    assert math.isnan(metrics.coco["AP_large"])
    assert (plain["coco"]["AP_large"], plain["per_class"]["c"]["AP"]) == (None, None)
    assert metrics.voc == {
        "voc": pytest.approx(5 / 18),
        "voc07": pytest.approx(3 / 11),
        "dota": pytest.approx(3 / 11),
    }
    assert plain["voc"] == metrics.voc
    assert metrics.nt_per_class.tolist() == [3, 1, 0]


def test_the_confusion_matrix_by_hand(made):
    names = score(made).plain()["confusion"]["names"]
    assert names == ["a", "b", "c", "background"]
    assert score(made, at_conf=0.25).confusion.tolist() == [
        [2, 1, 0, 1],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [1, 0, 0, 0],
    ]


def test_one_confidence_by_hand(made):
    """Of images, of the confusion matrix and of all tables but those of AP."""
    metrics = score(made, at_conf=0.7)
    point = metrics.plain()["operating"]
    assert (point["conf"], point["chosen"], metrics.plain()["confusion"]["conf"]) == (
        0.7,
        "--at-conf",
        0.7,
    )
    names = ("labels", "tp", "fp", "fn", "precision", "recall", "f1")
    assert [point["all"][name] for name in names] == [4, 2, 1, 2, 2 / 3, 0.5, 4 / 7]
    assert metrics.confusion.tolist() == [
        [2, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 0],
    ]
    assert [(r["tp"], r["fp"], r["fn"]) for r in metrics.per_image] == [
        (1, 1, 1),
        (1, 0, 1),
        (0, 0, 0),
    ]
    assert metrics.coco == pytest.approx(score(made).coco, nan_ok=True)
    assert score(made).plain()["operating"]["chosen"] == "of the best mean F1"
    given = score(made, conf=0.7).plain()["operating"]
    assert {**given, "chosen": ""} == {**point, "chosen": ""}


def test_a_confidence_below_the_least_that_counts_is_an_error(made):
    with pytest.raises(TilerError, match="--at-conf 0.2: --conf 0.5 leaves none"):
        score(made, conf=0.5, at_conf=0.2)


def counted_by_hand(metrics, size=None):
    """A loop over the rows of one confidence: tp, fp, fn."""
    sample = metrics.sample
    matched = coco.matched(sample, candidates(sample, 0.499))[:, 0]
    conf = metrics.operating["conf"]
    low, high = size or (0, 1e10)
    found = set()
    tp = fp = 0
    for d, label in enumerate(matched.tolist()):
        if sample.detections.conf[d] < conf:
            continue
        if label < 0:
            fp += low <= sample.detections.area[d] <= high
        elif not sample.labels.ignored[label]:
            inside = low <= sample.labels.area[label] <= high
            tp += inside
            found.add(label)
    fn = 0
    for g, area in enumerate(sample.labels.area.tolist()):
        missed = g not in found and not sample.labels.ignored[g]
        fn += missed and low <= area <= high
    return tp, fp, fn


@pytest.mark.parametrize("at_conf", [0, 0.3, 0.6])
def test_counts_of_one_confidence_are_those_of_a_loop(tmp_path, at_conf):
    rng = np.random.default_rng(int(at_conf * 10))
    labels, found = {}, {}
    for name in ("p0", "p1", "p2", "p3"):
        text, rows = "", ""
        for _ in range(12):
            x, y = rng.uniform(0, 150), rng.uniform(0, 60)
            w, h = rng.uniform(5, 50), rng.uniform(5, 40)
            k = rng.integers(2)
            text += row(int(k), *map(float, (x, y, x + w, y + h)))
            dx, dy = rng.normal(0, 3, 2)
            conf = float(rng.uniform())
            moved = map(float, (x + dx, y + dy, x + w + dx, y + h + dy, conf))
            rows += row(int(rng.integers(2)), *moved)
        labels[name], found[name] = text, rows
    data, preds = dataset(tmp_path / "data", labels), texts(tmp_path / "preds", found)
    metrics = tiler.score(preds, data.yaml, at_conf=at_conf, counts=True, replicates=0)
    point = metrics.operating
    counts = [point["all"][name] for name in ("tp", "fp", "fn")]
    assert tuple(counts) == counted_by_hand(metrics)
    for name, low, high in (("small", 0, 32), ("medium", 32, 96), ("large", 96, 1e5)):
        size = tuple(point["sizes"][name][key] for key in ("tp", "fp", "fn"))
        assert size == counted_by_hand(metrics, (low**2, high**2))
    of_classes = np.sum(
        [[r[key] for key in ("tp", "fp", "fn")] for r in point["classes"].values()], axis=0
    )
    assert of_classes.tolist() == counts
    of_images = np.sum([[r[key] for key in ("tp", "fp", "fn")] for r in metrics.per_image], axis=0)
    assert of_images.tolist() == counts
    counted(metrics)


def counted(metrics):
    """MAE, RMSE and bias of the columns of per_image, by a loop."""
    found = metrics.counts
    for name, numbers in found["classes"].items():
        differences = [
            image[f"detections of {name}"] - image[f"labels of {name}"]
            for image in metrics.per_image
        ]
        n = len(differences)
        assert numbers["bias"] == pytest.approx(sum(differences) / n)
        assert numbers["mae"] == pytest.approx(sum(map(abs, differences)) / n)
        assert numbers["rmse"] == pytest.approx(math.sqrt(sum(d * d for d in differences) / n))
    every = [image["detections"] - image["labels"] for image in metrics.per_image]
    assert found["all"]["bias"] == pytest.approx(sum(every) / len(every))


def test_counts_only_if_asked_for(made):
    metrics = score(made)
    assert metrics.counts is None
    assert "counts" not in metrics.plain()
    assert not any(key.endswith(" of a") for key in metrics.per_image[0])


def test_pictures_by_hand(made):
    metrics = score(made)
    conf = metrics.plain()["ultralytics"]["conf"]
    # where F1 is best: beyond, the second of a is lost; before, the mistaken one comes in
    assert 0.6 < conf <= 0.7
    keys = ("image", "labels", "detections", "tp", "fp", "fn")
    assert [tuple(r[key] for key in keys) for r in metrics.per_image] == [
        ("images/val/p0.png", 2, 2, 1, 1, 1),
        ("images/val/p1.png", 2, 1, 1, 0, 1),
        ("images/val/p2.png", 0, 0, 0, 0, 0),
    ]
    assert [r["precision"] for r in metrics.per_image[:2]] == [0.5, 1]
    assert [r["recall"] for r in metrics.per_image[:2]] == [0.5, 0.5]
    assert [r["f1"] for r in metrics.per_image[:2]] == pytest.approx([0.5, 2 / 3])
    assert math.isnan(metrics.per_image[2]["f1"])


def test_the_table_of_classes(made):
    rows = score(made).plain()["per_class"]
    assert {name: (r["labels"], r["detections"]) for name, r in rows.items()} == {
        "a": (3, 4),
        "b": (1, 1),
        "c": (0, 0),
    }
    assert rows["a"]["P"] == pytest.approx(2 / 3, abs=0.05)
    assert rows["a"]["R"] == pytest.approx(2 / 3, abs=0.05)


def test_two_classes_of_one_name_have_two_rows(tmp_path):
    made = dataset(tmp_path / "data", LABELS, names=["a", "a", "c"])
    rows = tiler.score(texts(tmp_path / "preds", FOUND), made.yaml).plain()["per_class"]
    assert [r["labels"] for r in rows.values()] == [3, 1, 0]


# --- options


def test_protocols_that_are_asked_for(made):
    plain = score(made).plain()
    assert list(plain["card"]["protocols"]) == ["coco", "ultralytics"]
    assert ("ultralytics" in plain, "ultralytics-8.3" in plain, "voc" in plain) == (
        True,
        False,
        False,
    )
    plain = score(made, protocol="coco,ultralytics-8.3,dota").plain()
    assert ("ultralytics" in plain, "ultralytics-8.3" in plain, list(plain["voc"])) == (
        False,
        True,
        ["dota"],
    )
    for text in plain["card"]["protocols"].values():
        assert any(c.isdigit() for c in text)  # a version, or an IoU


def test_one_protocol_does_not_change_the_numbers_of_another(made):
    both = score(made, analysis="none")
    assert score(made, analysis="none", protocol="coco").coco == pytest.approx(
        both.coco, nan_ok=True
    )
    assert score(made, analysis="full").coco == pytest.approx(both.coco, nan_ok=True)
    alone = score(made, protocol="ultralytics", analysis="none").plain()["ultralytics"]
    assert alone == both.plain()["ultralytics"]


def test_bins(made):
    own = score(made, bins="16,32,96").bins
    assert (own["protocol"], list(own["sizes"])) == ("16,32,96", ["0-16", "16-32", "32-96", "96+"])
    assert [r["labels"] for r in own["sizes"].values()] == [0, 3, 1, 0]
    assert own["sizes"]["16-32"]["AP"] == pytest.approx(56 / 101)
    assert own["sizes"]["96+"]["high"] is None
    assert [(r["low"], r["high"]) for r in own["sizes"].values()][:3] == [
        (0, 16),
        (16, 32),
        (32, 96),
    ]
    assert score(made, bins=(16, 32, 96)).encoded() == score(made, bins="16,32,96").encoded()
    tiny = score(made, bins="tinyperson").bins
    assert tiny["max_dets"] == 200
    assert {"AP25", "AP50", "AP75"} <= set(tiny["sizes"]["tiny"])
    # 20 px in both
    assert [r["labels"] for r in score(made, bins="soda").bins["sizes"].values()] == [3, 0, 3, 3, 1]
    plain = score(made, bins="aitod").plain()
    assert (plain["bins"]["max_dets"], plain["bins"]["sizes"]["verytiny"]["AP"]) == (1500, None)


def test_limits_of_detections(tmp_path):
    boxes = [
        (10 * (i % 20), 10 * (i // 20), 10 * (i % 20) + 8, 10 * (i // 20) + 8) for i in range(150)
    ]
    made = dataset(tmp_path / "data", {"p0": "".join(row(0, *b) for b in boxes)})
    preds = texts(
        tmp_path / "preds", {"p0": "".join(row(0, *b, 0.9 - i / 1000) for i, b in enumerate(boxes))}
    )
    metrics = tiler.score(preds, made.yaml)
    assert metrics.coco["AR_100"] == pytest.approx(100 / 150)
    assert metrics.coco["AP"] == pytest.approx(67 / 101)
    auto = metrics.coco_auto
    assert (auto["max_dets"], auto["AP"], auto["AR"]) == (150, pytest.approx(1), pytest.approx(1))
    assert auto["cost_of_limit"] == pytest.approx(1 - 67 / 101)
    limits = metrics.card["max_dets"]
    assert (limits["coco"], limits["auto"], limits["images_beyond_limit"]) == ([1, 10, 100], 150, 1)
    given = tiler.score(preds, made.yaml, max_dets="1,50")
    assert given.card["max_dets"]["coco"] == [1, 50]
    assert given.coco["AR_50"] == pytest.approx(50 / 150)
    assert given.coco["AP"] == pytest.approx(34 / 101)
    one = tiler.score(preds, made.yaml, max_dets="150")
    assert one.coco["AP"] == pytest.approx(1)
    assert not math.isnan(one.coco["AR_150"])


def test_ultralytics_counts_300_a_picture_or_as_many_as_there_are_labels(tmp_path):
    made = dataset(tmp_path / "data", {"p0": row(0, 10, 10, 30, 30)})
    wrong = "".join(row(1, 10, 10, 20, 20 + i / 10, 0.9 - i / 1000) for i in range(320))
    metrics = tiler.score(
        texts(tmp_path / "preds", {"p0": wrong + row(0, 10, 10, 30, 30, 0.1)}), made.yaml
    )
    assert (
        metrics.card["max_dets"]["ultralytics"],
        metrics.card["max_dets"]["detections_beyond_ultralytics"],
    ) == (300, 21)
    assert (metrics.map, metrics.coco["AP"]) == (0, pytest.approx(1))


def test_without_analysis(made):
    metrics = score(made, analysis="none")
    assert (metrics.intervals, metrics.seams, metrics.errors, metrics.efficiency) == (
        None,
        None,
        None,
        None,
    )
    assert metrics.card["left_out"]["analysis"] == ["--analysis none"]
    assert json.loads(metrics.encoded())["errors"] is None


def test_resamplings(tmp_path):
    made = dataset(tmp_path / "data", many(LABELS)), texts(tmp_path / "preds", many(FOUND))
    metrics = score(made, replicates=50)
    assert set(metrics.intervals) == {"AP", "AP50", "AP_small", "AP_medium", "AP_large"}
    assert metrics.card["intervals"].startswith("50 resamplings")
    assert metrics.draws.ap.shape[0] == 50
    assert score(made, replicates=50).encoded() == metrics.encoded()
    none = score(made, replicates=0)
    assert (none.intervals, none.card["intervals"]) == (None, None)
    assert none.errors is not None


def test_bins_have_intervals(tmp_path):
    made = dataset(tmp_path / "data", many(LABELS)), texts(tmp_path / "preds", many(FOUND))
    sizes = score(made, bins="21,41").bins["sizes"]
    shown = [row for row in sizes.values() if row["labels"]]
    assert len(shown) == 2
    assert all(row["interval"][0] - 1e-9 <= row["AP"] <= row["interval"][1] + 1e-9 for row in shown)
    coco = score(made)
    assert coco.bins["sizes"]["small"]["interval"] == pytest.approx(coco.intervals["AP_small"])
    # of other thresholds
    assert "interval" not in score(made, bins="tinyperson").bins["sizes"]["tiny"]


def test_errors_by_hand(made):
    """At the confidence of the best F1: a false alarm, and the labels that are missed."""
    rows = {r.name: r.count for r in score(made).errors.rows}
    assert (rows["Bkg"], rows["Dup"], rows["Loc"]) == (1, 0, 0)
    assert rows["LowConf"] + rows["Miss"] == 2
    assert set(score(made).errors.untold) == {
        "SeamDup",
        "SeamTrunc",
        "SeamSplit",
        "LostInMerge",
        "NotCovered",
    }
    assert "no manifest of their tiles (--tiles)" in score(made).card["left_out"]["seams"][0]


def test_intervals_hold_the_estimate(tmp_path):
    rng = np.random.default_rng(0)
    labels, found = {}, {}
    for i in range(30):
        corners = rng.uniform(0, 60, (6, 2))
        boxes = [(*c, *(c + 25)) for c in corners]
        labels[f"p{i}"] = "".join(row(int(k % 2), *map(float, b)) for k, b in enumerate(boxes))
        moved = [np.array(b) + rng.normal(0, 3, 4) for b in boxes]
        found[f"p{i}"] = "".join(
            row(int(k % 2), *map(float, b), float(rng.random())) for k, b in enumerate(moved)
        )
    made = dataset(tmp_path / "data", labels)
    metrics = tiler.score(texts(tmp_path / "preds", found), made.yaml)
    low, high = metrics.intervals["AP"]
    assert low < metrics.coco_auto["AP"] < high
    for name in ("a", "b"):
        low, high = metrics.per_class[name]["interval"]
        assert low < metrics.per_class[name]["AP"] < high


@pytest.mark.parametrize(("images", "labelled"), [(1, 1), (2, 2), (4, 4), (9, 4), (9, 5)])
def test_no_interval_of_few_images(tmp_path, images, labelled):
    """Nor of those with labels: two can be drawn in three ways only, and one in one."""
    rows = {f"p{i}": row(0, 10, 10, 50, 50) if i < labelled else "" for i in range(images)}
    data = dataset(tmp_path / "data", rows, names=["car", "bus"])
    preds = texts(tmp_path / "preds", {name: row(0, 10, 10, 50, 46, 0.9) for name in rows})
    metrics = tiler.score(preds, data.yaml, split="val")
    plain = metrics.plain()
    if labelled >= 5:
        assert "resamplings" in plain["card"]["intervals"] and None not in plain["intervals"]["AP"]
        assert None not in plain["per_class"]["car"]["interval"]
        return
    said = f"({images})" if images < 5 else f"({labelled} with labels)"
    assert (plain["intervals"], plain["card"]["intervals"]) == (
        None,
        f"too few images for an interval {said}",
    )
    assert "interval" not in plain["per_class"]["car"]
    assert all("interval" not in size for size in plain["bins"]["sizes"].values())
    same = compared(metrics, metrics)["AP"]
    assert (
        same.verdict == f"too few images for an interval {said}"
        and np.isnan([same.low, same.high, same.p]).all()
    )


def test_no_interval_of_a_class_in_few_images(tmp_path):
    rows = {
        f"p{i}": row(0, 10, 10, 50, 50) + (row(1, 60, 60, 90, 90) if i < 2 else "")
        for i in range(6)
    }
    data = dataset(tmp_path / "data", rows, names=["car", "bus"])
    preds = texts(
        tmp_path / "preds",
        {name: row(0, 10, 10, 50, 46, 0.9) + row(1, 60, 60, 90, 88, 0.9) for name in rows},
    )
    plain = tiler.score(preds, data.yaml, split="val").plain()
    car, bus = plain["per_class"].values()
    assert None not in car["interval"] and bus["interval"] == [None, None]
    assert None not in plain["intervals"]["AP_medium"] and plain["intervals"]["AP_small"] == [
        None,
        None,
    ]
