"""The numbers of a plan are those of splits, counted on the tiles that they write."""

import math

import msgspec
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import tiler
from tests.conftest import ROOT, SHARED, Dataset, needs_shared, picture
from tiler.errors import TilerError, Unfinished
from tiler.formats import manifest
from tiler.inspecting.advising.report import Percentiles, PlannedSetting, recommended

pytestmark = pytest.mark.slow

SCENES = ROOT / "examples/scenes"


def outlines(root, split, source, size):
    """The outline of each object of a source, in pixels and within the image, read anew."""
    path = (root / source.replace("images/", "labels/", 1)).with_suffix(".txt")
    result = []
    for line in path.read_text().splitlines() if path.exists() else []:
        values = np.array(line.split()[1:], float)
        if len(values) == 4:
            x, y, w, h = values
            values = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])[
                [0, 1, 2, 1, 2, 3, 0, 3]
            ]
        ring = shapely.Polygon(values.reshape(-1, 2) * size)
        result.append(shapely.intersection(shapely.make_valid(ring), shapely.box(0, 0, *size)))
    return result


def brute(root, out, imgsz, small_below):
    """What the tiles in an output come to, from its files."""
    tiles = background = pixels = whole = small_whole = 0
    small_px = []
    for source in manifest.read_sources(out / manifest.NAME):
        shapes = outlines(root, source.split, source.source, (source.width, source.height))
        seen = set()
        side = 0
        for tile in source.tiles:
            (image,) = (out / "images" / source.split).glob(f"{tile.name}.*")
            with Image.open(image) as opened:
                width, height = opened.size
            tiles += 1
            pixels += width * height
            side = max(side, width, height)
            rows = (out / "labels" / source.split / f"{tile.name}.txt").read_text()
            background += not rows
            window = shapely.box(tile.x, tile.y, tile.x + tile.w, tile.y + tile.h)
            for row, _ in tile.rows:
                part = shapely.intersection(shapes[row], window).area
                if part >= shapes[row].area * (1 - 1e-9):
                    seen.add(row)
        whole += len(seen)
        for row, shape in enumerate(shapes):
            if shape.area < small_below:
                small_whole += row in seen
                small_px.append(math.sqrt(shape.area) * imgsz / side)
    return {
        "tiles": tiles,
        "background": background,
        "pixels": pixels,
        "whole": whole,
        "small_whole": small_whole,
        "small_px": small_px,
    }


def require_equal(data, root, setting, report, out):
    """Compare a setting with the split that its options make."""
    tile = 20_000 if setting.tile is None else setting.tile
    total = tiler.split(data, tile=tile, overlap=setting.overlap, dry_run=True).total
    for name in ("tiles", "background", "bytes"):
        assert getattr(setting, name) == getattr(total.counts, name), name
    for name in ("objects", "whole", "truncated", "lost", "rows"):
        assert getattr(setting, name) == getattr(total.objects, name), name
    if out is None:
        return
    tiler.split(data, tile=tile, overlap=setting.overlap, out=out)
    counted = brute(root, out, report.imgsz, report.small_below)
    small_px = np.array(counted.pop("small_px"))
    for name, value in counted.items():
        assert getattr(setting, name) == value, name
    assert len(small_px) == report.small
    for percent in (10, 50, 90):
        expected = np.percentile(small_px, percent)
        assert getattr(setting.small_px, f"p{percent}") == pytest.approx(expected, abs=2e-3)
    assert setting.keeps == (counted["small_whole"] >= report.keep / 100 * report.small - 1e-9)
    assert setting.large_enough == (np.median(small_px) >= report.min_px)


def require_cheapest(report):
    """Of what suits, the recommended setting has the fewest tile pixels."""
    suitable = [s for s in report.settings if s.keeps and s.large_enough]
    assert (report.choice is None) == (not suitable)
    if suitable:
        assert report.choice in suitable
        assert report.choice.pixels == min(setting.pixels for setting in suitable)


def test_the_numbers_are_those_of_splits_of_the_scenes(tmp_path):
    report = tiler.plan(SCENES)
    assert len(report.settings) > 10
    for setting in report.settings:
        out = tmp_path / "tiles" if setting is report.choice else None
        require_equal(SCENES, SCENES, setting, report, out)
    require_cheapest(report)
    assert report.choice is not None


