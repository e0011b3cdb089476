"""Patterns of tile names, such as {stem}_{row}_{col}: as users give them, and as names suggest."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tiler.options.naming import ANYTHING, STEM

DIGITS = 9  # of a number at most; no image is larger
LONGEST_READ = 255  # characters of a name that a pattern is held against
LONGEST = 1000  # characters of a name; a longer one is of no file, and trying it takes their square
MOST_NUMBERS = 8  # after the name of the image
IMAGE = r"(?:jpe?g|png|tiff?|bmp|webp|jp2)"
# what is added to names: the suffix of the image as text, and Roboflow's hash
ADDED = re.compile(rf"(?:[._-]{IMAGE})?(?:\.rf\.[0-9a-z]+)?", re.IGNORECASE)
AFTER = re.compile(rf"(?P<name>.*?\d)(?:{ADDED.pattern})", re.IGNORECASE | re.DOTALL)
COPY = re.compile(r"(?P<name>.*?\d)(?:-\d{1,2}| ?\(\d{1,2}\)|_copy)", re.DOTALL)
NUMBER = re.compile(r"[0-9]+")
BETWEEN = re.compile(r"[_\-. ]*(?P<word>[A-Za-z]*)[_\-. ]*")  # numbers
SEPARATORS = ("_", "-", ".", " ")
WORDS = {
    "x": "x", "xmin": "x", "y": "y", "ymin": "y",
    "xmax": "x1", "ymax": "y1",
    "w": "w", "width": "w", "h": "h", "height": "h",
    "r": "row", "row": "row", "c": "col", "col": "col", "column": "col",
}  # fmt: skip
# others that stand before numbers; any other word may be part of the name of another image
LABELS = {"", "tile", "patch", "crop", "chip", "slice", "window", "block", "part", "n", "id"}
WILDCARDS = (f"{{{STEM}}}", f"{{{ANYTHING}}}")
GRIDS = (("row", "col"), ("col", "row"), ("row:1", "col:1"), ("col:1", "row:1"))
CORNERS = (("x", "y"), ("y", "x"))
WINDOWS = (
    ("x", "y", "w", "h"),
    ("x", "y", "x1", "y1"),
    ("y", "x", "h", "w"),
    ("y", "x", "y1", "x1"),
    ("x", "x1", "y", "y1"),
    ("y", "y1", "x", "x1"),
    ("w", "h", "x", "y"),
    ("h", "w", "y", "x"),
)
Fields = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NumberedName:
    """What a name says after the name of its image.

    Attributes:
        stem: the name of the image.
        skeleton: the rest, with {} for each number.
    """

    stem: str
    skeleton: str
    numbers: tuple[int, ...]


def numbered(name: str, stems: Collection[str]) -> list[NumberedName]:
    """A name as that of an image and numbers, for each image that it may be of, the longest first.

    What tools add to names is left out: `_jpg.rf.<hash>`, `_png`, `-2`.

    >>> numbered("a_0_0_320_jpg.rf.9b", {"a", "a_0"})[0]
    NumberedName(stem='a_0', skeleton='_{}_{}', numbers=(0, 320))
    """
    found: list[NumberedName] = []
    if len(name) > LONGEST:
        return found
    for end in range(len(name), 0, -1):
        if name[:end] not in stems:
            continue
        rest = _without_added(name[end:])
        numbers = NUMBER.findall(rest)
        texts = NUMBER.split(rest)
        if not numbers or len(numbers) > MOST_NUMBERS or max(map(len, numbers)) > DIGITS:
            continue
        if rest.startswith(SEPARATORS) and not texts[-1] and all(map(_is_between, texts)):
            skeleton = "{}".join(texts)
            found.append(NumberedName(name[:end], skeleton, tuple(map(int, numbers))))
    return found


def _is_between(text: str) -> bool:
    """Whether a text may stand between numbers: separators, x, row, tile and the like; or x in
    400x300.
    """
    match = BETWEEN.fullmatch(text)
    return match is not None and match["word"].lower() in WORDS.keys() | LABELS


def _without_added(rest: str) -> str:
    """What follows the name of the image, without what tools add before and behind the numbers."""
    before = ADDED.match(rest)
    if before is not None and rest[before.end() : before.end() + 1] in ("_", "-"):
        rest = rest[before.end() :]
    rest = without_suffix(rest)
    copy = COPY.fullmatch(rest)
    if copy is not None and "-" not in copy["name"]:
        rest = copy["name"]
    return rest


def without_suffix(name: str) -> str:
    """A name without the image's suffix as text and Roboflow's hash.

    >>> without_suffix("a_0_320_png.rf.5e"), without_suffix("a")
    ('a_0_320', 'a')
    """
    after = AFTER.fullmatch(name)
    return name if after is None else after["name"]


def suggested(skeleton: str) -> list[Fields]:
    """What the numbers of a skeleton may be, by their words, else by how many there are.

    >>> suggested("_r{}_c{}")
    [('row', 'col'), ('row:1', 'col:1')]
    """
    words = [re.sub(r"[^a-z]", "", text.lower()) for text in skeleton.split("{}")[:-1]]
    fields = tuple(WORDS.get(word, "") for word in words)
    if all(fields) and len(set(fields)) == len(fields):
        if {*fields} == {"row", "col"}:
            return [fields, tuple(f"{field}:1" for field in fields)]
        return [fields]
    count = len(words)
    if count < 2:
        return []
    if count == 2:
        return [*CORNERS, *GRIDS]
    if count == 3:
        return _of_three()
    ignored = (ANYTHING,) * (count - 4)
    return [(*ignored, *fields) for fields in (*WINDOWS, *_of_four())]


def _of_three() -> list[Fields]:
    """A corner and the side of a square tile, or a number before a corner or a grid's."""
    three: list[Fields] = []
    for corner in CORNERS:
        three += [("side", *corner), (*corner, "side")]
    return three + [(ANYTHING, *two) for two in (*CORNERS, *GRIDS)]


