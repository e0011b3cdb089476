"""The output folder: where it goes, whether one stands there already, and what is of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tiler.datasets.sources import Dataset, label_path
from tiler.errors import TilerError
from tiler.findings import printable
from tiler.formats import dataset_yaml, manifest
from tiler.formats.text import reason
from tiler.formats.yolo import Spec
from tiler.options import SplitOptions
from tiler.version import __version__

WRITTEN = (".jpg", ".png", ".webp", ".tif", ".bmp")
HINT = "use --overwrite, or another --out"


def target_of(dataset: Dataset, options: SplitOptions, out: str | Path | None) -> Path:
    """The output folder; refused where it would mix with the source."""
    tile = options.tile if isinstance(options.tile, int) else "x".join(map(str, options.tile))
    target = Path(f"{dataset.root}-tiles-{tile}") if out is None else Path(out)
    try:
        real = target = Path(os.path.realpath(target))
        taken = stat.S_IFMT(os.stat(target).st_mode) != stat.S_IFDIR
    except FileNotFoundError:
        taken = False
    except OSError as error:
        raise TilerError(f"--out {printable(str(target))[:200]}: {reason(error)}") from None
    shown = printable(str(target))
    if taken:
        raise TilerError(f"--out {shown}: there is a file of this name")
    if os.path.ismount(target):
        raise TilerError(f"--out {shown}: a mount point cannot be made at once; name a folder inside it")
    pictures = {os.path.join(dataset.root, os.path.dirname(source.key)) for source in dataset.sources}
    for held in [dataset.file, *_with_labels(pictures)]:
        if real == held or real in held.parents:
            raise TilerError(f"--out {shown}: it holds the source ({printable(str(held))}); choose another folder")
    for folder in _with_labels([*dataset.folders, *pictures] if dataset.folders else []):
        if folder in real.parents:
            raise TilerError(f"--out {shown}: it lies inside the source ({printable(str(folder))}); choose another folder")
    return target


def _with_labels(folders: Iterable[str | Path]) -> list[Path]:
    """Folders of pictures and those of their labels, links resolved."""
    given = sorted(map(str, folders))
    labels = [os.path.dirname(label_path(f"{folder}/x")) for folder in given]
    return [Path(os.path.realpath(folder)) for folder in (*given, *labels)]


def standing(target: Path, chosen: SplitOptions, overwrite: bool) -> manifest.Head | None:
    """The head of a complete output that this run would make; None where there is room for one.

    Raises:
        TilerError: the folder holds something else, and what.
    """
    shown = printable(str(target))
    if not target.is_dir() or not any(target.iterdir()):
        return None
    if not (target / manifest.NAME).is_file():
        found = printable(sorted(p.name for p in target.iterdir())[0])
        raise TilerError(f"--out {shown}: holds files that are not of tiler ({found}); choose another folder")
    if overwrite:
        stranger = next(strangers(target), None)
        if stranger is not None:
            found = printable(str(stranger.relative_to(target)))
            raise TilerError(f"--out {shown}: {found} is not of tiler, so --overwrite does not delete it; move it away")
        return None
    head = manifest.read_head(target / manifest.NAME)
    now = chosen.plain()
    changed = [f"{k} {head.options.get(k)} -> {v}" for k, v in now.items() if head.options.get(k) != v]
    if head.tiler != __version__:
        changed.append(f"tiler {head.tiler} -> {__version__}")
    if changed:
        raise TilerError(f"--out {shown}: made with other options ({'; '.join(changed)}); {HINT}")
    return head


def strangers(tree: Path, suffixes: dict[tuple[str, str], str] | None = None) -> Iterator[Path]:
    """Files in an output that are not of it. The trainer's caches, which it makes anew, are not counted.

    Args:
        suffixes: of each split's tiles; without it, any suffix that tiler writes is taken for right.
    """
    mine = {manifest.NAME, "dataset.yaml", "args.yaml", "report.json"}
    names: set[tuple[str, str]] = set()
    for entry in manifest.read_sources(tree / manifest.NAME):
        names.update((entry.split, tile.name) for tile in entry.tiles)
    for here, _, files in os.walk(tree):
        parts = Path(here).relative_to(tree).parts
        for name in files:
            stem, suffix = os.path.splitext(name)
            if not parts and name in mine:
                continue
            if len(parts) == 2 and parts[0] == "labels" and suffix == ".txt" and (parts[1], stem) in names:
                continue
            if len(parts) == 2 and parts[0] == "images" and (parts[1], stem) in names:
                right = WRITTEN if suffixes is None else (suffixes[parts[1], stem],)
                if suffix in right or suffix == ".npy":
                    continue
            if parts == ("labels",) and suffix == ".cache":
                continue
            yield Path(here, name)


def head_of(spec: Spec, dataset: Dataset, chosen: SplitOptions) -> manifest.Head:
    """The first line of the manifest."""
    shape = spec.out_shape
    return manifest.Head(
        __version__,
        manifest.SCHEMA,
        spec.task,
        list(dataset.names),
        chosen.plain(),
        None if shape is None else list(shape),
    )


def dataset_yaml_of(spec: Spec, dataset: Dataset) -> str:
    """The text of the output's dataset.yaml."""
    splits = {name: f"images/{name}" for name in dataset.splits}
    for name in ("train", "val"):  # the trainer does not start without both
        splits.setdefault(name, next(iter(splits.values())))
    pose = spec.task == "pose"
    return dataset_yaml.dump(dataset.names, splits, spec.out_shape, dataset.flip_idx if pose else None, dataset.channels)
