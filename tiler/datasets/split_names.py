"""Which split a folder or a file is named after."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
ANY = "|".join(SPLIT_NAMES)
IN_FILE = re.compile(rf"(?<![a-z])({ANY})(?![a-z])")
FOLDER = re.compile(rf"({ANY})[0-9]*")


def split_of_file(name: str) -> str | None:
    """The split that a file is named after; None if it is none, or several.

    >>> split_of_file("instances_val2017.json"), split_of_file("trainer.json")
    ('val', None)
    """
    splits = {SPLIT_NAMES[word] for word in IN_FILE.findall(name.lower())}
    if len(splits) != 1:
        return None
    return splits.pop()


def split_of_folder(path: str) -> str | None:
    """The split that a folder or one around it is named after; the innermost one counts.

    >>> split_of_folder("data/valid/images"), split_of_folder("data/test_bench")
    ('val', None)
    """
    for part in reversed(PurePosixPath(path).parts):
        named = FOLDER.fullmatch(part.lower())
        if named is not None:
            return SPLIT_NAMES[named[1]]
    return None


def folders_of(split: str, stem: str) -> list[str]:
    """Folders that may hold the images of a file such as instances_train2017.json.

    >>> folders_of("train", "instances_train2017")
    ['train2017', 'images/train2017', 'train', 'images/train', 'training', 'images/training']
    """
    words = [name for name, meant in SPLIT_NAMES.items() if meant == split]
    longest_first = "|".join(sorted(words, key=len, reverse=True))
    numbered = re.findall(rf"(?:{longest_first})[0-9]*", stem.lower())
    folders = []
    for word in (*numbered, *words):
        folders += [word, f"images/{word}"]
    return list(dict.fromkeys(folders))