@needs_shared
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cars_detect", {"tile": (640, 1280), "overlap": (0, 46)}),
        ("cars_detect", {"imgsz": 320, "keep": 95, "min_px": 8}),
        ("hituav_obb", {"tile": (160, 320), "overlap": (0, 0.2, 50)}),
        ("hituav_obb", {"imgsz": 320, "min_px": 12}),
        ("nuclei_segment", {"tile": (128, 320), "overlap": (0, 0.2, 38)}),
        ("nuclei_segment", {"min_px": 20}),
    ],
)
def test_the_numbers_are_those_of_splits_of_real_images(name, options, tmp_path):
    data = SHARED / "data" / name
    report = tiler.plan(data, **options)
    assert len(report.settings) > 3
    for number, setting in enumerate(report.settings):
        written = "tile" in options or setting is report.choice
        out = tmp_path / str(number) if written else None
        require_equal(data, data, setting, report, out)
    require_cheapest(report)


@st.composite
def tiny_images(draw):
    """Size and boxes (x, y, w, h in px) of an image."""
    size = draw(st.tuples(st.integers(12, 150), st.integers(12, 150)))
    boxes = []
    for _ in range(draw(st.integers(0, 6))):
        w, h = (draw(st.integers(1, side)) for side in size)
        x, y = draw(st.integers(0, size[0] - w)), draw(st.integers(0, size[1] - h))
        boxes.append((x, y, w, h))
    return size, boxes


