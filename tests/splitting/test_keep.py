"""`--jpeg keep`: tiles have the coefficients of their source where they can, and its tables
everywhere.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

import tiler
from tests.conftest import Dataset, picture, tree
from tests.images import oriented
from tests.splitting.test_split import split
from tiler.errors import TilerError
from tiler.formats import manifest
from tiler.images import lossless, memory, writing
from tiler.images.header import probe

needs_library = pytest.mark.skipif(lossless.missing() is not None, reason=lossless.missing() or "")

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SAMPLINGS = ["grey", "4:4:4", "4:2:2", "4:2:0"]
ALIGNED = {"tile": 128, "overlap": 32, "edge": "trim"}  # every origin is a multiple of 96


def photo(width=333, height=245, seed=0, mode="RGB"):
    """With something in every coefficient."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.blend(picture(width, height, seed), Image.fromarray(noise), 0.2).convert(mode)


def add(data, name="a.jpg", rows="", sampling="4:2:0", seed=0, size=(333, 245), **save):
    grey = sampling == "grey"
    options = {"quality": 92} | ({} if grey else {"subsampling": sampling}) | save
    return data.add(name, rows, photo(*size, seed, "L" if grey else "RGB"), **options)


@pytest.fixture
def one(dataset):
    """A dataset whose second split is no JPEG, so that only the first one's tiles are counted."""
    dataset.add("v.png", "", picture(64, 64), "val")
    return dataset


def keep(data, out, **options):
    return split(data, out, **({"jpeg": "keep"} | ALIGNED | options))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def tables(path):
    """One for each component."""
    with Image.open(path) as image:
        return [image.quantization[table] for *_, table in image.layer]


def sampling(path):
    with open(path, "rb") as file:
        return probe(file).subsampling


def tiles(out, suffix=".jpg"):
    """(tile, path of its picture) of all tiles of the split train."""
    for source in manifest.read_sources(out / "tiles.jsonl"):
        if source.split == "train":
            yield from (
                (tile, out / "images/train" / (tile.name + suffix)) for tile in source.tiles
            )


def assert_same(tile, path, whole, sampled):
    """The pixels of a copied tile are the source's, but for the smoothed colours where it was
    cut.
    """
    height, width = whole.shape[:2]
    across, down = {"4:2:0": (1, 1), "4:2:2": (1, 0)}.get(sampled, (0, 0))
    left, right = across * (tile.x > 0), across * (tile.x + tile.w < width)
    top, bottom = down * (tile.y > 0), down * (tile.y + tile.h < height)
    shown = slice(top, tile.h - bottom), slice(left, tile.w - right)
    np.testing.assert_array_equal(
        pixels(path)[shown], whole[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w][shown]
    )


# --- what is copied


@needs_library
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampled", SAMPLINGS)
def test_aligned_tiles_show_the_pixels_of_the_source(one, tmp_path, sampled, progressive):
    path = add(one, sampling=sampled, progressive=progressive)
    report = keep(one, tmp_path / "out")
    assert report.splits["train"].counts.copied == report.splits["train"].counts.tiles == 12
    assert (report.splits["val"].counts.copied, report.findings) == (0, [])
    for tile, where in tiles(tmp_path / "out"):
        assert_same(tile, where, pixels(path), sampled)
        assert (tables(where), sampling(where)) == (tables(path), sampling(path))


@needs_library
def test_of_two_pictures_in_a_file_the_first_is_cut(one, tmp_path):
    more = [photo(seed=1)]
    path = add(one, "a.mpo", format="MPO", save_all=True, append_images=more)
    report = keep(one, tmp_path / "out")
    assert report.splits["train"].counts.copied == 12
    for tile, where in tiles(tmp_path / "out"):
        assert_same(tile, where, pixels(path), "4:2:0")


