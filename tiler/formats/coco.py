"""COCO instances JSON: boxes, polygons, masks, keypoints, crowds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tiler.errors import TilerError, did_you_mean
from tiler.findings import Finding, condensed, short
from tiler.formats import coco_values
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
        width = coco_values.side(self.width)
        height = coco_values.side(self.height)
        if width is None or height is None:
            return None
        return width, height


class Category(msgspec.Struct):
    """One category as it stands in the file."""

    id: Any = None
    name: Any = None
    keypoints: Any = None
    supercategory: Any = None


class _CocoContent(msgspec.Struct):
    images: list[CocoImage]
    annotations: list[Annotation]
    categories: list[Category]


class _KeyedContent(msgspec.Struct):
    """Annotations of which only the keys are of interest."""

    annotations: list[dict[str, msgspec.Raw]]
    images: msgspec.Raw = msgspec.Raw()
    categories: msgspec.Raw = msgspec.Raw()


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


def read(file: Path, label: str = "", corners: bool = False) -> CocoFile:
    """Read a COCO instances JSON.

    Args:
        label: what the file is called in findings; its name by default.
        corners: whether bbox holds two corners, x and y each, in place of x, y, width, height.

    Raises:
        TilerError: not JSON, or not COCO instances.
    """
    label = label or file.name
    content, findings = decoded(file, _CocoContent, label)
    annotations = content.annotations
    require_keys(annotations, file)
    classes, names = classes_of(content.categories, file)
    _prepare(annotations, classes, corners)
    by_id, invalid = _images(content.images, label)
    findings += invalid
    findings += _assign(annotations, by_id, label)
    kpt_shape = kpt_shape_of(content.categories, annotations)
    findings += unused_keypoints(annotations, kpt_shape, label)
    findings += other_forms(sum(map(_in_other_form, annotations)), label)
    return CocoFile(
        ids=tuple(classes),
        names=names,
        parents=_parents(content.categories),
        images=list(by_id.values()),
        kpt_shape=kpt_shape,
        findings=condensed(findings),
    )


def _in_other_form(annotation: Annotation) -> bool:
    given = annotation.given
    return given is not None and given is not annotation.segmentation


def _parents(categories: Sequence[Category]) -> frozenset[str]:
    """Names that are the supercategory of another category."""
    parents = set()
    for category in categories:
        if isinstance(category.supercategory, str) and category.supercategory != category.name:
            parents.add(category.supercategory)
    return frozenset(parents)


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
    shared: set[int | str] = set()
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
        elif name in names:
            message = f"{what}: {name} is listed twice; the first entry counts"
            findings.append(Finding(label, "P05", message))
        elif id in by_id:
            shared.add(id)
            message = f"{what}: {name} has the id of {by_id[id].file_name}; neither is used"
            findings.append(Finding(label, "I01", message))
        else:
            by_id[id] = AnnotatedImage(name, image.size, file=label, id=image.id)
            names.add(name)
    for id in shared:
        del by_id[id]
    return by_id, findings + _other_names(images, label)


def _other_names(images: Sequence[CocoImage], label: str) -> list[Finding]:
    """A note about images that have a filename in place of file_name."""
    others = [image for image in images if image.file_name is None and image.filename is not None]
    if not others:
        return []
    message = f"takes filename for file_name in {len(others)} of {len(images)} images"
    return [Finding(label, "Y07", message)]


def _prepare(
    annotations: Sequence[Annotation], classes: Mapping[int | str, int], corners: bool
) -> None:
    """Give annotations what the file has no say in: their place, their class and our marks."""
    for index, annotation in enumerate(annotations):
        annotation.index = index
        annotation.line = None
        annotation.difficult = False
        annotation.kind = "annotation"
        annotation.class_id = _class_of(annotation.category_id, classes)
        if corners and annotation.boxed:
            annotation.bbox = _of_corners(annotation.bbox)


def _of_corners(bbox: Any) -> Any:
    """x, y, width and height of two corners; what is invalid stays, and is reported when used."""
    try:
        left, top, right, bottom = coco_values.xywh(bbox).tolist()
    except coco_values.InvalidAnnotation:
        return bbox
    return [left, top, right - left, bottom - top]


def _assign(
    annotations: Sequence[Annotation], images: Mapping[int | str, AnnotatedImage], label: str
) -> list[Finding]:
    """Give each image its annotations; report annotations without an image."""
    by_name = {image.file_name: image for image in images.values()}
    known = some_ids(images)
    findings: list[Finding] = []
    named = 0
    lost = 0
    for annotation in annotations:
        id = as_id(annotation.image_id)
        owner = None if id is None else images.get(id)
        if owner is None and isinstance(id, str):
            owner = by_name.get(id)
            named += owner is not None
        if owner is None:
            lost += 1
            message = f"{annotation.name}: no image has image_id {short(annotation.image_id)}"
            findings.append(Finding(label, "L03", message + known))
        else:
            owner.annotations.append(annotation)
    if named:
        message = f"image_id is the file_name of an image in {named} annotations"
        findings.append(Finding(label, "Y07", message))
    if lost:
        _doubt(images.values(), lost)
    return findings


def some_ids(ids: Iterable[int | str]) -> str:
    """The first ids, as the end of a message about one that is not among them.

    >>> some_ids([1, "b", 3, 4]), some_ids([])
    ("; ids of images are 1, 'b', 3, ...", '; there are no images')
    """
    known = list(ids)
    if not known:
        return "; there are no images"
    examples = ", ".join(short(id) for id in known[:3])
    if len(known) > 3:
        examples += ", ..."
    return f"; ids of images are {examples}"


def other_forms(count: int, label: str) -> list[Finding]:
    """A note about outlines that are written in another way than COCO's."""
    if not count:
        return []
    message = f"segmentation holds points as pairs, or is text, in {count} annotations"
    return [Finding(label, "Y07", message)]


