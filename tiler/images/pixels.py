"""Pixels of a tile: turned upright, padded, converted, resampled, painted over.

Pixels are a Pillow image, or an array `(height, width, bands)` where Pillow has no such
mode (16-bit colour, many bands) or is not needed.
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

FILL = 114  # the trainer's own letterbox grey
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
    """Where a window of the upright image lies in the image as stored.

    >>> stored(Window(0, 0, 3, 2), Header("JPEG", 10, 20, orientation=6))
    Window(x=0, y=17, width=2, height=3)
    """
    width, height = header.width, header.height
    x0, y0, x1, y1 = window.x, window.y, window.right, window.bottom
    if header.orientation in TURNED:  # as shown, columns are rows
        x0, y0, x1, y1 = y0, x0, y1, x1
    if header.orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if header.orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return Window(x0, y0, x1 - x0, y1 - y0)


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels `(H, W, B)` as shown, without a copy.

    >>> turned(np.arange(6).reshape(2, 3, 1), 6)[..., 0].tolist()
    [[3, 0], [4, 1], [5, 2]]
    """
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation in TURNED else pixels


def as_image(pixels: NDArray[Any], mode: str) -> Image.Image:
    """An array of one of Pillow's modes as its image."""
    height, width, bands = pixels.shape
    if mode == "CMYK":
        return Image.frombytes(mode, (width, height), pixels.tobytes())
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if bands == 1 else pixels))


def fitted(
    part: Pixels,
    mode: str,
    inner: Window,
    window: Window,
    size: tuple[int, int],
    encoding: Encoding,
) -> Pixels:
    """The pixels of a tile, in the encoding's mode, resampled to `size` (width, height).

    Args:
        part: the pixels of the window inside the image, `inner`; beyond lies the fill colour.
        mode: of the part.
    """
    as_it_is = inner == window and size == (window.width, window.height) and mode == encoding.mode
    if isinstance(part, np.ndarray):
        if mode in BEYOND_PILLOW:
            return _fitted(part, mode, inner, window, size)
        if as_it_is and encoding.direct:
            return part
        part = as_image(part, mode)
    if as_it_is:
        return part
    if inner != window:
        padded = Image.new(part.mode, (window.width, window.height), fill(part))
        if part.mode == "P":
            padded.putpalette(part.getpalette(part.palette.mode), part.palette.mode)  # type: ignore[union-attr, arg-type]
        padded.paste(part, (inner.x - window.x, inner.y - window.y))
        padded.info = part.info
        part = padded
    if part.mode != encoding.mode:
        part.info = {k: v for k, v in part.info.items() if k == "transparency"}
        if part.mode == "I;16B":  # Pillow's direct way to I;16 clips to 255
            part = part.convert("I")
        part = part.convert(encoding.mode)
    return part if part.size == size else _resampled(part, size)


def _resampled(tile: Image.Image, size: tuple[int, int]) -> Image.Image:
    if tile.mode in ("P", "1"):  # indices cannot be averaged
        return tile.resize(size, Image.Resampling.NEAREST)
    return tile.resize(size, Image.Resampling.LANCZOS)


def _fitted(
    part: NDArray[Any], mode: str, inner: Window, window: Window, size: tuple[int, int]
) -> NDArray[Any]:
    """A tile of its own memory."""
    if inner == window:
        tile = part.copy()
    else:
        tile = np.empty((window.height, window.width, part.shape[2]), part.dtype)
        tile[:] = fill(part, mode)
        x, y = inner.x - window.x, inner.y - window.y
        tile[y : y + inner.height, x : x + inner.width] = part
    if size == (window.width, window.height):
        return tile
    return np.stack(
        [_resampled_plane(tile[..., band], size) for band in range(tile.shape[2])], axis=-1
    )


def _resampled_plane(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """One band. Pillow has float32 at best, so of longer numbers it gets what they are above the
    lowest.
    """
    if values.dtype in (np.uint8, np.uint16, np.float32):
        return np.asarray(_resampled(Image.fromarray(np.ascontiguousarray(values)), size))
    known = values[np.isfinite(values)]
    if not known.size:
        return np.full(size[::-1], values.flat[0])
    low, high = known.min(), known.max()
    above = values.astype(np.float64) - np.float64(low)
    result = np.asarray(_resampled(Image.fromarray(above.astype(np.float32)), size)).astype(
        np.float64
    )
    result = np.clip(result, 0, np.float64(high) - np.float64(low))
    if values.dtype.kind == "f":
        return np.asarray((result + low).astype(values.dtype))
    whole = np.minimum(np.rint(result), np.nextafter(2.0**64, 0)).astype(np.uint64)
    # modulo 2**64, as integers are
    return np.asarray((whole + low.astype(np.uint64)).astype(values.dtype))


def fill(tile: Pixels, mode: str = BANDS) -> Any:
    """The fill colour: the trainer's grey, or what is nearest to it; of an array in the mode that
    it has.
    """
    if isinstance(tile, np.ndarray):
        return _fill_of_bands(tile, mode in ("LA", "RGBA", "LA;16", "RGBA;16"))
    if tile.mode in ("L", "1"):
        return FILL if tile.mode == "L" else 0
    if tile.mode == "P":
        palette = (
            tile.convert("RGB").getpalette() if tile.palette is None else tile.getpalette("RGB")
        )
        colours = [(palette or [])[i : i + 3] for i in range(0, len(palette or []), 3)]
        return min(
            range(len(colours)), key=lambda i: sum((c - FILL) ** 2 for c in colours[i]), default=0
        )
    if tile.mode in ("I;16", "I;16B"):
        return FILL * 257
    if tile.mode == "F":
        low, high = tile.getextrema()
        return (low + high) / 2  # type: ignore[operator]
    if tile.mode == "CMYK":
        return (0, 0, 0, 255 - FILL)
    if tile.mode == "LAB":
        return (122, 128, 128)
    bands = len(tile.getbands())
    return tuple([FILL] * min(bands, 3) + [255] * (bands - 3)) if tile.mode != "LA" else (FILL, 255)


def _fill_of_bands(tile: NDArray[Any], alpha: bool) -> NDArray[Any]:
    """Grey of 8 and 16 bits, opaque; of other numbers each band's middle value."""
    if tile.dtype in (np.uint8, np.uint16):
        unit = 1 if tile.dtype == np.uint8 else 257
        colour = np.full(tile.shape[2], FILL * unit, tile.dtype)
        if alpha:
            colour[-1] = 255 * unit
        return colour
    middle = []
    for band in range(tile.shape[2]):
        known = tile[..., band][np.isfinite(tile[..., band])]
        middle.append(known.min() / 2 + known.max() / 2 if known.size else 0)
    return np.array(middle).astype(tile.dtype)


def paint_out(
    tile: Pixels, hidden: list[list[Floats]], shown: list[list[Floats]], mode: str = BANDS
) -> None:
    """Paint outlines with the fill colour, in place, but for what lies under the outlines shown.

    Args:
        hidden, shown: for each object its rings, `(V, 2)` in pixels of the tile.
        mode: of an array.
    """
    from tiler.images.outlines import covered  # its library is slow to load, and seldom needed

    colour = fill(tile, mode)
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
