"""What `score` is called with: options, predictions, and what `tiler merge` recorded of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from tiler.datasets import tile_tables
from tiler.errors import TilerError
from tiler.formats import plain_yaml, provenance
from tiler.formats.input_paths import located
from tiler.options import ReadingOptions, ScoreOptions
from tiler.options.values import path

CLASSES = ("classes", "map_classes")
READING = {item.name for item in fields(ReadingOptions)}


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """What `tiler merge` wrote down in its args.yaml.

    Attributes:
        preds: the predictions on tiles; None: not known.
        tiles: the manifest of the tiles, if it is still there.
        reading: how predictions on tiles are read; options that are given now win.
    """

    preds: Path | None
    tiles: Path | None
    reading: ReadingOptions

    @classmethod
    def of(cls, preds: Path | None, given: Mapping[str, Any]) -> MergeRecord:
        """The record beside merged predictions; an empty one for others.

        Raises:
            TilerError: it is no args.yaml of tiler merge.
        """
        if (
            preds is None
            or provenance.of_output(preds) is None
            or not (preds / "args.yaml").is_file()
        ):
            return cls(None, None, ReadingOptions.of(dict(given)))
        file = preds / "args.yaml"
        content = plain_yaml.load(file)
        recorded = {name: value for name, value in content.items() if name in READING}
        places = located(content, file)
        tiles = places.get("tiles")
        if tiles is not None and (not tiles.is_file() or tile_tables.is_table(tiles)):
            tiles = None
        try:
            # classes that are given now are about what was merged, those of the record before it
            reading = ReadingOptions.of({**recorded, **_without_classes(given)})
        except TilerError as error:
            raise TilerError(f"{file}: {error}") from None
        return cls(places.get("preds"), tiles, reading)


def _without_classes(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in CLASSES}


def parsed(
    options: Mapping[str, Any], preds: Path | None
) -> tuple[ScoreOptions, ReadingOptions, MergeRecord]:
    """The options of scoring, those of reading, and those that a merge was called with.

    Raises:
        TilerError: an unknown option, or a value that it cannot have.
    """
    scoring = {}
    reading = {}
    for name, value in options.items():
        if name in READING:
            reading[name] = value
        else:
            scoring[name] = value
    return ScoreOptions.of(scoring), ReadingOptions.of(reading), MergeRecord.of(preds, reading)


def predictions_path(preds: Any) -> Path | None:
    """Where predictions lie; None for those in memory. What `merge` wrote is read from there, all
    at once.
    """
    if isinstance(preds, str | Path):
        return path(preds, "preds")
    report = getattr(preds, "report", None)
    out = getattr(report, "out", "")
    return Path(out) if out else None


def predictions(preds: Any) -> Path | Mapping[str, Any]:
    """Predictions as a path that exists, or in memory by image.

    Raises:
        TilerError: they are neither.
    """
    file = predictions_path(preds)
    if file is None:
        return _by_image(preds)
    require_existing(file, str(file))
    return file


def require_existing(file: Path, shown: str) -> None:
    """Raises:
    TilerError: there is no such file.
    """
    if not os.path.exists(file):
        raise TilerError(f"{shown}: no such file or folder")


def _by_image(preds: Any) -> Mapping[str, Any]:
    """Detections in memory by image; Ultralytics' results name their image themselves."""
    if isinstance(preds, Mapping) or hasattr(preds, "sizes"):
        return cast("Mapping[str, Any]", preds)
    if isinstance(preds, list | tuple) and preds:
        by_path = {getattr(result, "path", None): result for result in preds}
        if all(isinstance(path, str) for path in by_path):
            return cast("Mapping[str, Any]", by_path)
    found = type(preds).__name__
    raise TilerError(
        f"predictions are a path, what tiler.merge returns, or detections by image; got {found}"
    )
