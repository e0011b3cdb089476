"""The output folder: where it may be, and whether one stands there already."""

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
        TilerError: a file, or a mount point, or no place at all.
    """
    try:
        target = Path(os.path.realpath(out))
        taken = stat.S_IFMT(os.stat(target).st_mode) != stat.S_IFDIR
    except FileNotFoundError:
        taken = False
    except OSError as error:
        raise TilerError(f"--out {str(out)[:200]}: {reason(error)}") from None
    if taken:
        raise TilerError(f"--out {target}: there is a file of this name")
    if os.path.ismount(target):
        raise TilerError(
            f"--out {target}: a mount point cannot be made at once; name a folder inside it"
        )
    return target


def require_apart(target: Path, source: Path, what: str = "the predictions") -> None:
    """Refuse an output that would mix with what is read, or be read as such the next time.

    Args:
        source: predictions (of a run's folder its labels/ are read), or a folder of images or
            labels.

    Raises:
        TilerError: one lies in the other.
    """
    source = source.resolve()
    read = source / "labels" if (source / "labels").is_dir() else source
    if target == source or target in source.parents or read in (target, *target.parents):
        raise TilerError(f"--out {target}: it holds {what}, or lies in them; choose another folder")


Owned = Callable[[str], bool]  # whether a file, by its path in an output, is of it


def occupied(target: Path, mark: str, overwrite: bool, owned_in: Callable[[Folder], Owned]) -> bool:
    """Whether an output of ours stands there that must be looked at; False where there is room.

    Args:
        mark: the file by which it is known.
        owned_in: tells which files of an output are of it.

    Raises:
        TilerError: the folder holds something else, and what.
    """
    shown = str(target)
    if not target.is_dir() or not any(target.iterdir()):
        return False
    with Folder(target) as folder:
        if not folder.is_file(mark):
            found = folder.names()[0]
            what = f"holds files that are not of tiler ({found})"
            raise TilerError(f"--out {shown}: {what}; choose another folder")
        if not overwrite:
            return True
        stranger = next(strangers(folder, owned_in(folder)), None)
    if stranger is not None:
        what = f"{stranger} is not of tiler, so --overwrite does not delete it"
        raise TilerError(f"--out {shown}: {what}; move it away")
    return False


def strangers(folder: Folder, owned: Owned) -> Iterator[str]:
    """What is in an output and not of it: other files, and whatever is no file or folder."""
    for name, found in folder.walk():
        if stat.S_ISDIR(found.st_mode):
            continue
        if not stat.S_ISREG(found.st_mode) or not owned(name):
            yield name


def changed(target: Path, what: str) -> TilerError:
    """Why an output that stands there is not what this run would make."""
    return TilerError(f"--out {target}: {what}; {HINT}")


def content(folder: Folder, name: str) -> bytes:
    """A file of a complete output; nothing where it is not there.

    Raises:
        TilerError: a link, or something else that tiler does not make, has its name.
    """
    try:
        return folder.read(name)
    except OSError:
        return b""


def require_same(
    target: Path, tiler: str, options: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuse an output that another version or other options made.

    Raises:
        TilerError: what differs.
    """
    differ = [f"{k} {options.get(k)} -> {v}" for k, v in now.items() if options.get(k) != v]
    if tiler != __version__:
        differ.append(f"tiler {tiler} -> {__version__}")
    if differ:
        raise changed(target, f"made with other options ({'; '.join(differ)})")
