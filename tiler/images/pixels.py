"""Pixels of a tile: turned upright, padded, converted, resampled, painted over.

Pixels are a Pillow image, or an array `(height, width, bands)` where Pillow has no such mode
(16-bit colour, many bands) or is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiler.geometry.window import Window
from tiler.images.encoding import BANDS, BEYOND_PILLOW, Encoding
from tiler.images.header import TURNED, Header

if TYPE_CHECKING:
    from tiler.types import Floats

SPARSE = 64  # px between the few pixels that are looked at first
FILL = 114  # the trainer's own letterbox grey
FILLS = {  # the trainer's grey, or the nearest to it, opaque, by Pillow's mode
    "1": 0,
    "L": FILL,
    "LA": (FILL, 255),
    "RGB": (FILL, FILL, FILL),
    "RGBA": (FILL, FILL, FILL, 255),
    "I;16": FILL * 257,
    "I;16B": FILL * 257,
    "CMYK": (0, 0, 0, 255 - FILL),
    "LAB": (122, 128, 128),
}
WITH_ALPHA = ("LA", "RGBA", "LA;16", "RGBA;16")
COLOURS = {"1": "L", "P": "RGB", "PA": "RGBA", "RGBX": "RGB", "CMYK": "RGB"}
Pixels = Image.Image | NDArray[Any]

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def stored(window: Window, header: Header) -> Window:
    """A window of the upright image, in the image as stored.

    >>> stored(Window(0, 0, 3, 2), Header("JPEG", 10, 20, orientation=6))
    Window(x=0, y=17, width=2, height=3)
    """
    width, height = header.width, header.height
    x0, y0, x1, y1 = window.x, window.y, window.right, window.bottom
    if header.orientation in TURNED:  # columns of the upright image are stored as rows
        x0, y0, x1, y1 = y0, x0, y1, x1
    if header.orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if header.orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return Window(x0, y0, x1 - x0, y1 - y0)


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels `(H, W, B)` upright, without a copy.

    >>> turned(np.arange(6).reshape(2, 3, 1), 6)[..., 0].tolist()
    [[3, 0], [4, 1], [5, 2]]
    """
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in TURNED:
        return pixels.swapaxes(0, 1)
    return pixels


def as_image(pixels: NDArray[Any], mode: str) -> Image.Image:
    """A Pillow image of an array whose mode Pillow has."""
    height, width, bands = pixels.shape
    if mode == "CMYK":
        return Image.frombytes(mode, (width, height), pixels.tobytes())
    if bands == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def as_array(pixels: Pixels, mode: str) -> NDArray[Any]:
    """Pixels `(height, width, bands)` of their own memory; indices of a palette become its colours,
    1 bit becomes 0 and 255, and CMYK RGB.

    Args:
        mode: of the pixels.

    >>> as_array(Image.new("P", (20, 10)), "P").shape
    (10, 20, 3)
    """
    if isinstance(pixels, np.ndarray):
        if mode != "CMYK":
            return np.array(pixels)
        pixels = as_image(pixels, mode)
    becomes = COLOURS.get(pixels.mode, pixels.mode)
    if pixels.mode == "P" and pixels.has_transparency_data:
        becomes = "RGBA"
    if becomes != pixels.mode:
        pixels = pixels.convert(becomes)
    return np.atleast_3d(np.array(pixels))


def fitted(
    part: Pixels,
    mode: str,
    inner: Window,
    window: Window,
    size: tuple[int, int],
    encoding: Encoding,
    blank: Any = None,
) -> Pixels:
    """The pixels of a tile, in the encoding's mode, resampled to `size` (width, height).

    Args:
        part: the pixels of the window inside the image, `inner`; beyond lies the fill colour.
        mode: of the part.
        blank: a colour in place of the fill colour.
    """
    unchanged = inner == window and size == (window.width, window.height) and mode == encoding.mode
    if isinstance(part, np.ndarray):
        if mode in BEYOND_PILLOW:
            padded = _padded_array(part, mode, inner, window, blank)
            return resampled(padded, size)
        if unchanged and encoding.direct:
            return part
        part = as_image(part, mode)
    if unchanged:
        return part
    if inner != window:
        part = _padded(part, inner, window, blank)
    if part.mode != encoding.mode:
        part = _converted(part, encoding.mode)
    return resampled(part, size)


def _padded(part: Image.Image, inner: Window, window: Window, blank: Any) -> Image.Image:
    """The window's pixels, of which the part covers `inner`."""
    colour = fill(part) if blank is None else blank
    padded = Image.new(part.mode, (window.width, window.height), colour)
    if part.mode == "P":
        mode = part.palette.mode  # type: ignore[union-attr]
        padded.putpalette(part.getpalette(mode), mode)  # type: ignore[arg-type]
    padded.paste(part, (inner.x - window.x, inner.y - window.y))
    padded.info = part.info
    return padded


def _converted(part: Image.Image, mode: str) -> Image.Image:
    part.info = {key: value for key, value in part.info.items() if key == "transparency"}
    if part.mode == "I;16B":  # Pillow's direct way to I;16 clips to 255
        part = part.convert("I")
    return part.convert(mode)


def resampled(tile: Pixels, size: tuple[int, int]) -> Pixels:
    """A tile at another size (width, height), or the tile itself if it has this one."""
    if isinstance(tile, Image.Image):
        return tile if tile.size == size else _resampled(tile, size)
    if tile.shape[1::-1] == size:
        return tile
    bands = [_resampled_band(tile[..., band], size) for band in range(tile.shape[2])]
    return np.stack(bands, axis=-1)


