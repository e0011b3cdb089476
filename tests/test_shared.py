"""Real datasets, whole: nothing is lost, clips are exact, masks hold, odd files do what their index
says.
"""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import shapely
import yaml
from PIL import Image, ImageDraw

import tiler
from tests.conftest import SHARED, needs_shared, rows_of, tree
from tiler.formats import manifest, yolo
from tiler.images import codecs, gdal, vips

pytestmark = needs_shared
DATA = SHARED / "data"

SETS = [
    ("cars_detect", "detect", 640),
    ("hituav_obb", "obb", 320),
    ("nuclei_segment", "segment", 256),
]
SETS += [("pcb_detect", "detect", 320), ("cells_detect", "detect", 320)]


def sources(name, task):
    """(key, split, size, instances) of every image, read on a path of its own."""
    for split in ("train", "val"):
        for path in sorted((DATA / name / "images" / split).iterdir()):
            with Image.open(path) as image:
                size = image.size
            label = DATA / name / "labels" / split / f"{path.stem}.txt"
            labels, _ = yolo.read(label.read_bytes(), yolo.Spec(task, 99), *size, "")
            yield f"images/{split}/{path.name}", split, size, labels


def shapes(instances, size):
    """Each object's area within the image, as shapely sees it."""
    if instances.rings is None:
        areas = shapely.box(*instances.boxes.T)
    else:
        areas = instances.rings.geometry()
    return shapely.intersection(areas, shapely.box(0, 0, *size))


@pytest.mark.parametrize(("name", "task", "tile"), SETS)
def test_nothing_is_lost_and_every_clip_is_exact(tmp_path, name, task, tile):
    report = tiler.split(DATA / name, out=tmp_path / "out", tile=tile, min_visible=0, min_size=0)
    assert (report.task, report.total.objects.lost) == (task, 0)
    assert {f.code for f in report.findings} <= {"L08"}
    entries = {e.source: e for e in manifest.read_sources(tmp_path / "out/tiles.jsonl")}
    for key, split, size, labels in sources(name, task):
        written = rows_of(tmp_path / "out", split)
        full = shapes(labels, size)
        visible = [[] for _ in full]
        at = {int(row): i for i, row in enumerate(labels.row)}
        for t in entries[key].tiles:
            window = shapely.box(t.x, t.y, t.x + t.w, t.y + t.h)
            seen_here = {}
            for row, (origin, part) in zip(written[t.name], t.rows, strict=True):
                i = at[origin]
                clipped = shapely.intersection(full[i], window)
                assert part == pytest.approx(clipped.area / full[i].area, abs=2e-6)
                visible[i].append(window)
                values = np.array(row[1:])
                if task == "detect":
                    x, y, w, h = values * [t.w, t.h, t.w, t.h]
                    got = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) + [
                        t.x,
                        t.y,
                        t.x,
                        t.y,
                    ]
                    assert np.allclose(got, clipped.bounds, atol=1e-5)  # 8 decimals of the tile
                if task == "segment":
                    points = values.reshape(-1, 2) * [t.w, t.h] + [t.x, t.y]
                    seen_here.setdefault(i, []).append(tiler.Rings.of([[points]]).geometry()[0])
            for i, pieces in seen_here.items():
                difference = shapely.symmetric_difference(
                    shapely.union_all(pieces), shapely.intersection(full[i], window)
                )
                assert difference.area < 1e-3
        for area, windows in zip(full, visible, strict=True):
            covered = shapely.intersection(area, shapely.union_all(windows))
            assert covered.area == pytest.approx(area.area, rel=1e-6)


@pytest.mark.parametrize(("name", "task", "tile"), SETS)
def test_an_overlap_larger_than_the_object_shows_it_whole(tmp_path, name, task, tile):
    largest = max(
        float((labels.boxes[:, 2:] - labels.boxes[:, :2]).max(initial=0))
        for _, _, _, labels in sources(name, task)
    )
    overlap = int(largest) + 1
    report = tiler.split(DATA / name, tile=max(tile, 2 * overlap), overlap=overlap, dry_run=True)
    assert report.total.objects.whole == report.total.objects.objects


