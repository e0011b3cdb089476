import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiler
from tests.strategies import quick
from tiler.findings import CODES, Finding, condensed, printable

any_text = st.text(st.characters(exclude_categories=[]), max_size=30)
some_findings = st.lists(
    st.builds(
        Finding,
        path=st.sampled_from(["a.txt", "b.txt"]),
        code=st.sampled_from(["L02", "L03"]),
        message=st.sampled_from(["one", "two"]),
        line=st.none() | st.integers(1, 9),
        count=st.integers(1, 3),
    ),
    max_size=60,
)


@quick
@given(any_text)
def test_printable_text_is_one_line_that_can_be_encoded(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\udce9", "\\udce9"),
        ("\u2028", "\\u2028"),
        ("é 日本", "é 日本"),
        ("", ""),
    ],
)
def test_what_cannot_be_shown_is_an_escape(text, shown):
    assert printable(text) == shown


@quick
@given(some_findings, st.integers(1, 5))
def test_condensing_keeps_the_first_few_of_each_kind_and_counts_the_rest(findings, limit):
    kept = condensed(findings, limit)
    kinds = [(f.path, f.code) for f in findings]
    expected = []
    for i, finding in enumerate(findings):
        if kinds[:i].count(kinds[i]) < limit or finding.level == "error":
            expected.append(finding)
    assert [(f.path, f.code, f.message, f.line) for f in kept] == [
        (f.path, f.code, f.message, f.line) for f in expected
    ]
    for kind in set(kinds):
        counts = [
            [f.count for f in given if (f.path, f.code) == kind] for given in (findings, kept)
        ]
        assert sum(counts[1]) == sum(counts[0])
        assert counts[1][:-1] == counts[0][: len(counts[1]) - 1]


@quick
@given(some_findings)
def test_condensing_twice_is_condensing_once(findings):
    once = condensed(findings)
    assert condensed(once) == once
    assert condensed(iter(findings)) == once


@quick
@given(
    any_text, st.sampled_from(sorted(CODES)), st.none() | st.integers(1, 10**6), st.integers(1, 5)
)
def test_a_finding_names_its_place_on_one_line(path, code, line, count):
    text = str(Finding(path, code, "said", line, count))
    where = printable(path) + (f":{line}" if line else "")
    more = f" (and {count - 1} more)" if count > 1 else ""
    assert text == (f"{where}: " if where else "") + f"{code} said{more}"
    assert text.isprintable()


def test_every_code_has_a_level_and_words():
    assert {level for level, _ in CODES.values()} == {"error", "warning", "note"}
    assert all(words.isprintable() and words for _, words in CODES.values())
    assert Finding("a", "L02", "").level == "error"
    assert Finding("a", "L07", "").level == "warning"
    assert Finding("a", "L12", "").level == "note"


def test_every_code_is_used_and_every_code_used_is_known():
    package = Path(tiler.__file__).parent
    files = [p for p in package.rglob("*.py") if p.name != "findings.py"]
    used = {
        code
        for p in files
        for code in re.findall(r'"([YIGLMPTDSWX]\d\d)"', p.read_text(encoding="utf-8"))
    }
    assert used == set(CODES)
