"""`--stretch`: deep images become 8-bit tiles by one mapping for the whole dataset."""

import json

import numpy as np
import pytest
from PIL import Image

import tiler
from tests.conftest import Dataset, needs_big, picture, tree
from tests.images import tiff
from tests.splitting.test_split import split
from tiler.formats import manifest

WAYS = ["minmax", "percentile"]
GREY = "I;16 u2x1"


def values(low, high, seed=0, shape=(210, 300), dtype=np.uint16):
    """Noise that reaches from low to high."""
    found = np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)
    found.flat[:2] = low, high
    return found


def grey(data, pictures, **save):
    """Images of a dataset, PNGs of 16 bits by name; the last one is its val."""
    *train, last = pictures
    for name in train:
        data.add(f"{name}.png", "0 0.5 0.5 0.2 0.2\n", Image.fromarray(pictures[name]))
    data.add(f"{last}.png", "", Image.fromarray(pictures[last]), "val")
    return pictures


RANGES = {"a": (300, 4000), "b": (2000, 60_000), "c": (10, 500)}


@pytest.fixture
def deep(dataset):
    return dataset, grey(
        dataset, {name: values(*ends, seed) for seed, (name, ends) in enumerate(RANGES.items())}
    )


def ends(how, *pictures):
    """What becomes 0 and 255, of all pixels together."""
    every = np.concatenate([p[np.isfinite(p)] for p in pictures])
    if how == "minmax":
        return float(every.min()), float(every.max())
    low, high = np.percentile(every, [1, 99], method="inverted_cdf")
    return float(low), float(high)


def mapped(pixels, low, high):
    found = (pixels.astype(np.float64) - low) / (high - low) * 255
    return np.nan_to_num(np.rint(found.clip(0, 255))).astype(np.uint8)


def tiles(out, suffix=".png"):
    """(stem of the source, tile, its pixels)"""
    for source in manifest.read_sources(out / "tiles.jsonl"):
        for tile in source.tiles:
            with Image.open(out / "images" / source.split / (tile.name + suffix)) as image:
                assert image.mode in ("L", "RGB", "RGBA")
                yield source.source.split("/")[-1].split(".")[0], tile, np.asarray(image)


def window(pixels, tile):
    return pixels[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w]


# --- one mapping


@pytest.mark.parametrize("how", WAYS)
def test_all_pictures_have_one_mapping(deep, tmp_path, how):
    data, pictures = deep
    report = split(data, tmp_path / "out", stretch=how)
    low, high = ends(how, *pictures.values())
    count = 0
    for stem, tile, found in tiles(tmp_path / "out"):
        np.testing.assert_array_equal(found, mapped(window(pictures[stem], tile), low, high))
        count += 1
    assert count == report.total.counts.tiles == 3 * 6
    assert (report.stretch, report.findings, report.exit_code()) == ({GREY: [(low, high)]}, [], 0)
    assert json.loads((tmp_path / "out/report.json").read_text())["stretch"] == {
        GREY: [[low, high]]
    }


@pytest.mark.parametrize("how", WAYS)
def test_tiles_of_a_picture_fit_together_and_equal_values_are_equal_greys(deep, tmp_path, how):
    data, pictures = deep
    split(data, tmp_path / "out", stretch=how, edge="balance")
    whole = {name: np.full(pixels.shape, -1) for name, pixels in pictures.items()}
    for stem, tile, found in tiles(tmp_path / "out"):
        here = window(whole[stem], tile)
        assert ((here == -1) | (here == found)).all()  # no seam
        here[:] = found
    table = np.full(65536, -1)
    for name, pixels in pictures.items():
        known = table[pixels]
        assert ((known == -1) | (known == whole[name])).all()
        table[pixels] = whole[name]
    greys = table[table >= 0]
    assert (np.diff(greys) >= 0).all()
    assert (greys[0], greys[-1]) == (0, 255)


def test_only_with_it_is_a_jpeg_made_of_deep_pixels(deep, tmp_path):
    data, pictures = deep
    refused = split(data, tmp_path / "none", format="jpg")
    assert {f.code for f in refused.findings} == {"I06"}
    assert (refused.total.counts.tiles, refused.exit_code()) == (0, 1)
    done = split(data, tmp_path / "out", format="jpg", stretch="minmax", quality=100)
    assert (done.exit_code(), done.findings) == (0, [])
    for stem, tile, found in tiles(tmp_path / "out", ".jpg"):
        there = mapped(window(pictures[stem], tile), *ends("minmax", *pictures.values()))
        assert np.abs(found.astype(int) - there).max() <= 3


