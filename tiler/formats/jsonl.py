"""Records of ours as lines of JSON: a head that says which, then one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import msgspec

from tiler.errors import TilerError
from tiler.formats.text_files import open_regular, reason


class _AnyHead(Protocol):
    @property
    def tiler(self) -> str: ...
    @property
    def schema(self) -> int: ...


Head = TypeVar("Head", bound=_AnyHead)
Record = TypeVar("Record")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


Opened = Callable[[Path], BinaryIO]


def read_head(
    path: Path, kind: type[Head], schema: int, what: str, opened: Opened = open_regular
) -> Head:
    """The first line.

    Args:
        opened: opens the file; for one of ours, without following links.

    Raises:
        TilerError: it is not `what` it should be, or of another schema.
    """
    try:
        with opened(path) as file:
            head = msgspec.json.decode(file.readline(), type=kind)
    except (OSError, *UNREADABLE) as error:
        raise TilerError(f"{path}: not {what}: {error}") from None
    if head.schema != schema:
        raise TilerError(
            f"{path}: schema {head.schema}, expected {schema}; made by tiler {head.tiler}"
        )
    return head


def read_records(
    path: Path,
    kind: type[Record],
    opened: Opened = open_regular,
    check: Callable[[Record], str] | None = None,
) -> Iterator[Record]:
    """The other lines.

    Args:
        opened: opens the file; for one of ours, without following links.
        check: says what is wrong with a record, or nothing.

    Raises:
        TilerError: with the line that cannot be read.
    """
    decoder = msgspec.json.Decoder(kind)
    shown = str(path)
    try:
        file = opened(path)
    except OSError as error:
        raise TilerError(f"{shown}: cannot be read: {reason(error)}") from None
    with file:
        file.readline()
        for number, text in enumerate(file, 2):
            try:
                record = decoder.decode(text)
            except UNREADABLE as error:
                raise TilerError(f"{shown}:{number}: {error}") from None
            fault = "" if check is None else check(record)
            if fault:
                raise TilerError(f"{shown}:{number}: {fault}")
            yield record


def line(record: msgspec.Struct) -> bytes:
    """A record as one line of JSON."""
    return msgspec.json.encode(record) + b"\n"
