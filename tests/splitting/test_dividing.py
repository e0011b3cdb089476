"""--val and --test: a dataset that has no such split gets one, and nothing leaks between splits."""

import itertools
import json
import os
import random
import shutil
import signal

import numpy as np
import pytest
import yaml
from PIL import Image

import tiler
from tests.cli.test_cli import run
from tests.conftest import Dataset, picture, rows_of, tree
from tests.splitting.test_split import in_child
from tiler.formats import manifest
from tiler.images import writing
from tiler.options import SplitOptions


def only_train(root, images=10, **more):
    """A dataset without val, of images with 12 random small boxes each."""
    data = Dataset(root).filled(train=images, val=0, **more)
    data.yaml.write_text("train: images/train\nnames: [a, b, c]\n")
    return data


def split(dataset, out, **options):
    options.setdefault("tile", 128)
    options.setdefault("workers", 1)
    return tiler.split(dataset.yaml, out=out, **options)


def images_of(out):
    """{split: the names of its source images}"""
    found = {}
    for source in manifest.read_sources(out / manifest.NAME):
        found.setdefault(source.split, []).append(os.path.basename(source.source))
    return found


def windows_of(out):
    """{split: [(x, y, right, bottom)]} of all tiles."""
    found = {}
    for source in manifest.read_sources(out / manifest.NAME):
        for tile in source.tiles:
            window = (tile.x, tile.y, tile.x + tile.w, tile.y + tile.h)
            found.setdefault(source.split, []).append(window)
    return found


def test_whole_images_go_to_val(tmp_path):
    data = only_train(tmp_path / "data")
    report = split(data, tmp_path / "out", val=0.2)
    found = images_of(tmp_path / "out")
    assert {name: len(images) for name, images in found.items()} == {"train": 8, "val": 2}
    assert not set(found["train"]) & set(found["val"])
    assert report.split_by == "images"
    assert report.findings == []
    content = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert (content["train"], content["val"]) == ("images/train", "images/val")
    plain = split(data, tmp_path / "plain")
    assert report.total.objects.rows == plain.total.objects.rows
    tiles = tree(tmp_path / "plain/images/train")
    assert {**tree(tmp_path / "out/images/train"), **tree(tmp_path / "out/images/val")} == tiles


def test_train_val_and_test(tmp_path):
    data = only_train(tmp_path / "data", images=20)
    report = split(data, tmp_path / "out", val=0.2, test=0.1)
    found = images_of(tmp_path / "out")
    assert {name: len(images) for name, images in found.items()} == {
        "train": 14,
        "val": 4,
        "test": 2,
    }
    assert list(report.splits) == ["train", "val", "test"]
    content = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert content["test"] == "images/test"


def test_a_test_split_is_made_of_train_and_val_stays(filled, tmp_path):
    before = split(filled, tmp_path / "plain")
    report = split(filled, tmp_path / "out", test=0.3)
    assert images_of(tmp_path / "out")["val"] == images_of(tmp_path / "plain")["val"]
    assert report.splits["val"] == before.splits["val"]
    assert len(images_of(tmp_path / "out")["test"]) == 1


def test_the_seed_decides_and_is_recorded(tmp_path):
    data = only_train(tmp_path / "data")
    seen = set()
    for seed in range(6):
        out = tmp_path / f"out{seed}"
        split(data, out, val=0.2, seed=seed)
        seen.add(tuple(images_of(out)["val"]))
        assert yaml.safe_load((out / "args.yaml").read_text())["seed"] == seed
    assert len(seen) > 1


@pytest.mark.parametrize("size", [(400, 300), (1500, 300)])
def test_runs_workers_and_order_change_no_byte(tmp_path, size):
    count = 10 if size[0] == 400 else 1
    data = only_train(tmp_path / "data", count, size=size)
    split(data, tmp_path / "one", val=0.2)
    split(data, tmp_path / "many", val=0.2, workers=3, backend="loky")
    args = yaml.safe_load((tmp_path / "one/args.yaml").read_text())
    tiler.split(data.yaml, out=tmp_path / "args", workers=2, **args)
    assert tree(tmp_path / "one") == tree(tmp_path / "many") == tree(tmp_path / "args")
    assert split(data, tmp_path / "one", val=0.2).unchanged
    listed = [f"./images/train/p{i}.jpg" for i in range(count)]
    random.Random(0).shuffle(listed)
    (data.root / "list.txt").write_text("\n".join(listed))
    data.yaml.write_text("train: list.txt\nnames: [a, b, c]\n")
    split(data, tmp_path / "listed", val=0.2)
    assert tree(tmp_path / "one") == tree(tmp_path / "listed")


