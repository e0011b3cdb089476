"""The folder of `tiler score --out`: complete or absent, never over what is not its own."""

import json
from importlib.util import find_spec

import pytest

import tiler
from tests.conftest import tree
from tests.scoring.test_score import dataset, row, texts
from tiler.errors import TilerError, Unfinished
from tiler.run.staging import Staging
from tiler.scoring import output

needs_page = pytest.mark.skipif(
    find_spec("tiler.scoring.report.page") is None
    or find_spec("tiler.scoring.report.plots") is None,
    reason="the report is not written yet",
)
LABELS = {"p0": row(0, 10, 10, 30, 30) + row(1, 60, 10, 80, 30), "p1": row(0, 10, 10, 30, 30)}
FOUND = {
    "p0": row(0, 10, 10, 30, 30, 0.9) + row(1, 60, 10, 80, 30, 0.8),
    "p1": row(0, 100, 10, 120, 30, 0.7),
}
PLAIN = {
    "score.json",
    "per_class.csv",
    "per_image.csv",
    "confusion.csv",
    "curves.csv",
    "report.html",
}

pytestmark = needs_page


@pytest.fixture
def made(tmp_path):
    return dataset(tmp_path / "data", LABELS)


@pytest.fixture
def metrics(made, tmp_path):
    return tiler.score(texts(tmp_path / "preds", FOUND), made.yaml, replicates=20)


@pytest.fixture
def other(made, tmp_path):
    return tiler.score(texts(tmp_path / "preds2", {"p0": FOUND["p0"]}), made.yaml, replicates=20)


def beside(tmp_path):
    """What lies beside the data: nothing of a run that failed."""
    return sorted(
        p.name for p in tmp_path.iterdir() if p.name not in ("data", "preds", "preds2", "out")
    )


def test_the_files_are_there(metrics, tmp_path):
    where = output.write(metrics, tmp_path / "out")
    assert where == (tmp_path / "out").resolve()
    found = {path.relative_to(where).as_posix() for path in where.rglob("*") if path.is_file()}
    assert found >= PLAIN
    assert all(name.endswith(".png") for name in found - PLAIN)
    if find_spec("matplotlib") is not None:
        assert {"pr_curve.png", "f1_curve.png", "confusion_matrix.png"} <= found
    assert (where / "score.json").read_bytes() == metrics.encoded()
    assert (where / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert all(map(output.owned, found))
    assert beside(tmp_path) == []


def test_the_same_again_is_unchanged(metrics, tmp_path):
    output.write(metrics, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    output.write(metrics, tmp_path / "out")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_the_same_bytes_in_two_places(metrics, tmp_path):
    output.write(metrics, tmp_path / "out")
    output.write(metrics, tmp_path / "a" / "b" / "out2")
    assert tree(tmp_path / "out") == tree(tmp_path / "a" / "b" / "out2")


def test_other_numbers_need_a_word(metrics, other, tmp_path):
    output.write(metrics, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(TilerError, match="--overwrite"):
        output.write(other, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    output.write(other, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "score.json").read_bytes() == other.encoded()
    assert beside(tmp_path) == []


def test_other_options_are_other_numbers(made, metrics, tmp_path):
    output.write(metrics, tmp_path / "out")
    fewer = tiler.score(tmp_path / "preds", made.yaml, replicates=20, conf=0.75)
    with pytest.raises(TilerError, match="--overwrite"):
        output.write(fewer, tmp_path / "out")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_refused(metrics, tmp_path, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    with pytest.raises(TilerError, match=r"holds files that are not made by tiler \(thesis.tex\)"):
        output.write(metrics, tmp_path / "out", overwrite)
    assert tree(tmp_path / "out").keys() == {"thesis.tex"}
    assert beside(tmp_path) == []


@pytest.mark.parametrize("name", ["notes.txt", "crops/mine.png", "pr_curve.png.bak"])
def test_files_of_others_are_never_deleted(metrics, other, tmp_path, name):
    output.write(metrics, tmp_path / "out")
    path = tmp_path / "out" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(TilerError):
            output.write(other, tmp_path / "out", overwrite)
    assert path.read_text() == "precious"
    assert json.loads((tmp_path / "out" / "score.json").read_text())["card"]["detections"] == 3


def test_an_empty_folder_is_filled_and_a_file_is_not(metrics, tmp_path):
    (tmp_path / "out").mkdir()
    output.write(metrics, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").is_file()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(TilerError, match="there is a file of this name"):
        output.write(metrics, tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "precious"


def test_the_predictions_are_no_place(metrics, tmp_path):
    with pytest.raises(TilerError, match="it holds what is scored"):
        output.write(metrics, tmp_path / "preds", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "preds").iterdir()) == ["p0.txt", "p1.txt"]


def test_two_runs_at_once(metrics, tmp_path):
    with (
        Staging((tmp_path / "out").resolve()),
        pytest.raises(Unfinished, match="another run is writing it"),
    ):
        output.write(metrics, tmp_path / "out")


def test_a_failure_leaves_nothing(metrics, tmp_path, monkeypatch):
    from tiler.scoring.report import page

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(page, "page", fail)
    with pytest.raises(MemoryError):
        output.write(metrics, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_what_was_there(metrics, other, tmp_path, monkeypatch):
    from tiler.scoring.report import page

    output.write(metrics, tmp_path / "out")
    before = tree(tmp_path / "out")

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(page, "page", fail)
    with pytest.raises(MemoryError):
        output.write(other, tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == before


def test_classes_and_pictures_of_one_name_have_rows_of_their_own(tmp_path):

    def entry(image, category):
        return {"image_id": image, "category_id": category, "bbox": [10, 10, 20, 20]}

    classes = [{"id": 1, "name": "car"}, {"id": 2, "name": "car (2)"}, {"id": 3, "name": "car"}]
    pictures = [
        {"id": i, "file_name": name, "width": 99, "height": 99}
        for i, name in ((1, "a.jpg"), (2, "b/a.jpg"), (4, "3"))
    ]
    labels = [{**entry(1, k), "id": k, "area": 400, "iscrowd": 0} for k in (1, 2, 3)]
    (tmp_path / "gt.json").write_text(
        json.dumps({"images": pictures, "annotations": labels, "categories": classes})
    )
    (tmp_path / "dt.json").write_text(json.dumps([{**entry(1, k), "score": 0.5} for k in (1, 3)]))
    metrics = tiler.score(tmp_path / "dt.json", tmp_path / "gt.json")
    assert list(metrics.per_class) == ["car", "car (2)", "car (3)"]
    assert [row["AP"] > 0.9 for row in metrics.per_class.values()] == [True, False, True]
    assert (
        len(output.per_class(metrics).splitlines())
        == len(output.per_image(metrics).splitlines())
        == 4
    )


def test_a_backend_that_is_not_there_does_not_matter(metrics, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    assert (output.write(metrics, tmp_path / "out") / "pr_curve.png").stat().st_size > 1000
