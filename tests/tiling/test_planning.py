import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.geometry.grids import grid
from tiler.options import SplitOptions
from tiler.tiling.planning import draw, planned_tiles, quota

NAME = re.compile(r"stem(?:__s(?P<percent>\d+))?__(?P<x>\d+)_(?P<y>\d+)_(?P<w>\d+)_(?P<h>\d+)")
SCALES = [0.1, 0.25, 0.29, 0.33, 0.5, 0.6, 0.75, 1, 1.5, 2]


@st.composite
def cuts(draw):
    """Size of an image, and options of a grid or several."""
    tile = draw(st.integers(40, 200)), draw(st.integers(40, 200))
    options = SplitOptions(
        tile=tile,
        overlap=draw(st.one_of(st.floats(0, 0.8), st.integers(1, min(tile) * 3 // 4))),
        edge=draw(st.sampled_from(["shift", "balance", "trim", "pad"])),
        scale=draw(st.lists(st.sampled_from(SCALES), min_size=1, max_size=3)),
    )
    return draw(st.integers(100, 700)), draw(st.integers(100, 700)), options


@quick
@given(cuts())
def test_names_are_unique_and_tell_the_window_and_the_scale(cut):
    found = planned_tiles("stem", *cut)
    assert len({place.name for place in found}) == len(found)
    for place in found:
        name = NAME.fullmatch(place.name)
        window = place.window
        assert [int(name[k]) for k in "xywh"] == [window.x, window.y, window.width, window.height]
        assert name["percent"] == (None if place.scale == 1 else f"{place.scale * 100:.0f}")


@quick
@given(cuts())
def test_at_full_size_the_windows_are_the_grid(cut):
    width, height, options = cut
    tile = (options.tile, options.tile) if isinstance(options.tile, int) else options.tile
    found = [
        place.window
        for place in planned_tiles(
            "stem", width, height, SplitOptions.of({**options.plain(), "scale": 1})
        )
    ]
    assert found == grid(width, height, tile, options.overlap, options.edge)


@quick
@given(cuts())
def test_every_scale_covers_every_pixel_largest_first(cut):
    width, height, options = cut
    found = planned_tiles("stem", width, height, options)
    scales = [place.scale for place in found]
    assert scales == sorted(scales, reverse=True)
    assert set(scales) == set(options.scale)
    for scale in options.scale:
        covered = np.zeros((height, width), bool)
        for place in found:
            if place.scale == scale:
                w = place.window
                covered[w.y : w.bottom, w.x : w.right] = True
        assert covered.all()


@quick
@given(cuts())
def test_a_tile_is_its_window_times_the_scale(cut):
    for place in planned_tiles("stem", *cut):
        for shown, side in zip((place.window.width, place.window.height), place.size, strict=True):
            assert side >= 10
            assert abs(side - shown * place.scale) <= max(1, place.scale) / 2 or side == 10


@quick
@given(cuts())
def test_full_windows_are_tiles_of_the_size_asked_for(cut):
    width, height, options = cut
    asked = (options.tile, options.tile) if isinstance(options.tile, int) else options.tile
    assume(options.edge != "trim")
    for place in planned_tiles("stem", width, height, options):
        for shown, side, tile, length in zip(
            (place.window.width, place.window.height),
            place.size,
            asked,
            (width, height),
            strict=True,
        ):
            assert side == tile or shown == length


@quick
@given(cuts())
def test_neighbours_share_at_least_the_overlap_in_pixels_of_the_tile(cut):
    _, _, options = cut
    assume(options.overlap >= 1)
    for scale in options.scale:
        windows = [place.window for place in planned_tiles("stem", *cut) if place.scale == scale]
        for line in (
            sorted({(w.x, w.width) for w in windows}),
            sorted({(w.y, w.height) for w in windows}),
        ):
            for (start, size), (following, _) in pairwise(line):
                assert (start + size - following) * scale >= options.overlap - 1e-6


def test_a_tile_of_a_half_scale_grid_shows_twice_as_much():
    first, *_, last = planned_tiles(
        "a", 3000, 2000, SplitOptions(tile="640x320", overlap=64, scale=0.5)
    )
    assert first.name == "a__s50__0_0_1280_640"
    assert first.size == last.size == (640, 320)
    assert last.name == "a__s50__1720_1360_1280_640"


@pytest.mark.parametrize(
    ("scale", "mark"),
    [(0.29, "__s29"), (0.57, "__s57"), (1.15, "__s115"), (0.01, "__s1"), (16, "__s1600")],
)
def test_the_mark_of_a_scale_is_its_percentage(scale, mark):
    assert planned_tiles("a", 100, 100, SplitOptions(scale=scale))[0].name.startswith(
        f"a{mark}__0_0_"
    )


def test_a_small_picture_at_full_and_half_scale_has_two_names():
    assert [place.name for place in planned_tiles("a", 300, 200, SplitOptions(scale="0.5,1"))] == [
        "a__0_0_300_200",
        "a__s50__0_0_300_200",
    ]


# --- background tiles

sources = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 9), max_size=8)


def taken(seed, wanted, empty):
    q = quota(seed, wanted, empty)
    return {
        source: q.take(source, [f"{source}__{k}" for k in range(count)])
        for source, count in empty.items()
    }


@quick
@given(sources, st.integers(0, 60), st.integers(0, 5))
def test_exactly_as_many_are_taken_as_wanted_if_there_are(empty, wanted, seed):
    found = taken(seed, wanted, empty)
    assert sum(map(len, found.values())) == min(wanted, sum(empty.values()))


@quick
@given(sources, st.integers(0, 60), st.integers(0, 5))
def test_background_is_spread_as_evenly_as_can_be(empty, wanted, seed):
    counts = {source: len(names) for source, names in taken(seed, wanted, empty).items()}
    most = max(counts.values(), default=0)
    assert all(counts[source] >= min(count, most - 1) for source, count in empty.items())


@quick
@given(sources, st.integers(0, 60), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_sources_and_tiles_does_not_matter(empty, wanted, seed, random):
    q = quota(seed, wanted, empty)
    items = list(empty.items())
    random.shuffle(items)
    other = quota(seed, wanted, dict(items))
    assert other == q
    for source, count in items:
        names = [f"{source}__{k}" for k in range(count)]
        assert other.take(source, names[::-1]) == q.take(source, names) <= set(names)


@quick
@given(sources, st.integers(0, 59), st.integers(0, 5))
def test_one_more_wanted_takes_one_more_and_gives_none_back(empty, wanted, seed):
    fewer, more = taken(seed, wanted, empty), taken(seed, wanted + 1, empty)
    assert all(fewer[source] <= more[source] for source in empty)


def test_another_seed_takes_others():
    empty = dict.fromkeys("abcd", 50)
    assert taken(0, 20, empty) == taken(0, 20, empty) != taken(1, 20, empty)


def test_a_draw_is_the_same_on_every_machine():
    assert draw(0, "a")[:16] == "d3216b8dc7c46489"
    assert draw(0, "ä")[:16] != draw(0, "a")[:16]
