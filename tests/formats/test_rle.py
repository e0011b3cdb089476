import time

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from tests.strategies import quick
from tiler.formats import rle
from tiler.geometry import tracing
from tiler.geometry.masks import Masks

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@st.composite
def masks_of_long_runs(draw):
    """Columns of up to 300 px painted with a few rectangles: runs of two and more characters, and
    falling ones.
    """
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 20))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[y : draw(st.integers(y, height)), x : draw(st.integers(x, width))] = draw(
            st.integers(0, 1)
        )
    return mask


def runs_of(mask):
    """Run lengths column by column, background first: a plain loop."""
    runs, value = [0], 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def pixels_of(rings, shape):
    """The mask whose pixel centres lie in the outline."""
    y, x = np.indices(shape) + 0.5
    return shapely.contains_xy(rings.geometry()[0], x, y).astype(np.uint8)


@quick
@given(st.one_of(masks, masks_of_long_runs()))
@example(np.ones((1, 1), np.uint8))
def test_compressed_counts_are_those_of_pycocotools(mask):
    compressed = coco_mask.encode(np.asfortranarray(mask))["counts"]
    assert rle.counts(compressed) == runs_of(mask)
    assert rle.counts(compressed.decode()) == runs_of(mask)


@quick
@given(st.one_of(masks, masks_of_long_runs()))
def test_the_outline_covers_the_pixels_of_the_mask_and_no_other(mask):
    size = list(mask.shape)
    compressed = coco_mask.encode(np.asfortranarray(mask))
    rings = rle.outline({"size": size, "counts": compressed["counts"].decode()})
    plain = rle.outline({"size": size, "counts": runs_of(mask)})
    np.testing.assert_array_equal(rings.coords, plain.coords)
    np.testing.assert_array_equal(pixels_of(rings, mask.shape), mask)
    assert shapely.area(rings.geometry())[0] == coco_mask.area(compressed) == mask.sum()
    assert len(rings) == 1


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@quick
@given(masks)
def test_uncompressed_counts_mean_what_pycocotools_reads(mask):
    given = {"size": list(mask.shape), "counts": runs_of(mask)}
    theirs = coco_mask.decode(coco_mask.frPyObjects(given, *mask.shape))
    np.testing.assert_array_equal(pixels_of(rle.outline(given), mask.shape), theirs)


@quick
@given(masks_of_long_runs())
def test_the_box_is_that_of_pycocotools(mask):
    compressed = coco_mask.encode(np.asfortranarray(mask))
    x, y, w, h = coco_mask.toBbox(compressed)
    bounds = rle.outline(
        {"size": list(mask.shape), "counts": compressed["counts"].decode()}
    ).bounds()[0]
    if mask.any():
        assert bounds.tolist() == [x, y, x + w, y + h]
    else:
        assert np.isnan(bounds).all()


@quick
@given(st.text(max_size=30) | st.binary(max_size=30) | st.text("0123PQ`op", max_size=30))
def test_any_text_is_counts_or_a_value_error(text):
    try:
        runs = rle.counts(text)
    except ValueError:
        return
    assert all(isinstance(run, int) for run in runs)


long_lists = st.lists(st.integers(-2, 2**65), max_size=4)
junk = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.floats(), long_lists
)
pairs = st.lists(st.integers(-1, 2**33), min_size=2, max_size=2)


