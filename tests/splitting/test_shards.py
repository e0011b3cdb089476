"""--layout tar: shards of tiles."""

import json
import os
import random
import shutil
import signal
import tarfile
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiler
from examples.simulate import simulate
from tests.cli.test_cli import run
from tests.conftest import Dataset, picture, tree
from tests.splitting.test_mask_tiles import Masked
from tests.splitting.test_placed import NORTH_UP, world
from tests.splitting.test_split import in_child, stop
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.formats import manifest, shards
from tiler.images import lossless, writing
from tiler.splitting import packing
from tiler.splitting import shards as shard_writing

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shard_writing, "LIMIT", 60_000)


def split(data, out, **options):
    options = {"tile": 96, "workers": 1, "layout": "tar", **options}
    return tiler.split(getattr(data, "yaml", data), out=out, **options)


def members(out, split="train"):
    """{name: content} of all shards of a split, in order."""
    found = {}
    for path in sorted(out.glob(f"{split}-*.tar")):
        with tarfile.open(path) as shard:
            for info in shard:
                assert info.name not in found
                found[info.name] = shard.extractfile(info).read()
    return found


# --- What is in them


def test_they_hold_the_files_of_a_flat_output(filled, tmp_path):
    report = split(filled, tmp_path / "out")
    split(filled, tmp_path / "flat", layout="flat")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*report.shards, "args.yaml", "report.json", "tiles.jsonl"]
    )
    for name in ("train", "val"):
        found = members(tmp_path / "out", name)
        flat = {}
        for folder in ("images", "labels"):
            for path in (tmp_path / "flat" / folder / name).iterdir():
                flat[path.name] = path.read_bytes()
        assert {n: c for n, c in found.items() if not n.endswith(".json")} == flat
    flat = list(manifest.read_sources(tmp_path / "flat/tiles.jsonl"))
    assert list(manifest.read_sources(tmp_path / "out/tiles.jsonl")) == flat
    for entry in flat:
        for tile in entry.tiles:
            content = json.loads(members(tmp_path / "out", entry.split)[f"{tile.name}.json"])
            assert (content["source"], content["split"]) == (entry.source, entry.split)
            assert [tuple(row) for row in content["rows"]] == tile.rows
            assert (content["x"], content["y"], content["scale"]) == (tile.x, tile.y, 1)


def test_files_of_a_tile_are_together_in_the_order_of_the_manifest(filled, tmp_path):
    split(filled, tmp_path / "out")
    names = [name for name in members(tmp_path / "out") if name.endswith(".jpg")]
    tiles = [
        f"{tile.name}.jpg"
        for entry in manifest.read_sources(tmp_path / "out/tiles.jsonl")
        for tile in entry.tiles
        if entry.split == "train"
    ]
    assert names == tiles
    every = list(members(tmp_path / "out"))
    for i, name in enumerate(names):
        stem = name.removesuffix(".jpg")
        assert every[3 * i : 3 * i + 3] == [name, f"{stem}.txt", f"{stem}.json"]


def test_shards_are_as_large_as_may_be_and_closed_as_tar_does(filled, tmp_path):
    report = split(filled, tmp_path / "out")
    files = sorted((tmp_path / "out").glob("train-*.tar"))
    assert len(files) > 3
    assert [path.name for path in files] == [f"train-{i:06}.tar" for i in range(len(files))]
    for path in files:
        assert report.shards[path.name] == path.stat().st_size
        assert path.stat().st_size % tarfile.RECORDSIZE == 0
        assert path.read_bytes()[-1024:] == bytes(1024)
    assert all(path.stat().st_size <= 60_000 + tarfile.RECORDSIZE for path in files)
    assert all(path.stat().st_size > 40_000 for path in files[:-1])


def test_nothing_of_time_or_user_is_in_them(filled, tmp_path):
    split(filled, tmp_path / "out")
    with tarfile.open(tmp_path / "out/train-000000.tar") as shard:
        for info in shard:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
            assert info.mode == 0o644


def test_a_tile_larger_than_a_shard_has_one_of_its_own(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writing, "LIMIT", 1)
    report = split(filled, tmp_path / "out")
    assert len(report.shards) == report.total.counts.tiles


