"""An image's pixels, once and from top to bottom: whole where it is small, else by bands of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.errors import SourceRefused
from tiler.formats.text_files import reason
from tiler.geometry.window import Window
from tiler.images import codecs, gdal, memory, row_reader, stretch, vips
from tiler.images.encoding import BANDS
from tiler.images.header import Header, probe
from tiler.images.limit import WHOLE, allowed
from tiler.images.pages import Pages, stand_for_bands
from tiler.images.pixels import TURNS, Pixels, stored, turned
from tiler.images.row_reader import Later, RowReader

# Pillow's plugins for each format of ours; nothing else is ever tried on a file, or even imported.
PLUGINS = {
    "JPEG": ["JPEG", "MPO"],
    "PNG": ["PNG"],
    "TIFF": ["TIFF"],
    "WEBP": ["WEBP"],
    "BMP": ["BMP", "DIB"],
}
MODULES = {"JPEG": "Jpeg", "PNG": "Png", "TIFF": "Tiff", "WEBP": "WebP", "BMP": "Bmp"}

LARGE = 50_000_000  # px from which an image is read by bands, if it can be
# bytes of pixels a byte of the file, beyond which an image larger than WHOLE is taken for a bomb
DENSEST = 200
# bytes that any file may take, however small: the largest PNG that is decoded whole
FREE = 800_000_000
MOST_BANDS = 2048
EXTRA = "pip install 'tilestitch[big]'"

# Modes of arrays: (type of a sample, bands, whether the last is alpha)
MODE = {
    ("u1", 1, False): "L",
    ("u1", 2, True): "LA",
    ("u1", 3, False): "RGB",
    ("u1", 4, True): "RGBA",
    ("u2", 1, False): "I;16",
    ("u2", 2, True): "LA;16",
    ("u2", 3, False): "RGB;16",
    ("u2", 4, True): "RGBA;16",
    ("f4", 1, False): "F",
}

Crop = Callable[[Window], Pixels]
Limits = Sequence[tuple[float, float]]
Opener = Callable[[BinaryIO, Header], RowReader]


@dataclass(slots=True)
class SourceImage:
    """An open image.

    Attributes:
        header: what its file says.
        mode: Pillow's name of its pixels, or one of `DEEP` and `BANDS`.
        bands, dtype: of its pixels.
        info: as Pillow has it: a colour profile, a transparent colour.
    """

    header: Header
    mode: str
    bands: int
    dtype: np.dtype[Any]
    info: dict[Any, Any] = field(default_factory=dict)
    limits: Limits | None = None
    _image: Image.Image | None = None
    _pixels: NDArray[Any] | None = None
    _rows: RowReader | None = None

    @property
    def by_rows(self) -> bool:
        """Whether it is read some rows at a time."""
        return self._rows is not None

    def stretched(self, limits: Limits) -> None:
        """From now on its pixels are those of 8 bits that the limits, one pair a band, make of
        them.
        """
        self.limits, self.dtype = limits, np.dtype(np.uint8)
        # a value as it was
        self.info = {key: value for key, value in self.info.items() if key != "transparency"}
        self.mode = _mode(self.dtype, self.bands, self.header)

    def sweep(self, windows: Sequence[Window], later: Later) -> Iterator[tuple[Crop, list[int]]]:
        """All windows (of the upright image, inside it), some at a time, with what cuts these out.

        A crop is upright, and may share its memory with others.

        Args:
            later: runs a function, perhaps at once in another thread.
        """
        if self._rows is None:
            yield self._crop(self._pixels, 0), list(range(len(windows)))
            return
        lying = [stored(window, self.header) for window in windows]
        tops = np.array([w.y for w in lying])
        bottoms = np.array([w.bottom for w in lying])
        row = self._rows.width * self._rows.bands * self._rows.dtype.itemsize
        tallest = int((bottoms - tops).max())
        with memory.taken(
            2 * tallest * row, f"{tallest} rows of {self._rows.width} px are read at once"
        ):
            for band, top, here in row_reader.sweep(self._rows, tops, bottoms, later):
                yield self._crop(band, top), here

    def _crop(self, pixels: NDArray[Any] | None, top: int) -> Crop:
        image, header, limits = self._image, self.header, self.limits

        def crop(window: Window) -> Pixels:
            part: Pixels
            if pixels is None:
                assert image is not None
                with allowed(window.width * window.height):
                    part = image.crop((window.x, window.y, window.right, window.bottom))
                if limits is None:
                    return part
                part = np.atleast_3d(np.asarray(part))
            else:
                lying = stored(window, header)
                part = pixels[lying.y - top : lying.bottom - top, lying.x : lying.right]
                if header.orientation != 1:  # encoders want rows that go forward
                    part = np.ascontiguousarray(turned(part, header.orientation))
            return part if limits is None else stretch.stretched(part, limits)

        return crop

    def bands_of_rows(self, height: int = 512) -> Iterator[NDArray[Any]]:
        """All pixels `(rows, width, bands)` as stored, some rows at a time."""
        if self._rows is not None:
            yield from row_reader.bands_of(self._rows, height)
        else:
            yield (
                self._pixels if self._pixels is not None else np.atleast_3d(np.asarray(self._image))
            )


@contextmanager
def opened(
    file: BinaryIO, header: Header, max_pixels: int | None = None, pages: int = 0
) -> Iterator[SourceImage]:
    """An image, whole in memory or read by bands of rows.

    Args:
        file: the image, open; the header was read from it.
        max_pixels: how large it may be; None for whatever its reader can bear.
        pages: of a TIFF, how many pages of one band are the bands of one image.

    Raises:
        SourceRefused: too large (I04), damaged (I03), or nothing that is installed reads it without
            a loss (I06, I07).
        MemoryError: it does not fit.
    """
    if pages > 1 and stand_for_bands(file, header, pages):
        require_size(header, max_pixels, pages)
        yield _by_rows(header, Pages(file, header, pages))
        return
    reader = choose(header, os.fstat(file.fileno()).st_size, max_pixels)
    if reader is None:
        with memory.taken(cost(header), f"{header.width} x {header.height} px are decoded at once"):
            yield _whole(file, header)
        return
    memory.keep_tiles()
    rows = row_reader.Guarded(reader(file, header))
    try:
        yield _by_rows(header, rows)
    finally:
        rows.close()


def choose(header: Header, size: int, max_pixels: int | None) -> Opener | None:
    """What opens an image by rows, or None where it is decoded whole.

    Args:
        size: of its file in bytes.

    Raises:
        SourceRefused: as `opened`, before any memory is spent.
    """
    # before a decoder, which takes minutes to find that most of them are not there
    if header.bands > MOST_BANDS:
        raise SourceRefused("I06", f"{header.bands} bands, of which at most {MOST_BANDS} are read")
    large = WHOLE if header.pillow_only else LARGE
    if header.problem is None and header.pixels <= min(large, max_pixels or large):
        _require_little(header, size, max_pixels)
        return None  # before a look at what is installed, which takes longer
    # the faster one first, in less memory
    readers = (gdal, vips) if header.format == "TIFF" else (vips, gdal)
    able = [reader for reader in readers if reader.reads(header)]
    by_rows: list[Opener] = [reader.opened for reader in able if not reader.missing()]
    if not by_rows:
        mend = f"; {EXTRA} reads it" if able else ""
        require_plain(header, max_pixels, mend)
        _require_little(header, size, max_pixels)
        return None
    if max_pixels is not None:
        require_size(header, max_pixels)
    elif header.pixels > WHOLE:
        _require_no_bomb(header, size)
    if header.format == "JPEG" and header.gradual:
        memory.require(
            5 * header.pixels, f"a progressive JPEG of {header.pixels} px cannot be read by strips"
        )
    return by_rows[0]


def _require_little(header: Header, size: int, max_pixels: int | None) -> None:
    """Refuse what is decoded whole, takes much memory, and is too small a file for it (I04)."""
    if max_pixels is None and cost(header) > FREE:
        _require_no_bomb(header, size)


def _require_no_bomb(header: Header, size: int) -> None:
    """Refuse what claims far more pixels than its bytes tell of (I04)."""
    if header.pixels * header.bands * header.bits > 8 * DENSEST * size:
        found = f"{header.width} x {header.height} = {header.pixels} px in {size} bytes"
        raise SourceRefused(
            "I04", f"{found}, a decompression bomb? --max-pixels {header.pixels} takes it"
        )


def cost(header: Header) -> int:
    """Bytes that decoding an image whole takes at most, as measured with Pillow.

    >>> cost(Header("PNG", 100, 10)), cost(Header("WEBP", 100, 10)), cost(Header("JPEG", 100, 10, gradual=True))
    (4000, 16000, 10000)
    """
    pixel = 4 if header.bands > 1 or header.bits > 16 else 1 + (header.bits > 8)
    if header.format == "WEBP":
        pixel = 16  # frames are put together on canvases of their own
    if header.format == "JPEG" and header.gradual:
        pixel += 2 * header.bands  # all coefficients, until the last scan
    return header.pixels * pixel * (1 if header.orientation == 1 else 2)


def plain_header(file: BinaryIO, max_pixels: int | None = None) -> Header:
    """The header of an image that Pillow alone decodes, whole and without a loss.

    Raises:
        SourceRefused: it is none (I02, I03, I04, I06, I07).
    """
    header = probe(file)
    require_plain(header, max_pixels)
    _require_little(header, file.seek(0, os.SEEK_END), max_pixels)
    return header


def require_plain(header: Header, max_pixels: int | None, mend: str = "") -> None:
    """Refuse what Pillow cannot decode whole and without a loss (I04, I06, I07)."""
    require_size(header, max_pixels, mend=mend)
    if header.problem is not None:
        raise SourceRefused("I07" if header.format == "JPEG 2000" else "I06", header.problem + mend)


def require_size(header: Header, max_pixels: int | None, pages: int = 1, mend: str = "") -> None:
    """Refuse what is too large to be decoded whole (I04)."""
    limit = WHOLE if max_pixels is None else max_pixels
    if header.pixels * pages > limit:
        found = f"{header.width} x {header.height} = {header.pixels} px"
        raise SourceRefused("I04", f"{found}, more than --max-pixels {limit}{mend}")


def verify(file: BinaryIO, header: Header, max_pixels: int | None, pages: int = 0) -> None:
    """Decode an image, keeping nothing.

    Raises:
        SourceRefused: as `opened`.
    """
    with opened(file, header, max_pixels, pages) as image:
        for _ in image.bands_of_rows():
            pass


def _by_rows(header: Header, rows: RowReader) -> SourceImage:
    info = {} if rows.profile is None else {"icc_profile": rows.profile}
    return SourceImage(
        header, _mode(rows.dtype, rows.bands, header), rows.bands, rows.dtype, info, _rows=rows
    )


def _mode(dtype: np.dtype[Any], bands: int, header: Header) -> str:
    kind = dtype.str[1:]
    if header.colour == "CMYK" and bands == 4:
        return "CMYK" if kind == "u1" else BANDS
    # which has become colours
    alpha = bands in (2, 4) and (header.alpha or header.colour == "palette")
    return MODE.get((kind, bands, alpha), BANDS)


def _whole(file: BinaryIO, header: Header) -> SourceImage:
    """By the faster codecs where they are installed and able, else by Pillow."""
    if header.format == "JPEG" and codecs.library() is not None:
        image = _lazy(file, header)
        if (pixels := codecs.decode(_data(file), header)) is not None:
            mode = _mode(pixels.dtype, pixels.shape[2], header)
            return SourceImage(
                header, mode, pixels.shape[2], pixels.dtype, image.info, _pixels=pixels
            )
    image = decode(file, header)
    dtype = np.dtype({"I;16": "u2", "I;16B": "u2", "F": "f4"}.get(image.mode, "u1"))
    return SourceImage(header, image.mode, len(image.getbands()), dtype, image.info, _image=image)


def _data(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def decode(file: BinaryIO, header: Header) -> Image.Image:
    """The image's pixels by Pillow, turned upright, whole or not at all.

    Args:
        file: the image, open; the header was read from it, and `choose` takes it whole.

    Raises:
        SourceRefused: it is truncated or damaged (I03).
        MemoryError: it does not fit.
    """
    with _blamed():
        image = _lazy(file, header)
        with allowed(header.pixels):
            image.load()
        if header.orientation != 1 and header.format != "TIFF":  # Pillow turns a TIFF itself
            image = image.transpose(TURNS[header.orientation])
    if image.size != header.size:
        raise SourceRefused(
            "I03", f"damaged: it decodes to {image.size}, its header says {header.size}"
        )
    return image


def _lazy(file: BinaryIO, header: Header) -> Image.Image:
    """Pillow's image, of which nothing is decoded yet."""
    with _blamed(), allowed(header.pixels):
        file.seek(0)
        load_plugin(header.format)
        image: Image.Image = Image.open(file, formats=PLUGINS[header.format])
        # turned by its tag alone, as the trainer does; Pillow would follow XMP too
        if header.format == "TIFF":
            image.info.pop("xmp", None)
    return image


def tables(file: BinaryIO, header: Header) -> list[list[int]] | None:
    """The quantisation tables of a JPEG, one for each component as Pillow's `qtables` wants them;
    None of another format.
    """
    if header.format != "JPEG":
        return None
    image: Any = _lazy(file, header)
    found = [image.quantization[table] for _, _, _, table in image.layer]
    while found[1:] and found[-1] == found[-2]:  # the last one stands for those after it
        found.pop()
    return found


@contextmanager
def _blamed() -> Iterator[None]:
    """What a decoder raises is the file's fault, in whatever way it fails."""
    try:
        yield
    except (MemoryError, SourceRefused):
        raise
    except OSError as error:
        raise SourceRefused("I03", f"truncated or damaged: {reason(error)}") from None
    except Exception as error:
        raise SourceRefused("I03", f"damaged: {type(error).__name__}: {error}") from None


def load_plugin(name: str) -> None:
    """Import Pillow's plugin of a format; left to itself, Pillow imports all of its forty."""
    import_module(f"PIL.{MODULES[name]}ImagePlugin")
