"""What can go wrong, in words for the person at the keyboard.

Every error of ours is a `TilerError`; its `exit_code` is what the command line ends with.
A bad record among good ones is not an error but a `Finding` (see `findings`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 4000  # characters of a message; a longer one holds a value that nobody reads to its end


def printable(text: str) -> str:
    """The text on one line and safe to show: control characters become escapes.

    Messages hold names as they are; this is done once, where a text is shown or written.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def shortened(text: str) -> str:
    """A message of a bearable length: its beginning, and its end, where advice is.

    >>> len(shortened("a" * 100_000)), shortened("short")
    (4000, 'short')
    """
    if len(text) <= LONGEST:
        return text
    end = LONGEST // 4
    return f"{text[: LONGEST - end - 5]} ... {text[-end:]}"


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode()


def amount(count: int, noun: str, nouns: str = "") -> str:
    """A number and what is counted.

    >>> amount(1, "label"), amount(2, "label"), amount(0, "class", "classes")
    ('1 label', '2 labels', '0 classes')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count} {nouns or noun + 's'}"


class TilerError(Exception):
    """Base of all errors of tiler. By itself: wrong use or unusable input; nothing was written."""

    exit_code = 2

    def __str__(self) -> str:
        return shortened(printable(super().__str__()))


class Unfinished(TilerError):
    """The work could not be finished; what is done is kept, and the same run resumes it.

    A full disk, a lost worker, too little memory, or another run that holds the output.
    """

    exit_code = 3


class SourceRefused(TilerError):
    """One source image, or its label file, cannot be used. The others are processed.

    Args:
        code: the finding's code, as in `findings.CODES`.
        message: what was found and what was expected.
        path: the file at fault, if it is not the image itself.
    """

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        super().__init__(code, message, path)
        self.code = code
        self.message = message
        self.path = path

    def __str__(self) -> str:
        return printable(self.message)


class UnknownImage(TilerError, KeyError):
    """A result has no image of this name, or several."""

    def __str__(self) -> str:
        return printable(str(self.args[0]))  # without the quotes of a KeyError


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name, or nothing.

    >>> did_you_mean("tiel", ["tile", "overlap"])
    "; did you mean 'tile'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    if not close:
        return ""
    return f"; did you mean {close[0]!r}?"
