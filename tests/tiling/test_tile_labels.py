from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import KEYPOINTS, SIDE, instances, outline, quick
from tiler.formats import trainer_rules, yolo
from tiler.geometry.instances import Instances, empty
from tiler.geometry.polygons import Rings
from tiler.options import SplitOptions
from tiler.tiling import tile_labels as views_module
from tiler.tiling.planning import planned_tiles
from tiler.tiling.tile_labels import LabelRows, views
from tiler.types import TASKS

CLASSES = 3
FOUR = np.array([[0, 0, 100, 100], [100, 0, 200, 100], [0, 100, 100, 200], [100, 100, 200, 200.0]])
TILE = np.array([[0, 0, 100, 100.0]])


def label_rows(*arguments):
    rows = views_module.label_rows(*arguments)
    return rows.view, rows.values


def masked_outlines(found, tile, bounds, ignored):
    none = LabelRows(np.empty(0, int), [], np.empty(0), np.zeros(len(found.tile), bool), empty())
    return views_module.masked_outlines(found, none, tile, bounds, ignored)


def spec(task):
    return yolo.Spec(task, CLASSES, (KEYPOINTS, 3) if task == "pose" else None)


def detect(*boxes, class_id=None):
    class_id = np.zeros(len(boxes), np.int64) if class_id is None else np.array(class_id)
    return Instances(class_id, np.array(boxes, np.float64).reshape(-1, 4))


def segment(*objects):
    rings = Rings.of([[np.array(ring, np.float64) for ring in obj] for obj in objects])
    return Instances(np.zeros(len(objects), np.int64), rings.bounds(), rings=rings, task="segment")


def square(x, y, side=10):
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def seen_by(rows, windows=FOUR, scale=1.0, **options):
    return views(rows, windows, np.full(len(windows), scale), SplitOptions(**options))


def fates(rows, windows=FOUR, scale=1.0, **options):
    """`(tile, object)` of the views that are kept, below and hidden."""
    found = seen_by(rows, windows, scale, **options)
    at = list(zip(found.tile.tolist(), found.object.tolist(), strict=True))
    return [
        [at[k] for k in np.flatnonzero(column)]
        for column in (found.kept, found.below, found.hidden)
    ]


def rows_of(rows, windows=FOUR, scale=1.0, **options):
    """Tile, object and numbers of each label row."""
    scales, chosen = np.full(len(windows), scale), SplitOptions(**options)
    found = views(rows, windows, scales, chosen)
    index, numbers = label_rows(found, windows, scales, chosen, spec(rows.task))
    return found.tile[index].tolist(), found.object[index].tolist(), numbers


@st.composite
def splits(draw, task=None, **kinds):
    """Objects of an image, and the windows, scales and options that it is cut with."""
    rows = draw(instances(task=task, classes=CLASSES, **kinds))
    options = SplitOptions(
        tile=draw(st.integers(30, 150)),
        overlap=draw(st.sampled_from([0, 0.2, 0.5])),
        edge=draw(st.sampled_from(["shift", "balance", "trim", "pad"])),
        scale=draw(st.sampled_from(["1", "0.5", "1,0.5"])),
        min_visible=draw(st.sampled_from([0, 0.1, 0.25, 0.5, 0.9, 1])),
        min_size=draw(st.sampled_from([0, 2, 5, 20])),
        truncated=draw(st.sampled_from(["drop", "keep", "mask", "skip-tile"])),
        rescue=draw(st.booleans()),
        obb=draw(st.sampled_from(["aligned", "minrect", "full"])),
        parts=draw(st.sampled_from(["separate", "bridge", "largest"])),
    )
    where = planned_tiles("a", SIDE, SIDE, options)
    return (
        rows,
        np.array([p.window.bounds for p in where]),
        np.array([p.scale for p in where]),
        options,
    )


# --- what is kept


