"""COCO instances JSON: boxes, polygons, masks, keypoints, crowds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, condensed, short
from tiler.formats.annotated import AnnotatedImage, Annotation
from tiler.formats.text_files import read_bytes, reason, without_bom

MAX_BYTES = 4_000_000_000

NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

LISTS = ("images", "annotations", "categories")
# keys of published files that are nearly COCO's
ALIASES = {"image": "images", "annotation": "annotations", "category": "categories"}

T = TypeVar("T")


class CocoImage(msgspec.Struct):
    """One image entry as it stands in the file."""

    id: Any = None
    file_name: Any = None
    width: Any = None
    height: Any = None
    filename: Any = None

    @property
    def name(self) -> Any:
        """file_name, or what some tools write in its place."""
        if self.file_name is None:
            return self.filename
        return self.file_name

    @property
    def size(self) -> tuple[int, int] | None:
        """Declared width and height; None if they are missing or are no whole numbers above 0."""
        sides = []
        for side in (self.width, self.height):
            try:
                number = float(side)
            except (TypeError, ValueError, OverflowError):
                return None
            if not 0 < number < 1e9 or number != int(number):
                return None
            sides.append(int(number))
        return sides[0], sides[1]


class Category(msgspec.Struct):
    """One category as it stands in the file."""

    id: Any = None
    name: Any = None
    keypoints: Any = None
    supercategory: Any = None


class _File(msgspec.Struct):
    images: list[CocoImage]
    annotations: list[Annotation]
    categories: list[Category]


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A COCO instances file. The geometry of the annotations is not yet checked.

    Attributes:
        ids: the id of each category, in rising order.
        names: their names: the classes.
        parents: names that are the supercategory of another category.
        images: in the order of the file, each with its annotations.
    """

    ids: tuple[int | str, ...]
    names: tuple[str, ...]
    parents: frozenset[str]
    images: list[AnnotatedImage]
    kpt_shape: tuple[int, int] | None
    findings: list[Finding]


def read(file: Path, label: str = "") -> CocoFile:
    """Read a COCO instances JSON.

    Args:
        label: what the file is called in findings; its name by default.

    Raises:
        TilerError: not JSON, or not COCO instances.
    """
    label = label or file.name
    content, findings = decoded(file, _File, label)
    classes, names = classes_of(content.categories, file)
    kpt_shape = kpt_shape_of(content.categories, content.annotations)
    by_id, invalid = _images(content.images, label)
    findings += invalid
    findings += _assign(content.annotations, by_id, classes, label)
    images = list(by_id.values())
    parents = set()
    for category in content.categories:
        if isinstance(category.supercategory, str) and category.supercategory != category.name:
            parents.add(category.supercategory)
    return CocoFile(
        tuple(classes), names, frozenset(parents), images, kpt_shape, condensed(findings)
    )


def decoded(file: Path, kind: type[T], label: str) -> tuple[T, list[Finding]]:
    """The content of a COCO instances JSON, as a type that has its three lists; and what was taken
    for one of them.

    Raises:
        TilerError: it cannot be read, is not JSON, or not COCO instances.
    """
    try:
        data = without_bom(read_bytes(file, MAX_BYTES))
    except OSError as error:
        raise TilerError(f"{file}: cannot be read: {reason(error)}") from None
    try:
        return msgspec.json.decode(data, type=kind), []
    except NOT_JSON as error:
        keys = _keys(data)
        renamed = _with_our_keys(keys)
        if renamed is None:
            raise TilerError(f"{file}: {_not_coco(keys, error)}") from None
    try:
        content = msgspec.json.decode(msgspec.json.encode(renamed), type=kind)
    except NOT_JSON as error:
        raise TilerError(f"{file}: not COCO instances JSON: {error}") from None
    others = [f"{key} for {ALIASES[key]}" for key in keys if key in ALIASES]
    return content, [Finding(label, "Y07", f"takes {', '.join(others)}")]


def _keys(data: bytes) -> dict[str, msgspec.Raw]:
    """The keys of a JSON object; none if it is something else."""
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except NOT_JSON:
        return {}


def _with_our_keys(keys: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw] | None:
    """The content under COCO's keys, if it has all lists but under other names; else None."""
    renamed = {ALIASES.get(key, key): value for key, value in keys.items()}
    same = all(key in keys for key in LISTS)
    if same or not all(key in renamed for key in LISTS) or len(renamed) < len(keys):
        return None
    return renamed


def _not_coco(keys: Mapping[str, Any], error: Exception) -> str:
    """Why a file is not COCO: the keys that it has and lacks, else the error of the decoder."""
    missing = [key for key in LISTS if key not in keys]
    if not keys or not missing:
        return f"not COCO instances JSON: {error}"
    others = [key for key in keys if key not in LISTS]
    hints = ""
    for key in missing:
        hints += did_you_mean(key, others).replace("did you", f"for {key}, did you")
    found = ", ".join(short(key) for key in list(keys)[:10])
    wanted = ", ".join(LISTS)
    return f"not COCO instances JSON: expected the keys {wanted}; found {found}{hints}"