def test_copies_of_an_image_are_in_one_split(tmp_path):
    data = only_train(tmp_path / "data", images=4)
    for name in ("p0", "p1", "p2", "p3"):
        for copy in "xyz":
            for kind, suffix in (("images", "jpg"), ("labels", "txt")):
                folder = data.root / kind / "train"
                shutil.copy(folder / f"{name}.{suffix}", folder / f"{copy}{name}.{suffix}")
    for seed in range(5):
        out = tmp_path / f"out{seed}"
        split(data, out, val=0.3, seed=seed)
        found = images_of(out)
        assert len(found["val"]) == 4
        assert len({name[-6:] for name in found["val"]}) == 1
    assert not [f for f in tiler.check(out / "dataset.yaml").findings if f.code == "P04"]


# --- blocks


def wide(root, width=2000, objects=150):
    return only_train(root, images=1, size=(width, 400), objects=objects)


@pytest.mark.parametrize("scale", ["1", "1,0.5"])
@pytest.mark.parametrize("edge", ["shift", "balance", "trim", "pad"])
@pytest.mark.parametrize("shares", [{"val": 0.2}, {"val": 0.2, "test": 0.2}])
@pytest.mark.parametrize("overlap", [0, 0.3])
def test_no_pixel_is_in_tiles_of_two_splits(tmp_path, scale, edge, shares, overlap):
    data = wide(tmp_path / "data")
    report = split(
        data, tmp_path / "out", tile=100, scale=scale, edge=edge, overlap=overlap, **shares
    )
    assert report.split_by == "blocks"
    found = windows_of(tmp_path / "out")
    assert set(found) == {"train", *shares}
    least = 100 if scale == "1" else 200
    for one, other in itertools.combinations(found, 2):
        for a, b in itertools.product(found[one], found[other]):
            assert max(b[0] - a[2], a[0] - b[2]) >= least


def test_objects_and_tiles_are_conserved(tmp_path):
    data = wide(tmp_path / "data")
    plain = split(data, tmp_path / "plain", tile=100)
    report = split(data, tmp_path / "out", tile=100, val=0.2, test=0.1)
    for part in (*report.splits.values(), report.total):
        objects = part.objects
        assert objects.objects == objects.whole + objects.truncated + objects.lost
    for name in plain.total.objects.__struct_fields__[:1]:
        assert getattr(report.total.objects, name) == getattr(plain.total.objects, name)
    counts, before = report.total.counts, plain.total.counts
    assert counts.tiles + counts.guard == before.tiles
    assert counts.clean + counts.left_out <= before.clean
    assert {lost.reason for lost in report.lost} == {"in the guard band between splits"}
    assert report.lost_elsewhere == []
    rows = {name: rows_of(tmp_path / "out", name) for name in report.splits}
    together = {tile: of for part in rows.values() for tile, of in part.items()}
    before = rows_of(tmp_path / "plain")
    assert together == {tile: before[tile] for tile in together}  # a tile's labels are the same
    assert len({lost.row for lost in report.lost}) == len(report.lost)
    on_disk = json.loads((tmp_path / "out/report.json").read_text())
    assert on_disk["split_by"] == "blocks"
    assert sum(part["counts"]["guard"] for part in on_disk["splits"].values()) == counts.guard
    val = report.splits["val"].objects
    kept = report.total.objects.objects - report.total.objects.lost
    assert (val.objects - val.lost) / kept == pytest.approx(0.2, abs=0.05)


def test_strict_does_not_mind_guard_bands_but_other_losses(tmp_path):
    report = split(wide(tmp_path / "data"), tmp_path / "out", tile=100, val=0.2)
    assert report.lost
    assert report.exit_code(strict=True) == 0
    data = wide(tmp_path / "tiny")
    label = data.root / "labels/train/p0.txt"
    label.write_text(label.read_text() + "0 0.01 0.5 0.0001 0.0001\n")
    report = split(data, tmp_path / "other", tile=100, val=0.2)
    assert [lost.reason.partition("px")[2] for lost in report.lost_elsewhere] == [
        " at best, under --min-size"
    ]
    assert report.exit_code(strict=True) == 1


