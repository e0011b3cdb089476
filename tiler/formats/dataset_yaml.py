"""dataset.yaml: every form that the trainer accepts (Ultralytics 8.4.190, `data/utils.py`).

Where the trainer depends on the working directory, more places are tried. `download:` is never
run.
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
from tiler.formats import mask_spec, plain_yaml
from tiler.formats.mask_spec import MaskSpec
from tiler.formats.text_files import read_bytes
from tiler.types import SPLITS

MAX_CLASSES = 100_000
NAMES = ("dataset.yaml", "data.yaml")
OTHER_KEYS = (
    *("path", "names", "nc", "channels", "kpt_shape", "flip_idx", "download"),
    *("masks_dir", "label_mapping"),
)


@dataclass(frozen=True, slots=True)
class DatasetYaml:
    """The content of a dataset.yaml, checked.

    Attributes:
        file: the YAML itself.
        root: the folder that the paths of splits start from.
        names: class names; their position is the class id.
        splits: the full paths of each split: folders, or text lists of images.
        kpt_shape: number of keypoints and of values each (2 or 3), for pose.
        flip_idx: the keypoint that each becomes when mirrored.
        channels: bands of an image, if the YAML says so.
        findings: what was noticed.
        masks: where class masks are, if there are some.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[Path, ...]]
    kpt_shape: tuple[int, int] | None = None
    flip_idx: tuple[int, ...] | None = None
    channels: int | None = None
    findings: tuple[Finding, ...] = ()
    masks: MaskSpec | None = None


def find(data: Path) -> Path:
    """The file itself, or the YAML in a folder.

    Raises:
        TilerError: no such file, or a folder with none or several.
    """
    if not os.path.isdir(data):
        if not _exists(data):
            raise TilerError(f"{data}: no such file or folder")
        return data
    for name in NAMES:
        if os.path.isfile(data / name):
            return data / name
    files = []
    for path in sorted(data.iterdir()):
        if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
            files.append(path)
    if len(files) == 1:
        return files[0]
    listed = ", ".join(path.name for path in files) or "none"
    raise TilerError(f"{data}: expected a dataset.yaml in this folder, found {listed}")


def read(data: Path) -> DatasetYaml:
    """Read and check a dataset.yaml, or the one in a folder.

    Raises:
        TilerError: what is wrong, in one line.
    """
    file = find(data)
    content = plain_yaml.load(file)
    if "val" not in content and "validation" in content:
        content["val"] = content.pop("validation")
    entries = _entries(content, file)
    names = _names(content, file)
    root, splits = _resolve(file, content.get("path"), entries)
    existing, findings = _existing(splits, file.name)
    findings += _repeated(names, file.name)
    kpt_shape = _kpt_shape(content, file)
    flip_idx = _flip_idx(content, kpt_shape, file)
    channels = None
    if content.get("channels") is not None:
        channels = _int(content["channels"], f"{file}: channels")
    return DatasetYaml(
        file,
        root,
        names,
        existing,
        kpt_shape,
        flip_idx,
        channels,
        tuple(findings),
        mask_spec.of_yaml(content, names, root, file),
    )


def _entries(content: dict[str, Any], file: Path) -> dict[str, list[str]]:
    """The splits that are set, each as a list of texts."""
    entries = {}
    for split in SPLITS:
        value = content.get(split)
        if value is None:
            continue
        items = value if isinstance(value, list) else [value]
        if not items or not all(_is_path(item) for item in items):
            raise TilerError(f"{file}: {split} is a path or a list of paths, got {short(value)}")
        entries[split] = items
    if "train" not in entries and "val" not in entries:
        hints = ""
        for key in content:
            if key not in SPLITS and key not in OTHER_KEYS:
                hints += did_you_mean(key, SPLITS)
        raise TilerError(f"{file}: no train or val split{hints}")
    return entries


def _is_path(item: Any) -> bool:
    return isinstance(item, str) and item != "" and "\0" not in item


def _names(content: dict[str, Any], file: Path) -> tuple[str, ...]:
    """Class names by class id; made up where only their number is given."""
    names = content.get("names")
    count = None
    if content.get("nc") is not None:
        count = _int(content["nc"], f"{file}: nc")
    if names is None:
        return _numbered_names(content, count, file)
    if isinstance(names, dict):
        names = _in_order(names, file)
    if not isinstance(names, list) or not names:
        raise TilerError(f"{file}: names is a list or a mapping of class names, got {short(names)}")
    if len(names) > MAX_CLASSES:
        raise TilerError(f"{file}: names has {len(names)} classes, expected at most {MAX_CLASSES}")
    for i, name in enumerate(names):
        if name is not None and not isinstance(name, str):
            raise TilerError(f"{file}: names: class {i} is a {type(name).__name__}, expected text")
    if count is not None and count != len(names):
        raise TilerError(f"{file}: nc is {count}, but names has {len(names)} classes")
    return tuple("null" if name is None else name for name in names)


def _numbered_names(content: dict[str, Any], count: int | None, file: Path) -> tuple[str, ...]:
    if count is None:
        hints = "".join(did_you_mean("names", [key]) for key in content)
        raise TilerError(f"{file}: names (or nc) is missing{hints}")
    if not 0 < count <= MAX_CLASSES:
        raise TilerError(f"{file}: nc is {count}, expected 1 to {MAX_CLASSES}")
    return tuple(f"class_{i}" for i in range(count))


