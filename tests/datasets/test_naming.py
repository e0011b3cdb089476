"""Names of tiles are read as they were written, or not at all: never otherwise in silence."""

import re
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tiler.datasets.naming import decided
from tiler.errors import TilerError
from tiler.formats import name_patterns
from tiler.formats.name_patterns import NamePattern
from tiler.geometry.grids import grid
from tiler.options import PredictionOptions
from tiler.options.naming import NUMBERS_MEET

WITH_SIZE = {
    "tiler": lambda t: f"__{t.x}_{t.y}_{t.w}_{t.h}",
    "sahi": lambda t: f"_{t.x}_{t.y}_{t.x + t.w}_{t.y + t.h}",
    "xywh": lambda t: f"_{t.x}_{t.y}_{t.w}_{t.h}",
    "yxhw": lambda t: f"_{t.y}_{t.x}_{t.h}_{t.w}",
    "yxyx": lambda t: f"-{t.y}-{t.x}-{t.y + t.h}-{t.x + t.w}",
    "xxyy": lambda t: f"_{t.x}_{t.x + t.w}_{t.y}_{t.y + t.h}",
    "whxy": lambda t: f"_{t.w}x{t.h}_{t.x}_{t.y}",
    "words": lambda t: f"_x{t.x:05}_y{t.y:05}_w{t.w}_h{t.h}",
    "counted": lambda t: f"_{t.number}_{t.x}_{t.y}_{t.w}_{t.h}",
    "placed": lambda t: f"_{t.row}_{t.col}_{t.x}_{t.y}_{t.x + t.w}_{t.y + t.h}",
}
WITHOUT_SIZE = {
    "xy": lambda t: f"_{t.x}_{t.y}",
    "yx": lambda t: f"_{t.y}_{t.x}",
    "row_col": lambda t: f"_{t.row}_{t.col}",
    "col_row": lambda t: f"_{t.col}_{t.row}",
    "row_col_1": lambda t: f"_{t.row + 1:02}_{t.col + 1:02}",
    "words": lambda t: f"_row{t.row}_col{t.col}",
    "offset_placed": lambda t: f"_{t.row}_{t.col}_{t.x}_{t.y}",
    "counted": lambda t: f"_{t.number}_{t.x}_{t.y}",
}
ADDED = ["", "_jpg.rf.0a1b2c3d4e", "_png", "_PNG", ".jpg"]
REJECTED = (
    "Both readings of the names fit",
    "no reading of the names",
    "do not say where",
    "--stride",
)
sides = st.integers(40, 900)
exhaustive = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