def test_without_it_all_bits_are_kept_with_a_warning(deep, tmp_path):
    data, pictures = deep
    report = split(data, tmp_path / "out")
    assert [(f.path, f.code, f.level) for f in report.findings] == [
        (f"images/{where}/{name}.png", "I13", "warning")
        for where, name in (("train", "a"), ("train", "b"), ("val", "c"))
    ]
    assert (report.exit_code(), report.stretch) == (0, {})
    with Image.open(tmp_path / "out/images/train/a__0_0_128_128.png") as image:
        assert image.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(image), pictures["a"][:128, :128])


def test_pictures_of_8_bits_are_left_alone(deep, tmp_path):
    data, _ = deep
    data.add("p.png", "", picture())
    data.add("q.jpg", "", picture(seed=1))
    data.add("r.png", "", picture(mode="L"))
    split(data, tmp_path / "none")
    report = split(data, tmp_path / "out", stretch="minmax")
    for name, digest in tree(tmp_path / "none/images").items():
        same = tree(tmp_path / "out/images")[name] == digest
        assert same is (name.split("/")[1][0] in "pqr"), name
    assert list(report.stretch) == [GREY]


def test_the_byte_order_of_a_file_changes_nothing(dataset, tmp_path):
    one, other = values(300, 4000), values(2000, 60_000, 1)
    dataset.add("a.tif", "", tiff(one))
    dataset.add("b.tif", "", tiff(other, order=">"), "val")
    report = split(dataset, tmp_path / "out", stretch="minmax")
    assert report.stretch == {GREY: [(300, 60_000)]}


def test_floats_have_a_mapping_of_their_own_and_what_is_no_number_is_black(deep, tmp_path):
    data, pictures = deep
    field = np.random.default_rng(3).normal(5, 100, (210, 300)).astype(np.float32)
    field[50:60, 100:140] = np.nan
    data.add("f.tif", "", Image.fromarray(field))
    report = split(data, tmp_path / "out", stretch="minmax")
    low, high = ends("minmax", field)
    assert report.stretch == {"F f4x1": [(low, high)], GREY: [ends("minmax", *pictures.values())]}
    for source in manifest.read_sources(tmp_path / "out/tiles.jsonl"):
        for tile in source.tiles:
            if source.source.endswith("f.tif"):
                with Image.open(tmp_path / f"out/images/train/{tile.name}.tif") as image:
                    np.testing.assert_array_equal(
                        np.asarray(image), mapped(window(field, tile), low, high)
                    )


@pytest.mark.parametrize("edge", ["pad", "shift"])
def test_scaled_and_padded_tiles_are_those_of_the_stretched_picture(deep, tmp_path, edge):
    data, pictures = deep
    limits = ends("percentile", *pictures.values())
    plain = Dataset(tmp_path / "plain")
    grey(plain, {name: mapped(pixels, *limits) for name, pixels in pictures.items()})
    options = {"scale": "1,0.5", "edge": edge, "truncated": "mask"}
    split(data, tmp_path / "out", stretch="percentile", **options)
    split(plain, tmp_path / "eight", **options)
    for kind in ("images", "labels"):
        assert tree(tmp_path / "out" / kind) == tree(tmp_path / "eight" / kind)


def test_a_picture_that_is_refused_does_not_count(deep, tmp_path):
    data, pictures = deep
    path = data.add("z.png", "", Image.fromarray(values(0, 65535, 9)))
    path.write_bytes(path.read_bytes()[:-20_000])
    report = split(data, tmp_path / "out", stretch="minmax")
    assert [(f.path, f.code) for f in report.findings] == [("images/train/z.png", "I03")]
    assert report.stretch == {GREY: [ends("minmax", *pictures.values())]}


def test_a_transparent_value_is_mapped_too_or_left_out(dataset, tmp_path):
    pixels = values(0, 65535)
    dataset.add("a.png", "", Image.fromarray(pixels), transparency=100)
    dataset.add("v.png", "", picture(64, 64), "val")
    split(dataset, tmp_path / "out", stretch="minmax")
    with Image.open(tmp_path / "out/images/train/a__0_0_128_128.png") as image:
        assert image.info.get("transparency") in (None, 0)


# --- the extra `big`


@needs_big
@pytest.mark.parametrize("how", WAYS)
def test_colours_share_their_limits(dataset, tmp_path, how):
    pixels = np.stack([values(100, 900, 1), values(500, 3000, 2), values(4000, 9000, 3)], -1)
    dataset.add("a.tif", "", tiff(pixels))
    dataset.add("v.png", "", picture(64, 64), "val")
    report = split(dataset, tmp_path / "out", stretch=how, format="png")
    limits = ends(how, pixels)
    assert report.stretch == {"RGB;16 u2x3": [limits] * 3}
    for stem, tile, found in tiles(tmp_path / "out"):
        if stem == "a":
            np.testing.assert_array_equal(found, mapped(window(pixels, tile), *limits))