def test_masks_of_tiles_are_as_near_to_the_truth_as_the_uncut_outlines(tmp_path):
    """Against instance_maps, the exact masks that the outlines were drawn from, cut to the same
    windows.
    """

    def iou(rings, truth):
        mask = Image.new("1", truth.shape[::-1], 0)
        for ring in rings:
            ImageDraw.Draw(mask).polygon([tuple(p) for p in (ring - 0.5).tolist()], fill=1)
        drawn = np.asarray(mask)
        return (drawn & truth).sum() / max(1, (drawn | truth).sum())

    tiler.split(DATA / "nuclei_segment", out=tmp_path / "out", tile=256, min_visible=0.25)
    entries = {e.source: e for e in manifest.read_sources(tmp_path / "out/tiles.jsonl")}
    uncut, cut = [], []
    for key, split, _, labels in sources("nuclei_segment", "segment"):
        truth = np.asarray(
            Image.open(DATA / "nuclei_segment/instance_maps" / f"{Path(key).stem}.png")
        )
        owner = {}
        for i, row in enumerate(labels.row):
            x0, y0, x1, y1 = labels.boxes[i].astype(int) + [0, 0, 1, 1]
            ids, counts = np.unique(
                truth[y0:y1, x0:x1][truth[y0:y1, x0:x1] > 0], return_counts=True
            )
            inside = [iou(labels.rings[i], truth == k) for k in ids[np.argsort(-counts)][:2]]
            owner[int(row)] = ids[np.argsort(-counts)][int(np.argmax(inside))]
            uncut.append(max(inside))
        written = rows_of(tmp_path / "out", split)
        for tile in entries[key].tiles:
            window = truth[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]
            pieces = {}
            for row, (origin, _) in zip(written[tile.name], tile.rows, strict=True):
                pieces.setdefault(origin, []).append(
                    np.array(row[1:]).reshape(-1, 2) * [tile.w, tile.h]
                )
            cut += [iou(rings, window == owner[origin]) for origin, rings in pieces.items()]
    assert len(cut) > 2000
    assert np.mean(cut) >= np.mean(uncut) - 0.01


def test_coco_json_of_thermal_pictures(tmp_path):
    report = tiler.split(
        DATA / "hituav_coco/annotations.json",
        images=DATA / "hituav_coco/images",
        out=tmp_path / "o",
        tile=320,
    )
    assert (
        report.task,
        report.exit_code(),
        report.total.objects.objects,
        report.total.objects.lost,
    ) == ("detect", 0, 60, 0)
    published = tiler.split(
        DATA / "hituav_coco/annotations_as_published.json",
        images=DATA / "hituav_coco/images",
        out=tmp_path / "p",
        tile=320,
    )
    assert {f.code for f in published.findings} == {"Y03", "Y07"}
    for name in ("labels", "images"):
        assert tree(tmp_path / "p" / name) == tree(tmp_path / "o" / name)


def test_cells_by_their_own_voc_files(tmp_path):
    data = DATA / "cells_detect"
    voc = tiler.split(data / "original_voc", images=data / "images", out=tmp_path / "v", tile=320)
    yolo = tiler.split(data / "dataset.yaml", out=tmp_path / "y", tile=320)
    assert (voc.task, voc.exit_code(), voc.total.objects.objects) == ("detect", 0, 137)
    assert voc.total.objects == yolo.total.objects
    names = [yaml.safe_load((tmp_path / o / "dataset.yaml").read_text())["names"] for o in "vy"]
    for split in ("train", "val"):
        ours, theirs = rows_of(tmp_path / "v", split), rows_of(tmp_path / "y", split)
        assert list(ours) == list(theirs)
        for tile, rows in theirs.items():
            boxes = [[names[0][row[0]], *row[1:]] for row in ours[tile]]
            expected = [[names[1][row[0]], *row[1:]] for row in rows]
            assert [box[0] for box in boxes] == [box[0] for box in expected]
            for box, other in zip(boxes, expected, strict=True):
                assert box[1:] == pytest.approx(other[1:], abs=1e-5)


