"""Several COCO files are one dataset, whatever their order."""

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.datasets import coco_sets
from tiler.datasets.annotated_sets import Place
from tiler.datasets.opening import find
from tiler.errors import TilerError
from tiler.options import DatasetOptions


def write(folder, split, categories, used=()):
    """A file with one image, and an annotation for each used category id."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / split / f"{split}.jpg").write_bytes(b"x")
    annotations = [
        {"id": k, "image_id": 1, "category_id": id, "bbox": [9, 9, 2, 2]}
        for k, id in enumerate(used)
    ]
    image = {"id": 1, "file_name": f"{split}.jpg", "width": 40, "height": 30}
    content = {"images": [image], "annotations": annotations, "categories": categories}
    file = folder / f"instances_{split}.json"
    file.write_text(json.dumps(content))
    return file


def category(id, name, parent=None):
    given = {"id": id, "name": name}
    return given if parent is None else given | {"supercategory": parent}


def classes(dataset):
    """The name of the class of each annotation, by split."""
    return {
        source.split: [dataset.names[a.class_id] for a in source.entry.annotations]
        for source in dataset.sources
    }


names = st.sampled_from(["car", "bus", "van", "tram"])
numberings = st.dictionaries(st.integers(0, 6), names, min_size=1, max_size=4).filter(
    lambda ids: len(set(ids.values())) == len(ids)
)


@quick
@given(numberings, numberings)
def test_an_object_keeps_the_name_of_its_class(tmp_path_factory, train, val):
    folder = tmp_path_factory.mktemp("set")
    for split, ids in (("train", train), ("val", val)):
        write(folder, split, [category(*item) for item in ids.items()], ids)
    dataset = find(folder)
    assert classes(dataset) == {"train": list(train.values()), "val": list(val.values())}
    assert set(dataset.names) == {*train.values(), *val.values()}
    if dataset.categories is not None:
        by_id = dict(zip(dataset.categories, dataset.names, strict=True))
        assert by_id == train | val == val | train


@pytest.mark.parametrize("conflict", [False, True])
def test_the_order_of_files_does_not_matter_to_ids(tmp_path, conflict):
    files = []
    for number, split in enumerate(("train", "val", "test")):
        offset = number if conflict else 0
        given = [category(offset + 1, "car"), category(offset + 5, "bus")]
        files.append(write(tmp_path, split, given, [offset + 1]))
    found = set()
    for order in permutations(files):
        dataset = coco_sets.of_files(tmp_path, order, Place(), DatasetOptions())
        assert classes(dataset) == {"train": ["car"], "val": ["car"], "test": ["car"]}
        found.add((dataset.names, dataset.categories))
    assert len(found) == 1


def test_parents_without_objects_are_no_classes_and_rare_classes_are(tmp_path):
    given = [
        category(0, "vehicles", "none"),
        category(1, "car", "vehicles"),
        category(2, "tram", "vehicles"),
    ]
    write(tmp_path, "train", given, [1])
    write(tmp_path, "val", given, [1, 1])
    dataset = find(tmp_path)
    assert (dataset.names, dataset.categories) == (("car", "tram"), (1, 2))
    write(tmp_path, "val", given, [0, 1])  # somewhere it has an object
    assert find(tmp_path).names == ("vehicles", "car", "tram")


def test_two_categories_of_a_name_and_ids_that_differ(tmp_path):
    write(tmp_path, "train", [category(1, "car"), category(2, "car")], [1])
    write(tmp_path, "val", [category(1, "bus")], [1])
    with pytest.raises(TilerError, match="2 categories are called 'car'"):
        find(tmp_path)


def test_keypoints_in_one_of_two_files(tmp_path):
    write(tmp_path, "train", [category(1, "car")], [1])
    file = write(tmp_path, "val", [category(1, "car")], [1])
    content = json.loads(file.read_text())
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    file.write_text(json.dumps(content))
    with pytest.raises(TilerError, match=r"annotations have 1 keypoints, those of .* no keypoints"):
        find(tmp_path)


def test_a_file_alone_may_lie_beside_its_images_or_above_them(tmp_path):
    file = write(tmp_path, "val", [category(1, "car")], [1])
    assert [s.key for s in find(file).sources] == ["val/val.jpg"]
    assert [s.key for s in find(file, tmp_path / "val").sources] == ["val.jpg"]
    with pytest.raises(TilerError, match="no such folder"):
        find(file, tmp_path / "none")
