"""tiler.Tiles: what `tiler split` would write, without writing it."""

import json
import os
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiler
from tests.conftest import SHARED, Dataset, needs_big, needs_shared, picture
from tests.splitting.test_mask_tiles import Masked
from tests.splitting.test_strips import by_strips  # noqa: F401  # a fixture
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import manifest, yolo
from tiler.images import reading
from tiler.splitting import decoded, lazy_tiles

STARS = (
    "0 0.1 0.1 0.5 0.2 0.9 0.1 0.7 0.5 0.9 0.9 0.5 0.7 0.1 0.9 0.3 0.5\n"
    "1 0.2 0.05 0.3 0.05 0.3 0.95 0.25 0.95\n"
)
TURNED = "0 0.3 0.1 0.6 0.3 0.5 0.5 0.2 0.3\n2 0.7 0.6 0.9 0.7 0.85 0.8 0.65 0.7\n"
POSES = "".join(
    f"{i % 2} {x + 0.05:.2f} 0.4 0.15 0.3 {x:.2f} 0.3 2 {x + 0.1:.2f} 0.5 1\n"
    for i, x in enumerate((0.05, 0.25, 0.45, 0.65))
)


def boxes(seed):
    rng = np.random.default_rng(seed)
    rows = ""
    for _ in range(10):
        w, h = rng.uniform(0.02, 0.2, 2)
        x, y = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 0.6 - h / 2)
        rows += f"{rng.integers(3)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
    return rows


def of_task(root, task, suffix=".png", mode="RGB"):
    """A dataset of a few images."""
    extra = {"kpt_shape": [2, 3]} if task == "pose" else {}
    data = Dataset(root, **extra)
    rows = {"segment": STARS, "obb": TURNED, "pose": POSES}
    for i, size in enumerate(((300, 200), (257, 191), (64, 64), (40, 300))):
        image = picture(*size, seed=i, mode=mode)
        data.add(f"t{i}{suffix}", rows.get(task) or boxes(i), image)
    data.add(f"empty{suffix}", "", picture(200, 100, seed=8, mode=mode))
    data.add(f"v{suffix}", rows.get(task) or boxes(9), picture(150, 120, seed=9), "val")
    return data


def without_val(data):
    data.yaml.write_text(data.yaml.read_text().replace("val: images/val\n", ""))


def require_same(out, tiles):
    """All that a lossless output has, and no more."""
    written = {
        tile.name: (entry, tile)
        for entry in manifest.read_sources(out / "tiles.jsonl")
        for tile in entry.tiles
        if entry.split == tiles.split
    }
    assert [tiles.name(i) for i in range(len(tiles))] == list(written)
    for i, (name, (entry, tile)) in enumerate(written.items()):
        assert tiles.source(i) == entry.source
        assert tiles.window(i) == tiler.Window(tile.x, tile.y, tile.w, tile.h)
        pixels, labels = tiles[i]
        (file,) = (out / "images" / tiles.split).glob(f"{name}.*")
        with Image.open(file) as image:
            want = np.atleast_3d(np.array(image))
        np.testing.assert_array_equal(pixels, want)
        assert (pixels.dtype, pixels.flags.writeable) == (want.dtype, True)
        size = np.array([pixels.shape[1::-1]] * len(labels), float).reshape(-1, 2)
        text = (out / "labels" / tiles.split / f"{name}.txt").read_text()
        rows = [np.array(line.split(), float) for line in text.splitlines()]
        values = yolo.values(labels, size)
        assert len(values) == len(rows)
        for found, want in zip(values, rows, strict=True):
            np.testing.assert_allclose(found, want, atol=1.1e-8)
        assert labels.row.tolist() == [row for row, _ in tile.rows]
        assert np.round(labels.visible, 6).tolist() == [part for _, part in tile.rows]


def require_as_split(data, tmp_path, split="train", **options):
    tiler.split(data, out=tmp_path / "out", workers=1, **options)
    options.pop("format", None)
    tiles = tiler.Tiles(data, split=split, workers=1, **options)
    require_same(tmp_path / "out", tiles)
    return tiles


