"""dataset.yaml: every form that the trainer accepts (Ultralytics 8.4.190, `data/utils.py`).

Where the trainer depends on the working directory, more places are tried and the one
that was found is named. `download:` is never run.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, short
from tiler.formats import plain_yaml
from tiler.formats.text_files import read_bytes
from tiler.types import SPLITS

MAX_CLASSES = 100_000
NAMES = ("dataset.yaml", "data.yaml")
KEYS = (
    "path",
    "train",
    "val",
    "test",
    "minival",
    "names",
    "nc",
    "channels",
    "kpt_shape",
    "flip_idx",
    "download",
)


@dataclass(frozen=True, slots=True)
class DatasetYaml:
    """What a dataset.yaml says, checked.

    Attributes:
        file: the YAML itself.
        root: the folder that the splits were resolved under.
        names: class names; their position is the class id.
        splits: for each split its entries, resolved: folders, or text lists of images.
        kpt_shape: keypoints and values each (2 or 3), of pose sets.
        flip_idx: the keypoint that each becomes when mirrored.
        channels: bands an image, when the YAML says so.
        findings: what was noticed.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[Path, ...]]
    kpt_shape: tuple[int, int] | None = None
    flip_idx: tuple[int, ...] | None = None
    channels: int | None = None
    findings: tuple[Finding, ...] = ()


def find(data: Path) -> Path:
    """The YAML that is meant: the file itself, or the one in a folder.

    Raises:
        TilerError: no such file, or a folder with none or several.
    """
    shown = str(data)
    if not os.path.isdir(data):
        if not _exists(data):
            raise TilerError(f"{shown}: no such file or folder")
        return data
    for name in NAMES:
        if os.path.isfile(data / name):
            return data / name
    found = sorted(
        p for p in data.iterdir() if p.suffix.lower() in (".yaml", ".yml") and p.is_file()
    )
    if len(found) == 1:
        return found[0]
    listed = ", ".join(p.name for p in found) or "none"
    raise TilerError(f"{shown}: expected a dataset.yaml in this folder, found {listed}")


def read(data: Path) -> DatasetYaml:
    """Read and check a dataset.yaml, or the one in a folder.

    Raises:
        TilerError: what is wrong, in one line.
    """
    file = find(data)
    content = plain_yaml.load(file)
    if "val" not in content and "validation" in content:
        content["val"] = content.pop("validation")
    shown = str(file)
    entries = _entries(content, shown)
    names = _names(content, shown)
    root, splits, missing = _resolve(file, content.get("path"), entries, shown)
    label = file.name
    findings = [
        Finding(label, "Y01", f"split {name}: no such file or folder: {path}")
        for name, path in missing
    ]
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    findings += [
        Finding(label, "Y02", f"class name {name!r} stands for several classes") for name in doubled
    ]
    if "val" not in entries:
        findings.append(Finding(label, "Y03", "no val split, which the trainer needs"))
    kpt_shape = _ints(content, "kpt_shape", shown)
    if kpt_shape is not None and (
        len(kpt_shape) != 2 or kpt_shape[0] < 1 or kpt_shape[1] not in (2, 3)
    ):
        raise TilerError(
            f"{shown}: kpt_shape is [number of keypoints, 2 or 3], got {list(kpt_shape)}"
        )
    flip_idx = _ints(content, "flip_idx", shown)
    if kpt_shape and flip_idx is not None and sorted(flip_idx) != list(range(kpt_shape[0])):
        raise TilerError(
            f"{shown}: flip_idx names each of the {kpt_shape[0]} keypoints once, got "
            f"{list(flip_idx)}"
        )
    channels = (
        None if content.get("channels") is None else _int(content["channels"], f"{shown}: channels")
    )
    shape = None if kpt_shape is None else (kpt_shape[0], kpt_shape[1])
    return DatasetYaml(file, root, names, splits, shape, flip_idx, channels, tuple(findings))


def _entries(content: dict[str, Any], shown: str) -> dict[str, list[str]]:
    """The split keys that are set, each a list of texts."""
    entries = {}
    for split in SPLITS:
        value = content.get(split)
        if value is None:
            continue
        items = value if isinstance(value, list) else [value]
        if (
            not items
            or not all(isinstance(item, str) and item for item in items)
            or any("\0" in i for i in items)
        ):
            raise TilerError(f"{shown}: {split} is a path or a list of paths, got {short(value)}")
        entries[split] = items
    if "train" not in entries and "val" not in entries:
        hints = "".join(did_you_mean(key, SPLITS) for key in content if key not in KEYS)
        raise TilerError(f"{shown}: no train or val split{hints}")
    return entries