@quick
@given(st.lists(st.lists(st.integers(1, 70), max_size=6), max_size=8))
def test_where_tiles_go_depends_on_their_sizes_only(sources):
    """Also where some are taken back and placed again."""
    series = shard_writing._Series()
    again = shard_writing._Series()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writing, "LIMIT", 50)
        for sizes in sources:
            before = list(again.sizes)
            again.take_back(again.place(sizes))
            assert again.sizes == before
            pieces = series.place(sizes)
            assert pieces == again.place(sizes)
            assert sum(piece.size for piece in pieces) == sum(sizes)
    assert sum(series.sizes) == sum(map(sum, sources))
    assert all(size <= 70 for size in series.sizes)


@quick
@given(st.text(min_size=1, max_size=150), st.binary(max_size=2000))
def test_tar_reads_what_is_written_whatever_the_name(name, content):
    import io

    name = name.replace("\0", "_").strip("/") or "x"
    data = shards.member(name, content)
    with tarfile.open(fileobj=io.BytesIO(data + shards.ending(len(data)))) as shard:
        (info,) = shard
        assert shard.extractfile(info).read() == content
        assert info.name == name
    assert (len(data) + len(shards.ending(len(data)))) % tarfile.RECORDSIZE == 0


def test_names_that_end_at_a_dot_would_be_no_keys(tmp_path):
    """webdataset takes what is before the first dot of a name for the key."""
    data = Dataset(tmp_path / "data")
    for i, name in enumerate(("a.b.png", "a-b.png", "a.png", "\N{SNOWMAN}.1.png")):
        data.add(name, "0 0.5 0.5 0.1 0.1\n", picture(96, 96, seed=i))
    data.add("v.png", "", picture(96, 96), "val")
    split(data, tmp_path / "out")
    keys = [name.split(".", 1) for name in members(tmp_path / "out")]
    assert {suffix for _, suffix in keys} == {"png", "txt", "json"}
    tiles = [
        tile.name
        for entry in manifest.read_sources(tmp_path / "out/tiles.jsonl")
        for tile in entry.tiles
        if entry.split == "train"
    ]
    assert sorted({key for key, _ in keys}) == sorted(tiles)
    assert len(tiles) == 4


def test_class_masks_and_world_files(tmp_path):
    data = Masked(tmp_path / "data", masks_dir="masks").filled()
    for path in (tmp_path / "data/images/train").glob("*.jpg"):
        path.with_suffix(".jgw").write_text(world(NORTH_UP))
    split(data, tmp_path / "out", tile=64, format="png")
    split(data, tmp_path / "flat", tile=64, format="png", layout="flat")
    found = members(tmp_path / "out")
    masks = sorted((tmp_path / "flat/masks/train").iterdir())
    assert masks
    for path in masks:
        assert found[f"{path.stem}.mask.png"] == path.read_bytes()
        image = (tmp_path / "flat/images/train" / path.stem).with_suffix(".wld")
        assert found[f"{path.stem}.wld"] == image.read_bytes()


@pytest.mark.skipif(lossless.missing() is not None, reason="the extra `lossless` is not installed")
def test_coefficients_that_are_kept(filled, tmp_path):
    report = split(filled, tmp_path / "out", jpeg="keep")
    split(filled, tmp_path / "flat", jpeg="keep", layout="flat")
    assert report.total.counts.copied
    for path in (tmp_path / "flat/images/train").iterdir():
        assert members(tmp_path / "out")[path.name] == path.read_bytes()


def test_images_without_labels(tmp_path):
    (tmp_path / "pictures").mkdir()
    picture(200, 100).save(tmp_path / "pictures/a.png")
    report = split(tmp_path / "pictures", tmp_path / "out")
    assert set(report.shards) == {f"images-{i:06}.tar" for i in range(len(report.shards))}
    names = members(tmp_path / "out", "images")
    assert {name.split(".")[1] for name in names} == {"png", "json"}


