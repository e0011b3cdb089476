import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.datasets import ignoring
from tiler.datasets.dataset import Dataset, Source
from tiler.formats.annotated import AnnotatedImage, Annotation

MARKS = ("", "crowd", "ignore", "difficult")


def marked(mark):
    return Annotation(
        bbox=[1, 1, 2, 2],
        iscrowd=int(mark == "crowd"),
        ignore=int(mark == "ignore"),
        difficult=mark == "difficult",
    )


def dataset(tmp_path, *images):
    sources = []
    for number, marks in enumerate(images):
        entry = AnnotatedImage(f"{number}.jpg", None, list(map(marked, marks)))
        sources.append(Source(f"{number}.jpg", "train", entry=entry))
    return Dataset(tmp_path / "a.json", tmp_path, ("car",), sources, (), [], kind="COCO")


marks = st.lists(st.sampled_from(MARKS), max_size=4)


@quick
@given(marks, marks, st.sampled_from(["auto", "mask", "skip", "objects"]))
def test_what_is_ignored_afterwards(tmp_path_factory, first, second, ignored):
    found = dataset(tmp_path_factory.getbasetemp(), first, second)
    decided = ignoring.decide(found, ignored)
    both = first + second
    crowds = sum(mark in ("crowd", "ignore") for mark in both)
    difficult = both.count("difficult")
    left = sum(annotation.ignored for annotation in found.annotations)
    all_are = bool(both) and crowds == len(both)
    if ignored == "objects" or (ignored == "auto" and all_are):
        assert (decided, left) == ("objects", 0)
    elif ignored == "auto":
        assert (decided, left) == ("auto", crowds)
    else:
        assert (decided, left) == (ignored, crowds + difficult)
    said = [finding.code for finding in found.findings]
    expected = []
    if ignored == "auto" and difficult:
        expected.append("Y09")
    if ignored == "auto" and all_are:
        expected.append("Y07")
    assert said == expected


@pytest.mark.parametrize("mark", ["crowd", "ignore"])
def test_one_object_among_crowds_keeps_them_crowds(tmp_path, mark):
    found = dataset(tmp_path, [mark] * 5, ["", mark])
    assert ignoring.decide(found, "auto") == "auto"
    assert sum(annotation.ignored for annotation in found.annotations) == 6