@needs_big
@pytest.mark.parametrize("how", WAYS)
def test_other_bands_have_their_own(dataset, tmp_path, how):
    from tifffile import imread

    pixels = np.stack([values(100 * band, 3000 * band + 500, band) for band in range(1, 6)], -1)
    dataset.add("a.tif", "", tiff(pixels))
    dataset.add("v.tif", "", tiff(pixels[:100, :128]), "val")
    report = split(dataset, tmp_path / "out", stretch=how)
    limits = [ends(how, pixels[..., band], pixels[:100, :128, band]) for band in range(5)]
    assert report.stretch == {"bands u2x5": limits}
    count = 0
    for source in manifest.read_sources(tmp_path / "out/tiles.jsonl"):
        for tile in source.tiles:
            found = imread(tmp_path / f"out/images/{source.split}/{tile.name}.tif")
            want = np.stack(
                [mapped(window(pixels[..., band], tile), *limits[band]) for band in range(5)]
            )
            np.testing.assert_array_equal(found, want)
            assert found.dtype == np.uint8
            count += 1
    assert count == 7


@needs_big
def test_alpha_keeps_its_scale(dataset, tmp_path):
    colours = np.stack([values(1000 + band, 9000, band) for band in range(3)], -1)
    alpha = values(0, 65535, 7)
    pixels = np.concatenate([colours, alpha[..., None]], -1)
    dataset.add("a.tif", "", tiff(pixels, tags={338: (3, [2])}))
    dataset.add("v.png", "", picture(64, 64), "val")
    report = split(dataset, tmp_path / "out", stretch="minmax", format="png")
    limits = ends("minmax", colours)
    assert report.stretch == {"RGBA;16 u2x4": [limits] * 3 + [(0, 65535)]}
    for stem, tile, found in tiles(tmp_path / "out"):
        if stem == "a":
            np.testing.assert_array_equal(found[..., :3], mapped(window(colours, tile), *limits))
            np.testing.assert_array_equal(found[..., 3], mapped(window(alpha, tile), 0, 65535))


@needs_big
def test_signed_grey_becomes_grey_like_any_other(dataset, tmp_path):
    pixels = values(-300, 3000, dtype=np.int16)
    dataset.add("a.tif", "", tiff(pixels, tags={339: (3, [2])}))
    dataset.add("v.png", "", picture(64, 64), "val")
    report = split(dataset, tmp_path / "out", stretch="minmax")
    with Image.open(tmp_path / "out/images/train/a__0_0_128_128.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), mapped(pixels[:128, :128], -300, 3000))
    assert (report.findings, report.bands) == ([], {"3": 2})


# --- runs


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("workers", "backend"), [(2, "threading"), (4, "threading"), (2, "loky")])
def test_workers_change_no_byte(deep, tmp_path, how, workers, backend):
    data, _ = deep
    split(data, tmp_path / "one", stretch=how)
    split(data, tmp_path / "many", stretch=how, workers=workers, backend=backend)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


def test_running_again_says_so_and_a_change_is_named(deep, tmp_path):
    data, _ = deep
    first = split(data, tmp_path / "out", stretch="minmax")
    before = tree(tmp_path / "out")
    again = split(data, tmp_path / "out", stretch="minmax")
    assert (again.unchanged, again.stretch) == (True, first.stretch)
    with pytest.raises(tiler.TilerError, match="stretch minmax -> percentile"):
        split(data, tmp_path / "out", stretch="percentile")
    data.add("b.png", None, Image.fromarray(values(0, 65535)))
    with pytest.raises(tiler.TilerError, match=r"images/train/b\.png or its labels changed"):
        split(data, tmp_path / "out", stretch="minmax")
    assert tree(tmp_path / "out") == before
    split(data, tmp_path / "out", stretch="minmax", overwrite=True)
    split(data, tmp_path / "fresh", stretch="minmax")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("brighter", [False, True])
def test_a_run_that_broke_off_goes_on_by_the_same_mapping_only(deep, tmp_path, brighter):
    data, _ = deep

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(data, tmp_path / "out", stretch="minmax", progress=stop)
    assert not (tmp_path / "out").exists()
    if brighter:
        data.add("d.png", "", Image.fromarray(values(0, 65535)))
    split(data, tmp_path / "out", stretch="minmax")
    split(data, tmp_path / "fresh", stretch="minmax")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_dry_run_counts_the_same(deep, tmp_path):
    data, _ = deep
    planned = split(data, tmp_path / "out", stretch="minmax", dry_run=True)
    done = split(data, tmp_path / "out", stretch="minmax")
    assert planned.total.counts.tiles == done.total.counts.tiles
