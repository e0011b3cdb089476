"""Names that a terminal, a report or a page would obey are never shown as they are."""

import json
import subprocess
import sys

import pytest
import yaml

from tests.conftest import Dataset, picture

ODD = "a\x1b[31mb\u202ec\nd"  # colours, right to left from here, a new line
NAMES = [ODD, "plain"]


def run(folder, *arguments, code=None):
    command = [sys.executable, "-m", "tiler", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    if code is not None:
        assert done.returncode == code, done.stderr
    assert_plain(done.stdout.decode())
    assert_plain(done.stderr.decode())
    return done


def assert_plain(text):
    for line in text.split("\n"):
        odd = [c for c in line if not c.isprintable()]
        assert not odd, line


@pytest.fixture
def place(tmp_path):
    """A dataset whose files and classes have odd names, its tiles, and predictions on them."""
    data = Dataset(tmp_path / "data")
    yaml_text = {"train": "images/train", "val": "images/val", "names": dict(enumerate(NAMES))}
    data.yaml.write_text(yaml.safe_dump(yaml_text))
    for split in ("train", "val"):
        data.add(
            f"{ODD}{split}.jpg",
            "0 .5 .5 .2 .2\n1 .2 .2 .1 .1\n7 .1 .1 .1 .1\n",
            picture(200, 150),
            split,
        )
        data.add(f"{ODD}{split}damaged.jpg", "0 .5 .5 .2 .2\n", b"\xff\xd8no image", split)
        (data.root / f"labels/{split}/{ODD}orphan.txt").write_text("")
    return tmp_path


def reports(folder):
    return [
        path
        for pattern in ("report.json", "score.json", "*.html", "args.yaml")
        for path in folder.rglob(pattern)
    ]


def test_nowhere_from_split_to_score(place):
    for arguments in (
        ["check", "data"],
        ["check", "data", "--output-format", "json"],
        ["check", "data", "--output-format", "github"],
    ):
        run(place, *arguments, code=1)
    run(place, "split", "data", "--tile", 100, "--out", f"tiles{ODD}", "-v", code=1)
    run(place, "split", "data", "--tile", 100, "--out", f"tiles{ODD}", "--json")
    run(place, "split", "data", "--tile", 128, "--out", f"tiles{ODD}", code=2)
    tiles = place / f"tiles{ODD}"
    labels = tiles / "labels/val"
    (labels / f"{ODD}.txt").write_text("0 .5 .5 .1 .1\n")
    one = next(path for path in labels.iterdir() if path.stat().st_size > 10)
    one.write_text(one.read_text() + f"{ODD} .1 .1 .1 .1\n0 x{ODD} .1 .1 .1\n")
    merged = ["merge", labels, "--tiles", tiles, "--assume-conf", "1", "--out", f"merged{ODD}"]
    done = run(place, *merged, "--export", "csv,geojson", "-v")
    assert done.returncode == 1, done.stderr
    # scoring needs the size of all that has labels
    (place / f"data/images/val/{ODD}valdamaged.jpg").unlink()
    (place / f"data/labels/val/{ODD}valdamaged.txt").unlink()
    done = run(
        place, "score", f"merged{ODD}", "--data", "data", "--out", f"score{ODD}", "--split", "val"
    )
    assert done.returncode in (0, 1), done.stderr
    found = reports(place)
    assert {path.suffix for path in found} == {".json", ".html", ".yaml"}
    for path in found:
        assert_plain(path.read_text())
    told = json.loads((tiles / "report.json").read_text())
    # a program gets the names as they are
    assert any(ODD in finding["path"] for finding in told["findings"])
    assert ODD in told["splits"]["val"]["classes"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["split", "data", f"--{ODD}", "1"],
        ["split", "data", "--edge", ODD],
        ["split", f"no{ODD}"],
        ["split", "data", "--config", "odd.yaml"],
        ["split", "odd.json", "--images", ODD],
        ["merge", f"no{ODD}"],
        ["merge", "data/labels", "--tiles", ODD],
        ["merge", "data/labels", "--iou", f"0.5,{ODD}=0.2", "--images", "data/images"],
        ["score", f"no{ODD}", "--data", "data"],
        ["score", "data/labels", "--data", f"no{ODD}"],
        ["score", "data/labels", "--data", "data", "--fail-under", f"{ODD}=1"],
        ["score", "data/labels", "--data", "data", "--split", ODD],
        ["score", "data/labels", "--data", "data", "--ignore-class", ODD],
        ["check", "odd.yaml"],
        [ODD],
    ],
    ids=lambda arguments: " ".join(arguments[:3]).encode("unicode_escape").decode(),
)
def test_nor_in_an_error(place, arguments):
    (place / "odd.yaml").write_text(json.dumps({ODD: 1, "train": ODD}))
    (place / "odd.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": ODD}], "annotations": [{ODD: 1}]})
    )
    assert run(place, *arguments).returncode in (1, 2)