OPTIONS = [
    {},
    {"edge": "pad", "overlap": 0},
    {"edge": "trim", "min_visible": 0.7, "rescue": False},
    {"edge": "balance", "truncated": "keep"},
    {"truncated": "mask", "min_visible": 0.9, "rescue": False, "edge": "pad"},
    {"truncated": "skip-tile", "min_visible": 0.6, "min_size": 8},
    {"background": "none"},
    {"background": "train=0.5,val=all", "seed": 3},
    {"tile": 1000, "edge": "trim"},
    {"grid": "2x2", "tile": None},
    {"scale": "1,0.5,1.5", "edge": "pad"},
]


@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tiles_are_those_of_a_lossless_output(tmp_path, task, options):
    options = {"tile": 96, **options}
    if options["tile"] is None:
        del options["tile"]
        (tmp_path / "data").mkdir()
    data = of_task(tmp_path / "data", task)
    if "grid" in options:
        for name in ("t3.png", "t2.png"):
            (data.root / "images/train" / name).unlink()
    require_as_split(data.yaml, tmp_path, **options)


@pytest.mark.parametrize("split", ["train", "val"])
def test_of_a_jpeg_they_are_what_is_encoded(tmp_path, split):
    data = of_task(tmp_path / "data", "detect", ".jpg")
    require_as_split(data.yaml, tmp_path, split, tile=96, format="png")


@pytest.mark.parametrize("val", [0.3, 0.5])
def test_splits_that_are_made(tmp_path, val):
    data = of_task(tmp_path / "data", "detect")
    without_val(data)
    for split in ("train", "val"):
        out = tmp_path / split
        out.mkdir()
        require_as_split(data.yaml, out, split, tile=96, val=val, seed=2)


def test_blocks_of_a_single_image(tmp_path):
    data = Dataset(tmp_path / "data")
    data.add("a.png", boxes(1), picture(900, 200))
    without_val(data)
    for split in ("train", "val"):
        out = tmp_path / split
        out.mkdir()
        tiles = require_as_split(data.yaml, out, split, tile=96, val=0.3)
        assert len(tiles)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_other_bands(tmp_path, mode):
    data = of_task(tmp_path / "data", "detect", mode=mode)
    tiles = require_as_split(data.yaml, tmp_path, tile=96, edge="pad", scale="1,0.5")
    assert tiles[0][0].shape[2] == {"L": 1, "RGBA": 4}[mode]


def test_transparent_tiles_are_left_out_as_they_are_written(tmp_path):
    data = Dataset(tmp_path / "data")
    image = picture(300, 200, mode="RGBA")
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[0] * 200 + [255] * 100]), 200, axis=0)))
    data.add("a.png", "0 0.9 0.5 0.1 0.1\n", image)
    data.add("v.png", "", picture(), "val")
    tiles = require_as_split(data.yaml, tmp_path, tile=96)
    assert len(tiles) == 6


def test_deep_images_and_one_mapping_for_all(tmp_path):
    data = Dataset(tmp_path / "data")
    for i in range(3):
        values = np.arange(150 * 200, dtype=np.uint16).reshape(150, 200) * (i + 1) // 3
        data.add(f"a{i}.tif", boxes(i), Image.fromarray(values))
    data.add("v.png", "", picture(), "val")
    for stretch in ("none", "minmax"):
        out = tmp_path / stretch
        out.mkdir()
        tiles = require_as_split(data.yaml, out, tile=96, stretch=stretch)
        assert tiles[0][0].dtype == {"none": np.uint16, "minmax": np.uint8}[stretch]


def test_no_data_of_a_tiff_fills_what_is_beyond(tmp_path):
    data = Dataset(tmp_path / "data")
    image = picture(130, 100, mode="L")
    data.add("a.tif", "0 0.5 0.5 0.2 0.2\n", image, tiffinfo={42113: "7"})
    data.add("v.png", "", picture(), "val")
    tiles = require_as_split(data.yaml, tmp_path, tile=96, edge="pad")
    assert (tiles[len(tiles) - 1][0][-1, -1] == 7).all()