def test_what_is_noticed_about_an_image_in_blocks_counts_once(tmp_path):
    data = wide(tmp_path / "data")
    label = data.root / "labels/train/p0.txt"
    label.write_text(label.read_text() + "7 0.5 0.5 0.01 0.1\n")
    report = split(data, tmp_path / "out", tile=100, val=0.2)
    assert [f.code for f in report.findings] == ["L04"]
    assert report.total.counts.rows_refused == 1
    assert report.task_reason == "151 boxes, 0 outlines"


@pytest.mark.parametrize("background", ["none", 0.5])
def test_background_of_blocks(tmp_path, background):
    data = wide(tmp_path / "data", objects=6)
    report = split(data, tmp_path / "out", tile=60, val=0.3, background=background)
    for part in report.splits.values():
        labelled = part.counts.tiles - part.counts.background
        wanted = 0 if background == "none" else round(labelled * background)
        assert part.counts.background == min(wanted, part.counts.clean)
    kept = {tile for of in report.splits for tile in rows_of(tmp_path / "out", of)}
    assert len(kept) == report.total.counts.tiles


def test_other_labels_make_other_blocks_and_a_run_stands_no_more(tmp_path):
    data = wide(tmp_path / "data")
    split(data, tmp_path / "out", tile=100, val=0.2)
    label = data.root / "labels/train/p0.txt"
    rows = label.read_text().splitlines()
    label.write_text("\n".join(rows[:75]))
    with pytest.raises(tiler.TilerError, match="labels changed since"):
        split(data, tmp_path / "out", tile=100, val=0.2)


def test_one_more_image_may_move_others_which_is_said(tmp_path):
    data = only_train(tmp_path / "data", images=6)
    split(data, tmp_path / "out", val=0.2)
    data.add("q.jpg", "0 0.5 0.5 0.1 0.1\n" * 30, picture(seed=77))
    with pytest.raises(tiler.TilerError, match=r"was added since|would be in the split"):
        split(data, tmp_path / "out", val=0.2)


def test_one_image_of_a_few_is_huge(tmp_path):
    """It holds nearly everything: it is divided, and the small ones stay whole."""
    data = wide(tmp_path / "data", objects=300)
    for i in range(3):
        data.add(f"small{i}.png", "0 0.5 0.5 0.2 0.2\n", picture(120, 120, i + 5))
    report = split(data, tmp_path / "out", tile=100, val=0.2)
    assert report.split_by == "blocks"
    found = images_of(tmp_path / "out")
    assert "p0.jpg" in found["train"]
    assert "p0.jpg" in found["val"]
    small = [name for names in found.values() for name in names if name.startswith("small")]
    assert sorted(small) == ["small0.png", "small1.png", "small2.png"]


def predicted(tmp_path, *splits):
    """The labels of some splits' tiles, as predictions."""
    folder = tmp_path / "-".join(("preds", *splits)) / "labels"
    folder.mkdir(parents=True)
    for name in splits:
        for file in (tmp_path / "out/labels" / name).iterdir():
            rows = [f"{line} 0.9\n" for line in file.read_text().splitlines()]
            (folder / file.name).write_text("".join(rows))
    return folder.parent