@st.composite
def tilings(draw, least=1):
    """Images with the tiles of one grid, of which some may be missing."""
    tile = draw(st.sampled_from([40, 64, 100, 128, 256]) | st.integers(30, 300))
    overlap = draw(st.integers(0, tile * 3 // 4))
    edge = draw(st.sampled_from(["shift", "trim", "pad"]))
    sizes = {}
    tiles = []
    for stem in ("a", "b_1", "c")[: draw(st.integers(1, 3))]:
        width = draw(sides | st.just(3 * tile))
        height = draw(sides | st.just(width) | st.just(2 * tile))
        sizes[stem] = (width, height)
        windows = grid(width, height, tile, overlap, edge) if overlap != 1 else []
        columns = sorted({window.x for window in windows})
        rows = sorted({window.y for window in windows})
        for number, window in enumerate(windows):
            row, col = rows.index(window.y), columns.index(window.x)
            tiles.append(
                SimpleNamespace(
                    stem=stem, number=number, row=row, col=col,
                    x=window.x, y=window.y, w=window.width, h=window.height,
                )
            )  # fmt: skip
    assume(len(tiles) <= 600)
    if draw(st.booleans()) and tiles:
        picked = draw(st.lists(st.sampled_from(range(len(tiles))), min_size=least, unique=True))
        tiles = [tiles[i] for i in picked]
    assume(len(tiles) >= least)
    return SimpleNamespace(tile=tile, stride=tile - overlap, edge=edge, sizes=sizes, tiles=tiles)


def right(case, name_of, added, **options):
    """The tiles are where they are; None if the names are rejected."""
    truth = {}
    for t in case.tiles:
        truth[f"{t.stem}{name_of(t)}{added}"] = (t.stem, t.x, t.y, t.x + t.w, t.y + t.h)
    try:
        found = decided(sorted(truth), case.sizes, PredictionOptions(**options))
    except TilerError as error:
        assert any(why in str(error) for why in REJECTED)
        return None
    assert found is not None
    assert len(found.names) == len(truth)
    for name, stem, rect in zip(found.names, found.stems, found.rects.tolist(), strict=True):
        assert (stem, *rect) == truth[name], found.said
    return found


@exhaustive
@given(tilings(), st.sampled_from(sorted(WITH_SIZE)), st.sampled_from(ADDED))
def test_names_with_a_size_are_read_as_written_or_not_at_all(case, how, added):
    right(case, WITH_SIZE[how], added)


@exhaustive
@given(
    tilings(),
    st.sampled_from(sorted(WITHOUT_SIZE)),
    st.sampled_from(ADDED),
    st.booleans(),
    st.booleans(),
)
def test_names_without_a_size_are_too(case, how, added, stride, edge):
    options = {"tile": case.tile}
    if stride:
        options["stride"] = case.stride
    if edge:
        options["edge"] = case.edge
    right(case, WITHOUT_SIZE[how], added, **options)


@exhaustive
@given(tilings(), st.sampled_from(ADDED))
def test_what_is_asked_for_is_how_names_are_read(case, added):
    known = {"tile": case.tile, "stride": case.stride, "edge": case.edge}
    for how, naming in (
        ("row_col", "{stem}_{row}_{col}"),
        ("row_col_1", "{stem}_{row:1}_{col:1}"),
        ("offset_placed", "{stem}_{*}_{*}_{x}_{y}"),
    ):
        assert right(case, WITHOUT_SIZE[how], added, naming=naming, **known)
    for how, naming in (
        ("yxhw", "{stem}_{y}_{x}_{h}_{w}"),
        ("yxyx", "{stem}-{y}-{x}-{y1}-{x1}"),
        ("sahi", "sahi"),
        ("tiler", "tiler"),
    ):
        assert right(case, WITH_SIZE[how], added, naming=naming)


# --- which tool


@pytest.mark.parametrize(
    ("names", "naming"),
    [
        (["site__A__640__0___0", "site__A__640__512___0"], "split_dota"),
        (["site__A__1__0___0", "site__A__0.5__512___0"], "dota_devkit"),
        (["site__A_0_0_640_640", "site__A_512_0_1152_640"], "sahi"),
        (["site__A__0_0_640_640", "site__A__s50__0_0_640_640"], "tiler"),
    ],
)
def test_the_tool_is_decided_by_names_whose_stem_is_an_image(names, naming):
    found = decided(names, {"site__A": (1152, 640)}, PredictionOptions(tile=640))
    assert (found.naming, found.names) == (naming, names)


def test_a_name_that_two_patterns_fit_goes_by_the_image_that_is_there():
    # ours of "a", or SAHI's of "a_" (whatever is between the last underscores)
    names = ["a__0_0_60_40", "a__40_0_100_40"]
    assert decided(names[:1], {"a": (100, 40)}, PredictionOptions()).naming == "tiler"
    found = decided(names, {"a_": (100, 40)}, PredictionOptions())
    assert (found.naming, found.stems[0]) == ("sahi", "a_")


def test_two_tools_in_one_folder_are_refused_with_their_counts():
    names = [f"a__640__{x}___0" for x in range(6)] + [f"a__{x}_0_640_640" for x in range(3)]
    with pytest.raises(
        TilerError,
        match="several tools in one folder: 6 as split_dota names them, 3 as tiler names them",
    ):
        decided(names, {"a": (2000, 2000)}, PredictionOptions())


def test_a_stray_name_of_another_tool_does_not_stop_the_rest():
    names = [f"a__640__{x}___0" for x in range(0, 900, 100)] + ["a__0_0_640_640"]
    found = decided(names, {"a": (2000, 2000)}, PredictionOptions())
    assert (found.naming, len(found.names)) == ("split_dota", 9)
    with pytest.raises(TilerError, match="several tools"):
        decided(names[1:], {"a": (2000, 2000)}, PredictionOptions())


def test_names_that_say_nothing_are_no_tiles():
    assert decided(["one", "two"], {"a": (9, 9), "b": (9, 9)}, PredictionOptions()) is None
    assert decided([], {}, PredictionOptions()) is None


@given(st.lists(st.text("ab_-. 0123456789{}\0\nx\u0663", max_size=30), max_size=5, unique=True))
def test_any_names_are_read_or_rejected(names):
    sizes = {"a": (720, 400), "a_0": (500, 500), "": (9, 9)}
    for options in (PredictionOptions(), PredictionOptions(tile=400, stride=320)):
        try:
            found = decided(names, sizes, options)
        except TilerError as error:
            assert "\0" not in str(error) and "\n" not in str(error)
        else:
            assert found is None or {*found.names} <= {*names}


# --- readings


def read(names, **options):
    """The windows of an image of 720 x 400 px."""
    return decided(names, {"a": (720, 400)}, PredictionOptions(**options))


def test_a_side_is_not_taken_for_a_corner():
    found = read(["a_0_0_400_400", "a_320_0_400_400"])
    assert found.said == "{stem}_{x}_{y}_{w}_{h}"
    assert found.rects.tolist() == [[0, 0, 400, 400], [320, 0, 720, 400]]
    assert read(["a_0_0_400_400", "a_320_0_720_400"]).said == "sahi"
    # ours by form, but not by what the numbers are
    assert read(["a__0_0_400_400", "a__320_0_720_400"]).said == "{stem}__{x}_{y}_{x1}_{y1}"


def test_two_readings_are_shown_on_one_name_with_the_option_that_decides():
    with pytest.raises(TilerError) as caught:
        decided(["a_100_0_300_300"], {"a": (900, 900)}, PredictionOptions())
    assert str(caught.value) == (
        "a_100_0_300_300: is this tile of a 300 x 300 px at x 100, y 0 "
        "({stem}_{x}_{y}_{w}_{h}), or 200 x 300 px at x 100, y 0 (sahi)? Both readings of the "
        "names fit the images; say --naming '{stem}_{x}_{y}_{w}_{h}' or 'sahi'"
    )
    found = decided(["a_100_0_300_300"], {"a": (900, 900)}, PredictionOptions(naming="sahi"))
    assert found.rects.tolist() == [[100, 0, 300, 300]]


def test_row_and_column_need_a_stride_and_sometimes_an_edge():
    names = ["a_0_0", "a_0_1"]
    with pytest.raises(TilerError, match="a_0_0: its numbers do not say.*--tile.*--stride"):
        read(names)
    with pytest.raises(TilerError, match="a_0_1.*320, y 0.*400, y 0.*say --stride$"):
        read(names, tile=400)
    found = read(names, tile=400, stride=320)
    assert found.rects.tolist() == [[0, 0, 400, 400], [320, 0, 720, 400]]
    with pytest.raises(TilerError, match="shift.*trim.*say --edge$"):
        read(names, tile=400, stride=400)
    trimmed = read(names, tile=400, stride=400, edge="trim")
    assert trimmed.rects.tolist() == [[0, 0, 400, 400], [400, 0, 720, 400]]


def test_one_place_is_the_corner_whatever_the_stride():
    assert read(["a_0_0"], tile=400).rects.tolist() == [[0, 0, 400, 400]]


def placed(rows, columns):
    return [f"a_{row}_{col}" for row in range(rows) for col in range(columns)]


def test_tiles_side_by_side_need_no_stride():
    sizes = {"a": (1600, 1200)}
    found = decided(placed(3, 4), sizes, PredictionOptions(tile=400))
    assert found.said == "{stem}_{row}_{col}, side by side"
    assert found.rects[-1].tolist() == [1200, 800, 1600, 1200]


@pytest.mark.parametrize(
    ("names", "size"),
    [
        (placed(3, 4)[:-1], (1600, 1200)),  # one is missing, so others may be
        (placed(3, 4), (1500, 1200)),
        (placed(2, 4), (1600, 800)),  # of two tiles in a column it may be chance
        (placed(3, 3), (1200, 1200)),  # column and row may come first
    ],
)
def test_otherwise_they_do(names, size):
    with pytest.raises(TilerError, match="say --(stride|naming)"):
        decided(names, {"a": size}, PredictionOptions(tile=400))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 300}, "--tile: a_0_0_400_400: has 400 px along x by its name .*, not 300"),
        ({"tile": 640}, "--tile: a_0_0_400_400: has 400 px along x by its name .*, not 640"),
        ({"stride": 100}, None),
        ({"stride": 150}, None),
        ({"tile": 400, "stride": 320}, None),
    ],
)
def test_options_that_names_contradict(options, message):
    names = ["a_0_0_400_400", "a_320_0_720_400"]
    if message is None:  # the second ends at the border, wherever it would begin
        assert read(names, **options).said == "sahi"
        return
    with pytest.raises(TilerError, match=message):
        read(names, naming="sahi", **options)


