"""Tables, findings and a progress bar, for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tiler.errors import printable
from tiler.findings import Finding, together

if TYPE_CHECKING:
    from rich.table import Table

LISTED = 20  # findings printed; all of them are in the report


def emit(text: str) -> None:
    """Write a result to stdout as it is, if there is a stdout."""
    if sys.stdout is not None:
        sys.stdout.write(text)


def tell(what: str | Table) -> None:
    """Print a line or a table to stdout."""
    if isinstance(what, str):
        print(printable(what))
        return
    from rich.console import Console

    if sys.stdout is None:
        return
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width, highlight=False, safe_box=True).print(what)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table with the first column aligned left, the others right."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, header_style="bold")
    first, *others = head
    result.add_column(first, justify="left", no_wrap=True)
    for name in others:
        result.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        result.add_row(*map(_cell, row))
    return result


def _cell(value: Any) -> str:
    """A value as text that is no markup."""
    return printable(str(value)).replace("[", r"\[")


def findings(
    found: Sequence[Finding],
    root: str,
    verbose: bool,
    quiet: bool,
    all_in: str = "in report.json (or with --verbose)",
) -> None:
    """Print findings to stderr: errors first, at most `LISTED`; notes only with --verbose.

    Args:
        all_in: where the others are, in words.
    """
    if verbose:
        listed = list(found)
    else:
        levels = ("error",) if quiet else ("error", "warning")
        listed = [finding for finding in together(found) if finding.level in levels]
    listed.sort(key=lambda finding: finding.level != "error")
    limit = len(listed) if verbose else LISTED
    for finding in listed[:limit]:
        shown = replace(finding, path=shown_path(finding.path, root))
        print(str(shown), file=sys.stderr)
    more = len(listed) - limit
    if more > 0:
        print(f"... {more} more findings {all_in}", file=sys.stderr)


def shown_path(path: str, root: str) -> str:
    """A finding's path to click on: relative, if it is in the working directory; else absolute."""
    full = os.path.join(root, path) if path else root
    relative = os.path.relpath(full)
    if relative.startswith(".."):
        return os.path.normpath(full)
    return relative


def _no_bar(*_: Any) -> None:
    """No bar; but load what the table at the end needs, while the workers are busy."""
    import rich.console
    import rich.table  # noqa: F401


@contextmanager
def progress(word: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr while images are processed, if stderr is a terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield _no_bar
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[tiles]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(word, total=None, tiles="")

        def show(done: int, total: int, tiles: int | None = None) -> None:
            rate = ""
            if tiles is not None:
                elapsed = max(bar.tasks[task].elapsed or 0.0, 1e-3)
                rate = f"{tiles} tiles, {tiles / elapsed:.0f}/s"
            bar.update(task, completed=done, total=total, tiles=rate)

        yield show