def _of_four() -> list[Fields]:
    """A place in the grid beside a corner, in either order."""
    ignored = (ANYTHING, ANYTHING)
    four: list[Fields] = []
    for corner in CORNERS:
        four += [(*ignored, *corner), (*corner, *ignored)]
    return four


def written(skeleton: str, fields: Fields) -> str:
    """The pattern that --naming takes for a skeleton.

    >>> written("_r{}_c{}", ("row", "col"))
    '{stem}_r{row}_c{col}'
    """
    names = [f"{{{field}}}" for field in fields]
    texts = skeleton.split("{}")
    parts = ["{stem}", texts[0]]
    for name, text in zip(names, texts[1:], strict=True):
        parts += [name, text]
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A pattern to read names by.

    Attributes:
        blocks: text and numbers, before, between and after the fields of any text.
        wildcards: these fields, "stem" or "*", one between each two blocks.
    """

    text: str
    blocks: tuple[re.Pattern[str], ...]
    wildcards: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> NamePattern:
        """From the text of a pattern, as `options/naming.py` checks it.

        >>> NamePattern.of("{stem}_{row}_{col}").read("a_b_1_2", {"a_b"})
        ('a_b', {'row': 1.0, 'col': 2.0})
        """
        blocks, wildcards = [""], []
        for piece in re.split(r"(\{[^{}]*\})", text):
            if piece in WILDCARDS:
                wildcards.append(piece[1:-1])
                blocks.append("")
            else:
                blocks[-1] += _piece(piece)
        blocks[-1] += r"\Z"
        return cls(text, tuple(map(re.compile, blocks)), tuple(wildcards))

    def read(self, name: str, stems: Collection[str]) -> tuple[str, dict[str, float]] | None:
        """The image of a name and its numbers; None if it is no tile of one of the images.

        A pattern without {stem} is for the one image that there is.
        """
        if len(name) > LONGEST_READ:
            return None
        for given in dict.fromkeys((name, without_suffix(name))):
            found = self._fields(given)
            if found is None:
                continue
            stem = found.pop(STEM, None)
            if stem is None and len(stems) == 1:
                (stem,) = stems
            if stem is not None and stem in stems:
                return stem, {_field(key): float(text) for key, text in found.items()}
        return None

    def _fields(self, name: str) -> dict[str, str] | None:
        """The texts of the fields: {stem} as long as it can be, then each {*} as short."""
        first = self.blocks[0].match(name)
        if first is None:
            return None
        untried = [len(name) + 1] * len(self.wildcards)
        rest = self._from(0, name, first.end(), untried)
        return None if rest is None else first.groupdict() | rest

    def _from(self, i: int, name: str, start: int, untried: list[int]) -> dict[str, str] | None:
        """The texts of wildcard `i`, which starts here, and of the fields behind it.

        What follows a wildcard does not depend on where it starts. So no end is tried twice, and
        the time grows as the length of the name times the number of wildcards.

        Args:
            untried: for each wildcard, the ends that are below it have not failed yet.
        """
        if i == len(self.wildcards):
            return {}
        is_stem = self.wildcards[i] == STEM
        if not is_stem and not _is_edge(name, start):
            return None
        ends = range(start, untried[i])
        if is_stem:
            ends = range(start + 1, untried[i])[::-1]
        for end in ends:
            if not is_stem and not _is_edge(name, end):
                continue
            block = self.blocks[i + 1].match(name, end)
            if block is None:
                continue
            rest = self._from(i + 1, name, block.end(), untried)
            if rest is not None:
                own = {STEM: name[start:end]} if is_stem else {}
                return own | block.groupdict() | rest
        untried[i] = min(untried[i], ends.start if not is_stem else start + 1)
        return None


def _is_edge(name: str, place: int) -> bool:
    """Whether a place is not inside a number, which would have as many readings as digits."""
    before = NUMBER.match(name, max(place - 1, 0), place)
    return before is None or NUMBER.match(name, place) is None


def _piece(piece: str) -> str:
    """A part of a block as a regular expression: a number, or text as it is."""
    if not piece.startswith("{"):
        return re.escape(piece)
    field = piece[1:-1]
    number = rf"[0-9]{{1,{DIGITS}}}"
    if field == "scale":
        number += rf"(?:\.[0-9]{{1,{DIGITS}}})?"
    return f"(?P<{field.replace(':', '_from_')}>{number})"


def _field(group: str) -> str:
    return group.replace("_from_", ":")
