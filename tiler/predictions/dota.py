"""DOTA's Task1 files: one a class, `image score x1 y1 ... x4 y4` a line."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, condensed
from tiler.formats.text_files import lenient_text
from tiler.predictions.files import content
from tiler.predictions.records import RecordFile, Records, by_key, image_key
from tiler.predictions.values import Reading

PREFIX = "Task1_"


def read(folder: str, names: Sequence[str], reading: Reading) -> RecordFile:
    """The detections in files `Task1_<class>.txt` of a folder; rows are counted over all of them.

    Raises:
        TilerError: another task was asked for.
    """
    if reading.task not in ("auto", "obb"):
        raise TilerError(f"{folder}: files {PREFIX}<class>.txt hold obb, got --task {reading.task}")
    findings: list[Finding] = []
    paths = [os.path.join(folder, *name.split("/")) for name in names]
    labels = [os.path.basename(name).removeprefix(PREFIX).removesuffix(".txt") for name in names]
    known = (
        {}
        if reading.names is None
        else {name.replace(" ", "-"): i for i, name in enumerate(reading.names)}
    )
    keys: list[str] = []
    places: list[tuple[int, int, int]] = []  # row, file, line
    numbers: list[list[float]] = []  # class, score, corners
    faults: dict[int, tuple[str, str]] = {}
    row = 0
    for file, (path, label) in enumerate(zip(paths, labels, strict=True)):
        index = file if reading.names is None else known.get(label.replace(" ", "-"))
        data = content(path, findings) or b""
        for line, text in enumerate(lenient_text(data).splitlines(), 1):
            words = text.rsplit(None, 9)
            if not words:
                continue
            row += 1
            if len(words) < 10:
                message = f"expected an image, a score and 8 coordinates, got {len(words)} values"
                findings.append(Finding(path, "D03", message, line))
                continue
            values = [np.nan] * 9
            try:
                values = [float(word) for word in words[1:]]
            except ValueError:
                faults[len(keys)] = "D02", f"found '{' '.join(words[1:])[:60]}', expected 9 numbers"
            if index is None:
                faults[len(keys)] = "D04", f"no class is named {label}{did_you_mean(label, known)}"
            keys.append(image_key(words[0].strip()))
            places.append((row - 1, file, line))
            numbers.append([np.nan if index is None else float(index), *values])
    at = np.array(places, np.int64).reshape(-1, 3)
    columns = np.array(numbers, np.float64).reshape(-1, 10)
    records = Records(
        at[:, 0], at[:, 1], at[:, 2], columns[:, 0], columns[:, 1], columns[:, 2:], faults=faults
    )
    found, counts, ordered = by_key(keys, records)
    said = "" if reading.names is not None else ", classes in the order of the files"
    kind = f"DOTA Task1, obb{said}: {len(paths)} files, {row} rows"
    return RecordFile(
        kind,
        "obb",
        found,
        counts,
        condensed(findings),
        ordered,
        paths,
        reading.classes,
        exact=reading.exact,
    )
