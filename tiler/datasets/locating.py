"""The images that annotation files name, which may have been written on another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from tiler.datasets.dataset import relative
from tiler.datasets.image_files import image_size, walk
from tiler.errors import SourceRefused
from tiler.formats import manifest

Size = tuple[int, int]


class NotLocated(Exception):
    """An image that no file, or several, could be; with what was tried."""


@dataclass(frozen=True, slots=True)
class LocatedImage:
    """An image that was found: its path relative to the root, and whether that is as it is named
    in the annotations."""

    key: str
    as_named: bool


@dataclass(frozen=True)
class Locator:
    """Finds images under a folder.

    Attributes:
        root: the folder; nothing outside it is ever named.
    """

    root: Path

    def locate(self, name: str, size: Size | None = None, near: Sequence[str] = ()) -> LocatedImage:
        """The image of a name: as it is written, else by the end of its path.

        Args:
            size: declared width and height, which an image found by the end of its path must have.
            near: folders, relative to the root, that the name may start from.

        Raises:
            NotLocated: there is no such image, or several have the same right to the name.
        """
        parts = parts_of(name)
        if not parts or "\0" in name:
            raise NotLocated("it names no file")
        inside = self._inside(name)
        if inside is not None and self._is_there(inside):
            return LocatedImage(inside, as_named=True)
        if ".." not in parts:
            for folder in dict.fromkeys(("", *near)):
                key = _joined(folder, parts)
                if self._is_there(key):
                    plain = "\\" not in name and not _is_absolute(name)
                    return LocatedImage(key, as_named=plain)
        return self._by_tail(name, parts, size)

    def by_stem(self, stem: str, near: Sequence[str] = ("",)) -> LocatedImage:
        """The image whose name without suffix is `stem`, in the first of some folders that has one,
        else anywhere.

        Raises:
            NotLocated: there is none, or several.
        """
        keys = self._by_stem.get(stem, [])
        for folder in near:
            inside = [key for key in keys if os.path.dirname(key) == folder]
            if inside:
                keys = inside
                break
        if not keys:
            raise NotLocated(f"no image {stem}.* in {self.root}")
        if len(keys) > 1:
            raise NotLocated(f"several images could be {stem}: {_listed(keys)}")
        return LocatedImage(keys[0], as_named=False)

    def _inside(self, name: str) -> str | None:
        """A full path that lies under the root, relative to it."""
        if not os.path.isabs(name):
            return None
        for root in {str(self.root), os.path.realpath(self.root)}:
            path = os.path.normpath(name)
            if path.startswith(root + os.sep):
                return relative(path, Path(root))
        return None

    def _is_there(self, key: str) -> bool:
        return os.path.lexists(os.path.join(self.root, key))

    def _by_tail(self, name: str, parts: list[str], size: Size | None) -> LocatedImage:
        """The one image that has the longest end of the path in common with the name."""
        candidates = self._by_name.get(parts[-1].casefold(), [])
        ends = [_common_end(self._full_parts(key), parts) for key in candidates]
        longest = max(ends, default=0)
        keys = [key for key, end in zip(candidates, ends, strict=True) if end == longest]
        if not keys:
            raise NotLocated(f"no such image in {self.root}, nor any {parts[-1]} in its folders")
        if len(keys) > 1:
            raise NotLocated(f"several images could be {name}: {_listed(keys)}")
        key = keys[0]
        if size is not None:
            self._require_size(key, size)
        return LocatedImage(key, as_named=False)

    def _require_size(self, key: str, size: Size) -> None:
        try:
            found = image_size(os.path.join(self.root, key))
        except SourceRefused:
            return  # reported when it is cut
        if found not in (size, size[::-1]):  # the size may be that of the stored image
            message = f"{key} has {found[0]} x {found[1]} px, not {size[0]} x {size[1]}"
            raise NotLocated(f"the only image of its name, {message}")

    def _full_parts(self, key: str) -> list[str]:
        return [*self.root.parts, *PurePosixPath(key).parts]

    @cached_property
    def keys(self) -> list[str]:
        """Every image under the root."""
        return sorted(
            relative(path, self.root)
            for path, _ in walk(self.root, [], self.root, without=manifest.NAME)
        )

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped(self.keys, lambda key: os.path.basename(key).casefold())

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped(self.keys, lambda key: os.path.splitext(os.path.basename(key))[0])


def parts_of(name: str) -> list[str]:
    r"""The parts of a path, of Windows or not, without a drive.

    >>> parts_of(r"D:\data\images\a.png"), parts_of("./deep//a.png")
    (['data', 'images', 'a.png'], ['deep', 'a.png'])
    """
    path = re.sub(r"^[A-Za-z]:", "", name).replace("\\", "/")
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return parts


def _is_absolute(name: str) -> bool:
    return os.path.isabs(name) or re.match(r"[A-Za-z]:[\\/]", name) is not None


def _joined(folder: str, parts: list[str]) -> str:
    return "/".join([*(part for part in folder.split("/") if part), *parts])


def _common_end(path: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts of two paths are the same, whatever their case.

    >>> _common_end(["data", "a", "x.jpg"], ["b", "a", "X.jpg"])
    2
    """
    count = 0
    for one, two in zip(reversed(path), reversed(other), strict=False):
        if one.casefold() != two.casefold():
            break
        count += 1
    return count


def _grouped(keys: Iterable[str], group_of: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(group_of(key), []).append(key)
    return groups


def _listed(keys: Sequence[str]) -> str:
    names = ", ".join(keys[:3])
    if len(keys) > 3:
        names += f" and {len(keys) - 3} more"
    return names
