"""Copy windows of a JPEG without decoding it: libjpeg-turbo moves the coefficients, nothing is
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


LONGEST = 65_519  # bytes of a profile in one segment


def missing() -> str | None:
    """What is to be installed for it, or None when it is there."""
    if _library() is not None:
        return None
    return "copying tiles of JPEGs needs libturbojpeg 3: pip install 'tilestitch[lossless]'"


def unit(header: Header) -> tuple[int, int] | None:
    """Width and height in px of the blocks that a JPEG is made of, to which a window's origin is
    aligned.

    None when its windows cannot be copied: not a JPEG, turned by its orientation, CMYK, an
    unusual subsampling, or nothing that is decoded here.

    >>> unit(Header("JPEG", 4000, 3000, subsampling="4:2:0")), unit(Header("PNG", 4000, 3000))
    ((16, 16), None)
    """
    if (
        header.format != "JPEG"
        or header.orientation != 1
        or header.bits != 8
        or header.problem is not None
    ):
        return None
    if header.bands == 1:
        return 8, 8  # whatever its sampling factors say: one component is not interleaved
    return UNITS.get(header.subsampling or "") if header.bands == 3 else None


def copied(data: bytes, windows: Sequence[Window]) -> list[bytes]:
    """Each window of a JPEG as a JPEG of its own: baseline, with the source's coefficients and
    tables.

    Nothing else is copied: no EXIF, comment, or colour profile. The pixels are the source's. Only
    where colour is subsampled, a decoder that smooths it misses the neighbours at a cut edge: the
    outermost px may differ there, and all of a window under 5 px wide.

    It takes about 2 bytes a sample of the image and of all windows together.

    Args:
        data: of several images in one file (MPO) the first counts.
        windows: in pixels as stored, so that an orientation must be 1 for them to be as shown.
            Origins are multiples of `unit`; sizes are free.

    Raises:
        ValueError: a window is not aligned, or not inside the image.
        OSError: the JPEG is damaged, be it so little that a decoder would only warn, or of a kind
            that `unit` refuses.
        TilerError: the library is missing.
    """
    lib = _library()
    if lib is None:
        raise TilerError(missing())
    try:
        header = probe(io.BytesIO(data))
    except SourceRefused as error:
        raise OSError(str(error)) from None
    size = unit(replace(header, orientation=1))
    if size is None:
        what = (
            header.problem
            or f"a {header.format} of {header.bands} bands, subsampling {header.subsampling}"
        )
        raise OSError(
            f"{what}; expected a JPEG, grey or of 4:4:4, 4:2:2 or 4:2:0, to copy windows of"
        )
    for window in windows:
        _check(window, header, size)
    return _transformed(lib, data, windows) if windows else []


def _check(window: Window, header: Header, unit: tuple[int, int]) -> None:
    shown = f"window {window.x},{window.y} of {window.width} x {window.height} px"
    if window.x % unit[0] or window.y % unit[1]:
        raise ValueError(f"{shown}: expected x a multiple of {unit[0]} and y of {unit[1]}")
    if window.x < 0 or window.y < 0 or window.right > header.width or window.bottom > header.height:
        raise ValueError(f"{shown}: not inside the image of {header.width} x {header.height} px")


def _transformed(lib: ctypes.CDLL, data: bytes, windows: Sequence[Window]) -> list[bytes]:
    """All windows in one call, since every call reads the whole image."""
    n = len(windows)
    transforms = (_Transform * n)(
        *[
            _Transform(_Region(w.x, w.y, w.width, w.height), options=CROP | COPY_NONE)
            for w in windows
        ]
    )
    buffers, sizes = (ctypes.c_void_p * n)(), (ctypes.c_size_t * n)()
    # A new handle: they are not to be shared by threads, and a used one may leak EXIF into later
    # tiles
    handle = lib.tj3Init(TRANSFORM)
    if not handle:
        raise MemoryError("libturbojpeg gave no handle")
    try:
        failed = lib.tj3Set(handle, STOP_ON_WARNING, 1) or lib.tj3Transform(
            handle, data, len(data), n, buffers, sizes, transforms
        )
        if failed:
            raise OSError(lib.tj3GetErrorStr(handle).decode("utf-8", "replace"))
        return [
            ctypes.string_at(buffer or 0, size) for buffer, size in zip(buffers, sizes, strict=True)
        ]
    finally:
        lib.tj3Destroy(handle)
        for buffer in buffers:
            lib.tj3Free(buffer)


@cache
def _library() -> ctypes.CDLL | None:
    """The first library that has the interface of version 3."""
    for path in _libraries():
        try:
            lib = ctypes.CDLL(path)
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
            lib.tj3Destroy.restype = lib.tj3Free.restype = None
            lib.tj3Destroy.argtypes = lib.tj3Free.argtypes = (ctypes.c_void_p,)
        except (OSError, AttributeError):  # for another machine, or of version 2
            continue
        return lib
    return None


def with_profile(jpeg: bytes, profile: bytes) -> bytes:
    """A JPEG with an ICC profile, in as many segments as it takes (ICC.1:2022, annex B.4)."""
    parts = [profile[i : i + LONGEST] for i in range(0, len(profile), LONGEST)]
    segments = b"".join(
        b"\xff\xe2"
        + (16 + len(part)).to_bytes(2, "big")
        + b"ICC_PROFILE\0"
        + bytes([n, len(parts)])
        + part
        for n, part in enumerate(parts, 1)
    )
    at = 2  # behind the JFIF segment, which comes first
    if jpeg[2:4] == b"\xff\xe0":
        at += 2 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:at] + segments + jpeg[at:]


def _libraries() -> Iterator[str]:
    """Where it may be: in the wheel, else in the system."""
    from importlib import metadata  # slow to load, and needed for --jpeg keep only

    try:
        files = metadata.files("turbojpeg") or []
    except metadata.PackageNotFoundError:
        files = []
    yield from (str(file.locate()) for file in files if _is_library(file.name))
    if found := ctypes.util.find_library("turbojpeg"):
        yield found


def _is_library(name: str) -> bool:
    """Whether a file of the wheel is the library, and not the extension module beside it."""
    return name.startswith("libturbojpeg") or name.endswith(".dll")
