"""Text in the cells of a CSV, so that no spreadsheet takes it for a formula and no terminal for a
command.

Text that begins like a formula or holds a control character gets an apostrophe in front; these
characters become `\\xNN`, and backslashes are doubled. All other text is unchanged; `plain` gives
back the original. Numbers are not text: -1 stays -1.
"""

from __future__ import annotations

import re

MARK = "'"
FORMULA = ("=", "+", "-", "@")
UNSAFE = re.compile(r"\A[=+\-@]|[\x00-\x1f\x7f-\x9f]")
ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2})")


def escaped(text: str) -> str:
    """A text as it is written to a cell.

    >>> escaped("=cmd()"), escaped("a\\tb"), escaped("car, red")
    ("'\\\\x3dcmd()", "'a\\\\x09b", 'car, red')
    """
    if not UNSAFE.search(text) and not _marked(text):
        return text
    doubled = text.replace("\\", "\\\\")
    return MARK + UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", doubled)


def plain(cell: str) -> str:
    """The text of a cell, written by `escaped` or with the usual apostrophe in front of a formula.

    >>> plain(escaped("=a\\\\b\\n")) == "=a\\\\b\\n", plain("'tis.jpg")
    (True, "'tis.jpg")
    """
    if not _marked(cell):
        return cell
    return ESCAPE.sub(_unescaped, cell[len(MARK) :])


def _marked(cell: str) -> bool:
    """Whether a cell looks like one that `escaped` has changed."""
    bare = cell.lstrip(MARK)
    return bare != cell and (bare.startswith(FORMULA) or ESCAPE.search(bare) is not None)


def _unescaped(match: re.Match[str]) -> str:
    if match[1] == "\\":
        return "\\"
    return chr(int(match[1][1:], 16))
