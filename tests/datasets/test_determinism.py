"""The order in which folders list their files, the number of workers and their kind change no byte
of an output, whatever the dataset's format.
"""

import os

import pytest

import tiler
from tests.conftest import tree
from tests.test_matrix import DOORS, made
from tiler.errors import TilerError

KINDS = [door for door in DOORS if door != "yolo"]


def cut(data, out, **options):
    return tiler.split(data, out=out, tile=200, overlap=50, **options)


def without_words(out):
    """All files but the report, which tells where the output is."""
    return {name: digest for name, digest in tree(out).items() if name != "report.json"}


class Reversed:
    """os.scandir, backwards."""

    def __init__(self, scandir, path):
        with scandir(path) as entries:
            self.entries = list(entries)[::-1]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __iter__(self):
        return iter(self.entries)

    def __next__(self):
        if not self.entries:
            raise StopIteration
        return self.entries.pop(0)

    def close(self):
        pass


@pytest.mark.parametrize("door", KINDS)
def test_the_order_of_a_folder(tmp_path, monkeypatch, door):
    task = "obb" if door == "dota" else "detect"
    made(tmp_path / "data", door, task)
    cut(tmp_path / "data", tmp_path / "out")
    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr(os, "scandir", lambda path=".": Reversed(scandir, path))
    monkeypatch.setattr(os, "listdir", lambda path=".": listdir(path)[::-1])
    cut(tmp_path / "data", tmp_path / "again")
    monkeypatch.undo()
    assert without_words(tmp_path / "again") == without_words(tmp_path / "out")


@pytest.mark.parametrize("door", KINDS)
def test_workers_of_every_kind(tmp_path, door):
    task = "obb" if door == "dota" else "detect"
    made(tmp_path / "data", door, task)
    cut(tmp_path / "data", tmp_path / "out", workers=1, backend="sequential")
    for backend in ("threading", "loky"):
        report = cut(tmp_path / "data", tmp_path / backend, workers=4, backend=backend)
        assert report.exit_code() == 0
        assert without_words(tmp_path / backend) == without_words(tmp_path / "out")


@pytest.mark.parametrize("door", KINDS)
def test_a_second_run_has_nothing_to_do(tmp_path, door):
    made(tmp_path / "data", door, "obb" if door == "dota" else "detect")
    assert not cut(tmp_path / "data", tmp_path / "out").unchanged
    before = tree(tmp_path / "out")
    again = cut(tmp_path / "data", tmp_path / "out")
    assert again.unchanged
    assert tree(tmp_path / "out") == before


CHANGES = {
    "coco": ("annotations/instances_train.json", '"bbox": [', '"bbox": [1'),
    "voc": ("annotations/train/a.xml", "<xmin>", "<xmin>1"),
    "labelme": ("images/train/a.json", '"points": [[', '"points": [[1'),
    "dota": ("labelTxt/train/a.txt", "gsd:0.5\n", "gsd:0.5\n1"),
    "csv": ("objects.csv", ".png,", ".png,1"),
}


@pytest.mark.parametrize("door", KINDS)
def test_changed_annotations_are_noticed(tmp_path, door):
    made(tmp_path / "data", door, "obb" if door == "dota" else "detect")
    cut(tmp_path / "data", tmp_path / "out")
    before = tree(tmp_path / "out")
    name, old, new = CHANGES[door]
    file = tmp_path / "data" / name
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(TilerError, match="--overwrite"):
        cut(tmp_path / "data", tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_images_alone(tmp_path):
    from tests.test_matrix import write_images

    write_images(tmp_path / "data")
    cut(tmp_path / "data/images", tmp_path / "out", workers=1)
    cut(tmp_path / "data/images", tmp_path / "loky", workers=4, backend="loky")
    assert without_words(tmp_path / "loky") == without_words(tmp_path / "out")
    assert cut(tmp_path / "data/images", tmp_path / "out").unchanged
