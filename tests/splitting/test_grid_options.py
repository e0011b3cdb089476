"""--overlap by axis, --grid, and --background by split, end to end."""

import json

import pytest
import yaml
from PIL import Image

import tiler
from tests.cli.test_cli import run
from tests.conftest import Dataset, picture, tree
from tests.splitting.test_roi import tiles_of
from tests.splitting.test_split import split
from tiler.formats import manifest
from tiler.options import SplitOptions
from tiler.tiling.planning import crowding


def head_of(out):
    return json.loads((out / "tiles.jsonl").read_text().splitlines()[0])


def size_of(path):
    with Image.open(path) as image:
        return image.size


# --- overlap


def test_a_scalar_stays_a_scalar_and_nothing_new_is_recorded(filled, tmp_path):
    split(filled, tmp_path / "out", overlap=0.2)
    options = head_of(tmp_path / "out")["options"]
    assert not {"grid", "roi"} & set(options)
    assert (options["overlap"], options["background"]) == (0.2, "all")
    args = (tmp_path / "out/args.yaml").read_text()
    assert args.startswith("tile: 128\noverlap: 0.2\nedge: shift\nscale:\n- 1.0\n")
    split(filled, tmp_path / "twice", overlap="0.2x0.2")
    assert tree(tmp_path / "out") == tree(tmp_path / "twice")


def test_an_overlap_by_axis_is_recorded_and_repeated(filled, tmp_path):
    split(filled, tmp_path / "out", overlap=(0.5, 16))
    assert head_of(tmp_path / "out")["options"]["overlap"] == [0.5, 16.0]
    columns = {x for _, x, *_ in tiles_of(tmp_path / "out")}
    rows = {y for _, _, y, *_ in tiles_of(tmp_path / "out")}
    assert (sorted(columns), sorted(rows)) == ([0, 64, 128, 192, 256, 272], [0, 112, 172])
    args = yaml.safe_load((tmp_path / "out/args.yaml").read_text())
    tiler.split(filled.yaml, out=tmp_path / "again", workers=1, **args)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


