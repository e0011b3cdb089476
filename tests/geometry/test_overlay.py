"""Areas made of areas: polygons only, whatever touches; and no outline that eats the machine."""

import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

import tiler
from tests.strategies import quick
from tiler.errors import TilerError
from tiler.geometry import overlay, polygons
from tiler.geometry.polygons import Rings

# Corners on whole pixels of a small image: most of these outlines touch, run along each other and
# the tiles' edges
corner = st.tuples(st.integers(0, 12), st.integers(0, 12))
whole_rings = st.lists(corner, min_size=3, max_size=9).map(lambda points: np.array(points, float))
areal_rings = whole_rings.filter(lambda ring: Rings.of([[ring]]).geometry()[0].area > 0)


def shapes_of(rings):
    return Rings.of([[ring] for ring in rings]).geometry()


def kinds(shapes):
    return {shape.geom_type for shape in shapes}


@quick
@given(areal_rings, areal_rings, st.integers(0, 12), st.integers(0, 12))
def test_what_areas_share_and_cover_are_polygons_of_that_area(one, other, x, y):
    left, right = shapes_of([one]), shapes_of([other])
    window = np.array([shapely.box(x, 0, x + 4, 12)])
    cut = overlay.common(left, window)
    shared, together = (
        overlay.common(cut, right),
        overlay.united(np.array([left[0], right[0]]), np.array([0])),
    )
    odd = overlay.even_odd(np.array([left[0], right[0]]))
    assert kinds([cut[0], shared[0], together[0], odd]) <= {"Polygon", "MultiPolygon"}
    assert shapely.is_valid([cut[0], shared[0], together[0], odd]).all()
    common = overlay.common_area(left, right)[0]
    assert together[0].area == pytest.approx(left[0].area + right[0].area - common)
    assert odd.area == pytest.approx(together[0].area - common)
    assert overlay.common_area(cut, right)[0] == pytest.approx(shared[0].area)
    assert shared[0].area <= min(cut[0].area, right[0].area) + 1e-9


@quick
@given(st.lists(areal_rings, min_size=1, max_size=7))
def test_even_odd_is_one_symmetric_difference_after_the_other(rings):
    expected = shapely.Polygon()
    for shape in shapes_of(rings):
        expected = shapely.symmetric_difference(expected, shape)
    found = overlay.even_odd(shapes_of(rings))
    assert shapely.symmetric_difference(found, expected).area == pytest.approx(0, abs=1e-9)


def test_what_is_left_of_touching_shapes_is_no_line():
    mixed = shapely.GeometryCollection(
        [
            shapely.LineString([(0, 0), (9, 9)]),
            shapely.GeometryCollection([shapely.box(0, 0, 1, 1), shapely.Point(5, 5)]),
        ]
    )
    found = overlay.areal(
        np.array(
            [
                mixed,
                shapely.box(0, 0, 2, 2),
                shapely.LineString([(0, 0), (1, 1)]),
                shapely.GeometryCollection(),
            ]
        )
    )
    assert shapely.area(found).tolist() == [1, 4, 0, 0]
    assert kinds(found) <= {"Polygon", "MultiPolygon"}


@pytest.mark.parametrize("name", ["intersection", "symmetric_difference", "union_all"])
def test_where_geos_gives_up_a_grid_helps(monkeypatch, name):
    """GEOS fails on few shapes, and other ones with each version: here it fails on all but for a
    grid.
    """
    given = getattr(shapely, name)

    def failing(*shapes, grid_size=None, **options):
        if grid_size is None:
            raise shapely.GEOSException("TopologyException: side location conflict")
        return given(*shapes, grid_size=grid_size, **options)

    one, other = np.array([shapely.box(0, 0, 4.3, 4)]), np.array([shapely.box(2, 0, 6, 4)])
    both = np.concatenate([one, other])
    monkeypatch.setattr(shapely, name, failing)
    assert overlay.common(one, other)[0].area == pytest.approx(9.2, abs=1e-3)
    assert overlay.common_area(one, other)[0] == pytest.approx(9.2, abs=1e-3)
    assert overlay.united(both, np.array([0, 1]))[1].area == pytest.approx(16, abs=1e-3)
    assert overlay.united(both, np.array([0]))[0].area == pytest.approx(24, abs=1e-3)
    assert overlay.even_odd(both).area == pytest.approx(14.8, abs=1e-3)
    bow_tie = shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)])
    assert overlay.filled(np.array([bow_tie]))[0].area == pytest.approx(8, abs=1e-3)


