"""TIFF directories, read without a decoder: of a TIFF or BigTIFF, and of an EXIF block."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

Tags = dict[int, tuple[int, ...]]

# Tags
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
ORIENTATION, BANDS, PLANAR, EXTRA_SAMPLES, SAMPLE_FORMAT = 274, 277, 284, 338, 339
NODATA = 42113  # GDAL's, a number as text
# Without these a TIFF is not understood
DECIDING = (
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    BANDS,
    PLANAR,
    EXTRA_SAMPLES,
    SAMPLE_FORMAT,
)
OVERVIEW = 1  # a bit of SUBFILE: an image of lower resolution, not a page

ASCII, DOUBLE = 2, 12  # types of GeoTIFF
UNSIGNED_FORMS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # TIFF's unsigned types, as `struct` has them
FORMS = {**UNSIGNED_FORMS, ASCII: "s", DOUBLE: "d"}
LONGEST = 1 << 20  # bytes of one value that are read
MOST_NUMBERS = 64  # of one value of whole numbers
MOST = 4096  # entries of a directory, and directories of a file, that are read


class TagEntry(NamedTuple):
    """An entry of a directory. `value` holds the value, or its offset when it is longer."""

    tag: int
    type: int
    number: int
    value: bytes


class TiffLayout:
    """How a TIFF structure is laid out: byte order, width of offsets, and where it begins.

    Raises:
        struct.error: it is cut off.
    """

    def __init__(self, file: BinaryIO, base: int = 0) -> None:
        file.seek(base)
        start = file.read(16)
        self.file = file
        self.base = base
        self.order = "<" if start[:2] == b"II" else ">"
        self.big = start[2:4] in (b"+\0", b"\0+")
        if self.big:
            self.offset = "Q"
            first = start[8:16]
        else:
            self.offset = "I"
            first = start[4:8]
        self.first = self.unpacked_offset(first)

    def unpacked_offset(self, data: bytes) -> int:
        """An offset from its bytes."""
        offset: int
        (offset,) = struct.unpack(self.order + self.offset, data)
        return offset

    def entries(self, at: int) -> tuple[list[TagEntry], int]:
        """The entries of the directory at an offset, and the offset of the next one (0: none)."""
        count_form, entry_form = "H", "HHI4s"
        if self.big:
            count_form, entry_form = "Q", "HHQ8s"
        self.file.seek(self.base + at)
        count_size = struct.calcsize(count_form)
        (count,) = struct.unpack(self.order + count_form, self.file.read(count_size))
        entry_form = self.order + entry_form
        data = self.file.read(min(count, MOST) * struct.calcsize(entry_form))
        entries = [TagEntry(*fields) for fields in struct.iter_unpack(entry_form, data)]
        following = self.file.read(struct.calcsize(self.offset))
        if len(following) < struct.calcsize(self.offset):
            return entries, 0
        return entries, self.unpacked_offset(following)

    def value(self, entry: TagEntry) -> bytes:
        """The bytes of an entry's value; fewer where the file ends.

        A long value is stored elsewhere in the file.
        """
        length = size_of(entry)
        if length <= len(entry.value):
            return entry.value[:length]
        try:
            self.file.seek(self.base + self.unpacked_offset(entry.value))
            return self.file.read(length)
        except (OSError, OverflowError, ValueError):
            return b""


def size_of(entry: TagEntry) -> int:
    """Bytes of an entry's value."""
    return entry.number * struct.calcsize(FORMS[entry.type])


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
        second, _ = _numbers(layout, following)
    except (struct.error, OSError, OverflowError, ValueError):
        return first, None
    return first, second


def pages(file: BinaryIO) -> Iterator[Tags]:
    """Whole-number tags of every directory.

    Raises:
        struct.error, OSError, OverflowError, ValueError: the file is cut off, or points outside.
    """
    layout = TiffLayout(file)
    at = layout.first
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MOST:
        seen.add(at)
        tags, at = _numbers(layout, at)
        yield tags


def _numbers(layout: TiffLayout, at: int) -> tuple[Tags, int]:
    """Whole-number tags of the directory at an offset, and the offset of the next one."""
    entries, following = layout.entries(at)
    tags: Tags = {}
    for entry in entries:
        if entry.type not in UNSIGNED_FORMS or not 0 < entry.number <= MOST_NUMBERS:
            continue
        value = layout.value(entry)
        if len(value) < size_of(entry) and entry.tag not in DECIDING:
            continue  # it points outside the file and says nothing
        form = UNSIGNED_FORMS[entry.type]
        tags[entry.tag] = struct.unpack(f"{layout.order}{entry.number}{form}", value)
    return tags, following


def texts_and_doubles(file: BinaryIO, wanted: tuple[int, ...]) -> dict[int, tuple[int, int, bytes]]:
    """Of the first directory, the wanted tags: type, number, and the value's bytes in little-endian
    order.

    What is malformed, or longer than a mebibyte, is left out.
    """
    layout = TiffLayout(file)
    values = {}
    entries, _ = layout.entries(layout.first)
    for entry in entries:
        if entry.tag not in wanted or entry.type not in FORMS or size_of(entry) > LONGEST:
            continue
        value = layout.value(entry)
        if len(value) < size_of(entry):
            continue
        form = f"{entry.number}{FORMS[entry.type]}"
        numbers = struct.unpack(layout.order + form, value)
        values[entry.tag] = (entry.type, entry.number, struct.pack("<" + form, *numbers))
    return values


def one(tags: Tags, tag: int, default: int) -> int:
    """The first value of a tag, or the default."""
    values = tags.get(tag)
    if not values:
        return default
    return values[0]
