"""Images alone."""

import pytest

from tests.doors import text
from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.options import DatasetOptions


@pytest.fixture
def photos(tmp_path):
    for name in ("a.jpg", "b.PNG", "deep/c.tif", "notes.md", ".hidden.jpg"):
        text(tmp_path / "photos" / name, "x")
    return tmp_path / "photos"


def keys(dataset):
    assert (dataset.labelled, dataset.kind, dataset.splits) == (False, "images", ("",))
    assert {source.split for source in dataset.sources} == {""}
    assert len({source.stem for source in dataset.sources}) == len(dataset.sources)
    return [source.key for source in dataset.sources]


def test_a_folder(photos):
    assert keys(find(photos)) == ["a.jpg", "b.PNG", "deep/c.tif"]


def test_one_image_and_a_pattern(photos):
    assert keys(find(photos / "a.jpg")) == ["a.jpg"]
    assert keys(find(photos / "*.jpg")) == ["a.jpg"]
    assert keys(find(photos / "**/*.*[!d]")) == ["a.jpg", "b.PNG", "deep/c.tif"]


def test_a_list(photos):
    file = text(photos / "list.txt", "a.jpg\ndeep/c.tif\nnone.jpg\n\n")
    dataset = find(file)
    assert keys(dataset) == ["a.jpg", "deep/c.tif"]
    assert [str(f) for f in dataset.findings] == ["list.txt:3: Y04 no such image: none.jpg"]
    with pytest.raises(TilerError, match=r"no images there: .*Y04 no such image"):
        find(text(photos / "none.txt", "none.jpg\n"))


def test_the_folder_of_tiles_is_passed_over(photos):
    text(photos / "tiles/tiles.jsonl", "{}")
    text(photos / "tiles/images/a__0_0_9_9.jpg", "x")
    assert keys(find(photos)) == ["a.jpg", "b.PNG", "deep/c.tif"]


@pytest.mark.parametrize("name", ["", "a.jpg", "*.jpg", "list.txt"])
def test_they_belong_to_no_split(photos, name):
    text(photos / "list.txt", "a.jpg\n")
    with pytest.raises(TilerError, match="--as val: images without labels belong to no split"):
        find(photos / name if name else photos, options=DatasetOptions(as_split="val"))


def test_no_images(tmp_path):
    with pytest.raises(TilerError, match="no such file or folder"):
        find(tmp_path / "none/*.jpg")
