"""An image's pixels, read once from top to bottom: whole if it is small, else by bands of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.errors import SourceRefused
from tiler.formats.text_files import reason
from tiler.geometry.window import Window
from tiler.images import codecs, gdal, memory, row_reader, stretch, vips
from tiler.images.band_pages import Pages, stand_for_bands
from tiler.images.encoding import BANDS
from tiler.images.header import Header, probe
from tiler.images.nodata import NoData, window_counts
from tiler.images.pillow_limit import WHOLE, allowed
from tiler.images.pixels import TURNS, Pixels, stored, turned
from tiler.images.row_reader import Later, RowReader

if TYPE_CHECKING:
    from tiler.types import Ints

# Pillow's plugins for each format; no other is ever tried on a file, or even imported
PLUGINS = {
    "JPEG": ["JPEG", "MPO"],
    "PNG": ["PNG"],
    "TIFF": ["TIFF"],
    "WEBP": ["WEBP"],
    "BMP": ["BMP", "DIB"],
}
MODULES = {"JPEG": "Jpeg", "PNG": "Png", "TIFF": "Tiff", "WEBP": "WebP", "BMP": "Bmp"}

LARGE = 50_000_000  # px from which an image is read by bands of rows, if it can be
DENSEST = 200  # bytes of pixels a byte of the file, beyond which a large image is taken for a bomb
FREE = 800_000_000  # bytes that decoding any file may take: the largest PNG that is decoded whole
MOST_BANDS = 2048
EXTRA = "pip install 'tilestitch[big]'"

# Modes of arrays, by type of a sample, bands, and whether the last is alpha
MODES = {
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

PILLOW_PIXEL = 4  # bytes of one of several bands
PILLOW_TYPES = {"I;16": "u2", "I;16B": "u2", "F": "f4"}  # of a sample, by mode; else u1

Crop = Callable[[Window], Pixels]
Limits = Sequence[tuple[float, float]]
RowOpener = Callable[[BinaryIO, Header], RowReader]


@dataclass(slots=True)
class SourceImage:
    """An open image.

    Attributes:
        header: what its file says.
        mode: Pillow's name for its pixels, or one of `DEEP` and `BANDS`.
        bands, dtype: of its pixels.
        info: as Pillow has it: a colour profile, a transparent colour.
        limits: of each band the values that become 0 and 255, or None if pixels stay as they are.
        nodata: which of its pixels, as decoded, have no data.
    """

    header: Header
    mode: str
    bands: int
    dtype: np.dtype[Any]
    info: dict[Any, Any] = field(default_factory=dict)
    limits: Limits | None = None
    nodata: NoData = field(init=False)
    _image: Image.Image | None = None
    _pixels: NDArray[Any] | None = None
    _rows: RowReader | None = None

    def __post_init__(self) -> None:
        self.nodata = NoData.of(self.header, self.mode, self.bands, self.dtype)

    @property
    def by_rows(self) -> bool:
        """Whether only some rows are in memory at a time."""
        return self._rows is not None

    @property
    def held_bytes(self) -> int:
        """Memory that its pixels take; of an image read by rows, that they would take."""
        if self._image is not None and self.bands > 1:
            return self.header.pixels * PILLOW_PIXEL
        return self.header.pixels * self.bands * self._sample_bytes

    @property
    def _sample_bytes(self) -> int:
        """Bytes of a sample as it was decoded."""
        if self._rows is not None:
            return self._rows.dtype.itemsize
        if self._pixels is not None:
            return self._pixels.itemsize
        return self.dtype.itemsize

    def held(self) -> SourceImage:
        """The same image, not stretched yet, whole in memory: its file is not needed any more."""
        rows = self._rows
        if rows is None:
            return self
        pixels = np.empty((rows.height, rows.width, rows.bands), rows.dtype)
        rows.read(0, pixels)
        return SourceImage(
            self.header, self.mode, self.bands, self.dtype, self.info, _pixels=pixels
        )

    def stretched(self, limits: Limits) -> None:
        """From now on map its pixels to 8 bits by these limits, one pair a band; those without data
        become 0.
        """
        self.limits = limits
        self.dtype = np.dtype(np.uint8)
        # a transparent colour is one of the old values
        self.info = {key: value for key, value in self.info.items() if key != "transparency"}
        self.mode = _mode(self.dtype, self.bands, self.header)

    def sweep(self, windows: Sequence[Window], later: Later) -> Iterator[tuple[Crop, list[int]]]:
        """Go down the image once: a function that cuts windows out, and the numbers of the windows
        that it can cut out now.

        What is cut out is upright, and may share its memory with others.

        Args:
            windows: of the upright image, inside it.
            later: runs a function, perhaps at once in another thread.
        """
        if self._rows is None:
            yield self._crop, list(range(len(windows)))
            return
        as_stored = [stored(window, self.header) for window in windows]
        tops = np.array([window.y for window in as_stored])
        bottoms = np.array([window.bottom for window in as_stored])
        tallest = int((bottoms - tops).max())
        row_bytes = self._rows.width * self._rows.bands * self._rows.dtype.itemsize
        what = f"{tallest} rows of {self._rows.width} px are read at once"
        with memory.taken(2 * tallest * row_bytes, what):
            for band, top, numbers in row_reader.sweep(self._rows, tops, bottoms, later):
                yield partial(self._crop_rows, band, top), numbers

    def _crop(self, window: Window) -> Pixels:
        """A window of an image that is whole in memory."""
        if self._pixels is not None:
            return self._crop_rows(self._pixels, 0, window)
        part = self._part((window.x, window.y, window.right, window.bottom))
        if self.limits is None:
            return part
        return self._mapped(np.atleast_3d(np.asarray(part)), self.limits)

    def _part(self, corners: tuple[int, int, int, int]) -> Image.Image:
        """What lies between these corners of Pillow's image."""
        assert self._image is not None
        left, top, right, bottom = corners
        with allowed((right - left) * (bottom - top)):
            return self._image.crop(corners)

    def _crop_rows(self, rows: NDArray[Any], top: int, window: Window) -> Pixels:
        """A window, cut out of the stored rows from `top` on."""
        as_stored = stored(window, self.header)
        part = rows[as_stored.y - top : as_stored.bottom - top, as_stored.x : as_stored.right]
        if self.header.orientation != 1:  # encoders want rows that go forward
            part = np.ascontiguousarray(turned(part, self.header.orientation))
        if self.limits is None:
            return part
        return self._mapped(part, self.limits)

    def _mapped(self, part: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
        """A part in 8 bits, 0 where it has no data."""
        return self.nodata.blackened(stretch.stretched(part, limits), part)

    def data_counts(self, windows: Sequence[Window]) -> Ints:
        """`(T,)` how many pixels with data each window has.

        Of an image that is read by rows, this is all that can be read.

        Args:
            windows: of the upright image, inside it.
        """
        if self._image is None:  # which alone is decoded upright
            windows = [stored(window, self.header) for window in windows]
        pieces = chain.from_iterable(map(_pieces, self.bands_of_rows()))
        return window_counts(map(self.nodata.has_data, pieces), windows)

    def bands_of_rows(self, height: int = 512) -> Iterator[NDArray[Any]]:
        """All pixels `(rows, width, bands)` as decoded, some rows at a time."""
        if self._rows is not None:
            yield from row_reader.bands_of(self._rows, height)
        elif self._pixels is not None:
            yield self._pixels
        else:
            assert self._image is not None
            width, bottom = self._image.size
            for top in range(0, bottom, height):
                part = self._part((0, top, width, min(top + height, bottom)))
                yield np.atleast_3d(np.asarray(part))


def _pieces(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The same rows, so few at a time that they stay in the cache."""
    height = max(1, stretch.CHUNK // rows.shape[1])
    for start in range(0, len(rows), height):
        yield rows[start : start + height]


@contextmanager
def opened(
    file: BinaryIO, header: Header, max_pixels: int | None = None, pages: int = 0
) -> Iterator[SourceImage]:
    """An image, whole in memory or read by bands of rows.

    Args:
        file: the image, open; the header was read from it.
        max_pixels: how large it may be; None for whatever its reader can take.
        pages: of a TIFF, the number of pages of one band that are the bands of one image.

    Raises:
        SourceRefused: too large (I04), damaged (I03), or no installed reader decodes it without
            loss (I06, I07).
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


def choose(header: Header, size: int, max_pixels: int | None) -> RowOpener | None:
    """What opens an image by rows, or None where it is decoded whole.

    Args:
        size: of its file in bytes.

    Raises:
        SourceRefused: as `opened`, before any memory is spent.
    """
    # before a decoder, which takes minutes to find that most of them are not there
    if header.bands > MOST_BANDS:
        raise SourceRefused("I06", f"{header.bands} bands, of which at most {MOST_BANDS} are read")
    if _is_small(header, max_pixels):
        _require_no_bomb_whole(header, size, max_pixels)
        return None  # before a look at what is installed, which takes longer
    able = _row_readers(header)
    openers: list[RowOpener] = [reader.opened for reader in able if not reader.missing()]
    if not openers:
        hint = ""
        if able:
            hint = f"; {EXTRA} reads it"
        require_plain(header, max_pixels, hint)
        _require_no_bomb_whole(header, size, max_pixels)
        return None
    if max_pixels is not None:
        require_size(header, max_pixels)
    elif header.pixels > WHOLE:
        _require_no_bomb(header, size)
    if header.format == "JPEG" and header.gradual:
        what = f"a progressive JPEG of {header.pixels} px cannot be read by strips"
        memory.require(5 * header.pixels, what)
    return openers[0]


def _is_small(header: Header, max_pixels: int | None) -> bool:
    """Whether an image is decoded whole although it might be read by rows."""
    large = LARGE
    if header.pillow_only:
        large = WHOLE
    return header.problem is None and header.pixels <= min(large, max_pixels or large)


def _row_readers(header: Header) -> list[Any]:
    """The modules that read such an image by rows: the faster one first, in less memory."""
    readers = [vips, gdal]
    if header.format == "TIFF":
        readers = [gdal, vips]
    return [reader for reader in readers if reader.reads(header)]


def _require_no_bomb_whole(header: Header, size: int, max_pixels: int | None) -> None:
    """Reject a decompression bomb that is decoded whole, unless it takes little memory (I04)."""
    if max_pixels is None and cost(header) > FREE:
        _require_no_bomb(header, size)


def _require_no_bomb(header: Header, size: int) -> None:
    """Reject an image that claims far more pixels than its file has bytes for (I04)."""
    if header.pixels * header.bands * header.bits <= 8 * DENSEST * size:
        return
    what = f"{header.width} x {header.height} = {header.pixels} px in {size} bytes"
    raise SourceRefused(
        "I04", f"{what}, a decompression bomb? --max-pixels {header.pixels} allows it"
    )


def cost(header: Header) -> int:
    """Bytes that decoding an image whole takes at most, as measured with Pillow.

    >>> cost(Header("PNG", 100, 10)), cost(Header("WEBP", 100, 10))
    (4000, 16000)
    >>> cost(Header("JPEG", 100, 10, gradual=True))
    10000
    """
    pixel_bytes = 1
    if header.bands > 1 or header.bits > 16:
        pixel_bytes = 4
    elif header.bits > 8:
        pixel_bytes = 2
    if header.format == "WEBP":
        pixel_bytes = 16  # frames are put together on canvases of their own
    if header.format == "JPEG" and header.gradual:
        pixel_bytes += 2 * header.bands  # all coefficients, until the last scan
    if header.orientation != 1:
        pixel_bytes *= 2  # the turned copy
    return header.pixels * pixel_bytes


def plain_header(file: BinaryIO, max_pixels: int | None = None) -> Header:
    """The header of an image that Pillow alone decodes, whole and without loss.

    Raises:
        SourceRefused: any other image (I02, I03, I04, I06, I07).
    """
    header = probe(file)
    require_plain(header, max_pixels)
    size = file.seek(0, os.SEEK_END)
    _require_no_bomb_whole(header, size, max_pixels)
    return header


def require_plain(header: Header, max_pixels: int | None, hint: str = "") -> None:
    """Reject what Pillow cannot decode whole and without loss (I04, I06, I07)."""
    require_size(header, max_pixels, hint=hint)
    if header.problem is None:
        return
    code = "I06"
    if header.format == "JPEG 2000":
        code = "I07"
    raise SourceRefused(code, header.problem + hint)


def require_size(header: Header, max_pixels: int | None, pages: int = 1, hint: str = "") -> None:
    """Reject what is too large to be decoded whole (I04)."""
    limit = WHOLE if max_pixels is None else max_pixels
    if header.pixels * pages > limit:
        size = f"{header.width} x {header.height} = {header.pixels} px"
        raise SourceRefused("I04", f"{size}, more than --max-pixels {limit}{hint}")


def verify(file: BinaryIO, header: Header, max_pixels: int | None, pages: int = 0) -> None:
    """Decode an image, keeping nothing.

    Raises:
        SourceRefused: as `opened`.
    """
    with opened(file, header, max_pixels, pages) as image:
        for _ in image.bands_of_rows():
            pass


def _by_rows(header: Header, rows: RowReader) -> SourceImage:
    mode = _mode(rows.dtype, rows.bands, header)
    info = {}
    if rows.profile is not None:
        info["icc_profile"] = rows.profile
    return SourceImage(header, mode, rows.bands, rows.dtype, info, _rows=rows)


def _mode(dtype: np.dtype[Any], bands: int, header: Header) -> str:
    """The mode of an array that was decoded from an image."""
    sample = dtype.str[1:]
    if header.colour == "CMYK" and bands == 4:
        return "CMYK" if sample == "u1" else BANDS
    # a palette has become colours, with alpha where it has a transparent one
    alpha = bands in (2, 4) and (header.alpha or header.colour == "palette")
    return MODES.get((sample, bands, alpha), BANDS)


def _whole(file: BinaryIO, header: Header) -> SourceImage:
    """An image decoded by the faster codecs where they are installed and able, else by Pillow."""
    if header.format == "JPEG" and codecs.library() is not None:
        info = _lazy(file, header).info
        pixels = codecs.decode(_data(file), header)
        if pixels is not None:
            bands = pixels.shape[2]
            mode = _mode(pixels.dtype, bands, header)
            return SourceImage(header, mode, bands, pixels.dtype, info, _pixels=pixels)
    image = decode(file, header)
    dtype = np.dtype(PILLOW_TYPES.get(image.mode, "u1"))
    bands = len(image.getbands())
    return SourceImage(header, image.mode, bands, dtype, image.info, _image=image)


def _data(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def decode(file: BinaryIO, header: Header) -> Image.Image:
    """The image's pixels by Pillow, upright, whole or not at all.

    Args:
        file: the image, open; the header was read from it, and `choose` takes it whole.

    Raises:
        SourceRefused: it is truncated or damaged (I03).
        MemoryError: it does not fit.
    """
    with _decoding():
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
    """Pillow's image, not decoded yet."""
    with _decoding(), allowed(header.pixels):
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
    tables = [image.quantization[table] for _, _, _, table in image.layer]
    while len(tables) > 1 and tables[-1] == tables[-2]:  # the last one stands for those after it
        tables.pop()
    return tables


@contextmanager
def _decoding() -> Iterator[None]:
    """A block in which any error of a decoder is the file's fault (I03)."""
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
