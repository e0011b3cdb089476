"""What an image's header says, read without a decoder: the gate before one.

Pillow reads 16-bit RGB as 8-bit and a planar TIFF as its first band, without a warning. So the
header is read here first. An image that would lose something is rejected with the reason, and
so is one that is too large, before any memory is spent on it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from tiler.errors import SourceRefused
from tiler.images import tiff
from tiler.images.tiff import Tags, one

TURNED = (5, 6, 7, 8)  # orientations that swap width and height

UNSUPPORTED = (  # formats that the trainer reads, or that lie among images: (first bytes, at, name)
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

TIFF_MAGIC = (b"II*\0", b"MM\0*")
BIGTIFF_MAGIC = (b"II+\0", b"MM\0+")
CODESTREAM_MAGIC = b"\xff\x4f\xff\x51"  # of a bare JPEG 2000 codestream
JP2_MAGIC = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
EXIF_PREFIX = b"Exif\0\0"


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image says.

    Attributes:
        format: JPEG (MPO too), PNG, TIFF, WEBP, BMP or JPEG 2000.
        width, height: as stored, before any turning.
        orientation: 1 to 8, as in EXIF.
        bits: bits a sample.
        bands: samples a pixel.
        frames: 1, or 2 when there is more than one page or frame; 1 for MPO, where the first image
            counts.
        lossless: False for JPEG, lossy WebP and TIFF with JPEG inside.
        subsampling: of a JPEG's colour, as `4:2:0`; None for any other form.
        compression: the TIFF tag, else 0.
        problem: why Pillow would lose something, or None.
        kind: type of a sample: `u` unsigned, `i` signed, `f` float; empty when samples differ.
        colour: grey, RGB, palette, CMYK, or another name that the format has.
        alpha: whether the last band is alpha.
        planar: whether a TIFF stores one band after the other.
        pillow_only: what Pillow handles and readers by rows do not: `a transparent colour`,
            `premultiplied alpha`.
        gradual: a progressive JPEG or an interlaced PNG, of which no part can be decoded by itself.
        nodata: the value of pixels without data, as text (the TIFF tag of GDAL); empty when none is
            declared.
        transparent: of a PNG without alpha, the samples of the one transparent colour; of a
            palette, the indices that are fully transparent.
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
    nodata: str = ""
    transparent: tuple[int, ...] = ()

    @property
    def pixels(self) -> int:
        """Number of pixels."""
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
        SourceRefused: not an image (I02), cut off within its header (I03), or an unsupported
            format (I07).
    """
    try:
        header = read(file)
    except (struct.error, IndexError, OverflowError, ValueError, OSError):
        raise SourceRefused("I03", "the header is cut off, or points outside the file") from None
    if header.width < 1 or header.height < 1:
        raise SourceRefused("I02", f"the header says {header.width} x {header.height} px")
    return header


def read(file: BinaryIO) -> Header:
    """The header of an open image, even if its size is impossible.

    Raises:
        SourceRefused: the content is of no supported format.
        struct.error, IndexError, OverflowError, ValueError, OSError: the header is cut off, or
            points outside the file.
    """
    file.seek(0)
    start = file.read(32)
    if start[:3] == b"\xff\xd8\xff":
        return _jpeg(file)
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(file)
    if start[:4] in TIFF_MAGIC or start[:4] in BIGTIFF_MAGIC:
        return _tiff(file)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _webp(file)
    if start[:2] == b"BM":
        return _bmp(file, start)
    if start[:12] == JP2_MAGIC or start[:4] == CODESTREAM_MAGIC:
        return _jpeg_2000(file)
    raise _unsupported(start)


def _unsupported(start: bytes) -> SourceRefused:
    """Why a file that begins with these bytes is not read."""
    for magic, at, name in UNSUPPORTED:
        if start[at : at + len(magic)] == magic:
            return SourceRefused(
                "I07",
                f"{name} content, which is not supported; expected JPEG, JPEG 2000, PNG, TIFF, "
                "WebP or BMP",
            )
    if not start:
        return SourceRefused("I02", "the file is empty")
    shown = start[:12].decode("ascii", "backslashreplace").replace("\n", "\\n")
    return SourceRefused("I02", f"not an image of a known format; it begins with '{shown}'")


