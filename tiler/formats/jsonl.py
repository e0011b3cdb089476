"""Files of tiler's own: lines of JSON, first a head that says what the file is, then one record a
line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from tiler.errors import TilerError
from tiler.formats.text_files import open_regular, reason


class FileHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of every such file.

    Attributes:
        tiler: the version that wrote the file.
        schema: the version of the format.
        names: class names.
        options: those of the command that wrote it.
    """

    tiler: str
    schema: int
    task: str
    names: list[str]
    options: dict[str, Any]


HeadKind = TypeVar("HeadKind", bound=FileHead)
Record = TypeVar("Record")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Opened = Callable[[Path], BinaryIO]  # opens a file; one in an output folder without following links


@dataclass(frozen=True, slots=True)
class JsonLines(Generic[HeadKind, Record]):
    """A kind of file.

    Attributes:
        what: it is, for errors.
        schema: the version of the format that is read here.
        head: the type of the first line.
        record: the type of the other lines.
        problem: what is wrong with a record; empty when nothing is.
    """

    what: str
    schema: int
    head: type[HeadKind]
    record: type[Record]
    problem: Callable[[Record], str]

    def read_head(self, path: Path, opened: Opened = open_regular) -> HeadKind:
        """The first line.

        Raises:
            TilerError: not a file of this kind, or of another schema.
        """
        try:
            with opened(path) as file:
                head = msgspec.json.decode(file.readline(), type=self.head)
        except (OSError, *UNREADABLE) as error:
            raise TilerError(f"{path}: not {self.what}: {error}") from None
        if head.schema != self.schema:
            raise TilerError(
                f"{path}: schema {head.schema}, expected {self.schema}; made by tiler {head.tiler}"
            )
        return head

    def read_records(self, path: Path, opened: Opened = open_regular) -> Iterator[Record]:
        """The other lines, once the head is known to be right.

        Raises:
            TilerError: names the line that cannot be read.
        """
        self.read_head(path, opened)
        try:
            file = opened(path)
        except OSError as error:
            raise TilerError(f"{path}: cannot be read: {reason(error)}") from None
        decoder = msgspec.json.Decoder(self.record)
        with file:
            file.readline()
            for number, text in enumerate(file, 2):
                try:
                    record = decoder.decode(text)
                except UNREADABLE as error:
                    raise TilerError(f"{path}:{number}: {error}") from None
                problem = self.problem(record)
                if problem:
                    raise TilerError(f"{path}:{number}: {problem}")
                yield record


def line(record: msgspec.Struct) -> bytes:
    """A record as one line of JSON."""
    return msgspec.json.encode(record) + b"\n"
