"""report.json: what a command did; the same bytes for the same work, wherever the files are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tiler.errors import amount
from tiler.findings import Finding

UNUSUAL = re.compile(r"[^\x00-\x7f]")


def levels(findings: Iterable[Finding]) -> Counter[str]:
    """How many errors, warnings and notes there are.

    >>> levels([Finding("a.txt", "L07", "repeats an earlier row", count=2)])["warning"]
    2
    """
    counts: Counter[str] = Counter()
    for finding in findings:
        counts[finding.level] += finding.count
    return counts


def in_words(findings: Iterable[Finding]) -> str:
    """How many errors and warnings there are, at the end of a line; "" for none.

    >>> in_words([Finding("a.txt", "L07", "repeats an earlier row", count=2)])
    '; 2 warnings'
    """
    counts = levels(findings)
    parts = [amount(counts[level], level) for level in ("error", "warning") if counts[level]]
    return "".join(f"; {part}" for part in parts)


def encoded(report: msgspec.Struct, findings: Sequence[Finding], without: Sequence[str]) -> bytes:
    """A report as indented JSON, each of its findings with its level.

    Args:
        findings: those of the report.
        without: fields that are left out, since they are paths of this machine.
    """
    plain: dict[str, Any] = msgspec.to_builtins(report)
    for name in without:
        del plain[name]
    for finding, item in zip(findings, plain["findings"], strict=True):
        item["level"] = finding.level
    return indented(plain)


def indented(content: Any) -> bytes:
    r"""JSON for people and programs. Characters that could control a terminal are escaped; a
    program reads the same names.

    >>> print(indented({"file": "a\u202eb.jpg"}).decode(), end="")
    {
     "file": "a\u202eb.jpg"
    }
    """
    text = msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"
    if text.isascii():  # JSON's own escapes are all that is needed
        return text
    return UNUSUAL.sub(_escaped, text.decode()).encode()


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character.isprintable():
        return character
    return json.dumps(character)[1:-1]
