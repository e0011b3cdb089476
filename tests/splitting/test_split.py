"""`tiler.split`, end to end on small datasets: what is written, and what is promised about it."""

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import yaml
from PIL import Image

import tiler
from tests.conftest import Dataset, picture, rows_of, tree
from tiler.formats import manifest
from tiler.images import reading, writing


def split(dataset, out, **options):
    options.setdefault("tile", 128)
    options.setdefault("workers", 1)
    return tiler.split(dataset.yaml, out=out, **options)


def test_a_box_is_clipped_moved_and_normalised(dataset, tmp_path):
    dataset.add("a.png", "1 0.5 0.5 0.2 0.2\n", picture(200, 100))
    dataset.add("b.png", "", picture(200, 100), "val")
    split(dataset, tmp_path / "out", tile=100, overlap=0)
    rows = rows_of(tmp_path / "out")
    # box 80..120 x 40..60 px, cut at x = 100
    assert rows == {
        "a__0_0_100_100": [[1, 0.9, 0.5, 0.2, 0.2]],
        "a__100_0_100_100": [[1, 0.1, 0.5, 0.2, 0.2]],
    }
    tile = Image.open(tmp_path / "out/images/train/a__100_0_100_100.png")
    assert np.array_equal(np.asarray(tile), np.asarray(picture(200, 100).crop((100, 0, 200, 100))))


def test_the_output_trains_from_any_folder(filled, tmp_path):
    split(filled, tmp_path / "out")
    content = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "nc": 3,
        "names": {0: "a", 1: "b", 2: "c"},
    }
    for name in ("train", "val"):
        pictures = {p.stem for p in (tmp_path / "out/images" / name).iterdir()}
        assert pictures == {p.stem for p in (tmp_path / "out/labels" / name).iterdir()}
        assert pictures


def test_the_manifest_tells_where_each_row_came_from(filled, tmp_path):
    split(filled, tmp_path / "out")
    path = tmp_path / "out/tiles.jsonl"
    head = json.loads(path.read_text().splitlines()[0])
    assert list(head) == ["tiler", "schema", "task", "names", "options"]
    assert (head["schema"], head["task"], head["names"], head["options"]["tile"]) == (
        1,
        "detect",
        ["a", "b", "c"],
        128,
    )
    sources = list(manifest.read_sources(path))
    assert [s.source for s in sources] == [f"images/train/p{i}.jpg" for i in range(3)] + [
        "images/val/p3.jpg"
    ]
    for source in sources:
        written = rows_of(tmp_path / "out", source.split)
        labels = (
            (filled.root / source.source.replace("images", "labels"))
            .with_suffix(".txt")
            .read_text()
            .splitlines()
        )
        for tile in source.tiles:
            assert len(written[tile.name]) == len(tile.rows)
            for row, (origin, visible) in zip(written[tile.name], tile.rows, strict=True):
                c, x, y, w, h = map(float, labels[origin].split())
                left, top = max((x - w / 2) * 400, tile.x), max((y - h / 2) * 300, tile.y)
                right, bottom = (
                    min((x + w / 2) * 400, tile.x + tile.w),
                    min((y + h / 2) * 300, tile.y + tile.h),
                )
                want = [
                    (left + right) / 2 - tile.x,
                    (top + bottom) / 2 - tile.y,
                    right - left,
                    bottom - top,
                ]
                assert row[0] == c
                assert np.allclose(
                    np.array(row[1:]) * [tile.w, tile.h, tile.w, tile.h], want, atol=2e-6
                )
                assert visible == pytest.approx(
                    (right - left) * (bottom - top) / (w * 400 * h * 300), abs=1e-6
                )


def test_the_report_conserves_objects(filled, tmp_path):
    report = split(filled, tmp_path / "out", overlap=0, min_visible=0.6, rescue=False)
    for name, part in report.splits.items():
        o = part.objects
        assert o.objects == o.whole + o.truncated + o.lost == 12 * (3 if name == "train" else 1)
        assert o.rows == sum(map(len, rows_of(tmp_path / "out", name).values()))
        assert sum(t.objects for t in part.classes.values()) == o.objects
    assert len(report.lost) == report.total.objects.lost > 0
    assert all("under --min-visible" in lost.reason for lost in report.lost)
    on_disk = json.loads((tmp_path / "out/report.json").read_text())
    assert on_disk["splits"]["train"]["objects"]["objects"] == 36
    assert len(on_disk["lost"]) == len(report.lost)
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 1)


