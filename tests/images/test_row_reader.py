import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiler.errors import SourceRefused
from tiler.images import row_reader
from tiler.run.work_sharing import SharedThreads, done

HEIGHT, WIDTH = 60, 5
PIXELS = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 2), dtype=np.uint16)


class Recorded:
    """`Rows` that note which ones were asked for, and whether two asked at once."""

    width, height, bands, dtype, profile = WIDTH, HEIGHT, 2, PIXELS.dtype, None

    def __init__(self, damaged_from=HEIGHT, pause=0.0):
        self.asked, self.damaged_from, self.pause = [], damaged_from, pause
        self.alone, self.together = threading.Lock(), False

    def read(self, top, out):
        self.together |= not self.alone.acquire(blocking=False)
        time.sleep(self.pause)
        self.asked += range(top, top + len(out))
        if top + len(out) > self.damaged_from:
            self.alone.release()
            raise SourceRefused("I03", "damaged")
        out[:] = PIXELS[top : top + len(out)]
        self.alone.release()

    def close(self):
        pass


spans = st.integers(0, HEIGHT - 1).flatmap(
    lambda top: st.tuples(st.just(top), st.integers(top + 1, HEIGHT))
)
windows = st.lists(spans, min_size=1, max_size=12).map(np.array)


@st.composite
def scales(draw):
    """Tops and bottoms of regular windows of several heights, as splitting makes them."""
    found = []
    for height in draw(st.lists(st.integers(1, HEIGHT), min_size=1, max_size=3)):
        stride = draw(st.integers(1, height + 5))
        found += [(top, min(top + height, HEIGHT)) for top in range(0, HEIGHT, stride)]
    return np.array(draw(st.permutations(found)))


def swept(rows, spans, later=done):
    """What comes of it: (a copy of the band, its first row, the windows' numbers)."""
    return [
        (band.copy(), top, here)
        for band, top, here in row_reader.sweep(rows, spans[:, 0], spans[:, 1], later)
    ]


def needed(spans):
    return sorted({row for top, bottom in spans.tolist() for row in range(top, bottom)})


class TestSweep:
    @given(windows | scales())
    @settings(max_examples=150, deadline=None)
    def test_every_window_is_handed_out_once_with_its_pixels(self, spans):
        seen = []
        for band, at, here in swept(Recorded(), spans):
            for i in here:
                top, bottom = spans[i]
                assert at <= top
                np.testing.assert_array_equal(band[top - at : bottom - at], PIXELS[top:bottom])
            seen += here
        assert sorted(seen) == list(range(len(spans)))

    @given(windows | scales())
    @settings(max_examples=150, deadline=None)
    def test_the_rows_of_windows_and_no_others_are_read_once_from_top_to_bottom(self, spans):
        rows = Recorded()
        swept(rows, spans)
        assert rows.asked == needed(spans)

    @given(windows | scales())
    @settings(max_examples=150, deadline=None)
    def test_no_more_is_kept_than_these_and_later_windows_need(self, spans):
        bands = swept(Recorded(), spans)
        ends = [at + len(band) for band, at, _ in bands]
        assert ends == sorted(set(spans[:, 1].tolist()))
        for band, _, here in bands:
            end = spans[here[0], 1]
            assert (spans[here, 1] == end).all()
            assert len(band) == end - spans[spans[:, 1] >= end, 0].min()

    @given(windows | scales())
    @settings(max_examples=100, deadline=None)
    def test_one_band_is_read_ahead(self, spans):
        rows, ends = Recorded(), [*np.unique(spans[:, 1]).tolist(), HEIGHT]
        for i, _ in enumerate(row_reader.sweep(rows, spans[:, 0], spans[:, 1], done)):
            assert rows.asked[-1] < ends[i + 1]

    @given(windows | scales(), st.integers(1, 3))
    @settings(max_examples=60, deadline=None)
    def test_the_same_in_threads(self, spans, count):
        threads, rows = SharedThreads(count), Recorded()
        inline = swept(Recorded(), spans)
        with threads.busy():
            threaded = swept(rows, spans, threads.later)
        assert rows.asked == needed(spans)
        assert not rows.together
        assert len(threaded) == len(inline)
        for one, other in zip(threaded, inline, strict=True):
            assert one[1:] == other[1:]
            np.testing.assert_array_equal(one[0], other[0])

    def test_reads_never_meet_however_slow_they_are(self):
        threads, rows = SharedThreads(3), Recorded(pause=0.002)
        spans = np.array([(top, top + 8) for top in range(0, 50, 5)])
        with threads.busy():
            swept(rows, spans, threads.later)
        assert rows.asked == needed(spans)
        assert not rows.together

    def test_a_band_stays_as_it_is_while_the_next_is_read(self):
        spans = np.array([(top, top + 10) for top in range(0, 50, 3)])
        kept = [
            (band, at)
            for band, at, _ in row_reader.sweep(Recorded(), spans[:, 0], spans[:, 1], done)
        ]
        for band, at in kept:
            np.testing.assert_array_equal(band, PIXELS[at : at + len(band)])

    @pytest.mark.parametrize("damaged_from", [0, 12, 33, 59])
    def test_damage_is_told_where_it_is_reached(self, damaged_from):
        spans = np.array([(top, top + 10) for top in range(0, 51, 5)])
        handed = []
        with pytest.raises(SourceRefused):
            for _, _, here in row_reader.sweep(
                Recorded(damaged_from), spans[:, 0], spans[:, 1], done
            ):
                handed += here
        assert handed == [
            i for i, (_, bottom) in enumerate(spans.tolist()) if bottom <= damaged_from
        ]

    def test_work_for_later_is_asked_for_before_a_band_is_cut(self):
        asked = []

        def noted(work):
            asked.append(work)
            future = Future()
            future.set_result(work())
            return future

        spans = np.array([(0, 10), (10, 20), (20, 30)])
        counts = [len(asked) for _ in row_reader.sweep(Recorded(), spans[:, 0], spans[:, 1], noted)]
        assert counts == [1, 2, 2]


@given(st.integers(1, HEIGHT + 10))
def test_bands_of_rows_are_the_picture(height):
    rows = Recorded()
    bands = list(row_reader.bands_of(rows, height))
    assert all(len(band) == height for band in bands[:-1])
    np.testing.assert_array_equal(np.concatenate(bands), PIXELS)
    assert rows.asked == list(range(HEIGHT))