def test_colours_of_palettes_bits_and_inks(tmp_path):
    data = Dataset(tmp_path / "data")
    colour = picture(200, 150)
    data.add("bits.png", "", colour.convert("1"))
    data.add("inks.jpg", "", colour.convert("CMYK"))
    data.add("palette.png", "", colour.convert("P"))
    data.add("v.png", "", picture(), "val")
    tiles = tiler.Tiles(data.yaml, tile=640)
    bits, inks, palette = (tiles[i][0] for i in range(3))
    assert set(np.unique(bits)) == {0, 255}
    assert bits.shape == (150, 200, 1)
    np.testing.assert_array_equal(palette, np.array(colour.convert("P").convert("RGB")))
    assert inks.shape == (150, 200, 3)
    assert abs(inks.astype(int) - np.array(colour).astype(int)).mean() < 12


def test_crowds_are_painted_out_of_coco_sets(tmp_path):
    (tmp_path / "pictures").mkdir()
    picture(200, 100).save(tmp_path / "pictures/a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 200, "height": 100}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [60, 60, 20, 20], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 1,
             "segmentation": {"size": [100, 200], "counts": [1020, *([40, 60] * 30)[:-1], 16040]}},
        ],
        "categories": [{"id": 1, "name": "a"}],
    }  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(content))
    tiles = require_as_split(tmp_path / "t.json", tmp_path, tile=100, images=tmp_path / "pictures")
    assert (tiles[0][0][25:55, 15:35] == 114).all()


def test_regions(tmp_path):
    data = of_task(tmp_path / "data", "detect")
    square = {"type": "Polygon", "coordinates": [[[0, 0], [50, 0], [50, 50], [0, 50], [0, 0]]]}
    (tmp_path / "roi.geojson").write_text(json.dumps(square))
    tiles = require_as_split(data.yaml, tmp_path, tile=96, roi=tmp_path / "roi.geojson")
    assert len(tiles) == 6


def test_images_without_labels(tmp_path):
    (tmp_path / "pictures").mkdir()
    picture(200, 100).save(tmp_path / "pictures/a.png")
    tiles = tiler.Tiles(tmp_path / "pictures", split="", tile=96)
    assert len(tiles) == 6
    assert len(tiles[0][1]) == 0
    with pytest.raises(TilerError, match="split=''"):
        tiler.Tiles(tmp_path / "pictures", tile=96)


def test_class_masks(tmp_path):
    data = Masked(tmp_path / "data", masks_dir="masks").filled()
    tiler.split(data.yaml, out=tmp_path / "out", tile=64, workers=1, format="png")
    tiles = tiler.Tiles(data.yaml, tile=64)
    assert tiles.task == "semantic"
    for i in range(len(tiles)):
        with Image.open(tmp_path / f"out/masks/train/{tiles.name(i)}.png") as image:
            np.testing.assert_array_equal(tiles.mask(i), np.array(image))
    with pytest.raises(TilerError, match="no class mask"):
        tiler.Tiles(of_task(tmp_path / "boxes", "detect").yaml).mask(0)


@needs_shared
@pytest.mark.parametrize("name", ["cells_detect", "nuclei_segment", "hituav_obb"])
def test_real_images(tmp_path, name):
    data = SHARED / "data" / name
    require_as_split(data, tmp_path, tile=160, format="png")


# --- Decoding


@pytest.fixture
def decodes(monkeypatch):
    """How often each image was decoded."""
    count = Counter()
    real = decoded.decoded

    def counted(job, source, written, room):
        count[source.key] += 1
        return real(job, source, written, room)

    monkeypatch.setattr(lazy_tiles, "decoded", counted)
    return count


def many(root, count=8, size=(400, 300)):
    return Dataset(root).filled(train=count, val=1, size=size)


IMAGE = 400 * 300 * 4  # bytes in memory, a little less than with its plan


@pytest.mark.parametrize("held", [1, 3, 100])
def test_an_epoch_decodes_each_image_once(tmp_path, decodes, held):
    tiles = tiler.Tiles(many(tmp_path / "data").yaml, tile=96, cache=held * 2 * IMAGE)
    order = tiles.sampler(0)
    assert sorted(order) == list(range(len(tiles)))
    for i in order:
        tiles[i]
    assert set(decodes.values()) == {1}
    assert len(decodes) == 8