def test_rescue_leaves_no_object_without_a_tile(filled, tmp_path):
    report = split(filled, tmp_path / "out", overlap=0, min_visible=1)
    assert report.total.objects.lost == 0


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_change_no_byte(filled, tmp_path, workers, backend):
    split(filled, tmp_path / "one")
    split(filled, tmp_path / "many", workers=workers, backend=backend)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_args_repeat_the_run(filled, tmp_path):
    split(filled, tmp_path / "out", overlap=0.3, scale="1,0.5", background=0.5)
    options = yaml.safe_load((tmp_path / "out/args.yaml").read_text())
    tiler.split(filled.yaml, out=tmp_path / "again", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_running_again_says_so_and_touches_nothing(filled, tmp_path):
    split(filled, tmp_path / "out")
    before = tree(tmp_path / "out"), (tmp_path / "out/tiles.jsonl").stat().st_mtime_ns
    report = split(filled, tmp_path / "out")
    assert report.unchanged
    assert report.total.objects.objects == 48
    assert (tree(tmp_path / "out"), (tmp_path / "out/tiles.jsonl").stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.add("p0.jpg", None, picture(seed=99)),
            "images/train/p0.jpg or its labels changed",
        ),
        (
            lambda d: (d.root / "labels/train/p1.txt").write_text(""),
            "images/train/p1.jpg or its labels changed",
        ),
        (lambda d: (d.root / "images/train/p1.jpg").unlink(), "images/train/p1.jpg was removed"),
        (lambda d: d.add("p00.jpg"), "images/train/p00.jpg was added"),
        (lambda d: d.add("zz.jpg", split="val"), "images/val/zz.jpg was added"),
        (
            lambda d: (d.root / "images/train/p2.jpg").write_bytes(b""),
            "images/train/p2.jpg or its labels changed",
        ),
    ],
)
def test_a_changed_source_is_named_and_overwrite_makes_it_fresh(filled, tmp_path, change, message):
    split(filled, tmp_path / "out")
    change(filled)
    with pytest.raises(tiler.TilerError, match=message):
        split(filled, tmp_path / "out")
    split(filled, tmp_path / "out", overwrite=True)
    split(filled, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_other_options_are_refused_and_named(filled, tmp_path):
    split(filled, tmp_path / "out")
    with pytest.raises(tiler.TilerError, match=r"overlap 0\.2 -> 0\.3"):
        split(filled, tmp_path / "out", overlap=0.3)


def test_spaces_and_line_ends_of_labels_change_nothing(filled, tmp_path):
    split(filled, tmp_path / "out")
    label = filled.root / "labels/train/p0.txt"
    label.write_bytes(
        b"\xef\xbb\xbf\n"
        + label.read_bytes().replace(b"\n", b"\r\n").replace(b" ", b"\t")
        + b"\r\n\r\n"
    )
    assert split(filled, tmp_path / "out").unchanged
    split(filled, tmp_path / "again")
    assert tree(tmp_path / "out") == tree(tmp_path / "again")


def test_missing_tiles_of_a_complete_output_are_noticed(filled, tmp_path):
    split(filled, tmp_path / "out")
    next((tmp_path / "out/images/train").iterdir()).unlink()
    with pytest.raises(tiler.TilerError, match="missing"):
        split(filled, tmp_path / "out")


def test_overwrite_deletes_no_foreign_file(filled, tmp_path):
    split(filled, tmp_path / "out")
    (tmp_path / "out/images/thesis.txt").write_text("mine")
    with pytest.raises(tiler.TilerError, match="thesis.txt is not made by tiler"):
        split(filled, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/images/thesis.txt").read_text() == "mine"


def test_overwrite_takes_the_trainers_caches_along(filled, tmp_path):
    split(filled, tmp_path / "out")
    (tmp_path / "out/labels/train.cache").write_text("made by the trainer")
    split(filled, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/labels/train.cache").exists()


@pytest.mark.parametrize(
    "where", ["", "images", "images/train", "images/train/out", "labels/train/out", ".."]
)
def test_an_output_that_mixes_with_the_source_is_refused(filled, where):
    before = tree(filled.root)
    with pytest.raises(tiler.TilerError, match="--out"):
        split(filled, filled.root / where)
    assert tree(filled.root) == before


def test_an_output_beside_the_pictures_of_the_root_is_fine(filled):
    split(filled, filled.root / "tiles")
    assert split(filled, filled.root / "tiles").unchanged


def test_the_default_output_stands_beside_the_root(filled, tmp_path):
    report = tiler.split(filled.yaml, tile="128x96", workers=1)
    assert report.out == str(tmp_path / "data-tiles-128x96")


def test_a_dry_run_counts_the_same_and_writes_nothing(filled, tmp_path):
    before = sorted(os.listdir(tmp_path))
    planned = split(filled, tmp_path / "out", dry_run=True)
    assert sorted(os.listdir(tmp_path)) == before
    done = split(filled, tmp_path / "out")
    assert planned.total.objects == done.total.objects
    assert planned.total.counts.tiles == done.total.counts.tiles


def test_background_ratio_is_exact_seeded_and_spread(tmp_path):
    data = Dataset(tmp_path / "data")
    for i in range(4):
        data.add(f"p{i}.png", "0 0.1 0.1 0.05 0.05\n", picture(512, 512, i))
    data.add("v.png", "0 0.1 0.1 0.05 0.05\n", picture(512, 512, 9), "val")
    report = split(data, tmp_path / "out", overlap=0, background=1.5)
    train = report.splits["train"].counts
    assert (train.tiles, train.background, train.left_out) == (10, 6, 64 - 10)
    empty = [
        sum(not t.rows for t in s.tiles)
        for s in manifest.read_sources(tmp_path / "out/tiles.jsonl")
    ]
    assert sorted(empty[:4]) == [1, 1, 2, 2]
    split(data, tmp_path / "other", overlap=0, background=1.5, seed=1)
    assert (
        tree(tmp_path / "other/labels/train").keys() != tree(tmp_path / "out/labels/train").keys()
    )
    assert split(data, tmp_path / "none", overlap=0, background="none").total.counts.background == 0


def test_a_picture_without_tiles_to_write_is_not_decoded(dataset, tmp_path, monkeypatch):
    dataset.add("a.png", "", picture())
    dataset.add("b.png", "0 0.5 0.5 0.1 0.1\n", picture(), "val")
    decoded = []
    real = reading.opened
    monkeypatch.setattr(
        reading, "opened", lambda f, *more: (decoded.append(f.name), real(f, *more))[1]
    )
    split(dataset, tmp_path / "out", background="none")
    assert len(decoded) == 1


def test_masking_paints_what_is_not_labelled_and_nothing_else(dataset, tmp_path):
    white = Image.new("RGB", (200, 100), "white")
    dataset.add("a.png", "0 0.48 0.5 0.2 0.2\n1 0.42 0.5 0.1 0.1\n", white)  # 76..116 and 74..94 px
    dataset.add("v.png", "", white, "val")
    split(dataset, tmp_path / "out", tile=100, overlap=0, min_visible=0.5, truncated="mask")
    right = np.asarray(Image.open(tmp_path / "out/images/train/a__100_0_100_100.png"))[..., 0]
    assert (right[40:60, :16] == 114).all()
    assert (right[:38] == 255).all()
    assert (right[:, 18:] == 255).all()
    left = np.asarray(Image.open(tmp_path / "out/images/train/a__0_0_100_100.png"))
    assert (left == 255).all()


def test_skip_tile_leaves_out_tiles_that_show_too_little_of_something(dataset, tmp_path):
    dataset.add("a.png", "0 0.48 0.5 0.2 0.2\n1 0.8 0.5 0.1 0.1\n", picture(200, 100))
    dataset.add("v.png", "", picture(), "val")
    report = split(
        dataset, tmp_path / "out", tile=100, overlap=0, min_visible=0.5, truncated="skip-tile"
    )
    assert list(rows_of(tmp_path / "out")) == ["a__0_0_100_100"]
    assert [(lost.row, lost.reason) for lost in report.lost] == [
        (1, "its tiles were skipped (--truncated skip-tile)")
    ]


def test_scaled_tiles_show_more_at_the_same_size(dataset, tmp_path):
    dataset.add("a.png", "0 0.5 0.5 0.5 0.5\n", picture(400, 400))
    dataset.add("v.png", "", picture(400, 400), "val")
    split(dataset, tmp_path / "out", tile=100, scale="1,0.5", overlap=0)
    tiles = [
        t
        for s in manifest.read_sources(tmp_path / "out/tiles.jsonl")
        for t in s.tiles
        if s.split == "train"
    ]
    half = [t for t in tiles if t.scale == 0.5]
    assert [t.name for t in half] == [
        f"a__s50__{x}_{y}_200_200" for y in (0, 200) for x in (0, 200)
    ]
    with Image.open(tmp_path / f"out/images/train/{half[0].name}.png") as tile:
        assert tile.size == (100, 100)
    assert rows_of(tmp_path / "out")[half[0].name] == [[0, 0.75, 0.75, 0.5, 0.5]]


def test_padding_fills_and_labels_keep_their_pixels(dataset, tmp_path):
    dataset.add("a.png", "0 0.5 0.5 1 1\n", Image.new("RGB", (50, 20), "white"))
    dataset.add("v.png", "", picture(), "val")
    split(dataset, tmp_path / "out", tile=100, edge="pad")
    pixels = np.asarray(Image.open(tmp_path / "out/images/train/a__0_0_100_100.png"))
    assert (pixels[:20, :50] == 255).all()
    assert (pixels[20:] == 114).all()
    assert (pixels[:, 50:] == 114).all()
    assert rows_of(tmp_path / "out")["a__0_0_100_100"] == [[0, 0.25, 0.1, 0.5, 0.2]]


def test_equal_stems_do_not_overwrite_each_other(tmp_path):
    data = Dataset(tmp_path / "data")
    for name in ("a.jpg", "a.png", "sub/a.jpg", "A.jpg"):
        data.add(name, "0 0.5 0.5 0.1 0.1\n", picture(64, 64, len(name)))
    data.add("v.png", "", picture(64, 64), "val")
    report = split(data, tmp_path / "out")
    assert report.splits["train"].counts.tiles == 4
    assert len({p.stem.casefold() for p in (tmp_path / "out/images/train").iterdir()}) == 4


def test_a_picture_in_two_splits_is_cut_for_each(dataset, tmp_path):
    dataset.yaml.write_text("train: images/train\nval: images/train\nnames: [a, b, c]\n")
    dataset.add("a.png", "0 0.5 0.5 0.1 0.1\n")
    split(dataset, tmp_path / "out")
    assert rows_of(tmp_path / "out", "train") == rows_of(tmp_path / "out", "val")
    assert [f.code for f in tiler.check(dataset.yaml).findings] == ["P04"]


def test_without_val_train_stands_in(dataset, tmp_path):
    dataset.yaml.write_text("train: images/train\nnames: [a, b, c]\n")
    dataset.add("a.png", "0 0.5 0.5 0.1 0.1\n")
    report = split(dataset, tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())["val"] == "images/train"
    assert [f.code for f in report.findings] == ["Y03"]


def test_pose_without_visibility_is_promoted(tmp_path):
    data = Dataset(tmp_path / "data", names=("a",), kpt_shape=[2, 2], flip_idx=[1, 0])
    data.add("a.png", "0 0.5 0.5 0.5 0.5 0.4 0.4 0 0\n", picture(100, 100))
    data.add("v.png", "", picture(), "val")
    split(data, tmp_path / "out", tile=100)
    assert rows_of(tmp_path / "out")["a__0_0_100_100"] == [
        [0, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 2, 0, 0, 0]
    ]
    content = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert (content["kpt_shape"], content["flip_idx"]) == ([2, 3], [1, 0])


def test_one_bad_source_costs_no_other(filled, tmp_path):
    split(filled, tmp_path / "sound")
    (filled.root / "images/train/p1.jpg").write_bytes(
        (filled.root / "images/train/p1.jpg").read_bytes()[:500]
    )
    (filled.root / "labels/val/p3.txt").write_text("0 nan 0.5 0.1 0.1\n")
    report = split(filled, tmp_path / "out")
    assert report.exit_code() == 1
    assert [(f.path, f.code) for f in report.findings] == [
        ("images/train/p1.jpg", "I03"),
        ("labels/val/p3.txt", "L13"),
    ]
    sound, rest = tree(tmp_path / "sound"), tree(tmp_path / "out")
    kept = {
        k: v
        for k, v in sound.items()
        if k.startswith(("images", "labels")) and "p1" not in k and "p3" not in k
    }
    assert {k: v for k, v in rest.items() if k.startswith(("images", "labels"))} == kept


def test_coco_and_yolo_of_the_same_labels_give_the_same_tiles(filled, tmp_path):
    images, annotations = [], []
    for i, path in enumerate(sorted((filled.root / "images/train").iterdir())):
        images.append({"id": i, "file_name": path.name, "width": 400, "height": 300})
        for line in (filled.root / "labels/train" / f"{path.stem}.txt").read_text().splitlines():
            c, x, y, w, h = map(float, line.split())
            bbox = [(x - w / 2) * 400, (y - h / 2) * 300, w * 400, h * 300]
            annotations.append(
                {"id": len(annotations), "image_id": i, "category_id": 10 + int(c), "bbox": bbox}
            )
    categories = [{"id": 10 + i, "name": name} for i, name in enumerate("abc")]
    path = tmp_path / "instances_train.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    split(filled, tmp_path / "yolo")
    tiler.split(
        path, images=filled.root / "images/train", out=tmp_path / "coco", tile=128, workers=1
    )
    assert rows_of(tmp_path / "coco").keys() == rows_of(tmp_path / "yolo").keys()
    for name, rows in rows_of(tmp_path / "yolo").items():
        assert np.allclose(rows, rows_of(tmp_path / "coco")[name], atol=1e-7)


def test_crowds_are_painted_out(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 100), "white").save(tmp_path / "images/a.png")
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [60, 60, 20, 20], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 1,
         "segmentation": {"size": [100, 100], "counts": [1020, *([40, 60] * 30)[:-1], 6040]}},
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "annotations": annotations,
    }
    (tmp_path / "t.json").write_text(
        json.dumps({**content, "categories": [{"id": 1, "name": "a"}]})
    )
    report = tiler.split(
        tmp_path / "t.json", images=tmp_path / "images", out=tmp_path / "out", tile=100, workers=1
    )
    pixels = np.asarray(Image.open(tmp_path / "out/images/train/a__0_0_100_100.png"))[..., 0]
    assert (pixels[21:59, 11:39] == 114).all()
    assert (pixels[:, 42:] == 255).all()
    assert report.splits["train"].counts.ignored_regions == 1
    report = tiler.split(
        tmp_path / "t.json",
        images=tmp_path / "images",
        out=tmp_path / "skip",
        tile=100,
        ignored="skip",
        workers=1,
    )
    assert (np.asarray(Image.open(tmp_path / "skip/images/train/a__0_0_100_100.png")) == 255).all()


