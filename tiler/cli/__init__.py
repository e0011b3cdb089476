"""The command line: parse, call, print.

Results go to stdout, everything else to stderr. Exit 0 done, 1 done with findings, 2 wrong
use or unusable input, 3 could not finish (run again to go on), 128 + n stopped by signal n.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Annotated

gc.set_threshold(50_000)  # start-up makes many objects that stay: collecting them is a tenth of it

import typer  # noqa: E402

from tiler.errors import TilerError  # noqa: E402
from tiler.findings import printable  # noqa: E402
from tiler.version import __version__  # noqa: E402

app = typer.Typer(
    name="tiler",
    help="Large images with small objects: a YOLO dataset to tiles that train, and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = ("split", "merge", "score", "check")

DEBUG = "TILER_DEBUG"


def _version(asked: bool) -> None:
    if asked:
        print(f"tiler {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


def add_commands(arguments: Sequence[str]) -> None:
    """The one that is called; all of them where it is not plain which one that is."""
    called = [name for name in arguments[:1] if name in COMMANDS]
    for name in called or COMMANDS:
        app.command(name, no_args_is_help=True)(import_module(f"tiler.cli.{name}").command)


def main() -> None:
    """The `tiler` command."""
    if sys.getfilesystemencoding() != "utf-8" and os.name == "posix" and "-X" not in sys.orig_argv:
        # File names are bytes that nearly always are UTF-8, whatever the locale says
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606
    if "--debug" in sys.argv:  # wherever it stands
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"
    _keep_stderr()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # and those of helper processes that outlive us for a moment
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads for linear algebra, which is not done here
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _stopped)
    add_commands(sys.argv[1:])
    try:
        app()
    except SystemExit as ended:
        _leave(ended.code if isinstance(ended.code, int) else 1)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        if isinstance(error, TilerError):
            _fail(str(error), error.exit_code)
        if isinstance(error, OSError):
            _fail(f"cannot go on: {error.strerror or error}", 3)
        if isinstance(error, MemoryError):
            _fail("not enough memory; run again with fewer --workers to go on", 3)
        _fail(f"a fault of tiler itself: {type(error).__name__}: {error}; --debug shows where, please report it", 3)


def _keep_stderr() -> None:
    """Keep stderr for ourselves: what joblib's helper processes print when one of them is killed
    (their own tracebacks) is nothing to a user."""
    if os.environ.get(DEBUG):
        return
    with suppress(OSError, ValueError, AttributeError):  # there may be none
        kept = os.dup(sys.stderr.fileno())
        sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=sys.stderr.encoding)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _fail(message: str, code: int) -> None:
    print(f"tiler: {printable(message)}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> None:
    """End, without the time that taking the libraries down costs, unless joblib has processes to end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # whoever read us may have enough
            stream.flush()
    if "joblib" in sys.modules:
        sys.exit(code)
    os._exit(code)


def _stopped(number: int, _: FrameType | None) -> None:
    """End at once: whatever was being written is in the staging folder, and safe to go on with."""
    cursor = "\x1b[?25h\n" if sys.stderr is not None and sys.stderr.isatty() else ""
    name = signal.Signals(number).name
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stderr.fileno(), f"{cursor}tiler: stopped by {name}; run again to go on\n".encode())
    children = sys.modules["multiprocessing"].active_children() if "multiprocessing" in sys.modules else []
    for child in children:
        with suppress(OSError):  # by its number: not every kind of child has a kill()
            os.kill(child.pid or 0, getattr(signal, "SIGKILL", signal.SIGTERM))
    if children and hasattr(os, "WNOHANG"):
        os.closerange(3, 256)  # joblib's helper, which removes its semaphores, ends with its pipe
        patience = time.monotonic() + 2
        with suppress(ChildProcessError):
            while time.monotonic() < patience:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.005)
    os._exit(128 + number)
