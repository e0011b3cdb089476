"""Text files of others: regular, of a sane size, UTF-8 with or without a byte-order mark."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tiler.errors import TilerError

UTF16 = (b"\xff\xfe", b"\xfe\xff")


# bytes that file systems hold; of a path less than 4096, for the folder before it
LONGEST_NAME, LONGEST_PATH = 255, 4000
# What holds nobody up: a fifo, a terminal
OPENING = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_regular(path: str | Path) -> BufferedReader:
    """A regular file, open for reading: the one way in which files of others are opened.

    A fifo, socket or device is neither waited for nor opened.

    Raises:
        OSError: the file is not there, not readable, or not regular.
    """
    try:
        _require_regular(os.stat(path))  # opening a device may do something
        file = open(path, "rb", opener=lambda path, _: os.open(path, OPENING))  # noqa: SIM115
    except ValueError:  # a NUL
        raise OSError(errno.EINVAL, "no file has such a name") from None
    try:
        _require_regular(os.fstat(file.fileno()))  # what is open, whatever lay there before
    except OSError:
        file.close()
        raise
    return file


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def within(name: str) -> str | None:
    """Where a name of a JSON or manifest leads to in the folder that it is looked up in; None for
    out of it.

    By its letters alone: what `a/..` is depends on links, so it is taken away and not followed.

    >>> within("a/./b.jpg"), within("a/../../b.jpg"), within("/etc/passwd")
    ('a/b.jpg', None, None)
    """
    path = os.path.normpath(name).replace(os.sep, "/")
    outside = (
        os.path.isabs(name)
        or path.startswith("/")
        or path.split("/")[0] == ".."
        or os.path.splitdrive(name)[0]
    )
    return None if outside or "\0" in name else path


def plain_name(name: str) -> bool:
    """Whether it is the name of a file, and no path.

    >>> plain_name("a__0_0_640_640"), plain_name("../a"), plain_name("")
    (True, False, False)
    """
    return name not in ("", ".", "..") and not {"/", "\0", os.sep} & {*name}


def too_long(name: str) -> bool:
    """Whether no file system holds such a path, or one of its parts.

    >>> too_long("a/b.jpg"), too_long("a" * 300)
    (False, True)
    """
    data = name.encode("utf-8", "surrogatepass")
    return len(data) > LONGEST_PATH or max(map(len, data.split(b"/"))) > LONGEST_NAME


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: the file is not there, not readable, or not regular.
        TilerError: it is too large.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise TilerError(f"{path}: more than {limit} bytes")
        return file.read()


def read_text(path: Path, limit: int) -> str:
    """The text of a file, for which reading as UTF-8 must work.

    Raises:
        TilerError: says what is wrong with the file.
    """
    shown = str(path)
    try:
        data = read_bytes(path, limit)
    except FileNotFoundError:
        raise TilerError(f"{shown}: no such file") from None
    except OSError as error:
        raise TilerError(f"{shown}: cannot be read: {reason(error)}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise TilerError(
            f"{shown}:{line}: not UTF-8 text (byte {data[error.start]:#04x})"
        ) from None


def reason(error: OSError) -> str:
    """Why the system refused, without the file name it may repeat."""
    return error.strerror or str(error)
