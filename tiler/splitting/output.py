"""The output folder: where it is, whether it is complete already, and which files belong to it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from tiler.datasets.dataset import Dataset, label_path
from tiler.errors import TilerError
from tiler.formats import dataset_yaml, manifest
from tiler.formats.yolo import Spec
from tiler.options import SplitOptions
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, occupied, require_same, resolved
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
    """640, or 1024x768."""
    if isinstance(options.tile, int):
        return str(options.tile)
    return "x".join(map(str, options.tile))


def _with_labels(folders: Iterable[str | Path]) -> list[Path]:
    """Folders of images and those of their labels, links resolved."""
    images = sorted(map(str, folders))
    labels = [os.path.dirname(label_path(f"{folder}/x")) for folder in images]
    return [Path(os.path.realpath(folder)) for folder in (*images, *labels)]


def stands(target: Path, chosen: SplitOptions, overwrite: bool) -> bool:
    """Whether the complete output of such a run is there already; False if nothing is in the way.

    Raises:
        TilerError: the folder holds something else; says what.
    """
    if not occupied(target, manifest.NAME, overwrite, owned_in):
        return False
    with Folder(target) as folder:
        head = manifest.read_head(target / manifest.NAME, folder.opened)
    require_same(target, head.tiler, head.options, chosen.plain())
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
    names: set[tuple[str, str]] = set()
    beside: set[str] = set()
    for entry in manifest.read_sources(folder.path / manifest.NAME, folder.opened):
        names.update((entry.split, tile.name) for tile in entry.tiles)
        for kind in manifest.tile_folders(entry.split, entry.labels, entry.masks)[1:]:
            beside.add(kind)

    def image_suffixes(split: str, stem: str) -> tuple[str, ...]:
        if suffixes is None:
            return (*WRITTEN, ".npy", manifest.WORLD)
        return (suffixes[split, stem], manifest.WORLD)

    def owned(path: str) -> bool:
        if path in FILES:
            return True
        *folders, name = path.split("/")
        stem, suffix = os.path.splitext(name)
        if folders in (["labels"], ["masks"]):
            return suffixes is None and suffix == ".cache"
        if not 1 <= len(folders) <= 2:
            return False
        kind = folders[0]
        split = "/".join(folders[1:])
        if (split, stem) not in names:
            return False
        if kind in manifest.SUFFIXES:
            return "/".join(folders) in beside and suffix == manifest.SUFFIXES[kind]
        return kind == "images" and suffix in image_suffixes(split, stem)

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


def head_of(spec: Spec, dataset: Dataset, chosen: SplitOptions) -> manifest.ManifestHead:
    """The first line of the manifest."""
    shape = None if spec.out_shape is None else list(spec.out_shape)
    categories = None if dataset.categories is None else list(dataset.categories)
    names, options = list(dataset.names), chosen.plain()
    task: str = spec.task if dataset.labelled else "auto"
    if not dataset.rows:
        task = "semantic"
    return manifest.ManifestHead(
        __version__, manifest.SCHEMA, task, names, options, shape, categories
    )


def dataset_yaml_of(spec: Spec, dataset: Dataset, channels: int = 0) -> str:
    """The text of the output's dataset.yaml.

    Args:
        channels: bands of a tile, if the trainer must be told; the dataset's own number takes
            precedence.
    """
    splits = {name: f"images/{name}" for name in dataset.splits}
    for name in ("train", "val"):  # the trainer does not start without both
        splits.setdefault(name, next(iter(splits.values())))
    flip_idx = dataset.flip_idx if spec.task == "pose" else None
    return dataset_yaml.dump(
        dataset.names,
        splits,
        spec.out_shape,
        flip_idx,
        dataset.channels or channels or None,
        dataset.masks,
    )