@quick
@given(splits())
def test_there_is_a_view_of_each_object_in_each_tile_that_shows_some_of_it(split):
    rows, windows, *_ = split
    found = views(*split)
    at = list(zip(found.tile.tolist(), found.object.tolist(), strict=True))
    assert at == sorted(set(at))
    for t, window in enumerate(shapely.box(*windows.T)):
        for i in range(len(rows)):
            area = outline(rows, i).intersection(window).area
            if area > 1e-6:
                assert found.seen.visible[at.index((t, i))] == pytest.approx(
                    area / outline(rows, i).area, abs=1e-9
                )
            elif area == 0:
                assert (t, i) not in at


def naive_fates(found, rows, windows, scales, options):
    """The rules of --min-visible, --min-size, --rescue and --truncated, one view after the
    other.
    """
    kept = []
    for k in range(len(found.tile)):
        t, i = found.tile[k], found.object[k]
        best = 1.0
        for low in (0, 1):
            best *= min(
                1.0,
                (windows[t, low + 2] - windows[t, low])
                / (rows.boxes[i, low + 2] - rows.boxes[i, low]),
            )
        width, height = (found.seen.boxes[k, 2:] - found.seen.boxes[k, :2]) * scales[t]
        large = min(width, height) >= options.min_size * (1 - 1e-9)
        kept.append(
            (large, large and found.seen.visible[k] >= options.min_visible * best * (1 - 1e-9))
        )
    good = {k for k, (_, enough) in enumerate(kept) if enough}
    if options.rescue:
        for i in range(len(rows)):
            mine = [k for k in range(len(kept)) if found.object[k] == i]
            if not good.intersection(mine):
                large = [k for k in mine if kept[k][0]]
                good |= (
                    {min(large, key=lambda k: (-found.seen.visible[k], found.tile[k]))}
                    if large
                    else set()
                )
    below = set(range(len(kept))) - good
    if options.truncated == "keep":
        good |= below
    return good, below, below if options.truncated == "mask" else set()


@quick
@given(splits())
def test_views_are_kept_by_the_rules(split):
    found = views(*split)
    columns = [
        set(np.flatnonzero(column).tolist()) for column in (found.kept, found.below, found.hidden)
    ]
    assert columns == list(naive_fates(found, *split))


@quick
@given(splits(), st.data())
def test_the_order_of_the_objects_changes_nothing_but_the_order(split, data):
    rows, *rest = split
    order = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    outcomes = []
    for given_rows, names in ((rows, np.arange(len(rows))), (rows.take(order), order)):
        found = views(given_rows, *rest)
        _, numbers = label_rows(found, *rest, spec(rows.task))
        columns = (
            found.tile,
            names[found.object],
            found.kept,
            found.below,
            found.hidden,
            found.seen.visible,
            *found.seen.boxes.T,
        )
        index, _ = label_rows(found, *rest, spec(rows.task))
        labels = sorted(
            (int(t), row.tobytes()) for t, row in zip(found.tile[index], numbers, strict=True)
        )
        outcomes.append((sorted(zip(*(c.tolist() for c in columns), strict=True)), labels))
    assert outcomes[0] == outcomes[1]


@quick
@given(splits(min_size=1))
def test_with_rescue_no_object_is_lost_that_is_large_enough_somewhere(split):
    _, _, _, options = split
    found = views(*split)
    assume(options.rescue)
    assert set(found.object[found.large]) <= set(found.object[found.kept])


def test_an_object_keeps_its_label_where_enough_of_it_shows():
    """Of 20 px, 16 are left of the cut and 4 right of it."""
    car = detect((84, 40, 104, 60))
    assert fates(car) == [[(0, 0)], [(1, 0)], []]
    assert fates(car, min_visible=0.2) == [[(0, 0), (1, 0)], [], []]
    assert fates(car, min_visible=0.81) == [[(0, 0)], [(1, 0)], []]
    assert fates(car, min_visible=0.81, rescue=False) == [[], [(0, 0), (1, 0)], []]


