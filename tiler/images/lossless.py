"""Copy windows of a JPEG without decoding it: libjpeg-turbo moves the coefficients, and nothing is
rounded twice.

The library is called through ctypes. It ships in the wheel `turbojpeg`, whose module is not
imported: PyTurboJPEG installs another of the same name, which has no library.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from tiler.errors import SourceRefused, TilerError
from tiler.geometry.window import Window
from tiler.images.header import Header, probe

UNITS = {"4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16)}

TRANSFORM = 2  # TJINIT_TRANSFORM
STOP_ON_WARNING = 0  # TJPARAM_STOPONWARNING
CROP, COPY_NONE = 4, 64  # TJXOPT_CROP, TJXOPT_COPYNONE


LONGEST = 65_519  # bytes of a profile in one segment
APP0, APP2 = b"\xff\xe0", b"\xff\xe2"


class _Region(ctypes.Structure):
    """tjregion"""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int), ("w", ctypes.c_int), ("h", ctypes.c_int))


class _Transform(ctypes.Structure):
    """tjtransform"""

    _fields_ = (
        ("r", _Region),
        ("op", ctypes.c_int),
        ("options", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("customFilter", ctypes.c_void_p),
    )


def missing() -> str | None:
    """What must be installed to copy, or None when it is there."""
    if _library() is not None:
        return None
    return "copying tiles of JPEGs needs libturbojpeg 3: pip install 'tilestitch[lossless]'"


def unit(header: Header) -> tuple[int, int] | None:
    """Width and height in px of a JPEG's blocks, with which a window's origin must be aligned.

    None when its windows cannot be copied: not a JPEG, turned by its orientation, CMYK, an
    unusual subsampling, or a JPEG that is not decoded here.

    >>> unit(Header("JPEG", 4000, 3000, subsampling="4:2:0")), unit(Header("PNG", 4000, 3000))
    ((16, 16), None)
    """
    if header.format != "JPEG" or header.orientation != 1:
        return None
    if header.bits != 8 or header.problem is not None:
        return None
    if header.bands == 1:
        return 8, 8  # whatever its sampling factors say: one component is not interleaved
    if header.bands != 3 or header.subsampling is None:
        return None
    return UNITS.get(header.subsampling)


def copied(data: bytes, windows: Sequence[Window]) -> list[bytes]:
    """Each window of a JPEG as a JPEG of its own: baseline, with the source's coefficients and
    tables.

    Nothing else is copied: no EXIF, comment, or colour profile. The pixels are the source's. Only
    where colour is subsampled, a decoder that smooths it misses the neighbours at a cut edge: the
    outermost px may differ there, and all of a window under 5 px wide.

    It takes about 2 bytes a sample of the image and of all windows together.

    Args:
        data: a JPEG; of several images in one file (MPO), the first counts.
        windows: in pixels as stored, whatever the orientation. Origins are multiples of `unit`;
            sizes are free.

    Raises:
        ValueError: a window is not aligned, or not inside the image.
        OSError: the JPEG is damaged, even if a decoder would only warn, or one that `unit` rejects.
        TilerError: the library is missing.
    """
    lib = _library()
    if lib is None:
        raise TilerError(missing())
    try:
        header = probe(io.BytesIO(data))
    except SourceRefused as error:
        raise OSError(str(error)) from None
    block = unit(replace(header, orientation=1))
    if block is None:
        what = header.problem
        if what is None:
            what = f"a {header.format} of {header.bands} bands, subsampling {header.subsampling}"
        raise OSError(
            f"{what}; expected a JPEG, grey or of 4:4:4, 4:2:2 or 4:2:0, to copy windows of"
        )
    for window in windows:
        _check(window, header, block)
    if not windows:
        return []
    return _transformed(lib, data, windows)


def _check(window: Window, header: Header, block: tuple[int, int]) -> None:
    """Reject a window that is not aligned with the blocks, or not inside the image."""
    shown = f"window {window.x},{window.y} of {window.width} x {window.height} px"
    across, down = block
    if window.x % across or window.y % down:
        raise ValueError(f"{shown}: expected x a multiple of {across} and y of {down}")
    image = Window(0, 0, header.width, header.height)
    if not _is_inside(window, image):
        raise ValueError(f"{shown}: not inside the image of {header.width} x {header.height} px")


def _is_inside(inner: Window, outer: Window) -> bool:
    across = outer.x <= inner.x and inner.right <= outer.right
    down = outer.y <= inner.y and inner.bottom <= outer.bottom
    return across and down


def _transformed(lib: ctypes.CDLL, data: bytes, windows: Sequence[Window]) -> list[bytes]:
    """All windows in one call, since every call reads the whole image."""
    n = len(windows)
    transforms = (_Transform * n)(*map(_crop, windows))
    buffers = (ctypes.c_void_p * n)()
    sizes = (ctypes.c_size_t * n)()
    # A new handle: threads may not share one, and a used one may leak EXIF into later tiles
    handle = lib.tj3Init(TRANSFORM)
    if not handle:
        raise MemoryError("libturbojpeg gave no handle")
    try:
        failed = lib.tj3Set(handle, STOP_ON_WARNING, 1) or lib.tj3Transform(
            handle, data, len(data), n, buffers, sizes, transforms
        )
        if failed:
            raise OSError(lib.tj3GetErrorStr(handle).decode("utf-8", "replace"))
        pairs = zip(buffers, sizes, strict=True)
        return [ctypes.string_at(buffer or 0, size) for buffer, size in pairs]
    finally:
        lib.tj3Destroy(handle)
        for buffer in buffers:
            lib.tj3Free(buffer)


def _crop(window: Window) -> _Transform:
    region = _Region(window.x, window.y, window.width, window.height)
    return _Transform(region, options=CROP | COPY_NONE)


@cache
def _library() -> ctypes.CDLL | None:
    """The first library that has the interface of version 3."""
    for path in _libraries():
        try:
            lib = ctypes.CDLL(path)
            _declare(lib)
        except (OSError, AttributeError):  # for another machine, or of version 2
            continue
        return lib
    return None


def _declare(lib: ctypes.CDLL) -> None:
    """Declare the types of the functions that are called."""
    lib.tj3Init.restype = ctypes.c_void_p
    lib.tj3Init.argtypes = (ctypes.c_int,)
    lib.tj3Set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    lib.tj3Transform.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.POINTER(_Transform),
    )
    lib.tj3GetErrorStr.restype = ctypes.c_char_p
    lib.tj3GetErrorStr.argtypes = (ctypes.c_void_p,)
    lib.tj3Destroy.restype = None
    lib.tj3Destroy.argtypes = (ctypes.c_void_p,)
    lib.tj3Free.restype = None
    lib.tj3Free.argtypes = (ctypes.c_void_p,)


def with_profile(jpeg: bytes, profile: bytes) -> bytes:
    """A JPEG with an ICC profile, in as many segments as it takes (ICC.1:2022, annex B.4)."""
    parts = [profile[at : at + LONGEST] for at in range(0, len(profile), LONGEST)]
    segments = b""
    for number, part in enumerate(parts, 1):
        length = (16 + len(part)).to_bytes(2, "big")
        segments += APP2 + length + b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part
    at = 2  # behind the JFIF segment, which comes first
    if jpeg[2:4] == APP0:
        at += 2 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:at] + segments + jpeg[at:]


def _libraries() -> Iterator[str]:
    """Where the library may be: in the wheel, else in the system."""
    from importlib import metadata  # slow to load, and needed for --jpeg keep only

    try:
        files = metadata.files("turbojpeg") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if _is_library(file.name):
            yield str(file.locate())
    installed = ctypes.util.find_library("turbojpeg")
    if installed:
        yield installed


def _is_library(name: str) -> bool:
    """Whether a file of the wheel is the library, and not the extension module beside it."""
    return name.startswith("libturbojpeg") or name.endswith(".dll")
