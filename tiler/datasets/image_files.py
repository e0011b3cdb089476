"""Image files: found in folders and text lists, opened, and measured by their headers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from tiler.datasets.dataset import relative
from tiler.errors import SourceRefused
from tiler.findings import Finding
from tiler.formats.text_files import open_regular, read_text, reason
from tiler.images.header import formats, probe

READ = frozenset(formats())
# The trainer's IMG_FORMATS; an image that tiler cannot read is at least reported.
SEEN = READ | {".avif", ".dng", ".heic", ".heif", ".jp2", ".jpeg2000"}
MAX_LIST_BYTES = 256_000_000

Listed = tuple[str, int]  # path and size in bytes of an image


def has_image_suffix(name: str) -> bool:
    """Whether a file has the name of an image.

    >>> has_image_suffix("a/b.JPG"), has_image_suffix("b.txt")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in SEEN


def file_size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def walk(folder: Path, findings: list[Finding], root: Path, without: str = "") -> Iterator[Listed]:
    """Every image under a folder, as the trainer finds them; links are followed, once.

    Args:
        without: folders below that hold a file of this name are passed over.
    """
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
        if without and here != str(folder) and any(e.name == without for e in entries):
            continue
        for entry in entries:
            if _is_image(entry, root, findings):
                yield entry.path, file_size(entry.path)
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


def listed(file: Path, root: Path, findings: list[Finding]) -> Iterator[Listed]:
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
            yield path, file_size(path)
        else:
            _report_unseen(path, root, "its path is not UTF-8", findings)


def _first_existing(paths: Sequence[str]) -> str | None:
    for path in paths:
        if os.path.exists(path):
            return path
    return None


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
