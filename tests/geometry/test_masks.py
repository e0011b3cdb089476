import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from tests.strategies import numbers, quick
from tiler.errors import TilerError
from tiler.geometry import masks
from tiler.geometry.masks import Masks
from tiler.geometry.polygons import Rings

# of pycocotools with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")

frames = st.tuples(st.integers(1, 60), st.integers(1, 40)) | st.tuples(
    st.integers(1, 4), st.integers(1, 4)
)
halves = st.integers(-20, 140).map(lambda k: k / 2)
fifths = st.integers(-50, 350).map(lambda k: k / 5)
coordinates = st.one_of(numbers(-30, 90), halves, fifths, st.floats(-1e5, 1e5))


def rings_from(coordinate):
    return st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9).map(
        lambda points: np.array(points, np.float64)
    )


rings = st.one_of(
    rings_from(numbers(-5, 65)), rings_from(halves), rings_from(fifths), rings_from(coordinates)
)
scenes = st.lists(st.tuples(st.lists(rings, max_size=3), frames), max_size=5)


def theirs(ring, size):
    """A ring as pycocotools draws it."""
    return coco_mask.frPyObjects([ring.ravel().tolist()], size[1], size[0])[0]


def nothing(size):
    return coco_mask.encode(np.zeros((size[1], size[0]), np.uint8, order="F"))


def frames_of(sizes):
    return np.array(sizes, np.int64).reshape(-1, 2)


def pixels(found, i):
    """Mask i as an array, height x width."""
    width, height = found.sizes[i]
    flat = np.zeros(width * height, np.uint8)
    for run in range(found.offsets[i], found.offsets[i + 1]):
        flat[found.starts[run] : found.ends[run]] += 1
    return flat.reshape(width, height).T


def assert_well_made(found):
    assert len(found.offsets) == len(found) + 1 and found.offsets[-1] == len(found.starts) == len(
        found.ends
    )
    assert (found.starts < found.ends).all() and (found.starts >= 0).all()
    for i, (width, height) in enumerate(found.sizes):
        own = slice(found.offsets[i], found.offsets[i + 1])
        assert (found.starts[own][1:] > found.ends[own][:-1]).all(), "runs that touch"
        assert (found.ends[own] <= width * height).all()


def assert_same(found, expected):
    """All that is asked of masks is what pycocotools says of its own."""
    assert_well_made(found)
    assert len(found) == len(expected)
    areas, bounds = found.area(), found.bounds()
    for i, rle in enumerate(expected):
        np.testing.assert_array_equal(pixels(found, i), coco_mask.decode(rle))
        x, y, w, h = coco_mask.toBbox(rle)
        assert bounds[i].tolist() == [x, y, x + w, y + h]
        assert areas[i] == coco_mask.area(rle)


def random_ring(rng, size):
    """Inside, partly outside, fully outside, on a grid, tiny, huge, or with points that repeat."""
    count = rng.integers(3, 13)
    anywhere = rng.random((count, 2))
    kind = rng.integers(8)
    if kind == 0:
        return anywhere * size
    if kind == 1:
        return (anywhere * 3 - 1) * size
    if kind == 2:
        return anywhere * size + rng.choice([-1000, 0, 1000], 2)
    if kind == 3:
        return rng.integers(-5, 15, (count, 2)) / 2
    if kind == 4:
        return rng.integers(0, 100, (count, 2)) / 10
    if kind == 5:
        return anywhere * size * 0.9 + rng.random((count, 2)) * 2
    if kind == 6:
        return np.repeat(anywhere[:3] * size, rng.integers(1, 4, 3), axis=0)
    return rng.normal(size=(count, 2)) * 10 ** rng.uniform(0, 5)


def random_scene(seed, count):
    """Rings of one to three for each object, and the frames."""
    rng = np.random.default_rng(seed)
    sizes = [
        tuple(rng.integers(1, (301, 201) if rng.random() < 0.5 else (9, 9)).tolist())
        for _ in range(count)
    ]
    return [[random_ring(rng, size) for _ in range(rng.integers(1, 4))] for size in sizes], sizes


# --- outlines


@quick
@given(scenes)
@example([([np.array([[2.5, 0.5], [2.5, 0.5], [0.5, 2.5]])], (3, 3))])
@example([([np.array([[-0.3, -0.3], [-0.1, 9], [5, 5]])], (4, 4))])
def test_united_rings_are_the_merged_polygons_of_pycocotools(scene):
    sizes = [size for _, size in scene]
    found = Masks.of_rings(Rings.of([parts for parts, _ in scene]), frames_of(sizes), united=True)
    expected = [
        coco_mask.merge([theirs(ring, size) for ring in parts]) if parts else nothing(size)
        for parts, size in scene
    ]
    assert_same(found, expected)


