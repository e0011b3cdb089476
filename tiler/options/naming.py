"""How tiles are named: the tools that are known, and patterns such as {stem}_{row}_{col}.

A field of a pattern is a number in the name: x, y, x1, y1, w, h and side in px of the image; `row`
and `col` count from 0, `row:1` and `col:1` from 1; `scale` is tile px per source px; `*` is
anything.
"""

from __future__ import annotations

import re
from typing import Any

from tiler.options.values import choice

NAMINGS = ("auto", "tiler", "sahi", "split_dota", "dota_devkit")
FIELDS = ("x", "y", "x1", "y1", "w", "h", "side", "row", "col", "row:1", "col:1", "scale")
STEM, ANYTHING = "stem", "*"
LONGEST = 255  # characters of a pattern, as of a file's name
# a number, and right behind it another one or the image's name, which may begin with a digit
NUMBERS_MEET = re.compile(r"\{(?!stem\}|\*\})[^{}]*\}[0-9]*\{(?!\*\})")
INDICES = {"x": ("col", "col:1"), "y": ("row", "row:1")}  # in place of a pixel


def fields_of(pattern: str) -> tuple[str, ...]:
    """The fields of a pattern, in its order.

    >>> fields_of("{stem}_r{row:1}_c{col:1}")
    ('stem', 'row:1', 'col:1')
    """
    return tuple(re.findall(r"\{([^{}]*)\}", pattern))


def naming(value: Any) -> str:
    """The name of a tool, or a pattern.

    >>> naming("SAHI"), naming("{stem}_{row}_{col}")
    ('sahi', '{stem}_{row}_{col}')
    """
    text = str(value)
    if "{" not in text:
        try:
            return choice(*NAMINGS)(value)
        except ValueError as error:
            raise ValueError(f"{error}, or a pattern such as {{stem}}_{{row}}_{{col}}") from None
    if len(text) > LONGEST:
        raise ValueError(f"a pattern of at most {LONGEST} characters")
    if set("{}") & set(re.sub(r"\{[^{}]*\}", "", text)):
        raise ValueError("a pattern whose braces are in pairs, such as {stem}_{row}_{col}")
    own = [field for field in fields_of(text) if field != ANYTHING]
    unknown = [field for field in own if field not in (STEM, *FIELDS)]
    if unknown:
        known = ", ".join((STEM, *FIELDS, ANYTHING))
        raise ValueError(f"fields of {known}; {unknown[0]!r} is none of them")
    if len(set(own)) < len(own):
        raise ValueError("each field once")
    if not _says_one_place({*own}):
        raise ValueError("a pattern with one x or col and one y or row")
    if NUMBERS_MEET.search(text):
        raise ValueError("text between a number and the next field, such as {row}_{col}")
    return text


def _says_one_place(fields: set[str]) -> bool:
    across = fields & {"x", *INDICES["x"]}
    down = fields & {"y", *INDICES["y"]}
    return len(across) == len(down) == 1
