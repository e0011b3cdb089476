"""What an image's header says, read without a decoder, and the gate before one.

Pillow reads 16-bit RGB as 8-bit and a planar TIFF as its first band, and says nothing.
So the header is read here first, and what would be mutilated is refused with the reason,
as is what is too large, before any memory is spent on it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tiler.errors import SourceRefused
from tiler.images.tiff import Tags, directories, one

ORIENTATION = 274  # the EXIF (and TIFF) tag
TURNED = (5, 6, 7, 8)  # orientations that swap width and height

OTHERS = (  # formats that the trainer knows, or that lie among images, by their first bytes
    (b"GIF8", 0, "GIF"),
    (b"ftypavi", 4, "AVIF"),
    (b"ftyp", 4, "HEIC or HEIF"),
    (b"%PDF", 0, "PDF"),
    (b"\x93NUMPY", 0, "numpy array"),
)
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "JPEG 2000": (".jp2", ".j2k"),
}


@dataclass(frozen=True, slots=True)
class Header:
    """Attributes:
    format: JPEG (MPO too), PNG, TIFF, WEBP or BMP.
    width, height: as stored, before any turning.
    orientation: 1 to 8, as EXIF counts.
    bits: of a sample.
    bands: samples a pixel.
    frames: 1, or 2 when there is more than one page or frame (of an MPO the first image counts, 1).
    lossless: False for JPEG, lossy WebP and TIFF with JPEG inside.
    subsampling: of a JPEG's colour, as `4:2:0`; None when it has another form.
    compression: TIFF's tag, else 0.
    problem: why Pillow would lose something, or None.
    kind: of a sample: `u` unsigned, `i` signed, `f` float, or empty when samples differ.
    colour: grey, RGB, palette, CMYK, or another name of the format's.
    alpha: whether the last band is one.
    planar: whether a TIFF stores a band after the other.
    pillow_only: what Pillow makes of the pixels and readers by rows do not: `a transparent colour`,
        `premultiplied alpha`.
    gradual: a progressive JPEG or an interlaced PNG, of which no part can be decoded by itself.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    bands: int = 3
    frames: int = 1
    lossless: bool = True
    subsampling: str | None = None
    compression: int = 0
    problem: str | None = None
    kind: str = "u"
    colour: str = "RGB"
    alpha: bool = False
    planar: bool = False
    gradual: bool = False
    pillow_only: str = ""

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        if self.orientation in TURNED:
            return self.height, self.width
        return self.width, self.height


def probe(file: BinaryIO) -> Header:
    """The header of an open image.

    Raises:
        SourceRefused: not an image (I02), cut off within its header (I03), or a format not read
            here (I07).
    """
    try:
        header = read(file)
    except (struct.error, IndexError, OverflowError, ValueError, OSError):
        raise SourceRefused("I03", "the header is cut off, or points outside the file") from None
    if header.width < 1 or header.height < 1:
        raise SourceRefused("I02", f"the header says {header.width} x {header.height} px")
    return header


def read(file: BinaryIO) -> Header:
    """The header, whatever it says.

    Raises:
        SourceRefused: content of no known format.
        struct.error, IndexError, OverflowError, ValueError, OSError: it is cut off, or points
        outside.
    """
    file.seek(0)
    start = file.read(32)
    if start[:3] == b"\xff\xd8\xff":
        return _jpeg(file)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(file)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(file)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp(file)
    if start[:2] == b"BM":
        old = start[14:18] == struct.pack("<I", 12)  # OS/2
        width, height, _, bits = (
            struct.unpack("<HHHH", start[18:26]) if old else struct.unpack("<iiHH", start[18:30])
        )
        bands = 1 if bits <= 8 else 3
        return Header(
            "BMP",
            width,
            abs(height),
            bits=min(bits, 8),
            bands=bands,
            colour="palette" if bands == 1 else "RGB",
        )
    if start[:12] == b"\x00\x00\x00\x0cjP  \r\n\x87\n" or start[:4] == b"\xff\x4f\xff\x51":
        return _jpeg_2000(file)
    for magic, at, name in OTHERS:
        if start[at : at + len(magic)] == magic:
            raise SourceRefused(
                "I07",
                f"{name} content, which is not read here; expected JPEG, JPEG 2000, PNG, TIFF, "
                "WebP or BMP",
            )
    if not start:
        raise SourceRefused("I02", "the file is empty")
    shown = start[:12].decode("ascii", "backslashreplace").replace("\n", "\\n")
    raise SourceRefused("I02", f"not an image of a known format; it begins with '{shown}'")


# Sampling factors (horizontal * 16 + vertical) of a JPEG's three components
SUBSAMPLING: dict[tuple[int, ...], str] = {
    (0x11, 0x11, 0x11): "4:4:4",
    (0x21, 0x11, 0x11): "4:2:2",
    (0x22, 0x11, 0x11): "4:2:0",
}


