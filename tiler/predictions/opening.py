"""Which predictions a path holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import TilerError, printable
from tiler.findings import Finding
from tiler.formats.text_files import UTF16
from tiler.predictions import detector_files, detector_text, dota, json_results, yolo_folder
from tiler.predictions.detector_files import DetectorFile, DetectorFormat, FileEntries
from tiler.predictions.entries import Entry
from tiler.predictions.files import content, decoded, listed, whole
from tiler.predictions.recognising import DARKNET_TEXT, EMPTY, KITTI, PICKLED, recognised

if TYPE_CHECKING:
    from tiler.predictions.records import RecordFile
    from tiler.predictions.values import Predictions, Reading

MERGED = "predictions_merged_txt"  # Ultralytics' own merge, in the frame of the images
DOTA = "predictions_txt"
SUFFIXES = (".csv", ".json", ".xml")  # of files that are told by their content
CLASS_LISTS = {"classes.txt", "labels.txt", "obj.names.txt"}  # of labelling tools
PICKLES = (".pkl", ".pickle", ".pth", ".pt", ".npy", ".npz")


def open_predictions(path: Path, reading: Reading) -> Predictions:
    """The predictions at a path, of any known format; the meaning of their numbers is decided for
    all of them at once.

    Args:
        path: a folder of txt or a run folder that holds one; a file that holds a detector's JSON,
            CSV, XML or text, or a folder of these.

    Raises:
        TilerError: there are none, or their meaning is ambiguous.
    """
    if os.path.isdir(path):
        return _folder(path, reading)
    if not os.path.exists(path):
        raise TilerError(f"{path}: no such file or folder")
    return _file(path, reading)


def _folder(path: Path, reading: Reading) -> Predictions:
    """The predictions in a folder. In this order: its labels/, its txt files, its one JSON of a
    usual name, DOTA's files, those that are told by their content.
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
    others = sorted(name for suffix in SUFFIXES for name in listed(folder, suffix))
    if names and not (others and {*map(os.path.basename, names)} <= CLASS_LISTS):
        _require_one_kind(folder, names, others)
        note = f"; {shown_results} is not used" if results else ""
        return _txt_folder(folder, names, reading, note)
    if len(results) == 1:
        return _file(results[0], reading)
    if results:
        return _by_content(folder, [result.name for result in results], reading)
    task1 = os.path.join(folder, DOTA)
    names = listed(task1, ".txt")
    if names:
        return dota.read(task1, names, reading)
    if others:
        return _by_content(folder, others, reading)
    pickles = [name for suffix in PICKLES for name in listed(folder, suffix)]
    if pickles:
        raise TilerError(f"{os.path.join(folder, pickles[0])}: {PICKLED}")
    raise TilerError(
        f"no predictions found in {folder}: expected .txt files, a predictions.json, or JSON, CSV "
        "or XML files"
    )


def _require_one_kind(folder: str, names: list[str], others: list[str]) -> None:
    """Reject a folder in which a tile has a txt file and another one of the same name."""
    by_stem = {os.path.splitext(name)[0]: name for name in others}
    for name in names:
        other = by_stem.get(name.removesuffix(".txt"))
        if other is not None:
            raise TilerError(
                f"{folder}: predictions in several formats, give the files of one: {name}, {other}"
            )


def _txt_folder(folder: str, names: list[str], reading: Reading, note: str) -> Predictions:
    if all(os.path.basename(name).startswith(dota.PREFIX) for name in names):
        return dota.read(folder, names, reading)
    known = _text_format(folder, names)
    if known is not None:
        findings: list[Finding] = []
        files = []
        for name in names:
            path = os.path.join(folder, *name.split("/"))
            data = content(path, findings) or b""
            files.append(DetectorFile(path, name.removesuffix(".txt"), known.parse(data, path)))
        if known.whole_run:
            return _one_run(folder, known, files, reading, note)
        return detector_files.read(known, files, reading, findings, note)
    return yolo_folder.open_folder(folder, names, reading, note)


def _text_format(folder: str, names: Sequence[str]) -> DetectorFormat | None:
    """The format of txt by the first file that is not blank; None for YOLO's."""
    for name in names:
        data = content(os.path.join(folder, *name.split("/")), []) or b""
        if not data.strip():
            continue
        if detector_text.is_darknet(data):
            return DARKNET_TEXT
        return KITTI if detector_text.is_kitti(data) else None
    return None


def _results(path: Path) -> list[Path]:
    """The files right in a folder that have a usual name of JSON results."""
    results = []
    for name in sorted(os.listdir(path)):
        usual = "predictions" in name or name in ("result.json", "results.json")
        if name.endswith(".json") and usual:
            results.append(path / name)
    return results


def _file(path: Path, reading: Reading) -> Predictions:
    name = str(path)
    data = whole(path)
    _require_several(path, data)
    known = recognised(data, name)
    if known is None:
        return _results_in(path, data, reading)
    found = known.parse(data, name)
    key = "" if known.names_images else path.stem
    return detector_files.read(known, [DetectorFile(name, key, found)], reading)