def test_a_part_smaller_than_min_size_is_below_whatever_it_shows():
    """1.5 px of the car are left of the cut and 1 px right of it."""
    car = detect((98.5, 40, 101, 60))
    assert fates(car, min_visible=0) == [[], [(0, 0), (1, 0)], []]
    assert fates(car, min_visible=0, min_size=1.5) == [[(0, 0)], [(1, 0)], []]
    assert fates(car, min_visible=0, min_size=1) == [[(0, 0), (1, 0)], [], []]


def test_min_size_is_meant_in_pixels_of_the_tile():
    car = detect((10, 10, 13, 13))
    assert fates(car, TILE) == [[(0, 0)], [], []]
    assert fates(car, TILE, scale=0.5) == [[], [(0, 0)], []]
    assert fates(car, TILE, scale=2 / 3) == [[(0, 0)], [], []]


def test_of_an_object_larger_than_the_tile_as_much_as_a_tile_can_show_is_all():
    windows = np.array(
        [[0, 0, 100, 100], [100, 100, 200, 200], [290, 100, 390, 200], [280, 100, 380, 200.0]]
    )
    field = detect((0, 0, 300, 300))
    found = seen_by(field, windows)
    assert found.seen.visible.tolist() == pytest.approx([1 / 9, 1 / 9, 1 / 90, 1 / 45])
    assert found.kept.tolist() == [True, True, False, False]
    assert fates(field, windows, min_visible=0.2)[0] == [(0, 0), (1, 0), (3, 0)]
    assert fates(field, windows, min_visible=1)[0] == [(0, 0), (1, 0)]


def test_a_road_longer_than_the_tile_is_measured_along_its_other_side():
    road = detect((0, 90, 1000, 110))
    windows = np.array([[300, 0, 400, 100], [300, 95, 400, 195.0]])
    assert fates(road, windows, min_visible=0.5)[0] == [(0, 0), (1, 0)]
    assert fates(road, windows, min_visible=0.6)[0] == [(1, 0)]


def test_the_first_of_tiles_that_show_equally_much_is_rescued():
    quarters = detect((90, 90, 110, 110))
    assert fates(quarters, min_visible=0.5) == [[(0, 0)], [(1, 0), (2, 0), (3, 0)], []]
    assert fates(quarters, FOUR[::-1], min_visible=0.5)[0] == [(0, 0)]


def test_the_tile_that_shows_most_is_rescued():
    assert fates(detect((91, 92, 111, 112)), min_visible=0.5)[0] == [(3, 0)]


def test_what_is_too_small_everywhere_is_not_rescued():
    dots = detect((10, 10, 11, 11), (99, 50, 101, 60))
    assert fates(dots) == [[], [(0, 0), (0, 1), (1, 1)], []]


def test_an_object_with_a_kept_view_is_not_rescued_elsewhere():
    assert fates(detect((70, 40, 110, 60)), min_visible=0.7) == [[(0, 0)], [(1, 0)], []]


@pytest.mark.parametrize(
    ("truncated", "kept", "hidden"),
    [
        ("drop", [(0, 0)], []),
        ("keep", [(0, 0), (1, 0)], []),
        ("mask", [(0, 0)], [(1, 0)]),
        ("skip-tile", [(0, 0)], []),
    ],
)
def test_what_is_below_is_treated_as_asked(truncated, kept, hidden):
    assert fates(detect((80, 40, 104, 60)), truncated=truncated) == [kept, [(1, 0)], hidden]


@pytest.mark.parametrize("task", TASKS)
def test_no_objects_have_no_views_and_no_rows(task):
    assert fates(empty(task, KEYPOINTS)) == [[], [], []]
    assert rows_of(empty(task, KEYPOINTS)) == ([], [], [])


@pytest.mark.parametrize("task", ["segment", "obb"])
def test_a_thin_diagonal_has_no_row_where_no_pixel_of_it_is(task):
    corners = [(2, 0), (200, 198), (198, 200), (0, 2)]
    rings = Rings.of([[np.array(corners, np.float64)]])
    rows = Instances(np.array([0]), rings.bounds(), rings=rings, task=task)
    off = np.array([[0, 0, 100, 100], [110, 0, 200, 90], [0, 110, 90, 200], [100, 100, 200, 200.0]])
    assert seen_by(rows, off).tile.tolist() == [0, 3]
    assert rows_of(rows, off)[0] == [0, 3]