def unused_keypoints(
    annotations: Sequence[Annotation], kpt_shape: tuple[int, int] | None, label: str
) -> list[Finding]:
    """A warning about the keypoints of a minority."""
    if kpt_shape is not None:
        return []
    posed = sum(map(_any_labelled, _with_keypoints(annotations)))
    if not posed:
        return []
    message = f"keypoints of {posed} of {len(annotations)} annotations are left out"
    return [Finding(label, "L16", message)]


def require_keys(annotations: Sequence[Annotation], file: Path) -> None:
    """Stop if a key that COCO needs is in no annotation.

    Raises:
        TilerError: it names the keys that were found.
    """
    if not annotations:
        return
    missing = [key for key in ("image_id", "category_id") if not _any_has(annotations, key)]
    if not any(annotation.boxed or annotation.outlined for annotation in annotations):
        missing.append("bbox")
    if not missing:
        return
    content, _ = decoded(file, _KeyedContent, file.name)
    found = list(dict.fromkeys(chain.from_iterable(content.annotations)))
    for key in missing:
        if key not in found:
            names = ", ".join(short(name) for name in found[:12])
            hint = did_you_mean(key, found)
            raise TilerError(f"{file}: no annotation has {key}; their keys are {names}{hint}")


def _any_has(annotations: Sequence[Annotation], key: str) -> bool:
    return any(getattr(annotation, key) is not None for annotation in annotations)


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
    categories: Sequence[Category], annotations: Sequence[Annotation], least: float = 0.5
) -> tuple[int, int] | None:
    """Number of keypoints and of values each, as the categories or else the annotations say; None
    if less than `least` of the annotations have any, or all of these are at 0, 0.
    """
    lists = _with_keypoints(annotations)
    if len(lists) < least * len(annotations) or not any(map(_any_labelled, lists)):
        return None
    counts = [len(c.keypoints) for c in categories if isinstance(c.keypoints, list)]
    if not any(counts):
        counts = [len(values) // 3 for values in lists]
    if max(counts) == 0:
        return None
    return max(counts), 3


def _with_keypoints(annotations: Iterable[Annotation]) -> list[list[Any]]:
    """Their keypoints, where they have a list of some."""
    return [a.keypoints for a in annotations if isinstance(a.keypoints, list) and a.keypoints]


def _any_labelled(keypoints: list[Any]) -> bool:
    return any(coco_values.number(value) != 0 for value in keypoints)
