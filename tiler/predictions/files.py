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
from tiler.formats.text_files import (
    UTF16,
    open_regular,
    read_bounded,
    read_bytes,
    reason,
    without_bom,
)

T = TypeVar("T")


def content(path: str, findings: list[Finding]) -> bytes | None:
    """The bytes of a text file; None, with a finding, if it cannot be used."""
    try:
        with open_regular(path) as file:
            data = read_bounded(file, yolo.MAX_BYTES)
    except OSError as error:
        findings.append(Finding(path, "D01", reason(error)))
        return None
    if data is None:
        findings.append(Finding(path, "D01", f"more than {yolo.MAX_BYTES} bytes"))
        return None
    if data.startswith(UTF16):
        findings.append(Finding(path, "D01", "UTF-16 text, expected UTF-8"))
        return None
    return data


def whole(path: Path) -> bytes:
    """The bytes of the one file that holds all predictions, without BOM.

    Raises:
        TilerError: it cannot be read, or is too large.
    """
    try:
        return without_bom(read_bytes(path, coco.MAX_BYTES))
    except OSError as error:
        raise TilerError(f"{path}: cannot be read: {reason(error)}") from None


def decoded(data: bytes, kind: type[T], path: str) -> T:
    """JSON, decoded as a type; NaN and Infinity, which Python writes, become strings.

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
            plain = json.dumps(json.loads(data, parse_constant=str))
            return msgspec.json.decode(plain, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError) as error:
        raise TilerError(f"{path}: not JSON of predictions: {str(error)[:200]}") from None


def listed(folder: str, suffix: str, skipped: tuple[str, ...] = ()) -> list[str]:
    """Posix paths of the files below a folder with a suffix, sorted by what stands before it;
    folders with that suffix too, so that they are reported.

    Args:
        skipped: folders right in it that are left out.
    """
    paths: list[str] = []
    for here, folders, names in os.walk(folder):
        below = os.path.relpath(here, folder)
        prefix = below.replace(os.sep, "/") + "/"
        if below == ".":
            prefix = ""
            folders[:] = [name for name in folders if name not in skipped]
        for name in (*names, *folders):
            if name.endswith(suffix) and name != suffix:
                paths.append(prefix + name)
    return sorted(paths, key=lambda path: path.removesuffix(suffix))
