"""`tiler.merge`, end to end on files: what went into the tiles comes out again, and what is
promised about the output.
"""

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

import tiler
from tests.conftest import SHARED, Dataset, needs_shared, tree
from tests.merging import copied, differences, lines, numbers, predicted, truth, written
from tiler.errors import TilerError, Unfinished
from tiler.formats import manifest, provenance
from tiler.images import writing
from tiler.merging import building, output
from tiler.options import METHODS, MergeOptions
from tiler.run.staging import Staging

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h")
SIZES = {"p0": (600, 500), "p1": (500, 600), "p2": (200, 150), "p3": (600, 400)}
EDGE = 4.0  # px: what ends so near before its tile's edge looks cut by it


def merge(preds, out=None, **options):
    options.setdefault("workers", 1)
    return tiler.merge(preds, out=out, **options)


# --- predictions to merge


def seams(width, height):
    """Sides of all windows that these tests cut, px: (low, high) by axis, without the border's."""
    found = [(set(), set()), (set(), set())]
    for tile, overlap in ((256, 0), (256, 64), (256, 128), (512, 128)):
        for edge in ("shift", "pad", "trim"):
            for window in tiler.grid(width, height, tile, overlap, edge=edge):
                x0, y0, x1, y1 = window.bounds
                for axis, (low, high, end) in enumerate(((x0, x1, width), (y0, y1, height))):
                    found[axis][0].update({low} - {0})
                    found[axis][1].update({high} - {end})
    return [tuple(np.array(sorted(side), float) for side in pair) for pair in found]


def clear(points, borders):
    """Whether no side of an object looks as if a tile had cut it."""
    low, high = points.min(axis=0), points.max(axis=0)
    for axis in (0, 1):
        starts, ends = borders[axis]
        if ((low[axis] >= starts) & (low[axis] < starts + EDGE)).any() or (
            (high[axis] <= ends) & (high[axis] > ends - EDGE)
        ).any():
            return False
    return True


