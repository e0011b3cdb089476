"""The images of a dataset: where they and their labels are, and what their tiles are called."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
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
# The trainer's IMG_FORMATS; an image that tiler cannot read is at least reported.
SEEN = READ | {".avif", ".dng", ".heic", ".heif", ".jp2", ".jpeg2000"}
MAX_LIST_BYTES = 256_000_000
LONGEST_STEM = 180  # bytes; a tile's name adds its window, and file systems allow 255

Listed = tuple[str, int]  # path and size in bytes of an image


@dataclass(frozen=True, slots=True)
class Source:
    """One image.

    Attributes:
        key: its path relative to the root (with `/`), or absolute when it lies outside.
        split: train, val, test or minival.
        stem: the beginning of the names of its tiles, unique in the dataset.
        bytes: size of the file.
        entry: its entry in the COCO file, for a COCO set.
    """

    key: str
    split: str
    stem: str = ""
    bytes: int = 0
    entry: coco.CocoImage | None = None

    @property
    def image_id(self) -> int | str | None:
        """The id that COCO results refer to it by; None if there is none that JSON readers can
        hold.
        """
        if self.entry is None:
            return None
        id = self.entry.id
        if isinstance(id, str):
            return id
        if isinstance(id, int) and not isinstance(id, bool) and abs(id) < 2**63:
            return id
        return None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset and all of its images.

    Attributes:
        file: the YAML or JSON.
        root: the folder that the keys are relative to.
        sources: by key, then by split.
        folders: those that were searched for images.
        coco: the content of the JSON, for a COCO set; it decides the task.
        splits: those that have images.
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
        """Number of TIFF pages that the trainer reads as the bands of one image, else 0."""
        if self.channels in (None, 1, 3):
            return 0
        return self.channels


def find(data: Path, images: Path | None, needed: tuple[str, ...] = ("train", "val")) -> Dataset:
    """A dataset and its images.

    Args:
        data: a dataset.yaml, a folder with one, or a COCO instances JSON.
        images: the folder of the images, for COCO.
        needed: splits that must have images if the dataset has them.

    Raises:
        TilerError: it cannot be used.
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
    folders: list[Path] = []
    for split, entries in given.splits.items():
        images = _images(split, entries, given.root, findings)
        if not images:
            where = ", ".join(str(entry) for entry in entries) or "nothing"
            if split in needed:
                raise TilerError(f"{given.file}: {split}: no images in {where}")
            if entries:
                why = f"no images in {where}"
                findings.append(dataset_yaml.missing_split(given.file.name, split, why))
        sources += [Source(key, split, bytes=size) for key, size in images.items()]
        folders += [entry for entry in entries if entry.is_dir()]
    findings += _orphans(folders, sources, given.root)
    return Dataset(
        given.file,
        given.root,
        given.names,
        sorted(sources, key=lambda source: (source.key, source.split)),
        tuple(folders),
        findings,
        given.kpt_shape,
        given.flip_idx,
        given.channels,
        splits=tuple(dict.fromkeys(source.split for source in sources)),
    )


def _images(
    split: str, entries: Sequence[Path], root: Path, findings: list[Finding]
) -> dict[str, int]:
    """The images of a split by their key, with their size in bytes.

    Args:
        entries: folders, and text lists of images.
    """
    sizes: dict[str, int] = {}
    for entry in entries:
        if entry.is_dir():
            images = walk(entry, findings, root)
        else:
            images = _listed(entry, root, findings)
        for path, size in images:
            key = relative(path, root)
            if key in sizes:
                findings.append(Finding(key, "P05", f"listed twice in {split}; it is cut once"))
            sizes[key] = size
    return sizes


