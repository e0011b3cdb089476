"""The images of a dataset: where they are, what their tiles are called, where their labels lie."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from tiler.errors import SourceRefused, TilerError
from tiler.findings import Finding
from tiler.formats import dataset_yaml
from tiler.formats.text_files import open_regular, read_text, reason, within
from tiler.images.header import formats, probe

if TYPE_CHECKING:
    from tiler.formats import coco
    from tiler.formats.dataset_yaml import DatasetYaml

READ = frozenset(formats())
# The trainer's IMG_FORMATS; of these an image that tiler cannot read is at least reported.
SEEN = READ | {".avif", ".dng", ".heic", ".heif", ".jp2", ".jpeg2000"}
MAX_LIST_BYTES = 256_000_000
LONGEST_STEM = 180  # bytes; a tile's name adds its window, and 255 is what file systems hold


@dataclass(frozen=True, slots=True)
class Source:
    """One image.

    Attributes:
        key: its path relative to the root (with `/`), or absolute when it lies outside.
        split: train, val, test or minival.
        stem: what the names of its tiles begin with, unique over the dataset.
        bytes: size of the file.
        entry: of a COCO set, its image entry.
    """

    key: str
    split: str
    stem: str = ""
    bytes: int = 0
    entry: coco.CocoImage | None = None

    @property
    def image_id(self) -> int | str | None:
        """Of a COCO set, the id that results name it by; None for one that JSON readers do not take
        for a number.
        """
        id = None if self.entry is None else self.entry.id
        sound = isinstance(id, str) or (
            isinstance(id, int) and not isinstance(id, bool) and abs(id) < 2**63
        )
        return id if sound else None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as it was found.

    Attributes:
        file: the YAML or JSON.
        root: what the keys are relative to.
        folders: that were looked through for images.
        sources: by key, then by split.
        coco: of a COCO set, its file; its `task` is then decided.
    """

    file: Path
    root: Path
    names: tuple[str, ...]
    sources: list[Source]
    folders: tuple[Path, ...]
    findings: list[Finding]
    kpt_shape: tuple[int, int] | None = None
    flip_idx: tuple[int, ...] | None = None
    channels: int | None = None
    coco: coco.CocoFile | None = None
    splits: tuple[str, ...] = ()

    @property
    def pages(self) -> int:
        """How many pages of a TIFF are the bands of one image, as the trainer takes them; 0 when
        they are not.
        """
        return 0 if self.channels in (None, 1, 3) else self.channels


def find(data: Path, images: Path | None, needed: tuple[str, ...] = ("train", "val")) -> Dataset:
    """The dataset that is meant.

    Args:
        data: a dataset.yaml, a folder with one, or a COCO instances JSON.
        images: the images' folder, for COCO.
        needed: splits that must have images if they are there.

    Raises:
        TilerError: it cannot be used; nothing was written.
    """
    if data.suffix.lower() == ".json":
        if images is None:
            raise TilerError(f"{data}: a COCO file needs --images, the folder of its images")
        return _named(_coco(data, images))
    if images is not None:
        raise TilerError("--images goes with a COCO JSON; a dataset.yaml names its folders itself")
    return _named(_yaml(dataset_yaml.read(data), needed))


def _yaml(given: DatasetYaml, needed: tuple[str, ...]) -> Dataset:
    findings = list(given.findings)
    sources: list[Source] = []
    for split, entries in given.splits.items():
        keys: dict[str, int] = {}
        for entry in entries:
            found = (
                walk(entry, findings, given.root)
                if entry.is_dir()
                else _listed(entry, given.root, findings)
            )
            for path, size in found:
                key = relative(path, given.root)
                if key in keys:
                    findings.append(Finding(key, "P05", f"listed twice in {split}; it is cut once"))
                keys[key] = size
        if not keys:
            where = ", ".join(str(e) for e in entries) or "nothing"
            if split in needed:
                raise TilerError(f"{given.file}: {split}: no images in {where}")
            if entries:
                findings.append(Finding(given.file.name, "Y01", f"{split}: no images in {where}"))
        sources += [Source(key, split, bytes=size) for key, size in keys.items()]
    folders = tuple(
        entry for entries in given.splits.values() for entry in entries if entry.is_dir()
    )
    findings += _orphans(given, sources)
    splits = tuple(dict.fromkeys(source.split for source in sources))
    sources.sort(key=lambda source: (source.key, source.split))
    return Dataset(
        given.file,
        given.root,
        given.names,
        sources,
        folders,
        findings,
        given.kpt_shape,
        given.flip_idx,
        given.channels,
        splits=splits,
    )