def _jpeg(file: BinaryIO) -> Header:
    """Walk the segments to the frame header; the EXIF segment lies before it."""
    file.seek(2)
    orientation, gap = 1, 0
    while True:
        byte = file.read(1)[0]
        if byte != 0xFF:
            gap += 1
            if gap > 65_536:
                raise SourceRefused("I03", "a JPEG whose segments do not follow one another")
            continue
        while byte == 0xFF:
            byte = file.read(1)[0]
        if byte in (0x00, 0x01) or 0xD0 <= byte <= 0xD8:
            continue
        if byte in (0xD9, 0xDA):
            raise SourceRefused("I03", "a JPEG without a frame header")
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= byte <= 0xCF and byte not in (0xC4, 0xC8, 0xCC):
            bits, height, width, bands = struct.unpack(">BHHB", file.read(6))
            problem = None
            if bits != 8:
                problem = f"a JPEG of {bits} bits a sample, which cannot be decoded here"
            elif byte not in (0xC0, 0xC1, 0xC2):
                problem = "a lossless or hierarchical JPEG, which cannot be decoded here"
            factors = tuple([file.read(3)[1] for _ in range(bands)])
            return Header(
                "JPEG",
                width,
                height,
                orientation,
                bits,
                bands,
                lossless=False,
                subsampling=SUBSAMPLING.get(factors),
                problem=problem,
                colour={1: "grey", 3: "RGB"}.get(bands, "CMYK"),
                gradual=byte == 0xC2,
            )
        body = file.tell()
        if byte == 0xE1 and orientation == 1 and file.read(6) == b"Exif\0\0":
            orientation = _exif(file, file.tell())
        file.seek(body + length - 2)


def _png(file: BinaryIO) -> Header:
    file.seek(8)
    length, kind = struct.unpack(">I4s", file.read(8))
    if kind != b"IHDR":
        raise SourceRefused("I02", "a PNG without its header")
    width, height, bits, colour, interlaced = struct.unpack(">IIBB2xB", file.read(13))
    names = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
    if colour not in names:
        raise SourceRefused("I02", f"a PNG of unknown colour type {colour}")
    problem = None
    if bits == 16 and colour != 0:
        problem = f"a 16-bit {names[colour]} PNG: decoding it here would cut it to 8 bits"
    orientation, frames, special = 1, 1, ""
    file.seek(8 + 8 + length + 4)
    while len(chunk := file.read(8)) == 8:  # to the end: EXIF may stand behind the pixels
        length, kind = struct.unpack(">I4s", chunk)
        body = file.tell()
        if kind == b"eXIf":
            orientation = _exif(file, body)
        elif kind == b"acTL":
            frames = 2
        elif kind == b"tRNS" and colour != 3:
            special = "a transparent colour"
        elif kind == b"IEND":
            break
        file.seek(body + length + 4)
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    return Header(
        "PNG",
        width,
        height,
        orientation,
        bits,
        bands,
        frames,
        problem=problem,
        colour={0: "grey", 3: "palette", 4: "grey"}.get(colour, "RGB"),
        alpha=colour in (4, 6),
        gradual=bool(interlaced),
        pillow_only=special,
    )


def _jpeg_2000(file: BinaryIO) -> Header:
    """The SIZ segment of the codestream, which a JP2 file holds in its box `jp2c`."""
    file.seek(0)
    if file.read(4) != b"\xff\x4f\xff\x51":
        at = 0
        while True:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1:
                (length,) = struct.unpack(">Q", file.read(8))
            if kind == b"jp2c":
                break
            if length < 8:
                raise SourceRefused("I03", "a JPEG 2000 without an image")
            at += length
        file.read(4)
    right, bottom, left, top = struct.unpack(">4x4I", file.read(20))
    bands, depth = struct.unpack(">16xHB", file.read(19))
    bits = (depth & 0x7F) + 1
    return Header(
        "JPEG 2000",
        right - left,
        bottom - top,
        bits=bits if bits <= 8 else 16,
        bands=bands,
        lossless=False,
        problem="a JPEG 2000 file",
        kind="i" if depth & 0x80 else "u",
        colour="grey" if bands < 3 else "RGB",
        alpha=bands in (2, 4),
    )