def test_trees_by_voc_csv_and_outlines(tmp_path):
    data = DATA / "trees_voc"
    for name, task, count in (
        ("OSBS_029.xml", "detect", 61),
        ("OSBS_029.csv", "detect", 61),
        ("2019_BLAN_3_751000_4330000_image_crop_bbox.csv", "detect", 4),
        ("2019_BLAN_3_751000_4330000_image_crop_polygon.csv", "segment", 4),
    ):
        report = tiler.split(data / name, out=tmp_path / name, tile=256)
        counts = report.total.objects
        assert (report.task, report.exit_code(), counts.objects, counts.lost) == (task, 0, count, 0)
        assert tiler.check(data / name).exit_code() == 0
    xml, csv = (rows_of(tmp_path / f"OSBS_029.{suffix}") for suffix in ("xml", "csv"))
    assert {tile: sorted(rows) for tile, rows in xml.items()} == {
        tile: sorted(rows) for tile, rows in csv.items()
    }
    with pytest.raises(tiler.TilerError, match="of several kinds: Pascal VOC"):
        tiler.split(data, out=tmp_path / "all")


# --- odd.tar


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    with tarfile.open(DATA / "odd.tar") as archive:
        archive.extractall(root, filter="data")
    return root / "odd"


REFUSED = {
    "avif.avif": "I07",
    "bomb_header.png": "I04", "bomb_header_jpg.jpg": "I04", "bomb_real.png": "I04",
    "corrupt_crc.png": "I03", "truncated.png": "I03", "truncated_half.jpg": "I03",
    "truncated_head.jpg": "I03",
    "truncated_noeoi.jpg": "I03", "truncated_tif.tif": "I03",
    "html404.jpg": "I02", "text.jpg": "I02", "one_byte.png": "I02", "zero_byte.jpg": "I02",
    "zero_dim.png": "I02",
    "tall_1x5000.png": "I05", "wide_5000x1.png": "I05", "tiny_1x1.png": "I05",
}  # fmt: skip


# With the extras `big` and `fast` these are cut
BY_EXTRAS = {"j2k.jp2": "I07", "bands5.tif": "I06", "rgb16.tif": "I06", "rgb16_png.png": "I06"}
EXTRAS = ("pyvips", "rasterio", "tifffile", "imagecodecs")
NAMES = "train: images\nval: images\nnames: {0: car, 1: truck, 2: bus, 3: minibus, 4: cyclist}\n"


@pytest.fixture(params=["without extras", "with extras"])
def refused(request, monkeypatch):
    """What is refused, by what is installed."""
    if request.param == "with extras":
        for name in EXTRAS:
            pytest.importorskip(
                name,
                reason="the extras `big` and `fast` are not installed",
                exc_type=(ImportError, OSError),
            )
        yield REFUSED
        return
    monkeypatch.setattr(vips, "missing", lambda: True)
    monkeypatch.setattr(gdal, "missing", lambda: True)
    monkeypatch.setenv(codecs.OFF, "1")
    codecs.library.cache_clear()
    yield REFUSED | BY_EXTRAS
    codecs.library.cache_clear()


def test_odd_pictures_are_cut_or_refused_by_name_and_cost_no_other(odd, tmp_path, refused):
    (odd / "dataset.yaml").write_text(NAMES)
    report = tiler.split(odd, out=tmp_path / "out", tile=320)
    assert report.exit_code() == 1
    found = {(Path(f.path).name, f.code) for f in report.findings if f.level == "error"}
    assert found == set(refused.items())
    for finding in report.findings:
        if Path(finding.path).name in BY_EXTRAS and finding.level == "error":
            assert finding.message.endswith("pip install 'tilestitch[big]' reads it")
    orphans = {Path(f.path).name for f in report.findings if f.code == "P02"}
    assert orphans == {"orphan.txt", "animated.txt", "bands4.txt"}
    readable = {
        p.name
        for p in (odd / "images").rglob("*")
        if p.suffix.lower() in yolo_suffixes() and not p.name.startswith(".")
    }
    cut = {
        Path(e.source).name for e in manifest.read_sources(tmp_path / "out/tiles.jsonl") if e.tiles
    }
    assert cut == readable - set(refused)
    plain = rows_of(tmp_path / "out")["plain__0_0_320_320"]
    for stem in (
        "exif_3",
        "exif_5",
        "exif_6",
        "exif_8",
        "exif_png",
        "exif_webp",
        "cmyk",
        "gray16",
        "palette",
        "mpo",
        "lzw",
    ):
        assert rows_of(tmp_path / "out")[f"{stem}__0_0_320_320"] == plain, stem


def yolo_suffixes():
    return {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".mpo", ".avif", ".jp2"}