def _require_several(path: Path, data: bytes) -> None:
    """Reject one txt file of a folder of many."""
    lone = path.suffix.lower() == ".txt" and data.lstrip()[:1] not in (b"[", b"{", b"<")
    if lone and not detector_text.is_darknet(data) and b"x_min" not in data[:1000]:
        raise TilerError(f"{path}: one txt file is one tile: give the folder that it is in")


def _results_in(path: Path, data: bytes, reading: Reading) -> RecordFile:
    """COCO results."""
    if data.lstrip()[:1] == b"{":
        entries = decoded(data, json_results.Wrapped, str(path)).annotations
        return json_results.read(path, entries, reading, listed=False)
    entries = decoded(data, list[Entry], str(path))
    del data  # as large as the file
    return json_results.read(path, entries, reading)


@dataclass(slots=True, eq=False)
class _ContentFiles:
    """The files of a folder that are told by their content.

    Attributes:
        files: those of each detector's format, by the format and the suffix.
        results: paths of COCO results.
        empty: files that hold a list without entries.
        findings: about the others.
    """

    files: dict[tuple[DetectorFormat, str], list[DetectorFile]] = field(default_factory=dict)
    results: list[Path] = field(default_factory=list)
    empty: list[DetectorFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, folder: str, name: str) -> None:
        """Read a file as what it is; one that cannot be read becomes a finding."""
        path = os.path.join(folder, *name.split("/"))
        key, suffix = os.path.splitext(name)
        try:
            data = whole(Path(path))
            if data.startswith(UTF16):
                raise TilerError(f"{path}: UTF-16 text, expected UTF-8")
            if not data.strip():
                return
            known = recognised(data, path)
            if known is not None:
                read = DetectorFile(path, key, known.parse(data, path))
                self.files.setdefault((known, suffix), []).append(read)
            elif data.lstrip()[1:].lstrip()[:1] == b"]":
                self.empty.append(DetectorFile(path, key, FileEntries()))
            else:
                self.results.append(Path(path))
        except TilerError as error:
            message = str(error).removeprefix(printable(path)).lstrip(": ")
            self.findings.append(Finding(path, "D01", message))

    def described(self) -> list[str]:
        """What there is of each format, in words."""
        kinds = []
        for (known, suffix), files in self.files.items():
            kinds.append(_described(f"{known.title} ({suffix})", [file.path for file in files]))
        if self.results:
            kinds.append(_described("COCO results", [*map(str, self.results)]))
        return kinds


def _described(title: str, paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{title}: {os.path.basename(paths[0])}{more}"


def _by_content(folder: str, names: list[str], reading: Reading) -> Predictions:
    """The predictions in files that are told by their content.

    Raises:
        TilerError: there are none, or they are of several formats.
    """
    found = _ContentFiles()
    for name in names:
        found.add(folder, name)
    kinds = found.described()
    if len(kinds) > 1:
        raise TilerError(
            f"{folder}: predictions in several formats, give the files of one: {'; '.join(kinds)}"
        )
    unused = ", ".join(os.path.basename(finding.path) for finding in found.findings)
    note = f"; not used: {unused[:200]}" if unused else ""
    if found.results:
        empty = [Path(file.path) for file in found.empty]
        return _one_results(folder, sorted([*found.results, *empty]), reading, note)
    if not found.files and not found.empty:
        raise TilerError(_none_read(folder, names, found.findings))
    known, files = EMPTY, found.empty
    if found.files:
        ((known, _), of_format) = next(iter(found.files.items()))
        files = sorted([*of_format, *found.empty], key=lambda file: file.path)
    if known.whole_run:
        return _one_run(folder, known, files, reading, note)
    return detector_files.read(known, files, reading, found.findings)


def _one_results(folder: str, results: list[Path], reading: Reading, note: str) -> Predictions:
    if len(results) > 1:
        raise TilerError(_several(folder, [result.name for result in results]))
    path = results[0]
    read = _results_in(path, whole(path), reading)
    return replace(read, kind=read.kind + note)


def _one_run(
    folder: str, known: DetectorFormat, files: list[DetectorFile], reading: Reading, note: str
) -> Predictions:
    if len(files) > 1:
        raise TilerError(_several(folder, [os.path.basename(file.path) for file in files]))
    return detector_files.read(known, files, reading, note=note)


def _several(folder: str, names: Sequence[str]) -> str:
    return f"{folder}: several files of predictions, say which: {', '.join(names)}"


def _none_read(folder: str, names: Sequence[str], findings: Sequence[Finding]) -> str:
    """Why no file of a folder can be read."""
    message = f"no predictions found in {folder}: none of {len(names)} files can be read"
    if not findings:
        return message
    first = findings[0]
    return f"{message}; {os.path.basename(first.path)}: {first.message}"
