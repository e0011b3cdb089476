"""Manifests and predictions that are odd: padded tiles, images in two splits, awkward classes and
names.
"""

import json
import shutil
import tracemalloc

import numpy as np
import pytest

import tiler
from tests.conftest import tree
from tiler.errors import TilerError, Unfinished
from tiler.formats import jsonl, manifest
from tiler.geometry.instances import Instances
from tiler.geometry.neighbours import neighbours
from tiler.matching.tiles import TileRects
from tiler.merging import building
from tiler.merging.planning import planned
from tiler.merging.work import digest_of
from tiler.options import METHODS, MergeOptions
from tiler.stitching import merged, stitch


def made(root, sources, names=("a", "b"), scale=1.0, **head):
    """A manifest. `sources`: (path, split, width, height, [(tile, x, y, w, h), ...])."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [
        jsonl.line(
            manifest.ManifestHead("0", 1, head.pop("task", "detect"), list(names), {}, **head)
        )
    ]
    for path, split, width, height, tiles in sources:
        entries = [manifest.TileEntry(*tile, scale, []) for tile in tiles]
        lines.append(jsonl.line(manifest.SourceTiles(path, split, width, height, "f", entries)))
    (root / "tiles.jsonl").write_bytes(b"".join(lines))
    return root


def predicted(root, **files):
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.txt").write_text(text)
    return root


def rows(path):
    return [list(map(float, line.split())) for line in path.read_text().splitlines()]


ONE = [("p.png", "val", 1000, 640, [("A", 0, 0, 640, 640), ("B", 360, 0, 640, 640)])]


def test_what_a_padded_tile_shows_ends_with_the_image(tmp_path):
    tiles = made(tmp_path / "m", [("p.png", "val", 500, 400, [("t", 0, 0, 640, 640)])])
    preds = predicted(tmp_path / "p", t="0 .9 .9 .1 .1 .9\n1 .75 .5 .2 .2 .8\n")
    merged = tiler.merge(preds, tiles=tiles)
    assert [f.code for f in merged.report.findings] == ["D05", "D09"]
    np.testing.assert_allclose(merged["p.png"].boxes, [[416, 256, 500, 384]])


def test_a_tile_outside_its_image_is_left_out_and_said(tmp_path):
    tiles = made(
        tmp_path / "m",
        [("p.png", "val", 500, 400, [("t", 0, 0, 400, 400), ("far", 5000, 0, 400, 400)])],
    )
    preds = predicted(tmp_path / "p", t="0 .5 .5 .1 .1 .9\n", far="0 .5 .5 .1 .1 .9\n")
    merged = tiler.merge(preds, tiles=tiles)
    assert sorted(f.code for f in merged.report.findings) == ["D10", "D12"]
    assert len(merged["p.png"]) == 1


@pytest.mark.parametrize(("parts", "count"), [("bridge", 1), ("separate", 2), ("largest", 1)])
def test_report_labels_provenance_and_explanation_agree_on_parts(tmp_path, parts, count):
    tiles = made(tmp_path / "m", ONE, task="segment")
    hourglass = "0 .1 .1 .5 .1 .1 .5 .5 .5 .9\n"  # crosses itself: two parts, by the even-odd rule
    preds = predicted(tmp_path / "p", A=hourglass)
    out = tmp_path / "out"
    merged = tiler.merge(preds, tiles=tiles, out=out, parts=parts)
    record = json.loads((out / "merged.jsonl").read_text().splitlines()[1])
    assert (
        merged.report.counts.detections
        == count
        == len(rows(out / "labels/p.txt"))
        == len(record["detections"])
    )
    assert len(json.loads((out / "predictions.json").read_text())) == count
    assert record["detections"] == [[[0, 0]]] * count
    assert [
        fate.into for fate in tiler.merging.explain(preds, "p.png", tiles=tiles, parts=parts)
    ] == [0]


@pytest.mark.parametrize("names", [("a/b", "a:b"), ("small car", "small-car")])
def test_classes_of_one_dota_file_are_refused_before_any_work(tmp_path, names):
    tiles = made(tmp_path / "m", ONE, names)
    preds = predicted(tmp_path / "p", A="0 .5 .5 .1 .1 .9\n1 .2 .2 .1 .1 .9\n")
    with pytest.raises(TilerError, match="--export dota: classes .* would be one file"):
        tiler.merge(preds, tiles=tiles, out=tmp_path / "out", export="dota")
    assert not list(tmp_path.glob(".out*"))


def test_a_class_with_a_long_name_has_a_dota_file(tmp_path):
    tiles = made(tmp_path / "m", ONE, ("\N{CJK UNIFIED IDEOGRAPH-4E00}" * 100,))
    preds = predicted(tmp_path / "p", A="0 .5 .5 .1 .1 .9\n")
    tiler.merge(preds, tiles=tiles, out=tmp_path / "out", export="dota")
    (file,) = (tmp_path / "out/dota").iterdir()
    assert len(file.name.encode()) < 250 and len(file.read_text().splitlines()) == 1


def test_predictions_changed_after_a_stop_leave_no_file_of_a_class_that_is_gone(
    tmp_path, monkeypatch
):
    sources = [(f"p{k}.png", "val", 640, 640, [(f"t{k}", 0, 0, 640, 640)]) for k in range(4)]
    tiles = made(tmp_path / "m", sources)
    files = {f"t{k}": "0 .5 .5 .1 .1 .9\n" for k in range(4)}
    preds = predicted(tmp_path / "p", **{**files, "t2": "1 .5 .5 .1 .1 .9\n"})
    real = building.work

    def work(job, piece):
        if piece.key == "p3.png":
            raise Unfinished("stopped")
        return real(job, piece)

    with monkeypatch.context() as patch:
        patch.setattr(building, "work", work)
        with pytest.raises(Unfinished):
            tiler.merge(preds, tiles=tiles, out=tmp_path / "out", export="dota", workers=1)
    predicted(preds, t2="0 .5 .5 .1 .1 .9\n")
    tiler.merge(preds, tiles=tiles, out=tmp_path / "out", export="dota")
    tiler.merge(preds, tiles=tiles, out=tmp_path / "fresh", export="dota")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_image_in_two_splits_belongs_to_the_one_that_was_predicted(tmp_path):
    both = [("both.png", split, 640, 640, [("t", 0, 0, 640, 640)]) for split in ("train", "val")]
    others = [
        ("t.png", "train", 640, 640, [("u", 0, 0, 640, 640)]),
        ("v.png", "val", 640, 640, [("w", 0, 0, 640, 640)]),
    ]
    tiles = made(tmp_path / "m", both + others)
    row = "0 .5 .5 .1 .1 .9\n"
    merged = tiler.merge(predicted(tmp_path / "p", t=row, w=row), tiles=tiles)
    assert (merged.sources, merged.report.left_out) == (["both.png", "v.png"], ["train"])
    assert (
        tiler.merge(
            predicted(tmp_path / "all", t=row, u=row, w=row), tiles=tiles
        ).report.counts.images
        == 3
    )


@pytest.mark.parametrize("name", ["labels/p.txt", "predictions.json", "geojson/p.geojson"])
@pytest.mark.parametrize("how", ["gone", "other"])
def test_an_output_that_was_meddled_with_is_not_complete(tmp_path, name, how):
    tiles, preds = made(tmp_path / "m", ONE), predicted(tmp_path / "p", A="0 .5 .5 .1 .1 .9\n")
    out = tmp_path / "out"
    tiler.merge(preds, tiles=tiles, out=out, export="geojson")
    assert tiler.merge(preds, tiles=tiles, out=out, export="geojson").report.unchanged
    if how == "gone":
        (out / name).unlink()
    else:
        (out / name).write_text("junk")
    with pytest.raises(TilerError, match=f"{name} (is missing|has 4 bytes)"):
        tiler.merge(preds, tiles=tiles, out=out, export="geojson")


def test_a_tile_of_two_images_is_refused(tmp_path):
    tiles = made(
        tmp_path / "m", [(f"{k}.png", "val", 640, 640, [("t", 0, 0, 640, 640)]) for k in "ab"]
    )
    with pytest.raises(TilerError, match="several images have a tile t"):
        tiler.merge(predicted(tmp_path / "p", t="0 .5 .5 .1 .1 .9\n"), tiles=tiles)


def test_a_manifest_without_names_knows_no_classes(tmp_path):
    tiles = made(tmp_path / "m", ONE, ())
    merged = tiler.merge(
        predicted(tmp_path / "p", A="7 .5 .5 .1 .1 .9\n"),
        tiles=tiles,
        out=tmp_path / "out",
        export="csv,dota",
    )
    assert merged["p.png"].class_id.tolist() == [7]
    assert (tmp_path / "out/dota/Task1_7.txt").exists()


def test_a_class_number_without_bound_costs_nothing(tmp_path):
    tiles = made(tmp_path / "m", ONE, ())
    merged = tiler.merge(
        predicted(tmp_path / "p", A=f"{2**40} .5 .5 .1 .1 .9\n"), tiles=tiles, export="csv"
    )
    assert merged["p.png"].class_id.tolist() == [2**40]


@pytest.mark.parametrize(
    ("head", "sources", "said"),
    [
        ({"kpt_shape": [17]}, ONE, "kpt_shape is"),
        ({"kpt_shape": []}, ONE, "kpt_shape is"),
        ({}, [("p.png", "val", 10**12, 640, [("A", 0, 0, 640, 640)])], "no image is that large"),
        ({}, [("p.png", "val", 640, 640, [("A", 10**12, 0, 640, 640)])], "no image is that large"),
        (
            {},
            [(f"{'x' * 300}.png", "val", 640, 640, [("A", 0, 0, 640, 640)])],
            "longer than any path",
        ),
        (
            {},
            [("a.png", "v", 9, 9, [("A", 0, 0, 9, 9)]), ("a.txt/b.png", "v", 9, 9, [])],
            "would be a file and a folder",
        ),
    ],
)
def test_what_no_output_can_be_made_of_is_refused_first(tmp_path, head, sources, said):
    tiles, preds = (
        made(tmp_path / "m", sources, **head),
        predicted(tmp_path / "p", A="0 .5 .5 .1 .1 .9\n"),
    )
    with pytest.raises(TilerError, match=said):
        tiler.merge(preds, tiles=tiles, out=tmp_path / "out")
    assert not list(tmp_path.glob(".out*")) and not (tmp_path / "out").exists()


def test_a_number_that_is_no_class_is_refused_however_long(tmp_path):
    tiles, preds = made(tmp_path / "m", ONE, ()), predicted(tmp_path / "p", A="0 .5 .5 .1 .1 .9\n")
    with pytest.raises(TilerError, match="--groups: no class"):
        tiler.merge(preds, tiles=tiles, groups=f"{10**22},{10**22 + 1}")


def test_a_detector_that_found_nothing_is_ordinary(tmp_path):
    tiles = made(tmp_path / "m", ONE)
    (tmp_path / "predictions.json").write_text("[]")
    merged = tiler.merge(
        tmp_path / "predictions.json", tiles=tiles, out=tmp_path / "out", preds_base="0"
    )
    assert (merged.report.counts.empty, (tmp_path / "out/labels/p.txt").read_text()) == (1, "")


@pytest.mark.parametrize("spoilt", ["0 .5 .5 .1 .1 .9 oops\n", None])
def test_a_tile_that_could_not_be_read_makes_no_orphans(tmp_path, spoilt):
    tiles = made(tmp_path / "m", ONE)
    preds = predicted(tmp_path / "p", A="0 .97 .5 .06 .1 .9\n", B="")
    assert tiler.merge(preds, tiles=tiles)["p.png"].conf.tolist() == [0.45]
    (preds / "B.txt").unlink()
    if spoilt is None:
        (preds / "B.txt").mkdir()
    else:
        (preds / "B.txt").write_text(spoilt)
    assert tiler.merge(preds, tiles=tiles)["p.png"].conf.tolist() == [0.9]


def test_a_image_is_another_when_a_tile_without_predictions_is(tmp_path):
    def digest(name, *other, unread=False, size=(1000, 640), scale=1.0):
        tiles = made(
            tmp_path / f"m{name}",
            [("p.png", "val", *size, [("A", 0, 0, 640, 640), *other])],
            scale=scale,
        )
        preds = predicted(tmp_path / f"p{name}", A="0 .5 .5 .1 .1 .9\n")
        if unread:
            (preds / "B.txt").mkdir()
        plan, _ = planned(preds, tiles, None, None, {})
        return digest_of(plan.pieces[0])

    b = ("B", 360, 0, 640, 640)
    found = [
        digest(0, b),
        digest(1),
        digest(2, b, unread=True),
        digest(3, ("C", *b[1:])),
        digest(4, ("B", 361, 0, 640, 640)),
        digest(5, b, ("C", 0, 0, 64, 64)),
        digest(6, b, size=(1001, 640)),
        digest(7, b, scale=0.5),
    ]
    assert len(set(found)) == len(found)
    assert digest(8, b) == found[0]


def test_far_apart_boxes_share_no_cell_of_the_pair_search():
    boxes = np.array(
        [
            [0, 0, 1, 1],
            [4.3e6, 0, 4.3e6 + 1, 1],
            [0, 4.3e6, 1, 4.3e6 + 1],
            [4.3e6, 0, 4.3e6 + 1, 1.0],
        ]
    )
    pairs = [(int(a), int(b)) for i, j in neighbours(boxes) for a, b in zip(i, j, strict=True)]
    assert pairs == [(1, 3)]


def test_a_long_chain_of_overlaps_takes_no_time():
    """Boxes in a row, each beaten by the one before: one after the other, not a round for each."""
    n = 50_000
    x = np.arange(n) * 5.0
    row = Instances(
        np.zeros(n, int), np.stack([x, x * 0, x + 10, x * 0 + 10], axis=1), conf=np.full(n, 0.5)
    )
    found = stitch(
        [(tiler.Window(0, 0, 5 * n + 10, 10), row)], (5 * n + 10, 10), method="nms", iou=0.3
    )
    assert len(found.instances) == n // 2


@pytest.mark.parametrize("method", [method for method in METHODS if method != "none"])
def test_many_boxes_on_one_spot_take_little_memory(method):
    """A list of all their pairs would be 216 MB, and a sorted copy as much."""
    n = 3000
    rng = np.random.default_rng(0)
    corner = np.array([550.0, 100]) + rng.uniform(0, 2, (n, 2))
    boxes, conf = np.concatenate([corner, corner + 50], axis=1), rng.uniform(0.1, 1, n)
    tile = np.arange(n) % 2
    tiles = TileRects.of(np.array([[0, 0, 640, 640], [512, 0, 1152, 640.0]]), (1152, 640))
    tracemalloc.start()
    try:
        merged(
            Instances(np.zeros(n, int), boxes, conf=conf), tile, tiles, MergeOptions(method=method)
        )
        assert tracemalloc.get_traced_memory()[1] < 120e6
    finally:
        tracemalloc.stop()


def test_the_copy_of_an_output_is_as_good(tmp_path):
    tiles, preds = made(tmp_path / "m", ONE), predicted(tmp_path / "p", A="0 .5 .5 .1 .1 .9\n")
    tiler.merge(preds, tiles=tiles, out=tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    assert tiler.merge(preds, tiles=tiles, out=tmp_path / "moved").report.unchanged