def test_a_stride_that_names_contradict():
    names = ["a_0_0_300_400", "a_200_0_500_400"]
    with pytest.raises(TilerError, match="--stride: a_200_.*begins at x 200.*no multiple of 150"):
        read(names, naming="sahi", stride=150)


def test_one_number_says_nothing():
    with pytest.raises(TilerError, match="one number does not say.*--tiles with a table"):
        read(["a_0", "a_1"], tile=400)


def test_odd_tiles_of_names_without_a_grid_are_none():
    rng = np.random.default_rng(0)
    corners = rng.integers(1, 500, (30, 2)) * 2 + 1
    names = [f"a_{x}_{y}_200_200" for x, y in corners] + ["a_7_3_90_200"]
    found = decided(names, {"a": (1301, 1203)}, PredictionOptions(naming="{stem}_{x}_{y}_{w}_{h}"))
    assert len(found.names) == 31  # as asked
    sizes = {"a": (1301, 1203)}
    with pytest.raises(TilerError, match="say --naming"):
        decided(names, sizes, PredictionOptions())
    narrow = [f"a_{x}_{y % 100}_200_200" for x, y in corners] + ["a_7_3_90_200"]
    found = decided(narrow, {"a": (1301, 301)}, PredictionOptions())
    assert len(found.names) == 30


