"""Numbers that must not fall: `--fail-under` and `--baseline`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tiler.errors import TilerError, did_you_mean
from tiler.formats.text_files import read_bytes, reason

MAX_BYTES = 100_000_000
SHORT = ("coco", "ultralytics")  # their numbers need no protocol before the name
ROUNDING = 1e-9
LARGEST = 1e300  # of a number that means something
NO_NUMBERS = ("card", "confusion", "findings")  # parts of the JSON
CONDITIONS = (
    "data",
    "split",
    "task",
    "similarity",
    "images",
    "labels",
    "ignored_labels",
    "protocols",
)
FREE = ("analysis", "replicates", "seed", "bins")  # options that change none of the numbers in BASE
BASE = ("AP", "AP50", "AP_small", "AP_medium", "AP_large", "coco_auto.AP", "map", "map50")


@dataclass(frozen=True, slots=True)
class Gate:
    """A number and what it must reach; None where there is nothing to measure."""

    name: str
    value: float | None
    least: float | None

    @property
    def passed(self) -> bool:
        """A number that is not there reaches nothing; without anything to reach, it passes."""
        if self.least is None:
            return True
        return self.value is not None and self.value >= self.least - ROUNDING


def numbers(plain: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a score's JSON by dotted names; those of COCO and Ultralytics by their own
    too.

    >>> numbers({"coco": {"AP_small": 0.5}, "bins": {"sizes": {"tiny": {"AP": None}}}})
    {'coco.AP_small': 0.5, 'AP_small': 0.5, 'bins.sizes.tiny.AP': None}
    """
    result: dict[str, float | None] = {}
    for key, part in plain.items():
        if key in NO_NUMBERS:
            continue
        for name, value in _dotted(key, part):
            result[name] = value
            protocol, _, own = name.partition(".")
            if protocol in SHORT and "." not in own:
                result.setdefault(own, value)
    return result


def _dotted(name: str, value: Any) -> Iterator[tuple[str, float | None]]:
    """All numbers within a value of the JSON, and where there is nothing to measure, None."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _dotted(f"{name}.{key}", item)
    elif value is None or _is_number(value):
        yield name, value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST


def _named(name: str, known: Mapping[str, float | None]) -> str:
    """The number of that name, whatever the case of its letters where that leaves no doubt.

    Raises:
        TilerError: there is none, or there are several.
    """
    if name in known:
        return name
    alike = [key for key in known if key.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise TilerError(f"--fail-under {name}: {' or '.join(alike)}?")
    lower = [key.lower() for key in known]
    raise TilerError(f"--fail-under {name}: no such number{did_you_mean(name.lower(), lower)}")


# --- --fail-under


def fail_under(text: str, plain: Mapping[str, Any]) -> list[Gate]:
    """The gates of `ap_small=0.2,map50=0.5`.

    Raises:
        TilerError: an unknown name, or no number.

    >>> [gate.passed for gate in fail_under("ap=0.5,ap50=0.5", {"coco": {"AP": 0.4, "AP50": 0.5}})]
    [False, True]
    """
    known = numbers(plain)
    gates = []
    for part in text.split(","):
        name, equals, given = part.strip().rpartition("=")
        least = _threshold(given)
        if not equals or least is None:
            raise TilerError(
                f"--fail-under is NAME=NUMBER, such as ap_small=0.2,map50=0.5, got {text!r}"
            )
        key = _named(name.strip(), known)
        gates.append(Gate(name.strip(), known[key], least))
    return gates


def _threshold(text: str) -> float | None:
    """A number that can be reached; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not 0 <= value <= 1e6:
        return None
    return value


# --- --baseline


def against(file: Path, plain: Mapping[str, Any]) -> list[Gate]:
    """The numbers of an older score, each to be reached again.

    Raises:
        TilerError: not a score's JSON, or one of other data or another protocol.
    """
    older = _older(file)
    _require_same_conditions(file, older["card"], plain["card"])
    before = numbers(older)
    now = numbers(plain)
    wanted = [name for name in BASE if name in now]
    lost = [name for name in wanted if name not in before]
    if lost:
        raise TilerError(
            f"--baseline {file}: not the JSON of tiler score: no number {', '.join(lost)}"
        )
    return [Gate(name, now[name], before[name]) for name in wanted]


def _older(file: Path) -> dict[str, Any]:
    """An older score's JSON, which has a card."""
    try:
        older = msgspec.json.decode(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise TilerError(f"--baseline {file}: cannot be read: {reason(error)}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TilerError(f"--baseline {file}: not the JSON of tiler score: {error}") from None
    if not isinstance(older, dict) or not isinstance(older.get("card"), dict):
        raise TilerError(f"--baseline {file}: not the JSON of tiler score: it has no card")
    return older


def _require_same_conditions(
    file: Path, older: Mapping[str, Any], newer: Mapping[str, Any]
) -> None:
    """Raises:
    TilerError: the scores are of other data, or by other protocols.
    """
    then = _conditions(older)
    for name, value in _conditions(newer).items():
        was = then.get(name)
        if was != value:
            before = str(was)[:80]
            now = str(value)[:80]
            raise TilerError(f"--baseline {file}: of other conditions: {name} {before}, now {now}")


def _conditions(card: Mapping[str, Any]) -> dict[str, Any]:
    """What two scores must have in common to be compared."""
    conditions = {name: card.get(name) for name in CONDITIONS}
    options = card.get("options")
    if isinstance(options, dict):
        for name, value in options.items():
            if name not in FREE:
                conditions[name] = value
    return conditions
