"""Figures of the numbers: what is there, and that names and empty samples do them no harm."""

import io
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.scoring.test_crops import cut, dataset, rows
from tiler.errors import TilerError
from tiler.geometry.instances import Instances
from tiler.scoring.report import plots

ALL = {"pr_curve", "f1_curve", "p_curve", "r_curve", "confusion_matrix", "sizes", "seams"}
HOSTILE = (
    "<script>alert(1)</script>",
    "$x^{$",
    "日本語",
    "-->]]>",
    'id="x" url(#a) href="#a"',
    "a&b",
    "_",
    "x" * 300,
)


def many(root, classes=8, names=HOSTILE, labels=40, **options):
    """Metrics of random labels, of which the first half is found, some as another class."""
    rng = np.random.default_rng(0)
    names = (*names, *(f"class {k}" for k in range(len(names), classes)))[:classes]
    at = rng.uniform(0, 550, (labels, 2))
    boxes = np.concatenate([at, at + rng.uniform(5, 50, (labels, 2))], axis=1)
    kinds = np.arange(labels) % max(classes, 1)
    made = dataset(root, names)
    made.add("p.png", rows(boxes, (600, 600), kinds.tolist()), Image.new("L", (600, 600)), "val")
    found = Instances(
        np.where(rng.random(labels) < 0.8, kinds, 0),
        boxes + rng.normal(0, 1, boxes.shape),
        conf=rng.random(labels),
    )
    return tiler.score(
        {"images/val/p.png": found.take(np.arange(labels // 2))}, made.yaml, split="val", **options
    )


@pytest.fixture(scope="module")
def seams(tmp_path_factory):
    return cut(tmp_path_factory.mktemp("plots"), pictures=6)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return many(tmp_path_factory.mktemp("hostile"))


def test_png_files_of_a_sensible_size(seams):
    files = plots.figures(seams)
    assert set(files) == {f"{name}.png" for name in ALL}
    for name, data in files.items():
        image = Image.open(io.BytesIO(data))
        assert image.format == "PNG"
        assert 480 <= image.width <= 2000, name
        assert 480 <= image.height <= 2000, name
        assert len(data) < 300_000
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_the_same_numbers_give_the_same_bytes(seams):
    assert plots.figures(seams) == plots.figures(seams)
    assert plots.svg(seams) == plots.svg(seams)


def test_svg_elements_that_can_stand_in_one_page(seams):
    elements = plots.svg(seams)
    assert set(elements) == ALL
    ids = [re.findall(r'\sid="([^"]*)"', text) for text in elements.values()]
    flat = [name for own in ids for name in own]
    assert len(flat) == len(set(flat))
    for name, text in elements.items():
        assert text.startswith("<svg ")
        assert text.endswith("</svg>")
        ElementTree.fromstring(text)
        assert (
            not re.search("<style|<script|<metadata|<image|@import", text)
            or name == "confusion_matrix"
        )
        assert not re.search(r'(href|src)="(?!#|data:)', text)
        for target in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text):
            assert "".join(target) in flat


def test_names_are_text_and_no_markup(hostile):
    for text in plots.svg(hostile).values():
        ElementTree.fromstring(text)
        assert "<script" not in text
        assert "-->]]>" not in text
    both = plots.svg(hostile)["confusion_matrix"]
    assert "$x^{$" in both
    assert 'id="x" url(#a) href' in both.replace("&quot;", '"')
    assert "xxx…" in both
    assert plots.figures(hostile)


@pytest.mark.parametrize("classes", [1, 2, 7, 80, 300])
def test_few_classes_are_named_and_a_crowd_is_grey(tmp_path, classes):
    text = plots.svg(many(tmp_path, classes, (), labels=max(40, classes)))["f1_curve"]
    named = re.findall(r">(class \d+) \d", text)
    assert len(named) == (classes if classes <= len(plots.COLOURS) else 2 * plots.NAMED)
    assert (f"mean of {classes}" in text) == (classes > 1)
    assert len(text) < 600_000


@pytest.mark.parametrize("kind", ["labels", "detections"])
def test_nothing_to_draw(tmp_path, kind):
    made = dataset(tmp_path)
    made.add(
        "p.png",
        rows([(10, 10, 40, 40)]) if kind == "detections" else "",
        Image.new("L", (600, 400)),
        "val",
    )
    found = Instances(np.zeros(1, int), np.array([[10, 10, 40, 40.0]]), conf=np.ones(1))
    metrics = tiler.score(
        {"images/val/p.png": found.take(np.arange(kind == "labels"))}, made.yaml, split="val"
    )
    assert set(plots.figures(metrics)) == {f"{name}.png" for name in ALL - {"seams"}}
    assert ("no class has labels" in plots.svg(metrics)["pr_curve"]) == (kind == "labels")


def test_what_was_not_measured_is_left_out(seams, tmp_path):
    assert set(plots.svg(replace(seams, seams=None, intervals=None))) == ALL - {"seams"}
    assert "confusion_matrix" not in plots.svg(many(tmp_path, protocol="coco"))


def test_intervals_are_those_of_the_numbers_shown(seams, tmp_path):
    def known(metrics):
        return [name for name, row in metrics.bins["sizes"].items() if "interval" in row]

    assert known(seams) == ["small", "medium", "large"]
    others = (
        many(tmp_path / "b", max_dets="1,2"),
        many(tmp_path / "c", replicates=0),
        many(tmp_path / "d", bins="tinyperson"),
    )
    assert [known(metrics) for metrics in others] == [[], [], []]
    for metrics in (*others, many(tmp_path / "a", bins="aitod")):
        assert "sizes" in plots.svg(metrics)


def test_the_settings_of_the_user_are_neither_used_nor_changed(seams):
    import matplotlib

    before = plots.svg(seams)
    with matplotlib.rc_context(
        {"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9, "axes.facecolor": "black"}
    ):
        own = dict(matplotlib.rcParams)
        assert plots.svg(seams) == before
        assert dict(matplotlib.rcParams) == own


def test_no_window_system_is_touched(seams):
    code = (
        "import sys, pickle\n"
        "from tiler import plotting\n"
        "assert 'matplotlib' not in sys.modules\n"
        "with plotting.styled() as new: plotting.saved(new((2, 2)), 'png', {})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_without_matplotlib(seams, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (plots.figures, plots.svg):
        with pytest.raises(
            TilerError, match=r"plots need matplotlib: pip install 'tilestitch\[plot\]'"
        ):
            draw(seams)


def test_the_most_confused_classes():
    matrix = np.zeros((101, 101), int)
    matrix[7, 40] = 5  # between classes
    matrix[100, 3] = 90  # missed
    assert plots.confused(matrix, 3) == [3, 7, 40, 100]
    assert plots.confused(matrix, 2) == [7, 40, 100]
    assert plots.confused(np.zeros((1, 1), int)) == [0]
