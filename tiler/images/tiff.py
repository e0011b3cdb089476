"""TIFF directories, read without a decoder: of a TIFF or BigTIFF, and of an EXIF block."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

Tags = dict[int, tuple[int, ...]]
DECIDING = (256, 257, 258, 259, 262, 277, 284, 338, 339)  # without these a TIFF is not understood
WIDTHS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # TIFF's unsigned types
FORMS = {**WIDTHS, 2: "s", 12: "d"}  # and those of GeoTIFF
LONGEST = 1 << 20  # bytes of one value that are read
MOST = 4096  # entries of a directory, and directories of a file, that are read


class TiffLayout:
    """How a TIFF structure is laid out: byte order, width of offsets, and where it begins.

    Raises:
        struct.error: it is cut off.
    """

    def __init__(self, file: BinaryIO, base: int = 0) -> None:
        file.seek(base)
        start = file.read(16)
        self.file, self.base = file, base
        self.order = "<" if start[:2] == b"II" else ">"
        self.big = start[2:4] in (b"+\0", b"\0+")
        self.offset = "Q" if self.big else "I"
        (self.first,) = struct.unpack(
            f"{self.order}{self.offset}", start[8:16] if self.big else start[4:8]
        )

    def entries(self, at: int) -> tuple[list[tuple[int, int, int, bytes]], int]:
        """The entries (tag, type, number, value or its offset) of a directory, and where the next
        one is (0: none).
        """
        self.file.seek(self.base + at)
        count_form, entry_form, field = ("Q", "HHQ8s", 8) if self.big else ("H", "HHI4s", 4)
        (count,) = struct.unpack(
            self.order + count_form, self.file.read(struct.calcsize(count_form))
        )
        size = struct.calcsize(self.order + entry_form)
        found = list(
            struct.iter_unpack(self.order + entry_form, self.file.read(min(count, MOST) * size))
        )
        after = self.file.read(field)
        return found, struct.unpack(self.order + self.offset, after)[0] if len(
            after
        ) == field else 0

    def value(self, kind: int, number: int, value: bytes) -> bytes:
        """The bytes of an entry's value, which stand elsewhere when they are long; fewer where the
        file ends.
        """
        length = number * struct.calcsize(FORMS[kind])
        if length > len(value):
            try:
                self.file.seek(self.base + struct.unpack(self.order + self.offset, value)[0])
                return self.file.read(length)
            except (OSError, OverflowError, ValueError):
                return b""
        return value[:length]


def directories(file: BinaryIO, base: int = 0) -> tuple[Tags, Tags | None]:
    """Whole-number tags of the first directory, and of the second if there is one.

    Raises:
        struct.error, OSError, OverflowError, ValueError: the first is cut off, or points outside.
    """
    layout = TiffLayout(file, base)
    first, following = _numbers(layout, layout.first)
    if not following or following == layout.first:
        return first, None
    try:
        return first, _numbers(layout, following)[0]
    except (struct.error, OSError, OverflowError, ValueError):
        return first, None


def pages(file: BinaryIO) -> Iterator[Tags]:
    """Whole-number tags of every directory.

    Raises:
        struct.error, OSError, OverflowError, ValueError: the file is cut off, or points outside.
    """
    layout = TiffLayout(file)
    at, seen = layout.first, set[int]()
    while at and at not in seen and len(seen) < MOST:
        seen.add(at)
        tags, at = _numbers(layout, at)
        yield tags


def _numbers(layout: TiffLayout, at: int) -> tuple[Tags, int]:
    entries, following = layout.entries(at)
    tags: Tags = {}
    for tag, kind, number, value in entries:
        form = WIDTHS.get(kind)
        if form is None or not 0 < number <= 64:
            continue
        value = layout.value(kind, number, value)
        if len(value) < number * struct.calcsize(form) and tag not in DECIDING:
            continue  # it points outside the file and says nothing
        tags[tag] = struct.unpack(f"{layout.order}{number}{form}", value)
    return tags, following


def texts_and_doubles(file: BinaryIO, wanted: tuple[int, ...]) -> dict[int, tuple[int, int, bytes]]:
    """Of the first directory, the wanted tags: type, number, and the value's bytes in little-endian
    order.

    What is malformed, or longer than a mebibyte, is left out.
    """
    layout = TiffLayout(file)
    found = {}
    for tag, kind, number, value in layout.entries(layout.first)[0]:
        if (
            tag not in wanted
            or kind not in FORMS
            or number * struct.calcsize(FORMS[kind]) > LONGEST
        ):
            continue
        value = layout.value(kind, number, value)
        if len(value) == number * struct.calcsize(FORMS[kind]):
            form = "s" if kind == 2 else FORMS[kind]
            numbers = struct.unpack(f"{layout.order}{number}{form}", value)
            found[tag] = (kind, number, struct.pack(f"<{number}{form}", *numbers))
    return found


def one(tags: Tags, tag: int, default: int) -> int:
    """The first value of a tag, or the default."""
    values = tags.get(tag)
    return values[0] if values else default