def test_progress_counts_every_source(filled, tmp_path):
    seen = []
    split(filled, tmp_path / "out", progress=seen.append)
    assert [p.done for p in seen] == [1, 2, 3, 4]
    assert seen[-1].tiles == sum(1 for _ in (tmp_path / "out/images").rglob("*.jpg"))


def test_unknown_options_are_errors(filled):
    with pytest.raises(tiler.TilerError, match="did you mean 'overlap'"):
        split(filled, "x", overlpa=0.2)


# --- killed and run again


def in_child(work):
    """Run `work` in a forked child and return how that ended (a negative number: by a signal)."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_after_each_written_file_it_ends_in_the_same_bytes(filled, tmp_path, monkeypatch):
    split(filled, tmp_path / "sound", tile=64)
    want = tree(tmp_path / "sound")
    real = writing.save
    for n in range(1, 51):
        count = 0

        def save(tile, path, encoding, tags, opener, n=n):
            nonlocal count
            size = real(tile, path, encoding, tags, opener)
            count += 1
            if count == n:
                os.truncate(tmp_path / ".out.partial/tree" / path, size // 2)  # the last one torn
                os.kill(os.getpid(), signal.SIGKILL)
            return size

        with monkeypatch.context() as patch:
            patch.setattr(writing, "save", save)
            child = in_child(lambda: split(filled, tmp_path / "out", tile=64))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
        split(filled, tmp_path / "out", tile=64)
        assert tree(tmp_path / "out") == want
        assert not (tmp_path / ".out.partial").exists()
        shutil.rmtree(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_it_ends_in_the_same_bytes(filled, tmp_path):
    split(filled, tmp_path / "sound", tile=64)
    want = tree(tmp_path / "sound")
    start = time.perf_counter()
    split(filled, tmp_path / "timed", tile=64)
    latest = time.perf_counter() - start
    rng = random.Random(0)
    killed = 0
    for _ in range(200):
        child = in_child(
            lambda: split(filled, tmp_path / "out", tile=64, workers=2, backend="threading")
        )
        time.sleep(rng.uniform(0, latest))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL:
            killed += 1
        else:
            latest *= 0.8  # it was done before
        if killed < 20 and rng.random() < 0.5:  # killed again on the way
            continue
        split(filled, tmp_path / "out", tile=64)
        assert tree(tmp_path / "out") == want
        shutil.rmtree(tmp_path / "out")
        if killed >= 20:
            break
    assert killed >= 20


def test_what_is_done_is_not_done_again(filled, tmp_path, monkeypatch):
    real, calls = writing.save, []

    def failing(tile, path, encoding, tags, opener):
        calls.append(path)
        if len(calls) == 30:
            raise OSError(28, "No space left on device")
        return real(tile, path, encoding, tags, opener)

    monkeypatch.setattr(writing, "save", failing)
    with pytest.raises(tiler.Unfinished, match="No space left"):
        split(filled, tmp_path / "out", tile=64)
    assert not (tmp_path / "out").exists()
    first = len(calls)
    split(filled, tmp_path / "out", tile=64)
    per_source = len(list((tmp_path / "out/images/val").iterdir()))
    assert len(calls) - first == 4 * per_source - first // per_source * per_source


def stop():
    """As a disk that is full ends a run; any other error would be the image's."""
    raise tiler.Unfinished("stopped")