@given(
    images=st.lists(tiny_images(), min_size=1, max_size=3),
    tile=st.integers(30, 120),
    overlaps=st.sets(st.sampled_from([0, 0.1, 0.3, 1, 5, 9]), min_size=1, max_size=2),
    keep=st.sampled_from([50, 90, 99, 100]),
    min_px=st.sampled_from([0, 16, 100]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_numbers_are_those_of_splits_of_any_images(
    tmp_path_factory, images, tile, overlaps, keep, min_px
):
    root = tmp_path_factory.mktemp("tiny")
    data = Dataset(root / "data")
    for number, ((width, height), boxes) in enumerate(images):
        rows = [
            f"0 {(x + w / 2) / width!r} {(y + h / 2) / height!r} {w / width!r} {h / height!r}"
            for x, y, w, h in boxes
        ]
        split = "val" if number == 1 else "train"
        data.add(f"p{number}.png", "\n".join(rows), Image.new("L", (width, height)), split)
    if len(images) == 1:
        data.add("empty.png", "", Image.new("L", (20, 20)), "val")
    report = tiler.plan(
        data.yaml, imgsz=64, tile=tile, overlap=sorted(overlaps), keep=keep, min_px=min_px
    )
    require_cheapest(report)
    for number, setting in enumerate(report.settings):
        if report.sizes.objects:
            require_equal(data.yaml, data.root, setting, report, root / str(number))
        else:
            total = tiler.split(
                data.yaml, tile=setting.tile or 200, overlap=setting.overlap, dry_run=True
            ).total
            assert (setting.tiles, setting.background) == (total.counts.tiles,) * 2


def boxes_of(*sides, count=1, image=(1000, 800)):
    """Rows of boxes of the given sides, px, spread over an image."""
    rng = np.random.default_rng(0)
    rows = ""
    for side in sides:
        for _ in range(count):
            x, y = (rng.uniform(side / 2, length - side / 2) / length for length in image)
            rows += f"0 {x:.6f} {y:.6f} {side / image[0]:.6f} {side / image[1]:.6f}\n"
    return rows


@pytest.fixture
def scattered(tmp_path):
    """Two images of 1000 x 800 px with objects of 10 and 12 px."""
    data = Dataset(tmp_path / "data")
    for split in ("train", "val"):
        data.add(f"{split}.png", boxes_of(10, 12, count=40), Image.new("L", (1000, 800)), split)
    return data


def test_without_objects_nothing_is_recommended(dataset):
    dataset.add("a.png", "", picture(1000, 800))
    dataset.add("b.png", "", picture(1000, 800), "val")
    report = tiler.plan(dataset.yaml)
    assert (report.recommended, report.command) == (None, None)
    assert report.reason == "There are no objects to choose a tile by."
    assert [(s.tile, s.tiles, s.background) for s in report.settings] == [
        (None, 2, 2),
        (640, 8, 8),
        (640, 8, 8),
        (960, 4, 4),
        (960, 4, 4),
    ]


def test_where_all_objects_are_large_no_tiles_are_needed(dataset):
    for split in ("train", "val"):
        dataset.add(f"{split}.png", boxes_of(200, 300, 400), Image.new("L", (1000, 800)), split)
    report = tiler.plan(dataset.yaml)
    assert (report.choice.tile, report.command) == (None, None)
    assert report.reason == (
        "No tiles are needed: resized to imgsz 640, the images as they are show the small objects "
        "with a median side of 128.0 px, where 16 px were asked for."
    )
    assert report.remarks == [
        "No object has an area under 32² px: the smallest third (under 200.0² px) stands for the "
        "small ones."
    ]
    assert (report.small, report.small_rule) == (2, "the smallest third")


def test_where_objects_are_too_small_in_every_tile_the_imgsz_that_is_needed_is_named(scattered):
    report = tiler.plan(scattered.yaml, tile=640, min_px=48)
    assert report.recommended is None
    assert report.reason == (
        "No setting shows the small objects with a median side of 48 px at imgsz 640: at most "
        "11.0 px, with --tile 640 --overlap 0; there, imgsz 2816 would."
    )
    larger = tiler.plan(scattered.yaml, tile=640, min_px=48, imgsz=2816)
    assert larger.choice is not None


def test_where_enough_is_kept_in_no_tile_the_most_is_named(scattered):
    report = tiler.plan(scattered.yaml, tile=320, overlap=0, min_px=16)
    kept = report.settings[1].small_whole
    assert 100 < kept < 159
    assert report.recommended is None
    assert report.reason == (
        "No setting keeps 99 % of the small objects whole and shows them with a median side of "
        "16 px at imgsz 640."
    )


def test_objects_that_never_get_a_label_are_named(dataset):
    for split in ("train", "val"):
        rows = boxes_of(1.5, 20, count=10)
        dataset.add(f"{split}.png", rows, Image.new("L", (1000, 800)), split)
    report = tiler.plan(dataset.yaml)
    assert report.recommended is None
    assert report.reason.startswith(
        "No setting keeps 99 % of the small objects whole: at most 20 of 40 (50.0 %) are, with "
    )
    assert report.remarks == [
        "20 of 40 small objects get no label even where they are whole (too small, or taken for a "
        "duplicate): --keep must be lower."
    ]
    assert tiler.plan(dataset.yaml, keep=50).recommended is not None


def test_what_speaks_against_it_is_said(dataset):
    for split in ("train", "val"):
        rows = boxes_of(10, count=30, image=(2000, 1500)) + boxes_of(700, image=(2000, 1500))
        dataset.add(f"{split}.png", rows, Image.new("L", (2000, 1500)), split)
    report = tiler.plan(dataset.yaml, tile=(640, 1280), overlap=0, keep=90, min_px=8)
    assert report.choice.tile == 640
    remarks = " ".join(report.remarks)
    assert "to keep 90 % of such objects whole wherever they lie takes 11 px." in remarks
    assert "2 of them longer than a tile (--scale 1,0.5 helps). In no tile at all: 0." in remarks
    larger = tiler.plan(dataset.yaml, tile=1280, overlap=0.2, keep=90, min_px=5)
    assert larger.remarks == [
        "The trainer shrinks its tiles to imgsz 640, which takes pixels away."
    ]


def test_mostly_background_is_said(dataset):
    for split in ("train", "val"):
        dataset.add(f"{split}.png", "0 0.5 0.5 0.005 0.005\n", Image.new("L", (3000, 3000)), split)
    report = tiler.plan(dataset.yaml, tile=640, overlap=0, min_px=4, keep=0)
    (remark,) = [text for text in report.remarks if "background" in text]
    assert remark == (
        "96% of its tiles are background: --background 0.1 keeps one for ten tiles with objects."
    )


def test_the_command_has_the_options_of_the_dataset(scattered):
    report = tiler.plan(scattered.yaml, task="detect", max_pixels=10_000_000, min_px=8)
    start = f"tiler split {scattered.yaml} --tile "
    assert report.command.startswith(start)
    assert report.command.endswith(" --task detect --max-pixels 10000000")


def test_a_sample_is_drawn_by_its_seed_and_said(dataset):
    for i in range(6):
        split = "val" if i == 5 else "train"
        dataset.add(f"p{i}.png", boxes_of(10 + i, count=4), Image.new("L", (1000, 800)), split)
    report = tiler.plan(dataset.yaml, sample=2, tile=640)
    assert (report.images.total, report.images.counted, report.images.scale) == (6, 2, 3)
    assert report.settings[0].tiles == 2
    assert report.remarks[0] == (
        "Counted on 2 of 6 images (--sample); numbers with ~ are scaled to all."
    )
    sizes = {tiler.plan(dataset.yaml, sample=2, seed=seed).sizes.side.p50 for seed in range(8)}
    assert len(sizes) > 2
    assert tiler.plan(dataset.yaml, sample=2, tile=640).encoded() == report.encoded()
    assert tiler.plan(dataset.yaml, sample=0).images.counted == 6
    with pytest.raises(TilerError, match="--seed 3: --sample 0 does not use it"):
        tiler.plan(dataset.yaml, sample=0, seed=3)


def test_any_number_of_workers_and_processes_give_the_same(filled):
    for i in range(4, 60):
        filled.add(f"p{i}.jpg", boxes_of(10, 20, 30, image=(400, 300)), picture(400, 300, seed=i))
    plans = {tiler.plan(filled.yaml, tile=128, workers=n).encoded() for n in (1, 2)}
    assert len(plans) == 1


def test_bad_images_and_rows_are_findings_and_the_rest_is_counted(filled):
    good = tiler.plan(filled.yaml)
    filled.add("bad.jpg", "0 0.5 0.5 0.1 0.1", b"no image")
    label = filled.root / "labels/train/p0.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.1 0.1\n")
    report = tiler.plan(filled.yaml)
    assert [finding.code for finding in report.findings] == ["I02", "L04"]
    assert (report.exit_code(), good.exit_code()) == (1, 0)
    assert (report.images.counted, report.images.rejected) == (4, 1)
    assert report.settings == good.settings


def test_an_image_that_changes_meanwhile_ends_it(filled):
    def remove(done, total):
        if done == 4:
            (filled.root / "images/val/p3.jpg").unlink()

    with pytest.raises(Unfinished, match=r"images/val/p3.jpg changed while it was counted"):
        tiler.plan(filled.yaml, progress=remove)


def test_progress_counts_two_readings_of_each_image(filled):
    seen = []
    tiler.plan(filled.yaml, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 8) for i in range(1, 9)]


