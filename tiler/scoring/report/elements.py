"""The elements that the report's HTML is made of. Text is escaped here, once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from tiler.errors import printable

LONG = 40  # rows, from which on a table scrolls in its box
NUMBERS = {"n", "n bar"}  # looks of cells that stand right


class Html(str):
    """Text that is markup already."""


class Cell(NamedTuple):
    """A number that is written, or looks, in its own way."""

    text: str
    style: str = ""
    look: str = "n"


# --- text


def text(value: object) -> str:
    """A value as it may stand in HTML.

    >>> text("a < b"), text(Html("<br>"))
    ('a &lt; b', '<br>')
    """
    if isinstance(value, Html):
        return value
    return escape(printable(str(value)))


def number(value: float | None) -> str:
    """With three decimals."""
    return "n/a" if value is None else f"{value:.3f}"


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
    return f"<p{_class(look)}>{text(words)}</p>\n"


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


def _class(look: str) -> str:
    return _attribute("class", look)


def _attribute(name: str, value: str) -> str:
    """Nothing without a value."""
    return f' {name}="{value}"' if value else ""


# --- tables


def table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", look: str = ""
) -> str:
    """The first cell of each row is its head; columns of numbers stand right."""
    cells = [[_cell(value) for value in row] for row in rows]
    parts = [f"<table{_class(look)}>\n"]
    if caption:
        parts.append(f"<caption>{text(caption)}</caption>\n")
    parts += ["<thead>\n<tr>", *_heads(head, cells), "</tr>\n</thead>\n"]
    parts += ["<tbody>\n", *map(_row, cells), "</tbody>\n</table>"]
    box = "box long" if len(rows) > LONG else "box"
    return f'<div class="{box}" tabindex="0">{"".join(parts)}</div>\n'


def _cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, int):
        return Cell(str(value))
    if value is None or isinstance(value, float):
        return Cell(number(value))
    return Cell(str(value), look="" if value else "n")


def _heads(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    heads = []
    for i, name in enumerate(head):
        looks = {row[i].look for row in rows}
        look = ""
        if i and looks and looks <= NUMBERS:
            look = "n"
        heads.append(f'<th scope="col"{_class(look)}>{text(name)}</th>')
    return heads


def _row(cells: Sequence[Cell]) -> str:
    first, *others = cells
    columns = []
    for cell in others:
        attributes = _class(cell.look) + _attribute("style", cell.style)
        columns.append(f"<td{attributes}>{text(cell.text)}</td>")
    return f'<tr><th scope="row">{text(first.text)}</th>{"".join(columns)}</tr>\n'
