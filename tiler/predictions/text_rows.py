"""Rows of numbers in many text files, parsed together.

Parsing the files of a folder one by one costs more than parsing their bytes at once.
What is not plainly numbers and line ends goes through `yolo.parse`, with equal results.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tiler.formats import yolo
from tiler.formats.text_files import without_bom
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

PLAIN = b"0123456789+-.eE \t\n"


@dataclass(frozen=True, slots=True, eq=False)
class TextRows:
    """The lines that are not blank of F files, R in all.

    Attributes:
        values: `(V,)` all numbers.
        starts: `(R + 1,)` row r is `values[starts[r]:starts[r + 1]]`; no values: not numbers.
        lines: `(R,)` the line of each row in its file, from 1.
        files: `(F + 1,)` file f has the rows `files[f]` to `files[f + 1]`.
        words: for each row that is not numbers, what was found.
    """

    values: Floats
    starts: Ints
    lines: Ints
    files: Ints
    words: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def lengths(self) -> Ints:
        """`(R,)` number of values of each row."""
        return np.diff(self.starts)

    @property
    def owners(self) -> Ints:
        """`(R,)` the file of each row."""
        return np.repeat(np.arange(len(self.files) - 1), np.diff(self.files))

    @property
    def ordinals(self) -> Ints:
        """`(R,)` the place of each row in its file, from 0."""
        return np.arange(len(self)) - self.files[self.owners]

    def take(self, files: Sequence[int] | Ints) -> TextRows:
        """The rows of the given files, in that order."""
        index = np.asarray(files, np.int64)
        counts = np.diff(self.files)[index]
        rows = ragged.spans(self.files[index], counts)
        lengths = self.lengths[rows]
        values = self.values[ragged.spans(self.starts[rows], lengths)]
        words = (
            {int(new): self.words[int(rows[new])] for new in np.flatnonzero(lengths == 0)}
            if self.words
            else {}
        )
        return TextRows(
            values, ragged.offsets(lengths), self.lines[rows], ragged.offsets(counts), words
        )


def concatenate(many: Sequence[TextRows]) -> TextRows:
    """The files of all, in order."""
    words: dict[int, str] = {}
    before = 0
    for rows in many:
        words.update({before + row: word for row, word in rows.words.items()})
        before += len(rows)
    none = np.empty(0, np.int64)
    return TextRows(
        np.concatenate([np.empty(0), *(r.values for r in many)]),
        ragged.offsets(np.concatenate([none, *(r.lengths for r in many)])),
        np.concatenate([none, *(r.lines for r in many)]),
        ragged.offsets(np.concatenate([none, *(np.diff(r.files) for r in many)])),
        words,
    )


def parse(files: Sequence[bytes]) -> TextRows:
    """The rows of files of UTF-8 text: a BOM, any line ends and blank lines do not matter.

    >>> rows = parse([b"0 .5 .5\\r\\n\\n1 2\\n", b"", b"0 oops"])
    >>> rows.lengths.tolist(), rows.lines.tolist(), rows.owners.tolist(), rows.words
    ([3, 2, 0], [1, 3, 1], [0, 0, 2], {2: "found 'oops', expected a number"})
    """
    easy: list[int] = []
    texts: list[bytes] = []
    hard: list[int] = []
    for i, data in enumerate(files):
        text = without_bom(data).replace(b"\r\n", b"\n")
        if text.translate(None, PLAIN):
            hard.append(i)
        else:
            easy.append(i)
            texts.append(text)
    if not hard:
        return _together(texts)
    return concatenate([_together(texts), *(_carefully(files[i]) for i in hard)]).take(
        np.argsort(easy + hard)
    )


def _together(texts: Sequence[bytes]) -> TextRows:
    """The rows of texts of plain bytes, halved until those in doubt are alone."""
    rows = _at_once(texts)
    if rows is not None:
        return rows
    if len(texts) == 1:
        return _carefully(texts[0])
    half = len(texts) // 2
    return concatenate([_together(texts[:half]), _together(texts[half:])])


def _at_once(texts: Sequence[bytes]) -> TextRows | None:
    """The rows, or None when there are not as many numbers as words."""
    data = b"".join([b"\n", *(part for text in texts for part in (text, b"\n"))])
    raw = np.frombuffer(data, np.uint8)
    blank = raw <= 32
    words = np.flatnonzero(blank[:-1] & ~blank[1:])
    values = _numbers(data) if len(words) else np.empty(0)
    if values is None or len(values) != len(words):
        return None
    ends = np.flatnonzero(raw == 10)  # the first one stands before the first text
    counts = np.diff(np.searchsorted(words, ends))
    filled = np.flatnonzero(counts)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    first = np.searchsorted(ends, ragged.offsets(sizes + 1))  # the lines before each text
    return TextRows(
        values,
        ragged.offsets(counts[filled]),
        filled - np.repeat(first[:-1], np.diff(np.searchsorted(filled, first))) + 1,
        np.searchsorted(filled, first),
    )


def _numbers(data: bytes) -> Floats | None:
    with warnings.catch_warnings():
        # numpy warns of text it cannot read, and returns what came before
        warnings.simplefilter("error")
        try:
            return np.fromstring(data, np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


def _carefully(data: bytes) -> TextRows:
    table = yolo.parse(data)
    rows: list[Floats] = [np.empty(0)] * len(table.lines)
    for places, matrix in table.groups.values():
        for place, values in zip(places, matrix, strict=True):
            rows[place] = values
    return TextRows(
        np.concatenate([np.empty(0), *rows]),
        ragged.offsets(np.array([len(row) for row in rows], np.int64)),
        np.array(table.lines, np.int64),
        np.array([0, len(rows)]),
        {place: message for place, _, message in table.problems},
    )
