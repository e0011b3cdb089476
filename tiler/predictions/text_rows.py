"""Rows of numbers in many text files, parsed together.

Parsing the files of a folder one by one takes longer than parsing their bytes at once. Files that
hold anything but numbers and line ends go through `yolo.parse`, with equal results.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tiler.formats import yolo
from tiler.formats.text_files import without_bom
from tiler.geometry import ragged

if TYPE_CHECKING:
    from tiler.types import Floats, Ints

PLAIN = b"0123456789+-.eE \t\n"
COMMAS = bytes.maketrans(b" \t\n", b",,,")
NUMBERS = msgspec.json.Decoder(list[float])
PIECE = 2**17  # bytes that are decoded at once, so that they stay in the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class TextRows:
    """The lines that are not blank of F files, R in all.

    Attributes:
        values: `(V,)` all numbers.
        starts: `(R + 1,)` row r is `values[starts[r]:starts[r + 1]]`; empty if it is not numbers.
        lines: `(R,)` the line of each row in its file, from 1.
        files: `(F + 1,)` file f has the rows `files[f]` to `files[f + 1]`.
        words: what was found in each row that is not numbers, by its index.
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
        words: dict[int, str] = {}
        if self.words:
            for new in np.flatnonzero(lengths == 0).tolist():
                words[new] = self.words[int(rows[new])]
        values = self.values[ragged.spans(self.starts[rows], lengths)]
        starts = ragged.offsets(lengths)
        return TextRows(values, starts, self.lines[rows], ragged.offsets(counts), words)


def concatenate(many: Sequence[TextRows]) -> TextRows:
    """The files of all, in order."""
    words: dict[int, str] = {}
    before = 0
    for rows in many:
        words.update({before + row: word for row, word in rows.words.items()})
        before += len(rows)
    lengths = _joined([rows.lengths for rows in many])
    counts = _joined([np.diff(rows.files) for rows in many])
    values = np.concatenate([np.empty(0), *(rows.values for rows in many)])
    lines = _joined([rows.lines for rows in many])
    return TextRows(values, ragged.offsets(lengths), lines, ragged.offsets(counts), words)


def _joined(many: Sequence[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *many])


def parse(files: Sequence[bytes]) -> TextRows:
    """The rows of files of UTF-8 text, with or without BOM, any line ends, blank lines skipped.

    >>> rows = parse([b"0 .5 .5\\r\\n\\n1 2\\n", b"", b"0 oops"])
    >>> rows.lengths.tolist(), rows.lines.tolist(), rows.owners.tolist(), rows.words
    ([3, 2, 0], [1, 3, 1], [0, 0, 2], {2: "found 'oops', expected a number"})
    """
    plain: list[int] = []
    texts: list[bytes] = []
    other: list[int] = []
    for i, data in enumerate(files):
        text = without_bom(data).replace(b"\r\n", b"\n")
        if text.translate(None, PLAIN):
            other.append(i)
        else:
            plain.append(i)
            texts.append(text)
    rows = _together(texts)
    if not other:
        return rows
    rows = concatenate([rows, *(_one_by_one(files[i]) for i in other)])
    return rows.take(np.argsort(plain + other))


def _together(texts: Sequence[bytes]) -> TextRows:
    """The rows of texts of plain bytes; halved until those that are not numbers are alone."""
    rows = _at_once(texts)
    if rows is not None:
        return rows
    if len(texts) == 1:
        return _one_by_one(texts[0])
    half = len(texts) // 2
    return concatenate([_together(texts[:half]), _together(texts[half:])])


def _at_once(texts: Sequence[bytes]) -> TextRows | None:
    """The rows, or None when there are not as many numbers as words."""
    data = b"".join([b"\n", *(part for text in texts for part in (text, b"\n"))])
    characters = np.frombuffer(data, np.uint8)
    blank = characters <= 32
    words = np.flatnonzero(blank[:-1] & ~blank[1:])
    values = _numbers(data) if len(words) else np.empty(0)
    if values is None or len(values) != len(words):
        return None
    line_ends = np.flatnonzero(characters == 10)  # the first one stands before the first text
    counts = np.diff(np.searchsorted(words, line_ends))  # words of each line
    filled = np.flatnonzero(counts)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    lines_before = np.searchsorted(line_ends, ragged.offsets(sizes + 1))  # each text
    files = np.searchsorted(filled, lines_before)
    lines = filled - np.repeat(lines_before[:-1], np.diff(files)) + 1
    return TextRows(values, ragged.offsets(counts[filled]), lines, files)


def _numbers(data: bytes) -> Floats | None:
    """All numbers of a text; None if something in it is none."""
    values = _json_numbers(data)
    if values is not None:
        return values
    with warnings.catch_warnings():
        # numpy warns of text it cannot read, and returns what came before
        warnings.simplefilter("error")
        try:
            return np.fromstring(data, np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            return None


def _json_numbers(data: bytes) -> Floats | None:
    """The same as JSON, which msgspec reads four times as fast; None for what JSON has not: numbers
    like .5 or +1, and more than one space.
    """
    text = data.strip()
    while b"\n\n" in text:
        text = text.replace(b"\n\n", b"\n")
    parts = [np.empty(0)]
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + PIECE)
        if end < 0:
            end = len(text)
        piece = text[start:end].translate(COMMAS)
        try:
            parts.append(np.array(NUMBERS.decode(b"[" + piece + b"]"), np.float64))
        except msgspec.DecodeError:
            return None
        start = end + 1
    return np.concatenate(parts)


def _one_by_one(data: bytes) -> TextRows:
    """The rows of one file, of which some may not be numbers."""
    table = yolo.parse(data)
    rows: list[Floats] = [np.empty(0)] * len(table.lines)
    for places, matrix in table.groups.values():
        for place, values in zip(places, matrix, strict=True):
            rows[place] = values
    values = np.concatenate([np.empty(0), *rows])
    starts = ragged.offsets(map(len, rows))
    lines = np.array(table.lines, np.int64)
    files = np.array([0, len(rows)])
    words = {place: message for place, _, message in table.problems}
    return TextRows(values, starts, lines, files, words)
