"""The report as one file: sound HTML, nothing fetched, nothing of names taken for markup."""

import base64
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import ROOT
from tests.scoring.test_crops import cut, dataset, rows
from tests.scoring.test_plots import HOSTILE, many
from tiler.findings import Finding
from tiler.geometry.instances import Instances
from tiler.scoring.report.page import page

SECTIONS = [
    "numbers",
    "card",
    "classes",
    "sizes",
    "operating",
    "seams",
    "errors",
    "merging",
    "curves",
    "confusion",
    "places",
    "images",
]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """What a page is made of; tags that do not match are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.section = [], [], {}, ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open  # elsewhere HTML has no such thing
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.section = "" if tag == "section" else self.section

    def handle_data(self, data):
        self.words[self.section] = self.words.get(self.section, "") + data


def sound(text):
    """The page, read; it has all its parts and reaches for nothing outside."""
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    text.encode()
    read = Reader(text)
    assert [attrs["id"] for tag, attrs in read.tags if tag == "section"] == SECTIONS
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in read.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "form")
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href", "xlink:href"):
            target = attrs.get(name, "#numbers")
            assert target.startswith("data:image/") or target[1:] in ids, target
        assert tag != "th" or attrs["scope"] in ("row", "col")
        assert tag != "img" or {"alt", "width", "height"} <= set(attrs)
    assert not re.search(r"@import|url\((?!#)", text)
    assert [tag for tag, _ in read.tags].count("h1") == 1
    return read


@pytest.fixture(scope="module")
def seams(tmp_path_factory):
    return cut(tmp_path_factory.mktemp("page"), pictures=3)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return many(tmp_path_factory.mktemp("hostile"))


def test_all_of_it(seams):
    read = sound(page(seams))
    tags = [tag for tag, _ in read.tags]
    assert tags.count("svg") == 6  # the confusion matrix is a table
    assert tags.count("img") == 7  # six places, and one whole image
    words = read.words
    assert f"{seams.coco_auto['AP']:.3f}" in words["numbers"]
    assert f"{seams.map50:.3f}" in words["numbers"]
    assert "Ultralytics 8.4.190" in words["numbers"]
    assert "n/a" in words["numbers"]
    assert "3 images, 12 labels" in words["card"]
    assert "cut by over 16 px" in words["seams"]
    assert "merge --method cvm" in words["errors"]
    assert f"{seams.efficiency.nomerge.ap:.3f}" in words["merging"]
    assert "images/val/p0.png" in words["images"]


def test_crops_are_pictures(seams):
    import io

    for data in re.findall(r'src="data:image/jpeg;base64,([^"]*)"', page(seams)):
        assert Image.open(io.BytesIO(base64.b64decode(data, validate=True))).format == "JPEG"


def test_the_same_metrics_give_the_same_page(seams, tmp_path):
    assert page(seams) == page(seams)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from tests.scoring.test_plots import many\n"
        "from tiler.scoring.report.page import page\n"
        "sys.stdout.buffer.write(page(many(Path(sys.argv[1]))).encode())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "data", ROOT],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1


def test_names_are_text(hostile):
    text = page(hostile)
    read = sound(text)
    for name in HOSTILE[:-2]:
        assert name in read.words["classes"]
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_files_and_reasons_are_text(seams):
    bad = '"><img src=x onerror=alert(1)>\ud800\x00\n'
    keys = [bad, *seams.keys[1:]]
    images = [{**row, "image": bad} for row in seams.per_image]
    card = {
        **seams.card,
        "data": bad,
        "split": bad,
        "predictions": bad,
        "left_out": {bad: [bad]},
        bad: [bad],
    }
    names = tuple([bad] * len(seams.names))
    per_class = {bad: seams.per_class["bus"], **seams.per_class}
    findings = [Finding(bad, "L08", bad)] * 30
    changed = replace(
        seams,
        keys=keys,
        per_image=images,
        card=card,
        names=names,
        per_class=per_class,
        findings=findings,
    )
    read = sound(page(changed))
    assert "and 10 more" in read.words["card"]
    assert not any(attrs.get("src") == "x" for _, attrs in read.tags)


@pytest.mark.parametrize(
    ("without", "section"),
    [
        ({"seams": None}, "seams"),
        ({"errors": None}, "errors"),
        ({"errors": None}, "places"),
        ({"root": None}, "places"),
        ({"efficiency": None}, "merging"),
        ({"confusion": None}, "confusion"),
    ],
)
def test_a_missing_part_is_said_to_be(seams, without, section):
    read = sound(page(replace(seams, **without)))
    assert re.search("n/a|None", read.words[section])


def test_without_any_analysis(tmp_path):
    read = sound(page(many(tmp_path, protocol="coco", analysis="none")))
    for section in ("seams", "errors", "merging"):
        assert "n/a: --analysis none" in read.words[section]
    assert "No intervals." in read.words["numbers"]
    assert "n/a" in read.words["confusion"]


def test_without_matplotlib_it_says_how_to_get_curves(seams, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    read = sound(page(seams))
    assert "pip install 'tilestitch[plot]'" in read.words["curves"]
    assert "svg" not in {tag for tag, _ in read.tags}
    assert "img" in {tag for tag, _ in read.tags}


@pytest.mark.parametrize("kind", ["labels", "detections"])
def test_only_labels_or_only_detections(tmp_path, kind):
    made = dataset(tmp_path)
    made.add(
        "p.png",
        rows([(10, 10, 40, 40)]) if kind == "labels" else "",
        Image.new("L", (600, 400)),
        "val",
    )
    found = Instances(np.zeros(1, int), np.array([[10, 10, 40, 40.0]]), conf=np.ones(1))
    metrics = tiler.score(
        {"images/val/p.png": found.take(np.arange(kind == "detections"))}, made.yaml, split="val"
    )
    read = sound(page(metrics))
    assert (
        f"{int(kind == 'labels')} labels, {int(kind == 'detections')} detections"
    ) in read.words["card"]


def test_many_classes(tmp_path):
    text = page(many(tmp_path, 300, (), labels=600))
    read = sound(text)
    assert "class 299" in read.words["classes"]
    assert "Shown are the 20 of 300 classes with most mistakes." in read.words["confusion"]
    assert len(text) < 3_000_000


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "coco,ultralytics,ultralytics-8.3,voc,voc07,dota"},
        {"bins": "tinyperson"},
        {"bins": "16,32,96"},
        {"max_dets": "1,5"},
        {"replicates": 0},
        {"conf": 0.99},
    ],
)
def test_any_options(tmp_path, options):
    read = sound(page(many(tmp_path, 3, (), **options)))
    for word in ("8.3", "VOC 2007", "DOTA") if "protocol" in options else ():
        assert word in read.words["numbers"]


def test_a_perfect_run_has_no_worst_places(tmp_path):
    made = dataset(tmp_path)
    made.add("p.png", rows([(10, 10, 40, 40)]), Image.new("L", (600, 400)), "val")
    found = Instances(np.zeros(1, int), np.array([[10, 10, 40, 40.0]]), conf=np.ones(1))
    read = sound(page(tiler.score({"images/val/p.png": found}, made.yaml, split="val")))
    assert "None: there are no mistakes" in read.words["places"]
    assert "None has any." in read.words["images"]