def _resampled(tile: Image.Image, size: tuple[int, int]) -> Image.Image:
    if tile.mode in ("P", "1"):  # indices cannot be averaged
        return tile.resize(size, Image.Resampling.NEAREST)
    return tile.resize(size, Image.Resampling.LANCZOS)


def _padded_array(
    part: NDArray[Any], mode: str, inner: Window, window: Window, blank: Any
) -> NDArray[Any]:
    """The window's pixels, which share no memory with the part."""
    if inner == window:
        return part.copy()
    tile = np.empty((window.height, window.width, part.shape[2]), part.dtype)
    tile[:] = fill(part, mode) if blank is None else blank
    x = inner.x - window.x
    y = inner.y - window.y
    tile[y : y + inner.height, x : x + inner.width] = part
    return tile


def _resampled_band(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """One band.

    Pillow has float32 at best. So numbers of more bits are resampled as differences from the
    lowest.
    """
    if values.dtype in (np.uint8, np.uint16, np.float32):
        return resampled_plane(np.ascontiguousarray(values), size)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.full(size[::-1], values.flat[0])
    low = finite.min()
    high = finite.max()
    above = values.astype(np.float64) - np.float64(low)
    above = resampled_plane(above.astype(np.float32), size).astype(np.float64)
    return from_lowest(above, low, high)


def from_lowest(above: Floats, low: Any, high: Any) -> NDArray[Any]:
    """Numbers of the type of `low` and `high`, and between these, from differences to `low`."""
    above = np.clip(above, 0, np.float64(high) - np.float64(low))
    if low.dtype.kind == "f":
        return np.asarray((above + low).astype(low.dtype))
    whole = np.minimum(np.rint(above), np.nextafter(2.0**64, 0)).astype(np.uint64)
    # modulo 2**64, as integers are
    return np.asarray((whole + low.astype(np.uint64)).astype(low.dtype))


def resampled_plane(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """`(height, width)` numbers of a type that Pillow has."""
    return np.asarray(_resampled(Image.fromarray(values), size))


def fill(tile: Pixels, mode: str = BANDS) -> Any:
    """The fill colour: the trainer's grey, or the nearest to it.

    Args:
        mode: of an array.
    """
    if isinstance(tile, np.ndarray):
        return _fill_of_array(tile, mode in WITH_ALPHA)
    if tile.mode in FILLS:
        return FILLS[tile.mode]
    if tile.mode == "P":
        return _fill_of_palette(tile)
    if tile.mode == "F":
        low, high = tile.getextrema()
        return (low + high) / 2  # type: ignore[operator]
    bands = len(tile.getbands())
    opaque = [255] * (bands - 3)
    return tuple([FILL] * min(bands, 3) + opaque)


def _fill_of_palette(tile: Image.Image) -> int:
    """The index of the colour that is nearest to the trainer's grey."""
    if tile.palette is None:
        return 0
    palette = tile.getpalette("RGB")
    if not palette:
        return 0
    colours = np.array(palette).reshape(-1, 3)
    distances = ((colours - FILL) ** 2).sum(axis=1)
    return int(distances.argmin())


def _fill_of_array(tile: NDArray[Any], alpha: bool) -> NDArray[Any]:
    """Grey of 8 and 16 bits, opaque; of other numbers each band's middle value."""
    if tile.dtype in (np.uint8, np.uint16):
        unit = 1 if tile.dtype == np.uint8 else 257
        colour = np.full(tile.shape[2], FILL * unit, tile.dtype)
        if alpha:
            colour[-1] = 255 * unit
        return colour
    middles = []
    for band in range(tile.shape[2]):
        values = tile[..., band]
        finite = values[np.isfinite(values)]
        middles.append(finite.min() / 2 + finite.max() / 2 if finite.size else 0)
    return np.array(middles).astype(tile.dtype)


def paint_out(
    tile: Pixels,
    hidden: list[list[Floats]],
    shown: list[list[Floats]],
    mode: str = BANDS,
    blank: Any = None,
) -> None:
    """Fill hidden outlines with the fill colour, in place, except where shown outlines lie.

    Args:
        hidden, shown: for each object its rings, `(V, 2)` in pixels of the tile.
        mode: of an array.
        blank: a colour in place of the fill colour.
    """
    from tiler.images.outlines import covered  # its library is slow to load, and seldom needed

    colour = fill(tile, mode) if blank is None else blank
    if isinstance(tile, np.ndarray):
        height, width = tile.shape[:2]
        tile[covered((width, height), hidden, shown)] = colour
        return
    mask = covered(tile.size, hidden, shown)
    if tile.mode in ("I;16", "I;16B"):  # Pillow pastes these through a mask in the wrong place
        pixels = np.array(tile)
        pixels[mask] = colour
        tile.paste(Image.fromarray(pixels))
    else:
        tile.paste(colour, (0, 0, *tile.size), Image.fromarray(mask.astype(np.uint8) * 255))


def is_flat(tile: Pixels) -> bool:
    """Whether all pixels of a tile are the same.

    >>> is_flat(np.zeros((20, 30, 3), np.uint8)), is_flat(Image.new("RGB", (20, 30), "red"))
    (True, True)
    """
    # a few pixels first, since these differ in nearly every tile
    if isinstance(tile, np.ndarray):
        first = tile[0, 0]
        few = tile[::SPARSE, ::SPARSE]
        return not (few != first).any() and not (tile != first).any()
    corner = tile.getpixel((0, 0))
    for x in range(0, tile.width, SPARSE):
        if tile.getpixel((x, x % tile.height)) != corner:
            return False
    return all(len(set(band.getextrema())) == 1 for band in tile.split())
