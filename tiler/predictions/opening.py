"""Which predictions a path holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import plain_yaml
from tiler.predictions import content_folder, detector_files, detector_text, dota, yolo_folder
from tiler.predictions.content_folder import SUFFIXES
from tiler.predictions.detector_files import DetectorFile, DetectorFormat
from tiler.predictions.files import content, listed, whole
from tiler.predictions.recognising import DARKNET_TEXT, KITTI, PICKLED, recognised

if TYPE_CHECKING:
    from tiler.predictions.values import Predictions, Reading

MERGED = "predictions_merged_txt"  # Ultralytics' own merge, in the frame of the images
DOTA = "predictions_txt"
# of labelling tools, which put one beside the tiles' files
CLASS_LISTS = {"classes.txt", "labels.txt", "predefined_classes.txt", "obj.names.txt"}
LONGEST_LIST = 1_000_000  # bytes
PICKLES = (".pkl", ".pickle", ".pth", ".pt", ".npy", ".npz")


def open_predictions(path: Path, reading: Reading, tiled: bool = False) -> Predictions:
    """The predictions at a path, of any known format; the meaning of their numbers is decided for
    all of them at once.

    Args:
        path: a folder of txt or a run folder that holds one; a file that holds a detector's JSON,
            CSV, XML or text, or a folder of these.
        tiled: a manifest names the tiles, so that a run without any prediction says that nothing
            was detected.

    Raises:
        TilerError: there are none, or their meaning is ambiguous.
    """
    if os.path.isdir(path):
        return _folder(path, reading, tiled)
    if not os.path.exists(path):
        raise TilerError(f"{path}: no such file or folder")
    return _file(path, reading)


def _folder(path: Path, reading: Reading, tiled: bool) -> Predictions:
    """The predictions in a folder. In this order: its labels/, its txt files, its one JSON of a
    usual name, DOTA's files, those that are told by their content.
    """
    folder = str(path)
    results = _results(path)
    shown_results = ", ".join(result.name for result in results)
    labels = os.path.join(folder, "labels")
    names = _without_class_lists(labels, listed(labels, ".txt"))
    if names:
        note = f"; its labels/ are used, {shown_results} is not" if results else ""
        return yolo_folder.open_folder(labels, names, reading, note)
    names = _without_class_lists(folder, listed(folder, ".txt", (MERGED, DOTA)))
    suffixes = [*SUFFIXES, *map(str.upper, SUFFIXES)]
    others = sorted(name for suffix in suffixes for name in listed(folder, suffix))
    if names:
        _require_one_kind(folder, names, others)
        note = f"; {shown_results} is not used" if results else ""
        return _txt_folder(folder, names, reading, note)
    if len(results) == 1:
        return _file(results[0], reading)
    if results:
        return content_folder.read(folder, [result.name for result in results], reading)
    task1 = os.path.join(folder, DOTA)
    names = listed(task1, ".txt")
    if names:
        return dota.read(task1, names, reading)
    if others:
        return content_folder.read(folder, others, reading)
    if _nothing_detected(path, tiled):
        return yolo_folder.open_folder(labels, [], reading, ": nothing was detected")
    raise TilerError(_none_in(path))


def _without_class_lists(folder: str, names: list[str]) -> list[str]:
    """The txt files of a folder that may be those of tiles: a classes.txt that holds names, one a
    line, is none.
    """
    return [name for name in names if not _lists_classes(folder, name)]


def _lists_classes(folder: str, name: str) -> bool:
    if os.path.basename(name).lower() not in CLASS_LISTS:
        return False
    data = content(os.path.join(folder, *name.split("/")), [])
    if data is None or len(data) > LONGEST_LIST:
        return False
    return detector_text.is_class_list(data)


def _none_in(path: Path) -> str:
    """Why there are no predictions in a folder."""
    for name in sorted(os.listdir(path)):
        if name.lower().endswith(PICKLES):
            return f"no predictions found in {path}: {name} {PICKLED}"
    message = (
        f"no predictions found in {path}: expected .txt files, a predictions.json, or JSON, CSV "
        "or XML files"
    )
    if os.path.isdir(path / "labels"):
        return f"{message}; if nothing was detected in any tile, --tiles says which these are"
    return message


def _nothing_detected(path: Path, tiled: bool) -> bool:
    """Whether a folder without predictions is that of a run that has detected nothing, rather than
    another folder.

    Raises:
        TilerError: the run was not asked to write its predictions.
    """
    args = path / "args.yaml"
    if os.path.isfile(args):
        if str(plain_yaml.load(args).get("save_txt")).lower() == "false":
            raise TilerError(
                f"no predictions found in {path}: its args.yaml has save_txt: false; predict again "
                "with save_txt=True save_conf=True"
            )
        return True
    return tiled and os.path.isdir(path / "labels")


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
            files.append(DetectorFile(path, name.removesuffix(".txt"), known.entries(data, path)))
        if known.whole_run:
            return content_folder.one_run(folder, known, files, reading, note)
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
        return content_folder.results_in(path, data, reading)
    found = known.entries(data, name)
    key = "" if known.names_images else path.stem
    return detector_files.read(known, [DetectorFile(name, key, found)], reading)


def _require_several(path: Path, data: bytes) -> None:
    """Reject one txt file of a folder of many."""
    lone = path.suffix.lower() == ".txt" and data.lstrip()[:1] not in (b"[", b"{", b"<")
    if lone and not detector_text.is_darknet(data) and b"x_min" not in data[:1000]:
        raise TilerError(f"{path}: one txt file is one tile: give the folder that it is in")
