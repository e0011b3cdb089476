"""The detections of an image as scripts and notebooks use them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tiler
from tiler.errors import TilerError
from tiler.geometry.instances import Instances, empty
from tiler.interop import foreign
from tiler.stitching.detections import ImageDetections

NAMES = ("bus", "car", "<b>van</b>")
SIZE = (64, 48)
TASKS = ("detect", "segment", "obb", "pose")


def detections(task="detect", count=12):
    """Rectangles in whole pixels, so that masks have their sides."""
    rng = np.random.default_rng(3)
    low = rng.integers(0, 30, (count, 2))
    high = low + rng.integers(4, 16, (count, 2))
    boxes = np.concatenate([low, high], axis=1).astype(float)
    quads = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    columns = {}
    if task in ("segment", "obb"):
        columns["rings"] = tiler.Rings.from_quads(quads)
    if task == "pose":
        columns["keypoints"] = np.concatenate([quads, np.full((count, 4, 1), 2.0)], axis=2)
    instances = Instances(
        rng.integers(0, 3, count), boxes, conf=rng.random(count), task=task, **columns
    )
    return ImageDetections.of(instances, NAMES, SIZE)


def equal(one, other):
    assert one.task == other.task
    for name in ("class_id", "boxes", "conf"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    if one.rings is not None:
        np.testing.assert_array_equal(one.rings.bounds(), other.rings.bounds())
    if one.keypoints is not None:
        np.testing.assert_array_equal(one.keypoints, other.keypoints)


class StandIn(SimpleNamespace):
    """As supervision's Detections, without its checks."""


@pytest.fixture(params=["stand-in", "supervision"])
def supervision(request, monkeypatch):
    if request.param == "supervision":
        pytest.importorskip("supervision", reason="needs supervision", exc_type=ImportError)
    else:
        module = SimpleNamespace(Detections=StandIn)
        monkeypatch.setitem(sys.modules, "supervision", module)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("count", [0, 1, 12])
@pytest.mark.parametrize("task", TASKS)
def test_to_supervision_and_back_loses_nothing(supervision, task, count):
    found = detections(task, count)
    given = found.to_supervision()
    back = foreign(given)
    if count or task == "detect":
        equal(back, found)
    assert list(given.data["class_name"]) == found.class_name
    if task == "segment":
        assert given.mask.shape == (count, SIZE[1], SIZE[0])
        assert [int(np.asarray(mask).sum()) for mask in given.mask] == found.area.tolist()
    elif task == "obb":
        assert given.data["xyxyxyxy"].shape == (count, 4, 2)


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_chosen_as_of_an_array(task):
    found = detections(task)
    for index in (slice(3), slice(None, None, -2), 4, -1, [5, 0], found.conf > 0.5, np.array([2])):
        part = found[index]
        assert isinstance(part, ImageDetections)
        assert (part.names, part.size) == (NAMES, SIZE)
        rows = np.atleast_1d(np.arange(len(found))[index])
        equal(part, found.take(rows))
    with pytest.raises(IndexError):
        found[len(found)]
    assert [len(one) for one in found] == [1] * len(found)
    assert found.xyxy is found.boxes
    assert len(found[:0]) == 0


@pytest.mark.parametrize("library", ["pandas", "polars", None])
@pytest.mark.parametrize("task", TASKS)
def test_a_table_has_a_row_for_each(library, task):
    pytest.importorskip(library or "pandas", reason="needs pandas, or polars")
    found = detections(task)
    table = found.to_dataframe(library)
    heads = ["class_id", "class", "confidence", "x1", "y1", "x2", "y2", "area"]
    heads += {"detect": [], "pose": ["keypoints"]}.get(task, ["outline"])
    assert list(table.columns) == heads
    assert len(table) == len(found)
    np.testing.assert_array_equal(table["confidence"].to_numpy(), found.conf)
    assert table["class"].to_list() == [NAMES[number] for number in found.class_id]


def test_what_is_not_installed_is_an_error(monkeypatch):
    for name in ("pandas", "polars", "supervision"):
        monkeypatch.setitem(sys.modules, name, None)
    found = detections()
    with pytest.raises(TilerError, match="needs pandas or polars: pip install pandas"):
        found.to_dataframe()
    with pytest.raises(TilerError, match="needs polars: pip install polars"):
        found.to_dataframe("polars")
    with pytest.raises(TilerError, match="needs supervision: pip install supervision"):
        found.to_supervision()
    with pytest.raises(TilerError, match="expected pandas or polars, got 'dask'"):
        found.to_dataframe("dask")


def test_a_stand_in_for_pandas_gets_columns(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    table = detections("pose", 2).to_dataframe()
    assert {len(column) for column in table.values()} == {2}
    assert np.shape(table["keypoints"]) == (2, 4, 3)


def test_they_show_themselves_in_a_line():
    assert repr(detections()) == (
        "ImageDetections(12 detections in 64 x 48 px, detect: 5 bus, 4 car, 3 <b>van</b>; "
        f"conf {detections().conf.min():.3g} to {detections().conf.max():.3g})"
    )
    labels = Instances(np.arange(9), np.ones((9, 4)))
    assert repr(labels) == (
        "Instances(9 labels, detect: 1 of class 0, 1 of class 1, 1 of class 2, 1 of class 3, "
        "and 5 more classes)"
    )
    assert repr(empty("obb")) == "Instances(0 labels, obb)"


def test_a_notebook_shows_the_first_rows_and_no_markup_of_names():
    shown = detections()._repr_html_()
    assert "&lt;b&gt;van" in shown and "<b>" not in shown
    assert shown.count("<tr>") == 11
    assert "the first 10" in shown
    for task in TASKS:
        assert "<td" not in detections(task, 0)._repr_html_()


def test_a_name_cannot_disturb_the_terminal():
    found = ImageDetections.of(detections(), ["\x1b[2J", "a\nb", "c"], SIZE)
    assert repr(found).isprintable()
    assert "\x1b" not in found._repr_html_()


def test_what_stitch_returns_knows_names_and_size():
    parts = [((0, 0, 64, 48), [[1, 2, 9, 8, 0.5, 1]])]
    found = tiler.stitch(parts, SIZE, names=NAMES).instances
    assert (found.names, found.size, found.class_name) == (NAMES, SIZE, ["car"])
    unnamed = tiler.stitch(parts, SIZE)
    assert unnamed.instances.class_name == ["1"]
    assert repr(unnamed).endswith("conf 0.5 to 0.5) of 1: 1 kept)")
    equal(tiler.stitch([((0, 0, 64, 48), found)], SIZE).instances, found)
