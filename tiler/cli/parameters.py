"""Parameters of the commands: those that several share, and those made from options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any

import typer

from tiler.errors import TilerError, did_you_mean, printable
from tiler.options.fields import Checked, flag_name, option_fields
from tiler.options.values import path

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="dataset.yaml; annotations of COCO, Pascal VOC, labelme, DOTA or CSV; a folder with "
        "any of these; or images alone.",
    ),
]
CocoImages = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder of the images, if annotations do not lie with them.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file with options; the command line takes precedence.",
        show_default=False,
    ),
]
JsonReport = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="List every finding, including notes.")
]


def with_options(*classes: type[Checked]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, in place of `**options`, one option for each field of the classes.

    An option that is not given is not passed on, so that `--config` can set it.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [
            p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        own_names = {parameter.name for parameter in own}
        parameters = list(own)
        for cls in classes:
            for field in option_fields(cls):
                if field.name not in own_names:
                    parameters.append(_parameter(field))

        def call(**given: Any) -> None:
            for name, value in given.items():
                if isinstance(value, Path):
                    path(value, flag_name(name))
            options = {
                name: value
                for name, value in given.items()
                if name in own_names or value is not None
            }
            command(**options)

        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        call.__doc__ = command.__doc__
        call.__name__ = command.__name__
        return call

    return decorate


def _parameter(field: Field[Any]) -> inspect.Parameter:
    """The command's parameter for an option; its value is None where it is not given."""
    name = flag_name(field.name)
    kind: Any = bool if isinstance(field.default, bool) else str
    if field.default is True:
        name = f"{name}/{flag_name('no_' + field.name)}"
    option = typer.Option(
        name,
        help=field.metadata["help"],
        metavar=field.metadata["metavar"],
        show_default=_shown_default(field.default),
        rich_help_panel=field.metadata["group"],
    )
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _shown_default(default: Any) -> str | bool:
    """A default as the help shows it; False where there is nothing to show."""
    if default is None or default is False or default == "":
        return False
    if default is True:
        return "on"
    if isinstance(default, tuple):
        return ",".join(f"{item:g}" for item in default)
    return str(default)


def configured(config: Path | None, given: dict[str, Any], allowed: set[str]) -> dict[str, Any]:
    """The options of a config file, overridden by those of the command line.

    Raises:
        TilerError: the file has a key that is not an option.
    """
    if config is None:
        return given
    from tiler.formats import plain_yaml

    options = {}
    for key, value in plain_yaml.load(config).items():
        name = key.replace("-", "_")
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise TilerError(f"{printable(str(config))}: unknown option {name!r}{hint}")
        if value is not None:
            options[name] = value
    return {**options, **given}