def _in_order(names: dict[Any, Any], file: Path) -> list[Any]:
    """The values of a mapping with the keys 0, 1, 2 and so on."""
    keys = []
    by_id = {}
    for key, name in names.items():
        class_id = _int(key, f"{file}: a key of names")
        keys.append(class_id)
        by_id[class_id] = name
    keys.sort()
    if keys != list(range(len(keys))):
        raise TilerError(
            f"{file}: names has the keys {keys[:20]}, expected 0 to {len(keys) - 1} without gap"
        )
    return [by_id[class_id] for class_id in keys]


def _repeated(names: tuple[str, ...], label: str) -> list[Finding]:
    """A finding for each name that several classes have."""
    findings = []
    for name, count in sorted(Counter(names).items()):
        if count > 1:
            message = f"class name {name!r} stands for several classes"
            findings.append(Finding(label, "Y02", message))
    return findings


def _kpt_shape(content: dict[str, Any], file: Path) -> tuple[int, int] | None:
    shape = _ints(content, "kpt_shape", file)
    if shape is None:
        return None
    if len(shape) != 2 or shape[0] < 1 or shape[1] not in (2, 3):
        raise TilerError(f"{file}: kpt_shape is [number of keypoints, 2 or 3], got {list(shape)}")
    return shape[0], shape[1]


def _flip_idx(
    content: dict[str, Any], kpt_shape: tuple[int, int] | None, file: Path
) -> tuple[int, ...] | None:
    flip_idx = _ints(content, "flip_idx", file)
    if kpt_shape is None or flip_idx is None:
        return flip_idx
    if sorted(flip_idx) != list(range(kpt_shape[0])):
        raise TilerError(
            f"{file}: flip_idx names each of the {kpt_shape[0]} keypoints once, got "
            f"{list(flip_idx)}"
        )
    return flip_idx


def _resolve(
    file: Path, path: Any, entries: dict[str, list[str]]
) -> tuple[Path, dict[str, list[Path]]]:
    """The root under which train and val exist, and the paths of all splits."""
    if path is not None and (not isinstance(path, str) or "\0" in path):
        raise TilerError(f"{file}: path is a folder, got {short(path)}")
    missing: list[tuple[str, Path]] = []
    for base in _bases(file):
        root = Path(os.path.normpath(base / (path or ".")))
        splits = {}
        for split, items in entries.items():
            splits[split] = [_entry(root, item) for item in items]
        first = _first_missing(splits)
        if first is None:
            return root, splits
        missing.append(first)
        if path is None or Path(path).is_absolute():
            break
    tried = ", nor ".join(dict.fromkeys(str(place) for _, place in missing))
    raise TilerError(f"{file}: {missing[0][0]}: no such file or folder: {tried}")


def _first_missing(splits: dict[str, list[Path]]) -> tuple[str, Path] | None:
    """The first path of train or val that does not exist, with its split."""
    for split in ("train", "val"):
        for path in splits.get(split, []):
            if not _exists(path):
                return split, path
    return None


def _existing(
    splits: dict[str, list[Path]], label: str
) -> tuple[dict[str, tuple[Path, ...]], list[Finding]]:
    """The paths of each split that exist, and a finding for each of the others."""
    existing = {}
    findings = []
    for split, paths in splits.items():
        there = []
        for path in paths:
            if _exists(path):
                there.append(path)
            else:
                findings.append(missing_split(label, split, f"no such file or folder: {path}"))
        existing[split] = tuple(there)
    return existing, findings


def missing_split(label: str, split: str, why: str) -> Finding:
    """A finding for a split without images: of train or val an error, since a trainer needs both.

    Args:
        label: the name of the YAML in findings.
    """
    code = "Y01" if split in ("train", "val") else "Y05"
    return Finding(label, code, f"split {split}: {why}")


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder; False for a name that no file system holds."""
    return os.path.exists(path)


def _bases(file: Path) -> list[Path]:
    """Where a relative `path` may start: beside the YAML, in the working directory, and in the
    trainer's datasets folder.
    """
    bases = [file.parent.absolute(), Path.cwd()]
    config = os.environ.get("YOLO_CONFIG_DIR")
    folder = Path(config) if config else Path("~/.config/Ultralytics").expanduser()
    try:
        settings = json.loads(read_bytes(folder / "settings.json", plain_yaml.MAX_BYTES))
        bases.append(Path(settings["datasets_dir"]))
    except (OSError, ValueError, KeyError, TypeError, TilerError):
        pass  # the trainer was never run here
    return bases


def _entry(root: Path, item: str) -> Path:
    """The path of a split; Roboflow writes `../train/images` for `train/images`."""
    path = Path(os.path.normpath(root / item))
    if not _exists(path) and item.startswith("../"):
        return Path(os.path.normpath(root / item[3:]))
    return path


def _ints(content: dict[str, Any], key: str, file: Path) -> tuple[int, ...] | None:
    value = content.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise TilerError(f"{file}: {key} is a list of numbers, got {short(value)}")
    return tuple(_int(item, f"{file}: {key}") for item in value)


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
    masks: MaskSpec | None = None,
) -> str:
    """The text of a dataset.yaml beside the folders it names.

    It has no `path` key: the trainer then starts from the YAML's own folder, whatever the working
    directory is (a relative `path` would be taken from the working directory).
    """
    content: dict[str, Any] = {**splits, "nc": len(names), "names": dict(enumerate(names))}
    if kpt_shape is not None:
        content["kpt_shape"] = list(kpt_shape)
    if flip_idx is not None:
        content["flip_idx"] = list(flip_idx)
    if channels is not None:
        content["channels"] = channels
    if masks is not None:
        content["masks_dir"] = mask_spec.FOLDER
        if masks.mapping:
            content["label_mapping"] = masks.mapping
    return plain_yaml.dump(content)