def test_without_the_order_a_small_cache_decodes_again_and_again(tmp_path, decodes):
    tiles = tiler.Tiles(many(tmp_path / "data").yaml, tile=96, cache=2 * IMAGE)
    for i in np.random.default_rng(0).permutation(len(tiles)):
        tiles[i]
    assert sum(decodes.values()) > 40


@pytest.mark.parametrize(("batch", "workers"), [(4, 2), (7, 3), (4, 4)])
def test_batches_of_an_image_go_to_one_worker(tmp_path, decodes, batch, workers):
    """As a DataLoader deals them out: the n-th batch to the worker n modulo their number."""
    data = many(tmp_path / "data", 12).yaml
    tiles = tiler.Tiles(data, tile=64, cache=6 * IMAGE)
    order = tiles.sampler(5, batch=batch, workers=workers)
    assert sorted(order) == list(range(len(tiles)))
    processes = [pickle.loads(pickle.dumps(tiles)) for _ in range(workers)]
    for number, start in enumerate(range(0, len(order), batch)):
        for i in order[start : start + batch]:
            processes[number % workers][i]
    tail = workers * (batch - 1)  # tiles that fill no batch of their worker
    assert sum(decodes.values()) <= 12 + tail


def test_orders_differ_by_seed_and_mix_images(tmp_path):
    tiles = tiler.Tiles(many(tmp_path / "data").yaml, tile=96)
    assert tiles.sampler(1) == tiles.sampler(1) != tiles.sampler(2)
    sources = [tiles.source(i) for i in tiles.sampler(1)[:20]]
    assert len(set(sources)) > 4  # all of them fit into the cache


@quick
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 4))
def test_every_tile_is_in_an_order_once(counts, batch, workers):
    tiles = object.__new__(lazy_tiles.Tiles)
    outline = lazy_tiles._ImageOutline
    tiles._images = [outline(None, (9, 9), np.ones(n, bool), n * 100, []) for n in counts]
    tiles._first = np.concatenate([[0], np.cumsum(counts)])
    tiles._sources = decoded.DecodedSources(1000)
    order = tiles.sampler(0, batch=batch, workers=workers)
    assert sorted(order) == list(range(sum(counts)))


def test_the_cache_is_bounded_and_keeps_what_was_used_last():
    def source(size):
        return decoded.DecodedSource(None, None, size)

    cache = decoded.DecodedSources(100)
    for number in (1, 2, 3):
        cache.get(number, lambda: source(40))
    assert cache.bytes == 80
    kept = cache.get(2, lambda: None)
    cache.get(4, lambda: source(60))
    assert cache.get(2, lambda: None) is kept
    cache.get(5, lambda: source(1000))
    assert (cache.bytes, list(cache._sources)) == (1000, [5])


@needs_big
@pytest.mark.parametrize("cache", ["1GB", 1000])
def test_images_read_by_rows(tmp_path, by_strips, cache):  # noqa: F811
    data = of_task(tmp_path / "data", "detect", ".tif")
    by_strips()
    tiler.split(data.yaml, out=tmp_path / "out", tile=96, edge="pad", workers=1)
    tiles = tiler.Tiles(data.yaml, tile=96, edge="pad", cache=cache)
    require_same(tmp_path / "out", tiles)
    held = tiles._sources.bytes > 100_000
    assert held == (cache == "1GB")


# --- Itself


def test_it_can_be_pickled_without_its_images(tmp_path):
    tiles = tiler.Tiles(of_task(tmp_path / "data", "segment").yaml, tile=96)
    before = tiles[3]
    data = pickle.dumps(tiles)
    assert len(data) < 20_000
    after = pickle.loads(data)
    np.testing.assert_array_equal(after[3][0], before[0])
    np.testing.assert_array_equal(after[3][1].boxes, before[1].boxes)
    assert repr(after) == repr(tiles)


def test_indices_and_iteration(tmp_path):
    tiles = tiler.Tiles(of_task(tmp_path / "data", "detect").yaml, tile=96)
    assert tiles.name(-1) == tiles.name(len(tiles) - 1) == tiles.name(np.int64(len(tiles) - 1))
    assert len(list(tiles)) == len(tiles)
    for index in (len(tiles), -len(tiles) - 1):
        with pytest.raises(IndexError, match=f"tile {index} of {len(tiles)}"):
            tiles[index]
    with pytest.raises(TypeError):
        tiles["0"]


