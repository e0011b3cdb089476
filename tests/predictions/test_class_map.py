"""--classes and --map-classes, in every way that predictions have classes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiler
from tests.conftest import Dataset, picture
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.geometry.instances import Instances
from tiler.predictions.class_map import NONE, ClassMap, both

NAMES = ("car", "bus", "boat")
BOXES = [(20, 30, 60, 70), (100, 40, 150, 90), (180, 60, 220, 120)]  # px, of class 0, 1, 2
SIZE = 256


@pytest.fixture
def here(tmp_path):
    data = Dataset(tmp_path / "data", NAMES)
    data.add("scene.png", "", picture(SIZE, SIZE))
    return tmp_path


def txt(here):
    lines = []
    for k, (x0, y0, x1, y1) in enumerate(BOXES):
        values = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        lines.append(f"{k} {' '.join(str(v / SIZE) for v in values)} 0.{9 - k}\n")
    (here / "preds").mkdir()
    (here / "preds" / f"scene__0_0_{SIZE}_{SIZE}.txt").write_text("".join(lines))
    return here / "preds"


def coco(here, first, names=None):
    entries = []
    for k, (x0, y0, x1, y1) in enumerate(BOXES):
        entry = {"image_id": f"scene__0_0_{SIZE}_{SIZE}", "category_id": k + first}
        entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "score": 0.9 - k / 10}
        if names:
            entry["category_name"] = names[k]
        entries.append(entry)
    (here / "predictions.json").write_text(json.dumps(entries))
    return here / "predictions.json"


def task1(here, names):
    folder = here / "dota"
    folder.mkdir()
    for k, (x0, y0, x1, y1) in enumerate(BOXES):
        row = f"scene__0_0_{SIZE}_{SIZE} 0.{9 - k} {x0} {y0} {x1} {y0} {x1} {y1} {x0} {y1}\n"
        (folder / f"Task1_{names[k]}.txt").write_text(row)
    return folder


def classes(here, preds, **options):
    """The class of each of the three boxes in the merge; None for those left out."""
    images = here / "data" / "images" / "train"
    merged = tiler.merge(preds, images=images, data=here / "data" / "dataset.yaml", **options)
    (key,) = merged
    found = merged[key]
    result = []
    for wanted in BOXES:
        near = np.abs(found.boxes - wanted).max(axis=1) < 0.1
        result.append(int(found.class_id[near][0]) if near.any() else None)
    counts = merged.report.counts
    assert counts.rows == 3
    assert counts.fates.get("other class", 0) == result.count(None)
    assert any(f.code == "D17" for f in merged.report.findings) == (None in result)
    assert merged.report.exit_code() == 0
    return result


def test_classes_keeps_some(here):
    preds = txt(here)
    assert classes(here, preds) == [0, 1, 2]
    assert classes(here, preds, classes="car,boat") == [0, None, 2]
    assert classes(here, preds, classes=["1"]) == [None, 1, None]


def test_ids_are_those_in_the_files_whatever_they_count_from(here):
    assert classes(here, txt(here), map_classes="2=car,1=bus") == [None, 1, 0]
    for first in (0, 1, 17):
        mapping = {first + 2: "car", first: "boat"}
        assert classes(here, coco(here, first), map_classes=mapping) == [2, None, 0]


def test_names_are_those_in_the_files(here):
    theirs = ("truck", "coach", "ship")
    mapping = "coach=bus,ship=boat"
    assert classes(here, coco(here, 5, theirs), map_classes=mapping) == [None, 1, 2]
    assert classes(here, task1(here, theirs), map_classes=mapping) == [None, 1, 2]


def test_names_of_the_datasets_own_classes_may_be_joined(here):
    assert classes(here, txt(here), map_classes="car=car,bus=car") == [0, 0, None]


def test_both_options(here):
    options = {"map_classes": "0=bus,1=boat,2=boat", "classes": "boat"}
    assert classes(here, txt(here), **options) == [None, 2, 2]


def test_a_file_of_the_classes_is_written_down_as_pairs(here):
    (here / "map.yaml").write_text("2: car\n0: bus\n")
    preds = txt(here)
    out = here / "out"
    options = {"images": here / "data" / "images", "data": here / "data", "out": out}
    tiler.merge(preds, map_classes=here / "map.yaml", **options)
    assert "map_classes: 2=car,0=bus\n" in (out / "args.yaml").read_text()
    assert tiler.merge(preds, map_classes="2=car,0=bus", **options).report.unchanged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "cra"}, "--classes: no class 'cra'; did you mean 'car'.*car, bus, boat"),
        ({"map_classes": "0=cra"}, "--map-classes: no class 'cra'; did you mean 'car'"),
        ({"map_classes": "lorry=car"}, "--map-classes: no class 'lorry': .* names .* not known"),
        ({"map_classes": "0=car,bus=bus"}, "expected ids or names, got both: 0 and bus"),
        ({"map_classes": "no.yaml"}, "no.yaml: no such file"),
        ({"map_classes": "0=car,0=bus"}, "--map-classes: expected pairs"),
        ({"map_classes": "=car"}, "--map-classes: expected pairs"),
        ({"map_classes": {0: True}}, "--map-classes: expected pairs"),
        ({"classes": "car,"}, "--classes: expected classes such as"),
    ],
)
def test_what_cannot_be_is_an_error(here, options, message):
    with pytest.raises(TilerError, match=message) as caught:
        classes(here, txt(here), **options)
    assert caught.value.exit_code == 2


def test_no_name_in_the_files_is_an_error_with_both_lists(here):
    preds = coco(here, 0, ("truck", "coach", "ship"))
    with pytest.raises(TilerError, match="no class 'trcuk': .* coach, ship, truck; did you mean"):
        classes(here, preds, map_classes="trcuk=car")
    with pytest.raises(TilerError, match="names of classes and no ids .*coach, ship, truck"):
        classes(here, task1(here, ("truck", "coach", "ship")), map_classes="0=car")


def test_score_maps_what_was_merged(here):
    (here / "data" / "labels" / "train" / "scene.txt").write_text(
        "0 0.15625 0.1953125 0.15625 0.15625\n"
    )
    model = here / "model.yaml"
    model.write_text("path: data\ntrain: images/train\nval: images/train\nnames: [x, y, z]\n")
    out = here / "out"
    images = here / "data" / "images" / "train"
    tiler.merge(txt(here), images=images, data=model, out=out)
    data = here / "data" / "dataset.yaml"
    with pytest.raises(TilerError, match="have x, y, z, the labels car, bus, boat: --map-classes"):
        tiler.score(out, data)
    metrics = tiler.score(out, data, map_classes="x=car")
    assert metrics.coco["AP"] == pytest.approx(1)
    assert len(metrics.sample.detections) == 1
    assert any(finding.code == "D17" for finding in metrics.findings)
    assert tiler.score(out, data, map_classes="0=car,1=bus", classes="car").coco["AP"] > 0.99
    with pytest.raises(TilerError, match="no class 'xx': the predictions' classes are x, y, z"):
        tiler.score(out, data, map_classes="xx=car")


def test_score_of_some_classes_leaves_out_the_labels_of_others(here):
    rows = "0 0.15625 0.1953125 0.15625 0.15625\n1 0.9 0.9 0.1 0.1\n"
    (here / "data" / "labels" / "train" / "scene.txt").write_text(rows)
    images = here / "data" / "images" / "train"
    data = here / "data" / "dataset.yaml"
    merged = tiler.merge(txt(here), images=images, data=data)
    assert tiler.score(merged, data).coco["AP"] == pytest.approx(0.5)
    of_cars = tiler.score(merged, data, classes="car")
    assert of_cars.coco["AP"] == pytest.approx(1)
    assert len(of_cars.sample.labels) == 1


MAPS = st.dictionaries(st.integers(0, 5), st.integers(0, 5), min_size=1).map(ClassMap)


@given(one=MAPS, other=MAPS, ids=st.lists(st.integers(0, 5)))
@quick
def test_two_maps_are_one_after_the_other(one, other, ids):
    given = np.array(ids, np.float64)
    first = one.apply(given)
    known = first != NONE
    wanted = np.full(len(given), float(NONE))
    wanted[known] = other.apply(first[known])
    assert both(one, other).apply(given).tolist() == wanted.tolist()


@pytest.mark.parametrize("digits", [16, 5000, 300_000])
def test_ids_of_any_length_are_rejected(digits):
    with pytest.raises(TilerError, match=f"a number of {digits} digits"):
        ClassMap.of("", f"2=car,{'9' * digits}=car", None, ["car"])


@pytest.mark.parametrize("written", [txt, lambda here: coco(here, 0)])
def test_a_map_that_leaves_out_every_row_is_an_error(here, written):
    """As ids that count from 1 are, where the map has ids from 17."""
    preds = written(here)
    message = "--map-classes: it leaves out all 3 rows of .*: it names classes 17, 18, and theirs"
    with pytest.raises(TilerError, match=f"{message} are 0, 1, 2") as caught:
        classes(here, preds, map_classes="17=car,18=bus", out=here / "out")
    assert caught.value.exit_code == 2 and not (here / "out").exists()


def test_score_says_so_too(here):
    data = here / "data" / "dataset.yaml"
    truth = here / "data" / "labels" / "train" / "scene.txt"
    truth.write_text("0 0.15625 0.1953125 0.15625 0.15625\n")
    preds = here / "whole"
    preds.mkdir()
    (preds / "scene.txt").write_text("0 0.15625 0.1953125 0.15625 0.15625 0.9\n")
    with pytest.raises(TilerError, match="it leaves out all 1 rows of .*: it names classes 7, and"):
        tiler.score(preds, data, map_classes="7=car")
    boxes = np.array([[20.0, 30, 60, 70]])
    found = Instances(np.array([0]), boxes, conf=np.array([0.9]))
    with pytest.raises(TilerError, match="it leaves out all 1 rows of the detections"):
        tiler.score({"scene.png": found}, data, map_classes="7=car")
    assert tiler.score({"scene.png": found}, data, map_classes="0=car").coco["AP"] > 0.99


def test_classes_that_were_not_detected_are_none_rightly(here):
    preds = txt(here)
    path = next(preds.iterdir())
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    images = here / "data" / "images" / "train"
    data = here / "data" / "dataset.yaml"
    for options in ({"classes": "car"}, {"map_classes": "1=bus,0=car", "classes": "car"}):
        report = tiler.merge(preds, images=images, data=data, **options).report
        assert (report.counts.detections, report.exit_code()) == (0, 0)
        assert "D17" in [finding.code for finding in report.findings]


def test_a_run_without_rows_has_none_to_map(here):
    preds = txt(here)
    next(preds.iterdir()).write_text("")
    images = here / "data" / "images" / "train"
    report = tiler.merge(
        preds, images=images, data=here / "data" / "dataset.yaml", map_classes="7=car"
    ).report
    assert (report.counts.detections, report.exit_code()) == (0, 0)