def objects(task, rng, width, height, n):
    """Label rows: small ones of three classes, and some larger than a tile, each of its own class.

    No large OBBs: of what a tile cuts, the corners may lie outside it, where label files cannot
    have them.
    """
    borders, rows = seams(width, height), []
    sizes = [(class_id, rng.uniform(8, 50, 2)) for class_id in rng.integers(0, 3, n)]
    if task != "obb":
        sizes += [
            (class_id, rng.uniform(0.3, 0.9, 2) * min(width, height)) for class_id in range(3, 6)
        ]
    for class_id, wh in sizes:
        for _ in range(200):
            if task in ("detect", "pose"):
                corners = np.array([[0, 0], wh])
            elif task == "obb":
                turn = rng.uniform(0, np.pi)
                c, s = np.cos(turn), np.sin(turn)
                corners = (
                    np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
                    * wh
                    / 3
                    @ np.array([[c, s], [-s, c]])
                )
            else:
                count = int(rng.integers(5, 12))
                angle = (np.arange(count) + rng.uniform(0, 0.9, count)) * 2 * np.pi / count
                corners = (
                    np.stack([np.cos(angle), np.sin(angle)], axis=1)
                    * rng.uniform(0.5, 1, (count, 1))
                    * wh
                    / 2
                )
            span = corners.max(axis=0) - corners.min(axis=0)
            if (span >= [width, height]).any():
                continue
            points = corners - corners.min(axis=0) + rng.uniform(0, 1, 2) * ([width, height] - span)
            if clear(points, borders):
                break
        else:
            continue
        if task in ("detect", "pose"):
            values = [*points.mean(axis=0) / [width, height], *span / [width, height]]
            if task == "pose":
                for point in points[0] + rng.uniform(0, 1, (3, 2)) * span:
                    values += [*point / [width, height], 2]
        else:
            values = (points / [width, height]).ravel()
        rows.append(" ".join([str(class_id), *(f"{value:.10g}" for value in values)]))
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A dataset of a task, cut with given options: data, tiles and preds; each made once."""
    made = {}
    root = tmp_path_factory.mktemp("cut")

    def cut(task="detect", **options):
        data = root / task
        if task not in made:
            extra = {"kpt_shape": [3, 3]} if task == "pose" else {}
            dataset = made[task] = Dataset(data, NAMES, **extra)
            for i, (name, size) in enumerate(SIZES.items()):
                rows = objects(task, np.random.default_rng(i), *size, 20)
                dataset.add(
                    f"{name}.png", rows, Image.new("L", size, i), "val" if name == "p3" else "train"
                )
            dataset.add("none.png", "", Image.new("L", (300, 300), 99))
        key = task, *sorted(options.items())
        if key not in made:
            folder = root / str(len(made))
            chosen = {"tile": 256, "min_visible": 0, "min_size": 0, "workers": 1, **options}
            tiler.split(made[task].yaml, task=task, out=folder / "tiles", **chosen)
            predicted(folder / "tiles", folder / "preds")
            made[key] = SimpleNamespace(
                data=data, tiles=folder / "tiles", preds=folder / "preds", yaml=made[task].yaml
            )
        return made[key]

    return cut


@pytest.fixture(scope="module")
def base(cut):
    return cut(overlap=64)


@pytest.fixture(scope="module")
def noisy(base, tmp_path_factory):
    """What a detector might write: jitter, inventions, duplicates, and rows that cannot be
    meant.
    """
    rng = np.random.default_rng(7)

    def spoilt(name, text):
        rows = []
        for row in text.splitlines():
            c, *box, conf = map(float, row.split())
            box = np.clip(np.array(box) + rng.normal(0, 0.004, 4), 0.001, 1)
            rows.append(
                f"{int(c)} {' '.join(f'{v:g}' for v in box)} {conf * rng.uniform(0.3, 1):g}"
            )
        rows += [
            f"{rng.integers(3)} {' '.join(f'{v:g}' for v in rng.uniform(0.1, 0.9, 4))} "
            f"{rng.uniform(0.01, 0.6):g}"
            for _ in range(4)
        ]
        rows += rows[:: rng.integers(3, 9)]
        return "\n".join(rows) + "\n"

    folder = copied(base.preds, tmp_path_factory.mktemp("noisy") / "preds", spoilt)
    names = sorted(path.name for path in folder.iterdir())
    for name, row in [
        (names[0], "77 0.5 0.5 0.1 0.1 0.5"),
        (names[1], "0 0.5 0.5 0.1 0.1 1.5"),
        (names[1], "0 5 5 0.1 0.1 0.5"),
        (names[2], "0 0.5 0.5 0 0.1 0.5"),
        (names[2], "0 0.5 0.5"),
        (names[3], "0 0.5 nan 0.1 0.1 0.5"),
        (names[3], "0 0.5 half 0.1 0.1 0.5"),
        (names[4], "0 0.95 0.5 0.2 0.1 0.5"),
    ]:
        with open(folder / name, "a") as file:
            file.write(f"{row}\n\n")
    return SimpleNamespace(data=base.data, tiles=base.tiles, preds=folder)


# --- there and back


@pytest.mark.parametrize("overlap", [0, 64, 128])
@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_what_was_cut_comes_back(cut, tmp_path, task, overlap):
    case = cut(task, overlap=overlap)
    merged = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert (merged.report.task, merged.report.exit_code()) == (task, 0)
    missed, extra, count = differences(tmp_path / "out", case.tiles, case.data)
    assert (missed, extra) == ([], [])
    assert merged.report.counts.detections == count > 60
    assert merged.report.counts.joined > 5


@pytest.mark.parametrize(
    "options", [{"scale": "1,0.5"}, {"edge": "pad"}, {"edge": "trim"}], ids=str
)
@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_it_comes_back_from_any_grid(cut, tmp_path, task, options):
    case = cut(task, overlap=64, **options)
    merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert differences(tmp_path / "out", case.tiles, case.data)[:2] == ([], [])


REAL = [
    ("cars_detect", "detect", 640, 0),
    ("cars_detect", "detect", 640, 128),
    ("hituav_obb", "obb", 320, 0),
]
REAL += [
    ("hituav_obb", "obb", 320, 64),
    ("nuclei_segment", "segment", 256, 0),
    ("nuclei_segment", "segment", 256, 64),
]


@pytest.fixture
def no_pixels(monkeypatch):
    """Tiles are written without any."""

    def save(tile, path, encoding, tags, opener):
        return writing.store(path, b"pixels do not matter here", opener)

    monkeypatch.setattr(writing, "save", save)


@needs_shared
@pytest.mark.parametrize(("name", "task", "tile", "overlap"), REAL)
def test_real_labels_come_back(tmp_path, no_pixels, name, task, tile, overlap):
    data = SHARED / "data" / name
    tiler.split(
        data, task=task, out=tmp_path / "t", tile=tile, overlap=overlap, min_visible=0, min_size=0
    )
    merged = merge(
        predicted(tmp_path / "t", tmp_path / "p"), tmp_path / "out", tiles=tmp_path / "t"
    )
    assert merged.report.exit_code() == 0
    missed, extra, count = differences(tmp_path / "out", tmp_path / "t", data)
    assert (missed, extra) == ([], [])
    assert merged.report.counts.detections == count > 190


# Labels of an image or some of each set; they are cut in twelve ways, and merged by every method
LABELS = {
    name: f"{name}/labels/*/*"
    for name in ("cars_detect", "cells_detect", "pcb_detect", "hituav_obb")
}
LABELS |= {"nuclei_segment": "nuclei_segment/labels/val/*"}
LABELS |= {
    f"e2e_{task}": f"e2e/scenes/labels_{task}/test/*_00" for task in ("detect", "obb", "segment")
}
GRIDS = list(itertools.product([200, 320, 416, 640], [0, 64, 96]))


@needs_shared
@pytest.mark.parametrize("name", LABELS)
def test_real_labels_of_any_grid_go_through_every_method(tmp_path, no_pixels, name):
    """With an overlap they come back from the Common-View Merge, all of them; without, it may take
    two for one at a seam.
    """
    task = name.rpartition("_")[2]
    data = Dataset(tmp_path / "data", names=[f"c{k}" for k in range(12)])
    data.add(
        "one.png",
        "0 .5 .5 .5 .5" if task == "detect" else "0 .2 .2 .8 .2 .8 .8 .2 .8",
        Image.new("L", (64, 64)),
        "val",
    )
    for label in sorted((SHARED / "data").glob(f"{LABELS[name]}.txt"))[:2]:
        folder = Path(
            str(label.parent).replace(f"labels_{task}", "images").replace("/labels/", "/images/")
        )
        with Image.open(next(folder.glob(f"{label.stem}.*"))) as real:
            data.add(f"{label.stem}.png", label.read_text(), Image.new("L", real.size))
    methods = itertools.cycle(method for method in METHODS if method != "cvm")
    for tile, overlap in GRIDS:
        tiles = tmp_path / f"t{tile}_{overlap}"
        tiler.split(
            data.yaml, task=task, out=tiles, tile=tile, overlap=overlap, min_visible=0, min_size=0
        )
        preds = predicted(tiles, tmp_path / f"p{tile}_{overlap}")
        out = tmp_path / f"m{tile}_{overlap}"
        merged = merge(preds, out, tiles=tiles)
        missed, extra, _ = differences(out, tiles, data.root)
        assert len(missed) + len(extra) <= (3 if overlap == 0 else 0), (
            tile,
            overlap,
            missed,
            extra,
        )
        assert merged.report.exit_code() == 0
        other = tiler.merge(preds, tiles=tiles, method=next(methods))
        assert other.report.exit_code() == 0
        assert sum(other.report.counts.fates.values()) == other.report.counts.rows


# --- a real detector's predictions


E2E = SHARED / "data/e2e"


def average_precision(entries, task):
    """AP by pycocotools at maxDets 1000, of boxes (of OBB: upright ones) against the labels of the
    scenes.
    """
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    images, annotations = [], []
    for path in sorted((E2E / f"scenes/labels_{task}/test").glob("*.txt")):
        images.append(
            {"id": path.stem, "file_name": f"{path.stem}.jpg", "width": 2048, "height": 2048}
        )
        for row in numbers(path):
            if task == "detect":
                x, y, w, h = np.array(row[1:]) * 2048
                box = [x - w / 2, y - h / 2, w, h]
            else:
                points = np.array(row[1:]).reshape(-1, 2) * 2048
                box = [*points.min(axis=0), *(points.max(axis=0) - points.min(axis=0))]
            known = {
                "id": len(annotations) + 1,
                "image_id": path.stem,
                "category_id": int(row[0]),
                "iscrowd": 0,
            }
            annotations.append({**known, "bbox": box, "area": box[2] * box[3]})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": str(i)} for i in range(3)],
        }
        truth.createIndex()
        evaluation = COCOeval(
            truth,
            truth.loadRes([{k: v for k, v in e.items() if k != "segmentation"} for e in entries]),
            "bbox",
        )
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return float(precision[precision > -1].mean())


@needs_shared
@pytest.mark.parametrize(("task", "least"), [("detect", 0.338), ("obb", 0)])
def test_common_view_merge_beats_nms_on_real_predictions(tmp_path, task, least):
    reached = {}
    for method in ("cvm", "nms"):
        merged = merge(
            E2E / f"preds/{task}/predict",
            tmp_path / method,
            images=E2E / "scenes/images/test",
            method=method,
        )
        assert (merged.report.task, merged.report.index) == (task, "names of tiles (split_dota)")
        reached[method] = average_precision(
            json.loads((tmp_path / method / "predictions.json").read_text()), task
        )
    assert reached["cvm"] >= least
    assert reached["cvm"] > reached["nms"] > 0.2


@needs_shared
@pytest.mark.parametrize("task", ["detect", "obb"])
@pytest.mark.parametrize("source", ["predict", "val/predictions.json"])
def test_odd_numbers_of_a_real_detector_are_counted_and_never_fatal(tmp_path, task, source):
    path = E2E / "preds" / task / source
    merged = merge(path, tmp_path / "out", images=E2E / "scenes/images/test")
    counts = merged.report.counts
    if source == "predict":
        assert counts.rows == sum(len(numbers(p)) for p in (path / "labels").glob("*.txt"))
        assert counts.refused == 0
    else:
        entries = json.loads(path.read_text())
        flat = sum(min(e["bbox"][2:]) <= 0 for e in entries) if task == "detect" else 0
        assert (counts.rows, counts.refused) == (len(entries), flat)
        assert merged.report.levels()["warning"] == flat
    assert counts.refused + sum(counts.fates.values()) == counts.rows
    assert merged.report.exit_code() == 0
    out_of_frame = [
        row
        for p in (tmp_path / "out/labels").glob("*.txt")
        for row in numbers(p)
        if not 0 <= min(row[1:]) <= max(row[1:]) <= 1
    ]
    assert task == "obb" or out_of_frame == []


# --- every row has one fate


def assert_one_fate_each(out, preds):
    """By merged.jsonl: each row of each file is in a detection, dropped or refused, once."""
    entries = Counter(e["file_name"] for e in json.loads((out / "predictions.json").read_text()))
    total = 0
    for record in lines(out / "merged.jsonl"):
        fates = Counter(tuple(row) for detection in record["detections"] for row in detection)
        fates += Counter((t, r) for t, r, _, _ in record["dropped"])
        fates += Counter((t, r) for t, r, _ in record["refused"])
        want = {(t, r) for t, tile in enumerate(record["tiles"]) for r in range(tile[-1])}
        assert fates == Counter(want)
        for tile in record["tiles"]:
            path = preds / f"{tile[0]}.txt"
            text = path.read_text() if path.exists() else ""
            assert tile[-1] == sum(bool(line.strip()) for line in text.splitlines())
        assert all(detection for detection in record["detections"])
        assert all(-1 <= into < len(record["detections"]) for *_, into in record["dropped"])
        assert set(record["orphans"]) <= set(range(len(record["detections"])))
        label = out / "labels" / record["source"]
        assert (
            len(numbers(label.with_suffix(".txt")))
            == len(record["detections"])
            == entries[record["source"]]
        )
        total += len(want)
    return total


@pytest.mark.parametrize(
    "options",
    [{}, {"conf": 0.3}, {"max_det": 7}, {"class_agnostic": True}, {"orphans": "drop"}],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_every_row_has_exactly_one_fate(noisy, tmp_path, method, options):
    if MergeOptions(method=method).idle().keys() & options:
        with pytest.raises(TilerError, match=f"--method {method} does not use it"):
            merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, method=method, **options)
        return
    merged = merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, method=method, **options)
    total = assert_one_fate_each(tmp_path / "out", noisy.preds)
    counts = merged.report.counts
    assert counts.rows == total == counts.refused + sum(counts.fates.values())
    assert counts.refused == 7
    assert counts.fates["duplicate"] > 10
    assert ("low confidence" in counts.fates) == ("conf" in options)
    assert ("over max-det" in counts.fates) == ("max_det" in options)


@pytest.mark.parametrize("options", [{}, {"scale": (1, 0.5)}, {"edge": "pad"}], ids=str)
def test_merged_jsonl_lists_every_tile_of_the_manifest(cut, tmp_path, options):
    case = cut(overlap=64, **options)
    preds = shutil.copytree(case.preds, tmp_path / "preds")
    silent, empty, unread = sorted(preds.glob("p0*"))[:3]
    silent.unlink()
    empty.write_text("")
    unread.write_bytes("0 0.5".encode("utf-16"))
    rows = {
        p.stem: sum(bool(line.strip()) for line in p.read_text().splitlines())
        for p in preds.glob("*.txt")
        if p != unread
    }
    merge(preds, tmp_path / "out", tiles=case.tiles)
    found = {
        source.source: source for source in provenance.read_sources(tmp_path / "out/merged.jsonl")
    }
    known = {source.source: source for source in manifest.read_sources(case.tiles / "tiles.jsonl")}
    assert found.keys() == known.keys()
    for key, source in found.items():
        want = {
            (t.name, t.x, t.y, t.w, t.h, t.scale, rows.get(t.name, 0)) for t in known[key].tiles
        }
        assert {(t.name, t.x, t.y, t.w, t.h, t.scale, t.rows) for t in source.tiles} == want
        assert len(source.tiles) == len(want)
        told = [tile.name in rows for tile in source.tiles]
        assert told == sorted(told, reverse=True)  # rows are named by the places of these
    assert any(tile.rows == 0 for tile in found["images/train/none.png"].tiles)


def test_the_report_counts_what_a_loop_over_the_files_counts(noisy, tmp_path):
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)
    counts = json.loads((tmp_path / "out/report.json").read_text())["counts"]
    records = lines(tmp_path / "out/merged.jsonl")
    labels = [numbers(p) for p in sorted((tmp_path / "out/labels").rglob("*.txt"))]
    assert counts["images"] == len(records) == len(labels) == 5
    assert counts["empty"] == sum(not rows for rows in labels)
    assert counts["tiles"] == sum(
        len(s.tiles) for s in manifest.read_sources(noisy.tiles / "tiles.jsonl")
    )
    assert counts["predicted"] == len(list(noisy.preds.glob("*.txt")))
    assert counts["rows"] == sum(
        bool(line.strip()) for p in noisy.preds.glob("*.txt") for line in p.read_text().splitlines()
    )
    assert counts["refused"] == sum(len(r["refused"]) for r in records)
    assert counts["detections"] == sum(map(len, labels))
    assert counts["joined"] == sum(len(d) > 1 for r in records for d in r["detections"])
    assert counts["classes"] == {
        str(k): v for k, v in Counter(int(row[0]) for rows in labels for row in rows).items()
    }
    dropped = Counter(fate for r in records for *_, fate, _ in r["dropped"])
    assert {
        k: v for k, v in counts["fates"].items() if k not in ("kept", "fused", "orphan")
    } == dropped
    kept = counts["fates"]["kept"] + counts["fates"]["fused"] + counts["fates"]["orphan"]
    assert kept == sum(len(d) for r in records for d in r["detections"])


# --- what changes nothing


def test_files_written_twice_give_what_they_give_once(base, tmp_path):
    doubled = copied(base.preds, tmp_path / "preds", lambda name, text: text + text)
    once = merge(base.preds, tmp_path / "once", tiles=base.tiles)
    twice = merge(doubled, tmp_path / "twice", tiles=base.tiles)
    assert tree(tmp_path / "once/labels") == tree(tmp_path / "twice/labels")
    assert (tmp_path / "once/predictions.json").read_bytes() == (
        tmp_path / "twice/predictions.json"
    ).read_bytes()
    rows = once.report.counts.rows
    assert (twice.report.counts.rows, twice.report.counts.fates["duplicate"]) == (2 * rows, rows)
    assert {f.code for f in twice.report.findings} == {"D07"}
    assert sum(int(f.message.split(": ")[1].split()[0]) for f in twice.report.findings) == rows
    assert_one_fate_each(tmp_path / "twice", doubled)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_changes_nothing(noisy, tmp_path, method):
    rng = np.random.default_rng(3)

    def shuffled(name, text):
        return "".join(f"{row}\n" for row in rng.permutation(text.splitlines()))

    mixed = copied(noisy.preds, tmp_path / "preds", shuffled)
    merge(noisy.preds, tmp_path / "one", tiles=noisy.tiles, method=method)
    merge(mixed, tmp_path / "two", tiles=noisy.tiles, method=method)
    assert tree(tmp_path / "one/labels") == tree(tmp_path / "two/labels")
    assert (tmp_path / "one/predictions.json").read_bytes() == (
        tmp_path / "two/predictions.json"
    ).read_bytes()


@pytest.mark.parametrize("task", ["obb", "segment", "pose"])
def test_the_order_of_rows_changes_nothing_of_other_shapes(cut, tmp_path, task):
    case = cut(task, overlap=64)
    turned = copied(
        case.preds,
        tmp_path / "preds",
        lambda name, text: "".join(f"{row}\n" for row in reversed(text.splitlines())),
    )
    merge(case.preds, tmp_path / "one", tiles=case.tiles)
    merge(turned, tmp_path / "two", tiles=case.tiles)
    assert tree(tmp_path / "one/labels") == tree(tmp_path / "two/labels")
    assert (tmp_path / "one/predictions.json").read_bytes() == (
        tmp_path / "two/predictions.json"
    ).read_bytes()


@pytest.mark.parametrize(
    ("workers", "backend"),
    [
        (1, "threading"),
        (2, "threading"),
        (4, "threading"),
        (1, "sequential"),
        (4, "sequential"),
        (2, "loky"),
        (4, "loky"),
        (0, "auto"),
    ],
)
def test_workers_and_backends_change_no_byte(noisy, tmp_path, workers, backend):
    merge(noisy.preds, tmp_path / "one", tiles=noisy.tiles, export="csv,dota,geojson")
    merge(
        noisy.preds,
        tmp_path / "many",
        tiles=noisy.tiles,
        export="csv,dota,geojson",
        workers=workers,
        backend=backend,
    )
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_two_places_give_the_same_bytes(noisy, tmp_path, monkeypatch):
    for name in ("here", "far/away"):
        shutil.copytree(noisy.preds, tmp_path / name / "runs/predict")
        shutil.copytree(
            noisy.tiles, tmp_path / name / "tiles", ignore=shutil.ignore_patterns("images")
        )
    merge(
        tmp_path / "here/runs/predict",
        tmp_path / "here/out",
        tiles=tmp_path / "here/tiles",
        export="csv,geojson",
    )
    monkeypatch.chdir(tmp_path / "far/away")
    merge("runs/predict", "out", tiles="tiles/tiles.jsonl", export="csv,geojson")
    assert tree(tmp_path / "here/out") == tree(tmp_path / "far/away/out")
    for path in (tmp_path / "here/out").glob("*.*"):
        assert str(tmp_path) not in path.read_text(), path.name


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
@pytest.mark.parametrize("by", ["tiles", "images"])
def test_merging_what_was_merged_changes_nothing(cut, tmp_path, task, by):
    case = cut(task, overlap=64)
    merge(case.preds, tmp_path / "one", tiles=case.tiles)
    again = (
        {"tiles": case.tiles}
        if by == "tiles"
        else {"images": case.data, "data": case.yaml, "task": task}
    )
    merged = merge(tmp_path / "one/labels", tmp_path / "two", **again)
    assert tree(tmp_path / "one/labels") == tree(tmp_path / "two/labels")
    assert merged.report.counts.joined == 0
    merge(tmp_path / "one", tmp_path / "three", **again)
    assert tree(tmp_path / "one/labels") == tree(tmp_path / "three/labels")


def test_merging_merged_noise_changes_nothing(noisy, tmp_path):
    merge(noisy.preds, tmp_path / "one", tiles=noisy.tiles)
    merge(tmp_path / "one", tmp_path / "two", tiles=noisy.tiles)
    assert tree(tmp_path / "one/labels") == tree(tmp_path / "two/labels")


# --- killed and run again


class Stop(BaseException):
    """As Ctrl-C comes: no Exception."""


def stopped(monkeypatch, case, out, number, where="after", **options):
    """A run that ends at its n-th image: before it is written, in the middle, or when it is noted
    down.
    """
    real_add, real_note = output.Writer.add, Staging.note
    count = [0]

    def add(self, done):
        count[0] += 1
        if count[0] == number and where == "before":
            raise Stop
        if count[0] == number and where == "within":
            for name in ("merged.jsonl", "predictions.json"):
                with self.tree.append(name) as file:
                    file.write(b',\n{"torn')
            real_add(self, halved(done))
            raise Stop
        record = real_add(self, done)
        if count[0] == number and where == "unnoted":
            raise Stop
        return record

    def note(self, key, record):
        if count[0] == number and where == "torn":
            with self._inside.append("journal.jsonl") as file:
                file.write(b"\n" + key.encode() + b"\t" + record[: len(record) // 2])
            raise Stop
        real_note(self, key, record)
        if count[0] == number and where == "after":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(output.Writer, "add", add)
        patch.setattr(Staging, "note", note)
        with pytest.raises(Stop):
            merge(case.preds, out, tiles=case.tiles, **options)
    assert not out.exists()


def halved(done):
    """The files of an image without what it adds to common ones."""
    return SimpleNamespace(
        files={name: text[: len(text) // 2] for name, text in done.files.items()},
        streams={},
        outcome=done.outcome,
    )


@pytest.mark.parametrize("where", ["before", "within", "unnoted", "torn", "after"])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_stopped_anywhere_it_ends_in_the_same_bytes(noisy, tmp_path, monkeypatch, number, where):
    options = {"export": "csv,dota,geojson"}
    merge(noisy.preds, tmp_path / "sound", tiles=noisy.tiles, **options)
    stopped(monkeypatch, noisy, tmp_path / "out", number, where, **options)
    worked = []
    real = building.work
    monkeypatch.setattr(
        building, "work", lambda job, piece: worked.append(piece.key) or real(job, piece)
    )
    merged = merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")
    assert len(worked) == 5 - number + (where != "after")
    assert not (tmp_path / ".out.partial").exists()
    assert (
        merged.report.counts.rows
        == json.loads((tmp_path / "out/report.json").read_text())["counts"]["rows"]
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_after_any_write_it_ends_in_the_same_bytes(noisy, tmp_path):
    options = {"export": "csv,dota", "workers": 1, "tiles": noisy.tiles}
    merge(noisy.preds, tmp_path / "sound", **options)
    want = tree(tmp_path / "sound")
    for number in range(1, 6):
        for torn in (False, True):
            child = os.fork()
            if child == 0:
                try:
                    real, count = output.Writer.add, [0]

                    def add(self, done, real=real, count=count, number=number, torn=torn):
                        record = real(self, done)
                        count[0] += 1
                        if count[0] == number:
                            for name in done.files if torn else ():
                                os.truncate(self.tree.path / name, len(done.files[name]) // 2)
                            for name, text in done.streams.items() if torn else ():
                                os.truncate(
                                    self.tree.path / name, record.shared[name][0] - len(text) // 2
                                )
                            os.kill(os.getpid(), signal.SIGKILL)
                        return record

                    output.Writer.add = add
                    merge(noisy.preds, tmp_path / "out", **options)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            assert not (tmp_path / "out").exists()
            merge(noisy.preds, tmp_path / "out", **options)
            assert tree(tmp_path / "out") == want, (number, torn)
            shutil.rmtree(tmp_path / "out")


def test_a_merged_box_at_the_border_stays_as_it_is(tmp_path):
    (tmp_path / "preds").mkdir()
    (tmp_path / "preds/p.txt").write_text("2 0.0566613333 0.5 0.113322667 0.1 0.5\n")
    images = blank(tmp_path / "images", {"p.png": (600, 500)})
    merge(tmp_path / "preds", tmp_path / "one", images=images)
    assert (tmp_path / "one/labels/p.txt").read_text() == (tmp_path / "preds/p.txt").read_text()


def test_stopped_twice_it_goes_on_twice(noisy, tmp_path, monkeypatch):
    merge(noisy.preds, tmp_path / "sound", tiles=noisy.tiles)
    for _ in range(2):
        stopped(monkeypatch, noisy, tmp_path / "out", 2)
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


@pytest.mark.parametrize("change", ["first", "last", "gone", "new", "options", "label"])
def test_what_changed_since_it_was_stopped_is_done_anew(noisy, tmp_path, monkeypatch, change):
    case = SimpleNamespace(
        preds=shutil.copytree(noisy.preds, tmp_path / "preds"), tiles=noisy.tiles
    )
    stopped(monkeypatch, case, tmp_path / "out", 3, export="csv,geojson,dota")
    paths = sorted(p for p in case.preds.glob("*.txt"))
    options = {"export": "csv,geojson,dota"}
    if change in ("first", "last"):
        path = paths[0 if change == "first" else -1]
        path.write_text("0 0.5 0.5 0.25 0.25 0.875\n" + path.read_text())
    elif change == "gone":
        for path in case.preds.glob("p0__*"):
            path.unlink()
    elif change == "new":
        tile = (
            next(s for s in manifest.read_sources(case.tiles / "tiles.jsonl") if "none" in s.source)
            .tiles[0]
            .name
        )
        (case.preds / f"{tile}.txt").write_text("0 0.5 0.5 0.25 0.25 0.875\n")
    elif change == "options":
        options = {"conf": 0.5}
    else:
        next((tmp_path / ".out.partial/tree/labels").rglob("p0.txt")).unlink()
    merge(case.preds, tmp_path / "out", tiles=case.tiles, **options)
    merge(case.preds, tmp_path / "fresh", tiles=case.tiles, **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_full_disk_is_unfinished_and_goes_on_later(noisy, tmp_path, monkeypatch):
    real, count = output.Writer.add, [0]

    def add(self, done):
        count[0] += 1
        if count[0] == 3:
            with output.writing():
                raise OSError(28, "No space left on device")
        return real(self, done)

    with monkeypatch.context() as patch:
        patch.setattr(output.Writer, "add", add)
        with pytest.raises(Unfinished, match="No space left on device; make room and run again"):
            merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)
    assert not (tmp_path / "out").exists()
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)
    merge(noisy.preds, tmp_path / "sound", tiles=noisy.tiles)
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


# --- what stands there already


def nudge(path):
    """One digit of a file changed."""
    text = path.read_text()
    at = text.index("0.") + 2
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


@pytest.fixture
def standing(noisy, tmp_path):
    preds = shutil.copytree(noisy.preds, tmp_path / "preds")
    merged = merge(preds, tmp_path / "out", tiles=noisy.tiles)
    return SimpleNamespace(
        preds=preds, tiles=noisy.tiles, out=tmp_path / "out", report=merged.report
    )


def test_running_again_says_so_and_touches_nothing(standing):
    before = tree(standing.out), (standing.out / "merged.jsonl").stat().st_mtime_ns
    merged = merge(standing.preds, standing.out, tiles=standing.tiles, workers=2)
    assert merged.report.unchanged
    assert merged.report.counts == standing.report.counts
    assert (tree(standing.out), (standing.out / "merged.jsonl").stat().st_mtime_ns) == before
    assert len(merged["images/train/p0.png"]) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: nudge(sorted(s.preds.glob("p1__*"))[0]),
            "predictions for images/train/p1.png changed since",
        ),
        (lambda s: next(s.preds.glob("p1__*")).unlink(), "changed since"),
        (
            lambda s: (s.out / "labels/images/train/p2.txt").unlink(),
            "labels/images/train/p2.txt is missing",
        ),
        (lambda s: (s.out / "report.json").unlink(), "report.json"),
        (lambda s: (s.out / "report.json").write_text("{"), "report.json"),
        (lambda s: (s.out / "merged.jsonl").write_text("{}\n"), "merged.jsonl"),
        (
            lambda s: os.truncate(
                s.out / "merged.jsonl", (s.out / "merged.jsonl").stat().st_size - 5
            ),
            "merged.jsonl:6",
        ),
    ],
)
def test_an_output_of_something_else_is_not_replaced(standing, change, message):
    change(standing)
    before = tree(standing.out)
    with pytest.raises(TilerError, match=message):
        merge(standing.preds, standing.out, tiles=standing.tiles)
    assert tree(standing.out) == before


def test_a_shared_file_that_is_too_short_is_written_anew(noisy, tmp_path, monkeypatch):
    merge(noisy.preds, tmp_path / "sound", tiles=noisy.tiles, export="csv")
    stopped(monkeypatch, noisy, tmp_path / "out", 3, export="csv")
    staged = tmp_path / ".out.partial/tree"
    for name in ("predictions.json", "detections.csv"):  # as after a power cut
        os.truncate(staged / name, (staged / name).stat().st_size // 2)
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, export="csv")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou": 0.5}, "iou None -> 0.5"),
        ({"method": "nms", "conf": 0.1}, "method cvm -> nms; conf 0.0 -> 0.1"),
        ({"export": "csv"}, "export  -> csv"),
        ({"category_base": 1}, "category_base auto -> 1"),
    ],
)
def test_other_options_are_refused_with_the_difference(standing, options, message):
    before = tree(standing.out)
    with pytest.raises(TilerError, match=message):
        merge(standing.preds, standing.out, tiles=standing.tiles, **options)
    assert tree(standing.out) == before


def test_overwriting_leaves_nothing_of_the_old_one(standing, tmp_path):
    merge(
        standing.preds,
        standing.out,
        tiles=standing.tiles,
        export="csv,dota,geojson",
        overwrite=True,
    )
    assert (standing.out / "detections.csv").exists()
    merge(standing.preds, standing.out, tiles=standing.tiles, method="nms", overwrite=True)
    merge(standing.preds, tmp_path / "fresh", tiles=standing.tiles, method="nms")
    assert tree(standing.out) == tree(tmp_path / "fresh")
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "labels/notes.txt",
        "labels/images/train/p0.json",
        "labels/extra/p9.txt",
        "sub/x",
        "geojson/x.geojson",
    ],
)
def test_a_file_that_is_not_ours_is_never_deleted(standing, name):
    path = standing.out / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("precious")
    merge(standing.preds, standing.out, tiles=standing.tiles)  # as it is, it may stay
    with pytest.raises(
        TilerError, match=f"{name} is not made by tiler, so --overwrite does not delete it"
    ):
        merge(standing.preds, standing.out, tiles=standing.tiles, method="nms", overwrite=True)
    assert path.read_text() == "precious"


def test_a_folder_of_somebody_else_is_kept(noisy, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(TilerError, match=r"not made by tiler \(mine.txt\)"):
            merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, overwrite=overwrite)
    assert tree(tmp_path) == tree(tmp_path)
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_a_folder_that_fills_meanwhile_is_kept(noisy, tmp_path):
    def meddle(done, total):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/notes.txt").write_text("precious")

    with pytest.raises(TilerError, match="notes.txt"):
        merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, progress=meddle)
    assert (tmp_path / "out/notes.txt").read_text() == "precious"


def test_two_runs_at_once_do_not_mix(noisy, tmp_path):
    with Staging(tmp_path / "out"), pytest.raises(Unfinished, match="another run is writing it"):
        merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)


@pytest.mark.parametrize(
    ("preds", "out"),
    [
        *(("run", out) for out in ("run", "run/labels", "run/labels/merged", ".")),
        *(("run/labels", out) for out in ("run", "run/labels", ".")),
        pytest.param("run/labels", "run/labels/merged"),
    ],
)
def test_an_output_that_would_mix_with_the_predictions_is_refused(noisy, tmp_path, preds, out):
    shutil.copytree(noisy.preds, tmp_path / "run/labels")
    before = tree(tmp_path)
    with pytest.raises(TilerError, match="it holds the predictions, or lies in them"):
        merge(tmp_path / preds, tmp_path / out, tiles=noisy.tiles)
    assert tree(tmp_path) == before


def test_an_output_inside_a_plain_folder_of_predictions_is_refused(noisy, tmp_path):
    shutil.copytree(noisy.preds, tmp_path / "preds")
    before = tree(tmp_path)
    with pytest.raises(TilerError, match="it holds the predictions, or lies in them"):
        merge(tmp_path / "preds", tmp_path / "preds/merged", tiles=noisy.tiles)
    assert tree(tmp_path) == before


def test_an_output_in_a_run_folder_beside_its_labels_is_fine_twice(noisy, tmp_path):
    shutil.copytree(noisy.preds, tmp_path / "run/labels")
    merge(tmp_path / "run", tmp_path / "run/merged", tiles=noisy.tiles)
    assert merge(tmp_path / "run", tmp_path / "run/merged", tiles=noisy.tiles).report.unchanged


# --- what is written


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_labels_end_in_the_confidence_and_have_nine_digits(cut, tmp_path, task):
    case = cut(task, overlap=64)
    merge(case.preds, tmp_path / "out", tiles=case.tiles)
    length = {"detect": 6, "obb": 10, "pose": 6 + 9}
    digits = Counter()
    for path in (tmp_path / "out/labels").rglob("*.txt"):
        for line in path.read_text().splitlines():
            words = line.split(" ")
            assert words[0].isdecimal()
            assert len(words) == length.get(task, len(words))
            assert task != "segment" or (len(words) % 2 == 0 and len(words) >= 8)
            assert 0 <= float(words[-1]) <= 1
            digits.update(
                len(word.split("e")[0].replace(".", "").lstrip("0")) for word in words[1:]
            )
    assert max(digits) == 9
    for path in (tmp_path / "out/labels").rglob("*.txt"):
        scores = [row[-1] for row in numbers(path)]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
@pytest.mark.parametrize("base_", ["0", "1"])
def test_predictions_json_is_what_pycocotools_scores(cut, tmp_path, task, base_):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    case = cut(task, overlap=64)
    merge(case.preds, tmp_path / "out", tiles=case.tiles, category_base=base_)
    images, annotations = [], []
    for source, labels in truth(case.data, case.tiles).items():
        image = source.rpartition("/")[2].removesuffix(".png")
        images.append({"id": image, "file_name": source})
        for class_id, (x0, y0, x1, y1) in zip(labels.class_id, labels.boxes, strict=True):
            box = [x0, y0, x1 - x0, y1 - y0]
            known = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(class_id) + int(base_),
                "iscrowd": 0,
            }
            annotations.append({**known, "bbox": box, "area": box[2] * box[3]})
    with contextlib.redirect_stdout(io.StringIO()):
        gt = coco.COCO()
        categories = [{"id": i, "name": str(i)} for i in range(10)]
        gt.dataset = {"images": images, "annotations": annotations, "categories": categories}
        gt.createIndex()
        entries = json.loads((tmp_path / "out/predictions.json").read_text())
        keys = [set(e) for e in entries]  # loadRes adds some
        evaluation = COCOeval(gt, gt.loadRes(entries), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert {e["file_name"] for e in entries} < {image["file_name"] for image in images}
    more = {
        "obb": {"poly", "segmentation"},
        "segment": {"segmentation"},
        "pose": {"keypoints"},
    }.get(task, set())
    assert all(
        found == {"image_id", "file_name", "category_id", "bbox", "score"} | more for found in keys
    )


def test_category_ids_of_coco(base, tmp_path):
    merge(base.preds, tmp_path / "out", tiles=base.tiles, category_base="coco91")
    merge(base.preds, tmp_path / "zero", tiles=base.tiles)
    ids = [e["category_id"] for e in json.loads((tmp_path / "out/predictions.json").read_text())]
    zero = [e["category_id"] for e in json.loads((tmp_path / "zero/predictions.json").read_text())]
    assert ids == [k + 1 for k in zero]  # the first eleven have no gap
    assert tree(tmp_path / "out/labels") == tree(tmp_path / "zero/labels")


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_every_export_holds_the_same_detections(cut, tmp_path, task):
    import csv

    case = cut(task, overlap=64)
    merge(case.preds, tmp_path / "out", tiles=case.tiles, export="geojson, csv,dota")
    entries = json.loads((tmp_path / "out/predictions.json").read_text())
    with open(tmp_path / "out/detections.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["source"] for row in table] == [e["file_name"] for e in entries]
    assert [row["class"] for row in table] == [NAMES[e["category_id"]] for e in entries]
    for row, entry in zip(table, entries, strict=True):
        x, y, w, h = entry["bbox"]
        assert np.allclose(
            [float(row[k]) for k in ("x1", "y1", "x2", "y2")], [x, y, x + w, y + h], atol=2e-6
        )
        assert float(row["conf"]) == entry["score"]
    dota = {
        path.stem.removeprefix("Task1_"): path.read_text().splitlines()
        for path in (tmp_path / "out/dota").iterdir()
    }
    assert {name: len(rows) for name, rows in dota.items()} == Counter(
        NAMES[e["category_id"]] for e in entries
    )
    for name, rows in dota.items():
        mine = [e for e in entries if NAMES[e["category_id"]] == name]
        assert [row.split()[0] for row in rows] == [e["image_id"] for e in mine]
    features = []
    for source in sorted({s.source for s in manifest.read_sources(case.tiles / "tiles.jsonl")}):
        content = json.loads(
            (tmp_path / "out/geojson" / source).with_suffix(".geojson").read_text()
        )
        assert "crs" not in content
        features += content["features"]
    assert [f["properties"]["conf"] for f in features] == [e["score"] for e in entries]
    for feature, entry in zip(features, entries, strict=True):
        polygons = feature["geometry"]["coordinates"]
        points = np.array(
            [
                p
                for q in ([polygons] if feature["geometry"]["type"] == "Polygon" else polygons)
                for r in q
                for p in r
            ]
        )
        x, y, w, h = entry["bbox"]
        assert np.allclose(
            [*points.min(axis=0), *points.max(axis=0)], [x, y, x + w, y + h], atol=1e-5
        )


def ring(path):
    return np.array(json.loads(path.read_text())["features"][0]["geometry"]["coordinates"][0])


def test_geojson_in_the_world(base, tmp_path):
    merge(base.preds, tmp_path / "px", tiles=base.tiles, export="geojson")
    merge(
        base.preds,
        tmp_path / "own",
        tiles=base.tiles,
        export="geojson",
        affine="0.5,0,1000,0,-0.5,2000",
        crs="EPSG:32633",
    )
    images = shutil.copytree(base.data / "images", tmp_path / "data/images")
    (images / "train/p0.pgw").write_text("2\n0\n0\n-2\n101\n199\n")
    merge(
        base.preds,
        tmp_path / "world",
        tiles=base.tiles,
        images=tmp_path / "data",
        export="geojson",
        affine="world",
    )
    for name, source in (("own", "train/p1"), ("world", "train/p0"), ("world", "train/p1")):
        pixels = ring(tmp_path / "px/geojson/images" / f"{source}.geojson")
        found = ring(tmp_path / name / "geojson/images" / f"{source}.geojson")
        if name == "own":
            want = pixels * [0.5, -0.5] + [1000, 2000]
        else:
            want = pixels * [2, -2] + [100, 200] if source.endswith("p0") else pixels
        assert np.allclose(sorted(map(tuple, found)), sorted(map(tuple, want)))
    crs = json.loads((tmp_path / "own/geojson/images/train/p1.geojson").read_text())["crs"]
    assert crs == {"type": "name", "properties": {"name": "EPSG:32633"}}


def test_world_files_need_to_know_where_the_images_lie(base, tmp_path):
    with pytest.raises(TilerError, match="--images"):
        merge(base.preds, tmp_path / "out", tiles=base.tiles, export="geojson", affine="world")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affine": "1,2,3"}, "six numbers"),
        ({"affine": "1,0,0,1,0,0"}, "gives pixels an area"),
        ({"export": "shp"}, "one of dota, geojson, geojson-all, gpkg, csv, yolo-dataset"),
        ({"category_base": "2"}, "one of auto, 0, 1, coco91"),
        ({"method": "cmv"}, "did you mean 'cvm'"),
        ({"iou": "0.5,x=0.1"}, "no class 'x'"),
        ({"conf": "0,99=0.1"}, "no class '99'"),
        ({"groups": "a,x"}, "no class 'x'"),
        ({"groups": "a"}, "two or more classes"),
        ({"metod": "cvm"}, "unknown option 'metod'; did you mean 'method'"),
        ({"overlap": 3}, "unknown option 'overlap'"),
        ({"conf": 1.5}, "--conf: expected a number from 0 to 1"),
        ({"max_det": -1}, "--max-det: expected a whole number of at least 0"),
        ({"tiles": "nowhere"}, "--tiles nowhere: expected the output of tiler split"),
        ({"data": "nowhere.yaml"}, "nowhere.yaml"),
        ({"tiles": None, "images": "nowhere"}, "--images nowhere: no such folder"),
    ],
)
def test_options_that_cannot_be_are_refused_and_nothing_is_left(base, tmp_path, options, message):
    with pytest.raises(TilerError, match=message):
        merge(base.preds, tmp_path / "out", **{"tiles": base.tiles, **options})
    assert list(tmp_path.iterdir()) == []


def test_args_repeat_the_run(noisy, tmp_path):
    chosen = {
        "method": "wbf",
        "conf": "0.1,a=0.2",
        "iou": 0.4,
        "export": "csv",
        "groups": "a,b",
        "category_base": 1,
    }
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, **chosen)
    content = yaml.safe_load((tmp_path / "out/args.yaml").read_text())
    assert (content["method"], content["conf"], content["export"], content["category_base"]) == (
        "wbf",
        "0.1,a=0.2",
        "csv",
        "1",
    )
    where = {name: content.pop(name) for name in ("preds", "tiles")}
    assert {name: (tmp_path / "out" / path).resolve() for name, path in where.items()} == {
        "preds": noisy.preds.resolve(),
        "tiles": noisy.tiles.resolve() / "tiles.jsonl",
    }
    merge(noisy.preds, tmp_path / "again", tiles=noisy.tiles, **content)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_nothing_is_in_the_output_but_what_is_promised(base, tmp_path):
    merge(base.preds, tmp_path / "out", tiles=base.tiles)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "args.yaml", "dataset.json", "labels", "merged.jsonl", "predictions.json", "report.json",
    ]  # fmt: skip
    head = json.loads((tmp_path / "out/merged.jsonl").read_text().splitlines()[0])
    assert (head["schema"], head["task"], head["names"], head["options"]["method"]) == (
        1,
        "detect",
        list(NAMES),
        "cvm",
    )
    assert os.listdir(tmp_path) == ["out"]


# --- what is noticed


def found(report, *codes):
    return [str(f) for f in report.findings if f.code in codes]


@pytest.fixture
def case(base, tmp_path):
    """A copy of the predictions, to be meddled with."""
    return SimpleNamespace(
        preds=shutil.copytree(base.preds, tmp_path / "preds"), tiles=base.tiles, data=base.data
    )


def test_rows_that_cannot_be_meant_are_named_with_file_and_line(case, tmp_path):
    path = sorted(case.preds.glob("p0__*"))[0]
    count = len(path.read_text().splitlines())
    path.write_text(
        path.read_text()
        + (
            "\n9 0.5 0.5 0.1 0.1 0.5\n0 0.5 0.5 0.1 0.1 1.5\n0 3 3 0.1 0.1 0.5\n0 .5 .5 0 .1 "
            ".5\n0 .5 .5\n0 .5 x .1 .1 .5\n"
        )
        + "0 .9 .5 .4 .1 .5\n"
    )
    merged = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    at = [f"{path.name}:{count + 2 + i}: " for i in range(7)]
    codes = ["D04", "D08", "D05", "D06", "D03", "D02"]
    shown = [" ".join(str(f).split(" ")[:2]) for f in merged.report.findings if f.code != "D09"]
    assert shown == [where + code for where, code in zip(at[:6], codes, strict=True)]
    assert found(merged.report, "D09") == [f"{at[6]}D09 reaches past its tile; clamped"]
    assert merged.report.exit_code() == 1
    assert merged.report.counts.refused == 6
    refused = next(r for r in lines(tmp_path / "out/merged.jsonl") if r["refused"])["refused"]
    assert [(row - count, code) for _, row, code in refused] == list(enumerate(codes))
    on_disk = json.loads((tmp_path / "out/report.json").read_text())["findings"]
    assert next((f["path"], f["code"], f["level"]) for f in on_disk) == (path.name, "D04", "error")
    clean = merge(case.preds, tiles=case.tiles)
    assert [str(f) for f in clean.report.findings] == [str(f) for f in merged.report.findings]


@pytest.mark.parametrize("row", ["9 0.5 0.5 0.1 0.1 0.5", "0 0.5 0.5"])
def test_strict_stops_at_the_first_of_them(case, tmp_path, row):
    merge(case.preds, tmp_path / "sound", tiles=case.tiles, strict=True)
    path = sorted(case.preds.glob("p2__*"))[0]
    path.write_text(f"{row}\n{path.read_text()}")
    for out in (None, tmp_path / "out"):
        with pytest.raises(TilerError, match=rf"^{path.name}:1: D0[34].*\(--strict\)$"):
            merge(case.preds, out, tiles=case.tiles, strict=True)
    assert not (tmp_path / "out").exists()
    assert merge(case.preds, tmp_path / "out", tiles=case.tiles).report.exit_code() == 1


def test_strict_leaves_nothing(case, tmp_path):
    path = sorted(case.preds.glob("p2__*"))[0]
    path.write_text(f"9 .5 .5 .1 .1 .5\n{path.read_text()}")
    with pytest.raises(TilerError, match="--strict"):
        merge(case.preds, tmp_path / "out", tiles=case.tiles, strict=True)
    assert os.listdir(tmp_path) == ["preds"]


def test_strict_holds_for_a_complete_output_too(case, tmp_path):
    path = sorted(case.preds.glob("p2__*"))[0]
    path.write_text(f"9 .5 .5 .1 .1 .5\n{path.read_text()}")
    merge(case.preds, tmp_path / "out", tiles=case.tiles)
    with pytest.raises(TilerError, match="--strict"):
        merge(case.preds, tmp_path / "out", tiles=case.tiles, strict=True)


def test_strict_does_not_mind_what_is_only_worth_knowing(case, tmp_path):
    doubled = copied(case.preds, tmp_path / "twice", lambda name, text: text + text)
    assert (
        merge(doubled, tmp_path / "out", tiles=case.tiles, strict=True).report.levels()["warning"]
        > 0
    )


@pytest.mark.parametrize("name", ["q__0_0_256_256", "classes", "p0__1_0_256_256", "sub/q", "..."])
def test_predictions_for_no_tile_are_left_out_and_said(case, tmp_path, name):
    path = case.preds / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("0 0.5 0.5 0.1 0.1 0.5\n" * 3)
    merged = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert found(merged.report, "D10") == [
        f"{name}.txt: D10 not a tile according to the manifest; 3 rows left out"
    ]
    assert merged.report.exit_code() == 1
    assert differences(tmp_path / "out", case.tiles, case.data)[:2] == ([], [])
    with pytest.raises(TilerError, match=r"D10.*\(--strict\)"):
        merge(case.preds, tiles=case.tiles, strict=True)


def test_predictions_of_another_dataset_are_refused(case, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/q__0_0_64_64.txt").write_text("0 0.5 0.5 0.1 0.1 0.5\n")
    with pytest.raises(TilerError, match="none of 1 predictions .*q__0_0_64_64.* is for a tile of"):
        merge(tmp_path / "other", tmp_path / "out", tiles=case.tiles)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TilerError, match="no predictions found in"):
        merge(tmp_path / "empty", tmp_path / "out", tiles=case.tiles)
    assert not (tmp_path / "out").exists()


def test_a_tile_outside_its_image_is_refused_by_name(tmp_path):
    data = Dataset(tmp_path / "data")
    data.add("a.png", "", Image.new("L", (300, 200)))
    (tmp_path / "preds").mkdir()
    for name in ("a__0_0_256_200", "a__300_0_256_200", "a__0_999_256_200", "a__44_0_256_200"):
        (tmp_path / f"preds/{name}.txt").write_text("0 0.5 0.5 0.1 0.1 0.5\n")
    merged = merge(tmp_path / "preds", tmp_path / "out", images=data.root / "images/train")
    assert [f.split(":")[0] for f in found(merged.report, "D12")] == [
        "a__0_999_256_200",
        "a__300_0_256_200",
    ]
    assert merged.report.exit_code() == 1
    assert merged.report.counts.rows == 2


def test_a_file_that_cannot_be_read_is_named_and_costs_no_other(case, tmp_path):
    paths = sorted(case.preds.glob("p0__*"))
    paths[0].write_bytes("0 0.5".encode("utf-16"))
    paths[1].unlink()
    paths[1].mkdir()
    (case.preds / "p9__0_0_256_256.txt").symlink_to("nowhere")
    merged = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert [f.split(":")[0] for f in found(merged.report, "D01")] == [
        paths[0].name,
        paths[1].name,
        "p9__0_0_256_256.txt",
    ]
    assert merged.report.exit_code() == 1


def test_tiles_with_the_same_number_of_rows_are_told_once(case, tmp_path):
    paths = sorted(case.preds.glob("*.txt"))[:3]
    preds = tmp_path / "detr"
    preds.mkdir()
    for path in paths:
        rows = "".join(f"0 0.5 0.5 0.1 {0.1 + k / 1e4:g} {0.3 + k / 1000:g}\n" for k in range(300))
        (preds / path.name).write_text(rows)
    merged = merge(preds, tiles=case.tiles)
    (said,) = found(merged.report, "D11")
    assert said == (
        "D11 all 3 tiles have exactly 300 rows: a DETR has one for each of its queries, so nothing "
        "is missing then; otherwise its max_det may have cut off more: set it higher"
    )
    assert merged.report.exit_code() == 0


def test_tiles_at_the_limit_of_a_detector_are_told(case, tmp_path):
    path = sorted(case.preds.glob("p2__*"))[0]
    path.write_text("".join(f"0 0.5 0.5 0.1 0.1 {0.5 + k / 1000:g}\n" for k in range(300)))
    merged = merge(case.preds, tiles=case.tiles)
    assert found(merged.report, "D11") == [
        "D11 images/train/p2.png: 1 tiles have exactly 300 rows: predict with a higher max_det"
    ]
    assert (merged.report.counts.full, merged.report.exit_code()) == (1, 0)


def test_without_confidence_there_is_nothing_to_merge_by(case, tmp_path):
    bare = copied(
        case.preds,
        tmp_path / "bare",
        lambda name, text: "".join(f"{row.rpartition(' ')[0]}\n" for row in text.splitlines()),
    )
    with pytest.raises(TilerError, match="--assume-conf"):
        merge(bare, tmp_path / "out", tiles=case.tiles)
    assert not (tmp_path / "out").exists()
    merged = merge(bare, tmp_path / "out", tiles=case.tiles, assume_conf=0.5)
    assert differences(tmp_path / "out", case.tiles, case.data)[:2] == ([], [])
    assert all(set(merged[source].conf) <= {0.5} for source in merged)


def test_images_without_predictions_have_an_empty_file_and_splits_without_any_are_left_out(
    case, tmp_path
):
    for path in (*case.preds.glob("p3__*"), *case.preds.glob("p1__*")):
        path.unlink()
    merged = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert merged.report.left_out == ["val"]
    labels = {
        p.relative_to(tmp_path / "out/labels").as_posix(): p.stat().st_size
        for p in (tmp_path / "out/labels").rglob("*.txt")
    }
    assert set(labels) == {f"images/train/{name}.txt" for name in ("p0", "p1", "p2", "none")}
    assert (labels["images/train/p1.txt"], labels["images/train/none.txt"]) == (0, 0)
    assert len(merged["images/train/p1.png"]) == 0
    assert merged["images/train/p1.png"].boxes.shape == (0, 4)
    assert merged["images/train/p1.png"].conf.shape == (0,)
    assert merged.report.counts.empty == 2


def test_files_without_rows_are_no_predictions_but_were_looked_at(case, tmp_path):
    for path in case.preds.glob("*.txt"):
        path.write_text("")
    merged = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert (
        merged.report.counts.detections,
        merged.report.counts.rows,
        merged.report.exit_code(),
    ) == (0, 0, 0)
    assert json.loads((tmp_path / "out/predictions.json").read_text()) == []
    assert all(len(merged[source]) == 0 for source in merged)


# --- where tiles lie


def test_the_manifest_is_found_by_the_run_or_upward(base, tmp_path, monkeypatch):
    want = merge(base.preds, tmp_path / "want", tiles=base.tiles)
    assert want.report.index == "manifest"
    run = tmp_path / "runs/predict"
    shutil.copytree(base.preds, run / "labels")
    with pytest.raises(TilerError, match="--tiles .*--images"):
        merge(run, tmp_path / "none")
    assert not (tmp_path / "none").exists()

    def made(name):
        """All but where the predictions lie, which differs."""
        return {
            file: digest for file, digest in tree(tmp_path / name).items() if file != "args.yaml"
        }

    for number, line in enumerate(
        (
            f"source: {base.tiles}/images/train",
            f"data: {base.tiles}/dataset.yaml",
            f"data: {base.tiles}",
        )
    ):
        (run / "args.yaml").write_text(f"task: detect\nmodel: x.pt\n{line}\nbatch: 1\n")
        merge(run, tmp_path / f"run{number}")
        merge(run / "labels", tmp_path / f"labels{number}")
        assert made(f"run{number}") == made(f"labels{number}") == made("want")
    for line in (
        "data: nowhere.yaml",
        "source: null",
        "source: 0",
        "data: [1]",
        "source: 'a\\0b'",
        "data: ''",
        ": : :",
    ):
        (run / "args.yaml").write_text(f"{line}\n")
        with pytest.raises(TilerError, match="--tiles .*--images"):
            merge(run, tmp_path / "none")
    shutil.copytree(base.tiles, tmp_path / "tiles", ignore=shutil.ignore_patterns("images"))
    shutil.copytree(base.preds, tmp_path / "tiles/runs/predict/labels")
    merge(tmp_path / "tiles/runs/predict", tmp_path / "upward")
    monkeypatch.chdir(tmp_path / "tiles/runs")
    merge("predict", tmp_path / "relative")
    assert made("upward") == made("relative") == made("want")


def test_names_of_ours_do_without_a_manifest(base, tmp_path):
    merge(base.preds, tmp_path / "one", tiles=base.tiles)
    merged = merge(base.preds, tmp_path / "two", images=base.data)
    assert merged.report.index == "names of tiles (tiler)"
    for source in ("images/train/p0", "images/val/p3"):  # tiles without objects are not known here
        assert (tmp_path / f"one/labels/{source}.txt").read_text() == (
            tmp_path / f"two/labels/{source}.txt"
        ).read_text()
    assert {p.name for p in (tmp_path / "two/labels").rglob("*.txt")} == {
        f"{name}.txt" for name in (*SIZES, "none")
    }


def renamed(case, to, name_of):
    """The predictions under the names another tool gives its tiles."""
    to.mkdir()
    for source in manifest.read_sources(case.tiles / "tiles.jsonl"):
        stem = source.source.rpartition("/")[2].removesuffix(".png")
        for tile in source.tiles:
            path = case.preds / f"{tile.name}.txt"
            if path.exists():
                shutil.copy(path, to / f"{name_of(stem, tile)}.txt")
    return to


@pytest.mark.parametrize(
    ("tool", "name_of"),
    [
        ("sahi", lambda stem, t: f"{stem}_{t.x}_{t.y}_{t.x + t.w}_{t.y + t.h}"),
        ("split_dota", lambda stem, t: f"{stem}__256__{t.x}___{t.y}"),
        ("dota_devkit", lambda stem, t: f"{stem}__1__{t.x}___{t.y}"),
        ("dota_devkit", lambda stem, t: f"{stem}__0.5__{t.x // 2}___{t.y // 2}"),
    ],
)
def test_names_of_other_tools_do_without_a_manifest(base, tmp_path, tool, name_of):
    renamed(base, tmp_path / "preds", name_of)
    side = 128 if "0.5" in name_of("a", SimpleNamespace(x=0, y=0, w=1, h=1)) else 256
    for name in ("p2",):  # smaller than a tile: only some names say how much
        for path in (tmp_path / "preds").glob(f"{name}_*"):
            path.unlink() if tool == "dota_devkit" else None
    merged = merge(tmp_path / "preds", tmp_path / "out", images=base.data, tile=side)
    assert merged.report.index == f"names of tiles ({tool})"
    assert merged.report.exit_code() == 0
    known = truth(base.data, base.tiles)
    for source in ("images/train/p0.png", "images/train/p1.png", "images/val/p3.png"):
        width, height = merged.sizes[source]
        same = np.abs(
            written(
                (tmp_path / "out/labels" / source).with_suffix(".txt"), "detect", width, height
            ).boxes[:, None]
            - known[source].boxes
        )
        assert (same.max(axis=-1) < 1.01).any(axis=0).all()  # odd pixels are halved


def test_names_of_two_tools_are_refused_with_their_counts(base, tmp_path):
    renamed(base, tmp_path / "preds", lambda stem, t: f"{stem}_{t.x}_{t.y}_{t.x + t.w}_{t.y + t.h}")
    for path in sorted(base.preds.glob("p0__*")):
        shutil.copy(path, tmp_path / "preds")
    with pytest.raises(
        TilerError,
        match=r"several tools in one folder: \d+ as sahi names them, \d+ as tiler names them",
    ):
        merge(tmp_path / "preds", tmp_path / "out", images=base.data)
    merged = merge(tmp_path / "preds", tmp_path / "out", images=base.data, naming="sahi")
    assert len(found(merged.report, "D10")) == len(list(base.preds.glob("p0__*")))


def test_images_of_one_name_cannot_be_told_by_the_names_of_tiles(tmp_path):
    data = Dataset(tmp_path / "data")
    data.add("x/a.png", "", Image.new("L", (300, 200)))
    data.add("y/a.png", "", Image.new("L", (300, 200)))
    (tmp_path / "preds").mkdir()
    (tmp_path / "preds/a__0_0_256_200.txt").write_text("0 0.5 0.5 0.1 0.1 0.5\n")
    with pytest.raises(TilerError, match="a tile of x/a.png and y/a.png.*--tiles"):
        merge(tmp_path / "preds", tmp_path / "out", images=data.root / "images/train")
    (tmp_path / "preds/a__0_0_256_200.txt").rename(tmp_path / "preds/a.txt")
    with pytest.raises(TilerError, match="none of 1 predictions"):
        merge(tmp_path / "preds", tmp_path / "out", images=data.root / "images/train")
    (tmp_path / "preds/x").mkdir()
    (tmp_path / "preds/a.txt").rename(tmp_path / "preds/x/a.txt")
    merged = merge(tmp_path / "preds", tmp_path / "out", images=data.root / "images/train")
    assert [len(merged[source]) for source in ("x/a.png", "y/a.png")] == [1, 0]


def test_predictions_for_whole_images_are_one_more_tile(base, tmp_path):
    alone = merge(base.preds, tmp_path / "one", tiles=base.tiles)
    preds = shutil.copytree(base.preds, tmp_path / "preds")
    for name in ("p0", "p1"):
        shutil.copy(base.data / f"labels/train/{name}.txt", preds / f"{name}.txt")
        rows = (preds / f"{name}.txt").read_text().splitlines()
        (preds / f"{name}.txt").write_text("".join(f"{row} 0.25\n" for row in rows))
    merged = merge(preds, tmp_path / "two", tiles=base.tiles)
    assert differences(tmp_path / "two", base.tiles, base.data)[:2] == ([], [])
    assert merged.report.counts.detections == alone.report.counts.detections
    assert merged.report.counts.tiles == alone.report.counts.tiles + 2
    record = next(r for r in lines(tmp_path / "two/merged.jsonl") if r["source"].endswith("p0.png"))
    assert [
        "images/train/p0",
        0,
        0,
        600,
        500,
        1,
        len((base.data / "labels/train/p0.txt").read_text().splitlines()),
    ] in record["tiles"]


@pytest.mark.parametrize("by", ["tiles", pytest.param("images")])
def test_numbers_that_lost_their_zeros_are_found(tmp_path, by):
    data = Dataset(tmp_path / "data")
    for name in ("007.png", "012.png", "x.png", "0020.png", "020.png"):
        data.add(name, "", Image.new("L", (300, 200), len(name)))
    data.add("v.png", "", Image.new("L", (300, 200)), "val")
    entries = [
        {"image_id": i, "category_id": 0, "bbox": [10, 20, 30, 40], "score": 0.5}
        for i in (7, 12, 13, 20)
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    tiler.split(data.yaml, out=tmp_path / "tiles", tile=128, workers=1)
    where = {"images": data.root / "images"} if by == "images" else {"tiles": tmp_path / "tiles"}
    merged = merge(tmp_path / "predictions.json", tmp_path / "out", preds_base=0, **where)
    counts = {source.rpartition("/")[2]: len(merged[source]) for source in merged}
    assert {name for name, count in counts.items() if count} == {"007.png", "012.png"}
    # 20 may be two images
    assert [f.split(" ")[1] for f in found(merged.report, "D10")] == ["13:", "20:"]


# --- manifests that were meddled with


def meddled(where, to, **changes):
    """A manifest with the fields of its first source changed."""
    head, first, *others = (where / "tiles.jsonl").read_text().splitlines()
    to.mkdir()
    (to / "tiles.jsonl").write_text(
        "\n".join([head, json.dumps({**json.loads(first), **changes}), *others]) + "\n"
    )
    return to


@pytest.mark.parametrize(
    "source",
    [
        "../../evil.jpg",
        "/etc/evil.jpg",
        "a/../../../evil.jpg",
        "C:\\evil.jpg",
        "..\\..\\evil.jpg",
        "..",
        "",
        ".",
        "//evil",
        "a\nb.jpg",
    ],
    ids=repr,
)
def test_a_hostile_manifest_writes_nothing_outside_the_output(base, tmp_path, source):
    room = tmp_path / "a/b/c"
    room.mkdir(parents=True)
    tiles = meddled(base.tiles, room / "tiles", source=source)
    before = tree(tmp_path)
    try:
        merge(base.preds, room / "out", tiles=tiles, export="geojson,csv")
    except TilerError:
        assert tree(tmp_path) == before
        return
    assert {name for name in tree(tmp_path) if not name.startswith("a/b/c/out/")} == set(before)
    assert len(list((room / "out/labels").rglob("*.txt"))) == 5


def test_a_name_that_dota_cannot_hold_is_refused_and_nothing_is_left(base, tmp_path):
    tiles = meddled(base.tiles, tmp_path / "tiles", source="a\nb.jpg")
    with pytest.raises(TilerError, match="line break"):
        merge(base.preds, tmp_path / "out", tiles=tiles, export="dota")
    assert os.listdir(tmp_path) == ["tiles"]


def test_a_name_that_no_file_can_have_is_an_error_and_no_crash(base, tmp_path):
    with pytest.raises(TilerError):
        merge(
            base.preds,
            tmp_path / "out",
            tiles=meddled(base.tiles, tmp_path / "tiles", source="a\0b.jpg"),
        )


def test_sources_that_would_be_one_file_are_refused(base, tmp_path):
    tiles = meddled(base.tiles, tmp_path / "tiles", source="../images/train/p0.png")
    path = tiles / "tiles.jsonl"
    path.write_text(path.read_text().replace('"images/train/p1.png"', '"__/images/train/p0.png"'))
    with pytest.raises(TilerError, match="would be written as one file"):
        merge(base.preds, tmp_path / "out", tiles=tiles)
    assert not (tmp_path / "out").exists()


def test_classes_of_any_name_are_files_of_the_output(base, tmp_path):
    (tmp_path / "tiles").mkdir()
    head, *others = (base.tiles / "tiles.jsonl").read_text().splitlines()
    head = json.dumps(
        {
            **json.loads(head),
            "names": ["../../evil", "/etc/x", "a\nb", "a b", "", "..", "x" * 300, "日本"],
        }
    )
    (tmp_path / "tiles/tiles.jsonl").write_text("\n".join([head, *others]) + "\n")
    merge(base.preds, tmp_path / "out/sub", tiles=tmp_path / "tiles", export="dota,csv,geojson")
    assert {name.split("/")[0] for name in tree(tmp_path)} == {"out", "tiles"}
    assert len(list((tmp_path / "out/sub/dota").iterdir())) == 6
    assert merge(
        base.preds, tmp_path / "out/sub", tiles=tmp_path / "tiles", export="dota,csv,geojson"
    ).report.unchanged


@pytest.mark.parametrize(
    "tile",
    [
        {"x": 0, "y": 0, "w": 0, "h": 10, "scale": 1},
        {"x": 0, "y": 0, "w": 10, "h": -5, "scale": 1},
        {"x": 0, "y": 0, "w": 10, "h": 10, "scale": 0},
        {"x": 0, "y": 0, "w": 10, "h": 10, "scale": -1},
    ],
)
def test_tiles_that_cannot_be_are_refused(base, tmp_path, tile):
    tiles = meddled(base.tiles, tmp_path / "tiles", tiles=[{"name": "t", "rows": [], **tile}])
    with pytest.raises(TilerError, match="have no size"):
        merge(base.preds, tmp_path / "out", tiles=tiles)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]\n",
        "{}\n",
        "\n\n",
        "not json",
        '{"tiler": "1", "schema": 9, "task": "detect", "names": [], "options": {}}\n',
    ],
)
def test_what_is_no_manifest_is_refused(base, tmp_path, text):
    (tmp_path / "tiles.jsonl").write_text(text)
    with pytest.raises(TilerError, match="tiles.jsonl"):
        merge(base.preds, tmp_path / "out", tiles=tmp_path)
    assert not (tmp_path / "out").exists()


# --- the library


@pytest.mark.parametrize("task", ["detect", "obb", "segment", "pose"])
def test_detections_are_the_same_in_memory_and_from_files(cut, tmp_path, task):
    case = cut(task, overlap=64)
    held = merge(case.preds, tiles=case.tiles)
    filed = merge(case.preds, tmp_path / "out", tiles=case.tiles)
    assert (
        list(held)
        == held.sources
        == filed.sources
        == sorted(f"images/train/{n}.png" for n in ("p0", "p1", "p2", "none"))
        + ["images/val/p3.png"]
    )
    assert len(held) == len(filed) == 5
    assert held.sizes == filed.sizes
    assert held.sizes["images/train/p0.png"] == (600, 500)
    assert (held.report.out, filed.report.out) == ("", str(tmp_path / "out"))
    assert held.report.counts == filed.report.counts
    for source in held:
        one, other = held[source], filed[source]
        assert one.task == other.task == task
        assert one.class_id.tolist() == other.class_id.tolist()
        assert np.allclose(one.conf, other.conf, atol=1e-9)
        assert np.allclose(one.boxes, other.boxes, atol=1e-6)
        assert (one.keypoints is None) == (other.keypoints is None)
        if one.keypoints is not None:
            assert np.allclose(one.keypoints, other.keypoints, atol=1e-6)
        if task == "obb" and len(one):
            assert np.allclose(one.rings.quads(), other.rings.quads(), atol=1e-6)
        if task == "segment":
            assert len(one.rings) == len(other.rings)
            assert np.allclose(
                [g.area for g in one.rings.geometry()],
                [g.area for g in other.rings.geometry()],
                atol=1e-2,
            )


def test_a_source_that_is_not_there_is_a_key_error(base, tmp_path):
    for merged in (
        merge(base.preds, tiles=base.tiles),
        merge(base.preds, tmp_path / "out", tiles=base.tiles),
    ):
        with pytest.raises(KeyError):
            merged["p0"]
        assert "p0" not in list(merged)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("labels/q.png"),
        "predictions_txt/q.png",
        pytest.param("Task1_q.png"),
        "a.b.c.png",
        "q r.png",
    ],
)
def test_detections_are_read_whatever_the_images_are_called(tmp_path, source):
    keys = [source] if source.startswith("Task1") else ["p.png", source]
    blank(tmp_path / "images", dict.fromkeys(keys, (300, 200)))
    entries = [
        {"image_id": 1, "file_name": key, "category_id": 0, "bbox": [10, 20, 30, 40], "score": 0.5}
        for key in keys
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    merged = merge(
        tmp_path / "predictions.json", tmp_path / "out", images=tmp_path / "images", preds_base=0
    )
    assert merged.report.counts.detections == len(keys)
    assert [len(merged[key]) for key in keys] == [1] * len(keys)


def test_a_detection_without_measurable_size_is_in_memory_what_it_is_in_the_files(tmp_path):
    (tmp_path / "preds").mkdir()
    (tmp_path / "preds/p.txt").write_text("0 0.3 0.3 1e-15 0.1 0.5\n0 0.5 0.5 0.1 0.1 0.5\n")
    images = blank(tmp_path / "images", {"p.png": (600, 500)})
    held = merge(tmp_path / "preds", images=images)
    filed = merge(tmp_path / "preds", tmp_path / "out", images=images)
    assert len(held["p.png"]) == len(filed["p.png"]) == filed.report.counts.detections


def test_a_look_at_one_image_reads_one_file(base, tmp_path, monkeypatch):
    from tiler.predictions import yolo_folder

    merged = merge(base.preds, tmp_path / "out", tiles=base.tiles)
    paths, real = [], yolo_folder.content
    monkeypatch.setattr(
        yolo_folder, "content", lambda path, findings: paths.append(path) or real(path, findings)
    )
    assert len(merged["images/train/p0.png"]) > 0
    assert len(paths) <= 1


def test_a_dry_run_counts_and_writes_nothing(noisy, tmp_path):
    want = merge(noisy.preds, tiles=noisy.tiles).report
    merged = merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles, dry_run=True)
    assert merged.report.counts == want.counts
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_images(base, tmp_path):
    calls = []
    merge(
        base.preds,
        tmp_path / "out",
        tiles=base.tiles,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(i, 5) for i in range(1, 6)]
    calls.clear()
    merge(
        base.preds,
        tmp_path / "out",
        tiles=base.tiles,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(i, 5) for i in range(1, 6)]


def test_explain_tells_of_every_row_what_merged_jsonl_tells(noisy, tmp_path):
    merge(noisy.preds, tmp_path / "out", tiles=noisy.tiles)
    for record in lines(tmp_path / "out/merged.jsonl"):
        stem = record["source"].rpartition("/")[2].removesuffix(".png")
        for name in (record["source"], stem, f"{stem}.png", record["source"].removesuffix(".png")):
            fates = tiler.merging.explain(noisy.preds, name, tiles=noisy.tiles)
            names = [tile[0] for tile in record["tiles"]]
            want = {(names[t], r): k for k, d in enumerate(record["detections"]) for t, r in d}
            want |= {(names[t], r): None if k < 0 else k for t, r, _, k in record["dropped"]}
            want |= {(names[t], r): None for t, r, _ in record["refused"]}
            assert {(f.tile, f.row): f.into for f in fates} == want
            assert len(fates) == len(want)
        dropped = {(names[t], r): fate for t, r, fate, _ in record["dropped"]}
        assert {
            (f.tile, f.row): f.fate
            for f in fates
            if f.fate not in ("kept", "fused", "orphan") and "rejected" not in f.fate
        } == dropped
        assert {f.fate for f in fates if f.class_id is None} == {
            f"rejected ({code})" for *_, code in record["refused"]
        }
    with pytest.raises(
        TilerError, match="--explain q: no such image among 5, such as images/train/none.png"
    ):
        tiler.merging.explain(noisy.preds, "q", tiles=noisy.tiles)


def test_outlines_in_several_parts_are_written_as_asked(tmp_path):
    """Two halves of one object that nobody saw joined: a bridged row, two rows, or the larger
    one.
    """
    data = Dataset(tmp_path / "data", ("a",))
    # a C, open to the right
    data.add(
        "p.png", "0 .1 .1 .9 .1 .9 .2 .2 .2 .2 .8 .9 .8 .9 .9 .1 .9\n", Image.new("L", (200, 200))
    )
    data.add("v.png", "", Image.new("L", (200, 200)), "val")
    tiler.split(
        data.yaml,
        out=tmp_path / "tiles",
        tile=100,
        overlap=0,
        task="segment",
        min_visible=0,
        min_size=0,
        workers=1,
    )
    preds = predicted(tmp_path / "tiles", tmp_path / "preds")
    rows = {}
    for parts in ("bridge", "separate", "largest"):
        out = tmp_path / parts
        merged = merge(preds, out, tiles=tmp_path / "tiles", parts=parts)
        rows[parts] = len(numbers(out / "labels/images/train/p.txt"))
        record = next(r for r in lines(out / "merged.jsonl") if r["detections"])
        assert len(record["detections"]) == rows[parts]
        assert len(json.loads((out / "predictions.json").read_text())) == rows[parts]
        assert len(merged["images/train/p.png"]) == rows[parts]
        assert merged.report.counts.detections == rows[parts]
    assert rows["largest"] == rows["bridge"] <= rows["separate"]


def test_class_names_come_from_data_where_no_manifest_has_them(base, tmp_path):
    with pytest.raises(TilerError, match="class names are not known"):
        merge(base.preds, images=base.data, conf="0,a=0.5")
    merged = merge(
        base.preds,
        tmp_path / "out",
        images=base.data,
        data=base.yaml,
        conf="0,a=2e-1",
        method="nms",
    )
    assert merged.report.names == list(NAMES)
    assert merged.report.counts.fates["low confidence"] > 0
    assert json.loads((tmp_path / "out/merged.jsonl").read_text().splitlines()[0])["names"] == list(
        NAMES
    )


# --- predictions of others


def blank(folder, sizes):
    """Images without content, of the given sizes."""
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(path)
    return folder


PREDS = SHARED / "data/preds"


@needs_shared
def test_coco_results_of_whole_images(tmp_path):
    truth = json.loads((PREDS / "cocoapi_fakebbox100/instances_val2014_100.json").read_text())
    sizes = {
        f"{image['id']:012}.png": (image["width"], image["height"]) for image in truth["images"]
    }
    path = PREDS / "cocoapi_fakebbox100/instances_val2014_fakebbox100_results.json"
    merged = merge(
        path,
        tmp_path / "out",
        images=blank(tmp_path / "images", sizes),
        preds_base="coco91",
        method="none",
        category_base="coco91",
    )
    entries = json.loads(path.read_text())
    assert merged.report.counts.rows == len(entries) == 734
    assert merged.report.exit_code() == 0
    out = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len(out) == 734 - merged.report.counts.refused - merged.report.counts.fates.get(
        "duplicate", 0
    )
    given = Counter((int(e["image_id"]), e["category_id"], round(e["score"], 3)) for e in entries)
    back = Counter((int(e["image_id"]), e["category_id"], round(e["score"], 3)) for e in out)
    assert back <= given


@needs_shared
def test_coco_results_of_a_toolbox(tmp_path):
    truth = json.loads((PREDS / "fce_small/gt_dataset.json").read_text())
    sizes = {f"{image['id']}.png": (image["width"], image["height"]) for image in truth["images"]}
    merged = merge(
        PREDS / "fce_small/dt_dataset.json", images=blank(tmp_path / "images", sizes), preds_base=1
    )
    assert merged.report.counts.rows == 9


@needs_shared
def test_predictions_in_pixels_are_refused_with_the_reason(tmp_path):
    folder = PREDS / "padilla_voc100/dets_abs_xywh"
    images = blank(tmp_path / "images", {f"{p.stem}.png": (500, 500) for p in folder.glob("*.txt")})
    for options in ({}, {"conf_first": True}):
        with pytest.raises(TilerError, match="these are pixels, expected coordinates from 0 to 1"):
            merge(folder, tmp_path / "out", images=images, **options)
    assert not (tmp_path / "out").exists()


@needs_shared
def test_predictions_with_words_for_classes_are_refused_as_a_whole(tmp_path):
    folder = PREDS / "padilla_case1/dets"
    images = blank(tmp_path / "images", {f"{p.stem}.png": (500, 500) for p in folder.glob("*.txt")})
    rows = sum(bool(row.strip()) for p in folder.glob("*.txt") for row in p.read_text().split("\n"))
    message = f"{rows} of {rows} rows cannot be read: 00001.txt:1: D02 found 'object'"
    with pytest.raises(TilerError, match=message):
        merge(folder, tmp_path / "out", images=images, task="detect")
    assert not (tmp_path / "out").exists()


@needs_shared
def test_predictions_with_the_confidence_second(tmp_path):
    folder = PREDS / "padilla_voc100/dets_rel_xywh"
    images = blank(tmp_path / "images", {f"{p.stem}.png": (500, 400) for p in folder.glob("*.txt")})
    rows = sum(len(p.read_text().split("\n")) - 1 for p in folder.glob("*.txt"))
    merged = merge(folder, tmp_path / "out", images=images, conf_first=True)
    assert merged.report.counts.rows == pytest.approx(rows, abs=49)
    assert merged.report.counts.detections > 0
    assert len(merged) == 49


@needs_shared
def test_real_save_txt_with_spaces_in_names(tmp_path):
    folder = PREDS / "ultralytics_txt_conf"
    paths = sorted(folder.rglob("*.txt"))
    images = blank(tmp_path / "images", {f"{p.stem}.jpg": (320, 240) for p in paths})
    merged = merge(folder, tmp_path / "out", images=images)
    assert (merged.report.index, merged.report.exit_code()) == ("names of images", 0)
    assert merged.report.counts.rows == sum(len(numbers(p)) for p in paths)
    assert {p.name for p in (tmp_path / "out/labels").iterdir()} == {p.name for p in paths}


@needs_shared
def test_real_predictions_json_with_more_in_it(tmp_path):
    (path,) = (PREDS / "ultralytics_json_activations").rglob("*.json")
    entries = json.loads(path.read_text())
    sizes = {}
    for e in entries:
        x, y, w, h = e["bbox"]
        old = sizes.get(e["image_id"], (10, 10))
        sizes[e["image_id"]] = (max(old[0], int(x + w) + 1), max(old[1], int(y + h) + 1))
    suffixes = {name.rpartition(".")[2].lower() for name in sizes}
    images = blank(
        tmp_path / "images",
        {name.rpartition(".")[0] + ".png": size for name, size in sizes.items()},
    )
    merged = merge(path, tmp_path / "out", images=images, preds_base=0)
    assert suffixes <= {"jpg", "jpeg", "png"}
    assert merged.report.counts.rows == len(entries)
    assert merged.report.exit_code() == 0
    assert assert_files(tmp_path / "out") == merged.report.counts.detections


def assert_files(out):
    """The number of detections, the same in every file."""
    labels = sum(len(numbers(p)) for p in (out / "labels").rglob("*.txt"))
    assert labels == len(json.loads((out / "predictions.json").read_text()))
    assert labels == sum(len(r["detections"]) for r in lines(out / "merged.jsonl"))
    assert len(list(provenance.read_sources(out / "merged.jsonl"))) == len(
        list((out / "labels").rglob("*.txt"))
    )
    return labels
