"""What scripts can read in Python's log, under the name `tiler`, of that which commands print.

Nothing is shown unless the script sets up logging: progress and results are INFO, findings WARNING
or ERROR.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec

from tiler.errors import printable
from tiler.findings import Finding, together

LOG = logging.getLogger("tiler")
LOG.addHandler(logging.NullHandler())  # else Python would print warnings of its own accord
LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "note": logging.DEBUG}
LISTED = 20  # findings
SECONDS = 5.0  # between notes of progress

Given = ParamSpec("Given")


def watched(
    word: str,
    progress: Callable[Given, None] | None,
    numbers: Callable[Given, tuple[int, int]],
) -> Callable[Given, None] | None:
    """A callback for progress that also notes it, every few seconds and at the end.

    Args:
        word: what is counted, such as "images cut".
        progress: what the script wants to be called, if anything.
        numbers: images done and all, of what a callback is given.
    """
    if not LOG.isEnabledFor(logging.INFO):
        return progress
    last = time.monotonic()

    def show(*given: Given.args, **named: Given.kwargs) -> None:
        nonlocal last
        done, total = numbers(*given, **named)
        now = time.monotonic()
        if done == total or now - last > SECONDS:
            LOG.info("%s: %d of %d", word, done, total)
            last = now
        if progress is not None:
            progress(*given, **named)

    return show


def images(done: int, total: int, /) -> tuple[int, int]:
    """The numbers of most callbacks."""
    return done, total


def finished(verb: str, lines: Iterable[str], findings: Sequence[Finding]) -> None:
    """Note what a verb did, and the first findings."""
    for line in filter(None, lines):
        LOG.info("%s: %s", verb, printable(line))
    shown = [finding for finding in together(findings) if LOG.isEnabledFor(LEVELS[finding.level])]
    shown.sort(key=lambda finding: -LEVELS[finding.level])
    for finding in shown[:LISTED]:
        LOG.log(LEVELS[finding.level], "%s: %s", verb, finding)
    more = len(shown) - LISTED
    if more > 0:
        LOG.warning("%s: %d more findings", verb, more)