def test_a_split_without_tiles_has_no_shard(dataset, tmp_path):
    dataset.add("a.png", "0 0.5 0.5 0.1 0.1\n")
    dataset.add("v.png", "", split="val")
    report = split(dataset, tmp_path / "out", background="none")
    assert not list((tmp_path / "out").glob("val*"))
    assert report.splits["val"].counts.tiles == 0
    assert split(dataset, tmp_path / "out", background="none").unchanged


# --- The same bytes


@pytest.mark.parametrize(
    ("backend", "workers"), [("threading", 2), ("threading", 5), ("loky", 2), ("sequential", 1)]
)
def test_workers_change_no_byte(filled, tmp_path, backend, workers):
    split(filled, tmp_path / "one")
    split(filled, tmp_path / "other", workers=workers, backend=backend)
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


@needs_fork
def test_killed_after_each_written_file_it_ends_in_the_same_bytes(tmp_path, monkeypatch):
    data = Dataset(tmp_path / "data").filled(size=(200, 150))
    split(data, tmp_path / "sound", tile=64)
    want = tree(tmp_path / "sound")
    total = len(list(members(tmp_path / "sound"))) // 3 + 12
    steps = [(writing, "save"), (packing, "member"), (shard_writing.Shards, "_append")]
    for where, name in steps:
        for n in range(1, total, 5):
            monkeypatch.undo()
            monkeypatch.setattr(shard_writing, "LIMIT", 60_000)
            real = getattr(where, name)
            count = 0

            def killing(*args, real=real, n=n):
                nonlocal count
                result = real(*args)
                count += 1
                if count == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            with monkeypatch.context() as patch:
                patch.setattr(where, name, killing)
                child = in_child(lambda: split(data, tmp_path / "out", tile=64))
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != -signal.SIGKILL:
                assert code == 0  # fewer calls than n
                shutil.rmtree(tmp_path / "out")
                break
            assert not (tmp_path / "out").exists()
            split(data, tmp_path / "out", tile=64)
            assert tree(tmp_path / "out") == want
            assert not (tmp_path / ".out.partial").exists()
            shutil.rmtree(tmp_path / "out")