@pytest.mark.parametrize("given", ["0.1,0.4", "0,2", "20%"])
def test_other_forms_are_answered_with_the_right_one(filled, tmp_path, given):
    done = run("split", filled.yaml, "--overlap", given, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "for x and y, two of them, such as 0.2x64" in done.stderr


def test_an_overlap_that_leaves_little_stride_is_said(filled, tmp_path):
    done = run("split", "data", "--tile", 64, "--overlap", "0.95x0.1", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    said = "tiles of 64 x 64 px lie 3 x 57 px apart: a pixel of a large image is in about 24"
    assert f"W01 --overlap 0.95x0.1: {said} of them" in done.stderr
    assert crowding(SplitOptions(tile=100, overlap=0.9)) == ""
    assert crowding(SplitOptions(tile=100, overlap=91)) != ""
    assert crowding(SplitOptions(grid="3x4", overlap=0.95)) == ""


# --- grid


@pytest.fixture
def mixed(tmp_path):
    """Images of several sizes."""
    data = Dataset(tmp_path / "data")
    for number, size in enumerate([(400, 300), (317, 211), (1000, 64)]):
        data.add(f"p{number}.png", "0 0.5 0.5 0.1 0.1\n", picture(*size, seed=number))
    data.add("v.png", "0 0.5 0.5 0.1 0.1\n", picture(500, 500), "val")
    return data


@pytest.mark.parametrize("overlap", [0, 0.2, "0.1x8"])
def test_every_image_has_so_many_tiles_of_one_size(mixed, tmp_path, overlap):
    report = tiler.split(mixed.yaml, out=tmp_path / "out", grid="3x4", overlap=overlap, workers=1)
    assert report.total.counts.tiles == 4 * 12
    for source in manifest.read_sources(tmp_path / "out/tiles.jsonl"):
        assert len({(tile.w, tile.h) for tile in source.tiles}) == 1
        assert (len({t.x for t in source.tiles}), len({t.y for t in source.tiles})) == (3, 4)
        for tile in source.tiles:
            path = tmp_path / "out/images" / source.split / f"{tile.name}.png"
            assert size_of(path) == (tile.w, tile.h)
            assert tile.name.endswith(f"__{tile.x}_{tile.y}_{tile.w}_{tile.h}")
    assert head_of(tmp_path / "out")["options"]["grid"] == [3, 4]
    args = yaml.safe_load((tmp_path / "out/args.yaml").read_text())
    assert "tile" not in args and "edge" not in args
    tiler.split(mixed.yaml, out=tmp_path / "again", workers=2, **args)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_an_image_without_room_is_rejected_and_the_others_are_cut(mixed, tmp_path):
    report = tiler.split(mixed.yaml, out=tmp_path / "out", grid="2x8", overlap=0, workers=1)
    (finding,) = report.findings
    assert (finding.code, finding.path) == ("W02", "images/train/p2.png")
    assert (
        finding.message == "1000 x 64 px: 8 tiles along 64 px would have 8 px, expected at least 10"
    )
    assert report.exit_code() == 1
    assert report.total.counts.tiles == 3 * 16


def test_at_each_scale_the_same_windows(mixed, tmp_path):
    tiler.split(mixed.yaml, out=tmp_path / "out", grid="3x2", scale="1,0.5", workers=1)
    for source in manifest.read_sources(tmp_path / "out/tiles.jsonl"):
        windows = {1.0: [], 0.5: []}
        for tile in source.tiles:
            windows[tile.scale].append((tile.x, tile.y, tile.w, tile.h))
        assert windows[1.0] == windows[0.5] and len(windows[1.0]) == 6
    half = tmp_path / "out/images/val/v__s50__0_0_193_278.png"
    assert size_of(half) == (96, 139)


def test_a_scale_that_makes_tiles_too_small_or_too_large_rejects_the_image(dataset, tmp_path):
    for where in ("train", "val"):
        dataset.add("a.png", "0 0.5 0.5 0.1 0.1\n", picture(60, 60), where)
    report = split_dry(dataset, grid="3x3", overlap=0, scale=0.4)
    assert "tiles of 8 x 8 px" in report.findings[0].message
    report = split_dry(dataset, grid="1x1", scale=16)
    assert report.total.counts.tiles == 2
    assert report.exit_code() == 0


def split_dry(dataset, **options):
    return tiler.split(dataset.yaml, dry_run=True, workers=1, **options)


def test_from_the_command_line(filled, tmp_path):
    done = run("split", "data", "--grid", "3x2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(tmp_path / "data-tiles-grid-3x2")
    for tile in ("320", "640"):  # the default too
        done = run("split", "data", "--grid", "3x2", "--tile", tile, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"tiler: --tile {tile}: --grid 3x2 takes its place")
    done = run("split", "data", "--tile", "3,2", cwd=tmp_path)
    assert "for a number of tiles: --grid" in done.stderr


def test_the_command_line_wins_over_a_config(filled, tmp_path):
    (tmp_path / "tile.yaml").write_text("tile: 64\noverlap: 0\n")
    (tmp_path / "grid.yaml").write_text("grid: 2x2\n")
    grid = ["--config", "tile.yaml", "--grid", "4x3", "--out", "grid"]
    size = ["--config", "grid.yaml", "--tile", "100", "--out", "size"]
    for arguments in (grid, size):
        assert run("split", "data", *arguments, cwd=tmp_path).returncode == 0
    assert len(tiles_of(tmp_path / "grid")) == 4 * 12
    assert {(w, h) for *_, w, h in tiles_of(tmp_path / "size")} == {(100, 100)}
    (tmp_path / "both.yaml").write_text("tile: 64\ngrid: 2x2\n")
    assert run("split", "data", "--config", "both.yaml", cwd=tmp_path).returncode == 2


def test_merging_brings_a_grid_back(mixed, tmp_path):
    from examples.simulate import simulate

    tiler.split(mixed.yaml, out=tmp_path / "out", grid="3x4", overlap=0.3, workers=1)
    simulate(tmp_path / "out", tmp_path / "preds")
    merged = tiler.merge(tmp_path / "preds", tiles=tmp_path / "out", out=tmp_path / "merged")
    assert merged.report.exit_code() == 0


# --- background by split


@pytest.fixture
def sparse(tmp_path):
    data = Dataset(tmp_path / "data")
    for where in ("train", "val"):
        for number in range(2):
            name = f"{where}{number}.png"
            data.add(name, "0 0.05 0.05 0.05 0.05\n", picture(500, 400, seed=number), where)
    return data


@pytest.mark.parametrize(
    ("given", "train", "val"),
    [
        ("train=none,val=all", 2, 40),
        ("train=none", 2, 40),
        ("train=1", 4, 40),
        ("none,val=2", 2, 6),
        ({"train": 3, "val": 0.5}, 8, 3),
    ],
)
def test_each_split_has_its_background(sparse, tmp_path, given, train, val):
    report = split(sparse, tmp_path / "out", tile=100, overlap=0, background=given)
    assert {name: part.counts.tiles for name, part in report.splits.items()} == {
        "train": train,
        "val": val,
    }
    args = yaml.safe_load((tmp_path / "out/args.yaml").read_text())
    tiler.split(sparse.yaml, out=tmp_path / "again", workers=2, **args)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_a_ratio_for_every_split_is_the_ratio(sparse, tmp_path):
    split(sparse, tmp_path / "one", tile=100, overlap=0, background=2, seed=5)
    split(sparse, tmp_path / "two", tile=100, overlap=0, background="val=2,train=2", seed=5)
    for kind in ("images", "labels"):
        assert tree(tmp_path / "one" / kind) == tree(tmp_path / "two" / kind)


def test_an_unknown_split_is_refused_with_those_there_are(sparse, tmp_path):
    done = run("split", "data", "--background", "train=1,vall=all", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tiler: --background train=1.0,vall=all: no split 'vall'; the dataset has train, val; "
        "did you mean 'val'?\n"
    )
