"""A command's parameters, made from the dataclass of its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tiler.errors import TilerError, did_you_mean, printable
from tiler.options.fields import Checked, option_fields

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML of options; those on the command line win.",
        show_default=False,
    ),
]


def with_options(*classes: type[Checked]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of `**options`, one option for each field of the classes.

    An option that is not given is not passed on, so that `--config` can stand in for it.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        names = {p.name for p in own}
        added = [
            _parameter(field)
            for cls in classes
            for field in option_fields(cls)
            if field.name not in names
        ]

        def call(**given: Any) -> None:
            fixed = {name: given.pop(name) for name in names}
            command(**fixed, **{name: value for name, value in given.items() if value is not None})

        call.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
        call.__doc__, call.__name__ = command.__doc__, command.__name__
        return call

    return decorate


def _parameter(field: Any) -> inspect.Parameter:
    meta, name = field.metadata, "--" + field.name.replace("_", "-")
    is_flag = isinstance(field.default, bool)
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(f"{item:g}" for item in default)
    shown = (
        ("on" if default else False)
        if is_flag
        else (False if default in (None, "") else str(default))
    )
    names = [f"{name}/--no-{name[2:]}" if is_flag and field.default else name]
    option = typer.Option(
        *names,
        help=meta["help"],
        metavar=None if is_flag else meta["metavar"],
        show_default=shown,
        rich_help_panel=meta["group"],
    )
    kind = bool if is_flag else str
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def configured(config: Path | None, given: dict[str, Any], allowed: set[str]) -> dict[str, Any]:
    """The options of a config file, with those of the command line over them.

    Raises:
        TilerError: the file has a key that is no option.
    """
    if config is None:
        return given
    from tiler.formats import plain_yaml

    content = {key.replace("-", "_"): value for key, value in plain_yaml.load(config).items()}
    for key in content:
        if key not in allowed:
            raise TilerError(
                f"{printable(str(config))}: unknown option {key!r}{did_you_mean(key, allowed)}"
            )
    return {**{key: value for key, value in content.items() if value is not None}, **given}