# --- JPEG

# Sampling factors (horizontal * 16 + vertical) of a JPEG's three components
SUBSAMPLING: dict[tuple[int, ...], str] = {
    (0x11, 0x11, 0x11): "4:4:4",
    (0x21, 0x11, 0x11): "4:2:2",
    (0x22, 0x11, 0x11): "4:2:0",
}
JPEG_COLOURS = {1: "grey", 3: "RGB"}  # by number of bands; else CMYK

# Markers of a JPEG's segments
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
END, SCAN, APP1 = 0xD9, 0xDA, 0xE1
MOST_STRAY = 65_536  # bytes between segments that are skipped


def _jpeg(file: BinaryIO) -> Header:
    """Walk the segments to the frame header; the EXIF segment lies before it."""
    orientation = 1
    for marker in _jpeg_segments(file):
        if marker in FRAMES:
            return _jpeg_frame(file, marker, orientation)
        if marker == APP1 and orientation == 1 and file.read(6) == EXIF_PREFIX:
            orientation = _exif(file, file.tell())
    raise SourceRefused("I03", "a JPEG without a frame header")


def _jpeg_segments(file: BinaryIO) -> Iterator[int]:
    """The marker of each segment before the pixels, with the file at the segment's content."""
    file.seek(2)
    stray = 0
    while True:
        byte = file.read(1)[0]
        if byte != 0xFF:
            stray += 1
            if stray > MOST_STRAY:
                raise SourceRefused("I03", "a JPEG whose segments do not follow one another")
            continue
        while byte == 0xFF:  # any number of fill bytes
            byte = file.read(1)[0]
        if byte in WITHOUT_LENGTH:
            continue
        if byte in (END, SCAN):
            return
        (length,) = struct.unpack(">H", file.read(2))
        content = file.tell()
        yield byte
        file.seek(content + length - 2)


def _jpeg_frame(file: BinaryIO, marker: int, orientation: int) -> Header:
    """The header of a JPEG, from the frame header that the file is at."""
    bits, height, width, bands = struct.unpack(">BHHB", file.read(6))
    problem = None
    if bits != 8:
        problem = f"a JPEG of {bits} bits a sample, which is not supported"
    elif marker not in (BASELINE, EXTENDED, PROGRESSIVE):
        problem = "a lossless or hierarchical JPEG, which is not supported"
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
        colour=JPEG_COLOURS.get(bands, "CMYK"),
        gradual=marker == PROGRESSIVE,
    )


# --- PNG


class PngColour(NamedTuple):
    """What a colour type of PNG stands for."""

    name: str
    bands: int
    colour: str
    alpha: bool = False


PNG_GREY, PNG_PALETTE = 0, 3
PNG_INDICES = 256  # of a palette, at most
PNG_COLOURS = {
    PNG_GREY: PngColour("grey", 1, "grey"),
    2: PngColour("RGB", 3, "RGB"),
    PNG_PALETTE: PngColour("palette", 1, "palette"),
    4: PngColour("grey with alpha", 2, "grey", alpha=True),
    6: PngColour("RGBA", 4, "RGB", alpha=True),
}


def _png(file: BinaryIO) -> Header:
    file.seek(8)
    length, kind = struct.unpack(">I4s", file.read(8))
    if kind != b"IHDR":
        raise SourceRefused("I02", "a PNG without its header")
    width, height, bits, colour_type, interlaced = struct.unpack(">IIBB2xB", file.read(13))
    if colour_type not in PNG_COLOURS:
        raise SourceRefused("I02", f"a PNG of unknown colour type {colour_type}")
    colour = PNG_COLOURS[colour_type]
    problem = None
    if bits == 16 and colour_type != PNG_GREY:
        problem = f"a 16-bit {colour.name} PNG: decoding it here would cut it to 8 bits"
    header = Header(
        "PNG",
        width,
        height,
        bits=bits,
        bands=colour.bands,
        problem=problem,
        colour=colour.colour,
        alpha=colour.alpha,
        gradual=bool(interlaced),
    )
    for name, content, size in _png_chunks(file, 8 + 8 + length + 4):
        if name == b"IEND":
            break
        if name == b"eXIf":
            header = replace(header, orientation=_exif(file, content))
        elif name == b"acTL":
            header = replace(header, frames=2)
        elif name == b"tRNS":
            header = _with_transparency(header, file.read(min(size, PNG_INDICES)))
    return header


