"""Rows: many files at once are what the careful parser makes of each."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiler.formats import yolo
from tiler.predictions.text_rows import TextRows, _at_once, concatenate, parse

NUMBERS = st.one_of(
    st.integers(-5, 200).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 1).map("{:g}".format),
    st.sampled_from(
        [".5", "5.", "+1", "-0", "1e3", "1E-3", "0.1234567890123456789", "1e400", "4.9e-324", "007"]
    ),
)
WORDS = st.sampled_from(
    [
        "nan",
        "inf",
        "x",
        "1,2",
        "1.2.3",
        "1-2",
        "--1",
        "1e",
        ".",
        "-",
        "e5",
        "1_0",
        "0x1",
        "é",
        "1e5e",
        "+-1",
        "\x00",
    ]
)
SPACES = st.sampled_from([" ", "  ", "\t", " \t "])
ENDS = st.sampled_from(
    ["\n", "\r\n", "\n\n", "\n \t\n", "\r", "\x0b", "\x0c", "\x1c", "\u2028", "\x85"]
)


@st.composite
def texts(draw, words=None):
    """The text of a file of rows, as odd as it comes."""
    plain = draw(st.booleans())
    word = NUMBERS if plain else st.one_of(NUMBERS, NUMBERS, NUMBERS, words or WORDS)
    end = st.sampled_from(["\n", "\r\n", "\n\n"]) if plain else ENDS
    parts = [draw(st.sampled_from(["", "", "\ufeff", "\n", "  "]))]
    for row in draw(st.lists(st.lists(word, max_size=7), max_size=6)):
        parts += [draw(st.sampled_from(["", " "])), draw(SPACES).join(row), draw(end)]
    text = "".join(parts)
    return (text.rstrip() if draw(st.booleans()) else text).encode()


def slowly(data):
    """The rows of one file, said with nothing but `yolo.parse`."""
    table = yolo.parse(data)
    rows = {
        int(place): row.tolist()
        for places, rows in table.groups.values()
        for place, row in zip(places, rows, strict=True)
    }
    return (
        [rows.get(place, []) for place in range(len(table.lines))],
        table.lines,
        {p: m for p, _, m in table.problems},
    )


def said(rows, file):
    """The same of file `file` of many."""
    first, end = rows.files[file : file + 2]
    values = [rows.values[rows.starts[r] : rows.starts[r + 1]].tolist() for r in range(first, end)]
    return (
        values,
        rows.lines[first:end].tolist(),
        {r - int(first): m for r, m in rows.words.items() if first <= r < end},
    )


@quick
@given(st.lists(texts(), max_size=6))
def test_many_files_at_once_are_what_yolo_parse_makes_of_each(files):
    rows = parse(files)
    assert len(rows.files) == len(files) + 1 and rows.files[-1] == len(rows)
    for i, data in enumerate(files):
        # repr: NaN is itself, -0.0 is not 0.0
        assert repr(said(rows, i)) == repr(slowly(data)), data
    np.testing.assert_array_equal(
        rows.ordinals, np.concatenate([np.empty(0, int), *map(np.arange, np.diff(rows.files))])
    )


@quick
@given(st.lists(texts(), min_size=1, max_size=5), st.data())
def test_taking_files_is_parsing_them(files, data):
    index = data.draw(st.lists(st.integers(0, len(files) - 1), max_size=6))
    taken, direct = parse(files).take(index), parse([files[i] for i in index])
    for name in TextRows.__dataclass_fields__:
        np.testing.assert_equal(getattr(taken, name), getattr(direct, name))


@quick
@given(st.lists(texts(), max_size=4), st.lists(texts(), max_size=4))
def test_concatenating_is_parsing_all(one, other):
    together, direct = concatenate([parse(one), parse(other)]), parse(one + other)
    for name in TextRows.__dataclass_fields__:
        np.testing.assert_equal(getattr(together, name), getattr(direct, name))


@pytest.mark.parametrize(
    "doubtful", [b"1.2.3 4\n", b"1-2\n", b"1 . 2\n", b"1e 5\n", b"e\n", b"1 2 - 3.4.5\n"]
)
def test_a_word_that_is_no_number_but_looks_like_one_is_seen(doubtful):
    """numpy reads 1.2.3 as two numbers and stops at e: the words must be counted."""
    assert _at_once([b"1 2\n", doubtful]) is None
    rows = parse([b"1 2\n", doubtful, b"3\n"])
    assert said(rows, 0)[0] == [[1, 2]] and said(rows, 2)[0] == [[3]]
    assert said(rows, 1)[0] == [[]] and "expected a number" in rows.words[1]


def test_two_faults_do_not_cancel_out():
    """One word that gives two numbers and one that gives none: as many numbers as words."""
    assert parse([b"1.2.3\n", b"4 .\n"]).lengths.tolist() == [0, 0]


def test_nothing_is_ordinary():
    for files in ([], [b""], [b"", b"\n\n"], [b"\xef\xbb\xbf"]):
        rows = parse(files)
        assert (
            len(rows) == 0
            and rows.files.tolist() == [0] * (len(files) + 1)
            and rows.values.shape == (0,)
        )
        assert len(rows.take([])) == 0
    assert len(concatenate([])) == 0


def test_a_byte_order_mark_and_line_ends_change_nothing():
    plain = parse([b"0 1 2\n\n3 4\n"])
    windows = parse([b"\xef\xbb\xbf0 1 2\r\n\r\n3 4\r\n"])
    for name in TextRows.__dataclass_fields__:
        np.testing.assert_equal(getattr(plain, name), getattr(windows, name))