def test_the_diamond_at_a_tiles_corner_has_a_row():
    diamond = np.array([(950, 850), (1050, 950), (950, 1050), (850, 950)], np.float64)
    rings = Rings.from_quads(diamond[None])
    rows = Instances(np.array([1]), rings.bounds(), rings=rings, task="obb")
    tiles, _, (row,) = rows_of(rows, np.array([[0, 0, 1024, 1024.0]]))
    assert tiles == [0]
    assert row[0] == 1
    part = shapely.Polygon(diamond).intersection(shapely.box(0, 0, 1024, 1024))
    assert part.difference(shapely.Polygon(row[1:].reshape(4, 2) * 1024).buffer(1e-4)).is_empty


# --- label rows


def refused(lines, task):
    """What the trainer would say of a label file: its rules, in its own precision, on what is
    written.
    """
    table = [[np.float32(word) for word in line.split()] for line in lines]
    said = []
    if len({tuple(row) for row in table}) < len(table):
        said.append("duplicates")
    for row in table:
        points = np.array(row[1:])
        if task in ("segment", "obb"):
            fits = len(row) == 9 if task == "obb" else len(row) >= 7 and len(row) % 2 == 1
            x, y = points[0::2], points[1::2]
            box = np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2, np.ptp(x), np.ptp(y)])
        else:
            fits = len(row) == (5 + 3 * KEYPOINTS if task == "pose" else 5)
            box = points[:4]
        xy = points[4:].reshape(-1, 3)[:, :2] if task == "pose" else box
        if not fits:
            said.append("fields")
        if row[0] % 1 or not 0 <= row[0] < CLASSES:
            said.append("class")
        if (
            max(box.max(), xy.max()) > 1.01
            or min(box.min(), xy.min()) < -0.01
            or box[2:].min() <= 0
        ):
            said.append("bounds")
    return said


@quick
@given(splits())
def test_every_row_is_one_that_the_trainer_takes(split):
    rows, windows, *_ = split
    found = views(*split)
    index, numbers = label_rows(found, *split[1:], spec(rows.task))
    assert trainer_rules.accepted(numbers, rows.task, CLASSES, spec(rows.task).out_shape).all()
    for t in range(len(windows)):
        here = np.flatnonzero(found.tile[index] == t)
        assert (
            refused(yolo.text([numbers[i] for i in here], rows.task).splitlines(), rows.task) == []
        )


@quick
@given(splits(min_size=1))
def test_what_is_kept_has_a_row(split):
    rows, windows, scales, options = split
    assume(options.min_size > 0 and options.truncated != "keep")
    rows = replace(rows, class_id=np.arange(len(rows)))  # no duplicates
    found = views(rows, windows, scales, options)
    index, _ = label_rows(
        found, windows, scales, options, replace(spec(rows.task), classes=len(rows))
    )
    assert set(index.tolist()) == set(np.flatnonzero(found.kept).tolist())


@quick
@given(splits())
def test_rows_are_of_kept_views_in_their_order(split):
    found = views(*split)
    index, numbers = label_rows(found, *split[1:], spec(split[0].task))
    assert len(index) == len(numbers)
    assert index.tolist() == sorted(index.tolist())
    assert found.kept[index].all()
    assert [row[0] for row in numbers] == found.seen.class_id[index].tolist()


@quick
@given(splits())
def test_a_box_is_written_where_it_is_seen_to_a_ten_thousandth_of_a_pixel(split):
    rows, windows, *_ = split
    found = views(*split)
    index, numbers = label_rows(found, *split[1:], spec(rows.task))
    for k, row in zip(index, numbers, strict=True):
        left, top, right, bottom = windows[found.tile[k]]
        centre, size = trainer_rules.derived_boxes(row[None], rows.task)[0].reshape(2, 2) * [
            right - left,
            bottom - top,
        ]
        box = np.concatenate([centre - size / 2, centre + size / 2]) + np.array(
            [left, top, left, top]
        )
        if rows.task != "segment":
            np.testing.assert_allclose(box, found.seen.boxes[k], atol=1e-4)
        else:  # a part of it
            assert (box[:2] >= found.seen.boxes[k, :2] - 1e-4).all()
            assert (box[2:] <= found.seen.boxes[k, 2:] + 1e-4).all()


