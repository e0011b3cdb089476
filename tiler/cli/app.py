"""The commands, and how a run of one begins and ends."""

from __future__ import annotations

import gc
import inspect
import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, NoReturn

gc.set_threshold(
    50_000
)  # most objects of the start-up stay; looking for garbage takes a tenth of it

import typer  # noqa: E402

from tiler.cli import hints  # noqa: E402
from tiler.errors import TilerError, Unfinished, printable  # noqa: E402
from tiler.version import __version__  # noqa: E402

app = typer.Typer(
    name="tiler",
    help="Large images with small objects: a YOLO dataset to tiles, ready to train, and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = ("split", "plan", "predict", "merge", "score", "check", "show")

DEBUG = "TILER_DEBUG"  # also in run.rejecting
LEAST_MEMORY = 128 << 20  # bytes of address space that loading the libraries takes
# Errors of other types that mean it, by their messages
NO_MEMORY = ("failed to map segment", "Cannot allocate memory", "can't start new thread")


def _version(asked: bool) -> None:
    if asked:
        print(f"tiler {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"


def add_commands(arguments: Sequence[str]) -> None:
    """Add the command that is called, so that the others are not loaded; all of them if it is not
    clear which one that is."""
    called = [name for name in arguments[:1] if name in COMMANDS]
    for name in called or COMMANDS:
        app.command(name, no_args_is_help=True)(import_module(f"tiler.cli.{name}").command)


def run() -> NoReturn:
    """Run the command that the arguments name, and end the process."""
    _require_utf8_names()
    if "--debug" in sys.argv:  # in any position
        sys.argv.remove("--debug")
        os.environ[DEBUG] = "1"
    _prepare_streams()
    _prepare_libraries()
    try:
        _require_place()
        add_commands(sys.argv[1:])
        _require_our_style(sys.argv[1:])
        code = app(standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    except Exception as error:
        wrong_use = getattr(error, "format_message", None)  # an error of the command line's library
        if wrong_use is not None:
            _misused(_unknown_option(error) or _unknown_command() or wrong_use())
        if os.environ.get(DEBUG):
            raise
        _fail(*_explained(error))
    _leave(code if isinstance(code, int) else 0)


def _require_utf8_names() -> None:
    """Start again if file names are not read as UTF-8: they nearly always are, whatever the locale
    says.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.name != "posix" or "-X" in sys.orig_argv:
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def _prepare_streams() -> None:
    """Let any name be printed, and no printing of others disturb us."""
    _keep_stderr()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _prepare_libraries() -> None:
    """No warnings of libraries, and no threads that are not used."""
    warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
    # and those of helper processes that outlive us for a moment
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # numpy would start threads for linear algebra, which is not done here
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _misused(message: str) -> NoReturn:
    """End because the command line is wrong. Of an empty one, the help was printed already."""
    if not message:
        _leave(2)
    command = "".join(f" {name}" for name in sys.argv[1:2] if name in COMMANDS)
    _fail(f"{message.rstrip('.')}; see tiler{command} --help", 2)


def _unknown_option(error: Exception) -> str | None:
    """What to use in place of an option that does not exist; None for other errors."""
    given = getattr(error, "option_name", None)
    context = getattr(error, "ctx", None)
    if given is None or context is None or not hasattr(error, "possibilities"):
        return None
    known = [name for parameter in context.command.params for name in parameter.opts]
    return hints.unknown_option(context.command.name, given, known)


def _unknown_command() -> str | None:
    """What to use in place of a command that does not exist; None for other errors."""
    given = "".join(sys.argv[1:2])
    if not given or given in COMMANDS or given.startswith("-"):
        return None
    return hints.unknown_command(given, COMMANDS)


def _require_our_style(arguments: Sequence[str]) -> None:
    """Check that options are not written like `tile=640`.

    Raises:
        TilerError: they are; it says how to write them.
    """
    command, *rest = arguments or [""]
    if command not in COMMANDS or "=" not in "".join(rest):
        return
    module = import_module(f"tiler.cli.{command}")
    signature = inspect.signature(module.command)
    better = hints.rewritten(command, rest, signature.parameters)
    if better is not None:
        raise TilerError(f"options are written with dashes; write: {better}")


def _explained(error: Exception) -> tuple[str, int]:
    """What an error means to the user, and the exit code."""
    if isinstance(error, TilerError):
        return str(error), error.exit_code
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(phrase in text for phrase in NO_MEMORY):
        limits = "(ulimit -v, the container's limit)"
        return f"not enough memory; give it more {limits}, or use fewer --workers", 3
    if isinstance(error, OSError):
        where = f": {error.filename}" if isinstance(error.filename, str) else ""
        return f"cannot continue: {error.strerror or error}{where}", 3
    what = f"{type(error).__name__}: {text[:300]}"
    return f"internal error: {what}; --debug shows where, please report it", 3


def _require_place() -> None:
    """Check that a command can run at all; the help can in any case.

    Raises:
        TilerError: the working directory was deleted.
        Unfinished: the address space is limited to less than the libraries take, which would end
            the process without a word.
    """
    if not set(sys.argv[1:2]) & set(COMMANDS) or {"-h", "--help"} & set(sys.argv):
        return
    try:
        os.getcwd()
    except OSError:
        raise TilerError("the working directory no longer exists; change to another") from None
    left = _address_space()
    if left is not None and left < LEAST_MEMORY:
        needed = f"{LEAST_MEMORY >> 20} MiB are needed to start, {left >> 20} MiB are left"
        raise Unfinished(f"not enough memory: {needed} by the address space limit (ulimit -v)")


def _address_space() -> int | None:
    """Bytes that the limit of the address space leaves; None where there is no limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return None
    if limit == resource.RLIM_INFINITY:
        return None
    return max(0, limit - used)


class _Forgiving(io.FileIO):
    """A file to which writing never fails: if stderr is on a full disk, nobody can be told."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def _keep_stderr() -> None:
    """Keep stderr for ourselves: the tracebacks of joblib's helper processes, when one of them is
    killed, are of no use to a user."""
    if os.environ.get(DEBUG):
        return
    with suppress(OSError, ValueError, AttributeError):  # there may be none
        kept = io.BufferedWriter(_Forgiving(os.dup(sys.stderr.fileno()), "w"))
        sys.stderr = io.TextIOWrapper(kept, encoding=sys.stderr.encoding, line_buffering=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _fail(message: str, code: int) -> NoReturn:
    print(f"tiler: {printable(message)}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End at once, without taking the libraries down, unless joblib has processes to end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has enough
        pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"tiler: the result cannot be written to stdout: {reason}", file=sys.stderr)
        code = max(code, 3)
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    if "joblib" in sys.modules:
        _close_stdout()
        sys.exit(code)
    os._exit(code)


def _close_stdout() -> None:
    """Drop what could not be written: Python would try again, and end with its own exit code."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
