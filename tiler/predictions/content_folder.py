"""A folder of files that are told by their content: JSON, CSV, XML of detectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import TilerError, printable
from tiler.findings import Finding, because, inside
from tiler.formats.text_files import UTF16
from tiler.predictions import detector_files, json_results
from tiler.predictions.detector_files import DetectorFile, DetectorFormat, FileEntries
from tiler.predictions.entries import Entry
from tiler.predictions.files import decoded, whole
from tiler.predictions.plain_results import plain_results
from tiler.predictions.recognising import COCO, EMPTY, recognised

if TYPE_CHECKING:
    from tiler.predictions.records import RecordFile
    from tiler.predictions.values import Predictions, Reading

SUFFIXES = (".csv", ".json", ".xml")


def results_in(path: Path, data: bytes, reading: Reading) -> RecordFile:
    """The COCO results in the bytes of a file."""
    if data.lstrip()[:1] == b"{":
        entries = decoded(data, json_results.Wrapped, str(path)).annotations
        return json_results.read(path, entries, reading, listed=False)
    if reading.task in ("auto", "detect"):
        plain = plain_results(data)
        opened = None if plain is None else json_results.read_plain(path, plain, reading)
        if opened is not None:
            return opened
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
                file = DetectorFile(path, key, known.entries(data, path))
                self.files.setdefault((known, suffix.lower()), []).append(file)
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


def read(folder: str, names: list[str], reading: Reading) -> Predictions:
    """The predictions in these files of a folder.

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
        if len(found.results) > 1:
            return _all_results(folder, found, reading)
        empty = [Path(file.path) for file in found.empty]
        return _one_results(folder, sorted([*found.results, *empty]), reading, note)
    if not found.files and not found.empty:
        raise TilerError(_none_read(folder, names, found.findings))
    known, files = EMPTY, found.empty
    if found.files:
        ((known, _), of_format) = next(iter(found.files.items()))
        files = sorted([*of_format, *found.empty], key=lambda file: file.path)
    if known.whole_run:
        return one_run(folder, known, files, reading, note)
    return detector_files.read(known, files, reading, found.findings)


def _one_results(folder: str, results: list[Path], reading: Reading, note: str) -> Predictions:
    if len(results) > 1:
        raise TilerError(_several(folder, [result.name for result in results]))
    path = results[0]
    found = results_in(path, whole(path), reading)
    return replace(found, kind=found.kind + note)


def _all_results(folder: str, found: _ContentFiles, reading: Reading) -> Predictions:
    """COCO results in several files, each for images of its own.

    Raises:
        TilerError: two of them have detections in one image.
    """
    files = [*found.empty]
    owners: dict[str, str] = {}
    for path in found.results:
        entries = COCO.entries(whole(path), str(path))
        for name in {repr(entry.file_name or entry.image_id) for entry in entries.entries}:
            if owners.setdefault(name, path.name) != path.name:
                raise TilerError(_several(folder, [owners[name], path.name]))
        files.append(DetectorFile(str(path), "", entries))
    return detector_files.read(COCO, files, reading, found.findings)


def one_run(
    folder: str, known: DetectorFormat, files: list[DetectorFile], reading: Reading, note: str
) -> Predictions:
    """The predictions in the one file of a format that holds all tiles.

    Raises:
        TilerError: there are several.
    """
    if len(files) > 1:
        raise TilerError(_several(folder, [os.path.basename(file.path) for file in files]))
    return detector_files.read(known, files, reading, note=note)


def _several(folder: str, names: Sequence[str]) -> str:
    return f"{folder}: several files of predictions, say which: {', '.join(names)}"


def _none_read(folder: str, names: Sequence[str], findings: Sequence[Finding]) -> str:
    """Why no file of a folder can be read."""
    reasons = [replace(finding, path=inside(finding.path, folder)) for finding in findings]
    message = f"no predictions found in {folder}: none of {len(names)} files can be read"
    return message + because(reasons, 2)
