"""An error of one image is that image's, in every verb, whatever works beside it."""

import os

import pytest

import tiler
from tests.conftest import tree
from tiler.errors import SourceRefused, TilerError, Unfinished
from tiler.run import workers
from tiler.run.rejecting import among_others, refusal
from tiler.splitting import cutting

ERRORS = {
    "memory": (MemoryError(), "I04"),
    "fault": (ZeroDivisionError("oops"), "X01"),
    "disk": (OSError(5, "EIO"), "I01"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_an_error_means(name):
    error, code = ERRORS[name]
    assert refusal(error).code == code
    assert "run again" not in refusal(error).message


def test_what_is_not_of_the_image_passes():
    for error in (Unfinished("disk full"), TilerError("wrong use")):
        with pytest.raises(type(error)):
            refusal(error)
    refused = SourceRefused("I03", "cut off")
    assert refusal(refused) is refused
    with pytest.raises(MemoryError):  # it is to be tried alone
        among_others(lambda _: refusal(MemoryError()), None)


def greedy(item):
    """1 and 5 take too much beside others, 3 does alone as well."""
    if item not in (1, 3, 5):
        return item
    code = refusal(MemoryError()).code  # beside others, MemoryError
    return code if item == 3 else item


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
def test_memory_that_others_took_is_tried_again_alone(backend):
    found = list(workers.stream(greedy, range(8), 3, backend, str))
    assert found == [0, 1, 2, "I04", 4, 5, 6, 7]


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("workers", [1, 3])
def test_split_refuses_the_image_and_cuts_the_others(filled, tmp_path, monkeypatch, name, workers):
    error, code = ERRORS[name]
    make = cutting.write

    def failing(job, source, *rest):
        made = make(job, source, *rest)
        if source.key.endswith("p1.jpg"):
            raise error
        return made

    monkeypatch.setattr(cutting, "write", failing)
    report = tiler.split(filled.yaml, tile=128, out=tmp_path / "out", workers=workers)
    assert [(f.path, f.code) for f in report.findings if f.level == "error"] == [
        ("images/train/p1.jpg", code)
    ]
    assert report.exit_code() == 1
    assert report.total.counts.refused == 1
    assert {name.split("__")[0] for name in os.listdir(tmp_path / "out/images/train")} >= {
        "p0",
        "p2",
    }


@pytest.mark.parametrize("name", ERRORS)
def test_check_names_the_image_and_looks_at_the_others(filled, monkeypatch, name):
    error, code = ERRORS[name]
    from tiler.inspecting import checking

    verify = checking.reading.verify

    def failing(file, *rest):
        if file.name.endswith("p1.jpg"):
            raise error
        verify(file, *rest)

    monkeypatch.setattr(checking.reading, "verify", failing)
    report = tiler.check(filled.yaml, workers=2)
    assert [(f.path, f.code) for f in report.findings] == [("images/train/p1.jpg", code)]


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("count", [1, 3])
def test_merge_refuses_the_image_and_merges_the_others(filled, tmp_path, monkeypatch, name, count):
    error, code = ERRORS[name]
    from tiler.merging import work

    tiler.split(filled.yaml, tile=128, out=tmp_path / "tiles")
    sound = tiler.merge(
        tmp_path / "tiles/labels/train",
        tiles=tmp_path / "tiles",
        assume_conf=1,
        out=tmp_path / "sound",
    )
    stitched = work.stitched

    def failing(job, piece):
        if piece.key.endswith("p1.jpg"):
            raise error
        return stitched(job, piece)

    monkeypatch.setattr(work, "stitched", failing)
    options = {"tiles": tmp_path / "tiles", "assume_conf": 1, "workers": count}
    merged = tiler.merge(tmp_path / "tiles/labels/train", out=tmp_path / "out", **options)
    assert [f.code for f in merged.report.findings if f.level == "error"] == [code]
    assert "images/train/p1.jpg" in str(merged.report.findings[0])
    assert merged.report.exit_code() == 1
    assert len(merged["images/train/p1.jpg"]) == 0
    assert len(merged["images/train/p0.jpg"]) == len(sound["images/train/p0.jpg"]) > 0
    there, whole = tree(tmp_path / "out/labels"), tree(tmp_path / "sound/labels")
    assert {k: v for k, v in whole.items() if "p1" not in k} == there
    again = tiler.merge(tmp_path / "tiles/labels/train", out=tmp_path / "out", **options)
    assert again.report.unchanged
    assert again.report.exit_code() == 1
