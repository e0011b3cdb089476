"""What an ONNX file says about itself in words, which may be anything."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiler.errors import TilerError
from tiler.findings import short

LONGEST = 2**20  # characters of a literal that is read
MOST_NAMES = 100_000


@dataclass(frozen=True, slots=True)
class Metadata:
    """The words of Ultralytics and YOLOv5; None for those that are not there.

    Attributes:
        task: detect, segment, obb, pose, or another one.
        head: the name of the network's last layer.
        names: of the classes.
        size: width and height of the input, px.
        kpt_shape: of pose: keypoints, and numbers of each.
        stride: px of the input's sides are multiples of it.
        ends: duplicates are dropped inside, or do not occur; None if it does not say.
    """

    task: str | None = None
    head: str | None = None
    names: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    kpt_shape: tuple[int, int] | None = None
    stride: int | None = None
    ends: bool | None = None

    @classmethod
    def of(cls, words: Mapping[str, str], path: str) -> Metadata:
        """From the words as they are.

        Raises:
            TilerError: one has no meaning.

        >>> Metadata.of({"task": "pose", "kpt_shape": "[17, 3]", "imgsz": "[480, 640]"}, "a").size
        (640, 480)
        """
        where = f"{path}: its metadata"
        size = _numbers(words, "imgsz", where)
        kpt_shape = _numbers(words, "kpt_shape", where)
        if size is not None:
            size = (size[1], size[0])
        return cls(
            task=words.get("task"),
            head=words.get("head"),
            names=_names(words, where),
            size=size,
            kpt_shape=kpt_shape,
            stride=_stride(words, where),
            ends=_ends(words, where),
        )


def _literal(words: Mapping[str, str], name: str, where: str) -> Any:
    """The Python literal that a word is; None if there is none."""
    text = words.get(name)
    if text is None:
        return None
    if len(text) > LONGEST:
        raise TilerError(f"{where}: {name} has {len(text)} characters, at most {LONGEST} are read")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise TilerError(
            f"{where}: expected numbers or names as {name}, got {short(text)}"
        ) from None


def _names(words: Mapping[str, str], where: str) -> tuple[str, ...] | None:
    given = _literal(words, "names", where)
    if given is None:
        return None
    if isinstance(given, list | tuple):
        given = dict(enumerate(given))
    if not isinstance(given, dict) or not 0 < len(given) <= MOST_NAMES:
        raise TilerError(f"{where}: expected names of classes, got {short(words['names'])}")
    if set(given) != set(range(len(given))):
        raise TilerError(
            f"{where}: expected names of classes 0, 1, ..., got {short(sorted(map(str, given)))}"
        )
    return tuple(str(given[number]) for number in range(len(given)))


def _numbers(words: Mapping[str, str], name: str, where: str) -> tuple[int, int] | None:
    """Two whole numbers above 0; one stands for both."""
    given = _literal(words, name, where)
    if given is None:
        return None
    if isinstance(given, int):
        given = (given, given)
    is_pair = isinstance(given, list | tuple) and len(given) == 2
    if not is_pair or not all(_is_count(number) for number in given):
        raise TilerError(f"{where}: expected two whole numbers as {name}, got {short(words[name])}")
    return int(given[0]), int(given[1])


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**20


def _stride(words: Mapping[str, str], where: str) -> int | None:
    given = _literal(words, "stride", where)
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    return given if _is_count(given) else None


def _ends(words: Mapping[str, str], where: str) -> bool | None:
    """Whether the network returns no duplicates: with NMS inside (`args`), or end to end."""
    args = _literal(words, "args", where)
    nms = None
    if isinstance(args, dict):
        nms = args.get("nms")
    end2end = words.get("end2end")
    if nms is True or end2end == "True":
        return True
    if end2end == "False":
        return False
    return None
