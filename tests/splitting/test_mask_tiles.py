"""Class masks (a class per pixel) are cut as their images are."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tiler
from tests.cli.test_cli import run
from tests.conftest import picture, tree
from tests.run.test_planting import killed_after
from tiler.errors import TilerError
from tiler.formats import manifest
from tiler.images.class_masks import ClassMask
from tiler.tiling import chunks

NAMES = ["background", "road", "car"]
SIZE = (130, 90)


def classes(width=SIZE[0], height=SIZE[1], seed=0, values=(0, 1, 2, 255)):
    """Blocks of values, so that tiles have some of them only."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(np.array(values, np.uint8), (height // 7 + 1, width // 9 + 1))
    return np.kron(blocks, np.ones((7, 9), np.uint8))[:height, :width]


class Masked:
    """A dataset of images with class masks, made for a test."""

    def __init__(self, root, names=NAMES, folder="masks", **extra):
        self.root = root
        self.folder = folder
        content = {"train": "images/train", "val": "images/val", "names": names, **extra}
        root.mkdir(parents=True)
        self.yaml = root / "dataset.yaml"
        self.yaml.write_text(yaml.safe_dump(content))

    def add(self, name, mask, split="train", image=None, suffix=".png", **save):
        path = self.root / "images" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = picture(*SIZE, seed=sum(name.encode())) if image is None else image
        image.save(path, **save)
        if mask is not None:
            target = (self.root / self.folder / split / name).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(target)
        return path

    def labelled(self, name, rows, split="train"):
        path = (self.root / "labels" / split / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows)

    def filled(self, count=3):
        for i in range(count):
            self.add(f"t{i}.jpg", classes(seed=i))
        self.add("v.jpg", classes(seed=9), "val")
        return self


@pytest.fixture
def masked(tmp_path):
    return Masked(tmp_path / "data")


def tiles_of(out):
    """Each source of the manifest with each of its tiles, and the values of the tile's mask."""
    for source in manifest.read_sources(out / manifest.NAME):
        for tile in source.tiles:
            with Image.open(out / "masks" / source.split / f"{tile.name}.png") as mask:
                yield source, tile, np.asarray(mask)


def window_of(mask, tile, blank=255):
    """What a tile's mask should be, by a padded copy and a slice."""
    height, width = mask.shape
    padded = np.full((height + 1000, width + 1000), blank, np.uint8)
    padded[:height, :width] = mask
    return padded[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]


@pytest.mark.parametrize("edge", ["shift", "balance", "trim", "pad"])
def test_a_tile_has_the_values_of_its_window(tmp_path, masked, edge):
    masked.filled()
    report = tiler.split(masked.yaml, out=tmp_path / "out", tile=48, edge=edge, workers=1)
    assert (report.task, report.exit_code(), report.total.counts.unlabelled) == ("semantic", 0, 0)
    seen = 0
    for source, tile, mask in tiles_of(tmp_path / "out"):
        number = 9 if source.split == "val" else int(source.source[-5])
        assert np.array_equal(mask, window_of(classes(seed=number), tile))
        seen += 1
    assert seen == report.total.counts.tiles > 20
    assert not (tmp_path / "out/labels").exists()


@pytest.mark.parametrize("scale", [0.5, 0.37, 2])
def test_scaled_masks_have_no_value_that_the_source_has_not(tmp_path, masked, scale):
    masked.filled(1)
    tiler.split(masked.yaml, out=tmp_path / "out", tile=32, scale=scale, edge="pad", workers=1)
    for _, tile, mask in tiles_of(tmp_path / "out"):
        assert set(np.unique(mask)) <= {0, 1, 2, 255}
        with Image.open(next((tmp_path / "out").glob(f"images/*/{tile.name}.jpg"))) as image:
            assert image.size == mask.shape[::-1]
    if scale == 2:  # every pixel twice
        for source, tile, mask in tiles_of(tmp_path / "out"):
            number = 9 if source.split == "val" else 0
            if mask.shape == (2 * tile.h, 2 * tile.w):
                assert np.array_equal(mask[::2, ::2], window_of(classes(seed=number), tile))


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(20, 140),
    height=st.integers(20, 140),
    tile=st.integers(20, 64),
    seed=st.integers(0, 99),
)
def test_a_grid_without_overlap_conserves_every_pixel(tmp_path_factory, width, height, tile, seed):
    root = tmp_path_factory.mktemp("conserved")
    masked = Masked(root / "data")
    mask = classes(width, height, seed)
    image = picture(width, height)
    masked.add("a.png", mask, image=image)
    masked.add("b.png", mask, "val", image=image)
    tiler.split(masked.yaml, out=root / "out", tile=tile, overlap=0, edge="pad", workers=1)
    counts = np.zeros(256, int)
    area = 0
    for source, _, values in tiles_of(root / "out"):
        if source.split == "train":
            counts += np.bincount(values.ravel(), minlength=256)
            area += values.size
    expected = np.bincount(mask.ravel(), minlength=256)
    expected[255] += area - mask.size  # beyond the image
    assert np.array_equal(counts, expected)


