"""What `score` returns: the names of `results.box` and of COCO, and a JSON that is the same every
time.
"""

import copy
import csv
import io
import json
import pickle

import numpy as np
import pytest

import tiler
from tests.scoring.test_score import dataset, row, same_numbers, texts
from tiler.formats import csv_cells
from tiler.scoring import output
from tiler.scoring.metrics import finite

LABELS = {
    "p0": row(0, 10, 10, 30, 30) + row(0, 60, 10, 80, 30),
    "p1": row(0, 10, 10, 30, 30) + row(1, 100, 40, 140, 80),
}
FOUND = {
    "p0": row(0, 10, 10, 30, 30, 0.9) + row(0, 150, 10, 170, 30, 0.8),
    "p1": row(0, 11, 10, 30, 30, 0.7) + row(1, 100, 40, 140, 76, 0.6) + row(2, 10, 70, 30, 90, 0.5),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    return dataset(root / "data", LABELS), texts(root / "preds", FOUND)


@pytest.fixture(scope="module")
def metrics(made):
    return tiler.score(
        made[1], made[0].yaml, protocol="coco,ultralytics,ultralytics-8.3,voc", replicates=20
    )


def test_the_names_of_results_box(metrics):
    """Of n = 2 classes with labels among 3: shapes as in Ultralytics 8.4.190."""
    shapes = {
        "all_ap": (2, 10),
        "ap_class_index": (2,),
        "maps": (3,),
        "px": (1000,),
        "nt_per_class": (3,),
    }
    shapes |= dict.fromkeys(("p", "r", "f1", "ap", "ap50"), (2,))
    shapes |= dict.fromkeys(("p_curve", "r_curve", "f1_curve", "prec_values"), (2, 1000))
    for name, shape in shapes.items():
        assert np.shape(getattr(metrics, name)) == shape, name
    assert metrics.nc == 3
    assert metrics.ap_class_index.tolist() == [0, 1]
    assert metrics.nt_per_class.tolist() == [3, 1, 0]
    for name, expected in {
        "map": metrics.all_ap.mean(),
        "map50": metrics.all_ap[:, 0].mean(),
        "map75": metrics.all_ap[:, 5].mean(),
        "mp": metrics.p.mean(),
        "mr": metrics.r.mean(),
    }.items():
        assert isinstance(getattr(metrics, name), float)
        assert getattr(metrics, name) == pytest.approx(expected)
    np.testing.assert_allclose(metrics.maps, [*metrics.ap, metrics.map])
    np.testing.assert_allclose(metrics.ap, metrics.all_ap.mean(axis=1))
    np.testing.assert_allclose(metrics.ap50, metrics.all_ap[:, 0])


def test_methods_are_callable_and_can_be_printed_as_they_are(metrics):
    assert (
        metrics.mean_results()
        == list(metrics.mean_results)
        == [metrics.mp, metrics.mr, metrics.map50, metrics.map]
    )
    assert metrics.fitness() == metrics.fitness == metrics.map
    assert metrics.class_result(0) == (metrics.p[0], metrics.r[0], metrics.ap50[0], metrics.ap[0])
    assert metrics.class_result[1] == metrics.class_result(1)
    assert len(metrics.class_result) == 2
    for shown in (metrics.fitness, metrics.mean_results, metrics.class_result):
        assert "method" not in str(shown)
        assert "0." in f"{shown}"
    with pytest.raises(IndexError):
        metrics.class_result(2)


def test_curves(metrics):
    assert [(x.shape, y.shape, *names) for x, y, *names in metrics.curves_results] == [
        ((1000,), (2, 1000), "Recall", "Precision"),
        ((1000,), (2, 1000), "Confidence", "F1"),
        ((1000,), (2, 1000), "Confidence", "Precision"),
        ((1000,), (2, 1000), "Confidence", "Recall"),
    ]
    assert set(metrics.results_dict) == {
        *(f"metrics/{name}(B)" for name in ("precision", "recall", "mAP50", "mAP50-95")),
        "fitness",
    }
    assert metrics.results_dict["metrics/mAP50-95(B)"] == metrics.map


def test_cocos_names(metrics):
    for name in (
        "ap_small",
        "ap_medium",
        "ap_large",
        "ap75",
        "ar_1",
        "ar_10",
        "ar_100",
        "ar_small",
    ):
        value = {key.lower(): value for key, value in metrics.coco.items()}[name]
        assert getattr(metrics, name) == pytest.approx(value, nan_ok=True)
    assert metrics.ap.shape == (2,)  # Ultralytics' array; the number is coco["AP"]
    assert metrics.legacy.map > 0


def test_an_unknown_attribute_is_an_error_and_the_known_ones_are_listed(metrics):
    for name in ("mapp", "ap_tiny", "__len__", "_box"):
        with pytest.raises(AttributeError, match=name):
            getattr(metrics, name)
    assert not hasattr(metrics, "nothing")
    assert {"map", "map50", "maps", "ap_small", "coco", "fitness", "per_class", "encoded"} <= set(
        dir(metrics)
    )


def test_it_can_be_pickled_and_copied(metrics):
    for other in (pickle.loads(pickle.dumps(metrics)), copy.copy(metrics), copy.deepcopy(metrics)):
        assert other.encoded() == metrics.encoded()
        assert (other.map, other.ap_small) == (metrics.map, metrics.ap_small)


def test_nothing_found_and_no_labels_have_the_same_names(made, tmp_path):
    none = tiler.score(texts(tmp_path / "preds", {"p0": ""}), made[0].yaml)
    assert (none.map, none.mp, none.mr, none.fitness()) == (0, 0, 0, 0)
    assert none.class_result(1) == (0, 0, 0, 0)
    empty = dataset(tmp_path / "data", {"p0": ""})
    of_none = tiler.score(texts(tmp_path / "found", {"p0": row(0, 1, 1, 9, 9, 0.5)}), empty.yaml)
    assert (of_none.class_result(), of_none.all_ap.shape[0]) == ([], 0)
    numbers = (of_none.map, of_none.map50, of_none.mp, of_none.mr, of_none.fitness())
    assert np.isnan([*numbers, *of_none.maps, *of_none.mean_results()]).all()
    assert np.isnan([*of_none.results_dict.values()]).all()
    for metrics in (none, of_none):
        assert json.loads(metrics.encoded())
        assert output.per_class(metrics)
        assert output.curves(metrics)


PROTOCOLS = {"protocol": "coco,ultralytics,ultralytics-8.3,voc", "analysis": "none"}
MEANS = ("map", "map50", "mp", "mr")


def means(metrics):
    """The means of every protocol, as the JSON has them."""
    content = json.loads(metrics.encoded())
    legacy = [content[name][key] for name in ("ultralytics", "ultralytics-8.3") for key in MEANS]
    return [content["coco"]["AP"], content["coco"]["AR_100"], *content["voc"].values(), *legacy]


def test_nothing_found_is_0_by_every_protocol(made, tmp_path):
    none = tiler.score(texts(tmp_path / "preds", {"p0": ""}), made[0].yaml, **PROTOCOLS)
    assert set(means(none)) == {0}


def test_without_labels_there_is_nothing_to_measure_by_any_protocol(tmp_path):
    empty = dataset(tmp_path / "data", {"p0": ""})
    preds = texts(tmp_path / "preds", {"p0": row(0, 1, 1, 9, 9, 0.5)})
    assert set(means(tiler.score(preds, empty.yaml, **PROTOCOLS))) == {None}


# --- JSON and CSV


def strictly(text):
    """JSON without NaN or Infinity."""

    def refuse(word):
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def test_the_json_is_valid_and_the_same_twice(made, metrics):
    again = tiler.score(
        made[1], made[0].yaml, protocol="coco,ultralytics,ultralytics-8.3,voc", replicates=20
    )
    assert metrics.encoded() == again.encoded()
    content = strictly(metrics.encoded())
    assert content["coco"]["AP_large"] is None
    same_numbers(metrics.coco, content["coco"])
    assert content["ultralytics"]["map"] == metrics.map
    assert content["ultralytics-8.3"]["map"] == metrics.legacy.map
    assert set(content) >= {
        "card",
        "coco",
        "ultralytics",
        "bins",
        "per_class",
        "intervals",
        "seams",
        "errors",
        "confusion",
        "findings",
    }
    assert set(content["coco"]) == {
        *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
        *("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large"),
    }
    assert set(content["ultralytics"]) >= {"mp", "mr", "map50", "map75", "map"}
    assert "speed" not in content


def test_the_json_does_not_tell_where_it_was_made(made, metrics, tmp_path):
    import shutil

    shutil.copytree(made[0].root, tmp_path / "data")
    shutil.copytree(made[1], tmp_path / "preds")
    (tmp_path / "preds" / "q.txt").write_text(row(0, 1, 1, 9, 9, 0.5))
    (tmp_path / "preds" / "p0.txt").write_text(FOUND["p0"] + row(9, 1, 1, 9, 9, 0.5))
    one = tiler.score(tmp_path / "preds", tmp_path / "data" / "dataset.yaml").encoded()
    (tmp_path / "data").rename(tmp_path / "data2")
    (tmp_path / "preds").rename(tmp_path / "preds2")
    assert tiler.score(tmp_path / "preds2", tmp_path / "data2" / "dataset.yaml").encoded() == one
    assert str(tmp_path) not in one.decode()


def test_the_card_tells_what_was_measured_how(metrics):
    card = metrics.card
    assert (card["data"], card["split"], card["task"], card["images"], card["classes"]) == (
        "dataset.yaml",
        "val",
        "detect",
        2,
        3,
    )
    assert (card["labels"], card["detections"], card["ignored_labels"]) == (4, 5, 0)
    assert card["classes_without_labels"] == ["c"]
    assert "8.4.190" in card["protocols"]["ultralytics"]
    assert "pycocotools" in card["protocols"]["coco"]
    assert card["options"]["replicates"] == 20
    assert set(card["max_dets"]) >= {"coco", "auto", "ultralytics"}


@pytest.mark.parametrize("table", ["per_class", "per_image", "confusion", "curves"])
def test_tables_are_csv(metrics, table):
    text = getattr(output, table)(metrics)
    head, *rows = csv.reader(io.StringIO(text))
    assert len({len(r) for r in rows} | {len(head)}) == 1
    assert "nan" not in text
    lengths = {"per_class": 3, "per_image": 2, "confusion": 4, "curves": 1000}
    assert len(rows) == lengths[table]


def test_names_of_classes_with_commas_and_quotes_are_one_cell(tmp_path):
    names = ['a,"b"', "c\nd", "=1+1"]
    made = dataset(tmp_path / "data", LABELS)
    made.yaml.write_text(f"train: images/train\nval: images/val\nnames: {json.dumps(names)}\n")
    metrics = tiler.score(texts(tmp_path / "preds", FOUND), made.yaml)
    rows = list(csv.reader(io.StringIO(output.per_class(metrics))))
    assert [csv_cells.plain(r[0]) for r in rows[1:]] == list(metrics.names)
    assert [r[0] for r in rows[1:]][2] == "'\\x3d1+1"
    assert len(metrics.names) == 3


def test_what_is_not_finite_is_null():
    value = {
        "a": float("nan"),
        "b": [np.float64("inf"), np.int64(3)],
        "c": np.array([1.5, np.nan]),
        "d": (True, None, "x"),
    }
    assert finite(value) == {"a": None, "b": [None, 3], "c": [1.5, None], "d": [True, None, "x"]}


def test_image_metrics_are_those_of_ultralytics(metrics):
    """utils/metrics.py, update_image_metrics: at IoU 0.5, of all confidences."""
    found = list(metrics.image_metrics.values())
    assert list(metrics.image_metrics) == metrics.keys
    assert [(own["tp"], own["fp"], own["fn"]) for own in found[:2]] == [(1, 1, 1), (2, 1, 0)]
    assert [round(own["f1"], 3) for own in found[:2]] == [0.5, 0.8]
    assert sum(own["tp"] for own in found) == int(metrics.box.correct[:, 0].sum())


def test_a_picture_without_anything_is_all_right(tmp_path):
    """As Ultralytics has it: nothing to find and nothing found counts as right."""
    made = dataset(tmp_path / "data", {"p0": row(0, 10, 10, 30, 30), "p1": ""})
    found = tiler.score(
        texts(tmp_path / "preds", {"p0": row(1, 10, 10, 30, 30, 0.9)}), made.yaml
    ).image_metrics
    assert [(own["precision"], own["recall"], own["f1"]) for own in found.values()] == [
        (0, 0, 0),
        (1, 1, 1),
    ]


def test_names_of_curves(metrics):
    assert metrics.curves[0] == "Precision-Recall(B)"
    assert len(metrics.curves) == len(metrics.curves_results) == 4