def test_merge_finds_the_tiles_of_all_blocks(tmp_path):
    data = wide(tmp_path / "data")
    data.add("small.png", "0 0.5 0.5 0.2 0.2\n", picture(120, 120))
    split(data, tmp_path / "out", tile=100, val=0.2)
    merged = {}
    for splits in (("train", "val"), ("train",), ("val",)):
        preds = predicted(tmp_path, *splits)
        out = tmp_path / f"{preds.name}-merged"
        merged[splits] = tiler.merge(preds, tiles=tmp_path / "out", out=out, workers=1)
        assert [f for f in merged[splits].report.findings if f.level == "error"] == []
    both, train, val = merged.values()
    key = "images/train/p0.jpg"
    assert len(both[key]) == len(train[key]) + len(val[key])
    assert (both.report.left_out, train.report.left_out, val.report.left_out) == (
        [],
        ["val"],
        ["train"],
    )
    assert [f.code for f in both.report.findings] == []
    assert [str(f) for f in val.report.findings] == [
        f"{key}: D16 only its tiles of val; labels elsewhere are no part of its score"
    ]
    perfect = tiler.score(val, data.yaml, split="train", only_predicted=True)
    assert [f.code for f in perfect.findings] == ["S05"]
    assert 0 < perfect.card["labels"] <= len(val[key])
    point = perfect.operating["all"]
    assert (point["labels"], point["fp"], point["fn"]) == (perfect.card["labels"], 0, 0)
    assert perfect.coco["AP50"] == 1
    held = tiler.merge(tmp_path / "preds-val", tiles=tmp_path / "out", workers=1)
    again = tiler.score(held, data.yaml, split="train", only_predicted=True)
    assert (again.coco, again.findings) == (perfect.coco, perfect.findings)
    assert val.sources == [key]
    assert train.sources == [key, "images/train/small.png"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_on_the_way_it_ends_in_the_same_bytes(tmp_path, monkeypatch):
    data = wide(tmp_path / "data", width=1200)
    split(data, tmp_path / "sound", tile=100, val=0.2)
    want = tree(tmp_path / "sound")
    real = writing.save
    for n in (1, 20, len(want) // 2 - 5):
        count = 0

        def save(tile, path, encoding, tags, opener, n=n):
            nonlocal count
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(tile, path, encoding, tags, opener)

        with monkeypatch.context() as patch:
            patch.setattr(writing, "save", save)
            child = in_child(lambda: split(data, tmp_path / "out", tile=100, val=0.2))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        split(data, tmp_path / "out", tile=100, val=0.2)
        assert tree(tmp_path / "out") == want
        shutil.rmtree(tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_block_that_is_another_one_now_is_not_resumed(tmp_path, monkeypatch):
    """Killed after one of two splits; then a second image makes whole images the way to divide."""
    data = wide(tmp_path / "data", width=1200)
    real = writing.save

    def save(tile, path, *more):
        if "/val/" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(tile, path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "save", save)
        child = in_child(lambda: split(data, tmp_path / "out", tile=100, val=0.2))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    for i in range(1, 5):
        shutil.copy(data.root / "labels/train/p0.txt", data.root / f"labels/train/q{i}.txt")
        data.add(f"q{i}.jpg", None, picture(1200, 400, i))
    split(data, tmp_path / "out", tile=100, val=0.2)
    split(data, tmp_path / "sound", tile=100, val=0.2)
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


# --- what cannot be done, and what is said


def test_check_says_what_makes_a_val_split(tmp_path):
    data = only_train(tmp_path / "data", images=2)
    (finding,) = tiler.check(data.yaml).findings
    assert str(finding) == (
        "dataset.yaml: Y03 no val split, which the trainer needs: tiler split --val 0.2 makes one"
    )


def test_without_train_val_stands_in_and_that_is_said(tmp_path):
    data = Dataset(tmp_path / "data").filled(train=0, val=1)
    data.yaml.write_text("val: images/val\nnames: [a, b, c]\n")
    report = split(data, tmp_path / "out")
    assert [f.message for f in report.findings] == [
        "no train split, which the trainer needs: dataset.yaml names val for it"
    ]


def test_an_existing_split_is_not_divided_again(filled, tmp_path):
    with pytest.raises(
        tiler.TilerError, match=r"--val 0.2: .*has a val split already \(1 images\)"
    ):
        split(filled, tmp_path / "out", val=0.2)


@pytest.mark.parametrize("shares", [{"val": 0.5, "test": 0.5}, {"val": 0.7, "test": 0.6}])
def test_something_must_be_left_to_train_on(tmp_path, shares):
    with pytest.raises(tiler.TilerError, match="nothing is left to train on"):
        split(only_train(tmp_path / "data"), tmp_path / "out", **shares)


def test_one_small_image_cannot_be_divided(tmp_path):
    data = only_train(tmp_path / "data", images=1)
    with pytest.raises(tiler.TilerError, match="1 image for 2 splits, and too small"):
        split(data, tmp_path / "out", tile=200, val=0.2)
    assert not (tmp_path / "out").exists()


def test_whole_images_that_miss_the_share_are_a_finding(tmp_path):
    data = only_train(tmp_path / "data", images=2)
    report = split(data, tmp_path / "out", tile=300, val=0.1)
    assert report.split_by == "images"
    (finding, *_) = [f for f in report.findings if f.code == "Y10"]
    assert "--val 0.1: objects are shared as train 50%, val 50%" in finding.message
    assert report.exit_code() == 0


def test_a_class_that_a_split_lacks_is_named(tmp_path):
    data = only_train(tmp_path / "data", images=6)
    for i in range(6):
        rows = "0 0.5 0.5 0.1 0.1\n" * 1 + ("2 0.2 0.2 0.1 0.1\n" if i == 3 else "")
        (data.root / f"labels/train/p{i}.txt").write_text(rows)
    report = split(data, tmp_path / "out", val=0.2)
    assert [f.message for f in report.findings] == ["split val: no object of c"]


def test_images_that_cannot_be_read_stay_and_are_reported_once(tmp_path):
    data = only_train(tmp_path / "data")
    (data.root / "images/train/p3.jpg").write_bytes(b"no image")
    report = split(data, tmp_path / "out", val=0.2)
    assert [(f.path, f.code) for f in report.findings] == [("images/train/p3.jpg", "I02")]
    assert report.exit_code() == 1
    for path in (data.root / "images/train").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(tiler.TilerError, match="none of the images can be read"):
        split(data, tmp_path / "again", val=0.2)


def test_images_without_any_object_are_divided_by_size(tmp_path):
    data = Dataset(tmp_path / "data")
    data.yaml.write_text("train: images/train\nnames: [a]\n")
    for i in range(10):
        data.add(f"p{i}.png", "", picture(200, 100, i))
    report = split(data, tmp_path / "out", tile=100, val=0.2)
    assert [part.counts.sources for part in report.splits.values()] == [8, 2]


def coco_file(folder, images=5):
    entries, annotations = [], []
    for i in range(images):
        picture(300, 200, i).save(folder / f"{i}.png")
        entries.append({"id": i, "file_name": f"{i}.png", "width": 300, "height": 200})
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": [10, 20, 30, 40]})
    content = {"images": entries, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "car"}]
    (folder / "instances_train.json").write_text(json.dumps(content))
    return folder / "instances_train.json"


def test_a_coco_file_without_val(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    file = coco_file(folder)
    report = tiler.split(file, images=folder, out=tmp_path / "plain", tile=200, workers=1)
    (finding,) = report.findings
    assert (finding.code, finding.message) == (
        "Y03",
        "no val split, which the trainer needs: dataset.yaml names train for it; --val 0.2 makes "
        "one",
    )
    report = tiler.split(file, images=folder, out=tmp_path / "out", tile=200, val=0.2, workers=1)
    assert report.findings == []
    assert {name: len(of) for name, of in images_of(tmp_path / "out").items()} == {
        "train": 4,
        "val": 1,
    }


def test_the_command_line(tmp_path):
    only_train(tmp_path / "data")
    done = run("split", "data", "--tile", "128", "--val", "0.2", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0
    assert "train, val by whole images" in done.stdout
    assert done.stderr == ""
    wide(tmp_path / "wide")
    done = run("split", "wide", "--tile", "100", "--val", "0.2", "--out", "w", cwd=tmp_path)
    assert "train, val by blocks, with guard bands of one tile: " in done.stdout
    assert "lost:" not in done.stdout
    done = run("split", "data", "--val", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--val: expected a fraction of at least 0, and below 1, got '1'" in done.stderr


def test_a_split_is_made_of_no_more_than_asked():
    assert (SplitOptions().val, SplitOptions().test) == (0, 0)


def test_turned_images_are_divided_as_they_are_seen(tmp_path):
    data = Dataset(tmp_path / "data", names=("a",))
    data.yaml.write_text("train: images/train\nnames: [a]\n")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: 1200 px high when upright
    rows = "".join(f"0 0.5 {y:.3f} 0.1 0.01\n" for y in np.linspace(0.02, 0.98, 60))
    data.add("a.jpg", rows, picture(1200, 200), exif=exif)
    split(data, tmp_path / "out", tile=100, val=0.2)
    found = windows_of(tmp_path / "out")
    for a, b in itertools.product(found["train"], found["val"]):
        assert max(b[1] - a[3], a[1] - b[3]) >= 100
