"""Text files of others: regular, of a sane size, UTF-8 with or without a byte-order mark."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from tiler.errors import TilerError
from tiler.findings import printable

UTF16 = (b"\xff\xfe", b"\xfe\xff")


def open_regular(path: str | Path) -> BufferedReader:
    """A regular file, open for reading; a fifo or device is not waited for.

    Raises:
        OSError: the file is not there, not readable, or not regular.
    """
    # One open for the check and the read; O_NONBLOCK so that a fifo cannot hold us.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return open(descriptor, "rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises:
        OSError: the file is not there, not readable, or not regular.
        TilerError: it is too large.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise TilerError(f"{printable(str(path))}: more than {limit} bytes")
        return file.read()


def read_text(path: Path, limit: int) -> str:
    """The text of a file, for which reading as UTF-8 must work.

    Raises:
        TilerError: says what is wrong with the file.
    """
    shown = printable(str(path))
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
        raise TilerError(f"{shown}:{line}: not UTF-8 text (byte {data[error.start]:#04x})") from None


def reason(error: OSError) -> str:
    """Why the system refused, without the file name it may repeat."""
    return error.strerror or str(error)
