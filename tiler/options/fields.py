"""Options that check themselves: a dataclass whose fields know their help and their check.

Values may come as text (from a shell or a YAML file) or as what they are (from a script).
Nothing heavy is imported here, since `tiler --help` needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, TypeVar

from tiler.errors import TilerError, did_you_mean
from tiler.options.values import Check, choice, flag

SPELLED = {"as_split": "--as"}  # as alone is a word of Python

Options = TypeVar("Options", bound="Checked")


def option(
    default: Any,
    help: str,
    check: Check,
    group: str,
    metavar: str | None = None,
    idle: Callable[[Any], str] | None = None,
    given: str = "",
) -> Any:
    """A dataclass field that checks itself.

    Args:
        check: turns what was given into the value, or raises ValueError with what is expected.
        group: the heading that the option stands under in the help.
        metavar: what may be given, for the help.
        idle: given all options together, the reason why this one has no effect; "" where it has.
        given: the type of what a script may give, as an annotation. Default: that of the value.
    """
    metadata = {"help": help, "check": check, "group": group, "metavar": metavar, "idle": idle}
    metadata["given"] = given
    return field(default=default, metadata=metadata)


def choice_option(
    default: str,
    help: str,
    allowed: tuple[str, ...],
    group: str,
    idle: Callable[[Any], str] | None = None,
) -> Any:
    """An option that takes one of a few words."""
    metavar = "|".join(allowed)
    return option(default, help, choice(*allowed), group, metavar, idle, literal(*allowed))


def literal(*words: str) -> str:
    """The type of one of a few words, as an annotation.

    >>> print(literal("iou", "ios"))
    Literal["iou", "ios"]
    """
    quoted = ", ".join(f'"{word}"' for word in words)
    return f"Literal[{quoted}]"


def flag_option(
    default: bool, help: str, group: str, idle: Callable[[Any], str] | None = None
) -> Any:
    """An option that is on or off."""
    return option(default, help, flag, group, idle=idle)


def unless(name: str, *values: Any) -> Callable[[Any], str]:
    """Without effect unless another option has one of these values, or may still get one (auto)."""

    def idle(options: Any) -> str:
        value = getattr(options, name)
        if value in values or value == "auto":
            return ""
        return _does_not_use(name, value)

    return idle


def when(name: str, *values: Any) -> Callable[[Any], str]:
    """Without effect if another option has one of these values."""

    def idle(options: Any) -> str:
        value = getattr(options, name)
        if value in values:
            return _does_not_use(name, value)
        return ""

    return idle


def either(*reasons: Callable[[Any], str]) -> Callable[[Any], str]:
    """Without effect for the first of these reasons that holds."""

    def idle(options: Any) -> str:
        return next(filter(None, (reason(options) for reason in reasons)), "")

    return idle


def _does_not_use(name: str, value: Any) -> str:
    return f"{flag_name(name)} {value} does not use it"


def flag_name(name: str) -> str:
    """An option as it is spelled on the command line.

    >>> flag_name("min_visible"), flag_name("as_split")
    ('--min-visible', '--as')
    """
    return SPELLED.get(name, "--" + name.replace("_", "-"))


@dataclass(frozen=True, slots=True)
class Checked:
    """Options that check themselves when made."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            try:
                checked = item.metadata["check"](value)
            except (TypeError, ValueError) as error:
                name = flag_name(item.name)
                raise TilerError(f"{name}: expected {error}, got {value!r}") from None
            object.__setattr__(self, item.name, checked)

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
                hint = did_you_mean(str(name), known)
                raise TilerError(f"{where}unknown option {str(name)!r}{hint}")
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """Names and values as YAML and JSON can hold them."""
        values = asdict(self)
        content = {item.name: values[item.name] for item in option_fields(type(self))}
        for name, value in content.items():
            if isinstance(value, tuple):
                content[name] = list(value)
        return content

    def idle(self) -> dict[str, str]:
        """The options that have no effect beside the others, and why.

        >>> from tiler.options import MergeOptions
        >>> MergeOptions(method="nms").idle()
        {'orphans': '--method nms does not use it'}
        """
        reasons = {}
        for item in fields(self):
            why_idle = item.metadata["idle"]
            if why_idle is None:
                continue
            reason = why_idle(self)
            if reason:
                reasons[item.name] = reason
        return reasons

    def in_effect(self) -> dict[str, Any]:
        """Names and values of the options that are set and have an effect: a valid `--config`."""
        content = self.plain()
        for name in self.idle():
            del content[name]
        return {name: value for name, value in content.items() if value not in (None, "")}

    def changed(self) -> dict[str, str]:
        """The options that differ from their defaults, by name: each as on the command line.

        >>> from tiler.options import SplitOptions
        >>> SplitOptions(tile=320, rescue=False).changed()
        {'tile': '--tile 320', 'rescue': '--no-rescue'}
        """
        given = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                given[item.name] = _as_given(item.name, value)
        return given

    def require_in_effect(self) -> None:
        """Reject an option that has no effect but was set, that is, differs from its default.

        Raises:
            TilerError: there is such an option.

        >>> from tiler.options import MergeOptions
        >>> MergeOptions(method="nms", orphans="drop").require_in_effect()
        Traceback (most recent call last):
        ...
        tiler.errors.TilerError: --orphans drop: --method nms does not use it
        """
        defaults = {item.name: item.default for item in fields(self)}
        for name, reason in self.idle().items():
            value = getattr(self, name)
            if value != defaults[name]:
                raise TilerError(f"{_as_given(name, value)}: {reason}")


def _as_given(name: str, value: Any) -> str:
    """An option with its value, as on the command line."""
    if value is True:
        return flag_name(name)
    if value is False:
        return flag_name(f"no_{name}")
    if isinstance(value, tuple):
        value = "x".join(map(str, value))
    return f"{flag_name(name)} {value}"


def option_fields(cls: type[Checked]) -> tuple[Field[Any], ...]:
    """The fields of an options class: its own in order, then those of the class it is based on."""
    own = [item for item in fields(cls) if item.name in cls.__annotations__]
    based_on = [item for item in fields(cls) if item.name not in cls.__annotations__]
    return (*own, *based_on)


def option_names(*classes: type[Checked]) -> set[str]:
    """The names of all options of some classes."""
    return {item.name for cls in classes for item in fields(cls)}


def partition(given: Mapping[str, Any], *classes: type[Checked]) -> list[dict[str, Any]]:
    """The options of each class; an unknown one goes to the first class, which rejects it.

    >>> from tiler.options import RunOptions, SplitOptions
    >>> partition({"tile": 640, "workers": 2}, SplitOptions, RunOptions)
    [{'tile': 640}, {'workers': 2}]
    """
    parts: list[dict[str, Any]] = [{} for _ in classes]
    known = [option_names(cls) for cls in classes]
    for name, value in given.items():
        owner = next((i for i, names in enumerate(known) if name in names), 0)
        parts[owner][name] = value
    return parts
