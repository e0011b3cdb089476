"""The output folder: where it may be, and whether one exists already."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tiler.errors import TilerError
from tiler.formats.text_files import reason
from tiler.run.folders import Folder
from tiler.version import __version__

HINT = "use --overwrite, or another --out"


def resolved(out: Path) -> Path:
    """An output folder with its links resolved.

    Raises:
        TilerError: a file, a mount point, or a path that cannot exist.
    """
    try:
        target = Path(os.path.realpath(out))
        is_file = not stat.S_ISDIR(os.stat(target).st_mode)
    except FileNotFoundError:
        is_file = False
    except OSError as error:
        raise TilerError(f"--out {str(out)[:200]}: {reason(error)}") from None
    if is_file:
        raise TilerError(f"--out {target}: there is a file of this name")
    if os.path.ismount(target):
        raise TilerError(
            f"--out {target}: a mount point cannot be replaced; name a folder inside it"
        )
    return target


def require_apart(target: Path, source: Path, what: str = "the predictions") -> None:
    """Reject an output that would mix with what is read, or be read as input the next time.

    Args:
        source: a folder of images, labels or predictions. If it has a folder labels/, only that is
            read.

    Raises:
        TilerError: one lies in the other.
    """
    source = source.resolve()
    read = source
    if (source / "labels").is_dir():
        read = source / "labels"
    if target == source or target in source.parents or read in (target, *target.parents):
        raise TilerError(f"--out {target}: it holds {what}, or lies in them; choose another folder")


Owned = Callable[[str], bool]  # whether a file, by its path in an output, belongs to it


def occupied(
    target: Path,
    mark: str,
    overwrite: bool,
    owned_in: Callable[[Folder], Owned],
    links: str | None = None,
) -> bool:
    """Whether an output exists that must be compared; False where this run may write.

    Args:
        mark: the file that marks a folder as an output.
        overwrite: whether an output may be replaced, if all its files belong to it.
        links: how the path of a file begins that may be a symbolic link; None: none may.
        owned_in: tells which files of an output belong to it.

    Raises:
        TilerError: the folder holds something else, and what.
    """
    if not target.is_dir() or not any(target.iterdir()):
        return False
    with Folder(target) as folder:
        if not folder.is_file(mark):
            what = f"holds files that are not made by tiler ({folder.names()[0]})"
            raise TilerError(f"--out {target}: {what}; choose another folder")
        if not overwrite:
            return True
        stranger = next(strangers(folder, owned_in(folder), links), None)
    if stranger is not None:
        what = f"{stranger} is not made by tiler, so --overwrite does not delete it"
        raise TilerError(f"--out {target}: {what}; move it away")
    return False


def strangers(folder: Folder, owned: Owned, links: str | None = None) -> Iterator[str]:
    """What is in an output but does not belong to it: other files, links, pipes, devices."""
    for name, status in folder.walk():
        if stat.S_ISDIR(status.st_mode):
            continue
        is_file = stat.S_ISREG(status.st_mode)
        if links is not None and name.startswith(links):
            is_file = is_file or stat.S_ISLNK(status.st_mode)
        if not is_file or not owned(name):
            yield name


def changed(target: Path, what: str) -> TilerError:
    """The error that an existing output is not what this run would make."""
    return TilerError(f"--out {target}: {what}; {HINT}")


def content(folder: Folder, name: str) -> bytes:
    """The content of a file of a complete output; empty where it does not exist.

    Raises:
        TilerError: a link, or something else that tiler does not make, has its name.
    """
    try:
        return folder.read(name)
    except OSError:
        return b""


def require_files(folder: Folder, sizes: dict[str, int]) -> None:
    """Raises:
    TilerError: a file of an output is missing, or has another size.
    """
    for name, size in sizes.items():
        if not folder.is_file(name):
            raise changed(folder.path, f"{name} is missing")
        now = folder.stat(name).st_size
        if now != size:
            raise changed(folder.path, f"{name} has {now} bytes, it had {size}")


def require_same(
    target: Path, tiler: str, options: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Reject an output that another version or other options made.

    Args:
        tiler, options: the version and options that made it.
        now: the options of this run.

    Raises:
        TilerError: what differs.
    """
    differences = []
    for name, value in now.items():
        before = options.get(name)
        if before != value:
            differences.append(f"{name} {before} -> {value}")
    if tiler != __version__:
        differences.append(f"tiler {tiler} -> {__version__}")
    if differences:
        raise changed(target, f"made with other options ({'; '.join(differences)})")