def _with_transparency(header: Header, content: bytes) -> Header:
    """The header of a PNG with the colour or indices that its chunk `tRNS` makes transparent."""
    if header.colour == "palette":
        indices = [index for index, alpha in enumerate(content) if alpha == 0]
        return replace(header, transparent=tuple(indices))
    header = replace(header, pillow_only="a transparent colour")
    if len(content) != 2 * header.bands:
        return header
    return replace(header, transparent=struct.unpack(f">{header.bands}H", content))


def _png_chunks(file: BinaryIO, at: int) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk from `at` on, where its content begins, and how long it is.

    To the end of the file, since EXIF may follow the pixels.
    """
    file.seek(at)
    while len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        content = file.tell()
        yield name, content, length
        file.seek(content + length + 4)


# --- BMP


BITFIELDS = 3  # a compression of BMP: masks tell which bits are red, green, blue, alpha


def _bmp(file: BinaryIO, start: bytes) -> Header:
    """The header of a BMP, from the file and its first bytes."""
    if start[14:18] == struct.pack("<I", 12):  # OS/2
        width, height, _, bits = struct.unpack("<HHHH", start[18:26])
    else:
        width, height, _, bits = struct.unpack("<iiHH", start[18:30])
    height = abs(height)  # below zero when rows are stored from top to bottom
    if bits <= 8:
        return Header("BMP", width, height, bits=bits, bands=1, colour="palette")
    return Header("BMP", width, height, alpha=bits == 32 and _bmp_alpha(file))


def _bmp_alpha(file: BinaryIO) -> bool:
    """Whether a BMP of 32 bits a pixel has a mask for alpha; older headers are too short for it."""
    file.seek(14)
    header = file.read(56)
    length, compression, mask = struct.unpack("<I12xI32xI", header.ljust(56, b"\0"))
    return bool(length >= 56 and compression == BITFIELDS and mask)


# --- JPEG 2000


def _jpeg_2000(file: BinaryIO) -> Header:
    """The SIZ segment of the codestream."""
    file.seek(0)
    if file.read(4) != CODESTREAM_MAGIC:
        _seek_codestream(file)
        file.read(4)
    right, bottom, left, top = struct.unpack(">4x4I", file.read(20))
    bands, depth = struct.unpack(">16xHB", file.read(19))
    bits = (depth & 0x7F) + 1
    if bits > 8:
        bits = 16
    kind = "u"
    if depth & 0x80:
        kind = "i"
    colour = "RGB"
    if bands < 3:
        colour = "grey"
    return Header(
        "JPEG 2000",
        right - left,
        bottom - top,
        bits=bits,
        bands=bands,
        lossless=False,
        problem="a JPEG 2000 file",
        kind=kind,
        colour=colour,
        alpha=bands in (2, 4),
    )


def _seek_codestream(file: BinaryIO) -> None:
    """Go to the content of the box `jp2c`, in which a JP2 file holds the codestream."""
    at = 0
    while True:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if kind == b"jp2c":
            return
        if length < 8:
            raise SourceRefused("I03", "a JPEG 2000 without an image")
        at += length


# --- WebP


def _webp(file: BinaryIO) -> Header:
    header = Header("WEBP", 0, 0, lossless=False)
    for name, content in _webp_chunks(file):
        header = _with_webp_chunk(header, file, name, content)
    if header.alpha:
        return replace(header, bands=4)
    return header


def _webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The name of each chunk, and where its content begins."""
    file.seek(12)
    while len(start := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", start)
        content = file.tell()
        yield name, content
        file.seek(content + length + length % 2)


def _with_webp_chunk(header: Header, file: BinaryIO, name: bytes, content: int) -> Header:
    """The header with what a chunk adds to it. The file is at the chunk's content."""
    if name == b"VP8X":
        return _with_vp8x(header, file)
    if name == b"VP8 " and not header.width:
        width, height = struct.unpack("<6x2H", file.read(10))
        return replace(header, width=width & 0x3FFF, height=height & 0x3FFF)
    if name == b"VP8L":
        return _with_vp8l(header, file)
    if name == b"ANMF" and header.frames == 2 and not header.lossless:
        file.seek(content + 16)  # the frame's own chunks follow its place
        return replace(header, lossless=file.read(4) == b"VP8L")
    if name == b"EXIF":
        if file.read(6) == EXIF_PREFIX:
            content += 6
        return replace(header, orientation=_exif(file, content))
    return header


def _with_vp8x(header: Header, file: BinaryIO) -> Header:
    """The extended header: size of the canvas, animation, alpha."""
    flags, width, height = struct.unpack("<B3x3s3s", file.read(10))
    frames = 1
    if flags & 2:
        frames = 2
    return replace(
        header,
        width=int.from_bytes(width, "little") + 1,
        height=int.from_bytes(height, "little") + 1,
        frames=frames,
        alpha=bool(flags & 16),
    )


def _with_vp8l(header: Header, file: BinaryIO) -> Header:
    """The start of a lossless bitstream: 14 bits of width - 1, 14 of height - 1, 1 of alpha."""
    (packed,) = struct.unpack("<xI", file.read(5))
    alpha = header.alpha or bool(packed >> 28 & 1)
    header = replace(header, lossless=True, alpha=alpha)
    if header.width:
        return header
    return replace(header, width=(packed & 0x3FFF) + 1, height=(packed >> 14 & 0x3FFF) + 1)


# --- TIFF

# Photometric interpretations and compressions that Pillow's build decodes
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {
    WHITE_IS_ZERO: "inverted grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    CMYK: "CMYK",
    YCBCR: "YCbCr",
    LAB: "LAB",
}
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000)
JPEG_IN_TIFF = 7

UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4  # sample formats
KINDS = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f", UNDEFINED: "u"}
FORMAT_NAMES = ("", "unsigned", "signed", "float")
PREMULTIPLIED, UNASSOCIATED = 1, 2  # alpha among the extra samples

# What Pillow keeps: (bits, sample format) of one band; (bands, colour, extra samples) of 8 bits
ONE_BAND = {
    (1, UNSIGNED),
    (2, UNSIGNED),
    (4, UNSIGNED),
    (8, UNSIGNED),
    (16, UNSIGNED),
    (32, FLOAT),
}
TWO_OR_FOUR_BANDS = {
    (2, BLACK_IS_ZERO, (UNASSOCIATED,)),
    (4, RGB, (PREMULTIPLIED,)),
    (4, RGB, (UNASSOCIATED,)),
    (4, CMYK, ()),
}


def _tiff(file: BinaryIO) -> Header:
    tags, next_tags = tiff.directories(file)
    bits = _bits(tags)
    compression = one(tags, tiff.COMPRESSION, 1)
    frames = 1
    if next_tags is not None and not one(next_tags, tiff.SUBFILE, 0) & tiff.OVERVIEW:
        frames = 2
    last_extra = tags.get(tiff.EXTRA_SAMPLES, ())[-1:]
    pillow_only = ""
    if last_extra == (PREMULTIPLIED,) and bits[0] == 8:
        pillow_only = "premultiplied alpha"
    alpha = last_extra in ((PREMULTIPLIED,), (UNASSOCIATED,))
    colour = COLOURS.get(_colour(tags), "raw")
    bands = one(tags, tiff.BANDS, 1)
    return Header(
        "TIFF",
        one(tags, tiff.WIDTH, 0),
        one(tags, tiff.HEIGHT, 0),
        _orientation(tags),
        max(bits, default=1),
        bands,
        frames,
        lossless=compression != JPEG_IN_TIFF,
        compression=compression,
        problem=_tiff_problem(tags),
        kind=_kind(tags),
        colour=colour,
        alpha=alpha,
        planar=_planar(tags),
        pillow_only=pillow_only,
        nodata=_nodata(file),
    )