def _webp(file: BinaryIO) -> Header:
    file.seek(12)
    width = height = 0
    orientation, frames, lossless, alpha = 1, 1, False, False
    while len(chunk := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", chunk)
        body = file.tell()
        if kind == b"VP8X":
            flags, w, h = struct.unpack("<B3x3s3s", file.read(10))
            width, height = int.from_bytes(w, "little") + 1, int.from_bytes(h, "little") + 1
            frames, alpha = 2 if flags & 2 else 1, bool(flags & 16)
        elif kind == b"VP8 " and not width:
            width, height = struct.unpack("<6x2H", file.read(10))
            width, height = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L":
            lossless = True
            (packed,) = struct.unpack("<xI", file.read(5))
            alpha = alpha or bool(packed >> 28 & 1)
            if not width:
                width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        elif kind == b"ANMF" and frames == 2 and not lossless:
            file.seek(body + 16)  # the frame's own chunks follow its place
            lossless = file.read(4) == b"VP8L"
        elif kind == b"EXIF":
            at = body + 6 if file.read(6) == b"Exif\0\0" else body
            orientation = _exif(file, at)
        file.seek(body + length + length % 2)
    return Header(
        "WEBP", width, height, orientation, 8, 4 if alpha else 3, frames, lossless, alpha=alpha
    )


# TIFF: photometric interpretations and compressions that Pillow's build decodes
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {0: "inverted grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB"}
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000)
JPEG_IN_TIFF = 7


def _tiff(file: BinaryIO) -> Header:
    tags, next_tags = directories(file)
    width, height = one(tags, 256, 0), one(tags, 257, 0)
    bits = tags.get(258, (1,))
    bands = one(tags, 277, 1)
    orientation = one(tags, ORIENTATION, 1)
    compression = one(tags, 259, 1)
    # an overview is no page
    pages = 2 if next_tags is not None and not one(next_tags, 254, 0) & 1 else 1
    return Header(
        "TIFF",
        width,
        height,
        orientation if 1 <= orientation <= 8 else 1,
        max(bits, default=1),
        bands,
        pages,
        compression != JPEG_IN_TIFF,
        compression=compression,
        problem=_tiff_problem(tags, bits, bands, compression),
        kind=_kind(tags),
        colour=COLOURS.get(one(tags, 262, BLACK_IS_ZERO), "raw"),
        alpha=bool({1, 2} & set(tags.get(338, ())[-1:])),
        planar=bands > 1 and one(tags, 284, 1) == 2,
        pillow_only="premultiplied alpha"
        if tags.get(338, ())[-1:] == (1,) and bits[0] == 8
        else "",
    )


def _kind(tags: Tags) -> str:
    """Of all samples; none when they differ, in depth too."""
    kinds = set(tags.get(339, (1,)))
    if len(kinds) > 1 or len(set(tags.get(258, (1,)))) > 1:
        return ""
    return {1: "u", 2: "i", 3: "f", 4: "u"}.get(min(kinds), "")


def _tiff_problem(
    tags: dict[int, tuple[int, ...]], bits: tuple[int, ...], bands: int, compression: int
) -> str | None:
    colour = one(tags, 262, BLACK_IS_ZERO)
    kind = set(tags.get(339, (1,)))
    extra = tags.get(338, ())
    what = (
        f"a TIFF of {bands} band{'s' * (bands > 1)}, {'/'.join(map(str, sorted(set(bits))))} bits"
    )
    if compression not in COMPRESSIONS:
        return f"{what}, compression {compression}, which cannot be decoded here"
    if bands > 1 and one(tags, 284, 1) == 2:
        return f"{what}, planar: decoding it here would keep the first band only"
    if colour not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB):
        return f"{what}, colour space {colour} (raw sensor data?), which cannot be decoded here"
    uniform = len(set(bits)) == 1
    if bands == 1:
        depth = (bits[0], min(kind))
        if colour == WHITE_IS_ZERO and bits[0] > 8:
            return f"{what}, white is zero: decoding it here would give its negative"
        if depth in {(1, 1), (8, 1), (16, 1), (32, 3)} or (depth[1] == 1 and depth[0] in (2, 4)):
            return None
        return (
            f"{what}, {('', 'unsigned', 'signed', 'float')[depth[1] & 3]}, which cannot be kept "
            "here"
        )
    if uniform and bits[0] == 8 and kind == {1}:
        if bands == 3 and colour in (RGB, YCBCR, LAB):
            return None
        if bands == 4 and (
            (colour == RGB and extra in ((1,), (2,))) or (colour == CMYK and not extra)
        ):
            return None
        if bands == 2 and colour == BLACK_IS_ZERO and extra == (2,):
            return None
    return f"{what}: decoding it here would lose bands or depth"


def _exif(file: BinaryIO, at: int) -> int:
    """The orientation in an EXIF block (a TIFF structure), 1 when there is none that holds."""
    try:
        file.seek(at)
        if file.read(4) not in (b"II*\0", b"MM\0*"):
            return 1
        orientation = one(directories(file, at)[0], ORIENTATION, 1)
    except (struct.error, OSError, OverflowError, ValueError):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def suffix_fits(path: str, header: Header) -> bool:
    """Whether the file's suffix is one of its format's."""
    return os.path.splitext(path)[1].lower() in SUFFIXES[header.format]


def formats() -> Iterator[str]:
    """The suffixes of all formats read here."""
    for suffixes in SUFFIXES.values():
        yield from suffixes
