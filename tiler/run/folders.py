"""A folder held open, below which nothing is reached through a link.

Whoever can put files into a folder of ours (an archive that is unpacked there, another user of
a shared disk) may plant a link where we are about to write, or a pipe where we are about to
read. So every name is looked up from the handle of its folder, one part after the other, and
none of the parts may be a link; what is opened is a regular file with no second name elsewhere.

Windows has no such handles. There the same is asked of each name just before its use, which
holds against what was planted before, but not against someone who plants at that very moment.
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
from types import TracebackType
from typing import BinaryIO

from tiler.errors import TilerError

HANDLES = {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.rmdir} <= os.supports_dir_fd
AS_IT_IS = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
FOLDER = os.O_RDONLY | AS_IT_IS | getattr(os, "O_DIRECTORY", 0)
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | AS_IT_IS
DEEPEST = 100  # folders in one another; the trees that tiler makes are as deep as its sources
NO_FOLDER = (errno.ELOOP, errno.ENOTDIR)  # how the system answers where a folder is wanted
NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # and where a file is: a link, folder, pipe


class Planted(TilerError):
    """Something stands in a folder of ours that tiler does not make: a link, a pipe, a device."""


class Folder:
    """A real folder and what is below it, by names relative to it, with `/` between their parts.

    Attributes:
        path: where it is, for messages.

    Raises:
        OSError: it is not there, or cannot be opened.
        Planted: it is a link, or no folder.

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
            self._handle = _opened_folder(self.path) if handle is None else handle
        elif not stat.S_ISDIR(os.lstat(self.path).st_mode):
            raise _planted(self.path)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        """A worker process opens the folder anew, and looks whether it still is the same."""
        return _reopened, (str(self.path), self.identity)

    @property
    def identity(self) -> int:
        """The folder's number on its disk."""
        return (os.lstat(self.path) if self._handle is None else os.fstat(self._handle)).st_ino

    def close(self) -> None:
        """Let go of the handle. Nothing else can be done with the folder then."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    # --- Looking

    def names(self) -> list[str]:
        """What is in it, sorted."""
        return sorted(os.listdir(self.path if self._handle is None else self._handle))

    def stat(self, name: str) -> os.stat_result:
        """Of a name itself, whatever a link leads to.

        Raises:
            FileNotFoundError: there is nothing of this name.
        """
        with self._parent(name) as (last, where):
            return os.stat(last, dir_fd=where, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether anything of this name is there."""
        try:
            self.stat(name)
        except (FileNotFoundError, Planted):
            return False
        return True

    def is_file(self, name: str) -> bool:
        """Whether a regular file of this name is there."""
        try:
            return stat.S_ISREG(self.stat(name).st_mode)
        except (OSError, Planted):
            return False

    def stamp(self, name: str) -> tuple[int, int]:
        """The size of a file, and when the system saw it change last, in ns.

        The system alone sets that time, so a file that someone else put in its place has
        another one.
        """
        found = self.stat(name)
        return found.st_size, found.st_ctime_ns

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything below it: a folder before what is in it. Links are told, not followed.

        Raises:
            Planted: folders in folders, deeper than any that tiler makes.
        """
        waiting = [""]
        while waiting:
            above = waiting.pop()
            if above.count("/") >= DEEPEST:
                raise Planted(
                    f"{self._shown(above)}: over {DEEPEST} folders deep; not of tiler, remove it"
                )
            with self.folder(above) as here:
                for name in here.names():
                    found = here.stat(name)
                    below = f"{above}/{name}" if above else name
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(below)
                    yield below, found

    # --- Opening

    def folder(self, name: str) -> Folder:
        """A folder below it; of the empty name, itself once more."""
        with self._parent(f"{name}/." if name else ".") as (_, where):
            return Folder(self.path / name, None if where is None else os.dup(where))

    def open(self, name: str) -> BinaryIO:
        """A file that is there, for reading."""
        return self._regular(name, os.O_RDONLY)

    def append(self, name: str) -> BinaryIO:
        """A file that is there, to write on at its end."""
        return self._regular(name, os.O_RDWR | os.O_APPEND)

    def create(self, name: str) -> BinaryIO:
        """A new file, for writing and reading; what stood there is removed, never written to."""
        return os.fdopen(self.opener(name), "w+b")

    def opener(self, name: str, _: int = 0) -> int:
        """The descriptor of a new file: the `opener` of `open(name, "w+b")`."""
        with self._parent(name) as (last, where):
            with suppress(FileExistsError):
                return os.open(last, NEW, 0o666, dir_fd=where)
            self.remove(name)
            return os.open(last, NEW, 0o666, dir_fd=where)

    def ensure(self, name: str) -> int:
        """The descriptor of a file, made where it is not there yet: a lock."""
        with self._parent(name) as (last, where):
            if where is None and os.path.islink(last):
                raise _planted(last)
            try:
                return os.open(last, os.O_RDWR | os.O_CREAT | AS_IT_IS, 0o666, dir_fd=where)
            except OSError as error:
                if error.errno in NO_FILE:
                    raise _planted(self.path / name) from None
                raise

    def opened(self, path: Path) -> BinaryIO:
        """`open`, by a path that begins with the folder's own."""
        return self.open(path.relative_to(self.path).as_posix())

    # --- Changing

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self.open(name) as file:
            return file.read()

    def write(self, name: str, content: bytes) -> int:
        """A new file of this content; its size."""
        with self.create(name) as file:
            return file.write(content)

    def make(self, name: str, mode: int = 0o777) -> None:
        """A folder, and those above it, where they are not there yet.

        Raises:
            Planted: something else has the name.
        """
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            with self._parent("/".join(parts[:count])) as (last, where), suppress(FileExistsError):
                os.mkdir(last, mode, dir_fd=where)
        self.folder(name).close()

    def restrict(self, mode: int) -> None:
        """Set its permissions, where the disk has such."""
        with suppress(OSError):
            os.chmod(self.path if self._handle is None else self._handle, mode)

    def remove_empty(self, name: str) -> None:
        """Remove a folder that has nothing in it."""
        with self._parent(name) as (last, where):
            os.rmdir(last, dir_fd=where)

    def remove(self, name: str) -> None:
        """What has this name, whatever it is, with all that is in it; links are not followed.

        Raises:
            Planted: folders in folders, deeper than any that tiler makes.
        """
        with self._parent(name) as (last, where), suppress(FileNotFoundError):
            found = os.stat(last, dir_fd=where, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(last, dir_fd=where)
                return
            try:
                shutil.rmtree(last, dir_fd=where)
            except RecursionError:
                raise Planted(
                    f"{self._shown(name)}: folders too deep to be of tiler; remove it"
                ) from None

    def move(self, name: str, to: Folder, new: str) -> None:
        """Give something directly in this folder another name, in another folder of the same disk."""
        source, target = (name, new) if HANDLES else (self.path / name, to.path / new)
        os.rename(source, target, src_dir_fd=self._handle, dst_dir_fd=to._handle)

    # --- Names

    @contextmanager
    def _parent(self, name: str) -> Iterator[tuple[str, int | None]]:
        """The last part of a name, with the handle of the folder that holds it; without handles,
        the whole path."""
        *above, last = name.split("/")
        if self._handle is None:
            yield self._looked_up(above, last), None
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

    def _looked_up(self, above: list[str], last: str) -> str:
        path = str(self.path)
        for part in above:
            path = os.path.join(path, part)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise _planted(path)
        return os.path.join(path, last)

    def _regular(self, name: str, flags: int) -> BinaryIO:
        with self._parent(name) as (last, where):
            if where is None and not stat.S_ISREG(os.lstat(last).st_mode):
                raise _planted(last)
            try:
                descriptor = os.open(last, flags | AS_IT_IS, dir_fd=where)
            except OSError as error:
                if error.errno in NO_FILE:
                    raise _planted(self.path / name) from None
                raise
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(descriptor)
            raise _planted(self.path / name)
        return os.fdopen(descriptor, "ab" if flags & os.O_APPEND else "rb")

    def _shown(self, name: str) -> str:
        return str(self.path / name)[:200]


def _opened_folder(name: str | Path, above: int | None = None, shown: str | Path = "") -> int:
    try:
        return os.open(name, FOLDER, dir_fd=above)
    except OSError as error:
        if error.errno in NO_FOLDER:
            raise _planted(shown or name) from None
        raise


def _planted(path: str | Path) -> Planted:
    shown = str(path)[:200]
    return Planted(
        f"{shown}: a link, or no plain file or folder: not of tiler; remove it, and run again"
    )


@lru_cache(maxsize=4)
def _reopened(path: str, identity: int) -> Folder:
    """The folder that another process holds.

    Raises:
        Planted: another one stands there now.
    """
    folder = Folder(path)
    if folder.identity != identity:
        raise _planted(path)
    return folder