@needs_library
@pytest.mark.parametrize("sampled", SAMPLINGS)
def test_what_is_not_aligned_is_encoded_with_the_tables_of_the_source(one, tmp_path, sampled):
    path = add(one, sampling=sampled, quality=61)
    report = keep(one, tmp_path / "out", edge="shift")
    units = {"grey": (8, 8), "4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16)}[sampled]
    aligned = 0
    for tile, where in tiles(tmp_path / "out"):
        assert (tables(where), sampling(where)) == (tables(path), sampling(path))
        if tile.x % units[0] == tile.y % units[1] == 0:
            aligned += 1
            assert_same(tile, where, pixels(path), sampled)
        else:
            there = pixels(path)[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]
            assert 0 < np.abs(pixels(where).astype(int) - there).mean() < 12
    assert report.splits["train"].counts.copied == aligned == 6


@needs_library
@pytest.mark.parametrize(
    ("options", "copied", "count"), [({"scale": "1,0.5"}, 12, 14), ({"scale": 0.5}, 0, 2)]
)
def test_scaled_tiles_are_encoded_with_the_tables_of_the_source(
    one, tmp_path, options, copied, count
):
    path = add(one, quality=70)
    report = keep(one, tmp_path / "out", **options)
    found = list(tiles(tmp_path / "out"))
    assert (report.splits["train"].counts.copied, len(found)) == (copied, count)
    assert all((tables(where), sampling(where)) == (tables(path), "4:2:0") for _, where in found)


@needs_library
def test_padded_tiles_are_encoded_with_the_tables_of_the_source(one, tmp_path):
    path = add(one)
    report = keep(one, tmp_path / "out", edge="pad")
    copied = 0
    for tile, where in tiles(tmp_path / "out"):
        assert pixels(where).shape == (128, 128, 3)
        assert (tables(where), sampling(where)) == (tables(path), "4:2:0")
        if tile.x + tile.w <= 333 and tile.y + tile.h <= 245:
            copied += 1
            assert_same(tile, where, pixels(path), "4:2:0")
    assert report.splits["train"].counts.copied == copied == 6


@needs_library
def test_masked_tiles_are_painted_and_the_others_copied(one, tmp_path):
    path = add(one, rows="0 0.38 0.26 0.12 0.16\n", size=(320, 256))  # 102.4..140.8 x 46.1..87 px
    report = keep(one, tmp_path / "out", overlap=0, truncated="mask", min_visible=0.5)
    found = {tile.name: (tile, where) for tile, where in tiles(tmp_path / "out")}
    tile, where = found.pop("a__128_0_128_128")
    assert np.abs(pixels(where)[48:85, :11].astype(int) - 114).mean() < 8
    assert (tables(where), sampling(where)) == (tables(path), "4:2:0")
    assert report.splits["train"].counts.copied == len(found) == 5
    for tile, where in found.values():
        assert_same(tile, where, pixels(path), "4:2:0")


@needs_library
@pytest.mark.parametrize("edge", ["trim", "shift"])
def test_tiles_have_the_profile_of_the_source_and_nothing_else(one, tmp_path, edge):
    exif = Image.Exif()
    exif[271], exif[274] = "the maker", 1
    profile = ICC * 300  # more than one segment
    add(one, exif=exif, icc_profile=profile, comment=b"a comment")
    report = keep(one, tmp_path / "out", edge=edge)
    assert report.splits["train"].counts.copied == {"trim": 12, "shift": 6}[edge]
    for _, where in tiles(tmp_path / "out"):
        with Image.open(where) as image:
            assert image.info["icc_profile"] == profile
            assert not set(image.info) & {"exif", "comment", "xmp"}
            assert not image.getexif()


# --- what is not


@needs_library
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_becomes_upright_tiles(one, tmp_path, orientation):
    path = add(one, exif=oriented(orientation), quality=95, sampling="4:4:4")
    report = keep(one, tmp_path / "out")
    assert report.splits["train"].counts.copied == 0
    with Image.open(path) as image:
        turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
        upright = np.asarray(image.transpose(Image.Transpose(turns[orientation])))
    for tile, where in tiles(tmp_path / "out"):
        there = upright[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]
        assert np.abs(pixels(where).astype(int) - there).mean() < 6
        assert tables(where) == tables(path)
        with Image.open(where) as image:
            assert not image.getexif()


@needs_library
def test_cmyk_is_encoded_with_the_tables_of_the_source(one, tmp_path):
    path = one.add("a.jpg", "", photo(mode="CMYK"), quality=80)
    report = keep(one, tmp_path / "out")
    assert report.splits["train"].counts.copied == 0
    assert all(tables(where) == tables(path) for _, where in tiles(tmp_path / "out"))


@needs_library
def test_an_unusual_subsampling_is_encoded_with_the_tables_of_the_source(one, tmp_path):
    imagecodecs = pytest.importorskip(
        "imagecodecs", reason="the extra `fast` is not installed; Pillow writes no 4:4:0"
    )
    path = one.add(
        "a.jpg", "", imagecodecs.jpeg8_encode(np.asarray(photo()), level=80, subsampling="440")
    )
    report = keep(one, tmp_path / "out")
    assert report.splits["train"].counts.copied == 0
    assert all(
        (tables(where), sampling(where)) == (tables(path), "4:4:4")
        for _, where in tiles(tmp_path / "out")
    )


@needs_library
def test_tables_of_any_number_are_those_of_the_source(one, tmp_path):
    path = add(one)
    data = bytearray(path.read_bytes())
    definition, frame = (
        data.index(b"\xff\xdb", data.index(b"\xff\xdb") + 2),
        data.index(b"\xff\xc0"),
    )
    assert (data[definition + 4], data[frame + 15], data[frame + 18]) == (1, 1, 1)
    data[definition + 4] = data[frame + 15] = data[frame + 18] = 3
    path.write_bytes(data)
    report = keep(one, tmp_path / "out", edge="shift")
    assert (report.findings, report.splits["train"].counts.copied) == ([], 6)
    assert all(tables(where) == tables(path) for _, where in tiles(tmp_path / "out"))


@needs_library
@pytest.mark.parametrize("options", [{}, {"format": "jpg"}])
def test_other_images_are_what_they_are_without(one, tmp_path, options):
    one.add("a.png", "", photo())
    add(one, "b.jpg")
    report = keep(one, tmp_path / "keep", **options)
    keep(one, tmp_path / "encode", jpeg="encode", **options)
    kept, plain = tree(tmp_path / "keep/images"), tree(tmp_path / "encode/images")
    assert kept.keys() == plain.keys()
    assert {key for key in kept if kept[key] != plain[key]} == {
        key for key in kept if "/b__" in key
    }
    assert report.splits["train"].counts.copied == 12


def test_keep_is_asked_for_jpeg_only(one, tmp_path):
    one.add("a.png", "", photo())
    with pytest.raises(TilerError, match="--jpeg keep: --format png does not use it"):
        keep(one, tmp_path / "out", format="png")


@needs_library
def test_where_memory_is_short_every_tile_is_encoded(one, tmp_path, monkeypatch):
    path = add(one)
    monkeypatch.setattr(memory, "enough", lambda size: False)
    assert keep(one, tmp_path / "out").splits["train"].counts.copied == 0
    assert all(
        (tables(where), sampling(where)) == (tables(path), "4:2:0")
        for _, where in tiles(tmp_path / "out")
    )


def damaged(data, how):
    at = data.index(b"\xff\xda") + 500
    return {
        "half": data[: len(data) // 2],
        "head": data[:300],
        "no end": data[:-2],
        "one row": data[:-200],
        "a table among the blocks": data[:at] + b"\xff\xc4" + data[at + 2 :],
        "zeros among the blocks": data[:at] + bytes(50) + data[at + 50 :],
    }[how]


@needs_library
@pytest.mark.parametrize(
    "how",
    ["half", "head", "no end", "one row", "a table among the blocks", "zeros among the blocks"],
)
def test_a_damaged_picture_is_judged_as_without(one, tmp_path, how):
    add(one, "b.jpg", seed=1)
    path = add(one)
    path.write_bytes(damaged(path.read_bytes(), how))
    kept, plain = keep(one, tmp_path / "keep"), keep(one, tmp_path / "encode", jpeg="encode")
    assert kept.findings == plain.findings
    assert tree(tmp_path / "keep").keys() == tree(tmp_path / "encode").keys()
    assert kept.splits["train"].counts.copied == 12
    if how in ("half", "head", "no end", "one row"):
        assert [(f.path, f.code) for f in kept.findings] == [("images/train/a.jpg", "I03")]


# --- and the rest of the output


def filled(tmp_path):
    data = Dataset(tmp_path / "data")
    for i in range(4):
        rows = "".join(
            f"{i % 3} {0.1 + 0.2 * j:.2f} {0.2 + 0.15 * i:.2f} 0.1 0.12\n" for j in range(5)
        )
        add(data, f"p{i}.jpg", rows, SAMPLINGS[i], i, quality=92)
    data.add("q.png", "", picture(64, 64))
    data.add("v.png", "", picture(64, 64), "val")
    return data


@needs_library
@pytest.mark.parametrize("edge", ["shift", "trim"])
def test_labels_and_manifest_are_those_without_and_files_are_smaller(tmp_path, edge):
    data = filled(tmp_path)
    kept, plain = (
        keep(data, tmp_path / "keep", edge=edge),
        keep(data, tmp_path / "encode", edge=edge, jpeg="encode"),
    )
    assert tree(tmp_path / "keep/labels") == tree(tmp_path / "encode/labels")
    assert (tmp_path / "keep/dataset.yaml").read_text() == (
        tmp_path / "encode/dataset.yaml"
    ).read_text()
    one, other = (
        (tmp_path / name / "tiles.jsonl").read_text().splitlines() for name in ("keep", "encode")
    )
    assert one[1:] == other[1:]
    assert [json.loads(lines[0])["options"].pop("jpeg") for lines in (one, other)] == [
        "keep",
        "encode",
    ]
    assert kept.total.objects == plain.total.objects
    assert kept.total.counts.bytes < 0.9 * plain.total.counts.bytes


@needs_library
@pytest.mark.parametrize(("workers", "backend"), [(2, "threading"), (4, "threading"), (2, "loky")])
def test_workers_change_no_byte(tmp_path, workers, backend):
    data = filled(tmp_path)
    keep(data, tmp_path / "one", edge="shift", truncated="mask")
    keep(data, tmp_path / "many", edge="shift", truncated="mask", workers=workers, backend=backend)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


@needs_library
@pytest.mark.parametrize("n", [1, 5, 20, 33, 60])
def test_a_run_that_broke_off_ends_in_the_same_bytes(tmp_path, monkeypatch, n):
    data = filled(tmp_path)
    keep(data, tmp_path / "sound", edge="shift")
    count, real = 0, writing.store

    def store(path, data, opener):
        nonlocal count
        count += 1
        if count == n:
            raise OSError(28, "No space left on device")
        return real(path, data, opener)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "store", store)
        with pytest.raises(tiler.Unfinished, match="No space left"):
            keep(data, tmp_path / "out", edge="shift")
    assert not (tmp_path / "out").exists()
    keep(data, tmp_path / "out", edge="shift")
    assert tree(tmp_path / "out") == tree(tmp_path / "sound")
    assert keep(data, tmp_path / "out", edge="shift").unchanged


@needs_library
def test_an_output_that_was_encoded_is_not_taken_for_one_that_was_kept(one, tmp_path):
    add(one)
    keep(one, tmp_path / "out", jpeg="encode")
    with pytest.raises(tiler.TilerError, match="jpeg encode -> keep"):
        keep(one, tmp_path / "out")


# --- without the extra


def test_without_the_library_nothing_is_made(one, tmp_path, monkeypatch):
    add(one)
    monkeypatch.setattr(lossless, "_library", lambda: None)
    with pytest.raises(
        tiler.TilerError, match=r"--jpeg keep: .* pip install 'tilestitch\[lossless\]'"
    ):
        keep(one, tmp_path / "out")
    assert os.listdir(tmp_path) == ["data"]


def test_without_the_library_the_command_line_ends_with_2(one, tmp_path):
    without = (
        "from tiler.images import lossless; lossless._library = lambda: None; from tiler.cli "
        "import main; main()"
    )
    command = [sys.executable, "-c", without, "split", "data", "--jpeg", "keep"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'tilestitch[lossless]'" in done.stderr
    assert done.stderr.count("\n") == 1