def test_areas_that_differ_in_the_last_bit_are_one_area():
    """GEOS finds no common area of some, and unites some into both, one over the other."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(6000):
        w, h, turn = rng.uniform(5, 300), rng.uniform(5, 60), rng.uniform(0, np.pi)
        ring = (
            np.array([[-w, -h], [w, -h], [w, h], [-w, h]])
            / 2
            @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        )
        ring += rng.integers(0, 1000, 2)
        other = ring + np.spacing(ring) * rng.integers(-3, 4, ring.shape) * (
            rng.random(ring.shape) < 0.5
        )
        one, two = shapes_of([ring]), shapes_of([other])
        wrong += shapely.intersection(one, two)[0].area == 0
        wrong += not shapely.is_valid(shapely.union(one, two))[0]
        assert overlay.common_area(one, two)[0] == pytest.approx(w * h, rel=1e-4)
        both = np.array([one[0], two[0]])
        assert overlay.united(both, np.array([0]))[0].area == pytest.approx(w * h, rel=1e-4)
        assert overlay.even_odd(both).area < 1e-4 * w * h
    assert wrong  # or this tries nothing any more


# --- outlines that cross themselves


def star(points, step):
    """A ring of `points` corners on a circle that goes on by `step` of them each time."""
    angle = np.arange(points) * step * 2 * np.pi / points
    return np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], axis=1)


def crossings(ring):
    """How often edges cross, pair by pair."""
    edges = [shapely.LineString(pair) for pair in zip(ring, np.roll(ring, -1, axis=0), strict=True)]
    return sum(one.crosses(other) for k, one in enumerate(edges) for other in edges[:k])


@pytest.mark.parametrize("step", [2, 5, 8])
@pytest.mark.parametrize("points", [41, 101])
def test_a_star_is_tangled_when_it_crosses_itself_too_often(points, step):
    count = points * (step - 1)
    ring = star(points, step)
    if points < 50:
        assert crossings(ring) == count
    assert polygons.tangled(Rings.of([[ring], [ring[:3]]])).tolist() == [
        count > 100 + points,
        False,
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(17, 60))
def test_points_at_random_are_tangled_when_their_edges_cross_too_often(seed, points):
    ring = np.random.default_rng(seed).uniform(0, 99, (points, 2))
    assert polygons.tangled(Rings.of([[ring]]))[0] == (crossings(ring) > 100 + points)


def test_an_outline_that_runs_back_along_itself_is_not_tangled():
    """Bridges to holes, a comb, a line drawn there and back: nothing crosses."""
    teeth = [(x, y) for x in range(0, 4000, 4) for y in ((0, 50) if x % 8 else (50, 0))]
    comb = np.array([*teeth, (3999, 60), (0, 60)], float)
    rim = np.array([[0, 0], [99, 0], [99, 99], [0, 99.0]])
    holes = [rim / 99 + [x, y] for x in range(2, 98, 3) for y in range(2, 98, 3)]
    key_holes = polygons.single_ring([rim, *holes])
    path = np.arange(500.0)
    line = np.stack([np.concatenate([path, path[::-1]]), np.zeros(1000)], axis=1)
    assert not polygons.tangled(Rings.of([[comb], [key_holes], [line]])).any()
    assert Rings.of([[key_holes]]).geometry()[0].area == pytest.approx(99 * 99 - len(holes))


def test_a_zigzag_over_itself_is_tangled():
    """No two edges cross in a point: all lie on one line."""
    x = np.random.default_rng(0).integers(0, 1000, 400).astype(float)
    assert polygons.tangled(Rings.of([[np.stack([x, np.zeros(400)], axis=1)]]))[0]


def test_rings_of_one_object_that_cross_each_other_are_tangled():
    rows = np.array(
        [(x, y) for y in range(0, 200, 2) for x in ((0, 99) if y % 4 else (99, 0))], float
    )
    comb = np.concatenate([rows, [(120, 200), (120, -5), (0, -5)]])
    rings = Rings.of([[comb, comb[:, ::-1]], [comb], [comb, comb + [500, 0]]])
    assert polygons.tangled(rings).tolist() == [True, False, False]
    with pytest.raises(TilerError, match="crosses itself too often"):
        rings.geometry()


@pytest.mark.parametrize("points", [200, 1000, 5000])
def test_nothing_measures_an_outline_of_many_points_at_random(points):
    start = time.process_time()
    ring = np.random.default_rng(0).uniform(0, 640, (points, 2))
    with pytest.raises(TilerError, match="crosses itself too often"):
        tiler.Instances(
            np.array([0]), np.array([[0, 0, 640, 640.0]]), rings=Rings.of([[ring]]), task="segment"
        )
    assert time.process_time() - start < 2
