"""Names of tiles are read as they were written, or not at all: never otherwise in silence."""

from types import SimpleNamespace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tiler.datasets.naming import decided
from tiler.errors import TilerError
from tiler.geometry.grids import grid
from tiler.options import PredictionOptions

WITH_SIZE = {
    "tiler": lambda t: f"__{t.x}_{t.y}_{t.w}_{t.h}",
    "sahi": lambda t: f"_{t.x}_{t.y}_{t.x + t.w}_{t.y + t.h}",
    "xywh": lambda t: f"_{t.x}_{t.y}_{t.w}_{t.h}",
    "yxhw": lambda t: f"_{t.y}_{t.x}_{t.h}_{t.w}",
    "yxyx": lambda t: f"-{t.y}-{t.x}-{t.y + t.h}-{t.x + t.w}",
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
REJECTED = ("Both readings of the names fit", "no reading of the names", "say --stride")
sides = st.integers(40, 900)
exhaustive = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
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
