import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst

from tiler.images import stretch
from tiler.images.stretch import Histogram, limits, stretched

EXACT = ("uint8", "int8", "uint16", "int16", ">u2", ">i2")
WHOLE = ("uint32", "int32", ">u4", ">i4")
FLOATS = ("float16", "float32", "float64", ">f4", ">f8")
DTYPES = (*EXACT, *WHOLE, *FLOATS)
SHAPES = nst.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5)


def tallied(*pictures):
    bands = pictures[0].shape[2] if pictures[0].ndim == 3 else 1
    histogram = Histogram.of_kind(pictures[0].dtype, bands)
    for pixels in pictures:
        histogram.count(pixels)
    return histogram


def bits(histogram):
    return (
        histogram.dtype,
        histogram.bins.tobytes(),
        histogram.low.tobytes(),
        histogram.high.tobytes(),
    )


def by_band(pixels, shared=False):
    """The finite values of each band (of all bands, for each), sorted, as Python's numbers."""
    bands = pixels.shape[2] if pixels.ndim == 3 else 1
    flat = pixels.reshape(-1) if shared else pixels.reshape(-1, bands)
    groups = [flat] * bands if shared else [flat[:, band] for band in range(bands)]
    return [sorted(v for v in group.tolist() if math.isfinite(v)) for group in groups]


def ranked(values, percent):
    """The smallest of the sorted values that at least `percent` % do not exceed."""
    return next(
        v for i, v in enumerate(values, 1) if Fraction(i, len(values)) >= Fraction(percent, 100)
    )


def mapped(value, low, high):
    """One value in 8 bits, by Python's numbers."""
    if math.isnan(value) or value <= low:
        return 0
    if value >= high:
        return 255
    return round((value - low) / (high - low) * 255)


def top(value):
    """The bin of a number: its place among the upper halves of all float32."""
    value = min(max(float(value), -stretch.LARGEST), stretch.LARGEST)
    pattern = int(np.array(value, np.float32).view(np.uint32))
    return (0xFFFFFFFF - pattern if pattern >> 31 else pattern + 0x80000000) >> 16


