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
from tiler.predictions.plain_results import plain_results
from tiler.predictions.supervision import SinkFile

if TYPE_CHECKING:
    from tiler.predictions.values import Predictions, Reading

MERGED = "predictions_merged_txt"  # Ultralytics' own merge, in the frame of the images
DOTA = "predictions_txt"
BRACES = 20  # an entry may hold masks and keypoints, which have braces of their own


def open_predictions(path: Path, reading: Reading) -> Predictions:
    """The predictions at a path, of any known format; the meaning of their numbers is decided for
    all of them at once.

    Args:
        path: a folder of txt or a run folder that holds one, a JSON or CSV file, or a folder of
            CSV or JSON files.

    Raises:
        TilerError: there are none, or their meaning is ambiguous.
    """
    if os.path.isdir(path):
        return _folder(path, reading)
    if not os.path.exists(path):
        raise TilerError(f"{path}: no such file or folder")
    return _file(path, reading)


def _folder(path: Path, reading: Reading) -> Predictions:
    """The predictions in a folder. In this order: its labels/, its txt files, its one JSON, DOTA's
    files, supervision's.
    """
    folder = str(path)
    results = _results(path)
    shown_results = ", ".join(result.name for result in results)
    labels = os.path.join(folder, "labels")
    names = listed(labels, ".txt")
    if names:
        note = f"; its labels/ are used, {shown_results} is not" if results else ""
        return yolo_folder.open_folder(labels, names, reading, note)
    names = listed(folder, ".txt", (MERGED, DOTA))
    if names:
        return _txt_folder(folder, names, reading)
    if len(results) == 1:
        return _file(results[0], reading)
    if results:
        raise TilerError(f"{folder}: several files of predictions, say which: {shown_results}")
    task1 = os.path.join(folder, DOTA)
    names = listed(task1, ".txt")
    if names:
        return dota.read(task1, names, reading)
    for suffix in (".csv", ".json"):
        names = listed(folder, suffix)
        if names:
            return _sinks(folder, names, suffix, reading)
    raise TilerError(
        f"no predictions found in {folder}: expected .txt files, a predictions.json, or CSV files"
    )


def _txt_folder(folder: str, names: list[str], reading: Reading) -> Predictions:
    if all(os.path.basename(name).startswith(dota.PREFIX) for name in names):
        return dota.read(folder, names, reading)
    return yolo_folder.open_folder(folder, names, reading)


def _results(path: Path) -> list[Path]:
    """The files right in a folder that have a usual name of JSON results."""
    results = []
    for name in sorted(os.listdir(path)):
        usual = "predictions" in name or name in ("result.json", "results.json")
        if name.endswith(".json") and usual:
            results.append(path / name)
    return results


def _file(path: Path, reading: Reading) -> Predictions:
    data = whole(path)
    if data.lstrip()[:1] not in (b"[", b"{"):
        return _csv_file(path, data, reading)
    name = str(path)
    keys = _first_keys(data, name)
    if {*supervision.BOX} <= keys:
        rows = supervision.of_json(data, name)
        return supervision.read([SinkFile(name, "", rows)], reading, [])
    if keys and "image_id" not in keys and "file_name" not in keys:
        raise TilerError(
            f"{name}: expected entries with image_id, category_id, bbox and score, got "
            f"{', '.join(sorted(keys))[:200]}"
        )
    if data.lstrip()[:1] == b"{":
        entries = decoded(data, json_results.Wrapped, name).annotations
        return json_results.read(path, entries, reading, listed=False)
    if reading.task in ("auto", "detect"):
        plain = plain_results(data)
        opened = None if plain is None else json_results.read_plain(path, plain, reading)
        if opened is not None:
            return opened
    entries = decoded(data, list[Entry], name)
    del data  # as large as the file
    return json_results.read(path, entries, reading)


def _csv_file(path: Path, data: bytes, reading: Reading) -> Predictions:
    suffix = path.suffix.lower()
    if suffix == ".csv" or b"x_min" in data[:1000]:
        rows = supervision.of_csv(data, str(path))
        return supervision.read([SinkFile(str(path), "", rows)], reading, [])
    if suffix == ".txt":
        raise TilerError(f"{path}: one txt file is one tile: give the folder that it is in")
    raise TilerError(f"{path}: not predictions: expected JSON, CSV, or a folder of txt")


def _first_keys(data: bytes, path: str) -> set[str]:
    """The keys of the first entry of a JSON; none if it has no entries."""
    keys = _keys_of_first_object(data)
    if keys is not None:
        return keys
    if data.lstrip()[:1] == b"{":
        entries = decoded(data, json_results.WrappedRaw, path).annotations
    else:
        entries = decoded(data, list[msgspec.Raw], path)
    if not entries:
        return set()
    return {*decoded(bytes(entries[0]), dict[str, msgspec.Raw], path)}


def _keys_of_first_object(data: bytes) -> set[str] | None:
    """The keys of the first object of a list, without reading on; None if that does not tell.

    The text from an opening brace on is JSON only as a whole: its end is the first closing brace
    up to which it can be decoded.
    """
    start = re.match(rb"\s*\[\s*(?=\{)", data)
    if start is None:
        return None
    end = start.end()
    for _ in range(BRACES):
        end = data.find(b"}", end) + 1
        if not end:
            break
        text = data[start.end() : end]
        try:
            return {*msgspec.json.decode(text, type=dict[str, msgspec.Raw])}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
    return None


def _sinks(folder: str, names: list[str], suffix: str, reading: Reading) -> Predictions:
    """The files of supervision's sinks, one for each tile."""
    parse = supervision.of_csv if suffix == ".csv" else supervision.of_json
    findings: list[Finding] = []
    files = []
    for name in names:
        path = os.path.join(folder, *name.split("/"))
        data = content(path, findings)
        if data is None or not data.strip():
            continue
        try:
            rows = parse(data, path)
        except TilerError as error:
            message = str(error).removeprefix(printable(path)).lstrip(": ")
            findings.append(Finding(path, "D01", message))
        else:
            files.append(SinkFile(path, name.removesuffix(suffix), rows))
    if not files:
        raise TilerError(
            f"no predictions found in {folder}: none of {len(names)} {suffix} files can be read"
        )
    return supervision.read(files, reading, findings)
