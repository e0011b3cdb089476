"""What a notebook sees: results in a few lines, and the example notebook with its outputs."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import tiler
from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
MOST = 200_000  # bytes


@pytest.fixture
def examples(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path / "examples"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One of every kind of result."""
    folder = tmp_path_factory.mktemp("results")
    scenes = ROOT / "examples" / "scenes"
    split = tiler.split(scenes, out=folder / "tiles")
    merged = tiler.merge(folder / "tiles/labels", tiles=folder / "tiles", assume_conf=1)
    stitched = tiler.stitch([((0, 0, 64, 48), [[1, 2, 9, 8, 0.5, 1]] * 3)], (64, 48))
    return {
        "split": split,
        "merged": merged,
        "merge report": merged.report,
        "detections": merged["val_00002.jpg"],
        "labels": tiler.Instances([0, 1], [[0, 0, 4, 4], [1, 1, 5, 5.0]]),
        "metrics": tiler.score(merged, scenes, split="all"),
        "plan": tiler.plan(scenes),
        "check": tiler.check(scenes),
        "stitched": stitched,
        "window": tiler.grid(4000, 3000, tile=640)[0],
    }


TABLES = ("split", "merged", "merge report", "detections", "metrics", "plan", "check")


def test_every_result_is_a_few_lines(results):
    for name, result in results.items():
        text = repr(result)
        assert len(text) <= 5 * 80, name
        assert text.isprintable(), name
        assert text.startswith(f"{type(result).__name__}("), name


@pytest.mark.parametrize("name", TABLES)
def test_most_are_a_small_table_in_a_notebook(results, name):
    shown = results[name]._repr_html_()
    assert "<table" in shown
    assert len(shown) < 10_000


def test_names_are_no_markup_in_tables(results):
    plan = results["split"].__class__("detect", "", {}, [], [])
    plan.splits["<script>"] = results["split"].splits["val"]
    assert "<script>" not in plan._repr_html_()
    finding = tiler.Finding("<script>.txt", "L07", "repeats\x1b")
    report = tiler.CheckReport(ROOT, "detect", "", 1, 1, [finding])
    assert "<script>" not in report._repr_html_()
    assert "\x1b" not in report._repr_html_()


def test_the_report_is_written_by_a_public_call(results, tmp_path):
    folder = results["metrics"].write(tmp_path / "score")
    assert (folder / "report.html").is_file()
    assert json.loads((folder / "score.json").read_text())["coco"]
    results["metrics"].write(str(folder))  # the same again
    (folder / "score.json").write_text("{}")
    with pytest.raises(tiler.TilerError, match="another score"):
        results["metrics"].write(folder)
    results["metrics"].write(folder, overwrite=True)
    with pytest.raises(tiler.TilerError, match="out: expected a path, got list"):
        results["metrics"].write([])


# --- the example


def code():
    return ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def plain(cells):
    """The text of each output."""
    found = []
    for cell in cells:
        for output in cell.get("outputs", ()):
            assert output["output_type"] == "execute_result", output
            found.append("".join(output["data"]["text/plain"]))
    return found


def test_the_notebook_is_small_and_tells_nothing_of_the_machine():
    text = NOTEBOOK.read_text()
    assert len(text) < MOST
    assert not re.search(r"/(tmp|home|root|work|Users)/", text)
    assert len(plain(CELLS)) >= 8


def test_the_code_of_the_notebook_runs(examples):
    script = "\n".join(code())
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=examples, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore")
def test_the_outputs_of_the_notebook_are_what_it_shows(examples, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [ROOT, *sys.path])))
    notebook = nbformat.read(examples / "notebook.ipynb", as_version=4)
    resources = {"metadata": {"path": str(examples)}}
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources=resources
    ).execute()
    assert plain(notebook.cells) == plain(CELLS)
