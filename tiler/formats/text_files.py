"""Text files that tiler did not write: regular files of a limited size, in UTF-8 with or without a
byte-order mark.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tiler.errors import TilerError

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# the limits of file systems in bytes; a path may have 4096, with the folder in front of it
LONGEST_NAME = 255
LONGEST_PATH = 4000
# so that opening a fifo or a terminal never waits
OPENING = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: str | Path) -> BufferedReader:
    """A regular file, open for reading. Every file that tiler did not write is opened here.

    A fifo, socket or device is never opened, so nothing waits for one.

    Raises:
        OSError: the file does not exist, or is not readable or not regular.
    """
    try:
        _require_regular(os.stat(path))  # opening a device may have an effect
        file = open(path, "rb", opener=lambda path, _: os.open(path, OPENING))  # noqa: SIM115
    except ValueError:  # a NUL
        raise OSError(errno.EINVAL, "no file has such a name") from None
    try:
        _require_regular(os.fstat(file.fileno()))  # it may have been replaced in between
    except OSError:
        file.close()
        raise
    return file


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def within(name: str) -> str | None:
    """The path that a name from a JSON or a manifest has within its folder; None if it leads out
    of the folder.

    Only the text is looked at: `a/..` is removed, whether or not `a` is a link.

    >>> within("a/./b.jpg"), within("a/../../b.jpg"), within("/etc/passwd")
    ('a/b.jpg', None, None)
    """
    path = os.path.normpath(name).replace(os.sep, "/")
    drive, _ = os.path.splitdrive(name)
    if os.path.isabs(name) or path.startswith("/") or drive:
        return None
    if path.split("/")[0] == ".." or "\0" in name:
        return None
    return path


def plain_name(name: str) -> bool:
    """Whether it is the name of a file, not a path.

    >>> plain_name("a__0_0_640_640"), plain_name("../a"), plain_name("")
    (True, False, False)
    """
    if name in ("", ".", ".."):
        return False
    return not set(name) & {"/", "\0", os.sep}


def too_long(name: str) -> bool:
    """Whether this path, or one of its parts, is too long for any file system.

    >>> too_long("a/b.jpg"), too_long("a" * 300)
    (False, True)
    """
    data = name.encode("utf-8", "surrogatepass")
    longest_part = max(map(len, data.split(b"/")))
    return len(data) > LONGEST_PATH or longest_part > LONGEST_NAME


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: the file does not exist, or is not readable or not regular.
        TilerError: it is too large.
    """
    with open_regular(path) as file:
        data = read_bounded(file, limit)
    if data is None:
        raise TilerError(f"{path}: more than {limit} bytes")
    return data


def read_bounded(file: BufferedReader, limit: int) -> bytes | None:
    """The content of an open file; None if it has more than `limit` bytes."""
    if os.fstat(file.fileno()).st_size > limit:
        return None
    return file.read()


def without_bom(data: bytes) -> bytes:
    """UTF-8 text without the byte-order mark that it may start with.

    >>> without_bom(b"\\xef\\xbb\\xbf0 .5"), without_bom(b"0 .5")
    (b'0 .5', b'0 .5')
    """
    return data.removeprefix(codecs.BOM_UTF8)


def lenient_text(data: bytes) -> str:
    """UTF-8 text without its byte-order mark; invalid bytes become surrogates."""
    return without_bom(data).decode("utf-8", "surrogateescape")


def read_text(path: Path, limit: int) -> str:
    """The text of a UTF-8 file of at most `limit` bytes, without its byte-order mark.

    Raises:
        TilerError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        data = without_bom(read_bytes(path, limit))
    except FileNotFoundError:
        raise TilerError(f"{path}: no such file") from None
    except OSError as error:
        raise TilerError(f"{path}: cannot be read: {reason(error)}") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = data[error.start]
        raise TilerError(f"{path}:{line}: not UTF-8 text (byte {byte:#04x})") from None


def reason(error: OSError) -> str:
    """The system's message, without the file name that it may repeat."""
    return error.strerror or str(error)
