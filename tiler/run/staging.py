"""An output folder that exists if and only if it is complete.

It is built in `.<name>.partial` beside it and renamed once. A lock that dies with the process
keeps others out; a journal says which pieces are done, so that a run after a kill makes only
what is missing.

What is found there is resumed only if a run on this machine made it. The journal begins with
the seal of its lock file: that file's number and the time of its last change, which the system
alone sets. Neither can be known to whoever packs such a folder into an archive.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

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
PIECES = (TREE, JOURNAL, REPLACED, PROBE)  # of a staging folder, beside its lock
PRIVATE = 0o700
RETRIES = 1000


class Staging:
    """The folder in which an output is built; use as a context manager.

    Attributes:
        out: the output folder, with its links resolved.
        tree: what becomes it, from `begin` on.
        resumed: whether an earlier run had begun it.

    Raises:
        Unfinished: another run holds this output.
        TilerError: the place cannot be written, or something there is not of tiler.
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
            self._look_around()
        except BaseException as error:
            self._release()
            if not isinstance(error, OSError):
                raise
            if error.errno in FULL:
                raise failed(error) from None
            raise TilerError(f"{self.out}: cannot be written: {reason(error)}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _acquire(self) -> None:
        """Make the folder and take its lock."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._beside = self._held(Folder(self.out.parent))
        for _ in range(RETRIES):
            # The other run may just now finish and remove the folder, or the lock in it
            with suppress(FileNotFoundError):
                self._beside.make(self.home.name, PRIVATE)
                inside = self._beside.folder(self.home.name)
                if self._locks(inside):
                    self._inside = self._held(inside)
                    return
                inside.close()
        shown = str(self.home)
        raise Unfinished(f"{shown}: cannot be locked, since others make and remove it all the time")

    def _locks(self, inside: Folder) -> bool:
        """Whether the lock was taken that stands in the folder now."""
        lock = inside.ensure(LOCK)
        try:
            if not _locked(lock):
                raise Unfinished(f"{self.out}: another run is writing it")
            if os.path.samestat(os.fstat(lock), inside.stat(LOCK)):
                self._lock, lock = lock, -1
                return True
        finally:
            if lock >= 0:
                os.close(lock)
        return False

    def _look_around(self) -> None:
        """Let no one else in, and see that all that is there can be ours."""
        shown = str(self.home)
        foreign = sorted(set(self._inside.names()) - set(KINDS))
        if foreign:
            what = f"holds files that are not of tiler ({foreign[0]})"
            raise TilerError(f"{shown}: {what}; move them")
        self._inside.restrict(PRIVATE)
        self._inside.create(PROBE).close()
        self._owner = self._inside.stat(PROBE).st_uid  # over a network not always the process's
        self._inside.remove(PROBE)
        if self._beside.stat(self.home.name).st_uid != self._owner:
            raise Planted(f"{shown}: belongs to someone else; remove it, or choose another --out")
        for name in self._inside.names():
            found = self._inside.stat(name)
            if not KINDS[name](found.st_mode) or not self._ours(found):
                what = f"{name} is a link, no plain file or folder, or of someone else"
                raise Planted(f"{shown}: {what}: not of tiler; remove it, and run again")

    def _ours(self, found: os.stat_result) -> bool:
        """Whether it is a folder, or a file with no second name, of whom this run writes as."""
        plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        return (plain or stat.S_ISDIR(found.st_mode)) and found.st_uid == self._owner

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
        """Start, or resume, work that is described by a fingerprint of its options.

        Args:
            fingerprint: of one line; None for what is made anew each time.

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
        """The pieces done; None where there is nothing that can be trusted to be ours."""
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
            return all(self._ours(found) for _, found in tree.walk())
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
        found: list[str] = []
        for name, what in self.tree.walk():
            if stat.S_ISDIR(what.st_mode):
                found.append(name)
            elif not owned(name):
                strays.append(name)
        with writing():
            for name in strays:
                self.tree.remove(name)
            for name in reversed(found):  # those inside first
                if name not in folders:
                    with suppress(OSError):  # not empty
                        self.tree.remove_empty(name)

    def commit(self, replace: bool = False) -> None:
        """Make the tree the output. With `replace`, an old output makes room for it."""
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
        """Remove what a run left that was killed after it had finished; not what another holds."""
        with suppress(TilerError):
            if (staging := cls(out)).home.is_dir():
                with staging:
                    staging.discard()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def failed(error: OSError) -> TilerError:
    """What a failed write means to the user."""
    where = f": {str(error.filename)[:200]}" if error.filename else ""
    mend = "make room" if error.errno in FULL else "mend that"
    return Unfinished(f"cannot write: {reason(error)}{where}; {mend} and run again to go on")


@contextmanager
def writing() -> Iterator[None]:
    """Writes whose failure (a full disk, mostly) ends the run, which can be resumed later."""
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
        """Take the lock if it is free. It goes with the process, however that ends."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