COLOURS = [0, 0, 0, 128, 0, 0, 0, 128, 0]


def palette(mask, colours):
    image = Image.fromarray(mask)
    image.putpalette(colours)
    return image


@pytest.mark.parametrize("edge", ["shift", "pad"])
@pytest.mark.parametrize(
    ("mode", "make"),
    [
        ("L", Image.fromarray),
        ("P", lambda mask: palette(mask, COLOURS)),
        ("L", lambda mask: palette(mask, [v for v in range(256) for _ in range(3)])),
        ("L", lambda mask: Image.fromarray((mask == 1).astype(np.uint8) * 255).convert("1")),
        ("L", lambda mask: Image.fromarray(mask.astype(np.uint16))),
        ("L", lambda mask: Image.fromarray(np.repeat(mask[..., None], 3, axis=2))),
    ],
    ids=["grey", "palette", "grey palette", "1 bit", "16 bits", "RGB of grey"],
)
def test_modes(tmp_path, masked, mode, make, edge):
    mask = classes(values=(0, 1, 2))
    masked.add("a.jpg", make(mask))
    masked.add("b.jpg", make(mask), "val")
    tiler.split(masked.yaml, out=tmp_path / "out", tile=64, edge=edge, workers=1)
    expected = mask
    if make(mask).mode == "1":
        expected = (mask == 1).astype(np.uint8)
    for source, tile, values in tiles_of(tmp_path / "out"):
        assert np.array_equal(values, window_of(expected, tile))
        with Image.open(tmp_path / "out/masks" / source.split / f"{tile.name}.png") as image:
            assert image.mode == mode
            if mode == "P":
                assert image.getpalette()[: len(COLOURS)] == COLOURS


def test_the_output_is_a_dataset_with_masks(tmp_path):
    mapping = {-1: "ignore_label", 7: 1, 9: None, 11: 2}
    masked = Masked(tmp_path / "data", folder="ann", masks_dir="ann", label_mapping=mapping)
    mask = classes(values=(0, 7, 9, 11, 255))
    masked.add("a.jpg", mask)
    masked.add("b.jpg", mask, "val")
    out = tmp_path / "out"
    assert tiler.split(masked.yaml, out=out, tile=64, workers=1).exit_code() == 0
    written = yaml.safe_load((out / "dataset.yaml").read_text())
    assert written["masks_dir"] == "masks"
    assert written["label_mapping"] == {-1: 255, 7: 1, 9: 255, 11: 2}
    checked = tiler.check(out / "dataset.yaml")
    assert (checked.task, checked.exit_code(), checked.findings) == ("semantic", 0, [])
    again = tiler.split(out / "dataset.yaml", out=tmp_path / "again", tile=32, workers=1)
    assert again.exit_code() == 0
    for _, tile, values in tiles_of(out):
        assert np.array_equal(values, window_of(mask, tile))


def test_masks_of_another_suffix_count_as_for_the_trainer(tmp_path, masked):
    masked.add("a.jpg", classes(seed=1), suffix=".tif")
    masked.add("b.jpg", classes(seed=2), "val", suffix=".bmp")
    report = tiler.split(masked.yaml, out=tmp_path / "out", tile=64, workers=1)
    assert report.exit_code() == 0
    for source, tile, values in tiles_of(tmp_path / "out"):
        seed = 1 if source.split == "train" else 2
        assert np.array_equal(values, window_of(classes(seed=seed), tile))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("frame", ["stored", "upright"])