@quick
@given(st.one_of(junk, pairs), st.one_of(junk, st.text("0123PQ`op", max_size=30)))
def test_any_mask_is_an_outline_or_a_value_error(size, counts):
    try:
        rings = rle.outline({"size": size, "counts": counts})
    except ValueError as error:
        assert str(error)
    else:
        assert len(rings) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 3", "character ' ' is not run-length notation"),
        ("0p", "character 'p' is not run-length notation"),
        ("0\x00", "character '\\x00' is not run-length notation"),
        ("0é", "codec can't encode"),
        ("0o", "the run-length text ends within a number"),
    ],
)
def test_text_outside_the_notation(text, message):
    with pytest.raises(ValueError, match=message.replace("\\", "\\\\")):
        rle.counts(text)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({}, r"size is \[height, width\], got None"),
        ({"size": [2], "counts": [4]}, r"size is \[height, width\], got \[2\]"),
        ({"size": [2, 0], "counts": [0]}, r"size is"),
        ({"size": [2, -2], "counts": [4]}, r"size is"),
        ({"size": [2.0, 2.0], "counts": [4]}, r"size is"),
        ({"size": "2x2", "counts": [4]}, r"size is"),
        ({"size": [2, 2]}, "counts are run lengths"),
        ({"size": [2, 2], "counts": None}, "counts are run lengths"),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, "counts are run lengths"),
        ({"size": [2, 2], "counts": [5, -1]}, "counts are run lengths"),
        ({"size": [2, 2], "counts": [0, 3]}, "the runs add up to 3 pixels, expected 2 x 2"),
        ({"size": [2, 2], "counts": []}, "the runs add up to 0 pixels, expected 2 x 2"),
        ({"size": [2**33, 2**33], "counts": [0, 2**66]}, "."),
        ({"size": [2**33, 2**33], "counts": "0" + "P" * 13 + "2"}, "."),
    ],
)
def test_an_invalid_mask(mask, message):
    with pytest.raises(ValueError, match=message):
        rle.outline(mask)


def test_a_number_that_goes_on_and_on_is_not_added_up():
    start = time.process_time()
    with pytest.raises(ValueError):
        rle.outline({"size": [9, 9], "counts": "o" * 400_000 + "0"})
    assert time.process_time() - start < 1


def test_an_empty_mask_has_no_points():
    assert rle.outline({"size": [3, 3], "counts": [9]}).coords.shape == (0, 2)


def test_a_mask_of_a_billion_pixels_costs_what_its_runs_cost():
    rings = rle.outline(
        {"size": [30_000, 30_000], "counts": [30_000 * 10 + 5, 30_000 * 29_000, 30_000 * 990 - 5]}
    )
    assert shapely.area(rings.geometry())[0] == 30_000 * 29_000


# --- segmentations of every kind, as pixels


def encoded(given, height, width):
    """A segmentation as pycocotools reads it."""
    if isinstance(given, list):
        return coco_mask.merge(coco_mask.frPyObjects(given, height, width))
    if isinstance(given["counts"], list):
        return coco_mask.frPyObjects(given, height, width)
    return {"size": given["size"], "counts": given["counts"].encode()}