@quick
@given(scenes)
def test_rings_filled_even_odd_are_the_exclusive_or_of_each(scene):
    sizes = [size for _, size in scene]
    found = Masks.of_rings(Rings.of([parts for parts, _ in scene]), frames_of(sizes))
    assert_well_made(found)
    for i, (parts, size) in enumerate(scene):
        drawn = [coco_mask.decode(theirs(ring, size)) for ring in parts]
        np.testing.assert_array_equal(
            pixels(found, i), np.bitwise_xor.reduce([coco_mask.decode(nothing(size)), *drawn])
        )


@pytest.mark.parametrize("seed", range(4))
def test_many_outlines_at_once(seed, monkeypatch):
    objects, sizes = random_scene(seed, 250)
    expected = [
        coco_mask.merge([theirs(ring, size) for ring in parts])
        for parts, size in zip(objects, sizes, strict=True)
    ]
    rings = Rings.of(objects)
    whole = Masks.of_rings(rings, frames_of(sizes), united=True)
    assert_same(whole, expected)
    monkeypatch.setattr(masks, "STEP", 3000)
    portions = Masks.of_rings(rings, frames_of(sizes), united=True)
    np.testing.assert_array_equal(portions.starts, whole.starts)
    np.testing.assert_array_equal(portions.ends, whole.ends)


def test_the_box_of_pycocotools_is_drawn_as_its_corners():
    box = coco_mask.frPyObjects(np.array([[1.3, 2.2, 4.1, 3.9]]), 9, 9)
    corners = np.array([[1.3, 2.2], [1.3, 6.1], [5.4, 6.1], [5.4, 2.2]])
    assert_same(Masks.of_rings(Rings.of([[corners]]), frames_of([(9, 9)])), box)


@pytest.mark.parametrize("far", [1e6, 4e8, 1e9, 1e18, 1e300])
def test_an_outline_of_any_extent_costs_what_the_frame_costs(far):
    square = np.array([[-far, -far], [far, -far], [far, far], [-far, far]])
    triangle = np.array([[5, 5], [far, 5], [5, far]])
    beyond = square + 3 * far
    found = Masks.of_rings(Rings.of([[square], [triangle], [beyond]]), frames_of([(20, 10)] * 3))
    assert_well_made(found)
    assert found.area().tolist() == [200, 75, 0]


def test_long_lines_of_any_slope_are_those_of_pycocotools():
    rng = np.random.default_rng(7)
    size = (300, 200)
    inside = rng.random((40, 1, 2)) * size
    objects = [
        [np.concatenate([point, rng.normal(size=(2, 2)) * 10 ** rng.uniform(3, 5.5)])]
        for point in inside
    ]
    assert_same(
        Masks.of_rings(Rings.of(objects), frames_of([size] * 40)),
        [theirs(parts[0], size) for parts in objects],
    )


def test_a_line_through_the_corner_between_two_fifths_turns_where_that_of_pycocotools_does():
    # its sum of floats gets there a step before the quotient of them does
    size = (260, 60)
    rings = [np.array([[1098, y], [1098 + 69, y + 240], [1000, y + 100]]) / 5 for y in range(5)]
    assert_same(
        Masks.of_rings(Rings.of([[ring] for ring in rings]), frames_of([size] * 5)),
        [theirs(r, size) for r in rings],
    )


@pytest.mark.parametrize("points", [0, 1, 2])
def test_fewer_than_three_points_have_no_pixels(points):
    ring = np.array([[1, 1], [7, 5.0]])[:points]
    found = Masks.of_rings(
        Rings.of([[ring], [np.array([[0, 0], [5, 0], [5, 5.0]])]]), frames_of([(9, 9)] * 2)
    )
    assert_well_made(found)
    assert found.area()[0] == 0 < found.area()[1]


# --- run lengths


@st.composite
def painted_masks(draw):
    """Columns painted with runs: many, few, none."""
    width, height = draw(frames)
    flat = np.zeros(width * height, np.uint8)
    for cut in draw(st.lists(st.integers(0, width * height), max_size=12)):
        flat[cut:] ^= 1
    return np.asfortranarray(flat.reshape(width, height).T)


def runs_of(mask):
    """Run lengths column by column, background first: a plain loop."""
    runs, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@quick
@given(st.lists(painted_masks(), max_size=5))
def test_run_lengths_there_and_back(many):
    sizes = frames_of([mask.shape[::-1] for mask in many])
    assert_same(
        Masks.of_counts([runs_of(mask) for mask in many], sizes),
        [coco_mask.encode(mask) for mask in many],
    )