def test_an_image_that_exif_turns(tmp_path, masked, orientation, frame):
    """The upright image's mask stays as it is, and the stored image's is turned with it."""
    exif = Image.Exif()
    exif[274] = orientation
    stored = classes(values=(0, 1, 2))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[orientation]
    upright = np.asarray(Image.fromarray(stored).transpose(turn))
    given_mask = stored if frame == "stored" else upright
    masked.add("a.jpg", given_mask, exif=exif)
    masked.add("b.jpg", classes(), "val")
    out = tmp_path / "out"
    options = {"tile": 64, "workers": 1}
    if orientation < 5:
        with pytest.raises(TilerError, match="masks fit the stored as well .*--frame stored or"):
            tiler.split(masked.yaml, out=out, **options)
        assert not out.exists()
        options["frame"] = frame
    report = tiler.split(masked.yaml, out=out, **options)
    assert [f.code for f in report.findings if f.code[0] == "M"] == (
        ["M06"] if frame == "stored" else []
    )
    for source, tile, values in tiles_of(out):
        if source.split == "train":
            assert np.array_equal(values, window_of(upright, tile))


def test_masks_that_cannot_be_used_reject_their_images(tmp_path, masked):
    good = classes()
    masked.yaml.write_text(masked.yaml.read_text() + "masks_dir: masks\n")
    masked.add("a.jpg", good)
    masked.add("v.jpg", good, "val")
    masked.add("missing.jpg", None)
    masked.add("small.jpg", good[:50])
    masked.add("values.jpg", classes(values=(0, 3, 9)))
    masked.add("colour.jpg", picture(*SIZE))
    masked.add("deep.jpg", Image.fromarray(np.full((90, 130), 300, np.uint16)))
    masked.add("text.jpg", good)
    (masked.root / "masks/train/text.png").write_text("no image")
    masked.add("lossy.jpg", good, suffix=".jpg")
    masked.add("alone.jpg", good).unlink()
    report = tiler.split(masked.yaml, out=tmp_path / "out", tile=64, workers=1)
    lines = sorted(str(finding) for finding in report.findings)
    assert lines == [
        "images/train/missing.jpg: M01 no mask, expected masks/train/missing.png",
        "masks/train/alone.png: M07 a mask without an image",
        "masks/train/colour.png: M02 colours (RGB), expected a class for each pixel",
        "masks/train/deep.png: M02 values up to 300; classes go up to 255",
        "masks/train/lossy.jpg: M02 a lossy JPEG, which changes values; expected PNG",
        "masks/train/small.png: M03 130 x 50 px, the image is 130 x 90",
        "masks/train/text.png: M02 not an image of a known format; it begins with 'no image'",
        "masks/train/values.png: M04 values 3, 9; expected classes 0 to 2, or 255 for what is "
        "ignored",
    ]
    assert report.exit_code() == 1
    assert report.total.counts.refused == 7
    checked = tiler.check(masked.yaml)
    assert {f.code for f in checked.findings} == {"M01", "M02", "M03", "M04", "M07"}


def test_a_split_without_masks(tmp_path, masked):
    masked.filled()
    masked.yaml.write_text(masked.yaml.read_text() + "test: images/test\n")
    masked.add("x.jpg", None, "test")
    report = tiler.split(masked.yaml, out=tmp_path / "out", tile=64, workers=1)
    assert [f.code for f in report.findings] == ["Y08"]
    assert list((tmp_path / "out/images/test").iterdir())
    assert not (tmp_path / "out/masks/test").exists()
    assert tiler.check(tmp_path / "out").exit_code() == 1  # the same warning
    for mask in (masked.root / "masks/val").iterdir():
        mask.unlink()
    with pytest.raises(TilerError, match="split val: no mask for any .* such as masks/val/v.png"):
        tiler.split(masked.yaml, out=tmp_path / "other", tile=64)


ROWS = "1 0.2 0.2 0.1 0.1\n2 0.7 0.6 0.3 0.2\n"


def test_labels_and_masks_are_both_cut(tmp_path, masked):
    masked.filled()
    for name, split in (("t0.jpg", "train"), ("t1.jpg", "train"), ("v.jpg", "val")):
        masked.labelled(name, ROWS, split)
    out = tmp_path / "out"
    report = tiler.split(masked.yaml, out=out, tile=64, workers=1)
    assert report.task == "detect"
    assert report.total.objects.objects == 6
    count = report.total.counts.tiles
    assert count == len(list(out.glob("labels/*/*.txt"))) == len(list(out.glob("masks/*/*.png")))
    assert tiler.check(out).exit_code() == 0
    boxes = tiler.split(masked.yaml, out=tmp_path / "boxes", tile=64, task="detect", workers=1)
    assert boxes.task == "detect"
    assert not (tmp_path / "boxes/masks").exists()
    only = tiler.split(masked.yaml, out=tmp_path / "only", tile=64, task="semantic", workers=1)
    assert (only.task, only.total.objects.objects) == ("semantic", 0)
    assert not (tmp_path / "only/labels").exists()