def _names(content: dict[str, Any], shown: str) -> tuple[str, ...]:
    names, nc = content.get("names"), content.get("nc")
    count = None if nc is None else _int(nc, f"{shown}: nc")
    if names is None:
        if count is None:
            raise TilerError(
                f"{shown}: names (or nc) is "
                f"missing{''.join(did_you_mean('names', [k]) for k in content)}"
            )
        if not 0 < count <= MAX_CLASSES:
            raise TilerError(f"{shown}: nc is {count}, expected 1 to {MAX_CLASSES}")
        return tuple(f"class_{i}" for i in range(count))
    if isinstance(names, dict):
        keys = [_int(key, f"{shown}: a key of names") for key in names]
        if sorted(keys) != list(range(len(keys))):
            raise TilerError(
                f"{shown}: names has the keys {sorted(keys)[:20]}, expected 0 to {len(keys) - 1} "
                "without gap"
            )
        names = [
            name
            for _, name in sorted(zip(keys, names.values(), strict=True), key=lambda pair: pair[0])
        ]
    if not isinstance(names, list) or not names:
        raise TilerError(
            f"{shown}: names is a list or a mapping of class names, got {short(names)}"
        )
    if len(names) > MAX_CLASSES:
        raise TilerError(f"{shown}: names has {len(names)} classes, expected at most {MAX_CLASSES}")
    for i, name in enumerate(names):
        if name is not None and not isinstance(name, str):
            raise TilerError(f"{shown}: names: class {i} is a {type(name).__name__}, expected text")
    if count is not None and count != len(names):
        raise TilerError(f"{shown}: nc is {count}, but names has {len(names)} classes")
    return tuple("null" if name is None else name for name in names)


def _resolve(
    file: Path, path: Any, entries: dict[str, list[str]], shown: str
) -> tuple[Path, dict[str, tuple[Path, ...]], list[tuple[str, str]]]:
    """The root under which the splits exist, the splits, and what of them is missing."""
    if path is not None and (not isinstance(path, str) or "\0" in path):
        raise TilerError(f"{shown}: path is a folder, got {short(path)}")
    needed = [split for split in ("train", "val") if split in entries]
    tried: list[tuple[str, Path]] = []
    for base in _bases(file):
        root = Path(os.path.normpath(base / (path or ".")))
        found = {
            split: tuple(_entry(root, item) for item in items) for split, items in entries.items()
        }
        if all(_exists(p) for split in needed for p in found[split]):
            missing = [(s, str(p)) for s, paths in found.items() for p in paths if not _exists(p)]
            return (
                root,
                {s: tuple(p for p in paths if _exists(p)) for s, paths in found.items()},
                missing,
            )
        tried.append(next((split, p) for split in needed for p in found[split] if not _exists(p)))
        if path is None or Path(path).is_absolute():
            break
    listed = ", nor ".join(dict.fromkeys(str(place) for _, place in tried))
    raise TilerError(f"{shown}: {tried[0][0]}: no such file or folder: {listed}")


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that no file system holds is not there."""
    return os.path.exists(path)


def _bases(file: Path) -> list[Path]:
    """Where a relative `path` may start: beside the YAML, here, and in the trainer's datasets
    folder.
    """
    bases = [file.parent.absolute(), Path.cwd()]
    config = os.environ.get("YOLO_CONFIG_DIR")
    settings = (
        Path(config) if config else Path("~/.config/Ultralytics").expanduser()
    ) / "settings.json"
    try:
        bases.append(Path(json.loads(read_bytes(settings, plain_yaml.MAX_BYTES))["datasets_dir"]))
    except (OSError, ValueError, KeyError, TypeError, TilerError):
        pass  # the trainer was never run here
    return bases


def _entry(root: Path, item: str) -> Path:
    """A split's path; Roboflow writes `../train/images` and means `train/images`."""
    path = Path(os.path.normpath(root / item))
    if not _exists(path) and item.startswith("../"):
        return Path(os.path.normpath(root / item[3:]))
    return path


def _ints(content: dict[str, Any], key: str, shown: str) -> tuple[int, ...] | None:
    value = content.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise TilerError(f"{shown}: {key} is a list of numbers, got {short(value)}")
    return tuple(_int(item, f"{shown}: {key}") for item in value)


def _int(value: Any, what: str) -> int:
    """A whole number written as text; `2.0` is one, as for the trainer."""
    try:
        number = float(value)
        if number == int(number) and 0 <= number < 1e9:
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TilerError(f"{what} is a whole number, got {short(value)}")


def dump(
    names: tuple[str, ...],
    splits: dict[str, str],
    kpt_shape: tuple[int, int] | None = None,
    flip_idx: tuple[int, ...] | None = None,
    channels: int | None = None,
) -> str:
    """The text of a dataset.yaml beside the folders it names.

    It has no `path` key: the trainer then starts from the YAML's own folder, whatever the
    working directory (a relative `path` is taken from the working directory).
    """
    content: dict[str, Any] = {**splits, "nc": len(names), "names": dict(enumerate(names))}
    if kpt_shape is not None:
        content["kpt_shape"] = list(kpt_shape)
    if flip_idx is not None:
        content["flip_idx"] = list(flip_idx)
    if channels is not None:
        content["channels"] = channels
    return plain_yaml.dump(content)
