"""Which predictions a path holds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tiler.errors import TilerError, printable
from tiler.findings import Finding
from tiler.predictions import dota, json_results, supervision, yolo_folder
from tiler.predictions.entries import Entry
from tiler.predictions.files import content, decoded, listed, whole

if TYPE_CHECKING:
    from tiler.predictions.values import Predictions, Reading

MERGED = "predictions_merged_txt"  # Ultralytics' own merge, in the frame of the images
DOTA = "predictions_txt"
BRACES = 20  # an entry may hold masks and keypoints, which have braces of their own


def open_predictions(path: Path, reading: Reading) -> Predictions:
    """The predictions at a path, whatever wrote them; what their numbers mean is decided for all of
    them at once.

    Args:
        path: a folder of txt or a run folder that holds one, a JSON or CSV file, or a folder of
            such.

    Raises:
        TilerError: there are none, or what they mean cannot be told.
    """
    shown = str(path)
    if os.path.isdir(path):
        return _folder(path, reading)
    if not os.path.exists(path):
        raise TilerError(f"{shown}: no such file or folder")
    return _file(path, reading)


def _folder(path: Path, reading: Reading) -> Predictions:
    folder = str(path)
    inner = os.path.join(folder, "labels")
    if names := listed(inner, ".txt"):
        others = ", ".join(p.name for p in _results(path))
        return yolo_folder.open_folder(
            inner, names, reading, f"; its labels/ are taken, {others} is not" if others else ""
        )
    found = _results(path)
    names = listed(folder, ".txt", (MERGED, DOTA))
    if names:
        is_dota = all(os.path.basename(name).startswith(dota.PREFIX) for name in names)
        return (
            dota.read(folder, names, reading)
            if is_dota
            else yolo_folder.open_folder(folder, names, reading)
        )
    if len(found) == 1:
        return _file(found[0], reading)
    if len(found) > 1:
        raise TilerError(
            f"{folder}: several files of predictions, say which: {', '.join(p.name for p in found)}"
        )
    inner = os.path.join(folder, DOTA)
    if names := listed(inner, ".txt"):
        return dota.read(inner, names, reading)
    for suffix in (".csv", ".json"):
        if names := listed(folder, suffix):
            return _sinks(folder, names, suffix, reading)
    raise TilerError(
        f"no predictions found in {folder}: expected .txt files, a predictions.json, or CSV files"
    )


def _results(path: Path) -> list[Path]:
    """Files right in a folder that are called what results are called."""
    names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
    return [
        path / name
        for name in names
        if "predictions" in name or name in ("result.json", "results.json")
    ]


def _file(path: Path, reading: Reading) -> Predictions:
    shown = str(path)
    data = whole(path)
    if data.lstrip()[:1] not in (b"[", b"{"):
        if path.suffix.lower() == ".csv" or b"x_min" in data[:1000]:
            return supervision.read([(str(path), "", supervision.of_csv(data, shown))], reading, [])
        if path.suffix.lower() == ".txt":
            raise TilerError(f"{shown}: one txt file is one tile: give the folder that it is in")
        raise TilerError(f"{shown}: not predictions: expected JSON, CSV, or a folder of txt")
    keys = _first(data, shown)
    if {*supervision.BOX} <= keys:
        return supervision.read([(str(path), "", supervision.of_json(data, shown))], reading, [])
    if keys and "image_id" not in keys and "file_name" not in keys:
        raise TilerError(
            f"{shown}: expected entries with image_id, category_id, bbox and score, got "
            f"{', '.join(sorted(keys))[:200]}"
        )
    if data.lstrip()[:1] == b"{":
        return json_results.read(
            path, decoded(data, json_results.Wrapped, shown).annotations, reading, listed=False
        )
    entries = decoded(data, list[Entry], shown)
    del data  # as large as the file
    return json_results.read(path, entries, reading)


def _first(data: bytes, shown: str) -> set[str]:
    """What the first entry of a JSON has."""
    keys = _at_a_glance(data)
    if keys is not None:
        return keys
    if data.lstrip()[:1] == b"{":
        entries = decoded(data, json_results.WrappedRaw, shown).annotations
    else:
        entries = decoded(data, list[msgspec.Raw], shown)
    return (
        {str(key) for key in decoded(bytes(entries[0]), dict[str, msgspec.Raw], shown)}
        if entries
        else set()
    )


def _at_a_glance(data: bytes) -> set[str] | None:
    """The same of a list, without reading on; None where that does not tell.

    Of JSON that starts with a brace nothing but the whole is JSON: the first brace that
    closes such is its end.
    """
    start = re.match(rb"\s*\[\s*(?=\{)", data)
    end = 0 if start is None else start.end()
    for _ in range(BRACES):
        end = data.find(b"}", end) + 1
        if start is None or not end:
            break
        try:
            return set(msgspec.json.decode(data[start.end() : end], type=dict[str, msgspec.Raw]))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
    return None


def _sinks(folder: str, names: list[str], suffix: str, reading: Reading) -> Predictions:
    """supervision's files, one a tile."""
    findings: list[Finding] = []
    files = []
    for name in names:
        path = os.path.join(folder, *name.split("/"))
        data = content(path, findings)
        if data is None or not data.strip():
            continue
        try:
            rows = (supervision.of_csv if suffix == ".csv" else supervision.of_json)(data, path)
        except TilerError as error:
            findings.append(
                Finding(path, "D01", str(error).removeprefix(printable(path)).lstrip(": "))
            )
            continue
        files.append((path, name.removesuffix(suffix), rows))
    if not files:
        raise TilerError(
            f"no predictions found in {folder}: none of {len(names)} {suffix} files can be read"
        )
    return supervision.read(files, reading, findings)