def test_an_overlap_that_leaves_no_stride_is_an_error(filled):
    expected = "--overlap 200: an overlap of 200 px leaves no stride in a tile of 128 px"
    with pytest.raises(TilerError, match=expected):
        tiler.plan(filled.yaml, tile=(128, 640), overlap=200)


def setting_of(pixels, tiles, small_whole, whole, keeps, large_enough):
    return PlannedSetting(
        tile=640,
        overlap=0.0,
        overlap_px=0,
        tiles=tiles,
        background=0,
        pixels=pixels,
        bytes=0,
        objects=9,
        whole=whole,
        truncated=0,
        lost=0,
        rows=0,
        longer=0,
        small_whole=small_whole,
        small_px=Percentiles(),
        keeps=keeps,
        large_enough=large_enough,
    )


few = st.integers(0, 3)


@given(
    st.lists(st.builds(setting_of, few, few, few, few, st.booleans(), st.booleans()), max_size=8)
)
def test_the_rule_of_the_recommendation(compared):
    place = recommended(compared)
    suitable = [s for s in compared if s.keeps and s.large_enough]
    if not suitable:
        assert place is None
        return
    ranked = sorted(suitable, key=lambda s: (s.pixels, s.tiles, -s.small_whole, -s.whole))
    assert compared[place] == ranked[0]
    assert compared.index(ranked[0]) == place


def test_the_json_of_a_plan(scattered):
    report = tiler.plan(scattered.yaml, tile=320)
    content = msgspec.json.decode(report.encoded())
    assert list(content) == [
        *("task", "task_reason", "images", "imgsz", "keep", "min_px", "small_rule"),
        *("small_below", "small", "small_unlabelled", "guaranteed_overlap", "sizes", "classes"),
        *("settings", "recommended", "command", "reason", "remarks", "findings", "tiler"),
        "schema",
    ]
    assert list(content["settings"][0]) == list(PlannedSetting.__struct_fields__)
    assert content["sizes"]["objects"] == content["classes"]["a"]["objects"] == 160
    assert content["settings"][content["recommended"]]["tile"] == 320