def whole(path):
    """(bands, height, width) of an image, by libraries that tiler does not read it with."""
    if path.suffix == ".tif":
        from tifffile import imread

        pixels = imread(path)
        return pixels if pixels.shape[0] == 5 else pixels.transpose(2, 0, 1)
    if path.suffix == ".jp2":
        return np.asarray(Image.open(path)).transpose(2, 0, 1)
    from imagecodecs import png_decode

    return png_decode(path.read_bytes()).transpose(2, 0, 1)


@pytest.mark.parametrize("refused", ["with extras"], indirect=True)
def test_odd_pictures_that_the_extras_read_are_cut_to_the_last_bit(odd, tmp_path, refused):
    (odd / "dataset.yaml").write_text(NAMES)
    report = tiler.split(odd, out=tmp_path / "out", tile=320)
    assert report.channels == 0
    assert report.bands["5"] == 2  # in train and in val
    assert "I14" in {f.code for f in report.findings}
    count = 0
    for entry in manifest.read_sources(tmp_path / "out/tiles.jsonl"):
        if (name := Path(entry.source).name) not in BY_EXTRAS:
            continue
        pixels = whole(odd / entry.source)
        for t in entry.tiles:
            (path,) = (tmp_path / "out/images" / entry.split).glob(t.name + ".*")
            assert path.suffix == (".png" if name in ("j2k.jp2", "rgb16_png.png") else ".tif")
            found = whole(path)
            assert found.dtype == pixels.dtype == (np.uint16 if "16" in name else np.uint8)
            np.testing.assert_array_equal(found, pixels[:, t.y : t.y + t.h, t.x : t.x + t.w])
            count += 1
    assert count == 2 * (2 + 1 + 1 + 2)


def test_odd_turned_pictures_show_the_same_pixels(odd, tmp_path):
    (odd / "dataset.yaml").write_text(NAMES)
    tiler.split(odd, out=tmp_path / "out", tile=320)
    want = np.asarray(Image.open(tmp_path / "out/images/train/plain__0_0_320_320.jpg")).astype(int)
    for stem in [f"exif_{i}" for i in range(1, 9)] + ["exif_garbage", "exif_invalid"]:
        got = np.asarray(Image.open(tmp_path / f"out/images/train/{stem}__0_0_320_320.jpg")).astype(
            int
        )
        assert np.abs(got - want).mean() < 4, stem


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_odd_label_files_are_named_with_their_line_and_cost_no_other(odd, tmp_path, task):
    root = odd / "bad_labels" / task
    yaml = root / "own.yaml"
    shape = "kpt_shape: [4, 3]\n" if task == "pose" else ""
    yaml.write_text(f"train: images/train\nval: images/train\nnames: [a, b, c, d, e]\n{shape}")
    report = tiler.split(yaml, out=tmp_path / "out", tile=320, task=task)
    refused = [f for f in report.findings if f.level == "error"]
    assert report.exit_code() == 1
    assert all(re.fullmatch(r"labels/train/\w+\.txt", f.path) for f in refused)
    assert all(f.line is not None or f.code in ("L13", "L01") for f in refused)
    assert "good.txt" not in {Path(f.path).name for f in report.findings}
    assert rows_of(tmp_path / "out")["good__0_0_160_106"]


def test_odd_yaml_variants_are_read_or_refused_in_one_line(odd, tmp_path):
    refused = {
        "abs_missing",
        "empty",
        "latin1",
        "missing_dir",
        "names_gap",
        "nc_mismatch",
        "not_a_map",
        "python_tag",
        "tabs",
    }
    refused |= {"roboflow"}  # names folders that are not in the archive
    for path in sorted((odd / "yaml").glob("*.yaml")):
        if path.stem in refused:
            with pytest.raises(tiler.TilerError) as caught:
                tiler.split(path, out=tmp_path / path.stem, dry_run=True)
            assert "\n" not in str(caught.value)
            assert path.name in str(caught.value)
        else:
            assert (
                tiler.split(path, out=tmp_path / path.stem, dry_run=True).total.counts.sources > 0
            )


def test_the_report_is_plain_json(tmp_path):
    report = tiler.split(DATA / "pcb_detect", out=tmp_path / "out", tile=320)
    assert json.loads(report.encoded()) == json.loads((tmp_path / "out/report.json").read_text())
