"""An output folder that exists if and only if it is complete.

It is built in `.<name>.partial` beside it and renamed once. A lock that dies with the
process keeps others out; a journal says which pieces are done, so that a run after a kill
does only what is missing.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tiler.errors import TilerError, Unfinished
from tiler.findings import printable
from tiler.formats.text import reason

PIECES = ("tree", "journal.jsonl", "replaced")  # of a staging folder, beside its lock
RETRIES = 1000


class Staging:
    """The folder in which an output is built; use as a context manager.

    Attributes:
        out: the output folder.
        tree: what becomes it.

    Raises:
        Unfinished: another run holds this output.
        TilerError: the place cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.home = out.parent / f".{out.name}.partial"
        self.tree = self.home / "tree"
        self._lock: int | None = None
        self._journal = self.home / "journal.jsonl"
        self.resumed = False

    def __enter__(self) -> Staging:
        try:
            self._acquire()
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(error) from None
            raise TilerError(f"{printable(str(self.out))}: cannot be written: {reason(error)}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    def _acquire(self) -> None:
        path = self.home / "lock"
        self.out.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(RETRIES):
            try:
                self.home.mkdir(exist_ok=True)
                self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except (FileNotFoundError, FileExistsError):
                if os.path.lexists(self.home) and not self.home.is_dir():
                    raise
                continue  # the other run has just finished and removed the folder
            if not _locked(self._lock):
                self._release()
                raise Unfinished(f"{printable(str(self.out))}: another run is writing it")
            try:
                if os.path.samestat(os.fstat(self._lock), os.stat(path)):
                    break
            except FileNotFoundError:
                pass
            self._release()  # locked a file that the other run has removed since
        else:
            raise Unfinished(f"{printable(str(self.home))}: cannot be locked, since others make and remove it all the time")
        foreign = sorted(set(os.listdir(self.home)) - {*PIECES, "lock"})
        if foreign:
            self._release()
            raise TilerError(
                f"{printable(str(self.home))}: holds files that are not of tiler ({printable(foreign[0])}); move them"
            )

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def begin(self, fingerprint: str) -> dict[str, bytes]:
        """Start, or go on with, work that is described by a fingerprint of its options.

        Returns:
            The journal: the records of the pieces done, by key.
        """
        done = self._read_journal(fingerprint)
        if done is None:
            shutil.rmtree(self.tree, ignore_errors=True)
            with writing():
                self._journal.write_bytes(fingerprint.encode() + b"\n")
        self.resumed = done is not None
        with writing():
            self.tree.mkdir(exist_ok=True)
        return done or {}

    def _read_journal(self, fingerprint: str) -> dict[str, bytes] | None:
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            return None
        first, *lines = data.split(b"\n")
        if first != fingerprint.encode() or not self.tree.is_dir():
            return None
        done = {}
        for line in lines:
            key, tab, record = line.partition(b"\t")
            if tab and record.endswith(b"\r"):  # complete: a torn line has no end mark
                done[key.decode()] = record[:-1]
        return done

    def note(self, key: str, record: bytes) -> None:
        """Add a piece that is done to the journal. Key and record have no tab or newline."""
        with writing(), open(self._journal, "ab") as file:
            file.write(b"\n" + key.encode() + b"\t" + record + b"\r")

    def commit(self, replaced: Path | None = None) -> None:
        """Make the tree the output. `replaced`: an old output that makes room for it."""
        with writing():
            if replaced is not None:
                shutil.rmtree(self.home / "replaced", ignore_errors=True)  # of a run killed while it cleaned up
                os.rename(replaced, self.home / "replaced")
            os.rename(self.tree, self.out)
        self.discard()

    def discard(self) -> None:
        """Remove the staging folder (never the output)."""
        for name in PIECES:
            shutil.rmtree(self.home / name, ignore_errors=True)
            with suppress(OSError):
                (self.home / name).unlink()
        with suppress(OSError):
            (self.home / "lock").unlink()
            self.home.rmdir()

    @classmethod
    def sweep(cls, out: Path) -> None:
        """Remove what a run left that was killed after it had finished; not what another run holds."""
        with suppress(TilerError):
            if (staging := cls(out)).home.is_dir():
                with staging:
                    staging.discard()


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full(error: OSError) -> Unfinished:
    """What a failed write means to the user."""
    where = f": {printable(str(error.filename))}" if error.filename else ""
    mend = "make room" if error.errno in FULL else "mend that"
    return Unfinished(f"cannot write: {reason(error)}{where}; {mend} and run again to go on")


@contextmanager
def writing() -> Iterator[None]:
    """Writes whose failure (a full disk, mostly) ends the run, which can go on later."""
    try:
        yield
    except OSError as error:
        raise disk_full(error) from None


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