def test_no_reading_is_said_with_what_was_tried():
    with pytest.raises(TilerError, match=r"a_9_9_8_7: no reading of the names.*720 x 400 px"):
        read(["a_9_9_8_7", "a_500_300_999_999", "a_1_2_3_4"])
    with pytest.raises(TilerError, match="no prediction is named so"):
        read(["a_0_0"], naming="{stem}__{x}_{y}", tile=400)
    with pytest.raises(TilerError, match=r"\{stem\}_\{x\}_\{y\} does not say how large"):
        read(["a_0_0"], naming="{stem}_{x}_{y}")


def test_an_image_may_be_called_like_another_with_a_number():
    sizes = {"a": (720, 400), "a_0": (720, 400)}
    names = [f"{stem}_{x}_0_{x + 400}_400" for stem in sizes for x in (0, 320)]
    found = decided(names, sizes, PredictionOptions())
    assert (found.naming, found.stems) == ("sahi", ["a", "a", "a_0", "a_0"])


@pytest.mark.parametrize("other", ["ab", "a_left", "a7"])
def test_tiles_of_an_image_that_is_not_there_are_not_those_of_another(other):
    names = [f"{other}_{x}_0_{x + 400}_400" for x in (0, 320)]
    assert read(names) is None
    own = [f"a_{x}_0_{x + 400}_400" for x in (0, 320)]
    assert read(names + own).names == own


def test_nor_are_those_with_a_number_in_its_name():
    with pytest.raises(TilerError, match="a_7_0_0_400_400: its numbers do not say where"):
        read([f"a_7_{x}_0_{x + 400}_400" for x in (0, 320)])


def test_tiles_of_one_size_without_a_grid_are_taken_if_one_reading_makes_them():
    names = ["a_13_7_200_200", "a_101_54_200_200", "a_330_111_200_200"]
    found = decided(names, {"a": (720, 320)}, PredictionOptions())
    assert found.said == "{stem}_{x}_{y}_{w}_{h}"
    with pytest.raises(TilerError, match="say --naming '{stem}_{x}_{y}_{w}_{h}' or"):
        read(names)  # y first is possible too


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{stem}_{x}", "one x or col and one y or row"),
        ("{stem}_{x}_{x}", "each field once"),
        ("{stem}_{x}_{y}_{row}", "one x or col and one y or row"),
        ("{stem}_{a}_{y}", "'a' is none of them"),
        ("shai", "did you mean 'sahi'"),
    ],
)
def test_a_pattern_says_one_place(pattern, message):
    with pytest.raises(TilerError, match=message):
        PredictionOptions(naming=pattern)