def test_a_source_changed_between_the_runs_leaves_nothing_stale(filled, tmp_path, monkeypatch):
    real = writing.save
    monkeypatch.setattr(
        writing, "save", lambda t, p, *e: real(t, p, *e) if "p2" not in str(p) else stop()
    )
    with pytest.raises(tiler.Unfinished):
        split(filled, tmp_path / "out", tile=64)
    monkeypatch.setattr(writing, "save", real)
    filled.add("p0.jpg", None, picture(100, 100, 5))
    (filled.root / "images/train/p1.jpg").unlink()
    split(filled, tmp_path / "out", tile=64)
    split(filled, tmp_path / "fresh", tile=64)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_an_output_beside_a_text_list_is_fine_but_not_over_its_pictures(filled):
    pictures = "\n".join(str(p) for p in sorted((filled.root / "images/train").iterdir()))
    (filled.root / "train.txt").write_text(pictures)
    filled.yaml.write_text("train: train.txt\nval: images/val\nnames: [a, b, c]\n")
    assert split(filled, filled.root / "tiles").total.counts.sources == 4
    with pytest.raises(tiler.TilerError, match="it holds the source"):
        split(filled, filled.root / "images")


def test_sources_of_one_stem_added_between_the_runs_rename_the_tiles(filled, tmp_path, monkeypatch):
    real = writing.save
    monkeypatch.setattr(
        writing, "save", lambda t, p, *e: real(t, p, *e) if "p2" not in str(p) else stop()
    )
    with pytest.raises(tiler.Unfinished):
        split(filled, tmp_path / "out")
    monkeypatch.setattr(writing, "save", real)
    filled.add("sub/p0.jpg", "", picture(100, 100, 5))
    split(filled, tmp_path / "out")
    split(filled, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


# --- what stands in the way of an output


def test_a_file_that_appears_in_the_output_meanwhile_is_not_deleted(filled, tmp_path):
    def meddle(_):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/notes.txt").write_text("precious")

    with pytest.raises(tiler.TilerError, match="notes.txt"):
        split(filled, tmp_path / "out", progress=meddle)
    assert (tmp_path / "out/notes.txt").read_text() == "precious"


def test_annotations_beside_the_tiles_are_not_ours(filled, tmp_path):
    split(filled, tmp_path / "out")
    tile = next((tmp_path / "out/images/train").iterdir())
    tile.with_suffix(".json").write_text("made by hand")
    with pytest.raises(tiler.TilerError, match="is not made by tiler"):
        split(filled, tmp_path / "out", overlap=0, overwrite=True)
    assert tile.with_suffix(".json").exists()


def test_a_picture_that_changes_its_format_between_the_runs_leaves_no_stale_tile(
    filled, tmp_path, monkeypatch
):
    real = writing.save
    monkeypatch.setattr(
        writing, "save", lambda t, p, *e: real(t, p, *e) if "p2" not in str(p) else stop()
    )
    with pytest.raises(tiler.Unfinished):
        split(filled, tmp_path / "out")
    monkeypatch.setattr(writing, "save", real)
    image = Image.open(filled.root / "images/train/p0.jpg")
    image.load()
    (filled.root / "images/train/p0.jpg").unlink()
    filled.add("p0.png", None, image)
    split(filled, tmp_path / "out")
    split(filled, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_overwrite_after_a_kill_while_the_old_output_was_removed(filled, tmp_path):
    split(filled, tmp_path / "out")
    left = tmp_path / ".out.partial/replaced"
    left.mkdir(parents=True)
    (left / "tiles.jsonl").touch()
    split(filled, tmp_path / "out", overlap=0, overwrite=True)
    assert not (tmp_path / ".out.partial").exists()


def test_a_folder_of_somebody_else_in_the_place_of_the_staging_folder_is_kept(filled, tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/mine.txt").write_text("mine")
    with pytest.raises(tiler.TilerError, match="mine.txt"):
        split(filled, tmp_path / "out")
    assert (tmp_path / ".out.partial/mine.txt").read_text() == "mine"


def test_an_output_behind_a_link_is_made_where_it_points_and_a_dead_link_ends(filled, tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to("big")
    assert split(filled, tmp_path / "link").out == str(tmp_path / "big")
    (tmp_path / "dead").symlink_to("/nowhere/at/all")
    (tmp_path / "file").write_text("")
    with pytest.raises(tiler.TilerError):
        split(filled, tmp_path / "file/out")
    with pytest.raises(tiler.TilerError, match="File name too long"):
        split(filled, tmp_path / ("x" * 300))


def test_an_output_inside_a_linked_folder_of_the_source_is_refused(filled, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    picture().save(tmp_path / "elsewhere/q.png")
    (filled.root / "images/train/site").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(tiler.TilerError, match="inside the source"):
        split(filled, tmp_path / "elsewhere/tiles")


def test_new_faults_of_the_dataset_are_noticed_though_the_output_is_complete(filled, tmp_path):
    split(filled, tmp_path / "out")
    (filled.root / "labels/train/orphan.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(tiler.TilerError, match="other findings"):
        split(filled, tmp_path / "out")


def test_an_emptied_tile_is_a_missing_tile(filled, tmp_path):
    split(filled, tmp_path / "out")
    next((tmp_path / "out/images/train").iterdir()).write_bytes(b"")
    with pytest.raises(tiler.TilerError, match="missing"):
        split(filled, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tile": 100, "overlap": 99, "scale": 0.97},
            "--overlap 99 leaves no stride in a tile of 100 px at scale 0.97",
        ),
        ({"tile": 17000, "format": "webp"}, "WebP holds at most 16383 px a side"),
    ],
)
def test_grids_that_cannot_be_are_refused_before_anything_is_made(
    filled, tmp_path, options, message
):
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(tiler.TilerError, match=message):
        split(filled, tmp_path / "out", **options)
    assert sorted(os.listdir(tmp_path)) == before


# --- what a tile shows


def test_scale_marks_in_stems_make_no_two_tiles_of_one_name(tmp_path):
    data = Dataset(tmp_path / "data")
    for i, name in enumerate(("a.png", "a__s50.png", "a__s50__s50.png")):
        data.add(name, "", picture(300, 300, i))
    data.add("v.png", "", picture(64, 64), "val")
    report = split(data, tmp_path / "out", tile=320, scale="1,0.5")
    assert (
        len(list((tmp_path / "out/images/train").iterdir()))
        == report.splits["train"].counts.tiles
        == 6
    )


def test_crowds_are_painted_where_they_are_though_a_side_is_raised_to_ten_pixels(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 2000), "white").save(tmp_path / "images/a.png")
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 800, 100, 200], "iscrowd": 1}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 2000}],
        "annotations": [crowd, {**crowd, "id": 3, "bbox": [0, 1900, 90, 90], "iscrowd": 0}],
    }
    (tmp_path / "t.json").write_text(
        json.dumps({**content, "categories": [{"id": 1, "name": "a"}]})
    )
    tiler.split(
        tmp_path / "t.json",
        images=tmp_path / "images",
        out=tmp_path / "out",
        tile=100,
        scale=0.05,
        workers=1,
    )
    (tile,) = (tmp_path / "out/images/train").iterdir()
    rows = np.asarray(Image.open(tile))[:, 5, 0]
    assert (rows[41:49] == 114).all()
    assert (rows[:39] == 255).all()
    assert (rows[51:] == 255).all()