@quick
@given(splits(task="segment", max_size=1))
def test_the_rows_of_a_view_fill_what_it_shows(split):
    rows, windows, scales, options = split
    options = SplitOptions.of({**options.plain(), "min_size": 0})
    assume(options.parts != "largest")
    found = views(rows, windows, scales, options)
    index, numbers = label_rows(found, windows, scales, options, spec("segment"))
    for k in set(index.tolist()):
        left, top, right, bottom = windows[found.tile[k]]
        rings = [
            numbers[i][1:].reshape(-1, 2) * [right - left, bottom - top] + [left, top]
            for i in np.flatnonzero(index == k)
        ]
        written, shown = Rings.of([rings]).geometry()[0], outline(found.seen, k)
        assert written.symmetric_difference(shown).area < 1e-4 * (1 + shown.length)


# a mass outside that reaches into the tile with a spike from three sides, of 300, 300 and 75 px²
SPIKES = [
    *[
        (-50, -50),
        (150, -50),
        (150, 100),
        (100, 100),
        (100, 60),
        (70, 50),
        (100, 40),
        (100, 0),
        (55, 0),
        (50, 15),
        (45, 0),
    ],
    *[(0, 0), (0, 40), (30, 50), (0, 60), (0, 100), (-50, 100)],
]


def row_areas(numbers, side=100):
    rings = Rings.of([[row[1:].reshape(-1, 2) * side] for row in numbers])
    return shapely.area(rings.geometry()).tolist()


@pytest.mark.parametrize(
    ("parts", "areas"), [("separate", [75, 300, 300]), ("bridge", [675]), ("largest", [300])]
)
def test_an_outline_in_three_parts(parts, areas):
    tiles, objects, numbers = rows_of(segment([SPIKES]), TILE, parts=parts, min_visible=0)
    assert tiles == objects == [0] * len(areas)
    assert sorted(row_areas(numbers)) == pytest.approx(areas, abs=1e-4)


def test_a_part_under_min_size_is_left_out_unless_it_is_all_there_is():
    spikes = segment([SPIKES])
    assert sorted(row_areas(rows_of(spikes, TILE, min_visible=0, min_size=12)[2])) == pytest.approx(
        [300, 300]
    )
    # together they are large enough
    assert len(rows_of(spikes, TILE, min_visible=0, min_size=25)[2]) == 1
    assert len(rows_of(spikes, TILE, min_visible=0, min_size=25, parts="bridge")[2]) == 1


def test_an_outline_of_two_parts_is_one_row_where_it_is_whole_and_two_where_it_is_cut():
    pair = segment([square(10, 10), square(90, 10, 20)])
    assert row_areas(rows_of(pair, np.array([[0, 0, 200, 200.0]]))[2], 200) == pytest.approx(
        [500], abs=1e-3
    )
    assert row_areas(rows_of(pair, TILE)[2]) == pytest.approx([100, 200], abs=1e-3)


def test_a_donut_is_written_as_a_key_hole_whole_and_cut():
    donut = segment([square(70, 20, 60), square(90, 40, 20)])
    whole = rows_of(donut, np.array([[0, 0, 200, 200.0]]))[2]
    assert row_areas(whole, 200) == pytest.approx([3200], abs=1e-3)
    cut = rows_of(donut, np.array([[0, 0, 120, 120.0]]))[2]
    assert row_areas(cut, 120) == pytest.approx([50 * 60 - 400], abs=1e-3)
    assert (
        not Rings.of([[cut[0][1:].reshape(-1, 2) * 120]])
        .geometry()[0]
        .contains(shapely.Point(100, 50))
    )