@needs_fork
def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path):
    data = Dataset(tmp_path / "data").filled(train=6, size=(300, 200))
    start = time.perf_counter()
    split(data, tmp_path / "sound", tile=64)
    latest = time.perf_counter() - start
    want = tree(tmp_path / "sound")
    rng = random.Random(0)
    killed = 0
    for _ in range(100):
        child = in_child(
            lambda: split(data, tmp_path / "out", tile=64, workers=2, backend="threading")
        )
        time.sleep(rng.uniform(0, latest))
        os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL:
            killed += 1
        else:
            latest *= 0.8  # it was done before
        if killed < 12 and rng.random() < 0.5:  # killed again on the way
            continue
        split(data, tmp_path / "out", tile=64)
        assert tree(tmp_path / "out") == want
        shutil.rmtree(tmp_path / "out")
        if killed >= 12:
            break
    assert killed >= 12


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that ends early, and how often each source was packed since."""
    data = Dataset(tmp_path / "data").filled(train=6, size=(200, 150))
    real = shard_writing.Shards.add
    packs = []

    def add(self, source, outcome):
        real(self, source, outcome)
        if source.key.endswith("p4.jpg"):
            stop()

    with monkeypatch.context() as patch:
        patch.setattr(shard_writing.Shards, "add", add)
        with pytest.raises(tiler.Unfinished, match="stopped"):
            split(data, tmp_path / "out")
    monkeypatch.setattr(
        shard_writing.Shards,
        "add",
        lambda self, source, outcome: (
            packs.append(source.key[-6:-4]) or real(self, source, outcome)
        ),
    )
    return data, packs


def require_resumed(data, tmp_path):
    split(data, tmp_path / "out")
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_what_is_in_the_shards_is_not_done_again(stopped, tmp_path):
    data, packs = stopped
    split(data, tmp_path / "out")
    assert packs == ["p4", "p5", "p6"]  # the journal has those before
    packs.clear()
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_from_a_changed_source_on_all_is_done_again(stopped, tmp_path):
    data, packs = stopped
    (data.root / "labels/train/p2.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    split(data, tmp_path / "out")
    assert packs[0] == "p2"
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_a_source_added_before_or_removed(stopped, tmp_path):
    data, packs = stopped
    data.add("o.jpg", "0 0.5 0.5 0.5 0.5\n", picture(100, 100))
    (data.root / "images/train/p1.jpg").unlink()
    split(data, tmp_path / "out")
    assert packs[0].endswith("o")
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_a_source_that_is_rejected_again_costs_nothing(tmp_path, monkeypatch):
    data = Dataset(tmp_path / "data").filled(train=4, size=(200, 150))
    data.add("a.jpg", "0 0.5 0.5 0.1 0.1\n", b"no image")
    real = shard_writing.Shards.add
    packs = []

    def add(self, source, outcome):
        packs.append(source.key)
        real(self, source, outcome)
        if len(packs) == 4:
            stop()

    monkeypatch.setattr(shard_writing.Shards, "add", add)
    with pytest.raises(tiler.Unfinished):
        split(data, tmp_path / "out")
    packs[:] = [""] * 4
    report = split(data, tmp_path / "out")
    assert packs[4] == "images/train/p2.jpg"  # the first one that is not in the journal
    assert report.exit_code() == 1
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_a_shard_that_was_changed_meanwhile_is_made_again(stopped, tmp_path):
    data, packs = stopped
    path = tmp_path / ".out.partial/tree/train-000000.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)
    split(data, tmp_path / "out")
    assert packs[0] == "p0"
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_a_shard_in_whose_place_is_a_link_is_never_written_through(stopped, tmp_path):
    data, _ = stopped
    path = tmp_path / ".out.partial/tree/train-000001.tar"
    (tmp_path / "mine").write_text("mine")
    path.unlink()
    path.symlink_to(tmp_path / "mine")
    split(data, tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "mine"
    split(data, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_a_full_disk_ends_the_run_which_is_resumed(filled, tmp_path, monkeypatch):
    real = shard_writing.Shards._append
    calls = []

    def failing(self, name, piece, part):
        calls.append(name)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(self, name, piece, part)

    monkeypatch.setattr(shard_writing.Shards, "_append", failing)
    with pytest.raises(tiler.Unfinished, match="No space left"):
        split(filled, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    require_resumed(filled, tmp_path)


def test_progress_counts_every_source_once(stopped, tmp_path):
    data, _ = stopped
    (data.root / "labels/train/p2.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    seen = []
    report = tiler.split(
        data.yaml, out=tmp_path / "out", tile=96, workers=1, layout="tar", progress=seen.append
    )
    assert [p.done for p in seen] == list(range(1, 8))
    assert {p.total for p in seen} == {7}
    assert seen[-1].tiles == report.total.counts.tiles


# --- An output that is there


def test_running_again_says_so(filled, tmp_path):
    first = split(filled, tmp_path / "out")
    before = tree(tmp_path / "out")
    again = split(filled, tmp_path / "out")
    assert again.unchanged
    assert again.shards == first.shards
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out, data: (out / "train-000001.tar").unlink(), "train-000001.tar is missing"),
        (
            lambda out, data: (out / "train-000001.tar").write_bytes(b"x"),
            "train-000001.tar has 1 bytes, it had",
        ),
        (
            lambda out, data: (data.root / "labels/train/p0.txt").write_text("0 .5 .5 .1 .1\n"),
            "p0.jpg or its labels changed since",
        ),
    ],
    ids=["gone", "cut", "source"],
)
def test_what_changed_is_named_and_overwrite_makes_it_anew(filled, tmp_path, change, message):
    split(filled, tmp_path / "out")
    change(tmp_path / "out", filled)
    with pytest.raises(TilerError, match=message):
        split(filled, tmp_path / "out")
    split(filled, tmp_path / "out", overwrite=True)
    split(filled, tmp_path / "sound")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")


def test_one_layout_is_not_taken_for_the_other(filled, tmp_path):
    split(filled, tmp_path / "out")
    with pytest.raises(TilerError, match="layout tar -> flat|layout tar -> None"):
        split(filled, tmp_path / "out", layout="flat")
    split(filled, tmp_path / "flat", layout="flat")
    with pytest.raises(TilerError, match="layout None -> tar"):
        split(filled, tmp_path / "flat")
    split(filled, tmp_path / "out", layout="flat", overwrite=True)
    assert tree(tmp_path / "out") == tree(tmp_path / "flat")


def test_overwrite_deletes_no_foreign_tar(filled, tmp_path):
    split(filled, tmp_path / "out")
    (tmp_path / "out/mine-000000.tar").write_bytes(b"mine")
    with pytest.raises(TilerError, match="mine-000000.tar is not made by tiler"):
        split(filled, tmp_path / "out", overwrite=True)


def test_a_dry_run_counts_the_same(filled, tmp_path):
    report = split(filled, tmp_path / "out")
    dry = split(filled, tmp_path / "dry", dry_run=True)
    assert dry.total.counts.tiles == report.total.counts.tiles
    assert not (tmp_path / "dry").exists()


# --- What comes after


def test_predictions_on_the_tiles_are_merged_and_scored(filled, tmp_path):
    """By the manifest; the labels of the tiles are read from the shards."""
    split(filled, tmp_path / "out")
    split(filled, tmp_path / "flat", layout="flat")
    simulate(tmp_path / "flat", tmp_path / "preds")
    found = {}
    for name in ("out", "flat"):
        tiler.merge(tmp_path / "preds", tiles=tmp_path / name, out=tmp_path / f"merged-{name}")
        done = run(
            "score",
            tmp_path / f"merged-{name}",
            "--data",
            filled.yaml,
            "--tiles",
            tmp_path / name,
            "--tile-preds",
            tmp_path / "preds",
            "--json",
        )
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout)
    merged = [(tmp_path / f"merged-{name}/merged.jsonl").read_text() for name in ("out", "flat")]
    assert merged[0].splitlines()[1:] == merged[1].splitlines()[1:]
    assert "AP on tiles" not in json.dumps(found["flat"])  # as left out
    assert found["out"]["efficiency"] == found["flat"]["efficiency"]
    assert found["out"]["efficiency"]


@pytest.mark.parametrize("verb", ["check", "plan", "show", "split"])
def test_it_is_no_dataset_and_says_so(filled, tmp_path, verb):
    split(filled, tmp_path / "out")
    done = run(verb, tmp_path / "out")
    assert done.returncode == 2
    assert "its tiles are in shards (--layout tar), which webdataset reads" in done.stderr


def test_the_command_says_how_many_shards(filled, tmp_path):
    done = run("split", filled.yaml, "--layout", "tar", "--tile", "96", "--out", tmp_path / "out")
    assert done.returncode == 0
    assert "shards: 2, 0.000" in done.stdout
    assert "Y03" not in done.stderr


def test_no_val_is_no_matter_where_there_is_no_yaml(dataset, tmp_path):
    dataset.add("a.png", "0 0.5 0.5 0.1 0.1\n")
    dataset.yaml.write_text(dataset.yaml.read_text().replace("val: images/val\n", ""))
    assert split(dataset, tmp_path / "out").findings == []
    report = split(dataset, tmp_path / "flat", layout="flat")
    assert [finding.code for finding in report.findings] == ["Y03"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_webdataset_reads_them(filled, tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    split(filled, tmp_path / "out", format="png")
    split(filled, tmp_path / "flat", format="png", layout="flat")
    paths = sorted(map(str, (tmp_path / "out").glob("train-*.tar")))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False).decode("pil"))
    entries = [
        (entry, tile)
        for entry in manifest.read_sources(tmp_path / "flat/tiles.jsonl")
        for tile in entry.tiles
        if entry.split == "train"
    ]
    assert [sample["__key__"] for sample in samples] == [tile.name for _, tile in entries]
    for sample, (entry, tile) in zip(samples, entries, strict=True):
        with Image.open(tmp_path / f"flat/images/train/{tile.name}.png") as image:
            np.testing.assert_array_equal(np.array(sample["png"]), np.array(image))
        text = tmp_path / f"flat/labels/train/{tile.name}.txt"
        assert sample["txt"] == text.read_text()
        assert sample["json"]["source"] == entry.source
