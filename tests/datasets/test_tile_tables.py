"""Tiles placed by a table of the user's own: every row is used, or reported; results by its ids."""

import json

import pytest
from PIL import Image

import tiler
from tests.conftest import Dataset
from tiler.errors import TilerError

HEAD = "tile,image,x,y,w,h"
ROWS = ["left.jpg,p.png,0,0,400,400", "right.jpg,p.png,320,0,400,400"]
ROW = "0 0.5 0.5 0.1 0.1 0.9\n"  # in the middle of a tile


@pytest.fixture
def folder(tmp_path):
    data = Dataset(tmp_path / "data")
    data.add("p.png", "", Image.new("L", (720, 400)))
    (tmp_path / "preds").mkdir()
    for tile in ("left", "right"):
        (tmp_path / f"preds/{tile}.txt").write_text(ROW)
    return tmp_path


def merge(folder, table, preds="preds", name="tiles.csv", **options):
    (folder / name).write_text(table)
    options.setdefault("images", folder / "data/images/train")
    return tiler.merge(folder / preds, tiles=folder / name, workers=1, **options)


def centres(merged):
    (source,) = merged
    boxes = merged[source].boxes
    return sorted(((boxes[:, :2] + boxes[:, 2:]) / 2).tolist())


@pytest.mark.parametrize(
    "table",
    [
        [HEAD, *ROWS],
        ["\ufeffTile , IMAGE,X,Y,Width,Height", *ROWS],
        ["file_name,source,xmin,ymin,xmax,ymax", "left,p,0,0,400,400", "right,p,320,0,720,400"],
        ["h,w,y,x,image_path,name", "400,400,0,0,/far/p.png,a/left.jpg", "400,400,0,320,p,right"],
    ],
)
def test_a_table_says_where_tiles_lie(folder, table):
    merged = merge(folder, "\n".join(table))
    assert merged.report.exit_code() == 0
    assert centres(merged) == [[200, 200], [520, 200]]
    assert merged.report.index == "table of tiles"


def test_a_table_may_hold_the_sizes_of_the_images(folder):
    table = [f"{HEAD},image_width,image_height", *(f"{row},720,400" for row in ROWS)]
    merged = merge(folder, "\n".join(table), images=None)
    assert (merged.sizes, centres(merged)) == ({"p.png": (720, 400)}, [[200, 200], [520, 200]])
    with pytest.raises(TilerError, match="how large are the full images.*--images"):
        merge(folder, "\n".join([HEAD, *ROWS]), images=None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("bad,p.png,nan,0,400,400", "tiles.csv:4: bad: x, y and the size are not numbers"),
        ("bad,p.png,0,0,0,400", "bad: x, y and the size"),
        ("bad,p.png,,,,", "bad: x, y and the size"),
        ("bad", "bad: no image None"),
        (",p.png,0,0,1,1", "no name of a tile"),
        ("bad,q.png,0,0,9,9", "bad: no image 'q.png', or several of that name"),
        ("bad,p.png,720,0,9,9", "bad: it lies outside p.png, which has 720 x 400 px"),
        ("bad,p.png,1e300,0,9,9", "bad: x, y and the size"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_and_the_rest_is_used(folder, row, message):
    merged = merge(folder, "\n".join([HEAD, *ROWS, row]))
    (finding,) = merged.report.findings
    assert (finding.code, message in finding.message) == ("D12", True)
    assert merged.report.exit_code() == 1
    assert centres(merged) == [[200, 200], [520, 200]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "no tile, image, x, y, w and h .or x1 and y1. among nothing"),
        ("tile,x,y,w,h\nleft,0,0,4,4", "expected columns tile, image, x, y, w, h; no image among"),
        (
            f"{HEAD}\nleft,q,0,0,4,4",
            "none of its 1 tiles can be used: tiles.csv:2: left: no image 'q'",
        ),
        (f"{HEAD}\n{ROWS[0]}\n{ROWS[0]}", "a tile left"),
        (f"{HEAD}\nother,p,0,0,400,400", "none of 2 predictions .* is for a tile"),
    ],
)
def test_a_table_that_cannot_be_used_is_rejected(folder, table, message):
    with pytest.raises(TilerError, match=message):
        merge(folder, table)


def test_the_options_of_names_are_not_for_a_table(folder):
    with pytest.raises(TilerError, match="--stride 320: the places of tiles are known from"):
        merge(folder, "\n".join([HEAD, *ROWS]), stride=320)


# --- COCO JSON of the tiles


def results(folder):
    box = {"category_id": 7, "bbox": [180, 180, 40, 40], "score": 0.9}
    entries = [box | {"image_id": id} for id in (0, 1)]
    (folder / "results.json").write_text(json.dumps(entries))


def listed(*images):
    named = [{"id": id, "width": 400, "height": 400} | image for id, image in enumerate(images)]
    car = {"id": 7, "name": "car"}
    return json.dumps({"images": named, "annotations": [], "categories": [car]})


@pytest.mark.parametrize(
    "images",
    [
        [{"file_name": "p__0_0_400_400.jpg"}, {"file_name": "a/p__320_0_400_400.png"}],
        [{"file_name": "p_0_0_400_400.jpg"}, {"file_name": "p_320_0_400_400.jpg"}],
        [
            {"file_name": "l.jpg", "source": "p.png", "x": 0, "y": 0},
            {"file_name": "r.jpg", "source": "p.png", "x": 320, "y": 0},
        ],
    ],
)
def test_results_find_their_tiles_by_the_ids_of_the_tiles(folder, images):
    results(folder)
    merged = merge(folder, listed(*images), "results.json", "tiles.json")
    assert merged.report.exit_code() == 0
    assert centres(merged) == [[200, 200], [520, 200]]
    assert merged.report.names == ["car"]


def test_a_json_of_tiles_elsewhere_is_asked_for(folder):
    results(folder)
    data = Dataset(folder / "data")
    data.add("p.png", "0 0.5 0.5 0.1 0.1\n", Image.new("L", (720, 400)))
    data.add("q.png", "0 0.5 0.5 0.1 0.1\n", Image.new("L", (400, 400)), "val")
    tiler.split(folder / "data", out=folder / "tiles", tile=400, overlap=80, workers=1)
    tiles = listed({"file_name": "p__0_0_400_400.jpg"}, {"file_name": "p__320_0_400_400.jpg"})
    with pytest.raises(TilerError, match="image ids in a COCO JSON of the tiles, give that JSON"):
        tiler.merge(folder / "results.json", tiles=folder / "tiles", workers=1, preds_base="0")
    (folder / "tiles.json").write_text(tiles)
    with pytest.raises(TilerError, match="tiles.json lists the tiles, not the images"):
        tiler.merge(
            folder / "results.json",
            tiles=folder / "tiles",
            data=folder / "tiles.json",
            preds_base="0",
            workers=1,
        )
    with pytest.raises(TilerError, match="does not say where its tiles lie.*--images"):
        merge(folder, tiles, "results.json", "tiles.json", images=None)
    beside = merge(folder, tiles, "results.json", "tiles/tiles.json", images=None)
    assert centres(beside) == [[200, 200], [520, 200]]
