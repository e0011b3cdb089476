"""Names of tiles as tools write them: read from the right, whatever the image is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.formats.tile_names import PATTERNS, TileName, parse

stems = st.text(min_size=1, max_size=20).filter(lambda s: "\n" not in s) | st.sampled_from(
    [
        "site__A",
        "a__640__0___0",
        "007",
        "a b",
        "x__s50",
        "p__0_0_10_10",
        "p_0_0_10_10",
        "..",
        "a/b",
        "日本",
        "-",
        "__",
        "1__1",
    ]
)
pixels = st.integers(0, 99_999)
sides = st.integers(10, 9_999)


@quick
@given(stems.filter(lambda s: "__s" not in s), pixels, pixels, sides, sides)
def test_names_of_ours_give_back_what_they_were_made_of(stem, x, y, w, h):
    assert parse(f"{stem}__{x}_{y}_{w}_{h}", "tiler") == TileName(stem, x, y, w, h)


@pytest.mark.parametrize("percent", [1, 12.5, 50, 100, 250])
def test_names_of_ours_tell_the_scale(percent):
    for stem in ("a", "site__A", "a__s50"):
        said = parse(f"{stem}__s{percent:g}__7_0_640_480", "tiler")
        assert said == TileName(stem, 7, 0, 640, 480, percent / 100)


@quick
@given(stems, pixels, pixels, sides)
def test_names_of_split_dota_do(stem, x, y, side):
    assert parse(f"{stem}__{side}__{x}___{y}", "split_dota") == TileName(stem, x, y, side, side)


@quick
@given(stems, pixels, pixels, st.sampled_from(["1", "0.5", "2", "1.0", "0.25"]))
def test_names_of_dota_devkit_are_in_pixels_of_the_scaled_image(stem, x, y, rate):
    said = parse(f"{stem}__{rate}__{x}___{y}", "dota_devkit")
    assert said == TileName(stem, x / float(rate), y / float(rate), 0, 0, float(rate))


@quick
@given(stems, pixels, pixels, sides, sides)
def test_names_of_sahi_do(stem, x, y, w, h):
    assert parse(f"{stem}_{x}_{y}_{x + w}_{y + h}", "sahi") == TileName(stem, x, y, w, h)


@pytest.mark.parametrize(
    ("name", "pattern", "stem"),
    [
        ("site__A__640__512___0", "split_dota", "site__A"),  # Ultralytics' own merge takes "site"
        ("a__640__0___0__640__512___7", "split_dota", "a__640__0___0"),
        ("P0001__1__0___824", "dota_devkit", "P0001"),
        ("14_0_4_2052_3801_2564_4313", "sahi", "14_0_4"),
        ("a__0_0_10_10__20_0_10_10", "tiler", "a__0_0_10_10"),
        ("a__s__1_2_3_4", "tiler", "a__s"),
        (" __0_0_10_10", "tiler", " "),
    ],
)
def test_the_image_may_be_called_anything(name, pattern, stem):
    assert parse(name, pattern).stem == stem


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "name",
    [
        "", "a", "..", "/", "_0_0_10_10", "0_0_10_10", "__640__0___0", "a__0_0_10", "a__0_0_10_",
        "a__0_0_10_-1",
        "a__-1_0_10_10", "a__0.5_0_10_10", "a__0_0_0_0", "a_5_5_5_5", "a_9_9_1_1",
        "a__0_0_10_10\n", "a_0_0_10_10\n",
        "a__640__0___0\n", "a__1__0___0\n", "a__0_0_10_10.jpg", "a__s0__0_0_10_0", "a__0__0___0",
        "a__0.0__0___0", "a__1.__0___0", "a__.5__0___0", f"a__{'9' * 10}_0_10_10",
        f"a_0_0_10_{'9' * 400}",
        f"a__640__{'1' * 5000}___0", f"a__1__{'1' * 5000}___0",
        "a__1e3_0_10_10", "a__nan_0_10_10", "a__ 1_0_10_10", "a\n__0_0_10_10", "a\n__640__0___0",
        "a\n__1__0___0",
    ],
)  # fmt: skip
def test_other_names_are_not_tiles(name, pattern):
    assert parse(name, pattern) is None


def test_digits_of_other_scripts_are_numbers_or_nothing():
    said = parse("a__٣_0_10_10", "tiler")
    assert said is None or said.x == 3


@pytest.mark.parametrize(
    "name", ["../../evil__0_0_10_10", "/etc/passwd__0_0_10_10", "a\0b__0_0_10_10"]
)
def test_a_hostile_stem_is_a_stem_and_nothing_more(name):
    said = parse(name, "tiler")
    assert said.stem == name.removesuffix("__0_0_10_10")


@quick
@given(st.text(max_size=40), st.sampled_from(list(PATTERNS)))
def test_any_text_is_a_tile_or_none(name, pattern):
    said = parse(name, pattern)
    assert said is None or (said.scale > 0 and said.stem and name.startswith(said.stem))
