"""The files that predictions are in: which there are, and their content."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import coco, yolo
from tiler.formats.text_files import UTF16, open_regular, read_bytes, reason

T = TypeVar("T")

BOM = b"\xef\xbb\xbf"


def content(path: str, findings: list[Finding]) -> bytes | None:
    """The bytes of a file of text; None with a finding where there are none to be had."""
    try:
        with open_regular(path) as file:
            large = os.fstat(file.fileno()).st_size > yolo.MAX_BYTES
            data = b"" if large else file.read()
    except OSError as error:
        findings.append(Finding(path, "D01", reason(error)))
        return None
    if not large and not data.startswith(UTF16):
        return data
    findings.append(
        Finding(
            path,
            "D01",
            f"more than {yolo.MAX_BYTES} bytes" if large else "UTF-16 text, expected UTF-8",
        )
    )
    return None


def whole(path: Path) -> bytes:
    """The bytes of the one file that everything is in, without BOM.

    Raises:
        TilerError: it cannot be read, or is too large.
    """
    try:
        return read_bytes(path, coco.MAX_BYTES).removeprefix(BOM)
    except OSError as error:
        raise TilerError(f"{path}: cannot be read: {reason(error)}") from None


def decoded(data: bytes, kind: type[T], shown: str) -> T:
    """JSON of a type; NaN and Infinity, which Python writes, become words.

    Raises:
        TilerError: not JSON, or of another type.

    >>> decoded(b"[1, NaN]", list, "a.json")
    [1, 'NaN']
    """
    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError:
            if b"NaN" not in data and b"Infinity" not in data:
                raise
            return msgspec.json.decode(json.dumps(json.loads(data, parse_constant=str)), type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError) as error:
        raise TilerError(f"{shown}: not JSON of predictions: {str(error)[:200]}") from None


def listed(folder: str, suffix: str, skipped: tuple[str, ...] = ()) -> list[str]:
    """Posix paths in a folder with a suffix, sorted by what stands before it; folders of such a
    name too.

    Args:
        skipped: folders right in it that are left out.
    """
    found: list[str] = []
    for here, folders, names in os.walk(folder):
        within = os.path.relpath(here, folder)
        prefix = "" if within == "." else within.replace(os.sep, "/") + "/"
        if not prefix:
            folders[:] = [name for name in folders if name not in skipped]
        found += [
            prefix + name for name in (*names, *folders) if name.endswith(suffix) and name != suffix
        ]
    return sorted(found, key=lambda name: name.removesuffix(suffix))
