"""What `tiler.merge` returns is a mapping from images to their detections."""

import collections.abc
import pickle
import sys
from types import SimpleNamespace

import pytest

import tiler
from tests.conftest import Dataset, picture
from tiler.errors import TilerError

KEYS = ["images/train/a/p.png", "images/train/b/p.png", "images/train/b/q.png", "images/val/v.png"]


@pytest.fixture(scope="module", params=["held", "written"])
def merged(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merged")
    dataset = Dataset(folder / "data")
    for i, key in enumerate(KEYS):
        rows = "".join(f"{c % 3} 0.5 0.5 0.{c + 1} 0.2\n" for c in range(i % 3))
        _, split, name = key.split("/", 2)
        dataset.add(name, rows, picture(300, 200, i), split)
    tiler.split(dataset.yaml, tile=512, edge="trim", out=folder / "tiles")
    out = folder / "out" if request.param == "written" else None
    return tiler.merge(folder / "tiles/labels", tiles=folder / "tiles", assume_conf=1, out=out)


def test_it_is_a_mapping(merged):
    assert isinstance(merged, collections.abc.Mapping)
    assert list(merged) == list(merged.keys()) == merged.sources == KEYS
    assert len(merged) == 4
    assert [(key, len(found)) for key, found in merged.items()] == [
        (key, len(merged[key])) for key in KEYS
    ]
    assert [len(found) for found in merged.values()] == [0, 1, 2, 0]
    assert merged.get("images/train/none.png") is None
    assert merged == merged and merged != dict(merged)
    assert {merged: 1}[merged] == 1


def test_the_end_of_a_path_does_if_it_is_unique(merged):
    assert len(merged["q.png"]) == len(merged["b/q.png"]) == 2
    assert len(merged["b/p.png"]) == 1
    assert "q.png" in merged and "p.png" not in merged and "q" not in merged
    assert 3 not in merged
    with pytest.raises(KeyError, match=r"p.png: 2 images have this name \(images/train/a/p.png, "):
        merged["p.png"]


def test_a_name_that_no_image_has_is_an_error_with_a_hint(merged):
    with pytest.raises(KeyError) as caught:
        merged["b/qq.png"]
    assert isinstance(caught.value, TilerError)
    assert str(caught.value) == "b/qq.png: no such image among 4; did you mean 'q.png'?"
    with pytest.raises(KeyError, match="such as images/train/a/p.png"):
        merged["zzzzzzzzz"]
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_its_detections_know_names_and_size(merged):
    found = merged["q.png"]
    assert found.size == (300, 200)
    assert found.names == tuple(merged.report.names)
    assert found.class_name == [found.names[number] for number in found.class_id]


def test_a_table_of_all_images(merged, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    table = merged.to_dataframe()
    assert table["source"] == [KEYS[1], KEYS[2], KEYS[2]]
    assert {len(column) for column in table.values()} == {3}


def test_it_shows_itself(merged):
    assert repr(merged).startswith("Merged(4 images, detect: 3 detections of 3 rows")
    assert "<table" in merged._repr_html_()