@st.composite
def segmentations(draw):
    """One value as it stands in JSON, and its frame as width, height."""
    mask = draw(masks)
    height, width = mask.shape
    polygon = st.lists(
        st.integers(-5, 70).map(lambda k: k / 5) | st.integers(0, 9), min_size=6, max_size=12
    )
    kinds = {
        "polygons": st.lists(
            polygon.map(lambda values: values[: len(values) // 2 * 2]), min_size=1, max_size=3
        ),
        "text": st.just(
            {
                "size": [height, width],
                "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode(),
            }
        ),
        "list": st.just({"size": [height, width], "counts": runs_of(mask)}),
    }
    return draw(kinds[draw(st.sampled_from(sorted(kinds)))]), (width, height)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@quick
@given(st.lists(segmentations(), max_size=6))
def test_masks_of_all_kinds_are_those_of_pycocotools(many):
    sizes = np.array([size for _, size in many], np.int64).reshape(-1, 2)
    read, wrong = rle.masks([given for given, _ in many], sizes)
    expected = [encoded(given, height, width) for given, (width, height) in many]
    assert wrong == {}
    assert read.area().tolist() == [float(coco_mask.area(each)) for each in expected]
    np.testing.assert_array_equal(read.sizes, sizes)
    again = Masks.of_counts([runs_of(coco_mask.decode(each)) for each in expected], sizes)
    np.testing.assert_array_equal(read.starts, again.starts)
    np.testing.assert_array_equal(read.ends, again.ends)
    np.testing.assert_array_equal(read.offsets, again.offsets)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "expected polygons or a mask, got None"),
        ([], "expected polygons or a mask, got []"),
        ([0, 0, 4, 0, 4, 4], "a polygon is a list of numbers, got 0"),
        ([[0, 0, 4, 0, 4, "x"]], "a polygon is a list of numbers, got [0, 0, 4, 0, 4, 'x']"),
        ([[0, 0, 4, 0, 4, True]], "a polygon is a list of numbers, got [0, 0, 4, 0, 4, True]"),
        (
            [[0, 0, 4, 0, 4, float("nan")]],
            "a polygon holds [0, 0, 4, 0, 4, nan], expected finite pixels",
        ),
        ([[0, 0, 4, 0, 4, 10**400]], "expected finite pixels"),
        ([[0, 0, 4, 4]], "a polygon has an even number of values, 6 or more, got 4"),
        ([[0, 0, 4, 0, 4, 4, 0]], "a polygon has an even number of values, 6 or more, got 7"),
        ([[0, 0, 4, 0, 4, 4], []], "a polygon has an even number of values, 6 or more, got 0"),
        ({"counts": [4]}, "a mask of None, the image's is [2, 3]"),
        ({"size": [3, 2], "counts": [6]}, "a mask of [3, 2], the image's is [2, 3]"),
        ({"size": [2, 3], "counts": [5]}, "the runs add up to 5 pixels, expected 2 x 3"),
        ({"size": [2, 3], "counts": [7, -1]}, "counts are run lengths, 0 or more"),
        ({"size": [2, 3], "counts": "0 3"}, "character ' ' is not run-length notation"),
        ({"size": [2, 3], "counts": "0é"}, "codec can't encode"),
    ],
)
def test_a_segmentation_that_cannot_be_read_is_named_and_the_others_are_read(given, message):
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    read, wrong = rle.masks(
        [square, given, {"size": [2, 3], "counts": "6"}, square], np.full((4, 2), (3, 2))
    )
    assert [*wrong] == [1] and message in wrong[1]
    assert read.area().tolist() == [4, 0, 0, 4]


@quick
@given(
    st.lists(
        st.one_of(
            junk,
            st.lists(long_lists),
            st.fixed_dictionaries({"size": junk | pairs, "counts": junk}),
        )
    )
)
def test_any_segmentation_is_a_mask_or_wrong(many):
    read, wrong = rle.masks(many, np.full((len(many), 2), 3))
    assert len(read) == len(many)
    assert not read.area()[[*wrong]].any()


@quick
@given(st.one_of(masks, masks_of_long_runs()))
@example(np.indices((9, 8)).sum(axis=0).astype(np.uint8) % 2)
def test_the_outline_of_many_runs_is_traced_and_fills_the_same(mask):
    given = {"size": list(mask.shape), "counts": runs_of(mask)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "MANY", 0)
        rings = rle.outline(given)
    np.testing.assert_array_equal(pixels_of(rings, mask.shape), mask)
    assert shapely.equals(rings.geometry()[0], rle.outline(given).geometry()[0])
    for ring in rings[0]:  # sides along rows and columns in turn: no point too many
        along = np.diff(np.concatenate([ring, ring[:1]]), axis=0) != 0
        assert (along.sum(axis=1) == 1).all()
        assert (along[1:, 0] != along[:-1, 0]).all()


@pytest.mark.slow
def test_a_checkerboard_has_an_outline_of_all_its_pixels():
    """What it costs is for attack r18 to say."""
    mask = (np.indices((641, 640)).sum(axis=0) % 2).astype(np.uint8)
    rings = rle.outline({"size": [641, 640], "counts": runs_of(mask)})
    area = shapely.area(rings.geometry())[0]
    assert len(rings.ring_offsets) - 1 == area == mask.sum()
