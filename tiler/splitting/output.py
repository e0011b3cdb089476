"""The output folder: where it goes, whether one stands there already, and what is of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from tiler.datasets.sources import Dataset, label_path
from tiler.errors import TilerError
from tiler.formats import dataset_yaml, manifest
from tiler.formats.yolo import Spec
from tiler.options import SplitOptions
from tiler.run.folders import Folder
from tiler.run.output_folder import changed, occupied, require_same, resolved
from tiler.version import __version__

WRITTEN = (".jpg", ".png", ".webp", ".tif", ".bmp")


def target_of(dataset: Dataset, options: SplitOptions, out: str | Path | None) -> Path:
    """The output folder; refused where it would mix with the source."""
    tile = options.tile if isinstance(options.tile, int) else "x".join(map(str, options.tile))
    target = Path(f"{dataset.root}-tiles-{tile}") if out is None else Path(out)
    target = resolved(target)
    shown = str(target)
    images = {os.path.join(dataset.root, os.path.dirname(source.key)) for source in dataset.sources}
    for held in [dataset.file, *_with_labels(images)]:
        if target == held or target in held.parents:
            raise TilerError(f"--out {shown}: it holds the source ({held}); choose another folder")
    for folder in _with_labels([*dataset.folders, *images] if dataset.folders else []):
        if folder in target.parents:
            raise TilerError(
                f"--out {shown}: it lies inside the source ({folder}); choose another folder"
            )
    return target


def _with_labels(folders: Iterable[str | Path]) -> list[Path]:
    """Folders of images and those of their labels, links resolved."""
    given = sorted(map(str, folders))
    labels = [os.path.dirname(label_path(f"{folder}/x")) for folder in given]
    return [Path(os.path.realpath(folder)) for folder in (*given, *labels)]


def stands(target: Path, chosen: SplitOptions, overwrite: bool) -> bool:
    """Whether a complete output that this run would make stands there; False where there is room.

    Raises:
        TilerError: the folder holds something else, and what.
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
    """Tells which files of an output, by their paths in it, are of it.

    Args:
        suffixes: of each split's tiles, while an output is built. Without it, any suffix that
            tiler writes is right, and so are the caches that the trainer makes of the tiles.
    """
    names: set[tuple[str, str]] = set()
    for entry in manifest.read_sources(folder.path / manifest.NAME, folder.opened):
        names.update((entry.split, tile.name) for tile in entry.tiles)

    def image_suffixes(tile: tuple[str, str]) -> tuple[str, ...]:
        if suffixes is None:
            return (*WRITTEN, ".npy", manifest.WORLD)
        return (suffixes[tile], manifest.WORLD)

    def owned(path: str) -> bool:
        if path in FILES:
            return True
        parts = path.split("/")
        stem, suffix = os.path.splitext(parts[-1])
        if len(parts) == 2:
            return suffixes is None and parts[0] == "labels" and suffix == ".cache"
        if len(parts) != 3 or (parts[1], stem) not in names:
            return False
        if parts[0] == "labels":
            return suffix == ".txt"
        return parts[0] == "images" and suffix in image_suffixes((parts[1], stem))

    return owned


def require_whole(folder: Folder, total: int) -> None:
    """Refuse an output whose tiles are not as they were written.

    Args:
        total: bytes of all images and labels.

    Raises:
        TilerError: and what is wrong.
    """
    owned = owned_in(folder)
    found = 0
    for name, what in folder.walk():
        if stat.S_ISDIR(what.st_mode) or not owned(name):
            continue
        if not stat.S_ISREG(what.st_mode):
            raise changed(folder.path, f"{name} is not a file of tiler")
        if os.path.splitext(name)[1] in (*WRITTEN, ".txt"):
            found += what.st_size
    if found != total:
        said = f"its tiles have {found} bytes, they had {total}: some were changed since"
        raise changed(folder.path, said)


def head_of(spec: Spec, dataset: Dataset, chosen: SplitOptions) -> manifest.ManifestHead:
    """The first line of the manifest."""
    shape = spec.out_shape
    return manifest.ManifestHead(
        __version__,
        manifest.SCHEMA,
        spec.task,
        list(dataset.names),
        chosen.plain(),
        None if shape is None else list(shape),
        None
        if dataset.coco is None
        else sorted(dataset.coco.classes, key=dataset.coco.classes.__getitem__),
    )


def dataset_yaml_of(spec: Spec, dataset: Dataset, channels: int = 0) -> str:
    """The text of the output's dataset.yaml.

    Args:
        channels: bands of a tile, where the trainer must be told; the dataset's own number goes
            first.
    """
    splits = {name: f"images/{name}" for name in dataset.splits}
    for name in ("train", "val"):  # the trainer does not start without both
        splits.setdefault(name, next(iter(splits.values())))
    flip_idx = dataset.flip_idx if spec.task == "pose" else None
    return dataset_yaml.dump(
        dataset.names, splits, spec.out_shape, flip_idx, dataset.channels or channels or None
    )