def _coco(data: Path, images: Path) -> Dataset:
    from tiler.formats import coco

    content = coco.read(data)
    root = images.absolute()
    if not os.path.isdir(root):
        raise TilerError(f"--images {images}: no such folder")
    split = _split_of(data)
    findings = list(content.findings)
    sources: dict[str, Source] = {}
    for image in content.images:
        key = within(image.file_name)
        if key is None:
            message = f"{image.file_name}: outside --images; rejected"
            findings.append(Finding(data.name, "I01", message))
        elif os.path.splitext(key)[1].lower() not in SEEN:
            message = f"{image.file_name}: not an image's suffix"
            findings.append(Finding(data.name, "I02", message))
        elif key in sources:
            message = f"{image.file_name} is listed twice; the first entry counts"
            findings.append(Finding(data.name, "P05", message))
        else:
            sources[key] = Source(key, split, bytes=_size(root / key), entry=image)
    if not sources:
        raise TilerError(f"{data}: no images that could be cut")
    return Dataset(
        data,
        root,
        content.names,
        sorted(sources.values(), key=lambda source: source.key),
        (root,),
        findings,
        content.kpt_shape,
        coco=content,
        splits=(split,),
    )


def _split_of(file: Path) -> str:
    """The split that a COCO file is named after, as `instances_val2017.json` is; else train."""
    named = re.search(r"(?<![a-z])(train|val|test)(?![a-z])", file.stem.lower())
    if named is None:
        return "train"
    return named[1]


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def walk(folder: Path, findings: list[Finding], root: Path) -> Iterator[Listed]:
    """Every image under a folder, as the trainer finds them; links are followed, once."""
    folders = [str(folder)]
    links: list[str] = []
    visited: set[tuple[int, int]] = set()
    while folders or links:  # links last, so that a folder counts under its own name
        here = folders.pop() if folders else links.pop()
        try:
            status = os.stat(here)
            identity = (status.st_dev, status.st_ino)
            if identity in visited:
                continue
            visited.add(identity)
            entries = sorted(os.scandir(here), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            message = f"the folder cannot be read: {reason(error)}"
            findings.append(Finding(relative(here, root), "I01", message))
            continue
        for entry in entries:
            if _is_image(entry, root, findings):
                yield entry.path, _size(entry.path)
            if not entry.name.startswith(".") and _is_folder(entry):
                if entry.is_symlink():
                    links.append(entry.path)
                else:
                    folders.append(entry.path)


def _is_image(entry: os.DirEntry[str], root: Path, findings: list[Finding]) -> bool:
    """Whether an entry has the name of an image; reports those that the trainer does not read.

    What it is does not matter yet: a folder of such a name is rejected when it is opened.
    """
    if os.path.splitext(entry.name)[1].lower() not in SEEN:
        return False
    if entry.name.startswith("._"):  # macOS leaves one beside each file
        return False
    if entry.name.startswith("."):
        _report_unseen(entry.path, root, "a hidden file", findings)
        return False
    if not _encodable(entry.path):
        _report_unseen(entry.path, root, "its name is not UTF-8", findings)
        return False
    return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _report_unseen(path: str, root: Path, why: str, findings: list[Finding]) -> None:
    message = f"{why}: the trainer does not read it; rename it"
    findings.append(Finding(relative(path, root), "I08", message))


def _encodable(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _listed(file: Path, root: Path, findings: list[Finding]) -> Iterator[Listed]:
    """The images in a text list; relative ones are tried beside it, under the root, and here."""
    for number, line in enumerate(read_text(file, MAX_LIST_BYTES).splitlines(), 1):
        item = line.strip()
        if os.path.splitext(item)[1].lower() not in SEEN or "\0" in item:
            continue
        bases = [file.parent]
        if not item.startswith("./"):
            bases += [root, Path.cwd()]
        path = _first_existing([os.path.normpath(base / item) for base in bases])
        if path is None:
            message = f"no such image: {item}"
            findings.append(Finding(relative(str(file), root), "Y04", message, number))
        elif _encodable(path):
            yield path, _size(path)
        else:
            _report_unseen(path, root, "its path is not UTF-8", findings)


def _first_existing(paths: Sequence[str]) -> str | None:
    for path in paths:
        if os.path.exists(path):
            return path
    return None


def relative(path: str, root: Path) -> str:
    """A path as in findings and in the manifest: relative to the root, with `/`; unchanged if it
    lies outside.

    >>> relative("/data/a/b.jpg", Path("/data")), relative("/other/b.jpg", Path("/data"))
    ('a/b.jpg', '/other/b.jpg')
    """
    return path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/")


def opened(path: str) -> BufferedReader:
    """The file of an image, open for reading.

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


def _orphans(folders: Sequence[Path], sources: Sequence[Source], root: Path) -> list[Finding]:
    """Label files that hold rows but have no image, in the label folders of some image folders."""
    label_folders = {os.path.dirname(label_path(f"{folder}/x")) for folder in folders}
    paths = set().union(*map(_text_files, label_folders))
    known = {label_path(os.path.join(root, source.key)) for source in sources}
    findings = []
    for path in sorted(paths - known):
        if _holds_rows(path):
            message = f"a label file without an image{_twin(path)}"
            findings.append(Finding(relative(path, root), "P02", message))
    return findings


def _text_files(folder: str) -> set[str]:
    """Paths, with `/`, of the text files under a folder."""
    paths = set()
    for here, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".txt"):
                paths.add(os.path.join(here, name).replace(os.sep, "/"))
    return paths


def _holds_rows(path: str) -> bool:
    """Whether the first line looks like a label: class lists and notes lie among labels too."""
    try:
        with open_regular(path) as file:
            lines = file.read(4096).splitlines()
    except OSError:
        return False
    for line in lines:
        words = line.split()
        if words:
            numeric = all(re.fullmatch(rb"[-+.\deE]+", word) for word in words[:5])
            return numeric and len(words) >= 5
    return False


def _twin(path: str) -> str:
    """A file with the image's name that the trainer does not read (a GIF, say), in words."""
    image_path = "/images/".join(path.rsplit("/labels/", 1))
    folder, stem = os.path.split(image_path.removesuffix(".txt"))
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    for name in names:
        base, suffix = os.path.splitext(name)
        if base == stem and suffix != ".txt":
            return f" ({name} is not of a format that the trainer reads)"
    return ""


def _named(dataset: Dataset) -> Dataset:
    """The same with a stem for each source."""
    stems = stems_of([source.key for source in dataset.sources])
    sources = [replace(source, stem=stems[source.key]) for source in dataset.sources]
    return replace(dataset, sources=sources)


def stems_of(keys: list[str]) -> dict[str, str]:
    """A stem for each image that no other image has, on any file system.

    This is the file's own stem, if no other file has it. Otherwise its folders are put in front
    (`site1-a`), then its suffix is added (`site1-a-png`), and finally a hash of its path
    (`site1-a-png-1f3a9c02`). Long stems are cut and get a hash.

    >>> stems_of(["a/x.jpg", "b/x.jpg", "b/y.jpg"])
    {'a/x.jpg': 'a-x', 'b/x.jpg': 'b-x', 'b/y.jpg': 'y'}
    """
    levels = dict.fromkeys(keys, 0)
    while True:
        stems = {key: _stem(key, level) for key, level in levels.items()}
        same: dict[str, list[str]] = {}
        for key, stem in stems.items():
            same.setdefault(_comparable(stem), []).append(key)
        clash = False
        for group in same.values():
            for key in group:
                if len(group) > 1 and levels[key] < 3:
                    levels[key] += 1
                    clash = True
        if not clash:
            return stems


def _comparable(stem: str) -> str:
    """A stem as it may be compared: file systems may ignore case and Unicode form, and `a__s50` at
    full size is `a` at half size.
    """
    return re.sub(r"(__s\d+)+$", "", unicodedata.normalize("NFC", stem).casefold())


def _stem(key: str, level: int) -> str:
    """The stem of an image: 0 its own, 1 with its folders, 2 with its suffix, 3 with a hash."""
    path, suffix = os.path.splitext(key)
    digest = hashlib.sha256(key.encode()).hexdigest()[:8]
    folders, _, stem = path.rpartition("/")
    if level >= 1 and folders:
        parts = [folder for folder in folders.split("/") if folder not in ("", "images")]
        stem = "-".join([*parts, stem])
    if level >= 2:
        stem += "-" + suffix[1:]
    if level >= 3:
        stem += "-" + digest
    if len(stem.encode()) > LONGEST_STEM:
        stem = stem.encode()[: LONGEST_STEM - 9].decode(errors="ignore") + "-" + digest
    return stem