@pytest.mark.parametrize("piece", ["a", "1", "_", "1_", "-1", ".rf."])
def test_names_of_any_length_take_no_longer_than_they_are(piece):
    name = "a" + piece * (300_000 // len(piece))
    start = time.process_time()
    assert name_patterns.numbered(name, {"a"}) == []
    pattern = NamePattern.of("{stem}{*}{x}{*}{y}_q")
    assert pattern.read(name, {"a"}) is None
    assert pattern.read(name[:120], {"a"}) is None
    assert time.process_time() - start < 1


def test_anything_in_a_pattern_takes_no_digits_of_a_number():
    pattern = NamePattern.of("{stem}{*}{x}{*}{y}")
    assert pattern.read("a_t12__340", {"a_t", "a"}) == ("a_t", {"x": 12.0, "y": 340.0})
    assert NamePattern.of("{stem}_{*}_{x}_{y}").read("a__1_2", {"a"}) == ("a", {"x": 1.0, "y": 2.0})


FIELDS = ("{stem}", "{*}", "{x}", "{y}", "{w}", "{scale}", "_", "-", "a", "0a", "q")
REGEX = {
    "{stem}": "(?P<stem>.+)",
    "{*}": "(?:(?<![0-9])|(?![0-9])).*?(?:(?<![0-9])|(?![0-9]))",
    "{scale}": r"(?P<scale>[0-9]{1,9}(?:\.[0-9]{1,9})?)",
} | {f"{{{k}}}": f"(?P<{k}>[0-9]{{1,9}})" for k in "xyw"}


def is_pattern(pieces):
    """Whether each field but {*} is there once, and numbers are not side by side."""
    own = [piece for piece in pieces if piece.startswith("{") and piece != "{*}"]
    meet = NUMBERS_MEET.search("".join(pieces))
    followed = "{scale}" in pieces and not {"{*}"}.isdisjoint(pieces)
    return len(set(own)) == len(own) and meet is None and not followed


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(FIELDS), min_size=1, max_size=9).filter(is_pattern),
    st.text("a0129_-q.", max_size=14),
)
def test_patterns_read_what_one_regular_expression_would(pieces, name):
    regex = "".join(REGEX.get(piece, re.escape(piece)) for piece in pieces)
    match = re.fullmatch(regex, name, re.DOTALL)
    found = NamePattern.of("".join(pieces))._fields(name)
    assert found == (None if match is None else match.groupdict())


def calls_of(function, *args):
    """How many functions it calls, those of the interpreter included."""
    count = 0

    def seen(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("pieces", [2, 8, 60])
@pytest.mark.parametrize("piece", ["a", "_", "1_", "_1", "a_1_"])
def test_steps_grow_with_the_name_and_the_pattern_only(pieces, piece):
    pattern = NamePattern.of("{stem}" + "{*}_" * pieces + "{x}_{y}_q")
    for length in (60, 120, 240):
        name = "a" + piece * (length // len(piece))
        assert calls_of(pattern.read, name, {"a"}) < 50 + 16 * length * (pieces + 3)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{stem}_{x}{y}", "text between a number and the next field"),
        ("{stem}_{x}00{y}", "text between a number and the next field"),
        ("{x}{stem}_{y}", "text between a number and the next field"),
        ("{stem}_{x}_{y}{*", "braces are in pairs"),
        ("{stem}}_{x}_{y}", "braces are in pairs"),
        ("{stem}_{{x}_{y}", "braces are in pairs"),
        ("{stem}_{x}_{y}" + "{*}" * 100, "at most 255 characters"),
    ],
)
def test_patterns_that_cannot_be_read_are_rejected(pattern, message):
    with pytest.raises(TilerError, match=message):
        PredictionOptions(naming=pattern)
