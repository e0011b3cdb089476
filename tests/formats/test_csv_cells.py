import csv
import io

from hypothesis import example, given
from hypothesis import strategies as st

from tiler.formats.csv_cells import escaped, plain

texts = st.text(st.sampled_from("'=+-@\t\r\n\x00\x1b\x9b\\x1b9aäb,\"="), max_size=8) | st.text(
    max_size=20
)


@given(texts)
@example("'=a")
@example("'\\x1b")
@example("\\\x1b")
def test_what_is_escaped_comes_back(text):
    assert plain(escaped(text)) == text


@given(texts)
def test_no_cell_begins_like_a_formula_or_holds_a_control_character(text):
    cell = escaped(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in cell)


@given(texts)
def test_it_survives_a_csv(text):
    file = io.StringIO(newline="")
    csv.writer(file).writerow([escaped(text), 1])
    assert [plain(cell) for cell in next(csv.reader(io.StringIO(file.getvalue(), newline="")))] == [
        text,
        "1",
    ]


@given(st.text(st.characters(exclude_categories=["Cc"], exclude_characters="=+-@'"), min_size=1))
def test_ordinary_text_stays_as_it_is(text):
    assert escaped(text) == text