def test_labels_and_masks_in_the_layout_of_roboflow(tmp_path, masked):
    masked.filled(1)
    masked.labelled("t0.jpg", ROWS)
    masked.labelled("v.jpg", ROWS, "val")
    out = tmp_path / "out"
    options = {"tile": 64, "export": "coco-roboflow", "workers": 1}
    report = tiler.split(masked.yaml, out=out, **options)
    assert len(list(out.glob("*/masks/*.png"))) == report.total.counts.tiles
    assert len(list(out.glob("*/labels/*.txt"))) == report.total.counts.tiles
    (out / "valid/masks.cache").write_bytes(b"the trainer's")
    assert tiler.split(masked.yaml, out=out, **options).unchanged
    checked = tiler.check(out)
    assert (checked.exit_code(), checked.task) == (0, "detect")
    (out / "train/images").joinpath("other.txt").write_text("not ours")
    with pytest.raises(TilerError, match="other.txt"):
        tiler.split(masked.yaml, out=out, overwrite=True, **options)
    with pytest.raises(TilerError, match="--export coco: --task semantic does not use it"):
        tiler.split(masked.yaml, out=tmp_path / "b", task="semantic", export="coco")


def test_a_val_split_is_made_with_its_masks(tmp_path):
    masked = Masked(tmp_path / "data")
    masked.yaml.write_text("train: images/train\nnames: [background, road, car]\n")
    for i in range(5):
        masked.add(f"t{i}.jpg", classes(seed=i))
    out = tmp_path / "out"
    report = tiler.split(masked.yaml, out=out, tile=64, val=0.2, workers=1)
    assert (report.exit_code(), report.splits["val"].counts.sources) == (0, 1)
    for source, tile, mask in tiles_of(out):
        assert np.array_equal(mask, window_of(classes(seed=int(source.source[-5])), tile))
    assert tiler.check(out).exit_code() == 0


def test_a_val_split_of_blocks_has_its_part_of_the_mask(tmp_path):
    masked = Masked(tmp_path / "data")
    masked.yaml.write_text("train: images/train\nnames: [background, road, car]\n")
    mask = classes(900, 300)
    masked.add("big.jpg", mask, image=picture(900, 300))
    out = tmp_path / "out"
    report = tiler.split(masked.yaml, out=out, tile=64, val=0.2, workers=1)
    assert all(split.counts.tiles for split in report.splits.values())
    assert len(report.splits) == 2
    for _, tile, values in tiles_of(out):
        assert np.array_equal(values, window_of(mask, tile))


def test_what_is_painted_out_is_ignored(tmp_path, masked):
    mask = np.ones(SIZE[::-1], np.uint8)
    for name, split in (("a.png", "train"), ("v.png", "val")):
        masked.add(name, mask, split)
        masked.labelled(name, "1 0.5 0.5 0.4 0.4\n", split)
    out = tmp_path / "out"
    options = {"tile": 64, "overlap": 0, "edge": "trim", "min_visible": 0.9, "rescue": False}
    tiler.split(masked.yaml, out=out, truncated="mask", workers=1, **options)
    painted = 0
    for source, tile, values in tiles_of(out):
        with Image.open(out / "images" / source.split / f"{tile.name}.png") as image:
            is_grey = (np.asarray(image) == 114).all(axis=-1)
        with Image.open(masked.root / source.source) as image:
            box = (tile.x, tile.y, tile.x + tile.w, tile.y + tile.h)
            was_grey = (np.asarray(image.crop(box)) == 114).all(axis=-1)
        assert np.array_equal(is_grey & ~was_grey, (values == 255) & ~was_grey)
        painted += (values == 255).sum()
    assert painted >= 2 * 52 * 36


def test_a_folder_that_is_only_called_masks(tmp_path, filled):
    """Another use of that name changes nothing for a dataset of boxes."""
    (filled.root / "masks").mkdir()
    Image.fromarray(classes()).save(filled.root / "masks/p0.png")
    report = tiler.split(filled.yaml, out=tmp_path / "out", tile=200, workers=1)
    assert (report.task, report.exit_code(), report.findings) == ("detect", 0, [])
    assert not (tmp_path / "out/masks").exists()
    with pytest.raises(TilerError, match="split train: no mask for any"):
        tiler.split(filled.yaml, out=tmp_path / "other", tile=200, task="semantic")


