"""The elements that the report's HTML is made of, beside the tables of `formats.html`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from tiler.formats.html import Cell, Html, class_, number, text

# --- text


def decimal(value: float | None) -> Cell:
    """With one decimal."""
    return Cell("n/a" if value is None else f"{value:.1f}")


def interval(ends: Sequence[float | None]) -> str:
    """From its low end to its high one."""
    low, high = ends
    if low is None or high is None:
        return "n/a"
    return f"{number(low)} to {number(high)}"


def interval_cell(ends: Sequence[float | None] | None) -> Cell:
    """Empty where no interval was measured."""
    return Cell("" if ends is None else interval(ends))


def phrase(name: str) -> str:
    """A name of the JSON as a heading.

    >>> phrase("best_conf")
    'Best conf'
    """
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def commands(words: str) -> Html:
    """What stands between `backquotes` is to be typed."""
    return Html(re.sub("`(.*?)`", r"<code>\1</code>", escape(words)))


# --- blocks


def paragraph(words: str, look: str = "") -> str:
    return f"<p{class_(look)}>{text(words)}</p>\n"


def figure(content: str, caption: str) -> str:
    return f"<figure>\n{content}\n<figcaption>{text(caption)}</figcaption>\n</figure>\n"


def grid(look: str, parts: Iterable[str]) -> str:
    """Side by side, as far as there is room."""
    return f'<div class="{look}">\n{"".join(parts)}</div>\n'


def definitions(rows: Mapping[str, Any]) -> str:
    """Terms and what they are."""
    lines = []
    for term, value in rows.items():
        lines.append(f"<dt>{text(term)}</dt><dd>{_words(value)}</dd>\n")
    return f"<dl>\n{''.join(lines)}</dl>"


def _words(value: Any) -> str:
    """Lists, and names with values, as lists."""
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, Mapping):
        return _list(_named(name, own) for name, own in value.items())
    if isinstance(value, list):
        return _list(value)
    return text(value)


def _list(items: Iterable[Any]) -> str:
    parts = [f"<li>{text(item)}</li>" for item in items]
    return f"<ul>{''.join(parts)}</ul>"


def _named(name: str, value: Any) -> str:
    """A name and its value, or its values."""
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return f"{name.replace('_', ' ')}: {value}"