def _coco(data: Path, images: Path) -> Dataset:
    from tiler.formats import coco

    content = coco.read(data)
    root = images.absolute()
    if not os.path.isdir(root):
        raise TilerError(f"--images {images}: no such folder")
    named = re.search(r"(?<![a-z])(train|val|test)(?![a-z])", data.stem.lower())
    split = named[1] if named else "train"
    findings = list(content.findings)
    sources: dict[str, Source] = {}
    for image in content.images:
        key = within(image.file_name)
        if key is None:
            findings.append(
                Finding(data.name, "I01", f"{image.file_name}: outside --images; refused")
            )
            continue
        path = root / key
        if path.suffix.lower() not in SEEN:
            findings.append(Finding(data.name, "I02", f"{image.file_name}: not an image's suffix"))
            continue
        if key in sources:
            found = f"{image.file_name} is listed twice; the first entry counts"
            findings.append(Finding(data.name, "P05", found))
            continue
        sources[key] = Source(key, split, bytes=_size(path), entry=image)
    if not sources:
        raise TilerError(f"{data}: no images that could be cut")
    ordered = sorted(sources.values(), key=lambda source: source.key)
    return Dataset(
        data,
        root,
        content.names,
        ordered,
        (root,),
        findings,
        content.kpt_shape,
        coco=content,
        splits=(split,),
    )


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def walk(folder: Path, findings: list[Finding], root: Path) -> Iterator[tuple[str, int]]:
    """Every image under a folder, as the trainer finds them; links are followed, once."""
    folders, links, been = [str(folder)], list[str](), set()
    while folders or links:  # links last, so that a folder counts under its own name
        here = folders.pop() if folders else links.pop()
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in been:
                continue
            been.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            shown = relative(here, root)
            findings.append(Finding(shown, "I01", f"the folder cannot be read: {reason(error)}"))
            continue
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            hidden = entry.name.startswith(".")
            if suffix in SEEN:
                if hidden and not entry.name.startswith("._"):  # what macOS leaves beside each file
                    _unseen(entry.path, root, "a hidden file", findings)
                elif not hidden and not _encodable(entry.path):
                    _unseen(entry.path, root, "its name is not UTF-8", findings)
                elif not hidden:
                    # whatever it is: a folder is refused when it is opened
                    yield entry.path, _size(entry.path)
            if not hidden and _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _unseen(path: str, root: Path, why: str, findings: list[Finding]) -> None:
    findings.append(
        Finding(relative(path, root), "I08", f"{why}: the trainer does not read it; rename it")
    )


