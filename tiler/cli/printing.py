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
    """Write a result to stdout as it is, if there is one."""
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
    """The first column to the left, numbers to the right."""
    from rich.table import Table

    result = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(head):
        result.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        result.add_row(*(printable(str(item)).replace("[", r"\[") for item in row))
    return result


def findings(found: Sequence[Finding], root: str, verbose: bool, quiet: bool) -> None:
    """Findings to stderr: errors first come as they are, the rest is counted."""
    found = found if verbose else together(found)
    shown = [
        f for f in found if verbose or f.level == "error" or (f.level == "warning" and not quiet)
    ]
    shown.sort(key=lambda finding: finding.level != "error")
    for finding in shown if verbose else shown[:LISTED]:
        print(str(replace(finding, path=shown_path(finding.path, root))), file=sys.stderr)
    if not verbose and len(shown) > LISTED:
        print(
            f"... {len(shown) - LISTED} more findings in report.json (or with --verbose)",
            file=sys.stderr,
        )


def shown_path(path: str, root: str) -> str:
    """A finding's path as one can click it: from here, if it lies below; else absolute."""
    full = os.path.join(root, path) if path else root
    here = os.path.relpath(full)
    return full if here.startswith("..") else here


def _ready(*_: Any) -> None:
    """What the table at the end needs is loaded while others work."""
    import rich.console
    import rich.table  # noqa: F401


@contextmanager
def progress(word: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """A bar on stderr while images are worked on, if stderr is a terminal."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield _ready
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
            elapsed = bar.tasks[task].elapsed or 0.0
            rate = f"{tiles} tiles, {tiles / max(elapsed, 1e-3):.0f}/s" if tiles is not None else ""
            bar.update(task, completed=done, total=total, tiles=rate)

        yield show
