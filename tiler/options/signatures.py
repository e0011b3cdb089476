"""The options of a function as parameters, for `help`, `inspect.signature` and tab completion.

A verb takes its options as `**options`, typed for type checkers in `arguments`. People who ask at
run time are shown each of them, from the same dataclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import Field
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

from tiler.options.fields import Checked, option_fields

Verb = TypeVar("Verb", bound=Callable[..., Any])


class _TypeText(str):
    """A type as text, which a signature shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def takes(*classes: type[Checked], without: Collection[str] = ()) -> Callable[[Verb], Verb]:
    """Show the options of some classes in a function's signature, in place of `**options`; all but
    those `without` which it makes no sense.

    >>> from tiler.options import RunOptions
    >>> @takes(RunOptions)
    ... def work(place: str, *, workers: int = 2, **options: object) -> None: ...
    >>> list(signature(work).parameters)
    ['place', 'workers', 'backend', 'overwrite', 'dry_run']
    """

    def decorate(function: Verb) -> Verb:
        own = signature(function)
        parameters = {}
        for parameter in own.parameters.values():
            if parameter.kind is not Parameter.VAR_KEYWORD:
                annotation = _shown(parameter.annotation)
                parameters[parameter.name] = parameter.replace(annotation=annotation)
        for cls in classes:
            for item in option_fields(cls):
                if item.name not in without:
                    parameters.setdefault(item.name, _parameter(item))
        result = _shown(own.return_annotation)
        shown = Signature(list(parameters.values()), return_annotation=result)
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return decorate


def _shown(annotation: Any) -> Any:
    """An annotation to be shown without quotes; of `self` there is none."""
    if annotation is Parameter.empty:
        return annotation
    return _TypeText(annotation)


def _parameter(item: Field[Any]) -> Parameter:
    """An option as a parameter."""
    annotation = _TypeText(given_type(item))
    kind = Parameter.KEYWORD_ONLY
    return Parameter(item.name, kind, default=item.default, annotation=annotation)


def given_type(item: Field[Any]) -> str:
    """The type of what may be given for an option, as an annotation.

    >>> from dataclasses import fields
    >>> from tiler.options import RunOptions
    >>> [given_type(item) for item in fields(RunOptions)][2:]
    ['bool', 'bool']
    """
    return str(item.metadata["given"] or item.type)
