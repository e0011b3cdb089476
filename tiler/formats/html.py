"""Tables in HTML, for reports and notebooks. Text is escaped here, once."""

from __future__ import annotations

from collections.abc import Sequence
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


def table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", look: str = ""
) -> str:
    """The first cell of each row is its head; columns of numbers stand right."""
    cells = [[_cell(value) for value in row] for row in rows]
    parts = [f"<table{class_(look)}>\n"]
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
        heads.append(f'<th scope="col"{class_(look)}>{text(name)}</th>')
    return heads


def _row(cells: Sequence[Cell]) -> str:
    first, *others = cells
    columns = []
    for cell in others:
        attributes = class_(cell.look) + _attribute("style", cell.style)
        columns.append(f"<td{attributes}>{text(cell.text)}</td>")
    return f'<tr><th scope="row">{text(first.text)}</th>{"".join(columns)}</tr>\n'


def class_(look: str) -> str:
    """The attribute that gives an element its look."""
    return _attribute("class", look)


def _attribute(name: str, value: str) -> str:
    """Nothing without a value."""
    return f' {name}="{value}"' if value else ""