def test_the_wings_of_a_cut_bow_tie_are_rows():
    bow_tie = segment([[(-10, 20), (50, 80), (50, 20), (-10, 80)]])
    assert sorted(row_areas(rows_of(bow_tie, TILE)[2])) == pytest.approx([400, 900], abs=1e-3)
    assert row_areas(rows_of(bow_tie, TILE, parts="bridge")[2]) == pytest.approx([1300], abs=1e-3)


def test_two_objects_of_a_class_that_a_tile_shows_alike_are_one_row_there():
    fields = detect((0, 0, 150, 100), (0, 0, 180, 100))
    tiles, objects, _ = rows_of(fields, min_visible=0)
    assert list(zip(tiles, objects, strict=True)) == [(0, 0), (1, 0), (1, 1)]


def test_objects_of_two_classes_that_a_tile_shows_alike_are_two_rows():
    assert len(rows_of(detect((0, 0, 150, 100), (0, 0, 180, 100), class_id=[0, 1]), TILE)[2]) == 2


def test_what_differs_only_beyond_single_precision_is_a_duplicate_to_the_trainer():
    assert len(rows_of(detect((10, 10, 90, 90), (10, 10, 90, 90 + 1e-6)), TILE)[2]) == 1
    assert len(rows_of(detect((10, 10, 90, 90), (10, 10, 90, 90.001)), TILE)[2]) == 2


def test_full_corners_that_reach_too_far_out_are_aligned_instead():
    rows = Instances(
        np.array([0]),
        np.array([[80, 20, 160, 60.0]]),
        rings=Rings.of([[np.array([(80, 20), (160, 20), (160, 60), (80, 60)], np.float64)]]),
        task="obb",
    )
    (row,) = rows_of(rows, TILE, obb="full")[2]
    assert row[1:].reshape(4, 2).tolist() == [[0.8, 0.2], [1, 0.2], [1, 0.6], [0.8, 0.6]]
    near = rows.moved(-56, 0)
    (row,) = rows_of(near, TILE, obb="full")[2]
    assert row[1::2].max() == pytest.approx(1.04)


def test_keypoints_outside_the_tile_are_written_as_0_0_0():
    keypoints = np.array([[[90, 30, 2], [110, 30, 1], [0, 0, 0.0]]])
    person = Instances(
        np.array([0]), np.array([[80, 20, 120, 60.0]]), keypoints=keypoints, task="pose"
    )
    tiles, _, numbers = rows_of(person)
    assert tiles == [0, 1]
    assert numbers[0].tolist() == [0, 0.9, 0.4, 0.2, 0.4, 0.9, 0.3, 2, 0, 0, 0, 0, 0, 0]
    assert numbers[1].tolist() == [0, 0.1, 0.4, 0.2, 0.4, 0, 0, 0, 0.1, 0.3, 1, 0, 0, 0]


# --- what is painted out


def painted_out(rows, tile, ignored=(), **options):
    found = seen_by(rows, **options)
    outlines = masked_outlines(
        found, tile, FOUR[tile], Rings.of([[np.array(r, np.float64)] for r in ignored])
    )
    return [[shapely.Polygon(ring).bounds for obj in side for ring in obj] for side in outlines]


def test_a_masked_view_is_painted_out_and_a_kept_one_spared():
    cars = detect((80, 40, 104, 60), (101, 45, 120, 70))
    assert painted_out(cars, 1, truncated="mask") == [[(100, 40, 104, 60)], [(101, 45, 120, 70)]]
    assert painted_out(cars, 0, truncated="mask") == [[], []]
    assert painted_out(cars, 1) == [[], []]


def test_ignored_regions_are_painted_out_of_every_tile_that_meets_them():
    car = detect((10, 10, 20, 20))
    region = square(90, 40, 30)
    assert painted_out(car, 0, [region]) == [[(90, 40, 120, 70)], [(10, 10, 20, 20)]]
    assert painted_out(car, 1, [region]) == [[(90, 40, 120, 70)], []]
    assert painted_out(car, 2, [region]) == [[], []]
