"""The output folder: where it goes, whether one stands there already, and what is of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tiler.datasets.sources import Dataset, label_path
from tiler.errors import TilerError
from tiler.findings import printable
from tiler.formats import dataset_yaml, manifest
from tiler.formats.yolo import Spec
from tiler.options import SplitOptions
from tiler.run.target import occupied, require_same, resolved
from tiler.version import __version__

WRITTEN = (".jpg", ".png", ".webp", ".tif", ".bmp")


def target_of(dataset: Dataset, options: SplitOptions, out: str | Path | None) -> Path:
    """The output folder; refused where it would mix with the source."""
    tile = options.tile if isinstance(options.tile, int) else "x".join(map(str, options.tile))
    target = Path(f"{dataset.root}-tiles-{tile}") if out is None else Path(out)
    target = resolved(target)
    shown = printable(str(target))
    pictures = {os.path.join(dataset.root, os.path.dirname(source.key)) for source in dataset.sources}
    for held in [dataset.file, *_with_labels(pictures)]:
        if target == held or target in held.parents:
            raise TilerError(f"--out {shown}: it holds the source ({printable(str(held))}); choose another folder")
    for folder in _with_labels([*dataset.folders, *pictures] if dataset.folders else []):
        if folder in target.parents:
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
    if not occupied(target, manifest.NAME, overwrite, strangers):
        return None
    head = manifest.read_head(target / manifest.NAME)
    require_same(target, head.tiler, head.options, chosen.plain())
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
                if suffix in right or suffix in (".npy", manifest.WORLD):
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
        None if dataset.coco is None else sorted(dataset.coco.classes, key=dataset.coco.classes.__getitem__),
    )


def dataset_yaml_of(spec: Spec, dataset: Dataset, channels: int = 0) -> str:
    """The text of the output's dataset.yaml.

    Args:
        channels: bands of a tile, where the trainer must be told; the dataset's own number goes first.
    """
    splits = {name: f"images/{name}" for name in dataset.splits}
    for name in ("train", "val"):  # the trainer does not start without both
        splits.setdefault(name, next(iter(splits.values())))
    flip_idx = dataset.flip_idx if spec.task == "pose" else None
    return dataset_yaml.dump(dataset.names, splits, spec.out_shape, flip_idx, dataset.channels or channels or None)
