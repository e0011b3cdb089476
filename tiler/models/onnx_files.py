"""The files that an ONNX model is made of: itself, and those that it names for its weights.

Only so much of the format is read as tells which files these are. ONNX Runtime would open any that
the model names.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeAlias

from tiler.errors import TilerError
from tiler.findings import short

Fields: TypeAlias = dict[int, "str"]

# protobuf messages of onnx.proto: which of their fields are messages that may hold tensors
MESSAGES: dict[str, Fields] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {},
}
DEEPEST = 64  # messages within messages
MOST = 2_000_000  # fields that are looked at
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
FIXED = {FIXED64: 8, FIXED32: 4}


def files_of(path: Path) -> list[Path]:
    """The model, and the files of its weights, each once.

    Raises:
        TilerError: it cannot be read, is no ONNX model, or names a file outside its folder.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            locations = sorted(set(_Reader(content, path).locations()))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise TilerError(f"{path}: cannot be read: {error}") from None
    return [path, *(_beside(path, location) for location in locations)]


def _beside(path: Path, location: str) -> Path:
    """The file of some weights.

    Raises:
        TilerError: it is not in the folder of the model.
    """
    folder = path.parent.resolve()
    windows = PureWindowsPath(location)
    is_inside = not (windows.anchor or ".." in windows.parts or "\0" in location)
    target = folder.joinpath(*PurePosixPath(location).parts) if is_inside else folder
    if not is_inside or not target.resolve().is_relative_to(folder):
        raise TilerError(f"{path}: its weights are outside its folder, in {short(location)}")
    if not target.is_file():
        raise TilerError(f"{path}: its weights are not there: {target}")
    return target


class _Reader:
    """The fields of a model's messages."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self.content = content
        self.path = path
        self.seen = 0

    def locations(self) -> Iterator[str]:
        """The files that tensors name as the place of their numbers."""
        yield from self._within("model", 0, len(self.content), 0)

    def _within(self, message: str, start: int, end: int, depth: int) -> Iterator[str]:
        if depth > DEEPEST:
            raise self._broken()
        if message == "external":
            yield from self._location(start, end)
            return
        for number, begin, stop in self._fields(start, end):
            if number in MESSAGES[message]:
                yield from self._within(MESSAGES[message][number], begin, stop, depth + 1)

    def _location(self, start: int, end: int) -> Iterator[str]:
        """The value of a key and a value, if the key is the location."""
        keys, values = set(), []
        for number, begin, stop in self._fields(start, end):
            text = self.content[begin:stop].decode(errors="replace")
            if number == 1:
                keys.add(text)
            elif number == 2:
                values.append(text)
        if "location" in keys:
            yield from values

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The number of each field with bytes, and where these begin and end."""
        at = start
        while at < end:
            self.seen += 1
            if self.seen > MOST:
                raise TilerError(f"{self.path}: more than {MOST} fields; no model of a detector")
            tag, at = self._varint(at, end)
            kind = tag & 7
            if kind == VARINT:
                _, at = self._varint(at, end)
            elif kind in FIXED:
                at += FIXED[kind]
            elif kind == BYTES:
                length, at = self._varint(at, end)
                if length > end - at:
                    raise self._broken()
                yield tag >> 3, at, at + length
                at += length
            else:
                raise self._broken()
        if at != end:
            raise self._broken()

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self.content[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise self._broken()

    def _broken(self) -> TilerError:
        return TilerError(f"{self.path}: is no ONNX model, or is broken")