def classes_of(
    categories: Sequence[Category], file: Path | str
) -> tuple[dict[int | str, int], tuple[str, ...]]:
    """The class index of each category id, in rising order of the ids, and the names by index.

    An id that is a number written as text is that number.

    Raises:
        TilerError: there are none, one has no id or no name, or two have the same id.

    >>> classes_of([Category(9, "bus"), Category("7", "car")], "a.json")
    ({7: 0, 9: 1}, ('car', 'bus'))
    """
    named = {}
    for category in categories:
        id = as_id(category.id)
        if id is None or not isinstance(category.name, str):
            got = f"{category.id!r}, {category.name!r}"[:80]
            raise TilerError(f"{file}: a category has an id and a name, got {got}")
        if id in named:
            raise TilerError(f"{file}: expected categories with different ids, two have {id!r}")
        named[id] = category.name
    if not named:
        raise TilerError(f"{file}: expected categories, found none")
    ids = sorted(named, key=lambda id: (isinstance(id, str), id))
    classes = {id: index for index, id in enumerate(ids)}
    return classes, tuple(named[id] for id in ids)


def as_id(value: Any) -> int | str | None:
    """An id that can be looked up: whole numbers are the same as text, or with a `.0`, as they are
    as numbers; None for what is no id.

    >>> as_id("7"), as_id(7.0), as_id("007"), as_id(None)
    (7, 7, '007', None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        number = value.strip()
        # 007 is a name, not a number
        if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", number):
            return int(number)
        return value
    if isinstance(value, int):
        return value
    return None


def _images(
    images: Sequence[CocoImage], label: str
) -> tuple[dict[int | str, AnnotatedImage], list[Finding]]:
    """Images that can be found and named, by their id and in the order of the file."""
    by_id: dict[int | str, AnnotatedImage] = {}
    names: set[str] = set()
    findings: list[Finding] = []
    for image in images:
        name = image.name
        id = as_id(image.id)
        what = f"image {short(image.id)}"
        if not isinstance(name, str) or not name or "\0" in name:
            findings.append(Finding(label, "I01", f"{what}: file_name is {short(name)}"))
        elif id is None:
            message = f"{what}: {name} has no id that annotations could refer to"
            findings.append(Finding(label, "I01", message))
        elif id in by_id or name in names:
            message = f"{what}: {name} is listed twice; the first entry counts"
            findings.append(Finding(label, "P05", message))
        else:
            by_id[id] = AnnotatedImage(name, image.size, file=label, id=image.id)
            names.add(name)
    return by_id, findings


def _assign(
    annotations: Sequence[Annotation],
    images: Mapping[int | str, AnnotatedImage],
    classes: Mapping[int | str, int],
    label: str,
) -> list[Finding]:
    """Give each annotation its place in the file and its class, and each image its annotations;
    report annotations without an image.
    """
    by_name = {image.file_name: image for image in images.values()}
    findings: list[Finding] = []
    named = 0
    lost = 0
    for index, annotation in enumerate(annotations):
        annotation.index = index
        annotation.line = None
        annotation.class_id = _class_of(annotation.category_id, classes)
        id = as_id(annotation.image_id)
        owner = None if id is None else images.get(id)
        if owner is None and isinstance(id, str):
            owner = by_name.get(id)
            named += owner is not None
        if owner is None:
            lost += 1
            message = f"{annotation.name}: no image has image_id {short(annotation.image_id)}"
            findings.append(Finding(label, "L03", message))
        else:
            owner.annotations.append(annotation)
    if named:
        message = f"image_id is the file_name of an image in {named} annotations"
        findings.append(Finding(label, "Y07", message))
    if lost:
        _doubt(images.values(), lost)
    return findings


def _class_of(category: Any, classes: Mapping[int | str, int]) -> int:
    id = as_id(category)
    if id is None:
        return -1
    return classes.get(id, -1)


def _doubt(images: Iterable[AnnotatedImage], lost: int) -> None:
    """Annotations without an image may be those of an image without annotations."""
    for image in images:
        image.doubt = f"has no annotations, while {lost} annotations fit no image"


def kpt_shape_of(
    categories: Sequence[Category], annotations: Sequence[Annotation]
) -> tuple[int, int] | None:
    """Number of keypoints and of values each, as the categories or else the annotations say; None
    if most annotations have none.
    """
    lists = [a.keypoints for a in annotations if isinstance(a.keypoints, list) and a.keypoints]
    if not lists or 2 * len(lists) < len(annotations):
        return None
    counts = [len(c.keypoints) for c in categories if isinstance(c.keypoints, list)]
    if not any(counts):
        counts = [len(values) // 3 for values in lists]
    if max(counts) == 0:
        return None
    return max(counts), 3
