"""A folder held open, below which nothing is reached through a link.

Anyone who can put files into a folder of ours (an archive unpacked there, another user of a
shared disk) may plant a link where we are about to write, or a pipe where we are about to read.
So every name is looked up from the handle of its folder, one part after the other, and none of
the parts may be a link. Only regular files with a single name are opened.

Windows has no such handles. There each name is checked just before its use, which protects from
what was planted earlier, but not from someone who plants at that very moment.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from tiler.errors import TilerError

HANDLES = {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.rmdir} <= os.supports_dir_fd
AS_IT_IS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a pipe does not wait for its other end
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
FOLDER = os.O_RDONLY | AS_IT_IS | getattr(os, "O_DIRECTORY", 0)
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | AS_IT_IS
DEEPEST = 100  # nested folders; the trees that tiler makes are as deep as its sources
NOT_A_FOLDER = (errno.ELOOP, errno.ENOTDIR)  # errors of opening a link or a file as a folder
NOT_A_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # of a link, folder or pipe as a file


class Planted(TilerError):
    """A folder of ours holds something that tiler does not make: a link, a pipe, a device."""


class Folder:
    """A real folder and what is below it, by names relative to it, with `/` between their parts.

    Attributes:
        path: where it is, for messages.

    Raises:
        OSError: it does not exist, or cannot be opened.
        Planted: it is a link, or not a folder.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place, Folder(place) as folder:
    ...     folder.make("labels/train")
    ...     folder.write("labels/train/a.txt", b"0 .5 .5 .1 .1")
    ...     [name for name, _ in folder.walk()]
    13
    ['labels', 'labels/train', 'labels/train/a.txt']
    """

    def __init__(self, path: str | Path, handle: int | None = None) -> None:
        self.path = Path(path)
        self._handle: int | None = None
        if HANDLES:
            if handle is None:
                handle = _opened_folder(self.path)
            self._handle = handle
        elif not stat.S_ISDIR(os.lstat(self.path).st_mode):
            raise _planted(self.path)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        """A worker process opens the folder anew, and checks that it is still the same."""
        return _reopened, (str(self.path), self.identity)

    @property
    def identity(self) -> int:
        """The folder's inode number."""
        if self._handle is None:
            return os.lstat(self.path).st_ino
        return os.fstat(self._handle).st_ino

    @property
    def _place(self) -> Path | int:
        """The folder as functions of `os` take it."""
        if self._handle is None:
            return self.path
        return self._handle

    def close(self) -> None:
        """Close the handle. After that, nothing can be done with the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # --- Looking

    def names(self) -> list[str]:
        """The names in it, sorted."""
        return sorted(os.listdir(self._place))

    def stat(self, name: str) -> os.stat_result:
        """The status of a name; of a link itself, not of its target.

        Raises:
            FileNotFoundError: nothing has this name.
        """
        with self._parent(name) as (last, where):
            return os.stat(last, dir_fd=where, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether anything has this name."""
        try:
            self.stat(name)
        except (FileNotFoundError, Planted):
            return False
        return True

    def is_file(self, name: str) -> bool:
        """Whether a regular file has this name."""
        try:
            status = self.stat(name)
        except (OSError, Planted):
            return False
        return stat.S_ISREG(status.st_mode)

    def stamp(self, name: str) -> tuple[int, int]:
        """The size of a file, and the time of its last change (ctime) in ns.

        The system alone sets that time, so a file that someone else put in its place has another.
        """
        status = self.stat(name)
        return status.st_size, status.st_ctime_ns

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything below it: a folder before what is in it. Links are not followed.

        Raises:
            Planted: folders nested deeper than any that tiler makes.
        """
        waiting = [""]
        while waiting:
            above = waiting.pop()
            if above.count("/") >= DEEPEST:
                raise Planted(
                    f"{self._shown(above)}: over {DEEPEST} folders deep, so not made by tiler; "
                    "remove it"
                )
            with self.folder(above) as here:
                for name in here.names():
                    status = here.stat(name)
                    below = f"{above}/{name}" if above else name
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(below)
                    yield below, status

    # --- Opening

    def folder(self, name: str) -> Folder:
        """A folder below it; for the empty name, the folder itself, opened once more."""
        inside = f"{name}/." if name else "."
        with self._parent(inside) as (_, where):
            handle = None
            if where is not None:
                handle = os.dup(where)
            return Folder(self.path / name, handle)

    def open(self, name: str) -> BinaryIO:
        """An existing file, for reading."""
        return self._regular(name, os.O_RDONLY)

    def append(self, name: str) -> BinaryIO:
        """An existing file, for writing at its end."""
        return self._regular(name, os.O_RDWR | os.O_APPEND)

    def create(self, name: str) -> BinaryIO:
        """A new file, for writing and reading; an old one is removed, never written to."""
        return os.fdopen(self.opener(name), "w+b")

    def opener(self, name: str, _: int = 0) -> int:
        """The descriptor of a new file: the `opener` of `open(name, "w+b")`."""
        with self._parent(name) as (last, where):
            with suppress(FileExistsError):
                return os.open(last, NEW, 0o666, dir_fd=where)
            self.remove(name)
            return os.open(last, NEW, 0o666, dir_fd=where)

    def ensure(self, name: str) -> int:
        """The descriptor of a file (a lock), which is made if it does not exist."""
        with self._parent(name) as (last, where):
            if where is None and os.path.islink(last):
                raise _planted(last)
            try:
                return os.open(last, os.O_RDWR | os.O_CREAT | AS_IT_IS, 0o666, dir_fd=where)
            except OSError as error:
                if error.errno in NOT_A_FILE:
                    raise _planted(self.path / name) from None
                raise

    def opened(self, path: Path) -> BinaryIO:
        """`open`, by a path that begins with the folder's own."""
        name = path.relative_to(self.path).as_posix()
        return self.open(name)

    # --- Changing

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self.open(name) as file:
            return file.read()

    def write(self, name: str, content: bytes) -> int:
        """Write a new file and return its size."""
        with self.create(name) as file:
            return file.write(content)

    def link(self, name: str, target: Path) -> None:
        """A new name for a file elsewhere: a symbolic link, which leaves the file untouched; a hard
        link where there are none (on Windows they need a privilege).

        Raises:
            OSError: the disk has neither.
        """
        real = os.path.realpath(target)
        with self._parent(name) as (last, where):
            try:
                os.symlink(real, last, dir_fd=where)
            except OSError:
                os.link(real, last, dst_dir_fd=where)

    def make(self, name: str, mode: int = 0o777) -> None:
        """Make a folder, and those above it, unless they exist.

        Raises:
            Planted: something else has the name.
        """
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            above = "/".join(parts[:count])
            with self._parent(above) as (last, where), suppress(FileExistsError):
                os.mkdir(last, mode, dir_fd=where)
        self.folder(name).close()

    def restrict(self, mode: int) -> None:
        """Set its permissions, if the disk has any."""
        with suppress(OSError):
            os.chmod(self._place, mode)

    def remove_empty(self, name: str) -> None:
        """Remove an empty folder."""
        with self._parent(name) as (last, where):
            os.rmdir(last, dir_fd=where)

    def remove(self, name: str) -> None:
        """Remove what has this name, if anything, with all that is in it. Links are not followed.

        Raises:
            Planted: folders nested deeper than any that tiler makes.
        """
        with self._parent(name) as (last, where), suppress(FileNotFoundError):
            status = os.stat(last, dir_fd=where, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(last, dir_fd=where)
                return
            try:
                shutil.rmtree(last, dir_fd=where)
            except RecursionError:
                raise Planted(
                    f"{self._shown(name)}: folders too deep to be made by tiler; remove it"
                ) from None

    def move(self, name: str, to: Folder, new: str) -> None:
        """Move something that is directly in this folder to another folder on the same disk."""
        if HANDLES:
            os.rename(name, new, src_dir_fd=self._handle, dst_dir_fd=to._handle)
        else:
            os.rename(self.path / name, to.path / new)

    # --- Names

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[str, int | None]]:
        """The last part of a name, and the handle of the folder that holds it; without handles, the
        whole path and None.
        """
        *above, last = name.split("/")
        if self._handle is None:
            yield self._path_without_links(above, last), None
            return
        handle = os.dup(self._handle)
        try:
            for part in above:
                inner = _opened_folder(part, handle, self.path / name)
                os.close(handle)
                handle = inner
            yield last, handle
        finally:
            os.close(handle)

    def _path_without_links(self, above: list[str], last: str) -> str:
        path = str(self.path)
        for part in above:
            path = os.path.join(path, part)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise _planted(path)
        return os.path.join(path, last)

    def _regular(self, name: str, flags: int) -> BinaryIO:
        """An existing regular file that has no second name."""
        with self._parent(name) as (last, where):
            if where is None and not stat.S_ISREG(os.lstat(last).st_mode):
                raise _planted(last)
            try:
                descriptor = os.open(last, flags | AS_IT_IS, dir_fd=where)
            except OSError as error:
                if error.errno in NOT_A_FILE:
                    raise _planted(self.path / name) from None
                raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(descriptor)
            raise _planted(self.path / name)
        return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "rb")

    def _shown(self, name: str) -> str:
        return str(self.path / name)[:200]


def _opened_folder(name: str | Path, above: int | None = None, shown: str | Path = "") -> int:
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except OSError as error:
        if error.errno in NOT_A_FOLDER:
            raise _planted(shown or name) from None
        raise


def _planted(path: str | Path) -> Planted:
    shown = str(path)[:200]
    return Planted(
        f"{shown}: a link, or not a plain file or folder, so not made by tiler; remove it and run "
        "again"
    )


@lru_cache(maxsize=4)
def _reopened(path: str, identity: int) -> Folder:
    """The folder that another process holds open.

    Raises:
        Planted: it is another folder by now.
    """
    folder = Folder(path)
    if folder.identity != identity:
        raise _planted(path)
    return folder