def test_pixels_are_the_callers_own(tmp_path):
    tiles = tiler.Tiles(of_task(tmp_path / "data", "detect").yaml, tile=96)
    pixels, _ = tiles[0]
    pixels[:] = 0
    assert tiles[0][0].any()


def test_what_it_says_of_itself(tmp_path):
    data = of_task(tmp_path / "data", "pose")
    tiles = tiler.Tiles(data.yaml, tile=96, rescue=False)
    lines = repr(tiles).splitlines()
    assert len(lines) <= 5
    assert lines[1].strip() == f"{len(tiles)} tiles of 5 images"
    assert lines[2].strip() == "pose, 3 classes: a, b, c"
    assert lines[3].strip() == "--tile 96 --no-rescue"
    assert (tiles.names, tiles.kpt_shape, tiles.task) == (("a", "b", "c"), (2, 3), "pose")


def test_what_is_wrong_is_in_its_findings_and_the_rest_goes_on(tmp_path):
    data = of_task(tmp_path / "data", "detect")
    count = len(tiler.Tiles(data.yaml, tile=96))
    data.add("bad.png", "0 .5 .5 .1 .1\n", b"not an image")
    data.add("rows.png", "0 .5 .5 .1 .1\n7 .5 .5 .1 .1\n", picture(96, 96))
    tiles = tiler.Tiles(data.yaml, tile=96)
    assert {finding.path for finding in tiles.findings} == {
        "images/train/bad.png",
        "labels/train/rows.txt",
    }
    assert len(tiles) == count + 1
    assert "2 findings, 2 of them errors" in repr(tiles)


def test_an_image_that_is_damaged_or_gone_is_named_when_it_is_read(tmp_path):
    data = of_task(tmp_path / "data", "detect")
    path = data.add("zz.png", "0 .5 .5 .1 .1\n", picture(96, 96))
    path.write_bytes(path.read_bytes()[:-300])
    tiles = tiler.Tiles(data.yaml, tile=96)
    with pytest.raises(TilerError, match="images/train/zz.png: .*damaged"):
        tiles[-1]
    picture(50, 96).save(path)
    with pytest.raises(TilerError, match="images/train/zz.png: .*another size"):
        tiles[-1]
    path.unlink()
    with pytest.raises(TilerError, match="images/train/zz.png: .*No such file"):
        tiles[-1]
    assert tiles[0][0].size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "vall"}, "no split 'vall'; the dataset has train, val; did you mean 'val'"),
        ({"split": "test"}, "test=0.2 makes one"),
        ({"tiel": 640}, "unknown option 'tiel'; did you mean 'tile'"),
        ({"format": "png"}, "--format png: tiler.Tiles writes no files"),
        ({"export": "coco"}, "--export coco: tiler.Tiles writes no files"),
        ({"cache": "much"}, "cache: expected bytes, such as 500MB, 1GB or 2GiB, got 'much'"),
        ({"cache": -1}, "cache: expected bytes"),
        ({"workers": -1}, "--workers"),
        ({"obb": "full"}, "--obb full"),
    ],
    ids=str,
)
def test_wrong_use_is_an_error(filled, options, message):
    with pytest.raises(TilerError, match=message):
        tiler.Tiles(filled.yaml, **options)


def test_it_loads_no_framework(filled):
    code = (
        "import sys, tiler; tiler.Tiles(sys.argv[1], tile=96)[0]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(filled.yaml)], check=True, env=os.environ)


def test_the_estimate_of_an_image_is_not_below_what_it_takes(tmp_path):
    for task, mode in (("detect", "RGB"), ("boxes", "L"), ("bands", "RGBA")):
        tiles = tiler.Tiles(of_task(tmp_path / task, "detect", mode=mode).yaml, tile=96)
        for i in range(len(tiles)):
            number, _ = tiles._place(i)
            assert tiles._decoded(number).bytes <= tiles._images[number].bytes
    assert reading.PILLOW_PIXEL == 4
