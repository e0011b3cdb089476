"""Numbers that must not fall: `--fail-under` and `--baseline`."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Gate:
    """A number and what it must reach; None where there is nothing to measure."""

    name: str
    value: float | None
    least: float | None

    @property
    def passed(self) -> bool:
        """A number that is not there reaches nothing; what nothing was asked of passes."""
        return self.least is None or (
            self.value is not None and self.value >= self.least - ROUNDING
        )


def numbers(plain: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a score's JSON by dotted names; those of COCO and Ultralytics by their own
    too.

    >>> numbers({"coco": {"AP_small": 0.5}, "bins": {"sizes": {"tiny": {"AP": None}}}})
    {'coco.AP_small': 0.5, 'AP_small': 0.5, 'bins.sizes.tiny.AP': None}
    """
    result: dict[str, float | None] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), item)
        elif value is None or (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
        ):
            result[prefix] = value
            protocol, _, own = prefix.partition(".")
            if protocol in SHORT and "." not in own:
                result.setdefault(own, value)

    add(
        "",
        {
            key: value
            for key, value in plain.items()
            if key not in ("card", "confusion", "findings")
        },
    )
    return result


def _named(name: str, known: Mapping[str, float | None]) -> str:
    """The number that is meant, whatever the case of its letters where that leaves no doubt.

    Raises:
        TilerError: there is none, or there are several.
    """
    alike = [key for key in known if key.lower() == name.lower()]
    if name in known or len(alike) == 1:
        return name if name in known else alike[0]
    if alike:
        raise TilerError(f"--fail-under {name}: {' or '.join(alike)}?")
    lower = [key.lower() for key in known]
    raise TilerError(f"--fail-under {name}: no such number{did_you_mean(name.lower(), lower)}")


def fail_under(text: str, plain: Mapping[str, Any]) -> list[Gate]:
    """The gates of `ap_small=0.2,map50=0.5`.

    Raises:
        TilerError: a name that is none, or no number.

    >>> [gate.passed for gate in fail_under("ap=0.5,ap50=0.5", {"coco": {"AP": 0.4, "AP50": 0.5}})]
    [False, True]
    """
    known = numbers(plain)
    gates = []
    for part in text.split(","):
        name, equals, given = part.strip().rpartition("=")
        name = name.strip()
        try:
            least = float(given)
        except ValueError:
            equals = ""
        if not equals or not 0 <= least <= 1e6:
            raise TilerError(
                f"--fail-under is NAME=NUMBER, such as ap_small=0.2,map50=0.5, got {text!r}"
            )
        key = _named(name, known)
        gates.append(Gate(name, known[key], least))
    return gates


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


def _conditions(card: Mapping[str, Any]) -> dict[str, Any]:
    """What two scores must have in common to be compared."""
    options = card.get("options")
    chosen = (
        {name: value for name, value in options.items() if name not in FREE}
        if isinstance(options, dict)
        else {}
    )
    return {**{name: card.get(name) for name in CONDITIONS}, **chosen}


BASE = ("AP", "AP50", "AP_small", "AP_medium", "AP_large", "coco_auto.AP", "map", "map50")


def against(file: Path, plain: Mapping[str, Any]) -> list[Gate]:
    """The numbers of an older score, each to be reached again.

    Raises:
        TilerError: not a score's JSON, or one of other data or another protocol.
    """
    shown = str(file)
    try:
        older = msgspec.json.decode(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise TilerError(f"--baseline {shown}: cannot be read: {reason(error)}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise TilerError(f"--baseline {shown}: not the JSON of tiler score: {error}") from None
    card = older.get("card") if isinstance(older, dict) else None
    if not isinstance(card, dict):
        raise TilerError(f"--baseline {shown}: not the JSON of tiler score: it has no card")
    then, today = _conditions(card), _conditions(plain["card"])
    for name, value in today.items():
        if then.get(name) != value:
            found = f"{str(then.get(name))[:80]}, now {str(value)[:80]}"
            raise TilerError(f"--baseline {shown}: of other conditions: {name} {found}")
    before, now = numbers(older), numbers(plain)
    wanted = [name for name in BASE if name in now]
    lost = [name for name in wanted if name not in before]
    if lost:
        raise TilerError(
            f"--baseline {shown}: not the JSON of tiler score: no number {', '.join(lost)}"
        )
    return [Gate(name, now[name], before[name]) for name in wanted]