def values_of(dtype):
    """Any values of a dtype, with more of those that are near one another or at an end."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return st.one_of(
            nst.from_dtype(dtype),
            st.integers(-300, 300).map(float),
            st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf]),
        )
    info = np.iinfo(dtype)
    small = st.integers(max(info.min, -300), min(info.max, 300))
    return st.one_of(st.integers(info.min, info.max), small, st.sampled_from([info.min, info.max]))


@st.composite
def pictures(draw, count=1, shape=SHAPES, dtypes=DTYPES):
    """Images of one dtype and number of bands."""
    dtype = draw(st.sampled_from(dtypes))
    first = draw(shape)
    if len(first) == 3 and first[2] == 0:
        first = (*first[:2], 1)
    shapes = [first] + [(draw(st.integers(0, 5)), *first[1:]) for _ in range(count - 1)]
    found = [draw(nst.arrays(dtype, size, elements=values_of(dtype))) for size in shapes]
    return found if count > 1 else found[0]


def noise(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    spread = {1: 20, 2: 3000}.get(np.dtype(dtype).itemsize, 1e6)
    values = rng.normal(60, spread, shape)
    if np.dtype(dtype).kind != "f":
        info = np.iinfo(dtype)
        values = values.clip(info.min, info.max).round()
    return values.astype(dtype)


@given(pictures(count=3), st.permutations(range(3)))
def test_tallies_are_added_in_any_order_and_grouping(three, order):
    def total(first, second, third):
        first.add(second)
        first.add(third)
        return first

    expected = bits(tallied(*three))
    assert bits(total(*(tallied(three[i]) for i in order))) == expected
    first, rest = tallied(three[0]), tallied(three[1])
    rest.add(tallied(three[2]))
    first.add(rest)
    assert bits(first) == expected


@given(pictures(), st.integers(0, 5))
def test_a_picture_in_parts_counts_as_the_whole(pixels, row):
    assert bits(tallied(pixels[:row], pixels[row:])) == bits(tallied(pixels))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_picture_of_many_chunks_counts_as_its_pixels(dtype, monkeypatch):
    pixels = noise(dtype, (60, 50, 3))
    expected = bits(tallied(pixels))
    monkeypatch.setattr(stretch, "CHUNK", 170)
    assert bits(tallied(pixels)) == expected
    monkeypatch.setattr(stretch, "CHUNK", 1)
    assert bits(tallied(pixels)) == expected


@given(pictures())
def test_every_finite_pixel_is_counted_once_in_its_bin(pixels):
    histogram = tallied(pixels)
    for counts, low, high, values in zip(
        histogram.bins, histogram.low, histogram.high, by_band(pixels), strict=True
    ):
        expected = np.zeros(len(counts), int)
        for value in values:
            if np.dtype(pixels.dtype).kind != "f" and pixels.dtype.itemsize <= 2:
                expected[value - np.iinfo(pixels.dtype).min] += 1
            elif value == 0:  # of either sign
                expected[0x8000] += 1
            else:
                expected[top(value)] += 1
        if len(counts) > 0x8000 and pixels.dtype.kind == "f":
            zeros = int(counts[0x7FFF])
            negative = sum(1 for v in values if v != 0 and top(v) == 0x7FFF)
            expected[[0x7FFF, 0x8000]] += [zeros - negative, negative - zeros]
        assert (counts == expected).all()
        assert (low, high) == ((values[0], values[-1]) if values else (math.inf, -math.inf))


@given(pictures(), st.booleans())
def test_minmax_is_the_lowest_and_highest_finite_value(pixels, shared):
    groups = by_band(pixels, shared)
    expected = [
        (float(values[0]), float(values[-1])) if values else (0.0, 1.0) for values in groups
    ]
    assert limits(tallied(pixels), "minmax", shared) == expected


@given(
    pictures(dtypes=EXACT, shape=nst.array_shapes(min_dims=2, max_dims=3, max_side=14)),
    st.booleans(),
)
def test_percentiles_of_16_bits_are_exact(pixels, shared):
    groups = by_band(pixels, shared)
    assert limits(tallied(pixels), "percentile", shared) == [
        (ranked(v, 1), ranked(v, 99)) for v in groups
    ]


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (33, 39), (150, 101), (400, 301)])
@pytest.mark.parametrize("dtype", EXACT)
def test_percentiles_of_16_bits_are_numpys(dtype, shape):
    pixels = noise(dtype, shape)
    expected = np.percentile(
        pixels.astype(pixels.dtype.newbyteorder("=")), [1, 99], method="inverted_cdf"
    )
    assert limits(tallied(pixels), "percentile", False) == [tuple(expected.tolist())]


def test_a_percentile_is_reached_by_a_whole_number_of_pixels():
    """Of 700 pixels, 7 are 1 %, though in floating point 0.07 * 100 is more than 7."""
    pixels = np.arange(700, dtype=np.uint16)[None]
    assert limits(tallied(pixels), "percentile", False) == [(6.0, 692.0)]
    assert limits(tallied(pixels[:, :100]), "percentile", False) == [(0.0, 98.0)]
    assert limits(tallied(pixels[:, :101]), "percentile", False) == [(1.0, 99.0)]


@given(
    pictures(dtypes=(*WHOLE, *FLOATS), shape=nst.array_shapes(min_dims=2, max_dims=3, max_side=14)),
    st.booleans(),
)
def test_other_percentiles_lie_in_the_bin_of_the_exact_one(pixels, shared):
    groups = by_band(pixels, shared)
    for pair, values in zip(limits(tallied(pixels), "percentile", shared), groups, strict=True):
        if not values:
            assert pair == (0.0, 1.0)
            continue
        assert values[0] <= pair[0] <= pair[1] <= values[-1]
        for found, percent in zip(pair, (1, 99), strict=True):
            exact = ranked(values, percent)
            if pixels.dtype.kind != "f" and abs(exact) < 256:  # a bin each
                assert found == exact
            elif top(exact) in stretch.ZEROS:
                assert abs(found) < 1e-40 or found in (values[0], values[-1])
            else:  # the extremes are exact, beyond the rounding of the bins
                assert top(found) == top(exact) or found in (values[0], values[-1])
                if abs(exact) <= stretch.LARGEST:
                    assert abs(found - exact) <= max(abs(exact) / 128, 2e-38)


@pytest.mark.parametrize("dtype", [*WHOLE, *FLOATS])
def test_other_percentiles_are_near_numpys(dtype):
    pixels = noise(dtype, (201, 303))
    if np.dtype(dtype) == np.float16:
        pixels = (pixels / 1e3).astype(dtype)
        pixels[~np.isfinite(pixels)] = 0
    values = pixels.astype(np.float64)
    exact = np.percentile(values, [1, 99], method="inverted_cdf")
    ((low, high),) = limits(tallied(pixels), "percentile", False)
    assert abs(low - exact[0]) <= abs(exact[0]) / 128
    assert abs(high - exact[1]) <= abs(exact[1]) / 128
    # Within a bin the rank tells where, which for a dense bin is closer still
    assert abs(high - exact[1]) <= abs(exact[1]) / 1000 or np.dtype(dtype) == np.float16


def test_percentiles_leave_out_the_ends():
    pixels = np.full((100, 100), 1000.0, np.float32)
    pixels[0, :50], pixels[1, :50] = -5e30, 5e30
    ((low, high),) = limits(tallied(pixels), "percentile", False)
    assert 1000 / 129 * 128 < low < high < 1000 / 128 * 129
    whole = pixels.clip(0, 60000).astype(np.uint16)
    assert limits(tallied(whole), "percentile", False) == [(1000.0, 1000.0)]
    assert limits(tallied(whole), "minmax", False) == [(0.0, 60000.0)]


@pytest.mark.parametrize("method", stretch.METHODS)
@pytest.mark.parametrize(
    "value", [0, 7, 255, 0.1, -0.0, -1e300, 1e300, 5e-324, 1 - 1e-12, 65535, -300]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_picture_has_equal_limits_and_becomes_black(dtype, value, method):
    with np.errstate(all="ignore"):
        pixels = (
            np.array(value).astype(dtype)
            if np.dtype(dtype).kind == "f"
            else np.array(int(value) % 128).astype(dtype)
        )
    if not math.isfinite(float(pixels)):  # too large for the dtype
        pixels = np.zeros((), dtype)
    pixels = np.broadcast_to(pixels, (20, 30))
    pair = (float(pixels[0, 0]),) * 2
    assert limits(tallied(pixels), method, False) == [pair]
    assert not stretched(pixels, [pair]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", stretch.METHODS)
@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0, 3)])
def test_no_pixel_gives_limits_and_no_pixel(shape, method, dtype):
    pixels = np.empty(shape, dtype)
    for shared in (True, False):
        found = limits(tallied(pixels), method, shared)
        assert found == [(0.0, 1.0)] * 3
        assert stretched(pixels, found).shape == shape
    assert stretched(pixels[..., 0], found[:1]).shape == shape[:2]


@pytest.mark.parametrize("method", stretch.METHODS)
def test_a_band_of_nothing_finite_is_left_out(method):
    pixels = np.array([[[np.nan, 3], [np.inf, 9], [-np.inf, np.nan]]], np.float32)
    assert limits(tallied(pixels), method, False)[0] == (0.0, 1.0)
    low, high = limits(tallied(pixels[..., 1:]), method, False)[0]
    assert limits(tallied(pixels), method, True) == [(low, high)] * 2
    assert stretched(pixels, [(3, 9)] * 2).tolist() == [[[0, 0], [255, 255], [0, 0]]]


@pytest.mark.filterwarnings("error")
def test_nan_of_every_kind_is_left_out_without_a_warning():
    signalling = np.array(
        [0x7F800001, 0xFF800001, 0x7FC00000, 0xFFC00000, 0x3F800000], np.uint32
    ).view(np.float32)[None]
    wide = np.array([0x7FF0000000000001, 0x3FF0000000000000], np.uint64).view(np.float64)[None]
    for pixels in (signalling, wide):
        assert limits(tallied(pixels), "percentile", False) == [(1.0, 1.0)]
        assert stretched(pixels, [(0, 1)]).tolist() == [[0] * (pixels.size - 1) + [255]]


def test_limits_of_zeros_have_no_sign():
    pixels = np.array([[0.0, -0.0, -0.0, 0.0]], np.float32)
    for method in stretch.METHODS:
        for part in (pixels, pixels[:, 1:2], pixels[:, ::-1]):
            assert [math.copysign(1, v) for v in limits(tallied(part), method, False)[0]] == [1, 1]


def test_a_picture_of_mostly_zeros_has_a_limit_of_zero():
    pixels = np.zeros((10, 50), np.float32)
    pixels[0, :2], pixels[1, :2] = -1, 1
    assert limits(tallied(pixels), "percentile", False) == [(0.0, 0.0)]
    assert limits(tallied(-pixels), "percentile", False) == [(0.0, 0.0)]


def test_within_a_bin_the_rank_tells_where():
    """From 1024 to 1032 is a bin, of which 200 pixels each have the same part, the 2nd (1 %) the
    second.
    """
    pixels = np.linspace(1024, 1031.9, 200, dtype=np.float32)[None]
    top_of_bin = 1031.9
    ((low, high),) = limits(tallied(pixels), "percentile", False)
    assert low == pytest.approx(1024 + (top_of_bin - 1024) * 1.5 / 200, abs=1e-4)
    assert high == pytest.approx(1024 + (top_of_bin - 1024) * 197.5 / 200, abs=1e-4)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_halves_are_rounded_to_even(dtype):
    pixels = np.array([[1, 3, 5, 7, 509]], dtype)
    assert stretched(pixels, [(0, 510)]).tolist() == [[0, 2, 2, 4, 254]]


def test_many_bands_each_have_their_limits():
    pixels = noise("uint16", (40, 50, 70)) % 1000 + np.arange(70, dtype=np.uint16) * 900
    for method in stretch.METHODS:
        found = limits(tallied(pixels), method, False)
        assert found == [limits(tallied(pixels[..., band]), method, False)[0] for band in range(70)]
        assert (
            limits(tallied(pixels), method, True)
            == limits(tallied(pixels.reshape(40, -1)), method, False) * 70
        )
        banded = stretched(pixels, found)
        for band in range(70):
            assert (banded[..., band] == stretched(pixels[..., band], found[band : band + 1])).all()


def test_shared_limits_keep_the_order_of_colours():
    pixels = noise("uint16", (50, 50, 1)) // np.array([1, 2, 4], np.uint16)
    found = stretched(pixels, limits(tallied(pixels), "percentile", True))
    assert (np.diff(found.astype(int), axis=2) <= 0).all()


@given(pictures(), st.data())
def test_stretched_is_the_loop(pixels, data):
    banded = pixels[..., None] if pixels.ndim == 2 else pixels
    number = (
        st.one_of(values_of(pixels.dtype), st.floats(allow_nan=False))
        .map(float)
        .filter(math.isfinite)
    )
    pairs = [(data.draw(number), data.draw(number)) for _ in range(banded.shape[2])]
    pairs = [pair if data.draw(st.booleans()) else tuple(sorted(pair)) for pair in pairs]
    assume(all(high <= low or math.isfinite(high - low) for low, high in pairs))
    expected = np.empty(banded.shape, np.uint8)
    for row, column, band in np.ndindex(banded.shape):
        low, high = pairs[band]
        value = float(banded[row, column, band])
        expected[row, column, band] = (
            mapped(value, low, high) if low < high else 255 * (value > low)
        )
    found = stretched(pixels, pairs)
    assert found.dtype == np.uint8
    assert found.shape == pixels.shape
    assert (found == expected.reshape(pixels.shape)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_stretched_is_monotone_from_0_to_255(dtype, data):
    values = data.draw(st.lists(values_of(dtype), min_size=2, max_size=20, unique=True))
    pixels = np.array([[v for v in values if not math.isnan(v)]], dtype)
    pixels = pixels[:, np.argsort(pixels[0], kind="stable")]
    finite = sorted({float(v) for v in pixels[0] if math.isfinite(v)})
    assume(len(finite) > 1)
    pair = finite[0], finite[-1]
    found = stretched(pixels, [pair])[0].astype(int)
    assert (np.diff(found) >= 0).all()
    as_floats = pixels[0].astype(float)
    assert (found[as_floats <= pair[0]] == 0).all()
    assert (found[as_floats >= pair[1]] == 255).all()


def test_limits_too_far_apart_for_float64():
    largest = float(np.finfo(np.float64).max)
    pixels = np.array([[-np.inf, -largest, 0, largest / 2, largest, np.inf, np.nan]])
    assert stretched(pixels, limits(tallied(pixels), "minmax", False)).tolist() == [
        [0, 0, 128, 191, 255, 255, 0]
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_byte_order_and_layout_change_nothing(dtype):
    pixels = noise(dtype, (30, 40, 3))
    expected = tallied(pixels)
    found = limits(expected, "percentile", False)
    other = pixels.astype(pixels.dtype.newbyteorder("S"))
    planar = np.ascontiguousarray(pixels.transpose(2, 0, 1)).transpose(1, 2, 0)
    wide = np.zeros((60, 90, 4), pixels.dtype)
    wide[10:40, 5:85:2, 1:] = pixels
    turned = np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1]
    for same in (other, planar, wide[10:40, 5:85:2, 1:], turned):
        assert (same == pixels).all()
        assert bits(tallied(same)) == bits(expected)
        assert (stretched(same, found) == stretched(pixels, found)).all()
    one = pixels[..., :1]
    assert bits(tallied(one)) == bits(tallied(one[..., 0]))
    assert (stretched(one, found[:1])[..., 0] == stretched(one[..., 0], found[:1])).all()


def test_counting_and_stretching_change_no_pixel():
    pixels = noise("float32", (9, 9, 2))
    pixels[0, 0] = np.nan
    before = pixels.tobytes()
    pixels.flags.writeable = False
    stretched(pixels, limits(tallied(pixels), "percentile", False))
    assert pixels.tobytes() == before
    for dtype in ("uint16", "float32"):  # and what is returned is the caller's own
        ones = np.ones((2, 2), dtype)
        stretched(ones, [(0, 2)])[:] = 7
        assert stretched(ones, [(0, 2)]).tolist() == [[128, 128]] * 2


@given(pictures())
def test_a_histogram_goes_between_processes(pixels):
    histogram = tallied(pixels)
    copy = pickle.loads(pickle.dumps(histogram))
    assert bits(copy) == bits(histogram)
    copy.add(histogram)
    assert (copy.bins == 2 * histogram.bins).all()


def test_limits_are_plain_floats():
    for dtype in DTYPES:
        for method in stretch.METHODS:
            for shared in (True, False):
                found = limits(tallied(noise(dtype, (20, 20, 3))), method, shared)
                assert isinstance(found, list)
                assert {type(pair) for pair in found} == {tuple}
                assert {type(value) for pair in found for value in pair} == {float}


def test_limits_from_json_serve():
    pixels = noise("uint16", (5, 5, 3))
    assert (stretched(pixels, [[0, 4000]] * 3) == stretched(pixels, [(0.0, 4000.0)] * 3)).all()


def test_what_does_not_fit_is_refused():
    histogram = Histogram.of_kind(np.dtype(np.uint16), 3)
    with pytest.raises(
        ValueError, match="expected bands as in the histogram, 3 of uint16, got 1 of uint16"
    ):
        histogram.add(Histogram.of_kind(np.dtype(np.uint16), 1))
    with pytest.raises(ValueError, match="3 of uint16, got 3 of int16"):
        histogram.add(Histogram.of_kind(np.dtype(np.int16), 3))
    with pytest.raises(ValueError, match=r"expected pixels of \(rows, width, 3\), got \(4, 5\)"):
        histogram.count(np.zeros((4, 5), np.uint16))
    with pytest.raises(ValueError, match="expected pixels of uint16, got int16"):
        histogram.count(np.zeros((4, 5, 3), np.int16))
    with pytest.raises(ValueError, match="expected one of minmax, percentile, got 'median'"):
        limits(histogram, "median", True)
    with pytest.raises(ValueError, match=r"expected pixels of \(rows, width, 2\)"):
        stretched(np.zeros((4, 5, 3), np.uint16), [(0, 1)] * 2)
    for dtype, bands in ((np.complex64, 1), (np.bool_, 1), (np.uint16, 0)):
        with pytest.raises(ValueError, match="expected bands of integers or floats"):
            Histogram.of_kind(np.dtype(dtype), bands)
