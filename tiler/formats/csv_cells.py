"""Text in a cell of CSV, so that no spreadsheet takes it for a formula and no terminal for a
command.

What begins like a formula, or holds a control character, is written behind an apostrophe, with
these characters as `\\xNN` and backslashes doubled. All other text stays as it is; `plain` gives
back what was written. Numbers are not text: -1 stays -1.
"""

from __future__ import annotations

import re

MARK = "'"
FORMULA = ("=", "+", "-", "@")
UNSAFE = re.compile(r"\A[=+\-@]|[\x00-\x1f\x7f-\x9f]")
ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2})")


def escaped(text: str) -> str:
    """A text as a cell holds it.

    >>> escaped("=cmd()"), escaped("a\\tb"), escaped("car, red")
    ("'\\\\x3dcmd()", "'a\\\\x09b", 'car, red')
    """
    if not (UNSAFE.search(text) or _marked(text)):
        return text
    doubled = text.replace("\\", "\\\\")
    return MARK + UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", doubled)


def plain(cell: str) -> str:
    """The text that a cell was written for, by `escaped` or with the usual apostrophe before a
    formula.

    >>> plain(escaped("=a\\\\b\\n")) == "=a\\\\b\\n", plain("'tis.jpg")
    (True, "'tis.jpg")
    """
    return ESCAPE.sub(_meant, cell[len(MARK) :]) if _marked(cell) else cell


def _marked(cell: str) -> bool:
    """Whether a cell looks like what `escaped` makes."""
    bare = cell.lstrip(MARK)
    return bare != cell and (bare.startswith(FORMULA) or ESCAPE.search(bare) is not None)


def _meant(found: re.Match[str]) -> str:
    return "\\" if found[1] == "\\" else chr(int(found[1][1:], 16))