def _encodable(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _listed(file: Path, root: Path, findings: list[Finding]) -> Iterator[tuple[str, int]]:
    """The images in a text list; relative ones are tried beside it, under the root, and here."""
    for number, line in enumerate(read_text(file, MAX_LIST_BYTES).splitlines(), 1):
        item = line.strip()
        if not item or os.path.splitext(item)[1].lower() not in SEEN or "\0" in item:
            continue
        bases = [file.parent] if item.startswith("./") else [file.parent, root, Path.cwd()]
        tried = [os.path.normpath(base / item) for base in bases]
        path = next((p for p in tried if os.path.exists(p)), None)
        if path is None:
            findings.append(
                Finding(relative(str(file), root), "Y04", f"no such image: {item}", number)
            )
        elif _encodable(path):
            yield path, _size(path)
        else:
            _unseen(path, root, "its path is not UTF-8", findings)


def relative(path: str, root: Path) -> str:
    """A path as findings and the manifest name it: from the root on, with `/`; as it is if it lies
    outside.

    >>> relative("/data/a/b.jpg", Path("/data")), relative("/other/b.jpg", Path("/data"))
    ('a/b.jpg', '/other/b.jpg')
    """
    return path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/")


def opened(path: str) -> BufferedReader:
    """An image's file, open for reading.

    Raises:
        SourceRefused: it cannot be opened, or is not a regular file (I01).
    """
    try:
        return open_regular(path)
    except OSError as error:
        raise SourceRefused("I01", f"cannot be opened: {reason(error)}") from None


def image_size(path: str) -> tuple[int, int]:
    """Width and height of the upright image, from its header; no pixel is decoded.

    Raises:
        SourceRefused: it cannot be opened or is not an image, or its header is damaged.
    """
    with opened(path) as file:
        return probe(file).size


def label_path(path: str) -> str:
    """The label file of an image, by the trainer's rule: the last `/images/` becomes `/labels/`.

    >>> label_path("/data/images/train/a.b.jpg")
    '/data/labels/train/a.b.txt'
    """
    path = path.replace(os.sep, "/")
    return os.path.splitext("/labels/".join(path.rsplit("/images/", 1)))[0] + ".txt"


def _orphans(given: DatasetYaml, sources: list[Source]) -> list[Finding]:
    """Label files that hold rows but have no image, in the folders beside the split folders."""
    known = {label_path(os.path.join(given.root, source.key)) for source in sources}
    folders = {
        label_path(f"{entry}/x")[:-6]
        for es in given.splits.values()
        for entry in es
        if entry.is_dir()
    }
    paths = {
        os.path.join(here, name).replace(os.sep, "/")
        for folder in folders
        for here, _, names in os.walk(folder)
        for name in names
        if name.endswith(".txt")
    }
    return [
        Finding(relative(path, given.root), "P02", "a label file without an image" + _twin(path))
        for path in sorted(paths - known)
        if _holds_rows(path)
    ]


def _holds_rows(path: str) -> bool:
    """Whether the first line looks like a label: class lists and notes lie among labels too."""
    try:
        with open_regular(path) as file:
            words = next(
                (line.split() for line in file.read(4096).splitlines() if line.strip()), []
            )
        return len(words) >= 5 and all(re.fullmatch(rb"[-+.\deE]+", word) for word in words[:5])
    except OSError:
        return False


def _twin(path: str) -> str:
    """A file of the image's name that the trainer does not read (a GIF, say)."""
    folder, stem = os.path.split("/images/".join(path.rsplit("/labels/", 1))[:-4])
    try:
        names = [os.path.splitext(name) for name in sorted(os.listdir(folder))]
        twins = ["".join(name) for name in names if name[0] == stem and name[1] != ".txt"]
    except OSError:
        return ""
    return f" ({twins[0]} is not of a format that the trainer reads)" if twins else ""


def _named(dataset: Dataset) -> Dataset:
    """The same with a stem for each source."""
    stems = stems_of([source.key for source in dataset.sources])
    return replace(dataset, sources=[replace(s, stem=stems[s.key]) for s in dataset.sources])


def stems_of(keys: list[str]) -> dict[str, str]:
    """A stem for each image that no other has, on any file system.

    The file's own stem, if it is the only one. Otherwise its folders are put before it
    (`site1-a`), then its suffix behind it (`site1-a-png`), at last a hash of its path
    (`site1-a-png-1f3a9c02`). Long stems are cut, with a hash.

    >>> stems_of(["a/x.jpg", "b/x.jpg", "b/y.jpg"])
    {'a/x.jpg': 'a-x', 'b/x.jpg': 'b-x', 'b/y.jpg': 'y'}
    """
    level = dict.fromkeys(keys, 0)
    while True:
        stems = {key: _stem(key, level[key]) for key in level}
        taken: dict[str, list[str]] = {}
        for key, stem in stems.items():
            # file systems may ignore case and Unicode form; `a__s50` at full size is `a` at half
            # size
            plain = re.sub(r"(__s\d+)+$", "", unicodedata.normalize("NFC", stem).casefold())
            taken.setdefault(plain, []).append(key)
        clashing = [
            key for group in taken.values() if len(group) > 1 for key in group if level[key] < 3
        ]
        if not clashing:
            return stems
        for key in clashing:
            level[key] += 1


def _stem(key: str, level: int) -> str:
    path, suffix = os.path.splitext(key)
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    folders, _, stem = path.rpartition("/")
    if level >= 1 and folders:
        stem = "-".join([*(f for f in folders.split("/") if f not in ("", "images")), stem])
    if level >= 2:
        stem += "-" + suffix[1:]
    if level >= 3:
        stem += "-" + digest
    if len(stem.encode()) > LONGEST_STEM:
        stem = stem.encode()[: LONGEST_STEM - 9].decode(errors="ignore") + "-" + digest
    return stem
