import pytest

from tiler.errors import TilerError
from tiler.evaluation.bins import ALL, COCO, ENDLESS, PRESETS, Bin, Bins, bins


def sides(found):
    return [(b.name, b.low**0.5, b.high**0.5) for b in found.bins]


def test_those_of_coco():
    assert [(b.low, b.high) for b in (ALL, *COCO.bins)] == [
        (0, 1e10),
        (0, 1024),
        (1024, 9216),
        (9216, 1e10),
    ]
    assert (COCO.max_dets, COCO.thresholds) == (None, None)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_by_its_name(name):
    preset = bins(name)
    assert preset is PRESETS[name]
    assert preset.name == name
    assert all(0 <= b.low < b.high <= ENDLESS**2 for b in preset.bins)
    assert len({b.name for b in preset.bins}) == len(preset.bins)
    assert "all" not in {b.name for b in preset.bins}


def test_those_of_the_presets():
    assert sides(bins("aitod")) == [
        ("verytiny", 0, 8),
        ("tiny", 8, 16),
        ("small", 16, 32),
        ("medium", 32, ENDLESS),
    ]
    assert bins("aitod").max_dets == 1500
    assert sides(bins("tinyperson"))[1:4] == [("tiny1", 1, 8), ("tiny2", 8, 12), ("tiny3", 12, 20)]
    assert bins("tinyperson").thresholds == (0.25, 0.5, 0.75)
    assert sides(bins("soda"))[-1] == ("normal", 32, 2000**0.5)


@pytest.mark.parametrize(
    "given", ["16,32.5,96", "16, 32.5 ,96", (16, 32.5, 96), [16.0, 32.5, 96.0]]
)
def test_between_sides(given):
    assert bins(given) == Bins(
        "16,32.5,96",
        (
            Bin("0-16", 0, 256),
            Bin("16-32.5", 256, 1056.25),
            Bin("32.5-96", 1056.25, 9216),
            Bin("96+", 9216, 1e10),
        ),
    )


def test_one_side_makes_two():
    assert sides(bins("32")) == [("0-32", 0, 32), ("32+", 32, ENDLESS)]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "cocoa",
        "32,16",
        "16,16",
        "0,16",
        "-4",
        "16,",
        "16,nan",
        "nan",
        "inf",
        "1e5",
        (),
        (16, 8),
        (float("nan"), 8),
    ],
)
def test_what_is_neither(given):
    expected = "--bins: expected coco, aitod, tinyperson, soda, or increasing sides in px"
    with pytest.raises(TilerError, match=expected):
        bins(given)
