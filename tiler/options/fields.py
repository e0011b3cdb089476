"""Options that check themselves: what a value may be, said once for shell, YAML and script.

Values may come as text (from a shell or a YAML file) or as what they are (from a script).
This module imports nothing heavy, since `tiler --help` needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from tiler.errors import TilerError, did_you_mean

EXPORTS = ("dota", "geojson", "csv")
PROTOCOLS = ("coco", "ultralytics", "ultralytics-8.3", "voc", "voc07", "dota")
BINS = ("coco", "aitod", "tinyperson", "soda")
BASES = ("0", "1", "coco91")
CLUSTERS = ("dask", "ray")

Options = TypeVar("Options", bound="Checked")


def option(
    default: Any,
    help: str,
    check: Callable[[Any], Any],
    group: str = "Options",
    shown: str | None = None,
    idle: Callable[[Any], str] | None = None,
) -> Any:
    """A dataclass field that checks itself.

    Args:
        check: makes the value of what was given, or raises ValueError with what is expected.
        shown: what may be given, for the help.
        idle: tells of all options together why this one does nothing beside the others; "" where it
            does something.
    """
    return field(
        default=default,
        metadata={"help": help, "check": check, "group": group, "shown": shown, "idle": idle},
    )


def choice(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}{did_you_mean(str(value), allowed)}")
        return cast(str, value)

    return check


def backend(*allowed: str) -> Callable[[Any], str]:
    """One of those allowed; of engines that cannot run yet it is said why."""
    check = choice(*allowed)

    def known(value: Any) -> str:
        if value in CLUSTERS:
            why = (
                f"{value} does not run yet: its joblib backend cannot return results one by one, "
                "as they are done"
            )
            raise ValueError(f"one of {', '.join(allowed)}; {why}")
        return check(value)

    return known


def number(low: float, high: float = math.inf) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        result = float(value)
        if not (math.isfinite(result) and low <= result <= high):
            raise ValueError
        return result

    return described(
        check, f"a number from {low:g}" + (f" to {high:g}" if high < math.inf else " on")
    )


def whole(low: int, high: float = math.inf) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        result = int(value)
        if (not isinstance(value, str) and result != value) or not low <= result <= high:
            raise ValueError
        return result

    return described(
        check, f"a whole number from {low}" + (f" to {high:g}" if high < math.inf else " on")
    )


def auto_or(low: int) -> Callable[[Any], str | int]:
    """auto, or a whole number from `low` on."""
    check = whole(low)
    return described(
        lambda value: "auto" if value == "auto" else check(value),
        f"auto or a whole number from {low} on",
    )


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return str(value).lower() in ("true", "yes", "on", "1")
    raise ValueError("true or false")


def tile_size(value: Any) -> int | tuple[int, int]:
    """640, "640", "1024x768" or (1024, 768).

    >>> tile_size("1024x768"), tile_size("640x640")
    ((1024, 768), 640)
    """
    check = whole(10, 65500)
    sides = value.lower().split("x") if isinstance(value, str) else value
    pair = [check(side) for side in sides] if isinstance(sides, list | tuple) else [check(sides)]
    if len(pair) not in (1, 2):
        raise ValueError
    return pair[0] if len(set(pair)) == 1 else (pair[0], pair[1])


def scales(value: Any) -> tuple[float, ...]:
    """1, "1,0.5" or (1, 0.5): each once, largest first."""
    given = value.split(",") if isinstance(value, str) else value
    items = given if isinstance(given, list | tuple) else [given]
    result = sorted({round(float(item), 2) for item in items}, reverse=True)
    if not result or not all(0.01 <= item <= 16 for item in result):
        raise ValueError
    return tuple(result)


def background(value: Any) -> str | float:
    if value in ("all", "none"):
        return cast(str, value)
    return number(0)(value)


def described(check: Callable[[Any], Any], expected: str) -> Callable[[Any], Any]:
    def shown(value: Any) -> Any:
        try:
            if isinstance(value, bool):
                raise ValueError
            return check(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(expected) from None

    return shown


@dataclass(frozen=True, slots=True)
class Checked:
    """Options that check themselves when made."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            try:
                object.__setattr__(self, item.name, item.metadata["check"](value))
            except (TypeError, ValueError) as error:
                raise TilerError(
                    f"--{item.name.replace('_', '-')} is {error}, got {value!r}"
                ) from None

    @classmethod
    def of(cls: type[Options], given: Mapping[str, Any], where: str = "") -> Options:
        """From names and values; an unknown name is an error.

        >>> from tiler.options import SplitOptions
        >>> SplitOptions.of({"tiel": 640})
        Traceback (most recent call last):
        ...
        tiler.errors.TilerError: unknown option 'tiel'; did you mean 'tile'?
        """
        known = [item.name for item in fields(cls)]
        for name in given:
            if name not in known:
                raise TilerError(
                    f"{where}unknown option {str(name)!r}{did_you_mean(str(name), known)}"
                )
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """Names and values as YAML and JSON can hold them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def idle(self) -> dict[str, str]:
        """The options that do nothing beside the others, and why.

        >>> from tiler.options import MergeOptions
        >>> MergeOptions(method="nms").idle()
        {'orphans': '--method nms does not use it'}
        """
        asked = {
            item.name: item.metadata["idle"]
            for item in fields(self)
            if item.metadata["idle"] is not None
        }
        reasons = {name: ask(self) for name, ask in asked.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def in_effect(self) -> dict[str, Any]:
        """Names and values without those that do nothing, or are not set: a valid `--config`."""
        idle = self.idle()
        return {
            name: value
            for name, value in self.plain().items()
            if value is not None and name not in idle
        }

    def require_in_effect(self) -> None:
        """Raises:
        TilerError: an option that does nothing has another value than its default, so somebody
            meant something by it.

        >>> from tiler.options import MergeOptions
        >>> MergeOptions(method="nms", orphans="drop").require_in_effect()
        Traceback (most recent call last):
        ...
        tiler.errors.TilerError: --orphans drop: --method nms does not use it
        """
        defaults = {item.name: item.default for item in fields(self)}
        for name, reason in self.idle().items():
            value = getattr(self, name)
            if value == defaults[name]:
                continue
            no = "no-" if value is False else ""
            shown = "" if isinstance(value, bool) else f" {value}"
            raise TilerError(f"--{no}{name.replace('_', '-')}{shown}: {reason}")


def per_class(value: Any) -> float | str:
    """One number in 0..1 for all classes, and others for some: 0.5, "0.5,car=0.4" or {"": 0.5,
    "car": 0.4}.

    Without the first, "car=0.4" or {"car": 0.4}, all others have the default.

    >>> per_class("0.50, car=0.4"), per_class(1), per_class({"car": 0.4})
    ('0.5,car=0.4', 1.0, 'car=0.4')
    """
    base, named = shares(value)
    if base is not None and not named:
        return base
    first = [] if base is None else [f"{base!r}"]
    return ",".join([*first, *(f"{name}={number!r}" for name, number in named.items())])


def shares(value: Any) -> tuple[float | None, dict[str, float]]:
    """What `per_class` reads: the number for all, None for the default, and those of classes by
    name or id.
    """
    if isinstance(value, str):
        items = [item.rpartition("=") for item in value.split(",")]
        given = {name.strip(): number for name, _, number in items}
        if len(given) != len(items) or "" in [name for name, _, _ in items[1:]]:
            raise ValueError
    else:
        given = (
            {str(name): number for name, number in value.items()}
            if isinstance(value, Mapping)
            else {"": value}
        )
        if not given:
            raise ValueError
    check = number(0, 1)
    checked = {name: check(item) for name, item in given.items()}
    return checked.pop("", None), checked


def class_groups(value: Any) -> str:
    """Classes that compete: "car,truck;bus,van", or [["car", "truck"], ["bus", "van"]]."""
    if isinstance(value, str):
        parts = (
            [[name.strip() for name in group.split(",")] for group in value.split(";")]
            if value
            else []
        )
    else:
        parts = [[str(name) for name in group] for group in value]
    names = [name for group in parts for name in group]
    if not all(names) or len(set(names)) != len(names) or any(len(group) < 2 for group in parts):
        raise ValueError
    return ";".join(",".join(group) for group in parts)


def some(*allowed: str, least: int = 0) -> Callable[[Any], str]:
    """Names among those allowed, "csv,dota" or a list; each once, in the order of those allowed."""

    def check(value: Any) -> str:
        parts = (
            [part.strip() for part in value.split(",")]
            if isinstance(value, str)
            else list(value or ())
        )
        names = [part for part in parts if part]
        for name in names:
            choice(*allowed)(name)
        if len(names) < least:
            raise ValueError(f"one or more of {', '.join(allowed)}")
        return ",".join(name for name in allowed if name in names)

    return check


def size_bins(value: Any) -> str:
    """The name of a protocol's bins, or rising sides in px: "16,32,96" or (16, 32, 96).

    >>> size_bins("aitod"), size_bins([16, 32])
    ('aitod', '16,32')
    """
    if value in BINS:
        return str(value)
    items = value.split(",") if isinstance(value, str) else value
    sides = [number(0)(item) for item in (items if isinstance(items, list | tuple) else [items])]
    if sides != sorted(set(sides)) or not sides or not 0 < sides[0] <= sides[-1] < 1e5:
        raise ValueError
    return ",".join(f"{side:g}" for side in sides)


def detection_limits(value: Any) -> str:
    """auto, or rising numbers of detections: "1,10,100" or (1, 10, 100).

    >>> detection_limits("1,10,500")
    '1,10,500'
    """
    if value == "auto":
        return "auto"
    items = value.split(",") if isinstance(value, str) else value
    limits = [whole(1)(item) for item in (items if isinstance(items, list | tuple) else [items])]
    if limits != sorted(set(limits)) or not limits:
        raise ValueError
    return ",".join(map(str, limits))


def base(*more: str) -> Callable[[Any], str]:
    return lambda value: choice(*more, *BASES)(value if isinstance(value, str) else str(value))


def path(value: Any, what: str) -> Path:
    """A path of what a script gave for one.

    Raises:
        TilerError: it is none.

    >>> path([1], "tiles")
    Traceback (most recent call last):
    ...
    tiler.errors.TilerError: tiles: expected a path, got list
    """
    try:
        return Path(value)
    except TypeError:
        raise TilerError(f"{what}: expected a path, got {type(value).__name__}") from None


def option_fields(cls: type[Checked]) -> tuple[Field[Any], ...]:
    """The fields of an options class, in order."""
    return fields(cls)