def test_semantic_needs_masks(tmp_path, filled):
    with pytest.raises(TilerError, match="--task semantic needs masks: masks_dir"):
        tiler.split(filled.yaml, out=tmp_path / "out", task="semantic")
    with pytest.raises(TilerError, match="--min-size 5.*: --task semantic does not use it"):
        tiler.split(filled.yaml, out=tmp_path / "out", task="semantic", min_size=5)


@pytest.mark.parametrize(
    ("names", "values", "background"),
    [
        (NAMES, (0, 255), True),
        (NAMES, (0, 1), False),
        (["road", "car"], (0, 0), False),  # no class is the background
        (["road", "car"], (255, 255), True),
        (["car"], (0, 0), True),  # a single class is 1
        (["car"], (0, 1), False),
    ],
)
def test_which_tiles_are_background(tmp_path, names, values, background):
    masked = Masked(tmp_path / "data", names)
    mask = np.full(SIZE[::-1], values[0], np.uint8)
    mask[:5, :5] = values[1]
    masked.add("a.jpg", mask)
    masked.add("v.jpg", mask, "val")
    out = tmp_path / "out"
    report = tiler.split(masked.yaml, out=out, tile=130, edge="trim", workers=1)
    counts = report.total.counts
    assert counts.background == (counts.tiles if background else 0)
    assert [f.code for f in report.findings] == (["M05"] if background else [])
    bare = tiler.split(masked.yaml, dry_run=True, tile=130, background="none", workers=1)
    assert bare.total.counts.tiles == (0 if background else counts.tiles)


def test_a_ratio_of_background(tmp_path, masked):
    mask = np.zeros((200, 200), np.uint8)
    mask[:30, :30] = 1
    for name, split in (("a.png", "train"), ("v.png", "val")):
        masked.add(name, mask, split, picture(200, 200))
    options = {"tile": 50, "overlap": 0, "workers": 1}
    report = tiler.split(masked.yaml, out=tmp_path / "out", background=2, **options)
    assert (report.total.counts.tiles, report.total.counts.background) == (6, 4)


def test_255_that_is_a_class_leaves_nothing_to_fill_with(tmp_path):
    masked = Masked(tmp_path / "data", ["car"], label_mapping={255: 1})
    masked.add("a.jpg", classes(values=(0, 255)))
    masked.add("v.jpg", classes(values=(0, 255)), "val")
    with pytest.raises(TilerError, match="--edge pad: label_mapping makes a class of 255"):
        tiler.split(masked.yaml, out=tmp_path / "out", tile=64, edge="pad")
    report = tiler.split(masked.yaml, out=tmp_path / "out", tile=64, workers=1)
    assert report.findings == []
    for _, tile, values in tiles_of(tmp_path / "out"):
        expected = classes(values=(0, 255))
        assert np.array_equal(values, window_of(expected, tile))


def test_the_same_bytes_for_any_number_of_workers(tmp_path, masked):
    masked.filled(6)
    options = {"tile": 48, "scale": "1,0.5", "edge": "pad"}
    tiler.split(masked.yaml, out=tmp_path / "one", workers=1, **options)
    tiler.split(masked.yaml, out=tmp_path / "four", workers=4, **options)
    tiler.split(masked.yaml, out=tmp_path / "loky", workers=2, backend="loky", **options)
    assert tree(tmp_path / "one") == tree(tmp_path / "four") == tree(tmp_path / "loky")


