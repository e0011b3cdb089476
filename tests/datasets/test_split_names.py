import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiler.datasets.split_names import SPLIT_NAMES, folders_of, split_of_file, split_of_folder


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train.json", "train"),
        ("train.json", "train"),
        ("instances_val2017.json", "val"),
        ("Validation_set.json", "val"),
        ("my-valid.json", "val"),
        ("test-dev.json", "test"),
        ("trainval.json", None),
        ("train_and_val.json", None),
        ("evaluation.json", None),
        ("result.json", None),
        ("contest.json", None),
    ],
)
def test_files(name, split):
    assert split_of_file(name) == split


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train", "train"),
        ("train2017", "train"),
        ("images/Valid", "val"),
        ("test/images", "test"),
        ("train/val", "val"),
        ("", None),
        ("trainer", None),
        ("my_train", None),
    ],
)
def test_folders(path, split):
    assert split_of_folder(path) == split


@given(st.sampled_from(sorted(SPLIT_NAMES)), st.sampled_from(["", "2017"]))
def test_a_folder_is_named_after_the_split_that_it_is_looked_for_in(name, year):
    split = SPLIT_NAMES[name]
    for folder in folders_of(split, f"instances_{name}{year}"):
        assert split_of_folder(folder) == split
    assert f"{name}{year}" in folders_of(split, f"instances_{name}{year}")