# open to the right, of 100 x 200 px
U_SHAPE = "0 0.1 0.25 0.9 0.25 0.9 0.3 0.2 0.3 0.2 0.7 0.9 0.7 0.9 0.75 0.1 0.75\n"


def test_sizes_after_are_those_of_the_parts(dataset, tmp_path):
    dataset.add("a.png", U_SHAPE, picture(200, 200))
    dataset.add("v.png", "", picture(200, 200), "val")
    report = split(dataset, tmp_path / "out", tile=100, overlap=0, task="segment", min_visible=0)
    assert sum(map(len, rows_of(tmp_path / "out").values())) == report.total.objects.rows
    after = report.total.objects.after
    areas = []
    for found in rows_of(tmp_path / "out").values():
        for row in found:
            areas.append(
                tiler.Rings.of([[np.array(row[1:]).reshape(-1, 2) * 100]]).geometry()[0].area
            )
    assert (after.small, after.medium, after.large) == (
        sum(a < 32**2 for a in areas),
        sum(32**2 <= a < 96**2 for a in areas),
        sum(a >= 96**2 for a in areas),
    )


def test_masking_covers_the_parts_that_get_no_row(dataset, tmp_path):
    white = Image.new("RGB", (200, 100), "white")
    dataset.add(
        "a.png", "0 0.1 0.1 0.9 0.1 0.9 0.4 0.2 0.4 0.2 0.8 0.9 0.8 0.9 0.9 0.1 0.9\n", white
    )
    dataset.add("v.png", "", white, "val")
    split(
        dataset,
        tmp_path / "out",
        tile=100,
        overlap=0,
        task="segment",
        truncated="mask",
        parts="largest",
        min_visible=0,
    )
    right = np.asarray(Image.open(tmp_path / "out/images/train/a__100_0_100_100.png"))[..., 0]
    assert (right[12:38, 5:75] == 255).all()  # the larger arm has its row
    assert (right[82:88, 5:75] == 114).all()
    assert len(rows_of(tmp_path / "out")["a__100_0_100_100"]) == 1