@pytest.mark.parametrize("count", [3, 6, 7, 8, 20, 31, 44, 50])
def test_killed_and_run_again(tmp_path, masked, monkeypatch, count):
    """The next run ends in the same bytes, wherever it was killed, and with another mask."""
    monkeypatch.setattr(chunks, "CHUNK_FILES", 1)
    masked.filled()
    options = {"tile": 64, "workers": 1}
    with killed_after(count, monkeypatch):
        tiler.split(masked.yaml, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    Image.fromarray(classes(seed=50)).save(masked.root / "masks/train/t0.png")
    tiler.split(masked.yaml, out=tmp_path / "out", **options)
    tiler.split(masked.yaml, out=tmp_path / "clean", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "clean")


def test_a_resumed_run_takes_what_is_done(tmp_path, masked, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_FILES", 1)
    masked.filled()
    options = {"tile": 64, "workers": 1}
    with killed_after(40, monkeypatch):
        tiler.split(masked.yaml, out=tmp_path / "out", **options)
    written = []
    real = ClassMask.png
    monkeypatch.setattr(ClassMask, "png", lambda mask: written.append(mask) or real(mask))
    report = tiler.split(masked.yaml, out=tmp_path / "out", **options)
    assert 0 < len(written) <= report.total.counts.tiles / 2


def test_what_changed_since_is_noticed(tmp_path, masked):
    masked.filled()
    out = tmp_path / "out"
    first = tiler.split(masked.yaml, out=out, tile=64, workers=1)
    assert tiler.split(masked.yaml, out=out, tile=64, workers=1).unchanged
    before = tree(out)
    gone = next((out / "masks/train").iterdir())
    kept = gone.read_bytes()
    gone.unlink()
    with pytest.raises(TilerError, match=f"1 files of tiles are missing .masks/train/{gone.stem}"):
        tiler.split(masked.yaml, out=out, tile=64, workers=1)
    assert "T01" in {f.code for f in tiler.check(out).findings}
    gone.write_bytes(kept + b"x")
    with pytest.raises(TilerError, match="some were changed since"):
        tiler.split(masked.yaml, out=out, tile=64, workers=1)
    gone.write_bytes(kept)
    (out / "masks/train.cache").write_bytes(b"the trainer's")
    Image.fromarray(classes(seed=77)).save(masked.root / "masks/train/t1.png")
    with pytest.raises(TilerError, match="images/train/t1.jpg or its labels changed since"):
        tiler.split(masked.yaml, out=out, tile=64, workers=1)
    again = tiler.split(masked.yaml, out=out, tile=64, workers=1, overwrite=True)
    assert again.total.counts.tiles == first.total.counts.tiles
    after = tree(out)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed
    assert all("t1__" in p or p in ("tiles.jsonl", "report.json") for p in changed)


def test_merge_and_score_say_that_they_do_not_take_masks(tmp_path, masked):
    masked.filled()
    out = tmp_path / "out"
    tiler.split(masked.yaml, out=out, tile=64, workers=1)
    (tmp_path / "preds").mkdir()
    with pytest.raises(TilerError, match="masks are not merged"):
        tiler.merge(tmp_path / "preds", tiles=out, out=tmp_path / "merged")
    declared = Masked(tmp_path / "declared", masks_dir="masks").filled()
    with pytest.raises(TilerError, match="masks are not scored"):
        tiler.score(tmp_path / "preds", declared.yaml)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"masks_dir": ["a"]}, "masks_dir is the name of a folder"),
        ({"masks_dir": "/"}, "masks_dir is the name of a folder"),
        ({"masks_dir": "masks", "label_mapping": [1]}, "label_mapping maps values to classes"),
        ({"masks_dir": "masks", "label_mapping": {"a": 1}}, "label_mapping has whole numbers"),
        ({"masks_dir": "masks", "label_mapping": {1: 300}}, "makes 300 of 1, expected 0 to 255"),
        ({"masks_dir": "masks", "label_mapping": {1: -1}}, "makes -1 of 1, expected 0 to 255"),
    ],
)
def test_a_yaml_that_is_wrong(tmp_path, keys, message):
    masked = Masked(tmp_path / "data", **keys)
    masked.add("a.jpg", classes())
    masked.add("v.jpg", classes(), "val")
    with pytest.raises(TilerError, match=message):
        tiler.split(masked.yaml, out=tmp_path / "out")


def test_from_the_command_line(tmp_path, masked):
    masked.filled()
    done = run("split", masked.yaml, "--tile", 64, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    first, head, *rows, last = done.stdout.splitlines()
    assert first == f"semantic dataset (masks, and no label files) in {masked.root}"
    assert head.split() == ["split", "sources", "tiles", "background"]
    assert [row.split()[0] for row in rows] == ["train", "val", "all"]
    assert last == str(tmp_path / "out")
    done = run("check", tmp_path / "out")
    assert done.returncode == 0
    done = run(
        "split", masked.yaml, "--config", tmp_path / "out/args.yaml", "--out", tmp_path / "b"
    )
    assert done.returncode == 0
    assert tree(tmp_path / "b") == tree(tmp_path / "out")
    done = run("merge", tmp_path, "--task", "semantic")
    assert done.returncode == 2
