"""An output folder that exists if and only if it is complete.

It is built in `.<name>.partial` beside it and renamed once. A lock that dies with the process
keeps other runs out. A journal says which pieces are done, so that a run after a kill makes only
what is missing.

A staging folder is resumed only if a run on this machine made it. Its journal begins with the
seal of its lock file: that file's inode number and the time of its last change, which the system
alone sets. Nobody who packs such a folder into an archive can know them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiler.errors import TilerError, Unfinished
from tiler.formats.text_files import reason
from tiler.run.folders import Folder, Planted

LOCK, JOURNAL, TREE, REPLACED, PROBE = "lock", "journal.jsonl", "tree", "replaced", "probe"
KINDS = {
    LOCK: stat.S_ISREG,
    JOURNAL: stat.S_ISREG,
    TREE: stat.S_ISDIR,
    REPLACED: stat.S_ISDIR,
    PROBE: stat.S_ISREG,
}
PIECES = (TREE, JOURNAL, REPLACED, PROBE)  # what a staging folder holds beside its lock
PRIVATE = 0o700
RETRIES = 1000


class Staging:
    """The folder in which an output is built; use as a context manager.

    Attributes:
        out: the output folder, with its links resolved.
        tree: the folder that becomes the output, from `begin` on.
        resumed: whether an earlier run had begun it.

    Raises:
        Unfinished: another run is writing this output.
        TilerError: the place cannot be written, or holds something that tiler did not make.
    """

    tree: Folder

    def __init__(self, out: Path) -> None:
        self.out = out
        self.home = out.parent / f".{out.name}.partial"
        self.resumed = False
        self._lock: int | None = None
        self._owner = 0
        self._open: list[Folder] = []

    def __enter__(self) -> Staging:
        try:
            self._acquire()
            self._check()
        except BaseException as error:
            self._release()
            if not isinstance(error, OSError):
                raise
            if error.errno in FULL:
                raise failed(error) from None
            raise TilerError(f"{self.out}: cannot be written: {reason(error)}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _acquire(self) -> None:
        """Make the folder and take its lock."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._beside = self._held(Folder(self.out.parent))
        for _ in range(RETRIES):
            # Another run may finish just now and remove the folder, or the lock in it
            with suppress(FileNotFoundError):
                self._beside.make(self.home.name, PRIVATE)
                inside = self._beside.folder(self.home.name)
                if self._locks(inside):
                    self._inside = self._held(inside)
                    return
                inside.close()
        why = "other runs keep making and removing it"
        raise Unfinished(f"{self.home}: cannot be locked, since {why}")

    def _locks(self, inside: Folder) -> bool:
        """Take the lock; whether it is still the one in the folder."""
        lock = inside.ensure(LOCK)
        try:
            if not _locked(lock):
                raise Unfinished(f"{self.out}: another run is writing it")
            if os.path.samestat(os.fstat(lock), inside.stat(LOCK)):
                self._lock = lock
                lock = -1
                return True
        finally:
            if lock >= 0:
                os.close(lock)
        return False

    def _check(self) -> None:
        """Let no other user in, and check that all that is in it can be ours."""
        foreign = sorted(set(self._inside.names()) - set(KINDS))
        if foreign:
            what = f"holds files that are not made by tiler ({foreign[0]})"
            raise TilerError(f"{self.home}: {what}; move them")
        self._inside.restrict(PRIVATE)
        self._owner = self._writer()
        if self._beside.stat(self.home.name).st_uid != self._owner:
            what = "belongs to another user"
            raise Planted(f"{self.home}: {what}; remove it, or choose another --out")
        for name in self._inside.names():
            status = self._inside.stat(name)
            if not KINDS[name](status.st_mode) or not self._is_ours(status):
                what = f"{name} is a link, not a plain file or folder, or of another user"
                raise Planted(f"{self.home}: {what}, so not made by tiler; remove it and run again")

    def _writer(self) -> int:
        """The user that files of this run belong to; over a network not always the process's."""
        self._inside.create(PROBE).close()
        owner = self._inside.stat(PROBE).st_uid
        self._inside.remove(PROBE)
        return owner

    def _is_ours(self, status: os.stat_result) -> bool:
        """Whether it is a folder, or a file with a single name, of the user that this run writes
        as.
        """
        if status.st_uid != self._owner:
            return False
        if stat.S_ISDIR(status.st_mode):
            return True
        return stat.S_ISREG(status.st_mode) and status.st_nlink == 1

    def _held(self, folder: Folder) -> Folder:
        self._open.append(folder)
        return folder

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        while self._open:
            self._open.pop().close()

    def begin(self, fingerprint: str | None) -> dict[str, bytes]:
        """Start, or resume, the work that a fingerprint of its options describes.

        Args:
            fingerprint: of one line; None for work that is never resumed.

        Returns:
            The journal: the records of the pieces done, by key.
        """
        lock = self._inside.stat(LOCK)
        head = f"{lock.st_ino}.{lock.st_ctime_ns} {fingerprint}".encode()
        done = None if fingerprint is None else self._read_journal(head)
        self.resumed = done is not None
        with writing():
            if done is None:
                self._inside.remove(TREE)
                self._inside.write(JOURNAL, head + b"\n")
            self._inside.make(TREE)
            self.tree = self._held(self._inside.folder(TREE))
        return done or {}

    def _read_journal(self, head: bytes) -> dict[str, bytes] | None:
        """The pieces done; None where there is no journal and tree that are certainly ours."""
        if not self._inside.is_file(JOURNAL) or not self._inside.has(TREE):
            return None
        first, *lines = self._inside.read(JOURNAL).split(b"\n")
        if first != head or not self._tree_is_ours():
            return None
        done = {}
        for line in lines:
            key, tab, record = line.partition(b"\t")
            if tab and record.endswith(b"\r"):  # complete: a torn line has no end mark
                done[key.decode()] = record[:-1]
        return done

    def _tree_is_ours(self) -> bool:
        with self._inside.folder(TREE) as tree, suppress(Planted):
            return all(self._is_ours(status) for _, status in tree.walk())
        return False

    def note(self, key: str, record: bytes) -> None:
        """Add a piece that is done to the journal. Key and record have no tab or newline."""
        with writing(), self._inside.append(JOURNAL) as file:
            file.write(b"\n" + key.encode() + b"\t" + record + b"\r")

    def keep_only(self, owned: Callable[[str], bool], folders: Collection[str]) -> None:
        """Remove files of the tree that do not belong there, and empty folders.

        Args:
            owned: whether a file, by its path in the tree, belongs there.
            folders: those that belong there even when they are empty.
        """
        strays: list[str] = []
        others: list[str] = []
        for name, status in self.tree.walk():
            if stat.S_ISDIR(status.st_mode):
                if name not in folders:
                    others.append(name)
            elif not owned(name):
                strays.append(name)
        with writing():
            for name in strays:
                self.tree.remove(name)
            for name in reversed(others):  # those inside first
                with suppress(OSError):  # not empty
                    self.tree.remove_empty(name)

    def commit(self, replace: bool = False) -> None:
        """Make the tree the output. With `replace`, an old output is moved away, then removed."""
        with writing():
            if replace and self.out.is_dir() and any(self.out.iterdir()):
                self._inside.remove(REPLACED)  # of a run that was killed while it cleaned up
                self._beside.move(self.out.name, self._inside, REPLACED)
            self._inside.move(TREE, self._beside, self.out.name)
        self.discard()

    def discard(self) -> None:
        """Remove the staging folder (never the output)."""
        with suppress(OSError, Planted):
            for name in (*PIECES, LOCK):
                self._inside.remove(name)
            self._beside.remove_empty(self.home.name)

    @classmethod
    def sweep(cls, out: Path) -> None:
        """Remove the staging folder of a run that was killed after its commit, unless another run
        uses it.
        """
        with suppress(TilerError):
            staging = cls(out)
            if staging.home.is_dir():
                with staging:
                    staging.discard()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def failed(error: OSError) -> TilerError:
    """The error of a failed write, with what to do about it."""
    where = f": {str(error.filename)[:200]}" if error.filename else ""
    hint = "make room" if error.errno in FULL else "fix that"
    return Unfinished(f"cannot write: {reason(error)}{where}; {hint} and run again to resume")


@contextmanager
def writing() -> Iterator[None]:
    """A block whose failed writes (mostly a full disk) end the run; it can be resumed later."""
    try:
        yield
    except OSError as error:
        raise failed(error) from None


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        """Take the lock if it is free. It ends with the process, however that ends."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
