"""Untrusted YAML: plain values only, of a limited size, and every scalar as it was written.

Scalars stay text, so that a class named `yes`, `no` or `1` keeps its name; code that needs a number
converts it and can say what was found. No tag builds an object.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tiler.errors import TilerError
from tiler.formats.text_files import read_text

MAX_BYTES = 5_000_000
MAX_DEPTH = 32
MAX_ALIASES = 64
MAX_MERGED = 100_000  # entries that merge keys add
NULL = "tag:yaml.org,2002:null"
MERGE = "tag:yaml.org,2002:merge"


class _Rejected(Exception):
    pass


class PlainLoader(yaml.SafeLoader):
    """SafeLoader with limits; only nulls and merge keys are resolved, the rest is text."""

    depth = 0
    aliases = 0
    merged = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise _Rejected(f"more than {MAX_ALIASES} aliases")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Rejected(f"nested more than {MAX_DEPTH} deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def flatten_mapping(self, node: Any) -> None:
        before = sum(key.tag != MERGE for key, _ in node.value)
        super().flatten_mapping(node)
        self.merged += len(node.value) - before
        if self.merged > MAX_MERGED:
            raise _Rejected(f"merge keys that make more than {MAX_MERGED} entries")

    def as_text(self, node: Any) -> str:
        return str(self.construct_scalar(node))


def _resolvers() -> dict[Any, list[Any]]:
    """SafeLoader's resolvers of nulls and merge keys, by the first character of a scalar."""
    kept = {}
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items():
        kept[first] = [resolver for resolver in resolvers if resolver[0] in (NULL, MERGE)]
    return kept


def _constructors() -> dict[Any, Any]:
    """SafeLoader's constructors of plain values; the one without tag raises."""
    kept = {}
    for tag, construct in yaml.SafeLoader.yaml_constructors.items():
        if tag is None or tag.rpartition(":")[2] in ("null", "str", "seq", "map"):
            kept[tag] = construct
    return kept


PlainLoader.yaml_implicit_resolvers = _resolvers()
PlainLoader.yaml_constructors = _constructors()
for _name in ("bool", "int", "float", "timestamp"):
    PlainLoader.add_constructor(f"tag:yaml.org,2002:{_name}", PlainLoader.as_text)


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, its keys and scalars as text.

    Raises:
        TilerError: what is wrong, in one line, with the number of the line if it is known.
    """
    text = read_text(path, limit=MAX_BYTES)
    try:
        value = yaml.load(text, Loader=PlainLoader)  # noqa: S506 (a SafeLoader)
    except _Rejected as error:
        raise TilerError(f"{path}: {error}; rejected") from None
    except yaml.constructor.ConstructorError as error:
        problem = error.problem or "not plain YAML"
        raise TilerError(f"{path}{_line(error)}: {problem}; rejected") from None
    except yaml.YAMLError as error:
        why = getattr(error, "problem", None) or getattr(error, "reason", None)
        problem = why or "cannot be parsed"
        raise TilerError(f"{path}{_line(error)}: not YAML: {problem}") from None
    except (RecursionError, ValueError, TypeError) as error:
        # unhashable keys, characters out of range
        raise TilerError(f"{path}: not plain YAML: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise TilerError(f"{path}: expected keys and values, found {found}")
    return {str(key): item for key, item in value.items()}


def _line(error: yaml.YAMLError) -> str:
    """`:17` for an error whose line is known."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ""
    return f":{mark.line + 1}"


class _Dumper(yaml.SafeDumper):
    """SafeDumper that keeps the line ends in a text; YAML knows five kinds of them."""

    def text(self, value: str) -> yaml.ScalarNode:
        several_lines = any(end in value for end in "\n\r\x85\u2028\u2029")
        style = '"' if several_lines else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _Dumper.text)


def dump(value: dict[str, Any]) -> str:
    """YAML text of plain values, keys in the order given, non-ASCII as it is."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000))