def _nodata(file: BinaryIO) -> str:
    """The value that GDAL's tag declares as no data, as text; empty where there is none."""
    tags = tiff.texts_and_doubles(file, (tiff.NODATA,))
    kind, _, content = tags.get(tiff.NODATA, (tiff.ASCII, 0, b""))
    if kind != tiff.ASCII:
        return ""
    text, _, _ = content.partition(b"\0")
    return text.decode("latin-1").strip()


def _bits(tags: Tags) -> tuple[int, ...]:
    """Bits of each sample."""
    return tags.get(tiff.BITS, (1,))


def _colour(tags: Tags) -> int:
    """The photometric interpretation."""
    return one(tags, tiff.PHOTOMETRIC, BLACK_IS_ZERO)


def _planar(tags: Tags) -> bool:
    """Whether one band is stored after the other."""
    return one(tags, tiff.BANDS, 1) > 1 and one(tags, tiff.PLANAR, 1) == 2


def _orientation(tags: Tags) -> int:
    """The orientation, 1 when it is none of the eight."""
    orientation = one(tags, tiff.ORIENTATION, 1)
    if 1 <= orientation <= 8:
        return orientation
    return 1


def _sample_formats(tags: Tags) -> set[int]:
    return set(tags.get(tiff.SAMPLE_FORMAT, (UNSIGNED,)))


def _kind(tags: Tags) -> str:
    """The `kind` of all samples; empty when they differ in type or depth."""
    formats = _sample_formats(tags)
    if len(formats) > 1 or len(set(_bits(tags))) > 1:
        return ""
    return KINDS.get(min(formats), "")


def _tiff_problem(tags: Tags) -> str | None:
    """Why Pillow would lose something of a TIFF, or None."""
    bands = one(tags, tiff.BANDS, 1)
    compression = one(tags, tiff.COMPRESSION, 1)
    colour = _colour(tags)
    described = _described(bands, _bits(tags))
    if compression not in COMPRESSIONS:
        return f"{described}, compression {compression}, which is not supported"
    if _planar(tags):
        return f"{described}, planar: decoding it here would keep the first band only"
    if colour not in COLOURS:
        return f"{described}, colour space {colour} (raw sensor data?), which is not supported"
    if bands == 1:
        return _one_band_problem(tags, described)
    if not _kept_in_full(tags):
        return f"{described}: decoding it here would lose bands or depth"
    return None


def _described(bands: int, bits: tuple[int, ...]) -> str:
    """A TIFF in messages."""
    depths = "/".join(map(str, sorted(set(bits))))
    if bands == 1:
        return f"a TIFF of 1 band, {depths} bits"
    return f"a TIFF of {bands} bands, {depths} bits"


def _one_band_problem(tags: Tags, described: str) -> str | None:
    bits = _bits(tags)[0]
    sample_format = min(_sample_formats(tags))
    if _colour(tags) == WHITE_IS_ZERO and bits > 8:
        return f"{described}, white is zero: decoding it here would give its negative"
    if (bits, sample_format) in ONE_BAND:
        return None
    return f"{described}, {FORMAT_NAMES[sample_format & 3]}, which is not supported"


def _kept_in_full(tags: Tags) -> bool:
    """Whether Pillow keeps every band of a TIFF of several, and every bit."""
    if set(_bits(tags)) != {8} or _sample_formats(tags) != {UNSIGNED}:
        return False
    bands = one(tags, tiff.BANDS, 1)
    colour = _colour(tags)
    if bands == 3:
        return colour in (RGB, YCBCR, LAB)
    extra = tags.get(tiff.EXTRA_SAMPLES, ())
    return (bands, colour, extra) in TWO_OR_FOUR_BANDS


def _exif(file: BinaryIO, at: int) -> int:
    """The orientation in an EXIF block (a TIFF structure), 1 when there is none that is valid."""
    try:
        file.seek(at)
        if file.read(4) not in TIFF_MAGIC:
            return 1
        tags, _ = tiff.directories(file, at)
        return _orientation(tags)
    except (struct.error, OSError, OverflowError, ValueError):
        return 1


def suffix_fits(path: str, header: Header) -> bool:
    """Whether the file's suffix is one of its format's."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix in SUFFIXES[header.format]


def formats() -> Iterator[str]:
    """The suffixes of all supported formats."""
    for suffixes in SUFFIXES.values():
        yield from suffixes
