"""The output folder: where it is, whether it is complete already, and which files belong to it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tiler.datasets.dataset import Dataset, label_path, without_split
from tiler.errors import TilerError
from tiler.findings import Finding
from tiler.formats import dataset_yaml, manifest
from tiler.formats.shards import IMAGES, split_of_shard
from tiler.formats.tile_folders import SUFFIXES, TileFolders
from tiler.formats.yolo import Spec
from tiler.options import SplitOptions
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, occupied, require_same, resolved
from tiler.splitting.coco_export import places
from tiler.tiling.roi import RoiFile
from tiler.version import __version__

WRITTEN = (".jpg", ".png", ".webp", ".tif", ".bmp")


def target_of(dataset: Dataset, options: SplitOptions, out: Path | None) -> Path:
    """The output folder, links resolved.

    Raises:
        TilerError: it holds the source, or lies in it.
    """
    if out is None:
        out = Path(f"{_stem(dataset)}-tiles-{_tile_name(options)}")
    target = resolved(out)
    images = {os.path.join(dataset.root, os.path.dirname(source.key)) for source in dataset.sources}
    for source in [dataset.file, *_with_labels(images)]:
        if target == source or target in source.parents:
            raise TilerError(
                f"--out {target}: it holds the source ({source}); choose another folder"
            )
    if dataset.folders:
        for folder in _with_labels([*dataset.folders, *images]):
            if folder in target.parents:
                raise TilerError(
                    f"--out {target}: it lies inside the source ({folder}); choose another folder"
                )
    return target


def _stem(dataset: Dataset) -> str:
    """What the output is named after: the root, and the image where there is only one."""
    if dataset.labelled or dataset.file == dataset.root:
        return str(dataset.root)
    stem, _ = os.path.splitext(dataset.file.name)
    return f"{dataset.root}-{stem}"


def _tile_name(options: SplitOptions) -> str:
    """640, 1024x768, or grid-3x4."""
    if options.grid is not None:
        return "grid-" + "x".join(map(str, options.grid))
    if isinstance(options.tile, int):
        return str(options.tile)
    return "x".join(map(str, options.tile))


def _with_labels(folders: Iterable[str | Path]) -> list[Path]:
    """Folders of images and those of their labels, links resolved."""
    images = sorted(map(str, folders))
    labels = [os.path.dirname(label_path(f"{folder}/x")) for folder in images]
    return [Path(os.path.realpath(folder)) for folder in (*images, *labels)]


PATHS = ("roi",)  # options that are paths: args.yaml has them relative to its own folder


def recorded(chosen: SplitOptions, roi: RoiFile | None) -> dict[str, Any]:
    """The options that are set, as the manifest records them: of a file what is in it, not where
    it is."""
    options = {name: value for name, value in chosen.plain().items() if value is not None}
    if not chosen.export:
        del options["export"]
    if chosen.layout == "flat":
        del options["layout"]
    if roi is not None:
        options["roi"] = f"{roi.name} {roi.digest}"
    return options


def without_paths(args: bytes) -> list[bytes]:
    """The lines of an args.yaml but for paths: that an input was moved makes no difference."""
    lines = args.splitlines()
    return [line for line in lines if line.partition(b":")[0].decode("latin-1") not in PATHS]


def stands(target: Path, options: dict[str, Any], overwrite: bool) -> bool:
    """Whether the complete output of such a run is there already; False if nothing is in the way.

    Args:
        options: those of the run, by `recorded`.

    Raises:
        TilerError: the folder holds something else; says what.
    """
    if not occupied(target, manifest.NAME, overwrite, owned_in):
        return False
    with Folder(target) as folder:
        head = manifest.read_head(target / manifest.NAME, folder.opened)
    unset: dict[str, Any] = dict.fromkeys(head.options)
    require_same(target, head.tiler, head.options, unset | options)
    return True


FILES = (manifest.NAME, "dataset.yaml", "args.yaml", "report.json")


def owned_in(
    folder: Folder, suffixes: dict[tuple[str, str], str] | None = None
) -> Callable[[str], bool]:
    """Tells which files of an output, by their paths in it, belong to it.

    Args:
        suffixes: of each split's tiles, while an output is built. Without it, any suffix that
            tiler writes is right, and so are the caches that the trainer makes of the tiles.
    """
    head = manifest.read_head(folder.path / manifest.NAME, folder.opened)
    if head.layout == "tar":
        return _owned_shards(folder)
    names: dict[str, set[str]] = {}
    beside: dict[str, tuple[str, str]] = {}  # split and suffix of each folder of labels or masks
    for entry in manifest.read_sources(folder.path / manifest.NAME, folder.opened):
        split = entry.split
        names.setdefault(split, set()).update(tile.name for tile in entry.tiles)
        kinds = (entry.labels, entry.masks)
        for place, kind in zip(
            head.folders.of(split, *kinds)[1:], head.folders.kinds(*kinds)[1:], strict=False
        ):
            beside[place] = (split, SUFFIXES[kind])
    files = {*FILES, *(place.path for place in places(head.export, names))}
    images = {head.folders.of(split)[0]: split for split in names}
    if suffixes is None:
        files.update(f"{place}.cache" for place in beside)

    def image_suffixes(split: str, stem: str) -> tuple[str, ...]:
        if suffixes is None:
            return (*WRITTEN, ".npy", manifest.WORLD)
        return (suffixes[split, stem], manifest.WORLD)

    def owned(path: str) -> bool:
        if path in files:
            return True
        here, _, name = path.rpartition("/")
        stem, suffix = os.path.splitext(name)
        if here in beside:
            split, expected = beside[here]
            return suffix == expected and stem in names[split]
        if here not in images or stem not in names[images[here]]:
            return False
        return suffix in image_suffixes(images[here], stem)

    return owned


def _owned_shards(folder: Folder) -> Callable[[str], bool]:
    """Tells which files of an output with --layout tar belong to it."""
    entries = manifest.read_sources(folder.path / manifest.NAME, folder.opened)
    splits = {entry.split or IMAGES for entry in entries}

    def owned(path: str) -> bool:
        return path in FILES or split_of_shard(path) in splits

    return owned


def require_whole(folder: Folder, total: int) -> None:
    """Check that the tiles of an output are as they were written.

    Args:
        total: bytes of all images and labels.

    Raises:
        TilerError: they are not; says what is wrong.
    """
    owned = owned_in(folder)
    present = 0
    for name, status in folder.walk():
        if stat.S_ISDIR(status.st_mode) or not owned(name):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise changed(folder.path, f"{name} is not a file of tiler")
        if os.path.splitext(name)[1] in (*WRITTEN, ".txt"):
            present += status.st_size
    if present != total:
        why = f"its tiles have {present} bytes, they had {total}: some were changed since"
        raise changed(folder.path, why)


def head_of(spec: Spec, dataset: Dataset, options: dict[str, Any]) -> manifest.ManifestHead:
    """The first line of the manifest. `options`: by `recorded`."""
    shape = None if spec.out_shape is None else list(spec.out_shape)
    categories = None if dataset.categories is None else list(dataset.categories)
    names = list(dataset.names)
    task: str = spec.task if dataset.labelled else "auto"
    if not dataset.rows:
        task = "semantic"
    return manifest.ManifestHead(
        __version__, manifest.SCHEMA, task, names, options, shape, categories
    )


def dataset_yaml_of(spec: Spec, dataset: Dataset, folders: TileFolders, channels: int = 0) -> str:
    """The text of the output's dataset.yaml.

    Args:
        folders: of the tiles.
        channels: bands of a tile, if the trainer must be told; the dataset's own number takes
            precedence.
    """
    splits = {name: folders.of(name)[0] for name in dataset.splits}
    for name, other in _stand_ins(dataset).items():
        splits[name] = folders.of(other)[0]
    flip_idx = dataset.flip_idx if spec.task == "pose" else None
    return dataset_yaml.dump(
        dataset.names,
        splits,
        spec.out_shape,
        flip_idx,
        dataset.channels or channels or None,
        dataset.masks,
    )


def _stand_ins(dataset: Dataset) -> dict[str, str]:
    """The split that dataset.yaml names for a missing train or val, without which the trainer does
    not start."""
    first = dataset.splits[0]
    return {name: first for name in ("train", "val") if name not in dataset.splits}


def stood_in(dataset: Dataset) -> list[Finding]:
    """A finding for each split that another one stands in for."""
    if not dataset.labelled:
        return []
    findings = []
    for name, other in _stand_ins(dataset).items():
        remedy = "; --val 0.2 makes one" if name == "val" else ""
        findings.append(without_split(dataset, name, f"dataset.yaml names {other} for it{remedy}"))
    return findings