def test_an_outline_of_many_points_in_many_tiles_takes_little_memory(tmp_path):
    import tracemalloc

    from tiler.tiling.tile_labels import views

    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    ring = 5000 + (4000 + 300 * np.sin(40 * angle))[:, None] * np.stack(
        [np.cos(angle), np.sin(angle)], axis=1
    )
    rings = tiler.Rings.of([[ring]])
    outline = tiler.Instances(np.array([0]), rings.bounds(), rings=rings, task="segment")
    windows = np.array([w.bounds for w in tiler.grid(10_000, 10_000, tile=400, overlap=0)])
    tracemalloc.start()
    found = views(
        outline, windows, np.ones(len(windows)), tiler.SplitOptions(min_visible=0, min_size=0)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.seen.visible.sum() == pytest.approx(1)
    assert peak < 200e6


@pytest.mark.parametrize(
    ("name", "where"),
    [("latest.json", "train"), ("instances_test2017.json", "test"), ("my-val.json", "val")],
)
def test_a_coco_set_of_one_split_makes_a_dataset_that_loads(filled, tmp_path, name, where):
    picture = {"id": 1, "file_name": "p0.jpg", "width": 400, "height": 300}
    content = {"images": [picture], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / name).write_text(json.dumps(content))
    tiler.split(
        tmp_path / name,
        images=filled.root / "images/train",
        out=tmp_path / "out",
        tile=128,
        workers=1,
        unlabelled=True,
    )
    yaml_text = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert {yaml_text["train"], yaml_text["val"]} == {f"images/{where}"}
    tiler.check(tmp_path / "out")