def test_runs_of_no_length_are_no_runs():
    found = Masks.of_counts([[0, 2, 0, 3, 4, 0, 0], [2, 0, 1, 0, 6]], frames_of([(3, 3)] * 2))
    assert_well_made(found)
    assert (found.starts.tolist(), found.ends.tolist(), found.offsets.tolist()) == (
        [0],
        [5],
        [0, 1, 1],
    )


# --- how much two share


@pytest.mark.parametrize("seed", range(4))
def test_iou_is_that_of_pycocotools(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    size = (120, 90) if seed else (5, 4)
    detections, truths = ([[random_ring(rng, size)] for _ in range(n)] for n in (40, 30))
    ours, others = (
        Masks.of_rings(Rings.of(many), frames_of([size] * len(many)))
        for many in (detections, truths)
    )
    dt, gt = ([theirs(parts[0], size) for parts in many] for many in (detections, truths))
    i, j = (index.ravel() for index in np.indices((40, 30)))
    shared = masks.common(ours, others, i, j)
    monkeypatch.setattr(masks, "STEP", 100)
    np.testing.assert_array_equal(masks.common(ours, others, i, j), shared)
    a, b = ours.area()[i], others.area()[j]
    for crowd, whole in ((0, a + b - shared), (1, a)):
        expected = coco_mask.iou(dt, gt, [crowd] * len(gt)).ravel()
        # of two masks without a pixel in common, theirs is 0 of 1
        np.testing.assert_array_equal(
            np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0), expected
        )


@quick
@given(st.lists(painted_masks(), min_size=1, max_size=5), st.data())
def test_common_pixels_are_those_of_the_arrays(many, data):
    sizes = frames_of([mask.shape[::-1] for mask in many])
    others = [data.draw(st.permutations(runs_of(mask))) for mask in many]
    found, other = (
        Masks.of_counts([runs_of(mask) for mask in many], sizes),
        Masks.of_counts(others, sizes),
    )
    index = np.array(data.draw(st.lists(st.integers(0, len(many) - 1), max_size=8)), np.int64)
    expected = [int((pixels(found, i) & pixels(other, i)).sum()) for i in index]
    assert masks.common(found, other, index, index).tolist() == expected
    assert masks.common(other, found, index, index).tolist() == expected
    assert masks.common(found, found, index, index).tolist() == found.area()[index].tolist()


def test_masks_of_different_frames_share_nothing_that_could_be_counted():
    found = Masks.of_counts([[0, 6], [0, 6]], frames_of([(2, 3), (3, 2)]))
    with pytest.raises(ValueError, match="frames of different size"):
        masks.common(found, found, np.array([0]), np.array([1]))


# --- columns of equal length


@quick
@given(st.lists(painted_masks(), max_size=5), st.data())
def test_take_and_concatenate_are_those_of_a_list(many, data):
    found = Masks.of_counts(
        [runs_of(mask) for mask in many], frames_of([mask.shape[::-1] for mask in many])
    )
    index = data.draw(st.lists(st.integers(0, len(many) - 1), max_size=7)) if many else []
    chosen = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(many), max_size=len(many))), bool
    )
    taken = masks.concatenate([found.take(np.array(index, np.int64)), found.take(chosen)])
    kept = [mask for mask, yes in zip(many, chosen, strict=True) if yes]
    assert_same(taken, [coco_mask.encode(mask) for mask in [many[i] for i in index] + kept])


def test_nothing_is_ordinary():
    none = frames_of([])
    index = np.empty(0, np.int64)
    for empty in (
        Masks.of_counts([], none),
        Masks.of_rings(Rings.of([]), none),
        masks.concatenate([]),
    ):
        assert_same(empty, [])
        assert len(empty.take(index)) == 0
        assert empty.area().shape == (0,) and empty.bounds().shape == (0, 4)
        assert masks.common(empty, empty, index, index).shape == (0,)
    blank = Masks.of_rings(Rings.of([[], []]), frames_of([(3, 3)] * 2))
    assert blank.area().tolist() == [0, 0] and not blank.bounds().any()
    assert masks.common(blank, blank, np.array([0, 1]), np.array([1, 1])).tolist() == [0, 0]


def test_outlines_wider_than_memory_are_refused():
    """1 KB of JSON for an image of 1e8 px took 11 GB."""
    rings = Rings.of([[np.array([[0, 0], [1e8, 0], [1e8, 1e8], [5e7, 9e7], [0, 1e8]])]] * 2)
    with pytest.raises(TilerError, match="too much to hold as masks in memory"):
        Masks.of_rings(rings, np.full((2, 2), 10**8))
